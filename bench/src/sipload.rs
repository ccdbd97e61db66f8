//! A SIP load generator: callers and callees on two sockets of one thread, open loop.
//!
//! In: a [`Plan`], or orders one by one. Out: a [`Report`], and [`News`] for whoever asks. The offered rate is kept whatever the server does; both ends keep the timers of
//! RFC 3261 section 17. What callers say is in [`uac`], what callees say in [`uas`], reading messages in [`view`].

mod uac;
mod uas;
mod view;

use crate::cpu::{self, Measured};
use crate::digest::Algorithm;
use crate::udp::{Samples, Wire};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use view::View;

/// Timer T1 (RFC 3261 section 17.1.1.1) in nanoseconds.
const T1: u64 = 500_000_000;
/// Timer T2: the longest interval of what is not an INVITE.
const T2: u64 = 4_000_000_000;
/// Timers B, F and H.
const GIVE_UP: u64 = 64 * T1;
/// Datagrams read from a socket before timers and new calls have their turn.
const TURN: usize = 256;
/// How long to sleep when there is nothing to do.
const IDLE: Duration = Duration::from_micros(50);

/// What each attempt does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// REGISTER, its challenge, REGISTER with credentials, 200.
    Register {
        /// Which challenge to answer.
        algorithm: Algorithm,
    },
    /// INVITE, 180 and 200, ACK, hold, BYE by the caller.
    Call {
        /// Answer to BYE.
        hold: Duration,
        /// 180 to 200.
        ring: Duration,
        /// Descriptions have no media line, so that a server needs no ports.
        bare: bool,
    },
    /// INVITE, 180 and 200, ACK, and a conversation until somebody has a side hang up. Both sides do as telephones do: they take
    /// changed descriptions, and try another server where theirs refuses a call or is silent.
    Talk {
        /// Ports where callers and callees hear audio.
        audio: (u16, u16),
    },
}

impl Work {
    /// What a side describes its media by.
    fn sdp(self, whose: Whose) -> String {
        let media = uac::SDP.find("m=").unwrap_or(uac::SDP.len());
        match self {
            Work::Call { bare: true, .. } => uac::SDP[..media].to_owned(),
            Work::Call { bare: false, .. } | Work::Register { .. } => uac::SDP.to_owned(),
            Work::Talk { audio: (caller, callee) } => {
                let port = if whose == Whose::Callee { callee } else { caller };
                uac::SDP.replace("m=audio 9000", &format!("m=audio {port}"))
            }
        }
    }

    /// What a telephone understands. Half of those who talk take UPDATE (RFC 3311), the others only know INVITE.
    fn allow(self, at: u32) -> &'static str {
        match self {
            Work::Talk { .. } if at.is_multiple_of(2) => "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE",
            _ => "INVITE, ACK, CANCEL, BYE, OPTIONS",
        }
    }
}

/// Names an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallKey {
    /// Its place among those that go on.
    pub(crate) at: u32,
    /// How many had the place before it.
    pub(crate) generation: u32,
}

impl CallKey {
    /// The Call-ID of the caller's dialog.
    pub(crate) fn call_id(self) -> String {
        format!("c{}.{}@127.0.0.1", self.at, self.generation)
    }
}

/// What happens to calls of [`Work::Talk`].
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// INVITE is out.
    Begun { call: CallKey },
    /// It was tried in vain, and is begun anew at another server.
    Elsewhere { call: CallKey },
    /// The caller has its 200, from this server, and sends there.
    Answered { call: CallKey, from: SocketAddr, to: Option<SocketAddr> },
    /// The callee has its ACK, from this server, and sends there.
    Acknowledged { call: CallKey, from: SocketAddr, to: Option<SocketAddr> },
    /// A side took another description, and sends there from now on.
    Moved { call: CallKey, side: Whose, to: SocketAddr },
    /// A side got BYE.
    HungUp { call: CallKey, side: Whose },
    /// BYE of a side was answered 200.
    Ended { call: CallKey },
    /// Refused, or not answered.
    Failed { call: CallKey, cause: String },
}

/// What to offer, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What each attempt does.
    pub(crate) work: Work,
    /// Attempts a second.
    pub(crate) rate: u32,
    /// Offered before figures are taken.
    pub(crate) warm_up: Duration,
    /// Offered while figures are taken.
    pub(crate) measured: Duration,
    /// Longest wait afterwards for attempts under way.
    pub(crate) drain: Duration,
}

/// Whom the generator plays.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    /// Where requests go: users have them by turns.
    pub(crate) servers: Vec<SocketAddr>,
    /// Host part of addresses-of-record.
    pub(crate) domain: String,
    /// Users are `u1` to `uN` with this secret each...
    pub(crate) users: u32,
    /// ...and are called at this number plus their own.
    pub(crate) first_extension: u32,
    /// The secret.
    pub(crate) secret: String,
}

