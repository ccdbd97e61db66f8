//! Who is obeyed for a call, what waits while nobody is, and what is told to whom: as a table of small stories.
//!
//! Elsewhere: the same under faults of every kind, with whole nodes (crate `simulation`).

use super::*;
use crate::leg::{Callee, Origin, Presented};
use model::{Aor, Brand, Id};
use sip::session::EndCause;

const PROXY: NodeId = NodeId(1);
const A: NodeId = NodeId(10);
const B: NodeId = NodeId(11);
const C: NodeId = NodeId(12);
const CLIENT: Id<Client> = Id::new(1);

/// Application servers in this order, for new calls and lost ones. Others have left if that is so.
struct Order(Vec<NodeId>, bool);

impl Servers for Order {
    fn for_new(&self, _: Id<Client>, _: CallId) -> Vec<NodeId> {
        self.0.clone()
    }

    fn for_lost(&self, _: Option<Id<Client>>, _: CallId) -> Vec<NodeId> {
        self.0.clone()
    }

    fn all(&self) -> Vec<NodeId> {
        self.0.clone()
    }

    fn is_gone(&self, node: NodeId) -> bool {
        self.1 && !self.0.contains(&node)
    }
}

/// A custody with one call that A serves.
struct Desk {
    custody: Custody,
    servers: Order,
    now: Instant,
}

fn call() -> CallId {
    CallId::new(PROXY, 7)
}

fn leg(number: u64) -> LegId {
    LegId::new(PROXY, 0, number)
}

fn title(epoch: u32) -> Title {
    Title { call: call(), epoch }
}

fn incoming() -> Incoming {
    Incoming {
        call: call(),
        leg: leg(1),
        brand: Id::<Brand>::new(1),
        client: CLIENT,
        origin: Origin::Endpoint { aor: Aor::from_bits(1), user: None },
        caller: Presented::default(),
        dialed: "102".to_owned(),
        offer: None,
        headers: HeaderText::new(),
        sip_call_id: "a@b".to_owned(),
        source: ([192, 0, 2, 1], 5060).into(),
        max_forwards: 70,
    }
}

fn ended() -> LegEvent {
    LegEvent::Ended { by_peer: true, cause: EndCause::Bye, reason: None }
}

fn capsule(version: u32) -> Box<Capsule> {
    let call = Bytes::from_static(b"state");
    Box::new(Capsule { version, client: Some(CLIENT), call, legs: Vec::new(), custodians: vec![PROXY] })
}

impl Desk {
    fn new() -> Self {
        let mut desk =
            Self { custody: Custody::new(PROXY), servers: Order(vec![A, B, C], false), now: Instant::now() };
        assert!(desk.custody.incoming(incoming(), &desk.servers, desk.now));
        assert_eq!(desk.said(), ["10 Incoming 0"]);
        desk
    }

    /// The same, once it was answered.
    fn talking() -> Self {
        let mut desk = Self::new();
        desk.hears(A, ToLegs::Keep { title: title(0), capsule: capsule(1) });
        assert_eq!(desk.said(), Vec::<String>::new());
        desk
    }

    fn hears(&mut self, from: NodeId, message: ToLegs) {
        self.custody.told(from, message, &self.servers, self.now);
    }

    fn loses(&mut self, node: NodeId) {
        self.servers.0.retain(|server| *server != node);
        self.custody.lost(node, false, &self.servers, self.now);
    }

    fn waits(&mut self, time: Duration) {
        self.now += time;
        self.custody.handle_timeout(&self.servers, self.now);
    }

    /// What was done since, in words.
    fn said(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(action) = self.custody.poll_action() {
            all.push(match action {
                Action::Tell(node, message) => format!("{} {}", node.0, words(&message)),
                Action::Leg(leg, command) => {
                    let name = format!("{command:?}");
                    format!("{leg} {}", name.split([' ', '{']).next().unwrap_or_default())
                }
                Action::Originate { leg, .. } => format!("{leg} INVITE"),
                Action::Revive { leg, .. } => format!("{leg} revived"),
                Action::Part(leg) => format!("{leg} parted"),
                Action::NoStray(leg) => format!("{leg} unknown"),
                Action::Names(node) => format!("names for {}", node.0),
            });
        }
        all
    }
}

