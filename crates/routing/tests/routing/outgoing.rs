//! Calls of the clients' endpoints: chapters 9.1.1 to 9.1.4, 9.3.4, 9.7.2, 10.1.4, 10.1.5 and 10.1.7.
//!
//! Each client but the wholesale one has two DDIs, the second of which is its fallback; all calls to Spain go to carrier a.

use crate::system::*;
use jiff::Timestamp;
use model::Id;
use model::define::choices::{DdiAction, YesNo};
use model::entities::*;
use routing::{Call, Decision, Dialled, Endpoint, Outgoing, Refusal, Target, Way};

const USER: Endpoint = Endpoint::User(Id::new(1));
const FRIEND: Endpoint = Endpoint::Friend(Id::new(1));
const DEVICE: Endpoint = Endpoint::ResidentialDevice(Id::new(1));
const ACCOUNT: Endpoint = Endpoint::RetailAccount(Id::new(1));
const FAX: Endpoint = Endpoint::Fax(Id::new(1));

fn system() -> System {
    let mut system = System::new();
    let kind = Some(OutgoingRoutingKind::Pattern);
    let mode = Some(OutgoingRoutingMode::Static);
    for (id, tag) in [(1, None), (2, Some(Id::new(1)))] {
        system.add(OutgoingRouting {
            id: Id::new(id),
            kind,
            routing_mode: mode,
            carrier: Some(Id::new(id)),
            routing_pattern: Some(Id::new(1)),
            routing_tag: tag,
            brand: BRAND,
            weight: 1,
            ..OutgoingRouting::default()
        });
    }
    for client in [VPBX, RESIDENTIAL, RETAIL] {
        let id = client.get();
        system.ddi(10 * id, &format!("+3490000{id}0"), Some(client));
        system.ddi(10 * id + 1, &format!("+3490000{id}1"), Some(client));
        let row = system.rows.get(client).unwrap().clone();
        system.add(Company { outgoing_ddi: Some(Id::new(10 * id + 1)), ..row });
    }
    system
        .add(User { id: Id::new(1), company: VPBX, ..User::default() })
        .add(Friend { id: Id::new(1), company: VPBX, ..Friend::default() })
        .add(ResidentialDevice { id: Id::new(1), company: RESIDENTIAL, ..Default::default() })
        .add(RetailAccount { id: Id::new(1), company: RETAIL, ..RetailAccount::default() })
        .add(Fax { id: Id::new(1), company: RESIDENTIAL, ..Fax::default() })
        .add(CompanyRelRoutingTag { id: Id::new(1), company: RETAIL, routing_tag: Id::new(1) })
        .add(CompanyRelRoutingTag { id: Id::new(2), company: WHOLESALE, routing_tag: Id::new(1) })
        .add(CompanyRelRoutingTag { id: Id::new(3), company: VPBX, routing_tag: Id::new(1) });
    system
}

fn client_of(endpoint: Endpoint) -> Id<Company> {
    match endpoint {
        Endpoint::User(_) | Endpoint::Friend(_) => VPBX,
        Endpoint::ResidentialDevice(_) | Endpoint::Fax(_) => RESIDENTIAL,
        Endpoint::RetailAccount(_) => RETAIL,
        Endpoint::Wholesale => WHOLESALE,
    }
}

fn decide(
    system: &System,
    endpoint: Endpoint,
    dialled: &str,
    presented: Option<&str>,
) -> Result<Decision, Refusal> {
    let (client, dialled, now) = (client_of(endpoint), Dialled::Text(dialled), Timestamp::UNIX_EPOCH);
    let call = Call { client, endpoint, dialled, presented, now };
    system.router().route(&call, system, &mut ())
}

fn outgoing(
    system: &System,
    endpoint: Endpoint,
    dialled: &str,
    presented: Option<&str>,
) -> Result<Outgoing, Refusal> {
    decide(system, endpoint, dialled, presented).map(|decision| match decision {
        Decision::Outgoing(outgoing) => outgoing,
        Decision::Within(target) => panic!("{target:?}"),
    })
}

