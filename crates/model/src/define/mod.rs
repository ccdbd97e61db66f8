//! What an entity's definition is made of: the table that `#[derive(Entity)]` writes and all other code reads.
//!
//! Rooms: [`table`](self) (tables, fields, views), `value` (what a field holds, in and out), `access` (who may do what),
//! `group` (embedded values). Elsewhere: the definitions themselves ([`crate::entities`]), their rows ([`crate::rows`]).

mod access;
pub mod choices;
mod computed;
mod group;
mod table;
mod value;

pub use access::{Access, CompanyType, Level, Operations, Rule};
pub use computed::{Computed, Derive, How};
pub use group::{File, Group, GroupShape, ImportedFile, InvoiceAddress, Invoicing, Translated};
pub use table::{Entity, Field, OnDelete, Record, Table, View};
pub use value::{
    Attribute, Choice, Fault, Groups, Kind, LEAST_PASSWORD, Password, Reading, Secret, SecretHasher, Value,
    choice, parse_time, read_choice, shown_time,
};
