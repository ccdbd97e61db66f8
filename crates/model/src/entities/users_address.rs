//! Addresses and networks from which a client's telephones may call.
//!
//! Manual, chapter 9.1 ("List of authorized sources").

use crate::prelude::*;
use std::net::IpAddr;

/// A source that is let through where the client's calls are filtered by address.
#[derive(Clone, Debug, Entity)]
#[entity(path = "users_addresses", access = ACCESS, rules)]
pub struct UsersAddress {
    /// Number of the source.
    #[field(brand = "ld")]
    pub id: Id<UsersAddress>,
    /// One address, or a network with the length of its prefix: 192.0.2.0/24.
    #[field(max = 100, brand = "ldw")]
    pub source_address: String,
    /// The address without the prefix's length; it follows the source.
    #[field(max = 50)]
    pub ip_addr: Option<String>,
    /// Length of the network's prefix in bits; a single address has the full length. It follows the source.
    #[field(default = 32i32)]
    pub mask: i32,
    /// Port of the source; 0: any.
    #[field(default = 0i32)]
    pub port: i32,
    /// Unused; kept for imports.
    #[field(max = 64)]
    pub tag: Option<String>,
    /// A note for operators.
    #[field(max = 200, brand = "ldw")]
    pub description: Option<String>,
    /// The client.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub company: Id<Company>,
}

const ACCESS: &[Access] =
    &[Access::at(Level::Brand, "lgcud").acl().order(&["sourceAddress"]).read(&[Rule::OwnClients("company")])];

impl Rules for UsersAddress {
    fn check(&mut self, _: Option<&Self>, check: &mut Check<'_>) {
        match network(&self.source_address) {
            Some((address, mask)) => {
                self.ip_addr = Some(address.to_string());
                self.mask = i32::from(mask);
            }
            None => check
                .wrong("sourceAddress", "write an address or a network, such as 192.0.2.10 or 192.0.2.0/24"),
        }
    }
}

/// An address and the length of its network's prefix: the full length where none is written.
fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, mask) = text.split_once('/').map_or((text, None), |(address, mask)| (address, Some(mask)));
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let mask = mask.map_or(Some(longest), |mask| mask.parse().ok())?;
    (mask <= longest).then_some((address, mask))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn saved(source: &str) -> Option<(String, i32)> {
        let row =
            UsersAddress { source_address: source.into(), company: Id::new(1), ..UsersAddress::default() };
        let (id, rows, _) = change(|draft| draft.create(row)).ok()?;
        let row = rows.get(id)?;
        Some((row.ip_addr.clone()?, row.mask))
    }

    #[test]
    fn a_source_is_an_address_or_a_network() {
        assert_eq!(saved("192.0.2.1"), Some(("192.0.2.1".into(), 32)));
        assert_eq!(saved("192.0.2.0/24"), Some(("192.0.2.0".into(), 24)));
        assert_eq!(saved("2001:db8::/32"), Some(("2001:db8::".into(), 32)));
        for wrong in ["", "192.0.2", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/24/8", "2001:db8::/129"] {
            assert_eq!(saved(wrong), None, "{wrong}");
        }
    }
}
