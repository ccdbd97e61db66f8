//! The switchboard of a node in a cluster: whatever its roles say to each other goes to the node that is meant, be it this one.
//!
//! In: the faces of [`crate::leg`] and [`crate::media`], messages of other nodes, who is there. Out: the same, carried on. To a proxy it looks
//! like its application server, to an application server like its proxies, directory and relays. Elsewhere: streams to other
//! nodes (crate `mesh`), what is kept of calls (`custody`), who serves what (`placement`). A node that stands alone has none.

use crate::between::{DirectoryItem, FromRelay, LegNames, Located, Owner, Title, ToCalls, ToLegs, ToRelay};
use crate::counters::{self, Claim, Counters, Lease, Limits, Verdict};
use crate::custody::{Action, Custody, Figures, Servers};
use crate::directory::Locations;
use crate::ids::{CallId, LegId, NodeId};
use crate::leg::{Binding, Calls, Directory, Incoming, LegCommand, LegEvent, LegHost, Legs, Originate};
use crate::media::{Media, MediaCommand, MediaError, MediaEvent, MediaReply, MediaSink, Signalling, TICKETS};
use crate::node::{Fence, Kind, NodeInfo, Role, View};
use crate::placement::{self, Reach};
use crate::question::{Answer, Question};
use crate::unclaimed::{Due, Unclaimed};
use arc_swap::ArcSwap;
use bytes::Bytes;
use dashmap::DashMap;
use model::{Aor, BindingRecord, Client, Id, Snapshot};
use parking_lot::Mutex;
use sip::flow::{ConnId, Flow, Transport};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Names that are set aside at a time with each SIP worker of a proxy, for each application server.
const NAMES: u32 = 65_536;
/// Calls whose relay is about to leave are looked for so often: some could not move before, or came since.
const LEAVES_AGAIN: Duration = Duration::from_secs(1);
/// A node that has come counts as new for so long: longer than it takes until one that died before is known to be gone.
const NEWCOMER: Duration = Duration::from_secs(30);
/// A node that has come has links to all others after this time.
const SETTLED: Duration = Duration::from_secs(5);
/// More names are asked for when so many are left.
const NAMES_LOW: u64 = 8192;

/// The way to other nodes. Nothing here blocks; `false`: the node is out of reach, and what was said is lost.
pub trait Wire: Send + Sync + 'static {
    /// To its calls.
    fn to_calls(&self, node: NodeId, message: ToCalls) -> bool;
    /// To its legs.
    fn to_legs(&self, node: NodeId, message: ToLegs) -> bool;
    /// To its relay.
    fn to_relay(&self, node: NodeId, message: ToRelay) -> bool;
    /// To its calls, from this node's relay.
    fn of_relay(&self, node: NodeId, message: FromRelay) -> bool;
    /// To its directory.
    fn directory(&self, node: NodeId, item: DirectoryItem) -> bool;
}

/// The application server of this node, as far as other nodes speak to it. Everything is done later, by its mailbox.
pub trait CallServer: MediaSink {
    /// A custodian of calls speaks.
    fn told(&self, from: NodeId, message: ToCalls);
    /// A proxy is out of reach; its legs may live.
    fn proxy_lost(&self, proxy: NodeId);
    /// A proxy is gone for good, and its legs with it: it is out of reach and the cluster does not know it any more, or
    /// another process has taken its place.
    fn proxy_gone(&self, proxy: NodeId);
    /// The same of one that has left in order: it has said to telephones all that it was told to say.
    fn proxy_left(&self, proxy: NodeId);
    /// A proxy can be reached (again).
    fn proxy_back(&self, proxy: NodeId);
    /// A relay is out of reach.
    fn relay_lost(&self, relay: NodeId);
    /// A relay can be reached (again): it may have kept sessions of calls that went on elsewhere, or ended.
    fn relay_back(&self, relay: NodeId);
    /// A relay is about to leave.
    fn relay_leaves(&self, relay: NodeId);
    /// The answer to what a call asked of [`Limits::reserve`], under the number of its question.
    fn reserved(&self, call: CallId, number: u32, verdict: Verdict);
}

/// The registrar of this node, as far as others have a say.
pub trait BindingHost: Send + Sync + 'static {
    /// Drops a binding: the device has registered elsewhere.
    fn displaced(&self, aor: Aor, contact: &str);
}

