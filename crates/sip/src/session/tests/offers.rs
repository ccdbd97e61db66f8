//! Offers and answers in all their vehicles: delayed offers, reliable provisional responses, re-INVITE, UPDATE, glare.

use super::calls::TALK;
use super::world::{ALICE, BOB, World, config, sdp};
use crate::session::{Command, CommandError, Rel100};

#[track_caller]
fn ladder(text: &str) {
    World::new().play_to_the_end(&format!("{text}\n{HANG_UP}"));
}

/// A ladder between two who talk already.
#[track_caller]
fn talking(text: &str) {
    let mut world = World::new();
    world.play(TALK);
    world.play_to_the_end(&format!("{text}\n{HANG_UP}"));
}

const HANG_UP: &str = "
    alice does bye
    alice sends BYE
    bob sends 200/BYE
    alice hears Ended self Bye
    bob hears Ended peer Bye
";

fn without_100rel() -> World {
    let (mut alice, mut bob) = (config("alice@192.0.2.1"), config("bob@192.0.2.2"));
    alice.rel100 = Rel100::Off;
    bob.rel100 = Rel100::Off;
    World::with(alice, bob)
}

#[test]
fn early_media_goes_reliably_and_the_2xx_repeats_no_description() {
    ladder(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        bob does progress 183 a1
        bob sends 183/INVITE a1 rel
        alice sends PRACK
        bob sends 200/PRACK
        alice hears Progress 183 a1 fork0
        bob does progress 180
        bob sends 180/INVITE
        alice hears Progress 180 - fork0
        bob does accept
        bob sends 200/INVITE
        alice sends ACK
        alice hears Answered a1 fork0
        bob hears Confirmed -
        ",
    );
}

#[test]
fn early_media_goes_unreliably_where_a_side_cannot() {
    let mut world = without_100rel();
    world.play_to_the_end(&format!(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        bob does progress 183 a1
        bob sends 183/INVITE a1
        alice hears Progress 183 a1 fork0
        bob does progress 180 a1
        bob sends 180/INVITE a1
        alice hears Progress 180 - fork0
        bob does progress 183 a2
        bob sends 183/INVITE a2
        alice hears Progress 183 a2 fork0
        bob does accept
        bob sends 200/INVITE a2
        alice sends ACK
        alice hears Answered a2 fork0
        bob hears Confirmed -
        {HANG_UP}"
    ));
}

#[test]
fn reliable_responses_wait_for_each_other_and_the_2xx_waits_for_the_description() {
    ladder(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        lose alice 1
        bob does progress 183 a1
        bob sends 183/INVITE a1 rel
        alice hears Progress 183 a1 fork0
        alice sends PRACK
        bob does accept
        wait 1
        bob sends 200/PRACK
        bob sends 200/INVITE
        alice sends ACK
        alice hears Answered a1 fork0
        bob hears Confirmed -
        ",
    );
}

#[test]
fn a_peer_that_requires_100rel_gets_everything_reliably_and_in_order() {
    let mut alice = config("alice@192.0.2.1");
    alice.rel100 = Rel100::Required;
    let mut world = World::with(alice, config("bob@192.0.2.2"));
    world.play_to_the_end(&format!(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        lose alice 1
        bob does progress 180
        bob sends 180/INVITE rel
        alice hears Progress 180 - fork0
        alice sends PRACK
        bob does progress 183 a1
        bob does progress 180
        wait 0.6
        bob sends 200/PRACK
        bob sends 183/INVITE a1 rel
        alice sends PRACK
        bob sends 200/PRACK
        bob sends 180/INVITE rel
        alice sends PRACK
        bob sends 200/PRACK
        alice hears Progress 183 a1 fork0
        alice hears Progress 180 - fork0
        bob does accept
        bob sends 200/INVITE
        alice sends ACK
        alice hears Answered a1 fork0
        bob hears Confirmed -
        {HANG_UP}"
    ));
}

#[test]
fn a_reliable_response_that_nobody_acknowledges_ends_in_504() {
    World::new().play_to_the_end(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        lose bob 1000
        bob does progress 183 a1
        bob sends 183/INVITE a1 rel
        wait 31.9
        lose bob 0
        wait 1
        bob sends 504/INVITE
        alice sends ACK
        alice hears Rejected 504
        bob hears Ended self NoPrack
        ",
    );
}

