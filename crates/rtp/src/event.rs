//! Telephone events: key presses as packets of their own (RFC 4733).
//!
//! In: keys to be sent and the stream's timestamps, or payloads of the negotiated type. Out: payloads to be sent, or keys
//! that began and ended. Elsewhere: agreeing on the payload type (crate `sip`), tones as sound (`tone`).

use std::collections::VecDeque;

/// Keys that wait in a [`Sender`], and findings that wait in a [`Collector`].
const QUEUE_MAX: usize = 64;
/// Events in one payload that a [`Collector`] looks at (RFC 4733 section 2.5.1.5).
const PACKED_MAX: usize = 8;
/// The last packet of an event is sent this often (RFC 4733 section 2.5.1.4).
const LAST_TIMES: u8 = 3;
/// The power of our events in -dBm0 (RFC 4733 section 2.3.4).
const VOLUME: u8 = 10;

/// One event report: a payload of four octets (RFC 4733 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// 0-9 digits, 10 `*`, 11 `#`, 12-15 A-D, 16 flash.
    pub code: u8,
    /// The event is over.
    pub end: bool,
    /// In -dBm0, 0 to 63.
    pub volume: u8,
    /// Since the packet's timestamp, in timestamp units.
    pub duration: u16,
}

impl Event {
    /// Reads the first report of a payload.
    pub fn parse(payload: &[u8]) -> Option<Event> {
        let [code, flags, high, low, ..] = *payload else { return None };
        let duration = u16::from_be_bytes([high, low]);
        Some(Event { code, end: flags & 0x80 != 0, volume: flags & 0x3f, duration })
    }

    /// The payload.
    pub fn to_bytes(&self) -> [u8; 4] {
        let [high, low] = self.duration.to_be_bytes();
        [self.code, u8::from(self.end) << 7 | self.volume & 0x3f, high, low]
    }
}

/// The event of a key: `0`-`9`, `*`, `#`, `A`-`D`; `!` is flash.
pub fn code_of(key: char) -> Option<u8> {
    KEYS.chars().position(|known| known == key.to_ascii_uppercase()).and_then(|at| u8::try_from(at).ok())
}

/// The key of an event.
pub fn key_of(code: u8) -> Option<char> {
    KEYS.chars().nth(usize::from(code))
}

const KEYS: &str = "0123456789*#ABCD!";

/// A packet to be sent in the place of audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPacket {
    /// Only on the first packet of an event.
    pub marker: bool,
    /// When the event (or this segment of a very long one) began.
    pub timestamp: u32,
    /// The report.
    pub event: Event,
}

/// Plays keys one after the other.
#[derive(Clone, Debug, Default)]
pub struct Sender {
    queue: VecDeque<(u8, u32)>,
    state: Sending,
    pause: u32,
}

#[derive(Clone, Copy, Debug, Default)]
enum Sending {
    #[default]
    Idle,
    /// `begin`: of the segment; `left`: of the event, from `begin` on; `fresh`: nothing sent yet.
    On { code: u8, begin: u32, left: u32, fresh: bool },
    /// The last packet is being repeated.
    Last { packet: EventPacket, times: u8 },
    /// No key and no audio until then: keys must be told apart.
    Pause { until: u32 },
}

impl Sender {
    /// `pause`: the least silence between two keys, in timestamp units; 50 ms or more are safe for gateways.
    pub fn new(pause: u32) -> Sender {
        Sender { pause, ..Sender::default() }
    }

    /// Queues a key that lasts `duration` timestamp units (at least one). False when 64 wait already.
    pub fn play(&mut self, code: u8, duration: u32) -> bool {
        let room = self.queue.len() < QUEUE_MAX;
        if room {
            self.queue.push_back((code, duration.max(1)));
        }
        room
    }

