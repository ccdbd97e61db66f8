//! How two nodes introduce themselves, and why they may refuse each other.
//!
//! In and out: `Hello`, `Welcome`, `Refusal` of `peer.proto`, untrusted. Elsewhere: when they are said (`dial`, `serve`).

use super::PeerConfig;
use crate::wire;
use cluster::ids::NodeId;
use cluster::link::{Answer, Greeting};
use proto::v1;

/// The oldest protocol that this release speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// The newest protocol that this release speaks.
pub const PROTOCOL_MAX: u32 = 1;

/// Octets of a name or a release.
const NAME_MAX: usize = 64;
/// Octets of a cluster's id.
const CLUSTER_MAX: usize = 128;

/// Who is at the other end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PeerInfo {
    pub(super) node: u16,
    pub(super) name: String,
    pub(super) instance: u64,
    pub(super) release: String,
    pub(super) protocol: u32,
}

/// Why the other node is none that we deal with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct Refused {
    pub(super) reason: v1::RefusalReason,
    pub(super) text: String,
}

impl Refused {
    pub(super) fn new(reason: v1::RefusalReason, text: impl Into<String>) -> Refused {
        Refused { reason, text: text.into() }
    }

    pub(super) fn message(&self) -> v1::Refusal {
        v1::Refusal { reason: self.reason.into(), text: self.text.clone() }
    }

    /// As the other side said it.
    pub(super) fn heard(refusal: v1::Refusal) -> Refused {
        let reason = v1::RefusalReason::try_from(refusal.reason).unwrap_or_default();
        Refused { reason, text: format!("it refuses: {}", shown(&refusal.text, wire::WORDS_MAX)) }
    }

    /// The reason, for figures and for saying the same only once in a while.
    pub(super) fn name(&self) -> &'static str {
        self.reason.as_str_name()
    }
}

/// Words of others, cut and without control characters.
fn shown(text: &str, max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(max).collect()
}

/// The introduction of this node to the one that it dials.
pub(super) fn hello(config: &PeerConfig, to: NodeId, greeting: Greeting) -> v1::Hello {
    v1::Hello {
        cluster: config.cluster.clone(),
        node: config.node.0.into(),
        name: shown(&config.name, NAME_MAX / 4),
        instance: config.instance,
        release: shown(&config.release, NAME_MAX / 4),
        protocol_min: config.protocol.0,
        protocol_max: config.protocol.1,
        to_node: to.0.into(),
        resume: greeting.resume,
        fresh: greeting.fresh,
        received: greeting.received,
        attempt: greeting.attempt,
    }
}

/// The answer of this node to a dialler that it deals with.
pub(super) fn welcome(config: &PeerConfig, protocol: u32, answer: Answer) -> v1::Welcome {
    v1::Welcome {
        cluster: config.cluster.clone(),
        node: config.node.0.into(),
        name: shown(&config.name, NAME_MAX / 4),
        instance: config.instance,
        release: shown(&config.release, NAME_MAX / 4),
        protocol,
        session: answer.session,
        received: answer.received,
    }
}

