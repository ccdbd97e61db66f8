//! Languages of announcements, mails and portals.
//!
//! Manual, chapters 8.1 and 9.1 ("Language"). They come with the platform.

use crate::prelude::*;

/// A language that brands, clients and users can choose.
#[derive(Clone, Debug, Entity)]
#[entity(path = "languages", access = ACCESS, unique(iden))]
pub struct Language {
    /// Number of the language.
    #[field(platform = "ld", brand = "ld", client = "ld")]
    pub id: Id<Language>,
    /// Its two letters (ISO 639-1); it occurs once.
    #[field(max = 100, platform = "ld", brand = "ld", client = "ld")]
    pub iden: String,
    /// Its name.
    #[field(max = 100, platform = "ld", brand = "ld", client = "ld")]
    pub name: Translated,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lg").acl().order(&["iden"]),
    Access::at(Level::Brand, "lg").acl().order(&["iden"]),
    Access::at(Level::Client, "lg").acl(),
];
