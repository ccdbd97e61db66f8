//! Where transactions live: slots that are reused, three hash indexes and the timer queues threaded through the slots.
//!
//! In: transactions and what they hash to. Out: slot numbers, in O(1) and without an allocation per transaction; the slot
//! whose deadline comes first. All memory is bounded by the number of slots. Elsewhere: what a transaction does.

use super::client::Client;
use super::server::Server;
use super::timers::{Alarm, Deadline, SPANS};
use std::time::Instant;

/// Slots come in blocks, so that growing never copies the old ones.
const BLOCK: usize = 1024;
/// "No slot": slot 0 is never used.
const NONE: u32 = 0;
/// At most this many slots share one table, so that slot and alarm fit one number.
const SLOTS_MAX: usize = (u32::MAX >> 2) as usize;

/// An index over the slots.
#[derive(Clone, Copy, Debug)]
pub(super) enum Index {
    /// Server transactions by request identity, INVITE client transactions by their user's key.
    Identity = 0,
    /// Server transactions by From tag, Call-ID, CSeq.
    Call = 1,
    /// Transactions that a broken flow concerns.
    Flow = 2,
}

const INDEXES: usize = 3;

/// What a slot holds.
pub(super) enum Entry {
    Client(Client),
    Server(Server),
}

impl Entry {
    fn deadlines(&self) -> [Option<Deadline>; 2] {
        match self {
            Entry::Client(client) => client.deadlines(),
            Entry::Server(server) => server.deadlines(),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Entry::Client(client) => client.is_over(),
            Entry::Server(server) => server.is_over(),
        }
    }
}

#[derive(Default)]
struct Slot {
    generation: u32,
    entry: Option<Entry>,
    links: [Link; INDEXES],
    alarms: [AlarmNode; 2],
}

/// Neighbours in one bucket of an index.
#[derive(Clone, Copy, Default)]
struct Link {
    /// The bucket plus one; 0 while the slot is not in this index.
    bucket: u32,
    prev: u32,
    next: u32,
}

/// Neighbours in the queue of one span. Numbers are slot * 2 + alarm.
#[derive(Clone, Copy, Default)]
struct AlarmNode {
    deadline: Option<Deadline>,
    prev: u32,
    next: u32,
}

/// Deadlines of one length: set in the order of time, so due in the order of the queue.
#[derive(Clone, Copy, Default)]
struct Queue {
    head: u32,
    tail: u32,
    /// Deadline of the head.
    due: Option<Instant>,
}

/// All transactions of one worker.
pub(super) struct Table {
    blocks: Vec<Box<[Slot]>>,
    free: Vec<u32>,
    open: usize,
    max: usize,
    buckets: [Box<[u32]>; INDEXES],
    queues: [Queue; SPANS],
}

impl Table {
    pub(super) fn new(max: usize) -> Table {
        let max = max.clamp(1, SLOTS_MAX);
        let buckets = (max / 2).next_power_of_two().clamp(16, 1 << 19);
        Table {
            blocks: Vec::new(),
            free: Vec::new(),
            open: 0,
            max,
            buckets: std::array::from_fn(|_| vec![NONE; buckets].into_boxed_slice()),
            queues: [Queue::default(); SPANS],
        }
    }

    /// Transactions in the table.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Transactions that still fit.
    pub(super) fn room(&self) -> usize {
        self.max - self.open
    }

    /// A slot for an entry that is made when the slot's number and generation are known; `None` if the table is full.
    pub(super) fn insert(&mut self, make: impl FnOnce(u32, u32) -> Entry) -> Option<u32> {
        if self.open >= self.max {
            return None;
        }
        if self.free.is_empty() {
            self.grow();
        }
        let slot = self.free.pop()?;
        let generation = self.slot(slot).generation;
        self.slot_mut(slot).entry = Some(make(slot, generation));
        self.open += 1;
        Some(slot)
    }

    fn grow(&mut self) {
        let first = self.blocks.len() * BLOCK;
        let count = BLOCK.min((self.max + 1).saturating_sub(first));
        self.blocks.push((0..count).map(|_| Slot::default()).collect());
        let slots = (first.max(1)..first + count).rev();
        self.free.extend(slots.filter_map(|slot| u32::try_from(slot).ok()));
    }

    /// Sets the queues to what the entry's state wants, or frees the slot when the entry is over. To be called after
    /// every step of an entry: leaving a state cancels its timers here.
    pub(super) fn settle(&mut self, slot: u32) {
        let Some(entry) = self.get(slot) else { return };
        if entry.is_over() {
            self.remove(slot);
            return;
        }
        let [resend, limit] = entry.deadlines();
        self.set_alarm(slot, Alarm::Resend, resend);
        self.set_alarm(slot, Alarm::Limit, limit);
    }

    fn remove(&mut self, slot: u32) {
        self.set_alarm(slot, Alarm::Resend, None);
        self.set_alarm(slot, Alarm::Limit, None);
        for index in [Index::Identity, Index::Call, Index::Flow] {
            self.unlink(index, slot);
        }
        let freed = self.slot_mut(slot);
        freed.entry = None;
        freed.generation = freed.generation.wrapping_add(1);
        self.free.push(slot);
        self.open -= 1;
    }

    /// All entries, in no order: for rare questions.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.blocks.iter().flatten().filter_map(|slot| slot.entry.as_ref())
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Entry> {
        self.blocks.get(slot as usize / BLOCK)?.get(slot as usize % BLOCK)?.entry.as_ref()
    }

