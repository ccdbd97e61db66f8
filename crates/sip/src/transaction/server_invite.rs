//! INVITE server transaction (RFC 3261 section 17.2.1 as changed by RFC 6026).
//!
//! In: repeats of the INVITE, its ACK, a CANCEL, the user's answers, time. Out: the automatic 100, the answers, repeats of
//! a failure answer, events. Elsewhere: the repeating of a 2xx (`session`), matching (`mod`).

use super::Event;
use super::server::Peer;
use super::step::Step;
use super::timers::{Alarm, Deadline, Span};
use crate::draft::ResponseDraft;
use crate::msg::Message;
use bytes::Bytes;

/// The machine; each variant is a state of RFC 6026 figure 7.
pub(super) enum InviteServer {
    /// The user has not decided. `trying` is when the 100 is due, `give_up` when the user counts as lost.
    Proceeding {
        request: Message,
        last: Option<Bytes>,
        trying: Option<Deadline>,
        give_up: Deadline,
        cancelled: bool,
    },
    /// A failure was answered. Timers G (`resend`) and H (`give_up`).
    Completed { response: Bytes, resend: Option<Deadline>, give_up: Deadline },
    /// The failure was acknowledged. Timer I.
    Confirmed { linger: Deadline },
    /// A 2xx was answered. It is kept, for the user to repeat, until its ACK passes. Timer L.
    Accepted { response: Option<Bytes>, linger: Deadline },
    /// Over.
    Terminated,
}

/// What became of an ACK that matches the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckFate {
    /// It was for a failure answer, or for nothing.
    Absorbed,
    /// It is for a 2xx: the user's.
    Passed,
}

impl InviteServer {
    /// A new INVITE, which the caller has announced to the user.
    pub(super) fn start(
        request: Message,
        trying_immediately: bool,
        peer: &Peer,
        step: &mut Step<'_>,
    ) -> InviteServer {
        let mut last = None;
        let mut trying = None;
        if trying_immediately {
            let bytes = step.response(&request, peer.way_back.source, &ResponseDraft::new(100));
            step.send(peer.way_back.flow, bytes.clone());
            last = Some(bytes);
        } else {
            trying = Some(step.after(Span::TRYING));
        }
        InviteServer::Proceeding {
            request,
            last,
            trying,
            give_up: step.after(Span::ANSWER),
            cancelled: false,
        }
    }

    /// The INVITE, as long as it is not answered.
    pub(super) fn request(&self) -> Option<&Message> {
        match self {
            InviteServer::Proceeding { request, .. } => Some(request),
            InviteServer::Completed { .. }
            | InviteServer::Confirmed { .. }
            | InviteServer::Accepted { .. }
            | InviteServer::Terminated => None,
        }
    }

    /// The bytes of the last answer, if they are still needed.
    pub(super) fn answer(&self) -> Option<&Bytes> {
        match self {
            InviteServer::Proceeding { last: response, .. } | InviteServer::Accepted { response, .. } => {
                response.as_ref()
            }
            InviteServer::Completed { response, .. } => Some(response),
            InviteServer::Confirmed { .. } | InviteServer::Terminated => None,
        }
    }

    /// The INVITE came again.
    pub(super) fn handle_repeat(&mut self, peer: &Peer, step: &mut Step<'_>) {
        match self {
            InviteServer::Proceeding { last: Some(response), .. }
            | InviteServer::Completed { response, .. } => step.send(peer.way_back.flow, response.clone()),
            InviteServer::Proceeding { last: None, .. }
            | InviteServer::Confirmed { .. }
            | InviteServer::Accepted { .. }
            | InviteServer::Terminated => {}
        }
    }

    /// An ACK with the branch of the INVITE. `is_ours` tells whether it has the To tag of our answer.
    pub(super) fn handle_ack(&mut self, is_ours: bool, peer: &Peer, step: &Step<'_>) -> AckFate {
        match self {
            InviteServer::Completed { .. } | InviteServer::Confirmed { .. } if !is_ours => AckFate::Passed,
            InviteServer::Completed { .. } => {
                *self = if peer.is_reliable() {
                    InviteServer::Terminated // timer I is zero
                } else {
                    InviteServer::Confirmed { linger: step.after(Span::T4) }
                };
                AckFate::Absorbed
            }
            InviteServer::Accepted { .. } => AckFate::Passed,
            InviteServer::Proceeding { .. } | InviteServer::Confirmed { .. } | InviteServer::Terminated => {
                AckFate::Absorbed
            }
        }
    }

