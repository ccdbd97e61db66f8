//! Membership and ownership through etcd: the shell around [`cluster::member`], and what the rest of the program holds of it.
//!
//! In: settings, what the node says of itself, wishes. Out: views, what is owned. Rooms: `settings` (how etcd is reached), `driver` (the
//! task that feeds the core), `wire` (requests over gRPC). A node without etcd has the same handle ([`Membership::alone`]).

mod driver;
mod settings;
mod wire;

use cluster::ids::NodeId;
use cluster::member;
use cluster::node::{Fence, Kind, NodeInfo, Role, View};
use driver::{Driver, Order};
use parking_lot::RwLock;
pub use settings::{EtcdSettings, Password};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

/// How long a node waits for its lease to be revoked when it does not come in.
const LEAVE: Duration = Duration::from_secs(4);

/// Why a node did not join; nothing of it is left in etcd.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// A setting is of no use.
    #[error("{setting} = {value:?}: {remedy}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What it says.
        value: String,
        /// What is wrong with it, and what to do.
        remedy: String,
    },
    /// The cluster does not let it in.
    #[error(transparent)]
    Refused(#[from] member::JoinError),
    /// etcd did not answer in time.
    #[error(
        "cluster.etcd = {endpoints:?}: none of them let the node join within {seconds} s ({why}); check that etcd runs, has a leader, and can be reached from here with these certificates"
    )]
    Unreachable {
        /// Where it was looked for.
        endpoints: Vec<String>,
        /// How long.
        seconds: u64,
        /// What was heard last.
        why: String,
    },
}

/// How a node stands to its cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// Not yet in.
    Joining,
    /// In, and its lease is certain.
    Joined(NodeId),
    /// Whether its lease stands is not known: it owns nothing, keeps its calls, and routes by its last view.
    LostLease,
    /// It lost its lease and is not let in again; it goes on asking.
    Refused(member::JoinError),
    /// Another process with this node's data directory has taken its number: this one must end.
    Superseded,
    /// It has left.
    Left,
}

/// Everything that is owned, by kind and key.
pub type Owned = Arc<BTreeMap<(Kind, u32), Fence>>;

/// What is certain, and until when. All of it is of one lease, so it changes together.
#[derive(Debug, Default)]
struct Sure {
    until: Option<Instant>,
    owned: Owned,
    /// Under which the node is a member.
    lease: Option<i64>,
}

/// What the driver tells and everybody reads.
#[derive(Debug)]
struct Board {
    sure: RwLock<Sure>,
    owned_told: watch::Sender<Owned>,
    view: watch::Sender<Arc<View>>,
    standing: watch::Sender<Standing>,
    /// What etcd said last where it did not do what it was asked for.
    trouble: watch::Sender<String>,
}

/// A node's place in its cluster. Cheap to clone; when the last one is dropped the node leaves.
#[derive(Clone, Debug)]
pub struct Membership {
    board: Arc<Board>,
    id: NodeId,
    orders: Option<mpsc::UnboundedSender<Order>>,
}

impl Membership {
    /// Joins the cluster: the node has its number, its lease is kept alive, and its view is that of the others.
    ///
    /// # Errors
    ///
    /// Settings are of no use, etcd cannot be reached within `settings.patience`, or the cluster does not let the node in. Then the lease
    /// and the number are given back.
    pub async fn join(settings: EtcdSettings, info: NodeInfo) -> Result<Self, JoinError> {
        let connector = settings.connector()?;
        let (endpoints, patience) = (settings.endpoints.clone(), settings.patience);
        let board = Arc::new(Board::new(View::default(), Standing::Joining));
        let (orders, received) = mpsc::unbounded_channel();
        let (joining, joined) = oneshot::channel();
        let driver = Driver::new(settings.member(), info, connector, Arc::clone(&board), received, joining);
        tokio::spawn(driver.run());
        let error = match timeout(patience, joined).await {
            Ok(Ok(Ok(id))) => return Ok(Self { board, id, orders: Some(orders) }),
            Ok(Ok(Err(error))) => JoinError::Refused(error),
            Ok(Err(_)) | Err(_) => {
                let why = board.trouble.borrow().clone();
                let why = if why.is_empty() { "no answer".to_owned() } else { why };
                JoinError::Unreachable { endpoints, seconds: patience.as_secs(), why }
            }
        };
        let _ = orders.send(Order::Leave);
        let mut standing = board.standing.subscribe();
        let left = standing.wait_for(|standing| *standing == Standing::Left);
        let _ = timeout(LEAVE, left).await;
        Err(error)
    }

