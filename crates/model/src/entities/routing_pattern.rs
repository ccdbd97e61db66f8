//! Routing patterns: destinations that outgoing routings are made for.
//! Manual, chapter 9.3.2 "Routing patterns".

use crate::prelude::*;

/// Numbers with one prefix. A call to the outside takes the routes of the patterns that fit its number.
#[derive(Clone, Debug, Entity)]
#[entity(path = "routing_patterns", access = ACCESS, rules)]
pub struct RoutingPattern {
    /// Identifies the pattern.
    #[field(brand = "ld")]
    pub id: Id<RoutingPattern>,
    /// How the numbers begin in E.164: a plus sign and digits; the plus sign alone fits all numbers.
    #[field(max = 80, brand = "ldw")]
    pub prefix: String,
    /// Its name; a new brand has one pattern for each country.
    #[field(max = 55, brand = "ldw")]
    pub name: Translated,
    /// Anything worth knowing about it.
    #[field(max = 55, brand = "ldw")]
    pub description: Translated,
    /// The brand that it belongs to.
    #[field(delete = "cascade", index)]
    pub brand: Id<Brand>,
}

const ACCESS: &[Access] =
    &[Access::at(Level::Brand, "lgcud").acl().order(&["name.en"]).read(&[Rule::OwnBrand("brand")])];

impl Rules for RoutingPattern {
    fn check(&mut self, _: Option<&Self>, check: &mut Check<'_>) {
        let sound = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        let right = self.prefix.strip_prefix('+').is_some_and(sound);
        check.require(right, "prefix", "write a plus sign and digits, such as +34");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_prefix_is_a_plus_sign_and_digits() {
        let with = |prefix: &str| {
            change(|draft| draft.change(Id::<RoutingPattern>::new(1), |row| row.prefix = prefix.to_owned()))
        };
        assert!(with("+34").is_ok());
        assert!(with("+").is_ok());
        for wrong in ["", "34", "+3x", "++34"] {
            assert!(with(wrong).unwrap_err().to_string().starts_with("prefix: "), "{wrong}");
        }
    }
}
