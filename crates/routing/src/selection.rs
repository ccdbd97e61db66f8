//! Which carriers take an outgoing call, and in which order (manual, chapter 9.3.1).
//!
//! In: brand, client, number in E.164, tag, whether it is a fax. Out: tiers of weighted routes with their carriers; one order of
//! attempts, drawn by numbers that the caller brings. Elsewhere: what a call costs ([`Facts`]), which pattern fits (`index`).

use crate::Router;
use crate::index::Target;
use crate::note::{Because, CarrierLeftOut, Note, Notes, RouteLeftOut};
use crate::outgoing::Refusal;
use jiff::Timestamp;
use model::entities::{
    Brand, Carrier, CarrierServer, Company, OutgoingRouting, OutgoingRoutingMode, OutgoingRoutingRelCarrier,
    RoutingTag,
};
use model::{E164, Id};
use rust_decimal::Decimal;

/// Most routes that one call considers, those of the lowest priorities.
pub const ROUTES_MAX: usize = 256;
/// Most carriers that one call tries: nobody would wait for more.
pub const ATTEMPTS_MAX: usize = 64;

/// What routing asks of others. Each answer must come at once, from memory.
pub trait Facts {
    /// What five minutes to the number, beginning now, cost the brand with this carrier; nothing where its rates do not say.
    /// Costs of carriers in different currencies are compared as bare numbers, so whoever answers brings them into one.
    fn cost(&self, carrier: &Carrier, called: &E164, now: Timestamp) -> Option<Decimal>;

    /// What the client pays for five minutes to the number, beginning now, with this tag or none; nothing where its rates
    /// do not say. Only explanations ask.
    fn price(
        &self,
        client: &Company,
        tag: Option<Id<RoutingTag>>,
        called: &E164,
        now: Timestamp,
    ) -> Option<Decimal>;

    /// Whether a server of the carrier answers, as far as is known.
    fn answers(&self, _carrier: &Carrier) -> bool {
        true
    }
}

/// Whose call it is, and to where.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The client.
    pub client: &'a Company,
    /// The called number.
    pub called: E164,
    /// The tag that was dialled.
    pub tag: Option<Id<RoutingTag>>,
    /// It is a fax: sent by the platform, or from an endpoint with T.38.
    pub fax: bool,
    /// When.
    pub now: Timestamp,
}

/// The routes that remain, by priority. Every tier has a choice, and every choice a carrier.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Those tried first come first.
    pub tiers: Vec<Tier>,
}

/// Routes of one priority.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// Their priority.
    pub priority: u16,
    /// The routes, in the order of their ids.
    pub choices: Vec<RouteChoice>,
}

/// A route, and the carriers that it leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteChoice {
    /// The route.
    pub route: Id<OutgoingRouting>,
    /// Its share among those of its tier, from 1.
    pub weight: u32,
    /// One carrier of a static route; those of a least-cost route, the cheapest first.
    pub carriers: Vec<Candidate>,
    /// What the route does to the call.
    pub treatment: Treatment,
}

/// A carrier that may take the call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The carrier.
    pub carrier: Id<Carrier>,
    /// What five minutes cost, where it was asked: for least-cost routes, and in explanations.
    pub cost: Option<Decimal>,
}

/// What a route does to the calls that take it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Treatment {
    /// Put before the called number in the carrier's form, such as a tech prefix `12345678*`; may be empty.
    pub prefix: String,
    /// Shown instead of the caller's number.
    pub shown: Option<E164>,
    /// No Diversion header (RFC 5806).
    pub hides_diversion: bool,
}

/// One carrier to be tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// By which route.
    pub route: Id<OutgoingRouting>,
    /// The route's priority.
    pub priority: u16,
    /// The carrier.
    pub carrier: Id<Carrier>,
    /// What five minutes cost, where it was asked.
    pub cost: Option<Decimal>,
    /// What the route does to the call.
    pub treatment: Treatment,
}

