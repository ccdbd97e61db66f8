//! Non-INVITE client transaction (RFC 3261 section 17.1.2).
//!
//! In: responses and time. Out: the request and its repeats, events for the user. Elsewhere: CANCEL, which lives in the
//! transaction that it cancels (`client_invite`), matching (`mod`).

use super::Event;
use super::client::Peer;
use super::step::Step;
use super::timers::{Alarm, Deadline, Span};
use crate::flow::Flow;
use crate::msg::Message;
use bytes::Bytes;

/// The machine; each variant is a state of figure 6.
pub(super) enum OtherClient {
    /// Nothing was heard. Timers E (`resend`) and F (`give_up`).
    Trying { request: Bytes, resend: Option<Deadline>, give_up: Deadline },
    /// A provisional response was heard; once timer E has fired again it goes on with T2.
    Proceeding { request: Bytes, resend: Option<Deadline>, give_up: Deadline },
    /// A final response was heard; repeats are absorbed. Timer K.
    Completed { linger: Deadline },
    /// Over.
    Terminated,
}

impl OtherClient {
    /// Sends the request.
    pub(super) fn start(request: Bytes, peer: &Peer, step: &mut Step<'_>) -> OtherClient {
        step.send(peer.flow, request.clone());
        let first = step.spans.at_most_t2(Span::FIRST);
        let resend = (!peer.is_reliable()).then(|| step.after(first));
        OtherClient::Trying { request, resend, give_up: step.after(Span::LIFE) }
    }

    /// Sends another form of the request by another way.
    pub(super) fn restart(&mut self, request: Bytes, peer: &Peer, step: &mut Step<'_>) {
        if let OtherClient::Trying { .. } = self {
            *self = OtherClient::start(request, peer, step);
        }
    }

    pub(super) fn handle_response(&mut self, msg: Message, from: Flow, peer: &Peer, step: &mut Step<'_>) {
        let provisional = msg.status() < 200;
        *self = match std::mem::replace(self, OtherClient::Terminated) {
            OtherClient::Trying { request, resend, give_up } if provisional => {
                step.tell(Event::Response { key: peer.key, msg, flow: from });
                OtherClient::Proceeding { request, resend, give_up }
            }
            OtherClient::Proceeding { request, resend, give_up } if provisional => {
                step.tell(Event::Response { key: peer.key, msg, flow: from });
                OtherClient::Proceeding { request, resend, give_up }
            }
            OtherClient::Trying { .. } | OtherClient::Proceeding { .. } => {
                step.tell(Event::Response { key: peer.key, msg, flow: from });
                if peer.is_reliable() {
                    OtherClient::Terminated // timer K is zero
                } else {
                    OtherClient::Completed { linger: step.after(Span::T4) }
                }
            }
            after @ (OtherClient::Completed { .. } | OtherClient::Terminated) => after,
        };
    }

    pub(super) fn handle_timeout(&mut self, alarm: Alarm, peer: &Peer, step: &mut Step<'_>) {
        match (&mut *self, alarm) {
            (OtherClient::Trying { request, resend: Some(resend), .. }, Alarm::Resend) => {
                step.send(peer.flow, request.clone());
                *resend = step.after(step.spans.doubled_to_t2(resend.span));
            }
            (OtherClient::Proceeding { request, resend: Some(resend), .. }, Alarm::Resend) => {
                step.send(peer.flow, request.clone());
                *resend = step.after(Span::T2);
            }
            (OtherClient::Trying { .. } | OtherClient::Proceeding { .. }, Alarm::Limit) => {
                step.tell(Event::Timeout { key: peer.key });
                *self = OtherClient::Terminated;
            }
            (OtherClient::Completed { .. }, Alarm::Limit) => *self = OtherClient::Terminated,
            (
                OtherClient::Trying { .. } | OtherClient::Proceeding { .. } | OtherClient::Completed { .. },
                Alarm::Resend,
            )
            | (OtherClient::Terminated, Alarm::Resend | Alarm::Limit) => {}
        }
    }

    /// The request did not leave (17.1.4).
    pub(super) fn handle_transport_error(&mut self, peer: &Peer, step: &mut Step<'_>) {
        if let OtherClient::Trying { .. } | OtherClient::Proceeding { .. } = self {
            step.tell(Event::TransportError { key: peer.key });
            *self = OtherClient::Terminated;
        }
    }