/// Whoever answers for this node as a whole, and asks others. Everything is done later: this is called where messages come in.
pub trait Shell: Send + Sync + 'static {
    /// A node asks; the answer goes by [`Switchboard::answer`].
    fn asked(&self, from: NodeId, ticket: u64, question: Question);
    /// A node answers what [`Switchboard::ask`] asked it.
    fn answered(&self, from: NodeId, ticket: u64, answer: Answer);
    /// There is no way to a node any more: it answers nothing that it was asked.
    fn silent(&self, node: NodeId);
}

/// What a switchboard works with.
pub struct Deps {
    /// This node.
    pub me: NodeId,
    /// The configuration.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Unix time in microseconds.
    pub unix_us: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Time for deadlines.
    pub now: Arc<dyn Fn() -> Instant + Send + Sync>,
    /// Makes SIP Call-IDs: 128 random bits.
    pub random: Arc<dyn Fn() -> u128 + Send + Sync>,
}

/// The switchboard.
pub struct Switchboard {
    deps: Deps,
    custody: Mutex<Custody>,
    locations: Mutex<Locations>,
    names: Mutex<BTreeMap<NodeId, Names>>,
    view: ArcSwap<View>,
    /// Nodes whose link is down, by service.
    lost: ArcSwap<Lost>,
    /// When there was a link for the directory to a node (again).
    newcomers: Mutex<BTreeMap<NodeId, Instant>>,
    /// When this process began.
    began: Instant,
    /// Which process each node was last, also while the cluster does not know it.
    processes: Mutex<BTreeMap<NodeId, u64>>,
    /// Who serves the calls that this node's relay carries, and the highest ticket that it has shown.
    relayed: DashMap<CallId, (NodeId, u32)>,
    /// Of those, calls whose server is out of reach.
    unclaimed: Mutex<Unclaimed>,
    turn: AtomicU64,
    /// When calls whose relay is about to leave were last looked for.
    leaves: Mutex<Option<Instant>>,
    host: OnceLock<Arc<dyn LegHost>>,
    bindings: OnceLock<Arc<dyn BindingHost>>,
    server: OnceLock<Arc<dyn CallServer>>,
    relay: OnceLock<Arc<dyn Media>>,
    shell: OnceLock<Arc<dyn Shell>>,
    wire: OnceLock<Arc<dyn Wire>>,
    counting: OnceLock<Counting>,
}

/// What this node counts, and what lets it.
struct Counting {
    counters: Mutex<Counters>,
    lease: Arc<dyn Lease>,
}

/// Nodes that cannot be reached from here.
#[derive(Clone, Debug, Default)]
struct Lost {
    calls: BTreeSet<NodeId>,
    legs: BTreeSet<NodeId>,
    media: BTreeSet<NodeId>,
    directory: BTreeSet<NodeId>,
    /// Nodes whose links for the directory are up: they have been told all that there is.
    told: BTreeSet<NodeId>,
    /// Nodes whose links for legs are up.
    linked: BTreeSet<NodeId>,
    /// Nodes that etcd has lost sight of, and whose links for legs have been up ever since. Their lease may be over and they alive: they go on with
    /// what they have. Those that meant to leave are not among them.
    unseen: BTreeSet<NodeId>,
    /// Nodes that have left as they meant to, and whose links for legs are still up.
    left: BTreeSet<NodeId>,
}

/// Names of legs at one proxy.
#[derive(Debug, Default)]
struct Names {
    free: VecDeque<LegNames>,
    asked: bool,
}

impl Names {
    fn take(&mut self, proxy: NodeId) -> Option<LegId> {
        let mut next = self.free.pop_front()?;
        let leg = LegId::new(proxy, next.worker, next.first);
        next.first += 1;
        next.count -= 1;
        if next.count > 0 {
            self.free.push_back(next); // round the workers
        }
        Some(leg)
    }

    fn left(&self) -> u64 {
        self.free.iter().map(|names| u64::from(names.count)).sum()
    }
}

