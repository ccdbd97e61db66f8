//! Offer and answer inside one dialog (RFC 3264 in the vehicles of RFC 6337 table 1): whose turn it is.
//!
//! In: session descriptions and the messages that carried them. Out: what a description means there, and whether a peer's
//! offer changes anything. Elsewhere: the messages (`uas`, `uac`, `modify`), what is in a description (`sdp`, `offer`).

use crate::transaction::ServerId;
use bytes::Bytes;
use memchr::memchr;
use std::ops::Range;
use std::time::Instant;

/// The one exchange that may be open in a dialog (RFC 6337 section 2.2).
#[derive(Debug)]
pub(super) enum Exchange {
    /// None is open.
    Idle,
    /// Our offer waits for the peer's answer.
    Ours { sdp: Bytes, by: OurVehicle },
    /// The peer's offer waits for our user's answer, at the longest until `limit`.
    Theirs { print: u64, by: TheirVehicle, limit: Option<Instant> },
    /// The peer's INVITE had no offer: ours goes into the first reliable response.
    Asked { limit: Option<Instant> },
    /// Our INVITE had no offer: the peer's comes in its first reliable response.
    Asking,
}

/// The message that carried our offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OurVehicle {
    /// Our INVITE; the answer comes in a reliable response.
    Invite,
    /// Our 2xx; the answer comes in the ACK.
    Response,
    /// Our reliable provisional response; the answer comes in the PRACK.
    Reliable,
    /// Our UPDATE; the answer comes in its 2xx.
    Update,
}

/// The message that carried the peer's offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TheirVehicle {
    /// Its INVITE; the answer goes in a reliable response.
    Invite,
    /// Its 2xx; the answer goes in the ACK.
    Response,
    /// Its reliable provisional response with this RSeq, to our INVITE with this CSeq; the answer goes in the PRACK.
    Reliable { rseq: u32, cseq: u32 },
    /// Its PRACK; the answer goes in the 2xx.
    Prack(ServerId),
    /// Its UPDATE; the answer goes in the 2xx.
    Update(ServerId),
}

impl Exchange {
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Exchange::Idle)
    }

    /// When the user's time to answer is over.
    pub(super) fn limit(&self) -> Option<Instant> {
        match self {
            Exchange::Theirs { limit, .. } | Exchange::Asked { limit } => *limit,
            Exchange::Idle | Exchange::Ours { .. } | Exchange::Asking => None,
        }
    }
}

