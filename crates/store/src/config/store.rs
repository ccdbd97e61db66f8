//! The face of the configuration's store: one interface over a file and over PostgreSQL.
//!
//! In: changes that a draft made on the rows of one revision. Out: the rows, what changed since, records, the audit. Elsewhere:
//! making changes by the rules (`model::draft`), the engines (`file`, `postgres`).

use super::appends::Appends;
use super::backup::{BackupSummary, Reader, Writer};
use super::batch::{Batch, Limits, ORIGIN, Outcome, PROVISIONAL, Takes};
use super::document::{self, RowChange, Stored};
use super::engine::{self, Collector, LogEntry, LogHits};
use super::error::ConfigError;
use super::fence::{ClusterFacts, OwnerFence};
use super::file::FileEngine;
use super::keys::Keyring;
use super::media::{DataDirectory, Media};
use super::migrate::{Rewrite, Steps};
use super::postgres::{self, PostgresEngine, PostgresPlace};
use super::query::{self, Changes, Keep, LogPage, LogQuery, LoggedChange, RecordPage, RecordQuery, Revision};
use super::token::Token;
use jiff::Timestamp;
use model::define::Table;
use model::draft::Change;
use model::entities::TABLES;
use model::rows::{Row, Rows};
use parking_lot::Mutex;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

/// Where the configuration is kept.
#[derive(Clone)]
pub enum ConfigPlace {
    /// In a file of this data directory, for one node.
    Directory(PathBuf),
    /// In PostgreSQL, for several nodes.
    Postgres(PostgresPlace),
}

impl std::fmt::Debug for ConfigPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => f.debug_tuple("Directory").field(path).finish(),
            Self::Postgres(place) => f.debug_tuple("Postgres").field(place).finish(),
        }
    }
}

/// How the configuration is kept.
#[derive(Debug)]
pub struct ConfigOptions {
    /// Where.
    pub place: ConfigPlace,
    /// The keys by which secrets are sealed.
    pub keys: Keyring,
    /// What is taken at once.
    pub limits: Limits,
    /// Memory for the file's pages.
    pub cache_bytes: usize,
    /// How long a failure of PostgreSQL is waited out before a caller hears of it.
    pub patience: Duration,
    /// How long one attempt may take within that.
    pub(super) attempt: Duration,
    pub(super) steps: Steps,
}

impl ConfigOptions {
    /// Defaults for a place.
    pub fn new(place: ConfigPlace, keys: Keyring) -> Self {
        Self {
            place,
            keys,
            limits: Limits::default(),
            cache_bytes: 64 << 20,
            patience: Duration::from_secs(20), // longer than PostgreSQL holds the locks of a dead connection
            attempt: Duration::from_secs(15),
            steps: Steps::default(),
        }
    }
}

/// The configuration's store. It is for use within a tokio runtime.
///
/// A writer makes a [`model::draft::Draft`] on its rows at revision R, where all rules are checked; [`ConfigStore::commit`]
/// then replaces R by R+1 in one transaction, if R is still the head. So the checks hold inside the transaction: they were
/// made against exactly the state that it replaces. Who was too late hears [`Outcome::Conflict`], catches up by
/// [`ConfigStore::changes_since`] and makes its draft again.
///
/// The writer, too, brings its rows to R+1 by [`ConfigStore::changes_since`]: that is what all nodes have (moments are kept
/// to the second, records are left out).
///
/// Rows that a draft makes in tables of records get their ids while they are committed; they are not among [`Rows`], and
/// keep naming rows that are deleted later (ids are never used again).
pub struct ConfigStore {
    engine: Engine,
    keys: Arc<Keyring>,
    limits: Limits,
    steps: Steps,
    told: watch::Sender<u64>,
    appends: Appends,
}

enum Engine {
    File(Arc<FileEngine>),
    Postgres(Box<PostgresEngine>),
}

impl std::fmt::Debug for ConfigStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let engine = match &self.engine {
            Engine::File(_) => "a file",
            Engine::Postgres(engine) => engine.name(),
        };
        f.debug_struct("ConfigStore").field("engine", &engine).finish_non_exhaustive()
    }
}

