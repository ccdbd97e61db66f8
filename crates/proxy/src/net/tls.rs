//! TLS of SIP connections (RFC 3261 section 26.2, RFC 5922): the certificates that we show, whom we believe, who must be at the other end.
//!
//! In: PEM files, connections in the clear. Out: connections under TLS. Elsewhere: what goes over them (`tcp`), the names of those whom
//! we call (`trunks`).

use arc_swap::ArcSwap;
use dashmap::DashMap;
use parking_lot::Mutex;
use rustls::client::{ResolvesClientCert, verify_server_name};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Most octets of a file.
const LONGEST: u64 = 1 << 20;
/// Names that one address may have; a connection has to be right for all of them.
const NAMES_MAX: usize = 32;

/// A certificate, with those that lead to its authority, and its key: two files in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFiles {
    /// The section of the configuration whose `tls_cert_file` and `tls_key_file` they are, for messages.
    pub section: &'static str,
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// TLS of a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// What listeners for TLS show.
    pub own: Option<CertFiles>,
    /// What those of trunks show instead, and connections to carriers and DDI providers where they are asked for a certificate.
    pub trunks: Option<CertFiles>,
    /// The authorities that are believed when we connect; `None`: those of the system.
    pub authorities: Option<PathBuf>,
}

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{setting} = {}: {remedy}", file.display())]
pub struct Unusable {
    /// The setting that names it.
    pub setting: String,
    /// The file.
    pub file: PathBuf,
    /// Why, and what to do.
    pub remedy: String,
}

fn unusable(setting: &str, file: &Path, remedy: impl Into<String>) -> Unusable {
    Unusable { setting: setting.to_owned(), file: file.to_owned(), remedy: remedy.into() }
}

impl TlsConfig {
    /// Reads all files, to find mistakes.
    ///
    /// # Errors
    /// The first one that cannot be used.
    pub fn check(&self) -> Result<(), Unusable> {
        for files in [&self.own, &self.trunks].into_iter().flatten() {
            read(files)?;
        }
        self.authorities.as_deref().map(authorities).transpose()?;
        Ok(())
    }
}

/// A certificate as its files are now.
struct Identity {
    files: CertFiles,
    current: ArcSwap<CertifiedKey>,
    looked: Mutex<Looked>,
}

/// What came of the last look at the files.
struct Looked {
    digest: [u8; 32],
    /// What was wrong, so that it is told once.
    complaint: Option<String>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let current = self.current.load_full();
        current.key.choose_scheme(schemes).is_some().then_some(current)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Identity {
    fn read(files: CertFiles) -> Result<Arc<Identity>, Unusable> {
        let (digest, key) = read(&files)?;
        let looked = Mutex::new(Looked { digest, complaint: None });
        Ok(Arc::new(Identity { files, current: ArcSwap::from_pointee(key), looked }))
    }

    /// Takes over files that have changed. Those that cannot be used are told of, and the old ones go on.
    fn look_again(&self) {
        let mut looked = self.looked.lock();
        match read(&self.files) {
            Ok((digest, _)) if digest == looked.digest => looked.complaint = None,
            Ok((digest, key)) => {
                self.current.store(Arc::new(key));
                *looked = Looked { digest, complaint: None };
                tracing::info!(file = %self.files.cert.display(), "SIP has a new certificate");
            }
            Err(error) => {
                let complaint = error.to_string();
                if looked.complaint.as_ref() != Some(&complaint) {
                    tracing::warn!("{complaint}; until then SIP goes on with what was read before");
                    looked.complaint = Some(complaint);
                }
            }
        }
    }
}

/// The hosts that we expect at an address, in lower case, and what was wrong there the last time.
#[derive(Default)]
struct Expected {
    names: BTreeSet<String>,
    complaint: Option<String>,
}

/// TLS of a proxy, ready to be used.
pub(crate) struct Tls {
    own: Option<TlsAcceptor>,
    trunks: Option<TlsAcceptor>,
    connector: TlsConnector,
    identities: Vec<Arc<Identity>>,
    expected: DashMap<SocketAddr, Expected>,
}

impl Tls {
    pub(crate) fn new(config: &TlsConfig) -> Result<Tls, Unusable> {
        let own = config.own.clone().map(Identity::read).transpose()?;
        let trunks = config.trunks.clone().map(Identity::read).transpose()?;
        let roots = match &config.authorities {
            Some(file) => authorities(file)?,
            None => system_authorities(),
        };
        // No ALPN: there are peers that end a handshake which names "sip".
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the versions of TLS")
            .with_root_certificates(roots);
        let client = match &trunks {
            Some(identity) => builder.with_client_cert_resolver(Arc::clone(identity) as Arc<_>),
            None => builder.with_no_client_auth(),
        };
        let acceptor = |identity: &Arc<Identity>| {
            let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
                .with_safe_default_protocol_versions()
                .expect("the provider has the versions of TLS");
            let config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(identity) as Arc<_>);
            TlsAcceptor::from(Arc::new(config))
        };
        Ok(Tls {
            own: own.as_ref().map(acceptor),
            trunks: trunks.as_ref().or(own.as_ref()).map(acceptor),
            connector: TlsConnector::from(Arc::new(client)),
            identities: [own, trunks].into_iter().flatten().collect(),
            expected: DashMap::new(),
        })
    }

    /// Looks at the files until it is aborted.
    pub(crate) async fn keep(self: Arc<Self>) {
        if self.identities.is_empty() {
            return;
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let tls = Arc::clone(&self);
            // Files may hang.
            let look = tokio::task::spawn_blocking(move || tls.look_again());
            let _ = look.await;
        }
    }

