//! Chapter 9.3.1, sentence by sentence.
//!
//! A route is written `whose destination -> carriers @priority xweight stop #tag`: whose is `all`, `A` (the caller's client) or `B`;
//! a destination is a pattern (`Spain` +34, `Mobile` +346, `France` +33), a group (`[Europe]` of Spain and France, `[Mobiles]`), or
//! `fax`; carriers are one, `lcr(…)`, or `block`. What remains is written as priorities with their carriers.

use crate::system::*;
use jiff::Timestamp;
use model::Id;
use model::entities::*;
use proptest::prelude::*;
use routing::note::{CarrierLeftOut, RouteLeftOut};
use routing::selection::Wanted;
use routing::{Note, Refusal, Selection};
use rust_decimal::Decimal;

const A: Id<Company> = RETAIL;
const B: Id<Company> = WHOLESALE;

fn carrier(name: &str) -> Id<Carrier> {
    Id::new(u32::from(name.as_bytes()[0] - b'a') + 1)
}

/// Puts routes in that are written as above.
fn with_routes(system: &mut System, routes: &str) {
    for (id, text) in (1..).zip(routes.split(';').map(str::trim).filter(|text| !text.is_empty())) {
        let (left, right) = text.split_once("->").unwrap();
        let [whose, destination] = left.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{text}") };
        let mut words = right.split_whitespace();
        let mut row = OutgoingRouting { id: Id::new(id), brand: BRAND, priority: 1, ..Default::default() };
        row.company = match whose {
            "all" => None,
            "A" => Some(A),
            "B" => Some(B),
            _ => panic!("{text}"),
        };
        let pattern = |name: &str| ["Spain", "Mobile", "France"].iter().position(|known| *known == name);
        let group = ["[Europe]", "[Mobiles]"].iter().position(|known| *known == destination);
        let id_of = |place: usize| u32::try_from(place).unwrap() + 1;
        (row.kind, row.routing_pattern, row.routing_pattern_group) = match (pattern(destination), group) {
            (Some(place), _) => (Some(OutgoingRoutingKind::Pattern), Some(Id::new(id_of(place))), None),
            (_, Some(place)) => (Some(OutgoingRoutingKind::Group), None, Some(Id::new(id_of(place)))),
            _ => (Some(OutgoingRoutingKind::Fax), None, None),
        };
        let mode = words.next().unwrap();
        if mode == "block" {
            (row.routing_mode, row.stopper) = (Some(OutgoingRoutingMode::Block), true);
        } else if let Some(names) = mode.strip_prefix("lcr(").and_then(|names| names.strip_suffix(')')) {
            row.routing_mode = Some(OutgoingRoutingMode::Lcr);
            for (place, name) in (0..).zip(names.split(',')) {
                system.add(OutgoingRoutingRelCarrier {
                    id: Id::new(100 * id + place),
                    outgoing_routing: row.id,
                    carrier: carrier(name),
                });
            }
        } else {
            (row.routing_mode, row.carrier) = (Some(OutgoingRoutingMode::Static), Some(carrier(mode)));
        }
        for word in words {
            match word.split_at(1) {
                ("@", priority) => row.priority = priority.parse().unwrap(),
                ("x", weight) => row.weight = weight.parse().unwrap(),
                ("#", tag) => row.routing_tag = Some(Id::new(tag.parse().unwrap())),
                _ => row.stopper = word == "stop",
            }
        }
        system.add(row);
    }
}

fn system(routes: &str) -> System {
    let mut system = System::new();
    for (carrier, cents) in [(1, 30), (2, 10), (3, 20)] {
        system.costs.insert(carrier, Decimal::new(cents, 2));
    }
    with_routes(&mut system, routes);
    system
}

/// What is dialled: a country, a tag behind `#`, and whether it is a fax.
struct Dialled {
    called: &'static str,
    tag: Option<u32>,
    fax: bool,
}

const SPAIN: Dialled = Dialled { called: "+34911234567", tag: None, fax: false };

fn read(text: &str) -> Dialled {
    let mut dialled = SPAIN;
    for word in text.split_whitespace() {
        match (word, word.strip_prefix('#')) {
            (_, Some(tag)) => dialled.tag = Some(tag.parse().unwrap()),
            ("fax", _) => dialled.fax = true,
            ("Spain", _) => dialled.called = "+34911234567",
            ("Mobile", _) => dialled.called = "+34600123456",
            ("France", _) => dialled.called = "+33123456789",
            ("Britain", _) => dialled.called = "+441234567890",
            _ => panic!("{text}"),
        }
    }
    dialled
}

