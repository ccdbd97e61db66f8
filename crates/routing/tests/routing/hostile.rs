//! Rows and numbers that nobody should write: decisions are refusals, never a panic.
//!
//! In: anything. Out: an answer.

use crate::system::*;
use jiff::Timestamp;
use model::Id;
use model::entities::*;
use proptest::prelude::*;
use routing::note::RouteLeftOut;
use routing::selection::{ATTEMPTS_MAX, ROUTES_MAX, Wanted};
use routing::transform::EXPRESSIONS_MAX;
use routing::{Call, Dialled, Endpoint, Note};
use std::net::{IpAddr, Ipv4Addr};

/// An id that may or may not be there.
fn id() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..6, Just(u32::MAX)]
}

/// A text that may be a number, a pattern, or nothing of the kind.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9+#*]{0,20}",
        ".{0,12}",
        Just("9".repeat(300)),
        Just("(".to_owned()),
        Just("(a|a|aa)+(?=b)".to_owned()),
        Just(r"\99999999999999999999\".to_owned()),
        Just("+34911234567".to_owned()),
        Just("+346".to_owned()),
    ]
}

fn kind() -> impl Strategy<Value = TransformationRuleKind> {
    use TransformationRuleKind::*;
    prop::sample::select(vec![CallerIn, CalleeIn, CallerOut, CalleeOut])
}

/// Puts rows in whose references lead anywhere.
fn wild(seed: &[(u32, u32, u32, String, String, TransformationRuleKind)]) -> System {
    let mut system = System::new();
    for (place, (a, b, c, one, other, kind)) in (1..).zip(seed) {
        let id = place % 6;
        let target = |ddi: Ddi| Ddi {
            route_type: [DdiRouteType::User, DdiRouteType::Friend, DdiRouteType::Ivr]
                .get(*a as usize)
                .copied(),
            user: Some(Id::new(*b)),
            friend_value: Some(one.clone()),
            ..ddi
        };
        system
            .add(TransformationRule {
                id: Id::new(100 + place),
                kind: *kind,
                priority: (a % 2 == 0).then_some(*b),
                match_expr: Some(one.clone()),
                replace_expr: Some(other.clone()),
                transformation_rule_set: Some(Id::new(*c)),
                ..TransformationRule::default()
            })
            .add(RoutingPattern {
                id: Id::new(id),
                prefix: one.clone(),
                brand: Id::new(*a),
                ..Default::default()
            })
            .add(RoutingPatternGroupsRelPattern {
                id: Id::new(50 + place),
                routing_pattern: Id::new(*a),
                routing_pattern_group: Id::new(*b),
            })
            .add(OutgoingRouting {
                id: Id::new(place),
                kind: [OutgoingRoutingKind::Pattern, OutgoingRoutingKind::Group, OutgoingRoutingKind::Fax]
                    .get(*c as usize)
                    .copied(),
                routing_mode: [OutgoingRoutingMode::Static, OutgoingRoutingMode::Lcr]
                    .get(*b as usize)
                    .copied(),
                brand: BRAND,
                priority: u16::try_from(*a).unwrap_or(u16::MAX),
                weight: *b,
                stopper: b % 2 == 0,
                company: (a % 2 == 0).then(|| Id::new(*b)),
                carrier: Some(Id::new(*c)),
                routing_pattern: Some(Id::new(*a)),
                routing_pattern_group: Some(Id::new(*b)),
                force_clid: Some(true),
                clid: Some(one.clone()),
                clid_country: Some(Id::new(*c)),
                prefix: Some(other.clone()),
                ..OutgoingRouting::default()
            })
            .add(OutgoingRoutingRelCarrier {
                id: Id::new(place),
                outgoing_routing: Id::new(*a),
                carrier: Id::new(*c),
            })
            .add(target(Ddi {
                id: Id::new(id),
                ddie164: Some(one.clone()),
                company: Some(Id::new(*c)),
                brand: Id::new(*a),
                ddi_provider: Some(Id::new(*b)),
                ..Ddi::default()
            }))
            .add(DdiProvider {
                id: Id::new(id),
                brand: Id::new(*a),
                transformation_rule_set: Some(Id::new(*c)),
                ..DdiProvider::default()
            })
            .add(DdiProviderAddress {
                id: Id::new(place),
                ddi_provider: Id::new(*c),
                ip: Some(if a % 2 == 0 { "192.0.2.1".to_owned() } else { other.clone() }),
                ..DdiProviderAddress::default()
            })
            .add(User {
                id: Id::new(id),
                company: Id::new(*a),
                terminal: Some(Id::new(*b)),
                outgoing_ddi: Some(Id::new(*c)),
                outgoing_ddi_rule: Some(Id::new(*a)),
                ..User::default()
            })
            .add(OutgoingDdiRulesPattern {
                id: Id::new(place),
                outgoing_ddi_rule: Id::new(*a),
                prefix: Some(one.clone()),
                match_list: Some(Id::new(*b)),
                ..OutgoingDdiRulesPattern::default()
            })
            .add(Friend {
                id: Id::new(id),
                company: Id::new(*b),
                inter_company: Some(Id::new(*b)),
                direct_connectivity: if a % 2 == 0 {
                    FriendDirectConnectivity::Intervpbx
                } else {
                    FriendDirectConnectivity::Yes
                },
                ..Friend::default()
            })
            .add(FriendsPattern {
                id: Id::new(place),
                friend: Id::new(*a),
                reg_exp: one.clone(),
                ..Default::default()
            })
            .add(Extension {
                id: Id::new(place),
                company: Id::new(*c),
                number: other.clone(),
                route_type: Some(ExtensionRouteType::Friend),
                friend_value: Some(other.clone()),
                ..Extension::default()
            });
    }
    system
}

