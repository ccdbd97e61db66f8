//! The state of rows in the living system: who is registered, whether trunks answer; and what clients have spent.
//!
//! Elsewhere: how states are asked for and written (`show`), the sums of all registrations (`my`).

use super::{Answer, BRAND, CLIENT, Gate, Operation};
use crate::http::Problem;
use crate::list;
use crate::routes::{self, Call, Deed};
use crate::show::{self, Look, Place};
use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use model::define::{Entity, How, Kind, Level, Record, Table};
use model::entities::{
    CarrierServer, Company, DdiProviderRegistration, Friend, ResidentialDevice, RetailAccount, Terminal,
};
use model::rows::{Row, Rows};
use serde_json::{Map, Value as Json};
use std::collections::HashMap;

pub(super) const OPERATIONS: &[Operation] = &[
    get("terminals/status", &[BRAND, CLIENT], "Terminal", |call, _| all::<Terminal>(call)),
    get("friends/status", &[BRAND, CLIENT], "Friend", |call, _| all::<Friend>(call)),
    get("residential_devices/status", &[BRAND, CLIENT], "ResidentialDevice", |call, _| {
        all::<ResidentialDevice>(call)
    }),
    get("retail_accounts/status", &[BRAND, CLIENT], "RetailAccount", |call, _| all::<RetailAccount>(call)),
    get("terminals/{}/status", &[CLIENT], "Terminal", one::<Terminal>),
    get("friends/{}/status", &[CLIENT], "Friend", one::<Friend>),
    get("residential_devices/{}/status", &[CLIENT], "ResidentialDevice", one::<ResidentialDevice>),
    get("retail_accounts/{}/status", &[CLIENT], "RetailAccount", one::<RetailAccount>),
    get("carrier_servers/{}/status", &[BRAND], "CarrierServer", one::<CarrierServer>),
    get(
        "ddi_provider_registrations/{}/status",
        &[BRAND],
        "DdiProviderRegistration",
        one::<DdiProviderRegistration>,
    ),
    get("companies/balances", &[BRAND], "Company", accounts),
    get("companies/dailyUsage", &[BRAND], "Company", accounts),
    get("companies/{}/balances", &[BRAND], "Company", account),
    get("companies/{}/dailyUsage", &[BRAND], "Company", account),
];

type Run = for<'a> fn(&'a Call, Vec<&'a str>) -> Answer<'a>;

const fn get(path: &'static str, levels: &'static [Level], entity: &'static str, run: Run) -> Operation {
    Operation { method: Method::GET, path, levels, gate: Gate::Entity(entity, Deed::Read), run }
}

/// The fields that stand before a state.
fn fields(table: &Table, level: Level, in_list: bool) -> &'static [&'static str] {
    match (table.name, level == Level::Brand) {
        ("CarrierServer", _) => &["ip", "hostname", "authNeeded", "sipProxy", "id"],
        ("DdiProviderRegistration", _) => &["username", "domain", "id"],
        ("ResidentialDevice", true) => &["name", "directConnectivity", "id", "company"],
        ("ResidentialDevice", false) => &["name", "directConnectivity", "id"],
        ("RetailAccount", true) if in_list => {
            &["name", "description", "directConnectivity", "rtpEncryption", "multiContact", "id", "company"]
        }
        ("RetailAccount", _) => &["name", "description", "directConnectivity", "id"],
        (_, true) => &["name", "id", "company"],
        (_, false) => &["name", "id"],
    }
}

/// What is asked of the living system about rows of this table.
fn question(table: &Table) -> &'static str {
    match table.name {
        "CarrierServer" => "carrierServer",
        "DdiProviderRegistration" => "ddiProviderRegistration",
        _ => "registrations",
    }
}

