//! One call of an agent: its session, and both sides' descriptions of the audio.
//!
//! In: commands, events of the session. Out: events for the user. Elsewhere: the rules of dialogs (`sip::session`), those of
//! offers and answers (`sip::offer`), who gets which message (`agent`).

use super::{CallId, Event};
use bytes::Bytes;
use sip::draft::HeaderText;
use sip::offer::{Agreed, Author, Capabilities, Stream, is_held};
use sip::sdp::{Direction, Part, Sdp};
use sip::session::{Command, Event as SessionEvent, Session};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

pub(super) struct Call {
    id: CallId,
    pub(super) session: Session,
    pub(super) tag: String,
    /// The caller's offer, until we answer.
    offer: Option<Bytes>,
    /// `None` while an incoming call rings: nobody has said where its audio goes.
    description: Option<Description>,
    answered: bool,
    held: bool,
    /// The user knows that it is over; the session may have to repeat something.
    told: bool,
}

/// What was said about the audio.
pub(super) struct Description {
    media: SocketAddr,
    author: Author,
    direction: Direction,
    local: Option<Sdp>,
    /// Sent in a re-offer, not yet answered.
    proposed: Option<Sdp>,
    remote: Option<Sdp>,
}

impl Call {
    /// `begin` makes the session with the first offer of the description.
    pub(super) fn outgoing(
        id: CallId,
        tag: String,
        mut description: Description,
        begin: impl FnOnce(&mut Description) -> Session,
    ) -> Self {
        let session = begin(&mut description);
        Self { description: Some(description), ..Self::incoming(id, session, tag, None) }
    }

    pub(super) fn incoming(id: CallId, session: Session, tag: String, offer: Option<Bytes>) -> Self {
        Self { id, session, tag, offer, description: None, answered: false, held: false, told: false }
    }

    pub(super) fn is_over(&self) -> bool {
        self.told && self.session.is_over()
    }

    pub(super) fn command(&mut self, command: Command, now: Instant) {
        let _ = self.session.command(command, now); // it may cross an event, which then tells what became of the call
    }

    pub(super) fn answer(
        &mut self,
        mut description: Description,
        events: &mut VecDeque<Event>,
        now: Instant,
    ) {
        if self.told || self.description.is_some() {
            return; // it is over, answered, or our own
        }
        let sdp = match self.offer.take() {
            Some(offer) => description.answer(&offer),
            None => Some(description.offer()),
        };
        self.description = Some(description);
        let headers = HeaderText::default();
        match sdp {
            Some(sdp) => {
                self.agree(events);
                self.command(Command::Accept { sdp: Some(sdp), headers }, now);
            }
            None => self.command(Command::Reject { status: 488, reason: None, headers }, now),
        }
    }

    pub(super) fn hold(&mut self, hold: bool, now: Instant) {
        let direction = if hold { Direction::SendOnly } else { Direction::SendRecv };
        let offer = self.description.as_mut().and_then(|description| description.redirect(direction));
        if let Some(sdp) = offer {
            self.command(Command::Reoffer { sdp: Some(sdp), prefer_update: false }, now);
        }
    }

    pub(super) fn session_event(&mut self, event: SessionEvent, events: &mut VecDeque<Event>, now: Instant) {
        let call = self.id;
        match event {
            SessionEvent::Progress { status, sdp, .. } => {
                self.answer_came(sdp.as_ref(), events);
                events.push_back(Event::Ringing { call, status });
            }
            SessionEvent::Answered { sdp, .. } | SessionEvent::Confirmed { sdp } => {
                self.answer_came(sdp.as_ref(), events);
                self.answered = true;
                events.push_back(Event::Answered { call });
            }
            SessionEvent::Offer { sdp, .. } => self.offered(sdp.as_ref(), events, now),
            SessionEvent::Answer { sdp } => self.answer_came(Some(&sdp), events),
            SessionEvent::OfferRejected { .. } => {
                if let Some(description) = &mut self.description {
                    description.proposed = None;
                }
            }
            SessionEvent::Info { .. } => self.command(Command::RespondInfo { status: 200 }, now),
            SessionEvent::Message { .. } => self.command(Command::RespondMessage { status: 405 }, now),
            SessionEvent::Refer { .. } => self.command(Command::RespondRefer { status: 603 }, now),
            SessionEvent::Rejected { status, .. } => self.end(status, true, events),
            SessionEvent::Cancelled { .. } => self.end(487, true, events),
            SessionEvent::Ended { by_peer, .. } => {
                self.end(if self.answered { 200 } else { 487 }, by_peer, events);
            }
            SessionEvent::Tagged { .. }
            | SessionEvent::OfferWithdrawn
            | SessionEvent::Notify { .. }
            | SessionEvent::Replied { .. } => {}
        }
    }

