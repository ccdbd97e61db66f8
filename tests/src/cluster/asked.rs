//! What a test waits for in a cluster: what its nodes log, and what they answer an operator.
//!
//! In: names of nodes. Out: returns when it is so. Elsewhere: starting and ending them (the module above).

use super::{Cluster, Member, OPERATE};
use crate::PATIENCE;
use crate::node::carillon;
use crate::process::Process;
use crate::watching::Page;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);

impl Cluster {
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
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            for name in names {
                let lines = self.member(name).process.as_ref().map(Process::lines).unwrap_or_default();
                if lines.iter().filter(|line| line.contains(part)).count() >= count {
                    return name;
                }
            }
            sleep(LOOK);
        }
        panic!("none of {names:?} says {part:?} {count} times");
    }

    /// Lets telephones register, so many contacts, and waits until every application server knows of them.
    ///
    /// # Panics
    /// When one does not in time.
    pub fn known(&self, contacts: u32, register: impl FnOnce()) {
        let is_server = |member: &&Member| member.roles.contains("as") && member.process.is_some();
        let servers: Vec<&str> = self.members.iter().filter(is_server).map(|member| member.name).collect();
        let before: Vec<f64> =
            servers.iter().map(|server| self.figure(server, "carillon_locations")).collect();
        register();
        for (server, before) in servers.iter().zip(before) {
            let wanted = before + f64::from(contacts);
            self.until_figure(server, "carillon_locations", |known| known >= wanted);
        }
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
                    let line = format!("another node is in reach peer={} way=\"{way}\"", other.host);
                    let end = Instant::now() + PATIENCE;
                    while !process.lines().iter().any(|told| told.contains(&line)) {
                        assert!(
                            Instant::now() < end,
                            "{} does not reach {} ({way}); {}",
                            one.name,
                            other.name,
                            process.tail(40)
                        );
                        sleep(LOOK);
                    }
                }
            }
        }
    }

    /// What a node answers to `carillon ctl`, whether it can be reached by others or not.
    ///
    /// # Panics
    /// When the command cannot be started.
    pub fn try_ctl(&self, name: &str, arguments: &[&str]) -> Output {
        let (verb, rest) = arguments.split_first().expect("a command has a name");
        let mut command = Command::new(carillon());
        command.args(["ctl", verb, "--data"]).arg(self.data(name)).args(rest).env_remove("RUST_LOG");
        command.output().expect("the program can be started")
    }

    /// The same where it is not refused.
    ///
    /// # Panics
    /// When it is.
    pub fn ctl(&self, name: &str, arguments: &[&str]) -> String {
        let out = self.try_ctl(name, arguments);
        let (text, error) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{name}: ctl {arguments:?}: {}: {text}{error}", out.status);
        text.into_owned()
    }

    /// Waits until a node answers so.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn until_ctl(&self, name: &str, arguments: &[&str], is_so: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        self.until(&format!("{name} answers ctl {arguments:?} as it should"), || {
            last = self.ctl(name, arguments);
            if is_so(&last) { Ok(()) } else { Err(last.clone()) }
        });
        last
    }

    /// Waits until all nodes that run have sessions with all others.
    ///
    /// # Panics
    /// When they do not in time.
    pub fn wait_until_all_links_are_up(&self) {
        for name in self.running() {
            let others = self.running().filter(|other| *other != name);
            let others: Vec<String> = others.map(|other| self.member(other).host.to_string()).collect();
            self.until_ctl(name, &["links"], |table| {
                let rows: Vec<Vec<&str>> =
                    table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
                let is_up = |row: &&Vec<&str>| row.get(3) == Some(&"up");
                others.iter().all(|other| {
                    let to = || rows.iter().filter(|row| row.first() == Some(&other.as_str()));
                    to().count() > 0 && to().count() == to().filter(is_up).count()
                })
            });
        }
    }

    /// A figure of a node.
    ///
    /// # Panics
    /// When the node does not tell it.
    pub fn figure(&self, name: &str, sample: &str) -> f64 {
        Page::of(SocketAddr::new(self.ip(name), OPERATE)).value(sample)
    }

    /// Waits until a figure of a node is so.
    ///
    /// # Panics
    /// When it is not in time.
    pub fn until_figure(&self, name: &str, sample: &str, is_so: impl Fn(f64) -> bool) {
        self.until(&format!("{sample} of {name} is as it should be"), || {
            let value = self.figure(name, sample);
            if is_so(value) { Ok(()) } else { Err(value.to_string()) }
        });
    }

    /// Looks again and again until it is so.
    ///
    /// # Panics
    /// When it is not in time, with what was seen last.
    pub fn until(&self, what: &str, mut look: impl FnMut() -> Result<(), String>) {
        let end = Instant::now() + PATIENCE * 2;
        while let Err(seen) = look() {
            assert!(Instant::now() < end, "waited in vain until {what}; {seen}");
            sleep(LOOK);
        }
    }

    /// The line of a node's log that has this, behind so many others that have it.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn line_of(&self, name: &str, part: &str, behind: usize) -> String {
        let mut found = None;
        self.until(&format!("{name} says {part:?}"), || {
            let lines = self.member(name).process.as_ref().map(Process::lines).unwrap_or_default();
            found = lines.into_iter().filter(|line| line.contains(part)).nth(behind);
            found.as_ref().map(|_| ()).ok_or_else(String::new)
        });
        found.expect("it was waited for")
    }

    /// How many lines of a node's log have this.
    pub fn count_of(&self, name: &str, part: &str) -> usize {
        let lines = self.member(name).process.as_ref().map(Process::lines).unwrap_or_default();
        lines.iter().filter(|line| line.contains(part)).count()
    }
}
