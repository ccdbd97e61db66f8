//! The rules of a call ACL, one for each match list.
//!
//! Manual: "Client configuration", call ACLs.

use crate::checks::within_client;
use crate::prelude::*;

/// A rule of a call ACL: what happens to calls whose destination is in a match list.
#[derive(Clone, Debug, Entity)]
#[entity(path = "call_acl_rel_match_lists", access = ACCESS, unique(call_acl, priority), rules)]
pub struct CallAclRelMatchList {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<CallAclRelMatchList>,
    /// Its place among the rules: the lowest is looked at first, and the first that fits decides. Once within
    /// a call ACL.
    #[field(client = "ldw")]
    pub priority: i16,
    /// Whether calls to numbers in the match list are let through.
    #[field(client = "ldw")]
    pub policy: Policy,
    /// The call ACL that the rule is part of.
    #[field(delete = "cascade", index, client = "ldw")]
    pub call_acl: Id<CallAcl>,
    /// The numbers that the rule is about: a match list of the client, or one that its brand offers.
    #[field(delete = "cascade", index, client = "ldw")]
    pub match_list: Id<MatchList>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["priority", "policy", "matchList.name"])
    .list_expands()
    .read(&[Rule::Visible("callAcl")])
    .write(&[Rule::Visible("callAcl"), Rule::Visible("matchList")])];

impl Rules for CallAclRelMatchList {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let client = check.rows.get(self.call_acl).map(|call_acl| call_acl.company);
        within_client(self, old, client, check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn both_sides_are_of_one_client() {
        let paired = |match_list| CallAclRelMatchList {
            call_acl: Id::new(1),
            match_list,
            priority: 7,
            ..CallAclRelMatchList::default()
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