impl Cast {
    /// The server of a user: there it registers, and from there it calls.
    pub(crate) fn home(&self, user: u32) -> SocketAddr {
        // Callees are the next users, so steps of one would give both sides of a call different servers always.
        let at = user as usize / 2 % self.servers.len().max(1);
        self.servers.get(at).copied().unwrap_or_else(|| ([127, 0, 0, 1], 0).into())
    }
}

/// What came of a [`Plan`]; counts and CPU are those of the measured time unless said otherwise.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Attempts begun.
    pub(crate) offered: u64,
    /// Attempts finished as they should be.
    pub(crate) completed: u64,
    /// Length of the measured time in seconds.
    pub(crate) seconds: f64,
    /// CPU time of the server.
    pub(crate) cpu: Duration,
    /// The same of each of its processes.
    pub(crate) cpus: Vec<Duration>,
    /// CPU time of the generator.
    pub(crate) own_cpu: Duration,
    /// All attempts begun, from the first to the last.
    pub(crate) all: u64,
    /// Failures of all attempts by cause.
    pub(crate) failures: BTreeMap<String, u64>,
    /// INVITE to its 200, or first REGISTER to 200.
    pub(crate) setup: Samples,
    /// BYE to its 200.
    pub(crate) closing: Samples,
    /// Repeats that the generator sent, of all attempts.
    pub(crate) repeats: u64,
    /// Calls that were begun again at another server.
    pub(crate) elsewhere: u64,
    /// The longest time that an attempt began too late: beyond some milliseconds the generator is the bottleneck.
    pub(crate) behind: Duration,
}

impl Report {
    /// Finished attempts a second.
    pub(crate) fn goodput(&self) -> f64 {
        self.completed as f64 / self.seconds
    }

    /// Server CPU seconds for a thousand finished attempts.
    pub(crate) fn cpu_per_thousand(&self) -> f64 {
        if self.completed == 0 { 0.0 } else { self.cpu.as_secs_f64() * 1000.0 / self.completed as f64 }
    }

    /// Failures of all attempts.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// One line for the run's log.
    pub(crate) fn line(&mut self) -> String {
        let cores = |cpu: Duration| 100.0 * cpu.as_secs_f64() / self.seconds;
        let (server, own) = (cores(self.cpu), cores(self.own_cpu));
        format!(
            "offered {:.0}/s, done {:.0}/s, server {server:.0}%, {:.4} s per 1000, generator {own:.0}%, set-up p50 {:.1} p99 {:.1} ms, \
             close p99 {:.1} ms, {} repeats, {:.1} ms behind, failed {} of {} {:?}",
            self.offered as f64 / self.seconds,
            self.goodput(),
            self.cpu_per_thousand(),
            self.setup.quantile_ms(0.5),
            self.setup.quantile_ms(0.99),
            self.closing.quantile_ms(0.99),
            self.repeats,
            self.behind.as_secs_f64() * 1e3,
            self.failed(),
            self.all,
            self.failures
        )
    }
}

/// The generator; keeps its sockets, so that what was registered stays reachable, from plan to plan.
pub(crate) struct Generator {
    callers: uac::Callers,
    callees: uas::Callees,
    /// What callers are asked.
    asked: uas::Callees,
    caller_wire: Wire,
    callee_wire: Wire,
}

/// The clock and the timers of a run, shared by both ends.
pub(crate) struct Desk {
    begin: Instant,
    /// Nanoseconds since the begin.
    now: u64,
    timers: BinaryHeap<Reverse<(u64, Timer)>>,
    /// What came of it so far.
    pub(crate) report: Report,
    measuring: bool,
    work: Work,
    /// What happened and nobody has taken yet.
    pub(crate) news: VecDeque<News>,
}

/// A timer due for an attempt (`key`); stale when the attempt's stamp has moved on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    whose: Whose,
    key: u64,
    stamp: u32,
}

/// A side of a call, as itself or as one that is asked something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Whose {
    Caller,
    Callee,
    Asked,
}

impl Desk {
    fn new(work: Work) -> Desk {
        Desk {
            begin: Instant::now(),
            now: 0,
            timers: BinaryHeap::new(),
            report: Report::default(),
            measuring: false,
            work,
            news: VecDeque::new(),
        }
    }

    /// Nobody asks for news of other work.
    fn tell(&mut self, news: News) {
        if matches!(self.work, Work::Talk { .. }) {
            self.news.push_back(news);
        }
    }

    fn after(&mut self, nanoseconds: u64, timer: Timer) {
        self.timers.push(Reverse((self.now + nanoseconds, timer)));
    }

