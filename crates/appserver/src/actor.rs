//! The shell of the calls: actors by the shard, and the application server's face to proxies and relays.
//!
//! A call's actor decides nothing: it feeds its [`Call`] and carries out the answer. Calls share the mailbox and the task of
//! their shard, and nothing else: one that fails is buried alone, by the `Drop` of its state: legs ended, record written.
//! Elsewhere: decisions (`call`), deadlines (`alarm`).

use crate::alarm::Alarms;
use crate::call::{Action, Call, Now, World};
use crate::places::Places;
use crate::rates::Rates;
use arc_swap::ArcSwap;
use cluster::between::{Counted, Title, ToCalls};
use cluster::counters::{self, Claim, Verdict};
use cluster::ids::{CallId, LegId, NodeId};
use cluster::leg::{Binding, Calls, Directory, Incoming, LegCommand, LegEvent, Legs};
use cluster::media::{Media, MediaError, MediaEvent, MediaReply, MediaSink};
use cluster::switchboard::CallServer;
use counters::Limits as _;
use farewells::Farewells;
use many::{Adoption, Finished, Hint, Tenure};
use model::entities::CarrierServer;
use model::{Aor, Cdr, Client, Id, OpenCall};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use routing::StatusCodes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tracing::{debug, error, info, warn};

/// Where calls are written down.
pub trait CallLog: Send + Sync + 'static {
    /// A call rings, was answered, or was taken over from another application server (then `epoch` is above 0); a later note of the
    /// same call replaces the earlier one. Not waited for; `done` says whether it is durable and may be called on any thread.
    fn began(&self, call: OpenCall, epoch: u32, done: Box<dyn FnOnce(bool) + Send>);
    /// A call ended; `done` says whether its record is durable and may be called on any thread. Of two records of one call the one
    /// of the larger epoch counts: its maker has taken the call over from the other's.
    fn ended(&self, cdr: Cdr, epoch: u32, done: Box<dyn FnOnce(bool) + Send>);
    /// A call goes on at another application server, which will write its record: what was noted of it here is void.
    fn let_go(&self, _call: CallId) {}
}

/// What an application server needs around it.
pub struct Deps {
    /// The configuration, replaced as a whole when it changes.
    pub rates: Arc<ArcSwap<Rates>>,
    /// Whether a carrier's server answers, as far as this node knows.
    pub answers: Arc<dyn Fn(Id<CarrierServer>) -> bool + Send + Sync>,
    /// Which failures of a carrier make the next one be tried.
    pub carrier_failures: StatusCodes,
    /// Where calls are written down.
    pub log: Arc<dyn CallLog>,
    /// Unix time in microseconds.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// This node.
    pub node: NodeId,
    /// Draws which carriers are tried first.
    pub seed: u64,
}

impl Deps {
    /// Those of a server that knows nothing of carriers: all answer, the usual failures make the next one be tried, and `seed` draws
    /// which is the first.
    pub fn new(
        rates: Arc<ArcSwap<Rates>>,
        log: Arc<dyn CallLog>,
        clock: Arc<dyn Fn() -> i64 + Send + Sync>,
        node: NodeId,
        seed: u64,
    ) -> Self {
        let (answers, carrier_failures) = (Arc::new(|_| true), StatusCodes::default());
        Self { rates, answers, carrier_failures, log, clock, node, seed }
    }
}

/// Bounds of an application server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls at the same time; the next one gets 503.
    pub calls: usize,
    /// How long a user's telephones ring before the call ends unanswered.
    pub ring: Duration,
}

/// Gauges and counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls that have an actor now.
    pub calls: usize,
    /// Calls since the start.
    pub calls_total: u64,
    /// Calls whose actor died.
    pub crashed_total: u64,
    /// Call records that are durable.
    pub records_total: u64,
    /// Calls taken over from other application servers since the start.
    pub adopted_total: u64,
    /// Calls given to others, or lost to them, since the start.
    pub let_go_total: u64,
    /// Calls that there may be at the same time.
    pub calls_max: usize,
    /// No new call is taken any more.
    pub draining: bool,
    /// No new call is taken until a record or a note can be written again.
    pub log_fails: bool,
}

