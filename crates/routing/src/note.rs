//! What a decision noted on its way, for people who ask why.
//!
//! In: what the rooms of this crate tell. Out: data, and a sentence for each. Elsewhere: who asks ([`crate::simulate`]).

use model::Id;
use model::entities::{
    Carrier, Ddi, OutgoingRouting, RoutingPattern, RoutingPatternGroup, RoutingTag, TransformationRule,
    TransformationRuleKind, TransformationRuleSet,
};
use std::fmt;

/// Where notes go. Calls pass `&mut ()`, and nothing is made.
pub trait Notes {
    /// Takes a note.
    fn add(&mut self, make: impl FnOnce() -> Note);
}

impl Notes for () {
    fn add(&mut self, _: impl FnOnce() -> Note) {}
}

impl Notes for Vec<Note> {
    fn add(&mut self, make: impl FnOnce() -> Note) {
        self.push(make());
    }
}

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The caller dialled a routing tag.
    Tag(Id<RoutingTag>),
    /// A number was looked at by the rules of a set.
    Transformed {
        /// Which rules of it.
        kind: TransformationRuleKind,
        /// The set; nothing where the party has none.
        set: Option<Id<TransformationRuleSet>>,
        /// The rule that fitted, if one did.
        rule: Option<Id<TransformationRule>>,
        /// The number.
        before: String,
        /// What became of it.
        after: String,
    },
    /// A rule whose expression cannot be read was passed over.
    BrokenRule {
        /// The rule.
        rule: Id<TransformationRule>,
    },
    /// The number that the call shows, and where it comes from.
    Shown {
        /// Where from.
        by: ShownBy,
        /// The client's DDI.
        ddi: Id<Ddi>,
    },
    /// The called number is one of the special numbers.
    Special,
    /// A routing pattern fits the called number.
    Pattern(Id<RoutingPattern>),
    /// A group has a pattern that fits.
    Group(Id<RoutingPatternGroup>),
    /// A route was selected (steps 1 to 4 of the selection).
    Selected {
        /// The route.
        route: Id<OutgoingRouting>,
        /// For what.
        by: Because,
        /// It applies to all clients, not to this one alone.
        to_all: bool,
    },
    /// A route was left out.
    RouteLeftOut {
        /// The route.
        route: Id<OutgoingRouting>,
        /// Why.
        why: RouteLeftOut,
    },
    /// A carrier of a selected route was left out.
    CarrierLeftOut {
        /// The route.
        route: Id<OutgoingRouting>,
        /// The carrier.
        carrier: Id<Carrier>,
        /// Why.
        why: CarrierLeftOut,
    },
}

/// Where the number comes from that an outgoing call shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownBy {
    /// The caller presented a DDI of the client.
    Caller,
    /// The fallback of the endpoint.
    Endpoint,
    /// The fallback of the client.
    Client,
    /// An outgoing DDI rule.
    Rule,
}

/// Why a route is a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// Its pattern fits.
    Pattern(Id<RoutingPattern>),
    /// A pattern of its group fits.
    Group(Id<RoutingPatternGroup>),
    /// It is for faxes, and this is one.
    Fax,
}

/// Why a route that fits the number is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteLeftOut {
    /// It is for another tag, or for none, or for one and none was dialled.
    Tag,
    /// A route with a lower priority number is a stopper.
    Stopped {
        /// That route.
        by: Id<OutgoingRouting>,
    },
    /// No carrier of it is left.
    NoCarrier,
    /// More routes fit than a call could ever try ([`crate::selection::ROUTES_MAX`]).
    TooMany,
}

/// Why a carrier of a selected route is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarrierLeftOut {
    /// It cannot say what five minutes to the number cost.
    NoCost,
    /// It has no server.
    NoServer,
    /// None of its servers answers.
    Silent,
    /// It does not exist, or belongs to another brand.
    Unknown,
}

impl fmt::Display for ShownBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "the caller presented it",
            Self::Endpoint => "the endpoint's outgoing DDI",
            Self::Client => "the client's outgoing DDI",
            Self::Rule => "the outgoing DDI rule",
        })
    }
}

impl fmt::Display for RouteLeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag => f.write_str("it is for another routing tag"),
            Self::Stopped { by } => write!(f, "route {by} is a stopper of a lower priority"),
            Self::NoCarrier => f.write_str("it has no carrier left"),
            Self::TooMany => f.write_str("too many routes fit"),
        }
    }
}

impl fmt::Display for CarrierLeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCost => "its rates have no cost for the number",
            Self::NoServer => "it has no server",
            Self::Silent => "none of its servers answers",
            Self::Unknown => "the brand has no such carrier",
        })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, "routing tag {tag}"),
            Self::Transformed { kind, set, rule, before, after } => {
                use model::define::Choice;
                let (kind, before, after) = (kind.name(), before.escape_debug(), after.escape_debug());
                match (set, rule) {
                    (_, Some(rule)) => write!(f, "{kind}: {before} becomes {after} by rule {rule}"),
                    (Some(set), None) => write!(f, "{kind}: {before} stays, no rule of set {set} fits it"),
                    (None, None) => write!(f, "{kind}: {before} stays, there is no transformation set"),
                }
            }
            Self::BrokenRule { rule } => {
                write!(f, "rule {rule} is passed over: its expression cannot be read")
            }
            Self::Shown { by, ddi } => write!(f, "shows DDI {ddi}: {by}"),
            Self::Special => f.write_str("a special number: no record, no rating"),
            Self::Pattern(pattern) => write!(f, "routing pattern {pattern} fits"),
            Self::Group(group) => write!(f, "routing pattern group {group} fits"),
            Self::Selected { route, by, to_all } => {
                let whose = if *to_all { "all clients" } else { "this client" };
                match by {
                    Because::Pattern(pattern) => write!(f, "route {route} of {whose} by pattern {pattern}"),
                    Because::Group(group) => write!(f, "route {route} of {whose} by group {group}"),
                    Because::Fax => write!(f, "route {route} of {whose} for faxes"),
                }
            }
            Self::RouteLeftOut { route, why } => write!(f, "route {route} is left out: {why}"),
            Self::CarrierLeftOut { route, carrier, why } => {
                write!(f, "carrier {carrier} of route {route} is left out: {why}")
            }
        }
    }
}
