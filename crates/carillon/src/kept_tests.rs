//! The API over a real store: the audit log, its trimming, and operations on records, which are not among the rows.
//!
//! Elsewhere: the dialect over rows in memory (crate `api`), the store by itself (crate `store`).

use crate::kept::{Housekeeping, Kept, LOOK_AGAIN, keep_trimmed, trim};
use api::live::{Keeper as _, Live, Who};
use api::outside::{Alone, Surroundings};
use api::server::{Api, router};
use api::{FileLimits, Hasher, Storage, Tokens};
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use jiff::{Timestamp, ToSpan as _};
use model::Id;
use model::define::choices::Direction;
use model::define::{Entity as _, Record};
use model::entities::{BillableCall, Brand, Company, RoutingPatternGroup, UsersCdr};
use model::rows::{Row, Rows};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::config::{
    Changes, ConfigError, ConfigOptions, ConfigPlace, ConfigStore, Keyring, Outcome, OwnerFence, RecordQuery,
};
use tower::ServiceExt as _;

struct World {
    store: Arc<ConfigStore>,
    live: Arc<Live>,
    router: axum::Router,
    _dir: tempfile::TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Json {
        serde_json::from_str(&self.text).unwrap_or(Json::Null)
    }

    fn list(&self) -> Vec<Json> {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json().as_array().cloned().expect("a list")
    }

    fn total(&self) -> usize {
        self.headers["x-total-items"].to_str().unwrap().parse().unwrap()
    }
}

/// The sample system in a store in a file, made ten days ago, and a server over it.
async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keyring::new([("data".to_owned(), [7; 32])]).unwrap();
    let options = ConfigOptions::new(ConfigPlace::Directory(dir.path().join("data")), keys);
    let store = Arc::new(ConfigStore::open(options).await.unwrap());
    let document = serde_json::from_str(include_str!("../../../tests/data/sample-system.json")).unwrap();
    let then = Timestamp::now().checked_sub(240.hours()).unwrap();
    let (_, changes, _) = model::import::import(&document, &Rows::default(), true, then, &Hasher).unwrap();
    let made = store.commit(0, &changes, &Who::system().document(), then).await.unwrap();
    assert!(matches!(made, Outcome::Done { revision: 1, .. }));
    let rows = store.load().await.unwrap();
    let live = Arc::new(Live::new(rows, Arc::new(Kept(Arc::clone(&store))), Arc::new(Hasher)));
    let surroundings = Surroundings {
        outside: Arc::new(Alone),
        storage: Storage::new(dir.path().join("files"), FileLimits::default()),
    };
    let api =
        Api { live: Arc::clone(&live), tokens: Tokens::default(), surroundings, watchers: Arc::default() };
    World { store, live, router: router(Arc::new(api)), _dir: dir }
}

