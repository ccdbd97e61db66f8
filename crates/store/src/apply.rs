//! The apply thread: moves what the journal holds into the tables, every few seconds or when much has gathered.
//!
//! In: synced entries from the journal thread. Out: one transaction for all of them with the journal position in it, then
//! deleted segments. A query may ask for it at once ([`Tail::wait_until_applied`]), so that it sees all that was acknowledged.

use crate::disk::{Disk, segment_name};
use crate::error::StoreError;
use crate::record::Entry;
use crate::tables::Tables;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The journal waits while this many bytes are not in the tables: bounds memory, and the time to open after a crash.
const TAIL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The sign of life is as young as this: so exact is the end of calls that a crash cuts off.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// A database that failed is tried again after so long, and at once when someone asks for what is in it.
const RETRY: Duration = Duration::from_secs(1);

/// What the journal holds and the tables do not.
pub(crate) struct Tail {
    state: Mutex<State>,
    /// Wakes the apply thread.
    wanted: Condvar,
    /// Wakes those who wait for it.
    applied: Condvar,
    /// So much is applied without waiting for its time.
    apply_bytes: usize,
}

struct State {
    entries: Vec<Entry>,
    /// Bytes of `entries` and of those being applied.
    bytes: usize,
    /// Ordinal after the last synced record.
    synced: u64,
    /// Ordinal after the last record in the tables.
    applied: u64,
    /// Segments that get no more records, and the ordinal after their last one.
    full_segments: VecDeque<(u64, u64)>,
    /// A query waits.
    urgent: bool,
    closed: bool,
    /// Why the tables are not up to date, until they are.
    failed: Option<StoreError>,
    /// How often they could not be brought up to date.
    failures: u64,
    /// Nothing will be applied any more.
    ended: bool,
}

impl Tail {
    /// An empty tail behind this many records.
    pub(crate) fn new(applied: u64, apply_bytes: usize) -> Self {
        let state = State {
            entries: Vec::new(),
            bytes: 0,
            synced: applied,
            applied,
            full_segments: VecDeque::new(),
            urgent: false,
            closed: false,
            failed: None,
            failures: 0,
            ended: false,
        };
        Self { state: Mutex::new(state), wanted: Condvar::new(), applied: Condvar::new(), apply_bytes }
    }

    /// Synced entries; `synced` is the ordinal after the last of them.
    pub(crate) fn push(&self, entries: Vec<Entry>, synced: u64) {
        let mut state = self.state.lock();
        state.bytes += bytes_of(&entries);
        state.entries.extend(entries);
        state.synced = synced;
        if state.bytes >= self.apply_bytes {
            self.wanted.notify_one();
        }
    }

    /// A segment gets no more records; `end` is the ordinal after its last one.
    pub(crate) fn segment_is_full(&self, number: u64, end: u64) {
        self.state.lock().full_segments.push_back((number, end));
    }

    /// Returns when the tail is short enough to take more; an error while the tables take nothing.
    pub(crate) fn wait_for_room(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        loop {
            let is_full = state.bytes >= TAIL_BYTES_MAX;
            match &state.failed {
                Some(error) if is_full || state.ended => return Err(error.clone()),
                None if is_full => self.applied.wait(&mut state),
                _ => return Ok(()),
            }
        }
    }

    /// Returns when all that is synced by now is in the tables, or could not be brought there.
    pub(crate) fn wait_until_applied(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        let goal = state.synced;
        let failures = state.failures;
        while state.applied < goal {
            if let Some(error) = &state.failed
                && (state.ended || state.failures > failures)
            {
                return Err(error.clone());
            }
            state.urgent = true;
            self.wanted.notify_one();
            self.applied.wait(&mut state);
        }
        Ok(())
    }

    /// Synced records that are not in the tables yet, and whether the tables could be brought up to date the last time.
    pub(crate) fn load(&self) -> (u64, bool) {
        let state = self.state.lock();
        (state.synced.saturating_sub(state.applied), state.failed.is_none() && !state.ended)
    }