/// Makes and owns the call actors. One of them for each node with the role `as`.
pub struct AppServer {
    shared: Arc<Shared>,
    supervisor: ActorRef<()>,
}

struct Shared {
    rates: Arc<ArcSwap<Rates>>,
    answers: Arc<dyn Fn(Id<CarrierServer>) -> bool + Send + Sync>,
    carrier_failures: StatusCodes,
    rng: Mutex<SmallRng>,
    log: Arc<dyn CallLog>,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    node: NodeId,
    limits: Limits,
    peers: OnceLock<Peers>,
    /// Whoever counts calls for all nodes; `None`: `places`.
    counting: OnceLock<Arc<dyn counters::Limits>>,
    places: Places,
    /// Calls that have an actor here, by their clients: for whoever wants to know.
    clients: Places,
    /// Filled before the first call.
    shards: OnceLock<Vec<ActorRef<ShardMsg>>>,
    alarms: OnceLock<Alarms<CallId>>,
    live: AtomicUsize,
    total: AtomicU64,
    crashed: AtomicU64,
    recorded: AtomicU64,
    adopted: AtomicU64,
    let_go: AtomicU64,
    finished: Mutex<Finished>,
    farewells: Mutex<Farewells>,
    draining: AtomicBool,
    /// The last record or note could not be written: new calls are refused until one can.
    log_fails: AtomicBool,
    ended: Notify,
}

struct Peers {
    legs: Arc<dyn Legs>,
    directory: Arc<dyn Directory>,
    media: Arc<dyn Media>,
}

/// What a shard is told.
enum ShardMsg {
    Begin(Box<(CallState, Incoming)>),
    Call(CallId, CallMsg),
    HangUpAll(u16, &'static str),
    /// A custodian of calls speaks, in a cluster.
    Told(NodeId, ToCalls),
    /// Something has become of a node, in a cluster.
    Node(NodeId, News),
    /// Gives calls to other servers.
    HandOver,
    /// Tells of its calls that have not begun to end, each with its epoch.
    Tell(oneshot::Sender<Vec<(OpenCall, u32)>>),
    /// Gives a sign of life.
    Knock(oneshot::Sender<()>),
}

/// What has become of another node.
#[derive(Clone, Copy, Debug)]
enum News {
    ProxyLost,
    ProxyGone,
    ProxyBack,
    RelayLost,
    RelayBack,
    RelayLeaves,
}

/// What a call is told.
enum CallMsg {
    Begin(Box<Incoming>),
    Leg(LegId, LegEvent),
    LegLost(LegId),
    MediaReply(u32, MediaReply),
    Media(MediaEvent),
    Reserved(u32, Verdict),
    Noted(bool),
    Recorded(bool),
    Tick,
    HangUp(u16, &'static str),
    /// Ends it as a crash would.
    Kill,
    #[cfg(test)]
    Crash,
}

impl AppServer {
    /// An application server without calls. [`AppServer::connect`] must follow before the first one.
    ///
    /// # Errors
    /// When the supervisor cannot be started: only while the runtime shuts down.
    pub async fn start(deps: Deps, limits: Limits) -> Result<Arc<Self>, ractor::SpawnErr> {
        let shared = Arc::new(Shared {
            rates: deps.rates,
            answers: deps.answers,
            carrier_failures: deps.carrier_failures,
            rng: Mutex::new(SmallRng::seed_from_u64(deps.seed)),
            log: deps.log,
            clock: deps.clock,
            node: deps.node,
            limits,
            peers: OnceLock::new(),
            counting: OnceLock::new(),
            places: Places::default(),
            clients: Places::default(),
            shards: OnceLock::new(),
            alarms: OnceLock::new(),
            live: AtomicUsize::new(0),
            total: AtomicU64::new(0),
            crashed: AtomicU64::new(0),
            recorded: AtomicU64::new(0),
            adopted: AtomicU64::new(0),
            let_go: AtomicU64::new(0),
            finished: Mutex::default(),
            farewells: Mutex::default(),
            draining: AtomicBool::new(false),
            log_fails: AtomicBool::new(false),
            ended: Notify::new(),
        });
        let weak = Arc::downgrade(&shared);
        let alarms = Alarms::start(move |call| {
            if let Some(shared) = Weak::upgrade(&weak) {
                shared.send(call, CallMsg::Tick);
            }
        });
        let _ = shared.alarms.set(alarms);
        let (supervisor, _task) = Actor::spawn(None, Supervisor, Arc::clone(&shared)).await?;
        let mut shards = Vec::new();
        for _ in 0..tokio::runtime::Handle::current().metrics().num_workers() {
            let state = ShardState {
                calls: HashMap::new(),
                adoptions: HashMap::new(),
                unclosed: BTreeMap::new(),
                relayless: BTreeSet::new(),
                hints: BTreeMap::new(),
                shared: Arc::clone(&shared),
            };
            shards.push(Actor::spawn_linked(None, Shard, state, supervisor.get_cell()).await?.0);
        }
        let _ = shared.shards.set(shards);
        Ok(Arc::new(Self { shared, supervisor }))
    }

