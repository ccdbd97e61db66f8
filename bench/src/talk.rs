//! Audio of conversations that come, move and go: 50 packets a second each way, each call's own story of what was lost.
//!
//! In: who talks, and where each side sends now. Out: a [`Heard`] of each call. Elsewhere: streams that stay as they are, their
//! latency and cost (`rtpload`); who says where to send (`sipload`).

use crate::rtpload::{self, BURST, PACKET, RATE};
use crate::sipload::{CallKey, Whose};
use crate::udp;
use netio::{RecvBatch, SendBatch};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// From one packet of a stream to its next.
const PACE: Duration = Duration::from_nanos(1_000_000_000 / RATE as u64);
/// The first packets of a call are not counted: a relay passes nothing to a side that it has not heard of.
const FIRST: u32 = 10;
/// Packets that nobody counts carry this mark.
const UNCOUNTED: u32 = 0;

/// All conversations.
pub(crate) struct Talks {
    sockets: [UdpSocket; 2],
    inbox: RecvBatch,
    outbox: SendBatch,
    /// By the place of the call.
    talks: HashMap<u32, Talk>,
    /// When each is due, the first one first. All have the same pace, so whoever was sent goes to the end.
    due: VecDeque<(Instant, CallKey)>,
    /// What is counted carries it.
    mark: u32,
    ready: [Vec<([u8; PACKET], SocketAddr)>; 2],
    /// The longest time that a packet was sent too late.
    pub(crate) behind: Duration,
}

/// One conversation.
struct Talk {
    call: CallKey,
    to: [SocketAddr; 2],
    number: u32,
    sides: [Side; 2],
}

/// What a side sent and heard.
#[derive(Clone, Copy, Default)]
struct Side {
    /// Counted packets that it sent.
    sent: u64,
    /// Counted packets that it heard.
    heard: u64,
    /// Number and arrival (nanoseconds of the Unix epoch) of the last packet that it heard.
    last: Option<(u32, u64)>,
    /// The longest run of packets that never came.
    missing: u32,
    missing_to: u32,
    /// The longest time from one packet to the next.
    silence: u64,
}

/// What came of a conversation since [`Talks::count_from_now`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    /// Packets sent by both sides.
    pub(crate) sent: u64,
    /// Of them those that did not arrive.
    pub(crate) lost: u64,
    /// The longest piece of audio that a side did not get, in milliseconds.
    pub(crate) gap_ms: f64,
    /// The longest time that a side heard nothing, in milliseconds: 20 and what the network and the machine's load add.
    pub(crate) silence_ms: f64,
    /// Which packet was the next one that came.
    pub(crate) gap_to: u32,
    /// Both sides heard the other to the end.
    pub(crate) alive: bool,
}

impl Talks {
    /// Nobody talks yet.
    pub(crate) fn new() -> io::Result<Talks> {
        let sockets = [udp::bind()?, udp::bind()?];
        for socket in &sockets {
            netio::enable_timestamps(socket)?;
        }
        Ok(Talks {
            sockets,
            inbox: RecvBatch::with_timestamps(256, 256),
            outbox: SendBatch::new(BURST),
            talks: HashMap::new(),
            due: VecDeque::new(),
            mark: 1,
            ready: [Vec::new(), Vec::new()],
            behind: Duration::ZERO,
        })
    }

    /// Where callers and callees hear.
    pub(crate) fn ports(&self) -> io::Result<(u16, u16)> {
        Ok((self.sockets[0].local_addr()?.port(), self.sockets[1].local_addr()?.port()))
    }

    /// A conversation begins: the caller sends to the first, the callee to the second.
    pub(crate) fn begin(&mut self, call: CallKey, to: [SocketAddr; 2]) {
        self.talks.insert(call.at, Talk { call, to, number: 0, sides: [Side::default(); 2] });
        self.due.push_back((Instant::now(), call));
    }

    /// A side sends elsewhere from now on.
    pub(crate) fn aim(&mut self, call: CallKey, side: Whose, to: SocketAddr) {
        if let Some(talk) = self.talks.get_mut(&call.at).filter(|talk| talk.call == call) {
            talk.to[place(side)] = to;
        }
    }

    /// What was sent before is not counted.
    pub(crate) fn count_from_now(&mut self) {
        self.mark += 1;
        self.behind = Duration::ZERO;
        for side in self.talks.values_mut().flat_map(|talk| &mut talk.sides) {
            *side = Side { last: side.last, ..Side::default() };
        }
    }

    /// Both sides fall silent; what is under way may still come, until [`Talks::end`].
    pub(crate) fn hush(&mut self, call: CallKey) {
        self.due.retain(|(_, other)| *other != call);
    }

    /// A conversation is over; what came of it.
    pub(crate) fn end(&mut self, call: CallKey) -> Option<Heard> {
        self.hush(call);
        if self.talks.get(&call.at).is_none_or(|talk| talk.call != call) {
            return None;
        }
        let mut talk = self.talks.remove(&call.at)?;
        let mut heard = Heard { alive: true, ..Heard::default() };
        for side in &mut talk.sides {
            // The last ones that never came are a run, too.
            let last = side.last.map_or(0, |(number, _)| number);
            let missing = talk.number.saturating_sub(last);
            heard.alive &= missing <= RATE as u32 / 2;
            if missing > side.missing {
                (side.missing, side.missing_to) = (missing, talk.number);
            }
            if side.missing > 0 {
                heard.gap_to = side.missing_to;
            }
            heard.sent += side.sent;
            heard.gap_ms = heard.gap_ms.max(f64::from(side.missing) * PACE.as_secs_f64() * 1e3);
            heard.silence_ms = heard.silence_ms.max(side.silence as f64 / 1e6);
        }
        // What one side sent the other one hears.
        let [caller, callee] = talk.sides;
        heard.lost = caller.sent.saturating_sub(callee.heard) + callee.sent.saturating_sub(caller.heard);
        Some(heard)
    }

