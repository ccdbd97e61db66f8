//! HTTP for machines that look after this node: `/healthz`, `/readyz`, `/metrics`.
//!
//! In: requests, from whoever reaches the listener. Out: text. Elsewhere: what it says (`health`, `figures`), connections (crate `api`).

use super::Health;
use super::health::Report;
use crate::node::StartError;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use telemetry::{CONTENT_TYPE, Registry};
use tokio::task::JoinHandle;

/// Connections at the same time, and of them from one address: a few scrapers and probes, with room to spare.
const CONNECTIONS: usize = 64;
const PER_ADDRESS: usize = 32;
/// How long one may be silent.
const IDLE: Duration = Duration::from_secs(30);

/// The listener while it is served.
pub(super) struct Served {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Served {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens the listener on the threads of who polls this.
pub(super) async fn serve(
    address: SocketAddr,
    registry: Arc<Registry>,
    health: Arc<Health>,
) -> Result<Served, StartError> {
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| {
        StartError(format!(
            "operate.listen = {address}: {error}; choose an address of this host and a port that is free"
        ))
    })?;
    let address = listener.local_addr()?;
    let limits = api::serving::Limits {
        connections: CONNECTIONS,
        per_address: PER_ADDRESS,
        idle: IDLE,
        ..api::serving::Limits::default()
    };
    let task = tokio::spawn(api::serving::serve(listener, router(registry, health), limits, None));
    Ok(Served { address, task })
}

fn router(registry: Arc<Registry>, health: Arc<Health>) -> axum::Router {
    axum::Router::new()
        .route("/healthz", get(async |State(health): State<Arc<Health>>| told(&health.alive())))
        .route("/readyz", get(async |State(health): State<Arc<Health>>| told(&health.ready())))
        .with_state(health)
        .route("/metrics", get(async move || text(StatusCode::OK, CONTENT_TYPE, registry.page().to_string())))
}

fn told(report: &Report) -> Response {
    let status = if report.is_good() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, "text/plain; charset=utf-8", report.to_string())
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt as _;

    async fn ask(router: &axum::Router, method: &str, path: &str) -> (u16, String, String) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let kind = answer.headers().get(header::CONTENT_TYPE);
        let kind = kind.map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn machines_are_told_by_the_status_and_people_by_the_text() {
        let (registry, health) = (Arc::new(Registry::default()), Health::new());
        registry.add(|page| page.count("carillon_calls", "Calls.", 7));
        let router = router(registry, Arc::clone(&health));
        assert_eq!(ask(&router, "GET", "/healthz").await.0, 200, "a node that starts is alive");
        let (status, _, body) = ask(&router, "GET", "/readyz").await;
        assert!(status == 503 && body.starts_with("NOT   started"), "{status} {body}");
        health.started();
        assert_eq!(ask(&router, "GET", "/readyz").await.0, 200);
        let (status, kind, body) = ask(&router, "GET", "/metrics").await;
        assert_eq!((status, kind.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
        assert!(body.ends_with("carillon_calls 7\n"), "{body}");
        assert_eq!(ask(&router, "POST", "/metrics").await.0, 405);
        assert_eq!(ask(&router, "GET", "/").await.0, 404);
    }
}