impl Switchboard {
    /// A switchboard that knows no other node yet.
    pub fn new(deps: Deps) -> Arc<Self> {
        let (me, began) = (deps.me, (deps.now)());
        Arc::new(Self {
            deps,
            custody: Mutex::new(Custody::new(me)),
            locations: Mutex::new(Locations::new(me)),
            names: Mutex::default(),
            view: ArcSwap::default(),
            lost: ArcSwap::default(),
            newcomers: Mutex::default(),
            began,
            processes: Mutex::default(),
            relayed: DashMap::new(),
            unclaimed: Mutex::default(),
            turn: AtomicU64::new(0),
            leaves: Mutex::default(),
            host: OnceLock::new(),
            bindings: OnceLock::new(),
            server: OnceLock::new(),
            relay: OnceLock::new(),
            shell: OnceLock::new(),
            wire: OnceLock::new(),
            counting: OnceLock::new(),
        })
    }

    /// Names the proxy of this node, if it has one. Each of these is called once, before anything else happens.
    pub fn set_host(&self, host: Arc<dyn LegHost>, bindings: Arc<dyn BindingHost>) {
        let _ = self.host.set(host);
        let _ = self.bindings.set(bindings);
    }

    /// Names the application server of this node, if it has one.
    pub fn set_server(&self, server: Arc<dyn CallServer>) {
        let _ = self.server.set(server);
    }

    /// Names the relay of this node, if it has one.
    pub fn set_relay(&self, relay: Arc<dyn Media>) {
        let _ = self.relay.set(relay);
    }

    /// Names who answers for the node.
    pub fn set_shell(&self, shell: Arc<dyn Shell>) {
        let _ = self.shell.set(shell);
    }

    /// Names the way to other nodes.
    pub fn set_wire(&self, wire: Arc<dyn Wire>) {
        let _ = self.wire.set(wire);
    }

    /// Lets the custody make a mistake on purpose from now on.
    #[cfg(any(test, feature = "testing"))]
    pub fn make_fault(&self, fault: crate::custody::Fault) {
        self.custody.lock().make_fault(fault);
    }

    /// Lets the counters make a mistake on purpose from now on.
    #[cfg(any(test, feature = "testing"))]
    pub fn miscount(&self, fault: counters::Fault) {
        self.count(|counters, _, _| counters.make_fault(fault));
    }

    /// Names what is certain of this node, and the number of its process: without that no call has a place where a limit says how many there
    /// are.
    pub fn count_by(&self, lease: Arc<dyn Lease>, instance: u64) {
        let counters = Mutex::new(Counters::new(self.deps.me, instance));
        let _ = self.counting.set(Counting { counters, lease });
    }

    /// Who is there, as far as known.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Calls in custody here.
    pub fn figures(&self) -> Figures {
        self.custody.lock().figures()
    }

    /// Whether a call is in custody here.
    pub fn keeps(&self, call: CallId) -> bool {
        self.custody.lock().keeps(call)
    }

    /// The calls in custody here, each with its owner, if it has one at the moment.
    pub fn kept(&self) -> Vec<(CallId, Option<Owner>)> {
        self.custody.lock().kept()
    }

    /// How many legs a call has here, as far as they are known to live.
    #[cfg(any(test, feature = "testing"))]
    pub fn living(&self, call: CallId) -> usize {
        self.custody.lock().living(call).len()
    }

    /// Contacts known here, those of other nodes with them.
    pub fn locations(&self) -> usize {
        self.locations.lock().count()
    }

    /// All that is known of the contacts of an endpoint.
    pub fn located(&self, aor: Aor) -> Vec<Located> {
        self.locations.lock().of_at(aor, self.unix_secs()).cloned().collect()
    }

    /// What other nodes have registered of an endpoint and has not expired.
    pub fn bound_elsewhere(&self, aor: Aor) -> Vec<BindingRecord> {
        let locations = self.locations.lock();
        let all = locations.of_at(aor, self.unix_secs());
        all.filter(|located| located.home != self.deps.me).map(|located| located.binding.clone()).collect()
    }

    /// Does what has become due; called several times a second.
    pub fn tick(&self) {
        let now = (self.deps.now)();
        let mut custody = self.custody.lock();
        if custody.poll_timeout().is_some_and(|due| due <= now) {
            custody.handle_timeout(&Placed(self), now);
            self.carry_out(&mut custody);
        }
        drop(custody);
        self.count(|counters, lease, now| {
            if counters.poll_timeout().is_some_and(|due| due <= now) {
                counters.handle_timeout(lease, now);
            }
        });
        self.look_for_owners(now);
        let Some(server) = self.server.get() else { return };
        let mut leaves = self.leaves.lock();
        if leaves.is_none_or(|last| now >= last + LEAVES_AGAIN) {
            *leaves = Some(now);
            for node in self.view.load().with_role(Role::Relay).filter(|node| node.draining) {
                server.relay_leaves(node.id);
            }
        }
    }

