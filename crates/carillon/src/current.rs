//! The configuration as calls are decided by it: the newest state, indexed, for each role in its form.
//!
//! In: states of the rows. Out: what proxies and application servers read with each call, replaced as a whole. Elsewhere: the rows
//! themselves (`kept`), the indexes (crates `routing`, `rating`).

use appserver::Rates;
use arc_swap::ArcSwap;
use model::Snapshot;
use routing::Router;
use std::any::Any;
use std::sync::Arc;

/// The newest state.
#[derive(Clone)]
pub(crate) struct Current {
    /// For placement.
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    /// For proxies.
    pub(crate) router: Arc<ArcSwap<Router>>,
    /// For application servers.
    pub(crate) rates: Arc<ArcSwap<Rates>>,
}

impl Current {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        let rates = Rates::new(snapshot.clone());
        Self {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            router: Arc::new(ArcSwap::new(Arc::clone(&rates.router))),
            rates: Arc::new(ArcSwap::from_pointee(rates)),
        }
    }

    /// From now on calls are decided by this. Out: what they were decided by; whoever lets go of it last takes it apart.
    pub(crate) fn replace(&self, snapshot: Snapshot) -> impl Any + Send + use<> {
        let rates = self.rates.load().next(snapshot.clone());
        let router = self.router.swap(Arc::clone(&rates.router));
        (router, self.rates.swap(Arc::new(rates)), self.snapshot.swap(Arc::new(snapshot)))
    }
}
