//! The HTTP server of the API: connections, bodies within limits, and what every answer carries.
//!
//! Elsewhere: what requests do (`routes`).

use crate::auth::Tokens;
use crate::http::{Ask, Format, LARGEST_BODY, LARGEST_UPLOAD, Problem, Query};
use crate::live::Live;
use crate::outside::Surroundings;
use crate::routes;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use model::define::Level;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a body may take.
const BODY_SECONDS: u64 = 60;

/// Everything that the API works with.
#[derive(Debug)]
pub struct Api {
    /// The configuration.
    pub live: Arc<Live>,
    /// Tokens.
    pub tokens: Tokens,
    /// The living system.
    pub surroundings: Surroundings,
}

/// The routes of the API: `/api/platform`, `/api/brand`, `/api/client`, `/api/user`.
pub fn router(api: Arc<Api>) -> axum::Router {
    axum::Router::new().fallback(handle).with_state(api)
}

async fn handle(State(api): State<Arc<Api>>, request: Request) -> Response<Body> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = answer(api, request).await;
    let headers = response.headers_mut();
    if origin.is_some() {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        let exposed = "link, x-total-items, x-total-pages, x-first-page, x-next-page, x-last-page";
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    }
    // Answers are the caller's alone, save the few that say otherwise.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn answer(api: Arc<Api>, request: Request) -> Response<Body> {
    if request.method() == Method::OPTIONS {
        return preflight();
    }
    let format = Format::accepted(request.headers());
    match read(request, format).await {
        Ok(ask) => match routes::serve(api, ask).await {
            Ok(response) => response,
            Err(problem) => problem.answer(format),
        },
        Err(problem) => problem.answer(format),
    }
}

fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, OPTIONS, POST, PUT, DELETE"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("content-type, authorization, accept"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    response
}

async fn read(request: Request, format: Format) -> Result<Ask, Problem> {
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let (parts, body) = request.into_parts();
    let raw_path = parts.uri.path().to_owned();
    let mut segments = raw_path.split('/').filter(|segment| !segment.is_empty()).map(decoded);
    let level = match (segments.next().as_deref(), segments.next()) {
        (Some("api"), Some(name)) => Level::ALL.into_iter().find(|level| level.name() == name),
        _ => None,
    };
    let level = level.ok_or_else(Problem::not_found)?;
    let path = segments.collect();
    let multipart = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("multipart/"));
    let most = if multipart { LARGEST_UPLOAD } else { LARGEST_BODY };
    let reading = axum::body::to_bytes(body, most);
    let body = match tokio::time::timeout(Duration::from_secs(BODY_SECONDS), reading).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let detail = format!("the body is broken or longer than {most} octets");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        Err(_) => return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body does not come")),
    };
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    Ok(Ask { level, method: parts.method, path, raw_path, query, headers: parts.headers, body, format, from })
}

fn decoded(segment: &str) -> String {
    if !segment.contains('%') {
        return segment.to_owned();
    }
    // The crate decodes forms; a plus sign in a path is itself.
    let text = segment.replace('+', "%2B");
    form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}
