//! Ladders of the call core: an event a line, and what the call does about it. The relay is one that marks what it rewrote
//! as `r(…)`, and `r2(…)` where it is not the first; places and bindings are given by the test.

mod capsules;
mod relays;
mod trunks;

use super::*;
use crate::places::Places;
use bytes::Bytes;
use cluster::between::{Counted, Happened, Title};
use cluster::counters::Limits as _;
use cluster::ids::NodeId;
use cluster::leg::{Callee, Origin, Presented};
use cluster::media::MediaError;
use model::Snapshot;
use model::{Aor, Configuration, Id, LegRole, MediaReport, RejectionMethod};
use sip::flow::{ConnId, Flow, Transport};
use sip::session::{EndCause, OfferVia};
use std::cell::Cell;
use std::time::Duration;

/// Nobody has this extension, and it is no number of the world.
const NO_999: &str = "dial 999 offer => alice 404, record 404 Platform unanswered (999 is no extension, no friend has it, and \
    999 is no number in E.164: no rule of the caller, who has no transformation rule set, fits it; add one to it)";

thread_local! {
    /// Whenever a call talks and is at rest, somebody else carries it on.
    static ADOPTING: Cell<bool> = const { Cell::new(false) };
}

struct Test {
    configuration: Configuration,
    /// Instead of the configuration.
    rates: Option<Arc<Rates>>,
    /// Who calls; alice unless a test says otherwise.
    origin: Origin,
    client: Id<Client>,
    caller: Presented,
    orders: Vec<Originate>,
    silent: Vec<Id<CarrierServer>>,
    bindings: usize,
    places: Places,
    /// What the call counts for.
    held: Vec<Claim>,
    /// Whoever counts answers later.
    hold_verdicts: bool,
    asked_for: Vec<(u32, Vec<Claim>)>,
    relay: Relay,
    call: Option<Call>,
    names: Vec<(LegId, String)>,
    targets: Vec<String>,
    now: Instant,
    unix_us: i64,
    records: Vec<Cdr>,
    notes: Vec<OpenCall>,
    hold_records: bool,
    /// These relays do not answer.
    dead: Vec<NodeId>,
    /// Every request to a relay.
    asked: Vec<(NodeId, u32, MediaCommand)>,
    /// The last capsule, and the version that it had.
    kept: Option<(u32, Bytes)>,
    largest_capsule: usize,
    adoptions: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Relay {
    Works,
    Full,
    /// Serves that many offers and answers; then its ports are out.
    Runs(usize),
    Picky,
    /// Refuses what is called `bad`.
    Particular,
}

impl World for Test {
    fn rates(&self) -> Arc<Rates> {
        let small = || Arc::new(Rates::new(Snapshot::build(&self.configuration).unwrap()));
        self.rates.clone().unwrap_or_else(small)
    }

    fn answers(&self, server: Id<CarrierServer>) -> bool {
        !self.silent.contains(&server)
    }

    fn random(&self) -> u64 {
        0
    }

    fn ring_time(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn bindings(&self, _: Aor) -> Vec<Binding> {
        let flow = |port| Flow {
            transport: Transport::Udp,
            listener: 0,
            remote: ([192, 0, 2, 1], port).into(),
            conn: ConnId(0),
        };
        (1..=self.bindings)
            .map(|n| Binding {
                contact: format!("sip:bob@192.0.2.1:{n}"),
                path: Vec::new(),
                flow: flow(n as u16),
                q: 1000,
                newness: n as u64,
                home: NodeId(1),
            })
            .collect()
    }

    fn choose_relay(&self, _: Id<Client>, _: CallId, _: LegId) -> Option<NodeId> {
        Some(NodeId(1))
    }
}

impl Test {
    fn new(bindings: usize) -> Self {
        Self {
            configuration: Configuration::demo(),
            rates: None,
            origin: Origin::Endpoint { aor: Aor::from_bits(1), user: Some(Id::new(1)) },
            client: Id::new(1),
            caller: Presented::default(),
            orders: Vec::new(),
            silent: Vec::new(),
            bindings,
            places: Places::default(),
            held: Vec::new(),
            hold_verdicts: false,
            asked_for: Vec::new(),
            relay: Relay::Works,
            call: None,
            names: Vec::new(),
            targets: Vec::new(),
            now: Instant::now(),
            unix_us: 1_000_000,
            records: Vec::new(),
            notes: Vec::new(),
            hold_records: false,
            dead: Vec::new(),
            asked: Vec::new(),
            kept: None,
            largest_capsule: 0,
            adoptions: 0,
        }
    }

    fn time(&self) -> Now {
        Now { mono: self.now, unix_us: self.unix_us }
    }

