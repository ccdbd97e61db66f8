//! Calls made of two endpoints: what most tests begin with.
//!
//! In: two [`Endpoint`]s. Out: an established call as both sides know it. Elsewhere: single messages (`endpoint`).

use crate::endpoint::{Dialog, Endpoint, Invite, body, unique};
use sip::msg::Message;
use std::net::{IpAddr, SocketAddr};

/// A session description with one audio stream of G.711 and telephone events.
pub fn sdp(ip: IpAddr, port: u16) -> String {
    sdp_with(ip, port, 1, "")
}

/// The same in another version, with more lines at its end (each `a=…` with CRLF).
pub fn sdp_with(ip: IpAddr, port: u16, version: u32, lines: &str) -> String {
    let kind = if ip.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=- 7 {version} IN {kind} {ip}\r\ns=-\r\nc=IN {kind} {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8 0 101\r\n\
         a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n{lines}"
    )
}

/// Where the first audio stream of a session description wants its packets.
///
/// # Panics
/// When that cannot be read from it.
pub fn media_address(sdp: &str) -> SocketAddr {
    let line = |start: &str| sdp.lines().find_map(|line| line.strip_prefix(start));
    let ip = line("c=IN IP4 ").or_else(|| line("c=IN IP6 ")).and_then(|ip| ip.trim().parse::<IpAddr>().ok());
    let port = line("m=audio ").and_then(|rest| rest.split(' ').next()?.parse().ok());
    match (ip, port) {
        (Some(ip), Some(port)) => SocketAddr::new(ip, port),
        _ => panic!("no audio address in {sdp}"),
    }
}

/// A call that both sides have confirmed.
#[derive(Clone, Debug)]
pub struct Established {
    /// As the caller knows it.
    pub caller: Dialog,
    /// As the callee knows it.
    pub callee: Dialog,
    /// The offer as the callee got it.
    pub offer: String,
    /// The answer as the caller got it.
    pub answer: String,
}

/// The caller's endpoint calls 102, the callee's rings and answers; their audio ports are 30000 and 30002.
pub fn establish(caller: &mut Endpoint, callee: &mut Endpoint) -> Established {
    let (offer, answer) = (sdp(caller.ip(), 30_000), sdp(callee.ip(), 30_002));
    establish_with(caller, callee, "102", &offer, &answer)
}

/// The same with a number and session descriptions of the test's choice.
pub fn establish_with(
    caller: &mut Endpoint,
    callee: &mut Endpoint,
    number: &str,
    offer: &str,
    answer: &str,
) -> Established {
    let sent = caller.invite(number, "", offer);
    let invite = callee.expect("INVITE");
    answer_to(caller, &sent, callee, &invite, answer)
}

/// The rest of it, when the caller's INVITE has reached the callee.
pub fn answer_to(
    caller: &mut Endpoint,
    sent: &Invite,
    callee: &mut Endpoint,
    invite: &Message,
    answer: &str,
) -> Established {
    let tag = format!("c{}", unique());
    callee.respond(invite, 180, &tag, "", "");
    caller.expect("180 INVITE");
    callee.respond(invite, 200, &tag, "", answer);
    let ok = caller.expect("200 INVITE");
    let dialog = Dialog::of_caller(sent, &ok);
    caller.ack(&dialog, sent.cseq, "");
    callee.expect("ACK");
    Established {
        caller: dialog,
        callee: Dialog::of_callee(invite, &tag),
        offer: body(invite),
        answer: body(&ok),
    }
}
