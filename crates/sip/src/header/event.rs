//! Headers of extensions: reliable provisional responses, session timers, transfer, subscriptions, reasons.

use super::lex::{Lexer, is_token_byte, number, number_saturating, trim};
use super::{HeaderError, NameAddr, Params};
use crate::uri::Uri;
use std::borrow::Cow;

/// RAck (RFC 3262 section 7.2): which provisional response a PRACK acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RAck<'a> {
    /// The response's RSeq.
    pub rseq: u32,
    /// The CSeq number of the request it answered.
    pub cseq: u32,
    /// The method of that request.
    pub method: &'a [u8],
}

impl<'a> RAck<'a> {
    /// Parses the value.
    ///
    /// # Errors
    /// Names RAck.
    pub fn parse(value: &'a [u8]) -> Result<RAck<'a>, HeaderError> {
        let fault = HeaderError::new("RAck", "not response number, CSeq number, method");
        let mut lexer = Lexer::new(trim(value));
        let mut next = || {
            let digits = lexer.digits()?;
            lexer.space().then_some(())?;
            number(digits).and_then(|n| u32::try_from(n).ok())
        };
        let (rseq, cseq) = (next().ok_or(fault)?, next().ok_or(fault)?);
        let method = lexer.run(is_token_byte);
        if method.is_empty() || !lexer.is_empty() {
            return Err(fault);
        }
        Ok(RAck { rseq, cseq, method })
    }
}

/// Who refreshes the session (RFC 4028 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// The side that sent the request.
    Uac,
    /// The side that answers it.
    Uas,
}

/// Session-Expires (RFC 4028 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    /// Seconds; too large a value becomes the largest.
    pub secs: u32,
    /// The refresher, if named.
    pub refresher: Option<Refresher>,
}

impl SessionExpires {
    /// Parses the value.
    ///
    /// # Errors
    /// Names Session-Expires.
    pub fn parse(value: &[u8]) -> Result<SessionExpires, HeaderError> {
        const NAME: &str = "Session-Expires";
        let (secs, params) = seconds(value, NAME)?;
        let refresher = match params.get("refresher").flatten() {
            None => None,
            Some(who) if who.eq_ignore_ascii_case("uac") => Some(Refresher::Uac),
            Some(who) if who.eq_ignore_ascii_case("uas") => Some(Refresher::Uas),
            Some(_) => return Err(HeaderError::new(NAME, "unknown refresher")),
        };
        Ok(SessionExpires { secs, refresher })
    }
}

/// Seconds with parameters, as in Session-Expires and Min-SE.
pub(crate) fn seconds<'a>(value: &'a [u8], header: &'static str) -> Result<(u32, Params<'a>), HeaderError> {
    let mut lexer = Lexer::new(value);
    lexer.space();
    let secs =
        lexer.digits().and_then(number_saturating).ok_or(HeaderError::new(header, "no number of seconds"))?;
    Ok((secs, Params::parse(&mut lexer, header)?))
}

/// Replaces (RFC 3891 section 6.1): the dialog that an INVITE takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplacesHdr<'a> {
    /// Call-ID of that dialog.
    pub call_id: &'a str,
    /// Its tag on the receiver's side.
    pub to_tag: &'a str,
    /// Its tag on the other side.
    pub from_tag: &'a str,
    /// Only while it is early.
    pub early_only: bool,
}

impl<'a> ReplacesHdr<'a> {
    /// Parses the value.
    ///
    /// # Errors
    /// Names Replaces. Both tags must be there, once.
    pub fn parse(value: &'a [u8]) -> Result<ReplacesHdr<'a>, HeaderError> {
        let fault = |what| HeaderError::new("Replaces", what);
        let mut lexer = Lexer::new(trim(value));
        let call_id = lexer.run(|c| c.is_ascii_graphic() && !matches!(c, b';' | b','));
        let call_id =
            std::str::from_utf8(call_id).ok().filter(|id| !id.is_empty()).ok_or(fault("no Call-ID"))?;
        let params = Params::parse(&mut lexer, "Replaces")?;
        let tag = |name: &str| {
            let mut all = params.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
            let (_, value) = all.next()?;
            if all.next().is_some() { None } else { std::str::from_utf8(value?).ok() }
        };
        Ok(ReplacesHdr {
            call_id,
            to_tag: tag("to-tag").ok_or(fault("needs one to-tag"))?,
            from_tag: tag("from-tag").ok_or(fault("needs one from-tag"))?,
            early_only: params.has("early-only"),
        })
    }
}

/// Refer-To (RFC 3515 section 2.1).
#[derive(Clone, Copy, Debug)]
pub struct ReferTo<'a> {
    /// The address.
    pub address: NameAddr<'a>,
}

