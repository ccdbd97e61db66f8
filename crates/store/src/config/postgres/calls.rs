//! Call records of all nodes in PostgreSQL: one row for each call, and the right owner's word stays, in whatever order words come.
//!
//! In: what owners say of their calls, many at a time. Out: records, newest first, and who spoke last of a call. Elsewhere: keeping them
//! until they are here (`crate::Store`), connections (`link`).

use super::link::{Link, Server, Trouble};
use super::place::PostgresPlace;
use super::schema::CHUNK;
use crate::cdrs::{CdrCursor, CdrPage, CdrQuery};
use crate::config::error::ConfigError;
use crate::note::Unlisted;
use crate::record::{self, Record};
use crate::tables::{time_key, time_of};
use model::{Brand, Cdr, Client, Id, OpenCall};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// Tables that earlier layouts lack. `state` is [`CallStory::state`]; what has not ended has no end. `listed`: the rows of the lists of calls
/// are made of this very word; those of before there were such lists are taken as they are.
pub(super) const SQL: &str = "
CREATE TABLE IF NOT EXISTS calls (call text COLLATE \"C\" PRIMARY KEY, epoch bigint NOT NULL, state smallint NOT NULL,
    node integer NOT NULL, client bigint NOT NULL, brand bigint NOT NULL, started_us bigint NOT NULL, ended_us bigint, body bytea NOT NULL);
ALTER TABLE calls ADD COLUMN IF NOT EXISTS listed boolean NOT NULL DEFAULT true;
ALTER TABLE calls ALTER COLUMN listed SET DEFAULT false;
CREATE INDEX IF NOT EXISTS calls_by_time ON calls (started_us, call) WHERE ended_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS calls_by_client ON calls (client, started_us, call) WHERE ended_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS calls_by_brand ON calls (brand, started_us, call) WHERE ended_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS calls_unlisted ON calls (started_us, call) WHERE ended_us IS NOT NULL AND NOT listed;
";

/// The owner with the larger epoch is right; of one epoch, whoever has seen the end before who guesses it, and that before a mark; then
/// the larger node. A mark may be renewed.
const PUT: &str = "
INSERT INTO calls (call, epoch, state, node, client, brand, started_us, ended_us, body)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::smallint[], $4::integer[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bytea[])
ON CONFLICT (call) DO UPDATE SET epoch = excluded.epoch, state = excluded.state, node = excluded.node, client = excluded.client,
    brand = excluded.brand, started_us = excluded.started_us, ended_us = excluded.ended_us, body = excluded.body, listed = false
WHERE (excluded.epoch, excluded.state, excluded.node) > (calls.epoch, calls.state, calls.node)
    OR excluded.state = 0 AND (excluded.epoch, excluded.state, excluded.node) = (calls.epoch, calls.state, calls.node)";

/// What an owner says of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallWord {
    /// How often the call had changed its owner.
    pub epoch: u32,
    /// The owner.
    pub node: u16,
    /// What it says.
    pub story: CallStory,
}

/// The story of a call as far as its owner knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallStory {
    /// It goes on: no record, but a mark that tells owners of before that the call is not theirs any more.
    Open(Box<OpenCall>),
    /// Its owner died in the middle of it, and nobody went on with it.
    Lost(Box<Cdr>),
    /// It is over.
    Ended(Box<Cdr>),
}

impl CallStory {
    fn state(&self) -> i16 {
        match self {
            Self::Open(_) => 0,
            Self::Lost(_) => 1,
            Self::Ended(_) => 2,
        }
    }

    fn body(&self) -> Vec<u8> {
        record::encode(&match self.clone() {
            Self::Open(call) => Record::CallBegan(*call),
            Self::Lost(cdr) | Self::Ended(cdr) => Record::CallEnded(cdr),
        })
    }
}

impl CallWord {
    /// Our name of the call.
    pub fn call(&self) -> &str {
        match &self.story {
            CallStory::Open(call) => &call.call,
            CallStory::Lost(cdr) | CallStory::Ended(cdr) => &cdr.call,
        }
    }

    fn weight(&self) -> (u32, i16, u16) {
        (self.epoch, self.story.state(), self.node)
    }

    /// Whether it takes the place of another word about the same call.
    fn beats(&self, other: &Self) -> bool {
        let (own, others) = (self.weight(), other.weight());
        own > others || (own == others && self.story.state() == 0)
    }
}

