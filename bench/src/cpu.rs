//! A server under test as the system sees it: started on its core, its CPU time, its memory.
//!
//! In: a command. Out: a [`Server`] that is killed when dropped. Nothing here knows SIP or RTP.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

/// The core that every server under test is pinned to.
pub(crate) const SERVER_CORE: u32 = 0;
/// The core that the generators are pinned to.
pub(crate) const GENERATOR_CORE: usize = 1;
/// The last of them.
const LAST_CORE: usize = GENERATOR_CORE;
/// Enough for the ports of the most calls that we offer.
const OPEN_FILES: u32 = 262_144;
/// Clock ticks a second in /proc/PID/stat: `USER_HZ`, 100 on every Linux.
const TICKS: u64 = 100;

/// A process tree under test.
pub(crate) struct Server {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Server {
    /// Starts `program` pinned to the server core; what it says on standard error goes to a file in `directory`.
    pub(crate) fn start(program: &Path, arguments: &[String], directory: &Path) -> io::Result<Server> {
        Self::start_on(&SERVER_CORE.to_string(), program, arguments, directory)
    }

    /// As [`Server::start`], on these cores: what has no generator beside it may have all.
    pub(crate) fn start_on(
        cores: &str,
        program: &Path,
        arguments: &[String],
        directory: &Path,
    ) -> io::Result<Server> {
        let _ = std::fs::remove_file(directory.join("server.log"));
        Self::start_as("server", Some(cores), program, arguments, directory)
    }

    /// One of several: what it says is added to a file of its name in `directory`. Without `cores` it may use all.
    pub(crate) fn start_as(
        name: &str,
        cores: Option<&str>,
        program: &Path,
        arguments: &[String],
        directory: &Path,
    ) -> io::Result<Server> {
        let log = directory.join(format!("{name}.log"));
        let said = File::options().create(true).append(true).open(&log)?;
        let all = format!("0-{}", LAST_CORE);
        let child = Command::new("taskset")
            .args(["-c", cores.unwrap_or(&all), "setpriv", "--pdeathsig", "TERM"]) // nothing outlives us
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said)
            .spawn()?;
        Ok(Server { child, name: name.to_owned(), log })
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sends it a signal, such as "TERM".
    pub(crate) fn signal(&self, signal: &str) -> io::Result<()> {
        let done =
            Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status()?;
        if done.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{signal}: {done}"))) }
    }

    /// How it ended, once it has.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Ends it at once, without a word.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Its standard output, once.
    pub(crate) fn output(&mut self) -> io::Result<ChildStdout> {
        self.child.stdout.take().ok_or_else(|| io::Error::other("the output was taken before"))
    }

    /// An error when the server has ended.
    pub(crate) fn check(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                Err(io::Error::other(format!("{} ended with {status}: {said}", self.name)))
            }
        }
    }

    /// Memory of the whole tree in KiB, pages shared between its processes counted once (sum of Pss).
    pub(crate) fn memory_kib(&self) -> u64 {
        self.tree().into_iter().filter_map(|pid| rollup_of(pid, "Pss:")).sum()
    }

    /// Memory of the whole tree in KiB, shared pages counted for each process (sum of Rss).
    pub(crate) fn resident_kib(&self) -> u64 {
        self.tree().into_iter().filter_map(|pid| rollup_of(pid, "Rss:")).sum()
    }

    /// Its processes, the root first.
    pub(crate) fn tree(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let mut next = 0;
        while let Some(&pid) = found.get(next) {
            next += 1;
            let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for task in tasks.flatten() {
                let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
                found.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
        }
        found
    }
}

/// One server, or several that are one service.
pub(crate) trait Measured {
    /// CPU time so far: user and system, all threads, living and reaped children; of each process tree.
    fn cpus(&self) -> Vec<Duration>;

    /// The same of all together.
    fn cpu(&self) -> Duration {
        self.cpus().iter().sum()
    }
}

impl Measured for Server {
    fn cpus(&self) -> Vec<Duration> {
        let ticks: u64 = self.tree().into_iter().filter_map(ticks_of).sum();
        vec![Duration::from_millis(ticks * 1000 / TICKS)]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let tree = self.tree();
        let (root, others) = (tree.first().copied(), tree.get(1..).unwrap_or_default());
        let ids = |ids: &mut dyn Iterator<Item = u32>| ids.map(|pid| pid.to_string()).collect::<Vec<_>>();
        let _ = Command::new("kill").arg("-TERM").args(ids(&mut root.into_iter())).status();
        for _ in 0..400 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        if !others.is_empty() {
            let quiet = Command::new("kill")
                .arg("-KILL")
                .args(ids(&mut others.iter().copied()))
                .stderr(Stdio::null())
                .status();
            let _ = quiet;
        }
        let _ = self.child.wait();
    }
}

/// utime + stime + cutime + cstime: fields 14 to 17 of proc_pid_stat(5); the name in field 2 may hold blanks.
fn ticks_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.get(stat.rfind(')')? + 2..)?;
    Some(fields.split(' ').skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum())
}

fn rollup_of(pid: u32, key: &str) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    rollup.lines().find_map(|line| line.strip_prefix(key))?.split_ascii_whitespace().next()?.parse().ok()
}

/// CPU time of this process so far, all threads.
pub(crate) fn own() -> Duration {
    Duration::from_millis(ticks_of(std::process::id()).unwrap_or(0) * 1000 / TICKS)
}

/// Pins this process, with the threads that it will start, to the generator core, and lets servers have more open files
/// than the usual limit where we may: a relay needs four for each call.
pub(crate) fn settle() -> io::Result<()> {
    netio::thread::pin(GENERATOR_CORE)
        .map_err(|error| io::Error::other(format!("the benchmark needs two cores: {error}")))?;
    let files = format!("--nofile={OPEN_FILES}:{OPEN_FILES}");
    let id = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &id, &files]).stderr(Stdio::null()).status()?;
    if !raised.success() {
        eprintln!(
            "open files cannot be raised to {OPEN_FILES}: run as root, or there will be ports for few calls"
        );
    }
    Ok(())
}

/// How many files a server of ours may open.
pub(crate) fn open_files() -> u32 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let hard = line.and_then(|line| line.split_ascii_whitespace().nth(1));
    hard.and_then(|hard| hard.parse().ok()).unwrap_or(OPEN_FILES)
}

/// Whether we may do everything.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|ids| ids.split_ascii_whitespace().nth(1)) == Some("0")
}

/// Where a program is installed.
pub(crate) fn find(program: &str) -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.exists());
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{program} is not installed")))
}

/// Installs a Debian package unless `program` is there.
pub(crate) fn need(program: &str, package: &str) -> io::Result<()> {
    if find(program).is_ok() {
        return Ok(());
    }
    eprintln!("installing {package}");
    let status = Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "-y", "-q", "--no-install-recommends", package])
        .stdout(Stdio::null())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("cannot install {package}: run apt-get as root")))
    }
}

/// One line that names the machine: CPU, cores, kernel.
pub(crate) fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let line = info.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(':')).map_or("?", |(_, value)| value.trim()).to_owned()
    };
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{} (family {}, model {}, {} MHz), {cores} cores, Linux {}",
        value("model name"),
        value("cpu family"),
        value("model"),
        value("cpu MHz"),
        kernel.trim()
    )
}
