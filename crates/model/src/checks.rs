//! Checks that several entities share: addresses, names, passwords, patterns, and the fields of a chosen target.
//!
//! In: texts and rows. Out: whether they are right, in the field's own terms. Elsewhere: who asks ([`crate::entities`]).

use crate::define::{Choice, CompanyType, Entity, Field, Kind, Level, Reading, Record};
use crate::entities::{Brand, Company, Country, Currency, MatchList};
use crate::id::Id;
use crate::rows::Rows;
use crate::rules::Check;
use serde_json::Value as Json;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address for mail: one local part and one domain with a dot, no blanks (RFC 5321 section 4.1.2, without quotes).
pub fn email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let local_ok = !local.is_empty()
        && local.len() <= 64
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c));
    local_ok && domain.contains('.') && host_name(domain)
}

/// A host name (RFC 1123 section 2.1).
pub fn host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && !text.is_empty() && text.split('.').all(label)
}

/// An IP address, of version 4 or 6.
pub fn ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// An IPv4 address.
pub fn ipv4(text: &str) -> bool {
    text.parse::<Ipv4Addr>().is_ok()
}

/// An IPv6 address, without brackets.
pub fn ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

/// A port that something can listen on.
pub fn port(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_digit())
        && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Nothing but digits, one at least.
pub fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The code of a service: digits, `#` and `*`.
pub fn service_code(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'#' || b == b'*')
}

/// The user part of a telephone's address: letters, digits, underscore and asterisk.
pub fn sip_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'*')
}

/// Says what a telephone's password must have and has not.
pub fn sip_password_fault(text: &str) -> Option<&'static str> {
    let count = |fits: fn(u8) -> bool| text.bytes().filter(|byte| fits(*byte)).count();
    let strong = text.chars().count() >= 10
        && count(|b| b.is_ascii_uppercase()) >= 3
        && count(|b| b.is_ascii_lowercase()) >= 3
        && count(|b| b.is_ascii_digit()) >= 3
        && count(|b| b"+*_-".contains(&b)) >= 1;
    (!strong).then_some(
        "it takes 10 characters or more, with 3 capital letters, 3 small letters, 3 digits and one of + * _ -",
    )
}

/// An address of a web page with one of these schemes, a host and no blanks.
pub fn url(text: &str, schemes: &[&str]) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_port = authority.rsplit('@').next().unwrap_or_default();
    let (host, port_ok) = match host_port.rsplit_once(':') {
        Some((host, number)) if !host.ends_with(':') => (host, port(number)),
        _ => (host_port, true),
    };
    schemes.contains(&scheme)
        && port_ok
        && (host_name(host) || ip(host.trim_matches(['[', ']'])))
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// The host of an address of a web page: a name, or an IP address without brackets; empty where there is none.
fn url_host(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host_port = authority.rsplit('@').next().unwrap_or_default();
    match host_port.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host_port.split(':').next().unwrap_or_default(),
    }
}

/// Whether an address of a web page names this very host or its own network outright: `localhost`, an IP address that is
/// loopback, link-local, private, shared or none. What other names stand for is looked at by whoever connects.
pub fn url_is_inside(text: &str) -> bool {
    let host = url_host(text).trim_end_matches('.').to_ascii_lowercase();
    let is_v4_inside = |ip: Ipv4Addr| {
        let [first, second, ..] = ip.octets();
        ip.is_loopback()
            || ip.is_private()
            || ip.is_link_local()
            || ip.is_broadcast()
            || ip.is_multicast()
            || first == 0
            || (first == 100 && second & 0xc0 == 64)
    };
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => is_v4_inside(ip),
        Ok(IpAddr::V6(ip)) => {
            let mapped = ip.to_ipv4_mapped().or_else(|| ip.to_ipv4()).is_some_and(is_v4_inside);
            mapped
                || ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
        }
        // Numbers alone are an address, too, to those who connect: 2130706433, 0x7f.1, 127.1.
        Err(_) => {
            let last = host.rsplit('.').next().unwrap_or_default();
            let number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
            number || host == "localhost" || host.ends_with(".localhost")
        }
    }
}

