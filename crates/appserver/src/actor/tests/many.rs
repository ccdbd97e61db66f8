//! A server that is one of many: whose word it takes for what.
//!
//! Elsewhere: whole clusters under faults (crate `simulation`).

use super::*;
use cluster::between::{Capsule, Happened, Owner, Stand, ToLegs};
use cluster::media::MediaError;
use model::{Aor, Snapshot};
use sip::session::OfferVia;
use std::collections::VecDeque;

/// Neighbours of a cluster: says what was said to custodians as well.
struct Others {
    said: UnboundedSender<String>,
    is_superseded: AtomicBool,
    /// Where calls' media go.
    relay: NodeId,
    /// What custodians have of a call.
    kept: parking_lot::Mutex<Capsule>,
}

impl Others {
    fn say(&self, line: String) {
        let _ = self.said.send(line);
    }
}

impl Legs for Others {
    fn originate(&self, _: Title, _: Originate) -> Option<(LegId, String)> {
        Some((LegId::new(NodeId(1), 0, 2), "b@us".to_owned()))
    }

    fn command(&self, _: Title, _: NodeId, leg: LegId, command: LegCommand) {
        if matches!(command, LegCommand::Bye { .. } | LegCommand::Reject { .. }) {
            self.say(format!("{leg} ends"));
        }
        if matches!(command, LegCommand::Reoffer { .. }) {
            self.say(format!("{leg} is told anew"));
        }
    }

    fn tell(&self, custodian: NodeId, message: ToLegs) {
        let what = match message {
            ToLegs::Claim { .. } => "Claim",
            ToLegs::Revive { .. } => "Revive",
            ToLegs::Part { .. } => "Part",
            ToLegs::Done { .. } => "Done",
            ToLegs::Keep { capsule, .. } => return *self.kept.lock() = *capsule,
            _ => return,
        };
        self.say(format!("{} {what}", custodian.0));
    }

    fn tell_server(&self, server: NodeId, message: ToCalls) -> bool {
        if let ToCalls::Claimed(stand) = message {
            self.say(format!("server {} hears of {:?}", server.0, stand.capsule.custodians));
        }
        true
    }

    fn is_cluster(&self) -> bool {
        true
    }

    fn can_reach(&self, _: NodeId) -> bool {
        true
    }

    fn relay(&self, _: Id<Client>, _: LegId, _: CallId, _: Option<NodeId>) -> Option<NodeId> {
        Some(self.relay)
    }

    fn proxies_instead(&self, _: NodeId, _: LegId) -> Vec<NodeId> {
        vec![NodeId(6), NodeId(5)]
    }
}

impl Directory for Others {
    fn bindings(&self, _: Aor) -> Vec<Binding> {
        let remote = ([192, 0, 2, 1], 5060).into();
        let flow = Flow { transport: Transport::Udp, listener: 0, remote, conn: ConnId(0) };
        let (contact, home) = ("sip:bob@192.0.2.1".to_owned(), NodeId(1));
        vec![Binding { contact, path: Vec::new(), flow, q: 1000, newness: 1, home }]
    }
}

impl Media for Others {
    fn submit(
        &self,
        _: NodeId,
        _: CallId,
        _: u32,
        command: MediaCommand,
        _: Signalling,
    ) -> Option<MediaReply> {
        if self.is_superseded.load(Ordering::Relaxed) {
            return Some(MediaReply::Refused(MediaError::Superseded));
        }
        Some(match command {
            MediaCommand::Offer { sdp, .. } | MediaCommand::Answer { sdp, .. } => MediaReply::Sdp(sdp),
            MediaCommand::Withdraw { .. } => MediaReply::Done,
            _ => MediaReply::Report(Vec::new()),
        })
    }
}

struct Unwritten(UnboundedSender<String>);

impl CallLog for Unwritten {
    fn began(&self, _: OpenCall, _: u32, done: Done) {
        done(true);
    }

    fn ended(&self, cdr: Cdr, _: u32, done: Done) {
        let _ = self.0.send(format!("record {}", cdr.cause.status));
        done(true);
    }
}

fn title() -> Title {
    Title { call: CallId::new(NodeId(1), CALL), epoch: 0 }
}

/// A server whose calls' media go to this relay.
async fn server(relay: NodeId) -> (Arc<AppServer>, Arc<Others>, UnboundedReceiver<String>) {
    let (said, lines) = unbounded_channel();
    let (is_superseded, kept) = (AtomicBool::new(false), parking_lot::Mutex::default());
    let world = Arc::new(Others { said: said.clone(), is_superseded, relay, kept });
    let snapshot = Snapshot::build(&Configuration::demo()).unwrap();
    let rates = Arc::new(ArcSwap::from_pointee(Rates::new(snapshot)));
    let deps = Deps::new(rates, Arc::new(Unwritten(said)), Arc::new(|| 1_000_000), NodeId(2), 1);
    let server = AppServer::start(deps, Limits { calls: 9, ring: Duration::from_secs(30) }).await.unwrap();
    server.connect(Arc::clone(&world) as _, Arc::clone(&world) as _, Arc::clone(&world) as _);
    (server, world, lines)
}

