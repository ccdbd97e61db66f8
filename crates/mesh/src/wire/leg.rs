//! Messages about calls and their legs.
//!
//! In and out: [`ToCalls`], [`ToLegs`] and their wire form (`leg.proto`). Elsewhere: what legs say and are told (`session`).

use super::session::{read_command, read_event, write_command, write_event};
use super::{
    CALL_MAX, HAPPENED_MAX, LEGS_MAX, Read, Why, Wire, WireError, address, bad, call, dialog, few, fits,
    headers, id, leg, maybe_body, node, number, octet, short, text, texts, there, title, write_address,
    write_headers, write_title,
};
use cluster::between::{Capsule, Decline, Happened, KeptLeg, LegNames, Owner, Stand, ToCalls, ToLegs};
use cluster::ids::{LegId, NodeId};
use cluster::leg::{Callee, DIVERSIONS_MAX, Diversion, Incoming, Origin, Originate, Presented};
use model::Aor;
use proto::v1;
use sip::flow::{ConnId, Flow, Transport};

/// Counters of legs' names are below this.
const COUNTER_END: u64 = 1 << 40;

impl Wire for ToCalls {
    type Message = v1::ToCalls;

    fn write(self) -> Result<v1::ToCalls, WireError> {
        use v1::to_calls::Item;
        let item = match self {
            ToCalls::Incoming { title, incoming } => Item::Incoming(v1::NewCall {
                title: write_title(title),
                incoming: Some(write_incoming(*incoming)?),
            }),
            ToCalls::Event { title, leg, event } => Item::Event(v1::LegHappening {
                title: write_title(title),
                leg: leg.as_u64(),
                event: Some(write_event(event)?),
            }),
            ToCalls::LegLost { title, leg } => {
                Item::LegLost(v1::LegLost { title: write_title(title), leg: leg.as_u64() })
            }
            ToCalls::LegState { title, leg, state } => Item::LegState(v1::LegState {
                title: write_title(title),
                leg: leg.as_u64(),
                state: dialog("LegState.state", state)?,
            }),
            ToCalls::Offer(stand) => Item::Offer(write_stand(*stand)?),
            ToCalls::Claimed(stand) => Item::Claimed(write_stand(*stand)?),
            ToCalls::Superseded { title, by } => Item::Superseded(v1::Superseded {
                title: write_title(title),
                by_epoch: by.epoch,
                by_node: by.node.0.into(),
            }),
            ToCalls::NotHere { title, leg } => {
                Item::NotHere(v1::NotHere { title: write_title(title), leg: leg.map(LegId::as_u64) })
            }
            ToCalls::Stray { ticket, call, leg } => {
                Item::Stray(v1::Stray { ticket, call: call.as_u64(), leg: leg.as_u64() })
            }
            ToCalls::Revived { title, leg, lives } => {
                Item::Revived(v1::Revived { title: write_title(title), leg: leg.as_u64(), lives })
            }
            ToCalls::Leaves { title, leg } => {
                Item::Leaves(v1::Leaves { title: write_title(title), leg: leg.as_u64() })
            }
            ToCalls::Names(names) => Item::Names(v1::LegNames {
                worker: names.worker.into(),
                first: names.first,
                count: names.count,
            }),
        };
        Ok(v1::ToCalls { item: Some(item) })
    }

