//! The story of a call as its record tells it: who, when, how it ended, what the relay saw.
//!
//! In: facts as they happen. Out: a [`Cdr`], or an [`OpenCall`] while the call lasts. Elsewhere: keeping them (`store`).

use super::{CALLER, Now, Slot};
use cluster::ids::{CallId, NodeId};
use cluster::leg::Incoming;
use cluster::media::MediaLeg;
use model::{
    Brand, CallDirection, Cause, Cdr, CdrLeg, Client, ExternalCall, HungUpBy, Id, LegRole, MediaReport,
    OpenCall, Party,
};
use sip::session::EndCause;
use std::time::Duration;

/// A record that could not be written is tried again after this time.
pub(super) const RETRY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Story {
    pub(super) brand: Id<Brand>,
    pub(super) client: Id<Client>,
    pub(super) caller: Party,
    pub(super) callee: Party,
    pub(super) dialed: String,
    pub(super) started_us: i64,
    pub(super) answered_us: Option<i64>,
    pub(super) ended: Option<(i64, HungUpBy, Cause)>,
    pub(super) legs: Vec<CdrLeg>,
    /// What relays have counted that had the media before.
    pub(super) earlier: Vec<(MediaLeg, MediaReport)>,
    /// What clients are told for whom it is an external call.
    pub(super) externals: Vec<ExternalCall>,
}

impl Story {
    pub(super) fn new(incoming: &Incoming, now: Now) -> Self {
        let caller = CdrLeg {
            role: LegRole::Caller,
            sip_call_id: incoming.sip_call_id.clone(),
            endpoint: String::new(),
            media: None,
        };
        Self {
            brand: incoming.brand,
            client: incoming.client,
            caller: Party::default(),
            callee: Party { number: incoming.dialed.clone(), ..Party::default() },
            dialed: incoming.dialed.clone(),
            started_us: now.unix_us,
            answered_us: None,
            ended: None,
            legs: vec![caller],
            earlier: Vec::new(),
            externals: Vec::new(),
        }
    }

    pub(super) fn caller(&mut self, caller: Party) {
        self.caller = caller;
    }

    pub(super) fn callee(&mut self, callee: Party) {
        self.callee = callee;
    }

    /// What the client is told who makes the call.
    pub(super) fn outbound(&mut self) -> Option<&mut ExternalCall> {
        self.externals.iter_mut().find(|external| external.direction == CallDirection::Outbound)
    }

    /// A peer's answer has brought a tag; one that the caller brought stays.
    pub(super) fn tagged(&mut self, tag: &str) {
        for external in self.externals.iter_mut().filter(|external| external.x_tag.is_none()) {
            external.x_tag = Some(tag.to_owned());
        }
    }

    pub(super) fn endpoint(&mut self, slot: Slot, endpoint: String) {
        self.legs[slot].endpoint = endpoint;
    }

    pub(super) fn add_callee_leg(&mut self, endpoint: &str) {
        self.legs.push(CdrLeg {
            role: LegRole::Callee,
            sip_call_id: String::new(),
            endpoint: endpoint.to_owned(),
            media: None,
        });
    }

    pub(super) fn leg_named(&mut self, slot: Slot, sip_call_id: String) {
        self.legs[slot].sip_call_id = sip_call_id;
    }

    pub(super) fn answered(&mut self, slot: Slot, now: Now) {
        self.answered_us = Some(now.unix_us);
        self.legs[slot].role = LegRole::Answerer;
    }

    /// The answer never left: its caller took the call back, or did not acknowledge what had to come before it (RFC 3262
    /// section 3).
    pub(super) fn not_answered(&mut self) {
        self.answered_us = None;
        self.legs
            .iter_mut()
            .filter(|leg| leg.role == LegRole::Answerer)
            .for_each(|leg| leg.role = LegRole::Callee);
    }

    /// They talked, and a telephone hung up.
    pub(super) fn was_hung_up(&self) -> bool {
        let by_one = |(_, by, _): &(i64, HungUpBy, _)| *by != HungUpBy::Platform;
        self.answered_us.is_some() && self.ended.as_ref().is_some_and(by_one)
    }

    /// The first ending counts. The end of an answered call is a normal one unless we ended it.
    pub(super) fn end(&mut self, by: HungUpBy, status: u16, why: &str, now: Now) {
        if self.ended.is_none() {
            let ended_us = now.unix_us.max(self.answered_us.unwrap_or(self.started_us));
            self.ended = Some((ended_us, by, Cause { status, text: why.to_owned() }));
        }
    }

