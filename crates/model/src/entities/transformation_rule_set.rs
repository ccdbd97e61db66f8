//! Numeric transformations: sets of rules between the platform's form of numbers and that of others.
//! Manual, chapter 9.7.3 "Numeric transformations". Elsewhere: the rules of a set ([`TransformationRule`]).

use crate::checks::digits;
use crate::prelude::*;

/// How one part of the world writes numbers. Clients, endpoints, carriers and DDI providers have such a set each; the
/// platform itself has E.164.
#[derive(Clone, Debug, Entity)]
#[entity(path = "transformation_rule_sets", access = ACCESS, computed = COMPUTED, rules)]
pub struct TransformationRuleSet {
    /// Identifies the set.
    #[field(brand = "ld", client = "ld")]
    pub id: Id<TransformationRuleSet>,
    /// Anything worth knowing about it.
    #[field(max = 250, brand = "ldw", client = "ld")]
    pub description: Option<String>,
    /// What is dialled before numbers of other countries, such as 00; null or empty: nothing.
    #[field(max = 10, default = String::from("00"), brand = "ldw", client = "ld")]
    pub international_code: Option<String>,
    /// What is dialled before numbers of other areas of the country, such as 0; null or empty: nothing.
    #[field(max = 5, default = String::from(""), brand = "ldw", client = "ld")]
    pub trunk_prefix: Option<String>,
    /// The area that is left out in numbers dialled within it; null or empty: numbers are always whole.
    #[field(max = 5, default = String::from(""), brand = "ldw", client = "ld")]
    pub area_code: Option<String>,
    /// How many digits a whole number of the country has.
    #[field(default = 9u32, min = 1, high = 15, brand = "ldw", client = "ld")]
    pub national_len: Option<u32>,
    /// Replaces all rules of the set by ones made from these fields, and becomes false again.
    #[field(default = false, brand = "dw", client = "d")]
    pub generate_rules: Option<bool>,
    /// Its name.
    #[field(max = 100, brand = "ldw", client = "ld")]
    pub name: Translated,
    /// The brand that it belongs to; null: all brands have it, and cannot change it.
    #[field(delete = "cascade", index)]
    pub brand: Option<Id<Brand>>,
    /// The country whose numbers these are.
    #[field(delete = "cascade", brand = "dw", client = "d")]
    pub country: Option<Id<Country>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lgcud")
        .acl()
        .order(&["name.en"])
        .read(&[Rule::Any(&[Rule::OwnBrand("brand"), Rule::Null("brand")])])
        .write(&[Rule::OwnBrand("brand")]),
    Access::at(Level::Client, "lg")
        .acl()
        .read(&[Rule::Any(&[Rule::OwnBrand("brand"), Rule::Null("brand")])])
        .write(&[Rule::Never]),
];

const COMPUTED: &[Computed] = &[Computed::new(
    "editable",
    "It is the brand's own; those of all brands cannot be changed.",
    How::Derived(editable),
)
.at(Level::Brand, "ldn")];

/// Whether a brand has the set for itself.
fn editable(row: &dyn Record, _: &Rows) -> Json {
    Json::Bool(row.reference("brand").is_some())
}

impl Rules for TransformationRuleSet {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if old.is_some_and(|old| old.brand.is_some() != self.brand.is_some()) {
            check.forbid("brand: a brand's set stays a brand's, and one of all brands stays one of all");
        }
        let empty_or = |text: &Option<String>, fits: fn(&str) -> bool| {
            text.as_deref().is_none_or(|text| text.is_empty() || fits(text))
        };
        let code = empty_or(&self.international_code, |code| digits(code) && code.len() >= 2);
        check.require(code, "internationalCode", "write two to ten digits, such as 00");
        check.require(
            empty_or(&self.trunk_prefix, digits),
            "trunkPrefix",
            "write digits, or leave this empty",
        );
        check.require(empty_or(&self.area_code, digits), "areaCode", "write digits, or leave this empty");
        if self.generate_rules == Some(true) {
            check.require(self.country.is_some(), "country", "choose the country that rules are made for");
            let area = self.area_code.as_deref().unwrap_or_default().len();
            let longer = self.national_len().is_some_and(|length| length > area);
            check.require(
                longer,
                "nationalLen",
                "write how many digits a whole number has: more than the area code",
            );
        }
    }

    fn saved(&self, _: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        if self.generate_rules != Some(true) {
            return Ok(());
        }
        let rules = draft.rows().of::<TransformationRule>("transformationRuleSet", self.id.get());
        for rule in rules.map(|rule| rule.id).collect::<Vec<_>>() {
            draft.delete(rule)?;
        }
        for rule in self.generated(draft.rows()) {
            draft.create(rule)?;
        }
        draft.change(self.id, |set| set.generate_rules = Some(false))
    }
}

