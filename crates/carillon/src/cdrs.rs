//! `carillon cdrs`: call records of a data directory as text.
//!
//! Elsewhere: keeping them (crate `store`); the same over the network comes with the administrative interface.

use crate::node::StartError;
use crate::{complain, tell};
use model::{Cdr, MediaReport};
use std::fmt::Write;
use std::path::PathBuf;
use store::{CdrQuery, Store};

/// What `carillon cdrs` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The data directory; no node may be using it.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// How many, newest first.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Prints the newest records.
pub(crate) fn run(arguments: &Arguments) -> Result<(), StartError> {
    if !arguments.data.is_dir() {
        let shown = arguments.data.display();
        return Err(StartError(format!("--data {shown}: no such directory; name the one of a node")));
    }
    let store = Store::open(&arguments.data)?;
    let left_out = list(&store, arguments.limit, |cdr| {
        tell(&if arguments.json { serde_json::to_string(cdr)? } else { shown(cdr) });
        Ok(())
    })?;
    if let Some(note) = left_out {
        complain(&note); // not among the records, which a program may be reading
    }
    store.close();
    Ok(())
}

/// Hands the newest records to `each`; returns what to say when there are more.
fn list(
    store: &Store,
    limit: usize,
    mut each: impl FnMut(&Cdr) -> Result<(), StartError>,
) -> Result<Option<String>, StartError> {
    let mut left = limit;
    let mut after = None;
    while left > 0 {
        let query = CdrQuery { after, limit: left.min(CdrQuery::LIMIT_MAX), ..CdrQuery::default() };
        let page = store.cdrs(&query)?;
        left -= page.cdrs.len();
        page.cdrs.iter().try_for_each(&mut each)?;
        if page.next.is_none() {
            return Ok(None);
        }
        after = page.next;
    }
    let all = store.cdr_count()?;
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
        "call {}  {} \"{}\" -> {} \"{}\"  {}, ended by {:?}: {} {}",
        cdr.call,
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
    text
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
        }
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
        let listed = |limit| {
            let mut calls = Vec::new();
            let note = list(&store, limit, |cdr| {
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
        store.close();
    }
}
