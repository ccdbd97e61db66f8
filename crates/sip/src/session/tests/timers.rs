//! Session timers (RFC 4028), both roles.

use super::calls::TALK;
use super::world::{ALICE, BOB, World, config, sdp};
use crate::msg::{HeaderId, Method};
use crate::session::{Prefer, SessionConfig};
use std::time::Duration;

fn timed(contact: &str, interval: u32, refresher: Prefer) -> SessionConfig {
    let mut cfg = config(contact);
    cfg.session_timer.offer = true;
    cfg.session_timer.interval = interval;
    cfg.session_timer.refresher = refresher;
    cfg
}

/// Alice asks for a timer of 200 seconds with this refresher.
fn world(refresher: Prefer) -> World {
    let mut world = World::with(timed("alice@192.0.2.1", 200, refresher), config("bob@192.0.2.2"));
    world.play(TALK);
    world
}

#[test]
fn the_caller_refreshes_by_update_at_half_time() {
    let mut world = world(Prefer::Any);
    world.play("wait 99");
    world.play("wait 2\nalice sends UPDATE\nbob sends 200/UPDATE");
    world.play("wait 98");
    world.play("wait 2\nalice sends UPDATE\nbob sends 200/UPDATE");
    world.wait(Duration::from_secs(3600));
    world.skip();
    world.play_to_the_end(
        "bob does bye\nbob sends BYE\nalice sends 200/BYE\nbob hears Ended self Bye\nalice hears Ended peer Bye",
    );
}

#[test]
fn the_callee_refreshes_where_the_caller_wants_it() {
    let mut world = world(Prefer::Peer);
    world.play("wait 101\nbob sends UPDATE\nalice sends 200/UPDATE");
    world.play("wait 100\nbob sends UPDATE\nalice sends 200/UPDATE");
}

#[test]
fn without_update_the_refresh_is_a_reinvite_with_the_same_description() {
    let mut alice = timed("alice@192.0.2.1", 200, Prefer::Us);
    let mut bob = config("bob@192.0.2.2");
    alice.allow = "INVITE, ACK, CANCEL, BYE";
    bob.allow = "INVITE, ACK, CANCEL, BYE";
    let mut world = World::with(alice, bob);
    world.play(TALK);
    world.play("wait 101\nalice sends INVITE o1\nbob sends 200/INVITE a1\nalice sends ACK");
    world.play("wait 100\nalice sends INVITE o1\nbob sends 200/INVITE a1\nalice sends ACK");
}

#[test]
fn a_refresh_into_silence_ends_the_call() {
    let mut world = world(Prefer::Us);
    world.play(
        "
        lose alice 100000
        wait 101
        alice sends UPDATE
        # Timer F: 408, and so the end of the dialog.
        wait 32
        alice sends BYE
        alice hears Ended self TransactionFailed
        # Bob hears nothing and gives up 32 seconds before the expiry.
        wait 36
        bob sends BYE
        bob hears Ended self SessionExpired
        alice sends 200/BYE
        ",
    );
}

#[test]
fn the_waiting_side_gives_up_with_a_reason() {
    let mut world = World::alone(timed("alice@192.0.2.1", 300, Prefer::Any));
    world.play("alice does call o1\nalice sends INVITE o1");
    let invite = world.received(&Method::Invite);
    assert_eq!(invite.session_expires().unwrap().secs, 300);
    assert!(invite.has_option(HeaderId::Supported, "timer"));
    let lines = "Contact: <sip:bob@192.0.2.2>\r\nRequire: timer\r\nSession-Expires: 120;refresher=uas\r\n";
    world.reply(&invite, 200, "b", lines, Some(sdp("a1")));
    world.play("alice sends ACK\nalice hears Answered a1 fork0\nwait 87");
    world.play("wait 2\nalice sends BYE\nalice hears Ended self SessionExpired");
    let bye = world.received(&Method::Bye);
    assert!(bye.header(HeaderId::Reason).unwrap().starts_with(b"SIP;cause=408"), "{bye:?}");
}

