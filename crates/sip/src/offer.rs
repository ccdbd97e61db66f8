//! Offer and answer (RFC 3264): whose turn it is, what fits, hold, and the descriptions of a plain audio telephone.
//!
//! In: descriptions of both sides. Out: errors that name the misfit, answers, and what was agreed for a stream.
//! Elsewhere: reading and changing a description (`sdp`), carrying it in INVITE, PRACK, UPDATE and ACK (`session`).

mod phone;

pub use phone::{Agreed, Capabilities, Codec, Preference, Stream};

use crate::sdp::{Direction, Media, Part, Sdp};
use bytes::Bytes;
use std::net::IpAddr;

/// Why a description does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// An offer while another is open: 491 or 500 in SIP (RFC 3261 section 14.2, RFC 3311 section 5.2).
    #[error("another offer is open")]
    Glare,
    /// An answer to nothing.
    #[error("no offer is open")]
    NoOffer,
    /// The answer has more or fewer `m=` lines than the offer (RFC 3264 section 6).
    #[error("the answer has {answer} media, the offer {offer}")]
    Count {
        /// In the offer.
        offer: usize,
        /// In the answer.
        answer: usize,
    },
    /// A new offer has fewer `m=` lines than the description before (RFC 3264 section 8).
    #[error("the offer has {offer} media, there were {before}")]
    Shrunk {
        /// In the description before.
        before: usize,
        /// In the new offer.
        offer: usize,
    },
    /// The answer's media type or protocol is not the offer's (RFC 3264 section 6.1).
    #[error("media {0} is answered with another type or protocol")]
    Kind(usize),
    /// The answer accepts a stream that the offer had removed (RFC 3264 section 8.2).
    #[error("media {0} is accepted although it was offered with port 0")]
    Revived(usize),
    /// The answer accepts a stream with none of the formats offered (RFC 3264 section 6.1).
    #[error("media {0} is answered with formats that were not offered")]
    Formats(usize),
    /// No stream of the offer can be accepted: 488 in SIP (RFC 3261 section 13.3.1.3).
    #[error("nothing in common")]
    NothingInCommon,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// Either side may offer.
    #[default]
    Stable,
    /// We have offered and wait.
    LocalOffer,
    /// The peer has offered and waits.
    RemoteOffer,
}

/// The exchange of one dialog: the last agreed pair and the open offer.
#[derive(Clone, Debug, Default)]
pub struct OfferAnswer {
    turn: Turn,
    open: Option<Sdp>,
    local: Option<Sdp>,
    remote: Option<Sdp>,
}

impl OfferAnswer {
    /// Nothing said yet.
    pub fn new() -> OfferAnswer {
        OfferAnswer::default()
    }

    /// Whose turn it is.
    pub fn turn(&self) -> Turn {
        self.turn
    }

    /// Our side of the last complete exchange.
    pub fn local(&self) -> Option<&Sdp> {
        self.local.as_ref()
    }

    /// The peer's side of the last complete exchange.
    pub fn remote(&self) -> Option<&Sdp> {
        self.remote.as_ref()
    }

    /// The offer that waits for its answer.
    pub fn open(&self) -> Option<&Sdp> {
        self.open.as_ref()
    }

    /// We offer.
    ///
    /// # Errors
    /// [`OfferError::Glare`], [`OfferError::Shrunk`].
    pub fn local_offer(&mut self, offer: Sdp) -> Result<(), OfferError> {
        self.begin(offer, Turn::LocalOffer)
    }

    /// The peer offers.
    ///
    /// # Errors
    /// [`OfferError::Glare`], [`OfferError::Shrunk`].
    pub fn remote_offer(&mut self, offer: Sdp) -> Result<(), OfferError> {
        self.begin(offer, Turn::RemoteOffer)
    }

    /// We answer the peer's offer.
    ///
    /// # Errors
    /// The answer does not fit ([`check_answer`]) or nobody asked; the offer stays open.
    pub fn local_answer(&mut self, answer: Sdp) -> Result<(), OfferError> {
        let offer = self.finish(&answer, Turn::RemoteOffer)?;
        (self.local, self.remote) = (Some(answer), Some(offer));
        Ok(())
    }

    /// The peer answers our offer.
    ///
    /// # Errors
    /// The answer does not fit ([`check_answer`]) or nobody asked; the offer stays open.
    pub fn remote_answer(&mut self, answer: Sdp) -> Result<(), OfferError> {
        let offer = self.finish(&answer, Turn::LocalOffer)?;
        (self.local, self.remote) = (Some(offer), Some(answer));
        Ok(())
    }

    /// The open offer was refused, or the request that carried it failed: what was agreed before holds on.
    pub fn abandon(&mut self) {
        self.turn = Turn::Stable;
        self.open = None;
    }

    fn begin(&mut self, offer: Sdp, turn: Turn) -> Result<(), OfferError> {
        if self.turn != Turn::Stable {
            return Err(OfferError::Glare);
        }
        let before = self.local.as_ref().map_or(0, Sdp::media_count);
        if offer.media_count() < before {
            return Err(OfferError::Shrunk { before, offer: offer.media_count() });
        }
        self.turn = turn;
        self.open = Some(offer);
        Ok(())
    }

    fn finish(&mut self, answer: &Sdp, turn: Turn) -> Result<Sdp, OfferError> {
        let Some(offer) = self.open.take_if(|_| self.turn == turn) else { return Err(OfferError::NoOffer) };
        if let Err(misfit) = check_answer(&offer, answer) {
            self.open = Some(offer);
            return Err(misfit);
        }
        self.turn = Turn::Stable;
        Ok(offer)
    }
}

