//! The registrar's rules, one REGISTER after the other, without a network.

use super::*;
use bytes::Bytes;
use cluster::ids::NodeId;
use sip::msg::{HeaderId, Message};

const NOW: i64 = 1_800_000_000;
const ALICE: Aor = Aor::from_bits(1);

struct Desk {
    registrar: Registrar,
    watches: mpsc::UnboundedReceiver<Watch>,
    limits: Limits,
    now: i64,
    flow: Flow,
    multi: bool,
    /// Above the client's own Via.
    vias: &'static str,
    changes: Vec<BindingChange>,
    undo: Option<Undo>,
    elsewhere: Vec<BindingRecord>,
    void: Void,
}

impl Desk {
    fn new() -> Desk {
        Desk::with(Limits::default())
    }

    fn with(limits: Limits) -> Desk {
        let (keeper, watches) = mpsc::unbounded_channel();
        let flow = Flow {
            transport: Transport::Udp,
            listener: 0,
            remote: "192.0.2.7:5060".parse().unwrap(),
            conn: ConnId(0),
        };
        Desk {
            registrar: Registrar::new(RegistrarConfig::default(), &limits, keeper),
            watches,
            limits,
            now: NOW,
            flow,
            multi: true,
            vias: "",
            changes: Vec::new(),
            undo: None,
            elsewhere: Vec::new(),
            void: Void::Nothing,
        }
    }

    /// Sends a REGISTER with these header lines; the answer as `status contact contact …`.
    fn register(&mut self, call_id: &str, cseq: u32, lines: &str) -> String {
        let text = format!(
            "REGISTER sip:users.example.com SIP/2.0\r\n{}Via: SIP/2.0/UDP 192.0.2.7:5060;rport;branch=z9hG4bKx\r\n\
             From: <sip:alice@users.example.com>;tag=a\r\nTo: <sip:alice@users.example.com>\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} REGISTER\r\n{lines}\r\n",
            self.vias
        );
        let msg = Message::parse(Bytes::from(text)).unwrap();
        msg.validate().unwrap();
        let who = Registrant { aor: ALICE, multi_contact: self.multi, flow: self.flow };
        let outcome = Wish::read(&msg, self.flow, self.registrar.config(), &self.limits)
            .and_then(|wish| self.registrar.register(who, &wish, &self.elsewhere, self.now, |_| {}));
        match outcome {
            Ok(outcome) => {
                self.changes = outcome.changes;
                self.undo = outcome.undo;
                self.void = outcome.void;
                let answer = outcome.answer.unwrap();
                assert!(answer.headers.get("Date").is_some_and(|date| date.ends_with(b" GMT")));
                let lines =
                    answer.headers.lines().filter(|(name, _)| *name != b"Date").map(|(name, value)| {
                        let value = String::from_utf8_lossy(value).into_owned();
                        if name == b"Contact" {
                            value
                        } else {
                            format!("{}={value}", String::from_utf8_lossy(name))
                        }
                    });
                std::iter::once(answer.status.to_string()).chain(lines).collect::<Vec<_>>().join(" ")
            }
            Err(draft) => {
                self.changes = Vec::new();
                let more =
                    draft.headers.get("Min-Expires").map(|value| String::from_utf8_lossy(value).into_owned());
                [Some(draft.status.to_string()), draft.reason, more]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join(" ")
            }
        }
    }

    fn contacts(&self) -> Vec<String> {
        self.registrar
            .bindings(ALICE, NodeId(1), self.now, |_| false)
            .into_iter()
            .map(|binding| binding.contact)
            .collect()
    }
}

#[test]
fn a_contact_is_bound_for_the_time_that_is_left() {
    let mut desk = Desk::new();
    assert_eq!(
        desk.register("1", 1, "Contact: <sip:a@192.0.2.7>;expires=100\r\n"),
        "200 <sip:a@192.0.2.7>;expires=100"
    );
    assert_eq!(desk.registrar.records(ALICE)[0].contact, "sip:a@192.0.2.7");
    assert!(desk.registrar.records(Aor::from_bits(2)).is_empty(), "it is hers alone");
    desk.now += 40;
    assert_eq!(desk.register("2", 1, ""), "200 <sip:a@192.0.2.7>;expires=60");
    desk.now += 60;
    assert_eq!(desk.contacts(), Vec::<String>::new());
    assert_eq!(desk.register("2", 2, ""), "200");
}

