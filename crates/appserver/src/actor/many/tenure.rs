//! What a server has of one call that others keep: by which right, where its legs live, what custodians lack, whom it is offered to.
//!
//! In: what the call says, what a proxy is found to have. Out: capsules and claims for custodians, orders for legs. Elsewhere: how calls are
//! taken over and given up (`super`).

use super::*;

impl Tenure {
    /// The proxy that has a leg: the one where it was born, unless it has moved.
    pub(super) fn home(&self, leg: LegId) -> NodeId {
        self.states.iter().find(|state| state.leg == leg).map_or(leg.node(), |state| state.home)
    }

    pub(super) fn put(&mut self, state: KeptLeg) {
        self.fresh.retain(|leg| *leg != state.leg);
        self.fresh.push(state.leg);
        self.states.retain(|other| other.leg != state.leg);
        if self.states.len() < STATES_MAX {
            self.states.push(state);
        }
    }

    pub(super) fn state(&self, leg: LegId) -> Option<&KeptLeg> {
        self.states.iter().find(|state| state.leg == leg)
    }
}

impl CallState {
    /// The title that this server shows when it acts for the call.
    pub(in crate::actor) fn title(&self) -> Title {
        Title { call: self.id, epoch: self.tenure.as_ref().map_or(0, |tenure| tenure.epoch) }
    }

    /// The proxy that has a leg now.
    pub(in crate::actor) fn home(&self, leg: LegId) -> NodeId {
        self.tenure.as_ref().map_or(leg.node(), |tenure| tenure.home(leg))
    }

    /// Whether it is offered to other servers, and nothing is done for it here any more.
    pub(in crate::actor) fn is_parked(&self) -> bool {
        self.tenure.as_ref().is_some_and(|tenure| tenure.parked)
    }

    /// Somebody gets a part in the call.
    pub(in crate::actor) fn involve(&mut self, node: NodeId) {
        if let Some(tenure) = &mut self.tenure {
            tenure.involved.insert(node);
        }
    }

    /// Gives custodians what they lack, if the call is at rest.
    pub(in crate::actor) fn keep(&mut self, peers: &Peers) {
        let Some(tenure) = &mut self.tenure else { return };
        let is_news = tenure.told != Some(self.call.version()) || !tenure.fresh.is_empty();
        if !is_news || tenure.parked || self.call.is_recorded() || !self.call.is_open() {
            return;
        }
        let Some(capsule) = self.call.capsule() else { return };
        let me = self.shared.node();
        let mut keepers: BTreeSet<NodeId> = self.call.legs().map(|leg| tenure.home(leg)).collect();
        if keepers.iter().all(|node| *node == me) {
            // All its legs are here: somebody must know of it when this node is gone.
            let guard = peers.legs.guards(capsule.client(), self.id).first().copied();
            // One that etcd has lost sight of is better than none.
            let known =
                || tenure.custodians.iter().copied().find(|node| *node != me && peers.legs.can_reach(*node));
            keepers.extend(guard.or_else(known));
        }
        // Whoever kept it while it rang, and does so no more, must not believe that nobody answered.
        let rang = std::mem::replace(&mut tenure.rings, self.call.is_ringing());
        if rang && self.call.is_talking() {
            keepers.extend(tenure.custodians.iter().filter(|node| peers.legs.can_reach(**node)));
        }
        tenure.tell(self.id, &capsule, &self.call, keepers, peers);
    }

    /// The call's record is durable: whoever knows of it may forget it.
    pub(in crate::actor) fn done(&mut self, peers: &Peers) {
        let title = self.title();
        let Some(tenure) = &mut self.tenure else { return };
        let mut finished = self.shared.finished.lock();
        finished.put(title);
        if self.call.was_hung_up() {
            finished.hung_up.insert(title.call);
        }
        drop(finished);
        for node in std::mem::take(&mut tenure.involved) {
            peers.legs.tell(node, ToLegs::Done { title });
        }
    }

    /// Offers the call to others, if it can be carried on by them. `false`: not now.
    pub(super) fn park(&mut self, peers: &Peers) -> bool {
        let title = self.title();
        let Some(tenure) = &mut self.tenure else { return false };
        if tenure.parked {
            return true;
        }
        if !self.call.is_talking() {
            return false;
        }
        let Some(capsule) = self.call.capsule() else { return false };
        if peers.legs.guards(capsule.client(), self.id).is_empty() {
            return false;
        }
        // This node's own custody is told, too: it is the one that offers the call when all legs are here.
        let keepers = self.call.legs().map(|leg| tenure.home(leg)).collect();
        tenure.fresh = self.call.legs().collect();
        tenure.custodians.clear();
        tenure.tell(self.id, &capsule, &self.call, keepers, peers);
        tenure.parked = true;
        for node in &tenure.involved {
            peers.legs.tell(*node, ToLegs::Decline { title, why: Decline::Draining });
        }
        debug!(call = %self.id, "call is offered to other application servers");
        true
    }

