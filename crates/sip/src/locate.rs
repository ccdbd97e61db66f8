//! Where a SIP server is (RFC 3263 section 4): which questions to ask of the DNS, and what their answers come to.
//!
//! In: scheme, host, port and transport as written, what is known from the DNS, random numbers. Out: questions that are open
//! ([`locate`]), and the targets in the order in which to try them ([`Located::ordered`], RFC 2782). Elsewhere: asking and
//! remembering (crate `proxy`, `trunks::dns`), what becomes of a target that fails (`trunks::health`).

use crate::flow::Transport;
use crate::uri::Host;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Services that are looked at of one answer (NAPTR, SRV); the rest is dropped.
pub const SERVICES_MAX: usize = 32;
/// Addresses of one host that are looked at.
pub const ADDRESSES_MAX: usize = 16;
/// How long it holds that a numeric host is where it is: there is nothing to ask again.
pub const FOR_EVER: Duration = Duration::from_secs(86_400 * 365);

/// What is looked for, as a URI or an operator has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// A `sips` URI: TLS and nothing else (RFC 3261 section 26.2.2).
    pub is_secure: bool,
    /// A host name, or an address as text; of IPv6 with or without brackets.
    pub host: String,
    /// The port, where one is written.
    pub port: Option<u16>,
    /// The transport, where one is written; it is kept.
    pub transport: Option<Transport>,
}

/// What we can use: a transport by an IP version that there is no socket for is not asked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Able {
    /// Transports, the preferred one first.
    pub transports: Vec<Transport>,
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// A question for the DNS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// The name, in lower case, without the last dot.
    pub name: String,
    /// What is asked of it.
    pub kind: Kind,
}

/// Kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Which transports, in which order (RFC 3403).
    Naptr,
    /// Hosts and ports of a service (RFC 2782).
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

/// What the DNS says to a question; no records: there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The records, in any order.
    pub records: Vec<Record>,
    /// How long it holds: the smallest of its records, or how long there will be none (RFC 2308).
    pub ttl: Duration,
}

/// A record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// NAPTR.
    Naptr {
        /// Lower ones are the only ones.
        order: u16,
        /// Lower ones go first.
        preference: u16,
        /// `s` for a replacement that is asked after by SRV.
        flags: String,
        /// `SIP+D2U`, `SIP+D2T`, `SIPS+D2T`.
        services: String,
        /// The name to ask after.
        replacement: String,
    },
    /// SRV.
    Srv {
        /// Lower ones go first.
        priority: u16,
        /// Its share among those of the same priority.
        weight: u16,
        /// The port there.
        port: u16,
        /// The host; empty: the service is decidedly not there.
        target: String,
    },
    /// A or AAAA.
    Address(IpAddr),
}

/// A place to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// How.
    pub transport: Transport,
    /// Where to.
    pub remote: SocketAddr,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    hosts: Vec<Place>,
    /// How long it holds: the smallest time of all answers that it is made of.
    pub ttl: Duration,
    /// The questions whose answers it is made of.
    pub questions: Vec<Question>,
}

/// One host of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// Of its service, then SRV's priority.
    rank: (usize, u16),
    weight: u16,
    spots: Vec<Spot>,
}

impl Located {
    /// All targets, the first to be tried first: by NAPTR, priority, weight (RFC 2782, drawn by `below`, which returns a number
    /// under the one that it is given), then in the order of the host's addresses. Each occurs once.
    pub fn ordered(&self, mut below: impl FnMut(u32) -> u32) -> Vec<Spot> {
        let mut spots: Vec<Spot> = Vec::new();
        let mut rest: Vec<&Place> = self.hosts.iter().collect();
        // Weight zero first, so that it has a small chance at all.
        rest.sort_by_key(|place| (place.rank, place.weight > 0));
        while let Some(rank) = rest.first().map(|place| place.rank) {
            let alike = rest.iter().take_while(|place| place.rank == rank);
            let sum: u32 = alike.clone().map(|place| u32::from(place.weight)).sum();
            let drawn = below(sum + 1);
            let mut running = 0;
            let chosen = alike.take_while(|place| {
                running += u32::from(place.weight);
                running < drawn
            });
            let at = chosen.count();
            for spot in &rest.remove(at).spots {
                if !spots.contains(spot) {
                    spots.push(*spot);
                }
            }
        }
        spots
    }

