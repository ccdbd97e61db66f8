//! A cluster: etcd, a database, and nodes with roles of their own, each a process at an address of its own.
//!
//! In: which nodes with which roles. Out: processes that a test kills, ends and starts again. Elsewhere: one node alone (`node`),
//! processes (`process`), etcd (crate `mesh`), databases (`postgres`).

use crate::PATIENCE;
use crate::endpoint::Endpoint;
use crate::node::carillon;
use crate::place::Place;
use crate::postgres::{Database, PASSWORD};
use crate::process::Process;
use crate::records::Records;
use crate::watching::Page;
use mesh::testing::EtcdServer;
use model::{Cdr, Configuration};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Port where nodes hear each other.
const PEERS: u16 = 7400;
/// Port of metrics.
const OPERATE: u16 = 9090;

/// Two of each role, as an operator with some care has them: names and roles.
pub const TWO_OF_EACH: &[(&str, &str)] =
    &[("p1", "proxy"), ("p2", "proxy"), ("a1", "as"), ("a2", "as"), ("r1", "relay"), ("r2", "relay")];

/// A cluster while a test lasts.
pub struct Cluster {
    place: Place,
    /// Where nodes claim their numbers.
    pub etcd: EtcdServer,
    database: Database,
    folder: TempDir,
    members: Vec<Member>,
}

struct Member {
    name: &'static str,
    roles: &'static str,
    host: u8,
    config: PathBuf,
    process: Option<Process>,
}

impl Cluster {
    /// Starts these nodes, with the users of the demo.
    ///
    /// # Panics
    /// When one does not get ready.
    pub fn start(nodes: &[(&'static str, &'static str)]) -> Cluster {
        Self::start_with(nodes, "")
    }

    /// The same, with more text in everybody's configuration file.
    ///
    /// # Panics
    /// When one does not get ready.
    pub fn start_with(nodes: &[(&'static str, &'static str)], sections: &str) -> Cluster {
        let place = Place::take();
        let folder =
            tempfile::Builder::new().prefix("carillon-cluster-").tempdir().expect("a temporary directory");
        let etcd = EtcdServer::start().expect("etcd starts (Debian package etcd-server)");
        let database = Database::make();
        let write = |name: &str, text: &[u8]| {
            std::fs::write(folder.path().join(name), text).expect("a file can be written");
        };
        write("users.toml", toml::to_string(&Configuration::demo()).expect("it has a TOML form").as_bytes());
        write("password", PASSWORD.as_bytes());
        write("secret.key", &[7; 32]);
        let members = nodes.iter().zip(1..).map(|((name, roles), host)| {
            let text = file(folder.path(), &place, &etcd, &database, (name, roles, host));
            write(&format!("{name}.toml"), format!("{text}{sections}").as_bytes());
            let config = folder.path().join(format!("{name}.toml"));
            Member { name, roles, host, config, process: None }
        });
        let members = members.collect();
        let mut cluster = Cluster { place, etcd, database, folder, members };
        for (name, _) in nodes {
            cluster.restart(name);
        }
        cluster.wait_until_all_are_in_reach();
        cluster
    }

