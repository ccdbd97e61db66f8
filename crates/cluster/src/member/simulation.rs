//! Members on a simulated network with a simulated etcd and clocks of their own, driven by a seed.
//!
//! Faults: delays, lost answers, partitions (also one-way), pauses, crashes, twins of a node, an etcd that is away, compaction, drains.
//! Always: nothing has two owners at a time, and fences grow. In the end, when all is healed: all views are equal and each partition has
//! the owner that is proposed for it. A failure names its seed.

use super::*;
use crate::etcd::Entry;
use crate::node::{Roles, partitions};
use crate::testing::{Compacted, Etcd};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeSet;
use std::ops::Range;

/// Microseconds of the true time.
type Time = u64;

const SECOND: Time = 1_000_000;
const CHAOS: Time = 40 * SECOND;
/// How long after the last fault everything must be settled.
const HEALING: Time = 25 * SECOND;
const LEASE: u32 = 5;
/// The shell's: a request that is not answered for so long has failed.
const PATIENCE: Time = 2 * SECOND;
const SHARES: [(Kind, u32); 2] = [(Kind::CLIENTS, 6), (Kind::HOUSEKEEPING, 1)];

enum Act {
    /// A request comes to etcd.
    Arrive(Address, Ticket, Request),
    /// Something comes to a node.
    Hear(Address, Heard),
    /// A node's clock says that its deadline has come.
    Wake(Address),
    /// A node is started.
    Start(usize),
    /// Leases may have ended.
    Expire,
    Begin(Trouble),
    End(Trouble),
}

enum Heard {
    Answer(Ticket, Result<Response, Failure>),
    TimeOut(Ticket),
    Watch(Ticket, WatchUpdate),
}

#[derive(Clone, Copy)]
enum Trouble {
    /// Nothing comes from the node to etcd.
    CutUp(usize),
    /// Nothing comes from etcd to the node.
    CutDown(usize),
    CutBoth(usize),
    Pause(usize),
    /// Killed, and started again when it ends.
    Crash(usize),
    /// Leaves, and is started again.
    Leave(usize),
    /// A second process with the identity is started.
    Twin(usize),
    Drain(usize),
    EtcdAway,
    Compact,
    Slow,
}

/// One process: the slot, and how many the slot has had before.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Address(usize, u64);

struct Process {
    member: Option<Member>,
    at: Address,
    identity: u128,
    id: Option<NodeId>,
    /// Its clock: where it stands at the beginning, and how fast it goes.
    clock: (Instant, f64),
    cuts: (u32, u32),
    paused: u32,
    asked: BTreeSet<Ticket>,
    watch: Option<(Ticket, String, u64)>,
    /// Changes are told in order.
    told: Time,
    /// The deadline that a wake-up is on its way for.
    wake: Option<Time>,
    /// What comes while it is paused.
    waiting: Vec<Heard>,
    revision: u64,
    is_over: bool,
}

struct World {
    rng: StdRng,
    now: Time,
    etcd: Etcd,
    etcd_away: u32,
    slow: u32,
    usual: Range<Time>,
    /// Boxed, for the tree moves them about.
    queue: BTreeMap<(Time, u64), Box<Act>>,
    order: u64,
    processes: Vec<Process>,
    fences: BTreeMap<(Kind, u32), (Fence, usize)>,
    fault: Option<Fault>,
    base: Instant,
    /// What was seen of the faults, so that a simulation of nothing is noticed.
    seen: Seen,
}

#[derive(Default, Debug)]
struct Seen {
    doubts: u64,
    gains: u64,
    superseded: u64,
    compactions: u64,
}