fn select(system: &System, dialled: &Dialled, notes: &mut Vec<Note>) -> Result<Selection, Refusal> {
    let router = system.router();
    let client = router.snapshot().client(A).unwrap();
    let (called, tag) = (number(dialled.called), dialled.tag.map(Id::new));
    let wanted = Wanted { client, called, tag, fax: dialled.fax, now: Timestamp::UNIX_EPOCH };
    router.select(&wanted, system, notes)
}

/// `1: a + (b c) | 2: d`; carriers of a least-cost route are in brackets, weights other than 1 behind an x.
fn text(selection: &Result<Selection, Refusal>) -> String {
    let selection = match selection {
        Ok(selection) => selection,
        Err(Refusal::Blocked { .. }) => return "blocked".to_owned(),
        Err(Refusal::NoPattern { .. }) => return "no pattern".to_owned(),
        Err(Refusal::NoRoute { .. }) => return "no route".to_owned(),
        Err(Refusal::NoCarrier { silent }) => {
            return if *silent { "silent" } else { "no carrier" }.to_owned();
        }
        Err(other) => return other.to_string(),
    };
    let name = |id: Id<Carrier>| ["a", "b", "c", "d"][id.get() as usize - 1];
    let tier = |tier: &routing::selection::Tier| {
        let choice = |choice: &routing::selection::RouteChoice| {
            let names: Vec<_> = choice.carriers.iter().map(|candidate| name(candidate.carrier)).collect();
            let names = match choice.carriers.iter().any(|candidate| candidate.cost.is_some()) {
                true => format!("({})", names.join(" ")),
                false => names.join(" "),
            };
            if choice.weight == 1 { names } else { format!("{names} x{}", choice.weight) }
        };
        let choices: Vec<_> = tier.choices.iter().map(choice).collect();
        format!("{}: {}", tier.priority, choices.join(" + "))
    };
    selection.tiers.iter().map(tier).collect::<Vec<_>>().join(" | ")
}

/// Checks a table: each sentence of the manual, and below it what it says: `routes ? dialled = what remains`.
fn check(table: &str) {
    let mut sentence = "";
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        let Some((routes, rest)) = line.split_once(" ? ") else {
            sentence = line.trim();
            continue;
        };
        let (dialled, remains) = rest.split_once(" = ").unwrap();
        let selected = select(&system(routes), &read(dialled), &mut Vec::new());
        assert_eq!(text(&selected), remains, "{sentence}\n{routes}");
    }
}

#[test]
fn the_fields_of_a_route() {
    check(
        "
        Should this route apply to all clients…
            all Spain -> a ? Spain = 1: a
        …or just to one specific client?
            A Spain -> a; B Spain -> b ? Spain = 1: a
        …one specific client that is not the caller
            B Spain -> b ? Spain = no route
        This field makes the route valid for just one routing tag…
            all Spain -> a #1; all Spain -> b #2; all Spain -> c ? Spain #2 = 1: b
        …(or for none)
            all Spain -> a #1; all Spain -> c ? Spain = 1: c
        A tag for which there is no route
            all Spain -> a #1; all Spain -> c ? Spain #2 = no route
        …if this route applies for just one destination pattern…
            all Spain -> a; all France -> b ? France = 1: b
        …a group…
            all [Europe] -> a; all [Mobiles] -> b ? France = 1: a
        …or faxes
            all fax -> a; all Spain -> b ? Spain fax = 1: a
        In static, only one carrier is selected
            all Spain -> a ? Spain = 1: a
        In LCR, multiple carriers may be selected
            all Spain -> lcr(a,b) ? Spain = 1: (b a)
        In block, no carrier is selected as call will be dropped
            all Spain -> block ? Spain = blocked
        …the outgoing route with lower priority…
            all Spain -> a @2; all Spain -> b @1 ? Spain = 1: b | 2: a
        weight will determine the proportion
            all Spain -> a x3; all Spain -> b ? Spain = 1: a x3 + b
        …a stopper, matching routes with higher priority will be ignored
            all Spain -> a @1 stop; all Spain -> b @2 ? Spain = 1: a
        Matching routes with SAME priority route WILL apply
            all Spain -> a @1 stop; all Spain -> b @1; all Spain -> c @0 ? Spain = 0: c | 1: a + b
        A stopper that does not match stops nothing
            all France -> a @1 stop; all Spain -> b @2 ? Spain = 2: b
    ",
    );
}

