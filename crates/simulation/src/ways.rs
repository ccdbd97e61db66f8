//! What goes between places: connections between processes, datagrams between proxies and telephones.
//!
//! In: what processes and telephones say. Out: the same, later, or never. Elsewhere: what a connection is (`net`), when it all happens
//! (`world`).

use crate::Time;
use crate::lines::Item;
use crate::net::{Carried, ConnId};
use crate::phones::DOMAIN;
use crate::plan::{MS, Spot};
use crate::trace::Trace;
use crate::world::{Act, GRID, World, sip_address};
use bytes::Bytes;
use cluster::ids::NodeId;
use rand::RngExt as _;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// What is held up by a cut is tried again after this, as TCP does.
const RETRY: Time = 300 * MS;

impl World {
    // --- connections ---

    pub(crate) fn delay(&mut self) -> Time {
        let usual = self.rng.random_range(self.plan.between.clone());
        if self.slow > 0 && self.rng.random_bool(0.3) {
            return usual + self.rng.random_range(0..1500 * MS);
        }
        usual
    }

    pub(crate) fn is_cut(&self, from: Spot, to: Spot) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// Puts something on its way: to the dialled end (0), or to the dialler (1).
    pub(crate) fn carry(&mut self, id: ConnId, dir: usize, what: Carried) {
        let delay = self.delay();
        let now = self.now;
        let Some(conn) = self.conns.all.get_mut(&id) else { return };
        let at = (now + delay).max(conn.last[dir]);
        conn.last[dir] = at;
        conn.flying[dir].push_back((at, what));
        self.after(at - now, Act::Arrive(id, dir));
    }

    pub(crate) fn arrive(&mut self, id: ConnId, dir: usize) {
        let Some(conn) = self.conns.all.get(&id) else { return };
        let (from, to) = (conn.ends[dir], conn.ends[1 - dir]);
        let Some((at, _)) = conn.flying[dir].front() else { return };
        if *at > self.now {
            return; // it waits for its own turn
        }
        if self.is_cut(Spot::Node(from.node), Spot::Node(to.node)) {
            return self.after(RETRY, Act::Arrive(id, dir));
        }
        let way = conn.way;
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&to.node) else { return };
        if machine.is_off {
            return; // for good, or until it answers that it knows no such connection
        }
        if machine.paused {
            return machine.waiting.push(Act::Arrive(id, dir));
        }
        let Some(conn) = self.conns.all.get_mut(&id) else { return };
        let Some((_, what)) = conn.flying[dir].pop_front() else { return };
        let is_end = matches!(what, Carried::Closed);
        let kind = [dir as u8, way as u8, what.kind()];
        self.trace.mark(now, 3, &[&kind[..], &id.0.to_le_bytes()].concat());
        let mut is_heard = false;
        if let Some(process) = &mut machine.process
            && (to.life == process.life || dir == 0 && to.life == 0)
        {
            conn.ends[1 - dir].life = process.life;
            if self.trace.is_told() {
                tell(&mut self.trace, now, from.node, to.node, &what);
            }
            is_heard = process.heard(id, from.node, way, what);
            machine.is_dirty |= is_heard;
        }
        if is_end {
            self.conns.all.remove(&id);
        } else if !is_heard {
            self.carry(id, 1 - dir, Carried::Closed);
        }
    }

    /// All connections between two nodes end, and both are told.
    pub(crate) fn reset(&mut self, one: NodeId, other: NodeId) {
        let between = |(_, conn): &(&ConnId, &crate::net::Conn)| {
            let ends = [conn.ends[0].node, conn.ends[1].node];
            ends == [one, other] || ends == [other, one]
        };
        let ids: Vec<ConnId> = self.conns.all.iter().filter(between).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(conn) = self.conns.all.get_mut(&id) {
                conn.flying.iter_mut().for_each(VecDeque::clear); // what was on its way is lost
                self.carry(id, 0, Carried::Closed);
                self.carry(id, 1, Carried::Closed);
            }
        }
    }

    // --- datagrams ---

    fn outside_delay(&mut self) -> Time {
        let usual = self.rng.random_range(self.plan.outside.clone());
        if self.weather.0 > 0 { usual + self.rng.random_range(0..150 * MS) } else { usual }
    }

    fn copies(&mut self) -> usize {
        let (lost, doubled) = self.weather;
        if lost > 0 && self.rng.random_range(0..1000) < lost {
            return 0;
        }
        1 + usize::from(doubled > 0 && self.rng.random_range(0..1000) < doubled)
    }

    pub(crate) fn of_node(&mut self, node: NodeId, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        self.trace.mark(self.now, 4, &bytes);
        if self.machines.get(&node).is_some_and(|machine| machine.is_dark) {
            return;
        }
        let Some(phone) = self.addresses.iter().position(|address| *address == to) else { return };
        if self.trace.is_told() {
            let (line, name) = (first_line(&bytes), self.phones[phone].name);
            self.trace.line(self.now, format_args!("{name:>6} <-  n{}  {line}", node.0));
        }
        for _ in 0..self.copies() {
            let delay = self.outside_delay();
            self.after(delay, Act::ToPhone { phone, from, bytes: bytes.clone() });
        }
    }

    pub(crate) fn phone_speaks(&mut self, phone: usize) {
        let now = self.now;
        while let Some((bytes, to)) = self.phones[phone].poll_datagram(now) {
            self.trace.mark(now, 5, &bytes);
            // A request within a dialog goes to the contact of its other end (RFC 3261 section 12.2.1.1).
            let home = proxy_of(contact_in(&bytes).unwrap_or(to));
            // What belongs to a dialog or an answer goes to the very proxy for as long as that is there.
            let lives = self.machines.get(&home).is_some_and(|machine| machine.down_since.is_none());
            let is_new = is_for_domain(&bytes);
            let moved = self.moved.get(&(phone, home)).copied().filter(|_| is_new || !lives);
            let node = moved.unwrap_or(home);
            if self.trace.is_told() {
                let (line, name) = (first_line(&bytes), self.phones[phone].name);
                self.trace.line(now, format_args!("{name:>6}  -> n{}  {line}", node.0));
            }
            let (from, to) = (self.phones[phone].address, sip_address(node));
            for _ in 0..self.copies() {
                let delay = self.outside_delay();
                self.after(delay, Act::ToNode { node, from, to, bytes: bytes.clone() });
            }
        }
        if let Some(due) = self.phones[phone].due() {
            let due = due.max(now + GRID);
            if due < self.phone_wakes[phone] {
                self.phone_wakes[phone] = due.div_ceil(GRID) * GRID;
                self.after(due - now, Act::Phone(phone));
            }
        }
    }

    pub(crate) fn wake_phones(&mut self) {
        (0..self.phones.len()).for_each(|phone| self.phone_speaks(phone));
    }
}

