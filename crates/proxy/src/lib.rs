//! SIP transports bound to policy: authentication, registrar, legs.
//!
//! In: SIP by UDP, TCP and TLS; orders of an application server ([`cluster::leg::Legs`]). Out: SIP; legs and their events for an
//! application server ([`cluster::leg::Calls`]); bindings ([`cluster::leg::Directory`]) and their changes for a log.
//! Rooms, from the wire inward: `net` (sockets), `worker` (one task per share of the load: transactions, the way of a
//! request), `policy` (what may pass), `auth` (who it is), `budget` (what strangers may cost others), `registrar` and `ping`
//! (bindings), `leg` and `legs` (calls' dialogs as actors), `trunks` (carriers' servers, registrations elsewhere), `stats`.
//! Elsewhere: SIP itself (crate `sip`), what a call means (crate `appserver`).

mod auth;
mod budget;
mod carrier;
mod config;
mod identity;
mod leg;
mod leg_state;
mod legs;
pub mod net;
mod ping;
mod policy;
mod registrar;
mod stats;
mod trunks;
mod worker;

#[cfg(test)]
mod tests;

pub use config::{
    AuthConfig, Limits, Listener, Overload, ProxyConfig, ProxyError, RegistrarConfig, SealKey, TrunksConfig,
    WORKERS_MAX, is_advertisable,
};
pub use net::Network;
pub use net::tls::{CertFiles, TlsConfig, Unusable};
pub use registrar::{BindingChange, BindingLog, Durable, Elsewhere};
pub use stats::{CAUSES, Cause, ProxyStats};
pub use trunks::{
    Colour, Owns, RegistrationState, RegistrationStatus, ServerState, ServerStatus, Target, TargetStatus,
    TrunkStates, Trunks,
};

use arc_swap::ArcSwap;
use auth::Authenticator;
use bytes::Bytes;
use cluster::between::{LegNames, Title};
use cluster::ids::{CallId, LegId, NodeId, first_counter};
use cluster::leg::{Binding, Callee, Calls, Directory, LegCommand, LegEvent, LegHost, Legs, Originate};
use config::Place;
use leg::{Leg, LegMsg};
use legs::LegTag;
use model::entities::{Carrier, CarrierServer, DdiProvider};
use model::{Aor, BindingRecord, Id};
use net::tcp::{Connections, Inputs};
use net::{Port, tcp, udp};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use registrar::{Device, Registrar, Void};
use routing::Router;
use sip::draft::HeaderText;
use sip::flow::{ConnId, Flow, Transport};
use sip::session::{Rel100, SessionConfig};
use sip::transaction::{Config, ListenerVia, Transactions};
use stats::Counters;
use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use worker::{Cmd, Link, Parts, Worker};

/// What a proxy works with.
pub struct Deps {
    /// The configuration that it decides by; may be exchanged at any time.
    pub router: Arc<ArcSwap<Router>>,
    /// Where changes of bindings go.
    pub log: Arc<dyn BindingLog>,
    /// The bindings that the log holds from earlier runs.
    pub bindings: Vec<BindingRecord>,
    /// Where datagrams travel.
    pub network: Network,
    /// Unix time at the start; `None` asks the system. From then on tokio's clock counts.
    pub unix_time: Option<Duration>,
    /// Makes tags, branches and nonces; `None` draws it from the system.
    pub seed: Option<[u8; 32]>,
    /// Sees every message that comes and goes.
    pub tap: Option<Arc<dyn Tap>>,
}

/// Watches messages and the work on them, for ladders, captures and figures. It is called on the workers and must be quick.
pub trait Tap: Send + Sync + 'static {
    /// One whole message.
    fn seen(&self, direction: Direction, flow: Flow, bytes: &Bytes);

    /// A leg begins; of one that came in, policy and password were right. `since`: when its worker took it up.
    fn leg_began(&self, _call: CallId, _leg: LegId, _way: Direction, _sip_call_id: &str, _since: Instant) {}

    /// A leg that had begun is gone.
    fn leg_ended(&self, _call: CallId, _leg: LegId) {}

    /// A worker did a turn. `lag`: how long the datagram that waited longest had been on this machine.
    fn turned(&self, _lag: Duration) {}
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To us.
    In,
    /// From us.
    Out,
}

