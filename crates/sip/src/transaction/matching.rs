//! Messages from the wire find their transaction, make one, or are answered without one.
//!
//! In: validated messages. Out: steps of the machines, new server transactions, stateless answers (200 and 481 to CANCEL,
//! 482 to merged requests, 503 when there is no room). Elsewhere: what identifies a message (`ids`).

use super::ids::{Branch, CallFacts, MethodCode, Print, RequestId};
use super::server::{Machine, Peer, Server, WayBack};
use super::server_invite::{AckFate, InviteServer};
use super::server_other::OtherServer;
use super::step::Step;
use super::table::{Entry, Index};
use super::{Event, ServerId, Transactions, client};
use crate::draft::ResponseDraft;
use crate::flow::Flow;
use crate::msg::{HeaderId, Message, Method};
use std::time::Instant;

/// How far the index of calls is searched: honest peers never put more than two requests under one key.
const WALK_MAX: usize = 16;

/// A request that has no transaction here, as [`Transactions::identify`] found; [`Transactions::begin`] makes one of it.
pub struct Stranger {
    id: RequestId,
    method: MethodCode,
    way_back: WayBack,
}

impl Transactions {
    /// Whether a request repeats one that has a transaction here, or is the ACK of an INVITE that has. Whoever refuses
    /// requests without a transaction asks first, lest a repeat be refused that is already being served.
    pub fn knows(&self, msg: &Message) -> bool {
        let Ok(via) = msg.via() else { return false };
        let id = self.secret.request(msg, &via, || msg.to_tag());
        match msg.method() {
            Method::Ack => self.invite_of(id, msg).is_some(),
            method => self.find(id.print, self.secret.method(&method)).is_some(),
        }
    }

    /// The INVITE that an ACK of this identity is for.
    fn invite_of(&self, id: RequestId, ack: &Message) -> Option<u32> {
        self.find(id.print, MethodCode::INVITE).or_else(|| {
            // An INVITE by RFC 2543 outside a dialog had no To tag yet.
            let via = ack.via().ok().filter(|_| id.legacy)?;
            self.find(self.secret.request(ack, &via, || None).print, MethodCode::INVITE)
        })
    }

    /// The same for a validated request that may then be handed to [`Transactions::begin`], so that what identifies it
    /// is read once. `None`: it has a transaction, is an ACK or a CANCEL, and belongs to [`Transactions::handle_message`].
    pub fn identify(&self, msg: &Message, flow: Flow) -> Option<Stranger> {
        if msg.method_is(&Method::Ack) || msg.method_is(&Method::Cancel) {
            return None;
        }
        let via = msg.via().ok()?;
        let method = self.secret.method(&msg.method());
        let id = self.secret.request(msg, &via, || msg.to_tag());
        let is_new = self.find(id.print, method).is_none();
        is_new.then(|| Stranger { id, method, way_back: WayBack::new(&via, flow, self.cfg.force_rport) })
    }

    /// Makes a transaction for the request that was identified, with nothing handled in between; as
    /// [`Transactions::handle_message`] does it for one that it has not seen.
    pub fn begin(&mut self, stranger: Stranger, msg: Message, flow: Flow, now: Instant) {
        let now = self.tick(now);
        let Stranger { id, method, way_back } = stranger;
        self.handle_new_request(id, method, msg, flow, way_back, now);
    }

    /// A response goes to the transaction whose branch and method it repeats (17.1.3); any other is dropped (RFC 6026
    /// section 8.9).
    pub(super) fn handle_response(&mut self, msg: Message, flow: Flow, now: Instant) {
        let Ok(via) = msg.via() else { return };
        let Some(branch) = via.branch().and_then(Branch::parse) else { return };
        let Some(client) = self.table.client_mut(branch.slot) else { return };
        let own_branch = Branch { shard: self.cfg.shard, slot: branch.slot, random: client.random };
        // Another sent-by means that the response was for somebody else (18.1.2).
        if branch != own_branch
            || !self.sent_by.iter().any(|own| own.is_in(&via))
            || !(100..700).contains(&msg.status())
        {
            return;
        }
        let method = self.secret.method(&msg.method());
        if method == client.method {
            let mut pending = true;
            self.step_client(branch.slot, now, |client, step| {
                client.handle_response(msg, flow, step);
                pending = client.is_pending();
            });
            if !pending {
                // A peer that is gone shall not cost a walk over all that lingers.
                self.table.unlink(Index::Flow, branch.slot);
            }
        } else if method == MethodCode::CANCEL {
            self.step_client(branch.slot, now, |client, step| {
                if let client::Machine::Invite(invite) = &mut client.machine {
                    invite.handle_cancel_response(msg.status(), step);
                }
            });
        }
    }

