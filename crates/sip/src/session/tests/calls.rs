//! Calls without frills: ring, answer, refuse, cancel, hang up, and what crosses.

use super::world::{World, config, sdp};
use crate::msg::Method;
use std::time::Duration;

#[track_caller]
fn ladder(text: &str) {
    World::new().play_to_the_end(text);
}

/// Alice and bob talk.
pub(super) const TALK: &str = "
    alice does call o1
    alice sends INVITE o1
    bob hears Incoming o1
    bob does accept a1
    bob sends 200/INVITE a1
    alice sends ACK
    alice hears Answered a1 fork0
    bob hears Confirmed -
";

#[test]
fn ringing_answer_and_hang_up_by_the_caller() {
    ladder(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        bob does progress 180
        bob sends 180/INVITE
        alice hears Progress 180 - fork0
        bob does accept a1
        bob sends 200/INVITE a1
        alice sends ACK
        alice hears Answered a1 fork0
        bob hears Confirmed -
        wait 60
        alice does bye
        alice sends BYE
        bob sends 200/BYE
        alice hears Ended self Bye
        bob hears Ended peer Bye
        ",
    );
}

#[test]
fn the_callee_hangs_up() {
    let mut world = World::new();
    world.play(TALK);
    world.play_to_the_end(
        "
        bob does bye
        bob sends BYE
        alice sends 200/BYE
        bob hears Ended self Bye
        alice hears Ended peer Bye
        ",
    );
}

#[test]
fn busy() {
    ladder(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        bob does reject 486
        bob sends 486/INVITE
        alice sends ACK
        alice hears Rejected 486
        bob hears Ended self Refused
        ",
    );
}

#[test]
fn the_caller_gives_up_while_ringing() {
    ladder(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        bob does progress 180
        bob sends 180/INVITE
        alice hears Progress 180 - fork0
        alice does cancel
        alice sends CANCEL
        bob sends 200/CANCEL
        bob sends 487/INVITE
        alice sends ACK
        alice hears Rejected 487
        bob hears Cancelled
        bob cannot accept a1
        ",
    );
}

#[test]
fn a_cancel_waits_for_the_first_sign_of_life() {
    ladder(
        "
        lose bob 1
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        alice does cancel
        bob does progress 180
        bob sends 180/INVITE
        alice sends CANCEL
        bob sends 200/CANCEL
        bob sends 487/INVITE
        alice sends ACK
        alice hears Rejected 487
        bob hears Cancelled
        ",
    );
}

#[test]
fn cancel_crosses_the_answer() {
    ladder(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        bob does progress 180
        bob sends 180/INVITE
        alice hears Progress 180 - fork0
        hold
        alice does cancel
        bob does accept a1
        go
        alice sends CANCEL
        bob sends 200/INVITE a1
        bob sends 200/CANCEL
        alice sends ACK
        alice sends BYE
        bob sends 200/BYE
        alice hears Ended self Cancelled
        bob hears Confirmed -
        bob hears Ended peer Bye
        ",
    );
}

#[test]
fn byes_cross() {
    let mut world = World::new();
    world.play(TALK);
    world.play_to_the_end(
        "
        hold
        alice does bye
        bob does bye
        go
        alice sends BYE
        bob sends BYE
        bob sends 200/BYE
        alice sends 200/BYE
        alice hears Ended self Bye
        bob hears Ended self Bye
        ",
    );
}

#[test]
fn a_lost_2xx_is_repeated_until_the_ack() {
    let mut world = World::new();
    world.play(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        lose bob 3
        bob does accept a1
        bob sends 200/INVITE a1
        wait 1
        wait 3
        alice hears Answered a1 fork0
        alice sends ACK
        bob hears Confirmed -
        ",
    );
    let before = world.count;
    world.play("wait 60");
    assert_eq!(world.count, before, "nothing is repeated after the ACK");
}

