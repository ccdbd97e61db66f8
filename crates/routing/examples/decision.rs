//! What a decision costs: `cargo run --release -p routing --example decision`.
//!
//! A brand with 300 patterns in groups of 50, 600 routes of all clients and of 100, 100,000 DDIs. Out: microseconds.

use jiff::Timestamp;
use model::entities::*;
use model::rows::Rows;
use model::{E164, Id, Snapshot};
use routing::{Call, Dialled, Endpoint, Facts, Router};
use rust_decimal::Decimal;
use std::hint::black_box;
use std::sync::Arc;

/// How many decisions are made.
const DECISIONS: u32 = 20_000;

struct Costs;

impl Facts for Costs {
    fn cost(&self, carrier: &Carrier, _: &E164, _: Timestamp) -> Option<Decimal> {
        Some(Decimal::from(100 - carrier.id.get()))
    }

    fn price(&self, _: &Company, _: Option<Id<RoutingTag>>, _: &E164, _: Timestamp) -> Option<Decimal> {
        None
    }
}

fn rows() -> Rows {
    let mut rows = Rows::default();
    let (brand, set) = (Id::new(1), Some(Id::new(1)));
    rows.insert(Arc::new(Brand { id: brand, ..Brand::default() }));
    use TransformationRuleKind::{CalleeIn, CallerIn};
    let rules = [CallerIn, CalleeIn]
        .map(|kind| [(kind, r"^(\+|00)([0-9]+)$", r"+\2"), (kind, "^([0-9]+)$", r"+34\1")]);
    for (id, (kind, search, replace)) in (1..).zip(rules.into_iter().flatten()) {
        rows.insert(Arc::new(TransformationRule {
            id: Id::new(id),
            kind,
            priority: Some(id),
            match_expr: Some(search.to_owned()),
            replace_expr: Some(replace.to_owned()),
            transformation_rule_set: set,
            ..TransformationRule::default()
        }));
    }
    for id in 1..=10 {
        rows.insert(Arc::new(Carrier { id: Id::new(id), brand, ..Carrier::default() }));
        rows.insert(Arc::new(CarrierServer {
            id: Id::new(id),
            carrier: Id::new(id),
            ..CarrierServer::default()
        }));
    }
    for client in 1..=100 {
        rows.insert(Arc::new(Company {
            id: Id::new(client),
            brand,
            kind: CompanyKind::Retail,
            transformation_rule_set: set,
            // DDI 99 is of client 100, DDI 100 of client 1.
            outgoing_ddi: Some(Id::new((client + 98) % 100 + 1)),
            ..Company::default()
        }));
        let (id, company) = (Id::new(client), Id::new(client));
        rows.insert(Arc::new(RetailAccount { id, company, ..RetailAccount::default() }));
    }
    for ddi in 1..=100_000 {
        rows.insert(Arc::new(Ddi {
            id: Id::new(ddi),
            ddie164: Some(format!("+34800{ddi:06}")),
            company: Some(Id::new(ddi % 100 + 1)),
            brand,
            ..Ddi::default()
        }));
    }
    for id in 1..=300_u32 {
        let prefix = if id == 300 { "+34".to_owned() } else { format!("+{}", 100 + id * 3) };
        rows.insert(Arc::new(RoutingPattern { id: Id::new(id), prefix, brand, ..RoutingPattern::default() }));
        let (routing_pattern, routing_pattern_group) = (Id::new(id), Id::new(id / 50 + 1));
        rows.insert(Arc::new(RoutingPatternGroupsRelPattern {
            id: Id::new(id),
            routing_pattern,
            routing_pattern_group,
        }));
        for (route, mode) in [(id, OutgoingRoutingMode::Static), (id + 300, OutgoingRoutingMode::Lcr)] {
            rows.insert(Arc::new(OutgoingRouting {
                id: Id::new(route),
                kind: Some(OutgoingRoutingKind::Pattern),
                routing_mode: Some(mode),
                routing_pattern: Some(Id::new(id)),
                carrier: Some(Id::new(id % 10 + 1)),
                priority: u16::try_from(route % 3).unwrap_or_default(),
                brand,
                company: (route % 2 == 0 && id != 300).then(|| Id::new(route % 100 + 1)),
                ..OutgoingRouting::default()
            }));
            for carrier in 1..=5 {
                rows.insert(Arc::new(OutgoingRoutingRelCarrier {
                    id: Id::new(10 * route + carrier),
                    outgoing_routing: Id::new(route),
                    carrier: Id::new(carrier),
                }));
            }
        }
    }
    rows
}

#[expect(clippy::disallowed_methods, clippy::print_stdout, reason = "it measures, and says what")]
fn main() {
    let rows = rows();
    let begun = std::time::Instant::now();
    let router = Router::new(Snapshot::new(rows.clone()));
    println!("first index: {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    let mut changed = rows;
    changed.insert(Arc::new(RoutingTag { id: Id::new(1), ..RoutingTag::default() }));
    let begun = std::time::Instant::now();
    let router = router.next(Snapshot::new(changed));
    println!("next index, another table changed: {:.3} ms", begun.elapsed().as_secs_f64() * 1e3);
    let mut placed = 0;
    let begun = std::time::Instant::now();
    for turn in 0..DECISIONS {
        let client = turn % 100 + 1;
        let call = Call {
            client: Id::new(client),
            endpoint: Endpoint::RetailAccount(Id::new(client)),
            dialled: Dialled::Text("911234567"),
            presented: Some("800000001"),
            now: Timestamp::UNIX_EPOCH,
        };
        placed += u32::from(black_box(router.route(&call, &Costs, &mut ())).is_ok());
    }
    let each = begun.elapsed().as_secs_f64() * 1e6 / f64::from(DECISIONS);
    println!("a decision: {each:.2} us ({placed} of {DECISIONS} placed)");
}
