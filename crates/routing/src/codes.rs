//! Which failures of a carrier make a call try the next one.
//!
//! In: a setting, such as `408 500-599`. Out: whether a status is in it. Elsewhere: the order of carriers ([`crate::Selection`]).

use std::fmt;
use std::str::FromStr;

/// A list of SIP status codes of failures (RFC 3261 section 21), single ones and ranges, with blanks or commas between them.
///
/// It is asked about final answers before any 2xx alone: once a call is answered, nothing fails over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusCodes(Vec<(u16, u16)>);

/// A text is no list of status codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no status code from 300 to 699, nor a range of them; write for example 408 500-599")]
pub struct NoStatusCodes(String);

impl StatusCodes {
    /// Most entries of a list.
    pub const MOST: usize = 100;

    /// The failures that are a carrier's own, where another may do better:
    ///
    /// - 401, 402, 403, 407: it does not know the platform, or wants money;
    /// - 405, 406, 415, 416, 420, 421, 488, 606: it cannot do what the call needs;
    /// - 408: it did not answer in time; the platform says so itself, too, when a request got no answer at all;
    /// - 429: it wants proof of who asks;
    /// - 500 to 599: it failed, is overloaded, or found no way.
    ///
    /// Not those that are the called one's word, which every other carrier would bring as well, later: 404, 410, 480, 484, 486,
    /// 487, 600, 603, 604 and redirections.
    pub fn carrier_failures() -> Self {
        let single = [401, 402, 403, 405, 406, 407, 408, 415, 416, 420, 421, 429, 488, 606];
        let ranges = single.into_iter().map(|code| (code, code)).chain([(500, 599)]);
        Self(ranges.collect())
    }

    /// Whether a status is in the list.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}

impl Default for StatusCodes {
    fn default() -> Self {
        Self::carrier_failures()
    }
}

impl FromStr for StatusCodes {
    type Err = NoStatusCodes;

    /// An empty text is an empty list: nothing fails over.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut codes = Vec::new();
        for word in text.split([' ', ',', '\t', '\n', '\r']).filter(|word| !word.is_empty()) {
            let wrong = || NoStatusCodes(word.chars().take(20).collect());
            let code = |text: &str| {
                let sound = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
                let code = text.parse().ok().filter(|code| sound && (300..=699).contains(code));
                code.ok_or_else(wrong)
            };
            let (from, to) = word.split_once('-').unwrap_or((word, word));
            let (from, to) = (code(from)?, code(to)?);
            if from > to || codes.len() == Self::MOST {
                return Err(wrong());
            }
            codes.push((from, to));
        }
        Ok(Self(codes))
    }
}

impl fmt::Display for StatusCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (from, to)) in self.0.iter().enumerate() {
            let blank = if place == 0 { "" } else { " " };
            match from == to {
                true => write!(f, "{blank}{from}")?,
                false => write!(f, "{blank}{from}-{to}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_is_written() {
        let codes: StatusCodes = " 408,480 500-503\n".parse().unwrap();
        assert_eq!(codes.to_string(), "408 480 500-503");
        for (status, is_in) in
            [(408, true), (480, true), (500, true), (502, true), (503, true), (504, false), (409, false)]
        {
            assert_eq!(codes.contains(status), is_in, "{status}");
        }
        assert!(!"".parse::<StatusCodes>().unwrap().contains(503));
        let default = StatusCodes::default();
        assert_eq!(default.to_string().parse(), Ok(default));
    }

    #[test]
    fn what_is_no_failure_is_refused_by_its_word() {
        for wrong in ["200", "299", "700", "5xx", "503-500", "503-", "-503", "0503", "+503", "50000000000000"]
        {
            let said = format!("408 {wrong}").parse::<StatusCodes>().unwrap_err().to_string();
            assert!(said.starts_with(&format!("{wrong:?}")), "{said}");
        }
        assert!("503 ".repeat(StatusCodes::MOST).parse::<StatusCodes>().is_ok());
        assert!("503 ".repeat(StatusCodes::MOST + 1).parse::<StatusCodes>().is_err());
    }

    #[test]
    fn by_default_a_carriers_failure_fails_over_and_the_called_ones_word_does_not() {
        let codes = StatusCodes::carrier_failures();
        for carriers in [401, 402, 403, 407, 408, 488, 500, 502, 503, 504, 580, 599] {
            assert!(codes.contains(carriers), "{carriers}");
        }
        for word in [200, 302, 404, 410, 480, 484, 486, 487, 600, 603, 604] {
            assert!(!codes.contains(word), "{word}");
        }
    }
}
