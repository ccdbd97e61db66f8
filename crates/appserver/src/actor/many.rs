//! Calls of a server that is one of many: who keeps them, how they are taken over, how they are given up.
//!
//! In: words of custodians, news of nodes that are lost or gone. Out: capsules for custodians, claims, calls that go on here. Elsewhere:
//! the other side of it (`cluster::custody`), the call's own part (`call::Capsule`), calls of a server that stands alone (`actor`).

use super::{CallMsg, CallState, Peers, ShardState, Shared};
use crate::call::{Call, Capsule as CallCapsule};
use cluster::between::{Capsule, Decline, Happened, KeptLeg, Owner, Stand, Title, ToCalls, ToLegs};
use cluster::counters::{Claim, Limits as _};
use cluster::ids::{CallId, LegId, NodeId};
use cluster::leg::{Incoming, LegEvent};
use model::{Client, Id};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// A custodian that does not answer a claim for so long is not waited for.
const CLAIM_LIMIT: Duration = Duration::from_secs(1);
/// Legs of one call whose states are kept.
const STATES_MAX: usize = 64;
/// Events of one call that wait until it is taken over.
const QUEUE_MAX: usize = 64;

/// By what right this server has a call, and who keeps it for the next one.
#[derive(Debug, Default)]
pub(super) struct Tenure {
    pub(super) epoch: u32,
    /// Of the newest capsule that custodians have.
    version: u32,
    /// The call's own version then.
    told: Option<u32>,
    /// Who has all of the capsule.
    custodians: BTreeSet<NodeId>,
    /// Everybody who knows of the call, and is told when it is done.
    involved: BTreeSet<NodeId>,
    states: Vec<KeptLeg>,
    /// Legs whose states not all custodians have.
    fresh: Vec<LegId>,
    /// It is offered to others, and nothing is done for it here any more.
    pub(super) parked: bool,
}

/// A call that is being taken over: its custodians are asked what they have.
pub(super) struct Adoption {
    title: Title,
    stands: Vec<(NodeId, Stand)>,
    awaited: BTreeSet<NodeId>,
    until: Instant,
    queue: Vec<(LegId, Option<LegEvent>)>,
}

impl Tenure {
    /// The proxy that has a leg: the one where it was born, unless it has moved.
    fn home(&self, leg: LegId) -> NodeId {
        self.states.iter().find(|state| state.leg == leg).map_or(leg.node(), |state| state.home)
    }

    fn put(&mut self, state: KeptLeg) {
        self.fresh.retain(|leg| *leg != state.leg);
        self.fresh.push(state.leg);
        self.states.retain(|other| other.leg != state.leg);
        if self.states.len() < STATES_MAX {
            self.states.push(state);
        }
    }

    fn state(&self, leg: LegId) -> Option<&KeptLeg> {
        self.states.iter().find(|state| state.leg == leg)
    }
}

impl CallState {
    /// The title that this server shows when it acts for the call.
    pub(super) fn title(&self) -> Title {
        Title { call: self.id, epoch: self.tenure.as_ref().map_or(0, |tenure| tenure.epoch) }
    }

    /// The proxy that has a leg now.
    pub(super) fn home(&self, leg: LegId) -> NodeId {
        self.tenure.as_ref().map_or(leg.node(), |tenure| tenure.home(leg))
    }

    /// Somebody gets a part in the call.
    pub(super) fn involve(&mut self, node: NodeId) {
        if let Some(tenure) = &mut self.tenure {
            tenure.involved.insert(node);
        }
    }

    /// Gives custodians what they lack, if the call is at rest.
    pub(super) fn keep(&mut self, peers: &Peers) {
        let Some(tenure) = &mut self.tenure else { return };
        let is_news = tenure.told != Some(self.call.version()) || !tenure.fresh.is_empty();
        if !is_news || tenure.parked || self.call.is_recorded() || !self.call.is_open() {
            return;
        }
        let Some(capsule) = self.call.capsule() else { return };
        let me = self.shared.node();
        let mut keepers: BTreeSet<NodeId> = self.call.legs().map(|leg| tenure.home(leg)).collect();
        keepers.remove(&me);
        if keepers.is_empty() {
            // All its legs are here: somebody must know of it when this node is gone.
            keepers.extend(peers.legs.guards(capsule.client(), self.id).first());
        }
        tenure.tell(self.id, &capsule, &self.call, keepers, peers);
    }

