//! The holidays of a calendar: whole days, or hours of a day.
//!
//! Manual: "Client configuration", calendar holidays.

use crate::checks::{differs, name_is_there, settle_target, within_client};
use crate::prelude::*;

/// A day, or some hours of one, on which external call filters treat calls as calls on a holiday.
#[derive(Clone, Debug, Entity)]
#[entity(path = "holiday_dates", access = ACCESS, rules)]
pub struct HolidayDate {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<HolidayDate>,
    /// What it is called in lists: "Christmas".
    #[field(max = 50, client = "ldw")]
    pub name: String,
    /// The day, in the client's time zone.
    #[field(client = "ldw")]
    pub event_date: Date,
    /// The whole day is a holiday; otherwise it lasts from one time to another.
    #[field(default = true, client = "ldw")]
    pub whole_day_event: bool,
    /// When the holiday begins, in the client's time zone. Null on whole days.
    #[field(client = "ldw")]
    pub time_in: Option<Time>,
    /// When the holiday ends, in the client's time zone. Null on whole days.
    #[field(client = "ldw")]
    pub time_out: Option<Time>,
    /// Where calls go meanwhile. Null: where the external call filter sends calls on holidays.
    #[field(client = "ldw")]
    pub route_type: Option<PlainTarget>,
    /// The external number that calls go to, without its country's code; only with the type number.
    #[field(max = 25, client = "ldw")]
    pub number_value: Option<String>,
    /// The calendar that the holiday is part of.
    #[field(delete = "cascade", index, client = "ldw")]
    pub calendar: Id<Calendar>,
    /// What callers hear meanwhile. Null: what the external call filter plays on holidays.
    #[field(delete = "clear", client = "ldw")]
    pub locution: Option<Id<Locution>>,
    /// The extension that calls go to; only with the type extension.
    #[field(delete = "clear", client = "ldw")]
    pub extension: Option<Id<Extension>>,
    /// The voicemail that calls go to; only with the type voicemail.
    #[field(delete = "clear", client = "ldw")]
    pub voicemail: Option<Id<Voicemail>>,
    /// The country of the external number.
    #[field(delete = "clear", client = "ldw")]
    pub number_country: Option<Id<Country>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["eventDate"])
    .read(&[Rule::Visible("calendar")])
    .write(&[
        Rule::Visible("calendar"),
        Rule::VisibleOrNull("extension"),
        Rule::VisibleOrNull("voicemail"),
        Rule::VisibleOrNull("locution"),
    ])];

const TARGETS: &[(&str, &[&str])] = &[
    ("number", &["numberValue", "numberCountry"]),
    ("extension", &["extension"]),
    ("voicemail", &["voicemail"]),
];

impl Rules for HolidayDate {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        self.check_hours(old, check);
        settle_target(self.route_type, self, old, TARGETS, check);
        name_is_there(self, old, check);
        let calendar = check.rows.get(self.calendar);
        within_client(self, old, calendar.map(|calendar| calendar.company), check);
    }
}

impl HolidayDate {
    fn check_hours(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if self.whole_day_event {
            (self.time_in, self.time_out) = (None, None);
        }
        let when = ["eventDate", "wholeDayEvent", "timeIn", "timeOut", "calendar"];
        if !when.iter().any(|field| differs(self, old, field)) {
            return;
        }
        if !self.whole_day_event {
            match (self.time_in, self.time_out) {
                (Some(begin), Some(end)) if begin <= end => {}
                (Some(_), Some(_)) => check.wrong("timeOut", "it ends before it begins; swap the times"),
                (None, _) => check.wrong("timeIn", "say when it begins, or make it a whole day"),
                (_, None) => check.wrong("timeOut", "say when it ends, or make it a whole day"),
            }
        }
        let rows = check.rows;
        let mut others = rows.of::<HolidayDate>("calendar", self.calendar.get());
        if let Some(other) = others.find(|other| other.id != self.id && self.overlaps(other)) {
            let name = &other.name;
            check.forbid(format!(
                "the calendar has {name:?} on that day at the same time; change one of them"
            ));
        }
    }

    /// Hours that only touch overlap, too: a holiday lasts through its last second.
    fn overlaps(&self, other: &Self) -> bool {
        self.event_date == other.event_date
            && match (self.time_in, self.time_out, other.time_in, other.time_out) {
                (Some(begin), Some(end), Some(other_begin), Some(other_end)) => {
                    begin <= other_end && other_begin <= end
                }
                _ => true,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn hours(begin: i8, end: i8) -> HolidayDate {
        HolidayDate {
            name: "fair".to_owned(),
            event_date: Date::constant(2026, 3, 19),
            whole_day_event: false,
            time_in: Some(Time::constant(begin, 0, 0, 0)),
            time_out: Some(Time::constant(end, 0, 0, 0)),
            calendar: Id::new(1),
            ..HolidayDate::default()
        }
    }

    fn made(holidays: &[HolidayDate]) -> Result<(), Refusal> {
        change(|draft| holidays.iter().try_for_each(|holiday| draft.create(holiday.clone()).map(|_| ())))
            .map(|_| ())
    }

    #[test]
    fn a_whole_day_has_no_times() {
        let day = HolidayDate { whole_day_event: true, ..hours(8, 10) };
        let (id, rows, _) = change(|draft| draft.create(day)).unwrap();
        let day = rows.get(id).unwrap();
        assert_eq!((day.time_in, day.time_out), (None, None));
    }

    #[test]
    fn hours_begin_before_they_end() {
        assert_eq!(made(&[hours(8, 8)]), Ok(()));
        assert_eq!(
            made(&[hours(10, 8)]),
            Err(Refusal::wrong("timeOut", "it ends before it begins; swap the times"))
        );
        let endless = HolidayDate { time_out: None, ..hours(8, 10) };
        assert_eq!(
            made(&[endless]),
            Err(Refusal::wrong("timeOut", "say when it ends, or make it a whole day"))
        );
    }

    #[test]
    fn holidays_of_a_calendar_do_not_overlap() {
        let whole = HolidayDate { whole_day_event: true, ..hours(0, 0) };
        let elsewhere = HolidayDate { calendar: Id::new(2), ..hours(9, 11) };
        let next_day = HolidayDate { event_date: Date::constant(2026, 3, 20), ..hours(9, 11) };
        assert_eq!(made(&[hours(8, 10), hours(11, 12), elsewhere, next_day]), Ok(()));
        for other in [hours(9, 11), hours(10, 11), hours(7, 12), hours(9, 9), whole] {
            let refused = made(&[hours(8, 10), other.clone()]);
            assert!(matches!(refused, Err(Refusal::Forbidden(_))), "{other:?}");
        }
    }

    #[test]
    fn what_overlaps_already_can_be_renamed() {
        let renamed = change(|draft| {
            draft.change(Id::new(1), |day: &mut HolidayDate| day.name = "New Year".to_owned())
        });
        assert!(renamed.is_ok());
        let moved =
            change(|draft| draft.change(Id::new(1), |day: &mut HolidayDate| day.whole_day_event = false));
        assert!(matches!(moved, Err(Refusal::Invalid(_))));
    }

    #[test]
    fn its_targets_are_the_clients_own() {
        let to = |voicemail| {
            let route_type = Some(PlainTarget::Voicemail);
            made(&[HolidayDate { route_type, voicemail: Some(Id::new(voicemail)), ..hours(8, 10) }])
        };
        assert_eq!(to(3), Ok(()));
        assert!(matches!(to(5), Err(Refusal::Invalid(_))));
    }
}
