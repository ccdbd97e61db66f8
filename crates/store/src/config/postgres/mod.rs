//! The configuration in PostgreSQL, for several nodes: commits on one connection, questions on another, a third that listens.
//!
//! In: batches and questions. Out: documents. A commit whose connection is lost is repeated with its token, which tells
//! whether the lost one was kept. A node that others are always quicker than takes its turn. Rooms: `place` (where the server is), `link` (connections and
//! their errors), `schema` (tables), `fence` (late owners), `calls` (call records). Elsewhere: the same in a
//! file (`file`).

mod calls;
mod fence;
mod link;
mod place;
mod schema;

use super::batch::{Batch, ORIGIN, Outcome, There};
use super::document::{Document, Entry, Piece, Stored};
use super::engine::{self, Collector, Head, LogEntry, LogHit, LogHits, Step, floor};
use super::error::ConfigError;
use super::fence::{ClusterFacts, OwnerFence};
use super::keys::Keyring;
use super::migrate::Steps;
use super::query::{Keep, LogCursor, LogQuery, RecordQuery, WHO, hidden};
pub use calls::{CallQuery, CallStanding, CallStory, CallTable, CallWord, UnlistedCall};
use link::{Attempts, Link, Server, Trouble};
use model::define::Table;
pub use place::PostgresPlace;
use schema::{CHUNK, record_table, record_tables, signed, unsigned};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, GenericClient, IsolationLevel, Row, Transaction};

/// Outcomes that are remembered: more than can be repeated after a failure.
const TOKENS_MAX: i64 = 10_000;
/// Followers ask so often even when nobody announces anything.
const POLL: Duration = Duration::from_secs(1);
/// Moving everything takes its time; hanging does not count as that.
const BULK: Duration = Duration::from_secs(3600);

/// The database.
pub(super) struct PostgresEngine {
    server: Arc<Server>,
    writer: Link,
    reader: Link,
    follower: JoinHandle<()>,
    head: watch::Receiver<u64>,
    format: u32,
    has_turn: Arc<AtomicBool>,
}

/// This node's turn to make a revision; it ends with this value.
pub(super) struct Turn {
    has_turn: Arc<AtomicBool>,
    /// Its end ends the transaction that holds the lock.
    _client: Client,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.has_turn.store(false, Ordering::Relaxed);
    }
}

/// Asks within one snapshot, and again after a loss; all of it within this time. A macro, because what a generic asynchronous
/// closure gives is not `Send`.
macro_rules! ask {
    ($self:ident, $bound:expr, $action:literal, |$tx:ident| $work:block) => {{
        let mut attempts = $self.server.attempts();
        loop {
            let attempt = async {
                let mut session = timeout($self.server.attempt, $self.reader.session()).await??;
                let result = async {
                    let begun = timeout($self.server.attempt, snapshot(session.client()?)).await;
                    let transaction = begun??;
                    let $tx = &transaction;
                    $work
                };
                let result = result.await;
                session.settled(result)
            };
            match timeout($bound, attempt).await.map_err(Trouble::from).flatten() {
                Ok(result) => break Ok(result),
                Err(trouble) => {
                    attempts.again(trouble).await.map_err(|trouble: Trouble| trouble.told($action))?
                }
            }
        }
    }};
}

impl Drop for PostgresEngine {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl PostgresEngine {
    pub(super) async fn open(
        place: &PostgresPlace,
        (patience, attempt): (Duration, Duration),
        keys: &Keyring,
        steps: Steps,
    ) -> Result<Self, ConfigError> {
        let server = Arc::new(Server::new(place, patience, attempt)?);
        let (writer, reader) = (Link::new(Arc::clone(&server)), Link::new(Arc::clone(&server)));
        let mut attempts = Attempts::new(patience);
        let revision = loop {
            match prepare(&writer, &server, keys, steps).await {
                Ok(revision) => break revision,
                Err(trouble) => attempts.again(trouble).await.map_err(|trouble| trouble.told("open"))?,
            }
        };
        let (tell, head) = watch::channel(revision);
        let follower = tokio::spawn(follow(Arc::clone(&server), tell));
        let has_turn = Arc::default();
        Ok(Self { server, writer, reader, follower, head, format: steps.format(), has_turn })
    }

    /// The head as it becomes known.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.head.clone()
    }

    /// Whether somebody is there.
    pub(super) fn is_reachable(&self) -> bool {
        self.server.is_reachable()
    }

    /// For people.
    pub(super) fn name(&self) -> &str {
        &self.server.name
    }