/// A number with its country's calling code before it: what E.164 calls it.
pub fn e164(rows: &Rows, country: Option<Id<Country>>, number: &str) -> Option<String> {
    let country = rows.at(country)?;
    Some(format!("{}{number}", country.country_code.as_deref().unwrap_or_default()))
}

/// Where a row chooses one of several targets: clears the fields of all others. `targets` says which fields belong to which
/// choice; a field may belong to several.
pub fn keep_target(row: &mut dyn Record, chosen: Option<&str>, targets: &[(&str, &[&str])]) {
    let kept: &[&str] = chosen
        .and_then(|chosen| targets.iter().find(|(choice, _)| *choice == chosen))
        .map(|(_, fields)| *fields)
        .unwrap_or_default();
    for field in targets.iter().flat_map(|(_, fields)| fields.iter()) {
        if !kept.contains(field) {
            clear(row, field);
        }
    }
}

/// Makes a field null, if it can be.
pub fn clear(row: &mut dyn Record, field: &str) {
    if let Some(place) = row.table().place(field) {
        let reading = Reading::stored(jiff::Timestamp::UNIX_EPOCH);
        // A field that cannot be null keeps its value.
        let _ = row.set(place, &Json::Null, &reading);
    }
}

/// References that must name rows of the row's own client. Only those that are new or were changed are looked at.
pub fn keeps_to_company<E: Entity>(row: &E, old: Option<&E>, check: &mut Check<'_>, fields: &[&str]) {
    let company = reference(row, "company");
    new_references(row, old, check, fields, |target| target.reference("company") == company);
}

/// References that may name rows of the row's own client, of its brand, or of the whole platform.
pub fn keeps_to_brand<E: Entity>(row: &E, old: Option<&E>, check: &mut Check<'_>, fields: &[&str]) {
    let company = reference(row, "company");
    let brand = check.rows.at(company.map(Id::<Company>::new)).map(|company| company.brand.get());
    new_references(row, old, check, fields, |target| match target.reference("company") {
        Some(owner) => Some(owner) == company,
        None => target.reference("brand").is_none_or(|owner| Some(owner) == brand),
    });
}

fn reference(row: &dyn Record, field: &str) -> Option<u32> {
    row.reference(field)
}

fn new_references<E: Entity>(
    row: &E,
    old: Option<&E>,
    check: &mut Check<'_>,
    fields: &[&str],
    fits: impl Fn(&dyn Record) -> bool,
) {
    for name in fields {
        let Some(Kind::Reference(target)) = E::definition().field(name).map(|field| field.kind) else {
            continue;
        };
        let Some(id) = reference(row, name) else { continue };
        let kept = old.is_some_and(|old| reference(old, name) == Some(id));
        // A row that does not exist is refused elsewhere.
        let other = check.rows.row(target(), id).is_some_and(|target| !fits(&**target));
        if other && !kept {
            check.wrong(
                name,
                format!("{} {id} belongs to another client; choose one of this client", target().name),
            );
        }
    }
}

/// Whether a field differs from what it was; in a new row all do.
pub fn differs<E: Entity>(row: &E, old: Option<&E>, field: &str) -> bool {
    let value = |row: &dyn Record| row.named(field).stored();
    old.is_none_or(|old| value(old) != value(row))
}

/// A new row's name, or a changed one, must be there.
pub fn name_is_there<E: Entity>(row: &E, old: Option<&E>, check: &mut Check<'_>) {
    let row_name = (row as &dyn Record).named("name");
    let blank = row_name.text().is_none_or(|name| name.trim().is_empty());
    if blank && differs(row, old, "name") {
        check.wrong("name", "write a name");
    }
}

/// A new row's client must be of one of these types.
pub fn client_of_type<E: Entity>(
    old: Option<&E>,
    client: impl Into<Option<Id<Company>>>,
    types: &[CompanyType],
    check: &mut Check<'_>,
) {
    let Some(client) = check.rows.at(client.into()).filter(|_| old.is_none()) else { return };
    if !types.iter().any(|wanted| wanted.name() == client.kind.name()) {
        let wanted = types.iter().map(|wanted| wanted.name()).collect::<Vec<_>>().join(" or ");
        let kind = client.kind.name();
        check.wrong("company", format!("a {kind} client cannot have this; choose a {wanted} client"));
    }
}

