//! Manufacturers of telephones.
//!
//! Manual, chapter 8.4. Elsewhere: their models (`terminal_model`).

use crate::prelude::*;

/// A manufacturer whose models can be provisioned.
#[derive(Clone, Debug, Entity)]
#[entity(path = "terminal_manufacturers", access = ACCESS, unique(iden))]
pub struct TerminalManufacturer {
    /// Number of the manufacturer.
    #[field(platform = "ld")]
    pub id: Id<TerminalManufacturer>,
    /// The word by which it is known; it occurs once.
    #[field(max = 100, platform = "ldw")]
    pub iden: String,
    /// Its name.
    #[field(max = 100, default = "", platform = "ldw")]
    pub name: String,
    /// A note for operators.
    #[field(max = 500, default = "", platform = "ldw")]
    pub description: String,
}

const ACCESS: &[Access] = &[Access::at(Level::Platform, "lgcud").acl().order(&["name"])];
