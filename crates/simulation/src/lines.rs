//! The links of one process to all others: `cluster::link` as crate `mesh` drives it, on connections that are the simulation's.
//!
//! In: who is there, items, what comes by connections, time. Out: connections to dial, frames, items for the switchboard. Elsewhere: the
//! network between processes (`net`), what is done with items (`process`).

use crate::net::{Carried, ConnId};
use cluster::between::{DirectoryItem, FromRelay, ToCalls, ToLegs, ToRelay};
use cluster::ids::NodeId;
use cluster::link::{Event, Greeting, Link, Lost, Settings};
use cluster::node::{Role, Roles, View};
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// What a process says to another.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    ToCalls(Box<ToCalls>),
    ToLegs(Box<ToLegs>),
    ToRelay(Box<ToRelay>),
    FromRelay(Box<FromRelay>),
    Directory(Box<DirectoryItem>),
}

/// What the other process is at a link, as in crate `mesh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Calls,
    Legs,
    Relay,
    Media,
    Directory,
}

impl Way {
    /// The same link from its other end.
    pub(crate) fn back(self) -> Self {
        match self {
            Self::Calls => Self::Legs,
            Self::Legs => Self::Calls,
            Self::Relay => Self::Media,
            Self::Media => Self::Relay,
            Self::Directory => Self::Directory,
        }
    }
}

/// What the links want, in order.
#[derive(Debug)]
pub(crate) enum Want {
    /// Make a connection, and say this by it.
    Dial {
        way: Way,
        to: NodeId,
        greeting: Greeting,
    },
    /// Say this by a connection.
    Say(ConnId, Carried),
    /// Tell the switchboard.
    Back(Way, NodeId),
    Lost(Way, NodeId, Lost),
    Item(NodeId, Item),
}

struct Line {
    link: Link<Item>,
    /// It dials, and whether there is somebody to dial.
    target: Option<bool>,
    conn: Option<ConnId>,
    /// A connection is being dialled until then.
    dialling: Option<Instant>,
    again: Instant,
    pause: Duration,
    /// The connection of the moment began then.
    since: Instant,
}

/// All links of a process.
pub(crate) struct Lines {
    me: NodeId,
    roles: Roles,
    instance: u64,
    attempts: u64,
    rng: StdRng,
    lines: BTreeMap<(Way, NodeId), Line>,
    conns: BTreeMap<ConnId, (Way, NodeId)>,
    wants: VecDeque<Want>,
    /// When something is due by itself; nothing is before that, unless something came or is to be sent.
    due: Instant,
}

/// As in `mesh::peer::PeerConfig`.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
const BREATH: Duration = Duration::from_millis(5);
const HELLO_WITHIN: Duration = Duration::from_secs(3);
/// What an item counts for.
const OCTETS: usize = 256;

impl Lines {
    pub(crate) fn new(me: NodeId, roles: Roles, instance: u64, rng: StdRng, now: Instant) -> Self {
        Self {
            me,
            roles,
            instance,
            attempts: 0,
            rng,
            lines: BTreeMap::new(),
            conns: BTreeMap::new(),
            wants: VecDeque::new(),
            due: now,
        }
    }

    pub(crate) fn poll_want(&mut self) -> Option<Want> {
        self.wants.pop_front()
    }

    /// Who is there: see `mesh::peer::Peers::set_view`.
    pub(crate) fn set_view(&mut self, view: &View, now: Instant) {
        self.due = now;
        let custody = self.roles.has(Role::Proxy) || self.roles.has(Role::As);
        let me = self.me;
        let is_wanted = |way: Way, node: NodeId| {
            let Some(other) = view.node(node).filter(|_| node != me) else { return false };
            match way {
                Way::Calls => custody && other.roles.has(Role::As),
                Way::Relay => self.roles.has(Role::As) && other.roles.has(Role::Relay),
                Way::Directory => me < node,
                Way::Legs | Way::Media => false,
            }
        };
        for ((way, node), line) in &mut self.lines {
            if let Some(target) = &mut line.target {
                *target = is_wanted(*way, *node);
            }
        }
        for node in view.nodes.keys() {
            for way in [Way::Calls, Way::Relay, Way::Directory] {
                if is_wanted(way, *node) {
                    self.lines.entry((way, *node)).or_insert_with(|| Line::new(Some(true), now));
                }
            }
        }
        for ((_, node), line) in &mut self.lines {
            if let Some(other) = view.node(*node) {
                line.link.replaced(other.instance, now);
            }
        }
        self.events(now);
    }