/// So long after a leg has gone its telephone knows: it has heard of it, also when the first datagram was lost.
const PARTED: Duration = leg::ANNOUNCE_WITHIN.saturating_add(Duration::from_secs(1));

/// Registrars have so long to hear that we leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// A running proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Ends after its registrations.
    trunks: Mutex<Option<JoinHandle<()>>>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    next_worker: AtomicUsize,
}

/// What all parts of a proxy see.
pub(crate) struct Shared {
    config: ProxyConfig,
    places: Arc<[Place]>,
    router: Arc<ArcSwap<Router>>,
    log: Arc<dyn BindingLog>,
    clock: Clock,
    links: Vec<Link>,
    connections: Arc<Connections>,
    /// Legs of all workers.
    legs: AtomicUsize,
    /// A session's configuration but for its Contact.
    session: SessionConfig,
    registrar: Registrar,
    calls: OnceLock<Arc<dyn Calls>>,
    elsewhere: OnceLock<Arc<dyn Elsewhere>>,
    counters: Arc<Counters>,
    gauges: Vec<Gauge>,
    draining: AtomicBool,
    /// When a leg last went to another proxy.
    parted: Mutex<Option<Instant>>,
    /// Counters of names: calls, then the legs of each worker.
    next_call: AtomicU64,
    next_leg: Vec<AtomicU64>,
    rng: Mutex<StdRng>,
    /// Nobody outside knows which calls share a worker.
    spread: u64,
    tap: Option<Arc<dyn Tap>>,
    trunks: Trunks,
}

#[derive(Default)]
struct Gauge {
    transactions: AtomicUsize,
    queued: AtomicUsize,
}

/// Tokio's clock as `Instant` and as Unix time.
pub(crate) struct Clock {
    base: tokio::time::Instant,
    unix: Duration,
    /// There is no kernel whose clock would be another one.
    is_simulated: bool,
}

impl Clock {
    fn new(unix: Option<Duration>, is_simulated: bool) -> Self {
        let unix = unix.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        Self { base: tokio::time::Instant::now(), unix, is_simulated }
    }

    pub(crate) fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    pub(crate) fn unix_secs(&self) -> i64 {
        i64::try_from((self.unix + self.base.elapsed()).as_secs()).unwrap_or(i64::MAX)
    }

    /// Unix time in microseconds.
    fn unix_us(&self) -> u64 {
        u64::try_from((self.unix + self.base.elapsed()).as_micros()).unwrap_or(u64::MAX)
    }

