//! Who is refused, and why; and that nobody who is refused harms those who are not.

#![allow(clippy::unwrap_used, reason = "in a test")]

mod common;

use cluster::ids::NodeId;
use common::*;
use mesh::peer::{NODE_NAME, PeerAddress, PeerConfig, Tls, TlsError, Way};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A proxy that dials an application server, as they are configured.
async fn pair(proxy: PeerConfig, application: PeerConfig) -> (Node, Node) {
    let (proxy, application) = (Node::start(proxy).await, Node::start(application).await);
    proxy.peers.set_view(&[application.seen()]);
    (proxy, application)
}

async fn talks(proxy: &Node, application: &Node) {
    application.connects(&[(proxy.id().0, Way::Legs)]).await;
    proxy.connects(&[(application.id().0, Way::Calls)]).await;
    proxy.peers.leg_up(application.id(), up(1)).unwrap();
    application.hears(&[Heard::Item(proxy.id().0, Way::Legs, format!("{:?}", up(1)))]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releases_with_a_common_protocol_use_the_newest() {
    let old = PeerConfig { protocol: (1, 1), ..config(2, PROXY) };
    let new = PeerConfig { protocol: (1, 3), release: "0.0.3".into(), ..config(1, APPLICATION) };
    let (old, new) = pair(old, new).await;
    talks(&old, &new).await;
    let seen = old.link(1, Way::Calls).unwrap();
    assert_eq!((seen.protocol, seen.release.as_str()), (1, "0.0.3"));
    assert_eq!(new.link(2, Way::Legs).unwrap().protocol, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releases_without_a_common_protocol_say_so_and_do_nothing() {
    let old = PeerConfig { protocol: (1, 1), ..config(2, PROXY) };
    let new = PeerConfig { protocol: (2, 3), release: "0.0.3".into(), ..config(1, APPLICATION) };
    let (old, new) = pair(old, new).await;
    let words = "node 2 speaks 1 to 1 (release 0.0.1), node 1 speaks 2 to 3 (release 0.0.3)";
    old.trouble(1, Way::Calls, words).await;
    assert!(new.peers.links().is_empty());
    old.hears_nothing();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_other_clusters_wrong_nodes_and_oneself_are_refused() {
    let proxy = Node::start(config(9, PROXY)).await;
    let other = Node::start(PeerConfig { cluster: "other".into(), ..config(1, APPLICATION) }).await;
    let four = Node::start(config(4, APPLICATION)).await;
    let relay = Node::start(config(3, RELAY)).await;
    let at = |node, address: SocketAddr| PeerAddress {
        node: NodeId(node),
        instance: None,
        address: address.to_string(),
        roles: APPLICATION,
    };
    let view = [
        at(1, other.address),
        // The address of another node, one's own, one where the role is another, and one where nobody is.
        at(2, four.address),
        at(5, proxy.address),
        at(3, relay.address),
        at(6, "127.0.0.1:1".parse().unwrap()),
    ];
    proxy.peers.set_view(&view);
    proxy.trouble(1, Way::Calls, "it is of cluster test, and this is cluster other").await;
    proxy.trouble(2, Way::Calls, "node 2 was meant, and this is node 4").await;
    proxy.trouble(5, Way::Calls, "this node dialled itself").await;
    proxy.trouble(3, Way::Calls, "see `node.roles` of both").await;
    proxy.trouble(6, Way::Calls, "cannot be reached").await;
    let twin = Node::start(config(4, PROXY)).await;
    twin.peers.set_view(&[at(8, four.address)]);
    twin.trouble(8, Way::Calls, "two nodes have the number 4").await;
    for node in [&proxy, &other, &four, &relay, &twin] {
        node.hears_nothing();
    }
}

fn with(config: PeerConfig, tls: Tls) -> PeerConfig {
    PeerConfig { tls: Some(tls), ..config }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_certificates_of_the_same_authority_talk() {
    let authority = Authority::new();
    let (proxy, application) =
        pair(with(config(2, PROXY), authority.tls()), with(config(1, APPLICATION), authority.tls())).await;
    talks(&proxy, &application).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_do_not_fit_are_refused() {
    let (authority, another) = (Authority::new(), Authority::new());
    let application = Node::start(with(config(1, APPLICATION), authority.tls())).await;
    // Another authority's; believed there, but not here; expired; not valid yet.
    let half = {
        let (cert, key) = another.issue(NODE_NAME, 2020..2999);
        Tls::new(authority.pem.as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap()
    };
    let tls = [another.tls(), half, authority.tls_for(2020..2021), authority.tls_for(2900..2999)];
    for (at, tls) in tls.into_iter().enumerate() {
        let proxy = Node::start(with(config(10 + at as u16, PROXY), tls)).await;
        proxy.peers.set_view(&[application.seen()]);
        // An attempt may end before the alert is read; another one follows.
        let words = ["UnknownIssuer", "UnknownCA", "CertificateExpired", "CertificateExpired"][at];
        proxy.trouble(1, Way::Calls, words).await;
    }
    let plain = Node::start(config(20, PROXY)).await;
    plain.peers.set_view(&[application.seen()]);
    plain.link_is(1, Way::Calls, "refused", |link| link.trouble.is_some()).await;
    // No certificate at all.
    nobody(&authority, application.address).await;
    assert!(application.peers.links().is_empty(), "{:?}", application.peers.links());
    application.hears_nothing();
    let proxy = Node::start(with(config(2, PROXY), authority.tls())).await;
    proxy.peers.set_view(&[application.seen()]);
    talks(&proxy, &application).await;
}

/// Connects without a certificate of its own, and is closed.
async fn nobody(authority: &Authority, address: SocketAddr) {
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = connector.connect(ServerName::try_from(NODE_NAME).unwrap(), stream).await.unwrap();
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let mut octets = Vec::new();
    let refused = soon("the connection is closed", stream.read_to_end(&mut octets)).await.unwrap_err();
    assert!(refused.to_string().contains("CertificateRequired"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_the_authority_for_other_names_are_no_nodes() {
    let authority = Authority::new();
    let (cert, key) = authority.issue("printer", 2020..2999);
    let error = Tls::new(authority.pem.as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap_err();
    assert!(matches!(error, TlsError::Name), "{error}");
    assert!(error.to_string().contains(NODE_NAME));
    // Somebody who does not look at his own name.
    let application = Node::start(with(config(1, APPLICATION), authority.tls())).await;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = TcpStream::connect(application.address).await.unwrap();
    let mut stream = connector.connect(ServerName::try_from(NODE_NAME).unwrap(), stream).await.unwrap();
    let mut octets = Vec::new();
    // Closed without a word of HTTP/2: settings would come first.
    let _ = soon("the connection is closed", stream.read_to_end(&mut octets)).await;
    assert_eq!(octets, [0u8; 0]);
}

#[test]
fn files_that_cannot_be_used_are_named_and_never_quoted() {
    let authority = Authority::new();
    let (cert, key) = authority.issue(NODE_NAME, 2020..2999);
    let (ca, cert, key) = (authority.pem.as_bytes(), cert.as_bytes(), key.as_bytes());
    let (_, other) = authority.issue(NODE_NAME, 2020..2999);
    for (ca, cert, key, words) in [
        (&b""[..], cert, key, "`cluster.ca_file` has no certificate in PEM form"),
        (ca, &b"nonsense"[..], key, "`cluster.cert_file` has no certificate in PEM form"),
        (ca, cert, &b"-----BEGIN secret"[..], "`cluster.key_file` has no private key in PEM form"),
        (ca, cert, other.as_bytes(), "`cluster.cert_file` cannot be used"),
    ] {
        assert_eq!(Tls::new(ca, cert, key).unwrap_err().to_string(), words);
    }
    assert_eq!(format!("{:?}", Tls::new(ca, cert, key).unwrap()), "Tls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_octets_and_idle_connections_keep_no_node_away() {
    let quick = |config| PeerConfig { hello_within: Duration::from_millis(700), ..config };
    let application = Node::start(quick(config(1, APPLICATION))).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut evil: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"INVITE sip:a@b SIP/2.0\r\n\r\n".to_vec(),
        vec![0; 100_000],
        preface.clone(),
        // Frames of HTTP/2 with lengths and types that cannot be.
        [&preface[..], &[0xff; 64]].concat(),
        [&preface[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], &[0x40, 0, 0, 1, 5, 0, 0, 0, 1, 0]].concat(),
    ];
    for _ in 0..40 {
        let length = rand::random_range(1..3000);
        let noise: Vec<u8> = (0..length).map(|_| rand::random()).collect();
        evil.push(noise.clone());
        evil.push([&preface[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], &noise[..]].concat());
    }
    let mut open = Vec::new();
    for octets in evil {
        let mut stream = TcpStream::connect(application.address).await.unwrap();
        let _ = stream.write_all(&octets).await;
        open.push(stream);
    }
    for _ in 0..60 {
        open.push(TcpStream::connect(application.address).await.unwrap());
    }
    let proxy = Node::start(quick(config(2, PROXY))).await;
    proxy.peers.set_view(&[application.seen()]);
    talks(&proxy, &application).await;
    // Nobody who says nothing stays.
    for mut stream in open {
        let mut octets = Vec::new();
        let _ = soon("the connection is closed", stream.read_to_end(&mut octets)).await;
    }
    assert_eq!(application.peers.links().len(), 1);
    proxy.hears_nothing();
    application.hears_nothing();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_breaks_the_rules_is_lost_and_may_come_again() {
    use proto::v1;
    let application = Node::start(config(1, APPLICATION)).await;
    let hello = |attempt| v1::Hello {
        cluster: "test".into(),
        node: 7,
        instance: 5,
        protocol_min: 1,
        protocol_max: 1,
        to_node: 1,
        fresh: 100 + attempt,
        attempt,
        ..v1::Hello::default()
    };
    let numbers = |first, received| Some(v1::Numbers { first, received });
    let frame = |numbers, items| v1::ToCallsFrame { hello: None, numbers, items };
    let item = || mesh::wire::Wire::write(up(1)).unwrap();
    // Without numbers, out of order, too many items, an acknowledgement of nothing; then one that is right but for its item.
    let evil = [
        frame(None, vec![]),
        frame(numbers(2, 0), vec![item()]),
        frame(numbers(1, 0), vec![v1::ToCalls { item: None }; 1025]),
        frame(numbers(1, 9), vec![]),
    ];
    for (attempt, evil) in (1..).zip(evil) {
        let stream = TcpStream::connect(application.address).await.unwrap();
        let hello = v1::ToCallsFrame { hello: Some(hello(attempt)), numbers: None, items: vec![] };
        let answers = raw(stream, vec![hello, evil]).await;
        assert!(answers.iter().any(|answer| answer.welcome.is_some()), "{answers:?}");
        application.hears(&[Heard::Back(7, Way::Legs)]).await;
        application.hears(&[Heard::Lost(7, Way::Legs)]).await;
    }
    let stream = TcpStream::connect(application.address).await.unwrap();
    let hello = v1::ToCallsFrame { hello: Some(hello(9)), numbers: None, items: vec![] };
    let strange = v1::ToCalls { item: None };
    raw(stream, vec![hello, frame(numbers(1, 0), vec![strange, item()])]).await;
    application.hears(&[Heard::Back(7, Way::Legs)]).await;
    application.hears(&[Heard::Item(7, Way::Legs, format!("{:?}", up(1)))]).await;
    assert_eq!(application.link(7, Way::Legs).unwrap().unread, 1);
}

/// Says these frames as a client of the service, hangs up, and tells what was answered.
async fn raw(stream: TcpStream, frames: Vec<proto::v1::ToCallsFrame>) -> Vec<proto::v1::ToLegsFrame> {
    let (send, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    let driver = tokio::spawn(connection);
    let origin = hyper::Uri::from_static("http://x");
    let service = tower::service_fn(move |request| {
        let mut send = send.clone();
        async move { send.send_request(request).await }
    });
    let mut client = proto::v1::leg_client::LegClient::with_origin(service, origin);
    let mut answers = Vec::new();
    if let Ok(response) = client.exchange(futures_util::stream::iter(frames)).await {
        let mut inbound = response.into_inner();
        while let Ok(Ok(Some(answer))) = tokio::time::timeout(LONG, inbound.message()).await {
            answers.push(answer);
        }
    }
    driver.abort();
    answers
}
