//! The dialog: what two user agents must remember to send each other requests (RFC 3261 section 12).
//!
//! In: the INVITE or response that makes it, later target refreshes. Out: in-dialog requests as drafts, the next hop,
//! the verdict on a peer's CSeq. Elsewhere: what the requests mean (`session`), their repeats (`transaction`).

use crate::draft::{HeaderText, RequestDraft};
use crate::header::NameAddr;
use crate::msg::{HeaderId, Message, Method};
use crate::text::Decimal;
use crate::uri::Uri;
use bytes::Bytes;

/// The longest route set that a peer can make us carry; what goes beyond is cut, and such a call will not get far.
pub const ROUTES_MAX: usize = 32;

/// Why a message cannot make a dialog: the reason phrase of a 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DialogError(pub &'static str);

/// One dialog (RFC 3261 section 12). All parts are public and plain, so that a dialog can be stored and rebuilt elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    /// The Call-ID, byte for byte.
    pub call_id: Box<[u8]>,
    /// Our tag.
    pub local_tag: Box<str>,
    /// The peer's tag; `None` before it has answered, and for peers of RFC 2543.
    pub remote_tag: Option<Box<[u8]>>,
    /// Our name-addr as in From of our requests, without tag and parameters.
    pub local_uri: Box<[u8]>,
    /// The peer's name-addr as in To of our requests, without tag and parameters.
    pub remote_uri: Box<[u8]>,
    /// Where requests go: the URI of the peer's Contact.
    pub remote_target: Box<str>,
    /// Route header values in the order of sending, each `<uri>;params`.
    pub route_set: Vec<Box<str>>,
    /// The last CSeq number that we used.
    pub local_cseq: u32,
    /// The last CSeq number of the peer, once it has sent a request.
    pub remote_cseq: Option<u32>,
    /// Whether the dialog was set up by a SIPS URI over TLS: our Contact must then be a SIPS URI too.
    pub secure: bool,
}

impl Dialog {
    /// The dialog that our response to this INVITE makes (section 12.1.1). `first_cseq` is the number before our first request.
    pub fn from_invite_uas(
        invite: &Message,
        local_tag: &str,
        over_tls: bool,
        first_cseq: u32,
    ) -> Result<Dialog, DialogError> {
        let from = invite.from().map_err(|_| DialogError("Bad From"))?;
        let to = invite.to().map_err(|_| DialogError("Bad To"))?;
        let cseq = invite.cseq().map_err(|_| DialogError("Bad CSeq"))?;
        let contact = invite.contact().map_err(|_| DialogError("Bad Contact"))?;
        let contact = contact.ok_or(DialogError("Missing Contact"))?;
        let remote_target = sip_text(&contact).ok_or(DialogError("Bad Contact"))?;
        Ok(Dialog {
            call_id: invite.call_id().into(),
            local_tag: local_tag.into(),
            remote_tag: invite.from_tag().map(Into::into),
            local_uri: name_addr_text(&to),
            remote_uri: name_addr_text(&from),
            remote_target,
            route_set: record_routes(invite),
            local_cseq: first_cseq,
            remote_cseq: Some(cseq.number),
            secure: over_tls && starts_sips(invite.request_uri()),
        })
    }

    /// Half a dialog: what is known when our INVITE leaves. Its responses complete it by [`Dialog::from_response_uac`].
    pub fn outgoing(
        call_id: &str,
        local_tag: &str,
        from: &str,
        to: &str,
        target: &str,
        route: &[String],
    ) -> Dialog {
        Dialog {
            call_id: call_id.as_bytes().into(),
            local_tag: local_tag.into(),
            remote_tag: None,
            local_uri: one_line(from.as_bytes()),
            remote_uri: one_line(to.as_bytes()),
            remote_target: target.into(),
            route_set: route.iter().take(ROUTES_MAX).map(|r| r.as_str().into()).collect(),
            local_cseq: 0,
            remote_cseq: None,
            secure: false,
        }
    }

