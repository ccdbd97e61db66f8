//! Configuration entities, their snapshot, and the records that a platform keeps.
//!
//! Plain data in, plain data out: no clock, no randomness, no I/O. Rooms: [`id`] (typed identifiers), [`entity`] (what an
//! operator configures), [`configuration`] (all of it as one document, and the demo's), [`snapshot`] (the checked,
//! indexed copy that calls are routed from), [`record`] (call records and bindings).
//! Elsewhere: where all this is kept (crate `store`).

pub mod configuration;
pub mod entity;
pub mod id;
pub mod record;
pub mod snapshot;

pub use configuration::Configuration;
pub use entity::{
    Brand, Client, Extension, ExtensionNumber, ExtensionRoute, InvalidExtensionNumber, RejectionMethod,
    Secret, Terminal, User,
};
pub use id::Id;
pub use record::{
    BindingRecord, Cause, Cdr, CdrLeg, FlowRecord, HungUpBy, LegRole, MediaReport, OpenCall, Party,
};
pub use snapshot::{EndpointRef, Mistake, Snapshot};
