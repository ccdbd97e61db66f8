//! `carillon ctl`: what an operator has a running node do by its socket, and restoring a backup where none runs.
//!
//! Rooms: `rows` (get, apply, delete, watch), `operate` (calls, bindings), `cluster` (nodes, drain), `simulate` (calls that might be), `rates` (files of rates), `documents` (files of rows), `reach` (the way to a node). Elsewhere: the node's side
//! (`control`; crate `api`, room `grpc`).

mod cluster;
mod documents;
mod operate;
mod rates;
mod reach;
mod rows;
mod simulate;

use crate::config::list;
use crate::control::{Answer, LARGEST, SOCKET, by_short_path};
use crate::kept::open_store;
use crate::node::StartError;
use crate::place::{KEY_FILE, Key};
use crate::{complain, tell};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::config::{ConfigError, Salvage};

/// How long a node may take for an answer: an import hashes passwords, one of people takes tens of milliseconds.
const PATIENCE: Duration = Duration::from_secs(900);
/// Octets of an answer beside the document in it.
const HEAD: usize = 64 << 10;
/// The name of the configuration's file in a data directory.
pub(crate) const CONFIGURATION: &str = "configuration.redb";

/// What `carillon ctl` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The data directory of the node.
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print rows of the configuration.
    Get(rows::Get),
    /// Make and change rows as files say, all or none.
    Apply(rows::Apply),
    /// Delete rows.
    Delete(rows::Delete),
    /// Print changes of the configuration as they are made.
    Watch(rows::Watch),
    /// Print how the node is.
    Status(operate::Look),
    /// Print the calls that go on, on all nodes.
    Calls(operate::Calls),
    /// End a call, whichever node serves it.
    #[command(visible_alias = "hangup")]
    HangUp(operate::HangUp),
    /// Print the registered contacts of an address of record.
    Bindings(operate::Bindings),
    /// Drop registered contacts of an address of record; the telephones are not told.
    Unbind(operate::Unbind),
    /// Print the nodes of the cluster.
    Nodes(cluster::Nodes),
    /// Print who owns what: the partitions of clients, and what one node does for all.
    Owners(cluster::Owners),
    /// Print the node's links to others.
    Links(cluster::Links),
    /// Let a node's conversations go to others, and wait until it may end. Registrations stay where they are, and others call by them. Calls
    /// that ring, and telephones that have a connection (TCP) or are behind NAT, stay until their calls end. Ends with 0: nothing is left;
    /// 3: the time is over and something is left; 1: it is refused.
    Drain(cluster::Drain),
    /// Print what happens to the nodes, as it happens.
    Events(cluster::Events),
    /// Import rates from a file.
    Rates(rates::Rates),
    /// Print which way a call would go, by which carriers, at which price and costs, and why; nobody is called.
    Route(simulate::Route),
    /// Print what a call would cost a client, by a carrier or by a rating plan, and why.
    Rate(simulate::Rate),
    /// Print what the node logs, or change it.
    LogLevel(operate::LogLevel),
    #[command(flatten)]
    Whole(Whole),
}

/// What is done to the whole of a configuration.
#[derive(clap::Subcommand)]
enum Whole {
    /// Put the rows of a document into the running node's configuration, all or none.
    Import {
        /// Drop all other rows, and end all log-ins at the API.
        #[arg(long)]
        replace: bool,
        /// The document: {"entities": {"Provider.Brand": [{"id": 1, …}]}}.
        file: PathBuf,
    },
    /// Write the running node's configuration as such a document; passwords of telephones are in it in the clear.
    Export {
        /// Where to; standard output unless told otherwise.
        file: Option<PathBuf>,
    },
    /// Write a backup of the running node's configuration, its records and change log; secrets stay sealed in it.
    Backup {
        /// Where to.
        file: PathBuf,
    },
    /// Restore a backup into a data directory that has no configuration yet; no node may be using it.
    Restore {
        /// The backup.
        file: PathBuf,
    },
    /// Write what can be read of a damaged configuration into a backup, to be restored; no node may be using it.
    Salvage {
        /// Where to.
        file: PathBuf,
    },
}

