//! The world: nodes, telephones, etcd and database, what is on its way between them, and time.
//!
//! Everything happens at points of a grid of two milliseconds. What comes to a process at a point is given to it, then its runtime runs
//! for a millisecond; a process that nothing comes to runs a tenth of a second at a time. What a process says leaves at the point that it
//! was heard at, and arrives later: so nobody hears anything before it was said. Elsewhere: ways between places (`ways`), what all nodes
//! share (`services`), what goes wrong (`faults`), what is asked of the end (`verdict`).

use crate::Time;
use crate::alone::Alone;
use crate::net::{Carried, ConnId, Conns, End};
use crate::phones::Phone;
use crate::plan::{MS, PHONES, Plan, REGISTER, SECOND, Spot};
use crate::process::{Out, Place, Process, UNIX};
use crate::store::{Disk, Knowers, Store};
use crate::trace::Trace;
use crate::watch::Watcher;
use appserver::Rates;
use bytes::Bytes;
use cluster::etcd::{Failure, Request, Response, Ticket, WatchUpdate};
use cluster::ids::NodeId;
use cluster::node::Role;
use cluster::testing::Etcd;
use model::{Cdr, Configuration, Snapshot};
use proxy::Durable;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sip::msg::Message;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

pub(crate) const GRID: Time = 2 * MS;
/// A process runs at least so often.
const ROUND: Time = 100 * MS;
/// A request to etcd that is not answered for so long has failed.
pub(crate) const PATIENCE: Time = 2 * SECOND;
/// A process that may not join is started again after this.
const AGAIN: Time = 2 * SECOND;
/// A connection that broke is dialled again so soon.
const KNOCK: std::ops::Range<Time> = 10 * MS..300 * MS;

/// A place where a process runs, or did.
pub(crate) struct Machine {
    pub(crate) place: Place,
    pub(crate) process: Option<Process>,
    pub(crate) life: u64,
    pub(crate) disk: Disk,
    pub(crate) paused: bool,
    /// Telephones do not reach it any more.
    pub(crate) is_dark: bool,
    /// Nothing answers there, not even the kernel.
    pub(crate) is_off: bool,
    /// What came while it was paused.
    pub(crate) waiting: Vec<Act>,
    /// Since when no process serves there.
    pub(crate) down_since: Option<Time>,
    /// Since when telephones find nobody there who takes calls.
    pub(crate) unfit_since: Option<Time>,
    pub(crate) asked: BTreeSet<Ticket>,
    pub(crate) watch: Option<(Ticket, String, u64)>,
    pub(crate) told: Time,
    pub(crate) is_dirty: bool,
}

pub(crate) enum Act {
    Start(NodeId),
    Arrive(ConnId, usize),
    /// A node dials another one, where a process was: see [`World::gone`].
    Knock {
        node: NodeId,
        at: NodeId,
    },
    ToNode {
        node: NodeId,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Bytes,
    },
    ToPhone {
        phone: usize,
        from: SocketAddr,
        bytes: Bytes,
    },
    Ask {
        node: NodeId,
        life: u64,
        ticket: Ticket,
        request: Request,
    },
    Answer {
        node: NodeId,
        life: u64,
        ticket: Ticket,
        answer: Result<Response, Failure>,
    },
    Watch {
        node: NodeId,
        life: u64,
        ticket: Ticket,
        update: WatchUpdate,
    },
    Expire,
    Record {
        node: NodeId,
        life: u64,
        epoch: u32,
        cdr: Box<Cdr>,
        done: Durable,
    },
    Stored {
        node: NodeId,
        life: u64,
        call: Option<String>,
        done: Durable,
        is: bool,
    },
    Phone(usize),
    Register(usize),
    Begin(usize),
    End(usize),
    Dial(usize),
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now: Time,
    pub(crate) rng: StdRng,
    pub(crate) trace: Trace,
    pub(crate) machines: BTreeMap<NodeId, Machine>,
    pub(crate) phones: Vec<Phone>,
    pub(crate) etcd: Etcd,
    pub(crate) etcd_away: u32,
    pub(crate) store: Store,
    pub(crate) knowers: Knowers,
    pub(crate) alone: Alone,
    /// When a process first heard the BYE of a telephone, by the dialog's Call-ID.
    pub(crate) byes: BTreeMap<Vec<u8>, Time>,
    pub(crate) store_away: u32,
    pub(crate) conns: Conns,
    pub(crate) cuts: BTreeMap<(Spot, Spot), u32>,
    pub(crate) slow: u32,
    pub(crate) weather: (u32, u32),
    /// Where a telephone's datagrams to a proxy really go.
    pub(crate) moved: BTreeMap<(usize, NodeId), NodeId>,
    pub(crate) watcher: Arc<Watcher>,
    pub(crate) fault: Option<crate::Fault>,
    /// Nodes that are still to be drained, one after the other.
    pub(crate) to_drain: VecDeque<NodeId>,
    pub(crate) drained_at: Time,
    queue: BTreeMap<(Time, u64), Act>,
    order: u64,
    round_at: Time,
    pub(crate) phone_wakes: Vec<Time>,
    rates: Arc<Rates>,
    pub(crate) addresses: Vec<SocketAddr>,
}