fn proxy_of(address: SocketAddr) -> NodeId {
    NodeId(u16::from(match address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    }))
}

/// The address that a Request-URI names, as far as it is one.
fn contact_in(bytes: &Bytes) -> Option<SocketAddr> {
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    let uri = std::str::from_utf8(line).ok()?.strip_suffix(" SIP/2.0")?;
    uri.split_once('@')?.1.parse().ok()
}

/// Whether it is a request outside of dialogs.
fn is_for_domain(bytes: &Bytes) -> bool {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    line.ends_with(b"SIP/2.0") && line.windows(DOMAIN.len()).any(|part| part == DOMAIN.as_bytes())
}

fn first_line(bytes: &Bytes) -> String {
    let text = String::from_utf8_lossy(bytes);
    let field = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    let line = text.lines().next().unwrap_or_default();
    format!("{line}   [{}] [{}]", field("CSeq"), field("Call-ID"))
}

fn tell(trace: &mut Trace, now: Time, from: NodeId, to: NodeId, what: &Carried) {
    let Carried::Frame(frame) = what else {
        return trace.line(now, format_args!("n{} => n{}  {}", from.0, to.0, what.name()));
    };
    for item in &frame.items {
        let text = match item {
            Item::ToCalls(item) => format!("{item:?}"),
            Item::ToLegs(item) => format!("{item:?}"),
            Item::ToRelay(item) => format!("{item:?}"),
            Item::FromRelay(item) => format!("{item:?}"),
            Item::Directory(item) => format!("{item:?}"),
        };
        let short: String = text.chars().take(180).collect();
        trace.line(now, format_args!("n{} => n{}  {short}", from.0, to.0));
    }
}

impl Carried {
    fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 0,
            Self::Welcome { .. } => 1,
            Self::Frame(frame) => 2 + frame.items.len().min(200) as u8,
            Self::Closed => 255,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Welcome { .. } => "welcome",
            Self::Frame(_) => "frame",
            Self::Closed => "closed",
        }
    }
}
