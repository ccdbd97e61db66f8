//! Limits that are exact across nodes: who counts the calls of a tenant, and how an application server asks (two cores without I/O).
//!
//! In: what calls ask for and give back, words of other nodes, who is there and who owns what, time. Out: words to other nodes, verdicts. Rooms:
//! `keeper` (counts what belongs to the partitions that this node owns), `asker` (what this node's calls hold). Elsewhere: ownership
//! ([`crate::member`]), the shell ([`crate::switchboard`]), calls (crate `appserver`).
//!
//! Why a limit is never exceeded. An owner grants only what it owns at that moment, and only when every application server in its view has
//! told what its calls hold. Whoever has told a new owner takes no grant of an earlier one, so one that comes late is
//! void, whatever the earlier owner's clock says. A server that is not in the new owner's view is not certain of its own lease, and
//! takes no grant then either. Calls of a server that crashed count until others have had the time to carry them on and to say so. What is outside:
//! calls of a node that the cluster does not know any more go on uncounted, until it is back.

mod asker;
mod keeper;
#[cfg(test)]
mod shell;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use crate::between::{Counted, DirectoryItem, Title};
use crate::custody::OFFER_LIMIT;
use crate::ids::{CallId, NodeId};
use crate::node::{Fence, Kind, Role, View, partition_of};
use asker::Asker;
use keeper::Keeper;
use model::{Brand, Client, Id, User};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Partitions of clients and brands ([`Kind::CLIENTS`]).
pub const PARTITIONS: u16 = 256;
/// How long a call waits for the answer to what it asked. It is shorter than what remains of a lease that is given up.
pub const ANSWER_LIMIT: Duration = Duration::from_millis(1500);
/// Calls of a server that is gone count for so long after it was last seen: by then others have offered, claimed and reported them.
pub const ADOPTION: Duration = Duration::from_secs(3 + OFFER_LIMIT.as_secs());
/// What one call counts for at most.
const CLAIMS_MAX: usize = 16;
/// Calls of one message about holds.
const HOLDS_MAX: usize = 1024;

/// Something that a call wants to count for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The partition of the tenant: who is asked.
    pub partition: u16,
    /// Whose calls.
    pub counted: Counted,
    /// How many there may be, this one among them; 0: any number.
    pub limit: u32,
}

impl Claim {
    /// The calls of a brand.
    pub fn brand(brand: Id<Brand>, limit: u32) -> Self {
        Self { partition: partition(b'b', brand.get()), counted: Counted::Brand(brand), limit }
    }

    /// The calls of a client.
    pub fn client(client: Id<Client>, limit: u32) -> Self {
        Self { partition: partition(b'c', client.get()), counted: Counted::Client(client), limit }
    }

    /// The calls of a user of a client.
    pub fn user(client: Id<Client>, user: Id<User>, limit: u32) -> Self {
        Self { counted: Counted::User(user), ..Self::client(client, limit) }
    }

    /// The calls that a user of a client makes and nobody has answered.
    pub fn attempts(client: Id<Client>, user: Id<User>, limit: u32) -> Self {
        Self { counted: Counted::Attempts(user), ..Self::client(client, limit) }
    }

    /// Adds a claim to others of the same call, which counts once for each key; the stricter limit holds.
    pub fn add(claims: &mut Vec<Self>, claim: Self) {
        match claims.iter_mut().find(|other| other.counted == claim.counted) {
            Some(other) if other.limit == 0 => other.limit = claim.limit,
            Some(other) if claim.limit > 0 => other.limit = other.limit.min(claim.limit),
            Some(_) => {}
            None => claims.push(claim),
        }
    }
}

/// All nodes and releases agree about it.
fn partition(kind: u8, id: u32) -> u16 {
    let [a, b, c, d] = id.to_le_bytes();
    u16::try_from(partition_of(&[kind, a, b, c, d], PARTITIONS.into())).unwrap_or_default()
}

/// The answer to a call that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts for all that it asked for.
    Granted,
    /// It counts for nothing of it: there are as many as there may be of this.
    Full(Counted),
    /// It counts for nothing of it: whoever counts cannot be asked in time.
    Unknown,
}

/// Whoever counts calls, as an application server sees it.
pub trait Limits: Send + Sync + 'static {
    /// May the call count for all of these? `None`: the answer comes to [`crate::switchboard::CallServer::reserved`] under this number. Each thing is
    /// claimed once for a call ([`Claim::add`]).
    fn reserve(&self, title: Title, number: u32, claims: &[Claim]) -> Option<Verdict>;
    /// The call, which counts for these already, goes on at this server by this title.
    fn adopt(&self, title: Title, claims: &[Claim]);
    /// It counts for these no more, or does not want to know any more whether it may.
    fn release(&self, call: CallId, claims: &[Claim]);
    /// It goes on at another server, which will say so.
    fn let_go(&self, call: CallId, claims: &[Claim]) {
        self.release(call, claims);
    }
}

/// What is certain at this very moment, by the clock.
pub trait Lease: Send + Sync + 'static {
    /// The fence of a partition that this node owns ([`Kind::CLIENTS`]).
    fn owned(&self, partition: u16) -> Option<Fence>;
    /// While this node is a member and sure of it: a number that is another after each time that the cluster may have forgotten it.
    fn certain(&self) -> Option<u64>;
}

/// What a core wants done.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Tell another node.
    Tell(NodeId, DirectoryItem),
    /// A call of this node has its answer.
    Verdict(CallId, u32, Verdict),
}

/// Whether an item of the directory is for the counters.
pub(crate) fn is_about_counters(item: &DirectoryItem) -> bool {
    matches!(
        item,
        DirectoryItem::Reserve { .. }
            | DirectoryItem::Reserved { .. }
            | DirectoryItem::Release { .. }
            | DirectoryItem::Recount { .. }
            | DirectoryItem::Holds { .. }
    )
}

