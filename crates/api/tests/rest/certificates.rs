//! Administrators who show a certificate: who they are, at which level, and when the certificate does not count.
//!
//! In: connections with TLS to a server over the sample rows. Elsewhere: files and handshakes (`api::tls`), `carillon ctl` (package
//! `system-tests`).

use crate::world::{ACCOUNTS, RESTRICTED, Server, run, token};
use api::live::Who;
use api::serving::{Limits, serve};
use api::tls::{Files, Tls};
use model::define::Level;
use model::entities::Administrator;
use model::id::Id;
use proto::v1;
use proto::v1::configuration_client::ConfigurationClient;
use proto::v1::operation_client::OperationClient;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value as Json, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("certificates that can be used").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key with these common names.
    fn issue(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params =
            CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("certificates that can be used");
        params.distinguished_name = DistinguishedName::new();
        names.iter().for_each(|name| params.distinguished_name.push(DnType::CommonName, *name));
        (
            params.signed_by(&key, &self.issuer).expect("certificates that can be used").pem(),
            key.serialize_pem(),
        )
    }
}

/// A server whose certificate and administrators' are of this authority.
struct Served {
    authority: Authority,
    server: Server,
    at: SocketAddr,
}

async fn served() -> Served {
    let (authority, server) = (Authority::new(), Server::new());
    let folder = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        path
    };
    let (cert, key) = authority.issue(&["node"]);
    let (cert, key) = (file("cert.pem", &cert), file("key.pem", &key));
    let client_ca = Some(file("ca.pem", &authority.pem));
    let tls = Arc::new(Tls::read(Files { cert, key, client_ca }).expect("certificates that can be used"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("a port");
    tokio::spawn(serve(listener, server.router(), Limits::default(), Some(tls)));
    Served { authority, server, at }
}

impl Served {
    /// A connection that shows this certificate.
    async fn channel(&self, shown: Option<&(String, String)>) -> Channel {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.authority.pem));
        if let Some((cert, key)) = shown {
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        let endpoint =
            Endpoint::from_shared(format!("https://{}", self.at)).expect("certificates that can be used");
        endpoint.tls_config(tls).expect("a connection").connect().await.expect("a connection")
    }

    /// One request of HTTP/1.1; out: its status and body.
    async fn ask(
        &self,
        shown: Option<&(String, String)>,
        request: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, Json) {
        let mut roots = RootCertStore::empty();
        roots
            .add(
                CertificateDer::from_pem_slice(self.authority.pem.as_bytes())
                    .expect("certificates that can be used"),
            )
            .expect("certificates that can be used");
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match shown {
            Some((cert, key)) => {
                let chain = vec![
                    CertificateDer::from_pem_slice(cert.as_bytes()).expect("certificates that can be used"),
                ];
                config.with_client_auth_cert(
                    chain,
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("certificates that can be used"),
                )
            }
            None => Ok(config.with_no_client_auth()),
        };
        let stream = TcpStream::connect(self.at).await.expect("a connection");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let mut stream = TlsConnector::from(Arc::new(config.expect("a connection")))
            .connect(name, stream)
            .await
            .expect("a connection");
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let text = format!(
            "{request} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nConnection: close\r\n{headers}Content-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.expect("it can be written");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        (status, serde_json::from_str(body).unwrap_or(Json::Null))
    }
}

const LIST: &str = "GET /api/platform/brands";

#[test]
fn a_certificate_is_the_administrator_whose_name_it_has_with_the_rights_of_now() {
    run(async {
        let served = served().await;
        let admin = served.authority.issue(&["admin"]);
        let (status, brands) = served.ask(Some(&admin), LIST, &[], "").await;
        assert_eq!((status, brands.as_array().map(Vec::len)), (200, Some(3)), "{brands}");
        let channel = served.channel(Some(&admin)).await;
        let list = || v1::ListRequest { entity: "Brand".to_owned(), ..v1::ListRequest::default() };
        let mut client = ConfigurationClient::new(channel.clone());
        assert_eq!(client.list(list()).await.unwrap().into_inner().total, 3);
        // Another service, and who is known there at all.
        let error =
            OperationClient::new(channel).list_calls(v1::ListCallsRequest::default()).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented, "{error}");

        let brand = json!({ "name": "x" }).to_string();
        let restricted = served.authority.issue(&[RESTRICTED[0].name]);
        let (status, body) = served.ask(Some(&restricted), "POST /api/platform/brands", &[], &brand).await;
        assert_eq!(status, 403, "{body}");
        let (status, body) = served.ask(Some(&admin), "POST /api/platform/brands", &[], &brand).await;
        assert_eq!(status, 400, "who may is told what is missing: {body}");

        // The connection is there still when the account is disabled.
        let rows = served.server.live.rows();
        let id: Id<Administrator> =
            rows.each::<Administrator>().find(|one| one.username == "admin").unwrap().id;
        let disable = |draft: &mut model::draft::Draft<'_>| {
            let mut admin = draft.get(id).unwrap().clone();
            admin.active = false;
            draft.put(Box::new(admin))
        };
        served.server.live.change(None, &Who::system(), disable).await.unwrap();
        let error = client.list(list()).await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated);
        assert!(error.message().contains("\"admin\"") && error.message().contains("disabled"), "{error}");
        let (status, body) = served.ask(Some(&admin), LIST, &[], "").await;
        assert!(status == 401 && body["message"].as_str().unwrap().contains("disabled"), "{status} {body}");
    });
}

