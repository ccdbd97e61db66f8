//! What the API asks of the living system and of parts that are served elsewhere: calls, registrations, rating, documents.
//!
//! Traits with the honest answer of a system where that part is not there. Elsewhere: who implements them.

use crate::storage::Storage;
use async_trait::async_trait;
use rust_decimal::Decimal;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic_health::server::HealthReporter;

/// A part of the system does not do this: HTTP 501 with the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotHere(pub String);

/// A contact that an endpoint registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The contact's URI.
    pub contact: String,
    /// Where requests came from: a URI, or empty.
    pub received: String,
    /// When it expires.
    pub expires: jiff::Timestamp,
    /// What the device says that it is.
    pub user_agent: String,
    /// The node that it registered with.
    pub node: u16,
}

/// Whose calls are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallsOf {
    /// Of this brand.
    pub brand: Option<u32>,
    /// Of this client.
    pub company: Option<u32>,
}

/// Calls that go on now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCount {
    /// Calls from outside.
    pub inbound: u32,
    /// Calls to the outside.
    pub outbound: u32,
    /// Calls that stay within a client.
    pub internal: u32,
}

impl CallCount {
    /// All of them.
    pub fn total(self) -> u32 {
        self.inbound.saturating_add(self.outbound).saturating_add(self.internal)
    }
}

/// The state of a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrunkState {
    /// It is registered or answers.
    pub up: bool,
    /// It is registering just now.
    pub in_progress: bool,
    /// How long the registration lasts yet, in seconds.
    pub expires_in: Option<u32>,
}

/// A price that a simulated call has.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedCall {
    /// Seconds.
    pub duration: u32,
    /// The prefix by which the destination was found.
    pub prefix: String,
    /// The destination's id.
    pub destination: Option<u32>,
    /// The whole cost.
    pub cost: Decimal,
    /// The rate for each unit.
    pub rate: Decimal,
    /// Seconds for which a rate is charged at once.
    pub increment: u32,
    /// Seconds of a unit.
    pub unit: u32,
    /// What the connection costs.
    pub connect_fee: Decimal,
    /// The second of the call from which the rate holds.
    pub interval_start: u32,
    /// The moment for which the call was rated.
    pub at: jiff::Timestamp,
}

/// What of a client would call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimulatedCaller {
    /// A user of a virtual PBX.
    User(u32),
    /// A friend of a virtual PBX.
    Friend(u32),
    /// A residential device.
    ResidentialDevice(u32),
    /// A retail account.
    RetailAccount(u32),
    /// A virtual fax.
    Fax(u32),
    /// A wholesale client itself.
    Wholesale,
}

/// A call that might be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteAsk {
    /// The client.
    pub company: u32,
    /// What of it calls.
    pub caller: SimulatedCaller,
    /// What is dialled, as the endpoint would dial it.
    pub number: String,
    /// The number that the endpoint would tell as its own.
    pub presented: Option<String>,
    /// When.
    pub at: jiff::Timestamp,
    /// How long it would be talked, in seconds.
    pub seconds: u32,
}

/// What would happen to a call, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTold {
    /// It would be placed.
    pub placed: bool,
    /// What was decided, in words.
    pub decision: String,
    /// The SIP status that the caller would get; none: it is placed.
    pub status: Option<u16>,
    /// Each step of the decision, in words: forms of numbers, patterns, routes, and who was left out and why.
    pub steps: Vec<String>,
    /// The called number in E.164; none: it stays within the client, or is none.
    pub called: Option<String>,
    /// The number that would be shown.
    pub shown: Option<String>,
    /// The client's DDI with that number.
    pub ddi: Option<u32>,
    /// The routing tag that was dialled.
    pub routing_tag: Option<u32>,
    /// The carriers in the order in which they would be tried. Where weights draw lots, another call may have another order.
    pub carriers: Vec<CarrierTold>,
    /// What the client would pay.
    pub price: Option<Amount>,
    /// Why there is no price.
    pub no_price: Option<String>,
}

/// A carrier that would be tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CarrierTold {
    /// The carrier.
    pub carrier: u32,
    /// Its name.
    pub name: String,
    /// The outgoing route.
    pub outgoing_routing: u32,
    /// The route's priority.
    pub priority: u16,
    /// The called number as it would get it.
    pub called: Option<String>,
    /// The number that is shown as it would get it.
    pub caller: Option<String>,
    /// Why it would get none.
    pub trouble: Option<String>,
    /// What it would charge the brand.
    pub cost: Option<Amount>,
    /// Why there is no cost.
    pub no_cost: Option<String>,
}

