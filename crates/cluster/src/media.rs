//! What an application server asks of a relay, and what the relay tells it.
//!
//! A media session belongs to one call; a leg of it is one peer with ports of its own. SDP goes in and out, because codecs
//! and attributes that nobody here knows must pass; the relay changes addresses, ports and what depends on them.

use crate::ids::{CallId, NodeId};
use bytes::Bytes;
use model::MediaReport;
use std::net::IpAddr;

/// A peer within a media session, numbered by the call: 0 is the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MediaLeg(pub u8);

/// One request to a relay about the media session of one call.
#[derive(Clone, Debug)]
pub enum MediaCommand {
    /// `from` made this offer; give what `to` shall be offered. Makes the session and the legs when they are new; a later
    /// offer between the same legs (hold, codec change) keeps their ports. Reply: `Sdp`.
    Offer {
        /// Who offers.
        from: MediaLeg,
        /// Who shall get the offer.
        to: MediaLeg,
        /// The offer as it came.
        sdp: Bytes,
    },
    /// `from` answered what `to` had offered; give the answer that `to` shall get, and let audio flow between the two. An
    /// answer of another leg (a fork, the next provisional) moves `to` over to that leg. Reply: `Sdp`.
    Answer {
        /// Who answers.
        from: MediaLeg,
        /// Who offered, and gets the answer.
        to: MediaLeg,
        /// The answer as it came.
        sdp: Bytes,
    },
    /// `from`'s offer to `to` was refused: both go on as they were before it. Reply: `Done`.
    Withdraw {
        /// Who had offered.
        from: MediaLeg,
        /// Who refused.
        to: MediaLeg,
    },
    /// A leg that lost the race, rejected or left: its ports are free. Reply: `Report` with that leg alone, if it is there. A session that does
    /// not exist is refused.
    Release {
        /// The leg.
        leg: MediaLeg,
    },
    /// No media flows any more; ports stay taken until `Close`. Reply: `Report` with what each remaining leg saw. A session
    /// that does not exist is reported empty. Whatever a peer has heard by now is counted; what the ports have not read yet
    /// is relayed no more.
    Stop,
    /// Ends the session: all ports free. Reply: as that of `Stop`.
    Close,
}

/// Where the SIP messages of the two parties of a command come from, as far as known. A description that names another
/// address than its sender's is that of a peer behind a NAT; a peer that was not heard yet is offered its own IP version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signalling {
    /// The leg that made the description.
    pub from: Option<IpAddr>,
    /// The leg that gets it.
    pub to: Option<IpAddr>,
    /// The leg that made the description is a trunk: its media may come from any host, for carriers let those whom they connect send
    /// straight to us. The first that sends is heard until the next description.
    pub anywhere: bool,
}

/// The answer to a [`MediaCommand`].
#[derive(Clone, Debug)]
pub enum MediaReply {
    /// The rewritten session description.
    Sdp(Bytes),
    /// Nothing to say.
    Done,
    /// Figures by leg.
    Report(Vec<(MediaLeg, MediaReport)>),
    /// Not done; nothing changed.
    Refused(MediaError),
}

/// Why a relay refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// Every port of the range is taken: 503 with Retry-After.
    #[error("no free media port; widen `media.ports` or add a relay")]
    NoPorts,
    /// The session description cannot be used: 488 (offer) or the end of the call (answer).
    #[error("unusable session description: {0}")]
    BadSdp(String),
    /// The relay cannot be reached: 503, or another relay.
    #[error("the media relay cannot be reached")]
    Unreachable,
    /// Another application server commands the session: whoever gets this has lost the call, and will hear so from its custodians.
    #[error("another application server has the call")]
    Superseded,
    /// The command does not fit the state of the session: a mistake of ours.
    #[error("media session out of step: {0}")]
    OutOfStep(&'static str),
}

/// What a relay tells of its own accord.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaEvent {
    /// No packet came from a leg that should send (its media is neither on hold nor refused) for the configured time.
    Silent {
        /// The leg.
        leg: MediaLeg,
    },
    /// The application server that commanded the session is out of reach, and nobody has spoken for it since. Whoever has the call
    /// and needs the session says so by any command; if nobody does, it is closed.
    Unclaimed,
}

/// How many requests to relays a call makes at most under one title.
pub const TICKETS: u32 = 1 << 16;

/// The first ticket of a call under a title of this epoch. So a ticket says whose it is: an answer to another owner is not taken for
/// one to oneself, and of two owners a relay obeys the better one, as custodians do.
pub fn tickets_of(epoch: u32) -> u32 {
    epoch % (u32::MAX / TICKETS) * TICKETS
}

/// The relays, wherever they run.
pub trait Media: Send + Sync + 'static {
    /// Has a command carried out by the relay of this node. Tickets of a call grow, from [`tickets_of`] its title; `u32::MAX` stands
    /// for none. A relay in this process answers at once; another one answers
    /// later with [`MediaSink::reply`] under the same ticket. One that is lost never answers.
    fn submit(
        &self,
        relay: NodeId,
        call: CallId,
        ticket: u32,
        command: MediaCommand,
        signalling: Signalling,
    ) -> Option<MediaReply>;
}

/// Where a relay's words for a call go (the call's actor).
pub trait MediaSink: Send + Sync + 'static {
    /// The answer to a command that [`Media::submit`] did not answer itself.
    fn reply(&self, call: CallId, ticket: u32, reply: MediaReply);
    /// Something happened.
    fn event(&self, call: CallId, event: MediaEvent);
}
