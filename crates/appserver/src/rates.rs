//! What calls are routed and priced by: one state of the configuration, indexed.
//!
//! In: states of the rows. Out: the answers that routing asks for, from memory. Elsewhere: the decisions themselves (crates `routing`,
//! `rating`), replacing one state by the next (whoever starts this server).

use jiff::Timestamp;
use model::entities::{Carrier, Company, RoutingTag};
use model::{E164, Id, Snapshot};
use rating::{Charge, LCR_CALL, Tariffs};
use routing::{Facts, Router};
use rust_decimal::Decimal;
use std::sync::Arc;

/// One state of the configuration, as calls need it. Immutable, to be shared.
#[derive(Debug)]
pub struct Rates {
    /// Which way calls go.
    pub router: Arc<Router>,
    /// What they cost.
    pub tariffs: Tariffs,
}

impl Rates {
    /// By this state, indexed from nothing.
    pub fn new(snapshot: Snapshot) -> Self {
        let tariffs = Tariffs::new(snapshot.rows());
        Self { router: Arc::new(Router::new(snapshot)), tariffs }
    }

    /// By the next state; what did not change is shared.
    #[must_use]
    pub fn next(&self, snapshot: Snapshot) -> Self {
        let tariffs = self.tariffs.next(snapshot.rows());
        Self { router: Arc::new(self.router.next(snapshot)), tariffs }
    }

    /// The state itself.
    pub fn snapshot(&self) -> &Snapshot {
        self.router.snapshot()
    }
}

/// Without word of who answers, every carrier does. Costs are compared as bare numbers: carriers of a brand whose costs are to be
/// compared have one currency.
impl Facts for Rates {
    fn cost(&self, carrier: &Carrier, called: &E164, now: Timestamp) -> Option<Decimal> {
        let call = rating::Call { number: called.as_str(), at: now, tag: None };
        five_minutes(self.tariffs.cost(carrier.id, &call).ok()?)
    }

    fn price(
        &self,
        client: &Company,
        tag: Option<Id<RoutingTag>>,
        called: &E164,
        now: Timestamp,
    ) -> Option<Decimal> {
        let call = rating::Call { number: called.as_str(), at: now, tag };
        five_minutes(self.tariffs.price(client.id, &call).ok()?)
    }
}

fn five_minutes(charge: Charge) -> Option<Decimal> {
    match charge {
        Charge::Priced(basis) => Some(basis.price(LCR_CALL).amount),
        Charge::Unbilled(_) => None,
    }
}

/// The same, with word of which carriers answer.
pub(crate) struct Heard<'a, F>(pub(crate) &'a Rates, pub(crate) F);

impl<F: Fn(Id<Carrier>) -> bool> Facts for Heard<'_, F> {
    fn cost(&self, carrier: &Carrier, called: &E164, now: Timestamp) -> Option<Decimal> {
        self.0.cost(carrier, called, now)
    }

    fn price(
        &self,
        client: &Company,
        tag: Option<Id<RoutingTag>>,
        called: &E164,
        now: Timestamp,
    ) -> Option<Decimal> {
        self.0.price(client, tag, called, now)
    }

    fn answers(&self, carrier: &Carrier) -> bool {
        (self.1)(carrier.id)
    }
}
