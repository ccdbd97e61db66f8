//! One session against messages written by hand: what well-behaved stacks do not send, and headers seen closely.

use super::calls::TALK;
use super::world::{ALICE, BOB, World, config, sdp};
use crate::digest::{Client, Login};
use crate::draft::HeaderText;
use crate::msg::{HeaderId, Message, Method};
use crate::session::{Action, Command, PeerAddress, Rel100};
use std::time::Duration;

const CONTACT: &str = "Contact: <sip:bob@192.0.2.2>\r\n";
const ABLE: &str = "Contact: <sip:bob@192.0.2.2>\r\nAllow: INVITE, ACK, BYE, UPDATE, INFO\r\n";

fn text(msg: &Message, id: HeaderId) -> String {
    msg.lines(id).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" | ")
}

/// Alice talks to a bob played by hand.
fn talking_with(lines: &str) -> (World, Message) {
    let mut world = World::alone(config("alice@192.0.2.1"));
    world.act("alice", "call o1");
    let invite = world.received(&Method::Invite);
    world.reply(&invite, 200, "b", lines, Some(sdp("a1")));
    world.skip();
    (world, invite)
}

fn talking() -> World {
    talking_with(ABLE).0
}

#[test]
fn the_invite_carries_what_it_must() {
    let mut world = World::alone(config("alice@192.0.2.1"));
    world.sides[ALICE].lines.push("P-Asserted-Identity", "<sip:alice@example.com>");
    world.sides[ALICE].lines.push("Max-Forwards", "66");
    for name in [
        "Contact",
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "Route",
        "Record-Route",
        "Supported",
        "Allow",
        "RSeq",
        "l",
        "k",
        "m",
    ] {
        world.sides[ALICE].lines.push(name, "<sip:forged@example.com>");
    }
    world.play("alice does call o1\nalice sends INVITE o1");
    let invite = world.received(&Method::Invite);
    assert!(!String::from_utf8_lossy(invite.raw()).contains("forged"));
    assert_eq!(invite.request_uri(), b"sip:bob@example.com");
    assert_eq!(text(&invite, HeaderId::From), "\"A, alice\" <sip:alice@example.com>;tag=tag-alice");
    assert_eq!(text(&invite, HeaderId::To), "<sip:bob@example.com>");
    assert_eq!(text(&invite, HeaderId::Contact), "<sip:alice@192.0.2.1>");
    assert_eq!(text(&invite, HeaderId::MaxForwards), "66");
    assert_eq!(text(&invite, HeaderId::PAssertedIdentity), "<sip:alice@example.com>");
    assert_eq!(text(&invite, HeaderId::Supported), "100rel, timer");
    assert!(invite.allows(&Method::Update));
}

#[test]
fn loose_routes_are_followed_in_reverse_order_and_the_target_is_refreshed() {
    let routes = "Record-Route: <sip:p2.example.com;lr;x=1>, <sip:p1.example.com;lr>\r\n";
    let (mut world, _) = talking_with(&format!("{routes}{ABLE}"));
    let expected = "<sip:p1.example.com;lr> | <sip:p2.example.com;lr;x=1>";
    assert_eq!(text(&world.received(&Method::Ack), HeaderId::Route), expected);
    assert_eq!(world.session(ALICE).next_hop(), "sip:p1.example.com;lr");

    world.request("UPDATE", 1, "", None);
    world.play("alice sends 200/UPDATE");
    let refresh = "UPDATE sip:alice@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKr\r\nMax-Forwards: 70\r\n\
        From: <sip:bob@example.com>;tag=b\r\nTo: \"A, alice\" <sip:alice@example.com>;tag=tag-alice\r\nCall-ID: call-1\r\n\
        CSeq: 2 UPDATE\r\nContact: <sip:bob@192.0.2.77:5070>\r\nContent-Length: 0\r\n\r\n";
    world.inject(refresh);
    world.play("alice sends 200/UPDATE\nalice does bye\nalice sends BYE\nalice hears Ended self Bye");
    let bye = world.received(&Method::Bye);
    assert_eq!(bye.request_uri(), b"sip:bob@192.0.2.77:5070");
    assert_eq!(text(&bye, HeaderId::Route), expected, "a target refresh leaves the route set alone");
}