/// Does it, on a thread of its own. A dry run ends with 0: nothing would change, 1: something would, 2: it is refused.
pub(crate) fn start(arguments: Arguments) -> ExitCode {
    const PENDING: u8 = 1;
    const FAILED: u8 = 2;
    const LEFT: u8 = 3;
    let is_drain = matches!(&arguments.command, Command::Drain(_));
    let is_dry = match &arguments.command {
        Command::Apply(apply) => apply.dry_run,
        Command::Delete(delete) => delete.dry_run,
        Command::Rates(rates::Rates { command: rates::RatesCommand::Import(import) }) => import.dry_run,
        _ => false,
    };
    let pending = Arc::new(AtomicBool::new(false));
    let found = Arc::clone(&pending);
    let code = crate::run(1, false, async move {
        found.store(run(arguments).await?, Ordering::Relaxed);
        Ok(())
    });
    match code {
        ExitCode::SUCCESS if is_dry && pending.load(Ordering::Relaxed) => ExitCode::from(PENDING),
        ExitCode::FAILURE if is_dry => ExitCode::from(FAILED),
        ExitCode::SUCCESS if is_drain && pending.load(Ordering::Relaxed) => ExitCode::from(LEFT),
        code => code,
    }
}

/// Does it; out: whether anything changed, or would, or is left, where that is the question.
async fn run(arguments: Arguments) -> Result<bool, StartError> {
    if let Some(data) = arguments.data.as_deref().filter(|data| !data.is_dir()) {
        let shown = data.display();
        return Err(StartError(format!("--data {shown}: no such directory; name the one of a node")));
    }
    let data = arguments.data.as_deref();
    match arguments.command {
        Command::Get(get) => rows::get(data, get).await.map(|()| false),
        Command::Apply(apply) => rows::apply(data, apply).await,
        Command::Delete(delete) => rows::delete(data, delete).await,
        Command::Watch(watch) => rows::watch(data, watch).await.map(|()| false),
        Command::Status(look) => operate::status(data, look).await.map(|()| false),
        Command::Calls(calls) => operate::calls(data, calls).await.map(|()| false),
        Command::HangUp(hang_up) => operate::hang_up(data, hang_up).await.map(|()| false),
        Command::Bindings(bindings) => operate::bindings(data, bindings).await.map(|()| false),
        Command::Unbind(unbind) => operate::unbind(data, unbind).await.map(|()| false),
        Command::Nodes(nodes) => cluster::nodes(data, nodes).await.map(|()| false),
        Command::Owners(owners) => cluster::owners(data, owners).await.map(|()| false),
        Command::Links(links) => cluster::links(data, links).await.map(|()| false),
        Command::Drain(drain) => cluster::drain(data, drain).await,
        Command::Events(events) => cluster::events(data, events).await.map(|()| false),
        Command::Rates(rates::Rates { command: rates::RatesCommand::Import(import) }) => {
            let none = || StartError("--data DIR: name the data directory of the node".to_owned());
            rates::import(data.ok_or_else(none)?, &import)
        }
        Command::Route(route) => simulate::route(data, route).await.map(|()| false),
        Command::Rate(rate) => simulate::rate(data, rate).await.map(|()| false),
        Command::LogLevel(level) => operate::log_level(data, level).await.map(|()| false),
        Command::Whole(whole) => {
            let none = || StartError("--data DIR: name the data directory of the node".to_owned());
            run_whole(data.ok_or_else(none)?, whole).await.map(|()| false)
        }
    }
}

async fn run_whole(data: &Path, command: Whole) -> Result<(), StartError> {
    match command {
        Whole::Import { replace, file } => import(data, replace, &file),
        Whole::Export { file } => export(data, file.as_deref()),
        Whole::Backup { file } => backup(data, &file),
        Whole::Restore { file } => restore(data, &file).await,
        Whole::Salvage { file } => salvage(data, &file),
    }
}

fn import(data: &Path, replace: bool, file: &Path) -> Result<(), StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError(format!("{}: {error}", file.display()));
    let mut document = Vec::new();
    let open = std::fs::File::open(file).map_err(|error| failed(&error))?;
    open.take(LARGEST as u64 + 1).read_to_end(&mut document).map_err(|error| failed(&error))?;
    if document.len() > LARGEST {
        return Err(failed(&format!("longer than {LARGEST} octets; import it in parts")));
    }
    let path = if replace { "/replace" } else { "/import" };
    let answer = told(file, exchange(data, "POST", path, &document)?)?;
    let [rows, new, changed, removed] = answer.rows;
    let same = rows.saturating_sub(new).saturating_sub(changed);
    tell(&format!("{rows} rows read: {new} new, {changed} changed, {same} as they were; {removed} removed"));
    let skipped: usize = answer.skipped.values().sum();
    if skipped > 0 {
        let names: Vec<_> =
            answer.skipped.iter().map(|(entity, count)| format!("{entity} ({count})")).collect();
        tell(&format!("{skipped} rows of another system's inner tables skipped: {}", names.join(", ")));
    }
    answer.notes.iter().for_each(|note| complain(&format!("note: {note}")));
    Ok(())
}

