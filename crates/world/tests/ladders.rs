//! Calls of two phones through a whole node, message by message.

use model::{Configuration, RejectionMethod};
use world::{Options, ladder, ladder_in};

#[test]
fn a_call_is_answered_and_the_caller_hangs_up() {
    ladder(
        "
        alice INVITE > us INVITE:sdp > bob
        alice < 180 us < 180 bob
        alice < 200:sdp us < 200 bob
        us ACK > bob
        alice ACK > us
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn the_callee_hangs_up() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 200 us < 200 bob
        us ACK > bob
        alice ACK > us
        bob BYE > us BYE > alice
        us 200/BYE > bob
        alice 200/BYE > us
        cdr answered=yes status=200 by=Callee
        ",
    );
}

#[test]
fn the_caller_gives_up_while_ringing() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 180 us < 180 bob
        alice CANCEL > us
        alice < 200/CANCEL, 487/INVITE us
        alice ACK > us
        us CANCEL > bob
        bob 200/CANCEL > us
        bob 487/INVITE > us ACK > bob
        cdr answered=no status=487 by=Caller
        ",
    );
}

#[test]
fn a_cancel_that_crosses_the_answer_ends_with_bye() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        bob 180 > us 180 > alice
        alice CANCEL > us
        alice < 200/CANCEL, 487/INVITE us
        alice ACK > us
        us CANCEL > bob
        bob 200/INVITE > us ACK, BYE > bob
        bob 200/CANCEL > us
        bob 200/BYE > us
        cdr answered=no status=487 by=Caller
        ",
    );
}

#[test]
fn an_answer_that_meets_a_crashed_leg_is_hung_up() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 180 us < 180 bob
        crash bob
        us CANCEL > bob
        alice < 500 us
        alice ACK > us
        bob 200/INVITE > us ACK, BYE > bob
        bob 200/CANCEL > us
        bob 200/BYE > us
        cdr answered=no status=500 by=Platform
        ",
    );
}

#[test]
fn a_crashed_leg_ends_the_conversation_of_the_other() {
    for (crashed, other) in [("alice", "bob"), ("bob", "alice")] {
        ladder(&format!(
            "
            alice INVITE > us INVITE > bob
            alice < 200 us < 200 bob
            us ACK > bob
            alice ACK > us
            crash {crashed}
            us BYE > {crashed}
            us BYE > {other}
            {crashed} 200/BYE > us
            {other} 200/BYE > us
            cdr answered=yes status=500 by=Platform why=Leg_failed
            "
        ));
    }
}

#[test]
fn two_byes_cross() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 200 us < 200 bob
        us ACK > bob
        alice ACK > us
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob BYE > us 200/BYE > bob
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn early_media_goes_through_the_relay() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 183:sdp us < 183:sdp bob
        alice < 200:sdp us < 200 bob
        us ACK > bob
        alice ACK > us
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn a_reliable_response_is_acknowledged_on_each_leg() {
    ladder(
        "
        alice INVITE:rel > us INVITE:rel100 > bob
        bob 183:sdp,rel > us PRACK > bob
        alice < 183:sdp,rel us
        bob 200/PRACK > us
        alice PRACK > us
        alice < 200/PRACK us
        alice < 200/INVITE us < 200/INVITE:nosdp bob
        us ACK > bob
        alice ACK > us
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        "
        .replace(":rel100", ":has=Supported")
        .as_str(),
    );
}

#[test]
fn hold_and_resume_go_end_to_end() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 200 us < 200 bob
        us ACK > bob
        alice ACK > us
        alice re-INVITE:hold > us re-INVITE:hold > bob
        alice < 200:sdp us < 200 bob
        us ACK > bob
        alice ACK > us
        bob re-INVITE > us re-INVITE:sdp > alice
        alice 200 > us 200:sdp > bob
        us ACK > alice
        bob ACK > us
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn a_cancelled_change_that_was_accepted_is_changed_back() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 200 us < 200 bob
        us ACK > bob
        alice ACK > us
        alice re-INVITE:hold > us re-INVITE:hold > bob
        alice CANCEL > us
        alice < 200/CANCEL, 487/INVITE us
        alice ACK > us
        bob 200 > us ACK, re-INVITE:sdp > bob
        bob 200 > us ACK > bob
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn a_refused_change_leaves_the_call_as_it_was() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 200 us < 200 bob
        us ACK > bob
        alice ACK > us
        alice re-INVITE > us re-INVITE > bob
        bob 488 > us ACK > bob
        alice < 488 us
        alice ACK > us
        bob BYE > us BYE > alice
        us 200/BYE > bob
        alice 200/BYE > us
        cdr answered=yes status=200 by=Callee
        ",
    );
}

