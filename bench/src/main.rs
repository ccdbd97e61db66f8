//! The benchmark: one command that measures Carillon beside its peers and prints a table.
//!
//! Start in [`suite`], where each measurement is; load comes from [`sipload`] and [`rtpload`].

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod carillon;
mod configuration;
mod cpu;
mod deployment;
mod digest;
mod kamailio;
mod parse;
mod placement;
mod population;
mod profile;
mod rating;
mod relays;
mod restload;
mod rtpengine;
mod rtpload;
mod sipload;
mod split;
mod suite;
mod survival;
mod table;
mod talk;
mod udp;

use crate::digest::Algorithm;
use crate::sipload::Work;
use crate::suite::{Side, Suite};
use crate::survival::Scenario;
use clap::{Parser, Subcommand, ValueEnum};
use std::io;

/// Measures Carillon beside Kamailio and rtpengine; as root it installs them from Debian packages when absent.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// Rounds of each measurement, each with a fresh server; medians are printed.
    #[arg(long, global = true, default_value_t = 3)]
    rounds: usize,
    /// Short rounds, for trying out.
    #[arg(long, global = true)]
    quick: bool,
    /// Measure one side alone.
    #[arg(long, global = true)]
    only: Option<Side>,
}

#[derive(Clone, Copy, PartialEq, Eq, Subcommand)]
enum What {
    /// Everything.
    All,
    /// SIP parsing.
    Parse,
    /// REGISTER with digest.
    Register,
    /// INVITE to BYE.
    Calls,
    /// Offered twice the most.
    Overload,
    /// Memory of established calls.
    Memory {
        /// Of each process of a cluster, beside the one process.
        #[arg(long)]
        cluster: bool,
    },
    /// Calls that talk while nodes of a cluster are killed, drained, stopped and started anew.
    Survival {
        /// Calls that talk.
        #[arg(long, default_value_t = 100)]
        calls: u32,
        /// One scenario alone.
        #[arg(long)]
        scenario: Option<Scenario>,
    },
    /// Proxy, application server and relay as processes beside one process.
    Split,
    /// What it costs to decide who serves what.
    Placement,
    /// What it costs to price a call, with a million prefixes.
    Rating,
    /// RTP.
    Relay,
    /// REST on 100,000 users, and the start with 1,000,000 endpoints.
    Configuration,
    /// REST on 100,000 users.
    Rest,
    /// The start with 1,000,000 endpoints.
    Start,
    /// Where our server's time goes.
    Profile {
        /// Under which load.
        #[arg(default_value = "calls")]
        load: Load,
        /// Attempts a second.
        #[arg(long, default_value_t = 1000)]
        rate: u32,
    },
    /// Two sockets that pass datagrams on: what a relay cannot undercut.
    #[command(hide = true)]
    ServeFloor { caller: u16, callee: u16 },
    /// A bare axum: what a REST server on it cannot undercut.
    #[command(hide = true)]
    ServeHello { port: u16 },
    /// Our relay with calls between two peers.
    #[command(hide = true)]
    ServeRelay { calls: usize, caller: u16, callee: u16 },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Load {
    Calls,
    Register,
}

/// A measurement of the suite.
type Step = fn(&mut Suite) -> io::Result<()>;

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let sides = arguments.only.map_or(vec![Side::Ours, Side::Peer], |side| vec![side]);
    let what = arguments.what.unwrap_or(What::All);
    let steps: &[Step] = match what {
        What::ServeFloor { caller, callee } => return relays::serve_floor(caller, callee),
        What::ServeRelay { calls, caller, callee } => return relays::serve_relay(calls, caller, callee),
        What::ServeHello { port } => return configuration::serve_hello(port),
        What::Profile { load, rate } => return profile_of(load, rate),
        What::Memory { cluster: true }
        | What::Survival { .. }
        | What::Split
        | What::Placement
        | What::Rating => {
            return with_own_table(what, arguments.rounds, arguments.quick);
        }
        What::All => &[
            Suite::parse,
            Suite::register,
            Suite::calls,
            Suite::overload,
            Suite::memory,
            Suite::relay,
            Suite::rest,
            Suite::start_up,
        ],
        What::Parse => &[Suite::parse],
        What::Register => &[Suite::register],
        What::Calls => &[Suite::calls],
        What::Overload => &[Suite::overload],
        What::Memory { .. } => &[Suite::memory],
        What::Relay => &[Suite::relay],
        What::Configuration => &[Suite::rest, Suite::start_up],
        What::Rest => &[Suite::rest],
        What::Start => &[Suite::start_up],
    };
    let rest = matches!(what, What::Configuration | What::Rest | What::Start);
    if sides.contains(&Side::Peer) && !rest {
        kamailio::install()?;
        rtpengine::install()?;
    }
    let needed = sides.contains(&Side::Ours) && !matches!(what, What::Parse | What::Relay);
    let carillon = if needed { Some(carillon::build()?) } else { None };
    let mut suite = Suite::new(arguments.rounds, arguments.quick, sides, carillon)?;
    for step in steps {
        step(&mut suite)?;
    }
    println!("{}, {} rounds\n", date()?, arguments.rounds);
    println!("{}\n\n{}", cpu::machine(), suite.table.markdown());
    Ok(())
}

/// What is measured of a cluster, and of a core alone, has tables of its own.
fn with_own_table(what: What, rounds: usize, quick: bool) -> io::Result<()> {
    let alone = matches!(what, What::Placement | What::Rating);
    let carillon = if alone { None } else { Some(carillon::build()?) };
    let mut suite = Suite::new(rounds, quick, vec![Side::Ours, Side::Peer], carillon)?;
    let text = match what {
        What::Survival { calls, scenario } => survival::run(&suite, calls, scenario.as_slice())?,
        What::Split => split::calls(&mut suite)?,
        What::Placement => placement::run(&suite)?,
        What::Rating => rating::run(&suite)?,
        _ => split::memory(&mut suite)?,
    };
    println!("{}, {rounds} rounds\n\n{}\n\n{text}", date()?, cpu::machine());
    Ok(())
}

fn profile_of(load: Load, rate: u32) -> io::Result<()> {
    let suite = Suite::new(1, false, vec![Side::Ours], Some(carillon::build()?))?;
    let algorithm = Algorithm::Md5;
    let (work, (server, mut generator)) = match load {
        Load::Calls => (suite::call(suite::HOLD), suite.switch(Side::Ours, false)?),
        Load::Register => (Work::Register { algorithm }, suite.registrar(Side::Ours, algorithm)?),
    };
    let plan = suite.plan(work, rate, 5, 10);
    profile::run(&server, &mut generator, &plan, &suite.directory)
}

/// Today, in UTC, as `date` says it.
fn date() -> io::Result<String> {
    let output = std::process::Command::new("date").args(["-u", "+%Y-%m-%d"]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
