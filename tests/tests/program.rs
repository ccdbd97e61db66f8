//! The program as an operator meets it: the demo, mistakes in files, ports in use, SIGTERM and SIGKILL during calls.

use model::{Cdr, HungUpBy};
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;
use system_tests::call::{Established, establish, establish_with, media_address, sdp};
use system_tests::endpoint::Endpoint;
use system_tests::node::{Node, Setup, carillon, demo, run};
use system_tests::place::Place;
use system_tests::process::Process;
use system_tests::records::{Records, check};
use system_tests::rtp::{RtpPort, Side, converse, greet};

#[test]
fn the_demo_places_a_checked_call_and_ends() {
    let place = Place::take();
    let output = demo(&place.sip(1), &["--once"]).output().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{complaints}");
    assert!(complaints.is_empty(), "the first thing that somebody sees is a warning: {complaints}");
    for part in ["INVITE (SDP)", "407 Proxy Authentication", "180 Ringing", "200 OK", "BYE", "loopback only"]
    {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    assert!(
        text.lines().any(|line| line.starts_with("call ") && line.contains("101 \"Alice Allison\" -> 102")),
        "{text}"
    );
    assert!(text.matches("packets in").count() == 6, "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("ok ")).count(), 11, "{text}");
}

#[test]
fn the_demo_without_a_call_serves_and_says_how_to_connect() {
    let place = Place::take();
    let sip = place.sip(1).to_string();
    let mut demo = Process::start("carillon demo", &mut demo(&place.sip(1), &["--no-call"]));
    assert!(demo.line_with("Ctrl-C stops the node", Duration::from_secs(20)).is_some(), "{}", demo.tail(30));
    assert!(demo.line_with(&sip, Duration::ZERO).is_some(), "{}", demo.tail(30));
    demo.terminate();
    assert!(demo.ended(Duration::from_secs(20)).is_some_and(|status| status.success()), "{}", demo.tail(30));
}

#[test]
fn the_demo_interrupted_during_its_call_leaves_nothing_behind() {
    let place = Place::take();
    let temporary = tempfile::tempdir().unwrap();
    let mut command = demo(&place.sip(1), &[]);
    command.env("TMPDIR", temporary.path());
    let mut demo = Process::start("carillon demo", &mut command);
    assert!(demo.line_with("alice calls 102", system_tests::PATIENCE).is_some(), "{}", demo.tail(30));
    demo.terminate();
    let ended = demo.ended(system_tests::PATIENCE);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}; {}", demo.tail(30));
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn a_phone_that_neither_calls_nor_answers_says_that_it_waits_and_how_to_end_it() {
    let node = Node::start();
    let server = node.sip().to_string();
    for (answer, said) in [(None, "stays registered"), (Some("--answer"), "waits for calls")] {
        let mut command = Command::new(carillon());
        command.args(["phone", "--server", &server, "--user", "bob", "--password", "bob"]).args(answer);
        let mut phone = Process::start("carillon phone", &mut command);
        let line = phone.line_with(said, system_tests::PATIENCE);
        assert!(line.is_some_and(|line| line.contains("Ctrl-C ends this")), "{}", phone.tail(30));
        phone.terminate();
        let ended = phone.ended(system_tests::PATIENCE);
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}; {}", phone.tail(30));
    }
}

/// `serve` with this configuration text must fail; its complaint.
fn complaint(text: &str) -> String {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("carillon.toml");
    let text = text.replace("DATA", folder.path().join("data").to_str().expect("plain text"));
    std::fs::write(&file, text).expect("a file");
    let mut command = Command::new(carillon());
    let mut process = Process::start("carillon serve", command.arg("serve").arg("--config").arg(&file));
    let ended = process.ended(Duration::from_secs(20));
    assert!(ended.is_some_and(|status| !status.success()), "{ended:?}; {}", process.tail(30));
    process.lines().join("\n")
}

#[test]
fn all_mistakes_of_a_configuration_are_listed() {
    let complaint = complaint(
        "[node]\nid = 0\ncolour = 1\n[sip]\nlisten = [\"udp:here\", \"udp:0.0.0.0:5060\"]\n[media]\nports = \"9-8\"\n\
         [registrar]\nmin_expires = 7200\n[tls]\n",
    );
    for (key, value) in [
        ("node.id", "0"),
        ("node.colour", "1"),
        ("sip.listen[0]", "udp:here"),
        ("sip.listen[1]", "0.0.0.0"),
        ("media.advertise", "0.0.0.0"),
        ("media.ports", "9-8"),
        ("registrar.min_expires", "7200"),
        ("tls", ""),
    ] {
        assert!(
            complaint.lines().any(|line| line.contains(key) && line.contains(value)),
            "{key} in:\n{complaint}"
        );
    }
    assert!(complaint.contains("8 mistakes"), "{complaint}");
}

#[test]
fn all_mistakes_of_the_users_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let mut users = model::Configuration::demo();
    users.users[0].terminal = Some(model::Id::new(77));
    users.extensions[1].number = users.extensions[0].number.clone();
    let file = folder.path().join("users.toml");
    // Wrong types and unknown keys hide neither each other nor what refers to nothing.
    let text = toml::to_string(&users).unwrap();
    let text = text.replacen("call_waiting = 0", "call_waiting = -1", 1).replacen(
        "[[clients]]",
        "[[clients]]\ncolour = 1",
        1,
    );
    std::fs::write(&file, text).unwrap();
    let place = Place::take();
    let complaint = complaint(&format!(
        "[node]\ndata = \"DATA\"\n[sip]\nlisten = [\"udp:{}\"]\n[users]\nfile = {file:?}\n",
        place.sip(1)
    ));
    for line in [
        "users.file: users[1].terminal = 77: there is no such terminal",
        "users.file: extensions[2].number = 101: ",
        "users.file: users[1].call_waiting = -1: give a whole number from 0",
        "users.file: clients[1].colour = (not shown): unknown key; there are id, brand, name, domain",
        "4 mistakes",
    ] {
        assert!(complaint.contains(line), "{line} in:\n{complaint}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let output = run(&["serve", "--config", "/nonexistent/carillon.toml"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/carillon.toml"), "{output:?}");
}