    fn offered(&mut self, offer: Option<&Bytes>, events: &mut VecDeque<Event>, now: Instant) {
        let answer = self.description.as_mut().and_then(|description| match offer {
            Some(offer) => description.answer(offer),
            None => Some(description.offer()),
        });
        match answer {
            Some(sdp) => {
                if offer.is_some() {
                    self.agree(events);
                }
                self.command(Command::Answer { sdp }, now);
            }
            None => self.command(Command::RejectOffer { status: 488 }, now),
        }
    }

    fn answer_came(&mut self, sdp: Option<&Bytes>, events: &mut VecDeque<Event>) {
        let (Some(sdp), Some(description)) = (sdp, &mut self.description) else { return };
        if description.take_answer(sdp) {
            self.agree(events);
        }
    }

    fn agree(&mut self, events: &mut VecDeque<Event>) {
        let Some((agreed, held)) = self.description.as_ref().and_then(Description::agreed) else { return };
        events.push_back(Event::Agreed { call: self.id, agreed: Box::new(agreed) });
        if held != self.held {
            self.held = held;
            events.push_back(Event::Held { call: self.id, held });
        }
    }

    fn end(&mut self, status: u16, by_peer: bool, events: &mut VecDeque<Event>) {
        self.told = true;
        events.push_back(Event::Ended { call: self.id, status, by_peer });
    }
}

impl Description {
    /// `random` begins the numbers of the `o=` line.
    pub(super) fn new(media: SocketAddr, random: u64) -> Self {
        Self {
            media,
            author: Author::new("-", random >> 2, media.ip()),
            direction: Direction::SendRecv,
            local: None,
            proposed: None,
            remote: None,
        }
    }

    pub(super) fn offer(&mut self) -> Bytes {
        let mut local = Capabilities::default().offer(self.stream());
        let bytes = self.author.sign(&mut local);
        self.local = Some(local);
        bytes
    }

    /// Our answer; `None` when there is nothing in common.
    fn answer(&mut self, offer: &Bytes) -> Option<Bytes> {
        let remote = Sdp::parse(offer.clone()).ok()?;
        let mut local = Capabilities::default().answer(&remote, self.stream()).ok()?;
        let bytes = self.author.sign(&mut local);
        (self.local, self.remote) = (Some(local), Some(remote));
        Some(bytes)
    }

    fn take_answer(&mut self, sdp: &Bytes) -> bool {
        if let Some(proposed) = self.proposed.take() {
            self.local = Some(proposed);
        }
        self.remote = Sdp::parse(sdp.clone()).ok().or(self.remote.take());
        self.remote.is_some()
    }

    /// The offer that changes only the direction.
    fn redirect(&mut self, direction: Direction) -> Option<Bytes> {
        self.direction = direction;
        let mut sdp = self.local.clone()?;
        for index in 0..sdp.media_count() {
            sdp.set_direction(Part::Media(index), direction);
        }
        let bytes = self.author.sign(&mut sdp);
        self.proposed = Some(sdp);
        Some(bytes)
    }

    /// What both sides agreed, and whether the peer holds us.
    fn agreed(&self) -> Option<(Agreed, bool)> {
        let (local, remote) = (self.local.as_ref()?, self.remote.as_ref()?);
        let agreed = Capabilities::default().agreed(local, remote)?;
        let held = remote.media(agreed.media).is_some_and(|media| is_held(&media));
        Some((agreed, held))
    }

    fn stream(&self) -> Stream {
        Stream { address: self.media, direction: self.direction }
    }
}
