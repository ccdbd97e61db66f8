//! `carillon ctl nodes`, `owners`, `links`, `drain`, `events`: the nodes of a cluster.
//!
//! Elsewhere: what happens on them (`operate`), reaching a node (`reach`), who may (crate `api`, room `grpc::cluster`).

use super::operate::{moment, seconds};
use super::reach::{Reach, operation, refused};
use super::rows::plain;
use crate::node::StartError;
use crate::tell;
use proto::v1;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// What `nodes` takes.
#[derive(clap::Args)]
pub(crate) struct Nodes {
    #[command(flatten)]
    reach: Reach,
}

/// What `owners` takes.
#[derive(clap::Args)]
pub(crate) struct Owners {
    /// The id of a client: whose its partition is.
    #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
    client: u32,
    #[command(flatten)]
    reach: Reach,
}

/// What `links` takes.
#[derive(clap::Args)]
pub(crate) struct Links {
    #[command(flatten)]
    reach: Reach,
}

/// What `drain` takes.
#[derive(clap::Args)]
pub(crate) struct Drain {
    /// Number or name of the node; the asked one without it.
    node: Option<String>,
    /// Let it take new things again. What has gone elsewhere stays there.
    #[arg(long, conflicts_with = "timeout")]
    undo: bool,
    /// Wait no longer than this, 90s or 10m; it drains on. Without it: until its own time is over (`cluster.drain_seconds`).
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    timeout: Option<u64>,
    #[command(flatten)]
    reach: Reach,
}

/// What `events` takes.
#[derive(clap::Args)]
pub(crate) struct Events {
    #[command(flatten)]
    reach: Reach,
}