    fn read(message: v1::ToCalls) -> Result<ToCalls, WireError> {
        use v1::to_calls::Item;
        Ok(match there("ToCalls.item", message.item)? {
            Item::Incoming(new) => ToCalls::Incoming {
                title: title("NewCall.title", new.title)?,
                incoming: Box::new(read_incoming(there("NewCall.incoming", new.incoming)?)?),
            },
            Item::Event(happening) => ToCalls::Event {
                title: title("LegHappening.title", happening.title)?,
                leg: leg("LegHappening.leg", happening.leg)?,
                event: read_event(there("LegHappening.event", happening.event)?)?,
            },
            Item::LegLost(lost) => ToCalls::LegLost {
                title: title("LegLost.title", lost.title)?,
                leg: leg("LegLost.leg", lost.leg)?,
            },
            Item::LegState(state) => ToCalls::LegState {
                title: title("LegState.title", state.title)?,
                leg: leg("LegState.leg", state.leg)?,
                state: dialog("LegState.state", state.state)?,
            },
            Item::Offer(stand) => ToCalls::Offer(Box::new(read_stand(stand)?)),
            Item::Claimed(stand) => ToCalls::Claimed(Box::new(read_stand(stand)?)),
            Item::Superseded(superseded) => ToCalls::Superseded {
                title: title("Superseded.title", superseded.title)?,
                by: Owner {
                    epoch: superseded.by_epoch,
                    node: node("Superseded.by_node", superseded.by_node)?,
                },
            },
            Item::NotHere(not_here) => ToCalls::NotHere {
                title: title("NotHere.title", not_here.title)?,
                leg: not_here.leg.map(|raw| leg("NotHere.leg", raw)).transpose()?,
            },
            Item::Stray(stray) => ToCalls::Stray {
                ticket: stray.ticket,
                call: call("Stray.call", stray.call)?,
                leg: leg("Stray.leg", stray.leg)?,
            },
            Item::Revived(revived) => ToCalls::Revived {
                title: title("Revived.title", revived.title)?,
                leg: leg("Revived.leg", revived.leg)?,
                lives: revived.lives,
            },
            Item::Leaves(leaves) => ToCalls::Leaves {
                title: title("Leaves.title", leaves.title)?,
                leg: leg("Leaves.leg", leaves.leg)?,
            },
            Item::Names(names) => ToCalls::Names(read_names(&names)?),
        })
    }
}

impl Wire for ToLegs {
    type Message = v1::ToLegs;

    fn write(self) -> Result<v1::ToLegs, WireError> {
        use v1::to_legs::Item;
        let item = match self {
            ToLegs::Decline { title, why } => {
                Item::Decline(v1::Decline { title: write_title(title), why: write_decline(why).into() })
            }
            ToLegs::Originate { title, leg, sip_call_id, order } => Item::Originate(v1::NewLeg {
                title: write_title(title),
                leg: leg.as_u64(),
                sip_call_id: text("NewLeg.sip_call_id", sip_call_id)?,
                order: Some(write_order(*order)?),
            }),
            ToLegs::Command { title, leg, command } => Item::Command(v1::LegOrder {
                title: write_title(title),
                leg: leg.as_u64(),
                command: Some(write_command(command)?),
            }),
            ToLegs::Keep { title, capsule } => {
                Item::Keep(v1::Keep { title: write_title(title), capsule: Some(write_capsule(*capsule)?) })
            }
            ToLegs::Claim { title } => Item::Claim(written(title)),
            ToLegs::Done { title } => Item::Done(written(title)),
            ToLegs::Revive { title, leg, ticket, state } => Item::Revive(v1::Revive {
                title: write_title(title),
                leg: leg.as_u64(),
                ticket,
                state: dialog("Revive.state", state)?,
            }),
            ToLegs::Part { title, leg } => {
                Item::Part(v1::Part { title: write_title(title), leg: leg.as_u64() })
            }
            ToLegs::NoStray { ticket } => Item::NoStray(v1::NoStray { ticket }),
            ToLegs::Names => Item::Names(v1::MoreNames {}),
        };
        Ok(v1::ToLegs { item: Some(item) })
    }