/// A row with its state.
async fn shown(call: &Call, row: &Row, in_list: bool) -> Map<String, Json> {
    let (table, caller) = (row.table(), call.caller());
    let mut shown = Map::new();
    for name in fields(table, caller.level, in_list) {
        shown.insert((*name).to_owned(), row.named(name).shown(&caller.zone));
    }
    if let Some(domain) = domain_name(&call.rows, &**row) {
        shown.insert("domainName".to_owned(), domain);
    }
    let outside = &*call.api.surroundings.outside;
    let state = show::live_state(outside, &call.rows, &**row, question(table), &caller.zone).await;
    shown.insert("status".to_owned(), state);
    shown
}

/// The name of the domain in which an endpoint registers; none: rows of its table have no domain.
fn domain_name(rows: &Rows, row: &dyn Record) -> Option<Json> {
    let Kind::Reference(target) = row.table().field("domain")?.kind else { return None };
    let domain = row.reference("domain").and_then(|id| rows.row(target(), id));
    let name = domain.and_then(|domain| domain.named("domain").text().map(Json::from));
    Some(name.unwrap_or(Json::Null))
}

fn all<E: Entity>(call: &Call) -> Answer<'_> {
    Box::pin(async move {
        let (table, access) = routes::of::<E>(call.level())?;
        let page = list::page(table, access, call.caller(), &call.rows, &call.ask.query)?;
        let asked = call.ask.query.list("_properties");
        let mut list = Vec::new();
        for row in &page.rows {
            let mut row = shown(call, row, true).await;
            if !asked.is_empty() {
                routes::keep(&mut row, &asked);
            }
            list.push(row);
        }
        Ok(routes::shown_list(call, table, access, &page, list))
    })
}

fn one<'a, E: Entity>(call: &'a Call, path: Vec<&'a str>) -> Answer<'a> {
    Box::pin(async move {
        let row = found::<E>(call, &path)?;
        let shown = shown(call, &row, false).await;
        Ok(routes::item_answer(call, E::definition(), shown, StatusCode::OK))
    })
}

fn found<E: Entity>(call: &Call, path: &[&str]) -> Result<Row, Problem> {
    routes::find(call, E::definition(), path.first().copied().unwrap_or_default())
}

fn accounts<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    Box::pin(std::future::ready(account_list(call)))
}

fn account_list(call: &Call) -> Result<Response<Body>, Problem> {
    let (table, access) = routes::of::<Company>(call.level())?;
    let page = list::page(table, access, call.caller(), &call.rows, &call.ask.query)?;
    let asked = call.ask.query.list("_properties");
    let mut list: Vec<_> = page.rows.iter().map(|row| shown_account(call, row, false)).collect();
    if !asked.is_empty() {
        list.iter_mut().for_each(|row| routes::keep(row, &asked));
    }
    Ok(routes::shown_list(call, table, access, &page, list))
}

fn account<'a>(call: &'a Call, path: Vec<&'a str>) -> Answer<'a> {
    Box::pin(std::future::ready(found::<Company>(call, &path).map(|row| {
        let shown = shown_account(call, &row, true);
        routes::item_answer(call, Company::definition(), shown, StatusCode::OK)
    })))
}

/// A client's own fields and whether its account lets calls out.
fn shown_account(call: &Call, row: &Row, expand: bool) -> Map<String, Json> {
    let living = HashMap::new();
    let look = Look { caller: call.caller(), rows: &call.rows, living: &living };
    let table = row.table();
    let mut shown = look.row(&**row, Place::Detail, expand);
    shown.retain(|name, _| table.computed(name).is_none());
    if let Some(status) =
        table.computed("accountStatus").filter(|status| matches!(status.how, How::Derived(_)))
    {
        shown.insert("accountStatus".to_owned(), look.computed(&**row, status));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_stand_behind_fields_that_there_are() {
        for name in [
            "Terminal",
            "Friend",
            "ResidentialDevice",
            "RetailAccount",
            "CarrierServer",
            "DdiProviderRegistration",
        ] {
            let table = model::entities::table(name).unwrap();
            for (level, in_list) in [(BRAND, true), (BRAND, false), (CLIENT, true), (CLIENT, false)] {
                for field in fields(table, level, in_list) {
                    assert!(table.field(field).is_some_and(|field| !field.masked), "{name}.{field}");
                }
            }
        }
    }
}
