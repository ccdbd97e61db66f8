//! Legs whose calls nobody serves: for how long at a time, all the while.
//!
//! In: who serves which call, which legs proxies have. Out: a complaint where that lasts too long. Elsewhere: telephones that are left alone
//! (`verdict`), what else must never be (`watch`).

use crate::Time;
use crate::plan::{SECOND, Spot};
use crate::world::World;
use cluster::ids::NodeId;
use cluster::node::Role;
use std::collections::{BTreeMap, BTreeSet};

/// A leg of a proxy is without a call no longer than this, while there is an application server that could have it.
const ALONE: Time = 14 * SECOND;
/// One that is in nobody's custody any more is over, and waits for a last answer no longer than this (RFC 3261 section 17.1, timers B and F:
/// 32 s).
const OVER: Time = 36 * SECOND;

/// What is known of legs and those who serve their calls.
#[derive(Debug, Default)]
pub(crate) struct Alone {
    /// Processes that serve a call now, from their first note of it to its record.
    serving: BTreeMap<String, BTreeSet<(NodeId, u64)>>,
    /// Calls that have legs at a process and nobody who serves them; none: legs that are in nobody's custody.
    since: BTreeMap<(NodeId, u64, Option<String>), Time>,
    /// The longest that it lasted.
    longest: Time,
}

impl Alone {
    pub(crate) fn serves(&mut self, who: (NodeId, u64), call: &str) {
        self.serving.entry(call.to_owned()).or_default().insert(who);
    }

    /// Its record is durable, or another one has it.
    pub(crate) fn serves_no_more(&mut self, who: (NodeId, u64), call: &str) {
        if let Some(servers) = self.serving.get_mut(call) {
            servers.remove(&who);
        }
    }

    pub(crate) fn longest(&self) -> Time {
        self.longest
    }
}

impl World {
    /// Looks once at all legs.
    pub(crate) fn look_for_lonely_legs(&mut self) {
        let mut since = std::mem::take(&mut self.alone.since);
        let mut still = BTreeMap::new();
        for (node, machine) in &self.machines {
            // One that is cut off for good reaches neither a telephone nor the store.
            let acts = !machine.paused && !machine.is_dark;
            let Some(process) = machine.process.as_ref().filter(|_| acts) else { continue };
            let life = process.life;
            let kept = process.kept_legs();
            let counted: usize = kept.iter().map(|(_, legs)| legs).sum();
            let mut lonely: Vec<Option<String>> = Vec::new();
            if process.open().legs > counted {
                lonely.push(None);
            }
            let servers = self.servers_for(*node);
            for (call, _) in kept.into_iter().filter(|(_, legs)| *legs > 0) {
                let call = call.to_string();
                let serving = self.alone.serving.get(&call);
                let is_served = serving.is_some_and(|who| who.iter().any(|who| servers.contains(who)));
                if !is_served && !servers.is_empty() {
                    lonely.push(Some(call));
                }
            }
            for call in lonely {
                let key = (*node, life, call);
                let began = since.remove(&key).unwrap_or(self.now);
                still.insert(key, began);
            }
        }
        for ((node, _, call), began) in &still {
            let lasted = self.now - began;
            if call.is_some() {
                self.alone.longest = self.alone.longest.max(lasted);
            }
            if lasted > limit(call.as_ref()) {
                let of = call.as_deref().unwrap_or("that nobody has in custody");
                let text =
                    format!("node {} has a leg of a call {of} since {:.3}", node.0, *began as f64 / 1e6);
                self.watcher.complain(true, text);
            }
        }
        still.retain(|(_, _, call), began| self.now - *began <= limit(call.as_ref())); // once is enough
        self.alone.since = still;
    }

    /// Application servers that this node can speak to, each with its process.
    fn servers_for(&self, node: NodeId) -> BTreeSet<(NodeId, u64)> {
        let is_near = |other: NodeId| {
            let [here, there] = [Spot::Node(node), Spot::Node(other)];
            !self.is_cut(here, there) && !self.is_cut(there, here)
        };
        let of = self.machines.iter().filter(|(other, machine)| {
            machine.place.roles.has(Role::As) && !machine.paused && is_near(**other)
        });
        of.filter_map(|(other, machine)| {
            let process = machine.process.as_ref()?;
            (process.is_serving() && !process.is_leaving()).then_some((*other, process.life))
        })
        .collect()
    }
}

fn limit(call: Option<&String>) -> Time {
    if call.is_some() { ALONE } else { OVER }
}
