//! What stands in etcd below the prefix, as last read or told: the marker, nodes, owners.
//!
//! In: keys and values that anybody may have written. Out: a [`View`]; what cannot be read occupies its key and is not shown.

use crate::etcd::{Change, Entry};
use crate::ids::NodeId;
use crate::node::{Fence, Kind, NodeInfo, Owner, View, hex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// More nodes are not taken in.
const NODES_MAX: usize = 4096;
/// More owners are not taken in.
const OWNERS_MAX: usize = 1 << 17;
/// The marker and what owners write are short.
const SHORT: usize = 1024;

/// Whose the prefix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    #[serde(with = "hex")]
    pub(super) id: u128,
    pub(super) protocol: (u16, u16),
    /// Fences begin above this: etcd may have been set up anew, and counts from 1 then.
    #[serde(default)]
    pub(super) fences_from: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct OwnerText {
    pub(super) node: u16,
    pub(super) instance: u64,
}

/// A key that somebody holds.
#[derive(Clone, Debug)]
pub(super) struct Held<T> {
    /// What it says; `None`: nothing that can be read.
    pub(super) says: Option<T>,
    pub(super) lease: i64,
    pub(super) modified: u64,
}

/// Everything below the prefix.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub(super) revision: u64,
    pub(super) marker: Option<Held<Marker>>,
    pub(super) nodes: BTreeMap<NodeId, Held<Arc<NodeInfo>>>,
    pub(super) owners: BTreeMap<(Kind, u32), Held<OwnerText>>,
}

/// Names of keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// Ends with a slash.
    prefix: String,
}

enum Key {
    Marker,
    Node(NodeId),
    Owner(Kind, u32),
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: format!("{}/", prefix.trim_end_matches('/')) }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn marker(&self) -> String {
        format!("{}cluster", self.prefix)
    }

    pub(super) fn node(&self, id: NodeId) -> String {
        format!("{}nodes/{}", self.prefix, id.0)
    }

    pub(super) fn owner(&self, (kind, key): (Kind, u32)) -> String {
        format!("{}owners/{kind}/{key}", self.prefix)
    }

    /// A key is only taken as we would write it ourselves, so that no two stand for one thing.
    fn read(&self, key: &str) -> Option<Key> {
        let mut parts = key.strip_prefix(&self.prefix)?.split('/');
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| number.to_string() == text);
        let found = match (parts.next()?, parts.next(), parts.next(), parts.next()) {
            ("cluster", None, None, None) => Key::Marker,
            ("nodes", Some(id), None, None) => {
                Key::Node(NodeId(number(id).and_then(|id| u16::try_from(id).ok()).filter(|id| *id != 0)?))
            }
            ("owners", Some(kind), Some(key), None) => Key::Owner(Kind::parse(kind)?, number(key)?),
            _ => return None,
        };
        Some(found)
    }
}

impl Records {
    /// What was read at once.
    pub(super) fn read(keys: &Keys, revision: u64, entries: &[Entry]) -> Self {
        let mut records = Self { revision, ..Self::default() };
        for entry in entries {
            records.put(keys, entry);
        }
        records
    }

    /// Takes in what a watch told; says whether anything changed.
    pub(super) fn apply(&mut self, keys: &Keys, changes: &[Change]) -> bool {
        let known = self.revision;
        let mut is_changed = false;
        // After a resumption changes may come twice.
        for change in changes.iter().filter(|change| change.revision() > known) {
            self.revision = self.revision.max(change.revision());
            is_changed = true;
            match change {
                Change::Put(entry) => self.put(keys, entry),
                Change::Deleted { key, .. } => match keys.read(key) {
                    Some(Key::Marker) => self.marker = None,
                    Some(Key::Node(id)) => drop(self.nodes.remove(&id)),
                    Some(Key::Owner(kind, key)) => drop(self.owners.remove(&(kind, key))),
                    None => {}
                },
            }
        }
        is_changed
    }

