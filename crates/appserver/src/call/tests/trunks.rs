//! Calls to and from the world: which carriers are tried, what they cost, what clients are told of them.

use super::*;
use crate::rates::Rates;
use cluster::leg::Diversion;
use jiff::Timestamp;
use model::Party;
use model::define::Entity;
use model::draft::{Draft, Env};
use model::entities::{
    Carrier, CarrierServer, Company, Ddi, OutgoingRouting, OutgoingRoutingKind, RatingPlan, RatingProfile,
    SpecialNumber, TransformationRule,
};
use model::outside::{self, DEMO_DDIS};
use model::rows::Rows;
use model::{CallDirection, EndpointKind, ExternalCall, Trunk};
use rating::Rate;
use std::sync::LazyLock;

struct NoHasher;

impl model::define::SecretHasher for NoHasher {
    fn hash(&self, _: &str) -> String {
        "x".to_owned()
    }
}

/// The demo with its way to the world.
static DEMO: LazyLock<Rows> = LazyLock::new(|| {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let env = Env { now, level: None, hasher: &NoHasher, random: &|| 4, is_over: &|| false };
    let (rows, _) = model::seed::fresh("hush", true, &env).unwrap();
    let mut draft = Draft::new(&rows, &env);
    outside::add(&mut draft, ([127, 0, 0, 1], 5070).into()).unwrap();
    draft.finish().unwrap().0
});

fn test(change: impl FnOnce(&mut Rows)) -> Test {
    let mut rows = DEMO.clone();
    change(&mut rows);
    let rates = Some(Arc::new(Rates::new(Snapshot::new(rows))));
    Test { rates, unix_us: 1_800_000_000_000_000, ..Test::new(1) }
}

fn the<E: model::define::Entity>(rows: &Rows) -> E {
    rows.each::<E>().next().unwrap().clone()
}

/// A second carrier, behind the first one.
fn second(rows: &mut Rows) {
    let first: Carrier = the(rows);
    let server: CarrierServer = the(rows);
    rows.insert(Arc::new(Carrier {
        id: Id::new(2),
        name: "Second".to_owned(),
        calculate_cost: Some(false),
        ..first
    }));
    rows.insert(Arc::new(CarrierServer { id: Id::new(2), carrier: Id::new(2), ..server }));
    for (id, route) in (10..).zip(rows.each::<OutgoingRouting>().cloned().collect::<Vec<_>>()) {
        rows.insert(Arc::new(OutgoingRouting {
            id: Id::new(id),
            priority: 2,
            prefix: None,
            carrier: Some(Id::new(2)),
            ..route
        }));
    }
}

fn external(test: &Test) -> &ExternalCall {
    let record = test.records.last().unwrap();
    assert_eq!(record.externals.len(), 1, "{record:?}");
    &record.externals[0]
}

fn attempts(test: &Test) -> Vec<(u32, u16)> {
    external(test).attempts.iter().map(|attempt| (attempt.carrier.get(), attempt.status)).collect()
}

#[test]
fn a_call_leaves_by_its_carrier_at_its_price() {
    let mut test = test(|_| {});
    test.caller.x_tag = Some("spring".to_owned());
    ladder(
        &mut test,
        "dial 0012066418000 offer => bob1 INVITE r(o)
         bob1 183 e     => alice 183 r(e)
         bob1 tag theirs =>
         bob1 200 a     => alice 200 r(a), noted c1000000000001
         alice ack      =>
         alice bye      => bob1 BYE, record 200 Caller answered (Normal clearing)",
    );
    let order = &test.orders[0];
    assert_eq!(order.to, Callee::Server { server: Id::new(1) });
    assert_eq!(order.called_number, "12345678*+12066418000");
    assert_eq!((order.caller_number.as_str(), order.caller_name.as_str()), (DEMO_DDIS[0], ""));
    let told = external(&test);
    assert_eq!(
        (told.direction, told.trunk),
        (CallDirection::Outbound, Some(Trunk::Carrier { carrier: Id::new(1), server: Id::new(1) }))
    );
    assert_eq!((told.callee.as_str(), told.caller.unwrap().as_str()), ("+12066418000", DEMO_DDIS[0]));
    assert_eq!((told.sip_call_id.as_str(), told.x_tag.as_deref()), ("b1@us", Some("spring")));
    let endpoint = told.endpoint.as_ref().unwrap();
    assert_eq!((endpoint.kind, endpoint.id, endpoint.name.as_str()), (EndpointKind::User, 1, "101"));
    let minute = Duration::from_secs(60);
    let sum = |tariff: Option<model::Tariff>| Rate::kept(&tariff.unwrap()).unwrap().price(minute).to_string();
    assert_eq!((sum(told.price), sum(told.cost)), ("0.0800".to_owned(), "0.0400".to_owned()));
    assert_eq!(attempts(&test), [(1, 200)]);
    assert_eq!(test.records[0].relay, Some(1));
    assert!(test.places.of(Counted::Client(Id::new(1))) + test.places.of(Counted::Brand(Id::new(1))) == 0);
}

