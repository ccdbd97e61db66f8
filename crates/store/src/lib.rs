//! Durable configuration and records: a journal beside an embedded database.
//!
//! In: records and the configuration. Out: an acknowledgement of each record once it is on the disk, and queries.
//! Everything acknowledged survives the end of the process or the machine at any instant, and is there exactly once.
//!
//! A record goes to the journal first: one thread writes and syncs all that waits together. A second thread moves what
//! the journal holds into the database's tables once a second, with the journal position in the same transaction, and
//! then deletes the journal's old segments. Rooms: [`Store`] (the face), [`Record`] (what is kept, and its bytes),
//! `frame` (a segment's bytes), `journal` and `apply` (the two threads), `tables` (the database), `recovery` (what
//! opening does), `disk` (files), [`StoreError`]. A house of its own is [`config`]: rows of the configuration, their
//! change log and records, in another file or in PostgreSQL.

mod apply;
mod cdrs;
#[cfg(test)]
mod cluster_tests;
pub mod config;
#[cfg(test)]
mod crash_tests;
mod disk;
mod error;
mod frame;
mod journal;
mod note;
mod record;
mod record_v1;
mod recovery;
#[cfg(test)]
mod sim;
mod store;
mod tables;

pub use cdrs::{CdrCursor, CdrPage, CdrQuery, InvalidCursor};
pub use error::StoreError;
pub use note::{CallNote, EndedCall, Unlisted, UnlistedKey, UnsentKey};
pub use record::Record;
pub use store::{Load, Options, Store};
