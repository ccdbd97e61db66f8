//! The audit log: who changed which rows, on whose behalf, and what they were before. Newest first, secrets masked.
//!
//! In: a range of time and a row or an account. Out: a page of changes that the caller may know of: the platform all, a brand those of
//! its own rows, with the fields that it sees. Elsewhere: keeping the log (crate `store`), asking for it (`Keeper`).

use super::{BRAND, Gate, Operation, PLATFORM};
use crate::http::{Format, Problem, json_answer, respond};
use crate::list;
use crate::live::{ChangeError, LogAsk, Logged};
use crate::outside::NotHere;
use crate::routes::{self, Call, Deed};
use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use jiff::{Timestamp, ToSpan as _};
use model::define::{Kind, Level, OnDelete, Record, Table, parse_time, shown_time};
use model::entities::{Brand, Company};
use model::rows::{Row, Rows};
use model::{Id, import};
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

/// Changes that one request looks at, the newest within its range of time: who wants to go further back names an end.
const LOOKED_AT: usize = 5_000;
/// Rows from a row to the one that says whose it is.
const DEEPEST: usize = 4;
/// What is shown of a change, in this order.
pub(crate) const SHOWN: &[&str] = &[
    "revision",
    "time",
    "level",
    "who",
    "whoId",
    "onBehalfOf",
    "entity",
    "entityId",
    "action",
    "changed",
    "before",
    "after",
];

pub(super) const OPERATIONS: &[Operation] = &[Operation {
    method: Method::GET,
    path: "audit_log",
    levels: &[PLATFORM, BRAND],
    // There is no grant of this name, so restricted administrators never read it.
    gate: Gate::Grant("Model\\AuditLog", Deed::Read),
    run: |call, _| Box::pin(audit_log(call)),
}];

async fn audit_log(call: &Call) -> Result<Response<Body>, Problem> {
    let (number, size) = list::place(&call.ask.query, call.level())?;
    let (ask, who) = asked(call)?;
    let found = call.api.live.keeper().log(&ask).await;
    let found =
        found.ok_or_else(|| Problem::missing(&NotHere("this server keeps no audit log".to_owned())))?;
    let mut found = found.map_err(ChangeError::from)?;
    found.retain(|one| who.is_none_or(|who| one.who["name"].as_str() == Some(who)));
    if call.level() != Level::Platform {
        found = own(call, found);
    }
    let total = found.len();
    let skip = (number - 1).saturating_mul(size);
    let shown: Vec<Map<String, Json>> =
        found.iter().skip(skip).take(size).map(|one| shown(call, one)).collect();
    let page = list::Page { rows: Vec::new(), total: Some(total), number, size };
    let mut response = if call.ask.format == Format::Csv {
        respond(StatusCode::OK, "text/csv; charset=utf-8", routes::csv_lines(SHOWN, &shown))
    } else {
        json_answer(StatusCode::OK, &shown.into_iter().map(Json::Object).collect())
    };
    routes::page_headers(call, &page, total, &mut response);
    Ok(response)
}

/// What the query asks for, and by whom the changes shall be.
fn asked(call: &Call) -> Result<(LogAsk, Option<&str>), Problem> {
    let given = |name: &str| call.ask.query.get(name).filter(|text| !text.is_empty());
    let time = |name: &str| -> Result<Option<Timestamp>, Problem> {
        let Some(text) = given(name) else { return Ok(None) };
        let wrong = || Problem::bad(format!("{name}: write a moment, such as 2026-01-31 23:59:59"));
        parse_time(text, &call.caller().zone).map(Some).ok_or_else(wrong)
    };
    let table = match given("entity") {
        None => None,
        Some(name) => Some(model::entities::table(name).ok_or_else(|| {
            Problem::bad("entity: there is none of this name; write one as the log shows it, such as Carrier")
        })?),
    };
    let id = match given("id") {
        None => None,
        Some(_) if table.is_none() => return Err(Problem::bad("id: name the entity, too, whose row it is")),
        Some(text) => Some(text.parse().map_err(|_| Problem::bad("id: write the number of a row"))?),
    };
    let (from, to) = (time("from")?, time("to")?);
    // Moments are written to the second, and the last second is meant as a whole.
    let until = to.and_then(|to| to.checked_add(1.second()).ok());
    let ask = LogAsk { entity: table.map(|table| table.name), id, from, until, limit: LOOKED_AT };
    Ok((ask, given("who")))
}