    /// The ACK of the 2xx went to the user: nobody needs the 2xx any more.
    pub(super) fn forget_answer(&mut self) {
        if let InviteServer::Accepted { response, .. } = self {
            *response = None;
        }
    }

    /// A CANCEL for this INVITE: true if the user has to be told, which is once and only before the final answer (9.2).
    pub(super) fn handle_cancel(&mut self) -> bool {
        match self {
            InviteServer::Proceeding { cancelled, .. } => !std::mem::replace(cancelled, true),
            InviteServer::Completed { .. }
            | InviteServer::Confirmed { .. }
            | InviteServer::Accepted { .. }
            | InviteServer::Terminated => false,
        }
    }

    pub(super) fn respond(&mut self, draft: &ResponseDraft, peer: &Peer, step: &mut Step<'_>) {
        match self {
            InviteServer::Proceeding { request, last, trying, give_up, .. } => {
                let bytes = step.response(request, peer.way_back.source, draft);
                step.send(peer.way_back.flow, bytes.clone());
                if draft.status < 200 {
                    *last = Some(bytes);
                    *trying = None;
                    *give_up = step.after(Span::ANSWER);
                } else if draft.status < 300 {
                    *self = InviteServer::Accepted { response: Some(bytes), linger: step.after(Span::LIFE) };
                } else {
                    *self = InviteServer::completed(bytes, peer, step);
                }
            }
            InviteServer::Accepted { response: Some(response), .. } if (200..300).contains(&draft.status) => {
                step.send(peer.way_back.flow, response.clone());
            }
            InviteServer::Accepted { .. }
            | InviteServer::Completed { .. }
            | InviteServer::Confirmed { .. }
            | InviteServer::Terminated => {}
        }
    }

    fn completed(response: Bytes, peer: &Peer, step: &Step<'_>) -> InviteServer {
        let first = step.spans.at_most_t2(Span::FIRST);
        let resend = (!peer.is_reliable()).then(|| step.after(first));
        InviteServer::Completed { response, resend, give_up: step.after(Span::LIFE) }
    }

    pub(super) fn handle_timeout(&mut self, alarm: Alarm, peer: &Peer, step: &mut Step<'_>) {
        match (&mut *self, alarm) {
            (InviteServer::Proceeding { request, last, trying, .. }, Alarm::Resend) => {
                let bytes = step.response(request, peer.way_back.source, &ResponseDraft::new(100));
                step.send(peer.way_back.flow, bytes.clone());
                *last = Some(bytes);
                *trying = None;
            }
            (InviteServer::Proceeding { .. }, Alarm::Limit) => {
                step.tell(Event::Unanswered { id: peer.id });
                self.respond(&ResponseDraft::new(500), peer, step);
            }
            (InviteServer::Completed { response, resend: Some(resend), .. }, Alarm::Resend) => {
                step.send(peer.way_back.flow, response.clone());
                *resend = step.after(step.spans.doubled_to_t2(resend.span));
            }
            (InviteServer::Completed { .. }, Alarm::Limit) => {
                step.tell(Event::NoAck { id: peer.id });
                *self = InviteServer::Terminated;
            }
            (InviteServer::Confirmed { .. } | InviteServer::Accepted { .. }, Alarm::Limit) => {
                *self = InviteServer::Terminated;
            }
            (
                InviteServer::Completed { .. }
                | InviteServer::Confirmed { .. }
                | InviteServer::Accepted { .. },
                Alarm::Resend,
            )
            | (InviteServer::Terminated, Alarm::Resend | Alarm::Limit) => {}
        }
    }

    /// Answers go by another connection now: a failure that nobody acknowledged may have been lost with the old one.
    pub(super) fn handle_new_flow(&mut self, peer: &Peer, step: &mut Step<'_>) {
        if let InviteServer::Completed { response, .. } = self {
            step.send(peer.way_back.flow, response.clone());
        }
    }

