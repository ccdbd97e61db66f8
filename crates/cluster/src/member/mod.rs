//! A node's membership: its number, its lease, its view of all others, and what it owns (a core).
//!
//! In: answers of etcd, wishes, `now`. Out: requests to etcd, events, one deadline: after each `handle_*` and each change drain
//! [`Member::poll_request`] and [`Member::poll_event`], then read [`Member::poll_timeout`]. Rooms: `join` (numbers, marker, refusals),
//! `own` (claims), `records` (what stands in etcd). Elsewhere: who carries the requests (crate `mesh`).
//!
//! The lease is believed in for four fifths of its time, counted from when the last answered request for it was *sent*: etcd began to
//! count later, and clocks may run a fifth faster or slower. From then on nothing is owned, whatever etcd does; if
//! an answer says later that the lease never ended, what was owned is owned again. A fence guards what a process that
//! stood still does before it looks at its clock.

mod join;
mod own;
mod records;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use crate::etcd::{Compare, Failure, Op, Request, Response, Ticket, Txn, WatchUpdate};
use crate::ids::NodeId;
use crate::node::{Fence, Kind, NodeInfo, Role, View};
pub use join::JoinError;
use own::Claims;
use records::{Keys, Records};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a member tells of itself at most this often.
const TELL: Duration = Duration::from_secs(1);
/// A node that was a member and is refused asks again after this.
const REFUSED: Duration = Duration::from_secs(5);
/// How long leaving may take.
const LEAVE: Duration = Duration::from_secs(3);
/// No lease is believed in for longer, whatever etcd says.
const LEASE_MAX: i64 = 3600;

/// What a member must know before it joins.
#[derive(Clone, Debug)]
pub struct MemberSettings {
    /// Where everything of the cluster stands in etcd (`cluster.prefix`).
    pub prefix: String,
    /// How soon others notice that the node is gone (`cluster.lease_seconds`).
    pub lease_seconds: u32,
    /// The node's number (`node.id`); `None`: a free one.
    pub id: Option<NodeId>,
    /// The cluster that the node's database belongs to.
    pub cluster: u128,
    /// The largest fence that came with a durable write so far: where etcd is new, fences begin above it.
    pub fences_from: u64,
}

impl MemberSettings {
    /// For a node of this number (`None`: a free one) in the cluster that its database belongs to.
    pub fn new(prefix: impl Into<String>, lease_seconds: u32, id: Option<NodeId>, cluster: u128) -> Self {
        Self { prefix: prefix.into(), lease_seconds, id, cluster, fences_from: 0 }
    }
}

/// Mistakes that simulations must find.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The lease is believed in from when the answer arrived, and to its end.
    CountsFromTheAnswer,
    /// What is given up is owned until the watch says that it is gone.
    OwnsWhatItGaveUp,
    /// Whoever is proposed acts without a claim.
    ActsOnProposals,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The node is a member and its lease is certain; also after [`Event::LostLease`].
    Joined(NodeId),
    /// Whether the lease still stands is not known, or it has ended. Nothing is owned; the node goes on trying.
    LostLease,
    /// Others came, changed or went; owners changed.
    View(Arc<View>),
    /// The node owns this from now on.
    Gained(Kind, u32, Fence),
    /// It does so no more.
    Lost(Kind, u32, Fence),
    /// It may not join. At the start that is the end; a node that was a member asks again.
    Refused(JoinError),
    /// Another process with the same identity has taken the number over: the end of this one.
    Superseded,
    /// It has left: nothing of it stands in etcd, as far as etcd could be told.
    Left,
}

