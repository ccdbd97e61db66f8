//! Where a PostgreSQL server is, how it is trusted, and how that is shown to people: never with the password.
//!
//! In: an address, a password from elsewhere, certificates. Out: what `link` connects with. Elsewhere: connecting (`link`).

use crate::config::error::ConfigError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::sync::Arc;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A schema in a PostgreSQL database.
#[derive(Clone)]
pub struct PostgresPlace {
    connection: String,
    password: Option<String>,
    authorities: Option<Vec<u8>>,
    /// The schema that the store's tables are in; it is made when it is absent.
    pub(in crate::config) schema: String,
}

impl fmt::Debug for PostgresPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresPlace").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// How the line to the server is protected.
pub(super) enum Protection {
    /// Not at all.
    Plain,
    /// By TLS, and the server's certificate is checked.
    Tls(MakeRustlsConnect),
}

impl PostgresPlace {
    /// A place by `host=… port=… user=… dbname=…`, or a `postgresql://` address, and the name of a schema.
    pub fn new(connection: impl Into<String>, schema: impl Into<String>) -> Self {
        Self { connection: connection.into(), password: None, authorities: None, schema: schema.into() }
    }

    /// With this password, in place of one that the address has.
    #[must_use]
    pub fn with_password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// By TLS alone, with a server whose certificate one of these authorities signed (PEM).
    #[must_use]
    pub fn trusting(mut self, authorities: impl Into<Vec<u8>>) -> Self {
        self.authorities = Some(authorities.into());
        self
    }

    /// Whether the address has a password in it.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn names_a_password(&self) -> Result<bool, ConfigError> {
        Ok(self.read()?.get_password().is_some())
    }

    /// Whether somebody on the way could read along: there is no TLS, and a network between.
    ///
    /// # Errors
    ///
    /// As [`PostgresPlace::check`].
    pub fn is_open_to_a_network(&self) -> Result<bool, ConfigError> {
        let (config, protection) = self.ways()?;
        let is_far = |host: &Host| match host {
            Host::Tcp(name) => {
                let ip = name.parse::<std::net::IpAddr>();
                name != "localhost" && !ip.is_ok_and(|ip| ip.is_loopback())
            }
            Host::Unix(_) => false,
        };
        let far = config.get_hosts().iter().any(is_far)
            || config.get_hostaddrs().iter().any(|address| !address.is_loopback());
        Ok(far && matches!(protection, Protection::Plain))
    }

    /// Whether all of it can be used, without asking the server.
    ///
    /// # Errors
    ///
    /// [`ConfigError::BadPlace`]: it cannot, in words without the address.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.ways().map(drop)
    }

    /// The address for people: user, hosts, ports and database.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn shown(&self) -> Result<String, ConfigError> {
        let config = self.read()?;
        let name = |host: &Host| match host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]"),
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        let ports = config.get_ports();
        let at = |(place, host): (usize, &Host)| match ports.get(place).or(ports.first()) {
            Some(port) => format!("{}:{port}", name(host)),
            None => name(host),
        };
        let hosts: Vec<String> = config.get_hosts().iter().enumerate().map(at).collect();
        let user = config.get_user().map(|user| format!("{user}@")).unwrap_or_default();
        Ok(format!("postgresql://{user}{}/{}", hosts.join(","), config.get_dbname().unwrap_or_default()))
    }

    /// What the address says may be a password, so no error repeats it.
    fn read(&self) -> Result<Config, ConfigError> {
        let unreadable = "the PostgreSQL connection cannot be read; write postgresql://USER@HOST:PORT/DATABASE, with ?sslmode=require \
                          for TLS, or host=… port=… user=… dbname=…";
        let config: Config =
            self.connection.parse().map_err(|_| ConfigError::BadPlace(unreadable.to_owned()))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(ConfigError::BadPlace(
                "the PostgreSQL connection names no host; write postgresql://USER@HOST/DATABASE".to_owned(),
            ));
        }
        Ok(config)
    }

    pub(super) fn ways(&self) -> Result<(Config, Protection), ConfigError> {
        let schema = &self.schema;
        let right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins = schema.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if !begins || schema.len() > 40 || !schema.bytes().all(right) || schema.starts_with("pg_") {
            let why = "the name of a PostgreSQL schema has 1 to 40 small letters, digits and underscores, a letter first";
            return Err(ConfigError::BadPlace(format!("{schema:?}: {why}")));
        }
        let mut config = self.read()?;
        if let Some(password) = &self.password {
            config.password(password);
        }
        let bad = |why: &str| Err(ConfigError::BadPlace(why.to_owned()));
        let protection = match (config.get_ssl_mode(), &self.authorities) {
            (SslMode::Disable | SslMode::Prefer, None) => {
                config.ssl_mode(SslMode::Disable);
                Protection::Plain
            }
            (SslMode::Disable, Some(_)) => {
                return bad(
                    "sslmode=disable contradicts the certificates that are to be trusted; leave out one of them",
                );
            }
            (SslMode::Prefer | SslMode::Require, Some(pem)) => {
                config.ssl_mode(SslMode::Require);
                Protection::Tls(trust(pem)?)
            }
            (_, None) => {
                return bad(
                    "sslmode=require needs the certificate of the authority that signed the server's: without it anybody could be \
                     the server; name a file with it",
                );
            }
            (_, Some(_)) => return bad("this sslmode is not known; write sslmode=require"),
        };
        Ok((config, protection))
    }
}

