//! Who calls, as headers tell it: read from an INVITE, written into another.
//!
//! In: requests; what is to be shown to whom. Out: [`Presented`], header lines. P-Asserted-Identity and Privacy are RFC 3325 and
//! RFC 3323, Diversion is RFC 5806, History-Info RFC 7044 as RFC 7544 reads it. Elsewhere: what of it is believed (crates `routing`,
//! `appserver`), the addresses of a leg (`legs`).

use cluster::leg::{DIVERSIONS_MAX, Diversion, Presented};
use model::external::X_TAG_MAX;
use sip::draft::HeaderText;
use sip::header::NameAddr;
use sip::msg::{HeaderId, Message};
use sip::uri::{Host, Scheme, Uri};

/// Numbers and names are cut to this many characters.
pub(crate) const NAME_MAX: usize = 128;
/// Characters of a diversion's reason.
const REASON_MAX: usize = 32;
/// The From of a caller who does not want to be shown (RFC 3323 section 4.1.1.3).
pub(crate) const ANONYMOUS: &str = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";

/// What an INVITE says of its caller. A number in P-Asserted-Identity counts before one in P-Preferred-Identity, that before
/// Remote-Party-ID, and that before From: so trunk providers tell it.
pub(crate) fn presented(msg: &Message) -> Presented {
    let from = msg.from().ok();
    let is_anonymous = from.as_ref().is_some_and(is_anonymous);
    let asserted = [HeaderId::PAssertedIdentity, HeaderId::PPreferredIdentity, HeaderId::RemotePartyId]
        .into_iter()
        .find_map(|id| msg.addresses(id).flatten().find(|address| number_of(&address.uri).is_some()));
    let remote = msg.addresses(HeaderId::RemotePartyId).flatten().next();
    let wants_privacy = remote
        .as_ref()
        .and_then(|remote| remote.param("privacy").flatten())
        .is_some_and(|privacy| privacy.split(',').any(|each| matches!(each.trim(), "full" | "uri" | "name")));
    let shown = asserted.as_ref().or(from.as_ref().filter(|_| !is_anonymous));
    let name = |address: &NameAddr<'_>| {
        address.display_decoded().map(|name| cut(&name, NAME_MAX)).filter(|name| !name.is_empty())
    };
    Presented {
        number: shown.and_then(|address| number_of(&address.uri)),
        name: shown
            .and_then(name)
            .or_else(|| from.as_ref().filter(|_| !is_anonymous).and_then(name))
            .unwrap_or_default(),
        is_private: is_anonymous || wants_privacy || asks_for_privacy(msg),
        diversions: diversions(msg),
        charge: msg
            .header_named("P-Charge-Info")
            .and_then(|value| NameAddr::parse(value, "P-Charge-Info").ok())
            .and_then(|address| number_of(&address.uri)),
        x_tag: msg
            .header_named("X-Tag")
            .map(|tag| cut(&String::from_utf8_lossy(tag), X_TAG_MAX))
            .filter(|tag| !tag.is_empty()),
    }
}

/// Privacy of the identity is asked for (RFC 3323 section 4.2, RFC 3325 section 9.3).
fn asks_for_privacy(msg: &Message) -> bool {
    let wants = |value: &[u8]| {
        value.split(|c| *c == b';').map(<[u8]>::trim_ascii).any(|each| {
            [&b"id"[..], b"user", b"header", b"history"].iter().any(|known| each.eq_ignore_ascii_case(known))
        })
    };
    msg.lines(HeaderId::Privacy).any(wants)
}

/// A From that shows nobody.
fn is_anonymous(from: &NameAddr<'_>) -> bool {
    let is_invalid = matches!(&from.uri.host, Host::Name(name) if name.trim_end_matches('.').eq_ignore_ascii_case("anonymous.invalid"));
    let user = from.uri.user_decoded().unwrap_or_default();
    is_invalid || user.eq_ignore_ascii_case(b"anonymous")
}

