//! Keepers and askers of several nodes on a simulated network, with an etcd in memory and clocks of their own, driven by a seed.
//!
//! Faults: slow and cut links (also one-way), sessions that are lost, pauses, crashes, etcd out of reach, drains, calls that others take over.
//! Always: the calls that rely on a limit are no more than it. In the end, when all is healed: owners count what calls hold, and grant.
//! A failure names its seed. Elsewhere: membership itself, whose simulation is in [`crate::member`].

mod calls;
mod membership;

use super::*;
use crate::etcd::{Compare, Op, Request, Response, Txn};
use crate::node::{NodeInfo, Owner, Roles, partitions};
use crate::testing::Etcd;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// Microseconds of the true time.
type Time = u64;

const MILLI: Time = 1000;
const SECOND: Time = 1000 * MILLI;
const CHAOS: Time = 15 * SECOND;
/// Nothing new happens from here on, save that each node asks once of each owner.
const QUIET: Time = CHAOS + 15 * SECOND;
const END: Time = QUIET + 3 * SECOND;
const LEASE: u32 = 5;
const PARTS: u16 = 4;
const KEYS: u16 = 2;
/// How long a link is down before it is lost.
const LOST_AFTER: Time = 2 * SECOND;

/// One process: the slot, and how many the slot has had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Address(usize, u64);

enum Act {
    Tick(usize),
    ToEtcd(Address, Request),
    FromEtcd(Address, Time, Request, Response),
    View(Address, Box<Seen>),
    /// Messages from one slot to another may have arrived.
    Flow(usize, usize),
    Links,
    Call(usize),
    End(CallId),
    Adopt(CallId, u32, usize),
    LetGo(Address, CallId),
    Begin(Trouble),
    Over(Trouble),
    Restart(usize),
    Probe,
}

#[derive(Clone, Copy, Debug)]
enum Trouble {
    Cut(usize, usize),
    CutBoth(usize, usize),
    Etcd(usize),
    Pause(usize),
    Crash(usize),
    Drain(usize),
    Slow,
    /// Somebody takes over calls of a server that lives.
    Steal(usize),
}

/// What etcd showed a node.
#[derive(Clone, Default)]
struct Seen {
    view: Arc<View>,
    /// Its own record's lease.
    lease: i64,
}

struct Process {
    at: Address,
    instance: u64,
    counters: Option<Counters>,
    clock: (Instant, f64),
    seen: Seen,
    lease: Option<(i64, Instant, Instant)>,
    giving_up: BTreeSet<(u16, u64)>,
    claimed: BTreeMap<u16, Instant>,
    draining: bool,
    shown: (u64, Time),
    /// What its counters know of view and ownership.
    told: (u64, BTreeMap<u16, Fence>),
    /// Its share, by a revision of the view.
    wished: (u64, BTreeSet<u32>),
    etcd_cut: u32,
    paused: u32,
    waiting: Vec<Act>,
    /// What its calls count for, as the calls know it.
    calls: BTreeMap<CallId, (u32, Vec<Claim>)>,
    asking: BTreeMap<(CallId, u32), (u32, Vec<Claim>)>,
}

#[derive(Default)]
struct Link {
    cut: u32,
    queue: VecDeque<(Time, DirectoryItem)>,
    last: Time,
}

#[derive(Default)]
struct Pair {
    up: bool,
    bad_since: Option<Time>,
}

/// Who relies on a call's being within a limit.
type Believers = Vec<(Address, u64)>;

struct World {
    rng: StdRng,
    now: Time,
    etcd: Etcd,
    slow: u32,
    queue: BTreeMap<(Time, u64), Box<Act>>,
    order: u64,
    processes: Vec<Process>,
    links: BTreeMap<(usize, usize), Link>,
    pairs: BTreeMap<(usize, usize), Pair>,
    limits: BTreeMap<Counted, u32>,
    beliefs: BTreeMap<Counted, BTreeMap<CallId, Believers>>,
    /// Who relies on what, or who is certain.
    changed: bool,
    /// Who has a call by the best title.
    owners: BTreeMap<CallId, (Address, u32)>,
    /// Calls of processes that are gone.
    left: BTreeMap<CallId, (u32, Vec<Claim>)>,
    next_call: u64,
    fault: Option<Fault>,
    probes: BTreeSet<CallId>,
    seen: Figures,
}

