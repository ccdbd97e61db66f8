//! The configuration that everybody reads, and the one way to change it.
//!
//! Readers take the current rows and keep them as long as they like. A change is made on the newest rows by the rules, kept
//! by the [`Keeper`], and then becomes the newest rows: one at a time, and nothing is seen before it is kept. Rooms: `many`
//! (imports and exports).

mod many;

use crate::work::{Tenant, Turns};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use jiff::Timestamp;
use model::define::{Entity, Level, Record, SecretHasher, Table};
use model::draft::{Change, Draft, Env};
use model::entities::{WebPortal, WebPortalUrlType};
use model::import::differences;
use model::rows::{Row, Rows};
use model::rules::Refusal;
use parking_lot::RwLock;
use serde_json::{Map, Value as Json};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

pub use many::{ExportError, Import, ImportError, Reworking};

/// How often a change is made because somebody else was quicker before.
const ATTEMPTS: usize = 8;
/// After so many of these nobody else may be quicker.
const RACES: usize = 2;

/// Who keeps changes.
#[async_trait]
pub trait Keeper: Send + Sync {
    /// Keeps the changes that lead from these rows to the new ones, all or none; out: the rows as they are kept.
    ///
    /// # Errors
    ///
    /// Somebody else was quicker, or they cannot be kept.
    async fn keep(
        &self,
        rows: &Rows,
        new: Rows,
        changes: &[Change],
        who: &Who,
        now: Timestamp,
    ) -> Result<Rows, NotKept>;

    /// Lets nobody else keep anything as long as this value lives: for whoever was too late again and again.
    ///
    /// # Errors
    ///
    /// The store is away, or others have their turns for too long.
    async fn turn(&self) -> Result<Turn, NotKept> {
        Ok(Turn::new(())) // where nobody else can
    }

    /// What has become the newest rows meanwhile.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    async fn newest(&self, rows: &Rows) -> Result<Rows, NotKept>;

    /// Records of a table that are not among the rows; none: they are among them.
    async fn records(&self, _ask: &RecordAsk) -> Option<Result<RecordAnswer, NotKept>> {
        None
    }

    /// What changed after this revision, oldest first, at most so many revisions; none: no history is kept.
    async fn history(&self, _after: u64, _most: usize) -> Option<Result<History, NotKept>> {
        None
    }

    /// A record by its id; none: records are among the rows.
    async fn record(&self, _table: &'static Table, _id: u32) -> Option<Result<Option<Row>, NotKept>> {
        None
    }

    /// Changes of the audit log, the newest first; none: there is no log.
    async fn log(&self, _ask: &LogAsk) -> Option<Result<LogPart, NotKept>> {
        None
    }
}

/// A writer's turn, which ends when this is dropped; see [`Keeper::turn`].
pub struct Turn {
    _held: Box<dyn Send + Sync>,
}

impl Turn {
    /// One that lasts as long as this does.
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self { _held: Box::new(held) }
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}

/// Attempts at one change.
#[derive(Default)]
struct Tries {
    made: usize,
    /// From some attempt on.
    turn: Option<Turn>,
}

/// Which part of the audit log is wanted.
#[derive(Clone, Debug)]
pub struct LogAsk {
    /// Changes of this entity.
    pub entity: Option<&'static str>,
    /// Changes of the entity's row with this id.
    pub id: Option<u32>,
    /// From this moment on.
    pub from: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
    /// What the account of this name did.
    pub who: Option<String>,
    /// Older than this place.
    pub older_than: Option<LogPlace>,
    /// How many at most.
    pub limit: usize,
}

/// A place in the audit log: a revision, and a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPlace(pub u64, pub u32);

/// A part of the audit log.
#[derive(Clone, Debug, Default)]
pub struct LogPart {
    /// The changes, the newest first.
    pub changes: Vec<Logged>,
    /// Where it was looked last; none: there is nothing older.
    pub next: Option<LogPlace>,
}

/// A change of one row in the audit log, secrets masked.
#[derive(Clone, Debug)]
pub struct Logged {
    /// The revision that it is part of.
    pub revision: u64,
    /// Its place in that.
    pub place: u32,
    /// When.
    pub time: Timestamp,
    /// By whom: [`Who::document`].
    pub who: Json,
    /// The entity.
    pub entity: String,
    /// The row.
    pub id: u32,
    /// The row as it was; none: it is new.
    pub before: Option<Map<String, Json>>,
    /// The row as it became; none: it was deleted.
    pub after: Option<Map<String, Json>>,
    /// The fields that differ.
    pub changed: Vec<String>,
}

