//! The nodes of a cluster over gRPC: whom they are told of, how a drain is followed, what events come.
//!
//! Nodes that answer are doubles here; real ones are asked in the system's own tests.

use crate::grpc::operation;
use crate::world::{ACCOUNTS, RESTRICTED, Server, run, sample};
use api::outside::{
    Alone, ClusterDeed, ClusterEvent, ClusterNode, DrainState, NodeLink, NodeNow, NotChanged, NotHere,
    Outside, Owners,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use proto::v1;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Code;

/// Two nodes, one of which drains when it is told to.
#[derive(Default)]
struct Nodes {
    /// What the node answers from now on, the next first; the last one for ever.
    states: Mutex<Vec<Option<NodeNow>>>,
    events: Mutex<Option<mpsc::Sender<ClusterEvent>>>,
}

fn draining(calls: u32, left: u64, done: bool) -> Option<NodeNow> {
    let drain = DrainState { left: Duration::from_secs(left), done, ending: false };
    Some(NodeNow { calls, drain: Some(drain), ..NodeNow::default() })
}

#[async_trait]
impl Outside for Nodes {
    async fn nodes(&self) -> Result<Vec<ClusterNode>, NotHere> {
        let node = |id: u16, now| ClusterNode { id, name: format!("n{id}"), now, ..ClusterNode::default() };
        Ok(vec![node(1, draining(2, 5, false)), node(2, None)])
    }

    async fn owners(&self, company: Option<u32>) -> Result<Owners, NotHere> {
        let partition = company.map(|company| (company % 256, 2, 77));
        Ok(Owners { owned: vec![("clients".to_owned(), 1, 200), ("clients".to_owned(), 0, 56)], partition })
    }

    async fn links(&self) -> Result<Vec<NodeLink>, NotHere> {
        Ok(vec![NodeLink { node: 2, way: "legs", waiting: (3, 99), ..NodeLink::default() }])
    }

    async fn drain(&self, node: &str, undo: bool) -> Result<(u16, String, NodeNow), NotChanged> {
        match (node, undo) {
            ("n1", false) => Ok((1, "n1".to_owned(), draining(2, 5, false).unwrap_or_default())),
            ("n1", true) => Ok((1, "n1".to_owned(), NodeNow::default())),
            _ => Err(NotChanged::Wrong("there is no such node; there are 1 (n1)".to_owned())),
        }
    }

    async fn node_now(&self, _: u16) -> Option<NodeNow> {
        let mut states = self.states.lock();
        if states.len() > 1 { states.remove(0) } else { states.first().copied().flatten() }
    }

    async fn events(&self) -> Result<mpsc::Receiver<ClusterEvent>, NotHere> {
        let (teller, told) = mpsc::channel(4);
        *self.events.lock() = Some(teller);
        Ok(told)
    }
}

fn served() -> (Arc<Nodes>, Server) {
    let nodes = Arc::new(Nodes::default());
    let server = Server::beside(sample(), Arc::clone(&nodes) as _);
    (nodes, server)
}

#[test]
fn nodes_are_for_those_who_run_the_platform_alone() {
    run(async {
        let (_, server) = served();
        let mut platform = operation(&server, &ACCOUNTS[0]);
        let nodes = platform.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner().nodes;
        assert_eq!((nodes.len(), nodes[0].name.as_str()), (2, "n1"));
        let drain = nodes[0].now.as_ref().and_then(|now| now.drain.as_ref()).unwrap();
        assert_eq!((drain.seconds_left, drain.done, drain.over), (5, false, false));
        assert!(nodes[1].now.is_none(), "it does not answer");
        let owners = platform.list_owners(v1::ListOwnersRequest { company: 3 }).await.unwrap().into_inner();
        let owned: Vec<(u32, u32)> = owners.owned.iter().map(|owned| (owned.node, owned.count)).collect();
        assert_eq!(owned, [(1, 200), (0, 56)]);
        let partition = owners.partition.unwrap();
        assert_eq!((partition.number, partition.node, partition.fence), (3, 2, 77));
        let links = platform.list_links(v1::ListLinksRequest {}).await.unwrap().into_inner().links;
        assert_eq!((links[0].node, links[0].way.as_str(), links[0].waiting_items), (2, "legs", 3));
        for account in [ACCOUNTS[1], ACCOUNTS[2], ACCOUNTS[6], RESTRICTED[0]] {
            let mut other = operation(&server, &account);
            let codes = [
                other.list_nodes(v1::ListNodesRequest {}).await.err().map(|error| error.code()),
                other.list_owners(v1::ListOwnersRequest::default()).await.err().map(|error| error.code()),
                other.list_links(v1::ListLinksRequest {}).await.err().map(|error| error.code()),
                other.drain(v1::DrainRequest::default()).await.err().map(|error| error.code()),
                other.watch_cluster(v1::WatchClusterRequest {}).await.err().map(|error| error.code()),
            ];
            assert_eq!(codes, [Some(Code::PermissionDenied); 5], "{account:?}");
        }
        let alone = Server::beside(sample(), Arc::new(Alone));
        let error = operation(&alone, &ACCOUNTS[0]).list_nodes(v1::ListNodesRequest {}).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented);
        assert!(error.message().contains("[cluster]"), "{error}");
    });
}

