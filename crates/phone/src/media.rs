//! Audio of one call: an RTP and an RTCP socket, and a task that plays, listens and reports every 20 ms.
//!
//! In: what was agreed, a source, digits. Out: packets, what was heard, digits of the other side. Elsewhere: codecs and
//! formats (crate `rtp`), offers and answers (`agent`).

use crate::CallEvent;
use crate::audio::{Heard, Player, RATE, Source};
use rtp::event::{Collector, Heard as Key, Sender, code_of, key_of};
use rtp::packet::{Header, Packet};
use rtp::playout::{Play, Playout};
use rtp::quality::ntp_time;
use rtp::reception::Reception;
use rtp::rtcp::{Compound, Rtcp, SenderInfo, Writer};
use rtp::{Kind, classify};
use sip::offer::{Agreed, Capabilities};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Samples of a packet: 20 ms.
const FRAME: usize = 160;
/// Tries to find an even port whose neighbour is free, too.
const PORT_TRIES: usize = 50;
/// Ticks between RTCP reports: five seconds (RFC 3550 section 6.2); the first comes after one second.
const REPORT_TICKS: u64 = 250;
/// How long a digit sounds: 100 ms.
const DIGIT: u32 = 800;

enum Wish {
    Agree(Box<Agreed>),
    Play(Source),
    Digit(char),
}

/// The audio of one call. Dropping it silences it.
pub(crate) struct Media {
    address: SocketAddr,
    wishes: mpsc::UnboundedSender<Wish>,
    heard: Arc<Heard>,
    task: JoinHandle<()>,
}

