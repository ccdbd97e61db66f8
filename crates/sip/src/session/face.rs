//! What a session is told and what it tells: configuration, commands, events, actions.
//!
//! Plain data only. Elsewhere: what happens in between (the other files of `session`), the wire (`transaction`).

use crate::digest;
use crate::draft::{HeaderText, RequestDraft, ResponseDraft};
use crate::msg::Method;
use crate::transaction::{Destination, ServerId};
use bytes::Bytes;
use std::time::Duration;

/// The methods that a session understands inside its dialog: the default of [`SessionConfig::allow`].
pub const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, INFO, REFER, NOTIFY, MESSAGE, OPTIONS";

/// What all sessions of one listener have in common.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The Contact value of our messages, `<sip:…>`.
    pub contact: String,
    /// User-Agent of requests and Server of responses; empty writes neither.
    pub user_agent: String,
    /// The methods that a peer may use in the dialog, as the Allow header lists them; the others are refused with 405.
    pub allow: &'static str,
    /// Session timers (RFC 4028).
    pub session_timer: TimerPolicy,
    /// Reliable provisional responses (RFC 3262).
    pub rel100: Rel100,
    /// T1: the first interval between repeats of 2xx and reliable 1xx; 64 times T1 is when they are given up.
    pub t1: Duration,
    /// T2: the longest interval between repeats of a 2xx.
    pub t2: Duration,
    /// How long the user may think about a peer's offer in the middle of a call. UPDATE and PRACK, whose sender gives up
    /// after 64 times T1, get two thirds of it.
    pub answer_limit: Duration,
    /// Outgoing: a peer that has sent nothing at all for this long, not even 100, counts as unreachable: the call ends as if
    /// refused with 408, and is cancelled should the peer speak later. `None` waits for the transaction's timer B (32 s).
    pub first_response: Option<Duration>,
    /// Where requests inside the dialog go.
    pub peer_address: PeerAddress,
    /// The Retry-After of refusals with 503 that bring none of their own, in seconds.
    pub retry_after_secs: u32,
}

impl SessionConfig {
    /// The defaults of the RFCs, for this Contact value (`<sip:…>`).
    pub fn new(contact: impl Into<String>) -> SessionConfig {
        SessionConfig {
            contact: contact.into(),
            user_agent: String::new(),
            allow: ALLOW,
            session_timer: TimerPolicy::default(),
            rel100: Rel100::Supported,
            t1: Duration::from_millis(500),        // RFC 3261 section 17.1.1.1
            t2: Duration::from_secs(4),            // RFC 3261 section 17.1.2.2
            answer_limit: Duration::from_secs(30), // below the 64*T1 after which a peer gives up its 2xx
            first_response: None,
            peer_address: PeerAddress::Flow,
            retry_after_secs: 5,
        }
    }
}

/// How session timers are used (RFC 4028).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerPolicy {
    /// Whether we ask for a session timer; a peer's wish for one is always granted.
    pub offer: bool,
    /// The session interval that we ask for, in seconds.
    pub interval: u32,
    /// The smallest interval that we accept, in seconds; smaller ones get 422.
    pub min_se: u32,
    /// Who should refresh, where it is ours to choose.
    pub refresher: Prefer,
}

impl Default for TimerPolicy {
    fn default() -> TimerPolicy {
        // RFC 4028 section 4: 1800 seconds are recommended, 90 are the least.
        TimerPolicy { offer: true, interval: 1800, min_se: 90, refresher: Prefer::Any }
    }
}

/// Who should refresh the session (RFC 4028 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// The peer decides; where it leaves the choice to us, the caller refreshes.
    Any,
    /// We.
    Us,
    /// The peer, if it can.
    Peer,
}

/// Reliable provisional responses (RFC 3262).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rel100 {
    /// Not offered; a peer that requires them gets 420.
    Off,
    /// Offered, and used for provisional responses with SDP where the peer can.
    Supported,
    /// Demanded in our INVITEs by `Require: 100rel`.
    Required,
}

/// Where requests inside the dialog go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// To the flow that the peer's last message came by: right behind NAT and on connections.
    Flow,
    /// To the first route or the remote target where that is an address and uses the transport of the flow; host names stay
    /// with the flow until the shell resolves them ([`super::Session::next_hop`], [`super::Session::set_destination`]).
    NextHop,
}

