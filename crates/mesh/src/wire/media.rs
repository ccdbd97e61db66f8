//! Messages about media.
//!
//! In and out: [`ToRelay`], [`FromRelay`] and their wire form (`media.proto`).

use super::{
    MEDIA_LEGS_MAX, Read, Why, Wire, WireError, bad, body, call, few, ip, octet, short, there, words,
    write_ip,
};
use cluster::between::{FromRelay, ToRelay};
use cluster::media::{MediaCommand, MediaError, MediaEvent, MediaLeg, MediaReply, Signalling};
use model::MediaReport;
use proto::v1::{self, media_command as c, media_event as e, media_reply as r};

impl Wire for ToRelay {
    type Message = v1::ToRelay;

    fn write(self) -> Result<v1::ToRelay, WireError> {
        let ToRelay::Submit { call, ticket, command, signalling } = self;
        let submission = v1::Submission {
            call: call.as_u64(),
            ticket,
            command: Some(v1::MediaCommand { command: Some(write_command(command)?) }),
            signalling_from: signalling.from.map(write_ip),
            signalling_to: signalling.to.map(write_ip),
            anywhere: signalling.anywhere,
        };
        Ok(v1::ToRelay { item: Some(v1::to_relay::Item::Submit(submission)) })
    }

    fn read(message: v1::ToRelay) -> Result<ToRelay, WireError> {
        let v1::to_relay::Item::Submit(submission) = there("ToRelay.item", message.item)?;
        let command = there("Submission.command", submission.command)?;
        let signalling = Signalling {
            from: submission.signalling_from.map(|raw| ip("Submission.signalling_from", &raw)).transpose()?,
            to: submission.signalling_to.map(|raw| ip("Submission.signalling_to", &raw)).transpose()?,
            anywhere: submission.anywhere,
        };
        Ok(ToRelay::Submit {
            call: call("Submission.call", submission.call)?,
            ticket: submission.ticket,
            command: read_command(there("MediaCommand.command", command.command)?)?,
            signalling,
        })
    }
}

impl Wire for FromRelay {
    type Message = v1::FromRelay;

    fn write(self) -> Result<v1::FromRelay, WireError> {
        let item = match self {
            FromRelay::Reply { call, ticket, reply } => v1::from_relay::Item::Reply(v1::MediaReply {
                call: call.as_u64(),
                ticket,
                reply: Some(write_reply(reply)?),
            }),
            FromRelay::Event { call, event: MediaEvent::Silent { leg } } => {
                v1::from_relay::Item::Event(v1::MediaEvent {
                    call: call.as_u64(),
                    event: Some(e::Event::Silent(e::Silent { leg: leg.0.into() })),
                })
            }
            FromRelay::Event { call, event: MediaEvent::Unclaimed } => {
                let event = Some(e::Event::Unclaimed(e::Unclaimed {}));
                v1::from_relay::Item::Event(v1::MediaEvent { call: call.as_u64(), event })
            }
        };
        Ok(v1::FromRelay { item: Some(item) })
    }

    fn read(message: v1::FromRelay) -> Result<FromRelay, WireError> {
        Ok(match there("FromRelay.item", message.item)? {
            v1::from_relay::Item::Reply(reply) => FromRelay::Reply {
                call: call("MediaReply.call", reply.call)?,
                ticket: reply.ticket,
                reply: read_reply(there("MediaReply.reply", reply.reply)?)?,
            },
            v1::from_relay::Item::Event(event) => {
                let call = call("MediaEvent.call", event.call)?;
                let event = match there("MediaEvent.event", event.event)? {
                    e::Event::Silent(silent) => {
                        MediaEvent::Silent { leg: media_leg("MediaEvent.Silent.leg", silent.leg)? }
                    }
                    e::Event::Unclaimed(e::Unclaimed {}) => MediaEvent::Unclaimed,
                };
                FromRelay::Event { call, event }
            }
        })
    }
}

fn media_leg(field: &'static str, raw: u32) -> Read<MediaLeg> {
    octet(field, raw).map(MediaLeg)
}

fn write_command(command: MediaCommand) -> Read<c::Command> {
    let description = |from: MediaLeg, to: MediaLeg, sdp| {
        Ok(c::Description {
            from: from.0.into(),
            to: to.0.into(),
            sdp: body("MediaCommand.Description.sdp", sdp)?,
        })
    };
    Ok(match command {
        MediaCommand::Offer { from, to, sdp } => c::Command::Offer(description(from, to, sdp)?),
        MediaCommand::Answer { from, to, sdp } => c::Command::Answer(description(from, to, sdp)?),
        MediaCommand::Withdraw { from, to } => {
            c::Command::Withdraw(c::Withdrawal { from: from.0.into(), to: to.0.into() })
        }
        MediaCommand::Release { leg } => c::Command::Release(c::Leaving { leg: leg.0.into() }),
        MediaCommand::Stop => c::Command::Stop(c::Stop {}),
        MediaCommand::Close => c::Command::Close(c::Close {}),
    })
}

