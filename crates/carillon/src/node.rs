//! One node: the store, the application server, the relay and the proxy, started in order and stopped in the reverse one.
//!
//! In: a checked [`NodeConfig`]. Out: a running node, or an error that names what to do. Elsewhere: each role's crate.

use crate::apart::Apart;
use crate::asking::Asking;
use crate::clustered::{self, Cluster};
use crate::config::{MediaConfig, Mistake, NodeConfig};
use crate::control::Control;
use crate::current::Current;
use crate::drain::{Drainer, Parts};
use crate::here::Here;
use crate::importing;
use crate::kept;
use crate::limit;
use crate::listing::Listing;
use crate::living::{Living, Others};
use crate::records::{ClusterRecords, IsAlive, Patience};
use crate::watching::{Health, Roles, Watching};
use api::live::Live;
use appserver::{AppServer, CallLog};
use cluster::ids::NodeId;
use cluster::node::{NodeInfo, Role};
use mesh::etcd::Membership;
use model::rows::Rows;
use model::{Aor, BindingRecord, Cdr, Configuration, OpenCall, Snapshot, Terminal};
use proxy::{BindingLog, Proxy, ProxyConfig};
use relay::{MediaAddress, Relay, RelayConfig};
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use store::config::{CallTable, ConfigPlace, ConfigStore};
use store::{Record, Store, StoreError};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{info, warn};

/// Why a node did not start, for the operator.
#[derive(Debug)]
pub(crate) struct StartError(pub(crate) String);

impl StartError {
    pub(crate) fn new(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        Self(text)
    }
}

impl<E: std::error::Error> From<E> for StartError {
    fn from(error: E) -> Self {
        Self::new(&error)
    }
}

/// Whom a node serves.
pub(crate) enum Users {
    /// Those that the data directory holds; a new one begins without any.
    Kept,
    /// These, from now on.
    From(Box<Configuration>),
    /// Those of the demonstration, in a data directory of its own.
    Demo,
}

/// Passwords that stand in public documents are a mistake where a network can reach them.
pub(crate) fn known_passwords(key: &str, value: &str, rows: &Rows, config: &NodeConfig) -> Option<Mistake> {
    if config.is_local() {
        return None;
    }
    let names = kept::publicly_known(rows, EXAMPLE_SECRETS);
    if names.is_empty() {
        return None;
    }
    let remedy = format!(
        "the password of terminal {} is the one of the demo or of the example, known to everybody, and a listener is not on \
         loopback; give it another one, in the file that `file` in [users] names or by the API",
        names.join(", ")
    );
    Some(Mistake::new(key, value, &remedy))
}

/// How a node comes by users.
fn no_users_remedy(config: &NodeConfig) -> String {
    let by_api = match config.api {
        Some(address) => {
            let file = config.data.join(kept::FIRST_PASSWORD);
            let scheme = if config.api_tls.is_some() { "https" } else { "http" };
            let password = if file.exists() {
                format!(" (the file {} has the password of \"admin\")", file.display())
            } else {
                String::new()
            };
            format!(
                "make a brand, a client, its users and their terminals by the API at {scheme}://{address}/api/platform/docs{password}, or \
                 with `carillon ctl apply`, with immediate effect"
            )
        }
        None => "serve the API (`listen` in [api]) and make them there".to_owned(),
    };
    format!("{by_api}; or write a file like deploy/users.toml, name it as `file` in [users], and start again")
}

/// The passwords in deploy/users.toml and deploy/first-client.yaml.
const EXAMPLE_SECRETS: &[&str] = &["CHANGE-ME", "CHANGEME-now-123", "CHANGEME-now-223"];

/// The end of a node waits this long for call records to be durable.
const RECORDS: Duration = Duration::from_secs(10);
/// And then this long for telephones to answer. A BYE that is lost is repeated after 0.5, 1.5, 3.5 seconds (RFC 3261 section
/// 17.1.2.2) and would go on for 32 seconds, which is too long for whoever restarts a node whose telephones are gone.
const FAREWELL: Duration = Duration::from_secs(5);
/// One of many waits this long for changes of conversations that are under way: what it has is carried on by others.
const REST: Duration = Duration::from_secs(2);

/// The directory of uploaded files in the data directory.
const FILES: &str = "files";

/// The table of call records that a cluster shares answers in this time, or is asked again later.
const CALL_TABLE: Duration = Duration::from_secs(15);

/// A node that stands alone drains no longer than this when an operator wants it to.
const DRAIN_ALONE: Duration = Duration::from_secs(120);

