//! Nodes for tests: real links on loopback, what they hear, and a wire between them that can be cut or fall silent.
#![allow(
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "each test uses a part of it"
)]

use cluster::between::{DirectoryItem, FromRelay, Title, ToCalls, ToLegs, ToRelay};
use cluster::ids::{CallId, LegId, NodeId};
use cluster::link::Lost;
use mesh::peer::{
    LinkStatus, PeerAddress, PeerConfig, PeerRoles, PeerSink, Peers, TcpAccept, TcpConnect, Tls, Way,
};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// Longer than anything may take, also on a machine that has other things to do.
pub const LONG: Duration = Duration::from_secs(60);

pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

/// What a node hears, printed: words have no equality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Item(u16, Way, String),
    Lost(u16, Way),
    Back(u16, Way),
}

#[derive(Default)]
pub struct Ear {
    heard: Mutex<VecDeque<Heard>>,
    news: Notify,
    /// Instead of keeping items as text: numbers of `LegLost` and `Part`, as they came.
    pub counting: Mutex<Option<Vec<u32>>>,
}

impl Ear {
    fn hear(&self, heard: Heard) {
        self.heard.lock().push_back(heard);
        self.news.notify_one();
    }

    fn item(&self, from: NodeId, way: Way, number: Option<u32>, item: &dyn std::fmt::Debug) {
        if let (Some(counts), Some(number)) = (self.counting.lock().as_mut(), number) {
            counts.push(number);
            self.news.notify_one();
            return;
        }
        self.hear(Heard::Item(from.0, way, format!("{item:?}")));
    }
}

impl PeerSink for Ear {
    fn to_calls(&self, from: NodeId, item: ToCalls) {
        let number = if let ToCalls::LegLost { title, .. } = &item { Some(title.epoch) } else { None };
        self.item(from, Way::Legs, number, &item);
    }

    fn to_legs(&self, from: NodeId, item: ToLegs) {
        let number = if let ToLegs::Part { title, .. } = &item { Some(title.epoch) } else { None };
        self.item(from, Way::Calls, number, &item);
    }

    fn to_relay(&self, from: NodeId, item: ToRelay) {
        self.item(from, Way::Media, None, &item);
    }

    fn from_relay(&self, from: NodeId, item: FromRelay) {
        self.item(from, Way::Relay, None, &item);
    }

    fn directory(&self, from: NodeId, item: DirectoryItem) {
        self.item(from, Way::Directory, None, &item);
    }

    fn lost(&self, node: NodeId, way: Way, _: Lost) {
        self.hear(Heard::Lost(node.0, way));
    }

    fn back(&self, node: NodeId, way: Way) {
        self.hear(Heard::Back(node.0, way));
    }
}

pub const PROXY: PeerRoles = PeerRoles { proxy: true, application: false, relay: false };
pub const APPLICATION: PeerRoles = PeerRoles { proxy: false, application: true, relay: false };
pub const RELAY: PeerRoles = PeerRoles { proxy: false, application: false, relay: true };
pub const ALL: PeerRoles = PeerRoles { proxy: true, application: true, relay: true };

/// A node: its links, and what it hears.
pub struct Node {
    pub peers: Peers,
    pub ear: Arc<Ear>,
    pub config: PeerConfig,
    pub address: SocketAddr,
}

pub fn config(node: u16, roles: PeerRoles) -> PeerConfig {
    let config = PeerConfig::new("test", NodeId(node), rand::random::<u64>() | 1, roles);
    PeerConfig { name: format!("node-{node}"), release: "0.0.1".into(), ..config }
}

impl Node {
    pub async fn start(config: PeerConfig) -> Node {
        Node::start_at("127.0.0.1:0".parse().unwrap(), config).await
    }