    pub(super) async fn reseal(&self, keys: &Keyring) -> Result<(), ConfigError> {
        let work = async {
            let mut session = self.writer.session().await?;
            let tx = session.client()?.transaction().await?;
            schema::reseal(&tx, keys, self.format).await?;
            let done = tx.commit().await.map_err(Trouble::from);
            session.settled(done)
        };
        work.await.map_err(|trouble| trouble.told("seal secrets by the new key"))
    }

    pub(super) async fn revision(&self) -> Result<u64, ConfigError> {
        ask!(self, self.server.bound(), "read the head", |tx| {
            Ok(schema::head(tx, &self.server.name).await?.revision)
        })
    }

    /// All rows and next ids, of one revision.
    pub(super) async fn load(&self) -> Result<(u64, Vec<Stored>, Vec<(String, u32)>), ConfigError> {
        let attempt = self.server.attempt;
        ask!(self, BULK, "load the rows", |tx| {
            let head = timeout(attempt, schema::head(tx, &self.server.name)).await??;
            let mut rows = Vec::new();
            let mut last = (String::new(), -1);
            loop {
                let found = timeout(attempt, documents_after(tx, &last)).await??;
                let Some(end) = found.last() else { break };
                last = (end.entity.clone(), i64::from(end.id));
                rows.extend(found);
            }
            Ok((head.revision, rows, timeout(attempt, next_ids(tx)).await??))
        })
    }

    /// One transaction. It may be repeated: what was kept is not done again.
    pub(super) async fn commit(&self, batch: &Batch) -> Result<Outcome, ConfigError> {
        let mut attempts = self.server.attempts();
        let mut may_be_kept = false;
        loop {
            let trouble = match timeout(self.server.bound(), self.try_commit(batch, &mut may_be_kept)).await {
                Ok(Ok(outcome)) => return Ok(outcome),
                Ok(Err(trouble)) => trouble,
                Err(_) => Trouble::Silent,
            };
            if let Err(trouble) = attempts.again(trouble).await {
                return Err(match trouble {
                    trouble @ (Trouble::Server(_) | Trouble::Silent) if may_be_kept => {
                        ConfigError::OutcomeUnknown { token: batch.token, source: Arc::new(trouble) }
                    }
                    trouble => trouble.told("commit"),
                });
            }
        }
    }

    async fn try_commit(&self, batch: &Batch, may_be_kept: &mut bool) -> Result<Outcome, Trouble> {
        let mut session = self.writer.session().await?;
        let result = self.commit_by(session.client()?, batch, may_be_kept).await;
        session.settled(result)
    }

    async fn commit_by(
        &self,
        client: &mut Client,
        batch: &Batch,
        may_be_kept: &mut bool,
    ) -> Result<Outcome, Trouble> {
        let tx = client.transaction().await?;
        if batch.expected.is_some() && !self.has_turn.load(Ordering::Relaxed) {
            // While a node has its turn, this waits.
            tx.batch_execute(&format!("SELECT pg_advisory_xact_lock_shared({})", self.server.turn_lock()))
                .await?;
        }
        // Whoever holds the head's row is the only writer: an attempt of ours that the server still works on ends first,
        // so that its token is seen, and what the draft was checked against is what this transaction replaces.
        let row = tx.query_one("SELECT revision, format, keys, written FROM head FOR UPDATE", &[]).await?;
        let head = schema::head_of(&row, &self.server.name)?;
        let known =
            tx.query_opt("SELECT outcome FROM tokens WHERE token = $1", &[&batch.token.to_string()]).await?;
        if let Some(known) = known {
            let outcome = engine::outcome(known.try_get(0)?);
            return outcome.ok_or_else(|| self.damaged("an unreadable outcome").into());
        }
        if !batch.parts.is_empty() {
            let parts: Vec<String> = batch.parts.iter().map(|(token, _)| token.to_string()).collect();
            if !tx.query("SELECT 1 FROM tokens WHERE token = ANY($1) LIMIT 1", &[&parts]).await?.is_empty() {
                // It was given up, and its parts were kept one by one.
                return Err(ConfigError::Closed.into());
            }
        }
        *may_be_kept = false;
        if head.format != self.format {
            let (found, known) = (head.format, self.format);
            return Err(ConfigError::Newer { place: self.server.name.clone(), found, known }.into());
        }
        if batch.expected.is_some_and(|expected| expected != head.revision) {
            return Ok(Outcome::Conflict { head: head.revision });
        }
        let written = row.try_get::<_, i64>(3)?.saturating_add(1);
        let outcome = self.write(&tx, batch.clone(), head.revision, written).await?;
        *may_be_kept = true;
        tx.commit().await?;
        Ok(outcome)
    }

