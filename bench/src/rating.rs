//! What it costs to price a call where a brand has a million prefixes, and to keep the index of them in step.
//!
//! In: nothing; the rates come from a file that is made up. Out: seconds, megabytes, nanoseconds. Elsewhere: the decisions (crate
//! `rating`), the budget (with routing: 10 us).

use crate::suite::Suite;
use crate::table::Figure;
use jiff::Timestamp;
use jiff::civil::Time;
use model::Id;
use model::define::Entity;
use model::entities::{
    Brand, Carrier, Company, CompanyBillingMethod, Currency, Destination, DestinationRate,
    DestinationRateGroup, RatingPlan, RatingPlanGroup, RatingPlanTimingType, RatingProfile, Timezone,
};
use model::rows::Rows;
use rating::import::{Options, Reader};
use rating::{Call, Charge, LCR_CALL, Tariffs};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Prefixes of the brand.
const PREFIXES: usize = 1_000_000;
/// Carriers that LCR compares, each with a list of its own of some of the prefixes.
const CARRIERS: u32 = 5;
const OF_A_CARRIER: usize = 200_000;
/// Numbers that are called, by turns.
const NUMBERS: usize = 1 << 17;
/// Decisions between two looks at the clock.
const BLOCK: usize = 1000;

/// Measures; the table.
pub(crate) fn run(suite: &Suite) -> io::Result<String> {
    let mut random = Random(7);
    let prefixes = prefixes(&mut random);
    let mut world = World::new();
    let mut text = format!("| {PREFIXES} prefixes | |\n|---|---|\n");
    let mut row = |what: &str, figure: String| {
        eprintln!("  {what}: {figure}");
        let _ = writeln!(text, "| {what} | {figure} |");
    };

    let (list, file) = (world.list(), csv(&prefixes));
    let begin = Instant::now();
    let mut reader = Reader::new(&Options::default()).map_err(io::Error::other)?;
    file.as_bytes().chunks(64 * 1024).for_each(|piece| reader.feed(piece));
    let sheet = reader.finish().map_err(io::Error::other)?;
    row("a file of them read", seconds(begin.elapsed()));
    let begin = Instant::now();
    (world.rows, ..) = sheet.onto(&world.rows, list).map_err(io::Error::other)?;
    row("and put into the rows", seconds(begin.elapsed()));
    drop((sheet, file));
    world.client(list);
    for carrier in 1..=CARRIERS {
        world.carrier(carrier, &prefixes, &mut random)?;
    }

    let before = resident_kib()?;
    let begin = Instant::now();
    let tariffs = Tariffs::new(&world.rows);
    row("index made of the rows", seconds(begin.elapsed()));
    let rates = world.rows.count(DestinationRate::definition());
    row(
        &format!("memory of the index, {rates} rates in all"),
        format!("{} MB", resident_kib()?.saturating_sub(before) / 1024),
    );
    drop(changes(&tariffs, &world, list, &mut row));

    let numbers: Vec<String> = (0..NUMBERS)
        .map(|_| {
            let prefix = &prefixes[random.below(PREFIXES)];
            format!("{prefix}{:07}", random.below(10_000_000)).chars().take(16).collect()
        })
        .collect();
    let at = "2026-03-02T12:00:00Z".parse::<Timestamp>().map_err(io::Error::other)?;
    let call = |turn: usize| Call { number: &numbers[turn % NUMBERS], at, tag: None };
    let price = |turn: usize| matches!(tariffs.price(Id::new(1), &call(turn)), Ok(Charge::Priced(_)));
    let lcr = |turn: usize| {
        let cost = |carrier| match tariffs.cost(Id::new(carrier), &call(turn)) {
            Ok(Charge::Priced(basis)) => Some((basis.price(LCR_CALL).amount, carrier)),
            _ => None,
        };
        (1..=CARRIERS).filter_map(cost).min().is_some()
    };
    let each = Duration::from_millis(if suite.quick { 300 } else { 2000 });
    let both = format!("the same, and the cheapest of {CARRIERS} carriers by a call of five minutes");
    for (what, decide) in [
        ("price of a client's call", &price as &dyn Fn(usize) -> bool),
        (&both, &|turn| price(turn) & lcr(turn)),
    ] {
        let (mean, p99) = measure(suite.rounds, each, decide);
        row(what, format!("{mean:.0} ns, p99 {p99:.0} ns, {:.0} a second", 1e9 / mean));
    }
    Ok(text)
}

