//! Call ACLs: who may call which external numbers.
//!
//! Manual: "Client configuration", call ACLs.

use crate::checks::{client_of_type, name_is_there};
use crate::prelude::*;

/// A list of rules that lets external calls of users and friends through, or stops them. Calls to extensions
/// are always allowed.
#[derive(Clone, Debug, Entity)]
#[entity(path = "call_acls", access = ACCESS, computed = COMPUTED, unique(company, name), rules)]
pub struct CallAcl {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<CallAcl>,
    /// What it is called in lists; once within a client.
    #[field(max = 50, client = "ldw")]
    pub name: String,
    /// What happens to a call that none of the rules fits.
    #[field(client = "ldw")]
    pub default_policy: Policy,
    /// The client that it belongs to.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["name"])
    .company_types(&[CompanyType::Vpbx])
    .read(&[Rule::OwnCompany("company")])];

const COMPUTED: &[Computed] = &[Computed::new(
    "matchListIds",
    "The match lists that its rules name.",
    How::Pairs(CallAclRelMatchList::definition, "callAcl", "matchList"),
)
.at(Level::Client, "g")];

impl Rules for CallAcl {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        name_is_there(self, old, check);
        client_of_type(old, self.company, &[CompanyType::Vpbx], check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn only_vpbx_clients_have_one_and_it_is_named() {
        let made = |company, name: &str| {
            let row = CallAcl { company: Id::new(company), name: name.to_owned(), ..CallAcl::default() };
            change(|draft| draft.create(row)).map(|_| ())
        };
        assert_eq!(made(1, "new"), Ok(()));
        assert!(matches!(made(4, "new"), Err(Refusal::Invalid(_))));
        assert_eq!(made(1, ""), Err(Refusal::wrong("name", "write a name")));
    }
}
