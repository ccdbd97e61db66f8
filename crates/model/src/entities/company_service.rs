//! Codes that a client's telephones dial to reach a service.
//!
//! Manual, chapter 10.1.10.

use crate::checks::{differs, service_code};
use crate::prelude::*;

/// The code of a service within a vPBX client. A service without one is not available to the client's users.
#[derive(Clone, Debug, Entity)]
#[entity(path = "company_services", access = ACCESS, unique(company, service), rules)]
pub struct CompanyService {
    /// Number of the code.
    #[field(client = "ld")]
    pub id: Id<CompanyService>,
    /// What is dialled after the asterisk: up to three digits, # or *.
    #[field(max = 3, client = "ldw")]
    pub code: String,
    /// The client.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
    /// The service that the code reaches.
    #[field(delete = "cascade", client = "ldw")]
    pub service: Id<Service>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["service"])
    .company_types(&[CompanyType::Vpbx])
    .read(&[Rule::OwnCompany("company")])];

impl Rules for CompanyService {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if differs(self, old, "code") {
            check.require(service_code(&self.code), "code", SERVICE_CODE);
        }
        if old.is_none()
            && check.rows.get(self.company).is_some_and(|company| company.kind != CompanyKind::Vpbx)
        {
            check.forbid("only vPBX clients have service codes of their own");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn codes_are_for_vpbx_clients_and_have_signs_of_a_keypad() {
        let new = |company: u32, code: &str| {
            let row = CompanyService {
                code: code.into(),
                company: Id::new(company),
                service: Id::new(4),
                ..CompanyService::default()
            };
            change(|draft| draft.create(row))
        };
        assert!(new(1, "00").is_ok());
        assert!(new(1, "0x").is_err());
        assert!(matches!(new(3, "00"), Err(Refusal::Forbidden(_))));
    }
}