    /// Forgets contacts that have expired; called once a minute or so.
    pub fn tidy(&self) {
        self.locations.lock().tidy(self.unix_secs());
    }

    // --- from other nodes ---

    /// A node speaks to the calls of this one.
    pub fn heard_calls(&self, from: NodeId, message: ToCalls) {
        match (message, self.server.get()) {
            (ToCalls::Names(names), _) => {
                let mut all = self.names.lock();
                let pool = all.entry(from).or_default();
                pool.asked = false;
                if names.count > 0 && pool.free.len() < 1024 {
                    pool.free.push_back(names);
                }
            }
            (message, Some(server)) => server.told(from, message),
            (ToCalls::Stray { ticket, .. }, None) if from != self.deps.me => {
                self.say_to_legs(from, ToLegs::NoStray { ticket });
            }
            (_, None) => {} // a node that has no calls was asked by mistake; its view will tell it better
        }
    }

    /// A node speaks to the legs of this one, or to its custody.
    pub fn heard_legs(&self, from: NodeId, message: ToLegs) {
        let mut custody = self.custody.lock();
        custody.told(from, message, &Placed(self), (self.deps.now)());
        self.carry_out(&mut custody);
    }

    /// A node speaks to the relay of this one.
    pub fn heard_relay(&self, from: NodeId, message: ToRelay) {
        let ToRelay::Submit { call, ticket, command, signalling } = message;
        let Some(relay) = self.relay.get() else {
            let reply = MediaReply::Refused(MediaError::Unreachable);
            self.say_from_relay(from, FromRelay::Reply { call, ticket, reply });
            return;
        };
        if !self.is_served_by(from, call, ticket, &command) {
            self.say_from_relay(from, FromRelay::Reply { call, ticket, reply: other_server() });
            return;
        }
        if let Some(reply) = relay.submit(self.deps.me, call, ticket, command, signalling) {
            self.say_from_relay(from, FromRelay::Reply { call, ticket, reply });
        }
    }

    /// The relay of a node speaks to the calls of this one.
    pub fn heard_from_relay(&self, _from: NodeId, message: FromRelay) {
        let Some(server) = self.server.get() else { return };
        match message {
            FromRelay::Reply { call, ticket, reply } => server.reply(call, ticket, reply),
            FromRelay::Event { call, event } => MediaSink::event(&**server, call, event),
        }
    }

    /// Asks another node. `false`: it is out of reach.
    pub fn ask(&self, node: NodeId, ticket: u64, question: Question) -> bool {
        self.wire.get().is_some_and(|wire| wire.directory(node, DirectoryItem::Ask { ticket, question }))
    }

    /// Answers another node.
    pub fn answer(&self, node: NodeId, ticket: u64, answer: Answer) {
        if let Some(wire) = self.wire.get() {
            wire.directory(node, DirectoryItem::Answer { ticket, answer }); // who is out of reach waits no more
        }
    }

    /// A node speaks to the directory of this one, or to the node as a whole.
    pub fn heard_directory(&self, from: NodeId, item: &DirectoryItem) {
        match (item, self.shell.get()) {
            (DirectoryItem::Ask { ticket, question }, Some(shell)) => {
                return shell.asked(from, *ticket, question.clone());
            }
            (DirectoryItem::Answer { ticket, answer }, Some(shell)) => {
                return shell.answered(from, *ticket, answer.clone());
            }
            _ => {}
        }
        if counters::is_about_counters(item) {
            return self.count(|counters, lease, now| counters.told(from, item.clone(), lease, now));
        }
        let displaced = self.locations.lock().told(from, item, (self.deps.unix_us)());
        if let Some(bindings) = self.bindings.get() {
            for binding in displaced {
                bindings.displaced(binding.aor, &binding.contact);
            }
        }
    }

    // --- from the registrar of this node ---

    /// A binding is new or refreshed.
    pub fn bound(&self, binding: BindingRecord) {
        let mut locations = self.locations.lock();
        let item = locations.bound(binding, (self.deps.unix_us)());
        self.tell_all(&item);
    }

