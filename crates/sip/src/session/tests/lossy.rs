//! Whole calls over a wire that loses, delays and reorders messages: whatever happens, both sides come to rest.

use super::world::{ALICE, BOB, World, config, sdp};
use crate::draft::HeaderText;
use crate::session::{Command, CommandError, Rel100};
use std::collections::BTreeMap;
use std::time::Duration;

/// A user that does what it is asked for, and now and then something of its own.
#[derive(Default)]
pub(super) struct User {
    answers: u32,
    /// Everything heard, by its first word.
    heard: BTreeMap<String, u32>,
    /// The same as it came.
    pub(super) story: Vec<String>,
}

/// What happens to the sessions besides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Nodes {
    Stay,
    /// Whenever a session is at rest, another node may take it over.
    Move,
}

impl User {
    /// Reacts to what its session said.
    fn react(&mut self, world: &mut World, side: usize) {
        while let Some(event) = world.sides[side].heard.pop_front() {
            let words: Vec<&str> = event.split_whitespace().collect();
            *self.heard.entry(words[0].to_owned()).or_default() += 1;
            self.story.push(event.clone());
            let offered = match words[..] {
                ["Offer", ..] => true,
                ["Answered", sdp, _] | ["Progress", _, sdp, _] => sdp.starts_with('d'), // a delayed offer
                _ => false,
            };
            if offered {
                self.answers += 1;
                let answer = Command::Answer { sdp: sdp(&format!("a{side}{}", self.answers)) };
                let _ = world.command(side, answer); // the offer may be gone by now
            }
        }
    }
}

/// One call: ring, answer, changes from both sides at once, hang up, over a wire that loses `loss` messages of a hundred.
/// Returns what the users heard, and how often another node took a session over.
pub(super) fn play(seed: u64, loss: u64, nodes: Nodes) -> ([User; 2], World) {
    let (mut alice, mut bob) = (config("alice@192.0.2.1"), config("bob@192.0.2.2"));
    alice.session_timer.offer = seed.is_multiple_of(3);
    alice.session_timer.interval = 90;
    bob.session_timer.interval = 90;
    alice.rel100 = [Rel100::Off, Rel100::Supported, Rel100::Required][usize::try_from(seed / 3 % 3).unwrap()];
    let mut world = World::with(alice, bob).seeded(seed);
    world.loss = loss;
    world.jitter = Duration::from_millis(80);
    let mut chance = seed;
    let delayed = seed.is_multiple_of(5);
    let mut users = [User::default(), User::default()];
    let mut go = |world: &mut World, millis: u64| {
        let step = if millis > 10_000 { 1000 } else { 200 };
        for _ in 0..millis.div_ceil(step) {
            world.wait(Duration::from_millis(step));
            users[ALICE].react(world, ALICE);
            users[BOB].react(world, BOB);
            chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            if nodes == Nodes::Move && chance >> 62 == 0 {
                world.move_side(usize::from(chance >> 61 & 1 == 0));
            }
        }
    };
    world.act("alice", if delayed { "call -" } else { "call o1" });
    go(&mut world, 3000);
    if world.sides[BOB].session.is_some() {
        let first = sdp(if delayed { "d1" } else { "a1" });
        let progress =
            Command::Progress { status: 183, sdp: Some(first.clone()), headers: HeaderText::new() };
        world.command(BOB, progress).unwrap();
        go(&mut world, 1000);
        if seed.is_multiple_of(11) {
            let _ = world.command(ALICE, Command::Cancel { reason: None });
        }
        let accept = Command::Accept { sdp: Some(first), headers: HeaderText::new() };
        let accepted = world.command(BOB, accept);
        assert!(matches!(accepted, Ok(()) | Err(CommandError::WrongState)), "seed {seed}");
        go(&mut world, 4000);
        for round in 0..3 {
            let reoffer = |side: usize, word: &str| Command::Reoffer {
                sdp: Some(sdp(&format!("{word}{side}{round}"))),
                prefer_update: (seed + round).is_multiple_of(2),
            };
            let _ = world.command(ALICE, reoffer(ALICE, "hold"));
            if (seed + round).is_multiple_of(3) {
                let _ = world.command(BOB, reoffer(BOB, "o"));
            }
            go(&mut world, 6000);
            let _ = world.command(
                BOB,
                Command::Info { content_type: "t/x".into(), body: "x".into(), headers: HeaderText::new() },
            );
            let _ = world.command(ALICE, reoffer(ALICE, "o"));
            go(&mut world, if seed.is_multiple_of(4) { 200 } else { 5000 });
        }
        if seed.is_multiple_of(3) {
            go(&mut world, 120_000);
        }
        let _ = world.command(usize::try_from(seed % 2).unwrap(), Command::Bye { reason: None });
        if seed.is_multiple_of(7) {
            let _ = world.command(usize::try_from(1 - seed % 2).unwrap(), Command::Bye { reason: None });
        }
    } else {
        let _ = world.command(ALICE, Command::Bye { reason: None });
    }
    go(&mut world, 140_000);
    for side in [ALICE, BOB] {
        let Some(session) = &world.sides[side].session else { continue };
        assert!(session.is_over(), "seed {seed}, side {side}: {session:#?}");
        assert_eq!(session.poll_timeout(), None, "seed {seed}, side {side}");
        assert!(session.last_will().is_empty(), "seed {seed}, side {side}");
    }
    assert_eq!((world.open(ALICE), world.open(BOB)), (0, 0), "seed {seed}");
    (users, world)
}

