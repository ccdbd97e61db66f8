//! Currencies of prices, costs and balances.
//!
//! Manual, chapter 8.6. Nothing is ever converted from one to another.

use crate::prelude::*;

/// A currency that brands, clients, carriers and rates can use.
#[derive(Clone, Debug, Entity)]
#[entity(path = "currencies", access = ACCESS, unique(iden))]
pub struct Currency {
    /// Number of the currency.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<Currency>,
    /// Its three letters (ISO 4217); it occurs once.
    #[field(max = 10, platform = "ldw", brand = "ld")]
    pub iden: String,
    /// The sign shown beside amounts.
    #[field(max = 5, platform = "ldw", brand = "ld")]
    pub symbol: String,
    /// Its name.
    #[field(max = 25, platform = "ldw", brand = "ld")]
    pub name: Translated,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgcud").acl().order(&["iden"]),
    Access::at(Level::Brand, "lg").acl().order(&["iden"]).write(&[Rule::Never]),
];