pub(crate) static RATES: LazyLock<Arc<Rates>> = LazyLock::new(|| {
    let mut rows = Configuration::demo();
    let (user, terminal, extension) =
        (rows.users[0].clone(), rows.terminals[0].clone(), rows.extensions[0].clone());
    for (at, (name, number)) in PHONES.iter().enumerate().skip(2) {
        let id = at as u32 + 1;
        rows.terminals.push(model::entity::Terminal {
            id: model::Id::new(id),
            name: (*name).to_owned(),
            secret: model::Secret::new(*name),
            ..terminal.clone()
        });
        rows.users.push(model::entity::User {
            id: model::Id::new(id),
            first_name: (*name).to_owned(),
            terminal: Some(model::Id::new(id)),
            extension: Some(model::Id::new(id)),
            call_waiting: u32::from(at == crate::plan::ONE_CALL),
            ..user.clone()
        });
        rows.extensions.push(model::entity::Extension {
            id: model::Id::new(id),
            number: number.parse().expect("a number"),
            route: model::entity::ExtensionRoute::User(model::Id::new(id)),
            ..extension.clone()
        });
    }
    Arc::new(Rates::new(Snapshot::build(&rows).expect("a good configuration")))
});

pub(crate) fn sip_address(node: NodeId) -> SocketAddr {
    SocketAddr::from(([127, 0, 1, node.0 as u8], 5060))
}

pub(crate) fn media_address(node: NodeId) -> std::net::IpAddr {
    [127, 0, 3, node.0 as u8].into()
}