    /// A request repeats an earlier one, belongs to one (ACK, CANCEL), or is new (17.2.3).
    pub(super) fn handle_request(&mut self, msg: Message, flow: Flow, now: Instant) {
        let Ok(via) = msg.via() else { return };
        let id = self.secret.request(&msg, &via, || msg.to_tag());
        let method = msg.method();
        if method == Method::Ack {
            self.handle_ack(id, msg, flow, now);
        } else if method == Method::Cancel {
            self.handle_cancel(id, msg, flow, now);
        } else {
            let method = self.secret.method(&method);
            match self.find(id.print, method) {
                Some(slot) => self.step_server(slot, now, Server::handle_repeat),
                None => {
                    let way_back = WayBack::new(&via, flow, self.cfg.force_rport);
                    self.handle_new_request(id, method, msg, flow, way_back, now);
                }
            }
        }
    }

    fn find(&self, print: Print, method: MethodCode) -> Option<u32> {
        let is_it = |entry: &Entry| match entry {
            Entry::Server(server) => server.print == print && server.method == method,
            Entry::Client(_) => false,
        };
        let mut bucket = self.table.bucket_of(Index::Identity, RequestId::bucket(print, method));
        bucket.find(|(_, entry)| is_it(entry)).map(|(slot, _)| slot)
    }

    fn find_call(&self, call: u64) -> Option<u32> {
        let is_it = |entry: &Entry| match entry {
            Entry::Server(server) => server.call == Some(call),
            Entry::Client(_) => false,
        };
        let mut bucket = self.table.bucket_of(Index::Call, call).take(WALK_MAX);
        bucket.find(|(_, entry)| is_it(entry)).map(|(slot, _)| slot)
    }

    fn handle_new_request(
        &mut self,
        id: RequestId,
        method: MethodCode,
        msg: Message,
        flow: Flow,
        way_back: WayBack,
        now: Instant,
    ) {
        let to_tag = msg.to_tag();
        let call = (to_tag.is_none() || method == MethodCode::INVITE)
            .then(|| self.secret.call(&CallFacts::of(&msg), method, to_tag));
        // The same request by another way (8.2.2.2), unless the first one was refused.
        if to_tag.is_none() && call.is_some_and(|call| self.find_call(call).is_some()) {
            self.reply_stateless(&msg, flow, &ResponseDraft::new(482));
            return;
        }
        // What ends or changes a call that exists comes before new ones, and our own requests before all.
        let reserve = self.cfg.max_transactions / if to_tag.is_none() { 16 } else { 32 };
        if self.table.room() <= reserve {
            let mut draft = ResponseDraft::new(503);
            draft.headers.push_fmt("Retry-After", format_args!("{}", self.cfg.retry_after.as_secs()));
            self.reply_stateless(&msg, flow, &draft);
            return;
        }
        let legacy_to_tag = (id.legacy && method == MethodCode::INVITE).then(Box::default);
        let slot = self.table.insert(|slot, generation| {
            let peer = Peer { id: ServerId::new(slot, generation), way_back };
            let mut step = Step { now, spans: &self.spans, secret: &self.secret, out: &mut self.out };
            let machine = if method == MethodCode::INVITE {
                let immediately = self.cfg.trying_immediately;
                Machine::Invite(InviteServer::start(msg.clone(), immediately, &peer, &mut step))
            } else {
                Machine::Other(OtherServer::start(msg.clone(), &step))
            };
            Entry::Server(Server { print: id.print, method, call, legacy_to_tag, peer, machine })
        });
        let Some(slot) = slot else { return };
        self.table.link(Index::Identity, slot, RequestId::bucket(id.print, method));
        if let Some(call) = call {
            self.table.link(Index::Call, slot, call);
        }
        if flow.transport.is_reliable() {
            self.table.link(Index::Flow, slot, self.flow_hash(flow));
        }
        self.table.settle(slot);
        if let Some(generation) = self.table.generation(slot) {
            self.out.events.push_back(Event::Request { id: ServerId::new(slot, generation), msg, flow });
        }
    }

