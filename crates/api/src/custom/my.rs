//! What callers see of themselves, below `my/`: profiles, dashboards, themes, calls, and what users keep for themselves.
//!
//! Rooms: `profile`, `dashboard`, `theme` (by the request's host), `calls` (counts, the name of the realtime feed), `user`
//! (the users' own lists, status and profile). Elsewhere: registrations of rows (`state`).

mod calls;
mod dashboard;
mod profile;
mod theme;
mod user;

pub(super) use theme::{logo, theme};

use super::{Answer, BRAND, CLIENT, Gate, Operation, PLATFORM, USER};
use crate::http::{Problem, json_answer};
use crate::routes::{Call, Deed};
use axum::http::{Method, StatusCode};
use model::define::{Kind, Level, Record, Value};
use model::rows::{Row, Rows};
use serde_json::Value as Json;

const ACTIVE_CALLS: Gate = Gate::Grant("Model\\ActiveCalls", Deed::Read);

pub(super) const OPERATIONS: &[Operation] = &[
    get("my/profile", &[PLATFORM, BRAND, CLIENT], Gate::Open, profile::administrator),
    get("my/dashboard", &[PLATFORM], Gate::Open, dashboard::platform),
    get("my/dashboard", &[BRAND], Gate::Open, dashboard::brand),
    get("my/dashboard", &[CLIENT], Gate::Grant("Model\\Dashboard\\Dashboard", Deed::Read), dashboard::client),
    get("my/dashboard", &[USER], Gate::Open, dashboard::user),
    get("my/active_calls", &[PLATFORM, BRAND, CLIENT], ACTIVE_CALLS, calls::active),
    get("my/active_calls/realtime_filter", &[PLATFORM, BRAND, CLIENT], ACTIVE_CALLS, calls::realtime_filter),
    get(
        "my/registration_summary",
        &[BRAND],
        Gate::Grant("Model\\RegistrationSummary", Deed::Read),
        calls::registration_summary,
    ),
    get("my/profile", &[USER], Gate::Open, user::profile),
    for_method(Method::PUT, "my/profile", &[USER], Gate::Open, user::change_profile),
    get("my/status", &[USER], Gate::Open, user::status),
    get("my/call_history", &[USER], Gate::Open, user::call_history),
    get("my/call_stats", &[USER], Gate::Open, calls::stats),
    get("my/last_month_calls", &[USER], Gate::Open, calls::last_month),
    get("my/call_forward_settings", &[USER], Gate::Open, user::call_forward_settings),
    for_method(
        Method::POST,
        "my/call_forward_settings",
        &[USER],
        Gate::Open,
        user::create_call_forward_setting,
    ),
    get("my/company_assistants", &[USER], Gate::Open, user::company_assistants),
    get("my/company_voicemails", &[USER], Gate::Open, user::company_voicemails),
    get("my/company_extensions", &[USER], Gate::Open, user::company_extensions),
    get("my/extensions", &[USER], Gate::Open, user::company_extensions),
    get("my/company_country", &[USER], Gate::Open, user::company_country),
    get("my/voicemail", &[USER], Gate::Open, user::voicemails),
    get("voicemails", &[USER], Gate::Open, user::voicemails),
];

type Run = for<'a> fn(&'a Call, Vec<&'a str>) -> Answer<'a>;

const fn get(path: &'static str, levels: &'static [Level], gate: Gate, run: Run) -> Operation {
    for_method(Method::GET, path, levels, gate, run)
}

const fn for_method(
    method: Method,
    path: &'static str,
    levels: &'static [Level],
    gate: Gate,
    run: Run,
) -> Operation {
    Operation { method, path, levels, gate, run }
}

/// The answer to an operation that waits for nothing.
fn ready<'a>(body: Result<Json, Problem>) -> Answer<'a> {
    Box::pin(std::future::ready(body.map(|body| json_answer(StatusCode::OK, &body))))
}

/// The row that a row's reference names.
fn behind<'a>(rows: &'a Rows, row: &dyn Record, field: &str) -> Option<&'a Row> {
    match row.table().field(field)?.kind {
        Kind::Reference(target) => rows.row(target(), row.reference(field)?),
        _ => None,
    }
}

/// A text of the row that a reference names; none: there is no such row, or no text in it.
fn text_behind(rows: &Rows, row: &dyn Record, field: &str, wanted: &str) -> Option<String> {
    behind(rows, row, field).and_then(|row| text(&**row, wanted))
}

/// A text of a row.
fn text(row: &dyn Record, field: &str) -> Option<String> {
    row.named(field).text().map(str::to_owned)
}

/// A flag of a row; null counts as false.
fn flag(row: &dyn Record, field: &str) -> bool {
    matches!(row.named(field), Value::Bool(true))
}

/// The caller's own row of this table: brand, client, administrator or user.
fn own<'a>(call: &'a Call, table: &str, id: Option<u32>) -> Result<&'a Row, Problem> {
    let table = model::entities::table(table).ok_or_else(Problem::not_found)?;
    id.and_then(|id| call.rows.row(table, id)).ok_or_else(Problem::not_found)
}

/// How many rows of a table refer to this one.
fn count(rows: &Rows, table: &str, field: &str, id: u32) -> usize {
    let table = model::entities::table(table);
    table.map_or(0, |table| crate::show::pairs(rows, table, field, id).count())
}

/// The names of the features that a table of pairs gives to a row.
fn features(rows: &Rows, pairs: &str, field: &str, id: Option<u32>) -> Json {
    let (Some(table), Some(id)) = (model::entities::table(pairs), id) else { return Json::Array(Vec::new()) };
    let given = crate::show::pairs(rows, table, field, id);
    given.filter_map(|pair| text_behind(rows, &**pair, "feature", "iden")).map(Json::from).collect()
}
