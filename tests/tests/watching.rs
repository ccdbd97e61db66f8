//! How a node is watched: its metrics before and after a call, whether it may get calls, what it logs, its traces, its messages for
//! Homer as sngrep reads them.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Instant;
use system_tests::call::{Established, establish};
use system_tests::cluster::{Cluster, TWO_OF_EACH};
use system_tests::conversation::{Conversation, one_record};
use system_tests::endpoint::Endpoint;
use system_tests::node::{self, Node, Setup};
use system_tests::process::Process;
use system_tests::watching::{self, Collector, OPERATED, Page, attribute, get, packets, tree};
use system_tests::{PATIENCE, api};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

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

    fn hang_up(&mut self, call: &mut Established) {
        self.alice.in_dialog(&mut call.caller, "BYE", "", "");
        self.bob.hung_up();
        self.alice.expect("200 BYE");
    }
}

/// Asks until the answer is the wanted one.
fn until<T: std::fmt::Debug>(ask: impl Fn() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "still {answer:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_call_moves_the_figures_and_every_page_is_one_that_prometheus_reads() {
    let mut node = Setup::default().with(OPERATED).start();
    let at = watching::address(&mut node);
    let before = Page::of(at);
    for (name, value) in [
        ("carillon_calls", 0.0),
        ("carillon_ready", 1.0),
        ("carillon_draining", 0.0),
        ("carillon_store_writable", 1.0),
        ("carillon_database_reachable", 1.0),
        ("carillon_sip_received_total", 0.0),
    ] {
        assert_eq!(before.value(name), value, "{name}");
    }
    assert!(before.value("process_resident_memory_bytes") > 1e6 && before.value("process_open_fds") > 3.0);
    let mut phones = Phones::new(&node);
    let mut call = phones.call();
    let during = Page::of(at);
    for (name, value) in [
        ("carillon_calls", 1.0),
        ("carillon_legs", 2.0),
        ("carillon_registrations", 1.0),
        ("carillon_relay_sessions", 1.0),
        ("carillon_relay_port_pairs{state=\"used\"}", 2.0),
        ("carillon_call_setup_seconds_count{to=\"ringing\"}", 1.0),
        ("carillon_call_setup_seconds_count{to=\"answer\"}", 1.0),
    ] {
        assert_eq!(during.value(name), value, "{name}");
    }
    phones.hang_up(&mut call);
    let answered = "carillon_calls_ended_total{outcome=\"answered\"}";
    let after =
        until(|| Page::of(at), |page| page.value(answered) == 1.0 && page.value("carillon_calls") == 0.0);
    for (name, value) in [
        ("carillon_calls_begun_total", 1.0),
        ("carillon_calls_crashed_total", 0.0),
        ("carillon_call_records_total{result=\"written\"}", 1.0),
        ("carillon_legs", 0.0),
        ("carillon_legs_begun_total", 2.0),
        ("carillon_registered_total", 1.0),
        // The INVITE and the REGISTER.
        ("carillon_sip_refused_total{cause=\"challenged\"}", 2.0),
        ("carillon_sip_refused_total{cause=\"panic\"}", 0.0),
    ] {
        assert_eq!(after.value(name), value, "{name}");
    }
    assert!(after.value("carillon_sip_received_total") > 7.0);
    assert!(after.value("carillon_sip_turn_lag_seconds_count") > 0.0);
    assert_eq!(before.families, after.families, "what there is does not come and go");
    node.stop();
}

/// What gRPC says of the whole.
fn health(api: SocketAddr) -> ServingStatus {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{api}")).expect("a URL");
        let mut client = HealthClient::new(endpoint.connect().await.expect("the API is served"));
        let told = client.check(HealthCheckRequest::default()).await.expect("health is told to everybody");
        told.into_inner().status()
    })
}

