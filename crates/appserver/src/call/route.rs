//! Which way a call goes: from an INVITE whose sender is known to whoever is to ring, or why it is not placed.
//!
//! In: the INVITE, the configuration, who is registered where. Out: [`Decided`] or [`Refused`], as data. Manual, chapters 7, 9.1, 9.3,
//! 9.7. Elsewhere: the decisions about numbers, routes and carriers (crate `routing`), prices (crate `rating`), what follows (`setup`,
//! `trunks`).

use super::limits::Parties;
use super::{Now, TRIES_MAX, World};
use crate::rates::{Heard, Rates};
use cluster::counters::Claim;
use cluster::ids::{CallId, NodeId};
use cluster::leg::{Binding, Callee, Diversion, Incoming, Origin, Originate};
use jiff::Timestamp;
use model::entities::{
    Carrier, CarrierServer, Ddi, DdiProvider, Extension, Friend, ResidentialDevice, RetailAccount,
    TransformationRuleKind as Kind, TransformationRuleSet, UserRejectCallMethod,
};
use model::{
    Aor, AorOwner, CallDirection, CallEndpoint, Client, E164, EndpointKind, ExternalCall, Id, Party,
    Snapshot, Tariff, Trunk, User,
};
use rating::{Charge, NoPrice};
use routing::{Decision, Dialled, Endpoint, Outgoing, Selection, Service, Target, Way};
use sip::draft::HeaderText;
use std::collections::VecDeque;
use std::net::IpAddr;

/// Extensions and friends that lead to each other are followed this far.
const STEPS_MAX: u8 = 4;

/// A call that is placed if there is a place for it.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) caller: Party,
    pub(super) callee: Party,
    /// Of the caller, for the record of his leg.
    pub(super) endpoint: String,
    /// What clients are told for whom it is an external call.
    pub(super) externals: Vec<ExternalCall>,
    /// It leaves no trace (manual 9.7.2, "Special numbers").
    pub(super) is_untraced: bool,
    pub(super) claims: Vec<Claim>,
    pub(super) rejection: UserRejectCallMethod,
    pub(super) ring: Ring,
    pub(super) words: Words,
}

/// Who rings.
#[derive(Debug)]
pub(super) enum Ring {
    /// All contacts of an endpoint at once.
    Contacts {
        contacts: Vec<Contact>,
        /// For the records of their legs.
        endpoint: String,
    },
    /// Carriers, one after the other.
    Carriers(VecDeque<Try>),
}

/// Where an endpoint rings.
#[derive(Debug)]
pub(super) struct Contact {
    pub(super) home: NodeId,
    pub(super) to: Callee,
    /// Where its signalling will come from.
    pub(super) address: Option<IpAddr>,
}

/// A carrier's server that may take the call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Try {
    pub(super) carrier: Id<Carrier>,
    pub(super) server: Id<CarrierServer>,
    /// For the record of its leg.
    pub(super) name: String,
    /// The called number in the carrier's form.
    pub(super) called: String,
    /// The number that is shown, in the carrier's form; empty: none.
    pub(super) caller: String,
    pub(super) diversions: Vec<Diversion>,
    /// What the call costs there.
    pub(super) cost: Option<Tariff>,
}

/// What the new legs of a call say.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    pub(super) caller_name: String,
    pub(super) caller_number: String,
    pub(super) is_private: bool,
    pub(super) called_number: String,
    pub(super) domain: String,
    pub(super) diversions: Vec<Diversion>,
    pub(super) charge: Option<String>,
    pub(super) headers: HeaderText,
    pub(super) max_forwards: u8,
}

impl Words {
    /// The order for a leg that says this.
    pub(super) fn order(&self, call: CallId, home: NodeId, to: Callee) -> Originate {
        Originate {
            call,
            home,
            to,
            caller_name: self.caller_name.clone(),
            caller_number: self.caller_number.clone(),
            is_private: self.is_private,
            called_number: self.called_number.clone(),
            domain: self.domain.clone(),
            diversions: self.diversions.clone(),
            charge: self.charge.clone(),
            offer: None,
            headers: self.headers.clone(),
            max_forwards: self.max_forwards,
        }
    }
}

/// Why a call is not placed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// What the caller gets.
    pub(super) status: u16,
    /// For the record and the log: which rule said no.
    pub(super) why: String,
    /// For the caller's Reason header: who calls does not learn what is configured how.
    pub(super) brief: Option<&'static str>,
    /// Who called and was called, as far as that was found out.
    pub(super) caller: Party,
    pub(super) callee: Party,
    pub(super) endpoint: String,
}

