//! The keeper: counts calls for what belongs to the partitions that this node owns.
//!
//! In: what servers ask, give back and tell, who is there, what is owned. Out: answers, and questions to those whose calls are not known. Elsewhere:
//! the other end (`asker`), why it is right ([`super`]).

#[cfg(any(test, feature = "testing"))]
use super::Fault;
use super::{ADOPTION, Action, Lease};
use crate::between::{Counted, DirectoryItem, Hold, Title};
use crate::ids::{CallId, NodeId};
use crate::node::Fence;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Instant;

/// Calls that are counted in one partition.
const CALLS_MAX: usize = 1 << 20;
/// Questions that wait until a new owner knows what calls hold, for each partition.
const PARKED_MAX: usize = 4096;

/// [`DirectoryItem::Reserve`].
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) from: NodeId,
    pub(super) ticket: u64,
    pub(super) title: Title,
    pub(super) counts: Vec<(Counted, u32)>,
}

/// [`DirectoryItem::Holds`].
#[derive(Debug)]
pub(super) struct Told {
    pub(super) from: NodeId,
    pub(super) instance: u64,
    pub(super) fence: Fence,
    pub(super) calls: Vec<Hold>,
    pub(super) complete: bool,
}

#[derive(Debug, Default)]
pub(super) struct Keeper {
    tables: BTreeMap<u16, Table>,
    /// Application servers that are there: which process, and whether it is about to leave.
    servers: BTreeMap<NodeId, (u64, bool)>,
    /// Those that were there, while their calls count.
    gone: Vec<Gone>,
    /// Servers out of reach, since when.
    lost: BTreeMap<NodeId, Instant>,
    actions: VecDeque<Action>,
    #[cfg(any(test, feature = "testing"))]
    pub(super) fault: Option<Fault>,
}

/// A process that is gone.
#[derive(Debug)]
struct Gone {
    node: NodeId,
    instance: u64,
    /// Its calls count until then.
    until: Instant,
    /// An owner that does not know them grants nothing before then. A server that drained has left no calls.
    settled: Option<Instant>,
}

/// What is counted in one partition.
#[derive(Debug)]
struct Table {
    fence: Fence,
    /// Who has not told yet what its calls hold.
    awaited: BTreeSet<NodeId>,
    /// Calls of a server that is gone may still have to be told by those who carry them on.
    not_before: Option<Instant>,
    calls: HashMap<CallId, Vec<Holder>>,
    counts: HashMap<Counted, u32>,
    /// Asked, and not answered until it is known what calls hold.
    parked: VecDeque<Asked>,
    /// Holds that are being told.
    coming: BTreeMap<NodeId, Vec<Hold>>,
}

/// A server at which a call counts.
#[derive(Debug)]
struct Holder {
    node: NodeId,
    instance: u64,
    epoch: u32,
    counts: Vec<Counted>,
}

impl Table {
    fn new(fence: Fence, awaited: BTreeSet<NodeId>, not_before: Option<Instant>) -> Self {
        Self {
            fence,
            awaited,
            not_before,
            calls: HashMap::new(),
            counts: HashMap::new(),
            parked: VecDeque::new(),
            coming: BTreeMap::new(),
        }
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.awaited.is_empty() && self.not_before.is_none_or(|at| at <= now)
    }

    /// What is full for this call, if anything is.
    fn full(&self, call: CallId, counts: &[(Counted, u32)]) -> Option<Counted> {
        let holders = self.calls.get(&call);
        let has = |counted: &Counted| {
            holders.is_some_and(|holders| holders.iter().any(|holder| holder.counts.contains(counted)))
        };
        let is_full = |(counted, limit): &&(Counted, u32)| {
            *limit > 0 && !has(counted) && self.counts.get(counted).copied().unwrap_or(0) >= *limit
        };
        counts.iter().find(is_full).map(|(counted, _)| *counted)
    }

