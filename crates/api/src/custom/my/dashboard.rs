//! The first page of each level: who one is, what there is, what came last.

use super::theme::product_name;
use super::{count, own, ready, text, text_behind};
use crate::custom::Answer;
use crate::http::{Problem, json_answer};
use crate::live::{ChangeError, RecordAsk};
use crate::routes::Call;
use crate::show;
use axum::http::StatusCode;
use jiff::Timestamp;
use model::define::{Entity, Record, Value};
use model::entities::{BillableCall, Brand, Company, ResidentialDevice, RetailAccount, User};
use model::rows::{Row, Rows};
use serde_json::{Value as Json, json};

/// Most rows of a list of what came last.
const LATEST: usize = 10;
/// Rows of the lists of calls and residential devices, which show the first ones: so clients of the dialect expect them.
const FIRST: usize = 4;

pub(super) fn platform<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    ready(of_platform(call))
}

pub(super) fn brand<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    ready(of_brand(call))
}

pub(super) fn client<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    Box::pin(async move { Ok(json_answer(StatusCode::OK, &of_client(call).await?)) })
}

pub(super) fn user<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    ready(of_user(call))
}

/// A text of the row behind a reference; empty when there is none.
fn or_empty(rows: &Rows, row: &dyn Record, field: &str, wanted: &str) -> String {
    text_behind(rows, row, field, wanted).unwrap_or_default()
}

fn part(row: &dyn Record, field: &str, part: &str) -> String {
    row.named(field).part(part).text().unwrap_or_default().to_owned()
}

fn number(row: &dyn Record, field: &str) -> Json {
    match row.named(field) {
        Value::Int(number) => Json::from(number),
        _ => Json::from(0),
    }
}

fn shown_brand(brand: &dyn Record) -> Json {
    json!({
        "id": brand.id(),
        "name": text(brand, "name"),
        "nif": part(brand, "invoice", "nif"),
        "sipDomain": text(brand, "domainUsers").unwrap_or_default(),
        "maxCalls": number(brand, "maxCalls"),
    })
}

fn shown_own_brand(brand: &dyn Record) -> Json {
    json!({
        "id": brand.id(),
        "name": text(brand, "name"),
        "nif": part(brand, "invoice", "nif"),
        "postalCode": part(brand, "invoice", "postalCode"),
        "sipDomain": text(brand, "domainUsers").unwrap_or_default(),
        "maxCalls": number(brand, "maxCalls"),
    })
}

fn of_platform(call: &Call) -> Result<Json, Problem> {
    let rows = &*call.rows;
    let admin = own(call, "Administrator", call.caller().administrator)?;
    let filled = |field: &str| text(&**admin, field).unwrap_or_default();
    let latest = rows.all(Brand::definition()).rev().take(LATEST);
    Ok(json!({
        "admin": {
            "username": filled("username"),
            "name": filled("name"),
            "lastname": filled("lastname"),
            "email": filled("email"),
        },
        "recentActivity": latest.map(|brand| shown_brand(&**brand)).collect::<Json>(),
        "brandNumber": rows.count(Brand::definition()),
        "clientNumber": rows.count(Company::definition()),
        "userNumber": rows.count(User::definition()),
        "productName": product_name(rows, &call.ask),
    }))
}

fn of_brand(call: &Call) -> Result<Json, Problem> {
    let rows = &*call.rows;
    let brand = own(call, "Brand", call.caller().brand)?;
    let clients = latest::<Company>(rows, "brand", brand.id());
    let recent = clients.iter().map(|client| {
        json!({
            "name": text(&***client, "name"),
            "type": text(&***client, "type"),
            "domainUsers": text(&***client, "domainUsers").unwrap_or_default(),
            "maxCalls": number(&***client, "maxCalls"),
        })
    });
    Ok(json!({
        "brand": shown_own_brand(&**brand),
        "recentActivity": recent.collect::<Json>(),
        "clientNum": count(rows, "Company", "brand", brand.id()),
        "ddiNum": count(rows, "Ddi", "brand", brand.id()),
        "carrierNum": count(rows, "Carrier", "brand", brand.id()),
        "productName": product_name(rows, &call.ask),
    }))
}

/// The rows of an entity that refer to this one, the newest first.
fn latest<'a, E: Entity>(rows: &'a Rows, field: &str, id: u32) -> Vec<&'a Row> {
    let mut found: Vec<&Row> = show::pairs(rows, E::definition(), field, id).collect();
    found.reverse();
    found.truncate(LATEST);
    found
}