#[test]
fn a_lost_ack_is_sent_again_for_each_2xx() {
    ladder(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        lose alice 3
        bob does accept a1
        bob sends 200/INVITE a1
        alice sends ACK
        alice hears Answered a1 fork0
        wait 10
        bob hears Confirmed -
        bob does bye
        bob sends BYE
        alice sends 200/BYE
        bob hears Ended self Bye
        alice hears Ended peer Bye
        ",
    );
}

#[test]
fn a_2xx_that_nobody_acknowledges_ends_in_bye() {
    let mut world = World::new();
    world.play(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        lose alice 40
        bob does accept a1
        bob sends 200/INVITE a1
        alice sends ACK
        alice hears Answered a1 fork0
        wait 31.6
        ",
    );
    world.play_to_the_end(
        "
        lose alice 0
        wait 1
        bob sends BYE
        alice sends 200/BYE
        bob hears Ended self NoAck
        alice hears Ended peer Bye
        ",
    );
}

#[test]
fn the_callee_hangs_up_before_the_ack_and_the_bye_waits_for_it() {
    ladder(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        lose alice 1
        bob does accept a1
        bob sends 200/INVITE a1
        alice sends ACK
        alice hears Answered a1 fork0
        bob does bye
        bob hears Ended self Bye
        wait 1
        bob sends BYE
        alice sends 200/BYE
        alice hears Ended peer Bye
        ",
    );
}

#[test]
fn the_callee_hangs_up_and_the_ack_never_comes() {
    let mut world = World::new();
    world.play(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        lose alice 1000
        bob does accept a1
        bob sends 200/INVITE a1
        alice sends ACK
        alice hears Answered a1 fork0
        bob does bye
        bob hears Ended self Bye
        wait 31
        ",
    );
    world.play("wait 2\nbob sends BYE\nalice hears Ended peer Bye\nalice sends 200/BYE");
    world.play_to_the_end("wait 40");
}

#[test]
fn the_caller_hangs_up_an_early_dialog_by_bye() {
    // Our own callers cancel; others may send BYE (RFC 3261 section 15).
    ladder(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        bob does progress 180
        bob sends 180/INVITE
        alice hears Progress 180 - fork0
        alice does bye
        alice sends CANCEL
        bob sends 200/CANCEL
        bob sends 487/INVITE
        alice sends ACK
        alice hears Rejected 487
        bob hears Cancelled
        ",
    );
}

#[test]
fn the_callee_hangs_up_before_it_answers() {
    ladder(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        bob does bye
        bob sends 480/INVITE
        alice sends ACK
        alice hears Rejected 480
        bob hears Ended self Bye
        ",
    );
}

#[test]
fn nobody_there() {
    ladder(
        "
        lose alice 1000
        alice does call o1
        alice sends INVITE o1
        wait 31
        wait 2
        alice hears Rejected 408
        ",
    );
}

/// Alice waits eight seconds for a sign of life.
fn hasty(alone: bool) -> World {
    let mut alice = config("alice@192.0.2.1");
    alice.first_response = Some(Duration::from_secs(8));
    if alone { World::alone(alice) } else { World::with(alice, config("bob@192.0.2.2")) }
}

#[test]
fn who_says_nothing_at_all_is_given_up_early() {
    let mut world = hasty(false);
    world.play("lose alice 1000\nalice does call o1\nalice sends INVITE o1\nwait 7.9");
    world.play_to_the_end("wait 0.2\nalice hears Rejected 408\nalice cannot cancel");
}

#[test]
fn any_response_is_a_sign_of_life() {
    for status in [100, 180] {
        let mut world = hasty(true);
        world.play("alice does call o1\nalice sends INVITE o1\nwait 7.9");
        world.reply(&world.received(&Method::Invite), status, if status > 100 { "b" } else { "" }, "", None);
        world.skip();
        world.play("wait 60");
    }
}