    /// Names the neighbours: proxies' legs, registered bindings, relays. Only the first call counts.
    pub fn connect(&self, legs: Arc<dyn Legs>, directory: Arc<dyn Directory>, media: Arc<dyn Media>) {
        let _ = self.shared.peers.set(Peers { legs, directory, media });
    }

    /// Names whoever counts calls for all nodes; without one they are counted here. Before the first call.
    pub fn limit_by(&self, limits: Arc<dyn counters::Limits>) {
        let _ = self.shared.counting.set(limits);
    }

    /// Gauges and counters.
    pub fn stats(&self) -> Stats {
        Stats {
            calls: self.shared.live.load(Ordering::Relaxed),
            calls_total: self.shared.total.load(Ordering::Relaxed),
            crashed_total: self.shared.crashed.load(Ordering::Relaxed),
            records_total: self.shared.recorded.load(Ordering::Relaxed),
            adopted_total: self.shared.adopted.load(Ordering::Relaxed),
            let_go_total: self.shared.let_go.load(Ordering::Relaxed),
            calls_max: self.shared.limits.calls,
            draining: self.shared.draining.load(Ordering::Relaxed),
            log_fails: self.shared.log_fails.load(Ordering::Relaxed),
        }
    }

    /// Asks each shard for a sign of life, which comes when it has done what came before. One that is gone gives none.
    pub fn knock(&self) -> Vec<oneshot::Receiver<()>> {
        let shards = self.shared.shards.get().into_iter().flatten();
        let knock = |shard: &ActorRef<ShardMsg>| {
            let (teller, told) = oneshot::channel();
            let _ = shard.cast(ShardMsg::Knock(teller));
            told
        };
        shards.map(knock).collect()
    }

    /// Calls of a client that have an actor now.
    pub fn calls_of(&self, client: Id<Client>) -> u32 {
        self.shared.clients.of(Counted::Client(client))
    }

    /// Takes no new calls from now on.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
    }

    /// Takes new calls again. Calls that were given away and that nobody took come back.
    pub fn undrain(&self) {
        self.shared.draining.store(false, Ordering::Relaxed);
    }

    /// Ends every call with BYE, CANCEL or 503, and returns when their records are durable.
    pub async fn hang_up_all(&self) {
        self.drain();
        for shard in self.shared.shards.get().into_iter().flatten() {
            let _ = shard.cast(ShardMsg::HangUpAll(503, "Shutting down")); // a shard that is gone has no calls
        }
        self.idle().await;
    }

    /// The calls that go on, save those that are ending, each with its epoch. Those of a shard that is gone are left out.
    pub async fn open_calls(&self) -> Vec<(OpenCall, u32)> {
        let mut told = Vec::new();
        for shard in self.shared.shards.get().into_iter().flatten() {
            let (teller, calls) = oneshot::channel();
            if shard.cast(ShardMsg::Tell(teller)).is_ok() {
                told.push(calls);
            }
        }
        let mut all = Vec::new();
        for calls in told {
            all.extend(calls.await.unwrap_or_default());
        }
        all
    }

