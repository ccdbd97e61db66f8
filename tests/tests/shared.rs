//! Two nodes on one PostgreSQL database: what one changes, the other has; a database that is away; wrong keys and passwords.

use serde_json::{Value as Json, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use system_tests::PATIENCE;
use system_tests::api::{self, Api};
use system_tests::endpoint::Endpoint;
use system_tests::node::{Node, Setup, run};
use system_tests::postgres::{Database, Gate, PASSWORD};
use system_tests::sipp::Sipp;
use system_tests::watching::{self, OPERATED, Page};
use tempfile::TempDir;

/// A directory with the database's password in a file, and the section that names both.
struct Store {
    folder: TempDir,
    database: Database,
}

impl Store {
    fn make() -> Store {
        let folder = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(folder.path().join("password"), format!("{PASSWORD}\n")).expect("a file is written");
        Store { folder, database: Database::make() }
    }

    fn section(&self, port: u16) -> String {
        let password = self.folder.path().join("password");
        let key = self.folder.path().join("shared.key");
        format!(
            "[store]\nurl = {:?}\npassword_file = {password:?}\nkey_file = {key:?}\n",
            self.database.address(port)
        )
    }

    fn node(&self, port: u16) -> Node {
        Setup::default().with(&self.section(port)).with(api::SERVED).with(OPERATED).start()
    }
}

/// Somebody logged in at another node by the same password.
fn platform_at(node: &mut Node, first: &Node) -> Api {
    let password =
        std::fs::read_to_string(first.data().join("first-password")).expect("the first node has it");
    Api::log_in(api::address(node), "platform", "admin", password.trim())
}

/// Asks another process until it says so. It tells nobody by itself, and logins that fail are counted: so not all the time.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what} does not happen");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn call(node: &Node, number: &str) {
    let callee = Sipp::callee("answer").start(node);
    Sipp::caller("call").number(number).start(node).finish();
    callee.finish();
}

/// The administrator of the demo's client, at this node.
fn client_of(node: &mut Node, platform: &Api) -> Api {
    let admin = |name: &str| json!({ "username": name, "pass": "aGoodOne1", "active": true, "email": "a@example.com" });
    let mut of_brand = admin("seller");
    of_brand["brand"] = json!(1);
    platform.create("administrators", &of_brand);
    let at = api::address(node);
    let brand = Api::log_in(at, "brand", "seller", "aGoodOne1");
    let mut of_client = admin("buyer");
    of_client["company"] = json!(1);
    brand.create("administrators", &of_client);
    Api::log_in(at, "client", "buyer", "aGoodOne1")
}

#[test]
fn what_the_api_of_one_node_changes_the_other_shows_and_routes_by() {
    let store = Store::make();
    let mut one = store.node(Database::port());
    let by_tls = format!("{}ca_file = {:?}\n", store.section(Database::port()), Database::authority());
    let mut other = Setup::default().with(&by_tls).with(api::SERVED).start();
    assert!(!other.data().join("first-password").exists(), "the second node began nothing");
    let platform = Api::platform(&mut one);
    let client = client_of(&mut one, &platform);
    let there = platform_at(&mut other, &one);
    Endpoint::udp(&other, 3, "bob").register();

    let extension = client.list("extensions?number=102")[0]["id"].as_u64().expect("bob has an extension");
    client.change(&format!("extensions/{extension}"), &json!({ "number": "777" }));
    let list = client.create("match_lists", &json!({ "name": "shared" }));
    let brand = there.list("brands").len();
    assert_eq!(brand, 1);
    let at = api::address(&mut other);
    eventually("the other node hears of the administrator", || {
        api::answers_login(at, "client", "buyer", "aGoodOne1")
    });
    let mut there = Api::log_in(at, "client", "buyer", "aGoodOne1");
    eventually("the other node shows the new row", || {
        there.list("match_lists").iter().any(|row| row["id"].as_u64() == Some(list))
    });
    call(&other, "777");
    Sipp::caller("refused").number("102").value("status", 404).start(&other).finish();

    // And after a kill it has what was changed meanwhile.
    other.kill();
    client.change(&format!("match_lists/{list}"), &json!({ "name": "changed" }));
    other.restart();
    there.go_to(api::address(&mut other));
    assert_eq!(there.list("match_lists")[0]["name"], json!("changed"));
    other.stop();
    one.stop();
    // Telephones' passwords are sealed there.
    let open = store.database.query("SELECT count(*) FROM carillon.documents WHERE entity = 'Terminal' AND document->>'password' LIKE 'sealed:%'");
    assert_eq!(open, "2");
}

#[test]
fn while_the_database_is_away_calls_are_routed_and_changes_are_refused_with_the_reason() {
    let store = Store::make();
    let gate = Gate::open();
    let mut node = store.node(gate.port);
    let mut other = store.node(Database::port());
    let platform = Api::platform(&mut node);
    let client = client_of(&mut node, &platform);
    let at = api::address(&mut other);
    eventually("the other node hears of the administrator", || {
        api::answers_login(at, "client", "buyer", "aGoodOne1")
    });
    let there = Api::log_in(at, "client", "buyer", "aGoodOne1");
    Endpoint::udp(&node, 3, "bob").register();

    let watched = watching::address(&mut node);
    let is_reachable = || Page::of(watched).value("carillon_database_reachable") == 1.0;
    assert!(is_reachable());
    gate.shut();
    let refused = client.send("POST", "match_lists", &json!({ "name": "refused" }));
    assert_eq!(refused.status, 503, "{}", refused.body);
    let detail = refused.body["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("the database failed to"), "{}", refused.body);
    eventually("whoever watches the node sees it", || !is_reachable());
    assert_eq!(watching::get(watched, "/readyz").0, 200, "calls need no database");
    call(&node, "102");
    assert_eq!(client.list("match_lists"), Vec::<Json>::new(), "rows are read on");
    let list = there.create("match_lists", &json!({ "name": "meanwhile" }));

    gate.reopen();
    eventually("the node hears of what was changed meanwhile", || {
        client.list("match_lists").iter().any(|row| row["id"].as_u64() == Some(list))
    });
    eventually("whoever watches the node sees that, too", is_reachable);
    eventually("changes are taken again", || {
        client.send("PUT", &format!("match_lists/{list}"), &json!({ "name": "again" })).status == 200
    });
    let names: Vec<Json> = client.list("match_lists").iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, [json!("again")], "the refused one was not kept");
    let log = node.process().lines();
    assert!(!log.iter().any(|line| line.contains(PASSWORD)), "the password is in the log");
    node.stop();
    other.stop();
}