fn shown(system: &System, endpoint: Endpoint, presented: Option<&str>) -> Option<String> {
    let outgoing = outgoing(system, endpoint, "911234567", presented).unwrap();
    outgoing.shown.map(|number| number.as_str().to_owned())
}

#[test]
fn a_number_that_is_one_of_the_clients_is_shown_and_else_the_fallback() {
    let system = system();
    for (sentence, endpoint, presented, wanted) in [
        (
            "platform will use the CLID provided by the client as long as it is considered valid",
            DEVICE,
            Some("9000020"),
            "+349000020",
        ),
        ("…in any form that its rules know", DEVICE, Some("00349000020"), "+349000020"),
        ("…otherwise fallback DDI will be used", DEVICE, Some("911111111"), "+349000021"),
        ("another client's DDI is not valid", DEVICE, Some("9000030"), "+349000021"),
        ("no number at all", DEVICE, None, "+349000021"),
        ("what is no number", DEVICE, Some("anonymous"), "+349000021"),
        ("retail accounts alike", ACCOUNT, Some("9000030"), "+349000030"),
        ("retail accounts alike", ACCOUNT, Some("1"), "+349000031"),
        (
            "friends: unless the source presented by friend is a DDI that exists",
            FRIEND,
            Some("9000010"),
            "+349000010",
        ),
        ("friends: otherwise", FRIEND, Some("101"), "+349000011"),
        ("users show what is configured", USER, Some("9000010"), "+349000011"),
    ] {
        assert_eq!(shown(&system, endpoint, presented).as_deref(), Some(wanted), "{sentence}");
    }
}

#[test]
fn the_fallback_of_an_endpoint_comes_before_that_of_the_client() {
    let mut system = system();
    let ddi = |client: Id<Company>| Some(Id::new(10 * client.get()));
    system
        .add(User { id: Id::new(1), company: VPBX, outgoing_ddi: ddi(VPBX), ..User::default() })
        .add(Friend { id: Id::new(1), company: VPBX, outgoing_ddi: ddi(VPBX), ..Friend::default() })
        .add(ResidentialDevice {
            id: Id::new(1),
            company: RESIDENTIAL,
            outgoing_ddi: ddi(RESIDENTIAL),
            ..Default::default()
        })
        .add(RetailAccount {
            id: Id::new(1),
            company: RETAIL,
            outgoing_ddi: ddi(RETAIL),
            ..Default::default()
        })
        .add(Fax { id: Id::new(1), company: RESIDENTIAL, outgoing_ddi: ddi(RESIDENTIAL), ..Fax::default() });
    for endpoint in [USER, FRIEND, DEVICE, ACCOUNT, FAX] {
        let wanted = format!("+3490000{}0", client_of(endpoint));
        assert_eq!(shown(&system, endpoint, None), Some(wanted), "{endpoint:?}");
    }
}

#[test]
fn no_ddi_no_call() {
    let mut system = system();
    for client in [VPBX, RESIDENTIAL, RETAIL] {
        let row = system.rows.get(client).unwrap().clone();
        // Another client's DDI is none.
        let stolen = Some(Id::new(10 * (client.get() % 3 + 1)));
        system.add(Company { outgoing_ddi: stolen, ..row });
    }
    for endpoint in [USER, FRIEND, DEVICE, ACCOUNT, FAX] {
        let refused = outgoing(&system, endpoint, "911234567", None).unwrap_err();
        let client = client_of(endpoint);
        assert_eq!((&refused, refused.status()), (&Refusal::NoIdentity { client }, 403));
    }
    assert!(outgoing(&system, DEVICE, "911234567", Some("9000020")).is_ok(), "unless it presents one");
}

