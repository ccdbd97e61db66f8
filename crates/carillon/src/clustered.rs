//! A node as one of many: it joins the cluster, knows the others, speaks to them, and leaves in order.
//!
//! In: the section `[cluster]`, the roles of this node. Out: the switchboard that its roles speak to, and what keeps it in step with
//! etcd and other nodes. Elsewhere: what goes through it (crate `cluster`), streams (crate `mesh`), starting the roles (`node`).

use crate::config::{ClusterConfig, ListenerConfig, NodeConfig, TlsFiles};
use crate::kept::Housekeeping;
use crate::node::{StartError, unix_us};
use arc_swap::ArcSwap;
use cluster::between::{DirectoryItem, FromRelay, ToCalls, ToLegs, ToRelay};
use cluster::counters::{Lease, PARTITIONS};
use cluster::ids::NodeId;
use cluster::link::Lost;
use cluster::node::{Fence, Kind, NodeInfo, Role, View};
use cluster::switchboard::{BindingHost, Deps, Switchboard, Wire};
use hmac::{Hmac, KeyInit as _, Mac as _};
use mesh::etcd::{EtcdSettings, Membership, Password, Standing};
use mesh::peer::{
    PROTOCOL_MAX, PROTOCOL_MIN, PeerAddress, PeerConfig, PeerRoles, PeerSink, Peers, SendError, TcpAccept,
    TcpConnect, Tls, Way,
};
use model::{Aor, BindingRecord, Snapshot};
use proxy::{BindingChange, BindingLog, Durable, Elsewhere, Proxy, SealKey};
use sha2::Sha256;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::config::{ClusterFacts, OwnerFence};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info, warn};

/// How long a node tries to join when it starts.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often the switchboard looks for what is due.
const TICK: Duration = Duration::from_millis(100);
/// How often others hear how many calls are here.
const LOAD: Duration = Duration::from_secs(1);
/// How long a node that leaves waits until others have what it said, and how often it looks.
const FAREWELL: Duration = Duration::from_secs(2);
const FAREWELL_LOOK: Duration = Duration::from_millis(10);
/// Parts of all registrations at DDI providers; each is kept by one proxy.
const REGISTRATION_PARTS: u32 = 16;
/// How often expired contacts are forgotten.
const TIDY: Duration = Duration::from_secs(60);
/// The file of the data directory with what this node is for etcd, through restarts.
const IDENTITY: &str = "identity";
/// The variable of the environment with etcd's password, where no file is named.
const PASSWORD: &str = "CARILLON_ETCD_PASSWORD";
/// No file of passwords or certificates is longer.
const LONGEST: u64 = 1 << 20;

/// A node's place among the others.
pub(crate) struct Cluster {
    pub(crate) membership: Membership,
    pub(crate) switchboard: Arc<Switchboard>,
    /// What it told of itself when it joined.
    pub(crate) info: NodeInfo,
    peers: Arc<Peers>,
    _tasks: JoinSet<()>,
}

/// A node that has its number and is not heard of yet: its roles are started in between.
pub(crate) struct Joined {
    membership: Membership,
    listener: TcpListener,
    tls: Option<Tls>,
    cluster: u128,
    info: NodeInfo,
    /// To be given to the roles.
    pub(crate) switchboard: Arc<Switchboard>,
}

/// Takes a place in the cluster, draining: nothing comes here yet.
pub(crate) async fn join(
    node: &NodeConfig,
    config: &ClusterConfig,
    facts: ClusterFacts,
    snapshot: &Arc<ArcSwap<Snapshot>>,
) -> Result<Joined, StartError> {
    let tls = config.tls.as_ref().map(peer_tls).transpose()?;
    let listener = TcpListener::bind(config.listen).await.map_err(|error| {
        StartError(format!(
            "cluster.listen = {}: {error}; choose an address of this host and a port that is free",
            config.listen
        ))
    })?;
    let info = info(node, config)?;
    let settings = EtcdSettings {
        endpoints: config.etcd.clone(),
        user: user(config)?,
        ca_file: config.etcd_tls.ca.clone(),
        cert_files: config.etcd_tls.own.clone(),
        prefix: config.prefix.clone(),
        lease_seconds: u32::try_from(config.lease.as_secs()).unwrap_or(10),
        node: (!node.auto_id).then_some(NodeId(node.node)),
        cluster: facts.id,
        fences_from: facts.largest_fence,
        patience: PATIENCE,
    };
    let membership = Membership::join(settings, info.clone()).await?;
    let id = membership.id();
    info!(node = id.0, name = info.name, roles = %info.roles, prefix = config.prefix, "joined the cluster");
    let deps = Deps {
        me: id,
        snapshot: Arc::clone(snapshot),
        unix_us: Arc::new(unix_us),
        now: Arc::new(|| tokio::time::Instant::now().into_std()),
        random: Arc::new(rand::random::<u128>),
    };
    let info = NodeInfo { id, ..info };
    let switchboard = Switchboard::new(deps);
    switchboard.count_by(Arc::new(Certain(membership.clone())), info.instance);
    Ok(Joined { membership, listener, tls, cluster: facts.id, info, switchboard })
}