    fn read(message: v1::ToLegs) -> Result<ToLegs, WireError> {
        use v1::to_legs::Item;
        Ok(match there("ToLegs.item", message.item)? {
            Item::Decline(decline) => ToLegs::Decline {
                title: title("Decline.title", decline.title)?,
                why: read_decline(decline.why)?,
            },
            Item::Originate(new) => ToLegs::Originate {
                title: title("NewLeg.title", new.title)?,
                leg: leg("NewLeg.leg", new.leg)?,
                sip_call_id: text("NewLeg.sip_call_id", new.sip_call_id)?,
                order: Box::new(read_order(there("NewLeg.order", new.order)?)?),
            },
            Item::Command(order) => ToLegs::Command {
                title: title("LegOrder.title", order.title)?,
                leg: leg("LegOrder.leg", order.leg)?,
                command: read_command(there("LegOrder.command", order.command)?)?,
            },
            Item::Keep(keep) => ToLegs::Keep {
                title: title("Keep.title", keep.title)?,
                capsule: Box::new(read_capsule(there("Keep.capsule", keep.capsule)?)?),
            },
            Item::Claim(value) => ToLegs::Claim { title: title("ToLegs.claim", Some(value))? },
            Item::Done(value) => ToLegs::Done { title: title("ToLegs.done", Some(value))? },
            Item::Revive(revive) => ToLegs::Revive {
                title: title("Revive.title", revive.title)?,
                leg: leg("Revive.leg", revive.leg)?,
                ticket: revive.ticket,
                state: dialog("Revive.state", revive.state)?,
            },
            Item::Part(part) => {
                ToLegs::Part { title: title("Part.title", part.title)?, leg: leg("Part.leg", part.leg)? }
            }
            Item::NoStray(no) => ToLegs::NoStray { ticket: no.ticket },
            Item::Names(_) => ToLegs::Names,
        })
    }
}

fn written(title: cluster::between::Title) -> v1::Title {
    v1::Title { call: title.call.as_u64(), epoch: title.epoch }
}

fn write_incoming(incoming: Incoming) -> Read<v1::IncomingLeg> {
    let (mut aor, mut user, mut ddi) = (0, None, None);
    match incoming.origin {
        Origin::Endpoint { aor: whose, user: who } => {
            (aor, user) = (whose.bits(), who.map(model::Id::get));
        }
        Origin::Wholesale => {}
        Origin::Ddi { ddi: id, provider, called, caller } => {
            ddi = Some(v1::CalledDdi {
                ddi: id.get(),
                provider: provider.get(),
                called: called.to_string(),
                caller: caller.map(|caller| caller.to_string()),
            });
        }
    }
    Ok(v1::IncomingLeg {
        call: incoming.call.as_u64(),
        leg: incoming.leg.as_u64(),
        brand: incoming.brand.get(),
        client: incoming.client.get(),
        aor,
        user,
        ddi,
        caller: Some(write_presented(incoming.caller)?),
        dialed: text("IncomingLeg.dialed", incoming.dialed)?,
        offer: maybe_body("IncomingLeg.offer", incoming.offer)?,
        headers: write_headers("IncomingLeg.headers", &incoming.headers)?,
        sip_call_id: text("IncomingLeg.sip_call_id", incoming.sip_call_id)?,
        source: write_address(incoming.source),
        max_forwards: incoming.max_forwards.into(),
    })
}

fn read_incoming(incoming: v1::IncomingLeg) -> Read<Incoming> {
    let origin = match (incoming.aor, incoming.ddi) {
        (0, None) => Origin::Wholesale,
        (0, Some(called)) => Origin::Ddi {
            ddi: id("CalledDdi.ddi", called.ddi)?,
            provider: id("CalledDdi.provider", called.provider)?,
            called: number("CalledDdi.called", &called.called)?,
            caller: called.caller.map(|caller| number("CalledDdi.caller", &caller)).transpose()?,
        },
        (bits, _) => Origin::Endpoint {
            aor: Aor::from_bits(bits),
            user: incoming.user.map(|raw| id("IncomingLeg.user", raw)).transpose()?,
        },
    };
    Ok(Incoming {
        call: call("IncomingLeg.call", incoming.call)?,
        leg: leg("IncomingLeg.leg", incoming.leg)?,
        brand: id("IncomingLeg.brand", incoming.brand)?,
        client: id("IncomingLeg.client", incoming.client)?,
        origin,
        caller: read_presented(incoming.caller.unwrap_or_default())?,
        dialed: text("IncomingLeg.dialed", incoming.dialed)?,
        offer: maybe_body("IncomingLeg.offer", incoming.offer)?,
        headers: headers("IncomingLeg.headers", &incoming.headers)?,
        sip_call_id: text("IncomingLeg.sip_call_id", incoming.sip_call_id)?,
        source: address("IncomingLeg.source", incoming.source)?,
        max_forwards: octet("IncomingLeg.max_forwards", incoming.max_forwards)?,
    })
}

