//! Explanations: the same decision, with its reasons.
//!
//! As golden text, so that what an operator reads is seen here.

use crate::system::*;
use jiff::Timestamp;
use model::Id;
use model::entities::*;
use routing::{Call, Decision, Dialled, Endpoint, Way};
use rust_decimal::Decimal;

fn system() -> System {
    let mut system = System::new();
    let route = |id: u32, priority: u16| OutgoingRouting {
        id: Id::new(id),
        kind: Some(OutgoingRoutingKind::Group),
        routing_pattern_group: Some(Id::new(1)),
        routing_mode: Some(OutgoingRoutingMode::Static),
        carrier: Some(Id::new(id)),
        brand: BRAND,
        priority,
        weight: 1,
        ..OutgoingRouting::default()
    };
    system
        .ddi(1, "+349000010", Some(RETAIL))
        .add(RetailAccount {
            id: Id::new(1),
            company: RETAIL,
            outgoing_ddi: Some(Id::new(1)),
            ..RetailAccount::default()
        })
        .add(OutgoingRouting { routing_mode: Some(OutgoingRoutingMode::Lcr), carrier: None, ..route(1, 1) })
        .add(OutgoingRouting {
            stopper: true,
            company: Some(RETAIL),
            prefix: Some("99".into()),
            ..route(2, 2)
        })
        .add(route(3, 3))
        .add(OutgoingRouting { routing_tag: Some(Id::new(1)), ..route(4, 1) });
    for carrier in [1, 3, 4] {
        let (id, carrier) = (Id::new(carrier), Id::new(carrier));
        system.add(OutgoingRoutingRelCarrier { id, outgoing_routing: Id::new(1), carrier });
    }
    for (carrier, cents) in [(1, 30), (2, 5), (3, 20)] {
        system.costs.insert(carrier, Decimal::new(cents, 2));
    }
    system.add(Carrier {
        id: Id::new(3),
        name: "c".into(),
        brand: BRAND,
        transformation_rule_set: Some(Id::new(1)),
        ..Carrier::default()
    });
    system
}

fn call(dialled: &str) -> Call<'_> {
    let (client, endpoint) = (RETAIL, Endpoint::RetailAccount(Id::new(1)));
    let (dialled, now) = (Dialled::Text(dialled), Timestamp::UNIX_EPOCH);
    Call { client, endpoint, dialled, presented: Some("1234"), now }
}

#[test]
fn a_call_is_explained_from_the_dialled_number_to_the_last_carrier() {
    let system = system();
    let text = system.router().simulate(&call("911234567"), &system, random(1)).to_string();
    let wanted = "\
calleein: 911234567 becomes +34911234567 by rule 12
callerin: 1234 becomes +341234 by rule 2
shows DDI 1: the endpoint's outgoing DDI
routing pattern 1 fits
routing pattern group 1 fits
route 1 of all clients by group 1
route 3 of all clients by group 1
route 4 is left out: it is for another routing tag
route 2 of this client by group 1
route 3 is left out: route 2 is a stopper of a lower priority
carrier 4 of route 1 is left out: its rates have no cost for the number
calleeout: +34911234567 becomes 911234567 by rule 13
callerout: +349000010 becomes 9000010 by rule 3
calleeout: +34911234567 stays, there is no transformation set
callerout: +349000010 stays, there is no transformation set
calleeout: +34911234567 stays, there is no transformation set
callerout: +349000010 stays, there is no transformation set
+34911234567 is called by:
1. c (carrier 3, route 1, priority 1), cost of five minutes 0.20, as 911234567 from 9000010
2. a (carrier 1, route 1, priority 1), cost of five minutes 0.30, as +34911234567 from +349000010
3. b (carrier 2, route 2, priority 2), cost of five minutes 0.05, as 99+34911234567 from +349000010
price of five minutes 1
";
    assert_eq!(text, wanted);
}

#[test]
fn a_refusal_is_explained_with_its_status() {
    let system = system();
    let text = |dialled: &str| system.router().simulate(&call(dialled), &system, random(1)).to_string();
    assert!(text("0044123").ends_with("refused with 404: no routing pattern fits +44123; add one\n"));
    assert!(text("x").contains("refused with 484: the dialled number: x is no number in E.164: no rule of transformation rule set 1 fits it"));
    assert!(text("1#911").contains("refused with 403: client 3 may not dial the routing tag 1#"));
}

#[test]
fn an_explanation_is_the_very_decision_of_a_call() {
    let system = system();
    let router = system.router();
    for dialled in ["911234567", "0033123456789", "0044123", "1#911234567", "x", ""] {
        let decided = router.route(&call(dialled), &system, &mut ());
        let explained = router.simulate(&call(dialled), &system, random(3));
        assert_eq!(explained.decision, decided, "{dialled}");
        if let Ok(Decision::Outgoing(outgoing)) = decided
            && let Way::Carriers(selection) = outgoing.way
        {
            let order = selection.order(random(3)).into_iter().map(|attempt| attempt.carrier);
            let explained = explained.attempts.iter().map(|line| line.attempt.carrier);
            assert!(order.eq(explained), "{dialled}");
        }
    }
}
