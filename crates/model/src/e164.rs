//! Numbers of the public telephone network as the whole platform writes them: a plus sign, the country's calling code, the rest.
//!
//! In: texts. Out: numbers that are right by construction. Elsewhere: other forms of numbers (crate `routing`).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A number of the public network: a plus sign and one to fifteen digits, the first not 0 (ITU-T E.164 section 6.2.1).
///
/// The only way to one is through its parser. It is small, copied freely, and ordered by its digits as texts are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct E164 {
    /// The text with its plus sign; zeros behind it.
    text: [u8; 1 + E164::DIGITS_MAX],
    len: u8,
}

impl E164 {
    /// Greatest count of digits (ITU-T E.164 section 6.1).
    pub const DIGITS_MAX: usize = 15;

    /// The number with its plus sign.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.text.get(..usize::from(self.len)).unwrap_or_default()).unwrap_or_default()
    }

    /// The digits without the plus sign.
    pub fn digits(&self) -> &str {
        self.as_str().get(1..).unwrap_or_default()
    }
}

impl FromStr for E164 {
    type Err = NotE164;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix('+').ok_or(NotE164)?.as_bytes();
        let right = (1..=Self::DIGITS_MAX).contains(&digits.len())
            && digits.iter().all(u8::is_ascii_digit)
            && digits.first() != Some(&b'0');
        if !right {
            return Err(NotE164);
        }
        let mut number = Self { text: [0; 1 + Self::DIGITS_MAX], len: 0 };
        for (place, byte) in number.text.iter_mut().zip(text.bytes()) {
            *place = byte;
            number.len += 1;
        }
        Ok(number)
    }
}

impl TryFrom<String> for E164 {
    type Error = NotE164;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<E164> for String {
    fn from(number: E164) -> Self {
        number.as_str().to_owned()
    }
}

impl AsRef<str> for E164 {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no number in E.164.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a number in E.164 is a plus sign and 1 to {} digits, the first not 0, such as +34911234567",
    E164::DIGITS_MAX
)]
pub struct NotE164;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_plus_sign_and_fifteen_digits_at_most() {
        for right in ["+1", "+34911234567", "+123456789012345"] {
            let number: E164 = right.parse().unwrap();
            assert_eq!((number.as_str(), number.digits()), (right, &right[1..]));
            let stored = serde_json::to_value(number).unwrap();
            assert_eq!(serde_json::from_value::<E164>(stored).unwrap(), number);
        }
        for wrong in
            ["", "+", "34911", "+0", "+034", "+1234567890123456", "+34 911", "+34a", "++34", "+٣٤", "+34\0"]
        {
            assert_eq!(wrong.parse::<E164>(), Err(NotE164), "{wrong}");
            assert!(serde_json::from_value::<E164>(wrong.into()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_ordered_as_their_texts_are() {
        let number = |text: &str| text.parse::<E164>().unwrap();
        assert!(number("+34") < number("+340") && number("+340") < number("+35"));
    }
}
