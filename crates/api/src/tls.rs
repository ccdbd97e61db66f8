//! TLS of the API's listener: the certificate that it shows, and administrators' certificates that it believes.
//!
//! In: PEM files, connections. Out: connections in the clear, and what a certificate says of its owner. Elsewhere: what the owner may do
//! (`auth`), how many connections there may be (`serving`).

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::name::DirectoryString;

/// How often the files are looked at.
pub(crate) const LOOK: Duration = Duration::from_secs(10);
/// Most octets of a file.
const LONGEST: u64 = 1 << 20;
/// How long whoever is refused may take to hear it.
const LINGER: Duration = Duration::from_secs(1);
/// Most characters of a common name that are shown.
const LONGEST_NAME: usize = 100;
/// What the first octet of TLS is: a record of its handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// The files of a listener that speaks TLS, all in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Its certificate, and those that lead to the authority: `api.cert_file`.
    pub cert: PathBuf,
    /// The key of that: `api.key_file`.
    pub key: PathBuf,
    /// Authorities that sign certificates of administrators: `api.client_ca_file`. None: certificates are not asked for.
    pub client_ca: Option<PathBuf>,
}

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{setting} = {}: {remedy}", file.display())]
pub struct Unusable {
    /// The setting that names it.
    pub setting: &'static str,
    /// The file.
    pub file: PathBuf,
    /// Why, and what to do.
    pub remedy: String,
}

const CERT: &str = "api.cert_file";
const KEY: &str = "api.key_file";
const CLIENT_CA: &str = "api.client_ca_file";

/// What a listener proves itself by, and whom it believes; as its files are now.
pub struct Tls {
    files: Files,
    current: ArcSwap<ServerConfig>,
    looked: Mutex<Looked>,
}

/// What came of the last looks at the files.
struct Looked {
    /// Of what is in use.
    digest: [u8; 32],
    /// What was wrong the last time, so that it is told once.
    complaint: Option<String>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// One of them cannot be used.
    pub fn read(files: Files) -> Result<Self, Unusable> {
        let pem = Pem::read(&files)?;
        let current = ArcSwap::from_pointee(pem.config(&files)?);
        let looked = Mutex::new(Looked { digest: pem.digest(), complaint: None });
        Ok(Self { files, current, looked })
    }

    /// Takes over files that have changed. Those that cannot be used are told of, and the old ones go on.
    pub(crate) fn look_again(&self) {
        // Otherwise another look is under way: on a file system that hangs, say.
        if let Some(mut looked) = self.looked.try_lock() {
            self.look(&mut looked);
        }
    }

    fn look(&self, looked: &mut Looked) {
        let new = Pem::read(&self.files).and_then(|pem| {
            let digest = pem.digest();
            if digest == looked.digest { Ok(None) } else { Ok(Some((digest, pem.config(&self.files)?))) }
        });
        match new {
            Ok(None) => looked.complaint = None,
            Ok(Some((digest, config))) => {
                self.current.store(Arc::new(config));
                *looked = Looked { digest, complaint: None };
                tracing::info!(file = %self.files.cert.display(), "the API has a new certificate");
            }
            Err(error) => {
                let complaint = error.to_string();
                if looked.complaint.as_ref() != Some(&complaint) {
                    tracing::warn!("{complaint}; until then the API goes on with what it read before");
                    looked.complaint = Some(complaint);
                }
            }
        }
    }

    /// The handshake with whoever connects; none: it fails, and he has been told.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let mut first = [0];
        if stream.peek(&mut first).await.ok()? == 0 {
            return None;
        }
        if first[0] != HANDSHAKE {
            refuse_plain(stream, first[0]).await;
            return None;
        }
        let acceptor = TlsAcceptor::from(self.current.load_full());
        match acceptor.accept(stream).into_fallible().await {
            Ok(stream) => Some(stream),
            Err((error, stream)) => {
                tracing::debug!(%error, "a TLS handshake with the API fails");
                linger(stream).await;
                None
            }
        }
    }
}