/// A node's turn to make revisions, which ends when this is dropped: [`ConfigStore::turn`].
pub struct Turn(Option<postgres::Turn>);

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Turn").field(&self.0.is_some()).finish()
    }
}

/// Runs work that blocks where it may.
async fn blocking<T: Send + 'static>(
    engine: &Arc<FileEngine>,
    work: impl FnOnce(&FileEngine) -> Result<T, ConfigError> + Send + 'static,
) -> Result<T, ConfigError> {
    let engine = Arc::clone(engine);
    spawn_blocking(move || work(&engine)).await.map_err(|_| ConfigError::Closed)?
}

impl ConfigStore {
    /// Opens the store, or makes it, and brings it to today's format.
    ///
    /// # Errors
    ///
    /// It cannot be reached, is damaged or newer than this program, or its secrets are sealed by a key that is not given.
    pub async fn open(options: ConfigOptions) -> Result<Self, ConfigError> {
        match &options.place {
            ConfigPlace::Directory(path) => {
                let path = path.clone();
                Self::open_on(move || Ok(Arc::new(DataDirectory::open(&path)?) as Arc<dyn Media>), options)
                    .await
            }
            ConfigPlace::Postgres(place) => {
                let waits = (options.patience, options.attempt);
                let engine = PostgresEngine::open(place, waits, &options.keys, options.steps).await?;
                let revision = *engine.watch().borrow();
                Ok(Self::with(Engine::Postgres(Box::new(engine)), revision, options))
            }
        }
    }

    pub(super) async fn open_on(
        media: impl FnOnce() -> Result<Arc<dyn Media>, ConfigError> + Send + 'static,
        options: ConfigOptions,
    ) -> Result<Self, ConfigError> {
        let work = move || {
            let engine = FileEngine::open(media()?, options.cache_bytes, &options.keys, options.steps)?;
            let revision = engine.revision()?;
            Ok(Self::with(Engine::File(Arc::new(engine)), revision, options))
        };
        spawn_blocking(work).await.map_err(|_| ConfigError::Closed)?
    }

    fn with(engine: Engine, revision: u64, options: ConfigOptions) -> Self {
        let ConfigOptions { keys, limits, steps, .. } = options;
        Self {
            engine,
            keys: Arc::new(keys),
            limits,
            steps,
            told: watch::channel(revision).0,
            appends: Appends::default(),
        }
    }

    /// Whether the place of the configuration is there; a database that is away for some seconds is not.
    pub fn is_reachable(&self) -> bool {
        match &self.engine {
            Engine::File(_) => true,
            Engine::Postgres(engine) => engine.is_reachable(),
        }
    }

    /// The head's revision, as it becomes known: wait for it to change, then ask for [`ConfigStore::changes_since`].
    pub fn head(&self) -> watch::Receiver<u64> {
        match &self.engine {
            Engine::File(_) => self.told.subscribe(),
            Engine::Postgres(engine) => engine.watch(),
        }
    }

