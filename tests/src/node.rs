//! A node: `carillon serve` as a process with a configuration, users and data directory of its own.
//!
//! In: a [`Setup`]. Out: where it listens, how it ends, the call records it left. Elsewhere: processes (`process`).

use crate::PATIENCE;
use crate::place::{Place, SIP_PORT};
use crate::process::Process;
use crate::records::Records;
use model::entity::{Extension, ExtensionRoute, Secret, Terminal, User};
use model::{Configuration, Id};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Host part of the node's address.
pub const NODE: u8 = 1;

/// The program under test: `CARILLON_BIN`, else the release build of this workspace, made if need be.
pub fn carillon() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("CARILLON_BIN") {
        Some(path) => PathBuf::from(path),
        None => built(),
    })
}

/// Cargo itself knows whether the release build is fresh; tests of several processes queue at its lock.
fn built() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top.join("target"), PathBuf::from);
    let program = target.join("release").join("carillon");
    if !program.is_file() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--release", "--package", "carillon"]).current_dir(top);
        let status = build.env("CARGO_TARGET_DIR", &target).status();
        assert!(status.is_ok_and(|status| status.success()), "the release build failed: {build:?}");
    }
    program
}

/// The arguments of a demonstration at this place, with an API of its own, for several at a time.
pub fn demo(sip: &SocketAddr, more: &[&'static str]) -> Command {
    let mut command = Command::new(carillon());
    command.args(["demo", "--sip", &sip.to_string(), "--media-ports", "20000-20999", "--api", "127.0.0.1:0"]);
    command.args(more);
    command
}

/// Runs the program to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(carillon())
        .args(arguments)
        .env_remove("RUST_LOG")
        .output()
        .expect("the program can be started")
}

/// One more user with terminal `name`, password `name` and this extension.
///
/// # Panics
/// When the number is none.
pub fn add_user(users: &mut Configuration, name: &str, number: &str) {
    let id = u32::try_from(users.users.len() + 1).expect("few users");
    let mut user = users.users[0].clone();
    user.id = Id::new(id);
    (user.first_name, user.last_name) = (name.to_owned(), String::new());
    (user.terminal, user.extension) = (Some(Id::new(id)), Some(Id::new(id)));
    let client = user.client;
    users.users.push(user);
    let secret = Secret::new(name);
    users.terminals.push(Terminal { id: Id::new(id), client, name: name.to_owned(), secret });
    users.extensions.push(Extension {
        id: Id::new(id),
        client,
        number: number.parse().expect("the test gives a right number"),
        route: ExtensionRoute::User(Id::new(id)),
    });
}

/// What a node shall be. The users are those of the demo: alice (101) and bob (102), their names being their passwords.
pub struct Setup {
    users: Configuration,
    has_users: bool,
    listen: fn(&Place) -> Vec<String>,
    media_ports: fn(&Place) -> String,
    workers: u8,
    media: String,
    sip: String,
    algorithms: Option<String>,
    log: String,
    sections: String,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            users: Configuration::demo(),
            has_users: true,
            listen: |place| ["udp", "tcp"].map(|way| format!("\"{way}:{}\"", place.sip(NODE))).into(),
            media_ports: |_| "20000-24999".to_owned(),
            workers: 2,
            media: String::new(),
            sip: String::new(),
            algorithms: None,
            log: "info".to_owned(),
            sections: String::new(),
        }
    }
}

impl Setup {
    /// Changes the user of this name (`alice`, `bob`, or one that was added).
    #[must_use]
    pub fn user(mut self, name: &str, change: impl FnOnce(&mut User)) -> Self {
        let terminal =
            self.users.terminals.iter().find(|terminal| terminal.name == name).map(|terminal| terminal.id);
        let user =
            self.users.users.iter_mut().find(|user| user.terminal.is_some() && user.terminal == terminal);
        change(user.expect("the test names a user that exists"));
        self
    }

    /// One more user with terminal `name`, password `name` and this extension.
    #[must_use]
    pub fn add(mut self, name: &str, number: &str) -> Self {
        add_user(&mut self.users, name, number);
        self
    }

    /// Without a users' file: a new node has nobody, and keeps whom it gets.
    #[must_use]
    pub fn without_users(mut self) -> Self {
        self.has_users = false;
        self
    }

    /// Where it listens, as entries of the file's list; UDP and TCP on its own address unless set.
    #[must_use]
    pub fn listen(mut self, entries: fn(&Place) -> Vec<String>) -> Self {
        self.listen = entries;
        self
    }

    /// The relay's ports, `FROM-TO`.
    #[must_use]
    pub fn media_ports(mut self, ports: fn(&Place) -> String) -> Self {
        self.media_ports = ports;
        self
    }

    /// One more line of `[media]`.
    #[must_use]
    pub fn media(mut self, line: &str) -> Self {
        self.media.push_str(line);
        self.media.push('\n');
        self
    }