impl TransformationRuleSet {
    fn national_len(&self) -> Option<usize> {
        usize::try_from(self.national_len?).ok()
    }

    /// The rules that the set's fields make: both ways, for caller and callee.
    fn generated(&self, rows: &Rows) -> Vec<TransformationRule> {
        let code = rows.at(self.country).and_then(|country| country.country_code.clone()).unwrap_or_default();
        let length = self.national_len().unwrap_or_default();
        let (inward, outward) = (self.inward(&code, length), self.outward(&code, length));
        let kinds = [
            (TransformationRuleKind::CallerIn, &inward),
            (TransformationRuleKind::CalleeIn, &inward),
            (TransformationRuleKind::CallerOut, &outward),
            (TransformationRuleKind::CalleeOut, &outward),
        ];
        let rules = kinds.into_iter().flat_map(|(kind, rules)| rules.iter().map(move |rule| (kind, rule)));
        rules
            .map(|(kind, (priority, description, search, replace))| TransformationRule {
                kind,
                description: (*description).to_owned(),
                priority: Some(*priority),
                match_expr: Some(search.clone()),
                replace_expr: Some(replace.clone()),
                transformation_rule_set: Some(self.id),
                ..TransformationRule::default()
            })
            .collect()
    }

    /// From the forms of the country to E.164: priority, description, search and replacement.
    fn inward(&self, code: &str, length: usize) -> Vec<(u32, &'static str, String, String)> {
        let (international, trunk, area) = self.parts();
        let local = length.saturating_sub(area.len());
        let mut rules = vec![match international {
            "" => (1, "International number", r"^\+([0-9]+)$".to_owned(), r"+\1".to_owned()),
            _ => (
                1,
                "International number to E.164",
                format!(r"^(\+|{international})([0-9]+)$"),
                r"+\2".to_owned(),
            ),
        }];
        if !trunk.is_empty() {
            let search = format!("^{trunk}([0-9]{{{length}}})$");
            rules.push((2, "Number of another area to E.164", search, format!(r"{code}\1")));
        }
        if !area.is_empty() {
            let search = format!("^([0-9]{{{local}}})$");
            rules.push((3, "Number of the same area to E.164", search, format!(r"{code}{area}\1")));
        }
        rules.push((5, "National number to E.164", "^([0-9]+)$".to_owned(), format!(r"{code}\1")));
        rules
    }

    /// From E.164 to the forms of the country.
    fn outward(&self, code: &str, length: usize) -> Vec<(u32, &'static str, String, String)> {
        let (international, trunk, area) = self.parts();
        let local = length.saturating_sub(area.len());
        // The plus sign of the calling code means itself.
        let code = code.replace('+', r"\+");
        let mut rules = Vec::new();
        if !area.is_empty() {
            let search = format!("^{code}{area}([0-9]{{{local}}})$");
            rules.push((1, "E.164 to a number of the same area", search, r"\1".to_owned()));
        }
        if !trunk.is_empty() {
            let search = format!("^{code}([0-9]{{{length}}})$");
            rules.push((2, "E.164 to a number of another area", search, format!(r"{trunk}\1")));
        }
        rules.push((3, "E.164 to a national number", format!("^{code}([0-9]+)$"), r"\1".to_owned()));
        let replace =
            if international.is_empty() { r"+\1".to_owned() } else { format!(r"{international}\1") };
        rules.push((4, "E.164 to an international number", r"^\+([0-9]+)$".to_owned(), replace));
        rules
    }

    fn parts(&self) -> (&str, &str, &str) {
        (
            self.international_code.as_deref().unwrap_or_default(),
            self.trunk_prefix.as_deref().unwrap_or_default(),
            self.area_code.as_deref().unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, sample};

    fn changed(id: u32, make: impl FnOnce(&mut TransformationRuleSet)) -> Result<Rows, Refusal> {
        change(|draft| draft.change(Id::<TransformationRuleSet>::new(id), make)).map(|(_, rows, _)| rows)
    }

    /// The rules of a kind as a table.
    fn table(rows: &Rows, kind: TransformationRuleKind) -> Vec<String> {
        let rules =
            rows.of::<TransformationRule>("transformationRuleSet", 1).filter(|rule| rule.kind == kind);
        let line = |rule: &TransformationRule| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{} {} -> {}", rule.priority.unwrap(), text(&rule.match_expr), text(&rule.replace_expr))
        };
        rules.map(line).collect()
    }

    /// What a number becomes by the rules of a kind.
    fn apply(rows: &Rows, kind: TransformationRuleKind, number: &str) -> String {
        let mut rules: Vec<_> = rows
            .of::<TransformationRule>("transformationRuleSet", 1)
            .filter(|rule| rule.kind == kind)
            .collect();
        rules.sort_by_key(|rule| rule.priority);
        for rule in rules {
            let regex = crate::pattern::pattern(rule.match_expr.as_deref().unwrap()).unwrap();
            if let Some(found) = regex.captures(number).unwrap() {
                let mut text = rule.replace_expr.clone().unwrap();
                for place in 1..found.len() {
                    text = text.replace(&format!("\\{place}"), &found[place]);
                }
                return text;
            }
        }
        number.to_owned()
    }