/// What a row refers to belongs to the same client as the row, where it belongs to a client at all; match lists may be
/// those that the client's brand offers. A row whose references stay as they were is left alone.
pub fn within_client<E: Entity>(
    row: &E,
    old: Option<&E>,
    client: impl Into<Option<Id<Company>>>,
    check: &mut Check<'_>,
) {
    let Some(client) = client.into() else { return };
    let rows = check.rows;
    let fields = row.table().fields.iter().enumerate().skip(1);
    let references: Vec<_> = fields
        .filter_map(|(place, field)| match field.kind {
            Kind::Reference(target) if target().place("company").is_some() => {
                Some((place, field.name, target()))
            }
            _ => None,
        })
        .collect();
    if !references.iter().any(|(_, name, _)| differs(row, old, name)) {
        return;
    }
    for (place, name, table) in references {
        // Whether the row exists is looked at elsewhere.
        let Some(target) = row.get(place).id().and_then(|id| rows.row(table, id)) else { continue };
        let own = target.reference("company") == Some(client.get());
        let offered = target.cast::<MatchList>().is_some_and(|list| list.usable_by(client, rows));
        if !own && !offered {
            let (entity, id) = (table.name, target.id());
            check.wrong(name, format!("{entity} {id} is not this client's; choose one of its own"));
        }
    }
}

/// Says that the client is of a type that has no such rows, when the row is new or changes hands. The brand's operators
/// are not held to it: they prepare what a client will be.
pub fn needs_company_type(
    company: Id<Company>,
    old: Option<Id<Company>>,
    types: &[CompanyType],
    check: &mut Check<'_>,
) {
    let Some(found) = check.rows.get(company).filter(|_| check.level != Some(Level::Brand)) else { return };
    if old != Some(company) && !types.iter().any(|wanted| wanted.name() == found.kind.name()) {
        let names: Vec<&str> = types.iter().map(|wanted| wanted.name()).collect();
        let remedy = format!(
            "client {company} is of type {}; only {} clients have these",
            found.kind.name(),
            names.join(" and ")
        );
        check.wrong("company", remedy);
    }
}

/// Where a row chooses one of several targets ([`keep_target`]): clears all others. The number of a target that is an
/// external one is digits; it is the first field of the choice "number".
pub fn settle_target<E: Entity, C: Choice>(
    chosen: Option<C>,
    row: &mut E,
    old: Option<&E>,
    targets: &[(&str, &[&str])],
    check: &mut Check<'_>,
) {
    keep_target(row, chosen.map(Choice::name), targets);
    let number =
        targets.iter().find(|(choice, _)| *choice == "number").and_then(|(_, fields)| fields.first());
    let Some(number) = number.filter(|field| differs(row, old, field)) else { return };
    if (row as &dyn Record).named(number).text().is_some_and(|text| !digits(text)) {
        check.wrong(number, "write digits only, without the country's code");
    }
}

/// Whether a reference is fresh and names a row of another brand; a row without a brand is everybody's.
pub fn strays_from_brand<E: Entity>(
    row: &E,
    old: Option<&E>,
    field: &str,
    brand: Option<u32>,
    rows: &Rows,
) -> bool {
    let Some(Kind::Reference(target)) = E::definition().field(field).map(|field| field.kind) else {
        return false;
    };
    let record: &dyn Record = row;
    let named = record.reference(field).and_then(|id| rows.row(target(), id));
    let theirs = named.and_then(|named| named.reference("brand"));
    theirs.is_some() && theirs != brand && differs(row, old, field)
}

/// An address for mail, or nothing.
pub fn email_if_any(text: Option<&str>) -> bool {
    text.is_none_or(|text| text.is_empty() || email(text))
}