fn write_presented(caller: Presented) -> Read<v1::Presented> {
    let some = |field, value: Option<String>| value.map(|value| text(field, value)).transpose();
    Ok(v1::Presented {
        number: some("Presented.number", caller.number)?,
        name: text("Presented.name", caller.name)?,
        is_private: caller.is_private,
        diversions: write_diversions(caller.diversions)?,
        charge: some("Presented.charge", caller.charge)?,
        x_tag: some("Presented.x_tag", caller.x_tag)?,
    })
}

fn read_presented(caller: v1::Presented) -> Read<Presented> {
    let some = |field, value: Option<String>| value.map(|value| text(field, value)).transpose();
    Ok(Presented {
        number: some("Presented.number", caller.number)?,
        name: text("Presented.name", caller.name)?,
        is_private: caller.is_private,
        diversions: read_diversions(caller.diversions)?,
        charge: some("Presented.charge", caller.charge)?,
        x_tag: some("Presented.x_tag", caller.x_tag)?,
    })
}

fn write_diversions(all: Vec<Diversion>) -> Read<Vec<v1::Diversion>> {
    few("diversions", all.len(), DIVERSIONS_MAX)?;
    let one = |diversion: Diversion| {
        Ok(v1::Diversion {
            number: text("Diversion.number", diversion.number)?,
            reason: text("Diversion.reason", diversion.reason)?,
        })
    };
    all.into_iter().map(one).collect()
}

fn read_diversions(all: Vec<v1::Diversion>) -> Read<Vec<Diversion>> {
    few("diversions", all.len(), DIVERSIONS_MAX)?;
    let one = |diversion: v1::Diversion| {
        Ok(Diversion {
            number: text("Diversion.number", diversion.number)?,
            reason: text("Diversion.reason", diversion.reason)?,
        })
    };
    all.into_iter().map(one).collect()
}

fn write_stand(stand: Stand) -> Read<v1::Stand> {
    few("Stand.legs", stand.legs.len(), LEGS_MAX)?;
    few("Stand.happened", stand.happened.len(), HAPPENED_MAX)?;
    let happened = |happened: Happened| {
        Ok(v1::Happened {
            leg: happened.leg.as_u64(),
            unix_us: happened.unix_us,
            event: happened.event.map(write_event).transpose()?,
        })
    };
    Ok(v1::Stand {
        title: write_title(stand.title),
        incoming: stand.incoming.map(|incoming| write_incoming(*incoming)).transpose()?,
        capsule: Some(write_capsule(stand.capsule)?),
        legs: stand.legs.into_iter().map(LegId::as_u64).collect(),
        happened: stand.happened.into_iter().map(happened).collect::<Read<_>>()?,
    })
}

