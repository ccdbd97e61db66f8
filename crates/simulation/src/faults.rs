//! What goes wrong, and how it is put right again.
//!
//! In: the plan's troubles. Out: a world that is worse, or better. Elsewhere: when (`plan`), what must hold all the same (`verdict`).

use crate::Time;
use crate::plan::{Fault, MS, SECOND, Spot, Way};
use crate::process::Process;
use crate::world::{Act, Machine, World, node_key, sip_address};
use cluster::etcd::Request;
use cluster::ids::NodeId;
use cluster::node::Role;
use rand::RngExt as _;
use std::time::Duration;

impl World {
    pub(crate) fn begin(&mut self, trouble: usize) {
        let trouble = self.plan.troubles[trouble];
        self.trace.line(self.now, format_args!("--- begins: {:?}", trouble.fault));
        match trouble.fault {
            Fault::Crash { node, with_machine } => self.gone(node, with_machine),
            Fault::Pause(node) => {
                if let Some(machine) = self.machines.get_mut(&node) {
                    machine.paused = machine.process.is_some();
                }
            }
            Fault::Cut(from, to) => self.cut(from, to, true),
            Fault::Isolate(node) => {
                self.isolate(node, true);
                if let Some(machine) = self.machines.get_mut(&node).filter(|_| trouble.end.is_none()) {
                    machine.is_dark = true;
                    machine.down_since = Some(self.now);
                    machine.unfit_since = Some(self.now);
                    self.lost_for_good(node);
                }
            }
            Fault::Reset(one, other) => self.reset(one, other),
            Fault::Slow => self.slow += 1,
            Fault::Lossy { lost, doubled } => self.weather = (lost, doubled),
            Fault::EtcdAway => {
                self.etcd_away += 1;
                self.push_changes();
            }
            Fault::Compact => {
                let revision = self.etcd.revision();
                self.etcd.compact(revision.saturating_sub(2));
            }
            Fault::Expire(node) => self.expire(node),
            Fault::StoreAway => self.store_away += 1,
            Fault::Drain(node) if self.plan.kind == crate::Kind::Rolling => self.to_drain.push_back(node),
            Fault::Drain(node) => self.stop(node),
            Fault::LetGo(node) => self.with(node, Process::drain),
        }
    }

    fn with(&mut self, node: NodeId, work: impl FnOnce(&mut Process)) {
        if let Some(machine) = self.machines.get_mut(&node)
            && let Some(process) = &mut machine.process
        {
            work(process);
            machine.is_dirty = true;
        }
    }

    pub(crate) fn end(&mut self, trouble: usize) {
        let trouble = self.plan.troubles[trouble];
        self.trace.line(self.now, format_args!("--- ends: {:?}", trouble.fault));
        match trouble.fault {
            Fault::Crash { node, .. } => self.after(0, Act::Start(node)),
            Fault::Pause(node) => self.resume(node),
            Fault::Cut(from, to) => self.cut(from, to, false),
            Fault::Isolate(node) => self.isolate(node, false),
            Fault::Slow => self.slow -= 1,
            Fault::Lossy { .. } => self.weather = (0, 0),
            Fault::EtcdAway => {
                self.etcd_away -= 1;
                if self.etcd_away == 0 {
                    self.etcd.resume(Duration::from_micros(self.now));
                }
            }
            Fault::StoreAway => self.store_away -= 1,
            Fault::LetGo(node) => self.with(node, Process::undrain),
            Fault::Reset(..) | Fault::Compact | Fault::Expire(_) | Fault::Drain(_) => {}
        }
    }

    fn cut(&mut self, from: Spot, to: Spot, is: bool) {
        let count = self.cuts.entry((from, to)).or_insert(0);
        *count = if is { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.cuts.remove(&(from, to));
        }
        if is {
            self.push_changes();
        }
    }

    fn isolate(&mut self, node: NodeId, is: bool) {
        let others = self.machines.keys().filter(|other| **other != node).map(|other| Spot::Node(*other));
        let others: Vec<Spot> = others.chain([Spot::Etcd, Spot::Store]).collect();
        for other in others {
            self.cut(Spot::Node(node), other, is);
            self.cut(other, Spot::Node(node), is);
        }
    }

    /// etcd thinks that the node has not kept its lease alive.
    fn expire(&mut self, node: NodeId) {
        let key = node_key(node);
        let lease = self.etcd.keys().get(&key).map(|entry| entry.lease);
        if let Some(lease) = lease.filter(|_| self.etcd_away == 0) {
            let _ = self.etcd.serve(&Request::Revoke { lease });
            self.push_changes();
        }
    }

    /// Everything that is not to stay broken is put right.
    pub(crate) fn heal(&mut self) {
        let broken = self.plan.broken();
        let nodes: Vec<NodeId> = self.machines.keys().copied().collect();
        for node in nodes {
            self.resume(node);
            let is_down = self.machines.get(&node).is_some_and(|machine| machine.process.is_none());
            if is_down && !broken.contains(&node) {
                self.after(0, Act::Start(node));
            }
        }
        self.trace.line(self.now, format_args!("--- healed, but for {broken:?}"));
    }

