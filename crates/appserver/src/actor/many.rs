//! Calls of a server that is one of many: who keeps them, how they are taken over, how they are given up.
//!
//! In: words of custodians, news of nodes that are lost or gone. Out: capsules for custodians, claims, calls that go on here. Elsewhere:
//! the other side of it (`cluster::custody`), the call's own part (`call::Capsule`), calls of a server that stands alone (`actor`).

use super::farewells::Farewell;
use super::{CallMsg, CallState, Peers, ShardState, Shared};
use crate::call::{Call, Capsule as CallCapsule};
use bytes::Bytes;
use cluster::between::{Capsule, Decline, Happened, KeptLeg, Owner, Stand, Title, ToCalls, ToLegs};
use cluster::counters::{Claim, Limits as _};
use cluster::ids::{CallId, LegId, NodeId};
use cluster::leg::{Incoming, LegCommand, LegEvent};
use cluster::media::{MediaCommand, Signalling};
use model::{Client, Id};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// A custodian that does not answer a claim for so long is not waited for.
const CLAIM_LIMIT: Duration = Duration::from_secs(1);
/// Legs of one call whose states are kept.
const STATES_MAX: usize = 64;
/// Calls that have ended and are remembered.
const FINISHED_MAX: usize = 16_384;
/// Calls taken by others whose new servers are to be told something, how often that is tried, and after which pause.
const HINTS_MAX: usize = 65_536;
const HINT_TRIES: u8 = 60;
/// Nodes that are named to custodians of one call.
const CUSTODIANS_MAX: usize = 64;
const HINT_AGAIN: Duration = Duration::from_secs(1);
const HINT_SOON: Duration = Duration::from_millis(25);
/// Sessions that are to be closed when their relays can be reached again.
const UNCLOSED_MAX: usize = 65_536;
/// How long whoever has taken a call over may need to tell its relays.
const CLOSE_AFTER: Duration = Duration::from_secs(5);
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
    /// Legs whose proxies are about to leave, and the others that were asked to carry them on.
    on_their_way: Vec<(LegId, NodeId)>,
    /// Those that could not.
    refused: Vec<(LegId, NodeId)>,
    /// Custodians have it as one that rings.
    rings: bool,
    /// Legs whose states not all custodians have.
    fresh: Vec<LegId>,
    /// It is offered to others, and nothing is done for it here any more.
    pub(super) parked: bool,
    /// Whoever has a leg of it promised to obey nobody lesser before anything was done for it here, and told all that had happened: no
    /// telephone has heard of anything that is not known here.
    is_sole: bool,
}

/// A call that is being taken over: its custodians are asked what they have.
pub(super) struct Adoption {
    title: Title,
    stands: Vec<(NodeId, Stand)>,
    awaited: BTreeSet<NodeId>,
    /// Of whom it was said that they keep it.
    named: BTreeSet<NodeId>,
    /// Who could be reached and was asked.
    asked: BTreeSet<NodeId>,
    until: Instant,
    queue: Vec<(LegId, Option<LegEvent>)>,
}

/// What another server that has taken a call may not know: who else keeps it, or that it is over.
pub(super) struct Hint {
    to: NodeId,
    message: ToCalls,
    tries: u8,
    /// It was said once, perhaps by a link that was about to be lost.
    is_said: bool,
}

/// Calls whose records this server has made durable, of a minute or so: for custodians that have not heard of it.
#[derive(Debug, Default)]
pub(super) struct Finished {
    epochs: HashMap<CallId, u32>,
    /// Those of them that talked until a telephone hung up: they are over, whoever has taken them meanwhile.
    hung_up: BTreeSet<CallId>,
    order: VecDeque<CallId>,
}

