//! What the roles of a process speak to: links, disks, the registrar, as the program wires them.
//!
//! In: what roles say. Out: the same, for the links and the world, for as long as the process lives. Elsewhere: the process (`process`).

use crate::lines::{Item, Lines, Way};
use crate::process::Said;
use appserver::CallLog;
use cluster::between::{DirectoryItem, FromRelay, ToCalls, ToLegs, ToRelay};
use cluster::ids::{CallId, NodeId};
use cluster::switchboard::{BindingHost, Switchboard, Wire};
use model::{Aor, Cdr, OpenCall};
use parking_lot::Mutex;
use proxy::{BindingChange, BindingLog, Durable, Proxy};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use tokio::time::Instant;

/// Ways out of a process; closed when it is killed.
pub(crate) struct Gate {
    pub(crate) open: AtomicBool,
    pub(crate) said: Mutex<Vec<Said>>,
}

impl Gate {
    fn say(&self, said: Said) {
        if self.open.load(Ordering::Relaxed) {
            self.said.lock().push(said);
        }
    }
}

/// What is said to other nodes.
pub(crate) struct Sent {
    pub(crate) lines: Arc<Mutex<Lines>>,
    pub(crate) gate: Arc<Gate>,
}

impl Sent {
    fn send(&self, way: Way, node: NodeId, item: Item) -> bool {
        self.gate.open.load(Ordering::Relaxed)
            && self.lines.lock().send(way, node, item, Instant::now().into_std())
    }
}

impl Wire for Sent {
    fn to_calls(&self, node: NodeId, message: ToCalls) -> bool {
        self.send(Way::Calls, node, Item::ToCalls(Box::new(message)))
    }

    fn to_legs(&self, node: NodeId, message: ToLegs) -> bool {
        self.send(Way::Legs, node, Item::ToLegs(Box::new(message)))
    }

    fn to_relay(&self, node: NodeId, message: ToRelay) -> bool {
        self.send(Way::Relay, node, Item::ToRelay(Box::new(message)))
    }

    fn of_relay(&self, node: NodeId, message: FromRelay) -> bool {
        self.send(Way::Media, node, Item::FromRelay(Box::new(message)))
    }

    fn directory(&self, node: NodeId, item: DirectoryItem) -> bool {
        self.send(Way::Directory, node, Item::Directory(Box::new(item)))
    }
}

pub(crate) struct Told {
    pub(crate) gate: Arc<Gate>,
    pub(crate) switchboard: Weak<Switchboard>,
}

impl BindingLog for Told {
    fn append(&self, change: BindingChange, done: Durable) {
        if let Some(switchboard) = self.switchboard.upgrade() {
            match &change {
                BindingChange::Bind(binding) => switchboard.bound(binding.clone()),
                BindingChange::Unbind { aor, contact } => switchboard.unbound(*aor, contact),
            }
        }
        self.gate.say(Said::Binding(Box::new(change), done));
    }
}

pub(crate) struct Registrar(pub(crate) Weak<Proxy>);

impl BindingHost for Registrar {
    fn displaced(&self, aor: Aor, contact: &str) {
        if let Some(proxy) = self.0.upgrade() {
            proxy.unbind(aor, Some(contact));
        }
    }
}

pub(crate) struct Log(pub(crate) Arc<Gate>);

impl CallLog for Log {
    fn began(&self, call: OpenCall, epoch: u32, done: Box<dyn FnOnce(bool) + Send>) {
        self.0.say(Said::Note(Box::new(call), epoch, done));
    }

    fn ended(&self, cdr: Cdr, epoch: u32, done: Box<dyn FnOnce(bool) + Send>) {
        self.0.say(Said::Record(Box::new(cdr), epoch, done));
    }

    fn let_go(&self, call: CallId) {
        self.0.say(Said::LetGo(call));
    }
}
