//! The relays of calls: media move when one is lost or about to leave, and sessions that are left over are closed.
//!
//! In: news of relays. Out: moves, closings. Elsewhere: the moving itself (`call::relays`).

use super::*;

impl ShardState {
    /// A relay is out of reach: its media move.
    pub(in crate::actor) fn relay_lost(&mut self, relay: NodeId) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        for id in self.ids() {
            let is_concerned =
                |call: &&mut CallState| call.call.uses_relay(relay) || call.call.awaits_relay(relay);
            let Some(call) = self.calls.get_mut(&id).filter(is_concerned) else { continue };
            if call.relay_lost(relay, peers) {
                self.unclosed(relay, id);
            } else {
                self.relayless.insert((relay, id));
            }
            self.settle(id);
        }
    }

    /// A session stays at a relay that cannot be told.
    pub(super) fn unclosed(&mut self, relay: NodeId, call: CallId) {
        if self.unclosed.len() < UNCLOSED_MAX {
            self.unclosed.insert((relay, call), self.shared.now().mono + CLOSE_AFTER);
        }
    }

    /// A relay is in reach (again): it hears which of its sessions are whose, for what was told to it before may be lost; what it has kept for
    /// nothing is closed, once it is certain that nobody else uses it.
    pub(in crate::actor) fn relay_back(&mut self, relay: NodeId) {
        self.find_relays();
        for id in self.ids() {
            if let Some(call) = self.calls.get_mut(&id).filter(|call| call.call.uses_relay(relay)) {
                call.call.claim_sessions_at(relay);
                self.settle(id);
            }
        }
        let calls = self.unclosed.keys().filter(|(at, _)| *at == relay).map(|(_, id)| *id);
        let calls: Vec<CallId> = calls.collect();
        for id in calls {
            self.unclosed(relay, id);
            self.close_later(id);
        }
    }

    /// Calls that lost their relays while none was in reach get one.
    pub(super) fn find_relays(&mut self) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        for (relay, id) in std::mem::take(&mut self.relayless) {
            let Some(call) = self.calls.get_mut(&id).filter(|call| call.call.uses_relay(relay)) else {
                continue;
            };
            let new = call.call.caller_leg().and_then(|leg| peers.legs.relay(call.client, leg, id, None));
            match new {
                Some(new) => {
                    call.call.relay_lost(relay, Some(new), shared.now());
                    self.unclosed(relay, id);
                    self.settle(id);
                }
                None => drop(self.relayless.insert((relay, id))),
            }
        }
    }

    pub(super) fn close_later(&self, id: CallId) {
        if let Some(alarms) = self.shared.alarms.get() {
            alarms.set(self.shared.now().mono + CLOSE_AFTER, id);
        }
    }

    /// Closes what a call has left at relays. Whoever has taken the call over has told its relays: they refuse this.
    pub(super) fn close_left(&mut self, id: CallId) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        let now = shared.now().mono;
        let due = self.unclosed.extract_if(.., |(relay, call), at| {
            *call == id && *at <= now && !peers.legs.relay_is_lost(*relay)
        });
        for ((relay, _), _) in due {
            if self.calls.get(&id).is_none_or(|call| !call.call.uses_relay(relay)) {
                let command = MediaCommand::Close;
                drop(peers.media.submit(relay, id, u32::MAX, command, Signalling::default()));
            }
        }
    }

    /// A relay is about to leave: media of calls go elsewhere.
    pub(in crate::actor) fn relay_leaves(&mut self, relay: NodeId) {
        let shared = Arc::clone(&self.shared);
        let Some(peers) = shared.peers.get() else { return };
        for id in self.ids() {
            let Some(call) = self.calls.get_mut(&id).filter(|call| call.call.relay() == Some(relay)) else {
                continue;
            };
            if let Some(new) = call.other_relay(relay, peers) {
                call.call.move_media(new, shared.now());
                self.settle(id);
            }
        }
    }
}

impl CallState {
    /// Takes the media to another relay. `false`: none is in reach, so it is this server that is cut off; a conversation goes on where it
    /// is until there is one again.
    pub(super) fn relay_lost(&mut self, relay: NodeId, peers: &Peers) -> bool {
        let new = self.other_relay(relay, peers);
        if new.is_none() && self.call.is_talking() && self.call.relay() == Some(relay) {
            return false;
        }
        self.call.relay_lost(relay, new, self.shared.now());
        true
    }

    pub(super) fn other_relay(&self, not: NodeId, peers: &Peers) -> Option<NodeId> {
        let caller = self.call.caller_leg()?;
        peers.legs.relay(self.client, caller, self.id, Some(not))
    }
}
