//! Batched datagram I/O, readiness and threads on Linux: the one room with unsafe code.
//!
//! In and out: borrowed file descriptors, bytes and socket addresses. Rooms: [`batch`] (recvmmsg, sendmmsg), [`poll`]
//! (epoll, eventfd, timerfd), [`thread`] (cores, open files). Elsewhere: making sockets and their options (crate `socket2`), what
//! the bytes mean.

#![expect(unsafe_code, reason = "system calls that no safe crate offers without an allocation per call")]

pub mod batch;
pub mod poll;
pub mod thread;

mod address;

pub use batch::{Received, RecvBatch, SendBatch, enable_timestamps};
pub use poll::{Epoll, EventFd, Events, Ticker};
