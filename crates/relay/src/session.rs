//! The media session of one call: legs, their ports, and the offer/answer exchanges between them (RFC 3264).
//!
//! In: offers and answers. Out: rewritten descriptions, [`Order`]s for the worker that the session lives in, reports. The
//! worker hears of a stream when it is answered, not before. Elsewhere: text ([`crate::describe`]), packets
//! ([`crate::worker`]).

use crate::describe::{self, Face, Here, MediaLine};
use crate::figures::Seen;
use crate::ports::{Family, Lease, Ports};
use crate::report;
use crate::stream::{Kind, Setup, Sources};
use crate::worker::Order;
use bytes::Bytes;
use cluster::ids::CallId;
use cluster::media::{MediaError, MediaLeg, Signalling};
use model::MediaReport;
use sip::sdp::{Direction, Sdp};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// Legs that one session can have at a time.
const LEGS_MAX: usize = 64;

/// What a session works with, and what it leaves to be done after a command.
pub(crate) struct Desk<'a> {
    pub(crate) ports: &'a Ports,
    pub(crate) secret: &'a RandomState,
    pub(crate) now: Instant,
    /// For the session's worker.
    pub(crate) orders: Vec<Order>,
    /// The worker must not let the orders lie.
    pub(crate) urgent: bool,
    /// Pairs that another worker must forget: worker, slot.
    pub(crate) moved: Vec<(usize, u32)>,
    /// To be given back once the orders are queued.
    pub(crate) freed: Vec<Lease>,
}

/// One call's media.
pub(crate) struct Session {
    call: CallId,
    /// The worker that has all its streams.
    pub(crate) worker: usize,
    legs: Vec<Leg>,
    exchanges: Vec<Exchange>,
    /// Number of offers that were answered.
    answered: u32,
}

/// A peer.
struct Leg {
    id: MediaLeg,
    /// The IP version it speaks, once known.
    family: Option<Family>,
    /// The leg that its media goes to.
    peer: Option<MediaLeg>,
    lines: Vec<Line>,
    /// Figures of ports that it no longer has.
    before: Seen,
    /// For the `o=` lines that it gets (RFC 3264 section 8).
    session_id: u64,
    version: u64,
    /// Hash of the last description that it got.
    told: Option<u64>,
}

/// What a leg has for one `m=` section.
#[derive(Default)]
struct Line {
    /// At most one pair of each IP version.
    leases: Vec<Lease>,
    /// The generation and slot that the worker has a stream for.
    live: Option<(u32, u32)>,
}

/// An offer and what became of it.
struct Exchange {
    from: MediaLeg,
    to: MediaLeg,
    from_family: Family,
    to_family: Family,
    /// What the offerer said. After the answer, lines that it rejected are no longer usable.
    offered: Vec<MediaLine>,
    /// Number of the exchange within the session, once answered.
    number: Option<u32>,
}

impl Session {
    pub(crate) fn new(call: CallId, worker: usize) -> Self {
        Self { call, worker, legs: Vec::new(), exchanges: Vec::new(), answered: 0 }
    }

    /// Nothing was ever offered here.
    pub(crate) fn is_empty(&self) -> bool {
        self.legs.is_empty()
    }

