//! What calls become in the lists, and that each is there once, whoever dies on the way.
//!
//! Elsewhere: power cuts at every operation of either side (tests of `store`).

use super::entries::{entries, takes};
use super::*;
use model::define::Entity;
use model::define::choices::Direction;
use model::entities::{
    BillableCall, BillableCallEndpointType, Carrier, Company, CompanyKind, Destination, Friend,
    RatingPlanGroup, SpecialNumber, User, UsersCdr, UsersCdrDisposition,
};
use model::{
    CallDirection, CallEndpoint, CarrierAttempt, Cause, CdrLeg, EndpointKind, ExternalCall, HungUpBy, Id,
    LegRole, MediaReport, Party, Tariff, Trunk,
};
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use store::config::{CallStory, CallWord, ConfigOptions, ConfigPlace, Keyring, RecordQuery};
use store::{Options, Record};
use tokio::sync::oneshot;

fn rows() -> Rows {
    let mut rows = Rows::default();
    for (id, kind) in [(1, CompanyKind::Vpbx), (2, CompanyKind::Vpbx), (3, CompanyKind::Wholesale)] {
        rows.insert(Arc::new(Company { id: Id::new(id), kind, brand: Id::new(1), ..Company::default() }));
    }
    for (id, company, name) in [(1, 1, "Alice"), (2, 1, "Bob"), (3, 2, "Carol")] {
        let (name, lastname) = (name.to_owned(), "Example".to_owned());
        let (id, company) = (Id::new(id), Id::new(company));
        rows.insert(Arc::new(User { id, company, name, lastname, ..User::default() }));
    }
    let friend =
        Friend { id: Id::new(1), company: Id::new(2), name: "office".to_owned(), ..Friend::default() };
    rows.insert(Arc::new(friend));
    rows.insert(Arc::new(Carrier { id: Id::new(4), name: "Bulk".to_owned(), ..Carrier::default() }));
    let mut destination = Destination { id: Id::new(7), ..Destination::default() };
    destination.name.en = "Spain".to_owned();
    rows.insert(Arc::new(destination));
    let mut plan = RatingPlanGroup { id: Id::new(6), ..RatingPlanGroup::default() };
    plan.name.en = "Standard".to_owned();
    rows.insert(Arc::new(plan));
    let number_e164 = Some("+34016".to_owned());
    rows.insert(Arc::new(SpecialNumber {
        id: Id::new(1),
        number_e164,
        disable_cdr: 1,
        ..Default::default()
    }));
    rows
}

fn tariff(minute: &str) -> Tariff {
    Tariff {
        connect_fee: Decimal::ZERO,
        per_minute: minute.parse().unwrap(),
        interval_start: 0,
        charge_period: 1,
        minimal_cost: false,
        currency: Id::new(1),
        plan: Id::new(6),
        destination: Id::new(7),
    }
}

fn leaves(client: u32) -> ExternalCall {
    let (carrier, server) = (Id::new(4), Id::new(5));
    ExternalCall {
        direction: CallDirection::Outbound,
        brand: Id::new(1),
        client: Id::new(client),
        caller: Some("+34911000001".parse().unwrap()),
        callee: "+34600123456".parse().unwrap(),
        ddi: Some(Id::new(8)),
        endpoint: Some(CallEndpoint { kind: EndpointKind::User, id: 1, name: "101".to_owned() }),
        trunk: Some(Trunk::Carrier { carrier, server }),
        sip_call_id: "trunk-1".to_owned(),
        tag: None,
        price: Some(tariff("0.60")),
        cost: Some(tariff("0.06")),
        x_tag: Some("campaign".to_owned()),
        attempts: vec![
            CarrierAttempt { carrier: Id::new(9), server, status: 503 },
            CarrierAttempt { carrier, server, status: 200 },
        ],
    }
}

fn comes(client: u32) -> ExternalCall {
    ExternalCall {
        direction: CallDirection::Inbound,
        client: Id::new(client),
        endpoint: Some(CallEndpoint { kind: EndpointKind::Friend, id: 1, name: "office".to_owned() }),
        trunk: None,
        sip_call_id: "caller-1".to_owned(),
        price: None,
        cost: None,
        attempts: Vec::new(),
        ..leaves(client)
    }
}