fn read_stand(stand: v1::Stand) -> Read<Stand> {
    few("Stand.legs", stand.legs.len(), LEGS_MAX)?;
    few("Stand.happened", stand.happened.len(), HAPPENED_MAX)?;
    let happened = |happened: v1::Happened| {
        Ok(Happened {
            leg: leg("Happened.leg", happened.leg)?,
            unix_us: happened.unix_us,
            event: happened.event.map(read_event).transpose()?,
        })
    };
    Ok(Stand {
        title: title("Stand.title", stand.title)?,
        incoming: stand.incoming.map(|incoming| read_incoming(incoming).map(Box::new)).transpose()?,
        capsule: read_capsule(there("Stand.capsule", stand.capsule)?)?,
        legs: stand.legs.into_iter().map(|raw| leg("Stand.legs", raw)).collect::<Read<_>>()?,
        happened: stand.happened.into_iter().map(happened).collect::<Read<_>>()?,
    })
}

fn write_capsule(capsule: Capsule) -> Read<v1::Capsule> {
    fits("Capsule.call", capsule.call.len(), CALL_MAX)?;
    few("Capsule.legs", capsule.legs.len(), LEGS_MAX)?;
    few("Capsule.custodians", capsule.custodians.len(), LEGS_MAX)?;
    let one = |kept: KeptLeg| {
        Ok(v1::KeptLeg {
            leg: kept.leg.as_u64(),
            home: kept.home.0.into(),
            state: dialog("KeptLeg.state", kept.state)?,
        })
    };
    Ok(v1::Capsule {
        version: capsule.version,
        call: capsule.call,
        legs: capsule.legs.into_iter().map(one).collect::<Read<_>>()?,
        custodians: capsule.custodians.into_iter().map(|node| node.0.into()).collect(),
        client: capsule.client.map(model::Id::get),
    })
}

fn read_capsule(capsule: v1::Capsule) -> Read<Capsule> {
    fits("Capsule.call", capsule.call.len(), CALL_MAX)?;
    few("Capsule.legs", capsule.legs.len(), LEGS_MAX)?;
    few("Capsule.custodians", capsule.custodians.len(), LEGS_MAX)?;
    let one = |kept: v1::KeptLeg| {
        Ok(KeptLeg {
            leg: leg("KeptLeg.leg", kept.leg)?,
            home: node("KeptLeg.home", kept.home)?,
            state: dialog("KeptLeg.state", kept.state)?,
        })
    };
    Ok(Capsule {
        version: capsule.version,
        client: capsule.client.map(|raw| id("Capsule.client", raw)).transpose()?,
        call: capsule.call,
        legs: capsule.legs.into_iter().map(one).collect::<Read<_>>()?,
        custodians: capsule
            .custodians
            .into_iter()
            .map(|raw| node("Capsule.custodians", raw))
            .collect::<Read<_>>()?,
    })
}

fn write_order(order: Originate) -> Read<v1::Origination> {
    let (mut target, mut route, mut flow, mut server) = (String::new(), Vec::new(), None, 0);
    let aor = order.to.aor().map_or(0, Aor::bits);
    match order.to {
        Callee::Binding { target: contact, route: path, flow: way, .. } => {
            (target, route) = (text("Origination.target", contact)?, texts("Origination.route", path)?);
            flow = Some(v1::FlowAddress {
                transport: write_transport(way.transport).into(),
                listener: way.listener.into(),
                remote: write_address(way.remote),
                conn: way.conn.0,
            });
        }
        Callee::Direct { .. } => {}
        Callee::Server { server: id } => server = id.get(),
    }
    Ok(v1::Origination {
        call: order.call.as_u64(),
        aor,
        target,
        route,
        flow,
        server,
        caller_name: text("Origination.caller_name", order.caller_name)?,
        caller_number: text("Origination.caller_number", order.caller_number)?,
        is_private: order.is_private,
        called_number: text("Origination.called_number", order.called_number)?,
        domain: text("Origination.domain", order.domain)?,
        diversions: write_diversions(order.diversions)?,
        charge: order.charge.map(|charge| text("Origination.charge", charge)).transpose()?,
        offer: maybe_body("Origination.offer", order.offer)?,
        headers: write_headers("Origination.headers", &order.headers)?,
        max_forwards: order.max_forwards.into(),
    })
}