/// Prints the nodes.
pub(crate) async fn nodes(data: Option<&Path>, nodes: Nodes) -> Result<(), StartError> {
    let mut client = operation(data, &nodes.reach).await?;
    let answer = client.list_nodes(v1::ListNodesRequest {}).await.map_err(|status| refused(&status))?;
    let head = [
        "NODE",
        "NAME",
        "ROLES",
        "ZONE",
        "CAPACITY",
        "STATE",
        "CALLS",
        "LEGS",
        "MEDIA",
        "BINDINGS",
        "RELEASE",
        "SINCE",
        "ADDRESSES",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for node in answer.into_inner().nodes {
        let count = |of: fn(&v1::NodeNow) -> u32| {
            node.now.as_ref().map_or_else(|| "?".to_owned(), |now| of(now).to_string())
        };
        let addresses: Vec<&str> = std::iter::once(node.peer.as_str())
            .chain(node.sip.iter().map(String::as_str))
            .chain(node.media.iter().map(String::as_str))
            .filter(|address| !address.is_empty())
            .collect();
        rows.push(vec![
            format!("{}{}", node.id, if node.here { "*" } else { "" }),
            node.name.clone(),
            node.roles.join(","),
            node.zone.clone(),
            node.capacity.to_string(),
            state(&node),
            node.now.as_ref().map_or_else(|| node.calls.to_string(), |now| now.calls.to_string()),
            count(|now| now.legs),
            count(|now| now.sessions),
            count(|now| now.bindings),
            format!("{} ({}-{})", node.release, node.protocol_min, node.protocol_max),
            moment(i64::try_from(node.since_ms).unwrap_or(i64::MAX)),
            addresses.join(" "),
        ]);
    }
    print(&rows);
    Ok(())
}

fn state(node: &v1::ClusterNode) -> String {
    let drain = node.now.as_ref().and_then(|now| now.drain.as_ref());
    let mut words = vec![match drain {
        Some(drain) if drain.done => "drained",
        Some(_) => "drains",
        None if node.draining => "drains",
        None => "ready",
    }];
    match &node.now {
        None if node.in_reach => words.push("does not answer"),
        None => words.push("out of reach"),
        Some(now) if !now.lease_certain => words.push("lease in doubt"),
        Some(_) => {}
    }
    words.join(", ")
}

/// Prints who owns what.
pub(crate) async fn owners(data: Option<&Path>, owners: Owners) -> Result<(), StartError> {
    let mut client = operation(data, &owners.reach).await?;
    let request = v1::ListOwnersRequest { company: owners.client };
    let answer = client.list_owners(request).await.map_err(|status| refused(&status))?.into_inner();
    let shown = |node: u32| if node == 0 { "nobody".to_owned() } else { format!("node {node}") };
    if let Some(v1::Partition { number, node, fence }) = answer.partition {
        tell(&format!("client {}: partition {number}, {}, fence {fence}", owners.client, shown(node)));
        return Ok(());
    }
    let mut rows = vec![["KIND", "OWNER", "COUNT"].map(str::to_owned).to_vec()];
    rows.extend(
        answer.owned.into_iter().map(|owned| vec![owned.kind, shown(owned.node), owned.count.to_string()]),
    );
    print(&rows);
    Ok(())
}

/// Prints links.
pub(crate) async fn links(data: Option<&Path>, links: Links) -> Result<(), StartError> {
    let mut client = operation(data, &links.reach).await?;
    let answer = client.list_links(v1::ListLinksRequest {}).await.map_err(|status| refused(&status))?;
    let head = [
        "NODE", "NAME", "WAY", "STATE", "PROTOCOL", "WAITING", "SENT", "RECEIVED", "RESUMED", "LOST",
        "TROUBLE",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for link in answer.into_inner().links {
        let state = match (link.connected, link.session) {
            (true, true) => "up",
            (true, false) => "connected",
            (false, true) => "down",
            (false, false) => "lost",
        };
        rows.push(vec![
            link.node.to_string(),
            link.name,
            link.way,
            state.to_owned(),
            link.protocol.to_string(),
            format!("{} ({} B)", link.waiting_items, link.waiting_octets),
            link.items_sent.to_string(),
            link.items_received.to_string(),
            link.resumed.to_string(),
            link.lost.to_string(),
            link.trouble,
        ]);
    }
    print(&rows);
    Ok(())
}

/// Lets a node drain, and waits; out: whether anything is left.
pub(crate) async fn drain(data: Option<&Path>, drain: Drain) -> Result<bool, StartError> {
    let mut client = operation(data, &drain.reach).await?;
    let request = v1::DrainRequest { node: drain.node.unwrap_or_default(), undo: drain.undo };
    let answer = client.drain(request).await.map_err(|status| refused(&status))?;
    let mut progress = answer.into_inner();
    let until = drain.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut last: Option<v1::DrainResponse> = None;
    loop {
        let told = async {
            match until {
                Some(until) => tokio::time::timeout_at(until, progress.message()).await.ok(),
                None => Some(progress.message().await),
            }
        };
        match told.await {
            Some(Ok(Some(told))) => {
                let line = how_far(&told);
                if last.as_ref().map(how_far).as_ref() != Some(&line) {
                    tell(&line);
                }
                last = Some(told);
            }
            Some(Ok(None)) => break,
            // Whoever was told to stop is gone when it has drained.
            Some(Err(_)) if last.as_ref().is_some_and(ends) => {
                tell("the node has ended");
                break;
            }
            Some(Err(status)) => return Err(refused(&status)),
            None => {
                tell("it drains on; nobody waits for it");
                break;
            }
        }
    }
    let state = last.and_then(|last| last.now).and_then(|now| now.drain);
    Ok(state.is_some_and(|drain| !drain.done))
}

fn ends(told: &v1::DrainResponse) -> bool {
    told.now.as_ref().and_then(|now| now.drain.as_ref()).is_some_and(|drain| drain.ending)
}

fn how_far(told: &v1::DrainResponse) -> String {
    let who = format!("node {} ({})", told.node, plain(&told.name));
    let now = told.now.unwrap_or_default();
    let many = |count: u32, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let left =
        [many(now.calls, "call"), many(now.legs, "leg"), many(now.sessions, "media session")].join(", ");
    match now.drain {
        None => format!("{who} takes new calls"),
        Some(drain) if drain.done => format!("{who} is drained: nothing is left"),
        Some(drain) if drain.over => format!("{who}: the time is over; left are {left}"),
        Some(_) => format!("{who} drains: {left}"),
    }
}

/// Prints events until the end.
pub(crate) async fn events(data: Option<&Path>, events: Events) -> Result<(), StartError> {
    let mut client = operation(data, &events.reach).await?;
    let answer = client.watch_cluster(v1::WatchClusterRequest {}).await;
    let mut stream = answer.map_err(|status| refused(&status))?.into_inner();
    let mut ending = crate::Ending::listen()?;
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            () = ending.comes() => return Ok(()),
        };
        let Some(event) = message.map_err(|status| refused(&status))? else {
            return Err(StartError("the node ended it".to_owned()));
        };
        tell(&happening(&event));
    }
}

