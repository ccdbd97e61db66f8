//! Media that moves to another relay: the first is number 1, the next ones answer with `r2(…)`, `r3(…)`.

use super::*;
use proptest::prelude::*;

impl Test {
    /// The relay of the call is dead; `new` takes its place.
    fn lose(&mut self, relay: u16, new: Option<u16>) -> String {
        self.dead.push(NodeId(relay));
        let time = self.time();
        self.call.as_mut().unwrap().relay_lost(NodeId(relay), new.map(NodeId), time);
        self.drain()
    }

    fn move_to(&mut self, relay: u16) -> String {
        let time = self.time();
        self.call.as_mut().unwrap().move_media(NodeId(relay), time);
        self.drain()
    }

    fn relay_of_call(&self) -> u16 {
        self.call.as_ref().unwrap().relay().unwrap().0
    }

    fn is_moving(&self) -> bool {
        self.call.as_ref().unwrap().is_moving()
    }

    /// What relay `relay` was asked for, from the `since`-th request on.
    fn asked_of(&self, relay: u16, since: usize) -> String {
        let asked = self.asked[since..].iter().filter(|(of, ..)| of.0 == relay);
        let words = asked.map(|(_, _, command)| match command {
            MediaCommand::Offer { from, to, sdp } => format!("offer {}>{} {}", from.0, to.0, text(Some(sdp))),
            MediaCommand::Answer { from, to, sdp } => {
                format!("answer {}>{} {}", from.0, to.0, text(Some(sdp)))
            }
            other => format!("{other:?}"),
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

const BOTH: &str = "alice re-INVITE r2(a), bob1 re-INVITE r2(o)";
const END: &str = "alice bye => bob1 BYE, record 200 Caller answered (Normal clearing)";

#[test]
fn when_the_relay_is_lost_both_peers_are_offered_what_they_had_agreed_upon_at_another() {
    let mut test = talking();
    let since = test.asked.len();
    assert_eq!(test.lose(1, Some(2)), BOTH);
    assert!(test.is_moving());
    // The answer of one who says what it had said is no news for the relay; that of the other is.
    ladder(&mut test, "bob1 answers a => \nalice answers o2 => ");
    assert!(!test.is_moving() && test.relay_of_call() == 2);
    assert_eq!(
        test.asked_of(2, since),
        "offer 0>1 o, answer 1>0 a, offer 1>0 a, answer 0>1 o2",
        "the caller's was an answer to the callee's"
    );
    assert_eq!(test.asked_of(1, since), "", "it is dead");
    ladder(&mut test, "bob1 offers x => alice re-INVITE r2(x)\nalice answers y => bob1 answer r2(y)");
    ladder(&mut test, END);
    assert_eq!(test.records[0].legs[0].media.unwrap().packets_received, 7, "of the second relay alone");
    assert!(test.call.as_ref().unwrap().is_over());
}

#[test]
fn a_callee_that_says_something_new_is_told_to_the_relay() {
    let mut test = talking();
    let since = test.asked.len();
    test.lose(1, Some(2));
    ladder(&mut test, "alice answers o => \nbob1 answers b => ");
    assert_eq!(test.asked_of(2, since), "offer 0>1 o, answer 1>0 a, answer 1>0 b");
    // And it is what moves the next time.
    assert_eq!(test.lose(2, Some(3)), "alice re-INVITE r3(b), bob1 re-INVITE r3(o)");
}

#[test]
fn hold_stays_hold() {
    let mut test = talking();
    ladder(
        &mut test,
        "alice offers hold  => bob1 re-INVITE r(hold)
         bob1 answers held  => alice answer r(held)",
    );
    assert_eq!(test.lose(1, Some(2)), "alice re-INVITE r2(held), bob1 re-INVITE r2(hold)");
    ladder(
        &mut test,
        "alice answers hold => 
         bob1 answers held  => 
         bob1 offers both   => alice re-INVITE r2(both)
         alice answers inactive => bob1 answer r2(inactive)",
    );
    assert_eq!(test.lose(2, Some(3)), "alice re-INVITE r3(both), bob1 re-INVITE r3(inactive)");
    ladder(&mut test, "bob1 answers both => \nalice answers inactive => ");
    assert!(!test.is_moving());
}

#[test]
fn a_planned_move_lets_the_old_relay_go_when_both_have_moved() {
    let mut test = talking();
    let since = test.asked.len();
    assert_eq!(test.move_to(2), BOTH);
    ladder(&mut test, "bob1 answers a => ");
    assert_eq!(test.asked_of(1, since), "", "alice is still there");
    assert_eq!(test.move_to(3), "", "one move at a time");
    ladder(&mut test, "alice answers o => ");
    assert_eq!(test.asked_of(1, since), "Close");
    ladder(&mut test, END);
    assert_eq!(test.records[0].legs[0].media.unwrap().packets_received, 14, "of both relays");
    assert_eq!(test.asked_of(2, since), "offer 0>1 o, answer 1>0 a, Stop, Close");
}

#[test]
fn a_call_that_ends_in_the_middle_of_a_move_counts_what_both_relays_had() {
    let mut test = talking();
    let since = test.asked.len();
    test.move_to(2);
    ladder(&mut test, "bob1 answers a => ");
    ladder(&mut test, "bob1 bye => alice BYE, record 200 Callee answered (Normal clearing)");
    assert_eq!(test.asked_of(1, since), "Close");
    assert_eq!(test.records[0].legs[0].media.unwrap().packets_received, 14);

    let mut test = talking();
    test.lose(1, Some(2));
    ladder(&mut test, END);
    ladder(&mut test, "bob1 answers a => ");
    assert_eq!(test.records.len(), 1);
}

#[test]
fn the_record_does_not_wait_for_a_relay_that_is_lost() {
    let mut test = talking();
    test.dead.push(NodeId(1));
    ladder(&mut test, "alice bye => bob1 BYE");
    assert_eq!(test.lose(1, Some(2)), "record 200 Caller answered (Normal clearing)");
    assert!(test.call.as_ref().unwrap().is_over());

    // It was the one before, and its figures had been asked for.
    let mut test = talking();
    test.move_to(2);
    test.dead.push(NodeId(1));
    ladder(&mut test, "bob1 answers a => \nalice answers o => \nalice bye => bob1 BYE");
    assert_eq!(test.lose(1, None), "record 200 Caller answered (Normal clearing)");
    assert_eq!(test.records[0].legs[0].media.unwrap().packets_received, 7);
}

#[test]
fn who_refuses_is_asked_again_and_then_the_call_ends() {
    let mut test = talking();
    test.lose(1, Some(2));
    ladder(
        &mut test,
        "bob1 answers a    => 
         alice refuses 500 => 
         wait 1            => alice re-INVITE r2(a)
         alice answers o   => ",
    );
    assert!(!test.is_moving());
    let mut test = talking();
    test.move_to(2);
    ladder(
        &mut test,
        "alice answers o  => 
         bob1 refuses 488 => 
         wait 1           => bob1 re-INVITE r2(o)
         bob1 refuses 488 => 
         wait 1           => 
         wait 1           => bob1 re-INVITE r2(o)
         bob1 refuses 488 => alice BYE, bob1 BYE, record 488 Platform answered (Media could not be moved)",
    );
}

#[test]
fn a_peer_that_offers_meanwhile_is_told_to_try_again() {
    let mut test = talking();
    test.lose(1, Some(2));
    ladder(
        &mut test,
        "alice offers x  => alice refuse 491
         bob1 offers     => bob1 refuse 491
         alice answers o => 
         alice offers x  => alice refuse 491
         bob1 answers a  => 
         alice offers x  => bob1 re-INVITE r2(x)
         bob1 answers y  => alice answer r2(y)",
    );
}

#[test]
fn a_change_that_was_under_way_when_the_relay_was_lost_is_refused_and_both_move() {
    // The other side had not heard of it.
    let mut test = talking();
    test.dead.push(NodeId(1));
    ladder(&mut test, "alice offers x => ");
    assert_eq!(test.lose(1, Some(2)), format!("alice refuse 491, {BOTH}"));

    // It has heard of it, and refuses.
    let mut test = talking();
    ladder(&mut test, "alice offers x => bob1 re-INVITE r(x)");
    assert_eq!(test.lose(1, Some(2)), "alice refuse 491, bob1 CANCEL");
    ladder(&mut test, &format!("bob1 refuses 487 => {BOTH}"));
    ladder(&mut test, "bob1 answers a => \nalice answers o => ");
    assert!(!test.is_moving());

    // It accepts before our CANCEL arrives.
    let mut test = talking();
    ladder(&mut test, "alice offers x => bob1 re-INVITE r(x)");
    assert_eq!(test.lose(1, Some(2)), "alice refuse 491, bob1 CANCEL");
    ladder(&mut test, &format!("bob1 answers y => {BOTH}"));

    // It has accepted, and its answer was with the relay.
    let mut test = talking();
    ladder(&mut test, "alice offers x => bob1 re-INVITE r(x)");
    test.dead.push(NodeId(1));
    ladder(&mut test, "bob1 answers y => ");
    assert_eq!(test.lose(1, Some(2)), format!("alice refuse 491, {BOTH}"));

    // The peer takes its change back, which crosses our refusal.
    let mut test = talking();
    ladder(&mut test, "alice offers x => bob1 re-INVITE r(x)");
    assert_eq!(test.lose(1, Some(2)), "alice refuse 491, bob1 CANCEL");
    ladder(&mut test, &format!("alice withdraws => \nbob1 refuses 487 => {BOTH}"));
}

#[test]
fn a_peer_that_was_asked_for_an_offer_gets_its_answer_by_the_new_relay() {
    // It has not offered yet.
    let mut test = talking();
    ladder(&mut test, "alice offers => bob1 re-INVITE -");
    assert_eq!(test.lose(1, Some(2)), "alice refuse 491, bob1 CANCEL");
    ladder(
        &mut test,
        "bob1 counter-offers o2 => bob1 answer r2(o), alice re-INVITE r2(o2), bob1 re-INVITE r2(o)",
    );

    // Its offer was with the relay.
    let mut test = talking();
    ladder(&mut test, "alice offers => bob1 re-INVITE -");
    test.dead.push(NodeId(1));
    ladder(&mut test, "bob1 counter-offers o2 => ");
    assert_eq!(
        test.lose(1, Some(2)),
        "alice refuse 491, bob1 answer r2(o), alice re-INVITE r2(o2), bob1 re-INVITE r2(o)"
    );

    // The one who asked has the offer, and answers.
    let mut test = talking();
    ladder(&mut test, "alice offers => bob1 re-INVITE -\nbob1 counter-offers o2 => alice answer r(o2)");
    assert_eq!(test.lose(1, Some(2)), "");
    ladder(
        &mut test,
        "alice answers a2 => bob1 answer r2(a2), alice re-INVITE r2(o2), bob1 re-INVITE r2(a2)",
    );

    // Its answer was with the relay.
    let mut test = talking();
    ladder(&mut test, "alice offers => bob1 re-INVITE -\nbob1 counter-offers o2 => alice answer r(o2)");
    test.dead.push(NodeId(1));
    ladder(&mut test, "alice answers a2 => ");
    assert_eq!(test.lose(1, Some(2)), "bob1 answer r2(a2), alice re-INVITE r2(o2), bob1 re-INVITE r2(a2)");
}

#[test]
fn a_planned_move_waits_for_the_change_that_is_under_way() {
    let mut test = talking();
    ladder(&mut test, "alice offers x => bob1 re-INVITE r(x)");
    assert_eq!(test.move_to(2), "");
    ladder(&mut test, "bob1 answers y => alice answer r(y), alice re-INVITE r2(y), bob1 re-INVITE r2(x)");
}

#[test]
fn the_relay_that_takes_over_is_lost_too() {
    // Nobody has answered: the offers that are out come to their end before new ones go.
    let mut test = talking();
    test.lose(1, Some(2));
    assert_eq!(test.lose(2, Some(3)), "");
    ladder(
        &mut test,
        "alice answers o  => alice re-INVITE r3(a)
         bob1 refuses 491 => bob1 re-INVITE r3(o)
         bob1 answers a   => 
         alice answers o  => ",
    );
    assert!(!test.is_moving() && test.relay_of_call() == 3);

    // One has moved there, and the first one is still alive.
    let mut test = talking();
    let since = test.asked.len();
    test.move_to(2);
    ladder(&mut test, "alice answers o => ");
    assert_eq!(test.lose(2, Some(3)), "alice re-INVITE r3(a)");
    ladder(&mut test, "bob1 answers a => bob1 re-INVITE r3(o)\nbob1 answers a => \nalice answers o => ");
    assert_eq!(test.asked_of(1, since), "Close");

    // The one that was left in good order is lost before all have left it.
    let mut test = talking();
    assert_eq!(test.move_to(2), BOTH);
    assert_eq!(test.lose(1, Some(3)), "");
    ladder(&mut test, "bob1 answers a => \nalice answers o => ");
    assert!(!test.is_moving() && test.relay_of_call() == 2);
}

#[test]
fn a_relay_that_has_no_room_leaves_the_call_where_it_is_or_ends_it() {
    let mut test = talking();
    test.relay = Relay::Full;
    assert_eq!(test.move_to(2), "");
    assert!(!test.is_moving() && test.relay_of_call() == 1);
    test.relay = Relay::Works;
    ladder(&mut test, "alice offers x => bob1 re-INVITE r(x)\nbob1 answers y => alice answer r(y)");

    let mut test = talking();
    test.relay = Relay::Full;
    assert_eq!(
        test.lose(1, Some(2)),
        "alice BYE, bob1 BYE, record 503 Platform answered (No media port free)"
    );
    let mut test = talking();
    assert_eq!(test.lose(1, None), "alice BYE, bob1 BYE, record 503 Platform answered (Media relay lost)");
}

#[test]
fn a_call_that_is_not_answered_ends_with_its_relay_and_moves_after_the_answer_when_it_is_only_asked_to() {
    let mut test = Test::new(1);
    ladder(&mut test, "dial 102 offer => bob1 INVITE r(o)");
    assert_eq!(
        test.lose(1, Some(2)),
        "alice 503, bob1 CANCEL, record 503 Platform unanswered (Media relay lost)"
    );

    // Answered, but the caller does not know yet.
    let mut test = Test::new(1);
    ladder(&mut test, "dial 102 offer => bob1 INVITE r(o)");
    test.dead.push(NodeId(1));
    ladder(&mut test, "bob1 200 a => ");
    assert_eq!(
        test.lose(1, Some(2)),
        "alice 503, bob1 BYE, record 503 Platform unanswered (Media relay lost)"
    );

    // No media yet: nobody knows the lost one.
    let mut test = Test::new(1);
    ladder(&mut test, "dial 102 => bob1 INVITE -");
    assert_eq!(test.lose(1, Some(2)), "");
    ladder(
        &mut test,
        "bob1 200 o => alice 200 r2(o), noted c1000000000001\nalice ack a => bob1 answer r2(a)",
    );

    let mut test = Test::new(1);
    ladder(&mut test, "dial 102 offer => bob1 INVITE r(o)");
    assert_eq!(test.move_to(2), "");
    ladder(
        &mut test,
        "bob1 200 a => alice 200 r(a), noted c1000000000001, alice re-INVITE r2(a), bob1 re-INVITE r2(o)",
    );
}

#[test]
fn a_silent_peer_does_not_end_a_call_that_moves() {
    let mut test = talking();
    test.move_to(2);
    let time = test.time();
    test.call.as_mut().unwrap().media_event(MediaEvent::Silent { leg: MediaLeg(1) }, time);
    assert_eq!(test.drain(), "");
}

#[test]
fn another_relay_than_the_calls_may_be_lost() {
    let mut test = talking();
    assert_eq!(test.lose(9, Some(2)), "");
    assert!(!test.is_moving() && test.call.as_ref().unwrap().uses_relay(NodeId(1)));
    ladder(&mut test, "alice offers x => bob1 re-INVITE r(x)");
}

#[test]
fn whoever_carries_on_a_call_that_moves_begins_the_move_again() {
    let mut test = talking();
    test.move_to(2);
    ladder(&mut test, "alice answers o => ");
    let since = test.asked.len();
    test.adopt(Vec::new());
    assert_eq!(test.drain(), format!("{}, {BOTH}", carried_on("bob1")));
    // Bob's session is still busy with the first offer; its answer will do.
    ladder(
        &mut test,
        "bob1 refuses 491 => \nbob1 answers a => \nalice answers o => \nwait 1 => bob1 re-INVITE r2(o)\nbob1 answers a => ",
    );
    assert!(!test.is_moving());
    // Its relays hear first of all whose the call is now.
    assert_eq!(test.asked_of(1, since), "Release { leg: MediaLeg(255) }, Close");

    // The relay is found to be lost.
    let mut test = talking();
    test.adopt(Vec::new());
    assert_eq!(test.drain(), carried_on("bob1"));
    assert_eq!(test.lose(1, Some(2)), BOTH);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Whatever peers, relays and owners do, in the end there is one record and nothing is left open.
    #[test]
    fn a_call_among_dying_relays_ends_with_one_record(steps in prop::collection::vec((0u8..16, any::<bool>()), 1..60)) {
        let mut test = talking();
        let mut next = 2;
        for (step, is_alice) in steps {
            let call = test.call.as_ref().unwrap();
            if call.is_over() {
                break;
            }
            let (relay, is_at_rest) = (call.relay().map(|relay| relay.0), call.capsule().is_some());
            let who = if is_alice { "alice" } else { "bob1" };
            match step {
                0..=3 => drop(test.on(&format!("{who} answers s{step}"))),
                4 | 5 => drop(test.on(&format!("{who} offers t{step}"))),
                6 => drop(test.on(&format!("{who} offers"))),
                7 => drop(test.on(&format!("{who} counter-offers u"))),
                8 => drop(test.on(&format!("{who} refuses 488"))),
                9 => drop(test.on(&format!("{who} withdraws"))),
                10 => drop(test.pass(1)),
                11 => {
                    next += 1;
                    drop(test.lose(relay.unwrap(), Some(next)));
                }
                12 => {
                    next += 1;
                    drop(test.move_to(next));
                }
                13 => test.dead.extend(relay.map(NodeId)), // nobody has noticed yet
                14 if is_at_rest => {
                    test.adopt(Vec::new());
                    drop(test.drain());
                }
                _ => {}
            }
        }
        if !test.call.as_ref().unwrap().is_over() {
            drop(test.on("alice bye"));
        }
        // Relays that do not answer are found to be dead.
        for relay in 1..=next {
            if !test.call.as_ref().unwrap().is_over() {
                drop(test.lose(relay, None));
            }
        }
        assert!(test.call.as_ref().unwrap().is_over(), "{:#?}", test.call);
        assert_eq!(test.records.len(), 1);
        assert_eq!(test.calls_of(1) + test.calls_of(2), 0);
    }
}