/// The membership of this process.
#[derive(Debug)]
pub struct Member {
    settings: MemberSettings,
    keys: Keys,
    info: NodeInfo,
    phase: Phase,
    was_member: bool,
    lease: Option<Lease>,
    /// What was told of the lease.
    is_certain: bool,
    follower: Follower,
    records: Records,
    view: Arc<View>,
    claims: Claims,
    /// The own record is being written, and when it may be again.
    telling: Option<Ticket>,
    tell_at: Instant,
    next_ticket: u64,
    asked: BTreeMap<Ticket, Asked>,
    requests: VecDeque<(Ticket, Request)>,
    events: VecDeque<Event>,
    wake: Option<(Instant, &'static str)>,
    #[cfg(any(test, feature = "testing"))]
    fault: Option<Fault>,
}

/// How far the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not a member; it may try from then on, once everything was read anew.
    Out { at: Instant },
    /// Waits for the answer to a step of joining.
    Asking(Ticket),
    /// The number is claimed; the watch has to show it.
    Claimed { id: NodeId, revision: u64 },
    /// A member.
    In { id: NodeId },
    /// The lease is being revoked.
    Leaving { until: Instant },
    /// Nothing more happens.
    Over,
}

#[derive(Debug)]
struct Lease {
    id: i64,
    /// How long it lives.
    life: Duration,
    /// Believed in until then.
    until: Instant,
    /// To be kept alive then.
    next: Instant,
    is_asked: bool,
}

/// How the records are kept up to date.
#[derive(Debug)]
struct Follower {
    state: Follow,
    /// Read since the node last began to join.
    is_fresh: bool,
    pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follow {
    /// Everything is to be read then.
    Read {
        at: Instant,
    },
    Reading(Ticket),
    /// The watch is to begin then.
    Watch {
        at: Instant,
    },
    Watching(Ticket),
}

#[derive(Debug)]
struct Asked {
    what: What,
    sent: Instant,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Read,
    Mark,
    Grant,
    Number(NodeId),
    KeepAlive(i64),
    Revoke,
    Tell,
    Claim((Kind, u32)),
    GiveUp((Kind, u32)),
}

/// Pauses between tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

impl Member {
    /// A node that begins to join.
    pub fn new(settings: MemberSettings, mut info: NodeInfo, now: Instant) -> Self {
        info.id = settings.id.unwrap_or(NodeId(0));
        let mut member = Self {
            keys: Keys::new(&settings.prefix),
            settings,
            info,
            phase: Phase::Out { at: now },
            was_member: false,
            lease: None,
            is_certain: false,
            follower: Follower { state: Follow::Read { at: now }, is_fresh: false, pause: PAUSES.0 },
            records: Records::default(),
            view: Arc::default(),
            claims: Claims::default(),
            telling: None,
            tell_at: now,
            next_ticket: 0,
            asked: BTreeMap::new(),
            requests: VecDeque::new(),
            events: VecDeque::new(),
            wake: None,
            #[cfg(any(test, feature = "testing"))]
            fault: None,
        };
        member.step(now);
        member
    }

    /// Makes a mistake from now on, so that simulations can show that they find it.
    #[cfg(any(test, feature = "testing"))]
    pub fn make_mistake(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    /// What is known of all nodes and owners. Without etcd it is the last that was known.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// What the node says of itself.
    pub fn info(&self) -> &NodeInfo {
        &self.info
    }

    /// The fence of what the node owns at this moment; `None`: it does not, or cannot be sure.
    pub fn owned(&self, kind: Kind, key: u32, now: Instant) -> Option<Fence> {
        self.owns().get(&(kind, key)).copied().filter(|_| self.sure_until().is_some_and(|until| now < until))
    }

    /// Everything that the node owns until [`Member::sure_until`].
    pub fn owns(&self) -> &BTreeMap<(Kind, u32), Fence> {
        &self.claims.told
    }

    /// When ownership ends unless the lease is renewed; `None`: nothing is owned.
    pub fn sure_until(&self) -> Option<Instant> {
        self.lease.as_ref().map(|lease| lease.until)
    }

    /// The lease under which the node is a member; with another one the cluster may have forgotten it in between.
    pub fn lease(&self) -> Option<i64> {
        let is_member = matches!(self.phase, Phase::In { .. });
        self.lease.as_ref().map(|lease| lease.id).filter(|_| is_member)
    }

    /// Which keys of a kind the node wishes to own; they take the place of earlier wishes of the kind. What is free is claimed, what is no
    /// longer wished is given up.
    pub fn wish(&mut self, kind: Kind, keys: BTreeSet<u32>, now: Instant) {
        self.claims.shares.remove(&kind);
        self.claims.wishes.insert(kind, keys);
        self.step(now);
    }

    /// Wishes its share of `count` partitions of a kind, as [`crate::node::partitions`] proposes them, from now on with each
    /// change of the view.
    pub fn share(&mut self, kind: Kind, count: u32, role: Role, now: Instant) {
        self.claims.shares.insert(kind, (count, role));
        self.claims.shared = None;
        self.step(now);
    }

    /// Tells the others whether anything new may come here.
    pub fn set_draining(&mut self, draining: bool, now: Instant) {
        self.info.draining = draining;
        self.step(now);
    }

    /// Tells the others how many calls are here, at most once a second.
    pub fn set_load(&mut self, calls: u32, now: Instant) {
        self.info.calls = calls;
        self.step(now);
    }

    /// Gives up everything and revokes the lease; [`Event::Left`] is the end.
    pub fn leave(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Over | Phase::Leaving { .. }) {
            self.begin_to_leave(now);
            self.step(now);
        }
    }

