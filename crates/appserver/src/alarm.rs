//! Deadlines of calls: one task with one heap instead of a timer task for each call.
//!
//! In: a call's name and an instant. Out: a ring of its bell at that time. A call that set several is rung for each; it
//! looks itself at what is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Sets alarms for keys of type `K`.
#[derive(Debug)]
pub(crate) struct Alarms<K> {
    orders: mpsc::UnboundedSender<(Instant, K)>,
}

impl<K: Ord + Copy + Send + 'static> Alarms<K> {
    /// Starts the task; `ring` is called on it. It ends when this handle is dropped.
    pub(crate) fn start(ring: impl Fn(K) + Send + 'static) -> Self {
        let (orders, inbox) = mpsc::unbounded_channel();
        tokio::spawn(run(inbox, ring));
        Self { orders }
    }

    /// Rings `key` at `at`. Each call has few alarms at a time, so the queue is bounded by the calls' number.
    pub(crate) fn set(&self, at: std::time::Instant, key: K) {
        let _ = self.orders.send((Instant::from_std(at), key)); // fails only while the runtime shuts down
    }
}

async fn run<K: Ord + Copy>(mut inbox: mpsc::UnboundedReceiver<(Instant, K)>, ring: impl Fn(K)) {
    let mut heap = BinaryHeap::new();
    loop {
        let next = heap.peek().map(|Reverse((at, _))| *at);
        let order = match next {
            Some(at) => tokio::time::timeout_at(at, inbox.recv()).await,
            None => Ok(inbox.recv().await),
        };
        match order {
            Ok(Some(order)) => heap.push(Reverse(order)),
            Ok(None) => return,
            Err(_) => {
                let now = Instant::now();
                while let Some(Reverse((at, key))) = heap.peek().copied() {
                    if at > now {
                        break;
                    }
                    heap.pop();
                    ring(key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn alarms_ring_in_order_and_at_their_time() {
        let (heard, mut rings) = mpsc::unbounded_channel();
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