/// A refusal before its parties are known.
struct No(u16, String, Option<&'static str>);

fn no(status: u16, why: impl Into<String>) -> No {
    No(status, why.into(), None)
}

impl From<routing::Refusal> for No {
    fn from(refusal: routing::Refusal) -> Self {
        no(refusal.status(), refusal.to_string())
    }
}

impl From<NoPrice> for No {
    fn from(no_price: NoPrice) -> Self {
        Self(403, no_price.to_string(), Some(no_price.brief()))
    }
}

/// Decides about a call.
pub(super) fn decide(incoming: &Incoming, world: &dyn World, now: Now) -> Result<Box<Decided>, Box<Refused>> {
    let rates = world.rates();
    let at = Timestamp::from_microsecond(now.unix_us).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut decider = Decider {
        rates: &rates,
        snapshot: rates.snapshot(),
        incoming,
        world,
        at,
        caller: Party::default(),
        callee: Party { number: incoming.dialed.clone(), ..Party::default() },
        endpoint: String::new(),
        externals: Vec::new(),
        parties: Parties::default(),
        is_untraced: false,
    };
    let found = match incoming.origin {
        Origin::Endpoint { aor, user } => decider.of_endpoint(aor, user),
        Origin::Wholesale => decider.of_wholesale(),
        Origin::Ddi { ddi, provider, called, caller } => decider.of_provider(ddi, provider, called, caller),
    };
    let Decider { caller, callee, endpoint, externals, parties, is_untraced, snapshot, .. } = decider;
    match found {
        Ok((ring, words, rejection)) => Ok(Box::new(Decided {
            claims: parties.claims(snapshot),
            externals: if is_untraced { Vec::new() } else { externals },
            caller,
            callee,
            endpoint,
            is_untraced,
            rejection,
            ring,
            words,
        })),
        Err(No(status, why, brief)) => {
            Err(Box::new(Refused { status, why, brief, caller, callee, endpoint }))
        }
    }
}

type Found = Result<(Ring, Words, UserRejectCallMethod), No>;

struct Decider<'a> {
    rates: &'a Rates,
    snapshot: &'a Snapshot,
    incoming: &'a Incoming,
    world: &'a dyn World,
    at: Timestamp,
    caller: Party,
    callee: Party,
    endpoint: String,
    externals: Vec<ExternalCall>,
    parties: Parties<'a>,
    is_untraced: bool,
}

/// How a number is seen by whoever is called.
#[derive(Clone, Copy)]
enum Seen {
    /// From within: extensions.
    Inside,
    /// From outside: numbers of the world.
    Outside { called: E164, caller: Option<E164> },
}

impl<'a> Decider<'a> {
    fn of_endpoint(&mut self, aor: Aor, user: Option<Id<User>>) -> Found {
        let client = self.incoming.client;
        let presented = self.incoming.caller.number.clone();
        let row = self.snapshot.endpoint_at(aor);
        self.endpoint = row.map_or_else(String::new, |row| row.name.to_owned());
        let endpoint = match aor.owner() {
            AorOwner::Terminal(_) => {
                let user = user.and_then(|user| self.snapshot.user(user));
                let Some(user) = user else {
                    self.caller.number = self.endpoint.clone();
                    return Err(no(403, "Terminal without a user"));
                };
                self.caller = user_party(self.snapshot, user);
                self.parties.caller = Some((client, user.id));
                Endpoint::User(user.id)
            }
            AorOwner::Friend(friend) => {
                // Another PBX: its users have numbers of their own.
                self.caller.number = presented.clone().unwrap_or_else(|| self.endpoint.clone());
                self.caller.name = self.incoming.caller.name.clone();
                Endpoint::Friend(friend)
            }
            AorOwner::ResidentialDevice(device) => {
                self.caller.number = self.endpoint.clone();
                Endpoint::ResidentialDevice(device)
            }
            AorOwner::RetailAccount(account) => {
                self.caller.number = self.endpoint.clone();
                Endpoint::RetailAccount(account)
            }
        };
        let dialled = Dialled::Text(&self.incoming.dialed);
        self.route(client, endpoint, dialled, presented.as_deref())
    }

