//! Media sessions that nobody may need any more: the application server that commands them is out of reach.
//!
//! In: servers that are lost, words of servers for a call, time. Out: calls that all servers are to be asked for, sessions to close.
//! Sans-IO. Elsewhere: who is asked, and who closes them (`switchboard`).
//!
//! Whoever carries a call on speaks to its relay at once, and one that moves its media away closes what it leaves. A session is left when
//! a server dies that had begun it and had told nobody, or that was to close it later.

use crate::ids::CallId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Whoever carries the call on has spoken by then.
const CLAIM_WITHIN: Duration = Duration::from_secs(10);
/// Whoever is asked and has the call has spoken by then. Somebody who could not be asked is asked again then.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Sessions that are watched.
const CALLS_MAX: usize = 1 << 16;

/// Sessions without a server.
#[derive(Debug, Default)]
pub(crate) struct Unclaimed {
    calls: BTreeMap<CallId, Stand>,
}

#[derive(Clone, Copy, Debug)]
struct Stand {
    due: Instant,
    /// All servers have been asked.
    asked: bool,
}

/// What is due for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// All servers are to be asked whether they have it; [`Unclaimed::asked`] follows.
    Ask(CallId),
    /// Nobody has it.
    Close(CallId),
}

impl Unclaimed {
    /// The server that commands these sessions is out of reach.
    pub(crate) fn lost(&mut self, calls: impl Iterator<Item = CallId>, now: Instant) {
        for call in calls {
            if self.calls.len() < CALLS_MAX {
                self.calls.entry(call).or_insert(Stand { due: now + CLAIM_WITHIN, asked: false });
            }
        }
    }

    /// A server speaks for the call.
    pub(crate) fn claimed(&mut self, call: CallId) {
        self.calls.remove(&call);
    }

    /// What is due; what is to be closed is forgotten.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Due> {
        let due: Vec<Due> = self
            .calls
            .iter()
            .filter(|(_, stand)| stand.due <= now)
            .map(|(call, stand)| if stand.asked { Due::Close(*call) } else { Due::Ask(*call) })
            .collect();
        for due in &due {
            if let Due::Close(call) = due {
                self.calls.remove(call);
            }
        }
        due
    }

    /// Servers were asked; `all`: none was out of reach.
    pub(crate) fn asked(&mut self, call: CallId, all: bool, now: Instant) {
        if let Some(stand) = self.calls.get_mut(&call) {
            *stand = Stand { due: now + ANSWER_WITHIN, asked: all };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeId;

    #[test]
    fn a_session_is_closed_when_all_servers_were_asked_and_none_has_its_call() {
        let (mut unclaimed, start) = (Unclaimed::default(), Instant::now());
        let [ours, left] = [1, 2].map(|number| CallId::new(NodeId(1), number));
        unclaimed.lost([ours, left].into_iter(), start);
        assert_eq!(unclaimed.due(start), [], "somebody may be about to carry it on");
        let mut now = start + CLAIM_WITHIN;
        assert_eq!(unclaimed.due(now), [Due::Ask(ours), Due::Ask(left)]);
        unclaimed.asked(ours, true, now);
        unclaimed.asked(left, false, now);
        unclaimed.claimed(ours);
        now += ANSWER_WITHIN;
        assert_eq!(unclaimed.due(now), [Due::Ask(left)], "somebody was not asked");
        unclaimed.asked(left, true, now);
        assert_eq!(unclaimed.due(now), []);
        now += ANSWER_WITHIN;
        assert_eq!(unclaimed.due(now), [Due::Close(left)]);
        assert_eq!(unclaimed.due(now), []);
    }
}
