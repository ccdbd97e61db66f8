//! SIP messages as they come and go, for Homer and its like: HEP3 by UDP (github.com/sipcapture/HEP, "HEP3 Network Protocol
//! Specification", revision 36).
//!
//! In: messages from any thread, into a bounded queue. Out: one thread packs and sends them; what does not fit or cannot be sent
//! is dropped and counted. Whole messages go, credentials' digests and all: it is for a network that is trusted. Elsewhere: who
//! sees messages (`proxy::Tap`).

use bytes::Bytes;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Messages that wait, and their octets.
const WAITING_MAX: usize = 8192;
const OCTETS_MAX: usize = 16 << 20;
/// Most octets of a datagram: what UDP takes by IPv4.
const DATAGRAM_MAX: usize = 65_507;
/// After a failure to find the collector it is looked for again this much later.
const AGAIN: Duration = Duration::from_secs(5);

/// One SIP message on the wire.
#[derive(Clone, Debug)]
pub struct Captured {
    /// When it was seen, since 1970.
    pub time: Duration,
    /// Who sent it.
    pub source: SocketAddr,
    /// To whom.
    pub target: SocketAddr,
    /// It went by a stream (TCP) and not by UDP.
    pub stream: bool,
    /// The whole message.
    pub message: Bytes,
}

/// What is said of this node to the collector.
#[derive(Clone)]
pub struct Agent {
    /// Its number (capture agent id).
    pub id: u32,
    /// What lets it in.
    pub password: Option<String>,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
    /// Octets that wait.
    octets: AtomicUsize,
}

/// The way of messages to a collector. The thread ends when this is dropped.
#[derive(Debug)]
pub struct Hep {
    queue: SyncSender<Captured>,
    counts: Arc<Counts>,
}

