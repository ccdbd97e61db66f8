//! SIPp as a peer: scenarios of our own, put together from parts, run to their end.
//!
//! A scenario file is SIPp's XML with two additions: a line `@name key=value …` stands for the file `parts/name.xml`, and
//! `{{key}}` or `{{key|default}}` for a value, given by that line or by the test. Elsewhere: the scenarios (`sipp/`).

use crate::node::{NODE, Node};
use crate::place::Place;
use crate::process::Process;
use crate::{DOMAIN, PATIENCE};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A scenario ends itself after this time: whatever it waits for does not come.
const LIMIT_S: u32 = 45;
/// Nesting of parts.
const DEPTH_MAX: usize = 8;

/// A SIPp run to be started.
pub struct Sipp {
    scenario: String,
    values: BTreeMap<String, String>,
    arguments: Vec<String>,
    user: String,
    password: Option<String>,
    number: String,
    host: u8,
    tcp: bool,
    ipv6: bool,
    calls: u32,
    listens: bool,
    limit_s: u32,
}

impl Sipp {
    /// A scenario whose first message is sent, as alice (101) calling 102, from host part 2.
    pub fn caller(scenario: &str) -> Sipp {
        Sipp {
            scenario: scenario.to_owned(),
            values: BTreeMap::new(),
            arguments: Vec::new(),
            user: "alice".to_owned(),
            password: None,
            number: "102".to_owned(),
            host: 2,
            tcp: false,
            ipv6: false,
            calls: 1,
            listens: false,
            limit_s: LIMIT_S,
        }
    }

    /// A scenario that waits for its first message, as bob, on host part 3.
    pub fn callee(scenario: &str) -> Sipp {
        Sipp { user: "bob".to_owned(), host: 3, listens: true, ..Self::caller(scenario) }
    }

    /// Another user than usual; the password is the name.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// Another password than the user's name.
    #[must_use]
    pub fn password(mut self, password: String) -> Self {
        self.password = Some(password);
        self
    }

    /// Calls another number than 102.
    #[must_use]
    pub fn number(mut self, number: &str) -> Self {
        number.clone_into(&mut self.number);
        self
    }

    /// On another address.
    #[must_use]
    pub fn host(mut self, host: u8) -> Self {
        self.host = host;
        self
    }

    /// Over TCP.
    #[must_use]
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// Over IPv6.
    #[must_use]
    pub fn ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// So many calls one after another, at `rate` per second.
    #[must_use]
    pub fn calls(mut self, calls: u32, rate: u32) -> Self {
        self.calls = calls;
        self.arguments.extend(["-r".to_owned(), rate.to_string()]);
        self
    }

    /// Gives the scenario's `{{key}}` a value.
    #[must_use]
    pub fn value(mut self, key: &str, value: impl ToString) -> Self {
        self.values.insert(key.to_owned(), value.to_string());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Gives up later than usual.
    #[must_use]
    pub fn within(mut self, seconds: u32) -> Self {
        self.limit_s = seconds;
        self
    }

    /// Starts it; one that listens does so when this returns.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(self, node: &Node) -> SippRun {
        self.start_at(node.place(), node.folder(), NODE)
    }

    /// The same for a node at this host part of a place, with files in a folder.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_at(self, place: &Place, folder: &Path, node: u8) -> SippRun {
        let name = format!("{}-{}-{}", self.scenario, self.host, crate::endpoint::unique());
        let file = |extension: &str| folder.join(format!("{name}.{extension}"));
        let mut values = self.values.clone();
        for (key, value) in [("user", &self.user), ("number", &self.number), ("domain", &DOMAIN.to_owned())] {
            values.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
        std::fs::write(file("xml"), expand(&self.scenario, &values)).expect("the scenario can be written");
        let sip = |host| if self.ipv6 { place.sip6(host) } else { place.sip(host) };
        let (own, server) = (sip(self.host), sip(node));
        let mut command = Command::new("sipp");
        command.arg(server.to_string()).arg("-sf").arg(file("xml"));
        command.args(["-i", &own.ip().to_string(), "-p", &own.port().to_string()]);
        let audio = if self.ipv6 { place.audio6(self.host).port() } else { 31_000 };
        command.args(["-mi", &own.ip().to_string(), "-mp", &audio.to_string()]);
        command.args(["-t", if self.tcp { "t1" } else { "u1" }, "-m", &self.calls.to_string()]);
        let uri =
            self.values.get("digest-uri").cloned().unwrap_or_else(|| format!("{}@{DOMAIN}", self.number));
        command.args(["-auth_uri", &uri]);
        let password = self.password.as_ref().unwrap_or(&self.user);
        command.args(["-au", &self.user, "-ap", password, "-nostdin", "-timeout_error"]);
        command.args(["-timeout", &format!("{}s", self.limit_s)]);
        command.args(["-trace_err", "-error_file"]).arg(file("err"));
        command.args(["-trace_msg", "-message_file"]).arg(file("msg"));
        command.args(["-trace_stat", "-fd", "1", "-stf"]).arg(file("csv"));
        command.args(&self.arguments).current_dir(folder);
        let process = Process::start(format!("sipp {}", self.scenario), &mut command);
        let mut run = SippRun {
            process,
            files: [file("err"), file("msg")],
            figures: file("csv"),
            limit_s: self.limit_s,
            told: false,
        };
        if self.listens {
            run.wait_until_listening(own, self.tcp);
        }
        run
    }
}

/// A SIPp process.
pub struct SippRun {
    process: Process,
    files: [PathBuf; 2],
    figures: PathBuf,
    limit_s: u32,
    /// Its story is in the failure message.
    told: bool,
}

