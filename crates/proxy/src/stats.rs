//! Counters and gauges: plain atomics that hot paths add to, and a copy of them for whoever exports metrics.
//!
//! In: single adds. Out: [`ProxyStats`]. Elsewhere: names and formats of metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a request was refused or a packet dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Cause {
    /// Not SIP, or not parsable; dropped.
    Junk,
    /// Parsable but against the grammar: 400 and its like, or silence.
    Malformed,
    /// Challenged: no credentials, stale or wrong ones.
    Challenged,
    /// Of these, the ones with a wrong password or an unknown user.
    WrongPassword,
    /// Authenticated, but not allowed: 403.
    Forbidden,
    /// 481: no such dialog.
    NoDialog,
    /// 482 or 483.
    Loop,
    /// 420, 405, 501, 416.
    Unsupported,
    /// 503 by overload of a worker.
    Overload,
    /// 503 by the limit of legs, transactions or a draining node.
    Capacity,
    /// Too many requests inside one dialog, or datagrams of one stranger.
    Flood,
    /// REGISTER refused by the registrar's rules.
    Registration,
    /// A request to a trunk's socket from an address that is nobody's; it got no answer.
    UnknownSource,
    /// A call of a DDI provider to what is no DDI, or none that can be called.
    NoDdi,
    /// A stream connection refused or cut by a limit.
    Connection,
    /// An answer not given: its address did not prove itself and has had more than it sent. Somebody forges it, as a rule.
    Amplification,
    /// A message that could not be sent.
    Unsent,
    /// A panic that was caught; always a mistake of ours.
    Panic,
}

impl Cause {
    /// Its name in figures.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Junk => "junk",
            Cause::Malformed => "malformed",
            Cause::Challenged => "challenged",
            Cause::WrongPassword => "wrong_password",
            Cause::Forbidden => "forbidden",
            Cause::NoDialog => "no_dialog",
            Cause::Loop => "loop",
            Cause::Unsupported => "unsupported",
            Cause::Overload => "overload",
            Cause::Capacity => "capacity",
            Cause::Flood => "flood",
            Cause::Registration => "registration",
            Cause::UnknownSource => "unknown_source",
            Cause::NoDdi => "no_ddi",
            Cause::Connection => "connection",
            Cause::Amplification => "amplification",
            Cause::Unsent => "unsent",
            Cause::Panic => "panic",
        }
    }
}

/// All causes, in the order of their numbers.
pub const CAUSES: [Cause; 18] = [
    Cause::Junk,
    Cause::Malformed,
    Cause::Challenged,
    Cause::WrongPassword,
    Cause::Forbidden,
    Cause::NoDialog,
    Cause::Loop,
    Cause::Unsupported,
    Cause::Overload,
    Cause::Capacity,
    Cause::Flood,
    Cause::Registration,
    Cause::UnknownSource,
    Cause::NoDdi,
    Cause::Connection,
    Cause::Amplification,
    Cause::Unsent,
    Cause::Panic,
];

/// The live counters of one proxy.
#[derive(Default)]
pub(crate) struct Counters {
    causes: [AtomicU64; CAUSES.len()],
    pub(crate) received: AtomicU64,
    pub(crate) legs_begun: AtomicU64,
    pub(crate) legs_lost: AtomicU64,
    /// Carried on from another proxy.
    pub(crate) legs_revived: AtomicU64,
    pub(crate) registered: AtomicU64,
    pub(crate) pings: AtomicU64,
    pub(crate) pings_missed: AtomicU64,
}

impl Counters {
    pub(crate) fn count(&self, cause: Cause) {
        add(&self.causes[cause as usize]);
    }

    pub(crate) fn cause(&self, cause: Cause) -> u64 {
        self.causes[cause as usize].load(Ordering::Relaxed)
    }
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A copy of all counters and gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyStats {
    /// Contacts that are registered now.
    pub bindings: usize,
    /// Of these, the ones whose pings stay unanswered.
    pub unreachable: usize,
    /// Legs that exist now.
    pub legs: usize,
    /// Legs that may exist at the same time.
    pub legs_max: usize,
    /// No new call is taken.
    pub draining: bool,
    /// Open stream connections.
    pub connections: usize,
    /// Open transactions of each worker, as of its last turn.
    pub transactions: Vec<usize>,
    /// What waits for each worker, as of its last turn.
    pub queued: Vec<usize>,
    /// Messages received, since the start.
    pub received: u64,
    /// Legs begun, since the start.
    pub legs_begun: u64,
    /// Legs whose actor crashed, since the start.
    pub legs_lost: u64,
    /// Legs of other proxies that were carried on here since the start.
    pub legs_revived: u64,
    /// Registrations accepted, since the start.
    pub registered: u64,
    /// OPTIONS pings sent, since the start.
    pub pings: u64,
    /// OPTIONS pings without any answer, since the start.
    pub pings_missed: u64,
    /// Refusals and drops by cause, since the start.
    pub refused: Vec<(Cause, u64)>,
}

impl ProxyStats {
    /// The count of one cause.
    pub fn refused(&self, cause: Cause) -> u64 {
        self.refused.iter().find(|(each, _)| *each == cause).map_or(0, |(_, count)| *count)
    }
}