    /// The addresses of this test.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The database that the nodes share.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The only address of a node.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn ip(&self, name: &str) -> IpAddr {
        self.place.ip(self.member(name).host)
    }

    /// Where a proxy hears SIP.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn sip(&self, name: &str) -> SocketAddr {
        self.place.sip(self.member(name).host)
    }

    /// A telephone by UDP at host part `host`, whose proxy this is.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn phone(&self, proxy: &str, host: u8, user: &str) -> Endpoint {
        Endpoint::udp_to(self.sip(proxy), self.place.sip(host), user)
    }

    /// The data directory of a node.
    pub fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The process of a node.
    ///
    /// # Panics
    /// When it does not run.
    pub fn process(&mut self, name: &str) -> &mut Process {
        let tail = format!("{name} runs");
        self.member_mut(name).process.as_mut().expect(&tail)
    }

    /// The node among these whose log has this line.
    ///
    /// # Panics
    /// When none has it in time.
    pub fn who_says(&self, names: &[&'static str], part: &str) -> &'static str {
        self.who_says_so_often(names, part, 1)
    }

    /// The node among these whose log has this line so often.
    ///
    /// # Panics
    /// When none has it in time.
    pub fn who_says_so_often(&self, names: &[&'static str], part: &str, count: usize) -> &'static str {
        let end = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < end {
            for name in names {
                let lines = self.member(name).process.as_ref().map(Process::lines).unwrap_or_default();
                if lines.iter().filter(|line| line.contains(part)).count() >= count {
                    return name;
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("none of {names:?} says {part:?} {count} times");
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self, name: &str) {
        self.member_mut(name).process.take().expect("it runs").kill();
    }

    /// SIGTERM, and a tidy end.
    ///
    /// # Panics
    /// When it does not end so.
    pub fn stop(&mut self, name: &str) {
        let mut process = self.member_mut(name).process.take().expect("it runs");
        process.terminate();
        let ended = process.ended(PATIENCE * 4);
        assert!(
            ended.is_some_and(|status| status.success()),
            "{name} ended with {ended:?}; {}",
            process.tail(60)
        );
    }

    /// Starts a node (again), and waits until it is ready.
    ///
    /// # Panics
    /// When it runs already, or does not get ready.
    pub fn restart(&mut self, name: &str) {
        let folder = self.folder.path().to_owned();
        let member = self.member_mut(name);
        assert!(member.process.is_none(), "{name} runs");
        let mut command = Command::new(carillon());
        command.arg("serve").arg("--config").arg(&member.config).current_dir(folder).env_remove("RUST_LOG");
        let process = Process::start(name, &mut command);
        assert!(
            process.line_with("carillon is ready", PATIENCE * 2).is_some(),
            "{name} does not start; {}",
            process.tail(40)
        );
        member.process = Some(process);
    }

    /// Waits until every application server knows so many registered contacts.
    ///
    /// # Panics
    /// When one does not in time.
    pub fn wait_until_known(&self, contacts: u32) {
        let servers =
            self.members.iter().filter(|member| member.roles.contains("as") && member.process.is_some());
        for member in servers {
            let address = SocketAddr::new(self.place.ip(member.host), OPERATE);
            let end = std::time::Instant::now() + PATIENCE;
            while Page::of(address).value("carillon_locations") < f64::from(contacts) {
                assert!(std::time::Instant::now() < end, "{} does not know {contacts} contacts", member.name);
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }

    /// What another node says that has the same configuration but for this text, and does not start.
    ///
    /// # Panics
    /// When it starts, or does not end.
    pub fn refused(&self, name: &str, from: &str, to: &str) -> String {
        let text = std::fs::read_to_string(&self.member(name).config).expect("it was written");
        assert!(text.contains(from), "{from} is in {text}");
        // Elsewhere than the one that runs, whatever else differs.
        let ip = self.place.ip(self.member(name).host).to_string();
        let text = text.replace(from, to).replace(&ip, &self.place.ip(11).to_string());
        let text =
            if from.contains("data =") { text } else { text.replace(&format!("/{name}\""), "/other\"") };
        let config = self.folder.path().join("refused.toml");
        std::fs::write(&config, text).expect("a file can be written");
        let mut command = Command::new(carillon());
        command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .current_dir(self.folder.path())
            .env_remove("RUST_LOG");
        let mut process = Process::start("refused", &mut command);
        let ended = process.ended(PATIENCE * 3);
        assert!(
            ended.is_some_and(|status| !status.success()),
            "it ended with {ended:?}; {}",
            process.tail(40)
        );
        process.tail(20)
    }

    /// Waits until every node has its links to those that it has business with.
    ///
    /// # Panics
    /// When one does not get there.
    pub fn wait_until_all_are_in_reach(&self) {
        let has = |member: &Member, role: &str| member.roles.split(',').any(|own| own == role);
        for one in self.members.iter().filter(|member| member.process.is_some()) {
            for other in self.members.iter().filter(|other| other.host != one.host && other.process.is_some())
            {
                let Some(process) = &one.process else { continue };
                let wants = [
                    ("calls", (has(one, "proxy") || has(one, "as")) && has(other, "as")),
                    ("legs", has(one, "as") && (has(other, "proxy") || has(other, "as"))),
                    ("relay", has(one, "as") && has(other, "relay")),
                    ("directory", true),
                ];
                for (way, _) in wants.into_iter().filter(|(_, wanted)| *wanted) {
                    let line = format!("another node is in reach node={} way=\"{way}\"", other.host);
                    let end = std::time::Instant::now() + PATIENCE;
                    while !process.lines().iter().any(|told| told.contains(&line)) {
                        assert!(
                            std::time::Instant::now() < end,
                            "{} does not reach {} ({way}); {}",
                            one.name,
                            other.name,
                            process.tail(40)
                        );
                        std::thread::sleep(std::time::Duration::from_millis(20));
                    }
                }
            }
        }
    }

    /// Ends all nodes and says which call records there are.
    ///
    /// # Panics
    /// When one does not end tidily, or its log has errors.
    pub fn finish(mut self) -> Vec<Cdr> {
        let names: Vec<&str> = self.members.iter().map(|member| member.name).collect();
        for name in names {
            if self.member(name).process.is_some() {
                let process = self.process(name);
                let bad: Vec<String> = process
                    .lines()
                    .into_iter()
                    .filter(|line| line.contains("panicked at") || line.contains("ERROR"))
                    .collect();
                assert!(bad.is_empty(), "the log of {name} has errors:\n{bad:#?}");
                self.stop(name);
            }
        }
        Records::of_cluster(&self.members[0].config).0
    }

    fn member(&self, name: &str) -> &Member {
        let found = self.members.iter().find(|member| member.name == name);
        found.unwrap_or_else(|| panic!("there is no node {name}"))
    }

    fn member_mut(&mut self, name: &str) -> &mut Member {
        let found = self.members.iter_mut().find(|member| member.name == name);
        found.unwrap_or_else(|| panic!("there is no node {name}"))
    }
}

fn file(
    folder: &Path,
    place: &Place,
    etcd: &EtcdServer,
    database: &Database,
    (name, roles, host): (&str, &str, u8),
) -> String {
    let ip = place.ip(host);
    let sip = place.sip(host);
    // The first node brings the users; the others find them in the database.
    let users =
        if host == 1 { format!("[users]\nfile = {:?}\n", folder.join("users.toml")) } else { String::new() };
    let proxy = format!("[sip]\nworkers = 2\nlisten = [\"udp:{sip}\", \"tcp:{sip}\"]\n");
    let relay = format!("[media]\naddress = \"{ip}\"\nports = \"20000-20999\"\n");
    format!(
        "[node]\nid = {host}\nname = {name:?}\ndata = {:?}\nroles = {roles:?}\n\
         [cluster]\netcd = [{:?}]\nlisten = \"{ip}:{PEERS}\"\nplain = true\nlease_seconds = 5\ndrain_seconds = 15\n\
         [store]\nurl = {:?}\npassword_file = {:?}\nkey_file = {:?}\n\
         [operate]\nlisten = \"{ip}:{OPERATE}\"\n[log]\nfilter = \"info,appserver=debug,proxy=debug\"\n{users}{}{}",
        folder.join(name),
        etcd.url(),
        database.address(Database::port()),
        folder.join("password"),
        folder.join("secret.key"),
        if roles.contains("proxy") { proxy.as_str() } else { "" },
        if roles.contains("relay") { relay.as_str() } else { "" },
    )
}

#[expect(clippy::print_stderr, reason = "a failing test talks on its standard error")]
impl Drop for Cluster {
    /// Whoever looks for the reason of a failure wants to know what the nodes said.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for member in &self.members {
                if let Some(process) = &member.process {
                    eprintln!("{}: {}", member.name, process.tail(25));
                }
            }
        }
    }
}
