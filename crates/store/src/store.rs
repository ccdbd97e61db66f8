//! The face of the store: open, append, ask, close.
//!
//! Elsewhere: the work (`journal`, `apply`, `tables`, `recovery`).

use crate::apply::{Applier, Tail, now_us};
use crate::cdrs::{CdrPage, CdrQuery};
use crate::disk::{DATABASE_NAME, Directory, Disk};
use crate::error::StoreError;
use crate::journal::{Journal, OpenSegment, Queue};
use crate::note::{CallNote, EndedCall, Unlisted, UnlistedKey};
use crate::record::{Entry, Record};
use crate::recovery;
use crate::tables::Tables;
use model::{BindingRecord, Cdr};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How a store weighs time, memory and disk.
#[derive(Clone, Debug)]
pub struct Options {
    /// Least time between two syncs of the journal, while records keep coming. One that comes after a longer silence
    /// is synced at once.
    pub sync_gap: Duration,
    /// The journal is moved to the tables this often.
    pub apply_every: Duration,
    /// And as soon as this many bytes have gathered.
    pub apply_bytes: usize,
    /// A longer journal segment is followed by a new one, in bytes.
    pub segment_bytes: usize,
    /// This many records may wait for the disk; one more is refused as [`StoreError::Overloaded`].
    pub queue_max: usize,
    /// Memory for pages of the database, in bytes.
    pub cache_bytes: usize,
    /// This node is one of a cluster: calls that were open when the last process ended may go on elsewhere, so they get no
    /// records by themselves, but are told by [`Store::open_calls`].
    pub is_clustered: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // A sync costs 0.15 ms of CPU on a virtual disk, however little it writes: 50 a second cost under a hundredth
            // of a core at any load, and no SIP timer notices 20 ms.
            sync_gap: Duration::from_millis(20),
            // A contact that is refreshed or a call that begins and ends meanwhile costs the tables one row, and rows that
            // are neighbours share a page; a crash leaves a few megabytes more to take in.
            apply_every: Duration::from_secs(5),
            apply_bytes: 4 * 1024 * 1024,
            segment_bytes: 16 * 1024 * 1024,
            queue_max: 100_000,
            cache_bytes: 64 * 1024 * 1024,
            is_clustered: false,
        }
    }
}

/// How a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Records that wait for the disk.
    pub waiting: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
    /// The disk took the last records; otherwise new ones are refused until it works again.
    pub takes_records: bool,
    /// Records in the journal that are not in the tables yet.
    pub unapplied: u64,
    /// The tables could be brought up to date the last time.
    pub tables_are_fine: bool,
}

