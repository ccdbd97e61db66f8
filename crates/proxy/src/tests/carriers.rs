//! Calls to carriers' servers, and from DDI providers, wholesale clients and endpoints that do not register.

use super::calls::bye;
use super::world::{PROXY, Phone, SDP, World, originate};
use crate::{Cause, Listener};
use bytes::Bytes;
use cluster::ids::{CallId, NodeId};
use cluster::leg::{Callee, LegEvent, LegHost as _, Origin, Originate};
use model::define::Secret;
use model::define::choices::YesNo;
use model::entities::{
    Carrier, CarrierServer, Company, CompanyKind, Ddi, DdiKind, DdiProvider, DdiProviderAddress,
    DdiRouteType, Friend, FriendDirectConnectivity, Trusted,
};
use model::rows::Rows;
use model::{Aor, AorOwner, Id, Snapshot};
use routing::Router;
use sip::flow::Transport;
use sip::msg::{HeaderId, Message, Method};
use std::sync::Arc;
use std::time::Duration;

/// The proxy's socket for trunks.
const TRUNK: &str = "192.0.2.2:5060";
const CARRIER: &str = "203.0.113.1:5060";
const DDI: &str = "+12065550100";

/// A world with a carrier that also brings calls to one DDI, a wholesale client and a friend with an address.
async fn world(change: impl FnOnce(&mut CarrierServer)) -> World {
    let world = World::with(|config| {
        let trunk = Some(Id::new(1));
        config.listeners.push(Listener { trunk, ..Listener::new(Transport::Udp, TRUNK.parse().unwrap()) });
        config.trunks.ping = Duration::ZERO;
    })
    .await;
    let mut rows = world.proxy.shared.router.load().snapshot().rows().clone();
    let brand = rows.each::<model::Brand>().next().unwrap().id;
    let client = rows.each::<Company>().next().unwrap().clone();
    let trunk = Some(Id::new(1));
    rows.insert(Arc::new(Carrier { id: Id::new(1), brand, proxy_trunk: trunk, ..Carrier::default() }));
    let mut server = CarrierServer {
        id: Id::new(1),
        sip_proxy: Some("203.0.113.1".to_owned()),
        hostname: Some("203.0.113.1".to_owned()),
        port: Some(5060),
        send_pai: Some(true),
        carrier: Id::new(1),
        brand,
        ..CarrierServer::default()
    };
    change(&mut server);
    rows.insert(Arc::new(server));
    rows.insert(Arc::new(DdiProvider {
        id: Id::new(1),
        brand,
        proxy_trunk: trunk,
        ..DdiProvider::default()
    }));
    let ip = Some("203.0.113.1".to_owned());
    rows.insert(Arc::new(DdiProviderAddress {
        id: Id::new(1),
        ip,
        ddi_provider: Id::new(1),
        ..Default::default()
    }));
    for (id, number, kind) in [(1, DDI, DdiKind::Inout), (2, "+12065550199", DdiKind::Out)] {
        rows.insert(Arc::new(Ddi {
            id: Id::new(id),
            ddie164: Some(number.to_owned()),
            kind,
            company: Some(client.id),
            brand,
            route_type: Some(DdiRouteType::User),
            user: Some(Id::new(1)),
            ..Ddi::default()
        }));
    }
    rows.insert(Arc::new(Company {
        id: Id::new(9),
        kind: CompanyKind::Wholesale,
        domain: None,
        domain_users: None,
        ..client.clone()
    }));
    let src_ip = Some("198.51.100.90".to_owned());
    rows.insert(Arc::new(Trusted { id: Id::new(1), src_ip, company: Id::new(9), ..Trusted::default() }));
    rows.insert(Arc::new(Friend {
        id: Id::new(1),
        name: "pbx".to_owned(),
        company: client.id,
        domain: client.domain,
        direct_connectivity: FriendDirectConnectivity::Yes,
        ip: Some("198.51.100.80".to_owned()),
        port: Some(5070),
        ..Friend::default()
    }));
    publish(&world, rows);
    tokio::time::sleep(Duration::from_secs(1)).await; // the carrier's address is known
    world
}