#[test]
fn a_refusal_mutes_the_reliable_response_but_takes_its_prack() {
    World::new().play_to_the_end(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        lose alice 1
        bob does progress 183 a1
        bob sends 183/INVITE a1 rel
        alice hears Progress 183 a1 fork0
        alice sends PRACK
        bob does reject 486
        bob sends 486/INVITE
        alice sends ACK
        alice hears Rejected 486
        bob hears Ended self Refused
        wait 1
        bob sends 200/PRACK
        ",
    );
}

#[test]
fn delayed_offer_in_the_2xx_and_answer_in_the_ack() {
    ladder(
        "
        alice does call -
        alice sends INVITE
        bob hears Incoming -
        bob does progress 180
        bob sends 180/INVITE
        alice hears Progress 180 - fork0
        bob cannot accept -
        bob does accept o1
        bob sends 200/INVITE o1
        alice hears Answered o1 fork0
        wait 3
        alice does answer a1
        alice sends ACK a1
        bob hears Confirmed a1
        wait 10
        ",
    );
}

#[test]
fn delayed_offer_in_a_reliable_response_and_answer_in_the_prack() {
    ladder(
        "
        alice does call -
        alice sends INVITE
        bob hears Incoming -
        bob does progress 183 o1
        bob sends 183/INVITE o1 rel
        alice hears Progress 183 o1 fork0
        alice does answer a1
        alice sends PRACK a1
        bob sends 200/PRACK
        bob hears Answer a1
        bob does accept
        bob sends 200/INVITE
        alice sends ACK
        alice hears Answered - fork0
        bob hears Confirmed -
        ",
    );
}

#[test]
fn an_offer_in_the_2xx_that_the_caller_never_answers_ends_the_call() {
    World::new().play_to_the_end(
        "
        alice does call -
        alice sends INVITE
        bob hears Incoming -
        bob does accept o1
        bob sends 200/INVITE o1
        alice hears Answered o1 fork0
        wait 31
        alice sends ACK
        alice sends BYE
        bob sends BYE
        bob sends 200/BYE
        alice sends 200/BYE
        alice hears Ended self NoAnswer
        bob hears Ended self NoAnswer
        ",
    );
}

#[test]
fn hold_and_resume_by_reinvite() {
    talking(
        "
        alice does reoffer hold1
        alice sends INVITE hold1
        bob hears Offer hold1 by INVITE
        bob does answer held1
        bob sends 200/INVITE held1
        alice sends ACK
        alice hears Answer held1
        bob does reoffer o3
        bob sends INVITE o3
        alice hears Offer o3 by INVITE
        alice does answer a3
        alice sends 200/INVITE a3
        bob sends ACK
        bob hears Answer a3
        ",
    );
}

#[test]
fn change_by_update() {
    talking(
        "
        bob does update o2
        bob sends UPDATE o2
        alice hears Offer o2 by UPDATE
        alice does answer a2
        alice sends 200/UPDATE a2
        bob hears Answer a2
        ",
    );
}

#[test]
fn a_refused_change_leaves_the_session_as_it_was() {
    talking(
        "
        alice does reoffer o2
        alice sends INVITE o2
        bob hears Offer o2 by INVITE
        bob does refuse 488
        bob sends 488/INVITE
        alice sends ACK
        alice hears OfferRejected 488
        alice does update o3
        alice sends UPDATE o3
        bob hears Offer o3 by UPDATE
        bob does refuse 488
        bob sends 488/UPDATE
        alice hears OfferRejected 488
        # The peer repeats what it said first: nothing has changed, nobody is asked.
        alice does reoffer o1
        alice sends INVITE o1
        bob sends 200/INVITE a1
        alice sends ACK
        alice hears Answer a1
        ",
    );
}

#[test]
fn delayed_reoffer() {
    talking(
        "
        alice does reoffer -
        alice sends INVITE
        bob hears Offer - by INVITE
        bob does answer o2
        bob sends 200/INVITE o2
        alice hears Offer o2 by 2xx
        alice does answer a2
        alice sends ACK a2
        bob hears Answer a2
        ",
    );
}

#[test]
fn a_user_that_never_answers_is_answered_for() {
    talking(
        "
        alice does reoffer o2
        alice sends INVITE o2
        bob hears Offer o2 by INVITE
        wait 31
        bob sends 488/INVITE
        alice sends ACK
        alice hears OfferRejected 488
        bob hears OfferWithdrawn
        bob cannot answer a2
        alice does update o3
        alice sends UPDATE o3
        bob hears Offer o3 by UPDATE
        wait 21
        bob sends 504/UPDATE
        alice hears OfferRejected 504
        bob hears OfferWithdrawn
        alice does reoffer -
        alice sends INVITE
        bob hears Offer - by INVITE
        wait 31
        bob sends 500/INVITE
        alice sends ACK
        alice hears OfferRejected 500
        bob hears OfferWithdrawn
        ",
    );
}

