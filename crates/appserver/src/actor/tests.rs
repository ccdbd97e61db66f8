//! What the shell adds to the core: crashes end tidily, records come first, limits hold.

mod many;

use super::*;
use crate::call::UNANSWERED_MAX;
use bytes::Bytes;
use cluster::ids::NodeId;
use cluster::leg::Originate;
use cluster::leg::{Callee, Origin, Presented};
use cluster::media::{MediaCommand, Signalling};
use model::Snapshot;
use model::{Aor, Configuration, Id};
use sip::draft::HeaderText;
use sip::flow::{ConnId, Flow, Transport};
use std::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

type Done = Box<dyn FnOnce(bool) + Send>;

/// Every neighbour in one: says what it was asked for as lines of text.
struct World {
    said: UnboundedSender<String>,
    held: Mutex<Vec<Done>>,
    hold_records: bool,
    notes_to_fail: AtomicUsize,
}

impl World {
    fn say(&self, line: String) {
        let _ = self.said.send(line);
    }
}

impl Legs for World {
    fn originate(&self, _: Title, order: Originate) -> Option<(LegId, String)> {
        let Callee::Binding { target, .. } = order.to else { panic!("no binding is called") };
        self.say(format!("INVITE {target}"));
        Some((LegId::new(NodeId(1), 0, 2), "b@us".to_owned()))
    }

    fn command(&self, _: Title, _: NodeId, leg: LegId, command: LegCommand) {
        let name = format!("{command:?}");
        let end = name.find([' ', '{']).unwrap_or(name.len());
        self.say(format!("{leg} {}", &name[..end]));
    }
}

impl Directory for World {
    fn bindings(&self, _: Aor) -> Vec<Binding> {
        let remote = ([192, 0, 2, 1], 5060).into();
        let flow = Flow { transport: Transport::Udp, listener: 0, remote, conn: ConnId(0) };
        let (contact, home) = ("sip:bob@192.0.2.1".to_owned(), NodeId(1));
        vec![Binding { contact, path: Vec::new(), flow, q: 1000, newness: 1, home }]
    }
}

impl Media for World {
    fn submit(
        &self,
        _: NodeId,
        _: CallId,
        _: u32,
        command: MediaCommand,
        _: Signalling,
    ) -> Option<MediaReply> {
        Some(match command {
            MediaCommand::Offer { sdp, .. } | MediaCommand::Answer { sdp, .. } => MediaReply::Sdp(sdp),
            MediaCommand::Withdraw { .. } => MediaReply::Done,
            MediaCommand::Release { .. } => MediaReply::Report(Vec::new()),
            MediaCommand::Stop => MediaReply::Report(Vec::new()),
            MediaCommand::Close => {
                self.say("media closed".to_owned());
                MediaReply::Report(Vec::new())
            }
        })
    }
}

impl CallLog for World {
    fn began(&self, _: OpenCall, _: u32, done: Done) {
        self.say("noted".to_owned());
        let fails = self.notes_to_fail.load(Ordering::Relaxed);
        self.notes_to_fail.store(fails.saturating_sub(1), Ordering::Relaxed);
        done(fails == 0);
    }

    fn ended(&self, cdr: Cdr, _: u32, done: Done) {
        self.say(format!("record {} {}", cdr.cause.status, cdr.cause.text));
        if self.hold_records {
            self.held.lock().unwrap().push(done);
        } else {
            done(true);
        }
    }
}

const CALL: u64 = 1;

fn incoming(number: u64) -> Incoming {
    Incoming {
        call: CallId::new(NodeId(1), number),
        leg: LegId::new(NodeId(1), 0, 1),
        brand: Id::new(1),
        client: Id::new(1),
        origin: Origin::Endpoint { aor: Aor::from_bits(1), user: Some(Id::new(1)) },
        caller: Presented::default(),
        dialed: "102".to_owned(),
        offer: Some(Bytes::from_static(b"o")),
        headers: HeaderText::default(),
        sip_call_id: "a@phone".to_owned(),
        source: ([192, 0, 2, 9], 5060).into(),
        max_forwards: 69,
    }
}

async fn server(hold_records: bool, calls: usize) -> (Arc<AppServer>, Arc<World>, UnboundedReceiver<String>) {
    let (said, lines) = unbounded_channel();
    let world =
        Arc::new(World { said, held: Mutex::default(), hold_records, notes_to_fail: AtomicUsize::new(0) });
    let snapshot = Snapshot::build(&Configuration::demo()).unwrap();
    let rates = Arc::new(ArcSwap::from_pointee(Rates::new(snapshot)));
    let log = Arc::clone(&world) as Arc<dyn CallLog>;
    let deps = Deps::new(rates, log, Arc::new(|| 1_000_000), NodeId(1), 1);
    let server =
        AppServer::start(deps, Limits { calls, ring: std::time::Duration::from_secs(30) }).await.unwrap();
    server.connect(Arc::clone(&world) as _, Arc::clone(&world) as _, Arc::clone(&world) as _);
    (server, world, lines)
}