fn happening(event: &v1::ClusterEvent) -> String {
    use v1::ClusterDeed as D;
    let deed = match event.deed() {
        D::There => "is there".to_owned(),
        D::Came => "came".to_owned(),
        D::Left => "left".to_owned(),
        D::Restarted => "was started again".to_owned(),
        D::Drains => "drains".to_owned(),
        D::Drained => "is drained".to_owned(),
        D::Ready => "takes new calls".to_owned(),
        D::Adopted => format!("carries on {} calls of others", event.count),
        D::LetGo => format!("has given {} calls to others", event.count),
        D::Silent => "does not answer".to_owned(),
        D::Answers => "answers again".to_owned(),
        D::Unspecified => "has news that this release does not know".to_owned(),
    };
    format!("{}  node {} ({}) {deed}", moment(event.at_ms), event.node, plain(&event.name))
}

/// Rows under a head, in columns; nothing in them is obeyed by a terminal.
fn print(rows: &[Vec<String>]) {
    tell(columns(rows).trim_end_matches('\n'));
}

fn columns(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let shown = |cell: &String| if cell.is_empty() { "-".to_owned() } else { plain(cell) };
            row.iter().map(shown).collect()
        })
        .collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &Vec<String>| {
        let padded: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_obey_nothing() {
        let rows = [["NODE", "NAME", "X"], ["1", "\u{1b}[2Jlong", ""], ["22", "b", "y"]];
        let text = columns(&rows.map(|row| row.map(str::to_owned).to_vec()));
        assert_eq!(text, "NODE  NAME      X\n1     \u{fffd}[2Jlong  -\n22    b         y\n");
    }

    #[test]
    fn a_drain_says_what_is_left_until_nothing_is_or_the_time_is_over() {
        let mut told = v1::DrainResponse {
            node: 3,
            name: "a".to_owned(),
            now: Some(v1::NodeNow { calls: 1, legs: 2, sessions: 0, ..v1::NodeNow::default() }),
        };
        assert_eq!(how_far(&told), "node 3 (a) takes new calls");
        let mut drain = v1::DrainState { seconds_left: 5, ..v1::DrainState::default() };
        told.now.as_mut().unwrap().drain = Some(drain);
        assert_eq!(how_far(&told), "node 3 (a) drains: 1 call, 2 legs, 0 media sessions");
        drain.over = true;
        told.now.as_mut().unwrap().drain = Some(drain);
        assert!(how_far(&told).ends_with("the time is over; left are 1 call, 2 legs, 0 media sessions"));
        told.now.as_mut().unwrap().drain = Some(v1::DrainState { done: true, ..drain });
        assert_eq!(how_far(&told), "node 3 (a) is drained: nothing is left");
    }

    #[test]
    fn a_node_that_does_not_answer_is_told_from_one_that_is_out_of_reach() {
        let mut node = v1::ClusterNode { in_reach: true, ..v1::ClusterNode::default() };
        assert_eq!(state(&node), "ready, does not answer");
        node.in_reach = false;
        node.draining = true;
        assert_eq!(state(&node), "drains, out of reach");
        node.now = Some(v1::NodeNow::default());
        assert_eq!(state(&node), "drains, lease in doubt");
    }
}
