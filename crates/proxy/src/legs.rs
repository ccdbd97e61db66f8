//! A leg's name in SIP, and what an order to call becomes on the wire.
//!
//! In: tags, INVITEs, orders ([`Originate`]). Out: names of legs, drafts of new sessions. Elsewhere: the actors themselves
//! (`leg`) and who has them (`worker::legs`), decisions about calls (crate `appserver`).

use crate::Shared;
use crate::carrier::{self, direct_target, transport_to};
use crate::config::SealKey;
use crate::identity::{ANONYMOUS, NAME_MAX, push_diversions};
use crate::leg_state::Peer;
use cluster::ids::{CallId, LegId, NodeId};
use cluster::leg::{Callee, Originate};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sip::draft::HeaderText;
use sip::flow::{ConnId, Flow, Transport};
use sip::msg::{HeaderId, Message};
use sip::session::{Outgoing, SessionConfig};
use sip::transaction::Destination;
use sip::uri::{UriBuf, escape_user};
use std::net::SocketAddr;
use std::time::Duration;

/// Bounds of the headers that a call passes on.
const PASSED_LINES_MAX: usize = 32;
const PASSED_VALUE_MAX: usize = 1024;
const PASSED_BYTES_MAX: usize = 4096;
/// Where SIP is spoken unless somebody says otherwise (RFC 3261 section 19.1.2).
const DEFAULT_PORT: u16 = 5060;
const NO_SOCKET: &str = "this node has no socket of that transport and family";

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
        let digits = tag.strip_prefix(b"l")?;
        let (leg, secret) = (digits.get(..digits.len().checked_sub(17)?)?, digits.last_chunk::<17>()?);
        let secret = secret.strip_prefix(b".")?;
        Some(LegTag { leg: LegId::from_u64(hex(leg)?), secret: hex(secret)? })
    }
}

/// The secret of a leg's tag where proxies share a key: each of them can tell a true tag from one that somebody made up.
pub(crate) fn seal(key: &SealKey, leg: LegId) -> u64 {
    // Any key length will do for HMAC (RFC 2104 section 2).
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key.0) else { return 0 };
    mac.update(b"leg");
    mac.update(&leg.as_u64().to_be_bytes());
    let digest = mac.finalize().into_bytes();
    digest.iter().take(8).fold(0, |secret, byte| secret << 8 | u64::from(*byte))
}

/// How our Contact names a leg and its call; peers send it back as the Request-URI.
pub(crate) fn contact_user(leg: LegId, call: CallId) -> String {
    format!("{leg}-{call}")
}

/// The call that a Request-URI names, which we once gave as our Contact. One of no node is not ours: other nodes would drop the
/// question for it without an answer.
pub(crate) fn call_in(user: &str) -> Option<CallId> {
    let call: CallId = user.split_once('-')?.1.strip_prefix('c')?.parse().ok()?;
    (call.node() != NodeId(0)).then_some(call)
}

/// A number of hexadecimal digits.
fn hex(digits: &[u8]) -> Option<u64> {
    let number = digits.iter().try_fold(0u64, |number, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        (number >> 60 == 0).then_some(number << 4 | u64::from(digit))
    });
    number.filter(|_| !digits.is_empty())
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

/// Where an order goes from here.
pub(crate) struct Way {
    /// The Request-URI of a leg to an endpoint.
    target: String,
    route: Vec<String>,
    pub(crate) flow: Flow,
    /// Where else its server is, should it not answer there (RFC 3263 section 4.3).
    pub(crate) others: Vec<Flow>,
    stream_first: bool,
    pub(crate) peer: Peer,
}

/// The way of an order; nothing: there is none, and why.
pub(crate) fn way(shared: &Shared, order: &Originate) -> Result<Way, &'static str> {
    match &order.to {
        Callee::Binding { aor, target, route, flow } => {
            // Whoever ordered it from another node does not know the connection by which the contact is reached.
            let known = || shared.registrar.flow_to(*aor, target, |conn| shared.connections.is_open(conn));
            let flow = shared.config.seal.as_ref().and_then(|_| known()).unwrap_or(*flow);
            let stream_first = flow.transport == Transport::Udp
                && route.is_empty()
                && shared.registrar.may_use_stream(*aor, target);
            Ok(Way {
                target: target.clone(),
                route: route.clone(),
                flow,
                others: Vec::new(),
                stream_first,
                peer: Peer::Endpoint(*aor),
            })
        }
        Callee::Direct { aor } => {
            let router = shared.router.load();
            let endpoint = router.snapshot().endpoint_at(*aor).ok_or("the endpoint is gone")?;
            let at = endpoint.direct.ok_or("the endpoint registers now")?;
            let ip = at.ip.ok_or("the endpoint has no address; write one in its field ip")?;
            let transport = transport_to(&at);
            let listener = shared.user_listener(transport, ip.is_ipv6()).ok_or(NO_SOCKET)?;
            let remote = SocketAddr::new(ip, at.port.unwrap_or(DEFAULT_PORT));
            let user = if order.called_number.is_empty() { endpoint.name } else { &order.called_number };
            Ok(Way {
                target: direct_target(user, &at),
                route: Vec::new(),
                flow: Flow { transport, listener, remote, conn: ConnId(0) },
                others: Vec::new(),
                stream_first: false,
                peer: Peer::Endpoint(*aor),
            })
        }
        Callee::Server { server } => {
            let mut flows = shared.server_flows(*server).into_iter();
            let flow = flows.next().ok_or("no server address is known, or there is no socket towards it")?;
            let peer = Peer::Server(*server);
            Ok(Way {
                target: String::new(),
                route: Vec::new(),
                flow,
                others: flows.collect(),
                stream_first: false,
                peer,
            })
        }
    }
}