#[test]
fn expiry_is_granted_within_bounds() {
    let mut desk = Desk::new();
    let table = [
        ("Contact: <sip:a@192.0.2.7>\r\n", "200 <sip:a@192.0.2.7>;expires=3600"),
        ("Contact: <sip:a@192.0.2.7>\r\nExpires: 120\r\n", "200 <sip:a@192.0.2.7>;expires=120"),
        ("Contact: <sip:a@192.0.2.7>;expires=90\r\nExpires: 120\r\n", "200 <sip:a@192.0.2.7>;expires=90"),
        ("Contact: <sip:a@192.0.2.7>;expires=99999999999\r\n", "200 <sip:a@192.0.2.7>;expires=3600"),
        ("Contact: <sip:a@192.0.2.7>;expires=soon\r\nExpires: 120\r\n", "200 <sip:a@192.0.2.7>;expires=3600"),
        ("Contact: sip:a@192.0.2.7;expires=80\r\n", "200 <sip:a@192.0.2.7>;expires=80"),
        ("Contact: <sip:a@192.0.2.7>;expires=0\r\nExpires: 120\r\n", "200"),
        ("Contact: <sip:a@192.0.2.7>;expires=90\r\nExpires: 0\r\n", "200 <sip:a@192.0.2.7>;expires=90"),
        ("Contact: <sip:a@192.0.2.7>;expires=59\r\n", "423 60"),
        ("Contact: <sip:a@192.0.2.7>\r\nExpires: 1\r\n", "423 60"),
        ("Contact: <sip:a@192.0.2.7>;expires=0\r\n", "200"),
    ];
    for (cseq, (lines, expected)) in (1..).zip(table) {
        assert_eq!(desk.register("1", cseq, lines), expected, "{lines}");
    }
}

#[test]
fn a_refused_request_changes_nothing() {
    let mut desk = Desk::new();
    desk.register("1", 1, "Contact: <sip:a@192.0.2.7>\r\n");
    assert_eq!(
        desk.register("1", 2, "Contact: <sip:b@192.0.2.7>, <sip:c@192.0.2.7>;expires=5\r\n"),
        "423 60"
    );
    assert_eq!(desk.contacts(), ["sip:a@192.0.2.7"]);
}

#[test]
fn a_star_removes_all_and_only_with_expires_0() {
    let mut desk = Desk::new();
    desk.register("1", 1, "Contact: <sip:a@192.0.2.7>, <sip:b@192.0.2.7>\r\n");
    assert_eq!(desk.register("1", 2, "Contact: *\r\n"), "400 Bad Contact: * without Expires: 0");
    assert_eq!(
        desk.register("1", 2, "Contact: *\r\nExpires: 60\r\n"),
        "400 Bad Contact: * without Expires: 0"
    );
    assert_eq!(desk.contacts().len(), 2);
    assert_eq!(desk.register("1", 1, "Contact: *\r\nExpires: 0\r\n"), "500 CSeq Out Of Order");
    assert_eq!(desk.register("1", 3, "Contact: *\r\nExpires: 0\r\n"), "200");
    assert_eq!(desk.changes.len(), 2);
    assert_eq!((desk.registrar.count(), desk.contacts().len()), (0, 0));
}

#[test]
fn an_older_request_of_the_same_call_is_refused_another_call_is_not() {
    let mut desk = Desk::new();
    desk.register("1", 5, "Contact: <sip:a@192.0.2.7>\r\n");
    assert_eq!(desk.register("1", 5, "Contact: <sip:a@192.0.2.7>;expires=0\r\n"), "500 CSeq Out Of Order");
    assert_eq!(desk.register("1", 4, "Contact: <sip:a@192.0.2.7>\r\n"), "500 CSeq Out Of Order");
    assert_eq!(
        desk.register("1", 4, "Contact: <sip:b@192.0.2.7>;expires=70\r\n"),
        "200 <sip:a@192.0.2.7>;expires=3600 <sip:b@192.0.2.7>;expires=70"
    );
    assert_eq!(
        desk.register("2", 1, "Contact: <sip:a@192.0.2.7>;expires=0\r\n"),
        "200 <sip:b@192.0.2.7>;expires=70"
    );
}

#[test]
fn contacts_compare_as_uris_do() {
    let mut desk = Desk::new();
    desk.register("1", 1, "Contact: <sip:a@Phone.example.com;Transport=udp>\r\n");
    let answer = desk.register("1", 2, "Contact: <sip:%61@phone.EXAMPLE.com;transport=UDP>\r\n");
    assert_eq!(answer, "200 <sip:%61@phone.EXAMPLE.com;transport=UDP>;expires=3600");
    assert_eq!(desk.registrar.count(), 1);
    // The record under the old spelling goes, or it would be there again after a restart.
    assert!(matches!(&desk.changes[..], [BindingChange::Bind(_), BindingChange::Unbind { contact, .. }]
        if contact == "sip:a@Phone.example.com;Transport=udp"));
}