    /// Changes who holds a call; it counts once for a key, whoever holds it.
    fn change(&mut self, call: CallId, change: impl FnOnce(&mut Vec<Holder>)) {
        let holders = self.calls.entry(call).or_default();
        let before = keys(holders);
        change(holders);
        holders.retain(|holder| !holder.counts.is_empty());
        let after = keys(holders);
        if holders.is_empty() {
            self.calls.remove(&call);
        }
        for key in after.iter().filter(|key| !before.contains(key)) {
            *self.counts.entry(*key).or_default() += 1;
        }
        for key in before.iter().filter(|key| !after.contains(key)) {
            if let Some(count) = self.counts.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(key);
                }
            }
        }
    }

    /// A server has the call; those that had it before, by a smaller epoch, have it no more. `whole`: it counts for nothing else there.
    fn hold(&mut self, title: Title, holder: Holder, whole: bool) {
        if self.calls.len() >= CALLS_MAX && !self.calls.contains_key(&title.call) {
            return;
        }
        self.change(title.call, |holders| {
            if holders.iter().any(|other| other.epoch > holder.epoch) {
                return; // somebody else has it by now
            }
            holders.retain(|other| other.epoch == holder.epoch || other.node == holder.node);
            match holders.iter_mut().find(|other| other.node == holder.node) {
                Some(own) if !whole => {
                    (own.epoch, own.instance) = (holder.epoch, holder.instance);
                    let new = holder.counts.into_iter().filter(|counted| !own.counts.contains(counted));
                    let new: Vec<Counted> = new.collect();
                    own.counts.extend(new);
                }
                Some(own) => *own = holder,
                None => holders.push(holder),
            }
        });
    }

    fn drop_where(&mut self, is_dropped: impl Fn(CallId, &Holder) -> bool) {
        let calls = self.calls.iter();
        let calls = calls.filter(|(call, holders)| holders.iter().any(|holder| is_dropped(**call, holder)));
        let calls: Vec<CallId> = calls.map(|(call, _)| *call).collect();
        for call in calls {
            self.change(call, |holders| holders.retain(|holder| !is_dropped(call, holder)));
        }
    }
}

fn keys(holders: &[Holder]) -> Vec<Counted> {
    let mut keys: Vec<Counted> = Vec::new();
    for counted in holders.iter().flat_map(|holder| &holder.counts) {
        if !keys.contains(counted) {
            keys.push(*counted);
        }
    }
    keys
}

impl Keeper {
    /// Who is there, and what is owned, as far as it was told.
    pub(super) fn changed(
        &mut self,
        owned: BTreeMap<u16, Fence>,
        servers: BTreeMap<NodeId, (u64, bool)>,
        now: Instant,
    ) {
        let before = std::mem::replace(&mut self.servers, servers);
        let servers = &self.servers;
        let is_there = |node: NodeId, instance: u64| servers.get(&node).is_some_and(|now| now.0 == instance);
        self.gone.retain(|gone| !is_there(gone.node, gone.instance));
        for (node, (instance, draining)) in &before {
            if is_there(*node, *instance) {
                continue;
            }
            let since = self.lost.get(node).copied().unwrap_or(now).min(now);
            let settled = (!draining).then_some(since + ADOPTION);
            self.gone.push(Gone { node: *node, instance: *instance, until: now + ADOPTION, settled });
            for table in self.tables.values_mut() {
                table.coming.remove(node);
                if table.awaited.remove(node) {
                    table.not_before = table.not_before.max(settled);
                }
            }
        }
        self.lost.retain(|node, since| servers.contains_key(node) || now < *since + ADOPTION);
        let new = servers.iter().filter(|(node, now)| before.get(node).is_none_or(|then| then.0 != now.0));
        let new: Vec<NodeId> = new.map(|(node, _)| *node).collect();
        self.tables.retain(|partition, table| owned.get(partition) == Some(&table.fence));
        for node in new {
            self.ask(node);
        }
        let settled = self.gone.iter().filter_map(|gone| gone.settled).max();
        for (partition, fence) in owned {
            if self.tables.contains_key(&partition) {
                continue;
            }
            let awaited: BTreeSet<NodeId> = self.servers.keys().copied().collect();
            for node in &awaited {
                let item = DirectoryItem::Recount { partition, fence: fence.0 };
                self.actions.push_back(Action::Tell(*node, item));
            }
            self.tables.insert(partition, Table::new(fence, awaited, settled));
        }
    }