    /// Nothing is being sent and nothing waits.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, Sending::Idle) && self.queue.is_empty()
    }

    /// Asked once per packet time; `now` is the stream's timestamp, `step` what a packet covers. `None`: send audio.
    pub fn next(&mut self, now: u32, step: u32) -> Option<EventPacket> {
        if let Sending::Pause { until } = self.state
            && until.wrapping_sub(now).cast_signed() <= 0
        {
            self.state = Sending::Idle;
        }
        if let Sending::Idle = self.state
            && let Some((code, left)) = self.queue.pop_front()
        {
            self.state = Sending::On { code, begin: now, left, fresh: true };
        }
        match self.state {
            Sending::Idle | Sending::Pause { .. } => None,
            Sending::On { code, begin, left, fresh } => {
                Some(self.report(code, begin, left, fresh, now, step))
            }
            Sending::Last { packet, times } => {
                self.state = match times {
                    0..=1 => Sending::Pause { until: now.wrapping_add(step).wrapping_add(self.pause) },
                    _ => Sending::Last { packet, times: times - 1 },
                };
                Some(packet)
            }
        }
    }

    fn report(&mut self, code: u8, begin: u32, left: u32, fresh: bool, now: u32, step: u32) -> EventPacket {
        let elapsed = now.wrapping_sub(begin).saturating_add(step);
        let duration = elapsed.min(left).min(u32::from(u16::MAX)) as u16;
        let end = elapsed >= left && left <= u32::from(u16::MAX);
        let event = Event { code, end, volume: VOLUME, duration };
        let packet = EventPacket { marker: fresh, timestamp: begin, event };
        self.state = if end {
            Sending::Last { packet: EventPacket { marker: false, ..packet }, times: LAST_TIMES - 1 }
        } else if duration == u16::MAX {
            // The next segment (RFC 4733 section 2.5.1.3).
            let whole = u32::from(u16::MAX);
            Sending::On { code, begin: begin.wrapping_add(whole), left: left - whole, fresh: false }
        } else {
            Sending::On { code, begin, left, fresh: false }
        };
        packet
    }
}

/// What a [`Collector`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A key went down.
    Began {
        /// Its event.
        code: u8,
    },
    /// The key went up, or another one went down.
    Ended {
        /// Its event.
        code: u8,
        /// How long it lasted, in timestamp units, as far as reported.
        duration: u32,
    },
}

/// Makes key presses of reports, however many of them are lost, repeated or late: one `Began` and one `Ended` each.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    current: Option<Current>,
    heard: VecDeque<Heard>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    code: u8,
    /// Of the last segment.
    timestamp: u32,
    duration: u16,
    /// Of the segments before.
    segments: u32,
    ended: bool,
}

impl Collector {
    /// Nothing heard yet.
    pub fn new() -> Collector {
        Collector::default()
    }

    /// Takes one packet of the negotiated payload type. Several reports in a payload follow each other in time.
    pub fn receive(&mut self, timestamp: u32, payload: &[u8]) {
        let mut begin = timestamp;
        for event in payload.chunks_exact(4).take(PACKED_MAX).filter_map(Event::parse) {
            self.take(begin, event);
            begin = begin.wrapping_add(u32::from(event.duration));
        }
    }

    /// The next finding.
    pub fn poll(&mut self) -> Option<Heard> {
        self.heard.pop_front()
    }

    /// No packets came for a while: the key cannot still be down.
    pub fn give_up(&mut self) {
        if let Some(mut current) = self.current {
            self.end(&mut current);
            self.current = Some(current);
        }
    }

    fn take(&mut self, timestamp: u32, event: Event) {
        let Some(mut current) = self.current else { return self.begin(timestamp, event) };
        let ahead = timestamp.wrapping_sub(current.timestamp).cast_signed();
        let next_segment = !current.ended && event.code == current.code && ahead == i32::from(u16::MAX);
        if ahead == 0 && event.code == current.code {
            current.duration = current.duration.max(event.duration);
        } else if next_segment {
            current.segments = current.segments.saturating_add(u32::from(u16::MAX));
            current.timestamp = timestamp;
            current.duration = event.duration;
        } else if (-0x1_0000..=0).contains(&ahead) {
            return; // late news of an event before
        } else {
            self.end(&mut current);
            return self.begin(timestamp, event);
        }
        if event.end {
            self.end(&mut current);
        }
        self.current = Some(current);
    }

    fn begin(&mut self, timestamp: u32, event: Event) {
        let Event { code, end, duration, .. } = event;
        self.tell(Heard::Began { code });
        let mut current = Current { code, timestamp, duration, segments: 0, ended: false };
        if end {
            self.end(&mut current);
        }
        self.current = Some(current);
    }