/// Looks at a dialler: who it is and what it wants, or why we do not deal with it.
pub(super) fn check_hello(
    config: &PeerConfig,
    hello: &v1::Hello,
) -> Result<(NodeId, PeerInfo, Greeting), Refused> {
    use v1::RefusalReason as R;
    let malformed = |what: &str| Refused::new(R::Malformed, format!("its introduction has {what}"));
    let node = wire::node("Hello.node", hello.node)
        .map_err(|error| Refused::new(R::Malformed, error.to_string()))?;
    if hello.cluster.len() > CLUSTER_MAX || hello.name.len() > NAME_MAX || hello.release.len() > NAME_MAX {
        return Err(malformed("a name that is too long"));
    }
    if hello.instance == 0 || hello.fresh == 0 || hello.fresh == hello.resume {
        return Err(malformed("an instance or a session that cannot be"));
    }
    if hello.protocol_min > hello.protocol_max {
        return Err(malformed("a range of protocols that is empty"));
    }
    if hello.cluster != config.cluster {
        return Err(other_cluster(config, &hello.cluster));
    }
    let me = config.node.0;
    if hello.instance == config.instance {
        return Err(Refused::new(R::Self_, own()));
    }
    if node == config.node {
        let text = format!(
            "two nodes have the number {me}: {} and {}; give one of them another `node.id`",
            shown(&hello.name, NAME_MAX),
            config.name
        );
        return Err(Refused::new(R::Self_, text));
    }
    if hello.to_node != u32::from(me) {
        let text = format!(
            "node {} was meant, and this is node {me}: see `cluster.advertise` of both",
            hello.to_node
        );
        return Err(Refused::new(R::Node, text));
    }
    let protocol = config.protocol.1.min(hello.protocol_max);
    if protocol < config.protocol.0.max(hello.protocol_min) {
        let text = format!(
            "no common protocol: node {node} speaks {} to {} (release {}), node {me} speaks {} to {} (release {}); upgrade the older one",
            hello.protocol_min,
            hello.protocol_max,
            shown(&hello.release, NAME_MAX),
            config.protocol.0,
            config.protocol.1,
            config.release,
            node = node.0,
        );
        return Err(Refused::new(R::Protocol, text));
    }
    let info = PeerInfo {
        node: node.0,
        name: shown(&hello.name, NAME_MAX),
        instance: hello.instance,
        release: shown(&hello.release, NAME_MAX),
        protocol,
    };
    let greeting = Greeting {
        resume: hello.resume,
        fresh: hello.fresh,
        received: hello.received,
        attempt: hello.attempt,
    };
    Ok((node, info, greeting))
}

/// Looks at the answer of the node that we dialled.
pub(super) fn check_welcome(
    config: &PeerConfig,
    to: NodeId,
    welcome: &v1::Welcome,
) -> Result<(PeerInfo, Answer), Refused> {
    use v1::RefusalReason as R;
    if welcome.cluster != config.cluster {
        return Err(other_cluster(config, &welcome.cluster));
    }
    if welcome.instance == config.instance {
        return Err(Refused::new(R::Self_, own()));
    }
    if welcome.node != u32::from(to.0) {
        let text = format!("node {} was meant, and node {} answers", to.0, welcome.node);
        return Err(Refused::new(R::Node, text));
    }
    if !(config.protocol.0..=config.protocol.1).contains(&welcome.protocol) {
        return Err(Refused::new(R::Protocol, format!("it chose protocol {}", welcome.protocol)));
    }
    if welcome.instance == 0 || welcome.name.len() > NAME_MAX || welcome.release.len() > NAME_MAX {
        return Err(Refused::new(R::Malformed, "its introduction is malformed"));
    }
    let info = PeerInfo {
        node: to.0,
        name: shown(&welcome.name, NAME_MAX),
        instance: welcome.instance,
        release: shown(&welcome.release, NAME_MAX),
        protocol: welcome.protocol,
    };
    Ok((info, Answer { session: welcome.session, received: welcome.received }))
}

fn other_cluster(config: &PeerConfig, other: &str) -> Refused {
    let text = format!(
        "it is of cluster {}, and this is cluster {}: see `cluster.etcd` and `cluster.prefix` of both",
        shown(other, CLUSTER_MAX),
        config.cluster
    );
    Refused::new(v1::RefusalReason::Cluster, text)
}

