//! One INVITE, several answers: early dialogs of forks, the first 2xx wins, the others get ACK and BYE.

use super::world::{ALICE, World, config, describe, sdp};
use crate::msg::{HeaderId, Message, Method};
use std::time::Duration;

fn contact(host: u8) -> String {
    format!("Contact: <sip:bob@192.0.2.{host}>\r\n")
}

fn called(offer: &str) -> (World, Message) {
    let mut world = World::alone(config("alice@192.0.2.1"));
    world.act("alice", &format!("call {offer}"));
    let invite = world.received(&Method::Invite);
    (world, invite)
}

fn to_tag(msg: &Message) -> String {
    String::from_utf8_lossy(msg.to_tag().unwrap_or_default()).into_owned()
}

#[test]
fn the_first_2xx_wins_and_the_others_are_acknowledged_and_hung_up() {
    let (mut world, invite) = called("o1");
    world.reply(&invite, 180, "x", &contact(11), None);
    world.reply(&invite, 183, "y", &contact(12), Some(sdp("y1")));
    world.reply(&invite, 180, "x", &contact(11), None);
    world.play(
        "alice hears Progress 180 - fork0\nalice hears Progress 183 y1 fork1\nalice hears Progress 180 - fork0",
    );
    world.reply(&invite, 200, "y", &contact(12), Some(sdp("y1")));
    world.play("alice sends ACK\nalice hears Answered y1 fork1");
    assert_eq!(world.received(&Method::Ack).request_uri(), b"sip:bob@192.0.2.12");

    world.reply(&invite, 200, "x", &contact(11), Some(sdp("x1")));
    world.play("alice sends BYE");
    let bye = world.received(&Method::Bye);
    assert_eq!((to_tag(&bye), bye.request_uri()), ("x".to_owned(), b"sip:bob@192.0.2.11".as_slice()));
    assert_eq!(bye.cseq().unwrap().number, invite.cseq().unwrap().number + 1);
    assert_eq!(to_tag(&world.received(&Method::Ack)), "x");
    // A repeat of it gets the ACK once more, and no second BYE.
    let acks = world.count_received(&Method::Ack);
    world.reply(&invite, 200, "x", &contact(11), Some(sdp("x1")));
    assert_eq!((world.count_received(&Method::Ack), world.count_received(&Method::Bye)), (acks + 1, 1));
    // One that never rang at all.
    world.reply(&invite, 200, "z", &contact(13), Some(sdp("z1")));
    assert_eq!(world.count_received(&Method::Bye), 2);
    world.reply(&bye, 200, "", "", None);
    world.reply(&world.received(&Method::Bye), 481, "", "", None);
    world.skip();

    // The call with y goes on undisturbed, and its end waits for late forks.
    world.play("alice does bye\nalice sends BYE\nalice hears Ended self Bye");
    let bye = world.received(&Method::Bye);
    assert_eq!(to_tag(&bye), "y");
    world.reply(&bye, 200, "", "", None);
    assert!(!world.session(ALICE).is_over());
    world.wait(Duration::from_secs(33));
    assert!(world.session(ALICE).is_over());
}

#[test]
fn a_late_fork_is_dealt_with_without_a_session() {
    let (mut world, invite) = called("o1");
    world.reply(&invite, 200, "x", &contact(11), Some(sdp("x1")));
    world.play("alice sends ACK\nalice hears Answered x1 fork0\nalice does bye\nalice sends BYE\nalice hears Ended self Bye");
    world.reply(&world.received(&Method::Bye), 200, "", "", None);
    assert!(world.session(ALICE).is_over(), "no other fork has shown itself");

    let route = "Record-Route: <sip:p2.example.com;lr>, <sip:p1.example.com;lr>\r\n";
    let text = format!(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1\r\nFrom: {}\r\nTo: <sip:bob@example.com>;tag=late\r\n\
         Call-ID: {}\r\nCSeq: 1 INVITE\r\n{route}{}Content-Length: 0\r\n\r\n",
        String::from_utf8_lossy(invite.header(HeaderId::From).unwrap()),
        String::from_utf8_lossy(invite.call_id()),
        contact(14),
    );
    let late = Message::parse(text.into()).unwrap();
    let (ack, bye) = World::stray(&late);
    for (text, number) in [(ack, "1 ACK"), (bye, "2 BYE")] {
        assert!(text.starts_with("sip:bob@192.0.2.14 "), "{text}");
        assert!(
            text.contains("Route: <sip:p1.example.com;lr>\r\nRoute: <sip:p2.example.com;lr>\r\n"),
            "{text}"
        );
        assert!(
            text.contains("tag=late") && text.contains("tag=tag-alice") && text.contains(number),
            "{text}"
        );
    }
}