/// The last word about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallStanding {
    /// How often the call had changed its owner.
    pub epoch: u32,
    /// The owner.
    pub node: u16,
    /// There is a record.
    pub has_ended: bool,
}

/// A word about a call that is over, of which the lists of calls know nothing yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnlistedCall {
    call: String,
    started_us: i64,
    epoch: i64,
    state: i16,
    node: i32,
}

impl UnlistedCall {
    /// Its weight as a text: of two words about a call the right one has the greater one.
    pub fn word(&self) -> String {
        format!("{:08x}.{}.{:04x}", self.epoch, self.state, self.node)
    }
}

/// Which call records.
#[derive(Clone, Debug, Default)]
pub struct CallQuery {
    /// Only those of this brand.
    pub brand: Option<Id<Brand>>,
    /// The rest; a cursor is good for any query.
    pub rest: CdrQuery,
}

/// The table of call records. It connects when it is first asked, and again after a loss; a [`super::super::ConfigStore`] makes the table.
pub struct CallTable {
    server: Arc<Server>,
    writer: Link,
    reader: Link,
}

impl std::fmt::Debug for CallTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallTable").field("place", &self.server.name).finish_non_exhaustive()
    }
}

/// Asks once, and once more where the connection was lost.
macro_rules! ask {
    ($self:ident, $action:literal, |$client:ident| $work:expr) => {{
        let mut is_first = true;
        loop {
            let attempt = async {
                let mut session = $self.reader.session().await?;
                let $client = session.client()?;
                let result = $work.await.map_err(Trouble::from);
                session.settled(result)
            };
            match timeout($self.server.attempt, attempt).await.map_err(Trouble::from).flatten() {
                Err(Trouble::Server(error)) if is_first && error.is_closed() => is_first = false,
                result => break result.map_err(|trouble| trouble.told($action)),
            }
        }
    }};
}

impl CallTable {
    /// The table of a place. An answer that takes longer than `attempt` is given up.
    ///
    /// # Errors
    /// The place cannot be one.
    pub fn at(place: &PostgresPlace, attempt: Duration) -> Result<Self, ConfigError> {
        let server = Arc::new(Server::new(place, attempt, attempt)?);
        Ok(Self { writer: Link::new(Arc::clone(&server)), reader: Link::new(Arc::clone(&server)), server })
    }

    /// Keeps words: all of them or, where it fails, perhaps some. They may be said again, and are durable when this returns. One that
    /// is older than what is there changes nothing.
    ///
    /// # Errors
    /// The database cannot be reached or refuses.
    pub async fn put(&self, words: &[CallWord]) -> Result<(), ConfigError> {
        let work = async {
            let mut session = self.writer.session().await?;
            let client = session.client()?;
            let mut kept = Ok(());
            for words in words.chunks(1000) {
                kept = put(client, words).await;
                if kept.is_err() {
                    break;
                }
            }
            session.settled(kept)
        };
        let kept = timeout(self.server.attempt, work).await.map_err(Trouble::from).flatten();
        kept.map_err(|trouble| trouble.told("keep call records"))
    }

    /// The last words about calls; those that nobody has spoken of are left out.
    ///
    /// # Errors
    /// The database cannot be reached or refuses.
    pub async fn standings(&self, calls: &[&str]) -> Result<HashMap<String, CallStanding>, ConfigError> {
        let sql = "SELECT call, epoch, node, ended_us IS NOT NULL FROM calls WHERE call = ANY($1)";
        let rows = ask!(self, "look for calls", |client| client.query(sql, &[&calls]))?;
        let standing = |row: &Row| -> Result<_, tokio_postgres::Error> {
            let (epoch, node): (i64, i32) = (row.try_get(1)?, row.try_get(2)?);
            let epoch = u32::try_from(epoch).unwrap_or(u32::MAX);
            let node = u16::try_from(node).unwrap_or(u16::MAX);
            Ok((row.try_get(0)?, CallStanding { epoch, node, has_ended: row.try_get(3)? }))
        };
        rows.iter().map(standing).collect::<Result<_, _>>().map_err(|error| told(error, "look for calls"))
    }

