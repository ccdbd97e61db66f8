//! What a platform keeps of its work: call records, calls not yet ended, registered contacts.
//!
//! Plain data. Times are Unix time in UTC and durations whole numbers, each with its unit in its name.
//! Elsewhere: making them (`appserver`, `proxy`, `relay`), keeping them (`store`). Their stored form is positional: a
//! change of a field is a change of the store's format.

use crate::aor::Aor;
use crate::entities::{Brand, Company as Client, User};
use crate::external::ExternalCall;
use crate::id::Id;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Call detail record: the story of one call, written once when it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cdr {
    /// Our name of the call, unique over all nodes and restarts.
    pub call: String,
    /// The brand of the caller.
    pub brand: Id<Brand>,
    /// The client of the caller.
    pub client: Id<Client>,
    /// Who called.
    pub caller: Party,
    /// Who was called.
    pub callee: Party,
    /// What was dialled.
    pub dialed: String,
    /// When the call came in, in Unix microseconds.
    pub started_us: i64,
    /// When it was answered, in Unix microseconds; `None` when it never was.
    pub answered_us: Option<i64>,
    /// When it ended, in Unix microseconds.
    pub ended_us: i64,
    /// Who ended it.
    pub hung_up_by: HungUpBy,
    /// Why it ended.
    pub cause: Cause,
    /// Every leg that the call had, in the order of their making; the caller's first.
    pub legs: Vec<CdrLeg>,
    /// What clients are told for whom the call was an external one; empty for calls within a client.
    pub externals: Vec<ExternalCall>,
    /// The number of the node whose application server had the call last.
    pub node: u16,
    /// The number of the node whose relay had its media last; nothing where it never had any.
    pub relay: Option<u16>,
}

impl Cdr {
    /// Length of the conversation in microseconds; `None` when there was none.
    pub fn conversation_us(&self) -> Option<i64> {
        self.answered_us.map(|answered_us| self.ended_us.saturating_sub(answered_us).max(0))
    }
}

/// One side of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Number as shown to the other side.
    pub number: String,
    /// Display name; may be empty.
    pub name: String,
    /// The user, when the party is one of ours.
    pub user: Option<Id<User>>,
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HungUpBy {
    /// BYE or CANCEL of the caller.
    Caller,
    /// BYE or rejection of the called side.
    Callee,
    /// We did: no answer, no media, a limit, a failure of ours.
    Platform,
}

/// Why a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// A SIP status code (RFC 3261 section 21): 200 for an answered call that was hung up, else what the caller got.
    pub status: u16,
    /// The same for people.
    pub text: String,
}

/// One leg of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CdrLeg {
    /// Which side it was on.
    pub role: LegRole,
    /// Call-ID of its dialog (RFC 3261 section 20.8).
    pub sip_call_id: String,
    /// The endpoint, as its address or contact.
    pub endpoint: String,
    /// What the relay saw of the peer; `None` when the leg never had media.
    pub media: Option<MediaReport>,
}

/// The side of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LegRole {
    /// The leg that the call came in by.
    Caller,
    /// A leg that we made.
    Callee,
    /// A leg that we made, and whose peer answered the call.
    Answerer,
}

/// RTP figures of one peer, summed over its streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaReport {
    /// Packets taken from the peer.
    pub packets_received: u64,
    /// Octets of those packets' payload and RTP header.
    pub bytes_received: u64,
    /// Packets sent to the peer.
    pub packets_sent: u64,
    /// Octets of those packets' payload and RTP header.
    pub bytes_sent: u64,
    /// Packets of the peer that did not reach us (RFC 3550 section 6.4.1 and A.3, counted by us, never negative).
    pub lost: u64,
    /// Interarrival jitter of what the peer sent, in microseconds (RFC 3550 A.8, measured by us).
    pub jitter_us: u32,
    /// Packets of ours that the peer says it missed, from its RTCP.
    pub reported_lost: Option<u64>,
    /// Jitter that the peer says it sees, in microseconds, from its RTCP.
    pub reported_jitter_us: Option<u32>,
    /// Round trip between us and the peer in microseconds (RFC 3550 section 6.4.1, LSR and DLSR).
    pub round_trip_us: Option<u32>,
    /// Estimated mean opinion score of what we received, in hundredths: 100 to 500.
    pub mos_hundredths: Option<u16>,
    /// Packets thrown away: malformed, or from another source than the negotiated peer.
    pub dropped: u64,
}

