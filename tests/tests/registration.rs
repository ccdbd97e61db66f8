//! The registrar: a binding's life over UDP and TCP, digest algorithms, and what strangers can find out.

use sip::msg::{HeaderId, Message};
use std::process::Command;
use system_tests::call::{establish, sdp};
use system_tests::endpoint::{Endpoint, header, reason};
use system_tests::node::{Node, Setup, carillon};
use system_tests::process::Process;
use system_tests::sipp::Sipp;
use system_tests::{DOMAIN, PATIENCE};

fn binding_life(tcp: bool) {
    let mut node = Node::start();
    let client = Sipp::caller("register").user("bob").value("digest-uri", DOMAIN);
    let client = if tcp { client.tcp() } else { client };
    client.start(&node).finish();
    assert!(node.stop().0.is_empty());
}

#[test]
fn a_binding_lives_and_is_removed_over_udp() {
    binding_life(false);
}

#[test]
fn a_binding_lives_and_is_removed_over_tcp() {
    binding_life(true);
}

#[test]
fn each_algorithm_is_offered_and_each_is_accepted() {
    for algorithms in [r#"["SHA-256", "MD5"]"#, r#"["SHA-512-256"]"#, r#"["MD5"]"#] {
        let node = Setup::default().algorithms(algorithms).start();
        let mut bob = Endpoint::udp(&node, 3, "bob");
        let record = bob.record();
        let uri = format!("sip:{DOMAIN}");
        let via = bob.via();
        bob.send(format!(
            "REGISTER {uri} SIP/2.0\r\nVia: {via}\r\nFrom: {record};tag=1\r\nTo: {record}\r\nCall-ID: a\r\nCSeq: 1 REGISTER\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        ));
        let challenge = bob.expect("401 REGISTER");
        let offered: Vec<String> = lines(&challenge, HeaderId::WwwAuthenticate);
        let tokens: Vec<&str> =
            algorithms.split('"').filter(|token| token.starts_with(char::is_alphabetic)).collect();
        assert_eq!(offered.len(), tokens.len(), "{offered:?}");
        for (line, token) in offered.iter().zip(tokens) {
            assert!(line.contains(&format!("algorithm={token}")), "{offered:?}");
        }
        bob.register();
    }
}

#[test]
fn phones_that_know_sha_256_register_and_call_with_it_where_it_is_configured() {
    let node = Setup::default().algorithms(r#"["SHA-256"]"#).start();
    let server = node.sip().to_string();
    let phone = |user: &str, more: &[&str]| {
        let mut command = Command::new(carillon());
        let account = ["phone", "--user", user, "--password", user, "--server", &server];
        Process::start("carillon phone", command.args(account).args(more))
    };
    let mut bob = phone("bob", &["--answer", "--seconds", "20"]);
    assert!(bob.line_with("registered as bob", PATIENCE).is_some(), "{}", bob.tail(30));
    let mut alice = phone("alice", &["--call", "102", "--seconds", "1"]);
    for phone in [&mut alice, &mut bob] {
        assert!(phone.ended(PATIENCE).is_some_and(|status| status.success()), "{}", phone.tail(30));
    }
}

/// What a stranger sees of a refusal: all but what is random, or repeats his own words.
fn seen(response: &Message) -> String {
    let mut shown = format!("{} {}\n", response.status(), reason(response));
    for (_, name, value) in response.all_headers() {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let value = String::from_utf8_lossy(value).into_owned();
        let own_words = ["via", "from", "to", "call-id", "cseq"].contains(&name.as_str());
        let value = if own_words { String::new() } else { without_nonce(&value) };
        shown.push_str(&format!("{name}: {value}\n"));
    }
    shown
}

fn without_nonce(value: &str) -> String {
    let parts = value.split(", ").map(|part| if part.starts_with("nonce=") { "nonce" } else { part });
    parts.collect::<Vec<_>>().join(", ").replace("users.unknown.example", DOMAIN)
}

fn lines(message: &Message, id: HeaderId) -> Vec<String> {
    message.lines(id).map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

/// First REGISTER without credentials, then with them; both answers.
fn attempt(node: &Node, user: &str, domain: &str, password: &str) -> (String, String) {
    let mut client = Endpoint::udp(node, 4, user).with_login(user, password);
    let (record, uri) = (format!("<sip:{user}@{domain}>"), format!("sip:{domain}"));
    let mut answers = Vec::new();
    for cseq in 1..=2 {
        let (via, credentials) = (client.via(), client.credentials("REGISTER", &uri));
        client.send(format!(
            "REGISTER {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {record};tag=1\r\nTo: {record}\r\nCall-ID: {user}-x\r\n\
             CSeq: {cseq} REGISTER\r\nContact: <{}>\r\n{credentials}Content-Length: 0\r\n\r\n",
            client.contact()
        ));
        let answer = client.expect("401 REGISTER");
        client.challenged(&answer);
        answers.push(seen(&answer));
    }
    let second = answers.remove(1);
    (answers.remove(0), second)
}

#[test]
fn wrong_password_unknown_user_and_unknown_domain_look_the_same() {
    let node = Node::start();
    let wrong_password = attempt(&node, "alice", DOMAIN, "guess");
    assert_eq!(attempt(&node, "nobody", DOMAIN, "guess"), wrong_password);
    assert_eq!(attempt(&node, "alice", "users.unknown.example", "guess"), wrong_password);
    assert_eq!(attempt(&node, "nobody", "users.unknown.example", "guess"), wrong_password);
}

#[test]
fn nobody_registers_for_somebody_else() {
    let node = Node::start();
    let mut mallory = Endpoint::udp(&node, 4, "alice");
    let contact = format!("Contact: <{}>\r\nExpires: 300\r\n", mallory.contact());
    let bobs = format!("<sip:bob@{DOMAIN}>");
    let response = mallory.ask("REGISTER", &format!("sip:{DOMAIN}"), &bobs, &bobs, &contact);
    assert_eq!(response.status(), 403);
}

#[test]
fn credentials_are_good_once() {
    let node = Node::start();
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    let (record, uri, via) = (bob.record(), format!("sip:{DOMAIN}"), bob.via());
    let credentials = bob.credentials("REGISTER", &uri);
    let request = |via: &str, cseq: u32| {
        format!(
            "REGISTER {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {record};tag=1\r\nTo: {record}\r\nCall-ID: twice\r\n\
             CSeq: {cseq} REGISTER\r\n{credentials}Content-Length: 0\r\n\r\n"
        )
    };
    bob.send(request(&via, 1));
    bob.expect("200 REGISTER");
    let via = bob.via();
    bob.send(request(&via, 2));
    let replayed = bob.expect("401 REGISTER");
    assert!(header(&replayed, HeaderId::WwwAuthenticate).contains("stale=true"), "{replayed:?}");
}

#[test]
fn a_phone_is_called_over_the_connection_that_it_registered_by() {
    let mut node = Node::start();
    let mut bob = Endpoint::tcp(&node, 3, "bob");
    bob.register();
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let mut call = establish(&mut alice, &mut bob);
    bob.in_dialog(&mut call.callee, "BYE", "", "");
    alice.hung_up();
    bob.expect("200 BYE");
    node.stop().answered(model::HungUpBy::Callee);
}

/// The 200 to a REGISTER promises that: nothing is left to a tidy end.
#[test]
fn a_registration_outlives_a_kill_right_after_its_answer() {
    let mut node = Node::start();
    Endpoint::udp(&node, 3, "bob").register();
    node.kill();
    node.restart();
    let callee = Sipp::callee("answer").start(&node);
    Sipp::caller("call").start(&node).finish();
    callee.finish();
    node.stop().answered(model::HungUpBy::Caller);
}

#[test]
fn a_registration_does_not_outlive_a_change_of_its_password() {
    let mut node = Node::start();
    let mut bob = Endpoint::udp(&node, 3, "bob");
    bob.register();
    node.stop();
    let file = node.folder().join("users.toml");
    let users = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, users.replace("secret = \"bob\"", "secret = \"another\"")).unwrap();
    node.restart();
    // Whoever has the telephone with the old password is called no more; the one with the new one is.
    let mut alice = Endpoint::udp(&node, 2, "alice");
    let invite = alice.invite("102", "", &sdp(alice.ip(), 30_000));
    alice.refused(&invite, 480);
    let mut new = Endpoint::udp(&node, 4, "bob").with_login("bob", "another");
    new.register();
    let mut call = establish(&mut alice, &mut new);
    alice.in_dialog(&mut call.caller, "BYE", "", "");
    new.hung_up();
    assert_eq!(bob.try_register(3600).status(), 401, "and this is the first that the old one hears");
}

#[test]
fn a_registration_outlives_a_restart() {
    let mut node = Node::start();
    Endpoint::udp(&node, 3, "bob").register();
    node.stop();
    node.restart();
    let callee = Sipp::callee("answer").start(&node);
    Sipp::caller("call").start(&node).finish();
    callee.finish();
    node.stop().answered(model::HungUpBy::Caller);
}
