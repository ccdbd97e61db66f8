//! What a proxy is told before it starts, with its defaults and their reasons, and why a start can fail.
//!
//! In: nothing. Out: plain values, checked by [`ProxyConfig::check`]. Elsewhere: reading them from a file (crate `carillon`).

use crate::net::tls::{TlsConfig, Unusable};
use cluster::ids::{LegId, NodeId};
use model::Id;
use model::entities::ProxyTrunk;
use sip::digest::Algorithm;
use sip::flow::Transport;
use sip::session::{Rel100, TimerPolicy};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Settings of one proxy.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// The node whose proxy this is; part of every leg's name.
    pub node: NodeId,
    /// The key that all proxies of a cluster share: their tags are sealed with it, so that each knows the legs of all, and nobody
    /// names a leg that is not his. `None`: this proxy has no others beside it.
    pub seal: Option<SealKey>,
    /// Where to listen, for users first, then for trunks; the position is [`sip::flow::Flow::listener`].
    pub listeners: Vec<Listener>,
    /// SIP workers; 0 takes half the cores, at least one. At most [`WORKERS_MAX`].
    pub workers: usize,
    /// Bounds.
    pub limits: Limits,
    /// Expiry rules of registrations.
    pub registrar: RegistrarConfig,
    /// Pause between OPTIONS pings to a UDP binding behind NAT; zero sends none. Home routers forget a UDP mapping after
    /// 30 seconds at the earliest (RFC 4787 section 4.3 asks for two minutes, many do not).
    pub nat_ping: Duration,
    /// A called device that has sent nothing at all for this long, not even 100, is given up as unreachable (408); half of
    /// it for one that has left its last pings unanswered. Zero waits for timer B of its transaction, 32 s (RFC 3261
    /// section 17.1.1.2). Every telephone answers within milliseconds; over UDP five copies of the INVITE fit into 8 s.
    pub first_response: Duration,
    /// Who must say who they are, and how.
    pub auth: AuthConfig,
    /// When new calls are refused so that the running ones stay well.
    pub overload: Overload,
    /// User-Agent of requests and Server of responses; empty writes neither.
    pub user_agent: String,
    /// Session timers of calls (RFC 4028).
    pub session_timer: TimerPolicy,
    /// Reliable provisional responses of calls (RFC 3262).
    pub rel100: Rel100,
    /// How carriers and DDI providers are watched and found.
    pub trunks: TrunksConfig,
    /// Certificates for SIP over TLS.
    pub tls: TlsConfig,
}

/// How carriers and DDI providers are watched and found (manual, chapter 9.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunksConfig {
    /// Pause between two OPTIONS to a server of a carrier; zero sends none, and then all count as up.
    pub ping: Duration,
    /// Requests in a row that a server may leave unanswered, or answer by 408 or 503, before it is down; at least 1.
    pub misses: u32,
    /// Who is asked for the addresses of names; none: whom the system asks.
    pub nameservers: Vec<SocketAddr>,
}

impl Default for TrunksConfig {
    fn default() -> Self {
        Self { ping: Duration::from_secs(30), misses: 3, nameservers: Vec::new() }
    }
}

/// A key for tags, never shown.
#[derive(Clone)]
pub struct SealKey(pub [u8; 32]);

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(…)")
    }
}

impl SealKey {
    /// The secret in the tag of a leg: made once, and looked at in every request inside its dialog.
    pub fn secret_of(&self, leg: LegId) -> u64 {
        crate::legs::seal(self, leg)
    }
}

/// A worker's number fits one byte of a leg's name.
pub const WORKERS_MAX: usize = 64;

/// Open files that are kept for the store, the log and what a runtime needs.
const FILES_RESERVED: u64 = 64;

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            node: NodeId(1),
            seal: None,
            listeners: Vec::new(),
            workers: 0,
            limits: Limits::default(),
            registrar: RegistrarConfig::default(),
            nat_ping: Duration::from_secs(30),
            first_response: Duration::from_secs(8),
            auth: AuthConfig::default(),
            overload: Overload::default(),
            user_agent: format!("Carillon/{}", env!("CARGO_PKG_VERSION")),
            session_timer: TimerPolicy::default(),
            rel100: Rel100::Supported,
            trunks: TrunksConfig::default(),
            tls: TlsConfig::default(),
        }
    }
}

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// UDP, TCP or TLS.
    pub transport: Transport,
    /// The local address; port 0 takes a free one.
    pub bind: SocketAddr,
    /// `host` or `host:port` as peers reach it, for Via and Contact; `None` is the local address itself.
    pub advertised: Option<String>,
    /// The trunk address (manual, chapter 8.14.2) whose socket it is: carriers and DDI providers are spoken to from it, users
    /// are not. `None`: the users'.
    pub trunk: Option<Id<ProxyTrunk>>,
}