    fn end(&mut self, current: &mut Current) {
        if !current.ended {
            current.ended = true;
            let duration = current.segments.saturating_add(u32::from(current.duration));
            self.tell(Heard::Ended { code: current.code, duration });
        }
    }

    /// Drops the oldest finding when nobody polls.
    fn tell(&mut self, heard: Heard) {
        if self.heard.len() == QUEUE_MAX {
            self.heard.pop_front();
        }
        self.heard.push_back(heard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Header, Packet};
    use proptest::prelude::*;

    fn heard(collector: &mut Collector) -> Vec<Heard> {
        std::iter::from_fn(|| collector.poll()).collect()
    }

    /// All packets of some keys, asked for every 160 units from timestamp `start` on.
    fn played(start: u32, keys: &[(char, u32)]) -> Vec<EventPacket> {
        let mut sender = Sender::new(400);
        for (key, duration) in keys {
            assert!(sender.play(code_of(*key).unwrap(), *duration));
        }
        let mut now = start;
        let mut packets = Vec::new();
        while !sender.is_idle() {
            packets.extend(sender.next(now, 160));
            now = now.wrapping_add(160);
        }
        packets
    }

    #[test]
    fn the_packet_of_rfc_4733_figure_3() {
        let octets = [0x80, 0x64, 0, 18, 0, 0, 0x2b, 0xc0, 0, 0x52, 0x34, 0xa8, 1, 0x94, 0x06, 0xe0];
        let packet = Packet::parse(&octets).unwrap();
        assert_eq!((packet.payload_type(), packet.sequence(), packet.timestamp()), (100, 18, 11_200));
        let event = Event::parse(packet.payload()).unwrap();
        assert_eq!(event, Event { code: 1, end: true, volume: 20, duration: 1760 });
        let header =
            Header { marker: false, payload_type: 100, sequence: 18, timestamp: 11_200, ssrc: packet.ssrc() };
        let mut written = Vec::new();
        header.write(&event.to_bytes(), &mut written);
        assert_eq!(written, octets);
        assert_eq!(Event::parse(&[1, 2, 3]), None);
    }

    #[test]
    fn a_key_begins_with_the_marker_grows_and_ends_three_times() {
        let packets = played(1000, &[('5', 400)]);
        let seen: Vec<_> =
            packets.iter().map(|p| (p.marker, p.timestamp, p.event.duration, p.event.end)).collect();
        let want = [
            (true, 1000, 160, false),
            (false, 1000, 320, false),
            (false, 1000, 400, true),
            (false, 1000, 400, true),
            (false, 1000, 400, true),
        ];
        assert_eq!(seen, want);
        assert!(packets.iter().all(|p| p.event.code == 5 && p.event.volume == VOLUME));
    }

    #[test]
    fn keys_keep_their_distance() {
        let packets = played(0, &[('1', 160), ('1', 160)]);
        let starts: Vec<_> = packets.iter().filter(|p| p.marker).map(|p| p.timestamp).collect();
        assert_eq!(starts.len(), 2);
        assert!(starts[1] - starts[0] >= 160 + 400, "{starts:?}");
        let mut collector = Collector::new();
        packets.iter().for_each(|p| collector.receive(p.timestamp, &p.event.to_bytes()));
        assert_eq!(heard(&mut collector).len(), 4);
    }

    #[test]
    fn a_very_long_key_goes_in_segments_and_is_one_key() {
        let packets = played(u32::MAX - 1000, &[('#', 150_000)]); // the timestamp wraps as well
        assert_eq!(packets.iter().filter(|p| p.marker).count(), 1);
        assert!(packets.iter().any(|p| p.event.duration == u16::MAX && !p.event.end));
        assert_eq!(packets.last().unwrap().timestamp, (u32::MAX - 1000).wrapping_add(2 * 65_535));
        let mut collector = Collector::new();
        packets.iter().for_each(|p| collector.receive(p.timestamp, &p.event.to_bytes()));
        assert_eq!(
            heard(&mut collector),
            [Heard::Began { code: 11 }, Heard::Ended { code: 11, duration: 150_000 }]
        );
    }

    #[test]
    fn lost_repeated_and_late_reports_make_one_key() {
        let report = |end, duration| Event { code: 7, end, volume: 0, duration }.to_bytes();
        let mut collector = Collector::new();
        collector.receive(5000, &report(false, 320)); // the first packet was lost
        collector.receive(5000, &report(false, 160)); // late
        collector.receive(5000, &report(true, 800));
        collector.receive(5000, &report(true, 800));
        collector.receive(5000, &report(false, 640)); // late
        assert_eq!(
            heard(&mut collector),
            [Heard::Began { code: 7 }, Heard::Ended { code: 7, duration: 800 }]
        );

        collector.receive(9000, &report(false, 160)); // all ends are lost
        collector.receive(20_000, &report(true, 480));
        collector.receive(9000, &report(true, 800)); // very late
        let key = |duration| [Heard::Began { code: 7 }, Heard::Ended { code: 7, duration }];
        assert_eq!(heard(&mut collector), [key(160), key(480)].concat());

        collector.receive(30_000, &report(false, 160));
        collector.give_up();
        collector.give_up();
        assert_eq!(heard(&mut collector), key(160));
    }

    #[test]
    fn several_events_in_one_payload_follow_each_other() {
        let event = |code, duration| Event { code, end: true, volume: 0, duration }.to_bytes();
        let mut collector = Collector::new();
        collector.receive(100, &[event(1, 400), event(2, 400)].concat());
        let codes: Vec<_> =
            heard(&mut collector).into_iter().filter(|h| matches!(h, Heard::Began { .. })).collect();
        assert_eq!(codes, [Heard::Began { code: 1 }, Heard::Began { code: 2 }]);
    }

    #[test]
    fn queues_are_bounded() {
        let mut sender = Sender::new(0);
        assert_eq!((0..100).filter(|_| sender.play(1, 160)).count(), QUEUE_MAX);
        let mut collector = Collector::new();
        for n in 0..1000u32 {
            collector.receive(n * 100_000, &Event { code: 1, end: true, volume: 0, duration: 1 }.to_bytes());
        }
        assert_eq!(heard(&mut collector).len(), QUEUE_MAX);
    }

    #[test]
    fn keys_and_codes() {
        for (key, code) in [('0', 0), ('9', 9), ('*', 10), ('#', 11), ('a', 12), ('D', 15), ('!', 16)] {
            assert_eq!(code_of(key), Some(code));
            assert_eq!(key_of(code), Some(key.to_ascii_uppercase()));
        }
        assert_eq!((code_of('x'), key_of(17)), (None, None));
    }

    proptest! {
        #[test]
        fn keys_survive_the_loss_of_any_packets_but_all_of_one_key(
            keys in prop::collection::vec((0..16u8, 100..3000u32), 1..8),
            lost in any::<u64>(),
            start in any::<u32>(),
        ) {
            let keys: Vec<_> = keys.into_iter().map(|(code, duration)| (key_of(code).unwrap(), duration)).collect();
            let mut collector = Collector::new();
            let mut kept = std::collections::BTreeSet::new();
            for (n, packet) in played(start, &keys).into_iter().enumerate() {
                // The first packet of each key arrives, of the others about half.
                if packet.marker || lost >> (n % 64) & 1 == 0 {
                    kept.insert(packet.timestamp);
                    collector.receive(packet.timestamp, &packet.event.to_bytes());
                }
            }
            collector.give_up();
            let codes: Vec<_> = heard(&mut collector)
                .into_iter()
                .filter_map(|h| match h { Heard::Began { code } => key_of(code), Heard::Ended { .. } => None })
                .collect();
            prop_assert_eq!(codes, keys.iter().map(|(key, _)| *key).collect::<Vec<_>>());
            prop_assert_eq!(kept.len(), keys.len());
        }

        #[test]
        fn any_payload_ends_in_an_answer(packets in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..40)), 0..50)) {
            let mut collector = Collector::new();
            for (timestamp, payload) in packets {
                collector.receive(timestamp, &payload);
            }
            let found = heard(&mut collector);
            let began = found.iter().filter(|h| matches!(h, Heard::Began { .. })).count();
            prop_assert!(found.len() <= QUEUE_MAX && found.len() - began <= began + 1);
        }
    }
}