    /// Whether telephones find a proxy there that takes calls.
    fn takes_calls(&self, node: NodeId) -> bool {
        self.machines.get(&node).is_some_and(|machine| {
            let process = machine.process.as_ref().filter(|_| !machine.paused && !machine.is_dark);
            process.is_some_and(|process| process.is_serving() && !process.is_leaving())
        })
    }

    fn proxies(&self) -> impl Iterator<Item = NodeId> {
        let has_one = |(_, machine): &(&NodeId, &Machine)| machine.place.roles.has(Role::Proxy);
        self.machines.iter().filter(has_one).map(|(node, _)| *node)
    }

    /// The proxy that a telephone is set up for, and the one that it uses.
    pub(crate) fn proxy_of(&self, phone: usize) -> Option<(NodeId, NodeId)> {
        let server = self.phones[phone].server;
        let home = self.proxies().find(|node| sip_address(*node) == server)?;
        Some((home, self.moved.get(&(phone, home)).copied().unwrap_or(home)))
    }

    /// A telephone that is refused with 503 tries another proxy (RFC 3263 section 4.3), once.
    pub(crate) fn try_elsewhere(&mut self, phone: usize) {
        let is_refused = |side: &crate::phones::Side| {
            side.is_caller
                && side.ended.is_some_and(|at| self.now < at + SECOND)
                && side.status == 503
                && !side.retried
                && side.answered.is_none()
        };
        let Some(at) = self.phones[phone].sides.iter().position(is_refused) else { return };
        let Some((home, now_at)) = self.proxy_of(phone) else { return };
        // It may have noticed meanwhile that its proxy leaves.
        let has_moved = self.phones[phone].sides[at].asked.is_some_and(|asked| asked != now_at);
        // Or it has called one that was about to start, and serves by now.
        let began = self.phones[phone].sides[at].began;
        let process = self.machines.get(&now_at).and_then(|machine| machine.process.as_ref());
        let has_started = process.is_some_and(|process| process.born() > began);
        if !(has_moved || has_started) || !self.takes_calls(now_at) {
            let mut others = self.proxies().filter(|node| *node != now_at && self.takes_calls(*node));
            let Some(other) = others.next().filter(|_| !self.takes_calls(now_at)) else { return };
            drop(others);
            self.moved.insert((phone, home), other);
        }
        let side = &mut self.phones[phone].sides[at];
        side.retried = true;
        let (number, behaviour, now) = (side.number.clone(), side.behaviour, self.now);
        self.phones[phone].dial(&number, behaviour, now);
        if let Some(side) = self.phones[phone].sides.last_mut() {
            side.retried = true;
        }
        self.wake_phones();
    }

    /// Telephones whose proxy is gone come to another one.
    pub(crate) fn find_proxies(&mut self) {
        let now = self.now;
        let proxies: Vec<NodeId> = self
            .machines
            .iter()
            .filter(|(_, machine)| machine.place.roles.has(Role::Proxy))
            .map(|(node, _)| *node)
            .collect();
        let serves = |world: &Self, node: NodeId| world.takes_calls(node);
        for phone in 0..self.phones.len() {
            for home in &proxies {
                let (key, home) = ((phone, *home), *home);
                // The address moves within a second or so; a telephone takes longer to turn to its second one.
                let patience: Time = match self.plan.way {
                    Way::AddressMoves => SECOND + u64::from(home.0) * 300 * MS,
                    Way::SecondAddress => 2 * SECOND + phone as Time * 700 * MS,
                };
                let machine = self.machines.get(&home);
                // Whoever looks after the address asks by OPTIONS; a telephone has to be refused.
                let down = machine.and_then(|machine| match self.plan.way {
                    Way::AddressMoves => machine.unfit_since,
                    Way::SecondAddress => machine.down_since,
                });
                let now_at = self.moved.get(&key).copied();
                match now_at {
                    Some(_) if self.plan.way == Way::AddressMoves && serves(self, home) => {
                        self.moved.remove(&key);
                    }
                    Some(other) if serves(self, other) => {}
                    // The second is gone, too; the first is back.
                    Some(_) if serves(self, home) => drop(self.moved.remove(&key)),
                    _ if down.is_some_and(|since| since + patience <= now) => {
                        let others: Vec<NodeId> = proxies
                            .iter()
                            .copied()
                            .filter(|other| *other != home && serves(self, *other))
                            .collect();
                        if others.is_empty() {
                            self.moved.remove(&key);
                            continue;
                        }
                        let at = if self.plan.way == Way::AddressMoves { usize::from(home.0) } else { phone };
                        let other = others[at % others.len()];
                        if now_at == Some(other) {
                            continue;
                        }
                        self.moved.insert(key, other);
                        let is_its = self.phones[phone].server == sip_address(home);
                        if is_its && self.plan.way == Way::SecondAddress {
                            let delay = self.rng.random_range(0..SECOND);
                            self.after(delay, Act::Register(phone));
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
