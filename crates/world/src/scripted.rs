//! A peer that does what a ladder says and nothing by itself: it writes each message and looks at what comes.
//!
//! In: words of a ladder (`INVITE`, `183:sdp,rel`, `200/BYE`). Out: datagrams; what came, compared with what was expected.
//! Flags of both: `sdp`, `nosdp`, `hold`, `rel`, `nomedia` (no `m=` line), `codec=N`; of what is sent: `expires=TEXT`, `dtmf`; of
//! what comes: `has=TEXT`, `from=HOST` (whose description it is).
//! Elsewhere: phones that behave by themselves (`endpoint`).

use bytes::Bytes;
use cluster::ids::LegId;
use proxy::net::sim::SimPort;
use sip::msg::{HeaderId, Message};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;

const DOMAIN: &str = "users.democlient.com";
/// Longer than any retransmission pause, shorter than a call's time to ring.
const PATIENCE: Duration = Duration::from_secs(6);

/// One peer.
pub(crate) struct Scripted {
    name: String,
    port: SimPort,
    node: SocketAddr,
    talk: Option<Talk>,
    unanswered: Vec<Message>,
    arrived: VecDeque<Message>,
    branches: u32,
    sdp_version: u32,
}

/// The dialog, as far as a script needs it.
struct Talk {
    call_id: String,
    local: String,
    remote: String,
    target: String,
    cseq: u32,
    /// Branch, Request-URI and CSeq of our last INVITE, and the To of its final answer.
    invite: Option<(String, String, u32)>,
    final_status: u16,
    final_to: String,
    rack: Option<String>,
}

/// A word of a ladder: what, to which method it is an answer, and flags.
struct Word<'a> {
    what: &'a str,
    method: Option<&'a str>,
    flags: Vec<&'a str>,
}

impl<'a> Word<'a> {
    fn parse(text: &'a str) -> Self {
        let (head, flags) = text.split_once(':').unwrap_or((text, ""));
        let (what, method) = head.split_once('/').map_or((head, None), |(what, method)| (what, Some(method)));
        Self { what, method, flags: flags.split(',').filter(|flag| !flag.is_empty()).collect() }
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// The value of a flag such as `codec=9`.
    fn flag(&self, name: &str) -> Option<&'a str> {
        self.flags.iter().find_map(|flag| flag.strip_prefix(name)?.strip_prefix('='))
    }

    fn status(&self) -> Option<u16> {
        self.what.parse().ok()
    }
}

