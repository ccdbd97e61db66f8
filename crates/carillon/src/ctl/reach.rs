//! The way of `carillon ctl` to a node's gRPC: the control socket of a data directory, or a listener and a login or a certificate.
//!
//! Out: a client. Elsewhere: the node's side (`control`; crate `api`, room `grpc`).

use crate::control::{SOCKET, by_short_path};
use crate::node::StartError;
use hyper_util::rt::TokioIo;
use proto::v1;
use proto::v1::access_client::AccessClient;
use proto::v1::configuration_client::ConfigurationClient;
use proto::v1::operation_client::OperationClient;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

/// Most octets of an answer.
const LARGEST: usize = 64 << 20;
/// How long a listener may take to be there.
const CONNECT: Duration = Duration::from_secs(10);
/// Where a password is looked for that no file is named for.
const PASSWORD: &str = "CARILLON_PASSWORD";
/// Most octets of a file with a token or a password.
const LONGEST_SECRET: u64 = 16 << 10;
/// Most octets of a file with certificates or a key.
const LONGEST_PEM: u64 = 1 << 20;

/// Another node than that of a data directory.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Reach {
    /// Ask the API of a node, https://HOST:PORT or http://HOST:PORT, instead of the socket in --data.
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    server: Option<String>,
    /// With --server https://…: a file with certificates of the authorities that may have signed the node's.
    #[arg(long, alias = "ca", value_name = "FILE", requires = "server")]
    ca_file: Option<PathBuf>,
    /// With --server https://…: a file with a certificate that has an administrator's user name as common name, instead of a token.
    #[arg(long, alias = "cert", value_name = "FILE", requires_all = ["server", "key_file"])]
    cert_file: Option<PathBuf>,
    /// With --cert-file: a file with its key.
    #[arg(long, alias = "key", value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// With --server: a file with an access token.
    #[arg(long, value_name = "FILE", requires = "server", conflicts_with = "user")]
    token_file: Option<PathBuf>,
    /// With --server: log in by this name.
    #[arg(long, value_name = "NAME", requires = "server")]
    user: Option<String>,
    /// With --user: as an administrator of the platform, of a brand, of a client, or as a user.
    #[arg(long, value_name = "LEVEL", requires = "user", default_value = "platform",
          value_parser = ["platform", "brand", "client", "user"])]
    level: String,
    /// With --user: a file with the password; otherwise it is in the environment variable CARILLON_PASSWORD.
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
}

/// Says who is calling.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// Who asks the node for its configuration.
pub(crate) type Client = ConfigurationClient<InterceptedService<Channel, Bearer>>;

/// Connects to the node, for its configuration.
pub(crate) async fn client(data: Option<&Path>, reach: &Reach) -> Result<Client, StartError> {
    let (channel, bearer) = connect(data, reach).await?;
    Ok(ConfigurationClient::with_interceptor(channel, bearer).max_decoding_message_size(LARGEST))
}

/// Connects to the node, for what happens on it.
pub(crate) async fn operation(
    data: Option<&Path>,
    reach: &Reach,
) -> Result<OperationClient<InterceptedService<Channel, Bearer>>, StartError> {
    let (channel, bearer) = connect(data, reach).await?;
    Ok(OperationClient::with_interceptor(channel, bearer).max_decoding_message_size(LARGEST))
}

async fn connect(data: Option<&Path>, reach: &Reach) -> Result<(Channel, Bearer), StartError> {
    match (&reach.server, data) {
        (Some(server), _) => {
            let channel = reach.remote(server).await?;
            let Some(token) = reach.token(&channel).await? else { return Ok((channel, Bearer(None))) };
            let value = format!("Bearer {token}").parse();
            let value = value.map_err(|_| StartError("a token is one line of letters and digits".to_owned()))?;
            Ok((channel, Bearer(Some(value))))
        }
        (None, Some(data)) => Ok((local(data).await?, Bearer(None))),
        (None, None) => Err(StartError(
            "name the node: --data DIR, the directory that it has as `data` in [node], or --server https://HOST:PORT"
                .to_owned(),
        )),
    }
}

/// What the node answered instead.
pub(crate) fn refused(status: &Status) -> StartError {
    if let Some(text) = std::error::Error::source(status).and_then(about_tls) {
        return StartError(text);
    }
    let text = match (status.message(), std::error::Error::source(status)) {
        ("", Some(cause)) => cause.to_string(),
        ("", None) => status.code().description().to_owned(),
        (message, _) => message.to_owned(),
    };
    StartError(text)
}

/// What is wrong with TLS, if an error is about that, and what to do. Errors of connections keep no more than each other's words.
fn about_tls(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let words: String = std::iter::successors(Some(error), |error| error.source())
        .map(|error| format!("{error}\n"))
        .collect();
    let after = |mark: &str| words.split_once(mark).map(|(_, rest)| rest.lines().next().unwrap_or_default());
    if let Some(alert) = after("received fatal alert: ") {
        return Some(if alert.starts_with("CertificateExpired") {
            "the node refuses the certificate in --cert-file: it has expired; make a new one".to_owned()
        } else {
            format!(
                "the node refuses the certificate in --cert-file ({alert}); show one that an authority in the node's `client_ca_file` of \
                 [api] has signed for a client"
            )
        });
    }
    if let Some(why) = after("invalid peer certificate: ") {
        let remedy = if why.starts_with("certificate not valid for name") {
            "write in --server the name that it is for"
        } else if why.starts_with("certificate expired") {
            "give the node a new one, `cert_file` in [api]"
        } else {
            "name the authority that has signed it as --ca-file"
        };
        return Some(format!("the node's certificate is not believed ({why}); {remedy}"));
    }
    if words.contains("InvalidContentType") {
        return Some("the node does not speak TLS there; write http:// in --server".to_owned());
    }
    // The first letters of an answer of HTTP/1.1, as a frame of HTTP/2.
    let is_answer = words.contains("frame with invalid size");
    is_answer.then(|| {
        "no gRPC is spoken there; where the node has `cert_file` in [api], write https:// in --server"
            .to_owned()
    })
}

