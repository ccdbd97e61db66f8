//! Tests of reading and changing descriptions.
//!
//! In: the examples of RFC 4566, RFC 8866 and RFC 3264, what telephones send, and random bytes.

use super::*;
use proptest::prelude::*;
use std::net::IpAddr;

/// RFC 8866 section 5.
const RFC_8866: &str = "v=0\r\n\
    o=jdoe 3724394400 3724394405 IN IP4 198.51.100.1\r\n\
    s=Call to John Smith\r\n\
    i=SDP Offer #1\r\n\
    u=http://www.jdoe.example.com/home.html\r\n\
    e=Jane Doe <jane@jdoe.example.com>\r\n\
    p=+1 617 555-6011\r\n\
    c=IN IP4 198.51.100.1\r\n\
    t=0 0\r\n\
    m=audio 49170 RTP/AVP 0\r\n\
    m=audio 49180 RTP/AVP 0\r\n\
    m=video 51372 RTP/AVP 99\r\n\
    c=IN IP6 2001:db8::2\r\n\
    a=rtpmap:99 h263-1998/90000\r\n";

/// RFC 4566 section 5.
const RFC_4566: &str = "v=0\r\n\
    o=jdoe 2890844526 2890842807 IN IP4 10.47.16.5\r\n\
    s=SDP Seminar\r\n\
    i=A Seminar on the session description protocol\r\n\
    u=http://www.example.com/seminars/sdp.pdf\r\n\
    e=j.doe@example.com (Jane Doe)\r\n\
    c=IN IP4 224.2.17.12/127\r\n\
    t=2873397496 2873404696\r\n\
    a=recvonly\r\n\
    m=audio 49170 RTP/AVP 0\r\n\
    m=video 51372 RTP/AVP 99\r\n\
    a=rtpmap:99 h263-1998/90000\r\n";

const PHONE: &str = "v=0\r\n\
    o=- 1 1 IN IP4 192.0.2.1\r\n\
    s=-\r\n\
    c=IN IP4 192.0.2.1\r\n\
    t=0 0\r\n\
    m=audio 4000 RTP/AVP 8 0 101\r\n\
    a=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=fmtp:101 0-16\r\n\
    a=ptime:20\r\n\
    a=x-unknown:  kept  as it is \r\n\
    a=rtcp:4005 IN IP6 2001:db8::5\r\n\
    a=sendonly\r\n\
    m=image 4002 udptl t38\r\n\
    a=T38FaxVersion:0\r\n\
    a=T38FaxUdpEC:t38UDPRedundancy\r\n";