    /// `from` offers `sdp` to `to`: the description that `to` shall be offered.
    pub(crate) fn offer(
        &mut self,
        desk: &mut Desk<'_>,
        (from, to): (MediaLeg, MediaLeg),
        sdp: &Bytes,
        signalling: Signalling,
    ) -> Result<Bytes, MediaError> {
        if from == to {
            return Err(MediaError::OutOfStep("a leg cannot offer to itself"));
        }
        let mut sdp = parse(sdp)?;
        let (lines, from_family) = self.read(desk, from, &sdp, signalling)?;
        let known = |leg: &MediaLeg| self.leg(*leg).is_some();
        if self.legs.len() + [from, to].iter().filter(|leg| !known(leg)).count() > LEGS_MAX {
            return Err(MediaError::OutOfStep("too many legs"));
        }
        let to_family = self.family_towards(desk, to, signalling.to, from_family);
        let address = desk.ports.advertised(to_family).ok_or(MediaError::OutOfStep("no media address"))?;
        let legs_before = self.legs.len();
        self.add_leg(desk, from);
        self.add_leg(desk, to);

        // Ports for what is new. Both sides at once, so that an answer cannot fail for want of them.
        for (index, _) in lines.iter().enumerate().filter(|(_, line)| line.usable) {
            let taken = self
                .ensure(desk, from, index, from_family)
                .and_then(|()| self.ensure(desk, to, index, to_family));
            if let Err(error) = taken {
                self.trim(desk);
                self.legs.truncate(legs_before);
                return Err(error);
            }
        }
        let ports: Vec<Option<u16>> = (0..)
            .zip(&lines)
            .map(|(index, line)| {
                line.usable.then(|| self.lease(to, index, to_family)).flatten().map(|l| l.pair.port)
            })
            .collect();
        self.exchanges.retain(|exchange| (exchange.from, exchange.to) != (from, to));
        self.exchanges.push(Exchange { from, to, from_family, to_family, offered: lines, number: None });
        self.trim(desk);
        self.tell(desk, to, &mut sdp, address, &ports, false)
    }

    /// `from` answers what `to` offered it: the answer that `to` shall get. Media flows between the two from now on.
    pub(crate) fn answer(
        &mut self,
        desk: &mut Desk<'_>,
        (from, to): (MediaLeg, MediaLeg),
        sdp: &Bytes,
        signalling: Signalling,
    ) -> Result<Bytes, MediaError> {
        let place = self
            .exchanges
            .iter()
            .position(|exchange| (exchange.from, exchange.to) == (to, from))
            .ok_or(MediaError::OutOfStep("an answer without an offer"))?;
        let mut sdp = parse(sdp)?;
        let exchange = &self.exchanges[place];
        let (offerer_family, answerer_family) = (exchange.from_family, exchange.to_family);
        let here = MediaError::OutOfStep("no media address");
        let ours = desk.ports.advertised(answerer_family).ok_or(here)?;
        let here = Here { address: ours, own: desk.ports.own() };
        let answered = self.read_at(here, &sdp, signalling);
        if answered.len() != exchange.offered.len() {
            let (had, wanted) = (answered.len(), exchange.offered.len());
            return Err(MediaError::BadSdp(format!("answer has {had} media where the offer had {wanted}")));
        }
        let address =
            desk.ports.advertised(offerer_family).ok_or(MediaError::OutOfStep("no media address"))?;
        let number = *self.exchanges[place].number.get_or_insert_with(|| {
            self.answered += 1;
            self.answered
        });
        for (offered, answered) in self.exchanges[place].offered.iter_mut().zip(&answered) {
            offered.usable &= answered.usable;
        }
        // An older exchange the other way round is history: what it said no longer holds.
        self.exchanges.retain(|other| !((other.from, other.to) == (from, to) && other.number.is_some()));
        for (id, family) in [(from, answerer_family), (to, offerer_family)] {
            if let Some(leg) = self.leg_mut(id) {
                leg.family = Some(family);
            }
        }
        self.connect(desk, from, to);
        let Some(exchange) = self.exchanges.iter().find(|e| (e.from, e.to) == (to, from)) else {
            return Err(MediaError::OutOfStep("an answer without an offer"));
        };
        let offered = exchange.offered.clone();
        let streams = [
            Side { leg: to, family: offerer_family, own: &offered, other: &answered },
            Side { leg: from, family: answerer_family, own: &answered, other: &offered },
        ];
        self.set_streams(desk, &streams, number);
        self.trim(desk);
        let ports: Vec<Option<u16>> = (0..)
            .zip(&offered)
            .map(|(index, line)| {
                line.usable
                    .then(|| self.lease(to, index, offerer_family))
                    .flatten()
                    .map(|lease| lease.pair.port)
            })
            .collect();
        self.tell(desk, to, &mut sdp, address, &ports, true)
    }

    /// The offer of `from` to `to` was refused.
    pub(crate) fn withdraw(
        &mut self,
        desk: &mut Desk<'_>,
        from: MediaLeg,
        to: MediaLeg,
    ) -> Result<(), MediaError> {
        if self.leg(from).is_none() || self.leg(to).is_none() {
            return Err(MediaError::OutOfStep("an offer withdrawn that nobody made"));
        }
        self.exchanges.retain(|e| (e.from, e.to) != (from, to) || e.number.is_some());
        self.trim(desk);
        Ok(())
    }

