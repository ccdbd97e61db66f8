//! The way of `carillon ctl` to a node's gRPC: the control socket of a data directory, or a listener and a login.
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
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Most octets of an answer.
const LARGEST: usize = 64 << 20;
/// How long a listener may take to be there.
const CONNECT: Duration = Duration::from_secs(10);
/// Where a password is looked for that no file is named for.
const PASSWORD: &str = "CARILLON_PASSWORD";
/// Most octets of a file with a token or a password.
const LONGEST_SECRET: u64 = 16 << 10;

/// Another node than that of a data directory.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Reach {
    /// Ask the API of a node, http://HOST:PORT, instead of the socket in --data.
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    server: Option<String>,
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
            let channel = remote(server).await?;
            let token = reach.token(&channel).await?;
            let value = format!("Bearer {token}").parse();
            let value = value.map_err(|_| StartError("a token is one line of letters and digits".to_owned()))?;
            Ok((channel, Bearer(Some(value))))
        }
        (None, Some(data)) => Ok((local(data).await?, Bearer(None))),
        (None, None) => Err(StartError(
            "name the node: --data DIR, the directory that it has as `data` in [node], or --server http://HOST:PORT"
                .to_owned(),
        )),
    }
}

/// What the node answered instead.
pub(crate) fn refused(status: &Status) -> StartError {
    let text = match (status.message(), std::error::Error::source(status)) {
        ("", Some(cause)) => cause.to_string(),
        ("", None) => status.code().description().to_owned(),
        (message, _) => message.to_owned(),
    };
    StartError(text)
}

async fn remote(server: &str) -> Result<Channel, StartError> {
    let wrong = |error: &dyn std::fmt::Display| StartError(format!("--server {server}: {error}"));
    if !server.starts_with("http://") {
        return Err(wrong(
            &"write http://HOST:PORT, and let a tunnel or a proxy of your own encrypt the way",
        ));
    }
    let endpoint = Endpoint::from_shared(server.to_owned()).map_err(|error| wrong(&error))?;
    endpoint.connect_timeout(CONNECT).connect().await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        wrong(&format!("{error}{cause}; name where the node has `listen` in [api]"))
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
    async fn token(&self, channel: &Channel) -> Result<String, StartError> {
        let Some(name) = &self.user else {
            let file = self.token_file.as_ref().ok_or_else(|| {
                StartError("--server: say who you are, by --token-file FILE or --user NAME".to_owned())
            })?;
            return secret(file);
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
        Ok(answer.into_inner().token)
    }
}

/// A line of a file that is nobody else's business.
fn secret(file: &Path) -> Result<String, StartError> {
    let mut text = String::new();
    let read = std::fs::File::open(file)
        .and_then(|open| io::Read::read_to_string(&mut io::Read::take(open, LONGEST_SECRET), &mut text));
    read.map_err(|error| StartError(format!("{}: {error}; name a file with one line", file.display())))?;
    Ok(text.trim().to_owned())
}
