//! Traces of calls: their names, which every node derives from the call's own, and the queue that ended spans leave by.
//!
//! In: ended spans, from any thread. Out: the same, to the exporter, or dropped and counted where it does not keep up: nobody waits.
//! Elsewhere: sending them (`otlp`), what the spans of a call are (crate `carillon`, room `watching`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// Spans that wait for the exporter.
const WAITING_MAX: usize = 8192;

/// Name of a trace. Nodes that serve one call agree about it without a word: it is a hash of the call's id that never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub(crate) [u8; 16]);

/// Name of a span within its trace; derived as well, so that another node can name it as the parent of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(pub(crate) [u8; 8]);

/// What a name is made for: other purposes give other names.
const HIGH: u64 = 0x6361_7269_6c6c_6f6e;
const LOW: u64 = 0x7472_6163_6520_6f66;
const ROOT: u64 = 0x726f_6f74_0000_0001;
const LEG: u64 = 0x6c65_6700_0000_0002;
const STEP: u64 = 0x7374_6570_0000_0003;
const SHARE: u64 = 0x7368_6172_6500_0004;

/// A bijection that spreads what is close (the finalizer of SplitMix64).
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A name is not all zeros.
fn name(value: u64, purpose: u64) -> [u8; 8] {
    mixed(mixed(value) ^ purpose).max(1).to_be_bytes()
}

impl TraceId {
    /// The trace of the call with this id, as a number.
    pub fn of_call(call: u64) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&name(call, HIGH));
        id[8..].copy_from_slice(&name(call, LOW));
        Self(id)
    }
}

impl SpanId {
    /// The root span of this call's trace.
    pub fn of_call(call: u64) -> Self {
        Self(name(call, ROOT))
    }

    /// The span of a leg with this id, as a number.
    pub fn of_leg(leg: u64) -> Self {
        Self(name(leg, LEG))
    }

    /// The `number`-th step below this span; numbers are the caller's choice, each once.
    pub fn step(self, number: u64) -> Self {
        Self(name(u64::from_be_bytes(self.0) ^ mixed(number), STEP))
    }
}

/// What a span says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// A word.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u32> for Attribute {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for Attribute {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace that it is in.
    pub trace: TraceId,
    /// Its name.
    pub id: SpanId,
    /// What it is a part of; none: it is the root.
    pub parent: Option<SpanId>,
    /// What happened.
    pub name: &'static str,
    /// When it began, in Unix nanoseconds.
    pub start_ns: u64,
    /// When it ended, in Unix nanoseconds.
    pub end_ns: u64,
    /// What else is known.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// It ended as it should not have.
    pub failed: bool,
}

/// Now, in Unix nanoseconds.
pub fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What the exporter gets.
pub(crate) enum Item {
    Span(Span),
    /// Let go of this when all before it are sent, or given up.
    Flush(oneshot::Sender<()>),
}

/// What became of spans.
#[derive(Debug, Default)]
pub(crate) struct Fates {
    pub(crate) exported: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

/// Where spans go.
#[derive(Debug)]
pub struct Tracer {
    queue: mpsc::Sender<Item>,
    fates: Arc<Fates>,
    /// Calls whose hash is below this are traced; `None`: all.
    below: Option<u64>,
}

impl Tracer {
    /// Traces so many millionths of all calls; out: who takes the spans, too.
    pub(crate) fn new(share_ppm: u32) -> (Self, mpsc::Receiver<Item>, Arc<Fates>) {
        let (queue, spans) = mpsc::channel(WAITING_MAX);
        let fates = Arc::new(Fates::default());
        let below = (share_ppm < 1_000_000).then(|| u64::from(share_ppm) * (u64::MAX / 1_000_000));
        (Self { queue, fates: Arc::clone(&fates), below }, spans, fates)
    }

    /// Whether this call is traced: on all nodes that have the same share, the same calls are.
    pub fn samples(&self, call: u64) -> bool {
        self.below.is_none_or(|below| mixed(mixed(call) ^ SHARE) < below)
    }

    /// Sends a span on its way.
    pub fn end(&self, span: Span) {
        if self.queue.try_send(Item::Span(span)).is_err() {
            self.fates.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Spans that a collector took.
    pub fn exported(&self) -> u64 {
        self.fates.exported.load(Ordering::Relaxed)
    }

    /// Spans that were thrown away: too many at once, or no collector there.
    pub fn dropped(&self) -> u64 {
        self.fates.dropped.load(Ordering::Relaxed)
    }

    /// Returns when all spans so far are sent or given up, or after this time.
    pub async fn flush(&self, patience: Duration) {
        let (teller, told) = oneshot::channel();
        let flushed = async {
            if self.queue.send(Item::Flush(teller)).await.is_ok() {
                let _ = told.await; // the exporter only lets go of its end
            }
        };
        let _ = tokio::time::timeout(patience, flushed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_on_every_node_and_in_every_release() {
        let call = 0x0001_0003_5d2a_9c10;
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&TraceId::of_call(call).0), "a50a7d9ec12b1ca9ae59cb5d9933208e");
        assert_eq!(hex(&SpanId::of_call(call).0), "8e510eb20396d763");
        assert_eq!(hex(&SpanId::of_leg(call).0), "14c064d03c751047");
        assert_eq!(hex(&SpanId::of_call(call).step(2).0), "19e9f329275f91a9");
    }

    #[test]
    fn names_of_neighbours_differ() {
        let mut names: Vec<[u8; 8]> = Vec::new();
        for number in 0..200 {
            let (root, leg) = (SpanId::of_call(number), SpanId::of_leg(number));
            names.extend([root.0, leg.0]);
            names.extend((0..5).map(|step| root.step(step).0));
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_share_of_calls_is_traced_and_always_the_same() {
        let traced = |ppm: u32| (0..10_000).filter(|call| Tracer::new(ppm).0.samples(*call)).count();
        assert_eq!((traced(0), traced(1_000_000)), (0, 10_000));
        assert!((2800..3200).contains(&traced(300_000)), "{}", traced(300_000));
        let few = Tracer::new(100_000).0;
        let many = Tracer::new(500_000).0;
        assert!(
            (0..1000).all(|call| !few.samples(call) || many.samples(call)),
            "a larger share has them, too"
        );
    }

    #[test]
    fn spans_that_nobody_takes_are_dropped_and_counted() {
        let (tracer, mut spans, _) = Tracer::new(1_000_000);
        let span = Span {
            trace: TraceId::of_call(1),
            id: SpanId::of_call(1),
            parent: None,
            name: "call",
            start_ns: 1,
            end_ns: 2,
            attributes: Vec::new(),
            failed: false,
        };
        (0..WAITING_MAX + 3).for_each(|_| tracer.end(span.clone()));
        assert_eq!(tracer.dropped(), 3);
        assert!(matches!(spans.try_recv(), Ok(Item::Span(first)) if first == span));
        tracer.end(span);
        assert_eq!(tracer.dropped(), 3);
    }
}
