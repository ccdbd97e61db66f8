//! `carillon`: the program. Arguments and runtime; each command in a room of its own.
//!
//! Elsewhere: the configuration file (`config`), the users' file (`users`), starting and stopping a node (`node`), as one of many (`clustered`), its
//! configuration (`kept`, and where that is: `place`), the operator's socket (`control`) and the command for it (`ctl`),
//! threads for requests (`apart`), what the API is told of the living system (`living`, from all nodes:
//! `asking`, `here`, `news`), letting go of everything (`drain`), the demonstration (`demo`), the
//! softphone on the command line (`phone_command`), call records on the command line (`cdrs`), those of a cluster (`records`), the log (`logging`), when
//! threads rest (`pace`), how it is watched (`watching`).

mod apart;
mod asking;
mod cdrs;
mod clustered;
mod config;
mod control;
mod ctl;
mod current;
mod demo;
mod drain;
mod here;
mod importing;
mod kept;
#[cfg(test)]
mod kept_tests;
mod limit;
mod listing;
mod living;
mod logging;
mod news;
mod node;
mod pace;
mod phone_command;
mod place;
mod records;
mod simulating;
mod users;
mod watching;

use clap::{Parser, Subcommand};
use config::NodeConfig;
use node::{Node, StartError, Users, known_passwords};
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// Exit code of a command whose output nobody reads on: what a shell says of a program that SIGPIPE has ended.
const UNREAD: i32 = 141;

/// Small messages by the million: mimalloc is faster here than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A telephony platform for providers in one program.
#[derive(Parser)]
#[command(name = "carillon", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a node with demo data and place a checked call between two built-in softphones.
    Demo(demo::Arguments),
    /// Run a node.
    Serve {
        /// Configuration file; deploy/carillon.toml shows every key.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// What the node does, instead of `roles` in the file: proxy,as,relay,portal or some of them.
        #[arg(long, value_name = "ROLES")]
        roles: Option<String>,
        /// Only check the configuration and the users' file that it names, not what the data directory holds.
        #[arg(long)]
        check: bool,
    },
    /// A softphone: register, call, answer, play and record audio.
    Phone(phone_command::Arguments),
    /// Read, change, watch, import, export, back up and restore the configuration of a node.
    Ctl(Box<ctl::Arguments>),
    /// List call records: those of a data directory that no node is using, or those of a cluster.
    Cdrs(cdrs::Arguments),
}

fn main() -> ExitCode {
    let code = match Arguments::parse().command {
        Command::Demo(arguments) => run(0, true, demo::run(arguments)),
        Command::Serve { config, roles, check } => serve(&config, roles, check),
        Command::Phone(arguments) => run(1, false, phone_command::run(arguments)),
        Command::Ctl(arguments) => ctl::start(*arguments),
        Command::Cdrs(arguments) => finish(cdrs::run(&arguments)),
    };
    logging::finish();
    code
}

fn serve(file: &std::path::Path, roles: Option<String>, check: bool) -> ExitCode {
    let (config, users) = match read_config(file, roles) {
        Ok(read) => read,
        Err(error) => return finish(Err(error)),
    };
    if check {
        tell(&format!("{}: nothing wrong", file.display()));
        return ExitCode::SUCCESS;
    }
    logging::start(&config.log.filter, config.log.json);
    run(config.threads, true, async move {
        let mut ending = Ending::listen()?;
        let node = Node::start(&config, users).await?;
        for (transport, address) in node.sip_addresses() {
            info!(%address, transport = transport.param_token(), "SIP");
        }
        if let Some(address) = node.api_address() {
            info!(%address, "API");
        }
        if let Some(address) = node.operate_address() {
            info!(%address, "health and metrics");
        }
        // A node goes on when nobody takes this; a command of the operator does not.
        let _ = writeln!(std::io::stdout(), "carillon is ready");
        ending.comes().await;
        info!("stopping");
        node.stop(ending.comes_again()).await;
        Ok(())
    })
}

/// The configuration with the users that it names, or every mistake of both.
fn read_config(file: &std::path::Path, roles: Option<String>) -> Result<(NodeConfig, Users), StartError> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        StartError(format!("--config {}: {error}; name a file that exists", file.display()))
    })?;
    let mut overrides = config::overrides();
    overrides.extend(roles.map(|roles| (config::ROLES.to_owned(), roles)));
    let (config, mut mistakes) = config::read_with(&text, &overrides);
    let mut users = Users::Kept;
    if let Some(file) = &config.users {
        match users::read(file) {
            Ok(read) => {
                let rows = read.rows(&model::rows::Rows::default());
                mistakes.extend(known_passwords("users.file", &file.display().to_string(), &rows, &config));
                users = Users::From(Box::new(read));
            }
            Err(more) => mistakes.extend(more),
        }
    }
    if mistakes.is_empty() {
        return Ok((config, users));
    }
    Err(StartError(config::list(&mistakes, &file.display().to_string())))
}

/// Runs a command on a runtime with so many worker threads; 0: one for each core. Those of a node rest under load.
fn run(threads: usize, is_node: bool, command: impl Future<Output = Result<(), StartError>>) -> ExitCode {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if threads > 0 {
        builder.worker_threads(threads);
    }
    if is_node {
        builder.on_thread_park(pace::rest);
    }
    match builder.enable_all().build() {
        Ok(runtime) => finish(runtime.block_on(command)),
        Err(error) => finish(Err(StartError(format!("cannot start threads: {error}")))),
    }
}

fn finish(result: Result<(), StartError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError(text)) => {
            complain(&format!("carillon: {text}"));
            ExitCode::FAILURE
        }
    }
}

/// SIGTERM and Ctrl-C, heard from when this is made: before that they end the process at once.
pub(crate) struct Ending {
    terminate: Signal,
    interrupt: Signal,
    came: bool,
}

impl Ending {
    pub(crate) fn listen() -> std::io::Result<Self> {
        let [terminate, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        Ok(Self { terminate: terminate?, interrupt: interrupt?, came: false })
    }

    /// One that has come.
    #[cfg(test)]
    pub(crate) fn come() -> std::io::Result<Self> {
        Ok(Self { came: true, ..Self::listen()? })
    }

    /// Returns when one comes from now on, whatever has come before.
    pub(crate) async fn comes_again(&mut self) {
        self.came = false;
        self.comes().await;
    }

    /// Returns when one has come; from then on at once.
    pub(crate) async fn comes(&mut self) {
        if !self.came {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            self.came = true;
        }
    }
}

/// What a command is asked for.
pub(crate) fn tell(line: &str) {
    let Err(error) = writeln!(std::io::stdout(), "{line}") else { return };
    // `carillon ctl … | head -1`: nobody reads on, so there is nothing left to do.
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(UNREAD);
    }
    complain(&format!("carillon: standard output: {error}"));
    std::process::exit(1);
}

/// Why a command failed.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}"); // there is nobody else to tell
}