    /// The call's record is durable: whoever knows of it may forget it.
    pub(super) fn done(&mut self, peers: &Peers) {
        let title = self.title();
        let Some(tenure) = &mut self.tenure else { return };
        for node in std::mem::take(&mut tenure.involved) {
            peers.legs.tell(node, ToLegs::Done { title });
        }
    }

    /// Offers the call to others, if it can be carried on by them. `false`: not now.
    fn park(&mut self, peers: &Peers) -> bool {
        let title = self.title();
        let Some(tenure) = &mut self.tenure else { return false };
        if tenure.parked {
            return true;
        }
        if !self.call.is_talking() {
            return false;
        }
        let Some(capsule) = self.call.capsule() else { return false };
        if peers.legs.guards(capsule.client(), self.id).is_empty() {
            return false;
        }
        // This node's own custody is told, too: it is the one that offers the call when all legs are here.
        let keepers = self.call.legs().map(|leg| tenure.home(leg)).collect();
        tenure.fresh = self.call.legs().collect();
        tenure.custodians.clear();
        tenure.tell(self.id, &capsule, &self.call, keepers, peers);
        tenure.parked = true;
        for node in &tenure.involved {
            peers.legs.tell(*node, ToLegs::Decline { title, why: Decline::Draining });
        }
        debug!(call = %self.id, "call is offered to other application servers");
        true
    }

    /// Carries on a leg at another proxy, or gives it up.
    fn revive(&mut self, leg: LegId, peers: &Peers) {
        let now = self.shared.now();
        let title = self.title();
        let Some(tenure) = &mut self.tenure else { return };
        let home = tenure.home(leg);
        let place = peers.legs.proxy_instead(home, leg);
        match (tenure.state(leg).cloned(), place) {
            (Some(state), Some(place)) => {
                info!(call = %self.id, %leg, from = home.0, to = place.0, "leg goes on at another proxy");
                let message = ToLegs::Revive { title, leg, ticket: None, state: state.state.clone() };
                tenure.put(KeptLeg { home: place, ..state });
                tenure.involved.insert(place);
                peers.legs.tell(place, message);
            }
            (None, _) | (_, None) => {
                warn!(call = %self.id, %leg, at = home.0, "leg is lost with its proxy");
                self.call.leg_lost(leg, now);
            }
        }
    }

    /// The legs that live at this proxy, as far as known.
    fn legs_at(&self, proxy: NodeId) -> Vec<LegId> {
        self.call.legs().filter(|leg| self.home(*leg) == proxy).collect()
    }

    fn happened(&mut self, happened: Vec<Happened>) {
        let now = self.shared.now();
        for Happened { leg, unix_us, event } in happened {
            let then = crate::call::Now { unix_us: unix_us.min(now.unix_us), ..now };
            match event {
                Some(event) => self.call.leg_event(leg, event, then),
                None => self.call.leg_lost(leg, then),
            }
        }
    }
}

impl Tenure {
    fn tell(
        &mut self,
        call_id: CallId,
        capsule: &CallCapsule,
        call: &Call,
        keepers: BTreeSet<NodeId>,
        peers: &Peers,
    ) {
        self.version += 1;
        self.told = Some(call.version());
        let title = Title { call: call_id, epoch: self.epoch };
        let bytes = capsule.encode();
        let all: Vec<NodeId> = keepers.iter().copied().collect();
        for node in keepers {
            let is_new = self.custodians.insert(node);
            // A proxy has its own legs anyway.
            let wanted = |state: &&KeptLeg| state.home != node && (is_new || self.fresh.contains(&state.leg));
            let capsule = Capsule {
                version: self.version,
                client: Some(capsule.client()),
                call: bytes.clone(),
                legs: self.states.iter().filter(wanted).cloned().collect(),
                custodians: all.clone(),
            };
            self.involved.insert(node);
            peers.legs.tell(node, ToLegs::Keep { title, capsule: Box::new(capsule) });
        }
        self.fresh.clear();
    }
}