impl Selection {
    /// The carriers in the order in which one call tries them: the first takes it; the others, if those before fail.
    ///
    /// Tiers follow each other by priority. Within one, routes are drawn by their weights, again and again until none is left,
    /// so that each comes first as often as its weight says. The carriers of a least-cost route stay together and in the order of
    /// their cost. What would try the same carrier in the same way once more is left out. `random` gives evenly distributed
    /// numbers; whoever gives the same gets the same order.
    pub fn order(&self, mut random: impl FnMut() -> u64) -> Vec<Attempt> {
        let mut order: Vec<Attempt> = Vec::new();
        for tier in &self.tiers {
            let mut left: Vec<&RouteChoice> = tier.choices.iter().collect();
            while !left.is_empty() {
                let choice = left.remove(draw(&left, random()));
                for candidate in &choice.carriers {
                    let known = order.iter().any(|attempt| {
                        attempt.carrier == candidate.carrier && attempt.treatment == choice.treatment
                    });
                    if !known && order.len() < ATTEMPTS_MAX {
                        order.push(Attempt {
                            route: choice.route,
                            priority: tier.priority,
                            carrier: candidate.carrier,
                            cost: candidate.cost,
                            treatment: choice.treatment.clone(),
                        });
                    }
                }
            }
        }
        order
    }
}

/// The place of the choice on which a number falls, when all weights lie side by side.
fn draw(choices: &[&RouteChoice], random: u64) -> usize {
    let total: u64 = choices.iter().map(|choice| u64::from(choice.weight)).sum();
    // The number as a share of all numbers; that they are not a multiple of the total shifts nothing that could be seen.
    let share = (u128::from(random) * u128::from(total)) >> 64;
    let mut passed = 0;
    let place = choices.iter().position(|choice| {
        passed += u128::from(choice.weight);
        share < passed
    });
    place.unwrap_or_default()
}

/// A route that fits, and why.
type Found<'a> = (&'a OutgoingRouting, Because);

impl Router {
    /// The routes for a call, by the eight steps of the manual.
    ///
    /// Step 7 says that a stopper of priority Y discards priorities greater than Y+1, and the field's own words are that
    /// all higher ones are ignored and the same one is not. Both can only be meant as: everything from Y+1 on goes.
    ///
    /// # Errors
    ///
    /// No pattern or route fits, a blocking route does, or no carrier is left.
    pub fn select(
        &self,
        wanted: &Wanted<'_>,
        facts: &impl Facts,
        notes: &mut impl Notes,
    ) -> Result<Selection, Refusal> {
        let mut routes = self.fitting(wanted, notes)?;
        // Step 5.
        routes.sort_by_key(|(route, _)| (route.priority, route.id));
        // Step 6: any blocking route, whatever its priority.
        if let Some((route, _)) =
            routes.iter().find(|(route, _)| route.routing_mode == Some(OutgoingRoutingMode::Block))
        {
            return Err(Refusal::Blocked { route: route.id });
        }
        // Step 7.
        if let Some((stopper, _)) = routes.iter().find(|(route, _)| route.stopper).copied() {
            routes.retain(|(route, _)| {
                let stays = route.priority <= stopper.priority;
                if !stays {
                    let why = RouteLeftOut::Stopped { by: stopper.id };
                    notes.add(|| Note::RouteLeftOut { route: route.id, why });
                }
                stays
            });
        }
        for (route, _) in routes.iter().skip(ROUTES_MAX) {
            notes.add(|| Note::RouteLeftOut { route: route.id, why: RouteLeftOut::TooMany });
        }
        routes.truncate(ROUTES_MAX);
        // Step 8.
        let mut tiers: Vec<Tier> = Vec::new();
        let mut silent = false;
        for (route, _) in routes {
            let carriers = self.carriers(route, wanted, facts, &mut silent, notes);
            if carriers.is_empty() {
                notes.add(|| Note::RouteLeftOut { route: route.id, why: RouteLeftOut::NoCarrier });
                continue;
            }
            let treatment = self.treatment(route);
            let choice = RouteChoice { route: route.id, weight: route.weight.max(1), carriers, treatment };
            match tiers.last_mut().filter(|tier| tier.priority == route.priority) {
                Some(tier) => tier.choices.push(choice),
                None => tiers.push(Tier { priority: route.priority, choices: vec![choice] }),
            }
        }
        match tiers.is_empty() {
            true => Err(Refusal::NoCarrier { silent }),
            false => Ok(Selection { tiers }),
        }
    }