    /// One more line of `[sip]`.
    #[must_use]
    pub fn sip(mut self, line: &str) -> Self {
        self.sip.push_str(line);
        self.sip.push('\n');
        self
    }

    /// SIP workers; two unless set. Answers of one keep the order of the questions.
    #[must_use]
    pub fn workers(mut self, count: u8) -> Self {
        self.workers = count;
        self
    }

    /// What challenges offer, as a TOML list; unless set, the program's default, with which SIPp and baresip must work.
    #[must_use]
    pub fn algorithms(mut self, list: &str) -> Self {
        self.algorithms = Some(list.to_owned());
        self
    }

    /// What is logged; `info` unless set.
    #[must_use]
    pub fn log(mut self, filter: &str) -> Self {
        self.log = filter.to_owned();
        self
    }

    /// More text of the configuration file: whole sections, of `[registrar]` and `[limits]`.
    #[must_use]
    pub fn with(mut self, section: &str) -> Self {
        self.sections.push_str(section);
        self.sections.push('\n');
        self
    }

    /// Starts the node and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn start(self) -> Node {
        let place = Place::take();
        let folder =
            tempfile::Builder::new().prefix("carillon-test-").tempdir().expect("a temporary directory");
        let users = folder.path().join("users.toml");
        let text = toml::to_string(&self.users).expect("the configuration has a TOML form");
        std::fs::write(&users, text).expect("the users' file can be written");
        let config = folder.path().join("carillon.toml");
        std::fs::write(&config, self.file(&place, &folder.path().join("data"), &users))
            .expect("a file can be written");
        let process = serve(&config);
        Node { place, process: Some(process), config, folder }
    }

    fn file(&self, place: &Place, data: &Path, users: &Path) -> String {
        let algorithms = self.algorithms.as_ref().map(|list| format!("[auth]\nalgorithms = {list}\n"));
        let users = if self.has_users { format!("[users]\nfile = {users:?}\n") } else { String::new() };
        format!(
            "[node]\ndata = {data:?}\n[sip]\nworkers = {}\nlisten = [{}]\n{}[media]\nports = {:?}\n{}\
             {users}[log]\nfilter = {:?}\n\
             {}{}",
            self.workers,
            (self.listen)(place).join(", "),
            self.sip,
            (self.media_ports)(place),
            self.media,
            self.log,
            algorithms.unwrap_or_default(),
            self.sections
        )
    }
}

fn serve(config: &Path) -> Process {
    let mut command = Command::new(carillon());
    command.arg("serve").arg("--config").arg(config).env_remove("RUST_LOG");
    let process = Process::start("carillon", &mut command);
    assert!(
        process.line_with("carillon is ready", PATIENCE).is_some(),
        "the node does not start; {}",
        process.tail(40)
    );
    process
}

/// A node that runs, or ran.
pub struct Node {
    place: Place,
    process: Option<Process>,
    config: PathBuf,
    folder: TempDir,
}

impl Node {
    /// A node with the demo's users.
    pub fn start() -> Node {
        Setup::default().start()
    }

    /// The addresses of this test.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where it hears SIP, UDP and TCP.
    pub fn sip(&self) -> SocketAddr {
        self.place.sip(NODE)
    }

    /// Its only address.
    pub fn ip(&self) -> IpAddr {
        self.place.ip(NODE)
    }

    /// A directory for files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its process.
    ///
    /// # Panics
    /// When it was stopped.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the test stopped the node before")
    }

    /// Resident memory in KiB.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resident_kib(&mut self) -> u64 {
        let id = self.process().id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        kib.unwrap_or_else(|| panic!("the node is gone; {}", self.process().tail(40)))
    }

    /// SIGTERM, a tidy end with exit code 0, and the call records.
    ///
    /// # Panics
    /// When it does not end so.
    pub fn stop(&mut self) -> Records {
        let mut process = self.process.take().expect("the test stopped the node before");
        process.terminate();
        let ended = process.ended(PATIENCE);
        assert!(
            ended.is_some_and(|status| status.success()),
            "the node ended with {ended:?}; {}",
            process.tail(60)
        );
        let log = process.lines();
        let panics: Vec<_> =
            log.iter().filter(|line| line.contains("panicked at") || line.contains("ERROR")).collect();
        assert!(panics.is_empty(), "the node's log has errors:\n{panics:#?}");
        Records::read(&self.data())
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// When it was stopped before.
    pub fn kill(&mut self) {
        self.process.take().expect("the test stopped the node before").kill();
    }

    /// Starts it again with the same configuration and data.
    ///
    /// # Panics
    /// When it runs, or does not get ready.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "it runs");
        debug_assert_eq!(self.sip().port(), SIP_PORT);
        self.process = Some(serve(&self.config));
    }
}
