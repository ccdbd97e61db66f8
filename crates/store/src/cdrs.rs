//! Asking for call records: newest first, page by page.
//!
//! Elsewhere: carrying it out (`tables`).

use model::{Cdr, Client, Id};
use std::fmt;
use std::str::FromStr;

/// Which call records.
#[derive(Clone, Debug)]
pub struct CdrQuery {
    /// Only those of this client.
    pub client: Option<Id<Client>>,
    /// Only those that started then or later, in Unix microseconds.
    pub from_us: Option<i64>,
    /// Only those that started before, in Unix microseconds.
    pub until_us: Option<i64>,
    /// Go on where a page ended.
    pub after: Option<CdrCursor>,
    /// How many at most; taken as 1 to [`CdrQuery::LIMIT_MAX`].
    pub limit: usize,
}

impl CdrQuery {
    /// The longest page.
    pub const LIMIT_MAX: usize = 1000;
}

impl Default for CdrQuery {
    fn default() -> Self {
        Self { client: None, from_us: None, until_us: None, after: None, limit: 100 }
    }
}

/// Some call records, those that started last first.
#[derive(Clone, Debug)]
pub struct CdrPage {
    /// The records.
    pub cdrs: Vec<Cdr>,
    /// For the next page; `None` on the last one.
    pub next: Option<CdrCursor>,
}

/// The place between two pages: opaque, stable while records come and go, good for any query. As text it is hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CdrCursor(pub(crate) Vec<u8>);

impl fmt::Display for CdrCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for CdrCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const TEXT_MAX: usize = 1024;
        if text.is_empty() || text.len() > TEXT_MAX || !text.len().is_multiple_of(2) || !text.is_ascii() {
            return Err(InvalidCursor);
        }
        let digit = |at: usize| (text.as_bytes()[at] as char).to_digit(16);
        let byte = |at| u8::try_from(digit(at)? * 16 + digit(at + 1)?).ok();
        (0..text.len()).step_by(2).map(byte).collect::<Option<_>>().map(Self).ok_or(InvalidCursor)
    }
}

/// The text is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a page's cursor; take the one that came with the page before")]
pub struct InvalidCursor;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_form() {
        let cursor = CdrCursor(vec![0, 1, 0xAB, 0xFF]);
        assert_eq!(cursor.to_string(), "0001abff");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for wrong in ["", "0", "0g", "é0", "+1", &"0".repeat(1026)] {
            assert!(matches!(wrong.parse::<CdrCursor>(), Err(InvalidCursor)), "{wrong}");
        }
    }
}
