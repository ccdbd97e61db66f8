//! SIP over TLS on loopback: listeners with their certificates, carriers who have to be who they should be.

use super::names::{made, nameserver, until};
use crate::net::tls::Tls;
use crate::{CertFiles, Listener, Proxy, ProxyConfig, ServerState, TlsConfig};
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::A;
use model::Id;
use model::entities::CarrierServer;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sip::draft::{ResponseDraft, serialize_response};
use sip::flow::Transport;
use sip::framing::{Frame, Framer};
use sip::msg::{Message, Method};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Who signs certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for these names and addresses, and its key.
    fn signs(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        Arc::new(roots)
    }
}

/// Writes a certificate and its key where the configuration names them.
fn written(folder: &Path, section: &'static str, (cert, key): &(String, String)) -> CertFiles {
    let files = CertFiles {
        section,
        cert: folder.join(format!("{section}.pem")),
        key: folder.join(format!("{section}.key")),
    };
    std::fs::write(&files.cert, cert).unwrap();
    std::fs::write(&files.key, key).unwrap();
    files
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()]
}

fn connector(authority: &Authority) -> TlsConnector {
    let config = ClientConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Somebody who calls by TLS and believes this authority.
async fn call(
    proxy: &Proxy,
    authority: &Authority,
    name: &str,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let (_, address) =
        proxy.listeners().into_iter().find(|(transport, _)| *transport == Transport::Tls).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    connector(authority).connect(name, stream).await
}

/// The next whole message of a stream.
async fn next(stream: &mut (impl AsyncRead + Unpin)) -> Message {
    let mut framer = Framer::new();
    let mut chunk = [0; 4096];
    let read = async {
        loop {
            if let Some(Frame::Message(bytes)) = framer.next().unwrap() {
                return Message::parse(bytes).unwrap();
            }
            let count = stream.read(&mut chunk).await.unwrap();
            assert!(count > 0, "the stream ends");
            framer.push(&chunk[..count]);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.expect("silence")
}

#[tokio::test]
async fn a_telephone_speaks_by_tls_to_a_listener_with_our_certificate() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    let own = written(folder.path(), "sip", &authority.signs(&["sip.example.test"]));
    let config = ProxyConfig {
        listeners: vec![Listener::new(Transport::Tls, "127.0.0.1:0".parse().unwrap())],
        tls: TlsConfig { own: Some(own), ..TlsConfig::default() },
        ..ProxyConfig::default()
    };
    let proxy = made(config, Transport::Udp, Vec::new(), None).await;
    assert!(call(&proxy, &authority, "other.example.test").await.is_err());
    let mut stream = call(&proxy, &authority, "sip.example.test").await.unwrap();
    let text = "REGISTER sip:users.democlient.com SIP/2.0\r\nVia: SIP/2.0/TLS 192.0.2.7:5061;branch=z9hG4bK1\r\n\
                Max-Forwards: 70\r\nFrom: <sip:alice@users.democlient.com>;tag=a\r\n\
                To: <sip:alice@users.democlient.com>\r\nCall-ID: one\r\nCSeq: 1 REGISTER\r\n\
                Contact: <sip:alice@192.0.2.7:5061;transport=tls>\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(text.as_bytes()).await.unwrap();
    assert_eq!(next(&mut stream).await.status(), 401);
    // Who speaks no TLS there is not answered, and the listener goes on.
    let (_, address) = proxy.listeners()[0];
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(text.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(30), plain.read_to_end(&mut rest)).await.unwrap();
    assert!(!rest.starts_with(b"SIP/2.0"));
    assert!(call(&proxy, &authority, "sip.example.test").await.is_ok());
    proxy.stop().await;
}

/// A carrier's server under TLS that asks for a certificate of this authority, where there is one. Out: its port, and what it hears:
/// a request, or why the handshake failed.
async fn carrier(
    (cert, key): (String, String),
    asks: Option<&Authority>,
) -> (u16, tokio::sync::mpsc::UnboundedReceiver<Result<Message, String>>) {
    let builder = ServerConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match asks {
        Some(authority) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(authority.roots(), default_provider().into());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain(&cert), key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (teller, heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, remote) = listener.accept().await.unwrap();
            match acceptor.accept(stream).await {
                Ok(mut stream) => {
                    let teller = teller.clone();
                    tokio::spawn(async move {
                        // A client that does not like our certificate goes away after the handshake of TLS 1.3.
                        let (mut framer, mut chunk) = (Framer::new(), [0; 4096]);
                        while let Ok(count) = stream.read(&mut chunk).await
                            && count > 0
                        {
                            framer.push(&chunk[..count]);
                            while let Some(frame) = framer.next().unwrap() {
                                let Frame::Message(bytes) = frame else { continue };
                                let request = Message::parse(bytes).unwrap();
                                let answer = serialize_response(&request, remote, &ResponseDraft::new(200));
                                stream.write_all(&answer).await.unwrap();
                                let _ = teller.send(Ok(request));
                            }
                        }
                        let _ = teller.send(Err("closed".to_owned()));
                    });
                }
                Err(error) => drop(teller.send(Err(error.to_string()))),
            }
        }
    });
    (port, heard)
}

