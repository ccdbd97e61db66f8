//! The callees: every INVITE is answered 180 and 200, every BYE 200.
//!
//! The 200 is repeated until its ACK (RFC 3261 section 13.3.1.4), a repeated INVITE gets the last answer again.

use super::view::{View, after};
use super::{Desk, GIVE_UP, T1, T2, Timer, Whose, Work};
use crate::udp::Outbox;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Write as _;

/// All callees behind one port.
pub(super) struct Callees {
    port: u16,
    ring_ns: u64,
    /// The body of answers.
    sdp: &'static str,
    legs: HashMap<u64, Leg>,
    hash: BuildHasherDefault<DefaultHasher>,
}

struct Leg {
    /// The lines that every answer to the INVITE repeats; empty once the ACK came.
    head: Vec<u8>,
    user: Vec<u8>,
    answered: bool,
    stamp: u32,
    interval: u64,
    since: u64,
}

impl Callees {
    /// Callees whose contact is `port`.
    pub(super) fn new(port: u16) -> Callees {
        Callees { port, ring_ns: 0, sdp: "", legs: HashMap::new(), hash: BuildHasherDefault::default() }
    }

    /// Takes over the ringing time of a plan; timers of an earlier one are gone.
    pub(super) fn begin(&mut self, work: Work) {
        if let Work::Call { ring, .. } = work {
            self.ring_ns = ring.as_nanos() as u64;
            self.sdp = work.sdp();
        }
        self.legs.clear();
    }

    /// A datagram came.
    pub(super) fn message(&mut self, datagram: &[u8], wire: &mut Outbox, desk: &mut Desk) {
        let Some(view) = View::of(datagram) else { return };
        let key = self.hash.hash_one(view.call_id);
        let method = view.start.split(|&byte| byte == b' ').next().unwrap_or_default();
        match method {
            b"INVITE" => self.invite(key, &view, wire, desk),
            b"ACK" => {
                if let Some(leg) = self.legs.get_mut(&key) {
                    leg.stamp += 1;
                    leg.head = Vec::new();
                }
            }
            b"BYE" => {
                self.legs.remove(&key);
                wire.queue(|out| plain(out, "200 OK", &head(&view, key)));
            }
            b"CANCEL" => {
                wire.queue(|out| plain(out, "200 OK", &head(&view, key)));
                if let Some(leg) = self.legs.get_mut(&key).filter(|leg| !leg.answered) {
                    leg.stamp += 1;
                    wire.queue(|out| plain(out, "487 Request Terminated", &leg.head));
                }
            }
            b"OPTIONS" => wire.queue(|out| plain(out, "200 OK", &head(&view, key))),
            _ if view.status() == 0 => wire.queue(|out| plain(out, "501 Not Implemented", &head(&view, key))),
            _ => {}
        }
    }

    fn invite(&mut self, key: u64, view: &View<'_>, wire: &mut Outbox, desk: &mut Desk) {
        if let Some(leg) = self.legs.get(&key) {
            if !leg.head.is_empty() {
                wire.queue(|out| leg.write(out, self.port, self.sdp));
            }
            return;
        }
        let target = view.start.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
        let user = after(target, b':').split(|&byte| byte == b'@').next().unwrap_or_default().to_vec();
        let leg =
            Leg { head: head(view, key), user, answered: false, stamp: 0, interval: T1, since: desk.now };
        wire.queue(|out| leg.write(out, self.port, self.sdp));
        self.legs.insert(key, leg);
        let timer = Timer { whose: Whose::Callee, key, stamp: 0 };
        if self.ring_ns == 0 {
            self.timer(timer, wire, desk);
        } else {
            desk.after(self.ring_ns, timer);
        }
    }

    /// A timer is due: time to answer, or to repeat the answer.
    pub(super) fn timer(&mut self, timer: Timer, wire: &mut Outbox, desk: &mut Desk) {
        let Some(leg) = self.legs.get_mut(&timer.key).filter(|leg| leg.stamp == timer.stamp) else { return };
        if leg.answered {
            if desk.now - leg.since > GIVE_UP {
                self.legs.remove(&timer.key);
                return;
            }
            desk.report.repeats += 1;
        }
        leg.answered = true;
        wire.queue(|out| leg.write(out, self.port, self.sdp));
        desk.after(leg.interval, timer);
        leg.interval = (leg.interval * 2).min(T2);
    }
}

impl Leg {
    /// The answer of the moment.
    fn write(&self, out: &mut Vec<u8>, port: u16, sdp: &str) {
        let line = if self.answered { "200 OK" } else { "180 Ringing" };
        out.extend_from_slice(b"SIP/2.0 ");
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"Contact: <sip:");
        out.extend_from_slice(&self.user);
        let _ = write!(out, "@127.0.0.1:{port}>\r\n");
        if !self.answered {
            out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
            return;
        }
        let _ = write!(
            out,
            "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
    }
}

/// The lines that every response repeats (RFC 3261 section 8.2.6.2), with our tag in To.
fn head(view: &View<'_>, key: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(640);
    for line in view.vias.iter().chain(&view.record_routes).chain([&view.from, &view.call_id, &view.cseq]) {
        head.extend_from_slice(line);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(view.to);
    let tagged = memchr::memmem::find(after(view.to, b'>'), b";tag=").is_some();
    let _ = if tagged { write!(head, "\r\n") } else { write!(head, ";tag=s{key:x}\r\n") };
    head
}

fn plain(out: &mut Vec<u8>, line: &str, head: &[u8]) {
    let _ = write!(out, "SIP/2.0 {line}\r\n");
    out.extend_from_slice(head);
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}