/// What the next state costs where one row changed.
fn changes(
    tariffs: &Tariffs,
    world: &World,
    list: Id<DestinationRateGroup>,
    row: &mut impl FnMut(&str, String),
) -> Vec<Tariffs> {
    let mut kept = Vec::new();
    let mut next = |what: &str, rows: &Rows| {
        let begin = Instant::now();
        kept.push(tariffs.next(rows));
        row(what, format!("{:.3} ms", begin.elapsed().as_secs_f64() * 1e3));
    };
    let mut rows = world.rows.clone();
    rows.insert(Arc::new(Company { brand: Id::new(1), id: Id::new(2), ..Company::default() }));
    next("next state: a client changed", &rows);
    let mut rows = world.rows.clone();
    let first = rows.each::<DestinationRate>().next().cloned();
    if let Some(rate) = first {
        rows.insert(Arc::new(DestinationRate { cost: 7.into(), ..rate }));
    }
    next("next state: the value of a rate changed", &rows);
    let destination = add(
        &mut rows,
        Destination { prefix: "+99999999".to_owned(), brand: Id::new(1), ..Destination::default() },
    );
    add(&mut rows, rate(list, destination, 1));
    next("next state: a destination came, with a rate", &rows);
    kept
}

/// Nanoseconds of a decision, and what 99 of 100 stay below: medians over rounds.
fn measure(rounds: usize, each: Duration, decide: &dyn Fn(usize) -> bool) -> (f64, f64) {
    let (mut mean, mut p99) = (Figure::default(), Figure::default());
    for _ in 0..rounds.max(1) {
        let (begin, mut turn) = (Instant::now(), 0);
        while begin.elapsed() < each {
            for _ in 0..BLOCK {
                black_box(decide(turn));
                turn += 1;
            }
        }
        mean.push(begin.elapsed().as_nanos() as f64 / turn as f64);
        // Looking at the clock is counted, too.
        let mut times: Vec<u64> = (0..NUMBERS)
            .map(|turn| {
                let begin = Instant::now();
                black_box(decide(turn));
                begin.elapsed().as_nanos() as u64
            })
            .collect();
        times.sort_unstable();
        p99.push(times[NUMBERS * 99 / 100] as f64);
    }
    (mean.median().unwrap_or(0.0), p99.median().unwrap_or(0.0))
}

/// Prefixes as they are found in the world: few short ones, many long ones, mostly below others.
fn prefixes(random: &mut Random) -> Vec<String> {
    let mut made: BTreeSet<String> = (1..10).map(|digit| format!("+{digit}")).collect();
    while made.len() < PREFIXES {
        let digits = 2 + random.below(4) + random.below(5);
        let number = 1 + random.below(9);
        let mut prefix = format!("+{number}");
        for _ in 1..digits {
            let _ = write!(prefix, "{}", random.below(10));
        }
        made.insert(prefix);
    }
    made.into_iter().collect()
}

fn csv(prefixes: &[String]) -> String {
    let mut text = "name,prefix,minute,connection,period\n".to_owned();
    for (place, prefix) in prefixes.iter().enumerate() {
        let _ = writeln!(text, "\"To {prefix}\",{prefix},0.{:04},0.01,1", place % 10_000);
    }
    text
}

