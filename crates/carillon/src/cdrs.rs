//! `carillon cdrs`: call records as text, of a data directory or of a cluster.
//!
//! Elsewhere: keeping them (crate `store`); the same over the network comes with the administrative interface.

use crate::node::StartError;
use crate::{complain, config, place, tell};
use model::{CallDirection, Cdr, ExternalCall, MediaReport, Trunk};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::config::{CallQuery, CallTable, ConfigPlace};
use store::{CdrPage, CdrQuery, Store};
use tokio::runtime::{Builder, Runtime};

/// An answer of the cluster's database that takes longer is not waited for.
const ANSWER: Duration = Duration::from_secs(30);

/// What `carillon cdrs` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The data directory; no node may be using it.
    #[arg(long, value_name = "DIR", required_unless_present = "config", conflicts_with = "config")]
    data: Option<PathBuf>,
    /// The configuration file of a node: of one in a cluster the records of all its nodes are listed, which may be at work.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How many, newest first.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Prints the newest records.
pub(crate) fn run(arguments: &Arguments) -> Result<(), StartError> {
    let source = match (&arguments.config, &arguments.data) {
        (Some(file), _) => Source::of_node(file)?,
        (None, Some(data)) => Source::in_directory(data)?,
        (None, None) => return Err(StartError("name a data directory or a configuration file".to_owned())),
    };
    let left_out = list(&source, arguments.limit, |cdr| {
        tell(&if arguments.json { serde_json::to_string(cdr)? } else { shown(cdr) });
        Ok(())
    })?;
    if let Some(note) = left_out {
        complain(&note); // not among the records, which a program may be reading
    }
    if let Source::Directory(store) = source {
        store.close();
    }
    Ok(())
}

/// Where records are.
enum Source {
    /// In the data directory of a node that stands alone.
    Directory(Store),
    /// In the database of a cluster.
    Shared(Box<CallTable>, Runtime),
}

impl Source {
    fn in_directory(data: &Path) -> Result<Self, StartError> {
        if !data.is_dir() {
            let shown = data.display();
            return Err(StartError(format!("--data {shown}: no such directory; name the one of a node")));
        }
        if !Store::is_in(data) {
            let shown = data.display();
            return Err(StartError(format!(
                "--data {shown}: no node has kept data there; name the directory that a node has as `data` in [node]"
            )));
        }
        Ok(Self::Directory(Store::open(data)?))
    }

    fn of_node(file: &Path) -> Result<Self, StartError> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            StartError(format!("--config {}: {error}; name a file that exists", file.display()))
        })?;
        let (node, mistakes) = config::read_with(&text, &config::overrides());
        if !mistakes.is_empty() {
            return Err(StartError(config::list(&mistakes, &file.display().to_string())));
        }
        match place::of(&node)? {
            ConfigPlace::Postgres(shared) if node.cluster.is_some() => {
                let runtime = Builder::new_current_thread().enable_all().build()?;
                Ok(Self::Shared(Box::new(CallTable::at(&shared, ANSWER)?), runtime))
            }
            // A node that stands alone has its records itself, wherever its configuration is.
            _ => Self::in_directory(&node.data),
        }
    }

    fn page(&self, rest: CdrQuery) -> Result<CdrPage, StartError> {
        match self {
            Self::Directory(store) => Ok(store.cdrs(&rest)?),
            Self::Shared(table, runtime) => {
                Ok(runtime.block_on(table.cdrs(&CallQuery { brand: None, rest }))?)
            }
        }
    }

    fn count(&self) -> Result<u64, StartError> {
        match self {
            Self::Directory(store) => Ok(store.cdr_count()?),
            Self::Shared(table, runtime) => Ok(runtime.block_on(table.cdr_count())?),
        }
    }
}

/// Hands the newest records to `each`; returns what to say when there are more, or none.
fn list(
    source: &Source,
    limit: usize,
    mut each: impl FnMut(&Cdr) -> Result<(), StartError>,
) -> Result<Option<String>, StartError> {
    let mut left = limit;
    let mut after = None;
    while left > 0 {
        let page =
            source.page(CdrQuery { after, limit: left.min(CdrQuery::LIMIT_MAX), ..CdrQuery::default() })?;
        left -= page.cdrs.len();
        page.cdrs.iter().try_for_each(&mut each)?;
        if page.next.is_none() {
            let is_empty = left == limit;
            return Ok(is_empty.then(|| "no call record yet".to_owned()));
        }
        after = page.next;
    }
    let all = source.count()?;
    let is_cut = u64::try_from(limit).is_ok_and(|limit| limit < all);
    Ok(is_cut.then(|| format!("{limit} of {all} call records shown, the newest; use --limit for more")))
}

