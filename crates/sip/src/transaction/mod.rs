//! Transactions (RFC 3261 section 17, RFC 6026): repeats and time-outs of requests and answers, matching, CANCEL.
//!
//! In: parsed and validated messages, the user's requests and answers, time. Out: bytes for the wire, events for the user
//! (a session, a registrar), one deadline. One [`Transactions`] serves one SIP worker; nothing in it is shared.
//! Elsewhere: what a request means (`dialog`, `session`, crate `proxy`), sockets (crate `proxy`).
//!
//! Rooms: `client_invite`, `client_other`, `server_invite`, `server_other` are the four machines of section 17, `client`
//! and `server` what they share, `matching` hands messages to them, `ids` recognizes them, `table` holds them, `timers`
//! names their deadlines.

mod client;
mod client_invite;
mod client_other;
mod config;
mod ids;
mod matching;
mod server;
mod server_invite;
mod server_other;
mod step;
mod table;
mod timers;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;

pub use config::{Config, ListenerVia};
pub use matching::Stranger;

use crate::draft::{RequestDraft, ResponseDraft};
use crate::flow::{ConnId, Flow, Transmit, Transport, UDP_REQUEST_LIMIT};
use crate::msg::Message;
use bytes::Bytes;
use client::{Client, Instead};
use client_invite::InviteClient;
use client_other::OtherClient;
use config::SentBy;
use ids::{Branch, MethodCode, Secret};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use server::{Server, WayBack};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use step::{Out, Step, serialize_tagged};
use table::{Entry, Index, Table};
use timers::Spans;

/// One call of [`Transactions::handle_timeout`] lets at most this many alarms ring; the next deadline is then in the past,
/// and the caller comes again.
const STEPS_MAX: usize = 4096;
/// Peers remembered as having no TCP.
const NO_STREAM_MAX: usize = 64;
/// For how long a peer counts as having no TCP.
const NO_STREAM_FOR: Duration = Duration::from_secs(300);

/// The user's name of a client transaction; chosen by the user, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey {
    /// Who asks: a session, a registration.
    pub owner: u64,
    /// Which of its requests.
    pub seq: u32,
}

/// The layer's name of a server transaction. An old one never means a new transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(u64);

impl ServerId {
    fn new(slot: u32, generation: u32) -> ServerId {
        ServerId(u64::from(generation) << 32 | u64::from(slot))
    }

    fn slot(self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is the slot")]
        let slot = self.0 as u32;
        slot
    }
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The listener to send from and the peer to send to.
    pub flow: Flow,
    /// For a UDP flow: a request of [`UDP_REQUEST_LIMIT`] bytes or more goes by TCP to the same address first, and by
    /// UDP if that fails (RFC 3261 section 18.1.1).
    pub stream_first: bool,
}

/// What the user learns.
#[derive(Clone, Debug)]
pub enum Event {
    /// A new request (neither ACK nor CANCEL). The user answers it by [`Transactions::respond`].
    Request {
        /// Names the transaction in answers.
        id: ServerId,
        /// The request.
        msg: Message,
        /// How it came.
        flow: Flow,
    },
    /// An ACK of a 2xx, every time it comes: for the dialog. An ACK that belongs to nothing comes this way too.
    Ack {
        /// The ACK.
        msg: Message,
        /// How it came.
        flow: Flow,
    },
    /// A CANCEL for an INVITE that has no final answer, told once. The CANCEL is answered; the user answers the INVITE
    /// with 487 (RFC 3261 section 9.2).
    Cancelled {
        /// The INVITE's transaction.
        id: ServerId,
        /// Value of the CANCEL's Reason header (RFC 3326).
        reason: Option<String>,
        /// The CANCEL.
        msg: Message,
    },
    /// A response: every provisional one, the first final one, and for INVITE every 2xx with its repeats and those of
    /// other forks during 64*T1 (timer M).
    Response {
        /// Whose request it answers.
        key: ClientKey,
        /// The response.
        msg: Message,
        /// How it came.
        flow: Flow,
    },
    /// No final response came in time (timers B and F; 64*T1 after a CANCEL): for the user a 408 (8.1.3.1). The last event
    /// of its key.
    Timeout {
        /// Whose request it was.
        key: ClientKey,
    },
    /// The request could not be sent: for the user a 503 (8.1.3.1). The last event of its key.
    TransportError {
        /// Whose request it was.
        key: ClientKey,
    },
    /// A failure answer to an INVITE was never acknowledged (timer H). Nothing has to be done.
    NoAck {
        /// The INVITE's transaction.
        id: ServerId,
    },
    /// The user never gave a final answer. An INVITE was answered 500 in its place after [`Config::answer_within`];
    /// another request is forgotten after 64*T1, when its sender has given up (RFC 4320 section 4.2).
    Unanswered {
        /// The transaction.
        id: ServerId,
    },
}

