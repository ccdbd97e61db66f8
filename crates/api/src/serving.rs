//! Connections to the API: how many, how long they may be idle, and whose address a request has behind a proxy.
//!
//! Strangers open connections as they like: each address has its share, and one that asks nothing is closed. Elsewhere: what
//! requests do (`server`, `routes`).

use crate::tls::{Certificate, LOOK, Tls};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{self, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};
use tower::ServiceExt as _;

/// How often a silent connection of HTTP/2 is tried.
const PING: Duration = Duration::from_secs(20);
/// Requests at the same time on a connection of HTTP/2.
const MOST_STREAMS: u32 = 32;
/// Octets that a connection of HTTP/2 sends ahead of what is read: in all, and of one request.
const AHEAD: u32 = 256 * 1024;
const AHEAD_OF_ONE: u32 = 128 * 1024;
/// Octets of an answer of HTTP/2 that wait for their peer.
const WAITING: usize = 64 * 1024;
/// Octets of a request's header: of HTTP/1.1, which has one at a time, and of HTTP/2.
const LARGEST_HEADER: usize = 64 * 1024;
const LARGEST_HEADER_OF_MANY: u32 = 16 * 1024;
/// Proxies that a request may have come through.
const MOST_PROXIES: usize = 32;

/// What listeners allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time.
    pub connections: usize,
    /// Of them, from one address (of the sixth version: one network of 64 bits); trusted proxies are not counted.
    pub per_address: usize,
    /// Proxies that are believed when they say in X-Forwarded-For where a request came from.
    pub behind: Vec<IpNet>,
    /// How long a connection may take to ask something, and to ask again (HTTP/1.1).
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1024, per_address: 128, behind: Vec::new(), idle: Duration::from_secs(30) }
    }
}

/// Serves a listener until the future is dropped; its connections end with it. With `tls` they speak that and nothing else, and its files
/// are looked at now and then.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, tls: Option<Arc<Tls>>) {
    let limits = Arc::new(limits);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connections: JoinSet<()> = JoinSet::new();
    let mut owners: HashMap<task::Id, IpAddr> = HashMap::new();
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    loop {
        tokio::select! {
            Some(ended) = connections.join_next_with_id(), if !connections.is_empty() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => {
                        tracing::error!(%error, "a connection to the API panics");
                        error.id()
                    }
                };
                if let Some(owner) = owners.remove(&id) {
                    leave(&mut counts, owner);
                }
            }
            _ = look.tick(), if tls.is_some() => {
                if let Some(tls) = tls.clone() {
                    task::spawn_blocking(move || tls.look_again());
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let owner = owner(peer.ip());
                    let trusted = limits.trusts(peer.ip());
                    let count = counts.get(&owner).copied().unwrap_or_default();
                    if connections.len() >= limits.connections || (count >= limits.per_address && !trusted) {
                        continue;
                    }
                    *counts.entry(owner).or_default() += 1;
                    let (router, limits, tls) = (router.clone(), Arc::clone(&limits), tls.clone());
                    let work = async move { connection(stream, peer, router, &limits, tls).await };
                    owners.insert(connections.spawn(work).id(), owner);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the API is not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

fn leave(counts: &mut HashMap<IpAddr, usize>, owner: IpAddr) {
    if let Some(count) = counts.get_mut(&owner) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&owner);
        }
    }
}

/// Whose share a connection takes: somebody who has an address of the sixth version has a network of them.
pub(crate) fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        address @ IpAddr::V4(_) => address,
    }
}