/// Whether the database is that of the cluster which the configuration means.
pub(crate) fn is_ours(config: &ClusterConfig, facts: &ClusterFacts) -> Result<(), StartError> {
    if config.prefix == facts.prefix {
        return Ok(());
    }
    Err(StartError(format!(
        "cluster.prefix: \"{}\", but the cluster of this database (store.url) meets under \"{}\" in etcd; write that, or, if the whole \
         cluster shall meet elsewhere, stop all its nodes and run UPDATE cluster SET prefix = NULL in its database",
        config.prefix, facts.prefix
    )))
}

impl Joined {
    /// The node's number.
    pub(crate) fn id(&self) -> NodeId {
        self.membership.id()
    }

    /// Which registrations at DDI providers this node keeps: those of the parts that it owns at that moment.
    pub(crate) fn keeps_registrations(&self) -> proxy::Owns {
        let membership = self.membership.clone();
        Arc::new(move |id| membership.owned(Kind::REGISTRATIONS, id.get() % REGISTRATION_PARTS).is_some())
    }

    /// Speaks to the others from now on: the roles are there.
    pub(crate) fn open(self, calls: impl Fn() -> u32 + Send + 'static) -> Cluster {
        let Self { membership, listener, tls, cluster, info, switchboard } = self;
        let peer_config = PeerConfig {
            name: info.name.clone(),
            release: info.release.clone(),
            tls,
            ..PeerConfig::new(format!("{cluster:032x}"), info.id, info.instance, peer_roles(&info))
        };
        let sink = Arc::new(Heard(Arc::downgrade(&switchboard)));
        let peers = Arc::new(Peers::start(peer_config, TcpAccept(listener), TcpConnect, sink));
        switchboard.set_wire(Arc::new(Sent(Arc::downgrade(&peers))));
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(membership.clone(), Arc::clone(&switchboard), Arc::clone(&peers)));
        tasks.spawn(watch_standing(membership.clone()));
        tasks.spawn(tick(Arc::clone(&switchboard)));
        if info.roles.has(Role::As) {
            membership.share(Kind::CLIENTS, PARTITIONS.into(), Role::As);
            membership.share(Kind::HOUSEKEEPING, 1, Role::As);
        }
        if info.roles.has(Role::Proxy) {
            membership.share(Kind::REGISTRATIONS, REGISTRATION_PARTS, Role::Proxy);
        }
        let load = membership.clone();
        tasks.spawn(async move {
            let mut turns = tokio::time::interval(LOAD);
            loop {
                turns.tick().await;
                load.set_load(calls());
            }
        });
        membership.set_draining(false);
        Cluster { membership, switchboard, info, peers, _tasks: tasks }
    }
}

impl Cluster {
    /// What others are to hear before this node is gone has arrived, as far as they take it. Links are closed by dropping this.
    pub(crate) async fn farewell(&self) {
        let waits = || self.peers.links().iter().any(|link| link.connected && link.waiting_items > 0);
        let said = async {
            while waits() {
                tokio::time::sleep(FAREWELL_LOOK).await;
            }
        };
        if timeout(FAREWELL, said).await.is_err() {
            warn!("some nodes did not hear all that this one had to say");
        }
    }

    /// What tells of the cluster's links, for as long as there are any.
    pub(crate) fn peers(&self) -> Weak<Peers> {
        Arc::downgrade(&self.peers)
    }
}

