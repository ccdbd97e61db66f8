//! Changes by the API take hold of calls at once, with real telephones.

use serde_json::json;
use std::process::Command;
use system_tests::PATIENCE;
use system_tests::api::{self, Api};
use system_tests::endpoint::Endpoint;
use system_tests::node::{Node, Setup, carillon, demo};
use system_tests::place::Place;
use system_tests::process::Process;
use system_tests::sipp::Sipp;

/// A node with alice and bob that serves its API, and the administrator of their client.
fn served() -> (Node, Api) {
    let mut node = Setup::default().with(api::SERVED).start();
    let platform = Api::platform(&mut node);
    let admin = |name: &str| json!({ "username": name, "pass": "aGoodOne1", "active": true, "email": "a@example.com" });
    let mut of_brand = admin("seller");
    of_brand["brand"] = json!(1);
    platform.create("administrators", &of_brand);
    let at = api::address(&mut node);
    let brand = Api::log_in(at, "brand", "seller", "aGoodOne1");
    let mut of_client = admin("buyer");
    of_client["company"] = json!(1);
    brand.create("administrators", &of_client);
    let client = Api::log_in(at, "client", "buyer", "aGoodOne1");
    (node, client)
}

fn call(node: &Node, number: &str) {
    let callee = Sipp::callee("answer").start(node);
    Sipp::caller("call").number(number).start(node).finish();
    callee.finish();
}

#[test]
fn a_telephone_gets_another_name_and_a_new_extension_and_is_called_by_it_at_once() {
    let (mut node, client) = served();
    Endpoint::udp(&node, 3, "bob").register();
    call(&node, "102");

    let users = client.list("users?name=Bob");
    let bob = users[0]["id"].as_u64().expect("bob has an id");
    client.change(&format!("users/{bob}"), &json!({ "name": "Robert", "lastname": "Roberts" }));
    let extension =
        client.create("extensions", &json!({ "number": "777", "routeType": "user", "user": bob }));
    call(&node, "777");
    client.change(&format!("extensions/{extension}"), &json!({ "number": "778" }));
    Sipp::caller("refused").number("777").value("status", 404).start(&node).finish();
    call(&node, "778");

    let records = node.stop();
    let names: Vec<_> = records.0.iter().map(|cdr| cdr.callee.name.clone()).collect();
    assert!(
        names.contains(&"Bob Bobson".to_owned()) && names.contains(&"Robert Roberts".to_owned()),
        "{names:?}"
    );
}

#[test]
fn both_telephones_of_the_demo_get_new_names_and_numbers_and_call_each_other_by_them_at_once() {
    let place = Place::take();
    let sip = place.sip(1).to_string();
    let mut demo = Process::start("carillon demo", &mut demo(&place.sip(1), &["--no-call"]));
    let line = demo.line_with("REST API: http://", PATIENCE).expect("the demo serves its API");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let platform = Api::log_in(address.parse().expect("an address"), "platform", "admin", "changeme");
    let brand =
        platform.within("brand", "brandId", platform.list("brands")[0]["id"].as_u64().expect("an id"));
    let client =
        brand.within("client", "clientId", brand.list("companies")[0]["id"].as_u64().expect("an id"));

    for (old, new, number) in [("alice", "anna", "701"), ("bob", "bert", "702")] {
        let terminal = client.list(&format!("terminals?name={old}"))[0]["id"].clone();
        let user = client.list(&format!("users?terminal={terminal}"))[0]["id"].clone();
        client.change(&format!("terminals/{terminal}"), &json!({ "name": new }));
        let extension =
            client.create("extensions", &json!({ "number": number, "routeType": "user", "user": user }));
        client.change(&format!("users/{user}"), &json!({ "name": new, "extension": extension }));
        let phone = |user: &str| {
            let mut command = Command::new(carillon());
            command.args(["phone", "--server", &sip, "--user", user, "--password", old]);
            command
        };
        let refused = Process::start("the old name", &mut phone(old)).ended(PATIENCE);
        assert!(refused.is_some_and(|status| !status.success()), "{old} registers still");
        if new == "bert" {
            let bert = Process::start("bert's phone", phone("bert").args(["--answer", "--seconds", "9"]));
            assert!(bert.line_with("registered as bert", PATIENCE).is_some(), "{}", bert.tail(30));
            let mut command = Command::new(carillon());
            command.args(["phone", "--server", &sip, "--user", "anna", "--password", "alice"]);
            let mut anna = Process::start("anna's phone", command.args(["--call", "702", "--seconds", "1"]));
            let ended = anna.ended(PATIENCE);
            assert!(ended.is_some_and(|status| status.success()), "{ended:?}; {}", anna.tail(30));
            assert!(bert.line_with("701 calls", PATIENCE).is_some(), "{}", bert.tail(30));
        }
    }
    demo.terminate();
    assert!(demo.ended(PATIENCE).is_some_and(|status| status.success()), "{}", demo.tail(30));
}

#[test]
fn a_new_password_ends_registrations_that_were_made_with_the_old_one() {
    let (mut node, client) = served();
    Endpoint::udp(&node, 3, "bob").register();
    let terminals = client.list("terminals?name=bob");
    assert_eq!(terminals[0]["status"].as_array().map(Vec::len), Some(1), "{}", terminals[0]);
    let id = terminals[0]["id"].as_u64().expect("the terminal has an id");
    client.change(&format!("terminals/{id}"), &json!({ "password": "NEWnew123_" }));
    Sipp::caller("refused").number("102").value("status", 480).start(&node).finish();
    Endpoint::udp(&node, 3, "bob").with_login("bob", "NEWnew123_").register();
    call(&node, "102");
    node.stop();
}

#[test]
fn what_was_answered_is_there_after_a_kill_and_tokens_are_good_still() {
    let (mut node, mut client) = served();
    let list = client.create("match_lists", &json!({ "name": "kept" }));
    node.kill();
    node.restart();
    client.go_to(api::address(&mut node));
    let names: Vec<_> =
        client.list("match_lists").iter().map(|row| (row["id"].as_u64(), row["name"].clone())).collect();
    assert_eq!(names, [(Some(list), json!("kept"))]);
    node.stop();
}
