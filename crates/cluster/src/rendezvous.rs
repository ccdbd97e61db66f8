//! Weighted rendezvous hashing: which nodes are the best place for a key, the same answer wherever it is asked.
//!
//! In: a key, candidates with weights. Out: their order, best first. A node that comes takes its share and moves nothing else; one that
//! goes leaves only its own. Elsewhere: who the candidates are ([`crate::node::View`]), what really owns a partition
//! ([`crate::member`]).

use crate::ids::NodeId;

/// A node that may be the place of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The node.
    pub node: NodeId,
    /// Its share beside the others'; none at 0.
    pub weight: u32,
    /// Where it stands.
    pub zone: &'a str,
}

/// The candidates that may have the key, best first.
pub fn order<'a>(key: &[u8], candidates: impl IntoIterator<Item = Candidate<'a>>) -> Vec<NodeId> {
    ranked(key, candidates, |_| true)
}

/// As [`order`], but those of the zone come before all others.
pub fn order_in_zone<'a>(
    key: &[u8],
    zone: &str,
    candidates: impl IntoIterator<Item = Candidate<'a>>,
) -> Vec<NodeId> {
    ranked(key, candidates, |candidate| candidate.zone == zone)
}

/// The first of [`order`].
pub fn best<'a>(key: &[u8], candidates: impl IntoIterator<Item = Candidate<'a>>) -> Option<NodeId> {
    let scored = candidates.into_iter().filter(|candidate| candidate.weight > 0);
    let scored = scored.map(|candidate| (score(key, &candidate), candidate.node));
    scored.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))).map(|(_, node)| node)
}

fn ranked<'a>(
    key: &[u8],
    candidates: impl IntoIterator<Item = Candidate<'a>>,
    is_near: impl Fn(&Candidate<'a>) -> bool,
) -> Vec<NodeId> {
    let scored = candidates.into_iter().filter(|candidate| candidate.weight > 0);
    let mut scored: Vec<(bool, f64, NodeId)> =
        scored.map(|candidate| (!is_near(&candidate), score(key, &candidate), candidate.node)).collect();
    scored.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    scored.into_iter().map(|(_, _, node)| node).collect()
}

/// An exponentially distributed number whose mean is one over the weight: the smallest of several wins in proportion to its weight
/// (Efraimidis and Spirakis). Two machines whose logarithms differ in the last bit disagree about no key that matters: an
/// owner is decided by its claim.
fn score(key: &[u8], candidate: &Candidate<'_>) -> f64 {
    let hash = hash(candidate.node, key);
    // 53 bits and a half: never 0, never 1.
    let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -uniform.ln() / f64::from(candidate.weight)
}

fn hash(node: NodeId, key: &[u8]) -> u64 {
    // The node is mixed in by the key of the hash, so that no text before or after it matters.
    siphash(KEY.0, KEY.1 ^ u64::from(node.0), key)
}

/// Any constant; it must never change, for all nodes must agree.
const KEY: (u64, u64) = (0x6361_7269_6c6c_6f6e, 0x7265_6e64_657a_766f);

/// A hash of bytes that is the same on every machine and in every release: for partitions of a fixed number.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    siphash(KEY.0, KEY.1, bytes)
}