    /// A leg leaves.
    pub(crate) fn release(&mut self, desk: &mut Desk<'_>, id: MediaLeg) -> Option<(MediaLeg, MediaReport)> {
        let place = self.legs.iter().position(|leg| leg.id == id)?;
        self.unlink(
            desk,
            self.legs[place].peer.filter(|peer| self.leg(*peer).is_some_and(|p| p.peer == Some(id))),
        );
        let leg = self.legs.remove(place);
        self.exchanges.retain(|exchange| exchange.from != id && exchange.to != id);
        let report = leg.close(desk);
        self.trim(desk);
        Some((id, report))
    }

    /// All streams end; the legs keep their ports.
    pub(crate) fn stop(&mut self, desk: &mut Desk<'_>) -> Vec<(MediaLeg, MediaReport)> {
        self.legs.iter_mut().map(|leg| (leg.id, leg.stop(desk))).collect()
    }

    /// All legs leave.
    pub(crate) fn close(self, desk: &mut Desk<'_>) -> Vec<(MediaLeg, MediaReport)> {
        self.legs.into_iter().map(|leg| (leg.id, leg.close(desk))).collect()
    }

    fn leg(&self, id: MediaLeg) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.id == id)
    }

    fn leg_mut(&mut self, id: MediaLeg) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|leg| leg.id == id)
    }

    fn lease(&self, leg: MediaLeg, line: usize, family: Family) -> Option<&Lease> {
        self.leg(leg)?.lines.get(line)?.leases.iter().find(|lease| lease.pair.family == family)
    }

    fn add_leg(&mut self, desk: &Desk<'_>, id: MediaLeg) {
        if self.leg(id).is_none() {
            // Numeric and of no use to anybody else (RFC 8866 section 5.2); the same leg of another call gets another.
            let session_id = desk.secret.hash_one((self.call, id)) >> 2;
            self.legs.push(Leg {
                id,
                family: None,
                peer: None,
                lines: Vec::new(),
                before: Seen::default(),
                session_id,
                version: 0,
                told: None,
            });
        }
    }

    /// Reads an offer, and finds the IP version that the offerer is served by.
    fn read(
        &self,
        desk: &Desk<'_>,
        from: MediaLeg,
        sdp: &Sdp,
        signalling: Signalling,
    ) -> Result<(Vec<MediaLine>, Family), MediaError> {
        let family = describe::family(sdp)
            .or(self.leg(from).and_then(|leg| leg.family))
            .or(signalling.from.map(Family::of).filter(|family| desk.ports.advertised(*family).is_some()))
            .unwrap_or_else(|| desk.ports.default_family());
        let Some(address) = desk.ports.advertised(family) else {
            return Err(MediaError::BadSdp(format!("no media address for {family}")));
        };
        Ok((self.read_at(Here { address, own: desk.ports.own() }, sdp, signalling), family))
    }

    fn read_at(&self, here: Here<'_>, sdp: &Sdp, signalling: Signalling) -> Vec<MediaLine> {
        let mut lines = describe::read(sdp, signalling.from, here);
        if signalling.anywhere {
            lines.iter_mut().for_each(|line| line.sources = Sources::First);
        }
        if lines.iter().any(|line| line.ours) {
            tracing::debug!(call = %self.call, "a description names a media port of ours, where nothing is sent");
        }
        lines
    }

    /// The IP version to offer a leg: its own, that of its signalling, or that of who offers.
    fn family_towards(
        &self,
        desk: &Desk<'_>,
        to: MediaLeg,
        signalling: Option<IpAddr>,
        offerer: Family,
    ) -> Family {
        let near = signalling.map(|ip| Family::of(ip.to_canonical()));
        self.leg(to)
            .and_then(|leg| leg.family)
            .or(near)
            .filter(|family| desk.ports.advertised(*family).is_some())
            .unwrap_or(offerer)
    }

    /// Sees to it that a leg has a pair for a line.
    fn ensure(
        &mut self,
        desk: &mut Desk<'_>,
        id: MediaLeg,
        line: usize,
        family: Family,
    ) -> Result<(), MediaError> {
        if self.lease(id, line, family).is_some() {
            return Ok(());
        }
        let (lease, from) = desk.ports.take(family, self.worker, desk.now).ok_or(MediaError::NoPorts)?;
        desk.moved.extend(from.map(|worker| (worker, lease.pair.slot)));
        match self.leg_mut(id) {
            Some(leg) => {
                if leg.lines.len() <= line {
                    leg.lines.resize_with(line + 1, Line::default);
                }
                leg.lines[line].leases.push(lease);
            }
            None => desk.freed.push(lease),
        }
        Ok(())
    }

    /// Frees pairs that no stream and no exchange needs.
    fn trim(&mut self, desk: &mut Desk<'_>) {
        let exchanges = &self.exchanges;
        for leg in &mut self.legs {
            let id = leg.id;
            for (index, line) in leg.lines.iter_mut().enumerate() {
                let offered = |family: Family| {
                    exchanges.iter().any(|exchange| {
                        ((exchange.from, exchange.from_family) == (id, family)
                            || (exchange.to, exchange.to_family) == (id, family))
                            && exchange.offered.get(index).is_some_and(|line| line.usable)
                    })
                };
                let live = line.live.map(|(_, slot)| slot);
                let unused = |lease: &Lease| live != Some(lease.pair.slot) && !offered(lease.pair.family);
                while let Some(place) = line.leases.iter().position(unused) {
                    let lease = line.leases.swap_remove(place);
                    report::merge(&mut leg.before, &lease.pair.figures.seen(lease.generation));
                    desk.freed.push(lease);
                }
            }
        }
    }

    /// Makes two legs each other's peer; those that they had before send to nobody.
    fn connect(&mut self, desk: &mut Desk<'_>, from: MediaLeg, to: MediaLeg) {
        for (leg, new) in [(from, to), (to, from)] {
            let Some(old) = self.leg_mut(leg).and_then(|leg| leg.peer.replace(new)).filter(|old| *old != new)
            else {
                continue;
            };
            self.unlink(
                desk,
                Some(old).filter(|old| self.leg(*old).is_some_and(|old| old.peer == Some(leg))),
            );
        }
    }

    /// A leg lost its peer: its streams go nowhere.
    fn unlink(&mut self, desk: &mut Desk<'_>, leg: Option<MediaLeg>) {
        let Some(leg) = leg.and_then(|leg| self.leg_mut(leg)) else { return };
        leg.peer = None;
        let live = leg.lines.iter().filter_map(|line| line.live);
        desk.orders.extend(live.map(|(generation, slot)| Order::Unlink { slot, generation }));
    }

    /// Tells the worker what the two sides agreed upon.
    fn set_streams(&mut self, desk: &mut Desk<'_>, sides: &[Side<'_>; 2], exchange: u32) {
        let slots = sides.each_ref().map(|side| -> Vec<Option<u32>> {
            let slot = |(index, line): (usize, &MediaLine)| {
                line.usable.then(|| Some(self.lease(side.leg, index, side.family)?.pair.slot)).flatten()
            };
            side.own.iter().enumerate().map(slot).collect()
        });
        let [first, second] = &slots;
        let both = |index: usize| Some((first.get(index).copied()??, second.get(index).copied()??));
        let expects = (0..sides[0].own.len()).any(|index| both(index).is_some() && is_expected(sides, index));
        let watch = (0..).zip(sides[0].own).find_map(|(index, _)| both(index));
        for (side, is_first) in sides.iter().zip([true, false]) {
            let pick = |(a, b): (u32, u32)| if is_first { (a, b) } else { (b, a) };
            let (call, leg_id) = (self.call, side.leg);
            let Some(leg) = self.legs.iter_mut().find(|leg| leg.id == leg_id) else { continue };
            for (index, line) in leg.lines.iter_mut().enumerate() {
                let active = both(index).map(pick);
                let old = line.live.take();
                let lease =
                    active.and_then(|(own, _)| line.leases.iter().find(|lease| lease.pair.slot == own));
                if let (Some((own, peer)), Some(lease)) = (active, lease) {
                    line.live = Some((lease.generation, own));
                    let watch = watch.map_or(own, |watch| pick(watch).0);
                    let place = Place { call, generation: lease.generation, exchange, peer, watch, expects };
                    let setup = setup(side, index, place).map(Box::new);
                    desk.orders.extend(setup.map(|setup| Order::Set(lease.pair.clone(), setup)));
                }
                if let Some((generation, slot)) = old.filter(|_| old != line.live) {
                    desk.orders.push(Order::Idle { slot, generation });
                }
            }
        }
        desk.urgent = true;
    }

    /// Writes a description for a leg. Its version goes up when anything differs from the last one (RFC 3264 section 8).
    fn tell(
        &mut self,
        desk: &Desk<'_>,
        id: MediaLeg,
        sdp: &mut Sdp,
        address: IpAddr,
        ports: &[Option<u16>],
        is_answer: bool,
    ) -> Result<Bytes, MediaError> {
        let leg = self.leg_mut(id).ok_or(MediaError::OutOfStep("no such leg"))?;
        let version = leg.version + 1;
        describe::rewrite(sdp, &Face { address, ports, session_id: leg.session_id, version, is_answer });
        let text = sdp.to_bytes();
        let told = hash_but_origin(desk.secret, &text);
        if leg.told == Some(told) {
            sdp.set_origin("-", &leg.session_id.to_string(), leg.version, address);
            return Ok(sdp.to_bytes());
        }
        leg.version = version;
        leg.told = Some(told);
        Ok(text)
    }
}