fn rate(list: Id<DestinationRateGroup>, destination: Id<Destination>, cents: i64) -> DestinationRate {
    DestinationRate {
        cost: cents.into(),
        rate_increment: "1s".to_owned(),
        group_interval_start: "0s".to_owned(),
        destination_rate_group: list,
        destination,
        ..DestinationRate::default()
    }
}

/// A brand with a client and carriers, past all rules.
struct World {
    rows: Rows,
}

impl World {
    fn new() -> Self {
        let mut rows = Rows::default();
        let brand = Id::new(1);
        let billing_method = CompanyBillingMethod::Postpaid;
        add(&mut rows, Currency::default());
        add(&mut rows, Timezone { tz: "Europe/Madrid".to_owned(), ..Timezone::default() });
        let (default_timezone, currency) = (Id::new(1), Id::new(1));
        add(&mut rows, Brand { default_timezone, currency, ..Brand::default() });
        add(&mut rows, Company { brand, billing_method, ..Company::default() });
        Self { rows }
    }

    fn list(&mut self) -> Id<DestinationRateGroup> {
        add(&mut self.rows, DestinationRateGroup { brand: Id::new(1), ..DestinationRateGroup::default() })
    }

    /// The client's plan: two short lists of greater weight, one of which does not count at the time, and the long one.
    fn client(&mut self, list: Id<DestinationRateGroup>) {
        let plan = add(&mut self.rows, RatingPlanGroup { brand: Id::new(1), ..RatingPlanGroup::default() });
        let lists = [self.list(), self.list(), list];
        for (list, weight) in lists.into_iter().zip([30, 20, 10]) {
            let custom = weight == 30;
            let timing = if custom { RatingPlanTimingType::Custom } else { RatingPlanTimingType::Always };
            let part = RatingPlan {
                weight: weight.into(),
                timing_type: Some(timing),
                time_in: if custom { Time::constant(22, 0, 0, 0) } else { Time::midnight() },
                rating_plan_group: plan,
                destination_rate_group: list,
                ..RatingPlan::default()
            };
            add(&mut self.rows, part);
            if weight > 10 {
                for destination in (1..=100).map(Id::new) {
                    add(&mut self.rows, rate(list, destination, 1));
                }
            }
        }
        let company = Some(Id::new(1));
        add(&mut self.rows, RatingProfile { company, rating_plan_group: plan, ..RatingProfile::default() });
    }

    fn carrier(&mut self, number: u32, prefixes: &[String], random: &mut Random) -> io::Result<()> {
        let rows = &mut self.rows;
        let calculate_cost = Some(true);
        let id = add(rows, Carrier { brand: Id::new(1), calculate_cost, ..Carrier::default() });
        if id.get() != number {
            return Err(io::Error::other("carriers count from 1"));
        }
        let list = self.list();
        let rows = &mut self.rows;
        // The short ones, which everybody has, and some of all.
        let mut chosen: BTreeSet<usize> =
            (0..prefixes.len()).filter(|place| prefixes[*place].len() <= 4).collect();
        while chosen.len() < OF_A_CARRIER {
            chosen.insert(random.below(prefixes.len()));
        }
        for place in chosen {
            let destination = Id::new(u32::try_from(place + 1).map_err(io::Error::other)?);
            add(rows, rate(list, destination, i64::from(number)));
        }
        let plan = add(rows, RatingPlanGroup { brand: Id::new(1), ..RatingPlanGroup::default() });
        add(
            rows,
            RatingPlan { rating_plan_group: plan, destination_rate_group: list, ..RatingPlan::default() },
        );
        add(rows, RatingProfile { carrier: Some(id), rating_plan_group: plan, ..RatingProfile::default() });
        Ok(())
    }
}

fn add<E: Entity>(rows: &mut Rows, mut row: E) -> Id<E> {
    let id = rows.next_id(E::definition());
    row.set_id(id);
    rows.insert(Arc::new(row));
    Id::new(id)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Memory of this process.
fn resident_kib() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other("/proc/self/status has no VmRSS"))
}

/// Marsaglia's xorshift: the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % most
    }
}