/// One with a conversation, whose legs are at node 1.
async fn talking_by(relay: NodeId) -> (Arc<AppServer>, Arc<Others>, UnboundedReceiver<String>) {
    let (server, world, lines) = server(relay).await;
    server.told(NodeId(1), ToCalls::Incoming { title: title(), incoming: Box::new(incoming(CALL)) });
    let [caller, callee] = [1, 2].map(|number| LegId::new(NodeId(1), 0, number));
    let answer = LegEvent::Answered { sdp: Some(Bytes::from_static(b"a")), fork: 0 };
    server.told(NodeId(1), ToCalls::Event { title: title(), leg: callee, event: answer });
    server.told(
        NodeId(1),
        ToCalls::Event { title: title(), leg: caller, event: LegEvent::Confirmed { sdp: None } },
    );
    for leg in [caller, callee] {
        let state = Bytes::from_static(b"dialog");
        server.told(NodeId(1), ToCalls::LegState { title: title(), leg, state });
    }
    (server, world, lines)
}

async fn talking() -> (Arc<AppServer>, Arc<Others>, UnboundedReceiver<String>) {
    talking_by(NodeId(7)).await
}

/// Everything that the server says because of what it was told.
async fn said(server: &AppServer, lines: &mut UnboundedReceiver<String>) -> VecDeque<String> {
    for knocked in server.knock() {
        knocked.await.unwrap();
    }
    let mut all = VecDeque::new();
    while let Ok(line) = lines.try_recv() {
        all.push_back(line);
    }
    all
}

#[tokio::test]
async fn what_a_server_says_of_custodians_is_not_the_word_of_its_own_proxy() {
    let (server, _world, mut lines) = talking().await;
    assert_eq!(said(&server, &mut lines).await, Vec::<String>::new());
    // The server of node 1 had the call before; its proxy has the legs.
    let capsule = Capsule { custodians: vec![NodeId(3)], ..Capsule::default() };
    let stand = Stand { title: title(), incoming: None, capsule, legs: Vec::new(), happened: Vec::new() };
    server.told(NodeId(1), ToCalls::Claimed(Box::new(stand.clone())));
    assert_eq!(said(&server, &mut lines).await, ["3 Claim"], "no leg is given up");
    // The proxy itself has none of them.
    let capsule = Capsule { version: 9, ..Capsule::default() };
    server.told(NodeId(1), ToCalls::Claimed(Box::new(Stand { capsule, ..stand })));
    assert_eq!(said(&server, &mut lines).await, ["6 Revive", "6 Revive"]);
}

#[tokio::test]
async fn a_call_whose_relay_obeys_another_server_is_not_ended_by_this_one() {
    let (server, world, mut lines) = talking().await;
    said(&server, &mut lines).await;
    world.is_superseded.store(true, Ordering::Relaxed);
    let leg = LegId::new(NodeId(1), 0, 2);
    let offer = LegEvent::Offer { sdp: Some(Bytes::from_static(b"o2")), via: OfferVia::Invite };
    server.told(NodeId(1), ToCalls::Event { title: title(), leg, event: offer });
    // Custodians are asked whose it is; neither a leg ends, nor is there a record.
    assert_eq!(said(&server, &mut lines).await, ["1 Claim"]);
    assert_eq!(server.stats().calls, 1);
}

/// What custodians keep of a conversation by this relay.
async fn kept(relay: NodeId) -> Capsule {
    let (server, world, mut lines) = talking_by(relay).await;
    said(&server, &mut lines).await;
    let kept = world.kept.lock().clone();
    assert!(!kept.call.is_empty());
    kept
}

/// A server that has taken a conversation over from custodians who have this.
async fn taken_over(
    own: &Capsule,
    happened: Vec<Happened>,
) -> (Arc<AppServer>, Arc<Others>, UnboundedReceiver<String>) {
    let (server, world, mut lines) = server(NodeId(7)).await;
    let legs = [1, 2].map(|number| LegId::new(NodeId(1), 0, number)).to_vec();
    let title = Title { epoch: 1, ..title() };
    let stand = Stand { title, incoming: None, capsule: own.clone(), legs, happened };
    server.told(NodeId(1), ToCalls::Offer(Box::new(stand.clone())));
    server.told(NodeId(1), ToCalls::Claimed(Box::new(stand)));
    // This node's own custody, which is asked as well, has nothing of it.
    let capsule = Capsule::default();
    let nothing = Stand { title, incoming: None, capsule, legs: Vec::new(), happened: Vec::new() };
    server.told(NodeId(2), ToCalls::Claimed(Box::new(nothing)));
    said(&server, &mut lines).await;
    assert_eq!(server.stats().adopted_total, 1);
    (server, world, lines)
}

