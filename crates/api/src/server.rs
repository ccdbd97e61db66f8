//! The HTTP server of the API: connections, bodies within limits, and what every answer carries.
//!
//! Elsewhere: what requests do (`routes`).

use crate::auth::{self, Tokens};
use crate::bodies;
use crate::custom;
use crate::grpc::{self, Watchers};
use crate::http::{Ask, Format, LARGEST_BODY, LARGEST_FORM, LARGEST_UPLOAD, Problem, Query};
use crate::live::Live;
use crate::outside::Surroundings;
use crate::proof::Proof;
use crate::routes;
use axum::body::{Body, HttpBody as _};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};
use bytes::Bytes;
use model::define::Level;
use model::scope::Caller;
use std::net::SocketAddr;
use std::sync::Arc;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate as _, SizeAbove};

/// Octets of an answer from which on it is compressed for callers that take gzip.
const LEAST_COMPRESSED: u64 = 2048;

/// Everything that the API works with.
#[derive(Debug)]
pub struct Api {
    /// The configuration.
    pub live: Arc<Live>,
    /// Tokens.
    pub tokens: Tokens,
    /// The living system.
    pub surroundings: Surroundings,
    /// Who watches the configuration.
    pub watchers: Arc<Watchers>,
}

/// The routes of the API: `/api/platform`, `/api/brand`, `/api/client`, `/api/user`, and the services of gRPC.
pub fn router(api: Arc<Api>) -> axum::Router {
    // Lists and documents are full of the same words; what is short would only become longer.
    let worth_it = SizeAbove::new(LEAST_COMPRESSED).and(is_text);
    let compression =
        CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest).compress_when(worth_it);
    let services = grpc::router(&api, false);
    axum::Router::new().fallback(handle).with_state(api).layer(compression).merge(services)
}

/// The services of gRPC for a listener that only the platform's operator reaches: no token is asked for, and everything
/// is there.
pub fn control_router(api: &Arc<Api>) -> axum::Router {
    grpc::router(api, true)
}

/// Whether an answer is a text; sounds, archives and PDFs are compressed already.
fn is_text(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim_end();
    kind.starts_with("text/") || kind.ends_with("json")
}

async fn handle(State(api): State<Arc<Api>>, request: Request) -> Response<Body> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = answer(api, request).await;
    let headers = response.headers_mut();
    if origin.is_some() {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        let exposed =
            "link, etag, x-total-items, x-total-pages, x-first-page, x-next-page, x-last-page, x-older-than";
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    }
    // Answers are the caller's alone, save the few that say otherwise.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn answer(api: Arc<Api>, mut request: Request) -> Response<Body> {
    if request.method() == Method::OPTIONS {
        return preflight();
    }
    let format = Format::accepted(request.headers());
    let is_head = request.method() == Method::HEAD;
    if is_head {
        *request.method_mut() = Method::GET;
    }
    let response = match serve(api, request, format).await {
        Ok(response) => response,
        Err(problem) => problem.answer(format),
    };
    if is_head { without_body(response) } else { response }
}

/// What HEAD gets: all of the answer to GET but its body.
fn without_body(mut response: Response<Body>) -> Response<Body> {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = Body::empty();
    response
}

async fn serve(api: Arc<Api>, request: Request, format: Format) -> Result<Response<Body>, Problem> {
    let (mut ask, body) = begin(request, format)?;
    if matches!(ask.method, Method::POST | Method::PUT) {
        let (most, caller) = largest(&api, &ask)?;
        (ask.body, ask.memory) = bodies::read(body, announced(&ask, most)?, caller.as_ref()).await?;
    }
    routes::serve(api, ask).await
}

/// How long the body may be, and who sends it. Who needs a token has it before any of the body is read.
fn largest(api: &Api, ask: &Ask) -> Result<(usize, Option<Caller>), Problem> {
    if custom::is_open(ask) {
        return Ok((LARGEST_FORM, None));
    }
    let caller = auth::identify(&api.tokens, &api.live.rows(), ask)?.caller;
    let multipart = ask.content_type().starts_with("multipart/");
    Ok((if multipart { LARGEST_UPLOAD } else { LARGEST_BODY }, Some(caller)))
}

fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, OPTIONS, POST, PUT, DELETE"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("content-type, authorization, accept, if-match"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    response
}

/// What a request says before its body.
fn begin(request: Request, format: Format) -> Result<(Ask, Body), Problem> {
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let proof = Proof::of(request.headers(), request.extensions());
    let (mut parts, body) = request.into_parts();
    // HTTP/2 names the host elsewhere.
    let authority = parts.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    if let Some(host) = authority.filter(|_| !parts.headers.contains_key(header::HOST)) {
        parts.headers.insert(header::HOST, host);
    }
    let raw_path = parts.uri.path().to_owned();
    let mut segments = raw_path.split('/').filter(|segment| !segment.is_empty()).map(decoded);
    let level = match (segments.next().as_deref(), segments.next()) {
        (Some("api"), Some(name)) => Level::ALL.into_iter().find(|level| level.name() == name),
        _ => None,
    };
    let level = level.ok_or_else(Problem::not_found)?;
    let path = segments.collect();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let (method, headers, nothing) = (parts.method, parts.headers, Bytes::new());
    let ask = Ask {
        level,
        method,
        path,
        raw_path,
        query,
        headers,
        proof,
        body: nothing,
        format,
        from,
        memory: None,
    };
    Ok((ask, body))
}

/// How long the request says its body is; otherwise as long as it may be.
fn announced(ask: &Ask, most: usize) -> Result<usize, Problem> {
    let said = ask.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let length: usize = said.unwrap_or(most);
    if length > most { Err(bodies::too_large(most)) } else { Ok(length) }
}

fn decoded(segment: &str) -> String {
    if !segment.contains('%') {
        return segment.to_owned();
    }
    // The crate decodes forms; a plus sign in a path is itself.
    let text = segment.replace('+', "%2B");
    form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}
