//! Calls that an endpoint of a client makes: what was dialled, whose number is shown, and which way it goes.
//!
//! Manual, chapters 9.1.1 to 9.1.4, 9.3.4, 9.7.2 and 10.1.7. In: the endpoint and the numbers as it sent them. Out: a decision as
//! data. Elsewhere: which carriers ([`crate::selection`]), what it costs (crate `rating`), who may call at all (the proxies).

use crate::Router;
use crate::endpoint::{Endpoint, Line};
use crate::incoming::{Incoming, IncomingRefusal};
use crate::note::{Note, Notes, ShownBy};
use crate::selection::{Facts, Selection, Wanted};
use crate::target::{NoTarget, Target};
use crate::transform::{NUMBER_MAX, NumberError};
use jiff::Timestamp;
use model::entities::{
    Company, CompanyKind, CompanyRelRoutingTag, Ddi, DdiKind, OutgoingRouting, RoutingTag,
    TransformationRuleKind as Kind,
};
use model::{E164, Id};

/// A call that begins at an endpoint of the platform.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Whose endpoint it is.
    pub client: Id<Company>,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What is called.
    pub dialled: Dialled<'a>,
    /// The caller's number as the endpoint tells it (P-Asserted-Identity, P-Preferred-Identity, Remote-Party-ID, or else
    /// From); nothing where it tells none.
    pub presented: Option<&'a str>,
    /// When.
    pub now: Timestamp,
}

/// What a call goes to.
#[derive(Clone, Copy, Debug)]
pub enum Dialled<'a> {
    /// As it was dialled, in the endpoint's form of numbers, its percent-encoding undone.
    Text(&'a str),
    /// A number that the configuration names, such as the target of an extension or a forwarding.
    Number {
        /// The number.
        number: E164,
        /// The tag that the call carries ([`Router::forwarding_tag`]).
        tag: Option<Id<RoutingTag>>,
    },
}

/// Which way a call goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It stays within the client's virtual PBX, or goes to one of its friends.
    Within(Target),
    /// It is an external one.
    Outgoing(Outgoing),
}

/// An external call.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// The called number.
    pub called: E164,
    /// The number that is shown. Only wholesale clients, whose numbers are not ours, may have none.
    pub shown: Option<E164>,
    /// The client's DDI with the number that is shown; nothing for wholesale clients.
    pub ddi: Option<Id<Ddi>>,
    /// The tag that was dialled.
    pub tag: Option<Id<RoutingTag>>,
    /// It is a fax, or comes from an endpoint that sends faxes.
    pub fax: bool,
    /// No record, no rating, no recording (manual, chapter 8.9.1).
    pub special: bool,
    /// Which way.
    pub way: Way,
}

/// Which way an external call goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// To a DDI of the platform: no carrier is asked.
    Inside(Incoming),
    /// By one of these carriers.
    Carriers(Selection),
}

