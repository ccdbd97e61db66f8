//! rtpengine in user space, the peer for media: started without its kernel module, driven by its `ng` protocol.

use crate::cpu::{self, Server};
use crate::rtpload::Legs;
use crate::udp;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

/// Worker threads that do best on one core, found by trying 1 and 2.
pub(crate) const THREADS: u32 = 1;

/// Installs what is missing. Its kernel module is not needed.
pub(crate) fn install() -> io::Result<()> {
    cpu::need("rtpengine", "rtpengine-daemon")
}

/// A running rtpengine.
pub(crate) struct Rtpengine {
    pub(crate) server: Server,
    control: UdpSocket,
    cookies: u32,
}

impl Rtpengine {
    /// Starts it and waits until it answers.
    pub(crate) fn start(threads: u32, directory: &Path) -> io::Result<Rtpengine> {
        let port = udp::free_port()?;
        let threads = threads.to_string();
        let listen = format!("127.0.0.1:{port}");
        let arguments = [
            "--foreground",
            "--table=-1",
            "--interface=127.0.0.1",
            "--listen-ng",
            &listen,
            "--num-threads",
            &threads,
            "--port-min=20000",
            "--port-max=60000",
            "--log-level=3",
            "--log-stderr",
            "--timeout=3600",
            "--silent-timeout=3600",
            "--delete-delay=0",
        ];
        let server = Server::start(&cpu::find("rtpengine")?, &arguments.map(str::to_owned), directory)?;
        let control = UdpSocket::bind("127.0.0.1:0")?;
        control.connect(&listen)?;
        control.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut engine = Rtpengine { server, control, cookies: 0 };
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            if engine.ask(&[("command", "ping")]).is_ok() {
                return Ok(engine);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        engine.server.check()?;
        Err(io::Error::other("rtpengine does not answer a ping"))
    }

    /// Makes calls between two peers on loopback.
    pub(crate) fn calls(&mut self, count: usize, (caller, callee): (u16, u16)) -> io::Result<Vec<Legs>> {
        (0..count).map(|number| self.call(number, caller, callee)).collect()
    }

    fn call(&mut self, number: usize, caller: u16, callee: u16) -> io::Result<Legs> {
        let call = format!("call{number}");
        let (offer, answer) = (sdp(caller), sdp(callee));
        let common = [("ICE", "remove"), ("call-id", &call), ("from-tag", "a")];
        let offered = self.ask(&[&[("command", "offer"), ("sdp", &offer)], &common[..]].concat())?;
        let answered =
            self.ask(&[&[("command", "answer"), ("sdp", &answer), ("to-tag", "b")], &common[..]].concat())?;
        Ok(Legs { caller: address(&answered)?, callee: address(&offered)? })
    }

    /// One command: a bencoded dictionary behind a cookie; the answer without its cookie.
    fn ask(&mut self, pairs: &[(&str, &str)]) -> io::Result<String> {
        self.cookies += 1;
        let mut pairs = pairs.to_vec();
        pairs.sort_unstable();
        let words =
            pairs.iter().flat_map(|&(key, value)| [key, value]).map(|word| format!("{}:{word}", word.len()));
        let cookie = format!("{} ", self.cookies);
        self.control.send(format!("{cookie}d{}e", words.collect::<String>()).as_bytes())?;
        let mut buffer = [0; 8192];
        loop {
            let length = self.control.recv(&mut buffer)?;
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            match text.strip_prefix(&cookie) {
                Some(answer) if answer.contains("6:result2:ok") || answer.contains("6:result4:pong") => {
                    return Ok(answer.to_owned());
                }
                Some(answer) => return Err(io::Error::other(format!("rtpengine: {answer}"))),
                None => {}
            }
        }
    }
}

/// A session description for a peer on loopback.
pub(crate) fn sdp(port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
         a=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
    )
}

/// The port of the first media line, on loopback.
pub(crate) fn address(sdp: &str) -> io::Result<SocketAddr> {
    let line = sdp.lines().find_map(|line| line.split_once("m=audio ")).map(|(_, rest)| rest);
    let port = line.and_then(|rest| rest.split(' ').next()?.parse::<u16>().ok());
    let port = port.ok_or_else(|| io::Error::other(format!("no media port in {sdp:?}")))?;
    Ok(([127, 0, 0, 1], port).into())
}
