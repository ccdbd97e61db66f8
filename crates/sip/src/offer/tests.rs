//! Tests of offers and answers.
//!
//! In: the exchanges of RFC 3264 section 10, and what telephones do on hold.

use super::*;
use std::net::SocketAddr;

fn parse(text: &str) -> Sdp {
    Sdp::parse(text.replace('\n', "\r\n")).unwrap()
}

fn sdp(origin: &str, media: &str) -> Sdp {
    parse(&format!("v=0\no={origin}\ns=\nc=IN IP4 host.anywhere.com\nt=0 0\n{media}"))
}

fn text(sdp: &Sdp) -> String {
    String::from_utf8(sdp.to_bytes().to_vec()).unwrap().replace("\r\n", "\n")
}

const ALICE: &str = "alice 2890844526 2890844526 IN IP4 host.anywhere.com";
const BOB: &str = "bob 2890844730 2890844730 IN IP4 host.example.com";

#[test]
fn the_basic_exchange_of_rfc_3264_section_10_1() {
    let offer = sdp(
        ALICE,
        "m=audio 49170 RTP/AVP 0\na=rtpmap:0 PCMU/8000\nm=video 51372 RTP/AVP 31\na=rtpmap:31 H261/90000\nm=video 53000 RTP/AVP 32\na=rtpmap:32 MPV/90000\n",
    );
    let answer = sdp(
        BOB,
        "m=audio 49920 RTP/AVP 0\na=rtpmap:0 PCMU/8000\nm=video 0 RTP/AVP 31\nm=video 53000 RTP/AVP 32\na=rtpmap:32 MPV/90000\n",
    );
    let reoffer = sdp(
        "bob 2890844730 2890844731 IN IP4 host.example.com",
        "m=audio 65422 RTP/AVP 0\na=rtpmap:0 PCMU/8000\nm=video 0 RTP/AVP 31\nm=video 53000 RTP/AVP 32\na=rtpmap:32 MPV/90000\nm=audio 51434 RTP/AVP 110\na=rtpmap:110 telephone-events/8000\na=recvonly\n",
    );
    let second = sdp(
        "alice 2890844526 2890844527 IN IP4 host.anywhere.com",
        "m=audio 49170 RTP/AVP 0\na=rtpmap:0 PCMU/8000\nm=video 0 RTP/AVP 31\na=rtpmap:31 H261/90000\nm=video 53000 RTP/AVP 32\na=rtpmap:32 MPV/90000\nm=audio 53122 RTP/AVP 110\na=rtpmap:110 telephone-events/8000\na=sendonly\n",
    );
    let mut alice = OfferAnswer::new();
    assert_eq!(alice.remote_answer(answer.clone()), Err(OfferError::NoOffer));
    alice.local_offer(offer.clone()).unwrap();
    assert_eq!(alice.turn(), Turn::LocalOffer);
    assert_eq!(alice.remote_offer(offer), Err(OfferError::Glare));
    assert_eq!(alice.local_answer(answer.clone()), Err(OfferError::NoOffer));
    alice.remote_answer(answer).unwrap();
    assert_eq!(alice.turn(), Turn::Stable);

    assert_eq!(alice.remote_offer(sdp(BOB, "")), Err(OfferError::Shrunk { before: 3, offer: 0 }));
    alice.remote_offer(reoffer).unwrap();
    assert!(alice.open().is_some());
    alice.local_answer(second).unwrap();
    let (local, remote) = (alice.local().unwrap(), alice.remote().unwrap());
    let directions: Vec<_> = local
        .all_media()
        .zip(remote.all_media())
        .map(|(local, remote)| agreed_direction(&local, &remote))
        .collect();
    assert_eq!(
        directions,
        [Direction::SendRecv, Direction::Inactive, Direction::SendRecv, Direction::SendOnly]
    );
}