/// What tells whether two descriptions differ in more than their versions.
fn hash_but_origin(secret: &RandomState, text: &[u8]) -> u64 {
    let origin = memchr::memmem::find(text, b"\no=").map_or(0, |at| at + 1);
    let after = memchr::memchr(b'\n', &text[origin..]).map_or(text.len(), |at| origin + at + 1);
    secret.hash_one((&text[..origin], &text[after..]))
}

impl Leg {
    /// Ends its streams.
    fn stop(&mut self, desk: &mut Desk<'_>) -> MediaReport {
        let mut seen = self.before;
        for line in &mut self.lines {
            let live = line.live.take();
            desk.orders.extend(live.map(|(generation, slot)| Order::Idle { slot, generation }));
            for lease in &line.leases {
                report::merge(&mut seen, &lease.pair.figures.seen(lease.generation));
            }
        }
        report::of(&seen)
    }

    /// Gives everything back.
    fn close(mut self, desk: &mut Desk<'_>) -> MediaReport {
        let report = self.stop(desk);
        desk.freed.extend(self.lines.into_iter().flat_map(|line| line.leases));
        report
    }
}

/// One of two legs that came to an agreement.
struct Side<'a> {
    leg: MediaLeg,
    /// The IP version that it is served by.
    family: Family,
    own: &'a [MediaLine],
    other: &'a [MediaLine],
}

