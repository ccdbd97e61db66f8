//! An operator imports, exports, backs up and restores a node's configuration while it runs.

use jiff::Timestamp;
use model::define::{Kind, SecretHasher};
use model::import;
use model::rows::Rows;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::Instant;
use system_tests::api::{self, Api};
use system_tests::node::{self, Node, Setup};

fn sample() -> Json {
    serde_json::from_str(include_str!("../data/sample-system.json")).expect("the sample system is JSON")
}

fn served() -> Node {
    Setup::default().without_users().with(api::SERVED).start()
}

fn ctl(data: &Path, arguments: &[&str]) -> Output {
    let data = data.to_str().expect("a path of letters");
    node::run(&[&["ctl", "--data", data], arguments].concat())
}

/// What a command that succeeds prints.
fn done(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {out}{err}", output.status);
    out.into_owned()
}

/// Why a command fails.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A node with the sample system.
fn sampled() -> Node {
    let node = served();
    let file = node.folder().join("sample.json");
    std::fs::write(&file, sample().to_string()).expect("a file can be written");
    done(&ctl(&node.data(), &["import", "--replace", file.to_str().expect("a path of letters")]));
    node
}

fn exported(data: &Path) -> Json {
    serde_json::from_str(&done(&ctl(data, &["export"]))).expect("an export is JSON")
}

struct Plain;

impl SecretHasher for Plain {
    fn hash(&self, password: &str) -> String {
        password.to_owned()
    }
}

/// The rows by entity and id, without what no two imports have in common: hashes, a moment that is a week ago, and what clients spent on
/// the day of the import, which a node counts anew.
fn comparable(document: &Json) -> BTreeMap<(String, u64), Json> {
    let mut rows = BTreeMap::new();
    for (entity, list) in document["entities"].as_object().expect("there are entities") {
        let table = import::by_full_name(entity).expect("the entity is known");
        for row in list.as_array().expect("a list") {
            let mut row = row.clone();
            for field in table.fields {
                if matches!(field.kind, Kind::Password)
                    || (table.name, field.name) == ("UsersCdr", "startTime")
                    || (table.name, field.name) == ("Company", "currentDayUsage")
                {
                    row[field.name] = Json::Null;
                }
            }
            rows.insert((entity.clone(), row["id"].as_u64().expect("an id")), row);
        }
    }
    rows
}

#[test]
fn an_imported_system_is_there_at_once_and_comes_out_as_it_went_in() {
    let mut node = served();
    let (data, file) = (node.data(), node.folder().join("sample.json"));
    std::fs::write(&file, sample().to_string()).expect("a file can be written");
    let old = Api::platform(&mut node);
    let file = file.to_str().expect("a path of letters");
    let begun = Instant::now();
    let said = done(&ctl(&data, &["import", "--replace", file]));
    let took = begun.elapsed();
    let skipped = |line: &str| line.contains("skipped") && line.contains("Kam.Dispatcher (3)");
    assert!(said.contains(" rows read: ") && said.lines().any(skipped), "{said}");
    assert_eq!(old.send("GET", "brands", &Json::Null).status, 401, "an id may be somebody else's now");

    let at = api::address(&mut node);
    let platform = Api::log_in(at, "platform", "admin", "changeme");
    assert_eq!(platform.list("brands").len(), 3);
    let brand = Api::log_in(at, "brand", "test_brand_admin", "changeme");
    let call = brand.send("GET", "billable_calls/1", &Json::Null);
    assert_eq!((call.status, &call.body["id"]), (200, &json!(1)), "records have the ids of the document");

    let (rows, ..) = import::import(&sample(), &Rows::default(), true, Timestamp::now(), &Plain)
        .expect("the sample system is right");
    let (ours, theirs) = (comparable(&exported(&data)), comparable(&import::export(&rows)));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    theirs.iter().for_each(|(key, row)| assert_eq!(&ours[key], row, "{key:?}"));
    assert!(ours.len() > 1400, "{}", ours.len());

    // Its own export changes nothing, and a row that is left out goes, records among them.
    let out = node.folder().join("out.json");
    let out_name = out.to_str().expect("a path of letters");
    done(&ctl(&data, &["export", out_name]));
    assert_eq!(std::fs::metadata(&out).expect("it is there").permissions().mode() & 0o777, 0o600);
    let said = done(&ctl(&data, &["import", "--replace", out_name]));
    assert!(said.contains(": 0 new, 0 changed, ") && said.contains("; 0 removed"), "{said}");
    let mut fewer = exported(&data);
    let movements = fewer["entities"]["Provider.BalanceMovement"].as_array_mut().expect("there are some");
    movements.truncate(1);
    movements[0]["amount"] = json!(77);
    std::fs::write(&out, fewer.to_string()).expect("a file can be written");
    let said = done(&ctl(&data, &["import", "--replace", out_name]));
    assert!(said.contains(": 0 new, 1 changed, ") && said.contains("; 2 removed"), "{said}");
    let movements = exported(&data)["entities"]["Provider.BalanceMovement"].clone();
    assert_eq!(movements.as_array().map(Vec::len), Some(1), "{movements}");
    println!("the import took {took:?}");

    // Whoever leaves out the administrators is told what comes of it.
    let entities = fewer["entities"].as_object_mut().expect("there are entities");
    entities.retain(|entity, _| !entity.starts_with("Provider.Administrator"));
    std::fs::write(&out, fewer.to_string()).expect("a file can be written");
    let output = ctl(&data, &["import", "--replace", out_name]);
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(notes.contains("nobody can log in at the platform's level"), "{notes}");
    done(&output);
    node.stop();
    assert!(!data.join("control.sock").exists());
}

