//! Links between real nodes on loopback: everything arrives, once and in order, whatever happens to the connections.

#![allow(clippy::unwrap_used, reason = "in a test")]

mod common;
#[path = "../src/wire/tests/draw.rs"]
mod draw;

use cluster::between::{Capsule, KeptLeg, Stand, ToCalls};
use cluster::ids::NodeId;
use cluster::link;
use common::*;
use mesh::peer::{PeerConfig, SendError, Way};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_exchange_all_messages() {
    let proxy = Node::start(config(3, PROXY)).await;
    let application = Node::start(config(2, APPLICATION)).await;
    let relay = Node::start(config(1, RELAY)).await;
    let view = [proxy.seen(), application.seen(), relay.seen()];
    for node in [&proxy, &application, &relay] {
        node.peers.set_view(&view);
    }
    proxy.connects(&[(2, Way::Calls), (1, Way::Directory), (2, Way::Directory)]).await;
    application.connects(&[(3, Way::Legs), (1, Way::Relay), (1, Way::Directory), (3, Way::Directory)]).await;
    relay.connects(&[(2, Way::Media), (2, Way::Directory), (3, Way::Directory)]).await;
    assert_eq!(
        proxy.peers.leg_down(NodeId(2), down(1)),
        Err(SendError::NotConnected),
        "that goes the other way"
    );
    let mut draw = draw::Draw::new(4);
    for _ in 0..300 {
        let items = (
            draw.calls_item(),
            draw.legs_item(),
            draw.relay_item(),
            draw.media_item(),
            draw.directory_item(),
            draw.directory_item(),
        );
        let heard = |from, way, item: &dyn std::fmt::Debug| Heard::Item(from, way, format!("{item:?}"));
        let (one, two) = (heard(3, Way::Legs, &items.0), heard(2, Way::Calls, &items.1));
        proxy.peers.leg_up(NodeId(2), items.0).unwrap();
        application.peers.leg_down(NodeId(3), items.1).unwrap();
        application.hears(&[one]).await;
        proxy.hears(&[two]).await;
        let (one, two) = (heard(2, Way::Media, &items.2), heard(1, Way::Relay, &items.3));
        application.peers.to_relay(NodeId(1), items.2).unwrap();
        relay.peers.from_relay(NodeId(2), items.3).unwrap();
        relay.hears(&[one]).await;
        application.hears(&[two]).await;
        let (one, two) = (heard(1, Way::Directory, &items.4), heard(3, Way::Directory, &items.5));
        relay.peers.directory(NodeId(3), items.4).unwrap();
        proxy.peers.directory(NodeId(1), items.5).unwrap();
        proxy.hears(&[one]).await;
        relay.hears(&[two]).await;
    }
    let link = application.link(3, Way::Legs).unwrap();
    assert_eq!((link.name.as_str(), link.instance, link.unread), ("node-3", proxy.config.instance, 0));
    assert_eq!((link.counts.items_sent, link.counts.items_received, link.counts.lost), (300, 300, 0));
}

