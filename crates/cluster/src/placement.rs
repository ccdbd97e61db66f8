//! Which node serves what: application servers for calls, relays for media, proxies for legs whose own one is gone.
//!
//! In: who is there, which of them are out of reach, the configuration. Out: nodes, the best first. Pure. Manual: "Media relay sets",
//! "Application Servers", and "Distribute method" of virtual PBXs. Elsewhere: what is done with the answer (`custody`, `switchboard`).

use crate::ids::{CallId, LegId, NodeId};
use crate::node::{NodeInfo, Role, View};
use crate::rendezvous::{self, Candidate};
use model::entities::{
    ApplicationServer, ApplicationServerSet, ApplicationServerSetDistributeMethod, CompanyDistributeMethod,
    MediaRelaySet, Rtpengine,
};
use model::{Client, Id, Snapshot};
use std::collections::BTreeSet;

/// Who is there, and who of them cannot be reached from here.
#[derive(Clone, Copy)]
pub struct Reach<'a> {
    /// All nodes, as known here.
    pub view: &'a View,
    /// Those to which there is no link.
    pub lost: &'a BTreeSet<NodeId>,
}

impl<'a> Reach<'a> {
    /// Nodes with this role that may get something new.
    fn ready(self, role: Role) -> impl Iterator<Item = &'a NodeInfo> {
        self.view.ready(role).map(AsRef::as_ref).filter(move |node| !self.lost.contains(&node.id))
    }
}

/// Application servers for a new call of a client, the best first: by its own method or its set's, "hash" (all calls of a client at one
/// server), round robin (`turn` grows from call to call) or "static" (the first of the set by number, for finding faults; a set of one
/// server does the same). Servers beyond the set come last, for a call that finds nobody is worse.
pub fn servers_for_new(reach: Reach<'_>, snapshot: &Snapshot, client: Id<Client>, turn: u64) -> Vec<NodeId> {
    let rows = snapshot.rows();
    let row = snapshot.client(client);
    let set = row.map_or(ApplicationServerSet::DEFAULT, |row| row.application_server_set);
    let own = row.map_or(CompanyDistributeMethod::Hash, |row| row.distribute_method);
    let of_all =
        rows.get(set).map_or(ApplicationServerSetDistributeMethod::Hash, |set| set.distribute_method);
    let (within, beyond) = of_set(reach, snapshot, set);
    let mut servers = match (own, of_all) {
        (CompanyDistributeMethod::Static, _) => {
            let some = within.iter().filter(|candidate| candidate.weight > 0);
            let mut all: Vec<NodeId> = some.map(|candidate| candidate.node).collect();
            all.sort_unstable();
            all
        }
        // Weighted, too: whoever has half the capacity gets half as many turns.
        (CompanyDistributeMethod::RoundRobin, _) | (_, ApplicationServerSetDistributeMethod::RoundRobin) => {
            rendezvous::order(&turn.to_be_bytes(), within.iter().copied())
        }
        (CompanyDistributeMethod::Hash, ApplicationServerSetDistributeMethod::Hash) => {
            by_client(client, &within)
        }
    };
    servers.extend(by_client(client, &beyond));
    servers
}

/// Application servers for a call whose own one is lost: where the client's other calls are, or, where those are spread, by the call.
pub fn servers_for_lost(
    reach: Reach<'_>,
    snapshot: &Snapshot,
    client: Option<Id<Client>>,
    call: CallId,
) -> Vec<NodeId> {
    let Some(client) = client else {
        let all: Vec<Candidate<'_>> = reach.ready(Role::As).map(NodeInfo::candidate).collect();
        return rendezvous::order(call.to_string().as_bytes(), all);
    };
    // The call's own number is as good a turn as any, and the same wherever it is asked.
    servers_for_new(reach, snapshot, client, call.counter())
}

/// The relay for a new media session: of the client's media relay set by the relays' weights, those of this zone first. Relays
/// that no set names are in the default one. `None`: there is no relay in reach.
pub fn relay(
    reach: Reach<'_>,
    snapshot: &Snapshot,
    client: Id<Client>,
    zone: &str,
    call: CallId,
    not: Option<NodeId>,
) -> Option<NodeId> {
    let set = snapshot.client(client).map_or(Id::new(0), |row| row.media_relay_set);
    let relays: Vec<&NodeInfo> = reach.ready(Role::Relay).filter(|node| Some(node.id) != not).collect();
    let rows = snapshot.rows();
    let listed: Vec<&Rtpengine> = rows.each::<Rtpengine>().collect();
    let weight_in = |node: &NodeInfo, set: Id<MediaRelaySet>| {
        let mut named = listed.iter().filter(|row| names(row, node)).peekable();
        if named.peek().is_none() {
            return if set.get() == 0 { node.capacity } else { 0 };
        }
        let own = named.filter(|row| row.media_relay_set == Some(set) && !row.disabled);
        own.map(|row| row.weight).max().unwrap_or(0)
    };
    let choose = |set: Id<MediaRelaySet>| {
        let weighted =
            relays.iter().map(|node| Candidate { weight: weight_in(node, set), ..node.candidate() });
        rendezvous::order_in_zone(call.to_string().as_bytes(), zone, weighted).first().copied()
    };
    // A set that is lost as a whole must not silence its clients.
    choose(set).or_else(|| choose(Id::new(0))).or_else(|| relays.first().map(|node| node.id))
}