/// The changes of rows that are, and were, the caller's brand's own.
fn own(call: &Call, found: Vec<Logged>) -> Vec<Logged> {
    // What was deleted since says whose its parts were.
    let mut rows = (*call.rows).clone();
    for one in found.iter().filter(|one| one.after.is_none()) {
        if let Some(row) = row_of(one, one.before.as_ref())
            && rows.row(row.table(), row.id()).is_none()
        {
            rows.insert(row);
        }
    }
    let is_own = |one: &Logged, document: &Option<Map<String, Json>>| match document {
        None => true,
        Some(document) => row_of(one, Some(document)).is_some_and(|row| {
            call.caller().sees(&*row, &rows) && brand_of(&rows, &*row, DEEPEST) == call.caller().brand
        }),
    };
    let mut found = found;
    found.retain(|one| is_own(one, &one.before) && is_own(one, &one.after));
    found
}

fn row_of(one: &Logged, document: Option<&Map<String, Json>>) -> Option<Row> {
    let table = model::entities::table(&one.entity)?;
    import::read_document(table, document?, Timestamp::UNIX_EPOCH).ok().map(Arc::from)
}

/// The brand that a row belongs to: by itself, by its client, or as part of a row of a brand. None: the platform's.
fn brand_of(rows: &Rows, row: &dyn Record, deepest: usize) -> Option<u32> {
    let table = row.table();
    if table.index == <Brand as model::define::Entity>::definition().index {
        return Some(row.id());
    }
    if let Some(brand) = row.reference("brand") {
        return Some(brand);
    }
    if let Some(company) = row.reference("company") {
        return rows.get(Id::<Company>::new(company)).map(|company| company.brand.get());
    }
    table.fields.iter().enumerate().find_map(|(place, field)| {
        let Kind::Reference(target) = field.kind else { return None };
        let part = deepest > 0 && field.on_delete == OnDelete::Cascade;
        let whole = row.get(place).id().filter(|_| part).and_then(|id| rows.row(target(), id))?;
        brand_of(rows, &**whole, deepest - 1)
    })
}

/// Whether the level knows a field of the table. The platform's auditors know all.
fn knows(level: Level, table: Option<&'static Table>, name: &str) -> bool {
    let field = table.and_then(|table| table.field(name));
    level == Level::Platform
        || field.is_some_and(|field| {
            let view = field.view(level);
            view.list || view.detail || view.create || view.change
        })
}

fn shown(call: &Call, one: &Logged) -> Map<String, Json> {
    let (level, table) = (call.level(), model::entities::table(&one.entity));
    let action = match (&one.before, &one.after) {
        (None, _) => "create",
        (_, None) => "delete",
        _ => "update",
    };
    let changed: Vec<&String> = one.changed.iter().filter(|name| knows(level, table, name)).collect();
    // Of a changed row what differs; of a new or deleted one all. As rows are shown, where the document is of today's form.
    let document = |document: &Option<Map<String, Json>>| -> Json {
        let Some(document) = document else { return Json::Null };
        let row = row_of(one, Some(document));
        let is_shown = |name: &String| match action {
            "update" => changed.contains(&name),
            _ => knows(level, table, name),
        };
        let value = |name: &str, stored: &Json| -> Json {
            let field = table.and_then(|table| table.field(name));
            let open = field.is_some_and(|field| !matches!(field.kind, Kind::Secret | Kind::Password));
            row.as_ref()
                .filter(|_| open)
                .map_or_else(|| stored.clone(), |row| row.named(name).shown(&call.caller().zone))
        };
        let of_row = document.iter().filter(|(name, _)| is_shown(name));
        Json::Object(of_row.map(|(name, stored)| (name.clone(), value(name, stored))).collect())
    };
    let (before, after) = (document(&one.before), document(&one.after));
    let of_who = |name: &str| one.who.get(name).cloned().unwrap_or(Json::Null);
    let shown = json!({
        "revision": one.revision,
        "time": shown_time(one.time, &call.caller().zone),
        "level": of_who("level"),
        "who": of_who("name"),
        "whoId": of_who("id"),
        "onBehalfOf": of_who("onBehalfOf"),
        "entity": one.entity,
        "entityId": one.id,
        "action": action,
        "changed": changed,
        "before": before,
        "after": after,
    });
    match shown {
        Json::Object(shown) => shown,
        _ => Map::new(),
    }
}
