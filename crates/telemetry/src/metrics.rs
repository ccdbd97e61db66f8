//! Metrics of one moment: families of samples that whoever counts puts on a page, and histograms that cost an addition or two.
//!
//! In: closures that read plain counters ([`Registry::add`]). Out: a [`Page`]. Elsewhere: its forms (`text`, `otlp`).

use parking_lot::Mutex;
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Samples of one family; what is more is left out. Labels never name calls, tenants or addresses, so that this is never reached.
const SAMPLES_MAX: usize = 256;
/// Characters of a label's value.
const LABEL_MAX: usize = 120;

/// What a family's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from the start of the process on.
    Counter,
    /// As it is now.
    Gauge,
    /// How often something took how long.
    Histogram,
}

/// Numbers of one name.
#[derive(Clone, Debug)]
pub struct Family {
    /// The name by Prometheus' conventions: unit at the end, counters end in `_total`.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// What its numbers are.
    pub kind: Kind,
    /// They.
    pub samples: Vec<Sample>,
}

/// One number.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Names and values.
    pub labels: Vec<(&'static str, Cow<'static, str>)>,
    /// It.
    pub value: Value,
}

/// A number, or many.
#[derive(Clone, Debug)]
pub enum Value {
    /// Of a counter or gauge.
    Number(f64),
    /// Of a histogram.
    Buckets(Buckets),
}

/// A copy of a [`Histogram`].
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// Upper bounds in seconds, growing.
    pub bounds: &'static [f64],
    /// What fell at or below each bound and above the one before, then what is above all.
    pub counts: Vec<u64>,
    /// All values together, in seconds.
    pub sum: f64,
}

/// The metrics of one moment.
#[derive(Clone, Debug, Default)]
pub struct Page {
    families: Vec<Family>,
}

/// Labels of a sample.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

impl Page {
    /// A number that only grows.
    pub fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.counter_of(name, help, &[], value);
    }

    /// One of several that only grow.
    pub fn counter_of(&mut self, name: &'static str, help: &'static str, labels: Labels<'_>, value: u64) {
        self.put(name, help, Kind::Counter, labels, Value::Number(value as f64));
    }

    /// Seconds, or another number with a fraction, that only grows.
    pub fn counter_f64(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.put(name, help, Kind::Counter, &[], Value::Number(value));
    }

    /// A number as it is now.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.gauge_of(name, help, &[], value);
    }

    /// How many there are now.
    pub fn count(&mut self, name: &'static str, help: &'static str, value: usize) {
        self.gauge(name, help, value as f64);
    }

    /// Whether something is so now: 1 or 0.
    pub fn flag(&mut self, name: &'static str, help: &'static str, value: bool) {
        self.gauge(name, help, f64::from(u8::from(value)));
    }

    /// One of several numbers as they are now.
    pub fn gauge_of(&mut self, name: &'static str, help: &'static str, labels: Labels<'_>, value: f64) {
        self.put(name, help, Kind::Gauge, labels, Value::Number(value));
    }

    /// How often something took how long.
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        histogram: &Histogram,
    ) {
        self.put(name, help, Kind::Histogram, labels, Value::Buckets(histogram.buckets()));
    }

    /// What is on it, in the order in which names came.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    fn put(&mut self, name: &'static str, help: &'static str, kind: Kind, labels: Labels<'_>, value: Value) {
        let at = self.families.iter().position(|family| family.name == name).unwrap_or_else(|| {
            self.families.push(Family { name, help, kind, samples: Vec::new() });
            self.families.len() - 1
        });
        let family = &mut self.families[at];
        let cut = |text: &str| Cow::Owned(text.chars().take(LABEL_MAX).collect());
        let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, cut(value))).collect();
        // The same sample twice would make the whole page unreadable; who says it first is right.
        let is_new = family.kind == kind && family.samples.iter().all(|sample| sample.labels != labels);
        if is_new && family.samples.len() < SAMPLES_MAX {
            family.samples.push(Sample { labels, value });
        }
    }
}

type Source = Box<dyn Fn(&mut Page) + Send + Sync>;

/// Who has numbers to tell.
#[derive(Default)]
pub struct Registry {
    sources: Mutex<Vec<Source>>,
}

impl Registry {
    /// Asks this each time that somebody wants to know. It reads counters and neither waits nor fails.
    pub fn add(&self, source: impl Fn(&mut Page) + Send + Sync + 'static) {
        self.sources.lock().push(Box::new(source));
    }

    /// Asks nobody any more.
    pub fn clear(&self) {
        self.sources.lock().clear();
    }

    /// The metrics now.
    pub fn page(&self) -> Page {
        let mut page = Page::default();
        self.sources.lock().iter().for_each(|source| source(&mut page));
        page
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("sources", &self.sources.lock().len()).finish()
    }
}

/// Counts of durations by fixed bounds. Any thread may add.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    sum_us: AtomicU64,
}

impl Histogram {
    /// An empty one with these upper bounds in seconds, which grow.
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum_us: AtomicU64::new(0) }
    }

    /// Something took so long.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What was counted.
    pub fn buckets(&self) -> Buckets {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let sum = Duration::from_micros(self.sum_us.load(Ordering::Relaxed)).as_secs_f64();
        Buckets { bounds: self.bounds, counts, sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        let histogram = Histogram::new(&[0.001, 0.1]);
        for ms in [0, 1, 2, 100, 101, 60_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        assert_eq!(
            histogram.buckets(),
            Buckets { bounds: &[0.001, 0.1], counts: vec![2, 2, 2], sum: 60.204 }
        );
    }

    #[test]
    fn a_sample_is_told_once_and_a_family_has_a_bound() {
        let registry = Registry::default();
        registry.add(|page| page.count("a", "A.", 1));
        registry.add(|page| {
            page.count("a", "A.", 2);
            (0..2 * SAMPLES_MAX)
                .for_each(|number| page.counter_of("b_total", "B.", &[("n", &number.to_string())], 3));
            page.gauge_of("c", "C.", &[("long", &"é".repeat(1000))], 4.0);
        });
        let page = registry.page();
        let counts: Vec<_> =
            page.families().iter().map(|family| (family.name, family.samples.len())).collect();
        assert_eq!(counts, [("a", 1), ("b_total", SAMPLES_MAX), ("c", 1)]);
        assert!(matches!(page.families()[0].samples[0].value, Value::Number(1.0)));
        assert_eq!(page.families()[2].samples[0].labels[0].1.chars().count(), LABEL_MAX);
    }
}
