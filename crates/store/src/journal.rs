//! The journal thread: whatever waits is written as one frame, synced once, and acknowledged in order.
//!
//! In: [`Queue::push`] from any thread. Out: the `durable` callbacks, and the synced entries to the [`Tail`]. A pause between two
//! syncs lets records gather, which costs each a little time and saves most of the disk's work; a lone record after a
//! quiet moment goes at once. After a failed write or sync the records of that group are refused, and no more is written to
//! that segment: it is cut back to what was acknowledged, and a new one is begun as soon as the disk takes it.

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
    /// The disk takes no records for now.
    trouble: bool,
    /// Somebody wants to know whether the disk works again, and sends no record.
    wake: bool,
    /// Records and bytes that are not acknowledged: those waiting and those being written.
    records: usize,
    bytes: usize,
    /// The journal thread sleeps until something comes.
    idle: bool,
    closing: bool,
    /// The thread is gone.
    ended: bool,
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
        let refusal = if state.ended || state.closing {
            Some(StoreError::Closed)
        } else if state.records >= self.records_max || state.bytes >= QUEUE_BYTES_MAX {
            Some(StoreError::Overloaded)
        } else {
            None
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

    /// Records and bytes that are not acknowledged, and whether the disk takes records. While it does not, asking makes the journal
    /// try again when it is time to, as a record would.
    pub(crate) fn load(&self) -> (usize, usize, bool) {
        let mut state = self.state.lock();
        if state.trouble && !state.wake {
            state.wake = true;
            self.changed.notify_one();
        }
        let takes = !(state.trouble || state.closing || state.ended);
        (state.records, state.bytes, takes)
    }

    fn note_trouble(&self, trouble: bool) {
        self.state.lock().trouble = trouble;
    }

    /// Takes no more; the journal thread writes what waits, then ends.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_one();
    }

    /// What shall be the next frame; waits for something, then for `not_before`. `None` when closed and empty. Empty: nothing is to
    /// be written, but the disk may work again.
    fn next_batch(&self, not_before: Option<Instant>) -> Option<Vec<Waiting>> {
        let mut state = self.state.lock();
        while state.waiting.is_empty() {
            if state.closing {
                return None;
            }
            if std::mem::take(&mut state.wake) {
                return Some(Vec::new());
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
    fn end(&self) {
        let refused = {
            let mut state = self.state.lock();
            state.ended = true;
            std::mem::take(&mut state.waiting)
        };
        for waiting in refused {
            waiting.callback.tell(Err(StoreError::Closed));
        }
    }
}

/// After a failure the disk is tried again this soon, then after twice the time, and so on. Senders wait for nothing
/// meanwhile: they are refused.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(1);

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
    /// The segment takes no more, and another could not be made yet.
    pub(crate) trouble: Option<Trouble>,
}

/// Why records are refused for now.
pub(crate) struct Trouble {
    error: StoreError,
    retry_at: Instant,
    /// How long to wait after the next failure.
    delay: Duration,
}

/// The segment that is being written.
pub(crate) struct OpenSegment {
    file: Box<dyn SegmentFile>,
    number: u64,
    /// The length of what was acknowledged.
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
        self.file.append(bytes).map_err(|error| self.explain("write", disk, error))?;
        self.bytes += bytes.len();
        Ok(())
    }

    /// Takes away what a failed write may have left. The frames before it were synced, and are not touched.
    fn cut(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        self.file.truncate(self.bytes).map_err(|error| self.explain("cut", disk, error))
    }

    fn explain(&self, action: &str, disk: &dyn Disk, error: std::io::Error) -> StoreError {
        StoreError::io(format!("{action} {} in {}", segment_name(self.number), disk.dir().display()))(error)
    }
}

impl Journal {
    /// The thread's work, until the queue is closed.
    pub(crate) fn run(self) {
        let ending = Ending { queue: Arc::clone(&self.queue), tail: Arc::clone(&self.tail) };
        let mut journal = self;
        journal.write_all();
        ending.queue.end();
        ending.tail.segment_is_full(journal.segment.number, journal.next);
    }

    fn write_all(&mut self) {
        let mut writer = FrameWriter::default();
        let mut not_before = None;
        while let Some(batch) = self.queue.next_batch(not_before) {
            if batch.is_empty() {
                let _ = self.mend(); // who asked looks again
                continue;
            }
            let written = self.write(&batch, &mut writer);
            not_before = Some(Instant::now() + self.sync_gap);
            self.queue.done(&batch);
            if let Err(error) = written {
                for waiting in batch {
                    waiting.callback.tell(Err(error.clone()));
                }
                continue;
            }
            self.next += batch.len() as u64;
            self.acknowledge(batch);
            if self.segment.bytes >= self.segment_bytes
                && let Err(error) = self.next_segment()
            {
                self.failed(error);
            }
        }
    }

    /// Puts a group on the disk as one frame, or leaves nothing of it there as far as the disk obeys.
    fn write(&mut self, batch: &[Waiting], writer: &mut FrameWriter) -> Result<(), StoreError> {
        self.tail.wait_for_room()?; // the tables must not fall behind without limit
        self.mend()?;
        writer.start(self.next);
        batch.iter().for_each(|waiting| writer.push(&waiting.entry.payload));
        let written = self.segment.append(&*self.disk, writer.finish());
        if let Err(error) = &written {
            // Before anyone is told, so that a refused record is not there after a restart. Should this fail too, it is
            // tried again, and only then a new segment uses the ordinals of this group for other records.
            if let Err(error) = self.segment.cut(&*self.disk) {
                tracing::debug!(%error, "what was refused may be there until the disk works again");
            }
            self.failed(error.clone());
        }
        written
    }

    /// Begins a new segment after a failure, when it is time to try again. A segment whose sync failed is never trusted
    /// again: the system may have forgotten its bytes and call the next sync a success.
    fn mend(&mut self) -> Result<(), StoreError> {
        let Some(trouble) = &self.trouble else { return Ok(()) };
        if Instant::now() < trouble.retry_at {
            return Err(trouble.error.clone());
        }
        match self.segment.cut(&*self.disk).and_then(|()| self.next_segment()) {
            Ok(()) => {
                self.trouble = None;
                self.queue.note_trouble(false);
                tracing::warn!("the journal takes records again");
                Ok(())
            }
            Err(error) => {
                self.failed(error.clone());
                Err(error)
            }
        }
    }

    fn failed(&mut self, error: StoreError) {
        let delay = match &self.trouble {
            Some(trouble) => trouble.delay,
            None => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the journal takes no records until the disk works again"
                );
                RETRY_FIRST
            }
        };
        let retry_at = Instant::now() + delay;
        self.queue.note_trouble(true);
        self.trouble = Some(Trouble { error, retry_at, delay: (delay * 2).min(RETRY_MAX) });
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
        // One that never held a record had the same name, and was replaced.
        if full.number != self.next {
            self.tail.segment_is_full(full.number, self.next);
        }
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
        self.queue.end();
        self.tail.close();
    }
}
