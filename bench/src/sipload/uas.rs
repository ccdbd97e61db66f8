//! The callees: every INVITE is answered 180 and 200, every BYE 200. What the platform asks inside a dialog is answered alike on both
//! sides, so callers have one of these, too.
//!
//! The 200 is repeated until its ACK (RFC 3261 section 13.3.1.4), a repeated INVITE gets the last answer again.

use super::view::{View, address, after, uri};
use super::{CallKey, Desk, GIVE_UP, News, T1, T2, Timer, Whose, Work};
use crate::udp::Outbox;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Write as _;
use std::net::SocketAddr;

/// All telephones behind one port, as far as they are asked.
pub(super) struct Callees {
    whose: Whose,
    port: u16,
    work: Work,
    ring_ns: u64,
    /// The body of answers.
    sdp: String,
    legs: HashMap<u64, Leg>,
    /// Which leg a call has.
    keys: HashMap<CallKey, u64>,
    hash: BuildHasherDefault<DefaultHasher>,
}

struct Leg {
    /// The lines that every answer to the INVITE repeats; empty once the ACK came.
    head: Vec<u8>,
    user: Vec<u8>,
    /// Where the INVITE came from, and its number.
    from: SocketAddr,
    cseq: u64,
    answered: bool,
    stamp: u32,
    interval: u64,
    since: u64,
    talk: Option<Box<Talk>>,
}

/// What a telephone must know that hangs up itself.
struct Talk {
    call: CallKey,
    audio: Option<SocketAddr>,
    /// From, To, Call-ID and Route lines of a request of ours.
    lines: Vec<u8>,
    target: Vec<u8>,
    next: SocketAddr,
    /// It is out.
    bye: bool,
}

impl Callees {
    /// Telephones whose contact is `port`.
    pub(super) fn new(whose: Whose, port: u16, work: Work) -> Callees {
        Callees {
            whose,
            port,
            work,
            ring_ns: 0,
            sdp: String::new(),
            legs: HashMap::new(),
            keys: HashMap::new(),
            hash: BuildHasherDefault::default(),
        }
    }

    /// Takes over the ringing time of a plan; timers of an earlier one are gone.
    pub(super) fn begin(&mut self, work: Work) {
        self.work = work;
        if let Work::Call { ring, .. } = work {
            self.ring_ns = ring.as_nanos() as u64;
        }
        self.sdp = work.sdp(self.whose);
        self.legs.clear();
        self.keys.clear();
    }

    /// A request came.
    pub(super) fn message(&mut self, view: &View<'_>, from: SocketAddr, wire: &mut Outbox, desk: &mut Desk) {
        let key = self.hash.hash_one(view.call_id);
        let method = view.start.split(|&byte| byte == b' ').next().unwrap_or_default();
        match method {
            b"INVITE" => self.invite(key, view, from, wire, desk),
            b"ACK" => {
                if let Some(leg) = self.legs.get_mut(&key).filter(|leg| !leg.head.is_empty()) {
                    leg.stamp += 1;
                    leg.head = Vec::new();
                    if let Some(Talk { call, audio, .. }) = leg.talk.as_deref() {
                        desk.tell(News::Acknowledged { call: *call, from, to: *audio });
                    }
                }
            }
            b"UPDATE" => {
                wire.queue(from, |out| {
                    self.answer(out, &head(view, key), &user_of(view), 0);
                });
                self.moved(key, view, desk);
            }
            b"BYE" => {
                wire.queue(from, |out| plain(out, "200 OK", &head(view, key)));
                let leg = self.legs.remove(&key);
                let call = leg.and_then(|leg| leg.talk).map(|talk| talk.call).or_else(|| view.call());
                if let Some(call) = call {
                    self.keys.remove(&call);
                    desk.tell(News::HungUp { call, side: self.whose });
                }
            }
            b"CANCEL" => {
                wire.queue(from, |out| plain(out, "200 OK", &head(view, key)));
                if let Some(leg) = self.legs.get_mut(&key).filter(|leg| !leg.answered) {
                    leg.stamp += 1;
                    wire.queue(from, |out| plain(out, "487 Request Terminated", &leg.head));
                }
            }
            b"OPTIONS" => wire.queue(from, |out| plain(out, "200 OK", &head(view, key))),
            _ => wire.queue(from, |out| plain(out, "501 Not Implemented", &head(view, key))),
        }
    }

