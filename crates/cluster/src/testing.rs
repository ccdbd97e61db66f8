//! An etcd in memory, with a clock that is handed in: for simulations of members.
//!
//! In: the requests that the real one gets. Out: its answers, and the changes that a watch would tell. Elsewhere: the network
//! between, which is the simulation's.

use crate::etcd::{Change, Compare, Entry, Failure, Op, Request, Response, Ticket, Txn, WatchUpdate};
use crate::member::{Event, Member};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The history was compacted beyond the revision that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted;

/// One etcd, without members of its own.
#[derive(Clone, Debug, Default)]
pub struct Etcd {
    now: Duration,
    revision: u64,
    keys: BTreeMap<String, Entry>,
    leases: BTreeMap<i64, Lease>,
    next_lease: i64,
    history: Vec<Change>,
    compacted: u64,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    life: Duration,
    end: Duration,
}

impl Etcd {
    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// All keys.
    pub fn keys(&self) -> &BTreeMap<String, Entry> {
        &self.keys
    }

    /// When the next lease ends unless it is kept alive.
    pub fn next_end(&self) -> Option<Duration> {
        self.leases.values().map(|lease| lease.end).min()
    }

    /// Time goes on, and leases end.
    pub fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
        let now = self.now;
        let ended: Vec<i64> =
            self.leases.iter().filter(|(_, lease)| lease.end <= now).map(|(id, _)| *id).collect();
        ended.into_iter().for_each(|lease| self.end(lease));
    }

    /// It has stood still until now: leases begin anew, as they do under a new leader.
    pub fn resume(&mut self, now: Duration) {
        self.now = self.now.max(now);
        let now = self.now;
        self.leases.values_mut().for_each(|lease| lease.end = now + lease.life);
    }

    /// Forgets the history up to this revision.
    pub fn compact(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision.min(self.revision));
        let compacted = self.compacted;
        self.history.retain(|change| change.revision() > compacted);
    }

    /// Carries out a request.
    ///
    /// # Errors
    ///
    /// Its lease has ended, or it is a watch: for these there is [`Etcd::changes`].
    pub fn serve(&mut self, request: &Request) -> Result<Response, Failure> {
        match request {
            Request::Read { prefix } => {
                let entries = self.keys.values().filter(|entry| entry.key.starts_with(prefix)).cloned();
                Ok(Response::Read { revision: self.revision, entries: entries.collect() })
            }
            Request::Grant { seconds } => {
                let life = Duration::from_secs(u64::from(*seconds));
                self.next_lease += 1;
                self.leases.insert(self.next_lease, Lease { life, end: self.now + life });
                Ok(Response::Granted { lease: self.next_lease, seconds: i64::from(*seconds) })
            }
            Request::KeepAlive { lease } => {
                let now = self.now;
                let seconds = self.leases.get_mut(lease).map_or(0, |lease| {
                    lease.end = now + lease.life;
                    lease.life.as_secs().cast_signed()
                });
                Ok(Response::Alive { seconds })
            }
            Request::Revoke { lease } => {
                self.end(*lease);
                Ok(Response::Revoked)
            }
            Request::Txn(txn) => self.transact(txn),
            Request::Watch { .. } => Err(Failure::Refused("a watch is no request".to_owned())),
        }
    }

    /// What a watch from this revision tells up to now.
    ///
    /// # Errors
    ///
    /// Not all of it is there any more.
    pub fn changes(&self, prefix: &str, from: u64) -> Result<Vec<Change>, Compacted> {
        if from <= self.compacted {
            return Err(Compacted);
        }
        let at = self.history.partition_point(|change| change.revision() < from);
        let wanted = self.history[at..].iter().filter(|change| match change {
            Change::Put(entry) => entry.key.starts_with(prefix),
            Change::Deleted { key, .. } => key.starts_with(prefix),
        });
        Ok(wanted.cloned().collect())
    }

    fn transact(&mut self, txn: &Txn) -> Result<Response, Failure> {
        let is_so = |compare: &Compare| match compare {
            Compare::Absent(key) => !self.keys.contains_key(key),
            Compare::Modified(key, revision) => {
                self.keys.get(key).is_some_and(|entry| entry.modified == *revision)
            }
        };
        if !txn.when.iter().all(is_so) {
            return Ok(Response::Txn { succeeded: false, revision: self.revision });
        }
        let is_gone =
            |op: &Op| matches!(op, Op::Put { lease: Some(lease), .. } if !self.leases.contains_key(lease));
        if txn.then.iter().any(is_gone) {
            return Err(Failure::LeaseGone);
        }
        let revision = self.revision + 1;
        for op in &txn.then {
            match op {
                Op::Put { key, value, lease } => {
                    let (value, lease) = (value.clone().into_bytes(), lease.unwrap_or(0));
                    let entry = Entry { key: key.clone(), value, lease, modified: revision };
                    self.keys.insert(key.clone(), entry.clone());
                    self.history.push(Change::Put(entry));
                    self.revision = revision;
                }
                Op::Delete { key } => {
                    if self.keys.remove(key).is_some() {
                        self.history.push(Change::Deleted { key: key.clone(), revision });
                        self.revision = revision;
                    }
                }
            }
        }
        Ok(Response::Txn { succeeded: true, revision: self.revision })
    }

    /// All keys of a lease go in one revision.
    fn end(&mut self, lease: i64) {
        if self.leases.remove(&lease).is_none() {
            return;
        }
        let of_it = self.keys.values().filter(|entry| entry.lease == lease);
        let gone: Vec<String> = of_it.map(|entry| entry.key.clone()).collect();
        self.revision += u64::from(!gone.is_empty());
        for key in gone {
            self.keys.remove(&key);
            self.history.push(Change::Deleted { key, revision: self.revision });
        }
    }
}

/// A member's wire to an [`Etcd`] that carries everything at once.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    watch: Option<(Ticket, String, u64)>,
}

impl Wire {
    /// Carries requests, answers and changes until nobody has anything to say; gives the member's events.
    pub fn carry(&mut self, member: &mut Member, etcd: &mut Etcd, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            if member.poll_timeout().is_some_and(|(at, _)| at <= now) {
                member.handle_timeout(now);
            }
            while let Some(event) = member.poll_event() {
                events.push(event);
            }
            if let Some((ticket, request)) = member.poll_request() {
                match request {
                    Request::Watch { prefix, from } => self.watch = Some((ticket, prefix, from)),
                    request => member.handle_answer(ticket, etcd.serve(&request), now),
                }
                continue;
            }
            let Some((ticket, prefix, from)) = &mut self.watch else { return events };
            let update = match etcd.changes(prefix, *from) {
                Ok(changes) => WatchUpdate::Changes(changes),
                Err(Compacted) => WatchUpdate::Compacted,
            };
            *from = etcd.revision() + 1;
            let ticket = *ticket;
            match &update {
                WatchUpdate::Changes(changes) if changes.is_empty() => return events,
                WatchUpdate::Changes(_) => {}
                _ => self.watch = None,
            }
            member.handle_watch(ticket, update, now);
        }
    }
}