    /// Ends a call with BYE, CANCEL or this status, for a reason that all who are in it may know. Nothing happens when there is no such
    /// call any more.
    pub fn hang_up(&self, call: CallId, status: u16, why: &'static str) {
        self.shared.send(call, CallMsg::HangUp(status, why));
    }

    /// Gives calls that talk to other application servers of the cluster, as many as can be given at this moment; those that ring are
    /// asked for again later. New calls are not taken from now on.
    pub fn hand_over(&self) {
        self.drain();
        for shard in self.shared.shards.get().into_iter().flatten() {
            let _ = shard.cast(ShardMsg::HandOver); // a shard that is gone has no calls
        }
    }

    /// Returns when no call has an actor any more.
    pub async fn idle(&self) {
        loop {
            let ended = self.shared.ended.notified();
            if self.shared.live.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }

    /// Kills a call's actor as a crash would: for an operator's last resort and for tests of what then happens.
    pub fn kill(&self, call: CallId) {
        self.shared.send(call, CallMsg::Kill);
    }

    #[cfg(test)]
    fn crash(&self, call: CallId) {
        self.shared.send(call, CallMsg::Crash);
    }
}

impl Drop for AppServer {
    fn drop(&mut self) {
        self.supervisor.stop(None);
    }
}

impl Calls for AppServer {
    fn incoming(&self, incoming: Incoming) -> bool {
        let shared = &self.shared;
        if shared.draining.load(Ordering::Relaxed)
            || shared.log_fails.load(Ordering::Relaxed)
            || shared.live.load(Ordering::Relaxed) >= shared.limits.calls
        {
            return false;
        }
        let id = incoming.call;
        let state = CallState::new(&incoming, None, shared);
        shared.tell(id, ShardMsg::Begin(Box::new((state, incoming))));
        true
    }

    fn event(&self, call: CallId, leg: LegId, event: LegEvent) {
        self.shared.send(call, CallMsg::Leg(leg, event));
    }

    fn leg_lost(&self, call: CallId, leg: LegId) {
        self.shared.send(call, CallMsg::LegLost(leg));
    }
}

impl MediaSink for AppServer {
    fn reply(&self, call: CallId, ticket: u32, reply: MediaReply) {
        self.shared.send(call, CallMsg::MediaReply(ticket, reply));
    }

    fn event(&self, call: CallId, event: MediaEvent) {
        self.shared.send(call, CallMsg::Media(event));
    }
}

impl CallServer for AppServer {
    fn told(&self, from: NodeId, message: ToCalls) {
        let call = match &message {
            ToCalls::Incoming { title, .. }
            | ToCalls::Event { title, .. }
            | ToCalls::LegLost { title, .. }
            | ToCalls::LegState { title, .. }
            | ToCalls::Superseded { title, .. }
            | ToCalls::NotHere { title, .. }
            | ToCalls::Leaves { title, .. }
            | ToCalls::Revived { title, .. } => title.call,
            ToCalls::Offer(stand) | ToCalls::Claimed(stand) => stand.title.call,
            ToCalls::Stray { call, .. } => *call,
            ToCalls::Names(_) => return,
        };
        self.shared.tell(call, ShardMsg::Told(from, message));
    }

    fn proxy_lost(&self, proxy: NodeId) {
        self.shared.farewells.lock().lost(proxy, self.shared.now().mono);
        self.shared.news(proxy, News::ProxyLost);
    }

    fn proxy_gone(&self, proxy: NodeId) {
        self.shared.news(proxy, News::ProxyGone);
    }

    fn proxy_left(&self, proxy: NodeId) {
        self.shared.farewells.lock().left(proxy);
        self.shared.news(proxy, News::ProxyGone);
    }

