//! What it costs to decide who serves what, by the cluster's own functions, with few nodes and with many.
//!
//! In: nothing. Out: nanoseconds for each decision. Elsewhere: the decisions (crate `cluster`, room `placement`), seals of dialogs
//! (crate `proxy`).

use crate::carillon;
use crate::sipload::Cast;
use crate::suite::Suite;
use crate::table::Figure;
use cluster::ids::{CallId, LegId, NodeId};
use cluster::node::{NodeInfo, Roles, View};
use cluster::placement::{self, Reach};
use cluster::rendezvous;
use model::{Id, Snapshot};
use proxy::SealKey;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Nodes of a cluster, each with all roles.
const SIZES: [u16; 3] = [3, 10, 100];
/// Decisions between two looks at the clock.
const BLOCK: u64 = 1000;

/// Measures every decision; the table.
pub(crate) fn run(suite: &Suite) -> io::Result<String> {
    let each = Duration::from_millis(if suite.quick { 50 } else { 300 });
    let cast = Cast {
        servers: Vec::new(),
        domain: "bench.example".to_owned(),
        users: 100,
        first_extension: 1000,
        secret: "bench-secret".to_owned(),
    };
    let snapshot = Snapshot::build(&carillon::configuration(&cast)?)
        .map_err(|error| io::Error::other(format!("{error:?}")))?;
    let (client, nobody) = (Id::new(1), BTreeSet::new());
    let views = SIZES.map(view);
    let of_sizes = |decision: &dyn Fn(Reach<'_>, u64) -> Option<NodeId>| {
        views.each_ref().map(|view| {
            let reach = Reach { view, lost: &nobody };
            measure(suite.rounds, each, &|turn| {
                black_box(decision(reach, turn));
            })
        })
    };
    let call = |turn| CallId::new(NodeId(1), turn);
    let mut text = "| decision, ns | 3 nodes | 10 nodes | 100 nodes |\n|---|---|---|---|\n".to_owned();
    let rows = [
        (
            "owner of a client's partition (rendezvous)",
            of_sizes(&|reach, turn| {
                rendezvous::best(&turn.to_be_bytes(), reach.view.nodes.values().map(|node| node.candidate()))
            }),
        ),
        (
            "application servers for a new call, by client (hash), all in order",
            of_sizes(&|reach, turn| {
                placement::servers_for_new(reach, &snapshot, client, turn).first().copied()
            }),
        ),
        (
            "application servers for a lost call, all in order",
            of_sizes(&|reach, turn| {
                placement::servers_for_lost(reach, &snapshot, Some(client), call(turn)).first().copied()
            }),
        ),
        (
            "relay for a call, by weight, zone first",
            of_sizes(&|reach, turn| placement::relay(reach, &snapshot, client, "a", call(turn), None)),
        ),
        (
            "another proxy for a leg, zone first",
            of_sizes(&|reach, turn| {
                placement::proxies_instead(reach, "a", &turn.to_be_bytes(), NodeId(1), "udp").first().copied()
            }),
        ),
    ];
    for (what, [few, some, many]) in rows {
        let _ = writeln!(text, "| {what} | {few:.0} | {some:.0} | {many:.0} |");
    }
    let key = SealKey([7; 32]);
    let seal = measure(suite.rounds, each, &|turn| {
        black_box(key.secret_of(LegId::new(NodeId(1), 0, turn)));
    });
    let _ = writeln!(
        text,
        "| seal of a leg's tag: made once, checked with each request in a dialog | {seal:.0} | | |"
    );
    Ok(text)
}

/// Nanoseconds of one decision: the median over rounds.
fn measure(rounds: usize, each: Duration, decide: &dyn Fn(u64)) -> f64 {
    let mut figure = Figure::default();
    for _ in 0..rounds.max(1) {
        let (begin, mut turn) = (Instant::now(), 0);
        while begin.elapsed() < each {
            for _ in 0..BLOCK {
                decide(turn);
                turn += 1;
            }
        }
        figure.push(begin.elapsed().as_nanos() as f64 / turn as f64);
    }
    figure.median().unwrap_or(0.0)
}

/// So many nodes in three zones, with capacities that differ.
fn view(size: u16) -> View {
    let node = |id: u16| NodeInfo {
        id: NodeId(id),
        name: format!("node-{id}"),
        instance: u64::from(id),
        identity: u128::from(id),
        roles: Roles::ALL,
        zone: ["a", "b", "c"][usize::from(id % 3)].to_owned(),
        capacity: 100 + u32::from(id % 5),
        peer: format!("192.0.2.{id}:7400"),
        sip: vec![format!("udp:192.0.2.{id}:5060"), format!("tcp:192.0.2.{id}:5060")],
        media: vec![[192, 0, 2, id as u8].into()],
        release: "1".to_owned(),
        protocol: (1, 1),
        draining: false,
        calls: 0,
        started_ms: 0,
    };
    View { nodes: (1..=size).map(|id| (NodeId(id), Arc::new(node(id)))).collect(), ..View::default() }
}