/// Mistakes that simulations must find.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An owner grants before others have told what their calls hold.
    DoesNotWait,
    /// A new owner does not listen to what others' calls hold.
    ForgetsHolds,
    /// Grants of earlier owners are taken however late they come.
    TakesLateGrants,
}

/// The counters of a node: what it keeps for all, and what its own calls hold.
#[derive(Debug)]
pub(crate) struct Counters {
    me: NodeId,
    keeper: Keeper,
    asker: Asker,
    actions: VecDeque<Action>,
}

impl Counters {
    /// Of a node that owns nothing and has no calls; `instance` is the number of its process ([`crate::node::NodeInfo`]).
    pub(crate) fn new(me: NodeId, instance: u64) -> Self {
        Self { me, keeper: Keeper::default(), asker: Asker::new(instance), actions: VecDeque::new() }
    }

    /// Makes a mistake on purpose from now on.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn make_fault(&mut self, fault: Fault) {
        self.keeper.fault = Some(fault);
        self.asker.fault = Some(fault);
    }

    /// Who is there, and what this node owns: `owned` was looked at before `view`.
    pub(crate) fn changed(
        &mut self,
        owned: &BTreeMap<(Kind, u32), Fence>,
        view: &View,
        lease: &dyn Lease,
        now: Instant,
    ) {
        let servers = view.with_role(Role::As).map(|node| (node.id, (node.instance, node.draining)));
        let owned = owned.iter().filter(|((kind, _), _)| *kind == Kind::CLIENTS);
        let owned = owned.filter_map(|((_, key), fence)| Some((u16::try_from(*key).ok()?, *fence)));
        self.asker.view(view);
        self.keeper.changed(owned.collect(), servers.collect(), now);
        self.exchange(lease, now);
    }

    /// A node is out of reach.
    pub(crate) fn lost(&mut self, node: NodeId, now: Instant) {
        self.keeper.lost(node, now);
    }

    /// A node can be reached (again); what was said before may be lost.
    pub(crate) fn back(&mut self, node: NodeId, lease: &dyn Lease, now: Instant) {
        self.keeper.back(node);
        self.exchange(lease, now);
    }

    /// Another node speaks.
    pub(crate) fn told(&mut self, from: NodeId, item: DirectoryItem, lease: &dyn Lease, now: Instant) {
        self.hear(from, item, lease, now);
        self.exchange(lease, now);
    }

    /// As [`Limits::reserve`]; the answer may be among the actions.
    pub(crate) fn reserve(
        &mut self,
        title: Title,
        number: u32,
        claims: &[Claim],
        lease: &dyn Lease,
        now: Instant,
    ) {
        self.asker.reserve(title, number, claims, lease.certain(), now);
        self.exchange(lease, now);
    }

    /// As [`Limits::adopt`].
    pub(crate) fn adopt(&mut self, title: Title, claims: &[Claim], lease: &dyn Lease, now: Instant) {
        self.asker.adopt(title, claims);
        self.exchange(lease, now);
    }

    /// As [`Limits::release`].
    pub(crate) fn release(&mut self, call: CallId, claims: &[Claim], lease: &dyn Lease, now: Instant) {
        self.asker.release(call, claims);
        self.exchange(lease, now);
    }

    /// As [`Limits::let_go`].
    pub(crate) fn let_go(&mut self, call: CallId, claims: &[Claim], now: Instant) {
        self.asker.let_go(call, claims, now);
    }

    /// Does what has become due.
    pub(crate) fn handle_timeout(&mut self, lease: &dyn Lease, now: Instant) {
        self.asker.handle_timeout(now);
        self.keeper.handle_timeout(lease, now);
        self.exchange(lease, now);
    }

    /// When [`Counters::handle_timeout`] is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.asker.poll_timeout(), self.keeper.poll_timeout()].into_iter().flatten().min()
    }

    /// What to do next.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn hear(&mut self, from: NodeId, item: DirectoryItem, lease: &dyn Lease, now: Instant) {
        match item {
            DirectoryItem::Reserve { ticket, partition, call, epoch, mut counts } => {
                counts.truncate(CLAIMS_MAX);
                let asked = keeper::Asked { from, ticket, title: Title { call, epoch }, counts };
                self.keeper.reserve(partition, asked, lease, now);
            }
            DirectoryItem::Release { partition, call, counts } => {
                self.keeper.release(from, partition, call, &counts);
            }
            DirectoryItem::Holds { partition, fence, instance, calls, complete } => {
                let told = keeper::Told { from, instance, fence: Fence(fence), calls, complete };
                self.keeper.holds(partition, told, lease, now);
            }
            DirectoryItem::Recount { partition, fence } => self.asker.recount(from, partition, Fence(fence)),
            DirectoryItem::Reserved { ticket, full, fence } => {
                self.asker.reserved(from, ticket, full, Fence(fence), lease.certain());
            }
            DirectoryItem::Whole
            | DirectoryItem::WholeTold
            | DirectoryItem::Bound(_)
            | DirectoryItem::Orphan(_)
            | DirectoryItem::Unbound { .. }
            | DirectoryItem::Forget { .. }
            | DirectoryItem::Ask { .. }
            | DirectoryItem::Answer { .. } => {}
        }
    }

    /// Carries what the halves of this node say to each other, until there is only what others shall hear.
    fn exchange(&mut self, lease: &dyn Lease, now: Instant) {
        while let Some(action) = self.keeper.poll_action().or_else(|| self.asker.poll_action()) {
            match action {
                Action::Tell(node, item) if node == self.me => self.hear(node, item, lease, now),
                action => self.actions.push_back(action),
            }
        }
    }
}
