//! Clients that have spent what they may in one day (manual 12.6): their calls that cost something end.
//!
//! In: changes of the configuration. Out: calls of this node hung up. Elsewhere: what was spent (`listing::usage`), refusing new calls
//! (crate `routing`).

use appserver::AppServer;
use model::draft::Change;
use model::entities::Company;
use model::{CallDirection, Id, OpenCall};
use std::collections::BTreeSet;
use std::time::Duration;
use tracing::info;

/// Clients that these changes bring to their limit.
pub(crate) fn reached(changes: &[Change]) -> BTreeSet<Id<Company>> {
    let newly = |change: &Change| {
        let before = change.before.as_deref().and_then(|row| row.cast::<Company>());
        let after = change.after.as_deref().and_then(|row| row.cast::<Company>())?;
        let is_new = before.is_some_and(|before| !before.has_reached_daily_limit());
        (is_new && after.has_reached_daily_limit()).then_some(after.id)
    };
    changes.iter().filter_map(newly).collect()
}

/// Whether the call is on the bill of one of these.
fn costs(call: &OpenCall, clients: &BTreeSet<Id<Company>>) -> bool {
    call.externals.iter().any(|external| {
        external.direction == CallDirection::Outbound
            && external.price.is_some()
            && clients.contains(&external.client)
    })
}

/// Hangs up what these clients pay for.
pub(crate) async fn hang_up(calls: &AppServer, clients: &BTreeSet<Id<Company>>) {
    end_calls(calls, clients).await;
    // Once more, for what was decided by the state before, at that very moment.
    tokio::time::sleep(Duration::from_secs(1)).await;
    end_calls(calls, clients).await;
}

async fn end_calls(calls: &AppServer, clients: &BTreeSet<Id<Company>>) {
    let open = calls.open_calls().await;
    let costly = open.iter().map(|(call, _)| call).filter(|call| costs(call, clients));
    for call in costly.filter_map(|call| call.call.parse().ok()) {
        info!(%call, "the call ends: its client has reached maxDailyUsage");
        calls.hang_up(call, 403, "Daily limit reached");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::tests::sample;
    use model::define::Entity as _;
    use model::rows::Row;
    use rust_decimal::Decimal;
    use std::sync::Arc;

    fn client(id: u32, usage: u32) -> Option<Row> {
        let current_day_usage = Some(Decimal::from(usage));
        Some(Arc::new(Company {
            id: Id::new(id),
            current_day_usage,
            max_daily_usage: 10,
            ..Company::default()
        }))
    }

    fn change(id: u32, before: Option<Row>, after: Option<Row>) -> Change {
        Change { table: Company::definition(), id, before, after }
    }

    #[test]
    fn a_client_that_comes_to_its_limit_is_found_once() {
        let changes = [
            change(1, client(1, 9), client(1, 10)),
            change(2, client(2, 10), client(2, 11)),
            change(3, client(3, 10), client(3, 9)),
            change(4, client(4, 8), client(4, 9)),
            change(5, None, client(5, 20)),
            change(6, client(6, 9), None),
        ];
        assert_eq!(reached(&changes), BTreeSet::from([Id::new(1)]));
    }

    #[test]
    fn only_what_the_client_pays_for_ends() {
        let (call, external) = sample();
        let open = |externals| OpenCall {
            call: call.call.clone(),
            brand: call.brand,
            client: call.client,
            caller: call.caller.clone(),
            callee: call.callee.clone(),
            dialed: call.dialed.clone(),
            started_us: call.started_us,
            answered_us: call.answered_us,
            legs: Vec::new(),
            externals,
            node: 1,
            relay: None,
        };
        let spent = BTreeSet::from([Id::new(1)]);
        let comes = model::ExternalCall { direction: CallDirection::Inbound, ..external.clone() };
        let free = model::ExternalCall { price: None, ..external.clone() };
        let another = model::ExternalCall { client: Id::new(2), ..external.clone() };
        assert!(costs(&open(vec![comes.clone(), external]), &spent));
        for other in [vec![], vec![comes], vec![free], vec![another]] {
            assert!(!costs(&open(other), &spent));
        }
    }
}
