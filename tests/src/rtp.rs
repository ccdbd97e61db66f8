//! Audio ports of a peer: numbered packets go out, and each must come in at the other end as it was sent.
//!
//! In: addresses from session descriptions. Out: nothing but failures. Elsewhere: session descriptions (`call`), sound that
//! is listened to (`audio`).

use crate::PATIENCE;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Octets of G.711 in 20 ms.
const PAYLOAD: usize = 160;
/// A first packet that is not heard is sent again after this time.
const GREETING_EVERY: Duration = Duration::from_millis(100);

/// One peer's RTP port.
pub struct RtpPort {
    socket: UdpSocket,
    ssrc: u32,
}

impl RtpPort {
    /// Opens a port.
    ///
    /// # Panics
    /// When it is taken.
    pub fn open(ip: IpAddr, port: u16) -> RtpPort {
        let socket = UdpSocket::bind(SocketAddr::new(ip, port)).expect("the place is ours alone");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out above zero");
        let port = socket.local_addr().expect("it is bound").port();
        RtpPort { socket, ssrc: 0x4000_0000 | u32::from(port) }
    }

    /// Its port number.
    ///
    /// # Panics
    /// Never: it is bound.
    pub fn port(&self) -> u16 {
        self.socket.local_addr().expect("it is bound").port()
    }

    /// Packet number `number` (RFC 3550 section 5.1): 20 ms of PCMA that say their number.
    pub fn packet(&self, number: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 8];
        packet.extend(number.to_be_bytes());
        packet.extend((u32::from(number) * 160).to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(number.to_be_bytes().iter().cycle().take(PAYLOAD));
        packet
    }

    /// Sends octets.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn send(&self, octets: &[u8], to: SocketAddr) {
        self.socket.send_to(octets, to).expect("loopback takes it");
    }

    /// How long [`RtpPort::receive`] waits.
    ///
    /// # Panics
    /// When it is zero.
    pub fn patience(&self, patience: Duration) {
        self.socket.set_read_timeout(Some(patience)).expect("a time-out above zero");
    }

    /// The next datagram and where it came from; `None` when none comes in time.
    pub fn receive(&self) -> Option<(Vec<u8>, SocketAddr)> {
        let mut buffer = vec![0; 4096];
        let (length, from) = self.socket.recv_from(&mut buffer).ok()?;
        buffer.truncate(length);
        Some((buffer, from))
    }
}

/// What one side of a conversation needs to know to be heard: its own port, and where its peer's SDP sends it.
pub struct Side<'a> {
    /// Own port.
    pub port: &'a RtpPort,
    /// Where the node told it to send.
    pub to: SocketAddr,
}

/// Opens the way: packet 0 goes both ways until it is heard. How often it was sent by each side.
///
/// # Panics
/// When it is never heard.
pub fn greet(a: &Side<'_>, b: &Side<'_>) -> (u64, u64) {
    (call_out(a, b, "the callee"), call_out(b, a, "the caller"))
}

fn call_out(from: &Side<'_>, to: &Side<'_>, name: &str) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    let packet = from.port.packet(0);
    let mut sent = 0;
    to.port.patience(GREETING_EVERY);
    while Instant::now() < deadline {
        sent += 1;
        from.port.send(&packet, from.to);
        if let Some((heard, _)) = to.port.receive() {
            to.port.patience(PATIENCE);
            assert_eq!(heard, packet, "the first packet at {name}");
            return sent;
        }
    }
    panic!("nothing arrives at {name}");
}

/// Sends packets `numbers` both ways, one after the other, and compares every octet at the other end.
///
/// # Panics
/// When a packet does not come, or is another one, or comes from elsewhere than the peer was told.
pub fn converse(a: &Side<'_>, b: &Side<'_>, numbers: std::ops::Range<u16>) {
    for number in numbers {
        pass(a, b, number, "the callee");
        pass(b, a, number, "the caller");
    }
}

/// Sends packet `number` and waits for it at the other end.
///
/// # Panics
/// When it does not come as it was sent.
pub fn pass(from: &Side<'_>, to: &Side<'_>, number: u16, name: &str) {
    let packet = from.port.packet(number);
    from.port.send(&packet, from.to);
    let greeting = from.port.packet(0);
    match std::iter::repeat_with(|| to.port.receive())
        .find(|heard| number == 0 || !is(heard, &greeting))
        .flatten()
    {
        Some((heard, source)) => {
            assert_eq!(heard, packet, "packet {number} at {name} is not the one that was sent");
            assert_eq!(source, to.to, "packet {number} at {name} comes from where it is to send to");
        }
        None => panic!("packet {number} does not arrive at {name}"),
    }
}

fn is(heard: &Option<(Vec<u8>, SocketAddr)>, packet: &[u8]) -> bool {
    heard.as_ref().is_some_and(|(heard, _)| heard == packet)
}
