//! Decisions as tables: each row is a sentence of the manual.
//!
//! In: small systems. Out: what is decided. Elsewhere: units of one room, beside it.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod hostile;
mod incoming;
mod outgoing;
mod selection;
mod simulation;
mod system;
mod world;