/// Whether an answer fits its offer (RFC 3264 section 6): as many media, each of the same type and protocol, none that
/// the offer had removed, and in each accepted one a format of the offer. A direction that does not fit is no error,
/// for telephones answer a held offer with `sendrecv`; [`agreed_direction`] takes what both allow.
///
/// # Errors
/// The first misfit.
pub fn check_answer(offer: &Sdp, answer: &Sdp) -> Result<(), OfferError> {
    if offer.media_count() != answer.media_count() {
        return Err(OfferError::Count { offer: offer.media_count(), answer: answer.media_count() });
    }
    for (offered, answered) in offer.all_media().zip(answer.all_media()) {
        let index = offered.index();
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        if answered.port() == 0 {
            // A rejected stream's line is for counting only.
            if !same(offered.kind(), answered.kind()) {
                return Err(OfferError::Kind(index));
            }
            continue;
        }
        if offered.port() == 0 {
            return Err(OfferError::Revived(index));
        }
        if !same(offered.kind(), answered.kind()) || !same(offered.protocol(), answered.protocol()) {
            return Err(OfferError::Kind(index));
        }
        if !share_a_format(&offered, &answered) {
            return Err(OfferError::Formats(index));
        }
    }
    Ok(())
}

/// The direction of a stream as our side sees it, from both descriptions, old-style hold included.
pub fn agreed_direction(local: &Media<'_>, remote: &Media<'_>) -> Direction {
    if local.port() == 0 || remote.port() == 0 {
        return Direction::Inactive;
    }
    let ours = local.direction().and(remote.direction().reversed());
    // To an unspecified address nothing can be sent (RFC 3264 section 8.4).
    let sends = !remote.connection().is_some_and(|c| c.is_unspecified());
    let receives = !local.connection().is_some_and(|c| c.is_unspecified());
    ours.and(Direction::of(sends, receives))
}

/// The author of this stream does not want to hear us: `sendonly`, `inactive`, or no address (RFC 3264 section 8.4).
pub fn is_held(media: &Media<'_>) -> bool {
    !media.direction().receives() || media.connection().is_some_and(|c| c.is_unspecified())
}

/// "Held SDP": every stream that is not rejected is on hold, and there is one.
pub fn all_held(sdp: &Sdp) -> bool {
    let mut live = sdp.all_media().filter(|media| media.port() != 0).peekable();
    live.peek().is_some() && live.all(|media| is_held(&media))
}

/// Puts every stream of our next offer on hold: `sendrecv` becomes `sendonly`, `recvonly` becomes `inactive`.
pub fn hold(sdp: &mut Sdp) {
    turn_streams(sdp, |direction| Direction::of(direction.sends(), false));
}

/// The reverse of [`hold`].
pub fn resume(sdp: &mut Sdp) {
    turn_streams(sdp, |direction| Direction::of(direction.sends(), true));
}

fn turn_streams(sdp: &mut Sdp, change: impl Fn(Direction) -> Direction) {
    for index in 0..sdp.media_count() {
        let Some(media) = sdp.media(index) else { continue };
        let (old, rejected) = (media.direction(), media.port() == 0);
        if !rejected && change(old) != old {
            sdp.set_direction(Part::Media(index), change(old));
        }
    }
}

/// Keeps the `o=` line of our descriptions in one dialog: always the same but for the version, which increments by one
/// exactly when the description changes (RFC 3264 section 8).
#[derive(Clone, Debug)]
pub struct Author {
    username: String,
    session_id: u64,
    version: u64,
    address: IpAddr,
    last: Option<Bytes>,
}

impl Author {
    /// `session_id` is for instance the time or a random number below 2^62, and begins the versions too.
    pub fn new(username: &str, session_id: u64, address: IpAddr) -> Author {
        Author { username: username.to_owned(), session_id, version: session_id, address, last: None }
    }

    /// Carries on after the last description that we sent: for a leg rebuilt elsewhere.
    pub fn resume(last: &Sdp) -> Option<Author> {
        let origin = last.origin()?;
        Some(Author {
            username: origin.username.to_owned(),
            session_id: origin.session_id.parse().ok()?,
            version: origin.version()?,
            address: origin.address.parse().ok()?,
            last: Some(last.to_bytes()),
        })
    }

    /// Puts our `o=` line into a description that is about to be sent, and gives its bytes.
    pub fn sign(&mut self, sdp: &mut Sdp) -> Bytes {
        let id = self.session_id.to_string();
        sdp.set_origin(&self.username, &id, self.version, self.address);
        let mut bytes = sdp.to_bytes();
        if self.last.as_ref().is_some_and(|last| *last != bytes) {
            self.version = self.version.wrapping_add(1);
            sdp.set_version(self.version);
            bytes = sdp.to_bytes();
        }
        self.last = Some(bytes.clone());
        bytes
    }
}

fn share_a_format(offered: &Media<'_>, answered: &Media<'_>) -> bool {
    answered.formats().any(|format| {
        offered.formats().any(|other| {
            let same_codec = || match (offered.rtpmap(other), answered.rtpmap(format)) {
                (Some(a), Some(b)) => a.is(&b),
                _ => false,
            };
            // Another number for the same codec is legal (RFC 3264 section 6.1 says SHOULD).
            other.eq_ignore_ascii_case(format) || (offered.is_rtp() && same_codec())
        })
    })
}

#[cfg(test)]
mod tests;
