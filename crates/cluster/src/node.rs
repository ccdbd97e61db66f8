//! What nodes say of themselves, and the view that each has of all: who is there, who owns what.
//!
//! In: other nodes' JSON, which is untrusted. Out: values whose sizes are bounded. Elsewhere: how they come to be known
//! ([`crate::member`]), which node is the best for something ([`crate::rendezvous`]).

use crate::ids::NodeId;
use crate::rendezvous::{self, Candidate};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

/// Longer JSON of a node is not read.
pub const JSON_MAX: usize = 16 * 1024;
const NAME_MAX: usize = 64;
const ADDRESS_MAX: usize = 300;
const ADDRESSES_MAX: usize = 32;
/// What a capacity may be at most: weights of all nodes are summed up.
pub const CAPACITY_MAX: u32 = 1_000_000;

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// SIP in and out.
    Proxy,
    /// The application server: calls.
    As,
    /// Media.
    Relay,
    /// REST, gRPC for operators, jobs.
    Portal,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Proxy, Self::As, Self::Relay, Self::Portal];

    /// As it is written in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::As => "as",
            Self::Relay => "relay",
            Self::Portal => "portal",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role; roles are proxy, as, relay and portal")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let text = text.trim();
        let is_it = |role: &Self| role.name().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(is_it).ok_or_else(|| UnknownRole(text.chars().take(NAME_MAX).collect()))
    }
}

/// A set of roles; as text `proxy,as`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

impl Roles {
    /// Every role: a node that stands alone.
    pub const ALL: Self = Self(0b1111);

    /// The set with this role, too.
    #[must_use]
    pub fn with(self, role: Role) -> Self {
        Self(self.0 | 1 << role as u8)
    }

    /// Whether the role is among them.
    pub fn has(self, role: Role) -> bool {
        self.0 & 1 << role as u8 != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The roles in the set.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        roles.into_iter().fold(Self::default(), Self::with)
    }
}

impl FromStr for Roles {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        text.split(',').map(str::parse).collect()
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Role::name).collect();
        f.write_str(&names.join(","))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Roles {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Role::name))
    }
}

impl<'de> Deserialize<'de> for Roles {
    /// Roles of later releases are left out.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Ok(names.iter().filter_map(|name| name.parse::<Role>().ok()).collect())
    }
}

/// What a node tells the others of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its number, unique in the cluster.
    #[serde(with = "number")]
    pub id: NodeId,
    /// For people.
    pub name: String,
    /// Drawn at each start of the process.
    pub instance: u64,
    /// The same through restarts: who may take over the number after a crash.
    #[serde(with = "hex")]
    pub identity: u128,
    /// What it does.
    pub roles: Roles,
    /// Where it stands.
    #[serde(default)]
    pub zone: String,
    /// Its weight among nodes of the same role.
    pub capacity: u32,
    /// Where other nodes reach it, "host:port".
    pub peer: String,
    /// Where telephones reach it, "udp:host:port".
    #[serde(default)]
    pub sip: Vec<String>,
    /// Where media go.
    #[serde(default)]
    pub media: Vec<IpAddr>,
    /// The version of the program, for people.
    #[serde(default)]
    pub release: String,
    /// The versions of the peers' protocol that it speaks, the first and the last.
    pub protocol: (u16, u16),
    /// It is about to leave: nothing new goes there.
    #[serde(default)]
    pub draining: bool,
    /// Calls that it has, as last told.
    #[serde(default)]
    pub calls: u32,
    /// When the process started, milliseconds since 1970.
    #[serde(default)]
    pub started_ms: u64,
}

