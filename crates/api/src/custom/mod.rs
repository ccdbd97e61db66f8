//! Operations of their own: what is not listing, reading, making, changing or deleting rows.
//!
//! One list of them; each says where it is, who has it, and what a restricted administrator needs a grant for. Rooms:
//! `my` (what callers see of themselves), `state` (registrations and trunks), `bulk` and `users` (many rows at once),
//! `money` (balances, prices), `grants`, `chosen` (lists of rows that are free to be chosen), `documents` (files that are
//! made), `audit` (who changed what). `sheet` reads comma-separated values, `archive` writes zip files.

mod archive;
pub(crate) mod audit;
mod bulk;
mod chosen;
mod documents;
mod grants;
mod money;
mod my;
mod sheet;
mod state;
mod users;

use crate::auth;
use crate::http::{Ask, Problem, plain_json, respond};
use crate::routes::{self, Call, Deed};
use crate::server::Api;
use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use model::define::Level;
use serde_json::{Value as Json, json};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// What an operation answers.
pub(crate) type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Body>, Problem>> + Send + 'a>>;

/// An operation of its own.
pub(crate) struct Operation {
    /// Its method.
    pub(crate) method: Method,
    /// Its path after the level; `{}` stands for one segment.
    pub(crate) path: &'static str,
    /// The levels that have it.
    pub(crate) levels: &'static [Level],
    /// Who may.
    pub(crate) gate: Gate,
    /// What it does. The texts are the segments that `{}` stands for.
    pub(crate) run: for<'a> fn(&'a Call, Vec<&'a str>) -> Answer<'a>,
}

/// Who may use an operation.
pub(crate) enum Gate {
    /// Whoever has a token of the level.
    Open,
    /// Whoever may do this to rows of the entity.
    Entity(&'static str, Deed),
    /// Restricted administrators with this grant, and all others.
    Grant(&'static str, Deed),
}

const PLATFORM: Level = Level::Platform;
const BRAND: Level = Level::Brand;
const CLIENT: Level = Level::Client;
const USER: Level = Level::User;

/// All of them.
pub(crate) fn operations() -> impl Iterator<Item = &'static Operation> {
    [
        my::OPERATIONS,
        state::OPERATIONS,
        bulk::OPERATIONS,
        money::OPERATIONS,
        grants::OPERATIONS,
        chosen::OPERATIONS,
        documents::OPERATIONS,
        audit::OPERATIONS,
    ]
    .into_iter()
    .flatten()
}

fn fits<'a>(operation: &Operation, path: &[&'a str]) -> Option<Vec<&'a str>> {
    let mut open = Vec::new();
    let mut parts = operation.path.split('/');
    for segment in path {
        match parts.next()? {
            "{}" => open.push(*segment),
            part if part == *segment => {}
            _ => return None,
        }
    }
    parts.next().is_none().then_some(open)
}

/// What needs no token.
enum Open<'a> {
    Login,
    Refresh,
    Revoke,
    Exchange,
    Theme,
    Logo(&'a str),
}

fn open<'a>(ask: &Ask, path: &[&'a str]) -> Option<Open<'a>> {
    let login = if ask.level == Level::User { "user_login" } else { "admin_login" };
    match (&ask.method, path) {
        (&Method::POST, [name]) if *name == login => Some(Open::Login),
        (&Method::POST, ["token", "refresh"]) => Some(Open::Refresh),
        (&Method::POST, ["token", "revoke"]) => Some(Open::Revoke),
        (&Method::POST, ["token", "exchange"]) if ask.level != Level::Platform => Some(Open::Exchange),
        (&Method::GET, ["my", "theme"]) => Some(Open::Theme),
        (&Method::GET, ["my", "logo", id, _name]) => Some(Open::Logo(id)),
        _ => None,
    }
}

/// Whether this needs no token.
pub(crate) fn is_open(ask: &Ask) -> bool {
    let path: Vec<&str> = ask.path.iter().map(String::as_str).collect();
    open(ask, &path).is_some()
}