#[test]
fn a_wholesale_clients_numbers_are_its_own() {
    let system = system();
    let call = |presented| outgoing(&system, Endpoint::Wholesale, "911234567", presented).unwrap();
    let made = call(Some("0033123456789"));
    assert_eq!((made.shown, made.ddi), (Some(number("+33123456789")), None));
    assert_eq!(call(None).shown, None);
    let retail = Call {
        client: RETAIL,
        endpoint: Endpoint::Wholesale,
        dialled: Dialled::Text("911234567"),
        presented: None,
        now: Timestamp::UNIX_EPOCH,
    };
    let refused = system.router().route(&retail, &system, &mut ()).unwrap_err();
    assert_eq!(refused, Refusal::NoEndpoint { client: RETAIL });
}

#[test]
fn a_routing_tag_chooses_another_route_where_it_is_enabled() {
    let mut system = system();
    system.add(RoutingTag { id: Id::new(3), tag: "123#".to_owned(), brand: BRAND, ..Default::default() });
    system.add(RoutingTag { id: Id::new(4), tag: "9#".to_owned(), brand: OTHER_BRAND, ..Default::default() });
    system.add(CompanyRelRoutingTag { id: Id::new(9), company: RETAIL, routing_tag: Id::new(4) });
    for (sentence, endpoint, dialled, wanted) in [
        ("no tag", ACCOUNT, "911234567", Ok((None, 1))),
        ("a code that will prefix the destination number", ACCOUNT, "1#911234567", Ok((Some(1), 2))),
        ("wholesale clients, too", Endpoint::Wholesale, "1#0034911234567", Ok((Some(1), 2))),
        ("a tag of the brand that the client may not use: declined", ACCOUNT, "2#911234567", Err(403)),
        ("three digits, not enabled", ACCOUNT, "123#911234567", Err(403)),
        ("a tag that is not there", ACCOUNT, "777#911234567", Err(403)),
        ("another brand's tag", ACCOUNT, "9#911234567", Err(403)),
        ("only for wholesale and retail: residential", DEVICE, "1#911234567", Err(403)),
        ("only for wholesale and retail: vPBX, whatever the rows say", USER, "1#911234567", Err(403)),
        ("four digits are no tag, and no number either", ACCOUNT, "1234#911234567", Err(484)),
        ("no digit before it", ACCOUNT, "#911234567", Err(484)),
        ("only the first one is a tag", ACCOUNT, "1#1#911234567", Err(484)),
        ("nothing behind it", ACCOUNT, "1#", Err(484)),
    ] {
        let made = outgoing(&system, endpoint, dialled, None).map(|outgoing| {
            let Way::Carriers(selection) = outgoing.way else { panic!("{sentence}") };
            (outgoing.tag.map(Id::get), selection.tiers[0].choices[0].carriers[0].carrier.get())
        });
        assert_eq!(made.map_err(|refused| refused.status()), wanted, "{sentence}");
    }
}

#[test]
fn what_is_no_number_and_what_leads_nowhere_are_told_apart() {
    let system = system();
    for (dialled, status) in
        [("abc", 484), ("", 484), ("+", 484), (&"1".repeat(80), 484), ("0044123", 404), ("0033123", 404)]
    {
        assert_eq!(outgoing(&system, DEVICE, dialled, None).unwrap_err().status(), status, "{dialled}");
    }
}

#[test]
fn special_numbers_are_marked_in_their_brand() {
    let mut system = system();
    for (id, number, brand, disable_cdr) in [
        (1, "+34016", None, 1),
        (2, "+34017", Some(BRAND), 1),
        (3, "+34018", Some(OTHER_BRAND), 1),
        (4, "+34019", None, 0),
    ] {
        let number_e164 = Some(number.to_owned());
        system.add(SpecialNumber { id: Id::new(id), number_e164, brand, disable_cdr, ..Default::default() });
    }
    let special = |dialled: &str| outgoing(&system, DEVICE, dialled, None).unwrap().special;
    let dialled = ["016", "0034016", "017", "018", "019", "020"];
    assert_eq!(dialled.map(special), [true, true, true, false, false, false]);
}