    fn of_wholesale(&mut self) -> Found {
        let presented = self.incoming.caller.number.clone();
        self.caller.number = presented.clone().unwrap_or_default();
        self.endpoint = self.incoming.source.ip().to_string();
        let dialled = Dialled::Text(&self.incoming.dialed);
        self.route(self.incoming.client, Endpoint::Wholesale, dialled, presented.as_deref())
    }

    fn of_provider(
        &mut self,
        ddi: Id<Ddi>,
        provider: Id<DdiProvider>,
        called: E164,
        caller: Option<E164>,
    ) -> Found {
        let row = self.snapshot.rows().get(provider);
        self.endpoint = row.map_or_else(String::new, |row| row.name.clone());
        let is_shown = !self.incoming.caller.is_private;
        self.caller.number =
            caller.filter(|_| is_shown).map_or_else(String::new, |caller| caller.to_string());
        self.caller.name = if is_shown { self.incoming.caller.name.clone() } else { String::new() };
        let found = self.rates.router.found(ddi, Some(provider), called, caller);
        let found = found.map_err(|refusal| no(refusal.status().unwrap_or(404), refusal.to_string()))?;
        self.ring_ddi(&found)
    }

    /// A call that somebody of a client makes.
    fn route(
        &mut self,
        client: Id<Client>,
        endpoint: Endpoint,
        dialled: Dialled<'_>,
        presented: Option<&str>,
    ) -> Found {
        let call = routing::Call { client, endpoint, dialled, presented, now: self.at };
        let router = &self.rates.router;
        let heard = Heard(self.rates, |carrier| self.carrier_answers(carrier));
        let decision = match router.route(&call, &heard, &mut ()) {
            // Where nobody seems to answer all are tried: a lost packet may be all that is wrong.
            Err(routing::Refusal::NoCarrier { silent: true }) => router.route(&call, self.rates, &mut ()),
            decision => decision,
        };
        match decision? {
            Decision::Within(target) => self.ring(client, &target, Seen::Inside, STEPS_MAX),
            Decision::Outgoing(outgoing) => self.outgoing(client, endpoint, &outgoing),
        }
    }

    fn carrier_answers(&self, carrier: Id<Carrier>) -> bool {
        let mut servers = self.snapshot.rows().of::<CarrierServer>("carrier", carrier.get());
        servers.any(|server| self.world.answers(server.id))
    }

    fn outgoing(&mut self, client: Id<Client>, endpoint: Endpoint, outgoing: &Outgoing) -> Found {
        let brand = self.snapshot.client(client).map_or(self.incoming.brand, |client| client.brand);
        self.callee = Party { number: outgoing.called.to_string(), ..Party::default() };
        self.is_untraced |= outgoing.special;
        let call = rating::Call { number: outgoing.called.as_str(), at: self.at, tag: outgoing.tag };
        let price = match self.rates.tariffs.price(client, &call)? {
            Charge::Priced(basis) => Some(basis.tariff()),
            Charge::Unbilled(_) => None,
        };
        self.parties.externals.push((brand, client));
        self.externals.push(ExternalCall {
            direction: CallDirection::Outbound,
            brand,
            client,
            caller: outgoing.shown,
            callee: outgoing.called,
            ddi: outgoing.ddi,
            endpoint: self.told_endpoint(endpoint),
            trunk: None,
            sip_call_id: self.incoming.sip_call_id.clone(),
            tag: outgoing.tag,
            price,
            cost: None,
            x_tag: self.incoming.caller.x_tag.clone(),
            attempts: Vec::new(),
        });
        match &outgoing.way {
            Way::Inside(found) => self.ring_ddi(found),
            Way::Carriers(selection) => {
                let rules = self.rates.router.rules_of(endpoint, client);
                let diversions = self.diversions(rules);
                let tries = self.tries(selection, outgoing, &diversions);
                if tries.is_empty() {
                    return Err(no(503, "No carrier of the routes can be called; see the log"));
                }
                let mut words = self.words();
                // Names of a virtual PBX are nobody's business outside.
                let is_device = !matches!(endpoint, Endpoint::User(_) | Endpoint::Fax(_));
                words.caller_name = if is_device { self.incoming.caller.name.clone() } else { String::new() };
                words.is_private = self.incoming.caller.is_private;
                words.charge.clone_from(&self.incoming.caller.charge);
                Ok((Ring::Carriers(tries), words, UserRejectCallMethod::default()))
            }
        }
    }