impl Listener {
    /// A listener that advertises its own address.
    pub fn new(transport: Transport, bind: SocketAddr) -> Self {
        Self { transport, bind, advertised: None, trunk: None }
    }
}

/// Bounds of what others can make a proxy hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Legs at the same time; the next INVITE gets 503.
    pub legs: usize,
    /// Requests inside one dialog per second; more get 503.
    pub leg_requests_per_second: u32,
    /// Transactions of one worker; a call leaves four that last 32 seconds. The last sixteenth is kept for dialogs.
    pub transactions: usize,
    /// Stream connections; fewer where the process may not open as many files, see [`Limits::files_elsewhere`].
    pub tcp_connections: usize,
    /// Open files that the rest of the process may need, above all the relay's ports. Of the files that the process may
    /// have they get up to three quarters before connections get any, so that idle connections cannot keep calls from
    /// having media.
    pub files_elsewhere: u64,
    /// Stream connections from one address (of IPv6: one /64).
    pub tcp_per_source: usize,
    /// A connection that brings no whole message and no keep-alive for this long is closed. Somewhat longer than the
    /// longest registration, so that a telephone that sends nothing but its refreshes stays reachable:
    /// [`RegistrarConfig::patience`].
    pub tcp_idle: Duration,
    /// A new connection has this long for its first whole message; a keep-alive is none.
    pub tcp_first_message: Duration,
    /// How long opening a connection may take.
    pub tcp_connect: Duration,
    /// How long a peer may take to read what is written to it.
    pub tcp_write: Duration,
    /// Messages waiting for one connection; one more closes it.
    pub tcp_write_queue: usize,
    /// Contacts of one address-of-record; one more takes the place of the one that was refreshed longest ago.
    pub bindings_per_aor: usize,
    /// Contacts of all.
    pub bindings: usize,
    /// Octets per second that answers by UDP to one address (of IPv6: one /64) that did not prove itself may exceed its
    /// requests by, not counting an eighth of each request; beyond, there is silence. What forged requests bring upon
    /// their victim: a quarter of a megabit.
    pub udp_surplus_per_second: u32,
    /// Such octets at once: for some thousand telephones that come back behind one address.
    pub udp_surplus_burst: u32,
    /// Such addresses, and flows that proved themselves, that each worker remembers.
    pub udp_sources: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            legs: 50_000,
            leg_requests_per_second: 100,
            transactions: 1 << 19,
            tcp_connections: 10_000,
            files_elsewhere: u64::MAX,
            tcp_per_source: 200,
            tcp_idle: RegistrarConfig::default().patience(),
            tcp_first_message: Duration::from_secs(20),
            tcp_connect: Duration::from_secs(4),
            tcp_write: Duration::from_secs(10),
            tcp_write_queue: 512, // twice what one turn of a worker may answer to a peer that sends many at once
            bindings_per_aor: 10,
            bindings: 1_000_000,
            udp_surplus_per_second: 32 * 1024,
            udp_surplus_burst: 256 * 1024,
            udp_sources: 16_384,
        }
    }
}

impl Limits {
    /// Makes connections fit into the `files` that the process may have open. `sockets` are the proxy's own for datagrams.
    /// `false`: they do not, there will be fewer.
    pub(crate) fn fit_files(&mut self, files: u64, sockets: usize) -> bool {
        let left = files - self.files_elsewhere.min(files / 4 * 3);
        let reserve = FILES_RESERVED.saturating_add(sockets as u64).min(left / 2);
        let room = usize::try_from(left - reserve).unwrap_or(usize::MAX);
        let fits = self.tcp_connections <= room;
        self.tcp_connections = self.tcp_connections.min(room);
        fits
    }
}

/// Expiry of registrations in seconds (RFC 3261 section 10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistrarConfig {
    /// Shorter wishes get 423.
    pub min_expires: u32,
    /// Longer wishes are cut to this.
    pub max_expires: u32,
    /// For requests that name no expiry.
    pub default_expires: u32,
}

