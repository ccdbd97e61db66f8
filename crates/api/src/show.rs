//! A row as answers show it: which fields, in which order, references as ids or as the rows behind them.
//!
//! In: a row and who looks. Out: JSON. Elsewhere: who may look at all (`model::scope`).

use crate::outside::{Outside, Registration, TrunkState};
use jiff::tz::TimeZone;
use model::define::{Computed, How, Kind, Level, Record, Table, Value};
use model::rows::{Row, Rows};
use model::scope::Caller;
use serde_json::{Map, Value as Json, json};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;

/// What masked values look like.
pub(crate) const MASK: &str = "*****";

/// Where a row is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a list.
    List,
    /// By itself, read.
    Detail,
    /// By itself, after a change.
    Changed,
    /// By itself, just made.
    Created,
    /// In place of a reference to it.
    Nested,
}

/// What showing takes.
pub(crate) struct Look<'a> {
    /// Who looks.
    pub(crate) caller: &'a Caller,
    /// All rows.
    pub(crate) rows: &'a Rows,
    /// Answers of the living system, asked before: by table, row and name.
    pub(crate) living: &'a HashMap<(usize, u32, &'static str), Json>,
}

impl Look<'_> {
    /// The row at this place; `expand`: rows stand in place of references.
    pub(crate) fn row(&self, row: &dyn Record, place: Place, expand: bool) -> Map<String, Json> {
        let table = row.table();
        let mut shown = Map::new();
        for at in table.shown_order() {
            let field = &table.fields[at];
            let view = self.caller.view(field);
            if !(if place == Place::List { view.list } else { view.detail }) {
                continue;
            }
            let value = row.get(at);
            let json = match field.kind {
                _ if field.masked => Json::from(MASK),
                _ if field.invoiced && !sees_invoices(self.caller, self.rows) => Json::Null,
                Kind::Reference(target) if expand => self.behind(value, target()),
                Kind::Group(_) if !field.brief.is_empty() && (view.brief || place == Place::List) => {
                    field.brief.iter().map(|part| ((*part).to_owned(), value.part(part).stored())).collect()
                }
                _ => value.shown(&self.caller.zone),
            };
            shown.insert(field.name.to_owned(), json);
        }
        for computed in table.computed {
            let view = self.caller.view_computed(computed);
            let there = match place {
                Place::List => view.list,
                Place::Detail => view.detail,
                Place::Changed => view.changed,
                Place::Created => view.created,
                Place::Nested => computed.nested[self.caller.level as usize],
            };
            if there {
                let json = match computed.how {
                    // The dialect's own: what stands behind a reference has no sets.
                    How::Pairs(..) | How::Members(..) if place == Place::Nested => {
                        if computed.name == "applicationServers" { Json::Null } else { json!([]) }
                    }
                    _ => self.computed(row, computed),
                };
                shown.insert(computed.name.to_owned(), json);
            }
        }
        shown
    }

    fn behind(&self, value: Value<'_>, target: &Table) -> Json {
        let row = value.id().and_then(|id| self.rows.row(target, id));
        row.map_or(Json::Null, |row| Json::Object(self.row(&**row, Place::Nested, false)))
    }

    /// A computed value of a row.
    pub(crate) fn computed(&self, row: &dyn Record, computed: &Computed) -> Json {
        match computed.how {
            How::Derived(derive) => derive(row, self.rows),
            How::Live(_) => {
                let key = (row.table().index, row.id(), computed.name);
                self.living.get(&key).cloned().unwrap_or_else(|| json!([]))
            }
            How::Pairs(through, mine, theirs) => {
                let ids =
                    pairs(self.rows, through(), mine, row.id()).filter_map(|pair| pair.reference(theirs));
                ids.map(Json::from).collect()
            }
            How::Members(members, field) => {
                pairs(self.rows, members(), field, row.id()).map(|member| Json::from(member.id())).collect()
            }
        }
    }
}

/// A tag of the row's state as this level sees it: another state has another tag. What the living system says of it, what is
/// behind its references and what answers mask is no part of it.
pub(crate) fn tag(rows: &Rows, row: &dyn Record, level: Level) -> String {
    let table = row.table();
    let mut digest = Sha256::new();
    let mut eat = |name: &str, value: &Json| {
        digest.update(name.as_bytes());
        digest.update([0]);
        digest.update(value.to_string().as_bytes());
        digest.update([0]);
    };
    eat(table.name, &Json::from(row.id()));
    for (place, field) in table.fields.iter().enumerate() {
        let view = field.view(level);
        let secret = field.masked || field.invoiced || matches!(field.kind, Kind::Secret | Kind::Password);
        if (view.list || view.detail) && !secret {
            eat(field.name, &row.get(place).stored());
        }
    }
    for computed in table.computed {
        let view = computed.view(level);
        if !(view.list || view.detail || view.changed || view.created) {
            continue;
        }
        let ids: Json = match computed.how {
            How::Pairs(through, mine, theirs) => {
                let pairs = pairs(rows, through(), mine, row.id());
                pairs.filter_map(|pair| pair.reference(theirs)).map(Json::from).collect()
            }
            How::Members(members, field) => {
                pairs(rows, members(), field, row.id()).map(|member| Json::from(member.id())).collect()
            }
            How::Derived(_) | How::Live(_) => continue,
        };
        eat(computed.name, &ids);
    }
    let digest = digest.finalize();
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

/// Whether the caller may see what is charged: of clients, those that see their invoices.
pub(crate) fn sees_invoices(caller: &Caller, rows: &Rows) -> bool {
    let company = caller.own_company(rows).filter(|_| caller.level == Level::Client);
    company.is_none_or(|company| company.show_invoices == Some(true))
}

/// The rows of a table that name this row by this field.
pub(crate) fn pairs<'a>(
    rows: &'a Rows,
    table: &'static Table,
    field: &str,
    id: u32,
) -> impl Iterator<Item = &'a Row> + use<'a> {
    rows.referring(table, table.place(field).unwrap_or(usize::MAX), id)
}

