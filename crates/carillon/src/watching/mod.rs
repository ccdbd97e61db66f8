//! How this node is watched: health, metrics, traces of calls, SIP messages for Homer. Where nothing of it is configured, the
//! roles are wired as if it were not there.
//!
//! In: the sections `[operate]` and `[telemetry]`, the roles as they start. Out: HTTP for machines (`operate`), what a role is wrapped
//! in (`legs`, `calls`, `tap`). Rooms beside these: `health` (alive, ready), `figures` (which metrics there are). Elsewhere: forms of
//! metrics, traces and messages (crate `telemetry`).
//!
//! A role that is added says `registry.add(…)` for its figures, `health.require(…)` for what must be so before this node may get
//! calls, and `health.watch(…)` for loops of its own that must answer.

mod calls;
mod figures;
mod health;
mod legs;
mod operate;
mod tap;

pub(crate) use health::Health;

use crate::apart::Apart;
use crate::clustered::{self, Cluster};
use crate::config::{NodeConfig, hep_password};
use crate::node::StartError;
use appserver::{AppServer, CallLog};
use calls::{CallWatch, OwnerCalls, OwnerLegs, OwnerMedia, OwnerServer, OwnerSink, WatchedLog};
use cluster::ids::NodeId;
use cluster::leg::{Calls, LegHost, Legs};
use cluster::media::{Media, MediaSink};
use cluster::switchboard::CallServer;
use figures::Outcomes;
use legs::{LegWatch, ProxyCalls, ProxyHost, ProxyLegs};
use proxy::{Proxy, Tap};
use relay::Relay;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use store::Store;
use store::config::ConfigStore;
use tap::Ears;
use telemetry::hep::Agent;
use telemetry::{Hep, Registry, Tracer};

/// How often metrics go to a collector.
const METRICS_EVERY: Duration = Duration::from_secs(15);
/// The end of a node waits this long until the last spans are sent.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Everything by which this node is watched.
pub(crate) struct Watching {
    pub(crate) registry: Arc<Registry>,
    pub(crate) health: Arc<Health>,
    outcomes: Arc<Outcomes>,
    tracer: Option<Arc<Tracer>>,
    /// Somebody wants to know about legs and messages.
    ears: Option<Arc<Ears>>,
    legs: Option<Arc<LegWatch>>,
    calls: Option<Arc<CallWatch>>,
    listener: Option<operate::Served>,
    /// The node's, as spans tell it.
    number: Arc<AtomicU16>,
    _apart: Apart,
}

/// What runs on this node.
pub(crate) struct Roles<'a> {
    /// As far as the node has them.
    pub(crate) proxy: Option<&'a Arc<Proxy>>,
    pub(crate) calls: Option<&'a Arc<AppServer>>,
    pub(crate) relay: Option<&'a Arc<Relay>>,
    pub(crate) store: &'a Store,
    pub(crate) live: &'a Arc<api::live::Live>,
    pub(crate) kept: &'a Arc<ConfigStore>,
}

impl Watching {
    /// Opens the listener and the ways to collectors, on a thread of their own.
    pub(crate) async fn start(config: &NodeConfig) -> Result<Self, StartError> {
        let apart = Apart::watcher()?;
        let watch = &config.watch;
        // Which number it will have is not known yet where it takes one that is free.
        let node = if config.auto_id { clustered::name(config) } else { config.node.to_string() };
        let number = Arc::new(AtomicU16::new(config.node));
        let (registry, health) = (Arc::new(Registry::default()), Health::new());
        let mut tracer = None;
        if let Some(endpoint) = &watch.otlp {
            let settings = telemetry::otlp::Config {
                endpoint: endpoint.clone(),
                share_ppm: watch.sample_ppm,
                node: node.clone(),
                version: env!("CARGO_PKG_VERSION"),
                every: METRICS_EVERY,
            };
            let started = telemetry::otlp::start(settings, Arc::clone(&registry));
            let (made, work) = started.map_err(|error| {
                let StartError(text) = StartError::new(&error);
                StartError(format!("telemetry.otlp = {endpoint}: {text}"))
            })?;
            apart.spawn(work);
            tracer = Some(made);
        }
        let hep = match &watch.hep {
            Some(collector) => Some(hep(config, collector)?),
            None => None,
        };
        let is_watched = watch.listen.is_some() || tracer.is_some();
        let legs = is_watched.then(|| LegWatch::new(tracer.clone(), Arc::clone(&number)));
        let ears = (is_watched || hep.is_some()).then(|| Arc::new(Ears::new(hep, legs.clone())));
        let calls = tracer.clone().map(|tracer| CallWatch::new(tracer, Arc::clone(&number)));
        figures::of_node(&registry, &health);
        if let Some(ears) = &ears {
            figures::of_ears(&registry, ears);
        }
        if let Some(legs) = &legs {
            figures::of_set_up(&registry, legs);
        }
        if let Some(tracer) = &tracer {
            figures::of_spans(&registry, tracer);
        }
        let outcomes = Arc::new(Outcomes::default());
        figures::of_outcomes(&registry, &outcomes);
        let watcher = Arc::clone(&health);
        apart.spawn(async move { watcher.keep_looking().await });
        let listener = match watch.listen {
            Some(address) => {
                let serving = operate::serve(address, Arc::clone(&registry), Arc::clone(&health));
                Some(apart.spawn(serving).await??)
            }
            None => None,
        };
        Ok(Self { registry, health, outcomes, tracer, ears, legs, calls, listener, number, _apart: apart })
    }