fn publish(world: &World, rows: Rows) {
    world.proxy.shared.router.store(Arc::new(Router::new(Snapshot::new(rows))));
}

fn order() -> Originate {
    let to = Callee::Server { server: Id::new(1) };
    Originate {
        caller_number: DDI.to_owned(),
        called_number: "12345678*+12066418000".to_owned(),
        offer: Some(Bytes::from_static(SDP.as_bytes())),
        ..Originate::new(CallId::new(NodeId(1), 7), NodeId(1), to)
    }
}

/// The carrier, as a telephone without a registration.
fn carrier(world: &World) -> Phone {
    let mut phone = world.phone("carrier", CARRIER);
    phone.server = TRUNK.parse().unwrap();
    phone
}

fn header(msg: &Message, id: HeaderId) -> String {
    String::from_utf8_lossy(msg.header(id).unwrap_or_default()).into_owned()
}

fn challenge(request: &Message) -> String {
    let via = header(request, HeaderId::Via);
    let (from, to) = (header(request, HeaderId::From), header(request, HeaderId::To));
    let (call_id, cseq) = (header(request, HeaderId::CallId), header(request, HeaderId::CSeq));
    format!(
        "SIP/2.0 407 Proxy Authentication Required\r\nVia: {via}\r\nFrom: {from}\r\nTo: {to};tag=c\r\nCall-ID: {call_id}\r\nCSeq: {cseq}\r\n\
         Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth\"\r\n\
         Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"n2\"\r\nContent-Length: 0\r\n\r\n"
    )
}

#[tokio::test(start_paused = true)]
async fn a_call_to_a_carrier_answers_its_challenge_and_ends_with_credentials_too() {
    let mut world = world(|server| {
        server.auth_needed = YesNo::Yes;
        server.auth_user = Some("12345678".to_owned());
        server.auth_password = Some(Secret::new("password"));
        server.from_user = Some("12345678".to_owned());
        server.from_domain = Some("carrier.example".to_owned());
    })
    .await;
    let mut carrier = carrier(&world);
    let (leg, call_id) = originate(&world.proxy, order());
    let first = carrier.recv().await;
    assert_eq!((first.method_bytes(), first.call_id()), (&b"INVITE"[..], call_id.as_bytes()));
    assert_eq!(first.request_uri(), b"sip:12345678*+12066418000@203.0.113.1");
    assert!(
        header(&first, HeaderId::Via).starts_with("SIP/2.0/UDP 192.0.2.2:5060;"),
        "by the trunks' socket"
    );
    assert!(header(&first, HeaderId::From).starts_with("<sip:12345678@carrier.example>;tag="));
    assert_eq!(header(&first, HeaderId::PAssertedIdentity), "<sip:+12065550100@carrier.example>");
    carrier.send(challenge(&first));
    assert_eq!(carrier.recv().await.method_bytes(), b"ACK");
    let second = carrier.recv().await;
    let credentials = header(&second, HeaderId::ProxyAuthorization);
    assert!(
        credentials.contains("username=\"12345678\"") && credentials.contains("algorithm=SHA-256"),
        "{credentials}"
    );
    assert!(!credentials.contains("password"));
    carrier.send(carrier.answer(&second, 200, SDP));
    assert_eq!(carrier.recv().await.method_bytes(), b"ACK");
    assert!(matches!(world.hear_event().await, (id, LegEvent::Answered { .. }) if id == leg));
    world.proxy.command(leg, bye());
    let end = carrier.recv().await;
    assert_eq!(end.method_bytes(), b"BYE");
    assert!(end.header(HeaderId::ProxyAuthorization).is_some());
}