/// Knows who is there, and tells everybody who must know.
async fn follow(membership: Membership, switchboard: Arc<Switchboard>, peers: Arc<Peers>) {
    let mut views = membership.watch();
    let mut ownership = membership.ownership();
    loop {
        // In this order: whoever was there when something became ours is in the view.
        let owned = Arc::clone(&ownership.borrow_and_update());
        let view = Arc::clone(&views.borrow_and_update());
        peers.set_view(&addresses(&view));
        switchboard.view_changed(Arc::clone(&view));
        switchboard.ownership_changed(&owned, &view);
        let is_over = tokio::select! {
            changed = views.changed() => changed.is_err(),
            changed = ownership.changed() => changed.is_err(),
        };
        if is_over {
            return;
        }
    }
}

/// What is certain of this node, by its lease.
struct Certain(Membership);

impl Lease for Certain {
    fn owned(&self, partition: u16) -> Option<Fence> {
        self.0.owned(Kind::CLIENTS, partition.into())
    }

    fn certain(&self) -> Option<u64> {
        self.0.certain()
    }
}

fn addresses(view: &View) -> Vec<PeerAddress> {
    let address = |node: &Arc<NodeInfo>| PeerAddress {
        node: node.id,
        instance: Some(node.instance),
        address: node.peer.clone(),
        roles: peer_roles(node),
    };
    view.nodes.values().map(address).collect()
}

fn peer_roles(node: &NodeInfo) -> PeerRoles {
    PeerRoles {
        proxy: node.roles.has(Role::Proxy),
        application: node.roles.has(Role::As),
        relay: node.roles.has(Role::Relay),
    }
}

async fn watch_standing(membership: Membership) {
    let mut standing = membership.standing();
    while standing.changed().await.is_ok() {
        match &*standing.borrow_and_update() {
            Standing::Joined(node) => info!(node = node.0, "the node's lease is certain"),
            Standing::LostLease => {
                warn!("the node's lease is in doubt: it keeps its calls and owns nothing until etcd answers");
            }
            Standing::Refused(why) => {
                error!(%why, "the cluster does not let the node in again; it goes on asking")
            }
            Standing::Superseded => {
                error!(
                    "another process with this data directory has taken the node's number; this one should end"
                );
            }
            Standing::Joining | Standing::Left => {}
        }
    }
}

async fn tick(switchboard: Arc<Switchboard>) {
    let mut turns = tokio::time::interval(TICK);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut tidied = tokio::time::Instant::now();
    loop {
        turns.tick().await;
        switchboard.tick();
        if tidied.elapsed() > TIDY {
            tidied = tokio::time::Instant::now();
            switchboard.tidy();
        }
    }
}

/// What other nodes say.
struct Heard(Weak<Switchboard>);

impl PeerSink for Heard {
    fn to_calls(&self, from: NodeId, item: ToCalls) {
        if let Some(switchboard) = self.0.upgrade() {
            switchboard.heard_calls(from, item);
        }
    }

    fn to_legs(&self, from: NodeId, item: ToLegs) {
        if let Some(switchboard) = self.0.upgrade() {
            switchboard.heard_legs(from, item);
        }
    }

    fn to_relay(&self, from: NodeId, item: ToRelay) {
        if let Some(switchboard) = self.0.upgrade() {
            switchboard.heard_relay(from, item);
        }
    }

    fn from_relay(&self, from: NodeId, item: FromRelay) {
        if let Some(switchboard) = self.0.upgrade() {
            switchboard.heard_from_relay(from, item);
        }
    }

    fn directory(&self, from: NodeId, item: DirectoryItem) {
        if let Some(switchboard) = self.0.upgrade() {
            switchboard.heard_directory(from, &item);
        }
    }

    fn lost(&self, node: NodeId, way: Way, why: Lost) {
        warn!(peer = node.0, way = way.name(), %why, "another node is out of reach");
        let Some(switchboard) = self.0.upgrade() else { return };
        match way {
            Way::Calls => switchboard.calls_lost(node, why.is_final()),
            Way::Legs => switchboard.legs_lost(node),
            Way::Relay => switchboard.relay_lost(node),
            Way::Directory => switchboard.directory_lost(node),
            Way::Media => switchboard.media_lost(node),
        }
    }

    fn back(&self, node: NodeId, way: Way) {
        info!(peer = node.0, way = way.name(), "another node is in reach");
        let Some(switchboard) = self.0.upgrade() else { return };
        match way {
            Way::Calls => switchboard.calls_back(node),
            Way::Legs => switchboard.legs_back(node),
            Way::Relay => switchboard.relay_back(node),
            Way::Directory => switchboard.directory_back(node),
            Way::Media => {}
        }
    }
}