impl World {
    fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let usual = rng.random_range(100..2_000);
        let usual = usual..usual + rng.random_range(1_000..60_000);
        let base = Instant::now() + Duration::from_secs(1_000_000);
        let mut world = Self {
            rng,
            now: 0,
            etcd: Etcd::default(),
            etcd_away: 0,
            slow: 0,
            usual,
            queue: BTreeMap::new(),
            order: 0,
            processes: Vec::new(),
            fences: BTreeMap::new(),
            fault,
            base,
            seen: Seen::default(),
        };
        let count = world.rng.random_range(3..=5);
        let is_auto = world.rng.random_bool(0.3);
        for slot in 0..count {
            let id = (!is_auto).then_some(NodeId(slot as u16 + 1));
            world.add(slot as u128 + 1, id);
            let at = world.rng.random_range(0..3 * SECOND);
            world.after(at, Act::Start(slot));
        }
        for _ in 0..world.rng.random_range(2..10) {
            let begin = world.rng.random_range(2 * SECOND..CHAOS);
            let end = (begin + world.rng.random_range(SECOND / 10..20 * SECOND)).min(CHAOS);
            let trouble = world.trouble(count);
            world.after(begin, Act::Begin(trouble));
            world.after(end, Act::End(trouble));
        }
        world
    }

    fn add(&mut self, identity: u128, id: Option<NodeId>) -> usize {
        let skew = Duration::from_micros(self.rng.random_range(0..1_000 * SECOND));
        let rate = self.rng.random_range(0.9..1.1);
        self.processes.push(Process {
            member: None,
            at: Address(self.processes.len(), 0),
            identity,
            id,
            clock: (self.base - skew, rate),
            cuts: (0, 0),
            paused: 0,
            asked: BTreeSet::new(),
            watch: None,
            told: 0,
            wake: None,
            waiting: Vec::new(),
            revision: 0,
            is_over: false,
        });
        self.processes.len() - 1
    }

    fn trouble(&mut self, count: usize) -> Trouble {
        let slot = self.rng.random_range(0..count);
        match self.rng.random_range(0..14) {
            0 | 1 => Trouble::CutUp(slot),
            2 | 3 => Trouble::CutDown(slot),
            4 => Trouble::CutBoth(slot),
            5 => Trouble::Pause(slot),
            6 => Trouble::Crash(slot),
            7 => Trouble::Leave(slot),
            8 => Trouble::Twin(slot),
            9 => Trouble::Drain(slot),
            10 => Trouble::EtcdAway,
            11 => Trouble::Compact,
            _ => Trouble::Slow,
        }
    }

    fn after(&mut self, delay: Time, act: Act) {
        self.order += 1;
        self.queue.insert((self.now + delay, self.order), Box::new(act));
    }

    fn delay(&mut self) -> Time {
        let usual = self.rng.random_range(self.usual.clone());
        if self.slow > 0 && self.rng.random_bool(0.5) {
            return usual + self.rng.random_range(0..PATIENCE);
        }
        usual
    }

    /// Runs to the end.
    fn run(&mut self) -> Result<(), String> {
        while let Some(((now, _), act)) = self.queue.pop_first() {
            if now > CHAOS + HEALING {
                break;
            }
            self.now = now;
            if self.etcd_away == 0 {
                self.etcd.advance(Duration::from_micros(now));
            }
            self.act(*act);
            self.push_changes();
            self.check()?;
        }
        self.check_settled()
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Arrive(from, ticket, request) => self.arrive(from, ticket, request),
            Act::Hear(to, heard) => self.hear(to, heard),
            Act::Wake(at) => {
                let process = &mut self.processes[at.0];
                process.wake = None;
                if process.at == at && process.paused == 0 {
                    self.with(at.0, Member::handle_timeout);
                }
            }
            Act::Start(slot) => self.start(slot),
            Act::Expire => {} // time has gone on
            Act::Begin(trouble) => self.begin(trouble),
            Act::End(trouble) => self.end(trouble),
        }
    }

    fn arrive(&mut self, from: Address, ticket: Ticket, request: Request) {
        if self.etcd_away > 0 {
            if matches!(request, Request::Watch { .. }) {
                self.after(PATIENCE, Act::Hear(from, Heard::Watch(ticket, WatchUpdate::Ended)));
            }
            return;
        }
        if let Request::Watch { prefix, from: revision } = request {
            let process = &mut self.processes[from.0];
            // Requests may overtake each other; the last that was made counts.
            let is_newest = process.watch.as_ref().is_none_or(|(known, ..)| *known < ticket);
            if process.at == from && is_newest {
                process.watch = Some((ticket, prefix, revision));
            }
            return;
        }
        let answer = self.etcd.serve(&request);
        if let Some(end) = self.etcd.next_end() {
            self.after((end.as_micros() as Time).saturating_sub(self.now), Act::Expire);
        }
        if self.processes[from.0].cuts.1 == 0 {
            let delay = self.delay();
            self.after(delay, Act::Hear(from, Heard::Answer(ticket, answer)));
        }
    }

    fn hear(&mut self, to: Address, heard: Heard) {
        let process = &mut self.processes[to.0];
        if process.at != to {
            return;
        }
        if process.paused > 0 {
            process.waiting.push(heard);
            return;
        }
        match heard {
            Heard::Answer(ticket, answer) if process.asked.remove(&ticket) => {
                self.with(to.0, |member, now| member.handle_answer(ticket, answer, now));
            }
            Heard::TimeOut(ticket) if process.asked.remove(&ticket) => {
                let failure = Err(Failure::Unknown("no answer".to_owned()));
                self.with(to.0, |member, now| member.handle_answer(ticket, failure, now));
            }
            Heard::Answer(..) | Heard::TimeOut(_) => {}
            Heard::Watch(ticket, update) => {
                self.with(to.0, |member, now| member.handle_watch(ticket, update, now));
            }
        }
    }

    /// What has changed goes to all who watch, in order; whoever cannot be reached loses his watch.
    fn push_changes(&mut self) {
        for slot in 0..self.processes.len() {
            let Some((ticket, prefix, from)) = self.processes[slot].watch.clone() else { continue };
            if self.etcd_away == 0 && from > self.etcd.revision() {
                continue;
            }
            let is_cut = self.etcd_away > 0 || self.processes[slot].cuts.1 > 0;
            let update = match self.etcd.changes(&prefix, from) {
                _ if is_cut => WatchUpdate::Ended,
                Ok(changes) => WatchUpdate::Changes(changes),
                Err(Compacted) => WatchUpdate::Compacted,
            };
            // A lost connection is noticed by the keep-alive of HTTP/2.
            let delay = if is_cut { self.rng.random_range(SECOND..8 * SECOND) } else { self.delay() };
            let is_end = !matches!(update, WatchUpdate::Changes(_));
            self.seen.compactions += u64::from(update == WatchUpdate::Compacted);
            let next = self.etcd.revision() + 1;
            let process = &mut self.processes[slot];
            process.watch = (!is_end).then_some((ticket, prefix, next));
            process.told = process.told.max(self.now + delay);
            let (at, delay) = (process.at, process.told - self.now);
            self.after(delay, Act::Hear(at, Heard::Watch(ticket, update)));
        }
    }

    fn start(&mut self, slot: usize) {
        let instance = self.rng.random();
        let process = &mut self.processes[slot];
        if process.is_over {
            return;
        }
        process.at.1 += 1;
        let info = NodeInfo {
            id: NodeId(0),
            name: format!("node-{slot}"),
            instance,
            identity: process.identity,
            roles: Roles::ALL,
            zone: String::new(),
            capacity: 100,
            peer: format!("10.0.0.{slot}:7400"),
            sip: Vec::new(),
            media: Vec::new(),
            release: String::new(),
            protocol: (1, 1),
            draining: false,
            calls: 0,
            started_ms: 0,
        };
        let settings = MemberSettings {
            prefix: "/carillon".to_owned(),
            lease_seconds: LEASE,
            id: process.id,
            cluster: 77,
            fences_from: 0,
        };
        let mut member = Member::new(settings, info, process.local(self.now));
        if let Some(fault) = self.fault {
            member.make_mistake(fault);
        }
        process.member = Some(member);
        (process.asked, process.watch, process.wake, process.revision) = (BTreeSet::new(), None, None, 0);
        process.waiting.clear();
        self.with(slot, |member, now| {
            SHARES.iter().for_each(|(kind, count)| member.share(*kind, *count, Role::As, now));
        });
    }

    fn stop(&mut self, slot: usize) {
        let process = &mut self.processes[slot];
        (process.member, process.watch) = (None, None);
        process.at.1 += 1;
        process.waiting.clear();
    }

    /// Lets a member do something, and carries what it says.
    fn with(&mut self, slot: usize, work: impl FnOnce(&mut Member, Instant)) {
        let process = &mut self.processes[slot];
        let local = process.local(self.now);
        let Some(member) = &mut process.member else { return };
        work(member, local);
        let (mut requests, mut events) = (Vec::new(), Vec::new());
        requests.extend(std::iter::from_fn(|| member.poll_request()));
        events.extend(std::iter::from_fn(|| member.poll_event()));
        let wake = member.poll_timeout().map(|(at, _)| process.truly(at, self.now));
        let (at, is_cut) = (process.at, process.cuts.0 > 0);
        if let Some(wake) = wake.filter(|wake| process.wake.is_none_or(|known| *wake < known)) {
            process.wake = Some(wake);
            self.after(wake - self.now, Act::Wake(at));
        }
        for (ticket, request) in requests {
            if !matches!(request, Request::Watch { .. }) {
                self.processes[slot].asked.insert(ticket);
                self.after(PATIENCE, Act::Hear(at, Heard::TimeOut(ticket)));
            } else if is_cut || self.etcd_away > 0 {
                self.after(PATIENCE, Act::Hear(at, Heard::Watch(ticket, WatchUpdate::Ended)));
            }
            if !is_cut {
                let delay = self.delay();
                self.after(delay, Act::Arrive(at, ticket, request));
            }
        }
        for event in events {
            self.on_event(slot, event);
        }
    }

    fn on_event(&mut self, slot: usize, event: Event) {
        match event {
            Event::Gained(kind, key, fence) => {
                self.seen.gains += 1;
                let last = self.fences.entry((kind, key)).or_insert((fence, slot));
                // The same fence again: a doubt that came to nothing.
                let is_newer = fence > last.0 || *last == (fence, slot);
                assert!(is_newer || self.fault.is_some(), "{kind} {key}: {fence:?} after {last:?}");
                *last = (fence, slot);
            }
            Event::View(view) => {
                assert!(view.revision >= self.processes[slot].revision, "time goes back");
                self.processes[slot].revision = view.revision;
            }
            Event::LostLease => self.seen.doubts += 1,
            Event::Superseded => {
                self.seen.superseded += 1;
                self.processes[slot].is_over = true;
            }
            // What a program does then: it is started anew by whoever looks after it.
            Event::Refused(_)
                if self.processes[slot].member.as_ref().is_some_and(|member| member.was_member) =>
            {
                self.stop(slot);
                self.after(SECOND, Act::Start(slot));
            }
            Event::Left => {
                self.stop(slot);
                self.after(SECOND, Act::Start(slot));
            }
            Event::Refused(_) | Event::Joined(_) | Event::Lost(..) => {}
        }
    }

    fn begin(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::CutUp(slot) => self.processes[slot].cuts.0 += 1,
            Trouble::CutDown(slot) => self.processes[slot].cuts.1 += 1,
            Trouble::CutBoth(slot) => {
                self.processes[slot].cuts.0 += 1;
                self.processes[slot].cuts.1 += 1;
            }
            Trouble::Pause(slot) => self.processes[slot].paused += 1,
            Trouble::Crash(slot) => self.stop(slot),
            Trouble::Leave(slot) => self.with(slot, Member::leave),
            Trouble::Twin(slot) => {
                let process = &self.processes[slot];
                let (identity, id) = (process.identity, process.id);
                let twin = self.add(identity, id);
                self.start(twin);
            }
            Trouble::Drain(slot) => self.with(slot, |member, now| member.set_draining(true, now)),
            Trouble::EtcdAway => self.etcd_away += 1,
            Trouble::Compact => self.etcd.compact(self.etcd.revision()),
            Trouble::Slow => self.slow += 1,
        }
        self.load();
    }

    fn end(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::CutUp(slot) => self.processes[slot].cuts.0 -= 1,
            Trouble::CutDown(slot) => self.processes[slot].cuts.1 -= 1,
            Trouble::CutBoth(slot) => {
                self.processes[slot].cuts.0 -= 1;
                self.processes[slot].cuts.1 -= 1;
            }
            Trouble::Pause(slot) => {
                let process = &mut self.processes[slot];
                process.paused -= 1;
                if process.paused == 0 {
                    let at = process.at;
                    let waiting = std::mem::take(&mut process.waiting);
                    waiting.into_iter().for_each(|heard| self.hear(at, heard));
                    self.with(slot, Member::handle_timeout);
                }
            }
            Trouble::Crash(slot) => {
                if self.processes[slot].member.is_none() {
                    self.start(slot);
                }
            }
            Trouble::Drain(slot) => self.with(slot, |member, now| member.set_draining(false, now)),
            Trouble::EtcdAway => {
                self.etcd_away -= 1;
                if self.etcd_away == 0 {
                    self.etcd.resume(Duration::from_micros(self.now));
                }
            }
            Trouble::Slow => self.slow -= 1,
            Trouble::Leave(_) | Trouble::Twin(_) | Trouble::Compact => {}
        }
        self.load();
    }

    /// Something changes in what a node says of itself.
    fn load(&mut self) {
        let (slot, calls) = (self.rng.random_range(0..self.processes.len()), self.rng.random_range(0..100));
        if self.processes[slot].paused == 0 {
            self.with(slot, |member, now| member.set_load(calls, now));
        }
    }

    fn check(&self) -> Result<(), String> {
        let mut owners: BTreeMap<(Kind, u32), usize> = BTreeMap::new();
        for process in &self.processes {
            let Some(member) = &process.member else { continue };
            let now = process.local(self.now);
            for (kind, key) in member.owns().keys() {
                if member.owned(*kind, *key, now).is_none() {
                    continue;
                }
                if let Some(other) = owners.insert((*kind, *key), process.at.0) {
                    let (here, time) = (process.at.0, self.now as f64 / SECOND as f64);
                    return Err(format!("{kind} {key} is owned by {other} and {here} at {time} s"));
                }
            }
        }
        Ok(())
    }

    fn check_settled(&self) -> Result<(), String> {
        let alive: Vec<&Process> = self.processes.iter().filter(|process| !process.is_over).collect();
        let members: Vec<&Member> = alive.iter().filter_map(|process| process.member.as_ref()).collect();
        let view = members.first().ok_or("nobody is there")?.view();
        let here = |member: &Member| matches!(member.phase, Phase::In { .. }) && member.is_certain;
        for (process, member) in alive.iter().zip(&members) {
            let slot = process.at.0;
            if !here(member) || (&member.view().nodes, &member.view().owners) != (&view.nodes, &view.owners) {
                return Err(format!(
                    "{slot} is {:?}, sees {:?}, others {view:?}",
                    member.phase,
                    member.view()
                ));
            }
        }
        if members.len() != alive.len() || view.nodes.len() != alive.len() {
            return Err(format!("{} of {} are there: {view:?}", members.len(), alive.len()));
        }
        for (kind, count) in SHARES {
            for member in &members {
                let proposed = partitions(&view, member.info.id, kind, count, Role::As);
                let owned: BTreeSet<u32> =
                    member.owns().keys().filter(|(of, _)| *of == kind).map(|(_, key)| *key).collect();
                if owned != proposed {
                    return Err(format!("{} owns {owned:?} of {kind}, not {proposed:?}", member.info.id.0));
                }
            }
        }
        let stale = |entry: &&Entry| entry.lease == 0 && !entry.key.ends_with("/cluster");
        self.etcd.keys().values().find(stale).map_or(Ok(()), |entry| Err(format!("{entry:?} has no lease")))
    }
}

