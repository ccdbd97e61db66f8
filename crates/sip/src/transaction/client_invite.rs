//! INVITE client transaction (RFC 3261 section 17.1.1 as changed by RFC 6026) and the CANCEL that may stop it (9.1).
//!
//! In: responses, the user's wish to cancel, time. Out: the INVITE and its repeats, the ACK of a failure, the CANCEL and
//! its repeats, events for the user. Elsewhere: the ACK of a 2xx (`dialog`, `session`), matching (`mod`).

use super::Event;
use super::client::Peer;
use super::step::Step;
use super::timers::{Alarm, Deadline, Span};
use crate::draft::{ack_for_failure, cancel_for};
use crate::flow::Flow;
use crate::msg::Message;
use bytes::Bytes;

/// The machine; each variant is a state of RFC 6026 figure 5.
pub(super) enum InviteClient {
    /// Nothing was heard. Timers A (`resend`) and B (`give_up`).
    Calling { request: Bytes, resend: Option<Deadline>, give_up: Deadline, cancel: Option<Wish> },
    /// A provisional response was heard. `give_up` bounds a peer that rings for ever and a CANCEL that is not heeded.
    Proceeding { request: Bytes, cancel: Cancel, give_up: Deadline },
    /// A failure was heard; its repeats get the ACK again. Timer D.
    Completed { ack: Bytes, linger: Deadline },
    /// A 2xx was heard; its repeats and those of other forks go to the user. Timer M.
    Accepted { linger: Deadline },
    /// Over.
    Terminated,
}

/// The user wants to cancel, but no provisional response has come yet (section 9.1).
pub(super) struct Wish {
    reason: Option<String>,
}

/// The CANCEL of an INVITE. It is a transaction of its own with the branch of the INVITE; it ends with the INVITE at
/// the latest, since a CANCEL means nothing once there is a final response.
pub(super) enum Cancel {
    /// Nobody cancelled.
    No,
    /// On its way. Timer E.
    Sent { request: Bytes, resend: Option<Deadline> },
    /// The peer has answered it.
    Answered,
}

impl InviteClient {
    /// Sends the INVITE.
    pub(super) fn start(request: Bytes, peer: &Peer, step: &mut Step<'_>) -> InviteClient {
        step.send(peer.flow, request.clone());
        let resend = (!peer.is_reliable()).then(|| step.after(Span::FIRST));
        InviteClient::Calling { request, resend, give_up: step.after(Span::LIFE), cancel: None }
    }

    /// Sends another form of the INVITE by another way; a wish to cancel stays.
    pub(super) fn restart(&mut self, request: Bytes, peer: &Peer, step: &mut Step<'_>) {
        let wish = match self {
            InviteClient::Calling { cancel, .. } => cancel.take(),
            InviteClient::Proceeding { .. }
            | InviteClient::Completed { .. }
            | InviteClient::Accepted { .. }
            | InviteClient::Terminated => return,
        };
        *self = InviteClient::start(request, peer, step);
        if let InviteClient::Calling { cancel, .. } = self {
            *cancel = wish;
        }
    }

    pub(super) fn handle_response(&mut self, msg: Message, from: Flow, peer: &Peer, step: &mut Step<'_>) {
        *self = match std::mem::replace(self, InviteClient::Terminated) {
            InviteClient::Calling { request, cancel, .. } if msg.status() < 200 => {
                step.tell(Event::Response { key: peer.key, msg, flow: from });
                let proceeding = InviteClient::proceeding(request, step);
                match cancel {
                    Some(wish) => proceeding.cancelled(wish.reason.as_deref(), peer, step),
                    None => proceeding,
                }
            }
            InviteClient::Proceeding { request, cancel, give_up } if msg.status() < 200 => {
                step.tell(Event::Response { key: peer.key, msg, flow: from });
                match cancel {
                    Cancel::No => InviteClient::proceeding(request, step),
                    Cancel::Sent { .. } | Cancel::Answered => {
                        InviteClient::Proceeding { request, cancel, give_up }
                    }
                }
            }
            InviteClient::Calling { request, .. } | InviteClient::Proceeding { request, .. } => {
                InviteClient::ended(request, msg, from, peer, step)
            }
            InviteClient::Completed { ack, linger } => {
                if msg.status() >= 300 {
                    step.send(peer.flow, ack.clone());
                }
                InviteClient::Completed { ack, linger }
            }
            InviteClient::Accepted { linger } => {
                if (200..300).contains(&msg.status()) {
                    step.tell(Event::Response { key: peer.key, msg, flow: from });
                }
                InviteClient::Accepted { linger }
            }
            InviteClient::Terminated => InviteClient::Terminated,
        };
    }

