//! The headers that some code of ours asks for, and how their names are recognised (RFC 3261 section 7.3.1).

/// A header; `Other` is every header that is not listed, kept byte for byte. Compact forms (RFC 3261 section 7.3.3)
/// have the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is the header of that name")]
pub enum HeaderId {
    Via,
    From,
    To,
    CallId,
    CSeq,
    MaxForwards,
    Contact,
    Route,
    RecordRoute,
    ContentLength,
    ContentType,
    Authorization,
    ProxyAuthorization,
    WwwAuthenticate,
    ProxyAuthenticate,
    AuthenticationInfo,
    Expires,
    MinExpires,
    Require,
    ProxyRequire,
    Supported,
    Unsupported,
    Allow,
    AllowEvents,
    Event,
    Accept,
    Path,
    ServiceRoute,
    UserAgent,
    Server,
    RSeq,
    RAck,
    SessionExpires,
    MinSe,
    ReferTo,
    ReferredBy,
    ReferSub,
    Replaces,
    SubscriptionState,
    RetryAfter,
    Reason,
    Warning,
    PAssertedIdentity,
    PPreferredIdentity,
    RemotePartyId,
    Privacy,
    Diversion,
    HistoryInfo,
    Date,
    Timestamp,
    Subject,
    Priority,
    AlertInfo,
    CallInfo,
    ContentEncoding,
    ContentDisposition,
    ContentLanguage,
    MimeVersion,
    AcceptEncoding,
    AcceptLanguage,
    InReplyTo,
    Organization,
    ReplyTo,
    ErrorInfo,
    Identity,
    Join,
    TargetDialog,
    Other,
}

use HeaderId as H;

/// In the order of the enumeration.
const NAMES: [(HeaderId, &str); H::Other as usize] = [
    (H::Via, "Via"),
    (H::From, "From"),
    (H::To, "To"),
    (H::CallId, "Call-ID"),
    (H::CSeq, "CSeq"),
    (H::MaxForwards, "Max-Forwards"),
    (H::Contact, "Contact"),
    (H::Route, "Route"),
    (H::RecordRoute, "Record-Route"),
    (H::ContentLength, "Content-Length"),
    (H::ContentType, "Content-Type"),
    (H::Authorization, "Authorization"),
    (H::ProxyAuthorization, "Proxy-Authorization"),
    (H::WwwAuthenticate, "WWW-Authenticate"),
    (H::ProxyAuthenticate, "Proxy-Authenticate"),
    (H::AuthenticationInfo, "Authentication-Info"),
    (H::Expires, "Expires"),
    (H::MinExpires, "Min-Expires"),
    (H::Require, "Require"),
    (H::ProxyRequire, "Proxy-Require"),
    (H::Supported, "Supported"),
    (H::Unsupported, "Unsupported"),
    (H::Allow, "Allow"),
    (H::AllowEvents, "Allow-Events"),
    (H::Event, "Event"),
    (H::Accept, "Accept"),
    (H::Path, "Path"),
    (H::ServiceRoute, "Service-Route"),
    (H::UserAgent, "User-Agent"),
    (H::Server, "Server"),
    (H::RSeq, "RSeq"),
    (H::RAck, "RAck"),
    (H::SessionExpires, "Session-Expires"),
    (H::MinSe, "Min-SE"),
    (H::ReferTo, "Refer-To"),
    (H::ReferredBy, "Referred-By"),
    (H::ReferSub, "Refer-Sub"),
    (H::Replaces, "Replaces"),
    (H::SubscriptionState, "Subscription-State"),
    (H::RetryAfter, "Retry-After"),
    (H::Reason, "Reason"),
    (H::Warning, "Warning"),
    (H::PAssertedIdentity, "P-Asserted-Identity"),
    (H::PPreferredIdentity, "P-Preferred-Identity"),
    (H::RemotePartyId, "Remote-Party-ID"),
    (H::Privacy, "Privacy"),
    (H::Diversion, "Diversion"),
    (H::HistoryInfo, "History-Info"),
    (H::Date, "Date"),
    (H::Timestamp, "Timestamp"),
    (H::Subject, "Subject"),
    (H::Priority, "Priority"),
    (H::AlertInfo, "Alert-Info"),
    (H::CallInfo, "Call-Info"),
    (H::ContentEncoding, "Content-Encoding"),
    (H::ContentDisposition, "Content-Disposition"),
    (H::ContentLanguage, "Content-Language"),
    (H::MimeVersion, "MIME-Version"),
    (H::AcceptEncoding, "Accept-Encoding"),
    (H::AcceptLanguage, "Accept-Language"),
    (H::InReplyTo, "In-Reply-To"),
    (H::Organization, "Organization"),
    (H::ReplyTo, "Reply-To"),
    (H::ErrorInfo, "Error-Info"),
    (H::Identity, "Identity"),
    (H::Join, "Join"),
    (H::TargetDialog, "Target-Dialog"),
];