/// Manual, chapter 12.6: "total amount of money spent within a day can be limited".
#[test]
fn a_client_at_its_daily_limit_makes_no_external_calls_but_to_special_numbers() {
    for (spent, limit, status) in [(9, 10, None), (10, 10, Some(403)), (11, 10, Some(403)), (0, 0, Some(403))]
    {
        let mut system = system();
        let mut client = system.rows.get(RESIDENTIAL).unwrap().clone();
        (client.current_day_usage, client.max_daily_usage) = (Some(spent.into()), limit);
        let number_e164 = Some("+34016".to_owned());
        system.add(client).add(SpecialNumber { id: Id::new(1), number_e164, ..Default::default() }).add(
            Ddi {
                id: Id::new(91),
                ddie164: Some("+34911111111".to_owned()),
                company: Some(VPBX),
                brand: BRAND,
                kind: DdiKind::Inout,
                route_type: Some(DdiRouteType::User),
                user: Some(Id::new(1)),
                ..Ddi::default()
            },
        );
        let said = |dialled: &str| outgoing(&system, DEVICE, dialled, None).err().map(|no| no.status());
        assert_eq!((said("960000000"), said("911111111")), (status, status), "{spent} of {limit}");
        assert_eq!(said("016"), None, "{spent} of {limit}");
    }
}

#[test]
fn calls_to_inbound_and_outbound_ddis_are_routed_inside() {
    let mut system = system();
    let ddi = |id: u32, number: &str, company, brand, kind| Ddi {
        id: Id::new(id),
        ddie164: Some(number.to_owned()),
        company,
        brand,
        kind,
        route_type: Some(DdiRouteType::User),
        user: Some(Id::new(1)),
        ..Ddi::default()
    };
    system
        .add(ddi(91, "+34911111111", Some(VPBX), BRAND, DdiKind::Inout))
        .add(ddi(92, "+34922222222", Some(VPBX), BRAND, DdiKind::Out))
        .add(ddi(93, "+34933333333", Some(ELSEWHERE), OTHER_BRAND, DdiKind::Inout))
        .add(ddi(94, "+34944444444", None, BRAND, DdiKind::Inout))
        .add(ddi(95, "+34955555555", Some(ELSEWHERE), OTHER_BRAND, DdiKind::Inout))
        .add(ddi(96, "+34955555555", Some(VPBX), BRAND, DdiKind::Inout))
        .add(ddi(97, "+34966666666", Some(ELSEWHERE), OTHER_BRAND, DdiKind::Inout))
        .add(Ddi { route_type: None, ..ddi(98, "+34977777777", Some(VPBX), BRAND, DdiKind::Inout) })
        .add(SpecialNumber {
            id: Id::new(1),
            number_e164: Some("+34966666666".into()),
            disable_cdr: 1,
            ..Default::default()
        });
    for (sentence, dialled, inside) in [
        ("Inbound & outbound", "911111111", Some(91)),
        ("Outbound only: it is reached by a carrier, if at all", "922222222", None),
        ("a DDI of another brand of the platform", "933333333", Some(93)),
        ("a DDI that no client has", "944444444", None),
        ("a number that two brands claim: the caller's own", "955555555", Some(96)),
        ("a special number, such as that of the police, is nobody's DDI", "966666666", None),
        ("no DDI at all", "900000000", None),
    ] {
        let made = outgoing(&system, DEVICE, dialled, None).unwrap();
        let found = match &made.way {
            Way::Inside(incoming) => {
                assert_eq!((incoming.provider, incoming.caller), (None, Some(number("+349000021"))));
                assert_eq!(incoming.target, Target::User(Id::new(1)));
                Some(incoming.ddi.get())
            }
            Way::Carriers(_) => None,
        };
        assert_eq!(found, inside, "{sentence}");
    }
    let refused = outgoing(&system, DEVICE, "977777777", None).unwrap_err();
    assert!(matches!(refused, Refusal::Inside(_)) && refused.status() == 404, "{refused}");
}