async fn followed(server: &Server, undo: bool) -> (Vec<v1::DrainResponse>, Option<tonic::Status>) {
    let request = v1::DrainRequest { node: "n1".to_owned(), undo };
    let mut stream = operation(server, &ACCOUNTS[0]).drain(request).await.expect("it drains").into_inner();
    let mut told = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(one)) => told.push(one),
            Ok(None) => return (told, None),
            Err(error) => return (told, Some(error)),
        }
    }
}

fn calls(told: &[v1::DrainResponse]) -> Vec<u32> {
    told.iter().map(|one| one.now.as_ref().map_or(0, |now| now.calls)).collect()
}

#[test]
fn a_drain_is_followed_until_nothing_is_left_or_its_time_is_over() {
    run(async {
        let (nodes, server) = served();
        *nodes.states.lock() = vec![draining(1, 4, false), None, draining(0, 3, true)];
        let (told, error) = followed(&server, false).await;
        assert_eq!((calls(&told), error.map(|error| error.code())), (vec![2, 1, 0], None), "silent once");
        assert!(told[2].now.as_ref().and_then(|now| now.drain.as_ref()).is_some_and(|drain| drain.done));

        *nodes.states.lock() = vec![draining(1, 0, false)];
        let (told, error) = followed(&server, false).await;
        assert_eq!((calls(&told), error.map(|error| error.code())), (vec![2, 1], None));
        let drain = told[1].now.as_ref().and_then(|now| now.drain.as_ref());
        assert!(drain.is_some_and(|drain| drain.over && !drain.done));

        *nodes.states.lock() = vec![Some(NodeNow::default())];
        let (_, error) = followed(&server, false).await;
        assert_eq!(error.map(|error| error.code()), Some(Code::Aborted), "somebody has undone it");
        *nodes.states.lock() = vec![None];
        let (_, error) = followed(&server, false).await;
        assert_eq!(error.map(|error| error.code()), Some(Code::Unavailable));
        let (told, error) = followed(&server, true).await;
        assert_eq!((told.len(), error.map(|error| error.code())), (1, None));

        let request = v1::DrainRequest { node: "x".to_owned(), undo: false };
        let error = operation(&server, &ACCOUNTS[0]).drain(request).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains("there are 1 (n1)"), "{error}");
    });
}

#[test]
fn events_come_as_they_happen_and_count_with_other_streams() {
    run(async {
        let (nodes, server) = served();
        let mut platform = operation(&server, &ACCOUNTS[0]);
        let mut stream = platform.watch_cluster(v1::WatchClusterRequest {}).await.unwrap().into_inner();
        let teller = nodes.events.lock().take().unwrap();
        for deed in [ClusterDeed::Came, ClusterDeed::Adopted(7)] {
            let event = ClusterEvent { at_ms: 5, node: 2, name: "n2".to_owned(), deed };
            teller.send(event).await.unwrap();
        }
        let one = stream.message().await.unwrap().unwrap();
        assert_eq!((one.node, one.deed(), one.count), (2, v1::ClusterDeed::Came, 0));
        let two = stream.message().await.unwrap().unwrap();
        assert_eq!((two.deed(), two.count), (v1::ClusterDeed::Adopted, 7));
        drop(teller);
        assert!(stream.message().await.unwrap().is_none(), "the node ends");
        drop(stream);
        let mut streams = Vec::new();
        for _ in 0..8 {
            streams.push(platform.watch_cluster(v1::WatchClusterRequest {}).await.unwrap());
        }
        let error = platform.watch_cluster(v1::WatchClusterRequest {}).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
        drop(streams);
        let teller = nodes.events.lock().take().unwrap();
        teller.closed().await; // whoever does not listen any more costs nothing
    });
}
