//! Every native message survives the wire, and nothing that comes from the wire makes anybody panic.
//!
//! Messages are drawn at random (`draw`); compared by what they print, since sessions' words have no equality.

mod draw;

use super::*;
use cluster::between::{DirectoryItem, FromRelay, ToCalls, ToLegs, ToRelay};
use cluster::leg::{LegCommand, LegEvent};
use draw::Draw;
use proptest::prelude::*;
use prost::Message as _;
use std::fmt::Debug;

fn survives<T: Wire + Clone + Debug>(item: T) -> Result<(), TestCaseError> {
    let said = format!("{item:?}");
    let octets = item.write().expect("within the bounds").encode_to_vec();
    let back = T::read(T::Message::decode(&octets[..]).expect("what was written")).expect("what was meant");
    prop_assert_eq!(said, format!("{:?}", back));
    Ok(())
}

/// Reads octets as every kind of message; whatever passes can be written and read again.
fn read_all(octets: &[u8]) {
    fn one<T: Wire + Debug>(octets: &[u8]) {
        if let Ok(message) = T::Message::decode(octets)
            && let Ok(item) = T::read(message)
        {
            let said = format!("{item:?}");
            let again =
                T::read(item.write().expect("what was taken is within the bounds")).expect("the same");
            assert_eq!(said, format!("{again:?}"));
        }
    }
    one::<ToCalls>(octets);
    one::<ToLegs>(octets);
    one::<ToRelay>(octets);
    one::<FromRelay>(octets);
    one::<DirectoryItem>(octets);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn every_message_survives_the_wire(seed in any::<u64>()) {
        let mut draw = Draw::new(seed);
        survives(draw.calls_item())?;
        survives(draw.legs_item())?;
        survives(draw.relay_item())?;
        survives(draw.media_item())?;
        survives(draw.directory_item())?;
    }

    #[test]
    fn any_octets_are_read_without_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&octets);
    }

    #[test]
    fn damaged_messages_are_read_without_panic(
        seed in any::<u64>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in any::<prop::sample::Index>(),
    ) {
        let mut draw = Draw::new(seed);
        let whole = [
            draw.calls_item().write().unwrap().encode_to_vec(),
            draw.legs_item().write().unwrap().encode_to_vec(),
            draw.relay_item().write().unwrap().encode_to_vec(),
            draw.media_item().write().unwrap().encode_to_vec(),
            draw.directory_item().write().unwrap().encode_to_vec(),
        ];
        for mut octets in whole {
            for (at, value) in damage.iter().filter(|_| !octets.is_empty()).collect::<Vec<_>>() {
                let at = at.index(octets.len());
                octets[at] = *value;
            }
            read_all(&octets);
            octets.truncate(length.index(octets.len() + 1));
            read_all(&octets);
        }
    }
}

fn title() -> Option<v1::Title> {
    Some(v1::Title { call: 1 << 48 | 7, epoch: 2 })
}

fn happening(event: v1::leg_event::Event) -> v1::ToCalls {
    let event = Some(v1::LegEvent { event: Some(event) });
    let happening = v1::LegHappening { title: title(), leg: 1 << 48, event };
    v1::ToCalls { item: Some(v1::to_calls::Item::Event(happening)) }
}

fn refused<T: Wire + Debug>(message: T::Message, words: &str) {
    assert_eq!(T::read(message).unwrap_err().to_string(), words);
}

