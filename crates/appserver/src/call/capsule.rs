//! A call as bytes, from which another application server carries it on when this one is lost or drained.
//!
//! In: a [`Call`] at rest. Out: a [`Capsule`], its bytes, and a call again. The bytes are a message of protocol buffers, so that two
//! releases read each other's. Elsewhere: who keeps capsules (`cluster::custody`), the dialogs of the legs (`sip::session::Capsule`).

mod wire;

use super::relays::Move;
use super::{Action, CALLER, Call, LEGS_MAX, Leg, LegState, Now, Phase, Slot, Ticket, record};
use bytes::Bytes;
use cluster::between::Happened;
use cluster::counters::Claim;
use cluster::ids::{CallId, LegId, NodeId};
use cluster::leg::{LegCommand, LegEvent};
use cluster::media::{MediaCommand, MediaLeg, tickets_of};
use model::entities::UserRejectCallMethod;
use model::{Client, HungUpBy, Id};
use prost::Message as _;
use record::Story;
use sip::draft::HeaderText;
use std::collections::VecDeque;
use std::net::IpAddr;

/// The layout of a capsule that this release writes, and the highest that it reads. Fields may be added without a new number:
/// a release that does not know them leaves them out.
const FORMAT: u32 = 1;
/// Octets of the longest capsule. That of a usual call has half a kilobyte beside the session descriptions of its peers.
pub const CAPSULE_MAX: usize = 256 * 1024;
/// What one call counts for.
const PLACES_MAX: usize = 16;
/// A leg that no session has.
pub(super) const NOBODY: MediaLeg = MediaLeg(u8::MAX);

/// What another application server needs to carry a call on: its story, its legs, what their peers have agreed upon, where its
/// media is, what it counts for.
#[derive(Clone, Debug, PartialEq)]
pub struct Capsule {
    call: CallId,
    stage: Stage,
    story: Story,
    legs: Vec<KeptLeg>,
    caller_offers: bool,
    relay: Option<NodeId>,
    has_media: bool,
    moving: Option<(Option<NodeId>, NodeId)>,
    repair: Option<Bytes>,
    changed: Option<(Slot, Bytes)>,
    held: Vec<Claim>,
    is_untraced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Ringing,
    Talking(Slot),
    /// Ended; the record is still to be made durable.
    Ended {
        /// The relays have said what they counted.
        counted: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct KeptLeg {
    id: Option<LegId>,
    address: Option<IpAddr>,
    is_trunk: bool,
    state: LegState,
    agreed: Option<Bytes>,
}

/// Why bytes are no capsule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapsuleError {
    /// Longer than a capsule can be.
    #[error("a call's capsule has {0} octets, the most are {CAPSULE_MAX}")]
    TooLong(usize),
    /// Not what a protocol buffer is.
    #[error("a call's capsule cannot be read: {0}")]
    Encoding(#[from] prost::DecodeError),
    /// Written by a release that this one does not understand.
    #[error("a call's capsule has format {0}, this release reads 1 to {FORMAT}; upgrade this node")]
    Format(u32),
    /// A field has a value that no call could have put there.
    #[error("a call's capsule is broken: `{field}` {why}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Capsule {
    /// The capsule that these bytes are, which may come from anybody.
    ///
    /// # Errors
    /// Says which field no call could have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, CapsuleError> {
        if bytes.len() > CAPSULE_MAX {
            return Err(CapsuleError::TooLong(bytes.len()));
        }
        let wire = wire::Call::decode(bytes)?;
        if wire.format == 0 || wire.format > FORMAT {
            return Err(CapsuleError::Format(wire.format));
        }
        let capsule = wire.into_capsule()?;
        capsule.check()?;
        Ok(capsule)
    }

    /// Its bytes: [`CAPSULE_MAX`] at most.
    pub fn encode(&self) -> Bytes {
        wire::Call::from(self).encode_to_vec().into()
    }

    /// The call.
    pub fn call(&self) -> CallId {
        self.call
    }

    /// Whose call it is.
    pub fn client(&self) -> Id<Client> {
        self.story.client
    }

    /// What the call counts for.
    pub fn held(&self) -> &[Claim] {
        &self.held
    }

    /// The relays that have the call's media.
    pub fn relays(&self) -> impl Iterator<Item = NodeId> {
        let (from, to) = self.moving.map_or((None, None), |(from, to)| (from, Some(to)));
        [self.relay, from.filter(|from| self.relay != Some(*from)), to.filter(|to| self.relay != Some(*to))]
            .into_iter()
            .flatten()
    }

    /// The legs that had not ended when the capsule was made.
    pub fn legs(&self) -> impl Iterator<Item = LegId> {
        self.legs.iter().filter(|leg| leg.state != LegState::Gone).filter_map(|leg| leg.id)
    }

    fn check(&self) -> Result<(), CapsuleError> {
        let count = self.legs.len();
        ensure((1..=LEGS_MAX).contains(&count), "legs", "are none or too many")?;
        ensure(self.story.legs.len() == count, "story", "tells of other legs than there are")?;
        let is_leg = |leg: MediaLeg| usize::from(leg.0) < count;
        let earlier = &self.story.earlier;
        let are_legs = earlier.len() <= CAPSULE_MAX / 16 && earlier.iter().all(|(leg, _)| is_leg(*leg));
        ensure(are_legs, "earlier", "has figures of a leg that is not there")?;
        ensure(self.held.len() <= PLACES_MAX, "places", "are too many")?;
        if let Some((slot, _)) = self.changed {
            ensure(slot < count, "changed", "is of a leg that is not there")?;
        }
        if let Stage::Talking(callee) = self.stage {
            ensure((1..count).contains(&callee), "talking", "is with a leg that is not there")?;
            for slot in [CALLER, callee] {
                let leg = &self.legs[slot];
                let is_up = leg.state == LegState::Up && leg.id.is_some() && leg.agreed.is_some();
                ensure(is_up, "legs", "talk without a name or without a session description")?;
            }
            ensure(self.relay.is_some(), "relay", "is missing")?;
            ensure(self.story.answered_us.is_some(), "answered_us", "is missing")?;
        }
        let is_named = |leg: &KeptLeg| leg.id.is_some() || leg.state == LegState::Gone;
        ensure(self.legs.iter().all(is_named), "legs", "have no names")?;
        let is_ended = matches!(self.stage, Stage::Ended { .. });
        ensure(is_ended == self.story.ended.is_some(), "ended", "does not fit the call's stage")
    }
}

fn ensure(holds: bool, field: &'static str, why: &'static str) -> Result<(), CapsuleError> {
    if holds { Ok(()) } else { Err(CapsuleError::Field { field, why }) }
}

impl Call {
    /// Grows whenever the capsule would differ.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Whether there is a capsule to be had: all legs have their names, no change of the session is under way, and the record is
    /// not durable. A call that moves to another relay is at rest, too: whoever carries it on begins the move again.
    pub fn is_at_rest(&self) -> bool {
        match self.phase {
            Phase::Ringing { .. } => {
                let is_named = |leg: &Leg| leg.id.is_some() || leg.state == LegState::Gone;
                self.legs.len() > 1 && self.legs.iter().all(is_named) && self.exchange.is_none()
            }
            Phase::Talking(_) => self.exchange.is_none() && self.is_established(),
            Phase::Closing | Phase::Recording { .. } => true,
            Phase::Asking { .. } | Phase::Over => false,
        }
    }

