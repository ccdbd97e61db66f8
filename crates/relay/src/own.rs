//! Our own media sockets, seen from outside: what may neither be a peer's address nor a source.
//!
//! In: an address that a peer names, or that a datagram came from. Out: whether it is ours. A peer that could name one of
//! our ports would make the relay its own peer: two calls bent into a ring pass each packet on for ever. Elsewhere: who
//! asks ([`crate::describe`] for what is sent, [`crate::stream`] for what comes).

use crate::config::{MediaAddress, RelayConfig};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};

/// The addresses of a relay and the ports that it has bound. Other ports of its hosts are anybody's: a telephone may run on the
/// same machine, or behind the same NAT.
#[derive(Debug)]
pub(crate) struct Own {
    hosts: Vec<MediaAddress>,
    ports: RangeInclusive<u16>,
    /// By place in the range. What was bound once stays so.
    bound: Box<[AtomicBool]>,
}

impl Own {
    pub(crate) fn new(config: &RelayConfig) -> Self {
        let plain = |host: &MediaAddress| MediaAddress {
            bind: host.bind.to_canonical(),
            advertised: host.advertised.to_canonical(),
        };
        Self {
            hosts: config.addresses.iter().map(plain).collect(),
            ports: config.ports.clone(),
            bound: config.ports.clone().map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// A port of the range is ours from now on.
    pub(crate) fn bind(&self, port: u16) {
        if let Some(bound) = self.place(port) {
            bound.store(true, Ordering::Relaxed);
        }
    }

    /// All of them are.
    #[cfg(test)]
    pub(crate) fn with_all_bound(self) -> Self {
        self.ports.clone().for_each(|port| self.bind(port));
        self
    }

    fn place(&self, port: u16) -> Option<&AtomicBool> {
        self.bound.get(usize::from(port.checked_sub(*self.ports.start())?))
    }

    /// Whether a datagram to this address would reach one of our sockets, or one from it would come out of one.
    pub(crate) fn has(&self, address: SocketAddr) -> bool {
        let host = address.ip().to_canonical();
        self.place(address.port()).is_some_and(|bound| bound.load(Ordering::Relaxed))
            && self.hosts.iter().any(|own| {
                host == own.advertised
                    || host == own.bind
                    || (own.bind.is_unspecified()
                        && own.bind.is_ipv4() == host.is_ipv4()
                        && is_of_this_machine(host))
            })
    }
}

/// Whether an address is one of this machine's, as of now: they come and go. The system sends from the very address that
/// it sends to when that is its own, and never else (RFC 6724 section 5, rule 1); connecting a datagram socket asks it for
/// that and sends nothing.
fn is_of_this_machine(host: IpAddr) -> bool {
    let any: IpAddr = if host.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    if host.is_loopback() {
        return true;
    }
    let Ok(socket) = UdpSocket::bind((any, 0)) else { return true }; // rather no audio than a ring
    let source = socket.connect((host, 9)).and_then(|()| socket.local_addr()); // any port will do
    source.is_ok_and(|source| source.ip() == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(addresses: &[(&str, &str)]) -> Own {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let addresses = addresses
            .iter()
            .map(|(bind, advertised)| MediaAddress { bind: ip(bind), advertised: ip(advertised) });
        Own::new(&RelayConfig {
            addresses: addresses.collect(),
            ports: 13_000..=13_009,
            ..RelayConfig::default()
        })
        .with_all_bound()
    }

    fn check(own: &Own, ours: &[&str], others: &[&str]) {
        for (list, expected) in [(ours, true), (others, false)] {
            for address in list {
                assert_eq!(own.has(address.parse().unwrap()), expected, "{address}");
            }
        }
    }

    #[test]
    fn bound_and_advertised_addresses_are_ours_in_the_range_of_ports_and_nowhere_else() {
        let own = own(&[("10.0.0.5", "203.0.113.5"), ("2001:db8::5", "2001:db8::5")]);
        let ours = [
            "10.0.0.5:13000",
            "10.0.0.5:13009",
            "203.0.113.5:13004",
            "[2001:db8::5]:13001",
            "[::ffff:10.0.0.5]:13000",
            "[::ffff:203.0.113.5]:13000",
        ];
        let others =
            ["10.0.0.5:12999", "10.0.0.5:13010", "203.0.113.5:5060", "10.0.0.6:13000", "127.0.0.1:13000"];
        check(&own, &ours, &others);
        check(&self::own(&[("::ffff:10.0.0.5", "::ffff:10.0.0.5")]), &["10.0.0.5:13000"], &[]);
    }

    #[test]
    fn a_port_that_is_not_bound_is_anybodys() {
        let own = Own::new(&RelayConfig {
            addresses: vec![MediaAddress::plain(IpAddr::from([10, 0, 0, 5]))],
            ports: 13_000..=13_009,
            ..RelayConfig::default()
        });
        own.bind(13_004);
        check(&own, &["10.0.0.5:13004"], &["10.0.0.5:13005", "10.0.0.5:13000"]);
    }

    #[test]
    fn bound_to_all_addresses_every_one_of_this_machine_is_ours() {
        let own = own(&[("0.0.0.0", "203.0.113.5"), ("::", "2001:db8::5")]);
        let ours = ["203.0.113.5:13000", "127.0.0.1:13000", "127.7.7.7:13000", "[::1]:13000"];
        check(&own, &ours, &["198.51.100.1:13000", "[2001:db8::6]:13000", "127.0.0.1:4000"]);
        // Whatever other addresses this machine has: the one that it speaks to the world from is one of them.
        let out = UdpSocket::bind("0.0.0.0:0").unwrap();
        if out.connect("198.51.100.1:9").is_ok() {
            assert!(own.has(SocketAddr::new(out.local_addr().unwrap().ip(), 13_000)));
        }
    }
}