async fn local(data: &Path) -> Result<Channel, StartError> {
    let stream = by_short_path(data, SOCKET, |short| UnixStream::connect(short))
        .map_err(|error| unreachable(data, &error))?;
    stream.set_nonblocking(true)?;
    let mut stream = Some(tokio::net::UnixStream::from_std(stream)?);
    let connector = tower::service_fn(move |_| {
        let taken = stream.take().ok_or_else(|| io::Error::from(ErrorKind::NotConnected));
        std::future::ready(taken.map(TokioIo::new))
    });
    // The name is for the protocol's sake.
    Ok(Endpoint::from_static("http://localhost").connect_with_connector(connector).await?)
}

/// Why the socket of a data directory is not reached.
pub(crate) fn unreachable(data: &Path, error: &io::Error) -> StartError {
    let shown = data.display();
    StartError(match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => format!(
            "no node runs on {shown}; start one, or name the directory that a node has as `data` in [node]"
        ),
        ErrorKind::PermissionDenied => {
            format!("{shown}: {error}; run this as the user that the node runs as")
        }
        _ => format!("{shown}: the node cannot be reached: {error}"),
    })
}

impl Reach {
    async fn remote(&self, server: &str) -> Result<Channel, StartError> {
        let wrong = |error: &dyn std::fmt::Display| StartError(format!("--server {server}: {error}"));
        let is_tls = server.starts_with("https://");
        if !is_tls && !server.starts_with("http://") {
            return Err(wrong(&"write https://HOST:PORT, or http://HOST:PORT where the node speaks no TLS"));
        }
        if !is_tls && (self.ca_file.is_some() || self.cert_file.is_some()) {
            return Err(wrong(
                &"--ca-file and --cert-file are for TLS; write https://HOST:PORT, or leave them out",
            ));
        }
        let mut endpoint = Endpoint::from_shared(server.to_owned()).map_err(|error| wrong(&error))?;
        if is_tls {
            endpoint = endpoint.tls_config(self.tls(server)?).map_err(|error| {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                wrong(&format!(
                    "{error}{}; --ca-file, --cert-file and --key-file name files in PEM form",
                    cause.unwrap_or_default()
                ))
            })?;
        }
        endpoint.connect_timeout(CONNECT).connect().await.map_err(|error| {
            if let Some(text) = about_tls(&error) {
                return wrong(&text);
            }
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            wrong(&format!("{error}{cause}; name where the node has `listen` in [api]"))
        })
    }

    /// Whom the way to the node trusts, and what it shows.
    fn tls(&self, server: &str) -> Result<ClientTlsConfig, StartError> {
        let Some(ca) = &self.ca_file else {
            return Err(StartError(format!(
                "--server {server}: name a file with the certificate of the authority that has signed the node's, by --ca-file FILE"
            )));
        };
        let text = pem("--ca-file", ca, "-----BEGIN CERTIFICATE-----", "certificate")?;
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(text));
        if let (Some(cert), Some(key)) = (&self.cert_file, &self.key_file) {
            let cert = pem("--cert-file", cert, "-----BEGIN CERTIFICATE-----", "certificate")?;
            tls = tls.identity(Identity::from_pem(cert, pem("--key-file", key, "PRIVATE KEY-----", "key")?));
        }
        Ok(tls)
    }

    /// A token to show; none: the certificate says who it is.
    async fn token(&self, channel: &Channel) -> Result<Option<String>, StartError> {
        let Some(name) = &self.user else {
            return match &self.token_file {
                Some(file) => secret(file).map(Some),
                None if self.cert_file.is_some() => Ok(None),
                None => Err(StartError(
                    "--server: say who you are, by --token-file FILE, --user NAME, or --cert-file FILE and --key-file FILE"
                        .to_owned(),
                )),
            };
        };
        let password = match &self.password_file {
            Some(file) => secret(file)?,
            None => std::env::var(PASSWORD).map_err(|_| {
                StartError(format!("--user {name}: name a --password-file, or set {PASSWORD}"))
            })?,
        };
        let request = v1::LogInRequest { level: self.level.clone(), name: name.clone(), password };
        let answer = AccessClient::new(channel.clone()).log_in(request).await;
        let answer = answer.map_err(|status| {
            let StartError(why) = refused(&status);
            StartError(format!("--user {name}: {why}"))
        })?;
        Ok(Some(answer.into_inner().token))
    }
}

/// What a file has that must have something in PEM form.
fn pem(option: &str, file: &Path, mark: &str, what: &str) -> Result<String, StartError> {
    let wrong = |why: &dyn std::fmt::Display| {
        StartError(format!("{option} {}: {why}; name a file with a {what} in PEM form", file.display()))
    };
    let text = read(file, LONGEST_PEM).map_err(|error| wrong(&error))?;
    if text.contains(mark) { Ok(text) } else { Err(wrong(&format!("no {what} is in it"))) }
}

fn read(file: &Path, longest: u64) -> io::Result<String> {
    let mut text = String::new();
    let open = std::fs::File::open(file)?;
    io::Read::read_to_string(&mut io::Read::take(open, longest), &mut text)?;
    Ok(text)
}

/// A line of a file that is nobody else's business.
fn secret(file: &Path) -> Result<String, StartError> {
    let text = read(file, LONGEST_SECRET);
    let text =
        text.map_err(|error| StartError(format!("{}: {error}; name a file with one line", file.display())))?;
    Ok(text.trim().to_owned())
}