    /// The record of a call that is over.
    ///
    /// # Errors
    /// The database cannot be reached, refuses or is damaged.
    pub async fn cdr(&self, call: &str) -> Result<Option<Cdr>, ConfigError> {
        let sql = "SELECT call, started_us, body FROM calls WHERE call = $1 AND ended_us IS NOT NULL";
        let row = ask!(self, "read a call record", |client| client.query_opt(sql, &[&call]))?;
        row.map(|row| self.read(&row).map(|(_, cdr)| cdr)).transpose()
    }

    /// A page of call records, those that started last first.
    ///
    /// # Errors
    /// The database cannot be reached, refuses or is damaged.
    pub async fn cdrs(&self, query: &CallQuery) -> Result<CdrPage, ConfigError> {
        let CallQuery { brand, rest } = query;
        let limit = rest.limit.clamp(1, CdrQuery::LIMIT_MAX);
        // One more, so that it is seen whether there is another page.
        let most = i64::try_from(limit + 1).unwrap_or(CHUNK);
        let (client, brand) =
            (rest.client.map(|client| i64::from(client.get())), brand.map(|brand| i64::from(brand.get())));
        let after = rest.after.as_ref().map(|CdrCursor(key)| cursor(key));
        let mut sql = "SELECT call, started_us, body FROM calls WHERE ended_us IS NOT NULL".to_owned();
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&most];
        for (condition, value) in [
            ("client =", &client),
            ("brand =", &brand),
            ("started_us >=", &rest.from_us),
            ("started_us <", &rest.until_us),
        ] {
            if let Some(value) = value {
                values.push(value);
                sql.push_str(&format!(" AND {condition} ${}", values.len()));
            }
        }
        if let Some((started_us, call)) = &after {
            values.push(started_us);
            values.push(call);
            sql.push_str(&format!(" AND (started_us, call) < (${}, ${})", values.len() - 1, values.len()));
        }
        sql.push_str(" ORDER BY started_us DESC, call DESC LIMIT $1");
        let mut rows = ask!(self, "list call records", |client| client.query(&sql, &values))?;
        let is_more = rows.len() > limit;
        rows.truncate(limit);
        let mut page = CdrPage { cdrs: Vec::with_capacity(rows.len()), next: None };
        for row in &rows {
            let (key, cdr) = self.read(row)?;
            page.cdrs.push(cdr);
            page.next = is_more.then_some(CdrCursor(key));
        }
        Ok(page)
    }

    /// So many of the calls that are over and not in the lists yet, those that began first first, from after this one on. A record that
    /// cannot be read is told in words.
    ///
    /// # Errors
    /// The database cannot be reached or refuses.
    pub async fn unlisted(
        &self,
        after: Option<&UnlistedCall>,
        limit: usize,
    ) -> Result<Vec<Unlisted<UnlistedCall>>, ConfigError> {
        const ACTION: &str = "look for calls that are not in the lists";
        let limit = i64::try_from(limit).unwrap_or(CHUNK);
        let (started_us, call) = after.map_or((i64::MIN, ""), |last| (last.started_us, last.call.as_str()));
        let sql = "SELECT call, started_us, epoch, state, node, body FROM calls
            WHERE ended_us IS NOT NULL AND NOT listed AND (started_us, call) > ($1, $2) ORDER BY started_us, call LIMIT $3";
        let rows = ask!(self, "look for calls that are not in the lists", |client| client
            .query(sql, &[&started_us, &call, &limit]))?;
        let read = |row: &Row| -> Result<_, tokio_postgres::Error> {
            let (epoch, state, node) = (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
            let key = UnlistedCall { call: row.try_get(0)?, started_us: row.try_get(1)?, epoch, state, node };
            let cdr = match record::decode(row.try_get(5)?) {
                Ok(Record::CallEnded(cdr)) => Ok(*cdr),
                Ok(_) => Err("it is no call record".to_owned()),
                Err(what) => Err(what),
            };
            Ok((key, cdr))
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| told(error, ACTION))
    }

    /// Notes that the rows of these calls are in the lists, as far as nobody has said another word about them meanwhile.
    ///
    /// # Errors
    /// The database cannot be reached or refuses; it may be said again.
    pub async fn listed(&self, calls: &[UnlistedCall]) -> Result<(), ConfigError> {
        let names: Vec<&str> = calls.iter().map(|call| call.call.as_str()).collect();
        let epochs: Vec<i64> = calls.iter().map(|call| call.epoch).collect();
        let states: Vec<i16> = calls.iter().map(|call| call.state).collect();
        let nodes: Vec<i32> = calls.iter().map(|call| call.node).collect();
        let sql = "UPDATE calls SET listed = true FROM unnest($1::text[], $2::bigint[], $3::smallint[], $4::integer[]) AS said (c, e, s, n)
            WHERE call = c AND (epoch, state, node) = (e, s, n)";
        ask!(self, "note which calls are in the lists", |client| client
            .execute(sql, &[&names, &epochs, &states, &nodes]))
        .map(drop)
    }

    /// How many calls have a record.
    ///
    /// # Errors
    /// The database cannot be reached or refuses.
    pub async fn cdr_count(&self) -> Result<u64, ConfigError> {
        let sql = "SELECT count(*) FROM calls WHERE ended_us IS NOT NULL";
        let row = ask!(self, "count call records", |client| client.query_one(sql, &[]))?;
        let count: i64 = row.try_get(0).map_err(|error| told(error, "count call records"))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Columns: call, start, body. Gives its key, too.
    fn read(&self, row: &Row) -> Result<(Vec<u8>, Cdr), ConfigError> {
        let columns = || -> Result<(&str, i64, &[u8]), tokio_postgres::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
        };
        let (call, started_us, body) = columns().map_err(|error| told(error, "read a call record"))?;
        let damaged = |what: String| ConfigError::Damaged {
            place: format!("the record of call {call} in {}", self.server.name),
            what,
        };
        match record::decode(body).map_err(damaged)? {
            Record::CallEnded(cdr) => Ok(([&time_key(started_us), call.as_bytes()].concat(), *cdr)),
            _ => Err(damaged("it is none".to_owned())),
        }
    }
}

