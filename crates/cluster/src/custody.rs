//! Custody: what a node keeps of each call whose legs it has, so that the call outlives its application server.
//!
//! In: what legs say, what application servers say, which of those are lost, time. Out: what to tell whom. Sans-IO. Elsewhere: the
//! legs themselves (crate `proxy`), what an application server does with a call that it is offered (crate `appserver`), who is there (`view`).
//!
//! Each call has one owner that is obeyed here: the best by [`Owner`]'s order of those who claimed it. When that one is lost, the
//! call is offered to the next application server, by a title that beats all before. What happens meanwhile waits.

use crate::between::{Capsule, Decline, Happened, KeptLeg, Owner, Stand, Title, ToCalls, ToLegs};
use crate::ids::{CallId, LegId, NodeId};
use crate::leg::{Incoming, LegCommand, LegEvent, Originate};
use bytes::Bytes;
use model::{Client, Id};
use sip::draft::HeaderText;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// An application server that says neither yes nor no to an offer for so long is passed over.
pub const OFFER_LIMIT: Duration = Duration::from_secs(3);
/// While nobody takes a call it is offered again after this time.
pub const OFFER_AGAIN: Duration = Duration::from_secs(1);
/// A copy without any dialog waits so long for its owner, even if that is gone from the cluster: nobody can carry it on, and the owner may
/// live, cut off with all its legs, where the call was answered since. It is offered at once when the owner's process is known to be no more:
/// nobody listens where it did, or it is back as another one.
pub const EMPTY_LIMIT: Duration = Duration::from_secs(300);
/// How long all application servers are asked for a leg before its peer is told that there is none, and how often: well below the time
/// after which telephones give a request up, and long enough for the leg's call to be carried on where its server has been lost.
pub const STRAY_LIMIT: Duration = Duration::from_secs(8);
const STRAY_AGAIN: Duration = Duration::from_millis(500);
/// Events that wait for an owner, of each call.
const HAPPENED_MAX: usize = 64;
/// Legs that are asked for at the same time.
const STRAYS_MAX: usize = 1024;
/// Owners of one call that were lost one after the other.
const FORMER_MAX: usize = 8;
/// Calls that are over and are remembered: those of a minute or so.
const OVER_MAX: usize = 16_384;
/// Legs of one call at one proxy.
const LEGS_MAX: usize = 64;

/// Which application servers may serve a call, the best first. None of them is lost, as far as this node knows.
pub trait Servers {
    /// For a new call.
    fn for_new(&self, client: Id<Client>, call: CallId) -> Vec<NodeId>;
    /// For one whose owner is lost: all nodes that are asked with the same view say the same.
    fn for_lost(&self, client: Option<Id<Client>>, call: CallId) -> Vec<NodeId>;
    /// All there are.
    fn all(&self) -> Vec<NodeId>;
    /// Whether this node has left the cluster, as far as is known. Otherwise it may live, out of reach from here alone.
    fn is_gone(&self, node: NodeId) -> bool;
}

/// What the shell must do.
#[derive(Debug)]
pub enum Action {
    /// Tell an application server, which may be this node's own.
    Tell(NodeId, ToCalls),
    /// Tell a leg of this node.
    Leg(LegId, LegCommand),
    /// Make a leg.
    Originate {
        /// Its call.
        call: CallId,
        /// Its name.
        leg: LegId,
        /// The Call-ID of its dialog.
        sip_call_id: String,
        /// What to do.
        order: Box<Originate>,
    },
    /// Make a leg of this dialog, and say by [`Custody::revived`] whether it lives.
    Revive {
        /// Its call.
        call: CallId,
        /// Its name.
        leg: LegId,
        /// The serialized dialog.
        state: Bytes,
    },
    /// Forget a leg, without a word to its peer.
    Part(LegId),
    /// Nobody has the leg that [`Custody::stray`] asked for.
    NoStray(LegId),
    /// Set names of legs aside for this node.
    Names(NodeId),
}

/// Gauges and counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Calls in custody.
    pub calls: usize,
    /// Of them, those that nobody serves at the moment.
    pub unowned: usize,
    /// Offers made because an owner was lost, since the start.
    pub offers: u64,
    /// Orders refused because their sender had lost the call to another, since the start.
    pub superseded: u64,
}