fn words(message: &ToCalls) -> String {
    match message {
        ToCalls::Incoming { title, .. } => format!("Incoming {}", title.epoch),
        ToCalls::Event { title, .. } => format!("Event {}", title.epoch),
        ToCalls::LegLost { title, .. } => format!("LegLost {}", title.epoch),
        ToCalls::LegState { title, .. } => format!("LegState {}", title.epoch),
        ToCalls::Offer(stand) => format!("Offer {} happened {}", stand.title.epoch, stand.happened.len()),
        ToCalls::Claimed(stand) => format!(
            "Claimed {} version {} legs {} happened {}",
            stand.title.epoch,
            stand.capsule.version,
            stand.legs.len(),
            stand.happened.len()
        ),
        ToCalls::Superseded { title, by } => {
            format!("Superseded {} by {} {}", title.epoch, by.epoch, by.node.0)
        }
        ToCalls::NotHere { title, .. } => format!("NotHere {}", title.epoch),
        ToCalls::Stray { .. } => "Stray".to_owned(),
        ToCalls::Revived { lives, .. } => format!("Revived {lives}"),
        ToCalls::Leaves { title, .. } => format!("Leaves {}", title.epoch),
        ToCalls::Names(_) => "Names".to_owned(),
    }
}

#[test]
fn a_call_is_offered_to_the_next_server_when_its_own_is_lost() {
    let mut desk = Desk::talking();
    desk.loses(A);
    assert_eq!(desk.said(), ["11 Offer 1 happened 0"]);
    desk.hears(B, ToLegs::Claim { title: title(1) });
    // The lost one is told for the case that it lives.
    assert_eq!(desk.said(), ["10 Superseded 0 by 1 11", "11 Claimed 1 version 1 legs 1 happened 0"]);
    assert_eq!(desk.custody.owner(call()), Some(Owner { epoch: 1, node: B }));
    desk.custody.event(call(), leg(1), ended(), 5);
    assert_eq!(desk.said(), ["11 Event 1"]);
}

/// A custody that keeps a copy of A's call, whose legs are elsewhere, and cannot reach A.
fn copying(is_gone: bool) -> Desk {
    let state = Bytes::from_static(b"dialog");
    copying_with(vec![KeptLeg { leg: leg(1), home: NodeId(1), state }], is_gone)
}

/// The same, with these dialogs.
fn copying_with(legs: Vec<KeptLeg>, is_gone: bool) -> Desk {
    let mut desk = Desk::talking();
    desk.custody = Custody::new(NodeId(2));
    let capsule = Box::new(Capsule { legs, ..*capsule(1) });
    desk.hears(A, ToLegs::Keep { title: title(0), capsule });
    desk.servers.0 = vec![B, C];
    desk.custody.lost(A, is_gone, &desk.servers, desk.now);
    desk
}

#[test]
fn a_mere_copy_of_a_call_is_offered_when_its_server_is_known_to_be_gone_or_somebody_asks_for_a_leg() {
    assert_eq!(copying(true).said(), ["11 Offer 1 happened 0"]);
    let mut desk = copying(false);
    desk.waits(OFFER_AGAIN);
    assert_eq!(desk.said(), Vec::<String>::new(), "it may serve its call well, for those who reach it");
    desk.servers.1 = true;
    desk.waits(OFFER_AGAIN);
    assert_eq!(desk.said(), ["11 Offer 1 happened 0"]);
    // A telephone comes by way of this node.
    let mut desk = copying(false);
    assert!(desk.custody.stray(call(), leg(1), &desk.servers, desk.now));
    assert_eq!(desk.said(), ["11 Offer 1 happened 0", "11 Stray", "12 Stray"]);
}

#[test]
fn a_copy_that_nobody_can_carry_on_waits_for_its_server_for_a_while() {
    // It rang when its server was lost, with all its telephones: they may have answered since.
    let mut desk = copying_with(Vec::new(), false);
    desk.servers.1 = true;
    desk.waits(EMPTY_LIMIT - OFFER_AGAIN);
    assert_eq!(desk.said(), Vec::<String>::new());
    desk.waits(OFFER_AGAIN);
    assert_eq!(desk.said(), ["11 Offer 1 happened 0"], "somebody has to say what became of it");
    // Its process is known to be no more: nobody can have answered.
    let mut desk = copying_with(Vec::new(), false);
    desk.custody.lost(A, true, &desk.servers, desk.now);
    assert_eq!(desk.said(), ["11 Offer 1 happened 0"]);
    // Or the server is back, as it was, or as another process that knows nothing of it.
    let mut desk = copying_with(Vec::new(), false);
    desk.hears(A, ToLegs::Claim { title: title(0) });
    assert_eq!(desk.said(), ["10 Claimed 0 version 1 legs 0 happened 0"]);
    let mut desk = copying_with(Vec::new(), false);
    desk.custody.is_another(A, &desk.servers, desk.now);
    assert_eq!(desk.said(), ["11 Offer 1 happened 0"]);
}

