//! A cluster of real processes: etcd, PostgreSQL, and nodes with roles of their own, each at an address of the loopback.
//!
//! In: which nodes there shall be. Out: processes that a measurement watches, kills, ends and starts again. Everything ends with its
//! value. Elsewhere: the same for tests (package `system-tests`), one process alone (`carillon`).

use crate::carillon;
use crate::cpu::{self, Measured, Server};
use crate::sipload::Cast;
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where each node hears SIP, other nodes, and who asks how it is.
const SIP: u16 = 5062;
const PEERS: u16 = 7400;
const OPERATE: u16 = 9090;
/// How long a program may take to start.
const START: Duration = Duration::from_secs(60);
/// Complaints of each node that are shown.
const COMPLAINTS: usize = 8;
/// What our folders' names begin with; then the number of the process follows.
const FOLDER: &str = "carillon-bench-";
/// How often is looked whether something has happened that nobody tells of.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// Two of each role, as an operator with some care has them: names and roles.
pub(crate) const TWO_OF_EACH: &[(&str, &str)] =
    &[("p1", "proxy"), ("p2", "proxy"), ("a1", "as"), ("a2", "as"), ("r1", "relay"), ("r2", "relay")];
/// One of each.
pub(crate) const ONE_OF_EACH: &[(&str, &str)] = &[("proxy", "proxy"), ("as", "as"), ("relay", "relay")];

/// What nodes share: an etcd and a PostgreSQL, for one cluster after the other.
pub(crate) struct Backing {
    etcd: Server,
    postgres: Server,
    etcd_port: u16,
    postgres_port: u16,
    programs: PathBuf,
    folder: PathBuf,
    clusters: u32,
}

impl Backing {
    /// Starts both; on these cores, or on all.
    pub(crate) fn start(cores: Option<&str>) -> io::Result<Backing> {
        cpu::need("etcd", "etcd-server")?;
        if postgres_programs().is_err() {
            cpu::need("initdb", "postgresql")?;
        }
        let programs = postgres_programs()?;
        // Elsewhere than our other files, for PostgreSQL runs as another user.
        let folder = std::env::temp_dir().join(format!("{FOLDER}{}", std::process::id()));
        forget_the_dead();
        std::fs::DirBuilder::new().mode(0o755).create(&folder)?;
        match Self::start_in(cores, &programs, &folder) {
            Ok((etcd, postgres, [etcd_port, postgres_port])) => {
                Ok(Backing { etcd, postgres, etcd_port, postgres_port, programs, folder, clusters: 0 })
            }
            Err(error) => {
                let _ = std::fs::remove_dir_all(&folder);
                Err(error)
            }
        }
    }

    fn start_in(
        cores: Option<&str>,
        programs: &Path,
        folder: &Path,
    ) -> io::Result<(Server, Server, [u16; 2])> {
        let ports = [free_port()?, free_port()?, free_port()?];
        let [client, peer, port] = ports;
        let arguments = [
            format!("--data-dir={}", folder.join("etcd").display()),
            format!("--listen-client-urls=http://127.0.0.1:{client}"),
            format!("--advertise-client-urls=http://127.0.0.1:{client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster=default=http://127.0.0.1:{peer}"),
            "--logger=zap".to_owned(),
        ];
        let mut etcd = Server::start_as("etcd", cores, &cpu::find("etcd")?, &arguments, folder)?;
        // PostgreSQL refuses to run as root.
        let is_root = cpu::is_root();
        let other = ["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=TERM"];
        let data = folder.join("postgres");
        std::fs::DirBuilder::new().mode(0o700).create(&data)?;
        if is_root {
            run(Command::new("chown").arg("postgres:postgres").arg(&data))?;
        }
        let mut make = if is_root { Command::new("setpriv") } else { Command::new("env") };
        if is_root {
            make.args(other);
        }
        make.arg(programs.join("initdb")).args(["-A", "trust", "-U", "carillon", "-E", "UTF8"]);
        run(make.args(["--locale=C", "--no-sync", "-D"]).arg(&data).current_dir(folder))?;
        let mut arguments: Vec<String> = Vec::new();
        if is_root {
            arguments.extend(other.map(str::to_owned));
        }
        arguments.push(programs.join("postgres").display().to_string());
        arguments.extend(["-D".to_owned(), data.display().to_string()]);
        arguments.extend(["-k".to_owned(), data.display().to_string(), "-p".to_owned(), port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "shared_buffers=32MB", "max_connections=100"] {
            arguments.extend(["-c".to_owned(), setting.to_owned()]);
        }
        let program = cpu::find(if is_root { "setpriv" } else { "env" })?;
        let mut postgres = Server::start_as("postgres", cores, &program, &arguments, folder)?;
        for (server, port) in [(&mut etcd, client), (&mut postgres, port)] {
            let begin = Instant::now();
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                server.check()?;
                if begin.elapsed() > START {
                    return Err(io::Error::other(format!("{} does not accept connections", server.name())));
                }
                std::thread::sleep(LOOK);
            }
        }
        Ok((etcd, postgres, [client, port]))
    }