/// Other proxies for a leg or a binding whose own one is gone, the best first: those of that one's zone.
pub fn proxies_instead(
    reach: Reach<'_>,
    zone: &str,
    name: &[u8],
    not: NodeId,
    transport: &str,
) -> Vec<NodeId> {
    let hears = |node: &&NodeInfo| {
        node.sip.iter().any(|address| {
            address.split(':').next().is_some_and(|token| token.eq_ignore_ascii_case(transport))
        })
    };
    let proxies = reach.ready(Role::Proxy).filter(|node| node.id != not).filter(hears);
    rendezvous::order_in_zone(name, zone, proxies.map(NodeInfo::candidate))
}

/// The name of a leg for [`proxies_instead`].
pub fn leg_name(leg: LegId) -> [u8; 8] {
    leg.as_u64().to_be_bytes()
}

fn by_client(client: Id<Client>, candidates: &[Candidate<'_>]) -> Vec<NodeId> {
    rendezvous::order(&client.get().to_be_bytes(), candidates.iter().copied())
}

/// The nodes that are servers of a set, and all others. A node is the application server whose row has its name or an address of
/// its; one that no row names belongs to the default set.
fn of_set<'a>(
    reach: Reach<'a>,
    snapshot: &Snapshot,
    set: Id<ApplicationServerSet>,
) -> (Vec<Candidate<'a>>, Vec<Candidate<'a>>) {
    let rows = snapshot.rows();
    let listed: Vec<&ApplicationServer> = rows.each::<ApplicationServer>().collect();
    let in_set: BTreeSet<u32> = rows
        .of::<model::entities::ApplicationServerSetRelApplicationServer>("applicationServerSet", set.get())
        .map(|pair| pair.application_server.get())
        .collect();
    let belongs = |node: &&NodeInfo| {
        let row = listed.iter().find(|row| row.name == node.name || host_of(&node.peer) == row.ip);
        match row {
            Some(row) => in_set.contains(&row.id.get()),
            None => set == ApplicationServerSet::DEFAULT,
        }
    };
    let (within, beyond): (Vec<&NodeInfo>, Vec<&NodeInfo>) = reach.ready(Role::As).partition(belongs);
    let candidates = |nodes: Vec<&'a NodeInfo>| nodes.into_iter().map(NodeInfo::candidate).collect();
    (candidates(within), candidates(beyond))
}

/// Whether a media relay's row means this node: its control socket is at an address of the node, or has its name.
fn names(row: &Rtpengine, node: &NodeInfo) -> bool {
    let socket = row.url.split_once(':').map_or("", |(_, address)| address.trim_start_matches('/'));
    let host = host_of(socket);
    host == node.name || host == host_of(&node.peer) || host.parse().is_ok_and(|ip| node.media.contains(&ip))
}