fn phone_address(index: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 2, index as u8 + 1], 5060))
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan, with_lines: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let base = Instant::now();
        let proxies: Vec<NodeId> =
            plan.nodes.iter().filter(|node| node.roles.has(Role::Proxy)).map(|node| node.id).collect();
        let addresses: Vec<SocketAddr> = (0..PHONES.len()).map(phone_address).collect();
        let mut phones = Vec::new();
        for (index, names) in PHONES.iter().enumerate() {
            let mut seed = [0; 32];
            rng.fill(&mut seed);
            let server = sip_address(proxies[rng.random_range(0..proxies.len())]);
            let mut phone = Phone::new(index, *names, addresses[index], server, seed, base);
            phone.incoming = plan.answers[index];
            phones.push(phone);
        }
        let machines = plan.nodes.iter().map(|node| (node.id, Machine::new(node))).collect();
        let mut world = Self {
            now: 0,
            rng,
            trace: Trace::new(with_lines),
            machines,
            phone_wakes: vec![Time::MAX; phones.len()],
            phones,
            etcd: Etcd::default(),
            etcd_away: 0,
            store: Store::default(),
            knowers: Knowers::default(),
            alone: Alone::default(),
            byes: BTreeMap::new(),
            store_away: 0,
            conns: Conns::default(),
            cuts: BTreeMap::new(),
            slow: 0,
            weather: (0, 0),
            moved: BTreeMap::new(),
            watcher: Arc::default(),
            fault: None,
            to_drain: VecDeque::new(),
            drained_at: 0,
            queue: BTreeMap::new(),
            order: 0,
            round_at: 0,
            rates: Arc::clone(&RATES),
            addresses,
            plan,
        };
        let nodes: Vec<NodeId> = world.machines.keys().copied().collect();
        for node in nodes {
            let at = world.rng.random_range(0..300 * MS);
            world.after(at, Act::Start(node));
        }
        for phone in 0..PHONES.len() {
            let at = REGISTER + world.rng.random_range(0..600 * MS);
            world.after(at, Act::Register(phone));
        }
        for trouble in 0..world.plan.troubles.len() {
            let (begin, end) = (world.plan.troubles[trouble].begin, world.plan.troubles[trouble].end);
            world.after(begin, Act::Begin(trouble));
            if let Some(end) = end {
                world.after(end, Act::End(trouble));
            }
        }
        for wish in 0..world.plan.wishes.len() {
            world.after(world.plan.wishes[wish].at, Act::Dial(wish));
        }
        world
    }

    // --- time ---

    pub(crate) fn after(&mut self, delay: Time, act: Act) {
        self.order += 1;
        let at = (self.now + delay).div_ceil(GRID) * GRID;
        self.queue.insert((at.max(self.now + GRID), self.order), act);
    }

    /// Lets time pass until then.
    pub(crate) fn run_until(&mut self, end: Time) {
        while self.now < end {
            let next = self.queue.first_key_value().map_or(Time::MAX, |((at, _), _)| *at);
            self.now = next.min(self.round_at).min(end).max(self.now);
            self.watcher.ledger.set_now(self.now);
            while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let act = entry.remove();
                self.act(act);
            }
            let is_round = self.now >= self.round_at;
            if is_round {
                self.round_at = self.now + ROUND;
                self.round();
            }
            let nodes: Vec<NodeId> = self.machines.keys().copied().collect();
            for node in nodes {
                let Some(machine) = self.machines.get_mut(&node) else { continue };
                let is_due = std::mem::take(&mut machine.is_dirty) || is_round;
                if let Some(process) = machine.process.as_mut().filter(|_| is_due && !machine.paused) {
                    process.run(self.now + GRID / 2);
                    self.outs(node);
                }
            }
            if self.now == end {
                return;
            }
        }
    }

    fn act(&mut self, act: Act) {
        if let Some(node) = act.node()
            && let Some(machine) = self.machines.get_mut(&node)
            && machine.paused
        {
            machine.waiting.push(act);
            return;
        }
        match act {
            Act::Start(node) => self.start(node),
            Act::Arrive(conn, dir) => self.arrive(conn, dir),
            Act::Knock { node, at } => self.knock(node, at),
            Act::ToNode { node, from, to, bytes } => {
                let Some(machine) = self.machines.get_mut(&node) else { return };
                if let Some(process) = machine.process.as_mut().filter(|_| !machine.is_dark) {
                    machine.is_dirty = true;
                    if bytes.starts_with(b"BYE ")
                        && let Ok(message) = Message::parse(bytes.clone())
                    {
                        self.byes.entry(message.call_id().to_vec()).or_insert(self.now);
                    }
                    process.datagram(from, to, bytes);
                }
            }
            Act::ToPhone { phone, from, bytes } => {
                let now = self.now;
                self.phones[phone].heard(bytes, from, now);
                self.phone_speaks(phone);
                self.try_elsewhere(phone);
            }
            Act::Ask { node, life, ticket, request } => self.etcd_asked(node, life, ticket, request),
            Act::Answer { node, life, ticket, answer } => {
                let Some(machine) = self.machines.get_mut(&node) else { return };
                if let Some(process) = machine.process.as_mut().filter(|process| process.life == life)
                    && machine.asked.remove(&ticket)
                {
                    machine.is_dirty = true;
                    process.answered(ticket, answer);
                }
            }
            Act::Watch { node, life, ticket, update } => {
                let Some(machine) = self.machines.get_mut(&node) else { return };
                if let Some(process) = machine.process.as_mut().filter(|process| process.life == life) {
                    machine.is_dirty = true;
                    process.watched(ticket, update);
                }
            }
            Act::Expire => self.etcd_time(),
            Act::Record { node, life, epoch, cdr, done } => self.record(node, life, epoch, *cdr, done),
            Act::Stored { node, life, call, done, is } => {
                let Some(machine) = self.machines.get_mut(&node) else { return };
                if let Some(process) = machine.process.as_mut().filter(|process| process.life == life) {
                    machine.is_dirty = true;
                    if let Some(call) = call.filter(|_| is) {
                        machine.disk.notes.remove(&call);
                        self.alone.serves_no_more((node, life), &call);
                    }
                    process.durable(done, is);
                }
            }
            Act::Phone(phone) => {
                if self.phone_wakes[phone] <= self.now {
                    self.phone_wakes[phone] = Time::MAX;
                    let now = self.now;
                    self.phones[phone].wake(now);
                    self.phone_speaks(phone);
                }
            }
            Act::Register(phone) => {
                let now = self.now;
                self.phones[phone].register_at(now);
                self.phones[phone].wake(now);
                self.phone_speaks(phone);
            }
            Act::Begin(trouble) => self.begin(trouble),
            Act::End(trouble) => self.end(trouble),
            Act::Dial(wish) => {
                let wish = self.plan.wishes[wish];
                self.dial(wish.caller, wish.callee, wish.behaviour);
            }
        }
    }

    pub(crate) fn dial(&mut self, caller: usize, callee: usize, behaviour: crate::phones::Behaviour) {
        let (now, number) = (self.now, self.phones[callee].number);
        let name = self.phones[caller].name;
        self.trace.line(now, format_args!("{name} calls {number}"));
        self.phones[caller].dial(number, behaviour, now);
        let asked = self.proxy_of(caller).map(|(_, now_at)| now_at);
        if let Some(side) = self.phones[caller].sides.last_mut() {
            side.asked = asked;
        }
        self.phone_speaks(caller);
    }

    // --- processes ---

    fn start(&mut self, node: NodeId) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&node).filter(|machine| machine.process.is_none()) else {
            return;
        };
        machine.life += 1;
        machine.is_off = false;
        machine.asked.clear();
        machine.watch = None;
        machine.is_dirty = true;
        let bindings = machine.disk.bindings.values().cloned().collect();
        let unix_us = UNIX.as_micros() as i64 + now as i64 + machine.place.skew_us;
        for note in std::mem::take(&mut machine.disk.notes).into_values() {
            self.store.recovered(node, note, unix_us);
        }
        let process = Process::new(
            machine.place.clone(),
            machine.life,
            now,
            &self.addresses,
            Arc::clone(&self.rates),
            bindings,
            Arc::clone(&self.watcher),
            &mut self.rng,
        );
        match self.fault {
            Some(crate::Fault::Custody(fault)) => process.switchboard.make_fault(fault),
            Some(crate::Fault::Counters(fault)) => process.switchboard.miscount(fault),
            None => {}
        }
        machine.process = Some(process);
        self.trace.mark(now, 1, &node.0.to_le_bytes());
        self.trace.line(now, format_args!("node {} starts", node.0));
    }

    /// The process of a node is over. `is_silent`: with its machine, so that nobody is told.
    pub(crate) fn gone(&mut self, node: NodeId, is_silent: bool) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&node) else { return };
        machine.is_off = is_silent;
        machine.watch = None;
        machine.down_since.get_or_insert(now);
        machine.unfit_since.get_or_insert(now);
        if machine.paused {
            machine.paused = false;
            machine.waiting.clear();
        }
        let Some(process) = machine.process.take() else { return };
        let others = self.kept_by_others(node);
        let life = process.life;
        self.watcher.ledger.died((node, life), now);
        self.knowers.died((node, life), kept(&process), &others);
        process.kill();
        self.trace.mark(now, 2, &node.0.to_le_bytes());
        self.trace.line(now, format_args!("node {} is gone", node.0));
        if is_silent {
            return;
        }
        let of_it = |(_, conn): &(&ConnId, &crate::net::Conn)| {
            conn.ends.iter().any(|end| end.node == node && end.life == life)
        };
        let conns: Vec<ConnId> = self.conns.all.iter().filter(of_it).map(|(id, _)| *id).collect();
        for id in conns {
            let Some(conn) = self.conns.all.get(&id) else { continue };
            let dir = usize::from(conn.ends[0].node != node);
            self.carry(id, dir, Carried::Closed);
        }
        // Everybody dials it again, and is refused.
        for other in self.machines.keys().copied().filter(|other| *other != node).collect::<Vec<_>>() {
            let soon = self.rng.random_range(KNOCK);
            self.after(soon, Act::Knock { node: other, at: node });
        }
    }

    /// Whoever listens nowhere refuses connections, where it can be reached; a machine that is gone is silent.
    fn knock(&mut self, node: NodeId, at: NodeId) {
        let is_cut =
            self.is_cut(Spot::Node(node), Spot::Node(at)) || self.is_cut(Spot::Node(at), Spot::Node(node));
        let is_there = |machine: &Machine| machine.process.is_some() || machine.is_off || machine.paused;
        if is_cut || self.machines.get(&at).is_none_or(is_there) {
            return;
        }
        if let Some(machine) =
            self.machines.get_mut(&node).filter(|machine| !machine.paused && !machine.is_off)
            && let Some(process) = &mut machine.process
        {
            process.refused(at);
            machine.is_dirty = true;
        }
    }

    /// It is cut off for good: what it knows nobody will hear.
    pub(crate) fn lost_for_good(&mut self, node: NodeId) {
        let others = self.kept_by_others(node);
        if let Some(process) = self.machines.get(&node).and_then(|machine| machine.process.as_ref()) {
            self.knowers.died((node, process.life), kept(process), &others);
        }
    }

    /// Calls that others have in custody which can go on with them.
    fn kept_by_others(&self, node: NodeId) -> BTreeSet<String> {
        let others = self.machines.iter().filter(|(other, machine)| **other != node && !machine.is_dark);
        others.filter_map(|(_, machine)| machine.process.as_ref()).flat_map(kept).collect()
    }

    /// It goes on after a pause: what came is there, and its clock has gone on.
    pub(crate) fn resume(&mut self, node: NodeId) {
        let now = self.now;
        let clock_first = self.rng.random_bool(0.5);
        let Some(machine) = self.machines.get_mut(&node).filter(|machine| machine.paused) else { return };
        machine.paused = false;
        machine.is_dirty = true;
        let waiting = std::mem::take(&mut machine.waiting);
        if let Some(process) = &mut machine.process {
            if clock_first {
                process.wake(now);
                self.outs(node);
                waiting.into_iter().for_each(|act| self.act(act));
            } else {
                waiting.into_iter().for_each(|act| self.act(act));
                if let Some(process) =
                    self.machines.get_mut(&node).and_then(|machine| machine.process.as_mut())
                {
                    process.wake(now);
                }
                self.outs(node);
            }
        }
    }

    fn outs(&mut self, node: NodeId) {
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let Some(process) = &mut machine.process else { return };
        let life = process.life;
        if process.is_serving() && !machine.is_dark && machine.down_since.take().is_some() {
            machine.unfit_since = None;
            self.trace.line(self.now, format_args!("node {} serves", node.0));
        }
        for out in process.take_outs() {
            match out {
                Out::Datagram { from, to, bytes } => self.of_node(node, from, to, bytes),
                Out::Etcd(ticket, request) => self.ask_etcd(node, life, ticket, request),
                Out::Dial { way, to, greeting } => {
                    let end = End { node, life };
                    let id = self.conns.open(end, to, way, self.now);
                    let process = self.machines.get_mut(&node).and_then(|machine| machine.process.as_mut());
                    let Some(process) = process else { continue };
                    process.dialled(way, to, id);
                    let instance = process.instance();
                    self.carry(id, 0, Carried::Hello { greeting, instance });
                }
                Out::Conn(id, what) => {
                    let Some(conn) = self.conns.all.get(&id) else { continue };
                    let dir = usize::from(conn.ends[0] != End { node, life });
                    self.carry(id, dir, what);
                }
                Out::Said(said) => self.said(node, life, said),
                Out::Ended => {
                    self.ended(node);
                    return;
                }
            }
        }
    }

    /// A process has ended by itself.
    fn ended(&mut self, node: NodeId) {
        self.gone(node, false);
        self.after(AGAIN, Act::Start(node));
    }

    /// What happens ten times a second: telephones find another proxy, nodes are drained one after the other.
    fn round(&mut self) {
        self.find_proxies();
        self.look_for_lonely_legs();
        if let Some(node) = self.to_drain.front().copied() {
            let is_calm = self.machines.values().all(|machine| {
                machine.process.as_ref().is_some_and(|process| process.is_serving() && !process.is_leaving())
            });
            if !is_calm {
                self.drained_at = self.now;
            } else if self.now >= self.drained_at + 2 * SECOND {
                self.to_drain.pop_front();
                self.drained_at = self.now;
                self.stop(node);
            }
        }
    }

    /// All that were to be drained are, and are back; nobody is about to leave.
    pub(crate) fn is_calm(&self) -> bool {
        let is_leaving = |machine: &Machine| machine.process.as_ref().is_some_and(Process::is_leaving);
        self.to_drain.is_empty()
            && !self.machines.values().any(|machine| is_leaving(machine) && !machine.paused)
            && (self.plan.kind != crate::Kind::Rolling
                || self.machines.values().all(|machine| machine.life > 1 && machine.down_since.is_none()))
    }

    pub(crate) fn stop(&mut self, node: NodeId) {
        self.trace.line(self.now, format_args!("node {} is told to stop", node.0));
        if let Some(machine) = self.machines.get_mut(&node)
            && let Some(process) = &mut machine.process
        {
            process.stop();
            machine.unfit_since.get_or_insert(self.now);
            machine.is_dirty = true;
        }
    }
}

