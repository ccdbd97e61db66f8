//! The session timer of one dialog (RFC 4028): what we ask, what we grant, who refreshes, when.
//!
//! In: Session-Expires, Min-SE and Supported of both sides' session refresh requests. Out: header lines and the deadline.
//! Elsewhere: the refresh itself (`modify`), the BYE after an expiry (`mod`).

use super::face::{Prefer, TimerPolicy};
use crate::draft::HeaderText;
use crate::header::Refresher;
use crate::msg::{HeaderId, Message};
use std::time::{Duration, Instant};

/// RFC 4028 section 4: no interval is shorter.
const LEAST: u32 = 90;
/// An interval that nobody means; keeps arithmetic on `Instant` safe.
pub(super) const MOST: u32 = 7 * 24 * 3600;

/// The running timer, and what must be remembered for the next refresh.
#[derive(Debug, Default)]
pub(super) struct SessionTimer {
    /// The largest Min-SE seen in this dialog, in seconds; 0 = none (section 7.4).
    pub(super) min_se: u32,
    running: Option<Running>,
    /// How often it was set: a capsule of before is old then.
    pub(super) runs: u32,
}

/// A running timer as a capsule keeps it: how much time is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) interval: u32,
    pub(super) we_refresh: bool,
    pub(super) due: Duration,
    pub(super) expires: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    interval: u32,
    we_refresh: bool,
    /// When to refresh (if we do), or when to give the peer up.
    due: Instant,
    /// When the session is over (section 10); the peer's grace is taken off already.
    expires: Instant,
}

/// What a session refresh request of the peer says about timers.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimerAsk {
    supported: bool,
    interval: Option<u32>,
    /// The refresher parameter: whether it is the request's sender.
    by_sender: Option<bool>,
    min_se: u32,
}

/// What has become due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerDue {
    /// A refresh by us.
    Refresh,
    /// The end.
    Expired,
}

impl TimerAsk {
    pub(super) fn of(msg: &Message) -> TimerAsk {
        let asked = msg.session_expires();
        TimerAsk {
            supported: msg.has_option(HeaderId::Supported, "timer")
                || msg.has_option(HeaderId::Require, "timer"),
            interval: asked.as_ref().map(|se| se.secs.min(MOST)),
            by_sender: asked.and_then(|se| se.refresher).map(|who| who == Refresher::Uac),
            min_se: msg.min_se().unwrap_or(0).min(MOST),
        }
    }

    /// The Min-SE of the 422 that this request deserves (section 9).
    pub(super) fn too_small(&self, policy: &TimerPolicy) -> Option<u32> {
        let least = policy.min_se;
        (self.supported && self.interval.is_some_and(|secs| secs < least)).then_some(least)
    }
}