    /// The clock that datagrams are stamped by: the system's own, or this one on a simulated network.
    pub(crate) fn wall(&self) -> Duration {
        if self.is_simulated {
            return self.unix + self.base.elapsed();
        }
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

impl Proxy {
    /// Opens the listeners and starts serving. Calls are refused until [`Proxy::set_calls`].
    ///
    /// # Errors
    /// [`ProxyError`] names what is wrong and what to do about it.
    #[expect(clippy::unused_async, reason = "sockets and tasks need the runtime that polls this")]
    pub async fn start(mut config: ProxyConfig, deps: Deps) -> Result<Arc<Proxy>, ProxyError> {
        config.check()?;
        let workers = config.worker_count();
        if matches!(deps.network, Network::Os) {
            fit_files(&mut config, workers);
        }
        let seed: [u8; 32] = deps.seed.unwrap_or_else(|| rand::rng().random());
        let mut rng = StdRng::from_seed(seed);
        // Of its own, so that trunks change nothing for calls that a seed tells.
        let mut trunk_rng = StdRng::from_seed(seed.map(|byte| !byte));
        let network = deps.network.clone();
        let Opened { places, mut ports, sockets } = open(&config, &deps.network, workers)?;
        let places: Arc<[Place]> = places.into();
        let (links, mailboxes): (Vec<Link>, Vec<_>) = (0..workers).map(|_| Link::new()).unzip();
        let (inputs, streams): (Vec<_>, Vec<_>) = (0..workers).map(|_| Inputs::new()).unzip();
        let counters = Arc::new(Counters::default());
        let clock = Clock::new(deps.unix_time, matches!(deps.network, Network::Sim(_)));
        let (keeper, watches) = mpsc::unbounded_channel();
        let first = first_counter(clock.unix_us());
        let tls = Arc::new(net::tls::Tls::new(&config.tls)?);
        let (trunks, ears) = Trunks::new(trunk_rng.random());
        let shared = Arc::new(Shared {
            connections: Connections::new(
                &config.limits,
                Arc::clone(&places),
                inputs,
                links.clone(),
                Arc::clone(&counters),
                matches!(deps.network, Network::Os),
                Arc::clone(&tls),
            ),
            legs: AtomicUsize::new(0),
            session: SessionConfig {
                user_agent: config.user_agent.clone(),
                allow: policy::CALL_ALLOW,
                session_timer: config.session_timer,
                rel100: config.rel100,
                retry_after_secs: config.overload.retry_after_secs,
                ..SessionConfig::new("")
            },
            registrar: Registrar::new(config.registrar, &config.limits, keeper),
            calls: OnceLock::new(),
            elsewhere: OnceLock::new(),
            gauges: (0..workers).map(|_| Gauge::default()).collect(),
            draining: AtomicBool::new(false),
            parted: Mutex::new(None),
            next_call: AtomicU64::new(first),
            next_leg: (0..workers).map(|_| AtomicU64::new(first)).collect(),
            rng: Mutex::new(StdRng::from_rng(&mut rng)),
            spread: rng.next_u64(),
            router: deps.router,
            log: deps.log,
            tap: deps.tap,
            trunks,
            config,
            places,
            clock,
            links,
            counters,
        });
        shared.restore(deps.bindings);

        let mut tasks =
            vec![tokio::spawn(ping::keep(Arc::clone(&shared), watches, StdRng::from_rng(&mut rng)))];
        tasks.push(tokio::spawn(tls.keep()));
        for (listener, socket) in sockets {
            tasks.push(tokio::spawn(Arc::clone(&shared.connections).accept(listener, socket)));
        }
        let keeper = tokio::spawn(trunks::keep(Arc::clone(&shared), ears, network, trunk_rng));
        let auth = Authenticator::new(shared.config.auth.algorithms.clone(), rng.random());
        let mut running = Vec::with_capacity(workers);
        for ((index, mailbox), streams) in (0u8..).zip(mailboxes).zip(streams) {
            let parts = Parts {
                index,
                transactions: Transactions::new(transaction_config(&shared, index), rng.random()),
                ports: ports.iter_mut().map(|of_listener| of_listener.pop()).collect(),
                mailbox,
                streams,
                auth: auth.clone(),
                rng: StdRng::from_rng(&mut rng),
            };
            running.push(tokio::spawn(Worker::new(Arc::clone(&shared), parts).run()));
        }
        let proxy = Proxy {
            shared,
            tasks: Mutex::new(tasks),
            trunks: Mutex::new(Some(keeper)),
            workers: Mutex::new(running),
            next_worker: AtomicUsize::new(0),
        };
        Ok(Arc::new(proxy))
    }

    /// Names who decides about calls; only the first one counts.
    pub fn set_calls(&self, calls: Arc<dyn Calls>) {
        let _ = self.shared.calls.set(calls);
    }

    /// Names who knows what is registered with other proxies; only the first one counts.
    pub fn set_elsewhere(&self, elsewhere: Arc<dyn Elsewhere>) {
        let _ = self.shared.elsewhere.set(elsewhere);
    }

    /// The open listeners with their real ports, in the order of the configuration.
    pub fn listeners(&self) -> Vec<(Transport, SocketAddr)> {
        self.shared.places.iter().map(|place| (place.transport, place.local)).collect()
    }

    /// A node that drains takes no new calls; those that exist and registrations go on.
    pub fn drain(&self, draining: bool) {
        self.shared.draining.store(draining, Ordering::Relaxed);
    }

    /// Asks for other proxies that carry legs on, for this one is about to leave: those at rest whose telephones any address of the platform
    /// reaches. Legs by streams and behind NAT stay. A few hundred legs at a time; for whoever calls it several times a second.
    pub fn move_legs(&self) {
        for link in &self.shared.links {
            link.send(Cmd::MoveLegs);
        }
    }

    /// Whether a leg has gone to another proxy so lately that its telephone may still send its requests here: they find it.
    pub fn has_just_parted(&self) -> bool {
        let parted = self.shared.parted.lock();
        parted.is_some_and(|at| self.shared.clock.now() < at + PARTED)
    }

    /// Serves a byte stream that a peer opened as if it were a connection of this listener: what transports beside TCP
    /// bring after their own handshake. `false`: refused by a limit.
    pub fn adopt_stream<S>(&self, listener: u16, transport: Transport, remote: SocketAddr, stream: S) -> bool
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        self.shared.connections.adopt(listener, transport, remote, stream)
    }

    /// Ends a leg at once, whatever its state: the peer gets BYE, CANCEL or 500, the call is told that it is lost.
    /// `false`: there is no such leg.
    pub async fn kill_leg(&self, leg: LegId) -> bool {
        let (done, was_there) = oneshot::channel();
        self.shared.link(leg).send(Cmd::Kill { leg, done });
        was_there.await.unwrap_or(false)
    }

    /// The registered contacts of an endpoint.
    pub fn registrations(&self, aor: Aor) -> Vec<BindingRecord> {
        self.shared.registrar.records(aor)
    }

    /// Drops the bindings of endpoints whose account changed: whoever registered as somebody who has another name, domain or
    /// password now has no right to calls. The log hears of it.
    pub fn forget(&self, terminals: &[Aor]) {
        for aor in terminals {
            for change in self.shared.registrar.drop_all(*aor) {
                self.shared.log.append(change, Box::new(|_| {}));
            }
        }
    }

    /// Drops the bindings of an endpoint because an operator wants it: all, or those with this contact. The log hears of it, the
    /// device does not. Out: how many there were.
    pub fn unbind(&self, aor: Aor, contact: Option<&str>) -> usize {
        let registrar = &self.shared.registrar;
        let gone = match contact {
            Some(contact) => registrar.drop_contact(aor, contact),
            None => registrar.drop_all(aor),
        };
        let count = gone.len();
        gone.into_iter().for_each(|change| self.shared.log.append(change, Box::new(|_| {})));
        count
    }

    /// How carriers' servers and registrations at DDI providers stand, as this node knows it.
    pub fn trunk_states(&self) -> TrunkStates {
        self.shared.trunks.states()
    }

    /// Where requests to carriers go, and what became of them.
    pub fn trunks(&self) -> &Trunks {
        &self.shared.trunks
    }

    /// Whether a server of a carrier is not known to be down.
    pub fn server_answers(&self, server: Id<CarrierServer>) -> bool {
        self.shared.trunks.server_state(server) != ServerState::Down
    }

    /// Whether a carrier has a server that is not known to be down.
    pub fn carrier_answers(&self, carrier: Id<Carrier>) -> bool {
        self.shared.trunks.carrier_answers(carrier)
    }

    /// Names who decides which registrations at DDI providers this node keeps, for in a cluster exactly one node keeps each; it is
    /// asked once a second. Only the first one counts. Nobody: all are kept.
    pub fn set_registration_owner(&self, owns: Owns) {
        self.shared.trunks.set_owns(owns);
    }

    /// Asks each SIP worker for a sign of life, which comes when it has done what came before. One that is gone gives none.
    pub fn knock(&self) -> Vec<oneshot::Receiver<()>> {
        let knock = |link: &Link| {
            let (teller, told) = oneshot::channel();
            link.send(Cmd::Knock(teller));
            told
        };
        self.shared.links.iter().map(knock).collect()
    }

    /// Counters and gauges.
    pub fn stats(&self) -> ProxyStats {
        let shared = &self.shared;
        let counters = &shared.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let each = |gauge: fn(&Gauge) -> &AtomicUsize| {
            shared.gauges.iter().map(|each| gauge(each).load(Ordering::Relaxed)).collect()
        };
        ProxyStats {
            bindings: shared.registrar.count(),
            unreachable: shared.registrar.unreachable(),
            legs: shared.legs.load(Ordering::Relaxed),
            legs_max: shared.config.limits.legs,
            draining: shared.draining.load(Ordering::Relaxed),
            connections: shared.connections.open(),
            transactions: each(|gauge| &gauge.transactions),
            queued: each(|gauge| &gauge.queued),
            received: load(&counters.received),
            legs_begun: load(&counters.legs_begun),
            legs_lost: load(&counters.legs_lost),
            legs_revived: load(&counters.legs_revived),
            registered: load(&counters.registered),
            pings: load(&counters.pings),
            pings_missed: load(&counters.pings_missed),
            refused: CAUSES.iter().map(|cause| (*cause, counters.cause(*cause))).collect(),
        }
    }

    /// Returns when no leg is left, and no request of a call waits for its final response nor a refused INVITE for its ACK:
    /// what ends calls is repeated until it has arrived (RFC 3261 section 17), and that takes a proxy that runs. Whoever
    /// waits for this drains, hangs up all calls first, and has a bound: a telephone that is gone answers nothing.
    pub async fn settled(&self) {
        self.all(Cmd::Settle).await;
    }

    /// Begins nothing new in any dialog, and returns when nothing is open in those that are confirmed: other proxies can carry them on
    /// then. Requests that come by datagram meanwhile are left unanswered, so that they are repeated to whoever has their leg next.
    /// For whoever is about to [abandon](Proxy::abandon) it; has a bound, for a telephone that is gone answers nothing.
    pub async fn rest(&self) {
        self.all(Cmd::Rest).await;
    }

    /// Returns when every worker has let go of what it was given.
    async fn all(&self, command: impl Fn(oneshot::Sender<()>) -> Cmd) {
        let ask = |link: &Link| {
            let (teller, told) = oneshot::channel();
            link.send(command(teller));
            told
        };
        let workers: Vec<_> = self.shared.links.iter().map(ask).collect();
        for told in workers {
            let _ = told.await; // the worker only lets go of its end
        }
    }

    /// Takes no more connections, ends all legs by their last will (the peers get BYE, CANCEL or 500), then all workers.
    /// Whoever wants calls to end by themselves drains and waits first, and waits for [`Proxy::settled`].
    pub async fn stop(&self) {
        self.end(|| Cmd::Stop).await;
    }

    /// Ends at once, and leaves the legs to the other proxies of a cluster: their peers hear nothing of it.
    pub async fn abandon(&self) {
        self.end(|| Cmd::Quit).await;
    }

    async fn end(&self, how: impl Fn() -> Cmd) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in &tasks {
            task.abort();
        }
        self.drain(true);
        let keeper = self.trunks.lock().take();
        if let Some(keeper) = keeper {
            let _ = tokio::time::timeout(FAREWELL, self.shared.trunks.leave()).await;
            keeper.abort();
            let _ = keeper.await;
        }
        for link in &self.shared.links {
            link.send(how());
        }
        let workers = std::mem::take(&mut *self.workers.lock());
        for task in tasks.into_iter().chain(workers) {
            let _ = task.await;
        }
    }
}

