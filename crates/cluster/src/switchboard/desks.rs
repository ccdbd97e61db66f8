//! What the parts of this node see of all nodes: the proxy sees the calls, the application server sees legs, limits, the directory
//! and relays, the relay sees whom it speaks to.
//!
//! In: their words. Out: the same, at the node where it belongs. Elsewhere: how words come from other nodes (`super`).

use super::*;

impl Calls for Switchboard {
    fn incoming(&self, incoming: Incoming) -> bool {
        self.turn.fetch_add(1, Ordering::Relaxed);
        let mut custody = self.custody.lock();
        let taken = custody.incoming(incoming, &Placed(self), (self.deps.now)());
        self.carry_out(&mut custody);
        taken
    }

    fn event(&self, call: CallId, leg: LegId, event: LegEvent) {
        let mut custody = self.custody.lock();
        custody.event(call, leg, event, (self.deps.unix_us)());
        self.carry_out(&mut custody);
    }

    fn leg_lost(&self, call: CallId, leg: LegId) {
        let mut custody = self.custody.lock();
        custody.leg_lost(call, leg, (self.deps.unix_us)());
        self.carry_out(&mut custody);
    }

    fn leg_state(&self, call: CallId, leg: LegId, state: Bytes) {
        let mut custody = self.custody.lock();
        custody.leg_state(call, leg, state);
        self.carry_out(&mut custody);
    }

    fn leg_leaves(&self, call: CallId, leg: LegId) {
        let mut custody = self.custody.lock();
        custody.leg_leaves(call, leg);
        self.carry_out(&mut custody);
    }

    fn stray(&self, call: CallId, leg: LegId) -> bool {
        let mut custody = self.custody.lock();
        let asked = custody.stray(call, leg, &Placed(self), (self.deps.now)());
        self.carry_out(&mut custody);
        asked
    }

    fn revived(&self, call: CallId, leg: LegId, lives: bool) {
        let mut custody = self.custody.lock();
        custody.revived(call, leg, lives);
        self.carry_out(&mut custody);
    }
}

impl Legs for Switchboard {
    fn originate(&self, title: Title, order: Originate) -> Option<(LegId, String)> {
        let home = order.home;
        if !self.can_reach(home) {
            return None;
        }
        let leg = self.name(home)?;
        let sip_call_id = format!("{:032x}", (self.deps.random)());
        let order = Box::new(order);
        self.say_to_legs(home, ToLegs::Originate { title, leg, sip_call_id: sip_call_id.clone(), order });
        Some((leg, sip_call_id))
    }

    fn command(&self, title: Title, home: NodeId, leg: LegId, command: LegCommand) {
        self.say_to_legs(home, ToLegs::Command { title, leg, command });
    }

    fn tell(&self, custodian: NodeId, message: ToLegs) {
        self.say_to_legs(custodian, message);
    }

    fn tell_server(&self, server: NodeId, message: ToCalls) -> bool {
        self.wire.get().is_some_and(|wire| server != self.deps.me && wire.to_calls(server, message))
    }

    fn is_cluster(&self) -> bool {
        true
    }

    fn guards(&self, client: Id<Client>, call: CallId) -> Vec<NodeId> {
        let placed = Placed(self).for_lost(Some(client), call);
        placed.into_iter().filter(|node| *node != self.deps.me).collect()
    }

    fn proxies_instead(&self, gone: NodeId, leg: LegId) -> Vec<NodeId> {
        let (view, lost) = (self.view.load(), self.lost.load());
        let reach = Reach { view: &view, lost: &lost.legs };
        let zone = view.node(gone).or_else(|| view.node(self.deps.me)).map_or("", |node| node.zone.as_str());
        placement::proxies_instead(reach, zone, &placement::leg_name(leg), gone, "udp")
    }

    fn relay(&self, client: Id<Client>, caller: LegId, call: CallId, not: Option<NodeId>) -> Option<NodeId> {
        let (view, lost) = (self.view.load(), self.lost.load());
        let reach = Reach { view: &view, lost: &lost.media };
        let near = view.node(caller.node()).or_else(|| view.node(self.deps.me));
        let zone = near.map_or("", |node| node.zone.as_str());
        placement::relay(reach, &self.deps.snapshot.load(), client, zone, call, not)
    }

    fn can_reach(&self, node: NodeId) -> bool {
        Switchboard::can_reach(self, node)
    }

