//! Scenarios of the session core: two sessions over two real transaction layers and a simulated wire, or one session
//! against messages written by hand.
//!
//! `world` plays ladders written as text; a message or an event that is not on the ladder fails the test.

mod calls;
mod capsules;
mod forks;
mod lossy;
mod offers;
mod peers;
mod timers;
mod world;