    /// What another application server needs to carry the call on; `None` while something is under way ([`Call::is_at_rest`]).
    pub fn capsule(&self) -> Option<Capsule> {
        if !self.is_at_rest() {
            return None;
        }
        let stage = match self.phase {
            Phase::Asking { .. } | Phase::Ringing { .. } => Stage::Ringing,
            Phase::Talking(callee) => Stage::Talking(callee),
            Phase::Closing => Stage::Ended { counted: false },
            Phase::Recording { .. } | Phase::Over => Stage::Ended { counted: true },
        };
        let legs = self.legs.iter().map(|leg| KeptLeg {
            id: leg.id,
            address: leg.address,
            is_trunk: leg.is_trunk,
            state: if leg.id.is_none() { LegState::Gone } else { leg.state },
            agreed: leg
                .agreed
                .clone()
                .filter(|_| matches!(stage, Stage::Talking(_)) && leg.state == LegState::Up),
        });
        let capsule = Capsule {
            call: self.id,
            stage,
            story: self.story.clone(),
            legs: legs.collect(),
            caller_offers: self.caller_offers,
            relay: self.relay,
            has_media: self.has_media,
            moving: self.moving.as_ref().map(|moving| (moving.from, moving.to)),
            repair: self.repair.clone(),
            changed: self.changed.clone(),
            held: self.held.clone(),
            is_untraced: self.is_untraced,
        };
        (wire::Call::from(&capsule).encoded_len() <= CAPSULE_MAX).then_some(capsule)
    }

