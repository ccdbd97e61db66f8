//! TLS between nodes: both sides show a certificate of the cluster's own CA, made for the name [`NODE_NAME`].
//!
//! One name for all nodes, because nodes come and go with their addresses; which node it is says the introduction. A CA that signs for
//! others, too, may be used: their certificates have other names.

use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::Io;

/// The DNS name in the certificate of every node.
pub const NODE_NAME: &str = "carillon-node";

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file has not what it should have.
    #[error("`cluster.{setting}` has no {what} in PEM form")]
    Nothing {
        /// The setting that names the file.
        setting: &'static str,
        /// What it should have.
        what: &'static str,
    },
    /// What it has cannot be used.
    #[error("`cluster.{setting}` cannot be used")]
    Unusable {
        /// The setting that names the file.
        setting: &'static str,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The node's own certificate is for somebody else.
    #[error(
        "the certificate of `cluster.cert_file` is not for the name {NODE_NAME}; make one with that name as DNS subject alternative name"
    )]
    Name,
}

/// What a node proves itself by, and whom it believes.
#[derive(Clone)]
pub struct Tls {
    client: TlsConnector,
    server: TlsAcceptor,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// From the contents of `cluster.ca_file`, `cert_file` and `key_file`, all in PEM form.
    pub fn new(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Tls, TlsError> {
        let unusable = |setting: &'static str| {
            move |cause: Box<dyn std::error::Error + Send + Sync>| TlsError::Unusable { setting, cause }
        };
        let mut roots = RootCertStore::empty();
        for root in certificates("ca_file", ca)? {
            roots.add(root).map_err(|error| unusable("ca_file")(error.into()))?;
        }
        let chain = certificates("cert_file", cert)?;
        let first = chain.first().ok_or(TlsError::Nothing { setting: "cert_file", what: "certificate" })?;
        if !is_node(first) {
            return Err(TlsError::Name);
        }
        // What a key file has is said by nobody: its errors might quote it.
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| TlsError::Nothing { setting: "key_file", what: "private key" })?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(roots);
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable("ca_file")(error.into()))?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(|error| unusable("cert_file")(error.into()))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| unusable("ca_file")(error.into()))?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable("ca_file")(error.into()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| unusable("cert_file")(error.into()))?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        server.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Tls { client: TlsConnector::from(Arc::new(client)), server: TlsAcceptor::from(Arc::new(server)) })
    }

    pub(super) async fn connect(&self, io: Box<dyn Io>) -> io::Result<Box<dyn Io>> {
        let name = ServerName::try_from(NODE_NAME).map_err(io::Error::other)?;
        Ok(Box::new(TlsStream::from(self.client.connect(name, io).await?)))
    }

    pub(super) async fn accept(&self, io: Box<dyn Io>) -> io::Result<Box<dyn Io>> {
        let stream = self.server.accept(io).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        if !shown.is_some_and(is_node) {
            return Err(io::Error::other(format!("its certificate is not for the name {NODE_NAME}")));
        }
        Ok(Box::new(TlsStream::from(stream)))
    }
}

fn certificates(setting: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let nothing = TlsError::Nothing { setting, what: "certificate" };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(nothing),
        Err(error) => Err(TlsError::Unusable { setting, cause: error.to_string().into() }),
    }
}

/// Whether a certificate is for [`NODE_NAME`].
fn is_node(certificate: &CertificateDer<'_>) -> bool {
    let name = ServerName::try_from(NODE_NAME);
    let parsed = ParsedCertificate::try_from(certificate);
    matches!((name, parsed), (Ok(name), Ok(parsed)) if verify_server_name(&parsed, &name).is_ok())
}
