//! The members of queues: users who serve waiting callers.
//!
//! Manual: "Client configuration", queues.

use crate::checks::{differs, within_client};
use crate::prelude::*;

/// A user who takes calls of a queue.
#[derive(Clone, Debug, Entity)]
#[entity(path = "queue_members", access = ACCESS, rules)]
pub struct QueueMember {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<QueueMember>,
    /// Members get calls only when nobody with a lower penalty is free. Null: 0.
    #[field(min = 0, client = "ldw")]
    pub penalty: Option<i32>,
    /// The queue.
    #[field(delete = "cascade", index, client = "ldw")]
    pub queue: Id<Queue>,
    /// The user, once within a queue.
    #[field(delete = "cascade", index, client = "ldw")]
    pub user: Id<User>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["queue.name"])
    .list_expands()
    .create_expands()
    .read(&[Rule::Visible("queue")])
    .write(&[Rule::Visible("user"), Rule::Visible("queue")])];

impl Rules for QueueMember {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let rows = check.rows;
        let mut members = rows.of::<QueueMember>("queue", self.queue.get());
        let moved = differs(self, old, "queue") || differs(self, old, "user");
        if moved && members.any(|other| other.id != self.id && other.user == self.user) {
            check.wrong("user", "the queue has this user already; change that member instead");
        }
        within_client(self, old, rows.get(self.queue).map(|queue| queue.company), check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn member(user: u32) -> QueueMember {
        QueueMember { queue: Id::new(1), user: Id::new(user), ..QueueMember::default() }
    }

    #[test]
    fn a_user_is_once_in_a_queue() {
        assert!(change(|draft| draft.create(member(2))).is_ok());
        assert!(matches!(change(|draft| draft.create(member(1))), Err(Refusal::Invalid(_))));
        let heavier = |member: &mut QueueMember| member.penalty = Some(4);
        assert!(change(|draft| draft.change(Id::new(1), heavier)).is_ok());
    }

    #[test]
    fn a_member_is_of_the_queues_client() {
        let foreign = change(|draft| {
            draft.put(Box::new(User { id: Id::new(90), company: Id::new(2), ..User::default() }))?;
            draft.create(member(90))
        });
        assert!(matches!(foreign, Err(Refusal::Invalid(_))), "{foreign:?}");
    }
}