#[test]
fn a_strict_router_gets_its_own_uri_and_the_target_goes_last() {
    let routes = "Record-Route: <sip:p2.example.com;lr>, <sip:u;method=x@p1.example.com;transport=udp;method=INVITE?a=b>\r\n";
    let (mut world, _) = talking_with(&format!("{routes}{ABLE}"));
    world.play("alice does bye\nalice sends BYE\nalice hears Ended self Bye");
    let bye = world.received(&Method::Bye);
    assert_eq!(bye.request_uri(), b"sip:u;method=x@p1.example.com;transport=udp");
    assert_eq!(text(&bye, HeaderId::Route), "<sip:p2.example.com;lr> | <sip:bob@192.0.2.2>");
}

#[test]
fn numbers_out_of_order_get_500_and_gaps_are_fine() {
    let mut world = talking();
    world.request("OPTIONS", 7, "", None);
    world.request("INFO", 6, "", None);
    world.request("INFO", 9, "", None);
    world.play("alice sends 200/OPTIONS\nalice sends 500/INFO\nalice hears Info\nalice does respond-info 200\nalice sends 200/INFO");
    let options =
        world.sides[BOB].inbox.iter().find(|m| m.status() == 200 && m.method_is(&Method::Options)).unwrap();
    assert!(options.allows(&Method::Refer), "{options:?}");
    assert_eq!(text(options, HeaderId::Accept), "application/sdp");
}

#[test]
fn strangers_get_481() {
    let mut world = talking();
    let bye = |from: &str, to: &str, call: &str| {
        format!(
            "BYE sip:alice@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK{from}{to}{call}\r\nMax-Forwards: 70\r\n\
             From: <sip:bob@example.com>;tag={from}\r\nTo: <sip:alice@example.com>;tag={to}\r\nCall-ID: {call}\r\nCSeq: 1 BYE\r\n\
             Content-Length: 0\r\n\r\n"
        )
    };
    world.inject(&bye("z", "tag-alice", "call-1"));
    world.inject(&bye("b", "z", "call-1"));
    world.inject(&bye("b", "tag-alice", "call-2"));
    world.play("alice sends 481/BYE\nalice sends 481/BYE\nalice sends 481/BYE");
    world.inject(&bye("b", "tag-alice", "call-1"));
    world.play("alice sends 200/BYE\nalice hears Ended peer Bye");
}

#[test]
fn an_offer_that_could_be_taken_later_is_told_when() {
    for method in ["INVITE", "UPDATE"] {
        let mut world = talking();
        world.request(method, 1, "", Some(sdp("o2")));
        world.act("alice", "refuse 503");
        assert_eq!(text(&world.received_status(503), HeaderId::RetryAfter), "5", "{method}");
    }
}

#[test]
fn unknown_extensions_methods_and_bodies_are_refused_by_their_names() {
    let mut world = talking();
    world.request("INVITE", 1, "Require: timer, x-magic, 100rel, y-magic\r\n", Some(sdp("o2")));
    assert_eq!(text(&world.received_status(420), HeaderId::Unsupported), "x-magic, y-magic");
    world.request("SUBSCRIBE", 2, "Event: x\r\n", None);
    assert!(world.received_status(405).allows(&Method::Invite));
    world.request("DANCE", 3, "", None);
    assert!(world.received_status(501).allows(&Method::Invite));
    world.request("INVITE", 4, "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n", None);
    world.request("UPDATE", 5, "Supported: timer\r\nSession-Expires: 30\r\n", None);
    assert_eq!(text(&world.received_status(422), HeaderId::MinSe), "90");
    world.request("REFER", 6, "", None);
    world.play(
        "
        alice sends 420/INVITE
        alice sends 405/SUBSCRIBE
        alice sends 501/DANCE
        alice sends 422/UPDATE
        alice sends 400/REFER
        alice hears Offer - by INVITE
        ",
    );
}

#[test]
fn a_body_that_is_no_description_gets_415() {
    let mut world = talking();
    let body = "INVITE sip:alice@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKx\r\nMax-Forwards: 70\r\n\
        From: <sip:bob@example.com>;tag=b\r\nTo: <sip:alice@example.com>;tag=tag-alice\r\nCall-ID: call-1\r\nCSeq: 5 INVITE\r\n\
        Contact: <sip:bob@192.0.2.2>\r\nContent-Type: application/x-thing\r\nContent-Length: 5\r\n\r\nthing";
    world.inject(body);
    world.play("alice sends 415/INVITE");
    assert_eq!(text(&world.received_status(415), HeaderId::Accept), "application/sdp");
}