impl Legs for Proxy {
    fn originate(&self, title: Title, order: Originate) -> Option<(LegId, String)> {
        let shared = &self.shared;
        let index = self.next_worker.fetch_add(1, Ordering::Relaxed) % shared.links.len();
        let leg = shared.new_leg(u8::try_from(index).unwrap_or(0));
        let call_id = format!("{:032x}", shared.rng.lock().random::<u128>());
        shared.originate(title.call, leg, &call_id, order);
        Some((leg, call_id))
    }

    fn command(&self, _: Title, _: NodeId, leg: LegId, command: LegCommand) {
        LegHost::command(self, leg, command);
    }
}

impl LegHost for Proxy {
    fn originate_as(&self, call: CallId, leg: LegId, sip_call_id: String, order: Originate) {
        self.shared.originate(call, leg, &sip_call_id, order);
    }

    fn command(&self, leg: LegId, command: LegCommand) {
        self.shared.link(leg).send(Cmd::Leg { leg, message: LegMsg::Command(command) });
    }

    fn revive(&self, call: CallId, leg: LegId, state: Bytes) {
        self.shared.link(leg).send(Cmd::Revive { call, leg, state });
    }

    fn part(&self, leg: LegId) {
        self.shared.link(leg).send(Cmd::Part(leg));
    }

