//! The sample system for tests of rules: three brands, seven clients and what belongs to them, as one document.
//!
//! Only for tests.

use crate::define::SecretHasher;
use crate::draft::{Change, Draft, Env};
use crate::import::import;
use crate::rows::Rows;
use crate::rules::Refusal;
use jiff::Timestamp;
use std::cell::Cell;
use std::sync::LazyLock;

/// Hashes by writing "hash of" before it: tests see what was hashed.
#[derive(Debug)]
pub(crate) struct PlainHasher;

impl SecretHasher for PlainHasher {
    fn hash(&self, password: &str) -> String {
        format!("hash of {password}")
    }
}

/// The time in tests.
pub(crate) fn now() -> Timestamp {
    "2026-01-31T12:00:00Z".parse().expect("a moment")
}

/// The sample system's rows.
pub(crate) fn sample() -> Rows {
    static SAMPLE: LazyLock<Rows> = LazyLock::new(|| {
        let text = include_str!("../../../tests/data/sample-system.json");
        let document = serde_json::from_str(text).expect("the sample system is JSON");
        match import(&document, &Rows::default(), true, now(), &PlainHasher) {
            Ok((rows, ..)) => rows,
            Err(mistakes) => panic!("{}", mistakes.iter().map(|m| format!("{m}\n")).collect::<String>()),
        }
    });
    SAMPLE.clone()
}

/// Makes a change to the sample system.
pub(crate) fn change<T>(
    make: impl FnOnce(&mut Draft<'_>) -> Result<T, Refusal>,
) -> Result<(T, Rows, Vec<Change>), Refusal> {
    change_on(&sample(), make)
}

/// Makes a change to these rows.
pub(crate) fn change_on<T>(
    rows: &Rows,
    make: impl FnOnce(&mut Draft<'_>) -> Result<T, Refusal>,
) -> Result<(T, Rows, Vec<Change>), Refusal> {
    let counter = Cell::new(0);
    let random = || {
        counter.set(counter.get() + 0x9e37_79b9_7f4a_7c15_u64 / 2);
        counter.get()
    };
    let env = Env { now: now(), level: None, hasher: &PlainHasher, random: &random, is_over: &|| false };
    let mut draft = Draft::new(rows, &env);
    let made = make(&mut draft)?;
    let (rows, changes) = draft.finish()?;
    Ok((made, rows, changes))
}