#[test]
fn a_second_invite_and_update_while_one_is_open_get_500_with_a_pause() {
    let mut world = talking();
    world.request("INVITE", 1, "", Some(sdp("o2")));
    world.request("INVITE", 2, "", Some(sdp("o3")));
    world.play("alice hears Offer o2 by INVITE\nalice sends 500/INVITE");
    let pause = world.received_status(500).retry_after().unwrap().secs;
    assert!(pause <= 10);
    world.request("UPDATE", 3, "", Some(sdp("o3")));
    world.play("alice sends 500/UPDATE");
    assert!(world.received_status(500).retry_after().is_some());
    world.request("UPDATE", 4, "", None);
    world.play("alice sends 200/UPDATE\nalice does answer a2\nalice sends 200/INVITE a2");
}

#[test]
fn a_busy_peer_is_asked_again_after_its_pause() {
    let mut world = talking();
    world.play("alice does reoffer o2\nalice sends INVITE o2");
    world.reply(&world.received(&Method::Invite), 500, "", "Retry-After: 3\r\n", None);
    world.play("alice sends ACK\nwait 3");
    world.play("wait 4.1\nalice sends INVITE o2");
    world.reply(&world.received(&Method::Invite), 500, "", "Retry-After: 3600\r\n", None);
    world.play("alice sends ACK\nalice hears OfferRejected 500");
}

#[test]
fn a_peer_that_always_says_491_is_given_up() {
    let mut world = talking();
    world.act("alice", "reoffer o2");
    for _ in 0..20 {
        let invite = world.received(&Method::Invite);
        world.reply(&invite, 491, "", "", None);
        world.wait(Duration::from_secs(5));
    }
    let rejected = world.sides[ALICE].heard.pop_front();
    assert_eq!(rejected.as_deref(), Some("OfferRejected 491"));
    assert!(world.count_received(&Method::Invite) < 10);
}

#[test]
fn the_pause_after_491_depends_on_who_owns_the_call_id() {
    let mut pauses = Vec::new();
    for seed in 0..50 {
        let mut world = World::alone(config("alice@192.0.2.1")).seeded(seed);
        world.act("alice", "call o1");
        world.reply(&world.received(&Method::Invite), 200, "b", ABLE, Some(sdp("a1")));
        world.skip();
        world.act("alice", "reoffer o2");
        world.reply(&world.received(&Method::Invite), 491, "", "", None);
        let pause = world.session(ALICE).wanted.as_ref().unwrap().not_before.unwrap() - world.now;
        assert!(pause <= Duration::from_secs(4) && pause >= Duration::from_millis(2000), "{pause:?}");
        pauses.push(pause.as_millis() / 100);
    }
    pauses.sort_unstable();
    pauses.dedup();
    assert!(pauses.len() > 5, "{pauses:?}");
}

#[test]
fn a_dialog_that_the_peer_has_forgotten_is_ended() {
    for (method, command, status, cause) in [
        (Method::Invite, "reoffer o2", 481, "Gone"),
        (Method::Update, "update o2", 408, "TransactionFailed"),
        (Method::Info, "info x", 481, "Gone"),
    ] {
        let mut world = talking();
        world.act("alice", command);
        world.reply(&world.received(&method), status, "", "", None);
        let heard: Vec<String> = world.sides[ALICE].heard.drain(..).collect();
        assert_eq!(heard.last().map(String::as_str), Some(&*format!("Ended self {cause}")), "{method:?}");
        world.reply(&world.received(&Method::Bye), 481, "", "", None);
        assert!(world.session(ALICE).is_over());
    }
}

#[test]
fn an_update_that_the_peer_does_not_know_becomes_a_reinvite() {
    let mut world = talking();
    world.play("alice does update o2\nalice sends UPDATE o2");
    world.reply(&world.received(&Method::Update), 405, "", "", None);
    world.play("alice sends INVITE o2");
}

#[test]
fn a_2xx_without_the_answer_ends_a_new_call_and_leaves_an_old_one() {
    let mut world = World::alone(config("alice@192.0.2.1"));
    world.play("alice does call o1\nalice sends INVITE o1");
    world.reply(&world.received(&Method::Invite), 200, "b", CONTACT, None);
    world.play("alice sends ACK\nalice sends BYE\nalice hears Ended self NoAnswer");

    let mut world = talking();
    world.play("alice does reoffer o2\nalice sends INVITE o2");
    world.reply(&world.received(&Method::Invite), 200, "", CONTACT, None);
    world.play("alice sends ACK\nalice hears OfferRejected 488\nalice does bye\nalice sends BYE\nalice hears Ended self Bye");
}

