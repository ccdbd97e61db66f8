//! Who is there: nodes come and go by what etcd says, their links by what connections do, and neither hears of the other's news first.
//!
//! In: views of the cluster, links that are lost and back. Out: what custody, the server, the directory and the counters are told. Elsewhere:
//! membership (`member`), links (`link`), what is said by them (`super`).

use super::*;

impl Switchboard {
    /// The cluster has changed.
    pub fn view_changed(&self, view: Arc<View>) {
        let before = self.view.swap(Arc::clone(&view));
        self.mark(|lost| {
            let Lost { legs, linked, unseen, left, .. } = lost;
            for node in before.nodes.values() {
                if node.draining && !legs.contains(&node.id) {
                    left.insert(node.id);
                } else if linked.contains(&node.id) {
                    unseen.insert(node.id);
                }
            }
            left.retain(|node| !view.nodes.contains_key(node));
            unseen.retain(|node| !view.nodes.contains_key(node));
        });
        let lost = self.lost.load_full();
        if before.with_role(Role::As).any(|node| !view.nodes.contains_key(&node.id)) {
            self.custody.lock().left((self.deps.now)());
        }
        let others = self.other_processes(&view);
        if !others.is_empty() {
            let mut custody = self.custody.lock();
            for node in &others {
                custody.is_another(*node, &Placed(self), (self.deps.now)());
            }
            self.carry_out(&mut custody);
        }
        if let Some(server) = self.server.get() {
            let is_gone = |id: &NodeId| !view.nodes.contains_key(id) && lost.legs.contains(id);
            let proxies = before.with_role(Role::Proxy).map(|node| node.id);
            for id in proxies.filter(is_gone).chain(others).filter(|id| *id != self.deps.me) {
                server.proxy_gone(id);
            }
        }
        if let Some(server) = self.server.get() {
            let is_new = |id: &NodeId| before.node(*id).is_none_or(|node| !node.draining);
            for node in view.with_role(Role::Relay).filter(|node| node.draining && is_new(&node.id)) {
                server.relay_leaves(node.id);
            }
        }
        let is_news =
            |node: &Arc<NodeInfo>| !node.draining && before.node(node.id).is_none_or(|old| old.draining);
        // A relay that was given up because etcd had forgotten it has kept its sessions, and its link. One that has just started, or
        // drains no more, takes conversations that had none.
        if let Some(server) = self.server.get() {
            for node in view.with_role(Role::Relay).filter(|node| !lost.media.contains(&node.id)) {
                if is_news(node) || before.node(node.id).is_none() {
                    server.relay_back(node.id);
                }
            }
        }
        // And a proxy takes telephones whose own one went when there was no other.
        if let Some(server) = self.server.get() {
            for node in view.with_role(Role::Proxy).filter(|node| lost.linked.contains(&node.id)) {
                if is_news(node) {
                    server.proxy_back(node.id);
                }
            }
        }
        // One that etcd had forgotten was told nothing meanwhile, though its link has been up all the time.
        let is_back = |id: &&NodeId| !before.nodes.contains_key(id) && lost.told.contains(id);
        for id in view.nodes.keys().filter(is_back) {
            self.tell_whole(*id);
        }
        // A server that drains no more takes calls that nobody else would.
        if view.nodes.values().any(is_news) {
            self.offer_again();
        }
    }

    /// Nodes that are other processes than they were when they were last seen.
    fn other_processes(&self, view: &View) -> Vec<NodeId> {
        let mut processes = self.processes.lock();
        let now = view.nodes.values();
        let is_other = |node: &&Arc<NodeInfo>| {
            processes.insert(node.id, node.instance).is_some_and(|before| before != node.instance)
        };
        now.filter(is_other).map(|node| node.id).collect()
    }

    /// The application server of a node is out of reach for this node's custody, and its process no more if `is_gone`.
    pub fn calls_lost(&self, node: NodeId, is_gone: bool) {
        self.mark(|lost| {
            lost.calls.insert(node);
        });
        let mut custody = self.custody.lock();
        custody.lost(node, is_gone, &Placed(self), (self.deps.now)());
        self.carry_out(&mut custody);
    }

    /// The application server of a node can be reached (again).
    pub fn calls_back(&self, node: NodeId) {
        self.mark(|lost| {
            lost.calls.remove(&node);
        });
        self.offer_again();
    }

    /// The custody of a node, with its legs, is out of reach for this node's application server.
    pub fn legs_lost(&self, node: NodeId) {
        let has_left = self.lost.load().left.contains(&node);
        self.mark(|lost| {
            lost.legs.insert(node);
            lost.linked.remove(&node);
            lost.unseen.remove(&node);
            lost.left.remove(&node);
        });
        self.names.lock().remove(&node);
        if let Some(server) = self.server.get() {
            server.proxy_lost(node);
            match self.view.load().nodes.contains_key(&node) {
                true => {}
                false if has_left => server.proxy_left(node),
                false => server.proxy_gone(node),
            }
        }
    }