#[test]
fn a_route_is_used_as_long_as_it_is_available() {
    let mut system = system("all Spain -> a @1; all Spain -> b @2");
    system.silent = vec![1];
    let mut notes = Vec::new();
    assert_eq!(text(&select(&system, &SPAIN, &mut notes)), "2: b");
    let (route, carrier) = (Id::new(1), Id::new(1));
    assert!(notes.contains(&Note::CarrierLeftOut { route, carrier, why: CarrierLeftOut::Silent }));
    assert!(notes.contains(&Note::RouteLeftOut { route, why: RouteLeftOut::NoCarrier }));
    system.silent = vec![1, 2];
    let none = select(&system, &SPAIN, &mut Vec::new());
    assert_eq!((text(&none), none.unwrap_err().status()), ("silent".to_owned(), 503));
}

#[test]
fn the_selection_logic_step_by_step() {
    check(
        "
        1. Apply to all clients routes with B destination pattern are selected
            all Spain -> a; all France -> b ? Spain = 1: a
        1. All patterns that fit, not the longest alone
            all Spain -> a; all Mobile -> b ? Mobile = 1: a + b
        2. Apply to all clients routes with group containing B destination are selected
            all [Europe] -> a; all [Mobiles] -> b ? Spain = 1: a
        3. Client A specific routes with B destination pattern are selected
            A Spain -> a; A France -> b; B Spain -> c ? Spain = 1: a
        4. Client A specific routes with group containing B destination are selected
            A [Europe] -> a; A [Mobiles] -> b; B [Europe] -> c ? Spain = 1: a
        1. to 4. are selected together
            A [Europe] -> a; A Spain -> b; all [Europe] -> c; all Spain -> d ? Spain = 1: a + b + c + d
        5. All these routes are ordered using Priority (lower priority apply first)
            A Spain -> a @3; all Spain -> b @2; all [Europe] -> c @1; A [Europe] -> d @4 ? Spain = 1: c | 2: b | 3: a | 4: d
        6. If any Blocking route has been selected, call is dropped
            all Spain -> a @1; A [Europe] -> block @9 ? Spain = blocked
        6. comes before 7: a stopper does not save the call
            all Spain -> a @1 stop; all Spain -> block @9 ? Spain = blocked
        6. A blocking route that has not been selected drops nothing
            all Spain -> a; all France -> block; B Spain -> block; all Spain -> block #1 ? Spain = 1: a
        7. The route with lower priority marked as Stopper…
            all Spain -> a @3 stop; all Spain -> b @2 stop; all Spain -> c @3; all Spain -> d @1 ? Spain = 1: d | 2: b
        7. …will cause discarding routes with priority greater than Y+1
            all Spain -> a @1 stop; all Spain -> b @3; all Spain -> c @4 ? Spain = 1: a
        7. Y+1 itself is discarded as well, as the field says
            all Spain -> a @1 stop; all Spain -> b @2 ? Spain = 1: a
        7. …(if any)
            all Spain -> a @1; all Spain -> b @3 ? Spain = 1: a | 3: b
        8. Call will be routed using routes that remain after this process
            all Spain -> a @1; A Spain -> b @2 stop; all Spain -> c @3 ? Spain = 1: a | 2: b
        8. None remains: no pattern
            all Spain -> a ? Britain = no pattern
        8. None remains: no route
            all France -> a ? Spain = no route
        8. None remains: no carrier
            all Spain -> lcr(d) ? Spain = no carrier
    ",
    );
}

#[test]
fn the_notes_and_tips() {
    check(
        "
        All clients routes apply to all clients, even if they have specific matching routes
            all Spain -> a; A Spain -> b ? Spain = 1: a + b
        Use priority and stopper routes: clients with specific routes don't use All clients routes
            A Spain -> a @1 stop; all Spain -> b @2 ? Spain = 1: a
        Fallback for all clients: high priority values
            A Spain -> a @1; all Spain -> b @100 ? Spain = 1: a | 100: b
        Fax specific routes will apply first
            all fax -> a @9; A fax -> b @8; B fax -> c; all Spain -> d ? Spain fax = 8: b | 9: a
        Fax routes need no pattern
            all fax -> a ? Britain fax = 1: a
        If no fax specific route is found for a given fax, routes will apply as for a normal voice call
            all Spain -> a; B fax -> b; all fax -> c #1 ? Spain fax = 1: a
        A fax with a tag takes fax routes for that tag
            all Spain -> a #1; all fax -> b; all fax -> c #1 ? Spain #1 fax = 1: c
        A voice call takes no fax routes
            all fax -> a @1 stop; all Spain -> b @2 ? Spain = 2: b
        Given examples use two routes, more can be chained and combined
            all Spain -> a @1; all Spain -> b @1; all Spain -> c @2; all Spain -> d @2 ? Spain = 1: a + b | 2: c + d
    ",
    );
}

