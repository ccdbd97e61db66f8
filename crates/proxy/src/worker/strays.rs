//! Answers to INVITEs whose leg is no more: acknowledged and hung up here, so that no telephone stays in a call with nobody.
//!
//! In: a 2xx whose leg is gone (it failed, or had ended when another fork answered). Out: an ACK for every repeat,
//! one BYE for each answerer. Elsewhere: answers that meet a session which has had enough (`sip::session`).

use super::Worker;
use cluster::ids::LegId;
use sip::flow::Flow;
use sip::msg::Message;
use sip::session::stray_answer;
use sip::transaction::{ClientKey, Destination};
use std::collections::VecDeque;
use std::time::Instant;

/// Owner of the client transactions of these BYEs: no leg has this name, as for pings.
pub(super) const STRAY_OWNER: u64 = u64::MAX - 1;
/// Answerers that are remembered. Whoever is forgotten too early gets another BYE, and answers it 481.
const REMEMBERED_MAX: usize = 256;
/// Legs that went to other proxies a moment ago.
const ELSEWHERE_MAX: usize = 1024;

/// Who was hung up.
#[derive(Default)]
pub(super) struct Strays {
    /// Our INVITE and the tag of who answered it.
    hung_up: VecDeque<(ClientKey, Box<[u8]>)>,
    /// Legs that other proxies carry on, each with the tag of its peer.
    elsewhere: VecDeque<(LegId, Box<[u8]>)>,
    next: u32,
}

impl Strays {
    /// A leg has gone to another proxy: answers to what it asked for here end nothing.
    pub(super) fn goes_on(&mut self, leg: LegId, peer: &[u8]) {
        if self.elsewhere.len() >= ELSEWHERE_MAX {
            self.elsewhere.pop_front();
        }
        self.elsewhere.push_back((leg, peer.into()));
    }

    /// Whether the dialog with this answerer goes on elsewhere. Other forks of its INVITE do not.
    fn is_elsewhere(&self, invite: ClientKey, tag: &[u8]) -> bool {
        self.elsewhere.iter().any(|(leg, peer)| leg.as_u64() == invite.owner && **peer == *tag)
    }

    /// Whether this answerer is new; it is known from now on.
    fn is_new(&mut self, invite: ClientKey, tag: &[u8]) -> bool {
        if self.hung_up.iter().any(|(key, known)| *key == invite && **known == *tag) {
            return false;
        }
        if self.hung_up.len() >= REMEMBERED_MAX {
            self.hung_up.pop_front();
        }
        self.hung_up.push_back((invite, tag.into()));
        true
    }
}

impl Worker {
    /// A response to the request `key` of a leg that is gone (RFC 3261 section 13.2.2.4). It came by the branch of a
    /// transaction of ours, so nobody else can make us send these.
    pub(super) fn stray(&mut self, key: ClientKey, msg: &Message, flow: Flow, now: Instant) {
        let Some((mut ack, mut bye)) = stray_answer(msg) else { return };
        let to = Destination { flow, stream_first: false };
        for draft in [&mut ack, &mut bye] {
            if !self.shared.config.user_agent.is_empty() {
                draft.headers.push("User-Agent", &self.shared.config.user_agent);
            }
        }
        self.transactions.send_ack(ack, to);
        let goes_on = self.strays.is_elsewhere(key, msg.to_tag().unwrap_or_default());
        if !goes_on && self.strays.is_new(key, msg.to_tag().unwrap_or_default()) {
            self.strays.next = self.strays.next.wrapping_add(1);
            let key = ClientKey { owner: STRAY_OWNER, seq: self.strays.next };
            // A full table: the answerer repeats its 2xx no more, and ends the call by its own session timer.
            let _ = self.transactions.request(key, bye, to, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answerer_is_hung_up_once_and_memory_is_bounded() {
        let mut strays = Strays::default();
        let invite = |owner| ClientKey { owner, seq: 0 };
        assert!(strays.is_new(invite(1), b"one") && strays.is_new(invite(1), b"two"));
        assert!(!strays.is_new(invite(1), b"one") && strays.is_new(invite(2), b"one"));
        for owner in 10..10_000 {
            strays.is_new(invite(owner), b"x");
        }
        assert_eq!(strays.hung_up.len(), REMEMBERED_MAX);
    }
}