/// Why a call is not placed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The client is not there.
    #[error("there is no client {0}")]
    NoClient(Id<Company>),
    /// The endpoint is not there, or is another client's.
    #[error("client {client} has no such endpoint")]
    NoEndpoint {
        /// The client.
        client: Id<Company>,
    },
    /// The number leads nowhere within the client.
    #[error("the dialled number leads nowhere: {0}")]
    NoTarget(NoTarget),
    /// The tag is unknown, or the client may not dial it.
    #[error("client {client} may not dial the routing tag {tag}; enable it in the client's routing tags")]
    Tag {
        /// The client.
        client: Id<Company>,
        /// The tag.
        tag: String,
    },
    /// What was dialled is no number.
    #[error("the dialled number: {0}")]
    Number(NumberError),
    /// What was dialled within a virtual PBX is nothing of it, nor a number.
    #[error("{} is no extension, no friend has it, and {why}", dialled.escape_debug())]
    NoExtension {
        /// What was dialled.
        dialled: String,
        /// Why it is no number.
        why: NumberError,
    },
    /// There is no number to show.
    #[error(
        "client {client} and the endpoint have no outgoing DDI, and the caller showed none of the client's; choose one in outgoingDdi"
    )]
    NoIdentity {
        /// The client.
        client: Id<Company>,
    },
    /// It is a DDI of the platform that cannot be reached.
    #[error(transparent)]
    Inside(#[from] IncomingRefusal),
    /// Today's calls have cost as much as they may (manual, chapter 12.6).
    #[error(
        "client {client} has reached maxDailyUsage; it makes no external calls until midnight, unless the limit is raised"
    )]
    DailyLimit {
        /// The client.
        client: Id<Company>,
    },
    /// No routing pattern of the brand fits.
    #[error("no routing pattern fits {called}; add one")]
    NoPattern {
        /// The number.
        called: E164,
    },
    /// No route is for it.
    #[error("no outgoing routing fits {called}{}; add one", match tag { Some(tag) => format!(" with routing tag {tag}"), None => String::new() })]
    NoRoute {
        /// The number.
        called: E164,
        /// The tag that was dialled.
        tag: Option<Id<RoutingTag>>,
    },
    /// A blocking route fits.
    #[error("outgoing routing {route} blocks the call")]
    Blocked {
        /// The route.
        route: Id<OutgoingRouting>,
    },
    /// No route that fits has a carrier for it.
    #[error(
        "no carrier of the routes that fit can take the call; give them servers and rates, or look why they do not answer"
    )]
    NoCarrier {
        /// One could, if it answered.
        silent: bool,
    },
}

impl Refusal {
    /// The status that the caller gets (RFC 3261 section 21).
    pub fn status(&self) -> u16 {
        match self {
            Self::NoClient(_) | Self::NoEndpoint { .. } | Self::Tag { .. } => 403,
            Self::NoIdentity { .. } | Self::Blocked { .. } | Self::DailyLimit { .. } => 403,
            Self::Number(NumberError::GaveUp { .. }) => 500,
            Self::Number(_) => 484,
            Self::NoExtension { .. } | Self::NoTarget(_) | Self::NoPattern { .. } | Self::NoRoute { .. } => {
                404
            }
            Self::Inside(refusal) => refusal.status().unwrap_or(404),
            Self::NoCarrier { silent: true } => 503,
            Self::NoCarrier { silent: false } => 404,
        }
    }
}

impl Router {
    /// Decides about a call.
    ///
    /// What it costs is told at the top of this crate.
    ///
    /// # Errors
    ///
    /// It is not placed, and why.
    pub fn route(
        &self,
        call: &Call<'_>,
        facts: &impl Facts,
        notes: &mut impl Notes,
    ) -> Result<Decision, Refusal> {
        let client = self.rows().get(call.client).ok_or(Refusal::NoClient(call.client))?;
        let line = self.line(call.endpoint, client).ok_or(Refusal::NoEndpoint { client: client.id })?;
        let mut by_prefix = None;
        let (called, tag) = match call.dialled {
            Dialled::Number { number, tag } => (number, tag),
            Dialled::Text(text) => {
                if client.kind == CompanyKind::Vpbx
                    && let Some(target) = self.within(client.id, text)
                {
                    return target.map(Decision::Within).map_err(Refusal::NoTarget);
                }
                let (tag, text) = self.tag(client, text, notes)?;
                let (prefix, text) = self.ddi_prefix(&line, text);
                by_prefix = prefix;
                let number = self.index.rules.e164(line.rules, Kind::CalleeIn, text, notes);
                let no_number = |why| match why {
                    NumberError::GaveUp { .. } => Refusal::Number(why),
                    _ if client.kind == CompanyKind::Vpbx => {
                        Refusal::NoExtension { dialled: text.chars().take(NUMBER_MAX).collect(), why }
                    }
                    _ => Refusal::Number(why),
                };
                (number.map_err(no_number)?, tag)
            }
        };
        let special = self.index.numbers.is_special(&called, client.brand);
        if special {
            notes.add(|| Note::Special);
        } else if client.has_reached_daily_limit() {
            // Special numbers cost nothing, and some of them save lives.
            return Err(Refusal::DailyLimit { client: client.id });
        }
        let (shown, ddi) = match client.kind {
            CompanyKind::Wholesale => (self.presented(call, &line, notes), None),
            CompanyKind::Vpbx | CompanyKind::Residential | CompanyKind::Retail => {
                let presented = self.presented(call, &line, notes);
                let (number, ddi) = self
                    .identity(client, &line, presented, &called, by_prefix, notes)
                    .ok_or(Refusal::NoIdentity { client: client.id })?;
                (Some(number), Some(ddi))
            }
        };
        let way = match self.own_ddi(&called, client).filter(|_| !special) {
            Some(own) => Way::Inside(self.to_ddi(own, called, shown, None)?),
            None => {
                let wanted = Wanted { client, called, tag, fax: line.fax, now: call.now };
                Way::Carriers(self.select(&wanted, facts, notes)?)
            }
        };
        Ok(Decision::Outgoing(Outgoing { called, shown, ddi, tag, fax: line.fax, special, way }))
    }