#[test]
fn a_peer_without_timers_is_refreshed_for_our_own_sake() {
    let mut world = World::alone(timed("alice@192.0.2.1", 200, Prefer::Any));
    world.play("alice does call o1\nalice sends INVITE o1");
    let invite = world.received(&Method::Invite);
    world.reply(
        &invite,
        200,
        "b",
        "Contact: <sip:bob@192.0.2.2>\r\nAllow: INVITE, ACK, BYE\r\n",
        Some(sdp("a1")),
    );
    world.play("alice sends ACK\nalice hears Answered a1 fork0\nwait 101\nalice sends INVITE o1");
    let again = world.received(&Method::Invite);
    assert_eq!(again.header(HeaderId::SessionExpires), Some(b"200;refresher=uac".as_slice()));
    // The answer differs from the one before: the user must know.
    world.reply(&again, 200, "", "Contact: <sip:bob@192.0.2.2>\r\n", Some(sdp("a2")));
    world.play("alice sends ACK\nalice hears Answer a2");
}

#[test]
fn a_refresh_that_is_refused_is_tried_again_until_the_session_expires() {
    let mut world = World::alone(timed("alice@192.0.2.1", 200, Prefer::Us));
    world.play("alice does call o1\nalice sends INVITE o1");
    let invite = world.received(&Method::Invite);
    let lines = "Contact: <sip:bob@192.0.2.2>\r\nAllow: INVITE, ACK, BYE, UPDATE\r\nRequire: timer\r\nSession-Expires: 200;refresher=uac\r\n";
    world.reply(&invite, 200, "b", lines, Some(sdp("a1")));
    world.play("alice sends ACK\nalice hears Answered a1 fork0\nwait 101\nalice sends UPDATE");
    world.reply(&world.received(&Method::Update), 503, "", "", None);
    world.play("wait 50\nalice sends UPDATE");
    for _ in 0..8 {
        world.reply(&world.received(&Method::Update), 503, "", "", None);
        world.wait(Duration::from_secs(8));
    }
    assert_eq!(world.count_received(&Method::Bye), 1);
    assert!((3..10).contains(&world.count_received(&Method::Update)));
}

#[test]
fn too_small_an_interval_is_refused_and_the_caller_tries_a_longer_one() {
    let mut bob = config("bob@192.0.2.2");
    bob.session_timer.min_se = 600;
    bob.session_timer.interval = 900;
    let mut world = World::with(timed("alice@192.0.2.1", 200, Prefer::Any), bob);
    world.play(
        "
        alice does call o1
        alice sends INVITE o1
        bob sends 422/INVITE
        alice sends ACK
        alice sends INVITE o1
        bob hears Incoming o1
        bob does accept a1
        bob sends 200/INVITE a1
        alice sends ACK
        alice hears Answered a1 fork0
        bob hears Confirmed -
        wait 299
        ",
    );
    world.play("wait 2\nalice sends UPDATE\nbob sends 200/UPDATE");
}

#[test]
fn a_server_that_always_wants_more_is_given_up() {
    let mut world = World::alone(timed("alice@192.0.2.1", 200, Prefer::Any));
    world.play("alice does call o1\nalice sends INVITE o1");
    for round in 1..20 {
        let invite = world.received(&Method::Invite);
        world.reply(&invite, 422, "b", &format!("Min-SE: {}\r\n", 300 + round), None);
    }
    assert!(world.count_received(&Method::Invite) < 10);
    assert_eq!(world.sides[ALICE].heard.pop_front().as_deref(), Some("Rejected 422"));
}

#[test]
fn a_change_of_the_users_refreshes_too() {
    let mut world = world(Prefer::Us);
    world.play(
        "
        wait 90
        alice does reoffer o2
        alice sends INVITE o2
        bob hears Offer o2 by INVITE
        bob does answer a2
        bob sends 200/INVITE a2
        alice sends ACK
        alice hears Answer a2
        wait 98
        ",
    );
    world.play("wait 3\nalice sends UPDATE\nbob sends 200/UPDATE");
}

#[test]
fn a_callee_may_ask_for_a_timer_itself() {
    let mut world = World::with(config("alice@192.0.2.1"), timed("bob@192.0.2.2", 200, Prefer::Us));
    world.play(TALK);
    world.play("wait 101\nbob sends UPDATE\nalice sends 200/UPDATE");
    assert!(world.session(BOB).poll_timeout().is_some());
}
