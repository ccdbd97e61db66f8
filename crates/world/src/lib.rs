//! The test world: the real proxy, application server and SIP cores on a network in memory, under paused time.
//!
//! [`World`] is one node and what it wrote down; [`fn@ladder`] plays a call written as text, message by message;
//! [`Endpoint`] is a phone that behaves by itself, for weather with loss, doubling and reordering. Everything follows
//! from one seed. Elsewhere: real sockets and programs (package `system-tests`).

mod endpoint;
mod ladder;
mod node;
mod scripted;

pub use endpoint::{Behaviour, Endpoint, Outcome};
pub use ladder::{ladder, ladder_in};
pub use node::{Options, World};
