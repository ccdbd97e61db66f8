//! Events and commands of a leg.
//!
//! In and out: `sip::session`'s words and their wire form. Elsewhere: the messages around them (`leg`).

use super::{
    METHOD_MAX, Read, Why, bad, body, fits, headers, maybe_body, maybe_text, status, text, there,
    write_headers,
};
use cluster::leg::{LegCommand, LegEvent};
use proto::v1::{self, leg_command as c, leg_event as e};
use sip::msg::Method;
use sip::session::{EndCause, OfferVia};

pub(super) fn write_event(event: LegEvent) -> Read<v1::LegEvent> {
    use e::Event as E;
    let event = match event {
        LegEvent::Progress { status, sdp, fork } => E::Progress(e::Progress {
            status: status.into(),
            sdp: maybe_body("LegEvent.Progress.sdp", sdp)?,
            fork,
        }),
        LegEvent::Answered { sdp, fork } => {
            E::Answered(e::Answered { sdp: maybe_body("LegEvent.Answered.sdp", sdp)?, fork })
        }
        LegEvent::Tagged { tag } => E::Tagged(e::Tagged { tag: text("LegEvent.Tagged.tag", tag)? }),
        LegEvent::Rejected { status, reason, headers } => E::Rejected(e::Rejected {
            status: status.into(),
            reason: text("LegEvent.Rejected.reason", reason)?,
            headers: write_headers("LegEvent.Rejected.headers", &headers)?,
        }),
        LegEvent::Confirmed { sdp } => {
            E::Confirmed(e::Confirmed { sdp: maybe_body("LegEvent.Confirmed.sdp", sdp)? })
        }
        LegEvent::Cancelled { reason } => {
            E::Cancelled(e::Cancelled { reason: maybe_text("LegEvent.Cancelled.reason", reason)? })
        }
        LegEvent::Offer { sdp, via } => {
            E::Offer(e::Offer { sdp: maybe_body("LegEvent.Offer.sdp", sdp)?, via: write_via(via).into() })
        }
        LegEvent::OfferWithdrawn => E::OfferWithdrawn(e::OfferWithdrawn {}),
        LegEvent::Answer { sdp } => E::Answer(e::Answer { sdp: body("LegEvent.Answer.sdp", sdp)? }),
        LegEvent::OfferRejected { status } => E::OfferRejected(e::OfferRejected { status: status.into() }),
        LegEvent::Info { content_type, body: octets } => E::Info(e::Info {
            content_type: text("LegEvent.Info.content_type", content_type)?,
            body: body("LegEvent.Info.body", octets)?,
        }),
        LegEvent::Message { content_type, body: octets } => E::Message(e::TextMessage {
            content_type: text("LegEvent.TextMessage.content_type", content_type)?,
            body: body("LegEvent.TextMessage.body", octets)?,
        }),
        LegEvent::Refer { refer_to, referred_by } => E::Refer(e::Refer {
            refer_to: text("LegEvent.Refer.refer_to", refer_to)?,
            referred_by: maybe_text("LegEvent.Refer.referred_by", referred_by)?,
        }),
        LegEvent::Notify { event, subscription_state, content_type, body: octets } => E::Notify(e::Notify {
            event: text("LegEvent.Notify.event", event)?,
            subscription_state: text("LegEvent.Notify.subscription_state", subscription_state)?,
            content_type: text("LegEvent.Notify.content_type", content_type)?,
            body: body("LegEvent.Notify.body", octets)?,
        }),
        LegEvent::Replied { method, status } => {
            let method = method.as_bytes();
            fits("LegEvent.Replied.method", method.len(), METHOD_MAX)?;
            E::Replied(e::Replied { method: bytes::Bytes::copy_from_slice(method), status: status.into() })
        }
        LegEvent::Ended { by_peer, cause, reason } => E::Ended(e::Ended {
            by_peer,
            cause: write_cause(cause).into(),
            reason: maybe_text("LegEvent.Ended.reason", reason)?,
        }),
    };
    Ok(v1::LegEvent { event: Some(event) })
}