    /// An answer to a BYE of ours.
    pub(super) fn response(&mut self, view: &View<'_>, desk: &mut Desk) {
        let key = self.hash.hash_one(view.call_id);
        let is_out = self.legs.get(&key).and_then(|leg| leg.talk.as_ref()).is_some_and(|talk| talk.bye);
        if view.status() < 200 || !is_out {
            return;
        }
        let Some(talk) = self.legs.remove(&key).and_then(|leg| leg.talk) else { return };
        self.keys.remove(&talk.call);
        desk.tell(match view.status() {
            200..300 => News::Ended { call: talk.call },
            status => News::Failed { call: talk.call, cause: format!("BYE {status}") },
        });
    }

    /// The callee of a call hangs up; `false`: it has none.
    pub(super) fn hang_up(&mut self, call: CallKey, wire: &mut Outbox, desk: &mut Desk) -> bool {
        let Some(&key) = self.keys.get(&call) else { return false };
        let Some(leg) = self.legs.get_mut(&key) else { return false };
        let Some(talk) = leg.talk.as_mut() else { return false };
        talk.bye = true;
        leg.stamp += 1;
        leg.interval = T1;
        leg.since = desk.now;
        let timer = Timer { whose: self.whose, key, stamp: leg.stamp };
        wire.queue(talk.next, |out| talk.write_bye(out, self.port));
        desk.after(T1, timer);
        true
    }

    fn invite(&mut self, key: u64, view: &View<'_>, from: SocketAddr, wire: &mut Outbox, desk: &mut Desk) {
        let cseq = view.sequence().map_or(0, |(cseq, _)| cseq);
        if let Some(leg) = self.legs.get(&key).filter(|leg| leg.cseq == cseq) {
            if !leg.head.is_empty() {
                wire.queue(from, |out| self.write(leg, out));
            }
            return;
        }
        let again = view.in_dialog();
        let old = self.legs.remove(&key);
        let (stamp, mut talk) = old.map_or((0, None), |leg| (leg.stamp + 1, leg.talk));
        if talk.is_none() && !again && matches!(self.work, Work::Talk { .. }) {
            talk = Talk::of(view, key, from).map(Box::new);
            self.keys.extend(talk.as_ref().map(|talk| (talk.call, key)));
        }
        let leg = Leg {
            head: head(view, key),
            user: user_of(view),
            from,
            cseq,
            answered: again,
            stamp,
            interval: T1,
            since: desk.now,
            talk,
        };
        wire.queue(from, |out| self.write(&leg, out));
        self.legs.insert(key, leg);
        let timer = Timer { whose: self.whose, key, stamp };
        if again {
            self.moved(key, view, desk);
            desk.after(T1, timer);
        } else if self.ring_ns == 0 {
            self.timer(timer, wire, desk);
        } else {
            desk.after(self.ring_ns, timer);
        }
    }

    /// The other side has another description, and may be elsewhere itself.
    fn moved(&mut self, key: u64, view: &View<'_>, desk: &mut Desk) {
        let talk = self.legs.get_mut(&key).and_then(|leg| leg.talk.as_mut());
        let call = talk.as_ref().map(|talk| talk.call).or_else(|| view.call());
        if let Some(talk) = talk {
            let target = uri(view.contact);
            if !target.is_empty() {
                talk.target = target.to_vec();
                talk.next = address(target).unwrap_or(talk.next);
            }
        }
        if let Some((call, to)) = call.zip(view.audio()) {
            desk.tell(News::Moved { call, side: self.whose, to });
        }
    }

    /// A timer is due: time to answer, or to repeat the answer, or the BYE.
    pub(super) fn timer(&mut self, timer: Timer, wire: &mut Outbox, desk: &mut Desk) {
        let Some(leg) = self.legs.get_mut(&timer.key).filter(|leg| leg.stamp == timer.stamp) else { return };
        let closing = leg.talk.as_ref().is_some_and(|talk| talk.bye);
        if leg.answered {
            if desk.now - leg.since > GIVE_UP {
                let leg = self.legs.remove(&timer.key);
                if let Some(talk) = leg.and_then(|leg| leg.talk).filter(|_| closing) {
                    self.keys.remove(&talk.call);
                    desk.tell(News::Failed { call: talk.call, cause: "no answer to BYE".to_owned() });
                }
                return;
            }
            desk.report.repeats += 1;
        }
        leg.answered = true;
        desk.after(leg.interval, timer);
        leg.interval = (leg.interval * 2).min(T2);
        let leg = &self.legs[&timer.key];
        match leg.talk.as_ref().filter(|_| closing) {
            Some(talk) => wire.queue(talk.next, |out| talk.write_bye(out, self.port)),
            None => wire.queue(leg.from, |out| self.write(leg, out)),
        }
    }

