//! Features: parts of the platform that are given to brands and clients.
//!
//! Manual, chapters 8.1 and 9.1. They come with the platform.

use crate::prelude::*;

/// A part of the platform that a brand or a client has or lacks: queues, recordings, billing, a type of
/// clients.
#[derive(Clone, Debug, Entity)]
#[entity(path = "features", access = ACCESS, unique(iden))]
pub struct Feature {
    /// Number of the feature.
    #[field(platform = "ld", brand = "ld", client = "d")]
    pub id: Id<Feature>,
    /// The word by which rules know it; it occurs once.
    #[field(max = 100, platform = "ldw", brand = "ld", client = "d")]
    pub iden: String,
    /// Its name for people.
    #[field(max = 50, platform = "ldw", brand = "ld", client = "d")]
    pub name: Translated,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgcud").acl().order(&["iden"]),
    Access::at(Level::Brand, "lg").acl().order(&["iden"]),
];

impl Feature {
    /// Rates, prices and balances.
    pub(crate) const BILLING: &str = "billing";
    /// Clients of the residential type.
    pub(crate) const RESIDENTIAL: &str = "residential";
    /// Clients of the retail type.
    pub(crate) const RETAIL: &str = "retail";
    /// Those that make sense for vPBX clients only.
    pub(crate) const VPBX_ONLY: [&str; 2] = ["operatorPanel", "webhooks"];
}