fn export(data: &Path, file: Option<&Path>) -> Result<(), StartError> {
    let (status, document) = exchange(data, "GET", "/export", b"")?;
    if status != 200 {
        return told(data, (status, document)).map(drop);
    }
    let Some(file) = file else {
        let mut out = io::stdout();
        return Ok(out.write_all(&document).and_then(|()| out.flush())?);
    };
    let failed = |error: &dyn std::fmt::Display| {
        StartError(format!("{}: {error}; name a file that can be written", file.display()))
    };
    if file.exists() && !file.is_file() {
        return Err(failed(&"no file"));
    }
    let write = || -> io::Result<()> {
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        // Its owner's alone from the beginning, and there when it is whole.
        let mut new = tempfile::NamedTempFile::new_in(parent.unwrap_or(Path::new(".")))?;
        new.write_all(&document)?;
        new.as_file().sync_all()?;
        new.persist(file)?;
        Ok(())
    };
    write().map_err(|error| failed(&error))?;
    complain(&format!("{}: passwords of telephones are in it in the clear", file.display()));
    Ok(())
}

fn backup(data: &Path, file: &Path) -> Result<(), StartError> {
    if file.file_name().is_none() || (file.exists() && !file.is_file()) {
        return Err(StartError(format!("{}: no file; name a file that can be written", file.display())));
    }
    let file = std::path::absolute(file)?;
    let answer = told(&file, exchange(data, "POST", "/backup", file.as_os_str().as_bytes())?)?;
    tell(&format!("{}: {}", file.display(), counted(answer.backup)));
    let key = data.join(KEY_FILE);
    complain(&format!(
        "note: a backup is of no use without the key that its secrets are sealed by: keep a copy of {} elsewhere. Call records of \
         `carillon cdrs` and the directory `files` are not in it",
        key.display()
    ));
    Ok(())
}

fn counted([revision, rows, records, log]: [u64; 4]) -> String {
    format!("revision {revision}, {rows} rows, {records} records, {log} entries of the change log")
}

/// What the node answered, or what it refused.
fn told(file: &Path, (status, body): (u16, Vec<u8>)) -> Result<Answer, StartError> {
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| {
        StartError(format!(
            "the node's answer ({status}) is not understood; use its own version of the program"
        ))
    })?;
    if !answer.mistakes.is_empty() {
        let mut text = list(&answer.mistakes, &file.display().to_string());
        if answer.mistakes.iter().any(|mistake| mistake.contains(" has the same")) {
            text.push_str(
                "\nrows of a system that comes from elsewhere take the places of those that are there with `import --replace`",
            );
        }
        return Err(StartError(text));
    }
    match answer.error {
        Some(error) => Err(StartError(error)),
        None => Ok(answer),
    }
}

/// One request and its answer: status and body.
fn exchange(data: &Path, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>), StartError> {
    let mut stream = by_short_path(data, SOCKET, |short| UnixStream::connect(short))
        .map_err(|error| reach::unreachable(data, &error))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // A node that refuses does not read to the end; its answer says why.
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    let read = stream.take((LARGEST + HEAD) as u64).read_to_end(&mut answer);
    parted(&answer).ok_or_else(|| {
        let why = sent.err().or(read.err()).map(|error| format!(" ({error})")).unwrap_or_default();
        StartError(format!(
            "the node did not answer to the end{why}; see its log, and look at what it holds before doing it again"
        ))
    })
}

/// Status and body of an answer that is whole.
fn parted(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).take(HEAD).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (std::str::from_utf8(&answer[..end]).ok()?, &answer[end + 4..]);
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    (length == Some(body.len())).then(|| (status, body.to_vec()))
}

async fn restore(data: &Path, file: &Path) -> Result<(), StartError> {
    let shown = data.display();
    let target = data.join(CONFIGURATION);
    if target.exists() {
        return Err(StartError(format!(
            "{shown} holds a configuration already; stop its node and move {CONFIGURATION} away, or name another directory"
        )));
    }
    if !data.join(KEY_FILE).exists() {
        return Err(StartError(format!(
            "{shown}: there is no {KEY_FILE}; copy the one of the data directory that the backup was taken of there first, for its owner \
             alone (chmod 600): secrets in the backup are sealed by it"
        )));
    }
    let key = Key::at(data.join(KEY_FILE))?.bytes;
    // Whatever goes wrong, the directory is as it was.
    let place = tempfile::Builder::new().prefix(".restore").tempdir_in(data)?;
    let store = open_store(place.path(), key).await?;
    let summary = store.restore(file).await.map_err(|error| match error {
        ConfigError::WrongKey { .. } | ConfigError::UnknownKey { .. } => StartError(format!(
            "{}: its secrets are sealed by another key than {}; put the {KEY_FILE} of the data directory that it was taken of there. \
             Without that key this backup cannot be used; an export can, as `carillon ctl import --replace`",
            file.display(),
            data.join(KEY_FILE).display()
        )),
        error => StartError::from(error),
    })?;
    drop(store);
    // Unlike renaming, this fails where a node has made one meanwhile.
    std::fs::hard_link(place.path().join(CONFIGURATION), &target).map_err(|error| {
        StartError(format!("{}: {error}; let no node use the directory", target.display()))
    })?;
    std::fs::File::open(data)?.sync_all()?;
    tell(&format!(
        "{shown}: {}",
        counted([summary.revision, summary.rows, summary.records, summary.log_entries])
    ));
    Ok(())
}

