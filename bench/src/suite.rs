//! The measurements: what is offered to whom, and which figure of it goes into the table.
//!
//! Every round starts a fresh server; ours and the peer take turns within a round, so that drift of the machine meets both.

use crate::carillon;
use crate::cpu::{self, Server};
use crate::digest::Algorithm;
use crate::kamailio::{self, Role};
use crate::parse;
use crate::relays;
use crate::rtpengine::{self, Rtpengine};
use crate::rtpload::{self, Legs, Peers};
use crate::sipload::{Generator, Plan, Report, Work};
use crate::table::{Figure, Table};
use clap::ValueEnum;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Users who register and are called by turns.
pub(crate) const USERS: u32 = 1000;
/// Users of the REGISTER benchmark.
const REGISTRANTS: u32 = 10_000;
/// Calls through a relay at which CPU and latency are read.
const RELAYED: usize = 500;
/// Calls set up in a relay for the search of its capacity.
const RELAYED_MAX: usize = 2000;
/// A level of load is carried when this share of it is completed...
const CARRIED: f64 = 0.97;
/// ...and the set-up takes no longer than this at p99: an INVITE that had to be repeated shows here.
const SETUP_MAX_MS: f64 = 500.0;
/// A generator that starts attempts later than this is no open loop any more.
const BEHIND_MAX: Duration = Duration::from_millis(200);
/// Open files that a limit must have for each established call: two legs of RTP and RTCP, and room beside them.
const FILES_OF_A_CALL: u32 = 6;
/// BYE follows the answer after this: short, so that the limit of open files does not bound the calls a second.
pub(crate) const HOLD: Duration = Duration::from_millis(250);

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// Carillon.
    Ours,
    /// Kamailio or rtpengine.
    Peer,
}

/// A run of the benchmark.
pub(crate) struct Suite {
    /// Rounds of each measurement.
    pub(crate) rounds: usize,
    /// Short rounds, for trying out.
    pub(crate) quick: bool,
    /// Who is measured.
    sides: Vec<Side>,
    /// Files of the servers.
    pub(crate) directory: PathBuf,
    /// Our binary, when our side is measured.
    carillon: Option<PathBuf>,
    /// What was found.
    pub(crate) table: Table,
    /// Peaks found so far in calls a second, by side: where the next search starts, and what overload doubles.
    peaks: [Option<Peak>; 2],
}

/// The highest level that a server carried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peak {
    goodput: f64,
    cpu_per_thousand: f64,
}

/// A figure for both sides.
#[derive(Default)]
pub(crate) struct Pair([Figure; 2]);

impl Pair {
    pub(crate) fn push(&mut self, side: Side, value: f64) {
        self.0[side as usize].push(value);
    }
}

impl Suite {
    /// A run of `rounds` rounds for `sides`, with `carillon` as our binary where one is needed. From here on this process
    /// keeps to the generator's core.
    pub(crate) fn new(
        rounds: usize,
        quick: bool,
        sides: Vec<Side>,
        carillon: Option<PathBuf>,
    ) -> io::Result<Suite> {
        let directory = std::env::current_exe()?.with_file_name("bench-run");
        std::fs::create_dir_all(&directory)?;
        cpu::settle()?;
        Ok(Suite { rounds, quick, sides, directory, carillon, table: Table::default(), peaks: [None; 2] })
    }

    pub(crate) fn ours(&self) -> io::Result<&Path> {
        self.carillon.as_deref().ok_or_else(|| io::Error::other("our side was not asked for"))
    }

    pub(crate) fn row(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        peer: &'static str,
        pair: Pair,
    ) {
        let [ours, theirs] = pair.0;
        self.table.row(what, unit, ours, peer, theirs);
    }

    fn turns(&self) -> Vec<Side> {
        self.sides.repeat(self.rounds)
    }

    /// A plan with these seconds of warm-up and measuring.
    pub(crate) fn plan(&self, work: Work, rate: u32, warm_up: u64, measured: u64) -> Plan {
        let share = if self.quick { 2 } else { 1 };
        Plan {
            work,
            rate,
            warm_up: Duration::from_secs(warm_up.div_ceil(share)),
            measured: Duration::from_secs(measured.div_ceil(share)),
            drain: Duration::from_secs(3),
        }
    }

