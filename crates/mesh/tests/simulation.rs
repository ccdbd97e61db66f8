//! Two nodes on a simulated network with partitions (also of one direction) and crashes by a seed: within a session everything arrives
//! in order, and when the network is well again, so are the links.

#![allow(clippy::unwrap_used, reason = "in a test")]

mod common;

use cluster::between::{DirectoryItem, FromRelay, ToCalls, ToLegs, ToRelay};
use cluster::ids::NodeId;
use cluster::link::Lost;
use common::{APPLICATION, PROXY, config, down, up};
use mesh::peer::{Accept, Connect, Io, PeerAddress, PeerSink, Peers, Way};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use turmoil::Sim;
use turmoil::net::{TcpListener, TcpStream};

struct SimulatedConnect;

#[async_trait::async_trait]
impl Connect for SimulatedConnect {
    async fn connect(&self, address: &str) -> io::Result<Box<dyn Io>> {
        Ok(Box::new(TcpStream::connect(address.to_owned()).await?))
    }
}

struct SimulatedAccept(TcpListener);

#[async_trait::async_trait]
impl Accept for SimulatedAccept {
    async fn accept(&mut self) -> io::Result<(Box<dyn Io>, SocketAddr)> {
        let (stream, from) = self.0.accept().await?;
        Ok((Box::new(stream), from))
    }
}

/// What a node knows of the session with the other one.
#[derive(Default)]
struct Session {
    open: bool,
    sent: u32,
    got: u32,
    /// Over all sessions and lives.
    lost: u32,
    items: u32,
}

/// Numbers begin anew with each session on both sides, so that an item of another one shows.
#[derive(Default)]
struct End(Mutex<Session>);

impl End {
    fn got(&self, number: u32) {
        let mut session = self.0.lock();
        assert!(session.open, "an item without session");
        assert_eq!(number, session.got + 1, "in order, each once, none missing, none of another session");
        session.got = number;
        session.items += 1;
    }
}

impl PeerSink for End {
    fn to_calls(&self, _: NodeId, item: ToCalls) {
        let ToCalls::LegLost { title, .. } = item else { panic!("{item:?}") };
        self.got(title.epoch);
    }

    fn to_legs(&self, _: NodeId, item: ToLegs) {
        let ToLegs::Part { title, .. } = item else { panic!("{item:?}") };
        self.got(title.epoch);
    }

    fn to_relay(&self, _: NodeId, item: ToRelay) {
        panic!("{item:?}");
    }

    fn from_relay(&self, _: NodeId, item: FromRelay) {
        panic!("{item:?}");
    }

    fn directory(&self, _: NodeId, item: DirectoryItem) {
        panic!("{item:?}");
    }

    fn lost(&self, _: NodeId, way: Way, _: Lost) {
        if way != Way::Directory {
            let mut session = self.0.lock();
            assert!(session.open, "what is lost was there");
            session.open = false;
            session.lost += 1;
        }
    }

    fn back(&self, _: NodeId, way: Way) {
        if way != Way::Directory {
            let mut session = self.0.lock();
            assert!(!session.open, "one session at a time");
            (session.open, session.sent, session.got) = (true, 0, 0);
        }
    }
}

const PORT: u16 = 7400;

/// A life of a node: it sends an item each 20 ms while there is a session.
async fn live(number: u16, other: &'static str, end: Arc<End>) -> turmoil::Result {
    end.0.lock().open = false;
    let roles = if number == 1 { PROXY } else { APPLICATION };
    let listener = SimulatedAccept(TcpListener::bind(("0.0.0.0", PORT)).await?);
    let sink = Arc::clone(&end) as Arc<dyn PeerSink>;
    let peers = Peers::start(config(number, roles), listener, SimulatedConnect, sink);
    peers.set_view(&[PeerAddress {
        node: NodeId(3 - number),
        instance: None,
        address: format!("{other}:{PORT}"),
        roles: if number == 1 { APPLICATION } else { PROXY },
    }]);
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut session = end.0.lock();
        if session.open {
            let next = session.sent + 1;
            let sent = match number {
                1 => peers.leg_up(NodeId(2), up(next)).is_ok(),
                _ => peers.leg_down(NodeId(1), down(next)).is_ok(),
            };
            // It may have ended and not been told yet.
            session.sent += u32::from(sent);
        }
    }
}

