//! Debian packages that tests use as real peers: telephones, the database, etcd, a reader of HEP, networks; installed only where they are missing.

use crate::{run, say};
use std::process::Command;

/// Program, and the package that brings it.
const PEERS: [(&str, &str); 6] = [
    ("sipp", "sip-tester"),
    ("baresip", "baresip"),
    ("pg_ctlcluster", "postgresql"),
    ("etcd", "etcd-server"),
    ("sngrep", "sngrep"),
    ("ip", "iproute2"),
];

/// Installs what is missing with apt.
pub(crate) fn install() -> Result<(), String> {
    let missing: Vec<&str> =
        PEERS.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("installing {}", missing.join(" ")));
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(missing);
    apt(&arguments)
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// apt-get as root, through sudo where we are not.
fn apt(arguments: &[&str]) -> Result<(), String> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.starts_with(b"0"));
    let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
    if !root {
        command.arg("apt-get");
    }
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    run(command)
}