    /// The dialog that this response to our INVITE makes (section 12.1.2); `self` is the half made by [`Dialog::outgoing`].
    /// A response without Contact leaves the target of the INVITE in place.
    pub fn from_response_uac(&self, response: &Message, over_tls: bool) -> Dialog {
        let mut dialog = self.clone();
        dialog.remote_tag = response.to_tag().map(Into::into);
        dialog.secure = over_tls && starts_sips(self.remote_target.as_bytes());
        dialog.remote_cseq = None;
        dialog.recompute_route(response);
        dialog.target_refresh(response);
        dialog
    }

    /// The dialog of a response to an INVITE of ours that nobody remembers; all that a BYE needs is in the response.
    pub fn from_stray_response(response: &Message) -> Option<Dialog> {
        let (from, to) = (response.from().ok()?, response.to().ok()?);
        let target = Dialog::target_of(response)?;
        let mut dialog = Dialog {
            call_id: response.call_id().into(),
            local_tag: from.tag()?.into(),
            remote_tag: response.to_tag().map(Into::into),
            local_uri: name_addr_text(&from),
            remote_uri: name_addr_text(&to),
            remote_target: target,
            route_set: Vec::new(),
            local_cseq: 0,
            remote_cseq: None,
            secure: false,
        };
        dialog.recompute_route(response);
        Some(dialog)
    }

    /// Takes the route set of a response to our INVITE, in reverse order (sections 12.1.2 and 13.2.2.4).
    pub fn recompute_route(&mut self, response: &Message) {
        self.route_set = record_routes(response);
        self.route_set.reverse();
    }

    /// The target that a request or response names in its Contact, if it can be one.
    pub fn target_of(msg: &Message) -> Option<Box<str>> {
        sip_text(&msg.contact().ok()??)
    }

    /// Follows the Contact of a target refresh request or of its 2xx (section 12.2); one that cannot be used is ignored.
    pub fn target_refresh(&mut self, msg: &Message) {
        if let Some(target) = Dialog::target_of(msg)
            && *target != *self.remote_target
        {
            self.remote_target = target;
        }
    }

    /// Whether a request of the peer belongs to this dialog (section 12.2.2).
    pub fn owns(&self, request: &Message) -> bool {
        request.call_id() == &*self.call_id
            && request.to_tag() == Some(self.local_tag.as_bytes())
            && request.from_tag() == self.remote_tag.as_deref()
    }

    /// Judges the CSeq number of a request of the peer, and remembers it. A number that is not higher than the last one is
    /// out of order and deserves a 500 (section 12.2.2); repeats of the same number end in the transaction layer.
    pub fn accepts_cseq(&mut self, number: u32) -> bool {
        if self.remote_cseq.is_some_and(|last| number <= last) {
            return false;
        }
        self.remote_cseq = Some(number);
        true
    }

    /// A new request in the dialog (section 12.2.1.1): Request-URI, Route, Max-Forwards, From, To, Call-ID, CSeq.
    pub fn request(&mut self, method: Method) -> RequestDraft {
        self.local_cseq = self.local_cseq.saturating_add(1);
        self.numbered(method, self.local_cseq, None)
    }

    /// The peer has answered 500 to a request of ours: it may have seen larger numbers than ours (section 12.2.2), of a node that had this dialog
    /// for a while. The next ones leave a gap, which is no error.
    pub fn leap(&mut self) {
        const LEAP: u32 = 1024;
        const MOST: u32 = (1 << 31) - 1; // section 8.1.1.5
        if self.local_cseq < MOST - LEAP {
            self.local_cseq += LEAP;
        }
    }

    /// The ACK of a 2xx to our INVITE with this CSeq number (section 13.2.2.4).
    pub fn ack(&self, cseq: u32) -> RequestDraft {
        self.numbered(Method::Ack, cseq, None)
    }

    /// A request with a given CSeq number, and a Max-Forwards other than 70 where a call came from elsewhere.
    pub fn numbered(&self, method: Method, cseq: u32, max_forwards: Option<u8>) -> RequestDraft {
        let mut headers = HeaderText::default();
        let uri = self.push_route(&mut headers);
        headers.push_pieces("Max-Forwards", &[Decimal::of(max_forwards.unwrap_or(70).into()).as_bytes()]);
        headers.push_pieces("From", &tagged(&self.local_uri, Some(self.local_tag.as_bytes())));
        headers.push_pieces("To", &tagged(&self.remote_uri, self.remote_tag.as_deref()));
        headers.push("Call-ID", &self.call_id);
        headers.push_pieces("CSeq", &[Decimal::of(cseq.into()).as_bytes(), b" ", method.as_bytes()]);
        RequestDraft { method, uri, headers, body: Bytes::new() }
    }

