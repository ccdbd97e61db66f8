//! Which calendars a condition of a conditional route looks at.
//!
//! Manual: "Client configuration", conditional routes.

use crate::checks::within_client;
use crate::prelude::*;

/// A condition's calendar: a holiday in it is one way to meet the condition.
#[derive(Clone, Debug, Entity)]
#[entity(path = "conditional_routes_conditions_rel_calendars", access = ACCESS, rules)]
pub struct ConditionalRoutesConditionsRelCalendar {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<ConditionalRoutesConditionsRelCalendar>,
    /// The condition.
    #[field(delete = "cascade", index, client = "ldw")]
    pub condition: Id<ConditionalRoutesCondition>,
    /// The calendar, of the same client.
    #[field(delete = "cascade", index, client = "ldw")]
    pub calendar: Id<Calendar>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcd")
    .acl()
    .list_expands()
    .create_expands()
    .read(&[Rule::Visible("calendar")])
    .write(&[Rule::Visible("condition"), Rule::Visible("calendar")])];

impl Rules for ConditionalRoutesConditionsRelCalendar {
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
        let paired = |calendar| ConditionalRoutesConditionsRelCalendar {
            condition: Id::new(1),
            calendar,
            ..ConditionalRoutesConditionsRelCalendar::default()
        };
        let foreign = Calendar { company: Id::new(2), name: "foreign".to_owned(), ..Calendar::default() };
        assert!(change(|draft| draft.create(paired(Id::new(2)))).is_ok());
        let refused = change(|draft| {
            let foreign = draft.create(foreign)?;
            draft.create(paired(foreign))
        });
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
}