    /// Lets nobody else make a revision until the turn is dropped, however many want to: those that are at it are waited for, and
    /// this node reads and changes what nobody changes meanwhile. The lock is a transaction's on a connection of its own, so that it
    /// ends with the node, and one that stops in the middle loses it after the time of an attempt; what it commits then is checked
    /// against the head as ever.
    pub(super) async fn turn(&self) -> Result<Turn, ConfigError> {
        let mut attempts = self.server.attempts();
        loop {
            match timeout(self.server.bound(), self.try_turn()).await.map_err(Trouble::from).flatten() {
                Ok(client) => {
                    self.has_turn.store(true, Ordering::Relaxed);
                    return Ok(Turn { has_turn: Arc::clone(&self.has_turn), _client: client });
                }
                Err(trouble) => {
                    attempts.again(trouble).await.map_err(|trouble| trouble.told("take turns"))?
                }
            }
        }
    }

    async fn try_turn(&self) -> Result<Client, Trouble> {
        let client = self.server.connect(None).await?;
        let (lock, bound) = (self.server.turn_lock(), self.server.attempt.as_millis());
        client
            .batch_execute(&format!(
                "BEGIN; SET LOCAL idle_in_transaction_session_timeout TO {bound}; SELECT pg_advisory_xact_lock({lock})"
            ))
            .await?;
        Ok(client)
    }

    async fn write(
        &self,
        tx: &Transaction<'_>,
        mut batch: Batch,
        head: u64,
        written: i64,
    ) -> Result<Outcome, Trouble> {
        if batch.once.is_some() {
            let there = made_of(tx, &batch).await?;
            batch.settle(&there);
        }
        let names: Vec<&'static str> = batch.needs_ids().iter().map(|table| table.name).collect();
        let mut counters = BTreeMap::new();
        if !names.is_empty() {
            for row in tx.query("SELECT entity, next FROM next_ids WHERE entity = ANY($1)", &[&names]).await?
            {
                let (entity, next): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
                if let Some(name) = names.iter().find(|name| **name == entity) {
                    counters.insert(*name, schema::id(next));
                }
            }
        }
        let records = batch.assign(&counters)?;
        let next: Vec<(String, u32)> =
            batch.next_ids().into_iter().map(|(entity, next)| (entity.to_owned(), next)).collect();
        put_next_ids(tx, &next).await?;
        let (mut stay, mut gone) = (Vec::new(), Vec::new());
        for item in batch.items.iter().filter(|item| !item.table.records) {
            let entity = item.table.name.to_owned();
            match &item.after {
                Some(document) => {
                    stay.push(Stored { entity, id: item.id, written: 0, document: document.clone() })
                }
                None => gone.push((entity, i64::from(item.id))),
            }
        }
        if !stay.is_empty() {
            schema::put_documents(tx, &stay).await?;
        }
        schema::delete_documents(tx, &gone).await?;
        write_records(tx, &batch).await?;
        let revision = if batch.expected.is_some() { head + 1 } else { head };
        if batch.expected.is_some() {
            let (entry, changes) = batch.entry(revision);
            put_entries(tx, &[entry]).await?;
            schema::put_changes(tx, &changes).await?;
            tx.execute("SELECT pg_notify($1, $2)", &[&self.server.channel(), &revision.to_string()]).await?;
        }
        tx.execute("UPDATE head SET revision = $1, written = $2", &[&signed(revision), &written]).await?;
        let (tokens, outcomes): (Vec<String>, Vec<String>) = batch
            .outcomes(revision, &records)
            .into_iter()
            .map(|(token, text)| (token.to_string(), text))
            .unzip();
        tx.execute(
            "INSERT INTO tokens (token, written, outcome)
             SELECT t, $1, o FROM unnest($2::text[], $3::text[]) AS new (t, o)",
            &[&written, &tokens, &outcomes],
        )
        .await?;
        tx.execute("DELETE FROM tokens WHERE written <= $1", &[&(written - TOKENS_MAX)]).await?;
        Ok(Outcome::Done { revision, records })
    }