impl Machine {
    fn new(plan: &crate::plan::NodePlan) -> Self {
        let place = Place {
            id: plan.id,
            roles: plan.roles,
            zone: plan.zone,
            sip: sip_address(plan.id),
            media: media_address(plan.id),
            skew_us: plan.skew_us,
            rate: plan.rate,
        };
        Self {
            place,
            process: None,
            life: 0,
            disk: Disk::default(),
            paused: false,
            is_dark: false,
            is_off: false,
            waiting: Vec::new(),
            down_since: Some(0),
            unfit_since: Some(0),
            asked: BTreeSet::new(),
            watch: None,
            told: 0,
            is_dirty: false,
        }
    }
}

impl Act {
    /// The node whose process this waits for while it stands still.
    fn node(&self) -> Option<NodeId> {
        match self {
            Self::ToNode { node, .. }
            | Self::Answer { node, .. }
            | Self::Watch { node, .. }
            | Self::Stored { node, .. } => Some(*node),
            _ => None,
        }
    }
}

fn kept(process: &Process) -> BTreeSet<String> {
    process.custody().into_iter().map(|(call, _)| call.to_string()).collect()
}

/// Where a node's record stands in etcd.
pub(crate) fn node_key(node: NodeId) -> String {
    format!("/carillon/nodes/{}", node.0)
}