impl SessionTimer {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.running.map(|r| r.due)
    }

    /// What is left of it.
    pub(super) fn left(&self, now: Instant) -> Option<Left> {
        self.running.map(|running| Left {
            interval: running.interval,
            we_refresh: running.we_refresh,
            due: running.due.saturating_duration_since(now),
            expires: running.expires.saturating_duration_since(now),
        })
    }

    /// Goes on with what is left. Nobody refreshed while nobody was there to: the session does not end before `least` is over.
    pub(super) fn resumed(min_se: u32, left: Option<Left>, least: Duration, now: Instant) -> SessionTimer {
        let running = left.map(|left| {
            let expires = now + left.expires.max(least);
            let due = if left.we_refresh { (now + left.due).min(expires) } else { expires };
            Running { interval: left.interval, we_refresh: left.we_refresh, due, expires }
        });
        SessionTimer { min_se, running, runs: 0 }
    }

    pub(super) fn stop(&mut self) {
        self.running = None;
    }

    /// What is due now; the next deadline is set. A refresh that has not succeeded is tried again at half of what is left.
    pub(super) fn poll(&mut self, now: Instant) -> Option<TimerDue> {
        let running = self.running.as_mut()?;
        if now < running.due {
            return None;
        }
        let left = running.expires.saturating_duration_since(now);
        if !running.we_refresh || left < Duration::from_secs(2) {
            self.running = None;
            return Some(TimerDue::Expired);
        }
        running.due = now + (left / 2).max(Duration::from_secs(1));
        Some(TimerDue::Refresh)
    }

    /// Header lines of a session refresh request of ours (sections 7.1 and 7.4).
    pub(super) fn ask(&self, policy: &TimerPolicy, lines: &mut HeaderText) {
        let interval = match self.running {
            Some(running) => running.interval,
            None if policy.offer || self.min_se > 0 => policy.interval,
            None => return,
        };
        let interval = interval.max(self.min_se).max(policy.min_se.min(LEAST));
        let refresher = match (self.running, policy.refresher) {
            (Some(running), _) if running.we_refresh => ";refresher=uac",
            (Some(_), _) => ";refresher=uas",
            (None, Prefer::Us) => ";refresher=uac",
            (None, Prefer::Peer) => ";refresher=uas",
            (None, Prefer::Any) => "",
        };
        lines.push_fmt("Session-Expires", format_args!("{interval}{refresher}"));
        let min_se = self.min_se.max(policy.min_se);
        if self.min_se > 0 || min_se > LEAST {
            lines.push_fmt("Min-SE", format_args!("{min_se}"));
        }
    }

    /// Takes the 2xx to a session refresh request of ours (section 7.2). A peer that knows no timers leaves us refreshing for
    /// our own sake, if we asked.
    pub(super) fn confirm(&mut self, response: &Message, policy: &TimerPolicy, now: Instant) {
        let (interval, we_refresh) = match response.session_expires() {
            Some(se) => (se.secs, se.refresher != Some(Refresher::Uas)),
            None => match self.running {
                Some(running) => (running.interval, true),
                None if policy.offer => (policy.interval.max(self.min_se), true),
                None => return,
            },
        };
        self.run(interval, we_refresh, policy, now);
    }

    /// Grants the peer's session refresh request: header lines of our 2xx (section 9 and its table 2).
    pub(super) fn grant(
        &mut self,
        ask: &TimerAsk,
        policy: &TimerPolicy,
        now: Instant,
        lines: &mut HeaderText,
    ) {
        self.min_se = self.min_se.max(ask.min_se);
        let least = ask.min_se.max(policy.min_se.min(LEAST));
        let interval = match ask.interval {
            Some(asked) => policy.interval.max(least).min(asked),
            None if policy.offer && ask.supported => policy.interval.max(least),
            // What we do for our own sake goes on; a peer that knows no timers is refreshed all the same, if we want timers:
            // nothing else would tell a held call from a peer that is gone.
            None => match self.running.filter(|running| running.we_refresh && !ask.supported) {
                Some(running) => return self.run(running.interval, true, policy, now),
                None if policy.offer && !ask.supported => {
                    return self.run(policy.interval.max(least), true, policy, now);
                }
                None => return self.stop(),
            },
        };
        let peer_refreshes = match (ask.supported, ask.by_sender) {
            (false, _) => false,
            (true, Some(by_sender)) => by_sender,
            (true, None) => policy.refresher != Prefer::Us,
        };
        let refresher = if peer_refreshes { "uac" } else { "uas" };
        if ask.supported {
            lines.push("Require", "timer");
        }
        lines.push_fmt("Session-Expires", format_args!("{interval};refresher={refresher}"));
        self.run(interval, !peer_refreshes, policy, now);
    }

    /// Learns the Min-SE of a 422 (section 7.3); false if it does not ask for more than we offered.
    pub(super) fn learn_min_se(&mut self, response: &Message, policy: &TimerPolicy) -> bool {
        let min_se = response.min_se().unwrap_or(0).min(MOST);
        let offered = self.running.map_or(policy.interval, |r| r.interval).max(self.min_se);
        let more = min_se > offered;
        self.min_se = self.min_se.max(min_se);
        more
    }

    fn run(&mut self, interval: u32, we_refresh: bool, policy: &TimerPolicy, now: Instant) {
        let interval = interval.clamp(policy.min_se.clamp(1, LEAST), MOST);
        let whole = Duration::from_secs(u64::from(interval));
        // Section 10: the side that waits hangs up a little before the expiry.
        let grace = (whole / 3).min(Duration::from_secs(32));
        let expires = now + if we_refresh { whole } else { whole - grace };
        let due = if we_refresh { now + whole / 2 } else { expires };
        self.running = Some(Running { interval, we_refresh, due, expires });
        self.runs = self.runs.wrapping_add(1);
    }
}
