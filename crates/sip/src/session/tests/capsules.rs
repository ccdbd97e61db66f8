//! Sessions that another node carries on from their capsule: the peer notices nothing.

use super::calls::TALK;
use super::lossy::{Nodes, play};
use super::world::{ALICE, BOB, World, config, sdp};
use crate::msg::{HeaderId, Message, Method};
use crate::session::{Action, CAPSULE_MAX, Capsule, CapsuleError, Command, Session};
use bytes::Bytes;
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

fn talking() -> World {
    let mut world = World::new();
    world.play(TALK);
    world
}

#[test]
fn hold_refresh_and_bye_work_from_both_sides_after_a_move() {
    for (mover, other) in [("alice", "bob"), ("bob", "alice")] {
        for (ends, hears) in [(mover, other), (other, mover)] {
            let mut world = talking();
            world.play(&format!(
                "
                move {mover}
                {mover} does reoffer hold1
                {mover} sends INVITE hold1
                {other} hears Offer hold1 by INVITE
                {other} does answer held1
                {other} sends 200/INVITE held1
                {mover} sends ACK
                {mover} hears Answer held1
                move {mover}
                {other} does update o2
                {other} sends UPDATE o2
                {mover} hears Offer o2 by UPDATE
                {mover} does answer a2
                {mover} sends 200/UPDATE a2
                {other} hears Answer a2
                move {mover}
                {other} does info x
                {other} sends INFO
                {mover} hears Info x
                {mover} does respond-info 200
                {mover} sends 200/INFO
                {other} hears Replied INFO 200
                move {mover}
                "
            ));
            world.play_to_the_end(&format!(
                "
                {ends} does bye
                {ends} sends BYE
                {hears} sends 200/BYE
                {ends} hears Ended self Bye
                {hears} hears Ended peer Bye
                "
            ));
        }
    }
}

#[test]
fn a_move_now_and_then_changes_nothing_that_users_hear() {
    let mut moves = 0;
    let mut largest = 0;
    for seed in 0..100 {
        let (stayed, _) = play(seed, 0, Nodes::Stay);
        let (moved, world) = play(seed, 0, Nodes::Move);
        for side in [ALICE, BOB] {
            assert_eq!(moved[side].story, stayed[side].story, "seed {seed}, side {side}");
            moves += u32::from(world.sides[side].moves);
        }
        largest = largest.max(world.largest_capsule);
    }
    assert!(moves > 400, "{moves}");
    println!("{moves} moves; the largest capsule has {largest} octets");
    assert!(largest < 1024, "{largest}");
}

#[test]
fn calls_over_a_bad_wire_come_to_rest_whatever_moves() {
    let mut ended = 0;
    for seed in 1000..1200 {
        let (users, _) = play(seed, 20, Nodes::Move);
        for user in users {
            let is_end =
                |event: &&String| ["Ended", "Cancelled", "Rejected"].iter().any(|end| event.starts_with(end));
            let ends = user.story.iter().filter(is_end).count();
            assert!(ends == 1 || user.story.is_empty(), "seed {seed}: {:?}", user.story);
            ended += ends;
        }
    }
    assert!(ended > 350, "{ended}");
}

#[test]
fn what_a_peer_asks_for_while_its_session_goes_elsewhere_is_refused_so_that_it_asks_again() {
    let mut world = talking();
    let refusals = |world: &mut World| {
        let all = world.session(BOB).refusals().into_iter();
        let status = |action| if let Action::Respond { draft, .. } = action { draft.status } else { 0 };
        all.map(status).collect::<Vec<_>>()
    };
    assert_eq!(refusals(&mut world), []);
    world.play("alice does reoffer hold1\nalice sends INVITE hold1\nbob hears Offer hold1 by INVITE");
    assert_eq!(refusals(&mut world), [491]);
    let mut ringing = World::new();
    ringing.play("alice does call o1\nalice sends INVITE o1\nbob hears Incoming o1");
    assert_eq!(refusals(&mut ringing), [], "an INVITE that nobody has answered is its call's to refuse");
}

