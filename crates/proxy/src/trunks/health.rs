//! Whether one target of a carrier's server answers: misses are forgiven until they come in a row, and who is down is tried again.
//!
//! In: answers, misses, calls, time. Out: when to ask next, changes of the state. No I/O and no clock. Elsewhere: asking (`keeper`),
//! which target a call takes (`super`).

use std::time::{Duration, Instant};

/// How long an answer to OPTIONS is waited for. The transaction goes on (timer F, 32 s), and a late answer is a sign of life, too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Who has missed is asked again so soon, if that is less than the pace.
const AGAIN: Duration = Duration::from_secs(5);
/// Who has just gone down is asked again after this, then after twice as long, and so on up to the pace.
const PROBE: Duration = Duration::from_secs(2);
/// Calls that fail within this time are one miss: many at once say no more than one.
const SAME_MISS: Duration = Duration::from_secs(1);

/// What counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Between two questions to somebody who answers; zero: nobody is asked, and all count as up.
    pub(crate) ping: Duration,
    /// So many misses in a row are too many.
    pub(crate) misses: u32,
}

/// What is known of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Neither an answer nor too many misses yet.
    Unknown,
    Up,
    Down,
}

/// A target's health.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    pace: Pace,
    state: State,
    misses: u32,
    /// When the last miss was counted.
    missed_at: Option<Instant>,
    /// When to ask next; while an answer is awaited, when it counts as missed.
    due: Option<Instant>,
    awaits: bool,
    /// The next pause of somebody who is down.
    pause: Duration,
    last_status: Option<u16>,
}

/// Whether a server that answers by this status takes calls: every final one but 408 and 503 says that there is a SIP server that
/// works. One that wants a password (401, 407), does not know OPTIONS (405, 501) or refuses us (403) is alive.
pub(crate) fn is_alive(status: u16) -> bool {
    !matches!(status, 408 | 503)
}

