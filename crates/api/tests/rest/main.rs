//! The whole API against the facts of the dialect: every endpoint, every kind of account, foreign rows and bad input.
//!
//! Rooms: `facts` (what the dialect says), `world` (a server over the sample rows, and accounts), `bodies` (bodies that are
//! right), `walk` (every endpoint as it is meant), `matrix` (foreign tenants), `gates` (grants, features, kinds of
//! clients), `bad` (input that is wrong), `bounds` (what nobody may take from others), `certificates` (who shows one), `grpc` (the same over gRPC), `health` (gRPC health, what is logged),
//! `operator` (what operators meet first), `reads` (reads of their own), `uses` (imports, times, filters, old keys). `not_yet.txt` names what is not answered yet, and
//! may only shrink.

mod bad;
mod bodies;
mod bounds;
mod certificates;
mod cluster;
mod facts;
mod files;
mod gates;
mod grpc;
mod health;
mod matrix;
mod operator;
mod people;
mod reads;
mod simulation;
mod uses;
mod walk;
mod world;
