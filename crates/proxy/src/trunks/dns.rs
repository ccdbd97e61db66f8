//! The DNS as the trunks see it: answers are kept by their time, asked again before it ends, and used on while nobody answers.
//!
//! In: questions of `sip::locate`, time. Out: answers. Elsewhere: what they mean (`sip::locate`), whose names they are (`keeper`).

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use sip::locate::{Able, Answer, Kind, Located, Question, Record, Wanted, locate};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

/// Questions that are remembered. One more is not asked.
const QUESTIONS_MAX: usize = 8192;
/// Answers are believed no longer, and no shorter, than this.
const TTL_MAX: Duration = Duration::from_secs(86_400);
const TTL_MIN: Duration = Duration::from_secs(5);
/// Where a zone does not say how long there will be nothing (RFC 2308 section 5).
const NOTHING_FOR: Duration = Duration::from_secs(60);
/// What nobody answers is asked again so soon, then after twice as long, and so on.
const AGAIN_MIN: Duration = Duration::from_secs(2);
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// One nameserver's time.
const PATIENCE: Duration = Duration::from_secs(3);

/// Somebody who answers questions. `None`: silence, or an answer that says nothing about the name.
pub(crate) trait Names: Send + Sync + 'static {
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = Option<Answer>> + Send>>;
}

/// Nobody: the simulated network has addresses alone.
pub(crate) struct Nobody;

impl Names for Nobody {
    fn ask(&self, _: Question) -> Pin<Box<dyn Future<Output = Option<Answer>> + Send>> {
        Box::pin(std::future::ready(None))
    }
}

/// Nameservers on the network.
pub(crate) struct Nameservers(TokioResolver);

impl Nameservers {
    /// These, or those of the system. `None`: the system has none that can be used.
    pub(crate) fn new(servers: &[SocketAddr]) -> Option<Nameservers> {
        let builder = if servers.is_empty() {
            TokioResolver::builder_tokio()
                .inspect_err(|error| tracing::warn!(%error, "the system's nameservers cannot be read; name some in [dns] servers"))
                .ok()?
        } else {
            let server = |address: &SocketAddr| {
                let on_port = |mut way: ConnectionConfig| {
                    way.port = address.port();
                    way
                };
                let ways = vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())];
                NameServerConfig::new(address.ip(), true, ways)
            };
            let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
            Resolver::builder_with_config(config, Default::default())
        };
        let mut builder = builder;
        let options = builder.options_mut();
        options.cache_size = 0; // the cache here is the only one
        options.timeout = PATIENCE;
        options.use_hosts_file = ResolveHosts::Auto;
        options.case_randomization = false;
        builder
            .build()
            .inspect_err(|error| tracing::warn!(%error, "no nameserver can be asked"))
            .ok()
            .map(Nameservers)
    }
}

impl Names for Nameservers {
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = Option<Answer>> + Send>> {
        let resolver = self.0.clone();
        Box::pin(async move {
            let kind = match question.kind {
                Kind::Naptr => RecordType::NAPTR,
                Kind::Srv => RecordType::SRV,
                Kind::A => RecordType::A,
                Kind::Aaaa => RecordType::AAAA,
            };
            let Ok(mut name) = Name::from_ascii(&question.name) else { return Some(nothing(None)) };
            name.set_fqdn(true);
            match resolver.lookup(name, kind).await {
                Ok(found) => {
                    // With a CNAME before it, the shortest time of the chain counts.
                    let ttl = found.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
                    let records: Vec<Record> =
                        found.answers().iter().filter_map(|record| read(&record.data)).collect();
                    Some(Answer { records, ttl: Duration::from_secs(ttl.into()) })
                }
                Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                    Some(nothing(none.negative_ttl.map(|secs| Duration::from_secs(secs.into()))))
                }
                Err(error) => {
                    tracing::debug!(name = question.name, %error, "no answer from the DNS");
                    None
                }
            }
        })
    }
}

fn nothing(ttl: Option<Duration>) -> Answer {
    Answer { records: Vec::new(), ttl: ttl.unwrap_or(NOTHING_FOR) }
}

fn read(data: &RData) -> Option<Record> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let name = |name: &Name| name.to_ascii().trim_end_matches('.').to_owned();
    Some(match data {
        RData::A(ip) => Record::Address(ip.0.into()),
        RData::AAAA(ip) => Record::Address(ip.0.into()),
        RData::SRV(srv) => Record::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: name(&srv.target),
        },
        RData::NAPTR(naptr) => Record::Naptr {
            order: naptr.order,
            preference: naptr.preference,
            flags: text(&naptr.flags),
            services: text(&naptr.services),
            replacement: name(&naptr.replacement),
        },
        _ => return None,
    })
}