#[test]
fn a_mere_copy_is_offered_when_its_server_is_another_process() {
    let mut desk = copying(false);
    desk.custody.is_another(B, &desk.servers, desk.now);
    assert_eq!(desk.said(), Vec::<String>::new());
    desk.custody.is_another(A, &desk.servers, desk.now);
    assert_eq!(desk.said(), ["11 Offer 1 happened 0"]);
    desk.custody.is_another(B, &desk.servers, desk.now);
    assert_eq!(desk.said(), Vec::<String>::new(), "what it is offered is no call of an earlier process");
}

#[test]
fn a_server_that_is_in_reach_again_claims_its_call_or_is_not_what_it_was() {
    for (claims, offered) in [(true, &[][..]), (false, &["11 Offer 1 happened 0"][..])] {
        let mut desk = copying(false);
        desk.servers.0.push(A);
        desk.custody.back(&desk.servers, desk.now);
        if claims {
            desk.hears(A, ToLegs::Claim { title: title(0) });
            assert_eq!(desk.said(), ["10 Claimed 0 version 1 legs 0 happened 0"]);
        }
        desk.waits(OFFER_LIMIT);
        assert_eq!(desk.said(), offered);
    }
}

#[test]
fn what_happens_while_nobody_serves_a_call_is_told_to_whoever_takes_it() {
    let mut desk = Desk::talking();
    desk.loses(A);
    desk.said();
    desk.custody.event(call(), leg(1), LegEvent::OfferWithdrawn, 5);
    desk.custody.event(call(), leg(1), ended(), 6);
    assert_eq!(desk.said(), Vec::<String>::new());
    desk.hears(B, ToLegs::Claim { title: title(1) });
    assert_eq!(desk.said()[1], "11 Claimed 1 version 1 legs 0 happened 2");
    // The end of a leg is told to the one after, too: the record may not be written yet.
    desk.loses(B);
    assert_eq!(desk.said(), ["12 Offer 2 happened 1"]);
}

#[test]
fn a_server_that_comes_back_too_late_is_told_who_has_its_call() {
    let mut desk = Desk::talking();
    desk.loses(A);
    desk.hears(B, ToLegs::Claim { title: title(1) });
    desk.said();
    let bye = LegCommand::Bye { reason: None };
    desk.hears(A, ToLegs::Command { title: title(0), leg: leg(1), command: bye.clone() });
    assert_eq!(desk.said(), ["10 Superseded 0 by 1 11"], "its order is not carried out");
    desk.hears(A, ToLegs::Done { title: title(0) });
    assert_eq!(desk.said(), ["10 Superseded 0 by 1 11"]);
    assert!(desk.custody.keeps(call()), "nor does it end the call's custody");
    desk.hears(B, ToLegs::Command { title: title(1), leg: leg(1), command: bye });
    assert_eq!(desk.said(), [format!("{} Bye", leg(1))]);
}

#[test]
fn of_two_servers_with_one_epoch_the_larger_number_has_the_call() {
    let mut desk = Desk::talking();
    desk.loses(A);
    desk.said();
    // Another custodian has offered it to C, this one to B.
    desk.hears(C, ToLegs::Claim { title: title(1) });
    assert_eq!(desk.custody.owner(call()), Some(Owner { epoch: 1, node: C }));
    desk.said();
    desk.hears(B, ToLegs::Claim { title: title(1) });
    assert_eq!(desk.said(), ["11 Superseded 1 by 1 12"]);
    assert_eq!(desk.custody.owner(call()), Some(Owner { epoch: 1, node: C }));
}

