//! Which users see which virtual fax in their portal (manual 10.1.9).
//!
//! Elsewhere: the fax, which shows them as `relUserIds` ([`Fax`]).

use crate::prelude::*;

/// A user who sees a virtual fax and its documents.
#[derive(Clone, Debug, Entity)]
#[entity(rules)]
pub struct FaxesRelUser {
    /// The pair's number.
    pub id: Id<FaxesRelUser>,
    /// The user.
    #[field(delete = "cascade", index)]
    pub user: Id<User>,
    /// The virtual fax.
    #[field(delete = "cascade", index)]
    pub fax: Id<Fax>,
}

impl Rules for FaxesRelUser {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let (user, fax) = (check.rows.get(self.user), check.rows.get(self.fax));
        if let (Some(user), Some(fax)) = (user, fax)
            && user.company != fax.company
        {
            check.wrong("user", "the user belongs to another client than the fax");
        }
        match old {
            Some(old) if (old.user, old.fax) != (self.user, self.fax) => {
                check.forbid("who sees a fax is added and removed, not changed");
            }
            _ => {}
        }
        let mut others = check.rows.of::<Self>("fax", self.fax.get());
        if others.any(|other| other.id != self.id && other.user == self.user) {
            check.forbid("the user sees this fax already");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn pair(user: u32, fax: u32) -> FaxesRelUser {
        FaxesRelUser { user: Id::new(user), fax: Id::new(fax), ..FaxesRelUser::default() }
    }

    #[test]
    fn a_user_sees_a_fax_of_the_client_once() {
        change(|draft| draft.create(pair(3, 1))).unwrap();
        assert!(matches!(change(|draft| draft.create(pair(1, 1))), Err(Refusal::Forbidden(_))));
        let foreign = Fax { name: "x".into(), company: Id::new(2), ..Fax::default() };
        let refused = change(|draft| {
            let fax = draft.create(foreign)?;
            draft.create(FaxesRelUser { fax, ..pair(1, 1) })
        });
        assert!(matches!(refused, Err(Refusal::Invalid(_))));
    }

    #[test]
    fn a_pair_is_not_changed() {
        let refused = change(|draft| draft.change(Id::<FaxesRelUser>::new(1), |pair| pair.user = Id::new(3)));
        assert!(matches!(refused, Err(Refusal::Forbidden(_))));
    }
}
