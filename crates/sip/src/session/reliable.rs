//! Reliable provisional responses (RFC 3262): the server's line of them, and the client's count.
//!
//! In: provisional responses to be sent, PRACKs, received RSeq numbers. Out: what to send now and again, what is in order.
//! Elsewhere: what their session descriptions mean (`offers`), who asks for reliability (`uas`), the PRACK (`uac`).

use crate::draft::{HeaderText, ResponseDraft};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Provisional responses that wait for the PRACK of the one before; the user is refused more.
const QUEUE_MAX: usize = 8;

/// A provisional response that the user wants sent.
#[derive(Debug)]
pub(super) struct Provisional {
    pub(super) status: u16,
    pub(super) sdp: Option<Bytes>,
    pub(super) lines: HeaderText,
}

/// The server's side (RFC 3262 section 3): one is on its way, the others wait.
#[derive(Debug)]
pub(super) struct Reliable {
    /// RSeq of the last one sent.
    rseq: u32,
    sent: Option<Sent>,
    queue: VecDeque<Provisional>,
}

#[derive(Debug)]
struct Sent {
    draft: ResponseDraft,
    has_sdp: bool,
    resend: Instant,
    every: Duration,
    give_up: Instant,
    /// A final response went out: no repeats, but its PRACK is still welcome.
    muted: bool,
}

/// What has become due.
pub(super) enum ReliableDue {
    Resend(ResponseDraft),
    GiveUp,
}

impl Reliable {
    /// `first` is the RSeq of the first response, drawn at random below 2^31.
    pub(super) fn new(first: u32) -> Reliable {
        Reliable { rseq: first.max(1) - 1, sent: None, queue: VecDeque::new() }
    }

    /// Puts one in line; false when the line is full.
    pub(super) fn push(&mut self, provisional: Provisional) -> bool {
        let room = self.queue.len() < QUEUE_MAX;
        if room {
            self.queue.push_back(provisional);
        }
        room
    }

    /// The next one that may be sent, with its RSeq; [`Reliable::sent`] must follow.
    pub(super) fn next(&mut self) -> Option<(u32, Provisional)> {
        if self.sent.is_some() {
            return None;
        }
        let next = self.queue.pop_front()?;
        self.rseq += 1;
        Some((self.rseq, next))
    }

    /// Remembers what was sent, to be repeated from T1 on, doubling without a cap (RFC 3262 section 3).
    pub(super) fn sent(&mut self, draft: ResponseDraft, t1: Duration, now: Instant) {
        let has_sdp = !draft.body.is_empty();
        self.sent =
            Some(Sent { draft, has_sdp, resend: now + t1, every: t1, give_up: now + t1 * 64, muted: false });
    }

    /// Whether a 2xx must wait: a session description is on its way without PRACK.
    pub(super) fn holds_final(&self) -> bool {
        self.sent.as_ref().is_some_and(|s| s.has_sdp)
    }

    pub(super) fn is_outstanding(&self) -> bool {
        self.sent.is_some()
    }

    /// A PRACK for this RSeq; false if it matches none. The response that it acknowledges is done.
    pub(super) fn acknowledge(&mut self, rseq: u32) -> bool {
        let matches = self.sent.is_some() && rseq == self.rseq;
        if matches {
            self.sent = None;
        }
        matches
    }

    /// A final response goes out: what is not sent will not be, what is on its way is not repeated.
    pub(super) fn finish(&mut self) {
        self.queue = VecDeque::new();
        if let Some(sent) = &mut self.sent {
            sent.muted = true;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sent.as_ref().filter(|s| !s.muted).map(|s| s.resend.min(s.give_up))
    }

    pub(super) fn poll(&mut self, now: Instant) -> Option<ReliableDue> {
        let sent = self.sent.as_mut().filter(|s| !s.muted)?;
        if sent.give_up <= now {
            return Some(ReliableDue::GiveUp);
        }
        if sent.resend > now {
            return None;
        }
        sent.every *= 2;
        sent.resend = now + sent.every;
        Some(ReliableDue::Resend(sent.draft.clone()))
    }
}

/// The client's side (RFC 3262 section 4): the RSeq of the last response in order.
#[derive(Debug, Default)]
pub(super) struct Heard(Option<u32>);

impl Heard {
    /// Whether this one is new and in order; all others are dropped without a PRACK.
    pub(super) fn accepts(&mut self, rseq: u32) -> bool {
        let in_order = self.0.is_none_or(|last| last.checked_add(1) == Some(rseq));
        if in_order {
            self.0 = Some(rseq);
        }
        in_order
    }
}
