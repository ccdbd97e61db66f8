//! Non-INVITE server transaction (RFC 3261 section 17.2.2 as narrowed by RFC 4320).
//!
//! In: repeats of the request, the user's answers, time. Out: the answer and its repeats, a 100 when the user is slow.
//! Elsewhere: matching (`mod`).

use super::Event;
use super::server::Peer;
use super::step::Step;
use super::timers::{Alarm, Deadline, Span};
use crate::draft::ResponseDraft;
use crate::msg::Message;
use bytes::Bytes;

/// The machine; each variant is a state of figure 8.
pub(super) enum OtherServer {
    /// Nothing was answered; repeats are absorbed. `slow` is when RFC 4320 wants a 100, `give_up` when the peer has
    /// given up.
    Trying { request: Message, slow: Deadline, give_up: Deadline },
    /// A 100 was answered.
    Proceeding { request: Message, last: Bytes, give_up: Deadline },
    /// The final answer was given. Timer J.
    Completed { response: Bytes, linger: Deadline },
    /// Over.
    Terminated,
}

impl OtherServer {
    /// A new request, which the caller has announced to the user.
    pub(super) fn start(request: Message, step: &Step<'_>) -> OtherServer {
        OtherServer::Trying { request, slow: step.after(Span::SLOW), give_up: step.after(Span::LIFE) }
    }