#[test]
fn a_port_in_use_is_named_with_its_listener() {
    let place = Place::take();
    let taken = UdpSocket::bind(place.sip(1)).unwrap();
    let complaint = complaint(&format!(
        "[node]\ndata = \"DATA\"\n[sip]\nlisten = [\"tcp:{0}\", \"udp:{0}\"]\n",
        taken.local_addr().unwrap()
    ));
    let named = format!("UDP {}", place.sip(1));
    assert!(complaint.contains(&format!("{named}: the port is in use; stop")), "{complaint}");
    drop(taken);

    let taken = TcpListener::bind(place.sip(1)).unwrap();
    let complaint = self::complaint(&format!(
        "[node]\ndata = \"DATA\"\n[sip]\nlisten = [\"udp:{0}\", \"tcp:{0}\"]\n",
        taken.local_addr().unwrap()
    ));
    let named = format!("TCP {}", place.sip(1));
    assert!(complaint.contains(&format!("{named}: the port is in use; stop")), "{complaint}");
}

#[test]
fn a_data_directory_in_use_is_named() {
    let node = Node::start();
    let place = Place::take();
    let data = node.data();
    let complaint =
        complaint(&format!("[node]\ndata = {data:?}\n[sip]\nlisten = [\"udp:{}\"]\n", place.sip(1)));
    assert!(complaint.contains(data.to_str().unwrap()), "{complaint}");
}

