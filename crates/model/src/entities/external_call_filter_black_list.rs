//! Which match lists turn callers away from a DDI.
//!
//! Manual: "Client configuration", external call filters.

use crate::checks::within_client;
use crate::prelude::*;

/// A match list of callers whom an external call filter turns away.
#[derive(Clone, Debug, Entity)]
#[entity(path = "external_call_filter_black_lists", access = ACCESS, rules)]
pub struct ExternalCallFilterBlackList {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<ExternalCallFilterBlackList>,
    /// The external call filter.
    #[field(delete = "cascade", index, client = "ldw")]
    pub filter: Id<ExternalCallFilter>,
    /// The match list, of the same client or offered by its brand.
    #[field(delete = "cascade", index, client = "ldw")]
    pub matchlist: Id<MatchList>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .list_expands()
    .create_expands()
    .read(&[Rule::Visible("filter")])
    .write(&[Rule::Visible("filter"), Rule::Visible("matchlist")])];

impl Rules for ExternalCallFilterBlackList {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let client = check.rows.get(self.filter).map(|filter| filter.company);
        within_client(self, old, client, check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn both_sides_are_of_one_client() {
        let paired = |matchlist| ExternalCallFilterBlackList {
            filter: Id::new(1),
            matchlist,
            ..ExternalCallFilterBlackList::default()
        };
        let foreign =
            MatchList { company: Some(Id::new(2)), name: "foreign".to_owned(), ..MatchList::default() };
        assert!(change(|draft| draft.create(paired(Id::new(2)))).is_ok());
        let refused = change(|draft| {
            let foreign = draft.create(foreign)?;
            draft.create(paired(foreign))
        });
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
}