/// What is said to other nodes.
struct Sent(Weak<Peers>);

impl Sent {
    fn send(&self, node: NodeId, say: impl FnOnce(&Peers) -> Result<(), SendError>) -> bool {
        let Some(peers) = self.0.upgrade() else { return false };
        match say(&peers) {
            Ok(()) => true,
            Err(SendError::NotConnected) => false,
            Err(error) => {
                warn!(peer = node.0, %error, "something is not told to another node");
                false
            }
        }
    }
}

impl Wire for Sent {
    fn to_calls(&self, node: NodeId, message: ToCalls) -> bool {
        self.send(node, |peers| peers.leg_up(node, message))
    }

    fn to_legs(&self, node: NodeId, message: ToLegs) -> bool {
        self.send(node, |peers| peers.leg_down(node, message))
    }

    fn to_relay(&self, node: NodeId, message: ToRelay) -> bool {
        self.send(node, |peers| peers.to_relay(node, message))
    }

    fn of_relay(&self, node: NodeId, message: FromRelay) -> bool {
        self.send(node, |peers| peers.from_relay(node, message))
    }

    fn directory(&self, node: NodeId, item: DirectoryItem) -> bool {
        self.send(node, |peers| peers.directory(node, item))
    }
}

/// Lets the other nodes know what the registrar writes down.
pub(crate) struct Told {
    pub(crate) log: Arc<dyn BindingLog>,
    pub(crate) switchboard: Arc<Switchboard>,
}

impl BindingLog for Told {
    fn append(&self, change: BindingChange, done: Durable) {
        match &change {
            BindingChange::Bind(binding) => self.switchboard.bound(binding.clone()),
            BindingChange::Unbind { aor, contact } => self.switchboard.unbound(*aor, contact),
        }
        self.log.append(change, done);
    }
}

/// Drops bindings whose devices have registered elsewhere.
pub(crate) struct Registrar(pub(crate) Weak<Proxy>);

impl BindingHost for Registrar {
    fn displaced(&self, aor: Aor, contact: &str) {
        if let Some(proxy) = self.0.upgrade() {
            proxy.unbind(aor, Some(contact));
        }
    }
}

/// What is registered with the other proxies, for the registrar of this one.
pub(crate) struct OtherRegistrars(pub(crate) Arc<Switchboard>);

impl Elsewhere for OtherRegistrars {
    fn contacts(&self, aor: Aor) -> Vec<BindingRecord> {
        self.0.bound_elsewhere(aor)
    }

    fn forget(&self, aor: Aor, contact: Option<&str>, before_us: i64) {
        self.0.forget_elsewhere(aor, contact.map(str::to_owned), before_us);
    }
}

/// The key that seals the tags of all proxies: whoever shares the platform's key has it.
pub(crate) fn seal_key(secret: &[u8; 32]) -> SealKey {
    let mut bytes = [0; 32];
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) {
        mac.update(b"carillon: tags of legs");
        bytes.copy_from_slice(&mac.finalize().into_bytes());
    }
    SealKey(bytes)
}

fn info(node: &NodeConfig, config: &ClusterConfig) -> Result<NodeInfo, StartError> {
    Ok(NodeInfo {
        id: NodeId(if node.auto_id { 1 } else { node.node }),
        instance: rand::random::<u64>().max(1),
        identity: identity(&node.data)?,
        peer: config.advertise.clone(),
        protocol: (
            u16::try_from(PROTOCOL_MIN).unwrap_or(u16::MAX),
            u16::try_from(PROTOCOL_MAX).unwrap_or(u16::MAX),
        ),
        draining: true,
        ..alone(node)
    })
}

/// By what right this node does now what one does for all.
pub(crate) fn housekeeper(
    membership: Option<Membership>,
) -> impl Fn() -> Housekeeping + Send + Sync + 'static {
    move || {
        let Some(membership) = &membership else { return Housekeeping::Alone };
        match membership.owned(Kind::HOUSEKEEPING, 0) {
            Some(Fence(fence)) => {
                let kind = Kind::HOUSEKEEPING.to_string();
                Housekeeping::Ours(OwnerFence { kind, key: 0, fence })
            }
            None => Housekeeping::Anothers,
        }
    }
}

/// What people call it.
pub(crate) fn name(node: &NodeConfig) -> String {
    if node.name.is_empty() { host_name() } else { node.name.clone() }
}