/// A running node.
pub(crate) struct Node {
    /// Its roles, as far as it has them.
    pub(crate) proxy: Option<Arc<Proxy>>,
    pub(crate) calls: Option<Arc<AppServer>>,
    _relay: Option<Arc<Relay>>,
    drainer: Arc<Drainer>,
    records: Option<Arc<ClusterRecords>>,
    listing: Listing,
    pub(crate) store: Store,
    /// Where it is one of many.
    cluster: Option<Cluster>,
    /// Where the configuration is, as the store knows it.
    place: String,
    live: Arc<Live>,
    api: Option<Served>,
    control: Option<Control>,
    watching: Watching,
    _apart: Apart,
}

/// The API while it is served.
struct Served {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

/// What all roles of a node are started with.
struct Ground<'a> {
    config: &'a NodeConfig,
    watching: &'a Watching,
    current: Current,
    /// The proxy of this node, as soon as there is one.
    here: Arc<OnceLock<Weak<Proxy>>>,
    store: Store,
    /// Of an earlier run.
    bindings: Vec<BindingRecord>,
    /// Whoever asks other nodes, as soon as there is one.
    asking: Arc<OnceLock<Weak<Asking>>>,
}

/// The roles of a node of a cluster, and who keeps the records of its calls.
type Made = (Parts, Option<Arc<ClusterRecords>>);

impl Node {
    /// Starts every role that the node has.
    pub(crate) async fn start(config: &NodeConfig, users: Users) -> Result<Self, StartError> {
        let options = store::Options { is_clustered: config.cluster.is_some(), ..store::Options::default() };
        let store = Store::open_with(&config.data, options)?;
        let place = crate::place::mark(config)?;
        // What follows other nodes' changes, as large as they may be, follows them there.
        let apart = Apart::start()?;
        if !config.auto_id {
            crate::logging::name_node(config.node);
        }
        let watching = Watching::start(config).await?;
        let opened = kept::open(config, users, store.seen_revision(&place)?, &apart).await?;
        let (live, keeper) = (opened.live, opened.kept);
        let kept = Arc::clone(&keeper.0);
        let rows = live.rows();
        if rows.each::<Terminal>().next().is_none() {
            warn!("no user is configured, so nobody can register or call; {}", no_users_remedy(config));
        }
        let bindings = keep_bindings(&store, opened.changed.as_deref(), &rows).await?;
        store.put_seen_revision(&place, rows.revision)?;
        let current = Current::new(Snapshot::new((*rows).clone()));
        let ground = Ground {
            config,
            watching: &watching,
            current: current.clone(),
            here: Arc::default(),
            store: store.clone(),
            bindings,
            asking: Arc::default(),
        };
        let asking_later = Arc::clone(&ground.asking);
        let ((parts, records), cluster) = match &config.cluster {
            None => ((ground.alone().await?, None), None),
            Some(cluster) => {
                let facts = keeper.0.cluster(&cluster.prefix).await?;
                let facts =
                    facts.ok_or_else(|| StartError("store.url: a cluster needs a database".to_owned()))?;
                clustered::is_ours(cluster, &facts)?;
                let joined = clustered::join(config, cluster, facts, &current.snapshot).await?;
                crate::logging::name_node(joined.id().0);
                watching.named(joined.id());
                let made = ground.among_others(&joined, &apart).await?;
                let calls = made.0.calls.clone();
                let load = move || calls.as_ref().map_or(0, |calls| calls.stats().calls as u32);
                (made, Some(joined.open(load)))
            }
        };
        let membership = cluster.as_ref().map(|cluster| cluster.membership.clone());
        let limit = config.cluster.as_ref().map_or(DRAIN_ALONE, |cluster| cluster.drain);
        let health = Arc::clone(&watching.health);
        let drainer = Drainer::new(parts.clone(), membership.clone(), health, limit);
        let own_live = Arc::clone(&live);
        let switchboard = cluster.as_ref().map(|cluster| Arc::downgrade(&cluster.switchboard));
        let switchboard = switchboard.unwrap_or_default();
        let of = Weak::clone(&switchboard);
        let here =
            Here::new(parts.clone(), Arc::clone(&drainer), membership.clone(), of, move || own_live.rows());
        let me = cluster.as_ref().map_or_else(|| clustered::alone(config), |cluster| cluster.info.clone());
        let asking = Asking::new(me.id, Arc::new(here), switchboard);
        let _ = asking_later.set(Arc::downgrade(&asking));
        let Parts { proxy, calls, relay } = parts;
        follow(&live, &current, (proxy.as_ref(), calls.as_ref()), &store, &place, &config.data);
        // What changed while the parts were started.
        drop(current.replace(Snapshot::new((*live.rows()).clone())));
        let health = Arc::clone(&watching.health);
        let served = make_api(
            &live,
            (&proxy, Arc::clone(&current.rates)),
            asking,
            me,
            cluster.as_ref(),
            config,
            health,
        );
        let listing = list_calls(config, &store, &kept, &live, membership.clone(), &apart)?;
        apart.spawn(kept::keep_trimmed(
            Arc::downgrade(&kept),
            config.store.keep_log,
            clustered::housekeeper(membership),
        ));
        apart.spawn(importing::work(
            Arc::downgrade(&live),
            config.data.join(FILES),
            config.cluster.is_none(),
        ));
        let (rows, files) = (Arc::clone(&live), Arc::clone(&served.surroundings.storage));
        apart.spawn(async move { api::keep_tidy(&rows, &files) }).await?;
        let api = match config.api.filter(|_| config.roles.has(Role::Portal)) {
            Some(address) => {
                let limits = config.api_limits.clone();
                let tls = config.api_tls.clone().map(api::tls::Tls::read).transpose()?.map(Arc::new);
                Some(apart.spawn(serve_api(address, Arc::clone(&served), limits, tls)).await??)
            }
            None => None,
        };
        let (own_config, own_live) = (config.clone(), live.clone());
        let control = async move { crate::control::serve(own_config, own_live, keeper, served) };
        let control = apart.spawn(control).await?;
        if let Err(error) = &control {
            warn!(%error, "`carillon ctl` does not reach this node: no socket can be made in the data directory");
        }
        let control = control.ok();
        if let Some(cluster) = &cluster {
            watching.clustered(cluster);
        }
        let roles = Roles {
            proxy: proxy.as_ref(),
            calls: calls.as_ref(),
            relay: relay.as_ref(),
            store: &store,
            live: &live,
            kept: &kept,
        };
        watching.started(config, &roles);
        Ok(Self {
            proxy,
            calls,
            _relay: relay,
            drainer,
            records,
            listing,
            store,
            cluster,
            place,
            live,
            api,
            control,
            watching,
            _apart: apart,
        })
    }