    pub(super) fn client_mut(&mut self, slot: u32) -> Option<&mut Client> {
        match self.entry_mut(slot)? {
            Entry::Client(client) => Some(client),
            Entry::Server(_) => None,
        }
    }

    pub(super) fn server_mut(&mut self, slot: u32) -> Option<&mut Server> {
        match self.entry_mut(slot)? {
            Entry::Server(server) => Some(server),
            Entry::Client(_) => None,
        }
    }

    /// How often the slot was freed: part of the ids that the user sees.
    pub(super) fn generation(&self, slot: u32) -> Option<u32> {
        Some(self.blocks.get(slot as usize / BLOCK)?.get(slot as usize % BLOCK)?.generation)
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.blocks.get_mut(slot as usize / BLOCK)?.get_mut(slot as usize % BLOCK)?.entry.as_mut()
    }

    fn slot(&self, slot: u32) -> &Slot {
        &self.blocks[slot as usize / BLOCK][slot as usize % BLOCK]
    }

    fn slot_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.blocks[slot as usize / BLOCK][slot as usize % BLOCK]
    }

    // --- indexes ---

    /// Puts a slot into an index.
    pub(super) fn link(&mut self, index: Index, slot: u32, hash: u64) {
        self.unlink(index, slot);
        let bucket = self.bucket(index, hash);
        let next = std::mem::replace(&mut self.buckets[index as usize][bucket as usize], slot);
        self.slot_mut(slot).links[index as usize] = Link { bucket: bucket + 1, prev: NONE, next };
        if next != NONE {
            self.slot_mut(next).links[index as usize].prev = slot;
        }
    }

    /// Takes a slot out of an index, if it is in there.
    pub(super) fn unlink(&mut self, index: Index, slot: u32) {
        let link = std::mem::take(&mut self.slot_mut(slot).links[index as usize]);
        if link.bucket == 0 {
            return;
        }
        if link.prev == NONE {
            self.buckets[index as usize][link.bucket as usize - 1] = link.next;
        } else {
            self.slot_mut(link.prev).links[index as usize].next = link.next;
        }
        if link.next != NONE {
            self.slot_mut(link.next).links[index as usize].prev = link.prev;
        }
    }

    /// The slots in the bucket of `hash`: those with the hash, and now and then another one.
    pub(super) fn bucket_of(&self, index: Index, hash: u64) -> impl Iterator<Item = (u32, &Entry)> {
        let first = self.buckets[index as usize][self.bucket(index, hash) as usize];
        let slots = std::iter::successors((first != NONE).then_some(first), move |slot| {
            let next = self.slot(*slot).links[index as usize].next;
            (next != NONE).then_some(next)
        });
        slots.filter_map(|slot| Some((slot, self.get(slot)?)))
    }

    fn bucket(&self, index: Index, hash: u64) -> u32 {
        let mask = self.buckets[index as usize].len() as u64 - 1;
        #[expect(clippy::cast_possible_truncation, reason = "there are fewer than 2^20 buckets")]
        let bucket = (hash & mask) as u32;
        bucket
    }

    // --- timer queues ---

    /// The first deadline of all.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queues.iter().filter_map(|queue| queue.due).min()
    }

    /// The alarm that has been due the longest.
    pub(super) fn due(&self, now: Instant) -> Option<(u32, Alarm)> {
        let first = self.queues.iter().filter(|queue| queue.due.is_some()).min_by_key(|queue| queue.due)?;
        if first.due? > now {
            return None;
        }
        let alarm = if first.head & 1 == 0 { Alarm::Resend } else { Alarm::Limit };
        Some((first.head >> 1, alarm))
    }

    fn set_alarm(&mut self, slot: u32, alarm: Alarm, deadline: Option<Deadline>) {
        let id = slot << 1 | alarm as u32;
        let node = *self.alarm(id);
        if node.deadline == deadline {
            return;
        }
        if let Some(old) = node.deadline {
            self.leave_queue(node, old);
        }
        *self.alarm(id) = AlarmNode::default();
        if let Some(deadline) = deadline {
            self.join_queue(id, deadline);
        }
    }

    fn join_queue(&mut self, id: u32, deadline: Deadline) {
        let queue = &mut self.queues[deadline.span.index()];
        let prev = std::mem::replace(&mut queue.tail, id);
        if prev == NONE {
            queue.head = id;
            queue.due = Some(deadline.at);
        } else {
            self.alarm(prev).next = id;
        }
        *self.alarm(id) = AlarmNode { deadline: Some(deadline), prev, next: NONE };
    }

    fn leave_queue(&mut self, node: AlarmNode, deadline: Deadline) {
        let span = deadline.span.index();
        if node.next == NONE {
            self.queues[span].tail = node.prev;
        } else {
            self.alarm(node.next).prev = node.prev;
        }
        if node.prev == NONE {
            let due = (node.next != NONE).then(|| self.alarm(node.next).deadline).flatten();
            self.queues[span].head = node.next;
            self.queues[span].due = due.map(|deadline| deadline.at);
        } else {
            self.alarm(node.prev).next = node.next;
        }
    }

    fn alarm(&mut self, id: u32) -> &mut AlarmNode {
        &mut self.slot_mut(id >> 1).alarms[(id & 1) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_as_small_as_the_documentation_of_the_limit_says() {
        let sizes = [size_of::<Slot>(), size_of::<Entry>(), size_of::<Client>(), size_of::<Server>()];
        assert!(sizes[0] <= 384, "{sizes:?}");
    }
}