/// The examples that operators copy are right together.
#[test]
fn the_example_configuration_is_right() {
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
    let example = std::fs::read_to_string(format!("{deploy}/carillon.toml")).unwrap();
    let named = example.replace("# file = \"users.toml\"", &format!("file = \"{deploy}/users.toml\""));
    assert_ne!(named, example);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("carillon.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        run(&["serve", "--config", file.to_str().unwrap(), "--check"])
    };
    for text in [&example, &named] {
        let output = check(text);
        assert!(output.status.success(), "{output:?}");
    }
    let facing = check(&named.replace("127.0.0.1:5060", "192.0.2.1:5060"));
    let complaint = String::from_utf8_lossy(&facing.stderr);
    assert!(!facing.status.success() && complaint.contains("1 mistake in"), "{complaint}");
    assert!(complaint.contains("deploy/users.toml: the password of terminal anna, ben"), "{complaint}");
}

#[test]
fn a_node_without_users_says_what_to_do() {
    let place = Place::take();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("carillon.toml");
    let data = folder.path().join("data");
    std::fs::write(&file, format!("[node]\ndata = {data:?}\n[sip]\nlisten = [\"udp:{}\"]\n", place.sip(1)))
        .unwrap();
    let mut command = Command::new(carillon());
    let mut node = Process::start("carillon serve", command.arg("serve").arg("--config").arg(&file));
    assert!(node.line_with("carillon is ready", system_tests::PATIENCE).is_some(), "{}", node.tail(30));
    let line = node.line_with("no user is configured", system_tests::PATIENCE);
    let says_how = |line: &String| line.contains("deploy/users.toml") && line.contains("[api]");
    assert!(line.as_ref().is_some_and(says_how), "{}", node.tail(30));
    node.terminate();
    assert!(node.ended(system_tests::PATIENCE).is_some_and(|status| status.success()), "{}", node.tail(30));
    // The demo would put its own users there, and their passwords are known.
    let output =
        run(&["demo", "--no-call", "--data", data.to_str().unwrap(), "--sip", &place.sip(2).to_string()]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaint.contains("another configuration"), "{complaint}");
}

struct Phones {
    alice: Endpoint,
    bob: Endpoint,
}

impl Phones {
    fn new(node: &Node) -> Phones {
        let mut bob = Endpoint::udp(node, 3, "bob");
        bob.register();
        Phones { alice: Endpoint::udp(node, 2, "alice"), bob }
    }

    fn call(&mut self) -> Established {
        establish(&mut self.alice, &mut self.bob)
    }
}

/// What a registration, its refresh, a call, a refusal and the end of the registration leave in the log.
fn log_of_a_day(filter: &str) -> Vec<String> {
    let mut node = Setup::default().log(filter).start();
    let mut phones = Phones::new(&node);
    phones.bob.register();
    let mut call = phones.call();
    phones.alice.in_dialog(&mut call.caller, "BYE", "", "");
    phones.bob.hung_up();
    phones.alice.expect("200 BYE");
    assert_eq!(phones.bob.try_register(0).status(), 200);
    let mut thief = Endpoint::udp(&node, 4, "bob").with_login("bob", "hush-hush");
    assert_eq!(thief.try_register(300).status(), 401);
    node.process().terminate();
    assert!(node.process().ended(system_tests::PATIENCE).is_some(), "{}", node.process().tail(40));
    node.process().lines()
}

#[test]
fn a_log_tells_what_became_of_registrations_and_calls() {
    let lines = log_of_a_day("debug");
    let has = |parts: &[&str]| {
        assert!(
            lines.iter().any(|line| parts.iter().all(|part| line.contains(part))),
            "no line with {parts:?} in:\n{}",
            lines.join("\n")
        );
    };
    for what in ["registered", "refreshed", "unregistered"] {
        has(&["DEBUG", "binding aor=terminal 2", &format!("what=\"{what}\"")]);
    }
    has(&["DEBUG", "request refused", "method=REGISTER", "status=401", "cause=Challenged"]);
    has(&["DEBUG", "request refused", "method=REGISTER", "status=401", "cause=WrongPassword"]);
    let began = lines.iter().find(|line| line.contains("call began")).expect("a line of the call");
    let call = began.split_whitespace().find(|word| word.starts_with("call=")).expect("its id");
    for what in ["leg began", "leg ended"] {
        let of_legs = lines.iter().filter(|line| line.contains(what) && line.contains(call));
        assert_eq!(of_legs.count(), 2, "{what} {call} in:\n{}", lines.join("\n"));
    }
    has(&["DEBUG", "call answered", call]);
    has(&["INFO", "call ended", call]);
    assert!(!lines.iter().any(|line| line.contains("TRACE")));
}