    fn proxy_back(&self, proxy: NodeId) {
        self.shared.farewells.lock().back(proxy, self.shared.now().mono);
        self.shared.news(proxy, News::ProxyBack);
    }

    fn reserved(&self, call: CallId, number: u32, verdict: Verdict) {
        self.shared.send(call, CallMsg::Reserved(number, verdict));
    }

    fn relay_lost(&self, relay: NodeId) {
        self.shared.news(relay, News::RelayLost);
    }

    fn relay_back(&self, relay: NodeId) {
        self.shared.news(relay, News::RelayBack);
    }

    fn relay_leaves(&self, relay: NodeId) {
        self.shared.news(relay, News::RelayLeaves);
    }
}

impl Shared {
    fn limits(&self) -> &dyn counters::Limits {
        self.counting.get().map_or(&self.places, |limits| &**limits)
    }

    fn node(&self) -> NodeId {
        self.node
    }

    fn news(&self, node: NodeId, news: News) {
        for shard in self.shards.get().into_iter().flatten() {
            let _ = shard.cast(ShardMsg::Node(node, news)); // a shard that is gone has no calls
        }
    }

    fn send(&self, call: CallId, message: CallMsg) {
        self.tell(call, ShardMsg::Call(call, message));
    }

    /// To the shard that has this call. Fails only while the server ends, when the shards bury their calls.
    fn tell(&self, call: CallId, message: ShardMsg) {
        let Some(shards) = self.shards.get() else { return };
        let _ = shards[call.counter() as usize % shards.len()].cast(message);
    }

    fn now(&self) -> Now {
        Now { mono: tokio::time::Instant::now().into_std(), unix_us: (self.clock)() }
    }

    /// A leg whose call is gone must not live on.
    fn end_orphan(&self, call: CallId, leg: LegId, event: &LegEvent) {
        let is_over =
            matches!(event, LegEvent::Ended { .. } | LegEvent::Rejected { .. } | LegEvent::Cancelled { .. });
        if let Some(peers) = self.peers.get().filter(|_| !is_over) {
            let title = Title { call, epoch: 0 };
            peers.legs.command(title, leg.node(), leg, LegCommand::Bye { reason: None });
        }
    }
}

impl World for Shared {
    fn rates(&self) -> Arc<Rates> {
        self.rates.load_full()
    }

    fn bindings(&self, aor: Aor) -> Vec<Binding> {
        self.peers.get().map_or_else(Vec::new, |peers| peers.directory.bindings(aor))
    }

    fn answers(&self, server: Id<CarrierServer>) -> bool {
        (self.answers)(server)
    }

    fn carrier_failures(&self) -> StatusCodes {
        self.carrier_failures.clone()
    }

    fn random(&self) -> u64 {
        self.rng.lock().next_u64()
    }

    fn ring_time(&self) -> Duration {
        self.limits.ring
    }

    fn choose_relay(&self, client: Id<Client>, call: CallId, caller: LegId) -> Option<NodeId> {
        self.peers.get()?.legs.relay(client, caller, call, None)
    }
}

/// The actor of a shard.
struct Shard;

struct ShardState {
    calls: HashMap<CallId, CallState>,
    /// Calls that are being taken over.
    adoptions: HashMap<CallId, Adoption>,
    /// Sessions that calls have left at relays, and when they may be closed if the relays can be reached.
    unclosed: BTreeMap<(NodeId, CallId), std::time::Instant>,
    /// Calls that lost these relays while no other one was in reach.
    relayless: BTreeSet<(NodeId, CallId)>,
    /// What servers that have taken calls from this one are to be told.
    hints: BTreeMap<CallId, Hint>,
    shared: Arc<Shared>,
}

impl Actor for Shard {
    type Msg = ShardMsg;
    type State = ShardState;
    type Arguments = ShardState;

