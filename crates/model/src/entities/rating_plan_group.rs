//! Rating plans: what calls cost, as clients and carriers are given it.
//! Manual, chapter 9.4.3 "Rating plans". Elsewhere: the rates within one ([`RatingPlan`]).

use crate::prelude::*;

/// A price list that clients are charged by, or carriers charge by.
#[derive(Clone, Debug, Entity)]
#[entity(path = "rating_plan_groups", access = ACCESS)]
pub struct RatingPlanGroup {
    /// Identifies the rating plan.
    #[field(brand = "ld", client = "ld")]
    pub id: Id<RatingPlanGroup>,
    /// Its name, as invoices show it.
    #[field(max = 55, brand = "ldw", client = "ld")]
    pub name: Translated,
    /// Anything worth knowing about it.
    #[field(max = 255, brand = "ldw", client = "d")]
    pub description: Translated,
    /// The brand that it belongs to.
    #[field(delete = "cascade", index)]
    pub brand: Id<Brand>,
    /// The currency of all its rates; null: the brand's.
    #[field(delete = "clear", brand = "ldw")]
    pub currency: Option<Id<Currency>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lgcud").acl().order(&["name.en"]).read(&[Rule::OwnBrand("brand")]),
    Access::at(Level::Client, "lg")
        .acl()
        .brand_feature("billing")
        .read(&[Rule::Where(in_own_profiles), Rule::OwnBrand("brand")])
        .write(&[Rule::Never]),
];

/// Whether the caller's client is charged by the rating plan, now or at another time.
fn in_own_profiles(row: &dyn Record, caller: &Caller, rows: &Rows) -> bool {
    rows.of::<RatingProfile>("company", caller.company.unwrap_or(0))
        .any(|profile| profile.rating_plan_group.get() == row.id())
}