    fn no_stray(&self, leg: LegId) {
        self.shared.link(leg).send(Cmd::NoStray(leg));
    }

    fn names(&self, count: u32) -> Vec<LegNames> {
        let set_aside = |(worker, next): (u8, &AtomicU64)| LegNames {
            worker,
            first: LegId::new(NodeId(0), 0, next.fetch_add(u64::from(count), Ordering::Relaxed)).as_u64(),
            count,
        };
        (0u8..).zip(&self.shared.next_leg).map(set_aside).collect()
    }
}

impl Directory for Proxy {
    fn bindings(&self, aor: Aor) -> Vec<Binding> {
        let shared = &self.shared;
        let home = shared.config.node;
        shared
            .registrar
            .bindings(aor, home, shared.clock.unix_secs(), |conn| shared.connections.is_open(conn))
    }
}

impl Shared {
    /// What a REGISTER says of contacts that are registered elsewhere.
    fn forget_elsewhere(&self, aor: Aor, void: &Void, before_us: i64) {
        let Some(elsewhere) = self.elsewhere.get() else { return };
        match void {
            Void::Nothing => {}
            Void::All => elsewhere.forget(aor, None, before_us),
            Void::These(contacts) => {
                contacts.iter().for_each(|contact| elsewhere.forget(aor, Some(contact), before_us));
            }
        }
    }

