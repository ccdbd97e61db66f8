//! REST at four levels: the dialect of lists, items and errors, access control, tokens, and documents about all of it.
//!
//! In: HTTP requests. Out: answers, and changes of the configuration by its rules. Rooms: [`live`] (the configuration
//! that everybody reads, and changing it), [`outside`] (what is asked of the living system), `auth` (tokens, logins),
//! `http` (requests, errors, formats), `bodies` (what is read of a request, and its memory), `shares` (what callers take of
//! what all share), `list` (filters, order, pages), `collate` (texts as people compare them), `show` (a row in an answer),
//! `write` (a body to a row), `work` (whose turn it is), `files` and `storage` (uploads, and where they lie), `custom`
//! (operations of their own), `grpc` (the same for operators' programs), `docs` (documents about all of it), [`server`]
//! (what binds them), [`serving`] (connections), [`tls`] (their certificates), `proof` (what
//! a request shows of its sender). Elsewhere: definitions and rules (crate `model`).

mod auth;
mod bodies;
mod collate;
mod custom;
mod docs;
mod files;
mod grpc;
mod http;
mod list;
pub mod live;
pub mod outside;
mod passwords;
mod power;
mod proof;
mod routes;
pub mod server;
pub mod serving;
mod shares;
mod show;
mod simulation;
mod storage;
pub mod tls;
mod work;
mod write;

pub use auth::Tokens;
pub use grpc::Watchers;
pub use passwords::Hasher;
pub use storage::{FileLimits, Storage, keep_tidy, place as file_place};
pub use work::Tenant;
