//! The relay as others see it: commands in, answers out at once.
//!
//! In: [`MediaCommand`]s by call. Out: [`MediaReply`]s, and events by the sink. Elsewhere: what a command does
//! ([`crate::session`]), packets ([`crate::worker`]).

use crate::config::{RelayConfig, RelayError};
use crate::ports::Ports;
use crate::session::{Desk, Session};
use crate::worker::{self, WorkerLink, WorkerOptions};
use cluster::ids::{CallId, NodeId};
use cluster::media::{Media, MediaCommand, MediaError, MediaReply, MediaSink, Signalling};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Instant;

/// Sessions are spread over so many tables, each with a lock of its own.
const SHARDS: usize = 64;

/// A media relay: ports, worker threads, sessions. Dropping it ends everything.
pub struct Relay {
    ports: Ports,
    shards: Vec<Mutex<HashMap<CallId, Session>>>,
    workers: Vec<Arc<WorkerLink>>,
    threads: Vec<JoinHandle<()>>,
    secret: RandomState,
}

/// Numbers for operators, of this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// Calls with media.
    pub sessions: usize,
    /// Port pairs in use.
    pub ports_used: usize,
    /// Port pairs to be had, as far as known: those that the system refused lately are not among them.
    pub ports_free: usize,
    /// Datagrams sent on since the start.
    pub packets_forwarded: u64,
}

impl Relay {
    /// Checks the configuration and starts the workers. Ports are bound when calls need them, and then stay bound.
    ///
    /// # Errors
    /// An address that cannot be bound, an empty range, no threads.
    pub fn start(config: RelayConfig, sink: Arc<dyn MediaSink>) -> Result<Arc<Relay>, RelayError> {
        let cores = netio::thread::cores();
        let count = if config.workers == 0 { cores.len() } else { config.workers };
        // A call has four sockets or more; the usual soft limit of 1024 is soon reached.
        let files = netio::thread::raise_open_files().unwrap_or(1024);
        let ports = Ports::new(&config, count, files)?;
        let mut relay = Relay {
            ports,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            workers: Vec::with_capacity(count),
            threads: Vec::with_capacity(count),
            secret: RandomState::new(),
        };
        for number in 0..count {
            let options = WorkerOptions {
                name: format!("media-{number}"),
                core: config.pin_workers.then(|| cores[number % cores.len()]),
                silence: config.silence,
                packets_per_second: config.packets_per_second,
                own: Arc::clone(relay.ports.own()),
            };
            let (link, thread) = worker::start(options, Arc::clone(&sink)).map_err(RelayError::Worker)?;
            relay.workers.push(link);
            relay.threads.push(thread);
        }
        Ok(Arc::new(relay))
    }

    fn carry_out(&self, call: CallId, command: MediaCommand, signalling: Signalling) -> MediaReply {
        let now = Instant::now();
        let mut desk = Desk {
            ports: &self.ports,
            secret: &self.secret,
            now,
            orders: Vec::new(),
            urgent: false,
            moved: Vec::new(),
            freed: Vec::new(),
        };
        let mut shard = self.shards[self.secret.hash_one(call) as usize % SHARDS].lock();
        let (worker, reply) = match command {
            MediaCommand::Close => match shard.remove(&call) {
                Some(session) => {
                    let worker = session.worker;
                    self.workers[worker].sessions.fetch_sub(1, Ordering::Relaxed);
                    (worker, MediaReply::Report(session.close(&mut desk)))
                }
                None => return MediaReply::Report(Vec::new()),
            },
            MediaCommand::Stop => match shard.get_mut(&call) {
                Some(session) => (session.worker, MediaReply::Report(session.stop(&mut desk))),
                None => return MediaReply::Report(Vec::new()),
            },
            MediaCommand::Offer { from, to, sdp } => {
                let known = shard.contains_key(&call);
                let session = shard.entry(call).or_insert_with(|| Session::new(call, self.idlest_worker()));
                let worker = session.worker;
                let reply = session.offer(&mut desk, (from, to), &sdp, signalling);
                if known {
                    // It was there before and stays, whatever became of the offer.
                } else if session.is_empty() {
                    shard.remove(&call);
                } else {
                    self.workers[worker].sessions.fetch_add(1, Ordering::Relaxed);
                }
                (worker, reply.map_or_else(MediaReply::Refused, MediaReply::Sdp))
            }
            MediaCommand::Answer { from, to, sdp } => match shard.get_mut(&call) {
                Some(session) => {
                    let reply = session.answer(&mut desk, (from, to), &sdp, signalling);
                    (session.worker, reply.map_or_else(MediaReply::Refused, MediaReply::Sdp))
                }
                None => return no_session(),
            },
            MediaCommand::Withdraw { from, to } => match shard.get_mut(&call) {
                Some(session) => {
                    let reply = session.withdraw(&mut desk, from, to);
                    (session.worker, reply.map_or_else(MediaReply::Refused, |()| MediaReply::Done))
                }
                None => return no_session(),
            },
            MediaCommand::Release { leg } => match shard.get_mut(&call) {
                Some(session) => {
                    let report = session.release(&mut desk, leg).into_iter().collect();
                    (session.worker, MediaReply::Report(report))
                }
                None => return no_session(),
            },
        };
        self.clear(desk, worker);
        reply
    }

    /// What there is to be counted now.
    pub fn stats(&self) -> RelayStats {
        let counts = self.ports.counts();
        RelayStats {
            sessions: self.workers.iter().map(|worker| worker.sessions.load(Ordering::Relaxed)).sum(),
            ports_used: counts.used,
            ports_free: counts.free,
            packets_forwarded: self
                .workers
                .iter()
                .map(|worker| worker.forwarded.load(Ordering::Relaxed))
                .sum(),
        }
    }

    /// Asks each worker for a sign of life, which comes when it has carried out all orders so far. One that is gone gives none.
    pub fn knock(&self) -> Vec<Receiver<()>> {
        let knock = |worker: &Arc<WorkerLink>| {
            let (teller, told) = std::sync::mpsc::channel();
            worker.push([worker::Order::Tell(teller)], true);
            told
        };
        self.workers.iter().map(knock).collect()
    }

    /// Returns when the workers have carried out all orders so far.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        for told in self.knock() {
            assert!(told.recv().is_ok(), "the worker is gone");
        }
    }

    fn idlest_worker(&self) -> usize {
        let load = |worker: &usize| self.workers[*worker].sessions.load(Ordering::Relaxed);
        (0..self.workers.len()).min_by_key(load).unwrap_or(0)
    }

    /// Passes on what a command left on the desk. Orders go before the ports that they idle can be taken by others.
    fn clear(&self, desk: Desk<'_>, worker: usize) {
        for (other, slot) in desk.moved {
            self.workers[other].push([worker::Order::Forget { slot }], true);
        }
        if !desk.orders.is_empty() {
            self.workers[worker].push(desk.orders, desk.urgent);
        }
        for lease in desk.freed {
            self.ports.give_back(lease, worker, desk.now);
        }
    }
}

fn no_session() -> MediaReply {
    MediaReply::Refused(MediaError::OutOfStep("no such media session"))
}

impl Media for Relay {
    fn submit(
        &self,
        _relay: NodeId,
        call: CallId,
        _ticket: u32,
        command: MediaCommand,
        signalling: Signalling,
    ) -> Option<MediaReply> {
        Some(self.carry_out(call, command, signalling))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.workers.iter().for_each(|worker| worker.stop());
        for thread in self.threads.drain(..) {
            // The last holder may be a worker's own call of the sink.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a media worker ended by a panic");
            }
        }
    }
}
