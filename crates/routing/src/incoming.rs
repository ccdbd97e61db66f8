//! Calls to DDIs: from outside, where the DDI provider is found out (manual, chapter 9.6.3), and from the platform's own clients.
//!
//! In: the source's address and the numbers as they came. Out: whose DDI it is and what it leads to. Elsewhere: filters, opening
//! hours, and whatever the target is.

use crate::Router;
use crate::note::Notes;
use crate::target::{NoTarget, Target};
use crate::transform::NUMBER_MAX;
use model::entities::{
    Brand, Company, Ddi, DdiKind, DdiProvider, RoutingTag, TransformationRuleKind as Kind,
};
use model::{Aor, E164, Id};
use std::net::IpAddr;

/// A call to a DDI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The DDI.
    pub ddi: Id<Ddi>,
    /// The client that has it.
    pub client: Id<Company>,
    /// The client's brand.
    pub brand: Id<Brand>,
    /// Who brought the call; nothing where it comes from a client of the platform.
    pub provider: Option<Id<DdiProvider>>,
    /// The called number.
    pub called: E164,
    /// The caller's number; nothing where it is withheld or no number.
    pub caller: Option<E164>,
    /// What it reaches.
    pub target: Target,
}

/// Why a call to a DDI is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IncomingRefusal {
    /// No DDI provider has the source's address.
    #[error("no DDI provider has the address {0}; add it to one if it is theirs")]
    UnknownSource(IpAddr),
    /// The called number is no DDI of the provider's brand.
    #[error(
        "{} is no DDI of a brand whose DDI provider has the address {source_ip}; add the DDI, or correct the provider's transformation rules",
        called.escape_debug()
    )]
    NoDdi {
        /// The number as it came.
        called: String,
        /// From where.
        source_ip: IpAddr,
    },
    /// The DDI is only shown on outgoing calls.
    #[error("DDI {ddi} is outbound only; make its type inout if it shall be called")]
    OutboundOnly {
        /// The DDI.
        ddi: Id<Ddi>,
    },
    /// The DDI is gone since it was found.
    #[error("DDI {ddi} is there no more")]
    Gone {
        /// The DDI.
        ddi: Id<Ddi>,
    },
    /// The DDI belongs to no client.
    #[error("DDI {ddi} belongs to no client; give it to one")]
    NoClient {
        /// The DDI.
        ddi: Id<Ddi>,
    },
    /// The DDI leads nowhere.
    #[error("DDI {ddi} leads nowhere: {why}")]
    NoTarget {
        /// The DDI.
        ddi: Id<Ddi>,
        /// Why.
        why: NoTarget,
    },
}

impl IncomingRefusal {
    /// The status that the caller gets (RFC 3261 section 21.4); nothing: no answer at all, which would help a scanner.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::UnknownSource(_) => None,
            Self::OutboundOnly { .. } => Some(403),
            Self::NoDdi { .. } | Self::Gone { .. } | Self::NoClient { .. } | Self::NoTarget { .. } => {
                Some(404)
            }
        }
    }
}

impl Router {
    /// The DDI providers that have this address, the lowest id first.
    pub fn ddi_providers(&self, source: IpAddr) -> &[Id<DdiProvider>] {
        self.index.sources.providers(source)
    }

    /// The wholesale client that sends from this address (manual, chapter 9.1.4).
    pub fn wholesale_client(&self, source: IpAddr) -> Option<&Company> {
        let client = self.rows().get(self.index.sources.trusted(source)?)?;
        (client.kind == model::entities::CompanyKind::Wholesale).then_some(client)
    }

    /// The endpoint that sends from this address without registering ("direct connectivity"), and that calls itself `name` where
    /// several have the address.
    pub fn direct_endpoint(&self, source: IpAddr, name: &str) -> Option<Aor> {
        let all = self.index.sources.direct(source);
        let is_named = |aor: &&Aor| self.snapshot.endpoint_at(**aor).is_some_and(|found| found.name == name);
        match all {
            [only] => Some(*only),
            _ => all.iter().find(is_named).copied(),
        }
    }