/// The table is full: nothing was sent and no event will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {max} transactions are in use; try again later or raise the limit")]
pub struct Full {
    /// The limit, [`Config::max_transactions`].
    pub max: usize,
}

/// All transactions of one worker.
///
/// After every `handle_*` and every command, drain [`poll_transmit`](Self::poll_transmit) and
/// [`poll_event`](Self::poll_event), then read [`poll_timeout`](Self::poll_timeout). Instants must not run backwards; one
/// that does counts as the latest seen.
pub struct Transactions {
    cfg: Config,
    /// What our Vias say, for responses.
    sent_by: Vec<SentBy>,
    spans: Spans,
    secret: Secret,
    rng: StdRng,
    table: Table,
    out: Out,
    /// The latest `now`.
    clock: Option<Instant>,
    /// Peers whose TCP port did not open, oldest first.
    no_stream: VecDeque<(SocketAddr, Instant)>,
    /// Scratch for Via values.
    via: String,
}

impl Transactions {
    /// An empty table. The seed makes branches and hash keys unpredictable: the shell draws it from the system.
    pub fn new(cfg: Config, seed: [u8; 32]) -> Transactions {
        let mut rng = StdRng::from_seed(seed);
        Transactions {
            sent_by: cfg.via_hosts.iter().map(SentBy::new).collect(),
            spans: Spans::new(&cfg),
            secret: Secret::new(&mut rng),
            rng,
            table: Table::new(cfg.max_transactions),
            out: Out::default(),
            clock: None,
            no_stream: VecDeque::new(),
            via: String::new(),
            cfg,
        }
    }

    /// A message from the wire, validated.
    pub fn handle_message(&mut self, msg: Message, flow: Flow, now: Instant) {
        let now = self.tick(now);
        if msg.is_request() {
            self.handle_request(msg, flow, now);
        } else {
            self.handle_response(msg, flow, now);
        }
    }

    /// A stream connection is gone, could not be opened (`conn` 0), or a datagram was refused (ICMP).
    pub fn handle_transport_error(&mut self, flow: Flow, now: Instant) {
        let now = self.tick(now);
        if flow.transport == Transport::Tcp && flow.conn == ConnId(0) {
            self.remember_no_stream(flow.remote, now);
        }
        let hash = self.flow_hash(flow);
        let concerned: SmallVec<[u32; 32]> = self
            .table
            .bucket_of(Index::Flow, hash)
            .filter(|(_, entry)| match entry {
                Entry::Client(client) => client.used(flow),
                Entry::Server(server) => server.peer.way_back.flow == flow,
            })
            .map(|(slot, _)| slot)
            .collect();
        for slot in concerned {
            if !self.fall_back(slot, now) {
                self.step_client(slot, now, Client::handle_transport_error);
                self.step_server(slot, now, Server::handle_transport_error);
            }
        }
    }