#[test]
fn a_call_that_nobody_takes_is_offered_again_and_again() {
    let mut desk = Desk::talking();
    desk.loses(A);
    assert_eq!(desk.said(), ["11 Offer 1 happened 0"]);
    desk.hears(B, ToLegs::Decline { title: title(1), why: Decline::Full });
    assert_eq!(desk.said(), ["12 Offer 1 happened 0"]);
    desk.waits(OFFER_LIMIT);
    assert_eq!(desk.said(), Vec::<String>::new(), "nobody is left to ask");
    assert_eq!(desk.custody.figures().unowned, 1);
    desk.waits(OFFER_AGAIN);
    assert_eq!(desk.said(), ["11 Offer 1 happened 0"]);
    // Without any server it waits, and one that comes is asked at once.
    desk.loses(B);
    desk.loses(C);
    desk.said();
    desk.servers.0.push(A);
    desk.custody.back(&desk.servers, desk.now);
    assert_eq!(desk.said(), ["10 Offer 1 happened 0"]);
}

#[test]
fn a_new_call_that_a_server_does_not_take_goes_to_the_next_and_is_refused_by_the_last() {
    let mut desk = Desk::new();
    for (declines, next) in [(A, "11 Incoming 1"), (B, "12 Incoming 2")] {
        let epoch = desk.custody.owner(call()).unwrap().epoch;
        desk.hears(declines, ToLegs::Decline { title: title(epoch), why: Decline::Full });
        assert_eq!(desk.said(), [next]);
    }
    desk.hears(C, ToLegs::Decline { title: title(2), why: Decline::Draining });
    assert_eq!(desk.said(), [format!("{} Reject", leg(1))]);
    assert!(!desk.custody.keeps(call()));
}

#[test]
fn a_new_call_that_a_draining_server_declines_goes_to_one_that_was_not_asked_whatever_the_order_is_by_then() {
    let mut desk = Desk::new();
    desk.servers.0 = vec![C, B]; // it is known now that A drains
    desk.hears(A, ToLegs::Decline { title: title(0), why: Decline::Draining });
    assert_eq!(desk.said(), ["12 Incoming 1"]);
    desk.servers.0 = vec![B, C]; // it is B's turn
    desk.hears(C, ToLegs::Decline { title: title(1), why: Decline::Full });
    assert_eq!(desk.said(), ["11 Incoming 2"]);
}

#[test]
fn a_new_call_whose_server_is_lost_before_it_said_anything_begins_anew() {
    let mut desk = Desk::new();
    desk.loses(A);
    assert_eq!(desk.said(), ["11 Offer 1 happened 0"]);
    // At another proxy a telephone was to ring for it: that one knows nothing that would help.
    let mut other = Custody::new(NodeId(2));
    let flow = sip::flow::Flow {
        transport: sip::flow::Transport::Udp,
        listener: 0,
        remote: ([192, 0, 2, 9], 5060).into(),
        conn: sip::flow::ConnId(0),
    };
    let (aor, target) = (Aor::from_bits(2), "sip:bob@192.0.2.9".to_owned());
    let to = Callee::Binding { aor, target, route: Vec::new(), flow };
    let order = Box::new(Originate::new(call(), NodeId(2), to));
    let message = ToLegs::Originate { title: title(0), leg: leg(2), sip_call_id: "x".to_owned(), order };
    other.told(A, message, &desk.servers, desk.now);
    assert!(matches!(other.poll_action(), Some(Action::Originate { .. })));
    other.lost(A, true, &desk.servers, desk.now);
    assert!(matches!(other.poll_action(), Some(Action::Leg(_, LegCommand::Bye { .. }))));
    assert!(!other.keeps(call()));
}

#[test]
fn a_server_that_hands_its_call_over_hears_when_it_may_forget_it() {
    let mut desk = Desk::talking();
    desk.servers.0 = vec![B, C]; // A drains
    desk.hears(A, ToLegs::Decline { title: title(0), why: Decline::Draining });
    assert_eq!(desk.said(), ["11 Offer 1 happened 0"]);
    desk.hears(B, ToLegs::Claim { title: title(1) });
    assert_eq!(desk.said()[0], "10 Superseded 0 by 1 11");
}