fn read_command(command: c::Command) -> Read<MediaCommand> {
    let description = |value: c::Description| {
        Ok((
            media_leg("MediaCommand.Description.from", value.from)?,
            media_leg("MediaCommand.Description.to", value.to)?,
            body("MediaCommand.Description.sdp", value.sdp)?,
        ))
    };
    Ok(match command {
        c::Command::Offer(value) => {
            let (from, to, sdp) = description(value)?;
            MediaCommand::Offer { from, to, sdp }
        }
        c::Command::Answer(value) => {
            let (from, to, sdp) = description(value)?;
            MediaCommand::Answer { from, to, sdp }
        }
        c::Command::Withdraw(value) => MediaCommand::Withdraw {
            from: media_leg("MediaCommand.Withdrawal.from", value.from)?,
            to: media_leg("MediaCommand.Withdrawal.to", value.to)?,
        },
        c::Command::Release(value) => {
            MediaCommand::Release { leg: media_leg("MediaCommand.Leaving.leg", value.leg)? }
        }
        c::Command::Stop(_) => MediaCommand::Stop,
        c::Command::Close(_) => MediaCommand::Close,
    })
}

fn write_reply(reply: MediaReply) -> Read<r::Reply> {
    Ok(match reply {
        MediaReply::Sdp(sdp) => r::Reply::Sdp(body("MediaReply.sdp", sdp)?),
        MediaReply::Done => r::Reply::Done(r::Done {}),
        MediaReply::Report(legs) => {
            few("MediaReply.Report.legs", legs.len(), MEDIA_LEGS_MAX)?;
            let legs = legs.into_iter().map(|(leg, report)| write_figures(leg, &report)).collect();
            r::Reply::Report(r::Report { legs })
        }
        MediaReply::Refused(error) => {
            let (why, text) = match error {
                MediaError::NoPorts => (v1::MediaRefusal::NoPorts, String::new()),
                MediaError::BadSdp(text) => (v1::MediaRefusal::BadSdp, words(text)),
                MediaError::Unreachable => (v1::MediaRefusal::Unreachable, String::new()),
                MediaError::Superseded => (v1::MediaRefusal::Superseded, String::new()),
                MediaError::OutOfStep(text) => (v1::MediaRefusal::OutOfStep, text.to_owned()),
            };
            r::Reply::Refused(r::Refused { why: why.into(), text })
        }
    })
}

fn read_reply(reply: r::Reply) -> Read<MediaReply> {
    Ok(match reply {
        r::Reply::Sdp(sdp) => MediaReply::Sdp(body("MediaReply.sdp", sdp)?),
        r::Reply::Done(_) => MediaReply::Done,
        r::Reply::Report(report) => {
            few("MediaReply.Report.legs", report.legs.len(), MEDIA_LEGS_MAX)?;
            MediaReply::Report(report.legs.iter().map(read_figures).collect::<Read<_>>()?)
        }
        r::Reply::Refused(refused) => MediaReply::Refused(match v1::MediaRefusal::try_from(refused.why) {
            Ok(v1::MediaRefusal::NoPorts) => MediaError::NoPorts,
            Ok(v1::MediaRefusal::BadSdp) => MediaError::BadSdp(words(refused.text)),
            Ok(v1::MediaRefusal::Unreachable) => MediaError::Unreachable,
            Ok(v1::MediaRefusal::Superseded) => MediaError::Superseded,
            Ok(v1::MediaRefusal::OutOfStep) => {
                // A mistake of ours, told by the relay: its words are for the log, and it is logged there.
                tracing::debug!(why = words(refused.text), "a relay says that a command is out of step");
                MediaError::OutOfStep("so the relay says")
            }
            Ok(v1::MediaRefusal::Unspecified) | Err(_) => {
                return bad("MediaReply.Refused.why", Why::Unknown(refused.why));
            }
        }),
    })
}

fn write_figures(leg: MediaLeg, report: &MediaReport) -> v1::LegFigures {
    v1::LegFigures {
        leg: leg.0.into(),
        packets_received: report.packets_received,
        bytes_received: report.bytes_received,
        packets_sent: report.packets_sent,
        bytes_sent: report.bytes_sent,
        lost: report.lost,
        jitter_us: report.jitter_us,
        reported_lost: report.reported_lost,
        reported_jitter_us: report.reported_jitter_us,
        round_trip_us: report.round_trip_us,
        mos_hundredths: report.mos_hundredths.map(u32::from),
        dropped: report.dropped,
    }
}

fn read_figures(figures: &v1::LegFigures) -> Read<(MediaLeg, MediaReport)> {
    let report = MediaReport {
        packets_received: figures.packets_received,
        bytes_received: figures.bytes_received,
        packets_sent: figures.packets_sent,
        bytes_sent: figures.bytes_sent,
        lost: figures.lost,
        jitter_us: figures.jitter_us,
        reported_lost: figures.reported_lost,
        reported_jitter_us: figures.reported_jitter_us,
        round_trip_us: figures.round_trip_us,
        mos_hundredths: figures
            .mos_hundredths
            .map(|raw| short("LegFigures.mos_hundredths", raw))
            .transpose()?,
        dropped: figures.dropped,
    };
    Ok((media_leg("LegFigures.leg", figures.leg)?, report))
}