fn own() -> String {
    "this node dialled itself: another node's `cluster.advertise` is its address".to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::PeerRoles;
    use super::*;

    fn config(node: u16, protocol: (u32, u32)) -> PeerConfig {
        let config = PeerConfig::new("here", NodeId(node), u64::from(node), PeerRoles::default());
        PeerConfig { protocol, release: format!("0.{node}"), name: format!("n{node}"), ..config }
    }

    fn greeting() -> Greeting {
        Greeting { resume: 3, fresh: 4, received: 5, attempt: 6 }
    }

    fn ask(dialler: &PeerConfig, dialled: &PeerConfig, to: u16) -> Result<PeerInfo, Refused> {
        check_hello(dialled, &hello(dialler, NodeId(to), greeting())).map(|(node, info, said)| {
            assert_eq!((node, said), (dialler.node, greeting()));
            info
        })
    }

    #[test]
    fn the_largest_common_protocol_is_chosen() {
        for (one, other, chosen) in [((1, 3), (2, 5), 3), ((4, 4), (1, 9), 4), ((2, 9), (1, 2), 2)] {
            assert_eq!(ask(&config(1, one), &config(2, other), 2).unwrap().protocol, chosen);
        }
    }

    #[test]
    fn without_a_common_protocol_both_are_named() {
        let refused = ask(&config(1, (1, 2)), &config(2, (3, 4)), 2).unwrap_err();
        assert_eq!(refused.reason, v1::RefusalReason::Protocol);
        assert_eq!(
            refused.text,
            "no common protocol: node 1 speaks 1 to 2 (release 0.1), node 2 speaks 3 to 4 (release 0.2); upgrade the older one"
        );
    }

    #[test]
    fn strangers_wrong_nodes_and_oneself_are_refused_by_name() {
        let here = config(2, (1, 1));
        let dialler = config(1, (1, 1));
        let elsewhere = PeerConfig { cluster: "there".into(), ..dialler.clone() };
        assert_eq!(ask(&elsewhere, &here, 2).unwrap_err().reason, v1::RefusalReason::Cluster);
        assert_eq!(ask(&dialler, &here, 3).unwrap_err().reason, v1::RefusalReason::Node);
        assert_eq!(ask(&here, &here, 2).unwrap_err().reason, v1::RefusalReason::Self_);
        let twin = PeerConfig { instance: 99, ..here.clone() };
        let refused = ask(&twin, &here, 2).unwrap_err();
        assert_eq!(refused.reason, v1::RefusalReason::Self_);
        assert!(refused.text.contains("`node.id`"), "{refused}");
    }

    #[test]
    fn introductions_that_cannot_be_are_refused() {
        let (dialler, here) = (config(1, (1, 1)), config(2, (1, 1)));
        let good = hello(&dialler, NodeId(2), greeting());
        let evil: [fn(&mut v1::Hello); 9] = [
            |hello| hello.node = 0,
            |hello| hello.node = 65_537,
            |hello| hello.instance = 0,
            |hello| hello.fresh = 0,
            |hello| hello.fresh = hello.resume,
            |hello| hello.protocol_min = 2,
            |hello| hello.name = "x".repeat(65),
            |hello| hello.release = "x".repeat(65),
            |hello| hello.cluster = "x".repeat(10_000),
        ];
        for (at, change) in evil.into_iter().enumerate() {
            let mut hello = good.clone();
            change(&mut hello);
            assert_eq!(check_hello(&here, &hello).unwrap_err().reason, v1::RefusalReason::Malformed, "{at}");
        }
    }

    #[test]
    fn an_answer_is_looked_at_too() {
        let (dialler, here) = (config(1, (1, 2)), config(2, (1, 2)));
        let good = welcome(&here, 2, Answer { session: 4, received: 0 });
        assert_eq!(check_welcome(&dialler, NodeId(2), &good).unwrap().0.release, "0.2");
        type Change = fn(&mut v1::Welcome);
        let evil: [(Change, v1::RefusalReason); 5] = [
            (|welcome| welcome.cluster = "there".into(), v1::RefusalReason::Cluster),
            (|welcome| welcome.node = 3, v1::RefusalReason::Node),
            (|welcome| welcome.instance = 1, v1::RefusalReason::Self_),
            (|welcome| welcome.protocol = 3, v1::RefusalReason::Protocol),
            (|welcome| welcome.instance = 0, v1::RefusalReason::Malformed),
        ];
        for (change, reason) in evil {
            let mut welcome = good.clone();
            change(&mut welcome);
            assert_eq!(check_welcome(&dialler, NodeId(2), &welcome).unwrap_err().reason, reason);
        }
    }
}