    /// A fresh registrar.
    pub(crate) fn registrar(&self, side: Side, algorithm: Algorithm) -> io::Result<(Server, Generator)> {
        match side {
            Side::Ours => carillon::start(self.ours()?, REGISTRANTS, algorithm, &self.directory),
            Side::Peer => kamailio::start(Role::Registrar { algorithm }, REGISTRANTS, &self.directory),
        }
    }

    /// A fresh server that calls can go through: ours knows the callees by their registrations, the peer by its script.
    pub(crate) fn switch(&self, side: Side, dialogs: bool) -> io::Result<(Server, Generator)> {
        match side {
            Side::Ours => {
                let (server, mut generator) =
                    carillon::start(self.ours()?, USERS, Algorithm::Md5, &self.directory)?;
                generator.register_all(Algorithm::Md5, 1000)?;
                Ok((server, generator))
            }
            Side::Peer => kamailio::start(Role::Proxy { dialogs }, USERS, &self.directory),
        }
    }

    /// SIP parsing.
    pub(crate) fn parse(&mut self) -> io::Result<()> {
        let mut pairs = [Pair::default(), Pair::default()];
        for _ in 0..self.rounds {
            let (located, validated) = parse::measure(if self.quick { 1 } else { 3 })?;
            eprintln!("  parse: {located:.0} messages/s, with validation {validated:.0}");
            pairs[0].push(Side::Ours, located / 1e6);
            pairs[1].push(Side::Ours, validated / 1e6);
        }
        let [located, validated] = pairs;
        self.row("INVITE of 1.1 KB, lines located", "million/s", "-", located);
        self.row("INVITE of 1.1 KB, parsed and validated", "million/s", "-", validated);
        Ok(())
    }