#[test]
fn one_of_n_codecs_as_in_rfc_3264_section_10_2() {
    let offer = sdp(
        ALICE,
        "m=audio 62986 RTP/AVP 0 4 18\na=rtpmap:0 PCMU/8000\na=rtpmap:4 G723/8000\na=rtpmap:18 G729/8000\na=inactive\n",
    );
    let answer =
        sdp(BOB, "m=audio 54344 RTP/AVP 0 4\na=rtpmap:0 PCMU/8000\na=rtpmap:4 G723/8000\na=inactive\n");
    check_answer(&offer, &answer).unwrap();
    let (ours, theirs) = (offer.media(0).unwrap(), answer.media(0).unwrap());
    assert_eq!(agreed_direction(&ours, &theirs), Direction::Inactive);
    let second = sdp(ALICE, "m=audio 62986 RTP/AVP 4\na=rtpmap:4 G723/8000\na=sendrecv\n");
    let locked = sdp(BOB, "m=audio 54344 RTP/AVP 4\na=rtpmap:4 G723/8000\na=sendrecv\n");
    check_answer(&second, &locked).unwrap();
}

#[test]
fn an_answer_that_does_not_fit_is_named_and_leaves_the_offer_open() {
    let audio = "m=audio 4000 RTP/AVP 0 96\na=rtpmap:96 opus/48000/2\n";
    let fits = |offer: &str, answer: &str| check_answer(&sdp(ALICE, offer), &sdp(BOB, answer));
    assert_eq!(fits(audio, ""), Err(OfferError::Count { offer: 1, answer: 0 }));
    assert_eq!(fits(audio, "m=video 1 RTP/AVP 0\n"), Err(OfferError::Kind(0)));
    assert_eq!(fits(audio, "m=video 0 RTP/AVP 0\n"), Err(OfferError::Kind(0)));
    assert_eq!(fits(audio, "m=audio 1 RTP/SAVP 0\n"), Err(OfferError::Kind(0)));
    assert_eq!(fits(audio, "m=audio 1 RTP/AVP 8\n"), Err(OfferError::Formats(0)));
    assert_eq!(fits("m=audio 0 RTP/AVP 0\n", "m=audio 1 RTP/AVP 0\n"), Err(OfferError::Revived(0)));
    assert_eq!(fits(audio, "m=audio 1 RTP/AVP 111\na=rtpmap:111 OPUS/48000/2\n"), Ok(()));
    assert_eq!(fits(audio, "m=audio 1 RTP/AVP 111\na=rtpmap:111 OPUS/48000\n"), Err(OfferError::Formats(0)));
    assert_eq!(fits(audio, "m=audio 0 RTP/AVP 8\n"), Ok(()));
    assert_eq!(fits("m=image 1 udptl t38\n", "m=image 2 UDPTL t38\n"), Ok(()));

    let mut exchange = OfferAnswer::new();
    exchange.local_offer(sdp(ALICE, audio)).unwrap();
    assert_eq!(exchange.remote_answer(sdp(BOB, "")), Err(OfferError::Count { offer: 1, answer: 0 }));
    assert_eq!(exchange.turn(), Turn::LocalOffer);
    exchange.abandon();
    assert_eq!((exchange.turn(), exchange.local().is_some()), (Turn::Stable, false));
    exchange.remote_offer(sdp(BOB, audio)).unwrap();
}