#[test]
fn a_log_never_holds_a_secret_nor_what_is_said() {
    let lines = log_of_a_day("trace");
    let text = lines.join("\n");
    for line in
        ["INVITE sip:102@", "SIP/2.0 180 Ringing", "direction=\"in\"", "direction=\"out\"", "line=BYE sip:"]
    {
        assert!(text.contains(line), "{line} in:\n{text}");
    }
    for secret in ["hush-hush", "Authorization", "nonce", "response=", "Digest", "m=audio", "secret"] {
        assert!(!text.contains(secret), "{secret} in:\n{text}");
    }
    // From INFO on, nobody's name or address-of-record. Numbers stand in both.
    for line in lines.iter().filter(|line| !line.contains("TRACE") && !line.contains("DEBUG")) {
        for person in ["sip:", "alice", "bob", "Allison", "Bobson"] {
            assert!(!line.contains(person), "{person} in {line}");
        }
    }
}

#[test]
fn sigterm_ends_every_call_tidily() {
    let mut node = Node::start();
    let mut phones = Phones::new(&node);
    phones.call();
    phones.call();
    let ringing = phones.alice.invite("102", "", &sdp(phones.alice.ip(), 30_004));
    let invite = phones.bob.expect("INVITE");
    phones.bob.respond(&invite, 180, "r", "", "");
    phones.alice.expect("180 INVITE");
    node.process().terminate();
    // Both sides of both conversations get a BYE; who rings is told to stop, who waits is refused.
    let mut seen = Vec::new();
    for phone in [&mut phones.alice, &mut phones.bob] {
        for _ in 0..3 {
            let Some(message) = phone.fresh(system_tests::PATIENCE) else { phone.fail("nothing comes") };
            let name = system_tests::endpoint::name_of(&message);
            match name.as_str() {
                "BYE" => phone.respond(&message, 200, "", "", ""),
                "CANCEL" => {
                    phone.respond(&message, 200, "r", "", "");
                    phone.respond(&invite, 487, "r", "", "");
                }
                "503 INVITE" => phone.ack_failure(&ringing, &message),
                _ => {}
            }
            seen.push(name);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, ["503 INVITE", "BYE", "BYE", "BYE", "BYE", "CANCEL"]);
    let ended = node.process().ended(system_tests::PATIENCE);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}; {}", node.process().tail(40));
    let records = Records::read(&node.data());
    assert_eq!(records.0.len(), 3, "{records:#?}");
    for cdr in &records.0 {
        check(cdr);
        assert_eq!((cdr.cause.status, cdr.hung_up_by), (503, HungUpBy::Platform), "{cdr:#?}");
    }
    assert_eq!(records.0.iter().filter(|cdr| cdr.answered_us.is_some()).count(), 2, "{records:#?}");
}

#[test]
fn sigterm_waits_until_a_phone_has_heard_the_bye_that_was_lost() {
    let mut node = Node::start();
    let mut phones = Phones::new(&node);
    phones.call();
    node.process().terminate();
    phones.alice.hung_up();
    phones.bob.expect("BYE"); // as if it had not come
    let again = phones.bob.expect_repeat("BYE");
    phones.bob.respond(&again, 200, "", "", "");
    let ended = node.process().ended(system_tests::PATIENCE);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}; {}", node.process().tail(40));
    let log = node.process().lines().join("\n");
    assert!(!log.contains("did not answer"), "nobody was given up: {log}");
}

