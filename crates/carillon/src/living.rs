//! What the API is told of the living system: registrations and calls of all nodes, the nodes themselves, and ending and draining those.
//!
//! Elsewhere: who asks (crate `api`), asking other nodes (`asking`), what this node answers (`here`); calls that might be (`simulating`);
//! invoices, faxes and mail are not asked here yet, and of trunks only what this node's proxy knows is told.

use crate::asking::{Asking, Gathered};
use crate::node::unix_us;
use crate::simulating;
use crate::watching::Health;
use api::live::Live;
use api::outside::{
    ActiveCall, CallCount, CallFilter, CallLeg, CallsOf, ClusterEvent, ClusterNode, DrainState, FoundCalls,
    LogFilter, NodeLink, NodeNow, NodeState, NotChanged, NotHere, Outside, Owners, RateAsk, RateTold,
    Registration, RouteAsk, RouteTold, SimulatedCall, TrunkState,
};
use appserver::Rates;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use cluster::counters::{Claim, PARTITIONS};
use cluster::ids::{CallId, NodeId};
use cluster::node::{Kind, NodeInfo, Role, View};
use cluster::question::{self, Answer, HeldCall, Question};
use cluster::switchboard::Switchboard;
use jiff::Timestamp;
use mesh::etcd::Membership;
use mesh::peer::{LinkStatus, Peers, Way};
use model::{Aor, BindingRecord, Id, LegRole, Snapshot};
use proxy::{Proxy, RegistrationState, ServerState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tonic_health::server::HealthReporter;

/// Nodes that an error names.
const NAMED_MAX: usize = 20;

/// The living system, as this node sees it.
pub(crate) struct Living {
    pub(crate) proxy: Option<Arc<Proxy>>,
    pub(crate) asking: Arc<Asking>,
    /// Where this node is one of many.
    pub(crate) others: Option<Others>,
    pub(crate) live: Arc<Live>,
    /// This node.
    pub(crate) me: NodeInfo,
    pub(crate) since: Instant,
    pub(crate) health: Arc<Health>,
    pub(crate) rates: Arc<ArcSwap<Rates>>,
}

/// The other nodes.
pub(crate) struct Others {
    pub(crate) membership: Membership,
    pub(crate) switchboard: Arc<Switchboard>,
    pub(crate) peers: Weak<Peers>,
}

impl Living {
    /// What is registered for an endpoint, wherever it registered.
    fn bindings(&self, aor: Aor) -> Vec<(NodeId, BindingRecord)> {
        match (&self.others, &self.proxy) {
            (Some(others), _) => {
                let located = others.switchboard.located(aor).into_iter();
                located.map(|located| (located.home, located.binding)).collect()
            }
            (None, Some(proxy)) => {
                proxy.registrations(aor).into_iter().map(|binding| (self.me.id, binding)).collect()
            }
            (None, None) => Vec::new(),
        }
    }

    /// The endpoint with this address-of-record.
    fn endpoint(&self, user: &str, domain: &str) -> Option<Aor> {
        let snapshot = Snapshot::new((*self.live.rows()).clone());
        let domain = snapshot.domain(domain)?;
        snapshot.endpoint(domain.id, user).map(|endpoint| endpoint.aor)
    }

    /// Works something out by the rates as they are, on a thread that may take its time.
    async fn by_rates<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Rates) -> T + Send + 'static,
    ) -> Result<T, NotHere> {
        let rates = self.rates.load_full();
        let working = tokio::task::spawn_blocking(move || work(&rates));
        working.await.map_err(|_| NotHere("the node ends".to_owned()))
    }

    fn view(&self) -> Arc<View> {
        match &self.others {
            Some(others) => others.switchboard.view(),
            None => {
                let nodes = BTreeMap::from([(self.me.id, Arc::new(self.me.clone()))]);
                Arc::new(View { nodes, ..View::default() })
            }
        }
    }

    /// A node for people: number and name.
    fn named(&self, nodes: &[NodeId]) -> Vec<String> {
        let view = self.view();
        nodes.iter().map(|id| shown(*id, view.node(*id))).collect()
    }

    fn found(&self, gathered: Gathered) -> FoundCalls {
        FoundCalls {
            silent: self.named(&gathered.silent),
            total: gathered.total,
            calls: gathered.calls.into_iter().map(told).collect(),
        }
    }

    /// The node of this number or name.
    fn node_of(&self, text: &str) -> Result<NodeId, NotChanged> {
        if text.is_empty() {
            return Ok(self.me.id);
        }
        let view = self.view();
        let by_number = text.parse().ok().map(NodeId).filter(|id| view.nodes.contains_key(id));
        by_number.or_else(|| view.named(text).map(|node| node.id)).ok_or_else(|| {
            let text: String = text.chars().take(64).collect();
            let mut there: Vec<String> =
                view.nodes.values().take(NAMED_MAX).map(|node| shown(node.id, Some(node))).collect();
            if view.nodes.len() > NAMED_MAX {
                there.push(format!("and {} more", view.nodes.len() - NAMED_MAX));
            }
            NotChanged::Wrong(format!("there is no node {text:?}; there are {}", there.join(", ")))
        })
    }
}