    /// The configuration.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// The address where the API is served.
    pub(crate) fn api_address(&self) -> Option<SocketAddr> {
        self.api.as_ref().map(|api| api.address)
    }

    /// The address where health and metrics are served.
    pub(crate) fn operate_address(&self) -> Option<SocketAddr> {
        self.watching.address()
    }

    /// The addresses where SIP is heard.
    pub(crate) fn sip_addresses(&self) -> Vec<(sip::flow::Transport, SocketAddr)> {
        self.proxy.as_ref().map(|proxy| proxy.listeners()).unwrap_or_default()
    }

    /// Hands over what other nodes can carry on, hangs up what is left, waits for the records and until the telephones have heard of it, and
    /// closes the store. Nobody is waited for once `hurry` is over.
    pub(crate) async fn stop(mut self, hurry: impl Future<Output = ()>) {
        self.drainer.begin(true);
        self.watching.drain(true).await;
        tokio::select! {
            () = self.end_work() => {}
            () = hurry => warn!(calls = self.call_count(), "told to stop at once"),
        }
        drop(self.control.take());
        if let Some(api) = &self.api {
            api.task.abort();
        }
        if let Some(cluster) = self.cluster.take() {
            if let Some(proxy) = &self.proxy
                && timeout(REST, proxy.rest()).await.is_err()
            {
                warn!("something is open in a dialog still, and whoever carries it on will not know");
            }
            cluster.membership.leave().await;
            if let Some(proxy) = &self.proxy {
                proxy.abandon().await;
            }
            cluster.farewell().await;
        } else if let Some(proxy) = &self.proxy {
            proxy.stop().await;
        }
        if let Some(records) = self.records.take()
            && timeout(RECORDS, records.stop()).await.is_err()
        {
            warn!(
                "some call records are in this node's data directory only; they are sent after its next start"
            );
        }
        self.listing.stop(RECORDS).await;
        self.watching.stop().await;
        let store = self.store.clone();
        if let Err(error) = store.put_seen_revision(&self.place, self.live.rows().revision) {
            warn!(%error, "the next start looks at more changes of the configuration than it needs");
        }
        drop(self);
        if tokio::task::spawn_blocking(move || store.close()).await.is_err() {
            warn!("the store was not closed in order; the next start takes in its journal");
        }
        info!("stopped");
    }

    fn call_count(&self) -> usize {
        self.calls.as_ref().map_or(0, |calls| calls.stats().calls)
    }

    async fn end_work(&self) {
        // Counted from when an operator first wanted it.
        if self.cluster.is_some() && !self.drainer.drained().await {
            warn!("cluster.drain_seconds are over; what could not be handed over ends");
        }
        if let Some(calls) = &self.calls
            && timeout(RECORDS, calls.hang_up_all()).await.is_err()
        {
            warn!(calls = self.call_count(), "calls without a durable record are left behind");
        }
        if let Some(proxy) = self.proxy.as_ref().filter(|_| self.cluster.is_none())
            && timeout(FAREWELL, proxy.settled()).await.is_err()
        {
            warn!("some telephones did not answer that their calls are over");
        }
    }
}