/// JSON that is no node's.
#[derive(Debug, thiserror::Error)]
pub enum BadNode {
    /// It is not read at all.
    #[error("{0} bytes are too much for what a node says of itself ({JSON_MAX} at most)")]
    TooLarge(usize),
    /// It cannot be understood.
    #[error("what a node says of itself cannot be read")]
    Json(#[source] serde_json::Error),
    /// A field holds what it must not.
    #[error("{0} of a node is empty, too long, too large or has strange characters")]
    Field(&'static str),
}

impl NodeInfo {
    /// As it stands in etcd.
    pub fn to_json(&self) -> String {
        // Nothing in it can fail to be written: all keys are texts.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what a node wrote, of this or another release. Fields that we do not know are left out.
    ///
    /// # Errors
    ///
    /// It is too large, no JSON, or a field is beyond its bounds.
    pub fn from_json(json: &[u8]) -> Result<Self, BadNode> {
        if json.len() > JSON_MAX {
            return Err(BadNode::TooLarge(json.len()));
        }
        let info: Self = serde_json::from_slice(json).map_err(BadNode::Json)?;
        info.check()?;
        Ok(info)
    }

    /// Whether all fields are within their bounds.
    ///
    /// # Errors
    ///
    /// The name of the first that is not.
    pub fn check(&self) -> Result<(), BadNode> {
        let is_name = |text: &str| text.len() <= NAME_MAX && !text.chars().any(char::is_control);
        let is_address = |text: &String| {
            !text.is_empty() && text.len() <= ADDRESS_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let checks = [
            ("id", self.id.0 != 0),
            ("name", is_name(&self.name) && !self.name.is_empty()),
            ("zone", is_name(&self.zone)),
            ("release", is_name(&self.release)),
            ("capacity", self.capacity <= CAPACITY_MAX),
            ("peer", is_address(&self.peer)),
            ("sip", self.sip.len() <= ADDRESSES_MAX && self.sip.iter().all(is_address)),
            ("media", self.media.len() <= ADDRESSES_MAX),
            ("protocol", self.protocol.0 <= self.protocol.1),
        ];
        checks
            .into_iter()
            .find(|(_, is_good)| !is_good)
            .map_or(Ok(()), |(field, _)| Err(BadNode::Field(field)))
    }

    /// As one of several for a place.
    pub fn candidate(&self) -> Candidate<'_> {
        Candidate { node: self.id, weight: self.capacity, zone: &self.zone }
    }
}

/// Whether two ranges of protocol versions have one in common.
pub fn meets(ours: (u16, u16), theirs: (u16, u16)) -> bool {
    ours.0 <= theirs.1 && theirs.0 <= ours.1
}

/// A sort of things that have one owner in the cluster, such as `clients`: a short word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind([u8; Self::MAX]);

impl Kind {
    /// Letters of a kind at most.
    const MAX: usize = 16;
    /// Partitions of clients and brands.
    pub const CLIENTS: Self = Self::new("clients");
    /// What one node does for all, such as forgetting old log entries.
    pub const HOUSEKEEPING: Self = Self::new("housekeeping");
    /// Registrations at DDI providers, by the remainder of their numbers: which proxy keeps them.
    pub const REGISTRATIONS: Self = Self::new("registrations");

    /// The kind of this name.
    ///
    /// # Panics
    ///
    /// The name is not one to sixteen of `a-z` and `-`: for constants.
    pub const fn new(name: &str) -> Self {
        match Self::read(name.as_bytes()) {
            Some(kind) => kind,
            None => panic!("a kind is one to sixteen letters a-z and -"),
        }
    }

    /// The kind that a text names.
    pub fn parse(text: &str) -> Option<Self> {
        Self::read(text.as_bytes())
    }

    const fn read(name: &[u8]) -> Option<Self> {
        let mut kind = [0; Self::MAX];
        if name.is_empty() || name.len() > Self::MAX {
            return None;
        }
        let mut at = 0;
        while at < name.len() {
            if !(name[at].is_ascii_lowercase() || name[at] == b'-') {
                return None;
            }
            kind[at] = name[at];
            at += 1;
        }
        Some(Self(kind))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(Self::MAX);
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Orders the owners of one thing: a later one has a larger fence. It goes with every durable write that an owner makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub u64);

/// Who owns something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The node.
    pub node: NodeId,
    /// Which of its processes.
    pub instance: u64,
    /// The fence of its claim.
    pub fence: Fence,
}

/// Who is there and who owns what, as a node knows it at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The revision of etcd that it is of.
    pub revision: u64,
    /// All nodes that are there, draining ones, too.
    pub nodes: BTreeMap<NodeId, Arc<NodeInfo>>,
    /// All owners, by kind and key.
    pub owners: BTreeMap<(Kind, u32), Owner>,
}

impl View {
    /// The node of this number.
    pub fn node(&self, id: NodeId) -> Option<&Arc<NodeInfo>> {
        self.nodes.get(&id)
    }

    /// The first node of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.nodes.values().find(|node| node.name == name)
    }

    /// Nodes that have the role.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Arc<NodeInfo>> {
        self.nodes.values().filter(move |node| node.roles.has(role))
    }