fn server(host: &str) -> CarrierServer {
    CarrierServer { sip_proxy: Some(host.to_owned()), transport: Some(3), ..CarrierServer::default() }
}

async fn trunk_config(folder: &Path, authority: &Authority) -> ProxyConfig {
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let trunks = written(folder, "trunks", &authority.signs(&["trunks.example.test"]));
    let mut config = ProxyConfig {
        listeners: vec![Listener::new(Transport::Udp, "127.0.0.1:0".parse().unwrap())],
        tls: TlsConfig { own: None, trunks: Some(trunks), authorities: Some(ca) },
        ..ProxyConfig::default()
    };
    let local = RData::A(A::new(127, 0, 0, 1));
    config.trunks.nameservers =
        vec![nameserver(vec![("carrier.test", local.clone()), ("second.test", local)]).await];
    config.trunks.misses = 1;
    config
}

#[tokio::test]
async fn a_carrier_is_called_by_tls_by_its_name_with_our_certificate() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    let config = trunk_config(folder.path(), &authority).await;
    let (port, mut heard) = carrier(authority.signs(&["carrier.test"]), Some(&authority)).await;
    let proxy = made(config, Transport::Tls, vec![server(&format!("carrier.test:{port}"))], None).await;
    let request =
        tokio::time::timeout(Duration::from_secs(30), heard.recv()).await.unwrap().unwrap().unwrap();
    assert!(request.method_is(&Method::Options));
    assert_eq!(request.request_uri(), format!("sip:carrier.test:{port};transport=tls").as_bytes());
    assert_eq!(request.via().unwrap().transport(), Some(Transport::Tls));
    until(|| proxy.trunks().server_state(Id::new(1)) == ServerState::Up).await;
    let targets = proxy.trunks().targets(Id::new(1));
    assert_eq!(targets.len(), 1);
    assert_eq!((targets[0].transport, targets[0].remote.port()), (Transport::Tls, port));
    proxy.stop().await;
}

/// RFC 3261 section 26.3.1, RFC 5922 section 7: nothing is said to somebody else.
#[tokio::test]
async fn nobody_else_is_spoken_to() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (cert, what) in [
        (authority.signs(&["other.test"]), "another name"),
        (stranger.signs(&["carrier.test"]), "an authority that we do not know"),
        (authority.signs(&["127.0.0.1"]), "an address is no name"),
    ] {
        let folder = TempDir::new().unwrap();
        let config = trunk_config(folder.path(), &authority).await;
        let (port, mut heard) = carrier(cert, None).await;
        let proxy = made(config, Transport::Tls, vec![server(&format!("carrier.test:{port}"))], None).await;
        let said = tokio::time::timeout(Duration::from_secs(30), heard.recv()).await.unwrap().unwrap();
        assert!(said.is_err(), "{what}: {said:?}");
        until(|| proxy.trunks().server_state(Id::new(1)) == ServerState::Down).await;
        proxy.stop().await;
    }
}

/// One connection serves all that is for its address: it has to be right for each host there.
#[tokio::test]
async fn two_hosts_at_one_address_need_a_certificate_for_both() {
    let authority = Authority::new();
    for (names, is_right) in [(&["carrier.test", "second.test"][..], true), (&["carrier.test"], false)] {
        let folder = TempDir::new().unwrap();
        let config = trunk_config(folder.path(), &authority).await;
        let (port, _heard) = carrier(authority.signs(names), None).await;
        let servers = [format!("carrier.test:{port}"), format!("second.test:{port}")];
        let proxy =
            made(config, Transport::Tls, servers.iter().map(|host| server(host)).collect(), None).await;
        let known = |number: u32| proxy.trunks().server_state(Id::new(number));
        until(|| [1, 2].iter().all(|number| !proxy.trunks().targets(Id::new(*number)).is_empty())).await;
        match is_right {
            true => until(|| known(1) == ServerState::Up && known(2) == ServerState::Up).await,
            false => until(|| known(1) == ServerState::Down && known(2) == ServerState::Down).await,
        }
        proxy.stop().await;
    }
}

