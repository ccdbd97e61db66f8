//! Destinations: what prefixes of numbers are called on invoices.
//! Manual, chapter 9.4.3 "Destinations". Elsewhere: what calls there cost ([`DestinationRate`]).

use crate::prelude::*;

/// Numbers with one prefix, under one name. Imported prices add the destinations that are missing.
#[derive(Clone, Debug, Entity)]
#[entity(path = "destinations", access = ACCESS, unique(prefix, brand), rules)]
pub struct Destination {
    /// Identifies the destination.
    #[field(brand = "ld")]
    pub id: Id<Destination>,
    /// How the numbers begin in E.164, with the plus sign; once in the brand. The longest prefix that fits a number
    /// counts.
    #[field(max = 24, brand = "ldw")]
    pub prefix: String,
    /// Its name, as invoices show it.
    #[field(max = 100, brand = "ldw")]
    pub name: Translated,
    /// The brand that it belongs to.
    #[field(delete = "cascade", index)]
    pub brand: Id<Brand>,
}

const ACCESS: &[Access] =
    &[Access::at(Level::Brand, "lgcud").acl().order(&["name.en"]).read(&[Rule::OwnBrand("brand")])];

impl Rules for Destination {
    fn check(&mut self, _: Option<&Self>, check: &mut Check<'_>) {
        let sound = self.prefix.strip_prefix('+').is_some_and(crate::checks::digits);
        check.require(sound, "prefix", "write a plus sign and digits, such as +34");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_prefix_is_a_plus_sign_and_digits() {
        let with = |prefix: &str| {
            change(|draft| draft.change(Id::<Destination>::new(1), |row| row.prefix = prefix.to_owned()))
        };
        assert!(with("+34").is_ok());
        for wrong in ["", "34", "+", "+34x"] {
            assert!(with(wrong).unwrap_err().to_string().starts_with("prefix: "), "{wrong}");
        }
        assert!(matches!(with("+94601"), Err(Refusal::Taken { .. })), "another destination has it");
    }
}
