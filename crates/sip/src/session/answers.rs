//! The user's answer to an offer of the peer, its refusal, and its absence: each vehicle has its own way (RFC 6337 section 2.3).
//!
//! In: [`super::Command::Answer`], [`super::Command::RejectOffer`], the end of the user's time. Out: 2xx, ACK, PRACK, refusals.
//! Elsewhere: the first INVITE's answer (`uas`).

use super::face::{CommandError, EndCause, Event};
use super::offers::{Exchange, TheirVehicle};
use super::{Session, Usage};
use crate::draft::HeaderText;
use bytes::Bytes;
use std::time::Instant;

impl Session {
    /// [`super::Command::Answer`].
    pub(super) fn answer(&mut self, sdp: Bytes, now: Instant) -> Result<(), CommandError> {
        self.select_oldest_offer();
        let first_invite = self.serving.as_ref().is_some_and(|s| s.initial && !s.is_accepted());
        let sdp = self.usage.continue_with(sdp);
        match self.usage.exchange {
            Exchange::Theirs { by: TheirVehicle::Invite, .. } | Exchange::Asked { .. } if !first_invite => {
                self.send_2xx(Some(sdp), &HeaderText::new(), now);
            }
            Exchange::Theirs { by: TheirVehicle::Response, .. } => self.acknowledge(Some(sdp)),
            Exchange::Theirs { print, by: TheirVehicle::Reliable { rseq, cseq }, .. } => {
                self.usage.settle(sdp.clone(), print, true);
                self.send_prack(rseq, cseq, Some(sdp));
            }
            Exchange::Theirs { print, by: TheirVehicle::Prack(txn), .. } => {
                self.usage.settle(sdp.clone(), print, true);
                self.respond(txn, 200, HeaderText::new(), Some(sdp));
                self.pump(now);
            }
            Exchange::Theirs { print, by: TheirVehicle::Update(txn), .. } => {
                self.usage.settle(sdp.clone(), print, true);
                self.accept_update(txn, Some(sdp), now);
            }
            Exchange::Theirs { .. }
            | Exchange::Asked { .. }
            | Exchange::Idle
            | Exchange::Ours { .. }
            | Exchange::Asking => return Err(CommandError::WrongState),
        }
        Ok(())
    }

    /// [`super::Command::RejectOffer`].
    pub(super) fn reject_offer(&mut self, status: u16, now: Instant) -> Result<(), CommandError> {
        if !(400..=699).contains(&status) {
            return Err(CommandError::BadStatus(status));
        }
        self.select_oldest_offer();
        if !is_open(&self.usage) || !self.refuse_offer(status, now) {
            return Err(CommandError::WrongState);
        }
        Ok(())
    }

    /// The user has not answered in time: RFC 3311 section 5.2 has 504 for it, a re-INVITE gets 488 (500 where it asked for
    /// our offer), an offer in a 2xx ends the call, for its ACK cannot wait.
    pub(super) fn offer_timeout(&mut self, now: Instant) {
        self.select_fork_where(|usage| usage.exchange.limit().is_some_and(|limit| limit <= now));
        let status = match self.usage.exchange {
            Exchange::Theirs { by: TheirVehicle::Prack(_) | TheirVehicle::Update(_), .. } => 504,
            Exchange::Asked { .. } => 500,
            Exchange::Theirs { .. } | Exchange::Idle | Exchange::Ours { .. } | Exchange::Asking => 488,
        };
        if self.refuse_offer(status, now) {
            self.tell(Event::OfferWithdrawn);
        }
    }

    /// Users answer in the order in which they were asked.
    fn select_oldest_offer(&mut self) {
        let all = std::iter::once(&self.usage).chain(self.parked());
        let oldest =
            all.filter(|usage| is_open(usage)).min_by_key(|usage| usage.offer_number).map(|usage| usage.fork);
        self.select_fork_where(|usage| Some(usage.fork) == oldest);
    }

    /// The peer has made an offer.
    pub(super) fn open_offer(&mut self, print: u64, by: TheirVehicle, limit: Option<Instant>) {
        self.offers += 1;
        self.usage.offer_number = self.offers;
        self.usage.exchange = Exchange::Theirs { print, by, limit };
    }

    /// When the user's time for the next open offer is over.
    pub(super) fn offer_limit(&self) -> Option<Instant> {
        let parked = self.parked().iter().filter_map(|usage| usage.exchange.limit()).min();
        [self.usage.exchange.limit(), parked].into_iter().flatten().min()
    }

    fn refuse_offer(&mut self, status: u16, now: Instant) -> bool {
        let first_invite = self.serving.as_ref().is_some_and(|s| s.initial && !s.is_accepted());
        match self.usage.exchange {
            Exchange::Theirs { by: TheirVehicle::Invite, .. } | Exchange::Asked { .. } => {
                if first_invite {
                    return false;
                }
                self.refuse_reinvite(status, now);
            }
            Exchange::Theirs { by: TheirVehicle::Prack(_) | TheirVehicle::Update(_), .. } => {
                self.close_offer(status);
                self.pump(now);
            }
            Exchange::Theirs { by: TheirVehicle::Response | TheirVehicle::Reliable { .. }, .. } => {
                self.hang_up(None, EndCause::NoAnswer, now);
            }
            Exchange::Idle | Exchange::Ours { .. } | Exchange::Asking => return false,
        }
        true
    }
}

/// Whether the user owes an answer here.
fn is_open(usage: &Usage) -> bool {
    matches!(usage.exchange, Exchange::Theirs { .. } | Exchange::Asked { .. })
}
