//! A SIP load generator: callers and callees on two sockets of one thread, open loop.
//!
//! In: a [`Plan`]. Out: a [`Report`]. The offered rate is kept whatever the server does; both ends keep the timers of
//! RFC 3261 section 17. What callers say is in [`uac`], what callees say in [`uas`], reading messages in [`view`].

mod uac;
mod uas;
mod view;

use crate::cpu::{self, Server};
use crate::digest::Algorithm;
use crate::udp::{Samples, Wire};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

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
}

impl Work {
    /// What both ends describe their media by.
    fn sdp(self) -> &'static str {
        let media = uac::SDP.find("m=").unwrap_or(uac::SDP.len());
        match self {
            Work::Call { bare: true, .. } => &uac::SDP[..media],
            Work::Call { bare: false, .. } | Work::Register { .. } => uac::SDP,
        }
    }
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
    /// Where requests go.
    pub(crate) server: SocketAddr,
    /// Host part of addresses-of-record.
    pub(crate) domain: String,
    /// Users are `u1` to `uN` with this secret each...
    pub(crate) users: u32,
    /// ...and are called at this number plus their own.
    pub(crate) first_extension: u32,
    /// The secret.
    pub(crate) secret: String,
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
    caller_wire: Wire,
    callee_wire: Wire,
}

/// The clock and the timers of a run, shared by both ends.
struct Desk {
    now: u64,
    timers: BinaryHeap<Reverse<(u64, Timer)>>,
    report: Report,
    measuring: bool,
}

/// A timer due for an attempt (`key`); stale when the attempt's stamp has moved on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    whose: Whose,
    key: u64,
    stamp: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Caller,
    Callee,
}

impl Desk {
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
        let (caller_wire, callee_wire) = (Wire::to(cast.server)?, Wire::to(cast.server)?);
        let callees = uas::Callees::new(callee_wire.port()?);
        let callers = uac::Callers::new(cast, caller_wire.port()?, callee_wire.port()?);
        Ok(Generator { callers, callees, caller_wire, callee_wire })
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
            self.caller_wire.outbox().queue(|out| callers.options(out));
            self.caller_wire.outbox().flush()?;
            std::thread::sleep(Duration::from_millis(50));
            let mut answered = false;
            self.caller_wire.receive(TURN, |datagram, _| answered |= datagram.starts_with(b"SIP/2.0"))?;
            if answered {
                return Ok(());
            }
        }
        Err(io::Error::other("the server does not answer OPTIONS"))
    }

    /// Carries out a plan; CPU is read from `server`.
    pub(crate) fn run(&mut self, plan: &Plan, server: Option<&Server>) -> io::Result<Report> {
        let Generator { callers, callees, caller_wire, callee_wire } = self;
        callers.begin(plan.work);
        callees.begin(plan.work);
        let mut desk =
            Desk { now: 0, timers: BinaryHeap::new(), report: Report::default(), measuring: false };
        let registering = matches!(plan.work, Work::Register { .. });
        let begin = Instant::now();
        let nanos = |duration: Duration| duration.as_nanos() as u64;
        let (from, until) = (nanos(plan.warm_up), nanos(plan.warm_up + plan.measured));
        let stop = until + nanos(plan.drain);
        let cpu = || (server.map_or(Duration::ZERO, Server::cpu), cpu::own());
        let mut window: Option<((Duration, Duration), u64)> = None;
        loop {
            desk.now = begin.elapsed().as_nanos() as u64;
            if window.is_none() && desk.now >= from {
                window = Some((cpu(), desk.now));
                desk.measuring = true;
            }
            if desk.measuring && desk.now >= until {
                let (now, ((server_before, own_before), since)) = (cpu(), window.unwrap_or_default());
                desk.measuring = false;
                desk.report.seconds = (desk.now - since) as f64 / 1e9;
                desk.report.cpu = now.0.saturating_sub(server_before);
                desk.report.own_cpu = now.1.saturating_sub(own_before);
            }
            let offering = desk.now < until;
            if !offering && (callers.open() == 0 || desk.now >= stop) {
                break;
            }
            let mut busy = callee_wire.receive(TURN, |datagram, wire| {
                if datagram.starts_with(b"SIP/2.0 ") {
                    callers.message(datagram, wire, &mut desk);
                } else {
                    callees.message(datagram, wire, &mut desk);
                }
            })?;
            busy += caller_wire.receive(TURN, |datagram, wire| callers.message(datagram, wire, &mut desk))?;
            while let Some(timer) = desk.due() {
                busy += 1;
                match timer.whose {
                    Whose::Caller if registering => callers.timer(timer, callee_wire.outbox(), &mut desk),
                    Whose::Caller => callers.timer(timer, caller_wire.outbox(), &mut desk),
                    Whose::Callee => callees.timer(timer, callee_wire.outbox(), &mut desk),
                }
            }
            if offering {
                let due = (desk.now as f64 / 1e9 * f64::from(plan.rate)) as u64 + 1;
                let late =
                    desk.now.saturating_sub((desk.report.all as f64 / f64::from(plan.rate) * 1e9) as u64);
                if desk.measuring {
                    desk.report.behind = desk.report.behind.max(Duration::from_nanos(late));
                }
                let begun = due.saturating_sub(desk.report.all).min(TURN as u64);
                // Phones register from where they will be called.
                let wire = if registering { &mut *callee_wire } else { &mut *caller_wire };
                for _ in 0..begun {
                    desk.report.all += 1;
                    desk.report.offered += u64::from(desk.measuring);
                    callers.attempt(wire.outbox(), &mut desk);
                }
                busy += begun as usize;
            }
            callee_wire.outbox().flush()?;
            caller_wire.outbox().flush()?;
            if busy == 0 {
                std::thread::sleep(IDLE);
            }
        }
        callers.abandon(&mut desk);
        Ok(desk.report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Callers and callees face to face, without a server between them.
    fn alone() -> Generator {
        let cast = Cast {
            server: ([127, 0, 0, 1], crate::udp::free_port().unwrap()).into(),
            domain: "bench.example".to_owned(),
            users: 10,
            first_extension: 1000,
            secret: "secret".to_owned(),
        };
        let mut generator = Generator::new(cast).unwrap();
        let (caller, callee) = (generator.caller_wire.port().unwrap(), generator.callee_port().unwrap());
        generator.caller_wire.aim(([127, 0, 0, 1], callee).into());
        generator.callee_wire.aim(([127, 0, 0, 1], caller).into());
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
        // REGISTER goes out by the callees' socket: let it come back to the callees, who refuse it.
        let callee = generator.callee_port().unwrap();
        generator.callee_wire.aim(([127, 0, 0, 1], callee).into());
        let report = generator.run(&plan, None).unwrap();
        assert_eq!(report.failures.get("REGISTER 501"), Some(&report.all), "{report:?}");
    }
}