    /// Entries after this revision, oldest first; nothing where the log does not reach back.
    pub(super) async fn entries(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Option<Vec<LogEntry>>, ConfigError> {
        let limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
        let attempt = self.server.bound();
        ask!(self, BULK, "read the change log", |tx| {
            let head = timeout(attempt, schema::head(tx, &self.server.name)).await??.revision;
            if after == head {
                return Ok(Some(Vec::new()));
            }
            let oldest = timeout(attempt, tx.query_one("SELECT min(revision) FROM log", &[])).await??;
            let oldest: Option<i64> = oldest.try_get(0)?;
            if after > head || signed(after).saturating_add(1) < oldest.unwrap_or(i64::MAX) {
                return Ok(None);
            }
            let sql = "SELECT revision, time_us, who::text, token FROM log WHERE revision > $1 ORDER BY revision LIMIT $2";
            let mut entries: Vec<LogEntry> = Vec::new();
            for row in timeout(attempt, tx.query(sql, &[&signed(after), &limit])).await?? {
                entries.push((entry(&row)?, Vec::new()));
            }
            let until = signed(entries.last().map_or(after, |(entry, _)| entry.revision));
            let mut last = (signed(after), i64::MAX);
            loop {
                let sql = "SELECT revision, place, entity, id, before::text, after::text FROM log_changes
                           WHERE (revision, place) > ($1, $2) AND revision <= $3 ORDER BY revision, place LIMIT $4";
                let rows = timeout(attempt, tx.query(sql, &[&last.0, &last.1, &until, &CHUNK])).await??;
                let Some(end) = rows.last() else { break };
                last = (end.try_get(0)?, end.try_get(1)?);
                for row in &rows {
                    let change = schema::change(row, 0)?;
                    if let Ok(at) =
                        entries.binary_search_by_key(&change.revision, |(entry, _)| entry.revision)
                    {
                        entries[at].1.push(change);
                    }
                }
            }
            Ok(Some(entries))
        })
    }

    /// Revision and time of the newest entry of the change log up to a revision.
    pub(super) async fn newest_entry(&self, to: u64) -> Result<Option<(u64, i64)>, ConfigError> {
        ask!(self, self.server.bound(), "read the change log", |tx| {
            let sql = "SELECT revision, time_us FROM log WHERE revision <= $1 ORDER BY revision DESC LIMIT 1";
            let row = tx.query_opt(sql, &[&signed(to)]).await?;
            row.map(|row| Ok((unsigned(row.try_get(0)?), row.try_get(1)?))).transpose()
        })
    }

    /// A page of the change log, newest first.
    pub(super) async fn log(&self, query: &LogQuery) -> Result<LogHits, ConfigError> {
        let from = signed(query.from.unwrap_or(0));
        let to = signed(query.to.unwrap_or(u64::MAX));
        let end = query
            .after
            .map_or((i64::MAX, i64::MAX), |cursor| (signed(cursor.revision), i64::from(cursor.place)));
        // One more, so that it is seen whether there is another page.
        let most = i64::try_from(query.limit.saturating_add(1)).unwrap_or(i64::MAX);
        let hidden: Vec<&str> = hidden().collect();
        let id = query.id.filter(|_| query.entity.is_some()).map(i64::from);
        let mut sql = "SELECT l.revision, time_us, who::text, token, c.revision, place, entity, id, before::text, after::text
             FROM log_changes c JOIN log l ON l.revision = c.revision
             WHERE c.revision BETWEEN $1 AND $2 AND (c.revision, place) < ($3, $4) AND entity <> ALL($6::text[])"
            .to_owned();
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&from, &to, &end.0, &end.1, &most, &hidden];
        if let Some(entity) = &query.entity {
            values.push(entity);
            sql.push_str(&format!(" AND entity = ${}", values.len()));
        }
        if let Some(id) = &id {
            values.push(id);
            sql.push_str(&format!(" AND id = ${}", values.len()));
        }
        if let Some(who) = &query.who {
            values.push(who);
            sql.push_str(&format!(" AND who->>'{WHO}' = ${}", values.len()));
        }
        sql.push_str(" ORDER BY c.revision DESC, place DESC LIMIT $5");
        ask!(self, self.server.bound(), "read the change log", |tx| {
            let rows = tx.query(&sql, &values).await?;
            let hit =
                |row: &Row| Ok::<_, Trouble>(LogHit { entry: entry(row)?, change: schema::change(row, 4)? });
            let mut hits = rows.iter().map(hit).collect::<Result<Vec<_>, _>>()?;
            let is_more = hits.len() > query.limit;
            hits.truncate(query.limit);
            let last = hits.last().map(|hit| &hit.change);
            let last = last.map(|change| LogCursor { revision: change.revision, place: change.place });
            Ok(LogHits { hits, next: last.filter(|_| is_more) })
        })
    }