    /// All targets, each once, in the order of their names: to be watched.
    pub fn spots(&self) -> Vec<Spot> {
        let mut spots: Vec<Spot> = self.hosts.iter().flat_map(|place| place.spots.iter().copied()).collect();
        spots.sort_unstable();
        spots.dedup();
        spots
    }
}

/// What must be asked before it is known where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The questions whose answers are not known.
    pub questions: Vec<Question>,
    /// Those that led there.
    pub answered: Vec<Question>,
}

/// Where the server is by what is known, or what is to be asked first; whoever asks calls this again with the answers. It takes
/// three rounds at most.
///
/// # Errors
/// What is not known.
pub fn locate(wanted: &Wanted, able: &Able, known: &BTreeMap<Question, Answer>) -> Result<Located, Open> {
    let mut seen = Seen { known, open: Vec::new(), asked: Vec::new(), ttl: FOR_EVER };
    let hosts = seen.services(wanted, able);
    if !seen.open.is_empty() {
        return Err(Open { questions: seen.open, answered: seen.asked });
    }
    Ok(Located { hosts, ttl: seen.ttl, questions: seen.asked })
}

struct Seen<'a> {
    known: &'a BTreeMap<Question, Answer>,
    open: Vec<Question>,
    asked: Vec<Question>,
    ttl: Duration,
}