fn parse(text: &str) -> Sdp {
    Sdp::parse(text.to_owned()).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn written(sdp: &Sdp) -> String {
    String::from_utf8(sdp.to_bytes().to_vec()).unwrap()
}

#[test]
fn the_example_of_rfc_8866() {
    let sdp = parse(RFC_8866);
    let origin = sdp.origin().unwrap();
    assert_eq!(
        (origin.username, origin.session_id, origin.version()),
        ("jdoe", "3724394400", Some(3724394405))
    );
    assert_eq!(origin.address, "198.51.100.1");
    assert_eq!(sdp.session().first(b's'), Some(&b"Call to John Smith"[..]));
    let seen: Vec<_> = sdp
        .all_media()
        .map(|m| (m.kind(), m.port(), m.connection().unwrap().address.to_string(), m.direction()))
        .collect();
    let want = [
        ("audio", 49170, "198.51.100.1".to_owned(), Direction::SendRecv),
        ("audio", 49180, "198.51.100.1".to_owned(), Direction::SendRecv),
        ("video", 51372, "2001:db8::2".to_owned(), Direction::SendRecv),
    ];
    assert_eq!(seen, want);
    let video = sdp.media(2).unwrap();
    assert_eq!(video.rtpmap("99"), Some(RtpMap { encoding: "h263-1998", clock_rate: 90_000, channels: 1 }));
    assert_eq!(written(&sdp), RFC_8866);
    assert!(sdp.media(3).is_none());
}

#[test]
fn the_example_of_rfc_4566_inherits_its_direction_and_is_multicast() {
    let sdp = parse(RFC_4566);
    let audio = sdp.media(0).unwrap();
    assert_eq!(audio.direction(), Direction::RecvOnly);
    assert_eq!(audio.connection().unwrap().multicast, Some("127"));
    assert_eq!(audio.rtpmap("0").unwrap().encoding, "PCMU");
    assert_eq!(audio.port_count(), 1);
}

#[test]
fn attributes_of_a_telephone_are_understood() {
    let sdp = parse(PHONE);
    let audio = sdp.media(0).unwrap();
    assert_eq!(audio.formats().collect::<Vec<_>>(), ["8", "0", "101"]);
    assert_eq!((audio.protocol(), audio.is_rtp(), audio.ptime()), ("RTP/AVP", true, Some(20)));
    assert_eq!(audio.fmtp("101"), Some("0-16"));
    assert_eq!(audio.fmtp("10"), None);
    assert_eq!(audio.attribute("x-unknown"), Some("  kept  as it is "));
    assert_eq!(audio.rtcp(), Some((4005, Some(Address::Ip(ip("2001:db8::5"))))));
    assert_eq!(audio.direction(), Direction::SendOnly);
    let fax = sdp.media(1).unwrap();
    assert_eq!((fax.kind(), fax.protocol(), fax.is_rtp()), ("image", "udptl", false));
    assert_eq!(fax.formats().collect::<Vec<_>>(), ["t38"]);
    assert_eq!(fax.attribute("T38FaxVersion"), Some("0"));
}

#[test]
fn attributes_of_secure_media_are_understood_and_keys_stay_out_of_debug() {
    let sdp = parse(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AB:CD\r\na=ice-ufrag:F7gI\r\na=setup:actpass\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:111 opus/48000/2\r\na=mid:0\r\na=rtcp-mux\r\n\
         a=setup:passive\r\na=ice-pwd:x9cml/YzichV2+XlhiMu8g\r\n\
         a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0\r\n\
         a=candidate:1 1 UDP 2130706431 192.0.2.1 8998 typ host\r\na=candidate:2 1 UDP 1 198.51.100.1 8999 typ srflx\r\n",
    );
    let media = sdp.media(0).unwrap();
    assert!(media.rtcp_mux() && media.is_rtp() && media.connection().unwrap().is_unspecified());
    assert_eq!((media.mid(), media.setup(), media.ice_ufrag()), (Some("0"), Some("passive"), Some("F7gI")));
    assert_eq!(media.ice_pwd(), Some("x9cml/YzichV2+XlhiMu8g"));
    assert_eq!(media.fingerprint(), Some("sha-256 AB:CD"));
    assert_eq!((media.crypto().count(), media.candidates().count()), (1, 2));
    assert_eq!(media.rtpmap("111").unwrap().channels, 2);
    assert!(!format!("{sdp:?}").contains("inline"));
}

#[test]
fn what_telephones_get_wrong_is_forgiven() {
    for text in [
        "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\nm=audio 4000 RTP/AVP 0\n", // LF
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0", // no s=, t=, last CRLF
        "v=0\r\no=Some Phone 2 1 1 IN IP4 192.0.2.1\r\ns=\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\n\r\n\r\n",
        "v=0\r\nc=IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\no=- 1 1 IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\n", // order
        "\r\nv=0 \r\no=- 99999999999999999999999 1 IN IP4 x\r\nm=audio 4000 RTP/AVP 0\r\nc=in ip4 192.0.2.1 \r\n",
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\nx=?\r\nt=0 0\r\n",
    ] {
        let sdp = parse(text);
        let media = sdp.media(0).unwrap();
        assert_eq!(media.connection().unwrap().address.ip(), Some(ip("192.0.2.1")), "{text}");
        assert_eq!(media.port(), 4000);
        let again = parse(&written(&sdp));
        assert!(again.untouched, "what we write is clean");
        assert_eq!(written(&again), written(&sdp));
    }
    assert_eq!(parse("v=0\r\no=Some Phone 2 1 1 IN IP4 a\r\n").origin().unwrap().username, "Some Phone 2");
    // A rejected stream needs neither address nor format.
    assert_eq!(parse("v=0\r\no=- 1 1 IN IP4 a\r\nm=audio 0 RTP/AVP\r\n").media(0).unwrap().port(), 0);
}

#[test]
fn garbage_is_refused_with_line_and_reason() {
    let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n";
    let table: &[(&str, usize, &str)] = &[
        ("", 0, "empty"),
        ("\r\n\r\n", 0, "empty"),
        ("hello", 1, "not of the form letter=value"),
        ("o=- 1 1 IN IP4 a\r\n", 1, "does not begin with v=0"),
        ("v=1\r\n", 1, "version is not 0"),
        ("v=0\r\n", 0, "no o= line"),
        ("v=0\r\nv=0\r\n", 2, "v= twice"),
        ("v=0\r\no=- 1 IN IP4 a\r\n", 2, "bad o= line"),
        ("v=0\r\no=- x 1 IN IP4 a\r\n", 2, "bad o= line"),
        ("{head}o=- 1 1 IN IP4 a\r\n", 3, "o= twice or below an m="),
        ("{head}s = -\r\n", 3, "not of the form letter=value"),
        ("{head}S=-\r\n", 3, "not of the form letter=value"),
        ("{head}\r\ns=-\r\n", 3, "after an empty line"),
        ("{head}s=a\rb\r\n", 3, "carriage return or NUL inside a line"),
        ("{head}s=a\0b\r\n", 3, "carriage return or NUL inside a line"),
        ("{head}c=IN IP4\r\n", 3, "bad c= line"),
        ("{head}c=IN IP4 2001:db8::1\r\n", 3, "bad c= line"),
        ("{head}c=IN IP6 192.0.2.1\r\n", 3, "bad c= line"),
        ("{head}c=IN IP4 300.1.1.1\r\n", 3, "bad c= line"),
        ("{head}c=IN IP4 192.0.2.1/x\r\n", 3, "bad c= line"),
        ("{head}c=ATM NSAP 47\r\n", 3, "bad c= line"),
        ("{head}c=IN IP4 a\r\nc=IN IP4 b\r\n", 4, "c= twice"),
        ("{head}m=audio 4000 RTP/AVP 0\r\ns=-\r\n", 3, "no c= line for this m="),
        (
            "{head}m=audio 4000 RTP/AVP 0\r\nm=audio 1 RTP/AVP 0\r\nc=IN IP4 a\r\n",
            3,
            "no c= line for this m=",
        ),
        ("{head}m=audio\r\n", 3, "m= without a port"),
        ("{head}m=audio 4000\r\n", 3, "m= without a protocol"),
        ("{head}m=audio 4000 RTP/AVP\r\n", 3, "m= without a format"),
        ("{head}m=audio 65536 RTP/AVP 0\r\n", 3, "bad port in m="),
        ("{head}m=audio -1 RTP/AVP 0\r\n", 3, "bad port in m="),
        ("{head}m=audio +1 RTP/AVP 0\r\n", 3, "bad port in m="),
        ("{head}m=audio 1/x RTP/AVP 0\r\n", 3, "bad port in m="),
    ];
    for (text, line, reason) in table {
        let text = text.replace("{head}", head);
        assert_eq!(Sdp::parse(text.clone()).unwrap_err(), SdpError { line: *line, reason }, "{text:?}");
    }
    assert_eq!(Sdp::parse("v=1\r\n").unwrap_err().to_string(), "SDP line 1: version is not 0");
}

#[test]
fn limits_hold() {
    let head = "v=0\r\no=- 1 1 IN IP4 a\r\nc=IN IP4 a\r\n";
    let media = |n| format!("{head}{}", "m=audio 1 RTP/AVP 0\r\n".repeat(n));
    assert_eq!(parse(&media(MEDIA_MAX)).media_count(), MEDIA_MAX);
    assert_eq!(Sdp::parse(media(MEDIA_MAX + 1)).unwrap_err().reason, "more than 64 media");
    let lines = |n| format!("{head}{}", "a=x\r\n".repeat(n - 3));
    assert!(Sdp::parse(lines(LINES_MAX)).is_ok());
    assert_eq!(Sdp::parse(lines(LINES_MAX + 1)).unwrap_err().reason, "more than 1000 lines");
    assert_eq!(Sdp::parse(vec![b'v'; SIZE_MAX + 1]).unwrap_err().reason, "longer than 64 KiB");

    let mut full = parse(&lines(LINES_MAX));
    full.add_attribute(Part::Session, "y", None);
    assert_eq!(full.lines.len(), LINES_MAX);
    assert_eq!(
        full.add_media(MediaLine { kind: "audio", port: 1, protocol: "RTP/AVP", formats: &["0"] }),
        None
    );
    let mut full = parse(&media(MEDIA_MAX));
    assert_eq!(
        full.add_media(MediaLine { kind: "audio", port: 1, protocol: "RTP/AVP", formats: &["0"] }),
        None
    );
}

#[test]
fn a_relay_changes_address_and_port_and_nothing_else() {
    let mut sdp = parse(PHONE);
    sdp.redirect(ip("203.0.113.9"));
    sdp.set_port(0, 13_000);
    sdp.set_port(1, 13_002);
    sdp.set_attribute(Part::Media(0), "rtcp", Some("13001"));
    let want = PHONE
        .replace("c=IN IP4 192.0.2.1", "c=IN IP4 203.0.113.9")
        .replace("audio 4000", "audio 13000")
        .replace("image 4002", "image 13002")
        .replace("rtcp:4005 IN IP6 2001:db8::5", "rtcp:13001");
    assert_eq!(written(&sdp), want);
    assert_eq!(sdp.media(0).unwrap().port(), 13_000);

    let mut both = parse(RFC_8866);
    both.redirect(ip("2001:db8::9"));
    let want = RFC_8866
        .replace("c=IN IP4 198.51.100.1", "c=IN IP6 2001:db8::9")
        .replace("c=IN IP6 2001:db8::2", "c=IN IP6 2001:db8::9");
    assert_eq!(written(&both), want);

    let mut held = parse(&PHONE.replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0"));
    held.redirect(ip("203.0.113.9"));
    assert!(held.media(0).unwrap().connection().unwrap().is_unspecified());
}

#[test]
fn lines_are_replaced_in_place_and_new_ones_go_where_they_belong() {
    let mut sdp = parse(PHONE);
    sdp.set_version(2);
    sdp.set_direction(Part::Media(0), Direction::Inactive);
    sdp.set_connection(Part::Media(1), ip("192.0.2.7"));
    sdp.set_line(Part::Session, b'b', "AS:64");
    sdp.add_attribute(Part::Session, "group", Some("BUNDLE 0"));
    sdp.add_attribute(Part::Media(0), "mid", Some("0"));
    sdp.remove_attributes(Part::Media(1), |name, _| name == "T38FaxUdpEC");
    let want = PHONE
        .replace("o=- 1 1 ", "o=- 1 2 ")
        .replace("a=sendonly\r\n", "a=inactive\r\na=mid:0\r\n")
        .replace("t38\r\n", "t38\r\nc=IN IP4 192.0.2.7\r\n")
        .replace("t=0 0\r\n", "b=AS:64\r\nt=0 0\r\na=group:BUNDLE 0\r\n")
        .replace("a=T38FaxUdpEC:t38UDPRedundancy\r\n", "");
    assert_eq!(written(&sdp), want);
    assert_eq!(sdp.media(1).unwrap().connection().unwrap().address.ip(), Some(ip("192.0.2.7")));
    assert_eq!(sdp.media(0).unwrap().mid(), Some("0"));

    let mut many = parse(&PHONE.replace("a=ptime:20\r\n", "a=ptime:20\r\na=ptime:30\r\na=ptime:40\r\n"));
    many.set_attribute(Part::Media(0), "ptime", Some("10"));
    assert_eq!(written(&many), PHONE.replace("a=ptime:20", "a=ptime:10"));
    many.set_media(1, MediaLine { kind: "image", port: 0, protocol: "udptl", formats: &["t38"] });
    assert!(written(&many).contains("m=image 0 udptl t38\r\n"));
}

#[test]
fn changes_to_what_is_not_there_do_nothing() {
    let mut sdp = parse(PHONE);
    let absent = Part::Media(2);
    sdp.set_port(2, 1);
    sdp.set_direction(absent, Direction::Inactive);
    sdp.set_connection(absent, ip("192.0.2.7"));
    sdp.set_attribute(absent, "x", None);
    sdp.set_line(Part::Session, b'm', "audio 1 RTP/AVP 0");
    sdp.set_line(Part::Media(usize::MAX), b'i', "x");
    sdp.set_media(2, MediaLine { kind: "audio", port: 1, protocol: "RTP/AVP", formats: &["0"] });
    assert_eq!(written(&sdp), PHONE);
}

#[test]
fn no_value_becomes_two_lines() {
    let mut sdp = parse(PHONE);
    sdp.add_attribute(Part::Session, "x", Some("1\r\nm=audio 1 RTP/AVP 0\0"));
    sdp.set_origin("a\r\nb c", "7", 8, ip("::1"));
    let text = written(&sdp);
    assert!(text.contains("a=x:1m=audio 1 RTP/AVP 0\r\n"));
    assert!(text.contains("o=a__b_c 7 8 IN IP6 ::1\r\n"));
    assert_eq!(parse(&text).media_count(), 2);
}

#[test]
fn a_description_of_ours_is_complete() {
    let mut sdp = Sdp::new("", 5, 6, ip("192.0.2.1"));
    let audio =
        sdp.add_media(MediaLine { kind: "audio", port: 4000, protocol: "RTP/AVP", formats: &["0", "8"] });
    sdp.set_direction(Part::Media(audio.unwrap()), Direction::SendRecv);
    let want = "v=0\r\no=- 5 6 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8\r\na=sendrecv\r\n";
    assert_eq!(written(&sdp), want);
    assert_eq!(written(&parse(want)), want);
}

#[test]
fn an_untouched_description_is_not_copied() {
    let source = Bytes::from_static(PHONE.as_bytes());
    let sdp = Sdp::parse(source.clone()).unwrap();
    assert_eq!(sdp.to_bytes().as_ptr(), source.as_ptr());
    assert_eq!(Sdp::try_from(PHONE.as_bytes()).unwrap().to_bytes(), source);
}

#[test]
fn directions_reverse_and_meet() {
    for direction in Direction::ALL {
        assert_eq!(direction.reversed().reversed(), direction);
        assert_eq!(direction.and(Direction::SendRecv), direction);
        assert_eq!(direction.and(Direction::Inactive), Direction::Inactive);
    }
    assert_eq!(Direction::SendOnly.reversed(), Direction::RecvOnly);
    assert_eq!(Direction::SendOnly.and(Direction::RecvOnly), Direction::Inactive);
}

/// Everything a hostile description could reach.
fn look_at_all(sdp: &Sdp) {
    let _ = (sdp.origin().map(|o| o.version()), sdp.session().connection(), sdp.session().direction());
    for media in sdp.all_media() {
        let _ = (media.kind(), media.port_count(), media.is_rtp(), media.connection(), media.direction());
        let _ =
            (media.ptime(), media.rtcp(), media.mid(), media.crypto().count(), media.candidates().count());
        for format in media.formats() {
            let _ = (media.rtpmap(format), media.fmtp(format));
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(sdp) = Sdp::parse(bytes) {
            look_at_all(&sdp);
        }
    }

    #[test]
    fn mutated_descriptions_end_in_an_answer(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = PHONE.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(mut sdp) = Sdp::parse(bytes) {
            look_at_all(&sdp);
            sdp.redirect("192.0.2.9".parse().unwrap());
            for index in 0..sdp.media_count() {
                sdp.set_port(index, 7);
                sdp.set_direction(Part::Media(index), Direction::SendOnly);
            }
            sdp.set_version(9);
            let again = Sdp::parse(sdp.to_bytes()).unwrap();
            prop_assert!(again.all_media().all(|media| media.port() == 7 && media.direction() == Direction::SendOnly));
        }
    }

    #[test]
    fn unknown_lines_are_kept_byte_for_byte(
        session in prop::collection::vec("[a-bd-lnp-rt-uw-z]=[^\r\n\0]{0,30}", 0..5),
        media in prop::collection::vec("a=[^\r\n\0]{0,30}", 0..5),
        port in 1..u16::MAX,
    ) {
        let lines = |lines: &[String]| lines.iter().map(|line| format!("{line}\r\n")).collect::<String>();
        let text = |port: u16| format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n{}c=IN IP4 192.0.2.1\r\nm=audio {port} RTP/AVP 0\r\n{}",
            lines(&session), lines(&media),
        );
        let mut sdp = parse(&text(4000));
        prop_assert_eq!(written(&sdp), text(4000));
        sdp.set_port(0, port);
        prop_assert_eq!(written(&sdp), text(port));
    }
}