    /// A call to a DDI that was found before ([`Router::incoming`]), as the configuration has it now.
    ///
    /// # Errors
    ///
    /// It leads nowhere any more.
    pub fn found(
        &self,
        ddi: Id<Ddi>,
        provider: Option<Id<DdiProvider>>,
        called: E164,
        caller: Option<E164>,
    ) -> Result<Incoming, IncomingRefusal> {
        let row = self.rows().get(ddi).ok_or(IncomingRefusal::Gone { ddi })?;
        self.to_ddi(row, called, caller, provider)
    }

    /// A call that came from outside the platform, with the numbers of its request: `called` of the request URI, `caller` of
    /// the header that tells it.
    ///
    /// The providers that have the source's address are looked at, the lowest id first: each by its own rules makes a number of
    /// what was called, and the first whose brand has that as a DDI brought the call. Another provider with this address, to
    /// which the DDI is linked, takes its place in the record; the numbers are still read as the first one writes them.
    ///
    /// # Errors
    ///
    /// Nobody of ours is called, or not from there.
    pub fn incoming(
        &self,
        source: IpAddr,
        called: &str,
        caller: Option<&str>,
        notes: &mut impl Notes,
    ) -> Result<Incoming, IncomingRefusal> {
        self.incoming_from(self.index.sources.providers(source), source, called, caller, notes)
    }

    /// The same where it is known otherwise which providers may have sent it, such as by a registration there.
    ///
    /// # Errors
    ///
    /// As [`Router::incoming`].
    pub fn incoming_from(
        &self,
        providers: &[Id<DdiProvider>],
        source: IpAddr,
        called: &str,
        caller: Option<&str>,
        notes: &mut impl Notes,
    ) -> Result<Incoming, IncomingRefusal> {
        if providers.is_empty() {
            return Err(IncomingRefusal::UnknownSource(source));
        }
        let rows = self.rows();
        for provider in providers.iter().filter_map(|id| rows.get(*id)) {
            let set = provider.transformation_rule_set;
            // What one provider's rules make nothing of, another's may.
            let Ok(number) = self.index.rules.e164(set, Kind::CalleeIn, called, notes) else { continue };
            let Some(ddi) = self.ddi(&number, |ddi| ddi.brand == provider.brand) else { continue };
            let linked = ddi.ddi_provider.filter(|linked| providers.contains(linked));
            let caller =
                caller.and_then(|caller| self.index.rules.e164(set, Kind::CallerIn, caller, notes).ok());
            if ddi.kind == DdiKind::Out {
                return Err(IncomingRefusal::OutboundOnly { ddi: ddi.id });
            }
            return self.to_ddi(ddi, number, caller, Some(linked.unwrap_or(provider.id)));
        }
        let called = called.chars().take(NUMBER_MAX).collect();
        Err(IncomingRefusal::NoDdi { called, source_ip: source })
    }

    /// The first DDI with this number that is wanted.
    pub(crate) fn ddi(&self, number: &E164, wanted: impl Fn(&Ddi) -> bool) -> Option<&Ddi> {
        let known = self.index.numbers.ddis(number).iter();
        known.filter_map(|id| self.rows().get(*id)).find(|ddi| wanted(ddi))
    }

    pub(crate) fn to_ddi(
        &self,
        ddi: &Ddi,
        called: E164,
        caller: Option<E164>,
        provider: Option<Id<DdiProvider>>,
    ) -> Result<Incoming, IncomingRefusal> {
        let client = self.rows().at(ddi.company).ok_or(IncomingRefusal::NoClient { ddi: ddi.id })?;
        let target =
            self.ddi_target(ddi, client.id).map_err(|why| IncomingRefusal::NoTarget { ddi: ddi.id, why })?;
        let (ddi, client, brand) = (ddi.id, client.id, client.brand);
        Ok(Incoming { ddi, client, brand, provider, called, caller, target })
    }

    /// The routing tag of a call to a DDI that is forwarded to the outside again: the DDI's own, or the provider's where the
    /// DDI says so.
    pub fn forwarding_tag(&self, incoming: &Incoming) -> Option<Id<RoutingTag>> {
        let ddi = self.rows().get(incoming.ddi)?;
        match ddi.use_ddi_provider_routing_tag {
            true => self.rows().at(incoming.provider)?.routing_tag,
            false => ddi.routing_tag,
        }
    }
}