/// What changed after a revision.
#[derive(Debug)]
pub enum History {
    /// These revisions came next, each with its changes; none: it is the newest.
    Revisions(Vec<(u64, Vec<Change>)>),
    /// It is not known any more.
    Forgotten,
}

/// Whether a record belongs to the answer.
pub type RecordTest = Arc<dyn Fn(&dyn Record) -> bool + Send + Sync>;

/// Which records are wanted.
pub struct RecordAsk {
    /// The table.
    pub table: &'static Table,
    /// An indexed reference and the row that it names.
    pub reference: Option<(&'static str, u32)>,
    /// In its place, an indexed text.
    pub text: Option<(&'static str, String)>,
    /// Not before this moment.
    pub from: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
    /// And this holds; none: all of those, which are counted without being read.
    pub test: Option<RecordTest>,
    /// The newest first, otherwise the oldest.
    pub newest_first: bool,
    /// How many to leave out.
    pub offset: usize,
    /// How many to give at most.
    pub limit: usize,
}

impl RecordAsk {
    /// All records of a table, oldest first, to be counted and not given.
    pub fn count(table: &'static Table) -> Self {
        Self {
            table,
            reference: None,
            text: None,
            from: None,
            until: None,
            test: None,
            newest_first: false,
            offset: 0,
            limit: 0,
        }
    }
}

/// The records that were asked for.
#[derive(Debug)]
pub struct RecordAnswer {
    /// They.
    pub rows: Vec<Row>,
    /// How many there are in all.
    pub total: usize,
}

/// Who makes a change: for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// "platform", "brand", "client", "user", or "system".
    pub level: &'static str,
    /// The account's name.
    pub name: String,
    /// Its id; 0: the platform itself.
    pub id: u32,
    /// On whose behalf, the nearest first: "admin > brandadmin".
    pub on_behalf_of: String,
    /// Whose change it is: of this brand, and of this client of it. None: the platform's.
    pub tenant: Option<Tenant>,
}

impl Who {
    /// The platform itself.
    pub fn system() -> Self {
        Self { level: "system", name: "system".to_owned(), id: 0, on_behalf_of: String::new(), tenant: None }
    }

    /// Its form in the audit log.
    pub fn document(&self) -> Json {
        serde_json::json!({ "level": self.level, "name": self.name, "id": self.id, "onBehalfOf": self.on_behalf_of })
    }
}

/// Why changes were not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// Somebody else's change came first.
    #[error("another change came first")]
    Conflict,
    /// The store cannot be reached now; in words for whoever asked.
    #[error("{0}")]
    Away(String),
    /// The store cannot do it.
    #[error("the store does not keep changes now: {0}")]
    Store(String),
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The rules refuse it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be kept.
    #[error(transparent)]
    NotKept(#[from] NotKept),
}

/// Keeps nothing: for tests and the acceptance server.
#[derive(Debug)]
pub struct InMemory;

#[async_trait]
impl Keeper for InMemory {
    async fn keep(
        &self,
        rows: &Rows,
        new: Rows,
        _: &[Change],
        _: &Who,
        _: Timestamp,
    ) -> Result<Rows, NotKept> {
        let mut new = new;
        new.revision = rows.revision + 1;
        Ok(new)
    }

    async fn newest(&self, rows: &Rows) -> Result<Rows, NotKept> {
        Ok(rows.clone())
    }
}

/// New rows, and how they came about.
#[derive(Clone, Debug)]
pub struct Step {
    /// The rows as they were.
    pub before: Arc<Rows>,
    /// The rows as they are.
    pub after: Arc<Rows>,
    /// What leads from one to the other.
    pub changes: Vec<Change>,
}

/// Steps that wait for whoever watches; who is slower reads the history.
const STEPS: usize = 64;

/// The configuration of a running node.
pub struct Live {
    rows: ArcSwap<Rows>,
    writer: tokio::sync::Mutex<()>,
    turns: Turns,
    keeper: Arc<dyn Keeper>,
    hasher: Arc<dyn SecretHasher + Send + Sync>,
    followers: RwLock<Vec<Follower>>,
    own_hosts: OnceLock<Vec<String>>,
    steps: broadcast::Sender<Step>,
}

/// Hears of each new state of the rows, and what changed; quick.
pub type Follower = Box<dyn Fn(&Arc<Rows>, &[Change]) + Send + Sync>;

/// How long a change of a tenant's may take: others wait for it.
const LONGEST_CHANGE: Duration = Duration::from_secs(10);

/// Tells when a change that begins now has taken too long. The platform and the node's operator take the time that they need.
fn is_over(level: Option<Level>) -> impl Fn() -> bool {
    let begun = Instant::now();
    move || !matches!(level, None | Some(Level::Platform)) && begun.elapsed() > LONGEST_CHANGE
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("rows", &self.rows.load()).finish_non_exhaustive()
    }
}

