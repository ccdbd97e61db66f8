//! An operator keeps a node's configuration in files: applied, read, watched and deleted by `carillon ctl`; and ends calls.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;
use system_tests::PATIENCE;
use system_tests::api::{self, Api};
use system_tests::endpoint::Endpoint;
use system_tests::node::{self, Node, Setup};
use system_tests::process::Process;
use system_tests::sipp::Sipp;

fn arguments<'a>(data: &'a Path, rest: &[&'a str]) -> Vec<&'a str> {
    [&["ctl", "--data", data.to_str().expect("a path of letters")], rest].concat()
}

fn ctl(node: &Node, rest: &[&str]) -> Output {
    node::run(&arguments(&node.data(), rest))
}

/// What a command prints that ends with this code.
fn ends(output: &Output, code: i32) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    format!("{out}{err}")
}

fn file(node: &Node, name: &str, text: &str) -> String {
    let path = node.folder().join(name);
    std::fs::write(&path, text).expect("a file can be written");
    path.to_str().expect("a path of letters").to_owned()
}

/// The domain of the client.
fn domain(node: &Node) -> String {
    let company = ends(&ctl(node, &["get", "Company", "1", "-o", "json"]), 0);
    let company: serde_json::Value = serde_json::from_str(&company).expect("JSON");
    company["fields"]["domainUsers"].as_str().expect("the client has a domain").to_owned()
}

#[test]
fn the_first_client_is_one_file_and_its_telephones_call_each_other() {
    let mut node = Setup::default().without_users().start();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/first-client.yaml");
    let text = ends(&ctl(&node, &["apply", "-f", example, "--dry-run"]), 1);
    assert!(text.contains("8 documents: 8 would be created"), "{text}");
    ends(&ctl(&node, &["apply", "-f", example]), 0);
    let server = node.sip().to_string();
    let phone = |user: &str, password: &str, rest: &[&str]| {
        let mut command = Command::new(node::carillon());
        command.args(["phone", "--server", &server, "--domain", "shop.example.com"]);
        command.args(["--user", user, "--password", password]).args(rest);
        Process::start(user, &mut command)
    };
    let bob = phone("bob", "CHANGEME-now-223", &["--answer", "--seconds", "9"]);
    assert!(bob.line_with("registered as bob", PATIENCE).is_some(), "{}", bob.tail(10));
    let mut alice = phone("alice", "CHANGEME-now-123", &["--call", "102", "--seconds", "1"]);
    assert!(alice.ended(PATIENCE).is_some_and(|status| status.success()), "{}", alice.tail(10));
    assert!(bob.line_with("101 calls", PATIENCE).is_some(), "{}", bob.tail(10));
    node.stop();
}