#[test]
fn an_offer_in_a_prack_is_answered_in_its_2xx() {
    let mut world = World::new();
    world.play(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        ",
    );
    // Bob's session, and a caller that can do more than ours.
    world.sides[ALICE].session = None;
    world.sides[ALICE].by_hand = true;
    world.play("bob does progress 183 a1\nbob sends 183/INVITE a1 rel");
    let progress = world.sides[ALICE].inbox.iter().rfind(|m| m.status() == 183).unwrap().clone();
    assert!(progress.has_option(HeaderId::Require, "100rel") && progress.allows(&Method::Update));
    let rseq = progress.rseq().unwrap();
    let prack = |rseq: u32, cseq: u32, body: &str| {
        let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "PRACK sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKp{cseq}\r\nMax-Forwards: 70\r\n\
             From: \"A, alice\" <sip:alice@example.com>;tag=tag-alice\r\nTo: <sip:bob@example.com>;tag=tag-bob\r\nCall-ID: call-1\r\n\
             CSeq: {cseq} PRACK\r\nRAck: {rseq} 1 INVITE\r\n{content}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    world.inject_to(BOB, &prack(rseq + 1, 2, ""));
    world.play("bob sends 481/PRACK");
    let offer = String::from_utf8(sdp("o2").to_vec()).unwrap();
    world.inject_to(BOB, &prack(rseq, 3, &offer));
    world.play("bob hears Offer o2 by PRACK\nbob does accept\nbob does answer a2\nbob sends 200/PRACK a2\nbob sends 200/INVITE");
    world.inject_to(BOB, &prack(rseq, 4, ""));
    world.play("bob sends 481/PRACK");
}

const CHALLENGE: &str = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", qop=\"auth\"\r\n";
const STALE: &str = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n2\", qop=\"auth\", stale=true\r\n";
const PROXY: &str = "Proxy-Authenticate: Digest realm=\"p\", nonce=\"n3\", qop=\"auth\"\r\n";

fn with_password() -> World {
    let mut world = World::alone(config("alice@192.0.2.1"));
    world.sides[ALICE].credentials = Some(Client::new(Login::new("alice", "secret"), [9; 32]));
    world.play("alice does call o1\nalice sends INVITE o1");
    world
}

#[test]
fn challenges_are_answered_and_the_ack_repeats_the_credentials() {
    let mut world = with_password();
    let first = world.received(&Method::Invite);
    world.reply(&first, 407, "p", PROXY, None);
    world.play("alice sends ACK\nalice sends INVITE o1");
    let second = world.received(&Method::Invite);
    assert_eq!(second.cseq().unwrap().number, first.cseq().unwrap().number + 1);
    assert_eq!(
        (second.from_tag(), second.to_tag(), second.call_id()),
        (first.from_tag(), None, first.call_id())
    );
    assert!(text(&second, HeaderId::ProxyAuthorization).contains("realm=\"p\""));
    world.reply(&second, 401, "b", CHALLENGE, None);
    world.reply(&world.received(&Method::Invite), 401, "b", STALE, None);
    world.skip();
    let last = world.received(&Method::Invite);
    assert!(text(&last, HeaderId::Authorization).contains("nonce=\"n2\""));
    world.reply(&last, 200, "b", ABLE, Some(sdp("a1")));
    world.play("alice sends ACK\nalice hears Answered a1 fork0");
    let ack = world.received(&Method::Ack);
    assert_eq!(text(&ack, HeaderId::Authorization), text(&last, HeaderId::Authorization));
    assert_eq!(text(&ack, HeaderId::ProxyAuthorization), text(&last, HeaderId::ProxyAuthorization));

    // Requests inside the dialog are challenged too.
    world.play("alice does info x\nalice sends INFO");
    world.reply(
        &world.received(&Method::Info),
        407,
        "",
        "Proxy-Authenticate: Digest realm=\"p\", nonce=\"n4\", qop=\"auth\"\r\n",
        None,
    );
    world.play("alice sends INFO");
    world.reply(&world.received(&Method::Info), 200, "", "", None);
    world.play("alice hears Replied INFO 200\nalice does bye\nalice sends BYE\nalice hears Ended self Bye");
}

#[test]
fn a_wrong_password_is_tried_once() {
    let mut world = with_password();
    world.reply(&world.received(&Method::Invite), 401, "b", CHALLENGE, None);
    world.play("alice sends ACK\nalice sends INVITE o1");
    world.reply(&world.received(&Method::Invite), 401, "b", CHALLENGE, None);
    world.play("alice sends ACK\nalice hears Rejected 401");
    let (mut world, _) = (World::alone(config("alice@192.0.2.1")), ());
    world.play("alice does call o1\nalice sends INVITE o1");
    world.reply(&world.received(&Method::Invite), 401, "b", CHALLENGE, None);
    world.play("alice sends ACK\nalice hears Rejected 401");
}

#[test]
fn a_cancelled_call_is_not_retried() {
    let mut world = with_password();
    let invite = world.received(&Method::Invite);
    world.reply(&invite, 180, "b", CONTACT, None);
    world.play("alice hears Progress 180 - fork0\nalice does cancel\nalice sends CANCEL");
    world.reply(&invite, 401, "b", CHALLENGE, None);
    world.play("alice sends ACK\nalice hears Rejected 401");
    world.reply(&world.received(&Method::Cancel), 200, "b", "", None);
    assert!(world.session(ALICE).is_over());
}

#[test]
fn requests_of_the_user_travel_both_ways() {
    let mut world = World::new();
    world.play(TALK);
    world.play(
        "
        alice does info dtmf
        alice sends INFO
        bob hears Info dtmf
        bob does respond-info 200
        bob sends 200/INFO
        alice hears Replied INFO 200
        bob does message hello
        bob sends MESSAGE
        alice hears Message hello
        alice does respond-message 200
        alice sends 200/MESSAGE
        bob hears Replied MESSAGE 200
        bob does refer sip:carol@example.com
        bob sends REFER
        alice hears Refer sip:carol@example.com
        alice does respond-refer 202
        alice sends 202/REFER
        bob hears Replied REFER 202
        alice does notify terminated
        alice sends NOTIFY
        bob sends 200/NOTIFY
        bob hears Notify terminated
        alice hears Replied NOTIFY 200
        alice cannot respond-info 200
        alice does info lost
        alice sends INFO
        bob hears Info lost
        wait 21
        bob sends 500/INFO
        alice hears Replied INFO 500
        ",
    );
}

#[test]
fn replaces_is_read() {
    let mut world = World::new();
    world.sides[ALICE].lines.push("Replaces", "abc@d;to-tag=1;from-tag=2;early-only");
    world.play("alice does call o1\nalice sends INVITE o1\nbob hears Incoming o1");
    let replaces = world.session(BOB).replaces().unwrap().clone();
    assert_eq!((&*replaces.call_id, &*replaces.to_tag, &*replaces.from_tag), ("abc@d", "1", "2"));
    assert!(replaces.early_only);
}

#[test]
fn an_invite_that_requires_what_we_have_switched_off_gets_420() {
    let (mut alice, mut bob) = (config("alice@192.0.2.1"), config("bob@192.0.2.2"));
    alice.rel100 = Rel100::Required;
    bob.rel100 = Rel100::Off;
    let mut world = World::with(alice, bob);
    world.play("alice does call o1\nalice sends INVITE o1\nbob sends 420/INVITE\nalice sends ACK\nalice hears Rejected 420");
}

#[test]
fn an_invitation_expires() {
    let mut world = World::new();
    world.sides[ALICE].lines.push("Expires", "20");
    world.play(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        wait 19
        ",
    );
    world.play_to_the_end(
        "wait 2\nbob sends 487/INVITE\nalice sends ACK\nbob hears Cancelled\nalice hears Rejected 487",
    );
}

#[test]
fn a_long_ring_is_repeated_every_minute() {
    let mut world = World::new();
    world.play(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        bob does progress 180
        bob sends 180/INVITE
        alice hears Progress 180 - fork0
        wait 61
        alice hears Progress 180 - fork0
        wait 60
        alice hears Progress 180 - fork0
        ",
    );
}

#[test]
fn the_will_fits_the_state() {
    let will = |world: &mut World, side: usize| -> String {
        let will = world.session(side).last_will();
        let words = will.iter().map(|action| match action {
            Action::Request { draft, .. } => draft.method.as_str().to_owned(),
            Action::Respond { draft, .. } => draft.status.to_string(),
            Action::Cancel { .. } => "CANCEL".to_owned(),
            Action::Ack { .. } => "ACK".to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    };
    let mut world = World::new();
    world.play("alice does call -\nalice sends INVITE\nbob hears Incoming -");
    assert_eq!((will(&mut world, ALICE), will(&mut world, BOB)), ("CANCEL".into(), "500".into()));
    world.play("bob does accept o1\nbob sends 200/INVITE o1\nalice hears Answered o1 fork0");
    assert_eq!((will(&mut world, ALICE), will(&mut world, BOB)), ("ACK BYE".into(), "BYE".into()));
    world.play("alice does answer a1\nalice sends ACK a1\nbob hears Confirmed a1");
    assert_eq!((will(&mut world, ALICE), will(&mut world, BOB)), ("BYE".into(), "BYE".into()));
    world.play("alice does info x\nalice sends INFO\nbob hears Info x\nalice does update o2\nalice sends UPDATE o2\nbob hears Offer o2 by UPDATE");
    assert_eq!(will(&mut world, BOB), "500 500 BYE");
    world.play("alice does bye\nalice sends BYE\nalice hears Ended self Bye\nbob sends 200/BYE\nbob sends 487/INFO\nbob sends 487/UPDATE\nbob hears Ended peer Bye");
    assert_eq!((will(&mut world, ALICE), will(&mut world, BOB)), (String::new(), String::new()));
}

#[test]
fn headers_of_the_user_go_along_and_cannot_break_out() {
    let mut world = World::new();
    world.play("alice does call o1\nalice sends INVITE o1\nbob hears Incoming o1");
    let mut headers = HeaderText::new();
    headers.push("Alert-Info", "<urn:alert:service:normal>\r\nX-Evil: 1");
    headers.push("Contact", "<sip:evil@example.com>");
    world.command(BOB, Command::Progress { status: 180, sdp: None, headers: headers.clone() }).unwrap();
    world
        .command(BOB, Command::Reject { status: 302, reason: Some("Gone\r\nX: 1".into()), headers })
        .unwrap();
    world.play(
        "
        bob sends 180/INVITE
        bob sends 302/INVITE
        alice sends ACK
        alice hears Progress 180 - fork0
        alice hears Rejected 302
        bob hears Ended self Refused
        ",
    );
    assert!(
        world
            .command(BOB, Command::Reject { status: 200, reason: None, headers: HeaderText::new() })
            .is_err()
    );
}

#[test]
fn a_prack_that_was_overtaken_is_sent_again() {
    let mut world = World::alone(config("alice@192.0.2.1"));
    world.play("alice does call o1\nalice sends INVITE o1");
    let invite = world.received(&Method::Invite);
    world.reply(&invite, 183, "b", &format!("{ABLE}Require: 100rel\r\nRSeq: 9\r\n"), Some(sdp("a1")));
    world.play("alice sends PRACK\nalice hears Progress 183 a1 fork0");
    for _ in 0..3 {
        world.reply(&world.received(&Method::Prack), 500, "", "", None);
        world.play("alice sends PRACK");
        assert_eq!(text(&world.received(&Method::Prack), HeaderId::RAck), "9 1 INVITE");
    }
    world.reply(&world.received(&Method::Prack), 500, "", "", None);
    world.play("alice does cancel\nalice sends CANCEL");
}

#[test]
fn requests_go_where_the_configuration_says() {
    let mut cfg = config("alice@192.0.2.1");
    cfg.peer_address = PeerAddress::NextHop;
    let mut world = World::alone(cfg);
    world.act("alice", "call o1");
    let invite = world.received(&Method::Invite);
    world.reply(&invite, 200, "b", "Contact: <sip:bob@198.51.100.7:5090>\r\n", Some(sdp("a1")));
    assert_eq!(world.session(ALICE).destination().flow.remote, "198.51.100.7:5090".parse().unwrap());

    let (mut world, _) = talking_with("Contact: <sip:bob@198.51.100.7:5090>\r\n");
    assert_eq!(world.session(ALICE).destination().flow.remote, "192.0.2.2:5060".parse().unwrap());
}

#[test]
fn the_user_cannot_flood_the_peer() {
    let mut world = talking();
    for _ in 0..16 {
        world.act("alice", "info x");
    }
    world.play("alice cannot info x\nalice does bye\nalice sends BYE\nalice hears Ended self Bye");
}

#[test]
fn the_peer_cannot_flood_the_user() {
    let mut world = talking();
    for cseq in 1..=40 {
        world.request("INFO", cseq, "", None);
    }
    assert_eq!(world.sides[ALICE].heard.len(), 16);
    world.skip();
    world.wait(Duration::from_secs(21));
    assert_eq!(world.session(ALICE).asked.len(), 0);
}