#[test]
fn without_multi_contact_the_latest_stays_alone() {
    let mut desk = Desk::new();
    desk.register("1", 1, "Contact: <sip:a@192.0.2.7>, <sip:b@192.0.2.7>\r\n");
    desk.multi = false;
    assert_eq!(desk.register("2", 1, "Contact: <sip:c@192.0.2.7>\r\n"), "200 <sip:c@192.0.2.7>;expires=3600");
    assert_eq!(desk.contacts(), ["sip:c@192.0.2.7"]);
    assert_eq!(desk.changes.len(), 3, "one bound, two unbound");
    assert_eq!(
        desk.register("2", 2, "Contact: <sip:d@192.0.2.7>, <sip:e@192.0.2.7>\r\n"),
        "200 <sip:e@192.0.2.7>;expires=3600"
    );
    assert_eq!(
        desk.register("2", 3, "Contact: <sip:x@192.0.2.7>;expires=0\r\n"),
        "200 <sip:e@192.0.2.7>;expires=3600"
    );
}

#[test]
fn the_best_q_rings_first_and_the_newest_among_equals() {
    let mut desk = Desk::new();
    desk.register("1", 1, "Contact: <sip:a@192.0.2.7>;q=0.5, <sip:b@192.0.2.7>;q=0.5, <sip:c@192.0.2.7>\r\n");
    assert_eq!(desk.contacts(), ["sip:c@192.0.2.7", "sip:b@192.0.2.7", "sip:a@192.0.2.7"]);
    desk.register("1", 2, "Contact: <sip:a@192.0.2.7>;q=0.5\r\n");
    assert_eq!(desk.contacts(), ["sip:c@192.0.2.7", "sip:a@192.0.2.7", "sip:b@192.0.2.7"]);
}

#[test]
fn an_instance_replaces_its_older_contact() {
    let mut desk = Desk::new();
    let line = |host: &str, reg: u32| {
        format!(
            "Supported: outbound, path\r\nContact: <sip:a@{host}>;reg-id={reg};+sip.instance=\"<urn:uuid:7>\"\r\n"
        )
    };
    desk.register("1", 1, &line("10.0.0.1", 1));
    let answer = desk.register("2", 1, &line("10.0.0.2", 1));
    assert_eq!(
        answer,
        "200 <sip:a@10.0.0.2>;expires=3600;+sip.instance=\"<urn:uuid:7>\";reg-id=1 Require=outbound"
    );
    desk.register("3", 1, &line("10.0.0.3", 2));
    assert_eq!(
        (desk.contacts(), desk.registrar.count()),
        (vec!["sip:a@10.0.0.3".to_owned()], 2),
        "another of its flows"
    );
    let two = "Contact: <sip:a@10.0.0.1>;reg-id=1;+sip.instance=\"<urn:uuid:7>\", \
               <sip:a@10.0.0.1>;reg-id=2;+sip.instance=\"<urn:uuid:7>\"\r\n";
    assert_eq!(desk.register("4", 1, two), "400 Bad Contact: several with reg-id");
}

#[test]
fn a_device_behind_nat_is_reached_by_its_flow() {
    let mut desk = Desk::new();
    let mut way = |contact: &str, transport: Transport| {
        desk.flow.transport = transport;
        desk.register(contact, 1, &format!("Contact: <{contact}>\r\n"));
        let bindings = desk.registrar.bindings(ALICE, NodeId(1), desk.now, |_| true);
        let record =
            desk.registrar.records(ALICE).into_iter().find(|record| record.contact == contact).unwrap();
        let remote = bindings.iter().find(|binding| binding.contact == contact).unwrap().flow.remote;
        (record.nat, remote.to_string())
    };
    let source = "192.0.2.7:5060".to_owned();
    assert_eq!(way("sip:a@192.0.2.7", Transport::Udp), (false, source.clone()));
    assert_eq!(way("sip:a@192.0.2.7:5070", Transport::Udp), (true, source.clone()));
    assert_eq!(way("sip:a@10.0.0.7", Transport::Udp), (true, source.clone()));
    assert_eq!(way("sip:a@phone.example.com", Transport::Udp), (true, source.clone()));
    assert_eq!(way("sip:a@192.0.2.7:5080;transport=tcp", Transport::Tcp), (false, source.clone()));
    assert_eq!(way("sip:a@10.0.0.8;transport=tcp", Transport::Tcp), (true, source));
}

