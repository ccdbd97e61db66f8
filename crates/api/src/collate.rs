//! Texts as people compare them: whatever the case of letters and their accents, marks before digits before letters.
//!
//! In: two texts. Out: whether they are alike, and which comes first. Elsewhere: what is compared (`list`).

use std::borrow::Cow;
use std::cmp::Ordering;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// A text to compare many others with.
#[derive(Debug)]
pub(crate) struct Wanted(String);

impl Wanted {
    /// Prepares it.
    pub(crate) fn new(text: &str) -> Self {
        Self(folded(text).into_owned())
    }

    /// Whether it is this text.
    pub(crate) fn is(&self, text: &str) -> bool {
        if text.is_ascii() { text.eq_ignore_ascii_case(&self.0) } else { folded(text) == self.0 }
    }

    /// Whether it is within this text.
    pub(crate) fn is_within(&self, text: &str) -> bool {
        if !text.is_ascii() {
            return folded(text).contains(&self.0);
        }
        let (text, wanted) = (text.as_bytes(), self.0.as_bytes());
        let Some(first) = wanted.first() else { return true };
        let mut windows = text.windows(wanted.len());
        windows.any(|window| {
            window.first().is_some_and(|byte| byte.eq_ignore_ascii_case(first))
                && window.eq_ignore_ascii_case(wanted)
        })
    }

    /// Whether this text starts with it.
    pub(crate) fn starts(&self, text: &str) -> bool {
        if !text.is_ascii() {
            return folded(text).starts_with(&self.0);
        }
        text.get(..self.0.len()).is_some_and(|start| start.eq_ignore_ascii_case(&self.0))
    }

    /// Whether this text ends with it.
    pub(crate) fn ends(&self, text: &str) -> bool {
        if !text.is_ascii() {
            return folded(text).ends_with(&self.0);
        }
        let at = text.len().checked_sub(self.0.len());
        at.and_then(|at| text.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(&self.0))
    }
}

/// Small letters without accents. Most texts are ASCII and take the short way everywhere.
fn folded(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Cow::Owned(text.to_ascii_lowercase());
        }
        return Cow::Borrowed(text);
    }
    let bare = text.nfd().filter(|letter| !is_combining_mark(*letter));
    let mut folded = String::with_capacity(text.len());
    for letter in bare.flat_map(char::to_lowercase) {
        match letter {
            // Letters whose stroke or partner is no accent to Unicode.
            'ß' => folded.push_str("ss"),
            'æ' => folded.push_str("ae"),
            'œ' => folded.push_str("oe"),
            'ø' => folded.push('o'),
            'đ' | 'ð' => folded.push('d'),
            'ł' => folded.push('l'),
            'ı' => folded.push('i'),
            // What to_lowercase leaves behind of a dotted capital I.
            letter if is_combining_mark(letter) => {}
            letter => folded.push(letter),
        }
    }
    Cow::Owned(folded)
}

/// Which of two texts comes first.
pub(crate) fn compare(one: &str, other: &str) -> Ordering {
    if one.is_ascii() && other.is_ascii() {
        let weight = |byte: u8| (byte.is_ascii_alphanumeric(), byte.to_ascii_lowercase());
        return one.bytes().map(weight).cmp(other.bytes().map(weight));
    }
    let weight = |letter: char| (letter.is_alphanumeric(), letter);
    folded(one).chars().map(weight).cmp(folded(other).chars().map(weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_accents_make_no_difference() {
        let alike = [
            ("Ángel", "angel"),
            ("ANGEL", "ángel"),
            ("A\u{301}ngel", "Ángel"),
            ("Straße", "STRASSE"),
            ("Łódź", "lodz"),
            ("Ærø", "aero"),
            ("İzmir", "izmir"),
            ("ΑΘΗΝΑ", "αθηνα"),
            ("Żółć", "zolc"),
        ];
        for (one, other) in alike {
            assert!(Wanted::new(one).is(other) && Wanted::new(other).is(one), "{one} {other}");
            assert_eq!(compare(one, other), Ordering::Equal, "{one} {other}");
        }
        assert!(!Wanted::new("ángel").is("angela"));
    }

    #[test]
    fn parts_are_found_in_texts_of_both_kinds() {
        for text in ["Don Angel Ruiz", "DON ÁNGEL RUÍZ"] {
            for wanted in ["ang", "ÁNG", "l r", "", "ruiz", "don"] {
                assert!(Wanted::new(wanted).is_within(text), "{wanted} {text}");
            }
            assert!(Wanted::new("dón").starts(text) && !Wanted::new("on").starts(text), "{text}");
            assert!(Wanted::new("RUIZ").ends(text) && !Wanted::new("rui").ends(text), "{text}");
            assert!(!Wanted::new("я").is_within(text) && !Wanted::new(&"a".repeat(99)).ends(text));
        }
    }

    #[test]
    fn marks_come_before_digits_before_letters() {
        let mut names = ["Zeta", "alfa", "beta", "Ángel", "_x", "7#", "zeta 2", "Ñu", "nube", "~", ""];
        names.sort_by(|one, other| compare(one, other));
        assert_eq!(names, ["", "_x", "~", "7#", "alfa", "Ángel", "beta", "Ñu", "nube", "Zeta", "zeta 2"]);
    }
}
