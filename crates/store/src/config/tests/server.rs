//! A PostgreSQL server for the tests of this process: Debian's programs, an empty cluster, a free port of the loopback.
//!
//! `carillon` needs no password, `careful` has one. Whoever wants TLS gets it. The whole system's tests take this room, too. It ends with the process, however that ends: a shell waits for the end of its input and then clears all away.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub(super) struct Server {
    pub(super) port: u16,
    /// The certificate of the authority that signed the server's, in PEM.
    pub(super) authority: PathBuf,
    /// Its input is what the shell waits on.
    _shell: Child,
}

/// The password of the user `careful`.
pub(super) const PASSWORD: &str = "a long password";

/// Arguments: the programs' directory, the port, the password.
const SCRIPT: &str = r#"
set -e
dir=$(mktemp -d -t carillon-test-postgres.XXXXXX)
cd "$dir"
"$1/initdb" -D "$dir/data" -A trust -U carillon -E UTF8 --locale=C --no-sync >"$dir/log" 2>&1 || { cat "$dir/log"; rm -rf "$dir"; exit 1; }
{
    openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout ca.key -out ca.pem -days 2 -subj "/CN=Authority"
    openssl req -new -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout server.key -out server.csr -subj "/CN=127.0.0.1"
    echo "subjectAltName=IP:127.0.0.1" >names
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names
    chmod 600 server.key
    echo "CREATE ROLE careful LOGIN SUPERUSER PASSWORD '$3'" | "$1/postgres" --single -D "$dir/data" postgres
} >>"$dir/log" 2>&1 || { cat "$dir/log"; rm -rf "$dir"; exit 1; }
echo "host all careful 127.0.0.1/32 scram-sha-256" >hba
cat data/pg_hba.conf >>hba
cat hba >data/pg_hba.conf
"$1/postgres" -D "$dir/data" -k "$dir" -p "$2" -c listen_addresses=127.0.0.1 -c fsync=off -c full_page_writes=off \
    -c ssl=on -c ssl_cert_file="$dir/server.pem" -c ssl_key_file="$dir/server.key" -c shared_buffers=32MB -c max_connections=200 >>"$dir/log" 2>&1 &
server=$!
echo "started $dir"
read line || true
kill -INT $server
wait $server || true
rm -rf "$dir"
"#;

/// The server; the first one who asks starts it.
pub(super) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(start)
}

fn start() -> Server {
    let programs = programs().unwrap_or_else(|| {
        panic!("these tests need PostgreSQL's server: apt-get install --no-install-recommends postgresql")
    });
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.expect("the loopback has a free port").port();
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.starts_with(b"0"));
    // PostgreSQL refuses to run as root.
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
        command
    } else {
        Command::new("sh")
    };
    command.args(["-c", SCRIPT, "sh"]).arg(programs).arg(port.to_string()).arg(PASSWORD);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut shell = command.spawn().expect("a shell starts");
    let mut line = String::new();
    let mut output = BufReader::new(shell.stdout.take().expect("its output is piped"));
    output.read_line(&mut line).expect("it says something");
    let directory = line.trim_end().strip_prefix("started ");
    let directory = directory.unwrap_or_else(|| panic!("PostgreSQL's cluster could not be made: {line}"));
    let authority = Path::new(directory).join("ca.pem");
    let until = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "PostgreSQL does not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
    Server { port, authority, _shell: shell }
}

/// Where Debian puts the programs; the newest version.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions.flatten().map(|version| version.path().join("bin")).collect();
    found.retain(|bin| bin.join("postgres").is_file() && bin.join("initdb").is_file());
    found.sort_by_key(|bin| {
        bin.parent().and_then(Path::file_name).and_then(|name| name.to_str()?.parse::<u32>().ok())
    });
    found.pop()
}
