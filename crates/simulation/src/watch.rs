//! Looks at every order that a leg obeys: whoever has once obeyed an owner never obeys a lesser one again.
//!
//! In: what is said to a custody, what it then does to its legs. Out: complaints. Elsewhere: what is seen from outside (`verdict`).

use crate::limits::Ledger;
use bytes::Bytes;
use cluster::between::{LegNames, Owner, Title, ToCalls, ToLegs};
use cluster::ids::{CallId, LegId, NodeId};
use cluster::leg::{Binding, Directory, LegCommand, LegHost, Legs, Originate};
use cluster::media::{Media, MediaCommand, MediaReply, Signalling};
use cluster::switchboard::Switchboard;
use model::{Aor, Client, Id};
use parking_lot::Mutex;
use proxy::Proxy;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// What is common to all processes of a run.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    state: Mutex<State>,
    /// What counts for whom.
    pub(crate) ledger: Ledger,
}

#[derive(Debug, Default)]
struct State {
    /// Whose word is being looked at by a custody at this moment.
    speaker: Option<Owner>,
    /// The best owner that each leg has obeyed, by the process that has the leg.
    obeyed: BTreeMap<(NodeId, u64, LegId), Owner>,
    orders: u64,
    complaints: Vec<Complaint>,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// It must never be so, whatever fails; else something did not come right in time after the faults.
    pub is_grave: bool,
    /// What.
    pub text: String,
}

impl Watcher {
    pub(crate) fn speaks(&self, from: NodeId, item: &ToLegs) {
        let title = match item {
            ToLegs::Originate { title, .. }
            | ToLegs::Command { title, .. }
            | ToLegs::Revive { title, .. }
            | ToLegs::Part { title, .. }
            | ToLegs::Done { title } => *title,
            _ => return,
        };
        self.owner_speaks(from, title);
    }

    fn owner_speaks(&self, from: NodeId, title: Title) {
        self.state.lock().speaker = Some(Owner { epoch: title.epoch, node: from });
    }

    pub(crate) fn is_silent(&self) {
        self.state.lock().speaker = None;
    }

    pub(crate) fn complain(&self, is_grave: bool, text: String) {
        self.state.lock().complaints.push(Complaint { is_grave, text });
    }

    pub(crate) fn complaints(&self) -> Vec<Complaint> {
        std::mem::take(&mut self.state.lock().complaints)
    }

    /// Orders of owners that legs have obeyed.
    pub(crate) fn orders(&self) -> u64 {
        self.state.lock().orders
    }

    fn obeys(&self, node: NodeId, life: u64, leg: LegId, what: &str) {
        let mut state = self.state.lock();
        let Some(speaker) = state.speaker else { return };
        state.orders += 1;
        let before = *state.obeyed.entry((node, life, leg)).or_insert(speaker);
        if speaker < before {
            let text = format!(
                "two owners act on {leg} at node {}: after {before:?} it obeys {speaker:?} ({what})",
                node.0
            );
            state.complaints.push(Complaint { is_grave: true, text });
        } else {
            state.obeyed.insert((node, life, leg), speaker);
        }
    }
}

/// The legs of a proxy, looked at.
pub(crate) struct Watched {
    host: Weak<Proxy>,
    watcher: Arc<Watcher>,
    node: NodeId,
    life: u64,
}

impl Watched {
    pub(crate) fn new(host: Weak<Proxy>, watcher: Arc<Watcher>, node: NodeId, life: u64) -> Self {
        Self { host, watcher, node, life }
    }

    fn obeys(&self, leg: LegId, what: &str) {
        self.watcher.obeys(self.node, self.life, leg, what);
    }
}

impl LegHost for Watched {
    fn originate_as(&self, call: CallId, leg: LegId, sip_call_id: String, order: Originate) {
        self.obeys(leg, "originate");
        if let Some(host) = self.host.upgrade() {
            host.originate_as(call, leg, sip_call_id, order);
        }
    }

    fn command(&self, leg: LegId, command: LegCommand) {
        self.obeys(leg, "command");
        if let Some(host) = self.host.upgrade() {
            LegHost::command(&*host, leg, command);
        }
    }