impl Ground<'_> {
    /// All roles, speaking to each other and nobody else.
    async fn alone(self) -> Result<Parts, StartError> {
        let here = NodeId(self.config.node);
        let calls = self.calls(here, Arc::new(Log(self.store.clone()))).await?;
        let watching = self.watching;
        let relay = Relay::start(relay_config(self.config), watching.owner_sink(Arc::clone(&calls) as _))?;
        let log = Arc::new(self.store.clone());
        let config = proxy_config(self.config);
        let proxy = self.proxy(config, log).await?;
        let legs = watching.owner_legs(watching.legs(Arc::clone(&proxy) as _));
        calls.connect(legs, Arc::clone(&proxy) as _, watching.owner_media(Arc::clone(&relay) as _));
        proxy.set_calls(watching.before_proxy(watching.owner(Arc::clone(&calls) as _)));
        Ok(Parts { proxy: Some(proxy), calls: Some(calls), relay: Some(relay) })
    }

    /// The roles that this node has, speaking to those of all nodes.
    async fn among_others(self, joined: &clustered::Joined, apart: &Apart) -> Result<Made, StartError> {
        let (config, here, watching) = (self.config, joined.id(), self.watching);
        let switchboard = &joined.switchboard;
        let (mut parts, mut kept_records) = (Parts::default(), None);
        if config.roles.has(Role::As) {
            let records = self.records(joined, apart).await?;
            let calls = self.calls(here, Arc::clone(&records) as _).await?;
            kept_records = Some(records);
            let legs = watching.owner_legs(Arc::clone(switchboard) as _);
            let media = watching.owner_media(Arc::clone(switchboard) as _);
            calls.connect(legs, Arc::clone(switchboard) as _, media);
            calls.limit_by(Arc::clone(switchboard) as _);
            switchboard.set_server(watching.owner_server(Arc::clone(&calls) as _));
            parts.calls = Some(calls);
        }
        if config.roles.has(Role::Relay) {
            let relay = Relay::start(relay_config(config), Arc::clone(switchboard) as _)?;
            switchboard.set_relay(Arc::clone(&relay) as _);
            parts.relay = Some(relay);
        }
        if config.roles.has(Role::Proxy) {
            let secret = crate::place::Key::read_or_make(config)?;
            let proxy_config = ProxyConfig {
                node: here,
                seal: Some(clustered::seal_key(&secret.bytes)),
                ..proxy_config(config)
            };
            let longest = i64::from(proxy_config.registrar.max_expires);
            for binding in &self.bindings {
                switchboard.restored(binding.clone(), binding.expires_at - longest);
            }
            let log: Arc<dyn BindingLog> = Arc::new(self.store.clone());
            let log = Arc::new(clustered::Told { log, switchboard: Arc::clone(switchboard) });
            let proxy = self.proxy(proxy_config, log).await?;
            proxy.set_calls(watching.before_proxy(Arc::clone(switchboard) as _));
            proxy.set_elsewhere(Arc::new(clustered::OtherRegistrars(Arc::clone(switchboard))));
            proxy.set_registration_owner(joined.keeps_registrations());
            let registrar = clustered::Registrar(Arc::downgrade(&proxy));
            switchboard.set_host(watching.host(Arc::clone(&proxy) as _), Arc::new(registrar));
            parts.proxy = Some(proxy);
        }
        Ok((parts, kept_records))
    }

    /// Where calls of a cluster are written down.
    async fn records(
        &self,
        joined: &clustered::Joined,
        apart: &Apart,
    ) -> Result<Arc<ClusterRecords>, StartError> {
        let place = crate::place::of(self.config)?;
        // Whoever has taken a call over has said so in the table; asked is who waits for somebody to do so, or is just doing it.
        let asking = Arc::clone(&self.asking);
        let is_alive: IsAlive = Arc::new(move |call| {
            let asking = asking.get().and_then(Weak::upgrade);
            Box::pin(async move {
                match asking {
                    Some(asking) => asking.is_alive(call).await,
                    None => true, // this node has only begun
                }
            })
        });
        let (store, node, patience) = (self.store.clone(), joined.id().0, Patience::default());
        ClusterRecords::start(store, &place, node, is_alive, patience, apart).await
    }

    async fn calls(&self, node: NodeId, log: Arc<dyn CallLog>) -> Result<Arc<AppServer>, StartError> {
        let log = self.watching.log(log);
        let rates = Arc::clone(&self.current.rates);
        let mut deps = appserver::Deps::new(rates, log, Arc::new(unix_us), node, rand::random());
        let proxy = Arc::clone(&self.here);
        deps.carrier_failures = self.config.trunks.next_on.clone();
        // Without a proxy here nobody has asked them.
        deps.answers = Arc::new(move |server| {
            proxy.get().and_then(Weak::upgrade).is_none_or(|proxy: Arc<Proxy>| proxy.server_answers(server))
        });
        let limits = appserver::Limits { calls: self.config.limits.calls, ring: self.config.ring };
        Ok(AppServer::start(deps, limits).await?)
    }

    async fn proxy(self, config: ProxyConfig, log: Arc<dyn BindingLog>) -> Result<Arc<Proxy>, StartError> {
        let deps = proxy::Deps {
            router: self.current.router,
            log,
            bindings: self.bindings,
            network: proxy::net::Network::Os,
            unix_time: None,
            seed: None,
            tap: self.watching.tap(),
        };
        let proxy = Proxy::start(config, deps).await?;
        let _ = self.here.set(Arc::downgrade(&proxy));
        Ok(proxy)
    }
}

