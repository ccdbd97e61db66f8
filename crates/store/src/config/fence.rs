//! Fences: whoever owned something and does so no more changes nothing, however late he comes.
//!
//! A fence orders the owners of one thing; the store remembers the largest of each, in the transaction of the write that it came with.
//! Elsewhere: who owns what, and where fences come from (crate `cluster`).

use super::error::ConfigError;

/// By what right an owner writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerFence {
    /// What sort of thing it is, such as `housekeeping`.
    pub kind: String,
    /// Which of them.
    pub key: u32,
    /// A later owner's is larger.
    pub fence: u64,
}

impl OwnerFence {
    /// For people, and for a file's table of numbers.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.kind, self.key)
    }

    pub(super) fn refused(&self) -> ConfigError {
        ConfigError::Fenced { what: self.name(), fence: self.fence }
    }
}

/// What nodes of a cluster must agree upon before they share anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterFacts {
    /// The cluster that the database belongs to, drawn when its tables were made.
    pub id: u128,
    /// Where it meets in etcd, as its first node said. Whoever says something else would be another cluster on the same data.
    pub prefix: String,
    /// The largest fence of all that came with a write: those of an etcd that was set up anew begin above it.
    pub largest_fence: u64,
}
