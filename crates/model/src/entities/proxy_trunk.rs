//! Addresses from which the platform talks to carriers and DDI providers.
//!
//! Manual, chapter 8.14.2. Elsewhere: which brands may use them (`proxy_trunks_rel_brand`).

use crate::checks::{differs, ip};
use crate::prelude::*;

/// An address of the trunks' proxy: port 5060, and 5061 with TLS. Row 1 is the main one, which the platform
/// also uses inside; it cannot be deleted.
#[derive(Clone, Debug, Entity)]
#[entity(path = "proxy_trunks", access = ACCESS, unique(ip), rules)]
pub struct ProxyTrunk {
    /// Number of the address.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<ProxyTrunk>,
    /// What operators call it.
    #[field(max = 100, platform = "ldw", brand = "ld")]
    pub name: Option<String>,
    /// The address that the proxy listens on; it occurs once.
    #[field(max = 50, platform = "ldw", brand = "ld")]
    pub ip: String,
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
    Access::at(Level::Brand, "lg")
        .acl()
        .order(&["name"])
        .read(&[Rule::Where(assigned)])
        .write(&[Rule::Never]),
];

fn assigned(row: &dyn Record, caller: &Caller, rows: &Rows) -> bool {
    paired::<ProxyTrunksRelBrand>(rows, "brand", caller.brand.unwrap_or(0), "proxyTrunk", row.id())
}

impl ProxyTrunk {
    /// Who uses this address, of this brand or of any.
    pub(crate) fn user(trunk: Id<Self>, brand: Option<Id<Brand>>, rows: &Rows) -> Option<String> {
        let of_brand = |owner: Id<Brand>| brand.is_none_or(|brand| brand == owner);
        let carrier =
            rows.each::<Carrier>().find(|row| row.proxy_trunk == Some(trunk) && of_brand(row.brand));
        let provider =
            rows.each::<DdiProvider>().find(|row| row.proxy_trunk == Some(trunk) && of_brand(row.brand));
        let carrier = carrier.map(|row| format!("carrier {}", row.name));
        carrier.or_else(|| provider.map(|row| format!("DDI provider {}", row.name)))
    }
}

impl Rules for ProxyTrunk {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if differs(self, old, "ip") {
            check.require(ip(&self.ip), "ip", ONE_ADDRESS);
        }
        if differs(self, old, "advertisedIp") {
            check.require(ip_if_any(self.advertised_ip.as_deref()), "advertisedIp", ONE_ADDRESS);
        }
    }

    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        if self.id.get() == MAIN_PROXY {
            return Err(Refusal::Forbidden("the main trunk address cannot be deleted".to_owned()));
        }
        match Self::user(self.id, None, draft.rows()) {
            Some(user) => Err(still_used(&format!("trunk address {}", self.ip), &user)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn an_address_in_use_and_the_main_one_are_not_deleted() {
        let delete = |id: u32| change(|draft| draft.delete(Id::<ProxyTrunk>::new(id)));
        assert!(delete(1).unwrap_err().to_string().contains("main"));
        assert!(delete(2).unwrap_err().to_string().contains("carrier AnotherCarrierName"));
        assert!(delete(3).is_ok());
    }

    #[test]
    fn addresses_are_ip_addresses() {
        let set = |ip: &str, advertised: &str| {
            let (ip, advertised_ip) = (ip.to_owned(), Some(advertised.to_owned()));
            change(|draft| draft.create(ProxyTrunk { ip, advertised_ip, ..ProxyTrunk::default() }))
        };
        assert!(set("192.0.2.1", "").is_ok());
        assert!(set("192.0.2", "").is_err());
        assert!(set("192.0.2.1", "sip.example.com").is_err());
    }
}
