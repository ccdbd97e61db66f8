//! An RTP load generator: two sockets of one thread play both peers of every call through a relay.
//!
//! In: the relay's ports of each call. Out: a [`Trial`]. A packet carries the time when it was sent; when it arrived is
//! the kernel's word (SO_TIMESTAMPNS), so that the generator's own haste or delay counts as little as can be.

use crate::cpu::{self, Measured as _, Server};
use crate::udp::{self, Samples};
use netio::{RecvBatch, SendBatch};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// RTP header and 20 ms of G.711.
pub(crate) const PACKET: usize = 172;
/// Packets of a second in one direction.
pub(crate) const RATE: usize = 50;
/// Packets stamped and sent in one go by each socket.
pub(crate) const BURST: usize = 16;
/// SSRC of the first stream.
pub(crate) const FIRST_STREAM: u32 = 0x1000_0000;
/// Sent before figures are taken, so that the relay has locked to its sources and its caches are warm.
const WARM_UP: Duration = Duration::from_millis(500);
/// Longest wait for stragglers.
const TAIL: Duration = Duration::from_millis(500);
/// Sleep when nothing is due.
const IDLE: Duration = Duration::from_micros(50);
/// Bound on p99 of a passed level.
pub(crate) const P99_MAX_MS: f64 = 10.0;

/// Ports of the relay for one call: where caller and callee send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Legs {
    /// The caller's port at the relay.
    pub(crate) caller: SocketAddr,
    /// The callee's.
    pub(crate) callee: SocketAddr,
}

/// Both peers of all calls.
pub(crate) struct Peers {
    caller: UdpSocket,
    callee: UdpSocket,
    inbox: RecvBatch,
    outbox: SendBatch,
    trials: u32,
}

/// What came of one trial.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    /// Packets sent.
    pub(crate) sent: u64,
    /// Packets that arrived.
    pub(crate) received: u64,
    /// Seconds of sending.
    pub(crate) seconds: f64,
    /// Sent to arrived.
    pub(crate) latency: Samples,
    /// Server CPU.
    pub(crate) cpu: Duration,
    /// Generator CPU.
    pub(crate) own_cpu: Duration,
    /// The longest time that a packet was sent too late.
    pub(crate) behind: Duration,
}

impl Trial {
    /// Server CPU for one relayed packet in microseconds.
    pub(crate) fn cpu_per_packet_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.received.max(1) as f64
    }

    /// No loss, and quick enough.
    pub(crate) fn passed(&mut self) -> bool {
        self.received == self.sent && self.latency.quantile_ms(0.99) <= P99_MAX_MS
    }

    /// One line for the run's log.
    pub(crate) fn line(&mut self) -> String {
        format!(
            "{:.0} packets/s, lost {} of {}, p50 {:.3} p99 {:.3} max {:.1} ms, server {:.0}% = {:.2} us each, generator {:.0}%, {:.1} ms behind",
            self.sent as f64 / self.seconds,
            self.sent - self.received,
            self.sent,
            self.latency.quantile_ms(0.5),
            self.latency.quantile_ms(0.99),
            self.latency.quantile_ms(1.0),
            100.0 * self.cpu.as_secs_f64() / self.seconds,
            self.cpu_per_packet_us(),
            100.0 * self.own_cpu.as_secs_f64() / self.seconds,
            self.behind.as_secs_f64() * 1e3,
        )
    }
}

impl Peers {
    /// Binds both sockets.
    pub(crate) fn new() -> io::Result<Peers> {
        let (caller, callee) = (udp::bind()?, udp::bind()?);
        netio::enable_timestamps(&caller)?;
        netio::enable_timestamps(&callee)?;
        let inbox = RecvBatch::with_timestamps(256, 256);
        Ok(Peers { caller, callee, inbox, outbox: SendBatch::new(BURST), trials: 0 })
    }

    /// Ports of caller and callee, for the session descriptions.
    pub(crate) fn ports(&self) -> io::Result<(u16, u16)> {
        Ok((self.caller.local_addr()?.port(), self.callee.local_addr()?.port()))
    }