#[test]
fn a_file_renames_a_user_and_whoever_watches_sees_it() {
    let mut node = Setup::default().start();
    let first: u64 = {
        let status = ends(&ctl(&node, &["status"]), 0);
        let (_, rest) = status.split_once("revision ").expect("the status has a revision");
        rest.split(',').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    let rename = file(&node, "users.yaml", "entity: User\nid: 2\nfields:\n  name: Robert\n");
    let text = ends(&ctl(&node, &["apply", "-f", &rename, "--dry-run"]), 1);
    assert!(text.contains("~ User 2 changed\n~   name: \"Bob\" -> \"Robert\"\n"), "{text}");
    assert!(ends(&ctl(&node, &["get", "User", "2"]), 0).contains("Bob"), "a dry run does nothing");

    let mut command = Command::new(node::carillon());
    let watch = Process::start(
        "watch",
        command.args(arguments(&node.data(), &["watch", "User", "--since", &first.to_string()])),
    );
    assert!(watch.line_with("everything up to revision", PATIENCE).is_some(), "{}", watch.tail(10));
    let text = ends(&ctl(&node, &["apply", "-f", &rename]), 0);
    assert!(text.contains("1 changed"), "{text}");
    assert!(watch.line_with("~   name: \"Bob\" -> \"Robert\"", PATIENCE).is_some(), "{}", watch.tail(10));
    assert!(ends(&ctl(&node, &["apply", "-f", &rename, "--dry-run"]), 0).contains("1 as they were"));

    let text = ends(&ctl(&node, &["get", "User", "--filter", "name=Robert", "-o", "yaml"]), 0);
    assert!(
        text.starts_with("---\nentity: User\nid: 2\nfields:\n") && text.contains("name: Robert"),
        "{text}"
    );
    let same = file(&node, "same.yaml", &text);
    let text = ends(&ctl(&node, &["apply", "-f", &same, "--dry-run"]), 0);
    assert!(text.contains("1 as they were"), "what was read is what is there: {text}");

    let bad = file(
        &node,
        "bad.json",
        r#"[{"entity": "User", "id": 1, "fields": {"name": "Al"}}, {"entity": "User", "id": 2, "fields": {"name": null}}]"#,
    );
    let text = ends(&ctl(&node, &["apply", "-f", &bad]), 1);
    assert!(text.contains("bad.json, document 2: User.name: it may not be null"), "{text}");
    let text = ends(&ctl(&node, &["apply", "-f", &bad, "--dry-run"]), 2);
    assert!(text.contains("document 2"), "{text}");
    assert!(ends(&ctl(&node, &["get", "User", "1"]), 0).contains("Alice"), "all or nothing");

    ends(&ctl(&node, &["delete", "User", "2"]), 0);
    assert!(watch.line_with("- User 2 deleted", PATIENCE).is_some(), "{}", watch.tail(10));
    let text = ends(&ctl(&node, &["get", "User", "2"]), 1);
    assert!(text.contains("Not Found"), "{text}");
    // Whoever comes later is told the same from the history.
    let mut command = Command::new(node::carillon());
    let late = Process::start(
        "late",
        command.args(arguments(&node.data(), &["watch", "User", "--json", "--since", &first.to_string()])),
    );
    assert!(late.line_with("everything up to revision", PATIENCE).is_some(), "{}", late.tail(10));
    // The one goes to standard error, the other to standard output.
    assert!(late.line_with("\"deleted\"", PATIENCE).is_some(), "{}", late.tail(10));
    let told: Vec<String> = late.lines().into_iter().filter(|line| line.contains("\"deed\"")).collect();
    let deeds: Vec<bool> = told.iter().map(|line| line.contains("\"deleted\"")).collect();
    assert_eq!(deeds, [false, true], "{told:?}");
    assert!(told[0].contains("Robert") && told[0].contains("Bob"), "{told:?}");
    node.stop();
}

#[test]
fn a_whole_client_comes_from_one_file_and_by_the_api_one_needs_a_login() {
    let mut node = Setup::default().with(api::SERVED).start();
    let text = "\
entity: Terminal
fields: {company: {domainUsers: \"{DOMAIN}\"}, domain: {domain: \"{DOMAIN}\"}, name: carol, password: ABCabc123_x}
---
entity: Extension
fields: {company: {domainUsers: \"{DOMAIN}\"}, number: \"0103\", routeType: null}
---
entity: User
fields:
  company: {domainUsers: \"{DOMAIN}\"}
  name: Carol
  lastname: Carolson
  terminal: {name: carol, domain: {domain: \"{DOMAIN}\"}}
  extension: {number: \"0103\", company: {domainUsers: \"{DOMAIN}\"}}
";
    let all = file(&node, "client.yaml", &text.replace("{DOMAIN}", &domain(&node)));
    let text = ends(&ctl(&node, &["apply", "-f", &all]), 0);
    assert!(text.contains("3 documents: 3 are created"), "{text}");
    assert!(!text.contains("ABCabc123_x"), "secrets are not told: {text}");
    let text = ends(&ctl(&node, &["apply", "-f", &all, "--dry-run"]), 0);
    assert!(text.contains("3 as they were"), "{text}");

    let server = format!("http://{}", api::address(&mut node));
    let password = node.data().join("first-password");
    let password = password.to_str().expect("a path of letters");
    let login = ["--server", &server, "--user", "admin", "--password-file", password];
    let by_api = |rest: &[&str]| node::run(&[&["ctl"], rest, &login[..]].concat());
    assert!(ends(&by_api(&["get", "Brand"]), 0).contains("id"), "the platform has brands");
    let text = ends(&by_api(&["get", "User"]), 1);
    assert!(text.contains("there is no \"User\" here"), "users are their clients': {text}");
    let text = ends(&node::run(&["ctl", "get", "Brand", "--server", &server, "--token-file", &all]), 1);
    assert!(text.contains("token"), "{text}");
    Api::platform(&mut node);
    node.stop();
}

#[test]
fn an_operator_ends_a_call_and_drops_a_contact() {
    let mut node = Setup::default().start();
    Endpoint::udp(&node, 3, "bob").register();
    let callee = Sipp::callee("answer").start(&node);
    let caller = Sipp::caller("call_ended_by_callee").number("102").start(&node);
    let until = Instant::now() + PATIENCE;
    let call = loop {
        let text = ends(&ctl(&node, &["calls"]), 0);
        let answered = text.lines().find(|line| line.contains("answered "));
        if let Some(line) = answered {
            assert!(line.contains("102"), "{line}");
            break line.split(' ').next().expect("a name").to_owned();
        }
        assert!(Instant::now() < until, "no call is answered: {text}");
    };
    let text = ends(&ctl(&node, &["hang-up", "c0"]), 1);
    assert!(text.contains("there is no such call"), "{text}");
    ends(&ctl(&node, &["hang-up", &call]), 0);
    caller.finish();
    callee.finish();
    let bob = format!("bob@{}", domain(&node));
    let contact = ends(&ctl(&node, &["bindings", &bob]), 0);
    let contact = contact.split("  ").next().expect("a contact").to_owned();
    assert!(contact.starts_with("sip:"), "{contact}");
    assert!(ends(&ctl(&node, &["unbind", &bob, "sip:another@192.0.2.1"]), 1).contains("not registered"));
    ends(&ctl(&node, &["unbind", &bob, &contact]), 0);
    assert_eq!(ends(&ctl(&node, &["bindings", &bob]), 0), "");
    Sipp::caller("refused").number("102").value("status", 480).start(&node).finish();
    let records = node.stop();
    let causes: Vec<&str> = records.0.iter().map(|cdr| cdr.cause.text.as_str()).collect();
    assert!(causes.contains(&"Hung up by an operator"), "{causes:?}");
}

#[test]
fn a_command_whose_output_nobody_reads_on_ends_without_a_word() {
    let mut node = Setup::default().start();
    let data = node.data();
    for rest in [&["status"][..], &["get", "Country"], &["get", "Country", "-o", "json"]] {
        let mut command = Command::new(node::carillon());
        command.args(arguments(&data, rest)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("the command ends");
        assert_eq!(ends(&output, 141), "", "{rest:?}");
    }
    node.stop();
}
