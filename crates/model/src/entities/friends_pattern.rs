//! Patterns of friends: which numbers are behind a remote PBX (manual 10.1.5, "Friends").
//!
//! Elsewhere: the PBX itself ([`Friend`]).

use crate::prelude::*;

/// A regular expression; numbers that it finds and that are no extension of the client are called through
/// the friend.
#[derive(Clone, Debug, Entity)]
#[entity(path = "friends_patterns", access = ACCESS, rules)]
pub struct FriendsPattern {
    /// The pattern's number in the API.
    #[field(client = "ld")]
    pub id: Id<FriendsPattern>,
    /// What these numbers are, in the client's words.
    #[field(max = 50, client = "ldw")]
    pub name: String,
    /// The regular expression, looked for anywhere in the dialled number: `^7[0-9]{3}$`. Write [0-9] for a
    /// digit. One that cannot be read finds nothing.
    #[field(max = 255, client = "ldw")]
    pub reg_exp: String,
    /// The friend whose numbers they are.
    #[field(delete = "cascade", index, client = "dw")]
    pub friend: Id<Friend>,
}

const ACCESS: &[Access] =
    &[Access::at(Level::Client, "lgcud").acl().order(&["name"]).read(&[Rule::Visible("friend")])];

impl Rules for FriendsPattern {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let company = |id: Id<Friend>| check.rows.get(id).map(|friend| friend.company);
        let new = company(self.friend);
        let moved = new.is_some() && old.is_some_and(|old| company(old.friend) != new);
        check.require(!moved, "friend", "the friend belongs to another client; choose one of this client");
        if old.is_none_or(|old| old.reg_exp != self.reg_exp) {
            check.require(
                !self.reg_exp.is_empty(),
                "regExp",
                "an empty pattern finds every number; write .* to mean that",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    const SPAIN: Id<FriendsPattern> = Id::new(1);

    #[test]
    fn a_pattern_stays_with_the_friends_of_its_client() {
        change(|draft| draft.change(SPAIN, |pattern| pattern.friend = Id::new(2))).unwrap();
        let refused = change(|draft| draft.change(SPAIN, |pattern| pattern.friend = Id::new(3))).unwrap_err();
        assert!(refused.to_string().starts_with("friend: "), "{refused}");
    }

    #[test]
    fn a_pattern_is_not_empty() {
        let refused = change(|draft| draft.change(SPAIN, |pattern| pattern.reg_exp.clear())).unwrap_err();
        assert!(refused.to_string().starts_with("regExp: "), "{refused}");
    }
}