/// Where a stream stands among the others.
struct Place {
    call: CallId,
    generation: u32,
    exchange: u32,
    peer: u32,
    watch: u32,
    expects: bool,
}

/// What the two descriptions and the stream's place make of it.
fn setup(side: &Side<'_>, index: usize, place: Place) -> Option<Setup> {
    let (own, other) = (side.own.get(index)?, side.other.get(index)?);
    let reachable = |address: &SocketAddr| Family::of(address.ip()) == side.family;
    let mut clocks = other.clocks; // a sender uses the numbers that the receiver gave (RFC 3264 section 5.1)
    clocks.merge(&own.clocks);
    Some(Setup {
        generation: place.generation,
        call: place.call,
        leg: side.leg,
        exchange: place.exchange,
        peer: place.peer,
        watch: place.watch,
        expects: place.expects,
        kind: if own.kind == other.kind { own.kind } else { Kind::Opaque },
        mux: own.mux && other.mux,
        sources: own.sources,
        rtp: own.rtp.filter(reachable),
        rtcp: own.rtcp.filter(reachable),
        clocks,
    })
}

/// Both sides should send on a line: nobody holds, and somebody is there to be sent to.
fn is_expected(sides: &[Side<'_>; 2], index: usize) -> bool {
    sides.iter().all(|side| {
        side.own.get(index).is_some_and(|line| {
            line.direction == Direction::SendRecv && line.kind != Kind::Opaque && !line.nowhere
        })
    })
}

fn parse(sdp: &Bytes) -> Result<Sdp, MediaError> {
    Sdp::parse(sdp.clone()).map_err(|error| MediaError::BadSdp(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RelayConfig;
    use cluster::ids::NodeId;

    const A: MediaLeg = MediaLeg(0);
    const B: MediaLeg = MediaLeg(1);

    fn sdp(address: &str, media: &str) -> Bytes {
        format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n{media}").into()
    }

    /// What the worker is told of A and of B when `offer` is answered by `answer`.
    fn agree(offer: Bytes, answer: Bytes) -> Vec<Setup> {
        let config = RelayConfig { ports: crate::tests::quiet_range(12), ..RelayConfig::default() };
        let ports = Ports::new(&config, 1, 1024).unwrap();
        let (secret, now) = (RandomState::new(), Instant::now());
        let mut desk = Desk {
            ports: &ports,
            secret: &secret,
            now,
            orders: Vec::new(),
            urgent: false,
            moved: Vec::new(),
            freed: Vec::new(),
        };
        let mut session = Session::new(CallId::new(NodeId(1), 1), 0);
        session.offer(&mut desk, (A, B), &offer, Signalling::default()).unwrap();
        assert!(desk.orders.is_empty() && !desk.urgent, "the worker hears of answers only");
        session.answer(&mut desk, (B, A), &answer, Signalling::default()).unwrap();
        assert!(desk.urgent);
        let setups = desk.orders.into_iter().filter_map(|order| match order {
            Order::Set(_, setup) => Some(*setup),
            Order::Unlink { .. } | Order::Idle { .. } | Order::Forget { .. } | Order::Tell(_) => None,
        });
        setups.collect()
    }

    #[test]
    fn a_leg_is_expected_to_send_unless_somebody_holds_or_it_is_a_fax() {
        let audio = |direction: &str| format!("m=audio 4000 RTP/AVP 0\r\na={direction}\r\n");
        let expected = |offer: (&str, &str), answer: (&str, &str)| {
            let setups = agree(sdp(offer.0, &audio(offer.1)), sdp(answer.0, &audio(answer.1)));
            assert_eq!(setups.len(), 2);
            setups.iter().all(|setup| setup.expects)
        };
        let (near, far) = ("192.0.2.1", "192.0.2.2");
        assert!(expected((near, "sendrecv"), (far, "sendrecv")));
        assert!(!expected((near, "sendonly"), (far, "recvonly")));
        assert!(!expected((near, "inactive"), (far, "inactive")));
        assert!(!expected((near, "sendrecv"), (far, "recvonly")));
        assert!(!expected(("0.0.0.0", "sendrecv"), (far, "sendrecv")));
        assert!(expected(("phone.example.com", "sendrecv"), (far, "sendrecv")));
        let fax = "m=image 4000 udptl t38\r\n";
        assert!(agree(sdp(near, fax), sdp(far, fax)).iter().all(|setup| !setup.expects));
        let both = format!("{fax}{}", audio("sendrecv"));
        let setups = agree(sdp(near, &both), sdp(far, &both));
        assert_eq!(setups.len(), 4);
        for pair in setups.chunks(2) {
            assert!(
                pair.iter().all(|setup| setup.expects && setup.watch == pair[0].watch),
                "one watch for a leg"
            );
        }
    }

    #[test]
    fn nothing_is_sent_to_an_unspecified_address_and_streams_know_each_other() {
        let audio = "m=audio 4000 RTP/AVP 0\r\n";
        let setups = agree(sdp("0.0.0.0", audio), sdp("192.0.2.2", audio));
        let [of_a, of_b] = &setups[..] else { panic!("{setups:?}") };
        assert_eq!((of_a.leg, of_a.rtp, of_a.rtcp), (A, None, None));
        assert_eq!((of_b.leg, of_b.rtp), (B, Some("192.0.2.2:4000".parse().unwrap())));
        assert_eq!((of_a.peer, of_b.peer), (of_b.watch, of_a.watch));
        assert_eq!(of_a.clocks.rate(0), Some(8000));
    }
}