    /// A call to a DDI, from a DDI provider or from a client of the platform.
    fn ring_ddi(&mut self, found: &routing::Incoming) -> Found {
        let routing::Incoming { ddi, client, brand, provider, called, caller, target } = found;
        self.callee = Party { number: called.to_string(), ..Party::default() };
        self.parties.externals.push((*brand, *client));
        let seen = Seen::Outside { called: *called, caller: *caller };
        self.externals.push(ExternalCall {
            direction: CallDirection::Inbound,
            brand: *brand,
            client: *client,
            caller: caller.filter(|_| !self.incoming.caller.is_private),
            callee: *called,
            ddi: Some(*ddi),
            endpoint: self.endpoint_of(target),
            trunk: provider.map(Trunk::DdiProvider),
            sip_call_id: self.incoming.sip_call_id.clone(),
            tag: None,
            price: None,
            cost: None,
            x_tag: self.incoming.caller.x_tag.clone(),
            attempts: Vec::new(),
        });
        self.ring(*client, target, seen, STEPS_MAX)
    }

    /// Whoever a number leads to.
    fn ring(&mut self, client: Id<Client>, target: &Target, seen: Seen, steps: u8) -> Found {
        let Some(steps) = steps.checked_sub(1) else {
            return Err(no(482, "Extensions and friends lead to each other in a circle"));
        };
        match target {
            Target::User(user) => self.ring_user(client, *user, seen),
            Target::Friend { friend, number } => {
                let called = match seen {
                    Seen::Inside => self.rates.router.dialled_at_friend(*friend, number),
                    Seen::Outside { .. } => Ok(number.clone()),
                };
                let called = called.map_err(|error| no(500, error.to_string()))?;
                self.ring_device(
                    client,
                    AorOwner::Friend(*friend),
                    Endpoint::Friend(*friend),
                    Some(called),
                    seen,
                )
            }
            Target::ResidentialDevice(id) => {
                let owner = AorOwner::ResidentialDevice(*id);
                self.ring_device(client, owner, Endpoint::ResidentialDevice(*id), None, seen)
            }
            Target::RetailAccount(id) => self.ring_device(
                client,
                AorOwner::RetailAccount(*id),
                Endpoint::RetailAccount(*id),
                None,
                seen,
            ),
            Target::OtherClient { extension, .. } => {
                let row = self.snapshot.extension_by_id(*extension);
                let row: &'a Extension =
                    row.ok_or_else(|| no(404, "The other client's extension is gone"))?;
                let target = self.rates.router.extension_target(row);
                let target = target.map_err(|why| no(404, format!("Extension {extension}: {why}")))?;
                self.ring(row.company, &target, seen, steps)
            }
            Target::Number(number) => self.ring_number(client, *number, seen),
            Target::Service(service) => {
                let what = service_name(service);
                Err(no(501, format!("Calls to {what} are not served by this release")))
            }
        }
    }

    /// A number outside that an extension names: a call of whoever dialled the extension.
    fn ring_number(&mut self, client: Id<Client>, number: E164, seen: Seen) -> Found {
        let endpoint = match (self.incoming.origin, seen) {
            (Origin::Endpoint { user: Some(user), .. }, Seen::Inside) if client == self.incoming.client => {
                Some(Endpoint::User(user))
            }
            (Origin::Endpoint { aor, .. }, Seen::Inside) if client == self.incoming.client => {
                match aor.owner() {
                    AorOwner::Friend(friend) => Some(Endpoint::Friend(friend)),
                    _ => None,
                }
            }
            _ => None,
        };
        let endpoint = endpoint.ok_or_else(|| {
            no(501, "Forwarding a call from elsewhere to a number outside is not served by this release")
        })?;
        let presented = self.incoming.caller.number.clone();
        self.route(client, endpoint, Dialled::Number { number, tag: None }, presented.as_deref())
    }