#[test]
fn a_delayed_offer_goes_end_to_end() {
    ladder(
        "
        alice INVITE:nosdp > us INVITE:nosdp > bob
        alice < 180 us < 180 bob
        alice < 200:sdp us < 200:sdp bob
        alice ACK:sdp > us ACK:sdp > bob
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn an_update_before_the_first_answer_is_told_to_come_later() {
    // RFC 3311 section 5.2: the answer in an unreliable 183 does not count.
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 183:sdp us < 183:sdp bob
        alice UPDATE:sdp > us
        alice < 500/UPDATE:has=Retry-After us
        alice < 200/INVITE us < 200 bob
        us ACK > bob
        alice ACK > us
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn info_goes_end_to_end() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 200 us < 200 bob
        us ACK > bob
        alice ACK > us
        alice INFO > us INFO > bob
        alice < 200/INFO us < 200/INFO bob
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn a_refusal_reaches_the_caller() {
    for (refusal, told) in [("486", "486"), ("603", "603"), ("480", "480"), ("503", "480"), ("405", "500")] {
        ladder(&format!(
            "
            alice INVITE > us INVITE > bob
            bob {refusal} > us ACK > bob
            alice < {told} us
            alice ACK > us
            cdr answered=no status={told} by={}
            ",
            if matches!(refusal, "503" | "405") { "Platform" } else { "Callee" },
        ));
    }
}

#[test]
fn nobody_answers() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 180 us < 180 bob
        wait 30
        alice < 480 us
        alice ACK > us
        us CANCEL > bob
        bob 200/CANCEL > us
        bob 487/INVITE > us ACK > bob
        cdr answered=no status=480 by=Platform
        ",
    );
}

#[test]
fn a_phone_that_says_nothing_is_given_up_and_cancelled_when_it_wakes() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        us INVITE > bob
        us INVITE > bob
        us INVITE > bob
        us INVITE > bob
        alice < 480 us
        alice ACK > us
        bob 180 > us CANCEL > bob
        bob 200/CANCEL > us
        bob 487/INVITE > us ACK > bob
        cdr answered=no status=480 by=Platform why=Unreachable
        ",
    );
}

#[test]
fn a_phone_that_says_nothing_does_not_stop_the_other() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        us INVITE > bob2
        alice < 180 us < 180 bob2
        us INVITE > bob
        us INVITE > bob
        us INVITE > bob
        us INVITE > bob
        wait 2
        alice < 200 us < 200 bob2
        us ACK > bob2
        alice ACK > us
        us INVITE > bob
        bob 180 > us CANCEL > bob
        bob 200/CANCEL > us
        bob 487/INVITE > us ACK > bob
        alice BYE > us BYE > bob2
        alice < 200/BYE us
        bob2 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn a_number_that_nobody_has_is_refused() {
    ladder(
        "
        alice INVITE/999 > us
        alice < 404 us
        alice ACK > us
        cdr answered=no status=404 by=Platform
        ",
    );
}

#[test]
fn two_phones_ring_and_one_wins() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        us INVITE > bob2
        alice < 180 us < 180 bob
        bob2 180 > us
        alice < 200 us < 200 bob2
        us ACK > bob2
        us CANCEL:has=completed_elsewhere > bob
        alice ACK > us
        bob 200/CANCEL > us
        bob 487/INVITE > us ACK > bob
        alice BYE > us BYE > bob2
        alice < 200/BYE us
        bob2 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn one_phone_may_refuse_for_all() {
    let mut options = Options::default();
    options.configuration.users[1].rejection = RejectionMethod::AllDevices;
    ladder_in(
        options,
        "
        alice INVITE > us INVITE > bob
        us INVITE > bob2
        bob 180 > us
        bob2 180 > us
        alice < 180 us
        bob 486 > us ACK > bob
        us CANCEL > bob2
        alice < 486 us
        alice ACK > us
        bob2 200/CANCEL > us
        bob2 487/INVITE > us ACK > bob2
        cdr answered=no status=486 by=Callee
        ",
    );
}