#[test]
fn a_proxy_is_right_about_the_legs_that_live_there() {
    let mut desk = Desk::talking();
    let state = |home: NodeId, text: &'static str| KeptLeg {
        leg: leg(1),
        home,
        state: Bytes::from_static(text.as_bytes()),
    };
    desk.custody.leg_state(call(), leg(1), Bytes::from_static(b"new"));
    desk.said();
    // The owner was out of reach, and knows the leg as it was at another proxy.
    let old = Capsule { legs: vec![state(NodeId(2), "old")], ..*capsule(2) };
    desk.hears(A, ToLegs::Keep { title: title(0), capsule: Box::new(old.clone()) });
    let kept = |desk: &Desk| desk.custody.calls[&call()].capsule.legs.clone();
    assert_eq!(kept(&desk), [state(PROXY, "new")]);
    // When it is to live elsewhere, it is parted with.
    desk.hears(A, ToLegs::Part { title: title(0), leg: leg(1) });
    desk.hears(A, ToLegs::Keep { title: title(0), capsule: Box::new(old) });
    assert_eq!(kept(&desk), [state(NodeId(2), "old")]);
}

#[test]
fn custody_ends_when_the_record_is_durable() {
    let mut desk = Desk::talking();
    desk.hears(A, ToLegs::Done { title: title(0) });
    assert_eq!(desk.said(), [format!("{} Bye", leg(1))], "a leg that is left is ended");
    assert!(!desk.custody.keeps(call()));
    desk.hears(
        A,
        ToLegs::Command { title: title(0), leg: leg(1), command: LegCommand::Bye { reason: None } },
    );
    assert_eq!(desk.said(), ["10 NotHere 0"]);
    desk.custody.event(call(), leg(1), LegEvent::OfferWithdrawn, 9);
    assert_eq!(desk.said(), [format!("{} Bye", leg(1))], "and so is one that speaks for a call that is over");
}

#[test]
fn a_leg_that_is_elsewhere_is_asked_for_and_refused_when_nobody_has_it() {
    let mut desk = Desk::talking();
    let other = CallId::new(NodeId(2), 9);
    assert!(desk.custody.stray(other, leg(9), &desk.servers, desk.now));
    assert!(desk.custody.stray(other, leg(9), &desk.servers, desk.now), "asked once, whatever is repeated");
    assert_eq!(desk.said(), ["10 Stray", "11 Stray", "12 Stray"]);
    desk.hears(A, ToLegs::NoStray { ticket: 1 });
    desk.hears(B, ToLegs::NoStray { ticket: 1 });
    assert_eq!(desk.said(), Vec::<String>::new());
    desk.hears(C, ToLegs::NoStray { ticket: 1 });
    assert_eq!(desk.said(), [format!("{} unknown", leg(9))]);
    // Or somebody has it, or nobody says anything.
    assert!(desk.custody.stray(other, leg(8), &desk.servers, desk.now));
    desk.said();
    let state = Bytes::from_static(b"dialog");
    let revive =
        ToLegs::Revive { title: Title { call: other, epoch: 3 }, leg: leg(8), ticket: Some(2), state };
    desk.hears(C, revive.clone());
    assert_eq!(desk.said(), [format!("{} revived", leg(8))]);
    desk.custody.revived(other, leg(8), true);
    assert_eq!(desk.said(), ["12 Revived true"]);
    desk.hears(C, revive);
    assert_eq!(desk.said(), Vec::<String>::new(), "nobody waits for a second one");
    assert!(desk.custody.stray(call(), leg(7), &desk.servers, desk.now));
    assert_eq!(desk.said(), ["10 Stray"], "the owner is known");
    desk.waits(STRAY_LIMIT);
    assert_eq!(desk.said(), [format!("{} unknown", leg(7))]);
}

#[test]
fn a_leg_whose_server_was_lost_a_moment_ago_is_asked_for_again() {
    let mut desk = Desk::talking();
    let other = CallId::new(NodeId(2), 9);
    assert!(desk.custody.stray(other, leg(9), &desk.servers, desk.now));
    desk.hears(A, ToLegs::NoStray { ticket: 1 });
    desk.hears(B, ToLegs::NoStray { ticket: 1 });
    desk.loses(C);
    desk.said();
    // A or B will carry its calls on.
    desk.waits(STRAY_AGAIN);
    assert_eq!(desk.said(), ["10 Stray", "11 Stray"]);
    let state = Bytes::from_static(b"dialog");
    let title = Title { call: other, epoch: 1 };
    desk.hears(B, ToLegs::Revive { title, leg: leg(9), ticket: Some(1), state });
    assert_eq!(desk.said(), [format!("{} revived", leg(9))]);
    // Or nobody does.
    assert!(desk.custody.stray(other, leg(8), &desk.servers, desk.now));
    desk.waits(STRAY_LIMIT);
    assert!(desk.said().contains(&format!("{} unknown", leg(8))));
}

