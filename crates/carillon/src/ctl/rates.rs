//! `carillon ctl rates import`: a file of rates into a list of a running node, all or none.
//!
//! Elsewhere: reading the file (crate `rating`), the node's side (`control`, `importing`).

use super::{Answer, exchange, told};
use crate::control::LARGEST;
use crate::node::StartError;
use crate::tell;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// What `rates` takes.
#[derive(clap::Args)]
pub(crate) struct Rates {
    #[command(subcommand)]
    pub(super) command: RatesCommand,
}

#[derive(clap::Subcommand)]
pub(super) enum RatesCommand {
    /// Put the rates of a file into a list: those of prefixes that it has are replaced, others are added, and what the file does not name
    /// stays. A bad line, and nothing is imported.
    Import(Import),
}

/// What `rates import` takes.
#[derive(clap::Args)]
pub(super) struct Import {
    /// The list of rates (destination rates), by its English name or its id.
    #[arg(long, value_name = "NAME|ID")]
    list: String,
    /// What the columns hold, in their order; those of other names are not looked at.
    #[arg(
        long,
        value_name = "NAMES",
        default_value = "destinationName,destinationPrefix,rateCost,connectionCharge,rateIncrement"
    )]
    columns: String,
    /// What stands between two columns.
    #[arg(long, value_name = "CHARACTER", default_value = ",")]
    delimiter: String,
    /// The first line has titles.
    #[arg(long)]
    skip_header: bool,
    /// Only say what would be imported, or what is wrong. Ends with 0: nothing would change, 1: something would, 2: it is refused.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// The file, of comma-separated values in UTF-8.
    file: PathBuf,
}

/// Imports it; out: whether anything changed, or would.
pub(super) fn import(data: &Path, import: &Import) -> Result<bool, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError(format!("{}: {error}", import.file.display()));
    let mut content = Vec::new();
    let file = std::fs::File::open(&import.file).map_err(|error| failed(&error))?;
    file.take(LARGEST as u64 + 1).read_to_end(&mut content).map_err(|error| failed(&error))?;
    if content.len() > LARGEST {
        return Err(failed(&format!("longer than {LARGEST} octets; import it in parts")));
    }
    let flag = |is_set: bool| if is_set { "1" } else { "0" };
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("list", &import.list)
        .append_pair("columns", &import.columns)
        .append_pair("delimiter", &import.delimiter)
        .append_pair("skip", flag(import.skip_header))
        .append_pair("dry", flag(import.dry_run))
        .finish();
    let answer = told(&import.file, exchange(data, "POST", &format!("/rates?{query}"), &content)?)?;
    let Answer { rates: [destinations, added, updated, unchanged, rounded], .. } = answer;
    let would = if import.dry_run { "would be " } else { "" };
    tell(&format!(
        "{would}imported: {added} rates added, {updated} changed, {unchanged} as they were; {destinations} new destinations"
    ));
    if rounded > 0 {
        tell(&format!("{rounded} prices have more than four decimals and are rounded"));
    }
    Ok(added + updated + destinations > 0)
}
