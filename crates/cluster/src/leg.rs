//! What proxy and application server tell each other about legs.
//!
//! Up: a leg arrived ([`Incoming`]), then [`LegEvent`]s. Down: [`Originate`], then [`LegCommand`]s. Nothing of SIP's
//! messages crosses but session descriptions and the headers that a call passes through.

use crate::between::{LegNames, Title, ToCalls, ToLegs};
use crate::ids::{CallId, LegId, NodeId};
use bytes::Bytes;
use model::{Brand, Client, Id, Terminal, User};
use sip::draft::HeaderText;
use sip::flow::Flow;
use std::net::SocketAddr;

pub use sip::session::{Command as LegCommand, Event as LegEvent};

/// An authenticated INVITE of an endpoint: a leg exists and waits for the call's decision.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The call that shall own the leg; named by the proxy.
    pub call: CallId,
    /// The leg.
    pub leg: LegId,
    /// The brand of the endpoint.
    pub brand: Id<Brand>,
    /// The client of the endpoint.
    pub client: Id<Client>,
    /// The endpoint.
    pub terminal: Id<Terminal>,
    /// The user who sits there.
    pub user: Option<Id<User>>,
    /// What was dialled: the decoded user part of the Request-URI.
    pub dialed: String,
    /// The offer; `None` when the caller wants ours.
    pub offer: Option<Bytes>,
    /// Headers that the call passes on (Subject, Alert-Info, Call-Info, Priority, X-…).
    pub headers: HeaderText,
    /// The caller's SIP Call-ID, for the call record.
    pub sip_call_id: String,
    /// Whence it came.
    pub source: SocketAddr,
    /// Hops left, already reduced by this one (RFC 3261 section 16.6 step 3).
    pub max_forwards: u8,
}

/// A new leg to a binding.
#[derive(Clone, Debug)]
pub struct Originate {
    /// The call that owns it.
    pub call: CallId,
    /// The proxy that shall have it: the one that the contact was registered at.
    pub home: NodeId,
    /// The endpoint that is called.
    pub terminal: Id<Terminal>,
    /// The registered contact: Request-URI of the INVITE.
    pub target: String,
    /// Route set to the contact (Path of the binding, RFC 3327), outermost first.
    pub route: Vec<String>,
    /// The flow that the binding was registered on.
    pub flow: Flow,
    /// Caller's display name as shown to the callee.
    pub caller_name: String,
    /// Caller's number as shown to the callee.
    pub caller_number: String,
    /// The number that was called: user part of To.
    pub called_number: String,
    /// Domain of the called client: host part of From, To and P-Asserted-Identity.
    pub domain: String,
    /// Session description to offer; `None` lets the callee offer.
    pub offer: Option<Bytes>,
    /// Headers passed through from the caller.
    pub headers: HeaderText,
    /// Hops left for the new INVITE.
    pub max_forwards: u8,
}

/// A registered contact of an endpoint, as a call needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Request-URI to use.
    pub contact: String,
    /// Path vector, outermost first.
    pub path: Vec<String>,
    /// Where to send.
    pub flow: Flow,
    /// Preference in thousandths; higher first (RFC 3261 section 20.10).
    pub q: u16,
    /// Grows with each registration of the endpoint: the largest is the latest.
    pub newness: u64,
    /// The proxy that has the flow.
    pub home: NodeId,
}