/// Tells a client of HTTP that it has to speak TLS.
async fn refuse_plain(mut stream: TcpStream, first: u8) {
    const BODY: &str = "this port speaks TLS: write https:// instead of http://\n";
    if !first.is_ascii_uppercase() {
        return; // no method of HTTP begins so
    }
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    if stream.write_all(answer.as_bytes()).await.is_ok() {
        linger(stream).await;
    }
}

/// Closes a connection so that its peer gets what was sent last: with octets unread it would be reset.
async fn linger(mut stream: TcpStream) {
    let closing = async {
        let _ = stream.shutdown().await;
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
    };
    let _ = tokio::time::timeout(LINGER, closing).await;
}

/// What the files have.
struct Pem {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Pem {
    fn read(files: &Files) -> Result<Self, Unusable> {
        let client_ca = files.client_ca.as_deref().map(|file| content(CLIENT_CA, file)).transpose()?;
        Ok(Self { cert: content(CERT, &files.cert)?, key: content(KEY, &files.key)?, client_ca })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten() {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    fn config(&self, files: &Files) -> Result<ServerConfig, Unusable> {
        let chain = certificates(CERT, &files.cert, &self.cert)?;
        // What a key file has is said by nobody: its errors might quote it.
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| unusable(KEY, &files.key, "has no private key in PEM form; name the file of one"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let own = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InvalidCertificate(_) => unusable(
                CERT,
                &files.cert,
                format!("its first certificate cannot be used ({error}); name the file of a server's"),
            ),
            error => unusable(
                KEY,
                &files.key,
                format!(
                    "is not the key of the first certificate in {CERT} ({error}); name the key that it was made with"
                ),
            ),
        })?;
        let verifier = match (&files.client_ca, &self.client_ca) {
            (Some(file), Some(pem)) => {
                let wrong = |error: &dyn fmt::Display| {
                    unusable(
                        CLIENT_CA,
                        file,
                        format!("{error}; name a file with certificates of authorities"),
                    )
                };
                let mut roots = RootCertStore::empty();
                for root in certificates(CLIENT_CA, file, pem)? {
                    roots.add(root).map_err(|error| wrong(&error))?;
                }
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| wrong(&error))?
            }
            _ => Arc::new(NoClientAuth),
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(CERT, &files.cert, error.to_string()))?;
        let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(own));
        let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A session that is taken up again would bring back a certificate that nobody looks at any more.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

fn unusable(setting: &'static str, file: &Path, remedy: impl Into<String>) -> Unusable {
    Unusable { setting, file: file.to_owned(), remedy: remedy.into() }
}

fn content(setting: &'static str, file: &Path) -> Result<Vec<u8>, Unusable> {
    let mut content = Vec::new();
    let read = std::fs::File::open(file).and_then(|open| open.take(LONGEST + 1).read_to_end(&mut content));
    read.map_err(|error| unusable(setting, file, format!("{error}; name a file that this user can read")))?;
    if content.len() as u64 > LONGEST {
        return Err(unusable(setting, file, "longer than 1 MiB; name a file in PEM form"));
    }
    Ok(content)
}

fn certificates(
    setting: &'static str,
    file: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(unusable(setting, file, "has no certificate in PEM form; name the file of one")),
        Err(error) => {
            Err(unusable(setting, file, format!("{error}; name a file with certificates in PEM form")))
        }
    }
}

/// The certificate that a client has shown, and that an authority of ours has signed.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// Its subject's common name, or why there is none.
    name: Result<String, &'static str>,
    /// Unix time until which it is valid, in seconds.
    until: u64,
}

impl Certificate {
    /// The one that a client has shown in this handshake.
    pub(crate) fn shown(stream: &TlsStream<TcpStream>) -> Option<Arc<Self>> {
        let chain = stream.get_ref().1.peer_certificates()?;
        Some(Arc::new(Self::read(chain.first()?)))
    }

