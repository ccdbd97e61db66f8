//! What all nodes share: etcd and the database, and each node's disk.
//!
//! In: requests of processes. Out: answers, later, or never. Elsewhere: what is kept (`store`, `cluster::testing`).

use crate::Time;
use crate::plan::{MS, SECOND, Spot};
use crate::process::Said;
use crate::world::{Act, GRID, PATIENCE, World, node_key};
use cluster::etcd::{Failure, Request, Ticket, WatchUpdate};
use cluster::ids::NodeId;
use cluster::testing::Compacted;
use model::Cdr;
use proxy::{BindingChange, Durable};
use rand::RngExt as _;
use std::time::Duration;

impl World {
    // --- etcd ---

    pub(crate) fn ask_etcd(&mut self, node: NodeId, life: u64, ticket: Ticket, request: Request) {
        let is_watch = matches!(request, Request::Watch { .. });
        if !is_watch {
            if let Some(machine) = self.machines.get_mut(&node) {
                machine.asked.insert(ticket);
            }
            let answer = Err(Failure::Unknown("no answer".to_owned()));
            self.after(PATIENCE, Act::Answer { node, life, ticket, answer });
        }
        if self.is_cut(Spot::Node(node), Spot::Etcd) {
            if is_watch {
                self.after(PATIENCE, Act::Watch { node, life, ticket, update: WatchUpdate::Ended });
            }
            return;
        }
        let delay = self.delay();
        self.after(delay, Act::Ask { node, life, ticket, request });
    }

    pub(crate) fn etcd_asked(&mut self, node: NodeId, life: u64, ticket: Ticket, request: Request) {
        self.etcd_time();
        let is_cut = self.is_cut(Spot::Etcd, Spot::Node(node));
        if let Request::Watch { prefix, from } = request {
            if self.etcd_away > 0 || is_cut {
                self.after(PATIENCE, Act::Watch { node, life, ticket, update: WatchUpdate::Ended });
            } else if let Some(machine) = self.machines.get_mut(&node)
                && machine.life == life
                && machine.watch.as_ref().is_none_or(|(known, ..)| *known < ticket)
            {
                machine.watch = Some((ticket, prefix, from));
            }
            return self.push_changes();
        }
        if self.etcd_away > 0 {
            return;
        }
        let answer = self.etcd.serve(&request);
        if let Some(end) = self.etcd.next_end() {
            self.after((end.as_micros() as Time + GRID).saturating_sub(self.now), Act::Expire);
        }
        self.trace.mark(self.now, 6, &self.etcd.revision().to_le_bytes());
        if !is_cut {
            let delay = self.delay();
            self.after(delay, Act::Answer { node, life, ticket, answer });
        }
        self.push_changes();
    }

    pub(crate) fn etcd_time(&mut self) {
        if self.etcd_away == 0 {
            self.etcd.advance(Duration::from_micros(self.now));
            self.push_changes();
        }
    }

    /// What has changed goes to all who watch, in order; whoever cannot be reached loses his watch.
    pub(crate) fn push_changes(&mut self) {
        let is_known = |node: &NodeId| self.etcd.keys().contains_key(&node_key(*node));
        self.watcher.ledger.known(self.machines.keys().copied().filter(is_known).collect());
        let nodes: Vec<NodeId> = self.machines.keys().copied().collect();
        for node in nodes {
            let is_cut = self.etcd_away > 0 || self.is_cut(Spot::Etcd, Spot::Node(node));
            let Some(machine) = self.machines.get_mut(&node) else { continue };
            let Some((ticket, prefix, from)) = machine.watch.clone() else { continue };
            if self.etcd_away == 0 && from > self.etcd.revision() {
                continue;
            }
            let update = match self.etcd.changes(&prefix, from) {
                _ if is_cut => WatchUpdate::Ended,
                Ok(changes) => WatchUpdate::Changes(changes),
                Err(Compacted) => WatchUpdate::Compacted,
            };
            // A lost connection is noticed by the keep-alive of HTTP/2.
            let delay = if is_cut { self.rng.random_range(SECOND..8 * SECOND) } else { self.delay() };
            let next = self.etcd.revision() + 1;
            let is_end = !matches!(update, WatchUpdate::Changes(_));
            let now = self.now;
            let Some(machine) = self.machines.get_mut(&node) else { continue };
            machine.watch = (!is_end).then_some((ticket, prefix, next));
            machine.told = machine.told.max(now + delay);
            let (life, delay) = (machine.life, machine.told - now);
            self.after(delay, Act::Watch { node, life, ticket, update });
        }
    }

    // --- disks and the database ---

    pub(crate) fn said(&mut self, node: NodeId, life: u64, said: Said) {
        let disk_delay = self.rng.random_range(MS..8 * MS);
        let Some(machine) = self.machines.get_mut(&node) else { return };
        match said {
            Said::Note(note, epoch, done) => {
                self.knowers.serves((node, life), &note.call);
                self.alone.serves((node, life), &note.call);
                machine.disk.notes.insert(note.call.clone(), (*note, epoch));
                self.after(disk_delay, Act::Stored { node, life, call: None, done, is: true });
            }
            Said::LetGo(call) => {
                self.trace.line(self.now, format_args!("n{} lets {call} go", node.0));
                machine.disk.notes.remove(&call.to_string());
                self.knowers.lets_go((node, life), &call.to_string());
                self.alone.serves_no_more((node, life), &call.to_string());
            }
            Said::Binding(change, done) => {
                match *change {
                    BindingChange::Bind(binding) => {
                        let key = (binding.aor, binding.contact.clone());
                        machine.disk.bindings.insert(key, binding);
                    }
                    BindingChange::Unbind { aor, contact } => {
                        machine.disk.bindings.remove(&(aor, contact));
                    }
                }
                self.after(disk_delay, Act::Stored { node, life, call: None, done, is: true });
            }
            Said::Record(cdr, epoch, done) => {
                let is_lost = self.store_away > 0 || self.is_cut(Spot::Node(node), Spot::Store);
                if is_lost {
                    self.after(PATIENCE, Act::Stored { node, life, call: None, done, is: false });
                } else {
                    let delay = self.delay();
                    self.after(delay, Act::Record { node, life, epoch, cdr, done });
                }
            }
        }
    }

    pub(crate) fn record(&mut self, node: NodeId, life: u64, epoch: u32, cdr: Cdr, done: Durable) {
        let call = cdr.call.clone();
        self.trace.mark(self.now, 7, call.as_bytes());
        self.trace.line(
            self.now,
            format_args!(
                "n{} records {call} in epoch {epoch}: {} {:?}",
                node.0, cdr.cause.status, cdr.hung_up_by
            ),
        );
        self.store.record(node, epoch, cdr);
        let is = !self.is_cut(Spot::Store, Spot::Node(node));
        let delay = if is { self.delay() } else { PATIENCE };
        self.after(delay, Act::Stored { node, life, call: Some(call), done, is });
    }
}
