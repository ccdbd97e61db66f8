//! The capsule of a call on the wire: messages of protocol buffers, written out.
//!
//! In: a [`Capsule`]. Out: what `prost` writes and reads. A number of a field that was used once is never used for anything
//! else. Elsewhere: whether what was read makes sense as a whole (`capsule`).

use super::{Capsule, CapsuleError, FORMAT, KeptLeg, LegState, Stage};
use crate::call::record::Story;
use bytes::Bytes;
use cluster::between::Counted;
use cluster::counters::{Claim, PARTITIONS};
use cluster::ids::{CallId, LegId, NodeId};
use cluster::media::MediaLeg;
use model::{Cause, CdrLeg, HungUpBy, Id, LegRole, MediaReport};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Call {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    #[prost(fixed64, tag = "2")]
    call: u64,
    /// 1: rings, 2: talks, 3: has ended and the relay is being asked, 4: has ended.
    #[prost(uint32, tag = "3")]
    stage: u32,
    /// Who talks to the caller.
    #[prost(uint32, tag = "4")]
    callee: u32,
    #[prost(uint32, tag = "5")]
    brand: u32,
    #[prost(uint32, tag = "6")]
    client: u32,
    #[prost(message, optional, tag = "7")]
    caller_party: Option<Party>,
    #[prost(message, optional, tag = "8")]
    callee_party: Option<Party>,
    #[prost(string, tag = "9")]
    dialed: String,
    #[prost(int64, tag = "10")]
    started_us: i64,
    #[prost(int64, optional, tag = "11")]
    answered_us: Option<i64>,
    #[prost(message, optional, tag = "12")]
    ended: Option<End>,
    /// In the order of their numbers in the media session; the caller's first.
    #[prost(message, repeated, tag = "13")]
    legs: Vec<Leg>,
    #[prost(bool, tag = "14")]
    caller_offers: bool,
    #[prost(uint32, optional, tag = "15")]
    relay: Option<u32>,
    #[prost(bool, tag = "16")]
    has_media: bool,
    #[prost(uint32, optional, tag = "17")]
    moving_from: Option<u32>,
    #[prost(uint32, optional, tag = "18")]
    moving_to: Option<u32>,
    #[prost(bytes = "bytes", optional, tag = "19")]
    repair: Option<Bytes>,
    #[prost(message, optional, tag = "20")]
    changed: Option<Changed>,
    #[prost(message, repeated, tag = "21")]
    places: Vec<Place>,
    #[prost(message, repeated, tag = "23")]
    earlier: Vec<Figures>,
    /// What clients are told for whom it is an external call, as the store keeps it.
    #[prost(bytes = "bytes", repeated, tag = "24")]
    externals: Vec<Bytes>,
    #[prost(bool, tag = "25")]
    is_untraced: bool,
}

/// Clients for whom one call is external.
const EXTERNALS_MAX: usize = 4;