    /// The URI whose host is the next hop: the first route, else the target (section 8.1.2).
    pub fn next_hop(&self) -> &str {
        self.route_set.first().map_or(&*self.remote_target, |route| route_uri(route))
    }

    /// Writes the Route lines and returns the Request-URI; a strict router as first hop swaps the two (section 12.2.1.1).
    fn push_route(&self, headers: &mut HeaderText) -> String {
        let Some(first) = self.route_set.first() else {
            return self.remote_target.to_string();
        };
        let strict = Uri::parse(route_uri(first).as_bytes()).is_ok_and(|uri| !uri.is_lr());
        if !strict {
            for route in &self.route_set {
                headers.push("Route", route.as_bytes());
            }
            return self.remote_target.to_string();
        }
        for route in &self.route_set[1..] {
            headers.push("Route", route.as_bytes());
        }
        headers.push_fmt("Route", format_args!("<{}>", self.remote_target));
        request_uri_of(route_uri(first))
    }
}

/// The Record-Route values in the order of the message.
fn record_routes(msg: &Message) -> Vec<Box<str>> {
    let mut routes: Vec<Box<str>> = Vec::new();
    for value in msg.values(HeaderId::RecordRoute).take(ROUTES_MAX) {
        let text = one_line(value);
        if let Ok(text) = std::str::from_utf8(&text)
            && text.contains('<')
        {
            routes.push(text.into());
        }
    }
    routes
}

/// `display <uri>` of a parsed name-addr: what From and To of later requests repeat.
fn name_addr_text(addr: &NameAddr<'_>) -> Box<[u8]> {
    let mut text = Vec::with_capacity(addr.uri_raw.len() + 2 + addr.display.map_or(0, |d| d.len() + 1));
    if let Some(display) = addr.display.filter(|d| !d.is_empty()) {
        text.extend_from_slice(display);
        text.push(b' ');
    }
    text.push(b'<');
    text.extend_from_slice(addr.uri_raw);
    text.push(b'>');
    text.iter_mut().for_each(|b| *b = unfolded(*b));
    text.into_boxed_slice()
}

fn tagged<'a>(name_addr: &'a [u8], tag: Option<&'a [u8]>) -> [&'a [u8]; 3] {
    match tag {
        Some(tag) => [name_addr, b";tag=", tag],
        None => [name_addr, b"", b""],
    }
}

/// A folded value on one line (RFC 3261 section 7.3.1): line ends count as white space.
fn one_line(value: &[u8]) -> Box<[u8]> {
    value.iter().map(|b| unfolded(*b)).collect()
}

fn unfolded(b: u8) -> u8 {
    if matches!(b, b'\r' | b'\n' | 0) { b' ' } else { b }
}

/// A SIP or SIPS URI as text; anything else cannot be a target.
fn sip_text(addr: &NameAddr<'_>) -> Option<Box<str>> {
    let text = std::str::from_utf8(addr.uri_raw).ok()?;
    addr.uri.is_sip().then(|| text.into())
}

fn starts_sips(uri: &[u8]) -> bool {
    uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"sips:"))
}

/// The URI between the angle brackets of a Route value.
fn route_uri(route: &str) -> &str {
    let inner = route.split_once('<').map_or(route, |(_, rest)| rest);
    inner.split_once('>').map_or(inner, |(uri, _)| uri)
}

