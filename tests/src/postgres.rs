//! PostgreSQL for nodes: databases of a test's own on one server, and a gate before it that can be shut.
//!
//! In: nothing. Out: addresses for `[store]` of a node's file. Elsewhere: the server, which the store's own tests use, too.

#[path = "../../crates/store/src/config/tests/server.rs"]
mod server;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// The password that [`Database::address`] needs.
pub const PASSWORD: &str = server::PASSWORD;

/// A database that is empty at first.
pub struct Database {
    name: String,
}

impl Database {
    /// A new one.
    ///
    /// # Panics
    /// When there is no server.
    pub fn make() -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let database = Database { name };
        database.ask("postgres", &format!("CREATE DATABASE {}", database.name));
        database
    }

    /// Its address for a user who needs a password, by this port of the loopback.
    pub fn address(&self, port: u16) -> String {
        self.address_at(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// The same by a gate that is elsewhere.
    pub fn address_at(&self, gate: SocketAddr) -> String {
        format!("postgresql://careful@{gate}/{}", self.name)
    }

    /// The file with the certificate of the authority that the server can be trusted by.
    pub fn authority() -> &'static Path {
        &server::server().authority
    }

    /// The server's own port.
    pub fn port() -> u16 {
        server::server().port
    }

    /// What the server answers to a statement, one value a line.
    ///
    /// # Panics
    /// When it refuses it.
    pub fn query(&self, sql: &str) -> String {
        self.ask(&self.name, sql)
    }

    fn ask(&self, database: &str, sql: &str) -> String {
        let port = Database::port().to_string();
        let out = Command::new("psql")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "carillon",
                "-d",
                database,
                "-v",
                "ON_ERROR_STOP=1",
                "-Atc",
                sql,
            ])
            .output()
            .expect("psql can be started");
        assert!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }
}

/// A way to the server that can be shut and opened again.
pub struct Gate {
    /// Its port.
    pub port: u16,
    state: Arc<Mutex<Passage>>,
}

#[derive(Default)]
struct Passage {
    is_shut: bool,
    open: Vec<TcpStream>,
}

impl Gate {
    /// An open one.
    ///
    /// # Panics
    /// When the loopback has no port.
    pub fn open() -> Gate {
        Self::open_at(Ipv4Addr::LOCALHOST.into())
    }

    /// An open one at another address of the test.
    ///
    /// # Panics
    /// When it has no port.
    pub fn open_at(ip: IpAddr) -> Gate {
        let listener = TcpListener::bind((ip, 0)).expect("the address has a free port");
        let port = listener.local_addr().expect("it has an address").port();
        let state: Arc<Mutex<Passage>> = Arc::default();
        let passage = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut passage = passage.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if passage.is_shut {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", Database::port())) else { continue };
                let ways = [(&client, &server), (&server, &client)];
                for (from, to) in ways.map(|(from, to)| (from.try_clone(), to.try_clone())) {
                    if let (Ok(from), Ok(to)) = (from, to) {
                        std::thread::spawn(move || carry(from, to));
                    }
                }
                passage.open.extend([client, server]);
            }
        });
        Gate { port, state }
    }

    /// Cuts what goes through it, and lets nobody through.
    pub fn shut(&self) {
        self.set(true);
    }

    /// Lets everybody through again.
    pub fn reopen(&self) {
        self.set(false);
    }

    fn set(&self, is_shut: bool) {
        let mut passage = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        passage.is_shut = is_shut;
        for stream in passage.open.drain(..).filter(|_| is_shut) {
            let _ = stream.shutdown(Shutdown::Both); // it may be closed already
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let Some(bytes) = buffer.get(..count) else { break };
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
