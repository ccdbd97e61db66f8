//! Which schedules a condition of a conditional route looks at.
//!
//! Manual: "Client configuration", conditional routes.

use crate::checks::within_client;
use crate::prelude::*;

/// A condition's schedule: its holding now is one way to meet the condition.
#[derive(Clone, Debug, Entity)]
#[entity(path = "conditional_routes_conditions_rel_schedules", access = ACCESS, rules)]
pub struct ConditionalRoutesConditionsRelSchedule {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<ConditionalRoutesConditionsRelSchedule>,
    /// The condition.
    #[field(delete = "cascade", index, client = "ldw")]
    pub condition: Id<ConditionalRoutesCondition>,
    /// The schedule, of the same client.
    #[field(delete = "cascade", index, client = "ldw")]
    pub schedule: Id<Schedule>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcd")
    .acl()
    .list_expands()
    .create_expands()
    .read(&[Rule::Visible("schedule")])
    .write(&[Rule::Visible("condition"), Rule::Visible("schedule")])];

impl Rules for ConditionalRoutesConditionsRelSchedule {
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
        let paired = |schedule| ConditionalRoutesConditionsRelSchedule {
            condition: Id::new(1),
            schedule,
            ..ConditionalRoutesConditionsRelSchedule::default()
        };
        let foreign = Schedule { company: Id::new(2), name: "foreign".to_owned(), ..Schedule::default() };
        assert!(change(|draft| draft.create(paired(Id::new(2)))).is_ok());
        let refused = change(|draft| {
            let foreign = draft.create(foreign)?;
            draft.create(paired(foreign))
        });
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
}