    fn read(der: &[u8]) -> Self {
        let Ok(certificate) = x509_cert::Certificate::from_der(der) else {
            return Self { name: Err("the certificate cannot be read"), until: 0 };
        };
        let certificate = certificate.tbs_certificate;
        let parts = certificate.subject.0.iter().flat_map(|parts| parts.0.iter());
        let mut names = parts.filter(|part| part.oid == COMMON_NAME);
        let name = match (names.next(), names.next()) {
            (Some(name), None) => match name.value.to_der().and_then(|der| DirectoryString::from_der(&der)) {
                Ok(DirectoryString::Utf8String(name)) => Ok(name),
                Ok(DirectoryString::PrintableString(name)) => Ok(name.to_string()),
                Ok(DirectoryString::TeletexString(name)) => Ok(name.to_string()),
                Err(_) => Err("the certificate's common name is no text; make one where it is UTF-8"),
            },
            (None, _) => Err(
                "the certificate has no common name; make one whose common name is an administrator's user name",
            ),
            (Some(_), Some(_)) => Err("the certificate has several common names; make one that has one"),
        };
        Self { name, until: certificate.validity.not_after.to_unix_duration().as_secs() }
    }

    /// The common name, as long as the certificate is valid; otherwise what is wrong. A connection outlives it.
    pub(crate) fn name(&self) -> Result<&str, String> {
        let name = self.name.as_deref().map_err(|error| (*error).to_owned())?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if now > self.until {
            return Err(format!("the certificate of {} has expired; show a newer one", quoted(name)));
        }
        Ok(name)
    }
}