#[test]
fn a_node_without_free_media_ports_is_alive_and_not_ready_until_a_call_ends() {
    let setup = Setup::default().with(OPERATED).with(api::SERVED);
    let mut node = setup.media_ports(|_| "24000-24007".to_owned()).start();
    let at = watching::address(&mut node);
    let api = api::address(&mut node);
    let (status, _, body) = get(at, "/readyz");
    assert!(status == 200 && body.lines().all(|line| line.starts_with("ok ")), "{body}");
    until(|| health(api), |status| *status == ServingStatus::Serving);
    let mut phones = Phones::new(&node);
    let mut first = phones.call();
    phones.call();
    let (status, _, body) = get(at, "/readyz");
    assert!(status == 503 && body.contains("NOT   media ports: 4 of 4 are taken (media.ports"), "{body}");
    assert_eq!(Page::of(at).value("carillon_ready"), 0.0);
    assert_eq!(get(at, "/healthz").0, 200, "restarting it would help nobody");
    until(|| health(api), |status| *status == ServingStatus::NotServing);
    phones.hang_up(&mut first);
    until(|| get(at, "/readyz").0, |status| *status == 200);
    until(|| health(api), |status| *status == ServingStatus::Serving);
}

#[test]
fn a_node_that_ends_says_that_it_drains_and_lives() {
    let mut node = Setup::default().with(OPERATED).start();
    let at = watching::address(&mut node);
    let mut phones = Phones::new(&node);
    phones.call();
    node.process().terminate();
    phones.alice.hung_up();
    let bye = phones.bob.expect("BYE"); // while he says nothing, the node waits for him
    let (_, _, body) = until(|| get(at, "/readyz"), |answer| answer.0 == 503);
    assert!(body.contains("NOT   not draining: ") && body.contains("ok    store writable"), "{body}");
    assert_eq!(
        get(at, "/healthz"),
        (200, "text/plain; charset=utf-8".to_owned(), "ok    loops\n".to_owned())
    );
    assert_eq!(Page::of(at).value("carillon_draining"), 1.0);
    phones.bob.respond(&bye, 200, "", "", "");
    let ended = node.process().ended(PATIENCE);
    assert!(ended.is_some_and(|status| status.success()), "{}", node.process().tail(40));
}

#[test]
fn a_listener_that_cannot_be_had_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("c.toml"), folder.path().join("data"));
    let (place, taken) = (system_tests::place::Place::take(), taken.local_addr().unwrap());
    let text = format!(
        "[node]\ndata = {data:?}\n[sip]\nlisten = [\"udp:{}\"]\n[operate]\nlisten = \"{taken}\"\n",
        place.sip(1)
    );
    std::fs::write(&file, text).unwrap();
    let output = node::run(&["serve", "--config", file.to_str().unwrap()]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && complaint.contains(&format!("operate.listen = {taken}: ")),
        "{complaint}"
    );
}