#[test]
fn a_stream_contact_outlives_its_connection_only_where_it_can_be_called_back() {
    let mut desk = Desk::new();
    desk.flow.transport = Transport::Tcp;
    desk.flow.remote = "192.0.2.7:40000".parse().unwrap();
    desk.flow.conn = ConnId(9);
    desk.register(
        "1",
        1,
        "Contact: <sip:a@192.0.2.7:5060;transport=tcp>, <sip:b@10.0.0.1;transport=tcp>\r\n",
    );
    let ways = |desk: &Desk, open: bool| -> Vec<(String, u64)> {
        let bindings = desk.registrar.bindings(ALICE, NodeId(1), desk.now, |_| open);
        bindings.into_iter().map(|binding| (binding.flow.remote.to_string(), binding.flow.conn.0)).collect()
    };
    assert_eq!(ways(&desk, true), [("192.0.2.7:40000".to_owned(), 9), ("192.0.2.7:40000".to_owned(), 9)]);
    assert_eq!(ways(&desk, false), [("192.0.2.7:5060".to_owned(), 0)]);
    let (reachable, lost) = (desk.watches.try_recv().unwrap(), desk.watches.try_recv().unwrap());
    assert!(matches!(desk.registrar.inspect(reachable, NOW, |_| false), Inspection::Live { ping: None, .. }));
    assert!(matches!(desk.registrar.inspect(lost, NOW, |_| true), Inspection::Live { .. }));
    assert!(
        matches!(desk.registrar.inspect(lost, NOW, |_| false), Inspection::Expired(gone) if gone.len() == 1)
    );
    assert_eq!(desk.registrar.count(), 1);
}

#[test]
fn a_path_is_kept_and_sent_back() {
    let mut desk = Desk::new();
    let answer = desk.register(
        "1",
        1,
        "Supported: path\r\nPath: <sip:edge2.example.com;lr>, <sip:edge1.example.com;lr>\r\nContact: <sip:a@10.0.0.1>\r\n",
    );
    assert_eq!(
        answer,
        "200 <sip:a@10.0.0.1>;expires=3600 Path=<sip:edge2.example.com;lr> Path=<sip:edge1.example.com;lr>"
    );
    let binding = desk.registrar.bindings(ALICE, NodeId(1), NOW, |_| false).remove(0);
    assert_eq!(binding.path, ["<sip:edge2.example.com;lr>", "<sip:edge1.example.com;lr>"]);
    assert_eq!(binding.flow.remote, desk.flow.remote);
    assert!(!desk.registrar.records(ALICE)[0].nat, "the edge is not behind NAT");
}

#[test]
fn contacts_that_cannot_be_called_are_refused_politely() {
    let mut desk = Desk::new();
    for (contact, expected) in [
        ("<sips:a@192.0.2.7>", "400 Bad Contact: SIPS needs a TLS transport"),
        ("<mailto:a@example.com>", "400 Bad Contact: only SIP URIs can be registered"),
        ("<tel:+4930123>", "400 Bad Contact: only SIP URIs can be registered"),
        ("<sip:a@192.0.2.7?Subject=x>", "400 Bad Contact: unusable URI"),
    ] {
        assert_eq!(desk.register("1", 1, &format!("Contact: {contact}\r\n")), expected);
    }
    let long = format!("Contact: <sip:{}@192.0.2.7>\r\n", "a".repeat(600));
    assert_eq!(desk.register("1", 1, &long), "400 Bad Contact: unusable URI");
}