/// A call to be made.
#[derive(Debug)]
pub struct Outgoing {
    /// The Request-URI.
    pub target: String,
    /// The name-addr of From, without tag.
    pub from: String,
    /// The name-addr of To, without tag.
    pub to: String,
    /// The Call-ID.
    pub call_id: String,
    /// The tag of From: drawn by the shell, unguessable.
    pub local_tag: String,
    /// Pre-loaded Route values, `<uri>`.
    pub route: Vec<String>,
    /// More header lines; those that belong to the session are left out, save Max-Forwards.
    pub headers: HeaderText,
    /// Our offer; `None` asks the peer for one (delayed offer).
    pub offer: Option<Bytes>,
    /// Answers challenges of the peer or of a proxy on the way.
    pub credentials: Option<digest::Client>,
    /// Where the INVITE goes.
    pub destination: Destination,
    /// Where it goes next when it gets no answer there, or 503 (RFC 3263 section 4.3), in this order.
    pub elsewhere: Vec<Destination>,
}

/// What the user of a session wants.
#[derive(Clone, Debug)]
pub enum Command {
    /// Incoming: a provisional response (101 to 199). It goes reliably where the peer demands it, or where it carries SDP and
    /// both can.
    Progress {
        /// 101 to 199.
        status: u16,
        /// The answer, or a preview of it; the offer, where the INVITE had none.
        sdp: Option<Bytes>,
        /// More header lines.
        headers: HeaderText,
    },
    /// Incoming: 200 OK.
    Accept {
        /// The answer (the offer where the INVITE had none). Needed unless it went out before; without effect if that was
        /// reliably, for such an answer is final (RFC 6337 section 3.1.1): [`Command::Reoffer`] changes it.
        sdp: Option<Bytes>,
        /// More header lines.
        headers: HeaderText,
    },
    /// Incoming: a final refusal (300 to 699).
    Reject {
        /// 300 to 699.
        status: u16,
        /// The reason phrase; `None` writes the RFC's.
        reason: Option<String>,
        /// More header lines; Contact is allowed here, for 3xx.
        headers: HeaderText,
    },
    /// Outgoing, before the answer: gives up. An answer that crosses is acknowledged and hung up. Later: gives up the
    /// re-INVITE of a [`Command::Reoffer`]; its outcome comes all the same, and is an [`Event::Answer`] when the answer crosses.
    Cancel {
        /// The value of a Reason header (RFC 3326).
        reason: Option<String>,
    },
    /// Changes the session. It waits by itself until no other offer is open; the result is [`Event::Answer`] or
    /// [`Event::OfferRejected`], and for a delayed offer an [`Event::Offer`] first.
    Reoffer {
        /// Our offer; `None` asks the peer for one.
        sdp: Option<Bytes>,
        /// Use UPDATE where the peer can. Before the call is answered it is UPDATE in any case.
        prefer_update: bool,
    },
    /// Answers the peer's oldest open offer; where the peer asked for an offer of ours, this is that offer.
    Answer {
        /// The session description.
        sdp: Bytes,
    },
    /// Refuses the peer's oldest open offer. An offer in a response cannot be refused: the call ends.
    RejectOffer {
        /// 400 to 699.
        status: u16,
    },
    /// Sends INFO (RFC 6086); [`Event::Replied`] tells its fate.
    Info {
        /// Content-Type; empty where there is no body.
        content_type: String,
        /// The body.
        body: Bytes,
        /// More header lines.
        headers: HeaderText,
    },
    /// Sends MESSAGE (RFC 3428); [`Event::Replied`] tells its fate.
    Message {
        /// Content-Type.
        content_type: String,
        /// The body.
        body: Bytes,
        /// More header lines.
        headers: HeaderText,
    },
    /// Sends REFER (RFC 3515); [`Event::Replied`] tells its fate.
    Refer {
        /// The value of Refer-To.
        refer_to: String,
        /// The value of Referred-By (RFC 3892).
        referred_by: Option<String>,
        /// More header lines.
        headers: HeaderText,
    },
    /// Sends NOTIFY; [`Event::Replied`] tells its fate.
    Notify {
        /// The value of Event, such as `refer`.
        event: String,
        /// The value of Subscription-State.
        subscription_state: String,
        /// Content-Type; empty where there is no body.
        content_type: String,
        /// The body, such as a `message/sipfrag`.
        body: Bytes,
    },
    /// Answers the oldest open INFO of the peer.
    RespondInfo {
        /// 200 to 699.
        status: u16,
    },
    /// Answers the oldest open MESSAGE of the peer.
    RespondMessage {
        /// 200 to 699.
        status: u16,
    },
    /// Answers the oldest open REFER of the peer; 202 accepts it.
    RespondRefer {
        /// 200 to 699.
        status: u16,
    },
    /// Hangs up, whatever the state: BYE, else CANCEL (outgoing) or 480 (incoming).
    Bye {
        /// The value of a Reason header (RFC 3326).
        reason: Option<String>,
    },
}

