//! Deadlines of calls: one task with one heap instead of a timer task for each call.
//!
//! In: a call's name and an instant. Out: a ring of its bell at that time. A call that set several is rung for each; it
//! looks itself at what is due.

use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Sets alarms for keys of type `K`.
#[derive(Debug)]
pub(crate) struct Alarms<K> {
    shared: Arc<Shared<K>>,
}

#[derive(Debug)]
struct Shared<K> {
    heap: Mutex<BinaryHeap<Reverse<(Instant, K)>>>,
    /// The first alarm is another one, or there is nobody left to ring for.
    changed: Notify,
    ended: AtomicBool,
}

impl<K: Ord + Copy + Send + 'static> Alarms<K> {
    /// Starts the task; `ring` is called on it. It ends when this handle is dropped.
    pub(crate) fn start(ring: impl Fn(K) + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            heap: Mutex::new(BinaryHeap::new()),
            changed: Notify::new(),
            ended: AtomicBool::new(false),
        });
        tokio::spawn(run(Arc::clone(&shared), ring));
        Self { shared }
    }

    /// Rings `key` at `at`. Each call has few alarms at a time, so the heap is bounded by the calls' number.
    pub(crate) fn set(&self, at: std::time::Instant, key: K) {
        let order = Reverse((Instant::from_std(at), key));
        let is_first = {
            let mut heap = self.shared.heap.lock();
            let is_first = heap.peek().is_none_or(|first| *first < order);
            heap.push(order);
            is_first
        };
        if is_first {
            self.shared.changed.notify_one();
        }
    }
}

impl<K> Drop for Alarms<K> {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.changed.notify_one();
    }
}

async fn run<K: Ord + Copy>(shared: Arc<Shared<K>>, ring: impl Fn(K)) {
    let mut due = Vec::new();
    while !shared.ended.load(Ordering::Acquire) {
        let next = {
            let now = Instant::now();
            let mut heap = shared.heap.lock();
            while let Some(Reverse((_, key))) = heap.peek().copied().filter(|Reverse((at, _))| *at <= now) {
                heap.pop();
                due.push(key);
            }
            heap.peek().map(|Reverse((at, _))| *at)
        };
        due.drain(..).for_each(&ring);
        match next {
            Some(at) => drop(tokio::time::timeout_at(at, shared.changed.notified()).await),
            None => shared.changed.notified().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn alarms_ring_in_order_and_at_their_time() {
        let (heard, mut rings) = tokio::sync::mpsc::unbounded_channel();
        let start = Instant::now();
        let alarms = Alarms::start(move |key: u64| {
            let _ = heard.send((key, start.elapsed().as_secs()));
        });
        for (key, seconds) in [(1, 30), (2, 10), (3, 20)] {
            alarms.set((start + Duration::from_secs(seconds)).into_std(), key);
        }
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(rings.recv().await.unwrap());
        }
        assert_eq!(all, [(2, 10), (3, 20), (1, 30)]);
    }
}