#[test]
fn a_document_with_mistakes_has_them_all_listed_and_changes_nothing() {
    let mut node = served();
    let (data, file) = (node.data(), node.folder().join("broken.json"));
    let before = exported(&data);
    let name = file.to_str().expect("a path of letters");
    let import = |text: &str| {
        std::fs::write(&file, text).expect("a file can be written");
        refused(&ctl(&data, &["import", name]))
    };
    let rows = json!([{ "id": 1, "name": "x", "brand": 99, "balance": "much" }, { "name": "y" }]);
    let servers = json!([{ "id": 5, "name": "far", "ip": "here" }]);
    let entities =
        json!({ "Provider.Carrier": rows, "Provider.ApplicationServer": servers, "Provider.Nonsense": [] });
    let said = import(&json!({ "entities": entities }).to_string());
    for line in [
        "Provider.Carrier[1].balance: \"much\" is not a number",
        "Provider.Carrier[1].brand: there is no Provider.Brand 99",
        "Provider.ApplicationServer[5].ip: write an IP address, such as 192.0.2.10",
        "Provider.Carrier[entry 2].id: every row has an id, a whole number",
        "Provider.Nonsense[]: there is no such entity",
    ] {
        assert!(said.lines().any(|said| said.trim() == line), "{line} in {said}");
    }
    assert!(said.contains("5 mistakes in ") && said.contains("broken.json"), "{said}");
    assert!(import("{\"entities\": ").contains("not readable as JSON"));
    assert_eq!(exported(&data), before);
    node.stop();
    let said = refused(&ctl(&data, &["import", name]));
    assert!(said.contains("no node runs on "), "{said}");
}

