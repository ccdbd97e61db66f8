//! Transformation rules: how one form of a number becomes another.
//! Manual, chapter 9.7.3 "Numeric transformations".

use crate::pattern::pattern;
use crate::prelude::*;

/// Rewrites the numbers that a pattern fits. Of the rules of one kind in a set, the first that fits is applied.
#[derive(Clone, Debug, Entity)]
#[entity(path = "transformation_rules", access = ACCESS, rules)]
pub struct TransformationRule {
    /// Identifies the rule.
    #[field(brand = "ld")]
    pub id: Id<TransformationRule>,
    /// Which numbers it is for.
    #[field(name = "type", brand = "ldw")]
    pub kind: TransformationRuleKind,
    /// What it does, in words.
    #[field(max = 64, default = "", brand = "ldw")]
    pub description: String,
    /// The order in which rules are tried, the lowest first.
    #[field(brand = "ldw")]
    pub priority: Option<u32>,
    /// The numbers that it fits: a regular expression in the syntax of Perl.
    #[field(max = 128, brand = "ldw")]
    pub match_expr: Option<String>,
    /// What takes the number's place; `\1` stands for what the first pair of brackets of the expression fits, and so
    /// on.
    #[field(max = 128, brand = "ldw")]
    pub replace_expr: Option<String>,
    /// The set that it belongs to; cannot be changed later.
    #[field(delete = "cascade", index, brand = "dw")]
    pub transformation_rule_set: Option<Id<TransformationRuleSet>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Brand, "lgcud")
    .acl()
    .order(&["description", "priority"])
    .read(&[Rule::Visible("transformationRuleSet")])
    .write(&[Rule::Where(of_own_brand)])];

choice! {
    /// Which numbers of which requests a transformation rule is for.
    pub enum TransformationRuleKind {
        /// The caller's, on the way into the platform.
        CallerIn = "callerin",
        /// The called one's, on the way into the platform.
        CalleeIn = "calleein",
        /// The caller's, on the way out of the platform.
        CallerOut = "callerout",
        /// The called one's, on the way out of the platform.
        CalleeOut = "calleeout",
    }
}

/// Whether the rule's set is of the caller's brand, and not everybody's.
fn of_own_brand(row: &dyn Record, caller: &Caller, rows: &Rows) -> bool {
    row.reference("transformationRuleSet")
        .and_then(|id| rows.get(Id::<TransformationRuleSet>::new(id)))
        .is_some_and(|set| set.brand.is_some() && set.brand.map(Id::get) == caller.brand)
}

impl Rules for TransformationRule {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if old.is_some_and(|old| old.transformation_rule_set != self.transformation_rule_set) {
            check.forbid("transformationRuleSet: a rule stays in its set; add another one to the other set");
        }
        let expressions = |row: &Self| (row.match_expr.clone(), row.replace_expr.clone());
        if old.is_some_and(|old| expressions(old) == expressions(self)) {
            return;
        }
        let Some(expression) = &self.match_expr else { return };
        match pattern(expression) {
            Err(why) => check.wrong("matchExpr", format!("this is no regular expression: {why}")),
            Ok(regex) => {
                let brackets = regex.captures_len() - 1;
                let wanted = greatest_reference(self.replace_expr.as_deref().unwrap_or_default());
                if wanted > brackets {
                    check.forbid(format!(
                        "replaceExpr: it refers to \\{wanted}, and matchExpr has {brackets} pairs of brackets; \
                         add brackets or change the reference"
                    ));
                }
            }
        }
    }
}

/// The greatest `\1`, `\2` and so on in a text; 0: there is none.
fn greatest_reference(text: &str) -> usize {
    let references = text.split('\\').skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        match &rest[..end] {
            "" => 0,
            number => number.parse().unwrap_or(usize::MAX),
        }
    });
    references.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn with(search: &str, replace: &str) -> Result<(), Refusal> {
        let row = TransformationRule {
            match_expr: Some(search.to_owned()),
            replace_expr: Some(replace.to_owned()),
            transformation_rule_set: Some(Id::new(1)),
            ..TransformationRule::default()
        };
        change(|draft| draft.create(row)).map(|_| ())
    }

    #[test]
    fn the_pattern_is_a_regular_expression() {
        assert_eq!(with(r"^(\+|00)([0-9]+)$", r"+\2"), Ok(()));
        let said = with("^([0-9]+$", r"\1").unwrap_err().to_string();
        assert!(said.starts_with("matchExpr: ") && said.contains("at character 10"), "{said}");
    }

    #[test]
    fn what_is_referred_to_is_in_brackets() {
        assert!(matches!(with("^[0-9]+$", r"\1"), Err(Refusal::Forbidden(_))));
        assert!(matches!(with("^([0-9]+)$", r"+\1\2"), Err(Refusal::Forbidden(_))));
        assert!(
            matches!(with("^(?:0)([0-9]+)$", r"\2"), Err(Refusal::Forbidden(_))),
            "these brackets do not count"
        );
        assert_eq!(with("^0([0-9]+)$", r"+34\1"), Ok(()));
        assert_eq!(with("^0([0-9]+)$", "112"), Ok(()));
    }

    #[test]
    fn a_rule_stays_in_its_set() {
        let id = Id::<TransformationRule>::new(1);
        let moved = change(|draft| draft.change(id, |row| row.transformation_rule_set = Some(Id::new(2))));
        assert!(matches!(moved, Err(Refusal::Forbidden(_))));
        assert!(change(|draft| draft.change(id, |row| row.priority = Some(9))).is_ok());
    }
}
