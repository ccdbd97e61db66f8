//! The configuration's store: documents by entity and id, a revision log that nodes follow, and records, in a file or PostgreSQL.
//!
//! Rooms: `store` (the face), `batch` (one transaction), `appends` (several as one), `query` (questions and answers), `file` and `postgres` (the engines),
//! `document` (rows as stored), `keys` (sealing of secrets), `migrate` (formats), `fence` (owners), `backup`, `salvage`. Elsewhere: rows and
//! their rules (crate `model`), the journal of calls and bindings ([`crate::Store`]).

mod appends;
mod backup;
mod batch;
mod document;
mod engine;
mod error;
mod fence;
mod file;
mod keys;
mod media;
mod migrate;
mod postgres;
mod query;
mod salvage;
mod store;
#[cfg(test)]
mod tests;
mod token;

pub use backup::BackupSummary;
pub use batch::{Limits, Outcome, Takes};
pub use error::ConfigError;
pub use fence::{ClusterFacts, OwnerFence};
pub use keys::Keyring;
pub use postgres::{CallQuery, CallStanding, CallStory, CallTable, CallWord, PostgresPlace, UnlistedCall};
pub use query::{
    Changes, Keep, LogCursor, LogPage, LogQuery, LoggedChange, RecordFilter, RecordPage, RecordQuery,
    Revision,
};
pub use salvage::{Salvage, salvage};
pub use store::{ConfigOptions, ConfigPlace, ConfigStore, Turn};
pub use token::{InvalidToken, Token};