async fn expect(lines: &mut UnboundedReceiver<String>, wanted: &[&str]) {
    for line in wanted {
        assert_eq!(lines.recv().await.as_deref(), Some(*line), "wanted {wanted:?}");
    }
}

async fn established(server: &AppServer, lines: &mut UnboundedReceiver<String>) {
    assert!(server.incoming(incoming(CALL)));
    expect(lines, &["INVITE sip:bob@192.0.2.1", "noted"]).await;
    let answer = LegEvent::Answered { sdp: Some(Bytes::from_static(b"a")), fork: 0 };
    Calls::event(server, CallId::new(NodeId(1), CALL), LegId::new(NodeId(1), 0, 2), answer);
    expect(lines, &["l1000000000001 Accept", "noted"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_actor_panics_is_buried() {
    let (server, _world, mut lines) = server(false, 10).await;
    established(&server, &mut lines).await;
    server.crash(CallId::new(NodeId(1), CALL));
    expect(
        &mut lines,
        &["l1000000000001 Bye", "l1000000000002 Bye", "media closed", "record 500 Call failed"],
    )
    .await;
    server.idle().await;
    let Stats { calls, calls_total, crashed_total, records_total, .. } = server.stats();
    assert_eq!((calls, calls_total, crashed_total, records_total), (0, 1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_by_client_until_they_are_over() {
    let (server, _world, mut lines) = server(false, 10).await;
    let counts = |server: &AppServer| [1, 2].map(|client| server.calls_of(Id::new(client)));
    assert_eq!(counts(&server), [0, 0]);
    established(&server, &mut lines).await;
    assert_eq!(counts(&server), [1, 0]);
    server.crash(CallId::new(NodeId(1), CALL));
    expect(
        &mut lines,
        &["l1000000000001 Bye", "l1000000000002 Bye", "media closed", "record 500 Call failed"],
    )
    .await;
    while server.calls_of(Id::new(1)) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_call_is_buried_and_the_next_one_lives() {
    let (server, _world, mut lines) = server(false, 10).await;
    established(&server, &mut lines).await;
    server.kill(CallId::new(NodeId(1), CALL));
    expect(
        &mut lines,
        &["l1000000000001 Bye", "l1000000000002 Bye", "media closed", "record 500 Call failed"],
    )
    .await;
    server.idle().await;
    assert!(server.incoming(incoming(2)));
    expect(&mut lines, &["INVITE sip:bob@192.0.2.1", "noted"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_lives_until_its_record_is_durable() {
    let (server, world, mut lines) = server(true, 1).await;
    established(&server, &mut lines).await;
    server.drain();
    let hanging_up = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.hang_up_all().await }
    });
    expect(&mut lines, &["l1000000000001 Bye", "l1000000000002 Bye", "record 503 Shutting down"]).await;
    tokio::task::yield_now().await;
    assert_eq!((server.stats().calls, hanging_up.is_finished()), (1, false));
    let done = world.held.lock().unwrap().pop().unwrap();
    done(false);
    expect(&mut lines, &["record 503 Shutting down"]).await;
    let done = world.held.lock().unwrap().pop().unwrap();
    done(true);
    expect(&mut lines, &["media closed"]).await;
    hanging_up.await.unwrap();
    assert_eq!(server.stats().records_total, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_comes_while_the_server_drains_is_refused_and_written_down() {
    let (server, _world, mut lines) = server(false, 10).await;
    assert!(server.incoming(incoming(CALL)), "taken, and its shard has not seen it yet");
    server.drain();
    expect(&mut lines, &["l1000000000001 Reject", "record 503 Shutting down"]).await;
    server.idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_user_makes_so_many_unanswered_calls_at_once() {
    let (server, _world, mut lines) = server(false, 100).await;
    for number in 1..=u64::from(UNANSWERED_MAX) {
        assert!(server.incoming(incoming(number)));
        expect(&mut lines, &["INVITE sip:bob@192.0.2.1", "noted"]).await;
    }
    assert!(server.incoming(incoming(50)));
    expect(&mut lines, &["l1000000000001 Reject", "record 503 Too many unanswered calls"]).await;
    // An answered one does not count any more, and one that is over neither.
    let answer = LegEvent::Answered { sdp: Some(Bytes::from_static(b"a")), fork: 0 };
    Calls::event(&*server, CallId::new(NodeId(1), 1), LegId::new(NodeId(1), 0, 2), answer);
    expect(&mut lines, &["l1000000000001 Accept", "noted"]).await;
    let given_up = LegEvent::Cancelled { reason: None };
    Calls::event(&*server, CallId::new(NodeId(1), 2), LegId::new(NodeId(1), 0, 1), given_up);
    expect(&mut lines, &["l1000000000002 Cancel", "record 487 Cancelled", "media closed"]).await;
    for number in [51, 52] {
        assert!(server.incoming(incoming(number)));
        expect(&mut lines, &["INVITE sip:bob@192.0.2.1", "noted"]).await;
    }
    assert!(server.incoming(incoming(53)));
    expect(&mut lines, &["l1000000000001 Reject", "record 503 Too many unanswered calls"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_note_that_cannot_be_written_is_made_again_and_no_call_begins_meanwhile() {
    let (server, world, mut lines) = server(false, 10).await;
    world.notes_to_fail.store(2, Ordering::Relaxed);
    assert!(server.incoming(incoming(CALL)));
    expect(&mut lines, &["INVITE sip:bob@192.0.2.1", "noted"]).await;
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    assert!(!server.incoming(incoming(2)));
    expect(&mut lines, &["noted", "noted"]).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(lines.try_recv().is_err(), "it is written");
    assert!(server.incoming(incoming(3)));
    expect(&mut lines, &["INVITE sip:bob@192.0.2.1", "noted"]).await;
}

#[tokio::test(start_paused = true)]
async fn more_calls_than_the_limit_are_not_taken() {
    let (server, _world, mut lines) = server(false, 1).await;
    established(&server, &mut lines).await;
    assert!(!server.incoming(incoming(2)));
}

#[tokio::test(start_paused = true)]
async fn a_leg_whose_call_is_gone_is_hung_up() {
    let (server, _world, mut lines) = server(false, 1).await;
    let (call, leg) = (CallId::new(NodeId(1), 9), LegId::new(NodeId(1), 0, 9));
    Calls::event(&*server, call, leg, LegEvent::Cancelled { reason: None });
    Calls::event(&*server, call, leg, LegEvent::Answered { sdp: None, fork: 0 });
    expect(&mut lines, &["l1000000000009 Bye"]).await;
}

/// Counts for all nodes: says what it is asked, and answers when the test does.
struct Elsewhere(UnboundedSender<String>);

impl counters::Limits for Elsewhere {
    fn reserve(&self, title: Title, number: u32, claims: &[Claim]) -> Option<Verdict> {
        let _ = self.0.send(format!("{} asks {number} for {}", title.call, claims.len()));
        None
    }

    fn adopt(&self, _: Title, _: &[Claim]) {}

    fn release(&self, call: CallId, claims: &[Claim]) {
        if !claims.is_empty() {
            let _ = self.0.send(format!("{call} gives back {}", claims.len()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_call_counts_for_elsewhere_is_given_back_once_however_it_ends() {
    let (server, _world, mut lines) = server(false, 10).await;
    let (said, mut asked) = unbounded_channel();
    server.limit_by(Arc::new(Elsewhere(said)));
    let call = |number| CallId::new(NodeId(1), number);
    for number in 1..=3 {
        assert!(server.incoming(incoming(number)));
        expect(&mut asked, &[&format!("c100000000000{number} asks 0 for 3")]).await;
    }
    assert!(lines.try_recv().is_err(), "nothing rings yet");
    // The first has a place, is answered and fails; the second is one too many; the third gives up before it knows.
    server.reserved(call(1), 0, Verdict::Granted);
    expect(&mut lines, &["INVITE sip:bob@192.0.2.1", "noted"]).await;
    let answer = LegEvent::Answered { sdp: Some(Bytes::from_static(b"a")), fork: 0 };
    Calls::event(&*server, call(1), LegId::new(NodeId(1), 0, 2), answer);
    expect(&mut lines, &["l1000000000001 Accept", "noted"]).await;
    expect(&mut asked, &["c1000000000001 gives back 1"]).await;
    server.crash(call(1));
    expect(&mut asked, &["c1000000000001 gives back 2"]).await;
    server.reserved(call(2), 0, Verdict::Full(Counted::User(Id::new(2))));
    Calls::event(&*server, call(3), LegId::new(NodeId(1), 0, 1), LegEvent::Cancelled { reason: None });
    expect(&mut asked, &["c1000000000003 gives back 3"]).await;
    server.reserved(call(3), 0, Verdict::Granted);
    server.idle().await;
    assert!(asked.try_recv().is_err(), "nothing is given back twice");
    let mut records = Vec::new();
    while let Ok(line) = lines.try_recv() {
        records.extend(line.strip_prefix("record ").map(str::to_owned));
    }
    records.sort();
    assert_eq!(records, ["486 Call waiting limit reached", "487 Cancelled", "500 Call failed"]);
}
