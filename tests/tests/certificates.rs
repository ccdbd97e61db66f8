//! An operator reaches a node's API from elsewhere by TLS: with a certificate or a token, and told what to do where neither helps.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Output;
use system_tests::PATIENCE;
use system_tests::api;
use system_tests::authority::{Authority, VALID, write};
use system_tests::node::{self, Node, Setup};
use tempfile::TempDir;

/// A node that speaks TLS, and the files of those who ask it.
struct Place {
    node: Node,
    at: SocketAddr,
    folder: TempDir,
    authority: Authority,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a directory");
        let authority = Authority::new("operators");
        let path = folder.path();
        write(path, "node", &authority.issue("127.0.0.1", "node", VALID));
        std::fs::write(path.join("ca.pem"), &authority.pem).expect("a file can be written");
        let section = format!(
            "{}\ncert_file = {:?}\nkey_file = {:?}\nclient_ca_file = {:?}",
            api::SERVED,
            path.join("node.pem"),
            path.join("node.key"),
            path.join("ca.pem")
        );
        let mut node = Setup::default().without_users().with(&section).start();
        let at = api::address(&mut node);
        Place { node, at, folder, authority }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("a path of letters").to_owned()
    }

    /// Makes an administrator of the platform, or changes one.
    fn administrator(&self, name: &str, more: &str) {
        let text = format!("entity: Administrator\nfields: {{username: {name}, {more}}}\n");
        let file = self.file("administrator.yaml");
        std::fs::write(&file, text).expect("a file can be written");
        let data = self.node.data();
        let data = data.to_str().expect("a path of letters");
        ends(&node::run(&["ctl", "--data", data, "apply", "-f", &file]), 0);
    }

    /// Certificate and key of this name, as arguments.
    fn shown(&self, name: &str) -> [String; 4] {
        let [cert, key] = ["pem", "key"].map(|kind| self.file(&format!("{name}.{kind}")));
        ["--cert-file".to_owned(), cert, "--key-file".to_owned(), key]
    }

    fn ask(&self, command: &[&str], rest: &[String]) -> Output {
        self.ask_at(&format!("https://{}", self.at), command, rest)
    }

    fn ask_at(&self, server: &str, command: &[&str], rest: &[String]) -> Output {
        let ca = self.file("ca.pem");
        let mut arguments = vec!["ctl"];
        arguments.extend(command);
        arguments.extend(["--server", server]);
        if server.starts_with("https") && !rest.iter().any(|argument| argument == "--ca-file") {
            arguments.extend(["--ca-file", &ca]);
        }
        arguments.extend(rest.iter().map(String::as_str));
        node::run(&arguments)
    }
}

/// What a command prints that ends with this code.
fn ends(output: &Output, code: i32) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    format!("{out}{err}")
}

const STRONG: &str = "pass: A-new-password-1";

#[test]
fn a_certificate_of_an_administrator_does_what_a_token_does_and_others_are_told_why_not() {
    let mut place = Place::new();
    let folder = place.folder.path().to_owned();
    place.administrator("ops", STRONG);
    place.administrator("looker", &format!("{STRONG}, restricted: true"));
    for name in ["ops", "looker", "nobody"] {
        write(&folder, name, &place.authority.issue("client", name, VALID));
    }
    write(&folder, "old", &place.authority.issue("client", "ops", 2001..2002));
    let stranger = Authority::new("others");
    write(&folder, "foreign", &stranger.issue("client", "ops", VALID));

    let told = ends(&place.ask(&["nodes"], &place.shown("ops")), 0);
    assert!(told.contains("proxy"), "{told}");
    ends(&place.ask(&["get", "Administrator"], &place.shown("ops")), 0);
    let said = ends(&place.ask(&["nodes"], &place.shown("looker")), 1);
    assert!(said.contains("restricted ones excepted"), "{said}");
    for (name, part) in [
        ("nobody", "\"nobody\"'s: no administrator of the platform has this user name"),
        ("old", "it has expired; make a new one"),
        ("foreign", "`client_ca_file` of [api]"),
    ] {
        let said = ends(&place.ask(&["nodes"], &place.shown(name)), 1);
        assert!(said.contains(part), "{name}: {said}");
    }

    // A name and its password, and the token that the header has.
    std::fs::write(place.file("password"), "A-new-password-1").expect("a file can be written");
    std::fs::write(place.file("token"), "no-token").expect("a file can be written");
    let login = ["--user", "ops", "--password-file", &place.file("password")].map(str::to_owned);
    ends(&place.ask(&["nodes"], &login), 0);
    let token = ["--token-file", &place.file("token")].map(str::to_owned);
    let said = ends(&place.ask(&["nodes"], &token), 1);
    assert!(said.contains("Invalid JWT Token"), "{said}");
    let both = [&place.shown("ops")[..], &token].concat();
    let said = ends(&place.ask(&["nodes"], &both), 1);
    assert!(said.contains("Invalid JWT Token"), "the header goes first: {said}");

    // What is asked in a wrong way.
    let said = ends(&place.ask(&["nodes"], &[]), 1);
    assert!(said.contains("--token-file") && said.contains("--cert-file"), "{said}");
    let ca = |name: &str| [&["--ca-file".to_owned(), place.file(name)][..], &place.shown("ops")].concat();
    std::fs::write(place.file("others.pem"), &stranger.pem).expect("a file can be written");
    let said = ends(&place.ask(&["nodes"], &ca("others.pem")), 1);
    assert!(said.contains("not believed") && said.contains("--ca-file"), "{said}");
    let said = ends(&place.ask(&["nodes"], &ca("ops.key")), 1);
    assert!(said.contains("no certificate is in it"), "{said}");
    let https = format!("https://localhost:{}", place.at.port());
    let said = ends(&place.ask_at(&https, &["nodes"], &place.shown("ops")), 1);
    assert!(said.contains("the name that it is for"), "{said}");
    let http = format!("http://{}", place.at);
    let said = ends(&place.ask_at(&http, &["nodes"], &place.shown("ops")), 1);
    assert!(said.contains("are for TLS"), "{said}");
    let said = ends(&place.ask_at(&http, &["nodes"], &token), 1);
    assert!(said.contains("https://"), "{said}");
    let bare = node::run(&["ctl", "nodes", "--server", &format!("https://{}", place.at)]);
    assert!(ends(&bare, 1).contains("--ca-file FILE"));

    let mut stream = TcpStream::connect(place.at).expect("it is there");
    stream.set_read_timeout(Some(PATIENCE)).expect("a stream has time-outs");
    stream.write_all(b"GET /api/platform/docs HTTP/1.1\r\nHost: x\r\n\r\n").expect("the request leaves");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, and its end");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");

    place.administrator("ops", "active: false");
    let said = ends(&place.ask(&["nodes"], &place.shown("ops")), 1);
    assert!(said.contains("\"ops\"") && said.contains("disabled"), "{said}");
    place.node.stop();
}