/// Says which of these references name rows of another brand. A row without a brand of its own counts as its client's; one
/// of no brand at all is everybody's. A row whose references are what they were is left alone.
pub fn of_same_brand<E: Entity>(
    row: &E,
    old: Option<&E>,
    brand: Id<Brand>,
    fields: &[&str],
    check: &mut Check<'_>,
) {
    let rows = check.rows;
    for target in chosen(row, old, fields, rows) {
        let company = || target.row.reference("company").and_then(|id| rows.get(Id::<Company>::new(id)));
        let owner = match target.row.table().place("brand") {
            Some(place) => target.row.get(place).id(),
            None => company().map(|company| company.brand.get()),
        };
        if owner.is_some_and(|owner| owner != brand.get()) {
            check.wrong(
                target.field,
                format!("{} is another brand's; choose one of this brand", target.name()),
            );
        }
    }
}

/// Says which of these references name rows of another client. A row whose references are what they were is left alone.
pub fn of_same_company<E: Entity>(
    row: &E,
    old: Option<&E>,
    company: Id<Company>,
    fields: &[&str],
    check: &mut Check<'_>,
) {
    for target in chosen(row, old, fields, check.rows) {
        if target.row.reference("company") != Some(company.get()) {
            check.wrong(
                target.field,
                format!("{} is another client's; choose one of this client", target.name()),
            );
        }
    }
}

/// A row that a reference names.
struct Chosen<'a> {
    field: &'a str,
    row: &'a dyn Record,
}

impl Chosen<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.row.table().name, self.row.id())
    }
}

/// The rows that these references name, if any reference of the row is new.
fn chosen<'a, E: Entity>(row: &E, old: Option<&E>, fields: &[&'a str], rows: &'a Rows) -> Vec<Chosen<'a>> {
    let references = |field: &&Field| matches!(field.kind, Kind::Reference(_));
    let row: &dyn Record = row;
    let old = old.map(|old| old as &dyn Record);
    let same = |field: &Field| old.is_some_and(|old| old.reference(field.name) == row.reference(field.name));
    if row.table().fields.iter().filter(references).all(same) {
        return Vec::new();
    }
    let target = |field: &&'a str| {
        let kind = row.table().field(field).map(|field| field.kind);
        debug_assert!(matches!(kind, Some(Kind::Reference(_))), "{field} is a reference");
        let Some(Kind::Reference(table)) = kind else { return None };
        let target = rows.row(table(), row.reference(field)?)?;
        Some(Chosen { field, row: &**target })
    };
    fields.iter().filter_map(target).collect()
}

/// The currency of a row: its own, or else its brand's.
pub fn currency(rows: &Rows, own: Option<Id<Currency>>, brand: Id<Brand>) -> Option<&Currency> {
    rows.at(own.or_else(|| rows.get(brand).map(|brand| brand.currency)))
}

