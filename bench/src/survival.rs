//! Calls that talk while a node is killed, drained, stopped, or all are started anew: what is lost of them.
//!
//! In: a scenario. Out: a row of the table. Elsewhere: the cluster (`deployment`), the telephones (`sipload`, `talk`), what became of each
//! call (`survival::book`).

mod book;

use crate::deployment::{Backing, Cluster, LOOK, TWO_OF_EACH, Wish};
use crate::digest::Algorithm;
use crate::sipload::{CallKey, Cast, Desk, Generator, News, Whose, Work};
use crate::suite::Suite;
use crate::talk::Talks;
use crate::udp::Samples;
use book::{Book, Records, now_us};
use clap::ValueEnum;
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Calls that begin or end in a second.
const RATE: u32 = 50;
/// Calls that begin in a second while nodes are started anew, and how long each lasts.
const NEW_RATE: u32 = 5;
const NEW_LASTS: Duration = Duration::from_secs(8);
/// From the last answer to the fault.
const SETTLE: Duration = Duration::from_secs(3);
/// From a fault, or its end, until calls are hung up.
const WATCH: Duration = Duration::from_secs(12);
/// A proxy that was killed is back after this.
const BACK: Duration = Duration::from_secs(1);
/// Audio falls silent so long before BYE: what is lost by hanging up is no loss.
const HUSH: Duration = Duration::from_millis(300);
/// A node may take so long to start or to end.
const NODE: Duration = Duration::from_secs(60);
/// BYE is repeated for 32 seconds.
const ENDING: Duration = Duration::from_secs(40);
/// Records are in the database by then.
const WRITTEN: Duration = Duration::from_secs(20);
/// Sleep when nothing is due.
const IDLE: Duration = Duration::from_micros(100);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    Nothing,
    KillAs,
    KillRelay,
    KillProxy,
    DrainAs,
    DrainRelay,
    DrainProxy,
    StopAs,
    StopRelay,
    StopProxy,
    Rolling,
}

impl Scenario {
    fn text(self) -> &'static str {
        match self {
            Scenario::Nothing => "nothing happens",
            Scenario::KillAs => "application server killed (-9)",
            Scenario::KillRelay => "relay killed (-9)",
            Scenario::KillProxy => "proxy killed (-9), its address back with another process",
            Scenario::DrainAs => "`ctl drain` of the application server",
            Scenario::DrainRelay => "`ctl drain` of a relay",
            Scenario::DrainProxy => "`ctl drain` of a proxy",
            Scenario::StopAs => "SIGTERM to the application server",
            Scenario::StopRelay => "SIGTERM to a relay",
            Scenario::StopProxy => "SIGTERM to a proxy, its address back with another process",
            Scenario::Rolling => "all six nodes restarted in turn, calls begin and end",
        }
    }

    /// Whom it hits.
    fn role(self) -> Option<&'static str> {
        match self {
            Scenario::Nothing | Scenario::Rolling => None,
            Scenario::KillAs | Scenario::DrainAs | Scenario::StopAs => Some("as"),
            Scenario::KillRelay | Scenario::DrainRelay | Scenario::StopRelay => Some("relay"),
            Scenario::KillProxy | Scenario::DrainProxy | Scenario::StopProxy => Some("proxy"),
        }
    }
}

/// What came of a scenario, of all its rounds.
#[derive(Default)]
struct Outcome {
    /// Calls that talked when it happened, and of them those that it hit.
    there: usize,
    hit: usize,
    /// Calls that were begun meanwhile, and how many had to try another proxy.
    begun: usize,
    elsewhere: u64,
    lost: usize,
    sent: u64,
    packets_lost: u64,
    gap: Samples,
    silence: Samples,
    carried_on: Samples,
    records: Records,
    panics: usize,
}