    /// The answer to a request.
    pub fn handle_answer(&mut self, ticket: Ticket, answer: Result<Response, Failure>, now: Instant) {
        let Some(asked) = self.asked.remove(&ticket) else { return };
        if let (Err(Failure::LeaseGone), Some(lease)) = (&answer, &mut self.lease) {
            // Perhaps an earlier one; the next keep-alive knows.
            lease.next = now;
        }
        match asked.what {
            What::Read => self.on_read(ticket, answer, now),
            What::Mark | What::Number(_) => self.on_join_step(ticket, asked.what, answer, now),
            What::Grant => self.on_granted(ticket, answer, asked.sent, now),
            What::KeepAlive(lease) => self.on_alive(lease, answer, asked.sent, now),
            What::Revoke => {}
            What::Tell => self.telling = self.telling.filter(|telling| *telling != ticket),
            What::Claim(place) | What::GiveUp(place) => self.on_owner_asked(place, ticket, now),
        }
        self.step(now);
    }

    /// What a watch told.
    pub fn handle_watch(&mut self, ticket: Ticket, update: WatchUpdate, now: Instant) {
        if self.follower.state != Follow::Watching(ticket) || self.phase == Phase::Over {
            return;
        }
        match update {
            WatchUpdate::Changes(changes) => {
                self.follower.pause = PAUSES.0;
                if self.records.apply(&self.keys, &changes) {
                    self.show();
                }
            }
            WatchUpdate::Compacted => self.follower.state = Follow::Read { at: now },
            WatchUpdate::Ended => {
                self.follower.state = Follow::Watch { at: now + self.follower.next_pause() }
            }
        }
        self.step(now);
    }

    /// The deadline has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.step(now);
    }

