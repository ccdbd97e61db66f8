//! Calls to DDIs: chapters 9.6.3 and 10.1.4.
//!
//! Providers 1 to 3 are of the brand (Spanish numbers, numbers without plus, Spanish numbers), provider 4 of the other brand.

use crate::system::*;
use model::Id;
use model::entities::*;
use routing::target::NoTarget;
use routing::{Incoming, IncomingRefusal, Router, Service, Target};
use std::net::IpAddr;

const SHARED: &str = "192.0.2.1";
const OTHERS: &str = "192.0.2.4";

fn system() -> System {
    let mut system = System::new();
    system.rule(50, 2, TransformationRuleKind::CalleeIn, "^([0-9]+)$", r"+\1");
    system.rule(51, 2, TransformationRuleKind::CallerIn, "^([0-9]+)$", r"+\1");
    for (id, brand, set, ip) in [
        (1, BRAND, 1, SHARED),
        (2, BRAND, 2, SHARED),
        (3, BRAND, 1, "2001:db8::3"),
        (4, OTHER_BRAND, 1, OTHERS),
    ] {
        let set = Some(Id::new(set));
        system.add(DdiProvider {
            id: Id::new(id),
            brand,
            transformation_rule_set: set,
            ..Default::default()
        });
        let (id, ddi_provider) = (Id::new(id), Id::new(id));
        system.add(DdiProviderAddress { id, ddi_provider, ip: Some(ip.to_owned()), ..Default::default() });
    }
    system.add(User { id: Id::new(1), company: VPBX, ..User::default() });
    system.ddi(1, "+34911234567", Some(VPBX));
    change(&mut system, to_user);
    system
}

fn to_user(ddi: &mut Ddi) {
    (ddi.route_type, ddi.user) = (Some(DdiRouteType::User), Some(Id::new(1)));
}

fn change(system: &mut System, change: impl FnOnce(&mut Ddi)) {
    let mut ddi = system.rows.get(Id::<Ddi>::new(1)).unwrap().clone();
    change(&mut ddi);
    system.add(ddi);
}

fn call(router: &Router, source: &str, called: &str, caller: &str) -> Result<Incoming, IncomingRefusal> {
    router.incoming(source.parse::<IpAddr>().unwrap(), called, Some(caller), &mut ())
}

#[test]
fn the_provider_is_found_by_address_then_by_ddi() {
    let router = system().router();
    for (sentence, source, called, provider) in [
        ("Source IP is compared against all DDI Providers addresses", SHARED, "911234567", Ok(1)),
        ("If none matches, call is rejected", "192.0.2.99", "911234567", Err(None)),
        (
            "DDI is transformed in a loop: the first one's rules match nothing of ours",
            SHARED,
            "34911234567",
            Ok(2),
        ),
        ("the lower id, the first", SHARED, "+34911234567", Ok(1)),
        (
            "As soon as transformed DDI matches a DDI within the same brand",
            OTHERS,
            "911234567",
            Err(Some(404)),
        ),
        ("If loop ends without any match, call is rejected", SHARED, "911234568", Err(Some(404))),
        ("What is no number matches nothing", SHARED, "anonymous", Err(Some(404))),
        ("IPv6", "2001:db8:0::3", "911234567", Ok(3)),
        ("IPv4 on a socket of both families", "::ffff:192.0.2.1", "911234567", Ok(1)),
    ] {
        let found = call(&router, source, called, "").map(|incoming| incoming.provider.unwrap().get());
        assert_eq!(
            found.as_ref().map_err(IncomingRefusal::status),
            provider.as_ref().map_err(|it| *it),
            "{sentence}"
        );
    }
    assert!(!router.ddi_providers(SHARED.parse().unwrap()).is_empty());
    assert!(router.ddi_providers("192.0.2.99".parse().unwrap()).is_empty());
}

#[test]
fn a_linked_provider_with_the_same_address_is_recorded_instead() {
    let linked = |provider: u32| {
        let mut system = system();
        change(&mut system, |ddi| ddi.ddi_provider = Some(Id::new(provider)));
        call(&system.router(), SHARED, "911234567", "").unwrap().provider.map(Id::get)
    };
    assert_eq!(linked(2), Some(2), "it also matches the source's address");
    assert_eq!(linked(3), Some(1), "it does not");
    assert_eq!(linked(99), Some(1), "it is not there");
}

#[test]
fn the_caller_is_read_as_the_provider_writes_numbers() {
    let router = system().router();
    let caller = |called: &str, caller: &str| {
        let incoming = call(&router, SHARED, called, caller).unwrap();
        incoming.caller.map(|number| number.as_str().to_owned())
    };
    assert_eq!(caller("911234567", "944048182").as_deref(), Some("+34944048182"));
    assert_eq!(caller("34911234567", "33123456789").as_deref(), Some("+33123456789"));
    for withheld in ["anonymous", "", "+", &"1".repeat(300)] {
        assert_eq!(caller("911234567", withheld), None, "{withheld}");
    }
}

#[test]
fn a_ddi_that_cannot_be_called_says_why() {
    let refused = |make: fn(&mut Ddi)| {
        let mut system = system();
        change(&mut system, make);
        call(&system.router(), SHARED, "911234567", "").unwrap_err()
    };
    let ddi = Id::new(1);
    let outbound = refused(|ddi| ddi.kind = DdiKind::Out);
    assert_eq!((&outbound, outbound.status()), (&IncomingRefusal::OutboundOnly { ddi }, Some(403)));
    assert_eq!(refused(|ddi| ddi.company = None), IncomingRefusal::NoClient { ddi });
    assert_eq!(refused(|ddi| ddi.company = Some(Id::new(99))), IncomingRefusal::NoClient { ddi });
    let no_target = |why| IncomingRefusal::NoTarget { ddi, why };
    assert_eq!(refused(|ddi| ddi.route_type = None), no_target(NoTarget::Unassigned));
    assert_eq!(refused(|ddi| ddi.user = None), no_target(NoTarget::Missing("user")));
    assert_eq!(refused(|ddi| ddi.user = Some(Id::new(99))), no_target(NoTarget::Missing("user")));
}

