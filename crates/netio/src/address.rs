//! Socket addresses in the kernel's form.
//!
//! In: [`SocketAddr`]. Out: the bytes of `sockaddr_in` and `sockaddr_in6`, and back.

use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for an address of either family; a plain value without pointers.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union RawAddr {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// Length of [`RawAddr`], as the kernel counts it.
pub(crate) const RAW_ADDR_LEN: libc::socklen_t = mem::size_of::<RawAddr>() as libc::socklen_t;

impl RawAddr {
    /// All bytes zero: family `AF_UNSPEC`.
    pub(crate) fn zeroed() -> Self {
        // SAFETY: both members are plain integers and integer arrays; all zero bits are a valid value of either.
        unsafe { mem::zeroed() }
    }

    /// The address and its length as `sendmsg` wants them.
    pub(crate) fn from_addr(addr: SocketAddr) -> (Self, libc::socklen_t) {
        let mut raw = Self::zeroed();
        match addr {
            SocketAddr::V4(addr) => {
                raw.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: addr.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(addr.ip().octets()) },
                    sin_zero: [0; 8],
                };
                (raw, mem::size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(addr) => {
                raw.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: addr.port().to_be(),
                    sin6_flowinfo: addr.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
                    sin6_scope_id: addr.scope_id(),
                };
                (raw, mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    /// The address that the kernel wrote. An IPv4 address in IPv6 clothes (RFC 4291 section 2.5.5.2) stays as it came.
    /// `None` for other families (a socket without a peer name).
    pub(crate) fn to_addr(self) -> Option<SocketAddr> {
        // SAFETY: the family is the first member of both structures, and every byte of the union is initialized
        // (`zeroed` wrote them all, the kernel or `from_addr` overwrote some).
        let family = unsafe { self.v4.sin_family };
        match i32::from(family) {
            libc::AF_INET => {
                // SAFETY: the family says that the kernel wrote a `sockaddr_in`; any bits are valid integers.
                let raw = unsafe { self.v4 };
                let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(raw.sin_port))))
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that the kernel wrote a `sockaddr_in6`; any bits are valid integers.
                let raw = unsafe { self.v6 };
                let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
                let port = u16::from_be(raw.sin6_port);
                Some(SocketAddr::V6(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_form() {
        for text in ["192.0.2.7:5060", "255.255.255.255:65535", "[2001:db8::1]:13000", "[::1]:1"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddr::from_addr(addr).0.to_addr(), Some(addr));
        }
        let scoped = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 0, 3));
        assert_eq!(RawAddr::from_addr(scoped).0.to_addr(), Some(scoped));
        assert_eq!(RawAddr::zeroed().to_addr(), None);
    }
}