impl Process {
    fn local(&self, now: Time) -> Instant {
        self.clock.0 + Duration::from_micros((now as f64 * self.clock.1) as u64)
    }

    /// When the process's clock shows this; not before now, and a bit later than exactly.
    fn truly(&self, local: Instant, now: Time) -> Time {
        let since = local.saturating_duration_since(self.clock.0);
        ((since.as_micros() as f64 / self.clock.1) as Time + 2).max(now)
    }
}

/// Runs the seeds on a few threads.
fn seeds(range: Range<u64>, fault: Option<Fault>) -> Result<Seen, String> {
    const THREADS: usize = 4;
    let parts = (0..THREADS).map(|part| range.clone().skip(part).step_by(THREADS));
    let parts: Vec<Result<Seen, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || run_each(part, fault))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("panicked".to_owned())))
            .collect()
    });
    parts.into_iter().try_fold(Seen::default(), |all, seen| {
        let seen = seen?;
        Ok(Seen {
            doubts: all.doubts + seen.doubts,
            gains: all.gains + seen.gains,
            superseded: all.superseded + seen.superseded,
            compactions: all.compactions + seen.compactions,
        })
    })
}

fn run_each(seeds: impl Iterator<Item = u64>, fault: Option<Fault>) -> Result<Seen, String> {
    let mut all = Seen::default();
    for seed in seeds {
        let mut world = World::new(seed, fault);
        world.run().map_err(|what| format!("seed {seed}: {what}"))?;
        let seen = &world.seen;
        all.doubts += seen.doubts;
        all.gains += seen.gains;
        all.superseded += seen.superseded;
        all.compactions += seen.compactions;
    }
    Ok(all)
}

