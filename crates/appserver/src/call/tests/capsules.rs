//! Calls that another application server carries on from their capsule.

use super::*;
use crate::call::CapsuleError;
use model::HungUpBy;
use proptest::prelude::*;

#[test]
fn whoever_carries_a_call_on_at_any_quiet_moment_does_the_same() {
    ADOPTING.set(true);
    a_call_is_answered_and_hung_up();
    the_callee_hangs_up();
    the_first_answer_wins_and_a_crossing_one_is_hung_up();
    early_media_of_the_first_device_is_heard();
    another_device_behind_the_same_binding_answers_than_was_heard();
    what_a_device_said_unheard_stands_when_it_answers();
    an_answer_that_never_left_is_none();
    a_change_that_is_answered_badly_fails_and_the_session_goes_on();
    a_delayed_offer_goes_end_to_end();
    hold_resume_and_refusal_go_end_to_end();
    a_delayed_re_offer_goes_end_to_end();
    a_second_offer_waits_for_the_first();
    a_withdrawn_offer_is_withdrawn_from_the_other_side_too();
    a_withdrawn_offer_that_was_accepted_is_changed_back();
    a_withdrawn_delayed_offer_is_answered_as_before();
    info_and_its_answer_pass_through();
    the_relay_refuses();
    silence_and_an_expired_session_end_the_call();
    a_lost_leg_ends_the_call_or_only_its_ringing();
    a_record_that_cannot_be_written_is_tried_again();
    a_call_that_never_rings_is_no_attempt_and_one_that_rings_is();
    let mut test = talking();
    ladder(&mut test, "alice offers x => bob1 re-INVITE r(x)\nbob1 answers y => alice answer r(y)");
    assert_eq!(test.adoptions, 3, "answered, acknowledged, changed");
    ADOPTING.set(false);
}

#[test]
fn the_record_of_a_call_that_was_carried_on_is_that_of_the_whole_call() {
    let mut test = talking();
    let record = |mut test: Test| {
        ladder(&mut test, "wait 20 => \nalice bye => bob1 BYE, record 200 Caller answered (Normal clearing)");
        test.records.remove(0)
    };
    test.adopt(Vec::new());
    assert_eq!(test.drain(), carried_on("bob1"));
    assert_eq!(test.calls_of(1) + test.calls_of(2), 2, "both are counted here, once");
    assert_eq!(record(test), record(talking()));
}

#[test]
fn an_answer_of_a_relay_to_the_lost_one_is_not_taken_for_ours() {
    let mut test = talking();
    let before = test.asked.last().unwrap().1;
    test.adopt(Vec::new());
    test.drain();
    test.dead.push(NodeId(1)); // it answers later
    ladder(&mut test, "alice offers x => ");
    let (_, ours, _) = test.asked.last().unwrap().clone();
    assert!(ours > before + (1 << 15), "{before}, {ours}");
    let time = test.time();
    let call = test.call.as_mut().unwrap();
    (0..100).for_each(|ticket| call.media_reply(ticket, MediaReply::Sdp("old".into()), time));
    assert_eq!(test.drain(), "");
    test.call.as_mut().unwrap().media_reply(ours, MediaReply::Sdp("new".into()), time);
    assert_eq!(test.drain(), "bob1 re-INVITE new");
}

#[test]
fn a_call_that_rings_ends_in_order() {
    let mut test = Test::new(2);
    ladder(&mut test, "dial 102 offer => bob1 INVITE r(o), bob2 INVITE r(o)\nbob1 180 => alice 180 -");
    test.adopt(Vec::new());
    assert_eq!(
        test.drain(),
        "alice 503, bob1 CANCEL, bob2 CANCEL, alice BYE, bob1 BYE, bob2 BYE, \
         record 503 Platform unanswered (Application server lost)"
    );
    assert!(test.call.as_ref().unwrap().is_over());
    let legs: Vec<_> = test.records[0].legs.iter().map(|leg| leg.sip_call_id.as_str()).collect();
    assert_eq!(legs, ["a@phone", "b1@us", "b2@us"]);
    assert_eq!(test.calls_of(1) + test.calls_of(2), 0);
    // An answer that crosses is hung up.
    ladder(&mut test, "bob1 200 a => bob1 BYE");
}

fn at(who: &str, test: &Test, unix_us: i64, event: Option<LegEvent>) -> Happened {
    let leg = test.names.iter().find(|(_, name)| name == who).unwrap().0;
    Happened { leg, unix_us, event }
}

fn bye() -> Option<LegEvent> {
    Some(LegEvent::Ended { by_peer: true, cause: EndCause::Bye, reason: None })
}

