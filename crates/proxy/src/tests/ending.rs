//! The end of a proxy: what ends its calls is repeated until it has arrived, and nothing else is waited for.
//!
//! Elsewhere: how long the node waits at most (crate `carillon`), the repeating itself (`sip::transaction`).

use super::calls::{bye, calling, ringing, talking};
use super::world::{SDP, World};
use cluster::leg::{LegCommand, LegEvent, LegHost};
use sip::draft::HeaderText;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Somebody who waits until the proxy is settled.
struct Waiting(JoinHandle<()>);

impl Waiting {
    fn on(world: &World) -> Waiting {
        let proxy = Arc::clone(&world.proxy);
        Waiting(tokio::spawn(async move { proxy.settled().await }))
    }

    /// It is over now, without any time passing.
    async fn ends_at_once(self) {
        let now = Instant::now();
        self.0.await.unwrap();
        assert!(now.elapsed() < Duration::from_millis(100), "{:?}", now.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_bye_comes_again_before_the_proxy_is_settled() {
    let mut world = World::new().await;
    let (mut alice, _, leg) = talking(&mut world).await;
    let begun = Instant::now();
    world.proxy.command(leg, bye());
    let waiting = Waiting::on(&world);
    for _ in 0..3 {
        assert_eq!(alice.recv().await.method_bytes(), b"BYE");
        assert!(!waiting.0.is_finished());
    }
    let last = alice.recv().await;
    assert_eq!(last.method_bytes(), b"BYE");
    assert!(
        begun.elapsed() <= Duration::from_secs(4),
        "{:?}: within the patience of a node",
        begun.elapsed()
    );
    alice.send(alice.answer(&last, 200, ""));
    waiting.ends_at_once().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_acknowledged_yet_is_waited_for_too() {
    let mut world = World::new().await;
    let (mut alice, _, incoming) = calling(&mut world, "").await;
    let accept = LegCommand::Accept {
        sdp: Some(bytes::Bytes::from_static(SDP.as_bytes())),
        headers: HeaderText::new(),
    };
    world.proxy.command(incoming.leg, accept);
    let answer = alice.recv().await;
    world.proxy.command(incoming.leg, bye());
    let waiting = Waiting::on(&world);
    // RFC 3261 section 15: no BYE before the ACK.
    assert_eq!(alice.recv().await.status(), 200, "again");
    assert!(!waiting.0.is_finished());
    let ack = alice.in_dialog("ACK", &answer, "", "");
    alice.send(ack);
    let request = loop {
        let request = alice.recv().await;
        if request.method_bytes() == b"BYE" {
            break request;
        }
    };
    assert!(!waiting.0.is_finished());
    alice.send(alice.answer(&request, 200, ""));
    waiting.ends_at_once().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_comes_again_until_it_is_acknowledged() {
    let mut world = World::new().await;
    let (mut alice, invite, incoming) = calling(&mut world, "").await;
    let reject = LegCommand::Reject { status: 503, reason: None, headers: HeaderText::new() };
    world.proxy.command(incoming.leg, reject);
    let waiting = Waiting::on(&world);
    assert_eq!(alice.recv().await.status(), 503);
    let again = alice.recv().await;
    assert_eq!(again.status(), 503);
    assert_eq!(world.proxy.stats().legs, 0, "its transaction is what is left");
    assert!(!waiting.0.is_finished());
    alice.send(sip::draft::ack_for_failure(&invite, &again));
    waiting.ends_at_once().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_is_over_with_the_answer_to_its_invite() {
    let mut world = World::new().await;
    let (mut bob, invite, leg) = ringing(&mut world).await;
    world.proxy.command(leg, LegCommand::Cancel { reason: None });
    let waiting = Waiting::on(&world);
    assert_eq!(bob.recv().await.method_bytes(), b"CANCEL");
    let cancel = bob.recv().await;
    assert_eq!(cancel.method_bytes(), b"CANCEL");
    assert!(!waiting.0.is_finished());
    bob.send(bob.answer(&cancel, 200, ""));
    bob.send(bob.answer(&invite, 487, ""));
    assert_eq!(bob.recv().await.method_bytes(), b"ACK");
    waiting.ends_at_once().await;
}

#[tokio::test(start_paused = true)]
async fn without_calls_nothing_is_waited_for() {
    let mut world = World::with(|config| config.nat_ping = Duration::from_secs(30)).await;
    Waiting::on(&world).ends_at_once().await;
    // A call that is over leaves transactions that only absorb repeats, and a ping may be without an answer.
    let (mut alice, answer, _) = talking(&mut world).await;
    let request = alice.in_dialog("BYE", &answer, "", "");
    alice.send(request);
    assert_eq!(alice.recv().await.status(), 200);
    let mut bob = world.phone("bob", "198.51.100.8:40000");
    bob.register("Contact: <sip:bob@10.0.0.8:5060>;expires=3600\r\n").await;
    assert_eq!(bob.recv().await.method_bytes(), b"OPTIONS");
    assert!(world.open_transactions().await > 0);
    Waiting::on(&world).ends_at_once().await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_whose_legs_others_carry_on_waits_for_what_is_open_and_begins_nothing_new() {
    let mut world = World::new().await;
    let (mut alice, answer, leg) = talking(&mut world).await;
    let held = SDP.replace("o=- 1 1", "o=- 1 2") + "a=sendonly\r\n";
    let contact = alice.contact();
    let hold = alice.in_dialog("INVITE", &answer, &contact, &held);
    alice.send(hold);
    assert_eq!(alice.recv().await.status(), 100);
    let event = world.hear_event().await;
    assert!(matches!(event, (_, LegEvent::Offer { .. })), "{event:?}");
    let proxy = Arc::clone(&world.proxy);
    let resting = Waiting(tokio::spawn(async move { proxy.rest().await }));
    // What comes now is left for the next proxy: it is repeated.
    let info = alice.in_dialog("INFO", &answer, "", "");
    alice.send(info.clone());
    assert!(alice.hears_nothing().await && !resting.0.is_finished());
    let sdp = bytes::Bytes::from_static(SDP.as_bytes());
    world.proxy.command(leg, LegCommand::Answer { sdp });
    let changed = alice.recv().await;
    assert_eq!(changed.status(), 200);
    assert!(!resting.0.is_finished(), "its ACK is awaited");
    alice.cseq -= 1; // the ACK has the number of its INVITE, not of the INFO
    let ack = alice.in_dialog("ACK", &changed, "", "");
    alice.send(ack);
    resting.ends_at_once().await;
    alice.send(info);
    assert!(alice.hears_nothing().await);
}