#[test]
fn a_session_with_something_open_does_not_fit_into_a_capsule() {
    let mut world = World::new();
    let fits = |world: &mut World| {
        [ALICE, BOB].map(|side| {
            let now = world.now;
            let session = world.session(side);
            assert_eq!(session.capsule(now).is_some(), session.capsule_print().is_some());
            session.is_at_rest()
        })
    };
    world.play("alice does call o1\nalice sends INVITE o1\nbob hears Incoming o1");
    assert_eq!(fits(&mut world), [false, false]);
    world.play("hold\nbob does accept a1\nbob sends 200/INVITE a1");
    assert_eq!(fits(&mut world), [false, false], "the ACK is to come");
    world.play("go\nalice sends ACK\nalice hears Answered a1 fork0\nbob hears Confirmed -");
    assert_eq!(fits(&mut world), [true, true]);
    world.play("alice does info x\nalice sends INFO\nbob hears Info x");
    assert_eq!(fits(&mut world), [false, false]);
    world.play("bob does respond-info 200\nbob sends 200/INFO\nalice hears Replied INFO 200");
    world.play("alice does reoffer o2\nalice sends INVITE o2\nbob hears Offer o2 by INVITE");
    assert_eq!(fits(&mut world), [false, false]);
    world.play("bob does answer a2\nbob sends 200/INVITE a2\nalice sends ACK\nalice hears Answer a2");
    assert_eq!(fits(&mut world), [true, true]);
    world.play("hold\nalice does bye\nalice sends BYE\nalice hears Ended self Bye");
    assert_eq!(fits(&mut world), [false, true]);
}

#[test]
fn the_print_changes_with_what_was_agreed_and_not_with_every_request() {
    let mut world = talking();
    let prints = |world: &mut World| [ALICE, BOB].map(|side| world.session(side).capsule_print().unwrap());
    let first = prints(&mut world);
    world.wait(Duration::from_secs(40));
    for _ in 0..5 {
        world.act("alice", "info x");
        world.act("bob", "respond-info 200");
    }
    assert_eq!(prints(&mut world), first);
    world.act("bob", "reoffer o2");
    world.act("alice", "answer a2");
    let second = prints(&mut world);
    assert!(second[ALICE] != first[ALICE] && second[BOB] != first[BOB]);
    // So many that a revived session would fall behind.
    for _ in 0..40 {
        world.act("alice", "info x");
        world.act("bob", "respond-info 200");
    }
    let third = prints(&mut world);
    assert!(third[ALICE] != second[ALICE] && third[BOB] == second[BOB]);
}

#[test]
fn requests_that_the_lost_node_sent_after_the_capsule_are_skipped() {
    let mut world = talking();
    let now = world.now;
    let capsule = world.session(ALICE).capsule(now).unwrap();
    for _ in 0..30 {
        world.act("alice", "info x");
        world.act("bob", "respond-info 200");
        world.act("bob", "info x");
        world.act("alice", "respond-info 200");
    }
    let cfg = Arc::new(world.sides[ALICE].cfg.clone());
    world.sides[ALICE].session = Some(Session::revive(cfg, &capsule, now));
    world.play("bob does info y\nbob sends INFO\nalice hears Info y\nalice does respond-info 200\nalice sends 200/INFO\nbob hears Replied INFO 200");
    world.play_to_the_end("alice does bye\nalice sends BYE\nbob sends 200/BYE\nalice hears Ended self Bye\nbob hears Ended peer Bye");
}

#[test]
fn the_answer_that_was_lost_with_its_node_is_given_again() {
    let mut world = talking();
    world.play("lose bob 1\nalice does update o2\nalice sends UPDATE o2\nbob hears Offer o2 by UPDATE\nbob does answer a2\nbob sends 200/UPDATE a2");
    let sent = world.count;
    world.play("move bob\nwait 1\nalice hears Answer a2");
    assert_eq!(world.count, sent + 2, "the request and the answer once more");
    let number = world.session(BOB).dialog().remote_cseq;
    assert_eq!(number, world.session(ALICE).dialog().local_cseq.into());
}

fn timed() -> World {
    let (mut alice, bob) = (config("alice@192.0.2.1"), config("bob@192.0.2.2"));
    alice.session_timer.offer = true;
    alice.session_timer.interval = 200;
    let mut world = World::with(alice, bob);
    world.play(TALK);
    world
}

#[test]
fn the_session_timer_goes_on_on_either_side() {
    let mut world = timed();
    world.play("wait 60\nmove alice\nmove bob\nwait 39");
    world.play("wait 2\nalice sends UPDATE\nbob sends 200/UPDATE\nmove alice\nmove bob\nwait 98");
    world.play("wait 2\nalice sends UPDATE\nbob sends 200/UPDATE");
    // Nobody refreshes: the callee's side gives up, moved or not.
    world.sides[ALICE].session = None;
    world.play("move bob\nwait 160\nwait 10\nbob sends BYE\nbob hears Ended self SessionExpired\nalice sends 481/BYE");
}

#[test]
fn a_session_that_should_have_been_refreshed_meanwhile_has_some_time_left() {
    let mut world = timed();
    let now = world.now;
    let (mut alice, mut bob) =
        (world.session(ALICE).capsule(now).unwrap(), world.session(BOB).capsule(now).unwrap());
    for capsule in [&mut alice, &mut bob] {
        capsule.age(Duration::from_secs(190));
    }
    let cfg = |side: usize, world: &World| Arc::new(world.sides[side].cfg.clone());
    world.sides[BOB].session = Some(Session::revive(cfg(BOB, &world), &bob, now));
    world.play("wait 20");
    world.sides[ALICE].session = Some(Session::revive(cfg(ALICE, &world), &alice, world.now));
    world.play("wait 1\nalice sends UPDATE\nbob sends 200/UPDATE");
}

