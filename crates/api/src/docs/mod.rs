//! Documents of the API about itself, one set for each level, built once from the definitions.
//!
//! In: tables, operations of their own (`operations` says what they do). Out: OpenAPI 3.1 (`openapi`), Swagger 2.0
//! (`swagger`), a Hydra ApiDocumentation with contexts (`hydra`), a page (`page`). Rooms beside: `schemas` (rows and fields),
//! `shapes` (what operations of their own read and answer), `filters` (parameters of queries),
//! `examples` (a value for each schema).

mod examples;
mod filters;
mod hydra;
mod openapi;
mod operations;
mod page;
mod schemas;
mod shapes;
mod swagger;
#[cfg(test)]
mod tests;

use crate::http::{Ask, Format, Problem, respond};
use axum::body::Body;
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use bytes::Bytes;
use model::define::Level;
use serde_json::Value as Json;
use std::sync::OnceLock;

/// OpenAPI's own media type.
const OPENAPI: &str = "application/vnd.oai.openapi+json";

/// The documents of a level as they are sent.
struct Documents {
    openapi: Bytes,
    swagger: Bytes,
    hydra: Bytes,
    entrypoint: Bytes,
}

impl Documents {
    fn build(level: Level) -> Self {
        let openapi = openapi::of(level);
        let written = |json: &Json| Bytes::from(json.to_string());
        Self {
            swagger: written(&swagger::of(&openapi)),
            openapi: written(&openapi),
            hydra: written(&hydra::documentation(level)),
            entrypoint: written(&hydra::entrypoint(level)),
        }
    }

    fn of(level: Level) -> &'static Self {
        static BUILT: [OnceLock<Documents>; 4] = [const { OnceLock::new() }; 4];
        BUILT[level as usize].get_or_init(|| Self::build(level))
    }
}

/// The documents, which need no token; none: it is something else.
pub(crate) fn anonymous(ask: &Ask) -> Option<Response<Body>> {
    if ask.method != Method::GET {
        return None;
    }
    let path: Vec<&str> = ask.path.iter().map(String::as_str).collect();
    match path[..] {
        [] | ["docs"] => Some(negotiated(ask)),
        ["docs.json" | "index.json"] => Some(document(ask)),
        ["docs.jsonld"] => Some(linked(&Documents::of(ask.level).hydra)),
        ["docs", name] => page::file(name),
        _ => None,
    }
}

/// A context of JSON-LD; none: it is something else.
pub(crate) fn context(ask: &Ask) -> Option<Result<Response<Body>, Problem>> {
    let path: Vec<&str> = ask.path.iter().map(String::as_str).collect();
    let ["contexts", name] = path[..] else { return None };
    let found = hydra::context(ask.level, name).ok_or_else(Problem::not_found);
    Some(found.map(|context| linked(&Bytes::from(context.to_string()))))
}

/// A page for people, unless the caller wants it in a form for programs.
fn negotiated(ask: &Ask) -> Response<Body> {
    if accepts(&ask.headers, OPENAPI) || accepts(&ask.headers, "application/json") {
        return document(ask);
    }
    match ask.format {
        Format::JsonLd if ask.path.is_empty() => linked(&Documents::of(ask.level).entrypoint),
        Format::JsonLd => linked(&Documents::of(ask.level).hydra),
        _ => page::page(ask.level),
    }
}

/// Swagger 2.0, which tools of the dialect expect, or OpenAPI 3.1 where it is asked for.
fn document(ask: &Ask) -> Response<Body> {
    let documents = Documents::of(ask.level);
    let by_accept = accepts(&ask.headers, OPENAPI);
    let new = match ask.query.get("spec_version") {
        Some(version) => version.starts_with('3'),
        None => by_accept,
    };
    let kind = if new && by_accept { OPENAPI } else { "application/json; charset=utf-8" };
    respond(StatusCode::OK, kind, if new { documents.openapi.clone() } else { documents.swagger.clone() })
}

fn linked(document: &Bytes) -> Response<Body> {
    respond(StatusCode::OK, "application/ld+json; charset=utf-8", document.clone())
}

/// Whether the caller names this media type.
fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let text = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(',').any(|part| part.split(';').next().unwrap_or_default().trim() == kind)
}