impl<'a> Seen<'a> {
    /// The answer, or the question is noted as open.
    fn ask(&mut self, name: &str, kind: Kind) -> Option<&'a [Record]> {
        let question = Question { name: name.trim_end_matches('.').to_ascii_lowercase(), kind };
        match self.known.get(&question) {
            Some(answer) => {
                self.ttl = self.ttl.min(answer.ttl);
                if !self.asked.contains(&question) {
                    self.asked.push(question);
                }
                Some(&answer.records)
            }
            None if self.open.contains(&question) => None,
            None => {
                self.open.push(question);
                None
            }
        }
    }

    fn services(&mut self, wanted: &Wanted, able: &Able) -> Vec<Place> {
        let numeric = numeric(&wanted.host);
        // RFC 3263 section 4.1: a port or an address leaves nothing to choose.
        let by_default = if wanted.is_secure { Transport::Tls } else { Transport::Udp };
        let fixed = match wanted.transport {
            Some(Transport::Tcp | Transport::Udp) if wanted.is_secure => Some(Transport::Tls),
            Some(transport) => Some(transport),
            None if numeric.is_some() || wanted.port.is_some() => Some(by_default),
            None => None,
        };
        if let Some(transport) = fixed {
            return self.by_transport(wanted, able, transport, numeric);
        }
        let Some(pointers) = self.pointers(wanted, able) else { return Vec::new() };
        if !pointers.is_empty() {
            let pointed = pointers.into_iter().enumerate();
            return pointed
                .flat_map(|(rank, (transport, name))| {
                    self.service(&name, transport, rank, able).unwrap_or_default()
                })
                .collect();
        }
        // No NAPTR: every transport is asked after, and the first that there is will be used.
        let usable = able.transports.iter().copied().filter(|transport| {
            srv_name(*transport, "").is_some() && (!wanted.is_secure || *transport == Transport::Tls)
        });
        let found: Vec<_> = usable
            .filter_map(|transport| {
                let name = srv_name(transport, &wanted.host)?;
                self.service(&name, transport, 0, able)
            })
            .collect();
        if !self.open.is_empty() {
            return Vec::new();
        }
        let none_at_all = found.is_empty();
        match found.into_iter().find(|places| !places.is_empty()) {
            Some(places) => places,
            // What SRV says is not there is not looked for elsewhere.
            None if !none_at_all => Vec::new(),
            None => self.by_address(&wanted.host, by_default, default_port(by_default), able),
        }
    }

    /// The transport is settled.
    fn by_transport(
        &mut self,
        wanted: &Wanted,
        able: &Able,
        transport: Transport,
        numeric: Option<IpAddr>,
    ) -> Vec<Place> {
        if !able.transports.contains(&transport) {
            return Vec::new();
        }
        let port = wanted.port.unwrap_or_else(|| default_port(transport));
        if let Some(ip) = numeric {
            return of_addresses((0, 0), 0, transport, port, able, [ip]).into_iter().collect();
        }
        if wanted.port.is_none()
            && let Some(name) = srv_name(transport, &wanted.host)
        {
            match self.service(&name, transport, 0, able) {
                Some(places) => return places,
                None if !self.open.is_empty() => return Vec::new(),
                None => {}
            }
        }
        self.by_address(&wanted.host, transport, port, able)
    }

    /// The transports that the domain names, with the names that SRV is asked for, the preferred one first. `None`: not known.
    fn pointers(&mut self, wanted: &Wanted, able: &Able) -> Option<Vec<(Transport, String)>> {
        let records = self.ask(&wanted.host, Kind::Naptr)?;
        let mut found: Vec<_> = records
            .iter()
            .take(SERVICES_MAX)
            .filter_map(|record| match record {
                Record::Naptr { order, preference, flags, services, replacement } => {
                    let transport = service_transport(services)?;
                    let is_usable = flags.eq_ignore_ascii_case("s")
                        && able.transports.contains(&transport)
                        && (!wanted.is_secure || transport == Transport::Tls);
                    is_usable.then_some((*order, *preference, transport, replacement))
                }
                Record::Srv { .. } | Record::Address(_) => None,
            })
            .collect();
        found.sort_by_key(|(order, preference, ..)| (*order, *preference));
        // RFC 3403 section 4.1: once an order has something to offer, higher ones are not looked at.
        let first = found.first().map(|(order, ..)| *order);
        let of_first = found.into_iter().filter(|(order, ..)| Some(*order) == first);
        Some(of_first.map(|(_, _, transport, name)| (transport, name.clone())).collect())
    }

    /// The hosts of a service. `None`: there is no SRV record, or it is not known (then a question is open).
    fn service(&mut self, name: &str, transport: Transport, rank: usize, able: &Able) -> Option<Vec<Place>> {
        let records = self.ask(name, Kind::Srv)?;
        let hosts: Vec<_> = records
            .iter()
            .take(SERVICES_MAX)
            .filter_map(|record| match record {
                Record::Srv { priority, weight, port, target } => Some((*priority, *weight, *port, target)),
                Record::Naptr { .. } | Record::Address(_) => None,
            })
            .collect();
        if hosts.is_empty() {
            return None;
        }
        let mut places = Vec::new();
        for (priority, weight, port, target) in hosts {
            let target = target.trim_end_matches('.');
            if target.is_empty() || port == 0 {
                continue;
            }
            let addresses = self.addresses(target, able);
            places.extend(of_addresses((rank, priority), weight, transport, port, able, addresses));
        }
        Some(places)
    }

    fn by_address(&mut self, host: &str, transport: Transport, port: u16, able: &Able) -> Vec<Place> {
        if !able.transports.contains(&transport) {
            return Vec::new();
        }
        let addresses = self.addresses(host, able);
        of_addresses((0, 0), 0, transport, port, able, addresses).into_iter().collect()
    }

    fn addresses(&mut self, host: &str, able: &Able) -> Vec<IpAddr> {
        if let Some(ip) = numeric(host) {
            return vec![ip];
        }
        let mut addresses = Vec::new();
        for (kind, is_asked) in [(Kind::A, able.v4), (Kind::Aaaa, able.v6)] {
            let records = if is_asked { self.ask(host, kind) } else { None };
            addresses.extend(records.unwrap_or_default().iter().filter_map(|record| match record {
                Record::Address(ip) if ip.is_ipv4() == (kind == Kind::A) => Some(*ip),
                Record::Address(_) | Record::Naptr { .. } | Record::Srv { .. } => None,
            }));
        }
        addresses
    }
}

/// `None`: it has no address that we can reach.
fn of_addresses(
    rank: (usize, u16),
    weight: u16,
    transport: Transport,
    port: u16,
    able: &Able,
    addresses: impl IntoIterator<Item = IpAddr>,
) -> Option<Place> {
    let is_usable = |ip: &IpAddr| if ip.is_ipv4() { able.v4 } else { able.v6 };
    let usable = addresses.into_iter().filter(is_usable).take(ADDRESSES_MAX);
    let spots: Vec<Spot> = usable.map(|ip| Spot { transport, remote: SocketAddr::new(ip, port) }).collect();
    (!spots.is_empty()).then_some(Place { rank, weight, spots })
}