    /// The next request to etcd.
    pub fn poll_request(&mut self) -> Option<(Ticket, Request)> {
        self.requests.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Member::handle_timeout`] is to be called, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.wake
    }

    /// Does what is due, and finds out what is next.
    fn step(&mut self, now: Instant) {
        self.wake = None;
        if self.phase == Phase::Over {
            return;
        }
        self.keep_lease(now);
        self.follow(now);
        self.join(now);
        self.tell_certainty(now);
        self.own(now);
        self.tell(now);
        self.finish_leaving(now);
    }

    fn wake_at(&mut self, at: Instant, why: &'static str) {
        if self.wake.is_none_or(|(known, _)| at < known) {
            self.wake = Some((at, why));
        }
    }

    fn ask(&mut self, request: Request, what: What, now: Instant) -> Ticket {
        let ticket = self.ticket();
        self.asked.insert(ticket, Asked { what, sent: now });
        self.requests.push_back((ticket, request));
        ticket
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    // The lease.

    /// A keep-alive each quarter of its life, one at a time.
    fn keep_lease(&mut self, now: Instant) {
        let Some(lease) = &mut self.lease else { return };
        let (id, next) = (lease.id, lease.next);
        if lease.is_asked {
            return;
        }
        if now < next {
            return self.wake_at(next, "keep the lease alive");
        }
        lease.is_asked = true;
        self.ask(Request::KeepAlive { lease: id }, What::KeepAlive(id), now);
    }

    fn on_granted(&mut self, ticket: Ticket, answer: Result<Response, Failure>, sent: Instant, now: Instant) {
        let is_wanted = self.phase == Phase::Asking(ticket);
        match answer {
            Ok(Response::Granted { lease, seconds }) if is_wanted && seconds > 0 => {
                let life = life(seconds);
                let until = self.believed(life, sent, now);
                self.lease = Some(Lease { id: lease, life, until, next: sent + life / 4, is_asked: false });
                self.phase = Phase::Out { at: now };
            }
            Ok(Response::Granted { lease, .. }) => {
                self.ask(Request::Revoke { lease }, What::Revoke, now);
            }
            answer if is_wanted => self.try_again(answer.err(), now),
            _ => {}
        }
    }

    fn on_alive(&mut self, id: i64, answer: Result<Response, Failure>, sent: Instant, now: Instant) {
        let Some(life) = self.lease.as_ref().filter(|lease| lease.id == id).map(|lease| lease.life) else {
            return;
        };
        let seconds = match answer {
            Ok(Response::Alive { seconds }) => Some(seconds),
            Err(Failure::LeaseGone) => Some(0),
            _ => None,
        };
        if seconds.is_some_and(|seconds| seconds <= 0) {
            return self.fall_out(now);
        }
        let until = seconds.map(|seconds| self.believed(self::life(seconds), sent, now));
        if let Some(lease) = &mut self.lease {
            lease.is_asked = false;
            lease.next = if until.is_some() { sent + life / 4 } else { now + PAUSES.0.max(life / 20) };
            lease.until = until.map_or(lease.until, |until| until.max(lease.until));
        }
    }

    /// How long a lease is believed in that had this much life before it at some time after `sent`.
    fn believed(&self, life: Duration, sent: Instant, now: Instant) -> Instant {
        #[cfg(any(test, feature = "testing"))]
        if self.fault == Some(Fault::CountsFromTheAnswer) {
            return now + life;
        }
        let _ = now;
        sent + life * 4 / 5
    }

    fn lease_is_certain(&self, now: Instant) -> bool {
        self.lease.as_ref().is_some_and(|lease| now < lease.until)
    }

    /// Revokes the lease, so that nothing of it stays; if that is not heard, it ends by itself.
    fn drop_lease(&mut self, now: Instant) {
        if let Some(lease) = self.lease.take() {
            self.ask(Request::Revoke { lease: lease.id }, What::Revoke, now);
        }
    }

    /// No member any more: everything anew.
    fn fall_out(&mut self, now: Instant) {
        self.drop_lease(now);
        if matches!(self.phase, Phase::Claimed { .. } | Phase::In { .. }) {
            self.anew(now, now);
        }
    }

    /// Joins from the beginning, not before this time.
    fn anew(&mut self, at: Instant, now: Instant) {
        self.phase = Phase::Out { at };
        self.follower.is_fresh = false;
        if !matches!(self.follower.state, Follow::Read { .. } | Follow::Reading(_)) {
            self.follower.state = Follow::Read { at: at.max(now) };
        }
    }

    fn tell_certainty(&mut self, now: Instant) {
        let id = match self.phase {
            Phase::In { id } if self.lease_is_certain(now) => Some(id),
            _ => None,
        };
        if let Some(until) = self.sure_until().filter(|_| id.is_some()) {
            self.wake_at(until, "the lease is in doubt");
        }
        if self.is_certain != id.is_some() {
            self.is_certain = id.is_some();
            match id {
                Some(id) => self.events.push_back(Event::Joined(id)),
                None => {
                    self.tell_owned();
                    if !matches!(self.phase, Phase::Leaving { .. }) {
                        self.events.push_back(Event::LostLease);
                    }
                }
            }
        }
    }

    // The records.

    fn follow(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Leaving { .. }) {
            return;
        }
        match self.follower.state {
            Follow::Read { at } | Follow::Watch { at } if now < at => self.wake_at(at, "follow etcd"),
            Follow::Read { .. } => {
                let prefix = self.keys.prefix().to_owned();
                let ticket = self.ask(Request::Read { prefix }, What::Read, now);
                self.follower.state = Follow::Reading(ticket);
            }
            Follow::Watch { .. } => {
                let (prefix, from) = (self.keys.prefix().to_owned(), self.records.revision + 1);
                let ticket = self.ticket();
                self.requests.push_back((ticket, Request::Watch { prefix, from }));
                self.follower.state = Follow::Watching(ticket);
            }
            Follow::Reading(_) | Follow::Watching(_) => {}
        }
    }

    fn on_read(&mut self, ticket: Ticket, answer: Result<Response, Failure>, now: Instant) {
        if self.follower.state != Follow::Reading(ticket) {
            return;
        }
        match answer {
            Ok(Response::Read { revision, entries }) => {
                // If etcd is set up anew while we run, fences go on from here.
                let seen = self.records.fence(self.records.revision).0;
                self.settings.fences_from = self.settings.fences_from.max(seen);
                self.records = Records::read(&self.keys, revision, &entries);
                self.follower =
                    Follower { state: Follow::Watch { at: now }, is_fresh: true, pause: PAUSES.0 };
                self.show();
            }
            answer => {
                let pause = self.follower.next_pause();
                self.follower.state = Follow::Read { at: now + pause };
                if let Some(Failure::Refused(why)) = answer.err().filter(|_| !self.was_member) {
                    self.refuse(JoinError::Etcd(why), now);
                }
            }
        }
    }

    /// Tells the view where it is not the one that was told.
    fn show(&mut self) {
        let view = self.records.view();
        let is_same = view.nodes == self.view.nodes && view.owners == self.view.owners;
        self.view = Arc::new(view);
        if !is_same {
            self.events.push_back(Event::View(self.view()));
        }
    }

    // What the node says of itself.

    /// Writes the own record where it is not what it should be.
    fn tell(&mut self, now: Instant) {
        let (Phase::In { id }, Some(lease)) = (self.phase, &self.lease) else { return };
        let Some(held) = self.records.nodes.get(&id).filter(|_| self.telling.is_none()) else { return };
        if held.says.as_deref() == Some(&self.info) {
            return;
        }
        if now < self.tell_at {
            return self.wake_at(self.tell_at, "tell draining and load");
        }
        self.tell_at = now + TELL;
        let key = self.keys.node(id);
        let put = Op::Put { key: key.clone(), value: self.info.to_json(), lease: Some(lease.id) };
        let txn = Txn { when: vec![Compare::Modified(key, held.modified)], then: vec![put] };
        self.telling = Some(self.ask(Request::Txn(txn), What::Tell, now));
        self.wake_at(self.tell_at, "tell draining and load");
    }

    // The end.

    fn begin_to_leave(&mut self, now: Instant) {
        self.phase = Phase::Leaving { until: now + LEAVE };
        self.drop_lease(now);
    }

    fn finish_leaving(&mut self, now: Instant) {
        let Phase::Leaving { until } = self.phase else { return };
        let is_revoking = self.asked.values().any(|asked| matches!(asked.what, What::Revoke | What::Grant));
        if is_revoking && now < until {
            return self.wake_at(until, "leaving takes too long");
        }
        self.phase = Phase::Over;
        self.wake = None;
        self.events.push_back(Event::Left);
    }
}

impl Follower {
    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSES.1);
        pause
    }
}

fn life(seconds: i64) -> Duration {
    Duration::from_secs(seconds.clamp(0, LEASE_MAX).unsigned_abs())
}