/// Runs scenarios with so many calls; the table.
pub(crate) fn run(suite: &Suite, calls: u32, only: &[Scenario]) -> io::Result<String> {
    let scenarios = if only.is_empty() { Scenario::value_variants() } else { only };
    let mut backing = Backing::start(None)?;
    let mut outcomes: Vec<(Scenario, Outcome)> =
        scenarios.iter().map(|scenario| (*scenario, Outcome::default())).collect();
    for _ in 0..suite.rounds {
        for (scenario, outcome) in &mut outcomes {
            eprintln!("  {}", scenario.text());
            Stage::set(suite, &mut backing, calls)?.play(*scenario, outcome)?;
        }
    }
    Ok(table(outcomes))
}

fn table(outcomes: Vec<(Scenario, Outcome)>) -> String {
    let mut text = "| what happens | calls (hit) + begun | lost | RTP lost of sent | gap p50 / p99 / worst, ms | longest silence p50 / worst, ms | \
                    carried on p50 / p99, ms (n) | records right / missing / doubled / wrong |\n|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (scenario, mut it) in outcomes {
        let Records { right, missing, doubled, wrong, strange } = it.records;
        let carried = match it.carried_on.len() {
            0 => "-".to_owned(),
            count => {
                let [p50, p99] = [0.5, 0.99].map(|share| it.carried_on.quantile_ms(share));
                format!("{p50:.0} / {p99:.0} ({count})")
            }
        };
        let [p50, p99, worst] = [0.5, 0.99, 1.0].map(|share| it.gap.quantile_ms(share));
        let [silence, silence_max] = [0.5, 1.0].map(|share| it.silence.quantile_ms(share));
        let more = match it.elsewhere {
            0 => String::new(),
            count => format!(" ({count} by the other proxy)"),
        };
        let notes = match (strange, it.panics) {
            (0, 0) => String::new(),
            (strange, panics) => format!("; {strange} of no call, {panics} panics"),
        };
        let _ = writeln!(
            text,
            "| {} | {} ({}) + {}{more} | {} | {} of {} | {p50:.0} / {p99:.0} / {worst:.0} | {silence:.0} / {silence_max:.0} | {carried} | \
             {right} / {missing} / {doubled} / {wrong}{notes} |",
            scenario.text(),
            it.there,
            it.hit,
            it.begun,
            it.lost,
            it.packets_lost,
            it.sent,
        );
    }
    text
}

/// A cluster with telephones that talk.
struct Stage {
    cluster: Cluster,
    generator: Generator,
    desk: Desk,
    talks: Talks,
    book: Book,
    /// Calls to be hung up, when, and by whom; then those whose audio has fallen silent.
    ending: VecDeque<(Instant, CallKey, Whose)>,
    hushed: VecDeque<(Instant, CallKey, Whose)>,
    /// Calls begin at this rate now.
    rate: u32,
    begun: u64,
    since: Instant,
    /// From when it counts how long calls take to be carried on.
    from_us: i64,
}

impl Stage {
    /// Starts everything and lets the calls begin.
    fn set(suite: &Suite, backing: &mut Backing, calls: u32) -> io::Result<Stage> {
        let mut cast = Cast {
            servers: Vec::new(),
            domain: "bench.example".to_owned(),
            users: calls.max(10),
            first_extension: 10_000,
            secret: "bench-secret".to_owned(),
        };
        let users = cast.users;
        let wish = Wish { nodes: TWO_OF_EACH, cores: None, more: "" };
        let cluster = Cluster::start(backing, suite.ours()?, &wish, &mut cast)?;
        let mut generator = Generator::new(cast)?;
        generator.register_all(Algorithm::Md5, 200)?;
        let begin = Instant::now();
        for at in 0..cluster.nodes().len() {
            let is_told = cluster.nodes()[at].is("as");
            while is_told && cluster.figure(at, "carillon_locations")? < f64::from(users) {
                if begin.elapsed() > NODE {
                    return Err(io::Error::other("application servers do not hear of the registrations"));
                }
                std::thread::sleep(LOOK);
            }
        }
        let talks = Talks::new()?;
        let desk = generator.begin(Work::Talk { audio: talks.ports()? });
        let mut stage = Stage {
            cluster,
            generator,
            desk,
            talks,
            book: Book::default(),
            ending: VecDeque::new(),
            hushed: VecDeque::new(),
            rate: RATE,
            begun: 0,
            since: Instant::now(),
            from_us: 0,
        };
        stage.go_on(NODE, |stage| Ok(stage.begun >= u64::from(calls)))?;
        stage.rate = 0;
        stage.go_on(NODE, |stage| {
            Ok(stage.book.stories.values().all(|story| story.talks() || story.is_over()))
        })?;
        stage.go_on(SETTLE, |_| Ok(false))?;
        Ok(stage)
    }

