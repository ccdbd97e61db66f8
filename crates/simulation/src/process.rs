//! One process of a node: the real roles and their switchboard, wired as the program wires them, in a runtime of their own whose clock
//! the simulation moves.
//!
//! In: datagrams, what comes by connections, etcd's answers, time. Out: the same from inside, notes and records for the disks. What is
//! dropped as a process without having ended is one that was killed: nothing that its parts say then gets out.

use crate::Time;
use crate::limits::{Counting, Server, Sure, in_use};
use crate::lines::{Item, Lines, Want, Way};
use crate::net::{Carried, ConnId};
use crate::relay::SimRelay;
use crate::watch::{Around, Watched, Watcher};
use crate::wiring::{Gate, Log, Registrar, Sent, Told};
use appserver::{AppServer, Rates};
use arc_swap::ArcSwap;
use bytes::Bytes;
use cluster::between::Owner;
use cluster::counters::PARTITIONS;
use cluster::etcd::{Failure, Request, Response, Ticket, WatchUpdate};
use cluster::ids::{CallId, NodeId};
use cluster::leg::LegHost;
use cluster::media::Media;
use cluster::member::{Event, Member, MemberSettings};
use cluster::node::{Kind, NodeInfo, Role, Roles, View, partitions};
use cluster::switchboard::{CallServer, Deps, Switchboard};
use model::{BindingRecord, Cdr, OpenCall};
use parking_lot::Mutex;
use proxy::net::Network;
use proxy::net::sim::{SimNet, SimPort, Weather};
use proxy::{BindingChange, Durable, Listener, Proxy, ProxyConfig, SealKey};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sip::flow::Transport;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Unix time when a run begins.
pub(crate) const UNIX: Duration = Duration::from_secs(1_800_000_000);
/// As in the program.
const TICK: Duration = Duration::from_millis(100);
const LOAD: Duration = Duration::from_secs(1);
const TIDY: Duration = Duration::from_secs(60);
const HAND_OVER: Duration = Duration::from_millis(250);
/// Shorter than the program's, for a run does not last long.
const RING: Duration = Duration::from_secs(12);
pub(crate) const LEASE: u32 = 5;
/// How long a node that drains tries to hand over.
const DRAIN: Duration = Duration::from_secs(15);
/// And how long it waits for records after that.
const RECORDS: Duration = Duration::from_secs(10);
const RESTING: Duration = Duration::from_secs(2);

/// What is the same for all processes of a node.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) id: NodeId,
    pub(crate) roles: Roles,
    pub(crate) zone: &'static str,
    pub(crate) sip: SocketAddr,
    pub(crate) media: IpAddr,
    /// How far its wall clock is ahead, in microseconds, and how fast its clock goes.
    pub(crate) skew_us: i64,
    pub(crate) rate: f64,
}

/// What a process wants of the world.
pub(crate) enum Said {
    Note(Box<OpenCall>, u32, Durable),
    Record(Box<Cdr>, u32, Durable),
    LetGo(CallId),
    Binding(Box<BindingChange>, Durable),
}

/// What a process gave out at one step.
pub(crate) enum Out {
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Bytes,
    },
    Etcd(Ticket, Request),
    Dial {
        way: Way,
        to: NodeId,
        greeting: cluster::link::Greeting,
    },
    Conn(ConnId, Carried),
    Said(Said),
    /// It has done with everything, and ends.
    Ended,
}

/// How far a process is.
enum Stage {
    /// It waits for its place in the cluster.
    Joining,
    Serving(Box<Parts>),
}

struct Parts {
    proxy: Option<Arc<Proxy>>,
    calls: Option<Arc<AppServer>>,
    relay: Option<Arc<SimRelay>>,
}

/// How far a process is with its end.
enum Farewell {
    /// For as long as an operator wants it.
    Draining {
        next: Instant,
    },
    HandingOver {
        until: Instant,
        next: Instant,
        was_empty: bool,
    },
    HangingUp {
        until: Instant,
    },
    Resting {
        until: Instant,
        done: Option<JoinHandle<()>>,
    },
    Leaving,
}