/// An amount, and the rate that it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Amount {
    /// How much, with four decimals.
    pub amount: String,
    /// The currency's ISO code.
    pub currency: String,
    /// The prefix by which the destination was found.
    pub prefix: String,
    /// The destination's name.
    pub destination: String,
    /// The rating plan.
    pub rating_plan_group: u32,
    /// Its name.
    pub rating_plan_name: String,
    /// For being connected.
    pub connect_fee: String,
    /// For a minute.
    pub per_minute: String,
    /// Seconds that are charged at once.
    pub charge_period: u32,
    /// Seconds at the beginning that no minutes are charged for.
    pub interval_start: u32,
    /// The connection's price is the least that a call costs, and not added.
    pub minimal_cost: bool,
}

/// Whose price of a call is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateOf {
    /// What a client pays.
    Client(u32),
    /// What a carrier charges.
    Carrier(u32),
    /// What it is by a rating plan.
    Plan(u32),
}

/// A call that might be rated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateAsk {
    /// Whose price.
    pub of: RateOf,
    /// The called number in E.164.
    pub number: String,
    /// The routing tag that is dialled.
    pub routing_tag: Option<u32>,
    /// When it begins.
    pub at: jiff::Timestamp,
    /// How long it would be talked, in seconds.
    pub seconds: u32,
}

/// What a call would cost, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateTold {
    /// Each step, in words.
    pub steps: Vec<String>,
    /// The price.
    pub price: Option<Amount>,
    /// Why there is none.
    pub no_price: Option<String>,
}

/// A call that goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActiveCall {
    /// Its name, as in call records.
    pub id: String,
    /// The brand.
    pub brand: u32,
    /// The client.
    pub company: u32,
    /// The caller's number and name.
    pub caller: (String, String),
    /// Number and name of who is called.
    pub callee: (String, String),
    /// What was dialled.
    pub dialled: String,
    /// When it began, in Unix microseconds.
    pub started_us: i64,
    /// When it was answered; none: it rings.
    pub answered_us: Option<i64>,
    /// The node that serves it.
    pub node: u16,
    /// How often it has changed its node.
    pub epoch: u32,
    /// Its legs; only where one call was asked for.
    pub legs: Vec<CallLeg>,
}

/// A leg of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallLeg {
    /// "caller", "callee" or "answerer".
    pub role: &'static str,
    /// Call-ID of its dialog.
    pub sip_call_id: String,
    /// Its address.
    pub endpoint: String,
}

/// Which calls: all conditions hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallFilter {
    /// Of this brand.
    pub brand: Option<u32>,
    /// Of this client.
    pub company: Option<u32>,
    /// The one of this name, with its legs.
    pub id: Option<String>,
    /// This stands in a number, a name, or an address; empty: anything does.
    pub text: String,
    /// So many at most, the oldest.
    pub limit: usize,
}

/// Calls that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundCalls {
    /// They, the oldest first.
    pub calls: Vec<ActiveCall>,
    /// How many there are in all.
    pub total: usize,
    /// Nodes that did not answer.
    pub silent: Vec<String>,
}

/// How a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// Its number.
    pub node: u16,
    /// How long it runs.
    pub uptime: Duration,
    /// Calls that go on.
    pub calls: usize,
    /// Contacts that are registered.
    pub bindings: usize,
}

/// How a node of a cluster is at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeNow {
    /// Calls that it serves.
    pub calls: u32,
    /// Legs of its proxy.
    pub legs: u32,
    /// Sessions of its relay.
    pub sessions: u32,
    /// Contacts that are registered with it.
    pub bindings: u32,
    /// Calls taken over from other nodes since it started.
    pub adopted_total: u64,
    /// Calls given or lost to other nodes since it started.
    pub let_go_total: u64,
    /// Seconds since it started.
    pub uptime: u64,
    /// It knows that its lease stands.
    pub lease_certain: bool,
    /// It lets go of all it has.
    pub drain: Option<DrainState>,
}

/// How far a node has come with letting go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainState {
    /// Until it waits no more.
    pub left: Duration,
    /// Nothing is left that would end with it.
    pub done: bool,
    /// It ends then.
    pub ending: bool,
}

/// A node of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterNode {
    /// Its number.
    pub id: u16,
    /// For people.
    pub name: String,
    /// What it does.
    pub roles: Vec<String>,
    /// Where it stands.
    pub zone: String,
    /// Its weight.
    pub capacity: u32,
    /// Where other nodes reach it.
    pub peer: String,
    /// Where telephones reach it.
    pub sip: Vec<String>,
    /// Where media go.
    pub media: Vec<String>,
    /// The version of the program.
    pub release: String,
    /// The first and the last protocol that it speaks.
    pub protocol: (u16, u16),
    /// When it started, in Unix milliseconds.
    pub since_ms: u64,
    /// Nothing new goes there.
    pub draining: bool,
    /// Calls, as it told last.
    pub calls: u32,
    /// It is the asked node.
    pub here: bool,
    /// The asked node has a connection to it.
    pub in_reach: bool,
    /// What it answers; none: it does not.
    pub now: Option<NodeNow>,
}