    fn put(&mut self, keys: &Keys, entry: &Entry) {
        let (lease, modified) = (entry.lease, entry.modified);
        match keys.read(&entry.key) {
            Some(Key::Marker) => self.marker = Some(Held { says: short(&entry.value), lease, modified }),
            Some(Key::Node(id)) if self.nodes.contains_key(&id) || self.nodes.len() < NODES_MAX => {
                let info = NodeInfo::from_json(&entry.value).ok().filter(|info| info.id == id).map(Arc::new);
                self.nodes.insert(id, Held { says: info, lease, modified });
            }
            Some(Key::Owner(kind, key))
                if self.owners.contains_key(&(kind, key)) || self.owners.len() < OWNERS_MAX =>
            {
                self.owners.insert((kind, key), Held { says: short(&entry.value), lease, modified });
            }
            _ => {}
        }
    }

    /// The fence of a claim that was made at this revision.
    pub(super) fn fence(&self, modified: u64) -> Fence {
        let from = self.marker.as_ref().and_then(|held| held.says).map_or(0, |marker| marker.fences_from);
        Fence(from.saturating_add(modified))
    }

    pub(super) fn view(&self) -> View {
        let node = |(id, held): (&NodeId, &Held<Arc<NodeInfo>>)| Some((*id, Arc::clone(held.says.as_ref()?)));
        let owner = |(place, held): (&(Kind, u32), &Held<OwnerText>)| {
            let OwnerText { node, instance } = held.says?;
            Some((*place, Owner { node: NodeId(node), instance, fence: self.fence(held.modified) }))
        };
        View {
            revision: self.revision,
            nodes: self.nodes.iter().filter_map(node).collect(),
            owners: self.owners.iter().filter_map(owner).collect(),
        }
    }
}

fn short<T: for<'de> Deserialize<'de>>(value: &[u8]) -> Option<T> {
    if value.len() > SHORT {
        return None;
    }
    serde_json::from_slice(value).ok()
}

pub(super) fn owner_json(node: NodeId, instance: u64) -> String {
    format!("{{\"node\":{},\"instance\":{instance}}}", node.0)
}

impl Marker {
    pub(super) fn to_json(self) -> String {
        serde_json::to_string(&self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &str, modified: u64) -> Entry {
        Entry { key: key.to_owned(), value: value.as_bytes().to_vec(), lease: 5, modified }
    }

    #[test]
    fn keys_and_values_of_strangers_are_not_shown_and_occupy_their_places() {
        let keys = Keys::new("/carillon/");
        let mut records = Records::default();
        let strange = [
            entry("/carillon/owners/clients/7", "{\"node\":3}", 1),
            entry("/carillon/owners/clients/07", "{\"node\":3,\"instance\":4}", 2),
            entry("/carillon/owners/Clients/7", "{\"node\":3,\"instance\":4}", 3),
            entry("/carillon/nodes/0", "{}", 4),
            entry("/carillon/nodes/9", "[[[", 5),
            entry("/carillon/nodes/9/9", "{}", 6),
            entry("/other/nodes/9", "{}", 7),
        ];
        records.apply(&keys, &strange.map(Change::Put));
        assert_eq!(records.view(), View { revision: 7, ..View::default() });
        assert!(records.owners.contains_key(&(Kind::CLIENTS, 7)) && records.nodes.contains_key(&NodeId(9)));
        assert_eq!((records.owners.len(), records.nodes.len()), (1, 1));
    }

    #[test]
    fn changes_that_come_twice_change_nothing() {
        let keys = Keys::new("/carillon");
        let owner = (Kind::CLIENTS, 7);
        let put = Change::Put(entry(&keys.owner(owner), &owner_json(NodeId(3), 4), 6));
        let gone = Change::Deleted { key: keys.owner(owner), revision: 8 };
        let mut records = Records::default();
        assert!(records.apply(&keys, std::slice::from_ref(&put)));
        assert_eq!(records.view().owner(owner.0, owner.1).map(|owner| owner.fence), Some(Fence(6)));
        assert!(records.apply(&keys, &[put.clone(), gone]));
        assert!(!records.apply(&keys, &[put]));
        assert!(records.view().owners.is_empty());
    }
}