impl Default for RegistrarConfig {
    fn default() -> Self {
        Self { min_expires: 60, max_expires: 3600, default_expires: 3600 }
    }
}

impl RegistrarConfig {
    /// How long a telephone on a stream that sends nothing but its refreshes may be silent, and some minutes more. Not less
    /// than an hour, for there are calls without a registration.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(u64::from(self.max_expires.max(3600)) + 300)
    }
}

/// Authentication of endpoints.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Challenge INVITE and other requests outside of dialogs. `false` believes their From; it is refused unless every
    /// listener is on loopback.
    pub invite: bool,
    /// Digest algorithms in order of preference (RFC 8760 section 2.4): a challenge of each goes into the answer.
    pub algorithms: Vec<Algorithm>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        // Telephones that know nothing else, and fail at whatever stands beside it, are everywhere.
        Self { invite: true, algorithms: vec![Algorithm::MD5] }
    }
}

/// When a worker counts as overloaded: new INVITEs then get 503 without further ado, all else goes on.
#[derive(Clone, Copy, Debug)]
pub struct Overload {
    /// A datagram waited this long in the kernel's queue. Well below T1 (500 ms), so that what is admitted is answered
    /// before its sender repeats it.
    pub lag: Duration,
    /// Commands and messages waiting for the worker.
    pub queue: usize,
    /// The Retry-After that the refused are told, in seconds.
    pub retry_after_secs: u32,
}

impl Default for Overload {
    fn default() -> Self {
        Self { lag: Duration::from_millis(150), queue: 20_000, retry_after_secs: 5 }
    }
}

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// There is nothing to listen on.
    #[error("no SIP listener is configured; add one, for instance udp on 127.0.0.1:5060")]
    NoListener,
    /// Another program has the port.
    #[error(
        "SIP listener {transport} {bind}: the port is in use; stop the program that has it or give this listener another port"
    )]
    PortInUse {
        /// Transport of the listener.
        transport: &'static str,
        /// Its address.
        bind: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error(
        "SIP listener {transport} {bind}: cannot listen there; check that this host has the address and may use the port"
    )]
    Bind {
        /// Transport of the listener.
        transport: &'static str,
        /// Its address.
        bind: SocketAddr,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// Peers could not be told where we are.
    #[error(
        "SIP listener {transport} {bind}: listens on every address, so `advertised` must say which one peers shall use"
    )]
    NotAdvertised {
        /// Transport of the listener.
        transport: &'static str,
        /// Its address.
        bind: SocketAddr,
    },
    /// An advertised address makes no sense.
    #[error("SIP listener {transport} {bind}: advertised address {advertised:?} is not HOST or HOST:PORT")]
    BadAdvertised {
        /// Transport of the listener.
        transport: &'static str,
        /// Its address.
        bind: SocketAddr,
        /// What was written.
        advertised: String,
    },
    /// A transport that is not built in.
    #[error("SIP listener {transport} {bind}: this transport cannot be listened on; use udp, tcp or tls")]
    Transport {
        /// Transport of the listener.
        transport: &'static str,
        /// Its address.
        bind: SocketAddr,
    },
    /// Bindings know listeners by their numbers, which must not depend on trunks.
    #[error(
        "SIP listener {transport} {bind}: it is for users and stands behind those of trunks; name it before them"
    )]
    Order {
        /// Transport of the listener.
        transport: &'static str,
        /// Its address.
        bind: SocketAddr,
    },
    /// A listener for TLS has nothing to show.
    #[error(
        "SIP listener TLS {bind}: there is no certificate; name one in sip.tls_cert_file and its key in sip.tls_key_file"
    )]
    NoCertificate {
        /// The listener's address.
        bind: SocketAddr,
    },
    /// A certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] Unusable),
    /// Anyone could call at the provider's cost.
    #[error(
        "calls without authentication are allowed on loopback only, and {bind} is not; set `auth.invite` to true"
    )]
    OpenRelay {
        /// The listener that faces a network.
        bind: SocketAddr,
    },
}