    /// What the nodes on the database agree upon.
    pub(super) async fn facts(&self, prefix: &str) -> Result<ClusterFacts, ConfigError> {
        let work = async {
            let mut session = self.writer.session().await?;
            let tx = session.client()?.transaction().await?;
            let facts = fence::facts(&tx, prefix).await?;
            let done = tx.commit().await.map_err(Trouble::from);
            session.settled(done).map(|()| facts)
        };
        let facts = timeout(self.server.bound(), work).await.map_err(Trouble::from).flatten();
        let facts = facts.map_err(|trouble| trouble.told("read the cluster's id"))?;
        facts.ok_or_else(|| self.damaged("its table \"cluster\" holds no id"))
    }

    /// Forgets old entries; says how many.
    pub(super) async fn trim(
        &self,
        keep: &Keep,
        now_us: i64,
        owner: Option<&OwnerFence>,
    ) -> Result<u64, ConfigError> {
        let work = async {
            let mut session = self.writer.session().await?;
            let tx = session.client()?.transaction().await?;
            if let Some(owner) = owner {
                fence::check(&tx, owner).await?;
            }
            let head = schema::head(&tx, &self.server.name).await?.revision;
            let floor = floor(keep, now_us);
            let mut last = None;
            // Entries are in the order of time but for clocks that were set: the first that stays ends it.
            'all: loop {
                let sql = "SELECT revision, time_us FROM log WHERE revision > $1 ORDER BY revision LIMIT $2";
                let rows = tx.query(sql, &[&last.unwrap_or(-1_i64), &CHUNK]).await?;
                if rows.is_empty() {
                    break;
                }
                for row in rows {
                    let (revision, time_us): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                    if !floor.is_over(head, unsigned(revision), time_us) {
                        break 'all;
                    }
                    last = Some(revision);
                }
            }
            let last = last.unwrap_or(-1);
            tx.execute("DELETE FROM log_changes WHERE revision <= $1", &[&last]).await?;
            let gone = tx.execute("DELETE FROM log WHERE revision <= $1", &[&last]).await?;
            let done = tx.commit().await.map_err(Trouble::from);
            session.settled(done).map(|()| gone)
        };
        timeout(BULK, work)
            .await
            .map_err(Trouble::from)
            .flatten()
            .map_err(|trouble| trouble.told("trim the change log"))
    }

    pub(super) async fn record(&self, table: &Table, id: u32) -> Result<Option<Document>, ConfigError> {
        let sql = format!("SELECT document::text FROM {} WHERE id = $1", record_table(table));
        ask!(self, self.server.bound(), "read a record", |tx| {
            let row = tx.query_opt(&sql, &[&i64::from(id)]).await?;
            row.map(|row| schema::parsed(row.try_get(0)?, table.name, i64::from(id))).transpose()
        })
    }

    /// Hands records to the collector in the query's order; says how many the indexes found.
    pub(super) async fn records(
        &self,
        query: &RecordQuery,
        collector: &mut Collector<'_>,
    ) -> Result<u64, ConfigError> {
        let Some(times) = query.times() else { return Ok(0) };
        let mut attempts = self.server.attempts();
        loop {
            collector.reset();
            let attempt = async {
                let mut session = self.reader.session().await?;
                let result = try_records(session.client()?, query, times, collector).await;
                session.settled(result)
            };
            match timeout(self.server.bound(), attempt).await.map_err(Trouble::from).flatten() {
                Ok(count) => return Ok(count),
                Err(trouble) => {
                    attempts.again(trouble).await.map_err(|trouble| trouble.told("list records"))?
                }
            }
        }
    }

    /// Everything, of one moment, by a connection of its own.
    pub(super) async fn dump(
        &self,
        begin: &mut (dyn FnMut(&Head) -> Result<(), ConfigError> + Send),
        each: &mut (dyn FnMut(Piece) -> Result<(), ConfigError> + Send),
    ) -> Result<(), ConfigError> {
        let work = async {
            let mut client = self.server.connect(None).await?;
            let tx = snapshot(&mut client).await?;
            begin(&schema::head(&tx, &self.server.name).await?)?;
            for (entity, next) in next_ids(&tx).await? {
                each(Piece::Next { entity, next })?;
            }
            let mut last = (String::new(), -1);
            loop {
                let found = documents_after(&tx, &last).await?;
                let Some(end) = found.last() else { break };
                last = (end.entity.clone(), i64::from(end.id));
                found.into_iter().try_for_each(|row| each(Piece::Row(row)))?;
            }
            for (table, name) in record_tables() {
                let sql = format!(
                    "SELECT $1::text, id, document::text FROM {name} WHERE id > $2 ORDER BY id LIMIT $3"
                );
                let mut last = -1_i64;
                loop {
                    let rows = tx.query(&sql, &[&table.name, &last, &CHUNK]).await?;
                    let Some(end) = rows.last() else { break };
                    last = end.try_get(1)?;
                    for row in &rows {
                        each(Piece::Record(schema::stored(row)?))?;
                    }
                }
            }
            let mut last = -1_i64;
            loop {
                let sql = "SELECT revision, time_us, who::text, token FROM log WHERE revision > $1 ORDER BY revision LIMIT $2";
                let rows = tx.query(sql, &[&last, &CHUNK]).await?;
                let Some(end) = rows.last() else { break };
                last = end.try_get(0)?;
                for row in &rows {
                    each(Piece::Entry(entry(row)?))?;
                }
            }
            let mut last = (-1_i64, -1_i64);
            loop {
                let sql = "SELECT revision, place, entity, id, before::text, after::text FROM log_changes
                           WHERE (revision, place) > ($1, $2) ORDER BY revision, place LIMIT $3";
                let rows = tx.query(sql, &[&last.0, &last.1, &CHUNK]).await?;
                let Some(end) = rows.last() else { break };
                last = (end.try_get(0)?, end.try_get(1)?);
                for row in &rows {
                    each(Piece::Change(schema::change(row, 0)?))?;
                }
            }
            Ok::<(), Trouble>(())
        };
        timeout(BULK, work)
            .await
            .map_err(Trouble::from)
            .flatten()
            .map_err(|trouble| trouble.told("read everything"))
    }

    /// Takes everything into an empty store, in one transaction.
    pub(super) async fn restore(
        &self,
        head: &Head,
        pieces: &mut (dyn Iterator<Item = Result<Piece, ConfigError>> + Send),
    ) -> Result<(), ConfigError> {
        let work = async {
            let mut client = self.server.connect(None).await?;
            let tx = client.transaction().await?;
            let row =
                tx.query_one("SELECT revision, format, keys, written FROM head FOR UPDATE", &[]).await?;
            if row.try_get::<_, i64>(3)? != 0 {
                return Err(ConfigError::NotEmpty { place: self.server.name.clone() }.into());
            }
            let mut keys = schema::head_of(&row, &self.server.name)?.keys;
            loop {
                let some: Vec<Piece> = pieces.take(5000).collect::<Result<_, _>>()?;
                if some.is_empty() {
                    break;
                }
                put_pieces(&tx, some).await?;
            }
            keys.extend(head.keys.clone());
            let keys = serde_json::json!(keys).to_string();
            tx.execute(
                "UPDATE head SET revision = $1, written = 1, keys = $2",
                &[&signed(head.revision), &keys],
            )
            .await?;
            tx.execute("SELECT pg_notify($1, $2)", &[&self.server.channel(), &head.revision.to_string()])
                .await?;
            tx.commit().await.map_err(Trouble::from)
        };
        timeout(BULK, work)
            .await
            .map_err(Trouble::from)
            .flatten()
            .map_err(|trouble| trouble.told("restore a backup"))
    }

    fn damaged(&self, what: &str) -> ConfigError {
        ConfigError::Damaged { place: self.server.name.clone(), what: what.to_owned() }
    }
}