impl World {
    async fn send(
        &self,
        token: &str,
        method: &str,
        path: &str,
        accept: &str,
        body: Option<String>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api/{path}"));
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request = request.header("accept", accept).header("host", "platform.example.com");
        let kind = if token.is_empty() { "application/x-www-form-urlencoded" } else { "application/json" };
        let request =
            request.header("content-type", kind).body(Body::from(body.unwrap_or_default())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
        let text = String::from_utf8(bytes).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    async fn log_in(&self, level: &str, name: &str) -> String {
        let (path, field) =
            if level == "user" { ("user_login", "email") } else { ("admin_login", "username") };
        let form = format!("{field}={}&password=changeme", name.replace('@', "%40"));
        let answer = self.send("", "POST", &format!("{level}/{path}"), "application/json", Some(form)).await;
        answer.json()["token"].as_str().unwrap_or_else(|| panic!("{name}: {}", answer.text)).to_owned()
    }

    async fn get(&self, token: &str, path: &str) -> Answer {
        self.send(token, "GET", path, "application/json", None).await
    }

    async fn put(&self, token: &str, path: &str, body: Json) -> Answer {
        self.send(token, "PUT", path, "application/json", Some(body.to_string())).await
    }

    async fn append(&self, records: Vec<Row>) -> Vec<u32> {
        self.store.append(records).await.unwrap()
    }

    /// Renames a client as the platform itself does.
    async fn rename(&self, client: u32, name: &str) {
        let rename = |draft: &mut model::draft::Draft<'_>| {
            draft.change(Id::<Company>::new(client), |client| client.name = name.to_owned())
        };
        self.live.change(None, &Who::system(), rename).await.unwrap();
    }
}

fn call(callid: &str, company: u32, ago_hours: i64) -> Row {
    let brand = if company == 6 { 2 } else { 1 };
    Arc::new(BillableCall {
        callid: Some(callid.to_owned()),
        start_time: Timestamp::now().checked_sub(ago_hours.hours()).unwrap(),
        caller: Some(format!("+34{callid}")),
        brand: Some(Id::<Brand>::new(brand)),
        company: Some(Id::new(company)),
        carrier: Some(Id::new(1)),
        ..BillableCall::default()
    })
}

fn cdr(user: u32, direction: Direction, ago_hours: i64) -> Row {
    Arc::new(UsersCdr {
        start_time: Timestamp::now().checked_sub(ago_hours.hours()).unwrap(),
        direction: Some(direction),
        company: Some(Id::new(1)),
        user: Some(Id::new(user)),
        ..UsersCdr::default()
    })
}

#[tokio::test]
async fn calls_of_users_are_listed_and_counted_where_the_store_keeps_them() {
    let world = world().await;
    assert_eq!(world.live.rows().count(UsersCdr::definition()), 0, "records are not among the rows");
    let alice = world.log_in("user", "alice@democompany.com").await;
    let number = |answer: &Answer, name: &str| answer.json()[name].as_u64().unwrap();
    let before = number(&world.get(&alice, "user/my/call_stats").await, "totalCalls");
    let month = async || world.get(&alice, "user/my/last_month_calls").await;
    let outbound_before = number(&month().await, "outbound");
    let (inbound, outbound) = (Direction::Inbound, Direction::Outbound);
    let records = vec![
        cdr(1, inbound, 5),
        cdr(1, inbound, 4),
        cdr(1, outbound, 3),
        cdr(1, outbound, 24 * 60),
        cdr(2, outbound, 1),
    ];
    let ids = world.append(records).await;

    assert_eq!(number(&world.get(&alice, "user/my/call_stats").await, "totalCalls"), before + 4);
    let out = outbound_before + 1;
    assert_eq!(
        month().await.json(),
        json!({ "inbound": 2, "outbound": out, "total": out + 2 }),
        "one is older"
    );
    let history = world.get(&alice, "user/my/call_history?_itemsPerPage=3").await;
    let shown: Vec<u64> = history.list().iter().map(|row| row["id"].as_u64().unwrap()).collect();
    assert_eq!(shown, [ids[2], ids[1], ids[0]].map(u64::from), "the newest first, nobody else's");
    assert_eq!(history.total() as u64, before + 4);
    let inbound = world.get(&alice, "user/my/call_history?direction=inbound").await;
    assert!(inbound.list().iter().all(|row| row["direction"] == "inbound"));
    let none = world.get(&alice, "user/my/call_history?startTime[after]=2099-01-01").await;
    assert_eq!(none.total(), 0);
}

#[tokio::test]
async fn external_calls_are_found_rated_and_exported_where_the_store_keeps_them() {
    let world = world().await;
    let ids = world.append(vec![call("one", 5, 50), call("two", 5, 40), call("foreign", 6, 30)]).await;
    let brand = world.log_in("brand", "test_brand_admin").await;

    let rated =
        world.put(&brand, "brand/billable_calls/two/rate", json!({ "price": 1.5, "cost": 0.5 })).await;
    assert_eq!((rated.status, &rated.json()["price"]), (200, &json!(1.5)), "{}", rated.text);
    assert_eq!(rated.json()["id"], json!(ids[1]));
    let found = world.get(&brand, "brand/billable_calls?callid=two").await.list();
    assert_eq!((found.len(), &found[0]["price"]), (1, &json!(1.5)));
    assert_eq!(world.live.rows().count(BillableCall::definition()), 0, "the record stays in the store");
    for callid in ["foreign", "unknown"] {
        let path = format!("brand/billable_calls/{callid}/rate");
        assert_eq!(world.put(&brand, &path, json!({ "price": 1 })).await.status, 404, "{callid}");
    }
    let negative = world.put(&brand, "brand/billable_calls/two/rate", json!({ "price": -1 })).await;
    assert_eq!(negative.status, 400, "{}", negative.text);
    let rate = |id: u32| {
        world.send(&brand, "POST", "brand/billable_calls/rerate", "application/json", Some(format!("[{id}]")))
    };
    assert_eq!(rate(ids[0]).await.status, 501, "it is there, and nobody rates calls yet");
    for id in [ids[2], 4_000_000] {
        assert_eq!(rate(id).await.status, 404, "{id}");
    }

    let all = world.get(&brand, "brand/billable_calls").await.total();
    let csv = world.send(&brand, "GET", "brand/billable_calls?_pagination=false", "text/csv", None).await;
    assert_eq!(csv.text.lines().count(), all + 1);
    assert!(csv.text.contains("+34two") && !csv.text.contains("+34foreign"), "{}", csv.text);
    let by_carrier = world.get(&brand, "brand/billable_calls?carrier=1&_itemsPerPage=5000").await;
    let carriers = by_carrier.list();
    assert!(carriers.len() < all && carriers.len() >= 2, "{} of {all}", carriers.len());
    assert!(carriers.iter().all(|row| row["carrier"] == 1));

    let wholesale = world.log_in("client", "test_wholesale_admin").await;
    let dashboard = world.get(&wholesale, "client/my/dashboard").await.json();
    let first =
        world.get(&wholesale, "client/billable_calls?_order[startTime]=ASC&_itemsPerPage=4").await.list();
    let callers = |rows: &[Json]| -> Vec<Json> { rows.iter().map(|row| row["caller"].clone()).collect() };
    let latest = dashboard["latestBillableCalls"].as_array().unwrap();
    assert!(!latest.is_empty());
    assert_eq!(callers(latest), callers(&first));

    // The audit tells of the rating.
    let log = world.get(&brand, "brand/audit_log?entity=BillableCall&who=test_brand_admin").await.list();
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!((&log[0]["entityId"], &log[0]["action"]), (&json!(ids[1]), &json!("update")));
    assert_eq!(log[0]["after"]["price"], json!(1.5));
}

#[tokio::test]
async fn the_audit_log_tells_who_changed_what_and_nothing_of_others() {
    let world = world().await;
    let platform = world.log_in("platform", "admin").await;
    let brand = world.log_in("brand", "test_brand_admin").await;
    let client = world.log_in("client", "test_company_admin").await;
    world.rename(6, "Foreign client").await;
    let before = Timestamp::now();
    assert_eq!(world.put(&brand, "brand/carriers/1", json!({ "name": "Renamed" })).await.status, 200);
    let put = world.put(&client, "client/terminals/1", json!({ "password": "NEWnew123_" })).await;
    assert_eq!(put.status, 200, "{}", put.text);

    let log = world.get(&platform, "platform/audit_log?_itemsPerPage=3").await;
    let newest = log.list();
    let of = |row: &Json| {
        [&row["entity"], &row["who"], &row["level"]].map(|text| text.as_str().unwrap().to_owned())
    };
    assert_eq!(of(&newest[0]), ["Terminal", "test_company_admin", "client"]);
    assert!(newest[0]["changed"].as_array().unwrap().contains(&json!("password")));
    assert_eq!(
        (&newest[0]["before"]["password"], &newest[0]["after"]["password"]),
        (&json!("*****"), &json!("*****"))
    );
    assert!(!log.text.contains("NEWnew123_"));
    assert_eq!(of(&newest[1]), ["Carrier", "test_brand_admin", "brand"]);
    assert_eq!(newest[1]["before"], json!({ "name": "CarrierName" }));
    assert_eq!(newest[1]["after"], json!({ "name": "Renamed" }));
    assert_eq!(of(&newest[2]), ["Company", "system", "system"]);
    let next = world.get(&platform, "platform/audit_log?_itemsPerPage=2&_page=2").await.list();
    assert_eq!(next[0], newest[2], "pages follow each other");

    let all = world.get(&brand, "brand/audit_log?_itemsPerPage=5000").await.list();
    assert!(!all.is_empty() && all.iter().any(|row| row["entity"] == "Terminal"));
    for row in &all {
        assert!(!(row["entity"] == "Company" && row["entityId"] == 6), "another brand's client: {row}");
        assert!(!(row["entity"] == "Brand" && row["entityId"] == 2), "another brand: {row}");
        assert_ne!(row["entity"], "Country", "the platform's own rows: {row}");
    }
    // What was deleted with the row that says whose it is.
    let row_of_another = world.get(&brand, "brand/audit_log?entity=Company&id=6").await;
    assert_eq!(row_of_another.list(), Vec::<Json>::new());
    let deletes = |draft: &mut model::draft::Draft<'_>| draft.delete(Id::<Company>::new(7));
    world.live.change(None, &Who::system(), deletes).await.unwrap();
    let gone = world.get(&brand, "brand/audit_log?entity=Company&id=7").await.list();
    assert_eq!((&gone[0]["action"], &gone[0]["after"]), (&json!("delete"), &Json::Null));

    let count =
        async |query: &str| world.get(&platform, &format!("platform/audit_log?{query}")).await.total();
    assert_eq!(count("entity=Carrier&id=1&who=test_brand_admin").await, 1);
    assert_eq!(count("entity=Carrier&id=2&who=test_brand_admin").await, 0);
    let long_ago = before.checked_sub(24.hours()).unwrap().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    assert_eq!(count(&format!("from={long_ago}&entity=Carrier")).await, 1, "the import was before");
    assert_eq!(count(&format!("to={long_ago}&who=test_brand_admin")).await, 0);
    assert!(count(&format!("to={long_ago}&entity=Carrier")).await >= 2, "the import's");
    for wrong in ["entity=Nothing", "id=1", "from=yesterday", "entity=Carrier&id=x", "_page=0"] {
        let answer = world.get(&platform, &format!("platform/audit_log?{wrong}")).await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text);
    }
    let csv = world.send(&platform, "GET", "platform/audit_log?entity=Carrier&id=1", "text/csv", None).await;
    assert!(csv.text.starts_with("revision,time,level,who,") && csv.text.contains("Renamed"), "{}", csv.text);
    assert_eq!(csv.text.lines().count(), csv.total() + 1);

