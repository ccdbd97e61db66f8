//! Ownership: what is wished and free is claimed, what is no longer wished is given up.
//!
//! A key is ours when the records show it under our lease, so an answer that is lost or late changes nothing; from the moment that
//! a key's deletion is asked for it is not ours. Elsewhere: the lease itself (`mod`), proposals ([`crate::node::partitions`]).

use super::records::owner_json;
use super::{Event, Follow, Member, What};
use crate::etcd::{Compare, Op, Request, Ticket, Txn};
use crate::ids::NodeId;
use crate::node::{Fence, Kind, NodeInfo, Role, Roles, partitions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Place = (Kind, u32);
/// What proposals depend on.
type Candidates = (NodeId, Roles, u32, bool);

/// Requests about owners that wait for answers at the same time.
const IN_FLIGHT: usize = 64;
/// A key whose request was answered is asked about again after this, if the watch shows nothing.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) wishes: BTreeMap<Kind, BTreeSet<u32>>,
    pub(super) shares: BTreeMap<Kind, (u32, Role)>,
    /// What the wishes for shares were last made from.
    pub(super) shared: Option<Vec<Candidates>>,
    /// What is owned, as it was told.
    pub(super) told: BTreeMap<Place, Fence>,
    asked: BTreeMap<Place, Ticket>,
    /// What is to be deleted, as it was last written.
    giving_up: BTreeMap<Place, u64>,
    /// Answered: not asked again before then unless the record is another than this.
    not_before: BTreeMap<Place, (Instant, Option<u64>)>,
}

impl Claims {
    fn is_wished(&self, (kind, key): Place) -> bool {
        self.wishes.get(&kind).is_some_and(|keys| keys.contains(&key))
    }
}

impl Member {
    pub(super) fn on_owner_asked(&mut self, place: Place, ticket: Ticket, now: Instant) {
        if self.claims.asked.get(&place) == Some(&ticket) {
            self.claims.asked.remove(&place);
            let record = self.records.owners.get(&place).map(|held| held.modified);
            self.claims.not_before.insert(place, (now + AGAIN, record));
        }
    }

    pub(super) fn own(&mut self, now: Instant) {
        self.propose();
        self.tell_owned();
        if !self.is_certain || !matches!(self.follower.state, Follow::Watching(_)) {
            return;
        }
        let record = |place: &Place| self.records.owners.get(place).map(|held| held.modified);
        self.claims.not_before.retain(|place, (at, known)| now < *at && record(place) == *known);
        let wished = self.claims.wishes.iter();
        let wished = wished.flat_map(|(kind, keys)| keys.iter().map(|key| (*kind, *key)));
        let free: Vec<Place> = wished.filter(|place| !self.records.owners.contains_key(place)).collect();
        for place in free {
            if self.may_ask(place) {
                let (key, value) = (self.keys.owner(place), owner_json(self.info.id, self.info.instance));
                let lease = self.lease.as_ref().map(|lease| lease.id);
                let put = Op::Put { key: key.clone(), value, lease };
                let txn = Txn { when: vec![Compare::Absent(key)], then: vec![put] };
                let ticket = self.ask(Request::Txn(txn), What::Claim(place), now);
                self.claims.asked.insert(place, ticket);
            }
        }
        let unwished = self.claims.told.iter().filter(|(place, _)| !self.claims.is_wished(**place));
        let modified = |place: &Place| Some((*place, self.records.owners.get(place)?.modified));
        let unwished: Vec<(Place, u64)> = unwished.filter_map(|(place, _)| modified(place)).collect();
        if !unwished.is_empty() {
            self.claims.giving_up.extend(unwished);
            self.tell_owned();
        }
        let given_up: Vec<(Place, u64)> =
            self.claims.giving_up.iter().map(|(place, modified)| (*place, *modified)).collect();
        for (place, modified) in given_up {
            if self.may_ask(place) {
                let key = self.keys.owner(place);
                let txn = Txn {
                    when: vec![Compare::Modified(key.clone(), modified)],
                    then: vec![Op::Delete { key }],
                };
                let ticket = self.ask(Request::Txn(txn), What::GiveUp(place), now);
                self.claims.asked.insert(place, ticket);
            }
        }
    }

    fn may_ask(&mut self, place: Place) -> bool {
        if let Some((at, _)) = self.claims.not_before.get(&place).copied() {
            self.wake_at(at, "claim or give up again");
            return false;
        }
        !self.claims.asked.contains_key(&place) && self.claims.asked.len() < IN_FLIGHT
    }

    /// Makes the wishes for shares from the view, where they or what they depend on have changed: loads change all the time.
    fn propose(&mut self) {
        let of = |node: &Arc<NodeInfo>| (node.id, node.roles, node.capacity, node.draining);
        let candidates: Vec<Candidates> = self.view.nodes.values().map(of).collect();
        let claims = &mut self.claims;
        if claims.shared.as_ref() == Some(&candidates) {
            return;
        }
        for (kind, (count, role)) in &claims.shares {
            let ours = partitions(&self.view, self.info.id, *kind, *count, *role);
            claims.wishes.insert(*kind, ours);
        }
        claims.shared = Some(candidates);
    }

    /// Tells what the node owns now where it is not what was told.
    pub(super) fn tell_owned(&mut self) {
        let owners = &self.records.owners;
        let giving_up = &mut self.claims.giving_up;
        giving_up.retain(|place, modified| owners.get(place).is_some_and(|held| held.modified == *modified));
        let lease = self.lease.as_ref().map(|lease| lease.id).filter(|_| self.is_certain);
        let is_given_up = |place: &Place| giving_up.contains_key(place);
        #[cfg(any(test, feature = "testing"))]
        let is_given_up =
            |place: &Place| is_given_up(place) && self.fault != Some(super::Fault::OwnsWhatItGaveUp);
        let ours = owners.iter().filter(|(place, held)| Some(held.lease) == lease && !is_given_up(place));
        let me = (self.info.id.0, self.info.instance);
        let ours = ours
            .filter(|(_, held)| held.says.is_some_and(|owner| (owner.node, owner.instance) == me))
            .map(|(place, held)| (*place, self.records.fence(held.modified)));
        #[cfg_attr(not(any(test, feature = "testing")), expect(unused_mut, reason = "faults add to it"))]
        let mut ours: BTreeMap<Place, Fence> = ours.collect();
        #[cfg(any(test, feature = "testing"))]
        if self.fault == Some(super::Fault::ActsOnProposals) && self.is_certain {
            let wishes = self.claims.wishes.iter();
            let wished = wishes.flat_map(|(kind, keys)| keys.iter().map(|key| ((*kind, *key), Fence(0))));
            for (place, fence) in wished {
                ours.entry(place).or_insert(fence);
            }
        }
        if ours == self.claims.told {
            return;
        }
        let told = std::mem::take(&mut self.claims.told);
        for ((kind, key), fence) in &told {
            if ours.get(&(*kind, *key)) != Some(fence) {
                self.events.push_back(Event::Lost(*kind, *key, *fence));
            }
        }
        for ((kind, key), fence) in &ours {
            if told.get(&(*kind, *key)) != Some(fence) {
                self.events.push_back(Event::Gained(*kind, *key, *fence));
            }
        }
        self.claims.told = ours;
    }
}