#[test]
fn do_not_disturb_refuses_without_ringing() {
    let mut configuration = Configuration::demo();
    configuration.users[1].do_not_disturb = true;
    ladder_in(
        Options { configuration, ..Options::default() },
        "
        alice INVITE > us
        alice < 486 us
        alice ACK > us
        cdr answered=no status=486 by=Platform
        ",
    );
}

#[test]
fn the_callee_sees_who_calls_and_not_what_the_phone_claims() {
    ladder(
        "
        alice INVITE > us INVITE:has=Allison,has=<sip:101@users.democlient.com>,has=P-Asserted-Identity > bob
        bob 486 > us ACK > bob
        alice < 486 us
        alice ACK > us
        cdr answered=no status=486 by=Callee
        ",
    );
}

#[test]
fn re_invites_cross_and_each_side_says_491() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 200 us < 200 bob
        us ACK > bob
        alice ACK > us
        alice re-INVITE > us re-INVITE > bob
        bob re-INVITE > us 491 > bob
        bob ACK > us
        bob 491 > us ACK > bob
        us re-INVITE > bob
        alice < 200 us < 200 bob
        us ACK > bob
        alice ACK > us
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn an_update_that_crosses_a_re_invite_gets_491() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 200 us < 200 bob
        us ACK > bob
        alice ACK > us
        alice re-INVITE > us re-INVITE > bob
        bob UPDATE:sdp > us 491/UPDATE > bob
        alice < 200 us < 200/INVITE bob
        us ACK > bob
        alice ACK > us
        bob UPDATE:sdp > us re-INVITE:sdp > alice
        alice 200/INVITE > us ACK > alice
        us 200/UPDATE:sdp > bob
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn offers_of_both_phones_cross_within_the_node() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 200 us < 200 bob
        us ACK > bob
        alice ACK > us
        alice re-INVITE > us
        bob re-INVITE > us
        us re-INVITE, 491/INVITE > bob
        bob ACK > us
        alice < 200 us < 200 bob
        us ACK > bob
        alice ACK > us
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn a_codec_changes_in_the_middle_of_a_call() {
    ladder(
        "
        alice INVITE:codec=8 > us INVITE:codec=8 > bob
        alice < 200:codec=8 us < 200:codec=8 bob
        us ACK > bob
        alice ACK > us
        alice re-INVITE:codec=9 > us re-INVITE:codec=9,sdp > bob
        alice < 200:codec=9,sdp us < 200:codec=9 bob
        us ACK > bob
        alice ACK > us
        bob re-INVITE:codec=0 > us re-INVITE:codec=0,sdp > alice
        alice 200:codec=0 > us ACK > alice
        us 200:codec=0,sdp > bob
        bob ACK > us
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn keys_pressed_in_info_go_end_to_end() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 200 us < 200 bob
        us ACK > bob
        alice ACK > us
        alice INFO:dtmf > us INFO:has=application/dtmf-relay,has=Signal=5,has=Duration=160 > bob
        alice < 200/INFO us < 200/INFO bob
        bob INFO:dtmf > us INFO:has=Signal=5 > alice
        bob < 415/INFO us < 415/INFO alice
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn a_call_without_media_stands_and_may_get_some_later() {
    ladder(
        "
        alice INVITE:nomedia > us INVITE:nomedia,sdp > bob
        alice < 180 us < 180 bob
        alice < 200:nomedia,sdp us < 200:nomedia bob
        us ACK > bob
        alice ACK > us
        alice re-INVITE > us re-INVITE:codec=8,sdp > bob
        alice < 200:codec=8,sdp us < 200 bob
        us ACK > bob
        alice ACK > us
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn of_two_phones_with_early_media_the_first_is_heard_until_one_answers() {
    for (first, second, heard, answer) in
        [("bob", "bob2", "127.0.0.12", "127.0.0.13"), ("bob2", "bob", "127.0.0.13", "127.0.0.12")]
    {
        ladder(&format!(
            "
            alice INVITE > us INVITE > bob
            us INVITE > bob2
            {first} 183:sdp > us 183:from={heard},sdp > alice
            {second} 183:sdp > us
            {second} 180 > us
            wait 1
            {second} 200/INVITE > us 200/INVITE:from={answer},sdp > alice
            us ACK > {second}
            us CANCEL > {first}
            {first} 200/CANCEL > us
            {first} 487/INVITE > us ACK > {first}
            alice ACK > us
            us re-INVITE:from={answer},sdp > alice
            alice 200/INVITE > us ACK > alice
            alice BYE > us BYE > {second}
            alice < 200/BYE us
            {second} 200/BYE > us
            cdr answered=yes status=200 by=Caller
            "
        ));
    }
}

#[test]
fn a_caller_that_stops_refreshing_is_hung_up() {
    ladder(
        "
        alice INVITE:expires=90;refresher=uac > us INVITE:has=Session-Expires > bob
        alice < 200:has=Session-Expires:_90;refresher=uac us < 200 bob
        us ACK > bob
        alice ACK > us
        wait 45
        alice UPDATE:expires=90;refresher=uac > us
        alice < 200/UPDATE:has=Session-Expires:_90;refresher=uac us
        wait 55
        us BYE:has=Session_timer_expired > alice
        us BYE > bob
        alice 200/BYE > us
        bob 200/BYE > us
        cdr answered=yes status=408 by=Platform why=Session_timer_expired
        ",
    );
}

#[test]
fn a_callee_that_stops_refreshing_is_hung_up() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 200 us < 200:expires=90;refresher=uas bob
        us ACK > bob
        alice ACK > us
        wait 45
        bob UPDATE:expires=90;refresher=uac > us
        bob < 200/UPDATE us
        wait 55
        us BYE:has=Session_timer_expired > bob
        us BYE > alice
        alice 200/BYE > us
        bob 200/BYE > us
        cdr answered=yes status=408 by=Platform why=Session_timer_expired
        ",
    );
}

#[test]
fn phones_that_know_no_timer_are_refreshed_by_the_node() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 200 us < 200 bob
        us ACK > bob
        alice ACK > us
        wait 897
        us UPDATE:nosdp,has=Session-Expires > alice
        alice 200/UPDATE:nosdp > us
        us UPDATE:nosdp,has=Session-Expires > bob
        bob 200/UPDATE:nosdp > us
        alice BYE > us BYE > bob
        alice < 200/BYE us
        bob 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn a_phone_that_has_forgotten_the_call_is_found_out_by_the_refresh() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        alice < 200 us < 200 bob
        us ACK > bob
        alice ACK > us
        wait 897
        us UPDATE:nosdp > bob
        bob 200/UPDATE:nosdp > us
        us UPDATE:nosdp > alice
        alice 481/UPDATE > us BYE > alice
        alice 481/BYE > us
        us BYE > bob
        bob 200/BYE > us
        cdr answered=yes status=481 by=Platform why=Dialog_unknown_to_the_peer
        ",
    );
}

#[test]
fn a_phone_that_is_busy_does_not_stop_the_other() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        us INVITE > bob2
        alice < 180 us < 180 bob2
        bob 486 > us ACK > bob
        alice < 200 us < 200 bob2
        us ACK > bob2
        alice ACK > us
        alice BYE > us BYE > bob2
        alice < 200/BYE us
        bob2 200/BYE > us
        cdr answered=yes status=200 by=Caller
        ",
    );
}

#[test]
fn a_phone_that_is_busy_everywhere_stops_the_other() {
    ladder(
        "
        alice INVITE > us INVITE > bob
        us INVITE > bob2
        alice < 180 us < 180 bob2
        bob 600 > us ACK > bob
        us CANCEL > bob2
        alice < 600 us
        alice ACK > us
        bob2 200/CANCEL > us
        bob2 487/INVITE > us ACK > bob2
        cdr answered=no status=600 by=Callee
        ",
    );
}
