//! Carriers' servers and DDI providers' registrars on the simulated network: who is asked, who counts as up, what is registered.

use super::world::{PROXY, World};
use crate::net::sim::{SimPort, Weather};
use crate::trunks::Target;
use crate::{Colour, Listener, RegistrationState, ServerState};
use bytes::Bytes;
use model::entities::{Carrier, CarrierServer, DdiProvider, DdiProviderRegistration};
use model::rows::Rows;
use model::{Id, Snapshot};
use routing::Router;
use sip::draft::ResponseDraft;
use sip::flow::Transport;
use sip::msg::{HeaderId, Message, Method};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The proxy's socket for trunks.
const TRUNK: &str = "192.0.2.2:5060";
const CARRIER: Id<Carrier> = Id::new(1);
const PROVIDER: Id<DdiProvider> = Id::new(1);

fn server(number: u32) -> Id<CarrierServer> {
    Id::new(number)
}

/// A world with a socket for trunks, a carrier with these servers, and these registrations.
async fn world(servers: &[&str], registrations: &[DdiProviderRegistration]) -> World {
    let world = World::with(|config| {
        let trunk = Some(Id::new(1));
        config.listeners.push(Listener { trunk, ..Listener::new(Transport::Udp, TRUNK.parse().unwrap()) });
    })
    .await;
    let mut rows = world.proxy.shared.router.load().snapshot().rows().clone();
    let brand = rows.each::<model::Brand>().next().unwrap().id;
    let proxy_trunk = Some(Id::new(1));
    rows.insert(Arc::new(Carrier {
        id: CARRIER,
        name: "Carrier".to_owned(),
        brand,
        proxy_trunk,
        ..Carrier::default()
    }));
    rows.insert(Arc::new(DdiProvider {
        id: PROVIDER,
        name: "Provider".to_owned(),
        brand,
        proxy_trunk,
        ..DdiProvider::default()
    }));
    for (number, address) in (1u32..).zip(servers) {
        rows.insert(Arc::new(CarrierServer {
            id: server(number),
            sip_proxy: Some((*address).to_owned()),
            carrier: CARRIER,
            brand,
            ..CarrierServer::default()
        }));
    }
    for registration in registrations {
        rows.insert(Arc::new(registration.clone()));
    }
    publish(&world, rows);
    world
}

fn publish(world: &World, rows: Rows) {
    world.proxy.shared.router.store(Arc::new(Router::new(Snapshot::new(rows))));
}

fn changed(world: &World, change: impl FnOnce(&mut Rows)) {
    let mut rows = world.proxy.shared.router.load().snapshot().rows().clone();
    change(&mut rows);
    publish(world, rows);
}

fn registration() -> DdiProviderRegistration {
    DdiProviderRegistration {
        id: Id::new(1),
        username: "account".to_owned(),
        domain: "203.0.113.7".to_owned(),
        auth_password: "secret".into(),
        ddi_provider: PROVIDER,
        ..DdiProviderRegistration::default()
    }
}

/// Somebody out there who answers as the test wants.
struct Peer(SimPort);

impl Peer {
    fn new(world: &World, address: &str) -> Peer {
        Peer(world.net.bind(address.parse().unwrap()))
    }

    async fn recv(&mut self) -> Message {
        let heard = tokio::time::timeout(Duration::from_secs(4000), self.0.recv()).await;
        let (bytes, from) = heard.expect("silence");
        assert_eq!(from, TRUNK.parse().unwrap(), "from the trunks' socket");
        let msg = Message::parse(bytes).unwrap();
        msg.validate().unwrap();
        msg
    }

    fn answer(&self, request: &Message, status: u16, lines: &[(&str, &str)]) {
        let mut draft = ResponseDraft::new(status);
        draft.to_tag = Some("peer".to_owned());
        lines.iter().for_each(|(name, value)| draft.headers.push(name, value));
        let source = TRUNK.parse().unwrap();
        let bytes: Bytes = sip::draft::serialize_response(request, source, &draft);
        self.0.send_to(bytes, source);
    }