/// Why a command was not carried out. Nothing was sent and nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It does not fit the state, for instance an Accept after a CANCEL: crossing events make this normal.
    #[error("the session is not in a state for this command")]
    WrongState,
    /// The peer does not take what this needs (an UPDATE before the answer), and will not later.
    #[error("the peer does not take what this command needs")]
    Unsupported,
    /// The message must carry a session description.
    #[error("this message must carry a session description")]
    SdpRequired,
    /// Another of the same kind is open.
    #[error("another command of this kind is still open")]
    Busy,
    /// The status does not fit the command.
    #[error("status {0} does not fit this command")]
    BadStatus(u16),
}

/// Where an offer of the peer came from, and so where its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferVia {
    /// A re-INVITE: the answer goes in its 2xx.
    Invite,
    /// The 2xx to our re-INVITE without offer: the answer goes in the ACK.
    Response,
    /// A reliable provisional response: the answer goes in the PRACK.
    Reliable,
    /// A PRACK: the answer goes in its 2xx.
    Prack,
    /// An UPDATE: the answer goes in its 2xx.
    Update,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// BYE, from the peer or by command.
    Bye,
    /// We refused the call by command (incoming).
    Refused,
    /// We had cancelled, but the peer's answer crossed: it was acknowledged and hung up.
    Cancelled,
    /// Our 2xx was never acknowledged (RFC 3261 section 13.3.1.4).
    NoAck,
    /// Our reliable provisional response was never acknowledged (RFC 3262 section 3).
    NoPrack,
    /// An answer or offer that had to come did not, so that there is no session to speak of.
    NoAnswer,
    /// Nobody refreshed the session in time (RFC 4028 section 10).
    SessionExpired,
    /// The peer does not know the dialog any more: 481 (RFC 3261 section 12.2.1.2).
    Gone,
    /// A request inside the dialog got 408 or no answer at all (RFC 3261 section 12.2.1.2).
    TransactionFailed,
}