/// The session that an order asks for, by this way. Its identity headers are ours alone: what the caller wrote never gets here.
pub(crate) fn outgoing(
    shared: &Shared,
    order: &Originate,
    way: &Way,
    tag: LegTag,
    call_id: &str,
) -> Outgoing {
    let destination = Destination { flow: way.flow, stream_first: way.stream_first };
    let elsewhere = way.others.iter().map(|flow| Destination { flow: *flow, ..destination }).collect();
    let router = shared.router.load();
    let place = shared.places.get(usize::from(way.flow.listener));
    if let (Peer::Server(server), Some(place)) = (way.peer, place)
        && let Some(row) = router.snapshot().rows().get(server)
    {
        let said = carrier::said(order, row, place);
        return Outgoing {
            to: said.to,
            from: said.from,
            target: said.target,
            call_id: call_id.to_owned(),
            local_tag: tag.text(),
            route: Vec::new(),
            headers: said.headers,
            offer: order.offer.clone(),
            credentials: shared.credentials_for(server),
            destination,
            elsewhere,
        };
    }
    let domain = &order.domain;
    let mut headers = HeaderText::new();
    headers.push_fmt("Max-Forwards", format_args!("{}", order.max_forwards));
    let from = match order.is_private {
        // An endpoint is not within the trust of RFC 3325: it learns nothing.
        true => {
            headers.push("Privacy", "id");
            ANONYMOUS.to_owned()
        }
        false => {
            let from = name_addr(&order.caller_name, &address(&order.caller_number, domain));
            headers.push("P-Asserted-Identity", &from);
            from
        }
    };
    push_diversions(&mut headers, &order.diversions, domain);
    headers.extend_raw(order.headers.as_bytes());
    Outgoing {
        to: format!("<{}>", address(&order.called_number, domain)),
        from,
        target: way.target.clone(),
        call_id: call_id.to_owned(),
        local_tag: tag.text(),
        route: way.route.clone(),
        headers,
        offer: order.offer.clone(),
        credentials: None,
        destination,
        elsewhere,
    }
}

/// A name-addr with a display name, if there is one.
pub(crate) fn name_addr(name: &str, address: &str) -> String {
    let name = quoted(name);
    if name.is_empty() { format!("<{address}>") } else { format!("{name} <{address}>") }
}

/// The configuration of a leg's session: that of all, with the leg's own Contact.
pub(crate) fn session_config(
    shared: &Shared,
    leg: LegId,
    call: CallId,
    listener: u16,
) -> Option<SessionConfig> {
    let place = shared.places.get(usize::from(listener))?;
    let contact = match shared.config.seal {
        Some(_) => place.contact(contact_user(leg, call)),
        None => place.contact(leg),
    };
    Some(SessionConfig { contact, ..shared.session.clone() })
}

/// How long whoever is called may stay silent altogether: half the usual time for a contact that leaves pings unanswered.
pub(crate) fn first_response(shared: &Shared, order: &Originate) -> Option<Duration> {
    let usual = shared.config.first_response;
    let is_suspect = match &order.to {
        Callee::Binding { aor, target, .. } => shared.registrar.is_suspect(*aor, target),
        Callee::Direct { .. } | Callee::Server { .. } => false,
    };
    (!usual.is_zero()).then_some(if is_suspect { usual / 2 } else { usual })
}

/// `sip:number@domain`; a number that is empty or no user part at all becomes `anonymous` (RFC 3261 section 8.1.1.3).
pub(crate) fn address(number: &str, domain: &str) -> String {
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
    fn a_seal_is_of_one_key_and_one_leg() {
        let (key, other) = (SealKey([1; 32]), SealKey([2; 32]));
        let leg = LegId::new(NodeId(3), 1, 77);
        assert_eq!(seal(&key, leg), seal(&SealKey([1; 32]), leg));
        assert_ne!(seal(&key, leg), seal(&other, leg));
        assert_ne!(seal(&key, leg), seal(&key, LegId::new(NodeId(3), 1, 78)));
        assert!(!format!("{key:?}").contains('1'), "a key is not shown");
    }

    #[test]
    fn a_contact_names_leg_and_call() {
        let (leg, call) = (LegId::new(NodeId(3), 1, 77), CallId::new(NodeId(9), 5));
        let user = contact_user(leg, call);
        assert_eq!(call_in(&user), Some(call));
        assert_eq!(user.split('-').next(), Some(leg.to_string().as_str()));
        // The last ones are of no node: nobody would answer the question for them.
        for other in ["", "l7", "l7-", "l7-x9", "l7-c", "alice", "l7-c0", "l7-c3a97a994ba9c"] {
            assert_eq!(call_in(other), None, "{other}");
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
