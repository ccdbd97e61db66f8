//! Addresses at which telephones register.
//!
//! Manual, chapter 8.14.1.

use crate::checks::{differs, ip};
use crate::prelude::*;

/// An address of the users' proxy. All SIP domains of clients and brands should lead to it. Row 1 is the main
/// one and cannot be deleted.
#[derive(Clone, Debug, Entity)]
#[entity(path = "proxy_users", access = ACCESS, unique(ip), rules)]
pub struct ProxyUser {
    /// Number of the address.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<ProxyUser>,
    /// What operators call it.
    #[field(max = 100, platform = "ldw", brand = "ld")]
    pub name: Option<String>,
    /// The address that the proxy listens on; it occurs once.
    #[field(max = 50, needed, platform = "ldw", brand = "ld")]
    pub ip: Option<String>,
    /// The address shown to the outside where the proxy stands behind NAT; empty: the same.
    #[field(max = 50, platform = "ldw", brand = "ld")]
    pub advertised_ip: Option<String>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgcud")
        .acl()
        .order(&["name"])
        .write(&[Rule::Any(&[Rule::IsNot("id", "1"), Rule::Unchanged("name")])])
        .delete(&[Rule::IsNot("id", "1")]),
    Access::at(Level::Brand, "lg").acl().order(&["name"]).write(&[Rule::Never]),
];

/// The row of the address that the platform came with, among those of each proxy.
pub(crate) const MAIN_PROXY: u32 = 1;
/// How the address of a proxy is written.
pub(crate) const ONE_ADDRESS: &str = "write an IP address, such as 192.0.2.10";

/// An IP address, or nothing.
pub(crate) fn ip_if_any(text: Option<&str>) -> bool {
    text.is_none_or(|text| text.is_empty() || ip(text))
}

impl Rules for ProxyUser {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if differs(self, old, "ip") {
            check.require(self.ip.as_deref().is_none_or(ip), "ip", ONE_ADDRESS);
        }
        if differs(self, old, "advertisedIp") {
            check.require(ip_if_any(self.advertised_ip.as_deref()), "advertisedIp", ONE_ADDRESS);
        }
    }

    fn deleting(&self, _: &mut Draft<'_>) -> Result<(), Refusal> {
        if self.id.get() == MAIN_PROXY {
            return Err(Refusal::Forbidden(
                "the main address of the users' proxy cannot be deleted".to_owned(),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn the_main_address_stays() {
        assert!(change(|draft| draft.delete(Id::<ProxyUser>::new(1))).is_err());
        assert!(change(|draft| draft.delete(Id::<ProxyUser>::new(2))).is_ok());
    }

    #[test]
    fn addresses_are_ip_addresses() {
        let set = |ip: Option<&str>| {
            let ip = ip.map(str::to_owned);
            change(|draft| draft.create(ProxyUser { ip, ..ProxyUser::default() }))
        };
        assert!(set(Some("192.0.2.1")).is_ok());
        assert!(set(Some("users")).is_err());
        assert!(set(None).is_err());
    }
}
