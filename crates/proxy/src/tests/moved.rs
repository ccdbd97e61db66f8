//! Legs that another proxy had, carried on here: what their telephones hear, and what they had asked for meanwhile.
//!
//! Elsewhere: legs that leave (`leaving`), whole clusters (crate `simulation`).

use super::calls::talking;
use super::world::{Phone, SDP, World};
use crate::SealKey;
use bytes::Bytes;
use cluster::ids::{CallId, LegId, NodeId};
use cluster::leg::{LegEvent, LegHost};
use sip::msg::Message;
use std::time::Duration;

/// A proxy of a cluster.
async fn proxy(number: u16) -> World {
    World::with(|config| {
        config.seal = Some(SealKey([3; 32]));
        config.node = NodeId(number);
    })
    .await
}

/// A conversation at one proxy: Alice, the answer that she got, and what the call has of her leg.
async fn elsewhere() -> (Phone, Message, CallId, LegId, Bytes) {
    let mut world = proxy(1).await;
    let (alice, answer, leg) = talking(&mut world).await;
    let (call, state) = world.state_of(leg);
    (alice, answer, call, leg, state)
}

impl World {
    /// What was told last of a leg.
    fn state_of(&self, leg: LegId) -> (CallId, Bytes) {
        let states = self.calls.states.lock();
        let (call, _, state) = states.iter().rfind(|(_, of, _)| *of == leg).expect("its state was told");
        (*call, state.clone())
    }

    /// The same telephone, as this proxy sees it.
    fn also(&self, phone: &Phone) -> Phone {
        let mut other = self.phone(&phone.name, &phone.addr().to_string());
        other.call_id.clone_from(&phone.call_id);
        other.cseq = phone.cseq;
        other
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_telephone_asked_for_before_its_leg_was_here_is_answered_in_order() {
    let (alice, answer, call, leg, state) = elsewhere().await;
    let mut world = proxy(2).await;
    let mut alice = world.also(&alice);
    let held = SDP.replace("o=- 1 1", "o=- 1 2") + "a=sendonly\r\n";
    let contact = alice.contact();
    for request in
        [alice.in_dialog("INVITE", &answer, &contact, &held), alice.in_dialog("BYE", &answer, "", "")]
    {
        alice.send(request.clone());
        tokio::time::sleep(Duration::from_millis(500)).await;
        alice.send(request);
    }
    assert!(alice.hears_nothing().await, "its leg is asked for");
    world.proxy.revive(call, leg, state);
    let mut answers = Vec::new();
    for _ in 0..3 {
        let answer = alice.recv().await;
        let method = String::from_utf8_lossy(answer.cseq().unwrap().method).into_owned();
        answers.push(format!("{method} {}", answer.status()));
    }
    assert_eq!(answers, ["INVITE 100", "BYE 200", "INVITE 487"]);
    assert!(matches!(world.hear_event().await, (_, LegEvent::Offer { .. })));
    assert!(matches!(world.hear_event().await, (_, LegEvent::Ended { by_peer: true, .. })));
}

#[tokio::test(start_paused = true)]
async fn a_leg_that_moves_twice_before_it_is_at_rest_uses_no_number_twice() {
    let (alice, _, call, leg, first) = elsewhere().await;
    let world = proxy(2).await;
    let mut alice_there = world.also(&alice);
    world.proxy.revive(call, leg, first.clone());
    let told = alice_there.recv().await;
    assert!([&b"INVITE"[..], b"UPDATE"].contains(&told.method_bytes()), "where her leg is now");
    // It dies before she has answered.
    let (_, second) = world.state_of(leg);
    assert_ne!(first, second);
    let world = proxy(3).await;
    let mut alice = world.also(&alice);
    world.proxy.revive(call, leg, second);
    let again = alice.recv().await;
    let number = |msg: &Message| msg.cseq().unwrap().number;
    assert!(number(&again) > number(&told), "{} after {}", number(&again), number(&told));
}