#[derive(Clone, PartialEq, prost::Message)]
struct Party {
    #[prost(string, tag = "1")]
    number: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint32, optional, tag = "3")]
    user: Option<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct End {
    #[prost(int64, tag = "1")]
    unix_us: i64,
    /// 1: the caller, 2: the callee, 3: the platform.
    #[prost(uint32, tag = "2")]
    by: u32,
    #[prost(uint32, tag = "3")]
    status: u32,
    #[prost(string, tag = "4")]
    text: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Leg {
    #[prost(fixed64, optional, tag = "1")]
    id: Option<u64>,
    #[prost(string, tag = "2")]
    address: String,
    /// 1: prepared, 2: calling, 3: up, 4: gone.
    #[prost(uint32, tag = "3")]
    state: u32,
    #[prost(bytes = "bytes", optional, tag = "4")]
    agreed: Option<Bytes>,
    /// 1: caller, 2: callee, 3: answerer.
    #[prost(uint32, tag = "5")]
    role: u32,
    #[prost(string, tag = "6")]
    sip_call_id: String,
    #[prost(string, tag = "7")]
    endpoint: String,
    #[prost(message, optional, tag = "8")]
    media: Option<Figures>,
    #[prost(bool, tag = "9")]
    is_trunk: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Changed {
    #[prost(uint32, tag = "1")]
    leg: u32,
    #[prost(bytes = "bytes", tag = "2")]
    before: Bytes,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Place {
    /// Of the brand, the client or the user.
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(uint32, tag = "2")]
    limit: u32,
    /// 1: a brand's calls, 2: a client's, 3: a user's, 4: a user's that nobody has answered.
    #[prost(uint32, tag = "3")]
    kind: u32,
    /// Of the tenant.
    #[prost(uint32, tag = "4")]
    partition: u32,
}

impl Place {
    fn of(claim: &Claim) -> Self {
        let (kind, id) = match claim.counted {
            Counted::Brand(id) => (1, id.get()),
            Counted::Client(id) => (2, id.get()),
            Counted::User(id) => (3, id.get()),
            Counted::Attempts(id) => (4, id.get()),
        };
        Self { id, limit: claim.limit, kind, partition: claim.partition.into() }
    }

    fn claim(&self) -> Result<Claim, CapsuleError> {
        let counted = match self.kind {
            1 => Counted::Brand(Id::new(self.id)),
            2 => Counted::Client(Id::new(self.id)),
            3 => Counted::User(Id::new(self.id)),
            4 => Counted::Attempts(Id::new(self.id)),
            _ => return Err(broken("places", "are of a kind that this release does not know")),
        };
        let partition = u16::try_from(self.partition).ok().filter(|partition| *partition < PARTITIONS);
        let partition = partition.ok_or_else(|| broken("places", "are of no partition"))?;
        Ok(Claim { partition, counted, limit: self.limit })
    }
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Figures {
    /// The leg's number, where it does not stand in the leg.
    #[prost(uint32, tag = "1")]
    leg: u32,
    #[prost(uint64, tag = "2")]
    packets_received: u64,
    #[prost(uint64, tag = "3")]
    bytes_received: u64,
    #[prost(uint64, tag = "4")]
    packets_sent: u64,
    #[prost(uint64, tag = "5")]
    bytes_sent: u64,
    #[prost(uint64, tag = "6")]
    lost: u64,
    #[prost(uint32, tag = "7")]
    jitter_us: u32,
    #[prost(uint64, optional, tag = "8")]
    reported_lost: Option<u64>,
    #[prost(uint32, optional, tag = "9")]
    reported_jitter_us: Option<u32>,
    #[prost(uint32, optional, tag = "10")]
    round_trip_us: Option<u32>,
    #[prost(uint32, optional, tag = "11")]
    mos_hundredths: Option<u32>,
    #[prost(uint64, tag = "12")]
    dropped: u64,
}

impl From<&Capsule> for Call {
    fn from(capsule: &Capsule) -> Call {
        let story = &capsule.story;
        let (stage, callee) = match capsule.stage {
            Stage::Ringing => (1, 0),
            Stage::Talking(callee) => (2, callee),
            Stage::Ended { counted: false } => (3, 0),
            Stage::Ended { counted: true } => (4, 0),
        };
        let node = |node: NodeId| u32::from(node.0);
        // What cannot be written is no call record either.
        let external = |external| postcard::to_stdvec(external).unwrap_or_default().into();
        Call {
            externals: story.externals.iter().map(external).collect(),
            is_untraced: capsule.is_untraced,
            format: FORMAT,
            call: capsule.call.as_u64(),
            stage,
            callee: number_of(callee),
            brand: story.brand.get(),
            client: story.client.get(),
            caller_party: Some(Party::from(&story.caller)),
            callee_party: Some(Party::from(&story.callee)),
            dialed: story.dialed.clone(),
            started_us: story.started_us,
            answered_us: story.answered_us,
            ended: story.ended.as_ref().map(End::from),
            legs: capsule.legs.iter().zip(&story.legs).map(|(leg, told)| Leg::of(leg, told)).collect(),
            caller_offers: capsule.caller_offers,
            relay: capsule.relay.map(node),
            has_media: capsule.has_media,
            moving_from: capsule.moving.and_then(|(from, _)| from).map(node),
            moving_to: capsule.moving.map(|(_, to)| node(to)),
            repair: capsule.repair.clone(),
            changed: capsule
                .changed
                .as_ref()
                .map(|(slot, before)| Changed { leg: number_of(*slot), before: before.clone() }),
            places: capsule.held.iter().map(Place::of).collect(),
            earlier: story.earlier.iter().map(|(leg, report)| Figures::of(*leg, report)).collect(),
        }
    }
}

impl Call {
    pub(super) fn into_capsule(self) -> Result<Capsule, CapsuleError> {
        let stage = match self.stage {
            1 => Stage::Ringing,
            2 => Stage::Talking(self.callee as usize),
            3 => Stage::Ended { counted: false },
            4 => Stage::Ended { counted: true },
            _ => return Err(broken("stage", "is none that this release knows")),
        };
        let node = |field, node: Option<u32>| match node.map(u16::try_from) {
            None => Ok(None),
            Some(Ok(node)) if node > 0 => Ok(Some(NodeId(node))),
            Some(_) => Err(broken(field, "is no number of a node")),
        };
        let from = node("moving_from", self.moving_from)?;
        let to = node("moving_to", self.moving_to)?;
        let earlier: Result<Vec<_>, CapsuleError> = self
            .earlier
            .into_iter()
            .map(|figures| {
                let leg = u8::try_from(figures.leg).map_err(|_| broken("earlier", "is of no leg"))?;
                Ok((MediaLeg(leg), figures.report()?))
            })
            .collect();
        let mut legs = Vec::with_capacity(self.legs.len());
        let mut told = Vec::with_capacity(self.legs.len());
        for leg in self.legs {
            let (leg, tells) = leg.parts()?;
            legs.push(leg);
            told.push(tells);
        }
        if self.externals.len() > EXTERNALS_MAX {
            return Err(broken("externals", "are too many"));
        }
        let read =
            |bytes: &Bytes| postcard::from_bytes(bytes).map_err(|_| broken("externals", "cannot be read"));
        let externals = self.externals.iter().map(read).collect::<Result<_, _>>()?;
        let story = Story {
            brand: Id::new(self.brand),
            client: Id::new(self.client),
            caller: self.caller_party.unwrap_or_default().into(),
            callee: self.callee_party.unwrap_or_default().into(),
            dialed: self.dialed,
            started_us: self.started_us,
            answered_us: self.answered_us,
            ended: self.ended.map(End::parts).transpose()?,
            legs: told,
            earlier: earlier?,
            externals,
        };
        Ok(Capsule {
            call: CallId::from_u64(self.call),
            stage,
            story,
            legs,
            caller_offers: self.caller_offers,
            relay: node("relay", self.relay)?,
            has_media: self.has_media,
            moving: to.map(|to| (from, to)),
            repair: self.repair,
            changed: self.changed.map(|changed| (changed.leg as usize, changed.before)),
            is_untraced: self.is_untraced,
            held: self.places.iter().map(Place::claim).collect::<Result<_, _>>()?,
        })
    }
}

fn broken(field: &'static str, why: &'static str) -> CapsuleError {
    CapsuleError::Field { field, why }
}

fn number_of(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(u32::MAX)
}

impl From<&model::Party> for Party {
    fn from(party: &model::Party) -> Party {
        Party { number: party.number.clone(), name: party.name.clone(), user: party.user.map(Id::get) }
    }
}

impl From<Party> for model::Party {
    fn from(party: Party) -> model::Party {
        model::Party { number: party.number, name: party.name, user: party.user.map(Id::new) }
    }
}

impl From<&(i64, HungUpBy, Cause)> for End {
    fn from((unix_us, by, cause): &(i64, HungUpBy, Cause)) -> End {
        let by = match by {
            HungUpBy::Caller => 1,
            HungUpBy::Callee => 2,
            HungUpBy::Platform => 3,
        };
        End { unix_us: *unix_us, by, status: cause.status.into(), text: cause.text.clone() }
    }
}

impl End {
    fn parts(self) -> Result<(i64, HungUpBy, Cause), CapsuleError> {
        let by = match self.by {
            1 => HungUpBy::Caller,
            2 => HungUpBy::Callee,
            3 => HungUpBy::Platform,
            _ => return Err(broken("ended", "was by nobody that this release knows")),
        };
        let status = u16::try_from(self.status).ok().filter(|status| (100..700).contains(status));
        let status = status.ok_or(broken("ended", "has no SIP status"))?;
        Ok((self.unix_us, by, Cause { status, text: self.text }))
    }
}

impl Leg {
    fn of(leg: &KeptLeg, told: &CdrLeg) -> Leg {
        Leg {
            id: leg.id.map(LegId::as_u64),
            address: leg.address.map_or_else(String::new, |address| address.to_string()),
            is_trunk: leg.is_trunk,
            state: match leg.state {
                LegState::Prepared => 1,
                LegState::Calling => 2,
                LegState::Up => 3,
                LegState::Gone => 4,
            },
            agreed: leg.agreed.clone(),
            role: match told.role {
                LegRole::Caller => 1,
                LegRole::Callee => 2,
                LegRole::Answerer => 3,
            },
            sip_call_id: told.sip_call_id.clone(),
            endpoint: told.endpoint.clone(),
            media: told.media.as_ref().map(|report| Figures::of(MediaLeg(0), report)),
        }
    }

    fn parts(self) -> Result<(KeptLeg, CdrLeg), CapsuleError> {
        let state = match self.state {
            1 => LegState::Prepared,
            2 => LegState::Calling,
            3 => LegState::Up,
            4 => LegState::Gone,
            _ => return Err(broken("state", "is none that this release knows")),
        };
        let role = match self.role {
            1 => LegRole::Caller,
            2 => LegRole::Callee,
            3 => LegRole::Answerer,
            _ => return Err(broken("role", "is none that this release knows")),
        };
        let address = Some(self.address.as_str()).filter(|text| !text.is_empty()).map(str::parse);
        let address = address.transpose().map_err(|_| broken("address", "is no IP address"))?;
        let media = self.media.map(Figures::report).transpose()?;
        let told = CdrLeg { role, sip_call_id: self.sip_call_id, endpoint: self.endpoint, media };
        let is_trunk = self.is_trunk;
        Ok((
            KeptLeg { id: self.id.map(LegId::from_u64), address, is_trunk, state, agreed: self.agreed },
            told,
        ))
    }
}

impl Figures {
    fn of(leg: MediaLeg, report: &MediaReport) -> Figures {
        Figures {
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

    fn report(self) -> Result<MediaReport, CapsuleError> {
        let mos = self.mos_hundredths.map(u16::try_from).transpose();
        Ok(MediaReport {
            packets_received: self.packets_received,
            bytes_received: self.bytes_received,
            packets_sent: self.packets_sent,
            bytes_sent: self.bytes_sent,
            lost: self.lost,
            jitter_us: self.jitter_us,
            reported_lost: self.reported_lost,
            reported_jitter_us: self.reported_jitter_us,
            round_trip_us: self.round_trip_us,
            mos_hundredths: mos.map_err(|_| broken("mos_hundredths", "is too large"))?,
            dropped: self.dropped,
        })
    }
}