/// Who owns what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// Kind, node (0: nobody), how many.
    pub owned: Vec<(String, u16, u32)>,
    /// The partition of the client that was asked for: its number, its owner (0: nobody), the owner's fence.
    pub partition: Option<(u32, u16, u64)>,
}

/// A link of the asked node to another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeLink {
    /// The other node.
    pub node: u16,
    /// What it is at this link.
    pub way: &'static str,
    /// There is a connection.
    pub connected: bool,
    /// There is a session.
    pub session: bool,
    /// As it introduced itself: name, release, protocol.
    pub peer: (String, String, u32),
    /// Items and octets that wait.
    pub waiting: (usize, usize),
    /// Items sent and received.
    pub items: (u64, u64),
    /// Sessions that went on by another connection, and that were lost.
    pub sessions: (u64, u64),
    /// Items that were dropped.
    pub unread: u64,
    /// Why there is no connection.
    pub trouble: String,
}

/// Something that happened to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterEvent {
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// To which node.
    pub node: u16,
    /// Its name.
    pub name: String,
    /// What.
    pub deed: ClusterDeed,
}

/// What happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterDeed {
    /// It is there; so begins each stream.
    There,
    /// It came.
    Came,
    /// It left.
    Left,
    /// It is another process.
    Restarted,
    /// It drains.
    Drains,
    /// It has drained.
    Drained,
    /// It takes new things.
    Ready,
    /// It took over so many calls.
    Adopted(u64),
    /// It let go of so many calls.
    LetGo(u64),
    /// It does not answer.
    Silent,
    /// It answers again.
    Answers,
}

/// What a node's log has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// What is logged now.
    pub filter: String,
    /// What the configuration says.
    pub configured: String,
    /// How long it lasts until it is the configured one again; none: until somebody changes it, or the node starts anew.
    pub lasts: Option<Duration>,
}

/// Why something was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotChanged {
    /// There is no such thing here.
    #[error(transparent)]
    NotHere(#[from] NotHere),
    /// It cannot be this; the text says what to do.
    #[error("{0}")]
    Wrong(String),
}

/// Which template of a telephone model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// The one of all telephones of the model.
    Generic,
    /// The one of a single telephone.
    Specific,
}

const ALONE: &str = "this node is none of a cluster; the section [cluster] of its configuration makes it one";

/// Who is asked. Each method's default is the answer of a system without that part.
#[async_trait]
pub trait Outside: Send + Sync {
    /// Contacts of an endpoint: user and domain of its address of record.
    async fn registrations(&self, _user: &str, _domain: &str) -> Vec<Registration> {
        Vec::new()
    }

    /// How many of these addresses of record, user and domain, have a contact now.
    async fn count_registered(&self, addresses: &[(String, String)]) -> usize {
        let mut count = 0;
        for (user, domain) in addresses {
            count += usize::from(!self.registrations(user, domain).await.is_empty());
        }
        count
    }

    /// How many calls go on.
    async fn calls(&self, _of: CallsOf) -> CallCount {
        CallCount::default()
    }

    /// How this node is.
    async fn node(&self) -> Result<NodeState, NotHere> {
        Err(NotHere("this node serves no telephones".to_owned()))
    }

    /// Who knows whether this node may get calls, for gRPC's health; none: it may.
    fn health(&self) -> Option<HealthReporter> {
        None
    }

    /// What is logged.
    async fn log_filter(&self) -> Result<LogFilter, NotHere> {
        Err(NotHere("what is logged cannot be asked here".to_owned()))
    }

    /// Logs this from now on; none: what the configuration says. After `lasts` it is what the configuration says again.
    async fn set_log_filter(
        &self,
        _filter: Option<&str>,
        _lasts: Option<Duration>,
    ) -> Result<LogFilter, NotChanged> {
        Err(NotHere("what is logged cannot be changed here".to_owned()).into())
    }

    /// The calls that go on.
    async fn active_calls(&self, _filter: &CallFilter) -> Result<FoundCalls, NotHere> {
        Err(NotHere("this node has no calls".to_owned()))
    }

    /// Ends a call; false: there is none of this name.
    async fn hang_up(&self, _call: &str) -> Result<bool, NotHere> {
        Err(NotHere("this node has no calls".to_owned()))
    }

    /// Drops the contacts of an endpoint: user and domain of its address of record. `contact`: only the one with this URI. Out:
    /// how many there were, and nodes that did not answer.
    async fn remove_registrations(
        &self,
        _user: &str,
        _domain: &str,
        _contact: Option<&str>,
    ) -> Result<(usize, Vec<String>), NotHere> {
        Err(NotHere("nobody registers with this node".to_owned()))
    }

