//! Who was hung up in the last seconds, and by which proxy: should that one have been lost before it could do it, another one has to.
//!
//! In: legs of calls that end, what becomes of proxies, time. Out: legs that may not have been hung up. Elsewhere: hanging them up (`many`).

use cluster::between::{KeptLeg, Title};
use cluster::ids::{CallId, LegId, NodeId};
use cluster::link::Settings;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// A proxy that is gone so soon after it was told to hang up may not have done it (that it is gone is known when its lease has ended); so
/// many are remembered.
const LASTS: Duration = Duration::from_secs(30);
const MOST: usize = 16_384;
/// That a node is another process is known so soon after its link is up.
const KNOWN: Duration = Duration::from_secs(5);
/// Telephones answer within that time, mostly.
const ANSWERED: Duration = Duration::from_secs(1);

/// All of a node's calls.
#[derive(Debug, Default)]
pub(super) struct Farewells {
    all: VecDeque<Farewell>,
    /// Those whose proxies were gone when there was no other to do it.
    stranded: Vec<Farewell>,
    /// Since when proxies are out of reach, or were until they were back.
    lost: BTreeMap<NodeId, (Instant, Option<Instant>)>,
}

/// One leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    /// When its proxy was told.
    pub(super) at: Instant,
    pub(super) title: Title,
    pub(super) leg: KeptLeg,
}

impl Farewells {
    /// A proxy is told to hang up.
    pub(super) fn put(&mut self, farewell: Farewell) {
        let since = farewell.at;
        while self.all.len() >= MOST || self.all.front().is_some_and(|old| since > old.at + LASTS) {
            self.all.pop_front();
        }
        self.all.push_back(farewell);
    }

    /// There is no proxy that could do it now.
    pub(super) fn strand(&mut self, farewell: Farewell) {
        if self.stranded.len() < MOST {
            self.stranded.push(farewell);
        }
    }

    /// There is a proxy again: those who wait for one, unless it is long ago.
    pub(super) fn stranded(&mut self, now: Instant) -> Vec<Farewell> {
        let all = std::mem::take(&mut self.stranded);
        all.into_iter().filter(|farewell| farewell.at + LASTS >= now).collect()
    }

    /// A proxy is out of reach.
    pub(super) fn lost(&mut self, proxy: NodeId, now: Instant) {
        let (since, back) = self.lost.entry(proxy).or_insert((now, None));
        if back.take().is_some() {
            *since = now;
        }
    }

    /// It can be reached again; whether it is another process, which [has gone](Self::gone), is known a moment later.
    pub(super) fn back(&mut self, proxy: NodeId, now: Instant) {
        if let Some((_, back)) = self.lost.get_mut(&proxy) {
            *back = Some(now);
        }
    }

    /// A proxy says that it has no such call, or not this leg of it: whom it was told to hang up there it has not.
    pub(super) fn not_there(
        &mut self,
        proxy: NodeId,
        call: CallId,
        leg: Option<LegId>,
        now: Instant,
    ) -> Vec<Farewell> {
        let is_meant = |farewell: &Farewell| {
            farewell.leg.home == proxy
                && farewell.title.call == call
                && leg.is_none_or(|leg| leg == farewell.leg.leg)
        };
        let (meant, others): (VecDeque<_>, _) = std::mem::take(&mut self.all).into_iter().partition(is_meant);
        self.all = others;
        meant.into_iter().filter(|farewell| farewell.at + LASTS >= now).collect()
    }

    /// It has left, and done all that it was told.
    pub(super) fn left(&mut self, proxy: NodeId) {
        self.lost.remove(&proxy);
        self.all.retain(|farewell| farewell.leg.home != proxy);
    }