/// SipHash-2-4 (Aumasson and Bernstein). std's hashers may change from release to release.
fn siphash(k0: u64, k1: u64, bytes: &[u8]) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut compress = |word: u64| {
        v[3] ^= word;
        round(&mut v);
        round(&mut v);
        v[0] ^= word;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        compress(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = bytes.len() as u8;
    compress(u64::from_le_bytes(last));
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn candidates(weights: &BTreeMap<u16, u32>) -> Vec<Candidate<'static>> {
        let candidate = |(&node, &weight)| Candidate { node: NodeId(node), weight, zone: "" };
        weights.iter().map(candidate).collect()
    }

    fn place(key: u32, weights: &BTreeMap<u16, u32>) -> Option<NodeId> {
        best(&key.to_le_bytes(), candidates(weights))
    }

    #[test]
    fn the_hash_is_siphash_2_4_as_published() {
        let bytes: Vec<u8> = (0..15).collect();
        let (k0, k1) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        for (length, hash) in [
            (0, 0x726f_db47_dd0e_0e31),
            (1, 0x74f8_39c5_93dc_67fd),
            (7, 0xab02_00f5_8b01_d137),
            (8, 0x93f5_f579_9a93_2462),
            (15, 0xa129_ca61_49be_45e5),
        ] {
            assert_eq!(siphash(k0, k1, &bytes[..length]), hash, "{length} bytes");
        }
    }

    #[test]
    fn placement_stays_what_it_was_in_earlier_releases() {
        let weights = BTreeMap::from([(1, 100), (2, 100), (3, 50)]);
        let places: Vec<u16> = (0..12).filter_map(|key| place(key, &weights)).map(|node| node.0).collect();
        assert_eq!(places, PLACES);
    }

    const PLACES: [u16; 12] = [2, 1, 1, 1, 1, 3, 2, 2, 1, 1, 1, 3];

    #[test]
    fn shares_follow_the_weights() {
        let weights = BTreeMap::from([(1, 100), (2, 200), (3, 700), (4, 0)]);
        let mut counts = BTreeMap::new();
        for key in 0..20_000 {
            *counts.entry(place(key, &weights).unwrap().0).or_insert(0_u32) += 1;
        }
        for (node, expected) in [(1, 2000_u32), (2, 4000), (3, 14_000)] {
            assert!(counts[&node].abs_diff(expected) < expected / 10, "{counts:?}");
        }
        assert!(!counts.contains_key(&4), "a weight of nothing gets nothing");
    }

    #[test]
    fn the_nearest_zone_comes_first_and_the_rest_keeps_its_order() {
        let of = |node, zone| Candidate { node: NodeId(node), weight: 100, zone };
        let all = [of(1, "a"), of(2, "b"), of(3, "a"), of(4, "b"), of(5, "c")];
        for key in 0..100_u32 {
            let (near, plain) = (order_in_zone(&key.to_le_bytes(), "b", all), order(&key.to_le_bytes(), all));
            let is_near = |node: &NodeId| [2, 4].contains(&node.0);
            let (mut expected, rest): (Vec<NodeId>, Vec<NodeId>) =
                plain.iter().partition(|node| is_near(node));
            expected.extend(rest);
            assert_eq!(near, expected);
        }
    }

    proptest! {
        #[test]
        fn a_node_that_comes_takes_its_share_and_moves_nothing_else(
            mut weights in proptest::collection::btree_map(1_u16..50, 1_u32..1000, 1..10),
            new in 50_u16..60,
        ) {
            let before: Vec<_> = (0..2000).map(|key| place(key, &weights)).collect();
            let mean = weights.values().sum::<u32>() / weights.len() as u32;
            weights.insert(new, mean.max(1));
            let mut moved = 0;
            for (key, before) in (0..).zip(before) {
                let after = place(key, &weights);
                if after != before {
                    prop_assert_eq!(after, Some(NodeId(new)));
                    moved += 1;
                }
            }
            let share = 2000.0 / weights.len() as f64;
            prop_assert!(f64::from(moved) < share * 1.5 + 60.0, "{} moved, {} is its share", moved, share);
        }

        #[test]
        fn a_node_that_goes_moves_only_its_own_keys_to_the_next_in_their_order(
            weights in proptest::collection::btree_map(1_u16..50, 0_u32..1000, 2..10),
        ) {
            let gone = *weights.keys().next().unwrap();
            let mut rest = weights.clone();
            rest.remove(&gone);
            for key in 0..500_u32 {
                let mut expected = order(&key.to_le_bytes(), candidates(&weights));
                prop_assert_eq!(place(key, &weights), expected.first().copied());
                expected.retain(|node| node.0 != gone);
                prop_assert_eq!(order(&key.to_le_bytes(), candidates(&rest)), expected);
            }
        }
    }
}