    /// Time has passed. Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.tick(now);
        for _ in 0..STEPS_MAX {
            let Some((slot, alarm)) = self.table.due(now) else { return };
            self.step_client(slot, now, |client, step| client.handle_timeout(alarm, step));
            self.step_server(slot, now, |server, step| server.handle_timeout(alarm, step));
        }
    }

    /// Sends a request and sees to it that it arrives. ACKs go by [`send_ack`](Self::send_ack), CANCELs by
    /// [`cancel`](Self::cancel).
    ///
    /// # Errors
    /// [`Full`] when there is no room. A flow whose listener does not exist is a transport error.
    pub fn request(
        &mut self,
        key: ClientKey,
        draft: RequestDraft,
        to: Destination,
        now: Instant,
    ) -> Result<(), Full> {
        let now = self.tick(now);
        if self.table.room() == 0 {
            return Err(Full { max: self.cfg.max_transactions });
        }
        if self.cfg.via_hosts.get(usize::from(to.flow.listener)).is_none() {
            self.out.events.push_back(Event::TransportError { key });
            return Ok(());
        }
        let random = self.rng.next_u64();
        let method = self.secret.method(&draft.method);
        let mut used = to.flow;
        let slot = self.table.insert(|slot, _| {
            let branch = Branch { shard: self.cfg.shard, slot, random };
            let way = Way { cfg: &self.cfg, no_stream: &self.no_stream, now: Some(now) };
            let (flow, bytes) = way.choose(&mut self.via, branch, &draft, to);
            used = flow;
            let peer = client::Peer { key, flow };
            let mut step = Step { now, spans: &self.spans, secret: &self.secret, out: &mut self.out };
            let machine = if method == MethodCode::INVITE {
                client::Machine::Invite(InviteClient::start(bytes, &peer, &mut step))
            } else {
                client::Machine::Other(OtherClient::start(bytes, &peer, &mut step))
            };
            let instead =
                (flow.transport != to.flow.transport).then(|| Box::new(Instead { draft, flow: to.flow }));
            Entry::Client(Client { method, random, peer, instead, machine })
        });
        let Some(slot) = slot else { return Err(Full { max: self.cfg.max_transactions }) };
        if method == MethodCode::INVITE {
            self.table.link(Index::Identity, slot, self.key_hash(key));
        }
        self.table.link(Index::Flow, slot, self.flow_hash(used));
        self.table.settle(slot);
        Ok(())
    }

    /// Cancels an INVITE (RFC 3261 section 9.1): at once if a provisional response has come, else when one comes. The
    /// INVITE then has 64*T1 left. `reason` is the value of a Reason header. Unknown, answered and cancelled keys are
    /// ignored.
    pub fn cancel(&mut self, key: ClientKey, reason: Option<String>, now: Instant) {
        let now = self.tick(now);
        let hash = self.key_hash(key);
        let is_it = |entry: &Entry| matches!(entry, Entry::Client(client) if client.peer.key == key);
        let found = self.table.bucket_of(Index::Identity, hash).find(|(_, entry)| is_it(entry));
        let Some((slot, _)) = found else { return };
        self.step_client(slot, now, |client, step| {
            if let client::Machine::Invite(invite) = &mut client.machine {
                invite.cancel(reason, &client.peer, step);
            }
        });
    }

    /// Answers a request. Unknown and finished ids are ignored, and so is what the transaction's state does not allow: a
    /// second final answer, any provisional response but 100 and a 408 to another request than INVITE (RFC 4320). A 2xx
    /// to INVITE may be given again until its ACK has passed through here: its first bytes are then sent again (the
    /// user repeats it, RFC 6026 section 8.1). Without any To tag the layer puts in one of its own, always the same for
    /// the request.
    pub fn respond(&mut self, id: ServerId, draft: &ResponseDraft, now: Instant) {
        let now = self.tick(now);
        let slot = id.slot();
        let mut refused = false;
        self.step_server(slot, now, |server, step| {
            if server.peer.id == id {
                let pending = server.is_pending();
                server.respond(draft, step);
                refused = pending && draft.status >= 300;
            }
        });
        if refused && self.table.get(slot).is_some() {
            // Whoever sends the same request again by another branch after a failure (a 401, say) tries again; this is
            // no longer a merged request.
            self.table.unlink(Index::Call, slot);
        }
    }

    /// Sends the ACK of a 2xx: a branch of its own, no transaction (RFC 3261 section 13.2.2.4).
    pub fn send_ack(&mut self, draft: RequestDraft, to: Destination) {
        if self.cfg.via_hosts.get(usize::from(to.flow.listener)).is_none() {
            return;
        }
        let branch = Branch { shard: self.cfg.shard, slot: 0, random: self.rng.next_u64() };
        let way = Way { cfg: &self.cfg, no_stream: &self.no_stream, now: self.clock };
        let (flow, bytes) = way.choose(&mut self.via, branch, &draft, to);
        self.out.transmits.push_back(Transmit { flow, bytes });
    }

    /// Answers a request that has no transaction (8.2.7), as often as it comes.
    pub fn reply_stateless(&mut self, req: &Message, flow: Flow, draft: &ResponseDraft) {
        self.out.transmits.extend(self.stateless_answer(req, flow, draft));
    }

    /// The same for a shell that sends it itself, or not; nothing when there is no Via to answer by.
    pub fn stateless_answer(&self, req: &Message, flow: Flow, draft: &ResponseDraft) -> Option<Transmit> {
        let via = req.via().ok()?;
        let bytes = serialize_tagged(&self.secret, req, flow.remote, draft);
        Some(Transmit { flow: WayBack::new(&via, flow, self.cfg.force_rport).flow, bytes })
    }

    /// Bytes to be sent, in order.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.transmits.pop_front()
    }

    /// What happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do; may lie in the past.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.table.next_deadline()
    }

    /// Transactions that are not over.
    pub fn open(&self) -> usize {
        self.table.open()
    }

    /// Whether a peer still owes something: the final response to a request of ours, or the ACK of a failure answer to its
    /// INVITE (RFC 3261 section 17). Requests of the owners `apart` do not count. Looks at every transaction: for a shell
    /// that is about to end.
    pub fn awaits_peers(&self, apart: &[u64]) -> bool {
        self.table.entries().any(|entry| match entry {
            Entry::Client(client) => client.is_pending() && !apart.contains(&client.peer.key.owner),
            Entry::Server(server) => server.awaits_ack(),
        })
    }

    /// For a response to a request of another table of this process: the number of that table. The shell hands the
    /// response over.
    pub fn foreign_shard(&self, msg: &Message) -> Option<u8> {
        if msg.is_request() {
            return None;
        }
        let shard = Branch::parse(msg.via().ok()?.branch()?)?.shard;
        (shard != self.cfg.shard).then_some(shard)
    }

    // --- inside ---

    /// Time does not run backwards: the timer queues rely on it.
    fn tick(&mut self, now: Instant) -> Instant {
        let now = self.clock.map_or(now, |clock| clock.max(now));
        self.clock = Some(now);
        now
    }

    fn step_client(&mut self, slot: u32, now: Instant, work: impl FnOnce(&mut Client, &mut Step<'_>)) {
        let Some(client) = self.table.client_mut(slot) else { return };
        work(client, &mut Step { now, spans: &self.spans, secret: &self.secret, out: &mut self.out });
        self.table.settle(slot);
    }

    fn step_server(&mut self, slot: u32, now: Instant, work: impl FnOnce(&mut Server, &mut Step<'_>)) {
        let Some(server) = self.table.server_mut(slot) else { return };
        work(server, &mut Step { now, spans: &self.spans, secret: &self.secret, out: &mut self.out });
        self.table.settle(slot);
    }

    /// Sends by UDP, with a new Via, what a stream did not take (18.1.1). `false` if there is no such choice.
    fn fall_back(&mut self, slot: u32, now: Instant) -> bool {
        let Some(client) = self.table.client_mut(slot) else { return false };
        let Some(instead) = client.instead.take() else { return false };
        client.random = self.rng.next_u64();
        client.peer.flow = instead.flow;
        let branch = Branch { shard: self.cfg.shard, slot, random: client.random };
        write_via(&mut self.via, &self.cfg, instead.flow, branch);
        let bytes = instead.draft.serialize(&self.via);
        let mut step = Step { now, spans: &self.spans, secret: &self.secret, out: &mut self.out };
        match &mut client.machine {
            client::Machine::Invite(invite) => invite.restart(bytes, &client.peer, &mut step),
            client::Machine::Other(other) => other.restart(bytes, &client.peer, &mut step),
        }
        self.table.link(Index::Flow, slot, self.flow_hash(instead.flow));
        self.table.settle(slot);
        true
    }

    fn remember_no_stream(&mut self, remote: SocketAddr, now: Instant) {
        self.no_stream.retain(|(known, _)| *known != remote);
        if self.no_stream.len() == NO_STREAM_MAX {
            self.no_stream.pop_front();
        }
        self.no_stream.push_back((remote, now + NO_STREAM_FOR));
    }

    fn key_hash(&self, key: ClientKey) -> u64 {
        self.secret.hash64(b'k', &[&key.owner.to_be_bytes(), &key.seq.to_be_bytes()])
    }

    /// Hash of transport and peer: a transaction that did not care by which connection it goes is found as well.
    fn flow_hash(&self, flow: Flow) -> u64 {
        let transport = [flow.transport as u8];
        let port = flow.remote.port().to_be_bytes();
        match flow.remote.ip() {
            IpAddr::V4(ip) => self.secret.hash64(b'f', &[&transport, &ip.octets(), &port]),
            IpAddr::V6(ip) => self.secret.hash64(b'f', &[&transport, &ip.octets(), &port]),
        }
    }
}

/// How requests leave.
struct Way<'a> {
    cfg: &'a Config,
    no_stream: &'a VecDeque<(SocketAddr, Instant)>,
    now: Option<Instant>,
}

