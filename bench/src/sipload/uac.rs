//! The callers and registrants: requests, their repeats, what their answers mean.

use super::view::{View, address, after, uri};
use super::{CallKey, Cast, Desk, GIVE_UP, News, T1, T2, Timer, Whose, Work};
use crate::digest::{Algorithm, Challenge};
use crate::udp::Outbox;
use std::io::Write as _;
use std::net::SocketAddr;

/// What both ends offer and answer: G.711 at a port where nobody listens (audio has a benchmark of its own).
pub(super) const SDP: &str = "v=0\r\no=- 3990000000 3990000000 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 9000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
    a=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n";

/// A telephone that has another server to go to waits this long for the first sign of one (RFC 3263 section 4.3; timer F would
/// be 32 seconds, which no telephone waits).
const ELSEWHERE: u64 = 4 * T1;

/// All callers behind one port.
pub(super) struct Callers {
    pub(super) cast: Cast,
    caller_port: u16,
    callee_port: u16,
    work: Work,
    sdp: String,
    calls: Vec<Call>,
    free: Vec<u32>,
    begun: u32,
}

/// One attempt; its place in the table and its generation are its Call-ID.
#[derive(Default)]
struct Call {
    generation: u32,
    phase: Phase,
    user: u32,
    /// Where requests go that are in no dialog.
    server: Option<SocketAddr>,
    /// The other servers were tried already.
    elsewhere: bool,
    /// 1 without credentials, 2 with them, 3 for BYE.
    cseq: u32,
    stamp: u32,
    interval: u64,
    began: u64,
    requested: u64,
    credentials: Option<Box<str>>,
    dialog: Option<Box<Dialog>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Free,
    /// REGISTER or INVITE is out, no answer yet.
    Asking,
    /// A provisional answer to INVITE came.
    Proceeding,
    /// Answered; BYE at the end of the hold time.
    Established,
    /// BYE is out.
    Closing,
}

/// What a 200 fixed for ACK and BYE (RFC 3261 section 12.1.2).
struct Dialog {
    target: Vec<u8>,
    routes: Vec<u8>,
    to: Vec<u8>,
    /// Where requests go.
    next: SocketAddr,
}

impl Callers {
    /// Callers on one port who register the other one, from that other one.
    pub(super) fn new(cast: Cast, caller_port: u16, callee_port: u16) -> Callers {
        let work = Work::Register { algorithm: Algorithm::Md5 };
        let (calls, free) = (Vec::new(), Vec::new());
        Callers { cast, caller_port, callee_port, work, sdp: String::new(), calls, free, begun: 0 }
    }

    /// How many users there are.
    pub(super) fn users(&self) -> u32 {
        self.cast.users
    }

    /// Attempts under way.
    pub(super) fn open(&self) -> usize {
        self.calls.len() - self.free.len()
    }

    /// Starts on other work.
    pub(super) fn begin(&mut self, work: Work) {
        self.work = work;
        self.sdp = work.sdp(Whose::Caller);
    }

    /// Counts what has not ended as failed, and forgets it. Calls that are to be held are no failures.
    pub(super) fn abandon(&mut self, desk: &mut Desk) {
        for at in 0..self.calls.len() as u32 {
            let phase = self.calls[at as usize].phase;
            if phase == Phase::Free {
                continue;
            }
            if phase != Phase::Established {
                desk.fail(format!("unfinished while {phase:?}"));
            }
            self.forget(at);
        }
    }

    /// Begins the next attempt.
    pub(super) fn attempt(&mut self, wire: &mut Outbox, desk: &mut Desk) {
        let at = self.free.pop().unwrap_or_else(|| {
            self.calls.push(Call::default());
            self.calls.len() as u32 - 1
        });
        let user = self.begun % self.cast.users + 1;
        self.begun = self.begun.wrapping_add(1);
        let server = Some(self.cast.home(user));
        self.start(at, Call { user, server, began: desk.now, ..Call::default() }, wire, desk);
    }

    fn start(&mut self, at: u32, call: Call, wire: &mut Outbox, desk: &mut Desk) {
        let Call { generation, stamp, .. } = self.calls[at as usize];
        self.calls[at as usize] = Call { generation, stamp, phase: Phase::Asking, cseq: 1, ..call };
        desk.tell(News::Begun { call: CallKey { at, generation } });
        self.ask(at, wire, desk);
    }