    /// The answer of the moment.
    fn write(&self, leg: &Leg, out: &mut Vec<u8>) {
        if leg.answered {
            let at = leg.talk.as_ref().map_or(0, |talk| talk.call.at);
            return self.answer(out, &leg.head, &leg.user, at);
        }
        out.extend_from_slice(b"SIP/2.0 180 Ringing\r\n");
        out.extend_from_slice(&leg.head);
        self.contact(out, &leg.user);
        let _ = write!(out, "Content-Length: 0\r\n\r\n");
    }

    fn contact(&self, out: &mut Vec<u8>, user: &[u8]) {
        out.extend_from_slice(b"Contact: <sip:");
        out.extend_from_slice(user);
        let _ = write!(out, "@127.0.0.1:{}>\r\n", self.port);
    }

    /// 200 with our description.
    fn answer(&self, out: &mut Vec<u8>, head: &[u8], user: &[u8], at: u32) {
        out.extend_from_slice(b"SIP/2.0 200 OK\r\n");
        out.extend_from_slice(head);
        self.contact(out, user);
        let (allow, sdp) = (self.work.allow(at), &self.sdp);
        let length = sdp.len();
        let _ = write!(
            out,
            "Allow: {allow}\r\nContent-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{sdp}"
        );
    }
}

impl Talk {
    fn of(view: &View<'_>, key: u64, from: SocketAddr) -> Option<Talk> {
        let call = view.call()?;
        let mut lines = b"From:".to_vec();
        lines.extend_from_slice(after(view.to, b':'));
        let _ = write!(lines, ";tag=s{key:x}\r\nTo:");
        lines.extend_from_slice(after(view.from, b':'));
        lines.extend_from_slice(b"\r\n");
        lines.extend_from_slice(view.call_id);
        lines.extend_from_slice(b"\r\n");
        let mut first = None;
        for line in &view.record_routes {
            let value = after(line, b':').trim_ascii();
            first = first.or_else(|| address(uri(value)));
            lines.extend_from_slice(b"Route: ");
            lines.extend_from_slice(value);
            lines.extend_from_slice(b"\r\n");
        }
        let target = uri(view.contact).to_vec();
        let next = first.or_else(|| address(&target)).unwrap_or(from);
        Some(Talk { call, audio: view.audio(), lines, target, next, bye: false })
    }

    fn write_bye(&self, out: &mut Vec<u8>, port: u16) {
        out.extend_from_slice(b"BYE ");
        out.extend_from_slice(&self.target);
        let CallKey { at, generation } = self.call;
        let _ = write!(
            out,
            " SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};rport;branch=z9hG4bKs{at}.{generation}\r\nMax-Forwards: 70\r\n"
        );
        out.extend_from_slice(&self.lines);
        let _ = write!(out, "CSeq: 1 BYE\r\nUser-Agent: bench\r\nContent-Length: 0\r\n\r\n");
    }
}

/// The user part of the Request-URI.
fn user_of(view: &View<'_>) -> Vec<u8> {
    let target = view.start.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
    after(target, b':').split(|&byte| byte == b'@').next().unwrap_or_default().to_vec()
}

/// The lines that every response repeats (RFC 3261 section 8.2.6.2), with our tag in To.
fn head(view: &View<'_>, key: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(640);
    for line in view.vias.iter().chain(&view.record_routes).chain([&view.from, &view.call_id, &view.cseq]) {
        head.extend_from_slice(line);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(view.to);
    let _ = if view.in_dialog() { write!(head, "\r\n") } else { write!(head, ";tag=s{key:x}\r\n") };
    head
}

fn plain(out: &mut Vec<u8>, line: &str, head: &[u8]) {
    let _ = write!(out, "SIP/2.0 {line}\r\n");
    out.extend_from_slice(head);
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}
