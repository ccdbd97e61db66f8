//! Regular expressions as people write them in the configuration: read with bounds on what reading and trying them may cost.
//!
//! In: texts. Out: expressions, or what is wrong and where. Elsewhere: who asks ([`crate::entities`]), who tries them (crate `routing`).

use std::fmt;

/// Greatest size of an expression in octets.
const LONGEST: usize = 1024;
/// How often an expression may turn back on one text, and how long its program may be.
const MOST_STEPS: usize = 10_000;
/// Memory for an expression that needs no turning back, in octets.
const LARGEST: usize = 512 * 1024;

/// Why a text is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    /// Which character is wrong, counted from 1; nothing where it is the whole.
    pub position: Option<usize>,
    /// What is wrong with it.
    pub why: String,
}

impl std::error::Error for PatternError {}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "at character {position}: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

/// Whether a text is a regular expression that [`pattern`] reads.
///
/// # Errors
///
/// What is wrong with it, and where.
pub fn check_pattern(text: &str) -> Result<(), PatternError> {
    pattern(text).map(|_| ())
}

/// A regular expression in the syntax of Perl, as transformations are written. What it takes to read it and to try it is
/// bounded: it is read while others' changes wait, and tried while a call waits.
///
/// # Errors
///
/// What is wrong with it, and where.
pub fn pattern(text: &str) -> Result<fancy_regex::Regex, PatternError> {
    let whole = |why: String| PatternError { position: None, why };
    if text.len() > LONGEST {
        return Err(whole(format!("a pattern has at most {LONGEST} octets")));
    }
    let mut builder = fancy_regex::RegexBuilder::new(text);
    builder.backtrack_limit(MOST_STEPS).max_prog_size(MOST_STEPS);
    builder.delegate_size_limit(LARGEST).delegate_dfa_size_limit(LARGEST);
    builder.build().map_err(|error| match error {
        fancy_regex::Error::ParseError(octet, why) => {
            PatternError { position: Some(character(text, octet)), why: why.to_string() }
        }
        fancy_regex::Error::CompileError(error) => compile_error(text, &error),
        other => whole(other.to_string()),
    })
}

/// Which character begins at, or goes over, this octet; counted from 1.
fn character(text: &str, octet: usize) -> usize {
    text.char_indices().filter(|(at, _)| *at < octet).count() + 1
}

fn compile_error(text: &str, error: &fancy_regex::CompileError) -> PatternError {
    use fancy_regex::CompileError;
    const TOO_LARGE: &str = "its repetitions are too many; write fewer";
    let found = |piece: &str| text.find(piece).map(|octet| character(text, octet));
    match error {
        CompileError::InnerError(inner) => match inner.syntax_error() {
            _ if inner.size_limit().is_some() => PatternError { position: None, why: TOO_LARGE.to_owned() },
            Some(error) => {
                // It is about a piece, written anew: the mistake is where the text has the same.
                let (piece, span, why) = match error {
                    regex_syntax::Error::Parse(error) => {
                        (error.pattern(), error.span(), error.kind().to_string())
                    }
                    regex_syntax::Error::Translate(error) => {
                        (error.pattern(), error.span(), error.kind().to_string())
                    }
                    other => return PatternError { position: None, why: other.to_string() },
                };
                let wrong = piece.get(span.start.offset..span.end.offset).filter(|wrong| !wrong.is_empty());
                PatternError { position: wrong.and_then(found), why }
            }
            None => PatternError { position: None, why: inner.to_string() },
        },
        CompileError::PatternTooComplex => PatternError { position: None, why: TOO_LARGE.to_owned() },
        CompileError::InvalidBackref(group) => {
            PatternError { position: found(&format!("\\{group}")), why: error.to_string() }
        }
        other => PatternError { position: None, why: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_told_with_its_place() {
        let place = |text: &str| check_pattern(text).unwrap_err().position;
        for (text, position) in [
            ("^([0-9]+$", 10),
            ("[0-9", 5),
            ("*1", 1),
            ("34**", 4),
            ("ab\\", 3),
            ("é)", 2),
            ("^34[9-0]$", 5),
            (r"(?=a)[z-a]", 7),
            (r"(34)\2", 5),
        ] {
            assert_eq!(place(text), Some(position), "{text}");
        }
        let said = check_pattern("^34[9-0]$").unwrap_err().to_string();
        assert!(said.starts_with("at character 5: ") && !said.contains('\n'), "{said}");
        assert_eq!(place("x{99999}"), None, "it is the whole");
    }

    #[test]
    fn a_pattern_is_read_as_perl_reads_it() {
        assert!(pattern(r"^(?!00)\+34([0-9]+)$").is_ok());
        assert!(pattern("(").is_err());
        assert!(pattern(&"a".repeat(2000)).is_err());
    }

    #[test]
    fn a_pattern_that_would_take_much_memory_or_time_is_refused_by_its_size() {
        let five = |name: char| format!(r"\g<{name}>").repeat(5);
        let groups = ['b', 'c', 'd', 'e', 'f', 'g']
            .iter()
            .zip('a'..)
            .map(|(name, before)| format!("(?<{name}>{})", five(before)));
        let doubled = format!("(?<a>(?=x)x){}", groups.collect::<String>());
        for large in
            ["((a{1000}){1000}){1000}", r"(\pL{50}){50}", r"((\w{100}){10}){10}(?=a)", doubled.as_str()]
        {
            let fault = pattern(large).unwrap_err();
            assert_eq!(fault.to_string(), "its repetitions are too many; write fewer", "{large}");
        }
        assert!(pattern(r"^(\+|00)(\d{1,15})$").unwrap().is_match("+34944048182").unwrap());
        // What would be tried without end gives up.
        assert!(pattern(r"^(a|a|aa)+(?=b)$").unwrap().is_match(&"a".repeat(64)).is_err());
    }
}