/// A trunk that knows us by our address, and asks for a password all the same, has the wrong address or tech prefix: one answer is
/// enough to know.
#[tokio::test(start_paused = true)]
async fn a_carrier_that_knows_our_address_gets_no_password() {
    let mut world = world(|_| {}).await;
    let mut carrier = carrier(&world);
    let (leg, _) = originate(&world.proxy, order());
    let invite = carrier.recv().await;
    carrier.send(challenge(&invite));
    assert_eq!(carrier.recv().await.method_bytes(), b"ACK");
    assert!(matches!(world.hear_event().await, (id, LegEvent::Rejected { status: 407, .. }) if id == leg));
    assert!(carrier.hears_nothing().await);
}

/// UPDATE is not sent to who does not allow it; without Allow nothing is known, and nothing is sent either.
#[tokio::test(start_paused = true)]
async fn an_answer_tells_its_tag_and_a_carrier_without_update_gets_none() {
    let mut world = world(|_| {}).await;
    let mut carrier = carrier(&world);
    let (leg, _) = originate(&world.proxy, order());
    let invite = carrier.recv().await;
    let answer = String::from_utf8(carrier.answer(&invite, 200, SDP).to_vec()).unwrap();
    let allow = "Allow: INVITE, ACK, CANCEL, BYE, REGISTER, OPTIONS\r\nX-Tag: theirs\r\n";
    carrier.send(answer.replacen("Content-Length", &format!("{allow}Content-Length"), 1));
    assert_eq!(carrier.recv().await.method_bytes(), b"ACK");
    assert!(matches!(world.hear_event().await, (_, LegEvent::Tagged { tag }) if tag == "theirs"));
    assert!(matches!(world.hear_event().await, (_, LegEvent::Answered { .. })));
    let sdp = Some(Bytes::from(SDP.replace("o=- 1 1", "o=- 1 2")));
    let reoffer = cluster::leg::LegCommand::Reoffer { sdp, prefer_update: true };
    world.proxy.command(leg, reoffer);
    assert_eq!(carrier.recv().await.method_bytes(), b"INVITE");
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_way_is_refused_at_once() {
    let mut world = world(|server| server.sip_proxy = Some("nowhere.invalid".to_owned())).await;
    let (leg, _) =
        originate(&world.proxy, Originate { to: Callee::Server { server: Id::new(77) }, ..order() });
    assert!(matches!(world.hear_event().await, (id, LegEvent::Rejected { status: 503, .. }) if id == leg));
}

/// An INVITE from somewhere to one of the proxy's sockets.
fn invite(from: &mut Phone, to: &str, number: &str, lines: &str) -> Message {
    let uri = format!("sip:{number}@{to}");
    let contact = from.contact();
    let text = from.request("INVITE", &uri, &format!("<{uri}>"), &format!("{contact}{lines}"), SDP);
    from.server = to.parse().unwrap();
    from.send(text.clone());
    super::world::parse(&text)
}

#[tokio::test(start_paused = true)]
async fn a_ddi_provider_is_known_by_its_address_and_what_it_calls() {
    let mut world = world(|_| {}).await;
    let mut provider = carrier(&world);
    let lines = "P-Asserted-Identity: \"J. DOE\" <sip:+12065550111@x.example>\r\nX-Tag: 7\r\n\
                 Diversion: <sip:+12065550122@x.example>;reason=no-answer\r\n";
    invite(&mut provider, TRUNK, DDI, lines);
    let incoming = world.hear_incoming().await;
    let origin = Origin::Ddi {
        ddi: Id::new(1),
        provider: Id::new(1),
        called: DDI.parse().unwrap(),
        caller: Some("+12065550111".parse().unwrap()),
    };
    assert_eq!((incoming.origin, incoming.client, incoming.brand), (origin, Id::new(1), Id::new(1)));
    assert_eq!((incoming.caller.name.as_str(), incoming.caller.x_tag.as_deref()), ("J. DOE", Some("7")));
    assert_eq!(incoming.caller.diversions.len(), 1);
    assert_eq!(provider.recv().await.status(), 100);
}

#[tokio::test(start_paused = true)]
async fn what_a_ddi_provider_may_not_call_is_refused_and_counted() {
    let world = world(|_| {}).await;
    let mut provider = carrier(&world);
    for (number, status) in [("+12065550177", 404), ("+12065550199", 403), ("junk", 404)] {
        invite(&mut provider, TRUNK, number, "");
        assert_eq!(provider.recv().await.status(), status, "{number}");
    }
    assert_eq!(world.proxy.stats().refused(Cause::NoDdi), 3);
    let text = provider.request("REGISTER", "sip:192.0.2.2", "<sip:carrier@192.0.2.2>", "", "");
    provider.send(text);
    assert_eq!(provider.recv().await.status(), 405);
    let text = provider.request("OPTIONS", "sip:192.0.2.2", "<sip:192.0.2.2>", "", "");
    provider.send(text);
    assert_eq!(provider.recv().await.status(), 200);
}

/// Whoever looks for open trunks learns nothing, telephones of ours neither; and a provider is nobody at the users' socket.
#[tokio::test(start_paused = true)]
async fn strangers_get_no_answer_at_a_trunks_socket() {
    let world = world(|_| {}).await;
    let mut scanner = world.phone("alice", "198.51.100.66:5060");
    invite(&mut scanner, TRUNK, DDI, "");
    for method in ["OPTIONS", "REGISTER", "SUBSCRIBE", "FROB"] {
        let text = scanner.request(method, "sip:192.0.2.2", "<sip:alice@192.0.2.2>", "", "");
        scanner.send(text);
    }
    for method in ["INVITE", "CANCEL", "BYE"] {
        let text = scanner.request(method, "sip:192.0.2.2", "<sip:alice@192.0.2.2>", "", "");
        scanner.send(text.replace("CSeq: ", "CSeq: x"));
        let text = scanner.request(method, "sip:192.0.2.2", "<sip:alice@192.0.2.2>;tag=1-2-3", "", "");
        scanner.send(text);
    }
    assert!(scanner.hears_nothing().await);
    assert_eq!(world.proxy.stats().refused(Cause::UnknownSource), 11);
    let mut provider = carrier(&world);
    invite(&mut provider, PROXY, DDI, "");
    assert_eq!(provider.recv().await.status(), 407);
}

#[tokio::test(start_paused = true)]
async fn a_wholesale_client_is_known_by_its_address() {
    let mut world = world(|_| {}).await;
    let mut client = world.phone("any", "198.51.100.90:5060");
    invite(&mut client, PROXY, "+34600123456", "Remote-Party-ID: <sip:+12065550133@x.example>\r\n");
    let incoming = world.hear_incoming().await;
    assert_eq!((incoming.origin, incoming.client), (Origin::Wholesale, Id::new(9)));
    assert_eq!(
        (incoming.dialed.as_str(), incoming.caller.number.as_deref()),
        ("+34600123456", Some("+12065550133"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_friend_with_an_address_calls_and_is_called_without_a_registration() {
    let mut world = world(|_| {}).await;
    let aor = Aor::of(AorOwner::Friend(Id::new(1))).unwrap();
    let mut friend = world.phone("201", "198.51.100.80:5070");
    invite(&mut friend, PROXY, "102", "");
    let incoming = world.hear_incoming().await;
    assert_eq!(incoming.origin, Origin::Endpoint { aor, user: None });
    assert_eq!(incoming.caller.number.as_deref(), Some("201"));
    assert_eq!(friend.recv().await.status(), 100);
    originate(
        &world.proxy,
        Originate { called_number: "202".to_owned(), ..Originate { to: Callee::Direct { aor }, ..order() } },
    );
    let called = friend.recv().await;
    assert!(called.method_is(&Method::Invite));
    assert_eq!(called.request_uri(), b"sip:202@198.51.100.80:5070");
}
