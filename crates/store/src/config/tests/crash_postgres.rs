//! PostgreSQL behind a line that breaks at any message of a commit: nothing acknowledged is lost, nothing is there twice.
//!
//! A proxy counts the messages that the committing connection sends, and breaks the line before, within or after one of
//! them: after it the server has acted, and only its answer is lost.

use super::fixture::{Fixture, commit, connection, create, edit, keys, made, now, small, table, who};
use super::server::server;
use crate::config::{
    ConfigError, ConfigOptions, ConfigPlace, ConfigStore, LogQuery, Outcome, PostgresPlace, RecordQuery,
    Token,
};
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    /// The server does not get the message.
    Before,
    /// It gets half of it.
    Within,
    /// It gets it and acts; its answer is lost.
    After,
    /// From the message on the line is silent, and stays.
    Silent,
}

const AT_COMMIT: u32 = 0;

#[derive(Default)]
struct Plan {
    /// Where the next commit's connection breaks, counted from its beginning; [`AT_COMMIT`]: at its `COMMIT`.
    at: Option<(u32, Break)>,
    /// Then nobody gets through any more.
    then_refuse: bool,
    refuses: bool,
    /// Nothing that is said is heard any more, on whatever connection.
    is_deaf: bool,
    /// Messages of the last commit.
    seen: u32,
}

struct Proxy {
    port: u16,
    plan: Arc<Mutex<Plan>>,
    sever: Arc<Notify>,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan: Arc<Mutex<Plan>> = Arc::default();
        let sever = Arc::new(Notify::new());
        let (of_task, severed) = (Arc::clone(&plan), Arc::clone(&sever));
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if !of_task.lock().refuses {
                    let (line, severed) = (line(client, Arc::clone(&of_task)), Arc::clone(&severed));
                    tokio::spawn(async move {
                        tokio::select! {
                            () = line => {}
                            () = severed.notified() => {}
                        }
                    });
                }
            }
        });
        Self { port, plan, sever }
    }

    fn break_at(&self, message: u32, how: Break, then_refuse: bool) {
        *self.plan.lock() = Plan { at: Some((message, how)), then_refuse, ..Plan::default() };
    }

    fn mend(&self) {
        *self.plan.lock() = Plan::default();
    }
}

/// The first whole message; the very first one of a connection has no type.
fn message(buffer: &[u8], is_first: bool) -> Option<usize> {
    let at = usize::from(!is_first);
    let length = u32::from_be_bytes(buffer.get(at..at + 4)?.try_into().ok()?) as usize + at;
    (buffer.len() >= length).then_some(length)
}

