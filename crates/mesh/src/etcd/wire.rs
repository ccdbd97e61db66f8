//! Requests to etcd over gRPC: one connection to one of its members, another one after a failure.
//!
//! In: the core's requests. Out: its answers. Everything has a time-out; a watch tells until it breaks. Elsewhere: when something is
//! asked again (`cluster::member`).

use crate::causes::chain;
use cluster::etcd::{Change, Compare, Entry, Failure, Op, Request, Response, Ticket, Txn, WatchUpdate};
use etcd_client::{
    Client, CompareOp, ConnectOptions, DeleteOptions, Error, EventType, GetOptions, KeyValue, PutOptions,
    TxnOp, WatchOptions,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

/// How a connection is made, and the one that is in use.
pub(super) struct Connector {
    endpoints: Vec<String>,
    options: ConnectOptions,
    patience: Duration,
    current: Mutex<Current>,
}

/// The connection, and how many there have been: who reports a failure says of which.
struct Current {
    number: usize,
    client: Option<Client>,
}

/// Something a watch has told.
pub(super) type Told = (Ticket, WatchUpdate);

impl Connector {
    pub(super) fn new(endpoints: Vec<String>, options: ConnectOptions, patience: Duration) -> Self {
        Self { endpoints, options, patience, current: Mutex::new(Current { number: 0, client: None }) }
    }

    /// Carries out one request.
    pub(super) async fn carry(&self, request: Request) -> Result<Response, Failure> {
        let mut used = None;
        let done = timeout(self.patience, async {
            let (mut client, number) = self.client().await?;
            used = Some(number);
            carry(&mut client, request).await
        });
        let done = done.await.unwrap_or_else(|_| {
            Err(Failure::Unknown(format!("no answer within {} ms", self.patience.as_millis())))
        });
        if let Err(Failure::Unknown(_)) = &done {
            // Whoever fails or is slow may be cut off from the others; another member may not be.
            self.give_up(used).await;
        }
        done
    }

    /// Tells changes until the watch breaks; says how it ended.
    pub(super) async fn watch(
        self: Arc<Self>,
        ticket: Ticket,
        prefix: String,
        from: u64,
        tell: mpsc::Sender<Told>,
    ) -> WatchUpdate {
        let mut used = None;
        let begun = timeout(self.patience, async {
            let (mut client, number) = self.client().await?;
            used = Some(number);
            let options = WatchOptions::new().with_prefix().with_start_revision(from.cast_signed());
            client.watch(prefix, Some(options)).await.map_err(|error| failure(&error))
        });
        let Ok(Ok(mut stream)) = begun.await else {
            self.give_up(used).await;
            return WatchUpdate::Ended;
        };
        loop {
            let Ok(Some(message)) = stream.message().await else { return WatchUpdate::Ended };
            if message.compact_revision() > 0 {
                return WatchUpdate::Compacted;
            }
            if message.canceled() {
                return WatchUpdate::Ended;
            }
            let changes: Vec<Change> = message.events().iter().filter_map(change).collect();
            if !changes.is_empty() && tell.send((ticket, WatchUpdate::Changes(changes))).await.is_err() {
                return WatchUpdate::Ended;
            }
        }
    }

    /// The connection in use, or a new one.
    async fn client(&self) -> Result<(Client, usize), Failure> {
        let mut current = self.current.lock().await;
        if let Some(client) = &current.client {
            return Ok((client.clone(), current.number));
        }
        let endpoint = &self.endpoints[current.number % self.endpoints.len()];
        match Client::connect([endpoint], Some(self.options.clone())).await {
            Ok(client) => {
                current.client = Some(client.clone());
                Ok((client, current.number))
            }
            Err(error) => {
                current.number += 1;
                Err(match failure(&error) {
                    Failure::Unknown(why) => Failure::Unknown(format!("{endpoint}: {why}")),
                    other => other,
                })
            }
        }
    }

    /// The next request takes another connection, to the next member of etcd, where this is the one in use.
    async fn give_up(&self, used: Option<usize>) {
        let mut current = self.current.lock().await;
        // None: time was up while a connection was made, and who holds the lock now makes another one.
        if used.is_none_or(|number| number == current.number) {
            (current.number, current.client) = (current.number + 1, None);
        }
    }
}

async fn carry(client: &mut Client, request: Request) -> Result<Response, Failure> {
    let done = match request {
        Request::Read { prefix } => {
            client.get(prefix, Some(GetOptions::new().with_prefix())).await.map(|found| {
                let revision = revision(found.header());
                Response::Read { revision, entries: found.kvs().iter().filter_map(entry).collect() }
            })
        }
        Request::Grant { seconds } => client
            .lease_grant(i64::from(seconds), None)
            .await
            .map(|granted| Response::Granted { lease: granted.id(), seconds: granted.ttl() }),
        Request::KeepAlive { lease } => keep_alive(client, lease).await,
        Request::Revoke { lease } => {
            match client.lease_revoke(lease).await.map_err(|error| failure(&error)) {
                Ok(_) | Err(Failure::LeaseGone) => return Ok(Response::Revoked),
                Err(failure) => return Err(failure),
            }
        }
        Request::Txn(txn) => client
            .txn(transaction(txn))
            .await
            .map(|done| Response::Txn { succeeded: done.succeeded(), revision: revision(done.header()) }),
        Request::Watch { .. } => return Err(Failure::Refused("a watch is no request".to_owned())),
    };
    done.map_err(|error| failure(&error))
}

/// On a stream of its own, so that no answer is taken for that of another request. The first answer is the client's own; only the
/// second says for how long.
async fn keep_alive(client: &mut Client, lease: i64) -> Result<Response, Error> {
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
    keeper.keep_alive().await?;
    let answer = answers.message().await?;
    let answer = answer.ok_or_else(|| Error::LeaseKeepAliveError("the stream ended".to_owned()))?;
    Ok(Response::Alive { seconds: answer.ttl() })
}

fn transaction(txn: Txn) -> etcd_client::Txn {
    let compares = txn.when.into_iter().map(|compare| match compare {
        Compare::Absent(key) => etcd_client::Compare::create_revision(key, CompareOp::Equal, 0),
        Compare::Modified(key, revision) => {
            etcd_client::Compare::mod_revision(key, CompareOp::Equal, revision.cast_signed())
        }
    });
    let operations = txn.then.into_iter().map(|op| match op {
        Op::Put { key, value, lease } => {
            TxnOp::put(key, value, lease.map(|lease| PutOptions::new().with_lease(lease)))
        }
        Op::Delete { key } => TxnOp::delete(key, None::<DeleteOptions>),
    });
    etcd_client::Txn::new().when(compares.collect::<Vec<_>>()).and_then(operations.collect::<Vec<_>>())
}

fn revision(header: Option<&etcd_client::ResponseHeader>) -> u64 {
    header.map_or(0, etcd_client::ResponseHeader::revision).max(0).cast_unsigned()
}

/// Keys that are no text are none of ours.
fn entry(found: &KeyValue) -> Option<Entry> {
    let key = std::str::from_utf8(found.key()).ok()?.to_owned();
    let modified = found.mod_revision().max(0).cast_unsigned();
    Some(Entry { key, value: found.value().to_vec(), lease: found.lease(), modified })
}

fn change(event: &etcd_client::Event) -> Option<Change> {
    let entry = entry(event.kv()?)?;
    Some(match event.event_type() {
        EventType::Put => Change::Put(entry),
        EventType::Delete => Change::Deleted { key: entry.key, revision: entry.modified },
    })
}

/// What an error means for the member.
fn failure(error: &Error) -> Failure {
    let Error::GRpcStatus(status) = error else {
        return match error {
            Error::LeaseKeepAliveError(why) if why.contains("lease not found") => Failure::LeaseGone,
            Error::InvalidArgs(_) | Error::InvalidUri(_) => Failure::Refused(error.to_string()),
            _ => Failure::Unknown(chain(error)),
        };
    };
    let message = status.message();
    let says = |text: &str| message.contains(text);
    if says("requested lease not found") {
        return Failure::LeaseGone;
    }
    // Texts of etcd (rpctypes/error.go); codes alone do not tell a token that ended from a user who may not.
    let is_for_good = says("permission denied")
        || says("authentication failed")
        || says("user name is empty")
        || says("authentication is not enabled")
        || says("user name not found");
    if is_for_good { Failure::Refused(message.to_owned()) } else { Failure::Unknown(chain(status)) }
}