#[test]
fn a_contact_too_many_takes_the_place_of_the_one_that_was_refreshed_longest_ago() {
    let mut desk = Desk::with(Limits { bindings_per_aor: 3, ..Limits::default() });
    for (cseq, name) in (1..).zip(["a", "b", "c"]) {
        desk.register(name, cseq, &format!("Contact: <sip:{name}@192.0.2.7>\r\n"));
    }
    desk.register("a", 9, "Contact: <sip:a@192.0.2.7>;expires=100\r\n");
    let answer = desk.register("d", 1, "Contact: <sip:d@192.0.2.7>\r\n");
    assert!(answer.starts_with("200 ") && !answer.contains("sip:b@"), "{answer}");
    assert_eq!(desk.contacts(), ["sip:d@192.0.2.7", "sip:a@192.0.2.7", "sip:c@192.0.2.7"]);
    assert!(matches!(&desk.changes[..], [BindingChange::Bind(_), BindingChange::Unbind { contact, .. }]
        if contact == "sip:b@192.0.2.7"));
    let undo = desk.undo.take().unwrap();
    desk.registrar.undo(undo);
    let mut back = desk.contacts();
    back.sort();
    assert_eq!(back, ["sip:a@192.0.2.7", "sip:b@192.0.2.7", "sip:c@192.0.2.7"], "not stored, not replaced");
    // Neither a query, nor a removal, nor a refresh takes anybody's place.
    desk.register("q", 1, "");
    desk.register("q", 2, "Contact: <sip:x@192.0.2.7>;expires=0\r\n");
    desk.register("b", 9, "Contact: <sip:b@192.0.2.7>\r\n");
    assert_eq!(desk.registrar.count(), 3);
    desk.register("e", 1, "Contact: <sip:e@192.0.2.7>, <sip:f@192.0.2.7>\r\n");
    assert_eq!(desk.contacts(), ["sip:f@192.0.2.7", "sip:e@192.0.2.7", "sip:b@192.0.2.7"]);
    assert_eq!(desk.registrar.count(), 3);
    let many = (0..4).map(|n| format!("Contact: <sip:{n}@192.0.2.7>\r\n")).collect::<String>();
    assert_eq!(desk.register("m", 1, &many), "403 Too Many Contacts", "in one request");
}

#[test]
fn bindings_are_limited_in_all() {
    let mut desk = Desk::with(Limits { bindings: 2, ..Limits::default() });
    desk.register("1", 1, "Contact: <sip:a@192.0.2.7>, <sip:b@192.0.2.7>\r\n");
    let flow = desk.flow;
    let text = "REGISTER sip:x.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKx\r\nFrom: <sip:b@x.example>;tag=a\r\n\
                To: <sip:b@x.example>\r\nCall-ID: 9\r\nCSeq: 1 REGISTER\r\nContact: <sip:b@192.0.2.9>\r\n\r\n";
    let msg = Message::parse(Bytes::from(text)).unwrap();
    let wish = Wish::read(&msg, flow, desk.registrar.config(), &desk.limits).unwrap();
    let bob = Registrant { aor: Aor::from_bits(2), multi_contact: true, flow };
    assert_eq!(desk.registrar.register(bob, &wish, &[], NOW, |_| {}).unwrap_err().status, 503);
}

#[test]
fn what_could_not_be_stored_is_undone() {
    let mut desk = Desk::new();
    desk.register("1", 1, "Contact: <sip:a@192.0.2.7>;q=0.1\r\n");
    desk.register("1", 2, "Contact: <sip:a@192.0.2.7>, <sip:b@192.0.2.7>\r\n");
    let undo = desk.undo.take().unwrap();
    desk.registrar.undo(undo);
    assert_eq!(desk.contacts(), ["sip:a@192.0.2.7"]);
    assert_eq!((desk.registrar.count(), desk.registrar.records(ALICE)[0].q), (1, 100));
    // What came later is not touched.
    desk.register("1", 3, "Contact: <sip:c@192.0.2.7>\r\n");
    let undo = desk.undo.take().unwrap();
    desk.register("1", 4, "Contact: <sip:d@192.0.2.7>\r\n");
    desk.registrar.undo(undo);
    assert_eq!(desk.contacts().len(), 3);
}

#[test]
fn bindings_survive_a_restart_where_they_still_make_sense() {
    let mut desk = Desk::new();
    desk.register("1", 1, "Contact: <sip:a@192.0.2.7>;expires=100, <sip:b@192.0.2.7>;expires=900\r\n");
    desk.flow.transport = Transport::Tcp;
    desk.register("1", 2, "Contact: <sip:c@192.0.2.7;transport=tcp>, <sip:d@10.0.0.1;transport=tcp>\r\n");
    let next = Desk::new();
    let listeners = [Transport::Tcp, Transport::Udp];
    let kept: Vec<bool> = desk
        .registrar
        .records(ALICE)
        .into_iter()
        .map(|record| next.registrar.restore(record, &listeners, NOW + 200))
        .collect();
    assert_eq!(kept, [false, true, true, false], "expired, alive, can be called back, connection lost");
    let bindings = next.registrar.bindings(ALICE, NodeId(1), NOW + 200, |_| false);
    assert_eq!(bindings.iter().find(|b| b.contact == "sip:b@192.0.2.7").unwrap().flow.listener, 1);
}

