//! What is told of links: their state and figures for operators, their troubles for the log.
//!
//! Elsewhere: where the figures are counted (`cluster::link`, `line`).

use cluster::ids::NodeId;
use cluster::link::Counts;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// What the other node is at the far end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// An application server; we are a custodian of its calls. What goes there is `leg_up`.
    Calls,
    /// A custodian of calls; we are an application server. What goes there is `leg_down`.
    Legs,
    /// A relay; we are an application server. What goes there is `to_relay`.
    Relay,
    /// An application server; we are its relay. What goes there is `from_relay`.
    Media,
    /// Any node. What goes there is `directory`.
    Directory,
}

impl Way {
    /// A short name, for metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Way::Calls => "calls",
            Way::Legs => "legs",
            Way::Relay => "relay",
            Way::Media => "media",
            Way::Directory => "directory",
        }
    }
}

/// A link as it is now.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// The other node.
    pub node: NodeId,
    /// What it is at this link.
    pub way: Way,
    /// As it introduced itself last: its name, process, release, and the protocol that is spoken. Empty before.
    pub name: String,
    /// See `name`.
    pub instance: u64,
    /// See `name`.
    pub release: String,
    /// See `name`.
    pub protocol: u32,
    /// Whether there is a session: items are taken.
    pub session: bool,
    /// Whether there is a connection.
    pub connected: bool,
    /// Items that wait for their acknowledgement.
    pub waiting_items: usize,
    /// Octets of those items.
    pub waiting_octets: usize,
    /// Items that could not be understood and were dropped.
    pub unread: u64,
    /// Figures.
    pub counts: Counts,
    /// Why there is no connection, as far as known.
    pub trouble: Option<String>,
}

/// How often the same trouble with the same node is logged.
const AGAIN: Duration = Duration::from_secs(60);
/// Troubles that are remembered.
const REMEMBERED: usize = 256;

/// Who troubled us how, and when that was logged.
#[derive(Default)]
pub(super) struct Sayings(Mutex<HashMap<(String, &'static str), Instant>>);

impl Sayings {
    /// Whether this trouble with somebody is to be logged now. Where too many have troubles, nothing new is logged for a while.
    pub(super) fn may(&self, who: String, what: &'static str) -> bool {
        let now = Instant::now();
        let mut said = self.0.lock();
        if said.len() >= REMEMBERED {
            said.retain(|_, at| now < *at + AGAIN);
        }
        if said.len() >= REMEMBERED && !said.contains_key(&(who.clone(), what)) {
            return false;
        }
        match said.get_mut(&(who.clone(), what)) {
            Some(at) if now < *at + AGAIN => false,
            Some(at) => {
                *at = now;
                true
            }
            None => {
                said.insert((who, what), now);
                true
            }
        }
    }
}
