//! What a fresh system holds: the world's countries, time zones and numbering, languages, currencies, features, services,
//! terminal models; and what the demo adds.
//!
//! The rows are in `data/seed.json`, in the form that [`crate::import`] reads; what follows from them is made by the rules.

use crate::define::{Level, Password, SecretHasher, Table, Translated};
use crate::draft::{Change, Draft, Env};
use crate::entities::{
    Administrator, ApplicationServerSet, ApplicationServerSetsRelBrand, Brand, Company, CompanyKind, Country,
    Extension, ExtensionRouteType, Feature, FeaturesRelBrand, FeaturesRelCompany, MediaRelaySet,
    MediaRelaySetsRelBrand, PublicEntity, TABLES, Terminal, Timezone, TransformationRuleSet, User,
};
use crate::id::Id;
use crate::import::import;
use crate::rows::Rows;
use crate::rules::Refusal;
use serde_json::Value as Json;

/// The name of the platform's first administrator.
pub const FIRST_ADMINISTRATOR: &str = "admin";
/// The password of everybody in the demo who logs in at the API.
pub const DEMO_PASSWORD: &str = "changeme";
/// The SIP domain of the demo's client.
pub const DEMO_DOMAIN: &str = "users.democlient.com";

/// The rows of a fresh system, and the changes that lead to them from nothing. `password` becomes that of the first
/// administrator; `demo` adds DemoBrand with DemoCompany, Alice and Bob, whose telephones have their names as passwords.
///
/// # Errors
///
/// Only when the rows that the program brings break its own rules.
pub fn fresh(password: &str, demo: bool, env: &Env<'_>) -> Result<(Rows, Vec<Change>), Refusal> {
    let broken =
        |text: String| Refusal::Coded { status: 500, message: format!("the program's own rows: {text}") };
    let document: Json =
        serde_json::from_str(include_str!("../data/seed.json")).map_err(|error| broken(error.to_string()))?;
    let (rows, ..) = import(&document, &Rows::default(), true, env.now, env.hasher).map_err(|mistakes| {
        broken(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let mut draft = Draft::new(&rows, env);
    make_rules(&mut draft)?;
    make_kinds(&mut draft)?;
    draft.create(Administrator {
        username: FIRST_ADMINISTRATOR.to_owned(),
        pass: Password::from_hash(env.hasher.hash(password)),
        name: Some(FIRST_ADMINISTRATOR.to_owned()),
        active: true,
        can_impersonate: true,
        ..Administrator::default()
    })?;
    if demo {
        add_demo(&mut draft, env.hasher)?;
    }
    let (rows, _) = draft.finish()?;
    let changes = crate::import::differences(&Rows::default(), &rows);
    Ok((rows, changes))
}

/// The transformations of every country's numbers.
fn make_rules(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let sets: Vec<Id<TransformationRuleSet>> = draft
        .rows()
        .each::<TransformationRuleSet>()
        .filter(|set| set.country.is_some())
        .map(|set| set.id)
        .collect();
    for set in sets {
        draft.change(set, |set| set.generate_rules = Some(true))?;
    }
    Ok(())
}

/// A kind of rows to be granted to restricted administrators, wherever a level asks for a grant.
fn make_kinds(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    for table in TABLES.iter() {
        let asks = |level| table.access(level).is_some_and(|access| access.acl);
        let [platform, brand, client] = [Level::Platform, Level::Brand, Level::Client].map(asks);
        if !(platform || brand || client) {
            continue;
        }
        let known = draft.rows().each::<PublicEntity>().find(|kind| kind.means(&table.full_name()));
        if let Some(known) = known.map(|kind| kind.id) {
            draft.change(known, |kind| {
                kind.platform |= platform;
                kind.brand |= brand;
                kind.client |= client;
            })?;
            continue;
        }
        let iden = in_capitals(table);
        draft.create(PublicEntity {
            fqdn: Some(PublicEntity::long_name(table)),
            name: Translated::same(&iden),
            iden,
            platform,
            brand,
            client,
            ..PublicEntity::default()
        })?;
    }
    Ok(())
}

/// `BannedAddresses` of the path `banned_addresses`.
fn in_capitals(table: &Table) -> String {
    let words = table.path.split('_').map(|word| {
        let (first, rest) = word.split_at_checked(1).unwrap_or_default();
        first.to_ascii_uppercase() + rest
    });
    words.collect()
}

fn first<E: crate::define::Entity>(rows: &Rows, fits: impl Fn(&E) -> bool, what: &str) -> Result<E, Refusal> {
    let found = rows.each::<E>().find(|row| fits(row)).cloned();
    found.ok_or_else(|| Refusal::Coded { status: 500, message: format!("there is no {what}") })
}

fn add_demo(draft: &mut Draft<'_>, hasher: &dyn SecretHasher) -> Result<(), Refusal> {
    let country: Country = first(draft.rows(), |row: &Country| row.code == "ES", "country ES")?;
    let zone: Timezone = first(draft.rows(), |row: &Timezone| row.tz == "Europe/Madrid", "time zone")?;
    let numbering: TransformationRuleSet = first(
        draft.rows(),
        |row: &TransformationRuleSet| row.country == Some(country.id),
        "numbering of Spain",
    )?;
    let brand = draft.create(Brand {
        name: "DemoBrand".to_owned(),
        default_timezone: zone.id,
        language: Id::new(1),
        currency: Id::new(1),
        ..Brand::default()
    })?;
    draft.create(ApplicationServerSetsRelBrand {
        brand,
        application_server_set: Id::<ApplicationServerSet>::new(0),
        ..ApplicationServerSetsRelBrand::default()
    })?;
    draft.create(MediaRelaySetsRelBrand {
        brand,
        media_relay_set: Id::<MediaRelaySet>::new(0),
        ..MediaRelaySetsRelBrand::default()
    })?;
    let features: Vec<Id<Feature>> = draft.rows().each::<Feature>().map(|feature| feature.id).collect();
    for feature in features.iter().copied() {
        let iden = draft.get(feature).map(|feature| feature.iden.clone()).unwrap_or_default();
        if !matches!(iden.as_str(), "residential" | "retail") {
            draft.create(FeaturesRelBrand { brand, feature, ..FeaturesRelBrand::default() })?;
        }
    }
    let company = draft.create(Company {
        brand,
        name: "DemoCompany".to_owned(),
        kind: CompanyKind::Vpbx,
        domain_users: Some(DEMO_DOMAIN.to_owned()),
        country: country.id,
        transformation_rule_set: Some(numbering.id),
        ..Company::default()
    })?;
    for feature in features {
        let iden = draft.get(feature).map(|feature| feature.iden.clone()).unwrap_or_default();
        if matches!(iden.as_str(), "queues" | "recordings" | "faxes" | "friends" | "conferences") {
            draft.create(FeaturesRelCompany { company, feature, ..FeaturesRelCompany::default() })?;
        }
    }
    for (first_name, last_name, number) in [("Alice", "Allison", "101"), ("Bob", "Bobson", "102")] {
        let pass = Password::from_hash(hasher.hash(DEMO_PASSWORD));
        add_user(draft, company, (first_name, last_name), pass, number)?;
    }
    Ok(())
}

fn add_user(
    draft: &mut Draft<'_>,
    company: Id<Company>,
    (first_name, last_name): (&str, &str),
    pass: Password,
    number: &str,
) -> Result<(), Refusal> {
    let terminal = draft.create(Terminal {
        company,
        name: first_name.to_lowercase(),
        // Made known to everybody below, which no rule allows.
        password: "ABCabc123+".into(),
        ..Terminal::default()
    })?;
    let mut known = draft.get(terminal).ok_or(Refusal::Gone)?.clone();
    known.password = first_name.to_lowercase().as_str().into();
    draft.put(Box::new(known))?;
    let extension = draft.create(Extension { company, number: number.to_owned(), ..Extension::default() })?;
    let user = draft.create(User {
        company,
        name: first_name.to_owned(),
        lastname: last_name.to_owned(),
        email: Some(format!("{}@democompany.com", first_name.to_lowercase())),
        pass,
        active: true,
        terminal: Some(terminal),
        extension: Some(extension),
        ..User::default()
    })?;
    draft.change(extension, |extension| {
        extension.route_type = Some(ExtensionRouteType::User);
        extension.user = Some(user);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entities::{Domain, RoutingPattern, TransformationRule};
    use crate::snapshot::Snapshot;
    use crate::testing::{PlainHasher, now};

    fn made(demo: bool) -> Rows {
        let random = || 4;
        let env = Env { now: now(), level: None, hasher: &PlainHasher, random: &random, is_over: &|| false };
        fresh("hush", demo, &env).unwrap().0
    }

    #[test]
    fn a_fresh_system_knows_the_world_and_one_administrator() {
        let rows = made(false);
        assert_eq!(rows.each::<Country>().count(), 250);
        assert_eq!(rows.each::<Brand>().count(), 0);
        assert!(rows.each::<TransformationRule>().count() > 2000);
        let admins: Vec<_> = rows.each::<Administrator>().map(|admin| admin.pass.hash().to_owned()).collect();
        assert_eq!(admins, ["hash of hush"]);
    }

    /// Whether a kind of rows can be granted at a level.
    type Counts = fn(&PublicEntity) -> bool;

    #[test]
    fn zones_that_need_no_comment_have_none_and_numbers_without_plus_get_one() {
        let rows = made(false);
        let (with, without): (Vec<_>, Vec<_>) =
            rows.each::<Timezone>().map(|zone| zone.comment.as_deref()).partition(Option::is_some);
        assert!(without.len() == 217 && with.iter().all(|comment| *comment != Some("")), "{}", without.len());
        let set =
            first(&rows, |set: &TransformationRuleSet| set.name.en == "E.164 (w/o plus)", "set").unwrap();
        let rules = rows.of::<TransformationRule>("transformationRuleSet", set.id.get());
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let rules: Vec<_> =
            rules.map(|rule| format!("{} -> {}", text(&rule.match_expr), text(&rule.replace_expr))).collect();
        let (inward, outward) = (r"^([0-9]+)$ -> +\1", r"^\+([0-9]+)$ -> \1");
        assert_eq!(rules, [inward, inward, outward, outward]);
    }

    #[test]
    fn whatever_a_level_asks_a_grant_for_can_be_granted_there() {
        let rows = made(false);
        let mut asked = 0;
        for table in TABLES.iter() {
            let flags: [(Level, Counts); 3] = [
                (Level::Platform, |kind| kind.platform),
                (Level::Brand, |kind| kind.brand),
                (Level::Client, |kind| kind.client),
            ];
            for (level, counts) in flags {
                if table.access(level).is_some_and(|access| access.acl) {
                    asked += 1;
                    let mut kinds = rows.each::<PublicEntity>().filter(|kind| kind.means(&table.full_name()));
                    let kind = kinds.next().unwrap_or_else(|| panic!("{}", table.name));
                    assert!(counts(kind) && kinds.next().is_none(), "{} {level:?}", table.name);
                }
            }
        }
        assert!(asked > 150, "{asked}");
        let banned = rows.each::<PublicEntity>().find(|kind| kind.iden == "BannedAddresses").unwrap();
        assert_eq!(banned.name.en, "BannedAddresses");
    }

    #[test]
    fn the_demo_has_alice_and_bob() {
        let rows = made(true);
        let snapshot = Snapshot::new(rows.clone());
        let client = snapshot.client_by_domain(DEMO_DOMAIN).unwrap();
        let bob = snapshot.extension(client.id, "102").and_then(|extension| extension.user).unwrap();
        assert_eq!(snapshot.user(bob).unwrap().full_name(), "Bob Bobson");
        let alice = snapshot.endpoint(client.domain.unwrap(), "alice").unwrap();
        assert_eq!(alice.secret, Some("alice"));
        assert_eq!(alice.user.unwrap().extension, snapshot.extension(client.id, "101").map(|own| own.id));
        assert_eq!(rows.each::<RoutingPattern>().count(), 250, "one for each country");
        assert!(rows.each::<Domain>().any(|domain| domain.domain == DEMO_DOMAIN));
    }

    #[test]
    fn everything_in_it_passes_its_own_rules_but_the_passwords_of_the_demo() {
        let mut exported = crate::import::export(&made(true));
        let read = |document: &Json| import(document, &Rows::default(), true, now(), &PlainHasher);
        let mistakes = read(&exported).unwrap_err();
        let said: Vec<_> = mistakes.iter().map(|it| (it.entity.as_str(), it.field.as_str())).collect();
        assert_eq!(said, [("Provider.Terminal", "password"); 2], "{mistakes:?}");
        for terminal in exported["entities"]["Provider.Terminal"].as_array_mut().unwrap() {
            terminal["password"] = "ABCabc123+".into();
        }
        let (rows, ..) = read(&exported).unwrap();
        assert_eq!(crate::import::export(&rows), exported);
    }
}