    /// Begins a call anew at another server, as telephones do that know several; `false`: there is none, or it was tried.
    fn elsewhere(&mut self, at: u32, wire: &mut Outbox, desk: &mut Desk) -> bool {
        let Call { user, server, elsewhere, began, phase, .. } = self.calls[at as usize];
        let other = self.cast.servers.iter().find(|other| Some(**other) != server).copied();
        let may = matches!(self.work, Work::Talk { .. }) && phase != Phase::Established && !elsewhere;
        let Some(other) = other.filter(|_| may) else { return false };
        // Under another name, so that the answers to both cannot be confused.
        let generation = self.calls[at as usize].generation;
        desk.tell(News::Elsewhere { call: CallKey { at, generation } });
        self.forget(at);
        self.free.retain(|free| *free != at);
        desk.report.elsewhere += 1;
        let call = Call { user, server: Some(other), elsewhere: true, began, ..Call::default() };
        self.start(at, call, wire, desk);
        true
    }

    /// The caller hangs up; `false`: there is no such conversation.
    pub(super) fn hang_up(&mut self, call: CallKey, wire: &mut Outbox, desk: &mut Desk) -> bool {
        let at = call.at;
        let talks = self.find(call).is_some_and(|call| call.phase == Phase::Established);
        if talks {
            self.close(at, wire, desk);
        }
        talks
    }

    fn close(&mut self, at: u32, wire: &mut Outbox, desk: &mut Desk) {
        let call = &mut self.calls[at as usize];
        call.phase = Phase::Closing;
        call.cseq = 3;
        self.ask(at, wire, desk);
    }

    /// The other side hung up: there is nothing left to do for this call.
    pub(super) fn hung_up(&mut self, call: CallKey, desk: &mut Desk) {
        if self.find(call).is_some_and(|call| call.phase == Phase::Established) {
            if !matches!(self.work, Work::Talk { .. }) {
                desk.fail("BYE by the server".to_owned());
            }
            self.forget(call.at);
        }
    }

    /// The other side says where it is to be found from now on (RFC 3261 section 12.2.2).
    pub(super) fn refresh(&mut self, view: &View<'_>) {
        let Some(at) = self.place(view) else { return };
        let target = uri(view.contact);
        if let (Some(dialog), false) = (&mut self.calls[at as usize].dialog, target.is_empty()) {
            dialog.retarget(target);
        }
    }

    fn find(&self, key: CallKey) -> Option<&Call> {
        let call = self.calls.get(key.at as usize)?;
        (call.phase != Phase::Free && call.generation == key.generation).then_some(call)
    }

    /// Sends the request of the phase for the first time.
    fn ask(&mut self, at: u32, wire: &mut Outbox, desk: &mut Desk) {
        let call = &mut self.calls[at as usize];
        call.interval = T1;
        call.requested = desk.now;
        let to = self.next(at);
        wire.queue(to, |out| self.request(at, out));
        self.set_timer(at, T1, desk);
    }

    fn set_timer(&mut self, at: u32, nanoseconds: u64, desk: &mut Desk) {
        let call = &mut self.calls[at as usize];
        call.stamp = call.stamp.wrapping_add(1);
        desk.after(nanoseconds, Timer { whose: Whose::Caller, key: u64::from(at), stamp: call.stamp });
    }

    /// A timer is due: repeat, give up, or hang up.
    pub(super) fn timer(&mut self, timer: Timer, wire: &mut Outbox, desk: &mut Desk) {
        let at = timer.key as u32;
        let call = &mut self.calls[at as usize];
        if call.stamp != timer.stamp {
            return;
        }
        match call.phase {
            Phase::Free => {}
            Phase::Established => self.close(at, wire, desk),
            Phase::Asking | Phase::Proceeding | Phase::Closing if desk.now - call.requested >= GIVE_UP => {
                self.fail(at, "no final answer", desk);
            }
            Phase::Proceeding => self.fail(at, "no final answer", desk),
            Phase::Asking | Phase::Closing => {
                let is_silent = call.phase == Phase::Asking && desk.now - call.requested >= ELSEWHERE;
                if is_silent && self.elsewhere(at, wire, desk) {
                    return;
                }
                let call = &mut self.calls[at as usize];
                let invite = call.phase == Phase::Asking && !matches!(self.work, Work::Register { .. });
                call.interval = if invite { call.interval * 2 } else { (call.interval * 2).min(T2) };
                let interval = call.interval;
                desk.report.repeats += 1;
                let to = self.next(at);
                wire.queue(to, |out| self.request(at, out));
                self.set_timer(at, interval, desk);
            }
        }
    }

