//! Tests of the store's public face on a real directory.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;
mod directory;
mod kill;
mod queries;