    /// Takes the routing tag off: one to three digits and a `#` (manual, chapter 9.3.4).
    fn tag<'a>(
        &self,
        client: &Company,
        text: &'a str,
        notes: &mut impl Notes,
    ) -> Result<(Option<Id<RoutingTag>>, &'a str), Refusal> {
        let Some((code, rest)) = text.split_once('#') else { return Ok((None, text)) };
        if !(1..=3).contains(&code.len()) || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok((None, text));
        }
        let rows = self.rows();
        let enabled = rows
            .of::<CompanyRelRoutingTag>("company", client.id.get())
            .filter_map(|pair| rows.get(pair.routing_tag))
            .find(|tag| tag.tag.strip_suffix('#') == Some(code) && tag.brand == client.brand);
        match enabled.filter(|_| client.kind.passes_no_application_server()) {
            Some(tag) => {
                notes.add(|| Note::Tag(tag.id));
                Ok((Some(tag.id), rest))
            }
            None => Err(Refusal::Tag { client: client.id, tag: format!("{code}#") }),
        }
    }

    /// The number that the caller tells, in E.164, where it is one and its endpoint may tell it.
    fn presented(&self, call: &Call<'_>, line: &Line, notes: &mut impl Notes) -> Option<E164> {
        let told = call.presented.filter(|_| line.presents)?;
        self.index.rules.e164(line.rules, Kind::CallerIn, told, notes).ok()
    }

    /// The client's DDI that a call shows: the one that the caller presents, or the fallback of the endpoint, or that of the
    /// client; and then what the outgoing DDI rule says of it, where the caller did not choose.
    fn identity(
        &self,
        client: &Company,
        line: &Line,
        presented: Option<E164>,
        called: &E164,
        by_prefix: Option<Id<model::entities::OutgoingDdiRulesPattern>>,
        notes: &mut impl Notes,
    ) -> Option<(E164, Id<Ddi>)> {
        let own = |ddi: &&Ddi| ddi.company == Some(client.id);
        let chosen = presented.and_then(|number| self.ddi(&number, |ddi| own(&ddi)));
        let fallback = |id: Option<Id<Ddi>>| self.rows().at(id).filter(own);
        let forced = || {
            let forced = self.forced_ddi(line, called, by_prefix)?;
            fallback(forced.or(client.outgoing_ddi)).map(|ddi| (ddi, ShownBy::Rule))
        };
        let (ddi, by) = chosen
            .map(|ddi| (ddi, ShownBy::Caller))
            .or_else(forced)
            .or_else(|| fallback(line.outgoing_ddi).map(|ddi| (ddi, ShownBy::Endpoint)))
            .or_else(|| fallback(client.outgoing_ddi).map(|ddi| (ddi, ShownBy::Client)))?;
        let number = ddi.ddie164.as_deref()?.parse().ok()?;
        notes.add(|| Note::Shown { by, ddi: ddi.id });
        Some((number, ddi.id))
    }

    /// The DDI of the platform that is called, if calls to it stay inside: one of the caller's brand before one of another.
    fn own_ddi(&self, called: &E164, client: &Company) -> Option<&Ddi> {
        let called_inside = |ddi: &Ddi| ddi.kind == DdiKind::Inout && ddi.company.is_some();
        self.ddi(called, |ddi| called_inside(ddi) && ddi.brand == client.brand)
            .or_else(|| self.ddi(called, called_inside))
    }
}
