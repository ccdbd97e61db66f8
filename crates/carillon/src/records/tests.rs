//! Nodes of a cluster that share call records, before a real PostgreSQL behind a gate: it lets all pass, nothing, or no answers.
//!
//! Elsewhere: processes that are killed (`kill`), whose word counts (the store's own tests).

mod kill;
#[path = "../../../store/src/config/tests/server.rs"]
#[expect(dead_code, reason = "its users are trusted here")]
mod server;

use super::*;
use model::{Cause, HungUpBy, Id, Party};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use store::config::{CallQuery, ConfigOptions, ConfigStore, Keyring, PostgresPlace};
use store::{CdrQuery, Options};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Through this a node reaches the server.
pub(crate) struct Gate {
    pub(crate) port: u16,
    pass: watch::Sender<Pass>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Everything.
    All,
    /// Nothing; who is connected hears nothing any more.
    Nothing,
    /// What is asked reaches the server, and no answer comes back.
    Questions,
    /// Nobody: connections are closed, new ones at once.
    Nobody,
}

impl Gate {
    async fn open() -> Self {
        let port = server::server().port;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (pass, state) = watch::channel(Pass::All);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *state.borrow() == Pass::Nobody {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(carry(from_client, to_server, state.clone(), &[Pass::All, Pass::Questions]));
                tokio::spawn(carry(from_server, to_client, state.clone(), &[Pass::All]));
            }
        });
        Self { port: own, pass }
    }

    fn set(&self, pass: Pass) {
        self.pass.send_replace(pass);
    }
}

/// What does not pass is swallowed: a line that lost something is of no use any more.
async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut state: watch::Receiver<Pass>,
    passes: &[Pass],
) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = tokio::select! {
            count = from.read(&mut buffer) => count,
            _ = state.wait_for(|pass| *pass == Pass::Nobody) => return,
        };
        let Ok(count @ 1..) = count else { return };
        if !passes.contains(&state.borrow()) {
            let _ = state.wait_for(|pass| *pass == Pass::Nobody || *pass == Pass::All).await;
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// A cluster's table, the gate before it, and the way past that.
pub(crate) struct World {
    pub(crate) gate: Gate,
    schema: String,
    pub(crate) table: CallTable,
    apart: Apart,
}

fn place(port: u16, schema: &str) -> ConfigPlace {
    let connection = format!("host=127.0.0.1 port={port} user=carillon dbname=postgres");
    ConfigPlace::Postgres(PostgresPlace::new(connection, schema))
}

impl World {
    async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Self::of(format!("records_{}", COUNT.fetch_add(1, Ordering::Relaxed))).await
    }

    /// In this schema.
    pub(crate) async fn of(schema: String) -> Self {
        let past = place(server::server().port, &schema);
        let keys = Keyring::new([("a".to_owned(), [1; 32])]).unwrap();
        ConfigStore::open(ConfigOptions::new(past.clone(), keys)).await.unwrap();
        let ConfigPlace::Postgres(past) = past else { panic!("it is in PostgreSQL") };
        let table = CallTable::at(&past, ATTEMPT).unwrap();
        Self { gate: Gate::open().await, schema, table, apart: Apart::start().unwrap() }
    }

    async fn start(
        &self,
        dir: &Path,
        node: u16,
        is_alive: IsAlive,
        patience: Patience,
    ) -> Arc<ClusterRecords> {
        let store = open(dir);
        let place = place(self.gate.port, &self.schema);
        ClusterRecords::start(store, &place, node, is_alive, patience, &self.apart).await.unwrap()
    }

    /// Every record in the table, by the numbers of the calls.
    async fn records(&self) -> HashMap<u32, Cdr> {
        let (mut query, mut found) = (CallQuery::default(), HashMap::new());
        query.rest.limit = CdrQuery::LIMIT_MAX;
        loop {
            let page = self.table.cdrs(&query).await.unwrap();
            for cdr in page.cdrs {
                let number = u32::try_from(cdr.call.parse::<CallId>().unwrap().counter()).unwrap();
                assert!(found.insert(number, cdr).is_none(), "call {number} is listed twice");
            }
            let Some(next) = page.next else { return found };
            query.rest.after = Some(next);
        }
    }
}

/// The last process's threads may still let go of the directory.
fn open(dir: &Path) -> Store {
    let until = std::time::Instant::now() + Duration::from_secs(30);
    let options = || Options { sync_gap: Duration::from_millis(1), is_clustered: true, ..Options::default() };
    loop {
        match Store::open_with(dir, options()) {
            Err(StoreError::Locked { .. }) if std::time::Instant::now() < until => std::thread::yield_now(),
            store => return store.unwrap(),
        }
    }
}

