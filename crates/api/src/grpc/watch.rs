//! Changes of the configuration as they are made, and those of before, to whoever watches.
//!
//! In: steps of the rows, or the history for whoever comes later or is slower. Out: one message for each row that changed for
//! the caller. A stream is no task: it works when its reader wants more. Elsewhere: what a change looks like (`told`).

use super::told::{self, Key};
use super::{Act, Service, entity, may, status, wrong};
use crate::live::{History, Step};
use crate::proof::Proof;
use crate::shares::{Bounds, Full, Part, Shares};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use model::define::Table;
use model::draft::Change;
use model::entities::TABLES;
use model::rows::{Row, Rows};
use model::scope::Caller;
use proto::v1;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;

/// Streams of changes that a node has.
const MOST: Bounds = Bounds { account: 8, brand: 64, brands: 192, accounts: 248, all: 256 };
/// Revisions that are read at once.
const PAGE: usize = 100;
/// Most revisions that a stream may begin behind.
const MOST_BEHIND: u64 = 10_000;
/// Whether the token is still good is asked again after this time, and at each change.
pub(super) const RECHECK: Duration = Duration::from_secs(60);

/// Who watches: how many streams of changes there are.
#[derive(Debug)]
pub struct Watchers(Shares);

impl Default for Watchers {
    fn default() -> Self {
        Self(Shares::new(MOST))
    }
}

impl Watchers {
    /// The place of one more stream.
    pub(super) fn place(&self, caller: &Caller) -> Result<Part, Status> {
        let Bounds { account, brand, .. } = MOST;
        self.0.take(caller, 1).map_err(|full| {
            Status::resource_exhausted(match full {
                Full::Account => format!("you watch {account} times already; end one first"),
                Full::Brand => format!("your brand's accounts watch {brand} times already; end one first"),
                Full::All => {
                    "this node has no place for more watchers; end one, or try another node".to_owned()
                }
            })
        })
    }
}

struct Watching {
    service: Service,
    proof: Proof,
    steps: broadcast::Receiver<Step>,
    /// None: all that the caller may read.
    tables: Option<Vec<usize>>,
    identity: crate::auth::Identity,
    /// The rows up to which all is told, save what waits.
    at: Arc<Rows>,
    /// The rows before those.
    before: Arc<Rows>,
    /// What waits: rows that changed in between.
    waiting: VecDeque<Key>,
    /// History that was read and comes next.
    ahead: VecDeque<(u64, Vec<Change>)>,
    /// The revision up to which the history is to be read.
    target: u64,
    /// The caller is to hear how far he is.
    owes_mark: bool,
    _place: Part,
}

/// A stream of what changes.
pub(super) fn begin(
    service: &Service,
    proof: Proof,
    request: v1::WatchRequest,
) -> Result<BoxStream<'static, Result<v1::WatchResponse, Status>>, Status> {
    // First of all: nothing may happen between the rows and the steps after them.
    let steps = service.api.live.watch();
    let asked = service.begin(&proof)?;
    let mut tables = None;
    if !request.entities.is_empty() {
        let mut wanted = Vec::new();
        for name in request.entities.iter().take(TABLES.len()) {
            let (table, access) = entity(asked.caller(), name).map_err(status)?;
            if table.records {
                return Err(wrong(
                    "entities",
                    format!("{} are records, and those are not watched", table.name),
                ));
            }
            let act = if access.operations.get { Act::Get } else { Act::List };
            may(asked.caller(), table, access, act, &asked.rows).map_err(status)?;
            wanted.push(table.index);
        }
        tables = Some(wanted);
    }
    let newest = asked.rows.revision;
    let since = if request.since == 0 { newest } else { request.since };
    if since > newest {
        return Err(Status::out_of_range(format!("since: {since} is after the newest revision, {newest}")));
    }
    if newest - since > MOST_BEHIND {
        return Err(forgotten(since));
    }
    let place = service.api.watchers.place(asked.caller())?;
    let (identity, rows) = (asked.identity, asked.rows);
    let watching = Watching {
        service: service.clone(),
        proof,
        steps,
        tables,
        identity,
        at: Arc::clone(&rows),
        before: rows,
        waiting: VecDeque::new(),
        ahead: VecDeque::new(),
        target: newest,
        owes_mark: true,
        _place: place,
    };
    Ok(stream::once(watching.from(since))
        .flat_map(|begun| match begun {
            Ok(watching) => stream::unfold(Some(watching), step).boxed(),
            Err(error) => stream::once(std::future::ready(Err(error))).boxed(),
        })
        .boxed())
}

type Next = Option<(Result<v1::WatchResponse, Status>, Option<Watching>)>;

async fn step(watching: Option<Watching>) -> Next {
    let mut watching = watching?;
    match watching.next().await {
        Ok(Some(response)) => Some((Ok(response), Some(watching))),
        Ok(None) => None,
        Err(error) => Some((Err(error), None)),
    }
}

fn forgotten(since: u64) -> Status {
    let why = "are not known any more, or too many; List, and watch from the revision that it says";
    Status::out_of_range(format!("since: the changes after revision {since} {why}"))
}

