//! Several SIP workers: what belongs together meets the same one whatever flow it comes by, and what waits between them is
//! bounded.

use super::world::{DOMAIN, Heard, SDP, World};
use crate::legs::LegTag;
use crate::worker::Sender;
use crate::{Cause, Listener};
use cluster::ids::{LegId, NodeId};
use cluster::leg::LegEvent;
use sip::flow::Transport;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

#[tokio::test(start_paused = true)]
async fn a_cancel_and_a_repeat_may_come_by_another_flow() {
    let mut world = World::with(|config| config.workers = 4).await;
    for turn in 0..12 {
        let mut alice = world.phone("alice", &format!("198.51.100.7:{}", 6000 + turn * 10));
        let invite = alice.invite("102", "", SDP).await;
        assert_eq!(alice.recv().await.status(), 100);
        world.hear_incoming().await;
        // Meanwhile her NAT has taken another port, whose datagrams meet another worker.
        let mut moved = world.phone("alice", &format!("198.51.100.7:{}", 6001 + turn * 10 + turn % 3));
        moved.send(invite.raw().clone());
        assert_eq!(alice.recv().await.status(), 100, "the repeat is known");
        moved.send(sip::draft::cancel_for(&invite, None));
        let answer = moved.recv().await;
        assert_eq!((answer.method_bytes(), answer.status()), (&b"CANCEL"[..], 200), "turn {turn}");
        let refused = alice.recv().await;
        assert_eq!((refused.method_bytes(), refused.status()), (&b"INVITE"[..], 487), "turn {turn}");
        moved.send(sip::draft::ack_for_failure(&invite, &refused));
        assert!(matches!(world.hear().await, Heard::Event(_, LegEvent::Cancelled { .. })));
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((world.proxy.stats().legs, world.open_transactions().await), (0, 0));
    assert!(world.heard.try_recv().is_err(), "no repeat became a call");
}

#[tokio::test(start_paused = true)]
async fn octets_that_wait_are_bounded_and_nobody_is_forgotten() {
    let world = World::with(|config| config.limits.transactions = 64).await;
    let mut stranger = world.phone("mallory", "203.0.113.9:5060");
    let padding = "x".repeat(56_000);
    let text = stranger.request("OPTIONS", "sip:users.democlient.com", "<sip:a@b.test>", "", &padding);
    let length = text.len();
    for _ in 0..900 {
        stranger.send(text.clone());
    }
    tokio::time::sleep(Duration::from_millis(1)).await; // they arrive, all at once
    let mut most = 0;
    for _ in 0..4000 {
        tokio::task::yield_now().await;
        most = most.max(world.proxy.stats().queued.iter().sum::<usize>());
    }
    assert!(most > 64, "{most}: the queue was seen");
    // 16 MiB and the batches that were being read when it was full.
    assert!(most * length < 16 * 1024 * 1024 + 64 * length, "{most} messages of {length} octets");
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    assert_eq!(alice.register("").await.status(), 200);
    assert_eq!(world.proxy.stats().refused(Cause::Panic), 0);
}

/// What has arrived within a while in which no time passes.
async fn arrived(stream: &mut DuplexStream) -> String {
    let mut text = vec![0; 16_384];
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    tokio::select! {
        biased;
        length = stream.read(&mut text) => String::from_utf8(text[..length.unwrap()].to_vec()).unwrap(),
        () = std::future::ready(()) => String::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_brings_waits_for_another_worker_and_keeps_its_order() {
    let world = World::with(|config| {
        config.listeners.push(Listener::new(Transport::Tcp, "192.0.2.1:5060".parse().unwrap()));
        config.workers = 2;
    })
    .await;
    let (near, mut stream) = tokio::io::duplex(64 * 1024);
    assert!(world.proxy.adopt_stream(1, Transport::Tcp, "198.51.100.7:40000".parse().unwrap(), near));
    for worker in 0..2 {
        world.proxy.shared.links[worker].occupy(Sender::StrangerStream, true);
    }
    let bye = |number: u32, worker: u8| {
        let tag = LegTag { leg: LegId::new(NodeId(1), worker, 7), secret: 1 }.text();
        format!(
            "BYE sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/TCP 198.51.100.7:5060;branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@{DOMAIN}>;tag=1\r\nTo: <sip:{DOMAIN}>;tag={tag}\r\nCall-ID: {number}\r\nCSeq: {number} BYE\r\n\
             Content-Length: 0\r\n\r\n"
        )
    };
    // Legs of both workers are named: one of the two requests of each pair is for the other worker.
    let all: String = (0..16).map(|number| bye(number, (number % 2) as u8)).collect();
    stream.write_all(all.as_bytes()).await.unwrap();
    let numbers = |text: &str| -> Vec<u32> {
        let of = |line: &str| Some(line.strip_prefix("CSeq: ")?.split(' ').next()?.parse().unwrap());
        text.lines().filter_map(of).collect()
    };
    let own = numbers(&arrived(&mut stream).await);
    assert_eq!(own.len(), 8, "{own:?}: those of the other worker wait");
    assert_eq!(arrived(&mut stream).await, "");
    for worker in 0..2 {
        world.proxy.shared.links[worker].occupy(Sender::StrangerStream, false);
    }
    let others = numbers(&arrived(&mut stream).await);
    assert_eq!(others.len(), 8, "{others:?}: nothing is dropped");
    assert!(others.is_sorted(), "{others:?}");
    assert_eq!(world.proxy.stats().refused(Cause::Overload), 0);
}