/// What happened. A session ends with exactly one of [`Event::Rejected`], [`Event::Cancelled`] and [`Event::Ended`].
#[derive(Clone, Debug)]
pub enum Event {
    /// Outgoing: a provisional response (101 to 199).
    Progress {
        /// 101 to 199.
        status: u16,
        /// Early SDP when it is new or changed: a preview of the answer, or the answer itself. Where our INVITE had no offer it
        /// is the peer's offer, and [`Command::Answer`] is due (it goes in the PRACK).
        sdp: Option<Bytes>,
        /// Which of the forks rings, from 0.
        fork: u32,
    },
    /// Outgoing: the 2xx that [`Event::Answered`] is about to tell of brings a tag for the call's record, in the header X-Tag that
    /// some carriers log calls by.
    Tagged {
        /// The header's value, cut.
        tag: String,
    },
    /// Outgoing: the call is answered.
    Answered {
        /// The answer. Where our INVITE had no offer it is the peer's offer and [`Command::Answer`] is due (it goes in the ACK).
        /// `None` where nothing is new: offer and answer were exchanged by PRACK or changed by UPDATE before.
        sdp: Option<Bytes>,
        /// Which of the forks answered.
        fork: u32,
    },
    /// Outgoing: a final refusal. The end.
    Rejected {
        /// 300 to 699; 408 for silence (of the whole transaction, or of [`SessionConfig::first_response`]), 503 for a broken
        /// transport.
        status: u16,
        /// The reason phrase.
        reason: String,
        /// The lines that say more: Retry-After, Warning, Reason, Error-Info, and Contact of 3xx.
        headers: HeaderText,
    },
    /// Incoming: our 2xx was acknowledged.
    Confirmed {
        /// The answer to the offer in our 2xx.
        sdp: Option<Bytes>,
    },
    /// Incoming: the caller gave up (or its INVITE expired); 487 is sent. The end.
    Cancelled {
        /// The value of the CANCEL's Reason header.
        reason: Option<String>,
    },
    /// The peer wants to change the session: [`Command::Answer`] or [`Command::RejectOffer`] is due.
    Offer {
        /// Its offer; `None` asks for ours, whose answer comes as [`Event::Answer`].
        sdp: Option<Bytes>,
        /// How it came.
        via: OfferVia,
    },
    /// The open offer of the peer is void: it was cancelled, or the answer came too late.
    OfferWithdrawn,
    /// The answer to our offer. It may come unasked when a refresh of the session changed something.
    Answer {
        /// The session description.
        sdp: Bytes,
    },
    /// Our offer was refused: the session goes on as before.
    OfferRejected {
        /// 300 to 699; 488 for a 2xx without the answer.
        status: u16,
    },
    /// The peer sent INFO: [`Command::RespondInfo`] is due.
    Info {
        /// Content-Type, or empty.
        content_type: String,
        /// The body.
        body: Bytes,
    },
    /// The peer sent MESSAGE: [`Command::RespondMessage`] is due.
    Message {
        /// Content-Type, or empty.
        content_type: String,
        /// The body.
        body: Bytes,
    },
    /// The peer sent REFER: [`Command::RespondRefer`] is due.
    Refer {
        /// The value of Refer-To.
        refer_to: String,
        /// The value of Referred-By.
        referred_by: Option<String>,
    },
    /// The peer sent NOTIFY; 200 is sent.
    Notify {
        /// The value of Event.
        event: String,
        /// The value of Subscription-State.
        subscription_state: String,
        /// Content-Type, or empty.
        content_type: String,
        /// The body.
        body: Bytes,
    },
    /// The final response to an INFO, MESSAGE, REFER or NOTIFY of ours.
    Replied {
        /// Which.
        method: Method,
        /// 200 to 699; 408 for silence, 503 for a broken transport.
        status: u16,
    },
    /// The end of a session that was (or would have been) established.
    Ended {
        /// Whether the peer hung up.
        by_peer: bool,
        /// Why.
        cause: EndCause,
        /// The value of the Reason header of the peer's BYE.
        reason: Option<String>,
    },
}

/// What the shell hands to the transaction layer.
#[derive(Clone, Debug)]
pub enum Action {
    /// Start a client transaction; its responses come back with `seq`.
    Request {
        /// The part of the client key that the session chooses; never used twice by one session.
        seq: u32,
        /// The request.
        draft: RequestDraft,
        /// Where to.
        to: Destination,
    },
    /// Answer a request of the peer; the 2xx to an INVITE and reliable provisional responses come repeatedly.
    Respond {
        /// The server transaction.
        txn: ServerId,
        /// The response.
        draft: ResponseDraft,
    },
    /// Cancel our INVITE.
    Cancel {
        /// The `seq` of the INVITE.
        seq: u32,
        /// The value of a Reason header.
        reason: Option<String>,
    },
    /// Send the ACK of a 2xx, outside of any transaction.
    Ack {
        /// The ACK.
        draft: RequestDraft,
        /// Where to.
        to: Destination,
    },
}

/// How a client transaction ended without a final response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer: counts as 408 (RFC 3261 section 8.1.3.1).
    Timeout,
    /// The transport failed: counts as 503.
    Transport,
}

impl Failure {
    /// The status that the failure counts as.
    pub fn status(self) -> u16 {
        match self {
            Failure::Timeout => 408,
            Failure::Transport => 503,
        }
    }
}

/// The Replaces header of an INVITE (RFC 3891): the dialog whose place the call takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaces {
    /// Call-ID of that dialog.
    pub call_id: String,
    /// Its local tag, seen from us.
    pub to_tag: String,
    /// Its remote tag, seen from us.
    pub from_tag: String,
    /// Only if that dialog is still early.
    pub early_only: bool,
}