impl SippRun {
    /// Waits for its end, which must be a success of every call.
    ///
    /// # Panics
    /// When a call failed, with the ends of SIPp's logs.
    pub fn finish(mut self) {
        let ended = self.process.ended(Duration::from_secs(u64::from(self.limit_s)) + PATIENCE);
        if !ended.is_some_and(|status| status.success()) {
            self.told = true;
            panic!("{ended:?}; {}", self.story());
        }
    }

    /// Lets it begin no more calls, and waits until those that there are have ended, all as they should. How many there were.
    ///
    /// # Panics
    /// When one failed, with the ends of SIPp's logs.
    pub fn stop(self) -> usize {
        self.stop_with(0).0
    }

    /// The same, but that so many may fail. How many ended as they should, and how many failed.
    ///
    /// # Panics
    /// When more failed, with the ends of SIPp's logs.
    pub fn stop_with(mut self, failures: usize) -> (usize, usize) {
        self.process.signal("USR1");
        let ended = self.process.ended(Duration::from_secs(u64::from(self.limit_s)) + PATIENCE);
        let (done, failed) = (self.figure("SuccessfulCall(C)"), self.figure("FailedCall(C)"));
        if ended.is_none() || failed > failures {
            self.told = true;
            panic!("{ended:?}, {failed} calls of {} failed; {}", done + failed, self.story());
        }
        (done, failed)
    }

    /// Of SIPp's table of figures, which it writes once a second and at its end.
    fn figure(&self, column: &str) -> usize {
        let table = std::fs::read_to_string(&self.figures).unwrap_or_default();
        let mut lines = table.lines();
        let at = lines.next().and_then(|head| head.split(';').position(|name| name == column));
        let value = at.and_then(|at| lines.next_back()?.split(';').nth(at)?.parse().ok());
        value.unwrap_or_else(|| panic!("no {column} in SIPp's figures: {table}"))
    }

    /// Waits until it has so many calls more that went as they should.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn until_more(&mut self, count: usize) {
        let wanted = self.done() + count;
        let end = Instant::now() + PATIENCE * 2;
        while self.done() < wanted {
            assert!(self.process.is_alive() && Instant::now() < end, "too few calls; {}", self.story());
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn done(&self) -> usize {
        let is_there = std::fs::read_to_string(&self.figures).is_ok_and(|table| table.lines().count() > 1);
        if is_there { self.figure("SuccessfulCall(C)") } else { 0 }
    }

    fn story(&self) -> String {
        format!(
            "{}\nits errors:\n{}\nits messages:\n{}",
            self.process.tail(12),
            tail(&self.files[0], 40),
            tail(&self.files[1], 400)
        )
    }

    /// The system's table of sockets says when it is there; asking by packets would disturb the scenario.
    fn wait_until_listening(&mut self, own: SocketAddr, tcp: bool) {
        let mut table = if tcp { "/proc/net/tcp" } else { "/proc/net/udp" }.to_owned();
        let mut address = String::new();
        let octets = match own.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => {
                table.push('6');
                ip.octets().to_vec()
            }
        };
        for word in octets.chunks_exact(4) {
            let word = u32::from_ne_bytes(word.try_into().expect("a chunk of four"));
            let _ = write!(address, "{word:08X}");
        }
        let wanted = format!("{address}:{:04X} ", own.port());
        let deadline = Instant::now() + PATIENCE;
        while !std::fs::read_to_string(&table).unwrap_or_default().lines().any(|line| is_own(line, &wanted)) {
            assert!(
                self.process.is_alive() && Instant::now() < deadline,
                "it does not listen; {}",
                self.story()
            );
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

/// When a test fails, what the other side saw is half of the story.
impl Drop for SippRun {
    #[expect(clippy::print_stderr, reason = "a second panic would end the whole test program")]
    fn drop(&mut self) {
        if std::thread::panicking() && !self.told {
            eprintln!("{}", self.story());
        }
    }
}

fn is_own(line: &str, wanted: &str) -> bool {
    line.split_once(": ").is_some_and(|(_, rest)| rest.starts_with(wanted))
}

fn tail(file: &Path, count: usize) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The XML that SIPp gets.
///
/// # Panics
/// When a part or a value is missing: the scenario is wrong.
pub fn expand(scenario: &str, values: &BTreeMap<String, String>) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sipp");
    insert(&folder, &folder.join(format!("{scenario}.xml")), values, 0)
}

fn insert(folder: &Path, file: &Path, values: &BTreeMap<String, String>, depth: usize) -> String {
    assert!(depth < DEPTH_MAX, "{}: parts within parts within parts", file.display());
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut out = String::new();
    for line in text.lines() {
        let line = fill(line, values, file);
        let Some(part) = line.trim_start().strip_prefix('@') else {
            let _ = writeln!(out, "{line}");
            continue;
        };
        let mut words = part.split_whitespace();
        let name = words.next().unwrap_or_default();
        let mut own = values.clone();
        own.extend(
            words
                .filter_map(|word| word.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        out.push_str(&insert(folder, &folder.join("parts").join(format!("{name}.xml")), &own, depth + 1));
    }
    out
}

fn fill(line: &str, values: &BTreeMap<String, String>, file: &Path) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("{{") {
        let (key, after) = after.split_once("}}").expect("what is opened by {{ is closed by }}");
        let (key, default) = key.split_once('|').map_or((key, None), |(key, default)| (key, Some(default)));
        let value = values.get(key).map(String::as_str).or(default);
        out.push_str(before);
        out.push_str(value.unwrap_or_else(|| panic!("{}: no value for {key}", file.display())));
        rest = after;
    }
    out + rest
}
