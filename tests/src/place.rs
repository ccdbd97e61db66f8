//! Addresses for one test: a /24 of the loopback network that no other test uses, so that every test has all ports. IPv6 has
//! one loopback address only, so there a test has some ports of it. A test whose nodes live apart has a network of its own instead.
//!
//! In: nothing. Out: a [`Place`], held by a lock on a file as long as it lives. Elsewhere: who listens there, making networks (`net`).

use std::fs::{File, create_dir_all};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

/// Where every party of a test hears SIP, each on its own address.
pub const SIP_PORT: u16 = 5062;
/// More tests never run at the same time on one machine.
const PLACES: u16 = 2000;
/// Ports of each kind that one test has on ::1.
const PORTS6: u16 = 32;
/// Tests that may use ::1 at the same time.
const PLACES6: u16 = 200;
/// First ports on ::1, below those that the system gives out.
const SIP6_PORTS: u16 = 10_000;
const AUDIO6_PORTS: u16 = SIP6_PORTS + PLACES6 * PORTS6;
const MEDIA6_PORTS: u16 = AUDIO6_PORTS + PLACES6 * PORTS6;
/// Networks of 198.18.0.0/15, which RFC 2544 keeps for tests: no machine has anything else there.
const NETWORKS: u16 = 512;
/// Host parts that are looked at for leftovers of a test that was killed.
const HOSTS: u8 = 12;

/// 127.x.y.0/24 for one test alone, or 198.18.x.0/24.
#[derive(Clone, Debug)]
pub struct Place {
    number: u16,
    is_apart: bool,
    /// Advisory lock; given back when the last clone is gone, even by a crash.
    _lock: Arc<File>,
}

impl Place {
    /// The first place that nobody has.
    ///
    /// # Panics
    /// When there is none.
    pub fn take() -> Place {
        Self::first(PLACES, false)
    }

    /// The same of a network that is still to be laid.
    ///
    /// # Panics
    /// When there is none.
    pub fn take_apart() -> Place {
        Self::first(NETWORKS, true)
    }

    fn first(places: u16, is_apart: bool) -> Place {
        let folder = std::env::temp_dir().join("carillon-system-tests");
        create_dir_all(&folder).expect("the folder of locks can be made");
        for number in 0..places {
            let lock = File::create(folder.join(format!("{number}.lock"))).expect("a lock file can be made");
            if lock.try_lock().is_ok() {
                let place = Place { number, is_apart, _lock: Arc::new(lock) };
                if is_apart || (1..HOSTS).all(|host| place.is_free(host)) {
                    return place;
                }
            }
        }
        panic!("all {places} places are taken");
    }

    /// Which place it is: small numbers first.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Address of one party; the node is 1.
    pub fn ip(&self, host: u8) -> IpAddr {
        let [high, low] = self.number.to_be_bytes();
        IpAddr::V4(match self.is_apart {
            true => Ipv4Addr::new(198, 18 + high, low, host),
            false => Ipv4Addr::new(127, 64 + high, low, host),
        })
    }

    /// Where that party hears SIP.
    pub fn sip(&self, host: u8) -> SocketAddr {
        SocketAddr::new(self.ip(host), SIP_PORT)
    }

    /// Where that party hears SIP over IPv6.
    ///
    /// # Panics
    /// When this machine has no IPv6 loopback address.
    pub fn sip6(&self, host: u8) -> SocketAddr {
        let probe = UdpSocket::bind(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 0));
        assert!(
            probe.is_ok(),
            "tests of IPv6 need ::1 on the loopback interface (ip -6 addr show lo): {probe:?}"
        );
        self.own6(SIP6_PORTS, host.into())
    }

    /// Where that party hears audio over IPv6; the three ports above are its own, too (RTCP, and SIPp's video).
    pub fn audio6(&self, host: u8) -> SocketAddr {
        self.own6(AUDIO6_PORTS, 4 * u16::from(host))
    }

    /// The relay's ports for a node on IPv6, `FROM-TO`.
    pub fn media6_ports(&self) -> String {
        let (first, last) = (self.own6(MEDIA6_PORTS, 0), self.own6(MEDIA6_PORTS, PORTS6 - 1));
        format!("{}-{}", first.port(), last.port())
    }

    fn own6(&self, first: u16, number: u16) -> SocketAddr {
        assert!(number < PORTS6, "a test has {PORTS6} ports of each kind on ::1");
        let port = first + self.number % PLACES6 * PORTS6 + number;
        SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)
    }

    fn is_free(&self, host: u8) -> bool {
        UdpSocket::bind(self.sip(host)).is_ok() && TcpListener::bind(self.sip(host)).is_ok()
    }
}