pub(crate) struct Process {
    // Dropped first: its tasks may still speak while they are dropped.
    rt: Runtime,
    pub(crate) life: u64,
    place: Place,
    born: Time,
    base: Instant,
    gate: Arc<Gate>,
    net: SimNet,
    phones: Vec<(SocketAddr, SimPort)>,
    pub(crate) switchboard: Arc<Switchboard>,
    lines: Arc<Mutex<Lines>>,
    member: Member,
    /// What is certain of it: see `mesh::etcd::Membership`.
    sure: Arc<Sure>,
    /// What its share of the partitions was last proposed from.
    candidates: Vec<(NodeId, Roles, bool)>,
    stage: Stage,
    rates: Arc<Rates>,
    watcher: Arc<Watcher>,
    bindings: Vec<BindingRecord>,
    seed: [u8; 32],
    farewell: Option<Farewell>,
    load_at: Instant,
    tick_at: Instant,
    tidy_at: Instant,
    outs: Vec<Out>,
}

impl Process {
    #[expect(
        clippy::too_many_arguments,
        reason = "one place makes processes, and each is a part of its world"
    )]
    pub(crate) fn new(
        place: Place,
        life: u64,
        born: Time,
        phones: &[SocketAddr],
        rates: Arc<Rates>,
        bindings: Vec<BindingRecord>,
        watcher: Arc<Watcher>,
        rng: &mut StdRng,
    ) -> Self {
        let rt = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let guard = rt.enter();
        let base = Instant::now();
        let weather = Weather { lost: 0, doubled: 0, delay: Duration::ZERO..=Duration::ZERO };
        let net = SimNet::new(rng.random(), weather);
        let ports = phones.iter().map(|phone| (*phone, net.bind(*phone))).collect();
        let gate = Arc::new(Gate { open: AtomicBool::new(true), said: Mutex::default() });
        let instance = rng.random::<u64>().max(1);
        let dice = Mutex::new(StdRng::seed_from_u64(rng.random()));
        let switchboard = Switchboard::new(Deps {
            me: place.id,
            snapshot: Arc::new(ArcSwap::from_pointee(rates.snapshot().clone())),
            unix_us: unix_clock(&place, born, base),
            now: Arc::new(|| Instant::now().into_std()),
            random: Arc::new(move || dice.lock().random::<u128>()),
        });
        let sure = Arc::new(Sure::default());
        switchboard.count_by(Arc::clone(&sure) as _, instance);
        let lines_rng = StdRng::seed_from_u64(rng.random());
        let lines =
            Arc::new(Mutex::new(Lines::new(place.id, place.roles, instance, lines_rng, base.into_std())));
        let wire = Sent { lines: Arc::clone(&lines), gate: Arc::clone(&gate) };
        switchboard.set_wire(Arc::new(wire));
        let settings = MemberSettings::new("/carillon", LEASE, Some(place.id), 7);
        let member = Member::new(settings, info(&place, instance, born), base.into_std());
        let mut seed = [0; 32];
        rng.fill(&mut seed);
        drop(guard);
        Self {
            rt,
            life,
            place,
            born,
            base,
            gate,
            net,
            phones: ports,
            switchboard,
            lines,
            member,
            sure,
            candidates: Vec::new(),
            stage: Stage::Joining,
            rates,
            watcher,
            bindings,
            seed,
            farewell: None,
            load_at: base,
            tick_at: base,
            tidy_at: base + TIDY,
            outs: Vec::new(),
        }
    }

    // --- time ---

    fn local(&self, now: Time) -> Instant {
        let since = (now.saturating_sub(self.born) as f64 * self.place.rate) as u64;
        self.base + Duration::from_millis(since / 1000)
    }

    fn clock(&self) -> Instant {
        let _guard = self.rt.enter();
        Instant::now()
    }

    /// Lets it work until this time, timer by timer.
    pub(crate) fn run(&mut self, now: Time) {
        let until = self.local(now).max(self.clock() + Duration::from_millis(1));
        self.rt.block_on(async { tokio::time::sleep_until(until).await });
        self.tend();
    }

    /// It stood still, and its clock did not.
    pub(crate) fn wake(&mut self, now: Time) {
        let ahead = self.local(now).saturating_duration_since(self.clock());
        self.rt.block_on(async { tokio::time::advance(ahead).await });
    }

    // --- what comes ---

    pub(crate) fn datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let _guard = self.rt.enter();
        if let Some((_, port)) = self.phones.iter().find(|(phone, _)| *phone == from) {
            port.send_to(bytes, to);
        }
    }

    pub(crate) fn answered(&mut self, ticket: Ticket, answer: Result<Response, Failure>) {
        let now = self.clock().into_std();
        self.member.handle_answer(ticket, answer, now);
        self.membership();
    }

    pub(crate) fn watched(&mut self, ticket: Ticket, update: WatchUpdate) {
        let now = self.clock().into_std();
        self.member.handle_watch(ticket, update, now);
        self.membership();
    }

    /// Something came by a connection; `false`: there is nobody to hear it.
    pub(crate) fn heard(&mut self, conn: ConnId, from: NodeId, way: Way, what: Carried) -> bool {
        if matches!(self.stage, Stage::Joining) {
            return false; // it does not listen yet
        }
        let now = self.clock().into_std();
        self.lines.lock().heard(conn, from, way, what, now);
        self.link_wants();
        true
    }

    /// Nobody listens where the node did.
    pub(crate) fn refused(&mut self, by: NodeId) {
        let now = self.clock().into_std();
        self.lines.lock().gone(by, now);
        self.link_wants();
    }

    pub(crate) fn dialled(&mut self, way: Way, to: NodeId, conn: ConnId) {
        self.lines.lock().dialled(way, to, conn);
    }

    /// Something that was to be durable is, or is not.
    pub(crate) fn durable(&mut self, done: Durable, is: bool) {
        let _guard = self.rt.enter();
        done(is);
    }

    /// Told to stop: it hands over what it has, and leaves.
    pub(crate) fn stop(&mut self) {
        let now = self.clock();
        if self.farewell.is_none() {
            if let Stage::Serving(parts) = &self.stage
                && let Some(proxy) = &parts.proxy
            {
                proxy.drain(true);
            }
            self.member.set_draining(true, now.into_std());
            self.farewell = Some(Farewell::HandingOver { until: now + DRAIN, next: now, was_empty: false });
        }
    }

    /// An operator has it drain, and it stays.
    pub(crate) fn drain(&mut self) {
        let now = self.clock();
        if let (None, Stage::Serving(parts)) = (&self.farewell, &self.stage) {
            if let Some(proxy) = &parts.proxy {
                proxy.drain(true);
            }
            self.member.set_draining(true, now.into_std());
            self.farewell = Some(Farewell::Draining { next: now });
        }
    }

    /// And takes that back.
    pub(crate) fn undrain(&mut self) {
        let now = self.clock();
        if let (Some(Farewell::Draining { .. }), Stage::Serving(parts)) = (&self.farewell, &self.stage) {
            if let Some(proxy) = &parts.proxy {
                proxy.drain(false);
            }
            if let Some(calls) = &parts.calls {
                calls.undrain();
            }
            self.member.set_draining(false, now.into_std());
            self.farewell = None;
        }
    }

    // --- what goes on by itself ---

    fn tend(&mut self) {
        let now = self.clock();
        if self.member.poll_timeout().is_some_and(|(at, _)| at <= now.into_std()) {
            self.member.handle_timeout(now.into_std());
        }
        self.membership();
        if let Stage::Serving(parts) = &self.stage {
            if now >= self.load_at {
                self.load_at = now + LOAD;
                let calls = parts.calls.as_ref().map_or(0, |calls| calls.stats().calls as u32);
                self.member.set_load(calls, now.into_std());
                self.membership();
            }
            if now >= self.tick_at {
                self.tick_at = now + TICK;
                let _guard = self.rt.enter();
                self.switchboard.tick();
                if now >= self.tidy_at {
                    self.tidy_at = now + TIDY;
                    self.switchboard.tidy();
                }
            }
            self.lines.lock().tend(now.into_std());
            self.link_wants();
            self.lines.lock().tend(now.into_std()); // what was said because of it
            self.link_wants();
        }
        self.part(now);
        self.collect();
    }

    fn collect(&mut self) {
        let _guard = self.rt.enter();
        for (phone, port) in &mut self.phones {
            while let Some((bytes, from)) = port.try_recv() {
                self.outs.push(Out::Datagram { from, to: *phone, bytes });
            }
        }
        let said = std::mem::take(&mut *self.gate.said.lock());
        self.outs.extend(said.into_iter().map(Out::Said));
    }

    pub(crate) fn take_outs(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.outs)
    }

    /// What has happened is told, and only then etcd is asked: see `mesh::etcd::driver`.
    fn membership(&mut self) {
        loop {
            let (mut is_news, mut is_view_new, mut is_owned_new, mut has_joined) =
                (false, false, false, false);
            while let Some(event) = self.member.poll_event() {
                is_news = true;
                match event {
                    Event::Joined(_) => has_joined |= matches!(self.stage, Stage::Joining),
                    Event::View(_) => is_view_new = true,
                    Event::Gained(..) | Event::Lost(..) => is_owned_new = true,
                    // Refused at the start, or superseded: the process ends, and whoever started it starts another one.
                    Event::Refused(_) if matches!(self.stage, Stage::Joining) => self.outs.push(Out::Ended),
                    Event::Superseded | Event::Left => self.outs.push(Out::Ended),
                    Event::Refused(_) | Event::LostLease => {}
                }
            }
            self.sure.show(&self.member, is_owned_new);
            if has_joined {
                self.serve();
            } else if is_view_new || is_owned_new {
                self.follow();
            }
            if is_view_new {
                self.propose();
            }
            if !is_news {
                break;
            }
        }
        while let Some((ticket, request)) = self.member.poll_request() {
            self.outs.push(Out::Etcd(ticket, request));
        }
    }

    /// Wishes its share of the partitions that tenants of this world belong to, as [`Member::share`] would of all.
    fn propose(&mut self) {
        if !self.place.roles.has(Role::As) || !self.is_serving() {
            return;
        }
        let (kind, now, view) = (Kind::CLIENTS, self.clock().into_std(), self.member.view());
        let of = |node: &Arc<NodeInfo>| (node.id, node.roles, node.draining);
        let candidates: Vec<(NodeId, Roles, bool)> = view.nodes.values().map(of).collect();
        if self.candidates == candidates {
            return; // loads change all the time
        }
        self.candidates = candidates;
        let ours = partitions(&view, self.place.id, kind, PARTITIONS.into(), Role::As);
        let ours = ours.into_iter().filter(|partition| in_use().contains(partition)).collect();
        self.member.wish(kind, ours, now);
    }

    /// Knows who is there and what it owns: see `carillon::clustered::follow`.
    fn follow(&mut self) {
        let Stage::Serving(_) = self.stage else { return };
        let _guard = self.rt.enter();
        let now = Instant::now().into_std();
        let view = self.member.view();
        self.lines.lock().set_view(&view, now);
        self.switchboard.view_changed(Arc::clone(&view));
        self.switchboard.ownership_changed(self.member.owns(), &view);
        self.link_wants();
    }

    /// Starts the roles: see `carillon::node` and `carillon::clustered`.
    fn serve(&mut self) {
        let mut parts = Parts { proxy: None, calls: None, relay: None };
        let roles = self.place.roles;
        if roles.has(Role::As) {
            let log = Arc::new(Log(Arc::clone(&self.gate)));
            let rates = Arc::new(ArcSwap::new(Arc::clone(&self.rates)));
            let clock = unix_clock(&self.place, self.born, self.base);
            let seed = u64::from_le_bytes(*self.seed.first_chunk().expect("it is longer"));
            let deps = appserver::Deps::new(rates, log, clock, self.place.id, seed);
            let limits = appserver::Limits { calls: 1000, ring: RING };
            let calls = self.rt.block_on(AppServer::start(deps, limits)).expect("the runtime is up");
            let around = Arc::new(Around::new(&self.switchboard, Arc::clone(&self.watcher), self.place.id));
            calls.connect(Arc::clone(&around) as _, Arc::clone(&around) as _, around as _);
            let who = (self.place.id, self.life);
            let counting = Arc::new(Counting::new(&self.switchboard, Arc::clone(&self.watcher), who));
            calls.limit_by(Arc::clone(&counting) as _);
            let server = Server::new(Arc::clone(&calls), counting);
            self.switchboard.set_server(Arc::new(server) as Arc<dyn CallServer>);
            parts.calls = Some(calls);
        }
        if roles.has(Role::Relay) {
            let first = 10_000 + (self.life % 20) as u16 * 2000;
            let relay = Arc::new(SimRelay::new(self.place.media, first));
            self.switchboard.set_relay(Arc::clone(&relay) as Arc<dyn Media>);
            parts.relay = Some(relay);
        }
        if roles.has(Role::Proxy) {
            parts.proxy = Some(self.serve_sip());
        }
        self.stage = Stage::Serving(Box::new(parts));
        self.follow();
        let now = self.clock().into_std();
        self.propose();
        self.member.set_draining(false, now);
        self.membership();
    }

    fn serve_sip(&mut self) -> Arc<Proxy> {
        let unix_us = unix_clock(&self.place, self.born, self.base);
        let mut config = ProxyConfig {
            node: self.place.id,
            seal: Some(SealKey([5; 32])),
            listeners: vec![Listener::new(Transport::Udp, self.place.sip)],
            workers: 1,
            nat_ping: Duration::ZERO,
            ..ProxyConfig::default()
        };
        config.auth.invite = false;
        let longest = i64::from(config.registrar.max_expires);
        let log =
            Arc::new(Told { gate: Arc::clone(&self.gate), switchboard: Arc::downgrade(&self.switchboard) });
        let bindings = std::mem::take(&mut self.bindings);
        let guard = self.rt.enter();
        for binding in &bindings {
            self.switchboard.restored(binding.clone(), binding.expires_at - longest);
        }
        let unix_time = Duration::from_micros(unix_us().unsigned_abs());
        drop(guard);
        let deps = proxy::Deps {
            router: Arc::new(ArcSwap::new(Arc::clone(&self.rates.router))),
            log,
            bindings,
            network: Network::Sim(self.net.clone()),
            unix_time: Some(unix_time),
            seed: Some(self.seed),
            tap: None,
        };
        let proxy = self.rt.block_on(Proxy::start(config, deps)).expect("the simulated listener opens");
        proxy.set_calls(Arc::clone(&self.switchboard) as _);
        let host = Watched::new(Arc::downgrade(&proxy), Arc::clone(&self.watcher), self.place.id, self.life);
        let registrar = Registrar(Arc::downgrade(&proxy));
        self.switchboard.set_host(Arc::new(host) as Arc<dyn LegHost>, Arc::new(registrar));
        proxy
    }

    /// What links want, until they want nothing.
    fn link_wants(&mut self) {
        loop {
            let Some(want) = self.lines.lock().poll_want() else { return };
            let _guard = self.rt.enter();
            let board = &self.switchboard;
            match want {
                Want::Dial { way, to, greeting } => self.outs.push(Out::Dial { way, to, greeting }),
                Want::Say(conn, what) => self.outs.push(Out::Conn(conn, what)),
                Want::Item(from, item) => match item {
                    Item::ToCalls(item) => board.heard_calls(from, *item),
                    Item::ToLegs(item) => {
                        self.watcher.speaks(from, &item);
                        board.heard_legs(from, *item);
                        self.watcher.is_silent();
                    }
                    Item::ToRelay(item) => board.heard_relay(from, *item),
                    Item::FromRelay(item) => board.heard_from_relay(from, *item),
                    Item::Directory(item) => board.heard_directory(from, &item),
                },
                Want::Back(way, node) => match way {
                    Way::Calls => board.calls_back(node),
                    Way::Legs => board.legs_back(node),
                    Way::Relay => board.relay_back(node),
                    Way::Directory => board.directory_back(node),
                    Way::Media => {}
                },
                Want::Lost(way, node, why) => match way {
                    Way::Calls => board.calls_lost(node, why.is_final()),
                    Way::Legs => board.legs_lost(node),
                    Way::Relay => board.relay_lost(node),
                    Way::Directory => board.directory_lost(node),
                    Way::Media => board.media_lost(node),
                },
            }
        }
    }

    /// Its end in order: see `carillon::node::Node::stop`.
    fn part(&mut self, now: Instant) {
        let Stage::Serving(parts) = &self.stage else {
            if self.farewell.take().is_some() {
                self.outs.push(Out::Ended);
            }
            return;
        };
        match &mut self.farewell {
            None => {}
            Some(Farewell::Draining { next }) if now >= *next => {
                *next = now + HAND_OVER;
                let _guard = self.rt.enter();
                parts.calls.iter().for_each(|calls| calls.hand_over());
                parts.proxy.iter().for_each(|proxy| proxy.move_legs());
            }
            Some(Farewell::Draining { .. }) => {}
            Some(Farewell::HandingOver { until, next, was_empty }) => {
                if now < *next {
                    return;
                }
                *next = now + HAND_OVER;
                let _guard = self.rt.enter();
                if let Some(calls) = &parts.calls {
                    calls.hand_over();
                }
                if let Some(proxy) = &parts.proxy {
                    proxy.move_legs();
                }
                let calls = parts.calls.as_ref().map_or(0, |calls| calls.stats().calls);
                let legs = parts.proxy.as_ref().map_or(0, |proxy| proxy.stats().legs);
                let media = parts.relay.as_ref().map_or(0, |relay| relay.sessions().len());
                let me = self.member.info().id;
                let is_known = self.member.view().node(me).is_none_or(|me| me.draining);
                let is_followed = parts.proxy.as_ref().is_some_and(|proxy| proxy.has_just_parted());
                let is_empty = calls == 0 && legs == 0 && media == 0 && is_known && !is_followed;
                if std::mem::replace(was_empty, is_empty) && is_empty || now >= *until {
                    if let Some(calls) = parts.calls.clone() {
                        self.rt.spawn(async move { calls.hang_up_all().await });
                    }
                    self.farewell = Some(Farewell::HangingUp { until: now + RECORDS });
                }
            }
            Some(Farewell::HangingUp { until }) => {
                let calls = parts.calls.as_ref().map_or(0, |calls| calls.stats().calls);
                if calls == 0 || now >= *until {
                    let done =
                        parts.proxy.clone().map(|proxy| self.rt.spawn(async move { proxy.rest().await }));
                    self.farewell = Some(Farewell::Resting { until: now + RESTING, done });
                }
            }
            Some(Farewell::Resting { until, done })
                if done.as_ref().is_none_or(JoinHandle::is_finished) || now >= *until =>
            {
                self.farewell = Some(Farewell::Leaving);
                self.member.leave(now.into_std());
                self.membership();
            }
            Some(Farewell::Resting { .. } | Farewell::Leaving) => {}
        }
    }

    // --- for whoever looks on ---

    pub(crate) fn born(&self) -> Time {
        self.born
    }

    pub(crate) fn instance(&self) -> u64 {
        self.member.info().instance
    }

    pub(crate) fn is_serving(&self) -> bool {
        matches!(self.stage, Stage::Serving(_))
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.farewell.is_some()
    }

    pub(crate) fn member_view(&self) -> Arc<View> {
        self.member.view()
    }

    pub(crate) fn lines_up(&self, others: &[NodeId]) -> bool {
        self.lines.lock().are_up(others)
    }

    pub(crate) fn relay(&self) -> Option<&SimRelay> {
        match &self.stage {
            Stage::Serving(parts) => parts.relay.as_deref(),
            Stage::Joining => None,
        }
    }

    /// What should be zero when everything has settled.
    pub(crate) fn open(&self) -> Open {
        let mut open = Open { custody: self.switchboard.figures().calls, ..Open::default() };
        if let Stage::Serving(parts) = &self.stage {
            if let Some(proxy) = &parts.proxy {
                let stats = proxy.stats();
                open.transactions = stats.transactions.iter().sum();
                open.legs = stats.legs;
            }
            open.calls = parts.calls.as_ref().map_or(0, |calls| calls.stats().calls);
            open.sessions = parts.relay.as_ref().map_or(0, |relay| relay.sessions().len());
        }
        open.unowned = self.switchboard.figures().unowned;
        open
    }

    /// Calls in custody with those who are obeyed for them.
    pub(crate) fn custody(&self) -> Vec<(CallId, Option<Owner>)> {
        self.switchboard.kept()
    }

    /// Calls in custody with how many legs live here.
    pub(crate) fn kept_legs(&self) -> Vec<(CallId, usize)> {
        let kept = self.switchboard.kept().into_iter();
        kept.map(|(call, _)| (call, self.switchboard.living(call))).collect()
    }

    /// Killed: nothing of it gets out any more.
    pub(crate) fn kill(self) {
        self.gate.open.store(false, Ordering::Relaxed);
    }
}