/// A call record for people, media figures included.
pub(crate) fn shown(cdr: &Cdr) -> String {
    let mut text = String::new();
    let talked = cdr
        .conversation_us()
        .map_or_else(|| "not answered".to_owned(), |us| format!("talked {:.1} s", us as f64 / 1e6));
    let _ = write!(
        text,
        "call {}  {}  {} \"{}\" -> {} \"{}\"  {}, ended by {:?}: {} {}",
        cdr.call,
        rfc_3339(cdr.started_us),
        cdr.caller.number,
        cdr.caller.name,
        cdr.callee.number,
        cdr.callee.name,
        talked,
        cdr.hung_up_by,
        cdr.cause.status,
        cdr.cause.text,
    );
    for leg in &cdr.legs {
        if let Some(media) = &leg.media {
            let _ = write!(text, "\n  {:6} {}", leg.endpoint, figures(media));
        }
    }
    for external in &cdr.externals {
        text.push_str("\n  ");
        text.push_str(&told(cdr, external));
    }
    text
}

/// What one client is told of an external call; rows are named by their ids, as only a configuration knows their names.
fn told(cdr: &Cdr, external: &ExternalCall) -> String {
    let (way, other) = match external.direction {
        CallDirection::Outbound => ("outbound", "to"),
        CallDirection::Inbound => ("inbound", "from"),
    };
    let caller = external.caller.map_or_else(|| "nobody".to_owned(), |number| number.to_string());
    let number = if other == "to" { external.callee.to_string() } else { caller };
    let mut text = format!("{way} of client {} {other} {number}", external.client);
    match external.trunk {
        Some(Trunk::Carrier { carrier, server }) => {
            let _ = write!(text, " by carrier {carrier} (server {server})");
        }
        Some(Trunk::DdiProvider(provider)) => {
            let _ = write!(text, " by DDI provider {provider}");
        }
        None => {}
    }
    let length = cdr.conversation_us().and_then(|us| u64::try_from(us).ok()).map(Duration::from_micros);
    match rating::charges(external, length) {
        Ok(charges) => {
            for (name, charged) in [("price", &charges.price), ("cost", &charges.cost)] {
                if let Some(charged) = charged {
                    let _ = write!(text, ", {name} {}", charged.money().amount);
                }
            }
        }
        Err(fault) => {
            let _ = write!(text, ", without a price: {fault}");
        }
    }
    if let Some(tariff) = &external.price {
        let _ = write!(text, ", destination {}, rating plan {}", tariff.destination, tariff.plan);
    }
    if !external.attempts.is_empty() {
        let tried = external.attempts.iter().map(|it| format!("carrier {} {}", it.carrier, it.status));
        let _ = write!(text, ", tried {}", tried.collect::<Vec<_>>().join(", "));
    }
    if let Some(tag) = &external.x_tag {
        let _ = write!(text, ", X-Tag {}", tag.escape_debug());
    }
    text
}