async fn prepare(writer: &Link, server: &Server, keys: &Keyring, steps: Steps) -> Result<u64, Trouble> {
    let mut session = writer.session().await?;
    let tx = session.client()?.transaction().await?;
    schema::prepare(&tx, &server.schema, &server.name, keys, steps).await?;
    let head = schema::head(&tx, &server.name).await?;
    let done = tx.commit().await.map_err(Trouble::from);
    session.settled(done).map(|()| head.revision)
}

async fn snapshot(client: &mut Client) -> Result<Transaction<'_>, Trouble> {
    let begin = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    Ok(begin.start().await?)
}

/// One attempt at [`PostgresEngine::records`].
async fn try_records(
    client: &mut Client,
    query: &RecordQuery,
    (from, last): (i64, i64),
    collector: &mut Collector<'_>,
) -> Result<u64, Trouble> {
    let table = record_table(query.table);
    let number = query.reference.map(|(_, target)| i64::from(target)).unwrap_or_default();
    let target: &(dyn ToSql + Sync) = match &query.text {
        Some((_, text)) => text,
        None => &number,
    };
    // Every statement takes the same three values.
    let reference = query
        .reference
        .map_or("$3::bigint IS NOT NULL".to_owned(), |(field, _)| format!("{} = $3", schema::column(field)));
    let reference = query.text.as_ref().map_or(reference, |(field, _)| format!("document->>'{field}' = $3"));
    let wanted = format!("FROM {table} WHERE time_us BETWEEN $1 AND $2 AND {reference}");
    let (order, beyond) = if query.newest_first { ("DESC", "<") } else { ("ASC", ">") };
    let tx = snapshot(client).await?;
    let count: i64 =
        tx.query_one(&format!("SELECT count(*) {wanted}"), &[&from, &last, target]).await?.try_get(0)?;
    let mut skipped =
        if query.filter.is_none() { i64::try_from(query.offset).unwrap_or(i64::MAX) } else { 0 };
    let mut end: Option<(i64, i64)> = None;
    if query.filter.is_none() && (skipped >= count || query.limit == 0) {
        return Ok(unsigned(count));
    }
    loop {
        let beyond = if end.is_some() {
            format!("AND (time_us, id) {beyond} ($5, $6)")
        } else {
            "AND $5::bigint = $6::bigint".to_owned()
        };
        let sql = format!(
            "SELECT time_us, id, document::text {wanted} {beyond} ORDER BY time_us {order}, id {order} LIMIT {CHUNK} OFFSET $4"
        );
        let (time, number) = end.unwrap_or_default();
        let rows = tx.query(&sql, &[&from, &last, target, &skipped, &time, &number]).await?;
        skipped = 0;
        let is_last = (rows.len() as u64) < unsigned(CHUNK);
        for row in rows {
            let (time, number): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            end = Some((time, number));
            let document = schema::parsed(row.try_get(2)?, query.table.name, number)?;
            if collector.take(schema::id(number), document)? == Step::Enough {
                return Ok(unsigned(count));
            }
        }
        if is_last {
            return Ok(unsigned(count));
        }
    }
}

