//! Special numbers: destinations of which calls leave no trace.
//!
//! Manual, chapters 8.9 and 9.7.2.

use crate::checks::{differs, digits, e164};
use crate::prelude::*;

/// An external number, such as a help line, to which outgoing calls are neither listed, rated nor recorded.
/// The platform's numbers apply in every brand.
#[derive(Clone, Debug, Entity)]
#[entity(path = "special_numbers", access = ACCESS, computed = COMPUTED, rules)]
pub struct SpecialNumber {
    /// Number of the entry.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<SpecialNumber>,
    /// The number as it is dialled within its country, without the calling code.
    #[field(max = 25, platform = "ldw", brand = "ldw")]
    pub number: String,
    /// The number with its country's calling code; it follows country and number.
    #[field(max = 35)]
    pub number_e164: Option<String>,
    /// 1: calls to it are not listed, rated or recorded. 0: they are treated like any other.
    #[field(name = "disableCDR", default = 1u32, high = 1, platform = "ldw", brand = "ldw")]
    pub disable_cdr: u32,
    /// The brand in which it applies; null: in all of them. This cannot be changed later.
    #[field(delete = "cascade", index)]
    pub brand: Option<Id<Brand>>,
    /// The country of the number.
    #[field(delete = "cascade", platform = "ldw", brand = "ldw")]
    pub country: Id<Country>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgcud").acl().order(&["country"]).read(&[Rule::Null("brand")]),
    Access::at(Level::Brand, "lgcud")
        .acl()
        .order(&["country"])
        .read(&[Rule::Any(&[Rule::OwnBrand("brand"), Rule::Null("brand")])])
        .write(&[Rule::OwnBrand("brand")]),
];

const COMPUTED: &[Computed] = &[Computed::new(
    "global",
    "Whether it is one of the platform's, which the brand cannot change.",
    How::Derived(global),
)
.at(Level::Brand, "ldw")];

/// Whether the number is one of the platform's.
fn global(row: &dyn Record, _: &Rows) -> Json {
    Json::Bool(row.named("brand").is_null())
}

impl Rules for SpecialNumber {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if differs(self, old, "number") {
            check.require(
                digits(&self.number),
                "number",
                "write the digits of the number, without its calling code",
            );
        }
        self.number_e164 = e164(check.rows, Some(self.country), &self.number);
        if old.is_some_and(|old| old.brand != self.brand) {
            check.wrong("brand", "a number stays with its brand, or with the platform; make another one");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_number_follows_its_country() {
        let new = |number: &str| SpecialNumber {
            number: number.into(),
            country: Id::new(68),
            ..SpecialNumber::default()
        };
        let (id, rows, _) = change(|draft| draft.create(new("118"))).unwrap();
        assert_eq!(rows.get(id).unwrap().number_e164.as_deref(), Some("+34118"));
        assert!(change(|draft| draft.create(new("+34118"))).is_err());
        assert!(change(|draft| draft.create(new(""))).is_err());
    }

    #[test]
    fn a_number_stays_with_its_owner() {
        let set = |id: u32, brand: Option<Id<Brand>>| {
            change(|draft| draft.change(Id::new(id), |row: &mut SpecialNumber| row.brand = brand))
        };
        assert!(set(1, Some(Id::new(1))).is_err());
        assert!(set(2, None).is_err());
        let rows = crate::testing::sample();
        let is_global = |id: u32| global(rows.get(Id::<SpecialNumber>::new(id)).unwrap(), &rows);
        assert_eq!((is_global(1), is_global(2)), (Json::Bool(true), Json::Bool(false)));
    }
}
