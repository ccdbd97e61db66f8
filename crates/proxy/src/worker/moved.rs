//! Legs that move between proxies: requests for a leg that is not here wait while it is asked for, and legs of other proxies are
//! carried on.
//!
//! In: requests inside dialogs that no leg of ours has, states of legs. Out: questions to application servers, legs. Elsewhere: the
//! bytes of a leg (`leg_state`), who decides where a leg lives (crates `cluster` and `appserver`).

use super::Worker;
use crate::leg::{Leg, LegMsg};
use crate::leg_state::{LegState, Peer};
use crate::legs::{LegTag, call_in, seal, session_config};
use crate::stats::{Cause, add};
use bytes::Bytes;
use cluster::ids::{CallId, LegId};
use sip::draft::ResponseDraft;
use sip::flow::Flow;
use sip::msg::Message;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// Requests that wait, of all legs and of each.
const HELD_MAX: usize = 1024;
const HELD_OF_LEG_MAX: usize = 4;

/// Legs of one worker that ask at a time to go elsewhere: their telephones are all told within a few seconds.
const LEAVE_AT_ONCE: usize = 256;

/// Requests that wait for their legs.
#[derive(Default)]
pub(super) struct Held {
    legs: HashMap<LegId, Vec<(Message, Flow)>>,
}

impl Worker {
    /// Whether the leg that a request is for is asked for, so that the request may wait. Only where proxies share a key: the
    /// tag has been found true by then.
    pub(super) fn ask_for(&mut self, leg: LegId, msg: &Message) -> bool {
        if self.shared.config.seal.is_none() {
            return false;
        }
        if let Some(held) = self.held_for.legs.get(&leg) {
            return held.len() < HELD_OF_LEG_MAX;
        }
        let user = msg.uri().ok().and_then(|uri| uri.user_decoded());
        let call = user.and_then(|user| call_in(std::str::from_utf8(&user).ok()?));
        let calls = self.shared.calls.get();
        self.held_for.legs.len() < HELD_MAX
            && call.zip(calls).is_some_and(|(call, calls)| calls.stray(call, leg))
    }

    /// Lets a request wait for its leg. One that is there already was only repeated.
    pub(super) fn hold(&mut self, leg: LegId, msg: Message, flow: Flow) {
        let held = self.held_for.legs.entry(leg).or_default();
        if !held.iter().any(|(other, _)| other.raw() == msg.raw()) {
            held.push((msg, flow));
        }
    }

    /// Carries on a leg of another proxy, or of this one before it was started anew.
    pub(super) fn revive(&mut self, call: CallId, leg: LegId, state: Bytes, now: Instant) {
        let waiting = self.held_for.legs.remove(&leg).unwrap_or_default();
        let was_here = self.legs.contains_key(&leg);
        let state = if was_here { None } else { self.carry_on(call, leg, state, &waiting, now) };
        let lives = was_here || state.is_some();
        if let Some(calls) = self.shared.calls.get() {
            calls.revived(call, leg, lives);
            if let Some(state) = state {
                calls.leg_state(call, leg, state);
            }
        }
        self.tell(leg, LegMsg::Wake, now); // it may have something to say, and its time runs
        for (msg, flow) in waiting {
            if lives {
                self.request(msg, flow, Duration::ZERO, now);
                self.settle(now); // one after the other, as they came
            } else {
                self.refuse(&msg, flow, &ResponseDraft::new(481), Cause::NoDialog, now);
            }
        }
    }

    /// Its state from here on; `None`: this proxy cannot have it.
    fn carry_on(
        &mut self,
        call: CallId,
        leg: LegId,
        state: Bytes,
        waiting: &[(Message, Flow)],
        now: Instant,
    ) -> Option<Bytes> {
        let key = self.shared.config.seal.as_ref()?;
        let tag = LegTag { leg, secret: seal(key, leg) };
        if self.shared.legs.load(Ordering::Relaxed) >= self.shared.config.limits.legs {
            return None;
        }
        let state = match LegState::decode(state) {
            Ok(state) => state,
            Err(error) => {
                warn!(%call, %leg, %error, "a leg of another proxy cannot be carried on");
                return None;
            }
        };
        if *state.session.dialog().local_tag != *tag.text() {
            warn!(%call, %leg, "a leg of another proxy has another name in its dialog; it is not carried on");
            return None;
        }
        // A tag may be borrowed: whoever does not know the rest of the dialog does not say where its telephone is.
        let seen = waiting.iter().rev().find(|(msg, _)| state.session.dialog().owns(msg));
        let seen = seen.map(|(_, flow)| *flow);
        let to = state.destination(&self.shared, seen)?;
        let config = session_config(&self.shared, leg, call, to.flow.listener)?;
        debug!(%call, %leg, "a leg of another proxy is carried on");
        let here = self.shared.config.node;
        let credentials = match state.peer {
            Peer::Server(server) => self.shared.credentials_for(server),
            Peer::Endpoint(_) | Peer::Outside => None,
        };
        let (revived, state) = Leg::revived(call, tag, state, (to, credentials), config, here, now);
        let state = state?; // its numbers are used up
        self.legs.insert(leg, revived);
        self.shared.legs.fetch_add(1, Ordering::Relaxed);
        add(&self.shared.counters.legs_revived);
        Some(state)
    }

    /// This proxy is about to leave: legs that can go elsewhere ask for it, a few at a time.
    pub(super) fn move_legs(&mut self, now: Instant) {
        let (Some(calls), true) = (self.shared.calls.get(), self.shared.config.seal.is_some()) else {
            return;
        };
        let free = self.legs.iter().filter(|(_, leg)| leg.may_leave(now));
        let mut free: Vec<LegId> = free.map(|(id, _)| *id).collect();
        free.sort_unstable(); // the same order each time
        for id in free.into_iter().take(LEAVE_AT_ONCE) {
            let Some(leg) = self.legs.get_mut(&id) else { continue };
            leg.asks_to_leave(now);
            calls.leg_leaves(leg.call(), id);
        }
    }

    /// Whether a leg is about to be another proxy's, so that its peer's requests had better begin there.
    pub(super) fn may_wait(&self, leg: LegId, now: Instant) -> bool {
        self.rests || self.legs.get(&leg).is_some_and(|leg| leg.is_leaving(now))
    }

    /// Forgets a leg without a word to its peer: it lives elsewhere now. What the peer asks for at this moment is refused, so that it
    /// asks there.
    pub(super) fn part(&mut self, leg: LegId, now: Instant) {
        *self.shared.parted.lock() = Some(now);
        let Some(parted) = self.remove(leg) else { return };
        if let Some(peer) = parted.peer_tag() {
            self.strays.goes_on(leg, peer);
        }
        for action in parted.part() {
            self.act(leg, action, now);
        }
    }

    /// Nobody has the leg: what waits for it is refused (RFC 3261 section 12.2.2).
    pub(super) fn no_stray(&mut self, leg: LegId, now: Instant) {
        for (msg, flow) in self.held_for.legs.remove(&leg).unwrap_or_default() {
            self.refuse(&msg, flow, &ResponseDraft::new(481), Cause::NoDialog, now);
        }
    }
}
