//! Limits, looked at from everywhere at once: no call is granted a place that is not there, whoever counts and whoever asks.
//!
//! In: verdicts that calls get, what they give back, processes that die, nodes that etcd knows. Out: complaints; what is certain of a process,
//! for its counters. Elsewhere: who counts (`cluster::counters`), what telephones see (`verdict`).
//!
//! Not held against the platform, as ARCHITECTURE.md says it: a call whose server the cluster has forgotten is counted by nobody until it is
//! back; calls of a server that crashed count for six seconds more; what has no limit of its own (a user's own calls) is never refused.

use crate::Time;
use crate::watch::Watcher;
use crate::world::RATES;
use appserver::AppServer;
use cluster::between::{Counted, Title, ToCalls};
use cluster::counters::{ADOPTION, Claim, Lease, Limits, Verdict};
use cluster::ids::{CallId, NodeId};
use cluster::media::{MediaEvent, MediaReply, MediaSink};
use cluster::member::Member;
use cluster::node::{Fence, Kind};
use cluster::switchboard::{CallServer, Switchboard};
use model::{Brand, Client};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Weak};
use tokio::time::Instant;

/// The partitions that tenants belong to, of all that there are.
pub(crate) fn in_use() -> &'static BTreeSet<u32> {
    static IN_USE: LazyLock<BTreeSet<u32>> = LazyLock::new(|| {
        let rows = RATES.snapshot().rows();
        let clients = rows.each::<Client>().map(|client| Claim::client(client.id, 0));
        let brands = rows.each::<Brand>().map(|brand| Claim::brand(brand.id, 0));
        clients.chain(brands).map(|claim| claim.partition.into()).collect()
    });
    &IN_USE
}

/// A process of a node.
type Who = (NodeId, u64);

/// What calls count for, by the verdicts that they got.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    now: Time,
    /// Nodes that etcd knows.
    known: BTreeSet<NodeId>,
    holds: BTreeMap<(Counted, CallId), Hold>,
    granted: u64,
    full: u64,
}

/// A call that counts for something.
#[derive(Debug, Default)]
struct Hold {
    /// Where, and in which epoch.
    at: BTreeMap<Who, u32>,
    /// Nobody has it, and it counts until then.
    until: Option<Time>,
    /// It need not be counted any more.
    is_excused: bool,
}

impl Hold {
    fn counts(&self, now: Time) -> bool {
        !self.is_excused && (!self.at.is_empty() || self.until.is_some_and(|until| now < until))
    }

    /// Nobody has it any more, but somebody will carry it on.
    fn left(&mut self, now: Time) {
        if self.at.is_empty() {
            self.until = Some(now + ADOPTION.as_micros() as Time);
        }
    }
}

impl Ledger {
    pub(crate) fn set_now(&self, now: Time) {
        self.0.lock().now = now;
    }

    /// Nodes that etcd knows now. A call at nobody but such that it has forgotten is counted by nobody.
    pub(crate) fn known(&self, known: BTreeSet<NodeId>) {
        let mut state = self.0.lock();
        if state.known == known {
            return;
        }
        for hold in state.holds.values_mut() {
            hold.is_excused |= !hold.at.is_empty() && hold.at.keys().all(|(node, _)| !known.contains(node));
        }
        state.known = known;
    }

    /// A process is no more.
    pub(crate) fn died(&self, who: Who, now: Time) {
        for hold in self.0.lock().holds.values_mut() {
            if hold.at.remove(&who).is_some() {
                hold.left(now);
            }
        }
    }

    /// Places that calls got, and that they did not get.
    pub(crate) fn verdicts(&self) -> (u64, u64) {
        let state = self.0.lock();
        (state.granted, state.full)
    }

    /// Gives what is wrong with it.
    fn granted(&self, who: Who, title: Title, claims: &[Claim]) -> Option<String> {
        let mut state = self.0.lock();
        let now = state.now;
        state.holds.retain(|_, hold| !hold.at.is_empty() || hold.until.is_some_and(|until| now < until));
        let is_known = state.known.contains(&who.0);
        let mut wrong = None;
        for claim in claims.iter().filter(|claim| claim.limit > 0) {
            state.granted += 1;
            let others =
                |(key, _): &(&(Counted, CallId), &Hold)| key.0 == claim.counted && key.1 != title.call;
            let counting = state.holds.iter().filter(others).filter(|(_, hold)| hold.counts(now));
            let counting: Vec<String> =
                counting.map(|((_, call), hold)| format!("{call} {hold:?}")).collect();
            if is_known && counting.len() >= claim.limit as usize {
                wrong = Some(format!(
                    "{} gets a place at {who:?} for {:?} of {}, and there are {counting:?}",
                    title.call, claim.counted, claim.limit
                ));
            }
            let hold = state.holds.entry((claim.counted, title.call)).or_default();
            hold.at.insert(who, title.epoch);
            hold.is_excused |= !is_known;
        }
        wrong
    }

    fn refused(&self) {
        self.0.lock().full += 1;
    }

    /// A call goes on there; it counts there alone from now on.
    fn adopted(&self, who: Who, title: Title, claims: &[Claim]) {
        let mut state = self.0.lock();
        for claim in claims {
            // What was never limited, or was given up for lost, is not held against anybody.
            if let Some(hold) = state.holds.get_mut(&(claim.counted, title.call)) {
                hold.at.retain(|_, epoch| *epoch >= title.epoch);
                hold.at.insert(who, title.epoch);
                hold.until = None;
            }
        }
    }

    fn released(&self, who: Who, call: CallId, claims: &[Claim], goes_on: bool) {
        let mut state = self.0.lock();
        let now = state.now;
        for claim in claims {
            let key = (claim.counted, call);
            let Some(hold) = state.holds.get_mut(&key) else { continue };
            let was_there = hold.at.remove(&who).is_some();
            if goes_on && was_there {
                hold.left(now);
            } else if was_there && hold.at.is_empty() {
                state.holds.remove(&key);
            }
        }
    }
}