/// The legs of a proxy, or of all proxies of a cluster.
pub trait Legs: Send + Sync + 'static {
    /// Makes a leg and sends its INVITE; events follow under the returned name. The second value is the SIP Call-ID of
    /// the new dialog, for the call record. `None`: the proxy cannot be reached.
    fn originate(&self, title: Title, order: Originate) -> Option<(LegId, String)>;
    /// Tells a leg, which lives at this proxy, what to do. A leg that is gone ignores it.
    fn command(&self, title: Title, home: NodeId, leg: LegId, command: LegCommand);
    /// Whether calls are to survive this node: whether there are others.
    fn is_cluster(&self) -> bool {
        false
    }
    /// Tells a custodian of a call what only a cluster needs to say. In one process nobody listens.
    fn tell(&self, _custodian: NodeId, _message: ToLegs) {}
    /// Tells another application server, as a custodian of its calls would. `false`: it is out of reach.
    fn tell_server(&self, _server: NodeId, _message: ToCalls) -> bool {
        false
    }
    /// Other application servers, which keep calls that no other node knows of; the best first.
    fn guards(&self, _client: Id<Client>, _call: CallId) -> Vec<NodeId> {
        Vec::new()
    }
    /// Other proxies for a leg whose own one is gone or leaves, the best first.
    fn proxies_instead(&self, _gone: NodeId, _leg: LegId) -> Vec<NodeId> {
        Vec::new()
    }
    /// The relay for a new media session of a client's call, near its caller; not this one.
    fn relay(
        &self,
        _client: Id<Client>,
        caller: LegId,
        _call: CallId,
        not: Option<NodeId>,
    ) -> Option<NodeId> {
        Some(caller.node()).filter(|node| Some(*node) != not)
    }
    /// Whether a node can be spoken to.
    fn can_reach(&self, _node: NodeId) -> bool {
        true
    }
    /// Whether a proxy is gone for good, its legs with it.
    fn is_gone(&self, _proxy: NodeId) -> bool {
        false
    }
    /// Whether a relay cannot be reached.
    fn relay_is_lost(&self, _relay: NodeId) -> bool {
        false
    }
}

/// The calls of an application server, or of all of a cluster.
pub trait Calls: Send + Sync + 'static {
    /// A leg arrived. `false`: no capacity or shutting down; the proxy answers 503.
    fn incoming(&self, incoming: Incoming) -> bool;
    /// Something happened on a leg of a call. A call that is gone ignores it.
    fn event(&self, call: CallId, leg: LegId, event: LegEvent);
    /// A leg's actor is gone without a word of its own (it crashed); its peer was told by the leg's last will.
    fn leg_lost(&self, call: CallId, leg: LegId);
    /// The serialized dialog of a leg that is at rest and has changed, for the case that its proxy is lost.
    fn leg_state(&self, _call: CallId, _leg: LegId, _state: Bytes) {}
    /// A request inside a dialog came to a proxy that does not have the leg. `true`: it is asked for, and [`LegHost::revive`]
    /// or [`LegHost::no_stray`] follows within some seconds.
    fn stray(&self, _call: CallId, _leg: LegId) -> bool {
        false
    }
    /// The proxy is about to leave, and the leg is at rest: it may go on at another proxy. [`LegHost::part`] follows when it does.
    fn leg_leaves(&self, _call: CallId, _leg: LegId) {}
    /// Whether a leg lives now that was to be revived.
    fn revived(&self, _call: CallId, _leg: LegId, _lives: bool) {}
}

/// The legs of one proxy, for those who name them and move them between proxies.
pub trait LegHost: Send + Sync + 'static {
    /// Makes a leg under a name that was set aside, with this Call-ID, and sends its INVITE.
    fn originate_as(&self, call: CallId, leg: LegId, sip_call_id: String, order: Originate);
    /// Tells a leg what to do.
    fn command(&self, leg: LegId, command: LegCommand);
    /// Carries on a leg from its serialized dialog; [`Calls::revived`] tells whether it lives.
    fn revive(&self, call: CallId, leg: LegId, state: Bytes);
    /// Forgets a leg without a word to its peer: it lives elsewhere now.
    fn part(&self, leg: LegId);
    /// Nobody has this leg: requests that wait for it are refused.
    fn no_stray(&self, leg: LegId);
    /// Sets so many names aside with each SIP worker.
    fn names(&self, count: u32) -> Vec<LegNames>;
}

/// Who is reachable where.
pub trait Directory: Send + Sync + 'static {
    /// The live bindings of an endpoint, best `q` first, the newest first among equals.
    fn bindings(&self, terminal: Id<Terminal>) -> Vec<Binding>;
}