    /// Carries on a call whose application server is lost or gives it up. `happened` is what its legs said that the capsule does
    /// not know, in order and with its times; what the lost one knew already does no harm.
    ///
    /// A call that talks goes on; a change of the session that was under way is refused with 491, so that its peer tries again. One
    /// that rings ends: 503 for the caller, CANCEL for the callees, and BYE for whoever was answered
    /// after the capsule was made. One that has ended writes its record again. `epoch` is that of the title under which it is carried on. Afterwards drain [`Call::poll_action`], as always;
    /// say that it counts here ([`Call::held`]), and say [`Call::relay_lost`] if one of [`Capsule::relays`] is not there any more.
    pub fn adopt(capsule: &Capsule, epoch: u32, happened: Vec<Happened>, now: Now) -> Self {
        let mut call = Self::of(capsule, epoch, now);
        call.end_lost_exchange();
        if let (Phase::Talking(_), true) = (call.phase, capsule.has_media) {
            // Its relays hear whose the call is: nobody else is obeyed there from now on.
            call.claim_sessions();
        }
        for Happened { leg, unix_us, event } in happened {
            let then = Now { unix_us: unix_us.min(now.unix_us), ..now };
            match event {
                None => call.leg_lost(leg, then),
                Some(LegEvent::Offer { .. }) => {} // refused by now
                Some(event) if capsule.stage != Stage::Ringing || is_end(&event) => {
                    call.leg_event(leg, event, then)
                }
                Some(_) => {}
            }
        }
        match call.phase {
            Phase::Ringing { .. } => call.end_lost_ringing(now),
            Phase::Talking(_) => {
                call.note();
                call.move_on();
            }
            Phase::Asking { .. } | Phase::Closing | Phase::Recording { .. } | Phase::Over => {}
        }
        call
    }

    /// The call as the capsule has it.
    fn of(capsule: &Capsule, epoch: u32, now: Now) -> Self {
        let phase = match capsule.stage {
            Stage::Ringing => Phase::Ringing { until: now.mono },
            Stage::Talking(callee) => Phase::Talking(callee),
            Stage::Ended { .. } => Phase::Closing,
        };
        let legs = capsule.legs.iter().zip(0u8..).map(|(leg, number)| Leg {
            id: leg.id,
            media: MediaLeg(number),
            address: leg.address,
            is_trunk: leg.is_trunk,
            state: leg.state,
            early_answer: false,
            early: Vec::new(),
            agreed: leg.agreed.clone(),
            order: None,
        });
        let mut call = Self {
            id: capsule.call,
            client: capsule.story.client,
            phase,
            legs: legs.collect(),
            story: capsule.story.clone(),
            held: capsule.held.clone(),
            plan: None,
            offer: None,
            trunks: None,
            is_untraced: capsule.is_untraced,
            caller_offers: capsule.caller_offers,
            told: 100,
            early_from: None,
            repair: capsule.repair.clone(),
            refusals: Vec::new(),
            telling: HeaderText::new(),
            rejection: UserRejectCallMethod::default(),
            exchange: None,
            changed: capsule.changed.clone(),
            relay: capsule.relay,
            has_media: capsule.has_media,
            moving: capsule.moving.map(|(from, to)| Move::new(from, to)),
            tickets: Vec::new(),
            next_ticket: tickets_of(epoch),
            note_again: None,
            version: 0,
            actions: VecDeque::new(),
        };
        if let Stage::Ended { counted } = capsule.stage {
            if capsule.has_media && !counted {
                call.ask_relay(Ticket::LastFigures, MediaCommand::Stop);
            }
            call.record_when_told(now);
        }
        call
    }

    /// A change of the session may have been under way between the two peers. Nobody knows how far it had come; sessions that know of
    /// none ignore this.
    fn end_lost_exchange(&mut self) {
        let Phase::Talking(callee) = self.phase else { return };
        for slot in [CALLER, callee] {
            self.tell(slot, LegCommand::RejectOffer { status: 491 });
            let reason = Some("SIP;cause=503;text=\"Application server lost\"".to_owned());
            self.tell(slot, LegCommand::Cancel { reason });
        }
    }

    /// INVITEs are at the proxies; who was asked by one that is lost is not asked again.
    fn end_lost_ringing(&mut self, now: Now) {
        let open: Vec<LegId> =
            self.legs.iter().filter(|leg| leg.state != LegState::Gone).filter_map(|leg| leg.id).collect();
        self.finish(HungUpBy::Platform, 503, "Application server lost", now);
        // The capsule may be older than an answer. Whoever is not in a conversation has heard enough, and ignores this.
        for leg in open {
            let reason = Some("SIP;cause=503;text=\"Application server lost\"".to_owned());
            self.actions.push_back(Action::Leg(leg, LegCommand::Bye { reason }));
        }
    }

    /// A leg has another name now: it lives elsewhere, because its proxy was lost or gave it up.
    pub fn leg_moved(&mut self, old: LegId, new: LegId) {
        if let Some(leg) = self.legs.iter_mut().find(|leg| leg.id == Some(old)) {
            leg.id = Some(new);
            self.version += 1;
        }
    }

    /// The legs that have not ended.
    pub fn legs(&self) -> impl Iterator<Item = LegId> {
        self.legs.iter().filter(|leg| leg.state != LegState::Gone).filter_map(|leg| leg.id)
    }
}

/// Whether this is the last that a leg says.
fn is_end(event: &LegEvent) -> bool {
    matches!(event, LegEvent::Ended { .. } | LegEvent::Rejected { .. } | LegEvent::Cancelled { .. })
}

const _: () = assert!(LEGS_MAX < 255, "each leg has a number of its own in the media session");