    /// A binding of an earlier run, which was registered at this time at the earliest (Unix seconds): whatever was registered elsewhere
    /// since is right.
    pub fn restored(&self, binding: BindingRecord, since: i64) {
        let stamp_us = since.saturating_mul(1_000_000).min((self.deps.unix_us)());
        let mut locations = self.locations.lock();
        let item = locations.bound(binding, stamp_us);
        self.tell_all(&item);
    }

    /// A binding has ended.
    pub fn unbound(&self, aor: Aor, contact: &str) {
        let mut locations = self.locations.lock();
        let item = locations.unbound(aor, contact, (self.deps.unix_us)());
        self.tell_all(&item);
    }

    /// What was registered of an endpoint with other nodes before this time (in microseconds of Unix time) is void, also with those that
    /// are gone: this contact, or all.
    pub fn forget_elsewhere(&self, aor: Aor, contact: Option<String>, before_us: i64) {
        let item = DirectoryItem::Forget { aor, contact, before_us };
        self.locations.lock().told(self.deps.me, &item, before_us);
        self.tell_all(&item);
    }

    fn tell_all(&self, item: &DirectoryItem) {
        let Some(wire) = self.wire.get() else { return };
        for node in self.view.load().nodes.keys().filter(|node| **node != self.deps.me) {
            wire.directory(*node, item.clone()); // who is out of reach is told the whole when it is back
        }
    }

    // --- inside ---

    /// Lets the counters do something, and carries out what they want, in this order for all that speak to them.
    fn count(&self, work: impl FnOnce(&mut Counters, &dyn Lease, Instant)) {
        self.count_for(None, work);
    }

    /// The same; gives the answer to this question, if there is one by then.
    fn count_for(
        &self,
        question: Option<(CallId, u32)>,
        work: impl FnOnce(&mut Counters, &dyn Lease, Instant),
    ) -> Option<Verdict> {
        let Counting { counters, lease } = self.counting.get()?;
        let mut counters = counters.lock();
        work(&mut counters, &**lease, (self.deps.now)());
        let mut answer = None;
        while let Some(action) = counters.poll_action() {
            match action {
                counters::Action::Tell(node, item) => {
                    if let Some(wire) = self.wire.get() {
                        wire.directory(node, item); // who is out of reach is asked, or asks, when it is back
                    }
                }
                counters::Action::Verdict(call, number, verdict) if question == Some((call, number)) => {
                    answer = Some(verdict);
                }
                counters::Action::Verdict(call, number, verdict) => {
                    if let Some(server) = self.server.get() {
                        server.reserved(call, number, verdict);
                    }
                }
            }
        }
        answer
    }

    fn unix_secs(&self) -> i64 {
        (self.deps.unix_us)().div_euclid(1_000_000)
    }

    fn carry_out(&self, custody: &mut Custody) {
        while let Some(action) = custody.poll_action() {
            match action {
                Action::Tell(node, message) => self.say_to_calls(custody, node, message),
                Action::Leg(leg, command) => {
                    if let Some(host) = self.host.get() {
                        host.command(leg, command);
                    }
                }
                Action::Originate { call, leg, sip_call_id, order } => {
                    if let Some(host) = self.host.get() {
                        host.originate_as(call, leg, sip_call_id, *order);
                    }
                }
                Action::Revive { call, leg, state } => match self.host.get() {
                    Some(host) => host.revive(call, leg, state),
                    None => custody.revived(call, leg, false),
                },
                Action::Part(leg) => {
                    if let Some(host) = self.host.get() {
                        host.part(leg);
                    }
                }
                Action::NoStray(leg) => {
                    if let Some(host) = self.host.get() {
                        host.no_stray(leg);
                    }
                }
                Action::Names(node) => {
                    for names in self.host.get().map(|host| host.names(NAMES)).unwrap_or_default() {
                        self.say_to_calls(custody, node, ToCalls::Names(names));
                    }
                }
            }
        }
    }

    /// Whoever asks somebody that is out of reach is answered as that one would, had it no room.
    fn say_to_calls(&self, custody: &mut Custody, node: NodeId, message: ToCalls) {
        if node == self.deps.me {
            return self.heard_calls(node, message);
        }
        let title = match &message {
            ToCalls::Incoming { title, .. } => Some(*title),
            ToCalls::Offer(stand) => Some(stand.title),
            _ => None,
        };
        let is_told = self.wire.get().is_some_and(|wire| wire.to_calls(node, message));
        if let Some(title) = title.filter(|_| !is_told) {
            let why = crate::between::Decline::Full;
            custody.told(node, ToLegs::Decline { title, why }, &Placed(self), (self.deps.now)());
        }
    }