#[test]
fn least_cost_routes() {
    check(
        "
        …order them in increasing order
            all Spain -> lcr(a,b,c) ? Spain = 1: (b c a)
        Carriers that cannot compute cost for a given destination are silently ignored
            all Spain -> lcr(a,d,b) ? Spain = 1: (b a)
        Combined 1. Static routes result in one carrier with the priority and the weight of the route
            all Spain -> a @3 x2 ? Spain = 3: a x2
        Combined 2. LCR routes result in n carriers, ordered by call cost, all of them with the priority and the weight of the route
            all Spain -> lcr(a,c,b) @2 x4 ? Spain = 2: (b c a) x4
        Combined 3. Carriers are ordered using priority (ascending order)
            all Spain -> lcr(a,b) @2; all Spain -> c @1; all Spain -> d @3 ? Spain = 1: c | 2: (b a) | 3: d
        Combined 4. Carrier's weight is used for load-balancing between carriers with same priority
            all Spain -> lcr(a,b) @1 x1; all Spain -> c @1 x3 ? Spain = 1: (b a) + c x3
    ",
    );
    let mut notes = Vec::new();
    let selected = select(&system("all Spain -> lcr(a,d)"), &SPAIN, &mut notes).unwrap();
    let why = CarrierLeftOut::NoCost;
    assert!(notes.contains(&Note::CarrierLeftOut { route: Id::new(1), carrier: Id::new(4), why }));
    assert_eq!(selected.tiers[0].choices[0].carriers[0].cost, Some(Decimal::new(30, 2)), "of five minutes");
}

#[test]
fn blocking_routes() {
    check(
        "
        Blocking routes are Stopper routes: no further route is evaluated
            all Spain -> block @1; all Spain -> a @2 ? Spain = blocked
        Make a group with unwanted call prefixes and reject all calls for every client
            all [Mobiles] -> block @1; all Spain -> a @2 ? Mobile = blocked
        …or for one particular client
            A [Mobiles] -> block; B [Mobiles] -> a; all Spain -> b ? Mobile = blocked
        …and of no other one
            B [Mobiles] -> block; all Spain -> b ? Mobile = 1: b
    ",
    );
}

/// How often each carrier comes first in ten thousand calls, in percent.
fn shares(routes: &str) -> Vec<u32> {
    let selection = select(&system(routes), &SPAIN, &mut Vec::new()).unwrap();
    let mut random = random(7);
    let mut counts = vec![0; 4];
    for _ in 0..10_000 {
        let order = selection.order(&mut random);
        counts[order[0].carrier.get() as usize - 1] += 1;
    }
    counts.into_iter().map(|count: u32| (count + 50) / 100).collect()
}

#[test]
fn the_examples_of_load_balancing() {
    let near = |shares: Vec<u32>, wanted: [u32; 4]| {
        let off = shares.iter().zip(wanted).any(|(share, wanted)| share.abs_diff(wanted) > 2);
        assert!(!off, "{shares:?} instead of {wanted:?}");
    };
    near(shares("all Spain -> a x1; all Spain -> b x1"), [50, 50, 0, 0]);
    near(shares("all Spain -> a x1; all Spain -> b x2"), [33, 67, 0, 0]);
    // A least-cost route has its share as a whole, and its cheapest carrier is first.
    near(shares("all Spain -> lcr(a,b,c) x1; all Spain -> d x1"), [0, 50, 0, 50]);
}

fn order(routes: &str, seed: u64) -> String {
    let selection = select(&system(routes), &SPAIN, &mut Vec::new()).unwrap();
    let attempts = selection.order(random(seed));
    attempts.iter().map(|attempt| char::from(b'a' - 1 + attempt.carrier.get() as u8)).collect()
}

#[test]
fn in_case_the_call_fails_the_next_route_is_tried() {
    for seed in 0..50 {
        assert_eq!(order("all Spain -> a @1; all Spain -> b @2", seed), "ab");
        let combined = order("all Spain -> lcr(a,b,c) @1; all Spain -> d @1", seed);
        assert!(["bcad", "dbca"].contains(&combined.as_str()), "{combined}: by cost, and together");
    }
}

