//! The world as a fresh system has it: countries, patterns, groups, transformations.
//!
//! Manual, chapters 7.2, 9.3.2, 9.3.3 and 9.7.3.

use crate::system::{number, random};
use jiff::Timestamp;
use model::define::SecretHasher;
use model::draft::Env;
use model::entities::*;
use model::rows::Rows;
use model::seed::{DEMO_DOMAIN, fresh};
use model::{E164, Id, Snapshot};
use routing::{Call, Decision, Dialled, Endpoint, Facts, Note, Router};
use rust_decimal::Decimal;
use std::sync::Arc;

struct Plain;

impl SecretHasher for Plain {
    fn hash(&self, password: &str) -> String {
        password.to_owned()
    }
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plain")
    }
}

struct Nothing;

impl Facts for Nothing {
    fn cost(&self, _: &Carrier, _: &E164, _: Timestamp) -> Option<Decimal> {
        None
    }

    fn price(&self, _: &Company, _: Option<Id<RoutingTag>>, _: &E164, _: Timestamp) -> Option<Decimal> {
        None
    }
}

fn demo() -> Rows {
    let now = Timestamp::UNIX_EPOCH;
    let env = Env { now, level: None, hasher: &Plain, random: &|| 4, is_over: &|| false };
    fresh("secret", true, &env).unwrap().0
}

#[test]
fn numbers_of_the_world_have_their_patterns_and_groups() {
    let rows = demo();
    let brand = rows.each::<Brand>().next().unwrap().id;
    let count = rows.of::<RoutingPattern>("brand", brand.get()).count();
    let mut groups: Vec<_> =
        rows.of::<RoutingPatternGroup>("brand", brand.get()).map(|group| group.name.as_str()).collect();
    groups.sort_unstable();
    assert_eq!(count, 250);
    let zones =
        ["Africa", "Antarctica", "Asia", "Europe", "North america", "Oceania", "South america", "Universal"];
    assert_eq!(groups, zones);
    let router = Router::new(Snapshot::new(rows.clone()));
    let client = router.snapshot().client_by_domain(DEMO_DOMAIN).unwrap();
    let found = |called: &str| {
        let wanted = routing::selection::Wanted {
            client,
            called: number(called),
            tag: None,
            fax: false,
            now: Timestamp::UNIX_EPOCH,
        };
        let mut notes = Vec::new();
        assert!(router.select(&wanted, &Nothing, &mut notes).is_err(), "there are no routes yet");
        let mut names: Vec<String> = notes
            .iter()
            .filter_map(|note| match note {
                Note::Pattern(id) => rows.get(*id).map(|row| row.name.en.clone()),
                Note::Group(id) => rows.get(*id).map(|row| format!("[{}]", row.name)),
                _ => None,
            })
            .collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(found("+34911234567"), "Spain [Europe]");
    assert_eq!(found("+33123456789"), "France [Europe]");
    assert_eq!(found("+5511912345678"), "Brazil [South america]");
    assert_eq!(found("+81312345678"), "Japan [Asia]");
    assert!(found("+12066418000").contains("United States"));
    assert_eq!(found("+9991"), "");
}

#[test]
fn alice_calls_spain_and_france_as_the_first_chapters_tell() {
    let mut rows = demo();
    let brand = rows.each::<Brand>().next().unwrap().id;
    let client = rows.each::<Company>().next().unwrap().clone();
    let country = client.country;
    let alice = rows.each::<User>().find(|user| user.name == "Alice").unwrap().id;
    let europe = rows.each::<RoutingPatternGroup>().find(|group| group.name == "Europe").unwrap().id;
    let (carrier, ddi) = (Id::new(1), Id::new(1));
    let numbering = client.transformation_rule_set;
    rows.insert(Arc::new(Carrier {
        id: carrier,
        brand,
        transformation_rule_set: numbering,
        ..Carrier::default()
    }));
    rows.insert(Arc::new(CarrierServer { id: Id::new(1), carrier, brand, ..CarrierServer::default() }));
    rows.insert(Arc::new(Ddi {
        id: ddi,
        ddi: "911234567".into(),
        ddie164: Some("+34911234567".into()),
        country: Some(country),
        company: Some(client.id),
        brand,
        ..Ddi::default()
    }));
    rows.insert(Arc::new(OutgoingRouting {
        id: Id::new(1),
        brand,
        routing_pattern_group: Some(europe),
        carrier: Some(carrier),
        ..OutgoingRouting::default()
    }));
    let user = rows.get(alice).unwrap().clone();
    rows.insert(Arc::new(User { outgoing_ddi: Some(ddi), ..user }));
    let router = Router::new(Snapshot::new(rows));
    for (dialled, called, sent) in [
        ("944048182", "+34944048182", "944048182"),
        ("0034944048182", "+34944048182", "944048182"),
        ("0033123456789", "+33123456789", "0033123456789"),
        ("+33123456789", "+33123456789", "0033123456789"),
    ] {
        let (endpoint, dialled, now) = (Endpoint::User(alice), Dialled::Text(dialled), Timestamp::UNIX_EPOCH);
        let call = Call { client: client.id, endpoint, dialled, presented: None, now };
        let explained = router.simulate(&call, &Nothing, random(1));
        let Ok(Decision::Outgoing(outgoing)) = &explained.decision else { panic!("{explained}") };
        assert_eq!((outgoing.called, outgoing.shown), (number(called), Some(number("+34911234567"))));
        assert_eq!(explained.attempts[0].numbers.as_ref().unwrap().called, sent);
    }
}

#[test]
fn the_next_state_is_routed_by_at_once() {
    let rows = demo();
    let router = Router::new(Snapshot::new(rows.clone()));
    let set = rows.each::<Company>().next().unwrap().transformation_rule_set;
    let kind = TransformationRuleKind::CalleeIn;
    assert_eq!(router.transform(set, kind, "911").unwrap(), "+34911");
    let rule = rows
        .of::<TransformationRule>("transformationRuleSet", set.unwrap().get())
        .filter(|rule| rule.kind == kind)
        .max_by_key(|rule| rule.priority)
        .unwrap();
    let mut changed = rows.clone();
    changed.insert(Arc::new(TransformationRule { replace_expr: Some(r"+35\1".into()), ..rule.clone() }));
    let next = router.next(Snapshot::new(changed));
    assert_eq!(next.transform(set, kind, "911").unwrap(), "+35911");
    assert_eq!(router.transform(set, kind, "911").unwrap(), "+34911", "calls of before keep their state");
}