    assert_eq!(world.get(&client, "client/audit_log").await.status, 404);
    for (level, name) in
        [("platform", "restrictedPlatformAdministrator"), ("brand", "restrictedBrandOnlyAdmin")]
    {
        let restricted = world.log_in(level, name).await;
        assert_eq!(world.get(&restricted, &format!("{level}/audit_log")).await.status, 403, "{name}");
    }
}

#[tokio::test]
async fn nobody_hides_in_the_audit_log_behind_many_changes_of_others() {
    let world = world().await;
    let platform = world.log_in("platform", "admin").await;
    let brand = world.log_in("brand", "test_brand_admin").await;
    assert_eq!(world.put(&brand, "brand/carriers/1", json!({ "name": "Renamed" })).await.status, 200);
    let many = |draft: &mut model::draft::Draft<'_>| {
        (0..6000_u32).try_for_each(|number| {
            let (name, brand) = (format!("Group {number}"), Id::new(2));
            draft.create(RoutingPatternGroup { name, brand, ..RoutingPatternGroup::default() }).map(drop)
        })
    };
    let seller =
        Who { level: "brand", name: "seller".to_owned(), id: 9, on_behalf_of: String::new(), tenant: None };
    world.live.change(None, &seller, many).await.unwrap();

    let of_one = world.get(&platform, "platform/audit_log?who=test_brand_admin").await;
    assert_eq!((of_one.list().len(), of_one.list()[0]["entity"].as_str()), (1, Some("Carrier")));
    assert!(!of_one.headers.contains_key("x-older-than"), "there is nothing older");
    let own = world.get(&brand, "brand/audit_log?_itemsPerPage=5000").await.list();
    assert_eq!((&own[0]["entity"], &own[0]["after"]["name"]), (&json!("Carrier"), &json!("Renamed")));
    // All: page by page, and on from where the answer says.
    let newest = world.get(&platform, "platform/audit_log?_itemsPerPage=5000").await;
    assert_eq!((newest.list().len(), newest.total()), (5000, 5000));
    let more = newest.headers["x-older-than"].to_str().unwrap();
    let older =
        world.get(&platform, &format!("platform/audit_log?_itemsPerPage=1002&older_than={more}")).await;
    let older = older.list();
    assert_eq!(older[999]["entity"], "RoutingPatternGroup");
    let last: Vec<_> = older[1000..].iter().map(|row| row["entity"].as_str().unwrap()).collect();
    assert_eq!(last[0], "Carrier");
    assert!(older.iter().all(|row| row["entity"] != "RefreshToken" && row["entity"] != "SigningKey"));
    for wrong in ["older_than=x", "older_than=5", "entity=RefreshToken"] {
        let answer = world.get(&platform, &format!("platform/audit_log?{wrong}")).await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text);
    }
}