impl Live {
    /// Starts with these rows.
    pub fn new(rows: Rows, keeper: Arc<dyn Keeper>, hasher: Arc<dyn SecretHasher + Send + Sync>) -> Self {
        Self {
            rows: ArcSwap::from_pointee(rows),
            writer: tokio::sync::Mutex::new(()),
            turns: Turns::default(),
            keeper,
            hasher,
            followers: RwLock::default(),
            own_hosts: OnceLock::new(),
            steps: broadcast::channel(STEPS).0,
        }
    }

    /// The newest rows.
    pub fn rows(&self) -> Arc<Rows> {
        self.rows.load_full()
    }

    /// Who keeps changes and records.
    pub fn keeper(&self) -> &dyn Keeper {
        &*self.keeper
    }

    /// Says by which hosts everybody comes, whatever their brand: no tenant's web portal may have one of them, and one that has it
    /// all the same keeps nobody out. The first time only.
    pub fn name_own_hosts(&self, hosts: &[String]) {
        let _ = self.own_hosts.set(hosts.iter().map(|host| bare(host)).collect());
    }

    /// Whether everybody comes by this host.
    pub(crate) fn is_own_host(&self, host: &str) -> bool {
        let host = bare(host);
        self.own_hosts.get().is_some_and(|hosts| hosts.contains(&host))
    }

    /// Refuses a tenant's portal at a host by which everybody comes.
    fn check_hosts(&self, changes: &[Change]) -> Result<(), Refusal> {
        let portal = |row: &Option<Row>| row.as_ref().and_then(|row| row.cast::<WebPortal>().cloned());
        let takes =
            |portal: &WebPortal| portal.url_type != WebPortalUrlType::God && self.is_own_host(portal.host());
        let portals = changes.iter().filter(|change| change.table.index == WebPortal::definition().index);
        let mut new = portals.filter(|change| !portal(&change.before).is_some_and(|old| takes(&old)));
        if new.any(|change| portal(&change.after).is_some_and(|new| takes(&new))) {
            return Err(Refusal::wrong("url", "choose another host name; everybody comes by this one"));
        }
        Ok(())
    }

    /// Lets somebody follow the rows from now on.
    pub fn follow(&self, follower: Follower) {
        self.followers.write().push(follower);
    }

    /// Each step from now on.
    pub fn watch(&self) -> broadcast::Receiver<Step> {
        self.steps.subscribe()
    }

    /// Replaces all rows: what a test begins with.
    pub async fn replace(&self, rows: Rows) {
        let _writing = self.writer.lock().await;
        self.take(rows);
    }