    /// A server is out of reach.
    pub(super) fn lost(&mut self, node: NodeId, now: Instant) {
        self.lost.insert(node, now);
    }

    /// A server can be reached; what it gave back meanwhile was not heard.
    pub(super) fn back(&mut self, node: NodeId) {
        self.lost.remove(&node);
        self.ask(node);
    }

    /// What do its calls hold?
    fn ask(&mut self, node: NodeId) {
        if !self.servers.contains_key(&node) {
            return;
        }
        for (partition, table) in &mut self.tables {
            table.coming.remove(&node);
            let item = DirectoryItem::Recount { partition: *partition, fence: table.fence.0 };
            self.actions.push_back(Action::Tell(node, item));
        }
    }

    /// May a call count?
    pub(super) fn reserve(&mut self, partition: u16, asked: Asked, lease: &dyn Lease, now: Instant) {
        let is_there = self.servers.contains_key(&asked.from);
        let Some(table) = self.tables.get_mut(&partition).filter(|_| is_there) else {
            // Its holds will be asked for when it is seen, or this node owns what it believes it to own.
            return self.answer(&asked, None, Fence(0));
        };
        if lease.owned(partition) != Some(table.fence) {
            return self.answer(&asked, None, Fence(0));
        }
        let is_limited = asked.counts.iter().any(|(_, limit)| *limit > 0);
        if is_limited && !self.is_ready(partition, now) {
            let Some(table) = self.tables.get_mut(&partition) else { return };
            table.parked.retain(|other| (other.from, other.title.call) != (asked.from, asked.title.call));
            if table.parked.len() < PARKED_MAX {
                table.parked.push_back(asked);
            } else {
                self.answer(&asked, None, Fence(0));
            }
            return;
        }
        self.decide(partition, asked);
    }

    fn is_ready(&self, partition: u16, now: Instant) -> bool {
        #[cfg(any(test, feature = "testing"))]
        if self.fault == Some(Fault::DoesNotWait) {
            return true;
        }
        self.tables.get(&partition).is_some_and(|table| table.is_ready(now))
    }

    fn decide(&mut self, partition: u16, asked: Asked) {
        let Some(table) = self.tables.get_mut(&partition) else { return };
        let fence = table.fence;
        let full = table.full(asked.title.call, &asked.counts);
        if full.is_none()
            && let Some((instance, _)) = self.servers.get(&asked.from)
        {
            let counts = asked.counts.iter().map(|(counted, _)| *counted).collect();
            let holder = Holder { node: asked.from, instance: *instance, epoch: asked.title.epoch, counts };
            table.hold(asked.title, holder, false);
        }
        self.answer(&asked, full, fence);
    }

    fn answer(&mut self, asked: &Asked, full: Option<Counted>, fence: Fence) {
        if asked.ticket != 0 {
            let item = DirectoryItem::Reserved { ticket: asked.ticket, full, fence: fence.0 };
            self.actions.push_back(Action::Tell(asked.from, item));
        }
    }

    /// A call of a server counts no more.
    pub(super) fn release(&mut self, from: NodeId, partition: u16, call: CallId, counts: &[Counted]) {
        let Some(table) = self.tables.get_mut(&partition) else { return };
        let is_meant = |counted: &Counted| counts.is_empty() || counts.contains(counted);
        table.parked.retain(|asked| {
            let is_it = asked.from == from && asked.title.call == call;
            !is_it || !asked.counts.iter().any(|(counted, _)| is_meant(counted))
        });
        if table.calls.contains_key(&call) {
            table.change(call, |holders| {
                for holder in holders.iter_mut().filter(|holder| holder.node == from) {
                    holder.counts.retain(|counted| !is_meant(counted));
                }
            });
        }
    }