    /// Gives an item to a link. `false`: it has no session.
    pub(crate) fn send(&mut self, way: Way, node: NodeId, item: Item, now: Instant) -> bool {
        let Some(line) = self.lines.get_mut(&(way, node)) else { return false };
        self.due = now;
        line.link.send(item, OCTETS, now).is_ok()
    }

    /// Does what is due.
    pub(crate) fn tend(&mut self, now: Instant) {
        if now < self.due {
            return;
        }
        let keys: Vec<(Way, NodeId)> = self.lines.keys().copied().collect();
        for key in &keys {
            let Some(line) = self.lines.get_mut(key) else { continue };
            if line.link.poll_timeout().is_some_and(|due| due <= now) {
                line.link.handle_timeout(now);
            }
            if line.dialling.is_some_and(|until| until <= now) {
                self.down(*key, now);
            }
        }
        self.events(now);
        for key in &keys {
            self.dial(*key, now);
            let Some(line) = self.lines.get_mut(key) else { continue };
            let Some(conn) = line.conn.filter(|_| line.link.is_up()) else { continue };
            while let Some(frame) = line.link.poll_frame(now) {
                self.wants.push_back(Want::Say(conn, Carried::Frame(frame)));
            }
        }
        let due = |line: &Line| {
            let dials = line.target.is_some() && line.conn.is_none() && line.dialling.is_none();
            [line.link.poll_timeout(), line.dialling, dials.then_some(line.again)].into_iter().flatten().min()
        };
        self.due = self.lines.values().filter_map(due).min().unwrap_or(now + AGAIN.1).max(now + BREATH);
        // Who left and has no session is forgotten.
        self.lines.retain(|_, line| {
            line.target != Some(false) || line.link.session().is_some() || line.conn.is_some()
        });
    }

    fn dial(&mut self, key: (Way, NodeId), now: Instant) {
        let Some(line) = self.lines.get_mut(&key) else { return };
        // A session is carried on for as long as it lasts, whatever the view says.
        let wanted = line.target == Some(true) || line.target == Some(false) && line.link.session().is_some();
        if !wanted || line.conn.is_some() || line.dialling.is_some() || now < line.again {
            return;
        }
        self.attempts += 1;
        let greeting = line.link.greet(self.rng.random::<u64>().max(1), self.attempts);
        line.dialling = Some(now + HELLO_WITHIN);
        line.since = now;
        self.wants.push_back(Want::Dial { way: key.0, to: key.1, greeting });
    }

    /// The connection that was to be dialled has this name.
    pub(crate) fn dialled(&mut self, way: Way, to: NodeId, conn: ConnId) {
        if let Some(line) = self.lines.get_mut(&(way, to)) {
            line.conn = Some(conn);
            self.conns.insert(conn, (way, to));
        }
    }

    /// Something came by a connection. For one that this process does not know it must be a greeting: `from` and `way` are the
    /// dialler's.
    pub(crate) fn heard(&mut self, conn: ConnId, from: NodeId, way: Way, what: Carried, now: Instant) {
        self.due = now;
        match what {
            Carried::Hello { greeting, instance } => {
                self.greeted(conn, from, way.back(), greeting, instance, now)
            }
            Carried::Welcome { answer, instance } => {
                let Some(key) = self.key(conn) else { return };
                let Some(line) = self.lines.get_mut(&key) else { return };
                line.dialling = None;
                line.since = now;
                let is_good = line.link.answered(answer, instance, now).is_ok();
                self.events_of(key, now);
                if !is_good {
                    self.wants.push_back(Want::Say(conn, Carried::Closed));
                    self.down(key, now);
                }
            }
            Carried::Frame(frame) => {
                let Some(key) = self.key(conn) else { return };
                let Some(line) = self.lines.get_mut(&key) else { return };
                let octets = frame.items.len() * OCTETS;
                for item in line.link.handle_frame(frame, octets, now) {
                    self.wants.push_back(Want::Item(key.1, item));
                }
                self.events_of(key, now);
            }
            Carried::Closed => {
                if let Some(key) = self.key(conn) {
                    self.down(key, now);
                }
            }
        }
    }

