//! The configuration: REST on a client with many users beside a bare axum, and the start with many endpoints.
//!
//! In: a data directory of `population`. Out: rows of the table. Elsewhere: the load (`restload`).

use crate::cpu::{Measured as _, Server};
use crate::population;
use crate::restload::{self, Request};
use crate::suite::{Pair, Side, Suite};
use crate::table::Figure;
use crate::udp;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ChildStdout;
use std::time::{Duration, Instant};

/// Users of the client that is asked for.
const USERS: u32 = 100_000;
/// Endpoints of the start.
const ENDPOINTS: u32 = 1_000_000;
/// Those of them that have a user and an extension.
const WITH_USERS: u32 = 100_000;
/// Connections at a time.
const CONNECTIONS: [u32; 2] = [1, 16];
/// Where the server is while a generator has the other core.
const ONE_CORE: &str = "0";
/// Where it starts.
const BOTH_CORES: &str = "0,1";
const MIB: f64 = 1_048_576.0;
/// A start takes no longer.
const PATIENCE: Duration = Duration::from_secs(600);

/// A server that has said that it is ready.
struct Ready {
    server: Server,
    api: SocketAddr,
    took: Duration,
    /// Kept open: the server writes to it.
    _output: BufReader<ChildStdout>,
}

/// Starts a program and waits for its first line, by which it is ready.
fn start(
    cores: &str,
    program: &Path,
    arguments: &[String],
    api: SocketAddr,
    directory: &Path,
) -> io::Result<Ready> {
    let began = Instant::now();
    let mut server = Server::start_on(cores, program, arguments, directory)?;
    let mut output = BufReader::new(server.output()?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let took = began.elapsed();
    server.check()?;
    if line.is_empty() || took > PATIENCE {
        return Err(io::Error::other(format!("{}: not ready after {took:?}", program.display())));
    }
    Ok(Ready { server, api, took, _output: output })
}

/// `carillon serve` with this data directory.
fn carillon(cores: &str, program: &Path, data: &Path, directory: &Path) -> io::Result<Ready> {
    let (sip, api) = (udp::free_port()?, free_port()?);
    let file = directory.join("carillon.toml");
    let text = format!(
        "[node]\ndata = {data:?}\n\n[sip]\nlisten = [\"udp:127.0.0.1:{sip}\"]\n\n[media]\naddress = \"127.0.0.1\"\n\
         ports = \"20000-20999\"\n\n[api]\nlisten = \"{api}\"\n\n[log]\nfilter = \"warn\"\n"
    );
    std::fs::write(&file, text)?;
    let arguments = ["serve".to_owned(), "--config".to_owned(), file.display().to_string()];
    start(cores, program, &arguments, api, directory)
}

/// This program as a bare axum.
fn hello(directory: &Path) -> io::Result<Ready> {
    let api = free_port()?;
    let arguments = ["serve-hello".to_owned(), api.port().to_string()];
    start(ONE_CORE, &std::env::current_exe()?, &arguments, api, directory)
}

/// A bare axum that says hello. Never returns unless it fails.
pub(crate) fn serve_hello(port: u16) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let router = axum::Router::new().route("/hello", axum::routing::get(async || "hello"));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        writeln!(io::stdout(), "ready")?;
        axum::serve(listener, router).await
    })
}