    /// The number that the cluster knows the node by.
    pub(crate) fn named(&self, node: NodeId) {
        self.number.store(node.0, Ordering::Relaxed);
    }

    /// Where health and metrics are served.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().map(operate::Served::address)
    }

    /// What sees the messages of a proxy.
    pub(crate) fn tap(&self) -> Option<Arc<dyn Tap>> {
        self.ears.as_ref().map(|ears| Arc::clone(ears) as _)
    }

    /// Who decides about calls, as this node's proxy shall see him, wherever he is.
    pub(crate) fn before_proxy(&self, calls: Arc<dyn Calls>) -> Arc<dyn Calls> {
        match &self.legs {
            Some(legs) => Arc::new(ProxyCalls { inner: calls, legs: Arc::clone(legs) }),
            None => calls,
        }
    }

    /// The legs of this node's proxy, as whoever orders them shall see them.
    pub(crate) fn legs(&self, legs: Arc<dyn Legs>) -> Arc<dyn Legs> {
        match &self.legs {
            Some(watch) => Arc::new(ProxyLegs { inner: legs, legs: Arc::clone(watch) }),
            None => legs,
        }
    }

    /// The application server of this node, as proxies shall see it.
    pub(crate) fn owner(&self, calls: Arc<dyn Calls>) -> Arc<dyn Calls> {
        match &self.calls {
            Some(watch) => Arc::new(OwnerCalls { inner: calls, calls: Arc::clone(watch) }),
            None => calls,
        }
    }

    /// The same, as all nodes of a cluster shall see it.
    pub(crate) fn owner_server(&self, server: Arc<dyn CallServer>) -> Arc<dyn CallServer> {
        match &self.calls {
            Some(watch) => Arc::new(OwnerServer { inner: server, calls: Arc::clone(watch) }),
            None => server,
        }
    }

    /// The legs of this node's proxy, as the switchboard of its node shall see them.
    pub(crate) fn host(&self, host: Arc<dyn LegHost>) -> Arc<dyn LegHost> {
        match &self.legs {
            Some(watch) => Arc::new(ProxyHost { inner: host, legs: Arc::clone(watch) }),
            None => host,
        }
    }

    /// The same, as relays shall see it.
    pub(crate) fn owner_sink(&self, sink: Arc<dyn MediaSink>) -> Arc<dyn MediaSink> {
        match &self.calls {
            Some(watch) => Arc::new(OwnerSink { inner: sink, calls: Arc::clone(watch) }),
            None => sink,
        }
    }

    /// Proxies' legs, as the application server of this node shall see them.
    pub(crate) fn owner_legs(&self, legs: Arc<dyn Legs>) -> Arc<dyn Legs> {
        match &self.calls {
            Some(watch) => Arc::new(OwnerLegs { inner: legs, calls: Arc::clone(watch) }),
            None => legs,
        }
    }

    /// Relays, as the application server of this node shall see them.
    pub(crate) fn owner_media(&self, media: Arc<dyn Media>) -> Arc<dyn Media> {
        match &self.calls {
            Some(watch) => Arc::new(OwnerMedia { inner: media, calls: Arc::clone(watch) }),
            None => media,
        }
    }

    /// Where the application server of this node writes calls down.
    pub(crate) fn log(&self, log: Arc<dyn CallLog>) -> Arc<dyn CallLog> {
        let (outcomes, calls) = (Arc::clone(&self.outcomes), self.calls.clone());
        Arc::new(WatchedLog { inner: log, outcomes, calls })
    }

    /// The node is one of many.
    pub(crate) fn clustered(&self, cluster: &Cluster) {
        figures::of_cluster(&self.registry, cluster);
    }

    /// The roles run: from now on they are asked, too, and this node may get calls.
    pub(crate) fn started(&self, config: &NodeConfig, roles: &Roles<'_>) {
        if let Some(ears) = &self.ears {
            let open = roles.proxy.map(|proxy| proxy.listeners()).unwrap_or_default();
            let shown = config.listeners.iter().map(|listener| listener.advertise.as_deref());
            let open = open.into_iter().map(|(_, address)| address);
            ears.know(open.zip(shown).map(|(open, shown)| tap::reached(open, shown)).collect());
        }
        figures::of_roles(&self.registry, roles);
        self.health.of_roles(roles);
        self.health.started();
    }

    /// The node takes no new calls, or does again: whoever asks hears it from now on.
    pub(crate) async fn drain(&self, draining: bool) {
        self.health.drain(draining);
        self.health.tell_now().await;
    }

    /// The last spans leave, as far as somebody takes them.
    pub(crate) async fn stop(&self) {
        if let Some(tracer) = &self.tracer {
            tracer.flush(LAST_SPANS).await;
        }
    }
}

impl Drop for Watching {
    /// Who asks the roles lets go of them, so that they end.
    fn drop(&mut self) {
        self.registry.clear();
        self.health.clear();
    }
}

fn hep(config: &NodeConfig, collector: &str) -> Result<Hep, StartError> {
    let wrong = |key: &str, value: &str, why: &dyn std::fmt::Display| {
        StartError(format!("telemetry.{key} = {value}: {why}"))
    };
    let password = match &config.watch.hep_password_file {
        Some(file) => {
            let read = hep_password(file);
            Some(read.map_err(|why| wrong("hep_password_file", &file.display().to_string(), &why))?)
        }
        None => None,
    };
    let agent = Agent { id: config.watch.hep_id, password };
    Hep::start(collector.to_owned(), agent).map_err(|error| wrong("hep", collector, &error))
}
