//! Servers that this program starts itself in a process of their own: the floor, and our relay behind a line of text.
//!
//! The floor does what every relay in user space must do and nothing else: receive a datagram, send it on.

use crate::cpu::Server;
use crate::rtpengine::{address, sdp};
use crate::rtpload::Legs;
use crate::udp;
use cluster::ids::{CallId, NodeId};
use cluster::media::{Media, MediaCommand, MediaEvent, MediaLeg, MediaReply, MediaSink, Signalling};
use relay::{Relay, RelayConfig};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Starts this program as `what` with some numbers, and reads the one line of ports that it prints.
pub(crate) fn start(what: &str, numbers: &[usize], directory: &Path) -> io::Result<(Server, Vec<Legs>)> {
    let mut arguments = vec![what.to_owned()];
    arguments.extend(numbers.iter().map(usize::to_string));
    let mut server = Server::start(&std::env::current_exe()?, &arguments, directory)?;
    let mut line = String::new();
    BufReader::new(server.output()?).read_line(&mut line)?;
    server.check()?;
    let ports: Vec<u16> = line.split_ascii_whitespace().filter_map(|port| port.parse().ok()).collect();
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let legs = ports.chunks_exact(2).map(|pair| Legs { caller: at(pair[0]), callee: at(pair[1]) });
    Ok((server, legs.collect()))
}

/// The floor: two sockets, two threads, two system calls a packet. Never returns unless it fails.
pub(crate) fn serve_floor(caller: u16, callee: u16) -> io::Result<()> {
    let (left, right) = (udp::bind()?, udp::bind()?);
    left.set_nonblocking(false)?;
    right.set_nonblocking(false)?;
    announce(&[left.local_addr()?.port(), right.local_addr()?.port()])?;
    let (left_too, right_too) = (left.try_clone()?, right.try_clone()?);
    std::thread::spawn(move || pass_on(&right_too, &left_too, caller));
    pass_on(&left, &right, callee)
}

fn pass_on(from: &UdpSocket, through: &UdpSocket, to: u16) -> io::Result<()> {
    let mut buffer = [0; 2048];
    loop {
        let length = from.recv(&mut buffer)?;
        through.send_to(&buffer[..length], ("127.0.0.1", to))?;
    }
}

/// Our relay with `calls` calls between two peers on loopback, who talk at once. Never returns unless it fails.
pub(crate) fn serve_relay(calls: usize, caller: u16, callee: u16) -> io::Result<()> {
    let config = RelayConfig { ports: 10_000..=32_000, silence: Duration::ZERO, ..RelayConfig::default() };
    let relay = Relay::start(config, Arc::new(Deaf)).map_err(io::Error::other)?;
    let mut ports = Vec::new();
    for number in 0..calls {
        let call = CallId::new(NodeId(1), number as u64);
        let (from, to) = (MediaLeg(0), MediaLeg(1));
        let offered = ask(&relay, call, MediaCommand::Offer { from, to, sdp: sdp(caller).into() })?;
        let answered =
            ask(&relay, call, MediaCommand::Answer { from: to, to: from, sdp: sdp(callee).into() })?;
        ports.extend([address(&answered)?.port(), address(&offered)?.port()]);
    }
    announce(&ports)?;
    loop {
        std::thread::park();
    }
}

fn ask(relay: &Relay, call: CallId, command: MediaCommand) -> io::Result<String> {
    match relay.submit(NodeId(1), call, 0, command, Signalling::default()) {
        Some(MediaReply::Sdp(sdp)) => Ok(String::from_utf8_lossy(&sdp).into_owned()),
        other => Err(io::Error::other(format!("our relay: {other:?}"))),
    }
}

/// Nobody hears what the relay has to say.
struct Deaf;

impl MediaSink for Deaf {
    fn reply(&self, _: CallId, _: u32, _: MediaReply) {}
    fn event(&self, _: CallId, _: MediaEvent) {}
}

/// Prints the line that [`start`] reads.
fn announce(ports: &[u16]) -> io::Result<()> {
    let line = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
    writeln!(io::stdout(), "{line}")
}
