//! The directory: every node's copy of all registered contacts, so that a call finds a telephone wherever it registered.
//!
//! In: what the proxy of this node registers, what other nodes tell of theirs. Out: contacts, and what to tell others. Sans-IO. Of two
//! registrations of one device the later one is right, wherever it was. Elsewhere: the registrar itself, which is right about its own
//! (crate `proxy`), links (crate `mesh`).

use crate::between::{DirectoryItem, Located};
use crate::ids::NodeId;
use model::{Aor, BindingRecord};
use std::collections::{BTreeMap, BTreeSet};

/// Contacts of one endpoint that are remembered, of all proxies together.
const OF_ONE_MAX: usize = 64;
/// Contacts of all other nodes that are remembered.
const ALL_MAX: usize = 4_000_000;

/// All contacts that this node knows of.
#[derive(Debug)]
pub struct Locations {
    me: NodeId,
    bound: BTreeMap<Aor, Vec<Located>>,
    count: usize,
    /// Nodes that are telling all they have, and how much was known of theirs before: what they do not tell again is void.
    telling: BTreeMap<NodeId, i64>,
    /// Nodes that have told all they have since this process began.
    spoken: BTreeSet<NodeId>,
}

/// What follows from news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Displaced {
    /// The endpoint.
    pub aor: Aor,
    /// The contact of this node's registrar that is void, for the device has registered elsewhere since.
    pub contact: String,
}

impl Locations {
    /// Nothing is known yet.
    pub fn new(me: NodeId) -> Self {
        Self { me, bound: BTreeMap::new(), count: 0, telling: BTreeMap::new(), spoken: BTreeSet::new() }
    }

    /// The registrar of this node has a new or refreshed binding; what to tell the others.
    pub fn bound(&mut self, binding: BindingRecord, now_us: i64) -> DirectoryItem {
        let located = Located { binding, home: self.me, conn: 0, stamp_us: now_us };
        self.put(located.clone());
        DirectoryItem::Bound(Box::new(located))
    }

    /// A binding of this node's registrar has ended; what to tell the others.
    pub fn unbound(&mut self, aor: Aor, contact: &str, now_us: i64) -> DirectoryItem {
        self.remove(aor, |located, me| located.home == me && located.binding.contact == contact);
        DirectoryItem::Unbound { aor, contact: contact.to_owned(), stamp_us: now_us }
    }

    /// All that this node's registrar has, for a node that has just come.
    pub fn whole(&self) -> Vec<DirectoryItem> {
        let mut items = vec![DirectoryItem::Whole];
        let own = self.bound.values().flatten().filter(|located| located.home == self.me);
        items.extend(own.map(|located| DirectoryItem::Bound(Box::new(located.clone()))));
        items.push(DirectoryItem::WholeTold);
        items
    }

    /// What proxies had that have left the cluster, for a node that has just come.
    pub fn orphans(&self, is_gone: impl Fn(NodeId) -> bool) -> Vec<DirectoryItem> {
        let all =
            self.bound.values().flatten().filter(|located| located.home != self.me && is_gone(located.home));
        all.map(|located| DirectoryItem::Orphan(Box::new(located.clone()))).collect()
    }