impl Media {
    /// Binds the sockets; nothing is sent before [`Media::agree`].
    pub(crate) fn open(bind: IpAddr, events: mpsc::UnboundedSender<CallEvent>) -> io::Result<Self> {
        let (rtp, rtcp) = bind_pair(bind)?;
        let address = rtp.local_addr()?;
        let (wishes, inbox) = mpsc::unbounded_channel();
        let heard = Arc::new(Heard::default());
        let audio = Audio {
            events,
            rtp: UdpSocket::from_std(rtp)?,
            rtcp: UdpSocket::from_std(rtcp)?,
            heard: Arc::clone(&heard),
            agreed: None,
            player: None,
            keys: Sender::new(RATE / 20),
            collector: Collector::new(),
            playout: Playout::new(2),
            reception: Reception::new(RATE),
            ssrc: rand::random(),
            sequence: rand::random(),
            timestamp: rand::random(),
            packets: 0,
            octets: 0,
            started: Instant::now(),
        };
        let task = tokio::spawn(audio.run(inbox));
        Ok(Self { address, wishes, heard, task })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn heard(&self) -> Arc<Heard> {
        Arc::clone(&self.heard)
    }

    pub(crate) fn agree(&self, agreed: Box<Agreed>) {
        self.wish(Wish::Agree(agreed));
    }

    pub(crate) fn play(&mut self, source: Source) {
        self.wish(Wish::Play(source));
    }

    pub(crate) fn digit(&self, digit: char) {
        self.wish(Wish::Digit(digit));
    }

    fn wish(&self, wish: Wish) {
        let _ = self.wishes.send(wish); // the task lives as long as this handle, unless the call is over
    }
}

impl Drop for Media {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An even port for RTP and the odd one above it for RTCP (RFC 3550 section 11).
fn bind_pair(bind: IpAddr) -> io::Result<(std::net::UdpSocket, std::net::UdpSocket)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_TRIES {
        let rtp = std::net::UdpSocket::bind((bind, 0))?;
        let port = rtp.local_addr()?.port();
        if port % 2 == 1 || port == u16::MAX {
            continue;
        }
        match std::net::UdpSocket::bind((bind, port + 1)) {
            Ok(rtcp) => {
                rtp.set_nonblocking(true)?;
                rtcp.set_nonblocking(true)?;
                return Ok((rtp, rtcp));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

struct Audio {
    events: mpsc::UnboundedSender<CallEvent>,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    heard: Arc<Heard>,
    agreed: Option<Agreed>,
    player: Option<Player>,
    keys: Sender,
    collector: Collector,
    playout: Playout,
    reception: Reception,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    packets: u32,
    octets: u32,
    started: Instant,
}

impl Audio {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Wish>) {
        let mut ticks = interval(Duration::from_millis(20));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut audio, mut reports, mut count) = (vec![0; 2048], vec![0; 2048], 0u64);
        loop {
            tokio::select! {
                biased;
                wish = inbox.recv() => match wish {
                    Some(Wish::Agree(agreed)) => self.agreed = Some(*agreed),
                    Some(Wish::Play(source)) => self.player = Some(Player::new(source)),
                    Some(Wish::Digit(digit)) => {
                        if let Some(code) = code_of(digit) {
                            self.keys.play(code, DIGIT);
                        }
                    }
                    None => return,
                },
                received = self.rtp.recv_from(&mut audio) => {
                    if let Ok((length, _)) = received {
                        self.hear(&audio[..length]);
                    }
                }
                received = self.rtcp.recv_from(&mut reports) => {
                    if let Ok((length, _)) = received {
                        self.read_report(&reports[..length]);
                    }
                }
                _ = ticks.tick() => {
                    self.speak().await;
                    self.play_out();
                    count += 1;
                    if count % REPORT_TICKS == 50 {
                        self.report().await;
                    }
                }
            }
        }
    }

    fn hear(&mut self, datagram: &[u8]) {
        let (Some(agreed), Kind::Rtp) = (&self.agreed, classify(datagram)) else { return };
        let Ok(packet) = Packet::parse(datagram) else { return };
        let (ssrc, sequence) = (packet.ssrc(), packet.sequence());
        if agreed.telephone_event.is_some_and(|(_, receive)| receive == packet.payload_type()) {
            self.reception.packet_untimed(ssrc, sequence);
            self.collector.receive(packet.timestamp(), packet.payload());
            while let Some(key) = self.collector.poll() {
                if let Key::Began { code } = key
                    && let Some(digit) = key_of(code)
                {
                    let _ = self.events.send(CallEvent::Digit(digit)); // nobody listens: the call is being hung up
                }
            }
            return;
        }
        let known = agreed.receive.iter().any(|(payload_type, _)| *payload_type == packet.payload_type());
        if known && self.reception.packet(ssrc, sequence, packet.timestamp(), self.started.elapsed()) {
            // The codec's number goes along: payload types may change within a stream.
            let mut kept = vec![packet.payload_type()];
            kept.extend_from_slice(packet.payload());
            self.playout.push(sequence, &kept);
        }
    }

    fn play_out(&mut self) {
        let payload = match self.playout.pop() {
            Play::Payload(payload) => payload,
            Play::Missing => return self.heard.add(&[0; FRAME]),
            Play::Waiting => return,
        };
        let Some((payload_type, payload)) = payload.split_first() else { return };
        let codecs = Capabilities::default().codecs;
        let agreed = self.agreed.iter().flat_map(|agreed| &agreed.receive);
        let codec = agreed.clone().find(|(number, _)| number == payload_type).map(|(_, codec)| *codec);
        let mut samples = Vec::with_capacity(payload.len());
        match codec.and_then(|codec| codecs.get(codec)) {
            Some(codec) if codec.encoding == "PCMU" => rtp::g711::decode_ulaw(payload, &mut samples),
            Some(_) => rtp::g711::decode_alaw(payload, &mut samples),
            None => return,
        }
        self.heard.add(&samples);
    }

    async fn speak(&mut self) {
        let now = self.timestamp;
        self.timestamp = now.wrapping_add(FRAME as u32);
        let Some(agreed) = &self.agreed else { return };
        let (Some(to), true) = (agreed.remote, agreed.direction.sends()) else { return };
        let mut frame = [0; FRAME];
        let Some(player) = &mut self.player else { return };
        player.fill(&mut frame);
        let key =
            agreed.telephone_event.and_then(|(send, _)| Some((send, self.keys.next(now, FRAME as u32)?)));
        let mut payload = Vec::with_capacity(FRAME);
        let header = match key {
            Some((payload_type, key)) => {
                payload.extend_from_slice(&key.event.to_bytes());
                let (marker, timestamp) = (key.marker, key.timestamp);
                Header { marker, payload_type, sequence: self.sequence, timestamp, ssrc: self.ssrc }
            }
            None => {
                match Capabilities::default().codecs.get(agreed.codec) {
                    Some(codec) if codec.encoding == "PCMU" => rtp::g711::encode_ulaw(&frame, &mut payload),
                    Some(_) | None => rtp::g711::encode_alaw(&frame, &mut payload),
                }
                let (marker, payload_type) = (self.packets == 0, agreed.send_payload_type);
                Header { marker, payload_type, sequence: self.sequence, timestamp: now, ssrc: self.ssrc }
            }
        };
        let mut packet = Vec::with_capacity(12 + payload.len());
        header.write(&payload, &mut packet);
        let _ = self.rtp.send_to(&packet, to).await; // lost like any packet
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
    }

    async fn report(&mut self) {
        let Some(to) = self.agreed.as_ref().and_then(|agreed| agreed.remote_rtcp) else { return };
        let blocks: Vec<_> = self.reception.report(self.started.elapsed()).into_iter().collect();
        let writer = if self.packets > 0 {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let info = SenderInfo {
                ssrc: self.ssrc,
                ntp: ntp_time(wall),
                rtp_timestamp: self.timestamp,
                packets: self.packets,
                octets: self.octets,
            };
            Writer::new().sender_report(&info, &blocks)
        } else {
            Writer::new().receiver_report(self.ssrc, &blocks)
        };
        let _ = self.rtcp.send_to(&writer.cname(self.ssrc, "phone").finish(), to).await; // lost like any packet
    }

    fn read_report(&mut self, datagram: &[u8]) {
        let Ok(compound) = Compound::parse(datagram) else { return };
        for packet in compound.packets() {
            if let Rtcp::SenderReport(info, _) = packet {
                self.reception.sender_report(&info, self.started.elapsed());
            }
        }
    }
}