    /// The mailbox of the worker that carries a leg's transactions.
    fn link(&self, leg: LegId) -> &Link {
        &self.links[self.worker_of(leg)]
    }

    /// The worker that a leg lives with. Proxies beside us may have more of them.
    fn worker_of(&self, leg: LegId) -> usize {
        usize::from(leg.worker()) % self.links.len()
    }

    /// Whether a tag can be one that we gave, or that a proxy beside us gave: its leg may live here now.
    fn is_ours(&self, tag: LegTag) -> bool {
        match &self.config.seal {
            Some(key) => legs::seal(key, tag.leg) == tag.secret,
            None => tag.leg.node() == self.config.node && usize::from(tag.leg.worker()) < self.links.len(),
        }
    }

    /// The tag of a new leg; `random` is drawn by the caller.
    fn new_tag(&self, leg: LegId, random: impl FnOnce() -> u64) -> LegTag {
        let secret = self.config.seal.as_ref().map_or_else(random, |key| legs::seal(key, leg));
        LegTag { leg, secret }
    }

    /// Lets a leg begin under this name by an order.
    fn originate(&self, call: CallId, leg: LegId, call_id: &str, order: Originate) {
        let way = match legs::way(self, &order) {
            Ok(way) => way,
            Err(why) => {
                tracing::warn!(%call, %leg, to = ?order.to, why, "there is no way for a leg");
                if let Some(calls) = self.calls.get() {
                    let (reason, headers) = (why.to_owned(), HeaderText::new());
                    calls.event(call, leg, LegEvent::Rejected { status: 503, reason, headers });
                }
                return;
            }
        };
        let tag = self.new_tag(leg, || self.rng.lock().next_u64());
        // A flow of a listener that is gone fails as a transport does; any Contact will do until then.
        let mut config =
            legs::session_config(self, leg, call, way.flow.listener).unwrap_or_else(|| self.session.clone());
        config.first_response = legs::first_response(self, &order);
        if order.offer.is_none() {
            // A reliable response would bring an offer that had to be answered before the caller has seen it.
            config.rel100 = Rel100::Off;
        }
        let device = match &order.to {
            Callee::Binding { aor, target, .. } => self.device(*aor, way.flow, Some(target)),
            Callee::Direct { .. } | Callee::Server { .. } => None,
        };
        let outgoing = legs::outgoing(self, &order, &way, tag, call_id);
        let state = Leg::new(call, tag, (way.peer, device), config, None);
        self.link(leg).send(Cmd::Originate(Box::new((tag, state, outgoing))));
    }

    /// The socket of this transport and family that endpoints are spoken to from.
    fn user_listener(&self, transport: Transport, is_ipv6: bool) -> Option<u16> {
        let fits = |place: &Place| {
            place.trunk.is_none() && place.transport == transport && place.local.is_ipv6() == is_ipv6
        };
        self.places.iter().position(fits).and_then(|index| u16::try_from(index).ok())
    }

    /// The DDI providers that may speak from an address: it is one of theirs, or that of a registrar which has us registered.
    fn ddi_providers(&self, router: &Router, source: IpAddr) -> Vec<Id<DdiProvider>> {
        let mut providers = router.ddi_providers(source).to_vec();
        if let Some(registered) = self.registrar_provider(source)
            && !providers.contains(&registered)
        {
            providers.push(registered);
        }
        providers
    }

    /// Where a carrier's server is, the best place first.
    fn server_flows(&self, server: Id<CarrierServer>) -> Vec<Flow> {
        let targets = self.trunks.targets(server).into_iter();
        let flow =
            |Target { remote, transport, listener }| Flow { transport, listener, remote, conn: ConnId(0) };
        targets.map(flow).collect()
    }

