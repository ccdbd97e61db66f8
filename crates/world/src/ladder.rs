//! Calls as text: who sends what to whom, line by line. A message that is not on the ladder fails the test.
//!
//! A line is a way through the node, `alice INVITE > us INVITE > bob` or `alice < 180 us < 180 bob`, or half of one; `wait 8`
//! lets seconds pass, `crash bob` kills the node's leg to Bob, `cdr …` is what the call record says. Elsewhere: the peers (`scripted`), the node (`node`).

use crate::node::{NODE, Options, World};
use crate::scripted::Scripted;
use model::{Aor, BindingRecord, FlowRecord};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Longer than every timer that a call leaves behind.
const AFTERWARDS: Duration = Duration::from_secs(70);

/// Plays a ladder in calm weather with the demo's users; `bob2` is Bob's second phone where it is named.
///
/// # Panics
/// When anything differs from the ladder.
#[track_caller]
pub fn ladder(text: &str) {
    ladder_in(Options::default(), text);
}

/// The same with other tenants or weather.
///
/// # Panics
/// As [`ladder`].
#[track_caller]
pub fn ladder_in(options: Options, text: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(play(options, text));
}

async fn play(options: Options, text: &str) {
    let phones: Vec<&str> = ["alice", "bob", "bob2"].into_iter().filter(|name| names(text, name)).collect();
    let mut options = Options { challenge: false, ..options };
    for (number, name) in (1..).zip(&phones) {
        if *name != "alice" {
            options.bindings.push(binding(name, address(number)));
        }
    }
    let world = World::new(options).await;
    let node: SocketAddr = NODE.parse().expect("an address");
    let mut peers: BTreeMap<&str, Scripted> = BTreeMap::new();
    for (number, name) in (1..).zip(&phones) {
        peers.insert(name, Scripted::new(name, world.net.bind(address(number)), node));
    }
    let mut records = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(seconds) = line.strip_prefix("wait ") {
            tokio::time::sleep(Duration::from_secs(seconds.trim().parse().expect("seconds"))).await;
        } else if let Some(name) = line.strip_prefix("crash ") {
            let leg = peers[name.trim()].leg();
            assert!(world.proxy.kill_leg(leg).await, "no leg of {name}");
        } else if let Some(record) = line.strip_prefix("cdr ") {
            records.push(record.trim());
        } else {
            for hop in hops(line) {
                let Some(peer) = peers.get_mut(hop.peer) else { panic!("who is {} in: {line}", hop.peer) };
                if hop.to_node {
                    hop.words.iter().for_each(|word| peer.send(word));
                } else {
                    peer.expect(&hop.words, line).await;
                }
            }
        }
    }
    tokio::time::sleep(AFTERWARDS).await;
    for peer in peers.values_mut() {
        if let Some(what) = peer.unexpected().await {
            panic!("not on the ladder: {what}");
        }
    }
    assert_eq!(world.open(), (0, 0, 0, 0), "transactions, legs, calls and media sessions left");
    let with_why = |record: &&str| record.contains(" why=");
    let written: Vec<String> =
        (0..).zip(&world.cdrs()).map(|(at, cdr)| shown(cdr, records.get(at).is_some_and(with_why))).collect();
    assert_eq!(written, records, "call records");
}

fn shown(cdr: &model::Cdr, with_why: bool) -> String {
    let answered = if cdr.answered_us.is_some() { "yes" } else { "no" };
    let why = if with_why { format!(" why={}", cdr.cause.text.replace(' ', "_")) } else { String::new() };
    format!("answered={answered} status={} by={:?}{why}", cdr.cause.status, cdr.hung_up_by)
}

fn names(text: &str, name: &str) -> bool {
    text.split_whitespace().any(|word| word == name)
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 10 + number], 5060))
}

fn binding(name: &str, remote: SocketAddr) -> BindingRecord {
    BindingRecord {
        aor: Aor::from_bits(2),
        contact: format!("sip:{name}@{remote}"),
        instance: None,
        reg_id: None,
        call_id: name.to_owned(),
        cseq: 1,
        q: 1000,
        expires_at: 1_900_000_000,
        path: Vec::new(),
        user_agent: String::new(),
        flow: FlowRecord { transport: "udp".to_owned(), listener: 0, remote },
        nat: false,
    }
}

/// One message, or several at once, between a peer and the node.
struct Hop<'a> {
    peer: &'a str,
    to_node: bool,
    words: Vec<&'a str>,
}

/// The hops of a line in the order in which the messages travel.
fn hops(line: &str) -> Vec<Hop<'_>> {
    let words: Vec<&str> = line.split_whitespace().map(|word| word.trim_end_matches(',')).collect();
    let is_place = |word: &str| matches!(word, "us" | "alice" | "bob" | "bob2");
    let places: Vec<usize> = (0..words.len()).filter(|at| is_place(words[*at])).collect();
    let mut found: Vec<(bool, Hop<'_>)> = Vec::new();
    for pair in places.windows(2) {
        let (left, right) = (words[pair[0]], words[pair[1]]);
        let between = &words[pair[0] + 1..pair[1]];
        let rightward = between.last() == Some(&">");
        let messages: Vec<&str> =
            between.iter().copied().filter(|word| !matches!(*word, ">" | "<")).collect();
        assert!(!messages.is_empty(), "no message between {left} and {right} in: {line}");
        let (peer, to_node) = if left == "us" { (right, !rightward) } else { (left, rightward) };
        found.push((rightward, Hop { peer, to_node, words: messages }));
    }
    assert!(!found.is_empty(), "no hop in: {line}");
    if found.iter().all(|(rightward, _)| !rightward) {
        found.reverse();
    }
    found.into_iter().map(|(_, hop)| hop).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_in_the_order_of_travel() {
        let read = |line| -> Vec<(String, bool, Vec<String>)> {
            let own = |hop: Hop<'_>| {
                (hop.peer.to_owned(), hop.to_node, hop.words.iter().map(|w| (*w).to_owned()).collect())
            };
            hops(line).into_iter().map(own).collect()
        };
        let hop = |peer: &str, to_node, words: &[&str]| {
            (peer.to_owned(), to_node, words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(
            read("alice INVITE > us INVITE > bob"),
            [hop("alice", true, &["INVITE"]), hop("bob", false, &["INVITE"])]
        );
        assert_eq!(
            read("alice < 200, 487 us < 487 bob"),
            [hop("bob", true, &["487"]), hop("alice", false, &["200", "487"])]
        );
        assert_eq!(read("us BYE > bob"), [hop("bob", false, &["BYE"])]);
    }
}