impl ProxyConfig {
    /// Looks for mistakes that need no socket to be seen.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(&self) -> Result<(), ProxyError> {
        if self.listeners.is_empty() {
            return Err(ProxyError::NoListener);
        }
        let mut has_trunks = false;
        for listener in &self.listeners {
            let transport = listener.transport.via_token();
            let bind = listener.bind;
            has_trunks |= listener.trunk.is_some();
            if has_trunks && listener.trunk.is_none() {
                return Err(ProxyError::Order { transport, bind });
            }
            match listener.transport {
                Transport::Udp | Transport::Tcp => {}
                Transport::Tls => {
                    let is_trunk = listener.trunk.is_some() && self.tls.trunks.is_some();
                    if !is_trunk && self.tls.own.is_none() {
                        return Err(ProxyError::NoCertificate { bind });
                    }
                }
                Transport::Ws | Transport::Wss => return Err(ProxyError::Transport { transport, bind }),
            }
            if bind.ip().is_unspecified() && listener.advertised.is_none() {
                return Err(ProxyError::NotAdvertised { transport, bind });
            }
            if let Some(advertised) = &listener.advertised
                && !is_advertisable(advertised)
            {
                return Err(ProxyError::BadAdvertised { transport, bind, advertised: advertised.clone() });
            }
            if !self.auth.invite && !bind.ip().is_loopback() {
                return Err(ProxyError::OpenRelay { bind });
            }
        }
        Ok(())
    }

    /// The number of workers to start.
    pub fn worker_count(&self) -> usize {
        let wanted = match self.workers {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2),
            count => count,
        };
        wanted.clamp(1, WORKERS_MAX)
    }
}

/// A listener that is open: what goes into Via and Contact.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) transport: Transport,
    /// The trunk address whose socket it is; `None`: the users'.
    pub(crate) trunk: Option<Id<ProxyTrunk>>,
    /// The local address with its real port.
    pub(crate) local: SocketAddr,
    /// Host as advertised; an IPv6 address in brackets.
    pub(crate) host: String,
    /// The same, where it is an address.
    ip: Option<IpAddr>,
    pub(crate) port: u16,
    /// `host:port`.
    pub(crate) sent_by: String,
}

impl Place {
    /// The open form of a checked listener.
    pub(crate) fn new(listener: &Listener, local: SocketAddr) -> Self {
        let advertised = listener.advertised.as_deref().and_then(split_advertised);
        let (host, port) = advertised.unwrap_or_else(|| (bracketed(local.ip()), None));
        let port = port.unwrap_or_else(|| local.port());
        let sent_by = format!("{host}:{port}");
        let ip = host.trim_matches(['[', ']']).parse().ok();
        Self { transport: listener.transport, trunk: listener.trunk, local, host, ip, port, sent_by }
    }

