//! What happens to the nodes of a cluster, for operators who watch.
//!
//! In: the views as they change, what nodes answer. Out: events for one receiver; it works only while there is one. Elsewhere: who watches
//! (crate `api`, room `grpc::cluster`).

use crate::asking::Asking;
use api::outside::{ClusterDeed, ClusterEvent};
use cluster::ids::NodeId;
use cluster::node::{NodeInfo, View};
use cluster::question::{Answer, NodeState, Question};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Events that wait for a slow reader; what comes then has to wait.
const QUEUE: usize = 64;
/// How often nodes are asked how they are.
const LOOK: Duration = Duration::from_secs(2);

/// Begins to tell.
pub(crate) fn tell(
    asking: Arc<Asking>,
    mut views: watch::Receiver<Arc<View>>,
) -> mpsc::Receiver<ClusterEvent> {
    let (teller, told) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut seen = Seen::default();
        let mut turns = tokio::time::interval(LOOK);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let view = Arc::clone(&views.borrow_and_update());
            let mut events = seen.view(&view);
            tokio::select! {
                biased;
                () = teller.closed() => return,
                changed = views.changed(), if events.is_empty() => {
                    if changed.is_err() {
                        return;
                    }
                    continue;
                }
                _ = turns.tick() => {
                    let nodes = view.nodes.keys().copied().collect();
                    for (node, answer) in asking.ask_each(nodes, &Question::State).await {
                        let state = match answer {
                            Some(Answer::State(state)) => Some(state),
                            _ => None,
                        };
                        events.extend(seen.state(node, state));
                    }
                }
                () = std::future::ready(()), if !events.is_empty() => {}
            }
            for event in events {
                if teller.send(event).await.is_err() {
                    return;
                }
            }
        }
    });
    told
}

/// What was told of each node.
#[derive(Default)]
struct Seen {
    nodes: BTreeMap<NodeId, One>,
    /// The first view is told of.
    begun: bool,
}

struct One {
    info: Arc<NodeInfo>,
    /// What it answered last, and whether it answered the last time.
    state: Option<NodeState>,
    silent: bool,
}

impl Seen {
    fn view(&mut self, view: &View) -> Vec<ClusterEvent> {
        let mut events = Vec::new();
        self.nodes.retain(|id, one| {
            let stays = view.nodes.contains_key(id);
            if !stays {
                events.push(event(&one.info, ClusterDeed::Left));
            }
            stays
        });
        for info in view.nodes.values() {
            let new = One { info: Arc::clone(info), state: None, silent: false };
            let Some(one) = self.nodes.get_mut(&info.id) else {
                let deed = if self.begun { ClusterDeed::Came } else { ClusterDeed::There };
                events.push(event(info, deed));
                if info.draining {
                    events.push(event(info, ClusterDeed::Drains));
                }
                self.nodes.insert(info.id, new);
                continue;
            };
            if one.info.instance != info.instance {
                events.push(event(info, ClusterDeed::Restarted));
                *one = new;
                continue;
            }
            if one.info.draining != info.draining {
                let deed = if info.draining { ClusterDeed::Drains } else { ClusterDeed::Ready };
                events.push(event(info, deed));
            }
            one.info = Arc::clone(info);
        }
        self.begun = true;
        events
    }

    fn state(&mut self, node: NodeId, now: Option<NodeState>) -> Vec<ClusterEvent> {
        let Some(one) = self.nodes.get_mut(&node) else { return Vec::new() };
        let was_silent = std::mem::replace(&mut one.silent, now.is_none());
        let mut deeds = Vec::new();
        match (was_silent, now.is_none()) {
            (false, true) => deeds.push(ClusterDeed::Silent),
            (true, false) => deeds.push(ClusterDeed::Answers),
            _ => {}
        }
        let Some(now) = now else { return deeds.into_iter().map(|deed| event(&one.info, deed)).collect() };
        let before = one.state.replace(now).unwrap_or(NodeState { drain: None, ..now });
        let more = |now: u64, before: u64| Some(now.saturating_sub(before)).filter(|more| *more > 0);
        deeds.extend(more(now.adopted_total, before.adopted_total).map(ClusterDeed::Adopted));
        deeds.extend(more(now.let_go_total, before.let_go_total).map(ClusterDeed::LetGo));
        let is_done = |state: NodeState| state.drain.is_some_and(|drain| drain.done);
        if is_done(now) && !is_done(before) {
            deeds.push(ClusterDeed::Drained);
        }
        deeds.into_iter().map(|deed| event(&one.info, deed)).collect()
    }
}

fn event(info: &NodeInfo, deed: ClusterDeed) -> ClusterEvent {
    ClusterEvent { at_ms: crate::node::unix_us() / 1000, node: info.id.0, name: info.name.clone(), deed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::node::Roles;
    use cluster::question::DrainState;

    fn view(nodes: &[(u16, u64, bool)]) -> View {
        let info = |(id, instance, draining): &(u16, u64, bool)| NodeInfo {
            id: NodeId(*id),
            name: format!("n{id}"),
            instance: *instance,
            identity: 1,
            roles: Roles::ALL,
            zone: String::new(),
            capacity: 1,
            peer: "a:1".to_owned(),
            sip: Vec::new(),
            media: Vec::new(),
            release: String::new(),
            protocol: (1, 1),
            draining: *draining,
            calls: 0,
            started_ms: 0,
        };
        let nodes = nodes.iter().map(|node| (NodeId(node.0), Arc::new(info(node)))).collect();
        View { nodes, ..View::default() }
    }

    fn deeds(events: Vec<ClusterEvent>) -> Vec<(u16, ClusterDeed)> {
        events.into_iter().map(|event| (event.node, event.deed)).collect()
    }

    #[test]
    fn nodes_come_drain_restart_and_go() {
        use ClusterDeed::*;
        let mut seen = Seen::default();
        assert_eq!(deeds(seen.view(&view(&[(1, 1, false)]))), [(1, There)]);
        assert_eq!(deeds(seen.view(&view(&[(1, 1, false), (2, 1, true)]))), [(2, Came), (2, Drains)]);
        assert_eq!(deeds(seen.view(&view(&[(1, 1, true), (2, 1, false)]))), [(1, Drains), (2, Ready)]);
        assert_eq!(deeds(seen.view(&view(&[(1, 2, false)]))), [(2, Left), (1, Restarted)]);
        assert_eq!(deeds(seen.view(&view(&[(1, 2, false)]))), []);
    }

    #[test]
    fn calls_that_move_and_nodes_that_fall_silent_are_told_once() {
        use ClusterDeed::*;
        let mut seen = Seen::default();
        seen.view(&view(&[(1, 1, false)]));
        let mut state = NodeState { adopted_total: 5, ..NodeState::default() };
        assert_eq!(deeds(seen.state(NodeId(1), Some(state))), [], "what was before is no news");
        state.adopted_total = 7;
        state.let_go_total = 1;
        assert_eq!(deeds(seen.state(NodeId(1), Some(state))), [(1, Adopted(2)), (1, LetGo(1))]);
        assert_eq!(deeds(seen.state(NodeId(1), None)), [(1, Silent)]);
        assert_eq!(deeds(seen.state(NodeId(1), None)), []);
        state.drain = Some(DrainState { done: true, ..DrainState::default() });
        assert_eq!(deeds(seen.state(NodeId(1), Some(state))), [(1, Answers), (1, Drained)]);
        assert_eq!(deeds(seen.state(NodeId(1), Some(state))), []);
        assert_eq!(deeds(seen.state(NodeId(9), None)), [], "nobody knows it");
    }
}