fn name(number: u32) -> CallId {
    CallId::new(cluster::ids::NodeId(1), u64::from(number))
}

fn open_call(number: u32) -> OpenCall {
    OpenCall {
        call: name(number).to_string(),
        brand: Id::new(1),
        client: Id::new(1),
        caller: Party { number: "101".to_owned(), name: "Alice Allison".to_owned(), user: Some(Id::new(1)) },
        callee: Party { number: "102".to_owned(), ..Party::default() },
        dialed: "102".to_owned(),
        started_us: i64::from(number) * 1000,
        answered_us: Some(i64::from(number) * 1000 + 10),
        legs: Vec::new(),
        externals: Vec::new(),
        node: 1,
        relay: None,
    }
}

fn cdr(number: u32) -> Cdr {
    Cdr {
        hung_up_by: HungUpBy::Callee,
        cause: Cause { status: 200, text: "OK".to_owned() },
        ..open_call(number).into_lost_cdr(i64::from(number) * 1000 + 500)
    }
}

fn nobody() -> IsAlive {
    Arc::new(|_| Box::pin(async { false }))
}

/// Decides at once.
fn eager() -> Patience {
    Patience { grace: Duration::ZERO, again: Duration::from_millis(20), ..Patience::default() }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < end, "{what}: never");
        sleep(Duration::from_millis(5)).await;
    }
}

impl ClusterRecords {
    fn end(&self, cdr: Cdr, epoch: u32) -> oneshot::Receiver<bool> {
        let (tell, told) = oneshot::channel();
        self.ended(cdr, epoch, Box::new(move |kept| tell.send(kept).unwrap()));
        told
    }

    async fn note(&self, call: OpenCall, epoch: u32) {
        let (tell, told) = oneshot::channel();
        self.began(call, epoch, Box::new(move |kept| tell.send(kept).unwrap()));
        assert!(told.await.unwrap());
    }

    async fn unsent(&self) -> u64 {
        let store = self.shared.store.clone();
        spawn_blocking(move || store.unsent_count().unwrap()).await.unwrap()
    }