    fn ring_user(&mut self, client: Id<Client>, user: Id<User>, seen: Seen) -> Found {
        let user: &'a User = self.snapshot.user(user).ok_or_else(|| no(404, "The user is gone"))?;
        let told = user_party(self.snapshot, user);
        self.callee = match seen {
            Seen::Inside => told,
            Seen::Outside { .. } => Party { user: told.user, name: told.name, ..self.callee.clone() },
        };
        if user.do_not_disturb {
            return Err(no(486, "Do not disturb"));
        }
        let terminal = user.terminal.and_then(|terminal| self.snapshot.terminal(terminal));
        let terminal = terminal.ok_or_else(|| no(480, "User without a terminal"))?;
        let aor = Aor::terminal(terminal.id).ok_or_else(|| no(500, "The terminal's id is too large"))?;
        let mut bindings = self.world.bindings(aor);
        latest_alone(&mut bindings, user.multi_contact);
        if bindings.is_empty() {
            return Err(no(480, "Not registered"));
        }
        self.parties.callee = Some((client, user));
        let mut words = self.inward(client, Endpoint::User(user.id), seen)?;
        words.domain = self.domain(client, None);
        let contacts = bindings.into_iter().map(|binding| contact(aor, binding, None)).collect();
        let endpoint = terminal.name.clone();
        Ok((Ring::Contacts { contacts, endpoint }, words, user.reject_call_method))
    }

    /// A friend, residential device or retail account.
    fn ring_device(
        &mut self,
        client: Id<Client>,
        owner: AorOwner,
        endpoint: Endpoint,
        called: Option<String>,
        seen: Seen,
    ) -> Found {
        let aor = Aor::of(owner).ok_or_else(|| no(500, "The endpoint's id is too large"))?;
        let row = self.snapshot.endpoint_at(aor).ok_or_else(|| no(404, "The endpoint is gone"))?;
        let (name, from_domain) = (row.name.to_owned(), self.shown_domain(owner));
        self.callee.name = name.clone();
        let mut words = self.inward(client, endpoint, seen)?;
        words.domain = self.domain(client, from_domain);
        // "DDI In": the request names the called number; otherwise the user part that was registered, or the name.
        let named = match (called, seen) {
            (Some(called), _) => Some(called),
            (None, Seen::Outside { called, .. }) => {
                let called = self.rates.router.called_at(endpoint, client, &called);
                called.map_err(|error| no(500, error.to_string()))?
            }
            (None, Seen::Inside) => None,
        };
        words.called_number = named.clone().unwrap_or_else(|| name.clone());
        if let Some(at) = row.direct {
            let to = Callee::Direct { aor };
            let contact = Contact { home: self.incoming.leg.node(), to, address: at.ip };
            let ring = Ring::Contacts { contacts: vec![contact], endpoint: name };
            return Ok((ring, words, UserRejectCallMethod::default()));
        }
        let mut bindings = self.world.bindings(aor);
        latest_alone(&mut bindings, row.multi_contact);
        if bindings.is_empty() {
            return Err(no(480, "Not registered"));
        }
        let contacts = bindings.into_iter().map(|binding| contact(aor, binding, named.as_deref())).collect();
        Ok((Ring::Contacts { contacts, endpoint: name }, words, UserRejectCallMethod::default()))
    }

    /// What every new leg says.
    fn words(&self) -> Words {
        Words {
            headers: self.incoming.headers.clone(),
            max_forwards: self.incoming.max_forwards,
            ..Words::default()
        }
    }

    /// What an endpoint of a client is told of the caller.
    fn inward(&self, client: Id<Client>, endpoint: Endpoint, seen: Seen) -> Result<Words, No> {
        let router = &self.rates.router;
        let mut words = self.words();
        match seen {
            Seen::Inside => {
                words.caller_name.clone_from(&self.caller.name);
                words.caller_number.clone_from(&self.caller.number);
                words.called_number.clone_from(&self.incoming.dialed);
            }
            Seen::Outside { called, caller } => {
                words.is_private = self.incoming.caller.is_private;
                let number = |made: Result<String, _>| {
                    made.map_err(|error: routing::transform::NumberError| no(500, error.to_string()))
                };
                let caller = caller.filter(|_| !words.is_private);
                words.caller_number = caller.map_or(Ok(String::new()), |caller| {
                    number(router.caller_at(endpoint, client, &caller))
                })?;
                if matches!(self.incoming.origin, Origin::Ddi { .. }) && !words.is_private {
                    words.caller_name.clone_from(&self.incoming.caller.name); // CNAM
                }
                let rules = router.rules_of(endpoint, client);
                words.called_number = number(router.transform(rules, Kind::CalleeOut, called.as_str()))?;
                words.diversions = self.shown_to(rules, &self.diversions(self.rules_of_caller()));
            }
        }
        Ok(words)
    }