impl ShardState {
    /// A custodian speaks.
    pub(super) fn told(&mut self, from: NodeId, message: ToCalls) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        match message {
            ToCalls::Incoming { title, incoming } => self.new_call(from, title, *incoming, peers),
            ToCalls::Event { title, leg, event } => self.event(from, title, leg, Some(event), peers),
            ToCalls::LegLost { title, leg } => self.event(from, title, leg, None, peers),
            ToCalls::LegState { title, leg, state } => {
                if let Some(call) = self.at(title)
                    && let Some(tenure) = &mut call.tenure
                {
                    let home = tenure.home(leg);
                    if home == from {
                        tenure.put(KeptLeg { leg, home, state });
                        call.keep(peers);
                    }
                }
            }
            ToCalls::Offer(stand) => self.offered(from, *stand, peers),
            ToCalls::Claimed(stand) => self.claimed(from, *stand),
            ToCalls::Superseded { title, by } => self.superseded(title, by, &shared),
            ToCalls::NotHere { title, leg } => self.not_there(from, title, leg, peers),
            ToCalls::Stray { ticket, call, leg } => self.stray(from, ticket, call, leg, peers),
            ToCalls::Revived { title, leg, lives } => {
                let now = shared.now();
                if let Some(call) = self.at(title).filter(|_| !lives) {
                    call.call.leg_lost(leg, now);
                    self.settle(title.call);
                }
            }
            ToCalls::Names(_) => {} // the switchboard's
        }
    }

    /// A proxy is gone with its legs: they go on elsewhere.
    pub(super) fn proxy_gone(&mut self, proxy: NodeId) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        for id in self.ids() {
            let Some(call) = self.calls.get_mut(&id) else { continue };
            let legs = call.legs_at(proxy);
            if legs.is_empty() {
                continue;
            }
            legs.into_iter().for_each(|leg| call.revive(leg, peers));
            self.settle(id);
        }
        self.not_awaited(proxy);
    }

    /// A proxy does not answer: claims do not wait for it.
    pub(super) fn not_awaited(&mut self, node: NodeId) {
        let mut ready: Vec<CallId> = Vec::new();
        for (id, adoption) in &mut self.adoptions {
            if adoption.awaited.remove(&node) && adoption.awaited.is_empty() {
                ready.push(*id);
            }
        }
        ready.sort_unstable();
        ready.into_iter().for_each(|id| self.adopt(id));
    }

    /// A proxy can be reached again: whether its legs are still ours is asked of it.
    pub(super) fn proxy_back(&mut self, proxy: NodeId) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        for id in self.ids() {
            let Some(call) = self.calls.get(&id) else { continue };
            if call.tenure.as_ref().is_some_and(|tenure| !tenure.parked && tenure.involved.contains(&proxy)) {
                peers.legs.tell(proxy, ToLegs::Claim { title: call.title() });
            }
        }
    }

    /// A relay is out of reach: its media move.
    pub(super) fn relay_lost(&mut self, relay: NodeId) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        for id in self.ids() {
            let Some(call) = self.calls.get_mut(&id).filter(|call| call.call.uses_relay(relay)) else {
                continue;
            };
            let new = call.other_relay(relay, peers);
            call.call.relay_lost(relay, new, shared.now());
            self.settle(id);
        }
    }

    /// A relay is about to leave: media of calls go elsewhere.
    pub(super) fn relay_leaves(&mut self, relay: NodeId) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        for id in self.ids() {
            let Some(call) = self.calls.get_mut(&id).filter(|call| call.call.relay() == Some(relay)) else {
                continue;
            };
            if let Some(new) = call.other_relay(relay, peers) {
                call.call.move_media(new, shared.now());
                self.settle(id);
            }
        }
    }

    /// Gives calls to other servers, as many as can be given now.
    pub(super) fn hand_over(&mut self) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        for id in self.ids() {
            if let Some(call) = self.calls.get_mut(&id) {
                call.park(peers);
            }
        }
    }

    /// Whatever waits for a deadline of a call that is being taken over.
    pub(super) fn adoption_due(&mut self, id: CallId) {
        let now = self.shared.now().mono;
        if self.adoptions.get(&id).is_some_and(|adoption| adoption.until <= now) {
            self.adopt(id);
        }
    }

    fn ids(&self) -> Vec<CallId> {
        let mut ids: Vec<CallId> = self.calls.keys().copied().collect();
        ids.sort_unstable(); // the same order each time
        ids
    }

    /// The call, if this is the title that it is served by here.
    fn at(&mut self, title: Title) -> Option<&mut CallState> {
        self.calls.get_mut(&title.call).filter(|call| call.title() == title)
    }

    /// Why no further call is taken; `None`: it is.
    fn why_not(&self) -> Option<Decline> {
        let shared = &self.shared;
        if shared.draining.load(Ordering::Relaxed) {
            Some(Decline::Draining)
        } else if shared.log_fails.load(Ordering::Relaxed) {
            Some(Decline::NoRecords)
        } else if shared.live.load(Ordering::Relaxed) + self.adoptions.len() >= shared.limits.calls {
            Some(Decline::Full)
        } else {
            None
        }
    }

    fn new_call(&mut self, from: NodeId, title: Title, incoming: Incoming, peers: &Peers) {
        if self.calls.contains_key(&title.call) || self.adoptions.contains_key(&title.call) {
            return;
        }
        if let Some(why) = self.why_not() {
            return peers.legs.tell(from, ToLegs::Decline { title, why });
        }
        let tenure = Tenure { epoch: title.epoch, involved: BTreeSet::from([from]), ..Tenure::default() };
        let state = CallState::new(&incoming, Some(Box::new(tenure)), &self.shared);
        self.calls.insert(title.call, state);
        self.deliver(title.call, CallMsg::Begin(Box::new(incoming)));
    }

    fn event(&mut self, from: NodeId, title: Title, leg: LegId, event: Option<LegEvent>, peers: &Peers) {
        if let Some(adoption) = self.adoptions.get_mut(&title.call) {
            if adoption.title == title && adoption.queue.len() < QUEUE_MAX {
                adoption.queue.push((leg, event));
            }
            return;
        }
        match self.calls.get(&title.call) {
            Some(call) if call.title() == title => {
                let is_parked = call.tenure.as_ref().is_some_and(|tenure| tenure.parked);
                if !is_parked {
                    let message = event.map_or(CallMsg::LegLost(leg), |event| CallMsg::Leg(leg, event));
                    self.deliver(title.call, message);
                }
            }
            Some(_) => {} // of an owner before us, or after
            None => peers.legs.tell(from, ToLegs::Decline { title, why: Decline::Unknown }),
        }
    }

    fn offered(&mut self, from: NodeId, stand: Stand, peers: &Peers) {
        let title = stand.title;
        if let Some(adoption) = self.adoptions.get_mut(&title.call) {
            if title.epoch > adoption.title.epoch {
                adoption.title = title;
                let stands = std::mem::take(&mut adoption.stands);
                for (node, _) in &stands {
                    peers.legs.tell(*node, ToLegs::Claim { title });
                }
                adoption.awaited.extend(stands.iter().map(|(node, _)| *node));
            }
            let title = adoption.title;
            peers.legs.tell(from, ToLegs::Claim { title });
            adoption.awaited.insert(from);
            return;
        }
        if let Some(call) = self.calls.get_mut(&title.call) {
            let is_parked = call.tenure.as_ref().is_some_and(|tenure| tenure.parked);
            if is_parked {
                return peers.legs.tell(from, ToLegs::Decline { title, why: Decline::Draining });
            }
            // It was out of reach for this custodian, and the call went on here. Everybody is shown the title that beats all before.
            let Some(tenure) = &mut call.tenure else { return };
            tenure.involved.insert(from);
            if title.epoch > tenure.epoch {
                tenure.epoch = title.epoch;
                self.shared.limits().adopt(title, &call.held);
                for node in &tenure.involved {
                    peers.legs.tell(*node, ToLegs::Claim { title });
                }
            } else {
                let title = call.title();
                peers.legs.tell(from, ToLegs::Claim { title });
            }
            return;
        }
        if let Some(why) = self.why_not() {
            return peers.legs.tell(from, ToLegs::Decline { title, why });
        }
        if stand.capsule.call.is_empty() {
            let Some(incoming) = stand.incoming else {
                return peers.legs.tell(from, ToLegs::Decline { title, why: Decline::Unknown });
            };
            // Nothing was decided yet, as far as anybody knows: it begins anew.
            peers.legs.tell(from, ToLegs::Claim { title });
            self.new_call(from, title, *incoming, peers);
            return self.claimed(from, Stand { incoming: None, ..stand });
        }
        let mut awaited: BTreeSet<NodeId> = stand.capsule.custodians.iter().copied().collect();
        awaited.extend(stand.capsule.legs.iter().map(|leg| leg.home));
        awaited.insert(from);
        awaited.retain(|node| peers.legs.can_reach(*node));
        for node in &awaited {
            peers.legs.tell(*node, ToLegs::Claim { title });
        }
        let until = self.shared.now().mono + CLAIM_LIMIT;
        // Should it not answer the claim, what it offered counts.
        let adoption = Adoption { title, stands: vec![(from, stand)], awaited, until, queue: Vec::new() };
        self.adoptions.insert(title.call, adoption);
        if let Some(alarms) = self.shared.alarms.get() {
            alarms.set(until, title.call);
        }
    }

    fn claimed(&mut self, from: NodeId, stand: Stand) {
        let id = stand.title.call;
        if let Some(adoption) = self.adoptions.get_mut(&id) {
            if adoption.title != stand.title {
                return;
            }
            adoption.awaited.remove(&from);
            adoption.stands.retain(|(node, _)| *node != from);
            adoption.stands.push((from, stand));
            if adoption.awaited.is_empty() {
                self.adopt(id);
            }
            return;
        }
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        let Some(call) = self.at(stand.title) else { return };
        // A proxy that lost us for a while: what its legs did meanwhile, and which of them are left.
        let here = call.legs_at(from);
        call.happened(stand.happened);
        let is_left = |leg: &LegId| stand.legs.contains(leg) || call.call.is_ringing();
        let lost: Vec<LegId> = here.into_iter().filter(|leg| !is_left(leg)).collect();
        let open: Vec<LegId> = call.call.legs().collect();
        for leg in lost.into_iter().filter(|leg| open.contains(leg)) {
            call.revive(leg, peers);
        }
        self.settle(id);
    }

    /// Takes the call over with what its custodians have said.
    fn adopt(&mut self, id: CallId) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        let Some(adoption) = self.adoptions.remove(&id) else { return };
        let Adoption { title, mut stands, queue, .. } = adoption;
        let now = shared.now();
        let newest = stands.iter().max_by_key(|(node, stand)| (stand.capsule.version, *node));
        let Some((_, newest)) = newest else { return };
        let capsule = match CallCapsule::decode(&newest.capsule.call) {
            Ok(capsule) if capsule.call() == id => capsule,
            other => {
                let error = other.err().map(|error| error.to_string());
                warn!(call = %id, error, "a call of another application server cannot be carried on");
                for (node, _) in &stands {
                    peers.legs.tell(*node, ToLegs::Decline { title, why: Decline::Format });
                }
                return;
            }
        };
        let mut tenure = Tenure {
            epoch: title.epoch,
            version: newest.capsule.version,
            involved: newest.capsule.custodians.iter().copied().collect(),
            ..Tenure::default()
        };
        // Newer states go over older ones.
        stands.sort_by_key(|(node, stand)| (stand.capsule.version, *node));
        for (_, stand) in &stands {
            stand.capsule.legs.iter().for_each(|leg| tenure.put(leg.clone()));
        }
        tenure.involved.extend(stands.iter().map(|(node, _)| *node));
        let mut happened: Vec<Happened> =
            stands.iter().flat_map(|(_, stand)| stand.happened.clone()).collect();
        happened.sort_by_key(|happened| happened.unix_us);
        let call = Call::adopt(&capsule, happened, now);
        info!(call = %id, epoch = title.epoch, custodians = stands.len(), "call is carried on here");
        shared.adopted.fetch_add(1, Ordering::Relaxed);
        let mut state = CallState::adopted(call, capsule.client(), Box::new(tenure), &shared);
        state.held = capsule.held().to_vec();
        shared.limits().adopt(title, &state.held);
        for relay in capsule.relays() {
            if peers.legs.relay_is_lost(relay) {
                let new = state.other_relay(relay, peers);
                state.call.relay_lost(relay, new, now);
            }
        }
        for leg in state.call.legs().collect::<Vec<_>>() {
            let home = state.home(leg);
            let stand = stands.iter().find(|(node, _)| *node == home).map(|(_, stand)| stand);
            let is_lost = match stand {
                Some(stand) => !stand.legs.contains(&leg),
                None => peers.legs.is_gone(home),
            };
            if is_lost {
                state.revive(leg, peers);
            }
        }
        self.calls.insert(id, state);
        self.settle(id);
        for (leg, event) in queue {
            let message = event.map_or(CallMsg::LegLost(leg), |event| CallMsg::Leg(leg, event));
            self.deliver(id, message);
        }
    }

    /// Another server has the call by a better title: here it is dropped, without a word and without a record.
    fn superseded(&mut self, title: Title, by: Owner, shared: &Shared) {
        let id = title.call;
        if self.adoptions.get(&id).is_some_and(|adoption| is_better(by, adoption.title, shared)) {
            self.adoptions.remove(&id);
        }
        if self.calls.get(&id).is_some_and(|call| is_better(by, call.title(), shared))
            && let Some(mut call) = self.calls.remove(&id)
        {
            debug!(call = %id, to = by.node.0, "call goes on at another application server");
            call.let_go = true;
        }
    }

    /// A custodian has no such call, or not this leg of it.
    fn not_there(&mut self, from: NodeId, title: Title, leg: Option<LegId>, peers: &Peers) {
        if let Some(adoption) = self.adoptions.get_mut(&title.call).filter(|adoption| adoption.title == title)
        {
            adoption.awaited.remove(&from);
            if adoption.awaited.is_empty() {
                self.adopt(title.call);
            }
            return;
        }
        let Some(call) = self.at(title) else { return };
        let legs = match leg {
            Some(leg) => vec![leg],
            None => call.legs_at(from),
        };
        if let Some(tenure) = &mut call.tenure {
            tenure.custodians.remove(&from);
        }
        for leg in legs {
            if call.home(leg) == from {
                call.revive(leg, peers);
            }
        }
        self.settle(title.call);
    }

    /// A request of a leg's peer came to a proxy that does not have it: the leg goes there.
    fn stray(&mut self, from: NodeId, ticket: u64, id: CallId, leg: LegId, peers: &Peers) {
        let call = self.calls.get_mut(&id);
        let call = call.filter(|call| call.call.is_talking() && call.call.legs().any(|own| own == leg));
        let Some(call) = call else { return peers.legs.tell(from, ToLegs::NoStray { ticket }) };
        let title = call.title();
        let Some(tenure) = call.tenure.as_mut().filter(|tenure| !tenure.parked) else {
            return peers.legs.tell(from, ToLegs::NoStray { ticket });
        };
        let Some(state) = tenure.state(leg).cloned() else {
            return peers.legs.tell(from, ToLegs::NoStray { ticket });
        };
        if state.home != from {
            info!(call = %id, %leg, from = state.home.0, to = from.0, "leg follows its telephone to another proxy");
            peers.legs.tell(state.home, ToLegs::Part { title, leg });
        }
        let bytes = state.state.clone();
        tenure.put(KeptLeg { home: from, ..state });
        tenure.involved.insert(from);
        peers.legs.tell(from, ToLegs::Revive { title, leg, ticket: Some(ticket), state: bytes });
        self.settle(id);
    }
}