    /// All rows at the head.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn load(&self) -> Result<Rows, ConfigError> {
        let keys = Arc::clone(&self.keys);
        match &self.engine {
            Engine::File(engine) => {
                blocking(engine, move |engine| {
                    let mut next = Vec::new();
                    let mut loading = |row: &mut TakeRow<'_>| {
                        engine.load(row, &mut |entity, id| next.push((entity.to_owned(), id)))
                    };
                    let (rows, revision) = loaded(&mut loading, &keys)?;
                    Ok(finished(rows, &next, revision))
                })
                .await
            }
            Engine::Postgres(engine) => {
                let (revision, stored, next) = engine.load().await?;
                let work = move || {
                    let mut rows = Rows::default();
                    stored.into_iter().try_for_each(|stored| put(&mut rows, stored, &keys))?;
                    Ok(finished(rows, &next, revision))
                };
                spawn_blocking(work).await.map_err(|_| ConfigError::Closed)?
            }
        }
    }

    /// Makes the next revision of what a draft changed on the rows of revision `expected`. `who` is kept with it.
    ///
    /// # Errors
    ///
    /// It is too large or cannot be kept, or the store failed: see [`ConfigError::is_retryable`].
    pub async fn commit(
        &self,
        expected: u64,
        changes: &[Change],
        who: &Json,
        time: Timestamp,
    ) -> Result<Outcome, ConfigError> {
        self.commit_as(Token::random(), expected, changes, who, time).await
    }

    /// As [`ConfigStore::commit`], and again after [`ConfigError::OutcomeUnknown`] with its token: it is never applied twice.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn commit_as(
        &self,
        token: Token,
        expected: u64,
        changes: &[Change],
        who: &Json,
        time: Timestamp,
    ) -> Result<Outcome, ConfigError> {
        if changes.is_empty() {
            let head = match &self.engine {
                Engine::File(engine) => blocking(engine, FileEngine::revision).await?,
                Engine::Postgres(engine) => engine.revision().await?,
            };
            let done = Outcome::Done { revision: head, records: Vec::new() };
            return Ok(if head == expected { done } else { Outcome::Conflict { head } });
        }
        let batch = Batch::new(Some(expected), token, changes, who, time, &self.keys, &self.limits)?;
        self.write(batch).await
    }

    /// This node's turn: until it is dropped no other node makes a revision, so that what is made on the rows at the head is
    /// committed for sure. For whoever met [`Outcome::Conflict`] again and again; one turn at a time, and not for long: what is
    /// held for more than some seconds is taken away. A file has one node, which needs none.
    ///
    /// # Errors
    ///
    /// The store failed, or others have their turns for too long: see [`ConfigError::is_retryable`].
    pub async fn turn(&self) -> Result<Turn, ConfigError> {
        match &self.engine {
            Engine::File(_) => Ok(Turn(None)),
            Engine::Postgres(engine) => engine.turn().await.map(Some).map(Turn),
        }
    }

    async fn write(&self, batch: Batch) -> Result<Outcome, ConfigError> {
        match &self.engine {
            Engine::File(engine) => {
                let outcome = blocking(engine, move |engine| engine.commit(&batch)).await?;
                if let Outcome::Done { revision, .. } = outcome {
                    self.told.send_if_modified(|known| {
                        let is_new = *known < revision;
                        *known = revision.max(*known);
                        is_new
                    });
                }
                Ok(outcome)
            }
            Engine::Postgres(engine) => engine.commit(&batch).await,
        }
    }

    /// The revisions after this one, oldest first, at most so many.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn changes_since(&self, revision: u64, limit: usize) -> Result<Changes, ConfigError> {
        let limit = limit.min(self.limits.page_rows);
        let entries = match &self.engine {
            Engine::File(engine) => blocking(engine, move |engine| engine.entries(revision, limit)).await?,
            Engine::Postgres(engine) => engine.entries(revision, limit).await?,
        };
        let Some(entries) = entries else { return Ok(Changes::Reload) };
        let revisions = entries.into_iter().map(|entry| self.revision(entry)).collect::<Result<_, _>>()?;
        Ok(Changes::Revisions(revisions))
    }

    fn revision(&self, (entry, changes): LogEntry) -> Result<Revision, ConfigError> {
        let mut read = Vec::with_capacity(changes.len());
        for RowChange { entity, id, before, after, .. } in changes {
            let Some(table) = model::entities::table(&entity) else {
                tracing::warn!(
                    entity,
                    id,
                    "a change of an entity that this version does not know is left out"
                );
                continue;
            };
            // Only the audit needs what was before; a document of older rules is no reason to stop following.
            let before = before.and_then(|document| engine::read(table, id, document, &self.keys).ok());
            let after = after.map(|document| engine::read(table, id, document, &self.keys)).transpose()?;
            read.push(Change { table, id, before, after });
        }
        Ok(Revision {
            revision: entry.revision,
            time: query::time(entry.time_us),
            who: entry.who,
            changes: read,
        })
    }

    /// A page of the change log for the audit, newest first, passwords masked; without the platform's hidden tables.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn log(&self, query: &LogQuery) -> Result<LogPage, ConfigError> {
        let mut query = query.clone();
        query.limit = query.limit.clamp(1, self.limits.page_rows);
        let LogHits { hits, next } = match &self.engine {
            Engine::File(engine) => blocking(engine, move |engine| engine.log(&query)).await?,
            Engine::Postgres(engine) => engine.log(&query).await?,
        };
        let mut changes = Vec::with_capacity(hits.len());
        for hit in hits {
            let mut change = hit.change;
            let mut sealed = Vec::new();
            for document in [&mut change.before, &mut change.after].into_iter().flatten() {
                // What cannot be opened is masked all the same.
                sealed.extend(
                    document::unseal_all(&change.entity, change.id, document, &self.keys).unwrap_or_default(),
                );
            }
            let changed = query::audited(&mut change, &sealed);
            let RowChange { revision, place, entity, id, before, after } = change;
            let (time, who) = (query::time(hit.entry.time_us), hit.entry.who);
            changes.push(LoggedChange { revision, place, time, who, entity, id, before, after, changed });
        }
        Ok(LogPage { changes, next })
    }

    /// The first revision that was made at this moment or later; behind the head where there is none. Where the clocks of nodes
    /// were set back, one nearby.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn revision_at(&self, time: Timestamp) -> Result<u64, ConfigError> {
        let newest = async |to: u64| -> Result<Option<(u64, Timestamp)>, ConfigError> {
            let found = match &self.engine {
                Engine::File(engine) => blocking(engine, move |engine| engine.newest_entry(to)).await?,
                Engine::Postgres(engine) => engine.newest_entry(to).await?,
            };
            Ok(found.map(|(revision, time_us)| (revision, query::time(time_us))))
        };
        let Some((head, _)) = newest(u64::MAX).await? else { return Ok(0) };
        let (mut low, mut high) = (0, head.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            match newest(middle).await? {
                Some((revision, made)) if made >= time => high = revision,
                _ => low = middle + 1,
            }
        }
        Ok(low)
    }

    /// Forgets old entries of the change log, and says how many. Nodes that are further behind load all rows anew. Where several nodes
    /// share the store one of them does it, by its fence.
    ///
    /// # Errors
    ///
    /// A later owner has done it meanwhile ([`ConfigError::Fenced`]), or the store failed; then it may be done again.
    pub async fn trim(
        &self,
        keep: Keep,
        now: Timestamp,
        owner: Option<OwnerFence>,
    ) -> Result<u64, ConfigError> {
        let now_us = now.as_microsecond();
        match &self.engine {
            Engine::File(engine) => {
                blocking(engine, move |engine| engine.trim(&keep, now_us, owner.as_ref())).await
            }
            Engine::Postgres(engine) => engine.trim(&keep, now_us, owner.as_ref()).await,
        }
    }

    /// What nodes that share the store agree upon: this prefix, if none of them has said another one before. `None`: it is a file, which
    /// nobody shares.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn cluster(&self, prefix: &str) -> Result<Option<ClusterFacts>, ConfigError> {
        match &self.engine {
            Engine::File(_) => Ok(None),
            Engine::Postgres(engine) => engine.facts(prefix).await.map(Some),
        }
    }

    /// Keeps new records, all or none, and gives them their ids, in their order. Appends that wait at the same time are one
    /// transaction.
    ///
    /// # Errors
    ///
    /// They are no records, are too large, or the store failed.
    pub async fn append(&self, records: Vec<Row>) -> Result<Vec<u32>, ConfigError> {
        let Some(batch) = self.record_batch(Token::random(), &appended(records))? else {
            return Ok(Vec::new());
        };
        let mut told = self.appends.wait(batch.clone());
        loop {
            let _turn = tokio::select! {
                biased;
                answer = &mut told => match answer {
                    Ok(answer) => return answer,
                    // Whoever committed for us was dropped in the middle of it. The token tells whether ours are kept.
                    Err(_) => return self.write_batch(batch).await,
                },
                turn = self.appends.turn() => turn,
            };
            if let Some(group) = self.appends.group() {
                let outcome = self.write(group.batch.clone()).await;
                group.tell(&outcome);
            }
        }
    }

    /// As [`ConfigStore::append`], and again after [`ConfigError::OutcomeUnknown`] with its token: they are kept once.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn append_as(&self, token: Token, records: Vec<Row>) -> Result<Vec<u32>, ConfigError> {
        self.write_records(token, appended(records)).await
    }

    /// Keeps records that are made of something else, all or none: of one field `origin` there is one in its table, however often it is
    /// given, and `takes` says of another one with that origin whether it takes the place of the one that is there. Gives the ids of
    /// those that were not there.
    ///
    /// # Errors
    ///
    /// They are no records or their table does not list them by origin, they are too large, or the store failed: then they may be given
    /// again.
    pub async fn append_once(&self, records: Vec<Row>, takes: Takes) -> Result<Vec<u32>, ConfigError> {
        for record in &records {
            if !document::indexed(record.table()).any(|field| field == ORIGIN) {
                let entity = record.table().name.to_owned();
                return Err(ConfigError::NoIndex { entity, field: ORIGIN.to_owned() });
            }
        }
        match self.record_batch(Token::random(), &appended(records))? {
            Some(batch) => self.write_batch(Batch { once: Some(takes), ..batch }).await,
            None => Ok(Vec::new()),
        }
    }

    /// Puts this record in the place of the one with its id.
    ///
    /// # Errors
    ///
    /// There is none, it is too large, or the store failed.
    pub async fn change(&self, record: Row) -> Result<(), ConfigError> {
        let (table, id) = (record.table(), record.id());
        let before = Some(Arc::clone(&record));
        self.write_records(Token::random(), vec![Change { table, id, before, after: Some(record) }])
            .await
            .map(drop)
    }

    /// Removes a record.
    ///
    /// # Errors
    ///
    /// There is none, or the store failed.
    pub async fn remove(&self, table: &'static Table, id: u32) -> Result<(), ConfigError> {
        let before: Row = Arc::from((table.make)());
        self.write_records(Token::random(), vec![Change { table, id, before: Some(before), after: None }])
            .await
            .map(drop)
    }

    async fn write_records(&self, token: Token, changes: Vec<Change>) -> Result<Vec<u32>, ConfigError> {
        match self.record_batch(token, &changes)? {
            Some(batch) => self.write_batch(batch).await,
            None => Ok(Vec::new()),
        }
    }

    async fn write_batch(&self, batch: Batch) -> Result<Vec<u32>, ConfigError> {
        match self.write(batch).await? {
            Outcome::Done { records, .. } => Ok(records),
            Outcome::Conflict { .. } => Err(ConfigError::Closed),
        }
    }

    /// Nothing where there is nothing to do.
    fn record_batch(&self, token: Token, changes: &[Change]) -> Result<Option<Batch>, ConfigError> {
        if let Some(wrong) = changes.iter().find(|change| !change.table.records) {
            return Err(ConfigError::NoIndex { entity: wrong.table.name.to_owned(), field: String::new() });
        }
        if changes.is_empty() {
            return Ok(None);
        }
        let (who, time) = (Json::Null, Timestamp::UNIX_EPOCH);
        Batch::new(None, token, changes, &who, time, &self.keys, &self.limits).map(Some)
    }

    /// A record.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn get(&self, table: &'static Table, id: u32) -> Result<Option<Row>, ConfigError> {
        RecordQuery::new(table).check()?;
        let document = match &self.engine {
            Engine::File(engine) => blocking(engine, move |engine| engine.record(table, id)).await?,
            Engine::Postgres(engine) => engine.record(table, id).await?,
        };
        document.map(|document| engine::read(table, id, document, &self.keys)).transpose()
    }

    /// A page of records.
    ///
    /// # Errors
    ///
    /// There is no such list, or the store cannot be read.
    pub async fn query(&self, query: &RecordQuery) -> Result<RecordPage, ConfigError> {
        query.check()?;
        let mut query = query.clone();
        query.limit = query.limit.min(self.limits.page_rows);
        if let Some((field, text)) = query.text.clone() {
            // The file's index finds others that look alike, too.
            let also = query.filter.take();
            query.filter = Some(Arc::new(move |record| {
                record.named(field).text() == Some(&text) && also.as_ref().is_none_or(|also| also(record))
            }));
        }
        match &self.engine {
            Engine::File(engine) => {
                let keys = Arc::clone(&self.keys);
                blocking(engine, move |engine| {
                    let mut collector = Collector::new(&query, &keys);
                    let found = engine.records(&query, &mut |id, document| collector.take(id, document))?;
                    Ok(collector.page(found))
                })
                .await
            }
            Engine::Postgres(engine) => {
                let mut collector = Collector::new(&query, &self.keys);
                let found = engine.records(&query, &mut collector).await?;
                Ok(collector.page(found))
            }
        }
    }

    /// Writes everything as it is at one moment into a file, while others go on. Secrets stay sealed in it: keep the keys
    /// elsewhere, and keep them.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or the file not written.
    pub async fn backup(&self, path: &Path) -> Result<BackupSummary, ConfigError> {
        let path = path.to_owned();
        match &self.engine {
            Engine::File(engine) => {
                blocking(engine, move |engine| {
                    let writer = std::cell::RefCell::new(Writer::new(&path)?);
                    engine.dump(&mut |head| writer.borrow_mut().begin(head), &mut |piece| {
                        writer.borrow_mut().piece(&piece)
                    })?;
                    writer.into_inner().finish()
                })
                .await
            }
            Engine::Postgres(engine) => {
                let writer = parking_lot::Mutex::new(Writer::new(&path)?);
                engine
                    .dump(&mut |head| writer.lock().begin(head), &mut |piece| writer.lock().piece(&piece))
                    .await?;
                let writer = writer.into_inner();
                spawn_blocking(move || writer.finish()).await.map_err(|_| ConfigError::Closed)?
            }
        }
    }

    /// Takes a backup, of either engine and of this or an older version, into this store, which must be empty. All or nothing.
    ///
    /// # Errors
    ///
    /// The store is not empty; the backup is damaged, newer than this program, or sealed by a key that is not given.
    pub async fn restore(&self, path: &Path) -> Result<BackupSummary, ConfigError> {
        let (path, keys, steps) = (path.to_owned(), Arc::clone(&self.keys), self.steps);
        let check = move || Reader::check(&path, &keys, steps);
        let reader = spawn_blocking(check).await.map_err(|_| ConfigError::Closed)??;
        let rewrite = steps.since(reader.head.format, "the backup")?;
        let keys = Arc::clone(&self.keys);
        let mut pieces = reader.pieces()?.filter_map(move |piece| todays(piece, rewrite, &keys).transpose());
        let (head, summary) = (reader.head.clone(), reader.summary);
        match &self.engine {
            Engine::File(engine) => {
                blocking(engine, move |engine| engine.restore(&head, &mut pieces)).await?;
                self.told.send_replace(summary.revision);
            }
            Engine::Postgres(engine) => engine.restore(&head, &mut pieces).await?,
        }
        Ok(summary)
    }

    /// Seals every secret by the first key, after which the other keys can be dropped. In PostgreSQL every node must know
    /// the first key before.
    ///
    /// # Errors
    ///
    /// A secret cannot be opened, or the store failed; nothing was changed then.
    pub async fn reseal(&self) -> Result<(), ConfigError> {
        match &self.engine {
            Engine::File(engine) => {
                let keys = Arc::clone(&self.keys);
                blocking(engine, move |engine| engine.reseal(&keys)).await
            }
            Engine::Postgres(engine) => engine.reseal(&self.keys).await,
        }
    }
}