    /// Sends 50 packets a second each way through all of `legs` for `measured`.
    pub(crate) fn run(&mut self, legs: &[Legs], measured: Duration, server: &Server) -> io::Result<Trial> {
        let streams = legs.len() * 2;
        let gap = 1e9 / (streams * RATE) as f64;
        let mut packets = vec![[0_u8; PACKET]; BURST];
        let mut trial = Trial::default();
        let begin = Instant::now();
        let mut window: Option<(Duration, Duration)> = None;
        let (mut sent, mut first) = (0_u64, 0_u64);
        self.trials += 1;
        let warm_up = self.trials;
        self.trials += 1;
        loop {
            let now = begin.elapsed();
            if window.is_none() && now >= WARM_UP {
                window = Some((server.cpu(), cpu::own()));
                first = sent;
            }
            if now >= WARM_UP + measured {
                break;
            }
            let due = (now.as_nanos() as f64 / gap) as u64;
            let late = now.saturating_sub(Duration::from_nanos((sent as f64 * gap) as u64));
            if window.is_some() {
                trial.behind = trial.behind.max(late);
            }
            let burst = due.saturating_sub(sent).min(BURST as u64 * 2);
            let mark = if window.is_some() { self.trials } else { warm_up };
            for side in 0..2_u64 {
                // Streams alternate between caller and callee.
                let mine =
                    (sent..sent + burst).filter(|number| (number + side).is_multiple_of(2)).zip(&mut packets);
                let mut to = Vec::with_capacity(BURST);
                for (number, packet) in mine {
                    let stream = (number % streams as u64) as usize;
                    write_packet(packet, stream as u32, number / streams as u64, mark);
                    let Legs { caller, callee } = legs[stream / 2];
                    to.push(if stream.is_multiple_of(2) { caller } else { callee });
                }
                let socket = if side == 0 { &self.caller } else { &self.callee };
                let mut done = 0;
                while done < to.len() {
                    let rest = packets[done..].iter().zip(&to[done..]);
                    done += self.outbox.send(socket, rest.map(|(packet, &to)| (&packet[..], to)))?;
                }
            }
            sent += burst;
            let got = self.receive(&mut trial)?;
            if burst == 0 && got == 0 {
                std::thread::sleep(IDLE);
            }
        }
        let (server_before, own_before) = window.unwrap_or_default();
        trial.sent = sent - first;
        trial.seconds = measured.as_secs_f64();
        trial.own_cpu = cpu::own().saturating_sub(own_before);
        let stopped = Instant::now();
        while trial.received < trial.sent && stopped.elapsed() < TAIL {
            if self.receive(&mut trial)? == 0 {
                std::thread::sleep(IDLE);
            }
        }
        trial.cpu = server.cpu().saturating_sub(server_before);
        Ok(trial)
    }

    fn receive(&mut self, trial: &mut Trial) -> io::Result<usize> {
        let mut count = 0;
        for socket in [&self.caller, &self.callee] {
            count += self.inbox.recv(socket)?;
            for datagram in self.inbox.iter() {
                let (Some(arrived), Some((mark, sent))) = (datagram.timestamp, read_packet(datagram.bytes))
                else {
                    continue;
                };
                if mark == self.trials {
                    trial.received += 1;
                    trial.latency.push(arrived.as_nanos() as u64 - sent.min(arrived.as_nanos() as u64));
                }
            }
        }
        Ok(count)
    }
}

/// RFC 3550 section 5.1: version 2, PCMU; the payload begins with trial and time.
pub(crate) fn write_packet(packet: &mut [u8; PACKET], stream: u32, sequence: u64, mark: u32) {
    packet[0] = 0x80;
    packet[2..4].copy_from_slice(&(sequence as u16).to_be_bytes());
    packet[4..8].copy_from_slice(&(sequence as u32).wrapping_mul(160).to_be_bytes());
    packet[8..12].copy_from_slice(&(FIRST_STREAM + stream).to_be_bytes());
    packet[12..16].copy_from_slice(&mark.to_be_bytes());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    packet[16..24].copy_from_slice(&(now.as_nanos() as u64).to_be_bytes());
}

/// Trial and time of a packet.
pub(crate) fn read_packet(packet: &[u8]) -> Option<(u32, u64)> {
    let mark = u32::from_be_bytes(packet.get(12..16)?.try_into().ok()?);
    Some((mark, u64::from_be_bytes(packet.get(16..24)?.try_into().ok()?)))
}

/// The most packets a second without loss and with p99 in bounds, found by halving the interval between a level that
/// passed and one that did not; a level counts as failed when it failed twice.
pub(crate) fn capacity(peers: &mut Peers, legs: &[Legs], each: Duration, server: &Server) -> io::Result<f64> {
    let (mut passed, mut failed) = (0, legs.len() + 1);
    let mut level = legs.len() / 3;
    while failed - passed > (passed / 40).max(1) {
        let mut good = false;
        for _ in 0..2 {
            let mut trial = peers.run(&legs[..level], each, server)?;
            good = trial.passed();
            eprintln!("    {} calls: {}", level, trial.line());
            if good {
                break;
            }
        }
        if good {
            passed = level;
        } else {
            failed = level;
        }
        level = (passed + failed) / 2;
    }
    Ok((passed * 2 * RATE) as f64)
}
