//! Legs end to end: an endpoint calls and is called, with a test for an application server.

use super::world::{Heard, Phone, SDP, World, originate, parse};
use crate::Cause;
use crate::leg::LegMsg;
use crate::worker::Cmd;
use bytes::Bytes;
use cluster::ids::{CallId, LegId, NodeId};
use cluster::leg::{Binding, Callee, Origin};
use cluster::leg::{Directory, Incoming, LegCommand, LegEvent, LegHost, Originate};
use model::Aor;
use model::Id;
use sip::draft::HeaderText;
use sip::msg::{HeaderId, Message};
use sip::session::EndCause;
use std::time::Duration;

fn accept() -> LegCommand {
    LegCommand::Accept { sdp: Some(Bytes::from_static(SDP.as_bytes())), headers: HeaderText::new() }
}

pub(super) fn bye() -> LegCommand {
    LegCommand::Bye { reason: None }
}

/// Alice calls 102; her INVITE has arrived.
pub(super) async fn calling(world: &mut World, lines: &str) -> (Phone, Message, Incoming) {
    world.callers += 1;
    let mut alice = world.phone("alice", &format!("198.51.100.7:{}", 5060 + world.callers));
    let invite = alice.invite("102", lines, SDP).await;
    assert_eq!(alice.recv().await.status(), 100);
    let incoming = world.hear_incoming().await;
    (alice, invite, incoming)
}

/// Alice's call is answered and acknowledged.
pub(super) async fn talking(world: &mut World) -> (Phone, Message, LegId) {
    let (mut alice, _, incoming) = calling(world, "").await;
    world.proxy.command(incoming.leg, accept());
    let answer = alice.recv().await;
    assert_eq!(answer.status(), 200);
    let ack = alice.in_dialog("ACK", &answer, "", "");
    alice.send(ack);
    assert!(matches!(world.hear_event().await, (leg, LegEvent::Confirmed { .. }) if leg == incoming.leg));
    (alice, answer, incoming.leg)
}