/// What is known of an answered call while it lasts, so that it gets its record even if this node dies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCall {
    /// As in [`Cdr`].
    pub call: String,
    /// As in [`Cdr`].
    pub brand: Id<Brand>,
    /// As in [`Cdr`].
    pub client: Id<Client>,
    /// As in [`Cdr`].
    pub caller: Party,
    /// As in [`Cdr`].
    pub callee: Party,
    /// As in [`Cdr`].
    pub dialed: String,
    /// As in [`Cdr`].
    pub started_us: i64,
    /// As in [`Cdr`].
    pub answered_us: Option<i64>,
    /// As in [`Cdr`], as far as known.
    pub legs: Vec<CdrLeg>,
    /// As in [`Cdr`], as far as known.
    pub externals: Vec<ExternalCall>,
    /// As in [`Cdr`].
    pub node: u16,
    /// As in [`Cdr`].
    pub relay: Option<u16>,
}

impl OpenCall {
    /// The record of a call whose node died in the middle of it. When the call really ended nobody knows;
    /// `ended_us` (Unix microseconds) is the caller's best word, and never before the answer.
    pub fn into_lost_cdr(self, ended_us: i64) -> Cdr {
        let ended_us = ended_us.max(self.started_us).max(self.answered_us.unwrap_or(i64::MIN));
        Cdr {
            call: self.call,
            brand: self.brand,
            client: self.client,
            caller: self.caller,
            callee: self.callee,
            dialed: self.dialed,
            started_us: self.started_us,
            answered_us: self.answered_us,
            ended_us,
            hung_up_by: HungUpBy::Platform,
            cause: Cause { status: 500, text: "Node lost".to_owned() },
            legs: self.legs,
            externals: self.externals,
            node: self.node,
            relay: self.relay,
        }
    }
}

/// A registered contact of an endpoint (RFC 3261 section 10), as it must survive a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingRecord {
    /// Whose it is.
    pub aor: Aor,
    /// The contact's URI; with `aor` the key of the binding.
    pub contact: String,
    /// `+sip.instance` of the contact (RFC 5626 section 4.1).
    pub instance: Option<String>,
    /// `reg-id` of the contact (RFC 5626 section 4.2).
    pub reg_id: Option<u32>,
    /// Call-ID of the REGISTER.
    pub call_id: String,
    /// CSeq number of the REGISTER.
    pub cseq: u32,
    /// Preference in thousandths, 0 to 1000 (RFC 3261 section 20.10).
    pub q: u16,
    /// When it expires, in Unix seconds.
    pub expires_at: i64,
    /// Path vector (RFC 3327), outermost first.
    pub path: Vec<String>,
    /// User-Agent of the device.
    pub user_agent: String,
    /// The way to the device.
    pub flow: FlowRecord,
    /// The device is behind a NAT: its flow must be kept alive, its contact's address means nothing.
    pub nat: bool,
}

/// The way a REGISTER came in, as far as it means something after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRecord {
    /// Via token of the transport: `UDP`, `TCP`.
    pub transport: String,
    /// Index of our listener.
    pub listener: u16,
    /// The peer.
    pub remote: SocketAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_call() -> OpenCall {
        OpenCall {
            call: "c1".into(),
            brand: Id::new(1),
            client: Id::new(1),
            caller: Party { number: "101".into(), name: "Alice Allison".into(), user: Some(Id::new(1)) },
            callee: Party { number: "102".into(), name: "Bob Bobson".into(), user: Some(Id::new(2)) },
            dialed: "102".into(),
            started_us: 1_000_000,
            answered_us: Some(3_000_000),
            legs: Vec::new(),
            externals: Vec::new(),
            node: 1,
            relay: None,
        }
    }

    #[test]
    fn a_lost_call_keeps_its_story_and_is_our_fault() {
        let cdr = open_call().into_lost_cdr(9_000_000);
        assert_eq!((cdr.call.as_str(), cdr.started_us, cdr.ended_us), ("c1", 1_000_000, 9_000_000));
        assert_eq!((cdr.hung_up_by, cdr.cause.status), (HungUpBy::Platform, 500));
        assert_eq!(cdr.conversation_us(), Some(6_000_000));
    }

    #[test]
    fn a_lost_call_does_not_end_before_its_answer() {
        let cdr = open_call().into_lost_cdr(0);
        assert_eq!((cdr.ended_us, cdr.conversation_us()), (3_000_000, Some(0)));
    }
}