    /// The Contact value of a leg on this listener.
    pub(crate) fn contact(&self, user: impl std::fmt::Display) -> String {
        match self.transport {
            Transport::Udp => format!("<sip:{user}@{}>", self.sent_by),
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                format!("<sip:{user}@{};transport={}>", self.sent_by, self.transport.param_token())
            }
        }
    }

    /// Whether this host is how we call ourselves.
    pub(crate) fn is_host(&self, host: &sip::uri::Host<'_>) -> bool {
        match host {
            sip::uri::Host::Name(name) => name.eq_ignore_ascii_case(&self.host),
            sip::uri::Host::V4(_) | sip::uri::Host::V6(_) => self.ip.is_some() && host.ip() == self.ip,
        }
    }

    /// Whether this host may be where we listen: as advertised or not, and any address for who listens on all.
    pub(crate) fn may_be(&self, host: &sip::uri::Host<'_>) -> bool {
        let local = self.local.ip();
        let is_here = |ip: IpAddr| ip == local || local.is_unspecified() && ip.is_ipv4() == local.is_ipv4();
        self.is_host(host) || host.ip().is_some_and(is_here)
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Whether peers can be told this `host` or `host:port`.
pub fn is_advertisable(text: &str) -> bool {
    split_advertised(text).is_some_and(|(host, _)| {
        !host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    })
}

/// `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.
fn split_advertised(text: &str) -> Option<(String, Option<u16>)> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some((bracketed(ip), None));
    }
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return (addr.port() != 0).then(|| (bracketed(addr.ip()), Some(addr.port())));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse::<u16>().ok().filter(|port| *port != 0)?)),
        None => (text, None),
    };
    let host = host.to_ascii_lowercase();
    match sip::uri::Host::parse(host.as_bytes()) {
        Ok(parsed) if !parsed.is_empty() => Some((host, port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(transport: Transport, bind: &str, advertised: Option<&str>) -> ProxyConfig {
        let advertised = advertised.map(str::to_owned);
        ProxyConfig {
            listeners: vec![Listener { advertised, ..Listener::new(transport, bind.parse().unwrap()) }],
            ..ProxyConfig::default()
        }
    }

    #[test]
    fn mistakes_are_found_before_a_socket_is_opened() {
        let none = ProxyConfig::default();
        assert!(matches!(none.check(), Err(ProxyError::NoListener)));
        let everywhere = with(Transport::Udp, "0.0.0.0:5060", None);
        assert!(matches!(everywhere.check(), Err(ProxyError::NotAdvertised { .. })));
        assert!(with(Transport::Udp, "0.0.0.0:5060", Some("sip.example.com")).check().is_ok());
        let bad = with(Transport::Udp, "0.0.0.0:5060", Some("a b"));
        assert!(matches!(bad.check(), Err(ProxyError::BadAdvertised { .. })));
        let tls = with(Transport::Tls, "127.0.0.1:5061", None);
        assert!(matches!(tls.check(), Err(ProxyError::NoCertificate { .. })));
        let users = Listener::new(Transport::Udp, "127.0.0.1:5060".parse().unwrap());
        let trunk = Listener { trunk: Some(Id::new(1)), ..users.clone() };
        let both = |listeners| ProxyConfig { listeners, ..ProxyConfig::default() };
        assert!(both(vec![users.clone(), trunk.clone()]).check().is_ok());
        assert!(matches!(both(vec![trunk, users]).check(), Err(ProxyError::Order { .. })));
        let socket = with(Transport::Wss, "127.0.0.1:5061", None);
        assert!(matches!(socket.check(), Err(ProxyError::Transport { .. })));
    }

    #[test]
    fn connections_leave_open_files_to_the_rest_of_the_process() {
        // Files, what the others may need, connections configured: connections that there may be.
        for (files, elsewhere, wanted, expected) in [
            (1_048_576, 12_000, 20_000, 20_000),
            (65_536, 6_000, 20_000, 20_000),
            (1024, 6_000, 20_000, 1024 - 768 - 66),
            (1024, u64::MAX, 20_000, 1024 - 768 - 66),
            (1024, 100, 20_000, 1024 - 100 - 66),
            (1024, 100, 500, 500),
            (64, 6_000, 20_000, 8),
            (u64::MAX, u64::MAX, 20_000, 20_000), // no limit
        ] {
            let mut limits =
                Limits { tcp_connections: wanted, files_elsewhere: elsewhere, ..Limits::default() };
            let fits = limits.fit_files(files, 2);
            assert_eq!((limits.tcp_connections, fits), (expected, expected == wanted), "{files} {elsewhere}");
        }
    }

    #[test]
    fn a_silent_telephone_keeps_its_connection_between_two_refreshes() {
        assert_eq!(Limits::default().tcp_idle, RegistrarConfig::default().patience());
        for max_expires in [60, 3600, 7200, 86_400 * 365] {
            let config = RegistrarConfig { max_expires, ..RegistrarConfig::default() };
            assert!(config.patience() > Duration::from_secs(u64::from(max_expires)));
            assert!(config.patience() > Duration::from_secs(3600));
        }
    }

    #[test]
    fn calls_without_authentication_stay_on_loopback() {
        let mut open = with(Transport::Udp, "192.0.2.1:5060", None);
        open.auth.invite = false;
        assert!(matches!(open.check(), Err(ProxyError::OpenRelay { .. })));
        open.listeners[0].bind = "127.0.0.1:5060".parse().unwrap();
        assert!(open.check().is_ok());
    }

    #[test]
    fn an_advertised_address_may_leave_the_port_to_the_listener() {
        let place = |bind: &str, advertised| {
            let config = with(Transport::Tcp, bind, advertised);
            Place::new(&config.listeners[0], config.listeners[0].bind)
        };
        assert_eq!(place("10.0.0.1:5060", Some("SIP.example.com")).sent_by, "sip.example.com:5060");
        assert_eq!(place("10.0.0.1:5060", Some("192.0.2.9:5080")).sent_by, "192.0.2.9:5080");
        assert_eq!(place("[::1]:5060", None).sent_by, "[::1]:5060");
        assert_eq!(place("[::1]:5060", Some("2001:db8::7")).sent_by, "[2001:db8::7]:5060");
        assert_eq!(place("10.0.0.1:5060", None).contact("l7"), "<sip:l7@10.0.0.1:5060;transport=tcp>");
    }
}
