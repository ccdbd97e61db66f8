//! Calls of a server that is one of many: who keeps them, how they are taken over, how they are given up.
//!
//! In: words of custodians, news of nodes that are lost or gone. Out: capsules for custodians, claims, calls that go on here. Elsewhere:
//! the other side of it (`cluster::custody`), the call's own part (`call::Capsule`), calls of a server that stands alone (`actor`).

use super::farewells::Farewell;
use super::{CallMsg, CallState, Peers, ShardState, Shared};
use crate::call::{Call, Capsule as CallCapsule};
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
    until: Instant,
    queue: Vec<(LegId, Option<LegEvent>)>,
}

/// Custodians of a call that another server has taken, which it may not know of.
pub(super) struct Hint {
    to: NodeId,
    stand: Stand,
    tries: u8,
}

/// Calls whose records this server has made durable, of a minute or so: for custodians that have not heard of it.
#[derive(Debug, Default)]
pub(super) struct Finished {
    epochs: HashMap<CallId, u32>,
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
        }
    }

    fn epoch(&self, call: CallId) -> Option<u32> {
        self.epochs.get(&call).copied()
    }
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

    /// Whether it is offered to other servers, and nothing is done for it here any more.
    pub(super) fn is_parked(&self) -> bool {
        self.tenure.as_ref().is_some_and(|tenure| tenure.parked)
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
        if keepers.iter().all(|node| *node == me) {
            // All its legs are here: somebody must know of it when this node is gone.
            keepers.extend(peers.legs.guards(capsule.client(), self.id).first());
        }
        tenure.tell(self.id, &capsule, &self.call, keepers, peers);
    }

    /// The call's record is durable: whoever knows of it may forget it.
    pub(super) fn done(&mut self, peers: &Peers) {
        let title = self.title();
        let Some(tenure) = &mut self.tenure else { return };
        self.shared.finished.lock().put(title);
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

    /// Somebody says that another server has the call: custodians know. `false`: it is in no cluster.
    pub(super) fn doubt(&mut self) -> bool {
        let title = self.title();
        let (Some(tenure), Some(peers)) = (&self.tenure, self.shared.peers.get()) else { return false };
        for node in &tenure.involved {
            peers.legs.tell(*node, ToLegs::Claim { title });
        }
        true
    }

    /// Carries on a leg at another proxy, or gives it up.
    fn revive(&mut self, leg: LegId, peers: &Peers) {
        let now = self.shared.now();
        let title = self.title();
        let Some(tenure) = &mut self.tenure else { return };
        let home = tenure.home(leg);
        let place = proxy_for(home, leg, peers);
        if place.is_none() && tenure.state(leg).is_some() && self.call.is_talking() {
            return; // until a proxy is back
        }
        match (tenure.state(leg).cloned(), place) {
            (Some(state), Some(place)) => {
                info!(call = %self.id, %leg, from = home.0, to = place.0, "leg goes on at another proxy");
                let message = ToLegs::Revive { title, leg, ticket: None, state: state.state.clone() };
                tenure.put(KeptLeg { home: place, ..state });
                tenure.involved.insert(place);
                peers.legs.tell(place, message);
                self.call.leg_revived(leg);
            }
            (None, _) | (_, None) => {
                warn!(call = %self.id, %leg, at = home.0, "leg is lost with its proxy");
                self.call.leg_lost(leg, now);
            }
        }
    }

    /// A telephone is told that its call is over; where its proxy is gone, another one has to do it.
    pub(super) fn reach(&mut self, leg: LegId, peers: &Peers) {
        let Some(tenure) = &self.tenure else { return };
        if peers.legs.is_gone(tenure.home(leg)) && tenure.state(leg).is_some() {
            self.revive(leg, peers);
        }
        // Should the proxy prove to be gone, another one has to say it. Not before: it may be this server that is cut off, and the call
        // with another one.
        if let Some(state) = self.tenure.as_ref().and_then(|tenure| tenure.state(leg)) {
            let (at, title, leg) = (self.shared.now().mono, self.title(), state.clone());
            let farewell = Farewell { at, title, leg };
            self.shared.farewells.lock().put(farewell);
        }
    }

    /// Of two copies of a leg the one that was carried on away from its birthplace is younger: it has spoken to the telephone last, and
    /// with higher numbers. Gives the proxy whose copy is void, if that is the one that was known.
    fn take_younger(&mut self, theirs: Option<&KeptLeg>) -> Option<NodeId> {
        let (tenure, theirs) = (self.tenure.as_mut()?, theirs?);
        let known = tenure.home(theirs.leg);
        let is_younger = known == theirs.leg.node() && theirs.home != known;
        is_younger.then(|| tenure.put(theirs.clone()))?;
        Some(known)
    }

    /// Legs at a proxy that was out of reach may have been asked for something by another server, and have not heard what this one wanted:
    /// all that was under way comes to its end, and what has to be is asked for again.
    fn break_off_at(&mut self, proxy: NodeId, living: &[LegId], peers: &Peers) {
        if !self.call.is_talking() {
            return;
        }
        let title = self.title();
        for leg in self.legs_at(proxy).into_iter().filter(|leg| living.contains(leg)) {
            peers.legs.command(title, proxy, leg, LegCommand::RejectOffer { status: 491 });
            let reason = Some("SIP;cause=503;text=\"Application server out of reach\"".to_owned());
            peers.legs.command(title, proxy, leg, LegCommand::Cancel { reason });
            self.call.leg_revived(leg);
        }
    }

    /// A server that had the call at the same time may have taken its media elsewhere, and told the peers so: then they are told anew.
    /// One that no leg obeyed meanwhile told nobody.
    fn hear_of_relays(&mut self, theirs: &Capsule, id: CallId) {
        if self.tenure.as_ref().is_some_and(|tenure| tenure.is_sole) {
            return;
        }
        let Ok(capsule) = CallCapsule::decode(&theirs.call) else { return };
        let other: BTreeSet<NodeId> = capsule.relays().collect();
        if capsule.call() == id && other != self.call.relays().into_iter().collect() {
            self.call.media_anew();
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
        // Whoever was given up for lost may live, and serve the call with others: the next owner has to know of it.
        let all: Vec<NodeId> = keepers.union(&self.involved).copied().take(CUSTODIANS_MAX).collect();
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

    /// A relay is out of reach: its media move.
    pub(super) fn relay_lost(&mut self, relay: NodeId) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        for id in self.ids() {
            let is_concerned =
                |call: &&mut CallState| call.call.uses_relay(relay) || call.call.awaits_relay(relay);
            let Some(call) = self.calls.get_mut(&id).filter(is_concerned) else { continue };
            if call.relay_lost(relay, peers) {
                self.unclosed(relay, id);
            } else {
                self.relayless.insert((relay, id));
            }
            self.settle(id);
        }
    }

    /// A session stays at a relay that cannot be told.
    fn unclosed(&mut self, relay: NodeId, call: CallId) {
        if self.unclosed.len() < UNCLOSED_MAX {
            self.unclosed.insert((relay, call), self.shared.now().mono + CLOSE_AFTER);
        }
    }

    /// A relay is in reach again: what it has kept for nothing is closed, once it is certain that nobody else uses it.
    pub(super) fn relay_back(&mut self, relay: NodeId) {
        self.find_relays();
        let calls = self.unclosed.keys().filter(|(at, _)| *at == relay).map(|(_, id)| *id);
        let calls: Vec<CallId> = calls.collect();
        for id in calls {
            self.unclosed(relay, id);
            self.close_later(id);
        }
    }

    /// Calls that lost their relays while none was in reach get one.
    fn find_relays(&mut self) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        for (relay, id) in std::mem::take(&mut self.relayless) {
            let Some(call) = self.calls.get_mut(&id).filter(|call| call.call.uses_relay(relay)) else {
                continue;
            };
            let new = call.call.caller_leg().and_then(|leg| peers.legs.relay(call.client, leg, id, None));
            match new {
                Some(new) => {
                    call.call.relay_lost(relay, Some(new), shared.now());
                    self.unclosed(relay, id);
                    self.settle(id);
                }
                None => drop(self.relayless.insert((relay, id))),
            }
        }
    }

    fn close_later(&self, id: CallId) {
        if let Some(alarms) = self.shared.alarms.get() {
            alarms.set(self.shared.now().mono + CLOSE_AFTER, id);
        }
    }

    /// Closes what a call has left at relays. Whoever has taken the call over has told its relays: they refuse this.
    fn close_left(&mut self, id: CallId) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        let now = shared.now().mono;
        let due = self.unclosed.extract_if(.., |(relay, call), at| {
            *call == id && *at <= now && !peers.legs.relay_is_lost(*relay)
        });
        for ((relay, _), _) in due {
            if self.calls.get(&id).is_none_or(|call| !call.call.uses_relay(relay)) {
                let command = MediaCommand::Close;
                drop(peers.media.submit(relay, id, u32::MAX, command, Signalling::default()));
            }
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
        let adoption = Adoption { title, stands: vec![(from, stand)], awaited, until, queue: Vec::new() };
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
            for node in stand.capsule.custodians.iter().filter(|node| peers.legs.can_reach(**node)) {
                let is_known = adoption.stands.iter().any(|(known, _)| known == node);
                if *node != from && !is_known && adoption.awaited.insert(*node) {
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
            for node in stand.capsule.custodians.iter().filter(|node| peers.legs.can_reach(**node)) {
                if tenure.involved.insert(*node) {
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
        // Newer states go over older ones, and of equal ones a proxy is right about its own legs.
        stands.sort_by_key(|(node, stand)| (stand.capsule.version, *node));
        let mut states: Vec<(u32, bool, &KeptLeg)> = Vec::new();
        for (node, stand) in &stands {
            let legs = stand.capsule.legs.iter();
            states.extend(legs.map(|leg| (stand.capsule.version, leg.home == *node, leg)));
        }
        states.sort_by_key(|(version, is_own, _)| (*version, *is_own));
        states.into_iter().for_each(|(_, _, leg)| tenure.put(leg.clone()));
        // Who was given up for lost has legs still that live elsewhere now.
        for (node, stand) in &stands {
            for leg in stand.legs.iter().filter(|leg| tenure.home(**leg) != *node) {
                peers.legs.tell(*node, ToLegs::Part { title, leg: *leg });
            }
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
        if self.adoptions.get(&id).is_some_and(|adoption| is_better(by, adoption.title, shared)) {
            self.adoptions.remove(&id);
        }
        if self.calls.get(&id).is_some_and(|call| is_better(by, call.title(), shared))
            && let Some(mut call) = self.calls.remove(&id)
        {
            debug!(call = %id, to = by.node.0, "call goes on at another application server");
            call.let_go = true;
            // That one may not know of all who keep the call.
            let involved = call.tenure.iter().flat_map(|tenure| &tenure.involved).copied();
            let custodians: Vec<NodeId> = involved.filter(|node| *node != from).collect();
            if by.node != shared.node() && !custodians.is_empty() {
                let title = Title { call: id, epoch: by.epoch };
                let last = call.call.capsule().map(|capsule| capsule.encode()).unwrap_or_default();
                let capsule = Capsule { custodians, call: last, ..Capsule::default() };
                let (legs, happened) = (Vec::new(), Vec::new());
                let stand = Stand { title, incoming: None, capsule, legs, happened };
                if self.hints.len() < HINTS_MAX {
                    self.hints.insert(id, Hint { to: by.node, stand, tries: 0 });
                }
            }
            // That one may not know of a relay that the media went to last.
            let relays = call.call.relays();
            drop(call);
            relays.into_iter().for_each(|relay| self.unclosed(relay, id));
            self.close_later(id);
            self.give_hint(id);
        }
    }

    /// Tells the server that has taken a call who else keeps it, or tries again later.
    fn give_hint(&mut self, id: CallId) {
        let shared = Arc::clone(&self.shared);
        let (Some(peers), Some(hint)) = (shared.peers.get(), self.hints.get_mut(&id)) else { return };
        hint.tries += 1;
        let is_told = peers.legs.tell_server(hint.to, ToCalls::Claimed(Box::new(hint.stand.clone())));
        if is_told || hint.tries >= HINT_TRIES {
            self.hints.remove(&id);
        } else if let Some(alarms) = shared.alarms.get() {
            // Soon at first: its link is most likely about to be up, and it may be about to end what it cannot know.
            let again = HINT_AGAIN.min(HINT_SOON * 2u32.pow(u32::from(hint.tries.min(8))));
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
    /// Takes the media to another relay. `false`: none is in reach, so it is this server that is cut off; a conversation goes on where it
    /// is until there is one again.
    fn relay_lost(&mut self, relay: NodeId, peers: &Peers) -> bool {
        let new = self.other_relay(relay, peers);
        if new.is_none() && self.call.is_talking() && self.call.relay() == Some(relay) {
            return false;
        }
        self.call.relay_lost(relay, new, self.shared.now());
        true
    }

    fn other_relay(&self, not: NodeId, peers: &Peers) -> Option<NodeId> {
        let caller = self.call.caller_leg()?;
        peers.legs.relay(self.client, caller, self.id, Some(not))
    }

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
    peers.legs.proxy_instead(gone, leg).or_else(|| peers.legs.can_reach(gone).then_some(gone))
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