/// Bindings that are given up in one go: well below what may wait for the disk.
const UNBIND_MAX: usize = 10_000;

/// The bindings whose account is what it was when they were made. Whoever registered as somebody who has another name, domain
/// or password now, or is no more, has no right to calls: those bindings are durably gone when this returns. Where nobody
/// knows what changed, all are given up: telephones register again.
async fn keep_bindings(
    store: &Store,
    changed: Option<&[Aor]>,
    rows: &Rows,
) -> Result<Vec<BindingRecord>, StartError> {
    let snapshot = Snapshot::new(rows.clone());
    let is_kept = |binding: &BindingRecord| {
        changed.is_some_and(|changed| !changed.contains(&binding.aor))
            && snapshot.endpoint_at(binding.aor).is_some()
    };
    let (kept, gone): (Vec<_>, Vec<_>) = store.bindings()?.into_iter().partition(is_kept);
    for some in gone.chunks(UNBIND_MAX) {
        let unbind = |binding: &BindingRecord| {
            let (done, is_durable) = oneshot::channel();
            let record = Record::Unbind { aor: binding.aor, contact: binding.contact.clone() };
            store.append(record, move |result| drop(done.send(result)));
            is_durable
        };
        let durable: Vec<_> = some.iter().map(unbind).collect();
        for each in durable {
            each.await??;
        }
    }
    if !gone.is_empty() {
        info!(bindings = gone.len(), "registrations of accounts that have changed are dropped");
    }
    Ok(kept)
}

/// Begins to bring calls to the API's lists: of this node's journal, and of the table that a cluster shares.
fn list_calls(
    config: &NodeConfig,
    store: &Store,
    kept: &Arc<ConfigStore>,
    live: &Arc<Live>,
    membership: Option<Membership>,
    apart: &Apart,
) -> Result<Listing, StartError> {
    let shared = match (&membership, crate::place::of(config)?) {
        (Some(_), ConfigPlace::Postgres(place)) => Some(CallTable::at(&place, CALL_TABLE)?),
        _ => None,
    };
    Ok(Listing::start(store.clone(), shared, kept, live, clustered::housekeeper(membership), apart))
}

/// Lets calls be routed by each new state of the rows, drops the bindings of accounts that changed, and ends the calls of clients that
/// have come to the limit of the day.
fn follow(
    live: &Arc<Live>,
    current: &Current,
    (proxy, calls): (Option<&Arc<Proxy>>, Option<&Arc<AppServer>>),
    store: &Store,
    place: &str,
    data: &Path,
) {
    let (current, store) = (current.clone(), store.clone());
    let proxy = proxy.map(Arc::downgrade).unwrap_or_default();
    let calls = calls.map(Arc::downgrade).unwrap_or_default();
    let (place, data) = (place.to_owned(), data.to_owned());
    live.follow(Box::new(move |rows, changes| {
        let old = current.replace(Snapshot::new((**rows).clone()));
        // Whoever lets go of it last takes it apart, and that takes time where many rows went; no call shall be the last.
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(old);
        });
        kept::forget_first_password(&data, changes);
        let spent = limit::reached(changes);
        if let Some(calls) = calls.upgrade().filter(|_| !spent.is_empty()) {
            tokio::spawn(async move { limit::hang_up(&calls, &spent).await });
        }
        let changed = kept::changed_accounts(changes, rows);
        let Some(proxy) = proxy.upgrade().filter(|_| !changed.is_empty()) else { return };
        let (store, place, revision) = (store.clone(), place.clone(), rows.revision);
        tokio::spawn(async move {
            proxy.forget(&changed);
            // Whoever was let in by the account as it was, at that very moment.
            tokio::time::sleep(Duration::from_secs(1)).await;
            proxy.forget(&changed);
            let noted = tokio::task::spawn_blocking(move || store.put_seen_revision(&place, revision)).await;
            if !matches!(noted, Ok(Ok(()))) {
                warn!("the next start drops these registrations once more");
            }
        });
    }));
}