#[test]
fn the_next_carrier_is_tried_when_one_fails_and_not_when_the_callee_refuses() {
    for (status, goes_on) in [(503, true), (408, true), (403, true), (486, false), (404, false), (302, false)]
    {
        let mut test = test(second);
        assert_eq!(test.dial("0012066418000", "o"), "bob1 INVITE r(o)");
        let said = test.on(&format!("bob1 {status}"));
        assert_eq!(said == "bob2 INVITE r(o)", goes_on, "{status}: {said}");
        if !goes_on {
            assert_eq!(attempts(&test), [(1, status)]);
            continue;
        }
        ladder(
            &mut test,
            "bob2 180       => alice 180 -
             bob2 200 a     => alice 200 r(a), noted c1000000000001
             alice bye      => bob2 BYE, record 200 Caller answered (Normal clearing)",
        );
        assert_eq!(attempts(&test), [(1, status), (2, 200)]);
        let told = external(&test);
        assert_eq!(told.trunk, Some(Trunk::Carrier { carrier: Id::new(2), server: Id::new(2) }));
        assert_eq!((told.cost, told.sip_call_id.as_str()), (None, "b2@us"));
        assert_eq!(test.orders[1].called_number, "+12066418000", "the prefix is the other route's");
    }
}

#[test]
fn the_last_carriers_refusal_is_the_calls_and_early_media_moves_on() {
    let mut test = test(second);
    ladder(
        &mut test,
        "dial 0012066418000 offer => bob1 INVITE r(o)
         bob1 183 e     => alice 183 r(e)
         bob1 500       => bob2 INVITE r(o)
         bob2 183 f     => alice 183 r(f)
         bob2 503       => alice 480, record 480 Platform unanswered (Service Unavailable)",
    );
    assert_eq!(attempts(&test), [(1, 500), (2, 503)]);
    assert_eq!(external(&test).trunk, None);
}

#[test]
fn carriers_that_do_not_answer_are_left_out_unless_none_does() {
    let mut test = test(second);
    test.silent = vec![Id::new(1)];
    test.dial("0012066418000", "o");
    assert_eq!(test.orders[0].to, Callee::Server { server: Id::new(2) });
    let mut test = self::test(second);
    test.silent = vec![Id::new(1), Id::new(2)];
    test.dial("0012066418000", "o");
    assert_eq!(test.orders[0].to, Callee::Server { server: Id::new(1) }, "one lost packet is no reason");
}

#[test]
fn a_call_without_a_price_is_not_placed_and_says_why() {
    let mut test = test(|rows| rows.remove(RatingProfile::definition(), 1));
    let said = test.dial("0012066418000", "o");
    assert!(said.starts_with("alice 403") && said.contains("no rating plan"), "{said}");
    assert!(said.contains("Reason: Q.850;cause=21"), "{said}");
    assert!(test.orders.is_empty());
    let mut test = self::test(|rows| {
        for plan in rows.each::<RatingPlan>().map(|plan| plan.id.get()).collect::<Vec<_>>() {
            rows.remove(RatingPlan::definition(), plan);
        }
    });
    assert!(test.dial("0012066418000", "o").starts_with("alice 403"));
    // Without billing nobody asks.
    let mut test = self::test(|rows| {
        rows.remove(RatingProfile::definition(), 1);
        let client: Company = the(rows);
        let billing_method = model::entities::CompanyBillingMethod::None;
        rows.insert(Arc::new(Company { billing_method, ..client }));
    });
    assert_eq!(test.dial("0012066418000", "o"), "bob1 INVITE r(o)");
}

#[test]
fn calls_to_nowhere_end_with_404_or_484() {
    let mut test = test(|rows| {
        for route in rows.each::<OutgoingRouting>().map(|route| route.id.get()).collect::<Vec<_>>() {
            if rows.get(Id::<OutgoingRouting>::new(route)).unwrap().kind == Some(OutgoingRoutingKind::Pattern)
            {
                rows.remove(OutgoingRouting::definition(), route);
            }
        }
    });
    assert!(test.dial("0012066418000", "o").starts_with("alice 404"));
    assert!(test.dial("abc", "o").starts_with("alice 404"));
    let no_ddi = |rows: &mut Rows| {
        let client: Company = the(rows);
        rows.insert(Arc::new(Company { outgoing_ddi: None, ..client }));
    };
    assert!(self::test(no_ddi).dial("0012066418000", "o").starts_with("alice 403"), "no DDI, no call");
}