    fn proceeding(request: Bytes, step: &Step<'_>) -> InviteClient {
        InviteClient::Proceeding { request, cancel: Cancel::No, give_up: step.after(Span::RING) }
    }

    /// The first final response.
    fn ended(request: Bytes, msg: Message, from: Flow, peer: &Peer, step: &mut Step<'_>) -> InviteClient {
        if msg.status() < 300 {
            step.tell(Event::Response { key: peer.key, msg, flow: from });
            return InviteClient::Accepted { linger: step.after(Span::LIFE) };
        }
        // We wrote the INVITE: it parses, unless the user wrote nonsense into it, which then cannot be acknowledged.
        let ack = Message::parse(request).ok().map(|invite| ack_for_failure(&invite, &msg));
        step.tell(Event::Response { key: peer.key, msg, flow: from });
        let Some(ack) = ack else { return InviteClient::Terminated };
        step.send(peer.flow, ack.clone());
        if peer.is_reliable() {
            return InviteClient::Terminated; // timer D is zero
        }
        InviteClient::Completed { ack, linger: step.after(Span::D) }
    }

    /// The user gives up (section 9.1).
    pub(super) fn cancel(&mut self, reason: Option<String>, peer: &Peer, step: &mut Step<'_>) {
        *self = match std::mem::replace(self, InviteClient::Terminated) {
            InviteClient::Calling { request, resend, give_up, cancel } => {
                let cancel = cancel.or(Some(Wish { reason }));
                InviteClient::Calling { request, resend, give_up, cancel }
            }
            proceeding @ InviteClient::Proceeding { .. } => {
                proceeding.cancelled(reason.as_deref(), peer, step)
            }
            late @ (InviteClient::Completed { .. }
            | InviteClient::Accepted { .. }
            | InviteClient::Terminated) => late,
        };
    }

    /// Sends the CANCEL, once; what is left of the INVITE is 64*T1.
    fn cancelled(self, reason: Option<&str>, peer: &Peer, step: &mut Step<'_>) -> InviteClient {
        let InviteClient::Proceeding { request, cancel: Cancel::No, .. } = self else { return self };
        let cancel = match Message::parse(request.clone()) {
            Ok(invite) => {
                let bytes = cancel_for(&invite, reason);
                step.send(peer.flow, bytes.clone());
                let resend = (!peer.is_reliable()).then(|| step.after(Span::FIRST));
                Cancel::Sent { request: bytes, resend }
            }
            Err(_) => Cancel::Answered,
        };
        InviteClient::Proceeding { request, cancel, give_up: step.after(Span::LIFE) }
    }

    /// A response to the CANCEL (17.1.2): a final one stops it, a provisional one slows it down to T2.
    pub(super) fn handle_cancel_response(&mut self, status: u16, step: &Step<'_>) {
        let InviteClient::Proceeding { cancel: cancel @ Cancel::Sent { .. }, .. } = self else { return };
        if status >= 200 {
            *cancel = Cancel::Answered;
        } else if let Cancel::Sent { resend: Some(resend), .. } = cancel {
            *resend = step.after(Span::T2);
        }
    }