/// A data directory in use. Clones are the same store; [`Store::close`] or the end of the last clone stops it in order,
/// and the directory is free once every clone is gone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Arc<Queue>,
    tail: Arc<Tail>,
    tables: Arc<Tables>,
    /// Journal thread, then apply thread.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Store {
    /// Whether this directory holds a store; [`Store::open`] would make one.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(DATABASE_NAME).is_file()
    }

    /// Opens a data directory, or makes it (for its owner alone). Takes in what a crash left in the journal; calls that
    /// were open when the last process ended get their [`Cdr`] as lost.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Damaged`], [`StoreError::Format`], or what the system or database said.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, Options::default())
    }

    /// As [`Store::open`], with other weights.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(dir: &Path, options: Options) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(Directory::open(dir)?), &options)
    }

    pub(crate) fn open_on(disk: Arc<dyn Disk>, options: &Options) -> Result<Self, StoreError> {
        let tables = Arc::new(Tables::open(Arc::clone(&disk), options.cache_bytes)?);
        let next = recovery::recover(&*disk, &tables, options.is_clustered)?;
        if !options.is_clustered {
            let unsent = tables.unsent_count()?;
            if unsent > 0 {
                tracing::warn!(
                    records = unsent,
                    "call records wait here for the database of a cluster; they go there when this node is started in it again"
                );
            }
        }
        let segment = OpenSegment::create(&*disk, next)?;
        disk.mark_alive(now_us()).map_err(StoreError::io("write the sign of life in the data directory"))?;
        let queue = Arc::new(Queue::new(options.queue_max));
        let tail = Arc::new(Tail::new(next, options.apply_bytes));
        let journal = Journal {
            disk: Arc::clone(&disk),
            queue: Arc::clone(&queue),
            tail: Arc::clone(&tail),
            sync_gap: options.sync_gap,
            segment_bytes: options.segment_bytes,
            segment,
            next,
            trouble: None,
        };
        let applier = Applier {
            disk,
            tail: Arc::clone(&tail),
            tables: Arc::clone(&tables),
            apply_every: options.apply_every,
        };
        let inner = Inner { queue, tail, tables, threads: Mutex::default() };
        inner.start("store-journal", move || journal.run())?;
        inner.start("store-apply", move || applier.run())?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Keeps a record. Returns at once; `durable` runs once, on the journal's thread, when the record is on the disk or
    /// cannot be put there. It must be quick and not wait for this store; it may append. A record that is refused
    /// ([`StoreError::Overloaded`], [`StoreError::TooLarge`], [`StoreError::Closed`]) makes it run before this returns,
    /// on this thread.
    ///
    /// Records are kept and acknowledged in the order of these calls. One that the disk refused is not kept, and may be
    /// given again; the store takes records again by itself once the disk does. Only when the process ends before the disk
    /// works again may a refused record be there after all: what is true of it then is what its sender wanted, and a call's
    /// record that is given again counts once.
    pub fn append(&self, record: Record, durable: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        match Entry::new(record) {
            Ok(entry) => self.inner.queue.push(entry, Box::new(durable)),
            Err(error) => durable(Err(error)),
        }
    }

    /// A page of call records, those that started last first; sees every record that was acknowledged. Waits for the disk.
    ///
    /// # Errors
    /// Damage of the database, or a failure to bring it up to date.
    pub fn cdrs(&self, query: &CdrQuery) -> Result<CdrPage, StoreError> {
        self.inner.tail.wait_until_applied()?;
        self.inner.tables.cdrs(query)
    }

    /// The record of a call. Sees and waits as [`Store::cdrs`].
    ///
    /// # Errors
    /// As [`Store::cdrs`].
    pub fn cdr(&self, call: &str) -> Result<Option<Cdr>, StoreError> {
        self.inner.tail.wait_until_applied()?;
        self.inner.tables.cdr(call)
    }

    /// How many call records there are. Sees and waits as [`Store::cdrs`].
    ///
    /// # Errors
    /// As [`Store::cdrs`].
    pub fn cdr_count(&self) -> Result<u64, StoreError> {
        self.inner.tail.wait_until_applied()?;
        self.inner.tables.cdr_count()
    }

    /// Every binding, expired ones included: whoever loads them has the clock, and unbinds what is too old.
    /// Sees and waits as [`Store::cdrs`].
    ///
    /// # Errors
    /// As [`Store::cdrs`].
    pub fn bindings(&self) -> Result<Vec<BindingRecord>, StoreError> {
        self.inner.tail.wait_until_applied()?;
        self.inner.tables.bindings()
    }

    /// The calls of a cluster that earlier processes left open, as they last noted them; those of this process are left out.
    /// Sees and waits as [`Store::cdrs`].
    ///
    /// # Errors
    /// As [`Store::cdrs`].
    pub fn open_calls(&self) -> Result<Vec<CallNote>, StoreError> {
        self.inner.tail.wait_until_applied()?;
        self.inner.tables.notes(|note| note.left_us.is_some())
    }

    /// The calls that this process took over from other nodes of a cluster and that are open. Sees and waits as [`Store::cdrs`].
    ///
    /// # Errors
    /// As [`Store::cdrs`].
    pub fn adopted_calls(&self) -> Result<Vec<CallNote>, StoreError> {
        self.inner.tail.wait_until_applied()?;
        self.inner.tables.notes(|note| note.left_us.is_none() && note.epoch > 0)
    }

    /// So many of the calls whose records the database that all nodes share does not have, those that ended first first.
    /// [`Record::CallsSent`] takes them away. Sees and waits as [`Store::cdrs`].
    ///
    /// # Errors
    /// As [`Store::cdrs`].
    pub fn unsent(&self, limit: usize) -> Result<Vec<EndedCall>, StoreError> {
        self.inner.tail.wait_until_applied()?;
        self.inner.tables.unsent(limit)
    }

    /// How many they are. Sees and waits as [`Store::cdrs`].
    ///
    /// # Errors
    /// As [`Store::cdrs`].
    pub fn unsent_count(&self) -> Result<u64, StoreError> {
        self.inner.tail.wait_until_applied()?;
        self.inner.tables.unsent_count()
    }

    /// So many of the calls whose rows are not in the lists of calls yet, those that began first first, from after this one on; a record that
    /// cannot be read is told in words. A node of a cluster has those alone that it had before it was one. Sees and waits as
    /// [`Store::cdrs`].
    ///
    /// # Errors
    /// As [`Store::cdrs`].
    pub fn unlisted(
        &self,
        after: Option<&UnlistedKey>,
        limit: usize,
    ) -> Result<Vec<Unlisted<UnlistedKey>>, StoreError> {
        self.inner.tail.wait_until_applied()?;
        self.inner.tables.unlisted(after, limit)
    }

    /// Notes that these calls are in the lists; on the disk when this returns. Waits for the disk.
    ///
    /// # Errors
    /// What the database said; they are not in the lists then, as far as anybody knows.
    pub fn listed(&self, keys: &[UnlistedKey]) -> Result<(), StoreError> {
        self.inner.tables.listed(keys)
    }

    /// The revision of the configuration at `place` up to which the bindings are known to be of accounts that are still what
    /// they were; `None` in a new directory, and where they were made under a configuration that is elsewhere.
    ///
    /// # Errors
    /// What the database said.
    pub fn seen_revision(&self, place: &str) -> Result<Option<u64>, StoreError> {
        self.inner.tables.seen_revision(place)
    }

    /// Notes that revision; on the disk when this returns.
    ///
    /// # Errors
    /// What the database said; the revision before stays.
    pub fn put_seen_revision(&self, place: &str, revision: u64) -> Result<(), StoreError> {
        self.inner.tables.put_seen_revision(place, revision)
    }

    /// How it is. Never waits for the disk. While the disk takes no records, asking from time to time makes the store notice
    /// that it works again.
    pub fn load(&self) -> Load {
        let (waiting, waiting_bytes, takes_records) = self.inner.queue.load();
        let (unapplied, tables_are_fine) = self.inner.tail.load();
        Load { waiting, waiting_bytes, takes_records, unapplied, tables_are_fine }
    }

    /// As a store of before clusters was.
    #[cfg(test)]
    pub(crate) fn drop_later_tables(&self) {
        self.inner.tail.wait_until_applied().unwrap();
        self.inner.tables.drop_later_tables();
    }

    /// Takes no more records, writes and acknowledges those that wait, brings the tables up to date, and ends the threads.
    /// Queries go on. Waits for the disk; a second call does nothing.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn start(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
        self.threads.lock().push(thread.map_err(StoreError::io("start a thread of the store"))?);
        Ok(())
    }

    fn close(&self) {
        self.queue.close();
        let threads = std::mem::take(&mut *self.threads.lock());
        // The last clone may end within a callback: on the journal's own thread, which cannot wait for itself, nor for
        // the other one, which ends after it. Both end soon.
        if threads.iter().any(|thread| thread.thread().id() == thread::current().id()) {
            return;
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
