//! Pick-up groups: users who may answer each other's ringing calls (manual 10.1.7, "Pick up groups").
//!
//! Elsewhere: who is in one ([`PickUpRelUser`]), the code that answers ([`CompanyService`]).

use crate::checks::needs_company_type;
use crate::prelude::*;

/// Users who answer each other's ringing calls by dialling the code of group pick-up.
#[derive(Clone, Debug, Entity)]
#[entity(path = "pick_up_groups", access = ACCESS, computed = COMPUTED, rules, unique(name, company))]
pub struct PickUpGroup {
    /// The group's number in the API.
    #[field(client = "ld")]
    pub id: Id<PickUpGroup>,
    /// What the group is called; there once within the client.
    #[field(max = 50, client = "ldw")]
    pub name: String,
    /// The client.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["name"])
    .company_types(&[CompanyType::Vpbx])
    .create_expands()
    .read(&[Rule::OwnCompany("company")])];

const COMPUTED: &[Computed] = &[Computed::new(
    "userIds",
    "The users in the group.",
    How::Pairs(PickUpRelUser::definition, "pickUpGroup", "user"),
)
.at(Level::Client, "ldw")];

impl Rules for PickUpGroup {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        needs_company_type(self.company, old.map(|old| old.company), &[CompanyType::Vpbx], check);
        if old.is_none_or(|old| old.name != self.name) {
            check.require(!self.name.trim().is_empty(), "name", "a pick-up group needs a name");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_group_has_a_name_and_a_virtual_pbx_client() {
        let group = |name: &str, company| PickUpGroup {
            name: name.into(),
            company: Id::new(company),
            ..PickUpGroup::default()
        };
        change(|draft| draft.create(group("sales", 1))).unwrap();
        for (wrong, field) in [(group(" ", 1), "name: "), (group("sales", 4), "company: ")] {
            let refused = change(|draft| draft.create(wrong)).unwrap_err();
            assert!(refused.to_string().starts_with(field), "{refused}");
        }
    }
}
