//! The contents of match lists: single numbers and regular expressions.
//!
//! Manual: "Client configuration", match lists.

use crate::checks::{differs, digits};
use crate::pattern::pattern;
use crate::prelude::*;

/// A number, or a regular expression for many numbers, in a match list.
#[derive(Clone, Debug, Entity)]
#[entity(path = "match_list_patterns", access = ACCESS, rules)]
pub struct MatchListPattern {
    /// Its number, given by the platform.
    #[field(brand = "ld", client = "ld")]
    pub id: Id<MatchListPattern>,
    /// Notes for administrators: whose number it is.
    #[field(max = 55, brand = "ldw", client = "ldw")]
    pub description: Option<String>,
    /// Whether it is a number or a regular expression.
    #[field(name = "type", brand = "ldw", client = "ldw")]
    pub kind: MatchListPatternKind,
    /// A regular expression that numbers must match. They are in E.164 with the plus sign, so `^\+34` stands for
    /// all of Spain. Only with the type regexp.
    #[field(max = 255, brand = "ldw", client = "ldw")]
    pub regexp: Option<String>,
    /// The number, without its country's code; only with the type number.
    #[field(max = 25, brand = "ldw", client = "ldw")]
    pub numbervalue: Option<String>,
    /// What is compared, for lists: the expression, or the country's code and the number. The platform keeps
    /// it.
    #[field(max = 255, default = String::new(), brand = "ldw", client = "ldw")]
    pub match_pattern: Option<String>,
    /// The match list; it cannot be changed later.
    #[field(delete = "cascade", index, brand = "ldw", client = "ldw")]
    pub match_list: Id<MatchList>,
    /// The country of the number.
    #[field(delete = "clear", brand = "ldw", client = "ldw")]
    pub number_country: Option<Id<Country>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lgcud")
        .acl()
        .order(&["type", "description"])
        .read(&[Rule::Visible("matchList")]),
    Access::at(Level::Client, "lgcud")
        .acl()
        .order(&["type", "regexp"])
        .read(&[Rule::Visible("matchList")])
        .write(&[Rule::Where(in_own_list)]),
];

choice! {
    /// What a match list's pattern is.
    pub enum MatchListPatternKind {
        /// One number.
        Number = "number",
        /// A regular expression.
        Regexp = "regexp",
    }
}

fn in_own_list(row: &dyn Record, caller: &Caller, rows: &Rows) -> bool {
    row.reference("matchList")
        .and_then(|id| rows.get(Id::<MatchList>::new(id)))
        .is_some_and(|list| list.company.is_some() && list.company.map(Id::get) == caller.company)
}

impl Rules for MatchListPattern {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if old.is_some_and(|old| old.match_list != self.match_list) {
            check.forbid("a pattern stays in its match list; delete it here and add it there");
        }
        match self.kind {
            MatchListPatternKind::Number => self.check_number(old, check),
            MatchListPatternKind::Regexp => self.check_regexp(old, check),
        }
    }
}

impl MatchListPattern {
    fn check_number(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        self.regexp = None;
        let number = self.numbervalue.as_deref().unwrap_or_default();
        if differs(self, old, "type")
            || differs(self, old, "numbervalue")
            || differs(self, old, "numberCountry")
        {
            check.require(digits(number), "numbervalue", "write digits only, without the country's code");
            check.require(self.number_country.is_some(), "numberCountry", "choose the number's country");
        }
        let country = check.rows.at(self.number_country);
        let code = country.and_then(|country| country.country_code.as_deref()).unwrap_or_default();
        self.match_pattern = Some(format!("{code} {number}"));
    }

    fn check_regexp(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        (self.numbervalue, self.number_country) = (None, None);
        let regexp = self.regexp.clone().unwrap_or_default();
        if differs(self, old, "type") || differs(self, old, "regexp") {
            if regexp.is_empty() {
                check.wrong("regexp", r"write a regular expression, such as ^\+34 for a whole country");
            } else if let Err(fault) = pattern(&regexp) {
                check.wrong("regexp", format!("it is no regular expression: {fault}"));
            }
        }
        self.match_pattern = Some(regexp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(make: impl FnOnce(&mut MatchListPattern)) -> Result<MatchListPattern, Refusal> {
        let pattern = Id::new(1);
        change(|draft| draft.change(pattern, make)).map(|(_, rows, _)| rows.get(pattern).unwrap().clone())
    }

    fn to_regexp(regexp: &str) -> Result<MatchListPattern, Refusal> {
        changed(|pattern| {
            pattern.kind = MatchListPatternKind::Regexp;
            pattern.regexp = Some(regexp.to_owned());
        })
    }

    #[test]
    fn a_number_is_shown_with_its_countrys_code() {
        let pattern = changed(|pattern| {
            pattern.numbervalue = Some("600".to_owned());
            pattern.regexp = Some("(".to_owned());
            pattern.match_pattern = Some("anything".to_owned());
        });
        let pattern = pattern.unwrap();
        assert_eq!((pattern.match_pattern.as_deref(), pattern.regexp), (Some("+34 600"), None));
    }

    #[test]
    fn a_number_is_digits_of_some_country() {
        for number in [None, Some("+34600"), Some("")] {
            let refused = changed(|pattern| pattern.numbervalue = number.map(str::to_owned));
            assert!(matches!(refused, Err(Refusal::Invalid(_))), "{number:?}");
        }
        assert!(matches!(changed(|pattern| pattern.number_country = None), Err(Refusal::Invalid(_))));
    }

    #[test]
    fn a_regular_expression_is_kept_alone_when_it_can_be_read() {
        let pattern = to_regexp(r"^\+34").unwrap();
        assert_eq!(pattern.match_pattern.as_deref(), Some(r"^\+34"));
        assert_eq!((pattern.numbervalue, pattern.number_country), (None, None));
        assert!(matches!(to_regexp(""), Err(Refusal::Invalid(_))));
        assert!(matches!(to_regexp("^+34("), Err(Refusal::Invalid(_))));
    }

    #[test]
    fn a_pattern_stays_in_its_list() {
        assert!(matches!(changed(|pattern| pattern.match_list = Id::new(2)), Err(Refusal::Forbidden(_))));
    }
}