pub(super) fn read_event(event: v1::LegEvent) -> Read<LegEvent> {
    use e::Event as E;
    Ok(match there("LegEvent.event", event.event)? {
        E::Progress(progress) => LegEvent::Progress {
            status: status("LegEvent.Progress.status", progress.status, 101, 199)?,
            sdp: maybe_body("LegEvent.Progress.sdp", progress.sdp)?,
            fork: progress.fork,
        },
        E::Answered(answered) => LegEvent::Answered {
            sdp: maybe_body("LegEvent.Answered.sdp", answered.sdp)?,
            fork: answered.fork,
        },
        E::Tagged(tagged) => LegEvent::Tagged { tag: text("LegEvent.Tagged.tag", tagged.tag)? },
        E::Rejected(rejected) => LegEvent::Rejected {
            status: status("LegEvent.Rejected.status", rejected.status, 300, 699)?,
            reason: text("LegEvent.Rejected.reason", rejected.reason)?,
            headers: headers("LegEvent.Rejected.headers", &rejected.headers)?,
        },
        E::Confirmed(confirmed) => {
            LegEvent::Confirmed { sdp: maybe_body("LegEvent.Confirmed.sdp", confirmed.sdp)? }
        }
        E::Cancelled(cancelled) => {
            LegEvent::Cancelled { reason: maybe_text("LegEvent.Cancelled.reason", cancelled.reason)? }
        }
        E::Offer(offer) => {
            LegEvent::Offer { sdp: maybe_body("LegEvent.Offer.sdp", offer.sdp)?, via: read_via(offer.via)? }
        }
        E::OfferWithdrawn(_) => LegEvent::OfferWithdrawn,
        E::Answer(answer) => LegEvent::Answer { sdp: body("LegEvent.Answer.sdp", answer.sdp)? },
        E::OfferRejected(rejected) => LegEvent::OfferRejected {
            status: status("LegEvent.OfferRejected.status", rejected.status, 300, 699)?,
        },
        E::Info(info) => LegEvent::Info {
            content_type: text("LegEvent.Info.content_type", info.content_type)?,
            body: body("LegEvent.Info.body", info.body)?,
        },
        E::Message(message) => LegEvent::Message {
            content_type: text("LegEvent.TextMessage.content_type", message.content_type)?,
            body: body("LegEvent.TextMessage.body", message.body)?,
        },
        E::Refer(refer) => LegEvent::Refer {
            refer_to: text("LegEvent.Refer.refer_to", refer.refer_to)?,
            referred_by: maybe_text("LegEvent.Refer.referred_by", refer.referred_by)?,
        },
        E::Notify(notify) => LegEvent::Notify {
            event: text("LegEvent.Notify.event", notify.event)?,
            subscription_state: text("LegEvent.Notify.subscription_state", notify.subscription_state)?,
            content_type: text("LegEvent.Notify.content_type", notify.content_type)?,
            body: body("LegEvent.Notify.body", notify.body)?,
        },
        E::Replied(replied) => {
            fits("LegEvent.Replied.method", replied.method.len(), METHOD_MAX)?;
            let method = Method::parse(&replied.method);
            LegEvent::Replied {
                method: method.map_or(bad("LegEvent.Replied.method", Why::Malformed), Ok)?,
                status: status("LegEvent.Replied.status", replied.status, 200, 699)?,
            }
        }
        E::Ended(ended) => LegEvent::Ended {
            by_peer: ended.by_peer,
            cause: read_cause(ended.cause)?,
            reason: maybe_text("LegEvent.Ended.reason", ended.reason)?,
        },
    })
}