/// New records, whose ids are not given yet.
fn appended(records: Vec<Row>) -> Vec<Change> {
    let change = |row: Row| {
        let mut row = row.copy();
        row.set_id(0);
        Change { table: row.table(), id: 0, before: None, after: Some(Arc::from(row)) }
    };
    records.into_iter().map(change).collect()
}

fn todays(
    piece: Result<super::document::Piece, ConfigError>,
    rewrite: Rewrite,
    keys: &Keyring,
) -> Result<Option<super::document::Piece>, ConfigError> {
    let mut piece = piece?;
    let stays = rewrite.is_empty() || rewrite.piece(&mut piece, keys)?;
    Ok(stays.then_some(piece))
}

fn put(rows: &mut Rows, stored: Stored, keys: &Keyring) -> Result<(), ConfigError> {
    let Stored { entity, id, document, .. } = stored;
    match model::entities::table(&entity) {
        Some(table) => rows.insert(engine::read(table, id, document, keys)?),
        None => unknown(&entity, id),
    }
    Ok(())
}

/// Rows that are handed on at once.
const LOADED_AT_ONCE: usize = 1000;
/// Such pieces that wait for a thread.
const WAITING: usize = 4;

/// A table, and ids and documents of rows of it.
type Texts = Vec<(&'static Table, u32, String)>;

/// Takes a row: its entity, its id and its document.
type TakeRow<'a> = dyn FnMut(&str, u32, &str) -> Result<(), ConfigError> + 'a;

/// Takes what `load` gives as rows: one thread reads, as many as there are cores understand, one puts in order. Out: the rows,
/// and what `load` says at its end.
fn loaded(
    load: &mut dyn FnMut(&mut TakeRow<'_>) -> Result<u64, ConfigError>,
    keys: &Keyring,
) -> Result<(Rows, u64), ConfigError> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (give_texts, texts) = mpsc::sync_channel::<Texts>(WAITING);
    let (give_rows, rows) = mpsc::sync_channel::<Result<Vec<Row>, ConfigError>>(WAITING);
    let texts = Mutex::new(texts);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (texts, give_rows) = (&texts, give_rows.clone());
            scope.spawn(move || {
                loop {
                    let Ok(piece) = texts.lock().recv() else { return };
                    let read = |(table, id, text): (_, _, String)| engine::read_text(table, id, &text, keys);
                    if give_rows.send(piece.into_iter().map(read).collect()).is_err() {
                        return;
                    }
                }
            });
        }
        drop(give_rows);
        let ordering = scope.spawn(move || {
            let mut all = Rows::default();
            let mut fault = None;
            // To the end, whatever is wrong: somebody waits to hand on.
            for piece in rows {
                match piece {
                    Ok(piece) => piece.into_iter().for_each(|row| all.insert(row)),
                    Err(error) => fault = fault.or(Some(error)),
                }
            }
            fault.map_or(Ok(all), Err)
        });
        let (mut last, mut piece): (Option<&'static Table>, Texts) = (None, Vec::new());
        let revision = load(&mut |entity, id, text| {
            // Rows of a table come one after another.
            last = last.filter(|table| table.name == entity).or_else(|| model::entities::table(entity));
            let Some(table) = last else {
                unknown(entity, id);
                return Ok(());
            };
            piece.push((table, id, text.to_owned()));
            if piece.len() >= LOADED_AT_ONCE {
                give_texts.send(std::mem::take(&mut piece)).map_err(|_| ConfigError::Closed)?;
            }
            Ok(())
        });
        let last = give_texts.send(piece).map_err(|_| ConfigError::Closed);
        drop(give_texts);
        let rows = ordering.join().map_err(|_| ConfigError::Closed)?;
        let revision = revision?;
        last?;
        Ok((rows?, revision))
    })
}

fn unknown(entity: &str, id: u32) {
    tracing::warn!(entity, id, "a row of an entity that this version does not know is left out");
}

fn finished(mut rows: Rows, next: &[(String, u32)], revision: u64) -> Rows {
    for (entity, next) in next {
        if let Some(table) = model::entities::table(entity) {
            rows.reserve(table, *next);
        }
    }
    for table in TABLES.iter().filter(|table| table.records) {
        rows.reserve(table, PROVISIONAL);
    }
    rows.revision = revision;
    rows
}

#[cfg(test)]
impl ConfigStore {
    /// Closes the file, so that another store can open it; this one then finds it in use.
    pub(super) fn close_for_test(&self) {
        if let Engine::File(engine) = &self.engine {
            engine.close_for_test();
        }
    }
}