/// Asks the living system for what these rows show of it.
pub(crate) async fn ask_living(
    outside: &dyn Outside,
    rows: &Rows,
    caller: &Caller,
    place: Place,
    shown: &[Row],
) -> HashMap<(usize, u32, &'static str), Json> {
    let mut living = HashMap::new();
    for row in shown {
        for computed in row.table().computed {
            let view = caller.view_computed(computed);
            let there = match place {
                Place::List => view.list,
                Place::Detail | Place::Nested => view.detail,
                Place::Changed => view.changed,
                Place::Created => view.created,
            };
            if let How::Live(what) = computed.how
                && there
            {
                let state = live_state(outside, rows, &**row, what, &caller.zone).await;
                living.insert((row.table().index, row.id(), computed.name), state);
            }
        }
    }
    living
}

/// The state of one row in the living system.
pub(crate) async fn live_state(
    outside: &dyn Outside,
    rows: &Rows,
    row: &dyn Record,
    what: &str,
    zone: &TimeZone,
) -> Json {
    match what {
        "carrierServer" => outside.carrier_server(row.id()).await.map(server).into_iter().collect(),
        "ddiProviderRegistration" => provider(outside.provider_registration(row.id()).await),
        "carrier" => {
            let table = model::entities::table("CarrierServer");
            let servers: Vec<u32> = table
                .into_iter()
                .flat_map(|table| pairs(rows, table, "carrier", row.id()))
                .map(|row| row.id())
                .collect();
            let mut states = Vec::new();
            for server in servers {
                states.extend(outside.carrier_server(server).await.map(self::server));
            }
            Json::Array(states)
        }
        _ => registrations(outside, rows, row, zone).await,
    }
}

async fn registrations(outside: &dyn Outside, rows: &Rows, row: &dyn Record, zone: &TimeZone) -> Json {
    let Some((user, domain)) = address_of_record(rows, row) else { return json!([]) };
    let found = outside.registrations(&user, &domain).await;
    found.iter().map(|found| registration(found, zone)).collect()
}

/// User and domain of the address of record of an endpoint, or of a user's terminal.
pub(crate) fn address_of_record(rows: &Rows, row: &dyn Record) -> Option<(String, String)> {
    let table = |name| model::entities::table(name);
    if let Some(terminal) = row.reference("terminal") {
        let terminal = rows.row(table("Terminal")?, terminal)?;
        return address_of_record(rows, &**terminal);
    }
    let name = row.named("name").text()?;
    let domain = rows.row(table("Domain")?, row.reference("domain")?)?;
    Some((name.to_owned(), domain.named("domain").text()?.to_owned()))
}

fn registration(registration: &Registration, zone: &TimeZone) -> Json {
    let shown = |text: &str| text.split(';').next().unwrap_or_default().to_owned();
    json!({
        "contact": shown(&registration.contact),
        "publicContact": is_public(&registration.contact),
        "received": shown(&registration.received),
        "publicReceived": is_public(&registration.received),
        "expires": model::define::shown_time(registration.expires, zone),
        "userAgent": registration.user_agent,
    })
}

/// Whether the host of a SIP URI is an address that the whole world can reach.
fn is_public(uri: &str) -> bool {
    let host = uri.rsplit('@').next().unwrap_or_default();
    let host = host.trim_start_matches("sip:").trim_start_matches("sips:");
    let host = host.split([';', '>']).next().unwrap_or_default();
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => host,
    };
    match host.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => {
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified())
        }
        Ok(std::net::IpAddr::V6(ip)) => {
            !(ip.is_loopback() || ip.is_unspecified() || (ip.segments()[0] & 0xfe00) == 0xfc00)
        }
        Err(_) => !host.is_empty(),
    }
}

/// What is known of a server; one of which nobody knows anything is not in the list.
fn server(state: TrunkState) -> Json {
    json!({ "registered": state.up })
}

/// What is known of a registration; null: nothing.
fn provider(state: Option<TrunkState>) -> Json {
    state.map_or(Json::Null, |state| {
        json!({ "registered": state.up, "inProgress": state.in_progress, "expires": state.expires_in })
    })
}