    async fn pre_start(
        &self,
        _: ActorRef<ShardMsg>,
        state: ShardState,
    ) -> Result<ShardState, ActorProcessingErr> {
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<ShardMsg>,
        message: ShardMsg,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShardMsg::Begin(begin) => {
                let (call, incoming) = *begin;
                let id = call.id;
                state.calls.insert(id, call);
                // Its server may have begun to drain since it was taken: the end of all calls must find it.
                if state.shared.draining.load(Ordering::Relaxed) {
                    state.deliver(id, CallMsg::HangUp(503, "Shutting down"));
                } else {
                    state.deliver(id, CallMsg::Begin(Box::new(incoming)));
                }
            }
            ShardMsg::Call(id, message) => state.deliver(id, message),
            ShardMsg::Told(from, message) => state.guarded(|state| state.told(from, message)),
            ShardMsg::Node(node, news) => state.guarded(|state| match news {
                News::ProxyLost => state.not_awaited(node),
                News::ProxyGone => {
                    state.hang_up_again(node);
                    state.proxy_gone(node);
                }
                News::ProxyBack => state.proxy_back(node),
                News::RelayLost => state.relay_lost(node),
                News::RelayBack => state.relay_back(node),
                News::RelayLeaves => state.relay_leaves(node),
            }),
            ShardMsg::HandOver => state.guarded(ShardState::hand_over),
            ShardMsg::Tell(teller) => {
                let told = |call: &CallState| Some((call.call.open()?, call.title().epoch));
                let calls = state.calls.values().filter_map(told).collect();
                let _ = teller.send(calls); // nobody wants to know any more
            }
            ShardMsg::Knock(teller) => drop(teller.send(())),
            ShardMsg::HangUpAll(status, why) => {
                let mut ids: Vec<CallId> = state.calls.keys().copied().collect();
                ids.sort_unstable(); // the same order each time
                for id in ids {
                    match state.calls.get_mut(&id) {
                        Some(call) if call.is_parked() => {
                            call.let_go = true; // what others are about to have is not ours to end
                            state.calls.remove(&id);
                        }
                        _ => state.deliver(id, CallMsg::HangUp(status, why)),
                    }
                }
            }
        }
        Ok(())
    }
}

impl ShardState {
    /// A mistake in what concerns many calls must not cost them all.
    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            error!("a word about calls of the cluster made a shard panic; it was dropped");
        }
    }

    /// Carries out what a call wants, and buries it if that fails or it is over.
    fn settle(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let goes_on = catch_unwind(AssertUnwindSafe(|| {
            call.carry_out();
            !call.call.is_over()
        }));
        if !goes_on.unwrap_or(false) {
            self.calls.remove(&id);
        }
    }

    fn deliver(&mut self, id: CallId, message: CallMsg) {
        if matches!(message, CallMsg::Tick) {
            self.many_due(id);
        }
        let Some(call) = self.calls.get_mut(&id) else {
            if let CallMsg::Leg(leg, event) = message {
                self.shared.end_orphan(id, leg, &event);
            }
            return;
        };
        let goes_on = catch_unwind(AssertUnwindSafe(|| {
            let is_killed = matches!(message, CallMsg::Kill);
            call.take(message);
            call.carry_out();
            !is_killed && !call.call.is_over()
        }));
        if !goes_on.unwrap_or(false) {
            self.calls.remove(&id); // its drop buries what did not end in order
        }
    }
}

/// The call and its way to the world. Dropped in any case, also after a panic or a kill: then it buries the call.
struct CallState {
    id: CallId,
    client: Id<Client>,
    call: Call,
    /// In a cluster.
    tenure: Option<Box<Tenure>>,
    /// Another server has it: nothing is buried here.
    let_go: bool,
    shared: Arc<Shared>,
    alarm: Option<std::time::Instant>,
    /// What it asks to count for, under which number.
    asked: Option<(u32, Vec<Claim>)>,
    /// What it counts for until it is given back: with this state at the latest.
    held: Vec<Claim>,
}

impl CallState {
    /// Whether there is a place for the call.
    fn reserved(&mut self, number: u32, verdict: Verdict) {
        let Some((_, claims)) = self.asked.take_if(|(asked, _)| *asked == number) else { return };
        if verdict == Verdict::Granted {
            self.held.extend(claims);
        }
        let now = self.shared.now();
        self.call.reserved(number, verdict, &*self.shared, now);
    }

