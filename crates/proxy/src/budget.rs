//! How much longer than their requests the answers to strangers may be: whoever forges the source of a datagram must not
//! make this proxy hit somebody else harder than he could himself (RFC 3261 section 26.1.5).
//!
//! In: addresses, lengths, proofs, the time. Out: whether an answer may leave. Elsewhere: what is answered (`worker`).
//!
//! What is counted, and why. Forging pays only if the answer is longer than the request, so octets are counted, and only
//! those beyond the request and an eighth of it (`received`, `rport` and the To tag, which every answer must have). The
//! request of a telephone is about as long as its challenge and costs nothing or some tens of octets; one that is made to
//! be short costs hundreds. A limit of answers per second would not tell the two apart: behind a carrier's NAT hundreds of
//! telephones have one address, and after a power cut they all register at once. 500 of them, even with requests of 350
//! octets for challenges of 500, take 53 kB of the default burst of 256 KiB, and another 300 such a second take what comes
//! back meanwhile. Whoever is beyond its budget still gets every answer that is no longer than the request: an attack in
//! the name of a NAT does not lock out the telephones behind it.
//!
//! Who has proved to be where the datagrams say is not counted: the digest was right on this very flow (address and
//! port; other ports of a NAT have to prove themselves), for a nonce that went to this address, not longer ago than a
//! registration lasts. A proof by some dialog would add nothing, requests in dialogs are answered by transactions. TCP
//! proves itself by its handshake.
//!
//! Both tables have a fixed size and are made of sets of a few places, so that finding and throwing out take one set. What
//! is thrown out is the source that owes least, which is what an attack with many addresses fills the table with, or the
//! oldest proof, which costs its owner nothing but being counted again.

use crate::config::Limits;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Places of one set.
const WAYS: usize = 8;
/// The smallest share of a worker: a few challenges.
const BURST_MIN: u32 = 4096;

/// The budgets that one worker keeps. The kernel spreads the ports of an address over the workers, so each has a share.
pub(crate) struct Budget {
    /// When the debt of an address will be paid.
    debts: Table<IpAddr>,
    /// How long the proof of a flow counts.
    proofs: Table<SocketAddr>,
    per_second: u64,
    /// The debt that nobody may exceed, as the time it takes to pay.
    debt_max: Duration,
    proof_lasts: Duration,
}

impl Budget {
    /// A worker's share of the limits. `proof_lasts`: longer than the pause between two registrations of a telephone.
    pub(crate) fn new(limits: &Limits, workers: usize, proof_lasts: Duration) -> Self {
        let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
        let per_second = u64::from((limits.udp_surplus_per_second / workers).max(1));
        let burst = (limits.udp_surplus_burst / workers).max(BURST_MIN);
        Self {
            debts: Table::new(limits.udp_sources),
            proofs: Table::new(limits.udp_sources),
            per_second,
            debt_max: time(u64::from(burst), per_second),
            proof_lasts,
        }
    }

    /// The sender of datagrams from here knows a password, so it is here.
    pub(crate) fn prove(&mut self, from: SocketAddr, now: Instant) {
        self.proofs.put(from, now + self.proof_lasts);
    }

    /// Whether the flow proved itself.
    pub(crate) fn is_proved(&self, from: SocketAddr, now: Instant) -> bool {
        self.proofs.get(from).is_some_and(|until| until > now)
    }

    /// Whether a datagram of `received` octets may be answered by one of `answer` octets; if so, it is paid for.
    pub(crate) fn allows(&mut self, from: SocketAddr, received: usize, answer: usize, now: Instant) -> bool {
        let surplus = answer.saturating_sub(received + received / 8);
        if surplus == 0 || self.is_proved(from, now) {
            return true;
        }
        let network = network(from.ip());
        let paid_at = self.debts.get(network).map_or(now, |paid_at| paid_at.max(now));
        let paid_at = paid_at + time(surplus as u64, self.per_second);
        let allowed = paid_at - now <= self.debt_max;
        if allowed {
            self.debts.put(network, paid_at);
        }
        allowed
    }
}

fn time(octets: u64, per_second: u64) -> Duration {
    Duration::from_nanos(octets.saturating_mul(1_000_000_000) / per_second)
}

/// Who counts as one sender: an IPv4 address; of IPv6 the /64 that one customer has at least (RFC 6177 section 2).
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

/// Points in time by key; where there is no room the earliest one goes.
struct Table<K> {
    sets: Vec<[Option<(K, Instant)>; WAYS]>,
    /// Keyed by chance, so that nobody can aim at the set of another.
    hasher: RandomState,
}

impl<K: Copy + Eq + Hash> Table<K> {
    fn new(places: usize) -> Self {
        let sets = vec![[None; WAYS]; places.div_ceil(WAYS).max(1)];
        Self { sets, hasher: RandomState::new() }
    }

    fn get(&self, key: K) -> Option<Instant> {
        self.sets[self.set(key)].iter().flatten().find(|(each, _)| *each == key).map(|(_, at)| *at)
    }