pub(super) fn write_command(command: LegCommand) -> Read<v1::LegCommand> {
    use c::Command as C;
    let respond = |status: u16| c::Respond { status: status.into() };
    let command = match command {
        LegCommand::Progress { status, sdp, headers } => C::Progress(c::Progress {
            status: status.into(),
            sdp: maybe_body("LegCommand.Progress.sdp", sdp)?,
            headers: write_headers("LegCommand.Progress.headers", &headers)?,
        }),
        LegCommand::Accept { sdp, headers } => C::Accept(c::Accept {
            sdp: maybe_body("LegCommand.Accept.sdp", sdp)?,
            headers: write_headers("LegCommand.Accept.headers", &headers)?,
        }),
        LegCommand::Reject { status, reason, headers } => C::Reject(c::Reject {
            status: status.into(),
            reason: maybe_text("LegCommand.Reject.reason", reason)?,
            headers: write_headers("LegCommand.Reject.headers", &headers)?,
        }),
        LegCommand::Cancel { reason } => {
            C::Cancel(c::Cancel { reason: maybe_text("LegCommand.Cancel.reason", reason)? })
        }
        LegCommand::Reoffer { sdp, prefer_update } => {
            C::Reoffer(c::Reoffer { sdp: maybe_body("LegCommand.Reoffer.sdp", sdp)?, prefer_update })
        }
        LegCommand::Answer { sdp } => C::Answer(c::Answer { sdp: body("LegCommand.Answer.sdp", sdp)? }),
        LegCommand::RejectOffer { status } => C::RejectOffer(respond(status)),
        LegCommand::Info { content_type, body, headers } => C::Info(send(content_type, body, &headers)?),
        LegCommand::Message { content_type, body, headers } => {
            C::Message(send(content_type, body, &headers)?)
        }
        LegCommand::Refer { refer_to, referred_by, headers } => C::Refer(c::Refer {
            refer_to: text("LegCommand.Refer.refer_to", refer_to)?,
            referred_by: maybe_text("LegCommand.Refer.referred_by", referred_by)?,
            headers: write_headers("LegCommand.Refer.headers", &headers)?,
        }),
        LegCommand::Notify { event, subscription_state, content_type, body: octets } => {
            C::Notify(c::Notify {
                event: text("LegCommand.Notify.event", event)?,
                subscription_state: text("LegCommand.Notify.subscription_state", subscription_state)?,
                content_type: text("LegCommand.Notify.content_type", content_type)?,
                body: body("LegCommand.Notify.body", octets)?,
            })
        }
        LegCommand::RespondInfo { status } => C::RespondInfo(respond(status)),
        LegCommand::RespondMessage { status } => C::RespondMessage(respond(status)),
        LegCommand::RespondRefer { status } => C::RespondRefer(respond(status)),
        LegCommand::Bye { reason } => C::Bye(c::Bye { reason: maybe_text("LegCommand.Bye.reason", reason)? }),
    };
    Ok(v1::LegCommand { command: Some(command) })
}

fn send(content_type: String, octets: bytes::Bytes, lines: &sip::draft::HeaderText) -> Read<c::Send> {
    Ok(c::Send {
        content_type: text("LegCommand.Send.content_type", content_type)?,
        body: body("LegCommand.Send.body", octets)?,
        headers: write_headers("LegCommand.Send.headers", lines)?,
    })
}

pub(super) fn read_command(command: v1::LegCommand) -> Read<LegCommand> {
    use c::Command as C;
    let answered = |response: c::Respond| status("LegCommand.Respond.status", response.status, 200, 699);
    Ok(match there("LegCommand.command", command.command)? {
        C::Progress(progress) => LegCommand::Progress {
            status: status("LegCommand.Progress.status", progress.status, 101, 199)?,
            sdp: maybe_body("LegCommand.Progress.sdp", progress.sdp)?,
            headers: headers("LegCommand.Progress.headers", &progress.headers)?,
        },
        C::Accept(accept) => LegCommand::Accept {
            sdp: maybe_body("LegCommand.Accept.sdp", accept.sdp)?,
            headers: headers("LegCommand.Accept.headers", &accept.headers)?,
        },
        C::Reject(reject) => LegCommand::Reject {
            status: status("LegCommand.Reject.status", reject.status, 300, 699)?,
            reason: maybe_text("LegCommand.Reject.reason", reject.reason)?,
            headers: headers("LegCommand.Reject.headers", &reject.headers)?,
        },
        C::Cancel(cancel) => {
            LegCommand::Cancel { reason: maybe_text("LegCommand.Cancel.reason", cancel.reason)? }
        }
        C::Reoffer(reoffer) => LegCommand::Reoffer {
            sdp: maybe_body("LegCommand.Reoffer.sdp", reoffer.sdp)?,
            prefer_update: reoffer.prefer_update,
        },
        C::Answer(answer) => LegCommand::Answer { sdp: body("LegCommand.Answer.sdp", answer.sdp)? },
        C::RejectOffer(reject) => {
            LegCommand::RejectOffer { status: status("LegCommand.Respond.status", reject.status, 400, 699)? }
        }
        C::Info(send) => LegCommand::Info {
            content_type: text("LegCommand.Send.content_type", send.content_type)?,
            body: body("LegCommand.Send.body", send.body)?,
            headers: headers("LegCommand.Send.headers", &send.headers)?,
        },
        C::Message(send) => LegCommand::Message {
            content_type: text("LegCommand.Send.content_type", send.content_type)?,
            body: body("LegCommand.Send.body", send.body)?,
            headers: headers("LegCommand.Send.headers", &send.headers)?,
        },
        C::Refer(refer) => LegCommand::Refer {
            refer_to: text("LegCommand.Refer.refer_to", refer.refer_to)?,
            referred_by: maybe_text("LegCommand.Refer.referred_by", refer.referred_by)?,
            headers: headers("LegCommand.Refer.headers", &refer.headers)?,
        },
        C::Notify(notify) => LegCommand::Notify {
            event: text("LegCommand.Notify.event", notify.event)?,
            subscription_state: text("LegCommand.Notify.subscription_state", notify.subscription_state)?,
            content_type: text("LegCommand.Notify.content_type", notify.content_type)?,
            body: body("LegCommand.Notify.body", notify.body)?,
        },
        C::RespondInfo(response) => LegCommand::RespondInfo { status: answered(response)? },
        C::RespondMessage(response) => LegCommand::RespondMessage { status: answered(response)? },
        C::RespondRefer(response) => LegCommand::RespondRefer { status: answered(response)? },
        C::Bye(bye) => LegCommand::Bye { reason: maybe_text("LegCommand.Bye.reason", bye.reason)? },
    })
}

