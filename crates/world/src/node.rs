//! One node of the test world: the real roles, with a relay that only rewrites and a log in memory.
//!
//! In: a seed, weather, the configuration. Out: the network to join, call records, what is still open. Elsewhere: peers
//! (`endpoint`, `scripted`).

use appserver::{AppServer, CallLog, Rates};
use arc_swap::ArcSwap;
use bytes::Bytes;
use cluster::ids::{CallId, NodeId};
use cluster::media::{Media, MediaCommand, MediaReply, Signalling};
use model::{BindingRecord, Cdr, Configuration, OpenCall, Snapshot};
use parking_lot::Mutex;
use proxy::net::Network;
use proxy::net::sim::{SimNet, Weather};
use proxy::{BindingLog, Listener, Proxy, ProxyConfig};
use sip::flow::Transport;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Where the node listens.
pub(crate) const NODE: &str = "127.0.0.1:5060";

/// What a world is made of.
#[derive(Clone)]
pub struct Options {
    /// Everything random follows from it.
    pub seed: u64,
    /// What happens to datagrams.
    pub weather: Weather,
    /// Tenants.
    pub configuration: Configuration,
    /// Challenge INVITEs.
    pub challenge: bool,
    /// Contacts that are registered from the beginning.
    pub bindings: Vec<BindingRecord>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            weather: Weather::default(),
            configuration: Configuration::demo(),
            challenge: true,
            bindings: Vec::new(),
        }
    }
}

/// A running node and its network.
pub struct World {
    /// The network, to bind peers on.
    pub net: SimNet,
    /// The proxy.
    pub proxy: Arc<Proxy>,
    /// The application server.
    pub calls: Arc<AppServer>,
    log: Arc<Log>,
    relay: Arc<Relay>,
}

impl World {
    /// Starts a node. Needs a current-thread runtime with paused time.
    pub async fn new(options: Options) -> Self {
        let net = SimNet::new(options.seed, options.weather);
        let snapshot = Snapshot::build(&options.configuration).expect("the test's configuration is right");
        let rates = Rates::new(snapshot);
        let router = Arc::new(ArcSwap::new(Arc::clone(&rates.router)));
        let log = Arc::new(Log::default());
        let start = Instant::now();
        let clock = move || i64::try_from(start.elapsed().as_micros()).unwrap_or(i64::MAX);
        let rates = Arc::new(ArcSwap::from_pointee(rates));
        let deps =
            appserver::Deps::new(rates, Arc::clone(&log) as _, Arc::new(clock), NodeId(1), options.seed);
        let calls = AppServer::start(deps, appserver::Limits { calls: 1000, ring: Duration::from_secs(30) })
            .await
            .expect("the runtime is up");
        let relay = Arc::new(Relay::default());
        let node: SocketAddr = NODE.parse().expect("an address");
        let mut config = ProxyConfig {
            listeners: vec![Listener::new(Transport::Udp, node)],
            workers: 2, // so that messages for another worker's legs are tested, too
            nat_ping: Duration::ZERO,
            ..ProxyConfig::default()
        };
        config.auth.invite = options.challenge;
        let deps = proxy::Deps {
            router,
            log: Arc::clone(&log) as _,
            bindings: options.bindings,
            network: Network::Sim(net.clone()),
            unix_time: Some(Duration::from_secs(1_800_000_000)),
            seed: Some(seed_bytes(options.seed)),
            tap: None,
        };
        let proxy = Proxy::start(config, deps).await.expect("the simulated listener opens");
        calls.connect(Arc::clone(&proxy) as _, Arc::clone(&proxy) as _, Arc::clone(&relay) as _);
        proxy.set_calls(Arc::clone(&calls) as _);
        Self { net, proxy, calls, log, relay }
    }

    /// Call records so far, oldest first.
    pub fn cdrs(&self) -> Vec<Cdr> {
        self.log.cdrs.lock().clone()
    }

    /// Calls that were noted as answered.
    pub fn answered(&self) -> usize {
        self.log.answered.lock().len()
    }

    /// What should be zero when everything has settled: transactions, legs, calls, media sessions.
    pub fn open(&self) -> (usize, usize, usize, usize) {
        let stats = self.proxy.stats();
        (stats.transactions.iter().sum(), stats.legs, self.calls.stats().calls, self.relay.0.lock().len())
    }

    /// Lets time pass until nothing is open, or `limit` is over.
    pub async fn settle(&self, limit: Duration) {
        let end = Instant::now() + limit;
        while self.open() != (0, 0, 0, 0) && Instant::now() < end {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// A seed for generators that want 32 bytes.
pub(crate) fn seed_bytes(seed: u64) -> [u8; 32] {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes
}

#[derive(Default)]
struct Log {
    cdrs: Mutex<Vec<Cdr>>,
    answered: Mutex<Vec<OpenCall>>,
}

impl CallLog for Log {
    fn began(&self, call: OpenCall, _: u32, done: Box<dyn FnOnce(bool) + Send>) {
        if call.answered_us.is_some() {
            self.answered.lock().push(call);
        }
        done(true);
    }

    fn ended(&self, cdr: Cdr, _: u32, done: Box<dyn FnOnce(bool) + Send>) {
        self.cdrs.lock().push(cdr);
        done(true);
    }
}

impl BindingLog for Log {
    fn append(&self, _: proxy::BindingChange, done: Box<dyn FnOnce(bool) + Send>) {
        done(true);
    }
}

/// A relay that passes session descriptions as they are and knows which sessions it has.
#[derive(Default)]
struct Relay(Mutex<BTreeSet<CallId>>);

impl Media for Relay {
    fn submit(
        &self,
        _: NodeId,
        call: CallId,
        _: u32,
        command: MediaCommand,
        _: Signalling,
    ) -> Option<MediaReply> {
        let mut sessions = self.0.lock();
        Some(match command {
            MediaCommand::Offer { sdp, .. } => {
                sessions.insert(call);
                MediaReply::Sdp(marked(&sdp))
            }
            MediaCommand::Answer { sdp, .. } => MediaReply::Sdp(marked(&sdp)),
            MediaCommand::Withdraw { .. } => MediaReply::Done,
            MediaCommand::Release { .. } | MediaCommand::Stop => MediaReply::Report(Vec::new()),
            MediaCommand::Close => {
                sessions.remove(&call);
                MediaReply::Report(Vec::new())
            }
        })
    }
}

/// The description with a mark, so that a test sees that it went through the relay.
fn marked(sdp: &Bytes) -> Bytes {
    let mut bytes = sdp.to_vec();
    bytes.extend_from_slice(b"a=relayed\r\n");
    bytes.into()
}
