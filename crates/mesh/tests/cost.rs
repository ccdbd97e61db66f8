//! What an item costs on a link, both ends together: `cargo test --release -p mesh --test cost -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement is told")]

mod common;

use cluster::between::{DirectoryItem, FromRelay, ToCalls, ToLegs, ToRelay};
use cluster::ids::NodeId;
use cluster::leg::LegEvent;
use cluster::link::Lost;
use common::{APPLICATION, Authority, PROXY, config, numbered};
use mesh::peer::{PeerAddress, PeerConfig, PeerSink, Peers, TcpAccept, TcpConnect, Tls, Way};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

#[derive(Default)]
struct Counter(AtomicU64);

impl PeerSink for Counter {
    fn to_calls(&self, _: NodeId, _: ToCalls) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn to_legs(&self, _: NodeId, _: ToLegs) {}
    fn to_relay(&self, _: NodeId, _: ToRelay) {}
    fn from_relay(&self, _: NodeId, _: FromRelay) {}
    fn directory(&self, _: NodeId, _: DirectoryItem) {}
    fn lost(&self, node: NodeId, way: Way, _: Lost) {
        panic!("{node:?} {way:?}");
    }
    fn back(&self, _: NodeId, _: Way) {}
}

/// Processor time of this process so far (proc(5): user and system, in hundredths of a second).
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

async fn start(config: PeerConfig, sink: Arc<dyn PeerSink>) -> (Peers, PeerAddress) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = PeerAddress { node: config.node, instance: None, address, roles: config.roles };
    (Peers::start(config, TcpAccept(listener), TcpConnect, sink), seen)
}

/// Sends items, at most so many in a turn of a millisecond, and tells the cost.
async fn measure(name: &str, tls: Option<(Tls, Tls)>, items: u64, turn: u64) {
    let (one, two) = tls.map_or((None, None), |(one, two)| (Some(one), Some(two)));
    let (proxy, _) = start(PeerConfig { tls: one, ..config(1, PROXY) }, Arc::new(Counter::default())).await;
    let counter = Arc::new(Counter::default());
    let sink = Arc::clone(&counter) as Arc<dyn PeerSink>;
    let (_application, seen) = start(PeerConfig { tls: two, ..config(2, APPLICATION) }, sink).await;
    proxy.set_view(&[seen]);
    let state = || proxy.links().into_iter().find(|link| link.way == Way::Calls).unwrap();
    while !state().session {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let sdp = bytes::Bytes::from(vec![b'a'; 1024]);
    let (title, leg) = numbered(1);
    let (began, used) = (Instant::now(), processor());
    let mut clock = tokio::time::interval(Duration::from_millis(1));
    let mut sent = 0;
    while sent < items {
        for _ in 0..turn {
            let event = LegEvent::Progress { status: 180, sdp: Some(sdp.clone()), fork: 0 };
            proxy.leg_up(NodeId(2), ToCalls::Event { title, leg, event }).unwrap();
            sent += 1;
        }
        if turn > 100 {
            while state().waiting_items > 10_000 {
                tokio::task::yield_now().await;
            }
        } else {
            clock.tick().await;
        }
    }
    while counter.0.load(Ordering::Relaxed) < items {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (took, used) = (began.elapsed(), processor() - used);
    let counts = state().counts;
    println!(
        "{name}: {items} items in {:.2} s = {:.0}/s, processor {:.2} us an item (both ends), {:.1} items a frame",
        took.as_secs_f64(),
        items as f64 / took.as_secs_f64(),
        used.as_secs_f64() * 1e6 / items as f64,
        counts.items_sent as f64 / counts.frames_sent as f64,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn cost_of_an_item() {
    let (authority, used) = (Authority::new(), processor());
    let mut clock = tokio::time::interval(Duration::from_millis(1));
    for _ in 0..3000 {
        clock.tick().await;
    }
    println!("a turn without items: {:.2} us", (processor() - used).as_secs_f64() * 1e6 / 3000.0);
    for tls in [false, true] {
        let name = if tls { "TLS" } else { "plain" };
        let pair = || tls.then(|| (authority.tls(), authority.tls()));
        measure(&format!("{name}, as fast as it goes"), pair(), 500_000, 1000).await;
        measure(&format!("{name}, 12 a millisecond"), pair(), 60_000, 12).await;
        measure(&format!("{name}, 1 a millisecond"), pair(), 5_000, 1).await;
    }
}
