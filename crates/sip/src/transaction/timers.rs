//! The lengths of every timer of RFC 3261 section 17 and RFC 6026, and deadlines made of them.
//!
//! In: the configured T1, T2, T4 and bounds. Out: [`Deadline`]s that the states carry; each names its [`Span`], so that
//! deadlines of one length stand in one queue, first come first due. Elsewhere: the queues (`table`).

use super::Config;
use std::time::{Duration, Instant};

/// Which of the two deadlines of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// Something is to be sent (again): timers A, E and G, the automatic 100.
    Resend = 0,
    /// The state ends: timers B, D, F, H, I, J, K, L, M and the bounds on users that never answer.
    Limit = 1,
}

/// Names one length of time; there are [`SPANS`] of them in one table of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(u8);

/// How many different lengths exist.
pub(super) const SPANS: usize = Span::BACKOFF as usize + 7;

impl Span {
    /// The wait for the user before the automatic 100 to an INVITE (section 17.2.1: 200 ms).
    pub(super) const TRYING: Span = Span(0);
    /// 64*T1: timers B, F, H, J, L, M, and what a cancelled INVITE has left.
    pub(super) const LIFE: Span = Span(1);
    /// Timer D.
    pub(super) const D: Span = Span(2);
    /// T4: timers I and K.
    pub(super) const T4: Span = Span(3);
    /// T2: the longest pause of timers E and G.
    pub(super) const T2: Span = Span(4);
    /// How long the user of an INVITE server transaction may say nothing.
    pub(super) const ANSWER: Span = Span(5);
    /// How long an INVITE client transaction waits after the last provisional response.
    pub(super) const RING: Span = Span(6);
    /// When timer E of the peer has grown to T2: the 100 of a slow non-INVITE (RFC 4320 section 4.1).
    pub(super) const SLOW: Span = Span(7);
    /// The first pause of timers A, E and G, T1; six doubled ones follow.
    pub(super) const FIRST: Span = Span(Self::BACKOFF);
    const BACKOFF: u8 = 8;

    /// Index of the queue.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// An instant at which a state wants to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    /// When.
    pub(super) at: Instant,
    /// After what length of time it was set.
    pub(super) span: Span,
}

/// The length of each span.
pub(super) struct Spans {
    lengths: [Duration; SPANS],
}

impl Spans {
    pub(super) fn new(cfg: &Config) -> Spans {
        let mut lengths = [Duration::ZERO; SPANS];
        lengths[Span::TRYING.index()] = cfg.trying_after;
        lengths[Span::LIFE.index()] = cfg.t1.saturating_mul(64);
        lengths[Span::D.index()] = cfg.timer_d;
        lengths[Span::T4.index()] = cfg.t4;
        lengths[Span::T2.index()] = cfg.t2;
        lengths[Span::ANSWER.index()] = cfg.answer_within;
        lengths[Span::RING.index()] = cfg.ring_within;
        let mut pause = cfg.t1;
        for length in &mut lengths[Span::FIRST.index()..] {
            *length = pause;
            pause = pause.saturating_mul(2);
        }
        lengths[Span::SLOW.index()] =
            lengths[Span::FIRST.index()..].iter().take_while(|pause| **pause < cfg.t2).sum();
        Spans { lengths }
    }

    /// The deadline of `span` when it starts now.
    pub(super) fn after(&self, now: Instant, span: Span) -> Deadline {
        Deadline { at: now + self.lengths[span.index()], span }
    }

    /// The pause after `span` for timer A: twice as long.
    pub(super) fn doubled(&self, span: Span) -> Span {
        let last = SPANS - 1;
        if span.0 >= Span::BACKOFF && span.index() < last { Span(span.0 + 1) } else { span }
    }

    /// The pause after `span` for timers E and G: twice as long, at most T2.
    pub(super) fn doubled_to_t2(&self, span: Span) -> Span {
        self.at_most_t2(self.doubled(span))
    }

    /// `span`, or T2 if that is shorter.
    pub(super) fn at_most_t2(&self, span: Span) -> Span {
        if self.lengths[span.index()] < self.lengths[Span::T2.index()] { span } else { Span::T2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(next: impl Fn(&Spans, Span) -> Span, count: usize) -> Vec<u128> {
        let spans = Spans::new(&Config::default());
        let mut span = Span::FIRST;
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(spans.lengths[span.index()].as_millis());
            span = next(&spans, span);
        }
        all
    }

    #[test]
    fn timer_a_doubles_without_a_cap() {
        assert_eq!(pauses(Spans::doubled, 7), [500, 1000, 2000, 4000, 8000, 16000, 32000]);
    }

    #[test]
    fn timers_e_and_g_double_up_to_t2() {
        assert_eq!(pauses(Spans::doubled_to_t2, 6), [500, 1000, 2000, 4000, 4000, 4000]);
    }

    #[test]
    fn a_t1_above_t2_is_capped_at_once() {
        let cfg = Config { t1: Duration::from_secs(5), ..Config::default() };
        let spans = Spans::new(&cfg);
        assert_eq!(spans.at_most_t2(Span::FIRST), Span::T2);
        assert_eq!(spans.lengths[Span::SLOW.index()], Duration::ZERO);
    }

    #[test]
    fn a_slow_non_invite_is_told_100_when_timer_e_of_the_peer_reaches_t2() {
        let spans = Spans::new(&Config::default());
        assert_eq!(spans.lengths[Span::SLOW.index()].as_millis(), 3500);
    }
}