fn shown(id: NodeId, info: Option<&Arc<NodeInfo>>) -> String {
    info.map_or_else(|| id.0.to_string(), |info| format!("{} ({})", id.0, info.name))
}

fn told((node, call): (NodeId, HeldCall)) -> ActiveCall {
    let leg = |leg: question::HeldLeg| CallLeg {
        role: match leg.role {
            LegRole::Caller => "caller",
            LegRole::Callee => "callee",
            LegRole::Answerer => "answerer",
        },
        sip_call_id: leg.sip_call_id,
        endpoint: leg.endpoint,
    };
    ActiveCall {
        id: call.call.to_string(),
        brand: call.brand.get(),
        company: call.client.get(),
        caller: call.caller,
        callee: call.callee,
        dialled: call.dialled,
        started_us: call.started_us,
        answered_us: call.answered_us,
        node: node.0,
        epoch: call.epoch,
        legs: call.legs.into_iter().map(leg).collect(),
    }
}

fn now(state: question::NodeState) -> NodeNow {
    NodeNow {
        calls: state.calls,
        legs: state.legs,
        sessions: state.sessions,
        bindings: state.bindings,
        adopted_total: state.adopted_total,
        let_go_total: state.let_go_total,
        uptime: state.uptime,
        lease_certain: state.lease_certain,
        drain: state.drain.map(|drain| DrainState {
            left: Duration::from_millis(drain.left_ms.into()),
            done: drain.done,
            ending: drain.ending,
        }),
    }
}

/// Who owns how many of each kind; partitions of clients that nobody owns are counted, too.
fn owned(view: &View) -> Vec<(String, u16, u32)> {
    let mut counts: BTreeMap<(Kind, NodeId), u32> = BTreeMap::new();
    for ((kind, _), owner) in &view.owners {
        *counts.entry((*kind, owner.node)).or_default() += 1;
    }
    let clients = view.owners.keys().filter(|(kind, _)| *kind == Kind::CLIENTS).count();
    let left = u32::from(PARTITIONS).saturating_sub(u32::try_from(clients).unwrap_or(u32::MAX));
    let mut owned: Vec<(String, u16, u32)> =
        counts.into_iter().map(|((kind, node), count)| (kind.to_string(), node.0, count)).collect();
    if left > 0 {
        owned.push((Kind::CLIENTS.to_string(), 0, left));
    }
    owned
}

fn node_told(
    info: &NodeInfo,
    me: NodeId,
    links: &BTreeSet<NodeId>,
    answer: Option<Option<Answer>>,
) -> ClusterNode {
    ClusterNode {
        id: info.id.0,
        name: info.name.clone(),
        roles: info.roles.iter().map(|role| role.name().to_owned()).collect(),
        zone: info.zone.clone(),
        capacity: info.capacity,
        peer: info.peer.clone(),
        sip: info.sip.clone(),
        media: info.media.iter().map(ToString::to_string).collect(),
        release: info.release.clone(),
        protocol: info.protocol,
        since_ms: info.started_ms,
        draining: info.draining,
        calls: info.calls,
        here: info.id == me,
        in_reach: info.id == me || links.contains(&info.id),
        now: match answer {
            Some(Some(Answer::State(state))) => Some(now(state)),
            _ => None,
        },
    }
}

fn link_told(link: LinkStatus) -> NodeLink {
    NodeLink {
        node: link.node.0,
        way: link.way.name(),
        connected: link.connected,
        session: link.session,
        peer: (link.name, link.release, link.protocol),
        waiting: (link.waiting_items, link.waiting_octets),
        items: (link.counts.items_sent, link.counts.items_received),
        sessions: (link.counts.resumed, link.counts.lost),
        unread: link.unread,
        trouble: link.trouble.unwrap_or_default(),
    }
}

