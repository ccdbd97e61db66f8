//! The nodes of the cluster, over gRPC: who is there, who owns what, links, draining, and what happens to them.
//!
//! All of it is for the platform's administrators. Elsewhere: who knows (`outside`).

use super::operation::{for_the_platform, not_here};
use super::watch::RECHECK;
use super::{Asked, Service, wrong};
use crate::outside::{ClusterDeed, ClusterEvent, ClusterNode, NodeNow, NotChanged, Outside};
use crate::proof::Proof;
use crate::shares::Part;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use proto::v1;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Status;

/// How often it is told how far a drain has come.
const LOOK: Duration = Duration::from_millis(500);
/// A node that does not answer so often while it drains has ended, or is out of reach.
const SILENCES: u32 = 3;

pub(super) async fn nodes(asked: &Asked<'_>) -> Result<v1::ListNodesResponse, Status> {
    for_the_platform(asked, "nodes are")?;
    let nodes = asked.api.surroundings.outside.nodes().await.map_err(not_here)?;
    Ok(v1::ListNodesResponse { nodes: nodes.into_iter().map(node).collect() })
}

pub(super) async fn owners(asked: &Asked<'_>, company: u32) -> Result<v1::ListOwnersResponse, Status> {
    for_the_platform(asked, "owners are")?;
    let company = (company != 0).then_some(company);
    let owners = asked.api.surroundings.outside.owners(company).await.map_err(not_here)?;
    let owned = owners.owned.into_iter();
    let owned = owned.map(|(kind, node, count)| v1::Ownership { kind, node: node.into(), count });
    let partition =
        owners.partition.map(|(number, node, fence)| v1::Partition { number, node: node.into(), fence });
    Ok(v1::ListOwnersResponse { owned: owned.collect(), partition })
}

pub(super) async fn links(asked: &Asked<'_>) -> Result<v1::ListLinksResponse, Status> {
    for_the_platform(asked, "links are")?;
    let links = asked.api.surroundings.outside.links().await.map_err(not_here)?;
    let link = |link: crate::outside::NodeLink| v1::NodeLink {
        node: link.node.into(),
        way: link.way.to_owned(),
        connected: link.connected,
        session: link.session,
        name: link.peer.0,
        release: link.peer.1,
        protocol: link.peer.2,
        waiting_items: link.waiting.0 as u64,
        waiting_octets: link.waiting.1 as u64,
        items_sent: link.items.0,
        items_received: link.items.1,
        resumed: link.sessions.0,
        lost: link.sessions.1,
        unread: link.unread,
        trouble: link.trouble,
    };
    Ok(v1::ListLinksResponse { links: links.into_iter().map(link).collect() })
}

/// A drain that somebody follows.
struct Following {
    outside: Arc<dyn Outside>,
    node: u16,
    name: String,
    silences: u32,
}

pub(super) async fn drain(
    asked: &Asked<'_>,
    request: v1::DrainRequest,
) -> Result<BoxStream<'static, Result<v1::DrainResponse, Status>>, Status> {
    for_the_platform(asked, "draining is")?;
    let outside = Arc::clone(&asked.api.surroundings.outside);
    let begun = outside.drain(&request.node, request.undo).await.map_err(|error| match error {
        NotChanged::NotHere(part) => not_here(part),
        NotChanged::Wrong(remedy) => wrong("node", remedy),
    })?;
    let (node, name, state) = begun;
    let who = asked.identity.who();
    let undo = request.undo;
    tracing::info!(node, undo, level = who.level, name = who.name, "an administrator drains a node");
    let first = v1::DrainResponse { node: node.into(), name: name.clone(), now: Some(now(state)) };
    let following = (!undo && !is_over(state)).then_some(Following { outside, node, name, silences: 0 });
    let rest = stream::unfold(following, |following| async {
        let (told, following) = following?.next().await?;
        Some((told, following))
    });
    Ok(stream::once(std::future::ready(Ok(first))).chain(rest).boxed())
}

type Told = (Result<v1::DrainResponse, Status>, Option<Following>);