async fn line(client: TcpStream, plan: Arc<Mutex<Plan>>) {
    let server = TcpStream::connect(("127.0.0.1", server().port)).await.unwrap();
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let is_muted = Arc::new(AtomicBool::new(false));
    let heard = Arc::new(Notify::new());
    let (muted, hears) = (Arc::clone(&is_muted), Arc::clone(&heard));
    let _back = AbortOnDrop(tokio::spawn(async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            if muted.load(Ordering::SeqCst) {
                hears.notify_one();
            } else if to_client.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    }));
    let (mut buffer, mut is_first, mut commit) = (Vec::new(), true, 0);
    'line: while let Ok(1..) = from_client.read_buf(&mut buffer).await {
        while let Some(length) = message(&buffer, is_first) {
            let bytes: Vec<u8> = buffer.drain(..length).collect();
            let begins = !is_first
                && bytes[0] == b'Q'
                && bytes[5..].starts_with(b"START TRANSACTION")
                && !has(&bytes, b"READ ONLY");
            is_first = false;
            let how = {
                let mut plan = plan.lock();
                if begins && plan.at.is_some() {
                    commit = 1;
                } else if commit > 0 {
                    commit += 1;
                }
                if commit > 0 {
                    plan.seen = plan.seen.max(commit);
                }
                let commits = bytes[0] == b'Q' && has(&bytes, b"COMMIT");
                let here =
                    plan.at.filter(|(at, _)| commit > 0 && (*at == commit || (*at == AT_COMMIT && commits)));
                if here.is_some() {
                    plan.at = None;
                    plan.refuses = plan.then_refuse;
                }
                here.map(|(_, how)| how)
            };
            match how {
                None if plan.lock().is_deaf => {}
                None => {
                    if to_server.write_all(&bytes).await.is_err() {
                        break 'line;
                    }
                }
                Some(Break::Before) => break 'line,
                Some(Break::Within) => {
                    let _ = to_server.write_all(&bytes[..length / 2]).await;
                    break 'line;
                }
                Some(Break::After) => {
                    is_muted.store(true, Ordering::SeqCst);
                    let _ = to_server.write_all(&bytes).await;
                    // What has no answer of its own is not waited for.
                    let _ = tokio::time::timeout(Duration::from_millis(20), heard.notified()).await;
                    break 'line;
                }
                Some(Break::Silent) => {
                    is_muted.store(true, Ordering::SeqCst);
                    let _ = tokio::time::sleep(Duration::from_secs(30)).await;
                    break 'line;
                }
            }
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn has(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

struct World {
    proxy: Proxy,
    /// Through the proxy.
    store: ConfigStore,
    /// Past it.
    truth: ConfigStore,
    revision: u64,
    records: u64,
}

impl World {
    async fn new(patience: Duration, attempt: Duration) -> Self {
        let proxy = Proxy::start().await;
        let place = Fixture::postgres();
        let ConfigPlace::Postgres(PostgresPlace { schema, .. }) = place.place.clone() else { panic!() };
        let truth = place.open().await;
        commit(&truth, 0, &small()).await;
        let through = ConfigPlace::Postgres(PostgresPlace::new(connection(proxy.port), schema));
        let mut options = ConfigOptions::new(through, keys(&["a"]));
        (options.patience, options.attempt) = (patience, attempt);
        let store = ConfigStore::open(options).await.unwrap();
        Self { proxy, store, truth, revision: 1, records: 0 }
    }

    /// A commit of everything there is: a row changed, one new, one deleted, a record.
    async fn commit(&self, token: Token) -> Result<Outcome, ConfigError> {
        let rows = self.truth.load().await.unwrap();
        let mut changes = vec![
            edit(&rows, "Carrier", 1, &[("description", json!(format!("{}", self.revision)))]),
            create(made("RoutingTag", 100 + self.revision as u32, &[("brand", json!(1))])),
            create(made("BalanceMovement", 0, &[("company", json!(1))])),
        ];
        if rows.row(table("RoutingTag"), 99 + self.revision as u32).is_some() {
            changes.push(super::fixture::delete(&rows, "RoutingTag", 99 + self.revision as u32));
        }
        self.store.commit_as(token, self.revision, &changes, &who(), now()).await
    }

    /// It is there, once.
    async fn check(&mut self, at: &str) {
        self.revision += 1;
        self.records += 1;
        let rows = self.truth.load().await.unwrap();
        assert_eq!(rows.revision, self.revision, "{at}");
        let description = (self.revision - 1).to_string();
        assert_eq!(
            rows.row(table("Carrier"), 1).unwrap().named("description").text(),
            Some(description.as_str()),
            "{at}"
        );
        assert_eq!(rows.count(table("RoutingTag")), 3, "{at}");
        let page = self.truth.query(&RecordQuery::new(table("BalanceMovement"))).await.unwrap();
        assert_eq!(page.total, self.records, "{at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_breaks_at_any_message_of_a_commit_costs_nothing() {
    let mut world = World::new(Duration::from_secs(10), Duration::from_secs(5)).await;
    world.proxy.break_at(u32::MAX, Break::Before, false);
    for revision in 2..4 {
        let outcome = world.commit(Token::random()).await.unwrap();
        assert_eq!(outcome, Outcome::Done { revision, records: vec![revision as u32 - 1] });
        world.check("whole").await;
    }
    let messages = world.proxy.plan.lock().seen;
    assert!(messages > 20, "{messages}");
    for message in 1..=messages {
        // All ways where it matters most, else one of them.
        let ways = [Break::Before, Break::Within, Break::After];
        let some = match messages - message {
            0..3 => &ways[..],
            left if left % 2 == 0 => &ways[(message % 3) as usize..][..1],
            _ => continue,
        };
        for way in some {
            let at = format!("message {message} of {messages}, {way:?}");
            world.proxy.break_at(message, *way, false);
            let outcome = world.commit(Token::random()).await.unwrap_or_else(|error| panic!("{at}: {error}"));
            let records = vec![world.records as u32 + 1];
            assert_eq!(outcome, Outcome::Done { revision: world.revision + 1, records }, "{at}");
            world.check(&at).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_know_the_outcome_learns_it_by_the_token() {
    let mut world = World::new(Duration::from_millis(300), Duration::from_secs(5)).await;
    world.commit(Token::random()).await.unwrap();
    world.check("whole").await;
    for way in [Break::Before, Break::Within, Break::After] {
        let token = Token::random();
        world.proxy.break_at(AT_COMMIT, way, true);
        let error = world.commit(token).await.unwrap_err();
        assert!(
            matches!(&error, ConfigError::OutcomeUnknown { token: told, .. } if *told == token),
            "{way:?}: {error:?}"
        );
        let is_kept = world.truth.load().await.unwrap().revision > world.revision;
        assert_eq!(is_kept, way == Break::After, "{way:?}");
        world.proxy.mend();
        let outcome = world.commit(token).await.unwrap();
        assert_eq!(
            outcome,
            Outcome::Done { revision: world.revision + 1, records: vec![world.records as u32 + 1] }
        );
        world.check(&format!("{way:?}")).await;
    }
    // Before it is to be kept, it is known that it is not.
    world.proxy.break_at(20, Break::Before, true);
    let error = world.commit(Token::random()).await.unwrap_err();
    assert!(matches!(&error, ConfigError::Unavailable { .. }), "{error:?}");
    world.proxy.mend();
    world.commit(Token::random()).await.unwrap();
    world.check("mended").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_falls_silent_costs_time_and_nothing_else() {
    let mut world = World::new(Duration::from_secs(20), Duration::from_secs(1)).await;
    world.proxy.break_at(9, Break::Silent, false);
    world.commit(Token::random()).await.unwrap();
    world.check("silent").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_come_back_after_the_line_was_cut() {
    let mut world = World::new(Duration::from_secs(10), Duration::from_secs(5)).await;
    let mut head = world.store.head();
    for round in 0..3 {
        world.proxy.sever.notify_waiters();
        // The follower's.
        let rows = world.truth.load().await.unwrap();
        let tag = edit(&rows, "RoutingTag", 1, &[("tag", json!(round.to_string()))]);
        world.revision = commit(&world.truth, world.revision, &[tag]).await;
        let revision = world.revision;
        let heard = head.wait_for(|head| *head == revision);
        tokio::time::timeout(Duration::from_secs(8), heard).await.unwrap().unwrap();
        // The reader's, then the writer's.
        assert_eq!(world.store.load().await.unwrap().revision, revision);
        world.store.append(vec![made("BillableCall", 0, &[])]).await.unwrap();
    }
    assert_eq!(world.truth.query(&RecordQuery::new(table("BillableCall"))).await.unwrap().total, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_told_to_whoever_asks_and_serves_again_when_it_is_back() {
    let mut world = World::new(Duration::from_millis(200), Duration::from_secs(1)).await;
    world.commit(Token::random()).await.unwrap();
    world.check("whole").await;
    let store = &world.store;
    let calls = RecordQuery::new(table("BalanceMovement"));
    let asked = async || {
        [
            ("query", store.query(&calls).await.err()),
            ("get", store.get(table("BalanceMovement"), 1).await.err()),
            ("log", store.log(&LogQuery::default()).await.err()),
            ("changes", store.changes_since(0, 10).await.err()),
            ("head", store.commit(2, &[], &who(), now()).await.err()),
            ("load", store.load().await.err()),
            ("turn", store.turn().await.err()),
        ]
    };
    assert!(asked().await.iter().all(|(_, error)| error.is_none()));
    world.proxy.plan.lock().is_deaf = true;
    let answers = tokio::time::timeout(Duration::from_secs(60), asked()).await.unwrap();
    for (what, error) in answers {
        assert!(matches!(&error, Some(ConfigError::Unavailable { .. })), "{what}: {error:?}");
    }
    world.proxy.mend();
    for (what, error) in asked().await {
        assert!(error.is_none(), "{what}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_in_its_turn_loses_it() {
    let world = World::new(Duration::from_secs(10), Duration::from_secs(1)).await;
    let turn = world.store.turn().await.unwrap();
    let rows = world.truth.load().await.unwrap();
    let tag = edit(&rows, "RoutingTag", 1, &[("tag", json!("7#"))]);
    // This would wait for ever; whoever has lost his turn finds that the head is another one.
    commit(&world.truth, 1, std::slice::from_ref(&tag)).await;
    let late = world.store.commit(1, &[tag], &who(), now()).await.unwrap();
    assert_eq!(late, Outcome::Conflict { head: 2 });
    drop(turn);
}
