//! An etcd of the machine (Debian package etcd-server) for tests: on free ports of loopback, or on machines of a test's own network, in a
//! temporary directory.
//!
//! It is killed when its value is dropped. Plain blocking code, so that tests of any kind can use it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a start may take.
const START: Duration = Duration::from_secs(30);

/// Files for TLS with clients' certificates.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    /// Who signs certificates.
    pub ca: &'a Path,
    /// The server's own.
    pub certificate: &'a Path,
    /// And its key.
    pub key: &'a Path,
}

/// A running etcd.
#[derive(Debug)]
pub struct EtcdServer {
    directory: TempDir,
    client: SocketAddr,
    scheme: &'static str,
    /// The command, and what stands before it.
    words: Vec<String>,
    child: Option<Child>,
}

impl EtcdServer {
    /// An etcd without TLS.
    ///
    /// # Errors
    ///
    /// It is not installed, or does not start.
    pub fn start() -> io::Result<Self> {
        Self::start_with(None)
    }

    /// An etcd that wants certificates of its clients.
    ///
    /// # Errors
    ///
    /// It is not installed, or does not start.
    pub fn start_tls(tls: Tls<'_>) -> io::Result<Self> {
        Self::start_with(Some(tls))
    }

    /// Several that are one etcd: it works as long as most of them run.
    ///
    /// # Errors
    ///
    /// It is not installed, or does not start.
    pub fn start_several(count: usize) -> io::Result<Vec<Self>> {
        let at = (0..count).map(|_| Ok((Vec::new(), free_address()?, free_address()?)));
        Self::start_at(&at.collect::<io::Result<Vec<_>>>()?)
    }

    /// The same, each on a machine of its own: words that begin a command there, where clients and where the others reach it.
    ///
    /// # Errors
    ///
    /// It is not installed, or does not start.
    pub fn start_at(at: &[(Vec<String>, SocketAddr, SocketAddr)]) -> io::Result<Vec<Self>> {
        let servers = (0..at.len()).map(|number| Self::new(None, at, number));
        let mut servers = servers.collect::<io::Result<Vec<_>>>()?;
        // One alone serves nobody, so all begin before any is waited for.
        servers.iter_mut().try_for_each(Self::spawn)?;
        servers.iter_mut().try_for_each(Self::wait)?;
        Ok(servers)
    }

    fn start_with(tls: Option<Tls<'_>>) -> io::Result<Self> {
        let mut server = Self::new(tls, &[(Vec::new(), free_address()?, free_address()?)], 0)?;
        server.restart()?;
        Ok(server)
    }

    fn new(
        tls: Option<Tls<'_>>,
        at: &[(Vec<String>, SocketAddr, SocketAddr)],
        number: usize,
    ) -> io::Result<Self> {
        let directory = TempDir::with_prefix("etcd")?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (mut words, client, peer) = at[number].clone();
        let all = at.iter().enumerate().map(|(number, (_, _, peer))| format!("n{number}=http://{peer}"));
        let all: Vec<String> = all.collect();
        words.extend([
            "etcd".to_owned(),
            format!("--name=n{number}"),
            format!("--data-dir={}", directory.path().join("data").display()),
            format!("--listen-client-urls={scheme}://{client}"),
            format!("--advertise-client-urls={scheme}://{client}"),
            format!("--listen-peer-urls=http://{peer}"),
            format!("--initial-advertise-peer-urls=http://{peer}"),
            format!("--initial-cluster={}", all.join(",")),
            "--logger=zap".to_owned(),
        ]);
        if let Some(tls) = tls {
            words.extend([
                "--client-cert-auth".to_owned(),
                format!("--trusted-ca-file={}", tls.ca.display()),
                format!("--cert-file={}", tls.certificate.display()),
                format!("--key-file={}", tls.key.display()),
            ]);
        }
        Ok(Self { directory, client, scheme, words, child: None })
    }

    /// Where clients reach it, for `cluster.etcd`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.client)
    }

    /// The address alone.
    pub fn address(&self) -> SocketAddr {
        self.client
    }

    /// Whether it leads the others, as far as it knows.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub fn is_leader(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect(self.client)?;
        stream.set_read_timeout(Some(START))?;
        write!(
            stream,
            "POST /v3/maintenance/status HTTP/1.1\r\nHost: etcd\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let number = |field: &str| answer.split_once(field)?.1.split('"').nth(1);
        let leader = number("\"leader\":").ok_or_else(|| io::Error::other(answer.clone()))?;
        Ok(number("\"member_id\":") == Some(leader))
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends it at once, as a failure of the machine would. What it has acknowledged is kept.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Lets it stand still: connections stay, and nothing is answered.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn pause(&self) -> io::Result<()> {
        self.signal("STOP")
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn resume(&self) -> io::Result<()> {
        self.signal("CONT")
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        let pid = self.pid().ok_or_else(|| io::Error::other("etcd does not run"))?;
        let done = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status()?;
        if done.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{signal}: {done}"))) }
    }

    /// Starts it (again) on the same address, with what it has kept, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// It ends, or accepts nothing within half a minute: the error has the end of its log.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        self.spawn()?;
        self.wait()
    }

    fn spawn(&mut self) -> io::Result<()> {
        let log = std::fs::File::create(self.directory.path().join("log"))?;
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let not_there =
            |error| io::Error::other(format!("cannot start etcd (Debian package etcd-server): {error}"));
        self.child = Some(command.spawn().map_err(not_there)?);
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let begin = Instant::now();
        while TcpStream::connect(self.client).is_err() {
            let has_ended = match &mut self.child {
                Some(child) => child.try_wait()?.is_some(),
                None => true,
            };
            if has_ended || begin.elapsed() > START {
                self.kill();
                let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                let end: Vec<&str> = log.lines().rev().take(5).collect();
                return Err(io::Error::other(format!("etcd does not start: {}", end.join("\n"))));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address of loopback that nobody uses at this moment.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
