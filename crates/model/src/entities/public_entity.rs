//! Kinds of rows for which restricted administrators need grants.
//!
//! Manual, chapters 8.1.1, 8.2 and 9.1.5 ("ACLs"). They come with the platform.

use crate::prelude::*;

/// A kind of rows, and at which levels a restricted administrator needs a grant for it.
#[derive(Clone, Debug, Entity)]
#[entity(path = "public_entities", access = ACCESS, unique(iden), unique(fqdn))]
pub struct PublicEntity {
    /// Number of the kind.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<PublicEntity>,
    /// The word by which portals and the profile know it; it occurs once.
    #[field(max = 100, platform = "ld", brand = "ld")]
    pub iden: String,
    /// Its name within the system that this one takes the place of, kept for imports.
    #[field(max = 200, platform = "d", brand = "d")]
    pub fqdn: Option<String>,
    /// Whether it counts for administrators of the platform.
    #[field(default = false, platform = "d", brand = "d")]
    pub platform: bool,
    /// Whether it counts for administrators of brands.
    #[field(default = false, platform = "d", brand = "d")]
    pub brand: bool,
    /// Whether it counts for administrators of clients.
    #[field(default = false, platform = "d", brand = "d")]
    pub client: bool,
    /// Its name for people.
    #[field(max = 100, platform = "ld", brand = "ld")]
    pub name: Translated,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lg"),
    Access::at(Level::Brand, "lg").order(&["iden"]).read(&[Rule::Is("client", "1")]),
];