    fn media_reply(&mut self, ticket: u32, reply: MediaReply) {
        if matches!(reply, MediaReply::Refused(MediaError::Superseded)) && self.call.is_open() && self.doubt()
        {
            return; // it is not ours to end
        }
        let now = self.shared.now();
        self.call.media_reply(ticket, reply, now);
    }

    fn take(&mut self, message: CallMsg) {
        let now = self.shared.now();
        let call = &mut self.call;
        match message {
            CallMsg::Begin(incoming) => {
                let Incoming { leg, client, origin, .. } = *incoming;
                debug!(call = %self.id, %leg, %client, ?origin, "call began");
                call.set_up(*incoming, self.shared.as_ref(), now);
            }
            CallMsg::Leg(leg, event) => call.leg_event(leg, event, now),
            CallMsg::LegLost(leg) => call.leg_lost(leg, now),
            CallMsg::MediaReply(ticket, reply) => self.media_reply(ticket, reply),
            CallMsg::Media(event) => call.media_event(event, now),
            CallMsg::Reserved(number, verdict) => self.reserved(number, verdict),
            CallMsg::Noted(durable) => {
                self.shared.log_fails.store(!durable, Ordering::Relaxed);
                if !durable {
                    call.unnoted(now);
                }
            }
            CallMsg::Recorded(durable) => {
                self.shared.log_fails.store(!durable, Ordering::Relaxed);
                if durable {
                    self.shared.recorded.fetch_add(1, Ordering::Relaxed);
                } else {
                    warn!(call = %self.id, "call record not written; trying again, new calls are refused meanwhile");
                }
                call.recorded(durable, now);
            }
            CallMsg::Tick => {
                // An older, later alarm may ring, too: it must not make another one each time.
                self.alarm = self.alarm.filter(|alarm| *alarm > now.mono);
                call.handle_timeout(now);
            }
            CallMsg::HangUp(status, why) => call.hang_up(status, why, now),
            CallMsg::Kill => {}
            #[cfg(test)]
            CallMsg::Crash => panic!("asked to crash"),
        }
    }

    fn carry_out(&mut self) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        while let Some(action) = self.call.poll_action() {
            match action {
                Action::Leg(leg, command) => {
                    if matches!(command, LegCommand::Bye { .. }) {
                        self.reach(leg, peers);
                    }
                    self.stays(leg);
                    peers.legs.command(self.title(), self.home(leg), leg, command);
                }
                Action::Reserve(number, claims) => {
                    let answer = shared.limits().reserve(self.title(), number, &claims);
                    self.asked = Some((number, claims));
                    if let Some(verdict) = answer {
                        self.reserved(number, verdict);
                    }
                }
                Action::Release(claims) => {
                    let is_given_back =
                        |held: &Claim| claims.iter().any(|claim| claim.counted == held.counted);
                    let (claims, held) = self.held.iter().copied().partition(is_given_back);
                    self.held = held;
                    shared.limits().release(self.id, &claims);
                }
                Action::Originate(slot, order) => {
                    self.involve(order.home);
                    match peers.legs.originate(self.title(), *order) {
                        Some((leg, sip_call_id)) => self.call.originated(slot, leg, sip_call_id),
                        None => self.call.unreachable(slot, self.shared.now()),
                    }
                }
                Action::Media(relay, ticket, command, signalling) => {
                    if let Some(reply) = peers.media.submit(relay, self.id, ticket, command, signalling) {
                        self.media_reply(ticket, reply);
                    }
                }
                Action::Note(mut open) => {
                    open.node = shared.node.0;
                    if open.answered_us.is_some() {
                        debug!(call = %self.id, "call answered");
                    }
                    let (id, shared) = (self.id, Arc::clone(&self.shared));
                    // As a rule there is nothing to tell.
                    let done = Box::new(move |durable: bool| {
                        if !durable || shared.log_fails.load(Ordering::Relaxed) {
                            shared.send(id, CallMsg::Noted(durable));
                        }
                    });
                    self.shared.log.began(*open, self.title().epoch, done);
                }
                Action::Record(mut cdr) => {
                    cdr.node = shared.node.0;
                    info!(call = %self.id, status = cdr.cause.status, "call ended");
                    let (id, shared) = (self.id, Arc::clone(&self.shared));
                    // The call outlives this, or was buried.
                    let done = Box::new(move |durable| shared.send(id, CallMsg::Recorded(durable)));
                    self.shared.log.ended(*cdr, self.title().epoch, done);
                }
            }
        }
        if self.call.is_over() {
            self.done(peers);
        } else {
            self.keep(peers);
        }
        if let (Some(at), Some(alarms)) = (self.call.poll_timeout(), self.shared.alarms.get())
            && self.alarm.is_none_or(|set| at < set)
        {
            self.alarm = Some(at);
            alarms.set(at, self.id);
        }
    }
}