#[test]
fn within_a_virtual_pbx_extensions_come_first_then_friends_then_the_world() {
    let mut system = system();
    let friend =
        |id: u32, priority: i16| Friend { id: Id::new(id), company: VPBX, priority, ..Default::default() };
    let pattern = |id: u32, friend: u32, reg_exp: &str| FriendsPattern {
        id: Id::new(id),
        friend: Id::new(friend),
        reg_exp: reg_exp.to_owned(),
        ..FriendsPattern::default()
    };
    let extension = |id: u32, company, number: &str, route| Extension {
        id: Id::new(id),
        company,
        number: number.to_owned(),
        route_type: route,
        ..Extension::default()
    };
    let to_user = Some(ExtensionRouteType::User);
    system
        .add(Extension { user: Some(Id::new(1)), ..extension(1, VPBX, "101", to_user) })
        .add(extension(2, VPBX, "102", None))
        .add(Extension {
            number_country: Some(Id::new(1)),
            number_value: Some("911234567".into()),
            ..extension(3, VPBX, "103", Some(ExtensionRouteType::Number))
        })
        .add(Extension {
            friend_value: Some("7001".into()),
            ..extension(4, VPBX, "104", Some(ExtensionRouteType::Friend))
        })
        .add(Extension { user: Some(Id::new(2)), ..extension(5, ELSEWHERE, "555", to_user) })
        .add(friend(1, 2))
        .add(friend(2, 1))
        .add(Friend {
            direct_connectivity: FriendDirectConnectivity::Intervpbx,
            inter_company: Some(ELSEWHERE),
            ..friend(3, 0)
        })
        .add(pattern(1, 1, "^7[0-9]{3}$"))
        .add(pattern(2, 2, "^70"))
        .add(pattern(3, 1, "101"))
        .add(pattern(4, 2, "("));
    let behind = |friend: u32, number: &str| {
        Some(Ok(Target::Friend { friend: Id::new(friend), number: number.to_owned() }))
    };
    let other = Target::OtherClient { friend: Id::new(3), extension: Id::new(5) };
    for (sentence, dialled, wanted) in [
        ("1. Destination matches an existing extension?", "101", Some(Ok(Target::User(Id::new(1))))),
        ("Unassigned: calls to this extension will be hung up", "102", Some(Err(404))),
        ("Number: an external outbound call", "103", Some(Ok(Target::Number(number("+34911234567"))))),
        ("Friend: calls to this extension will evaluate friends logic", "104", behind(2, "7001")),
        ("2. Destination matches any friend regular expression", "7900", behind(1, "7900")),
        ("Ordered by priority (lower has precedence)", "7001", behind(2, "7001")),
        ("or extensions (for internal ones)", "555", Some(Ok(other))),
        ("3. If not: this is an external call", "911234567", None),
    ] {
        let made = match decide(&system, USER, dialled, None) {
            Ok(Decision::Within(target)) => Some(Ok(target)),
            Ok(Decision::Outgoing(_)) => None,
            Err(refused) => Some(Err(refused.status())),
        };
        assert_eq!(made, wanted, "{sentence}");
    }
    assert!(
        matches!(decide(&system, DEVICE, "101", None), Ok(Decision::Outgoing(_))),
        "others have no extensions"
    );
}

