//! Runs any number of seeds: `simulate --seeds 1..1000`, or one with its ladder: `simulate --seed 7 --trace`.
//!
//! Out: what was wrong with which seed, and how to see it again; the status is 1 if anything was.

use cluster::{counters, custody};
use simulation::{Fault, Figures, Options, run};
use std::io::{Write as _, stdout};
use std::process::ExitCode;

const HELP: &str = "usage: simulate [--seeds FROM..TO] [--seed N] [--trace] [--fault ignores-epochs|forgets-what-happened|forgets-holds]";

fn main() -> ExitCode {
    match work(std::env::args().skip(1)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            let _ = writeln!(std::io::stderr(), "{text}\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn work(mut words: impl Iterator<Item = String>) -> Result<bool, String> {
    let (mut seeds, mut options) = (1..101, Options::default());
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--trace" => options.with_lines = true,
            "--seed" => {
                let seed = number(&value()?)?;
                seeds = seed..seed + 1;
            }
            "--seeds" => {
                let text = value()?;
                let (from, to) = text.split_once("..").ok_or("seeds are FROM..TO")?;
                seeds = number(from)?..number(to)?;
            }
            "--fault" => {
                options.fault = Some(match value()?.as_str() {
                    "ignores-epochs" => Fault::Custody(custody::Fault::IgnoresEpochs),
                    "forgets-what-happened" => Fault::Custody(custody::Fault::ForgetsWhatHappened),
                    "forgets-holds" => Fault::Counters(counters::Fault::ForgetsHolds),
                    other => return Err(format!("{other} is no fault")),
                });
            }
            other => return Err(format!("{other} is not understood")),
        }
    }
    let (mut figures, mut wrong) = (Figures::default(), 0);
    let count = seeds.end.saturating_sub(seeds.start);
    for seed in seeds {
        let outcome = run(seed, options);
        figures = figures.plus(outcome.figures);
        for line in &outcome.lines {
            let _ = writeln!(stdout(), "{line}");
        }
        if options.with_lines {
            let _ =
                writeln!(stdout(), "{:?}, {:?}, hash {:016x}", outcome.kind, outcome.figures, outcome.hash);
        }
        if !outcome.complaints.is_empty() {
            wrong += 1;
            let _ = writeln!(stdout(), "seed {seed} ({:?}):", outcome.kind);
            for complaint in &outcome.complaints {
                let grave = if complaint.is_grave { "! " } else { "" };
                let _ = writeln!(stdout(), "    {grave}{}", complaint.text);
            }
            let _ = writeln!(
                stdout(),
                "    again: cargo run -p simulation --bin simulate -- --seed {seed} --trace"
            );
        }
    }
    let _ = writeln!(stdout(), "{count} seeds, {wrong} of them wrong; {figures:?}");
    Ok(wrong == 0)
}

fn number(text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| format!("{text} is no number"))
}