fn trust(pem: &[u8]) -> Result<MakeRustlsConnect, ConfigError> {
    let bad = |why: &dyn fmt::Display| {
        ConfigError::BadPlace(format!(
            "the certificates of trusted authorities cannot be used: {why}; write them in PEM, with -----BEGIN CERTIFICATE-----"
        ))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| bad(&error))?;
        roots.add(certificate).map_err(|error| bad(&error))?;
    }
    if roots.is_empty() {
        return Err(bad(&"there is none"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(connection: &str) -> PostgresPlace {
        PostgresPlace::new(connection, "store")
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        let shown = |connection: &str| place(connection).shown().unwrap();
        assert_eq!(
            shown("postgresql://me:hush@db.example.com/carillon"),
            "postgresql://me@db.example.com:5432/carillon"
        );
        assert_eq!(
            shown("host=a,::1 port=1,2 user=me password=hush dbname=d"),
            "postgresql://me@a:1,[::1]:2/d"
        );
        let debugged = format!("{:?}", place("postgresql://me:hush@a/b").with_password("quiet"));
        assert!(!debugged.contains("hush") && !debugged.contains("quiet"), "{debugged}");
        assert!(place("postgresql://me:hush@a/b").names_a_password().unwrap());
        assert!(!place("postgresql://me@a/b").names_a_password().unwrap());
    }

    #[test]
    fn tls_is_what_was_asked_for_or_an_error() {
        let fault = |place: PostgresPlace| place.check().unwrap_err().to_string();
        let text = fault(place("postgresql://me@a/b?sslmode=require"));
        assert!(text.contains("sslmode=require") && text.contains("name a file"), "{text}");
        let text = fault(place("postgresql://me@a/b").trusting("no certificate"));
        assert!(text.contains("there is none") && text.contains("BEGIN CERTIFICATE"), "{text}");
        assert!(fault(place("postgresql://me@a/b?sslmode=disable").trusting("x")).contains("contradicts"));
        assert!(fault(place("postgresql:///b")).contains("names no host"));
        assert!(place("postgresql://me@a/b").is_open_to_a_network().unwrap());
        for near in
            ["postgresql://me@127.0.0.1/b", "postgresql://me@localhost/b", "host=/run/postgresql user=me"]
        {
            assert!(!place(near).is_open_to_a_network().unwrap(), "{near}");
        }
    }
}