/// What needs no token; none: it is something else.
pub(crate) async fn anonymous(api: &Arc<Api>, ask: &Ask) -> Option<Result<Response<Body>, Problem>> {
    let path: Vec<&str> = ask.path.iter().map(String::as_str).collect();
    let ok = |body| plain_json(StatusCode::OK, &body);
    Some(match open(ask, &path)? {
        Open::Login => auth::login(&api.tokens, &api.live, ask).await.map(ok),
        Open::Refresh => auth::refresh(&api.tokens, &api.live, ask).await.map(ok),
        Open::Exchange => auth::exchange(&api.tokens, &api.live, ask).await.map(ok),
        Open::Revoke => auth::revoke(&api.live, ask)
            .await
            .map(|()| respond(StatusCode::NO_CONTENT, "application/json; charset=utf-8", Body::empty())),
        Open::Theme => my::theme(api, ask),
        Open::Logo(id) => my::logo(api, id).await,
    })
}

/// Operations with a token; none: it is something else.
pub(crate) async fn serve(call: &Call) -> Option<Result<Response<Body>, Problem>> {
    let path: Vec<&str> = call.ask.path.iter().map(String::as_str).collect();
    for operation in operations().filter(|operation| operation.levels.contains(&call.level())) {
        let Some(open) = fits(operation, &path) else { continue };
        if operation.method == call.ask.method {
            return Some(match admit(call, &operation.gate) {
                Ok(()) => (operation.run)(call, open).await,
                Err(problem) => Err(problem),
            });
        }
    }
    None
}

/// The methods of operations at this path; none: it is something else.
pub(crate) fn methods(call: &Call) -> Vec<&'static str> {
    let path: Vec<&str> = call.ask.path.iter().map(String::as_str).collect();
    let here = operations().filter(|operation| operation.levels.contains(&call.level()));
    here.filter(|operation| fits(operation, &path).is_some())
        .map(|operation| operation.method.as_str())
        .collect()
}

fn admit(call: &Call, gate: &Gate) -> Result<(), Problem> {
    let denied = || Problem::forbidden("Access Denied.");
    match gate {
        Gate::Open => Ok(()),
        Gate::Entity(name, deed) => {
            let table = model::entities::table(name).ok_or_else(Problem::not_found)?;
            let access = table.access(call.level()).ok_or_else(denied)?;
            routes::allow(table, access, *deed, call.caller(), &call.rows)
        }
        Gate::Grant(name, deed) => {
            let free =
                !call.caller().restricted || routes::granted_name(name, *deed, call.caller(), &call.rows);
            if free { Ok(()) } else { Err(denied()) }
        }
    }
}

/// Most rows that one request names.
const MOST_IDS: usize = 5000;

/// A body that lists ids, each once.
fn ids(body: &Json) -> Result<Vec<u32>, Problem> {
    let wrong = || Problem::bad(format!("write a list of at most {MOST_IDS} ids: [1, 2]"));
    let list = body.as_array().filter(|list| list.len() <= MOST_IDS).ok_or_else(wrong)?;
    let mut ids = Vec::new();
    for json in list {
        let number = json.as_u64().or_else(|| json.as_str()?.trim().parse().ok());
        ids.push(number.and_then(|number| u32::try_from(number).ok()).ok_or_else(wrong)?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// The answer of operations that have nothing to show.
fn done() -> Response<Body> {
    plain_json(StatusCode::OK, &json!({ "status": "OK" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ids_are_read_once_each() {
        assert_eq!(ids(&json!([2, "1", 2])).unwrap(), [1, 2]);
        assert!(ids(&json!({ "ids": [1] })).is_err());
        assert!(ids(&json!([-1])).is_err());
        assert!(ids(&json!([null])).is_err());
        assert!(ids(&json!([4_294_967_296_u64])).is_err());
        assert!(ids(&Json::Array(vec![json!(1); MOST_IDS + 1])).is_err());
    }
}