    /// Lets it happen, and hangs up.
    fn play(mut self, scenario: Scenario, outcome: &mut Outcome) -> io::Result<()> {
        let there = self.book.talking();
        let victim = scenario.role().map(|role| self.victim(role)).transpose()?;
        self.talks.count_from_now();
        let began = Instant::now();
        self.from_us = now_us();
        let hit = self.hit(&there, victim)?;
        self.happen(scenario, victim)?;
        for (number, call) in self.book.talking().into_iter().enumerate() {
            let side = if number.is_multiple_of(2) { Whose::Caller } else { Whose::Callee };
            let at = Instant::now() + Duration::from_secs(1) * number as u32 / RATE;
            if !self.ending.iter().any(|(_, other, _)| *other == call) {
                self.ending.push_back((at, call, side));
            }
        }
        let limit = ENDING + Duration::from_secs(1) * there.len() as u32 / RATE;
        self.go_on(limit, |stage| {
            let idle = stage.ending.is_empty() && stage.hushed.is_empty();
            Ok(idle && stage.book.stories.values().all(book::Story::is_over))
        })?;
        let losses = self.book.losses();
        let mut records = Vec::new();
        let end = Instant::now() + WRITTEN;
        let expected = self.book.stories.values().filter(|story| story.talks()).count();
        while records.len() < expected && Instant::now() < end {
            self.go_on(Duration::from_millis(500), |_| Ok(false))?;
            records = self.cluster.records()?;
        }
        self.count(outcome, &records);
        outcome.there += there.len();
        outcome.hit += hit.len();
        let begun: Vec<CallKey> =
            self.book.stories.keys().filter(|call| !there.contains(call)).copied().collect();
        outcome.begun += begun.len();
        outcome.elsewhere += self.desk.report.elsewhere;
        outcome.lost += losses.values().sum::<usize>();
        for call in hit.iter().chain(&begun) {
            let Some(story) = self.book.stories.get(call) else { continue };
            if let Some(heard) = story.heard {
                outcome.gap.push((heard.gap_ms * 1e6) as u64);
                outcome.silence.push((heard.silence_ms * 1e6) as u64);
                if heard.lost > 0 && scenario == Scenario::Rolling {
                    eprintln!("    {call:?} lost {} packets: {heard:?}", heard.lost);
                }
            }
            if scenario.role() == Some("relay")
                && let [Some(caller), Some(callee)] = story.moved
            {
                outcome.carried_on.push((caller.max(callee) - began).as_nanos() as u64);
            }
        }
        self.carried_on(scenario, outcome)?;
        eprintln!(
            "    {} calls, {} hit, lost {losses:?}, {} RTP lost of {} so far, audio {:.1} ms behind, records {:?}",
            there.len(),
            hit.len(),
            outcome.packets_lost,
            outcome.sent,
            self.talks.behind.as_secs_f64() * 1e3,
            outcome.records,
        );
        if !losses.is_empty() || self.book.compare(&records).missing > 0 {
            for complaint in self.cluster.complaints()? {
                eprintln!("      {complaint}");
            }
        }
        Ok(())
    }

