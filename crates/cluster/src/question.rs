//! What an operator's question at one node asks of the others, and what they answer.
//!
//! Plain data: everything in it is bounded by its wire form (crate `mesh`), an answer about many calls comes in pages. Elsewhere: how it gets there
//! ([`crate::between::DirectoryItem`], [`crate::switchboard::Shell`]), who asks and who answers (the program).

use crate::ids::CallId;
use model::{Aor, Brand, Client, Id, LegRole};

/// Calls of one answer at most.
pub const PAGE_CALLS: usize = 1024;

/// Asked of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Its calls, the oldest first; answered by [`Answer::Calls`].
    Calls {
        /// Which of them.
        of: CallsOf,
        /// Only those behind this one: when it began, and its name.
        after: Option<(i64, CallId)>,
        /// So many at most; never more than [`PAGE_CALLS`].
        limit: u16,
    },
    /// How many calls it has; answered by [`Answer::Count`].
    Count {
        /// Only of this brand.
        brand: Option<Id<Brand>>,
        /// Only of this client.
        client: Option<Id<Client>>,
    },
    /// End this call; answered by [`Answer::Count`]: 1 where it is there.
    HangUp(CallId),
    /// Whether it serves this call or waits for somebody who does; answered by [`Answer::Count`]: 1 if so.
    Keeps(CallId),
    /// How it is; answered by [`Answer::State`].
    State,
    /// Let all that it has go to others, or take new things again; answered by [`Answer::State`] as soon as it has begun.
    Drain {
        /// Take new things again.
        undo: bool,
    },
    /// Drop contacts of an endpoint; answered by [`Answer::Count`].
    Unbind {
        /// The endpoint.
        aor: Aor,
        /// Only the contact with this URI.
        contact: Option<String>,
    },
}

/// Which calls are meant: all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallsOf {
    /// Of this brand.
    pub brand: Option<Id<Brand>>,
    /// Of this client.
    pub client: Option<Id<Client>>,
    /// This one alone; it is told with its legs.
    pub call: Option<CallId>,
    /// This stands in a number, a name, or an address of a leg; empty: anything does.
    pub text: String,
}

/// Answered by a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Calls.
    Calls {
        /// They, the oldest first.
        calls: Vec<HeldCall>,
        /// How many fit, those on other pages with them.
        total: u32,
        /// Others stand behind the last of these.
        more: bool,
    },
    /// A number.
    Count(u32),
    /// How the node is.
    State(NodeState),
    /// It is not done; the reason, for people.
    Refused(String),
}

/// A call as its node tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldCall {
    /// Its name.
    pub call: CallId,
    /// How often it has changed its node.
    pub epoch: u32,
    /// The brand.
    pub brand: Id<Brand>,
    /// The client.
    pub client: Id<Client>,
    /// The caller's number and name.
    pub caller: (String, String),
    /// Number and name of who is called.
    pub callee: (String, String),
    /// What was dialled.
    pub dialled: String,
    /// When it began, in Unix microseconds.
    pub started_us: i64,
    /// When it was answered.
    pub answered_us: Option<i64>,
    /// Its legs; only where one call was asked for.
    pub legs: Vec<HeldLeg>,
}

/// A leg of such a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLeg {
    /// Which side it is on.
    pub role: LegRole,
    /// Call-ID of its dialog.
    pub sip_call_id: String,
    /// Its address.
    pub endpoint: String,
}

/// How a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// Calls that it serves.
    pub calls: u32,
    /// Legs of its proxy.
    pub legs: u32,
    /// Sessions of its relay.
    pub sessions: u32,
    /// Contacts that are registered with it.
    pub bindings: u32,
    /// Calls taken over from other nodes since its start.
    pub adopted_total: u64,
    /// Calls given to other nodes, or lost to them, since its start.
    pub let_go_total: u64,
    /// Seconds since it started.
    pub uptime: u64,
    /// Its lease is certain: it owns what it claims to.
    pub lease_certain: bool,
    /// It lets go of everything.
    pub drain: Option<DrainState>,
}

/// How far a drain has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainState {
    /// Milliseconds until it waits no more.
    pub left_ms: u32,
    /// Nothing is left that would end with the node.
    pub done: bool,
    /// The node ends when it is done: it cannot be undone.
    pub ending: bool,
}