impl CallState {
    fn other_relay(&self, not: NodeId, peers: &Peers) -> Option<NodeId> {
        let caller = self.call.caller_leg()?;
        peers.legs.relay(self.client, caller, self.id, Some(not))
    }

    /// The call of an INVITE.
    pub(super) fn new(incoming: &Incoming, tenure: Option<Box<Tenure>>, shared: &Arc<Shared>) -> Self {
        shared.total.fetch_add(1, Ordering::Relaxed);
        Self::adopted_or_new(
            Call::new(incoming, shared.now()),
            incoming.call,
            incoming.client,
            tenure,
            shared,
        )
    }

    fn adopted(call: Call, client: Id<Client>, tenure: Box<Tenure>, shared: &Arc<Shared>) -> Self {
        let id = call.id();
        Self::adopted_or_new(call, id, client, Some(tenure), shared)
    }

    /// From here on the state's drop settles everything, even if no shard takes it.
    fn adopted_or_new(
        call: Call,
        id: CallId,
        client: Id<Client>,
        tenure: Option<Box<Tenure>>,
        shared: &Arc<Shared>,
    ) -> Self {
        shared.live.fetch_add(1, Ordering::Relaxed);
        let title = Title { call: id, epoch: tenure.as_ref().map_or(0, |tenure| tenure.epoch) };
        shared.clients.adopt(title, &[Claim::client(client, 0)]);
        let (shared, held) = (Arc::clone(shared), Vec::new());
        Self { id, client, call, shared, alarm: None, tenure, let_go: false, asked: None, held }
    }
}

fn is_better(by: Owner, title: Title, shared: &Shared) -> bool {
    by > Owner { epoch: title.epoch, node: shared.node() }
}
