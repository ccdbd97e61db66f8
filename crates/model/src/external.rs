//! What a client is told of a call that left it or came to it from outside (manual, chapter 9.6.2 "External calls").
//!
//! Plain data, part of the call's record. It holds what was decided when the call was placed, so that whoever reads it later, after any
//! crash, comes to the same price. Elsewhere: making it (`appserver`), what a duration costs by a tariff (`rating`).

use crate::E164;
use crate::entities::{
    Brand, Carrier, CarrierServer, Company as Client, Currency, Ddi, DdiProvider, Destination,
    RatingPlanGroup, RoutingTag,
};
use crate::id::Id;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Longest X-Tag that is kept, in characters.
pub const X_TAG_MAX: usize = 32;

/// A call as one client sees it. One between two clients of the platform has two of these: it leaves one and comes to the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalCall {
    /// Whether the client made the call or received it.
    pub direction: CallDirection,
    /// The client's brand.
    pub brand: Id<Brand>,
    /// The client.
    pub client: Id<Client>,
    /// The caller's number as it is shown; nothing where it is withheld or no number.
    pub caller: Option<E164>,
    /// The called number.
    pub callee: E164,
    /// The client's number in the call: the one that is shown, or the one that is called. Wholesale clients have none.
    pub ddi: Option<Id<Ddi>>,
    /// What of the client calls or is called; nothing for wholesale clients and services.
    pub endpoint: Option<CallEndpoint>,
    /// Who carried it; nothing where it stays on the platform, or came to no carrier.
    pub trunk: Option<Trunk>,
    /// Call-ID of the trunk's dialog (RFC 3261 section 20.8); that of the caller's where there is no trunk.
    pub sip_call_id: String,
    /// The routing tag that was dialled.
    pub tag: Option<Id<RoutingTag>>,
    /// What it costs the client. None: nobody bills it.
    pub price: Option<Tariff>,
    /// What it costs the brand by its carrier. None: nobody works it out.
    pub cost: Option<Tariff>,
    /// What a peer wrote into the header X-Tag of the INVITE or of its 2xx, [`X_TAG_MAX`] characters at most.
    pub x_tag: Option<String>,
    /// The carriers that were tried, in order; the last one of those that answered is `trunk`.
    pub attempts: Vec<CarrierAttempt>,
}

/// Which way a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallDirection {
    /// The client made it.
    Outbound,
    /// The client received it.
    Inbound,
}

/// An endpoint of a client, as it was at the time of the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallEndpoint {
    /// What it is.
    pub kind: EndpointKind,
    /// Its id among those of its kind.
    pub id: u32,
    /// Its name; a user's extension.
    pub name: String,
}

/// Kinds of endpoints that calls belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndpointKind {
    /// A user of a virtual PBX.
    User,
    /// A friend of a virtual PBX.
    Friend,
    /// A residential device.
    ResidentialDevice,
    /// A retail account.
    RetailAccount,
    /// A virtual fax.
    Fax,
}

/// Who carried a call to or from the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trunk {
    /// It left by a carrier.
    Carrier {
        /// The carrier.
        carrier: Id<Carrier>,
        /// Which server of it.
        server: Id<CarrierServer>,
    },
    /// It came by a DDI provider.
    DdiProvider(Id<DdiProvider>),
}

/// A carrier that a call was given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarrierAttempt {
    /// The carrier.
    pub carrier: Id<Carrier>,
    /// Which server of it.
    pub server: Id<CarrierServer>,
    /// How it ended: the status of its final answer (RFC 3261 section 21), 200 where it answered the call, 408 where it said nothing; 0
    /// while it is not known.
    pub status: u16,
}

/// A rate that a call was placed by, with where it comes from. What a call costs is a matter of this and of how long it lasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tariff {
    /// Charged when the call is answered.
    #[serde(with = "rust_decimal::serde::str")]
    pub connect_fee: Decimal,
    /// For each minute.
    #[serde(with = "rust_decimal::serde::str")]
    pub per_minute: Decimal,
    /// Seconds at the beginning that no minutes are charged for.
    pub interval_start: u32,
    /// Length of a charge period in seconds; what was begun is charged.
    pub charge_period: u32,
    /// The connection fee is not added, but the least that a call costs (manual 9.4.2, "Deductible connection fee").
    pub minimal_cost: bool,
    /// The currency of it all.
    pub currency: Id<Currency>,
    /// The rating plan.
    pub plan: Id<RatingPlanGroup>,
    /// The destination.
    pub destination: Id<Destination>,
}