impl Drop for CallState {
    fn drop(&mut self) {
        if self.let_go {
            self.shared.let_go.fetch_add(1, Ordering::Relaxed);
            self.shared.log.let_go(self.id);
            self.shared.limits().let_go(self.id, &self.held);
        } else if !self.call.is_recorded() {
            self.shared.crashed.fetch_add(1, Ordering::Relaxed);
            error!(call = %self.id, "call failed; ending its legs and writing its record");
            let title = self.title();
            let homes: Vec<(LegId, NodeId)> = self.call.legs().map(|leg| (leg, self.home(leg))).collect();
            bury(&mut self.call, title, &homes, &self.shared);
        }
        if !self.let_go {
            self.shared.limits().release(self.id, &self.held);
        }
        if let Some((_, claims)) = &self.asked {
            self.shared.limits().release(self.id, claims);
        }
        self.shared.clients.release(self.id, &[Claim::client(self.client, 0)]);
        self.shared.live.fetch_sub(1, Ordering::Release);
        self.shared.ended.notify_waiters();
    }
}

/// Carries out a dead call's last will. A second failure in here is contained: this runs while the first one unwinds.
fn bury(call: &mut Call, title: Title, homes: &[(LegId, NodeId)], shared: &Arc<Shared>) {
    let id = title.call;
    let home = |leg: LegId| homes.iter().find(|(own, _)| *own == leg).map_or(leg.node(), |(_, home)| *home);
    let will = AssertUnwindSafe(|| {
        let Some(peers) = shared.peers.get() else { return };
        for action in call.bury(shared.now()) {
            match action {
                Action::Leg(leg, command) => peers.legs.command(title, home(leg), leg, command),
                Action::Media(relay, ticket, command, signalling) => {
                    drop(peers.media.submit(relay, id, ticket, command, signalling));
                }
                Action::Record(mut cdr) => {
                    cdr.node = shared.node.0;
                    record_for_the_dead(shared, *cdr, title.epoch);
                }
                Action::Reserve(..) | Action::Release(_) | Action::Originate(..) | Action::Note(_) => {}
            }
        }
    });
    if catch_unwind(will).is_err() {
        error!(call = %id, "the last will of a failed call failed too");
    }
}

fn record_for_the_dead(shared: &Arc<Shared>, cdr: Cdr, epoch: u32) {
    let keeper = Arc::clone(shared);
    let copy = cdr.clone();
    let done = Box::new(move |durable: bool| {
        if durable {
            keeper.recorded.fetch_add(1, Ordering::Relaxed);
        } else {
            error!(call = copy.call, "call record of a failed call could not be written");
        }
    });
    shared.log.ended(cdr, epoch, done);
}

/// Watches the shards.
struct Supervisor;

impl Actor for Supervisor {
    type Msg = ();
    type State = ();
    type Arguments = Arc<Shared>;

    async fn pre_start(&self, _: ActorRef<()>, _: Arc<Shared>) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, why) = event {
            error!(%why, "a shard of calls failed; its calls are buried");
        }
        Ok(())
    }
}

mod farewells;
mod many;
#[cfg(test)]
mod tests;