#[async_trait]
impl Outside for Living {
    async fn registrations(&self, user: &str, domain: &str) -> Vec<Registration> {
        let Some(aor) = self.endpoint(user, domain) else { return Vec::new() };
        let bindings = self.bindings(aor).into_iter();
        let told = bindings.map(|(node, binding)| Registration {
            received: if binding.nat { format!("sip:{}", binding.flow.remote) } else { String::new() },
            expires: Timestamp::from_second(binding.expires_at).unwrap_or(Timestamp::UNIX_EPOCH),
            user_agent: binding.user_agent,
            contact: binding.contact,
            node: node.0,
        });
        told.collect()
    }

    async fn carrier_server(&self, id: u32) -> Option<TrunkState> {
        let state = self.proxy.as_ref()?.trunks().server_state(Id::new(id));
        let known = (state != ServerState::Unknown).then_some(state == ServerState::Up);
        known.map(|up| TrunkState { up, in_progress: false, expires_in: None })
    }

    async fn provider_registration(&self, id: u32) -> Option<TrunkState> {
        let status = self.proxy.as_ref()?.trunks().registration(Id::new(id))?;
        let left = status.expires_at.map(|at| at.saturating_sub(unix_us() / 1_000_000).max(0));
        (status.state != RegistrationState::Elsewhere).then(|| TrunkState {
            up: status.state == RegistrationState::Registered,
            in_progress: status.in_progress,
            expires_in: left.and_then(|left| u32::try_from(left).ok()),
        })
    }

    async fn node(&self) -> Result<NodeState, NotHere> {
        let bindings = match (&self.others, &self.proxy) {
            (Some(others), _) => others.switchboard.locations(),
            (None, proxy) => proxy.as_ref().map_or(0, |proxy| proxy.stats().bindings),
        };
        let (calls, _) = self.asking.sum(Role::As, &Question::Count { brand: None, client: None }).await;
        Ok(NodeState { node: self.me.id.0, uptime: self.since.elapsed(), calls, bindings })
    }

    fn health(&self) -> Option<HealthReporter> {
        Some(self.health.reporter())
    }

    async fn log_filter(&self) -> Result<LogFilter, NotHere> {
        crate::logging::filter().ok_or_else(|| NotHere("this node writes no log".to_owned()))
    }

    async fn set_log_filter(
        &self,
        filter: Option<&str>,
        lasts: Option<Duration>,
    ) -> Result<LogFilter, NotChanged> {
        crate::logging::set_filter(filter, lasts)
    }

    async fn active_calls(&self, filter: &CallFilter) -> Result<FoundCalls, NotHere> {
        let some = |id: Option<u32>| id.filter(|id| *id != 0);
        let call = match &filter.id {
            None => None,
            Some(text) => match text.parse::<CallId>() {
                Ok(id) if id.to_string() == *text && id.node() != NodeId(0) => Some(id),
                Ok(_) | Err(_) => return Ok(FoundCalls::default()), // no call has such a name
            },
        };
        let of = question::CallsOf {
            brand: some(filter.brand).map(Id::new),
            client: some(filter.company).map(Id::new),
            call,
            text: filter.text.clone(),
        };
        Ok(self.found(self.asking.calls(of, filter.limit).await))
    }

    async fn hang_up(&self, call: &str) -> Result<bool, NotHere> {
        let Ok(id) = call.parse::<CallId>() else { return Ok(false) };
        let (ended, _) = self.asking.sum(Role::As, &Question::HangUp(id)).await;
        Ok(ended > 0)
    }

    async fn remove_registrations(
        &self,
        user: &str,
        domain: &str,
        contact: Option<&str>,
    ) -> Result<(usize, Vec<String>), NotHere> {
        let Some(aor) = self.endpoint(user, domain) else { return Ok((0, Vec::new())) };
        let question = Question::Unbind { aor, contact: contact.map(str::to_owned) };
        let (mut dropped, silent) = self.asking.sum(Role::Proxy, &question).await;
        if let Some(others) = self.others.as_ref().filter(|_| contact.is_none()) {
            // What proxies that are gone have left behind.
            let view = others.switchboard.view();
            let located = others.switchboard.located(aor);
            dropped += located.iter().filter(|located| !view.nodes.contains_key(&located.home)).count();
            others.switchboard.forget_elsewhere(aor, None, unix_us());
        }
        Ok((dropped, self.named(&silent)))
    }