/// The time zone of a client, or else of a brand; UTC where neither has a known one.
pub fn zone(rows: &Rows, company: Option<Id<Company>>, brand: Option<Id<Brand>>) -> jiff::tz::TimeZone {
    let of_company = rows.at(company).and_then(|company| company.default_timezone);
    let of_brand = || rows.at(brand).map(|brand| brand.default_timezone);
    let zone = rows.at(of_company.or_else(of_brand));
    zone.and_then(|zone| jiff::tz::TimeZone::get(&zone.tz).ok()).unwrap_or(jiff::tz::TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(check: fn(&str) -> bool, right: &[&str], wrong: &[&str]) {
        right.iter().for_each(|text| assert!(check(text), "{text}"));
        wrong.iter().for_each(|text| assert!(!check(text), "{text}"));
    }

    #[test]
    fn addresses_of_the_own_network_are_told_from_others() {
        let inside = [
            "http://localhost/",
            "https://LOCALHOST.:8443/x",
            "http://a.localhost",
            "http://127.0.0.1:9032/reset",
            "http://10.1.2.3",
            "http://172.16.0.1",
            "http://192.168.1.1/",
            "http://169.254.169.254/latest",
            "http://0.0.0.0",
            "http://100.64.0.1",
            "http://[::1]:80/",
            "http://[::]/",
            "http://[fe80::1]/",
            "http://[fd00::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://2130706433/",
            "http://127.1/",
            "http://0x7f.0.0.0x1/",
            "http://user@127.0.0.1/",
        ];
        for address in inside {
            assert!(url_is_inside(address), "{address}");
        }
        let outside = [
            "https://webhook.example.com/events",
            "http://203.0.113.9:8080/",
            "http://172.32.0.1/",
            "http://100.128.0.1/",
            "http://[2001:db8::1]/",
            "https://10.example.com/",
            "https://localhost.example.com/",
            "https://x.test/127.0.0.1",
        ];
        for address in outside {
            assert!(!url_is_inside(address), "{address}");
        }
    }

    #[test]
    fn addresses_are_told_from_other_texts() {
        all(
            email,
            &["a@b.c", "no-reply+x@example.com"],
            &["", "a", "a@", "@b.c", "a@b", "a b@c.d", "a@b..c", "a@@b.c"],
        );
        all(host_name, &["localhost", "a.b-c.example"], &["", "a..b", "-a", "a b", "a:1"]);
        all(ip, &["127.0.0.1", "2001:db8::1"], &["", "1.2.3", "1.2.3.4:5"]);
        all(port, &["1", "65535"], &["", "0", "65536", "+1", "x"]);
        let web = |text: &str| url(text, &["https", "http"]);
        all(
            web,
            &["https://a.example", "https://a.example:8443/x?y", "http://[::1]/"],
            &["", "https://", "ftp://a", "https://a b", "a.example"],
        );
    }

    #[test]
    fn names_and_passwords_of_telephones_are_checked() {
        all(sip_name, &["alice", "a_1*"], &["", "a-b", "a@b", "á"]);
        assert_eq!(sip_password_fault("ABCabc123+"), None);
        for weak in ["", "ABCabc1234", "ABab123+++", "ABCabc12+_", "Aa1+"] {
            assert!(sip_password_fault(weak).is_some(), "{weak}");
        }
    }

    /// Pairs that are made and deleted, and never changed.
    fn is_fixed_pair(refusal: Option<&crate::rules::Refusal>) -> bool {
        refusal.is_some_and(|why| why.to_string().contains("make another one"))
    }

    #[test]
    fn what_is_stored_is_not_judged_again() {
        let rows = crate::testing::sample();
        for table in crate::entities::TABLES.iter() {
            for row in rows.all(table) {
                let mut check = Check::new(&rows, crate::testing::now(), None);
                row.copy().rules().check_row(Some(&**row), &mut check);
                let judged = check.done();
                let fixed = is_fixed_pair(judged.as_ref().err());
                assert!(judged.is_ok() || fixed, "{} {}: {judged:?}", table.name, row.id());
            }
        }
    }

    #[test]
    fn rows_that_are_there_already_pass_their_rules_as_they_are() {
        let rows = crate::testing::sample();
        let routing = "Calendar CallAcl Conditional Conference ExternalCall Holiday HuntGroup Ivr Locution MatchList \
                       MusicOnHold OutgoingDdi Queue RouteLock Schedule";
        let is_routing = |name: &str| routing.split(' ').any(|start| name.starts_with(start));
        let tables = crate::entities::TABLES.iter().filter(|table| is_routing(table.name));
        let stored: Vec<_> = tables.flat_map(|table| rows.all(table)).collect();
        assert!(stored.len() > 40);
        for row in stored {
            let saved = crate::testing::change(|draft| draft.save(row.copy()));
            assert!(saved.is_ok_and(|(_, _, changes)| changes.is_empty()), "{row:?}");
        }
    }

    #[test]
    fn every_row_of_the_sample_system_can_be_saved_again() {
        let rows = crate::testing::sample();
        let mut refused = Vec::new();
        for row in crate::entities::TABLES.iter().flat_map(|table| rows.all(table)) {
            if let Err(why) = crate::testing::change(|draft| draft.save(row.copy()))
                && !is_fixed_pair(Some(&why))
            {
                refused.push(format!("{} {}: {why}", row.table().name, row.id()));
            }
        }
        assert!(refused.is_empty(), "{}", refused.join("\n"));
    }
}