#[test]
fn pings_that_stay_unanswered_are_a_gauge_and_nothing_else() {
    let mut desk = Desk::new();
    desk.register("1", 1, "Contact: <sip:a@10.0.0.1>\r\n");
    let watch = desk.watches.try_recv().unwrap();
    assert!(matches!(
        desk.registrar.inspect(watch, NOW, |_| true),
        Inspection::Live { expires_in: 3600, ping: Some(_) }
    ));
    for _ in 0..MISSES_MAX {
        assert_eq!(desk.registrar.unreachable(), 0);
        desk.registrar.pinged(watch, false);
    }
    assert_eq!((desk.registrar.unreachable(), desk.contacts().len()), (1, 1));
    desk.registrar.pinged(watch, true);
    assert_eq!(desk.registrar.unreachable(), 0);
    assert!(
        matches!(desk.registrar.inspect(watch, NOW + 3600, |_| true), Inspection::Expired(gone) if gone.len() == 1)
    );
    assert!(matches!(desk.registrar.inspect(watch, NOW + 3600, |_| true), Inspection::Gone));
    assert_eq!(desk.registrar.count(), 0);
}

#[test]
fn header_names_used_here_are_the_ones_that_parse() {
    // `Path` has no compact form and must be found as a list.
    let text = "REGISTER sip:x.example SIP/2.0\r\nPath: <sip:a>, <sip:b>\r\n\r\n";
    let msg = Message::parse(Bytes::from(text)).unwrap();
    assert_eq!(msg.values(HeaderId::Path).count(), 2);
}

#[test]
fn an_hour_is_never_too_brief() {
    let mut desk = Desk::new();
    let config = RegistrarConfig { min_expires: 7200, max_expires: 86_400, default_expires: 7200 };
    desk.registrar = Registrar::new(config, &desk.limits, mpsc::unbounded_channel().0);
    assert_eq!(desk.register("1", 1, "Contact: <sip:a@192.0.2.7>;expires=3599\r\n"), "423 7200");
    assert_eq!(
        desk.register("1", 2, "Contact: <sip:a@192.0.2.7>;expires=3600\r\n"),
        "200 <sip:a@192.0.2.7>;expires=3600"
    );
}

#[test]
fn a_star_stands_alone() {
    let mut desk = Desk::new();
    desk.register("1", 1, "Contact: <sip:a@192.0.2.7>\r\n");
    for lines in [
        "Contact: *, <sip:a@192.0.2.7>\r\nExpires: 0\r\n",
        "Contact: <sip:a@192.0.2.7>\r\nContact: *\r\nExpires: 0\r\n",
    ] {
        let text = format!(
            "REGISTER sip:x.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKx\r\nFrom: <sip:a@x.example>;tag=a\r\n\
             To: <sip:a@x.example>\r\nCall-ID: 9\r\nCSeq: 1 REGISTER\r\n{lines}\r\n"
        );
        let msg = Message::parse(Bytes::from(text)).unwrap();
        // Whichever looks first, the answer is the same.
        let status = match msg.validate() {
            Err(defect) => defect.status,
            Ok(()) => Wish::read(&msg, desk.flow, desk.registrar.config(), &desk.limits).unwrap_err().status,
        };
        assert_eq!(status, 400, "{lines}");
    }
    assert_eq!(desk.contacts(), ["sip:a@192.0.2.7"]);
}

#[test]
fn of_a_contact_that_is_named_twice_the_last_one_counts() {
    let mut desk = Desk::new();
    let twice = "Contact: <sip:a@192.0.2.7>;expires=100, <sip:%61@192.0.2.7>;expires=200\r\n";
    assert_eq!(desk.register("1", 1, twice), "200 <sip:%61@192.0.2.7>;expires=200");
    assert_eq!((desk.registrar.count(), desk.changes.len()), (1, 1));
    let gone = "Contact: <sip:a@192.0.2.7>;expires=100, <sip:a@192.0.2.7>;expires=0\r\n";
    assert_eq!(desk.register("1", 2, gone), "200");
    assert_eq!(desk.registrar.count(), 0);
}