/// The user part of a SIP URI, the number of a tel URI; without their parameters.
pub(crate) fn number_of(uri: &Uri<'_>) -> Option<String> {
    let text = match uri.scheme {
        Scheme::Tel => uri.digits()?,
        Scheme::Sip | Scheme::Sips | Scheme::Other(_) => {
            String::from_utf8_lossy(&uri.user_decoded()?).into_owned()
        }
    };
    let number = cut(text.split(';').next().unwrap_or_default(), NAME_MAX);
    (!number.is_empty()).then_some(number)
}

fn cut(text: &str, max: usize) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(max).collect()
}

/// Who diverted the call, the last one first: by Diversion, else by History-Info.
fn diversions(msg: &Message) -> Vec<Diversion> {
    let told: Vec<Diversion> = msg
        .addresses(HeaderId::Diversion)
        .flatten()
        .filter_map(|address| {
            let reason = address.param("reason").flatten().unwrap_or_default();
            Some(Diversion { number: number_of(&address.uri)?, reason: cut(reason, REASON_MAX) })
        })
        .take(DIVERSIONS_MAX)
        .collect();
    if told.is_empty() { history(msg) } else { told }
}

/// The same out of History-Info (RFC 7544 section 3): the one before an entry with a cause of diversion is who diverted.
fn history(msg: &Message) -> Vec<Diversion> {
    let entries: Vec<NameAddr<'_>> = msg.addresses(HeaderId::HistoryInfo).flatten().take(32).collect();
    let mut told = Vec::new();
    for pair in entries.windows(2) {
        let [by, to] = pair else { continue };
        let cause = to.uri.param("cause").flatten().and_then(|cause| cause.parse::<u16>().ok());
        if let (Some(reason), Some(number)) = (cause.and_then(reason_of), number_of(&by.uri)) {
            told.push(Diversion { number, reason: reason.to_owned() });
        }
    }
    told.reverse();
    told.truncate(DIVERSIONS_MAX);
    told
}

/// Reasons of Diversion for causes of History-Info (RFC 7544 section 4.2, table 2).
fn reason_of(cause: u16) -> Option<&'static str> {
    Some(match cause {
        302 => "unconditional",
        486 => "user-busy",
        408 => "no-answer",
        480 => "deflection",
        503 => "unavailable",
        404 => "unknown",
        _ => return None,
    })
}

