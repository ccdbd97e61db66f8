//! Periods of a calendar with opening hours of their own: a summer timetable, a fair.
//!
//! Manual: "Client configuration", calendar periods.

use crate::checks::{settle_target, within_client};
use crate::prelude::*;

/// Days in a row during which other schedules hold than those of the external call filter. Filters that use
/// the calendar treat calls outside these schedules as out of schedule; conditional routes do not look at
/// periods.
#[derive(Clone, Debug, Entity)]
#[entity(path = "calendar_periods", access = ACCESS, computed = COMPUTED, rules)]
pub struct CalendarPeriod {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<CalendarPeriod>,
    /// The first day of the period.
    #[field(client = "ldw")]
    pub start_date: Date,
    /// The last day of the period; it still belongs to it.
    #[field(client = "ldw")]
    pub end_date: Date,
    /// Where calls outside the period's schedules go. Null: where the external call filter sends them.
    #[field(client = "ldw")]
    pub route_type: Option<PlainTarget>,
    /// The external number that such calls go to, without its country's code; only with the type number.
    #[field(max = 25, client = "ldw")]
    pub number_value: Option<String>,
    /// The calendar that the period is part of.
    #[field(delete = "cascade", index, client = "ldw")]
    pub calendar: Id<Calendar>,
    /// What callers outside the period's schedules hear. Null: what the external call filter plays.
    #[field(delete = "clear", client = "ldw")]
    pub locution: Option<Id<Locution>>,
    /// The extension that such calls go to; only with the type extension.
    #[field(delete = "clear", client = "ldw")]
    pub extension: Option<Id<Extension>>,
    /// The voicemail that such calls go to; only with the type voicemail.
    #[field(delete = "clear", client = "ldw")]
    pub voicemail: Option<Id<Voicemail>>,
    /// The country of the external number.
    #[field(delete = "clear", client = "ldw")]
    pub number_country: Option<Id<Country>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["startDate"])
    .read(&[Rule::Visible("calendar")])
    .write(&[
        Rule::Visible("calendar"),
        Rule::VisibleOrNull("voicemail"),
        Rule::VisibleOrNull("extension"),
        Rule::VisibleOrNull("locution"),
    ])];

const COMPUTED: &[Computed] = &[Computed::new(
    "scheduleIds",
    "The schedules that hold during the period; writing them replaces the whole set.",
    How::Pairs(CalendarPeriodsRelSchedule::definition, "calendarPeriod", "schedule"),
)
.at(Level::Client, "lgpnw")];

const TARGETS: &[(&str, &[&str])] = &[
    ("number", &["numberValue", "numberCountry"]),
    ("extension", &["extension"]),
    ("voicemail", &["voicemail"]),
];

impl Rules for CalendarPeriod {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        check.require(
            self.start_date <= self.end_date,
            "endDate",
            "the period ends before it starts; swap the dates",
        );
        settle_target(self.route_type, self, old, TARGETS, check);
        within_client(self, old, self.client(check.rows), check);
    }
}

impl CalendarPeriod {
    /// The client whose calendar it is part of.
    pub fn client(&self, rows: &Rows) -> Option<Id<Company>> {
        rows.get(self.calendar).map(|calendar| calendar.company)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(make: impl FnOnce(&mut CalendarPeriod)) -> Result<CalendarPeriod, Refusal> {
        let period = Id::new(1);
        change(|draft| draft.change(period, make)).map(|(_, rows, _)| rows.get(period).unwrap().clone())
    }

    #[test]
    fn a_period_lasts_one_day_at_least() {
        let period = changed(|period| period.end_date = period.start_date);
        assert_eq!(period.unwrap().end_date.to_string(), "2019-01-01");
        assert!(matches!(changed(|period| period.end_date = Date::ZERO), Err(Refusal::Invalid(_))));
    }

    #[test]
    fn only_the_chosen_target_is_kept() {
        let period = changed(|period| {
            period.route_type = Some(PlainTarget::Extension);
            period.extension = Some(Id::new(1));
            period.voicemail = Some(Id::new(1));
        });
        let period = period.unwrap();
        assert_eq!(period.extension, Some(Id::new(1)));
        assert_eq!((period.number_value, period.number_country, period.voicemail), (None, None, None));
    }

    #[test]
    fn its_number_is_digits() {
        assert!(changed(|period| period.number_value = Some("112".to_owned())).is_ok());
        assert!(matches!(
            changed(|period| period.number_value = Some("+34".to_owned())),
            Err(Refusal::Invalid(_))
        ));
    }

    #[test]
    fn its_targets_are_the_clients_own() {
        let to = |voicemail| {
            changed(|period| {
                period.route_type = Some(PlainTarget::Voicemail);
                period.voicemail = Some(Id::new(voicemail));
            })
        };
        assert!(to(3).is_ok());
        let why = "Voicemail 5 is not this client's; choose one of its own";
        assert_eq!(to(5).unwrap_err(), Refusal::wrong("voicemail", why));
    }
}