#[test]
fn certificates_of_nobody_are_refused_by_their_name() {
    run(async {
        let served = served().await;
        for (names, part) in [
            (&["nobody"][..], "\"nobody\"'s: no administrator of the platform has this user name"),
            (&["test_brand_admin"], "\"test_brand_admin\"'s: no administrator of the platform"),
            (&["alice@democompany.com"], "no administrator of the platform"),
            (&[""], "no administrator of the platform"),
            (&[], "has no common name"),
        ] {
            let shown = served.authority.issue(names);
            let (status, body) = served.ask(Some(&shown), LIST, &[], "").await;
            let said = body["message"].as_str().unwrap_or_default();
            assert!(status == 401 && said.contains(part), "{names:?}: {status} {body}");
            let mut client = ConfigurationClient::new(served.channel(Some(&shown)).await);
            let error = client.describe(v1::DescribeRequest::default()).await.unwrap_err();
            assert_eq!((error.code(), error.message()), (Code::Unauthenticated, said));
        }
    });
}

#[test]
fn the_header_goes_first_and_what_is_sent_for_another_and_other_levels_need_a_token() {
    run(async {
        let served = served().await;
        let admin = served.authority.issue(&["admin"]);
        let nobody = served.authority.issue(&["nobody"]);
        let right = format!("Bearer {}", token(&ACCOUNTS[0]));
        let with = |value: &'static str| [("Authorization", value)];
        assert_eq!(served.ask(Some(&nobody), LIST, &[("Authorization", &right)], "").await.0, 200);
        assert_eq!(served.ask(None, LIST, &[("Authorization", &right)], "").await.0, 200);
        for headers in [
            with("Bearer x"),
            with("Basic YTpi"),
            with(""),
            [("Origin", "https://elsewhere.example")],
            [("Sec-Fetch-Site", "cross-site")],
            [("X-Forwarded-For", "192.0.2.1")],
            [("Forwarded", "for=192.0.2.1")],
            [("Via", "1.1 proxy")],
        ] {
            let (status, body) = served.ask(Some(&admin), LIST, &headers, "").await;
            assert_eq!(status, 401, "{headers:?}: {body}");
        }
        assert_eq!(served.ask(None, LIST, &[], "").await.0, 401);
        let mut client = ConfigurationClient::new(served.channel(None).await);
        let error = client.describe(v1::DescribeRequest::default()).await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{error}");
        for level in [Level::Brand, Level::Client, Level::User] {
            let request = format!("GET /api/{}/my/profile", level.name());
            assert_eq!(served.ask(Some(&admin), &request, &[], "").await.0, 401, "{level:?}");
        }
    });
}