#[test]
fn what_is_wrong_is_named() {
    use v1::leg_event::{self as e, Event};
    refused::<ToCalls>(
        v1::ToCalls { item: None },
        "ToCalls.item: missing, or of a kind that this release does not know",
    );
    let progress = |status, sdp: usize| {
        happening(Event::Progress(e::Progress { status, sdp: Some(vec![b'x'; sdp].into()), fork: 0 }))
    };
    assert!(ToCalls::read(progress(180, BODY_MAX)).is_ok());
    refused::<ToCalls>(
        progress(180, BODY_MAX + 1),
        "LegEvent.Progress.sdp: 65537 octets are too many, 65536 at most",
    );
    refused::<ToCalls>(progress(200, 0), "LegEvent.Progress.status: 200 is out of range");
    refused::<ToCalls>(progress(65_716, 0), "LegEvent.Progress.status: 65716 is out of range");
    let ended = |cause| happening(Event::Ended(e::Ended { by_peer: true, cause, reason: None }));
    refused::<ToCalls>(ended(0), "LegEvent.Ended.cause: 0 is a value that this release does not know");
    refused::<ToCalls>(ended(-5), "LegEvent.Ended.cause: -5 is a value that this release does not know");
    let lost =
        |title, leg| v1::ToCalls { item: Some(v1::to_calls::Item::LegLost(v1::LegLost { title, leg })) };
    refused::<ToCalls>(
        lost(None, 1 << 48),
        "LegLost.title: missing, or of a kind that this release does not know",
    );
    refused::<ToCalls>(lost(title(), 5), "LegLost.leg: 5 is out of range");
    let nobody = Some(v1::Title { call: 3, epoch: 0 });
    refused::<ToCalls>(lost(nobody, 1 << 48), "LegLost.title: 3 is out of range");
    let capsule = v1::Capsule { custodians: vec![1; LEGS_MAX + 1], ..v1::Capsule::default() };
    let keep = v1::Keep { title: title(), capsule: Some(capsule) };
    refused::<ToLegs>(
        v1::ToLegs { item: Some(v1::to_legs::Item::Keep(keep)) },
        "Capsule.custodians: 65 are too many, 64 at most",
    );
    let asked = |question| v1::DirectoryItem {
        item: Some(v1::directory_item::Item::Ask(v1::Ask { ticket: 1, question: Some(question) })),
    };
    use v1::ask::Question as Asked;
    refused::<DirectoryItem>(
        asked(Asked::Calls(v1::AskCalls { limit: 1025, ..v1::AskCalls::default() })),
        "AskCalls.limit: 1025 is out of range",
    );
    refused::<DirectoryItem>(
        asked(Asked::Calls(v1::AskCalls { after_us: Some(1), ..v1::AskCalls::default() })),
        "AskCalls.after_call: malformed",
    );
    let told = |answer| v1::DirectoryItem {
        item: Some(v1::directory_item::Item::Told(v1::Told { ticket: 1, answer: Some(answer) })),
    };
    let held = v1::HeldCall { call: 1 << 48 | 7, brand: 1, client: 1, ..v1::HeldCall::default() };
    let calls = |calls| told(v1::told::Answer::Calls(v1::ToldCalls { calls, total: 1, more: false }));
    assert!(DirectoryItem::read(calls(vec![held.clone(); 1024])).is_ok());
    refused::<DirectoryItem>(
        calls(vec![held.clone(); 1025]),
        "ToldCalls.calls: 1025 are too many, 1024 at most",
    );
    refused::<DirectoryItem>(
        calls(vec![v1::HeldCall { legs: vec![v1::HeldLeg::default(); 65], ..held.clone() }]),
        "HeldCall.legs: 65 are too many, 64 at most",
    );
    refused::<DirectoryItem>(
        calls(vec![v1::HeldCall { dialled: "1".repeat(WORDS_MAX + 1), ..held.clone() }]),
        "HeldCall.dialled: 1025 octets are too many, 1024 at most",
    );
    refused::<DirectoryItem>(
        calls(vec![v1::HeldCall { client: 0, ..held }]),
        "HeldCall.client: 0 is out of range",
    );
    let counted = Some(v1::Counted { kind: v1::CountedKind::User.into(), id: 0 });
    let reserved = v1::Reserved { ticket: 1, full: counted, fence: 3 };
    refused::<DirectoryItem>(
        v1::DirectoryItem { item: Some(v1::directory_item::Item::Reserved(reserved)) },
        "Counted.id: 0 is out of range",
    );
}

#[test]
fn header_lines_are_taken_only_as_they_would_be_written() {
    let read = |raw: &str| headers("here", raw.as_bytes()).map(|lines| lines.as_bytes().to_vec());
    for good in ["", "Subject: x\r\n", "Subject:  x \r\nX-A: \r\n", "X-Colon: a: b\r\n"] {
        assert_eq!(read(good), Ok(good.as_bytes().to_vec()));
    }
    let more = [
        "Subject: x",
        "Subject: x\n",
        "Subject: x\r\n\r\n",
        "Subject: a\r\r\n",
        "Subject: a\0\r\n",
        "Sub ject: x\r\n",
        ": x\r\n",
        "Subject:x\r\n",
        "Via: x\r\n",
        "l: 5\r\n",
        " folded\r\n",
    ];
    for evil in more {
        assert_eq!(read(evil), bad("here", Why::Malformed), "{evil:?}");
    }
}

#[test]
fn what_is_larger_than_messages_may_be_is_not_sent() {
    let title = Title { call: CallId::new(NodeId(1), 7), epoch: 0 };
    let leg = LegId::new(NodeId(1), 0, 7);
    let event = LegEvent::Answer { sdp: vec![0; BODY_MAX + 1].into() };
    assert_eq!(ToCalls::Event { title, leg, event }.write().unwrap_err().field, "LegEvent.Answer.sdp");
    let mut lines = HeaderText::new();
    lines.push("X-Long", vec![b'a'; HEADERS_MAX]);
    let command = LegCommand::Accept { sdp: None, headers: lines };
    assert_eq!(
        ToLegs::Command { title, leg, command }.write().unwrap_err().field,
        "LegCommand.Accept.headers"
    );
}

#[test]
fn words_for_people_are_cut_between_characters() {
    assert_eq!(words("ä".repeat(WORDS_MAX)).len(), WORDS_MAX);
    assert_eq!(words(format!("x{}", "ä".repeat(WORDS_MAX))).len(), WORDS_MAX - 1);
    assert_eq!(words("short".to_owned()), "short");
}
