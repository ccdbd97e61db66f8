//! The table of legs, their supervisor, and what an order to call becomes on the wire.
//!
//! In: legs as they come and go, orders ([`Originate`]). Out: actors by name, drafts of new sessions. Elsewhere: the actors
//! themselves (`leg`), decisions about calls (crate `appserver`).

use crate::Shared;
use crate::leg::LegMsg;
use cluster::ids::{LegId, NodeId};
use cluster::leg::Originate;
use dashmap::DashMap;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use sip::draft::HeaderText;
use sip::flow::Transport;
use sip::msg::{HeaderId, Message};
use sip::session::{Outgoing, SessionConfig};
use sip::transaction::Destination;
use sip::uri::{UriBuf, escape_user};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bounds of the headers that a call passes on.
const PASSED_LINES_MAX: usize = 32;
const PASSED_VALUE_MAX: usize = 1024;
const PASSED_BYTES_MAX: usize = 4096;
/// Display names and numbers are cut to this many characters.
const NAME_MAX: usize = 128;

/// All legs of a proxy.
pub(crate) struct LegTable {
    legs: DashMap<LegId, Entry>,
    count: AtomicUsize,
    node: NodeId,
    workers: usize,
}

struct Entry {
    actor: ActorRef<LegMsg>,
    /// The random part of the leg's tag.
    secret: u64,
    /// Requests inside the dialog: the second since the start in the upper half, their count in the lower one.
    rate: AtomicU64,
}

/// How a tag of ours finds its leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LegTag {
    pub(crate) leg: LegId,
    pub(crate) secret: u64,
}

impl LegTag {
    /// The tag as written: the leg's name, a dot, 16 hexadecimal digits.
    pub(crate) fn text(self) -> String {
        format!("{}.{:016x}", self.leg, self.secret)
    }

    /// Reads a tag of that form.
    pub(crate) fn parse(tag: &[u8]) -> Option<LegTag> {
        let (leg, secret) = std::str::from_utf8(tag).ok()?.strip_prefix('l')?.split_once('.')?;
        let hex = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, 16))
        };
        let secret = if secret.len() == 16 { hex(secret)?.ok()? } else { return None };
        Some(LegTag { leg: LegId::from_u64(hex(leg)?.ok()?), secret })
    }
}

/// What the table says of a request inside a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The leg is there.
    Yes,
    /// The leg is there, and its peer floods it.
    TooMany,
    /// No such leg.
    Unknown,
}

impl LegTable {
    pub(crate) fn new(node: NodeId, workers: usize) -> Self {
        Self { legs: DashMap::new(), count: AtomicUsize::new(0), node, workers }
    }

