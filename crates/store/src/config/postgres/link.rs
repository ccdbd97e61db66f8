//! A connection to PostgreSQL that comes back after a loss, and what its errors mean.
//!
//! In: where the server is. Out: sessions for one transaction at a time. Elsewhere: what is said on them (`mod`, `schema`).

use super::place::{PostgresPlace, Protection};
use crate::config::error::ConfigError;
use std::future::poll_fn;
use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};

/// What the other side has not acknowledged for so long is lost.
const SILENCE: Duration = Duration::from_secs(15);
/// Connecting that takes longer is given up.
const CONNECT: Duration = Duration::from_secs(5);
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LAST: Duration = Duration::from_secs(1);

/// Where the server is, and what every session begins with.
pub(super) struct Server {
    config: Config,
    protection: Protection,
    pub(super) schema: String,
    /// For people, without the password.
    pub(super) name: String,
    /// How long a failure is waited out before the caller hears of it.
    patience: Duration,
    /// Nobody was there for longer than that: callers hear of it at once.
    is_lost: AtomicBool,
    /// An attempt at a commit that takes longer is given up.
    pub(super) attempt: Duration,
}

/// One attempt, while nobody is there.
const LOST_ATTEMPT: Duration = Duration::from_secs(1);

impl Server {
    pub(super) fn new(
        place: &PostgresPlace,
        patience: Duration,
        attempt: Duration,
    ) -> Result<Self, ConfigError> {
        let (mut config, protection) = place.ways()?;
        config.connect_timeout(CONNECT).tcp_user_timeout(SILENCE).application_name("carillon");
        config
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(3))
            .keepalives_retries(3);
        let database = config.get_dbname().or(config.get_user()).unwrap_or_default().to_owned();
        let schema = place.schema.clone();
        let name = format!("PostgreSQL database {database}, schema {schema}");
        let is_lost = AtomicBool::new(false);
        Ok(Self { config, protection, schema, name, patience, is_lost, attempt })
    }

    /// Attempts at one thing.
    pub(super) fn attempts(&self) -> Attempts {
        let is_lost = self.is_lost.load(Ordering::Relaxed);
        Attempts::new(if is_lost { Duration::ZERO } else { self.patience })
    }

    /// How long one attempt may take: those that queue behind each other shall not wait for all before them while nobody is there.
    pub(super) fn bound(&self) -> Duration {
        let is_lost = self.is_lost.load(Ordering::Relaxed);
        if is_lost { LOST_ATTEMPT.min(self.attempt) } else { self.attempt }
    }

    /// Notes since when nobody is there, and whether somebody is.
    pub(super) fn note_absence(&self, since: Option<Instant>) {
        let is_lost = since.is_some_and(|since| since.elapsed() > self.patience);
        if self.is_lost.swap(is_lost, Ordering::Relaxed) != is_lost {
            if is_lost {
                tracing::warn!(
                    server = self.name,
                    "the database cannot be reached; changes are refused until it is back"
                );
            } else {
                tracing::info!(server = self.name, "the database is back");
            }
        }
    }

    /// Whether somebody was there lately.
    pub(super) fn is_reachable(&self) -> bool {
        !self.is_lost.load(Ordering::Relaxed)
    }

    /// The channel on which commits are announced.
    pub(super) fn channel(&self) -> String {
        format!("carillon_{}", self.schema)
    }

    /// The lock by which nodes take turns, of this schema: a number that nobody else on the database has by accident.
    pub(super) fn turn_lock(&self) -> i64 {
        // FNV-1a.
        let eat = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        self.channel().bytes().fold(0xcbf2_9ce4_8422_2325, eat).cast_signed()
    }

    /// A new session. `told` hears of announcements, once it listens.
    pub(super) async fn connect(&self, told: Option<Arc<Notify>>) -> Result<Client, Trouble> {
        let until = Instant::now() + CONNECT;
        let client = match &self.protection {
            Protection::Plain => {
                let (client, connection) = timeout_at(until, self.config.connect(NoTls)).await??;
                tokio::spawn(carry(connection, told));
                client
            }
            Protection::Tls(tls) => {
                let (client, connection) = timeout_at(until, self.config.connect(tls.clone())).await??;
                tokio::spawn(carry(connection, told));
                client
            }
        };
        // The server's defaults may be weaker than what we promise; and it shall let go of the locks of a dead node soon.
        let begin = format!(
            "SET search_path TO {}; SET synchronous_commit TO on; SET lock_timeout TO '10s'; \
             SET idle_in_transaction_session_timeout TO '5s'; SET tcp_keepalives_idle TO 5; SET tcp_keepalives_interval TO 2; \
             SET tcp_keepalives_count TO 3; SET client_min_messages TO warning",
            self.schema
        );
        timeout_at(until, client.batch_execute(&begin)).await??;
        Ok(client)
    }
}

