//! What can go wrong with the configuration's store, in words for its operator.
//!
//! Elsewhere: the journal's errors ([`crate::StoreError`]).

use super::token::Token;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

type Cause = Arc<dyn Error + Send + Sync>;

/// Why the store did not do what was asked. Unless it says otherwise, nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConfigError {
    /// Another process has the file open.
    #[error("{place} is in use by another process; stop that one, or choose another data directory")]
    Locked {
        /// The file.
        place: String,
    },
    /// The operating system refused.
    #[error("cannot {action}; check that the disk has space, works, and that this user may write there")]
    Io {
        /// What was tried, on which file.
        action: String,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The store does not hold what was written to it.
    #[error(
        "{place} is damaged: {what}; restore a backup, or let `carillon ctl salvage` write what can be read into one"
    )]
    Damaged {
        /// The file or database.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// A newer version of this program wrote it.
    #[error(
        "{place} has format {found}, this program knows formats up to {known}; use the version that wrote it, or a newer one"
    )]
    Newer {
        /// The file or database.
        place: String,
        /// The format that it has.
        found: u32,
        /// The newest format that we know.
        known: u32,
    },
    /// Secrets are sealed by a key that nobody gave us.
    #[error(
        "secrets are sealed by the key {key:?}, which is not configured; add it to the list of keys (the first one seals, all open)"
    )]
    UnknownKey {
        /// The key's name.
        key: String,
    },
    /// A key has the right name and other bytes.
    #[error(
        "the key {key:?} is not the one that sealed the secrets; give this key its old value, and a new value a new name"
    )]
    WrongKey {
        /// The key's name.
        key: String,
    },
    /// The list of keys is of no use.
    #[error("{0}")]
    BadKeys(String),
    /// The configuration names a place that cannot be one.
    #[error("{0}")]
    BadPlace(String),
    /// The database failed, and nothing was changed; the same may work later (503).
    #[error("the database failed to {action}; check that it runs, can be reached and has space")]
    Unavailable {
        /// What was tried.
        action: &'static str,
        /// What it said.
        #[source]
        source: Cause,
    },
    /// The database was lost while it wrote: the change is kept, or it is not. To learn which, commit it again with this
    /// token; it is never applied twice.
    #[error(
        "the database was lost while it wrote, and it is unknown whether the change is kept; look before you repeat it"
    )]
    OutcomeUnknown {
        /// The change's token.
        token: Token,
        /// What the database said last.
        #[source]
        source: Cause,
    },
    /// The database refused what it should have taken.
    #[error("the database refused to {action}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// What it said.
        #[source]
        source: Cause,
    },
    /// More than the store takes at once.
    #[error("{what} of {size} is too large; {max} are allowed: {remedy}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        max: usize,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A row that could be written and not be read again.
    #[error("{entity} {id} cannot be kept: {fault}")]
    Unreadable {
        /// The entity.
        entity: String,
        /// The row.
        id: u32,
        /// What is wrong with it.
        fault: String,
    },
    /// There is no such record.
    #[error("there is no {entity} {id}; it may have been removed meanwhile")]
    NoSuchRecord {
        /// The entity.
        entity: String,
        /// The record.
        id: u32,
    },
    /// The list cannot be made.
    #[error("{entity} cannot be listed by {field:?}: it is no record, or the field has no index")]
    NoIndex {
        /// The entity.
        entity: String,
        /// The field.
        field: String,
    },
    /// A backup can only be restored into a store that holds nothing.
    #[error("{place} is not empty; move it away (or name another schema) and restore into an empty one")]
    NotEmpty {
        /// The file or database.
        place: String,
    },
    /// A backup that cannot be read.
    #[error("the backup {} cannot be used: {what}", .file.display())]
    BadBackup {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// An old document cannot be brought to today's format.
    #[error(
        "{entity} {id} of format {from} cannot be brought to today's: {fault}; nothing was changed, the version that wrote it still reads it"
    )]
    Migration {
        /// The entity.
        entity: String,
        /// The row.
        id: u32,
        /// The format of the document.
        from: u32,
        /// Why not.
        fault: String,
    },
    /// Somebody else owns this now, and has written as its owner.
    #[error(
        "{what} has another owner by now (fence {fence} is old); this node has changed nothing and stops doing it"
    )]
    Fenced {
        /// What is owned.
        what: String,
        /// The fence of whoever came too late.
        fence: u64,
    },
    /// The store was closed, or a thread of it ended by a mistake of ours.
    #[error("the configuration's store is closed")]
    Closed,
}

impl ConfigError {
    /// The same request may work later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::OutcomeUnknown { .. })
    }

    pub(super) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source: Arc::new(source) }
    }

    pub(super) fn unavailable(action: &'static str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Unavailable { action, source: Arc::new(source) }
    }
}