#[test]
fn a_backup_of_a_running_node_starts_another_one() {
    let mut node = sampled();
    let (data, folder) = (node.data(), node.folder().to_owned());
    let name = |file: &str| folder.join(file).to_str().expect("a path of letters").to_owned();
    let before = comparable(&exported(&data));
    let said = done(&ctl(&data, &["backup", &name("backup")]));
    assert!(said.contains(" 111 records, "), "{said}");
    let said = refused(&ctl(&data, &["restore", &name("backup")]));
    assert!(said.contains("holds a configuration already"), "{said}");
    node.stop();

    std::fs::rename(&data, folder.join("old")).expect("a directory can be moved");
    std::fs::create_dir(&data).expect("a directory can be made");
    assert!(refused(&ctl(&data, &["restore", &name("backup")])).contains("secret.key"));
    std::fs::write(data.join("secret.key"), [1; 32]).expect("a file can be written");
    assert!(refused(&ctl(&data, &["restore", &name("backup")])).contains("sealed by another key"));
    std::fs::copy(folder.join("old/secret.key"), data.join("secret.key")).expect("a file can be copied");
    done(&ctl(&data, &["restore", &name("backup")]));
    node.restart();
    assert!(comparable(&exported(&data)) == before, "it has what the other one had");
    let at = api::address(&mut node);
    assert_eq!(Api::log_in(at, "platform", "admin", "changeme").list("brands").len(), 3);

    // A socket that a killed node left behind is nobody's, and the next one's start puts its own there.
    node.kill();
    assert!(data.join("control.sock").exists());
    assert!(refused(&ctl(&data, &["export"])).contains("no node runs on "));
    node.restart();
    done(&ctl(&data, &["export"]));
    node.stop();
}

#[test]
fn what_can_be_read_of_a_damaged_configuration_goes_on_in_another_file() {
    let mut node = sampled();
    let (data, folder) = (node.data(), node.folder().to_owned());
    let name = |file: &str| folder.join(file).to_str().expect("a path of letters").to_owned();
    let before = comparable(&exported(&data));
    node.stop();

    let file = data.join("configuration.redb");
    let mut bytes = std::fs::read(&file).expect("a file can be read");
    bytes[..4096].fill(0);
    std::fs::write(&file, &bytes).expect("a file can be written");
    let config = node.config().to_str().expect("a path of letters");
    let said = refused(&node::run(&["serve", "--config", config]));
    assert!(said.contains("is damaged") && said.contains("carillon ctl salvage"), "{said}");

    let said = done(&ctl(&data, &["salvage", &name("saved")]));
    assert!(said.contains(" 111 records, ") && said.contains("lost: the file as a database: "), "{said}");
    assert!(std::fs::read(&file).expect("a file can be read") == bytes, "the damaged file stays as it is");
    std::fs::rename(&file, folder.join("damaged")).expect("a file can be moved");
    done(&ctl(&data, &["restore", &name("saved")]));
    node.restart();
    assert!(comparable(&exported(&data)) == before, "everything was there still");
    node.stop();
}

#[test]
fn a_configuration_that_is_lost_or_emptied_starts_no_new_system_in_silence() {
    let mut node = served();
    let (data, folder) = (node.data(), node.folder().to_owned());
    let name = |file: &str| folder.join(file).to_str().expect("a path of letters").to_owned();
    std::fs::write(name("sample.json"), sample().to_string()).expect("a file can be written");
    done(&ctl(&data, &["import", "--replace", &name("sample.json")]));
    done(&ctl(&data, &["backup", &name("backup")]));
    let before = comparable(&exported(&data));
    node.stop();
    let file = data.join("configuration.redb");
    std::fs::rename(&file, name("lost")).expect("a file can be moved");
    let _ = std::fs::remove_file(data.join("first-password"));
    let config = node.config().to_str().expect("a path of letters").to_owned();
    let refused_start = |why: &str| {
        let said = refused(&node::run(&["serve", "--config", &config]));
        assert!(said.contains("configuration.redb") && said.contains(why), "{said}");
        for way in ["restore FILE", "carillon ctl salvage", "to begin anew"] {
            assert!(said.contains(way), "{way}: {said}");
        }
        assert!(!data.join("first-password").exists());
    };
    refused_start("the file is gone");
    assert!(!file.exists());
    std::fs::write(&file, "").expect("a file can be written");
    refused_start("the file is empty");
    assert_eq!(std::fs::metadata(&file).expect("it is there").len(), 0);
    std::fs::remove_file(&file).expect("a file can be removed");

    done(&ctl(&data, &["restore", &name("backup")]));
    node.restart();
    assert!(comparable(&exported(&data)) == before, "it has what it had");
    node.stop();
}