#[test]
fn a_moved_session_tells_its_peer_where_it_is() {
    let mut world = World::alone(config("alice@192.0.2.1"));
    world.act("alice", "call o1");
    let invite = world.received(&Method::Invite);
    world.reply(&invite, 200, "b", "Contact: <sip:bob@192.0.2.2>\r\nAllow: UPDATE\r\n", Some(sdp("a1")));
    world.skip();
    world.sides[ALICE].cfg.contact = "<sip:alice@192.0.2.77>".to_owned();
    world.play("move alice");
    world.play("alice does announce\nalice sends UPDATE");
    let update = world.received(&Method::Update);
    assert_eq!(update.header(HeaderId::Contact), Some(&b"<sip:alice@192.0.2.77>"[..]));
    assert!(update.sdp().is_none());
    assert!(update.cseq().unwrap().number > invite.cseq().unwrap().number + 1, "there is a gap");
}

#[test]
fn a_peer_that_does_not_hear_where_a_moved_session_is_keeps_its_call() {
    for (allow, method) in [("Allow: UPDATE\r\n", Method::Update), ("", Method::Invite)] {
        for (answer, ends) in [(None, false), (Some(481), true)] {
            let mut world = World::alone(config("alice@192.0.2.1"));
            world.act("alice", "call o1");
            let invite = world.received(&Method::Invite);
            let lines = format!("Contact: <sip:bob@192.0.2.2>\r\n{allow}");
            world.reply(&invite, 200, "b", &lines, Some(sdp("a1")));
            world.skip();
            world.play("move alice");
            let now = world.now;
            world.session(ALICE).announce(Duration::from_secs(3), now);
            world.wait(Duration::from_secs(3));
            let told = world.received(&method);
            if let Some(status) = answer {
                world.reply(&told, status, "b", "", None);
            }
            world.wait(Duration::from_secs(120));
            assert_eq!(world.session(ALICE).is_at_rest(), !ends, "{method:?} {answer:?}");
        }
    }
}

#[test]
fn what_a_peer_asks_of_a_moved_session_tells_it_where_that_is() {
    let mut world = talking();
    world.play("move alice");
    let now = world.now;
    world.session(ALICE).announce(Duration::from_secs(3), now);
    world.play("bob does reoffer o2\nbob sends INVITE o2\nalice hears Offer o2 by INVITE\nalice does answer a2\nalice sends 200/INVITE a2\nbob sends ACK\nbob hears Answer a2");
    let sent = world.count;
    world.wait(Duration::from_secs(5));
    assert_eq!(world.count, sent, "nothing more is said");
}

#[test]
fn another_relays_descriptions_go_on_where_the_first_ones_ended() {
    let mut world = talking();
    let other = |label: &str| -> Bytes {
        let text = String::from_utf8(sdp(label).to_vec()).unwrap().replace("o=- 7 ", "o=- 99 ");
        text.replacen("192.0.2.9", "198.51.100.9", 1).into()
    };
    let origin = |world: &mut World| {
        let said = String::from_utf8(world.session(ALICE).local_sdp().unwrap().to_vec()).unwrap();
        let line = said.lines().nth(1).unwrap().to_owned();
        let words: Vec<&str> = line.split(' ').collect();
        let version: u64 = words[2].parse().unwrap();
        (format!("{} {} {}", words[0], words[1], words[5]), version)
    };
    let (name, first) = origin(&mut world);
    world.play("move alice");
    let reoffer = Command::Reoffer { sdp: Some(other("o2")), prefer_update: true };
    world.command(ALICE, reoffer).unwrap();
    world.play("alice sends UPDATE o2\nbob hears Offer o2 by UPDATE\nbob does answer a2\nbob sends 200/UPDATE a2\nalice hears Answer a2");
    assert_eq!(origin(&mut world), (name.clone(), first + 1));
    world.play("move alice\nbob does update o3\nbob sends UPDATE o3\nalice hears Offer o3 by UPDATE");
    world.command(ALICE, Command::Answer { sdp: other("a3") }).unwrap();
    world.play("alice sends 200/UPDATE a3\nbob hears Answer a3");
    assert_eq!(origin(&mut world), (name, first + 2));
}

fn usual() -> Bytes {
    let mut world = talking();
    let now = world.now;
    world.session(ALICE).capsule(now).unwrap().encode()
}

/// The same with all that a dialog can have.
static ROUTED: LazyLock<Bytes> = LazyLock::new(routed);