    /// `false`: the node is out of reach.
    fn say_to_legs(&self, node: NodeId, message: ToLegs) -> bool {
        if node == self.deps.me {
            self.heard_legs(node, message);
            return true;
        }
        self.wire.get().is_some_and(|wire| wire.to_legs(node, message))
    }

    /// `false`: the node is out of reach.
    fn say_from_relay(&self, node: NodeId, message: FromRelay) -> bool {
        if node == self.deps.me {
            self.heard_from_relay(node, message);
            return true;
        }
        self.wire.get().is_some_and(|wire| wire.of_relay(node, message))
    }

    /// Whether this application server may command the relay for a call. Whoever takes a call over goes on with far higher tickets
    /// ([`crate::media::Media`]), so one that has lost the call and does not know it yet is told apart.
    fn is_served_by(&self, from: NodeId, call: CallId, ticket: u32, command: &MediaCommand) -> bool {
        let is_numbered = ticket != u32::MAX;
        let mut serving = self.relayed.entry(call).or_insert((from, if is_numbered { ticket } else { 0 }));
        let (node, highest) = *serving;
        let may = node == from || is_numbered && (ticket / TICKETS, from) > (highest / TICKETS, node);
        if may {
            *serving = (from, if is_numbered { highest.max(ticket) } else { highest });
        }
        drop(serving);
        if may {
            self.unclaimed.lock().claimed(call);
        }
        if may && matches!(command, MediaCommand::Close) {
            self.relayed.remove(&call);
        }
        may
    }

    /// Asks a proxy to set names aside, unless it is asked already.
    fn want_names(&self, proxy: NodeId) {
        let is_new = !std::mem::replace(&mut self.names.lock().entry(proxy).or_default().asked, true);
        if is_new && !self.say_to_legs(proxy, ToLegs::Names) {
            self.names.lock().entry(proxy).or_default().asked = false;
        }
    }

    fn name(&self, proxy: NodeId) -> Option<LegId> {
        let take = || {
            let mut all = self.names.lock();
            let pool = all.entry(proxy).or_default();
            let leg = pool.take(proxy);
            (leg, pool.left() < NAMES_LOW)
        };
        let (leg, low) = take();
        if low {
            self.want_names(proxy);
        }
        // Its own proxy answers at once.
        leg.or_else(|| take().0)
    }

    fn can_reach(&self, node: NodeId) -> bool {
        let lost = self.lost.load();
        let is_known = || self.view.load().nodes.contains_key(&node) || lost.unseen.contains(&node);
        node == self.deps.me || !lost.legs.contains(&node) && is_known()
    }
}

fn other_server() -> MediaReply {
    MediaReply::Refused(MediaError::Superseded)
}

/// Who may serve calls, at this moment.
struct Placed<'a>(&'a Switchboard);

impl Servers for Placed<'_> {
    fn for_new(&self, client: Id<Client>, _: CallId) -> Vec<NodeId> {
        let board = self.0;
        let (view, lost) = (board.view.load(), board.lost.load());
        let reach = Reach { view: &view, lost: &lost.calls };
        let turn = board.turn.load(Ordering::Relaxed);
        placement::servers_for_new(reach, &board.deps.snapshot.load(), client, turn)
    }

    fn for_lost(&self, client: Option<Id<Client>>, call: CallId) -> Vec<NodeId> {
        let board = self.0;
        let (view, lost) = (board.view.load(), board.lost.load());
        let reach = Reach { view: &view, lost: &lost.calls };
        placement::servers_for_lost(reach, &board.deps.snapshot.load(), client, call)
    }

    fn all(&self) -> Vec<NodeId> {
        let (view, lost) = (self.0.view.load(), self.0.lost.load());
        let servers = view.with_role(Role::As).map(|node| node.id);
        servers.filter(|node| !lost.calls.contains(node)).collect()
    }

    fn is_gone(&self, node: NodeId) -> bool {
        node != self.0.deps.me && !self.0.view.load().nodes.contains_key(&node)
    }
}

mod desks;
mod reach;
#[cfg(test)]
mod reach_tests;
#[cfg(test)]
mod tests;
