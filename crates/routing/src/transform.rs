//! Numeric transformations (manual, chapter 9.7.3): the forms of numbers that others use, to E.164 and back.
//!
//! In: a set of rules, which of its four lists, a number. Out: the number after the first rule that fits, or why there is none.
//! Elsewhere: whose set it is ([`crate::Router::rules_of`]), what rules are saved (`model`).

use crate::note::{Note, Notes};
use fancy_regex::Regex;
use model::define::Entity;
use model::entities::{TransformationRule, TransformationRuleKind as Kind, TransformationRuleSet};
use model::rows::Rows;
use model::{E164, Id, NotE164};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Greatest size of a number that is transformed, and of what it becomes, in octets. Expressions are tried on no more.
pub const NUMBER_MAX: usize = 64;

/// Most expressions of one list, friend or client that are tried on one number: each may take its time, and tenants write
/// them.
pub const EXPRESSIONS_MAX: usize = 200;

/// Why a number could not be brought into another form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// It is too long, or a rule would make it so.
    #[error("a number has at most {NUMBER_MAX} octets; {0} are too many")]
    TooLong(usize),
    /// A rule's expression took too many steps.
    #[error(
        "transformation rule {rule} takes too many steps on {}; write its matchExpr without repetitions within repetitions", number.escape_debug()
    )]
    GaveUp {
        /// The rule.
        rule: Id<TransformationRule>,
        /// What it was tried on.
        number: String,
    },
    /// E.164 was needed, and this is none.
    #[error("{} is no number in E.164: {}", after.escape_debug(), match rule {
        Some(rule) => format!("transformation rule {rule} made it of {}; correct its replaceExpr", before.escape_debug()),
        None => format!("no rule of {} fits it; add one to it", match set {
            Some(set) => format!("transformation rule set {set}"),
            None => "the caller, who has no transformation rule set,".to_owned(),
        }),
    })]
    NotE164 {
        /// The number as it came.
        before: String,
        /// What became of it.
        after: String,
        /// The set of rules; nothing where there is none.
        set: Option<Id<TransformationRuleSet>>,
        /// The rule that fitted; nothing where none did.
        rule: Option<Id<TransformationRule>>,
    },
}

/// A number in another form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transformed {
    /// The number.
    pub number: String,
    /// The rule that fitted; nothing where none did, and the number is as it was.
    pub rule: Option<Id<TransformationRule>>,
}

/// An expression, read when it is tried first: most sets of the world are never used.
#[derive(Debug)]
pub(crate) struct Pattern {
    text: String,
    regex: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// The expression; nothing where the text is none. Such rows cannot be saved, but imported.
    pub(crate) fn regex(&self) -> Option<&Regex> {
        self.regex.get_or_init(|| model::pattern::pattern(&self.text).ok()).as_ref()
    }

    /// Whether it is found anywhere in a text. One that takes too many steps is not.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        text.len() <= NUMBER_MAX
            && self.regex().is_some_and(|regex| regex.is_match(text).is_ok_and(|found| found))
    }
}

/// Expressions by their texts, so that each is read once and survives changes of the configuration.
#[derive(Debug, Default)]
pub(crate) struct Patterns(BTreeMap<String, Arc<Pattern>>);

impl Patterns {
    /// The expression of a text: one known before, or a new one.
    pub(crate) fn take(&mut self, text: &str, before: Option<&Self>) -> Arc<Pattern> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new = || Arc::new(Pattern { text: text.to_owned(), regex: OnceLock::new() });
        let pattern = before.and_then(|before| before.0.get(text)).map_or_else(new, Arc::clone);
        self.0.insert(text.to_owned(), Arc::clone(&pattern));
        pattern
    }
}

/// A part of what takes a number's place.
#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    /// What the pair of brackets with this number fits; 0 is all that fits.
    Group(usize),
}