    /// Somebody says that another server has the call: custodians know. `false`: it is in no cluster.
    pub(in crate::actor) fn doubt(&mut self) -> bool {
        let title = self.title();
        let (Some(tenure), Some(peers)) = (&self.tenure, self.shared.peers.get()) else { return false };
        for node in &tenure.involved {
            peers.legs.tell(*node, ToLegs::Claim { title });
        }
        true
    }

    /// Carries on a leg at another proxy, or gives it up.
    pub(super) fn revive(&mut self, leg: LegId, peers: &Peers) {
        let now = self.shared.now();
        let title = self.title();
        let Some(tenure) = &mut self.tenure else { return };
        let home = tenure.home(leg);
        let place = proxy_for(home, leg, peers);
        if place.is_none() && tenure.state(leg).is_some() && self.call.is_talking() {
            return; // until a proxy is back
        }
        match (tenure.state(leg).cloned(), place) {
            (Some(state), Some(place)) => {
                info!(call = %self.id, %leg, from = home.0, to = place.0, "leg goes on at another proxy");
                let message = ToLegs::Revive { title, leg, ticket: None, state: state.state.clone() };
                tenure.put(KeptLeg { home: place, ..state });
                tenure.involved.insert(place);
                peers.legs.tell(place, message);
                self.call.leg_revived(leg);
            }
            (None, _) | (_, None) => {
                warn!(call = %self.id, %leg, at = home.0, "leg is lost with its proxy");
                self.call.leg_lost(leg, now);
            }
        }
    }

    /// A leg's proxy is about to leave: another one carries it on. Its own keeps it until that one has it, for it may be unable to.
    pub(super) fn leg_leaves(&mut self, from: NodeId, leg: LegId, peers: &Peers) {
        let title = self.title();
        let Some(capsule) = self.call.capsule().filter(|_| self.call.is_talking()) else { return };
        let legs: Vec<LegId> = self.call.legs().collect();
        let Some(tenure) = self.tenure.as_mut().filter(|tenure| !tenure.parked) else { return };
        let Some(state) = tenure.state(leg).filter(|state| state.home == from).cloned() else { return };
        // One that could not have it is not asked again while there are others.
        let mut places = peers.legs.proxies_instead(from, leg);
        if places.iter().all(|place| tenure.refused.contains(&(leg, *place))) {
            tenure.refused.retain(|(other, _)| *other != leg);
        }
        places.retain(|place| !tenure.refused.contains(&(leg, *place)));
        let Some(place) = places.first().copied() else { return };
        tenure.on_their_way.retain(|(other, _)| *other != leg);
        tenure.on_their_way.push((leg, place));
        tenure.involved.insert(place);
        // It keeps the call before it has the leg, and all others know of it: whatever becomes of this server now, the leg's call goes on.
        let mut keepers: BTreeSet<NodeId> = legs.into_iter().map(|leg| tenure.home(leg)).collect();
        keepers.extend(&tenure.custodians);
        keepers.insert(place);
        tenure.tell(self.id, &capsule, &self.call, keepers, peers);
        peers.legs.tell(place, ToLegs::Revive { title, leg, ticket: None, state: state.state });
    }

    /// Its proxy is told to do something with a leg: should another one be about to have it, it is not to.
    pub(in crate::actor) fn stays(&mut self, leg: LegId) {
        if let Some(tenure) = &mut self.tenure {
            tenure.on_their_way.retain(|(other, _)| *other != leg);
        }
    }

    /// What came of that: `true` where this is the proxy that has the leg from now on, and nobody else.
    pub(super) fn leg_has_moved(&mut self, to: NodeId, leg: LegId, lives: bool, peers: &Peers) -> bool {
        let title = self.title();
        let Some(tenure) = &mut self.tenure else { return false };
        let before = tenure.on_their_way.len();
        tenure.on_their_way.retain(|on_its_way| *on_its_way != (leg, to));
        let is_awaited = tenure.on_their_way.len() < before;
        if is_awaited && !lives && tenure.refused.len() < STATES_MAX {
            tenure.refused.push((leg, to));
        }
        let Some(state) = tenure.state(leg).filter(|_| is_awaited && lives).cloned() else { return false };
        peers.legs.tell(state.home, ToLegs::Part { title, leg });
        tenure.put(KeptLeg { home: to, ..state });
        self.call.leg_revived(leg);
        true
    }

