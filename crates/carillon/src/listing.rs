//! From call records to the lists of calls that the API shows: beside the calls, some at a time, each call once.
//!
//! In: records that are durable and not in the lists yet, of this node's journal or of the table that a cluster shares. Out: records of the
//! API's tables. Rooms: `entries` (what a call is there), `usage` (what a client's calls cost today). Elsewhere: keeping both sides (`store`).
//!
//! A record is marked as listed after its entries are durable, and an entry is there once for what it was made of
//! ([`ConfigStore::append_once`]). So whoever dies in between, at whatever moment, leaves work that is begun again and changes nothing.

pub(crate) mod entries;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod usage;

use crate::apart::Apart;
use crate::kept::{Housekeeping, LOOK_AGAIN};
use api::live::Live;
use async_trait::async_trait;
use jiff::Timestamp;
use model::Cdr;
use model::rows::{Row, Rows};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use store::config::{CallTable, ConfigError, ConfigStore, UnlistedCall};
use store::{Store, StoreError, UnlistedKey};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tracing::{error, info, warn};
use usage::{DayUsage, NotSettled};

/// Calls that are listed at once.
const GROUP: usize = 500;
/// How often whoever has listed everything looks again: as often as the journal comes to the tables by itself.
const LOOK: Duration = Duration::from_secs(5);
/// How long a failure is waited out.
const PAUSE: Duration = Duration::from_secs(10);