    /// Whether the user still owes the final answer.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self, OtherServer::Trying { .. } | OtherServer::Proceeding { .. })
    }

    /// The request came again.
    pub(super) fn handle_repeat(&mut self, peer: &Peer, step: &mut Step<'_>) {
        match self {
            OtherServer::Proceeding { last: response, .. } | OtherServer::Completed { response, .. } => {
                step.send(peer.way_back.flow, response.clone());
            }
            OtherServer::Trying { .. } | OtherServer::Terminated => {}
        }
    }

    /// RFC 4320 section 4: the only provisional response is 100, not before the layer's own would go by UDP; 408 is never
    /// sent, the peer knows the time itself. What may not be sent is ignored.
    pub(super) fn respond(&mut self, draft: &ResponseDraft, peer: &Peer, step: &mut Step<'_>) {
        match self {
            OtherServer::Trying { request, .. } | OtherServer::Proceeding { request, .. }
                if draft.status >= 200 && draft.status != 408 =>
            {
                let response = step.response(request, peer.way_back.source, draft);
                step.send(peer.way_back.flow, response.clone());
                *self = if peer.is_reliable() {
                    OtherServer::Terminated // timer J is zero
                } else {
                    OtherServer::Completed { response, linger: step.after(Span::LIFE) }
                };
            }
            OtherServer::Trying { .. } if draft.status == 100 && peer.is_reliable() => {
                self.proceed(draft, peer, step);
            }
            OtherServer::Trying { .. }
            | OtherServer::Proceeding { .. }
            | OtherServer::Completed { .. }
            | OtherServer::Terminated => {}
        }
    }

    fn proceed(&mut self, draft: &ResponseDraft, peer: &Peer, step: &mut Step<'_>) {
        *self = match std::mem::replace(self, OtherServer::Terminated) {
            OtherServer::Trying { request, give_up, .. } => {
                let last = step.response(&request, peer.way_back.source, draft);
                step.send(peer.way_back.flow, last.clone());
                OtherServer::Proceeding { request, last, give_up }
            }
            other @ (OtherServer::Proceeding { .. }
            | OtherServer::Completed { .. }
            | OtherServer::Terminated) => other,
        };
    }

    pub(super) fn handle_timeout(&mut self, alarm: Alarm, peer: &Peer, step: &mut Step<'_>) {
        match (&*self, alarm) {
            (OtherServer::Trying { .. }, Alarm::Resend) => self.proceed(&ResponseDraft::new(100), peer, step),
            (OtherServer::Trying { .. } | OtherServer::Proceeding { .. }, Alarm::Limit) => {
                step.tell(Event::Unanswered { id: peer.id });
                *self = OtherServer::Terminated;
            }
            (OtherServer::Completed { .. }, Alarm::Limit) => *self = OtherServer::Terminated,
            (OtherServer::Proceeding { .. } | OtherServer::Completed { .. }, Alarm::Resend)
            | (OtherServer::Terminated, Alarm::Resend | Alarm::Limit) => {}
        }
    }

    pub(super) fn deadlines(&self) -> [Option<Deadline>; 2] {
        match self {
            OtherServer::Trying { slow, give_up, .. } => [Some(*slow), Some(*give_up)],
            OtherServer::Proceeding { give_up, .. } => [None, Some(*give_up)],
            OtherServer::Completed { linger, .. } => [None, Some(*linger)],
            OtherServer::Terminated => [None, None],
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, OtherServer::Terminated)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::ladder;
    use crate::flow::Transport::{Tcp, Udp};

    #[test]
    fn repeats_are_discarded_until_the_answer_and_get_it_again_until_timer_j() {
        ladder(
            Udp,
            "0     recv OPTIONS
             0     tell Request OPTIONS
             0.5   recv OPTIONS
             1     answer 200
             1     send 200 OPTIONS
             1.5   recv OPTIONS
             1.5   send 200 OPTIONS
             30    recv OPTIONS
             30    send 200 OPTIONS
             33    over",
        );
    }

    #[test]
    fn over_a_reliable_transport_timer_j_is_zero() {
        ladder(
            Tcp,
            "0     recv BYE to=ours
             0     tell Request BYE
             1     answer 481
             1     send 481 BYE
             1     open 0",
        );
    }

    #[test]
    fn a_second_final_answer_is_discarded() {
        ladder(
            Udp,
            "0     recv OPTIONS
             0     tell Request OPTIONS
             1     answer 404
             1     send 404 OPTIONS
             2     answer 200
             3     recv OPTIONS
             3     send 404 OPTIONS
             33    over",
        );
    }

    #[test]
    fn a_slow_user_makes_the_layer_send_100_when_timer_e_of_the_peer_has_grown_to_t2() {
        ladder(
            Udp,
            "0     recv REGISTER
             0     tell Request REGISTER
             1     answer 100
             3.5   send 100 REGISTER
             7.5   recv REGISTER
             7.5   send 100 REGISTER
             8     answer 200
             8     send 200 REGISTER
             8.5   recv REGISTER
             8.5   send 200 REGISTER
             40    over",
        );
    }

    #[test]
    fn over_a_reliable_transport_the_user_may_send_100_at_any_time() {
        ladder(
            Tcp,
            "0     recv REGISTER
             0     tell Request REGISTER
             1     answer 100
             1     send 100 REGISTER
             2     answer 200
             2     send 200 REGISTER",
        );
    }

    #[test]
    fn neither_other_provisional_responses_nor_408_are_sent() {
        ladder(
            Udp,
            "0     recv INFO to=ours
             0     tell Request INFO
             1     answer 183
             2     answer 408
             3     answer 200
             3     send 200 INFO
             35    over",
        );
    }

    #[test]
    fn a_request_that_the_user_forgets_is_forgotten_when_its_sender_has_given_up() {
        ladder(
            Udp,
            "0     recv NOTIFY to=ours
             0     tell Request NOTIFY
             3.5   send 100 NOTIFY
             32    tell Unanswered
             32    answer 200
             32    open 0",
        );
    }

    #[test]
    fn a_cancel_for_it_gets_200_and_changes_nothing() {
        ladder(
            Tcp,
            "0     recv REGISTER
             0     tell Request REGISTER
             1     recv CANCEL
             1     send 200 CANCEL
             2     answer 200
             2     send 200 REGISTER",
        );
    }

    #[test]
    fn when_its_connection_is_gone_the_answer_goes_to_sent_by() {
        ladder(
            Tcp,
            "0     recv REGISTER
             0     tell Request REGISTER
             1     broken
             2     answer 200
             2     send 200 REGISTER port=5070",
        );
    }
}
