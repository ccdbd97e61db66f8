//! Every configuration entity, one file each: its fields, who may do what with it, and its rules.
//!
//! The list is made from the files of this directory (`build.rs`). Elsewhere: what a definition is made of
//! ([`crate::define`]), what rules may do ([`crate::rules`]).

use crate::define::Table;
use std::sync::LazyLock;

include!(concat!(env!("OUT_DIR"), "/entities.rs"));

/// An entity's place in [`TABLES`].
pub trait Numbered {
    /// The place.
    const INDEX: usize;
}

/// The tables of all entities.
pub static TABLES: LazyLock<Vec<&'static Table>> = LazyLock::new(found);

/// The table of the entity with this name: "Carrier".
pub fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name).copied()
}