    /// The custody of a node can be reached (again).
    pub fn legs_back(&self, node: NodeId) {
        self.mark(|lost| {
            lost.legs.remove(&node);
            lost.linked.insert(node);
        });
        if let Some(server) = self.server.get() {
            // Whether it has legs may not be known yet; who has none sets nothing aside. What was asked before it could be reached is lost.
            self.names.lock().entry(node).or_default().asked = false;
            self.want_names(node);
            server.proxy_back(node);
        }
    }

    /// The relay of a node is out of reach.
    pub fn relay_lost(&self, node: NodeId) {
        self.mark(|lost| {
            lost.media.insert(node);
        });
        if let Some(server) = self.server.get() {
            server.relay_lost(node);
        }
    }

    /// The relay of a node can be reached (again).
    pub fn relay_back(&self, node: NodeId) {
        self.mark(|lost| {
            lost.media.remove(&node);
        });
        if let Some(server) = self.server.get() {
            server.relay_back(node);
        }
    }

    /// The application server of a node is out of reach for this node's relay: others carry its calls on, or nobody does.
    pub fn media_lost(&self, node: NodeId) {
        let of_it = self.relayed.iter().filter(|entry| entry.value().0 == node);
        let mut calls: Vec<CallId> = of_it.map(|entry| *entry.key()).collect();
        calls.sort_unstable(); // the same order each time
        self.unclaimed.lock().lost(calls.into_iter(), (self.deps.now)());
    }

    /// Asks for the owners of sessions whose servers are out of reach, and closes those that nobody has.
    pub(super) fn look_for_owners(&self, now: Instant) {
        let due = self.unclaimed.lock().due(now);
        for due in due {
            match due {
                Due::Ask(call) => {
                    let view = self.view.load();
                    let event = || FromRelay::Event { call, event: MediaEvent::Unclaimed };
                    let servers = view.with_role(Role::As).map(|node| node.id);
                    let told = servers.filter(|node| !self.say_from_relay(*node, event())).count() == 0;
                    self.unclaimed.lock().asked(call, told, now);
                }
                Due::Close(call) => {
                    self.relayed.remove(&call);
                    if let Some(relay) = self.relay.get() {
                        let (close, signalling) = (MediaCommand::Close, Signalling::default());
                        drop(relay.submit(self.deps.me, call, u32::MAX, close, signalling));
                    }
                }
            }
        }
    }

    /// The link for the directory to a node is lost.
    pub fn directory_lost(&self, node: NodeId) {
        self.count(|counters, _, now| counters.lost(node, now));
        self.mark(|lost| {
            lost.directory.insert(node);
            lost.told.remove(&node);
        });
        self.tell_newcomers_of(node);
        if let Some(shell) = self.shell.get() {
            shell.silent(node);
        }
    }

    /// The partitions that this node owns have changed, or who is there: `owned` was looked at before `view`.
    pub fn ownership_changed(&self, owned: &BTreeMap<(Kind, u32), Fence>, view: &View) {
        self.count(|counters, lease, now| counters.changed(owned, view, lease, now));
    }

    /// There is a link for the directory to a node (again): it is told all that this node's registrar has.
    pub fn directory_back(&self, node: NodeId) {
        self.count(|counters, lease, now| counters.back(node, lease, now));
        self.mark(|lost| {
            lost.directory.remove(&node);
            lost.told.insert(node);
        });
        self.tell_whole(node);
    }

    /// All that this node's registrar has, and what it knows of those who are gone.
    fn tell_whole(&self, node: NodeId) {
        let Some(wire) = self.wire.get() else { return };
        let (view, lost) = (self.view.load(), self.lost.load());
        let is_gone = |home: NodeId| !view.nodes.contains_key(&home) || lost.directory.contains(&home);
        let mut newcomers = self.newcomers.lock();
        let now = (self.deps.now)();
        if now >= self.began + SETTLED {
            newcomers.insert(node, now); // before, this one was new itself
        }
        let locations = self.locations.lock(); // changes come after the whole
        let orphans = locations.orphans(|home| home != node && is_gone(home));
        for item in locations.whole().into_iter().chain(orphans) {
            wire.directory(node, item);
        }
    }

    /// A node is out of reach. Whoever came a moment ago may never have heard of it what telephones it had.
    fn tell_newcomers_of(&self, gone: NodeId) {
        let Some(wire) = self.wire.get() else { return };
        let now = (self.deps.now)();
        let mut newcomers = self.newcomers.lock();
        newcomers.retain(|_, came| now < *came + NEWCOMER);
        if newcomers.is_empty() {
            return;
        }
        let orphans = self.locations.lock().orphans(|home| home == gone);
        for node in newcomers.keys().filter(|node| **node != gone) {
            for item in &orphans {
                wire.directory(*node, item.clone());
            }
        }
    }

    fn mark(&self, change: impl Fn(&mut Lost)) {
        self.lost.rcu(|lost| {
            let mut lost = (**lost).clone();
            change(&mut lost);
            lost
        });
    }

    fn offer_again(&self) {
        let mut custody = self.custody.lock();
        custody.back(&Placed(self), (self.deps.now)());
        self.carry_out(&mut custody);
    }
}