    fn due(&mut self) -> Option<Timer> {
        let &Reverse((at, timer)) = self.timers.peek()?;
        if at > self.now {
            return None;
        }
        self.timers.pop();
        Some(timer)
    }

    fn fail(&mut self, cause: String) {
        *self.report.failures.entry(cause).or_default() += 1;
    }
}

impl Generator {
    /// Binds both ends.
    pub(crate) fn new(cast: Cast) -> io::Result<Generator> {
        let (caller_wire, callee_wire) = (Wire::bind()?, Wire::bind()?);
        let work = Work::Register { algorithm: Algorithm::Md5 };
        let callees = uas::Callees::new(Whose::Callee, callee_wire.port()?, work);
        let asked = uas::Callees::new(Whose::Asked, caller_wire.port()?, work);
        let callers = uac::Callers::new(cast, caller_wire.port()?, callee_wire.port()?);
        Ok(Generator { callers, callees, asked, caller_wire, callee_wire })
    }

    /// Begins work whose steps are ordered one by one.
    pub(crate) fn begin(&mut self, work: Work) -> Desk {
        self.callers.begin(work);
        self.callees.begin(work);
        self.asked.begin(work);
        Desk::new(work)
    }

    /// Begins a call.
    pub(crate) fn call(&mut self, desk: &mut Desk) {
        desk.report.all += 1;
        self.callers.attempt(self.caller_wire.outbox(), desk);
    }

    /// Has a side of a call hang up; `false`: it has no such call.
    pub(crate) fn hang_up(&mut self, call: CallKey, side: Whose, desk: &mut Desk) -> bool {
        match side {
            Whose::Callee => self.callees.hang_up(call, self.callee_wire.outbox(), desk),
            Whose::Caller | Whose::Asked => self.callers.hang_up(call, self.caller_wire.outbox(), desk),
        }
    }

    /// Reads what came, does what is due, sends what is to be sent; how much there was.
    pub(crate) fn turn(&mut self, desk: &mut Desk) -> io::Result<usize> {
        desk.now = desk.begin.elapsed().as_nanos() as u64;
        let Generator { callers, callees, asked, caller_wire, callee_wire } = self;
        let registering = matches!(desk.work, Work::Register { .. });
        let mut busy = callee_wire.receive(TURN, |datagram, from, wire| {
            let Some(view) = View::of(datagram) else { return };
            match view.status() {
                0 => callees.message(&view, from, wire, desk),
                _ if uac::Callers::names(&view) => callers.message(&view, from, wire, desk),
                _ => callees.response(&view, desk),
            }
        })?;
        busy += caller_wire.receive(TURN, |datagram, from, wire| {
            let Some(view) = View::of(datagram) else { return };
            if view.status() > 0 {
                return callers.message(&view, from, wire, desk);
            }
            callers.refresh(&view);
            asked.message(&view, from, wire, desk);
            if let (true, Some(call)) = (view.start.starts_with(b"BYE "), view.call()) {
                callers.hung_up(call, desk);
            }
        })?;
        while let Some(timer) = desk.due() {
            busy += 1;
            match timer.whose {
                Whose::Caller if registering => callers.timer(timer, callee_wire.outbox(), desk),
                Whose::Caller => callers.timer(timer, caller_wire.outbox(), desk),
                Whose::Callee => callees.timer(timer, callee_wire.outbox(), desk),
                Whose::Asked => asked.timer(timer, caller_wire.outbox(), desk),
            }
        }
        callee_wire.outbox().flush()?;
        caller_wire.outbox().flush()?;
        Ok(busy)
    }

    /// The port where callees listen.
    pub(crate) fn callee_port(&self) -> io::Result<u16> {
        self.callee_wire.port()
    }

    /// Registers every user once; an error unless all succeed.
    pub(crate) fn register_all(&mut self, algorithm: Algorithm, rate: u32) -> io::Result<()> {
        // A little longer than it takes: the last one must not be left out.
        let all = Duration::from_secs_f64(f64::from(self.callers.users() + 8) / f64::from(rate));
        let drain = Duration::from_secs(5);
        let plan =
            Plan { work: Work::Register { algorithm }, rate, warm_up: Duration::ZERO, measured: all, drain };
        let mut report = self.run(&plan, None)?;
        if report.failed() == 0 {
            Ok(())
        } else {
            Err(io::Error::other(format!("registrations failed: {}", report.line())))
        }
    }

