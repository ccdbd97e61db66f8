//! What proxy and application server tell each other about legs.
//!
//! Up: a leg arrived ([`Incoming`]), then [`LegEvent`]s. Down: [`Originate`], then [`LegCommand`]s. Nothing of SIP's
//! messages crosses but session descriptions and the headers that a call passes through.

use crate::ids::{CallId, LegId};
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
}

/// The legs of a proxy.
pub trait Legs: Send + Sync + 'static {
    /// Makes a leg and sends its INVITE; events follow under the returned name. The second value is the SIP Call-ID of
    /// the new dialog, for the call record.
    fn originate(&self, order: Originate) -> (LegId, String);
    /// Tells a leg what to do. A leg that is gone ignores it.
    fn command(&self, leg: LegId, command: LegCommand);
}

/// The calls of an application server.
pub trait Calls: Send + Sync + 'static {
    /// A leg arrived. `false`: no capacity or shutting down; the proxy answers 503.
    fn incoming(&self, incoming: Incoming) -> bool;
    /// Something happened on a leg of a call. A call that is gone ignores it.
    fn event(&self, call: CallId, leg: LegId, event: LegEvent);
    /// A leg's actor is gone without a word of its own (it crashed); its peer was told by the leg's last will.
    fn leg_lost(&self, call: CallId, leg: LegId);
}

/// Who is reachable where.
pub trait Directory: Send + Sync + 'static {
    /// The live bindings of an endpoint, best `q` first, the newest first among equals.
    fn bindings(&self, terminal: Id<Terminal>) -> Vec<Binding>;
}