    fn greeted(
        &mut self,
        conn: ConnId,
        from: NodeId,
        way: Way,
        greeting: Greeting,
        instance: u64,
        now: Instant,
    ) {
        let serves = match way {
            Way::Legs => self.roles.has(Role::As),
            Way::Media => self.roles.has(Role::Relay),
            Way::Directory => from < self.me,
            Way::Calls | Way::Relay => false,
        };
        if !serves {
            return self.wants.push_back(Want::Say(conn, Carried::Closed));
        }
        let line = self.lines.entry((way, from)).or_insert_with(|| Line::new(None, now));
        if line.link.is_stale(&greeting, instance) {
            return self.wants.push_back(Want::Say(conn, Carried::Closed));
        }
        if let Some(old) = line.conn.take() {
            line.link.disconnected(now);
            self.conns.remove(&old);
            self.wants.push_back(Want::Say(old, Carried::Closed));
        }
        match line.link.accept(greeting, instance, now) {
            Ok(answer) => {
                line.conn = Some(conn);
                self.conns.insert(conn, (way, from));
                self.events_of((way, from), now);
                let welcome = Carried::Welcome { answer, instance: self.instance };
                self.wants.push_back(Want::Say(conn, welcome));
            }
            Err(_) => self.wants.push_back(Want::Say(conn, Carried::Closed)),
        }
    }

    fn key(&self, conn: ConnId) -> Option<(Way, NodeId)> {
        let key = *self.conns.get(&conn)?;
        (self.lines.get(&key)?.conn == Some(conn)).then_some(key)
    }

    /// The connection of a link is over.
    fn down(&mut self, key: (Way, NodeId), now: Instant) {
        let Some(line) = self.lines.get_mut(&key) else { return };
        line.link.disconnected(now);
        line.dialling = None;
        if let Some(conn) = line.conn.take() {
            self.conns.remove(&conn);
            self.wants.push_back(Want::Say(conn, Carried::Closed));
        }
        if now >= line.since + AGAIN.1 {
            line.pause = AGAIN.0;
        }
        line.again = now + line.pause.mul_f64(self.rng.random_range(0.5..1.0));
        line.pause = (line.pause * 2).min(AGAIN.1);
        self.events_of(key, now);
    }

    /// The process of a node is no more.
    pub(crate) fn gone(&mut self, node: NodeId, now: Instant) {
        for line in self.lines.iter_mut().filter(|((_, other), _)| *other == node).map(|(_, line)| line) {
            line.link.gone(now);
        }
        self.events(now);
    }

    fn events(&mut self, now: Instant) {
        let keys: Vec<(Way, NodeId)> = self.lines.keys().copied().collect();
        for key in keys {
            self.events_of(key, now);
        }
    }

    fn events_of(&mut self, key: (Way, NodeId), now: Instant) {
        let mut hangs_up = false;
        while let Some(event) = self.lines.get_mut(&key).and_then(|line| line.link.poll_event()) {
            match event {
                Event::Back => self.wants.push_back(Want::Back(key.0, key.1)),
                Event::Lost(why) => self.wants.push_back(Want::Lost(key.0, key.1, why)),
                Event::HangUp(_) => hangs_up = true,
            }
        }
        if hangs_up {
            self.down(key, now);
        }
    }

    /// Whether all links to these nodes that there should be have a session.
    pub(crate) fn are_up(&self, others: &[NodeId]) -> bool {
        let is_there = |(_, node): &&(Way, NodeId)| others.contains(node);
        self.lines.iter().filter(|(key, _)| is_there(key)).all(|(_, line)| line.link.session().is_some())
    }
}

impl Line {
    fn new(target: Option<bool>, now: Instant) -> Self {
        Self {
            link: Link::new(Settings::default(), now),
            target,
            conn: None,
            dialling: None,
            again: now,
            pause: AGAIN.0,
            since: now,
        }
    }
}