    /// How whoever brought the call writes numbers.
    fn rules_of_caller(&self) -> Option<Id<TransformationRuleSet>> {
        match self.incoming.origin {
            Origin::Ddi { provider, .. } => self.snapshot.rows().get(provider)?.transformation_rule_set,
            Origin::Endpoint { .. } | Origin::Wholesale => {
                self.snapshot.client(self.incoming.client)?.transformation_rule_set
            }
        }
    }

    /// Who diverted the call, in E.164; what is no number is left out.
    fn diversions(&self, rules: Option<Id<TransformationRuleSet>>) -> Vec<(E164, String)> {
        let told = self.incoming.caller.diversions.iter();
        told.filter_map(|diversion| {
            let number = self.rates.router.to_e164(rules, Kind::CallerIn, &diversion.number).ok()?;
            Some((number, diversion.reason.clone()))
        })
        .collect()
    }

    /// The same in somebody's form.
    fn shown_to(&self, rules: Option<Id<TransformationRuleSet>>, all: &[(E164, String)]) -> Vec<Diversion> {
        all.iter()
            .filter_map(|(number, reason)| {
                let number = self.rates.router.transform(rules, Kind::CallerOut, number.as_str()).ok()?;
                Some(Diversion { number, reason: reason.clone() })
            })
            .collect()
    }

    /// The servers of the carriers, in the order in which they are tried: those of one carrier are drawn.
    fn tries(
        &self,
        selection: &Selection,
        outgoing: &Outgoing,
        diversions: &[(E164, String)],
    ) -> VecDeque<Try> {
        let rows = self.snapshot.rows();
        let mut tries = VecDeque::new();
        let call = rating::Call { number: outgoing.called.as_str(), at: self.at, tag: None };
        for attempt in selection.order(|| self.world.random()) {
            let Some(carrier) = rows.get(attempt.carrier) else { continue };
            let numbers = self.rates.router.for_carrier(&attempt, &outgoing.called, outgoing.shown.as_ref());
            let numbers = match numbers {
                Ok(numbers) => numbers,
                Err(error) => {
                    tracing::warn!(carrier = carrier.name, %error, "a carrier is left out: its transformations fail");
                    continue;
                }
            };
            let cost = match self.rates.tariffs.cost(carrier.id, &call) {
                Ok(Charge::Priced(basis)) => Some(basis.tariff()),
                Ok(Charge::Unbilled(_)) => None,
                Err(why) => {
                    tracing::debug!(carrier = carrier.name, %why, "a call's cost is not known");
                    None
                }
            };
            let diversions = match attempt.treatment.hides_diversion {
                true => Vec::new(),
                false => self.shown_to(carrier.transformation_rule_set, diversions),
            };
            let mut servers: Vec<Id<CarrierServer>> =
                rows.of::<CarrierServer>("carrier", carrier.id.get()).map(|server| server.id).collect();
            shuffle(&mut servers, || self.world.random());
            // Those that do not answer come last, and are tried all the same.
            servers.sort_by_key(|server| !self.world.answers(*server));
            for server in servers {
                if tries.len() == TRIES_MAX {
                    return tries;
                }
                tries.push_back(Try {
                    carrier: carrier.id,
                    server,
                    name: carrier.name.clone(),
                    called: numbers.called.clone(),
                    caller: numbers.caller.clone().unwrap_or_default(),
                    diversions: diversions.clone(),
                    cost,
                });
            }
        }
        tries
    }

    /// The host of addresses that an endpoint of a client sees; empty: whatever the proxy calls itself.
    fn domain(&self, client: Id<Client>, own: Option<String>) -> String {
        let client = self.snapshot.client(client);
        let of_brand = || {
            let brand = self.snapshot.brand(client?.brand)?;
            Some(self.snapshot.rows().at(brand.domain)?.domain.clone())
        };
        own.filter(|own| !own.is_empty())
            .or_else(|| Some(self.snapshot.domain_of(client?).to_owned()).filter(|name| !name.is_empty()))
            .or_else(of_brand)
            .unwrap_or_default()
    }

    fn shown_domain(&self, owner: AorOwner) -> Option<String> {
        let rows = self.snapshot.rows();
        match owner {
            AorOwner::Terminal(_) => None,
            AorOwner::Friend(id) => rows.get::<Friend>(id)?.from_domain.clone(),
            AorOwner::ResidentialDevice(id) => rows.get::<ResidentialDevice>(id)?.from_domain.clone(),
            AorOwner::RetailAccount(id) => rows.get::<RetailAccount>(id)?.from_domain.clone(),
        }
    }