#[test]
fn a_new_certificate_is_taken_over_by_a_node_that_runs_and_a_broken_one_is_told_of() {
    let mut place = Place::new();
    let folder = place.folder.path().to_owned();
    place.administrator("ops", STRONG);
    write(&folder, "ops", &place.authority.issue("client", "ops", VALID));
    ends(&place.ask(&["nodes"], &place.shown("ops")), 0);
    std::fs::write(folder.join("node.key"), "nothing").expect("a file can be written");
    let line = place.node.process().line_with("api.key_file", PATIENCE);
    assert!(line.is_some_and(|line| line.contains("node.key") && line.contains("goes on")));
    ends(&place.ask(&["nodes"], &place.shown("ops")), 0);

    // Everything is of another authority from now on, of clients, too.
    let new = Authority::new("successors");
    write(&folder, "new", &new.issue("client", "ops", VALID));
    std::fs::write(folder.join("ca.pem"), &new.pem).expect("a file can be written");
    // The key, which is none as yet, comes last: nothing is taken before.
    write(&folder, "node", &new.issue("127.0.0.1", "node", VALID));
    let taken = place.node.process().line_with("the API has a new certificate", PATIENCE);
    assert!(taken.is_some(), "{}", place.node.process().tail(20));
    ends(&place.ask(&["nodes"], &place.shown("new")), 0);
    let said = ends(&place.ask(&["nodes"], &place.shown("ops")), 1);
    assert!(said.contains("`client_ca_file` of [api]"), "{said}");
    place.node.stop();
}

#[test]
fn files_that_are_wrong_are_told_at_the_start() {
    let folder = tempfile::tempdir().expect("a directory");
    let name = |name: &str| folder.path().join(name);
    let authority = Authority::new("operators");
    write(folder.path(), "node", &authority.issue("127.0.0.1", "node", VALID));
    let config = name("carillon.toml");
    let started = |lines: &str| {
        let text = format!(
            "[node]\ndata = {:?}\n[sip]\nlisten = [\"udp:127.0.0.1:0\"]\n[api]\nlisten = \"127.0.0.1:0\"\n{lines}\n",
            name("data")
        );
        std::fs::write(&config, text).expect("a file can be written");
        ends(&node::run(&["serve", "--config", config.to_str().expect("a path of letters")]), 1)
    };
    let (cert, key) = (name("node.pem"), name("node.key"));
    let said = started(&format!("cert_file = {cert:?}"));
    assert!(said.contains("api.key_file: missing") && said.contains("api.cert_file"), "{said}");
    let said = started(&format!("client_ca_file = {cert:?}"));
    assert!(said.contains("write api.cert_file and api.key_file"), "{said}");
    let said = started(&format!("cert_file = {cert:?}\nkey_file = {:?}", name("none.key")));
    let shown = format!("api.key_file = {}: ", name("none.key").display());
    assert!(said.contains(&shown) && said.contains("that this user can read"), "{said}");
    let said = started(&format!("cert_file = {key:?}\nkey_file = {key:?}"));
    assert!(said.contains("api.cert_file = ") && said.contains("no certificate in PEM form"), "{said}");
}
