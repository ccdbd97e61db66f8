//! `cargo xtask`: every command of the project, so that a person and CI run the same thing.
//!
//! `test` runs all parts; each part runs alone under its own name. Elsewhere: benchmarks (package `bench`).

mod packages;
mod tidy;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Name, what it shows, and how it runs.
type Part = (&'static str, &'static str, fn(&Path) -> Result<(), String>);

const PARTS: [Part; 9] = [
    ("tidy", "file headers, file sizes, licences of dependencies", tidy::run),
    ("format", "rustfmt finds nothing to change", |top| {
        cargo(top, &["fmt", "--all", "--check"], &[])?;
        // A build script finds these files, and rustfmt does not.
        let mut rustfmt = Command::new("rustfmt");
        rustfmt.args(["--check", "--edition", "2024"]).args(entities(top)?);
        run(rustfmt)
    }),
    ("lints", "clippy with warnings denied", |top| {
        cargo(top, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])?;
        // Outside the workspace, but they must not rot.
        cargo(top, &["clippy", "--manifest-path", "fuzz/Cargo.toml", "--", "-D", "warnings"], &[])
    }),
    ("docs", "rustdoc with warnings denied", |top| {
        let flags = [("RUSTDOCFLAGS", "-D warnings")];
        cargo(top, &["doc", "--workspace", "--no-deps", "--document-private-items"], &flags)
    }),
    ("packages", "Debian packages for tests with real peers are there", |_| packages::install()),
    ("deploy", "the chart, rendered and refused, container file, unit and examples", |top| {
        run(Command::new(top.join("tests/deploy/check.sh")))
    }),
    ("unit", "unit tests, ladders, simulations", |top| {
        cargo(top, &["test", "--workspace", "--exclude", "system-tests"], &[])
    }),
    ("rest", "generated requests over the REST API, by its own documents", |top| {
        run(Command::new(top.join("tests/rest/schemathesis.sh")))
    }),
    ("system", "the program itself against SIPp, baresip and hostile bytes", |top| {
        cargo(top, &["build", "--release", "--package", "carillon"], &[])?;
        cargo(top, &["test", "--package", "system-tests"], &[])
    }),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = env::args().skip(1).collect();
    let top = top();
    let parts: Vec<&Part> = match wanted.first().map(String::as_str) {
        Some("test") if wanted.len() == 1 => PARTS.iter().collect(),
        Some(name) if wanted.len() == 1 => PARTS.iter().filter(|part| part.0 == name).collect(),
        _ => Vec::new(),
    };
    if parts.is_empty() {
        say("usage: cargo xtask test | PART, where PART is one of");
        for (name, what, _) in PARTS {
            say(&format!("  {name:9} {what}"));
        }
        return ExitCode::from(2);
    }
    for (name, what, run) in parts {
        let start = Instant::now();
        say(&format!("== {name}: {what}"));
        if let Err(why) = run(&top) {
            say(&format!("== {name} FAILED after {} s: {why}", start.elapsed().as_secs()));
            return ExitCode::FAILURE;
        }
        say(&format!("== {name} ok, {} s", start.elapsed().as_secs()));
    }
    ExitCode::SUCCESS
}

/// The files of the configuration's entities.
fn entities(top: &Path) -> Result<Vec<PathBuf>, String> {
    let directory = top.join("crates/model/src/entities");
    let files = std::fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let files = files.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect())
}

#[expect(clippy::print_stdout, reason = "a command line tool talks on its standard output")]
fn say(line: &str) {
    println!("{line}");
}

/// The top of the repository, wherever the command was started.
fn top() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

fn cargo(top: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<(), String> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(top).args(arguments).envs(variables.iter().copied());
    run(command)
}

fn run(mut command: Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let status = command.status().map_err(|error| format!("cannot start {shown}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown}: {status}")) }
}