fn ctl(node: &Node, arguments: &[&str]) -> (bool, String) {
    let data = node.data();
    let output = node::run(
        &[&["ctl", "--data", data.to_str().expect("a path of letters"), "log-level"], arguments].concat(),
    );
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn what_a_node_logs_is_changed_while_it_runs() {
    let mut node = Setup::default().log("warn").start();
    let mut bob = Endpoint::udp(&node, 3, "bob");
    assert_eq!(ctl(&node, &[]), (true, "warn (configured: warn)\n".to_owned()));
    bob.register();
    assert_eq!(ctl(&node, &["proxy=debug"]), (true, "proxy=debug (configured: warn)\n".to_owned()));
    bob.register();
    let line =
        node.process().line_with(" binding aor=terminal 2", PATIENCE).expect("debug tells of registrations");
    assert!(line.contains("refreshed") && line.ends_with(" node=1"), "{line}");
    let (done, shown) = ctl(&node, &["info,proxy=trace", "--for", "1s"]);
    assert!(done && shown == "info,proxy=trace, for 1 s (configured: warn)\n", "{shown}");
    until(|| ctl(&node, &[]).1, |shown| shown == "warn (configured: warn)\n");
    let logged = node.process().lines().len();
    bob.register();
    assert_eq!(node.process().lines().len(), logged, "{}", node.process().tail(5));
    ctl(&node, &["error"]);
    assert_eq!(ctl(&node, &["--configured"]), (true, "warn (configured: warn)\n".to_owned()));
    let (done, complaint) = ctl(&node, &["loud"]);
    assert!(!done && complaint.contains("\"loud\" is no level"), "{complaint}");
    assert!(!ctl(&node, &["debug", "--for", "2d"]).0);
    node.stop();
}

#[test]
fn every_line_of_a_call_names_it_and_its_node() {
    // The first line goes on with the section of the log.
    let mut node = Setup::default().log("debug").with("format = \"json\"").start();
    let mut phones = Phones::new(&node);
    let mut call = phones.call();
    phones.hang_up(&mut call);
    node.process().line_with("call ended", PATIENCE).expect("the call ends");
    let lines: Vec<serde_json::Value> =
        node.process().lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |target: &str| {
        let is_its =
            |line: &&serde_json::Value| line["target"].as_str().is_some_and(|own| own.starts_with(target));
        lines.iter().filter(is_its).collect::<Vec<_>>()
    };
    let calls = of("appserver");
    assert!(calls.len() >= 3, "{lines:#?}");
    let id = calls[0]["fields"]["call"].as_str().expect("its name");
    let legs = of("proxy::worker::legs");
    assert_eq!(legs.iter().filter(|line| line["fields"]["message"] == "leg began").count(), 2);
    for line in calls.iter().chain(&legs) {
        assert_eq!((&line["fields"]["call"], &line["node"]), (&id.into(), &1.into()), "{line}");
    }
    assert!(lines.iter().all(|line| line["node"] == 1), "{lines:#?}");
    node.stop();
}

#[test]
fn a_call_is_one_trace_of_its_legs_and_steps() {
    let collector = Collector::start();
    let mut node = Setup::default().with(&collector.section()).start();
    let mut phones = Phones::new(&node);
    let mut call = phones.call();
    phones.hang_up(&mut call);
    // They leave at the end of the node at the latest.
    let records = node.stop();
    let spans = collector.spans(10);
    let keys = ["carillon.outcome", "carillon.hung_up_by", "sip.status", "carillon.end", "carillon.node"];
    let expected = "\
call answered caller 200 1
  leg in 200 hung up 1
    authentication 1
    ringing 1
  leg out 200 hung up by us 1
    ringing 1
  relay answer 1
  relay offer 1
  routing 1
  talking 1
";
    assert_eq!(tree(&spans, &keys), expected);
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let cdr = records.only();
    let root = named("call");
    assert_eq!(attribute(root, "carillon.call"), cdr.call);
    assert_eq!(attribute(root, "carillon.client"), cdr.client.get().to_string());
    assert_eq!(attribute(named("leg in"), "sip.call_id"), call.caller.call_id);
    assert_eq!(attribute(named("leg out"), "sip.call_id"), call.callee.call_id);
    for span in &spans {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:#?}");
    }
    assert!(named("ringing").end_time_unix_nano <= named("talking").end_time_unix_nano);
    collector.metric("carillon_uptime_seconds");
    // Nobody's number or name goes to a collector.
    let attributes = spans.iter().flat_map(|span| &span.attributes);
    // Telephones choose their Call-IDs themselves.
    let all: String =
        attributes.filter(|pair| pair.key != "sip.call_id").map(|pair| format!("{pair:?}\n")).collect();
    for person in ["alice", "bob", "Allison", "\"102\"", "\"101\"", "sip:"] {
        assert!(!all.contains(person), "{person} in {all}");
    }
}

#[test]
fn a_call_of_many_nodes_is_one_trace() {
    let collector = Collector::start();
    let cluster = Cluster::start_with(TWO_OF_EACH, &collector.section());
    let mut conversation = Conversation::begin(&cluster);
    conversation.hang_up();
    one_record(cluster);
    // Which server and relay it was, a hash says; Alice is at the first proxy, and Bob at the second.
    let spans = collector.spans(10);
    let text = tree(&spans, &["carillon.node"]);
    assert!(text.contains("  leg in 1\n") && text.contains("  leg out 2\n"), "{text}");
    let nodes: BTreeSet<String> = spans.iter().map(|span| attribute(span, "carillon.node")).collect();
    assert!(nodes.len() >= 3, "two proxies and a server have parts of it:\n{text}");
}

#[test]
fn a_refused_call_is_a_trace_and_calls_that_are_not_sampled_are_none() {
    let collector = Collector::start();
    let refused = |section: &str| {
        let mut node = Setup::default().with(section).start();
        let mut alice = Endpoint::udp(&node, 2, "alice");
        let invite = alice.invite("999", "", &system_tests::call::sdp(alice.ip(), 30_000));
        alice.refused(&invite, 404);
        node.stop();
    };
    refused(&format!("{}\nsample = 0.0", collector.section()));
    refused(&collector.section());
    let spans = collector.spans(4);
    let expected = "\
call rejected 404
  leg in 404
    authentication
  routing
";
    assert_eq!(tree(&spans, &["carillon.outcome", "sip.status"]), expected);
}

#[test]
fn a_collector_that_is_away_costs_spans_and_no_call() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let section = format!("[telemetry]\notlp = \"http://{}\"", nobody.local_addr().unwrap());
    drop(nobody);
    let mut node = Setup::default().with(OPERATED).with(&section).start();
    let at = watching::address(&mut node);
    let mut phones = Phones::new(&node);
    let mut call = phones.call();
    phones.hang_up(&mut call);
    until(|| Page::of(at).value("carillon_spans_total{result=\"dropped\"}"), |dropped| *dropped >= 10.0);
    assert_eq!(Page::of(at).value("carillon_spans_total{result=\"exported\"}"), 0.0);
    assert_eq!(get(at, "/readyz").0, 200);
    node.stop();
}

