//! Digits of E.164 numbers and prefixes, packed so that comparing them is comparing integers.
//! In: `+34600123456`. Out: a key. Elsewhere: how a dialled number becomes one of E.164 (routing).

/// Digits that fit: more than any number has (15 in E.164) and any prefix of a destination (23).
pub(crate) const DIGITS_MAX: u32 = 32;

const BITS: u32 = 4;

/// One digit at least, from the top on, each plus one in four bits; so a prefix comes before all that begins with it, and those
/// come before all else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Digits(u128);

impl Digits {
    /// Reads a number with its plus sign. Digits beyond those that fit are left out: no prefix is as long.
    pub(crate) fn of_number(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+').filter(|digits| model::checks::digits(digits))?;
        let packed = digits.bytes().zip(0..DIGITS_MAX).fold(0, |packed, (digit, place)| {
            packed | (u128::from(digit - b'0' + 1) << (BITS * (DIGITS_MAX - 1 - place)))
        });
        Some(Self(packed))
    }

    /// Reads a prefix with its plus sign.
    pub(crate) fn of_prefix(text: &str) -> Option<Self> {
        if text.len() > DIGITS_MAX as usize { None } else { Self::of_number(text) }
    }

    /// The first digits, by which tables have pages; 0 where there are less.
    pub(crate) fn page(self) -> u32 {
        const DIGITS: u32 = 4;
        let head = (self.0 >> (BITS * (DIGITS_MAX - DIGITS))) as u32;
        if head.trailing_zeros() < BITS { head } else { 0 }
    }

    /// Whether a number, or a longer prefix, begins with this one.
    pub(crate) fn begins(self, other: Self) -> bool {
        // At least one digit is there, so this is less than all bits.
        let unused = self.0.trailing_zeros() / BITS * BITS;
        self.0 >> unused == other.0 >> unused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_plus_sign_and_digits() {
        for right in ["+3", "+34600123456", "+00", "+123456789012345678901234567890123"] {
            assert!(Digits::of_number(right).is_some(), "{right}");
        }
        for wrong in ["", "+", "34", "+34a", "+ 34", "++34", "+٣٤", "sip:+34"] {
            assert!(Digits::of_number(wrong).is_none(), "{wrong}");
        }
        assert!(Digits::of_prefix("+1234567890123456789012345678901").is_some());
        assert!(Digits::of_prefix("+12345678901234567890123456789012").is_none());
    }

    #[test]
    fn pages_are_four_digits() {
        let page = |text: &str| Digits::of_number(text).unwrap().page();
        assert_eq!(["+3", "+346", "+000"].map(page), [0; 3]);
        assert_eq!(page("+3460"), page("+34601"));
        assert_ne!(page("+3460"), page("+3461"));
        assert_ne!(page("+0000"), 0);
    }

    #[test]
    fn a_prefix_begins_what_its_text_begins() {
        let texts = [
            "+3",
            "+34",
            "+340",
            "+3400",
            "+346",
            "+34600123456",
            "+35",
            "+0",
            "+00",
            "+9",
            "+1234567890123456789012345678901",
        ];
        for one in texts {
            for other in texts {
                let (a, b) = (Digits::of_prefix(one).unwrap(), Digits::of_number(other).unwrap());
                assert_eq!(a.begins(b), other.starts_with(one), "{one} {other}");
                assert_eq!(a.cmp(&b), one.cmp(other), "{one} {other}");
            }
        }
    }
}
