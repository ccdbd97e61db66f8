//! Addresses of wholesale clients, whose calls need no other proof.
//!
//! Manual, chapter 9.1.4 ("List of authorized sources").

use crate::checks::{differs, ip};
use crate::prelude::*;

/// An address whose calls are taken as those of one client, without registration or password.
#[derive(Clone, Debug, Entity)]
#[entity(path = "trusteds", access = ACCESS, unique(src_ip), rules)]
pub struct Trusted {
    /// Number of the address.
    #[field(brand = "ld")]
    pub id: Id<Trusted>,
    /// The source's IP address; it occurs once on the whole platform.
    #[field(max = 50, needed, brand = "ldw")]
    pub src_ip: Option<String>,
    /// Over which transport it may send; always any.
    #[field(max = 4, brand = "dw")]
    pub proto: Option<String>,
    /// Unused; kept for imports.
    #[field(max = 64, brand = "dw")]
    pub from_pattern: Option<String>,
    /// Unused; kept for imports.
    #[field(max = 64, brand = "dw")]
    pub ruri_pattern: Option<String>,
    /// The client's number, as the proxy finds it; it follows the client.
    #[field(max = 64, brand = "dw")]
    pub tag: Option<String>,
    /// A note for operators.
    #[field(max = 200, brand = "ldw")]
    pub description: Option<String>,
    /// Unused; kept for imports.
    #[field(default = 0i32, brand = "dw")]
    pub priority: i32,
    /// The client whose calls these are.
    #[field(delete = "cascade", index, brand = "dw")]
    pub company: Id<Company>,
}

const ACCESS: &[Access] =
    &[Access::at(Level::Brand, "lgcud").acl().order(&["srcIp"]).read(&[Rule::OwnClients("company")])];

impl Rules for Trusted {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if differs(self, old, "srcIp") {
            check.require(self.src_ip.as_deref().is_none_or(ip), "srcIp", ONE_ADDRESS);
        }
        self.proto = Some("any".to_owned());
        self.tag = Some(self.company.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_trusted_address_carries_its_client() {
        let new = |ip: Option<&str>| {
            let row = Trusted { src_ip: ip.map(str::to_owned), company: Id::new(5), ..Trusted::default() };
            change(|draft| draft.create(row))
        };
        let (id, rows, _) = new(Some("192.0.2.7")).unwrap();
        let row = rows.get(id).unwrap();
        assert_eq!((row.proto.as_deref(), row.tag.as_deref()), (Some("any"), Some("5")));
        assert!(new(Some("192.0.2.0/24")).is_err());
        assert!(new(None).is_err());
    }
}
