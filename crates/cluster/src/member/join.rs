//! Joining: whose the cluster is, which number the node gets, and why not.
//!
//! In: fresh records. Out: one transaction after the other, each guarded by what was read. Elsewhere: the lease (`mod`).

use super::records::{Held, Marker};
use super::{Member, Phase, What};
use crate::etcd::{Compare, Failure, Op, Request, Response, Ticket, Txn};
use crate::ids::NodeId;
use crate::node::{NodeInfo, meets};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Why a node may not join, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Another node has the number.
    #[error(
        "node.id = {} is in use by {holder}; give this node another number or \"auto\", or wait until that one has left", id.0
    )]
    DuplicateId {
        /// The number.
        id: NodeId,
        /// Who has it.
        holder: Holder,
    },
    /// All numbers are taken.
    #[error("node.id = \"auto\": all {} numbers are in use", u16::MAX)]
    NoFreeId,
    /// The prefix belongs to another cluster.
    #[error(
        "cluster.prefix = {prefix:?}: belongs to the cluster {found:032x}, and this node's database to {ours:032x}; give each cluster a prefix of its own, or name the database of this one in store.url"
    )]
    WrongCluster {
        /// The prefix.
        prefix: String,
        /// Whose it is.
        found: u128,
        /// Whose the database is.
        ours: u128,
    },
    /// What stands at the prefix is nothing of ours.
    #[error(
        "cluster.prefix = {prefix:?}: holds {key}, which is no cluster's of this program; name another prefix"
    )]
    BadMarker {
        /// The prefix.
        prefix: String,
        /// The key.
        key: String,
    },
    /// Somebody speaks no version of the protocol that this release speaks.
    #[error(
        "cluster.prefix = {prefix:?}: {who} speaks versions {} to {} of the protocol between nodes, this release {} to {}; upgrade step by step, one release at a time",
        theirs.0, theirs.1, ours.0, ours.1
    )]
    WrongProtocol {
        /// The prefix.
        prefix: String,
        /// The node, or the cluster itself.
        who: String,
        /// Its first and last version.
        theirs: (u16, u16),
        /// Ours.
        ours: (u16, u16),
    },
    /// What the node would say of itself could not be read by others.
    #[error("{0}; see [node] and cluster.advertise")]
    BadInfo(String),
    /// etcd refuses.
    #[error(
        "cluster.etcd: refuses what this node asks for: {0}; check cluster.etcd_user and its rights below cluster.prefix"
    )]
    Etcd(String),
}

/// Who has a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name; empty where it cannot be read.
    pub name: String,
    /// Where it is reached.
    pub peer: String,
    /// When it started, milliseconds since 1970.
    pub since_ms: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            return f.write_str("something that cannot be read");
        }
        let seconds = self.since_ms / 1000;
        let (days, hour, minute) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        let (year, month, day) = date(days);
        let since = format_args!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC");
        write!(f, "{:?} at {} since {since}", self.name, self.peer)
    }
}

