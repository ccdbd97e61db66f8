//! Moments at which the logins of an account ended: tokens of before are worth nothing. The platform's own; no endpoint shows them.

use crate::prelude::*;

/// Seconds that any access token lasts at most; a moment is kept so long, and longer than it is needed.
const KEPT_SECONDS: i64 = 86_400;

/// That all logins of an account ended: by a new password, or because it was not active any more.
#[derive(Clone, Debug, Entity)]
#[entity(hidden)]
pub struct EndedLogins {
    /// Its identifier.
    pub id: Id<EndedLogins>,
    /// When.
    pub moment: Timestamp,
    /// The administrator whose logins ended; null: a user's did.
    #[field(delete = "cascade", index)]
    pub administrator: Option<Id<Administrator>>,
    /// The user whose logins ended; null: an administrator's did.
    #[field(delete = "cascade", index)]
    pub user: Option<Id<User>>,
}

impl EndedLogins {
    /// When the logins of an account ended, by the field and the id that name it; none: never, or long ago.
    pub fn of(rows: &Rows, field: &str, account: u32) -> Option<Timestamp> {
        rows.of::<Self>(field, account).map(|ended| ended.moment).max()
    }

    /// Ends all logins of an account, those that go on and those whose tokens are still good: whoever knew the old password,
    /// or was let in before, must not stay.
    pub(crate) fn end(draft: &mut Draft<'_>, field: &'static str, account: u32) -> Result<(), Refusal> {
        let tokens: Vec<Id<RefreshToken>> =
            draft.rows().of::<RefreshToken>(field, account).map(|token| token.id).collect();
        tokens.into_iter().try_for_each(|token| draft.delete(token))?;
        let now = draft.now();
        let useless = |ended: &&Self| {
            let same = ended.administrator.filter(|_| field == "administrator").map(Id::get) == Some(account)
                || ended.user.filter(|_| field == "user").map(Id::get) == Some(account);
            same || now.as_second() - ended.moment.as_second() > KEPT_SECONDS
        };
        let useless: Vec<Id<Self>> = draft.rows().each().filter(useless).map(|ended| ended.id).collect();
        useless.into_iter().try_for_each(|ended| draft.delete(ended))?;
        draft.create(Self::new(field, account, now)).map(drop)
    }

    /// The moment at which the logins of an account end, by the field and the id that name it.
    pub fn new(field: &str, account: u32, moment: Timestamp) -> Self {
        let (administrator, user) = match field {
            "user" => (None, Some(Id::new(account))),
            _ => (Some(Id::new(account)), None),
        };
        Self { moment, administrator, user, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_new_password_and_a_closed_account_end_its_logins_alone() {
        let ways: [fn(&mut User); 2] =
            [|user| user.pass = Password::from_hash("another"), |user| user.active = false];
        for way in ways {
            let ((), rows, _) = change(|draft| {
                let user = Id::<User>::new(1);
                let login = |hash: &str, user: Id<User>| RefreshToken {
                    hash: hash.into(),
                    user: Some(user),
                    ..Default::default()
                };
                draft.create(login("a", user))?;
                draft.create(login("b", Id::new(2)))?;
                draft.change(user, |user: &mut User| user.name = "Carol".to_owned())?;
                assert_eq!(draft.rows().each::<RefreshToken>().count(), 2, "a name is no password");
                draft.change(user, way)?;
                draft.change(user, |user: &mut User| user.active = true)
            })
            .unwrap();
            let left: Vec<&str> = rows.each::<RefreshToken>().map(|token| token.hash.as_str()).collect();
            assert_eq!(left, ["b"]);
            assert!(EndedLogins::of(&rows, "user", 1).is_some());
            assert_eq!(EndedLogins::of(&rows, "user", 2), None);
            assert_eq!(EndedLogins::of(&rows, "administrator", 1), None);
        }
    }

    #[test]
    fn one_moment_is_kept_for_each_account() {
        let admin = Id::<Administrator>::new(2);
        let ((), rows, _) = change(|draft| {
            for hash in ["one", "two", "three"] {
                draft.change(admin, |admin: &mut Administrator| admin.pass = Password::from_hash(hash))?;
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(rows.each::<EndedLogins>().count(), 1);
    }
}
