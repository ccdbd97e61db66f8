//! The journal thread: whatever waits is written as one frame, synced once, and acknowledged in order.
//!
//! In: [`Queue::push`] from any thread. Out: the `durable` callbacks, and the synced entries to the [`Tail`]. A pause between two
//! syncs lets records gather, which costs each a little time and saves most of the disk's work; a lone record after a
//! quiet moment goes at once. The first failed write ends the journal: whoever waits is told, nothing is acknowledged after it.

use crate::apply::Tail;
use crate::disk::{Disk, SegmentFile, segment_name};
use crate::error::StoreError;
use crate::frame::{self, FRAME_RECORDS_MAX, FrameWriter, HEADER_LEN};
use crate::record::Entry;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Told when a record is on the disk, or why it is not. Runs on the journal thread: must be quick.
pub(crate) type Durable = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Records that wait for the disk are this long together at most.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Records on their way to the journal thread.
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    records_max: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Records and bytes that are not acknowledged: those waiting and those being written.
    records: usize,
    bytes: usize,
    /// The journal thread sleeps until something comes.
    idle: bool,
    closing: bool,
    /// Why no record is taken any more.
    ended: Option<StoreError>,
}

struct Waiting {
    entry: Entry,
    callback: Callback,
}

/// Tells the outcome exactly once, even when a mistake of ours throws it away.
struct Callback(Option<Durable>);

impl Callback {
    fn tell(mut self, outcome: Result<(), StoreError>) {
        self.run(outcome);
    }

    /// A callback that panics must not take the journal with it.
    fn run(&mut self, outcome: Result<(), StoreError>) {
        if let Some(durable) = self.0.take()
            && catch_unwind(AssertUnwindSafe(|| durable(outcome))).is_err()
        {
            tracing::error!("a callback of the journal panicked");
        }
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        self.run(Err(StoreError::Closed));
    }
}

impl Queue {
    pub(crate) fn new(records_max: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), records_max }
    }

    /// Queues an entry; `durable` runs once, here and now when the entry is refused.
    pub(crate) fn push(&self, entry: Entry, durable: Durable) {
        let mut state = self.state.lock();
        let refusal = match &state.ended {
            Some(reason) => Some(reason.clone()),
            None if state.closing => Some(StoreError::Closed),
            None if state.records >= self.records_max || state.bytes >= QUEUE_BYTES_MAX => {
                Some(StoreError::Overloaded)
            }
            None => None,
        };
        if let Some(reason) = refusal {
            drop(state);
            durable(Err(reason));
            return;
        }
        state.records += 1;
        state.bytes += entry.payload.len();
        state.waiting.push_back(Waiting { entry, callback: Callback(Some(durable)) });
        if state.idle {
            self.changed.notify_one();
        }
    }

    /// Takes no more; the journal thread writes what waits, then ends.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_one();
    }

    /// What shall be the next frame; waits for something, then for `not_before`. `None` when closed and empty.
    fn next_batch(&self, not_before: Option<Instant>) -> Option<Vec<Waiting>> {
        let mut state = self.state.lock();
        while state.waiting.is_empty() {
            if state.closing {
                return None;
            }
            state.idle = true;
            self.changed.wait(&mut state);
            state.idle = false;
        }
        if let Some(not_before) = not_before {
            while !state.closing && !self.changed.wait_until(&mut state, not_before).timed_out() {}
        }
        let mut bytes = 0;
        let fits = |waiting: &&Waiting| {
            bytes += waiting.entry.payload.len();
            bytes <= FRAME_RECORDS_MAX
        };
        let count = state.waiting.iter().take_while(fits).count().max(1);
        Some(state.waiting.drain(..count).collect())
    }

    fn done(&self, batch: &[Waiting]) {
        let mut state = self.state.lock();
        state.records -= batch.len();
        state.bytes -= batch.iter().map(|waiting| waiting.entry.payload.len()).sum::<usize>();
    }

    /// No record is taken any more, and those that wait are refused.
    fn end(&self, reason: &StoreError) {
        let refused = {
            let mut state = self.state.lock();
            state.ended.get_or_insert_with(|| reason.clone());
            std::mem::take(&mut state.waiting)
        };
        for waiting in refused {
            waiting.callback.tell(Err(reason.clone()));
        }
    }
}