    /// Nothing more will come: the apply thread applies the rest and ends.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.wanted.notify_one();
    }

    /// What could not be applied is kept for another time. Returns whether there will be one.
    fn failed(&self, mut entries: Vec<Entry>, error: StoreError) -> bool {
        let mut state = self.state.lock();
        if state.failed.is_none() {
            tracing::error!(error = &error as &dyn std::error::Error, "call records stay in the journal");
        }
        // Damage does not go away, and the journal must not be acknowledged for tables that will never take it.
        state.ended = state.closed || matches!(error, StoreError::Damaged { .. } | StoreError::Format { .. });
        entries.append(&mut state.entries);
        state.entries = entries;
        state.failed = Some(error);
        state.failures += 1;
        self.applied.notify_all();
        !state.ended
    }

    /// The thread is gone.
    fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        state.failed.get_or_insert(StoreError::Closed);
        self.applied.notify_all();
    }
}

/// What the apply thread owns.
pub(crate) struct Applier {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) apply_every: Duration,
}

/// When what is to be done next.
struct Due {
    mark: Instant,
    apply: Instant,
    /// After a failure: not earlier, unless someone waits.
    retry: Option<Instant>,
}

impl Applier {
    /// The thread's work, until the tail is closed and empty, or the database is damaged or fails at the end.
    pub(crate) fn run(self) {
        let _ending = Ending(Arc::clone(&self.tail));
        // Calls must not wait for the tables of calls that are over; the journal's bound keeps this from starving.
        if let Err(error) = netio::thread::yield_to_others() {
            tracing::debug!(%error, "the apply thread keeps its priority");
        }
        let now = Instant::now();
        let mut due = Due { mark: now + MARK_EVERY, apply: now + self.apply_every, retry: None };
        while let Some((entries, end)) = self.next_group(&mut due) {
            if !entries.is_empty()
                && let Err(error) = self.tables.apply(&entries, end)
            {
                if !self.tail.failed(entries, error) {
                    return;
                }
                due.retry = Some(Instant::now() + RETRY);
                continue;
            }
            due.retry = None;
            self.finish(&entries, end);
        }
    }

    /// What is to be applied now, and the ordinal after it. `None` when there will be no more.
    fn next_group(&self, due: &mut Due) -> Option<(Vec<Entry>, u64)> {
        let mut state = self.tail.state.lock();
        loop {
            let now = Instant::now();
            if now >= due.mark {
                due.mark = now + MARK_EVERY;
                MutexGuard::unlocked(&mut state, || self.mark_alive());
            }
            let tick = now >= due.apply;
            if tick {
                due.apply = now + self.apply_every;
            }
            let routine = match due.retry {
                Some(retry) => now >= retry,
                None => tick || state.bytes >= self.tail.apply_bytes,
            };
            let wanted = routine || state.urgent || state.closed;
            if wanted && (!state.entries.is_empty() || !state.full_segments.is_empty()) {
                state.urgent = false;
                return Some((std::mem::take(&mut state.entries), state.synced));
            }
            if state.closed {
                return None;
            }
            let next = due.retry.unwrap_or(due.apply);
            self.tail.wanted.wait_until(&mut state, due.mark.min(next));
        }
    }

    fn finish(&self, entries: &[Entry], end: u64) {
        let mut obsolete = Vec::new();
        {
            let mut state = self.tail.state.lock();
            state.bytes -= bytes_of(entries);
            state.applied = end;
            if state.failed.take().is_some() {
                tracing::warn!("the database takes records again");
            }
            while let Some(&(number, last)) = state.full_segments.front()
                && last <= end
            {
                obsolete.push(number);
                state.full_segments.pop_front();
            }
        }
        self.tail.applied.notify_all();
        for number in obsolete {
            if let Err(error) = self.disk.remove_segment(number) {
                // Harmless but for the space: the next round tries again, as does the next opening.
                tracing::warn!(%error, segment = segment_name(number), "cannot delete an old journal segment");
                let mut state = self.tail.state.lock();
                if !state.closed {
                    state.full_segments.push_front((number, end));
                }
            }
        }
    }

    /// When this node dies, its open calls are taken to have ended at the last mark.
    fn mark_alive(&self) {
        if let Err(error) = self.disk.mark_alive(now_us()) {
            tracing::warn!(%error, "cannot note the time; calls that a crash cuts off will get a wrong end");
        }
    }
}

/// Unix time in microseconds.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn bytes_of(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| entry.payload.len()).sum()
}

/// Should the thread end by a mistake of ours, nobody is left waiting.
struct Ending(Arc<Tail>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end();
        }
    }
}
