//! Nodes are killed one after the other while calls come and go: conversations go on, each call has its record.
//!
//! Elsewhere: one conversation and each kind of death (`cluster`), how long it takes (crate `bench`, `survival`).

use system_tests::cluster::{Cluster, TWO_OF_EACH};
use system_tests::load::Load;

/// Calls that are being set up when a node dies: at five a second none, mostly.
const FAILURES: usize = 1;

#[test]
fn application_servers_and_relays_are_killed_under_load_and_conversations_go_on() {
    let mut cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    let mut load = Load::start(&cluster);
    load.goes_on();
    let nodes = ["a1", "r1", "a2", "r2"];
    for name in nodes {
        cluster.kill(name);
        load.goes_on();
        cluster.restart(name);
        cluster.wait_until_all_links_are_up();
        load.goes_on();
    }
    load.finish_after_deaths(cluster, nodes.len() * FAILURES);
}