    /// A node that stands alone: it is all there is, and owns everything that it wishes. Its fence is 0.
    pub fn alone(info: NodeInfo) -> Self {
        let id = info.id;
        let view = View { nodes: BTreeMap::from([(id, Arc::new(info))]), ..View::default() };
        Self { board: Arc::new(Board::new(view, Standing::Joined(id))), id, orders: None }
    }

    /// The node's number.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Whether there are no other nodes, and never will be.
    pub fn is_alone(&self) -> bool {
        self.orders.is_none()
    }

    /// Who is there and who owns what, as last known.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.board.view.borrow())
    }

    /// The views as they change.
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.board.view.subscribe()
    }

    /// How the node stands to its cluster, as it changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.board.standing.subscribe()
    }

    /// The fence of what this node owns at this moment. `None`: it does not, or cannot be sure of it; then it must not act as the owner.
    pub fn owned(&self, kind: Kind, key: u32) -> Option<Fence> {
        if self.is_alone() {
            return Some(Fence(0));
        }
        let sure = self.board.sure.read();
        sure.until
            .is_some_and(|until| Instant::now() < until)
            .then(|| sure.owned.get(&(kind, key)).copied())
            .flatten()
    }

    /// While this node is a member at this moment, and sure of it: a number that is another after each time that the cluster may have forgotten
    /// the node.
    pub fn certain(&self) -> Option<u64> {
        if self.is_alone() {
            return Some(0);
        }
        let sure = self.board.sure.read();
        sure.lease.filter(|_| sure.until.is_some_and(|until| Instant::now() < until)).map(i64::cast_unsigned)
    }

    /// What the node owns, as it changes: for whoever begins or ends something then. Before each act [`Membership::owned`] is to be asked.
    pub fn ownership(&self) -> watch::Receiver<Owned> {
        self.board.owned_told.subscribe()
    }

    /// Wishes to own these keys of a kind, instead of those wished before. What is free is claimed.
    pub fn wish(&self, kind: Kind, keys: BTreeSet<u32>) {
        match &self.orders {
            Some(_) => self.order(Order::Wish(kind, keys)),
            None => self.own_alone(kind, keys),
        }
    }

    /// Wishes its share of `count` partitions of a kind, among nodes of a role, from now on
    /// (see [`cluster::node::partitions`]).
    pub fn share(&self, kind: Kind, count: u32, role: Role) {
        match &self.orders {
            Some(_) => self.order(Order::Share(kind, count, role)),
            None => self.own_alone(kind, (0..count).collect()),
        }
    }

    /// Tells all nodes whether anything new may come here.
    pub fn set_draining(&self, draining: bool) {
        match &self.orders {
            Some(_) => self.order(Order::Draining(draining)),
            None => self.change_alone(|info| info.draining = draining),
        }
    }

    /// Tells all nodes how many calls are here; they hear of it within a second or two.
    pub fn set_load(&self, calls: u32) {
        match &self.orders {
            Some(_) => self.order(Order::Load(calls)),
            None => self.change_alone(|info| info.calls = calls),
        }
    }

    /// Gives up everything and leaves: the others see it at once. After some seconds it is over even if etcd does not answer; then
    /// the lease ends by itself.
    pub async fn leave(&self) {
        if self.is_alone() {
            self.board.standing.send_replace(Standing::Left);
            return;
        }
        self.order(Order::Leave);
        let mut standing = self.board.standing.subscribe();
        let _ = timeout(LEAVE, standing.wait_for(|standing| *standing == Standing::Left)).await;
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // Fails when the node has left: then there is nothing to do.
            let _ = orders.send(order);
        }
    }

    fn own_alone(&self, kind: Kind, keys: BTreeSet<u32>) {
        self.board.owned_told.send_modify(|owned| {
            let mut all = BTreeMap::clone(owned);
            all.retain(|(of, _), _| *of != kind);
            all.extend(keys.into_iter().map(|key| ((kind, key), Fence(0))));
            *owned = Arc::new(all);
        });
    }

    fn change_alone(&self, change: impl FnOnce(&mut NodeInfo)) {
        self.board.view.send_modify(|view| {
            let mut new = View::clone(view);
            new.nodes.values_mut().for_each(|info| *info = Arc::new(NodeInfo::clone(info)));
            if let Some(info) = new.nodes.values_mut().next().and_then(Arc::get_mut) {
                change(info);
            }
            *view = Arc::new(new);
        });
    }
}

impl Board {
    fn new(view: View, standing: Standing) -> Self {
        Self {
            sure: RwLock::default(),
            owned_told: watch::Sender::new(Owned::default()),
            view: watch::Sender::new(Arc::new(view)),
            standing: watch::Sender::new(standing),
            trouble: watch::Sender::new(String::new()),
        }
    }
}
