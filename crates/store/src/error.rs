//! What can go wrong with a store, in words for its operator.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why the store did not do what was asked. Cheap to clone: one failure is told to everyone who waits.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another [`crate::Store`] of this one, has the directory open.
    #[error("the data directory {} is in use by another process; stop that one, or choose another directory", .dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The operating system refused. After a failed write the store refuses records until the disk works again.
    #[error("cannot {action}; check that the disk has space, works, and that this user may write there")]
    Io {
        /// What was tried, on which file.
        action: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A file does not hold what was written to it. Never reported for a write that a crash cut short.
    #[error("{} is damaged: {what}; restore the data directory from a backup, or move this file away to go on without its contents", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file of another version of this program.
    #[error("{} has format {found}, this program knows format {known}; use the version that wrote it", .file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// The format that it has.
        found: u32,
        /// The only format that we know.
        known: u32,
    },
    /// The database refused. It is opened anew and asked again until it works; the journal holds what it lacks meanwhile.
    #[error("the database failed to {action}; check that the disk has space and works")]
    Database {
        /// What was tried.
        action: &'static str,
        /// What the database said.
        #[source]
        source: Arc<redb::Error>,
    },
    /// Too many records wait for the disk. Nothing was kept; try later (503).
    #[error("too many records wait for the disk; it is too slow for this load")]
    Overloaded,
    /// The record is longer than any honest one.
    #[error("a record of {bytes} bytes is too long; {max} are allowed")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The store was closed, or a thread of it ended by a mistake of ours.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| StoreError::Io { action, source: Arc::new(source) }
    }
}