    async fn calls(&self, of: CallsOf) -> CallCount {
        // Calls stay within a client here: none comes from outside or goes there.
        let id = |id: Option<u32>| id.filter(|id| *id != 0);
        let question =
            Question::Count { brand: id(of.brand).map(Id::new), client: id(of.company).map(Id::new) };
        let (internal, _) = self.asking.sum(Role::As, &question).await;
        CallCount { internal: u32::try_from(internal).unwrap_or(u32::MAX), ..CallCount::default() }
    }

    async fn simulate_call(
        &self,
        plan_group: u32,
        number: &str,
        seconds: u32,
    ) -> Result<Option<SimulatedCall>, NotHere> {
        let (number, now) = (number.to_owned(), Timestamp::now());
        self.by_rates(move |rates| simulating::by_plan(rates, plan_group, &number, seconds, now)).await
    }

    async fn simulate_route(&self, ask: &RouteAsk) -> Result<RouteTold, NotHere> {
        let ask = ask.clone();
        self.by_rates(move |rates| simulating::route(rates, &ask, rand::random::<u64>)).await
    }

    async fn simulate_rate(&self, ask: &RateAsk) -> Result<RateTold, NotHere> {
        let ask = ask.clone();
        self.by_rates(move |rates| simulating::rate(rates, &ask)).await
    }

    async fn nodes(&self) -> Result<Vec<ClusterNode>, NotHere> {
        let links = self.others.as_ref().and_then(|others| others.peers.upgrade());
        let links = links.map(|peers| peers.links()).unwrap_or_default();
        let is_up = |link: &&LinkStatus| link.way == Way::Directory && link.connected && link.session;
        let links: BTreeSet<NodeId> = links.iter().filter(is_up).map(|link| link.node).collect();
        let view = self.view();
        let all = view.nodes.keys().copied().collect();
        let mut answers = self.asking.ask_each(all, &Question::State).await;
        let told = |info: &Arc<NodeInfo>| node_told(info, self.me.id, &links, answers.remove(&info.id));
        Ok(view.nodes.values().map(told).collect())
    }

    async fn owners(&self, company: Option<u32>) -> Result<Owners, NotHere> {
        let Some(others) = &self.others else {
            return Err(NotHere("this node stands alone and owns everything".to_owned()));
        };
        let view = others.switchboard.view();
        let partition = company.map(|id| {
            let key = Claim::client(Id::new(id), 0).partition.into();
            let owner = view.owner(Kind::CLIENTS, key);
            (key, owner.map_or(0, |owner| owner.node.0), owner.map_or(0, |owner| owner.fence.0))
        });
        Ok(Owners { owned: owned(&view), partition })
    }

    async fn links(&self) -> Result<Vec<NodeLink>, NotHere> {
        let peers = self.others.as_ref().and_then(|others| others.peers.upgrade());
        Ok(peers.map(|peers| peers.links()).unwrap_or_default().into_iter().map(link_told).collect())
    }

    async fn drain(&self, node: &str, undo: bool) -> Result<(u16, String, NodeNow), NotChanged> {
        let id = self.node_of(node)?;
        let shown = self.named(&[id]).concat();
        let name = self.view().node(id).map_or_else(|| self.me.name.clone(), |info| info.name.clone());
        match self.asking.ask(id, Question::Drain { undo }).await {
            Some(Answer::State(state)) => Ok((id.0, name, now(state))),
            Some(Answer::Refused(why)) => Err(NotChanged::Wrong(format!("node {shown}: {why}"))),
            _ => Err(NotChanged::Wrong(format!(
                "node {shown} does not answer this one; ask it at its own machine, with --data"
            ))),
        }
    }

    async fn node_now(&self, node: u16) -> Option<NodeNow> {
        match self.asking.ask(NodeId(node), Question::State).await {
            Some(Answer::State(state)) => Some(now(state)),
            _ => None,
        }
    }

    async fn events(&self) -> Result<mpsc::Receiver<ClusterEvent>, NotHere> {
        let Some(others) = &self.others else {
            return Err(NotHere("this node stands alone: nothing happens to others".to_owned()));
        };
        Ok(crate::news::tell(Arc::clone(&self.asking), others.membership.watch()))
    }
}