    /// The worker of everything that belongs to an INVITE outside of dialogs.
    fn worker_of_call(&self, call_id: &[u8]) -> usize {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.spread);
        hasher.write(call_id);
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
        let hash = hasher.finish() as usize;
        hash % self.links.len()
    }

    /// Which device of an endpoint a stream leads to; datagrams need no such thing.
    fn device(&self, aor: Aor, flow: Flow, contact: Option<&str>) -> Option<Box<Device>> {
        flow.transport.is_reliable().then(|| self.registrar.device(aor, flow.conn, contact)).flatten()
    }

    fn new_leg(&self, worker: u8) -> LegId {
        let counter = &self.next_leg[usize::from(worker) % self.next_leg.len()];
        LegId::new(self.config.node, worker, counter.fetch_add(1, Ordering::Relaxed))
    }

    fn new_call(&self) -> CallId {
        CallId::new(self.config.node, self.next_call.fetch_add(1, Ordering::Relaxed))
    }

    fn restore(&self, mut bindings: Vec<BindingRecord>) {
        // When each was last refreshed is not recorded; what is left of its time tells for telephones that ask for the same.
        bindings.sort_by_key(|record| record.expires_at);
        // Trunk addresses come last, and have no users.
        let users = self.places.iter().filter(|place| place.trunk.is_none());
        let transports: Vec<Transport> = users.map(|place| place.transport).collect();
        let now = self.clock.unix_secs();
        for record in bindings {
            let (aor, contact) = (record.aor, record.contact.clone());
            if !self.registrar.restore(record, &transports, now) {
                // If this is lost it is found again at the next start.
                self.log.append(BindingChange::Unbind { aor, contact }, Box::new(|_| {}));
            }
        }
    }
}

fn fit_files(config: &mut ProxyConfig, workers: usize) {
    // Who cannot learn the limit has the one that is usual.
    let files = netio::thread::raise_open_files().unwrap_or(1024);
    let configured = config.limits.tcp_connections;
    if !config.limits.fit_files(files, config.listeners.len() * workers) {
        tracing::warn!(
            configured,
            possible = config.limits.tcp_connections,
            files,
            "fewer SIP connections than configured, the rest is for media: raise the limit of open files"
        );
    }
}

/// The open listeners of a proxy.
struct Opened {
    places: Vec<Place>,
    /// By listener, one per worker; none for streams.
    ports: Vec<Vec<Port>>,
    sockets: Vec<(u16, tokio::net::TcpListener)>,
}

fn open(config: &ProxyConfig, network: &Network, workers: usize) -> Result<Opened, ProxyError> {
    let mut opened = Opened { places: Vec::new(), ports: Vec::new(), sockets: Vec::new() };
    for (index, listener) in (0u16..).zip(&config.listeners) {
        let bind = listener.bind;
        let failed = |cause: io::Error| {
            let transport = listener.transport.via_token();
            if cause.kind() == io::ErrorKind::AddrInUse {
                ProxyError::PortInUse { transport, bind }
            } else {
                ProxyError::Bind { transport, bind, cause }
            }
        };
        let (ports, local) = match (network, listener.transport) {
            (Network::Sim(net), Transport::Udp) => {
                ((0..workers).map(|_| Port::Sim(net.bind(bind))).collect(), bind)
            }
            (Network::Sim(_), _) => (Vec::new(), bind),
            (Network::Os, Transport::Udp) => {
                let (ports, local) = udp::open(bind, workers).map_err(failed)?;
                (ports.into_iter().map(Port::Udp).collect(), local)
            }
            (Network::Os, _) => {
                let socket = tcp::listen(bind).map_err(failed)?;
                let local = socket.local_addr().map_err(failed)?;
                opened.sockets.push((index, socket));
                (Vec::new(), local)
            }
        };
        opened.places.push(Place::new(listener, local));
        opened.ports.push(ports);
    }
    Ok(opened)
}

fn transaction_config(shared: &Shared, index: u8) -> Config {
    let via = |place: &Place| ListenerVia { transport: place.transport, sent_by: place.sent_by.clone() };
    Config {
        via_hosts: shared.places.iter().map(via).collect(),
        shard: index,
        max_transactions: shared.config.limits.transactions,
        ..Config::default()
    }
}
