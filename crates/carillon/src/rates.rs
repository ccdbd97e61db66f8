//! What routing asks of rating: costs of carriers and prices of clients, by one state of the configuration.
//!
//! In: rows. Out: a router and tariffs of the same state. Elsewhere: deciding (crates `routing` and `rating`).

use jiff::Timestamp;
use model::entities::{Carrier, Company, RoutingTag};
use model::rows::Rows;
use model::{E164, Id, Snapshot};
use parking_lot::Mutex;
use rating::{Call, Charge, LCR_CALL, NoPrice, Tariffs};
use routing::{Facts, Router};
use rust_decimal::Decimal;
use std::sync::Arc;

/// All that is asked of a call to be.
pub(crate) struct Rates {
    pub(crate) router: Router,
    pub(crate) tariffs: Tariffs,
}

impl Facts for Rates {
    fn cost(&self, carrier: &Carrier, called: &E164, now: Timestamp) -> Option<Decimal> {
        let call = Call { number: called.as_str(), at: now, tag: None };
        of_five_minutes(self.tariffs.cost(carrier.id, &call))
    }

    fn price(
        &self,
        client: &Company,
        tag: Option<Id<RoutingTag>>,
        called: &E164,
        now: Timestamp,
    ) -> Option<Decimal> {
        of_five_minutes(self.tariffs.price(client.id, &Call { number: called.as_str(), at: now, tag }))
    }
}

fn of_five_minutes(charge: Result<Charge, NoPrice>) -> Option<Decimal> {
    match charge {
        Ok(Charge::Priced(basis)) => Some(basis.price(LCR_CALL).amount),
        Ok(Charge::Unbilled(_)) | Err(_) => None,
    }
}

/// The newest rates that were asked for: making the next of them costs what changed since.
#[derive(Default)]
pub(crate) struct LatestRates(Mutex<Option<Arc<Rates>>>);

impl LatestRates {
    /// Those of these rows. The first time it may take a second where there are very many rates, so it is work apart.
    pub(crate) fn of(&self, rows: &Rows) -> Arc<Rates> {
        let mut latest = self.0.lock();
        if let Some(rates) =
            latest.as_ref().filter(|it| it.router.snapshot().rows().revision == rows.revision)
        {
            return Arc::clone(rates);
        }
        let snapshot = Snapshot::new(rows.clone());
        let rates = Arc::new(match latest.as_ref() {
            Some(before) => {
                Rates { router: before.router.next(snapshot), tariffs: before.tariffs.next(rows) }
            }
            None => Rates { router: Router::new(snapshot), tariffs: Tariffs::new(rows) },
        });
        *latest = Some(Arc::clone(&rates));
        rates
    }
}
