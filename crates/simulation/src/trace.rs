//! What happened, as a number that is the same for the same seed, and as lines for people.
//!
//! In: everything that crosses a border between two places. Out: a hash of it all; the ladder, where somebody wants it.

use crate::Time;
use std::fmt::Arguments;

/// The story of one run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

/// FNV-1a, for a hash that is the same everywhere.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

impl Trace {
    /// `with_lines`: keep the lines, too.
    pub(crate) fn new(with_lines: bool) -> Self {
        Self { hash: BASIS, events: 0, lines: with_lines.then(Vec::new) }
    }

    pub(crate) fn is_told(&self) -> bool {
        self.lines.is_some()
    }

    /// Something that counts happened.
    pub(crate) fn mark(&mut self, now: Time, kind: u8, bytes: &[u8]) {
        self.events += 1;
        for byte in now.to_le_bytes().iter().chain([&kind]).chain(bytes) {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }

    /// A line for people.
    pub(crate) fn line(&mut self, now: Time, text: Arguments<'_>) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>9.3} {text}", now as f64 / 1e6));
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