fn write_via(via: OfferVia) -> v1::OfferVia {
    match via {
        OfferVia::Invite => v1::OfferVia::Invite,
        OfferVia::Response => v1::OfferVia::Response,
        OfferVia::Reliable => v1::OfferVia::Reliable,
        OfferVia::Prack => v1::OfferVia::Prack,
        OfferVia::Update => v1::OfferVia::Update,
    }
}

fn read_via(raw: i32) -> Read<OfferVia> {
    Ok(match v1::OfferVia::try_from(raw) {
        Ok(v1::OfferVia::Invite) => OfferVia::Invite,
        Ok(v1::OfferVia::Response) => OfferVia::Response,
        Ok(v1::OfferVia::Reliable) => OfferVia::Reliable,
        Ok(v1::OfferVia::Prack) => OfferVia::Prack,
        Ok(v1::OfferVia::Update) => OfferVia::Update,
        Ok(v1::OfferVia::Unspecified) | Err(_) => return bad("LegEvent.Offer.via", Why::Unknown(raw)),
    })
}

fn write_cause(cause: EndCause) -> v1::EndCause {
    match cause {
        EndCause::Bye => v1::EndCause::Bye,
        EndCause::Refused => v1::EndCause::Refused,
        EndCause::Cancelled => v1::EndCause::Cancelled,
        EndCause::NoAck => v1::EndCause::NoAck,
        EndCause::NoPrack => v1::EndCause::NoPrack,
        EndCause::NoAnswer => v1::EndCause::NoAnswer,
        EndCause::SessionExpired => v1::EndCause::SessionExpired,
        EndCause::Gone => v1::EndCause::Gone,
        EndCause::TransactionFailed => v1::EndCause::TransactionFailed,
    }
}

fn read_cause(raw: i32) -> Read<EndCause> {
    Ok(match v1::EndCause::try_from(raw) {
        Ok(v1::EndCause::Bye) => EndCause::Bye,
        Ok(v1::EndCause::Refused) => EndCause::Refused,
        Ok(v1::EndCause::Cancelled) => EndCause::Cancelled,
        Ok(v1::EndCause::NoAck) => EndCause::NoAck,
        Ok(v1::EndCause::NoPrack) => EndCause::NoPrack,
        Ok(v1::EndCause::NoAnswer) => EndCause::NoAnswer,
        Ok(v1::EndCause::SessionExpired) => EndCause::SessionExpired,
        Ok(v1::EndCause::Gone) => EndCause::Gone,
        Ok(v1::EndCause::TransactionFailed) => EndCause::TransactionFailed,
        Ok(v1::EndCause::Unspecified) | Err(_) => return bad("LegEvent.Ended.cause", Why::Unknown(raw)),
    })
}
