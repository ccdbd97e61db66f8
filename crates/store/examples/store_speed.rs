//! What keeping a call record costs: CPU and time per record at a steady rate and saturated, everything included.
//!
//! `cargo run --release -p store --example store_speed [-- RATE SECONDS]`. The directory is made beside the current one, so that it
//! lies on a real disk. CPU is that of the whole process, the records' making included; kernel threads are not in it.

use model::{Cause, Cdr, CdrLeg, HungUpBy, Id, LegRole, MediaReport, OpenCall, Party};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use store::{Record, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let rate: u64 = args.next().map_or(Ok(1000), |text| text.parse())?;
    let seconds: u64 = args.next().map_or(Ok(10), |text| text.parse())?;
    let dir = tempfile::Builder::new().prefix("store-speed-").tempdir_in(".")?;
    let mut out = std::io::stdout();

    for (name, with_answers) in [("CDR alone", false), ("answer and CDR", true)] {
        let store = Store::open(&dir.path().join(name.replace(' ', "-")))?;
        let run = Run::new(&store, with_answers, 0);
        run.steady(rate, Duration::from_secs(seconds));
        run.report(&mut out, &format!("{name}, {rate}/s"))?;

        let run = Run::new(&store, with_answers, 1 << 32);
        run.saturated(rate * seconds * 10);
        run.report(&mut out, &format!("{name}, saturated"))?;
        writeln!(out, "  records in the store: {}", store.cdr_count()?)?;
        let opened = Instant::now();
        drop(store);
        let closed = opened.elapsed();
        let opened = Instant::now();
        drop(Store::open(&dir.path().join(name.replace(' ', "-")))?);
        writeln!(out, "  closed in {:.1} ms, opened in {:.1} ms", ms(closed), ms(opened.elapsed()))?;
    }
    Ok(())
}

struct Run<'a> {
    store: &'a Store,
    with_answers: bool,
    /// Number of the first call.
    first: u64,
    seen: Arc<Seen>,
    begun: Instant,
    cpu_begun: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Seen {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    waited_us: AtomicU64,
    worst_us: AtomicU64,
}

impl<'a> Run<'a> {
    fn new(store: &'a Store, with_answers: bool, first: u64) -> Self {
        Self {
            store,
            with_answers,
            first,
            seen: Arc::default(),
            begun: Instant::now(),
            cpu_begun: cpu_by_thread(),
        }
    }