    fn happen(&mut self, scenario: Scenario, victim: Option<usize>) -> io::Result<()> {
        match (scenario, victim) {
            (Scenario::KillAs | Scenario::KillRelay, Some(at)) => self.cluster.kill(at)?,
            (Scenario::KillProxy, Some(at)) => {
                self.cluster.kill(at)?;
                self.go_on(BACK, |_| Ok(false))?;
                self.start(at)?;
            }
            (Scenario::DrainAs | Scenario::DrainRelay | Scenario::DrainProxy, Some(at)) => {
                let mut child = self.cluster.ctl(at, &["drain", "--timeout", "20s"])?;
                let ended = self.go_on(NODE, |_| Ok(child.try_wait()?.is_some()));
                if !ended? {
                    child.kill()?;
                    child.wait()?;
                }
            }
            (Scenario::StopAs | Scenario::StopRelay | Scenario::StopProxy, Some(at)) => {
                self.stop(at)?;
                self.start(at)?;
            }
            (Scenario::Rolling, _) => {
                self.rate = NEW_RATE;
                (self.begun, self.since) = (0, Instant::now());
                for at in 0..self.cluster.nodes().len() {
                    self.stop(at)?;
                    self.start(at)?;
                    self.go_on(Duration::from_secs(2), |_| Ok(false))?;
                }
                self.rate = 0;
                self.go_on(NEW_LASTS, |_| Ok(false))?;
            }
            _ => {}
        }
        self.go_on(WATCH, |_| Ok(false)).map(drop)
    }

    fn stop(&mut self, at: usize) -> io::Result<()> {
        let began = Instant::now();
        self.cluster.signal(at, "TERM")?;
        let ended = self.go_on(NODE, |stage| stage.cluster.has_ended(at))?;
        let name = self.cluster.nodes()[at].name;
        eprintln!("    {name} ended {:.1} s after SIGTERM", began.elapsed().as_secs_f64());
        if self.cluster.nodes()[at].is("proxy") {
            // Until then its legs are where they were.
            self.from_us = now_us();
        }
        if ended { Ok(()) } else { Err(io::Error::other(format!("{name} does not end"))) }
    }

    fn start(&mut self, at: usize) -> io::Result<()> {
        self.cluster.spawn(at)?;
        let mut next = Instant::now();
        let ready = self.go_on(NODE, |stage| {
            if Instant::now() < next {
                return Ok(false);
            }
            next = Instant::now() + LOOK * 4;
            Ok(stage.cluster.is_ready(at)? && stage.cluster.reaches_all(at)?)
        })?;
        let name = self.cluster.nodes()[at].name;
        if ready { Ok(()) } else { Err(io::Error::other(format!("{name} does not get ready"))) }
    }

    /// The node of a role that most depends on.
    fn victim(&self, role: &str) -> io::Result<usize> {
        let figure = match role {
            "as" => "carillon_calls",
            "relay" => "carillon_relay_sessions",
            _ => "carillon_legs",
        };
        let mut most = None;
        for at in (0..self.cluster.nodes().len()).filter(|at| self.cluster.nodes()[*at].is(role)) {
            let has = self.cluster.figure(at, figure)?;
            if most.is_none_or(|(best, _)| has > best) {
                most = Some((has, at));
            }
        }
        most.map(|(_, at)| at).ok_or_else(|| io::Error::other(format!("there is no {role}")))
    }

    /// The calls that a node has to do with.
    fn hit(&self, calls: &[CallKey], victim: Option<usize>) -> io::Result<Vec<CallKey>> {
        let Some(at) = victim else { return Ok(calls.to_vec()) };
        let node = &self.cluster.nodes()[at];
        if node.is("as") {
            let has = self.cluster.figure(at, "carillon_calls")? as usize;
            // All calls of a client are at one, and there is one client.
            return if has == calls.len() {
                Ok(calls.to_vec())
            } else {
                Err(io::Error::other(format!("{} has {has} of {} calls", node.name, calls.len())))
            };
        }
        let is_there = |place: &Option<SocketAddr>| {
            place.is_some_and(|place| place.ip() == SocketAddr::from((node.ip(), 0)).ip())
        };
        let hits = |call: &&CallKey| {
            let story = self.book.stories.get(call);
            story.is_some_and(|story| {
                if node.is("relay") { &story.to } else { &story.servers }.iter().any(is_there)
            })
        };
        Ok(calls.iter().filter(hits).copied().collect())
    }