#[tokio::test]
async fn peers_are_told_anew_of_their_relay_where_another_server_may_have_told_them_something() {
    let [own, other] = [kept(NodeId(7)).await, kept(NodeId(8)).await];
    let callee = LegId::new(NodeId(1), 0, 2);
    let answer =
        Happened { leg: callee, unix_us: 1, event: Some(LegEvent::Answer { sdp: Bytes::from_static(b"c") }) };
    let anew: &[&str] = &["is told anew"; 2];
    for (happened, hint, expected) in [
        // The proxy has both legs and promised to obey nobody else: what another server did meanwhile no telephone heard.
        (vec![], &other, &anew[..0]),
        (vec![], &own, &anew[..0]),
        // It has answered something that is not known here.
        (vec![answer], &other, anew),
    ] {
        let (server, _world, mut lines) = taken_over(&own, happened).await;
        let capsule = Capsule { version: 0, custodians: vec![NodeId(1)], legs: Vec::new(), ..hint.clone() };
        let title = Title { epoch: 1, ..title() };
        let hint = Stand { title, incoming: None, capsule, legs: Vec::new(), happened: Vec::new() };
        server.told(NodeId(3), ToCalls::Claimed(Box::new(hint)));
        let mut heard = said(&server, &mut lines).await;
        heard.append(&mut said(&server, &mut lines).await); // what the relay answers comes behind
        heard.append(&mut said(&server, &mut lines).await);
        heard.retain(|line| line.ends_with("is told anew"));
        assert_eq!(heard.len(), expected.len(), "{heard:?}");
    }
}

#[tokio::test]
async fn a_call_that_was_over_before_it_was_taken_goes_on_nowhere() {
    let (server, _world, mut lines) = taken_over(&kept(NodeId(7)).await, Vec::new()).await;
    let title = Title { epoch: 1, ..title() };
    // One that lost it to this server says that its record is written.
    server.told(NodeId(3), ToCalls::Superseded { title, by: Owner { epoch: 0, node: NodeId(3) } });
    let heard = said(&server, &mut lines).await;
    assert!(heard.contains(&"1 Done".to_owned()), "{heard:?}");
    assert!(!heard.iter().any(|line| line.ends_with("ends")), "{heard:?}");
    assert_eq!(server.stats().calls, 0);
}

#[tokio::test]
async fn a_leg_leaves_its_proxy_when_another_one_has_it() {
    let (server, world, mut lines) = talking().await;
    let [caller, callee] = [1, 2].map(|number| LegId::new(NodeId(1), 0, number));
    let leaves = |leg| ToCalls::Leaves { title: title(), leg };
    let revived = |leg, lives| ToCalls::Revived { title: title(), leg, lives };
    server.told(NodeId(1), leaves(caller));
    assert_eq!(said(&server, &mut lines).await, ["6 Revive"]);
    // Whatever becomes of this server now, that one knows whose the leg is, and others that it is asked.
    assert!(world.kept.lock().custodians.contains(&NodeId(6)));
    // It cannot have it: it stays, and asks again, and another one is asked.
    server.told(NodeId(6), revived(caller, false));
    assert_eq!(said(&server, &mut lines).await, Vec::<String>::new());
    assert_eq!(server.stats().calls, 1);
    server.told(NodeId(1), leaves(caller));
    server.told(NodeId(5), revived(caller, true));
    assert_eq!(said(&server, &mut lines).await, ["5 Revive", "1 Part"]);
    // Who does not have it has no say any more.
    server.told(NodeId(1), leaves(caller));
    server.told(NodeId(1), revived(caller, false));
    assert_eq!(said(&server, &mut lines).await, Vec::<String>::new());
    assert_eq!(server.stats().calls, 1);
    // What is asked of a leg at its proxy meanwhile holds it there.
    server.told(NodeId(1), leaves(callee));
    let offer = LegEvent::Offer { sdp: Some(Bytes::from_static(b"o2")), via: OfferVia::Invite };
    server.told(NodeId(6), ToCalls::Event { title: title(), leg: caller, event: offer });
    server.told(NodeId(6), revived(callee, true));
    let heard = said(&server, &mut lines).await;
    assert_eq!(heard, ["6 Revive".to_owned(), format!("{callee} is told anew"), "6 Part".to_owned()]);
    // And a call in which something is open is not torn apart.
    server.told(NodeId(1), leaves(callee));
    assert_eq!(said(&server, &mut lines).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_better_server_hears_of_whoever_had_offered_the_call_to_this_one() {
    let (server, _world, mut lines) = server(NodeId(7)).await;
    let own = kept(NodeId(7)).await;
    let title = Title { epoch: 1, ..title() };
    let stand = Stand { title, incoming: None, capsule: own, legs: Vec::new(), happened: Vec::new() };
    server.told(NodeId(1), ToCalls::Offer(Box::new(stand)));
    said(&server, &mut lines).await;
    // One that was out of reach for the proxy of node 1 has the call already.
    server.told(NodeId(4), ToCalls::Superseded { title, by: Owner { epoch: 1, node: NodeId(3) } });
    assert_eq!(said(&server, &mut lines).await, ["server 3 hears of [NodeId(1)]"]);
    assert_eq!(server.stats().calls, 0);
}
