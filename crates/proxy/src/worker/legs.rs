//! The legs of a worker: who has them, hands them their messages, carries out what they want, and buries them.
//!
//! In: messages from the wire, from calls and from the clock. Out: transactions. A leg that panics takes nothing with it:
//! its last will ends the dialog, its call is told. Elsewhere: what a leg does with a message (`leg`).

use super::Worker;
use crate::Direction;
use crate::leg::{Leg, LegMsg};
use crate::legs::LegTag;
use crate::stats::{Cause, add};
use cluster::ids::LegId;
use sip::draft::ResponseDraft;
use sip::session::{Action, Failure};
use sip::transaction::{ClientKey, Destination, ServerId};
use std::cmp::Reverse;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Instant;
use tracing::{debug, error};

/// What the table says of a request inside a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// The leg is there.
    Yes,
    /// The leg is there, and its peer floods it.
    TooMany,
    /// No such leg.
    Unknown,
}

impl Worker {
    /// A new leg, and its first message.
    pub(super) fn begin(&mut self, tag: LegTag, leg: Leg, first: LegMsg, now: Instant) {
        let direction = if matches!(first, LegMsg::Originate(_)) { "out" } else { "in" };
        if let Some(tap) = &self.shared.tap {
            match &first {
                LegMsg::Originate(order) => {
                    tap.leg_began(leg.call(), tag.leg, Direction::Out, &order.call_id, now);
                }
                LegMsg::Invite(arrived) => {
                    tap.leg_began(leg.call(), tag.leg, Direction::In, &arrived.incoming.sip_call_id, now);
                }
                _ => {}
            }
        }
        debug!(call = %leg.call(), leg = %tag.leg, direction, "leg began");
        let old = self.legs.insert(tag.leg, leg);
        assert!(old.is_none(), "leg names are never reused");
        self.shared.legs.fetch_add(1, Ordering::Relaxed);
        add(&self.shared.counters.legs_begun);
        self.tell(tag.leg, first, now);
    }

    /// Whether a leg is there and may get another request in this second.
    pub(super) fn admit(&mut self, tag: LegTag, second: u64, limit: u32) -> Admission {
        match self.legs.get_mut(&tag.leg).filter(|leg| leg.has(tag)) {
            None => Admission::Unknown,
            Some(leg) => match leg.admit(second, limit) {
                true => Admission::Yes,
                false => Admission::TooMany,
            },
        }
    }

    /// Whether a dialog of this whole tag is there.
    pub(super) fn has_leg(&self, tag: LegTag) -> bool {
        self.legs.get(&tag.leg).is_some_and(|leg| leg.has(tag))
    }

    /// Gives a leg a message and carries out what it wants then. `false`: there is no such leg.
    pub(super) fn tell(&mut self, id: LegId, message: LegMsg, now: Instant) -> bool {
        let Some(leg) = self.legs.get_mut(&id) else { return false };
        let mut wishes = std::mem::take(&mut self.wishes);
        let shared = &self.shared;
        let alive = catch_unwind(AssertUnwindSafe(|| leg.take(message, shared, now, &mut wishes)));
        // What it asked for before it failed was meant.
        for action in wishes.actions.drain(..) {
            self.act(id, action, now);
        }
        if let Some(at) = wishes.wake.take() {
            self.alarms.push(Reverse((at, id)));
        }
        self.wishes = wishes;
        match alive {
            Ok(true) => {}
            Ok(false) => drop(self.remove(id)),
            Err(_) => {
                let call = self.legs.get(&id).map(Leg::call);
                error!(call = call.map(tracing::field::display), leg = %id, "a leg failed; its dialog is ended");
                self.shared.counters.count(Cause::Panic);
                self.bury(id, now);
            }
        }
        true
    }

    /// Ends a leg that cannot end itself: the peer gets BYE, CANCEL or 500, the call is told that it is lost.
    /// `false`: there is no such leg.
    pub(super) fn bury(&mut self, id: LegId, now: Instant) -> bool {
        let Some(leg) = self.remove(id) else { return false };
        add(&self.shared.counters.legs_lost);
        for action in leg.bury(&self.shared) {
            self.act(id, action, now);
        }
        true
    }

    /// Ends all legs.
    pub(super) fn bury_all(&mut self, now: Instant) {
        let mut ids: Vec<LegId> = self.legs.keys().copied().collect();
        ids.sort_unstable(); // the same order each time
        for id in ids {
            self.guarded(now, |worker| {
                worker.bury(id, now);
            });
        }
    }

    pub(super) fn remove(&mut self, id: LegId) -> Option<Leg> {
        let leg = self.legs.remove(&id)?;
        debug!(call = %leg.call(), leg = %id, "leg ended");
        if let Some(tap) = &self.shared.tap {
            tap.leg_ended(leg.call(), id);
        }
        self.shared.legs.fetch_sub(1, Ordering::Relaxed);
        Some(leg)
    }

    pub(super) fn act(&mut self, leg: LegId, action: Action, now: Instant) {
        let key = |seq| ClientKey { owner: leg.as_u64(), seq };
        match action {
            Action::Request { seq, draft, to } => {
                let to = self.way_instead(leg, to);
                if self.transactions.request(key(seq), draft, to, now).is_err() {
                    self.shared.counters.count(Cause::Capacity);
                    self.failures.push_back((leg, seq, Failure::Transport));
                }
            }
            Action::Respond { txn, draft } => {
                if draft.status >= 200 {
                    self.invites.remove(&txn);
                }
                self.transactions.respond(txn, &draft, now);
            }
            Action::Cancel { seq, reason } => self.transactions.cancel(key(seq), reason, now),
            Action::Ack { draft, to } => {
                let to = self.way_instead(leg, to);
                self.transactions.send_ack(draft, to);
            }
        }
    }

    fn way_instead(&mut self, leg: LegId, to: Destination) -> Destination {
        let leg = self.legs.get_mut(&leg);
        leg.and_then(|leg| leg.way_instead(to, &self.shared)).unwrap_or(to)
    }

    /// An INVITE was cancelled that nobody waits for any more.
    pub(super) fn cancelled_in_vain(&mut self, txn: ServerId, now: Instant) {
        self.invites.remove(&txn);
        self.transactions.respond(txn, &ResponseDraft::new(487), now);
    }
}