#[test]
fn a_second_sigterm_waits_for_nobody() {
    let mut node = Node::start();
    let mut phones = Phones::new(&node);
    phones.call();
    node.process().terminate();
    phones.alice.expect("BYE");
    phones.bob.expect("BYE");
    node.process().terminate();
    let ended = node.process().ended(system_tests::PATIENCE);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}; {}", node.process().tail(40));
    let log = node.process().lines().join("\n");
    assert!(log.contains("told to stop at once") && !log.contains("did not answer"), "{log}");
}

#[test]
fn a_call_whose_node_dies_leaves_one_record_and_bindings_stay() {
    let mut node = Node::start();
    let mut phones = Phones::new(&node);
    let first = phones.call();
    // The note of the answer is on its way to the disk; a second call's registration of the same phone waits for it.
    phones.bob.register();
    node.kill();
    let records = Records::read(&node.data());
    lost(records.only(), &first);
    node.restart();
    // Bob did not register again.
    let mut second = phones.call();
    phones.alice.in_dialog(&mut second.caller, "BYE", "", "");
    phones.bob.hung_up();
    phones.alice.expect("200 BYE");
    // The old call's BYE meets nobody.
    let mut old = first.clone();
    phones.alice.in_dialog(&mut old.caller, "BYE", "", "");
    phones.alice.expect("481 BYE");
    let records = node.stop();
    assert_eq!(records.0.len(), 2, "{records:#?}");
    lost(&records.0[1], &first);
    assert_eq!(records.0[0].cause.status, 200, "{records:#?}");
}

fn lost(cdr: &Cdr, call: &Established) {
    check(cdr);
    assert_eq!((cdr.cause.text.as_str(), cdr.hung_up_by), ("Node lost", HungUpBy::Platform), "{cdr:#?}");
    assert!(cdr.answered_us.is_some(), "{cdr:#?}");
    let ids: Vec<_> = cdr.legs.iter().map(|leg| leg.sip_call_id.as_str()).collect();
    assert_eq!(ids, [call.caller.call_id.as_str(), call.callee.call_id.as_str()]);
}

#[test]
fn two_hundred_calls_at_the_same_time() {
    const CALLS: u16 = 200;
    const PACKETS: u16 = 20;
    let mut node = Node::start();
    let mut phones = Phones::new(&node);
    let mut calls = Vec::new();
    for number in 0..CALLS {
        let port = |first: u16| first + 2 * number;
        let her = RtpPort::open(phones.alice.ip(), port(30_000));
        let his = RtpPort::open(phones.bob.ip(), port(30_000));
        let (offer, answer) = (sdp(phones.alice.ip(), her.port()), sdp(phones.bob.ip(), his.port()));
        let call = establish_with(&mut phones.alice, &mut phones.bob, "102", &offer, &answer);
        calls.push((call, her, his));
    }
    // Every stream is relayed to its own peer while all others run.
    for (call, her, his) in &calls {
        greet(&side(her, &call.answer), &side(his, &call.offer));
    }
    for number in 1..PACKETS {
        for (call, her, his) in &calls {
            converse(&side(her, &call.answer), &side(his, &call.offer), number..number + 1);
        }
    }
    for (call, ..) in &mut calls {
        phones.alice.in_dialog(&mut call.caller, "BYE", "", "");
        phones.bob.hung_up();
        phones.alice.expect("200 BYE");
    }
    let records = node.stop();
    assert_eq!(records.0.len(), usize::from(CALLS));
    for cdr in &records.0 {
        check(cdr);
        assert_eq!((cdr.cause.status, cdr.hung_up_by), (200, HungUpBy::Caller), "{cdr:#?}");
        for leg in &cdr.legs {
            let media = leg.media.expect("audio went through the relay");
            assert_eq!(
                (media.packets_sent, media.lost, media.dropped),
                (u64::from(PACKETS), 0, 0),
                "{cdr:#?}"
            );
        }
    }
}

fn side<'a>(port: &'a RtpPort, sdp: &str) -> Side<'a> {
    Side { port, to: media_address(sdp) }
}