impl Following {
    async fn next(mut self) -> Option<Told> {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(state) = self.outside.node_now(self.node).await else {
                self.silences += 1;
                if self.silences < SILENCES {
                    continue;
                }
                let why = format!("node {} ({}) does not answer any more", self.node, self.name);
                return Some((Err(Status::unavailable(why)), None));
            };
            self.silences = 0;
            if state.drain.is_none() {
                let why = format!("node {} ({}): somebody has undone it", self.node, self.name);
                return Some((Err(Status::aborted(why)), None));
            }
            let told =
                v1::DrainResponse { node: self.node.into(), name: self.name.clone(), now: Some(now(state)) };
            return Some((Ok(told), (!is_over(state)).then_some(self)));
        }
    }
}

fn is_over(state: NodeNow) -> bool {
    state.drain.is_none_or(|drain| drain.done || drain.left.is_zero())
}

/// Events for one who watches.
struct Watching {
    service: Service,
    proof: Proof,
    events: mpsc::Receiver<ClusterEvent>,
    _place: Part,
}

pub(super) async fn watch(
    service: &Service,
    proof: Proof,
) -> Result<BoxStream<'static, Result<v1::ClusterEvent, Status>>, Status> {
    let asked = service.begin(&proof)?;
    for_the_platform(&asked, "events of nodes are")?;
    let place = service.api.watchers.place(asked.caller())?;
    let events = asked.api.surroundings.outside.events().await.map_err(not_here)?;
    let watching = Watching { service: service.clone(), proof, events, _place: place };
    Ok(stream::unfold(Some(watching), |watching| async {
        let mut watching = watching?;
        match watching.next().await {
            Ok(told) => Some((Ok(told?), Some(watching))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed())
}

impl Watching {
    /// The next event; none: the node ends.
    async fn next(&mut self) -> Result<Option<v1::ClusterEvent>, Status> {
        loop {
            match tokio::time::timeout(RECHECK, self.events.recv()).await {
                Ok(told) => {
                    self.check()?;
                    return Ok(told.map(event));
                }
                Err(_) => self.check()?,
            }
        }
    }

    /// Whether the caller is still who he was.
    fn check(&self) -> Result<(), Status> {
        let asked = self.service.begin(&self.proof)?;
        for_the_platform(&asked, "events of nodes are")
    }
}

fn event(event: ClusterEvent) -> v1::ClusterEvent {
    use v1::ClusterDeed as D;
    let (deed, count) = match event.deed {
        ClusterDeed::There => (D::There, 0),
        ClusterDeed::Came => (D::Came, 0),
        ClusterDeed::Left => (D::Left, 0),
        ClusterDeed::Restarted => (D::Restarted, 0),
        ClusterDeed::Drains => (D::Drains, 0),
        ClusterDeed::Drained => (D::Drained, 0),
        ClusterDeed::Ready => (D::Ready, 0),
        ClusterDeed::Adopted(count) => (D::Adopted, count),
        ClusterDeed::LetGo(count) => (D::LetGo, count),
        ClusterDeed::Silent => (D::Silent, 0),
        ClusterDeed::Answers => (D::Answers, 0),
    };
    let ClusterEvent { at_ms, node, name, .. } = event;
    v1::ClusterEvent { at_ms, node: node.into(), name, deed: deed.into(), count }
}

fn node(node: ClusterNode) -> v1::ClusterNode {
    v1::ClusterNode {
        id: node.id.into(),
        name: node.name,
        roles: node.roles,
        zone: node.zone,
        capacity: node.capacity,
        peer: node.peer,
        sip: node.sip,
        media: node.media,
        release: node.release,
        protocol_min: node.protocol.0.into(),
        protocol_max: node.protocol.1.into(),
        since_ms: node.since_ms,
        draining: node.draining,
        calls: node.calls,
        here: node.here,
        in_reach: node.in_reach,
        now: node.now.map(now),
    }
}

fn now(state: NodeNow) -> v1::NodeNow {
    v1::NodeNow {
        calls: state.calls,
        legs: state.legs,
        sessions: state.sessions,
        bindings: state.bindings,
        adopted_total: state.adopted_total,
        let_go_total: state.let_go_total,
        uptime: state.uptime,
        lease_certain: state.lease_certain,
        drain: state.drain.map(|drain| v1::DrainState {
            seconds_left: u32::try_from(drain.left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX),
            done: drain.done,
            over: !drain.done && drain.left.is_zero(),
            ending: drain.ending,
        }),
    }
}