/// What is known, and what is being asked.
#[derive(Default)]
pub(crate) struct Cache {
    known: BTreeMap<Question, Answer>,
    entries: BTreeMap<Question, Entry>,
}

struct Entry {
    /// A question is on its way.
    is_asked: bool,
    /// Ask (again) from then on.
    due: Instant,
    /// Silences in a row.
    silences: u32,
}

impl Cache {
    /// Where the server is by what is known, however old; what should be asked goes to `ask`. `used`: the questions that somebody
    /// has a use for; all others can be [forgotten](Cache::keep).
    pub(crate) fn find(
        &mut self,
        wanted: &Wanted,
        able: &Able,
        now: Instant,
        used: &mut BTreeSet<Question>,
        ask: &mut Vec<Question>,
    ) -> Option<Located> {
        match locate(wanted, able, &self.known) {
            Ok(located) => {
                for question in &located.questions {
                    self.want(question, now, used, ask);
                }
                Some(located)
            }
            Err(open) => {
                for question in open.questions.iter().chain(&open.answered) {
                    self.want(question, now, used, ask);
                }
                None
            }
        }
    }

    fn want(
        &mut self,
        question: &Question,
        now: Instant,
        used: &mut BTreeSet<Question>,
        ask: &mut Vec<Question>,
    ) {
        used.insert(question.clone());
        let room = self.entries.len() < QUESTIONS_MAX;
        match self.entries.get_mut(question) {
            Some(entry) if !entry.is_asked && entry.due <= now => entry.is_asked = true,
            Some(_) => return,
            None if room => {
                self.entries.insert(question.clone(), Entry { is_asked: true, due: now, silences: 0 });
            }
            None => return,
        }
        ask.push(question.clone());
    }

    /// What became of a question. `true`: something may be elsewhere now.
    pub(crate) fn answered(&mut self, question: &Question, answer: Option<Answer>, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(question) else { return false };
        entry.is_asked = false;
        let Some(mut answer) = answer else {
            // An old answer is better than none.
            entry.silences = entry.silences.saturating_add(1);
            let pause = AGAIN_MIN.saturating_mul(1 << (entry.silences - 1).min(8)).min(AGAIN_MAX);
            entry.due = now + pause;
            // There are nameservers that never answer a question for NAPTR, which most domains do without.
            let gives_up = question.kind == Kind::Naptr && !self.known.contains_key(question);
            if gives_up {
                self.known.insert(question.clone(), Answer { records: Vec::new(), ttl: pause });
            }
            return gives_up;
        };
        entry.silences = 0;
        answer.ttl = answer.ttl.clamp(TTL_MIN, TTL_MAX);
        // Before its end, so that nobody waits for the next one.
        entry.due = now + answer.ttl * 9 / 10;
        let old = self.known.insert(question.clone(), answer);
        old.map(|old| old.records) != self.known.get(question).map(|new| new.records.clone())
    }

    /// Forgets what nobody uses any more.
    pub(crate) fn keep(&mut self, used: &BTreeSet<Question>) {
        self.entries.retain(|question, _| used.contains(question));
        self.known.retain(|question, _| used.contains(question));
    }