fn read_order(order: v1::Origination) -> Read<Originate> {
    let aor = Aor::from_bits(order.aor);
    let to = match (order.server, order.flow) {
        (0, Some(flow)) => Callee::Binding {
            aor,
            target: text("Origination.target", order.target)?,
            route: texts("Origination.route", order.route)?,
            flow: Flow {
                transport: read_transport(flow.transport)?,
                listener: short("FlowAddress.listener", flow.listener)?,
                remote: address("FlowAddress.remote", flow.remote)?,
                conn: ConnId(flow.conn),
            },
        },
        (0, None) if order.aor == 0 => return bad("Origination.aor", Why::Range(0)),
        (0, None) => Callee::Direct { aor },
        (server, _) => Callee::Server { server: id("Origination.server", server)? },
    };
    Ok(Originate {
        call: call("Origination.call", order.call)?,
        // Whoever gets it is meant.
        home: NodeId(0),
        to,
        caller_name: text("Origination.caller_name", order.caller_name)?,
        caller_number: text("Origination.caller_number", order.caller_number)?,
        is_private: order.is_private,
        called_number: text("Origination.called_number", order.called_number)?,
        domain: text("Origination.domain", order.domain)?,
        diversions: read_diversions(order.diversions)?,
        charge: order.charge.map(|charge| text("Origination.charge", charge)).transpose()?,
        offer: maybe_body("Origination.offer", order.offer)?,
        headers: headers("Origination.headers", &order.headers)?,
        max_forwards: octet("Origination.max_forwards", order.max_forwards)?,
    })
}

fn read_names(names: &v1::LegNames) -> Read<LegNames> {
    if names.first >= COUNTER_END {
        return bad("LegNames.first", Why::Range(names.first));
    }
    Ok(LegNames { worker: octet("LegNames.worker", names.worker)?, first: names.first, count: names.count })
}

fn write_decline(why: Decline) -> v1::DeclineReason {
    match why {
        Decline::Full => v1::DeclineReason::Full,
        Decline::Draining => v1::DeclineReason::Draining,
        Decline::NoRecords => v1::DeclineReason::NoRecords,
        Decline::Format => v1::DeclineReason::Format,
        Decline::Unknown => v1::DeclineReason::Unknown,
    }
}

fn read_decline(raw: i32) -> Read<Decline> {
    Ok(match v1::DeclineReason::try_from(raw) {
        Ok(v1::DeclineReason::Full) => Decline::Full,
        Ok(v1::DeclineReason::Draining) => Decline::Draining,
        Ok(v1::DeclineReason::NoRecords) => Decline::NoRecords,
        Ok(v1::DeclineReason::Format) => Decline::Format,
        Ok(v1::DeclineReason::Unknown) => Decline::Unknown,
        Ok(v1::DeclineReason::Unspecified) | Err(_) => return bad("Decline.why", Why::Unknown(raw)),
    })
}

fn write_transport(transport: Transport) -> v1::SipTransport {
    match transport {
        Transport::Udp => v1::SipTransport::Udp,
        Transport::Tcp => v1::SipTransport::Tcp,
        Transport::Tls => v1::SipTransport::Tls,
        Transport::Ws => v1::SipTransport::Ws,
        Transport::Wss => v1::SipTransport::Wss,
    }
}

fn read_transport(raw: i32) -> Read<Transport> {
    Ok(match v1::SipTransport::try_from(raw) {
        Ok(v1::SipTransport::Udp) => Transport::Udp,
        Ok(v1::SipTransport::Tcp) => Transport::Tcp,
        Ok(v1::SipTransport::Tls) => Transport::Tls,
        Ok(v1::SipTransport::Ws) => Transport::Ws,
        Ok(v1::SipTransport::Wss) => Transport::Wss,
        Ok(v1::SipTransport::Unspecified) | Err(_) => return bad("FlowAddress.transport", Why::Unknown(raw)),
    })
}