impl Hep {
    /// Starts the thread; `collector` is HOST:PORT.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(collector: String, agent: Agent) -> io::Result<Self> {
        let (queue, messages) = sync_channel(WAITING_MAX);
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let work = move || send_all(&messages, &collector, &agent, &shared);
        thread::Builder::new().name("hep".to_owned()).spawn(work)?;
        Ok(Self { queue, counts })
    }

    /// Sends a message on its way, or drops it.
    pub fn send(&self, captured: Captured) {
        let length = captured.message.len();
        let octets = &self.counts.octets;
        if octets.load(Ordering::Relaxed) + length <= OCTETS_MAX {
            octets.fetch_add(length, Ordering::Relaxed);
            if self.queue.try_send(captured).is_ok() {
                return;
            }
            octets.fetch_sub(length, Ordering::Relaxed);
        }
        self.counts.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages that left.
    pub fn sent(&self) -> u64 {
        self.counts.sent.load(Ordering::Relaxed)
    }

    /// Messages that did not.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

fn send_all(messages: &Receiver<Captured>, collector: &str, agent: &Agent, counts: &Counts) {
    let mut socket: Option<UdpSocket> = None;
    let mut tried: Option<Instant> = None;
    let mut packet = Vec::new();
    while let Ok(captured) = messages.recv() {
        counts.octets.fetch_sub(captured.message.len(), Ordering::Relaxed);
        if socket.is_none() && tried.is_none_or(|at| at.elapsed() >= AGAIN) {
            tried = Some(Instant::now());
            match connect(collector) {
                Ok(open) => socket = Some(open),
                Err(error) => {
                    tracing::warn!(collector, %error, "the collector of telemetry.hep is not found")
                }
            }
        }
        packet.clear();
        pack(&mut packet, &captured, agent);
        // Nobody listens there now: the next one may be heard. Where the name has moved, it is looked up again some time.
        let counter = match socket.as_ref().map(|socket| socket.send(&packet)) {
            Some(Ok(_)) => &counts.sent,
            Some(Err(_)) => {
                if tried.is_some_and(|at| at.elapsed() >= AGAIN) {
                    socket = None;
                }
                &counts.dropped
            }
            None => &counts.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn connect(collector: &str) -> io::Result<UdpSocket> {
    let address = std::net::ToSocketAddrs::to_socket_addrs(collector)?.next();
    let address = address.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let own: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((own, 0))?;
    socket.connect(address)?;
    Ok(socket)
}

/// Types of chunks; the vendor is 0, "generic".
mod chunk {
    pub(super) const FAMILY: u16 = 0x01;
    pub(super) const PROTOCOL: u16 = 0x02;
    pub(super) const SOURCE_V4: u16 = 0x03;
    pub(super) const TARGET_V4: u16 = 0x04;
    pub(super) const SOURCE_V6: u16 = 0x05;
    pub(super) const TARGET_V6: u16 = 0x06;
    pub(super) const SOURCE_PORT: u16 = 0x07;
    pub(super) const TARGET_PORT: u16 = 0x08;
    pub(super) const SECONDS: u16 = 0x09;
    pub(super) const MICROSECONDS: u16 = 0x0a;
    pub(super) const KIND: u16 = 0x0b;
    pub(super) const AGENT: u16 = 0x0c;
    pub(super) const KEY: u16 = 0x0e;
    pub(super) const PAYLOAD: u16 = 0x0f;
    pub(super) const CORRELATION: u16 = 0x11;
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SIP: u8 = 1;
/// Octets of a chunk's head: vendor, type, length.
const HEAD: usize = 6;

/// Appends the datagram of a message. Its chunks stand in the order that readers expect who do not look at types.
fn pack(packet: &mut Vec<u8>, captured: &Captured, agent: &Agent) {
    let start = packet.len();
    let Captured { time, source, target, stream, message } = captured;
    // An address of the fourth version may be written as one of the sixth, on one side only.
    let (from, to) = (source.ip().to_canonical(), target.ip().to_canonical());
    let is_v4 = from.is_ipv4() && to.is_ipv4();
    packet.extend_from_slice(b"HEP3\0\0");
    put(packet, chunk::FAMILY, &[if is_v4 { AF_INET } else { AF_INET6 }]);
    put(packet, chunk::PROTOCOL, &[if *stream { TCP } else { UDP }]);
    put(packet, chunk::SOURCE_PORT, &source.port().to_be_bytes());
    put(packet, chunk::TARGET_PORT, &target.port().to_be_bytes());
    put(packet, chunk::SECONDS, &u32::try_from(time.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
    put(packet, chunk::MICROSECONDS, &time.subsec_micros().to_be_bytes());
    put(packet, chunk::KIND, &[SIP]);
    put(packet, chunk::AGENT, &agent.id.to_be_bytes());
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            put(packet, chunk::SOURCE_V4, &from.octets());
            put(packet, chunk::TARGET_V4, &to.octets());
        }
        _ => {
            put(packet, chunk::SOURCE_V6, &sixteen(from));
            put(packet, chunk::TARGET_V6, &sixteen(to));
        }
    }
    if let Some(password) = &agent.password {
        put(packet, chunk::KEY, password.as_bytes());
    }
    let correlation = call_id(message);
    let behind = HEAD + correlation.map_or(0, |id| HEAD + id.len());
    let room = DATAGRAM_MAX.saturating_sub(packet.len() - start + behind);
    put(packet, chunk::PAYLOAD, &message[..message.len().min(room)]);
    if let Some(id) = correlation {
        put(packet, chunk::CORRELATION, id);
    }
    let length = u16::try_from(packet.len() - start).unwrap_or(u16::MAX);
    packet[start + 4..start + 6].copy_from_slice(&length.to_be_bytes());
}

fn put(packet: &mut Vec<u8>, kind: u16, content: &[u8]) {
    let length = u16::try_from(HEAD + content.len()).unwrap_or(u16::MAX);
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(content);
}

fn sixteen(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Longest Call-ID that is worth a chunk.
const CALL_ID_MAX: usize = 256;

/// The Call-ID of a message (RFC 3261 section 20.8; `i` in short), which need not be a right one.
fn call_id(message: &[u8]) -> Option<&[u8]> {
    let lines = message.split(|octet| *octet == b'\n').map(<[u8]>::trim_ascii);
    let mut head = lines.skip(1).take_while(|line| !line.is_empty());
    head.find_map(|line| {
        let colon = line.iter().position(|octet| *octet == b':')?;
        let name = line[..colon].trim_ascii();
        let is_it = name.eq_ignore_ascii_case(b"call-id") || name.eq_ignore_ascii_case(b"i");
        let value = line[colon + 1..].trim_ascii();
        (is_it && !value.is_empty() && value.len() <= CALL_ID_MAX).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &[u8] = b"INVITE sip:102@a SIP/2.0\r\nVia: x\r\nCall-ID : abc@host \r\n\r\ni: not this\r\n";

    fn captured(source: &str, target: &str, message: &'static [u8]) -> Captured {
        Captured {
            time: Duration::new(1_700_000_000, 123_456_789),
            source: source.parse().unwrap(),
            target: target.parse().unwrap(),
            stream: false,
            message: Bytes::from_static(message),
        }
    }

    fn agent(password: Option<&str>) -> Agent {
        Agent { id: 2001, password: password.map(str::to_owned) }
    }

    fn packed(captured: &Captured, agent: &Agent) -> Vec<u8> {
        let mut packet = Vec::new();
        pack(&mut packet, captured, agent);
        packet
    }

    /// Type and content of each chunk, by the lengths that they have.
    fn chunks(packet: &[u8]) -> Vec<(u16, Vec<u8>)> {
        assert_eq!(
            (&packet[..4], usize::from(u16::from_be_bytes([packet[4], packet[5]]))),
            (&b"HEP3"[..], packet.len())
        );
        let mut rest = &packet[6..];
        let mut all = Vec::new();
        while !rest.is_empty() {
            assert_eq!(rest[..2], [0, 0], "the generic vendor");
            let length = usize::from(u16::from_be_bytes([rest[4], rest[5]]));
            all.push((u16::from_be_bytes([rest[2], rest[3]]), rest[6..length].to_vec()));
            rest = &rest[length..];
        }
        all
    }

    #[test]
    fn a_message_has_the_octets_of_the_specification() {
        let packet = packed(&captured("192.0.2.1:5060", "198.51.100.2:5070", b"X"), &agent(Some("myhep")));
        let expected: &[&[u8]] = &[
            b"HEP3\x00\x6f",
            &[0, 0, 0, 1, 0, 7, 2],
            &[0, 0, 0, 2, 0, 7, 17],
            &[0, 0, 0, 7, 0, 8, 0x13, 0xc4],
            &[0, 0, 0, 8, 0, 8, 0x13, 0xce],
            &[0, 0, 0, 9, 0, 10, 0x65, 0x53, 0xf1, 0x00],
            &[0, 0, 0, 10, 0, 10, 0, 0x01, 0xe2, 0x40],
            &[0, 0, 0, 11, 0, 7, 1],
            &[0, 0, 0, 12, 0, 10, 0, 0, 0x07, 0xd1],
            &[0, 0, 0, 3, 0, 10, 192, 0, 2, 1],
            &[0, 0, 0, 4, 0, 10, 198, 51, 100, 2],
            &[0, 0, 0, 14, 0, 11, b'm', b'y', b'h', b'e', b'p'],
            &[0, 0, 0, 15, 0, 7, b'X'],
        ];
        assert_eq!(packet, expected.concat());
    }

    #[test]
    fn a_message_brings_its_call_id_and_its_addresses_of_either_version() {
        let by_stream =
            Captured { stream: true, ..captured("[2001:db8::1]:5060", "[::ffff:192.0.2.9]:7", INVITE) };
        let chunks = chunks(&packed(&by_stream, &agent(None)));
        let of =
            |kind: u16| chunks.iter().find(|(each, _)| *each == kind).map(|(_, content)| content.clone());
        assert_eq!(of(chunk::CORRELATION).unwrap(), b"abc@host");
        assert_eq!((of(chunk::FAMILY).unwrap(), of(chunk::PROTOCOL).unwrap()), (vec![AF_INET6], vec![TCP]));
        assert_eq!(of(chunk::SOURCE_V6).unwrap()[..4], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(of(chunk::TARGET_V6).unwrap()[10..], [0xff, 0xff, 192, 0, 2, 9]);
        assert_eq!((of(chunk::KEY), of(chunk::PAYLOAD).unwrap()), (None, INVITE.to_vec()));
    }

    #[test]
    fn a_call_id_stands_in_the_head_alone() {
        assert_eq!(call_id(b"BYE x SIP/2.0\ni:7\n\n"), Some(&b"7"[..]));
        for none in
            [&b""[..], b"Call-ID: 1", b"X\r\n\r\nCall-ID: 1\r\n", b"X\r\nCall-ID:\r\n", b"X\r\nCall-ID"]
        {
            assert_eq!(call_id(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_message_that_no_datagram_holds_is_cut() {
        let long: &'static [u8] = vec![b'x'; 70_000].leak();
        let packet = packed(&captured("192.0.2.1:1", "192.0.2.2:2", long), &agent(None));
        assert_eq!(packet.len(), DATAGRAM_MAX);
        assert_eq!(chunks(&packet).last().unwrap().0, chunk::PAYLOAD);
    }

    #[test]
    fn a_collector_gets_what_is_sent_and_the_rest_is_counted() {
        let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
        let hep = Hep::start(collector.local_addr().unwrap().to_string(), agent(None)).unwrap();
        hep.send(captured("192.0.2.1:5060", "192.0.2.2:5060", INVITE));
        let mut buffer = [0; 2048];
        let length = collector.recv(&mut buffer).unwrap();
        assert!(chunks(&buffer[..length]).contains(&(chunk::PAYLOAD, INVITE.to_vec())));
        assert_eq!(hep.dropped(), 0);
        // What does not fit beside what waits is dropped at once.
        let huge: &'static [u8] = vec![b'x'; OCTETS_MAX + 1].leak();
        hep.send(captured("192.0.2.1:5060", "192.0.2.2:5060", huge));
        assert_eq!(hep.dropped(), 1);
    }
}