    /// Nodes that have the role and may get something new.
    pub fn ready(&self, role: Role) -> impl Iterator<Item = &Arc<NodeInfo>> {
        self.with_role(role).filter(|node| !node.draining)
    }

    /// Who owns this.
    pub fn owner(&self, kind: Kind, key: u32) -> Option<&Owner> {
        self.owners.get(&(kind, key))
    }
}

/// The partition of a kind that a name belongs to.
pub fn partition_of(name: &[u8], count: u32) -> u32 {
    (rendezvous::stable_hash(name) % u64::from(count.max(1))) as u32
}

/// Which of `count` partitions of a kind the node should own among those of a role: proposed by weighted rendezvous over nodes that
/// do not drain. While there is none of these, who owns one keeps it.
pub fn partitions(view: &View, me: NodeId, kind: Kind, count: u32, role: Role) -> BTreeSet<u32> {
    let ready: Vec<Candidate<'_>> = view.ready(role).map(|node| node.candidate()).collect();
    let is_ours = |key: &u32| match rendezvous::best(&partition_name(kind, *key), ready.iter().copied()) {
        Some(best) => best == me,
        None => view.owner(kind, *key).is_some_and(|owner| owner.node == me),
    };
    (0..count).filter(is_ours).collect()
}

fn partition_name(kind: Kind, key: u32) -> [u8; Kind::MAX + 4] {
    let mut name = [0; Kind::MAX + 4];
    name[..Kind::MAX].copy_from_slice(&kind.0);
    name[Kind::MAX..].copy_from_slice(&key.to_le_bytes());
    name
}