/// Reads a replacement: `\1` is the first pair of brackets, `\0` all that fits, `\\` a backslash; all else is itself. A
/// backslash takes all digits that follow.
fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, tail) = after.split_at_checked(end).unwrap_or_default();
        rest = tail;
        if let Ok(group) = number.parse() {
            pieces.extend((!plain.is_empty()).then(|| Piece::Text(std::mem::take(&mut plain))));
            pieces.push(Piece::Group(group));
        } else {
            plain.push('\\');
            plain.push_str(number);
            rest = rest.strip_prefix('\\').filter(|_| number.is_empty()).unwrap_or(rest);
        }
    }
    plain.push_str(rest);
    pieces.extend((!plain.is_empty()).then_some(Piece::Text(plain)));
    pieces
}

#[derive(Debug)]
struct Rule {
    id: Id<TransformationRule>,
    metric: Option<u32>,
    search: Arc<Pattern>,
    replace: Vec<Piece>,
}

/// The rules of all sets, in order.
#[derive(Debug, Default)]
pub(crate) struct RuleSets {
    sets: BTreeMap<u32, [Vec<Rule>; 4]>,
    patterns: Patterns,
}

const fn place(kind: Kind) -> usize {
    match kind {
        Kind::CallerIn => 0,
        Kind::CalleeIn => 1,
        Kind::CallerOut => 2,
        Kind::CalleeOut => 3,
    }
}

impl RuleSets {
    pub(crate) fn tables() -> [&'static model::define::Table; 1] {
        [TransformationRule::definition()]
    }

    pub(crate) fn new(rows: &Rows, before: Option<&Self>) -> Self {
        let mut made = Self::default();
        for row in rows.each::<TransformationRule>() {
            // A rule without an expression fits nothing.
            let (Some(set), Some(search)) = (row.transformation_rule_set, &row.match_expr) else { continue };
            let rule = Rule {
                id: row.id,
                metric: row.priority,
                search: made.patterns.take(search, before.map(|before| &before.patterns)),
                replace: pieces(row.replace_expr.as_deref().unwrap_or_default()),
            };
            if let Some(list) = made.sets.entry(set.get()).or_default().get_mut(place(row.kind)) {
                list.push(rule);
            }
        }
        for list in made.sets.values_mut().flatten() {
            list.sort_by_key(|rule| (rule.metric, rule.id));
        }
        made
    }

    /// The number as the rules of one kind of a set write it: the first rule that fits decides; where none fits, or there
    /// is no set, it stays as it is.
    pub(crate) fn apply(
        &self,
        set: Option<Id<TransformationRuleSet>>,
        kind: Kind,
        number: &str,
        notes: &mut impl Notes,
    ) -> Result<Transformed, NumberError> {
        if number.len() > NUMBER_MAX {
            return Err(NumberError::TooLong(number.len()));
        }
        let rules = set.and_then(|set| self.sets.get(&set.get())?.get(place(kind)));
        let mut made = Transformed { number: number.to_owned(), rule: None };
        for rule in rules.into_iter().flatten().take(EXPRESSIONS_MAX) {
            let Some(regex) = rule.search.regex() else {
                notes.add(|| Note::BrokenRule { rule: rule.id });
                continue;
            };
            match regex.captures(number) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    made = Transformed { number: rule.replaced(&found)?, rule: Some(rule.id) };
                    break;
                }
                Err(_) => return Err(NumberError::GaveUp { rule: rule.id, number: number.to_owned() }),
            }
        }
        notes.add(|| Note::Transformed {
            kind,
            set,
            rule: made.rule,
            before: number.to_owned(),
            after: made.number.clone(),
        });
        Ok(made)
    }

    /// The same, where the outcome must be a number in E.164.
    pub(crate) fn e164(
        &self,
        set: Option<Id<TransformationRuleSet>>,
        kind: Kind,
        number: &str,
        notes: &mut impl Notes,
    ) -> Result<E164, NumberError> {
        let Transformed { number: after, rule } = self.apply(set, kind, number, notes)?;
        after.parse().map_err(|NotE164| NumberError::NotE164 { before: number.to_owned(), after, set, rule })
    }
}