    fn is_gone(&self, proxy: NodeId) -> bool {
        let is_known =
            || self.view.load().nodes.contains_key(&proxy) || self.lost.load().unseen.contains(&proxy);
        proxy != self.deps.me && !is_known()
    }

    fn relay_is_lost(&self, relay: NodeId) -> bool {
        let is_there = self.view.load().node(relay).is_some_and(|node| node.roles.has(Role::Relay));
        relay != self.deps.me && (!is_there || self.lost.load().media.contains(&relay))
    }
}

impl Limits for Switchboard {
    fn reserve(&self, title: Title, number: u32, claims: &[Claim]) -> Option<Verdict> {
        if self.counting.get().is_none() {
            return Some(Verdict::Unknown);
        }
        self.count_for(Some((title.call, number)), |counters, lease, now| {
            counters.reserve(title, number, claims, lease, now);
        })
    }

    fn adopt(&self, title: Title, claims: &[Claim]) {
        self.count(|counters, lease, now| counters.adopt(title, claims, lease, now));
    }

    fn release(&self, call: CallId, claims: &[Claim]) {
        self.count(|counters, lease, now| counters.release(call, claims, lease, now));
    }

    fn let_go(&self, call: CallId, claims: &[Claim]) {
        self.count(|counters, _, now| counters.let_go(call, claims, now));
    }
}

impl Directory for Switchboard {
    fn bindings(&self, aor: Aor) -> Vec<Binding> {
        let (view, lost) = (self.view.load(), self.lost.load());
        let reach = Reach { view: &view, lost: &lost.legs };
        let locations = self.locations.lock();
        let mut all: Vec<Binding> = locations
            .of_at(aor, self.unix_secs())
            .filter_map(|located| {
                let record = &located.binding;
                let transport = Transport::from_token(&record.flow.transport)?;
                let is_there = self.can_reach(located.home);
                let leaves = view.node(located.home).is_some_and(|node| node.draining);
                // A datagram may come from another address of the platform, if there is no NAT that lets nobody else in; a connection went
                // with its proxy.
                let may_go = !is_there || leaves && !record.nat;
                let home = if transport == Transport::Udp && may_go {
                    let zone = view.node(located.home).map_or("", |node| node.zone.as_str());
                    let name = record.contact.as_bytes();
                    let instead = placement::proxies_instead(reach, zone, name, located.home, "udp");
                    instead.first().copied().or(Some(located.home).filter(|_| is_there))?
                } else {
                    Some(located.home).filter(|_| is_there)?
                };
                let flow = Flow {
                    transport,
                    listener: record.flow.listener,
                    remote: record.flow.remote,
                    conn: ConnId(0),
                };
                Some(Binding {
                    contact: record.contact.clone(),
                    path: record.path.clone(),
                    flow,
                    q: record.q,
                    newness: located.stamp_us.unsigned_abs(),
                    home,
                })
            })
            .collect();
        all.sort_by_key(|binding| std::cmp::Reverse((binding.q, binding.newness)));
        all
    }
}

impl Media for Switchboard {
    fn submit(
        &self,
        relay: NodeId,
        call: CallId,
        ticket: u32,
        command: MediaCommand,
        signalling: Signalling,
    ) -> Option<MediaReply> {
        if relay == self.deps.me {
            return match self.relay.get() {
                Some(_) if !self.is_served_by(relay, call, ticket, &command) => Some(other_server()),
                Some(own) => own.submit(relay, call, ticket, command, signalling),
                None => Some(MediaReply::Refused(MediaError::Unreachable)),
            };
        }
        let message = ToRelay::Submit { call, ticket, command, signalling };
        let is_told = self.wire.get().is_some_and(|wire| wire.to_relay(relay, message));
        (!is_told).then_some(MediaReply::Refused(MediaError::Unreachable))
    }
}

impl MediaSink for Switchboard {
    fn reply(&self, call: CallId, ticket: u32, reply: MediaReply) {
        let node = self.relayed.get(&call).map_or(self.deps.me, |serving| serving.0);
        self.say_from_relay(node, FromRelay::Reply { call, ticket, reply });
    }

    fn event(&self, call: CallId, event: MediaEvent) {
        let node = self.relayed.get(&call).map_or(self.deps.me, |serving| serving.0);
        self.say_from_relay(node, FromRelay::Event { call, event });
    }
}