#[test]
fn five_hundred_calls_over_a_bad_wire_come_to_rest() {
    let mut heard: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..500 {
        for user in play(seed, 20, Nodes::Stay).0 {
            let ends =
                ["Ended", "Cancelled", "Rejected"].iter().filter_map(|end| user.heard.get(*end)).sum::<u32>();
            assert!(ends == 1 || user.heard.is_empty(), "seed {seed}: {:?}", user.heard);
            for (word, count) in user.heard {
                *heard.entry(word).or_default() += count;
            }
        }
    }
    // The calls were worth the trouble: most were answered, changed and hung up, some were cancelled.
    for (word, least) in [
        ("Answered", 400),
        ("Confirmed", 400),
        ("Answer", 1500),
        ("Offer", 1500),
        ("Ended", 800),
        ("Cancelled", 20),
        ("Info", 500),
    ] {
        assert!(heard.get(word).is_some_and(|count| *count >= least), "{word}: {heard:?}");
    }
}

#[test]
fn a_call_over_a_bad_wire_agrees_on_the_same_descriptions() {
    for seed in 0..100 {
        let mut world = World::new().seeded(seed);
        world.loss = 30;
        world.jitter = Duration::from_millis(300);
        world.act("alice", "call o1");
        world.wait(Duration::from_secs(20));
        if world.sides[BOB].session.is_none() {
            continue; // not one INVITE came through
        }
        world.act("bob", "accept a1");
        world.wait(Duration::from_secs(20));
        world.skip();
        world.act("alice", "reoffer o2");
        world.wait(Duration::from_secs(5));
        if world.sides[BOB].heard.iter().any(|event| event == "Offer o2 by INVITE") {
            world.act("bob", "answer a2");
            world.wait(Duration::from_secs(20));
            let offer = world.session(ALICE).local_sdp();
            if offer == Some(sdp("o2")) {
                assert_eq!(world.session(BOB).local_sdp(), Some(sdp("a2")), "seed {seed}");
            }
        }
    }
}

/// A peer that answers anything with anything, and a user that says anything at any time.
fn chaos(seed: u64) {
    let mut alice = config("alice@192.0.2.1");
    alice.session_timer.offer = seed.is_multiple_of(2);
    let mut world = World::alone(alice).seeded(seed);
    world.act("alice", if seed.is_multiple_of(3) { "call -" } else { "call o1" });
    let mut cseq = 0;
    for _ in 0..60 {
        match world.draw(5) {
            0 | 1 => {
                let requests: Vec<_> =
                    world.sides[BOB].inbox.iter().filter(|m| m.is_request()).cloned().collect();
                let request = &requests[world.pick(requests.len())];
                let status = [100, 180, 183, 200, 200, 200, 302, 401, 408, 422, 481, 486, 491, 500, 503]
                    [world.pick(15)];
                let rseq = world.draw(4);
                let reliable = if status < 200 && rseq > 0 {
                    format!("Require: 100rel\r\nRSeq: {rseq}\r\n")
                } else {
                    String::new()
                };
                let lines = format!(
                    "Contact: <sip:b@192.0.2.2>\r\nAllow: UPDATE, PRACK\r\nMin-SE: 2000\r\nRetry-After: 1\r\n{reliable}"
                );
                let tag = ["", "x", "y", "z"][world.pick(4)];
                let body = (world.draw(2) == 0).then(|| sdp("s"));
                world.reply(&request.clone(), status, tag, &lines, body);
            }
            2 => {
                let method =
                    ["INVITE", "UPDATE", "PRACK", "BYE", "INFO", "REFER", "NOTIFY", "OPTIONS", "ACK"]
                        [world.pick(9)];
                cseq += u32::try_from(world.draw(3)).unwrap();
                let lines = "RAck: 1 1 INVITE\r\nRefer-To: <sip:c@d>\r\nSupported: timer, 100rel\r\nSession-Expires: 120\r\n";
                let body = (world.draw(2) == 0).then(|| sdp(["s", "t"][world.pick(2)]));
                if method != "BYE" || world.draw(8) == 0 {
                    world.request(method, cseq, lines, body);
                }
            }
            3 => {
                let what = [
                    "reoffer o2",
                    "reoffer -",
                    "update o3",
                    "answer a1",
                    "refuse 488",
                    "info x",
                    "refer sip:c@d",
                    "respond-info 200",
                    "respond-refer 202",
                    "cancel",
                    "bye",
                ];
                let what = what[world.pick(what.len())];
                let _ = world.tries("alice", what);
            }
            _ => {
                let millis = world.draw(5000);
                world.wait(Duration::from_millis(millis));
            }
        }
        world.session(ALICE).assert_bounds();
    }
    let _ = world.tries("alice", "bye");
    world.wait(Duration::from_secs(200));
    let session = world.session(ALICE);
    assert!(session.is_over(), "seed {seed}: {session:#?}");
    let ends = ["Ended", "Cancelled", "Rejected"];
    let heard = &world.sides[ALICE].heard;
    let count = heard.iter().filter(|event| ends.iter().any(|end| event.starts_with(end))).count();
    assert_eq!(count, 1, "seed {seed}: {heard:?}");
    assert!(ends.iter().any(|end| heard.back().unwrap().starts_with(end)), "seed {seed}: {heard:?}");
}

#[test]
fn a_peer_without_reason_cannot_break_a_session() {
    for seed in 0..400 {
        chaos(seed);
    }
}