fn complaint(section: &str, folder: &TempDir) -> String {
    let config = folder.path().join("carillon.toml");
    let data = folder.path().join("data");
    let text = format!("[node]\ndata = {data:?}\n[sip]\nlisten = [\"udp:127.0.0.1:0\"]\n{section}");
    std::fs::write(&config, text).expect("a file is written");
    let ended = run(&["serve", "--config", config.to_str().expect("its name is UTF-8")]);
    assert!(!ended.status.success(), "it started");
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

#[test]
fn a_store_that_cannot_be_opened_is_named_with_the_way_out() {
    let store = Store::make();
    let mut node = store.node(Database::port());
    node.stop();
    let right = store.section(Database::port());

    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let text = complaint(&store.section(1), &elsewhere);
    assert!(
        text.contains("store.url = postgresql://careful@127.0.0.1:1/") && text.contains("start the database"),
        "{text}"
    );
    assert!(!text.contains(PASSWORD), "{text}");

    let of_nobody = elsewhere.path().join("other.key");
    let with_key = |key: &std::path::Path| {
        let lines: Vec<String> =
            right
                .lines()
                .map(|line| {
                    if line.starts_with("key_file") { format!("key_file = {key:?}") } else { line.to_owned() }
                })
                .collect();
        lines.join("\n")
    };
    let text = complaint(&with_key(&of_nobody), &elsewhere);
    assert!(text.contains("store.key_file = ") && text.contains("there is no such file"), "{text}");
    assert!(!of_nobody.exists(), "a key that fits nothing is left behind");
    std::fs::write(&of_nobody, [7; 32]).expect("a file is written");
    let text = complaint(&with_key(&of_nobody), &elsewhere);
    assert!(text.contains("store.key_file = ") && text.contains("it is another key"), "{text}");

    let password = elsewhere.path().join("password");
    std::fs::write(&password, "not this one").expect("a file is written");
    let old = store.folder.path().join("password");
    let section = right.replace(&format!("{old:?}"), &format!("{password:?}"));
    let text = complaint(&section, &elsewhere);
    assert!(
        text.contains("store.url = postgresql://careful@") && text.contains("store.password_file"),
        "{text}"
    );
    assert!(!text.contains("not this one"), "{text}");
}

#[test]
fn a_large_change_at_one_node_comes_through_while_others_change_something_all_the_time() {
    const LISTS: u32 = 3000;
    let store = Store::make();
    let mut one = store.node(Database::port());
    let mut other = store.node(Database::port());
    let platform = Api::platform(&mut one);
    let client = client_of(&mut one, &platform);
    let list = client.create("match_lists", &json!({ "name": "busy" }));
    let at = api::address(&mut other);
    eventually("the other node hears of the administrator", || {
        api::answers_login(at, "client", "buyer", "aGoodOne1")
    });
    let there = Api::log_in(at, "client", "buyer", "aGoodOne1");
    eventually("the other node has the row", || there.list("match_lists").len() == 1);

    let rows: Vec<Json> =
        (0..LISTS).map(|id| json!({ "id": 1000 + id, "name": format!("List {id}"), "company": 1 })).collect();
    let document = json!({ "entities": { "Provider.MatchList": rows } });
    let file = one.folder().join("lists.json");
    std::fs::write(&file, document.to_string()).expect("a file is written");
    let (data, file) = (one.data(), file.to_str().expect("its name is UTF-8").to_owned());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy: Vec<_> = (0..3)
            .map(|thread| {
                let (there, is_over) = (&there, &is_over);
                scope.spawn(move || {
                    let mut statuses = Vec::new();
                    while !is_over.load(Ordering::Relaxed) {
                        let name = json!({ "name": format!("{thread} {}", statuses.len()) });
                        statuses.push(there.send("PUT", &format!("match_lists/{list}"), &name).status);
                    }
                    statuses
                })
            })
            .collect();
        eventually("the others are at it", || {
            there.list("match_lists").iter().any(|row| row["name"] != json!("busy"))
        });
        let ended = run(&["ctl", "--data", data.to_str().expect("its name is UTF-8"), "import", &file]);
        // Small ones from here come through, too.
        let mine: Vec<u16> = (0..20)
            .map(|number| {
                client.send("POST", "match_lists", &json!({ "name": format!("mine {number}") })).status
            })
            .collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        assert_eq!(mine, [201; 20]);
        for thread in busy {
            let statuses = thread.join().expect("it does not fail");
            assert!(!statuses.is_empty() && statuses.iter().all(|status| *status == 200), "{statuses:?}");
        }
    });
    let all = LISTS as usize + 21;
    eventually("the other node has them all", || there.list("match_lists?_itemsPerPage=5000").len() == all);
    one.stop();
    other.stop();
}