#[test]
fn every_fork_counts_its_reliable_responses_for_itself() {
    let (mut world, invite) = called("o1");
    let reliable = |host: u8, rseq: u32| format!("{}Require: 100rel\r\nRSeq: {rseq}\r\n", contact(host));
    let pracks = |world: &World| -> Vec<String> {
        let inbox = world.sides[1].inbox.iter();
        let pracks = inbox.filter(|m| m.method_is(&Method::Prack));
        pracks
            .map(|m| format!("{} {}", to_tag(m), String::from_utf8_lossy(m.header(HeaderId::RAck).unwrap())))
            .collect()
    };
    world.reply(&invite, 180, "x", &reliable(11, 10), None);
    world.reply(&invite, 180, "y", &reliable(12, 70), None);
    // A repeat, a gap, and the next one.
    world.reply(&invite, 180, "x", &reliable(11, 10), None);
    world.reply(&invite, 183, "x", &reliable(11, 12), Some(sdp("x2")));
    assert_eq!(pracks(&world), ["x 10 1 INVITE", "y 70 1 INVITE"]);
    world.reply(&invite, 183, "x", &reliable(11, 11), Some(sdp("x1")));
    assert_eq!(pracks(&world).len(), 3);
    world.play(
        "
        alice sends PRACK
        alice sends PRACK
        alice sends PRACK
        alice hears Progress 180 - fork0
        alice hears Progress 180 - fork1
        alice hears Progress 183 x1 fork0
        ",
    );
    // What comes after the reliable answer is ignored (RFC 6337 section 3.1.1).
    world.reply(&invite, 183, "x", &contact(11), Some(sdp("x9")));
    world.play("alice hears Progress 183 - fork0");
    world.reply(&invite, 200, "x", &contact(11), Some(sdp("x9")));
    world.play("alice sends ACK\nalice hears Answered x1 fork0");
    // The PRACKs counted on: the BYE has the fifth number of x.
    world.play("alice does bye\nalice sends BYE\nalice hears Ended self Bye");
    assert_eq!(world.received(&Method::Bye).cseq().unwrap().number, 4);
}

#[test]
fn forks_of_a_delayed_offer_are_answered_each_in_turn() {
    let (mut world, invite) = called("-");
    let reliable = |host: u8| format!("{}Require: 100rel\r\nRSeq: 5\r\n", contact(host));
    world.reply(&invite, 183, "x", &reliable(11), Some(sdp("x1")));
    world.reply(&invite, 183, "y", &reliable(12), Some(sdp("y1")));
    world.play(
        "
        alice hears Progress 183 x1 fork0
        alice hears Progress 183 y1 fork1
        alice does answer ax
        alice sends PRACK ax
        alice does answer ay
        alice sends PRACK ay
        alice cannot answer az
        ",
    );
    let tags: Vec<String> =
        world.sides[1].inbox.iter().filter(|m| m.method_is(&Method::Prack)).map(to_tag).collect();
    assert_eq!(tags, ["x", "y"]);
    world.reply(&invite, 200, "x", &contact(11), None);
    world.play("alice sends ACK\nalice hears Answered - fork0");
}

#[test]
fn a_fork_that_says_bye_leaves_the_others_ringing() {
    let (mut world, invite) = called("o1");
    world.reply(&invite, 180, "x", &contact(11), None);
    world.reply(&invite, 180, "y", &contact(12), None);
    world.request("BYE", 1, "", None);
    world.play("alice hears Progress 180 - fork0\nalice hears Progress 180 - fork1\nalice sends 200/BYE");
    world.reply(&invite, 200, "x", &contact(11), Some(sdp("x1")));
    world.play("alice sends ACK\nalice hears Answered x1 fork0");
}

#[test]
fn a_flood_of_forks_is_bounded() {
    let (mut world, invite) = called("o1");
    for fork in 0..200 {
        world.reply(&invite, 180, &format!("t{fork}"), &contact(11), None);
    }
    assert_eq!(world.sides[ALICE].heard.len(), 16);
    world.skip();
    world.reply(&invite, 200, "t150", &contact(11), Some(sdp("x1")));
    world.play("alice sends ACK\nalice hears Answered x1 fork16");
    for fork in 0..200 {
        world.reply(&invite, 200, &format!("t{fork}"), &contact(11), Some(sdp("x1")));
    }
    assert_eq!(world.count_received(&Method::Bye), 16);
    assert!(
        world.sides[1].inbox.iter().all(|m| !m.is_request() || describe(m) != "BYE" || to_tag(m) != "t150")
    );
}

#[test]
fn a_refusal_ends_all_forks() {
    let (mut world, invite) = called("o1");
    world.reply(&invite, 180, "x", &contact(11), None);
    world.reply(&invite, 180, "y", &contact(12), None);
    world.skip();
    let lines =
        "Contact: <sip:bob@elsewhere.example.com>;q=0.5, <tel:+123>\r\nRetry-After: 5\r\nX-Other: 1\r\n";
    world.reply(&invite, 302, "x", lines, None);
    world.play("alice sends ACK\nalice hears Rejected 302");
    assert!(world.session(ALICE).is_over());
}

#[test]
fn a_call_that_the_callee_ended_by_bye_is_not_revived_by_another_fork() {
    let (mut world, invite) = called("o1");
    world.reply(&invite, 180, "x", &contact(11), None);
    world.request("BYE", 1, "", None);
    world.play("alice hears Progress 180 - fork0\nalice sends 200/BYE\nalice sends CANCEL\nalice hears Ended peer Bye");
    world.reply(&invite, 200, "y", &contact(12), Some(sdp("y1")));
    world.play("alice sends ACK\nalice sends BYE");
    assert_eq!(to_tag(&world.received(&Method::Bye)), "y");
    world.reply(&world.received(&Method::Bye), 200, "", "", None);
    assert!(world.session(ALICE).is_over());
}