    /// Whether a leg's name can be one of ours.
    pub(crate) fn is_ours(&self, leg: LegId) -> bool {
        leg.node() == self.node && usize::from(leg.worker()) < self.workers
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn insert(&self, tag: LegTag, actor: ActorRef<LegMsg>) {
        let entry = Entry { actor, secret: tag.secret, rate: AtomicU64::new(0) };
        let old = self.legs.insert(tag.leg, entry);
        assert!(old.is_none(), "leg names are never reused");
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, leg: LegId) {
        if self.legs.remove(&leg).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether a leg is there and may get another request in this second.
    pub(crate) fn admit(&self, tag: LegTag, second: u64, limit: u32) -> Admission {
        let Some(entry) = self.legs.get(&tag.leg).filter(|entry| entry.secret == tag.secret) else {
            return Admission::Unknown;
        };
        let second = second & 0xffff_ffff;
        let counted = entry.rate.load(Ordering::Relaxed);
        let count = if counted >> 32 == second { (counted & 0xffff_ffff) + 1 } else { 1 };
        if count > u64::from(limit) {
            return Admission::TooMany;
        }
        entry.rate.store(second << 32 | count, Ordering::Relaxed);
        Admission::Yes
    }

    pub(crate) fn knows(&self, tag: LegTag) -> bool {
        self.legs.get(&tag.leg).is_some_and(|entry| entry.secret == tag.secret)
    }

    /// `false`: the leg is gone.
    pub(crate) fn cast(&self, leg: LegId, message: LegMsg) -> bool {
        self.legs.get(&leg).is_some_and(|entry| entry.actor.cast(message).is_ok())
    }

    /// Kills a leg's actor; its last will ends the dialog.
    pub(crate) fn kill(&self, leg: LegId) -> bool {
        let Some(actor) = self.legs.get(&leg).map(|entry| entry.actor.clone()) else { return false };
        actor.kill();
        true
    }
}

/// Parent of all leg actors; outlives each of them.
pub(crate) struct Supervisor;

impl Actor for Supervisor {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        // Written out because the default ends the supervisor and with it every call. What is to be done for a lost leg
        // does its last will.
        match event {
            SupervisionEvent::ActorFailed(_, why) => tracing::error!(%why, "a leg's actor failed"),
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ActorTerminated(..)
            | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

/// Headers of an INVITE that the call passes on: what the caller says about the call, never who it says it is, nor what makes
/// telephones answer by themselves or fetch something (Alert-Info, Call-Info).
pub(crate) fn passed_headers(msg: &Message) -> HeaderText {
    let mut passed = HeaderText::new();
    let mut lines = 0;
    for (id, name, value) in msg.all_headers() {
        let is_named = matches!(id, HeaderId::Subject | HeaderId::Priority);
        let is_extension = id == HeaderId::Other
            && (name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"X-"))
                || name.eq_ignore_ascii_case(b"User-to-User"));
        let wanted = is_named || is_extension;
        if !wanted || value.len() > PASSED_VALUE_MAX {
            continue;
        }
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let name = if id == HeaderId::Other { name } else { id.name() };
        lines += 1;
        if lines > PASSED_LINES_MAX
            || passed.as_bytes().len() + name.len() + value.len() + 4 > PASSED_BYTES_MAX
        {
            break;
        }
        passed.push(name, value);
    }
    passed
}

/// The session that an order asks for. Its identity headers are ours alone: what the caller wrote never gets here.
pub(crate) fn outgoing(shared: &Shared, order: Originate, tag: LegTag, call_id: &str) -> Outgoing {
    let domain = &order.domain;
    let caller = address(&order.caller_number, domain);
    let name = quoted(&order.caller_name);
    let from = if name.is_empty() { format!("<{caller}>") } else { format!("{name} <{caller}>") };
    let mut headers = HeaderText::new();
    headers.push_fmt("Max-Forwards", format_args!("{}", order.max_forwards));
    headers.push("P-Asserted-Identity", &from);
    headers.extend_raw(order.headers.as_bytes());
    let stream_first = order.flow.transport == Transport::Udp
        && order.route.is_empty()
        && shared.registrar.may_use_stream(order.terminal, &order.target);
    Outgoing {
        to: format!("<{}>", address(&order.called_number, domain)),
        from,
        target: order.target,
        call_id: call_id.to_owned(),
        local_tag: tag.text(),
        route: order.route,
        headers,
        offer: order.offer,
        credentials: None,
        destination: Destination { flow: order.flow, stream_first },
    }
}

/// The configuration of a leg's session: that of all, with the leg's own Contact.
pub(crate) fn session_config(shared: &Shared, leg: LegId, listener: u16) -> Option<SessionConfig> {
    let place = shared.places.get(usize::from(listener))?;
    Some(SessionConfig { contact: place.contact(leg), ..shared.session.clone() })
}

/// `sip:number@domain`; a number that is empty or no user part at all becomes `anonymous` (RFC 3261 section 8.1.1.3).
fn address(number: &str, domain: &str) -> String {
    let number: String = number.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
    let number = if number.is_empty() { "anonymous" } else { &number };
    match UriBuf::sip(number, domain, None) {
        Ok(uri) => uri.into_string(),
        Err(_) => format!("sip:{}@anonymous.invalid", escape_user(number.as_bytes())),
    }
}

/// A display name as a quoted string (RFC 3261 section 25.1); empty when there is nothing to show.
fn quoted(name: &str) -> String {
    let name = name.trim();
    if name.is_empty() {
        return String::new();
    }
    let mut out = String::with_capacity(name.len() + 2);
    out.push('"');
    for c in name.chars().filter(|c| !c.is_control()).take(NAME_MAX) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_tag_finds_its_leg_and_nothing_else_is_a_tag() {
        let tag = LegTag { leg: LegId::new(NodeId(3), 1, 77), secret: 0x0123_4567_89ab_cdef };
        assert_eq!(LegTag::parse(tag.text().as_bytes()), Some(tag));
        for other in
            ["", "l", "l.", "l1.0", "l1.+123456789abcde", "l+1.0123456789abcdef", "x1.0123456789abcdef", "l1"]
        {
            assert_eq!(LegTag::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quoted("Alice Allison"), "\"Alice Allison\"");
        assert_eq!(quoted("a\"\r\nX: y\\"), "\"a\\\"X: y\\\\\"");
        assert_eq!(quoted("  "), "");
        assert_eq!(address("1 01", "users.example.com"), "sip:1%2001@users.example.com");
        assert_eq!(address("", "users.example.com"), "sip:anonymous@users.example.com");
        assert_eq!(address("101", "bad domain"), "sip:101@anonymous.invalid");
    }

    #[test]
    fn what_a_caller_says_of_itself_is_not_passed_on() {
        let long = "y".repeat(2000);
        let text = format!(
            "INVITE sip:b@x.example SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bKx\r\nFrom: <sip:a@x.example>;tag=a\r\n\
             To: <sip:b@x.example>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\ns: Lunch\r\nPriority: urgent\r\nx-Tag: 7\r\n\
             P-Asserted-Identity: <sip:boss@x.example>\r\nRemote-Party-ID: <sip:boss@x.example>\r\nPrivacy: id\r\n\
             Reply-To: <sip:boss@x.example>\r\nX-Long: {long}\r\nUser-to-User: 00\r\nServer: s\r\n\r\n"
        );
        let passed = passed_headers(&Message::parse(Bytes::from(text)).unwrap());
        assert_eq!(
            passed.as_bytes(),
            b"Subject: Lunch\r\nPriority: urgent\r\nx-Tag: 7\r\nUser-to-User: 00\r\n"
        );
    }
}
