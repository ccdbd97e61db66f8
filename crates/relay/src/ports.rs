//! The port pairs of a relay: which are bound, which are free, who holds the others.
//!
//! In: a wish for a pair of one family in one worker. Out: a [`Lease`], and what workers must be told about it. A pair
//! stays bound, and in the epoll set of its worker, when its call ends: the next call costs no socket.

use crate::config::{MediaAddress, RelayConfig, RelayError};
use crate::figures::Figures;
use crate::own::Own;
use parking_lot::Mutex;
use rand::seq::SliceRandom;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A freed pair rests so long before another is bound in its stead: packets of the old call have come in by then, and a
/// peer that was slow to hear of the end has stopped.
const REST: Duration = Duration::from_secs(3);

/// A port that the system refused is tried again after this time.
const REFUSAL: Duration = Duration::from_secs(30);

/// Ports that one request tries to bind at most.
const TRIES_MAX: usize = 64;

/// IP version of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Datagrams that are taken off a socket before its new holder gets it.
const DRAIN_MAX: usize = 4096;

/// Two bound sockets and the figures of the stream that uses them.
pub(crate) struct Pair {
    /// Number within the relay, the same for the life of the process.
    pub(crate) slot: u32,
    /// The even port; RTCP has the one above it.
    pub(crate) port: u16,
    pub(crate) family: Family,
    pub(crate) rtp: UdpSocket,
    pub(crate) rtcp: UdpSocket,
    pub(crate) figures: Figures,
    generation: AtomicU32,
}

/// The right to use a pair, given back by [`Ports::give_back`].
pub(crate) struct Lease {
    pub(crate) pair: Arc<Pair>,
    /// Tells this holder from earlier ones.
    pub(crate) generation: u32,
}

/// Numbers for operators.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PortCounts {
    pub(crate) used: usize,
    pub(crate) free: usize,
}

/// All port pairs of a relay.
pub(crate) struct Ports {
    own: Arc<Own>,
    spaces: Vec<Space>,
    options: SocketOptions,
    /// Pairs bound so far, and how many may be: the rest of the process needs descriptors, too.
    bound: AtomicUsize,
    bound_max: usize,
}

struct Space {
    address: MediaAddress,
    family: Family,
    first_port: u16,
    first_slot: u32,
    inner: Mutex<Inner>,
}

struct Inner {
    unbound: VecDeque<u16>,
    refused: VecDeque<(Instant, u16)>,
    /// Bound and free, longest rested first; by worker.
    rested: Vec<VecDeque<(Instant, Arc<Pair>)>>,
    used: usize,
}

#[derive(Clone, Copy)]
struct SocketOptions {
    receive_buffer: usize,
    send_buffer: usize,
    dscp: u8,
}

impl Ports {
    /// Checks the addresses and lays out the range; binds nothing yet. `files` is the limit of open files.
    pub(crate) fn new(config: &RelayConfig, workers: usize, files: u64) -> Result<Self, RelayError> {
        let (from, to) = (*config.ports.start(), *config.ports.end());
        let first_port = u32::from(from.max(2)).next_multiple_of(2); // port 0 is no port
        let pairs = (u32::from(to) + 1).saturating_sub(first_port) / 2;
        if pairs == 0 {
            return Err(RelayError::Ports { from, to });
        }
        if config.addresses.is_empty() {
            return Err(RelayError::Addresses("none is configured"));
        }
        let options = SocketOptions {
            receive_buffer: config.receive_buffer,
            send_buffer: config.send_buffer,
            dscp: config.dscp.min(63),
        };
        let mut spaces: Vec<Space> = Vec::new();
        for &address in &config.addresses {
            let family = Family::of(address.bind);
            if Family::of(address.advertised) != family {
                return Err(RelayError::Addresses("bound and advertised address differ in IP version"));
            }
            if address.advertised.is_unspecified() {
                return Err(RelayError::Addresses("bound to all addresses: say which one to advertise"));
            }
            if spaces.iter().any(|space| space.family == family) {
                return Err(RelayError::Addresses("two of the same IP version"));
            }
            options
                .bind(SocketAddr::new(address.bind, 0))
                .map_err(|cause| RelayError::Bind { address: address.bind, cause })?;
            // No order that somebody outside could guess.
            let mut unbound: Vec<u16> = (0..pairs).map(|pair| pair as u16).collect();
            unbound.shuffle(&mut rand::rng());
            spaces.push(Space {
                address,
                family,
                first_port: first_port as u16,
                first_slot: spaces.len() as u32 * pairs,
                inner: Mutex::new(Inner {
                    unbound: unbound.into(),
                    refused: VecDeque::new(),
                    rested: vec![VecDeque::new(); workers],
                    used: 0,
                }),
            });
        }
        let bound_max = usize::try_from(files / 4 * 3 / 2).unwrap_or(usize::MAX);
        let range = pairs as usize * spaces.len();
        if bound_max < range {
            tracing::warn!(
                range,
                bound_max,
                "fewer port pairs than the range has: raise the limit of open files"
            );
        }
        Ok(Self { own: Arc::new(Own::new(config)), spaces, options, bound: AtomicUsize::new(0), bound_max })
    }

