//! Corporations: groups of vPBX clients that call each other by extension.
//!
//! Manual, chapter 9.7.8. Elsewhere: the connections themselves (`friend`).

use crate::prelude::*;

/// A group of vPBX clients of one brand that may call each other's extensions.
#[derive(Clone, Debug, Entity)]
#[entity(path = "corporations", access = ACCESS, unique(name, brand))]
pub struct Corporation {
    /// Number of the corporation.
    #[field(brand = "ld")]
    pub id: Id<Corporation>,
    /// What operators call it; it occurs once within the brand.
    #[field(max = 255, brand = "ldw")]
    pub name: String,
    /// A note for operators.
    #[field(max = 255, brand = "ldw")]
    pub description: Option<String>,
    /// The brand of its clients.
    #[field(delete = "clear", index)]
    pub brand: Option<Id<Brand>>,
}

const ACCESS: &[Access] =
    &[Access::at(Level::Brand, "lgcud").acl().order(&["name"]).read(&[Rule::OwnBrand("brand")])];