#[test]
fn every_route_of_a_ddi_is_told_as_data() {
    let mut system = system();
    system
        .add(Ivr { id: Id::new(2), ..Ivr::default() })
        .add(HuntGroup { id: Id::new(3), ..HuntGroup::default() })
        .add(ConferenceRoom { id: Id::new(4), ..ConferenceRoom::default() })
        .add(Queue { id: Id::new(5), ..Queue::default() })
        .add(ConditionalRoute { id: Id::new(6), ..ConditionalRoute::default() })
        .add(Fax { id: Id::new(7), ..Fax::default() })
        .add(Locution { id: Id::new(8), ..Locution::default() })
        .add(ResidentialDevice { id: Id::new(9), ..ResidentialDevice::default() })
        .add(RetailAccount { id: Id::new(10), ..RetailAccount::default() })
        .add(Friend { id: Id::new(11), company: VPBX, ..Friend::default() })
        .add(FriendsPattern {
            id: Id::new(1),
            friend: Id::new(11),
            reg_exp: "^7[0-9]{3}$".to_owned(),
            ..FriendsPattern::default()
        });
    change(&mut system, |ddi| {
        (ddi.ivr, ddi.hunt_group, ddi.conference_room) =
            (Some(Id::new(2)), Some(Id::new(3)), Some(Id::new(4)));
        (ddi.queue, ddi.conditional_route, ddi.fax) = (Some(Id::new(5)), Some(Id::new(6)), Some(Id::new(7)));
        (ddi.locution, ddi.residential_device) = (Some(Id::new(8)), Some(Id::new(9)));
        (ddi.retail_account, ddi.friend_value) = (Some(Id::new(10)), Some("7001".to_owned()));
    });
    for (route, target) in [
        (DdiRouteType::User, Target::User(Id::new(1))),
        (DdiRouteType::Ivr, Target::Service(Service::Ivr(Id::new(2)))),
        (DdiRouteType::HuntGroup, Target::Service(Service::HuntGroup(Id::new(3)))),
        (DdiRouteType::ConferenceRoom, Target::Service(Service::ConferenceRoom(Id::new(4)))),
        (DdiRouteType::Queue, Target::Service(Service::Queue(Id::new(5)))),
        (DdiRouteType::Conditional, Target::Service(Service::ConditionalRoute(Id::new(6)))),
        (DdiRouteType::Fax, Target::Service(Service::Fax(Id::new(7)))),
        (DdiRouteType::Locution, Target::Service(Service::Locution(Id::new(8)))),
        (DdiRouteType::Residential, Target::ResidentialDevice(Id::new(9))),
        (DdiRouteType::Retail, Target::RetailAccount(Id::new(10))),
        (DdiRouteType::Friend, Target::Friend { friend: Id::new(11), number: "7001".to_owned() }),
    ] {
        change(&mut system, |ddi| ddi.route_type = Some(route));
        let incoming = call(&system.router(), SHARED, "911234567", "").unwrap();
        assert_eq!(incoming.target, target);
    }
    change(&mut system, |ddi| ddi.friend_value = Some("8001".to_owned()));
    change(&mut system, |ddi| ddi.route_type = Some(DdiRouteType::Friend));
    let refused = call(&system.router(), SHARED, "911234567", "").unwrap_err();
    let why = NoTarget::NoFriend("8001".to_owned());
    assert_eq!(refused, IncomingRefusal::NoTarget { ddi: Id::new(1), why });
}

#[test]
fn a_call_that_is_forwarded_carries_the_tag_of_its_ddi_or_provider() {
    let mut system = system();
    let provider = system.rows.get(Id::<DdiProvider>::new(1)).unwrap().clone();
    system.add(DdiProvider { routing_tag: Some(Id::new(1)), ..provider });
    change(&mut system, |ddi| ddi.routing_tag = Some(Id::new(2)));
    let mut tag = |theirs: bool| {
        change(&mut system, |ddi| ddi.use_ddi_provider_routing_tag = theirs);
        let router = system.router();
        router.forwarding_tag(&call(&router, SHARED, "911234567", "").unwrap()).map(Id::get)
    };
    assert_eq!((tag(true), tag(false)), (Some(1), Some(2)));
}

#[test]
fn a_wholesale_client_is_known_by_its_address() {
    let mut system = System::new();
    for (id, ip, company) in
        [(1, "192.0.2.7", WHOLESALE), (2, "2001:DB8::7", WHOLESALE), (3, "192.0.2.8", VPBX)]
    {
        system.add(Trusted { id: Id::new(id), src_ip: Some(ip.to_owned()), company, ..Trusted::default() });
    }
    let router = system.router();
    let client = |ip: &str| router.wholesale_client(ip.parse().unwrap()).map(|client| client.id);
    assert_eq!(client("192.0.2.7"), Some(WHOLESALE));
    assert_eq!(client("2001:db8::7"), Some(WHOLESALE));
    assert_eq!(client("192.0.2.8"), None, "only wholesale clients are");
    assert_eq!(client("192.0.2.9"), None);
}
