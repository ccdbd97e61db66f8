//! Wake-ups by the handful: under load a thread of the runtime rests a moment before it waits for the next event, so that
//! what comes meanwhile is one piece of work.
//!
//! In: the runtime's word that a thread has nothing to do. Out: a pause, or none. Elsewhere: batches of datagrams
//! (`netio`), what a turn does with them (`proxy::worker`).

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

/// A thread goes to wait for events at most once in this time. To be woken costs as much as to handle a message: at 1000 calls a
/// second a pause saves a quarter of the processor time. Each message may leave this much later, so that a call's set-up
/// takes two or three milliseconds more; SIP's own timers begin at half a second. A node's media has threads of its
/// own, which do not rest.
const PACE: Duration = Duration::from_millis(1);

thread_local! {
    /// When this thread went to wait for the last time.
    static WAITED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// To be called by a thread that is about to wait. After a quiet time it returns at once.
pub(crate) fn rest() {
    let now = Instant::now();
    let pause = pause(WAITED.get(), now);
    if !pause.is_zero() {
        thread::sleep(pause);
    }
    WAITED.set(Some(now + pause));
}

/// How long to rest before waiting at `now`, having gone to wait at `before`.
fn pause(before: Option<Instant>, now: Instant) -> Duration {
    before.map_or(Duration::ZERO, |before| (before + PACE).saturating_duration_since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_after_a_quiet_time_is_not_kept_waiting_and_a_stream_of_them_is_paced() {
        let now = Instant::now();
        assert_eq!(pause(None, now), Duration::ZERO);
        assert_eq!(pause(Some(now - PACE), now), Duration::ZERO);
        assert_eq!(pause(Some(now - Duration::from_secs(9)), now), Duration::ZERO);
        assert_eq!(pause(Some(now), now), PACE);
        assert_eq!(pause(Some(now - PACE / 4), now), PACE * 3 / 4);
    }
}
