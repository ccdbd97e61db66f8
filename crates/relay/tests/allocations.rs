//! Packets cost no allocation: the whole process is watched while a call talks. Alone in its file, for that reason.

use bytes::Bytes;
use cluster::ids::{CallId, NodeId};
use cluster::media::{Media, MediaCommand, MediaEvent, MediaLeg, MediaReply, MediaSink, Signalling};
use relay::{MediaAddress, Relay, RelayConfig};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const PACKETS: u16 = 2000;

struct Nobody;

impl MediaSink for Nobody {
    fn reply(&self, _: CallId, _: u32, _: MediaReply) {}
    fn event(&self, _: CallId, _: MediaEvent) {}
}

fn sdp(port: u16) -> Bytes {
    Bytes::from(format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
    ))
}

/// Sends an RTP packet of 160 octets and, every hundredth time, a sender report; waits until they have come out.
fn talk(from: [&UdpSocket; 2], to: SocketAddr, out: [&UdpSocket; 2], number: u16) {
    let mut heard = [0; 256];
    let mut packet = [0; 172];
    packet[0] = 0x80;
    packet[2..4].copy_from_slice(&number.to_be_bytes());
    packet[4..8].copy_from_slice(&(u32::from(number) * 160).to_be_bytes());
    packet[11] = 7;
    from[0].send_to(&packet, to).expect("sent");
    assert_eq!(out[0].recv(&mut heard).expect("comes out"), packet.len());
    if number.is_multiple_of(100) {
        let mut report = [0; 28];
        report[..8].copy_from_slice(&[0x80, 200, 0, 6, 0, 0, 0, 7]);
        from[1].send_to(&report, SocketAddr::new(to.ip(), to.port() + 1)).expect("sent");
        assert_eq!(out[1].recv(&mut heard).expect("comes out"), report.len());
    }
}

/// A pair of sockets on ports that follow each other.
fn pair() -> (UdpSocket, UdpSocket, u16) {
    loop {
        let first = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let port = first.local_addr().expect("bound").port();
        if let Some(Ok(second)) = port.checked_add(1).map(|next| UdpSocket::bind(("127.0.0.1", next))) {
            for socket in [&first, &second] {
                socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out above zero");
            }
            return (first, second, port);
        }
    }
}

#[test]
fn a_packet_costs_no_allocation() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let config = RelayConfig {
        addresses: vec![MediaAddress::plain([127, 0, 0, 1].into())],
        ports: 45_000..=45_999,
        workers: 1,
        packets_per_second: 0, // this talk is faster than any
        ..RelayConfig::default()
    };
    let relay = Relay::start(config, Arc::new(Nobody)).expect("a relay");
    let ((alice, alice_rtcp, alice_port), (bob, bob_rtcp, bob_port)) = (pair(), pair());
    let (call, a, b) = (CallId::new(NodeId(1), 1), MediaLeg(0), MediaLeg(1));
    let ask = |command| match relay.submit(NodeId(1), call, 0, command, Signalling::default()) {
        Some(MediaReply::Sdp(sdp)) => {
            let text = String::from_utf8_lossy(&sdp).into_owned();
            let line = text.lines().find(|line| line.starts_with("m=audio ")).expect("audio").to_owned();
            let port = line.split(' ').nth(1).and_then(|port| port.parse().ok()).expect("a port");
            SocketAddr::new([127, 0, 0, 1].into(), port)
        }
        other => panic!("{other:?}"),
    };
    let for_bob = ask(MediaCommand::Offer { from: a, to: b, sdp: sdp(alice_port) });
    let for_alice = ask(MediaCommand::Answer { from: b, to: a, sdp: sdp(bob_port) });
    let round = |number| {
        talk([&alice, &alice_rtcp], for_alice, [&bob, &bob_rtcp], number);
        talk([&bob, &bob_rtcp], for_bob, [&alice, &alice_rtcp], number);
    };
    (0..200).for_each(round); // sources are locked, streams are known

    let before = dhat::HeapStats::get().total_blocks;
    (200..200 + PACKETS).for_each(round);
    let made = dhat::HeapStats::get().total_blocks - before;
    assert_eq!(made, 0, "allocations for {PACKETS} packets each way");

    // The watch sees the worker, too: a new session is made of allocations.
    let before = dhat::HeapStats::get().total_blocks;
    relay.submit(NodeId(1), call, 1, MediaCommand::Close, Signalling::default());
    assert!(dhat::HeapStats::get().total_blocks > before);
}