impl Rule {
    fn replaced(&self, found: &fancy_regex::Captures<'_, str>) -> Result<String, NumberError> {
        let mut number = String::new();
        for piece in &self.replace {
            number.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Group(group) => found.get(*group).map_or("", |part| part.as_str()),
            });
            if number.len() > NUMBER_MAX {
                return Err(NumberError::TooLong(number.len()));
            }
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: Option<Id<TransformationRuleSet>> = Some(Id::new(1));

    /// Rules of one set for called numbers on their way in: metric, search, replacement.
    fn rules(list: &[(Option<u32>, &str, &str)]) -> RuleSets {
        let mut rows = Rows::default();
        for (id, (metric, search, replace)) in (1..).zip(list) {
            rows.insert(Arc::new(TransformationRule {
                id: Id::new(id),
                kind: Kind::CalleeIn,
                priority: *metric,
                match_expr: Some((*search).to_owned()),
                replace_expr: Some((*replace).to_owned()),
                transformation_rule_set: SET,
                ..TransformationRule::default()
            }));
        }
        RuleSets::new(&rows, None)
    }

    fn applied(rules: &RuleSets, number: &str) -> (String, Option<u32>) {
        let made = rules.apply(SET, Kind::CalleeIn, number, &mut ()).unwrap();
        (made.number, made.rule.map(Id::get))
    }

    #[test]
    fn the_rules_of_the_manual() {
        // Spain: rule 1 and 2 of the manual's example, here in the wrong order.
        let spain = rules(&[(Some(5), "^([0-9]+)$", r"+34\1"), (Some(1), r"^(\+|00)([0-9]+)$", r"+\2")]);
        let ukraine = rules(&[(Some(1), r"^(\+|810)([0-9]+)$", r"+\2"), (Some(2), "^([0-9]+)$", r"+380\1")]);
        for (what, rules, number, becomes, rule) in [
            ("the smaller metric is first", &spain, "0033123456789", "+33123456789", Some(2)),
            ("no match: the next rule is evaluated", &spain, "911234567", "+34911234567", Some(1)),
            ("a match: no more rules are evaluated", &spain, "+34911234567", "+34911234567", Some(2)),
            ("no rule matches: no change is applied", &spain, "anonymous", "anonymous", None),
            (
                "another country, another international code",
                &ukraine,
                "81033123456789",
                "+33123456789",
                Some(1),
            ),
        ] {
            assert_eq!(applied(rules, number), (becomes.to_owned(), rule), "{what}");
        }
        let other = spain.apply(Some(Id::new(9)), Kind::CalleeIn, "911", &mut ()).unwrap();
        assert_eq!(
            (other.number.as_str(), other.rule),
            ("911", None),
            "a set that is not there changes nothing"
        );
        let caller = spain.apply(SET, Kind::CallerIn, "911", &mut ()).unwrap();
        assert_eq!(caller.rule, None, "rules for called numbers are not for callers");
    }

    #[test]
    fn a_replacement_is_the_whole_number_with_brackets_put_in() {
        for (what, search, replace, number, becomes) in [
            ("groups in any order", "^([0-9]{2})([0-9]+)$", r"\2-\1", "3412", "12-34"),
            ("what does not fit is gone, too", "34", "x", "+34911", "x"),
            ("all that fits", "4(9)", r"<\0>", "3491", "<49>"),
            ("brackets that fit nothing are empty", "^(1)?(2)$", r"a\1b\2", "2", "ab2"),
            ("a backslash", "^1$", r"a\\b", "1", r"a\b"),
            ("a backslash before a backslash and a digit", "^(1)$", r"\\1", "1", r"\1"),
            ("a backslash at the end", "^1$", "a\\", "1", "a\\"),
            ("a backslash before a letter", "^1$", r"a\d", "1", r"a\d"),
            ("a dollar sign is itself", "^(1)$", "$1", "1", "$1"),
            ("no such brackets: nothing", "^(1)$", r"a\12", "1", "a"),
            (
                "a number beyond all bounds",
                "^(1)$",
                &format!(r"\{}", "9".repeat(40)),
                "1",
                &format!(r"\{}", "9".repeat(40)),
            ),
            ("nothing is a replacement", "^(1)$", "", "1", ""),
        ] {
            assert_eq!(applied(&rules(&[(None, search, replace)]), number).0, becomes, "{what}");
        }
    }