fn salvage(data: &Path, file: &Path) -> Result<(), StartError> {
    const MOST_LINES: usize = 200;
    let Salvage { saved, lost } = store::config::salvage(data, file)?;
    tell(&format!(
        "{}: {}",
        file.display(),
        counted([saved.revision, saved.rows, saved.records, saved.log_entries])
    ));
    lost.iter().take(MOST_LINES).for_each(|line| tell(&format!("lost: {line}")));
    if lost.len() > MOST_LINES {
        tell(&format!("lost: {} more", lost.len() - MOST_LINES));
    }
    let directory = data.display();
    tell(&format!(
        "to go on with it, move {CONFIGURATION} of {directory} away and run `carillon ctl --data {directory} restore {}`",
        file.display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_cut_off_is_none() {
        let whole = b"HTTP/1.1 422 X\r\ncontent-length: 4\r\n\r\nbody";
        assert_eq!(parted(whole), Some((422, b"body".to_vec())));
        for end in 0..whole.len() {
            assert_eq!(parted(&whole[..end]), None, "{end}");
        }
        assert_eq!(parted(b"HTTP/1.1 200 OK\r\n\r\nbody"), None, "nobody knows whether that is all");
    }

    #[tokio::test]
    async fn where_no_node_runs_it_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().to_owned();
        let StartError(text) = run(Arguments {
            data: Some(data.clone()),
            command: Command::Whole(Whole::Export { file: None }),
        })
        .await
        .unwrap_err();
        assert!(text.starts_with(&format!("no node runs on {}; ", data.display())), "{text}");
        drop(std::os::unix::net::UnixListener::bind(data.join(SOCKET)).unwrap()); // one that was killed
        let StartError(text) = run(Arguments {
            data: Some(data.clone()),
            command: Command::Whole(Whole::Export { file: None }),
        })
        .await
        .unwrap_err();
        assert!(text.starts_with("no node runs on "), "{text}");
        let data = data.join("nothing");
        let StartError(text) =
            run(Arguments { data: Some(data), command: Command::Whole(Whole::Export { file: None }) })
                .await
                .unwrap_err();
        assert!(text.contains("no such directory"), "{text}");
    }

    #[tokio::test]
    async fn a_backup_wants_the_key_that_it_is_sealed_by_and_an_empty_place() {
        let folder = tempfile::tempdir().unwrap();
        let directory = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (old, new, file) = (directory("old"), directory("new"), folder.path().join("backup"));
        let store = open_store(&old, Key::at(old.join(KEY_FILE)).unwrap().bytes).await.unwrap();
        store.backup(&file).await.unwrap();
        drop(store);
        let into = |data: &Path| {
            let (data, file) = (data.to_owned(), file.clone());
            async move {
                let done =
                    run(Arguments { data: Some(data), command: Command::Whole(Whole::Restore { file }) })
                        .await;
                done.map_err(|StartError(text)| text)
            }
        };
        let files = |data: &Path| std::fs::read_dir(data).unwrap().count();
        let text = into(&new).await.unwrap_err();
        assert!(text.contains("there is no secret.key"), "{text}");
        assert_eq!(files(&new), 0);
        std::fs::write(new.join(KEY_FILE), [7; 32]).unwrap();
        let text = into(&new).await.unwrap_err();
        assert!(text.contains("sealed by another key"), "{text}");
        assert_eq!(files(&new), 1, "only the key");
        std::fs::copy(old.join(KEY_FILE), new.join(KEY_FILE)).unwrap();
        assert_eq!(into(&new).await, Ok(false));
        assert_eq!(files(&new), 2);
        let text = into(&new).await.unwrap_err();
        assert!(text.contains("holds a configuration already"), "{text}");
        assert!(open_store(&new, Key::at(new.join(KEY_FILE)).unwrap().bytes).await.is_ok());
    }
}