    /// The family for a peer of which nothing is known.
    pub(crate) fn default_family(&self) -> Family {
        self.spaces[0].family
    }

    /// What is ours, bound by now or not.
    pub(crate) fn own(&self) -> &Arc<Own> {
        &self.own
    }

    /// The address that session descriptions name; `None` when the relay does not speak this family.
    pub(crate) fn advertised(&self, family: Family) -> Option<IpAddr> {
        self.space(family).map(|space| space.address.advertised)
    }

    /// Takes a pair for a session of `worker`: the one that rested longest, a newly bound one if none rested long enough,
    /// one of another worker if need be: then the second value names that worker, which must forget the pair. `None` when
    /// every port of the range is taken.
    pub(crate) fn take(&self, family: Family, worker: usize, now: Instant) -> Option<(Lease, Option<usize>)> {
        let space = self.space(family)?;
        if let Some(pair) = space.rested(worker, |since| now.saturating_duration_since(since) >= REST) {
            return Some((lease(pair), None));
        }
        if let Some(pair) = self.bind_one(space, now) {
            return Some((lease(pair), None));
        }
        if let Some(pair) = space.rested(worker, |_| true) {
            return Some((lease(pair), None));
        }
        let workers = space.inner.lock().rested.len();
        (0..workers).find_map(|other| Some((lease(space.rested(other, |_| true)?), Some(other))))
    }

    /// Puts a pair to rest. The caller has told the worker to idle it, if it was in use there.
    pub(crate) fn give_back(&self, lease: Lease, worker: usize, now: Instant) {
        if let Some(space) = self.space(lease.pair.family) {
            let mut inner = space.inner.lock();
            inner.used = inner.used.saturating_sub(1);
            inner.rested[worker].push_back((now, lease.pair));
        }
    }

    /// Pairs in use and free, over both families. Ports that the system refused count as neither.
    pub(crate) fn counts(&self) -> PortCounts {
        let (mut used, mut unbound, mut rested) = (0, 0, 0);
        for space in &self.spaces {
            let inner = space.inner.lock();
            used += inner.used;
            unbound += inner.unbound.len();
            rested += inner.rested.iter().map(VecDeque::len).sum::<usize>();
        }
        let may_be_bound = self.bound_max.saturating_sub(self.bound.load(Ordering::Relaxed));
        PortCounts { used, free: unbound.min(may_be_bound) + rested }
    }

    fn space(&self, family: Family) -> Option<&Space> {
        self.spaces.iter().find(|space| space.family == family)
    }

    /// Binds the next pair that the system allows. The lock is not held meanwhile.
    fn bind_one(&self, space: &Space, now: Instant) -> Option<Arc<Pair>> {
        for _ in 0..TRIES_MAX {
            if self.bound.load(Ordering::Relaxed) >= self.bound_max {
                return None;
            }
            let number = space.next_unbound(now)?;
            let port = space.first_port + 2 * number;
            match self.options.bind_pair(space.address.bind, port) {
                Ok((rtp, rtcp)) => {
                    self.bound.fetch_add(1, Ordering::Relaxed);
                    self.own.bind(port);
                    self.own.bind(port + 1);
                    return Some(Arc::new(Pair {
                        slot: space.first_slot + u32::from(number),
                        port,
                        family: space.family,
                        rtp,
                        rtcp,
                        figures: Figures::default(),
                        generation: AtomicU32::new(0),
                    }));
                }
                Err(error) => {
                    tracing::debug!(port, %error, "media port refused by the system");
                    let mut inner = space.inner.lock();
                    inner.used = inner.used.saturating_sub(1);
                    let ours = matches!(
                        error.kind(),
                        io::ErrorKind::AddrInUse
                            | io::ErrorKind::PermissionDenied
                            | io::ErrorKind::AddrNotAvailable
                    );
                    if !ours {
                        inner.unbound.push_front(number); // out of descriptors or memory: no other port will do better
                        tracing::warn!(%error, "cannot bind another media port");
                        return None;
                    }
                    inner.refused.push_back((now, number));
                }
            }
        }
        None
    }
}