    /// An answer came.
    pub(super) fn message(&mut self, view: &View<'_>, from: SocketAddr, wire: &mut Outbox, desk: &mut Desk) {
        let status = view.status();
        let Some((cseq, method)) = view.sequence() else { return };
        let place = self
            .place(view)
            .filter(|&at| u64::from(self.calls[at as usize].cseq) == cseq || method == b"INVITE");
        let Some(at) = place else {
            if method == b"INVITE" && status >= 300 {
                wire.queue(from, |out| self.acknowledge_failure(view, out));
            }
            return;
        };
        match method {
            b"INVITE" => self.invite_answered(at, (status, cseq), view, from, wire, desk),
            b"REGISTER" => match status {
                100..200 => {}
                200..300 => self.complete(at, desk),
                401 if cseq == 1 => self.authorize(at, view, wire, desk),
                401 => self.fail(at, "REGISTER 401 to credentials", desk),
                _ => self.fail(at, &format!("REGISTER {status}"), desk),
            },
            b"BYE" if status >= 200 => {
                if status < 300 {
                    let lasted = desk.now - self.calls[at as usize].requested;
                    if desk.measuring {
                        desk.report.closing.push(lasted);
                    }
                    self.complete(at, desk);
                } else {
                    self.fail(at, &format!("BYE {status}"), desk);
                }
            }
            _ => {}
        }
    }

    fn invite_answered(
        &mut self,
        at: u32,
        (status, cseq): (u16, u64),
        view: &View<'_>,
        from: SocketAddr,
        wire: &mut Outbox,
        desk: &mut Desk,
    ) {
        if status >= 300 {
            wire.queue(from, |out| self.acknowledge_failure(view, out));
        }
        let call = &mut self.calls[at as usize];
        let pending = matches!(call.phase, Phase::Asking | Phase::Proceeding) && u64::from(call.cseq) == cseq;
        match status {
            100..200 if pending && call.phase == Phase::Asking => {
                call.phase = Phase::Proceeding;
                self.set_timer(at, GIVE_UP, desk);
            }
            100..200 => {}
            200..300 if pending => {
                let lasted = desk.now - call.began;
                if desk.measuring {
                    desk.report.setup.push(lasted);
                }
                call.phase = Phase::Established;
                let dialog = Dialog::from_answer(view, from);
                let to = dialog.next;
                call.dialog = Some(Box::new(dialog));
                let key = CallKey { at, generation: call.generation };
                wire.queue(to, |out| self.in_dialog(at, "ACK", cseq as u32, out));
                desk.tell(News::Answered { call: key, from, to: view.audio() });
                match self.work {
                    Work::Call { hold, .. } => self.set_timer(at, hold.as_nanos() as u64, desk),
                    // Until somebody hangs up.
                    _ => self.calls[at as usize].stamp += 1,
                }
            }
            // Repeated because our ACK was lost; a call without a dialog writes nothing.
            200..300 if call.dialog.is_some() => {
                let to = self.next(at);
                wire.queue(to, |out| self.in_dialog(at, "ACK", cseq as u32, out));
            }
            401 | 407 if pending && cseq == 1 => self.authorize(at, view, wire, desk),
            503 if pending && self.elsewhere(at, wire, desk) => {}
            _ if pending => self.fail(at, &format!("INVITE {status}"), desk),
            _ => {}
        }
    }

