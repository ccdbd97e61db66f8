//! Every node of a cluster is restarted, one after the other, while calls come and go.
//!
//! Elsewhere: draining single nodes (`drains`), how many calls a second (crate `bench`).

use system_tests::cluster::{Cluster, TWO_OF_EACH};
use system_tests::load::Load;

#[test]
fn all_nodes_are_restarted_under_load_and_no_call_fails_and_no_record_is_lost_or_doubled() {
    let mut cluster = Cluster::start_apart(TWO_OF_EACH, 1);
    let mut load = Load::start(&cluster);
    load.goes_on();
    for name in ["a1", "r1", "p1", "a2", "r2", "p2"] {
        cluster.stop(name);
        cluster.restart(name);
        cluster.wait_until_all_links_are_up();
        load.goes_on();
    }
    load.finish(cluster, 0);
}