/// What a node that stands alone would tell of itself.
pub(crate) fn alone(node: &NodeConfig) -> NodeInfo {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    NodeInfo {
        id: NodeId(node.node),
        name: name(node),
        instance: 1,
        identity: 0,
        roles: node.roles,
        zone: node.zone.clone(),
        capacity: node.capacity,
        peer: String::new(),
        sip: sip_addresses(node),
        media: media_addresses(node),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: (0, 0),
        draining: false,
        calls: 0,
        started_ms: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Where telephones reach the node.
fn sip_addresses(node: &NodeConfig) -> Vec<String> {
    let listener = |listener: &ListenerConfig| {
        let address = listener.advertise.clone().unwrap_or_else(|| listener.bind.to_string());
        format!("{}:{address}", listener.transport.param_token())
    };
    let has_any = node.roles.has(Role::Proxy);
    node.listeners.iter().filter(|_| has_any).map(listener).collect()
}

/// Where media go.
fn media_addresses(node: &NodeConfig) -> Vec<IpAddr> {
    let has_any = node.roles.has(Role::Relay);
    let media = node.media.addresses.iter().filter(|_| has_any);
    media.map(|ip| node.media.advertise.unwrap_or(*ip)).collect()
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() || name.len() > 64 { "carillon".to_owned() } else { name.to_owned() }
}

/// Who this data directory is, drawn once.
fn identity(data: &Path) -> Result<u128, StartError> {
    let file = data.join(IDENTITY);
    let unusable = |why: &dyn std::fmt::Display| {
        StartError(format!(
            "{}: {why}; remove the file, and the node is another one from then on",
            file.display()
        ))
    };
    match std::fs::read_to_string(&file) {
        Ok(text) => u128::from_str_radix(text.trim(), 16).map_err(|error| unusable(&error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let identity: u128 = rand::random();
            crate::place::private(&file, format!("{identity:032x}\n").as_bytes())
                .map_err(|error| unusable(&error))?;
            Ok(identity)
        }
        Err(error) => Err(unusable(&error)),
    }
}

fn user(config: &ClusterConfig) -> Result<Option<(String, Password)>, StartError> {
    let Some(user) = &config.etcd_user else { return Ok(None) };
    let password = match &config.etcd_password_file {
        Some(file) => {
            let text = read("cluster.etcd_password_file", file)?;
            String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
        }
        None => std::env::var(PASSWORD).unwrap_or_default(),
    };
    if password.is_empty() {
        return Err(StartError(format!(
            "cluster.etcd_user = {user}: there is no password; name its file in cluster.etcd_password_file, or set {PASSWORD}"
        )));
    }
    Ok(Some((user.clone(), Password::new(password))))
}

fn peer_tls(files: &TlsFiles) -> Result<Tls, StartError> {
    let (Some(ca), Some((cert, key))) = (&files.ca, &files.own) else {
        return Err(StartError(
            "cluster.ca_file, cluster.cert_file and cluster.key_file go together".to_owned(),
        ));
    };
    let (ca_pem, cert_pem, key_pem) =
        (read("cluster.ca_file", ca)?, read("cluster.cert_file", cert)?, read("cluster.key_file", key)?);
    Ok(Tls::new(&ca_pem, &cert_pem, &key_pem)?)
}

fn read(setting: &str, file: &PathBuf) -> Result<Vec<u8>, StartError> {
    let unusable = |why: &dyn std::fmt::Display| {
        StartError(format!("{setting} = {}: {why}; name a file that this user can read", file.display()))
    };
    let size = std::fs::metadata(file).map_err(|error| unusable(&error))?.len();
    if size > LONGEST {
        return Err(unusable(&"it is too large"));
    }
    std::fs::read(file).map_err(|error| unusable(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_stays_who_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let first = identity(folder.path()).unwrap();
        assert_eq!(identity(folder.path()).unwrap(), first);
        std::fs::write(folder.path().join(IDENTITY), "nobody").unwrap();
        let StartError(text) = identity(folder.path()).unwrap_err();
        assert!(text.contains("identity") && text.contains("remove the file"), "{text}");
    }

    #[test]
    fn the_key_of_tags_follows_from_the_platforms_and_is_another_one() {
        let (one, two) = (seal_key(&[1; 32]), seal_key(&[2; 32]));
        assert_ne!(one.0, two.0);
        assert_ne!(one.0, [1; 32]);
        assert_eq!(one.0, seal_key(&[1; 32]).0);
    }
}