    /// Sends what is due, and reads what came; how much there was.
    pub(crate) fn turn(&mut self) -> io::Result<usize> {
        let now = Instant::now();
        let mut busy = 0;
        while let Some(&(at, call)) = self.due.front().filter(|(at, _)| *at <= now) {
            self.due.pop_front();
            self.behind = self.behind.max(now - at);
            self.due.push_back((at + PACE, call));
            let Some(talk) = self.talks.get_mut(&call.at) else { continue };
            talk.number += 1;
            let mark = if talk.number > FIRST { self.mark } else { UNCOUNTED };
            for side in 0..2 {
                let mut packet = [0; PACKET];
                rtpload::write_packet(&mut packet, call.at * 2 + side as u32, talk.number.into(), mark);
                packet[24..28].copy_from_slice(&call.generation.to_be_bytes());
                packet[28..32].copy_from_slice(&talk.number.to_be_bytes());
                talk.sides[side].sent += u64::from(mark == self.mark);
                self.ready[side].push((packet, talk.to[side]));
            }
            busy += 2;
            if self.ready[0].len() == BURST {
                self.flush()?;
            }
        }
        self.flush()?;
        for side in 0..2 {
            busy += self.receive(side)?;
        }
        Ok(busy)
    }

    fn flush(&mut self) -> io::Result<()> {
        for (socket, ready) in self.sockets.iter().zip(&mut self.ready) {
            let mut done = 0;
            while done < ready.len() {
                let rest = ready[done..].iter().map(|(packet, to)| (&packet[..], *to));
                done += self.outbox.send(socket, rest)?;
            }
            ready.clear();
        }
        Ok(())
    }

    fn receive(&mut self, side: usize) -> io::Result<usize> {
        let Talks { inbox, sockets, talks, mark, .. } = self;
        let got = inbox.recv(&sockets[side])?;
        for datagram in inbox.iter() {
            let (bytes, now) =
                (datagram.bytes, || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
            let word = |from: usize| {
                bytes.get(from..from + 4).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes)
            };
            let (Some((its_mark, _)), Some(stream), Some(generation), Some(number)) =
                (rtpload::read_packet(bytes), word(8), word(24), word(28))
            else {
                continue;
            };
            let stream = stream.wrapping_sub(rtpload::FIRST_STREAM);
            let talk = talks.get_mut(&(stream / 2)).filter(|talk| talk.call.generation == generation);
            // Callers hear what callees sent.
            let Some(talk) = talk.filter(|_| stream as usize % 2 != side) else { continue };
            let heard = &mut talk.sides[side];
            heard.heard += u64::from(its_mark == *mark);
            let arrived = datagram.timestamp.unwrap_or_else(now).as_nanos() as u64;
            match heard.last {
                Some((last, _)) if number <= last => continue,
                Some((last, at)) if its_mark == *mark => {
                    if number - last - 1 > heard.missing {
                        (heard.missing, heard.missing_to) = (number - last - 1, number);
                    }
                    heard.silence = heard.silence.max(arrived.saturating_sub(at));
                }
                _ => {}
            }
            heard.last = Some((number, arrived));
        }
        Ok(got)
    }
}

fn place(side: Whose) -> usize {
    usize::from(side == Whose::Callee)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: CallKey = CallKey { at: 3, generation: 7 };

    fn talk_until(talks: &mut Talks, number: u32) {
        let begin = Instant::now();
        while talks.talks[&CALL.at].number < number {
            talks.turn().unwrap();
            assert!(begin.elapsed() < Duration::from_secs(60));
        }
    }

    fn settle(talks: &mut Talks) {
        talks.hush(CALL);
        let end = Instant::now() + Duration::from_millis(200);
        while Instant::now() < end {
            talks.turn().unwrap();
        }
    }

    #[test]
    fn what_does_not_arrive_is_lost_and_its_length_is_the_gap() {
        let mut talks = Talks::new().unwrap();
        let (caller, callee) = talks.ports().unwrap();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        // Face to face: each sends to the other.
        talks.begin(CALL, [at(callee), at(caller)]);
        talk_until(&mut talks, 20);
        talks.count_from_now();
        talk_until(&mut talks, 25);
        talks.aim(CALL, Whose::Caller, at(udp::free_port().unwrap()));
        talk_until(&mut talks, 30);
        talks.aim(CALL, Whose::Caller, at(callee));
        talk_until(&mut talks, 40);
        settle(&mut talks);
        let heard = talks.end(CALL).unwrap();
        assert_eq!((heard.sent, heard.lost, heard.gap_ms, heard.alive), (40, 5, 100.0, true), "{heard:?}");
        assert!(heard.silence_ms >= 100.0);
        assert!(talks.end(CALL).is_none());
    }

    #[test]
    fn a_side_that_hears_nothing_to_the_end_is_not_alive() {
        let mut talks = Talks::new().unwrap();
        let (caller, callee) = talks.ports().unwrap();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        talks.begin(CALL, [at(callee), at(caller)]);
        talk_until(&mut talks, 20);
        talks.aim(CALL, Whose::Callee, at(udp::free_port().unwrap()));
        talk_until(&mut talks, 60);
        settle(&mut talks);
        let heard = talks.end(CALL).unwrap();
        assert_eq!((heard.lost, heard.gap_ms, heard.alive), (40, 800.0, false), "{heard:?}");
    }
}