/// What a process has open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) transactions: usize,
    pub(crate) legs: usize,
    pub(crate) calls: usize,
    pub(crate) sessions: usize,
    pub(crate) custody: usize,
    pub(crate) unowned: usize,
}

/// The wall clock of a node, in microseconds.
fn unix_clock(place: &Place, born: Time, base: Instant) -> Arc<dyn Fn() -> i64 + Send + Sync> {
    let at_birth = UNIX.as_micros() as i64 + born as i64 + place.skew_us;
    Arc::new(move || at_birth + Instant::now().saturating_duration_since(base).as_micros() as i64)
}

fn info(place: &Place, instance: u64, born: Time) -> NodeInfo {
    NodeInfo {
        id: place.id,
        name: format!("n{}", place.id.0),
        instance,
        identity: u128::from(place.id.0),
        roles: place.roles,
        zone: place.zone.to_owned(),
        capacity: 100,
        peer: format!("10.0.0.{}:7400", place.id.0),
        sip: if place.roles.has(Role::Proxy) { vec![format!("udp:{}", place.sip)] } else { Vec::new() },
        media: if place.roles.has(Role::Relay) { vec![place.media] } else { Vec::new() },
        release: "1".to_owned(),
        protocol: (1, 1),
        draining: true,
        calls: 0,
        started_ms: (UNIX.as_millis() as u64) + born / 1000,
    }
}