    /// A database of its own for the next cluster; its number.
    fn next(&mut self) -> io::Result<u32> {
        self.clusters += 1;
        let number = self.clusters;
        let port = self.postgres_port.to_string();
        let begin = Instant::now();
        loop {
            let mut make = Command::new(self.programs.join("createdb"));
            make.args(["-h", "127.0.0.1", "-p", &port, "-U", "carillon", &format!("bench{number}")]);
            match run(&mut make) {
                // It accepts connections a moment before it serves.
                Err(_) if begin.elapsed() < START => std::thread::sleep(LOOK),
                done => return done.map(|()| number),
            }
        }
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        let _ = self.postgres.signal("INT"); // it waits for nobody
        let _ = self.etcd.signal("TERM");
        for server in [&mut self.postgres, &mut self.etcd] {
            let begin = Instant::now();
            while matches!(server.ended(), Ok(None)) && begin.elapsed() < Duration::from_secs(8) {
                std::thread::sleep(LOOK);
            }
            let _ = server.kill();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A cluster while it is measured. Needs its [`Backing`] to live longer.
pub(crate) struct Cluster {
    program: PathBuf,
    folder: PathBuf,
    cores: Option<&'static str>,
    nodes: Vec<Node>,
}

/// A node, whether it runs or not.
pub(crate) struct Node {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) roles: &'static str,
    number: u8,
    config: PathBuf,
    data: PathBuf,
    server: Option<Server>,
    /// How much of its log is an earlier process's.
    log_from: u64,
}

/// How a cluster is to be.
pub(crate) struct Wish {
    /// Names and roles.
    pub(crate) nodes: &'static [(&'static str, &'static str)],
    /// Where they run; everywhere without it.
    pub(crate) cores: Option<&'static str>,
    /// More sections of everybody's configuration file.
    pub(crate) more: &'static str,
}

impl Cluster {
    /// Starts these nodes for these users, whose servers become its proxies.
    pub(crate) fn start(
        backing: &mut Backing,
        program: &Path,
        wish: &Wish,
        cast: &mut Cast,
    ) -> io::Result<Cluster> {
        let number = backing.next()?;
        let folder = backing.folder.join(format!("cluster{number}"));
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let proxies = wish.nodes.iter().zip(1..).filter(|((_, roles), _)| roles.contains("proxy"));
        cast.servers = proxies.map(|(_, host)| SocketAddr::new(ip(host).into(), SIP)).collect();
        let users = toml::to_string(&carillon::configuration(cast)?).map_err(io::Error::other)?;
        std::fs::write(folder.join("users.toml"), users)?;
        std::fs::write(folder.join("secret.key"), [7; 32])?;
        let mut nodes = Vec::new();
        for (&(name, roles), host) in wish.nodes.iter().zip(1..) {
            let config = folder.join(format!("{name}.toml"));
            let data = folder.join(name);
            std::fs::write(&config, file(backing, &folder, number, (name, roles, host), wish.more))?;
            nodes.push(Node { name, roles, number: host, config, data, server: None, log_from: 0 });
        }
        let mut cluster = Cluster { program: program.to_owned(), folder, cores: wish.cores, nodes };
        for at in 0..cluster.nodes.len() {
            cluster.spawn(at)?;
            // The first one brings the users.
            let begin = Instant::now();
            while !cluster.is_ready(at)? {
                cluster.in_time(at, begin)?;
            }
        }
        for at in 0..cluster.nodes.len() {
            let begin = Instant::now();
            while !cluster.reaches_all(at)? {
                cluster.in_time(at, begin)?;
            }
        }
        Ok(cluster)
    }

    fn in_time(&mut self, at: usize, begin: Instant) -> io::Result<()> {
        let Node { server, name, .. } = &mut self.nodes[at];
        if let Some(server) = server {
            server.check()?;
        }
        if begin.elapsed() > START {
            return Err(io::Error::other(format!("{name} does not get ready")));
        }
        std::thread::sleep(LOOK);
        Ok(())
    }

    /// All nodes.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Starts the process of a node; it is ready some time later.
    pub(crate) fn spawn(&mut self, at: usize) -> io::Result<()> {
        let (program, folder, cores) = (&self.program, &self.folder, self.cores);
        let node = &mut self.nodes[at];
        node.log_from =
            std::fs::metadata(folder.join(format!("{}.log", node.name))).map_or(0, |log| log.len());
        let arguments = ["serve".to_owned(), "--config".to_owned(), node.config.display().to_string()];
        node.server = Some(Server::start_as(node.name, cores, program, &arguments, folder)?);
        Ok(())
    }

    /// Whether a node may get calls.
    pub(crate) fn is_ready(&self, at: usize) -> io::Result<bool> {
        Ok(get(self.nodes[at].operate(), "/readyz")?.is_some_and(|answer| answer.starts_with("HTTP/1.1 200")))
    }

    /// Whether a node has links to all the others that run and that it has business with.
    pub(crate) fn reaches_all(&self, at: usize) -> io::Result<bool> {
        let node = &self.nodes[at];
        let log = self.log(at)?;
        let has = |node: &Node, role: &str| node.roles.split(',').any(|own| own == role);
        let others = self.nodes.iter().filter(|other| other.number != node.number && other.server.is_some());
        Ok(others.into_iter().all(|other| {
            let ways = [
                ("calls", (has(node, "proxy") || has(node, "as")) && has(other, "as")),
                ("legs", has(node, "as") && (has(other, "proxy") || has(other, "as"))),
                ("relay", has(node, "as") && has(other, "relay")),
                ("directory", true),
            ];
            ways.iter().filter(|(_, wanted)| *wanted).all(|(way, _)| {
                let last = |what: &str| {
                    log.rfind(&format!("another node is {what} peer={} way=\"{way}\"", other.number))
                };
                last("in reach") > last("out of reach")
            })
        }))
    }

    /// Tells a node something, such as "TERM".
    pub(crate) fn signal(&self, at: usize, signal: &str) -> io::Result<()> {
        self.nodes[at].server.as_ref().map_or(Ok(()), |server| server.signal(signal))
    }

    /// Whether a node has ended that was told to; an error where it failed.
    pub(crate) fn has_ended(&mut self, at: usize) -> io::Result<bool> {
        let Node { server, name, .. } = &mut self.nodes[at];
        let Some(running) = server else { return Ok(true) };
        match running.ended()? {
            None => Ok(false),
            Some(status) if status.success() => {
                *server = None;
                Ok(true)
            }
            Some(status) => Err(io::Error::other(format!("{name} ended with {status}"))),
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, at: usize) -> io::Result<()> {
        match self.nodes[at].server.take() {
            Some(mut server) => server.kill(),
            None => Ok(()),
        }
    }

    /// Lets an operator's command for a node begin.
    pub(crate) fn ctl(&self, at: usize, arguments: &[&str]) -> io::Result<std::process::Child> {
        let data = self.nodes[at].data.display().to_string();
        let mut command = Command::new(&self.program);
        command.arg("ctl").args(arguments).args(["--data", &data]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    }

    /// A figure of a node's metrics; 0 where it has none.
    pub(crate) fn figure(&self, at: usize, name: &str) -> io::Result<f64> {
        let page = get(self.nodes[at].operate(), "/metrics")?.unwrap_or_default();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0))
    }

    /// What the process of a node has logged.
    pub(crate) fn log(&self, at: usize) -> io::Result<String> {
        let node = &self.nodes[at];
        let log = std::fs::read(self.folder.join(format!("{}.log", node.name)))?;
        let own = log.get(node.log_from as usize..).unwrap_or_default();
        Ok(String::from_utf8_lossy(own).into_owned())
    }

    /// What all processes of all nodes have logged.
    pub(crate) fn logs(&self) -> io::Result<String> {
        let mut all = String::new();
        for node in &self.nodes {
            let log = std::fs::read(self.folder.join(format!("{}.log", node.name)))?;
            all.push_str(&String::from_utf8_lossy(&log));
        }
        Ok(all)
    }

    /// What nodes complained of in their logs, each once for a node: for whoever looks for the reason of a loss.
    pub(crate) fn complaints(&self) -> io::Result<Vec<String>> {
        let mut told = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let log = self.log(at)?;
            let mut kinds: BTreeMap<String, (usize, &str)> = BTreeMap::new();
            for line in log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")) {
                // Numbers differ, the complaint does not.
                let kind =
                    line.chars().skip_while(|c| *c != ' ').filter(|c| !c.is_ascii_digit()).take(80).collect();
                kinds.entry(kind).or_insert((0, line)).0 += 1;
            }
            told.extend(kinds.values().take(COMPLAINTS).map(|(count, line)| {
                let line: String = line.chars().take(300).collect();
                format!("{} says {count} times: {line}", node.name)
            }));
        }
        Ok(told)
    }