impl Space {
    /// The longest rested pair of a worker, if it rested long enough.
    fn rested(&self, worker: usize, enough: impl FnOnce(Instant) -> bool) -> Option<Arc<Pair>> {
        let mut inner = self.inner.lock();
        let queue = inner.rested.get_mut(worker)?;
        let (_, pair) = queue.pop_front_if(|(since, _)| enough(*since))?;
        inner.used += 1;
        Some(pair)
    }

    /// A pair to bind; it counts as used from now on.
    fn next_unbound(&self, now: Instant) -> Option<u16> {
        let mut inner = self.inner.lock();
        let retry = |(at, _): &mut (Instant, u16)| now.saturating_duration_since(*at) >= REFUSAL;
        let number = match inner.unbound.pop_front() {
            Some(number) => number,
            None => inner.refused.pop_front_if(retry)?.1,
        };
        inner.used += 1;
        Some(number)
    }
}

impl SocketOptions {
    fn bind_pair(self, ip: IpAddr, port: u16) -> io::Result<(UdpSocket, UdpSocket)> {
        Ok((self.bind(SocketAddr::new(ip, port))?, self.bind(SocketAddr::new(ip, port + 1))?))
    }

    fn bind(self, address: SocketAddr) -> io::Result<UdpSocket> {
        let socket =
            Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        let tos = u32::from(self.dscp) << 2;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
            socket.set_tclass_v6(tos)?;
        } else {
            socket.set_tos_v4(tos)?;
        }
        if self.receive_buffer > 0 {
            socket.set_recv_buffer_size(self.receive_buffer)?;
        }
        if self.send_buffer > 0 {
            socket.set_send_buffer_size(self.send_buffer)?;
        }
        socket.bind(&address.into())?;
        Ok(socket.into())
    }
}