/// The calls in custody.
#[derive(Debug)]
pub struct Custody {
    me: NodeId,
    calls: HashMap<CallId, Kept>,
    due: BTreeSet<(Instant, CallId)>,
    /// Calls that are over, and who said so: one that has lost such a call does not begin it again.
    over: HashMap<CallId, Owner>,
    over_order: VecDeque<CallId>,
    strays: BTreeMap<u64, Stray>,
    /// When an application server was last lost: its calls are about to be carried on.
    lost_at: Option<Instant>,
    next_ticket: u64,
    offers: u64,
    superseded: u64,
    actions: VecDeque<Action>,
    #[cfg(any(test, feature = "testing"))]
    fault: Option<Fault>,
}

/// Mistakes that simulations must find.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Whoever gives an order is obeyed, whatever his title.
    IgnoresEpochs,
    /// What legs say while nobody serves their call is not kept for the next owner.
    ForgetsWhatHappened,
}

#[derive(Debug)]
struct Kept {
    client: Option<Id<Client>>,
    service: Service,
    /// Who was obeyed before and does not know that this is over.
    former: Vec<Owner>,
    /// The largest epoch seen.
    epoch: u32,
    incoming: Option<Box<Incoming>>,
    /// Who did not take it when it was new.
    declined: Vec<NodeId>,
    capsule: Capsule,
    legs: Vec<Here>,
    happened: Vec<Happened>,
    due: Option<Instant>,
    /// A copy without any dialog, whose owner is lost, is not offered before.
    empty_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Here {
    leg: LegId,
    lives: bool,
    /// It was another proxy's before.
    was_revived: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Service {
    /// This one is obeyed.
    Served(Owner),
    /// The call was offered to the last of these, and is nobody's until that one claims it.
    Offered(Vec<NodeId>),
    /// Nobody takes it; it is offered again later.
    Waiting,
}

#[derive(Debug)]
struct Stray {
    call: CallId,
    leg: LegId,
    asked: Vec<NodeId>,
    until: Instant,
    /// All are asked once more.
    again: Instant,
}

impl Custody {
    /// No calls yet, at this node.
    pub fn new(me: NodeId) -> Self {
        Self {
            me,
            calls: HashMap::new(),
            due: BTreeSet::new(),
            over: HashMap::new(),
            over_order: VecDeque::new(),
            strays: BTreeMap::new(),
            lost_at: None,
            next_ticket: 0,
            offers: 0,
            superseded: 0,
            actions: VecDeque::new(),
            #[cfg(any(test, feature = "testing"))]
            fault: None,
        }
    }

    /// Makes a mistake on purpose from now on.
    #[cfg(any(test, feature = "testing"))]
    pub fn make_fault(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Custody::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let calls = self.due.first().map(|(at, _)| *at);
        let strays = self.strays.values().map(|stray| stray.until.min(stray.again)).min();
        [calls, strays].into_iter().flatten().min()
    }

    /// Gauges and counters.
    pub fn figures(&self) -> Figures {
        let is_unowned = |kept: &&Kept| !matches!(kept.service, Service::Served(_));
        let unowned = if self.due.is_empty() { 0 } else { self.calls.values().filter(is_unowned).count() };
        Figures { calls: self.calls.len(), unowned, offers: self.offers, superseded: self.superseded }
    }

    /// Who is obeyed for a call, if it is in custody and somebody serves it.
    pub fn owner(&self, call: CallId) -> Option<Owner> {
        match self.calls.get(&call)?.service {
            Service::Served(owner) => Some(owner),
            Service::Offered(_) | Service::Waiting => None,
        }
    }

    /// Whether a call is in custody here.
    pub fn keeps(&self, call: CallId) -> bool {
        self.calls.contains_key(&call)
    }

    /// All calls, each with whom is obeyed for it.
    pub fn kept(&self) -> Vec<(CallId, Option<Owner>)> {
        let mut all: Vec<_> = self.calls.iter().map(|(call, kept)| (*call, kept.obeyed())).collect();
        all.sort_unstable_by_key(|(call, _)| *call);
        all
    }

    /// The legs here that a call still has.
    pub fn living(&self, call: CallId) -> Vec<LegId> {
        let legs = self.calls.get(&call).into_iter().flat_map(|kept| &kept.legs);
        legs.filter(|here| here.lives).map(|here| here.leg).collect()
    }

    // --- from the legs of this node ---

    /// A leg arrived. `false`: no application server is there; the leg is refused.
    pub fn incoming(&mut self, incoming: Incoming, servers: &dyn Servers, now: Instant) -> bool {
        let (call, client, leg) = (incoming.call, incoming.client, incoming.leg);
        let Some(first) = servers.for_new(client, call).first().copied() else { return false };
        let title = Title { call, epoch: 0 };
        let kept = Kept {
            client: Some(client),
            // It has taken the call until it says that it has not: nothing is asked of it before.
            service: Service::Served(Owner { epoch: 0, node: first }),
            former: Vec::new(),
            epoch: 0,
            incoming: Some(Box::new(incoming.clone())),
            declined: Vec::new(),
            capsule: Capsule::default(),
            legs: vec![Here { leg, lives: true, was_revived: false }],
            happened: Vec::new(),
            due: None,
            empty_until: None,
        };
        self.calls.insert(call, kept);
        self.tell(first, ToCalls::Incoming { title, incoming: Box::new(incoming) });
        let _ = now;
        true
    }

    /// Something happened on a leg.
    pub fn event(&mut self, call: CallId, leg: LegId, event: LegEvent, unix_us: i64) {
        let is_over = is_over(&event);
        let Some(kept) = self.calls.get_mut(&call) else {
            if !is_over {
                self.actions.push_back(Action::Leg(leg, LegCommand::Bye { reason: None }));
            }
            return;
        };
        if is_over {
            kept.ended(leg);
        }
        let owner = kept.obeyed();
        // Even a leg's end that was told may have to be told to the next owner.
        let is_kept = is_over || owner.is_none();
        #[cfg(any(test, feature = "testing"))]
        let is_kept = is_kept && self.fault != Some(Fault::ForgetsWhatHappened);
        if is_kept {
            kept.note(Happened { leg, unix_us, event: Some(event.clone()) });
        }
        if let Some(owner) = owner {
            let title = Title { call, epoch: owner.epoch };
            self.tell(owner.node, ToCalls::Event { title, leg, event });
        }
    }

    /// A leg's actor is gone without a word.
    pub fn leg_lost(&mut self, call: CallId, leg: LegId, unix_us: i64) {
        let Some(kept) = self.calls.get_mut(&call) else { return };
        kept.ended(leg);
        kept.note(Happened { leg, unix_us, event: None });
        if let Some(owner) = kept.obeyed() {
            let title = Title { call, epoch: owner.epoch };
            self.tell(owner.node, ToCalls::LegLost { title, leg });
        }
    }

    /// The dialog of a leg has changed and is at rest.
    pub fn leg_state(&mut self, call: CallId, leg: LegId, state: Bytes) {
        let Some(kept) = self.calls.get_mut(&call) else { return };
        // For whoever takes the call over: the owner does not tell us of our own legs.
        kept.put(KeptLeg { leg, home: self.me, state: state.clone() });
        if let Some(owner) = kept.obeyed() {
            let title = Title { call, epoch: owner.epoch };
            self.tell(owner.node, ToCalls::LegState { title, leg, state });
        }
    }

    /// A leg is at rest and this node about to leave: its call's owner may have it go on elsewhere. While there is none, it is asked again later.
    pub fn leg_leaves(&mut self, call: CallId, leg: LegId) {
        if let Some(owner) = self.owner(call) {
            let title = Title { call, epoch: owner.epoch };
            self.tell(owner.node, ToCalls::Leaves { title, leg });
        }
    }

    /// A request inside a dialog whose leg is not here: asks for it. The answer is [`Action::Revive`] or [`Action::NoStray`].
    /// `false`: too many are asked for already, or nobody is there to ask.
    pub fn stray(&mut self, call: CallId, leg: LegId, servers: &dyn Servers, now: Instant) -> bool {
        if self.strays.values().any(|stray| stray.leg == leg) {
            return true;
        }
        if self.strays.len() >= STRAYS_MAX {
            return false;
        }
        if self.calls.get(&call).is_some_and(Kept::is_left_alone) {
            self.owner_lost(call, servers, now); // somebody here needs an owner now
        }
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let asked = self.ask_for(ticket, call, leg, servers);
        if asked.is_empty() {
            return false;
        }
        let stray = Stray { call, leg, asked, until: now + STRAY_LIMIT, again: now + STRAY_AGAIN };
        self.strays.insert(ticket, stray);
        true
    }

    fn ask_for(&mut self, ticket: u64, call: CallId, leg: LegId, servers: &dyn Servers) -> Vec<NodeId> {
        let asked = match self.owner(call) {
            Some(owner) => vec![owner.node],
            None => servers.all(),
        };
        for node in &asked {
            self.tell(*node, ToCalls::Stray { ticket, call, leg });
        }
        asked
    }

    /// Whether a leg that [`Action::Revive`] asked for lives here now.
    pub fn revived(&mut self, call: CallId, leg: LegId, lives: bool) {
        let is_over = self.over.contains_key(&call);
        let Some(kept) = self.calls.get_mut(&call) else {
            if lives {
                // Its peer hears of the end, if it is one; otherwise the leg goes on wherever its call does.
                let bye = Action::Leg(leg, LegCommand::Bye { reason: None });
                self.actions.push_back(if is_over { bye } else { Action::Part(leg) });
            }
            return;
        };
        if lives {
            kept.revived(leg);
        } else {
            let me = self.me;
            kept.capsule.legs.retain(|state| state.leg != leg || state.home != me);
        }
        if let Some(owner) = kept.obeyed() {
            let title = Title { call, epoch: owner.epoch };
            self.tell(owner.node, ToCalls::Revived { title, leg, lives });
        } else if !lives && kept.legs.is_empty() && kept.capsule.call.is_empty() {
            self.forget(call);
        }
    }

    // --- from application servers ---

    /// What an application server says.
    pub fn told(&mut self, from: NodeId, message: ToLegs, servers: &dyn Servers, now: Instant) {
        match message {
            ToLegs::Decline { title, why } => self.declined(from, title, why, servers, now),
            ToLegs::Originate { title, leg, sip_call_id, order } => {
                if self.obeys(from, title) || self.begin(from, title) {
                    let call = title.call;
                    if let Some(kept) = self.calls.get_mut(&call) {
                        kept.begun(leg);
                    }
                    self.actions.push_back(Action::Originate { call, leg, sip_call_id, order });
                }
            }
            ToLegs::Command { title, leg, command } => {
                if !self.calls.contains_key(&title.call) {
                    self.tell(from, ToCalls::NotHere { title, leg: Some(leg) });
                } else if self.obeys(from, title) {
                    self.actions.push_back(Action::Leg(leg, command));
                }
            }
            ToLegs::Keep { title, capsule } => {
                if self.obeys(from, title) || self.begin(from, title) {
                    self.keep(title, *capsule);
                }
            }
            ToLegs::Claim { title } => self.claimed(from, title),
            ToLegs::Done { title } => {
                if self.calls.contains_key(&title.call) && self.obeys(from, title) {
                    for leg in self.living(title.call) {
                        self.actions.push_back(Action::Leg(leg, LegCommand::Bye { reason: None }));
                    }
                    self.forget(title.call);
                    self.remember(title.call, Owner { epoch: title.epoch, node: from });
                }
            }
            ToLegs::Revive { title, leg, ticket, state } => {
                if ticket.is_some_and(|ticket| self.strays.remove(&ticket).is_none()) {
                    return; // nobody waits any more
                }
                if self.obeys(from, title) || self.begin(from, title) {
                    if let Some(kept) = self.calls.get_mut(&title.call) {
                        kept.put(KeptLeg { leg, home: self.me, state: state.clone() });
                    }
                    self.actions.push_back(Action::Revive { call: title.call, leg, state });
                } else if ticket.is_some() {
                    self.actions.push_back(Action::NoStray(leg));
                }
            }
            ToLegs::Part { title, leg } => {
                if self.calls.contains_key(&title.call) && self.obeys(from, title) {
                    if let Some(kept) = self.calls.get_mut(&title.call) {
                        kept.legs.retain(|here| here.leg != leg);
                        let me = self.me;
                        kept.capsule.legs.retain(|other| other.leg != leg || other.home != me);
                    }
                    self.actions.push_back(Action::Part(leg));
                }
            }
            ToLegs::NoStray { ticket } => {
                let Some(stray) = self.strays.get_mut(&ticket) else { return };
                stray.asked.retain(|node| *node != from);
                // A call whose server was lost a moment ago may be nobody's just now.
                let may_come = self.lost_at.is_some_and(|at| now < at + STRAY_LIMIT)
                    || self.calls.get(&stray.call).is_some_and(|kept| kept.obeyed().is_none());
                if stray.asked.is_empty() && !may_come {
                    let leg = stray.leg;
                    self.strays.remove(&ticket);
                    self.actions.push_back(Action::NoStray(leg));
                }
            }
            ToLegs::Names => self.actions.push_back(Action::Names(from)),
        }
    }

    /// An application server is out of reach, and its process no more if `is_gone`: its calls are offered to others. Those of which
    /// only a copy is here wait until it is known to be gone: it may serve them well where their legs are.
    pub fn lost(&mut self, node: NodeId, is_gone: bool, servers: &dyn Servers, now: Instant) {
        self.lost_at = Some(now);
        let mut calls: Vec<CallId> =
            self.calls.iter().filter(|(_, kept)| kept.is_with(node)).map(|(id, _)| *id).collect();
        calls.sort_unstable(); // the same order each time
        let is_no_more = is_gone;
        let is_gone = is_gone || servers.is_gone(node);
        for call in calls {
            let Some(kept) = self.calls.get_mut(&call) else { continue };
            let may_live = !is_no_more && kept.is_empty_copy();
            kept.empty_until = may_live.then_some(now + EMPTY_LIMIT);
            if is_gone && !may_live || !kept.is_mere_copy() {
                self.owner_lost(call, servers, now);
            } else {
                self.set_due(call, now + OFFER_AGAIN);
            }
        }
        let waiting: Vec<u64> = self.strays.keys().copied().collect();
        for ticket in waiting {
            self.told(node, ToLegs::NoStray { ticket }, servers, now);
        }
    }

    /// An application server that was out of reach is another process now: what it had left alone is offered to others.
    pub fn is_another(&mut self, node: NodeId, servers: &dyn Servers, now: Instant) {
        let is_left = |kept: &Kept| kept.is_left_alone() && kept.is_with(node);
        let mut calls: Vec<CallId> = self.due.iter().map(|(_, call)| *call).collect();
        calls.retain(|call| self.calls.get(call).is_some_and(is_left));
        for call in calls {
            self.owner_lost(call, servers, now);
        }
    }

    /// An application server has left the cluster, and its link may not be lost yet: its calls are about to be carried on.
    pub fn left(&mut self, now: Instant) {
        self.lost_at = Some(now);
    }

    /// An application server can be reached (again): calls that nobody would take are offered at once.
    pub fn back(&mut self, servers: &dyn Servers, now: Instant) {
        let is_waiting = |kept: &Kept| kept.service == Service::Waiting;
        let mut calls: Vec<CallId> = self.due.iter().map(|(_, call)| *call).collect();
        calls.retain(|call| self.calls.get(call).is_some_and(is_waiting));
        for call in calls {
            self.offer(call, Vec::new(), servers, now);
        }
        // Whoever is back as the process that it was claims what it has.
        let is_left_alone = |call: &CallId| self.calls.get(call).is_some_and(Kept::is_left_alone);
        let calls: Vec<CallId> = self.due.iter().map(|(_, call)| *call).filter(is_left_alone).collect();
        for call in calls {
            self.set_due(call, now + OFFER_LIMIT);
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, servers: &dyn Servers, now: Instant) {
        while let Some((at, call)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, call));
            let Some(kept) = self.calls.get_mut(&call) else { continue };
            kept.due = None;
            match std::mem::replace(&mut kept.service, Service::Waiting) {
                Service::Offered(tried) => self.offer(call, tried, servers, now),
                Service::Waiting => self.offer(call, Vec::new(), servers, now),
                served @ Service::Served(owner) => {
                    let is_empty = kept.empty_until.is_some_and(|until| now < until);
                    kept.service = served;
                    if servers.is_gone(owner.node) && !is_empty || servers.all().contains(&owner.node) {
                        self.owner_lost(call, servers, now);
                    } else {
                        self.set_due(call, now + OFFER_AGAIN);
                    }
                }
            }
        }
        let over = self.strays.extract_if(.., |_, stray| stray.until <= now);
        let over: Vec<LegId> = over.map(|(_, stray)| stray.leg).collect();
        self.actions.extend(over.into_iter().map(Action::NoStray));
        let again = self.strays.iter_mut().filter(|(_, stray)| stray.again <= now);
        let again: Vec<(u64, CallId, LegId)> = again
            .map(|(ticket, stray)| {
                stray.again = now + STRAY_AGAIN;
                (*ticket, stray.call, stray.leg)
            })
            .collect();
        for (ticket, call, leg) in again {
            let asked = self.ask_for(ticket, call, leg, servers);
            if let Some(stray) = self.strays.get_mut(&ticket) {
                stray.asked = asked;
            }
        }
    }

    // --- who is obeyed ---

    /// Whether this sender may act for a call in custody. One that has lost it is told so.
    fn obeys(&mut self, from: NodeId, title: Title) -> bool {
        let Some(kept) = self.calls.get_mut(&title.call) else { return false };
        let speaker = Owner { epoch: title.epoch, node: from };
        #[cfg(any(test, feature = "testing"))]
        if self.fault == Some(Fault::IgnoresEpochs) {
            return true;
        }
        match kept.obeyed() {
            Some(owner) if owner == speaker => {
                if let Some(at) = kept.due.take() {
                    self.due.remove(&(at, title.call));
                }
                true
            }
            Some(owner) if owner > speaker => {
                self.superseded += 1;
                self.tell(from, ToCalls::Superseded { title, by: owner });
                false
            }
            // Its claim is only on its way through another custodian; what it says has the same right.
            Some(_) => {
                self.take(title.call, speaker);
                true
            }
            None if speaker.epoch >= kept.epoch => {
                self.take(title.call, speaker);
                true
            }
            // It is told when somebody has taken the call, and by whom.
            None => {
                self.superseded += 1;
                if kept.former.len() < FORMER_MAX && !kept.former.contains(&speaker) {
                    kept.former.push(speaker);
                }
                false
            }
        }
    }

    /// Custody of a call that was not known here begins by an owner's word.
    fn begin(&mut self, from: NodeId, title: Title) -> bool {
        if self.calls.contains_key(&title.call) {
            return false;
        }
        let speaker = Owner { epoch: title.epoch, node: from };
        if let Some(by) = self.over.get(&title.call).copied().filter(|by| *by > speaker) {
            self.superseded += 1;
            self.tell(from, ToCalls::Superseded { title, by });
            return false;
        }
        let kept = Kept {
            client: None,
            service: Service::Served(Owner { epoch: title.epoch, node: from }),
            former: Vec::new(),
            epoch: title.epoch,
            incoming: None,
            declined: Vec::new(),
            capsule: Capsule::default(),
            legs: Vec::new(),
            happened: Vec::new(),
            due: None,
            empty_until: None,
        };
        self.calls.insert(title.call, kept);
        true
    }

    fn claimed(&mut self, from: NodeId, title: Title) {
        if !self.calls.contains_key(&title.call) {
            // Whoever had the call before has ended it, and another custodian has not heard of that; or a better owner has.
            let speaker = Owner { epoch: title.epoch, node: from };
            let over = self.over.get(&title.call).copied();
            let over = over.filter(|by| *by > speaker || by.epoch + 1 == title.epoch);
            let answer = match over {
                Some(by) => ToCalls::Superseded { title, by },
                None => ToCalls::NotHere { title, leg: None },
            };
            self.tell(from, answer);
        } else if self.obeys(from, title) {
            let Some(kept) = self.calls.get_mut(&title.call) else { return };
            let stand = kept.stand(title);
            // What else happened is told now; an end may have to be told again.
            kept.happened.retain(|happened| happened.event.as_ref().is_none_or(is_over));
            self.tell(from, ToCalls::Claimed(Box::new(stand)));
        }
    }

    /// From now on this owner is obeyed; the one before hears of it.
    fn take(&mut self, call: CallId, owner: Owner) {
        let Some(kept) = self.calls.get_mut(&call) else { return };
        let before = std::mem::replace(&mut kept.service, Service::Served(owner));
        kept.epoch = kept.epoch.max(owner.epoch);
        if let Some(at) = kept.due.take() {
            self.due.remove(&(at, call));
        }
        let mut former = std::mem::take(&mut kept.former);
        if let Service::Served(before) = before {
            former.push(before);
        }
        for before in former.into_iter().filter(|before| before.node != owner.node) {
            let title = Title { call, epoch: before.epoch };
            self.tell(before.node, ToCalls::Superseded { title, by: owner });
        }
    }

    fn keep(&mut self, title: Title, news: Capsule) {
        let Some(kept) = self.calls.get_mut(&title.call) else { return };
        let capsule = &mut kept.capsule;
        capsule.version = news.version;
        kept.client = news.client.or(kept.client);
        if !news.call.is_empty() {
            capsule.call = news.call;
            kept.incoming = None;
            kept.declined = Vec::new();
        }
        let custodians = news.custodians;
        // A proxy is right about legs that live here: an owner that was out of reach may know an older state, of another home.
        let lives_here = |leg: LegId| kept.legs.iter().any(|here| here.lives && here.leg == leg);
        let news: Vec<KeptLeg> = news.legs.into_iter().filter(|state| !lives_here(state.leg)).collect();
        news.into_iter().for_each(|leg| kept.put(leg));
        let capsule = &mut kept.capsule;
        if !custodians.is_empty() {
            capsule.custodians = custodians;
        }
    }

    // --- offers ---

    fn declined(&mut self, from: NodeId, title: Title, why: Decline, servers: &dyn Servers, now: Instant) {
        let Some(kept) = self.calls.get_mut(&title.call) else { return };
        match &kept.service {
            Service::Served(owner) if *owner == (Owner { epoch: title.epoch, node: from }) => {
                // A new call that this one does not take goes to another one under the same title, for nothing was done.
                let is_new = kept.incoming.is_some() && why != Decline::Unknown;
                if is_new {
                    self.offer_new(title.call, from, servers);
                } else {
                    self.owner_lost(title.call, servers, now);
                }
            }
            Service::Offered(tried) if tried.last() == Some(&from) && title.epoch == kept.epoch => {
                let tried = tried.clone();
                self.offer(title.call, tried, servers, now);
            }
            Service::Served(_) | Service::Offered(_) | Service::Waiting => {}
        }
    }

    /// A new call that was declined goes to the next application server, or is refused.
    fn offer_new(&mut self, call: CallId, declined_by: NodeId, servers: &dyn Servers) {
        let Some(kept) = self.calls.get_mut(&call) else { return };
        let Some(incoming) = kept.incoming.clone() else { return };
        // The order may be another one by now: somebody drains, or it is another's turn.
        kept.declined.push(declined_by);
        let order = servers.for_new(incoming.client, call);
        let Some(next) = order.into_iter().find(|node| !kept.declined.contains(node)) else {
            for here in kept.legs.iter().filter(|here| here.lives) {
                let headers = HeaderText::new();
                let refusal = LegCommand::Reject { status: 503, reason: None, headers };
                self.actions.push_back(Action::Leg(here.leg, refusal));
            }
            self.forget(call);
            return;
        };
        kept.epoch += 1;
        let title = Title { call, epoch: kept.epoch };
        kept.service = Service::Served(Owner { epoch: title.epoch, node: next });
        self.tell(next, ToCalls::Incoming { title, incoming });
    }

    fn owner_lost(&mut self, call: CallId, servers: &dyn Servers, now: Instant) {
        let Some(kept) = self.calls.get_mut(&call) else { return };
        let tried = match std::mem::replace(&mut kept.service, Service::Waiting) {
            Service::Served(before) => {
                kept.epoch = kept.epoch.saturating_add(1);
                if kept.former.len() < FORMER_MAX {
                    kept.former.push(before);
                }
                Vec::new()
            }
            Service::Offered(tried) => tried,
            Service::Waiting => return kept.service = Service::Waiting,
        };
        self.offer(call, tried, servers, now);
    }

    /// Offers a call to the best server that has not been asked yet.
    fn offer(&mut self, call: CallId, mut tried: Vec<NodeId>, servers: &dyn Servers, now: Instant) {
        let Some(kept) = self.calls.get_mut(&call) else { return };
        if kept.incoming.is_none() && kept.capsule.call.is_empty() {
            // Whoever got the INVITE has all there is to know; here are devices that were to ring. A leg that came from another proxy has a
            // call somewhere.
            for here in kept.legs.iter().filter(|here| here.lives) {
                let bye = Action::Leg(here.leg, LegCommand::Bye { reason: None });
                self.actions.push_back(if here.was_revived { Action::Part(here.leg) } else { bye });
            }
            return self.forget(call);
        }
        let next = servers.for_lost(kept.client, call).into_iter().find(|node| !tried.contains(node));
        let due = match next {
            Some(node) => {
                tried.push(node);
                kept.service = Service::Offered(tried);
                let title = Title { call, epoch: kept.epoch };
                let stand = kept.stand(title);
                self.offers += 1;
                self.tell(node, ToCalls::Offer(Box::new(stand)));
                now + OFFER_LIMIT
            }
            None => {
                kept.service = Service::Waiting;
                now + OFFER_AGAIN
            }
        };
        self.set_due(call, due);
    }

    fn set_due(&mut self, call: CallId, at: Instant) {
        let Some(kept) = self.calls.get_mut(&call) else { return };
        if let Some(before) = kept.due.replace(at) {
            self.due.remove(&(before, call));
        }
        self.due.insert((at, call));
    }

    fn forget(&mut self, call: CallId) {
        if let Some(kept) = self.calls.remove(&call)
            && let Some(at) = kept.due
        {
            self.due.remove(&(at, call));
        }
    }

    fn remember(&mut self, call: CallId, owner: Owner) {
        if self.over.insert(call, owner).is_none() {
            self.over_order.push_back(call);
        }
        if self.over_order.len() > OVER_MAX
            && let Some(oldest) = self.over_order.pop_front()
        {
            self.over.remove(&oldest);
        }
    }

    fn tell(&mut self, node: NodeId, message: ToCalls) {
        self.actions.push_back(Action::Tell(node, message));
    }
}

impl Kept {
    fn obeyed(&self) -> Option<Owner> {
        match self.service {
            Service::Served(owner) => Some(owner),
            Service::Offered(_) | Service::Waiting => None,
        }
    }

