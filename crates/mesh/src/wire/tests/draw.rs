//! Draws messages of every kind by a seed, with all their fields.

use bytes::Bytes;
use cluster::between::*;
use cluster::ids::{CallId, LegId, NodeId};
use cluster::leg::{
    Callee, DIVERSIONS_MAX, Diversion, Incoming, LegCommand, LegEvent, Origin, Originate, Presented,
};
use cluster::media::{MediaCommand, MediaError, MediaEvent, MediaLeg, MediaReply, Signalling};
use cluster::question::{Answer, CallsOf, DrainState, HeldCall, HeldLeg, NodeState, Question};
use model::{Aor, BindingRecord, E164, FlowRecord, Id, LegRole, MediaReport};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sip::draft::HeaderText;
use sip::flow::{ConnId, Flow, Transport};
use sip::msg::Method;
use sip::session::{EndCause, OfferVia};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

pub(super) struct Draw(StdRng);

impl Draw {
    pub(super) fn new(seed: u64) -> Draw {
        Draw(StdRng::seed_from_u64(seed))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Draw) -> T) -> Option<T> {
        self.0.random_bool(0.6).then(|| make(self))
    }

    fn some<T>(&mut self, most: usize, make: impl Fn(&mut Draw) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    fn number(&mut self) -> u64 {
        let bits = self.below(64);
        self.0.random::<u64>() >> bits
    }

    fn status(&mut self, from: u16, to: u16) -> u16 {
        self.0.random_range(from..=to)
    }

    fn text(&mut self) -> String {
        self.some(20, |draw| draw.of(&['a', '7', ' ', '\r', '\n', '"', 'ä', '☎', '\0', ';']))
            .into_iter()
            .collect()
    }

    fn body(&mut self) -> Bytes {
        self.some(60, |draw| draw.0.random::<u8>()).into()
    }

    fn headers(&mut self) -> HeaderText {
        let mut lines = HeaderText::new();
        for _ in 0..self.below(4) {
            let name = self.of(&["Subject", "X-Test", "Alert-Info", "Reason", "not a name"]);
            lines.push(name, self.text());
        }
        lines
    }

    fn node(&mut self) -> NodeId {
        NodeId(self.0.random_range(1..=u16::MAX))
    }

    fn call(&mut self) -> CallId {
        let number = self.number();
        CallId::new(self.node(), number)
    }

    fn leg(&mut self) -> LegId {
        let (worker, number) = (self.0.random(), self.number());
        LegId::new(self.node(), worker, number)
    }

    fn id<K>(&mut self) -> Id<K> {
        Id::new(self.0.random_range(1..=u32::MAX))
    }

    fn title(&mut self) -> Title {
        Title { call: self.call(), epoch: self.0.random() }
    }

    fn ip(&mut self) -> IpAddr {
        if self.0.random() { self.0.random::<[u8; 4]>().into() } else { self.0.random::<[u8; 16]>().into() }
    }

    fn address(&mut self) -> SocketAddr {
        let port = self.0.random();
        match self.ip() {
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.of(&[0, 0, 2])).into(),
            ip => SocketAddr::new(ip, port),
        }
    }

    fn event(&mut self) -> LegEvent {
        match self.below(16) {
            15 => LegEvent::Tagged { tag: self.text() },
            0 => LegEvent::Progress {
                status: self.status(101, 199),
                sdp: self.maybe(Draw::body),
                fork: self.0.random(),
            },
            1 => LegEvent::Answered { sdp: self.maybe(Draw::body), fork: self.0.random() },
            2 => LegEvent::Rejected {
                status: self.status(300, 699),
                reason: self.text(),
                headers: self.headers(),
            },
            3 => LegEvent::Confirmed { sdp: self.maybe(Draw::body) },
            4 => LegEvent::Cancelled { reason: self.maybe(Draw::text) },
            5 => {
                let all = [
                    OfferVia::Invite,
                    OfferVia::Response,
                    OfferVia::Reliable,
                    OfferVia::Prack,
                    OfferVia::Update,
                ];
                LegEvent::Offer { sdp: self.maybe(Draw::body), via: self.of(&all) }
            }
            6 => LegEvent::OfferWithdrawn,
            7 => LegEvent::Answer { sdp: self.body() },
            8 => LegEvent::OfferRejected { status: self.status(300, 699) },
            9 => LegEvent::Info { content_type: self.text(), body: self.body() },
            10 => LegEvent::Message { content_type: self.text(), body: self.body() },
            11 => LegEvent::Refer { refer_to: self.text(), referred_by: self.maybe(Draw::text) },
            12 => LegEvent::Notify {
                event: self.text(),
                subscription_state: self.text(),
                content_type: self.text(),
                body: self.body(),
            },
            13 => {
                let other = Method::parse(b"NEWTHING").unwrap();
                LegEvent::Replied {
                    method: self.of(&[Method::Info, Method::Message, Method::Refer, Method::Notify, other]),
                    status: self.status(200, 699),
                }
            }
            _ => {
                let all = [
                    EndCause::Bye,
                    EndCause::Refused,
                    EndCause::Cancelled,
                    EndCause::NoAck,
                    EndCause::NoPrack,
                    EndCause::NoAnswer,
                    EndCause::SessionExpired,
                    EndCause::Gone,
                    EndCause::TransactionFailed,
                ];
                LegEvent::Ended {
                    by_peer: self.0.random(),
                    cause: self.of(&all),
                    reason: self.maybe(Draw::text),
                }
            }
        }
    }

    fn command(&mut self) -> LegCommand {
        match self.below(15) {
            0 => LegCommand::Progress {
                status: self.status(101, 199),
                sdp: self.maybe(Draw::body),
                headers: self.headers(),
            },
            1 => LegCommand::Accept { sdp: self.maybe(Draw::body), headers: self.headers() },
            2 => LegCommand::Reject {
                status: self.status(300, 699),
                reason: self.maybe(Draw::text),
                headers: self.headers(),
            },
            3 => LegCommand::Cancel { reason: self.maybe(Draw::text) },
            4 => LegCommand::Reoffer { sdp: self.maybe(Draw::body), prefer_update: self.0.random() },
            5 => LegCommand::Answer { sdp: self.body() },
            6 => LegCommand::RejectOffer { status: self.status(400, 699) },
            7 => LegCommand::Info { content_type: self.text(), body: self.body(), headers: self.headers() },
            8 => {
                LegCommand::Message { content_type: self.text(), body: self.body(), headers: self.headers() }
            }
            9 => LegCommand::Refer {
                refer_to: self.text(),
                referred_by: self.maybe(Draw::text),
                headers: self.headers(),
            },
            10 => LegCommand::Notify {
                event: self.text(),
                subscription_state: self.text(),
                content_type: self.text(),
                body: self.body(),
            },
            11 => LegCommand::RespondInfo { status: self.status(200, 699) },
            12 => LegCommand::RespondMessage { status: self.status(200, 699) },
            13 => LegCommand::RespondRefer { status: self.status(200, 699) },
            _ => LegCommand::Bye { reason: self.maybe(Draw::text) },
        }
    }

    fn incoming(&mut self) -> Incoming {
        Incoming {
            call: self.call(),
            leg: self.leg(),
            brand: self.id(),
            client: self.id(),
            origin: self.origin(),
            caller: self.presented(),
            dialed: self.text(),
            offer: self.maybe(Draw::body),
            headers: self.headers(),
            sip_call_id: self.text(),
            source: self.address(),
            max_forwards: self.0.random(),
        }
    }

    fn aor(&mut self) -> Aor {
        Aor::from_bits(self.0.random_range(1..=u32::MAX))
    }

    fn e164(&mut self) -> E164 {
        format!("+{}", self.0.random_range(1..=999_999_999_999_999u64)).parse().unwrap()
    }

    fn origin(&mut self) -> Origin {
        match self.0.random_range(0..3) {
            0 => Origin::Endpoint { aor: self.aor(), user: self.maybe(Draw::id) },
            1 => Origin::Wholesale,
            _ => Origin::Ddi {
                ddi: self.id(),
                provider: self.id(),
                called: self.e164(),
                caller: self.maybe(Draw::e164),
            },
        }
    }

    fn diversion(&mut self) -> Diversion {
        Diversion { number: self.text(), reason: self.text() }
    }

    fn presented(&mut self) -> Presented {
        Presented {
            number: self.maybe(Draw::text),
            name: self.text(),
            is_private: self.0.random(),
            diversions: self.some(DIVERSIONS_MAX, Draw::diversion),
            charge: self.maybe(Draw::text),
            x_tag: self.maybe(Draw::text),
        }
    }

    fn order(&mut self) -> Originate {
        let all = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
        Originate {
            home: NodeId(0), // whoever is told is the home
            call: self.call(),
            to: match self.0.random_range(0..3) {
                0 => Callee::Binding {
                    aor: self.aor(),
                    target: self.text(),
                    route: self.some(4, Draw::text),
                    flow: Flow {
                        transport: self.of(&all),
                        listener: self.0.random(),
                        remote: self.address(),
                        conn: ConnId(self.number()),
                    },
                },
                1 => Callee::Direct { aor: self.aor() },
                _ => Callee::Server { server: self.id() },
            },
            caller_name: self.text(),
            caller_number: self.text(),
            is_private: self.0.random(),
            called_number: self.text(),
            domain: self.text(),
            diversions: self.some(DIVERSIONS_MAX, Draw::diversion),
            charge: self.maybe(Draw::text),
            offer: self.maybe(Draw::body),
            headers: self.headers(),
            max_forwards: self.0.random(),
        }
    }

    fn capsule(&mut self) -> Capsule {
        let kept = |draw: &mut Draw| KeptLeg { leg: draw.leg(), home: draw.node(), state: draw.body() };
        Capsule {
            version: self.0.random(),
            client: self.maybe(Draw::id),
            call: self.body(),
            legs: self.some(3, kept),
            custodians: self.some(3, Draw::node),
        }
    }

    fn stand(&mut self) -> Stand {
        let happened = |draw: &mut Draw| Happened {
            leg: draw.leg(),
            unix_us: draw.0.random(),
            event: draw.maybe(Draw::event),
        };
        Stand {
            title: self.title(),
            incoming: self.maybe(|draw| Box::new(draw.incoming())),
            capsule: self.capsule(),
            legs: self.some(3, Draw::leg),
            happened: self.some(4, happened),
        }
    }

    pub(super) fn calls_item(&mut self) -> ToCalls {
        match self.below(12) {
            0 => ToCalls::Incoming { title: self.title(), incoming: Box::new(self.incoming()) },
            1 => ToCalls::Event { title: self.title(), leg: self.leg(), event: self.event() },
            2 => ToCalls::LegLost { title: self.title(), leg: self.leg() },
            3 => ToCalls::LegState { title: self.title(), leg: self.leg(), state: self.body() },
            4 => ToCalls::Offer(Box::new(self.stand())),
            5 => ToCalls::Claimed(Box::new(self.stand())),
            6 => {
                let by = Owner { epoch: self.0.random(), node: self.node() };
                ToCalls::Superseded { title: self.title(), by }
            }
            7 => ToCalls::NotHere { title: self.title(), leg: self.maybe(Draw::leg) },
            8 => ToCalls::Stray { ticket: self.number(), call: self.call(), leg: self.leg() },
            9 => ToCalls::Revived { title: self.title(), leg: self.leg(), lives: self.0.random() },
            10 => ToCalls::Leaves { title: self.title(), leg: self.leg() },
            _ => ToCalls::Names(LegNames {
                worker: self.0.random(),
                first: self.number() >> 24,
                count: self.0.random(),
            }),
        }
    }

    pub(super) fn legs_item(&mut self) -> ToLegs {
        match self.below(10) {
            0 => {
                let all =
                    [Decline::Full, Decline::Draining, Decline::NoRecords, Decline::Format, Decline::Unknown];
                ToLegs::Decline { title: self.title(), why: self.of(&all) }
            }
            1 => ToLegs::Originate {
                title: self.title(),
                leg: self.leg(),
                sip_call_id: self.text(),
                order: Box::new(self.order()),
            },
            2 => ToLegs::Command { title: self.title(), leg: self.leg(), command: self.command() },
            3 => ToLegs::Keep { title: self.title(), capsule: Box::new(self.capsule()) },
            4 => ToLegs::Claim { title: self.title() },
            5 => ToLegs::Done { title: self.title() },
            6 => ToLegs::Revive {
                title: self.title(),
                leg: self.leg(),
                ticket: self.maybe(Draw::number),
                state: self.body(),
            },
            7 => ToLegs::Part { title: self.title(), leg: self.leg() },
            8 => ToLegs::NoStray { ticket: self.number() },
            _ => ToLegs::Names,
        }
    }

    pub(super) fn relay_item(&mut self) -> ToRelay {
        let (from, to) = (MediaLeg(self.0.random()), MediaLeg(self.0.random()));
        let command = match self.below(6) {
            0 => MediaCommand::Offer { from, to, sdp: self.body() },
            1 => MediaCommand::Answer { from, to, sdp: self.body() },
            2 => MediaCommand::Withdraw { from, to },
            3 => MediaCommand::Release { leg: from },
            4 => MediaCommand::Stop,
            _ => MediaCommand::Close,
        };
        let (from, to) = (self.maybe(Draw::ip), self.maybe(Draw::ip));
        let signalling = Signalling { from, to, anywhere: self.0.random() };
        ToRelay::Submit { call: self.call(), ticket: self.0.random(), command, signalling }
    }

    fn report(&mut self) -> MediaReport {
        MediaReport {
            packets_received: self.number(),
            bytes_received: self.number(),
            packets_sent: self.number(),
            bytes_sent: self.number(),
            lost: self.number(),
            jitter_us: self.0.random(),
            reported_lost: self.maybe(Draw::number),
            reported_jitter_us: self.maybe(|draw| draw.0.random()),
            round_trip_us: self.maybe(|draw| draw.0.random()),
            mos_hundredths: self.maybe(|draw| draw.0.random()),
            dropped: self.number(),
        }
    }

    pub(super) fn media_item(&mut self) -> FromRelay {
        let reply = match self.below(9) {
            0 => MediaReply::Sdp(self.body()),
            1 => MediaReply::Done,
            2 => MediaReply::Report(self.some(3, |draw| (MediaLeg(draw.0.random()), draw.report()))),
            3 => MediaReply::Refused(MediaError::NoPorts),
            4 => MediaReply::Refused(MediaError::BadSdp(self.text())),
            5 => MediaReply::Refused(MediaError::OutOfStep("so the relay says")),
            6 => MediaReply::Refused(MediaError::Superseded),
            7 => return FromRelay::Event { call: self.call(), event: MediaEvent::Unclaimed },
            _ => {
                let event = MediaEvent::Silent { leg: MediaLeg(self.0.random()) };
                return FromRelay::Event { call: self.call(), event };
            }
        };
        FromRelay::Reply { call: self.call(), ticket: self.0.random(), reply }
    }

    fn located(&mut self) -> Located {
        Located {
            binding: BindingRecord {
                aor: self.aor(),
                contact: self.text(),
                instance: self.maybe(Draw::text),
                reg_id: self.maybe(|draw| draw.0.random()),
                call_id: self.text(),
                cseq: self.0.random(),
                q: self.0.random_range(0..=1000),
                expires_at: self.0.random(),
                path: self.some(3, Draw::text),
                user_agent: self.text(),
                flow: FlowRecord {
                    transport: self.text(),
                    listener: self.0.random(),
                    remote: self.address(),
                },
                nat: self.0.random(),
            },
            home: self.node(),
            conn: self.number(),
            stamp_us: self.0.random(),
        }
    }

    fn counted(&mut self) -> Counted {
        match self.below(4) {
            0 => Counted::Brand(self.id()),
            1 => Counted::Client(self.id()),
            2 => Counted::User(self.id()),
            _ => Counted::Attempts(self.id()),
        }
    }

    pub(super) fn directory_item(&mut self) -> DirectoryItem {
        match self.below(13) {
            0 => DirectoryItem::Whole,
            1 => DirectoryItem::WholeTold,
            2 => DirectoryItem::Bound(Box::new(self.located())),
            12 => DirectoryItem::Orphan(Box::new(self.located())),
            3 => DirectoryItem::Unbound { aor: self.aor(), contact: self.text(), stamp_us: self.0.random() },
            4 => DirectoryItem::Forget {
                aor: self.aor(),
                contact: self.maybe(Draw::text),
                before_us: self.0.random(),
            },
            5 => DirectoryItem::Reserve {
                ticket: self.number(),
                partition: self.0.random(),
                call: self.call(),
                epoch: self.0.random(),
                counts: self.some(4, |draw| (draw.counted(), draw.0.random())),
            },
            6 => DirectoryItem::Reserved {
                ticket: self.number(),
                full: self.maybe(Draw::counted),
                fence: self.number(),
            },
            7 => DirectoryItem::Ask { ticket: self.number(), question: self.question() },
            8 => DirectoryItem::Answer { ticket: self.number(), answer: self.answer() },
            9 => DirectoryItem::Release {
                partition: self.0.random(),
                call: self.call(),
                counts: self.some(4, Draw::counted),
            },
            10 => DirectoryItem::Recount { partition: self.0.random(), fence: self.number() },
            _ => DirectoryItem::Holds {
                partition: self.0.random(),
                fence: self.number(),
                instance: self.number(),
                calls: self.some(3, |draw| Hold {
                    call: draw.call(),
                    epoch: draw.0.random(),
                    counts: draw.some(3, Draw::counted),
                }),
                complete: self.0.random(),
            },
        }
    }

    fn question(&mut self) -> Question {
        match self.below(7) {
            0 => Question::Calls {
                of: CallsOf {
                    brand: self.maybe(Draw::id),
                    client: self.maybe(Draw::id),
                    call: self.maybe(Draw::call),
                    text: self.text(),
                },
                after: self.maybe(|draw| (draw.0.random(), draw.call())),
                limit: self.0.random_range(0..=1024),
            },
            1 => Question::Count { brand: self.maybe(Draw::id), client: self.maybe(Draw::id) },
            2 => Question::HangUp(self.call()),
            3 => Question::State,
            4 => Question::Drain { undo: self.0.random() },
            5 => Question::Keeps(self.call()),
            _ => Question::Unbind { aor: self.aor(), contact: self.maybe(Draw::text) },
        }
    }

    fn answer(&mut self) -> Answer {
        match self.below(4) {
            0 => Answer::Calls {
                calls: self.some(3, Draw::held_call),
                total: self.0.random(),
                more: self.0.random(),
            },
            1 => Answer::Count(self.0.random()),
            2 => Answer::State(NodeState {
                calls: self.0.random(),
                legs: self.0.random(),
                sessions: self.0.random(),
                bindings: self.0.random(),
                adopted_total: self.number(),
                let_go_total: self.number(),
                uptime: self.number(),
                lease_certain: self.0.random(),
                drain: self.maybe(|draw| DrainState {
                    left_ms: draw.0.random(),
                    done: draw.0.random(),
                    ending: draw.0.random(),
                }),
            }),
            _ => Answer::Refused(self.text()),
        }
    }

    fn held_call(&mut self) -> HeldCall {
        HeldCall {
            call: self.call(),
            epoch: self.0.random(),
            brand: self.id(),
            client: self.id(),
            caller: (self.text(), self.text()),
            callee: (self.text(), self.text()),
            dialled: self.text(),
            started_us: self.0.random(),
            answered_us: self.maybe(|draw| draw.0.random()),
            legs: self.some(3, |draw| HeldLeg {
                role: draw.of(&[LegRole::Caller, LegRole::Callee, LegRole::Answerer]),
                sip_call_id: draw.text(),
                endpoint: draw.text(),
            }),
        }
    }
}
