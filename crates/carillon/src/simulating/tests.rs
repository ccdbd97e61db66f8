//! A client with a route to two carriers: what is told of its calls is what the crates decide.

use super::*;
use appserver::Rates;
use model::Snapshot;
use model::define::Translated;
use model::entities::{
    Brand, Carrier, CarrierServer, Country, Ddi, Destination, DestinationRate, DestinationRateGroup,
    OutgoingRouting, OutgoingRoutingKind, OutgoingRoutingMode, RatingPlan, RatingProfile, RoutingPattern,
    User,
};
use std::sync::Arc;

/// A client with a user and a DDI, two carriers of which one has a server, a route by each, and a rating plan.
fn rows() -> Rows {
    let mut rows = Rows::default();
    let currency = Currency { id: Id::new(1), iden: "EUR".to_owned(), ..Currency::default() };
    let brand = Brand { id: Id::new(1), currency: Id::new(1), ..Brand::default() };
    let client = Company {
        id: Id::new(1),
        name: "PBX".to_owned(),
        brand: Id::new(1),
        outgoing_ddi: Some(Id::new(1)),
        ..Company::default()
    };
    let ddi = Ddi {
        id: Id::new(1),
        ddi: "911000001".to_owned(),
        ddie164: Some("+34911000001".to_owned()),
        company: Some(Id::new(1)),
        brand: Id::new(1),
        ..Ddi::default()
    };
    let pattern =
        RoutingPattern { id: Id::new(1), prefix: "+34".to_owned(), brand: Id::new(1), ..Default::default() };
    let country = Country { id: Id::new(1), code: "ES".to_owned(), ..Country::default() };
    rows.insert(Arc::new(country));
    rows.insert(Arc::new(currency));
    rows.insert(Arc::new(brand));
    rows.insert(Arc::new(client));
    rows.insert(Arc::new(ddi));
    rows.insert(Arc::new(pattern));
    rows.insert(Arc::new(User { id: Id::new(1), company: Id::new(1), ..User::default() }));
    for id in [1, 2] {
        let name = format!("Carrier {id}");
        let (id, brand) = (Id::new(id), Id::new(1));
        let carrier = Carrier { id, name, brand, calculate_cost: Some(true), ..Carrier::default() };
        rows.insert(Arc::new(carrier));
    }
    // The second carrier has no server.
    let server =
        CarrierServer { id: Id::new(1), carrier: Id::new(1), brand: Id::new(1), ..Default::default() };
    rows.insert(Arc::new(server));
    for (id, priority) in [(1, 1), (2, 2)] {
        let route = OutgoingRouting {
            id: Id::new(id),
            priority,
            weight: 1,
            kind: Some(OutgoingRoutingKind::Pattern),
            routing_mode: Some(OutgoingRoutingMode::Static),
            routing_pattern: Some(Id::new(1)),
            carrier: Some(Id::new(id)),
            brand: Id::new(1),
            ..OutgoingRouting::default()
        };
        rows.insert(Arc::new(route));
    }
    let name = |text: &str| Translated::same(text);
    let destination =
        Destination { id: Id::new(1), prefix: "+34".to_owned(), name: name("Spain"), brand: Id::new(1) };
    rows.insert(Arc::new(destination));
    let list =
        DestinationRateGroup { id: Id::new(1), name: name("Rates"), brand: Id::new(1), ..Default::default() };
    rows.insert(Arc::new(list));
    let rate = DestinationRate {
        id: Id::new(1),
        cost: "0.06".parse().unwrap(),
        rate_increment: "60s".to_owned(),
        destination_rate_group: Id::new(1),
        destination: Id::new(1),
        group_interval_start: "0s".to_owned(),
        ..DestinationRate::default()
    };
    rows.insert(Arc::new(rate));
    rows.insert(Arc::new(RatingPlanGroup {
        id: Id::new(1),
        name: name("Plan"),
        brand: Id::new(1),
        ..Default::default()
    }));
    let part = RatingPlan {
        id: Id::new(1),
        rating_plan_group: Id::new(1),
        destination_rate_group: Id::new(1),
        ..RatingPlan::default()
    };
    rows.insert(Arc::new(part));
    rows
}