    /// Steps 1 to 4: routes of all clients by pattern and by group, then those of the client. For a fax, those for faxes take
    /// the place of all, where there is one.
    fn fitting<'a>(&'a self, wanted: &Wanted<'_>, notes: &mut impl Notes) -> Result<Vec<Found<'a>>, Refusal> {
        let brand = wanted.client.brand;
        let mut found = Vec::new();
        if wanted.fax {
            for whose in [None, Some(wanted.client.id)] {
                self.candidates(brand, whose, Because::Fax, wanted, &mut found, notes);
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let patterns = self.index.patterns.fitting(brand, &wanted.called);
        let mut groups: Vec<_> =
            patterns.iter().flat_map(|pattern| self.index.patterns.groups(*pattern)).copied().collect();
        groups.sort();
        groups.dedup();
        patterns.iter().for_each(|pattern| notes.add(|| Note::Pattern(*pattern)));
        groups.iter().for_each(|group| notes.add(|| Note::Group(*group)));
        if patterns.is_empty() {
            return Err(Refusal::NoPattern { called: wanted.called });
        }
        for whose in [None, Some(wanted.client.id)] {
            for pattern in &patterns {
                self.candidates(brand, whose, Because::Pattern(*pattern), wanted, &mut found, notes);
            }
            for group in &groups {
                self.candidates(brand, whose, Because::Group(*group), wanted, &mut found, notes);
            }
        }
        if found.is_empty() {
            return Err(Refusal::NoRoute { called: wanted.called, tag: wanted.tag });
        }
        Ok(found)
    }

    /// Adds the routes of one kind that are for the tag.
    fn candidates<'a>(
        &'a self,
        brand: Id<Brand>,
        whose: Option<Id<Company>>,
        by: Because,
        wanted: &Wanted<'_>,
        found: &mut Vec<Found<'a>>,
        notes: &mut impl Notes,
    ) {
        let target = match by {
            Because::Pattern(pattern) => Target::Pattern(pattern),
            Because::Group(group) => Target::Group(group),
            Because::Fax => Target::Fax,
        };
        for route in self.index.routes.of(brand, whose, target) {
            let Some(route) = self.rows().get(*route) else { continue };
            if route.routing_tag != wanted.tag {
                notes.add(|| Note::RouteLeftOut { route: route.id, why: RouteLeftOut::Tag });
                continue;
            }
            notes.add(|| Note::Selected { route: route.id, by, to_all: whose.is_none() });
            found.push((route, by));
        }
    }

    /// The carriers of a route that can take the call.
    fn carriers(
        &self,
        route: &OutgoingRouting,
        wanted: &Wanted<'_>,
        facts: &impl Facts,
        silent: &mut bool,
        notes: &mut impl Notes,
    ) -> Vec<Candidate> {
        let least_cost = route.routing_mode == Some(OutgoingRoutingMode::Lcr);
        let named: Vec<Id<Carrier>> = match least_cost {
            true => {
                let pairs = self.rows().of::<OutgoingRoutingRelCarrier>("outgoingRouting", route.id.get());
                pairs.map(|pair| pair.carrier).collect()
            }
            false => route.carrier.into_iter().collect(),
        };
        let mut fit = Vec::new();
        for id in named {
            match self.candidate(id, route, least_cost, wanted, facts) {
                Ok(candidate) => fit.push(candidate),
                Err(why) => {
                    *silent |= why == CarrierLeftOut::Silent;
                    notes.add(|| Note::CarrierLeftOut { route: route.id, carrier: id, why });
                }
            }
        }
        if least_cost {
            fit.sort_by_key(|candidate| (candidate.cost, candidate.carrier));
            fit.dedup_by_key(|candidate| candidate.carrier);
        }
        fit
    }

    fn candidate(
        &self,
        id: Id<Carrier>,
        route: &OutgoingRouting,
        least_cost: bool,
        wanted: &Wanted<'_>,
        facts: &impl Facts,
    ) -> Result<Candidate, CarrierLeftOut> {
        let carrier = self
            .rows()
            .get(id)
            .filter(|carrier| carrier.brand == route.brand)
            .ok_or(CarrierLeftOut::Unknown)?;
        if self.rows().of::<CarrierServer>("carrier", id.get()).next().is_none() {
            return Err(CarrierLeftOut::NoServer);
        }
        if !facts.answers(carrier) {
            return Err(CarrierLeftOut::Silent);
        }
        let cost = match least_cost {
            true => Some(facts.cost(carrier, &wanted.called, wanted.now).ok_or(CarrierLeftOut::NoCost)?),
            false => None,
        };
        Ok(Candidate { carrier: id, cost })
    }

    fn treatment(&self, route: &OutgoingRouting) -> Treatment {
        let shown = || {
            let country = self.rows().at(route.clid_country)?.country_code.as_deref()?;
            format!("{country}{}", route.clid.as_deref()?).parse().ok()
        };
        Treatment {
            prefix: route.prefix.clone().unwrap_or_default(),
            shown: (route.force_clid == Some(true)).then(shown).flatten(),
            hides_diversion: route.disable_diversion,
        }
    }
}