fn world(seed: u64) -> (Sim<'static>, Arc<End>, Arc<End>) {
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(Duration::from_millis(5))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(40))
        .simulation_duration(Duration::from_secs(3600))
        .tcp_capacity(4096)
        .build();
    let (proxy, application) = (Arc::new(End::default()), Arc::new(End::default()));
    let end = Arc::clone(&proxy);
    sim.host("proxy", move || live(1, "application", Arc::clone(&end)));
    let end = Arc::clone(&application);
    sim.host("application", move || live(2, "proxy", Arc::clone(&end)));
    (sim, proxy, application)
}

fn pass(sim: &mut Sim<'_>, time: Duration) {
    let end = sim.elapsed() + time;
    while sim.elapsed() < end {
        sim.step().unwrap();
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Both have a session and go on telling each other things.
fn is_well(sim: &mut Sim<'_>, proxy: &End, application: &End, seed: u64) {
    pass(sim, ms(15_000));
    let count = |end: &End| {
        let session = end.0.lock();
        assert!(session.open, "seed {seed}: no session on a network that is well");
        session.items
    };
    let before = (count(proxy), count(application));
    pass(sim, ms(2_000));
    let after = (count(proxy), count(application));
    assert!(after.0 > before.0 + 50 && after.1 > before.1 + 50, "seed {seed}: {before:?}, {after:?}");
}

#[test]
fn a_short_partition_loses_nothing_and_a_long_one_loses_the_session() {
    let (mut sim, proxy, application) = world(1);
    pass(&mut sim, ms(3_000));
    let lost = |end: &End| end.0.lock().lost;
    assert!(proxy.0.lock().items > 50 && application.0.lock().items > 50);
    // Silence is noticed after three seconds; two more, and the node is lost.
    sim.partition("proxy", "application");
    pass(&mut sim, ms(2_000));
    sim.repair("proxy", "application");
    is_well(&mut sim, &proxy, &application, 1);
    assert_eq!((lost(&proxy), lost(&application)), (0, 0));
    sim.partition("proxy", "application");
    pass(&mut sim, ms(8_000));
    assert!(!proxy.0.lock().open && !application.0.lock().open);
    assert_eq!((lost(&proxy), lost(&application)), (1, 1));
    sim.repair("proxy", "application");
    is_well(&mut sim, &proxy, &application, 1);
    assert_eq!((lost(&proxy), lost(&application)), (1, 1));
}

#[test]
fn whatever_the_network_does_sessions_are_whole_and_links_heal() {
    let seeds = std::env::var("LINK_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(6);
    let mut lost = 0;
    for seed in 0..seeds {
        let (mut sim, proxy, application) = world(seed);
        let mut random = StdRng::seed_from_u64(seed);
        pass(&mut sim, ms(random.random_range(0..3000)));
        for _ in 0..10 {
            match random.random_range(0..6) {
                0 => sim.partition("proxy", "application"),
                1 => sim.partition_oneway("proxy", "application"),
                2 => sim.partition_oneway("application", "proxy"),
                3 => {
                    let who = if random.random() { "proxy" } else { "application" };
                    sim.bounce(who);
                }
                _ => sim.repair("proxy", "application"),
            }
            pass(&mut sim, ms(random.random_range(0..7000)));
        }
        sim.repair("proxy", "application");
        is_well(&mut sim, &proxy, &application, seed);
        lost += proxy.0.lock().lost;
    }
    assert!(lost > 0, "nothing that matters happened in {seeds} seeds");
}