    pub(crate) fn look_again(&self) {
        self.identities.iter().for_each(|identity| identity.look_again());
    }

    /// The handshake with whoever connects to a listener. `None`: it fails.
    pub(crate) async fn accept(
        &self,
        is_trunk: bool,
        stream: TcpStream,
    ) -> Option<server::TlsStream<TcpStream>> {
        let acceptor = if is_trunk { self.trunks.as_ref()? } else { self.own.as_ref()? };
        match acceptor.accept(stream).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::debug!(%error, "a TLS handshake with SIP fails");
                None
            }
        }
    }

    /// Sets which hosts there must be at which addresses; at others nobody is called. Out: addresses at which there are others than
    /// before.
    pub(crate) fn expect(&self, hosts: &BTreeSet<(SocketAddr, String)>) -> BTreeSet<SocketAddr> {
        let is_expected = |remote: &SocketAddr, name: &String| hosts.contains(&(*remote, name.clone()));
        self.expected.retain(|remote, expected| {
            expected.names.retain(|name| is_expected(remote, name));
            !expected.names.is_empty()
        });
        let mut new = BTreeSet::new();
        for (remote, name) in hosts {
            let mut expected = self.expected.entry(*remote).or_default();
            if expected.names.len() < NAMES_MAX && expected.names.insert(name.clone()) {
                new.insert(*remote);
            }
        }
        new
    }

    /// Whether somebody is expected there.
    pub(crate) fn expects(&self, remote: SocketAddr) -> bool {
        self.expected.contains_key(&remote)
    }

    /// The handshake with whom we called. The certificate has to be right for every host that we expect there: what is for one of
    /// them goes by this connection.
    ///
    /// # Errors
    /// It fails, or somebody else is there.
    pub(crate) async fn connect(
        &self,
        remote: SocketAddr,
        stream: TcpStream,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let names: Vec<String> = self
            .expected
            .get(&remote)
            .map(|expected| expected.names.iter().cloned().collect())
            .unwrap_or_default();
        let connected = self.shake(&names, stream).await;
        if let Some(mut expected) = self.expected.get_mut(&remote) {
            let complaint = connected.as_ref().err().map(ToString::to_string);
            if let Some(error) = complaint.as_ref().filter(|error| expected.complaint.as_ref() != Some(error))
            {
                let hosts = names.join(", ");
                tracing::warn!(%remote, hosts, error, "no TLS with a trunk; look at its certificate, and at trunks.tls_ca_file");
            }
            expected.complaint = complaint;
        }
        connected
    }

    async fn shake(&self, names: &[String], stream: TcpStream) -> io::Result<client::TlsStream<TcpStream>> {
        let server = |name: &String| {
            ServerName::try_from(name.trim_start_matches('[').trim_end_matches(']').to_owned())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
        };
        let Some((first, others)) = names.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "nobody is expected there"));
        };
        let stream = self.connector.connect(server(first)?, stream).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        for name in others {
            let shown = chain.first().ok_or_else(|| io::Error::other("no certificate"))?;
            let shown = ParsedCertificate::try_from(shown).map_err(io::Error::other)?;
            verify_server_name(&shown, &server(name)?).map_err(io::Error::other)?;
        }
        Ok(stream)
    }
}

/// What the two files have, and a digest by which a change is seen.
fn read(files: &CertFiles) -> Result<([u8; 32], CertifiedKey), Unusable> {
    let (cert_setting, key_setting) =
        (format!("{}.tls_cert_file", files.section), format!("{}.tls_key_file", files.section));
    let (cert, key) = (content(&cert_setting, &files.cert)?, content(&key_setting, &files.key)?);
    let mut digest = Sha256::new();
    for part in [&cert, &key] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let chain = certificates(&cert_setting, &files.cert, &cert)?;
    // What a key file has is said by nobody: its errors might quote it.
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| {
        unusable(&key_setting, &files.key, "has no private key in PEM form; name the file of one")
    })?;
    let own = CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| {
        let remedy =
            format!("does not fit its key ({error}); name a certificate and the key that it was made with");
        unusable(&cert_setting, &files.cert, remedy)
    })?;
    Ok((digest.finalize().into(), own))
}

fn authorities(file: &Path) -> Result<RootCertStore, Unusable> {
    const SETTING: &str = "trunks.tls_ca_file";
    let mut roots = RootCertStore::empty();
    for root in certificates(SETTING, file, &content(SETTING, file)?)? {
        let remedy = |error| format!("{error}; name a file with certificates of authorities");
        roots.add(root).map_err(|error| unusable(SETTING, file, remedy(error)))?;
    }
    Ok(roots)
}

fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "the system's authorities");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}

fn content(setting: &str, file: &Path) -> Result<Vec<u8>, Unusable> {
    let mut content = Vec::new();
    let read = std::fs::File::open(file).and_then(|open| open.take(LONGEST + 1).read_to_end(&mut content));
    read.map_err(|error| unusable(setting, file, format!("{error}; name a file that this user can read")))?;
    if content.len() as u64 > LONGEST {
        return Err(unusable(setting, file, "longer than 1 MiB; name a file in PEM form"));
    }
    Ok(content)
}

fn certificates(setting: &str, file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(unusable(setting, file, "has no certificate in PEM form; name the file of one")),
        Err(error) => {
            Err(unusable(setting, file, format!("{error}; name a file with certificates in PEM form")))
        }
    }
}
