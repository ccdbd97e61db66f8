//! A whole cluster in one thread: real roles and cores on simulated network, clocks, etcd and stores, with faults by seed.
//!
//! In: a seed. Out: what was wrong, and the ladder of it. Rooms: `plan` (what a seed means), `world` (time and ways), `process` and `wiring` (the real
//! parts), `lines`, `net` and `ways` (what goes between places), `services` (etcd, disks), `phones`, `relay`, `store`, `faults`, `watch` and `verdict` (what must hold), `limits`, `trace`.
//! Elsewhere: one node with ladders to read (crate `world`).

mod alone;
mod faults;
mod limits;
mod lines;
mod net;
mod phones;
mod plan;
mod process;
mod relay;
mod services;
mod store;
mod trace;
mod verdict;
mod watch;
mod ways;
mod wiring;
mod world;

pub use plan::Kind;
pub use watch::Complaint;

use plan::{CHAOS, HEALING, MS, Plan, SECOND};
use world::World;

/// A mistake to make on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Of whoever keeps calls.
    Custody(cluster::custody::Fault),
    /// Of whoever counts them.
    Counters(cluster::counters::Fault),
}

/// Microseconds since a run began.
pub(crate) type Time = u64;

/// What became of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What kind of story it was.
    pub kind: Kind,
    /// What was wrong; empty: all was right.
    pub complaints: Vec<Complaint>,
    /// The same for each run of the seed.
    pub hash: u64,
    /// Figures, so that a simulation of nothing is noticed.
    pub figures: Figures,
    /// The ladder, if it was asked for.
    pub lines: Vec<String>,
}

/// What happened in one run, or in many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Messages and other things that crossed a border.
    pub events: u64,
    /// Orders that legs obeyed.
    pub orders: u64,
    /// Conversations.
    pub conversations: u64,
    /// Records in the database.
    pub records: u64,
    /// Records that replaced another one.
    pub replaced: u64,
    /// Records that came too late.
    pub refused: u64,
    /// Places under limits that calls got.
    pub granted: u64,
    /// Calls that got none, for there were as many as there may be.
    pub full: u64,
    /// Simulated seconds.
    pub seconds: u64,
    /// The longest that a leg was without a call, in milliseconds.
    pub alone_ms: u64,
}

impl Figures {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            orders: self.orders + other.orders,
            conversations: self.conversations + other.conversations,
            records: self.records + other.records,
            replaced: self.replaced + other.replaced,
            refused: self.refused + other.refused,
            granted: self.granted + other.granted,
            full: self.full + other.full,
            seconds: self.seconds + other.seconds,
            alone_ms: self.alone_ms.max(other.alone_ms),
        }
    }
}

/// How a seed is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep the ladder.
    pub with_lines: bool,
    /// A mistake to make on purpose, to see that it is found.
    pub fault: Option<Fault>,
}

/// Runs a seed from the start to the end.
pub fn run(seed: u64, options: Options) -> Outcome {
    let plan = Plan::of(seed);
    let kind = plan.kind;
    let mut world = World::new(seed, plan, options.with_lines);
    world.fault = options.fault;
    world.run_until(CHAOS);
    while !world.is_calm() && world.now < 240 * SECOND {
        let next = world.now + SECOND;
        world.run_until(next);
    }
    world.heal();
    let healed = world.now + HEALING;
    world.run_until(healed);
    world.finish();
    let conversations = phones::by_call(&world.phones);
    let is_one =
        |sides: &&Vec<&phones::Side>| sides.iter().filter(|side| side.answered.is_some()).count() >= 2;
    let (granted, full) = world.watcher.ledger.verdicts();
    let figures = Figures {
        events: world.trace.events(),
        orders: world.watcher.orders(),
        conversations: conversations.values().filter(is_one).count() as u64,
        records: world.store.rows().len() as u64,
        replaced: world.store.replaced,
        refused: world.store.refused,
        granted,
        full,
        seconds: world.now / SECOND,
        alone_ms: world.alone.longest() / MS,
    };
    let complaints = world.watcher.complaints();
    let hash = world.trace.hash();
    Outcome { seed, kind, complaints, hash, figures, lines: world.trace.into_lines() }
}