/// Why calls are not in the lists yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotListed {
    #[error(transparent)]
    Records(#[from] StoreError),
    #[error(transparent)]
    Lists(#[from] ConfigError),
    #[error(transparent)]
    Usage(#[from] NotSettled),
    #[error("the node ends")]
    Ends(#[from] tokio::task::JoinError),
}

/// A record that is not in the lists yet: its place, the weight of what it says, and it, or why it cannot be read.
pub(crate) type Unlisted<K> = (K, String, Result<Cdr, String>);

/// Where records of calls are.
#[async_trait]
pub(crate) trait Source: Send + Sync + 'static {
    /// A record's place.
    type Key: Clone + Send + Sync;

    /// So many that are not in the lists, from after this one on.
    async fn unlisted(
        &self,
        after: Option<&Self::Key>,
        limit: usize,
    ) -> Result<Vec<Unlisted<Self::Key>>, NotListed>;

    /// Notes that they are.
    async fn listed(&self, keys: Vec<Self::Key>) -> Result<(), NotListed>;
}

/// Of this node.
#[async_trait]
impl Source for Store {
    type Key = UnlistedKey;

    async fn unlisted(
        &self,
        after: Option<&UnlistedKey>,
        limit: usize,
    ) -> Result<Vec<Unlisted<UnlistedKey>>, NotListed> {
        let (store, after) = (self.clone(), after.cloned());
        let found = spawn_blocking(move || store.unlisted(after.as_ref(), limit)).await??;
        // Of a call that one node had there is one word.
        Ok(found.into_iter().map(|(key, cdr)| (key, String::new(), cdr)).collect())
    }

    async fn listed(&self, keys: Vec<UnlistedKey>) -> Result<(), NotListed> {
        let store = self.clone();
        Ok(spawn_blocking(move || Store::listed(&store, &keys)).await??)
    }
}

/// Of all nodes of a cluster.
#[async_trait]
impl Source for CallTable {
    type Key = UnlistedCall;

    async fn unlisted(
        &self,
        after: Option<&UnlistedCall>,
        limit: usize,
    ) -> Result<Vec<Unlisted<UnlistedCall>>, NotListed> {
        let found = CallTable::unlisted(self, after, limit).await?;
        Ok(found.into_iter().map(|(key, cdr)| (key.clone(), key.word(), cdr)).collect())
    }

    async fn listed(&self, keys: Vec<UnlistedCall>) -> Result<(), NotListed> {
        Ok(CallTable::listed(self, &keys).await?)
    }
}

/// Lists what is not listed yet, until there is nothing more or the node ends, and notes whose usage changes; how many calls that were. What cannot be listed is told in
/// the log and left.
pub(crate) async fn list(
    source: &impl Source,
    lists: &ConfigStore,
    rows: impl Fn() -> Arc<Rows>,
    closing: &watch::Receiver<bool>,
    usage: &mut DayUsage,
) -> Result<usize, NotListed> {
    let (mut count, mut after) = (0, None);
    loop {
        let found = source.unlisted(after.as_ref(), GROUP).await?;
        let is_last = found.len() < GROUP;
        let Some((last, ..)) = found.last() else { return Ok(count) };
        after = Some(last.clone());
        let rows = rows();
        let mut made = Vec::with_capacity(found.len());
        for (key, word, cdr) in found {
            match cdr {
                Ok(cdr) => made.push((key, cdr.call.clone(), entries::entries(&cdr, &word, &rows))),
                Err(what) => error!(what, "a call record cannot be read, so its call is in no list"),
            }
        }
        let keys = keep(lists, made, usage).await?;
        count += keys.len();
        source.listed(keys).await?;
        if is_last || *closing.borrow() {
            return Ok(count);
        }
    }
}

/// Keeps the entries of calls; out: the places of those that are kept. One that is refused holds up no other.
async fn keep<K: Clone>(
    lists: &ConfigStore,
    made: Vec<(K, String, Vec<Row>)>,
    usage: &mut DayUsage,
) -> Result<Vec<K>, ConfigError> {
    let all: Vec<Row> = made.iter().flat_map(|(.., rows)| rows.iter().cloned()).collect();
    // Before it is known whether they are kept: what has not changed is found to be so.
    usage.note(&all);
    match lists.append_once(all, entries::takes).await {
        Ok(_) => return Ok(made.into_iter().map(|(key, ..)| key).collect()),
        Err(error) if error.is_retryable() || matches!(error, ConfigError::Closed) => return Err(error),
        Err(_) => {}
    }
    let mut kept = Vec::new();
    for (key, call, rows) in made {
        match lists.append_once(rows, entries::takes).await {
            Ok(_) => kept.push(key),
            Err(error) if error.is_retryable() || matches!(error, ConfigError::Closed) => return Err(error),
            Err(error) => error!(call, %error, "the call is in no list"),
        }
    }
    Ok(kept)
}

/// The work of a node on its lists of calls.
pub(crate) struct Listing {
    closing: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Listing {
    /// Begins it, apart from calls. Of the table that all nodes share only who keeps house for all of them lists calls; should two believe
    /// that they do, each call is listed once all the same.
    pub(crate) fn start(
        store: Store,
        shared: Option<CallTable>,
        lists: &Arc<ConfigStore>,
        live: &Arc<Live>,
        who: impl Fn() -> Housekeeping + Send + Sync + 'static,
        apart: &Apart,
    ) -> Self {
        let closing = watch::channel(false).0;
        let to = || (Arc::downgrade(lists), Arc::downgrade(live), closing.subscribe());
        let is_alone = shared.is_none();
        // A node of a cluster has records here of the time before it was one: those are listed, and no others come.
        let mut tasks = vec![apart.spawn(work(store, to(), || true, !is_alone))];
        if let Some(table) = shared {
            let is_ours = move || !matches!(who(), Housekeeping::Anothers);
            tasks.push(apart.spawn(work(table, to(), is_ours, false)));
        }
        Self { closing, tasks }
    }

    /// Ends it, after what is just being done. What is not listed is listed after the next start.
    pub(crate) async fn stop(&mut self, patience: Duration) {
        self.closing.send_replace(true);
        for task in self.tasks.drain(..) {
            if timeout(patience, task).await.is_err() {
                warn!("the lists of calls are still being written; the next start goes on with it");
            }
        }
    }
}

type To = (Weak<ConfigStore>, Weak<Live>, watch::Receiver<bool>);

/// Lists calls until the node ends; or until all are listed, where no more come.
async fn work(
    source: impl Source,
    (lists, live, mut closing): To,
    is_ours: impl Fn() -> bool,
    ends_with_all: bool,
) {
    let mut failing = BTreeSet::new();
    let mut usage = DayUsage::default();
    loop {
        let mut pause = LOOK;
        if is_ours() {
            let (Some(lists), Some(live)) = (lists.upgrade(), live.upgrade()) else { return };
            let listed = list(&source, &lists, || live.rows(), &closing, &mut usage).await;
            let settled = match listed {
                Ok(count) if !ends_with_all => {
                    let settled = usage.settle(&lists, &live, Timestamp::now(), Instant::now()).await;
                    settled.map(|_| count).map_err(NotListed::from)
                }
                listed => listed,
            };
            match settled {
                Ok(_) if ends_with_all => return,
                Ok(count) => {
                    if !failing.is_empty() {
                        failing.clear();
                        info!(count, "calls are listed again");
                    }
                }
                Err(error) => {
                    pause = PAUSE;
                    // Once for each reason.
                    if failing.insert(error.to_string()) {
                        warn!(%error, "calls are not in the lists yet; it is tried again and again");
                    }
                }
            }
        } else {
            // Whoever it becomes again looks at everything anew.
            usage = DayUsage::default();
            pause = LOOK_AGAIN;
        }
        if timeout(pause, closing.wait_for(|is_closing| *is_closing)).await.is_ok() {
            return;
        }
    }
}