impl<'a> ReferTo<'a> {
    /// Parses the value.
    ///
    /// # Errors
    /// Names Refer-To.
    pub fn parse(value: &'a [u8]) -> Result<ReferTo<'a>, HeaderError> {
        Ok(ReferTo { address: NameAddr::parse(value, "Refer-To")? })
    }

    /// The target.
    pub fn uri(&self) -> &Uri<'a> {
        &self.address.uri
    }

    /// The Replaces header that the new INVITE has to carry (attended transfer, RFC 3891 section 4), decoded: feed it
    /// to [`ReplacesHdr::parse`].
    pub fn replaces(&self) -> Option<Cow<'a, [u8]>> {
        self.address.uri.header("Replaces")
    }

    /// The `method` parameter of the URI; INVITE when absent.
    pub fn method(&self) -> &'a str {
        self.address.uri.param("method").flatten().unwrap_or("INVITE")
    }
}

/// Retry-After (RFC 3261 section 20.33).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter {
    /// Seconds; too large a value becomes the largest.
    pub secs: u32,
    /// How long the callee will be reachable then, in seconds.
    pub duration: Option<u32>,
}

impl RetryAfter {
    /// Parses the value; a comment is skipped.
    ///
    /// # Errors
    /// Names Retry-After.
    pub fn parse(value: &[u8]) -> Result<RetryAfter, HeaderError> {
        const NAME: &str = "Retry-After";
        let mut lexer = Lexer::new(value);
        lexer.space();
        let secs = lexer
            .digits()
            .and_then(number_saturating)
            .ok_or(HeaderError::new(NAME, "no number of seconds"))?;
        lexer.space();
        skip_comment(&mut lexer).ok_or(HeaderError::new(NAME, "unterminated comment"))?;
        let params = Params::parse(&mut lexer, NAME)?;
        let duration = params.raw("duration").flatten().and_then(number_saturating);
        Ok(RetryAfter { secs, duration })
    }
}

fn skip_comment(lexer: &mut Lexer<'_>) -> Option<()> {
    let mut depth = 0usize;
    while let Some(c) = lexer.peek() {
        match c {
            b'(' => depth += 1,
            _ if depth == 0 => return Some(()),
            b')' => depth -= 1,
            b'\\' => lexer.advance(1),
            _ => {}
        }
        lexer.advance(1);
    }
    (depth == 0).then_some(())
}

/// One value of Reason (RFC 3326 section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason<'a> {
    /// `SIP`, `Q.850` or another protocol.
    pub protocol: &'a str,
    /// The cause: a status code or a Q.850 cause.
    pub cause: Option<u16>,
    /// Text for humans, decoded.
    pub text: Option<Cow<'a, str>>,
}

impl<'a> Reason<'a> {
    /// Parses one value.
    ///
    /// # Errors
    /// Names Reason.
    pub fn parse(value: &'a [u8]) -> Result<Reason<'a>, HeaderError> {
        let mut lexer = Lexer::new(value);
        lexer.space();
        let protocol = lexer.token().ok_or(HeaderError::new("Reason", "no protocol"))?;
        let params = Params::parse(&mut lexer, "Reason")?;
        let cause = params.raw("cause").flatten().and_then(number).and_then(|n| u16::try_from(n).ok());
        let text = params.decoded("text").map(|text| match text {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        });
        Ok(Reason { protocol, cause, text })
    }
}

/// Event (RFC 6665 section 8.2.1).
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The event package with its templates, as written (case-sensitive).
    pub package: &'a str,
    /// The `id` parameter.
    pub id: Option<&'a str>,
}

impl<'a> Event<'a> {
    /// Parses the value.
    ///
    /// # Errors
    /// Names Event.
    pub fn parse(value: &'a [u8]) -> Result<Event<'a>, HeaderError> {
        let mut lexer = Lexer::new(value);
        lexer.space();
        let package = lexer.token().ok_or(HeaderError::new("Event", "no package"))?;
        let params = Params::parse(&mut lexer, "Event")?;
        Ok(Event { package, id: params.get("id").flatten() })
    }
}

/// Subscription-State (RFC 6665 section 8.2.3).
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionState<'a> {
    /// `active`, `pending`, `terminated` or another state, as written.
    pub state: &'a str,
    /// Why it ended.
    pub reason: Option<&'a str>,
    /// Seconds left.
    pub expires: Option<u32>,
    /// Seconds to wait before subscribing again.
    pub retry_after: Option<u32>,
}

