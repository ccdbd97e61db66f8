//! Time zones.
//!
//! Manual, chapters 8.1 and 9.1 ("Timezone"). They come with the platform.

use crate::prelude::*;

/// A time zone in which moments are read and written.
#[derive(Clone, Debug, Entity)]
#[entity(path = "timezones", access = ACCESS)]
pub struct Timezone {
    /// Number of the time zone.
    #[field(platform = "ld", brand = "ld", client = "ld", user = "ld")]
    pub id: Id<Timezone>,
    /// Its name in the IANA database: Europe/Madrid.
    #[field(max = 255, platform = "ld", brand = "ld", client = "ld", user = "ld")]
    pub tz: String,
    /// What tells it from other zones of its country.
    #[field(max = 150, default = String::from(""), platform = "d", brand = "d", client = "d", user = "d")]
    pub comment: Option<String>,
    /// Its name for people.
    #[field(max = 20, platform = "d", brand = "d", client = "d", user = "d")]
    pub label: Translated,
    /// The country that it is in.
    #[field(delete = "clear", platform = "d", brand = "d", client = "d", user = "d")]
    pub country: Option<Id<Country>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lg").acl().unpaged(),
    Access::at(Level::Brand, "lg").acl().unpaged(),
    Access::at(Level::Client, "lg").acl().unpaged().write(&[Rule::Never]),
    Access::at(Level::User, "l").unpaged(),
];