fn told(error: tokio_postgres::Error, action: &'static str) -> ConfigError {
    Trouble::from(error).told(action)
}

/// Where a page ended. What is no place of ours leads somewhere, too.
fn cursor(key: &[u8]) -> (i64, String) {
    let (time, call) = key.split_at_checked(8).unwrap_or_default();
    // NUL is no letter of PostgreSQL's.
    let call = String::from_utf8_lossy(call).replace('\0', "");
    (time.try_into().map_or(i64::MIN, time_of), call)
}

/// One statement, so all of it or nothing. Rows are locked in the order of their names, so that no two writers wait for each other.
async fn put(client: &tokio_postgres::Client, words: &[CallWord]) -> Result<(), Trouble> {
    // A statement may change a row only once.
    let mut last: BTreeMap<&str, &CallWord> = BTreeMap::new();
    for word in words {
        let there = last.entry(word.call()).or_insert(word);
        if word.beats(there) {
            *there = word;
        }
    }
    let mut columns = Columns::default();
    last.values().for_each(|word| columns.push(word));
    let Columns { calls, epochs, states, nodes, clients, brands, started, ended, bodies } = &columns;
    client.execute(PUT, &[calls, epochs, states, nodes, clients, brands, started, ended, bodies]).await?;
    Ok(())
}

#[derive(Default)]
struct Columns<'a> {
    calls: Vec<&'a str>,
    epochs: Vec<i64>,
    states: Vec<i16>,
    nodes: Vec<i32>,
    clients: Vec<i64>,
    brands: Vec<i64>,
    started: Vec<i64>,
    ended: Vec<Option<i64>>,
    bodies: Vec<Vec<u8>>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, word: &'a CallWord) {
        let (client, brand, started, ended): (Id<Client>, Id<Brand>, _, _) = match &word.story {
            CallStory::Open(call) => (call.client, call.brand, call.started_us, None),
            CallStory::Lost(cdr) | CallStory::Ended(cdr) => {
                (cdr.client, cdr.brand, cdr.started_us, Some(cdr.ended_us))
            }
        };
        self.calls.push(word.call());
        self.epochs.push(i64::from(word.epoch));
        self.states.push(word.story.state());
        self.nodes.push(i32::from(word.node));
        self.clients.push(i64::from(client.get()));
        self.brands.push(i64::from(brand.get()));
        self.started.push(started);
        self.ended.push(ended);
        self.bodies.push(word.story.body());
    }
}