fn with_profile(mut rows: Rows) -> Rows {
    let profile = RatingProfile {
        id: Id::new(1),
        activation_time: jiff::Timestamp::UNIX_EPOCH,
        company: Some(Id::new(1)),
        rating_plan_group: Id::new(1),
        ..RatingProfile::default()
    };
    rows.insert(Arc::new(profile));
    rows.revision += 1;
    rows
}

fn ask(number: &str) -> RouteAsk {
    RouteAsk {
        company: 1,
        caller: SimulatedCaller::User(1),
        number: number.to_owned(),
        presented: None,
        at: "2026-03-02T12:00:00Z".parse().unwrap(),
        seconds: 90,
    }
}

#[test]
fn a_call_is_told_with_its_carriers_and_why_others_are_left_out() {
    let of = |rows: &Rows| Rates::new(Snapshot::new(rows.clone()));
    let without = rows();
    let told = route(&of(&without), &ask("+34600123456"), || 0);
    assert!(!told.placed, "{told:?}");
    assert_eq!((told.status, told.called.as_deref()), (Some(403), Some("+34600123456")));
    assert!(told.no_price.as_ref().is_some_and(|why| why.contains("no rating plan")), "{told:?}");

    let told = route(&of(&with_profile(without)), &ask("+34600123456"), || 0);
    assert!(told.placed, "{told:?}");
    assert_eq!((told.shown.as_deref(), told.ddi), (Some("+34911000001"), Some(1)));
    let price = told.price.unwrap();
    assert_eq!((price.amount.as_str(), price.currency.as_str()), ("0.1200", "EUR"), "two minutes are begun");
    assert_eq!((price.prefix.as_str(), price.rating_plan_name.as_str()), ("+34", "Plan"));
    let carriers: Vec<&str> = told.carriers.iter().map(|carrier| carrier.name.as_str()).collect();
    assert_eq!(carriers, ["Carrier 1"]);
    assert!(told.carriers[0].no_cost.is_some() && told.carriers[0].cost.is_none());
    let left_out =
        told.steps.iter().any(|step| step.contains("carrier 2 of route 2 is left out: it has no server"));
    assert!(left_out, "{:?}", told.steps);
}

#[test]
fn what_leads_nowhere_is_refused_with_its_status() {
    let rates = Rates::new(Snapshot::new(with_profile(rows())));
    let told = route(&rates, &ask("+33600123456"), || 0);
    assert_eq!((told.placed, told.status), (false, Some(404)), "{told:?}");
    assert!(told.decision.starts_with("refused with 404: "), "{told:?}");
    let told = route(&rates, &RouteAsk { caller: SimulatedCaller::Friend(9), ..ask("+34600123456") }, || 0);
    assert_eq!(told.status, Some(403), "{told:?}");
}

#[test]
fn a_price_is_told_by_client_and_by_plan() {
    let rates = Rates::new(Snapshot::new(with_profile(rows())));
    let ask = |of, number: &str| RateAsk {
        of,
        number: number.to_owned(),
        routing_tag: None,
        at: "2026-03-02T12:00:00Z".parse().unwrap(),
        seconds: 300,
    };
    for of in [RateOf::Client(1), RateOf::Plan(1)] {
        let told = rate(&rates, &ask(of, "+34600"));
        assert_eq!(told.price.unwrap().amount, "0.3000", "{of:?}");
        let last = told.steps.last().unwrap();
        assert_eq!(last, "5 periods of 60 s cost 0.3000, connection 0.0000: 0.0000 + 0.3000 = 0.3000");
    }
    let told = rate(&rates, &ask(RateOf::Carrier(1), "+34600"));
    assert!(told.no_price.is_some() && told.price.is_none(), "{told:?}");
    let dialect = by_plan(&rates, 1, "+34600", 90, "2026-03-02T12:00:00Z".parse().unwrap()).unwrap();
    assert_eq!((dialect.cost, dialect.increment, dialect.unit), ("0.12".parse().unwrap(), 60, 60));
    assert!(by_plan(&rates, 1, "+33600", 90, "2026-03-02T12:00:00Z".parse().unwrap()).is_none());
}
