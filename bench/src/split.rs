//! Proxy, application server and relay as processes of their own, with etcd and PostgreSQL, beside all of it in one process: what a call
//! costs in each of them, how many there can be, what they hold.
//!
//! Elsewhere: one process beside other programs (`suite`), what nodes do when one is lost (`survival`).

use crate::carillon;
use crate::cpu::{Measured, SERVER_CORE, Server};
use crate::deployment::{Backing, Cluster, ONE_OF_EACH, Whole, Wish};
use crate::digest::Algorithm;
use crate::sipload::{Cast, Generator, Report, Work};
use crate::suite::{self, HOLD, Side, Suite, USERS};
use crate::table::Figure;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

/// Calls a second of the fixed rate: what both carry with ease.
const FIXED: u32 = 300;
/// Calls of the measurement of memory.
const HELD: u32 = 10_000;
/// A second of calls that are to be held.
const HELD_RATE: u32 = 500;

/// A deployment under test with its generator.
struct Deployed {
    service: Service,
    generator: Generator,
}

enum Service {
    One(Server),
    Split(Box<Whole>),
}

impl Service {
    fn names(&self) -> Vec<String> {
        match self {
            Service::One(_) => vec!["one process".to_owned()],
            Service::Split(whole) => whole.names(),
        }
    }
}

impl Measured for Service {
    fn cpus(&self) -> Vec<Duration> {
        match self {
            Service::One(server) => server.cpus(),
            Service::Split(whole) => whole.cpus(),
        }
    }
}

/// Both deployments, each freshly started whenever it is asked for; ours is the split one, the peer the one process.
fn deploy(suite: &Suite, side: Side) -> io::Result<Deployed> {
    let cores = SERVER_CORE.to_string();
    match side {
        Side::Peer => {
            let (server, mut generator) =
                carillon::start(suite.ours()?, USERS, Algorithm::Md5, &suite.directory)?;
            generator.register_all(Algorithm::Md5, 1000)?;
            Ok(Deployed { service: Service::One(server), generator })
        }
        Side::Ours => {
            let mut backing = Backing::start(Some(&cores))?;
            let mut cast = Cast {
                servers: Vec::new(),
                domain: "bench.example".to_owned(),
                users: USERS,
                first_extension: 1000,
                secret: "bench-secret".to_owned(),
            };
            let more = "[log]\nfilter = \"warn,carillon=info\"\n";
            let wish = Wish { nodes: ONE_OF_EACH, cores: Some("0"), more };
            let cluster = Cluster::start(&mut backing, suite.ours()?, &wish, &mut cast)?;
            let mut generator = Generator::new(cast)?;
            generator.register_all(Algorithm::Md5, 1000)?;
            Ok(Deployed { service: Service::Split(Box::new(Whole { cluster, backing })), generator })
        }
    }
}

fn name(side: Side) -> &'static str {
    match side {
        Side::Ours => "split",
        Side::Peer => "one process",
    }
}

/// What a call took of each process, over rounds.
#[derive(Default)]
struct Shares {
    names: Vec<String>,
    figures: Vec<Figure>,
}

impl Shares {
    fn push(&mut self, names: Vec<String>, report: &Report) {
        self.figures.resize_with(names.len(), Figure::default);
        self.names = names;
        for (figure, cpu) in self.figures.iter_mut().zip(&report.cpus) {
            figure.push(cpu.as_secs_f64() * 1e6 / report.completed.max(1) as f64);
        }
    }

    fn text(&self) -> String {
        let shown = self
            .names
            .iter()
            .zip(&self.figures)
            .map(|(name, figure)| format!("{name} {:.0}", figure.median().unwrap_or(0.0)));
        shown.collect::<Vec<_>>().join(", ")
    }

    fn sum(&self) -> f64 {
        self.figures.iter().filter_map(Figure::median).sum()
    }
}