    fn put(&mut self, key: K, at: Instant) {
        let set = self.set(key);
        let is_it = |place: &Option<(K, Instant)>| place.is_some_and(|(each, _)| each == key);
        // Its own place, else an empty one (`None` is the least), else the earliest.
        let place = self.sets[set]
            .iter_mut()
            .min_by_key(|place| (!is_it(place), place.map(|(_, at)| at)))
            .expect("a set has places");
        *place = Some((key, at));
    }

    fn set(&self, key: K) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "a remainder of a number of sets")]
        let set = (self.hasher.hash_one(key) % self.sets.len() as u64) as usize;
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROOF: Duration = Duration::from_secs(3600);

    fn budget(change: impl FnOnce(&mut Limits)) -> Budget {
        let mut limits = Limits::default();
        change(&mut limits);
        Budget::new(&limits, 1, PROOF)
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// How many octets beyond the requests `from` gets until there is silence.
    fn drain(budget: &mut Budget, from: SocketAddr, now: Instant) -> usize {
        (0..100_000).take_while(|_| budget.allows(from, 120, 360, now)).count() * 225
    }

    #[test]
    fn surplus_is_bounded_and_comes_back_with_time() {
        let mut budget = budget(|limits| {
            (limits.udp_surplus_burst, limits.udp_surplus_per_second) = (100_000, 1000);
        });
        let (from, now) = (addr("198.51.100.7:5060"), Instant::now());
        let burst = drain(&mut budget, from, now);
        assert!((99_000..=100_000).contains(&burst), "{burst}");
        assert_eq!(drain(&mut budget, addr("198.51.100.7:6666"), now), 0, "another port is no other budget");
        assert!(budget.allows(from, 480, 540, now), "what is hardly longer costs nothing");
        assert!(drain(&mut budget, addr("198.51.100.8:5060"), now) > 99_000, "another address is");
        let later = drain(&mut budget, from, now + Duration::from_secs(10));
        assert!((9000..=11_000).contains(&later), "{later}");
        // Time in small pieces counts as well.
        let refused = (0..100_000u64)
            .filter(|tenth_ms| {
                let at = now + Duration::from_secs(10) + Duration::from_micros(100 * tenth_ms);
                !budget.allows(from, 120, 360, at)
            })
            .count();
        assert!((99_940..99_970).contains(&refused), "{refused}: 10000 octets in ten seconds are 44 answers");
    }

    #[test]
    fn five_hundred_telephones_behind_one_address_register_at_once() {
        let limits = Limits::default();
        for workers in [1, 8] {
            let mut budget = Budget::new(&limits, workers, PROOF);
            let now = Instant::now();
            // Each worker sees its share of the ports.
            for port in 0..500 / workers as u16 {
                let from = SocketAddr::from(([198, 51, 100, 7], 10_000 + port));
                assert!(budget.allows(from, 350, 500, now), "{port} of {workers}");
            }
        }
    }

    #[test]
    fn a_network_of_ipv6_has_one_budget() {
        let mut budget = budget(|_| {});
        let now = Instant::now();
        assert!(drain(&mut budget, addr("[2001:db8:0:1::7]:5060"), now) > 0);
        assert_eq!(drain(&mut budget, addr("[2001:db8:0:1:ffff::8]:5060"), now), 0);
        assert!(drain(&mut budget, addr("[2001:db8:0:2::7]:5060"), now) > 0);
        assert!(drain(&mut budget, addr("198.51.100.7:5060"), now) > 0);
        assert_eq!(drain(&mut budget, addr("[::ffff:198.51.100.7]:5060"), now), 0);
    }

    #[test]
    fn who_proved_to_be_there_is_not_counted_for_a_while() {
        let mut budget = budget(|_| {});
        let (from, now) = (addr("198.51.100.7:5060"), Instant::now());
        drain(&mut budget, from, now);
        assert!(!budget.allows(from, 120, 360, now));
        budget.prove(from, now);
        assert!((0..10_000).all(|_| budget.allows(from, 120, 360, now)));
        assert!(!budget.allows(addr("198.51.100.7:5061"), 120, 360, now), "only this flow");
        assert!(!budget.is_proved(from, now + PROOF));
    }

    #[test]
    fn many_addresses_do_not_wash_a_debt_away() {
        let mut budget = budget(|limits| limits.udp_sources = 64);
        let (from, now) = (addr("198.51.100.7:5060"), Instant::now());
        drain(&mut budget, from, now);
        for stranger in 0..100_000u32 {
            let ip = std::net::Ipv4Addr::from_bits(0x0a00_0000 + stranger);
            assert!(budget.allows(SocketAddr::from((ip, 5060)), 120, 360, now));
        }
        assert!(!budget.allows(from, 120, 360, now));
        assert_eq!(budget.debts.sets.len(), 64 / WAYS, "the table has not grown");
    }
}