/// Gives a pair to a new holder. What is still in its sockets was meant for an earlier one; what comes from now on is for
/// this one and waits there until the worker serves it, for a peer may send as soon as it knows the port.
pub(crate) fn lease(pair: Arc<Pair>) -> Lease {
    for socket in [&pair.rtp, &pair.rtcp] {
        let is_empty = |received: std::io::Result<usize>| {
            received.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        (0..DRAIN_MAX).take_while(|_| !is_empty(socket.recv(&mut [0]))).count();
    }
    let generation = pair.generation.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    Lease { pair, generation }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn config(ports: std::ops::RangeInclusive<u16>) -> RelayConfig {
        RelayConfig { ports, ..RelayConfig::default() }
    }

    /// A range of eight ports that nobody uses just now.
    fn quiet_range() -> std::ops::RangeInclusive<u16> {
        crate::tests::quiet_range(8)
    }

    #[test]
    fn a_range_gives_even_ports_with_the_odd_one_above_until_it_is_empty() {
        let range = quiet_range();
        let ports = Ports::new(&config(range.clone()), 1, 1024).unwrap();
        let now = Instant::now();
        let mut seen = HashSet::new();
        let mut leases = Vec::new();
        while let Some((lease, _)) = ports.take(Family::V4, 0, now) {
            assert_eq!(lease.pair.port % 2, 0);
            assert!(range.contains(&lease.pair.port) && range.contains(&(lease.pair.port + 1)));
            assert_eq!(lease.pair.rtp.local_addr().unwrap().port(), lease.pair.port);
            assert_eq!(lease.pair.rtcp.local_addr().unwrap().port(), lease.pair.port + 1);
            assert!(seen.insert(lease.pair.port));
            leases.push(lease);
        }
        assert_eq!(seen.len(), 4);
        assert_eq!(ports.counts().used, 4);
        assert!(ports.take(Family::V6, 0, now).is_none(), "no address of this family");
    }

    #[test]
    fn a_freed_pair_is_the_last_to_be_used_again_and_has_a_new_generation() {
        let ports = Ports::new(&config(quiet_range()), 1, 1024).unwrap();
        let now = Instant::now();
        let (first, _) = ports.take(Family::V4, 0, now).unwrap();
        let (port, generation) = (first.pair.port, first.generation);
        ports.give_back(first, 0, now);
        let others: Vec<_> = (0..3).map(|_| ports.take(Family::V4, 0, now).unwrap().0).collect();
        assert!(others.iter().all(|lease| lease.pair.port != port));
        let (again, _) = ports.take(Family::V4, 0, now).unwrap();
        assert_eq!(again.pair.port, port, "better early than not at all");
        assert_ne!(again.generation, generation);
    }

    #[test]
    fn a_rested_pair_goes_before_binding_a_new_one() {
        let ports = Ports::new(&config(quiet_range()), 1, 1024).unwrap();
        let now = Instant::now();
        let (first, _) = ports.take(Family::V4, 0, now).unwrap();
        let port = first.pair.port;
        ports.give_back(first, 0, now);
        assert_eq!(ports.take(Family::V4, 0, now + REST).unwrap().0.pair.port, port);
    }

    #[test]
    fn a_port_that_somebody_else_has_is_skipped_and_tried_again_later() {
        let range = quiet_range();
        let taken = UdpSocket::bind(("127.0.0.1", range.start() + 1)).unwrap();
        let ports = Ports::new(&config(range.clone()), 1, 1024).unwrap();
        let now = Instant::now();
        let leases: Vec<_> = std::iter::from_fn(|| ports.take(Family::V4, 0, now)).collect();
        assert_eq!(leases.len(), 3);
        assert_eq!(ports.counts().free, 0);
        drop(taken);
        assert!(ports.take(Family::V4, 0, now).is_none());
        assert_eq!(ports.take(Family::V4, 0, now + REFUSAL).unwrap().0.pair.port, *range.start());
    }

    #[test]
    fn descriptors_are_left_for_others() {
        let ports = Ports::new(&config(quiet_range()), 1, 8).unwrap();
        let now = Instant::now();
        assert_eq!(ports.counts().free, 3);
        let leases: Vec<_> = std::iter::from_fn(|| ports.take(Family::V4, 0, now)).collect();
        assert_eq!((leases.len(), ports.counts().used, ports.counts().free), (3, 3, 0));
    }

    #[test]
    fn a_worker_without_ports_gets_those_of_another() {
        let ports = Ports::new(&config(quiet_range()), 2, 1024).unwrap();
        let now = Instant::now();
        let leases: Vec<_> = (0..4).map(|_| ports.take(Family::V4, 0, now).unwrap().0).collect();
        leases.into_iter().for_each(|lease| ports.give_back(lease, 0, now));
        let (_, from) = ports.take(Family::V4, 1, now).unwrap();
        assert_eq!(from, Some(0));
    }

    #[test]
    fn mistakes_of_the_configuration_are_told() {
        let fails = |config: RelayConfig| Ports::new(&config, 1, 1024).err().unwrap().to_string();
        assert!(fails(config(13_001..=13_001)).contains("13001-13001"));
        assert!(fails(config(13_001..=13_002)).contains("even port"));
        assert!(fails(config(65_535..=65_535)).contains("even port"));
        let with = |addresses| RelayConfig { addresses, ..RelayConfig::default() };
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(fails(with(vec![])).contains("none"));
        assert!(fails(with(vec![MediaAddress::plain(ip("127.0.0.1")); 2])).contains("two of the same"));
        assert!(fails(with(vec![MediaAddress::plain(ip("0.0.0.0"))])).contains("advertise"));
        assert!(
            fails(with(vec![MediaAddress { bind: ip("::1"), advertised: ip("127.0.0.1") }]))
                .contains("differ")
        );
        assert!(fails(with(vec![MediaAddress::plain(ip("203.0.113.77"))])).contains("203.0.113.77"));
    }
}
