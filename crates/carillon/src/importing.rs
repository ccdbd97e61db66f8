//! Rates from files: those that are uploaded over REST, imported beside everything else, and those that `carillon ctl` sends.
//!
//! In: a list of rates, a file, how it is written. Out: all its rates at once, or every bad line. Elsewhere: reading lines (crate `rating`),
//! keeping rows (crate `api`, room `live`), uploads (crate `api`).

#[cfg(test)]
mod tests;

use api::live::{Live, NotKept, Reworking, Who};
use model::Id;
use model::define::Entity;
use model::draft::Change;
use model::entities::{DestinationRateGroup, DestinationRateGroupStatus as Status};
use model::rows::Rows;
use rating::import::{Imported, Mistake, Mistakes, NoList, Options, Reader, Sheet};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

/// How often new files are looked for. A file is imported when it was there at two looks: its row comes a moment before it.
const LOOK: Duration = Duration::from_secs(2);
/// Looks for a file that does not come, at a node that stands alone.
const LOOKS: u32 = 60;
/// Octets of a file that are read at once.
const PIECE: usize = 64 << 10;

type List = Id<DestinationRateGroup>;

/// Why nothing was imported.
#[derive(Debug)]
pub(crate) enum NotImported {
    /// The file cannot be read, or nobody can read one like this.
    File(String),
    /// Some lines are bad.
    Lines(Mistakes),
    /// The list is gone, or has another file by now.
    Gone,
    /// It cannot be kept.
    NotKept(NotKept),
}

impl NotImported {
    /// In a sentence, and line by line.
    fn told(&self) -> (String, Option<Json>) {
        match self {
            Self::File(why) => (why.clone(), None),
            Self::Lines(mistakes) => {
                let line = |Mistake { line, column, remedy }: &Mistake| json!({ "line": line, "column": column, "remedy": remedy });
                let lines: Vec<Json> = mistakes.list.iter().map(line).collect();
                let count = mistakes.list.len() + mistakes.more;
                let text = format!("{count} mistakes, nothing is imported. {mistakes}").replace('\n', "; ");
                (text, Some(json!({ "count": count, "lines": lines })))
            }
            Self::Gone => ("the list is gone, or has another file by now".to_owned(), None),
            Self::NotKept(error) => (error.to_string(), None),
        }
    }
}

/// Puts the rates of a sheet into a list, all or none. `also` changes the list itself in the same change.
pub(crate) async fn import(
    live: &Live,
    sheet: Arc<Sheet>,
    list: List,
    who: &Who,
    also: impl Fn(&DestinationRateGroup) -> Option<DestinationRateGroup> + Send + Sync + 'static,
) -> Result<(Imported, Arc<Rows>), NotImported> {
    let make: Reworking<Imported, NotImported> = Arc::new(move |rows: &Rows| {
        let of_list = rows.get(list).and_then(&also).ok_or(NotImported::Gone)?;
        let (mut rows, mut changes, imported) =
            sheet.onto(rows, list).map_err(|NoList(_)| NotImported::Gone)?;
        let table = DestinationRateGroup::definition();
        let before = rows.row(table, list.get()).cloned();
        if before.as_ref().is_some_and(|before| !model::draft::alike(&**before, &of_list)) {
            let after: model::rows::Row = Arc::new(of_list);
            rows.insert(Arc::clone(&after));
            changes.push(Change { table, id: list.get(), before, after: Some(after) });
        }
        Ok((rows, changes, imported))
    });
    live.rework(who, make).await.map_err(NotImported::NotKept)?
}

/// Reads a file by the list's importer arguments.
fn read(path: &Path, arguments: &Json) -> Result<Sheet, NotImported> {
    let options =
        Options::of(arguments).map_err(|why| NotImported::File(format!("importerArguments: {why}")))?;
    let mut reader =
        Reader::new(&options).map_err(|why| NotImported::File(format!("importerArguments: {why}")))?;
    let failed = |error: std::io::Error| NotImported::File(format!("the file cannot be read: {error}"));
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut piece = vec![0; PIECE];
    while !reader.is_full() {
        match file.read(&mut piece).map_err(failed)? {
            0 => break,
            count => reader.feed(&piece[..count]),
        }
    }
    reader.finish().map_err(NotImported::Lines)
}

/// A list whose file waits.
struct Waiting {
    list: List,
    group: DestinationRateGroup,
    path: PathBuf,
}

/// The lists whose files have this status.
fn with_status(rows: &Rows, files: &Path, status: Status) -> Vec<Waiting> {
    let is_it = |group: &&DestinationRateGroup| group.status == Some(status) && group.file.file.is_there();
    let place = |group: &DestinationRateGroup| {
        let path = api::file_place(files, DestinationRateGroup::definition(), "file", group.id.get());
        Waiting { list: group.id, group: group.clone(), path }
    };
    rows.each::<DestinationRateGroup>().filter(is_it).map(place).collect()
}