/// A URI without what a Request-URI must not carry: the method parameter and headers (RFC 3261 table 1).
fn request_uri_of(uri: &str) -> String {
    // A user part may hold both `;` and `?`.
    let (user, host) = uri.split_at(uri.rfind('@').unwrap_or(0));
    let host = host.split_once('?').map_or(host, |(host, _)| host);
    let mut parts = host.split(';');
    let mut text = user.to_owned();
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let name = part.split('=').next().unwrap_or_default();
        if !name.eq_ignore_ascii_case("method") {
            text.push(';');
            text.push_str(part);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::parse(Bytes::from(text.replace('\n', "\r\n"))).unwrap()
    }

    fn invite(more: &str) -> Message {
        message(&format!(
            "INVITE sips:bob@example.com SIP/2.0\nVia: SIP/2.0/TLS 192.0.2.1;branch=z9hG4bK1\nMax-Forwards: 70\n\
             From: \"A; tag=x\" <sip:alice@example.com;x=1>;tag=a;p=q\nTo: sip:bob@example.com\nCall-ID: id\nCSeq: 5 INVITE\n{more}\n"
        ))
    }

    fn lines(draft: &RequestDraft) -> String {
        String::from_utf8(draft.headers.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn the_callees_dialog_turns_the_addresses_round_and_keeps_the_route_order() {
        let routes = "Record-Route: <sip:p1;lr>\nRecord-Route: <sip:p2;lr>;x=y, <sip:p3;lr>\nContact: <sip:alice@192.0.2.1>\n";
        let mut dialog = Dialog::from_invite_uas(&invite(routes), "b", true, 0).unwrap();
        assert!(dialog.secure);
        let request = dialog.request(Method::Bye);
        assert_eq!(request.uri, "sip:alice@192.0.2.1");
        assert_eq!(
            lines(&request),
            "Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr>;x=y\r\nRoute: <sip:p3;lr>\r\nMax-Forwards: 70\r\n\
             From: <sip:bob@example.com>;tag=b\r\nTo: \"A; tag=x\" <sip:alice@example.com;x=1>;tag=a\r\n\
             Call-ID: id\r\nCSeq: 1 BYE\r\n"
        );
        assert_eq!(dialog.next_hop(), "sip:p1;lr");
    }

    #[test]
    fn numbers_grow_on_both_sides_and_an_ack_takes_the_invites() {
        let mut dialog = Dialog::from_invite_uas(&invite("Contact: <sip:a@b>\n"), "b", false, 41).unwrap();
        assert!(
            !dialog.accepts_cseq(5)
                && !dialog.accepts_cseq(4)
                && dialog.accepts_cseq(9)
                && !dialog.accepts_cseq(9)
        );
        assert!(lines(&dialog.request(Method::Info)).contains("CSeq: 42 INFO"));
        assert!(lines(&dialog.request(Method::Info)).contains("CSeq: 43 INFO"));
        assert!(lines(&dialog.ack(7)).contains("CSeq: 7 ACK"));
    }

    #[test]
    fn without_a_contact_that_can_be_reached_there_is_no_dialog() {
        for contact in
            ["", "Contact: *\n", "Contact: <tel:+1>\n", "Contact: <mailto:a@b>\n", "Contact: <sip:\n"]
        {
            assert!(Dialog::from_invite_uas(&invite(contact), "b", false, 0).is_err(), "{contact}");
        }
    }

    #[test]
    fn a_strict_first_hop_takes_the_place_of_the_target() {
        let mut half = Dialog::outgoing("id", "a", "<sip:a@x>", "<sip:b@y>", "sip:user@remoteua", &[]);
        // The example of RFC 3261 section 12.2.1.1.
        half.route_set =
            ["<sip:proxy1>", "<sip:proxy2>", "<sip:proxy3;lr>", "<sip:proxy4>"].map(Into::into).to_vec();
        let request = half.request(Method::Options);
        assert_eq!(request.uri, "sip:proxy1");
        assert!(lines(&request).starts_with(
            "Route: <sip:proxy2>\r\nRoute: <sip:proxy3;lr>\r\nRoute: <sip:proxy4>\r\nRoute: <sip:user@remoteua>\r\n"
        ));
        assert_eq!(half.next_hop(), "sip:proxy1");
        assert_eq!(request_uri_of("sip:a?b;c@host;lr;method=INVITE;x=1?h=v"), "sip:a?b;c@host;lr;x=1");
    }

    #[test]
    fn a_route_set_is_bounded() {
        let routes = "Record-Route: <sip:p;lr>\n".repeat(100);
        let dialog =
            Dialog::from_invite_uas(&invite(&format!("{routes}Contact: <sip:a@b>\n")), "b", false, 0)
                .unwrap();
        assert_eq!(dialog.route_set.len(), ROUTES_MAX);
    }
}
