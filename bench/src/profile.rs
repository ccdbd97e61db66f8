//! Where our server's time goes: `perf` watches it under load, the hottest symbols are printed.

use crate::cpu::{self, Server};
use crate::sipload::{Generator, Plan};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Symbols printed.
const TOP: usize = 25;

/// Carries out `plan` while `perf` watches, prints the load's figures and the hottest symbols.
pub(crate) fn run(
    server: &Server,
    generator: &mut Generator,
    plan: &Plan,
    directory: &Path,
) -> io::Result<()> {
    cpu::need("perf", "linux-perf")?;
    let data = directory.join("perf.data").display().to_string();
    let ids = server.tree().iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let seconds = plan.measured.as_secs().to_string();
    let delay = plan.warm_up.as_millis().to_string();
    let mut recorder = Command::new("perf")
        .args([
            "record", "-q", "-F", "997", "-g", "-o", &data, "-D", &delay, "-p", &ids, "--", "sleep", &seconds,
        ])
        .stdout(Stdio::null())
        .spawn()?;
    let mut report = generator.run(plan, Some(server))?;
    println!("{}\n", report.line());
    if !recorder.wait()?.success() {
        return Err(io::Error::other(
            "perf may not record here: run as root or lower kernel.perf_event_paranoid",
        ));
    }
    for (heading, sort, top) in [("by thread", "comm", 10), ("by symbol", "symbol", TOP)] {
        let report = Command::new("perf")
            .args(["report", "-i", &data, "--stdio", "-q", "--no-children", "-g", "none", "-s", sort])
            .stderr(Stdio::null())
            .output()?;
        println!("{heading}");
        let text = String::from_utf8_lossy(&report.stdout);
        for line in text
            .lines()
            .map(|line| line.trim_end_matches([' ', '-']))
            .filter(|line| !line.is_empty())
            .take(top)
        {
            println!("{line}");
        }
        println!();
    }
    Ok(())
}
