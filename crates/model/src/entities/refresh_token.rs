//! Refresh tokens: what a login leaves behind, so that the next token takes no password (manual, "Introduction to IvozProvider
//! API"). The platform's own; no endpoint shows them.

use crate::prelude::*;

/// A login that goes on: its newest token can be exchanged once for a new pair of tokens. Only hashes are kept.
#[derive(Clone, Debug, Entity)]
#[entity(hidden, unique(hash), unique(used))]
pub struct RefreshToken {
    /// Its identifier.
    pub id: Id<RefreshToken>,
    /// SHA-256 of the newest token, in hexadecimal.
    #[field(max = 64)]
    pub hash: String,
    /// SHA-256 of the token before it. Whoever shows that one again has copied it, or was copied: the login ends.
    #[field(max = 64)]
    pub used: Option<String>,
    /// When the newest token ends.
    pub expires: Timestamp,
    /// The administrator who logged in; null: a user did.
    #[field(delete = "cascade", index)]
    pub administrator: Option<Id<Administrator>>,
    /// The user who logged in; null: an administrator did.
    #[field(delete = "cascade", index)]
    pub user: Option<Id<User>>,
}

impl RefreshToken {
    /// Ends all logins of an account: its password is another one now, and whoever knew the old one must not stay.
    pub(crate) fn end(draft: &mut Draft<'_>, field: &str, account: u32) -> Result<(), Refusal> {
        let tokens: Vec<Id<Self>> = draft.rows().of::<Self>(field, account).map(|token| token.id).collect();
        tokens.into_iter().try_for_each(|token| draft.delete(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_new_password_ends_the_logins_of_its_account_alone() {
        let ((), rows, _) = change(|draft| {
            let user = Id::<User>::new(1);
            draft.create(RefreshToken { hash: "a".into(), user: Some(user), ..Default::default() })?;
            draft.create(RefreshToken { hash: "b".into(), user: Some(Id::new(2)), ..Default::default() })?;
            draft.change(user, |user: &mut User| user.name = "Carol".to_owned())?;
            assert_eq!(draft.rows().each::<RefreshToken>().count(), 2, "a name is no password");
            draft.change(user, |user: &mut User| user.pass = Password::from_hash("another"))
        })
        .unwrap();
        let left: Vec<&str> = rows.each::<RefreshToken>().map(|token| token.hash.as_str()).collect();
        assert_eq!(left, ["b"]);
    }
}
