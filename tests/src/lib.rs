//! Fixtures of the whole-system tests: the real program as its own process, and the peers that call through it.
//!
//! In: a test's wishes (users, limits, scenario names). Out: processes on addresses of their own, what they said, the call
//! records they left. Elsewhere: the tests (`tests/`), SIPp scenarios (`sipp/`), baresip's configuration (`baresip/`).

pub mod api;
pub mod audio;
pub mod authority;
pub mod baresip;
pub mod call;
pub mod cluster;
pub mod conversation;
pub mod endpoint;
pub mod hostile;
pub mod load;
pub mod lossy;
pub mod net;
pub mod node;
pub mod place;
pub mod postgres;
pub mod process;
pub mod records;
pub mod rtp;
pub mod sipp;
pub mod watching;

use std::time::Duration;

/// How long an event may take on a loaded machine before a test gives up on it. Nothing is asserted about time below it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Domain of the demo client.
pub const DOMAIN: &str = "users.democlient.com";
