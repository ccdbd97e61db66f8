//! A cluster: etcd, a database, and nodes with roles of their own, each a process at an address of its own.
//!
//! In: which nodes with which roles. Out: processes that a test kills, ends, cuts off and starts again. Elsewhere: what is waited for (`asked`),
//! one node alone (`node`), processes (`process`), networks (`net`), etcd (crate `mesh`), databases (`postgres`).

mod asked;

use crate::PATIENCE;
use crate::authority::{self, Authority, VALID};
use crate::endpoint::Endpoint;
use crate::net::Net;
use crate::node::{add_user, carillon};
use crate::place::Place;
use crate::postgres::{Database, Gate, PASSWORD};
use crate::process::Process;
use crate::records::Records;
use mesh::testing::EtcdServer;
use model::entity::Secret;
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

/// Host parts of etcd's members and of the database, where they live apart.
const ETCD: u8 = 21;
const DATABASE: u8 = 30;
/// Host parts of telephones there.
const PHONES: std::ops::RangeInclusive<u8> = 8..=19;

/// The password of a user.
pub fn password(user: &str) -> String {
    format!("{user}-of-the-cluster")
}

/// A cluster while a test lasts.
pub struct Cluster {
    members: Vec<Member>,
    /// Where nodes claim their numbers.
    pub etcd: Vec<EtcdServer>,
    database: Database,
    /// The only way from nodes that live apart to their database.
    gate: Option<Gate>,
    folder: TempDir,
    /// Where nodes live apart. It goes when all who live there are gone.
    net: Option<Net>,
    place: Place,
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
        let etcd = EtcdServer::start().expect("etcd starts (Debian package etcd-server)");
        Self::begin(Place::take(), None, vec![etcd], nodes, sections)
    }

    /// Each of these nodes and as many members of etcd on a machine of its own, in a network of their own; telephones are in it, too.
    ///
    /// # Panics
    /// When one does not get ready.
    pub fn start_apart(nodes: &[(&'static str, &'static str)], etcd: u8) -> Cluster {
        let place = Place::take_apart();
        let own: Vec<u8> = PHONES.chain([DATABASE]).collect();
        let mut net = Net::lay(&place, &own);
        let machines = (ETCD..).take(etcd.into());
        (1..).zip(nodes).map(|(host, _)| host).chain(machines.clone()).for_each(|host| net.add(host));
        let at =
            machines.map(|host| (net.on(host), (place.ip(host), 2379).into(), (place.ip(host), 2380).into()));
        let etcd = EtcdServer::start_at(&at.collect::<Vec<_>>());
        let etcd = etcd.expect("etcd starts (Debian package etcd-server)");
        Self::begin(place, Some(net), etcd, nodes, "")
    }

    fn begin(
        place: Place,
        net: Option<Net>,
        etcd: Vec<EtcdServer>,
        nodes: &[(&'static str, &'static str)],
        sections: &str,
    ) -> Cluster {
        let folder =
            tempfile::Builder::new().prefix("carillon-cluster-").tempdir().expect("a temporary directory");
        let database = Database::make();
        let gate = net.is_some().then(|| Gate::open_at(place.ip(DATABASE)));
        let write = |name: &str, text: &[u8]| {
            std::fs::write(folder.path().join(name), text).expect("a file can be written");
        };
        let mut users = Configuration::demo();
        add_user(&mut users, "carol", "103");
        add_user(&mut users, "dave", "104");
        // Passwords that everybody knows are refused where others than this machine can hear a node.
        for terminal in &mut users.terminals {
            terminal.secret = Secret::new(password(&terminal.name));
        }
        write("users.toml", toml::to_string(&users).expect("it has a TOML form").as_bytes());
        write("password", PASSWORD.as_bytes());
        write("secret.key", &[7; 32]);
        let store = match &gate {
            Some(gate) => database.address_at((place.ip(DATABASE), gate.port).into()),
            None => database.address(Database::port()),
        };
        // On machines of their own nodes speak mutual TLS, as they would anywhere but on one machine.
        let authority = net.is_some().then(|| Authority::new("nodes"));
        if let Some(authority) = &authority {
            write("nodes.pem", authority.pem.as_bytes());
        }
        let members = nodes.iter().zip(1..).map(|((name, roles), host)| {
            let peers = match &authority {
                None => "plain = true".to_owned(),
                Some(authority) => {
                    let own = authority.issue("carillon-node", name, VALID);
                    authority::write(folder.path(), &format!("peer-{name}"), &own);
                    let at = |file: String| folder.path().join(file);
                    format!(
                        "ca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}",
                        at("nodes.pem".to_owned()),
                        at(format!("peer-{name}.pem")),
                        at(format!("peer-{name}.key"))
                    )
                }
            };
            let text = file(folder.path(), &place, &etcd, (&store, &peers), (name, roles, host));
            write(&format!("{name}.toml"), format!("{text}{sections}").as_bytes());
            let config = folder.path().join(format!("{name}.toml"));
            Member { name, roles, host, config, process: None }
        });
        let members = members.collect();
        let mut cluster = Cluster { members, etcd, database, gate, folder, net, place };
        // The first one brings the users.
        cluster.restart(nodes[0].0);
        nodes[1..].iter().for_each(|(name, _)| cluster.spawn(name));
        nodes[1..].iter().for_each(|(name, _)| cluster.wait_until_ready(name));
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

    /// Host part of a node's address.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn host(&self, name: &str) -> u8 {
        self.member(name).host
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
        Endpoint::udp_to(self.sip(proxy), self.place.sip(host), user).with_login(user, &password(user))
    }

    /// The same by TCP.
    ///
    /// # Panics
    /// When the proxy takes no connection.
    pub fn phone_by_tcp(&self, proxy: &str, host: u8, user: &str) -> Endpoint {
        Endpoint::tcp_to(self.sip(proxy), self.place.ip(host), user).with_login(user, &password(user))
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
        self.spawn(name);
        self.wait_until_ready(name);
    }

    fn spawn(&mut self, name: &str) {
        let member = self.member(name);
        assert!(member.process.is_none(), "{name} runs");
        let mut command = match &self.net {
            Some(net) => net.command(member.host, carillon()),
            None => Command::new(carillon()),
        };
        command.arg("serve").arg("--config").arg(&member.config);
        command.current_dir(self.folder.path()).env_remove("RUST_LOG");
        let process = Process::start(name, &mut command);
        self.member_mut(name).process = Some(process);
    }

    fn wait_until_ready(&mut self, name: &str) {
        let process = self.process(name);
        let is_ready = process.line_with("carillon is ready", PATIENCE * 2).is_some();
        assert!(is_ready, "{name} does not start; {}", process.tail(40));
    }

    /// Changes the configuration of a node that does not run.
    ///
    /// # Panics
    /// When there is no such text in it.
    pub fn change(&self, name: &str, from: &str, to: &str) {
        let file = &self.member(name).config;
        let text = std::fs::read_to_string(file).expect("it was written");
        assert!(text.contains(from), "{from} is in {text}");
        std::fs::write(file, text.replace(from, to)).expect("a file can be written");
    }

    /// Pulls the cable of a node.
    ///
    /// # Panics
    /// When it has none, or that fails.
    pub fn unplug(&self, name: &str) {
        self.net().unplug(self.member(name).host);
    }

    /// Puts it back.
    ///
    /// # Panics
    /// When it has none, or that fails.
    pub fn plug(&self, name: &str) {
        self.net().plug(self.member(name).host);
    }

    /// From now on nothing that one node sends to another arrives.
    ///
    /// # Panics
    /// When they have no cables, or that fails.
    pub fn cut(&self, from: &str, to: &str) {
        self.net().cut(self.member(from).host, self.member(to).host);
    }

    /// What it sends arrives again.
    ///
    /// # Panics
    /// When it was not cut off.
    pub fn mend(&self, from: &str, to: &str) {
        self.net().mend(self.member(from).host, self.member(to).host);
    }

    /// From now on a node and etcd hear nothing of each other.
    ///
    /// # Panics
    /// When they have no cables, or that fails.
    pub fn cut_from_etcd(&self, name: &str) {
        for (from, to) in self.ways_to_etcd(name) {
            self.net().cut(from, to);
        }
    }

    /// They do again.
    ///
    /// # Panics
    /// When they did.
    pub fn mend_to_etcd(&self, name: &str) {
        for (from, to) in self.ways_to_etcd(name) {
            self.net().mend(from, to);
        }
    }

    fn ways_to_etcd(&self, name: &str) -> Vec<(u8, u8)> {
        let host = self.member(name).host;
        (ETCD..).take(self.etcd.len()).flat_map(|member| [(host, member), (member, host)]).collect()
    }

    /// The way from all nodes that live apart to the database.
    ///
    /// # Panics
    /// When they do not.
    pub fn gate(&self) -> &Gate {
        self.gate.as_ref().expect("nodes live apart")
    }

    fn net(&self) -> &Net {
        self.net.as_ref().expect("nodes live apart")
    }

    /// Names of the nodes that run.
    pub fn running(&self) -> impl Iterator<Item = &'static str> {
        self.members.iter().filter(|member| member.process.is_some()).map(|member| member.name)
    }

    /// A directory for files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
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
    etcd: &[EtcdServer],
    (store, peers): (&str, &str),
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
         [cluster]\netcd = [{}]\nlisten = \"{ip}:{PEERS}\"\n{peers}\nlease_seconds = 5\ndrain_seconds = 15\n\
         [store]\nurl = {:?}\npassword_file = {:?}\nkey_file = {:?}\n\
         [operate]\nlisten = \"{ip}:{OPERATE}\"\n[log]\nfilter = \"info,appserver=debug,proxy=debug\"\n{users}{}{}",
        folder.join(name),
        etcd.iter().map(|member| format!("{:?}", member.url())).collect::<Vec<_>>().join(", "),
        store,
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