impl<'a> SubscriptionState<'a> {
    /// Parses the value.
    ///
    /// # Errors
    /// Names Subscription-State.
    pub fn parse(value: &'a [u8]) -> Result<SubscriptionState<'a>, HeaderError> {
        const NAME: &str = "Subscription-State";
        let mut lexer = Lexer::new(value);
        lexer.space();
        let state = lexer.token().ok_or(HeaderError::new(NAME, "no state"))?;
        let params = Params::parse(&mut lexer, NAME)?;
        let secs = |name: &str| params.raw(name).flatten().and_then(number_saturating);
        Ok(SubscriptionState {
            state,
            reason: params.get("reason").flatten(),
            expires: secs("expires"),
            retry_after: secs("retry-after"),
        })
    }

    /// Whether the subscription is over.
    pub fn is_terminated(&self) -> bool {
        self.state.eq_ignore_ascii_case("terminated")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rack_names_response_and_request() {
        assert_eq!(
            RAck::parse(b"776656 1 INVITE").unwrap(),
            RAck { rseq: 776656, cseq: 1, method: b"INVITE" }
        );
        for text in ["", "1", "1 2", "1 2 ", "1 x INVITE", "1 99999999999 INVITE", "1 2 INVITE x"] {
            assert!(RAck::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn session_timers() {
        let parse = |text: &str| SessionExpires::parse(text.as_bytes());
        let expected = SessionExpires { secs: 1800, refresher: Some(Refresher::Uas) };
        assert_eq!(parse("1800 ; Refresher = UAS;x=y").unwrap(), expected);
        assert_eq!(parse("90").unwrap().refresher, None);
        assert!(parse("x").is_err() && parse("90;refresher=me").is_err() && parse("").is_err());
    }

    #[test]
    fn replaces_and_refer_to() {
        let refer = ReferTo::parse(
            b"<sip:dave@denver.example.org?Replaces=12345%40192.168.118.3%3Bto-tag%3D12345%3Bfrom-tag%3D5FFE-3994>",
        )
        .unwrap();
        let decoded = refer.replaces().unwrap();
        let replaces = ReplacesHdr::parse(&decoded).unwrap();
        assert_eq!(
            (replaces.call_id, replaces.to_tag, replaces.from_tag),
            ("12345@192.168.118.3", "12345", "5FFE-3994")
        );
        assert!(!replaces.early_only);
        assert_eq!(refer.method(), "INVITE");
        assert!(ReplacesHdr::parse(b"a@b;from-tag=1;to-tag=2;early-only").unwrap().early_only);
        for text in ["", "a@b", "a;to-tag=1", "a;to-tag=1;to-tag=2;from-tag=3", ";to-tag=1;from-tag=2"] {
            assert!(ReplacesHdr::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn retry_after_skips_its_comment() {
        let parse = |text: &str| RetryAfter::parse(text.as_bytes());
        let expected = RetryAfter { secs: 18000, duration: Some(3600) };
        assert_eq!(parse("18000 (a \\) (nested) comment) ;duration=3600").unwrap(), expected);
        assert_eq!(parse("949302838503028349304023988").unwrap().secs, u32::MAX);
        assert!(parse("").is_err() && parse("5 (").is_err() && parse("5 x").is_err());
    }

    #[test]
    fn reasons_events_and_states() {
        let reason = Reason::parse(b"Q.850 ;cause=16 ;text=\"Normal \\\"call\\\"\"").unwrap();
        assert_eq!(
            (reason.protocol, reason.cause, reason.text.as_deref()),
            ("Q.850", Some(16), Some("Normal \"call\""))
        );
        let event = Event::parse(b"refer;id=93809824").unwrap();
        assert_eq!((event.package, event.id), ("refer", Some("93809824")));
        let state = SubscriptionState::parse(b"terminated;reason=noresource;retry-after=5").unwrap();
        assert!(state.is_terminated());
        assert_eq!((state.reason, state.retry_after, state.expires), (Some("noresource"), Some(5), None));
    }
}