/// The address that a host is, if it is one.
fn numeric(host: &str) -> Option<IpAddr> {
    host.parse().ok().or_else(|| Host::parse(host.as_bytes()).ok()?.ip())
}

/// RFC 3261 section 19.1.2.
pub fn default_port(transport: Transport) -> u16 {
    match transport {
        Transport::Udp | Transport::Tcp => 5060,
        Transport::Tls => 5061,
        Transport::Ws => 80,
        Transport::Wss => 443,
    }
}

/// RFC 3263 section 4.2; WebSockets are not found that way.
fn srv_name(transport: Transport, host: &str) -> Option<String> {
    let host = host.trim_end_matches('.');
    match transport {
        Transport::Udp => Some(format!("_sip._udp.{host}")),
        Transport::Tcp => Some(format!("_sip._tcp.{host}")),
        Transport::Tls => Some(format!("_sips._tcp.{host}")),
        Transport::Ws | Transport::Wss => None,
    }
}

/// RFC 3263 section 4.1.
fn service_transport(services: &str) -> Option<Transport> {
    [("SIP+D2U", Transport::Udp), ("SIP+D2T", Transport::Tcp), ("SIPS+D2T", Transport::Tls)]
        .into_iter()
        .find_map(|(name, transport)| name.eq_ignore_ascii_case(services).then_some(transport))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write as _;

    /// Zone lines: `NAME TTL naptr ORDER PREF FLAGS SERVICE REPLACEMENT`, `… srv PRIO WEIGHT PORT TARGET`, `… a ADDRESS`, `… none KIND`.
    fn zone(text: &str) -> BTreeMap<Question, Answer> {
        let mut answers: BTreeMap<Question, Answer> = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (name, ttl) = (words[0].to_owned(), Duration::from_secs(words[1].parse().unwrap()));
            let number = |at: usize| words[at].parse::<u16>().unwrap();
            let (kind, record) = match words[2] {
                "naptr" => {
                    let record = Record::Naptr {
                        order: number(3),
                        preference: number(4),
                        flags: words[5].to_owned(),
                        services: words[6].to_owned(),
                        replacement: words[7].to_owned(),
                    };
                    (Kind::Naptr, Some(record))
                }
                "srv" => {
                    let (priority, weight, port) = (number(3), number(4), number(5));
                    let target = words[6].to_owned();
                    (Kind::Srv, Some(Record::Srv { priority, weight, port, target }))
                }
                "a" => {
                    let ip: IpAddr = words[3].parse().unwrap();
                    let kind = if ip.is_ipv4() { Kind::A } else { Kind::Aaaa };
                    (kind, Some(Record::Address(ip)))
                }
                other => panic!("{other}"),
            };
            let answer = answers.entry(Question { name, kind }).or_insert(Answer { records: vec![], ttl });
            answer.ttl = answer.ttl.min(ttl);
            answer.records.extend(record);
        }
        answers
    }

    /// Asks until all is known; what the zone does not have is answered by "none, for 60 s". Out: what was asked in each round, and
    /// the targets.
    fn found(wanted: &Wanted, able: &Able, zone: &BTreeMap<Question, Answer>) -> (String, String) {
        let mut known = BTreeMap::new();
        let mut asked = String::new();
        for _ in 0..4 {
            match locate(wanted, able, &known) {
                Ok(located) => {
                    let spots = located.ordered(|_| 0);
                    let shown: Vec<_> =
                        spots.iter().map(|s| format!("{} {}", s.transport.param_token(), s.remote)).collect();
                    return (
                        asked.trim().to_owned(),
                        format!("{} for {}", shown.join(", "), located.ttl.as_secs()),
                    );
                }
                Err(open) => {
                    assert!(open.answered.iter().all(|question| known.contains_key(question)));
                    for question in open.questions {
                        write!(asked, "{:?} {} ", question.kind, question.name).unwrap();
                        let none = Answer { records: vec![], ttl: Duration::from_secs(60) };
                        let answer = zone.get(&question).cloned().unwrap_or(none);
                        assert!(known.insert(question, answer).is_none(), "asked twice");
                    }
                    asked.push_str("| ");
                }
            }
        }
        panic!("more than three rounds: {asked}");
    }

    fn able(transports: &[Transport]) -> Able {
        Able { transports: transports.to_vec(), v4: true, v6: false }
    }

    const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

    fn wanted(text: &str) -> Wanted {
        let (rest, transport) = match text.split_once(';') {
            Some((rest, token)) => (rest, Transport::from_token(token)),
            None => (text, None),
        };
        let (scheme, rest) = rest.split_once(' ').unwrap();
        let (host, port) =
            match rest.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']')) {
                Some((host, port)) => (host, port.parse().ok()),
                None => (rest, None),
            };
        Wanted { is_secure: scheme == "sips", host: host.to_owned(), port, transport }
    }

    #[test]
    fn each_form_of_a_server_asks_what_rfc_3263_says() {
        let zone = zone(
            "full.test 300 naptr 50 50 s SIPS+D2T _sips._tcp.full.test
             full.test 300 naptr 90 50 s SIP+D2T _sip._tcp.full.test
             full.test 300 naptr 90 40 s SIP+D2U _sip._udp.full.test
             full.test 300 naptr 90 30 s E2U+sip _odd.full.test
             _sips._tcp.full.test 200 srv 0 0 5061 a.full.test
             _sip._tcp.full.test 200 srv 0 0 5070 a.full.test
             _sip._udp.full.test 200 srv 1 0 5060 a.full.test
             _sip._udp.full.test 200 srv 0 0 5080 b.full.test.
             a.full.test 100 a 192.0.2.1
             b.full.test 90 a 192.0.2.2
             b.full.test 90 a 192.0.2.3
             full.test 90 a 192.0.2.9
             _sip._tcp.tcp.test 30 srv 0 0 5062 a.full.test
             plain.test 40 a 192.0.2.4
             _sip._udp.closed.test 40 srv 0 0 0 .
             closed.test 40 a 192.0.2.5
             _sip._udp.numbers.test 40 srv 0 0 5060 192.0.2.77",
        );
        for (text, transports, asked, targets) in [
            ("sip 192.0.2.8", &ALL[..], "", "udp 192.0.2.8:5060 for 31536000"),
            ("sips 192.0.2.8", &ALL, "", "tls 192.0.2.8:5061 for 31536000"),
            ("sip 192.0.2.8:5070;tcp", &ALL, "", "tcp 192.0.2.8:5070 for 31536000"),
            ("sip 192.0.2.8;tls", &ALL, "", "tls 192.0.2.8:5061 for 31536000"),
            ("sip 192.0.2.8;tls", &ALL[..2], "", " for 31536000"),
            ("sip [2001:db8::1]:5070", &ALL, "", " for 31536000"),
            // A port means no SRV.
            ("sip full.test:5070", &ALL, "A full.test |", "udp 192.0.2.9:5070 for 90"),
            ("sips full.test:5071", &ALL, "A full.test |", "tls 192.0.2.9:5071 for 90"),
            // A transport means no NAPTR; "sips" makes TLS of TCP.
            (
                "sip full.test;udp",
                &ALL,
                "Srv _sip._udp.full.test | A a.full.test A b.full.test |",
                "udp 192.0.2.2:5080, udp 192.0.2.3:5080, udp 192.0.2.1:5060 for 90",
            ),
            (
                "sips full.test;tcp",
                &ALL,
                "Srv _sips._tcp.full.test | A a.full.test |",
                "tls 192.0.2.1:5061 for 100",
            ),
            (
                "sip plain.test;tcp",
                &ALL,
                "Srv _sip._tcp.plain.test | A plain.test |",
                "tcp 192.0.2.4:5060 for 40",
            ),
            // The lowest order that has something for us, by preference.
            (
                "sip full.test",
                &ALL,
                "Naptr full.test | Srv _sips._tcp.full.test | A a.full.test |",
                "tls 192.0.2.1:5061 for 100",
            ),
            (
                "sip full.test",
                &ALL[..2],
                "Naptr full.test | Srv _sip._udp.full.test Srv _sip._tcp.full.test | A a.full.test A b.full.test |",
                "udp 192.0.2.2:5080, udp 192.0.2.3:5080, udp 192.0.2.1:5060, tcp 192.0.2.1:5070 for 90",
            ),
            // No NAPTR: SRV of all, the first that there is.
            (
                "sip tcp.test",
                &ALL[..2],
                "Naptr tcp.test | Srv _sip._udp.tcp.test Srv _sip._tcp.tcp.test | A a.full.test |",
                "tcp 192.0.2.1:5062 for 30",
            ),
            (
                "sip plain.test",
                &ALL[..2],
                "Naptr plain.test | Srv _sip._udp.plain.test Srv _sip._tcp.plain.test | A plain.test |",
                "udp 192.0.2.4:5060 for 40",
            ),
            (
                "sips plain.test",
                &ALL,
                "Naptr plain.test | Srv _sips._tcp.plain.test | A plain.test |",
                "tls 192.0.2.4:5061 for 40",
            ),
            // A dot: decidedly not there.
            ("sip closed.test;udp", &ALL, "Srv _sip._udp.closed.test |", " for 40"),
            ("sip numbers.test;udp", &ALL, "Srv _sip._udp.numbers.test |", "udp 192.0.2.77:5060 for 40"),
            ("sip nowhere.test:5060", &ALL, "A nowhere.test |", " for 60"),
        ] {
            let found = found(&wanted(text), &able(transports), &zone);
            assert_eq!(found, (asked.to_owned(), targets.to_owned()), "{text}");
        }
    }

    #[test]
    fn both_ip_versions_are_asked_for_where_there_are_sockets() {
        let zone = zone("both.test 50 a 192.0.2.1\nboth.test 40 a 2001:db8::1");
        let dual = Able { transports: ALL.to_vec(), v4: true, v6: true };
        let (asked, targets) = found(&wanted("sip both.test:5060"), &dual, &zone);
        assert_eq!(asked, "A both.test Aaaa both.test |");
        assert_eq!(targets, "udp 192.0.2.1:5060, udp [2001:db8::1]:5060 for 40");
        let only = Able { v4: false, ..dual };
        let (asked, targets) = found(&wanted("sip both.test:5060"), &only, &zone);
        assert_eq!((asked.as_str(), targets.as_str()), ("Aaaa both.test |", "udp [2001:db8::1]:5060 for 40"));
        assert_eq!(
            found(&wanted("sip [2001:db8::7]"), &only, &zone).1,
            "udp [2001:db8::7]:5060 for 31536000"
        );
    }

    fn weighted(hosts: &[(u16, u16)]) -> Located {
        let place = |(number, (priority, weight)): (u8, &(u16, u16))| Place {
            rank: (0, *priority),
            weight: *weight,
            spots: vec![Spot { transport: Transport::Udp, remote: ([192, 0, 2, number], 5060).into() }],
        };
        Located { hosts: (1u8..).zip(hosts).map(place).collect(), ttl: FOR_EVER, questions: Vec::new() }
    }

    fn last_octets(spots: &[Spot]) -> Vec<u8> {
        let octet = |spot: &Spot| match spot.remote.ip() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        };
        spots.iter().map(octet).collect()
    }

    /// RFC 2782: the first whose running sum is not smaller than the number drawn.
    #[test]
    fn weights_are_drawn_as_rfc_2782_draws_them() {
        let located = weighted(&[(0, 10), (0, 0), (0, 20), (1, 5)]);
        // In order: host 2 (weight 0), host 1 (10), host 3 (20); sums 0, 10, 30.
        for (draws, order) in [
            (vec![0, 0, 0, 0], [2, 1, 3, 4]),
            (vec![1, 0, 0, 0], [1, 2, 3, 4]),
            (vec![10, 20, 0, 0], [1, 3, 2, 4]),
            (vec![11, 10, 0, 0], [3, 1, 2, 4]),
            (vec![30, 0, 0, 0], [3, 2, 1, 4]),
        ] {
            let mut next = draws.clone().into_iter();
            let spots = located.ordered(|_| next.next().unwrap());
            assert_eq!(last_octets(&spots), order, "{draws:?}");
        }
    }

    proptest! {
        #[test]
        fn an_order_has_every_target_once_and_keeps_priorities(
            hosts in proptest::collection::vec((0u16..3, 0u16..100), 0..12),
            draws in proptest::collection::vec(any::<u32>(), 12),
        ) {
            let located = weighted(&hosts);
            let mut next = draws.into_iter();
            let spots = located.ordered(|bound| next.next().unwrap_or(0) % bound);
            let order = last_octets(&spots);
            let priorities: Vec<u16> = order.iter().map(|n| hosts[usize::from(*n) - 1].0).collect();
            prop_assert!(priorities.is_sorted());
            let mut sorted = order;
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (1u8..).take(hosts.len()).collect::<Vec<_>>());
        }
    }
}