/// What was done beside what is always done first.
fn done(test: &mut Test) -> String {
    let done = test.drain();
    let first = carried_on("bob1").replace("noted c1000000000001", "");
    done.strip_prefix(&first).expect(&done).to_owned()
}

#[test]
fn what_happened_while_nobody_served_the_call_counts_from_when_it_happened() {
    let mut test = talking();
    test.unix_us += 60_000_000;
    let happened = vec![at("bob1", &test, 31_000_000, bye())];
    test.adopt(happened);
    assert_eq!(done(&mut test), "alice BYE, record 200 Callee answered (Normal clearing)");
    assert_eq!((test.records[0].answered_us, test.records[0].ended_us), (Some(1_000_000), 31_000_000));

    let mut test = talking();
    let happened = vec![at("alice", &test, 9_000_000, None)];
    test.adopt(happened);
    assert_eq!(done(&mut test), "bob1 BYE, record 500 Platform answered (Leg failed)");
    assert_eq!(test.records[0].ended_us, 1_000_000, "clocks differ: nothing ends in the future");

    // A change is refused; its peer tries again.
    let mut test = talking();
    let offer = LegEvent::Offer { sdp: Some("x".into()), via: OfferVia::Invite };
    let happened = vec![at("alice", &test, 1_000_000, Some(offer))];
    test.adopt(happened);
    assert_eq!(test.drain(), carried_on("bob1"));
    ladder(&mut test, "alice offers x => bob1 re-INVITE r(x)");

    let mut test = Test::new(1);
    ladder(&mut test, "dial 102 offer => bob1 INVITE r(o)");
    let cancelled = Some(LegEvent::Cancelled { reason: None });
    let happened = vec![at("alice", &test, 500_000, cancelled)];
    test.adopt(happened);
    assert_eq!(test.drain(), "bob1 CANCEL, record 487 Caller unanswered (Cancelled)");
    assert_eq!(test.records[0].ended_us, 1_000_000, "not before it began");
}

#[test]
fn an_ended_call_writes_the_same_record_again() {
    let mut test = talking();
    test.hold_records = true;
    ladder(&mut test, "bob1 bye => alice BYE, record 200 Callee answered (Normal clearing)");
    let happened = vec![at("bob1", &test, 1_000_000, bye())];
    test.unix_us += 5_000_000;
    test.adopt(happened);
    test.hold_records = false;
    assert_eq!(test.drain(), "record 200 Callee answered (Normal clearing)");
    assert_eq!(test.records[0], test.records[1]);
    assert!(test.call.as_ref().unwrap().is_over());
    assert!(test.call.as_ref().unwrap().capsule().is_none());
    assert!(matches!(test.asked.last(), Some((NodeId(1), _, MediaCommand::Close))), "its ports are free");
}

#[test]
fn a_call_that_ended_while_its_relay_was_asked_asks_it_again() {
    let mut test = talking();
    test.dead.push(NodeId(1));
    ladder(&mut test, "bob1 bye => alice BYE");
    test.dead.clear();
    test.adopt(Vec::new());
    assert_eq!(test.drain(), "record 200 Callee answered (Normal clearing)");
    assert_eq!(test.records[0].legs[0].media.unwrap().packets_received, 7);
    assert_eq!(test.records[0].hung_up_by, HungUpBy::Callee);
}

#[test]
fn a_call_under_way_is_not_at_rest() {
    let mut test = Test::new(1);
    let fits = |test: &Test| test.call.as_ref().unwrap().capsule().is_some();
    test.dead.push(NodeId(1));
    ladder(&mut test, "dial 102 offer => ");
    assert!(!fits(&test), "the callee's leg has no name");
    let mut test = Test::new(1);
    ladder(&mut test, "dial 102 offer => bob1 INVITE r(o)");
    assert!(fits(&test));
    test.dead.push(NodeId(1));
    ladder(&mut test, "bob1 200 a => ");
    assert!(!fits(&test), "the caller was not answered");
    let mut test = talking();
    ladder(&mut test, "alice offers x => bob1 re-INVITE r(x)");
    assert!(!fits(&test));
    ladder(&mut test, "bob1 refuses 488 => alice refuse 488");
    assert!(fits(&test));
    let mut test = Test::new(1);
    ladder(&mut test, "dial 102 => bob1 INVITE -\nbob1 200 o => alice 200 r(o), noted c1000000000001");
    assert!(!fits(&test), "the caller's answer is to come");
    ladder(&mut test, "alice ack a => bob1 answer r(a)");
    assert!(fits(&test));
}

