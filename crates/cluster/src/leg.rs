//! What proxy and application server tell each other about legs.
//!
//! Up: a leg arrived ([`Incoming`]), then [`LegEvent`]s. Down: [`Originate`], then [`LegCommand`]s. Nothing of SIP's
//! messages crosses but session descriptions and the headers that a call passes through.

use crate::between::{LegNames, Title, ToCalls, ToLegs};
use crate::ids::{CallId, LegId, NodeId};
use bytes::Bytes;
use model::entities::{CarrierServer, Ddi, DdiProvider};
use model::{Aor, Brand, Client, E164, Id, User};
use sip::draft::HeaderText;
use sip::flow::Flow;
use std::net::SocketAddr;

pub use sip::session::{Command as LegCommand, Event as LegEvent};

/// An INVITE whose sender is known: a leg exists and waits for the call's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The call that shall own the leg; named by the proxy.
    pub call: CallId,
    /// The leg.
    pub leg: LegId,
    /// The brand of the client.
    pub brand: Id<Brand>,
    /// The client whose call it is: that of the endpoint, or that of the DDI.
    pub client: Id<Client>,
    /// Who calls.
    pub origin: Origin,
    /// What the request says of its caller.
    pub caller: Presented,
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

/// Where a call comes from, and how its sender is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An endpoint of the client: it has shown its password, or speaks from the address that it is known by.
    Endpoint {
        /// Which one.
        aor: Aor,
        /// The user who sits there.
        user: Option<Id<User>>,
    },
    /// The wholesale client itself, known by its address (manual, chapter 9.1.4).
    Wholesale,
    /// A DDI provider, known by its address and by what it calls (manual, chapter 9.6.3).
    Ddi {
        /// The DDI that is called.
        ddi: Id<Ddi>,
        /// Who brings the call.
        provider: Id<DdiProvider>,
        /// The called number.
        called: E164,
        /// The caller's number; nothing where it is withheld or no number.
        caller: Option<E164>,
    },
}

impl Origin {
    /// The endpoint, if it is one.
    pub fn aor(&self) -> Option<Aor> {
        match self {
            Self::Endpoint { aor, .. } => Some(*aor),
            Self::Wholesale | Self::Ddi { .. } => None,
        }
    }
}

/// What a request says of who calls, and for whom he was called. Whoever reads it decides what of it to believe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presented {
    /// The caller's number as it came: the user part of P-Asserted-Identity, else P-Preferred-Identity, else Remote-Party-ID, else From.
    pub number: Option<String>,
    /// His name (CNAM), of the same header.
    pub name: String,
    /// He does not want to be shown (RFC 3323 section 4.2, RFC 3325 section 9.3, Remote-Party-ID with privacy, an anonymous From).
    pub is_private: bool,
    /// Who diverted the call, the last one first (RFC 5806 section 3.2).
    pub diversions: Vec<Diversion>,
    /// Whose account pays: the user part of P-Charge-Info.
    pub charge: Option<String>,
    /// X-Tag, for the call record.
    pub x_tag: Option<String>,
}

/// One diversion of a call (RFC 5806).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diversion {
    /// Who diverted it: the user part of the header's address.
    pub number: String,
    /// Why: a token such as `unconditional`, `user-busy`, `no-answer`; may be empty.
    pub reason: String,
}

/// Diversions that a call carries; the oldest beyond are forgotten.
pub const DIVERSIONS_MAX: usize = 8;

/// A new leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Originate {
    /// The call that owns it.
    pub call: CallId,
    /// The proxy that shall have it: of a binding the one that it was registered at.
    pub home: NodeId,
    /// Who is called.
    pub to: Callee,
    /// Caller's display name as shown to the callee.
    pub caller_name: String,
    /// Caller's number as shown to the callee, in the callee's form; empty: there is none to show.
    pub caller_number: String,
    /// The caller does not want to be shown: callees outside of the platform's trust learn nothing of him, carriers are asked to keep it
    /// from others (RFC 3323, RFC 3325).
    pub is_private: bool,
    /// The number that was called, in the callee's form: user part of To, and of the Request-URI where the callee is no binding.
    pub called_number: String,
    /// Domain of the called client: host part of From, To and P-Asserted-Identity. Of a carrier's server that of the platform's side.
    pub domain: String,
    /// Who diverted the call, the last one first, in the callee's form.
    pub diversions: Vec<Diversion>,
    /// Whose account pays, for P-Charge-Info.
    pub charge: Option<String>,
    /// Session description to offer; `None` lets the callee offer.
    pub offer: Option<Bytes>,
    /// Headers passed through from the caller.
    pub headers: HeaderText,
    /// Hops left for the new INVITE.
    pub max_forwards: u8,
}

impl Originate {
    /// An order that shows nothing of the caller and offers nothing yet; 70 hops are left.
    pub fn new(call: CallId, home: NodeId, to: Callee) -> Self {
        Self {
            call,
            home,
            to,
            caller_name: String::new(),
            caller_number: String::new(),
            is_private: false,
            called_number: String::new(),
            domain: String::new(),
            diversions: Vec::new(),
            charge: None,
            offer: None,
            headers: HeaderText::new(),
            max_forwards: 70,
        }
    }
}

/// Whom a leg goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callee {
    /// A registered contact.
    Binding {
        /// Whose it is.
        aor: Aor,
        /// The contact: Request-URI of the INVITE.
        target: String,
        /// Route set to the contact (Path of the binding, RFC 3327), outermost first.
        route: Vec<String>,
        /// The flow that it was registered on.
        flow: Flow,
    },
    /// An endpoint that is at the address of its row ("direct connectivity").
    Direct {
        /// Which one.
        aor: Aor,
    },
    /// A server of a carrier. The proxy knows where it is, from which socket, and by which password.
    Server {
        /// Which one.
        server: Id<CarrierServer>,
    },
}

impl Callee {
    /// The endpoint, if it is one.
    pub fn aor(&self) -> Option<Aor> {
        match self {
            Self::Binding { aor, .. } | Self::Direct { aor } => Some(*aor),
            Self::Server { .. } => None,
        }
    }
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
    fn bindings(&self, aor: Aor) -> Vec<Binding>;
}