    pub(super) fn deadlines(&self) -> [Option<Deadline>; 2] {
        match self {
            InviteServer::Proceeding { trying, give_up, .. } => [*trying, Some(*give_up)],
            InviteServer::Completed { resend, give_up, .. } => [*resend, Some(*give_up)],
            InviteServer::Confirmed { linger } | InviteServer::Accepted { linger, .. } => {
                [None, Some(*linger)]
            }
            InviteServer::Terminated => [None, None],
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, InviteServer::Terminated)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::testing::{Bench, ladder};
    use crate::flow::Transport::{Tcp, Udp};
    use std::time::Duration;

    fn patient() -> Config {
        Config { trying_immediately: false, ..Config::default() }
    }

    #[test]
    fn the_100_is_sent_at_once_and_repeats_get_the_latest_provisional_response() {
        ladder(
            Udp,
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             0.5   recv INVITE
             0.5   send 100 INVITE
             1     answer 180
             1     send 180 INVITE
             1.5   recv INVITE
             1.5   send 180 INVITE
             2     answer 183
             2     send 183 INVITE
             3.5   recv INVITE
             3.5   send 183 INVITE
             9     answer 200
             9     send 200 INVITE
             41    over",
        );
    }

    #[test]
    fn the_100_waits_200_ms_for_the_user() {
        Bench::new(Udp, patient()).play(
            "0     recv INVITE
             0     tell Request INVITE
             0.1   recv INVITE
             0.2   send 100 INVITE
             0.5   recv INVITE
             0.5   send 100 INVITE
             1     answer 200
             1     send 200 INVITE
             33    over",
        );
    }

    #[test]
    fn an_answer_within_200_ms_makes_the_100_superfluous() {
        Bench::new(Udp, patient()).play(
            "0     recv INVITE
             0     tell Request INVITE
             0.1   answer 180
             0.1   send 180 INVITE
             1     answer 200
             1     send 200 INVITE",
        );
    }

    #[test]
    fn the_100_has_no_to_tag_and_every_other_answer_has_one() {
        let mut bench = Bench::new(Udp, Config::default());
        bench.play_on(
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE",
        );
        assert_eq!(bench.last_sent().to_tag(), None);
        bench.play_on(
            "0.1   answer 180
             0.1   send 180 INVITE",
        );
        let tag = bench.last_sent().to_tag().expect("a tag of the layer").to_vec();
        bench.play_on(
            "0.2   answer 200
             0.2   send 200 INVITE",
        );
        assert_eq!(bench.last_sent().to_tag(), Some(&*tag));
    }

    #[test]
    fn a_2xx_is_repeated_by_the_user_and_repeats_of_the_invite_are_absorbed_until_timer_l() {
        ladder(
            Udp,
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             1     answer 200
             1     send 200 INVITE
             1.2   recv INVITE
             1.5   answer 200
             1.5   send 200 INVITE
             1.6   answer 486
             1.7   answer 180
             33    over",
        );
    }

    #[test]
    fn timer_l_runs_over_reliable_transports_too() {
        ladder(
            Tcp,
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             1     answer 200
             1     send 200 INVITE
             1.1   recv ACK branch=z9hG4bK-2 to=ours
             1.1   tell Ack
             33    over",
        );
    }

    #[test]
    fn the_ack_of_a_2xx_goes_to_the_user_every_time_and_ends_the_repeating() {
        ladder(
            Udp,
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             1     answer 200
             1     send 200 INVITE
             1.5   answer 200
             1.5   send 200 INVITE
             1.6   recv ACK branch=z9hG4bK-2 to=ours
             1.6   tell Ack
             1.7   recv ACK branch=z9hG4bK-2 to=ours
             1.7   tell Ack
             2.5   answer 200
             33    over",
        );
    }

    #[test]
    fn the_ack_of_a_re_invite_ends_the_repeating_of_its_2xx() {
        ladder(
            Udp,
            "0     recv INVITE to=ours
             0     send 100 INVITE
             0     tell Request INVITE
             1     answer 200
             1     send 200 INVITE
             1.6   recv ACK branch=z9hG4bK-2 to=ours
             1.6   tell Ack
             2     answer 200
             33    over",
        );
    }

    #[test]
    fn the_ack_of_another_invite_does_not_end_the_repeating() {
        ladder(
            Udp,
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             1     answer 200
             1     send 200 INVITE
             1.1   recv ACK branch=z9hG4bK-2 to=ours cseq=2
             1.1   tell Ack
             1.2   recv ACK branch=z9hG4bK-2 to=ours call=another
             1.2   tell Ack
             1.3   recv ACK branch=z9hG4bK-2 to=ours from=another
             1.3   tell Ack
             2     answer 200
             2     send 200 INVITE
             33    over",
        );
    }

    #[test]
    fn an_ack_of_a_2xx_with_the_branch_of_the_invite_still_goes_to_the_user() {
        ladder(
            Udp,
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             1     answer 200
             1     send 200 INVITE
             1.1   recv ACK to=ours
             1.1   tell Ack
             33    over",
        );
    }

    #[test]
    fn timer_g_repeats_a_failure_with_pauses_up_to_t2_until_timer_h_gives_up() {
        ladder(
            Udp,
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             0     answer 486
             0     send 486 INVITE
             0.5   send 486 INVITE
             1.5   send 486 INVITE
             3.5   send 486 INVITE
             7.5   send 486 INVITE
             11.5  send 486 INVITE
             15.5  send 486 INVITE
             19.5  send 486 INVITE
             23.5  send 486 INVITE
             27.5  send 486 INVITE
             31.5  send 486 INVITE
             32    tell NoAck
             32    open 0",
        );
    }

    #[test]
    fn over_a_reliable_transport_a_failure_is_sent_once_and_timer_h_gives_up() {
        ladder(
            Tcp,
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             0     answer 302
             0     send 302 INVITE
             32    tell NoAck",
        );
    }

    #[test]
    fn the_ack_of_a_failure_is_absorbed_and_timer_i_absorbs_its_repeats() {
        ladder(
            Udp,
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             1     answer 486
             1     send 486 INVITE
             1.2   recv INVITE
             1.2   send 486 INVITE
             1.3   recv ACK to=ours
             1.4   recv ACK to=ours
             1.5   recv INVITE
             1.6   answer 200
             6.3   over",
        );
    }

    #[test]
    fn over_a_reliable_transport_timer_i_is_zero() {
        ladder(
            Tcp,
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             1     answer 486
             1     send 486 INVITE
             1.3   recv ACK to=ours
             1.3   open 0",
        );
    }

    #[test]
    fn an_ack_before_any_final_answer_means_nothing() {
        ladder(
            Tcp,
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             1     recv ACK
             2     answer 486
             2     send 486 INVITE
             3     recv ACK",
        );
    }

    #[test]
    fn a_cancel_is_answered_200_and_told_once() {
        ladder(
            Udp,
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             1     recv CANCEL reason=SIP;cause=200
             1     send 200 CANCEL
             1     tell Cancelled SIP;cause=200
             1.5   recv CANCEL
             1.5   send 200 CANCEL
             1.6   answer 487
             1.6   send 487 INVITE
             1.7   recv ACK
             6.7   over",
        );
    }

    #[test]
    fn a_cancel_after_the_final_answer_gets_200_and_has_no_effect() {
        for (status, ends) in [("200", "33"), ("404", "6.5")] {
            let mut bench = Bench::new(Udp, Config::default());
            bench.play_on(&format!(
                "0     recv INVITE
                 0     send 100 INVITE
                 0     tell Request INVITE
                 1     answer {status} tag=ours
                 1     send {status} INVITE
                 1.1   recv CANCEL
                 1.1   send 200 CANCEL"
            ));
            assert_eq!(bench.last_sent().to_tag(), Some(b"ours".as_slice()), "the tag of the answer (9.2)");
            if status == "404" {
                bench.play_on("1.5 send 404 INVITE\n1.5 recv ACK");
            }
            bench.play(&format!("{ends} over"));
        }
    }

    #[test]
    fn the_answer_to_a_cancel_has_the_to_tag_of_the_ringing() {
        let mut bench = Bench::new(Udp, Config::default());
        bench.play_on(
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             1     answer 180 tag=ring
             1     send 180 INVITE
             2     recv CANCEL
             2     send 200 CANCEL
             2     tell Cancelled",
        );
        assert_eq!(bench.last_sent().to_tag(), Some(b"ring".as_slice()));
    }

    #[test]
    fn a_user_that_never_answers_is_replaced_by_a_500() {
        let cfg = Config { answer_within: Duration::from_secs(200), ..Config::default() };
        Bench::new(Udp, cfg).play(
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             100   answer 180
             100   send 180 INVITE
             300   send 500 INVITE
             300   tell Unanswered
             300.1 recv ACK
             300.2 answer 200
             305.1 over",
        );
    }

    #[test]
    fn when_its_connection_is_gone_the_answer_goes_to_sent_by() {
        ladder(
            Tcp,
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             1     broken
             2     answer 180
             2     send 180 INVITE port=5070
             3     answer 200
             3     send 200 INVITE port=5070
             35    over",
        );
    }

    #[test]
    fn a_failure_that_was_not_acknowledged_goes_again_by_the_new_connection_once() {
        let mut bench = Bench::new(Tcp, Config::default());
        bench.play_on(
            "0     recv INVITE sent-by=198.51.100.2
             0     send 100 INVITE
             0     tell Request INVITE
             1     answer 486
             1     send 486 INVITE
             2     broken
             2     send 486 INVITE port=5060",
        );
        assert_eq!(bench.wire.last().unwrap().flow.conn.0, 0, "the shell opens a connection");
        bench.play(
            "3     broken
             4     recv INVITE sent-by=198.51.100.2
             4     send 486 INVITE port=5060
             33    tell NoAck",
        );
    }
}