/// A call of Alice that talks for ten seconds and a half.
fn cdr(call: &str) -> Cdr {
    let media = MediaReport {
        packets_received: 990,
        lost: 10,
        jitter_us: 1500,
        mos_hundredths: Some(412),
        ..MediaReport::default()
    };
    let leg = |role, id: &str, media| CdrLeg { role, sip_call_id: id.into(), endpoint: String::new(), media };
    Cdr {
        call: call.to_owned(),
        brand: Id::new(1),
        client: Id::new(1),
        caller: Party { number: "101".into(), name: "Alice Example".into(), user: Some(Id::new(1)) },
        callee: Party { number: "102".into(), name: String::new(), user: None },
        dialed: "102".into(),
        started_us: 1_600_000_000_000_000,
        answered_us: Some(1_600_000_005_000_000),
        ended_us: 1_600_000_015_500_000,
        hung_up_by: HungUpBy::Callee,
        cause: Cause { status: 200, text: "OK".into() },
        legs: vec![
            leg(LegRole::Caller, "alice", Some(media)),
            leg(LegRole::Callee, "other", None),
            leg(LegRole::Answerer, "trunk-1", None),
        ],
        externals: Vec::new(),
        node: 3,
        relay: Some(4),
    }
}

/// A call, and an external one that it can have.
pub(crate) fn sample() -> (Cdr, ExternalCall) {
    (cdr("c1"), leaves(1))
}

fn split(made: &[Row]) -> (Vec<BillableCall>, Vec<UsersCdr>) {
    (
        made.iter().filter_map(|row| row.cast::<BillableCall>().cloned()).collect(),
        made.iter().filter_map(|row| row.cast::<UsersCdr>().cloned()).collect(),
    )
}

#[test]
fn an_external_call_is_listed_with_its_price_and_all_that_is_known_of_it() {
    let call = Cdr { externals: vec![leaves(1)], ..cdr("c1") };
    let (billable, users) = split(&entries(&call, "w", &rows()));
    let [row] = &billable[..] else { panic!("{billable:?}") };
    assert_eq!(row.start_time.as_second(), 1_600_000_005, "its time is that of the answer");
    assert_eq!((row.duration, row.direction), (10.5, Direction::Outbound));
    assert_eq!((row.price, row.cost), (Some("0.1100".parse().unwrap()), Some("0.0110".parse().unwrap())));
    assert_eq!((row.caller.as_deref(), row.callee.as_deref()), (Some("+34911000001"), Some("+34600123456")));
    assert_eq!(row.callid.as_deref(), Some("trunk-1"));
    let names = (&row.carrier_name, &row.destination_name, &row.rating_plan_name);
    assert_eq!(names, (&Some("Bulk".into()), &Some("Spain".into()), &Some("Standard".into())));
    assert_eq!((row.carrier, row.ddi_provider, row.ddi), (Some(Id::new(4)), None, Some(Id::new(8))));
    assert_eq!(row.endpoint_type, Some(BillableCallEndpointType::User));
    assert_eq!((row.endpoint_id, row.endpoint_name.as_deref()), (Some(1), Some("101")));
    assert_eq!((row.x_tag.as_deref(), row.hangup_cause.as_deref()), (Some("campaign"), Some("200 OK")));
    assert_eq!((row.mos_caller, row.mos_callee), (Some(Decimal::new(412, 2)), None));
    assert_eq!((row.loss_caller, row.jitter_caller), (Some(Decimal::ONE), Some(Decimal::new(1500, 3))));
    assert_eq!((row.node, row.relay), (Some(3), Some(4)));
    let attempts = row.attempts.as_ref().unwrap();
    assert_eq!(attempts[0], json!({ "carrier": 9, "name": null, "server": 5, "status": 503 }));
    assert_eq!(row.price_details.as_ref().unwrap()["cost"]["total"], "0.0110");
    let [own] = &users[..] else { panic!("{users:?}") };
    assert_eq!(own.start_time.as_second(), 1_600_000_000, "and here that of its beginning");
    assert_eq!((own.caller.as_deref(), own.callee.as_deref()), (Some("101"), Some("+34600123456")));
    assert_eq!((own.owner.as_deref(), own.callid.as_deref()), (Some("Alice Example"), Some("alice")));
}