    /// A telephone is told that its call is over; where its proxy is gone, another one has to do it.
    pub(in crate::actor) fn reach(&mut self, leg: LegId, peers: &Peers) {
        let Some(tenure) = &self.tenure else { return };
        if peers.legs.is_gone(tenure.home(leg)) && tenure.state(leg).is_some() {
            self.revive(leg, peers);
        }
        // Should the proxy prove to be gone, another one has to say it. Not before: it may be this server that is cut off, and the call
        // with another one.
        if let Some(state) = self.tenure.as_ref().and_then(|tenure| tenure.state(leg)) {
            let (at, title, leg) = (self.shared.now().mono, self.title(), state.clone());
            let farewell = Farewell { at, title, leg };
            self.shared.farewells.lock().put(farewell);
        }
    }

    /// Of two copies of a leg the one that was carried on away from its birthplace is younger: it has spoken to the telephone last, and
    /// with higher numbers. Gives the proxy whose copy is void, if that is the one that was known.
    pub(super) fn take_younger(&mut self, theirs: Option<&KeptLeg>) -> Option<NodeId> {
        let (tenure, theirs) = (self.tenure.as_mut()?, theirs?);
        let known = tenure.home(theirs.leg);
        let is_younger = known == theirs.leg.node() && theirs.home != known;
        is_younger.then(|| tenure.put(theirs.clone()))?;
        Some(known)
    }

    /// Legs at a proxy that was out of reach may have been asked for something by another server, and have not heard what this one wanted:
    /// all that was under way comes to its end, and what has to be is asked for again.
    pub(super) fn break_off_at(&mut self, proxy: NodeId, living: &[LegId], peers: &Peers) {
        if !self.call.is_talking() {
            return;
        }
        let title = self.title();
        for leg in self.legs_at(proxy).into_iter().filter(|leg| living.contains(leg)) {
            self.stays(leg);
            peers.legs.command(title, proxy, leg, LegCommand::RejectOffer { status: 491 });
            let reason = Some("SIP;cause=503;text=\"Application server out of reach\"".to_owned());
            peers.legs.command(title, proxy, leg, LegCommand::Cancel { reason });
            self.call.leg_revived(leg);
        }
    }

    /// A server that had the call at the same time may have taken its media elsewhere, and told the peers so: then they are told anew.
    /// One that no leg obeyed meanwhile told nobody.
    pub(super) fn hear_of_relays(&mut self, theirs: &Capsule, id: CallId) {
        if self.tenure.as_ref().is_some_and(|tenure| tenure.is_sole) {
            return;
        }
        let Ok(capsule) = CallCapsule::decode(&theirs.call) else { return };
        let other: BTreeSet<NodeId> = capsule.relays().collect();
        if capsule.call() == id && other != self.call.relays().into_iter().collect() {
            self.call.media_anew();
        }
    }

    /// The legs that live at this proxy, as far as known.
    pub(super) fn legs_at(&self, proxy: NodeId) -> Vec<LegId> {
        self.call.legs().filter(|leg| self.home(*leg) == proxy).collect()
    }

    pub(super) fn happened(&mut self, happened: Vec<Happened>) {
        let now = self.shared.now();
        for Happened { leg, unix_us, event } in happened {
            let then = crate::call::Now { unix_us: unix_us.min(now.unix_us), ..now };
            match event {
                Some(event) => self.call.leg_event(leg, event, then),
                None => self.call.leg_lost(leg, then),
            }
        }
    }
}

impl Tenure {
    pub(super) fn tell(
        &mut self,
        call_id: CallId,
        capsule: &CallCapsule,
        call: &Call,
        keepers: BTreeSet<NodeId>,
        peers: &Peers,
    ) {
        self.version += 1;
        self.told = Some(call.version());
        let title = Title { call: call_id, epoch: self.epoch };
        let bytes = capsule.encode();
        // Whoever was given up for lost may live, and serve the call with others: the next owner has to know of it.
        let all: Vec<NodeId> = keepers.union(&self.involved).copied().take(CUSTODIANS_MAX).collect();
        for node in keepers {
            let is_new = self.custodians.insert(node);
            // A proxy has its own legs anyway.
            let wanted = |state: &&KeptLeg| state.home != node && (is_new || self.fresh.contains(&state.leg));
            let capsule = Capsule {
                version: self.version,
                client: Some(capsule.client()),
                call: bytes.clone(),
                legs: self.states.iter().filter(wanted).cloned().collect(),
                custodians: all.clone(),
            };
            self.involved.insert(node);
            peers.legs.tell(node, ToLegs::Keep { title, capsule: Box::new(capsule) });
        }
        self.fresh.clear();
    }
}
