//! Numbers, and which way a call goes. A core: no clock, no randomness, no I/O.
//!
//! In: a state of the configuration, and calls. Out: decisions as data. Rooms: [`transform`] (forms of numbers), [`outgoing`] (calls
//! of endpoints), [`selection`] (their carriers, manual 9.3.1), [`incoming`] (calls to DDIs), [`target`] (what numbers lead to),
//! [`endpoint`] (whose form of numbers), [`codes`] (when the next carrier is tried), [`simulate`] and [`note`] (why). Elsewhere: what
//! is configured (`model`), what it costs (`rating`).
//!
//! A [`Router`] is made of a [`model::Snapshot`], and the next one of it and the next snapshot: only what follows from tables
//! that changed is made again, and expressions that were read once are kept. Making the first one looks at each row; reading an
//! expression waits for the first call that needs it. A decision tries the expressions of two lists of a transformation set up to
//! the one that fits, looks up each beginning of the called number among the brand's patterns (16 look-ups at most), and then
//! looks only at routes that fit and their carriers, at [`selection::ROUTES_MAX`] routes at most. So nothing on its way grows with
//! the count of patterns, clients, DDIs or routes to elsewhere. `examples/decision.rs` measures it.

pub mod codes;
pub mod endpoint;
pub mod incoming;
mod index;
pub mod note;
pub mod outgoing;
pub mod selection;
pub mod simulate;
pub mod target;
pub mod transform;

pub use codes::StatusCodes;
pub use endpoint::{Endpoint, ToCarrier};
pub use incoming::{Incoming, IncomingRefusal};
pub use model::E164;
pub use note::{Note, Notes};
pub use outgoing::{Call, Decision, Dialled, Outgoing, Refusal, Way};
pub use selection::{Attempt, Facts, Selection};
pub use simulate::Explanation;
pub use target::{Service, Target};

use model::Snapshot;
use model::rows::Rows;

/// Decides by one state of the configuration. Immutable, to be shared.
#[derive(Debug)]
pub struct Router {
    snapshot: Snapshot,
    index: index::Index,
}

impl Router {
    /// Routes by this state.
    pub fn new(snapshot: Snapshot) -> Self {
        let index = index::Index::new(snapshot.rows(), None);
        Self { snapshot, index }
    }

    /// Routes by the next state; what did not change is shared.
    #[must_use]
    pub fn next(&self, snapshot: Snapshot) -> Self {
        let index = index::Index::new(snapshot.rows(), Some((self.rows(), &self.index)));
        Self { snapshot, index }
    }

    /// The state that is routed by.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    fn rows(&self) -> &Rows {
        self.snapshot.rows()
    }
}