    /// When nodes said that they carry calls or legs on.
    fn carried_on(&self, scenario: Scenario, outcome: &mut Outcome) -> io::Result<()> {
        let logs = self.cluster.logs()?;
        outcome.panics += logs.matches("panicked at").count();
        let parts: &[&str] = match scenario.role() {
            Some("as") => &["call is carried on here"],
            Some("proxy") => &["leg goes on at another proxy"],
            _ => &[],
        };
        for line in logs.lines().filter(|line| parts.iter().any(|part| line.contains(part))) {
            let when = line.split_ascii_whitespace().next().and_then(|time| time.parse::<Timestamp>().ok());
            let after = when.map_or(0, |when| when.as_microsecond() - self.from_us);
            outcome.carried_on.push(after.unsigned_abs() * 1000);
        }
        Ok(())
    }

    fn count(&mut self, outcome: &mut Outcome, records: &[serde_json::Value]) {
        let found = self.book.compare(records);
        let all = &mut outcome.records;
        all.right += found.right;
        all.missing += found.missing;
        all.doubled += found.doubled;
        all.wrong += found.wrong;
        all.strange += found.strange;
        for heard in self.book.stories.values().filter_map(|story| story.heard) {
            outcome.sent += heard.sent;
            outcome.packets_lost += heard.lost;
        }
    }

    /// Lets telephones talk until something is so, or the time is over; whether it is so.
    fn go_on(
        &mut self,
        limit: Duration,
        mut until: impl FnMut(&mut Stage) -> io::Result<bool>,
    ) -> io::Result<bool> {
        let end = Instant::now() + limit;
        loop {
            if self.turn()? == 0 {
                std::thread::sleep(IDLE);
            }
            if until(self)? {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
        }
    }

    fn turn(&mut self) -> io::Result<usize> {
        let due = (self.since.elapsed().as_secs_f64() * f64::from(self.rate)) as u64;
        while self.rate > 0 && self.begun < due {
            self.begun += 1;
            self.generator.call(&mut self.desk);
        }
        let busy = self.generator.turn(&mut self.desk)? + self.talks.turn()?;
        while let Some(news) = self.desk.news.pop_front() {
            if let News::Moved { call, side, to } = news {
                self.talks.aim(call, side, to);
            }
            if let Some((call, to)) = self.book.note(&news) {
                self.talks.begin(call, to);
                if self.rate == NEW_RATE {
                    let side = if call.at.is_multiple_of(2) { Whose::Caller } else { Whose::Callee };
                    self.ending.push_back((Instant::now() + NEW_LASTS, call, side));
                }
            }
            // A call that failed talks no more.
            if let News::Failed { call, .. } | News::HungUp { call, .. } = news {
                self.hear_out(call);
            }
        }
        let now = Instant::now();
        while let Some((_, call, side)) = self.ending.pop_front_if(|(at, ..)| *at <= now) {
            self.talks.hush(call);
            self.hushed.push_back((now + HUSH, call, side));
        }
        while let Some((_, call, side)) = self.hushed.pop_front_if(|(at, ..)| *at <= now) {
            self.hear_out(call);
            self.book.hangs_up(call, side);
            if !self.generator.hang_up(call, side, &mut self.desk) {
                eprintln!("    {call:?} cannot be hung up by {side:?}");
            }
        }
        Ok(busy)
    }

    fn hear_out(&mut self, call: CallKey) {
        let heard = self.talks.end(call);
        if let (Some(story), Some(heard)) = (self.book.stories.get_mut(&call), heard) {
            story.heard = Some(heard);
        }
    }
}