fn make_api(
    live: &Arc<Live>,
    (proxy, rates): (&Option<Arc<Proxy>>, Arc<arc_swap::ArcSwap<appserver::Rates>>),
    asking: Arc<Asking>,
    me: NodeInfo,
    cluster: Option<&Cluster>,
    config: &NodeConfig,
    health: Arc<Health>,
) -> Arc<api::server::Api> {
    let others = cluster.map(|cluster| {
        cluster.switchboard.set_shell(Arc::clone(&asking) as _);
        let (membership, switchboard) = (cluster.membership.clone(), Arc::clone(&cluster.switchboard));
        Others { membership, switchboard, peers: cluster.peers() }
    });
    let outside = Arc::new(Living {
        proxy: proxy.clone(),
        asking,
        others,
        live: Arc::clone(live),
        me,
        since: Instant::now(),
        health,
        rates,
    });
    live.name_own_hosts(&config.api_hosts);
    let storage = api::Storage::new(config.data.join(FILES), config.files.clone());
    let surroundings = api::outside::Surroundings { outside, storage };
    let (live, tokens) = (Arc::clone(live), api::Tokens::default());
    Arc::new(api::server::Api { live, tokens, surroundings, watchers: Arc::default() })
}

async fn serve_api(
    address: SocketAddr,
    api: Arc<api::server::Api>,
    limits: api::serving::Limits,
    tls: Option<Arc<api::tls::Tls>>,
) -> Result<Served, StartError> {
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| {
        StartError(format!(
            "api.listen = {address}: {error}; choose an address of this host and a port that is free"
        ))
    })?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(api::serving::serve(listener, api::server::router(api), limits, tls));
    Ok(Served { address, task })
}

/// The application server's way to the journal.
struct Log(Store);

impl CallLog for Log {
    fn began(&self, call: OpenCall, _: u32, done: Box<dyn FnOnce(bool) + Send>) {
        self.0.append(Record::CallBegan(call), move |kept| {
            report("the note of a call", &kept);
            done(kept.is_ok());
        });
    }

    fn ended(&self, cdr: Cdr, _: u32, done: Box<dyn FnOnce(bool) + Send>) {
        self.0.append(Record::CallEnded(Box::new(cdr)), move |kept| {
            report("a call record", &kept);
            done(kept.is_ok());
        });
    }
}

fn report(what: &str, kept: &Result<(), StoreError>) {
    if let Err(error) = kept {
        warn!(%error, "{what} is not written");
    }
}

/// Unix time in microseconds.
pub(crate) fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn proxy_config(config: &NodeConfig) -> ProxyConfig {
    let mut proxy = ProxyConfig {
        node: NodeId(config.node),
        listeners: config
            .listeners
            .iter()
            .chain(&config.trunks.listeners)
            .map(|listener| proxy::Listener {
                transport: listener.transport,
                bind: listener.bind,
                advertised: listener.advertise.clone(),
                trunk: listener.trunk.map(model::Id::new),
            })
            .collect(),
        workers: config.sip_workers,
        nat_ping: config.registrar.ping,
        first_response: config.unreachable,
        user_agent: config.user_agent.clone(),
        ..ProxyConfig::default()
    };
    proxy.tls.clone_from(&config.tls);
    proxy.trunks.ping = config.trunks.ping;
    proxy.trunks.misses = config.trunks.misses;
    proxy.trunks.nameservers.clone_from(&config.nameservers);
    proxy.auth.invite = config.challenge_invite;
    proxy.auth.algorithms.clone_from(&config.algorithms);
    proxy.registrar.min_expires = config.registrar.min_expires;
    proxy.registrar.max_expires = config.registrar.max_expires;
    proxy.registrar.default_expires = config.registrar.default_expires;
    proxy.limits.tcp_idle = proxy.registrar.patience();
    proxy.limits.tcp_connections = config.limits.tcp_connections;
    proxy.limits.files_elsewhere = media_files(&config.media);
    proxy.limits.tcp_per_source = config.limits.tcp_connections_per_ip;
    proxy.limits.udp_surplus_per_second = config.limits.udp_surplus_per_second;
    proxy.limits.udp_surplus_burst = config.limits.udp_surplus_burst;
    proxy.limits.udp_sources = config.limits.udp_sources;
    proxy.limits.legs = config.limits.calls.saturating_mul(4); // a caller and the devices that ring
    proxy
}