    /// REGISTER with digest.
    pub(crate) fn register(&mut self) -> io::Result<()> {
        for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
            let (mut cost, mut slow, mut most) = (Pair::default(), Pair::default(), Pair::default());
            let work = Work::Register { algorithm };
            let mut start = [None; 2];
            for side in self.turns() {
                let (server, mut generator) = self.registrar(side, algorithm)?;
                let mut report = generator.run(&self.plan(work, 2000, 5, 10), Some(&server))?;
                log(side, &mut report);
                cost.push(side, report.cpu_per_thousand());
                slow.push(side, report.setup.quantile_ms(0.99));
                drop((server, generator));
                if algorithm == Algorithm::Md5 {
                    let peak = self
                        .climb(side, work, start[side as usize], |suite| suite.registrar(side, algorithm))?;
                    start[side as usize] = Some(peak);
                    most.push(side, peak.goodput);
                }
            }
            let token = algorithm.token();
            self.row(format!("REGISTER with {token}, CPU per 1000 pairs at 2000/s"), "s", "Kamailio", cost);
            self.row(
                format!("REGISTER with {token}, both round trips, p99 at 2000/s"),
                "ms",
                "Kamailio",
                slow,
            );
            if algorithm == Algorithm::Md5 {
                self.row(format!("REGISTER with {token}, most pairs"), "/s", "Kamailio", most);
            }
        }
        Ok(())
    }

    /// Calls at a fixed rate, and the most calls.
    pub(crate) fn calls(&mut self) -> io::Result<()> {
        let (mut cost, mut setup) = (Pair::default(), Pair::default());
        let (mut most, mut saturated) = (Pair::default(), Pair::default());
        for side in self.turns() {
            let (server, mut generator) = self.switch(side, false)?;
            let mut report = generator.run(&self.plan(call(HOLD), 1000, 6, 10), Some(&server))?;
            log(side, &mut report);
            cost.push(side, report.cpu_per_thousand());
            setup.push(side, report.setup.quantile_ms(0.99));
            drop((server, generator));
            let peak = self.peak(side)?;
            most.push(side, peak.goodput);
            saturated.push(side, peak.cpu_per_thousand);
        }
        self.row("call, CPU per 1000 at 1000/s", "s", "Kamailio as proxy", cost);
        self.row("INVITE to 200, p99 at 1000/s", "ms", "Kamailio as proxy", setup);
        self.row("most calls, INVITE to BYE", "/s", "Kamailio as proxy", most);
        self.row("call, CPU per 1000 at the most", "s", "Kamailio as proxy", saturated);
        Ok(())
    }

    /// Twice what it can do.
    pub(crate) fn overload(&mut self) -> io::Result<()> {
        let (mut kept, mut setup) = (Pair::default(), Pair::default());
        for side in self.turns() {
            let peak = match self.peaks[side as usize] {
                Some(peak) => peak,
                None => self.peak(side)?,
            };
            let (server, mut generator) = self.switch(side, false)?;
            let plan = self.plan(call(HOLD), (peak.goodput * 2.0) as u32, 6, 10);
            let mut report = generator.run(&plan, Some(&server))?;
            log(side, &mut report);
            kept.push(side, 100.0 * report.goodput() / peak.goodput);
            setup.push(side, report.setup.quantile_ms(0.99));
        }
        self.row("offered twice the most: calls completed, of the most", "%", "Kamailio as proxy", kept);
        self.row("offered twice the most: INVITE to 200, p99", "ms", "Kamailio as proxy", setup);
        Ok(())
    }

    /// Memory of established calls; with as many as ports can be had for, then without media.
    pub(crate) fn memory(&mut self) -> io::Result<()> {
        let wanted = if self.quick { 2000 } else { 10_000 };
        self.memory_of(wanted.min(cpu::open_files() / FILES_OF_A_CALL), false)?;
        self.memory_of(wanted, true)
    }

    fn memory_of(&mut self, calls: u32, bare: bool) -> io::Result<()> {
        let mut pairs = [Pair::default(), Pair::default()];
        for side in self.turns() {
            for (pair, dialogs) in pairs.iter_mut().zip([false, true]) {
                if dialogs && side == Side::Ours {
                    continue;
                }
                let (server, mut generator) = self.switch(side, dialogs)?;
                let before = server.memory_kib();
                let work = Work::Call { hold: Duration::from_secs(3600), ring: Duration::ZERO, bare };
                let mut plan = self.plan(work, 1000, 0, 10);
                plan.measured = Duration::from_secs_f64(f64::from(calls) / f64::from(plan.rate));
                plan.drain = Duration::from_secs(8);
                let mut report = generator.run(&plan, Some(&server))?;
                let each = (server.memory_kib() as f64 - before as f64) / report.setup.len() as f64;
                log(side, &mut report);
                eprintln!("    {each:.2} KiB for each of {} calls over {before} KiB", report.setup.len());
                pair.push(side, each);
            }
        }
        let [plain, mut dialogs] = pairs;
        dialogs.0[Side::Ours as usize] = plain.0[Side::Ours as usize].clone();
        let what = if bare { "without media" } else { "with media" };
        let what = format!("memory per call, {calls} established, {what}");
        self.row(what.clone(), "KiB", "Kamailio as proxy", plain);
        self.row(what, "KiB", "Kamailio with dialogs", dialogs);
        Ok(())
    }

    /// Media.
    pub(crate) fn relay(&mut self) -> io::Result<()> {
        let measured = Duration::from_secs(if self.quick { 2 } else { 5 });
        let [mut cpu, mut p50, mut p99, mut most, mut memory] = [(); 5].map(|()| Pair::default());
        let [mut floor_cpu, mut floor_p99] = [(); 2].map(|()| Pair::default());
        for round in self.turns().chunks(self.sides.len()) {
            for &side in round {
                let mut peers = Peers::new()?;
                let relay = self.relay_of(side, peers.ports()?)?;
                let mut trial = peers.run(&relay.legs[..RELAYED], measured, &relay.server)?;
                eprintln!("  {side:?}: {:.1} KiB a call; {}", relay.memory_kib, trial.line());
                memory.push(side, relay.memory_kib);
                cpu.push(side, trial.cpu_per_packet_us());
                p50.push(side, trial.latency.quantile_ms(0.5));
                p99.push(side, trial.latency.quantile_ms(0.99));
                if side == Side::Ours {
                    floor_cpu.push(side, trial.cpu_per_packet_us());
                    floor_p99.push(side, trial.latency.quantile_ms(0.99));
                }
                most.push(side, rtpload::capacity(&mut peers, &relay.legs, measured / 2, &relay.server)?);
            }
            let mut peers = Peers::new()?;
            let (caller, callee) = peers.ports()?;
            let (server, legs) =
                relays::start("serve-floor", &[caller.into(), callee.into()], &self.directory)?;
            let mut trial = peers.run(&legs.repeat(RELAYED), measured, &server)?;
            eprintln!("  floor: {}", trial.line());
            floor_cpu.push(Side::Peer, trial.cpu_per_packet_us());
            floor_p99.push(Side::Peer, trial.latency.quantile_ms(0.99));
        }
        self.row("relayed RTP packet, CPU at 500 calls", "us", "rtpengine in user space", cpu);
        self.row("relayed RTP packet, CPU at 500 calls", "us", "receive and send alone", floor_cpu);
        self.row("latency through the relay at 500 calls, p50", "ms", "rtpengine in user space", p50);
        self.row("latency through the relay at 500 calls, p99", "ms", "rtpengine in user space", p99);
        self.row("latency through the relay at 500 calls, p99", "ms", "receive and send alone", floor_p99);
        self.row("most packets, no loss, p99 of at most 10 ms", "/s", "rtpengine in user space", most);
        self.row("relay memory per call", "KiB", "rtpengine in user space", memory);
        Ok(())
    }

    fn relay_of(&self, side: Side, ports: (u16, u16)) -> io::Result<Relay> {
        match side {
            Side::Peer => {
                let mut engine = Rtpengine::start(rtpengine::THREADS, &self.directory)?;
                let before = engine.server.memory_kib();
                let legs = engine.calls(RELAYED_MAX, ports)?;
                let grown = engine.server.memory_kib().saturating_sub(before);
                Ok(Relay { memory_kib: grown as f64 / RELAYED_MAX as f64, legs, server: engine.server })
            }
            Side::Ours => {
                let numbers = |calls: usize| [calls, ports.0.into(), ports.1.into()];
                let (few, _) = relays::start("serve-relay", &numbers(1), &self.directory)?;
                let before = few.memory_kib();
                drop(few);
                let (server, legs) = relays::start("serve-relay", &numbers(RELAYED_MAX), &self.directory)?;
                let grown = server.memory_kib().saturating_sub(before);
                Ok(Relay { memory_kib: grown as f64 / RELAYED_MAX as f64, legs, server })
            }
        }
    }

    fn peak(&mut self, side: Side) -> io::Result<Peak> {
        let peak =
            self.climb(side, call(HOLD), self.peaks[side as usize], |suite| suite.switch(side, false))?;
        self.peaks[side as usize] = Some(peak);
        Ok(peak)
    }

    /// The highest level that a fresh server carries: great steps and then small ones, or small ones around a known level.
    fn climb(
        &self,
        side: Side,
        work: Work,
        known: Option<Peak>,
        start: impl Fn(&Suite) -> io::Result<(Server, Generator)>,
    ) -> io::Result<Peak> {
        let (mut rate, steps): (f64, &[f64]) =
            known.map_or((2000.0, &[1.5, 1.1]), |peak| (peak.goodput, &[1.1]));
        let mut best = None;
        for step in steps {
            while best.is_none() {
                best = self.carried(side, work, rate, &start)?;
                if best.is_none() {
                    rate /= step;
                }
                if rate < 10.0 {
                    return Err(io::Error::other("the server carries no load at all"));
                }
            }
            while let Some(more) = self.carried(side, work, rate * step, &start)? {
                best = Some(more);
                rate *= step;
            }
        }
        best.ok_or_else(|| io::Error::other("no level was tried"))
    }

    /// Whether a fresh server carries `rate`; the machine's whims excuse one failure.
    fn carried(
        &self,
        side: Side,
        work: Work,
        rate: f64,
        start: impl Fn(&Suite) -> io::Result<(Server, Generator)>,
    ) -> io::Result<Option<Peak>> {
        for _ in 0..2 {
            let (server, mut generator) = start(self)?;
            let mut report = generator.run(&self.plan(work, rate as u32, 4, 6), Some(&server))?;
            log(side, &mut report);
            if report.behind > BEHIND_MAX {
                eprintln!("    the generator itself did not keep up with {rate:.0}/s");
            }
            if is_carried(&mut report, rate) {
                return Ok(Some(Peak {
                    goodput: report.goodput(),
                    cpu_per_thousand: report.cpu_per_thousand(),
                }));
            }
        }
        Ok(None)
    }
}

/// Whether a level counts as carried.
pub(crate) fn is_carried(report: &mut Report, rate: f64) -> bool {
    report.goodput() >= CARRIED * rate && report.setup.quantile_ms(0.99) <= SETUP_MAX_MS
}

/// A relay under test with its calls.
struct Relay {
    server: Server,
    legs: Vec<Legs>,
    memory_kib: f64,
}

/// A call that is answered at once.
pub(crate) fn call(hold: Duration) -> Work {
    Work::Call { hold, ring: Duration::ZERO, bare: false }
}

fn log(side: Side, report: &mut Report) {
    eprintln!("  {side:?}: {}", report.line());
}