/// Tells the head as it changes: at once when it is announced, and within a second in any case.
async fn follow(server: Arc<Server>, tell: watch::Sender<u64>) {
    let mut pause = Duration::ZERO;
    let mut lost: Option<Instant> = None;
    loop {
        server.note_absence(Some(*lost.get_or_insert_with(Instant::now)));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).clamp(Duration::from_millis(50), POLL);
        let told = Arc::new(Notify::new());
        let Ok(client) = server.connect(Some(Arc::clone(&told))).await else { continue };
        if client.batch_execute(&format!("LISTEN {}", server.channel())).await.is_err() {
            continue;
        }
        while let Ok(Ok(row)) = timeout(POLL * 10, client.query_one("SELECT revision FROM head", &[])).await {
            (pause, lost) = (Duration::ZERO, None);
            server.note_absence(None);
            let revision = unsigned(row.try_get(0).unwrap_or(0));
            tell.send_if_modified(|known| std::mem::replace(known, revision) != revision);
            let _ = timeout(POLL, told.notified()).await;
        }
    }
}

async fn documents_after(tx: &impl GenericClient, last: &(String, i64)) -> Result<Vec<Stored>, Trouble> {
    let sql = "SELECT entity, id, document::text FROM documents WHERE (entity, id) > ($1, $2) ORDER BY entity, id LIMIT $3";
    let rows = tx.query(sql, &[&last.0, &last.1, &CHUNK]).await?;
    rows.iter().map(schema::stored).collect()
}

async fn next_ids(tx: &impl GenericClient) -> Result<Vec<(String, u32)>, Trouble> {
    let rows = tx.query("SELECT entity, next FROM next_ids ORDER BY entity", &[]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, schema::id(row.try_get(1)?)))).collect()
}

async fn put_next_ids(tx: &Transaction<'_>, next: &[(String, u32)]) -> Result<(), Trouble> {
    if next.is_empty() {
        return Ok(());
    }
    let (entities, ids): (Vec<&str>, Vec<i64>) =
        next.iter().map(|(entity, id)| (entity.as_str(), i64::from(*id))).unzip();
    tx.execute(
        "INSERT INTO next_ids (entity, next) SELECT e, n FROM unnest($1::text[], $2::bigint[]) AS new (e, n)
         ON CONFLICT (entity) DO UPDATE SET next = greatest(next_ids.next, excluded.next)",
        &[&entities, &ids],
    )
    .await?;
    Ok(())
}

