//! The application server: what happens to a call.
//!
//! Rooms: [`call`] (the decision core of one call, sans-IO), `actor` (the ractor shell around it and the server's face),
//! `alarm` (deadlines of calls), `places` (how many calls count for whom), `rates` (what they are
//! routed and priced by). Elsewhere: SIP (crate `proxy`), audio (`relay`).

mod actor;
mod alarm;
pub mod call;
mod places;
mod rates;

pub use actor::{AppServer, CallLog, Deps, Limits, Stats};
pub use places::Places;
pub use rates::Rates;
