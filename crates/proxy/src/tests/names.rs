//! Carriers by their names: a proxy on loopback, a nameserver of a few lines, servers on real sockets.

use super::world::FakeLog;
use crate::{BindingLog, Deps, Listener, Network, Proxy, ProxyConfig, RegistrationState, ServerState};
use arc_swap::ArcSwap;
use hickory_resolver::proto::op::{Message as Dns, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record};
use model::entities::{Carrier, CarrierServer, DdiProvider, DdiProviderRegistration};
use model::{Configuration, Id, Snapshot};
use sip::draft::{ResponseDraft, serialize_response};
use sip::flow::Transport;
use sip::msg::{Message, Method};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

/// Answers questions by this zone. Out: its address.
pub(super) async fn nameserver(zone: Vec<(&'static str, RData)>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let question = Dns::from_vec(&buffer[..length]).unwrap();
            let mut answer = question.clone();
            answer.metadata.message_type = MessageType::Response;
            answer.edns = None;
            let asked = answer.queries[0].clone();
            let name = asked.name().to_ascii().to_ascii_lowercase();
            let mut is_known = false;
            for (owner, data) in &zone {
                if name.trim_end_matches('.') != *owner {
                    continue;
                }
                is_known = true;
                if data.record_type() == asked.query_type() {
                    answer.add_answer(Record::from_rdata(asked.name().clone(), 300, data.clone()));
                }
            }
            if !is_known {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    address
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn srv(priority: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(priority, 1, port, name(target)))
}

/// A proxy with a carrier whose servers are these, and a registration at this domain.
async fn proxy(nameserver: SocketAddr, servers: &[&str], domain: Option<&str>) -> Arc<Proxy> {
    let server =
        |host: &&str| CarrierServer { sip_proxy: Some((*host).to_owned()), ..CarrierServer::default() };
    let bind = "127.0.0.1:0".parse().unwrap();
    let mut config =
        ProxyConfig { listeners: vec![Listener::new(Transport::Udp, bind)], ..ProxyConfig::default() };
    config.trunks.nameservers = vec![nameserver];
    made(config, Transport::Udp, servers.iter().map(server).collect(), domain).await
}

/// The same, with a socket for trunks beside those of the configuration.
pub(super) async fn made(
    mut config: ProxyConfig,
    transport: Transport,
    servers: Vec<CarrierServer>,
    domain: Option<&str>,
) -> Arc<Proxy> {
    let trunk = Some(Id::new(1));
    config.workers = 1;
    config.listeners.push(Listener { trunk, ..Listener::new(transport, "127.0.0.1:0".parse().unwrap()) });
    let mut rows = Snapshot::build(&Configuration::demo()).unwrap().rows().clone();
    let brand = rows.each::<model::Brand>().next().unwrap().id;
    rows.insert(Arc::new(Carrier { id: Id::new(1), brand, proxy_trunk: trunk, ..Carrier::default() }));
    rows.insert(Arc::new(DdiProvider {
        id: Id::new(1),
        brand,
        proxy_trunk: trunk,
        ..DdiProvider::default()
    }));
    for (number, server) in (1u32..).zip(servers) {
        let (id, carrier) = (Id::new(number), Id::new(1));
        rows.insert(Arc::new(CarrierServer { id, carrier, brand, ..server }));
    }
    if let Some(domain) = domain {
        rows.insert(Arc::new(DdiProviderRegistration {
            id: Id::new(1),
            username: "account".to_owned(),
            domain: domain.to_owned(),
            ddi_provider: Id::new(1),
            ..DdiProviderRegistration::default()
        }));
    }
    let deps = Deps {
        router: Arc::new(ArcSwap::from_pointee(routing::Router::new(Snapshot::new(rows)))),
        log: Arc::new(FakeLog::default()) as Arc<dyn BindingLog>,
        bindings: Vec::new(),
        network: Network::Os,
        unix_time: None,
        seed: Some([9; 32]),
        tap: None,
    };
    Proxy::start(config, deps).await.unwrap()
}

/// The next request that comes there, answered by 200.
async fn answered(socket: &UdpSocket) -> Message {
    let mut buffer = vec![0; 4096];
    let received = tokio::time::timeout(Duration::from_secs(30), socket.recv_from(&mut buffer)).await;
    let (length, from) = received.expect("silence").unwrap();
    let request = Message::parse(buffer[..length].to_vec().into()).unwrap();
    request.validate().unwrap();
    let answer = serialize_response(&request, from, &ResponseDraft::new(200));
    socket.send_to(&answer, from).await.unwrap();
    request
}

/// Asks again until it is so; the test's own bound ends it otherwise.
pub(super) async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it does not become so");
}

#[tokio::test]
async fn a_server_by_its_name_is_found_by_srv_and_its_hosts_keep_their_order() {
    let (one, two) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
    let zone = vec![
        ("_sip._udp.carrier.test", srv(20, port(&one), "a.carrier.test.")),
        ("_sip._udp.carrier.test", srv(10, port(&two), "b.carrier.test.")),
        ("a.carrier.test", RData::A(A::new(127, 0, 0, 1))),
        ("b.carrier.test", RData::A(A::new(127, 0, 0, 1))),
    ];
    let proxy = proxy(nameserver(zone).await, &["carrier.test", "nowhere.test"], None).await;
    for socket in [&one, &two] {
        let request = answered(socket).await;
        assert!(request.method_is(&Method::Options));
        assert_eq!(request.request_uri(), b"sip:carrier.test", "the host's name stays in the URI");
    }
    until(|| proxy.trunks().server_state(Id::new(1)) == ServerState::Up).await;
    let targets = proxy.trunks().targets(Id::new(1));
    let ports: Vec<u16> = targets.iter().map(|target| target.remote.port()).collect();
    assert_eq!(ports, [port(&two), port(&one)], "by priority");
    assert!(targets.iter().all(|target| target.listener == 1));
    assert!(proxy.trunks().targets(Id::new(2)).is_empty(), "the DNS knows nothing of it");
    assert_eq!(proxy.trunks().server_state(Id::new(2)), ServerState::Unknown);
    proxy.stop().await;
}

#[tokio::test]
async fn a_registrar_by_its_domain_is_found_by_naptr() {
    let registrar = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = registrar.local_addr().unwrap().port();
    let naptr = |flags: &str, service: &str, replacement: &str| {
        let boxed = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
        RData::NAPTR(NAPTR::new(10, 10, boxed(flags), boxed(service), boxed(""), name(replacement)))
    };
    let zone = vec![
        ("provider.test", naptr("s", "SIP+D2T", "_sip._tcp.provider.test.")),
        ("provider.test", naptr("s", "SIP+D2U", "_odd._udp.provider.test.")),
        ("_odd._udp.provider.test", srv(1, port, "reg.provider.test.")),
        ("reg.provider.test", RData::A(A::new(127, 0, 0, 1))),
    ];
    let proxy = proxy(nameserver(zone).await, &[], Some("provider.test")).await;
    let request = answered(&registrar).await;
    assert!(request.method_is(&Method::Register));
    assert_eq!(request.request_uri(), b"sip:provider.test");
    let state = || proxy.trunk_states().registrations.first().map(|status| status.state);
    until(|| state() == Some(RegistrationState::Registered)).await;
    let source = "127.0.0.1".parse().unwrap();
    assert_eq!(proxy.shared.registrar_provider(source), Some(Id::new(1)));
    let stop = tokio::spawn({
        let proxy = Arc::clone(&proxy);
        async move { proxy.stop().await }
    });
    assert_eq!(answered(&registrar).await.expires(), Some(0));
    stop.await.unwrap();
}

/// Nobody answers at the nameserver's address: the node starts, and says what it does not know.
#[tokio::test]
async fn a_silent_dns_keeps_nobody_from_starting() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let proxy =
        proxy(silent.local_addr().unwrap(), &["carrier.test", "127.0.0.1:9"], Some("provider.test")).await;
    until(|| proxy.trunk_states().servers.len() == 2).await;
    let states = proxy.trunk_states();
    assert_eq!(states.servers[0].state, ServerState::Unknown);
    let problem = states.registrations[0].problem.clone().unwrap();
    assert!(problem.contains("no address"), "{problem}");
    until(|| !proxy.trunks().targets(Id::new(2)).is_empty()).await;
    proxy.stop().await;
}