/// A loopback address that nobody listens at.
fn free_port() -> io::Result<SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// What is asked for again and again: a name, and the request with a number.
type Work = (&'static str, fn(u32, &str) -> Request);

/// Users have the numbers from 3 on; two are the demo's.
fn user(number: u32) -> u32 {
    3 + number.wrapping_mul(7919) % USERS
}

const WORKS: [Work; 6] = [
    ("GET an item", |number, token| {
        Request::new("GET", &format!("/api/client/users/{}", user(number)), token, "")
    }),
    ("GET a page of 30", |number, token| {
        Request::new("GET", &format!("/api/client/users?_page={}", 1 + number % 100), token, "")
    }),
    ("GET a page of 30 by id", |number, token| {
        let path = format!("/api/client/users?_order[id]=asc&_page={}", 1 + number % 100);
        Request::new("GET", &path, token, "")
    }),
    ("GET a list with a filter by a part of a text", |number, token| {
        let path = format!("/api/client/users?lastname[partial]=er{:03}", number % 1000);
        Request::new("GET", &path, token, "")
    }),
    ("GET a list ordered by another field", |number, token| {
        let path = format!("/api/client/users?_order[lastname]=desc&_page={}", 1 + number % 100);
        Request::new("GET", &path, token, "")
    }),
    ("PUT one field of an item", |number, token| {
        let body = format!("{{\"maxCalls\":{}}}", 1 + number % 50);
        Request::new("PUT", &format!("/api/client/users/{}", user(number)), token, &body)
    }),
];

fn log_in(api: SocketAddr) -> io::Result<String> {
    let body = serde_json::json!({ "username": population::ADMINISTRATOR, "password": population::PASSWORD });
    let answer =
        restload::once(api, &Request::new("POST", "/api/client/admin_login", "", &body.to_string()))?;
    let answer: serde_json::Value = serde_json::from_str(&answer).map_err(io::Error::other)?;
    answer["token"].as_str().map(str::to_owned).ok_or_else(|| io::Error::other("the login gives no token"))
}

/// Figures of one request on so many connections.
#[derive(Default)]
struct Figures {
    rate: Pair,
    median: Pair,
    p99: Pair,
}

impl Figures {
    fn push(&mut self, side: Side, answers: &restload::Answers) {
        self.rate.push(side, answers.rate);
        self.median.push(side, answers.median);
        self.p99.push(side, answers.p99);
    }
}

impl Suite {
    /// Requests to a client of 100,000 users beside a bare axum that says hello.
    pub(crate) fn rest(&mut self) -> io::Result<()> {
        let data = self.directory.join("rest");
        eprintln!("configuration: making {USERS} users");
        let rows = population::make(&data, USERS, USERS)?;
        let mut figures: Vec<Figures> =
            (0..WORKS.len() * CONNECTIONS.len()).map(|_| Figures::default()).collect();
        let mut foreign = Pair::default();
        for _ in 0..self.rounds {
            let carillon = carillon(ONE_CORE, self.ours()?, &data, &self.directory)?;
            let token = log_in(carillon.api)?;
            let hello = hello(&self.directory)?;
            let places = WORKS.iter().flat_map(|work| CONNECTIONS.map(|connections| (work, connections)));
            for (((name, request), connections), figures) in places.zip(&mut figures) {
                let (warm_up, measured) = self.spans();
                let ours = restload::run(carillon.api, connections, warm_up, measured, |number| {
                    request(number, &token)
                })?;
                let hi = |_| Request::new("GET", "/hello", "", "");
                let theirs = restload::run(hello.api, connections, warm_up / 2, measured / 2, hi)?;
                eprintln!(
                    "configuration: {name}, {connections} connections: {:.0}/s, {:.2} ms, p99 {:.2} ms; hello {:.0}/s, {:.2} ms",
                    ours.rate, ours.median, ours.p99, theirs.rate, theirs.p99
                );
                figures.push(Side::Ours, &ours);
                figures.push(Side::Peer, &theirs);
            }
            // The time must not tell whether somebody else has such a row.
            for (side, id) in [(Side::Ours, population::FOREIGN_TERMINAL), (Side::Peer, u32::MAX - 1)] {
                let (warm_up, measured) = self.spans();
                let answers = restload::run(carillon.api, 1, warm_up, measured, |_| {
                    Request::new("GET", &format!("/api/client/terminals/{id}"), &token, "").in_vain()
                })?;
                foreign.push(side, answers.median * 1000.0);
            }
        }
        self.row("GET another client's row, median".to_owned(), "us", "a row that is not there", foreign);
        let places = WORKS.iter().flat_map(|work| CONNECTIONS.map(|connections| (work, connections)));
        for (((name, _), connections), figures) in places.zip(figures) {
            let what = format!("{name}, {connections} connection{}", if connections == 1 { "" } else { "s" });
            self.row(what.clone(), "/s", "axum hello", figures.rate);
            self.row(format!("{what}, median"), "ms", "axum hello", figures.median);
            self.row(format!("{what}, p99"), "ms", "axum hello", figures.p99);
        }
        eprintln!("configuration: there were {rows} rows");
        std::fs::remove_dir_all(data)
    }

    /// The start with a million endpoints, and their memory; a tenth of them in short rounds.
    pub(crate) fn start_up(&mut self) -> io::Result<()> {
        let share = if self.quick { 10 } else { 1 };
        let (endpoints, users) = (ENDPOINTS / share, WITH_USERS / share);
        let (empty, full) = (self.directory.join("start-empty"), self.directory.join("start-full"));
        eprintln!("configuration: making {endpoints} endpoints");
        let few = population::make(&empty, 0, 0)?;
        let rows = population::make(&full, endpoints, users)? - few;
        let (mut took, mut work) = (Pair::default(), Pair::default());
        let (mut of_endpoint, mut of_row) = (Figure::default(), Figure::default());
        for _ in 0..self.rounds {
            let base = carillon(BOTH_CORES, self.ours()?, &empty, &self.directory)?;
            let ready = carillon(BOTH_CORES, self.ours()?, &full, &self.directory)?;
            let octets = ready.server.memory_kib().saturating_sub(base.server.memory_kib()) as f64 * 1024.0;
            for (side, one) in [(Side::Ours, &ready), (Side::Peer, &base)] {
                took.push(side, one.took.as_secs_f64());
                work.push(side, one.server.cpu().as_secs_f64());
            }
            let (took, cpu) = (ready.took.as_secs_f64(), ready.server.cpu().as_secs_f64());
            eprintln!(
                "configuration: ready after {took:.2} s, {cpu:.2} s of CPU, {:.0} MiB more",
                octets / MIB
            );
            of_endpoint.push(octets / f64::from(endpoints));
            of_row.push(octets / rows as f64);
        }
        let what = format!("start with {endpoints} endpoints, {users} with a user ({rows} rows)");
        self.row(what.clone(), "s", "without any", took);
        self.row(format!("{what}, CPU"), "s", "without any", work);
        let what = "memory of an endpoint, users and what is theirs shared out";
        self.table.row(what, "octets", of_endpoint, "-", Figure::default());
        self.table.row("memory of a row", "octets", of_row, "-", Figure::default());
        std::fs::remove_dir_all(empty)?;
        std::fs::remove_dir_all(full)
    }

    fn spans(&self) -> (Duration, Duration) {
        let seconds = if self.quick { 2 } else { 5 };
        (Duration::from_millis(500), Duration::from_secs(seconds))
    }
}