/// One file for each media port.
fn media_files(media: &MediaConfig) -> u64 {
    let ports = u64::from(media.ports.1.saturating_sub(media.ports.0)) + 1;
    ports * media.addresses.len() as u64
}

fn relay_config(config: &NodeConfig) -> RelayConfig {
    let addresses = config.media.addresses.iter().map(|bind| MediaAddress {
        bind: *bind,
        advertised: config.media.advertise.filter(|ip| ip.is_ipv4() == bind.is_ipv4()).unwrap_or(*bind),
    });
    RelayConfig {
        addresses: addresses.collect(),
        ports: config.media.ports.0..=config.media.ports.1,
        workers: config.media.workers,
        silence: config.media.silence,
        ..RelayConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::FlowRecord;
    use model::Id;

    #[test]
    fn limits_follow_from_what_else_is_configured() {
        let text = "[sip]\nlisten = [\"udp:127.0.0.1:5060\", \"udp:[::1]:5060\"]\n\
                    [media]\nports = \"20000-20999\"\n[registrar]\nmax_expires = 86400";
        let (config, mistakes) = crate::config::read(text);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let limits = proxy_config(&config).limits;
        assert_eq!(
            limits.tcp_idle,
            Duration::from_secs(86_700),
            "a telephone that refreshes once a day stays"
        );
        assert_eq!(limits.files_elsewhere, 2 * 1000);
    }

    #[test]
    fn sockets_of_trunks_stand_behind_those_of_users() {
        let text = "[trunks]\nlisten = [{ bind = \"udp:127.0.0.2:5060\", trunk = 7 }]\nping_seconds = 9\nmisses = 2\n\
                    [dns]\nservers = [\"192.0.2.53\"]\n[sip]\nlisten = [\"udp:127.0.0.1:5060\"]";
        let (config, mistakes) = crate::config::read(text);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let proxy = proxy_config(&config);
        assert_eq!(
            proxy.listeners.iter().map(|each| each.trunk).collect::<Vec<_>>(),
            [None, Some(Id::new(7))]
        );
        assert!(proxy.check().is_ok());
        assert_eq!((proxy.trunks.ping, proxy.trunks.misses), (Duration::from_secs(9), 2));
        assert_eq!(proxy.trunks.nameservers, ["192.0.2.53:53".parse().unwrap()]);
    }

    #[test]
    fn a_node_without_users_is_pointed_to_the_api() {
        let remedy = |api: &str| {
            let text = format!("[sip]\nlisten = [\"udp:127.0.0.1:5060\"]\n{api}");
            no_users_remedy(&crate::config::read(&text).0)
        };
        let served = remedy("[api]\nlisten = \"127.0.0.1:8080\"");
        assert!(served.contains("http://127.0.0.1:8080/api/platform/docs"), "{served}");
        // Only the node that began a database has the first password.
        assert!(!served.contains("first-password"), "{served}");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(kept::FIRST_PASSWORD), "x").unwrap();
        let api = Some("127.0.0.1:8080".parse().unwrap());
        let first = NodeConfig { data: folder.path().to_owned(), api, ..NodeConfig::default() };
        assert!(no_users_remedy(&first).contains("first-password has the password"));
        assert!(remedy("").contains("`listen` in [api]"));
        for remedy in [served, remedy("")] {
            assert!(remedy.contains("deploy/users.toml"), "{remedy}");
        }
    }

    fn facing(address: &str) -> NodeConfig {
        let (config, mistakes) = crate::config::read(&format!("[sip]\nlisten = [\"udp:{address}:5060\"]"));
        assert_eq!(mistakes, []);
        config
    }

    #[test]
    fn the_example_of_users_is_right_and_its_passwords_face_no_network() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/users.toml");
        let users = crate::users::read(std::path::Path::new(example)).unwrap();
        assert!(users.terminals.len() >= 2 && users.extensions.len() >= 2, "{users:?}");
        assert!(users.terminals.iter().all(|terminal| terminal.secret.reveal() == EXAMPLE_SECRETS[0]));
        assert!(users.users.iter().all(|user| user.terminal.is_some() && user.extension.is_some()));
        let rows = users.rows(&Rows::default());
        assert_eq!(known_passwords("users.file", example, &rows, &facing("127.0.0.1")), None);
        let listed = known_passwords("users.file", example, &rows, &facing("192.0.2.1")).unwrap().to_string();
        assert!(listed.starts_with("users.file = ") && listed.contains("terminal anna, ben is"), "{listed}");
    }

    /// A node's configuration in this directory, listening there.
    fn within(folder: &tempfile::TempDir, address: &str) -> NodeConfig {
        NodeConfig { data: folder.path().to_owned(), ..facing(address) }
    }

    fn from(users: &Configuration) -> Users {
        Users::From(Box::new(users.clone()))
    }

    #[tokio::test]
    async fn the_demos_passwords_face_no_network() {
        let apart = Apart::start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut users = Configuration::demo();
        users.terminals[0].secret = model::Secret::new("another");
        let (here, outside) = (within(&folder, "127.0.0.1"), within(&folder, "192.0.2.1"));
        assert!(kept::open(&here, from(&users), None, &apart).await.is_ok());
        let StartError(text) = kept::open(&outside, Users::Kept, None, &apart).await.err().unwrap();
        assert!(text.contains("1 mistake in") && text.contains("node.data = "), "{text}");
        assert!(text.contains("terminal bob is"), "{text}");
        users.terminals[1].secret = model::Secret::new("another");
        assert!(kept::open(&outside, from(&users), None, &apart).await.is_ok());
    }

    /// A binding of a terminal that lasts longer than any test.
    fn binding(terminal: u32) -> BindingRecord {
        BindingRecord {
            aor: Aor::from_bits(terminal),
            contact: format!("sip:phone@192.0.2.{terminal}:5060"),
            instance: None,
            reg_id: None,
            call_id: "c".to_owned(),
            cseq: 1,
            q: 1000,
            expires_at: i64::MAX,
            path: Vec::new(),
            user_agent: String::new(),
            flow: FlowRecord {
                transport: "UDP".to_owned(),
                listener: 0,
                remote: ([192, 0, 2, 1], 5060).into(),
            },
            nat: false,
        }
    }

    #[tokio::test]
    async fn a_start_drops_the_bindings_of_accounts_that_have_changed() {
        let folder = tempfile::tempdir().unwrap();
        // Six accounts, of two clients.
        let mut before = Configuration::demo();
        (before.users, before.extensions) = (Vec::new(), Vec::new());
        let (client, terminal) = (before.clients[0].clone(), before.terminals[0].clone());
        let other = "b.example.com".to_owned();
        before.clients.push(model::entity::Client { id: Id::new(2), domain: other, ..client });
        for (id, client) in [(3, 1), (4, 1), (5, 2), (6, 1)] {
            let (id, client, name) = (Id::new(id), Id::new(client), format!("phone{id}"));
            before.terminals.push(model::entity::Terminal { id, client, name, ..terminal.clone() });
        }
        let mut after = before.clone();
        after.terminals[1].name = "robert".to_owned();
        after.terminals[2].secret = model::Secret::new("another");
        after.terminals.remove(3);
        after.clients[1].domain = "c.example.com".to_owned();
        after.clients[0].name = "Renamed".to_owned(); // is nothing that a phone must know

        let config = within(&folder, "127.0.0.1");
        let apart = Apart::start().unwrap();
        let first = kept::open(&config, from(&before), None, &apart).await.unwrap();
        assert!(first.changed.is_none(), "nobody knows what was before");
        let seen = first.live.rows().revision;
        drop(first);
        let store = Store::open(folder.path()).unwrap();
        for terminal in &before.terminals {
            store.append(Record::Bind(binding(terminal.id.get())), |result| result.unwrap());
        }
        let reopen = |store: Store| {
            store.close();
            drop(store);
            Store::open(folder.path()).unwrap()
        };
        let store = reopen(store);
        let ids = |bindings: &[BindingRecord]| -> Vec<u32> {
            bindings.iter().map(|binding| binding.aor.bits()).collect()
        };
        let same = kept::open(&config, from(&before), Some(seen), &apart).await.unwrap();
        let bindings = keep_bindings(&store, same.changed.as_deref(), &same.live.rows()).await.unwrap();
        assert_eq!(ids(&bindings), [1, 2, 3, 4, 5, 6]);
        drop(same);
        let changed = kept::open(&config, from(&after), Some(seen), &apart).await.unwrap();
        let bindings = keep_bindings(&store, changed.changed.as_deref(), &changed.live.rows()).await.unwrap();
        assert_eq!(ids(&bindings), [1, 6]);
        let store = reopen(store);
        assert_eq!(ids(&store.bindings().unwrap()), [1, 6], "for good");
        assert!(keep_bindings(&store, None, &changed.live.rows()).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_demo_replaces_nobodys_users() {
        let apart = Apart::start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = within(&folder, "127.0.0.1");
        for _ in 0..2 {
            assert!(
                kept::open(&config, Users::Demo, None, &apart).await.is_ok(),
                "a new directory, and the demo's own"
            );
        }
        let other = tempfile::tempdir().unwrap();
        let config = within(&other, "127.0.0.1");
        drop(kept::open(&config, Users::Kept, None, &apart).await.unwrap());
        let StartError(text) = kept::open(&config, Users::Demo, None, &apart).await.err().unwrap();
        assert!(text.starts_with("--data ") && text.contains("leave out --data"), "{text}");
    }
}