/// Moves what is said on a connection, until it ends.
async fn carry<S, T>(mut connection: Connection<S, T>, told: Option<Arc<Notify>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let (AsyncMessage::Notification(_), Some(told)) = (message, &told) {
            told.notify_one();
        }
    }
    if let Some(told) = told {
        told.notify_one();
    }
}

/// A session that is made anew when it was lost; one transaction at a time.
pub(super) struct Link {
    server: Arc<Server>,
    session: Mutex<Option<Client>>,
}

impl Link {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server, session: Mutex::new(None) }
    }

    pub(super) async fn session(&self) -> Result<Session<'_>, Trouble> {
        let mut held = self.session.lock().await;
        if held.as_ref().is_none_or(Client::is_closed) {
            *held = None;
            *held = Some(self.server.connect(None).await?);
        }
        Ok(Session { held, is_settled: false })
    }
}

/// The session, until it is let go. Whoever gives up in the middle of it (a future that is dropped) leaves answers on their way:
/// nothing more is asked on such a session.
pub(super) struct Session<'a> {
    held: MutexGuard<'a, Option<Client>>,
    is_settled: bool,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            *self.held = None;
        }
    }
}

impl Session<'_> {
    pub(super) fn client(&mut self) -> Result<&mut Client, Trouble> {
        self.held.deref_mut().as_mut().ok_or(Trouble::Silent)
    }

    /// Everything that was asked is answered, unless the server kept silent: the next one may use the session.
    pub(super) fn settled<T>(mut self, result: Result<T, Trouble>) -> Result<T, Trouble> {
        self.is_settled = !matches!(result, Err(Trouble::Silent));
        result
    }
}

/// Why a transaction was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The server said so, or the connection was lost.
    #[error("PostgreSQL failed")]
    Server(#[from] tokio_postgres::Error),
    /// Nothing came back in time.
    #[error("PostgreSQL does not answer")]
    Silent,
    /// We gave up, for a reason of ours.
    #[error("{0}")]
    Own(#[from] ConfigError),
}

impl From<tokio::time::error::Elapsed> for Trouble {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Trouble::Silent
    }
}

impl Trouble {
    /// The same may work a moment later.
    fn may_pass(&self) -> bool {
        match self {
            Trouble::Silent => true,
            Trouble::Own(_) => false,
            Trouble::Server(error) => match error.code() {
                // No code: the connection, or a mistake of ours. Else by class (PostgreSQL manual, appendix A): connection, serialization,
                // resources, operator's intervention, locks, and a server that is a standby until it is promoted.
                None => {
                    let cause = std::error::Error::source(error);
                    error.is_closed() || cause.is_none_or(|cause| cause.is::<std::io::Error>())
                }
                Some(code) => {
                    let code = code.code();
                    ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class))
                        || matches!(code, "55P03" | "25006")
                }
            },
        }
    }

    pub(super) fn told(self, action: &'static str) -> ConfigError {
        let may_pass = self.may_pass();
        match self {
            Trouble::Own(error) => error,
            other if may_pass => ConfigError::unavailable(action, other),
            other => ConfigError::Refused { action, source: Arc::new(other) },
        }
    }
}

/// Attempts at one thing, with longer and longer pauses between them.
pub(super) struct Attempts {
    until: Instant,
    pause: Duration,
}

impl Attempts {
    pub(super) fn new(patience: Duration) -> Self {
        Self { until: Instant::now() + patience, pause: PAUSE_FIRST }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    ///
    /// There is no use in another one.
    pub(super) async fn again(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        if !trouble.may_pass() || Instant::now() + self.pause > self.until {
            return Err(trouble);
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_LAST);
        Ok(())
    }
}