    /// Takes over what other nodes changed, unless the rows are of this revision, which is the head as it was heard of.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub async fn catch_up(&self, revision: u64) -> Result<(), NotKept> {
        let _writing = self.writer.lock().await;
        // One's own changes are heard of, too.
        if self.rows.load().revision == revision {
            return Ok(());
        }
        let newest = self.keeper.newest(&self.rows.load_full()).await?;
        if newest.revision != self.rows.load().revision {
            self.take(newest);
        }
        Ok(())
    }

    /// The newest rows for the next attempt at a change; none: others were quicker too often. Who was too late again and again has
    /// his turn.
    async fn next_try(&self, tries: &mut Tries) -> Result<Option<Arc<Rows>>, NotKept> {
        if tries.made >= ATTEMPTS {
            return Ok(None);
        }
        if tries.made >= RACES {
            tries.turn = None; // it was lost, else there would be no need of another
            tries.turn = Some(self.keeper.turn().await?);
        }
        if tries.made > 0 {
            let newest = self.keeper.newest(&self.rows.load_full()).await?;
            self.take(newest);
        }
        tries.made += 1;
        Ok(Some(self.rows.load_full()))
    }

    /// Keeps what an attempt made of these rows, and shows it to everybody. Out: the rows as they are then; none: others were
    /// quicker.
    async fn settle(
        &self,
        rows: &Arc<Rows>,
        new: Rows,
        changes: &[Change],
        who: &Who,
        now: Timestamp,
    ) -> Result<Option<Arc<Rows>>, NotKept> {
        if changes.is_empty() {
            return Ok(Some(Arc::clone(rows)));
        }
        match self.keeper.keep(rows, new, changes, who, now).await {
            Ok(new) => Ok(Some(self.publish(new, changes))),
            Err(NotKept::Conflict) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn take(&self, rows: Rows) {
        let changes = differences(&self.rows.load(), &rows);
        self.publish(rows, &changes);
    }

    fn publish(&self, rows: Rows, changes: &[Change]) -> Arc<Rows> {
        let rows = Arc::new(rows);
        let before = self.rows.swap(Arc::clone(&rows));
        // What another node changed just before may have come along.
        let all = (rows.revision > before.revision + 1).then(|| differences(&before, &rows));
        let changes = all.as_deref().unwrap_or(changes);
        self.followers.read().iter().for_each(|follower| follower(&rows, changes));
        if self.steps.receiver_count() > 0 {
            let step = Step { before, after: Arc::clone(&rows), changes: changes.to_vec() };
            let _ = self.steps.send(step); // nobody watches any more
        }
        rows
    }

    /// Changes one record, by the rules, as [`Live::change`] changes rows; out: the record as it is then.
    ///
    /// # Errors
    ///
    /// As there; there is no such record.
    pub async fn change_record(
        &self,
        level: Option<Level>,
        who: &Who,
        (table, id): (&'static Table, u32),
        make: impl Fn(&mut Draft<'_>) -> Result<(), Refusal> + Send,
    ) -> Result<(Row, Arc<Rows>), ChangeError> {
        let _turn = self.turns.take(who.tenant).await?;
        let _writing = self.writer.lock().await;
        let mut tries = Tries::default();
        while let Some(rows) = self.next_try(&mut tries).await? {
            // For the draft, the record is among the rows.
            let mut with = (*rows).clone();
            if let Some(kept) = self.keeper.record(table, id).await {
                with.insert(kept?.ok_or(Refusal::Gone)?);
            }
            let now = Timestamp::now();
            let (record, new, changes) = self.draft(&with, level, now, |draft| {
                make(draft)?;
                draft.rows().row(table, id).cloned().ok_or(Refusal::Gone)
            })?;
            if let Some(after) = self.settle(&rows, new, &changes, who, now).await? {
                return Ok((record, after));
            }
        }
        Err(NotKept::Conflict.into())
    }

    /// Makes a change. `make` may be called again when another node's change came first, so it must do nothing else.
    ///
    /// # Errors
    ///
    /// The rules refuse it, or it cannot be kept; nothing has changed then.
    pub async fn change<T: Send>(
        &self,
        level: Option<Level>,
        who: &Who,
        make: impl Fn(&mut Draft<'_>) -> Result<T, Refusal> + Send,
    ) -> Result<(T, Arc<Rows>), ChangeError> {
        self.change_in_steps(level, who, make).await.map(|(made, step)| (made, step.after))
    }

    /// [`Live::change`]; out: what it changed, too.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn change_in_steps<T: Send>(
        &self,
        level: Option<Level>,
        who: &Who,
        make: impl Fn(&mut Draft<'_>) -> Result<T, Refusal> + Send,
    ) -> Result<(T, Step), ChangeError> {
        let _turn = self.turns.take(who.tenant).await?;
        let _writing = self.writer.lock().await;
        let mut tries = Tries::default();
        while let Some(rows) = self.next_try(&mut tries).await? {
            let now = Timestamp::now();
            let (made, new, changes) = self.draft(&rows, level, now, &make)?;
            if let Some(after) = self.settle(&rows, new, &changes, who, now).await? {
                return Ok((made, Step { before: rows, after, changes }));
            }
        }
        Err(NotKept::Conflict.into())
    }

    /// What a change would do to the rows as they are; nothing is kept.
    ///
    /// # Errors
    ///
    /// The rules would refuse it, or too many changes of this tenant wait.
    pub async fn try_out<T>(
        &self,
        level: Option<Level>,
        who: &Who,
        make: impl Fn(&mut Draft<'_>) -> Result<T, Refusal>,
    ) -> Result<(T, Step), ChangeError> {
        let _turn = self.turns.take(who.tenant).await?;
        let before = self.rows.load_full();
        let (made, after, changes) = self.draft(&before, level, Timestamp::now(), make)?;
        Ok((made, Step { before, after: Arc::new(after), changes }))
    }

    fn draft<T>(
        &self,
        rows: &Rows,
        level: Option<Level>,
        now: Timestamp,
        make: impl Fn(&mut Draft<'_>) -> Result<T, Refusal>,
    ) -> Result<(T, Rows, Vec<Change>), Refusal> {
        let random = || rand::random::<u64>();
        let is_over = is_over(level);
        let env = Env { now, level, hasher: &*self.hasher, random: &random, is_over: &is_over };
        let mut draft = Draft::new(rows, &env);
        let made = make(&mut draft)?;
        let (new, changes) = draft.finish()?;
        self.check_hosts(&changes)?;
        Ok((made, new, changes))
    }
}

/// A host as it is compared.
fn bare(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}