#[test]
fn the_same_carrier_is_tried_twice_only_in_another_way() {
    assert_eq!(order("all Spain -> a @1; A Spain -> a @2; all Spain -> lcr(a,b) @3", 1), "ab");
    let mut system = system("all Spain -> a @1; A Spain -> a @2");
    let mut row = system.rows.get(Id::<OutgoingRouting>::new(2)).unwrap().clone();
    row.prefix = Some("12345678*".to_owned());
    system.add(row);
    let attempts = select(&system, &SPAIN, &mut Vec::new()).unwrap().order(random(1));
    let prefixes: Vec<_> = attempts.iter().map(|attempt| attempt.treatment.prefix.as_str()).collect();
    assert_eq!(prefixes, ["", "12345678*"]);
}

#[test]
fn a_carrier_without_servers_or_of_another_brand_takes_no_call() {
    let mut system = system("all Spain -> a @1; all Spain -> b @2; all Spain -> c @3");
    system.rows.remove(<CarrierServer as model::define::Entity>::definition(), 1);
    system.add(Carrier { id: Id::new(2), brand: OTHER_BRAND, ..Carrier::default() });
    let mut notes = Vec::new();
    assert_eq!(text(&select(&system, &SPAIN, &mut notes)), "3: c");
    let left_out = |id: u32, why| Note::CarrierLeftOut { route: Id::new(id), carrier: Id::new(id), why };
    assert!(notes.contains(&left_out(1, CarrierLeftOut::NoServer)));
    assert!(notes.contains(&left_out(2, CarrierLeftOut::Unknown)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn weights_give_their_proportions(weights in prop::collection::vec(1u32..=20, 2..=4), seed: u64) {
        let names = ["a", "b", "c", "d"];
        let routes: Vec<_> =
            names.iter().zip(&weights).map(|(name, weight)| format!("all Spain -> {name} x{weight}")).collect();
        let selection = select(&system(&routes.join(";")), &SPAIN, &mut Vec::new()).unwrap();
        let (mut random, calls) = (random(seed), 5_000);
        let mut counts = vec![0_u32; weights.len()];
        for _ in 0..calls {
            let order = selection.order(&mut random);
            prop_assert_eq!(order.len(), weights.len(), "all others remain for failover");
            counts[order[0].carrier.get() as usize - 1] += 1;
        }
        let total: u32 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(&weights) {
            let share = f64::from(*count) / f64::from(calls);
            let wanted = f64::from(*weight) / f64::from(total);
            // Five standard deviations of the widest share.
            prop_assert!((share - wanted).abs() < 5.0 * 0.5 / f64::from(calls).sqrt(), "{share} {wanted}");
        }
    }

    #[test]
    fn a_stopper_never_hides_an_equal_or_lower_priority_and_always_a_higher_one(
        routes in prop::collection::vec((0u16..6, any::<bool>()), 1..12),
    ) {
        let lines: Vec<_> = routes.iter().map(|(priority, stopper)| {
            format!("all Spain -> a @{priority}{}", if *stopper { " stop" } else { "" })
        }).collect();
        let selection = select(&system(&lines.join(";")), &SPAIN, &mut Vec::new()).unwrap();
        let first = routes.iter().filter(|(_, stopper)| *stopper).map(|(priority, _)| *priority).min();
        let mut wanted: Vec<u16> = routes.iter().map(|(priority, _)| *priority).collect();
        wanted.retain(|priority| first.is_none_or(|first| *priority <= first));
        wanted.sort_unstable();
        let tiers = selection.tiers.iter();
        let remains: Vec<u16> = tiers.flat_map(|tier| tier.choices.iter().map(|_| tier.priority)).collect();
        prop_assert_eq!(remains, wanted);
    }

    #[test]
    fn every_carrier_of_a_tier_is_tried_before_those_of_the_next(
        routes in prop::collection::vec((0u16..3, 0usize..4, 1u32..=20), 1..8), seed: u64,
    ) {
        let lines: Vec<_> = routes.iter().map(|(priority, carrier, weight)| {
            format!("all Spain -> {} @{priority} x{weight}", ["a", "b", "c", "d"][*carrier])
        }).collect();
        let selection = select(&system(&lines.join(";")), &SPAIN, &mut Vec::new()).unwrap();
        let order = selection.order(random(seed));
        prop_assert!(order.is_sorted_by_key(|attempt| attempt.priority));
        let mut carriers: Vec<_> = routes.iter().map(|(_, carrier, _)| *carrier).collect();
        carriers.sort_unstable();
        carriers.dedup();
        prop_assert_eq!(order.len(), carriers.len());
    }
}