    /// At an address that another node may just be leaving.
    pub async fn start_at(address: SocketAddr, config: PeerConfig) -> Node {
        let bind = async {
            loop {
                match TcpListener::bind(address).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let listener = soon("the port is free", bind).await;
        let address = listener.local_addr().unwrap();
        let ear = Arc::new(Ear::default());
        let sink = Arc::clone(&ear) as Arc<dyn PeerSink>;
        let peers = Peers::start(config.clone(), TcpAccept(listener), TcpConnect, sink);
        Node { peers, ear, config, address }
    }

    pub fn id(&self) -> NodeId {
        self.config.node
    }

    /// As others see it, at its own address or at that of a wire to it.
    pub fn seen_at(&self, address: SocketAddr) -> PeerAddress {
        PeerAddress {
            node: self.id(),
            instance: None,
            address: address.to_string(),
            roles: self.config.roles,
        }
    }

    pub fn seen(&self) -> PeerAddress {
        self.seen_at(self.address)
    }

    /// The next thing that it hears.
    pub async fn next(&self) -> Heard {
        let next = async {
            loop {
                if let Some(heard) = self.ear.heard.lock().pop_front() {
                    return heard;
                }
                self.ear.news.notified().await;
            }
        };
        soon(&format!("node {} hears something", self.id().0), next).await
    }

    /// Hears these, in this order.
    pub async fn hears(&self, expected: &[Heard]) {
        for expected in expected {
            assert_eq!(&self.next().await, expected, "at node {}", self.id().0);
        }
    }

    /// Hears of these links, in any order, that they have a session.
    pub async fn connects(&self, links: &[(u16, Way)]) {
        self.hears_all(links.iter().map(|(node, way)| Heard::Back(*node, *way)).collect()).await;
    }

    /// Hears of these links, in any order, that they are lost.
    pub async fn loses(&self, links: &[(u16, Way)]) {
        self.hears_all(links.iter().map(|(node, way)| Heard::Lost(*node, *way)).collect()).await;
    }

    async fn hears_all(&self, mut expected: Vec<Heard>) {
        while !expected.is_empty() {
            let heard = self.next().await;
            let at = expected.iter().position(|expected| *expected == heard);
            let at = at.unwrap_or_else(|| panic!("node {} hears {heard:?}, not {expected:?}", self.id().0));
            expected.swap_remove(at);
        }
    }

    pub fn hears_nothing(&self) {
        assert_eq!(self.ear.heard.lock().front(), None, "at node {}", self.id().0);
    }

    pub fn link(&self, node: u16, way: Way) -> Option<LinkStatus> {
        self.peers.links().into_iter().find(|link| link.node == NodeId(node) && link.way == way)
    }

    /// Waits until a link is as it should be.
    pub async fn link_is(
        &self,
        node: u16,
        way: Way,
        what: &str,
        is: impl Fn(&LinkStatus) -> bool,
    ) -> LinkStatus {
        let wait = async {
            loop {
                if let Some(link) = self.link(node, way).filter(&is) {
                    return link;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        match tokio::time::timeout(LONG, wait).await {
            Ok(link) => link,
            Err(_) => panic!("{what}: {:?}", self.link(node, way)),
        }
    }

    /// Waits for the words of a trouble.
    pub async fn trouble(&self, node: u16, way: Way, words: &str) -> LinkStatus {
        let told = |link: &LinkStatus| link.trouble.as_ref().is_some_and(|trouble| trouble.contains(words));
        self.link_is(node, way, words, told).await
    }

    /// Waits until `counting` has so many.
    pub async fn counts(&self, count: usize) {
        let wait = async {
            while self.ear.counting.lock().as_ref().map_or(0, Vec::len) < count {
                self.ear.news.notified().await;
            }
        };
        let at = || self.ear.counting.lock().as_ref().map_or(0, Vec::len);
        if tokio::time::timeout(LONG * 2, wait).await.is_err() {
            panic!("node {} has {} of {count} items: {:?}", self.id().0, at(), self.peers.links());
        }
    }
}

pub fn numbered(number: u32) -> (Title, LegId) {
    let node = NodeId(1);
    (Title { call: CallId::new(node, u64::from(number)), epoch: number }, LegId::new(node, 0, 7))
}

pub fn up(number: u32) -> ToCalls {
    let (title, leg) = numbered(number);
    ToCalls::LegLost { title, leg }
}

pub fn down(number: u32) -> ToLegs {
    let (title, leg) = numbered(number);
    ToLegs::Part { title, leg }
}

/// A wire to an address.
pub struct Wire {
    pub address: SocketAddr,
    cuts: watch::Sender<u64>,
    silent: watch::Sender<bool>,
    _work: JoinSet<()>,
}

impl Wire {
    pub async fn to(target: SocketAddr) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cuts, cut) = watch::channel(0);
        let (silent, silence) = watch::channel(false);
        let mut work = JoinSet::new();
        work.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((near, _)) = listener.accept().await else { continue };
                let (mut cut, silence) = (cut.clone(), silence.clone());
                cut.mark_unchanged();
                connections.spawn(async move {
                    let Ok(far) = TcpStream::connect(target).await else { return };
                    let (near_in, near_out) = near.into_split();
                    let (far_in, far_out) = far.into_split();
                    tokio::select! {
                        () = pump(near_in, far_out, silence.clone()) => {}
                        () = pump(far_in, near_out, silence) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Wire { address, cuts, silent, _work: work }
    }

    /// All connections break; new ones may be made.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Nothing passes, and nobody is told; or it passes again.
    pub fn silence(&self, silent: bool) {
        self.silent.send_replace(silent);
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut silence: watch::Receiver<bool>,
) {
    let mut octets = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut octets).await else { return };
        if silence.wait_for(|silent| !silent).await.is_err() || to.write_all(&octets[..count]).await.is_err()
        {
            return;
        }
    }
}

/// A certificate authority, and certificates of it in PEM form.
pub struct Authority {
    pub pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        let name = format!("authority {:x}", rand::random::<u64>());
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: rcgen::Issuer::new(params, key) }
    }

    /// Certificate and key for a name, valid in these years.
    pub fn issue(&self, name: &str, years: std::ops::Range<i32>) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    pub fn tls(&self) -> Tls {
        self.tls_for(2020..2999)
    }

    pub fn tls_for(&self, years: std::ops::Range<i32>) -> Tls {
        let (cert, key) = self.issue(mesh::peer::NODE_NAME, years);
        Tls::new(self.pem.as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap()
    }
}