#[test]
fn sngrep_reads_every_message_of_a_call() {
    let place = system_tests::place::Place::take();
    let reader = SocketAddr::new(place.ip(9), 9060);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("call.pcap");
    let mut command = Command::new("sngrep");
    command
        .args(["-F", "-N", "-q", "-L", &format!("udp:{}:{}", reader.ip(), reader.port()), "-O"])
        .arg(&file);
    let mut sngrep = Process::start("sngrep", &mut command);
    until(|| UdpSocket::bind(reader).is_err(), |is_there| *is_there);
    let section = format!("[telemetry]\nhep = \"udp:{reader}\"\n{OPERATED}");
    let mut node = Setup::default().with(&section).start();
    let at = watching::address(&mut node);
    let mut phones = Phones::new(&node);
    let mut call = phones.call();
    phones.hang_up(&mut call);
    let (ours, alice, bob) = (node.sip(), phones.alice.local(), phones.bob.local());
    let sent = "carillon_hep_messages_total{result=\"sent\"}";
    let dropped = "carillon_hep_messages_total{result=\"dropped\"}";
    let count = until(
        || (Page::of(at).value(sent), Page::of(at).value("carillon_calls")),
        |(_, calls)| *calls == 0.0,
    );
    assert_eq!(Page::of(at).value(dropped), 0.0);
    node.stop();
    let packets = until(|| packets(&file), |packets| packets.len() as f64 >= count.0);
    sngrep.terminate();
    assert!(sngrep.ended(PATIENCE).is_some(), "{}", sngrep.tail(10));
    let ladder: Vec<String> = packets
        .iter()
        .filter(|packet| {
            let cseq = packet.text.lines().find(|line| line.starts_with("CSeq:")).unwrap_or_default();
            !cseq.ends_with("REGISTER") && !cseq.ends_with("OPTIONS")
        })
        .map(|packet| {
            let name = |at: SocketAddr| match at {
                at if at == ours => "node",
                at if at == alice => "alice",
                at if at == bob => "bob",
                other => panic!("{other} in {packet:?}"),
            };
            let line = packet.text.lines().next().unwrap_or_default();
            let what = line.strip_prefix("SIP/2.0 ").unwrap_or(line).split(' ').next().unwrap_or_default();
            format!("{} > {}: {what}", name(packet.from), name(packet.to))
        })
        .collect();
    for line in [
        "alice > node: INVITE",
        "node > alice: 407",
        "node > bob: INVITE",
        "bob > node: 180",
        "node > alice: 180",
        "bob > node: 200",
        "node > alice: 200",
        "alice > node: ACK",
        "node > bob: ACK",
        "alice > node: BYE",
        "node > bob: BYE",
    ] {
        assert!(ladder.iter().any(|each| each == line), "{line} in {ladder:#?}");
    }
}
