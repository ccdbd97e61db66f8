//! A session at rest as bytes, from which another node carries it on when this one is lost or drained.
//!
//! In: a [`Session`] without anything open. Out: a [`Capsule`], its bytes, and a session again. The bytes are a message of
//! protocol buffers, so that two releases read each other's. Elsewhere: who keeps capsules and when (the crates above).

use super::timer::{self, Left, SessionTimer};
use super::{Exchange, Life, Session, SessionConfig, Usage};
use crate::dialog::{Dialog, ROUTES_MAX};
use crate::flow::{ConnId, Flow, MESSAGE_MAX, Transport};
use crate::header::NameAddr;
use crate::header::lex::is_token;
use crate::transaction::Destination;
use crate::uri::Uri;
use bytes::Bytes;
use prost::Message as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The layout of a capsule that this release writes, and the highest that it reads. Fields may be added without a new number:
/// a release that does not know them leaves them out.
const FORMAT: u32 = 1;
/// Octets of the longest capsule. That of a usual dialog has less than a kilobyte beside its session description.
pub const CAPSULE_MAX: usize = 256 * 1024;
/// How far the numbers of our requests jump when a session is revived. What was sent since the capsule was made is not known;
/// our numbers must grow (RFC 3261 section 12.2.1.1), and a gap upward is no error (section 12.2.2).
const SKIP: u32 = 64;
/// A capsule is old when so many requests were sent after it.
const SKIP_HALF: u32 = SKIP / 2;
/// CSeq numbers are below 2^31 (RFC 3261 section 8.1.1.5).
const CSEQ_MAX: u32 = (1 << 31) - 1 - SKIP;
/// What another node needs to carry a session on: the dialog, what both sides agreed upon, the session timer, the way to
/// the peer. It holds no credentials; whoever revives a session that needs some gives them by [`Session::set_credentials`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capsule {
    dialog: Dialog,
    caller: bool,
    destination: Destination,
    next_seq: u32,
    offers: u32,
    random: u64,
    fork: u32,
    local_sdp: Option<Bytes>,
    answered: bool,
    remote_print: u64,
    version: u64,
    takes_update: bool,
    min_se: u32,
    timer: Option<Left>,
}