    fn steady(&self, rate: u64, length: Duration) {
        let mut sent = 0;
        while self.begun.elapsed() < length {
            let due = rate * self.begun.elapsed().as_micros() as u64 / 1_000_000;
            while sent < due {
                self.append(self.first + sent);
                sent += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.wait(sent);
    }

    fn saturated(&self, count: u64) {
        for sent in 0..count {
            self.append(self.first + sent);
            // As many as a busy platform could have under way; the queue itself takes more.
            while sent - self.seen.acknowledged.load(Ordering::Relaxed).min(sent) > 20_000 {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        self.wait(count);
    }

    fn append(&self, number: u64) {
        let now_us = 1_800_000_000_000_000 + number as i64;
        let open = open_call(number, now_us);
        if self.with_answers {
            self.store.append(Record::CallBegan(open.clone()), |_| {});
        }
        let seen = Arc::clone(&self.seen);
        let sent = Instant::now();
        self.store.append(Record::CallEnded(Box::new(cdr(open, now_us))), move |outcome| {
            let waited_us = sent.elapsed().as_micros() as u64;
            let counter = if outcome.is_ok() { &seen.acknowledged } else { &seen.refused };
            counter.fetch_add(1, Ordering::Relaxed);
            seen.waited_us.fetch_add(waited_us, Ordering::Relaxed);
            seen.worst_us.fetch_max(waited_us, Ordering::Relaxed);
        });
    }

    /// Until all is acknowledged and in the tables, so that the figures miss nothing.
    fn wait(&self, sent: u64) {
        while self.seen.acknowledged.load(Ordering::Relaxed) + self.seen.refused.load(Ordering::Relaxed)
            < sent
        {
            std::thread::sleep(Duration::from_micros(500));
        }
        let _ = self.store.cdr_count();
    }

    fn report(&self, out: &mut impl Write, name: &str) -> std::io::Result<()> {
        let (wall, cpu) = (self.begun.elapsed(), cpu_by_thread());
        let count = self.seen.acknowledged.load(Ordering::Relaxed).max(1);
        let each = |name: &str| {
            let spent = cpu.get(name).unwrap_or(&0).saturating_sub(*self.cpu_begun.get(name).unwrap_or(&0));
            spent as f64 / 1e3 / count as f64
        };
        let (journal, apply) = (each("store-journal"), each("store-apply"));
        let makers: f64 = cpu
            .keys()
            .filter(|name| !name.starts_with("store-j") && !name.starts_with("store-a"))
            .map(|name| each(name))
            .sum();
        writeln!(
            out,
            "{name}: {count} in {:.2} s ({:.0}/s); CPU each: journal {journal:.1} + apply {apply:.1} us (+ {makers:.1} us of the generator)",
            wall.as_secs_f64(),
            count as f64 / wall.as_secs_f64(),
        )?;
        writeln!(
            out,
            "  acknowledged after {:.2} ms (worst {:.1} ms), refused {}",
            self.seen.waited_us.load(Ordering::Relaxed) as f64 / 1e3 / count as f64,
            self.seen.worst_us.load(Ordering::Relaxed) as f64 / 1e3,
            self.seen.refused.load(Ordering::Relaxed),
        )
    }
}

/// A call like most: two legs with media.
fn open_call(number: u64, now_us: i64) -> OpenCall {
    let leg = |role, endpoint: &str| CdrLeg {
        role,
        sip_call_id: format!("{number:032x}@192.0.2.17"),
        endpoint: endpoint.to_owned(),
        media: None,
    };
    OpenCall {
        call: format!("c{:x}", 0x0001_0000_0000_0000 + number),
        brand: Id::new(1),
        client: Id::new(1 + (number % 50) as u32),
        caller: Party { number: "101".into(), name: "Alice Allison".into(), user: Some(Id::new(1)) },
        callee: Party { number: "102".into(), name: "Bob Bobson".into(), user: Some(Id::new(2)) },
        dialed: "102".into(),
        started_us: now_us - 60_000_000,
        answered_us: Some(now_us - 55_000_000),
        legs: vec![
            leg(LegRole::Caller, "sip:alice@users.democlient.com"),
            leg(LegRole::Callee, "sip:bob@203.0.113.9:40122"),
        ],
        externals: Vec::new(),
        node: 1,
        relay: Some(1),
    }
}

fn cdr(open: OpenCall, now_us: i64) -> Cdr {
    let mut cdr = open.into_lost_cdr(now_us);
    cdr.hung_up_by = HungUpBy::Callee;
    cdr.cause = Cause { status: 200, text: "Normal call clearing".into() };
    for leg in &mut cdr.legs {
        leg.media = Some(MediaReport {
            packets_received: 2750,
            bytes_received: 473_000,
            packets_sent: 2749,
            bytes_sent: 472_828,
            lost: 1,
            jitter_us: 1250,
            reported_lost: Some(0),
            reported_jitter_us: Some(900),
            round_trip_us: Some(21_000),
            mos_hundredths: Some(438),
            dropped: 0,
        });
    }
    cdr
}

/// CPU time of this process by thread name (the scheduler's own account, in nanoseconds).
fn cpu_by_thread() -> BTreeMap<String, u64> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let nanos =
            read("schedstat").split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
        *threads.entry(read("comm").trim().to_owned()).or_default() += nanos;
    }
    threads
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