/// The host of `host:port`, without brackets.
fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Roles;
    use model::Configuration;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn node(id: u16, zone: &str) -> NodeInfo {
        NodeInfo {
            id: NodeId(id),
            name: format!("n{id}"),
            instance: 1,
            identity: u128::from(id),
            roles: Roles::ALL,
            zone: zone.to_owned(),
            capacity: 100,
            peer: format!("192.0.2.{id}:7400"),
            sip: vec![format!("udp:192.0.2.{id}:5060")],
            media: vec![[192, 0, 2, id as u8].into()],
            release: "1".to_owned(),
            protocol: (1, 1),
            draining: false,
            calls: 0,
            started_ms: 0,
        }
    }

    fn view(nodes: &[NodeInfo]) -> View {
        let nodes = nodes.iter().map(|node| (node.id, Arc::new(node.clone()))).collect();
        View { nodes, ..View::default() }
    }

    fn three() -> Vec<NodeInfo> {
        vec![node(1, "a"), node(2, "a"), node(3, "b")]
    }

    fn snapshot() -> Snapshot {
        Snapshot::build(&Configuration::demo()).unwrap()
    }

    const NOBODY: &BTreeSet<NodeId> = &BTreeSet::new();

    #[test]
    fn all_calls_of_a_client_go_to_one_server_and_to_the_next_when_it_is_lost() {
        let (view, snapshot, client) = (view(&three()), snapshot(), Id::new(1));
        let reach = Reach { view: &view, lost: NOBODY };
        let order = servers_for_new(reach, &snapshot, client, 0);
        assert_eq!(order.len(), 3);
        for turn in 1..50 {
            assert_eq!(servers_for_new(reach, &snapshot, client, turn), order);
        }
        let lost = BTreeSet::from([order[0]]);
        let reach = Reach { view: &view, lost: &lost };
        assert_eq!(servers_for_new(reach, &snapshot, client, 0), order[1..]);
        let call = CallId::new(NodeId(1), 9);
        assert_eq!(servers_for_lost(reach, &snapshot, Some(client), call), order[1..]);
    }

    #[test]
    fn by_turns_each_server_gets_calls_as_its_capacity_is() {
        let mut rows = snapshot().rows().clone();
        rows.insert(Arc::new(ApplicationServerSet {
            id: ApplicationServerSet::DEFAULT,
            distribute_method: ApplicationServerSetDistributeMethod::RoundRobin,
            ..ApplicationServerSet::default()
        }));
        let mut nodes = three();
        nodes[2].capacity = 200;
        let (view, snapshot) = (view(&nodes), Snapshot::new(rows));
        let reach = Reach { view: &view, lost: NOBODY };
        let first = (0..4000).map(|turn| servers_for_new(reach, &snapshot, Id::new(1), turn)[0]);
        let mut calls = BTreeMap::<NodeId, u32>::new();
        first.for_each(|node| *calls.entry(node).or_default() += 1);
        let shares: Vec<u32> = calls.values().map(|calls| (calls + 100) / 200).collect();
        assert_eq!(shares, [5, 5, 10], "{calls:?}");
    }

    #[test]
    fn a_client_may_have_a_method_of_its_own() {
        let view = view(&three());
        let with = |method| {
            let mut rows = snapshot().rows().clone();
            let client = snapshot().client(Id::new(1)).unwrap().clone();
            rows.insert(Arc::new(model::entities::Company { distribute_method: method, ..client }));
            let snapshot = Snapshot::new(rows);
            let first = |lost: &BTreeSet<NodeId>| -> BTreeSet<u16> {
                let reach = Reach { view: &view, lost };
                (0..100).map(|turn| servers_for_new(reach, &snapshot, Id::new(1), turn)[0].0).collect()
            };
            (first(NOBODY), first(&BTreeSet::from([NodeId(1)])))
        };
        assert_eq!(with(CompanyDistributeMethod::Static), (BTreeSet::from([1]), BTreeSet::from([2])));
        assert_eq!(with(CompanyDistributeMethod::RoundRobin).0, BTreeSet::from([1, 2, 3]));
        assert_eq!(with(CompanyDistributeMethod::Hash).0.len(), 1);
    }

    #[test]
    fn a_draining_node_gets_nothing_new() {
        let mut nodes = three();
        nodes[1].draining = true;
        let (view, snapshot) = (view(&nodes), snapshot());
        let reach = Reach { view: &view, lost: NOBODY };
        for number in 0..50 {
            let call = CallId::new(NodeId(1), number);
            assert!(!servers_for_new(reach, &snapshot, Id::new(number as u32), number).contains(&NodeId(2)));
            assert_ne!(relay(reach, &snapshot, Id::new(1), "a", call, None), Some(NodeId(2)));
            let name = leg_name(LegId::from_u64(number));
            assert_ne!(proxies_instead(reach, "a", &name, NodeId(1), "udp").first(), Some(&NodeId(2)));
        }
    }

    #[test]
    fn media_stay_in_the_zone_while_a_relay_is_there() {
        let (view, snapshot) = (view(&three()), snapshot());
        let reach = Reach { view: &view, lost: NOBODY };
        let choose = |reach, zone: &str, not| -> BTreeSet<u16> {
            let calls = (0..100).map(|number| CallId::new(NodeId(1), number));
            calls.map(|call| relay(reach, &snapshot, Id::new(1), zone, call, not).unwrap().0).collect()
        };
        assert_eq!(choose(reach, "a", None), BTreeSet::from([1, 2]));
        assert_eq!(choose(reach, "b", None), BTreeSet::from([3]));
        assert_eq!(choose(reach, "b", Some(NodeId(3))), BTreeSet::from([1, 2]));
        let lost = BTreeSet::from([NodeId(1), NodeId(2)]);
        assert_eq!(choose(Reach { view: &view, lost: &lost }, "a", None), BTreeSet::from([3]));
    }

    #[test]
    fn a_proxy_that_does_not_hear_the_transport_is_no_substitute() {
        let mut nodes = three();
        nodes[1].sip = vec!["tcp:192.0.2.2:5060".to_owned()];
        let view = view(&nodes);
        let reach = Reach { view: &view, lost: NOBODY };
        assert_eq!(proxies_instead(reach, "a", b"x", NodeId(1), "UDP").first(), Some(&NodeId(3)));
        assert_eq!(proxies_instead(reach, "b", b"x", NodeId(1), "tcp").first(), Some(&NodeId(2)));
        assert_eq!(proxies_instead(reach, "b", b"x", NodeId(1), "tls").first(), None);
    }

    #[test]
    fn rows_of_relays_mean_nodes_by_name_or_address() {
        let node = node(7, "a");
        let row = |url: &str| Rtpengine { url: url.into(), ..Rtpengine::default() };
        for right in ["udp:192.0.2.7:22222", "udp:n7:22222", "http://192.0.2.7:80"] {
            assert!(names(&row(right), &node), "{right}");
        }
        for wrong in ["udp:192.0.2.8:22222", "udp:n77:22222", "", "udp"] {
            assert!(!names(&row(wrong), &node), "{wrong}");
        }
    }
}
