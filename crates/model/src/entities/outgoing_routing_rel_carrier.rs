//! Carriers of an outgoing routing that chooses by cost.
//! Manual, chapter 9.3.1 "LCR routes".

use crate::checks::of_same_brand;
use crate::prelude::*;

/// One of the carriers that a least-cost routing chooses from.
#[derive(Clone, Debug, Entity)]
#[entity(unique(outgoing_routing, carrier), rules)]
pub struct OutgoingRoutingRelCarrier {
    /// Identifies the pair.
    pub id: Id<OutgoingRoutingRelCarrier>,
    /// The routing.
    #[field(delete = "cascade", index)]
    pub outgoing_routing: Id<OutgoingRouting>,
    /// The carrier; once in the routing.
    #[field(delete = "cascade", index)]
    pub carrier: Id<Carrier>,
}

impl Rules for OutgoingRoutingRelCarrier {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        check_servers(Some(self.carrier), check);
        if let Some(routing) = check.rows.get(self.outgoing_routing) {
            of_same_brand(self, old, routing.brand, &["carrier"], check);
        }
    }

    fn saved(&self, _: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        // Only least-cost routings have such carriers.
        let routing = draft.get(self.outgoing_routing);
        match routing.map(|routing| routing.routing_mode) {
            Some(Some(OutgoingRoutingMode::Lcr)) => Ok(()),
            _ => draft.delete(self.id),
        }
    }
}