/// `CLUSTER_SEEDS=FROM..TO` runs others.
#[test]
fn nothing_ever_has_two_owners_and_everything_settles() {
    let wanted = std::env::var("CLUSTER_SEEDS").ok();
    let wanted = wanted.as_deref().and_then(|text| text.split_once(".."));
    let (from, to) = wanted.map_or((0, 500), |(from, to)| (from.parse().unwrap(), to.parse().unwrap()));
    let seen = seeds(from..to, None).unwrap();
    let tenth = (to - from) / 10;
    assert!(seen.doubts > tenth && seen.gains > 10 * tenth, "{seen:?}");
    assert!(wanted.is_some() || (seen.superseded > 0 && seen.compactions > 0), "{seen:?}");
}

#[test]
fn a_lease_that_is_counted_from_its_answer_is_found_out() {
    let found = seeds(0..500, Some(Fault::CountsFromTheAnswer)).unwrap_err();
    assert!(found.contains("is owned by"), "{found}");
}

#[test]
fn an_owner_that_acts_while_it_gives_up_is_found_out() {
    let found = seeds(0..500, Some(Fault::OwnsWhatItGaveUp)).unwrap_err();
    assert!(found.contains("is owned by"), "{found}");
}

#[test]
fn acting_on_proposals_without_a_claim_is_found_out() {
    let found = seeds(0..500, Some(Fault::ActsOnProposals)).unwrap_err();
    assert!(found.contains("is owned by"), "{found}");
}