    /// It is gone: those who may still wait to be hung up.
    pub(super) fn gone(&mut self, proxy: NodeId, now: Instant) -> Vec<Farewell> {
        let is_fresh = |back: Option<Instant>| back.is_none_or(|back| now < back + KNOWN);
        let lost = self.lost.remove(&proxy).filter(|(_, back)| is_fresh(*back));
        let lost = lost.map_or(now, |(since, _)| since);
        let (here, others): (VecDeque<_>, _) =
            std::mem::take(&mut self.all).into_iter().partition(|farewell| farewell.leg.home == proxy);
        self.all = others;
        // It was out of reach for some time before that was known. What it was told earlier it has done.
        let unnoticed = Settings::default().unnoticed() + ANSWERED;
        let is_open = |farewell: &Farewell| farewell.at + unnoticed >= lost && farewell.at + LASTS >= now;
        here.into_iter().filter(is_open).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: NodeId = NodeId(2);

    fn farewell(at: Instant, number: u64, home: NodeId) -> Farewell {
        let title = Title { call: CallId::new(NodeId(1), number), epoch: 0 };
        let leg = KeptLeg { leg: LegId::new(home, 0, number), home, state: Vec::new().into() };
        Farewell { at, title, leg }
    }

    fn numbers(farewells: Vec<Farewell>) -> Vec<u64> {
        farewells.into_iter().map(|farewell| farewell.title.call.counter()).collect()
    }

    #[test]
    fn what_a_proxy_was_told_just_before_it_was_lost_is_said_by_another_when_it_is_gone() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut all = Farewells::default();
        for (number, second) in [(1, 0), (2, 3), (3, 6), (4, 11)] {
            all.put(farewell(at(second), number, PROXY));
        }
        all.put(farewell(at(11), 5, NodeId(3)));
        all.lost(PROXY, at(10));
        all.lost(PROXY, at(12));
        // What it is told while it is out of reach is not done, either.
        assert_eq!(numbers(all.gone(PROXY, at(18))), [3, 4]);
        assert_eq!(numbers(all.gone(PROXY, at(18))), [0; 0], "once");
        assert_eq!(numbers(all.gone(NodeId(3), at(12))), [5], "another process is there at once");
    }

    #[test]
    fn a_proxy_that_knows_nothing_of_a_call_has_hung_nobody_up() {
        let begin = Instant::now();
        let mut all = Farewells::default();
        for (number, home) in [(1, PROXY), (2, PROXY), (1, NodeId(3))] {
            all.put(farewell(begin, number, home));
        }
        let call = CallId::new(NodeId(1), 1);
        let other = LegId::new(PROXY, 0, 9);
        assert_eq!(numbers(all.not_there(PROXY, call, Some(other), begin)), [0; 0]);
        assert_eq!(numbers(all.not_there(PROXY, call, None, begin)), [1]);
        assert_eq!(numbers(all.not_there(PROXY, call, None, begin)), [0; 0], "once");
        assert_eq!(numbers(all.gone(PROXY, begin)), [2]);
        assert_eq!(numbers(all.gone(NodeId(3), begin)), [1]);
    }

    #[test]
    fn whoever_no_proxy_could_hang_up_waits_for_one_and_not_for_long() {
        let begin = Instant::now();
        let mut all = Farewells::default();
        for (number, second) in [(1, 0), (2, 20)] {
            all.strand(farewell(begin + Duration::from_secs(second), number, PROXY));
        }
        let later = begin + LASTS + Duration::from_secs(1);
        assert_eq!(numbers(all.stranded(later)), [2]);
        assert_eq!(numbers(all.stranded(later)), [0; 0], "once");
    }

    #[test]
    fn a_proxy_that_was_back_or_has_left_in_order_has_done_what_it_was_told() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut all = Farewells::default();
        all.put(farewell(at(0), 1, PROXY));
        all.lost(PROXY, at(1));
        all.back(PROXY, at(2));
        all.put(farewell(at(20), 2, PROXY));
        all.lost(PROXY, at(21));
        assert_eq!(numbers(all.gone(PROXY, at(25))), [2]);
        all.put(farewell(at(30), 3, PROXY));
        all.lost(PROXY, at(30));
        all.left(PROXY);
        assert_eq!(numbers(all.gone(PROXY, at(31))), [0; 0]);
    }

    #[test]
    fn a_proxy_that_is_back_as_another_process_has_done_nothing_since_it_was_lost() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut all = Farewells::default();
        all.lost(PROXY, at(1));
        all.put(farewell(at(2), 1, PROXY));
        all.back(PROXY, at(20));
        assert_eq!(numbers(all.gone(PROXY, at(21))), [1]);
    }
}