    /// Alice dials; `offer` empty means a delayed offer.
    fn dial(&mut self, dialed: &str, offer: &'static str) -> String {
        let leg = LegId::new(NodeId(1), 0, 100);
        self.names = vec![(leg, "alice".to_owned())];
        let incoming = Incoming {
            call: CallId::new(NodeId(1), 1),
            leg,
            brand: Id::new(1),
            client: self.client,
            origin: self.origin,
            caller: self.caller.clone(),
            dialed: dialed.to_owned(),
            offer: (!offer.is_empty()).then(|| Bytes::from(offer)),
            headers: HeaderText::default(),
            sip_call_id: "a@phone".to_owned(),
            source: ([192, 0, 2, 9], 5060).into(),
            max_forwards: 69,
        };
        let mut call = Call::new(&incoming, self.time());
        call.set_up(incoming, self, self.time());
        self.kept = None;
        self.over();
        self.call = Some(call);
        self.drain()
    }

    /// `who[/fork] event [argument]`, as in `bob1 180 sdp`.
    fn on(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let (who, what, argument) = (words.next().unwrap(), words.next().unwrap(), words.next());
        let (who, fork) = who.split_once('/').unwrap_or((who, "0"));
        let fork = fork.parse().unwrap();
        let sdp = argument.map(|text| Bytes::from(text.to_owned()));
        let mut headers = HeaderText::default();
        let event = match what {
            "200" => LegEvent::Answered { sdp, fork },
            "tag" => LegEvent::Tagged { tag: argument.unwrap().to_owned() },
            "ack" => LegEvent::Confirmed { sdp },
            "bye" => LegEvent::Ended { by_peer: true, cause: EndCause::Bye, reason: None },
            "expired" => LegEvent::Ended { by_peer: false, cause: EndCause::SessionExpired, reason: None },
            "cancel" => LegEvent::Cancelled { reason: None },
            "offers" => LegEvent::Offer { sdp, via: OfferVia::Invite },
            "counter-offers" => LegEvent::Offer { sdp, via: OfferVia::Response },
            "answers" => LegEvent::Answer { sdp: sdp.unwrap() },
            "withdraws" => LegEvent::OfferWithdrawn,
            "refuses" => LegEvent::OfferRejected { status: argument.unwrap().parse().unwrap() },
            "info" => {
                LegEvent::Info { content_type: "application/dtmf-relay".to_owned(), body: Bytes::new() }
            }
            "info-ok" => LegEvent::Replied { method: sip::msg::Method::Info, status: 200 },
            status => match status.parse().unwrap() {
                status @ 101..=199 => LegEvent::Progress { status, sdp, fork },
                status => {
                    headers.push("Contact", "<sip:elsewhere>");
                    headers.push("Error-Info", "<http://phone.example/>");
                    headers.push("Warning", "399 phone.example \"x\"");
                    argument.into_iter().for_each(|text| headers.push("Retry-After", text));
                    LegEvent::Rejected { status, reason: String::new(), headers }
                }
            },
        };
        let leg = self.names.iter().find(|(_, name)| name == who).expect(who).0;
        let time = self.time();
        self.call.as_mut().unwrap().leg_event(leg, event, time);
        self.drain()
    }

    fn pass(&mut self, seconds: u64) -> String {
        self.now += Duration::from_secs(seconds);
        let time = self.time();
        self.call.as_mut().unwrap().handle_timeout(time);
        self.drain()
    }

    fn drain(&mut self) -> String {
        let done = self.carry_out();
        self.keep();
        done
    }

    /// Looks whether the version grows with the capsule, and has somebody else carry the call on.
    fn keep(&mut self) {
        let Some(call) = self.call.as_ref() else { return };
        let Some(capsule) = call.capsule() else { return };
        let bytes = capsule.encode();
        if let Some((version, before)) = &self.kept {
            assert!(*before == bytes || call.version() > *version, "another capsule under the same version");
        }
        self.kept = Some((call.version(), bytes.clone()));
        self.largest_capsule = self.largest_capsule.max(bytes.len());
        if ADOPTING.get() && matches!(call.phase, Phase::Talking(_)) {
            let notes = self.notes.len();
            self.adopt(Vec::new());
            let done = self.carry_out();
            let callee = if done.contains("bob2") { "bob2" } else { "bob1" };
            assert_eq!(done, carried_on(callee));
            assert_eq!(self.notes.len(), notes);
            self.adoptions += 1;
        }
    }

    /// Somebody else carries the call on from its bytes.
    fn adopt(&mut self, happened: Vec<Happened>) {
        let capsule = self.call.as_ref().unwrap().capsule().expect("at rest");
        let bytes = capsule.encode();
        let capsule = Capsule::decode(&bytes).unwrap();
        assert_eq!(capsule.encode(), bytes);
        let epoch = self.adoptions + 1;
        let call = Call::adopt(&capsule, epoch, happened, self.time());
        self.over();
        self.held = capsule.held().to_vec();
        self.places.adopt(Title { call: capsule.call(), epoch: 1 }, &self.held);
        self.call = Some(call); // drops the lost one
        self.kept = None;
    }

