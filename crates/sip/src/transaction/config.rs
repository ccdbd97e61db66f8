//! What a table of transactions can be told: timers, bounds, and what goes to the Via of requests.
//!
//! In: nothing. Out: plain values with their defaults and the reasons. Elsewhere: their use (`timers`, `mod`).

use crate::flow::Transport;
use crate::header::Via;
use crate::uri::Host;
use std::net::IpAddr;
use std::time::Duration;

/// Settings of one table.
#[derive(Clone, Debug)]
pub struct Config {
    /// T1, the estimate of the round trip: 500 ms (RFC 3261 section 17.1.1.1).
    pub t1: Duration,
    /// T2, the longest pause between repeats of a non-INVITE request and of a failure answer: 4 s (17.1.2.2).
    pub t2: Duration,
    /// T4, how long a message may stay in the network: 5 s (17.1.2.2).
    pub t4: Duration,
    /// Timer D, how long an INVITE client transaction acknowledges repeats of a failure: at least 32 s (17.1.1.2).
    pub timer_d: Duration,
    /// Answer every INVITE with 100 at once: right for a back-to-back user agent, which never knows how soon the other
    /// side answers. Otherwise the 100 waits for `trying_after`.
    pub trying_immediately: bool,
    /// How long the user has for a first answer before the automatic 100: 200 ms (17.2.1).
    pub trying_after: Duration,
    /// An INVITE whose user has said nothing for this long is answered 500 ([`Event::Unanswered`](super::Event)): a
    /// user that is alive repeats its provisional response every minute (13.3.1.1), so 11 minutes are plenty, and
    /// longer than `ring_within` so that the other leg of a call ends first.
    pub answer_within: Duration,
    /// An INVITE of ours whose peer has sent no further provisional response for this long is cancelled, as by timer C
    /// (16.8): 10 minutes, so that the limit that a caller notices is the user's own.
    pub ring_within: Duration,
    /// What each listener writes into the Via of requests; the position is [`Flow::listener`](crate::flow::Flow).
    pub via_hosts: Vec<ListenerVia>,
    /// Number of this table among those of the process; it is part of every branch, see
    /// [`Transactions::foreign_shard`](super::Transactions::foreign_shard).
    pub shard: u8,
    /// Most transactions at the same time. One takes less than 400 bytes beside its message. A sixteenth is kept for
    /// dialogs, half of it for requests of our own, so that calls can be ended when others fill the table.
    pub max_transactions: usize,
    /// The Retry-After of the 503 that a full table answers.
    pub retry_after: Duration,
    /// Answer UDP requests to the port they came from even if their Via asks for it by no `rport` (RFC 3581): helps
    /// telephones behind NAT that do not know of it.
    pub force_rport: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            timer_d: Duration::from_secs(32),
            trying_immediately: true,
            trying_after: Duration::from_millis(200),
            answer_within: Duration::from_secs(660),
            ring_within: Duration::from_secs(600),
            via_hosts: Vec::new(),
            shard: 0,
            max_transactions: 1 << 20,
            retry_after: Duration::from_secs(10),
            force_rport: false,
        }
    }
}

/// What one listener writes into the Via of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerVia {
    /// The transport of the listener.
    pub transport: Transport,
    /// The advertised `host:port`, an IPv6 address in brackets.
    pub sent_by: String,
}

impl ListenerVia {
    fn host(&self) -> &str {
        self.sent_by.rsplit_once(':').map_or(&self.sent_by, |(host, _)| host)
    }
}

/// A sent-by of ours, ready to be compared (RFC 3261 section 18.1.2).
#[derive(Debug)]
pub(super) struct SentBy {
    host: OwnHost,
    port: Option<u16>,
}

#[derive(Debug)]
enum OwnHost {
    Name(String),
    Ip(IpAddr),
}

