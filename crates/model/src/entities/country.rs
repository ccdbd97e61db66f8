//! Countries, with calling codes and the parts of the world that they are in.
//!
//! Manual, chapters 9.3.2 and 9.7.3. They come with the platform.

use crate::prelude::*;

/// A country, or a territory with a calling code of its own.
#[derive(Clone, Debug, Entity)]
#[entity(path = "countries", access = ACCESS, unique(code))]
pub struct Country {
    /// Number of the country.
    #[field(platform = "ld", brand = "ld", client = "ld", user = "ld")]
    pub id: Id<Country>,
    /// Its two letters (ISO 3166-1).
    #[field(max = 100, default = "", platform = "ld", brand = "ld", client = "ld", user = "ld")]
    pub code: String,
    /// Its calling code, with the plus sign: +34. Several countries may share one.
    #[field(max = 10, platform = "ld", brand = "ld", client = "ld", user = "ld")]
    pub country_code: Option<String>,
    /// Its name.
    #[field(max = 100, platform = "ld", brand = "ld", client = "ld", user = "ld")]
    pub name: Translated,
    /// The part of the world that it is in; a new brand gets a group of routing patterns for each.
    #[field(max = 55, platform = "d", brand = "d", client = "d", user = "d")]
    pub zone: Translated,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lg").acl().order(&["name.en"]).unpaged(),
    Access::at(Level::Brand, "lg").acl().order(&["name.en"]).unpaged().write(&[Rule::Never]),
    Access::at(Level::Client, "lg").acl().unpaged(),
    Access::at(Level::User, "l").unpaged(),
];
