//! DDI provider addresses: where the requests of a DDI provider come from.
//! Manual, chapter 9.2.2 "DDI Provider Addresses".

use crate::checks::ip;
use crate::prelude::*;

/// An address by which a DDI provider is recognised when it brings a call.
#[derive(Clone, Debug, Entity)]
#[entity(path = "ddi_provider_addresses", access = ACCESS, rules)]
pub struct DdiProviderAddress {
    /// Identifies the address.
    #[field(brand = "ld")]
    pub id: Id<DdiProviderAddress>,
    /// The IP address that the provider's requests come from.
    #[field(max = 50, needed, brand = "ldw")]
    pub ip: Option<String>,
    /// Anything worth knowing about it.
    #[field(max = 200, brand = "ldw")]
    pub description: Option<String>,
    /// The DDI provider that is recognised by it.
    #[field(delete = "cascade", index, brand = "dw")]
    pub ddi_provider: Id<DdiProvider>,
}

const ACCESS: &[Access] =
    &[Access::at(Level::Brand, "lgcud").acl().order(&["ip"]).read(&[Rule::Visible("ddiProvider")])];

impl Rules for DdiProviderAddress {
    fn check(&mut self, _: Option<&Self>, check: &mut Check<'_>) {
        let sound = self.ip.as_deref().is_none_or(ip);
        check.require(
            sound,
            "ip",
            "write the IP address that the provider's requests come from, such as 192.0.2.1",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn an_address_is_an_ip_address() {
        let with = |ip: Option<&str>| {
            let ip = ip.map(str::to_owned);
            change(|draft| draft.change(Id::<DdiProviderAddress>::new(1), |row| row.ip = ip))
        };
        assert!(with(Some("192.0.2.1")).is_ok());
        assert!(with(Some("2001:db8::1")).is_ok());
        for wrong in [None, Some(""), Some("sip.example.com"), Some("192.0.2.1:5060")] {
            assert!(with(wrong).unwrap_err().to_string().starts_with("ip: "), "{wrong:?}");
        }
    }
}
