//! Configuration entities, their snapshot, and the records that a platform keeps.
//!
//! Plain data in, plain data out: no clock, no randomness, no I/O. Rooms: [`id`] (typed identifiers), [`entity`] (what an
//! operator configures), [`configuration`] (all of it as one document, and the demo's), [`snapshot`] (the checked,
//! indexed copy that calls are routed from), [`record`] (call records and bindings).
//! Elsewhere: where all this is kept (crate `store`).

mod aor;
pub mod checks;
pub mod configuration;
mod configuration_check;
pub mod define;
pub mod draft;
mod e164;
pub mod entities;
pub mod entity;
pub mod external;
pub mod id;
pub mod import;
pub mod outside;
pub mod pattern;
mod prelude;
pub mod record;
pub mod rows;
pub mod rules;
pub mod scope;
pub mod seed;
pub mod snapshot;
#[cfg(test)]
mod testing;

pub use aor::{Aor, AorOwner};
pub use configuration::Configuration;
pub use configuration_check::Mistake;
pub use e164::{E164, NotE164};
pub use entities::{Brand, Company as Client, Extension, Terminal, User};
pub use entity::{ExtensionNumber, ExtensionRoute, InvalidExtensionNumber, RejectionMethod, Secret};
pub use external::{CallDirection, CallEndpoint, CarrierAttempt, EndpointKind, ExternalCall, Tariff, Trunk};
pub use id::Id;
pub use record::{
    BindingRecord, Cause, Cdr, CdrLeg, FlowRecord, HungUpBy, LegRole, MediaReport, OpenCall, Party,
};
pub use snapshot::{DirectAddress, EndpointRef, Snapshot};