/// Unix time in microseconds as date and time of UTC (RFC 3339 section 5.6), to the second.
fn rfc_3339(unix_us: i64) -> String {
    const DAY: i64 = 86_400;
    const DAYS_OF_400_YEARS: i64 = 146_097;
    const DAYS_FROM_MARCH_0000_TO_1970: i64 = 719_468;
    let seconds = unix_us.div_euclid(1_000_000);
    let days = seconds.div_euclid(DAY) + DAYS_FROM_MARCH_0000_TO_1970;
    let time = seconds.rem_euclid(DAY);
    // Years that begin in March: the day that leap years add is the last of theirs.
    let (era, day) = (days.div_euclid(DAYS_OF_400_YEARS), days.rem_euclid(DAYS_OF_400_YEARS));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) =
        if month < 10 { (era * 400 + year, month + 3) } else { (era * 400 + year + 1, month - 9) };
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn figures(media: &MediaReport) -> String {
    let mut text = format!(
        "{} packets in, {} out, {} lost, jitter {:.1} ms",
        media.packets_received,
        media.packets_sent,
        media.lost,
        f64::from(media.jitter_us) / 1e3,
    );
    if let Some(us) = media.round_trip_us {
        let _ = write!(text, ", round trip {:.1} ms", f64::from(us) / 1e3);
    }
    if let Some(mos) = media.mos_hundredths {
        let _ = write!(text, ", MOS {:.2}", f64::from(mos) / 100.0);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Cause, HungUpBy, Id, Party};
    use store::Record;

    fn cdr(number: i64) -> Cdr {
        Cdr {
            call: format!("c{number}"),
            brand: Id::new(1),
            client: Id::new(1),
            caller: Party::default(),
            callee: Party::default(),
            dialed: "102".to_owned(),
            started_us: number,
            answered_us: None,
            ended_us: number + 1,
            hung_up_by: HungUpBy::Caller,
            cause: Cause { status: 487, text: "Cancelled".to_owned() },
            legs: Vec::new(),
            externals: Vec::new(),
            node: 1,
            relay: None,
        }
    }

    #[test]
    fn a_record_says_when_the_call_began() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc_3339(seconds * 1_000_000 + 999_999), text);
        }
        assert!(shown(&cdr(1_700_000_000_000_000)).contains("  2023-11-14T22:13:20Z  "));
    }

    #[test]
    fn a_record_tells_its_external_calls() {
        let (call, external) = crate::listing::tests::sample();
        let shown = shown(&Cdr { externals: vec![external], ..call });
        let last = shown.lines().last().unwrap().trim();
        assert_eq!(
            last,
            "outbound of client 1 to +34600123456 by carrier 4 (server 5), price 0.1100, cost 0.0110, destination 7, rating plan 6, \
             tried carrier 9 503, carrier 4 200, X-Tag campaign"
        );
    }

    #[test]
    fn where_no_node_was_nothing_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let data = Some(directory.path().to_path_buf());
        let arguments = Arguments { data, config: None, limit: 20, json: false };
        let StartError(text) = run(&arguments).unwrap_err();
        assert!(text.contains("no node has kept data there"), "{text}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let store = Store::open(directory.path()).unwrap();
        let source = Source::Directory(store);
        assert_eq!(list(&source, 20, |_| Ok(())).unwrap(), Some("no call record yet".to_owned()));
        drop(source);
        assert!(run(&arguments).is_ok());
    }

    #[test]
    fn the_records_of_a_cluster_are_listed_by_the_configuration_of_one_of_its_nodes() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let world = runtime.block_on(crate::records::tests::World::of("carillon".to_owned()));
        let cluster =
            "[cluster]\netcd = [\"http://127.0.0.1:2379\"]\nlisten = \"127.0.0.1:7400\"\nplain = true\n";
        let file = |name: &str, more: &str| {
            let text = format!(
                "[node]\nid = 3\ndata = {:?}\n[sip]\nlisten = [\"udp:127.0.0.1:5060\"]\n[store]\nurl = \
                 \"postgresql://carillon@127.0.0.1:{}/postgres\"\n{more}",
                directory.path().join("data"),
                world.gate.port
            );
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let listed = |file: &Path| {
            let source = Source::of_node(file)?;
            let mut calls = Vec::new();
            let note = list(&source, 2, |cdr| {
                calls.push(cdr.call.clone());
                Ok(())
            })?;
            Ok::<_, StartError>((calls.join(" "), note.unwrap_or_default()))
        };
        let of_cluster = file("cluster.toml", cluster);
        assert_eq!(listed(&of_cluster).unwrap(), (String::new(), "no call record yet".to_owned()));
        let words: Vec<_> = (1..=3)
            .map(|number| {
                let story = store::config::CallStory::Ended(Box::new(cdr(number)));
                store::config::CallWord { epoch: 0, node: 1, story }
            })
            .collect();
        runtime.block_on(world.table.put(&words)).unwrap();
        let cut = "2 of 3 call records shown, the newest; use --limit for more";
        assert_eq!(listed(&of_cluster).unwrap(), ("c3 c2".to_owned(), cut.to_owned()));
        // A node that stands alone keeps its records itself, although its configuration is in a database.
        let StartError(text) = listed(&file("alone.toml", "")).unwrap_err();
        assert!(text.contains("no such directory"), "{text}");
        let StartError(text) = listed(&directory.path().join("none.toml")).unwrap_err();
        assert!(text.contains("--config") && text.contains("none.toml"), "{text}");
        let _in = runtime.enter(); // what is dropped now ends there
    }

    #[test]
    fn it_is_said_when_there_are_more_records_than_shown() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (done, is_durable) = std::sync::mpsc::channel();
        for number in 1..=3 {
            let done = done.clone();
            store.append(Record::CallEnded(Box::new(cdr(number))), move |result| {
                done.send(result.is_ok()).unwrap()
            });
            assert!(is_durable.recv().unwrap());
        }
        let source = Source::Directory(store);
        let listed = |limit| {
            let mut calls = Vec::new();
            let note = list(&source, limit, |cdr| {
                calls.push(cdr.call.clone());
                Ok(())
            });
            (calls.join(" "), note.unwrap().unwrap_or_default())
        };
        assert_eq!(
            listed(2),
            ("c3 c2".to_owned(), "2 of 3 call records shown, the newest; use --limit for more".to_owned())
        );
        assert_eq!(listed(3), ("c3 c2 c1".to_owned(), String::new()));
        assert_eq!(listed(20), ("c3 c2 c1".to_owned(), String::new()));
        assert_eq!(listed(0).0, "");
    }
}