    fn carry_out(&mut self) -> String {
        let mut done = Vec::new();
        let time = self.time();
        let mut call = self.call.take().unwrap();
        while let Some(action) = call.poll_action() {
            match action {
                Action::Leg(leg, command) => {
                    let name = &self.names.iter().find(|(id, _)| *id == leg).unwrap().1;
                    done.push(format!("{name} {}", shown(&command)));
                }
                Action::Reserve(number, claims) if self.hold_verdicts => {
                    self.asked_for.push((number, claims));
                }
                Action::Reserve(number, claims) => {
                    let verdict = self.reserve(call.id(), &claims);
                    call.reserved(number, verdict, self, time);
                }
                Action::Release(claims) => {
                    let kept = |held: &Claim| claims.iter().all(|claim| claim.counted != held.counted);
                    self.held.retain(kept);
                    self.places.release(call.id(), &claims);
                }
                Action::Originate(slot, order) => {
                    let leg = LegId::new(NodeId(1), 0, slot as u64);
                    self.names.push((leg, format!("bob{slot}")));
                    self.targets.push(match &order.to {
                        Callee::Binding { target, .. } => target.clone(),
                        other => format!("{other:?}"),
                    });
                    self.orders.push((*order).clone());
                    done.push(format!("bob{slot} INVITE {}", text(order.offer.as_ref())));
                    call.originated(slot, leg, format!("b{slot}@us"));
                }
                Action::Media(relay, ticket, command, _) => {
                    self.asked.push((relay, ticket, command.clone()));
                    if self.dead.contains(&relay) {
                        continue;
                    }
                    let mark = |sdp: &Bytes| match relay.0 {
                        1 => MediaReply::Sdp(format!("r({})", text(Some(sdp))).into()),
                        other => MediaReply::Sdp(format!("r{other}({})", text(Some(sdp))).into()),
                    };
                    let reply = match command {
                        MediaCommand::Offer { sdp, .. } | MediaCommand::Answer { sdp, .. } => {
                            match self.relay {
                                Relay::Particular if sdp == "bad" => {
                                    MediaReply::Refused(MediaError::BadSdp("line 1".to_owned()))
                                }
                                Relay::Works | Relay::Particular => mark(&sdp),
                                Relay::Runs(left @ 1..) => {
                                    self.relay = Relay::Runs(left - 1);
                                    mark(&sdp)
                                }
                                Relay::Full | Relay::Runs(0) => MediaReply::Refused(MediaError::NoPorts),
                                Relay::Picky => MediaReply::Refused(MediaError::BadSdp("line 1".to_owned())),
                            }
                        }
                        MediaCommand::Withdraw { .. } => MediaReply::Done,
                        MediaCommand::Release { leg } => {
                            MediaReply::Report(vec![(leg, MediaReport::default())])
                        }
                        MediaCommand::Stop | MediaCommand::Close => {
                            let report = MediaReport { packets_received: 7, ..MediaReport::default() };
                            MediaReply::Report(vec![(MediaLeg(0), report)])
                        }
                    };
                    call.media_reply(ticket, reply, time);
                }
                Action::Note(open) if open.answered_us.is_some() => done.push(format!("noted {}", open.call)),
                Action::Note(open) => self.notes.push(*open),
                Action::Record(cdr) => {
                    let answered = if cdr.answered_us.is_some() { "answered" } else { "unanswered" };
                    done.push(format!(
                        "record {} {:?} {answered} ({})",
                        cdr.cause.status, cdr.hung_up_by, cdr.cause.text
                    ));
                    self.records.push(*cdr);
                    call.recorded(!self.hold_records, time);
                }
            }
        }
        if call.is_over() {
            self.over();
        }
        self.call = Some(call);
        done.join(", ")
    }

    fn reserve(&mut self, call: CallId, claims: &[Claim]) -> Verdict {
        let verdict = self.places.reserve(Title { call, epoch: 0 }, 0, claims).unwrap();
        if verdict == Verdict::Granted {
            self.held.extend_from_slice(claims);
        }
        verdict
    }

    /// The call is nobody's any more.
    fn over(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.places.release(CallId::new(NodeId(1), 1), &held);
    }

