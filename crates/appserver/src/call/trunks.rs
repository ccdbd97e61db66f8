//! A call that leaves the platform: carriers are tried one after the other until one answers or nobody is left.
//!
//! In: the servers to be tried, their refusals. Out: the next leg, and what the record tells of each. Manual, chapters 9.2.1 and 9.3.
//! Elsewhere: which servers, and in which order (`route`), ringing and answers (`setup`).

use super::route::{Try, Words};
use super::{Call, Now, Slot, World};
use cluster::ids::NodeId;
use cluster::leg::{Callee, Originate};
use model::{CarrierAttempt, Trunk};
use routing::StatusCodes;
use std::collections::VecDeque;
use std::time::Duration;

/// A carrier's side rings no longer than this; RFC 3261 section 16.6 step 11 gives it three minutes and more.
pub(super) const RING: Duration = Duration::from_secs(185);

/// The carriers of a call that has not been answered yet.
#[derive(Debug)]
pub(super) struct Trunks {
    /// Those that are left.
    tries: VecDeque<Try>,
    /// The one that is called now, and by which leg.
    current: Option<(Slot, Try)>,
    words: Words,
    /// The proxy that calls them.
    home: NodeId,
    /// Which failures make the next one be tried.
    failures: StatusCodes,
}

impl Trunks {
    pub(super) fn new(tries: VecDeque<Try>, words: Words, home: NodeId, failures: StatusCodes) -> Self {
        Self { tries, current: None, words, home, failures }
    }
}

impl Call {
    /// Calls the next carrier; `false`: nobody is left.
    pub(super) fn next_carrier(&mut self) -> bool {
        let slot = self.legs.len();
        let Some(trunks) = &mut self.trunks else { return false };
        let Some(next) = trunks.tries.pop_front() else { return false };
        let words = &trunks.words;
        let order = Originate {
            caller_number: next.caller.clone(),
            called_number: next.called.clone(),
            diversions: next.diversions.clone(),
            ..words.order(self.id, trunks.home, Callee::Server { server: next.server })
        };
        let name = next.name.clone();
        if let Some(external) = self.story.outbound() {
            external.attempts.push(CarrierAttempt { carrier: next.carrier, server: next.server, status: 0 });
        }
        trunks.current = Some((slot, next));
        self.prepare(order, None, &name);
        self.offer_to(slot);
        true
    }

    /// The leg to a carrier came to nothing. `true`: another carrier is called.
    pub(super) fn carrier_failed(&mut self, slot: Slot, status: u16) -> bool {
        let Some(trunks) = &mut self.trunks else { return false };
        if trunks.current.take_if(|(current, _)| *current == slot).is_none() {
            return false;
        }
        let goes_on = trunks.failures.contains(status) && !trunks.tries.is_empty();
        if let Some(attempt) = self.story.outbound().and_then(|external| external.attempts.last_mut()) {
            attempt.status = status;
        }
        self.version += 1;
        // What the one before said about its refusal is not said of the next one's.
        if goes_on {
            self.refusals.clear();
        }
        goes_on && self.next_carrier()
    }

    /// The leg to a carrier was answered: it has the call, at its price.
    pub(super) fn carrier_answered(&mut self, slot: Slot) {
        let Some((_, chosen)) =
            self.trunks.take().and_then(|trunks| trunks.current).filter(|(at, _)| *at == slot)
        else {
            return;
        };
        let sip_call_id = self.story.legs.get(slot).map(|leg| leg.sip_call_id.clone()).unwrap_or_default();
        let Some(external) = self.story.outbound() else { return };
        if let Some(attempt) = external.attempts.last_mut() {
            attempt.status = 200;
        }
        external.trunk = Some(Trunk::Carrier { carrier: chosen.carrier, server: chosen.server });
        external.cost = chosen.cost;
        external.sip_call_id = sip_call_id;
        self.version += 1;
    }

    /// Begins with the first carrier.
    pub(super) fn call_carriers(&mut self, trunks: Trunks, world: &dyn World, now: Now) {
        self.phase = super::Phase::Ringing { until: now.mono + RING.max(world.ring_time()) };
        self.trunks = Some(Box::new(trunks));
        self.next_carrier();
    }
}