#[tokio::test]
async fn one_node_alone_trims_the_log_of_all() {
    let world = world().await;
    let day = Duration::from_secs(86_400);
    for number in 0..120 {
        world.rename(5, &format!("Client {number}")).await;
    }
    let right = |fence| OwnerFence { kind: "housekeeping".to_owned(), key: 0, fence };
    let is_trimmed = async || matches!(world.store.changes_since(0, 10).await.unwrap(), Changes::Reload);
    // Whoever is not sure that it is his to do asks again; who has been replaced is refused.
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let who = move || match count.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Housekeeping::Anothers,
        _ => Housekeeping::Ours(right(5)),
    };
    let (store, others) = (Arc::downgrade(&world.store), Arc::clone(&asked));
    let housekeeper = tokio::spawn(keep_trimmed(store, day * 7, who));
    tokio::time::pause();
    while others.load(Ordering::SeqCst) < 2 {
        assert!(!is_trimmed().await);
        tokio::time::advance(LOOK_AGAIN / 4).await;
    }
    for _ in 0..1000 {
        if !is_trimmed().await {
            tokio::time::advance(LOOK_AGAIN / 4).await;
        }
    }
    assert!(is_trimmed().await);
    housekeeper.abort();
    let late = trim(&world.store, day, Timestamp::now(), Some(right(4))).await;
    assert!(matches!(late, Err(ConfigError::Fenced { fence: 4, .. })), "{late:?}");
}