#[test]
fn reinvites_cross_and_both_get_their_turn() {
    let mut world = World::new();
    world.play(TALK);
    world.play(
        "
        hold
        alice does reoffer o2
        bob does reoffer o3
        go
        alice sends INVITE o2
        bob sends INVITE o3
        bob sends 491/INVITE
        alice sends 491/INVITE
        alice sends ACK
        bob sends ACK
        # The callee waits up to 2 seconds, the owner of the Call-ID 2.1 to 4.
        wait 2.05
        bob sends INVITE o3
        alice hears Offer o3 by INVITE
        alice does answer a3
        alice sends 200/INVITE a3
        bob sends ACK
        bob hears Answer a3
        wait 2
        alice sends INVITE o2
        bob hears Offer o2 by INVITE
        bob does answer a2
        bob sends 200/INVITE a2
        alice sends ACK
        alice hears Answer a2
        ",
    );
    world.play_to_the_end(HANG_UP);
}

#[test]
fn updates_cross_and_both_get_their_turn() {
    let mut world = World::new();
    world.play(TALK);
    world.play(
        "
        hold
        alice does update o2
        bob does update o3
        go
        alice sends UPDATE o2
        bob sends UPDATE o3
        bob sends 491/UPDATE
        alice sends 491/UPDATE
        wait 2.05
        bob sends UPDATE o3
        alice hears Offer o3 by UPDATE
        alice does answer a3
        alice sends 200/UPDATE a3
        bob hears Answer a3
        wait 2
        alice sends UPDATE o2
        bob hears Offer o2 by UPDATE
        bob does answer a2
        bob sends 200/UPDATE a2
        alice hears Answer a2
        ",
    );
    world.play_to_the_end(HANG_UP);
}

#[test]
fn an_update_into_an_open_reinvite_gets_491_and_waits() {
    let mut world = World::new();
    world.play(TALK);
    world.play(
        "
        hold
        alice does reoffer o2
        bob does update o3
        go
        alice sends INVITE o2
        bob sends UPDATE o3
        bob sends 491/INVITE
        alice sends 491/UPDATE
        alice sends ACK
        wait 2.05
        bob sends UPDATE o3
        alice hears Offer o3 by UPDATE
        alice does answer a3
        alice sends 200/UPDATE a3
        bob hears Answer a3
        wait 2
        alice sends INVITE o2
        bob hears Offer o2 by INVITE
        bob does answer a2
        bob sends 200/INVITE a2
        alice sends ACK
        alice hears Answer a2
        ",
    );
    world.play_to_the_end(HANG_UP);
}

#[test]
fn our_change_waits_for_the_peers() {
    talking(
        "
        alice does reoffer o2
        alice sends INVITE o2
        bob hears Offer o2 by INVITE
        bob does reoffer o3
        bob cannot reoffer o4
        bob does answer a2
        bob sends 200/INVITE a2
        alice sends ACK
        bob sends INVITE o3
        alice hears Answer a2
        alice hears Offer o3 by INVITE
        alice does answer a3
        alice sends 200/INVITE a3
        bob sends ACK
        bob hears Answer a3
        ",
    );
}

#[test]
fn bye_crosses_a_reinvite() {
    let mut world = World::new();
    world.play(TALK);
    world.play_to_the_end(
        "
        hold
        alice does reoffer o2
        bob does bye
        go
        alice sends INVITE o2
        bob sends BYE
        bob hears Ended self Bye
        bob sends 481/INVITE
        alice sends 200/BYE
        alice hears Ended peer Bye
        alice sends ACK
        ",
    );
}