/// No name in the table is longer.
const LONGEST: usize = 20;

/// The table sorted by the length of the name, and where each length begins.
static BY_LENGTH: ([HeaderId; NAMES.len()], [u8; LONGEST + 2]) = by_length();

const fn by_length() -> ([HeaderId; NAMES.len()], [u8; LONGEST + 2]) {
    let mut sorted = [H::Other; NAMES.len()];
    let mut starts = [0u8; LONGEST + 2];
    let mut filled = 0;
    let mut length = 0;
    while length <= LONGEST {
        starts[length] = filled as u8;
        let mut i = 0;
        while i < NAMES.len() {
            if NAMES[i].1.len() == length {
                sorted[filled] = NAMES[i].0;
                filled += 1;
            }
            i += 1;
        }
        length += 1;
    }
    starts[LONGEST + 1] = filled as u8;
    assert!(filled == NAMES.len(), "LONGEST is too small");
    (sorted, starts)
}

impl HeaderId {
    /// The header of that name, long or compact, whatever its case.
    #[inline]
    pub fn from_name(name: &[u8]) -> HeaderId {
        match name {
            [letter] => compact(letter.to_ascii_lowercase()),
            [first, .., last] if name.len() <= LONGEST => {
                let (sorted, starts) = &BY_LENGTH;
                let range = usize::from(starts[name.len()])..usize::from(starts[name.len() + 1]);
                sorted[range]
                    .iter()
                    .copied()
                    .find(|id| {
                        let known = id.name().as_bytes();
                        known[0] | 0x20 == first | 0x20
                            && known[known.len() - 1] | 0x20 == last | 0x20
                            && (known == name || known.eq_ignore_ascii_case(name))
                    })
                    .unwrap_or(H::Other)
            }
            _ => H::Other,
        }
    }

    /// The header's place in a set of headers.
    pub(crate) const fn bit(self) -> u128 {
        1 << self as u32
    }

    /// The long name; empty for `Other`.
    pub fn name(self) -> &'static str {
        NAMES.get(self as usize).map_or("", |(_, name)| name)
    }
}

/// Compact forms: RFC 3261 section 7.3.3 and the registry.
fn compact(letter: u8) -> HeaderId {
    match letter {
        b'b' => H::ReferredBy,
        b'c' => H::ContentType,
        b'e' => H::ContentEncoding,
        b'f' => H::From,
        b'i' => H::CallId,
        b'k' => H::Supported,
        b'l' => H::ContentLength,
        b'm' => H::Contact,
        b'o' => H::Event,
        b'r' => H::ReferTo,
        b's' => H::Subject,
        b't' => H::To,
        b'u' => H::AllowEvents,
        b'v' => H::Via,
        b'x' => H::SessionExpires,
        b'y' => H::Identity,
        _ => H::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_recognised_in_any_case() {
        for (at, (id, name)) in NAMES.iter().enumerate() {
            assert_eq!(*id as usize, at, "{name} stands in the wrong place");
            assert_eq!(id.name(), *name);
            for spelling in [name.to_string(), name.to_lowercase(), name.to_uppercase()] {
                assert_eq!(HeaderId::from_name(spelling.as_bytes()), *id, "{spelling}");
            }
            assert_eq!(HeaderId::from_name(format!("{name}x").as_bytes()), H::Other);
        }
        for unknown in ["", "z", "X-Thing", "C%6Fntact", "Fr", &"x".repeat(300)] {
            assert_eq!(HeaderId::from_name(unknown.as_bytes()), H::Other, "{unknown}");
        }
        assert_eq!(HeaderId::from_name(b"V"), H::Via);
        assert_eq!(H::Other.name(), "");
    }
}