/// RFC 3261 section 19.1.4.
#[test]
fn the_same_contact_with_other_parameters_is_the_same_or_not_as_uris_are() {
    for (other, same) in [
        ("sip:a@192.0.2.7", true),
        ("sip:a@192.0.2.7;ob", true), // unknown ones count only where both have them
        ("sip:a@192.0.2.7;line=2", false),
        ("sip:a@192.0.2.7;LINE=1", true),
        ("sip:a@192.0.2.7;line=1;transport=udp", false),
        ("sip:a@192.0.2.7:5060;line=1", false),
        ("sip:A@192.0.2.7;line=1", false),
        ("sip:a@192.0.2.8;line=1", false),
        ("sip:a:pw@192.0.2.7;line=1", false),
        ("sip:a@192.0.2.7;line=1;user=phone", false),
        ("sip:a@192.0.2.7;line=1;maddr=192.0.2.9", false),
    ] {
        let mut desk = Desk::new();
        desk.register("1", 1, "Contact: <sip:a@192.0.2.7;line=1>\r\n");
        desk.register("1", 2, &format!("Contact: <{other}>\r\n"));
        assert_eq!(desk.registrar.count() == 1, same, "{other}");
    }
    // What stands behind the brackets is no part of the URI.
    let mut desk = Desk::new();
    desk.register("1", 1, "Contact: <sip:a@192.0.2.7>;q=0.1;+sip.rendering=\"no\"\r\n");
    desk.register("1", 2, "Contact: <sip:a@192.0.2.7>;q=0.2\r\n");
    assert_eq!(desk.registrar.count(), 1);
}

const FLOW_1: &str =
    "Supported: outbound, path\r\nContact: <sip:a@192.0.2.7>;reg-id=1;+sip.instance=\"<urn:uuid:7>\"";
const FLOW_2: &str =
    "Supported: outbound, path\r\nContact: <sip:a@192.0.2.7>;reg-id=2;+sip.instance=\"<urn:uuid:7>\"";

/// RFC 5626 sections 6 and 7.
#[test]
fn flows_of_one_device_share_a_contact_and_calls_take_the_newest() {
    let mut desk = Desk::new();
    desk.register("1", 1, &format!("{FLOW_1};expires=100\r\n"));
    desk.flow.remote = "192.0.2.7:5062".parse().unwrap();
    desk.register("2", 1, &format!("{FLOW_2};expires=900\r\n"));
    let way = |desk: &Desk| {
        let bindings = desk.registrar.bindings(ALICE, NodeId(1), desk.now, |_| false);
        bindings.into_iter().map(|binding| binding.flow.remote.port()).collect::<Vec<_>>()
    };
    assert_eq!((desk.registrar.count(), way(&desk)), (2, vec![5062]), "the device rings once");
    desk.flow.remote = "192.0.2.7:5060".parse().unwrap();
    desk.register("1", 2, &format!("{FLOW_1};expires=100\r\n"));
    assert_eq!((desk.registrar.count(), way(&desk)), (2, vec![5060]));
    // The first flow expires; the log knows both by one contact and must keep it for the other.
    desk.now += 100;
    let first = desk.watches.try_recv().unwrap();
    let found = desk.registrar.inspect(first, desk.now, |_| false);
    assert!(matches!(found, Inspection::Expired(gone) if gone.is_empty()));
    assert_eq!((desk.registrar.count(), way(&desk)), (1, vec![5062]));
}

#[test]
fn a_contact_with_reg_id_lasts_alone() {
    let mut desk = Desk::new();
    let other = format!("{FLOW_1}, <sip:b@192.0.2.7>\r\n");
    assert_eq!(desk.register("1", 1, &other), "400 Bad Contact: several with reg-id");
    desk.register("1", 1, "Contact: <sip:b@192.0.2.7>\r\n");
    let removed = format!("{FLOW_1}, <sip:b@192.0.2.7>;expires=0\r\n");
    assert!(desk.register("1", 2, &removed).starts_with("200 <sip:a@192.0.2.7>"));
    assert_eq!(desk.contacts(), ["sip:a@192.0.2.7"]);
}

#[test]
fn flows_through_a_proxy_need_one_that_keeps_them() {
    let mut desk = Desk::new();
    desk.vias = "Via: SIP/2.0/UDP edge.example.com;branch=z9hG4bKe\r\n";
    assert_eq!(desk.register("1", 1, &format!("{FLOW_1}\r\n")), "439 First Hop Lacks Outbound Support");
    let path = |uri: &str| format!("Path: <{uri}>\r\n{FLOW_1}\r\n");
    assert_eq!(
        desk.register("1", 1, &path("sip:edge.example.com;lr")),
        "439 First Hop Lacks Outbound Support"
    );
    let answer = desk.register("1", 1, &path("sip:edge.example.com;lr;ob"));
    assert!(answer.contains("reg-id=1") && answer.ends_with("Require=outbound"), "{answer}");
    // A client that does not ask for it gets an ordinary binding.
    let plain = FLOW_2.replace("outbound, ", "");
    let answer = desk.register("2", 1, &format!("{plain}\r\n"));
    assert!(!answer.contains("reg-id=2") && !answer.contains("Require"), "{answer}");
}

