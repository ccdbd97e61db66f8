//! Addresses for one test: a /24 of the loopback network that no other test uses, so that every test has all ports.
//!
//! In: nothing. Out: a [`Place`], held by a lock on a file as long as it lives. Elsewhere: who listens there.

use std::fs::{File, create_dir_all};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

/// Where every party of a test hears SIP, each on its own address.
pub const SIP_PORT: u16 = 5062;
/// More tests never run at the same time on one machine.
const PLACES: u16 = 2000;
/// Host parts that are looked at for leftovers of a test that was killed.
const HOSTS: u8 = 12;

/// 127.x.y.0/24 for one test alone.
#[derive(Clone, Debug)]
pub struct Place {
    number: u16,
    /// Advisory lock; given back when the last clone is gone, even by a crash.
    _lock: Arc<File>,
}

impl Place {
    /// The first place that nobody has.
    ///
    /// # Panics
    /// When there is none.
    pub fn take() -> Place {
        let folder = std::env::temp_dir().join("carillon-system-tests");
        create_dir_all(&folder).expect("the folder of locks can be made");
        for number in 0..PLACES {
            let lock = File::create(folder.join(format!("{number}.lock"))).expect("a lock file can be made");
            if lock.try_lock().is_ok() {
                let place = Place { number, _lock: Arc::new(lock) };
                if (1..HOSTS).all(|host| place.is_free(host)) {
                    return place;
                }
            }
        }
        panic!("all {PLACES} places are taken");
    }

    /// Which place it is: small numbers first.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Address of one party; the node is 1.
    pub fn ip(&self, host: u8) -> IpAddr {
        let [high, low] = self.number.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(127, 64 + high, low, host))
    }

    /// Where that party hears SIP.
    pub fn sip(&self, host: u8) -> SocketAddr {
        SocketAddr::new(self.ip(host), SIP_PORT)
    }

    fn is_free(&self, host: u8) -> bool {
        UdpSocket::bind(self.sip(host)).is_ok() && TcpListener::bind(self.sip(host)).is_ok()
    }
}