    /// Whether the server answers yet: sends OPTIONS until anything comes back.
    pub(crate) fn wait_for_answer(&mut self, patience: Duration) -> io::Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < patience {
            let callers = &self.callers;
            let server = callers.cast.home(0);
            self.caller_wire.outbox().queue(server, |out| callers.options(server, out));
            self.caller_wire.outbox().flush()?;
            std::thread::sleep(Duration::from_millis(50));
            let mut answered = false;
            self.caller_wire.receive(TURN, |datagram, _, _| answered |= datagram.starts_with(b"SIP/2.0"))?;
            if answered {
                return Ok(());
            }
        }
        Err(io::Error::other("the server does not answer OPTIONS"))
    }

    /// Carries out a plan; CPU is read from `server`.
    pub(crate) fn run(&mut self, plan: &Plan, server: Option<&dyn Measured>) -> io::Result<Report> {
        let mut desk = self.begin(plan.work);
        let registering = matches!(plan.work, Work::Register { .. });
        let nanos = |duration: Duration| duration.as_nanos() as u64;
        let (from, until) = (nanos(plan.warm_up), nanos(plan.warm_up + plan.measured));
        let stop = until + nanos(plan.drain);
        let cpu = || (server.map_or(Vec::new(), Measured::cpus), cpu::own());
        let mut window: Option<((Vec<Duration>, Duration), u64)> = None;
        loop {
            desk.now = desk.begin.elapsed().as_nanos() as u64;
            if window.is_none() && desk.now >= from {
                window = Some((cpu(), desk.now));
                desk.measuring = true;
            }
            if desk.measuring && desk.now >= until {
                let (now, ((before, own_before), since)) = (cpu(), window.clone().unwrap_or_default());
                desk.measuring = false;
                let each = now.0.iter().zip(&before);
                desk.report.cpus = each.map(|(now, before)| now.saturating_sub(*before)).collect();
                desk.report.seconds = (desk.now - since) as f64 / 1e9;
                desk.report.cpu = desk.report.cpus.iter().sum();
                desk.report.own_cpu = now.1.saturating_sub(own_before);
            }
            let offering = desk.now < until;
            if !offering && (self.callers.open() == 0 || desk.now >= stop) {
                break;
            }
            let mut busy = 0;
            if offering {
                let due = (desk.now as f64 / 1e9 * f64::from(plan.rate)) as u64 + 1;
                let late =
                    desk.now.saturating_sub((desk.report.all as f64 / f64::from(plan.rate) * 1e9) as u64);
                if desk.measuring {
                    desk.report.behind = desk.report.behind.max(Duration::from_nanos(late));
                }
                let begun = due.saturating_sub(desk.report.all).min(TURN as u64);
                // Phones register from where they will be called.
                let wire = if registering { &mut self.callee_wire } else { &mut self.caller_wire };
                for _ in 0..begun {
                    desk.report.all += 1;
                    desk.report.offered += u64::from(desk.measuring);
                    self.callers.attempt(wire.outbox(), &mut desk);
                }
                busy += begun as usize;
            }
            busy += self.turn(&mut desk)?;
            if busy == 0 {
                std::thread::sleep(IDLE);
            }
        }
        self.callers.abandon(&mut desk);
        Ok(desk.report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Callers and callees face to face, without a server between them.
    fn alone() -> Generator {
        let cast = Cast {
            servers: vec![([127, 0, 0, 1], crate::udp::free_port().unwrap()).into()],
            domain: "bench.example".to_owned(),
            users: 10,
            first_extension: 1000,
            secret: "secret".to_owned(),
        };
        let mut generator = Generator::new(cast).unwrap();
        let callee = generator.callee_port().unwrap();
        generator.callers.cast.servers = vec![([127, 0, 0, 1], callee).into()];
        generator
    }

    #[test]
    fn every_call_between_its_two_ends_completes() {
        let work =
            Work::Call { hold: Duration::from_millis(20), ring: Duration::from_millis(5), bare: false };
        let plan = Plan {
            work,
            rate: 500,
            warm_up: Duration::ZERO,
            measured: Duration::from_millis(200),
            drain: Duration::from_secs(60),
        };
        let report = alone().run(&plan, None).unwrap();
        assert!(report.all >= 50, "{report:?}");
        assert_eq!((report.failed(), report.failures.len()), (0, 0), "{report:?}");
        assert!(report.completed > 0 && report.completed <= report.all);
    }

    #[test]
    fn registrations_that_nobody_understands_fail_with_their_status() {
        let work = Work::Register { algorithm: Algorithm::Md5 };
        let plan = Plan {
            work,
            rate: 100,
            warm_up: Duration::ZERO,
            measured: Duration::from_millis(50),
            drain: Duration::from_secs(60),
        };
        let mut generator = alone();
        // REGISTER comes to the callees, who refuse it.
        let report = generator.run(&plan, None).unwrap();
        assert_eq!(report.failures.get("REGISTER 501"), Some(&report.all), "{report:?}");
    }
}