/// The date so many days after 1970-01-01 (Howard Hinnant's civil_from_days).
fn date(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

impl Member {
    /// The next step of joining, where one is due; looks after the own record where the node has joined.
    pub(super) fn join(&mut self, now: Instant) {
        match self.phase {
            Phase::Out { at } if now < at => self.wake_at(at, "join"),
            Phase::Out { .. } if self.follower.is_fresh => self.ask_next(now),
            Phase::Claimed { id, revision } if self.records.revision >= revision => {
                if self.holds(id) {
                    (self.was_member, self.settings.id) = (true, Some(id));
                    self.phase = Phase::In { id };
                } else {
                    self.anew(now, now);
                }
            }
            Phase::In { id } if !self.holds(id) => {
                if self.is_superseded(id) {
                    self.be_superseded(now);
                } else {
                    self.fall_out(now);
                }
            }
            _ => {}
        }
    }

    /// The number is held under this very lease.
    fn holds(&self, id: NodeId) -> bool {
        let lease = self.lease.as_ref().map(|lease| lease.id);
        self.records.nodes.get(&id).is_some_and(|held| Some(held.lease) == lease)
    }

    /// Another process of ours holds the number.
    fn is_superseded(&self, id: NodeId) -> bool {
        let said = self.records.nodes.get(&id).and_then(|held| held.says.as_ref());
        said.is_some_and(|said| said.identity == self.info.identity && said.instance != self.info.instance)
    }

    fn be_superseded(&mut self, now: Instant) {
        self.events.push_back(super::Event::Superseded);
        self.begin_to_leave(now);
    }

    fn ask_next(&mut self, now: Instant) {
        let known = self.records.marker.as_ref().and_then(|held| held.says);
        let ours = Marker {
            id: self.settings.cluster,
            protocol: self.info.protocol,
            fences_from: known.map_or(self.settings.fences_from, |marker| marker.fences_from),
        };
        match self.marker_is_to_be_written(ours) {
            Err(error) => return self.refuse(error, now),
            Ok(Some(when)) => {
                let put = Op::Put { key: self.keys.marker(), value: ours.to_json(), lease: None };
                return self.ask_step(Txn { when: vec![when], then: vec![put] }, What::Mark, now);
            }
            Ok(None) => {}
        }
        let Some(id) = self.settings.id.or_else(|| self.free_id()) else {
            return self.refuse(JoinError::NoFreeId, now);
        };
        let key = self.keys.node(id);
        let when = match self.records.nodes.get(&id) {
            None => Compare::Absent(key.clone()),
            Some(held) if !self.is_ours(held) => {
                return self.refuse(JoinError::DuplicateId { id, holder: holder(held) }, now);
            }
            Some(held) if self.holds(id) => {
                // The answer to the claim was lost, not the claim.
                self.phase = Phase::Claimed { id, revision: held.modified };
                return self.join(now);
            }
            Some(_) if self.was_member && self.is_superseded(id) => return self.be_superseded(now),
            Some(held) => Compare::Modified(key.clone(), held.modified),
        };
        self.info.id = id;
        if let Err(bad) = self.info.check() {
            return self.refuse(JoinError::BadInfo(bad.to_string()), now);
        }
        let Some(lease) = &self.lease else {
            let seconds = self.settings.lease_seconds;
            self.phase = Phase::Asking(self.ask(Request::Grant { seconds }, What::Grant, now));
            return;
        };
        if !self.lease_is_certain(now) {
            return; // the next keep-alive tells
        }
        let put = Op::Put { key, value: self.info.to_json(), lease: Some(lease.id) };
        self.ask_step(Txn { when: vec![when], then: vec![put] }, What::Number(id), now);
    }

    fn ask_step(&mut self, txn: Txn, what: What, now: Instant) {
        self.phase = Phase::Asking(self.ask(Request::Txn(txn), what, now));
    }

    /// Whether the cluster is ours, and if what it says of itself is missing or out of date, by which guard it is written.
    fn marker_is_to_be_written(&self, ours: Marker) -> Result<Option<Compare>, JoinError> {
        let prefix = || self.settings.prefix.clone();
        let Some(held) = &self.records.marker else { return Ok(Some(Compare::Absent(self.keys.marker()))) };
        let Some(marker) = held.says else {
            return Err(JoinError::BadMarker { prefix: prefix(), key: self.keys.marker() });
        };
        if marker.id != ours.id {
            return Err(JoinError::WrongCluster { prefix: prefix(), found: marker.id, ours: ours.id });
        }
        let others = || self.records.nodes.values().filter_map(|held| held.says.as_ref());
        let others = || others().filter(|said| said.identity != self.info.identity);
        let strange = others()
            .find(|said| !meets(ours.protocol, said.protocol))
            .map(|said| (format!("node {} {:?}", said.id.0, said.name), said.protocol));
        let does_meet = meets(ours.protocol, marker.protocol);
        let strange = strange.or_else(|| {
            others().next().filter(|_| !does_meet).map(|_| ("the cluster".to_owned(), marker.protocol))
        });
        if let Some((who, theirs)) = strange {
            return Err(JoinError::WrongProtocol { prefix: prefix(), who, theirs, ours: ours.protocol });
        }
        // A cluster that stood still may go on with any release; one that runs goes up.
        let is_out_of_date = !does_meet || ours.protocol.1 > marker.protocol.1;
        Ok(is_out_of_date.then(|| Compare::Modified(self.keys.marker(), held.modified)))
    }

    fn is_ours(&self, held: &Held<Arc<NodeInfo>>) -> bool {
        held.says.as_ref().is_some_and(|said| said.identity == self.info.identity)
    }

    /// The number that this identity still has, else the lowest that is free.
    fn free_id(&self) -> Option<NodeId> {
        let nodes = &self.records.nodes;
        let kept = nodes.iter().find(|(_, held)| self.is_ours(held)).map(|(id, _)| *id);
        kept.or_else(|| (1..=u16::MAX).map(NodeId).find(|id| !nodes.contains_key(id)))
    }

    pub(super) fn on_join_step(
        &mut self,
        ticket: Ticket,
        what: What,
        answer: Result<Response, Failure>,
        now: Instant,
    ) {
        if self.phase != Phase::Asking(ticket) {
            return;
        }
        match (what, answer) {
            (What::Number(id), Ok(Response::Txn { succeeded: true, revision })) => {
                self.phase = Phase::Claimed { id, revision };
            }
            // Made by us or by somebody else meanwhile: what counts is what stands there now.
            (_, Ok(_)) => self.anew(now, now),
            (_, Err(Failure::LeaseGone)) => {
                self.lease = None;
                self.anew(now, now);
            }
            (_, answer) => self.try_again(answer.err(), now),
        }
    }

    pub(super) fn try_again(&mut self, failure: Option<Failure>, now: Instant) {
        match failure {
            Some(Failure::Refused(why)) if !self.was_member => self.refuse(JoinError::Etcd(why), now),
            _ => {
                let pause = self.follower.next_pause();
                self.anew(now + pause, now);
            }
        }
    }

    pub(super) fn refuse(&mut self, error: JoinError, now: Instant) {
        self.events.push_back(super::Event::Refused(error));
        if self.was_member {
            self.drop_lease(now);
            self.anew(now + super::REFUSED, now);
        } else {
            self.begin_to_leave(now);
        }
    }
}

fn holder(held: &Held<Arc<NodeInfo>>) -> Holder {
    held.says.as_ref().map_or(Holder { name: String::new(), peer: String::new(), since_ms: 0 }, |said| {
        Holder { name: said.name.clone(), peer: said.peer.clone(), since_ms: said.started_ms }
    })
}