    #[test]
    fn rules_without_a_metric_come_first_and_equal_ones_by_their_age() {
        let rules = rules(&[(Some(1), "1", "a"), (Some(0), "1", "b"), (Some(0), "1", "c"), (None, "2", "d")]);
        assert_eq!(applied(&rules, "1"), ("b".to_owned(), Some(2)));
        assert_eq!(applied(&rules, "12"), ("d".to_owned(), Some(4)));
    }

    #[test]
    fn what_must_be_e164_and_is_not_says_which_rule_made_it() {
        let rules = rules(&[(Some(1), "^0([0-9]+)$", r"\1")]);
        let e164 = |number: &str| rules.e164(SET, Kind::CalleeIn, number, &mut ());
        let said = e164("0911").unwrap_err().to_string();
        assert!(
            said.starts_with("911 is no number in E.164: transformation rule 1 made it of 0911"),
            "{said}"
        );
        let said = e164("911").unwrap_err().to_string();
        assert!(said.contains("no rule of transformation rule set 1 fits it"), "{said}");
        assert_eq!(e164("+34911").unwrap().as_str(), "+34911");
    }

    #[test]
    fn time_and_sizes_are_bounded() {
        let heavy = rules(&[(None, r"^(a|a|aa)+(?=b)$", "x"), (None, "^1", r"\01\01\01")]);
        let apply = |rules: &RuleSets, number: &str| rules.apply(SET, Kind::CalleeIn, number, &mut ());
        assert!(
            matches!(apply(&heavy, &"a".repeat(NUMBER_MAX)), Err(NumberError::GaveUp { rule, .. }) if rule == Id::new(1))
        );
        assert_eq!(apply(&heavy, &"1".repeat(NUMBER_MAX + 1)), Err(NumberError::TooLong(NUMBER_MAX + 1)));
        let doubling = rules(&[(None, "^1+$", r"\0\0")]);
        assert_eq!(apply(&doubling, &"1".repeat(40)), Err(NumberError::TooLong(80)));
    }

    #[test]
    fn an_expression_that_cannot_be_read_fits_nothing_and_is_noted() {
        let rules = rules(&[(None, "(", "x"), (None, "^1$", "y")]);
        let mut notes = Vec::new();
        let made = rules.apply(SET, Kind::CalleeIn, "1", &mut notes).unwrap();
        assert_eq!(made.number, "y");
        assert_eq!(notes.first(), Some(&Note::BrokenRule { rule: Id::new(1) }));
    }

    #[test]
    fn expressions_are_read_once_whatever_changes() {
        let mut rows = Rows::default();
        let rule = |id: u32, search: &str| {
            Arc::new(TransformationRule {
                id: Id::new(id),
                match_expr: Some(search.to_owned()),
                transformation_rule_set: SET,
                ..TransformationRule::default()
            })
        };
        rows.insert(rule(1, "^1$"));
        rows.insert(rule(2, "^1$"));
        let first = RuleSets::new(&rows, None);
        rows.insert(rule(2, "^2$"));
        let second = RuleSets::new(&rows, Some(&first));
        assert!(Arc::ptr_eq(&first.patterns.0["^1$"], &second.patterns.0["^1$"]));
        assert_eq!((first.patterns.0.len(), second.patterns.0.len()), (1, 2));
    }
}