#[test]
fn a_leg_is_asked_for_again_while_a_server_has_left_whose_link_is_not_lost_yet() {
    let mut desk = Desk::talking();
    let other = CallId::new(NodeId(2), 9);
    desk.servers.0 = vec![A, B];
    desk.custody.left(desk.now);
    assert!(desk.custody.stray(other, leg(9), &desk.servers, desk.now));
    desk.said();
    desk.hears(A, ToLegs::NoStray { ticket: 1 });
    desk.hears(B, ToLegs::NoStray { ticket: 1 });
    assert_eq!(desk.said(), Vec::<String>::new(), "C's calls are about to be carried on");
    desk.waits(STRAY_AGAIN);
    assert_eq!(desk.said(), ["10 Stray", "11 Stray"]);
}

#[test]
fn whoever_is_offered_a_call_hears_of_its_former_owner_who_may_have_ended_it() {
    let mut desk = Desk::talking();
    desk.servers.0 = vec![B, C];
    desk.custody.lost(A, true, &desk.servers, desk.now);
    let Some(Action::Tell(B, ToCalls::Offer(stand))) = desk.custody.poll_action() else { panic!("no offer") };
    assert_eq!(stand.capsule.custodians, [PROXY, A]);
}

#[test]
fn whoever_would_carry_on_a_call_that_is_over_is_told_so() {
    let mut desk = Desk::talking();
    desk.hears(A, ToLegs::Done { title: title(0) });
    desk.said();
    // Another custodian did not hear of it, and offered the call.
    desk.hears(B, ToLegs::Claim { title: title(1) });
    assert_eq!(desk.said(), ["11 Superseded 1 by 0 10"]);
    desk.hears(B, ToLegs::Claim { title: title(2) });
    assert_eq!(desk.said(), ["11 NotHere 2"], "others have had it since");
}

#[test]
fn what_waits_for_an_owner_is_bounded_and_ends_of_legs_are_not_what_goes() {
    let mut desk = Desk::talking();
    desk.loses(A);
    desk.said();
    desk.custody.event(call(), leg(1), ended(), 1);
    for time in 2..1000 {
        desk.custody.event(call(), leg(1), LegEvent::OfferWithdrawn, time);
    }
    desk.hears(B, ToLegs::Claim { title: title(1) });
    let claimed = desk.said().pop().unwrap();
    assert!(claimed.ends_with(&format!("happened {HAPPENED_MAX}")), "{claimed}");
    desk.loses(B);
    assert_eq!(desk.said(), ["12 Offer 2 happened 1"], "the end was kept");
}

#[test]
fn a_leg_that_would_go_elsewhere_asks_whoever_serves_its_call() {
    let mut desk = Desk::talking();
    desk.custody.leg_leaves(call(), leg(1));
    assert_eq!(desk.said(), ["10 Leaves 0"]);
    desk.loses(A);
    desk.said();
    desk.custody.leg_leaves(call(), leg(1));
    assert_eq!(desk.said(), Vec::<String>::new(), "it asks again when somebody has the call");
}

#[test]
fn a_leg_that_came_from_another_proxy_is_not_hung_up_because_its_call_is_not_known_here() {
    // Its call's server asked for it, and is lost before it says what call that is: the leg goes on where it was.
    let mut desk = Desk::talking();
    let other = CallId::new(NodeId(2), 9);
    let title = Title { call: other, epoch: 3 };
    let state = Bytes::from_static(b"dialog");
    let revive = ToLegs::Revive { title, leg: leg(8), ticket: None, state };
    desk.hears(A, revive.clone());
    desk.custody.revived(other, leg(8), true);
    desk.said();
    desk.loses(A);
    assert!(desk.said().contains(&format!("{} parted", leg(8))));
    desk.custody.revived(other, leg(8), true);
    assert_eq!(desk.said(), [format!("{} parted", leg(8))], "it was on its way");
    // But when the call is over its telephone is told.
    let mut desk = Desk::talking();
    desk.hears(A, revive);
    desk.hears(A, ToLegs::Done { title });
    desk.said();
    desk.custody.revived(other, leg(8), true);
    assert_eq!(desk.said(), [format!("{} Bye", leg(8))]);
}
