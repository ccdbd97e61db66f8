//! The audit log: who changed which rows, on whose behalf, and what they were before. Newest first, secrets masked.
//!
//! In: a range of time and a row or an account. Out: a page of changes that the caller may know of: the platform all, a brand those of
//! its own rows, with the fields that it sees. Elsewhere: keeping the log (crate `store`), asking for it (`Keeper`).

use super::{BRAND, Gate, Operation, PLATFORM};
use crate::http::{Format, Problem, json_answer, respond};
use crate::list;
use crate::live::{ChangeError, LogAsk, LogPart, LogPlace, Logged};
use crate::outside::NotHere;
use crate::routes::{self, Call, Deed};
use axum::body::Body;
use axum::http::{HeaderValue, Method, Response, StatusCode};
use jiff::{Timestamp, ToSpan as _};
use model::define::{Kind, Level, OnDelete, Record, Table, parse_time, shown_time};
use model::entities::{Brand, Company};
use model::rows::{Row, Rows};
use model::{Id, import};
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

/// Changes that the pages of one request are of: whoever wants to go further back is told where to go on.
const MOST: usize = 5_000;
/// How often so many are looked at to find a brand's own.
const PARTS: usize = 5;
/// The header that says where there is more, and the parameter that takes it.
pub(crate) const OLDER_THAN: (&str, &str) = ("x-older-than", "older_than");
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
    let Found { changes: found, more } = look(call, asked(call)?).await?;
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
    if let Some(Ok(more)) =
        more.map(|LogPlace(revision, place)| HeaderValue::from_str(&format!("{revision}.{place}")))
    {
        response.headers_mut().insert(OLDER_THAN.0, more);
    }
    Ok(response)
}

/// The changes that a request's pages are of.
struct Found {
    changes: Vec<Logged>,
    /// Where to look for more, if there may be more.
    more: Option<LogPlace>,
}

/// Looks through the log, as far as one request may.
async fn look(call: &Call, mut ask: LogAsk) -> Result<Found, Problem> {
    let is_all = call.level() == Level::Platform;
    // What was deleted since says whose its parts were.
    let mut rows = (*call.rows).clone();
    let mut found = Vec::new();
    for parts in 1.. {
        let part = call.api.live.keeper().log(&ask).await;
        let part =
            part.ok_or_else(|| Problem::missing(&NotHere("this server keeps no audit log".to_owned())))?;
        let LogPart { mut changes, next } = part.map_err(ChangeError::from)?;
        // A part that is not full is the last one, or took long enough.
        let is_over = is_all || parts >= PARTS || changes.len() < ask.limit || next.is_none();
        if !is_all {
            own(call, &mut rows, &mut changes);
        }
        found.extend(changes);
        ask.older_than = next;
        if found.len() > MOST {
            found.truncate(MOST);
            ask.older_than = found.last().map(|last| LogPlace(last.revision, last.place));
        }
        if is_over || found.len() == MOST {
            break;
        }
    }
    Ok(Found { changes: found, more: ask.older_than })
}

/// What the query asks for.
fn asked(call: &Call) -> Result<LogAsk, Problem> {
    let given = |name: &str| call.ask.query.get(name).filter(|text| !text.is_empty());
    let time = |name: &str| -> Result<Option<Timestamp>, Problem> {
        let Some(text) = given(name) else { return Ok(None) };
        let wrong = || Problem::bad(format!("{name}: write a moment, such as 2026-01-31 23:59:59"));
        parse_time(text, &call.caller().zone).map(Some).ok_or_else(wrong)
    };
    let table = match given("entity") {
        None => None,
        Some(name) => Some(model::entities::table(name).filter(|table| !table.hidden).ok_or_else(|| {
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
    let older_than = match given(OLDER_THAN.1) {
        None => None,
        Some(text) => Some(place(text).ok_or_else(|| {
            Problem::bad(format!(
                "{}: write what the header {} said, such as 57.210",
                OLDER_THAN.1, OLDER_THAN.0
            ))
        })?),
    };
    let who = given("who").map(str::to_owned);
    Ok(LogAsk { entity: table.map(|table| table.name), id, from, until, who, older_than, limit: MOST })
}

/// Reads "57.210".
fn place(text: &str) -> Option<LogPlace> {
    let (revision, place) = text.split_once('.')?;
    Some(LogPlace(revision.parse().ok()?, place.parse().ok()?))
}

/// Keeps the changes of rows that are, and were, the caller's brand's own. Rows that are gone come among `rows`.
fn own(call: &Call, rows: &mut Rows, found: &mut Vec<Logged>) {
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
            call.caller().sees(&*row, rows) && brand_of(rows, &*row, DEEPEST) == call.caller().brand
        }),
    };
    found.retain(|one| is_own(one, &one.before) && is_own(one, &one.after));
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