impl Watching {
    /// Goes back to this revision: its rows are those of now without what was changed since.
    async fn from(mut self, since: u64) -> Result<Self, Status> {
        let newest = self.at.revision;
        if since == newest {
            return Ok(self);
        }
        let mut rows = (*self.at).clone();
        let mut seen: HashSet<Key> = HashSet::new();
        let mut read = since;
        while read < newest {
            let page = self.history(read).await?;
            for (revision, changes) in page.into_iter().filter(|(revision, _)| *revision <= newest) {
                read = revision;
                for change in changes.iter().filter(|change| !change.table.records) {
                    if seen.insert((change.table.index, change.id)) {
                        put(&mut rows, change.table, change.id, change.before.as_ref());
                    }
                }
            }
        }
        rows.revision = since;
        self.at = Arc::new(rows);
        self.before = Arc::clone(&self.at);
        Ok(self)
    }

    /// The revisions after this one; at least one.
    async fn history(&self, after: u64) -> Result<Vec<(u64, Vec<Change>)>, Status> {
        match self.service.api.live.keeper().history(after, PAGE).await {
            Some(Ok(History::Revisions(page))) if !page.is_empty() => Ok(page),
            Some(Ok(_)) | None => Err(forgotten(after)),
            Some(Err(error)) => {
                tracing::error!(%error, "the history of the configuration is not read");
                Err(Status::unavailable("the history cannot be read now; try again"))
            }
        }
    }

    /// The next message; none: there will be no more.
    async fn next(&mut self) -> Result<Option<v1::WatchResponse>, Status> {
        loop {
            if let Some(key) = self.waiting.pop_front() {
                let told = told::change(&self.identity.caller, &self.before, &self.at, key);
                if told.is_some() {
                    return Ok(Some(v1::WatchResponse { revision: self.at.revision, change: told }));
                }
                continue;
            }
            if self.at.revision < self.target {
                self.read_on().await?;
                continue;
            }
            if std::mem::take(&mut self.owes_mark) {
                return Ok(Some(v1::WatchResponse { revision: self.at.revision, change: None }));
            }
            match tokio::time::timeout(RECHECK, self.steps.recv()).await {
                Err(_) => self.check()?,
                Ok(Ok(step)) => self.take(step)?,
                Ok(Err(RecvError::Lagged(_))) => self.target = self.service.api.live.rows().revision,
                Ok(Err(RecvError::Closed)) => return Ok(None),
            }
        }
    }

    /// Whether the caller is still who he was.
    fn check(&mut self) -> Result<(), Status> {
        let rows = self.service.api.live.rows();
        self.identity = self.service.identify(&rows, &self.proof)?;
        Ok(())
    }

    fn take(&mut self, step: Step) -> Result<(), Status> {
        if step.after.revision <= self.at.revision {
            return Ok(()); // told already
        }
        if step.before.revision != self.at.revision {
            self.target = step.after.revision;
            return Ok(());
        }
        self.check()?;
        self.wait_for(&step.changes);
        self.target = step.after.revision;
        self.before = step.before;
        self.at = step.after;
        Ok(())
    }

    /// Goes on by one revision of the history.
    async fn read_on(&mut self) -> Result<(), Status> {
        if self.ahead.is_empty() {
            self.ahead = self.history(self.at.revision).await?.into();
        }
        let Some((revision, changes)) = self.ahead.pop_front() else { return Ok(()) };
        if revision <= self.at.revision {
            return Ok(());
        }
        self.check()?;
        let mut rows = (*self.at).clone();
        for change in changes.iter().filter(|change| !change.table.records) {
            put(&mut rows, change.table, change.id, change.after.as_ref());
        }
        rows.revision = revision;
        self.wait_for(&changes);
        self.before = std::mem::replace(&mut self.at, Arc::new(rows));
        self.target = self.target.max(revision);
        self.owes_mark |= self.ahead.is_empty() && self.at.revision >= self.target;
        Ok(())
    }

    fn wait_for(&mut self, changes: &[Change]) {
        let mut known: HashSet<Key> = HashSet::new();
        for change in changes.iter().filter(|change| !change.table.records) {
            for key in told::concerned(change.table, change.before.as_ref(), change.after.as_ref()) {
                let wanted = self.tables.as_ref().is_none_or(|tables| tables.contains(&key.0));
                if wanted && known.insert(key) {
                    self.waiting.push_back(key);
                }
            }
        }
    }
}

fn put(rows: &mut Rows, table: &'static Table, id: u32, row: Option<&Row>) {
    match row {
        Some(row) => rows.insert(Arc::clone(row)),
        None => rows.remove(table, id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::tests::administrator;

    #[test]
    fn a_brand_that_watches_as_often_as_it_can_leaves_places_for_others() {
        let watchers = Watchers::default();
        let places = |brand: u32| -> Vec<Part> {
            let accounts = (0..32).map(|id| administrator(100 * brand + id, Some(brand)));
            accounts
                .flat_map(|caller| vec![caller; 8])
                .filter_map(|caller| watchers.place(&caller).ok())
                .collect()
        };
        let taken: Vec<Vec<Part>> = (1..=4).map(places).collect();
        let counts: Vec<usize> = taken.iter().map(Vec::len).collect();
        assert_eq!(counts, [64, 64, 64, 0]);
        let mut platform: Vec<Part> = Vec::new();
        for id in 0..7 {
            platform.extend((0..8).map(|_| watchers.place(&administrator(id, None)).unwrap()));
        }
        assert!(watchers.place(&administrator(8, None)).is_err(), "the rest is the operator's");
        let operator: Vec<Part> = (0..8).map(|_| watchers.place(&Caller::operator()).unwrap()).collect();
        assert_eq!(platform.len() + operator.len(), 64);
    }
}