impl Scripted {
    pub(crate) fn new(name: &str, port: SimPort, node: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            port,
            node,
            talk: None,
            unanswered: Vec::new(),
            arrived: VecDeque::new(),
            branches: 0,
            sdp_version: 0,
        }
    }

    /// Sends what a word says.
    pub(crate) fn send(&mut self, word: &str) {
        let word = Word::parse(word);
        let text = match word.status() {
            Some(status) => self.response(status, &word),
            None => self.request(&word),
        };
        self.port.send_to(Bytes::from(text), self.node);
    }

    /// Takes exactly these messages, in any order; provisional 100s do not count.
    pub(crate) async fn expect(&mut self, words: &[&str], line: &str) {
        let mut wanted: Vec<Word<'_>> = words.iter().map(|word| Word::parse(word)).collect();
        while !wanted.is_empty() {
            let missing: Vec<&str> = wanted.iter().map(|word| word.what).collect();
            let Ok(message) = timeout(PATIENCE, self.next()).await else {
                panic!("{} waited in vain for {missing:?} in: {line}", self.name);
            };
            let fits = wanted.iter().position(|word| fits(word, &message));
            let Some(at) = fits else {
                panic!("{} got {:?} instead of {missing:?} in: {line}", self.name, first_line(&message));
            };
            wanted.swap_remove(at);
            self.learn(message);
        }
    }

    /// The leg that this peer talks to: the user part of the node's Contact.
    pub(crate) fn leg(&self) -> LegId {
        let target = &self.talk.as_ref().expect("a dialog").target;
        let user = target.strip_prefix("sip:").and_then(|rest| rest.split('@').next());
        user.and_then(|user| user.parse().ok()).expect("a Contact of the node")
    }

    /// What came that nobody expected.
    pub(crate) async fn unexpected(&mut self) -> Option<String> {
        let message = timeout(Duration::from_millis(1), self.next()).await.ok()?;
        Some(format!("{} got {}", self.name, first_line(&message)))
    }

    async fn next(&mut self) -> Message {
        loop {
            if let Some(message) = self.arrived.pop_front() {
                return message;
            }
            let (bytes, _) = self.port.recv().await;
            let message = Message::parse(bytes).expect("the node writes SIP");
            message.validate().expect("the node writes valid SIP");
            if message.is_request() || message.status() != 100 {
                self.arrived.push_back(message);
            }
        }
    }

    fn learn(&mut self, message: Message) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let header = |id| message.header(id).map(text).unwrap_or_default();
        let contact = message.contact().ok().flatten().map(|contact| text(contact.uri_raw));
        if message.is_request() {
            let talk = self.talk.get_or_insert_with(|| Talk {
                call_id: header(HeaderId::CallId),
                local: format!("{};tag={}-tag", header(HeaderId::To), self.name),
                remote: header(HeaderId::From),
                target: String::new(),
                cseq: 100,
                invite: None,
                final_status: 0,
                final_to: String::new(),
                rack: None,
            });
            if let Some(contact) = contact {
                talk.target = contact;
            }
            if message.method().as_bytes() != b"ACK" {
                self.unanswered.push(message);
            }
            return;
        }
        let Some(talk) = &mut self.talk else { return };
        let of_invite = message.method().as_bytes() == b"INVITE";
        if of_invite && message.to_tag().is_some() && message.status() < 300 {
            talk.remote = header(HeaderId::To);
            if let Some(contact) = contact {
                talk.target = contact;
            }
        }
        if let Some(rseq) = message.header(HeaderId::RSeq) {
            talk.rack = Some(format!("{} {}", text(rseq), header(HeaderId::CSeq)));
        }
        if of_invite && message.status() >= 200 {
            talk.final_status = message.status();
            talk.final_to = header(HeaderId::To);
        }
    }

    fn request(&mut self, word: &Word<'_>) -> String {
        let (name, address) = (self.name.clone(), self.port.local_addr());
        let reinvite = word.what == "re-INVITE";
        let method = if reinvite { "INVITE" } else { word.what };
        let fresh = self.fresh_branch();
        let sdp = self.sdp_for(method, word);
        let first = method == "INVITE" && !reinvite;
        if first {
            let local = format!("\"Forged\" <sip:{name}@{DOMAIN}>;tag={name}-tag-{fresh}");
            let remote = format!("<sip:{}@{DOMAIN}>", word.method.unwrap_or("102"));
            let target = format!("sip:{}@{DOMAIN}", word.method.unwrap_or("102"));
            self.talk = Some(Talk {
                call_id: format!("{name}-{fresh}"),
                local,
                remote,
                target,
                cseq: 0,
                invite: None,
                final_status: 0,
                final_to: String::new(),
                rack: None,
            });
        }
        let talk = self.talk.as_mut().expect("a dialog");
        let (branch, uri, number, to) = match (method, &talk.invite) {
            ("CANCEL", Some((branch, uri, number))) => {
                let to = talk.remote.split(";tag=").next().unwrap_or_default().to_owned();
                (branch.clone(), uri.clone(), *number, to)
            }
            ("ACK", Some((branch, uri, number))) if talk.final_status >= 300 => {
                (branch.clone(), uri.clone(), *number, talk.final_to.clone())
            }
            ("ACK", Some((_, _, number))) => (fresh, talk.target.clone(), *number, talk.remote.clone()),
            _ => {
                talk.cseq += 1;
                (fresh, talk.target.clone(), talk.cseq, talk.remote.clone())
            }
        };
        if method == "INVITE" {
            talk.invite = Some((branch.clone(), uri.clone(), number));
        }
        let mut text = format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {address};rport;branch={branch}\r\n\
             Max-Forwards: 70\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\n",
            talk.local, talk.call_id
        );
        if matches!(method, "INVITE" | "UPDATE") {
            text += &format!("Contact: <sip:{name}@{address}>\r\n");
            text += "Allow: INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, INFO\r\n";
            text += if word.has("rel") { "Supported: 100rel\r\n" } else { "" };
            text += &timer_lines(word);
        }
        if method == "PRACK" {
            text += &format!("RAck: {}\r\n", talk.rack.take().expect("a reliable response"));
        }
        if word.has("dtmf") {
            // What telephones send that do not know RFC 4733.
            let body = "Signal=5\r\nDuration=160\r\n";
            text += &format!(
                "Content-Type: application/dtmf-relay\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            return text;
        }
        finish(text, sdp.as_deref())
    }

    fn response(&mut self, status: u16, word: &Word<'_>) -> String {
        let fitting =
            |message: &Message| word.method.is_none_or(|m| message.method().as_bytes() == m.as_bytes());
        let at = self.unanswered.iter().rposition(fitting).expect("a request to answer");
        let request = if status >= 200 { self.unanswered.remove(at) } else { self.unanswered[at].clone() };
        let method = String::from_utf8_lossy(request.method().as_bytes()).into_owned();
        let sdp = if method == "INVITE" && status / 100 == 2 || method == "UPDATE" && status == 200 {
            self.sdp_for("INVITE", word)
        } else {
            self.sdp_for("", word)
        };
        let mut text = format!("SIP/2.0 {status} {}\r\n", sip::draft::reason_phrase(status));
        for id in [HeaderId::Via, HeaderId::From, HeaderId::To, HeaderId::CallId, HeaderId::CSeq] {
            for value in request.lines(id) {
                text += &format!("{}: {}", id.name(), String::from_utf8_lossy(value));
                if id == HeaderId::To && request.to_tag().is_none() {
                    text += &format!(";tag={}-tag", self.name);
                }
                text += "\r\n";
            }
        }
        if method == "INVITE" {
            text += &format!("Contact: <sip:{}@{}>\r\n", self.name, self.port.local_addr());
            text += "Allow: INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, INFO\r\n";
        }
        if word.has("rel") {
            text += "Require: 100rel\r\nRSeq: 1\r\n";
        }
        text += &timer_lines(word);
        finish(text, sdp.as_deref())
    }

    /// A session description where the flags ask for one, or where the message usually has one.
    fn sdp_for(&mut self, method: &str, word: &Word<'_>) -> Option<String> {
        let usual = method == "INVITE";
        let wanted = ["sdp", "hold", "nomedia", "codec"]
            .iter()
            .any(|flag| word.has(flag) || word.flag(flag).is_some());
        if word.has("nosdp") || !(usual || wanted) {
            return None;
        }
        self.sdp_version += 1;
        let (address, version) = (self.port.local_addr().ip(), self.sdp_version);
        let direction = if word.has("hold") { "a=sendonly\r\n" } else { "" };
        let formats = word.flag("codec").unwrap_or("8");
        let media = if word.has("nomedia") {
            String::new()
        } else {
            format!("m=audio 4000 RTP/AVP {formats} 101\r\na=rtpmap:101 telephone-event/8000\r\n{direction}")
        };
        Some(format!(
            "v=0\r\no=- 1 {version} IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n{media}"
        ))
    }

    fn fresh_branch(&mut self) -> String {
        self.branches += 1;
        format!("z9hG4bK-{}-{}", self.name, self.branches)
    }
}