#[test]
fn who_has_a_part_in_a_call_has_an_entry_of_his_own() {
    let between = Cdr { externals: vec![leaves(1), comes(2)], ..cdr("c1") };
    let within = Cdr { callee: Party { user: Some(Id::new(2)), ..cdr("").callee }, ..cdr("c2") };
    let wholesale = Cdr {
        client: Id::new(3),
        caller: Party { user: None, ..cdr("").caller },
        externals: vec![ExternalCall { endpoint: None, ..leaves(3) }],
        ..cdr("c3")
    };
    let unanswered = |status, text: &str| Cdr {
        answered_us: None,
        cause: Cause { status, text: text.into() },
        externals: vec![leaves(1)],
        ..cdr("c4")
    };
    let special = Cdr { callee: Party { number: "+34016".into(), ..Party::default() }, ..cdr("c5") };
    let table = [
        (between, vec!["out 1", "in 2"], vec!["out 1 Alice answered", "in 2 office answered"]),
        (within, vec![], vec!["out 1 Alice answered", "in 1 Bob answered"]),
        (wholesale, vec!["out 3"], vec![]),
        (unanswered(486, "Busy Here"), vec![], vec!["out 1 Alice busy"]),
        (unanswered(487, "Request Terminated"), vec![], vec!["out 1 Alice missed"]),
        (unanswered(503, "Service Unavailable"), vec![], vec!["out 1 Alice error"]),
        (special, vec![], vec![]),
    ];
    let way = |way: Direction| if matches!(way, Direction::Inbound) { "in" } else { "out" };
    for (call, external, own) in table {
        let (billable, users) = split(&entries(&call, "w", &rows()));
        let told: Vec<String> =
            billable.iter().map(|row| format!("{} {}", way(row.direction), row.company.unwrap())).collect();
        assert_eq!(told, external, "{}", call.call);
        let told = |row: &UsersCdr| {
            let owner = row.owner.as_deref().unwrap().split(' ').next().unwrap();
            let disposition = match row.disposition.unwrap() {
                UsersCdrDisposition::Answered => "answered",
                UsersCdrDisposition::Missed => "missed",
                UsersCdrDisposition::Busy => "busy",
                UsersCdrDisposition::Error => "error",
            };
            format!("{} {} {owner} {disposition}", way(row.direction.unwrap()), row.company.unwrap())
        };
        assert_eq!(users.iter().map(told).collect::<Vec<_>>(), own, "{}", call.call);
        let mut origins: Vec<_> = billable.iter().map(|row| &row.origin).collect();
        origins.dedup();
        assert_eq!(origins.len(), billable.len(), "each is another");
    }
}

#[test]
fn a_later_word_replaces_what_is_in_no_invoice() {
    let row = |word: &str, invoice: Json| -> Map<String, Json> {
        let Json::Object(row) = json!({ "originWord": word, "invoice": invoice, "numRecordings": 2 }) else {
            panic!("it is an object")
        };
        row
    };
    let taken = |old: Map<String, Json>, word: &str| {
        let mut new = row(word, Json::Null);
        new["numRecordings"] = json!(0);
        takes(&old, &mut new).then(|| new["numRecordings"].clone())
    };
    assert_eq!(taken(row("00000001.1.0001", Json::Null), "00000001.2.0001"), Some(json!(2)));
    assert_eq!(taken(row("00000001.2.0001", Json::Null), "00000001.2.0001"), None);
    assert_eq!(taken(row("00000010.1.0001", Json::Null), "00000002.2.0001"), None);
    assert_eq!(taken(row("00000001.1.0001", json!(5)), "00000001.2.0001"), None);
}

#[test]
fn texts_are_cut_to_what_the_tables_take() {
    let mut call = Cdr { externals: vec![leaves(1)], ..cdr(&"c".repeat(300)) };
    call.externals[0].sip_call_id = "x".repeat(3000);
    call.cause.text = "ü".repeat(3000);
    call.caller.number = "1".repeat(3000);
    for row in entries(&call, "w", &rows()) {
        let document = model::import::document(&*row);
        for field in row.table().fields.iter().filter(|field| field.max > 0) {
            let length = document[field.name].as_str().map_or(0, |text| text.chars().count());
            assert!(length <= field.max, "{} has {length}", field.name);
        }
    }
}

fn journal(dir: &Path) -> Store {
    Store::open_with(dir, Options { sync_gap: Duration::ZERO, ..Options::default() }).unwrap()
}