/// A common name as messages show it.
pub(crate) fn quoted(name: &str) -> String {
    let short: String = name.chars().take(LONGEST_NAME).collect();
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::{Limits, serve};
    use axum::Router;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};
    use rustls::ClientConfig;
    use rustls::pki_types::ServerName;
    use std::net::SocketAddr;
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;
    use tokio_rustls::TlsConnector;

    /// A certificate of a server that is its own authority, and its key.
    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn files(folder: &Path) -> Files {
        let client_ca = Some(folder.join("ca.pem"));
        Files { cert: folder.join("cert.pem"), key: folder.join("key.pem"), client_ca }
    }

    fn write(folder: &Path, (cert, key): &(String, String)) {
        std::fs::write(folder.join("cert.pem"), cert).unwrap();
        std::fs::write(folder.join("key.pem"), key).unwrap();
        std::fs::write(folder.join("ca.pem"), cert).unwrap();
    }

    async fn listen(tls: &Arc<Tls>, limits: Limits) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(async || "served");
        (address, tokio::spawn(serve(listener, router, limits, Some(Arc::clone(tls)))))
    }

    /// Whether the server has this certificate.
    async fn shows(address: SocketAddr, (cert, _): &(String, String)) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()).unwrap();
        let config =
            ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.is_ok()
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_its_setting_and_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (own, other) = (pair(), pair());
        let refused = |name: &str, text: &str, setting: &str, part: &str| {
            write(folder, &own);
            std::fs::write(folder.join(name), text).unwrap();
            let said = Tls::read(files(folder)).unwrap_err().to_string();
            let begin = format!("{setting} = {}: ", folder.join(name).display());
            assert!(said.starts_with(&begin) && said.contains(part) && said.contains("name "), "{said}");
            assert!(!said.contains(own.1.lines().nth(1).unwrap()), "{said}");
        };
        refused("cert.pem", "", CERT, "no certificate");
        refused("cert.pem", &own.1, CERT, "no certificate");
        refused("cert.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", CERT, "first");
        refused("cert.pem", "-----BEGIN CERTIFICATE-----\nAAAA", CERT, "PEM form");
        refused("cert.pem", &" ".repeat(1 << 21), CERT, "longer than 1 MiB");
        refused("key.pem", &own.0, KEY, "no private key");
        refused("key.pem", &other.1, KEY, "is not the key of the first certificate in api.cert_file");
        refused("ca.pem", "nothing", CLIENT_CA, "no certificate");
        refused(
            "ca.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            CLIENT_CA,
            "authorities",
        );
        write(folder, &own);
        assert!(Tls::read(files(folder)).is_ok());
        std::fs::remove_file(folder.join("key.pem")).unwrap();
        let said = Tls::read(files(folder)).unwrap_err().to_string();
        assert!(said.starts_with("api.key_file = ") && said.contains("that this user can read"), "{said}");
    }

    #[tokio::test]
    async fn new_files_are_taken_over_and_broken_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (old, new) = (pair(), pair());
        write(folder, &old);
        let tls = Arc::new(Tls::read(files(folder)).unwrap());
        let (address, server) = listen(&tls, Limits::default()).await;
        assert!(shows(address, &old).await && !shows(address, &new).await);
        let complaint = || tls.looked.lock().complaint.clone();
        // The listener itself looks, too.
        let look = || tls.look(&mut tls.looked.lock());
        for broken in [&new.0[..], "", &new.1] {
            std::fs::write(folder.join("key.pem"), broken).unwrap();
            look();
            if broken == new.1 {
                assert!(complaint().unwrap().starts_with("api.key_file = "), "half of what is new");
            }
            assert!(complaint().unwrap().contains("key.pem"));
            assert!(shows(address, &old).await && !shows(address, &new).await);
        }
        write(folder, &new);
        look();
        assert_eq!(complaint(), None);
        assert!(shows(address, &new).await && !shows(address, &old).await);
        server.abort();
    }

    #[tokio::test]
    async fn plain_http_is_told_and_silence_ends_within_the_time_of_any_connection() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &pair());
        let tls = Arc::new(Tls::read(files(folder.path())).unwrap());
        let idle = Duration::from_millis(50);
        let (address, server) = listen(&tls, Limits { idle, ..Limits::default() }).await;
        let answer = async |sent: &[u8]| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent).await.unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        };
        for plain in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let said = answer(plain).await;
            assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("https://"), "{said}");
        }
        // Nothing, half a record, a record that is none.
        for silent in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"\x16\xff\xff\xff\xff\xff", b"\0\0"] {
            assert!(!answer(silent).await.contains("HTTP"));
        }
        server.abort();
    }

    #[tokio::test]
    async fn handshakes_under_way_take_the_share_of_their_address() {
        let folder = tempfile::tempdir().unwrap();
        let own = pair();
        write(folder.path(), &own);
        let tls = Arc::new(Tls::read(files(folder.path())).unwrap());
        let (address, server) = listen(&tls, Limits { per_address: 1, ..Limits::default() }).await;
        let silent = TcpStream::connect(address).await.unwrap();
        assert!(!shows(address, &own).await);
        drop(silent);
        while !shows(address, &own).await {}
        server.abort();
    }

    #[test]
    fn the_common_name_is_read_as_it_was_written() {
        let read = |names: &[DnValue], until: i32| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, "not this");
            names.iter().for_each(|name| params.distinguished_name.push(DnType::CommonName, name.clone()));
            Certificate::read(params.self_signed(&key).unwrap().der())
        };
        assert_eq!(read(&[DnValue::Utf8String("Zoë".to_owned())], 2999).name(), Ok("Zoë"));
        let printable = DnValue::PrintableString("ops".try_into().unwrap());
        assert_eq!(read(&[printable], 2999).name(), Ok("ops"));
        assert!(read(&[], 2999).name().unwrap_err().contains("no common name"));
        let wide = DnValue::BmpString("ops".try_into().unwrap());
        assert!(read(&[wide], 2999).name().unwrap_err().contains("no text"));
        let old = read(&[DnValue::Utf8String("ops\n".to_owned())], 2001).name().unwrap_err();
        assert_eq!(old, "the certificate of \"ops\\n\" has expired; show a newer one");
        assert!(Certificate::read(b"0\x03").name().is_err());
        // One who has two names may be either.
        let der = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut two = x509_cert::Certificate::from_der(der.der()).unwrap();
        two.tbs_certificate.subject = "CN=ops,CN=admin".parse().unwrap();
        let two = Certificate::read(&two.to_der().unwrap());
        assert!(two.name().unwrap_err().contains("several common names"));
    }
}
