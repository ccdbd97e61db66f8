//! Links to the other nodes of a cluster, over gRPC.
//!
//! In: items for nodes, the view of who is there. Out: what nodes say, to a [`PeerSink`]. Each link is `cluster::link` on a connection of
//! its own. Rooms: `hello` (introductions), `lane` (services), `line` (one link), `dial`, `serve`, `net` (sockets), `tls`, `figures`.

mod dial;
mod figures;
mod hello;
mod lane;
mod line;
mod net;
mod serve;
mod tls;

pub use figures::{LinkStatus, Way};
pub use hello::{PROTOCOL_MAX, PROTOCOL_MIN};
pub use net::{Accept, Connect, Io, TcpAccept, TcpConnect};
pub use tls::{NODE_NAME, Tls, TlsError};

use crate::wire::WireError;
use cluster::between::{DirectoryItem, FromRelay, ToCalls, ToLegs, ToRelay};
use cluster::ids::NodeId;
use cluster::link::{self, Lost};
use figures::Sayings;
use lane::{CallsLane, DirectoryLane, Lane, LegsLane, MediaLane, RelayLane};
use line::Lines;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Octets of the largest item. A frame that has only this item is as large, and nothing else is.
pub const ITEM_MAX: usize = 1024 * 1024;
/// Octets of the largest message that is read: a frame's items of the usual size and one that is too large for it.
const MESSAGE_MAX: usize = 2 * 1024 * 1024;
/// Links of one kind: nodes of a cluster, with room for those that left.
const LINKS_MAX: usize = 1024;

/// What a node does, as far as links depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerRoles {
    /// It has legs.
    pub proxy: bool,
    /// It serves calls.
    pub application: bool,
    /// It relays media.
    pub relay: bool,
}

impl PeerRoles {
    /// Whether it may have custody of calls: a proxy with legs, or an application server beside one that has all legs itself.
    fn has_custody(self) -> bool {
        self.proxy || self.application
    }
}

/// Another node, as the view of the cluster has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its number.
    pub node: NodeId,
    /// Its process, where known: a link without a connection to another process counts as lost at once.
    pub instance: Option<u64>,
    /// Where it listens for nodes: host and port.
    pub address: String,
    /// What it does.
    pub roles: PeerRoles,
}

/// This node, and how it deals with others.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// The id of the cluster.
    pub cluster: String,
    /// The number of this node.
    pub node: NodeId,
    /// Its name, for logs of other nodes.
    pub name: String,
    /// A random number of this process, not 0.
    pub instance: u64,
    /// The release of this program, for logs of other nodes.
    pub release: String,
    /// What this node does.
    pub roles: PeerRoles,
    /// The protocols that are spoken: [`PROTOCOL_MIN`] and [`PROTOCOL_MAX`], but for tests.
    pub protocol: (u32, u32),
    /// Certificates; `None`: no TLS, because the configuration says so.
    pub tls: Option<Tls>,
    /// How patient links are.
    pub link: link::Settings,
    /// How long a connection may take until both sides have introduced themselves.
    pub hello_within: Duration,
    /// How long to wait between two attempts to reach a node: at first, and at most.
    pub again: (Duration, Duration),
    /// How often a connection is tried by HTTP/2, and how long the answer may take.
    pub keep_alive: (Duration, Duration),
}

impl PeerConfig {
    /// The usual patience, no TLS.
    pub fn new(cluster: impl Into<String>, node: NodeId, instance: u64, roles: PeerRoles) -> PeerConfig {
        PeerConfig {
            cluster: cluster.into(),
            node,
            name: String::new(),
            instance,
            release: String::new(),
            roles,
            protocol: (PROTOCOL_MIN, PROTOCOL_MAX),
            tls: None,
            link: link::Settings::default(),
            hello_within: Duration::from_secs(3),
            again: (Duration::from_millis(50), Duration::from_secs(1)),
            // The link notices silence itself; this ends connections that have no link any more.
            keep_alive: (Duration::from_secs(5), Duration::from_secs(3)),
        }
    }
}

/// Where goes what other nodes say. Called on the link's task, for one link one call after the other: be quick. A call that panics is
/// logged, and its item is gone.
pub trait PeerSink: Send + Sync + 'static {
    /// From a custodian of calls.
    fn to_calls(&self, from: NodeId, item: ToCalls);
    /// From an application server.
    fn to_legs(&self, from: NodeId, item: ToLegs);
    /// From an application server, for our relay.
    fn to_relay(&self, from: NodeId, item: ToRelay);
    /// From a relay.
    #[expect(clippy::wrong_self_convention, reason = "named as what comes, beside `to_relay`")]
    fn from_relay(&self, from: NodeId, item: FromRelay);
    /// From any node.
    fn directory(&self, from: NodeId, item: DirectoryItem);
    /// The link is lost: what was sent by it may have arrived or not, and nothing more comes of that session.
    fn lost(&self, node: NodeId, way: Way, why: Lost);
    /// The link has a new session: items are taken from now on. Comes before any item of the session, and never twice without
    /// [`PeerSink::lost`] in between.
    fn back(&self, node: NodeId, way: Way);
}

/// Why an item is not sent. Nothing of it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no link of this kind to that node, or it has no session at the moment.
    #[error("the node is not connected")]
    NotConnected,
    /// The node does not take what it is sent; it is lost by that.
    #[error("the node does not take what it is sent")]
    Full,
    /// The item is larger than items may be.
    #[error("too large: {octets} octets, {ITEM_MAX} at most")]
    TooLarge {
        /// So many octets.
        octets: usize,
    },
    /// A part of the item is larger than it may be.
    #[error("{0}")]
    Unfit(#[from] WireError),
}