impl Way<'_> {
    /// The request's bytes and flow: large ones go by TCP if they may (18.1.1).
    fn choose(
        &self,
        via: &mut String,
        branch: Branch,
        draft: &RequestDraft,
        to: Destination,
    ) -> (Flow, Bytes) {
        write_via(via, self.cfg, to.flow, branch);
        let bytes = draft.serialize(via);
        if to.flow.transport != Transport::Udp || !to.stream_first || bytes.len() < UDP_REQUEST_LIMIT {
            return (to.flow, bytes);
        }
        let listener = config::stream_beside(&self.cfg.via_hosts, to.flow.listener);
        let Some(listener) = listener.filter(|_| !self.has_no_stream(to.flow.remote)) else {
            return (to.flow, bytes);
        };
        let flow =
            Flow { transport: Transport::Tcp, listener, remote: to.flow.remote, conn: ConnId::default() };
        write_via(via, self.cfg, flow, branch);
        (flow, draft.serialize(via))
    }

    fn has_no_stream(&self, remote: SocketAddr) -> bool {
        let still = |until: Instant| self.now.is_none_or(|now| now < until);
        self.no_stream.iter().any(|(known, until)| *known == remote && still(*until))
    }
}

/// The value of our Via (18.1.1). UDP requests ask for the answer on the same port (RFC 3581).
fn write_via(via: &mut String, cfg: &Config, flow: Flow, branch: Branch) {
    via.clear();
    let sent_by = cfg.via_hosts.get(usize::from(flow.listener)).map_or("", |listener| &listener.sent_by);
    let rport = if flow.transport == Transport::Udp { ";rport" } else { "" };
    for piece in ["SIP/2.0/", flow.transport.via_token(), " ", sent_by, rport, ";branch="] {
        via.push_str(piece);
    }
    branch.write(via);
}