impl Limits {
    fn trusts(&self, address: IpAddr) -> bool {
        self.behind.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// Where a request came from: the last address that no trusted proxy has.
    fn origin(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut origin = peer;
        if !self.trusts(peer) {
            return origin;
        }
        let lines: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .map(|value| value.to_str().unwrap_or_default())
            .collect();
        let said = lines.iter().rev().flat_map(|line| line.rsplit(',')).take(MOST_PROXIES);
        for text in said {
            let Some(address) = address(text.trim()) else { break };
            origin = address;
            if !self.trusts(address) {
                break;
            }
        }
        origin
    }
}

/// An address, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: &Limits,
    tls: Option<Arc<Tls>>,
) {
    let _ = stream.set_nodelay(true);
    // With its handshake and without, a connection has so long until it asks something.
    let deadline = Instant::now() + limits.idle;
    let Some(tls) = tls else { return requests(stream, None, peer, router, limits, deadline).await };
    if let Ok(Some(stream)) = timeout_at(deadline, tls.accept(stream)).await {
        drop(tls);
        let shown = Certificate::shown(&stream);
        requests(stream, shown, peer, router, limits, deadline).await;
    }
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shown: Option<Arc<Certificate>>,
    peer: SocketAddr,
    router: Router,
    limits: &Limits,
    deadline: Instant,
) {
    let asked = AtomicBool::new(false);
    let service = service_fn(|mut request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let origin = SocketAddr::new(limits.origin(peer.ip(), request.headers()), peer.port());
        request.extensions_mut().insert(ConnectInfo(origin));
        if let Some(shown) = &shown {
            request.extensions_mut().insert(Arc::clone(shown));
        }
        router.clone().oneshot(request.map(Body::new))
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle).max_buf_size(LARGEST_HEADER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(MOST_STREAMS)
        .initial_connection_window_size(AHEAD)
        .initial_stream_window_size(AHEAD_OF_ONE)
        .max_send_buf_size(WAITING)
        .max_header_list_size(LARGEST_HEADER_OF_MANY);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    // A broken connection concerns its peer alone.
    tokio::select! {
        _ = &mut served => return,
        () = sleep_until(deadline) => {}
    }
    if asked.load(Ordering::Relaxed) {
        let _ = served.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::Request as Asked;
    use axum::http::HeaderValue;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn limits(connections: usize, per_address: usize, behind: &[&str]) -> Limits {
        let behind = behind.iter().map(|network| network.parse().unwrap()).collect();
        Limits { connections, per_address, behind, ..Limits::default() }
    }

    #[test]
    fn proxies_are_believed_as_far_as_they_are_trusted() {
        let limits = limits(1, 1, &["10.0.0.0/8", "2001:db8::/32"]);
        let origin = |peer: &str, lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", HeaderValue::from_static(line));
            }
            limits.origin(peer.parse().unwrap(), &headers).to_string()
        };
        assert_eq!(origin("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "a stranger is not believed");
        assert_eq!(origin("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(origin("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(origin("::ffff:10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(origin("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(origin("10.0.0.1", &["1.1.1.1", "198.51.100.7,10.0.0.2"]), "198.51.100.7");
        assert_eq!(origin("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(origin("2001:db8::1", &["[2001:db9::7]"]), "2001:db9::7");
        assert_eq!(origin("10.0.0.1", &["1.1.1.1, unknown"]), "10.0.0.1");
    }

    async fn listen(limits: Limits) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(async |request: Asked| {
            let info = request.extensions().get::<ConnectInfo<SocketAddr>>();
            info.map(|info| info.0.ip().to_string()).unwrap_or_default()
        });
        (address, tokio::spawn(serve(listener, router, limits, None)))
    }

    async fn ask(stream: &mut TcpStream) -> Option<String> {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.9\r\n\r\n").await.ok()?;
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).await.ok().filter(|length| *length > 0)?;
        String::from_utf8(answer[..length].to_vec()).ok()
    }

    #[tokio::test]
    async fn an_address_has_its_share_and_gets_it_back() {
        let (address, server) = listen(limits(10, 2, &[])).await;
        let mut one = TcpStream::connect(address).await.unwrap();
        let mut two = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut one).await.unwrap().ends_with("127.0.0.1"));
        assert!(ask(&mut two).await.is_some());
        let mut three = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(&mut three).await, None);
        drop(one);
        loop {
            let mut next = TcpStream::connect(address).await.unwrap();
            if ask(&mut next).await.is_some() {
                break;
            }
        }
        server.abort();
    }

    #[tokio::test]
    async fn an_address_gets_its_share_back_after_a_panic() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(async |request: Asked| {
            assert!(!request.uri().path().starts_with("/broken"));
        });
        let server = tokio::spawn(serve(listener, router, limits(10, 1, &[]), None));
        let mut broken = TcpStream::connect(address).await.unwrap();
        broken.write_all(b"GET /broken HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = broken.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
        let mut served = false;
        for _ in 0..500 {
            let mut next = TcpStream::connect(address).await.unwrap();
            served = ask(&mut next).await.is_some();
            if served {
                break;
            }
            // The server finds out as soon as it has its turn.
            tokio::task::yield_now().await;
        }
        assert!(served, "the count of the address is right again");
        server.abort();
    }

    #[tokio::test]
    async fn a_proxy_has_no_share_and_all_have_a_limit() {
        let (address, server) = listen(limits(3, 1, &["127.0.0.0/8"])).await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            assert!(ask(&mut stream).await.unwrap().ends_with("192.0.2.9"));
            streams.push(stream);
        }
        let mut more = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(&mut more).await, None);
        server.abort();
    }

    #[tokio::test]
    async fn a_connection_that_asks_nothing_is_closed() {
        let idle = Duration::from_millis(20);
        let (address, server) = listen(Limits { idle, ..limits(10, 10, &[]) }).await;
        for begun in ["", "GET / HT", "PRI * HTTP/2.0\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
        server.abort();
    }
}