#[tokio::test(start_paused = true)]
async fn a_call_comes_in_is_answered_and_ends() {
    let mut world = World::new().await;
    let lines = "Subject: Lunch\r\nP-Asserted-Identity: <sip:boss@users.democlient.com>\r\n";
    let (mut alice, _, incoming) = calling(&mut world, lines).await;
    let origin = Origin::Endpoint { aor: Aor::from_bits(1), user: Some(Id::new(1)) };
    assert_eq!((incoming.origin, incoming.client), (origin, Id::new(1)));
    assert_eq!((incoming.dialed.as_str(), incoming.max_forwards, incoming.source), ("102", 69, alice.addr()));
    assert_eq!(incoming.offer.as_deref(), Some(SDP.as_bytes()));
    assert_eq!(incoming.headers.as_bytes(), b"Subject: Lunch\r\n");
    assert_eq!(world.proxy.stats().legs, 1);

    let leg = incoming.leg;
    world.proxy.command(leg, LegCommand::Progress { status: 180, sdp: None, headers: HeaderText::new() });
    assert_eq!(alice.recv().await.status(), 180);
    world.proxy.command(leg, accept());
    let answer = alice.recv().await;
    assert_eq!((answer.status(), answer.body().as_ref()), (200, SDP.as_bytes()));
    let contact = String::from_utf8_lossy(answer.contact().unwrap().unwrap().uri_raw).into_owned();
    assert_eq!(contact, format!("sip:{leg}@192.0.2.1:5060"));
    assert!(answer.to_tag().unwrap().starts_with(leg.to_string().as_bytes()));
    let ack = alice.in_dialog("ACK", &answer, "", "");
    alice.send(ack);
    assert!(matches!(world.hear_event().await, (_, LegEvent::Confirmed { .. })));
    let bye = alice.in_dialog("BYE", &answer, "", "");
    alice.send(bye.clone());
    assert_eq!(alice.recv().await.status(), 200);
    let (_, ended) = world.hear_event().await;
    assert!(matches!(ended, LegEvent::Ended { by_peer: true, cause: EndCause::Bye, .. }), "{ended:?}");
    // The answer may get lost: the BYE comes again when the leg is long gone.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.proxy.stats().legs, 0);
    alice.send(bye);
    assert_eq!(alice.recv().await.status(), 200);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.open_transactions().await, 0);
    assert_eq!(world.proxy.stats().legs_lost, 0);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_invite_makes_one_leg() {
    let mut world = World::new().await;
    let (mut alice, invite, incoming) = calling(&mut world, "").await;
    for _ in 0..3 {
        alice.send(invite.raw().clone());
        assert_eq!(alice.recv().await.status(), 100);
    }
    let busy = LegCommand::Reject { status: 486, reason: None, headers: HeaderText::new() };
    world.proxy.command(incoming.leg, busy);
    let answer = alice.recv().await;
    assert_eq!(answer.status(), 486);
    alice.send(sip::draft::ack_for_failure(&invite, &answer));
    world.hear_event().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.heard.try_recv().is_err());
    assert_eq!((world.proxy.stats().legs, world.open_transactions().await), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_give_up() {
    let mut world = World::new().await;
    let (mut alice, invite, _) = calling(&mut world, "").await;
    alice.send(sip::draft::cancel_for(&invite, None));
    let (first, second) = (alice.recv().await, alice.recv().await);
    let mut statuses = [(first.method_bytes(), first.status()), (second.method_bytes(), second.status())];
    statuses.sort();
    assert_eq!(statuses, [(&b"CANCEL"[..], 200), (&b"INVITE"[..], 487)]);
    assert!(matches!(world.hear_event().await, (_, LegEvent::Cancelled { .. })));
    let refused = if first.status() == 487 { first } else { second };
    alice.send(sip::draft::ack_for_failure(&invite, &refused));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((world.proxy.stats().legs, world.open_transactions().await), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_or_closed_house_says_503() {
    let mut world = World::with(|config| config.limits.legs = 1).await;
    *world.calls.open.lock() = false;
    let (mut alice, invite, _) = calling(&mut world, "").await;
    let answer = alice.recv().await;
    assert_eq!(answer.status(), 503);
    assert!(answer.header(HeaderId::RetryAfter).is_some());
    alice.send(sip::draft::ack_for_failure(&invite, &answer));
    tokio::time::sleep(Duration::from_secs(60)).await;
    while world.heard.try_recv().is_ok() {}

    *world.calls.open.lock() = true;
    let _first = calling(&mut world, "").await;
    let mut bob = world.phone("bob", "198.51.100.8:5060");
    bob.invite("101", "", SDP).await;
    assert_eq!(bob.recv().await.status(), 503);
    assert_eq!(world.proxy.stats().refused(Cause::Capacity), 1);
}

#[tokio::test(start_paused = true)]
async fn a_leg_whose_actor_dies_says_goodbye() {
    for crash in [true, false] {
        let mut world = World::new().await;
        let (mut alice, _, leg) = talking(&mut world).await;
        if crash {
            world.proxy.shared.link(leg).send(Cmd::Leg { leg, message: LegMsg::Panic });
        } else {
            assert!(world.proxy.kill_leg(leg).await);
        }
        assert!(matches!(world.hear().await, Heard::Lost(lost) if lost == leg));
        let bye = alice.recv().await;
        assert_eq!(bye.method_bytes(), b"BYE");
        let answer = alice.answer(&bye, 200, "");
        alice.send(answer);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let stats = world.proxy.stats();
        assert_eq!((stats.legs, stats.legs_lost, world.open_transactions().await), (0, 1, 0));
        // Other legs live on.
        let (_, _, other) = talking(&mut world).await;
        assert_ne!(other, leg);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leg_that_dies_ringing_answers_500() {
    let mut world = World::new().await;
    let (mut alice, _, incoming) = calling(&mut world, "").await;
    let panic = Cmd::Leg { leg: incoming.leg, message: LegMsg::Panic };
    world.proxy.shared.link(incoming.leg).send(panic);
    assert_eq!(alice.recv().await.status(), 500);
    assert!(matches!(world.hear().await, Heard::Lost(_)));
}

#[tokio::test(start_paused = true)]
async fn a_flood_inside_a_dialog_is_damped_and_bye_still_works() {
    let mut world = World::with(|config| config.limits.leg_requests_per_second = 10).await;
    let (mut alice, answer, _) = talking(&mut world).await;
    for _ in 0..50 {
        let info = alice.in_dialog("INFO", &answer, "", "");
        alice.send(info);
    }
    let bye = alice.in_dialog("BYE", &answer, "", "");
    alice.send(bye);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut answers = Vec::new();
    while let Some((bytes, _)) = alice.port.try_recv() {
        let msg = Message::parse(bytes).unwrap();
        answers.push((msg.method_bytes().to_vec(), msg.status()));
    }
    let refused = answers.iter().filter(|(method, status)| method == b"INFO" && *status == 503).count();
    assert!(refused >= 30, "{refused}");
    assert!(answers.contains(&(b"BYE".to_vec(), 200)), "{answers:?}");
    assert!(world.proxy.stats().refused(Cause::Flood) >= 30);
}

#[tokio::test(start_paused = true)]
async fn a_stop_says_goodbye_to_everyone() {
    let mut world = World::new().await;
    let (mut alice, _, leg) = talking(&mut world).await;
    world.proxy.stop().await;
    assert_eq!(alice.recv().await.method_bytes(), b"BYE");
    assert!(matches!(world.hear().await, Heard::Lost(lost) if lost == leg));
}

fn order(world: &World, callee: Aor) -> Originate {
    let binding = world.proxy.bindings(callee).remove(0);
    let mut headers = HeaderText::new();
    headers.push("Subject", "Lunch");
    let Binding { contact: target, path: route, flow, .. } = binding;
    let to = Callee::Binding { aor: callee, target, route, flow };
    Originate {
        caller_name: "Alice \"A\" Allison".to_owned(),
        caller_number: "101".to_owned(),
        called_number: "102".to_owned(),
        domain: "users.democlient.com".to_owned(),
        offer: Some(Bytes::from_static(SDP.as_bytes())),
        headers,
        max_forwards: 69,
        ..Originate::new(CallId::new(NodeId(1), 7), NodeId(1), to)
    }
}

/// Bob is registered and rings.
pub(super) async fn ringing(world: &mut World) -> (Phone, Message, LegId) {
    let mut bob = world.phone("bob", "198.51.100.8:5060");
    let contact = bob.contact();
    bob.register(&contact).await;
    let (leg, call_id) = originate(&world.proxy, order(world, Aor::from_bits(2)));
    let invite = bob.recv().await;
    assert_eq!((invite.method_bytes(), invite.call_id()), (&b"INVITE"[..], call_id.as_bytes()));
    bob.send(bob.answer(&invite, 180, ""));
    assert!(matches!(world.hear_event().await, (id, LegEvent::Progress { status: 180, .. }) if id == leg));
    (bob, invite, leg)
}

/// RFC 3327 section 5.4.
#[tokio::test(start_paused = true)]
async fn a_call_goes_by_the_path_that_the_registration_came_by() {
    let world = World::new().await;
    // The edge's flow is the phone's way; its address stands in the Path only.
    let mut edge = world.phone("bob", "198.51.100.8:5060");
    let lines = "Supported: path\r\nPath: <sip:198.51.100.8;lr>, <sip:inner.example.com;lr>\r\n\
                 Contact: <sip:bob@10.0.0.7>\r\n";
    let answer = edge.register(lines).await;
    assert_eq!(answer.lines(HeaderId::Path).count(), 2);
    originate(&world.proxy, order(&world, Aor::from_bits(2)));
    let invite = edge.recv().await;
    assert_eq!(invite.request_uri(), b"sip:bob@10.0.0.7");
    let route: Vec<_> = invite.values(HeaderId::Route).collect();
    assert_eq!(route, [&b"<sip:198.51.100.8;lr>"[..], b"<sip:inner.example.com;lr>"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_out_with_our_word_for_who_calls() {
    let mut world = World::new().await;
    let (mut bob, invite, leg) = ringing(&mut world).await;
    assert_eq!(invite.request_uri(), b"sip:bob@198.51.100.8:5060");
    assert_eq!(invite.max_forwards().unwrap(), Some(69));
    let caller = "\"Alice \\\"A\\\" Allison\" <sip:101@users.democlient.com>";
    assert_eq!(invite.header(HeaderId::PAssertedIdentity), Some(caller.as_bytes()));
    let from = String::from_utf8_lossy(invite.header(HeaderId::From).unwrap()).into_owned();
    assert!(from.starts_with(caller) && from.contains(&format!(";tag={leg}.")), "{from}");
    assert_eq!(invite.header(HeaderId::To), Some(&b"<sip:102@users.democlient.com>"[..]));
    assert_eq!(invite.header(HeaderId::Subject), Some(&b"Lunch"[..]));

    bob.send(bob.answer(&invite, 200, SDP));
    assert!(matches!(world.hear_event().await, (_, LegEvent::Answered { sdp: Some(_), .. })));
    let ack = bob.recv().await;
    assert_eq!((ack.method_bytes(), ack.request_uri()), (&b"ACK"[..], &b"sip:bob@198.51.100.8:5060"[..]));
    world.proxy.command(leg, bye());
    let hung_up = bob.recv().await;
    assert_eq!(hung_up.method_bytes(), b"BYE");
    bob.send(bob.answer(&hung_up, 200, ""));
    assert!(matches!(world.hear_event().await, (_, LegEvent::Ended { by_peer: false, .. })));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((world.proxy.stats().legs, world.open_transactions().await), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_outgoing_leg_that_dies_cancels() {
    let mut world = World::new().await;
    let (mut bob, invite, leg) = ringing(&mut world).await;
    assert!(world.proxy.kill_leg(leg).await);
    let cancel = bob.recv().await;
    assert_eq!((cancel.method_bytes(), cancel.call_id()), (&b"CANCEL"[..], invite.call_id()));
    bob.send(bob.answer(&cancel, 200, ""));
    bob.send(bob.answer(&invite, 487, ""));
    assert_eq!(bob.recv().await.method_bytes(), b"ACK");
    assert!(matches!(world.hear().await, Heard::Lost(lost) if lost == leg));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((world.proxy.stats().legs, world.open_transactions().await), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_crosses_the_cancel_of_a_dead_leg_is_acknowledged_and_hung_up() {
    let mut world = World::new().await;
    let (mut bob, invite, leg) = ringing(&mut world).await;
    world.proxy.shared.link(leg).send(Cmd::Leg { leg, message: LegMsg::Panic });
    let cancel = bob.recv().await;
    assert_eq!(cancel.method_bytes(), b"CANCEL");
    let answer = bob.answer(&invite, 200, SDP);
    bob.send(answer.clone());
    bob.send(bob.answer(&cancel, 200, ""));
    let ack = bob.recv().await;
    assert_eq!((ack.method_bytes(), ack.request_uri()), (&b"ACK"[..], &b"sip:bob@198.51.100.8:5060"[..]));
    assert_eq!((ack.cseq().unwrap().number, ack.to_tag()), (1, Some(&b"callee"[..])));
    let bye = bob.recv().await;
    assert_eq!((bye.method_bytes(), bye.call_id()), (&b"BYE"[..], invite.call_id()));
    assert_eq!((bye.cseq().unwrap().number, bye.to_tag()), (2, Some(&b"callee"[..])));
    // The ACK got lost: the answer comes again. And the BYE is repeated until it is answered.
    bob.send(answer);
    assert_eq!(bob.recv().await.method_bytes(), b"ACK");
    assert_eq!(bob.recv().await.raw(), bye.raw());
    bob.send(bob.answer(&bye, 200, ""));
    assert!(bob.hears_nothing().await);
    assert!(matches!(world.hear().await, Heard::Lost(lost) if lost == leg));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.heard.try_recv().is_err());
    assert_eq!((world.proxy.stats().legs, world.open_transactions().await), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_home_is_a_rejection() {
    let mut world = World::new().await;
    let mut order = {
        let mut bob = world.phone("bob", "198.51.100.8:5060");
        let contact = bob.contact();
        bob.register(&contact).await;
        order(&world, Aor::from_bits(2))
    };
    let (leg, _) = originate(&world.proxy, order.clone());
    assert!(matches!(world.hear_event().await, (id, LegEvent::Rejected { status: 408, .. }) if id == leg));
    // A listener that does not exist, a transport that cannot be dialled.
    if let Callee::Binding { flow, .. } = &mut order.to {
        flow.listener = 9;
    }
    originate(&world.proxy, order.clone());
    assert!(matches!(world.hear_event().await, (_, LegEvent::Rejected { status: 503, .. })));
    if let Callee::Binding { flow, .. } = &mut order.to {
        (flow.listener, flow.transport) = (0, sip::flow::Transport::Tcp);
    }
    originate(&world.proxy, order);
    assert!(matches!(world.hear_event().await, (_, LegEvent::Rejected { status: 503, .. })));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((world.proxy.stats().legs, world.open_transactions().await), (0, 0));
}

/// Seconds of the simulated clock until a call of Bob, who says nothing, is rejected.
async fn patience(world: &mut World) -> u64 {
    let begun = tokio::time::Instant::now();
    let (leg, _) = originate(&world.proxy, order(world, Aor::from_bits(2)));
    assert!(matches!(world.hear_event().await, (id, LegEvent::Rejected { status: 408, .. }) if id == leg));
    begun.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn patience_is_shorter_with_a_device_that_leaves_pings_unanswered() {
    for (limit, usual, suspect) in [(8, 8, 4), (0, 32, 32)] {
        let mut world = World::with(|config| {
            config.nat_ping = Duration::from_secs(30);
            config.first_response = Duration::from_secs(limit);
        })
        .await;
        let mut bob = world.phone("bob", "198.51.100.8:40000");
        bob.register("Contact: <sip:bob@10.0.0.8:5060>;expires=3600\r\n").await;
        while world.proxy.stats().pings_missed < 1 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(patience(&mut world).await, usual, "one miss proves nothing");
        while world.proxy.stats().unreachable == 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(patience(&mut world).await, suspect, "still called, but not waited for");
        while bob.port.try_recv().is_some() {}
        // It is heard again: as before.
        bob.register("Contact: <sip:bob@10.0.0.8:5060>;expires=3600\r\n").await;
        assert_eq!(patience(&mut world).await, usual);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.proxy.stats().legs, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn legs_of_two_workers_get_what_is_theirs() {
    let mut world = World::with(|config| config.workers = 2).await;
    for port in [5060, 5061] {
        let mut bob = world.phone("bob", &format!("198.51.100.8:{port}"));
        let contact = bob.contact();
        bob.register(&contact).await;
        let binding = world.proxy.bindings(Aor::from_bits(2)).remove(0);
        assert_eq!(binding.flow.remote, bob.addr());
        for _ in 0..2 {
            // Legs alternate between the workers, while Bob's datagrams always meet the same one.
            let (leg, _) = originate(&world.proxy, order(&world, Aor::from_bits(2)));
            let invite = bob.recv().await;
            let answer = bob.answer(&invite, 200, SDP);
            bob.send(answer);
            assert!(matches!(world.hear_event().await, (id, LegEvent::Answered { .. }) if id == leg));
            assert_eq!(bob.recv().await.method_bytes(), b"ACK");
            let ours = String::from_utf8_lossy(invite.header(HeaderId::From).unwrap()).into_owned();
            let theirs = String::from_utf8_lossy(invite.header(HeaderId::To).unwrap()).into_owned();
            let call_id = String::from_utf8_lossy(invite.call_id()).into_owned();
            let contact = invite.contact().unwrap().unwrap();
            let uri = String::from_utf8_lossy(contact.uri_raw).into_owned();
            let bye = bob
                .request("BYE", &uri, &ours, "", "")
                .replace(
                    &format!("From: <sip:bob@{}>;tag=from", bob.domain),
                    &format!("From: {theirs};tag=callee"),
                )
                .replace(&format!("Call-ID: {}", bob.call_id), &format!("Call-ID: {call_id}"));
            bob.send(bye.clone());
            assert_eq!(bob.recv().await.status(), 200);
            assert!(
                matches!(world.hear_event().await, (id, LegEvent::Ended { by_peer: true, .. }) if id == leg)
            );
            bob.send(bye);
            assert_eq!(bob.recv().await.status(), 200, "the repeat meets the same transaction");
        }
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((world.proxy.stats().legs, world.open_transactions().await), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn on_loopback_calls_may_go_without_passwords() {
    let mut world = World::with(|config| {
        config.auth.invite = false;
        config.listeners[0].bind = "127.0.0.1:5060".parse().unwrap();
    })
    .await;
    let mut alice = world.phone("alice", "127.0.0.1:5070");
    let text = alice.request(
        "INVITE",
        "sip:102@users.democlient.com",
        "<sip:102@users.democlient.com>",
        "Contact: <sip:a@127.0.0.1:5070>\r\n",
        SDP,
    );
    alice.port.send_to(text, "127.0.0.1:5060".parse().unwrap());
    assert_eq!(world.hear_incoming().await.origin.aor(), Some(Aor::from_bits(1)));
    alice.name = "mallory".to_owned();
    alice.call_id = "other".to_owned();
    let text = alice.request(
        "INVITE",
        "sip:102@users.democlient.com",
        "<sip:102@users.democlient.com>",
        "Contact: <sip:a@127.0.0.1:5070>\r\n",
        SDP,
    );
    alice.port.send_to(text, "127.0.0.1:5060".parse().unwrap());
    loop {
        let (bytes, _) = alice.port.recv().await;
        let answer = parse(&String::from_utf8_lossy(&bytes));
        if answer.call_id() == b"other" {
            assert_eq!(answer.status(), 403);
            break;
        }
    }
}
