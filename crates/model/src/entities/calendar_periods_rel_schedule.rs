//! Which schedules hold during a calendar's period.
//!
//! Manual: "Client configuration", calendar periods.

use crate::checks::within_client;
use crate::prelude::*;

/// A schedule that holds during a period of a calendar.
#[derive(Clone, Debug, Entity)]
#[entity(path = "calendar_periods_rel_schedules", access = ACCESS, rules)]
pub struct CalendarPeriodsRelSchedule {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<CalendarPeriodsRelSchedule>,
    /// The period.
    #[field(delete = "cascade", index, client = "ldw")]
    pub calendar_period: Id<CalendarPeriod>,
    /// The schedule, of the same client.
    #[field(delete = "cascade", index, client = "ldw")]
    pub schedule: Id<Schedule>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["calendarPeriod.startDate", "calendarPeriod.endDate"])
    .list_expands()
    .create_expands()
    .read(&[Rule::Visible("schedule")])
    .write(&[Rule::Visible("calendarPeriod"), Rule::Visible("schedule")])];

impl Rules for CalendarPeriodsRelSchedule {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let client = check.rows.get(self.calendar_period).and_then(|period| period.client(check.rows));
        within_client(self, old, client, check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn both_sides_are_of_one_client() {
        let paired = |schedule| CalendarPeriodsRelSchedule {
            calendar_period: Id::new(1),
            schedule,
            ..CalendarPeriodsRelSchedule::default()
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