/// Sends numbered items as fast as the other side takes them.
async fn pour(node: &Node, other: u16, way: Way, count: u32) {
    for number in 0..count {
        if number % 500 == 0 {
            node.link_is(other, way, "the other side takes items", |link| link.waiting_items < 5000).await;
        }
        let sent = match way {
            Way::Calls => node.peers.leg_up(NodeId(other), up(number)),
            _ => node.peers.leg_down(NodeId(other), down(number)),
        };
        sent.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_while_connections_are_cut() {
    const COUNT: u32 = 100_000;
    // A machine that is busy with other things shall not be what a node is lost by.
    let patient = link::Settings { lost_after: LONG, silence: LONG, ..link::Settings::default() };
    let proxy = Node::start(PeerConfig { link: patient.clone(), ..config(1, PROXY) }).await;
    let application = Node::start(PeerConfig { link: patient, ..config(2, APPLICATION) }).await;
    for node in [&proxy, &application] {
        *node.ear.counting.lock() = Some(Vec::new());
    }
    let wire = Wire::to(application.address).await;
    proxy.peers.set_view(&[application.seen_at(wire.address)]);
    proxy.connects(&[(2, Way::Calls), (2, Way::Directory)]).await;
    application.connects(&[(1, Way::Legs), (1, Way::Directory)]).await;
    let cutting = async {
        loop {
            // Cut where something is on its way, and not before the link is there again.
            let pause = rand::random_range(5..60);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            wire.cut();
            proxy.link_is(2, Way::Calls, "connected again", |link| link.connected).await;
        }
    };
    let pouring = async {
        tokio::join!(pour(&proxy, 2, Way::Calls, COUNT), pour(&application, 1, Way::Legs, COUNT));
        application.counts(COUNT as usize).await;
        proxy.counts(COUNT as usize).await;
    };
    tokio::select! {
        () = pouring => {}
        () = cutting => {}
    }
    for node in [&proxy, &application] {
        let counted = node.ear.counting.lock().take().unwrap();
        let wrong = counted.iter().enumerate().find(|(at, number)| *at as u32 != **number);
        assert_eq!((counted.len(), wrong), (COUNT as usize, None));
    }
    proxy.hears_nothing();
    application.hears_nothing();
    let counts = proxy.link(2, Way::Calls).unwrap().counts;
    assert!(counts.resumed > 3, "the wire was cut while items were on their way: {counts:?}");
    assert_eq!((counts.lost, counts.items_sent), (0, u64::from(COUNT)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_restarts_is_lost_and_comes_back_with_a_new_session() {
    let proxy = Node::start(config(2, PROXY)).await;
    let application = Node::start(config(1, APPLICATION)).await;
    let address = application.address;
    proxy.peers.set_view(&[application.seen()]);
    application.peers.set_view(&[proxy.seen()]);
    proxy.connects(&[(1, Way::Calls), (1, Way::Directory)]).await;
    application.connects(&[(2, Way::Legs), (2, Way::Directory)]).await;
    proxy.peers.leg_up(NodeId(1), up(1)).unwrap();
    application.hears(&[Heard::Item(2, Way::Legs, format!("{:?}", up(1)))]).await;
    drop(application);
    // What is sent meanwhile is of the old session: it must not reach the new process.
    let first = proxy.link_is(1, Way::Calls, "noticed", |link| !link.connected).await;
    let between = proxy.peers.leg_up(NodeId(1), up(2));
    let again = Node::start_at(address, config(1, APPLICATION)).await;
    again.peers.set_view(&[proxy.seen()]);
    again.connects(&[(2, Way::Legs), (2, Way::Directory)]).await;
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(proxy.next().await);
    }
    for way in [Way::Calls, Way::Directory] {
        let of_way: Vec<&Heard> = heard
            .iter()
            .filter(|heard| matches!(heard, Heard::Lost(1, w) | Heard::Back(1, w) if *w == way))
            .collect();
        assert_eq!(of_way, [&Heard::Lost(1, way), &Heard::Back(1, way)], "sent in between: {between:?}");
    }
    proxy.peers.leg_up(NodeId(1), up(3)).unwrap();
    again.hears(&[Heard::Item(2, Way::Legs, format!("{:?}", up(3)))]).await;
    let now = proxy.link(1, Way::Calls).unwrap();
    assert_eq!((first.instance == now.instance, now.instance), (false, again.config.instance));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_gone_is_not_waited_for_whoever_dialled() {
    let patient = link::Settings { lost_after: LONG * 10, silence: LONG * 10, ..link::Settings::default() };
    let node = |number, roles| Node::start(PeerConfig { link: patient.clone(), ..config(number, roles) });
    let (proxy, application, relay) =
        (node(3, PROXY).await, node(2, APPLICATION).await, node(1, RELAY).await);
    let view = [proxy.seen(), application.seen(), relay.seen()];
    for node in [&proxy, &application, &relay] {
        node.peers.set_view(&view);
    }
    proxy.connects(&[(2, Way::Calls), (1, Way::Directory), (2, Way::Directory)]).await;
    application.connects(&[(3, Way::Legs), (1, Way::Relay), (1, Way::Directory), (3, Way::Directory)]).await;
    relay.connects(&[(2, Way::Media), (2, Way::Directory), (3, Way::Directory)]).await;
    // The application server dials the relay, and the proxy dials the application server; the directory is dialled by the lower number.
    drop(proxy);
    application.loses(&[(3, Way::Legs), (3, Way::Directory)]).await;
    relay.loses(&[(3, Way::Directory)]).await;
    drop(relay);
    application.loses(&[(1, Way::Relay), (1, Way::Directory)]).await;
    assert_eq!(application.link(1, Way::Relay).map(|link| link.session), Some(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_noticed_and_heals_by_itself() {
    let quick = link::Settings {
        heartbeat: Duration::from_millis(50),
        silence: Duration::from_millis(300),
        lost_after: LONG,
        ..link::Settings::default()
    };
    let quick =
        |config| PeerConfig { link: quick.clone(), hello_within: Duration::from_millis(500), ..config };
    let proxy = Node::start(quick(config(1, PROXY))).await;
    let application = Node::start(quick(config(2, APPLICATION))).await;
    let wire = Wire::to(application.address).await;
    proxy.peers.set_view(&[application.seen_at(wire.address)]);
    proxy.connects(&[(2, Way::Calls), (2, Way::Directory)]).await;
    application.connects(&[(1, Way::Legs), (1, Way::Directory)]).await;
    wire.silence(true);
    proxy.peers.leg_up(NodeId(2), up(1)).unwrap();
    application.peers.leg_down(NodeId(1), down(1)).unwrap();
    proxy.link_is(2, Way::Calls, "the dialler notices", |link| !link.connected).await;
    application.link_is(1, Way::Legs, "the dialled side notices", |link| !link.connected).await;
    proxy.peers.leg_up(NodeId(2), up(2)).unwrap();
    application.peers.leg_down(NodeId(1), down(2)).unwrap();
    application.hears_nothing();
    proxy.hears_nothing();
    wire.silence(false);
    let item = |from, way, item: &dyn std::fmt::Debug| Heard::Item(from, way, format!("{item:?}"));
    application.hears(&[item(1, Way::Legs, &up(1)), item(1, Way::Legs, &up(2))]).await;
    proxy.hears(&[item(2, Way::Calls, &down(1)), item(2, Way::Calls, &down(2))]).await;
    assert_eq!(proxy.link(2, Way::Calls).unwrap().counts.lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_away_for_too_long_is_lost_on_both_sides_and_comes_back() {
    let quick = link::Settings {
        heartbeat: Duration::from_millis(50),
        silence: Duration::from_millis(200),
        lost_after: Duration::from_millis(200),
        ..link::Settings::default()
    };
    let quick =
        |config| PeerConfig { link: quick.clone(), hello_within: Duration::from_millis(500), ..config };
    let proxy = Node::start(quick(config(2, PROXY))).await;
    let application = Node::start(quick(config(1, ALL))).await;
    let wire = Wire::to(application.address).await;
    proxy.peers.set_view(&[application.seen_at(wire.address)]);
    proxy.connects(&[(1, Way::Calls)]).await;
    application.connects(&[(2, Way::Legs)]).await;
    wire.silence(true);
    proxy.peers.leg_up(NodeId(1), up(1)).unwrap();
    proxy.hears(&[Heard::Lost(1, Way::Calls)]).await;
    application.hears(&[Heard::Lost(2, Way::Legs)]).await;
    assert_eq!(proxy.peers.leg_up(NodeId(1), up(2)), Err(SendError::NotConnected));
    wire.silence(false);
    proxy.hears(&[Heard::Back(1, Way::Calls)]).await;
    application.hears(&[Heard::Back(2, Way::Legs)]).await;
    proxy.peers.leg_up(NodeId(1), up(3)).unwrap();
    application.hears(&[Heard::Item(2, Way::Legs, format!("{:?}", up(3)))]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_with_all_roles_have_a_link_for_each_role() {
    let one = Node::start(config(1, ALL)).await;
    let two = Node::start(config(2, ALL)).await;
    let view = [one.seen(), two.seen()];
    one.peers.set_view(&view);
    two.peers.set_view(&view);
    let ways = [Way::Calls, Way::Legs, Way::Relay, Way::Media, Way::Directory];
    one.connects(&ways.map(|way| (2, way))).await;
    two.connects(&ways.map(|way| (1, way))).await;
    // A node that leaves the view and is gone is forgotten.
    drop(two);
    one.peers.set_view(&[one.seen()]);
    one.loses(&ways.map(|way| (2, way))).await;
    for way in [Way::Calls, Way::Relay, Way::Directory] {
        let gone = async {
            while one.link(2, way).is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the link is forgotten", gone).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_without_connection_is_lost_when_others_see_another_process_there() {
    let patient = link::Settings { lost_after: LONG, ..link::Settings::default() };
    let proxy = Node::start(PeerConfig { link: patient, ..config(2, PROXY) }).await;
    let application = Node::start(config(1, APPLICATION)).await;
    let mut seen = application.seen();
    seen.instance = Some(application.config.instance);
    proxy.peers.set_view(std::slice::from_ref(&seen));
    proxy.connects(&[(1, Way::Calls)]).await;
    drop(application);
    proxy.link_is(1, Way::Calls, "noticed", |link| !link.connected).await;
    proxy.hears_nothing();
    seen.instance = Some(77);
    proxy.peers.set_view(&[seen]);
    proxy.hears(&[Heard::Lost(1, Way::Calls)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_left_the_cluster_is_lost_with_its_connection() {
    let patient = link::Settings { lost_after: LONG * 10, ..link::Settings::default() };
    for view_first in [true, false] {
        let proxy = Node::start(PeerConfig { link: patient.clone(), ..config(2, PROXY) }).await;
        let application = Node::start(config(1, APPLICATION)).await;
        proxy.peers.set_view(&[application.seen()]);
        proxy.connects(&[(1, Way::Calls)]).await;
        if view_first {
            proxy.peers.set_view(&[]);
            proxy.peers.leg_up(application.id(), up(1)).unwrap();
            proxy.link_is(1, Way::Calls, "told to the end", |link| link.waiting_items == 0).await;
            proxy.hears_nothing();
            drop(application);
        } else {
            drop(application);
            proxy.link_is(1, Way::Calls, "noticed", |link| !link.connected).await;
            proxy.hears_nothing();
            proxy.peers.set_view(&[]);
        }
        proxy.hears(&[Heard::Lost(1, Way::Calls)]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_of_the_largest_size_arrive_and_larger_ones_are_not_taken() {
    let proxy = Node::start(config(2, PROXY)).await;
    let application = Node::start(config(1, APPLICATION)).await;
    proxy.peers.set_view(&[application.seen()]);
    proxy.connects(&[(1, Way::Calls)]).await;
    application.connects(&[(2, Way::Legs)]).await;
    let stand = |legs: usize, octets: usize| {
        let (title, leg) = numbered(1);
        let kept = KeptLeg { leg, home: NodeId(2), state: vec![7; octets].into() };
        let capsule = Capsule { legs: vec![kept; legs], ..Capsule::default() };
        ToCalls::Offer(Box::new(Stand { title, incoming: None, capsule, legs: vec![], happened: vec![] }))
    };
    let sent = |item| proxy.peers.leg_up(NodeId(1), item);
    assert!(matches!(sent(stand(17, 64 * 1024)), Err(SendError::TooLarge { .. })));
    let unfit = sent(stand(1, 64 * 1024 + 1)).unwrap_err();
    assert_eq!(unfit.to_string(), "KeptLeg.state: 65537 octets are too many, 65536 at most");
    for _ in 0..5 {
        sent(stand(15, 64 * 1024)).unwrap();
        sent(up(1)).unwrap();
    }
    for _ in 0..5 {
        let heard = [stand(15, 64 * 1024), up(1)].map(|item| Heard::Item(2, Way::Legs, format!("{item:?}")));
        application.hears(&heard).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_takes_nothing_is_lost_and_comes_back_when_it_does() {
    let small =
        link::Settings { items_max: 100, silence: LONG, lost_after: LONG, ..link::Settings::default() };
    let quick =
        |config| PeerConfig { link: small.clone(), hello_within: Duration::from_millis(500), ..config };
    let proxy = Node::start(quick(config(2, PROXY))).await;
    let application = Node::start(quick(config(1, APPLICATION))).await;
    let wire = Wire::to(application.address).await;
    proxy.peers.set_view(&[application.seen_at(wire.address)]);
    proxy.connects(&[(1, Way::Calls)]).await;
    application.connects(&[(2, Way::Legs)]).await;
    wire.silence(true);
    for number in 0..100 {
        proxy.peers.leg_up(NodeId(1), up(number)).unwrap();
    }
    assert_eq!(proxy.peers.leg_up(NodeId(1), up(100)), Err(SendError::Full));
    assert_eq!(proxy.peers.leg_up(NodeId(1), up(101)), Err(SendError::NotConnected));
    proxy.hears(&[Heard::Lost(1, Way::Calls)]).await;
    wire.silence(false);
    proxy.hears(&[Heard::Back(1, Way::Calls)]).await;
    proxy.peers.leg_up(NodeId(1), up(102)).unwrap();
    // What the wire had swallowed may come still; then the session is over on this side, too.
    let mut heard = application.next().await;
    while heard != Heard::Lost(2, Way::Legs) {
        assert!(matches!(heard, Heard::Item(..)), "{heard:?}");
        heard = application.next().await;
    }
    application.hears(&[Heard::Back(2, Way::Legs)]).await;
    application.hears(&[Heard::Item(2, Way::Legs, format!("{:?}", up(102)))]).await;
}