#[test]
fn hanging_up_with_a_reinvite_open_answers_it_with_487() {
    let mut world = World::new();
    world.play(TALK);
    world.play_to_the_end(
        "
        alice does reoffer o2
        alice sends INVITE o2
        bob hears Offer o2 by INVITE
        bob does bye
        bob sends BYE
        bob sends 487/INVITE
        bob hears Ended self Bye
        alice sends 200/BYE
        alice sends ACK
        alice hears Ended peer Bye
        ",
    );
    let mut world = World::new();
    world.play(TALK);
    world.play_to_the_end(
        "
        alice does reoffer o2
        alice sends INVITE o2
        bob hears Offer o2 by INVITE
        alice does bye
        alice sends BYE
        alice sends CANCEL
        alice hears Ended self Bye
        bob sends 200/BYE
        bob sends 487/INVITE
        bob hears Ended peer Bye
        bob sends 200/CANCEL
        alice sends ACK
        ",
    );
    let mut world = World::new();
    world.play(TALK);
    world.play_to_the_end(
        "
        alice does update o2
        alice sends UPDATE o2
        bob hears Offer o2 by UPDATE
        bob does bye
        bob sends BYE
        bob sends 487/UPDATE
        bob hears Ended self Bye
        alice sends 200/BYE
        alice hears Ended peer Bye
        ",
    );
}

#[test]
fn early_updates_both_ways_after_a_reliable_answer() {
    ladder(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        alice cannot update o2
        bob does progress 183 a1
        bob sends 183/INVITE a1 rel
        alice sends PRACK
        bob sends 200/PRACK
        alice hears Progress 183 a1 fork0
        alice does update o2
        alice sends UPDATE o2
        bob hears Offer o2 by UPDATE
        bob does answer a2
        bob sends 200/UPDATE a2
        alice hears Answer a2
        bob does update o3
        bob sends UPDATE o3
        alice hears Offer o3 by UPDATE
        alice does answer a3
        alice sends 200/UPDATE a3
        bob hears Answer a3
        bob does accept
        bob sends 200/INVITE
        alice sends ACK
        alice hears Answered - fork0
        bob hears Confirmed -
        ",
    );
}

#[test]
fn a_peer_that_takes_no_update_is_not_asked_before_it_has_an_answer() {
    let mut world = World::new();
    world.sides[ALICE].cfg.allow = "INVITE, ACK, CANCEL, BYE, PRACK";
    world.play(
        "
        alice does call o1
        alice sends INVITE o1
        bob hears Incoming o1
        bob does progress 183 a1
        bob sends 183/INVITE a1 rel
        alice sends PRACK
        bob sends 200/PRACK
        alice hears Progress 183 a1 fork0
        ",
    );
    let update = Command::Reoffer { sdp: Some(sdp("o2")), prefer_update: true };
    assert_eq!(world.command(BOB, update), Err(CommandError::Unsupported));
}

#[test]
fn a_lost_ack_does_not_stop_the_callers_next_change() {
    talking(
        "
        lose alice 2
        alice does reoffer o2
        alice sends INVITE o2
        wait 1.6
        bob hears Offer o2 by INVITE
        lose alice 1
        bob does answer a2
        bob sends 200/INVITE a2
        alice sends ACK
        alice hears Answer a2
        alice does reoffer o3
        alice sends INVITE o3
        bob hears Offer o3 by INVITE
        bob does answer a3
        bob sends 200/INVITE a3
        alice sends ACK
        alice hears Answer a3
        ",
    );
}

#[test]
fn a_callee_that_cancels_nothing_but_loses_its_reinvite_hears_of_it() {
    // A re-INVITE that rings for ever is cancelled after a minute.
    let mut world = World::new();
    world.sides[BOB].cfg.answer_limit = std::time::Duration::from_secs(1000);
    world.play(TALK);
    world.play(
        "
        alice does reoffer o2
        alice sends INVITE o2
        bob hears Offer o2 by INVITE
        wait 61
        alice sends CANCEL
        bob sends 200/CANCEL
        bob sends 487/INVITE
        alice sends ACK
        bob hears OfferWithdrawn
        alice hears OfferRejected 487
        ",
    );
    world.play_to_the_end(HANG_UP);
}

#[test]
fn a_user_gives_up_its_reinvite() {
    let mut world = World::new();
    world.play(TALK);
    world.play(
        "
        alice does reoffer o2
        alice sends INVITE o2
        bob hears Offer o2 by INVITE
        wait 1
        alice does cancel
        alice sends CANCEL
        bob sends 200/CANCEL
        bob sends 487/INVITE
        alice sends ACK
        bob hears OfferWithdrawn
        alice hears OfferRejected 487
        alice cannot cancel
        ",
    );
    world.play_to_the_end(HANG_UP);
}

#[test]
fn a_rested_session_is_small() {
    let mut world = World::new();
    world.play(TALK);
    world.wait(std::time::Duration::from_secs(40));
    for side in [ALICE, BOB] {
        let size = world.session(side).memory();
        assert!(size < 1536, "{size} bytes");
    }
    world.play_to_the_end(HANG_UP);
}