    /// No leg of it is here, or was.
    fn is_mere_copy(&self) -> bool {
        self.incoming.is_none() && self.legs.is_empty() && self.happened.is_empty()
    }

    /// Nor is anything here by which a leg could be carried on.
    fn is_empty_copy(&self) -> bool {
        self.is_mere_copy() && self.capsule.legs.is_empty()
    }

    /// Its owner is out of reach, and may live.
    fn is_left_alone(&self) -> bool {
        self.due.is_some() && self.obeyed().is_some()
    }

    /// Served by this node, or on offer to it.
    fn is_with(&self, node: NodeId) -> bool {
        match &self.service {
            Service::Served(owner) => owner.node == node,
            Service::Offered(tried) => tried.last() == Some(&node),
            Service::Waiting => false,
        }
    }

    fn put(&mut self, state: KeptLeg) {
        let legs = &mut self.capsule.legs;
        legs.retain(|other| other.leg != state.leg);
        if legs.len() < LEGS_MAX {
            legs.push(state);
        }
    }

    fn begun(&mut self, leg: LegId) {
        self.put_here(Here { leg, lives: true, was_revived: false });
    }

    fn revived(&mut self, leg: LegId) {
        self.put_here(Here { leg, lives: true, was_revived: true });
    }

    fn put_here(&mut self, here: Here) {
        self.legs.retain(|other| other.leg != here.leg);
        if self.legs.len() < LEGS_MAX {
            self.legs.push(here);
        }
    }