#[test]
fn hold_and_resume_are_each_others_reverse_and_old_hold_is_understood() {
    let media = "m=audio 4000 RTP/AVP 0\na=x\nm=audio 4002 RTP/AVP 0\na=recvonly\nm=video 0 RTP/AVP 31\n";
    let mut offer = sdp(ALICE, media);
    assert!(!all_held(&offer));
    hold(&mut offer);
    let directions = |sdp: &Sdp| sdp.all_media().map(|m| m.section().direction()).collect::<Vec<_>>();
    assert_eq!(directions(&offer), [Some(Direction::SendOnly), Some(Direction::Inactive), None]);
    assert!(all_held(&offer));
    resume(&mut offer);
    assert_eq!(directions(&offer), [Some(Direction::SendRecv), Some(Direction::RecvOnly), None]);
    assert!(!all_held(&offer));

    let session_wide =
        parse("v=0\no=- 1 1 IN IP4 a\ns=-\nc=IN IP4 a\nt=0 0\na=sendonly\nm=audio 1 RTP/AVP 0\n");
    assert!(all_held(&session_wide));
    let old = parse("v=0\no=- 1 1 IN IP4 a\ns=-\nc=IN IP4 0.0.0.0\nt=0 0\nm=audio 1 RTP/AVP 0\n");
    assert!(all_held(&old));
    let ours = sdp(ALICE, "m=audio 4000 RTP/AVP 0\n");
    let seen = agreed_direction(&ours.media(0).unwrap(), &old.media(0).unwrap());
    assert_eq!(seen, Direction::RecvOnly);
    assert!(!all_held(&sdp(ALICE, "m=audio 0 RTP/AVP 0\n")));
}

#[test]
fn the_version_increments_only_when_the_description_changes() {
    let address = "192.0.2.1".parse().unwrap();
    let mut author = Author::new("carillon", 100, address);
    let media = "m=audio 4000 RTP/AVP 0\n";
    let version = |bytes: &Bytes| Sdp::parse(bytes.clone()).unwrap().origin().unwrap().version().unwrap();
    let first = author.sign(&mut sdp(ALICE, media));
    assert!(std::str::from_utf8(&first).unwrap().contains("o=carillon 100 100 IN IP4 192.0.2.1\r\n"));
    let same = author.sign(&mut sdp(BOB, media));
    assert_eq!(first, same);
    let mut held = sdp(BOB, media);
    hold(&mut held);
    let third = author.sign(&mut held);
    assert_eq!(version(&third), 101);
    let mut rebuilt = Author::resume(&Sdp::parse(third).unwrap()).unwrap();
    assert_eq!(version(&rebuilt.sign(&mut held)), 101);
    assert_eq!(version(&rebuilt.sign(&mut sdp(BOB, media))), 102);
}

fn phone() -> Capabilities {
    Capabilities::default()
}

