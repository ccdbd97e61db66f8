//! The binding of one account: its REGISTER requests, their answers, and when the next is due.
//!
//! In: how long the binding shall live, responses, time. Out: requests, events, one deadline. Elsewhere: sending (`agent`).

use super::Event;
use bytes::Bytes;
use sip::digest::Client;
use sip::draft::{HeaderText, RequestDraft, reason_phrase};
use sip::msg::{HeaderId, Message, Method};
use sip::session::SessionConfig;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// After a refresh that failed, or a connection that broke (RFC 5626 section 4.5 asks for patience).
const AGAIN_AFTER: Duration = Duration::from_secs(30);

pub(super) struct Registration {
    call_id: String,
    tag: String,
    cseq: u32,
    expires: u32,
    digest: Client,
    /// The user waits for the outcome; a refresh concerns nobody.
    wished: bool,
    refresh: Option<Instant>,
}

impl Registration {
    pub(super) fn new(call_id: String, tag: String, digest: Client) -> Self {
        Self { call_id, tag, cseq: 0, expires: 0, digest, wished: false, refresh: None }
    }

    pub(super) fn wish(&mut self, expires: u32) {
        self.expires = expires;
        self.wished = true;
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.refresh
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.refresh.is_some_and(|at| at <= now)
    }

    /// The server cannot reach us any more until we call it again.
    pub(super) fn connection_lost(&mut self, now: Instant) {
        self.refresh = self.refresh.map(|at| at.min(now + AGAIN_AFTER));
    }

    /// The next REGISTER for the address-of-record `record`, and its CSeq number.
    pub(super) fn request(
        &mut self,
        record: &str,
        registrar: &str,
        config: &SessionConfig,
    ) -> (u32, RequestDraft) {
        self.refresh = None;
        self.cseq += 1;
        let mut headers = HeaderText::default();
        headers.push("Max-Forwards", "70");
        headers.push_fmt("From", format_args!("{record};tag={}", self.tag));
        headers.push("To", record);
        headers.push("Call-ID", &self.call_id);
        headers.push_fmt("CSeq", format_args!("{} REGISTER", self.cseq));
        headers.push("Contact", &config.contact);
        headers.push_fmt("Expires", format_args!("{}", self.expires));
        if !config.user_agent.is_empty() {
            headers.push("User-Agent", &config.user_agent);
        }
        for (name, value) in self.digest.headers("REGISTER", registrar, b"") {
            headers.push(name, value);
        }
        let uri = registrar.to_owned();
        (self.cseq, RequestDraft { method: Method::Register, uri, headers, body: Bytes::new() })
    }

    /// `true`: a challenge, to be answered by the next request.
    pub(super) fn response(
        &mut self,
        response: &Message,
        local: SocketAddr,
        events: &mut VecDeque<Event>,
        now: Instant,
    ) -> bool {
        let status = response.status();
        match status {
            100..=199 => {}
            200..=299 => {
                self.digest.accepted();
                self.wished = false;
                if self.expires > 0 {
                    let granted = granted(response, local).unwrap_or(self.expires);
                    let pause = Duration::from_secs(u64::from(granted)) * 9 / 10;
                    self.refresh = Some(now + pause.max(Duration::from_secs(1)));
                }
                events.push_back(Event::Registered);
            }
            401 | 407 => {
                let proxy = status == 407;
                let header = if proxy { HeaderId::ProxyAuthenticate } else { HeaderId::WwwAuthenticate };
                let challenges: Vec<&[u8]> = response.lines(header).collect();
                if self.digest.challenged(proxy, challenges).is_ok() {
                    return true;
                }
                self.refused(status, reason_of(response), events, now);
            }
            _ => self.refused(status, reason_of(response), events, now),
        }
        false
    }

    /// No answer came, or the request could not be sent.
    pub(super) fn failure(&mut self, status: u16, events: &mut VecDeque<Event>, now: Instant) {
        self.refused(status, reason_phrase(status).to_owned(), events, now);
    }

    fn refused(&mut self, status: u16, reason: String, events: &mut VecDeque<Event>, now: Instant) {
        if !std::mem::take(&mut self.wished) && self.expires > 0 {
            self.refresh = Some(now + AGAIN_AFTER);
        }
        events.push_back(Event::RegistrationFailed { status, reason });
    }
}

/// How long our own binding lives, among those that the response lists.
fn granted(response: &Message, local: SocketAddr) -> Option<u32> {
    let mut contacts = response.contacts().filter_map(Result::ok);
    let own = contacts
        .find(|contact| contact.uri.host.ip() == Some(local.ip()) && contact.uri.port == Some(local.port()));
    own.and_then(|contact| contact.expires())
}

fn reason_of(response: &Message) -> String {
    String::from_utf8_lossy(response.reason()).into_owned()
}