    fn ended(&mut self, leg: LegId) {
        self.legs.iter_mut().filter(|here| here.leg == leg).for_each(|here| here.lives = false);
    }

    fn note(&mut self, happened: Happened) {
        if self.happened.len() >= HAPPENED_MAX {
            let passing =
                self.happened.iter().position(|old| old.event.as_ref().is_some_and(|event| !is_over(event)));
            match passing {
                Some(at) => drop(self.happened.remove(at)),
                None => return, // the ends of so many legs are enough
            }
        }
        self.happened.push(happened);
    }

    fn stand(&self, title: Title) -> Stand {
        // Owners that were lost may have ended it since.
        let mut custodians = self.capsule.custodians.clone();
        let former = self.former.iter().map(|owner| owner.node);
        custodians.extend(former.filter(|node| !self.capsule.custodians.contains(node)));
        custodians.truncate(LEGS_MAX); // no stand has more
        Stand {
            title,
            incoming: self.incoming.clone(),
            capsule: Capsule { client: self.client, custodians, ..self.capsule.clone() },
            legs: self.legs.iter().filter(|here| here.lives).map(|here| here.leg).collect(),
            happened: self.happened.clone(),
        }
    }
}

/// Whether this is the last that a leg says.
fn is_over(event: &LegEvent) -> bool {
    matches!(event, LegEvent::Ended { .. } | LegEvent::Rejected { .. } | LegEvent::Cancelled { .. })
}

#[cfg(test)]
mod tests;