    /// What the calls of a server hold.
    pub(super) fn holds(&mut self, partition: u16, told: Told, lease: &dyn Lease, now: Instant) {
        let Told { from, instance, fence, calls, complete } = told;
        let is_it = self.servers.get(&from).is_some_and(|server| server.0 == instance);
        let Some(table) = self.tables.get_mut(&partition).filter(|table| is_it && table.fence == fence)
        else {
            return; // asked again when it is seen, if it was not
        };
        let coming = table.coming.entry(from).or_default();
        if coming.len() < CALLS_MAX {
            coming.extend(calls);
        }
        if !complete {
            return;
        }
        let all = table.coming.remove(&from).unwrap_or_default();
        #[cfg(any(test, feature = "testing"))]
        let all = if self.fault == Some(Fault::ForgetsHolds) { Vec::new() } else { all };
        let told: HashSet<CallId> = all.iter().map(|hold| hold.call).collect();
        table.drop_where(|call, holder| {
            (holder.node, holder.instance) == (from, instance) && !told.contains(&call)
        });
        for Hold { call, epoch, counts } in all {
            table.hold(Title { call, epoch }, Holder { node: from, instance, epoch, counts }, true);
        }
        // What it asked before is void: it asks again for what it still wants.
        table.parked.retain(|asked| asked.from != from);
        table.awaited.remove(&from);
        self.answer_parked(partition, lease, now);
    }

    fn answer_parked(&mut self, partition: u16, lease: &dyn Lease, now: Instant) {
        while self.is_ready(partition, now)
            && let Some(table) = self.tables.get_mut(&partition)
            && let Some(asked) = table.parked.pop_front()
        {
            if lease.owned(partition) == Some(table.fence) && self.servers.contains_key(&asked.from) {
                self.decide(partition, asked);
            } else {
                self.answer(&asked, None, Fence(0));
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, lease: &dyn Lease, now: Instant) {
        let (over, gone) =
            std::mem::take(&mut self.gone).into_iter().partition(|gone: &Gone| gone.until <= now);
        self.gone = gone;
        let over: Vec<Gone> = over;
        if !over.is_empty() {
            let is_over = |holder: &Holder| {
                over.iter().any(|gone| (gone.node, gone.instance) == (holder.node, holder.instance))
            };
            self.tables.values_mut().for_each(|table| table.drop_where(|_, holder| is_over(holder)));
        }
        let waiting = self.tables.iter().filter(|(_, table)| !table.parked.is_empty());
        let waiting: Vec<u16> = waiting.map(|(partition, _)| *partition).collect();
        waiting.into_iter().for_each(|partition| self.answer_parked(partition, lease, now));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let waiting =
            self.tables.values().filter(|table| !table.parked.is_empty() && table.awaited.is_empty());
        let waiting = waiting.filter_map(|table| table.not_before);
        waiting.chain(self.gone.iter().map(|gone| gone.until)).min()
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Calls that are counted in a partition, and for what; `None`: it is not owned.
    #[cfg(test)]
    pub(super) fn counted(&self, partition: u16) -> Option<BTreeMap<CallId, BTreeSet<Counted>>> {
        let calls = self.tables.get(&partition)?.calls.iter();
        Some(calls.map(|(call, holders)| (*call, keys(holders).into_iter().collect())).collect())
    }

    /// Whether a call counts, and at which nodes.
    #[cfg(test)]
    pub(super) fn holders(&self, partition: u16, call: CallId) -> Vec<NodeId> {
        let holders = self.tables.get(&partition).and_then(|table| table.calls.get(&call));
        holders.into_iter().flatten().map(|holder| holder.node).collect()
    }

    /// Whether a partition is owned and nothing can be granted for it yet.
    #[cfg(test)]
    pub(super) fn waits(&self, partition: u16, now: Instant) -> bool {
        self.tables.get(&partition).is_some_and(|table| !table.is_ready(now))
    }

    /// How many calls count for this.
    #[cfg(test)]
    pub(super) fn count(&self, partition: u16, counted: Counted) -> u32 {
        self.tables.get(&partition).and_then(|table| table.counts.get(&counted)).copied().unwrap_or(0)
    }
}
