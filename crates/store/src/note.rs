//! What a node of a cluster writes down of its calls: notes with the epoch of their owner, and records on their way to the database
//! that all nodes share.
//!
//! Elsewhere: keeping them here (`record`, `tables`), the shared table (`config::CallTable`).

use crate::tables::time_key;
use model::{Cdr, OpenCall};
use serde::{Deserialize, Serialize};

/// A note of a call that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallNote {
    /// What is known of it.
    pub call: OpenCall,
    /// How often the call had changed its owner when this node noted it.
    pub epoch: u32,
    /// What number this node had then; 0 in a note of before clusters.
    pub node: u16,
    /// When the process that noted it was last alive, in Unix microseconds; `None`: it is this one.
    pub left_us: Option<i64>,
}

/// A call of a cluster that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedCall {
    /// Its record.
    pub cdr: Cdr,
    /// How often the call had changed its owner.
    pub epoch: u32,
    /// The number of the last one.
    pub node: u16,
    /// Its owner died in the middle of it, and nobody carried it on: the end is a guess.
    pub is_lost: bool,
}

impl EndedCall {
    /// Its place among those that wait for the shared database.
    pub fn key(&self) -> UnsentKey {
        let Self { cdr, epoch, .. } = self;
        UnsentKey([&time_key(cdr.ended_us), epoch.to_be_bytes().as_slice(), cdr.call.as_bytes()].concat())
    }
}

/// The place of a record among those that wait for the shared database; they sort by the time of their ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnsentKey(pub(crate) Vec<u8>);

/// The place of a record among those whose calls are not in the API's lists yet; they sort by the time of their beginnings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnlistedKey(pub(crate) Vec<u8>);

/// A call that is not in the lists of calls yet: its place, and its record, or in words why that cannot be read.
pub type Unlisted<K> = (K, Result<Cdr, String>);