#[cfg(test)]
mod tests {
    use super::testing::{Bench, draft, request};
    use super::*;

    #[test]
    fn many_transactions_end_each_once_in_bounded_steps_and_their_slots_are_reused() {
        let mut bench = Bench::new(Transport::Udp, Config { max_transactions: 5000, ..Config::default() });
        for round in 0..3 {
            let now = bench.start + Duration::from_secs(round * 100);
            let owner = round + 1;
            for seq in 0..5000 {
                // Different peers, so that no index has everything in one bucket.
                let remote = SocketAddr::from(([198, 51, 100, (seq % 250) as u8], 5060));
                let to = Destination { flow: Flow { remote, ..bench.flow }, stream_first: false };
                let method = if seq % 2 == 0 { "INVITE" } else { "BYE" };
                bench.layer.request(ClientKey { owner, seq }, draft(method, 0), to, now).unwrap();
            }
            assert_eq!(bench.layer.open(), 5000);
            let mut ended = std::collections::BTreeSet::new();
            while let Some(due) = bench.layer.poll_timeout() {
                bench.layer.handle_timeout(due);
                let transmits = std::iter::from_fn(|| bench.layer.poll_transmit()).count();
                assert!(transmits <= 5000 + STEPS_MAX, "{transmits} at once");
                while let Some(event) = bench.layer.poll_event() {
                    let Event::Timeout { key } = event else { panic!("{event:?}") };
                    assert!(key.owner == owner && ended.insert(key.seq), "{key:?} ended twice");
                }
            }
            assert_eq!((ended.len(), bench.layer.open()), (5000, 0));
        }
    }

    #[test]
    fn a_late_call_of_handle_timeout_does_everything_that_is_due_in_the_order_of_time() {
        let mut bench = Bench::new(Transport::Udp, Config::default());
        bench.play_on("0 ask OPTIONS\n0 send OPTIONS\n0 recv REGISTER\n0 tell Request REGISTER");
        bench.layer.handle_timeout(bench.start + Duration::from_secs(1000));
        let events: Vec<Event> = std::iter::from_fn(|| bench.layer.poll_event()).collect();
        assert!(
            matches!(events[..], [Event::Timeout { .. }, Event::Unanswered { .. }]),
            "the client was first: {events:?}"
        );
        assert_eq!((bench.layer.open(), bench.layer.poll_timeout()), (0, None));
    }

    #[test]
    fn an_instant_that_runs_backwards_counts_as_the_latest() {
        let mut bench = Bench::new(Transport::Udp, Config::default());
        let late = bench.start + Duration::from_secs(50);
        bench.layer.handle_timeout(late);
        bench.layer.handle_message(request(Transport::Udp, &["OPTIONS"]), bench.flow, bench.start);
        assert!(bench.layer.poll_timeout().unwrap() > late);
    }

    #[test]
    fn vias_name_listener_and_transport_and_ask_for_rport_by_udp_only() {
        for (transport, expected) in [
            (Transport::Udp, "SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK00"),
            (Transport::Tcp, "SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bK00"),
        ] {
            let mut bench = Bench::new(transport, Config::default());
            bench.play_on("0 ask OPTIONS\n0 send OPTIONS");
            let sent = bench.last_sent();
            let via = std::str::from_utf8(sent.header(crate::msg::HeaderId::Via).unwrap()).unwrap();
            assert!(via.starts_with(expected), "{via}");
        }
    }
}