#[test]
fn a_leg_that_lives_elsewhere_is_known_by_its_new_name() {
    let mut test = talking();
    let (old, new) = (test.names[1].0, LegId::new(NodeId(9), 1, 77));
    let version = test.call.as_ref().unwrap().version();
    test.call.as_mut().unwrap().leg_moved(old, new);
    assert!(test.call.as_ref().unwrap().version() > version);
    test.names[1].0 = new;
    test.adopt(Vec::new());
    assert_eq!(test.drain(), carried_on("bob1"));
    assert_eq!(test.call.as_ref().unwrap().legs().collect::<Vec<_>>(), [test.names[0].0, new]);
    ladder(&mut test, "alice offers x => bob1 re-INVITE r(x)");
}

/// A description as telephones write them.
fn real_sdp(address: &str) -> Bytes {
    let codecs: String =
        ["0 PCMU/8000", "8 PCMA/8000", "9 G722/8000", "18 G729/8000", "101 telephone-event/8000"]
            .iter()
            .map(|codec| format!("a=rtpmap:{codec}\r\n"))
            .collect();
    format!(
        "v=0\r\no=- 3899210012 3899210012 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\nm=audio 16384 RTP/AVP 0 8 9 18 101\r\n\
         {codecs}a=fmtp:101 0-16\r\na=fmtp:18 annexb=no\r\na=ptime:20\r\na=sendrecv\r\na=rtcp:16385\r\n"
    )
    .into()
}

fn usual() -> (Capsule, Test) {
    let mut test = talking();
    let call = test.call.as_mut().unwrap();
    call.agree_on(0, real_sdp("192.0.2.9"));
    call.agree_on(1, real_sdp("198.51.100.77"));
    (call.capsule().unwrap(), test)
}

#[test]
fn the_capsule_of_a_usual_call_is_small() {
    let size = usual().0.encode().len();
    println!("a usual call's capsule has {size} octets");
    assert!(size < 2048, "{size}");
}

#[test]
fn a_description_that_is_larger_than_a_capsule_leaves_the_call_without_one() {
    let mut test = talking();
    let call = test.call.as_mut().unwrap();
    call.agree_on(1, vec![b'x'; CAPSULE_MAX].into());
    assert!(call.is_at_rest() && call.capsule().is_none());
}

#[test]
fn what_another_release_added_is_left_out_and_another_format_is_refused() {
    let (capsule, _) = usual();
    let mut newer = capsule.encode().to_vec();
    newer.extend_from_slice(&[0xfa, 0x7f, 3, 1, 2, 3]); // field 2047, three octets
    assert_eq!(Capsule::decode(&newer).unwrap(), capsule);
    assert_eq!(newer[..2], [8, 1], "the format is the first field");
    newer[1] = 2;
    assert_eq!(Capsule::decode(&newer), Err(CapsuleError::Format(2)));
    assert_eq!(Capsule::decode(&[]), Err(CapsuleError::Format(0)));
    assert!(matches!(Capsule::decode(&vec![0; CAPSULE_MAX + 1]), Err(CapsuleError::TooLong(_))));
}

#[test]
fn an_error_says_which_field_is_broken() {
    let forged = |from: &str, to: &str| {
        let bytes = usual().0.encode().to_vec();
        let place = bytes.windows(from.len()).position(|text| text == from.as_bytes()).expect(from);
        match Capsule::decode(&[&bytes[..place], to.as_bytes(), &bytes[place + from.len()..]].concat()) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("taken"),
        }
    };
    assert_eq!(forged("192.0.2.9", "x92.0.2.9"), "a call's capsule is broken: `address` is no IP address");
    // The second leg, as the first of two, which talks to itself.
    let talks = |callee: u8| String::from_utf8(vec![0x18, 2, 0x20, callee]).unwrap();
    assert_eq!(
        forged(&talks(1), &talks(2)),
        "a call's capsule is broken: `talking` is with a leg that is not there"
    );
    assert_eq!(
        forged(&talks(1), &String::from_utf8(vec![0x18, 9, 0x20, 1]).unwrap()),
        "a call's capsule is broken: `stage` is none that this release knows"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn bytes_of_anybody_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Capsule::decode(&bytes);
    }

    #[test]
    fn a_capsule_with_broken_bytes_is_refused_or_makes_a_call_that_ends_with_one_record(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (capsule, mut test) = usual();
        let mut bytes = capsule.encode().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(capsule) = Capsule::decode(&bytes) {
            let bye = Happened { leg: test.names[1].0, unix_us: 5, event: bye() };
            let mut call = Call::adopt(&capsule, 1, vec![bye], test.time());
            call.relay_lost(NodeId(1), Some(NodeId(2)), test.time());
            call.hang_up(480, "enough", test.time());
            test.names = capsule.legs().map(|leg| (leg, "leg".to_owned())).collect();
            test.call = Some(call);
            let done = test.carry_out();
            assert!(test.call.as_ref().unwrap().is_over(), "{done}");
            assert_eq!(test.records.len(), 1, "{done}");
        }
    }
}