async fn of_client(call: &Call) -> Result<Json, Problem> {
    let rows = &*call.rows;
    let company = own(call, "Company", call.caller().company)?;
    let id = company.id();
    let kind = text(&**company, "type").unwrap_or_default();
    let is = |wanted: &str| kind == wanted;
    let counted = |shown: bool, table: &str| shown.then(|| count(rows, table, "company", id));
    let mut calls = json!([]);
    let mut users = json!([]);
    let mut devices = json!([]);
    let mut accounts = json!([]);
    match kind.as_str() {
        "vpbx" => {
            users = latest::<User>(rows, "company", id).iter().map(|row| shown_user(rows, &***row)).collect()
        }
        "residential" => {
            let first = show::pairs(rows, ResidentialDevice::definition(), "company", id).take(FIRST);
            devices = first.map(|row| shown_device(rows, &**row)).collect();
        }
        "retail" => {
            let latest = latest::<RetailAccount>(rows, "company", id);
            accounts = latest.iter().map(|row| shown_device(rows, &***row)).collect();
        }
        _ => calls = first_calls(call, id).await?,
    }
    Ok(json!({
        "client": {
            "name": text(&**company, "name"),
            "nif": part(&**company, "invoicing", "nif"),
            "postalCode": part(&**company, "invoicing", "postalCode"),
            "domainUsers": text(&**company, "domainUsers"),
            "maxCalls": number(&**company, "maxCalls"),
        },
        "latestBillableCalls": calls,
        "latestUsers": users,
        "latestResidentialDevices": devices,
        "latestRetailAccounts": accounts,
        "userNum": counted(is("vpbx"), "User"),
        "extensionNum": counted(is("vpbx"), "Extension"),
        "ddiNum": counted(!is("wholesale"), "Ddi"),
        "residentialDeviceNum": counted(is("residential"), "ResidentialDevice"),
        "voiceMailNum": counted(is("residential"), "Voicemail"),
        "retailsAccountNum": counted(is("retail"), "RetailAccount"),
        "productName": product_name(rows, &call.ask),
    }))
}

/// The first calls of a client.
async fn first_calls(call: &Call, company: u32) -> Result<Json, Problem> {
    let of_company = RecordAsk {
        reference: Some(("company", company)),
        limit: FIRST,
        ..RecordAsk::count(BillableCall::definition())
    };
    Ok(match call.api.live.keeper().records(&of_company).await {
        Some(found) => {
            let found = found.map_err(ChangeError::from)?.rows;
            found.iter().filter_map(|row| row.cast::<BillableCall>()).map(shown_call).collect()
        }
        None => call.rows.of::<BillableCall>("company", company).take(FIRST).map(shown_call).collect(),
    })
}

fn shown_user(rows: &Rows, user: &dyn Record) -> Json {
    json!({
        "name": text(user, "name"),
        "lastName": text(user, "lastname"),
        "extension": or_empty(rows, user, "extension", "number"),
        "outgoingDdi": or_empty(rows, user, "outgoingDdi", "ddi"),
    })
}

fn shown_device(rows: &Rows, device: &dyn Record) -> Json {
    json!({
        "name": text(device, "name"),
        "outgoingDdi": or_empty(rows, device, "outgoingDdi", "ddi"),
        "description": text(device, "description").unwrap_or_default(),
    })
}

fn shown_call(call: &BillableCall) -> Json {
    json!({
        "startTime": with_offset(call.start_time),
        "caller": call.caller,
        "callee": call.callee,
        "duration": call.duration.ceil() as i64,
    })
}

/// A moment as `2019-01-01T08:01:40+00:00`.
fn with_offset(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

fn of_user(call: &Call) -> Result<Json, Problem> {
    let rows = &*call.rows;
    let user = own(call, "User", call.caller().user)?;
    Ok(json!({
        "userName": text(&**user, "name"),
        "userLastName": text(&**user, "lastname"),
        "extension": or_empty(rows, &**user, "extension", "number"),
        "terminal": or_empty(rows, &**user, "terminal", "name"),
        "email": text(&**user, "email").unwrap_or_default(),
        "outgoingDdi": or_empty(rows, &**user, "outgoingDdi", "ddi"),
        "productName": product_name(rows, &call.ask),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_dashboards_carry_their_offset() {
        let time: Timestamp = "2019-01-01T08:01:40Z".parse().unwrap();
        assert_eq!(with_offset(time), "2019-01-01T08:01:40+00:00");
    }
}