    pub(super) fn handle_timeout(&mut self, alarm: Alarm, peer: &Peer, step: &mut Step<'_>) {
        match (&mut *self, alarm) {
            (InviteClient::Calling { request, resend: Some(resend), .. }, Alarm::Resend) => {
                step.send(peer.flow, request.clone());
                *resend = step.after(step.spans.doubled(resend.span));
            }
            (
                InviteClient::Proceeding { cancel: Cancel::Sent { request, resend: Some(resend) }, .. },
                Alarm::Resend,
            ) => {
                step.send(peer.flow, request.clone());
                *resend = step.after(step.spans.doubled_to_t2(resend.span));
            }
            // The peer rings for ever: do what timer C does (section 16.8).
            (InviteClient::Proceeding { cancel: Cancel::No, .. }, Alarm::Limit) => {
                self.cancel(None, peer, step);
            }
            (InviteClient::Calling { .. } | InviteClient::Proceeding { .. }, Alarm::Limit) => {
                step.tell(Event::Timeout { key: peer.key });
                *self = InviteClient::Terminated;
            }
            (InviteClient::Completed { .. } | InviteClient::Accepted { .. }, Alarm::Limit) => {
                *self = InviteClient::Terminated;
            }
            (
                InviteClient::Calling { .. }
                | InviteClient::Proceeding { .. }
                | InviteClient::Completed { .. }
                | InviteClient::Accepted { .. },
                Alarm::Resend,
            )
            | (InviteClient::Terminated, Alarm::Resend | Alarm::Limit) => {}
        }
    }

    /// What was sent last did not leave (17.1.4). While the peer rings nothing is under way, and it may answer by another
    /// connection (18.2.2): then the INVITE goes on. After a final response the user has nothing to learn.
    pub(super) fn handle_transport_error(&mut self, peer: &Peer, step: &mut Step<'_>) {
        if let InviteClient::Calling { .. } | InviteClient::Proceeding { cancel: Cancel::Sent { .. }, .. } =
            self
        {
            step.tell(Event::TransportError { key: peer.key });
            *self = InviteClient::Terminated;
        }
    }

    pub(super) fn deadlines(&self) -> [Option<Deadline>; 2] {
        match self {
            InviteClient::Calling { resend, give_up, .. } => [*resend, Some(*give_up)],
            InviteClient::Proceeding { cancel: Cancel::Sent { resend, .. }, give_up, .. } => {
                [*resend, Some(*give_up)]
            }
            InviteClient::Proceeding { give_up, .. } => [None, Some(*give_up)],
            InviteClient::Completed { linger, .. } | InviteClient::Accepted { linger } => {
                [None, Some(*linger)]
            }
            InviteClient::Terminated => [None, None],
        }
    }