    pub(super) fn deadlines(&self) -> [Option<Deadline>; 2] {
        match self {
            OtherClient::Trying { resend, give_up, .. } | OtherClient::Proceeding { resend, give_up, .. } => {
                [*resend, Some(*give_up)]
            }
            OtherClient::Completed { linger } => [None, Some(*linger)],
            OtherClient::Terminated => [None, None],
        }
    }

    /// Whether the final response is still to come.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self, OtherClient::Trying { .. } | OtherClient::Proceeding { .. })
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, OtherClient::Terminated)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::ladder;
    use crate::flow::Transport::{Tcp, Udp};

    #[test]
    fn timer_e_repeats_the_request_with_pauses_up_to_t2_until_timer_f_gives_up() {
        ladder(
            Udp,
            "0     ask OPTIONS
             0     send OPTIONS
             0.5   send OPTIONS
             1.5   send OPTIONS
             3.5   send OPTIONS
             7.5   send OPTIONS
             11.5  send OPTIONS
             15.5  send OPTIONS
             19.5  send OPTIONS
             23.5  send OPTIONS
             27.5  send OPTIONS
             31.5  send OPTIONS
             32    tell Timeout
             32    open 0",
        );
    }

    #[test]
    fn over_a_reliable_transport_the_request_is_sent_once_and_timer_f_gives_up() {
        ladder(
            Tcp,
            "0     ask BYE
             0     send BYE
             1     recv 100
             1     tell Response 100
             32    tell Timeout",
        );
    }

    #[test]
    fn after_a_provisional_response_timer_e_goes_on_with_t2() {
        ladder(
            Udp,
            "0     ask OPTIONS
             0     send OPTIONS
             0.1   recv 100
             0.1   tell Response 100
             0.5   send OPTIONS
             4.5   send OPTIONS
             5     recv 100
             5     tell Response 100
             8.5   send OPTIONS
             9     recv 200
             9     tell Response 200
             14    over",
        );
    }

    #[test]
    fn timer_f_gives_up_after_a_provisional_response_too() {
        ladder(
            Udp,
            "0     ask REFER
             0     send REFER
             0.5   send REFER
             1.5   send REFER
             3.5   send REFER
             3.6   recv 100
             3.6   tell Response 100
             7.5   send REFER
             11.5  send REFER
             15.5  send REFER
             19.5  send REFER
             23.5  send REFER
             27.5  send REFER
             31.5  send REFER
             32    tell Timeout",
        );
    }

    #[test]
    fn the_first_final_response_goes_to_the_user_and_timer_k_absorbs_its_repeats() {
        ladder(
            Udp,
            "0     ask BYE
             0     send BYE
             0.2   recv 200
             0.2   tell Response 200
             0.3   recv 200
             1     recv 481
             2     recv 100
             5.2   over
             6     recv 200",
        );
    }

    #[test]
    fn over_a_reliable_transport_timer_k_is_zero() {
        ladder(
            Tcp,
            "0     ask REGISTER
             0     send REGISTER
             0.2   recv 401
             0.2   tell Response 401
             0.2   open 0",
        );
    }

    #[test]
    fn a_transport_error_ends_the_request() {
        ladder(
            Udp,
            "0     ask OPTIONS
             0     send OPTIONS
             0.1   recv 100
             0.1   tell Response 100
             0.2   broken
             0.2   tell TransportError",
        );
    }

    #[test]
    fn a_transport_error_after_the_final_response_tells_nothing() {
        ladder(
            Udp,
            "0     ask OPTIONS
             0     send OPTIONS
             0.1   recv 200
             0.1   tell Response 200
             0.2   broken
             5.1   over",
        );
    }

    #[test]
    fn cancelling_another_request_than_invite_does_nothing() {
        ladder(
            Tcp,
            "0     ask BYE
             0     send BYE
             0.1   cancel
             0.2   recv 200
             0.2   tell Response 200",
        );
    }

    #[test]
    fn a_method_that_nobody_knows_is_a_request_like_any_other() {
        ladder(
            Tcp,
            "0     ask FLY
             0     send FLY
             0.2   recv 501
             0.2   tell Response 501",
        );
    }
}