async fn lists(dir: &Path) -> ConfigStore {
    let keys = Keyring::new([("a".to_owned(), [1; 32])]).unwrap();
    ConfigStore::open(ConfigOptions::new(ConfigPlace::Directory(dir.to_owned()), keys)).await.unwrap()
}

/// Nobody ends the work.
fn open_ended() -> watch::Receiver<bool> {
    watch::channel(false).1
}

async fn ends(store: &Store, cdr: Cdr) {
    let (tell, told) = oneshot::channel();
    store.append(Record::CallEnded(Box::new(cdr)), move |kept| tell.send(kept).unwrap());
    told.await.unwrap().unwrap();
}

async fn billed(lists: &ConfigStore) -> Vec<String> {
    let all = RecordQuery { limit: 10_000, ..RecordQuery::new(BillableCall::definition()) };
    let page = lists.query(&all).await.unwrap();
    assert_eq!(page.rows.len() as u64, page.total);
    let mut found: Vec<String> =
        page.rows.iter().map(|row| row.cast::<BillableCall>().unwrap().origin.clone().unwrap()).collect();
    found.sort();
    found
}

#[tokio::test]
async fn calls_of_a_node_alone_are_listed_once_and_only_what_is_new_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let (store, lists) = (journal(dir.path()), lists(dir.path()).await);
    let rows = || Arc::new(rows());
    for number in 0..1200 {
        let started_us = 1_600_000_000_000_000 + number;
        let call = Cdr { externals: vec![leaves(1), comes(2)], started_us, ..cdr(&format!("c{number}")) };
        store.append(Record::CallEnded(Box::new(call)), |kept| kept.unwrap());
    }
    // Records are kept in their order: with this one all are.
    ends(&store, Cdr { externals: vec![leaves(1), comes(2)], ..cdr("c1200") }).await;
    assert_eq!(list(&store, &lists, rows, &open_ended(), &mut DayUsage::default()).await.unwrap(), 1201);
    assert_eq!(list(&store, &lists, rows, &open_ended(), &mut DayUsage::default()).await.unwrap(), 0);
    ends(&store, Cdr { externals: vec![leaves(1)], ..cdr("last") }).await;
    assert_eq!(list(&store, &lists, rows, &open_ended(), &mut DayUsage::default()).await.unwrap(), 1);
    let found = billed(&lists).await;
    let unique: BTreeSet<&String> = found.iter().collect();
    assert_eq!((found.len(), unique.len()), (2403, 2403));
    let of_client =
        RecordQuery { reference: Some(("company", 2)), ..RecordQuery::new(BillableCall::definition()) };
    assert_eq!(lists.query(&of_client).await.unwrap().total, 1201, "each client sees its own");
    // Names are those of the time; a node that comes back does nothing again.
    drop((store, lists));
    let (store, lists) = (journal(dir.path()), super::tests::lists(dir.path()).await);
    assert_eq!(list(&store, &lists, rows, &open_ended(), &mut DayUsage::default()).await.unwrap(), 0);
    assert_eq!(billed(&lists).await.len(), 2403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_word_of_a_cluster_takes_the_place_of_an_earlier_one_in_the_lists() {
    let world = crate::records::tests::World::of("listing".to_owned()).await;
    let dir = tempfile::tempdir().unwrap();
    let lists = lists(dir.path()).await;
    let rows = || Arc::new(rows());
    let word = |epoch, node, is_lost: bool, ended_us| {
        let cdr = Box::new(Cdr { externals: vec![leaves(1), comes(2)], ended_us, ..cdr("c1") });
        let story = if is_lost { CallStory::Lost(cdr) } else { CallStory::Ended(cdr) };
        CallWord { epoch, node, story }
    };
    let lengths = async || {
        let all = RecordQuery::new(BillableCall::definition());
        let page = lists.query(&all).await.unwrap();
        page.rows.iter().map(|row| row.cast::<BillableCall>().unwrap().duration).collect::<Vec<_>>()
    };
    let answered_us = cdr("").answered_us.unwrap();
    let said = [
        (word(0, 1, true, answered_us + 1_000_000), 1, 1.0),
        (word(1, 2, false, answered_us + 3_000_000), 1, 3.0),
        // Whoever had the call before wakes too late.
        (word(0, 1, false, answered_us + 2_000_000), 0, 3.0),
    ];
    for (word, count, length) in said {
        world.table.put(&[word]).await.unwrap();
        // Two nodes that both believe that it is theirs.
        let never = open_ended();
        let (mut usage, mut others) = (DayUsage::default(), DayUsage::default());
        let (one, other) = tokio::join!(
            list(&world.table, &lists, rows, &never, &mut usage),
            list(&world.table, &lists, rows, &never, &mut others)
        );
        assert!(one.unwrap().max(other.unwrap()) >= count);
        assert_eq!(lengths().await, [length, length]);
    }
    assert_eq!(list(&world.table, &lists, rows, &open_ended(), &mut DayUsage::default()).await.unwrap(), 0);
}

const DIR: &str = "CARILLON_LISTING_TEST_DIR";
const FIRST: &str = "CARILLON_LISTING_TEST_FIRST";
const NAME: &str = "listing::tests::whoever_is_killed_while_listing_leaves_each_call_listed_once";

/// The test starts its own binary once more as the victim, which prints each call whose record is durable, and lists
/// them as fast as it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_while_listing_leaves_each_call_listed_once() {
    if let Ok(dir) = std::env::var(DIR) {
        return victim(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut durable = BTreeSet::new();
    let mut half_done = 0;
    for (round, until) in (0_u32..).zip([20, 150, 700, 40, 900, 333]) {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture"])
            .env(DIR, dir.path())
            .env(FIRST, (round * 1_000_000).to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut note = |line: &str| line.strip_prefix("durable ").map(|call| durable.insert(call.to_owned()));
        let mut left = until;
        while left > 0 {
            let line = lines.next().expect("the victim died by itself");
            left -= usize::from(note(&line).is_some());
        }
        victim.kill().unwrap();
        lines.for_each(|line| {
            note(&line);
        });
        victim.wait().unwrap();
        let (store, lists) = (journal(dir.path()), lists(dir.path()).await);
        let there: BTreeSet<String> = billed(&lists).await.into_iter().collect();
        let due = store.unlisted(None, 1_000_000).unwrap();
        half_done += due
            .iter()
            .filter(|(_, cdr)| there.contains(&format!("{} out 1", cdr.as_ref().unwrap().call)))
            .count();
        if round % 2 == 1 {
            list(&store, &lists, || Arc::new(rows()), &open_ended(), &mut DayUsage::default()).await.unwrap();
        }
    }
    let (store, lists) = (journal(dir.path()), lists(dir.path()).await);
    list(&store, &lists, || Arc::new(rows()), &open_ended(), &mut DayUsage::default()).await.unwrap();
    let found = billed(&lists).await;
    let unique: BTreeSet<String> = found.iter().cloned().collect();
    assert_eq!(unique.len(), found.len(), "some are listed twice");
    let missing: Vec<&String> =
        durable.iter().filter(|call| !unique.contains(&format!("{call} out 1"))).collect();
    assert_eq!(missing.len(), 0, "of {}, such as {:?}", durable.len(), missing.first());
    assert_eq!(unique.len() as u64, store.cdr_count().unwrap());
    println!("{} calls, {half_done} were listed and not noted", unique.len());
}

async fn victim(dir: &Path) {
    let first: u32 = std::env::var(FIRST).unwrap().parse().unwrap();
    let (store, lists) = (journal(dir), lists(dir).await);
    let ending = store.clone();
    let say = |line: String| std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
    let calls = async move {
        for number in first.. {
            let started_us = i64::from(number);
            let call = Cdr { externals: vec![leaves(1)], started_us, ..cdr(&format!("c{number}")) };
            ends(&ending, call).await;
            say(format!("durable c{number}"));
        }
    };
    let listing = async {
        loop {
            list(&store, &lists, || Arc::new(rows()), &open_ended(), &mut DayUsage::default()).await.unwrap();
        }
    };
    tokio::join!(calls, listing);
}

/// Calls of clients of the sample system, whose brand 1 lives in Madrid.
async fn spends(lists: &ConfigStore, usage: &mut DayUsage, calls: &[(u32, &str, Direction, Option<&str>)]) {
    let row = |(client, answered, direction, price): &(u32, &str, Direction, Option<&str>)| -> Row {
        Arc::new(BillableCall {
            company: Some(Id::new(*client)),
            start_time: answered.parse().unwrap(),
            direction: *direction,
            price: price.map(|price| price.parse().unwrap()),
            ..BillableCall::default()
        })
    };
    let rows: Vec<Row> = calls.iter().map(row).collect();
    lists.append(rows.clone()).await.unwrap();
    usage.note(&rows);
}

#[tokio::test]
async fn what_a_client_spent_today_is_what_its_calls_since_midnight_in_the_brands_zone_cost() {
    use Direction::{Inbound, Outbound};
    let dir = tempfile::tempdir().unwrap();
    let lists = Arc::new(lists(dir.path()).await);
    let document = serde_json::from_str(include_str!("../../../../tests/data/sample-system.json")).unwrap();
    let then = "2026-11-20T10:00:00Z".parse().unwrap();
    let (_, changes, _) =
        model::import::import(&document, &Rows::default(), true, then, &api::Hasher).unwrap();
    lists.commit(0, &changes, &json!({}), then).await.unwrap();
    let keeper = Arc::new(crate::kept::Kept(Arc::clone(&lists)));
    let live = Live::new(lists.load().await.unwrap(), keeper, Arc::new(api::Hasher));
    let client = |id: u32| live.rows().get(Id::<Company>::new(id)).unwrap().clone();
    let spent = |id: u32| client(id).current_day_usage.unwrap_or_default().to_string();
    let who = api::live::Who::system();
    let limited = live.change(None, &who, |draft| {
        draft.change(Id::<Company>::new(2), |row| (row.max_daily_usage, row.current_day_usage) = (2, None))
    });
    limited.await.unwrap();
    assert_eq!((client(1).brand, client(2).brand), (Id::new(1), Id::new(1)));
    let midday: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
    let mut usage = DayUsage::default();
    spends(
        &lists,
        &mut usage,
        &[
            (2, "2026-11-28T22:59:59Z", Outbound, Some("7")),
            (2, "2026-11-28T23:00:00Z", Outbound, Some("0.5")),
            (2, "2026-11-29T09:00:00Z", Outbound, Some("1.2501")),
            (2, "2026-11-29T09:00:00Z", Inbound, Some("9")),
            (2, "2026-11-29T09:00:00Z", Outbound, None),
            (1, "2026-11-29T09:00:00Z", Outbound, Some("0.0001")),
        ],
    )
    .await;
    // Whoever begins looks at all clients: what was noted by somebody who died is found.
    usage = DayUsage::default();
    let start = Instant::now();
    assert!(usage.settle(&lists, &live, midday, start).await.unwrap() >= 2);
    assert_eq!((spent(1), spent(2)), ("0.0001".into(), "1.7501".into()));
    assert!(!client(2).has_reached_daily_limit());
    let later = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(usage.settle(&lists, &live, midday, later(5)).await.unwrap(), 0, "nothing is new");
    // Client 1 was written a moment ago and is far from its limit; client 2 comes to it.
    let more = [
        (1, "2026-11-29T10:00:00Z", Outbound, Some("1")),
        (2, "2026-11-29T10:00:00Z", Outbound, Some("0.2499")),
    ];
    spends(&lists, &mut usage, &more).await;
    assert_eq!(usage.settle(&lists, &live, midday, start).await.unwrap(), 0, "they were read just now");
    assert_eq!(usage.settle(&lists, &live, midday, later(10)).await.unwrap(), 1);
    assert_eq!((spent(1), spent(2)), ("0.0001".into(), "2".into()));
    assert!(client(2).has_reached_daily_limit());
    assert_eq!(usage.settle(&lists, &live, midday, later(59)).await.unwrap(), 0);
    assert_eq!(
        usage.settle(&lists, &live, midday, later(60)).await.unwrap(),
        1,
        "a minute after the last time"
    );
    assert_eq!(spent(1), "1.0001");
    // Midnight in Madrid, not here.
    let at = |time: &str| time.parse::<Timestamp>().unwrap();
    assert_eq!(usage.settle(&lists, &live, at("2026-11-29T22:59:59Z"), later(70)).await.unwrap(), 0);
    assert_eq!(usage.settle(&lists, &live, at("2026-11-29T23:00:00Z"), later(71)).await.unwrap(), 2);
    assert_eq!((spent(1), spent(2)), ("0".into(), "0".into()));
    assert!(!client(2).has_reached_daily_limit());
}