    #[test]
    fn rules_of_a_country_without_prefixes_are_eight() {
        let rows = changed(1, |set| set.generate_rules = Some(true)).unwrap();
        let inward = [r"1 ^(\+|00)([0-9]+)$ -> +\2", r"5 ^([0-9]+)$ -> +34\1"];
        let outward = [r"3 ^\+34([0-9]+)$ -> \1", r"4 ^\+([0-9]+)$ -> 00\1"];
        assert_eq!(table(&rows, TransformationRuleKind::CallerIn), inward);
        assert_eq!(table(&rows, TransformationRuleKind::CalleeIn), inward);
        assert_eq!(table(&rows, TransformationRuleKind::CallerOut), outward);
        assert_eq!(table(&rows, TransformationRuleKind::CalleeOut), outward);
        assert_eq!(rows.get(Id::<TransformationRuleSet>::new(1)).unwrap().generate_rules, Some(false));
        let others = |rows: &Rows| rows.of::<TransformationRule>("transformationRuleSet", 2).count();
        assert_eq!(others(&rows), others(&sample()), "the rules of other sets stay");
    }

    #[test]
    fn rules_of_a_country_with_areas_lead_there_and_back() {
        let rows = changed(1, |set| {
            set.generate_rules = Some(true);
            set.trunk_prefix = Some("0".to_owned());
            set.area_code = Some("94".to_owned());
        })
        .unwrap();
        assert_eq!(rows.of::<TransformationRule>("transformationRuleSet", 1).count(), 16);
        for (dialled, e164) in [
            ("4048182", "+34944048182"),
            ("0911234567", "+34911234567"),
            ("0033123456789", "+33123456789"),
            ("112", "+34112"),
        ] {
            assert_eq!(apply(&rows, TransformationRuleKind::CalleeIn, dialled), e164);
            assert_eq!(apply(&rows, TransformationRuleKind::CalleeOut, e164), dialled);
        }
        assert_eq!(apply(&rows, TransformationRuleKind::CallerIn, "+33123456789"), "+33123456789");
    }

    #[test]
    fn without_an_international_code_only_a_plus_sign_leads_abroad() {
        let rows = changed(1, |set| {
            set.generate_rules = Some(true);
            set.international_code = Some(String::new());
        })
        .unwrap();
        assert_eq!(apply(&rows, TransformationRuleKind::CalleeIn, "911234567"), "+34911234567");
        assert_eq!(apply(&rows, TransformationRuleKind::CalleeIn, "+33123456789"), "+33123456789");
        assert_eq!(apply(&rows, TransformationRuleKind::CalleeOut, "+33123456789"), "+33123456789");
    }

    #[test]
    fn rules_are_made_for_a_country_and_a_length() {
        let fault = |make: fn(&mut TransformationRuleSet)| {
            let made = changed(1, |set| {
                set.generate_rules = Some(true);
                make(set);
            });
            made.unwrap_err().to_string()
        };
        assert!(fault(|set| set.country = None).starts_with("country: "));
        assert!(fault(|set| set.national_len = None).starts_with("nationalLen: "));
        assert!(changed(1, |set| set.country = None).is_ok(), "without rules they may be left out");
    }

    #[test]
    fn codes_are_digits() {
        for wrong in ["0", "+", "0x"] {
            let made = changed(1, |set| set.international_code = Some(wrong.to_owned()));
            assert!(made.unwrap_err().to_string().starts_with("internationalCode: "), "{wrong}");
        }
        let made = changed(1, |set| set.trunk_prefix = Some("a".to_owned()));
        assert!(made.unwrap_err().to_string().starts_with("trunkPrefix: "));
        let made = changed(1, |set| set.area_code = Some("9-4".to_owned()));
        assert!(made.unwrap_err().to_string().starts_with("areaCode: "));
    }

    #[test]
    fn a_set_stays_a_brands_or_everybodys() {
        assert!(matches!(changed(1, |set| set.brand = None), Err(Refusal::Forbidden(_))));
        assert!(matches!(changed(3, |set| set.brand = Some(Id::new(1))), Err(Refusal::Forbidden(_))));
    }

    #[test]
    fn a_brands_own_set_is_editable() {
        let rows = sample();
        let shown = |id| editable(rows.get(Id::<TransformationRuleSet>::new(id)).unwrap(), &rows);
        assert_eq!((shown(1), shown(3)), (Json::Bool(true), Json::Bool(false)));
    }
}