#[test]
fn who_wakes_after_it_was_given_up_is_cancelled() {
    // Five copies of the INVITE are lost, the one after 15.5 s gets through.
    let mut world = hasty(false);
    world.play("lose alice 5\nalice does call o1\nalice sends INVITE o1\nwait 10\nalice hears Rejected 408");
    world.play_to_the_end(
        "
        wait 6
        bob hears Incoming o1
        alice sends CANCEL
        bob sends 200/CANCEL
        bob sends 487/INVITE
        alice sends ACK
        bob hears Cancelled
        ",
    );
}

#[test]
fn who_answers_after_it_was_given_up_is_hung_up() {
    let mut world = hasty(true);
    world.play("alice does call o1\nalice sends INVITE o1\nwait 10\nalice hears Rejected 408");
    let invite = world.received(&Method::Invite);
    world.reply(&invite, 200, "b", "Contact: <sip:bob@192.0.2.2>\r\n", Some(sdp("a1")));
    world.play("alice sends ACK\nalice sends BYE");
}

#[test]
fn a_bye_into_silence_ends_all_the_same() {
    let mut world = World::new();
    world.play(TALK);
    world.play(
        "
        lose alice 1000
        alice does bye
        alice sends BYE
        alice hears Ended self Bye
        wait 33
        ",
    );
    assert!(world.session(super::world::ALICE).is_over());
    assert!(!world.session(super::world::BOB).is_over());
}

/// RFC 3263 section 4.3: whoever does not answer, or says 503, may be elsewhere.
#[test]
fn a_call_goes_to_the_next_address_when_one_fails_and_to_none_behind_that() {
    use crate::flow::{ConnId, Flow, Transport};
    use crate::session::{Action, Event, Failure, Outgoing, Session, SessionConfig};
    use crate::transaction::Destination;
    use std::sync::Arc;
    use std::time::Instant;
    #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
    let now = Instant::now();
    let place = |port: u16| Destination {
        flow: Flow {
            transport: Transport::Udp,
            listener: 0,
            remote: ([192, 0, 2, 1], port).into(),
            conn: ConnId(0),
        },
        stream_first: false,
    };
    let cfg =
        SessionConfig { first_response: Some(Duration::from_secs(8)), ..SessionConfig::new("<sip:us>") };
    let call = Outgoing {
        target: "sip:bob@carrier.example".to_owned(),
        from: "<sip:alice@us.example>".to_owned(),
        to: "<sip:bob@carrier.example>".to_owned(),
        call_id: "1".to_owned(),
        local_tag: "a".to_owned(),
        route: Vec::new(),
        headers: crate::draft::HeaderText::new(),
        offer: Some(sdp("o1")),
        credentials: None,
        destination: place(1),
        elsewhere: vec![place(2), place(3)],
    };
    let mut session = Session::outgoing(Arc::new(cfg), call, now);
    let next = |session: &mut Session| loop {
        match session.poll_action() {
            Some(Action::Request { seq, draft, to }) => {
                assert_eq!(draft.method, Method::Invite);
                return Some((seq, to.flow.remote.port(), draft));
            }
            Some(_) => {}
            None => return None,
        }
    };
    let (seq, port, _) = next(&mut session).unwrap();
    assert_eq!(port, 1);
    session.handle_failure(seq, Failure::Transport, now);
    let (_, port, _) = next(&mut session).unwrap();
    assert_eq!(port, 2, "the connection failed");
    session.handle_timeout(now + Duration::from_secs(9));
    let (seq, port, draft) = next(&mut session).unwrap();
    assert_eq!(port, 3, "it said nothing at all");
    assert!(session.poll_event().is_none(), "the user knows of none of that");
    assert!(!draft.body.is_empty());
    session.handle_failure(seq, Failure::Timeout, now);
    assert!(next(&mut session).is_none());
    assert!(matches!(session.poll_event(), Some(Event::Rejected { status: 408, .. })));
}
