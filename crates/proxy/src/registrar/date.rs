//! The Date header (RFC 3261 section 20.17): Unix time as `Sat, 13 Nov 2010 23:29:00 GMT`.
//!
//! In: seconds. Out: text. Telephones without a clock of their own take the time from it.

use std::fmt;

/// Unix time in seconds, written as an RFC 1123 date.
pub(super) struct Date(pub(super) i64);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]; // from 1 January 1970 on
        const MONTHS: [&str; 12] =
            ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
        let (day, second) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        // Years that begin in March have their odd day at the end; eras of 400 years are all alike.
        let shifted = day + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * of_year + 2) / 153;
        let of_month = of_year - (153 * month + 2) / 5 + 1;
        let year = era * 400 + year_of_era + i64::from(month >= 10);
        let name = |names: &[&'static str], index: i64| {
            usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or_default()
        };
        write!(
            f,
            "{}, {of_month:02} {} {year:04} {:02}:{:02}:{:02} GMT",
            name(&DAYS, day.rem_euclid(7)),
            name(&MONTHS, month),
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_289_690_940, "Sat, 13 Nov 2010 23:29:00 GMT"), // RFC 3261 section 20.17
            (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(Date(unix).to_string(), text);
        }
    }
}
