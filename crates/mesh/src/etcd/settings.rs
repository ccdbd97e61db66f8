//! How etcd is reached, as the configuration says it: checked before anything is asked.
//!
//! Files of certificates are read here, so that a mistake is told by the name of its setting.

use super::JoinError;
use super::wire::Connector;
use cluster::ids::NodeId;
use cluster::member::MemberSettings;
use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A connection must stand within this time.
const CONNECT: Duration = Duration::from_secs(3);
/// HTTP/2 asks whether the other end is there; etcd takes more frequent questions as an attack.
const ASK: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3));
/// Larger files are no certificates.
const PEM_MAX: u64 = 1 << 20;
/// Leases, in seconds. A leader of etcd that is cut off from the others may keep a lease alive for two seconds, the next one begins to
/// count after one second at the earliest; a lease is believed in for four fifths of its time. Shorter ones would not be safe.
const LEASES: RangeInclusive<u32> = 5..=600;
/// Endpoints at most.
const ENDPOINTS_MAX: usize = 32;

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// From its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Where etcd is, and what the node asks of it.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// `cluster.etcd`: `http://host:port` or `https://host:port`.
    pub endpoints: Vec<String>,
    /// `cluster.etcd_user` with its password.
    pub user: Option<(String, Password)>,
    /// `cluster.etcd_ca_file`: who signs etcd's certificates.
    pub ca_file: Option<PathBuf>,
    /// `cluster.etcd_cert_file` and `cluster.etcd_key_file`: who the node is for etcd.
    pub cert_files: Option<(PathBuf, PathBuf)>,
    /// `cluster.prefix`.
    pub prefix: String,
    /// `cluster.lease_seconds`: others notice within this time that the node is gone.
    pub lease_seconds: u32,
    /// `node.id`; `None`: a free number.
    pub node: Option<NodeId>,
    /// The cluster that the node's database belongs to.
    pub cluster: u128,
    /// The largest fence that the database has seen.
    pub fences_from: u64,
    /// How long the node tries to join when it starts.
    pub patience: Duration,
}

impl EtcdSettings {
    pub(super) fn member(&self) -> MemberSettings {
        MemberSettings {
            prefix: self.prefix.clone(),
            lease_seconds: self.lease_seconds,
            id: self.node,
            cluster: self.cluster,
            fences_from: self.fences_from,
        }
    }

    /// Checks everything that can be checked without etcd.
    pub(super) fn connector(&self) -> Result<Connector, JoinError> {
        let wrong = |setting, value: &str, remedy: &str| {
            Err(JoinError::Setting { setting, value: value.to_owned(), remedy: remedy.to_owned() })
        };
        if self.endpoints.is_empty() || self.endpoints.len() > ENDPOINTS_MAX {
            return wrong("cluster.etcd", "", "name one to 32 addresses, such as \"http://10.0.0.5:2379\"");
        }
        let is_tls = |endpoint: &&String| endpoint.starts_with("https://");
        for endpoint in &self.endpoints {
            let rest = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
            if !rest.is_some_and(|rest| !rest.is_empty() && rest.len() < 300 && !rest.contains(['@', '/'])) {
                return wrong(
                    "cluster.etcd",
                    endpoint,
                    "is no address of etcd; write http://host:port, or https://host:port for TLS",
                );
            }
        }
        let tls = self.endpoints.iter().filter(is_tls).count();
        if tls != 0 && tls != self.endpoints.len() {
            return wrong(
                "cluster.etcd",
                &self.endpoints.join(","),
                "use TLS (https) with all of them or with none",
            );
        }
        if tls == 0 && (self.ca_file.is_some() || self.cert_files.is_some()) {
            return wrong(
                "cluster.etcd",
                &self.endpoints.join(","),
                "etcd_ca_file, etcd_cert_file and etcd_key_file are for TLS; write https://, or leave them out",
            );
        }
        if !self.prefix.starts_with('/')
            || self.prefix.len() > 100
            || !self.prefix.bytes().all(|b| b.is_ascii_graphic())
        {
            return wrong(
                "cluster.prefix",
                &self.prefix,
                "begins with a slash and has at most 100 plain letters",
            );
        }
        if !LEASES.contains(&self.lease_seconds) {
            return wrong(
                "cluster.lease_seconds",
                &self.lease_seconds.to_string(),
                "must be 5 to 600 seconds",
            );
        }
        if self.node == Some(NodeId(0)) {
            return wrong("node.id", "0", "must be 1 to 65535, or \"auto\"");
        }
        let options = ConnectOptions::new()
            .with_connect_timeout(CONNECT)
            .with_timeout(self.request_time())
            .with_keep_alive(ASK.0, ASK.1)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        let options = match self.tls(tls > 0)? {
            Some(tls) => options.with_tls(tls),
            None => options,
        };
        let options = match &self.user {
            Some((name, password)) => options.with_user(name.clone(), password.0.clone()),
            None => options,
        };
        Ok(Connector::new(self.endpoints.clone(), options, self.request_time()))
    }

    /// A keep-alive is tried three times before its lease is in doubt.
    fn request_time(&self) -> Duration {
        (Duration::from_secs(u64::from(self.lease_seconds)) / 5)
            .clamp(Duration::from_millis(400), Duration::from_secs(3))
    }

    fn tls(&self, is_tls: bool) -> Result<Option<TlsOptions>, JoinError> {
        if !is_tls {
            return Ok(None);
        }
        let mut tls = TlsOptions::new();
        match &self.ca_file {
            Some(file) => {
                let pem = pem("cluster.etcd_ca_file", file, "CERTIFICATE")?;
                tls = tls.ca_certificate(Certificate::from_pem(pem));
            }
            None => {
                return Err(JoinError::Setting {
                    setting: "cluster.etcd_ca_file",
                    value: String::new(),
                    remedy: "name the file of the authority that signs etcd's certificates".to_owned(),
                });
            }
        }
        if let Some((certificate, key)) = &self.cert_files {
            let certificate = pem("cluster.etcd_cert_file", certificate, "CERTIFICATE")?;
            let key = pem("cluster.etcd_key_file", key, "PRIVATE KEY")?;
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        Ok(Some(tls))
    }
}

/// Reads a file that must hold something of this sort.
fn pem(setting: &'static str, file: &Path, sort: &str) -> Result<Vec<u8>, JoinError> {
    let wrong = |remedy: String| JoinError::Setting { setting, value: file.display().to_string(), remedy };
    let size = std::fs::metadata(file).map_err(|error| wrong(format!("cannot be read: {error}")))?.len();
    if size > PEM_MAX {
        return Err(wrong("is too large for a file of certificates or keys".to_owned()));
    }
    let bytes = std::fs::read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let text = String::from_utf8_lossy(&bytes);
    if !text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(sort)) {
        return Err(wrong(format!("holds no {sort} in PEM (-----BEGIN …)")));
    }
    Ok(bytes)
}
