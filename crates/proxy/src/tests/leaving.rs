//! A proxy that is about to leave: which legs ask to go elsewhere, and what becomes of what their telephones want meanwhile.
//!
//! Elsewhere: who takes them (crate `appserver`), nodes that drain under load (`tests/tests/drains.rs`).

use super::calls::talking;
use super::world::{Heard, Phone, SDP, World};
use crate::SealKey;
use bytes::Bytes;
use cluster::ids::LegId;
use cluster::leg::{LegCommand, LegEvent, LegHost};
use sip::msg::Message;
use std::time::Duration;

/// A proxy of a cluster, with a conversation.
async fn leaving() -> (World, Phone, Message, LegId) {
    let mut world = World::with(|config| config.seal = Some(SealKey([3; 32]))).await;
    let (alice, answer, leg) = talking(&mut world).await;
    (world, alice, answer, leg)
}

impl World {
    /// The legs that ask to go elsewhere now.
    async fn leave(&mut self) -> Vec<LegId> {
        self.proxy.move_legs();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut all = Vec::new();
        while let Ok(heard) = self.heard.try_recv() {
            match heard {
                Heard::Leaves(leg) => all.push(leg),
                other => panic!("{other:?}"),
            }
        }
        all
    }
}

#[tokio::test(start_paused = true)]
async fn a_leg_at_rest_asks_to_go_elsewhere_and_its_telephone_is_served_there_or_here() {
    let (mut world, mut alice, answer, leg) = leaving().await;
    assert_eq!(world.leave().await, [leg]);
    // What comes now is repeated, to whoever has the leg then.
    let info = alice.in_dialog("INFO", &answer, "", "");
    alice.send(info.clone());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.leave().await, [], "once is enough for a while, and nothing began");
    // Nobody has taken it: the repeat is served here.
    tokio::time::sleep(Duration::from_millis(200)).await;
    alice.send(info);
    let (_, event) = world.hear_event().await;
    assert!(matches!(event, LegEvent::Info { .. }), "{event:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.leave().await, [], "its INFO waits for an answer");
    world.proxy.command(leg, LegCommand::RespondInfo { status: 200 });
    assert_eq!(alice.recv().await.status(), 200);
    assert_eq!(world.leave().await, [leg], "as long as it is here");
    // Another proxy has it.
    assert!(!world.proxy.has_just_parted());
    world.proxy.part(leg);
    assert_eq!(world.leave().await, []);
    assert_eq!((world.proxy.stats().legs, world.proxy.has_just_parted()), (0, true));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!world.proxy.has_just_parted(), "its telephone knows");
}

#[tokio::test(start_paused = true)]
async fn a_leg_behind_nat_stays() {
    let (mut world, mut alice, answer, _) = leaving().await;
    let update = alice.in_dialog("UPDATE", &answer, "Contact: <sip:alice@10.0.0.9:5060>\r\n", "");
    alice.send(update);
    assert_eq!(alice.recv().await.status(), 200);
    assert_eq!(world.leave().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_stands_alone_has_nobody_to_ask() {
    let mut world = World::new().await;
    let _alice = talking(&mut world).await;
    assert_eq!(world.leave().await, []);
}

#[tokio::test(start_paused = true)]
async fn what_a_leg_had_asked_for_before_it_went_ends_no_call() {
    let (world, mut alice, _, leg) = leaving().await;
    let sdp = Bytes::from(SDP.replace("o=- 1 1", "o=- 1 2"));
    world.proxy.command(leg, LegCommand::Reoffer { sdp: Some(sdp), prefer_update: false });
    let invite = alice.recv().await;
    assert_eq!(invite.method_bytes(), b"INVITE");
    world.proxy.part(leg);
    alice.send(alice.answer(&invite, 200, SDP));
    assert_eq!(alice.recv().await.method_bytes(), b"ACK");
    assert!(alice.hears_nothing().await, "no BYE: the call goes on elsewhere");
}
