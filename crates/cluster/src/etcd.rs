//! What a member says to etcd and hears from it, as plain values, so that memory can take etcd's part.
//!
//! Elsewhere: who speaks ([`crate::member`]), who carries it (crate `mesh`).

/// Which answer belongs to which request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What is asked. Each is answered once, by a [`Response`] or a [`Failure`], but for a watch, which has updates until it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// All keys that begin so, as of one revision, not older than the request.
    Read {
        /// How they begin.
        prefix: String,
    },
    /// A new lease.
    Grant {
        /// How long it lives without being kept alive.
        seconds: u32,
    },
    /// Let a lease begin anew.
    KeepAlive {
        /// The lease.
        lease: i64,
    },
    /// End a lease and delete its keys.
    Revoke {
        /// The lease.
        lease: i64,
    },
    /// Do something if something is so.
    Txn(Txn),
    /// Tell changes; it takes the place of an earlier watch.
    Watch {
        /// How the keys begin.
        prefix: String,
        /// The first revision that is wanted.
        from: u64,
    },
}

/// All or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must all be so.
    pub when: Vec<Compare>,
    /// What is done then.
    pub then: Vec<Op>,
}

/// A condition on a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// There is none.
    Absent(String),
    /// It was last written at this revision.
    Modified(String, u64),
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write a key.
    Put {
        /// The key.
        key: String,
        /// What it holds.
        value: String,
        /// The lease that it ends with.
        lease: Option<i64>,
    },
    /// Delete a key.
    Delete {
        /// The key.
        key: String,
    },
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// What it holds.
    pub value: Vec<u8>,
    /// The lease that it ends with; 0: none.
    pub lease: i64,
    /// The revision at which it was last written.
    pub modified: u64,
}

/// The answer to a request that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To [`Request::Read`].
    Read {
        /// The revision that it is of.
        revision: u64,
        /// The keys.
        entries: Vec<Entry>,
    },
    /// To [`Request::Grant`].
    Granted {
        /// The lease.
        lease: i64,
        /// How long it lives; etcd may give more than was asked for.
        seconds: i64,
    },
    /// To [`Request::KeepAlive`].
    Alive {
        /// How long it lives from now; 0: it had ended.
        seconds: i64,
    },
    /// To [`Request::Revoke`]; also where there was none.
    Revoked,
    /// To [`Request::Txn`].
    Txn {
        /// Whether the conditions were met.
        succeeded: bool,
        /// The revision after it.
        revision: u64,
    },
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer came, or etcd cannot answer now: it may have been carried out, or may still be.
    Unknown(String),
    /// The lease that it was for has ended; nothing was done.
    LeaseGone,
    /// etcd will not do it, now or later.
    Refused(String),
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchUpdate {
    /// Changes, in the order of their revisions; all of a revision together.
    Changes(Vec<Change>),
    /// Revisions that were asked for are gone. The watch has ended.
    Compacted,
    /// It has ended, or its connection is lost.
    Ended,
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was written.
    Put(Entry),
    /// It was deleted, or its lease has ended.
    Deleted {
        /// The key.
        key: String,
        /// At which revision.
        revision: u64,
    },
}

impl Change {
    /// The revision of the change.
    pub fn revision(&self) -> u64 {
        match self {
            Self::Put(entry) => entry.modified,
            Self::Deleted { revision, .. } => *revision,
        }
    }
}