fn routed() -> Bytes {
    let mut world = World::alone(config("alice@192.0.2.1"));
    world.act("alice", "call o1");
    let lines = "Contact: <sip:bob@192.0.2.2>\r\nSession-Expires: 1800;refresher=uas\r\nRecord-Route: <sip:p2;lr>, <sip:p1;lr>;x=y\r\n";
    world.reply(&world.received(&Method::Invite), 200, "b", lines, Some(sdp("a1")));
    let now = world.now;
    world.session(ALICE).capsule(now).unwrap().encode()
}

#[test]
fn what_another_release_added_is_left_out_and_another_format_is_refused() {
    let bytes = usual();
    let mut newer = bytes.to_vec();
    newer.extend_from_slice(&[0xfa, 0x7f, 3, 1, 2, 3]); // field 2047, three octets
    assert_eq!(Capsule::decode(&newer).unwrap().encode(), bytes);
    assert_eq!(bytes[..2], [8, 1], "the format is the first field");
    newer[1] = 2;
    assert_eq!(Capsule::decode(&newer), Err(CapsuleError::Format(2)));
    assert_eq!(Capsule::decode(&[]), Err(CapsuleError::Format(0)));
    assert!(matches!(Capsule::decode(&vec![0; CAPSULE_MAX + 1]), Err(CapsuleError::TooLong(_))));
}

/// The capsule with one text in place of another of the same length.
fn forged(from: &str, to: &str) -> Result<Capsule, CapsuleError> {
    assert_eq!(from.len(), to.len());
    let bytes = usual().to_vec();
    let at = bytes.windows(from.len()).position(|text| text == from.as_bytes()).expect(from);
    Capsule::decode(&[&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat())
}

#[test]
fn an_error_says_which_field_is_broken() {
    let field = |from, to| match forged(from, to) {
        Err(CapsuleError::Field { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field("tag-alice", "tag;alice"), "local_tag");
    assert_eq!(field("tag-bob", "tag\r\nob"), "remote_tag");
    assert_eq!(field("call-1", "call\n1"), "call_id");
    assert_eq!(field("<sip:alice@example.com>", "<sip:alice@example.com\n"), "local_uri");
    assert_eq!(field("<sip:bob@example.com>", "<sip:bob@example.com "), "remote_uri");
    assert_eq!(field("sip:bob@192.0.2.2", "tel:bob@192.0.2.2"), "remote_target");
    assert_eq!(field("192.0.2.2:5060", "192.0.2.2:0000"), "remote");
    assert_eq!(field("192.0.2.2:5060", "239.0.2.2:5060"), "remote");
    assert_eq!(field("192.0.2.2:5060", "bob.test.:5060"), "remote");
    assert_eq!(field("UDP", "UFO"), "transport");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn bytes_of_anybody_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Capsule::decode(&bytes);
    }

    #[test]
    fn a_capsule_with_broken_bytes_is_refused_or_speaks_proper_sip(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        by in 0..1_000_000u64,
    ) {
        let mut bytes = ROUTED.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(mut capsule) = Capsule::decode(&bytes) {
            capsule.age(Duration::from_secs(by));
            let now = World::new().now;
            let mut session = Session::revive(Arc::new(config("alice@192.0.2.1")), &capsule, now);
            session.announce(Duration::ZERO, now);
            session.handle_timeout(session.poll_timeout().unwrap_or(now));
            let _ = session.command(Command::Bye { reason: None }, now);
            while let Some(action) = session.poll_action() {
                let Action::Request { draft, .. } = action else { continue };
                let text = draft.serialize("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1");
                let message = Message::parse(text.clone()).unwrap();
                if let Err(defect) = message.validate() {
                    let fine = defect.reason.contains("headers are not allowed"); // a Contact may have some
                    assert!(fine, "{defect:?} {}", String::from_utf8_lossy(&text));
                }
            }
        }
    }
}

#[test]
fn a_node_whose_numbers_another_one_has_used_up_is_understood_all_the_same() {
    // Alice's session is carried on elsewhere and speaks there; then a node goes on that knows nothing of it.
    let mut world = talking();
    let now = world.now;
    let old = world.session(ALICE).capsule(now).expect("at rest");
    world.play(
        "
        move alice
        move alice
        alice does update o2
        alice sends UPDATE o2
        bob hears Offer o2 by UPDATE
        bob does answer a2
        bob sends 200/UPDATE a2
        alice hears Answer a2
        ",
    );
    let config = Arc::new(world.sides[ALICE].cfg.clone());
    *world.session(ALICE) = Session::revive(config, &old, now);
    world.play_to_the_end(
        "
        alice does bye
        alice sends BYE
        bob sends 500/BYE
        alice hears Ended self Bye
        alice sends BYE
        bob sends 200/BYE
        bob hears Ended peer Bye
        ",
    );
}
