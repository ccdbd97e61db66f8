//! `carillon cdrs`: call records of a data directory as text.
//!
//! Elsewhere: keeping them (crate `store`); the same over the network comes with the administrative interface.

use crate::node::StartError;
use crate::tell;
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
    let mut left = arguments.limit;
    let mut after = None;
    while left > 0 {
        let query = CdrQuery { after, limit: left.min(CdrQuery::LIMIT_MAX), ..CdrQuery::default() };
        let page = store.cdrs(&query)?;
        left -= page.cdrs.len();
        for cdr in &page.cdrs {
            tell(&if arguments.json { serde_json::to_string(cdr)? } else { shown(cdr) });
        }
        if page.next.is_none() {
            break;
        }
        after = page.next;
    }
    store.close();
    Ok(())
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