    fn revive(&self, call: CallId, leg: LegId, state: Bytes) {
        self.obeys(leg, "revive");
        if let Some(host) = self.host.upgrade() {
            host.revive(call, leg, state);
        }
    }

    fn part(&self, leg: LegId) {
        self.obeys(leg, "part");
        if let Some(host) = self.host.upgrade() {
            host.part(leg);
        }
    }

    fn no_stray(&self, leg: LegId) {
        if let Some(host) = self.host.upgrade() {
            host.no_stray(leg);
        }
    }

    fn names(&self, count: u32) -> Vec<LegNames> {
        self.host.upgrade().map(|host| host.names(count)).unwrap_or_default()
    }
}

/// What an application server says to the others, with its name where they are in the same process. It holds nobody: a process that was
/// killed leaves nothing behind.
pub(crate) struct Around {
    board: Weak<Switchboard>,
    watcher: Arc<Watcher>,
    me: NodeId,
}

impl Around {
    pub(crate) fn new(board: &Arc<Switchboard>, watcher: Arc<Watcher>, me: NodeId) -> Self {
        Self { board: Arc::downgrade(board), watcher, me }
    }

    fn says<T>(&self, to: NodeId, title: Title, say: impl FnOnce() -> T) -> T {
        if to != self.me {
            return say();
        }
        self.watcher.owner_speaks(self.me, title);
        let said = say();
        self.watcher.is_silent();
        said
    }
}

impl Legs for Around {
    fn originate(&self, title: Title, order: Originate) -> Option<(LegId, String)> {
        let board = self.board.upgrade()?;
        self.says(order.home, title, || board.originate(title, order))
    }

    fn command(&self, title: Title, home: NodeId, leg: LegId, command: LegCommand) {
        let Some(board) = self.board.upgrade() else { return };
        self.says(home, title, || Legs::command(&*board, title, home, leg, command));
    }

    fn tell(&self, custodian: NodeId, message: ToLegs) {
        let Some(board) = self.board.upgrade() else { return };
        if custodian == self.me {
            self.watcher.speaks(self.me, &message);
        }
        Legs::tell(&*board, custodian, message);
        self.watcher.is_silent();
    }

    fn tell_server(&self, server: NodeId, message: ToCalls) -> bool {
        self.board.upgrade().is_some_and(|board| board.tell_server(server, message))
    }

    fn is_cluster(&self) -> bool {
        true
    }

    fn guards(&self, client: Id<Client>, call: CallId) -> Vec<NodeId> {
        self.board.upgrade().map(|board| board.guards(client, call)).unwrap_or_default()
    }

    fn proxies_instead(&self, gone: NodeId, leg: LegId) -> Vec<NodeId> {
        self.board.upgrade().map(|board| board.proxies_instead(gone, leg)).unwrap_or_default()
    }

    fn relay(&self, client: Id<Client>, caller: LegId, call: CallId, not: Option<NodeId>) -> Option<NodeId> {
        Legs::relay(&*self.board.upgrade()?, client, caller, call, not)
    }

    fn can_reach(&self, node: NodeId) -> bool {
        self.board.upgrade().is_some_and(|board| Legs::can_reach(&*board, node))
    }

    fn is_gone(&self, proxy: NodeId) -> bool {
        self.board.upgrade().is_some_and(|board| board.is_gone(proxy))
    }

    fn relay_is_lost(&self, relay: NodeId) -> bool {
        self.board.upgrade().is_some_and(|board| board.relay_is_lost(relay))
    }
}

impl Directory for Around {
    fn bindings(&self, aor: Aor) -> Vec<Binding> {
        self.board.upgrade().map(|board| board.bindings(aor)).unwrap_or_default()
    }
}

impl Media for Around {
    fn submit(
        &self,
        relay: NodeId,
        call: CallId,
        ticket: u32,
        command: MediaCommand,
        signalling: Signalling,
    ) -> Option<MediaReply> {
        self.board.upgrade()?.submit(relay, call, ticket, command, signalling)
    }
}