    /// The nodes of the cluster.
    async fn nodes(&self) -> Result<Vec<ClusterNode>, NotHere> {
        Err(NotHere(ALONE.to_owned()))
    }

    /// Who owns what; with the partition of a client.
    async fn owners(&self, _company: Option<u32>) -> Result<Owners, NotHere> {
        Err(NotHere(ALONE.to_owned()))
    }

    /// The links of this node.
    async fn links(&self) -> Result<Vec<NodeLink>, NotHere> {
        Err(NotHere(ALONE.to_owned()))
    }

    /// Lets a node drain, or undoes it; empty: this node. Out: its number, its name, and how it is, as soon as it has begun.
    async fn drain(&self, _node: &str, _undo: bool) -> Result<(u16, String, NodeNow), NotChanged> {
        Err(NotHere(ALONE.to_owned()).into())
    }

    /// How a node is; none: it does not answer.
    async fn node_now(&self, _node: u16) -> Option<NodeNow> {
        None
    }

    /// What happens to nodes from now on, until the receiver is dropped.
    async fn events(&self) -> Result<mpsc::Receiver<ClusterEvent>, NotHere> {
        Err(NotHere(ALONE.to_owned()))
    }

    /// Whether a carrier's server answers; none: nobody knows.
    async fn carrier_server(&self, _id: u32) -> Option<TrunkState> {
        None
    }

    /// Whether a registration with a DDI provider holds; none: nobody knows.
    async fn provider_registration(&self, _id: u32) -> Option<TrunkState> {
        None
    }

    /// What a call of this many seconds to this number costs by a rating plan group; none: it has no price there.
    async fn simulate_call(
        &self,
        _plan_group: u32,
        _number: &str,
        _seconds: u32,
    ) -> Result<Option<SimulatedCall>, NotHere> {
        Err(NotHere("calls are not rated here yet".to_owned()))
    }

    /// What would happen to a call that an endpoint makes.
    async fn simulate_route(&self, _ask: &RouteAsk) -> Result<RouteTold, NotHere> {
        Err(NotHere("calls are not routed here".to_owned()))
    }

    /// What a call would cost.
    async fn simulate_rate(&self, _ask: &RateAsk) -> Result<RateTold, NotHere> {
        Err(NotHere("calls are not rated here".to_owned()))
    }

    /// Rates calls anew.
    async fn rerate(&self, _calls: &[u32]) -> Result<(), NotHere> {
        Err(NotHere("calls are not rated here yet".to_owned()))
    }

    /// Makes a PDF of an invoice template.
    async fn invoice_preview(&self, _template: u32) -> Result<Vec<u8>, NotHere> {
        Err(NotHere("invoices are not rendered here yet".to_owned()))
    }

    /// The template of a telephone model's configuration that the system brings along; none: it brings none.
    async fn default_template(&self, _model: &str, _template: Template) -> Result<Option<String>, NotHere> {
        Err(NotHere("no templates for telephones come with this system".to_owned()))
    }

    /// What a telephone model's template becomes: the specific one for this terminal, or the generic one.
    async fn fill_template(&self, _model: u32, _terminal: Option<u32>) -> Result<String, NotHere> {
        Err(NotHere("telephones are not provisioned from here yet".to_owned()))
    }

    /// Whether faxes are sent from here: new ones are waiting to be.
    async fn sends_faxes(&self) -> Result<(), NotHere> {
        Err(NotHere("faxes are not sent from here yet".to_owned()))
    }

    /// Whether invoices are made here: new ones are waiting to be.
    async fn makes_invoices(&self) -> Result<(), NotHere> {
        Err(NotHere("invoices are not made here yet".to_owned()))
    }

    /// Takes on sending a fax; it is marked as pending when this was taken on.
    async fn send_fax(&self, _fax: u32) -> Result<(), NotHere> {
        Err(NotHere("faxes are not sent from here yet".to_owned()))
    }

    /// Takes on making an invoice anew; it is marked as waiting when this was taken on.
    async fn make_invoice(&self, _invoice: u32) -> Result<(), NotHere> {
        Err(NotHere("invoices are not made here yet".to_owned()))
    }
}

/// A system in which all those parts are missing.
#[derive(Debug)]
pub struct Alone;

impl Outside for Alone {}

/// What the API is given besides the configuration.
#[derive(Clone)]
pub struct Surroundings {
    /// Who is asked about the living system.
    pub outside: Arc<dyn Outside>,
    /// Where uploaded files are kept.
    pub storage: Arc<Storage>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("storage", &self.storage).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_within_a_client_are_part_of_the_total_alone() {
        let count = CallCount { inbound: 1, outbound: 2, internal: 4 };
        assert_eq!(count.total(), 7);
        assert_eq!(CallCount { internal: u32::MAX, ..count }.total(), u32::MAX);
    }
}