impl SentBy {
    pub(super) fn new(listener: &ListenerVia) -> SentBy {
        let host = listener.host();
        let port = listener.sent_by[host.len()..].trim_start_matches(':').parse().ok();
        let host = match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(ip) => OwnHost::Ip(ip),
            Err(_) => OwnHost::Name(host.to_owned()),
        };
        SentBy { host, port }
    }

    /// Whether the top Via of a response has it.
    pub(super) fn is_in(&self, via: &Via<'_>) -> bool {
        let same_host = match (&self.host, via.host) {
            (OwnHost::Name(own), Host::Name(name)) => name.eq_ignore_ascii_case(own),
            (OwnHost::Ip(own), Host::V4(ip)) => *own == IpAddr::V4(ip),
            (OwnHost::Ip(own), Host::V6(ip)) => *own == IpAddr::V6(ip),
            (OwnHost::Name(_), Host::V4(_) | Host::V6(_)) | (OwnHost::Ip(_), Host::Name(_)) => false,
        };
        same_host && via.port == self.port
    }
}

/// The listener by which a large request goes instead of UDP listener `udp`: a TCP one that advertises the same host.
pub(super) fn stream_beside(listeners: &[ListenerVia], udp: u16) -> Option<u16> {
    let own = listeners.get(usize::from(udp))?;
    let is_beside = |other: &&ListenerVia| other.transport == Transport::Tcp && other.host() == own.host();
    let mut beside = listeners.iter().enumerate().filter(|(_, other)| is_beside(other));
    let first = beside.clone().next();
    let best = beside.find(|(_, other)| other.sent_by == own.sent_by).or(first);
    best.and_then(|(index, _)| u16::try_from(index).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(all: &[(Transport, &str)]) -> Vec<ListenerVia> {
        let listener = |(transport, sent_by): &(Transport, &str)| ListenerVia {
            transport: *transport,
            sent_by: (*sent_by).to_owned(),
        };
        all.iter().map(listener).collect()
    }

    #[test]
    fn a_large_request_goes_by_the_tcp_listener_of_the_same_address() {
        use Transport::{Tcp, Tls, Udp};
        let all = listeners(&[
            (Udp, "192.0.2.1:5060"),
            (Tls, "192.0.2.1:5060"),
            (Tcp, "192.0.2.1:5070"),
            (Tcp, "192.0.2.1:5060"),
            (Udp, "[2001:db8::1]:5060"),
            (Udp, "192.0.2.1:5080"),
        ]);
        assert_eq!(stream_beside(&all, 0), Some(3));
        assert_eq!(stream_beside(&all, 4), None, "no TCP listener there");
        assert_eq!(stream_beside(&all, 5), Some(2), "another port of the same host is better than none");
        assert_eq!(stream_beside(&all, 99), None);
    }

    #[test]
    fn a_sent_by_is_ours_whatever_the_case_of_its_host_and_only_with_its_port() {
        for (own, seen, same) in [
            ("192.0.2.1:5060", "192.0.2.1:5060", true),
            ("192.0.2.1:5060", "192.0.2.1:5061", false),
            ("192.0.2.1:5060", "192.0.2.1", false),
            ("192.0.2.1:5060", "192.0.2.2:5060", false),
            ("192.0.2.1:5060", "sip.example.com:5060", false),
            ("sip.example.com:5060", "SIP.Example.com:5060", true),
            ("sip.example.com:5060", "192.0.2.1:5060", false),
            ("sip.example.com", "sip.example.com", true),
            ("[2001:db8::1]:5060", "[2001:DB8:0::1]:5060", true),
            ("[2001:db8::1]:5060", "[2001:db8::2]:5060", false),
        ] {
            let value = format!("SIP/2.0/UDP {seen};branch=z9hG4bK1");
            let via = Via::parse(value.as_bytes()).unwrap();
            let listener = ListenerVia { transport: Transport::Udp, sent_by: own.to_owned() };
            assert_eq!(SentBy::new(&listener).is_in(&via), same, "{own} and {seen}");
        }
    }
}