    /// When somebody should be asked again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.entries.values().filter(|entry| !entry.is_asked).map(|entry| entry.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(host: &str) -> Wanted {
        Wanted { is_secure: false, host: host.to_owned(), port: Some(5060), transport: None }
    }

    fn able() -> Able {
        Able { transports: vec![sip::flow::Transport::Udp], v4: true, v6: false }
    }

    fn address(last: u8, ttl: u64) -> Option<Answer> {
        let records = vec![Record::Address([192, 0, 2, last].into())];
        Some(Answer { records, ttl: Duration::from_secs(ttl) })
    }

    struct World {
        cache: Cache,
        now: Instant,
        used: BTreeSet<Question>,
    }

    impl World {
        fn new() -> World {
            World { cache: Cache::default(), now: Instant::now(), used: BTreeSet::new() }
        }

        /// What is known after so many seconds, and what is asked then.
        fn after(&mut self, seconds: u64, host: &str) -> (Option<String>, Vec<Question>) {
            self.now += Duration::from_secs(seconds);
            let mut ask = Vec::new();
            let located = self.cache.find(&wanted(host), &able(), self.now, &mut self.used, &mut ask);
            let spots = located.map(|located| located.spots());
            let shown = spots.map(|spots| {
                spots.iter().map(|spot| spot.remote.ip().to_string()).collect::<Vec<_>>().join(" ")
            });
            (shown, ask)
        }

        fn answer(&mut self, question: &Question, answer: Option<Answer>) -> bool {
            self.cache.answered(question, answer, self.now)
        }
    }

    #[test]
    fn an_answer_is_asked_for_once_and_again_before_its_time_is_over() {
        let mut world = World::new();
        let (known, ask) = world.after(0, "a.test");
        assert_eq!((known, ask.len()), (None, 1));
        assert_eq!(world.after(1, "a.test"), (None, vec![]), "a question is on its way");
        assert!(world.answer(&ask[0], address(1, 100)));
        assert_eq!(world.after(0, "a.test"), (Some("192.0.2.1".to_owned()), vec![]));
        assert_eq!(world.cache.due(), Some(world.now + Duration::from_secs(90)));
        assert_eq!(world.after(89, "a.test").1, []);
        let (known, again) = world.after(1, "a.test");
        assert_eq!((known.as_deref(), &again), (Some("192.0.2.1"), &ask), "it is used meanwhile");
        assert!(!world.answer(&ask[0], address(1, 100)), "nothing new");
        let again = world.after(90, "a.test").1;
        assert!(world.answer(&again[0], address(2, 100)));
        assert_eq!(world.after(0, "a.test").0.as_deref(), Some("192.0.2.2"));
    }

    #[test]
    fn while_the_dns_is_silent_old_answers_hold_and_it_is_asked_ever_less_often() {
        let mut world = World::new();
        let ask = world.after(0, "a.test").1;
        world.answer(&ask[0], address(1, 10));
        let mut pauses = Vec::new();
        let mut last = world.now;
        for _ in 0..600 {
            let (known, again) = world.after(1, "a.test");
            assert_eq!(known.as_deref(), Some("192.0.2.1"));
            if let Some(question) = again.first() {
                pauses.push((world.now - last).as_secs());
                last = world.now;
                assert!(!world.answer(question, None));
            }
        }
        assert_eq!(pauses[..8], [9, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn that_there_is_nothing_is_an_answer_too_and_has_its_time() {
        let mut world = World::new();
        let ask = world.after(0, "a.test").1;
        world.answer(&ask[0], Some(nothing(Some(Duration::from_secs(20)))));
        assert_eq!(world.after(17, "a.test"), (Some(String::new()), vec![]));
        assert_eq!(world.after(1, "a.test").1, ask);
        world.answer(&ask[0], address(1, 0));
        assert_eq!(world.cache.due(), Some(world.now + TTL_MIN * 9 / 10), "a time of zero is not believed");
    }

    #[test]
    fn a_nameserver_that_does_not_know_naptr_does_not_hide_the_host() {
        let mut world = World::new();
        let find = |world: &mut World| {
            let mut ask = Vec::new();
            let any = Wanted { port: None, ..wanted("a.test") };
            let found = world.cache.find(&any, &able(), world.now, &mut world.used, &mut ask);
            (found.is_some(), ask)
        };
        let (_, ask) = find(&mut world);
        assert_eq!(ask[0].kind, Kind::Naptr);
        assert!(world.answer(&ask[0], None));
        let (_, ask) = find(&mut world);
        assert_eq!(ask[0].kind, Kind::Srv);
        assert!(!world.answer(&ask[0], None), "calls must not go where SRV may not want them");
        assert!(!find(&mut world).0);
        let used = world.used.clone();
        world.cache.keep(&used);
        assert_eq!(world.cache.known.len(), 1, "what led there is not forgotten");
    }

    #[test]
    fn what_nobody_uses_is_forgotten_and_no_more_is_remembered_than_there_is_room_for() {
        let mut world = World::new();
        let ask = world.after(0, "a.test").1;
        world.answer(&ask[0], address(1, 100));
        world.used.clear();
        world.after(0, "b.test");
        let used = world.used.clone();
        world.cache.keep(&used);
        assert_eq!((world.cache.known.len(), world.cache.entries.len()), (0, 1));
        assert!(!world.answer(&ask[0], address(1, 100)), "an answer that comes too late is not kept");
        for number in 0..QUESTIONS_MAX + 10 {
            world.after(0, &format!("{number}.test"));
        }
        assert_eq!(world.cache.entries.len(), QUESTIONS_MAX);
    }
}