#[test]
fn outgoing_ddi_rules_choose_the_number_by_destination_or_prefix() {
    let mut system = system();
    let pattern = |id: u32, kind, action, forced: Option<u32>| OutgoingDdiRulesPattern {
        id: Id::new(id),
        kind,
        action,
        priority: i16::try_from(id).unwrap(),
        outgoing_ddi_rule: Id::new(1),
        forced_ddi: forced.map(Id::new),
        ..OutgoingDdiRulesPattern::default()
    };
    use OutgoingDdiRulesPatternKind::{Destination, Prefix};
    system
        .ddi(12, "+349000012", Some(VPBX))
        .add(User {
            id: Id::new(1),
            company: VPBX,
            outgoing_ddi: Some(Id::new(10)),
            outgoing_ddi_rule: Some(Id::new(1)),
            ..User::default()
        })
        .add(OutgoingDdiRule {
            id: Id::new(1),
            company: VPBX,
            default_action: DdiAction::Force,
            ..Default::default()
        })
        .add(OutgoingDdiRulesPattern {
            match_list: Some(Id::new(1)),
            ..pattern(1, Destination, DdiAction::Keep, None)
        })
        .add(OutgoingDdiRulesPattern {
            prefix: Some("111*".into()),
            ..pattern(2, Prefix, DdiAction::Force, Some(12))
        })
        .add(MatchListPattern {
            id: Id::new(1),
            kind: MatchListPatternKind::Regexp,
            regexp: Some(r"^\+346".into()),
            match_list: Id::new(1),
            ..MatchListPattern::default()
        })
        .add(MatchListPattern {
            id: Id::new(2),
            kind: MatchListPatternKind::Number,
            numbervalue: Some("911111111".into()),
            number_country: Some(Id::new(1)),
            match_list: Id::new(1),
            ..MatchListPattern::default()
        });
    for (sentence, dialled, wanted) in [
        ("when no rule matches: force the main client DDI", "911234567", Ok("+349000011")),
        ("mobiles of the list: keep", "600123456", Ok("+349000010")),
        ("a number of the list: keep", "911111111", Ok("+349000010")),
        ("a prefix: force another, and it is not dialled", "111*911234567", Ok("+349000012")),
        ("the first pattern that fits decides", "111*600123456", Ok("+349000010")),
        ("a prefix that the rule does not know", "112*911234567", Err(404)),
    ] {
        let made = outgoing(&system, USER, dialled, None);
        let made = made.map(|outgoing| {
            assert!(!outgoing.called.as_str().contains("111*"));
            outgoing.shown.unwrap().to_string()
        });
        let made = made.as_deref().map_err(|refused| refused.status());
        assert_eq!(made, wanted, "{sentence}");
    }
}

#[test]
fn t38_endpoints_and_virtual_faxes_send_faxes() {
    let mut system = system();
    let fax = |system: &System, endpoint| outgoing(system, endpoint, "911234567", None).unwrap().fax;
    assert_eq!(
        [USER, FRIEND, DEVICE, ACCOUNT, FAX].map(|it| fax(&system, it)),
        [false, false, false, false, true]
    );
    let t38_passthrough = YesNo::Yes;
    system
        .add(Terminal { id: Id::new(1), t38_passthrough, ..Terminal::default() })
        .add(User { id: Id::new(1), company: VPBX, terminal: Some(Id::new(1)), ..User::default() })
        .add(Friend { id: Id::new(1), company: VPBX, t38_passthrough, ..Friend::default() })
        .add(ResidentialDevice {
            id: Id::new(1),
            company: RESIDENTIAL,
            t38_passthrough,
            ..Default::default()
        })
        .add(RetailAccount { id: Id::new(1), company: RETAIL, t38_passthrough, ..Default::default() });
    assert_eq!([USER, FRIEND, DEVICE, ACCOUNT].map(|it| fax(&system, it)), [true; 4]);
}