    /// The endpoint that a record names for a caller.
    fn told_endpoint(&self, endpoint: Endpoint) -> Option<CallEndpoint> {
        let rows = self.snapshot.rows();
        let (kind, id, name) = match endpoint {
            Endpoint::User(id) => {
                let number = user_party(self.snapshot, self.snapshot.user(id)?).number;
                (EndpointKind::User, id.get(), number)
            }
            Endpoint::Friend(id) => (EndpointKind::Friend, id.get(), rows.get(id)?.name.clone()),
            Endpoint::ResidentialDevice(id) => {
                (EndpointKind::ResidentialDevice, id.get(), rows.get(id)?.name.clone())
            }
            Endpoint::RetailAccount(id) => {
                (EndpointKind::RetailAccount, id.get(), rows.get(id)?.name.clone())
            }
            Endpoint::Fax(id) => (EndpointKind::Fax, id.get(), rows.get(id)?.name.clone()),
            Endpoint::Wholesale => return None,
        };
        Some(CallEndpoint { kind, id, name })
    }

    /// The endpoint that a record names for whoever is called.
    fn endpoint_of(&self, target: &Target) -> Option<CallEndpoint> {
        self.told_endpoint(match target {
            Target::User(id) => Endpoint::User(*id),
            Target::Friend { friend, .. } => Endpoint::Friend(*friend),
            Target::ResidentialDevice(id) => Endpoint::ResidentialDevice(*id),
            Target::RetailAccount(id) => Endpoint::RetailAccount(*id),
            Target::Service(Service::Fax(id)) => Endpoint::Fax(*id),
            Target::OtherClient { .. } | Target::Number(_) | Target::Service(_) => return None,
        })
    }
}

/// A user, as callees and records see him: by his name and screen extension, never by what his telephone claims.
fn user_party(snapshot: &Snapshot, user: &User) -> Party {
    let number = user.extension.and_then(|extension| snapshot.extension_by_id(extension));
    Party {
        number: number.map_or_else(String::new, |extension| extension.number.to_string()),
        name: user.full_name(),
        user: Some(user.id),
    }
}

/// Without multi contact only the latest registration rings; others may be older than the setting.
fn latest_alone(bindings: &mut Vec<Binding>, multi_contact: bool) {
    if !multi_contact {
        let latest = bindings.iter().map(|binding| binding.newness).max();
        bindings.retain(|binding| Some(binding.newness) == latest);
    }
}

/// A registered contact, called by this number instead of its own user part.
fn contact(aor: Aor, binding: Binding, number: Option<&str>) -> Contact {
    let target = match number {
        Some(number) => named(&binding.contact, number),
        None => binding.contact,
    };
    let address = Some(binding.flow.remote.ip());
    let to = Callee::Binding { aor, target, route: binding.path, flow: binding.flow };
    Contact { home: binding.home, to, address }
}

/// A SIP URI with another user part.
fn named(uri: &str, user: &str) -> String {
    let escaped = sip::uri::escape_user(user.as_bytes());
    let Some((scheme, rest)) = uri.split_once(':') else { return uri.to_owned() };
    // What stands behind the host may have an `@`, too.
    let end = rest.find([';', '?', '>']).unwrap_or(rest.len());
    let host = rest.get(..end).and_then(|head| head.rfind('@')).map_or(0, |at| at + 1);
    format!("{scheme}:{escaped}@{}", rest.get(host..).unwrap_or_default())
}

fn service_name(service: &Service) -> &'static str {
    match service {
        Service::Ivr(_) => "an IVR",
        Service::HuntGroup(_) => "a hunt group",
        Service::ConferenceRoom(_) => "a conference room",
        Service::Queue(_) => "a queue",
        Service::ConditionalRoute(_) => "a conditional route",
        Service::Fax(_) => "a fax",
        Service::Voicemail(_) => "a voicemail",
        Service::Locution(_) => "a locution",
    }
}

/// Fisher and Yates.
fn shuffle<T>(all: &mut [T], mut random: impl FnMut() -> u64) {
    for last in (1..all.len()).rev() {
        let other = (u128::from(random()) * (last as u128 + 1)) >> 64;
        all.swap(last, usize::try_from(other).unwrap_or_default());
    }
}