    /// An ACK ends the repeating of a failure answer, or is for the dialog. It makes no state.
    fn handle_ack(&mut self, id: RequestId, msg: Message, flow: Flow, now: Instant) {
        let invite = self.invite_of(id, &msg);
        let mut fate = AckFate::Passed;
        if let Some(slot) = invite {
            self.step_server(slot, now, |server, step| {
                let is_ours = server.is_answered_with(msg.to_tag());
                if let Machine::Invite(invite) = &mut server.machine {
                    fate = invite.handle_ack(is_ours, &server.peer, step);
                }
            });
        }
        if fate == AckFate::Passed {
            self.forget_answer(&msg, now);
            self.out.events.push_back(Event::Ack { msg, flow });
        }
    }

    /// The ACK of a 2xx has another branch than its INVITE: what they share is the call.
    fn forget_answer(&mut self, ack: &Message, now: Instant) {
        let facts = CallFacts::of(ack);
        let initial = self.secret.call(&facts, MethodCode::INVITE, None);
        let invite = self.find_call(initial).or_else(|| {
            let within = self.secret.call(&facts, MethodCode::INVITE, ack.to_tag());
            self.find_call(within)
        });
        let Some(slot) = invite else { return };
        self.step_server(slot, now, |server, _| {
            if let Machine::Invite(invite) = &mut server.machine {
                invite.forget_answer();
            }
        });
    }

    /// A CANCEL is answered here, every time it comes, and makes no state (9.2).
    fn handle_cancel(&mut self, id: RequestId, msg: Message, flow: Flow, now: Instant) {
        let Some(slot) = self.find(id.print, MethodCode::INVITE) else {
            let exists = |method| self.find(id.print, MethodCode::known(method)).is_some();
            let status = if MethodCode::NOT_STOPPED.into_iter().any(exists) { 200 } else { 481 };
            self.reply_stateless(&msg, flow, &ResponseDraft::new(status));
            return;
        };
        let mut told = None;
        let mut draft = ResponseDraft::new(200);
        self.step_server(slot, now, |server, _| {
            if let Machine::Invite(invite) = &mut server.machine {
                draft.to_tag = invite.answer().and_then(to_tag_of);
                told = invite.handle_cancel().then_some(server.peer.id);
            }
        });
        self.reply_stateless(&msg, flow, &draft);
        if let Some(id) = told {
            let reason =
                msg.header(HeaderId::Reason).map(|value| String::from_utf8_lossy(value).into_owned());
            self.out.events.push_back(Event::Cancelled { id, reason, msg });
        }
    }
}