/// The links of this node. They end with it.
pub struct Peers {
    hub: Arc<Hub>,
}

/// What all links share.
pub(crate) struct Hub {
    config: PeerConfig,
    sink: Arc<dyn PeerSink>,
    connect: Arc<dyn Connect>,
    runtime: Handle,
    tasks: Mutex<JoinSet<()>>,
    /// Counts connections that were dialled: see `Hello.attempt`.
    attempts: AtomicU64,
    /// The nodes that there are besides this one, and where they listen.
    view: Mutex<BTreeMap<NodeId, String>>,
    sayings: Sayings,
    calls: Lines<CallsLane>,
    legs: Lines<LegsLane>,
    relays: Lines<RelayLane>,
    media: Lines<MediaLane>,
    directory: Lines<DirectoryLane>,
}

impl Hub {
    /// Nobody listens where a node does: none of its links is waited for any more.
    fn gone(&self, node: NodeId) {
        self.calls.gone(node);
        self.legs.gone(node);
        self.relays.gone(node);
        self.media.gone(node);
        self.directory.gone(node);
    }

    /// Runs something for as long as the node has links.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(work, &self.runtime);
    }
}

impl Peers {
    /// Serves other nodes on `listener`, and dials those that [`Peers::set_view`] names by `connect`. Needs a runtime of tokio.
    pub fn start(
        config: PeerConfig,
        listener: impl Accept,
        connect: impl Connect,
        sink: Arc<dyn PeerSink>,
    ) -> Peers {
        let hub = Arc::new(Hub {
            config,
            sink,
            connect: Arc::new(connect),
            runtime: Handle::current(),
            tasks: Mutex::new(JoinSet::new()),
            attempts: AtomicU64::new(0),
            view: Mutex::default(),
            sayings: Sayings::default(),
            calls: Lines::default(),
            legs: Lines::default(),
            relays: Lines::default(),
            media: Lines::default(),
            directory: Lines::default(),
        });
        hub.spawn(serve::serve(Arc::clone(&hub), listener));
        Peers { hub }
    }

    /// Says which nodes there are; this one may be among them. A node that was among them and is no more is lost as soon as its link has no
    /// connection, and then not dialled any more; a link that is up stays.
    pub fn set_view(&self, nodes: &[PeerAddress]) {
        let (hub, me) = (&self.hub, &self.hub.config);
        let others = || nodes.iter().filter(|other| other.node != me.node);
        let want =
            |wanted: &dyn Fn(&PeerAddress) -> bool| others().filter(|other| wanted(other)).cloned().collect();
        let custody = me.roles.has_custody();
        CallsLane::lines(hub).dial(hub, want(&|other| custody && other.roles.application));
        RelayLane::lines(hub).dial(hub, want(&|other| me.roles.application && other.roles.relay));
        DirectoryLane::lines(hub).dial(hub, want(&|other| me.node < other.node));
        let now: BTreeSet<NodeId> = others().map(|other| other.node).collect();
        let addresses = others().map(|other| (other.node, other.address.clone())).collect();
        let before = std::mem::replace(&mut *hub.view.lock(), addresses);
        for node in before.into_keys().collect::<BTreeSet<_>>().symmetric_difference(&now) {
            let has_left = !now.contains(node);
            hub.calls.left(*node, has_left);
            hub.legs.left(*node, has_left);
            hub.relays.left(*node, has_left);
            hub.media.left(*node, has_left);
            hub.directory.left(*node, has_left);
        }
        for other in others() {
            if let Some(instance) = other.instance {
                hub.calls.replaced(other.node, instance);
                hub.legs.replaced(other.node, instance);
                hub.relays.replaced(other.node, instance);
                hub.media.replaced(other.node, instance);
                hub.directory.replaced(other.node, instance);
            }
        }
    }

    /// Tells a node's application server something as a custodian of calls. Never waits.
    pub fn leg_up(&self, node: NodeId, item: ToCalls) -> Result<(), SendError> {
        self.hub.calls.send(node, item)
    }

    /// Tells a custodian of calls something as an application server. Never waits.
    pub fn leg_down(&self, node: NodeId, item: ToLegs) -> Result<(), SendError> {
        self.hub.legs.send(node, item)
    }

    /// Asks a node's relay as an application server. Never waits.
    pub fn to_relay(&self, node: NodeId, item: ToRelay) -> Result<(), SendError> {
        self.hub.relays.send(node, item)
    }

    /// Answers an application server as a relay. Never waits.
    pub fn from_relay(&self, node: NodeId, item: FromRelay) -> Result<(), SendError> {
        self.hub.media.send(node, item)
    }

    /// Tells any node something about bindings or counters. Never waits.
    pub fn directory(&self, node: NodeId, item: DirectoryItem) -> Result<(), SendError> {
        self.hub.directory.send(node, item)
    }

    /// All links, with their figures since they were made.
    pub fn links(&self) -> Vec<LinkStatus> {
        let mut all = Vec::new();
        self.hub.calls.list(&mut all);
        self.hub.legs.list(&mut all);
        self.hub.relays.list(&mut all);
        self.hub.media.list(&mut all);
        self.hub.directory.list(&mut all);
        all.sort_by_key(|link| (link.node, link.way));
        all
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.hub.tasks.lock().abort_all();
        // HTTP/2 has tasks of its own: streams that end are what ends them.
        self.hub.calls.close();
        self.hub.legs.close();
        self.hub.relays.close();
        self.hub.media.close();
        self.hub.directory.close();
    }
}