    /// Answers whatever comes, as long as the test runs.
    fn always(mut self, status: u16) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                let request = self.recv().await;
                self.answer(&request, status, &[]);
            }
        })
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn remotes(world: &World, number: u32) -> Vec<String> {
    let targets = world.proxy.trunks().targets(server(number));
    targets.iter().map(|target| target.remote.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_server_by_its_address_is_a_target_at_once_and_asked_from_the_trunks_socket() {
    let world = world(&["203.0.113.1", "203.0.113.2:5070"], &[]).await;
    let (mut one, mut two) = (Peer::new(&world, "203.0.113.1:5060"), Peer::new(&world, "203.0.113.2:5070"));
    let first = one.recv().await;
    assert!(first.method_is(&Method::Options));
    assert_eq!(first.request_uri(), b"sip:203.0.113.1");
    let via = String::from_utf8_lossy(first.header(HeaderId::Via).unwrap()).into_owned();
    assert!(via.starts_with("SIP/2.0/UDP 192.0.2.2:5060;"), "{via}");
    let target =
        Target { remote: "203.0.113.1:5060".parse().unwrap(), transport: Transport::Udp, listener: 1 };
    assert_eq!(world.proxy.trunks().targets(server(1)), [target]);
    assert_eq!(world.proxy.trunks().server_state(server(1)), ServerState::Unknown);
    assert!(world.proxy.carrier_answers(CARRIER), "nothing speaks against it");
    one.answer(&first, 200, &[]);
    let second = two.recv().await;
    assert_eq!(second.request_uri(), b"sip:203.0.113.2:5070");
    two.answer(&second, 404, &[]);
    pass(1).await;
    for number in [1, 2] {
        assert_eq!(world.proxy.trunks().server_state(server(number)), ServerState::Up);
    }
    assert_eq!(world.proxy.trunk_states().colour(CARRIER), Some(Colour::Green));
    assert!(world.proxy.trunks().targets(server(9)).is_empty());
}

/// "IP auth + 407" must not begin a digest loop: a server that wants a password is alive, and one question is one request.
#[tokio::test(start_paused = true)]
async fn a_server_that_wants_a_password_is_up_and_gets_none() {
    let world = world(&["203.0.113.1"], &[]).await;
    let mut peer = Peer::new(&world, "203.0.113.1:5060");
    for _ in 0..3 {
        let request = peer.recv().await;
        assert!(request.header(HeaderId::ProxyAuthorization).is_none());
        peer.answer(&request, 407, &[("Proxy-Authenticate", "Digest realm=\"r\", nonce=\"n\"")]);
        let soon = tokio::time::timeout(Duration::from_secs(20), peer.0.recv()).await;
        assert!(soon.is_err(), "it was answered by another request");
        assert_eq!(world.proxy.trunks().server_state(server(1)), ServerState::Up);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_goes_last_and_comes_back_by_one_answer() {
    let world = world(&["203.0.113.1", "203.0.113.2"], &[]).await;
    let one = Peer::new(&world, "203.0.113.1:5060").always(200);
    let two = Peer::new(&world, "203.0.113.2:5060").always(200);
    pass(5).await;
    one.abort();
    // One lost answer changes nothing.
    pass(32).await;
    assert_eq!(world.proxy.trunks().server_state(server(1)), ServerState::Up);
    pass(60).await;
    assert_eq!(world.proxy.trunks().server_state(server(1)), ServerState::Down);
    assert_eq!(world.proxy.trunk_states().colour(CARRIER), Some(Colour::Yellow));
    assert!(world.proxy.carrier_answers(CARRIER));
    two.abort();
    pass(120).await;
    assert_eq!(world.proxy.trunk_states().colour(CARRIER), Some(Colour::Red));
    assert!(!world.proxy.carrier_answers(CARRIER));
    assert_eq!(remotes(&world, 1), ["203.0.113.1:5060"], "the only server is tried all the same");
    let mut one = Peer::new(&world, "203.0.113.1:5060");
    let request = one.recv().await;
    one.answer(&request, 403, &[]);
    pass(1).await;
    assert_eq!(world.proxy.trunks().server_state(server(1)), ServerState::Up);
}

/// Providers drop requests that do not name their domain, whatever address they come to.
#[tokio::test(start_paused = true)]
async fn an_outbound_proxy_is_where_requests_go_and_the_sip_proxy_what_they_name() {
    let world = world(&["unused.test"], &[]).await;
    changed(&world, |rows| {
        let mut row = rows.get(server(1)).unwrap().clone();
        row.sip_proxy = Some("account.pstn.test".to_owned());
        row.outbound_proxy = Some("203.0.113.1:5070".to_owned());
        rows.insert(Arc::new(row));
    });
    let mut peer = Peer::new(&world, "203.0.113.1:5070");
    let request = peer.recv().await;
    assert_eq!(request.request_uri(), b"sip:account.pstn.test");
    assert_eq!(remotes(&world, 1), ["203.0.113.1:5070"]);
}

#[tokio::test(start_paused = true)]
async fn a_network_that_loses_a_third_of_all_datagrams_takes_nobody_down() {
    let world = world(&["203.0.113.1"], &[]).await;
    let _peer = Peer::new(&world, "203.0.113.1:5060").always(200);
    pass(5).await;
    world.net.set_weather(Weather { lost: 333, ..Weather::default() });
    for second in 0..3600 {
        pass(1).await;
        assert_eq!(world.proxy.trunks().server_state(server(1)), ServerState::Up, "after {second} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_row_changes_or_goes_is_followed() {
    use model::define::Entity as _;
    let world = world(&["203.0.113.1"], &[]).await;
    let _old = Peer::new(&world, "203.0.113.1:5060").always(200);
    pass(5).await;
    assert_eq!(world.proxy.trunks().server_state(server(1)), ServerState::Up);
    changed(&world, |rows| {
        let row = rows.get(server(1)).unwrap().clone();
        rows.insert(Arc::new(CarrierServer { sip_proxy: Some("203.0.113.9".to_owned()), ..row }));
    });
    let mut new = Peer::new(&world, "203.0.113.9:5060");
    let request = new.recv().await;
    assert_eq!(world.proxy.trunks().server_state(server(1)), ServerState::Unknown);
    new.answer(&request, 200, &[]);
    pass(2).await;
    assert_eq!(remotes(&world, 1), ["203.0.113.9:5060"]);
    changed(&world, |rows| rows.remove(CarrierServer::definition(), 1));
    pass(2).await;
    assert!(remotes(&world, 1).is_empty() && world.proxy.trunk_states().servers.is_empty());
    assert!(!world.proxy.carrier_answers(CARRIER), "there is nobody to answer");
}

#[tokio::test(start_paused = true)]
async fn calls_tell_too_and_a_failed_one_makes_it_ask_at_once() {
    let world = world(&["203.0.113.1"], &[]).await;
    let remote: SocketAddr = "203.0.113.1:5060".parse().unwrap();
    let mut peer = Peer::new(&world, "203.0.113.1:5060");
    let request = peer.recv().await;
    peer.answer(&request, 200, &[]);
    pass(5).await;
    let trunks = world.proxy.trunks();
    trunks.call_failed(server(1), remote);
    let soon = tokio::time::timeout(Duration::from_millis(100), peer.recv()).await;
    assert!(soon.is_ok(), "not asked at once");
    assert_eq!(trunks.server_state(server(1)), ServerState::Up);
    for _ in 0..2 {
        pass(2).await;
        trunks.call_failed(server(1), remote);
    }
    pass(1).await;
    assert_eq!(trunks.server_state(server(1)), ServerState::Down);
    trunks.call_answered(server(1), remote);
    pass(1).await;
    assert_eq!(trunks.server_state(server(1)), ServerState::Up);
}

#[tokio::test(start_paused = true)]
async fn users_and_trunks_have_sockets_of_their_own() {
    let world = world(&[], &[]).await;
    let shared = &world.proxy.shared;
    assert_eq!((shared.serves_users(0), shared.serves_trunks(0)), (true, false));
    assert_eq!((shared.serves_users(1), shared.serves_trunks(1)), (false, true));
    let small = World::new().await;
    let shared = &small.proxy.shared;
    assert_eq!((shared.serves_users(0), shared.serves_trunks(0)), (true, true));
    assert!(!shared.serves_trunks(7) && !shared.serves_users(7));
    assert_eq!(PROXY, "192.0.2.1:5060");
}

const CHALLENGE: (&str, &str) =
    ("WWW-Authenticate", "Digest realm=\"provider\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth\"");

#[tokio::test(start_paused = true)]
async fn a_registration_is_made_kept_and_taken_back_when_its_row_goes() {
    let world = world(&[], &[registration()]).await;
    let mut registrar = Peer::new(&world, "203.0.113.7:5060");
    let first = registrar.recv().await;
    assert!(first.method_is(&Method::Register));
    assert_eq!(first.request_uri(), b"sip:203.0.113.7");
    let contact = String::from_utf8_lossy(first.header(HeaderId::Contact).unwrap()).into_owned();
    assert_eq!(contact, "<sip:account@192.0.2.2:5060>");
    registrar.answer(&first, 401, &[CHALLENGE]);
    let second = registrar.recv().await;
    assert_eq!(second.call_id(), first.call_id());
    assert!(second.header(HeaderId::Authorization).is_some());
    let source = "203.0.113.7".parse().unwrap();
    assert_eq!(world.proxy.shared.registrar_provider(source), None, "not before it is registered");
    registrar.answer(&second, 200, &[("Contact", &format!("{contact};expires=600"))]);
    pass(2).await;
    let states = world.proxy.trunk_states();
    let status = &states.registrations[0];
    assert_eq!((status.state, status.last_status), (RegistrationState::Registered, Some(200)));
    assert!(status.expires_at.unwrap() > status.next_at.unwrap());
    assert_eq!(world.proxy.shared.registrar_provider(source), Some(PROVIDER));
    assert_eq!(world.proxy.shared.registration_by_contact("account"), Some(Id::new(1)));
    assert_eq!(world.proxy.shared.registration_by_contact("nobody"), None);
    let refresh = registrar.recv().await;
    assert_eq!(refresh.call_id(), first.call_id());
    assert!(refresh.cseq().unwrap().number > second.cseq().unwrap().number);
    registrar.answer(&refresh, 200, &[("Contact", &format!("{contact};expires=600"))]);
    pass(2).await;
    use model::define::Entity as _;
    changed(&world, |rows| rows.remove(DdiProviderRegistration::definition(), 1));
    let last = registrar.recv().await;
    assert_eq!(last.expires(), Some(0));
    registrar.answer(&last, 200, &[]);
    pass(2).await;
    assert!(world.proxy.trunk_states().registrations.is_empty());
    assert_eq!(world.proxy.shared.registrar_provider(source), None);
    assert_eq!(world.proxy.shared.registration_by_contact("account"), None);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_takes_its_registrations_back() {
    let world = world(&[], &[registration()]).await;
    let mut registrar = Peer::new(&world, "203.0.113.7:5060");
    let first = registrar.recv().await;
    registrar.answer(&first, 200, &[]);
    pass(2).await;
    let proxy = Arc::clone(&world.proxy);
    let stopped = tokio::spawn(async move { proxy.stop().await });
    let last = registrar.recv().await;
    assert_eq!(last.expires(), Some(0));
    registrar.answer(&last, 200, &[]);
    stopped.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_registrar_that_is_silent_does_not_keep_a_node_from_stopping() {
    let world = world(&[], &[registration()]).await;
    let mut registrar = Peer::new(&world, "203.0.113.7:5060");
    let first = registrar.recv().await;
    registrar.answer(&first, 200, &[]);
    pass(2).await;
    let before = tokio::time::Instant::now();
    world.proxy.stop().await;
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn contacts_are_the_account_a_name_or_a_random_one() {
    let with = |change: fn(&mut DdiProviderRegistration)| {
        let mut row = registration();
        change(&mut row);
        row
    };
    for (row, expected) in [
        (with(|_| {}), Some("account")),
        (with(|row| row.contact_username = "dids".to_owned()), Some("dids")),
        (with(|row| row.contact_username = "a b".to_owned()), Some("a%20b")),
        (with(|row| row.multi_ddi = Some(true)), None),
    ] {
        let world = world(&[], &[row]).await;
        let mut registrar = Peer::new(&world, "203.0.113.7:5060");
        let request = registrar.recv().await;
        let contact = request.contact().unwrap().unwrap();
        let user = contact.uri.user.unwrap();
        match expected {
            Some(expected) => assert_eq!(user, expected),
            None => assert!(user.len() == 16 && user != "account", "{user}"),
        }
        assert_eq!(world.proxy.shared.registration_by_contact(user), Some(Id::new(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_tried_slowly_and_shown() {
    let world = world(&[], &[registration()]).await;
    let mut registrar = Peer::new(&world, "203.0.113.7:5060");
    for _ in 0..2 {
        let request = registrar.recv().await;
        registrar.answer(&request, 401, &[CHALLENGE]);
    }
    let soon = tokio::time::timeout(Duration::from_secs(900), registrar.0.recv()).await;
    assert!(soon.is_err(), "tried again within a quarter of an hour");
    let status = world.proxy.trunk_states().registrations[0].clone();
    assert_eq!(status.state, RegistrationState::Failed);
    let problem = status.problem.unwrap();
    assert!(problem.contains("password") && !problem.contains("secret"), "{problem}");
    // A new password is tried at once.
    changed(&world, |rows| {
        rows.insert(Arc::new(DdiProviderRegistration { auth_password: "right".into(), ..registration() }));
    });
    let request = registrar.recv().await;
    registrar.answer(&request, 200, &[]);
    pass(2).await;
    assert_eq!(world.proxy.trunk_states().registrations[0].state, RegistrationState::Registered);
}

#[tokio::test(start_paused = true)]
async fn in_a_cluster_another_node_may_keep_a_registration() {
    let world = world(&[], &[registration()]).await;
    let is_ours = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = Arc::clone(&is_ours);
    world.proxy.set_registration_owner(Arc::new(move |_| asked.load(std::sync::atomic::Ordering::Relaxed)));
    let mut registrar = Peer::new(&world, "203.0.113.7:5060");
    assert!(tokio::time::timeout(Duration::from_secs(60), registrar.0.recv()).await.is_err());
    assert_eq!(world.proxy.trunk_states().registrations[0].state, RegistrationState::Elsewhere);
    is_ours.store(true, std::sync::atomic::Ordering::Relaxed);
    let request = registrar.recv().await;
    registrar.answer(&request, 200, &[]);
    pass(2).await;
    is_ours.store(false, std::sync::atomic::Ordering::Relaxed);
    let request = registrar.recv().await;
    assert_eq!(request.expires(), Some(0), "the other node has it now");
    registrar.answer(&request, 200, &[]);
    is_ours.store(true, std::sync::atomic::Ordering::Relaxed);
    let request = registrar.recv().await;
    assert_eq!(request.expires(), None, "and here again");
}