impl Finished {
    fn put(&mut self, title: Title) {
        if self.epochs.insert(title.call, title.epoch).is_none() {
            self.order.push_back(title.call);
        }
        if self.order.len() > FINISHED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.epochs.remove(&oldest);
            self.hung_up.remove(&oldest);
        }
    }

    fn epoch(&self, call: CallId) -> Option<u32> {
        self.epochs.get(&call).copied()
    }

    fn hung_up(&self, call: CallId) -> Option<u32> {
        self.epoch(call).filter(|_| self.hung_up.contains(&call))
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
                        debug!(call = %title.call, %leg, "the leg's dialog is kept");
                        tenure.put(KeptLeg { leg, home, state });
                        call.keep(peers);
                    }
                }
            }
            ToCalls::Offer(stand) => self.offered(from, *stand, peers),
            ToCalls::Claimed(stand) => self.claimed(from, *stand),
            ToCalls::Superseded { title, by } => self.superseded(from, title, by, &shared),
            ToCalls::NotHere { title, leg } => self.not_there(from, title, leg, peers),
            ToCalls::Stray { ticket, call, leg } => self.stray(from, ticket, call, leg, peers),
            ToCalls::Revived { title, leg, lives } => self.revived(from, title, leg, lives, peers),
            ToCalls::Leaves { title, leg } => {
                if let Some(call) = self.at(title) {
                    call.leg_leaves(from, leg, peers);
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
            // Whoever was to offer it to others is gone: whoever carries its legs on is asked next.
            call.tenure.iter_mut().for_each(|tenure| tenure.parked = false);
            legs.into_iter().for_each(|leg| call.revive(leg, peers));
            self.settle(id);
        }
        self.not_awaited(proxy);
    }

    /// A proxy is gone: those who were to be hung up by it a moment ago are told by another one, or as soon as there is one.
    pub(super) fn hang_up_again(&mut self, proxy: NodeId) {
        let farewells = self.shared.farewells.lock().gone(proxy, self.shared.now().mono);
        self.hang_up_elsewhere(farewells);
    }

    fn hang_up_elsewhere(&mut self, farewells: Vec<Farewell>) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        for farewell in farewells {
            let Some(place) = proxy_for(farewell.leg.home, farewell.leg.leg, peers) else {
                shared.farewells.lock().strand(farewell);
                continue;
            };
            let Farewell { title, leg: KeptLeg { leg, state, .. }, .. } = farewell;
            let again = KeptLeg { leg, home: place, state: state.clone() };
            peers.legs.tell(place, ToLegs::Revive { title, leg, ticket: None, state });
            peers.legs.command(title, place, leg, LegCommand::Bye { reason: None });
            peers.legs.tell(place, ToLegs::Done { title });
            // That one may be gone as well, and nobody have noticed yet.
            shared.farewells.lock().put(Farewell { at: shared.now().mono, title, leg: again });
        }
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
        let stranded = shared.farewells.lock().stranded(shared.now().mono);
        self.hang_up_elsewhere(stranded);
        // What it was asked before may be lost.
        let mut taken: Vec<&mut Adoption> = self.adoptions.values_mut().collect();
        taken.sort_unstable_by_key(|adoption| adoption.title.call);
        for adoption in taken.into_iter().filter(|adoption| adoption.named.contains(&proxy)) {
            if !adoption.stands.iter().any(|(node, _)| *node == proxy) {
                adoption.awaited.insert(proxy);
                adoption.asked.insert(proxy);
                peers.legs.tell(proxy, ToLegs::Claim { title: adoption.title });
            }
        }
        for id in self.ids() {
            let Some(call) = self.calls.get_mut(&id).filter(|call| !call.is_parked()) else { continue };
            if call.tenure.as_ref().is_some_and(|tenure| tenure.involved.contains(&proxy)) {
                peers.legs.tell(proxy, ToLegs::Claim { title: call.title() });
            }
            // Their proxies went when there was none to carry them on.
            let is_stranded = |home: NodeId| home != proxy && peers.legs.is_gone(home);
            let stranded = call.call.legs().filter(|leg| is_stranded(call.home(*leg)));
            let stranded: Vec<LegId> = stranded.collect();
            if !stranded.is_empty() {
                stranded.into_iter().for_each(|leg| call.revive(leg, peers));
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

    /// Whatever waits for a deadline of a call that is being taken over, or was taken by another server.
    pub(super) fn many_due(&mut self, id: CallId) {
        if self.hints.contains_key(&id) {
            self.give_hint(id);
        }
        self.close_left(id);
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
            let Some(tenure) = &mut call.tenure else { return };
            if tenure.parked && self.shared.draining.load(Ordering::Relaxed) {
                return peers.legs.tell(from, ToLegs::Decline { title, why: Decline::Draining });
            }
            // It was out of reach for this custodian, and the call went on here; or it was given away, nobody took it, and this
            // server stays after all. Everybody is shown the title that beats all before.
            tenure.parked = false;
            tenure.involved.insert(from);
            if title.epoch > tenure.epoch {
                tenure.epoch = title.epoch;
                call.call.reign(title.epoch);
                self.shared.limits().adopt(title, &call.held);
                for node in &tenure.involved {
                    peers.legs.tell(*node, ToLegs::Claim { title });
                }
            } else {
                let title = call.title();
                peers.legs.tell(from, ToLegs::Claim { title });
            }
            return self.settle(title.call);
        }
        let finished = self.shared.finished.lock().epoch(title.call);
        if finished.is_some_and(|epoch| epoch + 1 >= title.epoch) {
            return peers.legs.tell(from, ToLegs::Done { title }); // it had not heard of it
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
        awaited.insert(self.shared.node()); // this node may have a leg of it, or keep it, and know more
        awaited.retain(|node| peers.legs.can_reach(*node));
        awaited.insert(from); // it speaks, whatever the view says of it
        for node in &awaited {
            peers.legs.tell(*node, ToLegs::Claim { title });
        }
        let until = self.shared.now().mono + CLAIM_LIMIT;
        // Should it not answer the claim, what it offered counts.
        let named = stand.capsule.custodians.iter().copied().collect();
        let stands = vec![(from, stand)];
        let asked = awaited.clone();
        let adoption = Adoption { title, stands, awaited, named, asked, until, queue: Vec::new() };
        self.adoptions.insert(title.call, adoption);
        if let Some(alarms) = self.shared.alarms.get() {
            alarms.set(until, title.call);
        }
    }

    fn claimed(&mut self, from: NodeId, stand: Stand) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        let id = stand.title.call;
        let is_hint = is_hint(&stand);
        if let Some(adoption) = self.adoptions.get_mut(&id) {
            if adoption.title != stand.title {
                return;
            }
            adoption.named.extend(&stand.capsule.custodians);
            for node in stand.capsule.custodians.iter().filter(|node| peers.legs.can_reach(**node)) {
                let is_known = adoption.stands.iter().any(|(known, _)| known == node);
                if *node != from && !is_known && adoption.awaited.insert(*node) {
                    adoption.asked.insert(*node);
                    peers.legs.tell(*node, ToLegs::Claim { title: stand.title });
                }
            }
            if is_hint {
                return;
            }
            adoption.awaited.remove(&from);
            let is_custodian =
                stand.capsule.version > 0 || stand.incoming.is_some() || !stand.legs.is_empty();
            if is_custodian {
                adoption.stands.retain(|(node, _)| *node != from);
                adoption.stands.push((from, stand));
            }
            if adoption.awaited.is_empty() {
                self.adopt(id);
            }
            return;
        }
        if !self.calls.contains_key(&id)
            && let Some(epoch) = shared.finished.lock().epoch(id).filter(|epoch| *epoch >= stand.title.epoch)
        {
            let title = Title { call: id, epoch };
            for node in &stand.capsule.custodians {
                peers.legs.tell(*node, ToLegs::Done { title });
            }
            return;
        }
        let Some(call) = self.at(stand.title) else { return };
        if let Some(tenure) = &mut call.tenure {
            // One that is out of reach is asked when it is back.
            for node in &stand.capsule.custodians {
                if tenure.involved.insert(*node) && peers.legs.can_reach(*node) {
                    peers.legs.tell(*node, ToLegs::Claim { title: stand.title });
                }
            }
        }
        if is_hint {
            call.hear_of_relays(&stand.capsule, id);
            return self.settle(id);
        }
        // A proxy that lost us for a while: what its legs did meanwhile, and which of them are left.
        let here = call.legs_at(from);
        // Legs that live elsewhere as well; one of both proxies was given up for lost, and another server may have spoken by it.
        if stand.legs.iter().any(|leg| !here.contains(leg) && call.call.legs().any(|own| own == *leg)) {
            call.tenure.iter_mut().for_each(|tenure| tenure.is_sole = false);
            call.hear_of_relays(&stand.capsule, id);
        }
        for leg in stand.legs.iter().filter(|leg| !here.contains(leg)) {
            if call.call.legs().any(|own| own == *leg) {
                let theirs = stand.capsule.legs.iter().find(|kept| kept.leg == *leg && kept.home == from);
                let parted = call.take_younger(theirs).unwrap_or(from);
                peers.legs.tell(parted, ToLegs::Part { title: stand.title, leg: *leg });
            }
        }
        call.break_off_at(from, &stand.legs, peers);
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
        let Adoption { title, mut stands, named, asked, queue, .. } = adoption;
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
            involved: named,
            ..Tenure::default()
        };
        // Newer states go over older ones, and of equal ones a proxy is right about its own legs.
        stands.sort_by_key(|(node, stand)| (stand.capsule.version, *node));
        let mut states: Vec<(u32, bool, &KeptLeg)> = Vec::new();
        for (node, stand) in &stands {
            let legs = stand.capsule.legs.iter();
            let is_own = |leg: &KeptLeg| leg.home == *node && stand.legs.contains(&leg.leg);
            states.extend(legs.map(|leg| (stand.capsule.version, is_own(leg), leg)));
        }
        states.sort_by_key(|(version, is_own, _)| (*version, *is_own));
        states.into_iter().for_each(|(_, _, leg)| tenure.put(leg.clone()));
        // Who was given up for lost has legs still that live elsewhere now.
        for (node, stand) in &stands {
            for leg in stand.legs.iter().filter(|leg| tenure.home(**leg) != *node) {
                peers.legs.tell(*node, ToLegs::Part { title, leg: *leg });
            }
        }
        // Whoever can be reached since then has his say, too.
        for node in tenure.involved.difference(&asked).filter(|node| peers.legs.can_reach(**node)) {
            peers.legs.tell(*node, ToLegs::Claim { title });
        }
        tenure.involved.extend(stands.iter().map(|(node, _)| *node));
        let mut happened: Vec<Happened> =
            stands.iter().flat_map(|(_, stand)| stand.happened.clone()).collect();
        happened.sort_by_key(|happened| happened.unix_us);
        // An answer that is not in the capsule may be one to an offer of another relay.
        let is_answer = |happened: &Happened| matches!(happened.event, Some(LegEvent::Answer { .. }));
        let has_answers = happened.iter().any(is_answer);
        let call = Call::adopt(&capsule, title.epoch, happened, now);
        let is_told = |leg: LegId| {
            let home = tenure.home(leg);
            stands.iter().any(|(node, stand)| *node == home && stand.legs.contains(&leg))
        };
        tenure.is_sole = !has_answers && call.legs().all(is_told);
        info!(call = %id, epoch = title.epoch, custodians = stands.len(), "call is carried on here");
        shared.adopted.fetch_add(1, Ordering::Relaxed);
        let mut state = CallState::adopted(call, capsule.client(), Box::new(tenure), &shared);
        state.held = capsule.held().to_vec();
        shared.limits().adopt(title, &state.held);
        for relay in capsule.relays() {
            if peers.legs.relay_is_lost(relay) {
                if state.relay_lost(relay, peers) {
                    self.unclosed(relay, id);
                } else {
                    self.relayless.insert((relay, id));
                }
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
    fn superseded(&mut self, from: NodeId, title: Title, by: Owner, shared: &Shared) {
        let id = title.call;
        let is_over = by.epoch < title.epoch;
        if let (true, Some(peers)) = (is_over, shared.peers.get())
            && self.adoptions.get(&id).is_some_and(|adoption| adoption.title == title)
            && let Some(adoption) = self.adoptions.remove(&id)
        {
            // The one before had ended the call, and not all custodians have heard of it.
            shared.finished.lock().put(title);
            let custodians: BTreeSet<NodeId> = adoption.stands.iter().map(|(node, _)| *node).collect();
            for node in custodians.union(&adoption.awaited) {
                peers.legs.tell(*node, ToLegs::Done { title });
            }
            return;
        }
        // The same, found out later: what goes on here goes on nowhere else.
        if let (true, Some(peers)) = (is_over, shared.peers.get())
            && self.calls.get(&id).is_some_and(|call| call.title() == title)
            && let Some(mut call) = self.calls.remove(&id)
        {
            debug!(call = %id, by = by.node.0, "call was over before it was taken");
            call.let_go = true;
            call.done(peers);
            let relays = call.call.relays();
            drop(call);
            relays.into_iter().for_each(|relay| self.unclosed(relay, id));
            return self.close_later(id);
        }
        let finished = shared.finished.lock().hung_up(id);
        if let Some(epoch) = finished.filter(|epoch| *epoch < by.epoch && !self.calls.contains_key(&id)) {
            let title = Title { call: id, epoch: by.epoch };
            let by_us = Owner { epoch, node: shared.node() };
            self.hint(id, by.node, ToCalls::Superseded { title, by: by_us });
            return self.give_hint(id);
        }
        if self.adoptions.get(&id).is_some_and(|adoption| is_better(by, adoption.title, shared))
            && let Some(adoption) = self.adoptions.remove(&id)
        {
            // Whoever offered it obeys this server by now, and that one may not know of him.
            let custodians = adoption.stands.iter().map(|(node, _)| *node).filter(|node| *node != from);
            self.hint_of(id, by, custodians.collect(), Bytes::new());
            self.give_hint(id);
        }
        if self.calls.get(&id).is_some_and(|call| is_better(by, call.title(), shared))
            && let Some(mut call) = self.calls.remove(&id)
        {
            debug!(call = %id, to = by.node.0, "call goes on at another application server");
            call.let_go = true;
            // That one may not know of all who keep the call.
            let involved = call.tenure.iter().flat_map(|tenure| &tenure.involved).copied();
            let custodians: Vec<NodeId> = involved.filter(|node| *node != from).collect();
            let last = call.call.capsule().map(|capsule| capsule.encode()).unwrap_or_default();
            self.hint_of(id, by, custodians, last);
            // That one may not know of a relay that the media went to last.
            let relays = call.call.relays();
            drop(call);
            relays.into_iter().for_each(|relay| self.unclosed(relay, id));
            self.close_later(id);
            self.give_hint(id);
        }
    }

    fn hint(&mut self, id: CallId, to: NodeId, message: ToCalls) {
        if self.hints.len() < HINTS_MAX {
            self.hints.insert(id, Hint { to, message, tries: 0, is_said: false });
        }
    }

    /// For a better owner than this server: who else keeps the call, and how it was here.
    fn hint_of(&mut self, id: CallId, by: Owner, custodians: Vec<NodeId>, call: Bytes) {
        if by.node == self.shared.node() || custodians.is_empty() {
            return;
        }
        let title = Title { call: id, epoch: by.epoch };
        let capsule = Capsule { custodians, call, ..Capsule::default() };
        let (legs, happened) = (Vec::new(), Vec::new());
        let stand = Stand { title, incoming: None, capsule, legs, happened };
        self.hint(id, by.node, ToCalls::Claimed(Box::new(stand)));
    }

    /// Tells the server that has taken a call what it may not know, or tries again later.
    fn give_hint(&mut self, id: CallId) {
        let shared = Arc::clone(&self.shared);
        let (Some(peers), Some(hint)) = (shared.peers.get(), self.hints.get_mut(&id)) else { return };
        hint.tries += 1;
        let was_said = hint.is_said;
        let is_told = peers.legs.tell_server(hint.to, hint.message.clone());
        hint.is_said |= is_told;
        if is_told && was_said || hint.tries >= HINT_TRIES {
            self.hints.remove(&id);
        } else if let Some(alarms) = shared.alarms.get() {
            // Soon at first: its link is most likely about to be up, and it may be about to end what it cannot know.
            let soon = HINT_AGAIN.min(HINT_SOON * 2u32.pow(u32::from(hint.tries.min(8))));
            let again = if is_told { CLOSE_AFTER } else { soon };
            alarms.set(shared.now().mono + again, id);
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
        if !self.at(title).is_some_and(|call| call.call.is_open()) {
            // It is another process than the one that was to hang up.
            let farewells =
                self.shared.farewells.lock().not_there(from, title.call, leg, self.shared.now().mono);
            self.hang_up_elsewhere(farewells);
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

    /// A proxy says whether it has a leg now that it was to carry on.
    fn revived(&mut self, from: NodeId, title: Title, leg: LegId, lives: bool, peers: &Peers) {
        let now = self.shared.now();
        let Some(call) = self.at(title) else { return };
        if call.home(leg) == from {
            if !lives {
                call.call.leg_lost(leg, now);
            }
        } else if call.leg_has_moved(from, leg, lives, peers) {
            info!(call = %title.call, %leg, to = from.0, "leg goes on at another proxy; its own is about to leave");
        } else if lives {
            // It went elsewhere before this one said anything.
            peers.legs.tell(from, ToLegs::Part { title, leg });
        }
        self.settle(title.call);
    }

    /// A request of a leg's peer came to a proxy that does not have it: the leg goes there.
    fn stray(&mut self, from: NodeId, ticket: u64, id: CallId, leg: LegId, peers: &Peers) {
        if self.adoptions.contains_key(&id) || self.calls.get(&id).is_some_and(CallState::is_parked) {
            return; // whoever has the call in a moment is asked again
        }
        let call = self.calls.get_mut(&id);
        let call = call.filter(|call| call.call.is_talking() && call.call.legs().any(|own| own == leg));
        let Some(call) = call else { return peers.legs.tell(from, ToLegs::NoStray { ticket }) };
        let title = call.title();
        let Some(tenure) = call.tenure.as_mut() else {
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
        call.call.leg_revived(leg);
        self.settle(id);
    }
}

impl CallState {
    /// The call of an INVITE.
    pub(super) fn new(incoming: &Incoming, tenure: Option<Box<Tenure>>, shared: &Arc<Shared>) -> Self {
        shared.total.fetch_add(1, Ordering::Relaxed);
        let mut call = Call::new(incoming, shared.now());
        call.reign(tenure.as_ref().map_or(0, |tenure| tenure.epoch));
        Self::adopted_or_new(call, incoming.call, incoming.client, tenure, shared)
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

/// A proxy for a leg whose own one is gone: another, or its own if that is back and there is no other.
fn proxy_for(gone: NodeId, leg: LegId, peers: &Peers) -> Option<NodeId> {
    peers
        .legs
        .proxies_instead(gone, leg)
        .first()
        .copied()
        .or_else(|| peers.legs.can_reach(gone).then_some(gone))
}

/// Whether it is no custodian's, but what a server that had the call before says of those who keep it ([`Hint`]): it has nothing itself.
fn is_hint(stand: &Stand) -> bool {
    stand.capsule.version == 0
        && stand.incoming.is_none()
        && stand.legs.is_empty()
        && stand.happened.is_empty()
        && !stand.capsule.custodians.is_empty()
}

fn is_better(by: Owner, title: Title, shared: &Shared) -> bool {
    by > Owner { epoch: title.epoch, node: shared.node() }
}

mod relays;
mod tenure;
