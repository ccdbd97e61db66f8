//! The Date header (RFC 3261 section 20.17): Unix time as `Sat, 13 Nov 2010 23:29:00 GMT`.
//!
//! In: seconds. Out: text. Telephones without a clock of their own take the time from it.

/// Unix time in seconds as an RFC 1123 date, for the years 0 to 9999. Written digit by digit: every registration has one.
pub(super) fn date(unix: i64) -> [u8; 29] {
    const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed"; // from 1 January 1970 on
    const MONTHS: &[u8; 36] = b"MarAprMayJunJulAugSepOctNovDecJanFeb";
    let (day, second) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    // Years that begin in March have their odd day at the end; eras of 400 years are all alike.
    let shifted = day + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + i64::from(month >= 10);
    let mut text = *b"Ddd, 00 Mmm 0000 00:00:00 GMT";
    name(&mut text[..3], DAYS, day.rem_euclid(7));
    name(&mut text[8..11], MONTHS, month);
    let numbers = [
        (5, of_month),
        (12, year / 100),
        (14, year),
        (17, second / 3600),
        (20, second / 60 % 60),
        (23, second % 60),
    ];
    for (at, number) in numbers {
        let number = u8::try_from(number.rem_euclid(100)).unwrap_or(0);
        (text[at], text[at + 1]) = (b'0' + number / 10, b'0' + number % 10);
    }
    text
}

/// The name of this number out of names of three letters.
fn name(place: &mut [u8], names: &[u8], number: i64) {
    let number = usize::try_from(number).unwrap_or(0);
    if let Some(name) = names.chunks_exact(3).nth(number) {
        place.copy_from_slice(name);
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
            assert_eq!(std::str::from_utf8(&date(unix)).unwrap(), text);
        }
    }
}
