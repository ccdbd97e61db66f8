//! The side of links that is dialled: who may connect, and until when they must have introduced themselves.
//!
//! Strangers (without a certificate, or an introduction that fits) have few connections for a short time and nothing else. In:
//! connections. Out: diallers that are known, for their `line`. Elsewhere: the side that dials (`dial`).

use super::hello::{self, Refused};
use super::lane::{DirectoryLane, Frames as _, Lane, LegsLane, MediaLane};
use super::line::{Accepted, Outgoing};
use super::{Accept, Hub, Io, MESSAGE_MAX, Way};
use crate::causes::chain;
use futures_util::StreamExt as _;
use futures_util::stream::Map;
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use proto::v1;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status, Streaming};
use tower::Service as _;

/// Octets that a side may send ahead of what is read.
pub(super) const WINDOW: u32 = 512 * 1024;
/// Octets of a request's header.
pub(super) const HEADER_MAX: u32 = 16 * 1024;
/// Octets that wait in HTTP/2 for their reader.
pub(super) const SEND_BUFFER: usize = 512 * 1024;

/// Connections at the same time.
const CONNECTIONS_MAX: usize = 2048;
/// Of them, of those who have not introduced themselves: in all, more for addresses of nodes, and from one address.
const STRANGERS_MAX: usize = 128;
const FOR_NODES: usize = 128;
const STRANGERS_OF_ONE: usize = 16;
/// Requests at the same time on a connection; one is needed.
const STREAMS_MAX: u32 = 4;
/// How long to wait when no connection can be taken, for want of file descriptors above all.
const TAKE_AGAIN: Duration = Duration::from_millis(100);

/// Those who have not introduced themselves, by address; somebody who has one of the sixth version has a network of them.
#[derive(Default)]
struct Strangers(Mutex<HashMap<IpAddr, usize>>);

/// A place among them, given back when dropped.
struct Place {
    strangers: Arc<Strangers>,
    address: IpAddr,
}

impl Strangers {
    /// Whoever fills the places of all must not keep nodes out.
    fn enter(self: &Arc<Self>, address: IpAddr, is_node: bool) -> Option<Place> {
        let address = match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
            address @ IpAddr::V4(_) => address,
        };
        let mut all = self.0.lock();
        let of_one = all.get(&address).copied().unwrap_or_default();
        let limit = if is_node { STRANGERS_MAX + FOR_NODES } else { STRANGERS_MAX };
        if all.values().sum::<usize>() >= limit || of_one >= STRANGERS_OF_ONE {
            return None;
        }
        all.insert(address, of_one + 1);
        Some(Place { strangers: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.strangers.0.lock();
        if let Some(count) = all.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// What a connection is to us, known to its requests.
#[derive(Clone)]
struct Standing(Arc<Caller>);

struct Caller {
    from: SocketAddr,
    known: AtomicBool,
    place: Mutex<Option<Place>>,
}

impl Standing {
    fn is_known(&self) {
        self.0.known.store(true, Ordering::Relaxed);
        self.0.place.lock().take();
    }
}

/// Takes connections for as long as the node has links.
pub(super) async fn serve(hub: Arc<Hub>, mut listener: impl Accept) {
    let strangers = Arc::new(Strangers::default());
    let mut connections: JoinSet<()> = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((io, from)) => {
                    let is_node = hub.view.lock().values().any(|address| is_at(address, from.ip()));
                    let place = strangers.enter(from.ip(), is_node);
                    if let Some(place) = place.filter(|_| connections.len() < CONNECTIONS_MAX) {
                        connections.spawn(connection(Arc::clone(&hub), io, from, place));
                    } else if hub.sayings.may(from.ip().to_string(), "crowd") {
                        tracing::warn!(%from, "too many connections that say nothing; this one is closed");
                    }
                }
                Err(error) => {
                    if hub.sayings.may(String::new(), "accept") {
                        tracing::warn!(%error, "a connection of a node is not accepted");
                    }
                    tokio::time::sleep(TAKE_AGAIN).await;
                }
            }
        }
    }
}

/// Whether `host:port` is at this address; a name says nothing.
fn is_at(address: &str, ip: IpAddr) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host.parse::<IpAddr>().is_ok_and(|host| host.to_canonical() == ip.to_canonical())
}

async fn connection(hub: Arc<Hub>, io: Box<dyn Io>, from: SocketAddr, place: Place) {
    let within = hub.config.hello_within;
    let io = match &hub.config.tls {
        None => io,
        Some(tls) => match tokio::time::timeout(within, tls.accept(io)).await {
            Ok(Ok(io)) => io,
            // Somebody looked whether there is anybody.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return,
            Ok(Err(error)) => {
                if hub.sayings.may(from.ip().to_string(), "tls") {
                    tracing::warn!(%from, "a connection to the port of nodes is refused, TLS fails: {}", chain(&error));
                }
                return;
            }
            Err(_) => return,
        },
    };
    let standing =
        Standing(Arc::new(Caller { from, known: AtomicBool::new(false), place: Mutex::new(Some(place)) }));
    let (every, answer) = hub.config.keep_alive;
    let requests = {
        let (hub, standing) = (Arc::clone(&hub), standing.clone());
        service_fn(move |request| route(Arc::clone(&hub), standing.clone(), request))
    };
    let served = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(HEADER_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(every)
        .keep_alive_timeout(answer)
        .serve_connection(TokioIo::new(io), requests);
    let too_late = async {
        tokio::time::sleep(within).await;
        if standing.0.known.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = served => {}
        () = too_late => {}
    }
}

async fn route(
    hub: Arc<Hub>,
    standing: Standing,
    mut request: hyper::Request<Incoming>,
) -> Result<hyper::Response<tonic::body::Body>, Infallible> {
    request.extensions_mut().insert(standing);
    let path = request.uri().path().to_owned();
    let served = Served(hub);
    if path.starts_with("/carillon.v1.Leg/") {
        v1::leg_server::LegServer::new(served)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX)
            .call(request)
            .await
    } else if path.starts_with("/carillon.v1.Media/") {
        v1::media_server::MediaServer::new(served)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX)
            .call(request)
            .await
    } else if path.starts_with("/carillon.v1.Directory/") {
        v1::directory_server::DirectoryServer::new(served)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX)
            .call(request)
            .await
    } else {
        Ok(Status::unimplemented("there is no such service between nodes").into_http())
    }
}

