//! What these tests stand on: nodes that can die, a network that can be cut, etcd's keys.
//!
//! Everything that is waited for comes within half a minute, or the test fails.

use cluster::ids::NodeId;
use cluster::node::{Fence, Kind, NodeInfo, Roles, View};
use etcd_client::{Client, GetOptions};
use mesh::etcd::{EtcdSettings, JoinError, Membership, Standing};
use std::future::Future;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(30);

pub(crate) fn info(identity: u16) -> NodeInfo {
    NodeInfo {
        id: NodeId(0),
        name: format!("node-{identity}"),
        instance: u64::from(identity),
        identity: u128::from(identity),
        roles: Roles::ALL,
        zone: String::new(),
        capacity: 100,
        peer: format!("10.0.0.{identity}:7400"),
        sip: vec![format!("udp:10.0.0.{identity}:5060")],
        media: Vec::new(),
        release: "1".to_owned(),
        protocol: (1, 1),
        draining: false,
        calls: 0,
        started_ms: 1_800_000_000_000,
    }
}

pub(crate) fn settings(url: &str, node: Option<u16>) -> EtcdSettings {
    EtcdSettings {
        endpoints: vec![url.to_owned()],
        user: None,
        ca_file: None,
        cert_files: None,
        prefix: "/carillon".to_owned(),
        lease_seconds: 5,
        node: node.map(NodeId),
        cluster: 77,
        fences_from: 0,
        patience: LONG,
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn wait<T>(runtime: &Runtime, what: impl Future<Output = T>) -> T {
    runtime.block_on(async { timeout(LONG, what).await }).expect("it does not come")
}

/// A member with threads of its own.
pub(crate) struct Node {
    runtime: Runtime,
    membership: Membership,
}

impl Deref for Node {
    type Target = Membership;

    fn deref(&self) -> &Membership {
        &self.membership
    }
}

impl Node {
    pub(crate) fn start(settings: EtcdSettings, info: NodeInfo) -> Self {
        let runtime = runtime();
        let membership = wait(&runtime, Membership::join(settings, info)).unwrap();
        Self { runtime, membership }
    }

    /// Ends without a word to anybody.
    pub(crate) fn kill(self) {
        self.runtime.shutdown_background();
    }

    pub(crate) fn leave(self) {
        wait(&self.runtime, self.membership.leave());
    }

    pub(crate) fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        wait(&self.runtime, what)
    }

    /// Waits for such a view.
    pub(crate) fn sees(&self, is_it: impl Fn(&View) -> bool) {
        let mut views = self.watch();
        let seen = async { timeout(LONG, views.wait_for(|view| is_it(view))).await.is_ok() };
        assert!(self.runtime.block_on(seen), "it sees {:#?}", self.view());
    }

    pub(crate) fn stands(&self, is_it: impl Fn(&Standing) -> bool) {
        let mut standing = self.standing();
        self.wait(async { standing.wait_for(|standing| is_it(standing)).await.map(drop).unwrap() });
    }

    /// Waits until it owns this.
    pub(crate) fn gets(&self, kind: Kind, key: u32) -> Fence {
        let mut owned = self.ownership();
        self.wait(async {
            loop {
                if let Some(fence) = self.owned(kind, key) {
                    return fence;
                }
                // What is owned may be told before it is certain.
                let _ = timeout(Duration::from_millis(100), owned.changed()).await;
            }
        })
    }
}

/// Why a node may not join.
pub(crate) fn refused(settings: EtcdSettings, info: NodeInfo) -> JoinError {
    wait(&runtime(), Membership::join(settings, info)).expect_err("it has joined")
}

/// All keys of an etcd without users.
pub(crate) fn keys(url: &str) -> Vec<String> {
    wait(&runtime(), async {
        let mut client = Client::connect([url], None).await.unwrap();
        let found = client.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
        found.kvs().iter().map(|kv| kv.key_str().unwrap().to_owned()).collect()
    })
}

pub(crate) fn compact(url: &str, revision: u64) {
    wait(&runtime(), async {
        let mut client = Client::connect([url], None).await.unwrap();
        client.compact(revision.cast_signed(), None).await.unwrap();
    });
}

/// A way to etcd that can be cut.
pub(crate) struct Hose {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
    _runtime: Runtime,
}

impl Hose {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let runtime = runtime();
        let listener = wait(&runtime, TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (is_open, open) = watch::channel(true);
        runtime.spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut open = open.clone();
                tokio::spawn(async move {
                    if !*open.borrow_and_update() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = open.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { address, is_open, _runtime: runtime }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All connections end, and new ones are of no use.
    pub(crate) fn cut(&self) {
        self.is_open.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.is_open.send_replace(true);
    }
}