/// Calls at a fixed rate and the most calls, with and without media, in turns.
pub(crate) fn calls(suite: &mut Suite) -> io::Result<String> {
    let mut text = String::from(
        "| load | deployment | calls/s | CPU per call, us | of it | INVITE to 200 p50 / p99, ms |\n|---|---|---|---|---|---|\n",
    );
    let sides = [Side::Ours, Side::Peer];
    for bare in [false, true] {
        let work = Work::Call { hold: HOLD, ring: Duration::ZERO, bare };
        let what = if bare { "without media" } else { "with media" };
        let mut rows: [[Row; 2]; 2] = Default::default();
        for _ in 0..suite.rounds {
            for side in sides {
                let Deployed { service, mut generator } = deploy(suite, side)?;
                let mut report = generator.run(&suite.plan(work, FIXED, 4, 10), Some(&service))?;
                eprintln!("  {} {what}: {}", name(side), report.line());
                rows[0][side as usize].push(service.names(), &mut report);
                drop((service, generator));
                let (mut report, names) = peak(suite, side, work)?;
                rows[1][side as usize].push(names, &mut report);
            }
        }
        for (load, rows) in [format!("{FIXED}/s, {what}"), format!("the most, {what}")].iter().zip(&rows) {
            for side in sides {
                let row = &rows[side as usize];
                let [rate, p50, p99] =
                    [&row.rate, &row.p50, &row.p99].map(|figure| figure.median().unwrap_or(0.0));
                let _ = writeln!(
                    text,
                    "| {load} | {} | {rate:.0} | {:.0} | {} | {p50:.1} / {p99:.1} |",
                    name(side),
                    row.shares.sum(),
                    row.shares.text()
                );
            }
        }
    }
    Ok(text)
}

#[derive(Default)]
struct Row {
    rate: Figure,
    p50: Figure,
    p99: Figure,
    shares: Shares,
}

impl Row {
    fn push(&mut self, names: Vec<String>, report: &mut Report) {
        self.rate.push(report.goodput());
        self.p50.push(report.setup.quantile_ms(0.5));
        self.p99.push(report.setup.quantile_ms(0.99));
        self.shares.push(names, report);
    }
}

/// The highest level that a fresh deployment carries, by steps of a quarter and then of a twelfth.
fn peak(suite: &Suite, side: Side, work: Work) -> io::Result<(Report, Vec<String>)> {
    let mut rate: f64 = 2000.0;
    let mut best = None;
    for step in [1.3, 1.08] {
        while best.is_none() {
            best = carried(suite, side, work, rate)?;
            if best.is_none() {
                rate /= step;
            }
            if rate < 10.0 {
                return Err(io::Error::other(format!("{} carries no load at all", name(side))));
            }
        }
        while let Some(more) = carried(suite, side, work, rate * step)? {
            best = Some(more);
            rate *= step;
        }
    }
    best.ok_or_else(|| io::Error::other("no level was tried"))
}

/// The machine's whims excuse one failure.
fn carried(suite: &Suite, side: Side, work: Work, rate: f64) -> io::Result<Option<(Report, Vec<String>)>> {
    for _ in 0..2 {
        let Deployed { service, mut generator } = deploy(suite, side)?;
        let mut report = generator.run(&suite.plan(work, rate as u32, 4, 6), Some(&service))?;
        eprintln!("    {}: {}", name(side), report.line());
        if suite::is_carried(&mut report, rate) {
            return Ok(Some((report, service.names())));
        }
        if let Service::Split(whole) = &service {
            for complaint in whole.cluster.complaints()? {
                eprintln!("      {complaint}");
            }
        }
    }
    Ok(None)
}

/// Memory of each process with established calls without media.
pub(crate) fn memory(suite: &mut Suite) -> io::Result<String> {
    let wanted = if suite.quick { HELD / 5 } else { HELD };
    let mut text = format!(
        "| process | with {wanted} calls: Pss, MiB | Rss, MiB | before | for each call, KiB |\n|---|---|---|---|---|\n"
    );
    for side in [Side::Ours, Side::Peer] {
        let Deployed { service, mut generator } = deploy(suite, side)?;
        let read = || -> Vec<(String, u64, u64)> {
            let of = |server: &Server| (server.name().to_owned(), server.memory_kib(), server.resident_kib());
            match &service {
                Service::One(server) => vec![of(server)],
                Service::Split(whole) => whole.cluster.servers().map(of).collect(),
            }
        };
        let before = read();
        let work = Work::Call { hold: Duration::from_secs(3600), ring: Duration::ZERO, bare: true };
        let mut plan = suite.plan(work, HELD_RATE, 0, 1);
        plan.measured = Duration::from_secs_f64(f64::from(wanted) / f64::from(plan.rate));
        plan.drain = Duration::from_secs(10);
        let mut report = generator.run(&plan, Some(&service))?;
        eprintln!("  {}: {}", name(side), report.line());
        let established = report.setup.len().max(1) as f64;
        for ((process, pss, rss), (_, pss_before, _)) in read().into_iter().zip(before) {
            let process = if side == Side::Peer { "one process".to_owned() } else { process };
            let each = (pss as f64 - pss_before as f64) / established;
            let [pss, rss, before] = [pss, rss, pss_before].map(|kib| kib as f64 / 1024.0);
            let _ = writeln!(
                text,
                "| {process}, {established:.0} established | {pss:.1} | {rss:.1} | {before:.1} | {each:.1} |"
            );
        }
    }
    Ok(text)
}