/// Columns: revision, time, who, token.
fn entry(row: &Row) -> Result<Entry, Trouble> {
    let who: &str = row.try_get(2)?;
    Ok(Entry {
        revision: unsigned(row.try_get(0)?),
        time_us: row.try_get(1)?,
        who: serde_json::from_str(who).unwrap_or_default(),
        token: row.try_get(3)?,
    })
}

async fn put_entries(tx: &Transaction<'_>, entries: &[Entry]) -> Result<(), Trouble> {
    let revisions: Vec<i64> = entries.iter().map(|entry| signed(entry.revision)).collect();
    let times: Vec<i64> = entries.iter().map(|entry| entry.time_us).collect();
    let whos: Vec<String> = entries.iter().map(|entry| entry.who.to_string()).collect();
    let tokens: Vec<&str> = entries.iter().map(|entry| entry.token.as_str()).collect();
    tx.execute(
        "INSERT INTO log (revision, time_us, who, token)
         SELECT r, t, w::json, o FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) AS new (r, t, w, o)",
        &[&revisions, &times, &whos, &tokens],
    )
    .await?;
    Ok(())
}

/// Records that were made of the same as some of the batch.
async fn made_of(tx: &Transaction<'_>, batch: &Batch) -> Result<There, Trouble> {
    let mut there = There::new();
    let origins = batch.origins();
    for (table, name) in record_tables() {
        let Some(origins) = origins.get(table.name) else { continue };
        let sql = format!("SELECT id, document::text FROM {name} WHERE document->>'{ORIGIN}' = ANY($1)");
        for row in tx.query(&sql, &[origins]).await? {
            let id: i64 = row.try_get(0)?;
            let document = schema::parsed(row.try_get(1)?, table.name, id)?;
            if let Some(origin) = document.get(ORIGIN).and_then(|it| it.as_str()).map(str::to_owned) {
                there.insert((table.name, origin), (schema::id(id), document));
            }
        }
    }
    Ok(there)
}

async fn write_records(tx: &Transaction<'_>, batch: &Batch) -> Result<(), Trouble> {
    for (table, name) in record_tables() {
        let items = || batch.items.iter().filter(|item| std::ptr::eq(item.table, table));
        let Some(first) = items().next() else { continue };
        let mut new = Vec::new();
        for item in items() {
            let id = i64::from(item.id);
            let count = match &item.after {
                Some(document) if item.is_new => {
                    new.push(Stored {
                        entity: table.name.to_owned(),
                        id: item.id,
                        written: 0,
                        document: document.clone(),
                    });
                    1
                }
                Some(document) => {
                    let time = super::document::time_us(table, document);
                    let sql =
                        format!("UPDATE {name} SET time_us = $2, document = $3::text::json WHERE id = $1");
                    tx.execute(&sql, &[&id, &time, &schema::text(document)]).await?
                }
                None => tx.execute(&format!("DELETE FROM {name} WHERE id = $1"), &[&id]).await?,
            };
            if count == 0 {
                return Err(item.no_such_record().into());
            }
        }
        if schema::put_records(tx, table, &new).await? < new.len() as u64 {
            let (entity, id) = (table.name.to_owned(), first.id);
            return Err(ConfigError::Unreadable {
                entity,
                id,
                fault: "there is one with this id".to_owned(),
            }
            .into());
        }
    }
    Ok(())
}

async fn put_pieces(tx: &Transaction<'_>, pieces: Vec<Piece>) -> Result<(), Trouble> {
    let (mut rows, mut records, mut next, mut entries, mut changes) =
        (vec![], vec![], vec![], vec![], vec![]);
    for piece in pieces {
        match piece {
            Piece::Row(row) => rows.push(row),
            Piece::Record(record) => records.push(record),
            Piece::Next { entity, next: id } => next.push((entity, id)),
            Piece::Entry(entry) => entries.push(entry),
            Piece::Change(change) => changes.push(change),
        }
    }
    schema::put_documents(tx, &rows).await?;
    put_next_ids(tx, &next).await?;
    put_entries(tx, &entries).await?;
    schema::put_changes(tx, &changes).await?;
    for (table, _) in record_tables() {
        let of_it: Vec<Stored> =
            records.iter().filter(|record| record.entity == table.name).cloned().collect();
        schema::put_records(tx, table, &of_it).await?;
    }
    Ok(())
}