fn stream(address: &str) -> Stream {
    Stream { address: address.parse().unwrap(), direction: Direction::SendRecv }
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

#[test]
fn two_telephones_of_ours_agree() {
    let offer = phone().offer(stream("192.0.2.1:4000"));
    let want = "v=0\no=- 0 0 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\nm=audio 4000 RTP/AVP 8 0 101\n\
        a=rtpmap:8 PCMA/8000\na=rtpmap:0 PCMU/8000\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16\na=ptime:20\na=sendrecv\n";
    assert_eq!(text(&offer), want);
    let answer = phone().answer(&offer, stream("[2001:db8::1]:5000")).unwrap();
    check_answer(&offer, &answer).unwrap();
    let caller = phone().agreed(&offer, &answer).unwrap();
    let want = Agreed {
        media: 0,
        codec: 0,
        send_payload_type: 8,
        receive: vec![(8, 0), (0, 1)],
        telephone_event: Some((101, 101)),
        remote: Some(at("[2001:db8::1]:5000")),
        remote_rtcp: Some(at("[2001:db8::1]:5001")),
        direction: Direction::SendRecv,
        ptime: Some(20),
    };
    assert_eq!(caller, want);
    let callee = phone().agreed(&answer, &offer).unwrap();
    assert_eq!((callee.remote, callee.codec), (Some(at("192.0.2.1:4000")), 0));
}

#[test]
fn an_answer_takes_the_first_audio_and_rejects_the_rest() {
    let offer = parse(
        "v=0\no=- 1 1 IN IP4 192.0.2.9\ns=-\nc=IN IP4 192.0.2.9\nt=5 6\nm=image 9 udptl t38\nm=audio 9 RTP/SAVP 0\n\
         m=audio 4000 RTP/AVP 18 96 0 8 97 98\na=rtpmap:96 opus/48000/2\na=rtpmap:97 telephone-event/48000\n\
         a=rtpmap:98 Telephone-Event/8000\na=mid:a1\na=sendonly\na=rtcp:4444 IN IP4 192.0.2.8\nm=audio 4002 RTP/AVP 0\n",
    );
    let answer = phone().answer(&offer, stream("192.0.2.1:5000")).unwrap();
    let want = "v=0\no=- 0 0 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=5 6\nm=image 0 udptl t38\nm=audio 0 RTP/SAVP 0\n\
        m=audio 5000 RTP/AVP 0 8 98\na=rtpmap:0 PCMU/8000\na=rtpmap:8 PCMA/8000\na=rtpmap:98 telephone-event/8000\n\
        a=fmtp:98 0-16\na=ptime:20\na=recvonly\na=mid:a1\nm=audio 0 RTP/AVP 0\n";
    assert_eq!(text(&answer), want);
    check_answer(&offer, &answer).unwrap();
    let agreed = phone().agreed(&answer, &offer).unwrap();
    assert_eq!((agreed.media, agreed.direction), (2, Direction::RecvOnly));
    assert_eq!(agreed.remote_rtcp, Some(at("192.0.2.8:4444")));
    assert_eq!(agreed.telephone_event, Some((98, 98)));

    let ours = Capabilities { preference: Preference::Ours, ..phone() };
    let answer = ours.answer(&offer, stream("192.0.2.1:5000")).unwrap();
    assert_eq!(answer.media(2).unwrap().formats().collect::<Vec<_>>(), ["8", "0", "98"]);
}

#[test]
fn the_peers_payload_numbers_are_used_for_sending() {
    let caps = Capabilities {
        codecs: vec![Codec {
            encoding: "opus".into(),
            clock_rate: 48_000,
            channels: 2,
            payload_type: 111,
            fmtp: None,
        }],
        ..phone()
    };
    let offer = caps.offer(stream("192.0.2.1:4000"));
    assert!(text(&offer).contains("a=rtpmap:111 opus/48000/2\n"));
    assert!(text(&offer).contains("telephone-event/48000"));
    let answer =
        sdp(BOB, "m=audio 5000 RTP/AVP 96\nc=IN IP4 192.0.2.7\na=rtpmap:96 OPUS/48000/2\na=rtcp-mux\n");
    let agreed = caps.agreed(&offer, &answer).unwrap();
    assert_eq!((agreed.send_payload_type, agreed.receive), (96, vec![(111, 0)]));
    assert_eq!((agreed.telephone_event, agreed.remote_rtcp), (None, Some(at("192.0.2.7:5000"))));
}

#[test]
fn nothing_in_common_and_nothing_offered() {
    let only = |media: &str| phone().answer(&sdp(ALICE, media), stream("192.0.2.1:5000"));
    assert_eq!(only("m=audio 4000 RTP/AVP 18\n").unwrap_err(), OfferError::NothingInCommon);
    assert_eq!(only("m=audio 0 RTP/AVP 0\n").unwrap_err(), OfferError::NothingInCommon);
    assert_eq!(only("m=video 4000 RTP/AVP 0\n").unwrap_err(), OfferError::NothingInCommon);
    assert_eq!(only("").unwrap().media_count(), 0);
    let names = sdp(ALICE, "m=audio 4000 RTP/AVP 0\n"); // a host name: no address to send to
    let answer = phone().answer(&names, stream("192.0.2.1:5000")).unwrap();
    let agreed = phone().agreed(&answer, &names).unwrap();
    assert_eq!((agreed.remote, agreed.remote_rtcp), (None, None));
    let refused = sdp(BOB, "m=audio 0 RTP/AVP 0\n");
    assert_eq!(phone().agreed(&phone().offer(stream("192.0.2.1:5000")), &refused), None);
}