    /// All call records, one JSON object each.
    pub(crate) fn records(&self) -> io::Result<Vec<serde_json::Value>> {
        let mut command = Command::new(&self.program);
        let config = self.nodes.first().map(|node| node.config.clone()).unwrap_or_default();
        command.args(["cdrs", "--json", "--limit", "1000000", "--config"]).arg(config);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!("carillon cdrs: {}", output.status)));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect()
    }

    /// The processes that run.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().filter_map(|node| node.server.as_ref())
    }
}

impl Node {
    /// Whether it has this role.
    pub(crate) fn is(&self, role: &str) -> bool {
        self.roles.split(',').any(|own| own == role)
    }

    /// Its only address.
    pub(crate) fn ip(&self) -> [u8; 4] {
        ip(self.number)
    }

    fn operate(&self) -> SocketAddr {
        SocketAddr::new(self.ip().into(), OPERATE)
    }
}

impl Drop for Cluster {
    /// There is nothing that they would have to tidy up.
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut server) = node.server.take() {
                let _ = server.kill();
            }
        }
    }
}

/// A cluster with what it needs, and what each of it takes.
pub(crate) struct Whole {
    /// Its nodes.
    pub(crate) cluster: Cluster,
    /// What they share.
    pub(crate) backing: Backing,
}

