//! When a part of a rating plan counts, and which times of the week no part covers.
//! In: the parts' days and times, what the clock shows in the brand's time zone. Elsewhere: which time zone that is
//! ([`crate::tariffs`]).

use jiff::civil::{DateTime, Time, Weekday};
use model::entities::{RatingPlan, RatingPlanTimingType};

const DAYS: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

/// When a part counts: always, or on chosen days from a time until midnight (manual 9.4.3, "Timing type"). The clock on
/// the wall says so: what is covered on each day by the clock stays covered on the days on which it is put forward or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timing {
    Always,
    Days {
        /// Monday first.
        on: [bool; 7],
        from: Time,
    },
}

impl Timing {
    pub(crate) fn of(part: &RatingPlan) -> Self {
        if part.timing_type != Some(RatingPlanTimingType::Custom) {
            return Self::Always;
        }
        let days = [
            part.monday,
            part.tuesday,
            part.wednesday,
            part.thursday,
            part.friday,
            part.saturday,
            part.sunday,
        ];
        Self::Days { on: days.map(|day| day == Some(true)), from: part.time_in }
    }

    pub(crate) fn counts_always(self) -> bool {
        self == Self::Always
    }

    /// Whether it counts when the clock shows this.
    pub(crate) fn counts(self, clock: DateTime) -> bool {
        self.begins(clock.weekday()).is_some_and(|from| clock.time() >= from)
    }

    /// From when on it counts on this day.
    fn begins(self, day: Weekday) -> Option<Time> {
        match self {
            Self::Always => Some(Time::midnight()),
            Self::Days { on, from } => {
                let on = on.iter().zip(DAYS).any(|(on, other)| *on && other == day);
                on.then_some(from)
            }
        }
    }
}

/// A time of the week at which no part of a rating plan counts: calls that begin then have no price and are not placed
/// (manual 9.4.3: a rating plan must be capable of rating calls 24x7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The day, by the clock of the brand's time zone. The hole begins at midnight.
    pub day: Weekday,
    /// When it ends; `None`: with the day.
    pub until: Option<Time>,
}

/// What these timings leave of the week.
pub(crate) fn holes(timings: impl Iterator<Item = Timing> + Clone) -> Vec<Hole> {
    let hole = |day| {
        let until = timings.clone().filter_map(|timing| timing.begins(day)).min();
        (until != Some(Time::midnight())).then_some(Hole { day, until })
    };
    DAYS.into_iter().filter_map(hole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    /// Days as `1111100`, Monday first, and a time.
    fn timing(days: &str, from: (i8, i8)) -> Timing {
        let mut on = [false; 7];
        on.iter_mut().zip(days.bytes()).for_each(|(on, day)| *on = day == b'1');
        Timing::Days { on, from: Time::constant(from.0, from.1, 0, 0) }
    }

    #[test]
    fn chosen_days_count_from_their_time_until_midnight() {
        let timing = timing("1000001", (8, 30));
        // The 2nd of March 2026 is a Monday.
        for (day, hour, minute, counts) in [
            (2, 8, 29, false),
            (2, 8, 30, true),
            (2, 23, 59, true),
            (3, 0, 0, false),
            (3, 12, 0, false),
            (8, 8, 30, true),
            (8, 8, 29, false),
        ] {
            let clock = date(2026, 3, day).at(hour, minute, 0, 0);
            assert_eq!(timing.counts(clock), counts, "{clock}");
            assert!(Timing::Always.counts(clock));
        }
    }

    #[test]
    fn holes_are_what_no_part_covers() {
        let of = |timings: &[Timing]| holes(timings.iter().copied());
        assert_eq!(of(&[Timing::Always]), []);
        assert_eq!(of(&[timing("1111111", (8, 0)), timing("1111111", (0, 0))]), []);
        assert_eq!(of(&[timing("1111111", (8, 0)), Timing::Always]), []);
        assert_eq!(of(&[]).len(), 7);
        let eight = Some(Time::constant(8, 0, 0, 0));
        let want = [Hole { day: Weekday::Tuesday, until: eight }, Hole { day: Weekday::Sunday, until: None }];
        assert_eq!(
            of(&[timing("1011110", (0, 0)), timing("1100000", (8, 0)), timing("0100000", (20, 0))]),
            want
        );
    }

    #[test]
    fn rows_say_when_they_count() {
        let mut part = RatingPlan { time_in: Time::constant(8, 0, 0, 0), ..RatingPlan::default() };
        for kind in [None, Some(RatingPlanTimingType::Always)] {
            part.timing_type = kind;
            assert_eq!(Timing::of(&part), Timing::Always);
        }
        part.timing_type = Some(RatingPlanTimingType::Custom);
        (part.tuesday, part.sunday) = (Some(false), None);
        assert_eq!(Timing::of(&part), timing("1011110", (8, 0)));
    }
}