/// Questions without an answer.
type Asked = BTreeMap<(CallId, u32), (Title, Vec<Claim>)>;

/// Whom the calls of a process ask, looked at.
pub(crate) struct Counting {
    board: Weak<Switchboard>,
    watcher: Arc<Watcher>,
    who: Who,
    asked: Mutex<Asked>,
}

impl Counting {
    pub(crate) fn new(board: &Arc<Switchboard>, watcher: Arc<Watcher>, who: Who) -> Self {
        Self { board: Arc::downgrade(board), watcher, who, asked: Mutex::default() }
    }

    fn decided(&self, title: Title, claims: &[Claim], verdict: Verdict) {
        match verdict {
            Verdict::Granted => {
                if let Some(wrong) = self.watcher.ledger.granted(self.who, title, claims) {
                    self.watcher.complain(true, wrong);
                }
            }
            Verdict::Full(_) => self.watcher.ledger.refused(),
            Verdict::Unknown => {}
        }
    }

    fn gave_back(&self, call: CallId, claims: &[Claim], goes_on: bool) {
        self.asked.lock().retain(|(asked, _), (_, wanted)| {
            *asked != call
                || !wanted.iter().any(|own| claims.iter().any(|given| given.counted == own.counted))
        });
        self.watcher.ledger.released(self.who, call, claims, goes_on);
    }
}

impl Limits for Counting {
    fn reserve(&self, title: Title, number: u32, claims: &[Claim]) -> Option<Verdict> {
        let verdict = self.board.upgrade()?.reserve(title, number, claims);
        match verdict {
            Some(verdict) => self.decided(title, claims, verdict),
            None => drop(self.asked.lock().insert((title.call, number), (title, claims.to_vec()))),
        }
        verdict
    }

    fn adopt(&self, title: Title, claims: &[Claim]) {
        self.watcher.ledger.adopted(self.who, title, claims);
        if let Some(board) = self.board.upgrade() {
            board.adopt(title, claims);
        }
    }

    fn release(&self, call: CallId, claims: &[Claim]) {
        self.gave_back(call, claims, false);
        if let Some(board) = self.board.upgrade() {
            board.release(call, claims);
        }
    }

    fn let_go(&self, call: CallId, claims: &[Claim]) {
        self.gave_back(call, claims, true);
        if let Some(board) = self.board.upgrade() {
            Limits::let_go(&*board, call, claims);
        }
    }
}

/// The application server of a process, its verdicts looked at.
pub(crate) struct Server {
    server: Arc<AppServer>,
    counting: Arc<Counting>,
}

impl Server {
    pub(crate) fn new(server: Arc<AppServer>, counting: Arc<Counting>) -> Self {
        Self { server, counting }
    }
}

impl MediaSink for Server {
    fn reply(&self, call: CallId, ticket: u32, reply: MediaReply) {
        self.server.reply(call, ticket, reply);
    }

    fn event(&self, call: CallId, event: MediaEvent) {
        MediaSink::event(&*self.server, call, event);
    }
}

impl CallServer for Server {
    fn told(&self, from: NodeId, message: ToCalls) {
        self.server.told(from, message);
    }

    fn proxy_lost(&self, proxy: NodeId) {
        self.server.proxy_lost(proxy);
    }

    fn proxy_gone(&self, proxy: NodeId) {
        self.server.proxy_gone(proxy);
    }

    fn proxy_left(&self, proxy: NodeId) {
        self.server.proxy_left(proxy);
    }

    fn proxy_back(&self, proxy: NodeId) {
        self.server.proxy_back(proxy);
    }

    fn relay_lost(&self, relay: NodeId) {
        self.server.relay_lost(relay);
    }

    fn relay_back(&self, relay: NodeId) {
        self.server.relay_back(relay);
    }

    fn relay_leaves(&self, relay: NodeId) {
        self.server.relay_leaves(relay);
    }

    fn reserved(&self, call: CallId, number: u32, verdict: Verdict) {
        let asked = self.counting.asked.lock().remove(&(call, number));
        if let Some((title, claims)) = asked {
            self.counting.decided(title, &claims, verdict);
        }
        self.server.reserved(call, number, verdict);
    }
}

/// What is certain of a process: see `mesh::etcd::Membership`.
#[derive(Debug, Default)]
pub(crate) struct Sure(Mutex<Certain>);

#[derive(Debug, Default)]
struct Certain {
    until: Option<Instant>,
    lease: Option<i64>,
    owned: BTreeMap<u32, Fence>,
}

impl Sure {
    /// Reads the member anew.
    pub(crate) fn show(&self, member: &Member, is_owned_new: bool) {
        let mut certain = self.0.lock();
        certain.until = member.sure_until().map(Instant::from_std);
        certain.lease = member.lease();
        if is_owned_new {
            let owned = member.owns().iter().filter(|((kind, _), _)| *kind == Kind::CLIENTS);
            certain.owned = owned.map(|((_, key), fence)| (*key, *fence)).collect();
        }
    }
}

impl Lease for Sure {
    fn owned(&self, partition: u16) -> Option<Fence> {
        let certain = self.0.lock();
        let is_sure = certain.until.is_some_and(|until| Instant::now() < until);
        certain.owned.get(&u32::from(partition)).copied().filter(|_| is_sure)
    }

    fn certain(&self) -> Option<u64> {
        let certain = self.0.lock();
        certain
            .lease
            .filter(|_| certain.until.is_some_and(|until| Instant::now() < until))
            .map(i64::cast_unsigned)
    }
}