/// RFC 5923 section 8: a connection that somebody opened from a carrier's address says nothing about who he is.
#[tokio::test]
async fn a_connection_from_a_carriers_address_is_not_taken_for_the_carrier() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    let mut config = trunk_config(folder.path(), &authority).await;
    config.trunks.misses = 2;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let own = socket.local_addr().unwrap();
    let proxy = made(config, Transport::Tls, vec![server(&own.to_string())], None).await;
    let (_, address) =
        proxy.listeners().into_iter().find(|(transport, _)| *transport == Transport::Tls).unwrap();
    let stream = socket.connect(address).await.unwrap();
    let name = ServerName::try_from("trunks.example.test").unwrap();
    let mut stream = connector(&authority).connect(name, stream).await.unwrap();
    // The second question at the latest comes while the connection is there.
    until(|| proxy.trunks().server_state(Id::new(1)) == ServerState::Down).await;
    let heard = tokio::time::timeout(Duration::from_millis(100), stream.read_u8()).await;
    assert!(heard.is_err(), "{heard:?}");
    proxy.stop().await;
}

#[tokio::test]
async fn where_nobody_is_expected_nobody_is_called() {
    let tls = Tls::new(&TlsConfig::default()).unwrap();
    let (here, there) = ("192.0.2.1:5061".parse().unwrap(), "192.0.2.2:5061".parse().unwrap());
    let hosts = BTreeSet::from([(here, "carrier.test".to_owned())]);
    assert_eq!(tls.expect(&hosts), BTreeSet::from([here]));
    assert!(tls.expects(here) && !tls.expects(there));
    assert!(tls.expect(&hosts).is_empty(), "nothing new");
    assert!(tls.expect(&BTreeSet::new()).is_empty());
    assert!(!tls.expects(here));
}

#[tokio::test]
async fn a_new_certificate_is_taken_over_and_a_broken_one_is_not() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    let own = written(folder.path(), "sip", &authority.signs(&["old.test"]));
    let config = ProxyConfig {
        listeners: vec![Listener::new(Transport::Tls, "127.0.0.1:0".parse().unwrap())],
        tls: TlsConfig { own: Some(own.clone()), ..TlsConfig::default() },
        ..ProxyConfig::default()
    };
    let proxy = made(config, Transport::Udp, Vec::new(), None).await;
    assert!(call(&proxy, &authority, "old.test").await.is_ok());
    std::fs::write(&own.cert, "no certificate").unwrap();
    proxy.shared.connections.look_again();
    assert!(call(&proxy, &authority, "old.test").await.is_ok());
    written(folder.path(), "sip", &authority.signs(&["new.test"]));
    proxy.shared.connections.look_again();
    assert!(call(&proxy, &authority, "new.test").await.is_ok());
    assert!(call(&proxy, &authority, "old.test").await.is_err());
    proxy.stop().await;
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_its_setting_and_the_way_out() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    let (one, two) = (authority.signs(&["a.test"]), authority.signs(&["a.test"]));
    let nowhere = folder.path().join("nowhere");
    for (pair, begin, part) in [
        ((one.0.clone(), two.1), "sip.tls_cert_file = ", "does not fit its key"),
        (("x".to_owned(), one.1.clone()), "sip.tls_cert_file = ", "no certificate in PEM form"),
        ((one.0, "x".to_owned()), "sip.tls_key_file = ", "no private key"),
    ] {
        let own = written(folder.path(), "sip", &pair);
        let error = TlsConfig { own: Some(own), ..TlsConfig::default() }.check().unwrap_err().to_string();
        assert!(error.starts_with(begin) && error.contains(part), "{error}");
    }
    let error =
        TlsConfig { authorities: Some(nowhere), ..TlsConfig::default() }.check().unwrap_err().to_string();
    assert!(error.starts_with("trunks.tls_ca_file = ") && error.contains("this user can read"), "{error}");
    assert!(TlsConfig::default().check().is_ok());
}