/// What happened, so that a simulation of nothing is noticed.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    granted: u64,
    full: u64,
    unknown: u64,
    adopted: u64,
    /// Adopted calls that still counted when their new server said that it has them.
    kept: u64,
}

impl Figures {
    fn and(self, other: Self) -> Self {
        Self {
            granted: self.granted + other.granted,
            full: self.full + other.full,
            unknown: self.unknown + other.unknown,
            adopted: self.adopted + other.adopted,
            kept: self.kept + other.kept,
        }
    }
}

/// [`Lease`] of a process at a moment.
struct Sure {
    owned: BTreeMap<u16, Fence>,
    stint: Option<u64>,
}

impl Lease for Sure {
    fn owned(&self, partition: u16) -> Option<Fence> {
        self.owned.get(&partition).copied()
    }

    fn certain(&self) -> Option<u64> {
        self.stint
    }
}

impl Process {
    fn local(&self, now: Time) -> Instant {
        self.clock.0 + Duration::from_micros((now as f64 * self.clock.1) as u64)
    }

    fn stint(&self, now: Time) -> Option<u64> {
        let local = self.local(now);
        let lease = self.lease.filter(|(id, until, _)| local < *until && self.seen.lease == *id);
        lease.map(|(id, ..)| id as u64)
    }

    fn sure(&self, now: Time) -> Sure {
        let stint = self.stint(now);
        let me = NodeId(self.at.0 as u16 + 1);
        let ours = self
            .seen
            .view
            .owners
            .iter()
            .filter(|(_, owner)| (owner.node, owner.instance) == (me, self.instance) && stint.is_some());
        let ours = ours.map(|((_, key), owner)| (*key as u16, owner.fence));
        let owned = ours.filter(|(key, fence)| !self.giving_up.contains(&(*key, fence.0))).collect();
        Sure { owned, stint }
    }
}

fn key(partition: u16, which: u16) -> Counted {
    Counted::User(Id::new(u32::from(partition * 10 + which + 1)))
}