/// Writes who diverted a call, each with an address in this domain. Reasons that are no token are left out.
pub(crate) fn push_diversions(headers: &mut HeaderText, diversions: &[Diversion], domain: &str) {
    for diversion in diversions.iter().take(DIVERSIONS_MAX) {
        let address = crate::legs::address(&diversion.number, domain);
        let is_token = !diversion.reason.is_empty()
            && diversion.reason.bytes().all(|c| c.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&c));
        let reason = if is_token { diversion.reason.as_str() } else { "unknown" };
        headers.push_fmt("Diversion", format_args!("<{address}>;reason={reason};counter=1"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn read(lines: &str) -> Presented {
        let from =
            if lines.contains("From:") { "" } else { "From: \"Front\" <sip:+100@x.example>;tag=a\r\n" };
        let text = format!(
            "INVITE sip:+200@y.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKx\r\n{from}To: <sip:+200@y.example>\r\n\
             Call-ID: 1\r\nCSeq: 1 INVITE\r\n{lines}\r\n"
        );
        presented(&Message::parse(Bytes::from(text)).unwrap())
    }

    #[test]
    fn the_caller_is_told_by_the_first_header_that_counts() {
        let pai = "P-Asserted-Identity: \"Asserted\" <sip:+101@x.example;user=phone>\r\n";
        let rpid =
            "Remote-Party-ID: \"Remote\" <sip:+102@x.example>;party=calling;privacy=off;screen=yes\r\n";
        let ppi = "P-Preferred-Identity: <tel:+1-0-3>\r\n";
        for (lines, number, name) in [
            (String::new(), "+100", "Front"),
            (rpid.to_owned(), "+102", "Remote"),
            (format!("{rpid}{pai}"), "+101", "Asserted"),
            (format!("{rpid}{ppi}"), "+103", "Front"),
            ("P-Asserted-Identity: <sip:x.example>, <tel:+104>\r\n".to_owned(), "+104", "Front"),
            ("P-Asserted-Identity: <sip:%2B105;cpc=ordinary@x.example>\r\n".to_owned(), "+105", "Front"),
        ] {
            let told = read(&lines);
            assert_eq!((told.number.as_deref(), told.name.as_str()), (Some(number), name), "{lines}");
            assert!(!told.is_private, "{lines}");
        }
    }

    #[test]
    fn who_wants_to_be_unknown_says_so_in_one_of_many_ways() {
        let anonymous = "From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=a\r\n";
        for (lines, number) in [
            (anonymous.to_owned(), None),
            ("From: <sip:Anonymous@192.0.2.1>;tag=a\r\n".to_owned(), None),
            ("Privacy: id\r\n".to_owned(), Some("+100")),
            ("Privacy: critical; USER\r\n".to_owned(), Some("+100")),
            (
                format!("{anonymous}P-Asserted-Identity: <sip:+101@x.example>\r\nPrivacy: id\r\n"),
                Some("+101"),
            ),
            ("Remote-Party-ID: <sip:+102@x.example>;privacy=full\r\n".to_owned(), Some("+102")),
        ] {
            let told = read(&lines);
            assert!(told.is_private, "{lines}");
            assert_eq!(told.number.as_deref(), number, "{lines}");
            let is_shown = !lines.contains("From:");
            assert_eq!(told.name, if is_shown { "Front" } else { "" }, "{lines}");
        }
        assert!(!read("Privacy: none\r\n").is_private);
    }

    #[test]
    fn diversions_are_read_from_either_header_and_written_as_they_were() {
        let diverted = read(
            "Diversion: <sip:+2@x.example>;reason=user-busy, <sip:+1@x.example>;reason=no-answer;counter=2\r\n",
        );
        let told: Vec<_> =
            diverted.diversions.iter().map(|d| (d.number.as_str(), d.reason.as_str())).collect();
        assert_eq!(told, [("+2", "user-busy"), ("+1", "no-answer")]);
        let history = read(
            "History-Info: <sip:+1@x.example>;index=1, <sip:+2@x.example;cause=408>;index=1.1\r\n\
             History-Info: <sip:+3@x.example;cause=486>;index=1.1.1\r\n",
        );
        assert_eq!(history.diversions, diverted.diversions);
        let mut headers = HeaderText::new();
        push_diversions(&mut headers, &diverted.diversions, "us.example");
        let odd = Diversion { number: "+3".to_owned(), reason: "a b".to_owned() };
        push_diversions(&mut headers, &[odd], "us.example");
        assert_eq!(
            String::from_utf8_lossy(headers.as_bytes()),
            "Diversion: <sip:+2@us.example>;reason=user-busy;counter=1\r\n\
             Diversion: <sip:+1@us.example>;reason=no-answer;counter=1\r\n\
             Diversion: <sip:+3@us.example>;reason=unknown;counter=1\r\n"
        );
    }

    #[test]
    fn the_tag_and_the_account_that_pays_are_read() {
        let told = read("X-Tag: campaign 7\r\nP-Charge-Info: <sip:+12065550100@x.example>;npi=ISDN\r\n");
        assert_eq!(
            (told.x_tag.as_deref(), told.charge.as_deref()),
            (Some("campaign 7"), Some("+12065550100"))
        );
        let long = read(&format!("X-Tag: {}\r\n", "x".repeat(100)));
        assert_eq!(long.x_tag.unwrap().len(), X_TAG_MAX);
    }
}