/// Imports uploaded files as long as the configuration is used. Nodes that share the directory may both begin with one: what comes second
/// changes nothing. A node that does not have a file leaves it to the one that does; where there is none, after a while the list says so.
pub(crate) async fn work(live: Weak<Live>, files: PathBuf, is_alone: bool) {
    // How often each file was seen.
    let mut seen: BTreeMap<List, (DestinationRateGroup, u32)> = BTreeMap::new();
    if let Some(live) = live.upgrade() {
        // Imports that ended with their process.
        for Waiting { list, group, path } in with_status(&live.rows(), &files, Status::InProgress) {
            if path.exists() {
                note(&live, list, &group, (Status::InProgress, Status::Waiting), None).await;
            }
        }
    }
    loop {
        let Some(live) = live.upgrade() else { return };
        let waiting = with_status(&live.rows(), &files, Status::Waiting);
        seen.retain(|list, _| waiting.iter().any(|it| it.list == *list));
        for Waiting { list, group, path } in waiting {
            let looks = match seen.get_mut(&list) {
                Some((before, looks)) if before.file == group.file => {
                    *looks += 1;
                    *looks
                }
                _ => {
                    seen.insert(list, (group, 0));
                    continue;
                }
            };
            let length = std::fs::metadata(&path).ok().map(|file| file.len());
            if length.is_some() && length == group.file.file.size.map(u64::from) {
                import_file(&live, list, &group, path).await;
                seen.remove(&list);
            } else if is_alone && looks >= LOOKS {
                let why = NotImported::File("the file did not come; send it again".to_owned());
                note(&live, list, &group, (Status::Waiting, Status::Error), Some(&why)).await;
            }
        }
        drop(live);
        tokio::time::sleep(LOOK).await;
    }
}

/// Imports a file, and says in its list what came of it.
pub(crate) async fn import_file(live: &Live, list: List, group: &DestinationRateGroup, path: PathBuf) {
    note(live, list, group, (Status::Waiting, Status::InProgress), None).await;
    let arguments = group.file.importer_arguments.clone();
    let Ok(sheet) = spawn_blocking(move || read(&path, &arguments)).await else {
        return; // the node ends, and the next start begins anew
    };
    let file = group.file.clone();
    let done = match sheet {
        Ok(sheet) => {
            let also = move |now: &DestinationRateGroup| {
                (now.file == file && now.status == Some(Status::InProgress)).then(|| DestinationRateGroup {
                    status: Some(Status::Imported),
                    last_execution_error: None,
                    import_mistakes: None,
                    ..now.clone()
                })
            };
            import(live, Arc::new(sheet), list, &Who::system(), also).await
        }
        Err(why) => Err(why),
    };
    match done {
        Ok((imported, _)) => {
            let Imported { destinations, added, updated, unchanged, rounded } = imported;
            info!(
                list = list.get(),
                added, updated, unchanged, destinations, rounded, "a file of rates is imported"
            );
        }
        Err(NotImported::Gone) => {} // somebody sent another one, which waits
        Err(why) => note(live, list, group, (Status::InProgress, Status::Error), Some(&why)).await,
    }
}

/// Says in a list how far the import of this very file is, unless somebody has sent another one meanwhile.
async fn note(
    live: &Live,
    list: List,
    group: &DestinationRateGroup,
    (from, to): (Status, Status),
    why: Option<&NotImported>,
) {
    let (error, mistakes) =
        why.map(NotImported::told).map_or((None, None), |(text, lines)| (Some(text), lines));
    let file = group.file.clone();
    let who = Who::system();
    let noted = live.change(None, &who, move |draft| {
        if draft.get(list).is_some_and(|row| row.file == file && row.status == Some(from)) {
            draft.change(list, |row| {
                row.status = Some(to);
                row.last_execution_error.clone_from(&error);
                row.import_mistakes.clone_from(&mistakes);
            })?;
        }
        Ok(())
    });
    if let Err(error) = noted.await {
        warn!(list = list.get(), %error, "how far the import of a file of rates is cannot be noted");
    }
}

/// The list of this name, or else of this id.
///
/// # Errors
///
/// In words: there is none, or there are several.
pub(crate) fn list_of(rows: &Rows, text: &str) -> Result<List, String> {
    let short: String = text.chars().take(64).collect();
    let mut named = rows.each::<DestinationRateGroup>().filter(|row| row.name.en == text);
    match (named.next(), named.next()) {
        (Some(row), None) => return Ok(row.id),
        (Some(_), Some(_)) => {
            return Err(format!("--list {short}: several lists have this name; name the id of one"));
        }
        (None, _) => {}
    }
    let by_id = text.parse().ok().map(List::new).filter(|id| rows.get(*id).is_some());
    by_id.ok_or_else(|| format!("--list {short}: there is no such list of rates; name one by its name or id"))
}
