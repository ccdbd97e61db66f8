//! Which users are in which pick-up group (manual 10.1.7, "Pick up groups").
//!
//! Elsewhere: the group, which shows them as `userIds` ([`PickUpGroup`]).

use crate::prelude::*;

/// A user in a pick-up group.
#[derive(Clone, Debug, Entity)]
#[entity(path = "pick_up_rel_users", access = ACCESS, rules)]
pub struct PickUpRelUser {
    /// The pair's number in the API.
    #[field(client = "ld")]
    pub id: Id<PickUpRelUser>,
    /// The group.
    #[field(delete = "cascade", index, client = "ldw")]
    pub pick_up_group: Id<PickUpGroup>,
    /// The user.
    #[field(delete = "cascade", index, client = "ldw")]
    pub user: Id<User>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .list_expands()
    .create_expands()
    .read(&[Rule::Visible("pickUpGroup")])
    .write(&[Rule::Visible("user"), Rule::Visible("pickUpGroup")])];

impl Rules for PickUpRelUser {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let (user, group) = (check.rows.get(self.user), check.rows.get(self.pick_up_group));
        if let (Some(user), Some(group)) = (user, group)
            && user.company != group.company
        {
            check.wrong("user", "the user belongs to another client than the group");
        }
        match old {
            Some(old) if (old.user, old.pick_up_group) != (self.user, self.pick_up_group) => {
                check.forbid("who is in a pick-up group is added and removed, not changed");
            }
            _ => {}
        }
        let mut others = check.rows.of::<Self>("pickUpGroup", self.pick_up_group.get());
        if others.any(|other| other.id != self.id && other.user == self.user) {
            check.forbid("the user is in this group already");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn pair(user: u32, group: u32) -> PickUpRelUser {
        PickUpRelUser { user: Id::new(user), pick_up_group: Id::new(group), ..PickUpRelUser::default() }
    }

    #[test]
    fn a_user_is_in_a_group_of_the_client_once() {
        change(|draft| draft.create(pair(2, 1))).unwrap();
        assert!(matches!(change(|draft| draft.create(pair(1, 1))), Err(Refusal::Forbidden(_))));
        let foreign = PickUpGroup { name: "x".into(), company: Id::new(2), ..PickUpGroup::default() };
        let refused = change(|draft| {
            let pick_up_group = draft.create(foreign)?;
            draft.create(PickUpRelUser { pick_up_group, ..pair(1, 1) })
        });
        assert!(matches!(refused, Err(Refusal::Invalid(_))));
    }

    #[test]
    fn a_pair_is_not_changed() {
        let refused =
            change(|draft| draft.change(Id::<PickUpRelUser>::new(1), |pair| pair.user = Id::new(2)));
        assert!(matches!(refused, Err(Refusal::Forbidden(_))));
    }
}