    async fn notes(&self) -> usize {
        let store = self.shared.store.clone();
        spawn_blocking(move || store.open_calls().unwrap().len()).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_durable_when_the_table_has_it() {
    let (world, dir) = (World::new().await, TempDir::new().unwrap());
    let patience = Patience { table: Duration::from_secs(600), ..Patience::default() };
    let records = world.start(dir.path(), 1, nobody(), patience).await;
    records.note(open_call(1), 0).await;
    assert_eq!(world.table.standings(&[&name(1).to_string()]).await.unwrap().len(), 0);
    assert!(records.end(cdr(1), 0).await.unwrap());
    assert_eq!(world.records().await, HashMap::from([(1, cdr(1))]));
    // Many at once, and one of them twice.
    let mut told: Vec<_> = (2..3000).map(|number| records.end(cdr(number), 0)).collect();
    told.push(records.end(cdr(2), 0));
    for told in told {
        assert!(told.await.unwrap());
    }
    assert_eq!(world.records().await, (1..3000).map(|number| (number, cdr(number))).collect());
    until("nothing waits here", async || records.unsent().await == 0).await;
    // A line that breaks costs nothing.
    world.gate.set(Pass::Nobody);
    let told = records.end(cdr(4000), 0);
    until("it waits", async || records.unsent().await == 1).await;
    world.gate.set(Pass::All);
    assert!(told.await.unwrap());
    assert!(world.records().await.contains_key(&4000));
    records.stop().await;
    assert_eq!(records.waiting(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_the_journal_is_enough_and_it_gets_everything_when_it_is_back() {
    for way in [Pass::Nobody, Pass::Nothing, Pass::Questions] {
        let (world, dir) = (World::new().await, TempDir::new().unwrap());
        let patience = Patience { table: Duration::from_millis(200), waiting: 10, ..Patience::default() };
        let records = world.start(dir.path(), 1, nobody(), patience).await;
        assert!(records.end(cdr(1), 0).await.unwrap());
        until("nothing waits here", async || records.unsent().await == 0).await;
        world.gate.set(way);
        for number in 2..100 {
            assert!(records.end(cdr(number), 0).await.unwrap(), "{way:?}");
        }
        assert!(records.is_away());
        assert_eq!(records.unsent().await, 98, "{way:?}");
        assert!(records.shared.queue.lock().waiting.len() <= 10, "the rest waits on the disk");
        // A node that stops waits for no database; the next one brings it.
        let records = if way == Pass::Questions {
            records.stop().await;
            drop(records);
            world.start(dir.path(), 1, nobody(), patience).await
        } else {
            records
        };
        world.gate.set(Pass::All);
        until("all of it is there", async || world.records().await.len() == 99).await;
        assert_eq!(world.records().await, (1..100).map(|number| (number, cdr(number))).collect());
        until("nothing waits here", async || records.unsent().await == 0 && records.waiting() == 0).await;
        assert!(!records.is_away());
        assert!(records.end(cdr(100), 0).await.unwrap());
        until("it is there, too", async || world.records().await.contains_key(&100)).await;
        records.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_ends_although_records_keep_coming() {
    let (world, dir) = (World::new().await, TempDir::new().unwrap());
    let patience = Patience { table: Duration::from_millis(200), waiting: 10, ..Patience::default() };
    let records = world.start(dir.path(), 1, nobody(), patience).await;
    world.gate.set(Pass::Nobody);
    let mut under_way = VecDeque::new();
    let (mut number, mut is_open) = (0, false);
    // Never fewer than 5 under way, never more than wait in memory.
    while !is_open || records.shared.queue.lock().has_backlog || records.is_away() {
        number += 1;
        under_way.push_back(records.end(cdr(number), 0));
        if under_way.len() > 5 {
            assert!(under_way.pop_front().unwrap().await.unwrap());
        }
        if number == 3000 {
            assert!(records.shared.queue.lock().has_backlog);
            world.gate.set(Pass::All);
            is_open = true;
        }
        assert!(number < 1_000_000, "the backlog never ends");
    }
    for told in under_way {
        assert!(told.await.unwrap());
    }
    // What came in the meantime is there, too.
    until("nothing waits here", async || records.unsent().await == 0).await;
    assert_eq!(world.records().await, (1..=number).map(|number| (number, cdr(number))).collect());
    records.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_another_node_took_over_gets_that_ones_record_alone() {
    let world = World::new().await;
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let records = world.start(first.path(), 1, nobody(), eager()).await;
    for number in 1..=4 {
        records.note(open_call(number), 0).await;
    }
    records.let_go(name(4)); // it is told that it lost this one
    records.stop().await;
    drop(records);
    // The others go on at another node, one of them without end; the third is over before the first is back.
    let other = world.start(second.path(), 2, nobody(), eager()).await;
    for number in 1..=4 {
        other.note(open_call(number), 1).await;
    }
    assert!(other.end(cdr(3), 1).await.unwrap());
    until("marks are there", async || other.waiting() == 0).await;
    assert_eq!(world.records().await, HashMap::from([(3, cdr(3))]));
    let asked: IsAlive = Arc::new(|call| panic!("the table knows of {call}"));
    let records = world.start(first.path(), 1, asked, eager()).await;
    until("it has no call any more", async || records.notes().await == 0).await;
    // It wakes up and says what it believes to know.
    let late = Cdr { ended_us: 5_000_000, ..cdr(1) };
    assert!(records.end(late, 0).await.unwrap());
    assert_eq!(world.records().await, HashMap::from([(3, cdr(3))]));
    for number in [1, 2, 4] {
        assert!(other.end(cdr(number), 1).await.unwrap());
    }
    assert_eq!(world.records().await, (1..=4).map(|number| (number, cdr(number))).collect());
    records.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_learn_of_calls_that_were_taken_over_while_the_database_was_away() {
    let (world, dir) = (World::new().await, TempDir::new().unwrap());
    let patience = Patience { table: Duration::from_millis(200), waiting: 10, ..Patience::default() };
    let records = world.start(dir.path(), 2, nobody(), patience).await;
    world.gate.set(Pass::Nobody);
    for number in 1..=50 {
        assert!(records.end(cdr(1000 + number), 0).await.unwrap());
        records.note(open_call(number), 1).await;
    }
    records.note(open_call(51), 0).await; // is nobody's business
    assert!(records.end(cdr(50), 1).await.unwrap());
    world.gate.set(Pass::All);
    until("nothing waits here", async || records.waiting() == 0).await;
    let names: Vec<String> = (1..=51).map(|number| name(number).to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let standings = world.table.standings(&names).await.unwrap();
    assert_eq!(standings.len(), 50);
    assert!(standings.values().all(|standing| (standing.epoch, standing.node) == (1, 2)));
    assert_eq!(standings.values().filter(|standing| standing.has_ended).count(), 1);
    assert_eq!(world.records().await.len(), 51);
    records.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_nobody_has_any_more_is_lost_and_one_that_somebody_has_is_not() {
    let (world, dir) = (World::new().await, TempDir::new().unwrap());
    let records = world.start(dir.path(), 1, nobody(), eager()).await;
    for number in 1..=3 {
        records.note(open_call(number), 0).await;
    }
    records.stop().await;
    drop(records);
    let (is_alive, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
    let (alive, count) = (Arc::clone(&is_alive), Arc::clone(&asked));
    let closure: IsAlive = Arc::new(move |call| {
        count.fetch_add(1, Ordering::SeqCst);
        let answer = call == name(1) && alive.load(Ordering::SeqCst);
        // The third is offered to this very node before anybody knows.
        let answer = answer || call == name(3);
        Box::pin(async move { answer })
    });
    let records = world.start(dir.path(), 1, closure, eager()).await;
    until("the second is lost", async || world.records().await.len() == 1).await;
    let lost = world.records().await.remove(&2).unwrap();
    assert_eq!((lost.cause.status, lost.hung_up_by), (500, HungUpBy::Platform));
    assert!(lost.ended_us <= unix_us() && lost.ended_us > unix_us() - 60_000_000, "{lost:?}");
    records.note(open_call(3), 1).await;
    let before = asked.load(Ordering::SeqCst);
    until("it asks again", async || asked.load(Ordering::SeqCst) > before + 3).await;
    assert_eq!(world.records().await.len(), 1);
    is_alive.store(false, Ordering::SeqCst);
    until("the first is lost", async || world.records().await.len() == 2).await;
    // The third goes on here, and ends here.
    assert!(records.end(cdr(3), 1).await.unwrap());
    until("nothing is left", async || records.notes().await == 0 && records.unsent().await == 0).await;
    let found = world.records().await;
    assert_eq!((found.len(), &found[&3]), (3, &cdr(3)));
    records.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_not_given_up_while_the_table_cannot_be_asked() {
    let (world, dir) = (World::new().await, TempDir::new().unwrap());
    let records = world.start(dir.path(), 1, nobody(), eager()).await;
    records.note(open_call(1), 0).await;
    records.stop().await;
    drop(records);
    // Another node has it, and this one cannot know.
    let mark = CallWord { epoch: 1, node: 2, story: CallStory::Open(Box::new(open_call(1))) };
    world.table.put(&[mark]).await.unwrap();
    world.gate.set(Pass::Nobody);
    let records = world.start(dir.path(), 1, nobody(), eager()).await;
    assert!(records.end(cdr(2), 0).await.unwrap(), "the journal has it, after a while");
    assert!(records.is_away());
    assert_eq!((records.notes().await, records.unsent().await), (1, 1));
    world.gate.set(Pass::All);
    until("it knows", async || records.notes().await == 0 && records.unsent().await == 0).await;
    assert_eq!(world.records().await, HashMap::from([(2, cdr(2))]));
    records.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_shared_database_is_told_so() {
    let dir = TempDir::new().unwrap();
    let (apart, place) = (Apart::start().unwrap(), ConfigPlace::Directory(dir.path().to_owned()));
    let started =
        ClusterRecords::start(open(dir.path()), &place, 1, nobody(), Patience::default(), &apart).await;
    let StartError(text) = started.err().unwrap();
    assert!(text.contains("store.url") && text.contains("[store]"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release -p carillon records_a_second -- --ignored --nocapture"]
async fn records_a_second() {
    const CALLS: u32 = 100_000;
    let (world, dir) = (World::new().await, TempDir::new().unwrap());
    let records = world.start(dir.path(), 1, nobody(), Patience::default()).await;
    let began = Instant::now();
    let mut told = VecDeque::new();
    for number in 0..CALLS {
        told.push_back(records.end(cdr(number), 0));
        if told.len() > 10_000 {
            assert!(told.pop_front().unwrap().await.unwrap());
        }
    }
    for told in told {
        assert!(told.await.unwrap());
    }
    let rate = f64::from(CALLS) / began.elapsed().as_secs_f64();
    println!("{CALLS} records, journal and table: {rate:.0} a second");
    records.stop().await;
}