impl World {
    fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(2..=4);
        let base = Instant::now() + Duration::from_secs(1_000_000);
        let process = |slot: usize, rng: &mut StdRng| Process {
            at: Address(slot, 0),
            instance: 0,
            counters: None,
            clock: (
                base - Duration::from_micros(rng.random_range(0..1000 * SECOND)),
                rng.random_range(0.9..1.1),
            ),
            seen: Seen::default(),
            lease: None,
            giving_up: BTreeSet::new(),
            claimed: BTreeMap::new(),
            draining: false,
            shown: (0, 0),
            told: (0, BTreeMap::new()),
            wished: (0, BTreeSet::new()),
            etcd_cut: 0,
            paused: 0,
            waiting: Vec::new(),
            calls: BTreeMap::new(),
            asking: BTreeMap::new(),
        };
        let processes: Vec<Process> = (0..count).map(|slot| process(slot, &mut rng)).collect();
        let keys = (0..PARTS).flat_map(|partition| (0..KEYS).map(move |which| key(partition, which)));
        let limits = keys.map(|key| (key, rng.random_range(1..=3))).collect();
        let mut world = Self {
            rng,
            now: 0,
            etcd: Etcd::default(),
            slow: 0,
            queue: BTreeMap::new(),
            order: 0,
            processes,
            links: BTreeMap::new(),
            pairs: BTreeMap::new(),
            limits,
            beliefs: BTreeMap::new(),
            changed: false,
            owners: BTreeMap::new(),
            left: BTreeMap::new(),
            next_call: 0,
            fault,
            probes: BTreeSet::new(),
            seen: Figures::default(),
        };
        for a in 0..count {
            for b in (0..count).filter(|b| a != *b) {
                world.links.insert((a, b), Link::default());
                if a < b {
                    world.pairs.insert((a, b), Pair::default());
                }
            }
            let at = world.rng.random_range(0..SECOND);
            world.after(at, Act::Restart(a));
            world.after(SECOND, Act::Call(a));
        }
        world.after(0, Act::Links);
        for _ in 0..world.rng.random_range(2..9) {
            let begin = world.rng.random_range(2 * SECOND..CHAOS);
            let end = (begin + world.rng.random_range(SECOND / 10..12 * SECOND)).min(CHAOS);
            let trouble = world.trouble(count);
            world.after(begin, Act::Begin(trouble));
            world.after(end, Act::Over(trouble));
        }
        world.after(QUIET, Act::Probe);
        world
    }

    fn trouble(&mut self, count: usize) -> Trouble {
        let slot = self.rng.random_range(0..count);
        let other = (slot + self.rng.random_range(1..count)) % count;
        match self.rng.random_range(0..12) {
            0 => Trouble::Cut(slot, other),
            1 => Trouble::CutBoth(slot, other),
            2 | 3 => Trouble::Etcd(slot),
            4 | 5 => Trouble::Pause(slot),
            6 | 7 => Trouble::Crash(slot),
            8 | 9 => Trouble::Drain(slot),
            10 => Trouble::Slow,
            _ => Trouble::Steal(slot),
        }
    }

    fn after(&mut self, delay: Time, act: Act) {
        self.order += 1;
        self.queue.insert((self.now + delay, self.order), Box::new(act));
    }

    fn delay(&mut self) -> Time {
        let usual = self.rng.random_range(MILLI / 5..20 * MILLI);
        if self.slow > 0 && self.rng.random_bool(0.4) {
            return usual + self.rng.random_range(0..SECOND);
        }
        usual
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(((now, _), act)) = self.queue.pop_first() {
            if now > END {
                break;
            }
            self.now = now;
            self.etcd.advance(Duration::from_micros(now));
            self.act(*act);
            self.show();
            if std::mem::take(&mut self.changed) {
                self.check()?;
            }
        }
        self.check_settled()
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Tick(slot) => {
                self.after(150 * MILLI, Act::Tick(slot));
                if self.processes[slot].paused == 0 {
                    self.tick(slot);
                }
            }
            Act::ToEtcd(from, request) => {
                if self.processes[from.0].etcd_cut > 0 {
                    return;
                }
                if let Ok(response) = self.etcd.serve(&request) {
                    let (delay, sent) = (self.delay(), self.now);
                    self.after(delay, Act::FromEtcd(from, sent, request, response));
                }
            }
            Act::FromEtcd(to, sent, request, response) => {
                if self.is_deaf(to, |_| true) || self.processes[to.0].etcd_cut > 0 {
                    return;
                }
                if self.processes[to.0].paused > 0 {
                    let late = Act::FromEtcd(to, sent, request, response);
                    return self.processes[to.0].waiting.push(late);
                }
                self.answered(to.0, &request, response);
            }
            Act::View(to, seen) => {
                if self.is_deaf(to, |_| true) {
                    return;
                }
                if self.processes[to.0].paused > 0 {
                    return self.processes[to.0].waiting.push(Act::View(to, seen));
                }
                self.processes[to.0].seen = *seen;
                self.tick(to.0);
            }
            Act::Flow(from, to) => self.flow(from, to),
            Act::Links => self.links(),
            Act::Call(slot) => self.call(slot),
            Act::End(call) => {
                if let Some((at, _)) = self.owners.get(&call).copied().filter(|_| self.now < QUIET) {
                    self.end_call(at, call);
                }
            }
            Act::Adopt(call, epoch, by) => self.adopt(call, epoch, by),
            Act::LetGo(at, call) => {
                let process = &mut self.processes[at.0];
                if process.at != at || process.paused > 0 {
                    return self.after_pause(at, call);
                }
                let is_lost = self.owners.get(&call).is_none_or(|(owner, _)| *owner != at);
                if is_lost && let Some((_, claims)) = process.calls.remove(&call) {
                    self.disbelieve(call, Some(at));
                    self.with(at.0, |counters, _, now| counters.let_go(call, &claims, now));
                }
            }
            Act::Begin(trouble) => self.begin(trouble),
            Act::Over(trouble) => self.over(trouble),
            Act::Restart(slot) => self.restart(slot),
            Act::Probe => self.probe(),
        }
    }

    fn after_pause(&mut self, at: Address, call: CallId) {
        if self.processes[at.0].at == at {
            self.after(300 * MILLI, Act::LetGo(at, call));
        }
    }

    fn is_deaf(&self, at: Address, is: impl Fn(&Process) -> bool) -> bool {
        let process = &self.processes[at.0];
        process.at != at || process.counters.is_none() || !is(process)
    }

    // --- links ---

    fn links(&mut self) {
        self.after(100 * MILLI, Act::Links);
        let pairs: Vec<(usize, usize)> = self.pairs.keys().copied().collect();
        for (a, b) in pairs {
            let is_cut = self.links[&(a, b)].cut > 0 || self.links[&(b, a)].cut > 0;
            let is_away = |process: &Process| process.counters.is_none() || process.paused > 0;
            let is_bad = is_cut || is_away(&self.processes[a]) || is_away(&self.processes[b]);
            let luck = self.rng.random_bool(0.5);
            let Some(pair) = self.pairs.get_mut(&(a, b)) else { continue };
            let since = *pair.bad_since.get_or_insert(self.now);
            if !is_bad {
                pair.bad_since = None;
                if !pair.up && luck {
                    pair.up = true;
                    for (here, there) in [(a, b), (b, a)] {
                        let node = NodeId(there as u16 + 1);
                        self.with(here, |counters, sure, now| counters.back(node, sure, now));
                    }
                }
            } else if pair.up && self.now >= since + LOST_AFTER {
                self.drop_link(a, b);
            }
        }
    }

    fn drop_link(&mut self, a: usize, b: usize) {
        let Some(pair) = self.pairs.get_mut(&(a.min(b), a.max(b))) else { return };
        if !std::mem::take(&mut pair.up) {
            return;
        }
        for (here, there) in [(a, b), (b, a)] {
            if let Some(link) = self.links.get_mut(&(here, there)) {
                link.queue.clear();
            }
            let node = NodeId(there as u16 + 1);
            self.with(here, |counters, _, now| counters.lost(node, now));
        }
    }

    fn send(&mut self, from: usize, to: usize, item: DirectoryItem) {
        let delay = self.delay();
        if !self.pairs[&(from.min(to), from.max(to))].up {
            return;
        }
        let Some(link) = self.links.get_mut(&(from, to)) else { return };
        link.last = link.last.max(self.now + delay);
        let at = link.last;
        link.queue.push_back((at, item));
        self.after(at - self.now, Act::Flow(from, to));
    }

    fn flow(&mut self, from: usize, to: usize) {
        if self.processes[to].paused > 0 || self.processes[to].counters.is_none() {
            return;
        }
        loop {
            let now = self.now;
            let Some(link) = self.links.get_mut(&(from, to)).filter(|link| link.cut == 0) else { return };
            if link.queue.front().is_none_or(|(at, _)| *at > now) {
                return;
            }
            let Some((_, item)) = link.queue.pop_front() else { return };
            self.hear(from, to, item);
        }
    }

    fn hear(&mut self, from: usize, to: usize, item: DirectoryItem) {
        let node = NodeId(from as u16 + 1);
        let adopted = match &item {
            DirectoryItem::Reserve { ticket: 0, partition, call, epoch, counts } if *epoch > 0 => {
                Some((*partition, *call, *epoch, counts.clone()))
            }
            _ => None,
        };
        let before =
            adopted.as_ref().is_some_and(|(partition, call, ..)| self.is_kept(to, *partition, *call));
        self.with(to, |counters, sure, now| counters.told(node, item, sure, now));
        if let Some((partition, call, epoch, counts)) = adopted {
            let is_kept = before && self.holders(to, partition, call).contains(&node);
            let at = self.processes[from].at;
            self.adoption_told((at, epoch), call, counts.iter().map(|(counted, _)| *counted), is_kept);
        }
    }

    fn holders(&self, slot: usize, partition: u16, call: CallId) -> Vec<NodeId> {
        let counters = self.processes[slot].counters.as_ref();
        counters.map_or(Vec::new(), |counters| counters.keeper.holders(partition, call))
    }

    /// Whether the owner counts the call, or has granted nothing yet without knowing of it.
    fn is_kept(&self, slot: usize, partition: u16, call: CallId) -> bool {
        let process = &self.processes[slot];
        let waits = |counters: &Counters| counters.keeper.waits(partition, process.local(self.now));
        !self.holders(slot, partition, call).is_empty() || process.counters.as_ref().is_some_and(waits)
    }

    /// The owner has heard who has a call now: from here on that one relies on its counting, if it did all the while.
    fn adoption_told(
        &mut self,
        by: (Address, u32),
        call: CallId,
        counts: impl Iterator<Item = Counted>,
        is_kept: bool,
    ) {
        if self.owners.get(&call) != Some(&by) {
            return;
        }
        let at = by.0;
        self.seen.adopted += 1;
        let stint = self.processes[at.0].stint(self.now);
        if let (true, Some(stint)) = (is_kept, stint) {
            self.seen.kept += 1;
            self.changed = true;
            for key in counts.filter(|key| self.limits.contains_key(key)).collect::<Vec<_>>() {
                // Only for what was limited once.
                if let Some(believers) = self.beliefs.entry(key).or_default().get_mut(&call) {
                    believers.push((at, stint));
                }
            }
        }
    }

    /// Lets the counters of a node do something, and carries what they say.
    fn with(&mut self, slot: usize, work: impl FnOnce(&mut Counters, &Sure, Instant)) {
        let process = &mut self.processes[slot];
        let (local, sure) = (process.local(self.now), process.sure(self.now));
        let Some(counters) = &mut process.counters else { return };
        work(counters, &sure, local);
        let actions: Vec<Action> = std::iter::from_fn(|| counters.poll_action()).collect();
        for action in actions {
            match action {
                Action::Tell(node, item) => {
                    if node.0 > 0 && usize::from(node.0) <= self.processes.len() {
                        self.send(slot, usize::from(node.0) - 1, item);
                    }
                }
                Action::Verdict(call, number, verdict) => self.verdict(slot, call, number, verdict),
            }
        }
    }

    // --- troubles ---

    fn begin(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Cut(from, to) => self.cut(from, to, true),
            Trouble::CutBoth(a, b) => {
                self.cut(a, b, true);
                self.cut(b, a, true);
            }
            Trouble::Etcd(slot) => self.processes[slot].etcd_cut += 1,
            Trouble::Pause(slot) => {
                self.processes[slot].paused += 1;
                if self.rng.random_bool(0.5) {
                    self.give_away(slot, LOST_AFTER);
                }
            }
            Trouble::Crash(slot) => {
                if self.processes[slot].counters.take().is_some() {
                    self.give_away(slot, LOST_AFTER);
                    self.processes[slot].asking.clear();
                    self.left.append(&mut self.processes[slot].calls);
                }
            }
            Trouble::Drain(slot) => self.processes[slot].draining = true,
            Trouble::Slow => self.slow += 1,
            Trouble::Steal(slot) => self.give_away(slot, 0),
        }
    }

    fn over(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Cut(from, to) => self.cut(from, to, false),
            Trouble::CutBoth(a, b) => {
                self.cut(a, b, false);
                self.cut(b, a, false);
            }
            Trouble::Etcd(slot) => {
                self.processes[slot].etcd_cut -= 1;
                self.processes[slot].shown.0 = 0;
            }
            Trouble::Pause(slot) => {
                self.processes[slot].paused -= 1;
                if self.processes[slot].paused == 0 {
                    for act in std::mem::take(&mut self.processes[slot].waiting) {
                        self.act(act);
                    }
                    (0..self.processes.len())
                        .filter(|from| *from != slot)
                        .for_each(|from| self.flow(from, slot));
                }
            }
            Trouble::Crash(slot) => self.restart(slot),
            Trouble::Drain(slot) => self.processes[slot].draining = false,
            Trouble::Slow => self.slow -= 1,
            Trouble::Steal(_) => {}
        }
    }

    fn cut(&mut self, from: usize, to: usize, is_cut: bool) {
        if let Some(link) = self.links.get_mut(&(from, to)) {
            link.cut = if is_cut { link.cut + 1 } else { link.cut - 1 };
        }
        self.flow(from, to);
    }

    // --- what must hold ---

    fn check(&self) -> Result<(), String> {
        let stints: Vec<Option<(Address, u64)>> = self
            .processes
            .iter()
            .map(|process| Some((process.at, process.stint(self.now)?)))
            .map(|sure| sure.filter(|(at, _)| self.processes[at.0].counters.is_some()))
            .collect();
        for (key, calls) in &self.beliefs {
            let Some(limit) = self.limits.get(key) else { continue };
            let relies = |believers: &Believers| {
                believers.iter().any(|(at, stint)| stints[at.0] == Some((*at, *stint)))
            };
            let relying: Vec<_> = calls.iter().filter(|(_, believers)| relies(believers)).collect();
            if relying.len() > *limit as usize {
                let time = self.now as f64 / SECOND as f64;
                return Err(format!("{key:?} has {relying:?}, more than {limit}, at {time} s"));
            }
        }
        Ok(())
    }

    fn check_settled(&self) -> Result<(), String> {
        if !self.probes.is_empty() {
            return Err(format!("{:?} were not granted in the end", self.probes));
        }
        for partition in 0..PARTS {
            let mut held: BTreeMap<CallId, BTreeSet<Counted>> = BTreeMap::new();
            let all = self.processes.iter().filter_map(|process| process.counters.as_ref());
            for counters in all.clone() {
                for (call, counts) in counters.asker.held(partition) {
                    held.entry(call).or_default().extend(counts);
                }
                if counters.asker.asking() > 0 {
                    return Err(format!("{:?} still asks", counters.me));
                }
            }
            let known: Vec<_> = self.processes.iter().flat_map(|process| process.calls.keys()).collect();
            let unknown = held.keys().find(|call| !known.contains(call));
            if let Some(call) = unknown {
                return Err(format!("{call} counts, and nobody has it"));
            }
            let counted: Vec<_> = all.filter_map(|counters| counters.keeper.counted(partition)).collect();
            if counted != [held.clone()] {
                return Err(format!("{partition} has {held:?}, and owners count {counted:?}"));
            }
        }
        Ok(())
    }
}