/// A number that changes when a session description changes: of the origin line, which carries the version (RFC 3264
/// section 8), and of connections, media and directions, because there are telephones that change these and leave the version.
/// Never 0.
pub(super) fn print_of(sdp: &[u8]) -> u64 {
    // FNV-1a: whoever provokes a collision has only deceived its own call.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for line in lines(sdp) {
        if is_telling(line) {
            for &byte in line.iter().chain(b"\n") {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    hash.max(1)
}

fn is_telling(line: &[u8]) -> bool {
    matches!(line.get(..2), Some(b"o=" | b"c=" | b"m=")) || direction_of(line).is_some()
}

/// Whether our last description, sent as an offer then, is also a valid answer to `theirs`, an offer that repeats what the
/// peer answered then: the number of media must agree, a direction must not promise more than the offer allows (RFC 3264
/// section 6.1), and DTLS roles must be decided (RFC 5763 section 5).
pub(super) fn is_still_an_answer(ours: &[u8], theirs: &[u8]) -> bool {
    if lines(ours).any(|line| line == b"a=setup:actpass") {
        return false;
    }
    let (ours, theirs) = (media_directions(ours), media_directions(theirs));
    ours.len() == theirs.len()
        && ours
            .iter()
            .zip(&theirs)
            .all(|(our, their)| (!our.sends || their.receives) && (!our.receives || their.sends))
}

/// Our next description of a session that we have described by `before`, and the version that it got if it had to be written
/// anew. In one dialog the `o=` line stays the same but for its version, which grows (RFC 3264 section 8), whoever describes: another
/// relay, or the same one after a restart, names the session differently. `floor` is the highest version that we gave.
pub(super) fn continued(before: &[u8], floor: u64, sdp: Bytes) -> (Bytes, Option<u64>) {
    let Some((old, new)) = origin(before).zip(origin(&sdp)) else { return (sdp, None) };
    let (Some(said), Some(says)) = (fields(&before[old.clone()]), fields(&sdp[new.clone()])) else {
        return (sdp, None);
    };
    let is_version = |at: &usize| *at == 2;
    let is_same = (0..6).all(|at| is_version(&at) || said[at] == says[at]);
    let Some(version) = said[2].parse::<u64>().ok().filter(|_| !is_same) else { return (sdp, None) };
    let is_news = before[..old.start] != sdp[..new.start] || before[old.end..] != sdp[new.end..];
    let version = if is_news { version.max(floor).saturating_add(1) } else { version };
    let [user, session, _, net, family, address] = said;
    let mut text = Vec::with_capacity(sdp.len() + 32);
    text.extend_from_slice(&sdp[..new.start]);
    text.extend_from_slice(format!("{user} {session} {version} {net} {family} {address}").as_bytes());
    text.extend_from_slice(&sdp[new.end..]);
    (text.into(), Some(version))
}

/// Where the value of the `o=` line stands.
fn origin(sdp: &[u8]) -> Option<Range<usize>> {
    let line = lines(sdp).find(|line| line.starts_with(b"o="))?;
    let start = line.as_ptr().addr() - sdp.as_ptr().addr();
    Some(start + 2..start + line.len())
}

fn fields(origin: &[u8]) -> Option<[&str; 6]> {
    let mut words = std::str::from_utf8(origin).ok()?.split(' ');
    let fields = [words.next()?, words.next()?, words.next()?, words.next()?, words.next()?, words.next()?];
    words.next().is_none().then_some(fields)
}

#[derive(Clone, Copy)]
struct Direction {
    sends: bool,
    receives: bool,
}

fn media_directions(sdp: &[u8]) -> Vec<Direction> {
    let mut session = Direction { sends: true, receives: true };
    let mut media: Vec<Direction> = Vec::new();
    for line in lines(sdp) {
        if line.starts_with(b"m=") {
            media.push(session);
        } else if let Some(direction) = direction_of(line) {
            *media.last_mut().unwrap_or(&mut session) = direction;
        }
    }
    media
}

fn direction_of(line: &[u8]) -> Option<Direction> {
    let (sends, receives) = match line {
        b"a=sendrecv" => (true, true),
        b"a=sendonly" => (true, false),
        b"a=recvonly" => (false, true),
        b"a=inactive" => (false, false),
        _ => return None,
    };
    Some(Direction { sends, receives })
}

fn lines(sdp: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = sdp;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\no=a 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=sendrecv\r\n";

    #[test]
    fn version_address_port_and_direction_change_the_print_and_cosmetics_do_not() {
        let print = |from: &str, to: &str| print_of(SDP.replace(from, to).as_bytes());
        let same = print_of(SDP.as_bytes());
        assert_eq!(print("s=-", "s=call"), same);
        assert_eq!(print("\r\n", "\n"), same);
        for (from, to) in [
            ("a 1 1", "a 1 2"),
            ("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0"),
            ("4000", "0"),
            ("sendrecv", "sendonly"),
        ] {
            assert_ne!(print(from, to), same, "{from} -> {to}");
        }
    }

    #[test]
    fn another_author_goes_on_with_the_origin_that_the_peer_knows() {
        let theirs =
            SDP.replace("o=a 1 1 IN IP4 192.0.2.1", "o=- 77 5 IN IP4 198.51.100.1").replace("4000", "6000");
        let continued = |before: &str, floor: u64, sdp: &str| {
            let (sdp, version) = continued(before.as_bytes(), floor, Bytes::from(sdp.to_owned()));
            (String::from_utf8(sdp.to_vec()).unwrap(), version)
        };
        assert_eq!(
            continued(SDP, 0, &theirs),
            (SDP.replace("a 1 1", "a 1 2").replace("4000", "6000"), Some(2))
        );
        assert_eq!(continued(SDP, 8, &theirs).1, Some(9), "a refused offer had it");
        let again = SDP.replace("o=a 1 1 IN IP4 192.0.2.1", "o=- 77 6 IN IP4 198.51.100.1");
        assert_eq!(continued(SDP, 8, &again), (SDP.to_owned(), Some(1)), "nothing has changed");
        for own in
            [SDP.to_owned(), SDP.replace("a 1 1", "a 1 2"), "no origin".to_owned(), SDP.replace("a 1 1", "x")]
        {
            assert_eq!(continued(SDP, 0, &own), (own, None));
        }
        assert_eq!(continued(&SDP.replace("a 1 1", "a 1 x"), 0, &theirs), (theirs, None));
    }

    #[test]
    fn an_old_offer_answers_only_what_it_fits() {
        let hold = SDP.replace("sendrecv", "sendonly");
        let held = SDP.replace("sendrecv", "recvonly");
        let two = format!("{SDP}m=video 0 RTP/AVP 31\r\n");
        let fits = |ours: &str, theirs: &str| is_still_an_answer(ours.as_bytes(), theirs.as_bytes());
        assert!(fits(SDP, SDP));
        assert!(fits(&hold, &held));
        assert!(!fits(SDP, &hold));
        assert!(!fits(&two, SDP));
        assert!(!fits(&format!("{SDP}a=setup:actpass\r\n"), SDP));
    }
}
