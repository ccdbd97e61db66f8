//! Which match lists a condition of a conditional route looks at.
//!
//! Manual: "Client configuration", conditional routes.

use crate::checks::within_client;
use crate::prelude::*;

/// A condition's match list: a caller in it is one way to meet the condition.
#[derive(Clone, Debug, Entity)]
#[entity(path = "conditional_routes_conditions_rel_matchlists", access = ACCESS, rules)]
pub struct ConditionalRoutesConditionsRelMatchlist {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<ConditionalRoutesConditionsRelMatchlist>,
    /// The condition.
    #[field(delete = "cascade", index, client = "ldw")]
    pub condition: Id<ConditionalRoutesCondition>,
    /// The match list, of the same client or offered by its brand.
    #[field(delete = "cascade", index, client = "ldw")]
    pub matchlist: Id<MatchList>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcd")
    .acl()
    .list_expands()
    .create_expands()
    .read(&[Rule::Visible("matchlist")])
    .write(&[Rule::Visible("matchlist"), Rule::Visible("condition")])];

impl Rules for ConditionalRoutesConditionsRelMatchlist {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let client = check.rows.get(self.condition).and_then(|condition| condition.client(check.rows));
        within_client(self, old, client, check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn both_sides_are_of_one_client() {
        let paired = |matchlist| ConditionalRoutesConditionsRelMatchlist {
            condition: Id::new(1),
            matchlist,
            ..ConditionalRoutesConditionsRelMatchlist::default()
        };
        let foreign =
            MatchList { company: Some(Id::new(2)), name: "foreign".to_owned(), ..MatchList::default() };
        assert!(change(|draft| draft.create(paired(Id::new(3)))).is_ok());
        let refused = change(|draft| {
            let foreign = draft.create(foreign)?;
            draft.create(paired(foreign))
        });
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
}