#[test]
fn an_endpoints_own_form_of_numbers_comes_before_its_clients() {
    let mut system = system();
    system.rule(60, 2, TransformationRuleKind::CalleeIn, "^9([0-9]+)$", r"+\1");
    system.rule(61, 2, TransformationRuleKind::CallerOut, r"^\+([0-9]+)$", r"tel\1");
    system.rule(62, 2, TransformationRuleKind::CalleeOut, r"^\+([0-9]+)$", r"\1");
    let device = ResidentialDevice {
        id: Id::new(1),
        company: RESIDENTIAL,
        transformation_rule_set: Some(Id::new(2)),
        ddi_in: YesNo::Yes,
        ..ResidentialDevice::default()
    };
    system.add(device.clone());
    assert_eq!(outgoing(&system, DEVICE, "934911", None).unwrap().called, number("+34911"));
    let router = system.router();
    let (caller, called) = (number("+34944"), number("+349000020"));
    let at = |endpoint| {
        let client = client_of(endpoint);
        (
            router.caller_at(endpoint, client, &caller).unwrap(),
            router.called_at(endpoint, client, &called).unwrap(),
        )
    };
    assert_eq!(at(DEVICE), ("tel34944".to_owned(), Some("349000020".to_owned())));
    assert_eq!(at(USER), ("944".to_owned(), Some("9000020".to_owned())), "the client's");
    let friend = Friend { id: Id::new(1), company: VPBX, ddi_in: YesNo::No, ..Friend::default() };
    let account =
        RetailAccount { id: Id::new(1), company: RETAIL, ddi_in: YesNo::No, ..RetailAccount::default() };
    system.add(ResidentialDevice { ddi_in: YesNo::No, ..device }).add(friend).add(account);
    for endpoint in [DEVICE, FRIEND, ACCOUNT] {
        let named = system.router().called_at(endpoint, client_of(endpoint), &called).unwrap();
        assert_eq!(named, None, "DDI In is off: it is called by what it registered with");
    }
}

#[test]
fn a_friend_gets_dialled_numbers_as_they_are_unless_its_rules_always_apply() {
    let mut system = system();
    let at = |system: &System| system.router().dialled_at_friend(Id::new(1), "+34911").unwrap();
    assert_eq!(at(&system), "+34911");
    system.add(Friend {
        id: Id::new(1),
        company: VPBX,
        always_apply_transformations: true,
        ..Friend::default()
    });
    assert_eq!(at(&system), "911");
}

#[test]
fn a_carrier_gets_numbers_in_its_form_with_the_routes_prefix_and_number() {
    let mut system = system();
    let route = system.rows.get(Id::<OutgoingRouting>::new(1)).unwrap().clone();
    let numbers = |system: &System| {
        let router = system.router();
        let made = outgoing(system, DEVICE, "911234567", None).unwrap();
        let Way::Carriers(selection) = &made.way else { panic!("carriers") };
        let attempt = &selection.order(random(1))[0];
        let sent = router.for_carrier(attempt, &made.called, made.shown.as_ref()).unwrap();
        (sent.called, sent.caller.unwrap())
    };
    assert_eq!(numbers(&system), ("+34911234567".to_owned(), "+349000021".to_owned()), "no rules: E.164");
    system.add(Carrier {
        id: Id::new(1),
        brand: BRAND,
        transformation_rule_set: Some(Id::new(1)),
        ..Carrier::default()
    });
    system.add(OutgoingRouting {
        prefix: Some("12345678*".to_owned()),
        force_clid: Some(true),
        clid: Some("955".to_owned()),
        clid_country: Some(Id::new(1)),
        ..route
    });
    assert_eq!(numbers(&system), ("12345678*911234567".to_owned(), "955".to_owned()));
}

#[test]
fn a_number_that_the_configuration_names_is_called_as_it_is() {
    let system = system();
    let call = |tag: Option<u32>| Call {
        client: VPBX,
        endpoint: USER,
        dialled: Dialled::Number { number: number("+34911234567"), tag: tag.map(Id::new) },
        presented: None,
        now: Timestamp::UNIX_EPOCH,
    };
    let carrier = |tag| match system.router().route(&call(tag), &system, &mut ()) {
        Ok(Decision::Outgoing(Outgoing { way: Way::Carriers(selection), .. })) => {
            selection.order(random(1))[0].carrier.get()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!((carrier(None), carrier(Some(1))), (1, 2), "with the tag that it carries");
}
