//! Which schedules make up the opening hours of an external call filter.
//!
//! Manual: "Client configuration", external call filters.

use crate::checks::within_client;
use crate::prelude::*;

/// A schedule that is part of the opening hours of an external call filter.
#[derive(Clone, Debug, Entity)]
#[entity(path = "external_call_filter_rel_schedules", access = ACCESS, rules)]
pub struct ExternalCallFilterRelSchedule {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<ExternalCallFilterRelSchedule>,
    /// The external call filter.
    #[field(delete = "cascade", index, client = "ldw")]
    pub filter: Id<ExternalCallFilter>,
    /// The schedule, of the same client.
    #[field(delete = "cascade", index, client = "ldw")]
    pub schedule: Id<Schedule>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .list_expands()
    .create_expands()
    .read(&[Rule::Visible("filter")])
    .write(&[Rule::Visible("filter"), Rule::Visible("schedule")])];

impl Rules for ExternalCallFilterRelSchedule {
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
        let paired = |schedule| ExternalCallFilterRelSchedule {
            filter: Id::new(1),
            schedule,
            ..ExternalCallFilterRelSchedule::default()
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