/// The services.
struct Served(Arc<Hub>);

type Answers<L> = Map<Outgoing<L>, fn(<L as Lane>::OutFrame) -> Result<<L as Lane>::OutFrame, Status>>;

#[tonic::async_trait]
impl v1::leg_server::Leg for Served {
    type ExchangeStream = Answers<LegsLane>;

    async fn exchange(
        &self,
        request: Request<Streaming<v1::ToCallsFrame>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        exchange(&self.0, request).await
    }
}

#[tonic::async_trait]
impl v1::media_server::Media for Served {
    type ExchangeStream = Answers<MediaLane>;

    async fn exchange(
        &self,
        request: Request<Streaming<v1::ToRelayFrame>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        exchange(&self.0, request).await
    }
}

#[tonic::async_trait]
impl v1::directory_server::Directory for Served {
    type ExchangeStream = Answers<DirectoryLane>;

    async fn exchange(
        &self,
        request: Request<Streaming<v1::DirectoryFrame>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        exchange(&self.0, request).await
    }
}

/// Begins a connection: the dialler introduces itself and is handed over to its link, or is refused.
async fn exchange<L: Lane>(
    hub: &Arc<Hub>,
    request: Request<Streaming<L::InFrame>>,
) -> Result<Response<Answers<L>>, Status> {
    let standing = request.extensions().get::<Standing>().cloned();
    let mut inbound = request.into_inner();
    let first = tokio::time::timeout(hub.config.hello_within, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no introduction in time"))??
        .ok_or_else(|| Status::invalid_argument("no introduction"))?;
    let answers = match introduce::<L>(hub, first.into_parts().hello, inbound).await {
        Ok(answers) => {
            if let Some(standing) = &standing {
                standing.is_known();
            }
            answers
        }
        Err(refused) => {
            let from = standing.map(|standing| standing.0.from);
            let who = from.map(|from| from.ip().to_string()).unwrap_or_default();
            if hub.sayings.may(who, refused.name()) {
                tracing::warn!(
                    from = from.map(tracing::field::display),
                    way = L::WAY.name(),
                    "a node is refused: {refused}"
                );
            }
            Outgoing::refusal(&refused)
        }
    };
    let ok: fn(L::OutFrame) -> Result<L::OutFrame, Status> = Ok;
    Ok(Response::new(answers.map(ok)))
}

async fn introduce<L: Lane>(
    hub: &Arc<Hub>,
    hello: Option<v1::Hello>,
    inbound: Streaming<L::InFrame>,
) -> Result<Outgoing<L>, Refused> {
    let config = &hub.config;
    let hello =
        hello.ok_or_else(|| Refused::new(v1::RefusalReason::Malformed, "it does not introduce itself"))?;
    let (node, info, greeting) = hello::check_hello(config, &hello)?;
    let serves = match L::WAY {
        Way::Legs => config.roles.application,
        Way::Media => config.roles.relay,
        Way::Directory => node < config.node,
        Way::Calls | Way::Relay => false,
    };
    if !serves {
        let text = format!(
            "node {} is not dialled for this service by node {}: see `node.roles` of both",
            config.node.0, node.0
        );
        return Err(Refused::new(v1::RefusalReason::Role, text));
    }
    let (answer, answered) = oneshot::channel();
    L::lines(hub).accept(hub, node, Accepted { greeting, info, inbound, answer })?;
    let gone = |_| Refused::new(v1::RefusalReason::Busy, "it is about to stop");
    answered.await.map_err(gone)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_share_by_networks_and_leave_nodes_their_places() {
        let strangers = Arc::new(Strangers::default());
        let of_network = |network: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
        let mut places: Vec<Place> = Vec::new();
        places.extend((0..100).filter_map(|host| strangers.enter(of_network(0, host), false)));
        assert_eq!(places.len(), STRANGERS_OF_ONE, "one network is one somebody");
        for network in 1..100 {
            places.extend((0..9).filter_map(|host| strangers.enter(of_network(network, host), false)));
        }
        assert_eq!(places.len(), STRANGERS_MAX);
        let node = IpAddr::from([192, 0, 2, 1]);
        assert!(strangers.enter(node, false).is_none());
        assert!(strangers.enter(node, true).is_some());
        assert!(is_at("[2001:db8::1]:7400", "2001:db8::1".parse().unwrap()) && is_at("192.0.2.1:7400", node));
        assert!(!is_at("a.example:7400", node));
        places.clear();
        assert!(strangers.enter(node, false).is_some(), "they are given back");
    }
}
