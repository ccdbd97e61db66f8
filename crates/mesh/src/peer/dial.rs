//! The side of a link that dials: one connection after the other, with growing pauses while a node cannot be reached.
//!
//! In: where the node is. Out: connections for its `line`. Elsewhere: the side that is dialled (`serve`).

use super::hello::{self, PeerInfo, Refused};
use super::lane::{Dialled, Frames, Lane, Parts};
use super::line::{Line, Outgoing};
use super::{Hub, PeerAddress, serve};
use crate::causes::chain;
use cluster::ids::NodeId;
use cluster::link::Answer;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::http::Uri;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Status, Streaming};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("cannot be reached")]
    Reach(#[source] io::Error),
    #[error("TLS fails; see `cluster.ca_file` and `cluster.cert_file` of both nodes")]
    Tls(#[source] io::Error),
    #[error("does not speak HTTP/2, or refuses our certificate")]
    Http(#[source] hyper::Error),
    #[error("does not serve other nodes")]
    Status(#[source] Box<Status>),
    #[error("{0}")]
    Refused(Refused),
    #[error("says nothing")]
    Silent,
    #[error("gave the session up")]
    Stale,
}

impl Trouble {
    /// Whether nobody listens there.
    fn is_refusal(&self) -> bool {
        matches!(self, Trouble::Reach(error) if error.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// For saying the same only once in a while.
    fn name(&self) -> &'static str {
        match self {
            Trouble::Reach(_) => "reach",
            Trouble::Tls(_) => "tls",
            Trouble::Http(_) => "http",
            Trouble::Status(_) => "status",
            Trouble::Refused(refused) => refused.name(),
            Trouble::Silent => "silent",
            Trouble::Stale => "stale",
        }
    }
}

/// How long to wait for the reason when a connection ends before it begins.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The first frame from the other side.
type First<L> = Parts<<<L as Lane>::InFrame as Frames>::Item>;

/// A connection on which both have introduced themselves.
struct Connection<L: Dialled> {
    inbound: Streaming<L::InFrame>,
    info: PeerInfo,
    answer: Answer,
    /// What carries the connection; ends with it.
    _driver: JoinSet<hyper::Result<()>>,
}

/// The task of a link that dials, until there is nobody to dial.
pub(super) async fn dialling<L: Dialled>(
    hub: Arc<Hub>,
    line: Arc<Line<L>>,
    mut target: watch::Receiver<Option<PeerAddress>>,
) {
    let (shortest, longest) = hub.config.again;
    let mut pause = shortest;
    let mut address = String::new();
    loop {
        match target.borrow_and_update().as_ref() {
            Some(other) => address.clone_from(&other.address),
            // A session is carried on for as long as it lasts, whatever the view says.
            None if line.has_session() => {}
            None => address.clear(),
        }
        if address.is_empty() {
            if L::lines(&hub).forget_dialler(&line, &target) {
                line.events(&*hub.sink); // its end may have come just now
                return;
            }
            continue;
        }
        let began = Instant::now();
        let attempt = tokio::time::timeout(hub.config.hello_within, connect(&hub, &line, &address));
        let trouble = match line.tend(&*hub.sink, attempt).await {
            Ok(Ok(mut connection)) => match line.answered(connection.answer, connection.info) {
                Ok(()) => {
                    line.talk(&hub, &mut connection.inbound, None).await;
                    None
                }
                Err(_) => Some(Trouble::Stale),
            },
            Ok(Err(trouble)) => Some(trouble),
            Err(_) => Some(Trouble::Silent),
        };
        if let Some(trouble) = trouble {
            line.down();
            if trouble.is_refusal() {
                hub.gone(line.node);
            }
            let text = chain(&trouble);
            if hub.sayings.may(format!("{} {}", line.node.0, L::WAY.name()), trouble.name()) {
                tracing::warn!(
                    peer = line.node.0,
                    address,
                    way = L::WAY.name(),
                    "no connection to a node: {text}"
                );
            }
            line.troubled(text);
        } else if began.elapsed() >= longest {
            // It was a real connection.
            pause = shortest;
        }
        let wait = pause.mul_f64(rand::random_range(0.5..1.0));
        pause = (pause * 2).min(longest);
        let changed = async {
            let _ = tokio::time::timeout(wait, target.changed()).await;
        };
        line.tend(&*hub.sink, changed).await;
    }
}

/// Looks whether a node that dials us still listens while its connection is broken, so that a process that is gone is not waited for.
/// Does not end: whoever waits for the node ends it.
pub(super) async fn knock(hub: &Hub, node: NodeId) -> Infallible {
    let (mut pause, longest) = hub.config.again;
    loop {
        let address = hub.view.lock().get(&node).cloned();
        if let Some(address) = address
            && let Err(error) = hub.connect.connect(&address).await
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            hub.gone(node);
        }
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(longest);
    }
}

async fn connect<L: Dialled>(
    hub: &Arc<Hub>,
    line: &Arc<Line<L>>,
    address: &str,
) -> Result<Connection<L>, Trouble> {
    let io = hub.connect.connect(address).await.map_err(Trouble::Reach)?;
    let io = match &hub.config.tls {
        Some(tls) => tls.connect(io).await.map_err(Trouble::Tls)?,
        None => io,
    };
    let (every, within) = hub.config.keep_alive;
    let (send, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(serve::WINDOW)
        .initial_connection_window_size(serve::WINDOW)
        .max_header_list_size(serve::HEADER_MAX)
        .max_send_buf_size(serve::SEND_BUFFER)
        .keep_alive_interval(every)
        .keep_alive_timeout(within)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(io))
        .await
        .map_err(Trouble::Http)?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let begun = begin(hub, line, send).await;
    let (first, inbound) = match begun {
        Ok(begun) => begun,
        // What ended the connection says more than what it did to the request: a certificate that is refused, for one.
        Err(trouble) => match tokio::time::timeout(LAST_WORDS, driver.join_next()).await {
            Ok(Some(Ok(Err(error)))) => return Err(Trouble::Http(error)),
            Ok(_) | Err(_) => return Err(trouble),
        },
    };
    if let Some(refusal) = first.refusal {
        return Err(Trouble::Refused(Refused::heard(refusal)));
    }
    let welcome = first.welcome.ok_or(Trouble::Silent)?;
    let (info, answer) = hello::check_welcome(&hub.config, line.node, &welcome).map_err(Trouble::Refused)?;
    Ok(Connection { inbound, info, answer, _driver: driver })
}

/// Introduces this node, and gets the other side's first frame.
async fn begin<L: Dialled>(
    hub: &Arc<Hub>,
    line: &Arc<Line<L>>,
    send: SendRequest<tonic::body::Body>,
) -> Result<(First<L>, Streaming<L::InFrame>), Trouble> {
    let attempt = hub.attempts.fetch_add(1, Ordering::Relaxed) + 1;
    let greeting = line.greet(rand::random(), attempt);
    let hello = Some(hello::hello(&hub.config, line.node, greeting));
    let frames = Outgoing::new(Arc::clone(line), line.next_connection(), Parts { hello, ..Parts::default() });
    let status = |status| Trouble::Status(Box::new(status));
    let mut inbound = L::exchange(Http(send), frames).await.map_err(status)?.into_inner();
    let first = inbound.message().await.map_err(status)?.ok_or(Trouble::Silent)?;
    Ok((first.into_parts(), inbound))
}

/// The authority that requests name; nobody looks at it.
pub(super) fn origin() -> Uri {
    Uri::from_static("http://carillon-node")
}

/// A connection as generated clients want it.
pub(super) struct Http(SendRequest<tonic::body::Body>);

impl tower::Service<Request<tonic::body::Body>> for Http {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