mod number {
    use crate::ids::NodeId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &NodeId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(id.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NodeId, D::Error> {
        u16::deserialize(deserializer).map(NodeId)
    }
}

/// Numbers that are too large for other readers of JSON.
pub(crate) mod hex {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(number: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:032x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(id: u16) -> NodeInfo {
        NodeInfo {
            id: NodeId(id),
            name: format!("node-{id}"),
            instance: u64::MAX,
            identity: u128::MAX - 7,
            roles: Roles::default().with(Role::Proxy).with(Role::As),
            zone: "a".to_owned(),
            capacity: 100,
            peer: "10.0.0.1:7400".to_owned(),
            sip: vec!["udp:10.0.0.1:5060".to_owned()],
            media: vec!["10.0.0.1".parse().unwrap()],
            release: "0.1.0".to_owned(),
            protocol: (1, 2),
            draining: false,
            calls: 3,
            started_ms: 1_800_000_000_000,
        }
    }

    fn view(nodes: &[NodeInfo]) -> View {
        let nodes = nodes.iter().map(|node| (node.id, Arc::new(node.clone())));
        View { nodes: nodes.collect(), ..View::default() }
    }

    #[test]
    fn roles_are_a_set_with_a_text() {
        let roles: Roles = " proxy, AS".parse().unwrap();
        assert_eq!(roles.to_string(), "proxy,as");
        assert!(roles.has(Role::As) && !roles.has(Role::Relay));
        assert_eq!(Role::ALL.into_iter().collect::<Roles>(), Roles::ALL);
        assert_eq!("proxy,server".parse::<Roles>(), Err(UnknownRole("server".to_owned())));
    }

    #[test]
    fn what_a_node_says_survives_json_and_what_later_releases_say_is_tolerated() {
        let info = info(7);
        assert_eq!(NodeInfo::from_json(info.to_json().as_bytes()).unwrap(), info);
        let later =
            info.to_json().replace("\"proxy\"", "\"proxy\",\"oracle\"").replacen('{', "{\"mood\":[1],", 1);
        assert_eq!(NodeInfo::from_json(later.as_bytes()).unwrap(), info);
    }

    #[test]
    fn hostile_json_of_a_node_is_refused_by_the_name_of_the_field() {
        let refused = |change: &dyn Fn(&mut NodeInfo)| {
            let mut info = info(7);
            change(&mut info);
            NodeInfo::from_json(info.to_json().as_bytes()).unwrap_err().to_string()
        };
        assert!(refused(&|info| info.id = NodeId(0)).starts_with("id "));
        assert!(refused(&|info| info.name = "x".repeat(65)).starts_with("name "));
        assert!(refused(&|info| info.zone = "a\nb".to_owned()).starts_with("zone "));
        assert!(refused(&|info| info.capacity = u32::MAX).starts_with("capacity "));
        assert!(refused(&|info| info.peer = String::new()).starts_with("peer "));
        assert!(refused(&|info| info.sip = vec!["udp:a:1".to_owned(); 33]).starts_with("sip "));
        assert!(refused(&|info| info.protocol = (2, 1)).starts_with("protocol "));
        assert!(refused(&|info| info.name = "x".repeat(20_000)).contains("too much"));
        let deep = [b"[".repeat(10_000), b"]".repeat(10)].concat();
        assert!(matches!(NodeInfo::from_json(&deep), Err(BadNode::Json(_))));
    }

    #[test]
    fn kinds_are_short_words() {
        assert_eq!(Kind::parse("clients"), Some(Kind::CLIENTS));
        assert_eq!(Kind::parse("abcdefghijklmnop").unwrap().name(), "abcdefghijklmnop");
        for bad in ["", "Clients", "a/b", "abcdefghijklmnopq", "ä"] {
            assert_eq!(Kind::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn partitions_are_shared_by_those_that_do_not_drain_and_kept_while_all_do() {
        let (kind, count) = (Kind::CLIENTS, 256);
        let mut nodes = [info(1), info(2), info(3)];
        let of = |view: &View, id| partitions(view, NodeId(id), kind, count, Role::As);
        let before = view(&nodes);
        let all: BTreeSet<u32> = (1..=3).flat_map(|id| of(&before, id)).collect();
        assert_eq!((all.len(), (1..=3).map(|id| of(&before, id).len()).sum()), (256, 256));
        nodes[1].draining = true;
        let after = view(&nodes);
        assert!(of(&after, 2).is_empty());
        assert!(of(&before, 1).is_subset(&of(&after, 1)));
        nodes.iter_mut().for_each(|node| node.draining = true);
        let mut idle = view(&nodes);
        idle.owners.insert((kind, 9), Owner { node: NodeId(3), instance: 1, fence: Fence(4) });
        assert_eq!((of(&idle, 3), of(&idle, 1)), (BTreeSet::from([9]), BTreeSet::new()));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_of_a_stranger_make_a_node_that_is_out_of_bounds(
            at in 0_usize..400, byte in proptest::num::u8::ANY, cut in 0_usize..500, noise in ".{0,40}",
        ) {
            let mut json = info(7).to_json().into_bytes();
            let last = json.len() - 1;
            json[at.min(last)] = byte;
            json.truncate(cut);
            json.extend(noise.bytes());
            for text in [&json, noise.as_bytes()] {
                if let Ok(read) = NodeInfo::from_json(text) {
                    proptest::prop_assert!(read.check().is_ok());
                }
            }
        }
    }

    #[test]
    fn ranges_of_versions_meet_where_they_have_one_in_common() {
        assert!(meets((1, 2), (2, 3)) && meets((1, 5), (2, 3)) && meets((1, 1), (1, 1)));
        assert!(!meets((1, 2), (3, 4)) && !meets((3, 4), (1, 2)));
    }
}
