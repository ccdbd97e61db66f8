//! Names of calls and legs, unique over all nodes and restarts of a platform.
//!
//! A name says where its owner lives, so that a message needs no directory to find it.

use std::fmt;
use std::str::FromStr;

/// One node of the platform; 1 when it stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u16);

/// What a person means by a call: two or more legs, one story, one call record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(u64);

/// One SIP dialog with the outside world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegId(u64);

const CALL_BITS: u32 = 48;
const LEG_BITS: u32 = 40;

impl CallId {
    /// The `counter`-th call of `node`. Counters start at a different place after each restart (see [`first_counter`])
    /// and have room for nine years.
    pub fn new(node: NodeId, counter: u64) -> Self {
        Self(u64::from(node.0) << CALL_BITS | counter & ((1 << CALL_BITS) - 1))
    }

    /// The node that made the name.
    pub fn node(self) -> NodeId {
        NodeId((self.0 >> CALL_BITS) as u16)
    }

    /// The name as a number, for the wire and for tables.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// The reverse of [`CallId::as_u64`].
    pub fn from_u64(raw: u64) -> Self {
        Self(raw)
    }

    /// The number of the call on its node: what an even spread over shards goes by.
    pub fn counter(self) -> u64 {
        self.0 & ((1 << CALL_BITS) - 1)
    }
}

impl LegId {
    /// The `counter`-th leg of a proxy's worker. Legs are not written down, so their counters may come round.
    pub fn new(node: NodeId, worker: u8, counter: u64) -> Self {
        Self(u64::from(node.0) << 48 | u64::from(worker) << LEG_BITS | counter & ((1 << LEG_BITS) - 1))
    }

    /// The node whose proxy owns the leg.
    pub fn node(self) -> NodeId {
        NodeId((self.0 >> 48) as u16)
    }

    /// The SIP worker of that proxy which carries the leg's transactions.
    pub fn worker(self) -> u8 {
        (self.0 >> LEG_BITS) as u8
    }

    /// The name as a number, for tables that want one (the owner of a client transaction).
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// The reverse of [`LegId::as_u64`].
    pub fn from_u64(raw: u64) -> Self {
        Self(raw)
    }
}

/// Where the counters of a process begin: microseconds since 2025. Names repeat only if a node that comes back has made
/// more than a million calls for each second of its life before.
pub fn first_counter(unix_us: u64) -> u64 {
    unix_us.saturating_sub(1_735_689_600_000_000)
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{:x}", self.0)
    }
}

impl fmt::Display for LegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "l{:x}", self.0)
    }
}

impl FromStr for CallId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text.strip_prefix('c').unwrap_or(text), 16).map(Self)
    }
}

impl FromStr for LegId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text.strip_prefix('l').unwrap_or(text), 16).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_home_and_survives_text() {
        let leg = LegId::new(NodeId(7), 3, 99);
        assert_eq!((leg.node(), leg.worker()), (NodeId(7), 3));
        assert_eq!(leg.to_string().parse::<LegId>().unwrap(), leg);
        assert_eq!(LegId::from_u64(leg.as_u64()), leg);
        let call = CallId::new(NodeId(7), 99);
        assert_eq!(call.to_string().parse::<CallId>().unwrap(), call);
        assert_eq!(CallId::from_u64(call.as_u64()), call);
    }

    #[test]
    fn a_restart_at_once_makes_other_names() {
        let start = 1_800_000_000_000_000;
        let name = |unix_us, calls| CallId::new(NodeId(1), first_counter(unix_us) + calls);
        // Ten thousand calls in half a second, and back after ten milliseconds.
        assert!(name(start, 10_000).0 < name(start + 510_000, 0).0);
        assert_eq!(name(start, 0).node(), NodeId(1));
    }
}