#[test]
fn a_call_to_a_ddi_of_the_platform_stays_inside_and_is_told_to_both() {
    let mut test = test(|_| {});
    ladder(
        &mut test,
        "dial 911234502 offer => bob1 INVITE r(o)
         bob1 200 a     => alice 200 r(a), noted c1000000000001
         alice bye      => bob1 BYE, record 200 Caller answered (Normal clearing)",
    );
    assert!(matches!(test.orders[0].to, Callee::Binding { .. }));
    assert_eq!(test.orders[0].caller_number, "911234501", "in the form of its country");
    let told: Vec<_> =
        test.records[0].externals.iter().map(|told| (told.direction, told.trunk, told.ddi)).collect();
    let ddi = |number: &str| {
        DEMO.each::<Ddi>().find(|ddi| ddi.ddie164.as_deref() == Some(number)).map(|ddi| ddi.id)
    };
    assert_eq!(
        told,
        [
            (CallDirection::Outbound, None, ddi(DEMO_DDIS[0])),
            (CallDirection::Inbound, None, ddi(DEMO_DDIS[1]))
        ]
    );
    assert!(test.records[0].externals[0].price.is_some() && test.records[0].externals[1].price.is_none());
}

fn from_outside(test: &mut Test, caller: Option<&str>) {
    let ddi = DEMO.each::<Ddi>().find(|ddi| ddi.ddie164.as_deref() == Some(DEMO_DDIS[1])).unwrap().id;
    test.origin = Origin::Ddi {
        ddi,
        provider: Id::new(1),
        called: DEMO_DDIS[1].parse().unwrap(),
        caller: caller.map(|caller| caller.parse().unwrap()),
    };
    test.caller.name = "J. DOE".to_owned();
}

#[test]
fn a_call_from_outside_rings_whom_its_ddi_leads_to() {
    let mut test = test(|_| {});
    from_outside(&mut test, Some("+34600123456"));
    test.caller
        .diversions
        .push(Diversion { number: "+34910000000".to_owned(), reason: "no-answer".to_owned() });
    ladder(
        &mut test,
        "dial +34911234502 offer => bob1 INVITE r(o)
         bob1 200 a     => alice 200 r(a), noted c1000000000001
         bob1 bye      => alice BYE, record 200 Callee answered (Normal clearing)",
    );
    let order = &test.orders[0];
    assert_eq!((order.caller_number.as_str(), order.caller_name.as_str()), ("600123456", "J. DOE"));
    assert_eq!((order.called_number.as_str(), order.is_private), ("911234502", false));
    assert_eq!(
        order.diversions,
        [Diversion { number: "910000000".to_owned(), reason: "no-answer".to_owned() }]
    );
    let told = external(&test);
    assert_eq!((told.direction, told.trunk), (CallDirection::Inbound, Some(Trunk::DdiProvider(Id::new(1)))));
    assert_eq!(told.caller.unwrap().as_str(), "+34600123456");
    assert_eq!(told.endpoint.as_ref().unwrap().name, "102");
}

#[test]
fn who_withholds_his_number_is_known_to_nobody_inside() {
    let mut test = test(|_| {});
    from_outside(&mut test, Some("+34600123456"));
    test.caller.is_private = true;
    test.dial("+34911234502", "o");
    let order = &test.orders[0];
    assert_eq!((order.caller_number.as_str(), order.caller_name.as_str(), order.is_private), ("", "", true));
    test.on("bob1 486");
    assert_eq!(external(&test).caller, None);
    assert_eq!(test.records[0].caller, Party::default());
}

#[test]
fn a_special_number_leaves_no_trace() {
    let special = |rows: &mut Rows| {
        rows.insert(Arc::new(SpecialNumber {
            id: Id::new(77),
            number_e164: Some("+34016".to_owned()),
            disable_cdr: 1,
            ..SpecialNumber::default()
        }));
        rows.remove(RatingProfile::definition(), 1); // it needs no price
        // As the country's numbering writes it.
        let rules = rows.each::<TransformationRule>().next().is_some();
        assert!(rules);
    };
    let mut test = test(special);
    ladder(
        &mut test,
        "dial 0034016 offer => bob1 INVITE r(o)
         bob1 200 a     => alice 200 r(a)
         alice bye      => bob1 BYE",
    );
    assert!(test.records.is_empty() && test.notes.is_empty());
    assert!(test.call.as_ref().unwrap().is_over());
}

#[test]
fn external_calls_count_for_client_and_brand() {
    let one_call = |rows: &mut Rows| {
        let client: Company = the(rows);
        rows.insert(Arc::new(Company { max_calls: 1, ..client }));
    };
    let mut test = test(one_call);
    let other = Claim::client(Id::new(1), 0);
    test.places.adopt(Title { call: CallId::new(NodeId(1), 2), epoch: 0 }, &[other]);
    assert!(test.dial("0012066418000", "o").starts_with("alice 503"));
    from_outside(&mut test, None);
    assert!(test.dial("+34911234502", "o").starts_with("alice 503"), "in both directions");
}

#[test]
fn what_is_known_of_an_external_call_survives_its_server() {
    let mut test = test(|_| {});
    test.dial("0012066418000", "o");
    test.on("bob1 200 a");
    test.on("alice ack");
    test.adopt(Vec::new());
    test.carry_out();
    test.on("alice bye");
    let told = external(&test);
    assert!(told.price.is_some() && told.cost.is_some() && told.trunk.is_some());
    assert_eq!(attempts(&test), [(1, 200)]);
}