    /// Asks again with credentials.
    fn authorize(&mut self, at: u32, view: &View<'_>, wire: &mut Outbox, desk: &mut Desk) {
        let wanted = match self.work {
            Work::Register { algorithm } => algorithm,
            Work::Call { .. } | Work::Talk { .. } => Algorithm::Md5,
        };
        let mut offered =
            view.challenges.iter().filter_map(|value| Challenge::parse(std::str::from_utf8(value).ok()?));
        let Some(challenge) = offered.find(|challenge| challenge.algorithm() == wanted) else {
            return self.fail(at, "no usable challenge", desk);
        };
        let (method, target) = (self.method(), self.request_uri(at));
        let call = &mut self.calls[at as usize];
        let name = if view.status() == 407 { "Proxy-Authorization" } else { "Authorization" };
        let answer = challenge.answer(&format!("u{}", call.user), &self.cast.secret, method, &target);
        call.credentials = Some(format!("{name}: {answer}\r\n").into());
        call.phase = Phase::Asking;
        call.cseq = 2;
        self.ask(at, wire, desk);
    }

    fn complete(&mut self, at: u32, desk: &mut Desk) {
        if desk.measuring {
            desk.report.completed += 1;
            if matches!(self.work, Work::Register { .. }) {
                desk.report.setup.push(desk.now - self.calls[at as usize].began);
            }
        }
        let generation = self.calls[at as usize].generation;
        desk.tell(News::Ended { call: CallKey { at, generation } });
        self.forget(at);
    }

    fn fail(&mut self, at: u32, cause: &str, desk: &mut Desk) {
        let Call { phase, generation, .. } = self.calls[at as usize];
        let cause =
            if cause.starts_with("no ") { format!("{cause} while {phase:?}") } else { cause.to_owned() };
        desk.tell(News::Failed { call: CallKey { at, generation }, cause: cause.clone() });
        desk.fail(cause);
        self.forget(at);
    }

    fn forget(&mut self, at: u32) {
        let Call { generation, stamp, .. } = self.calls[at as usize];
        let (generation, stamp) = (generation.wrapping_add(1), stamp.wrapping_add(1));
        self.calls[at as usize] = Call { generation, stamp, ..Call::default() };
        self.free.push(at);
    }

    /// The attempt that a Call-ID line names, unless it is over.
    fn place(&self, view: &View<'_>) -> Option<u32> {
        let key = view.call().filter(|_| view.marker.is_empty())?;
        self.find(key).map(|_| key.at)
    }

    /// Whether the Call-ID is one of ours.
    pub(super) fn names(view: &View<'_>) -> bool {
        view.marker.is_empty() && view.call().is_some()
    }

    /// Where the request of the phase goes.
    fn next(&self, at: u32) -> SocketAddr {
        let call = &self.calls[at as usize];
        let dialog = call.dialog.as_ref().map(|dialog| dialog.next);
        dialog.or(call.server).unwrap_or_else(|| self.cast.home(call.user))
    }

    /// Where requests come from: a phone registers the address that it sends from, or it would look as behind a NAT.
    fn port(&self) -> u16 {
        match self.work {
            Work::Register { .. } => self.callee_port,
            Work::Call { .. } | Work::Talk { .. } => self.caller_port,
        }
    }

