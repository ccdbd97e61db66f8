//! A network of a test's own: a switch in a network namespace, machines in namespaces of theirs, cables that can be unplugged.
//!
//! In: addresses (`place`). Out: commands that run on a machine, and links that fail as real ones do, without a word to anybody. The test itself
//! has some addresses of the network. All of it is gone when the value is. Elsewhere: what runs there (`cluster`).

use crate::place::Place;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

/// What each machine calls its only interface.
const CARD: &str = "eth0";
/// A hardware address that nobody has: what is sent there is lost.
const NOWHERE: &str = "02:00:00:00:00:01";

/// A switch and the machines on it.
pub struct Net {
    place: Place,
    machines: Vec<u8>,
    /// Host parts of the test's own addresses.
    own: Vec<u8>,
}

impl Net {
    /// A network in which the test itself has these addresses.
    ///
    /// # Panics
    /// When this machine does not let us.
    pub fn lay(place: &Place, own: &[u8]) -> Net {
        let net = Net { place: place.clone(), machines: Vec::new(), own: own.to_vec() };
        // Of a test that was killed.
        net.remove();
        if let Err(error) = try_ip(&["netns", "add", &net.switch()]) {
            panic!(
                "these tests need network namespaces (root, or the capability CAP_SYS_ADMIN, and ip of iproute2): {error}"
            );
        }
        let (switch, cable) = (net.switch(), net.cable());
        ip(&["-n", &switch, "link", "add", "switch", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "switch", "up"]);
        ip(&["link", "add", &cable, "type", "veth", "peer", "name", "test", "netns", &switch]);
        for host in own {
            ip(&["addr", "add", &format!("{}/24", place.ip(*host)), "dev", &cable]);
        }
        ip(&["link", "set", &cable, "up"]);
        ip(&["-n", &switch, "link", "set", "test", "master", "switch", "up"]);
        net
    }

    /// One more machine.
    ///
    /// # Panics
    /// When this machine does not let us.
    pub fn add(&mut self, host: u8) {
        let (switch, machine, port) = (self.switch(), self.machine(host), port(host));
        self.machines.push(host);
        ip(&["netns", "add", &machine]);
        ip(&["-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", CARD, "netns", &machine]);
        ip(&["-n", &machine, "link", "set", "lo", "up"]);
        ip(&["-n", &machine, "addr", "add", &format!("{}/24", self.place.ip(host)), "dev", CARD]);
        ip(&["-n", &machine, "link", "set", CARD, "up"]);
        ip(&["-n", &switch, "link", "set", &port, "master", "switch", "up"]);
    }

    /// What begins a command line that runs on a machine.
    pub fn on(&self, host: u8) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", self.machine(host))]
    }

    /// A command that runs on a machine, in the test's own file system; its process is the program's.
    pub fn command(&self, host: u8, program: &Path) -> Command {
        let words = self.on(host);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program);
        command
    }

    /// Pulls the cable of a machine.
    ///
    /// # Panics
    /// When that fails.
    pub fn unplug(&self, host: u8) {
        ip(&["-n", &self.switch(), "link", "set", &port(host), "nomaster"]);
    }

    /// Puts it back.
    ///
    /// # Panics
    /// When that fails.
    pub fn plug(&self, host: u8) {
        ip(&["-n", &self.switch(), "link", "set", &port(host), "master", "switch"]);
    }

    /// From now on nothing that one machine sends to another arrives; what comes back does.
    ///
    /// # Panics
    /// When that fails.
    pub fn cut(&self, from: u8, to: u8) {
        self.neighbour(from, to, &["replace"], &["lladdr", NOWHERE, "nud", "permanent"]);
    }

    /// What it sends arrives again.
    ///
    /// # Panics
    /// When it was not cut off.
    pub fn mend(&self, from: u8, to: u8) {
        self.neighbour(from, to, &["del"], &[]);
    }

    /// IPv4 finds a machine on the wire by its hardware address; whoever has a wrong one speaks to nobody.
    fn neighbour(&self, from: u8, to: u8, change: &[&str], how: &[&str]) {
        let (machine, ip_of, cable) = (self.machine(from), self.place.ip(to).to_string(), self.cable());
        let is_ours = self.own.contains(&from);
        let (at, card): (&[&str], &str) = if is_ours { (&[], &cable) } else { (&["-n", &machine], CARD) };
        ip(&[at, &["neigh"], change, &[&ip_of], how, &["dev", card]].concat());
    }

    /// Address of a machine, or of the test.
    pub fn ip(&self, host: u8) -> IpAddr {
        self.place.ip(host)
    }

    fn switch(&self) -> String {
        format!("carillon-{}", self.place.number())
    }

    fn machine(&self, host: u8) -> String {
        format!("carillon-{}-{host}", self.place.number())
    }

    fn cable(&self) -> String {
        format!("carillon{}", self.place.number())
    }

    fn remove(&self) {
        let switch = self.switch();
        let machines = format!("{switch}-");
        let _ = try_ip(&["link", "del", &self.cable()]);
        for file in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if name == switch || name.starts_with(&machines) {
                let _ = try_ip(&["netns", "del", &name]);
            }
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The switch's end of a machine's cable.
fn port(host: u8) -> String {
    format!("m{host}")
}

fn ip(arguments: &[&str]) {
    if let Err(error) = try_ip(arguments) {
        panic!("{error}");
    }
}

fn try_ip(arguments: &[&str]) -> Result<(), String> {
    let shown = || format!("ip {}", arguments.join(" "));
    let out = Command::new("ip").args(arguments).output().map_err(|error| format!("{}: {error}", shown()))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", shown(), String::from_utf8_lossy(&out.stderr).trim()))
}