/// What the journal thread owns.
pub(crate) struct Journal {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) sync_gap: Duration,
    /// A longer segment is followed by a new one.
    pub(crate) segment_bytes: usize,
    pub(crate) segment: OpenSegment,
    /// Ordinal of the next record.
    pub(crate) next: u64,
}

/// The segment that is being written.
pub(crate) struct OpenSegment {
    file: Box<dyn SegmentFile>,
    number: u64,
    bytes: usize,
}

impl OpenSegment {
    /// A segment is numbered by its first record, so that no number is used again for other records.
    pub(crate) fn create(disk: &dyn Disk, first: u64) -> Result<Self, StoreError> {
        let action = format!("make {} in {}", segment_name(first), disk.dir().display());
        let file = disk.create_segment(first, &frame::header(first)).map_err(StoreError::io(action))?;
        Ok(Self { file, number: first, bytes: HEADER_LEN })
    }

    fn append(&mut self, disk: &dyn Disk, bytes: &[u8]) -> Result<(), StoreError> {
        self.bytes += bytes.len();
        self.file.append(bytes).map_err(|error| {
            let action = format!("write {} in {}", segment_name(self.number), disk.dir().display());
            StoreError::io(action)(error)
        })
    }
}

impl Journal {
    /// The thread's work, until the queue is closed or a write fails.
    pub(crate) fn run(self) {
        let ending = Ending { queue: Arc::clone(&self.queue), tail: Arc::clone(&self.tail) };
        let mut journal = self;
        let reason = match journal.write_all() {
            Ok(()) => StoreError::Closed,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the journal takes no more records"
                );
                error
            }
        };
        ending.queue.end(&reason);
        ending.tail.segment_is_full(journal.segment.number, journal.next);
    }

    fn write_all(&mut self) -> Result<(), StoreError> {
        let mut writer = FrameWriter::default();
        let mut not_before = None;
        while let Some(batch) = self.queue.next_batch(not_before) {
            // The tables must not fall behind without limit. When they failed, nothing can be acknowledged.
            let written = self.tail.wait_for_room().and_then(|()| {
                writer.start(self.next);
                batch.iter().for_each(|waiting| writer.push(&waiting.entry.payload));
                self.segment.append(&*self.disk, writer.finish())
            });
            not_before = Some(Instant::now() + self.sync_gap);
            self.queue.done(&batch);
            if let Err(error) = written {
                for waiting in batch {
                    waiting.callback.tell(Err(error.clone()));
                }
                return Err(error);
            }
            self.next += batch.len() as u64;
            self.acknowledge(batch);
            if self.segment.bytes >= self.segment_bytes {
                self.next_segment()?;
            }
        }
        Ok(())
    }

    /// The tail knows a record before its sender does: whoever was told finds it in every query.
    fn acknowledge(&self, batch: Vec<Waiting>) {
        let (entries, callbacks): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.entry, waiting.callback)).unzip();
        self.tail.push(entries, self.next);
        for callback in callbacks {
            callback.tell(Ok(()));
        }
    }

    fn next_segment(&mut self) -> Result<(), StoreError> {
        let next = OpenSegment::create(&*self.disk, self.next)?;
        let full = std::mem::replace(&mut self.segment, next);
        self.tail.segment_is_full(full.number, self.next);
        Ok(())
    }
}

/// However the thread ends, nobody is left waiting.
struct Ending {
    queue: Arc<Queue>,
    tail: Arc<Tail>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.queue.end(&StoreError::Closed);
        self.tail.close();
    }
}