    fn method(&self) -> &'static str {
        match self.work {
            Work::Register { .. } => "REGISTER",
            Work::Call { .. } | Work::Talk { .. } => "INVITE",
        }
    }

    fn request_uri(&self, at: u32) -> String {
        let Cast { domain, users, first_extension, .. } = &self.cast;
        match self.work {
            Work::Register { .. } => format!("sip:{domain}"),
            Work::Call { .. } | Work::Talk { .. } => {
                format!("sip:{}@{domain}", first_extension + self.calls[at as usize].user % users + 1)
            }
        }
    }

    /// Writes the request of the phase.
    fn request(&self, at: u32, out: &mut Vec<u8>) {
        let call = &self.calls[at as usize];
        if call.phase == Phase::Closing {
            return self.in_dialog(at, "BYE", call.cseq, out);
        }
        let (method, target, port) = (self.method(), self.request_uri(at), self.port());
        let Cast { domain, .. } = &self.cast;
        let Call { generation, user, cseq, .. } = call;
        let credentials = call.credentials.as_deref().unwrap_or_default();
        let (to, rest) = match self.work {
            Work::Register { .. } => {
                (format!("sip:u{user}@{domain}"), "Expires: 3600\r\nContent-Length: 0\r\n\r\n".to_owned())
            }
            Work::Call { .. } | Work::Talk { .. } => {
                let (sdp, length) = (&self.sdp, self.sdp.len());
                let marker = match self.work {
                    Work::Talk { .. } => format!("X-Bench: {at}.{}\r\n", call.generation),
                    _ => String::new(),
                };
                let body =
                    format!("{marker}Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{sdp}");
                (target.clone(), body)
            }
        };
        let _ = write!(
            out,
            "{method} {target} SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.1:{port};rport;branch=z9hG4bKc{at}.{generation}.{cseq}\r\n\
             Max-Forwards: 70\r\n\
             From: \"User {user}\" <sip:u{user}@{domain}>;tag=f{at}.{generation}\r\n\
             To: <{to}>\r\n\
             Call-ID: c{at}.{generation}@127.0.0.1\r\n\
             CSeq: {cseq} {method}\r\n\
             Contact: <sip:u{user}@127.0.0.1:{port}>\r\n\
             Allow: {}\r\n\
             User-Agent: bench\r\n\
             {credentials}{rest}",
            self.work.allow(at)
        );
    }

    /// Writes ACK of a 2xx or BYE: target, route set and To of the dialog, a branch of its own.
    fn in_dialog(&self, at: u32, method: &str, cseq: u32, out: &mut Vec<u8>) {
        let call = &self.calls[at as usize];
        let Some(dialog) = &call.dialog else { return };
        let Callers { caller_port: port, cast: Cast { domain, .. }, .. } = self;
        let Call { generation, user, .. } = call;
        let _ = write!(out, "{method} ");
        out.extend_from_slice(&dialog.target);
        let _ = write!(
            out,
            " SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};rport;branch=z9hG4bKc{at}.{generation}.{method}\r\nMax-Forwards: 70\r\n\
             From: \"User {user}\" <sip:u{user}@{domain}>;tag=f{at}.{generation}\r\n"
        );
        out.extend_from_slice(&dialog.to);
        let _ = write!(out, "\r\nCall-ID: c{at}.{generation}@127.0.0.1\r\nCSeq: {cseq} {method}\r\n");
        out.extend_from_slice(&dialog.routes);
        let _ = write!(out, "User-Agent: bench\r\nContent-Length: 0\r\n\r\n");
    }

    /// ACK of a failure (RFC 3261 section 17.1.1.3) from the response alone: its only Via is ours, its To holds the
    /// Request-URI that we sent.
    fn acknowledge_failure(&self, view: &View<'_>, out: &mut Vec<u8>) {
        let (Some((cseq, _)), Some(via)) = (view.sequence(), view.vias.first()) else { return };
        out.extend_from_slice(b"ACK ");
        out.extend_from_slice(view.to_uri());
        out.extend_from_slice(b" SIP/2.0\r\n");
        for line in [via, view.from, view.to, view.call_id] {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
        let _ = write!(out, "CSeq: {cseq} ACK\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n");
    }

    /// Writes an OPTIONS to the server itself.
    pub(super) fn options(&self, server: SocketAddr, out: &mut Vec<u8>) {
        let Callers { caller_port: port, begun, .. } = self;
        let _ = write!(
            out,
            "OPTIONS sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};rport;branch=z9hG4bKo{begun}\r\nMax-Forwards: 0\r\n\
             From: <sip:bench@127.0.0.1>;tag=o\r\nTo: <sip:{server}>\r\nCall-ID: o{begun}@127.0.0.1\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        );
    }
}

impl Dialog {
    fn from_answer(view: &View<'_>, from: SocketAddr) -> Dialog {
        let (mut routes, mut first) = (Vec::new(), None);
        for line in view.record_routes.iter().rev() {
            // One value a line reversed by line; several values in a line reversed by value (they hold no commas here).
            for value in after(line, b':').split(|&byte| byte == b',').rev() {
                first = first.or_else(|| address(uri(value)));
                routes.extend_from_slice(b"Route: ");
                routes.extend_from_slice(value.trim_ascii());
                routes.extend_from_slice(b"\r\n");
            }
        }
        let target = uri(view.contact).to_vec();
        let next = first.or_else(|| address(&target)).unwrap_or(from);
        Dialog { target, routes, to: view.to.to_vec(), next }
    }

    fn retarget(&mut self, target: &[u8]) {
        self.target = target.to_vec();
        if let Some(next) = address(target).filter(|_| self.routes.is_empty()) {
            self.next = next;
        }
    }
}