#[tokio::test]
async fn a_trimmed_log_lets_followers_load_anew_and_its_rest_is_read_on() {
    let world = world().await;
    let platform = world.log_in("platform", "admin").await;
    let at_first = world.store.load().await.unwrap();
    for number in 0..120 {
        world.rename(5, &format!("Client {number}")).await;
    }
    let log = async || {
        world.get(&platform, "platform/audit_log?entity=Company&id=5&_itemsPerPage=5000").await.list()
    };
    let whole = log().await;
    // The import is older than a week, all else younger.
    assert_eq!(
        trim(&world.store, Duration::from_secs(20 * 86_400), Timestamp::now(), None).await.unwrap(),
        0
    );
    assert!(trim(&world.store, Duration::from_secs(7 * 86_400), Timestamp::now(), None).await.unwrap() > 0);
    let rest = log().await;
    assert_eq!(rest.len() + 1, whole.len(), "the import's is gone");
    assert_eq!(rest[..], whole[..rest.len()]);
    assert_eq!(trim(&world.store, Duration::from_secs(7 * 86_400), Timestamp::now(), None).await.unwrap(), 0);

    assert!(matches!(world.store.changes_since(0, 10).await.unwrap(), Changes::Reload));
    let kept = Kept(Arc::clone(&world.store));
    let behind = Rows::default();
    let rows = kept.newest(&behind).await.unwrap();
    assert_eq!(rows.revision, world.live.rows().revision);
    let name = |rows: &Rows| rows.get(Id::<Company>::new(5)).map(|client| client.name.clone());
    assert_eq!(name(&rows).as_deref(), Some("Client 119"));
    assert_eq!(
        name(&kept.newest(&at_first).await.unwrap()).as_deref(),
        Some("Client 119"),
        "by the log's rest"
    );
    let records = world.store.query(&RecordQuery::new(BillableCall::definition())).await.unwrap();
    assert!(records.total > 0, "records are no part of the log");
    assert!(records.rows.iter().all(|row| Record::id(&**row) > 0));
}