/// Carriers know us by the address that we speak from: each trunk address has connections of its own.
#[tokio::test]
async fn carriers_of_two_trunk_addresses_at_one_server_see_both() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let bind = "127.0.0.1:0".parse().unwrap();
    let config = ProxyConfig {
        listeners: vec![
            Listener::new(Transport::Udp, bind),
            Listener {
                trunk: Some(Id::new(2)),
                ..Listener::new(Transport::Tcp, "127.0.0.2:0".parse().unwrap())
            },
        ],
        ..ProxyConfig::default()
    };
    let by_tcp = CarrierServer {
        sip_proxy: Some(address.to_string()),
        transport: Some(2),
        ..CarrierServer::default()
    };
    let proxy = made(config, Transport::Tcp, vec![by_tcp.clone()], None).await;
    let mut rows = proxy.shared.router.load().snapshot().rows().clone();
    let brand = rows.each::<model::Brand>().next().unwrap().id;
    let (carrier, proxy_trunk) = (Id::new(2), Some(Id::new(2)));
    rows.insert(Arc::new(Carrier { id: carrier, brand, proxy_trunk, ..Carrier::default() }));
    rows.insert(Arc::new(CarrierServer { id: Id::new(2), carrier, brand, ..by_tcp }));
    proxy.shared.router.store(Arc::new(routing::Router::new(Snapshot::new(rows))));
    let mut sources = std::collections::BTreeSet::new();
    let mut open = Vec::new();
    while sources.len() < 2 {
        let accepted = tokio::time::timeout(Duration::from_secs(30), server.accept()).await;
        let (stream, source) = accepted.expect("nobody else calls").unwrap();
        sources.insert(source.ip().to_string());
        open.push(stream);
    }
    assert_eq!(sources.into_iter().collect::<Vec<_>>(), ["127.0.0.1", "127.0.0.2"]);
    proxy.stop().await;
}