    /// Whether the final response is still to come.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self, InviteClient::Calling { .. } | InviteClient::Proceeding { .. })
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, InviteClient::Terminated)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::testing::{Bench, ladder};
    use crate::flow::Transport::{Tcp, Udp};
    use crate::msg::HeaderId;
    use std::time::Duration;

    #[test]
    fn timer_a_repeats_the_invite_with_doubling_pauses_until_timer_b_gives_up() {
        ladder(
            Udp,
            "0     ask INVITE
             0     send INVITE
             0.5   send INVITE
             1.5   send INVITE
             3.5   send INVITE
             7.5   send INVITE
             15.5  send INVITE
             31.5  send INVITE
             32    tell Timeout
             32    open 0",
        );
    }

    #[test]
    fn over_a_reliable_transport_the_invite_is_sent_once_and_timer_b_gives_up() {
        ladder(
            Tcp,
            "0     ask INVITE
             0     send INVITE
             32    tell Timeout",
        );
    }

    #[test]
    fn a_provisional_response_stops_timers_a_and_b() {
        ladder(
            Udp,
            "0     ask INVITE
             0     send INVITE
             0.5   send INVITE
             0.7   recv 100
             0.7   tell Response 100
             60    recv 180
             60    tell Response 180
             90    recv 200
             90    tell Response 200
             122   over",
        );
    }

    #[test]
    fn every_2xx_and_those_of_other_forks_go_to_the_user_until_timer_m() {
        ladder(
            Udp,
            "0     ask INVITE
             0     send INVITE
             0.1   recv 200 tag=one
             0.1   tell Response 200
             0.6   recv 200 tag=one
             0.6   tell Response 200
             5     recv 200 tag=two
             5     tell Response 200
             5     recv 486 tag=three
             5     recv 180 tag=four
             32    recv 202 tag=two
             32    tell Response 202
             32.1  over
             33    recv 200 tag=one",
        );
    }

    #[test]
    fn over_a_reliable_transport_too_2xx_repeats_go_to_the_user_until_timer_m() {
        ladder(
            Tcp,
            "0     ask INVITE
             0     send INVITE
             0.1   recv 200
             0.1   tell Response 200
             1     recv 200
             1     tell Response 200
             32.1  over",
        );
    }

    #[test]
    fn a_failure_is_acknowledged_and_its_repeats_get_the_ack_again_until_timer_d() {
        ladder(
            Udp,
            "0     ask INVITE
             0     send INVITE
             0.1   recv 486
             0.1   send ACK
             0.1   tell Response 486
             0.6   recv 486
             0.6   send ACK
             20    recv 486
             20    send ACK
             21    recv 200
             32.1  over
             33    recv 486",
        );
    }

    #[test]
    fn over_a_reliable_transport_a_failure_is_acknowledged_and_timer_d_is_zero() {
        ladder(
            Tcp,
            "0     ask INVITE
             0     send INVITE
             0.1   recv 180
             0.1   tell Response 180
             0.2   recv 603
             0.2   send ACK
             0.2   tell Response 603
             0.2   open 0
             0.3   recv 603",
        );
    }

    #[test]
    fn timer_d_does_not_depend_on_t1() {
        let cfg = Config { t1: Duration::from_millis(100), ..Config::default() };
        Bench::new(Udp, cfg).play(
            "0     ask INVITE
             0     send INVITE
             0.05  recv 404
             0.05  send ACK
             0.05  tell Response 404
             32.05 over",
        );
    }

    #[test]
    fn the_ack_of_a_failure_is_made_of_the_invite_and_the_to_of_the_response() {
        let mut bench = Bench::new(Udp, Config::default());
        bench.play_on(
            "0     ask INVITE
             0     send INVITE",
        );
        let invite = bench.last_sent();
        bench.play_on(
            "0.1   recv 486 tag=busy
             0.1   send ACK
             0.1   tell Response 486",
        );
        let ack = bench.last_sent();
        assert_eq!(ack.request_uri(), invite.request_uri());
        for id in [HeaderId::Via, HeaderId::From, HeaderId::CallId, HeaderId::Route] {
            assert_eq!(ack.header(id), invite.header(id), "{id:?}");
        }
        assert_eq!(ack.header(HeaderId::To), Some(b"<sip:alice@example.com>;tag=busy".as_slice()));
        assert_eq!(ack.header(HeaderId::CSeq), Some(b"7 ACK".as_slice()));
        assert_eq!(ack.values(HeaderId::Via).count(), 1);
        assert!(ack.body().is_empty());
    }

    #[test]
    fn a_cancel_waits_for_the_first_provisional_response() {
        ladder(
            Udp,
            "0     ask INVITE
             0     send INVITE
             0.1   cancel
             0.5   send INVITE
             0.8   recv 100
             0.8   send CANCEL
             0.8   tell Response 100
             0.9   recv 200 CANCEL
             1     recv 487 INVITE
             1     send ACK
             1     tell Response 487
             33    over",
        );
    }

    #[test]
    fn a_cancel_is_repeated_by_timer_e_until_it_is_answered() {
        ladder(
            Udp,
            "0     ask INVITE
             0     send INVITE
             0.1   recv 180
             0.1   tell Response 180
             1     cancel SIP;cause=200
             1     send CANCEL
             1.5   send CANCEL
             2.5   send CANCEL
             4.5   send CANCEL
             8.5   send CANCEL
             12.5  send CANCEL
             13    recv 200 CANCEL
             20    recv 180 INVITE
             20    tell Response 180
             33    tell Timeout",
        );
    }

    #[test]
    fn a_provisional_response_slows_the_cancel_down_to_t2() {
        ladder(
            Udp,
            "0     ask INVITE
             0     send INVITE
             0     recv 180
             0     tell Response 180
             0     cancel
             0     send CANCEL
             0.1   recv 100 CANCEL
             4.1   send CANCEL
             5     recv 481 CANCEL
             32    tell Timeout",
        );
    }

    #[test]
    fn a_cancelled_invite_that_gets_no_final_response_is_given_up_after_64_t1() {
        ladder(
            Tcp,
            "0     ask INVITE
             0     send INVITE
             0.1   recv 180
             0.1   tell Response 180
             10    cancel
             10    send CANCEL
             11    cancel
             30    recv 180 INVITE
             30    tell Response 180
             42    tell Timeout
             42    open 0",
        );
    }

    #[test]
    fn a_cancel_that_crosses_the_200_is_dropped_with_the_wish() {
        ladder(
            Udp,
            "0     ask INVITE
             0     send INVITE
             0.1   cancel
             0.2   recv 200
             0.2   tell Response 200
             0.3   cancel
             32.2  over",
        );
    }

    #[test]
    fn a_final_response_ends_the_cancel() {
        ladder(
            Udp,
            "0     ask INVITE
             0     send INVITE
             0.1   recv 180
             0.1   tell Response 180
             1     cancel
             1     send CANCEL
             1.1   recv 200 INVITE
             1.1   tell Response 200
             1.2   recv 200 CANCEL
             33.1  over",
        );
    }

    #[test]
    fn the_cancel_has_the_branch_of_the_invite_and_the_reason_of_the_user() {
        let mut bench = Bench::new(Udp, Config::default());
        bench.play_on(
            "0     ask INVITE
             0     send INVITE",
        );
        let invite = bench.last_sent();
        bench.play_on(
            "0.1   recv 180
             0.1   tell Response 180
             0.2   cancel SIP;cause=200
             0.2   send CANCEL",
        );
        let cancel = bench.last_sent();
        assert_eq!(cancel.request_uri(), invite.request_uri());
        for id in [HeaderId::Via, HeaderId::From, HeaderId::To, HeaderId::CallId, HeaderId::Route] {
            assert_eq!(cancel.header(id), invite.header(id), "{id:?}");
        }
        assert_eq!(cancel.header(HeaderId::CSeq), Some(b"7 CANCEL".as_slice()));
        assert_eq!(cancel.header(HeaderId::Reason), Some(b"SIP;cause=200".as_slice()));
    }

    #[test]
    fn an_invite_that_rings_for_ever_is_cancelled_as_by_timer_c() {
        ladder(
            Udp,
            "0     ask INVITE
             0     send INVITE
             0.1   recv 180
             0.1   tell Response 180
             500   recv 183
             500   tell Response 183
             1100  send CANCEL
             1100  recv 200 CANCEL
             1100.1 recv 487 INVITE
             1100.1 send ACK
             1100.1 tell Response 487
             1132.1 over",
        );
    }

    #[test]
    fn a_transport_error_ends_an_invite_that_was_not_answered() {
        ladder(
            Udp,
            "0     ask INVITE
             0     send INVITE
             0.1   broken
             0.1   tell TransportError
             0.1   open 0
             0.2   broken",
        );
    }

    #[test]
    fn while_the_peer_rings_a_lost_connection_does_not_end_the_invite() {
        ladder(
            Tcp,
            "0     ask INVITE
             0     send INVITE
             0.1   recv 180
             0.1   tell Response 180
             1     broken
             2     recv 200
             2     tell Response 200
             3     broken
             34    over",
        );
    }

    #[test]
    fn a_cancel_that_cannot_be_sent_ends_the_invite() {
        ladder(
            Tcp,
            "0     ask INVITE
             0     send INVITE
             0.1   recv 180
             0.1   tell Response 180
             1     cancel
             1     send CANCEL
             1.1   broken
             1.1   tell TransportError",
        );
    }
}