#[test]
fn however_many_routes_fit_a_call_tries_a_bounded_number_of_carriers() {
    let mut system = System::new();
    for id in 1..=2000 {
        system.add(OutgoingRouting {
            id: Id::new(id),
            kind: Some(OutgoingRoutingKind::Pattern),
            routing_mode: Some(OutgoingRoutingMode::Static),
            routing_pattern: Some(Id::new(1)),
            carrier: Some(Id::new(1)),
            brand: BRAND,
            prefix: Some(id.to_string()),
            priority: 1,
            ..OutgoingRouting::default()
        });
    }
    let router = system.router();
    let client = router.snapshot().client(RETAIL).unwrap();
    let wanted =
        Wanted { client, called: number("+34911"), tag: None, fax: false, now: Timestamp::UNIX_EPOCH };
    let mut notes = Vec::new();
    let selection = router.select(&wanted, &system, &mut notes).unwrap();
    assert_eq!(selection.tiers[0].choices.len(), ROUTES_MAX);
    assert_eq!(selection.order(random(1)).len(), ATTEMPTS_MAX);
    let too_many = |note: &&Note| matches!(note, Note::RouteLeftOut { why: RouteLeftOut::TooMany, .. });
    assert_eq!(notes.iter().filter(too_many).count(), 2000 - ROUTES_MAX);
}

#[test]
fn however_many_expressions_a_tenant_writes_a_bounded_number_is_tried() {
    let most = u32::try_from(EXPRESSIONS_MAX).unwrap();
    // The expression at one place fits, all others do not.
    let found = |fits: u32| {
        let mut system = System::new();
        system.add(Friend { id: Id::new(1), company: VPBX, ..Friend::default() });
        for id in 1..=most + 1 {
            let text = if id == fits { "7001" } else { "x" }.to_owned();
            system
                .add(FriendsPattern {
                    id: Id::new(id),
                    friend: Id::new(1),
                    reg_exp: text.clone(),
                    ..FriendsPattern::default()
                })
                .add(MatchListPattern {
                    id: Id::new(id),
                    kind: MatchListPatternKind::Regexp,
                    regexp: Some(text),
                    match_list: Id::new(1),
                    ..MatchListPattern::default()
                });
        }
        let router = system.router();
        (router.within(VPBX, "7001").is_some(), router.is_listed(Id::new(1), &number("+7001")))
    };
    assert_eq!(found(most), (true, true));
    assert_eq!(found(most + 1), (false, false));
}

#[test]
fn what_strangers_write_does_not_reach_a_terminal_as_it_is() {
    let mut system = System::new();
    system.add(RetailAccount { id: Id::new(1), company: RETAIL, ..RetailAccount::default() });
    let call = Call {
        client: RETAIL,
        endpoint: Endpoint::RetailAccount(Id::new(1)),
        dialled: Dialled::Text("\u{1b}[2J\n911"),
        presented: None,
        now: Timestamp::UNIX_EPOCH,
    };
    let text = system.router().simulate(&call, &system, random(1)).to_string();
    assert!(text.contains("u{1b}[2J") && !text.contains('\u{1b}'), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_and_any_numbers_get_an_answer(
        rows in prop::collection::vec((id(), id(), id(), text(), text(), kind()), 0..12),
        client in id(),
        endpoint in id(),
        which in 0..6,
        dialled in text(),
        presented in text(),
        seed: u64,
    ) {
        let system = wild(&rows);
        let router = system.router();
        let endpoint = match which {
            0 => Endpoint::User(Id::new(endpoint)),
            1 => Endpoint::Friend(Id::new(endpoint)),
            2 => Endpoint::ResidentialDevice(Id::new(endpoint)),
            3 => Endpoint::RetailAccount(Id::new(endpoint)),
            4 => Endpoint::Fax(Id::new(endpoint)),
            _ => Endpoint::Wholesale,
        };
        let (dialled_text, now) = (Dialled::Text(&dialled), Timestamp::UNIX_EPOCH);
        let call = Call {
            client: Id::new(client),
            endpoint,
            dialled: dialled_text,
            presented: Some(&presented),
            now,
        };
        let explained = router.simulate(&call, &system, random(seed));
        if let Err(refused) = &explained.decision {
            prop_assert!((400..700).contains(&refused.status()));
        }
        prop_assert!(!explained.to_string().is_empty());
        let source = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let _ = router.incoming(source, &dialled, Some(&presented), &mut ());
        let _ = router.next(router.snapshot().clone());
    }
}