impl Health {
    /// Of somebody who is asked for the first time at `first`.
    pub(crate) fn new(pace: Pace, first: Instant) -> Health {
        let is_asked = !pace.ping.is_zero();
        Health {
            pace,
            state: if is_asked { State::Unknown } else { State::Up },
            misses: 0,
            missed_at: None,
            due: is_asked.then_some(first),
            awaits: false,
            pause: PROBE.min(pace.ping),
            last_status: None,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn last_status(&self) -> Option<u16> {
        self.last_status
    }

    /// Up, and nothing speaks against it: further signs of life say nothing new.
    pub(crate) fn is_well(&self) -> bool {
        self.state == State::Up && self.misses == 0
    }

    /// When something is to be done: [`Health::act`].
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Does what is due. `true`: ask by OPTIONS now.
    pub(crate) fn act(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        if self.awaits {
            self.awaits = false;
            self.miss(now);
            return false;
        }
        self.awaits = true;
        self.due = Some(now + PATIENCE);
        true
    }

    /// A final answer to OPTIONS or to a call came.
    pub(crate) fn answered(&mut self, status: u16, now: Instant) {
        if self.pace.ping.is_zero() {
            return;
        }
        let awaited = std::mem::take(&mut self.awaits);
        self.last_status = Some(status);
        if !is_alive(status) {
            return self.miss(now);
        }
        self.misses = 0;
        self.pause = PROBE.min(self.pace.ping);
        if self.state != State::Up || awaited {
            self.due = Some(now + self.pace.ping);
        }
        self.state = State::Up;
    }

    /// OPTIONS could not be sent, or its transaction gave up. After [`PATIENCE`] that is nothing new.
    pub(crate) fn unreachable(&mut self, now: Instant) {
        if std::mem::take(&mut self.awaits) {
            self.miss(now);
        }
    }

    /// A call got an answer that says that it takes calls.
    pub(crate) fn call_answered(&mut self, now: Instant) {
        let (awaits, due, last) = (self.awaits, self.due, self.last_status);
        self.awaits = false;
        self.answered(200, now);
        self.last_status = last;
        if awaits {
            (self.awaits, self.due) = (awaits, due);
        }
    }

    /// A call got no answer, or 408 or 503: a miss, and a reason to ask soon.
    pub(crate) fn call_failed(&mut self, now: Instant) {
        let says_nothing = self.pace.ping.is_zero() || self.state == State::Down;
        if says_nothing || self.missed_at.is_some_and(|at| now < at + SAME_MISS) {
            return;
        }
        let awaited = self.awaits.then_some(self.due).flatten();
        self.miss(now);
        if self.state == State::Down {
            self.awaits = false;
        } else {
            // An answer is on its way, or its absence; else it is asked for at once.
            self.due = Some(awaited.unwrap_or(now));
        }
    }

    fn miss(&mut self, now: Instant) {
        self.missed_at = Some(now);
        self.misses = self.misses.saturating_add(1);
        if self.state == State::Down {
            self.due = Some(now + self.pause);
            self.pause = (self.pause * 2).min(self.pace.ping);
        } else if self.misses >= self.pace.misses {
            self.pause = PROBE.min(self.pace.ping);
            self.due = Some(now + self.pause);
            self.pause = (self.pause * 2).min(self.pace.ping);
            self.state = State::Down;
        } else {
            self.due = Some(now + AGAIN.min(self.pace.ping));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACE: Pace = Pace { ping: Duration::from_secs(30), misses: 3 };

    /// Plays lines `SECONDS EVENT STATE` against a health whose first question is at 0; `ask` is checked to be due just then.
    fn play(pace: Pace, script: &str) {
        let start = Instant::now();
        let mut health = Health::new(pace, start);
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let now = start + Duration::from_secs_f64(words[0].parse().unwrap());
            match words[1] {
                "ask" => {
                    assert_eq!(health.due(), Some(now), "{line}: due {:?}", health.due().map(|d| d - start));
                    assert!(health.act(now), "{line}");
                }
                "silence" => {
                    assert_eq!(health.due(), Some(now), "{line}: due {:?}", health.due().map(|d| d - start));
                    assert!(!health.act(now), "{line}");
                }
                "call" => health.call_failed(now),
                "gone" => health.unreachable(now),
                status => health.answered(status.parse().unwrap(), now),
            }
            assert_eq!(format!("{:?}", health.state()).to_lowercase(), words[2], "{line}");
        }
    }

    #[test]
    fn an_answer_of_almost_any_status_is_a_sign_of_life() {
        for status in [200, 302, 401, 403, 404, 405, 407, 480, 486, 500, 501, 502, 504, 600] {
            play(PACE, &format!("0 ask unknown\n0.1 {status} up\n30.1 ask up"));
        }
        assert!(!is_alive(408) && !is_alive(503));
    }

    #[test]
    fn one_lost_answer_or_one_408_takes_nobody_down() {
        play(PACE, "0 ask unknown\n0 200 up\n30 ask up\n35 silence up\n40 ask up\n40 200 up\n70 ask up");
        play(PACE, "0 ask unknown\n0 200 up\n30 ask up\n30 408 up\n35 ask up\n35 200 up");
        play(PACE, "0 ask unknown\n0 503 unknown\n5 ask unknown\n5 503 unknown\n10 ask unknown\n10 200 up");
    }

    #[test]
    fn misses_in_a_row_do_and_probes_follow_soon_then_at_the_pace() {
        play(
            PACE,
            "0   ask      unknown
             0   200      up
             30  ask      up
             35  silence  up
             40  ask      up
             45  silence  up
             50  ask      up
             55  silence  down
             57  ask      down
             62  silence  down
             66  ask      down
             71  silence  down
             79  ask      down
             84  silence  down
             100 ask      down
             105 silence  down
             135 ask      down
             136 407      up
             166 ask      up
             171 silence  up",
        );
    }

    #[test]
    fn a_late_answer_is_a_sign_of_life_and_a_late_failure_is_nothing_new() {
        play(PACE, "0 ask unknown\n5 silence unknown\n9 200 up\n39 ask up");
        play(PACE, "0 ask unknown\n5 silence unknown\n10 ask unknown\n15 silence unknown\n32 gone unknown");
    }

    #[test]
    fn failed_calls_count_and_make_it_ask_at_once() {
        play(PACE, "0 ask unknown\n0 200 up\n10 call up\n10 ask up\n10.1 200 up\n40.1 ask up");
        // Many at the same moment are one.
        play(PACE, "0 ask unknown\n0 200 up\n10 call up\n10.2 call up\n10.9 call up\n10.95 call up");
        play(PACE, "0 ask unknown\n0 200 up\n10 call up\n10 ask up\n12 call up\n14 call down");
        // Whoever is down is probed on, however many calls are tried all the same.
        let down = "0 ask unknown\n0 200 up\n10 call up\n10 ask up\n12 call up\n14 call down\n14.5 call down\n15.9 call down";
        play(
            PACE,
            &format!(
                "{down}\n16 ask down\n18 call down\n21 silence down\n22 call down\n25 ask down\n26 200 up"
            ),
        );
        // A call that is answered brings it back.
        play(PACE, "0 ask unknown\n0 200 up\n10 call up\n12 call up\n14 call down\n15 200 up\n45 ask up");
    }

    #[test]
    fn without_pings_all_count_as_up() {
        let pace = Pace { ping: Duration::ZERO, misses: 1 };
        play(pace, "0 call up\n5 call up\n10 503 up");
        let start = Instant::now();
        assert_eq!(Health::new(pace, start).due(), None);
    }

    proptest! {
        /// Whatever comes: there is always a next question, no later than the pace and the patience away, and never a change to
        /// down without as many misses as it takes.
        #[test]
        fn nobody_is_forgotten_or_condemned_early(events in proptest::collection::vec((0u8..6, 1u64..20_000), 1..200)) {
            let mut now = Instant::now();
            let mut health = Health::new(PACE, now);
            let mut in_a_row = 0;
            for (event, pause) in events {
                now += Duration::from_millis(pause);
                let before = (health.state(), health.misses);
                match event {
                    0 => drop(health.act(now)),
                    1 => health.answered(200, now),
                    2 => health.answered(503, now),
                    3 => health.call_failed(now),
                    4 => health.unreachable(now),
                    _ => while health.due().is_some_and(|due| due <= now) { health.act(now); },
                }
                in_a_row = if health.misses > before.1 { in_a_row + 1 } else if health.misses == 0 { 0 } else { in_a_row };
                prop_assert!(health.due().is_some_and(|due| due <= now + PACE.ping.max(PATIENCE)));
                if health.state() == State::Down && before.0 != State::Down {
                    prop_assert!(in_a_row >= 3);
                }
                if event == 1 { prop_assert_eq!(health.state(), State::Up); }
            }
        }
    }
}
