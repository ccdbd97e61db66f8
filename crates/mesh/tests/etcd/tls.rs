//! An etcd that wants certificates of its clients and knows users.

use crate::support::{Node, info, refused, settings};
use cluster::node::Kind;
use etcd_client::{Certificate, Client, ConnectOptions, Identity, Permission, TlsOptions};
use mesh::etcd::{EtcdSettings, Password, Standing};
use mesh::testing::{EtcdServer, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

struct Files {
    directory: TempDir,
}

impl Files {
    /// An authority, a server's certificate for 127.0.0.1 and a client's.
    fn make() -> Self {
        let directory = TempDir::new().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let write = |name: &str, text: String| std::fs::write(directory.path().join(name), text).unwrap();
        write("ca.pem", ca.pem());
        for (name, host) in [("server", "127.0.0.1"), ("client", "node.example")] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            write(&format!("{name}.pem"), params.signed_by(&key, &ca).unwrap().pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// Users: `root`, and `carillon`, who may do everything below /carillon/.
fn make_users(url: &str, files: &Files) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let identity = Identity::from_pem(read(&files.path("client.pem")), read(&files.path("client.key")));
        let ca = Certificate::from_pem(read(&files.path("ca.pem")));
        let tls = TlsOptions::new().ca_certificate(ca).identity(identity);
        let mut client = Client::connect([url], Some(ConnectOptions::new().with_tls(tls))).await.unwrap();
        client.role_add("below").await.unwrap();
        client
            .role_grant_permission("below", Permission::read_write("/carillon/").with_prefix())
            .await
            .unwrap();
        for (user, role) in [("root", "root"), ("carillon", "below")] {
            client.user_add(user, "a secret", None).await.unwrap();
            if role == "root" {
                client.role_add("root").await.unwrap();
            }
            client.user_grant_role(user, role).await.unwrap();
        }
        client.auth_enable().await.unwrap();
    });
}

#[test]
fn certificates_and_a_password_let_a_node_in_and_nothing_less_does() {
    let files = Files::make();
    let (ca, certificate, key) = (files.path("ca.pem"), files.path("server.pem"), files.path("server.key"));
    let mut etcd = EtcdServer::start_tls(Tls { ca: &ca, certificate: &certificate, key: &key }).unwrap();
    let good = EtcdSettings {
        ca_file: Some(ca),
        cert_files: Some((files.path("client.pem"), files.path("client.key"))),
        user: Some(("carillon".to_owned(), Password::new("a secret"))),
        ..settings(&etcd.url(), None)
    };
    let error = refused(good.clone(), info(1)).to_string();
    assert!(error.contains("authentication is not enabled"), "{error}");
    make_users(&etcd.url(), &files);

    let wrong =
        EtcdSettings { user: Some(("carillon".to_owned(), Password::new("a guess"))), ..good.clone() };
    let error = refused(wrong, info(1)).to_string();
    assert!(error.starts_with("cluster.etcd: refuses") && error.contains("authentication failed"), "{error}");
    assert!(!error.contains("a guess"), "{error}");
    let beside = EtcdSettings { prefix: "/other".to_owned(), ..good.clone() };
    let error = refused(beside, info(1)).to_string();
    assert!(error.contains("permission denied"), "{error}");
    let short = Duration::from_secs(3);
    let stranger = EtcdSettings { cert_files: None, patience: short, ..good.clone() };
    let error = refused(stranger, info(1)).to_string();
    assert!(error.contains("within 3 s"), "{error}");
    let other_ca = Files::make();
    let doubting = EtcdSettings { ca_file: Some(other_ca.path("ca.pem")), patience: short, ..good.clone() };
    let error = refused(doubting, info(1)).to_string();
    assert!(error.contains("certificate"), "{error}");

    let node = Node::start(good, info(1));
    node.wish(Kind::HOUSEKEEPING, BTreeSet::from([0]));
    node.gets(Kind::HOUSEKEEPING, 0);
    // A restart forgets who has logged in; the node logs in again.
    etcd.kill();
    node.stands(|standing| *standing == Standing::LostLease);
    etcd.restart().unwrap();
    node.stands(|standing| matches!(standing, Standing::Joined(_)));
    node.gets(Kind::HOUSEKEEPING, 0);
}
