//! A relay that has no sockets: it keeps sessions and their ports, and writes its own address into descriptions.
//!
//! In: commands of application servers. Out: descriptions. Whoever looks on asks whether a port is one of a session that lives.

use bytes::Bytes;
use cluster::ids::{CallId, NodeId};
use cluster::media::{Media, MediaCommand, MediaError, MediaLeg, MediaReply, Signalling};
use model::MediaReport;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The relay of one process.
pub(crate) struct SimRelay {
    ip: IpAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u16,
    sessions: BTreeMap<CallId, BTreeMap<MediaLeg, u16>>,
}

impl SimRelay {
    /// `first` is the port that comes first: another one after each start, so that nobody takes an old session for a new one.
    pub(crate) fn new(ip: IpAddr, first: u16) -> Self {
        Self { ip, state: Mutex::new(State { next: first, sessions: BTreeMap::new() }) }
    }

    pub(crate) fn sessions(&self) -> Vec<CallId> {
        self.state.lock().sessions.keys().copied().collect()
    }

    /// The call whose session has this port.
    pub(crate) fn call_at(&self, address: SocketAddr) -> Option<CallId> {
        let state = self.state.lock();
        let has = |legs: &BTreeMap<MediaLeg, u16>| legs.values().any(|port| *port == address.port());
        let found = state.sessions.iter().find(|(_, legs)| has(legs)).map(|(call, _)| *call);
        found.filter(|_| address.ip() == self.ip)
    }
}

impl State {
    fn port(&mut self, call: CallId, leg: MediaLeg) -> u16 {
        let next = &mut self.next;
        *self.sessions.entry(call).or_default().entry(leg).or_insert_with(|| {
            *next = if *next > 60_000 { 10_000 } else { *next + 2 };
            *next
        })
    }

    fn report(&self, call: CallId) -> MediaReply {
        let legs = self.sessions.get(&call).into_iter().flat_map(BTreeMap::keys);
        MediaReply::Report(legs.map(|leg| (*leg, MediaReport::default())).collect())
    }
}

impl Media for SimRelay {
    fn submit(
        &self,
        _: NodeId,
        call: CallId,
        _: u32,
        command: MediaCommand,
        _: Signalling,
    ) -> Option<MediaReply> {
        let mut state = self.state.lock();
        Some(match command {
            MediaCommand::Offer { from, to, sdp } => {
                state.port(call, from);
                let port = state.port(call, to);
                MediaReply::Sdp(rewritten(&sdp, SocketAddr::new(self.ip, port)))
            }
            MediaCommand::Answer { from, to, sdp } => {
                if !state.sessions.contains_key(&call) {
                    return Some(MediaReply::Refused(MediaError::OutOfStep("an answer without an offer")));
                }
                state.port(call, from);
                let port = state.port(call, to);
                MediaReply::Sdp(rewritten(&sdp, SocketAddr::new(self.ip, port)))
            }
            MediaCommand::Withdraw { .. } => MediaReply::Done,
            MediaCommand::Release { leg } => {
                let Some(legs) = state.sessions.get_mut(&call) else {
                    return Some(MediaReply::Refused(MediaError::OutOfStep("no session")));
                };
                let report = legs.remove(&leg).map(|_| (leg, MediaReport::default()));
                MediaReply::Report(report.into_iter().collect())
            }
            MediaCommand::Stop => state.report(call),
            MediaCommand::Close => {
                let report = state.report(call);
                state.sessions.remove(&call);
                report
            }
        })
    }
}

/// The description with this address in place of its author's.
fn rewritten(sdp: &Bytes, address: SocketAddr) -> Bytes {
    let text = String::from_utf8_lossy(sdp);
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.split_inclusive("\r\n") {
        if line.starts_with("c=") {
            out.push_str(&format!("c=IN IP4 {}\r\n", address.ip()));
        } else if let Some((_, rest)) = line.strip_prefix("m=audio ").and_then(|rest| rest.split_once(' ')) {
            out.push_str(&format!("m=audio {} {rest}", address.port()));
        } else if !line.starts_with("a=rtcp:") {
            out.push_str(line);
        }
    }
    out.into()
}