    /// What another node says. Out: bindings of this node's own registrar that it is to drop.
    pub fn told(&mut self, from: NodeId, item: &DirectoryItem, now_us: i64) -> Vec<Displaced> {
        match item {
            DirectoryItem::Whole => {
                // Stale entries are told apart by a mark that no registration has.
                let mark = self.telling.entry(from).or_insert(0);
                *mark = now_us;
                for located in self.bound.values_mut().flatten().filter(|located| located.home == from) {
                    located.conn = STALE;
                }
                Vec::new()
            }
            DirectoryItem::WholeTold => {
                self.spoken.insert(from);
                if self.telling.remove(&from).is_some() {
                    self.remove_all(|located| located.home == from && located.conn == STALE);
                }
                Vec::new()
            }
            DirectoryItem::Bound(located) => {
                let mut located = (**located).clone();
                located.home = from; // nobody speaks for others
                located.conn = 0;
                // A clock that is ahead must not make a registration unbeatable.
                located.stamp_us = located.stamp_us.min(now_us.saturating_add(CLOCKS_US));
                if self.count >= ALL_MAX { Vec::new() } else { self.put(located) }
            }
            DirectoryItem::Orphan(located) => {
                let mut located = (**located).clone();
                located.conn = 0;
                located.stamp_us = located.stamp_us.min(now_us.saturating_add(CLOCKS_US));
                let is_as_late =
                    |known: &Located| is_same(known, &located) && known.stamp_us >= located.stamp_us;
                let is_news = !self.of(located.binding.aor).any(is_as_late);
                // Whoever has spoken is right about what he had.
                let is_orphan =
                    ![self.me, from].contains(&located.home) && !self.spoken.contains(&located.home);
                if is_news && is_orphan && self.count < ALL_MAX { self.put(located) } else { Vec::new() }
            }
            DirectoryItem::Unbound { aor, contact, .. } => {
                self.remove(*aor, |located, _| located.home == from && located.binding.contact == *contact);
                Vec::new()
            }
            DirectoryItem::Forget { aor, contact, before_us } => {
                let is_void = |located: &Located| {
                    located.home != from
                        && located.stamp_us < *before_us
                        && contact.as_ref().is_none_or(|contact| *contact == located.binding.contact)
                };
                let own = self.of(*aor).filter(|located| located.home == self.me && is_void(located));
                let displaced: Vec<Displaced> = own.map(Displaced::of).collect();
                self.remove(*aor, |located, _| is_void(located));
                displaced
            }
            DirectoryItem::Reserve { .. }
            | DirectoryItem::Reserved { .. }
            | DirectoryItem::Release { .. }
            | DirectoryItem::Recount { .. }
            | DirectoryItem::Holds { .. }
            | DirectoryItem::Ask { .. }
            | DirectoryItem::Answer { .. } => Vec::new(),
        }
    }

    /// Contacts of an endpoint that have not expired.
    pub fn of_at(&self, aor: Aor, now_secs: i64) -> impl Iterator<Item = &Located> {
        self.of(aor).filter(move |located| located.binding.expires_at > now_secs)
    }

    /// How many contacts are known, those of this node with them.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Forgets what has expired; called now and then.
    pub fn tidy(&mut self, now_secs: i64) {
        self.remove_all(|located| located.binding.expires_at <= now_secs);
    }

    fn of(&self, aor: Aor) -> impl Iterator<Item = &Located> {
        self.bound.get(&aor).into_iter().flatten()
    }

    /// Puts a binding in the place of older ones of the same device. Out: those of this node that it displaces.
    fn put(&mut self, located: Located) -> Vec<Displaced> {
        let all = self.bound.entry(located.binding.aor).or_default();
        let is_later = |other: &Located| other.home != located.home && other.stamp_us > located.stamp_us;
        if all.iter().any(|other| is_same(other, &located) && is_later(other)) {
            return Vec::new();
        }
        let me = self.me;
        let before = all.len();
        let mut displaced = Vec::new();
        all.retain(|other| {
            let is_old = is_same(other, &located);
            if is_old && other.home == me && located.home != me {
                displaced.push(Displaced::of(other));
            }
            !is_old
        });
        if all.len() >= OF_ONE_MAX
            && let Some(oldest) = (0..all.len()).min_by_key(|index| all[*index].stamp_us)
        {
            all.remove(oldest);
        }
        all.push(located);
        self.count = self.count + all.len() - before;
        displaced
    }

    fn remove(&mut self, aor: Aor, which: impl Fn(&Located, NodeId) -> bool) {
        let me = self.me;
        let Some(all) = self.bound.get_mut(&aor) else { return };
        let before = all.len();
        all.retain(|located| !which(located, me));
        self.count -= before - all.len();
        if all.is_empty() {
            self.bound.remove(&aor);
        }
    }

    fn remove_all(&mut self, which: impl Fn(&Located) -> bool) {
        self.bound.retain(|_, all| {
            all.retain(|located| !which(located));
            !all.is_empty()
        });
        self.count = self.bound.values().map(Vec::len).sum();
    }
}

/// Marks, in place of a connection, what has not been told again.
const STALE: u64 = u64::MAX;
/// How far apart nodes' clocks may be.
const CLOCKS_US: i64 = 5_000_000;

impl Displaced {
    fn of(located: &Located) -> Self {
        Self { aor: located.binding.aor, contact: located.binding.contact.clone() }
    }
}