/// Why bytes are no capsule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapsuleError {
    /// Longer than a capsule can be.
    #[error("a leg's capsule has {0} octets, the most are {CAPSULE_MAX}")]
    TooLong(usize),
    /// Not what a protocol buffer is.
    #[error("a leg's capsule cannot be read: {0}")]
    Encoding(#[from] prost::DecodeError),
    /// Written by a release that this one does not understand.
    #[error("a leg's capsule has format {0}, this release reads 1 to {FORMAT}; upgrade this node")]
    Format(u32),
    /// A field has a value that no session could have put there.
    #[error("a leg's capsule is broken: `{field}` {why}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Session {
    /// Whether nothing is open: no transaction of either side, no offer, no ACK owed, nothing to be told or to be sent. Only
    /// then the session fits into a capsule.
    pub fn is_at_rest(&self) -> bool {
        self.life == Life::Confirmed
            && !self.told
            && matches!(self.usage.exchange, Exchange::Idle)
            && self.usage.update.is_none()
            && self.serving.is_none()
            && self.calling.is_none()
            && self.clients.is_empty()
            && self.postponed.is_empty()
            && self.asked.is_empty()
            && self.wanted.is_none()
            && self.bye.is_none()
            && self.acks.iter().all(|acked| acked.ack.is_some())
            && self.actions.is_empty()
            && self.events.is_empty()
    }

    /// Whether something is open in a dialog that is confirmed: nobody else could carry it on at this moment.
    pub fn is_busy(&self) -> bool {
        self.life == Life::Confirmed && !self.is_at_rest()
    }

    /// What another node needs to carry this session on; `None` while something is open ([`Session::is_at_rest`]), or
    /// when the peer has made it too big.
    pub fn capsule(&self, now: Instant) -> Option<Capsule> {
        if !self.is_at_rest() {
            return None;
        }
        let capsule = Capsule {
            dialog: self.usage.dialog.clone(),
            caller: self.caller,
            destination: self.destination,
            next_seq: self.next_seq,
            offers: self.offers,
            random: self.random,
            fork: self.usage.fork,
            local_sdp: self.usage.local_sdp.clone(),
            answered: self.usage.answered,
            remote_print: self.usage.remote_print,
            version: self.usage.version,
            takes_update: self.usage.takes_update,
            min_se: self.timer.min_se,
            timer: self.timer.left(now),
        };
        (capsule.check().is_ok() && Wire::from(&capsule).encoded_len() <= CAPSULE_MAX).then_some(capsule)
    }

    /// Changes when the last capsule has become old; `None` while there is none to be had. Cheap: nothing is serialized.
    /// A few requests of either side do not make a capsule old: who revives it skips their numbers.
    pub fn capsule_print(&self) -> Option<u64> {
        if !self.is_at_rest() {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        let usage = &self.usage;
        usage.dialog.remote_target.hash(&mut hasher);
        self.destination.flow.hash(&mut hasher);
        (usage.settled, self.timer.runs, self.timer.min_se, usage.takes_update).hash(&mut hasher);
        (usage.dialog.local_cseq / SKIP_HALF, self.next_seq / SKIP_HALF).hash(&mut hasher);
        Some(hasher.finish())
    }

    /// The session that the capsule was made of, carried on here. The flow's connection is not known to this node unless
    /// the shell knows better ([`Capsule::destination`], [`Session::set_destination`]), nor is its listener that of another node's
    /// table. Whoever wants the peer to send its requests here says [`Session::announce`].
    ///
    /// The numbers of our requests skip ahead (RFC 3261 section 12.2.2 allows the gap). The peer's last request is taken once
    /// more: its answer may have been lost with the node that gave it. An ACK of ours that was lost with it is not sent again.
    pub fn revive(cfg: Arc<SessionConfig>, capsule: &Capsule, now: Instant) -> Session {
        let mut dialog = capsule.dialog.clone();
        dialog.local_cseq = dialog.local_cseq.min(CSEQ_MAX) + SKIP;
        dialog.remote_cseq = dialog.remote_cseq.and_then(|last| last.checked_sub(1));
        let mut usage = Usage::new(capsule.fork, dialog, Exchange::Idle);
        usage.local_sdp = capsule.local_sdp.clone();
        usage.answered = capsule.answered;
        usage.remote_print = capsule.remote_print;
        usage.version = capsule.version;
        usage.takes_update = capsule.takes_update;
        let mut destination = capsule.destination;
        destination.flow.conn = ConnId(0);
        let mut session = Session::new(cfg, usage, capsule.caller, destination, None);
        session.life = Life::Confirmed;
        session.next_seq = capsule.next_seq.saturating_add(SKIP);
        session.offers = capsule.offers;
        session.random = capsule.random;
        let patience = session.patience();
        session.timer = SessionTimer::resumed(capsule.min_se, capsule.timer, patience, now);
        session
    }
}

impl Capsule {
    /// The capsule that these bytes are, which may come from anybody.
    ///
    /// # Errors
    /// Says which field no session could have written.
    pub fn decode(bytes: &[u8]) -> Result<Capsule, CapsuleError> {
        if bytes.len() > CAPSULE_MAX {
            return Err(CapsuleError::TooLong(bytes.len()));
        }
        let wire = Wire::decode(bytes)?;
        if wire.format == 0 || wire.format > FORMAT {
            return Err(CapsuleError::Format(wire.format));
        }
        let capsule = wire.into_capsule()?;
        capsule.check()?;
        Ok(capsule)
    }

    /// Its bytes: [`CAPSULE_MAX`] at most.
    pub fn encode(&self) -> Bytes {
        Wire::from(self).encode_to_vec().into()
    }

    /// The dialog: by its Call-ID and local tag requests of the peer are known.
    pub fn dialog(&self) -> &Dialog {
        &self.dialog
    }

    /// Where requests went on the node that made the capsule. Connection and listener mean something there only.
    pub fn destination(&self) -> Destination {
        self.destination
    }

    /// Time has passed since it was made: less is left of its timers.
    pub fn age(&mut self, by: Duration) {
        if let Some(left) = &mut self.timer {
            left.due = left.due.saturating_sub(by);
            left.expires = left.expires.saturating_sub(by);
        }
    }

    fn check(&self) -> Result<(), CapsuleError> {
        let dialog = &self.dialog;
        let is_word = is_value(&dialog.call_id) && dialog.call_id.iter().all(u8::is_ascii_graphic);
        ensure(is_word, "call_id", "is empty, too long or no word")?;
        ensure(is_tag(dialog.local_tag.as_bytes()), "local_tag", "is no tag")?;
        ensure(dialog.remote_tag.as_deref().is_none_or(is_tag), "remote_tag", "is no tag")?;
        for (field, text) in [("local_uri", &dialog.local_uri), ("remote_uri", &dialog.remote_uri)] {
            ensure(is_value(text), field, "is empty, too long or more than one line")?;
            ensure(NameAddr::parse(text, "From").is_ok(), field, "is no name-addr")?;
        }
        let target = dialog.remote_target.as_bytes();
        let is_sip = is_value(target) && Uri::parse(target).is_ok_and(|uri| uri.is_sip());
        ensure(is_sip, "remote_target", "is no SIP URI")?;
        ensure(dialog.route_set.len() <= ROUTES_MAX, "route_set", "has too many routes")?;
        for route in &dialog.route_set {
            let parsed = NameAddr::parse(route.as_bytes(), "Route");
            let is_route = is_value(route.as_bytes()) && parsed.is_ok_and(|route| route.uri.is_sip());
            ensure(is_route && route.contains('<'), "route_set", "has what is no route")?;
        }
        ensure(dialog.local_cseq <= CSEQ_MAX, "local_cseq", "is too large")?;
        let remote = self.destination.flow.remote;
        let is_somewhere = remote.port() != 0 && !remote.ip().is_unspecified() && !remote.ip().is_multicast();
        ensure(is_somewhere, "remote", "is no address that can be sent to")?;
        let is_short = |sdp: &Bytes| sdp.len() <= MESSAGE_MAX;
        ensure(self.local_sdp.as_ref().is_none_or(is_short), "local_sdp", "is too long")?;
        ensure(self.min_se <= timer::MOST, "min_se", "is too large")?;
        let most = Duration::from_secs(timer::MOST.into());
        let is_timer = |left: &Left| {
            (1..=timer::MOST).contains(&left.interval) && left.due <= most && left.expires <= most
        };
        ensure(self.timer.as_ref().is_none_or(is_timer), "timer", "has an interval that nobody means")
    }
}

fn ensure(holds: bool, field: &'static str, why: &'static str) -> Result<(), CapsuleError> {
    if holds { Ok(()) } else { Err(CapsuleError::Field { field, why }) }
}

/// What can stand in a header line as it is.
fn is_value(text: &[u8]) -> bool {
    let is_fine = |b: &u8| !matches!(b, b'\r' | b'\n' | 0);
    !text.is_empty() && text.len() <= MESSAGE_MAX && text.iter().all(is_fine)
}

fn is_tag(text: &[u8]) -> bool {
    text.len() <= MESSAGE_MAX && is_token(text)
}

/// The capsule on the wire. A number that was used once is never used for anything else.
#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(bytes = "vec", tag = "2")]
    call_id: Vec<u8>,
    #[prost(string, tag = "3")]
    local_tag: String,
    #[prost(bytes = "vec", optional, tag = "4")]
    remote_tag: Option<Vec<u8>>,
    #[prost(bytes = "vec", tag = "5")]
    local_uri: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    remote_uri: Vec<u8>,
    #[prost(string, tag = "7")]
    remote_target: String,
    #[prost(string, repeated, tag = "8")]
    route_set: Vec<String>,
    #[prost(uint32, tag = "9")]
    local_cseq: u32,
    #[prost(uint32, optional, tag = "10")]
    remote_cseq: Option<u32>,
    #[prost(bool, tag = "11")]
    secure: bool,
    #[prost(bool, tag = "12")]
    caller: bool,
    /// Via token.
    #[prost(string, tag = "13")]
    transport: String,
    #[prost(uint32, tag = "14")]
    listener: u32,
    #[prost(string, tag = "15")]
    remote: String,
    #[prost(uint64, tag = "16")]
    connection: u64,
    #[prost(bool, tag = "17")]
    stream_first: bool,
    #[prost(uint32, tag = "18")]
    next_seq: u32,
    #[prost(uint32, tag = "19")]
    offers: u32,
    #[prost(fixed64, tag = "20")]
    random: u64,
    #[prost(uint32, tag = "21")]
    fork: u32,
    #[prost(bytes = "bytes", optional, tag = "22")]
    local_sdp: Option<Bytes>,
    #[prost(bool, tag = "23")]
    answered: bool,
    #[prost(fixed64, tag = "24")]
    remote_print: u64,
    #[prost(bool, tag = "25")]
    takes_update: bool,
    #[prost(uint32, tag = "26")]
    min_se: u32,
    #[prost(message, optional, tag = "27")]
    timer: Option<WireTimer>,
    #[prost(uint64, tag = "28")]
    version: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireTimer {
    #[prost(uint32, tag = "1")]
    interval: u32,
    #[prost(bool, tag = "2")]
    we_refresh: bool,
    #[prost(uint32, tag = "3")]
    due_ms: u32,
    #[prost(uint32, tag = "4")]
    expires_ms: u32,
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn time(millis: u32) -> Duration {
    Duration::from_millis(millis.into())
}

impl From<&Capsule> for Wire {
    fn from(capsule: &Capsule) -> Wire {
        let dialog = &capsule.dialog;
        let flow = capsule.destination.flow;
        Wire {
            format: FORMAT,
            call_id: dialog.call_id.to_vec(),
            local_tag: dialog.local_tag.to_string(),
            remote_tag: dialog.remote_tag.as_ref().map(|tag| tag.to_vec()),
            local_uri: dialog.local_uri.to_vec(),
            remote_uri: dialog.remote_uri.to_vec(),
            remote_target: dialog.remote_target.to_string(),
            route_set: dialog.route_set.iter().map(|route| route.to_string()).collect(),
            local_cseq: dialog.local_cseq,
            remote_cseq: dialog.remote_cseq,
            secure: dialog.secure,
            caller: capsule.caller,
            transport: flow.transport.via_token().to_owned(),
            listener: flow.listener.into(),
            remote: flow.remote.to_string(),
            connection: flow.conn.0,
            stream_first: capsule.destination.stream_first,
            next_seq: capsule.next_seq,
            offers: capsule.offers,
            random: capsule.random,
            fork: capsule.fork,
            local_sdp: capsule.local_sdp.clone(),
            answered: capsule.answered,
            remote_print: capsule.remote_print,
            version: capsule.version,
            takes_update: capsule.takes_update,
            min_se: capsule.min_se,
            timer: capsule.timer.map(|left| WireTimer {
                interval: left.interval,
                we_refresh: left.we_refresh,
                due_ms: millis(left.due),
                expires_ms: millis(left.expires),
            }),
        }
    }
}

impl Wire {
    fn into_capsule(self) -> Result<Capsule, CapsuleError> {
        let broken = |field, why| CapsuleError::Field { field, why };
        let transport = Transport::from_token(&self.transport)
            .ok_or(broken("transport", "is none that this release knows"))?;
        let listener = u16::try_from(self.listener).map_err(|_| broken("listener", "is too large"))?;
        let remote: SocketAddr = self.remote.parse().map_err(|_| broken("remote", "is no address"))?;
        let dialog = Dialog {
            call_id: self.call_id.into(),
            local_tag: self.local_tag.into(),
            remote_tag: self.remote_tag.map(Into::into),
            local_uri: self.local_uri.into(),
            remote_uri: self.remote_uri.into(),
            remote_target: self.remote_target.into(),
            route_set: self.route_set.into_iter().map(Into::into).collect(),
            local_cseq: self.local_cseq,
            remote_cseq: self.remote_cseq,
            secure: self.secure,
        };
        let flow = Flow { transport, listener, remote, conn: ConnId(self.connection) };
        Ok(Capsule {
            dialog,
            caller: self.caller,
            destination: Destination { flow, stream_first: self.stream_first },
            next_seq: self.next_seq,
            offers: self.offers,
            random: self.random,
            fork: self.fork,
            local_sdp: self.local_sdp,
            answered: self.answered,
            remote_print: self.remote_print,
            version: self.version,
            takes_update: self.takes_update,
            min_se: self.min_se,
            timer: self.timer.map(|wire| Left {
                interval: wire.interval,
                we_refresh: wire.we_refresh,
                due: time(wire.due_ms),
                expires: time(wire.expires_ms),
            }),
        })
    }
}