impl Whole {
    /// Names of the processes, as [`Measured::cpus`] has them.
    pub(crate) fn names(&self) -> Vec<String> {
        let nodes = self.cluster.servers().map(|server| server.name().to_owned());
        nodes.chain(["PostgreSQL".to_owned(), "etcd".to_owned()]).collect()
    }
}

impl Measured for Whole {
    fn cpus(&self) -> Vec<Duration> {
        let Backing { etcd, postgres, .. } = &self.backing;
        self.cluster.servers().chain([postgres, etcd]).map(Measured::cpu).collect()
    }
}

fn file(
    backing: &Backing,
    folder: &Path,
    number: u32,
    (name, roles, host): (&str, &str, u8),
    more: &str,
) -> String {
    let [a, b, c, d] = ip(host);
    let ip = format!("{a}.{b}.{c}.{d}");
    let Backing { etcd_port, postgres_port, .. } = backing;
    let users =
        if host == 1 { format!("[users]\nfile = {:?}\n", folder.join("users.toml")) } else { String::new() };
    let proxy = format!(
        "[sip]\nlisten = [\"udp:{ip}:{SIP}\", \"tcp:{ip}:{SIP}\"]\n[auth]\ninvite = false\nalgorithms = [\"MD5\"]\n"
    );
    let relay = format!("[media]\naddress = \"{ip}\"\nports = \"10000-64999\"\nsilence_seconds = 3600\n");
    format!(
        "[node]\nid = {host}\nname = {name:?}\ndata = {:?}\nroles = {roles:?}\n\
         [cluster]\netcd = [\"http://127.0.0.1:{etcd_port}\"]\nprefix = \"/bench{number}\"\nlisten = \"{ip}:{PEERS}\"\nplain = true\n\
         lease_seconds = 5\ndrain_seconds = 15\n\
         [store]\nurl = \"postgresql://carillon@127.0.0.1:{postgres_port}/bench{number}\"\nkey_file = {:?}\n\
         [operate]\nlisten = \"{ip}:{OPERATE}\"\n[limits]\nmax_calls = 50000\n{users}{}{}{more}",
        folder.join(name),
        folder.join("secret.key"),
        if roles.contains("proxy") { proxy.as_str() } else { "" },
        if roles.contains("relay") { relay.as_str() } else { "" },
    )
}

/// An address for each node; others for each process of ours, so that two runs do not meet.
fn ip(host: u8) -> [u8; 4] {
    let [.., high, low] = std::process::id().to_be_bytes();
    [127, 128 | high >> 1, low, host]
}

/// Removes what runs left that were killed.
fn forget_the_dead() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(FOLDER)?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Where Debian puts PostgreSQL's programs; the newest version.
fn postgres_programs() -> io::Result<PathBuf> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "PostgreSQL is not installed");
    let versions = std::fs::read_dir("/usr/lib/postgresql").map_err(|_| missing())?;
    let mut found: Vec<PathBuf> = versions.flatten().map(|version| version.path().join("bin")).collect();
    found.retain(|bin| bin.join("postgres").is_file() && bin.join("initdb").is_file());
    found.sort_by_key(|bin| {
        bin.parent().and_then(Path::file_name).and_then(|name| name.to_str()?.parse::<u32>().ok())
    });
    found.pop().ok_or_else(missing)
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))))
}

/// What a node answers to a question of HTTP; nothing while it does not accept connections.
fn get(from: SocketAddr, path: &str) -> io::Result<Option<String>> {
    let Ok(mut stream) = TcpStream::connect_timeout(&from, Duration::from_millis(500)) else {
        return Ok(None);
    };
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: {from}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut text = Vec::new();
    // Whoever is killed in the middle of it has not answered.
    let Ok(_) = stream.read_to_end(&mut text) else { return Ok(None) };
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}