/// `expires=90;refresher=uac`: a session timer (RFC 4028).
fn timer_lines(word: &Word<'_>) -> String {
    word.flag("expires").map_or_else(String::new, |wish| {
        format!("Supported: timer\r\nMin-SE: 90\r\nSession-Expires: {wish}\r\n")
    })
}

fn finish(mut text: String, sdp: Option<&str>) -> String {
    if sdp.is_some() {
        text += "Content-Type: application/sdp\r\n";
    }
    let body = sdp.unwrap_or_default();
    text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    text
}

fn fits(word: &Word<'_>, message: &Message) -> bool {
    let method = message.method();
    let what = match word.status() {
        Some(status) => {
            !message.is_request()
                && message.status() == status
                && word.method.is_none_or(|wanted| method.as_bytes() == wanted.as_bytes())
        }
        None => {
            let wanted = word.what.strip_prefix("re-").unwrap_or(word.what);
            let in_dialog = message.to_tag().is_some();
            message.is_request()
                && method.as_bytes() == wanted.as_bytes()
                && (wanted != "INVITE" || in_dialog == (wanted != word.what))
        }
    };
    let body = message.sdp();
    let relayed = |body: &Bytes| body.ends_with(b"a=relayed\r\n");
    let held = |body: &Bytes| String::from_utf8_lossy(body).contains("a=sendonly");
    what && (!word.has("sdp") || body.as_ref().is_some_and(relayed))
        && (!word.has("nosdp") || body.is_none())
        && (!word.has("hold") || body.as_ref().is_some_and(held))
        && (!word.has("nomedia") || body.as_ref().is_some_and(|body| lines(body, "m=").is_empty()))
        && word.flag("codec").is_none_or(|wanted| {
            let offered = format!("m=audio 4000 RTP/AVP {wanted} 101");
            body.as_ref().is_some_and(|body| lines(body, "m=") == [offered])
        })
        && word.flag("from").is_none_or(|host| {
            body.as_ref().is_some_and(|body| lines(body, "c=") == [format!("c=IN IP4 {host}")])
        })
        && (!word.has("rel") || message.header(HeaderId::RSeq).is_some())
        && word
            .flags
            .iter()
            .filter_map(|flag| flag.strip_prefix("has="))
            .all(|part| String::from_utf8_lossy(message.raw()).contains(&part.replace('_', " ")))
}

/// The lines of a description that begin so.
fn lines(body: &Bytes, start: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(body).into_owned();
    text.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
}

fn first_line(message: &Message) -> String {
    let text = String::from_utf8_lossy(message.raw()).into_owned();
    text.lines().next().unwrap_or_default().to_owned()
}