#[test]
fn a_path_counts_for_clients_that_know_nothing_of_it() {
    let mut desk = Desk::new();
    let lines = "Path: <sip:edge.example.com;lr>\r\nContact: <sip:a@10.0.0.1>\r\n";
    assert_eq!(
        desk.register("1", 1, lines),
        "200 <sip:a@10.0.0.1>;expires=3600 Path=<sip:edge.example.com;lr>"
    );
    assert_eq!(
        desk.registrar.bindings(ALICE, NodeId(1), NOW, |_| false)[0].path,
        ["<sip:edge.example.com;lr>"]
    );
    // The next registration replaces it with the binding.
    desk.register("1", 2, "Contact: <sip:a@10.0.0.1>\r\n");
    assert!(desk.registrar.bindings(ALICE, NodeId(1), NOW, |_| false)[0].path.is_empty());
    let many = "Path: <sip:edge.example.com;lr>\r\n".repeat(9);
    assert_eq!(desk.register("1", 3, &format!("{many}Contact: <sip:a@10.0.0.1>\r\n")), "400 Bad Path");
}

#[test]
fn no_gruu_is_made_and_none_is_promised() {
    let mut desk = Desk::new();
    let lines = "Supported: gruu\r\nContact: <sip:a@192.0.2.7>;+sip.instance=\"<urn:uuid:7>\"\r\n";
    assert_eq!(
        desk.register("1", 1, lines),
        "200 <sip:a@192.0.2.7>;expires=3600;+sip.instance=\"<urn:uuid:7>\""
    );
    assert!(!crate::policy::SUPPORTED.contains("gruu"));
}

#[test]
fn contacts_that_are_registered_with_other_proxies_are_told_and_may_be_removed() {
    let mut desk = Desk::new();
    let mut away = Desk::new();
    for (contact, instance) in [("sip:b@192.0.2.8", ""), ("sip:c@192.0.2.9", ";+sip.instance=\"<urn:c>\"")] {
        away.register(contact, 1, &format!("Contact: <{contact}>;expires=90{instance}\r\n"));
    }
    desk.elsewhere = away.registrar.records(ALICE);
    let both = "<sip:b@192.0.2.8>;expires=90 <sip:c@192.0.2.9>;expires=90;+sip.instance=\"<urn:c>\"";
    assert_eq!(desk.register("1", 1, ""), format!("200 {both}"));
    let own = "<sip:a@192.0.2.7>;expires=60";
    assert_eq!(desk.register("1", 2, &format!("Contact: {own}\r\n")), format!("200 {own} {both}"));
    assert_eq!(desk.void, Void::Nothing);
    // A telephone that is removed here, or comes here, is not there any more, however its contact is spelled.
    let these = |contact: &str| Void::These(vec![contact.to_owned()]);
    let left = desk.register("2", 1, "Contact: <sip:%62@192.0.2.8>;expires=0\r\n");
    assert_eq!(left, format!("200 {own} <sip:c@192.0.2.9>;expires=90;+sip.instance=\"<urn:c>\""));
    assert_eq!(desk.void, these("sip:b@192.0.2.8"));
    desk.elsewhere.remove(0);
    let came = desk.register("3", 1, "Contact: <sip:c@192.0.2.7>;expires=70;+sip.instance=\"<urn:c>\"\r\n");
    assert_eq!(came, format!("200 {own} <sip:c@192.0.2.7>;expires=70;+sip.instance=\"<urn:c>\""));
    assert_eq!(desk.void, these("sip:c@192.0.2.9"));
    assert_eq!(desk.register("1", 3, "Contact: *\r\nExpires: 0\r\n"), "200");
    assert_eq!(desk.void, Void::All);
    // Whoever may have one telephone has the latest, wherever the others are.
    desk.multi = false;
    assert_eq!(desk.register("1", 4, &format!("Contact: {own}\r\n")), format!("200 {own}"));
    assert_eq!(desk.void, Void::All);
    desk.register("1", 5, "");
    assert_eq!(desk.void, Void::Nothing, "who asks changes nothing");
}