/// Whether two bindings are of the same device: by its instance (and flow, RFC 5626 section 4.2), else by its contact.
fn is_same(one: &Located, other: &Located) -> bool {
    let (one, other) = (&one.binding, &other.binding);
    match (&one.instance, &other.instance) {
        (Some(a), Some(b)) => a == b && one.reg_id == other.reg_id,
        (None, None) => one.contact == other.contact,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::FlowRecord;

    const ALICE: Aor = Aor::from_bits(1);

    fn record(contact: &str, instance: Option<&str>) -> BindingRecord {
        BindingRecord {
            aor: ALICE,
            contact: contact.to_owned(),
            instance: instance.map(str::to_owned),
            reg_id: None,
            call_id: "c".to_owned(),
            cseq: 1,
            q: 1000,
            expires_at: 1000,
            path: Vec::new(),
            user_agent: String::new(),
            flow: FlowRecord {
                transport: "UDP".to_owned(),
                listener: 0,
                remote: ([192, 0, 2, 1], 5060).into(),
            },
            nat: false,
        }
    }

    fn homes(locations: &Locations) -> Vec<(u16, String)> {
        locations.of_at(ALICE, 0).map(|located| (located.home.0, located.binding.contact.clone())).collect()
    }

    /// Two nodes that tell each other.
    struct Pair(Locations, Locations);

    impl Pair {
        fn new() -> Self {
            Self(Locations::new(NodeId(1)), Locations::new(NodeId(2)))
        }

        fn at_first(&mut self, binding: BindingRecord, now: i64) -> Vec<Displaced> {
            let item = self.0.bound(binding, now);
            self.1.told(NodeId(1), &item, now)
        }

        fn at_second(&mut self, binding: BindingRecord, now: i64) -> Vec<Displaced> {
            let item = self.1.bound(binding, now);
            self.0.told(NodeId(2), &item, now)
        }
    }

    #[test]
    fn a_binding_is_known_everywhere_with_its_home() {
        let mut pair = Pair::new();
        pair.at_first(record("sip:a@1", None), 10);
        pair.at_second(record("sip:a@2", None), 11);
        let both = [(1, "sip:a@1".to_owned()), (2, "sip:a@2".to_owned())];
        assert_eq!(homes(&pair.0), both);
        assert_eq!(homes(&pair.1), both);
        let item = pair.0.unbound(ALICE, "sip:a@1", 12);
        pair.1.told(NodeId(1), &item, 12);
        assert_eq!(homes(&pair.1), both[1..]);
        assert_eq!((pair.0.count(), pair.1.count()), (1, 1));
    }

    #[test]
    fn a_device_that_comes_back_by_another_proxy_is_there_alone() {
        let mut pair = Pair::new();
        pair.at_first(record("sip:a@1", Some("<urn:x>")), 10);
        let displaced = pair.at_second(record("sip:a@9", Some("<urn:x>")), 20);
        assert_eq!(displaced, [Displaced { aor: ALICE, contact: "sip:a@1".to_owned() }]);
        assert_eq!(homes(&pair.0), [(2, "sip:a@9".to_owned())]);
        assert_eq!(homes(&pair.1), homes(&pair.0));
        // What the first proxy says of its own old binding now does not touch the new one, even under the same URI.
        let mut same = Pair::new();
        same.at_first(record("sip:a@1", None), 10);
        same.at_second(record("sip:a@1", None), 20);
        let late = DirectoryItem::Unbound { aor: ALICE, contact: "sip:a@1".to_owned(), stamp_us: 21 };
        same.1.told(NodeId(1), &late, 21);
        assert_eq!(homes(&same.1), [(2, "sip:a@1".to_owned())]);
    }

    #[test]
    fn news_that_come_late_lose() {
        let mut pair = Pair::new();
        let old = pair.0.bound(record("sip:a@1", None), 10);
        pair.at_second(record("sip:a@1", None), 20);
        assert_eq!(pair.1.told(NodeId(1), &old, 21), []);
        assert_eq!(homes(&pair.1), [(2, "sip:a@1".to_owned())]);
    }

    #[test]
    fn a_whole_replaces_what_was_told_before() {
        let mut pair = Pair::new();
        for contact in ["sip:a@1", "sip:b@1"] {
            pair.at_first(record(contact, None), 10);
        }
        pair.at_second(record("sip:c@2", None), 10);
        // The first node was out of reach while one of its bindings ended.
        pair.0.unbound(ALICE, "sip:a@1", 11);
        for item in pair.0.whole() {
            pair.1.told(NodeId(1), &item, 12);
        }
        assert_eq!(homes(&pair.1), [(2, "sip:c@2".to_owned()), (1, "sip:b@1".to_owned())]);
    }

    #[test]
    fn a_node_that_comes_hears_of_bindings_whose_proxy_has_gone() {
        let mut pair = Pair::new();
        pair.at_first(record("sip:a@1", None), 10);
        pair.at_second(record("sip:b@2", None), 11);
        let told = pair.1.orphans(|home| home == NodeId(1));
        assert_eq!((told.len(), pair.1.orphans(|_| false).len()), (1, 0));
        let mut newcomer = Locations::new(NodeId(3));
        assert_eq!(newcomer.told(NodeId(2), &told[0], 20), []);
        assert_eq!(homes(&newcomer), [(1, "sip:a@1".to_owned())]);
        // It speaks for itself when it is back, and nobody for it from then on.
        pair.0.unbound(ALICE, "sip:a@1", 30);
        for item in pair.0.whole() {
            newcomer.told(NodeId(1), &item, 30);
        }
        newcomer.told(NodeId(2), &told[0], 31);
        assert_eq!(homes(&newcomer), []);
        // Nobody is told of his own, nor by himself in another's name.
        pair.0.told(NodeId(2), &told[0], 33);
        assert_eq!(homes(&pair.0), [(2, "sip:b@2".to_owned())]);
    }

    #[test]
    fn nobody_speaks_for_others_nor_from_the_future() {
        let mut locations = Locations::new(NodeId(1));
        let mut located =
            Located { binding: record("sip:a@3", None), home: NodeId(3), conn: 7, stamp_us: i64::MAX };
        locations.told(NodeId(2), &DirectoryItem::Bound(Box::new(located.clone())), 10);
        assert_eq!(homes(&locations), [(2, "sip:a@3".to_owned())]);
        located.stamp_us = 11 + CLOCKS_US;
        locations.told(NodeId(3), &DirectoryItem::Bound(Box::new(located)), 12);
        assert_eq!(homes(&locations), [(3, "sip:a@3".to_owned())]);
    }

    #[test]
    fn contacts_of_one_endpoint_are_bounded() {
        let mut locations = Locations::new(NodeId(1));
        for number in 0..1000 {
            let located = Located {
                binding: record(&format!("sip:a@{number}"), None),
                home: NodeId(2),
                conn: 0,
                stamp_us: number,
            };
            locations.told(NodeId(2), &DirectoryItem::Bound(Box::new(located)), 1000);
        }
        assert_eq!(locations.count(), OF_ONE_MAX);
        locations.tidy(1001);
        assert_eq!(locations.count(), 0);
    }

    #[test]
    fn older_bindings_elsewhere_are_void_when_a_telephone_says_so() {
        let both = |pair: &mut Pair, contact: Option<&str>| {
            let contact = contact.map(str::to_owned);
            let item = DirectoryItem::Forget { aor: ALICE, contact, before_us: 20 };
            assert_eq!(pair.1.told(NodeId(2), &item, 21), [], "whoever says so has dropped his own");
            pair.0.told(NodeId(2), &item, 21)
        };
        let mut pair = Pair::new();
        for (contact, stamp) in [("sip:a@1", 10), ("sip:c@1", 11), ("sip:d@1", 25)] {
            pair.at_first(record(contact, None), stamp);
        }
        pair.at_second(record("sip:b@2", None), 15);
        let displaced = |contact: &str| Displaced { aor: ALICE, contact: contact.to_owned() };
        assert_eq!(both(&mut pair, Some("sip:x@1")), []);
        assert_eq!(both(&mut pair, Some("sip:a@1")), [displaced("sip:a@1")]);
        assert_eq!(both(&mut pair, None), [displaced("sip:c@1")], "what came later stays");
        let left = [(1, "sip:d@1".to_owned()), (2, "sip:b@2".to_owned())];
        assert_eq!(homes(&pair.0), left);
        assert_eq!(homes(&pair.1), left);
    }
}
