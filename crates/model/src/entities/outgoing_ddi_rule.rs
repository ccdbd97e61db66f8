//! Outgoing DDI rules: which number an external call shows, by its destination.
//!
//! Manual: "Client configuration", outgoing DDI rules.

use crate::checks::{client_of_type, name_is_there, within_client};
use crate::prelude::*;

/// A set of patterns that choose the number which external calls of users, friends or a whole client show.
#[derive(Clone, Debug, Entity)]
#[entity(path = "outgoing_ddi_rules", access = ACCESS, unique(company, name), rules)]
pub struct OutgoingDdiRule {
    /// Its number, given by the platform.
    #[field(brand = "ld", client = "ld")]
    pub id: Id<OutgoingDdiRule>,
    /// What it is called in lists; once within a client.
    #[field(max = 50, brand = "ld", client = "ldw")]
    pub name: String,
    /// What happens to calls that fit none of the patterns.
    #[field(brand = "ld", client = "ldw")]
    pub default_action: DdiAction,
    /// The client that it belongs to.
    #[field(delete = "cascade", index, brand = "d")]
    pub company: Id<Company>,
    /// The number that such calls show when the action is to force one. Null: the client's outgoing DDI.
    #[field(delete = "clear", brand = "ld", client = "ldw")]
    pub forced_ddi: Option<Id<Ddi>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lg")
        .acl()
        .order(&["name"])
        .read(&[Rule::OwnClients("company")])
        .write(&[Rule::Never]),
    Access::at(Level::Client, "lgcud")
        .acl()
        .order(&["name"])
        .company_types(&[CompanyType::Vpbx])
        .read(&[Rule::OwnCompany("company")])
        .write(&[Rule::OwnCompany("company"), Rule::VisibleOrNull("forcedDdi")]),
];

impl Rules for OutgoingDdiRule {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        name_is_there(self, old, check);
        client_of_type(old, self.company, &[CompanyType::Vpbx], check);
        if self.default_action != DdiAction::Force {
            self.forced_ddi = None;
        }
        within_client(self, old, self.company, check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(action: DdiAction, ddi: u32) -> Result<OutgoingDdiRule, Refusal> {
        let rule = Id::new(1);
        let made = change(|draft| {
            draft.change(rule, |rule: &mut OutgoingDdiRule| {
                (rule.default_action, rule.forced_ddi) = (action, Some(Id::new(ddi)));
            })
        });
        made.map(|(_, rows, _)| rows.get(rule).unwrap().clone())
    }

    #[test]
    fn a_number_is_forced_only_by_that_action() {
        assert_eq!(changed(DdiAction::Force, 1).unwrap().forced_ddi, Some(Id::new(1)));
        assert_eq!(changed(DdiAction::Keep, 1).unwrap().forced_ddi, None);
    }

    #[test]
    fn the_forced_number_is_the_clients_own() {
        assert!(matches!(changed(DdiAction::Force, 2), Err(Refusal::Invalid(_))));
    }
}