/// Runs the seeds on a few threads; the first that fails is told.
fn run(seeds: Range<u64>, fault: Option<Fault>) -> Result<Figures, String> {
    const THREADS: usize = 4;
    let parts = (0..THREADS).map(|part| seeds.clone().skip(part).step_by(THREADS));
    let parts: Vec<Result<Figures, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || run_each(part, fault))).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.map(|result| result.unwrap_or_else(|_| Err("panicked".to_owned()))).collect()
    });
    parts.into_iter().try_fold(Figures::default(), |all, seen| Ok(all.and(seen?)))
}

fn run_each(seeds: impl Iterator<Item = u64>, fault: Option<Fault>) -> Result<Figures, String> {
    let mut all = Figures::default();
    for seed in seeds {
        let mut world = World::new(seed, fault);
        world.run().map_err(|what| format!("seed {seed}: {what}"))?;
        all = all.and(world.seen);
    }
    Ok(all)
}

/// `COUNTERS_SEEDS=FROM..TO` runs others.
#[test]
fn limits_are_never_exceeded_and_everything_is_counted_in_the_end() {
    let wanted = std::env::var("COUNTERS_SEEDS").ok();
    let wanted = wanted.as_deref().and_then(|text| text.split_once(".."));
    let (from, to) = wanted.map_or((0, 500), |(from, to)| (from.parse().unwrap(), to.parse().unwrap()));
    let seen = run(from..to, None).unwrap();
    let count = to - from;
    assert!(seen.granted > 20 * count && seen.full > 10 * count && seen.unknown > count, "{seen:?}");
    assert!(2 * seen.adopted > count && 2 * seen.kept > seen.adopted, "{seen:?}");
}

#[test]
fn an_owner_that_grants_before_it_was_told_is_found_out() {
    let found = run(0..1000, Some(Fault::DoesNotWait)).unwrap_err();
    assert!(found.contains("more than"), "{found}");
}

#[test]
fn grants_of_earlier_owners_that_are_taken_are_found_out() {
    let found = run(0..3000, Some(Fault::TakesLateGrants)).unwrap_err();
    assert!(found.contains("more than"), "{found}");
}