    /// What a relay has counted. The figures of one that had the media `before` are added to those of the next.
    pub(super) fn figures(&mut self, figures: Vec<(MediaLeg, MediaReport)>, before: bool) {
        for (media, report) in figures {
            let Some(leg) = self.legs.get_mut(usize::from(media.0)) else { continue };
            if before {
                leg.media = Some(leg.media.map_or(report, |now| sum(&report, &now)));
                self.earlier.push((media, report));
            } else {
                let earlier = self.earlier.iter().filter(|(of, _)| *of == media);
                leg.media = Some(earlier.fold(report, |now, (_, earlier)| sum(earlier, &now)));
            }
        }
    }

    /// A leg without a Call-ID was planned and never sent: there is nothing to join it with, and no device knows of it.
    fn told_legs(&self) -> Vec<CdrLeg> {
        self.legs.iter().filter(|leg| !leg.sip_call_id.is_empty()).cloned().collect()
    }

    pub(super) fn open_call(&self, call: CallId, relay: Option<NodeId>) -> OpenCall {
        OpenCall {
            call: call.to_string(),
            brand: self.brand,
            client: self.client,
            caller: self.caller.clone(),
            callee: self.callee.clone(),
            dialed: self.dialed.clone(),
            started_us: self.started_us,
            answered_us: self.answered_us,
            legs: self.told_legs(),
            externals: self.externals.clone(),
            node: call.node().0, // until its application server says otherwise
            relay: relay.map(|relay| relay.0),
        }
    }

    pub(super) fn cdr(&self, call: CallId, relay: Option<NodeId>) -> Cdr {
        let (ended_us, hung_up_by, cause) = self.ended.clone().unwrap_or_else(|| {
            let cause = Cause { status: 500, text: "Ended without a cause".to_owned() };
            (self.answered_us.unwrap_or(self.started_us), HungUpBy::Platform, cause)
        });
        Cdr {
            call: call.to_string(),
            brand: self.brand,
            client: self.client,
            caller: self.caller.clone(),
            callee: self.callee.clone(),
            dialed: self.dialed.clone(),
            started_us: self.started_us,
            answered_us: self.answered_us,
            ended_us,
            hung_up_by,
            cause,
            legs: self.told_legs(),
            externals: self.externals.clone(),
            node: call.node().0, // until its application server says otherwise
            relay: relay.map(|relay| relay.0),
        }
    }
}

/// The figures of two relays that had a peer's media one after the other. What can be counted is added up; of what is measured
/// the worse counts, and the later where nothing is better or worse.
fn sum(earlier: &MediaReport, later: &MediaReport) -> MediaReport {
    let worst = |a: Option<u16>, b: Option<u16>| [a, b].into_iter().flatten().min();
    MediaReport {
        packets_received: earlier.packets_received.saturating_add(later.packets_received),
        bytes_received: earlier.bytes_received.saturating_add(later.bytes_received),
        packets_sent: earlier.packets_sent.saturating_add(later.packets_sent),
        bytes_sent: earlier.bytes_sent.saturating_add(later.bytes_sent),
        lost: earlier.lost.saturating_add(later.lost),
        jitter_us: earlier.jitter_us.max(later.jitter_us),
        reported_lost: match (earlier.reported_lost, later.reported_lost) {
            (Some(earlier), Some(later)) => Some(earlier.saturating_add(later)),
            (earlier, later) => earlier.or(later),
        },
        reported_jitter_us: earlier.reported_jitter_us.max(later.reported_jitter_us),
        round_trip_us: later.round_trip_us.or(earlier.round_trip_us),
        mos_hundredths: worst(earlier.mos_hundredths, later.mos_hundredths),
        dropped: earlier.dropped.saturating_add(later.dropped),
    }
}

/// What the end of an established leg means for the record.
pub(super) fn end_cause(by_peer: bool, cause: EndCause) -> (u16, &'static str) {
    match cause {
        EndCause::Bye if by_peer => (200, "Normal clearing"),
        EndCause::Bye | EndCause::Refused | EndCause::Cancelled => (200, "Hung up by the platform"),
        EndCause::NoAck => (408, "Answer never acknowledged"),
        EndCause::NoPrack => (504, "Provisional response never acknowledged"),
        EndCause::NoAnswer => (488, "No answer to an offer"),
        EndCause::SessionExpired => (408, "Session timer expired"),
        EndCause::Gone => (481, "Dialog unknown to the peer"),
        EndCause::TransactionFailed => (408, "No response from the peer"),
    }
}

const _: () = assert!(CALLER == 0, "the caller's leg is the first of the record");