    fn calls_of(&self, user: u32) -> u32 {
        self.places.of(Counted::User(Id::new(user)))
    }
}

/// What whoever carries on a call that talks does first: a change that may have been under way is refused.
fn carried_on(callee: &str) -> String {
    format!("alice refuse 491, alice CANCEL, {callee} refuse 491, {callee} CANCEL, noted c1000000000001")
}

fn text(sdp: Option<&Bytes>) -> String {
    sdp.map_or_else(|| "-".to_owned(), |sdp| String::from_utf8_lossy(sdp).into_owned())
}

fn shown(command: &LegCommand) -> String {
    match command {
        LegCommand::Progress { status, sdp, .. } => format!("{status} {}", text(sdp.as_ref())),
        LegCommand::Accept { sdp, .. } => format!("200 {}", text(sdp.as_ref())),
        LegCommand::Reject { status, headers, .. } if headers.is_empty() => format!("{status}"),
        LegCommand::Reject { status, headers, .. } => format!("{status} {headers:?}"),
        LegCommand::Cancel { .. } => "CANCEL".to_owned(),
        LegCommand::Reoffer { sdp, .. } => format!("re-INVITE {}", text(sdp.as_ref())),
        LegCommand::Answer { sdp } => format!("answer {}", text(Some(sdp))),
        LegCommand::RejectOffer { status } => format!("refuse {status}"),
        LegCommand::Bye { .. } => "BYE".to_owned(),
        LegCommand::Info { .. } => "INFO".to_owned(),
        LegCommand::RespondInfo { status } => format!("INFO {status}"),
        other => format!("{other:?}"),
    }
}

/// Lines `event => what the call does`, beginning with `dial NUMBER OFFER`.
#[track_caller]
fn ladder(test: &mut Test, lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (event, expected) = line.split_once("=>").expect(line);
        let words: Vec<&str> = event.split_whitespace().collect();
        let done = match words[..] {
            ["dial", number] => test.dial(number, ""),
            ["dial", number, _] => test.dial(number, "o"),
            ["wait", seconds] => test.pass(seconds.parse().unwrap()),
            _ => test.on(event),
        };
        assert_eq!(done, expected.trim(), "after {event}");
    }
}

#[test]
fn a_call_is_answered_and_hung_up() {
    let mut test = Test::new(1);
    ladder(
        &mut test,
        "dial 102 offer => bob1 INVITE r(o)
         bob1 180       => alice 180 -
         bob1 200 a     => alice 200 r(a), noted c1000000000001
         alice ack      =>
         alice bye      => bob1 BYE, record 200 Caller answered (Normal clearing)",
    );
    let cdr = &test.records[0];
    assert_eq!((cdr.caller.number.as_str(), cdr.caller.name.as_str()), ("101", "Alice Allison"));
    assert_eq!((cdr.callee.number.as_str(), cdr.dialed.as_str()), ("102", "102"));
    assert_eq!((cdr.legs.len(), cdr.legs[1].sip_call_id.as_str()), (2, "b1@us"));
    assert_eq!([cdr.legs[0].role, cdr.legs[1].role], [LegRole::Caller, LegRole::Answerer]);
    assert_eq!(cdr.legs[0].media.unwrap().packets_received, 7);
    assert!(test.call.as_ref().unwrap().is_over());
    assert_eq!(test.calls_of(1) + test.calls_of(2), 0, "both are free again");
}

#[test]
fn the_callee_hangs_up() {
    ladder(
        &mut Test::new(1),
        "dial 102 offer => bob1 INVITE r(o)
         bob1 200 a     => alice 200 r(a), noted c1000000000001
         bob1 bye       => alice BYE, record 200 Callee answered (Normal clearing)",
    );
}

#[test]
fn the_caller_gives_up_while_ringing() {
    let mut test = Test::new(2);
    ladder(
        &mut test,
        "dial 102 offer => bob1 INVITE r(o), bob2 INVITE r(o)
         bob1 180       => alice 180 -
         bob2 180       =>
         alice cancel   => bob1 CANCEL, bob2 CANCEL, record 487 Caller unanswered (Cancelled)
         bob2 200 a     => bob2 BYE",
    );
    assert_eq!(test.records.len(), 1);
}

#[test]
fn the_first_answer_wins_and_a_crossing_one_is_hung_up() {
    ladder(
        &mut Test::new(2),
        "dial 102 offer => bob1 INVITE r(o), bob2 INVITE r(o)
         bob2 200 a     => bob1 CANCEL, alice 200 r(a), noted c1000000000001
         bob1 200 b     => bob1 BYE
         alice bye      => bob2 BYE, record 200 Caller answered (Normal clearing)",
    );
}

#[test]
fn early_media_of_the_first_device_is_heard() {
    ladder(
        &mut Test::new(2),
        "dial 102 offer => bob1 INVITE r(o), bob2 INVITE r(o)
         bob1 183 a     => alice 183 r(a)
         bob2 183 b     =>
         bob2 180       =>
         bob2 200 b     => bob1 CANCEL, alice 200 r(b), noted c1000000000001
         alice ack      => alice re-INVITE r(b)
         alice answers c => bob2 answer r(c)
         alice offers d  => bob2 re-INVITE r(d)",
    );
}

#[test]
fn another_device_behind_the_same_binding_answers_than_was_heard() {
    ladder(
        &mut Test::new(1),
        "dial 102 offer => bob1 INVITE r(o)
         bob1/0 183 a   => alice 183 r(a)
         bob1/1 183 b   =>
         bob1/1 200     => alice 200 r(b), noted c1000000000001
         alice ack      => alice re-INVITE r(b)",
    );
    ladder(
        &mut Test::new(1),
        "dial 102 offer => bob1 INVITE r(o)
         bob1/0 183 a   => alice 183 r(a)
         bob1/1 200 b   => alice 200 r(b), noted c1000000000001
         alice ack      => alice re-INVITE r(b)",
    );
}

#[test]
fn what_a_device_said_unheard_stands_when_it_answers() {
    let mut test = Test::new(2);
    ladder(
        &mut test,
        "dial 102 offer => bob1 INVITE r(o), bob2 INVITE r(o)
         bob1 183 a     => alice 183 r(a)
         bob2 183 b     =>
         bob2 200       => bob1 CANCEL, alice 200 r(b), noted c1000000000001
         alice ack      => alice re-INVITE r(b)
         alice answers c => bob2 answer r(c)
         alice bye      => bob2 BYE, record 200 Caller answered (Normal clearing)",
    );
    let roles: Vec<LegRole> = test.records[0].legs.iter().map(|leg| leg.role).collect();
    assert_eq!(roles, [LegRole::Caller, LegRole::Callee, LegRole::Answerer]);
}

#[test]
fn an_answer_that_never_left_is_none() {
    let mut test = Test::new(1);
    ladder(
        &mut test,
        "dial 102 offer => bob1 INVITE r(o)
         bob1 200 a     => alice 200 r(a), noted c1000000000001
         alice cancel   => bob1 BYE, record 487 Caller unanswered (Cancelled)",
    );
    assert_eq!(test.records[0].legs[1].role, LegRole::Callee);
}

#[test]
fn a_change_that_is_answered_badly_fails_and_the_session_goes_on() {
    let mut test = talking();
    test.relay = Relay::Particular;
    ladder(
        &mut test,
        "alice offers x   => bob1 re-INVITE r(x)
         bob1 answers bad => alice refuse 488, bob1 re-INVITE r(o)
         bob1 answers a   => alice answer r(a)
         bob1 offers y    => alice re-INVITE r(y)
         alice answers z  => bob1 answer r(z)",
    );
    // Whoever cannot even agree to what was there has no session.
    ladder(
        &mut test,
        "alice offers x   => bob1 re-INVITE r(x)
         bob1 answers bad => alice refuse 488, bob1 re-INVITE r(z)
         bob1 answers bad => alice BYE, bob1 BYE, record 488 Platform answered (Unusable session description)",
    );
}

#[test]
fn without_multi_contact_only_the_latest_registration_rings() {
    let mut test = Test::new(3);
    test.configuration.users.iter_mut().for_each(|user| user.multi_contact = false);
    ladder(&mut test, "dial 102 offer => bob1 INVITE r(o)");
    assert_eq!(test.targets, ["sip:bob@192.0.2.1:3"]);
}

#[test]
fn a_call_that_never_rings_is_no_attempt_and_one_that_rings_is() {
    let mut test = Test::new(1);
    let others = Claim::attempts(Id::new(1), Id::new(1), 0);
    let (call, attempts) = (CallId::new(NodeId(1), 2), Counted::Attempts(Id::new(1)));
    (0..UNANSWERED_MAX).for_each(|_| test.places.adopt(Title { call, epoch: 0 }, &[others]));
    ladder(&mut test, NO_999);
    ladder(
        &mut test,
        "dial 102 offer => alice 503, record 503 Platform unanswered (Too many unanswered calls)",
    );
    (0..UNANSWERED_MAX).for_each(|_| test.places.release(call, &[others]));
    ladder(&mut test, "dial 102 offer => bob1 INVITE r(o)");
    assert_eq!(test.places.of(attempts), 1);
    ladder(&mut test, "bob1 200 a => alice 200 r(a), noted c1000000000001");
    assert_eq!(test.places.of(attempts), 0);
}

#[test]
fn nothing_rings_before_there_is_a_place_and_a_late_one_is_not_wanted() {
    let mut test = Test { hold_verdicts: true, ..Test::new(1) };
    let answer = |test: &mut Test, verdict: Option<Verdict>| {
        let (number, claims) = test.asked_for.pop().unwrap();
        let mut call = test.call.take().unwrap();
        let verdict = verdict.unwrap_or_else(|| test.reserve(call.id(), &claims));
        call.reserved(number + 1, Verdict::Unknown, test, test.time());
        call.reserved(number, verdict, test, test.time());
        test.call = Some(call);
        test.drain()
    };
    ladder(&mut test, "dial 102 offer => ");
    let call = test.call.as_ref().unwrap();
    assert!(call.is_ringing() && call.capsule().is_none() && call.open().is_some());
    assert_eq!(answer(&mut test, None), "bob1 INVITE r(o)");
    assert_eq!((test.calls_of(1), test.calls_of(2)), (1, 1));
    ladder(&mut test, "bob1 486 => alice 486, record 486 Callee unanswered (Busy Here)");

    for (verdict, refusal) in [
        (Verdict::Unknown, "503 Platform unanswered (Whether there is a place for the call is not known)"),
        (Verdict::Full(Counted::User(Id::new(2))), "486 Platform unanswered (Call waiting limit reached)"),
        (
            Verdict::Full(Counted::Brand(Id::new(1))),
            "503 Platform unanswered (Max calls of the brand reached)",
        ),
    ] {
        ladder(&mut test, "dial 102 offer => ");
        let done = answer(&mut test, Some(verdict));
        assert_eq!(done, format!("alice {}, record {refusal}", &refusal[..3]));
    }

    ladder(&mut test, "dial 102 offer => \nalice cancel => record 487 Caller unanswered (Cancelled)");
    assert_eq!(answer(&mut test, Some(Verdict::Granted)), "", "nobody waits for it any more");

    ladder(&mut test, "dial 102 offer => ");
    let refused =
        "alice 503, record 503 Platform unanswered (Whether there is a place for the call is not known)";
    assert_eq!(test.pass(5), refused, "an answer that does not come");
    assert_eq!(test.calls_of(1) + test.calls_of(2), 0);
}

#[test]
fn a_refusal_brings_along_when_to_come_again_and_nothing_else() {
    ladder(
        &mut Test::new(2),
        r#"dial 102 offer => bob1 INVITE r(o), bob2 INVITE r(o)
         bob1 488 60    => 
         bob2 404 70    => alice 488 "Retry-After: 60\r\n", record 488 Platform unanswered (Not Acceptable Here)"#,
    );
    ladder(
        &mut Test::new(1),
        "dial 102 offer => bob1 INVITE r(o)
         bob1 405       => alice 500, record 500 Platform unanswered (Method Not Allowed)",
    );
}

#[test]
fn the_record_of_a_refused_call_has_the_figures_of_both_sides() {
    let mut test = Test::new(1);
    ladder(
        &mut test,
        "dial 102 offer => bob1 INVITE r(o)
         bob1 183 a     => alice 183 r(a)
         bob1 486       => alice 486, record 486 Callee unanswered (Busy Here)",
    );
    let heard: Vec<_> =
        test.records[0].legs.iter().map(|leg| leg.media.map(|media| media.packets_received)).collect();
    assert_eq!(heard, [Some(7), Some(0)]);
}

#[test]
fn how_devices_refuse_is_the_users_choice() {
    use RejectionMethod::{AllDevices, ByResponse, ThisDevice};
    for (method, refusal, expected) in [
        (ByResponse, "486", ""),
        (ByResponse, "603", "bob2 CANCEL, alice 603, record 603 Callee unanswered (Decline)"),
        (ThisDevice, "603", ""),
        (AllDevices, "486", "bob2 CANCEL, alice 486, record 486 Callee unanswered (Busy Here)"),
        (AllDevices, "404", ""),
    ] {
        let mut test = Test::new(2);
        test.configuration.users[1].rejection = method;
        ladder(&mut test, "dial 102 offer => bob1 INVITE r(o), bob2 INVITE r(o)");
        // The order of CANCEL and refusal follows the order of the legs: the caller's is the first.
        let mut done: Vec<String> =
            test.on(&format!("bob1 {refusal}")).split(", ").map(str::to_owned).collect();
        let mut wanted: Vec<String> = expected.split(", ").map(str::to_owned).collect();
        done.sort();
        wanted.sort();
        assert_eq!(done, wanted, "{method:?} {refusal}");
    }
}

#[test]
fn when_all_devices_refused_the_caller_hears_the_best_reason() {
    ladder(
        &mut Test::new(2),
        "dial 102 offer => bob1 INVITE r(o), bob2 INVITE r(o)
         bob1 486       =>
         bob2 408       => alice 486, record 486 Callee unanswered (Busy Here)",
    );
}

#[test]
fn who_cannot_be_called_is_told_at_once() {
    let mut test = Test::new(0);
    ladder(&mut test, "dial 102 offer => alice 480, record 480 Platform unanswered (Not registered)");
    ladder(&mut test, NO_999);
    test.configuration.users[1].do_not_disturb = true;
    ladder(&mut test, "dial 102 offer => alice 486, record 486 Platform unanswered (Do not disturb)");
    test.configuration.users[1].do_not_disturb = false;
    test.configuration.users[1].call_waiting = 1;
    test.bindings = 1;
    let busy = Claim::user(Id::new(1), Id::new(2), 0);
    test.places.adopt(Title { call: CallId::new(NodeId(1), 2), epoch: 0 }, &[busy]);
    ladder(
        &mut test,
        "dial 102 offer => alice 486, record 486 Platform unanswered (Call waiting limit reached)",
    );
    test.configuration.users[1].terminal = None;
    ladder(
        &mut test,
        "dial 102 offer => alice 480, record 480 Platform unanswered (User without a terminal)",
    );
}

#[test]
fn nobody_answers_in_time() {
    ladder(
        &mut Test::new(1),
        "dial 102 offer => bob1 INVITE r(o)
         bob1 180       => alice 180 -
         wait 29        =>
         wait 1         => alice 480, bob1 CANCEL, record 480 Platform unanswered (No answer)",
    );
}

#[test]
fn a_delayed_offer_goes_end_to_end() {
    ladder(
        &mut Test::new(1),
        "dial 102       => bob1 INVITE -
         bob1 180       => alice 180 -
         bob1 200 o     => alice 200 r(o), noted c1000000000001
         alice ack a    => bob1 answer r(a)
         bob1 bye       => alice BYE, record 200 Callee answered (Normal clearing)",
    );
}

fn talking() -> Test {
    let mut test = Test::new(1);
    ladder(
        &mut test,
        "dial 102 offer => bob1 INVITE r(o)
         bob1 200 a     => alice 200 r(a), noted c1000000000001
         alice ack      =>",
    );
    test
}

#[test]
fn hold_resume_and_refusal_go_end_to_end() {
    ladder(
        &mut talking(),
        "alice offers hold  => bob1 re-INVITE r(hold)
         bob1 answers held  => alice answer r(held)
         bob1 offers g722   => alice re-INVITE r(g722)
         alice refuses 488  => bob1 refuse 488
         alice offers back  => bob1 re-INVITE r(back)
         bob1 answers ok    => alice answer r(ok)",
    );
}

#[test]
fn a_delayed_re_offer_goes_end_to_end() {
    ladder(
        &mut talking(),
        "alice offers           => bob1 re-INVITE -
         bob1 counter-offers o2 => alice answer r(o2)
         alice answers a2       => bob1 answer r(a2)
         bob1 offers o3         => alice re-INVITE r(o3)",
    );
}

#[test]
fn a_second_offer_waits_for_the_first() {
    ladder(
        &mut talking(),
        "alice offers one  => bob1 re-INVITE r(one)
         bob1 offers two   => bob1 refuse 491
         bob1 answers a    => alice answer r(a)",
    );
}

#[test]
fn a_withdrawn_offer_is_withdrawn_from_the_other_side_too() {
    ladder(
        &mut talking(),
        "alice offers new    => bob1 re-INVITE r(new)
         alice withdraws     => bob1 CANCEL
         alice offers newer  => alice refuse 491
         bob1 refuses 487    =>
         alice offers newest => bob1 re-INVITE r(newest)
         bob1 answers a      => alice answer r(a)",
    );
}

#[test]
fn a_withdrawn_offer_that_was_accepted_is_changed_back() {
    // `o` is what Alice had offered when she called; her session does not wait for the answers, and ignores them.
    ladder(
        &mut talking(),
        "alice offers new  => bob1 re-INVITE r(new)
         alice withdraws   => bob1 CANCEL
         bob1 answers b    => bob1 re-INVITE r(o)
         bob1 answers c    => alice answer r(c)
         bob1 offers hold  => alice re-INVITE r(hold)
         alice answers d   => bob1 answer r(d)
         alice offers e    => bob1 re-INVITE r(e)
         alice withdraws   => bob1 CANCEL
         bob1 answers f    => bob1 re-INVITE r(d)",
    );
    // The withdrawal crosses our answer.
    ladder(
        &mut talking(),
        "alice offers new  => bob1 re-INVITE r(new)
         bob1 answers b    => alice answer r(b)
         alice withdraws   => bob1 re-INVITE r(o)
         bob1 answers c    => alice answer r(c)
         bob1 withdraws    =>",
    );
}

#[test]
fn a_withdrawn_delayed_offer_is_answered_as_before() {
    ladder(
        &mut talking(),
        "alice offers           => bob1 re-INVITE -
         alice withdraws        => bob1 CANCEL
         bob1 counter-offers o2 => bob1 answer r(o)
         bob1 offers o3         => alice re-INVITE r(o3)",
    );
}

#[test]
fn info_and_its_answer_pass_through() {
    ladder(
        &mut talking(),
        "alice info    => bob1 INFO
         bob1 info-ok  => alice INFO 200",
    );
}

#[test]
fn the_relay_refuses() {
    let mut full = Test::new(1);
    full.relay = Relay::Full;
    ladder(&mut full, "dial 102 offer => alice 503, record 503 Platform unanswered (No media port free)");
    let mut picky = Test::new(1);
    picky.relay = Relay::Picky;
    ladder(
        &mut picky,
        "dial 102 offer => alice 488, record 488 Platform unanswered (Unusable session description)",
    );
    let mut later = talking();
    later.relay = Relay::Picky;
    ladder(&mut later, "alice offers x => alice refuse 488");
    later.relay = Relay::Full;
    ladder(&mut later, "alice offers x => alice refuse 503");
}

#[test]
fn when_ports_run_out_for_the_second_device_the_first_is_not_rung_either() {
    let mut test = Test::new(2);
    test.relay = Relay::Runs(1);
    ladder(&mut test, "dial 102 offer => alice 503, record 503 Platform unanswered (No media port free)");
    assert_eq!(test.records[0].legs.len(), 1, "no callee's leg was made");
}

#[test]
fn a_leg_that_was_never_sent_is_not_in_the_record() {
    let call_ids =
        |legs: &[model::CdrLeg]| -> Vec<String> { legs.iter().map(|leg| leg.sip_call_id.clone()).collect() };
    let mut full = Test::new(2);
    full.relay = Relay::Full;
    ladder(&mut full, "dial 102 offer => alice 503, record 503 Platform unanswered (No media port free)");
    assert_eq!(call_ids(&full.records[0].legs), ["a@phone"]);
    assert!(full.notes.is_empty(), "nobody rang");

    let mut test = Test::new(2);
    ladder(
        &mut test,
        "dial 102 offer => bob1 INVITE r(o), bob2 INVITE r(o)
         bob1 486       =>
         alice cancel   => bob2 CANCEL, record 487 Caller unanswered (Cancelled)",
    );
    assert_eq!(call_ids(&test.records[0].legs), ["a@phone", "b1@us", "b2@us"]);
    let noted: Vec<_> = test.notes.iter().map(|open| call_ids(&open.legs)).collect();
    assert_eq!(noted, [["a@phone", "b1@us", "b2@us"]], "once, when all ring");
}

#[test]
fn silence_and_an_expired_session_end_the_call() {
    let mut silent = talking();
    let time = silent.time();
    silent.call.as_mut().unwrap().media_event(MediaEvent::Silent { leg: MediaLeg(1) }, time);
    assert_eq!(silent.drain(), "alice BYE, bob1 BYE, record 408 Platform answered (No media)");
    ladder(&mut talking(), "bob1 expired => alice BYE, record 408 Platform answered (Session timer expired)");
}

#[test]
fn a_lost_leg_ends_the_call_or_only_its_ringing() {
    let mut ringing = Test::new(2);
    ladder(&mut ringing, "dial 102 offer => bob1 INVITE r(o), bob2 INVITE r(o)");
    let leg = |test: &Test, name: &str| test.names.iter().find(|(_, n)| n == name).unwrap().0;
    let (bob1, time) = (leg(&ringing, "bob1"), ringing.time());
    ringing.call.as_mut().unwrap().leg_lost(bob1, time);
    assert_eq!(ringing.drain(), "");
    ladder(&mut ringing, "bob2 200 a => alice 200 r(a), noted c1000000000001");
    let mut last = Test::new(1);
    ladder(&mut last, "dial 102 offer => bob1 INVITE r(o)");
    let (bob1, time) = (leg(&last, "bob1"), last.time());
    last.call.as_mut().unwrap().leg_lost(bob1, time);
    assert_eq!(last.drain(), "alice 500, record 500 Platform unanswered (Server Internal Error)");

    let alice = leg(&ringing, "alice");
    ringing.call.as_mut().unwrap().leg_lost(alice, time);
    assert_eq!(ringing.drain(), "bob2 BYE, record 500 Platform answered (Leg failed)");
}

#[test]
fn a_record_that_cannot_be_written_is_tried_again() {
    let mut test = talking();
    test.hold_records = true;
    ladder(&mut test, "alice bye => bob1 BYE, record 200 Caller answered (Normal clearing)");
    assert!(!test.call.as_ref().unwrap().is_over());
    assert_eq!(test.calls_of(2), 1, "nothing is given back before the record is durable");
    test.hold_records = false;
    ladder(&mut test, "wait 1 => record 200 Caller answered (Normal clearing)");
    assert!(test.call.as_ref().unwrap().is_over());
    assert_eq!(test.records[0], test.records[1]);
}

#[test]
fn the_last_will_ends_both_legs_and_writes_one_record() {
    let mut test = talking();
    let time = test.time();
    let call = test.call.as_mut().unwrap();
    let will: Vec<String> = call
        .bury(time)
        .into_iter()
        .map(|action| match action {
            Action::Leg(_, command) => shown(&command),
            Action::Media(_, _, command, _) => format!("{command:?}"),
            Action::Record(cdr) => format!("record {}", cdr.cause.status),
            Action::Reserve(..) | Action::Release(_) | Action::Originate(..) | Action::Note(_) => {
                "?".to_owned()
            }
        })
        .collect();
    assert_eq!(will, ["BYE", "BYE", "Close", "record 500"]);
    assert!(call.bury(time).is_empty(), "only once");
}