/// The To tag of an answer of ours: the answer to a CANCEL has the same (9.2).
fn to_tag_of(answer: &bytes::Bytes) -> Option<String> {
    let answer = Message::parse(answer.clone()).ok()?;
    Some(std::str::from_utf8(answer.to_tag()?).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, draft, ladder, parse, request};
    use super::super::{ClientKey, Config, Destination, Full};
    use super::*;
    use crate::flow::{ConnId, Transport, Transport::Tcp, Transport::Udp};

    #[test]
    fn a_cancel_that_matches_nothing_gets_481_and_makes_no_state() {
        ladder(
            Udp,
            "0     recv CANCEL
             0     send 481 CANCEL
             0     open 0
             0.1   recv CANCEL
             0.1   send 481 CANCEL
             1     recv INVITE
             1     send 100 INVITE
             1     tell Request INVITE
             2     recv CANCEL branch=z9hG4bK-2
             2     send 481 CANCEL
             2     recv CANCEL sent-by=198.51.100.9:5070
             2     send 481 CANCEL
             2     open 1
             3     answer 200
             3     send 200 INVITE",
        );
    }

    #[test]
    fn an_ack_that_matches_nothing_goes_to_the_user_and_makes_no_state() {
        ladder(
            Udp,
            "0     recv ACK
             0     tell Ack
             0     recv ACK branch=z9hG4bK-2
             0     tell Ack
             0     open 0",
        );
    }

    #[test]
    fn requests_of_another_branch_sent_by_or_method_are_other_transactions() {
        ladder(
            Udp,
            "0     recv OPTIONS
             0     tell Request OPTIONS
             0     recv OPTIONS branch=z9hG4bK-2 cseq=2
             0     tell Request OPTIONS
             0     recv OPTIONS sent-by=198.51.100.2:5071 cseq=3
             0     tell Request OPTIONS
             0     recv OPTIONS sent-by=198.51.100.3:5070 cseq=4
             0     tell Request OPTIONS
             0     recv MESSAGE
             0     tell Request MESSAGE
             0     recv FLY
             0     tell Request FLY
             0     recv SWIM
             0     tell Request SWIM
             0     recv OPTIONS
             0     recv FLY
             0     recv SWIM
             0     open 7
             3.5   send 100 OPTIONS
             3.5   send 100 OPTIONS
             3.5   send 100 OPTIONS
             3.5   send 100 OPTIONS
             3.5   send 100 MESSAGE
             3.5   send 100 FLY
             3.5   send 100 SWIM
             32    tell Unanswered
             32    tell Unanswered
             32    tell Unanswered
             32    tell Unanswered
             32    tell Unanswered
             32    tell Unanswered
             32    tell Unanswered",
        );
    }

    #[test]
    fn a_merged_request_gets_482_and_makes_no_state() {
        ladder(
            Udp,
            "0     recv INVITE
             0     send 100 INVITE
             0     tell Request INVITE
             1     recv INVITE branch=z9hG4bK-2
             1     send 482 INVITE
             1     recv INVITE branch=z9hG4bK-2
             1     send 482 INVITE
             1     open 1
             # another caller, call, number or dialog is no merging
             2     recv INVITE branch=z9hG4bK-3 from=another
             2     send 100 INVITE
             2     tell Request INVITE
             2     answer 486
             2     send 486 INVITE
             2     recv ACK branch=z9hG4bK-3
             2     recv INVITE branch=z9hG4bK-4 cseq=2
             2     send 100 INVITE
             2     tell Request INVITE
             2     answer 200
             2     send 200 INVITE
             3     recv INVITE branch=z9hG4bK-5 to=ours
             3     send 100 INVITE
             3     tell Request INVITE
             3     recv INVITE branch=z9hG4bK-6 to=ours
             3     send 100 INVITE
             3     tell Request INVITE
             # accepted ones are still under way
             4     recv INVITE branch=z9hG4bK-7 cseq=2
             4     send 482 INVITE
             4     open 5
             660   send 500 INVITE
             660   tell Unanswered
             660   recv ACK
             663   send 500 INVITE
             663   send 500 INVITE
             663   tell Unanswered
             663   tell Unanswered
             663   recv ACK branch=z9hG4bK-5 to=ours
             663   recv ACK branch=z9hG4bK-6 to=ours",
        );
    }

    #[test]
    fn a_request_sent_again_after_a_refusal_is_no_merged_request() {
        ladder(
            Udp,
            "0     recv REGISTER
             0     tell Request REGISTER
             0     answer 401
             0     send 401 REGISTER
             0.1   recv REGISTER branch=z9hG4bK-2
             0.1   tell Request REGISTER
             0.1   answer 200
             0.1   send 200 REGISTER
             0.2   recv REGISTER branch=z9hG4bK-3
             0.2   send 482 REGISTER",
        );
    }

    #[test]
    fn without_the_magic_cookie_rfc_2543_rules_match_the_request_and_its_repeats() {
        for branch in ["none", "1", "z9hG4bK"] {
            Bench::new(Udp, Config::default()).play(
                &"0     recv OPTIONS branch=old
                 0     tell Request OPTIONS
                 0     answer 200
                 0     send 200 OPTIONS
                 1     recv OPTIONS branch=old
                 1     send 200 OPTIONS
                 1     recv OPTIONS branch=old uri=sip:else@example.com cseq=2
                 1     tell Request OPTIONS
                 1     answer 404
                 1     send 404 OPTIONS
                 2     recv OPTIONS branch=old to=x
                 2     tell Request OPTIONS
                 2     answer 481
                 2     send 481 OPTIONS
                 2     open 3"
                    .replace("old", branch),
            );
        }
    }

    #[test]
    fn without_the_magic_cookie_the_ack_of_a_failure_has_the_to_tag_of_the_answer() {
        ladder(
            Udp,
            "0     recv INVITE branch=none
             0     send 100 INVITE
             0     tell Request INVITE
             0.1   recv INVITE branch=none
             0.1   send 100 INVITE
             0.2   answer 486 tag=ours
             0.2   send 486 INVITE
             0.3   recv ACK branch=none to=another
             0.3   tell Ack
             0.7   send 486 INVITE
             0.8   recv ACK branch=none to=ours
             0.9   recv ACK branch=none to=ours
             5.8   over",
        );
    }

    #[test]
    fn without_the_magic_cookie_the_ack_of_a_2xx_goes_to_the_user() {
        ladder(
            Udp,
            "0     recv INVITE branch=none
             0     send 100 INVITE
             0     tell Request INVITE
             0.2   answer 200 tag=ours
             0.2   send 200 INVITE
             0.3   recv ACK branch=none to=ours
             0.3   tell Ack
             32.2  over",
        );
    }

    #[test]
    fn without_the_magic_cookie_a_re_invite_a_cancel_and_the_ack_match_by_the_to_tag_they_share() {
        ladder(
            Udp,
            "0     recv INVITE branch=none to=ours
             0     send 100 INVITE
             0     tell Request INVITE
             0.1   recv CANCEL branch=none
             0.1   send 481 CANCEL
             0.2   recv CANCEL branch=none to=ours
             0.2   send 200 CANCEL
             0.2   tell Cancelled
             0.3   answer 487
             0.3   send 487 INVITE
             0.4   recv ACK branch=none to=ours
             5.4   over",
        );
    }

    #[test]
    fn an_answer_without_rport_goes_to_the_port_of_sent_by() {
        for (sent_by, port) in [("198.51.100.2:5070", 5070), ("198.51.100.2", 5060), ("phone.example", 5060)]
        {
            ladder(
                Udp,
                &format!(
                    "0     recv OPTIONS rport=no sent-by={sent_by}
                     0     tell Request OPTIONS
                     0     answer 200
                     0     send 200 OPTIONS port={port}
                     1     recv CANCEL rport=no sent-by={sent_by} branch=z9hG4bK-9
                     1     send 481 CANCEL port={port}"
                ),
            );
        }
    }

    #[test]
    fn the_configuration_can_answer_as_if_rport_were_there() {
        Bench::new(Udp, Config { force_rport: true, ..Config::default() }).play(
            "0     recv OPTIONS rport=no
             0     tell Request OPTIONS
             0     answer 200
             0     send 200 OPTIONS",
        );
    }

    #[test]
    fn a_repeat_from_elsewhere_does_not_move_the_answer() {
        ladder(
            Udp,
            "0     recv OPTIONS
             0     tell Request OPTIONS
             0     answer 200
             0     send 200 OPTIONS
             1     recv OPTIONS port=666
             1     send 200 OPTIONS",
        );
    }

    #[test]
    fn a_response_is_dropped_unless_branch_method_and_sent_by_are_those_of_the_request() {
        let mut bench = Bench::new(Udp, Config::default());
        bench.play_on(
            "0     ask OPTIONS
             0     send OPTIONS",
        );
        let good = response_to(&bench.last_sent(), 200);
        let branch = good.split("branch=").nth(1).unwrap().split([';', '\r']).next().unwrap().to_owned();
        let with_branch = |new: &str| good.replace(&branch, new);
        let last = if branch.ends_with('0') { "1" } else { "0" };
        let forged = [
            ("another random", with_branch(&format!("{}{last}", &branch[..branch.len() - 1]))),
            ("another slot", with_branch(&branch.replacen("00000001", "00000002", 1))),
            ("an impossible slot", with_branch(&branch.replacen("00000001", "ffffffff", 1))),
            ("the unused slot", with_branch(&branch.replacen("00000001", "00000000", 1))),
            ("another shard", with_branch(&branch.replacen("z9hG4bK00", "z9hG4bK01", 1))),
            ("not our form", with_branch("z9hG4bK-1")),
            ("another method", good.replace("7 OPTIONS", "7 INFO")),
            ("CANCEL", good.replace("7 OPTIONS", "7 CANCEL")),
            ("another host", good.replace("192.0.2.1:5060", "192.0.2.9:5060")),
            ("another port", good.replace("192.0.2.1:5060", "192.0.2.1:5061")),
            ("no port", good.replace("192.0.2.1:5060", "192.0.2.1")),
        ];
        let now = bench.start + bench.now;
        for (what, text) in forged {
            assert_ne!(text, good, "{what}");
            bench.layer.handle_message(parse(text.into()), bench.flow, now);
            assert!(bench.layer.poll_event().is_none(), "{what}");
            assert_eq!((bench.layer.poll_transmit().is_none(), bench.layer.open()), (true, 1), "{what}");
        }
        bench.layer.handle_message(parse(good.into()), bench.flow, now);
        assert!(matches!(bench.layer.poll_event(), Some(Event::Response { .. })));
    }

    fn response_to(request: &Message, status: u16) -> String {
        let draft = ResponseDraft { to_tag: Some("peer".to_owned()), ..ResponseDraft::new(status) };
        let source = "192.0.2.1:5060".parse().unwrap();
        let bytes = crate::draft::serialize_response(request, source, &draft);
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn a_response_of_an_earlier_transaction_in_the_same_slot_is_dropped() {
        let mut bench = Bench::new(Tcp, Config::default());
        bench.play_on("0 ask OPTIONS\n0 send OPTIONS");
        let first = bench.last_sent();
        bench.play_on("1 recv 200\n1 tell Response 200\n1 open 0\n2 ask OPTIONS\n2 send OPTIONS");
        let second = bench.last_sent();
        assert_ne!(first.via().unwrap().branch(), second.via().unwrap().branch());
        let now = bench.start + bench.now;
        bench.layer.handle_message(parse(response_to(&first, 200).into()), bench.flow, now);
        assert!(bench.layer.poll_event().is_none());
        bench.play("3 recv 200\n3 tell Response 200");
    }

    #[test]
    fn a_response_for_another_table_names_it() {
        let mut bench = Bench::new(Udp, Config { shard: 9, ..Config::default() });
        let here = Bench::new(Udp, Config::default()).layer;
        bench.play_on("0 ask OPTIONS\n0 send OPTIONS");
        let response = parse(response_to(&bench.last_sent(), 200).into());
        assert_eq!(here.foreign_shard(&response), Some(9));
        assert_eq!(bench.layer.foreign_shard(&response), None);
        let stranger = request(Udp, &["OPTIONS"]);
        assert_eq!(here.foreign_shard(&stranger), None, "requests belong to whoever got them");
        let stray = parse(response_to(&stranger, 200).into());
        assert_eq!(here.foreign_shard(&stray), None, "not a branch of ours");
    }

    #[test]
    fn an_old_server_id_never_answers_a_new_request() {
        let mut bench = Bench::new(Tcp, Config::default());
        bench.play_on("0 recv OPTIONS\n0 tell Request OPTIONS\n0 answer 200\n0 send 200 OPTIONS");
        let old = bench.id.unwrap();
        bench.play_on("1 recv OPTIONS cseq=2 branch=z9hG4bK-2\n1 tell Request OPTIONS");
        assert_ne!(bench.id, Some(old));
        bench.layer.respond(old, &ResponseDraft::new(404), bench.start + bench.now);
        assert!(bench.layer.poll_transmit().is_none());
        bench.play("2 answer 200\n2 send 200 OPTIONS");
    }

    #[test]
    fn a_full_table_answers_503_with_retry_after_and_refuses_requests_of_the_user() {
        let mut bench = Bench::new(Udp, Config { max_transactions: 3, ..Config::default() });
        bench.play_on(
            "0     recv OPTIONS branch=z9hG4bK-1 cseq=1
             0     tell Request OPTIONS
             0     recv OPTIONS branch=z9hG4bK-2 cseq=2
             0     tell Request OPTIONS
             0     recv OPTIONS branch=z9hG4bK-3 cseq=3
             0     tell Request OPTIONS
             0     recv OPTIONS branch=z9hG4bK-4 cseq=4
             0     send 503 OPTIONS
             0     open 3",
        );
        assert_eq!(bench.last_sent().header(HeaderId::RetryAfter), Some(b"10".as_slice()));
        let key = ClientKey { owner: 5, seq: 1 };
        let to = Destination { flow: bench.flow, stream_first: false };
        let refused = bench.layer.request(key, draft("BYE", 0), to, bench.start);
        assert_eq!(refused, Err(Full { max: 3 }));
        assert!(bench.layer.poll_transmit().is_none());
        // The known ones go on, and ACKs and CANCELs need no room.
        bench.play(
            "1     recv OPTIONS branch=z9hG4bK-1 cseq=1
             1     recv ACK
             1     tell Ack
             1     recv CANCEL branch=z9hG4bK-3
             1     send 200 CANCEL
             1     answer 200
             1     send 200 OPTIONS
             3.5   send 100 OPTIONS
             3.5   send 100 OPTIONS
             32    tell Unanswered
             32    tell Unanswered
             33    over",
        );
    }

    #[test]
    fn new_requests_leave_room_for_dialogs_and_those_leave_room_for_ours() {
        let mut bench = Bench::new(Udp, Config { max_transactions: 32, ..Config::default() });
        for number in 1..=40 {
            let words = format!("OPTIONS branch=z9hG4bK-{number} cseq={number}");
            let words: Vec<&str> = words.split(' ').collect();
            bench.layer.handle_message(request(Udp, &words), bench.flow, bench.start);
        }
        assert_eq!(bench.layer.open(), 30);
        for number in 41..=43 {
            let words = format!("BYE branch=z9hG4bK-{number} cseq={number} to=ours");
            let words: Vec<&str> = words.split(' ').collect();
            bench.layer.handle_message(request(Udp, &words), bench.flow, bench.start);
        }
        assert_eq!(bench.layer.open(), 31, "half of what is kept is for dialogs");
        let to = Destination { flow: bench.flow, stream_first: false };
        for (seq, refused) in [(1, false), (2, true)] {
            let key = ClientKey { owner: 5, seq };
            assert_eq!(bench.layer.request(key, draft("BYE", 0), to, bench.start).is_err(), refused);
        }
    }

    #[test]
    fn a_large_request_goes_by_tcp_and_falls_back_to_udp_with_a_new_via() {
        let mut bench = Bench::new(Udp, Config::default());
        bench.play_on(
            "0     ask INVITE bytes=1300
             0     send INVITE tcp",
        );
        let by_tcp = bench.last_sent();
        assert_eq!(by_tcp.via().unwrap().transport(), Some(Tcp));
        assert_eq!(bench.wire[0].flow.conn, ConnId(0));
        bench.play_on(
            "1     broken tcp
             1     send INVITE",
        );
        let by_udp = bench.last_sent();
        assert_eq!(by_udp.via().unwrap().transport(), Some(Udp));
        assert_ne!(by_udp.via().unwrap().branch(), by_tcp.via().unwrap().branch());
        bench.play_on(
            "1.5   send INVITE
             1.6   recv 200
             1.6   tell Response 200
             # for a while nobody tries TCP there again
             2     ask MESSAGE bytes=1300
             2     send MESSAGE
             2.1   recv 200 MESSAGE
             2.1   tell Response 200
             302   ask MESSAGE bytes=1300
             302   send MESSAGE tcp
             302.1 recv 200 MESSAGE
             302.1 tell Response 200",
        );
        assert_eq!(bench.layer.open(), 0);
    }

    #[test]
    fn a_large_request_that_was_answered_by_tcp_does_not_fall_back() {
        ladder(
            Udp,
            "0     ask INVITE bytes=1300
             0     send INVITE tcp
             0.1   recv 100
             0.1   tell Response 100
             1     broken tcp conn=3
             2     recv 486
             2     send ACK tcp
             2     tell Response 486
             2     open 0",
        );
    }

    #[test]
    fn a_wish_to_cancel_outlives_the_fall_back() {
        ladder(
            Udp,
            "0     ask INVITE bytes=1300
             0     send INVITE tcp
             0.1   cancel
             1     broken tcp conn=3
             1     send INVITE
             1.2   recv 180
             1.2   send CANCEL
             1.2   tell Response 180
             1.3   recv 487 INVITE
             1.3   send ACK
             1.3   tell Response 487",
        );
    }

    #[test]
    fn an_error_of_another_peer_listener_or_connection_concerns_nobody() {
        let mut bench = Bench::new(Tcp, Config::default());
        bench.play_on("0 ask INVITE\n0 send INVITE");
        let own = bench.flow;
        let others = [
            Flow { conn: ConnId(8), ..own },
            Flow { conn: ConnId(0), ..own },
            Flow { transport: Transport::Tls, ..own },
            Flow { transport: Transport::Udp, ..own },
            Flow { remote: "198.51.100.2:40001".parse().unwrap(), ..own },
            Flow { remote: "198.51.100.3:40000".parse().unwrap(), ..own },
            Flow { remote: "[2001:db8::1]:40000".parse().unwrap(), ..own },
        ];
        for other in others {
            bench.layer.handle_transport_error(other, bench.start);
            assert!(bench.layer.poll_event().is_none(), "{other:?}");
        }
        bench.play("1 broken\n1 tell TransportError");
    }

    #[test]
    fn the_ack_of_a_2xx_has_a_branch_of_its_own_and_no_transaction() {
        let mut bench = Bench::new(Udp, Config::default());
        let to = Destination { flow: bench.flow, stream_first: true };
        bench.layer.send_ack(draft("ACK", 0), to);
        bench.layer.send_ack(draft("ACK", 0), to);
        let mut branch = || {
            let ack = parse(bench.layer.poll_transmit().unwrap().bytes);
            assert_eq!(ack.method(), Method::Ack);
            ack.via().unwrap().branch().unwrap().to_owned()
        };
        assert_ne!(branch(), branch());
        assert_eq!((bench.layer.open(), bench.layer.poll_timeout()), (0, None));
    }

    #[test]
    fn a_request_by_a_listener_that_does_not_exist_is_a_transport_error() {
        let mut bench = Bench::new(Udp, Config::default());
        bench.flow.listener = 99;
        bench.play("0 ask OPTIONS\n0 tell TransportError");
    }

    #[test]
    fn floods_of_hostile_messages_make_no_state() {
        let mut bench = Bench::new(Udp, Config::default());
        bench.play_on("0 recv INVITE\n0 send 100 INVITE\n0 tell Request INVITE");
        for number in 0..5000 {
            let branch = format!("branch=z9hG4bK-x{number}");
            for method in ["ACK", "CANCEL"] {
                bench.layer.handle_message(request(Udp, &[method, &branch]), bench.flow, bench.start);
            }
            let stray = response_to(&request(Udp, &["INVITE", &branch]), 200);
            bench.layer.handle_message(parse(stray.into()), bench.flow, bench.start);
            let merged = request(Udp, &["INVITE", &branch]);
            bench.layer.handle_message(merged, bench.flow, bench.start);
        }
        assert_eq!(bench.layer.open(), 1);
        let transmits = std::iter::from_fn(|| bench.layer.poll_transmit()).count();
        let events = std::iter::from_fn(|| bench.layer.poll_event()).count();
        assert_eq!((transmits, events), (10_000, 5000), "481 and 482; ACKs");
    }
}
