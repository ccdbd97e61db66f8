//! Texts as people compare them: whatever the case of letters and their accents, marks before digits before letters.
//!
//! In: two texts. Out: whether they are alike, and which comes first. Elsewhere: what is compared (`list`).

use std::cmp::Ordering;
use std::sync::LazyLock;
use unicode_normalization::char::{decompose_canonical, is_combining_mark};

/// A text to compare many others with.
#[derive(Debug)]
pub(crate) struct Wanted(String);

impl Wanted {
    /// Prepares it.
    pub(crate) fn new(text: &str) -> Self {
        Self(folded(text))
    }

    /// It, folded.
    pub(crate) fn text(&self) -> &str {
        &self.0
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

/// What one letter becomes: none, one or two.
type Folds = [Option<char>; 2];

/// The first letter beyond ASCII, and the first one beyond those of Latin scripts: what names are made of, kept ready.
const FIRST: u32 = 0x80;
const AFTER: u32 = 0x250;

/// The short way for most letters that are not ASCII.
fn latin() -> &'static [Folds] {
    static LATIN: LazyLock<Vec<Folds>> = LazyLock::new(|| {
        (FIRST..AFTER).map(|code| char::from_u32(code).map_or([None; 2], work_out)).collect()
    });
    &LATIN
}

/// A letter in small and without its accents.
fn work_out(letter: char) -> Folds {
    if is_combining_mark(letter) {
        return [None; 2];
    }
    let small = letter.to_lowercase().next().unwrap_or(letter);
    let mut base = None;
    // Of a syllable of Hangul the parts are letters, too.
    if !('\u{ac00}'..='\u{d7a3}').contains(&small) {
        decompose_canonical(small, |part| {
            base = base.or(Some(part).filter(|part| !is_combining_mark(*part)))
        });
    }
    match base.unwrap_or(small) {
        // Letters whose stroke or partner is no accent to Unicode.
        'ß' => [Some('s'), Some('s')],
        'æ' => [Some('a'), Some('e')],
        'œ' => [Some('o'), Some('e')],
        'ø' => [Some('o'), None],
        'đ' | 'ð' => [Some('d'), None],
        'ł' => [Some('l'), None],
        'ı' => [Some('i'), None],
        letter => [Some(letter), None],
    }
}

/// The letters of a text in small and without accents.
fn letters(text: &str) -> impl Iterator<Item = char> {
    let latin = latin();
    let fold = |letter: char| -> Folds {
        if letter.is_ascii() {
            return [Some(letter.to_ascii_lowercase()), None];
        }
        let known = (letter as u32).checked_sub(FIRST).and_then(|at| latin.get(at as usize));
        known.copied().unwrap_or_else(|| work_out(letter))
    };
    text.chars().flat_map(fold).flatten()
}

/// Small letters without accents. Most texts are ASCII and take the short way everywhere.
pub(crate) fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut folded = String::with_capacity(text.len());
    folded.extend(letters(text));
    folded
}

/// Which of two texts comes first.
pub(crate) fn compare(one: &str, other: &str) -> Ordering {
    let (these, those) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while let (Some(this), Some(that)) = (these.get(at), those.get(at)) {
        if this != that {
            if !this.is_ascii() || !that.is_ascii() {
                break;
            }
            let weight = |byte: u8| (byte.is_ascii_alphanumeric(), byte.to_ascii_lowercase());
            let ordering = weight(*this).cmp(&weight(*that));
            if ordering.is_ne() {
                return ordering;
            }
        }
        at += 1;
    }
    // Within a letter of several octets what was alike of it does not count.
    while !(one.is_char_boundary(at) && other.is_char_boundary(at)) {
        at -= 1;
    }
    // What is left begins with other letters, or there is nothing left of one of them.
    let (one, other) = (one.get(at..).unwrap_or_default(), other.get(at..).unwrap_or_default());
    let weight = |letter: char| (letter.is_alphanumeric(), letter);
    letters(one).map(weight).cmp(letters(other).map(weight))
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
