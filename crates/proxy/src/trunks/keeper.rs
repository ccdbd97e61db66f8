//! The trunks' task: follows the rows, finds servers and registrars, asks servers by OPTIONS, lets registrations do their work.
//!
//! In: rows, the DNS, answers, what calls tell, time. Out: requests for the workers, a [`Board`] for all others. Elsewhere: the rules
//! (`health`, `dns`, `registrations`, and `sip` with `locate` and `registration`).

use super::dns::{Cache, Names, Nameservers, Nobody};
use super::health::{Health, Pace, State};
use super::registrations::Registrations;
use super::{Ask, Board, Ears, ServerState, ServerStatus, ServerView, TargetStatus, Word};
use crate::Shared;
use crate::net::Network;
use crate::worker::Cmd;
use model::Id;
use model::Snapshot;
use model::define::Entity;
use model::entities::{Carrier, CarrierServer, DdiProvider, DdiProviderRegistration, ProxyTrunk};
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use routing::Router;
use sip::draft::{HeaderText, RequestDraft};
use sip::flow::{ConnId, Flow, Transport};
use sip::locate::{Able, Answer, Located, Question, Spot, Wanted};
use sip::msg::{Message, Method};
use sip::uri::UriBuf;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};

/// Rows and owners are looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Servers are first asked within this time after a start.
const SPREAD: Duration = Duration::from_secs(2);
/// Servers that are watched; rows beyond count as unknown.
const SERVERS_MAX: usize = 10_000;
/// Answers and words that are taken in one go.
const STEP_MAX: usize = 256;

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    carrier: Id<Carrier>,
    carrier_name: String,
    trunk: Option<Id<ProxyTrunk>>,
    wanted: Wanted,
    /// The URI that OPTIONS are for.
    uri: String,
    /// The host of that.
    host: String,
    /// What people call it.
    name: String,
}

struct Server {
    row: Row,
    located: Option<Arc<Located>>,
    targets: BTreeMap<Spot, Health>,
    state: ServerState,
    since: Instant,
}

/// Who waits for an answer.
enum Asked {
    Server(Id<CarrierServer>, Spot),
    Registration(u64),
}

struct Keeper {
    shared: Arc<Shared>,
    rng: StdRng,
    names: Arc<dyn Names>,
    told: mpsc::UnboundedSender<(Question, Option<Answer>)>,
    cache: Cache,
    router: Option<Arc<Router>>,
    servers: BTreeMap<Id<CarrierServer>, Server>,
    registrations: Registrations,
    asked: HashMap<u64, Asked>,
    next_token: u64,
    /// Something may be elsewhere than it was.
    lost_sight: bool,
    /// Something is to be shown.
    changed: bool,
    leaving: Vec<oneshot::Sender<()>>,
}

/// Keeps the trunks of a proxy until it is aborted.
pub(crate) async fn keep(shared: Arc<Shared>, mut ears: Ears, network: Network, rng: StdRng) {
    let names: Arc<dyn Names> = match network {
        Network::Sim(_) => Arc::new(Nobody),
        Network::Os => match Nameservers::new(&shared.config.trunks.nameservers) {
            Some(nameservers) => Arc::new(nameservers),
            None => Arc::new(Nobody),
        },
    };
    let (told, mut heard) = mpsc::unbounded_channel();
    let mut keeper = Keeper {
        shared,
        rng,
        names,
        told,
        cache: Cache::default(),
        router: None,
        servers: BTreeMap::new(),
        registrations: Registrations::default(),
        asked: HashMap::new(),
        next_token: 0,
        lost_sight: true,
        changed: true,
        leaving: Vec::new(),
    };
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut answers, mut words) = (Vec::new(), Vec::new());
    loop {
        let due = keeper.due();
        tokio::select! {
            biased; // all are bounded, and the runtime's random numbers stay with those who need them
            _ = look.tick() => keeper.look(),
            _ = ears.answers.recv_many(&mut answers, STEP_MAX) => {
                answers.drain(..).for_each(|(token, answer)| keeper.answer(token, answer.as_ref()));
            }
            _ = ears.words.recv_many(&mut words, STEP_MAX) => {
                words.drain(..).for_each(|word| keeper.word(word));
            }
            Some((question, answer)) = heard.recv() => {
                let now = keeper.shared.clock.now();
                keeper.lost_sight |= keeper.cache.answered(&question, answer, now);
            }
            () = sleep_until(due), if due.is_some() => {}
        }
        keeper.turn();
    }
}

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
}

impl Keeper {
    /// When something is due.
    fn due(&self) -> Option<Instant> {
        let targets = self.servers.values().flat_map(|server| server.targets.values());
        let pings = targets.filter_map(Health::due).min();
        [pings, self.registrations.due(), self.cache.due()].into_iter().flatten().min()
    }

    /// Looks whether rows or owners have changed.
    fn look(&mut self) {
        let router = self.shared.router.load_full();
        let snapshot = router.snapshot();
        let is_new = match &self.router {
            None => true,
            Some(old) if Arc::ptr_eq(old, &router) => false,
            Some(old) => {
                let tables = [
                    Carrier::definition(),
                    CarrierServer::definition(),
                    DdiProvider::definition(),
                    DdiProviderRegistration::definition(),
                ];
                tables.into_iter().any(|table| !old.snapshot().rows().shares(snapshot.rows(), table))
            }
        };
        let now = self.shared.clock.now();
        if is_new {
            self.follow(snapshot, now);
        }
        self.router = Some(router);
        self.registrations.follow(&self.shared, now);
        self.lost_sight = true;
        self.changed = true;
    }

    fn follow(&mut self, snapshot: &Snapshot, now: Instant) {
        let rows = snapshot.rows();
        let mut old = std::mem::take(&mut self.servers);
        for each in rows.each::<CarrierServer>().take(SERVERS_MAX) {
            let Some(row) = read(each, rows.get(each.carrier)) else { continue };
            let kept = old
                .remove(&each.id)
                .filter(|server| server.row.wanted == row.wanted && server.row.trunk == row.trunk);
            let server = match kept {
                Some(server) => Server { row, ..server },
                None => Server {
                    row,
                    located: None,
                    targets: BTreeMap::new(),
                    state: ServerState::Unknown,
                    since: now,
                },
            };
            self.servers.insert(each.id, server);
        }
    }

    fn answer(&mut self, token: u64, answer: Option<&Message>) {
        let now = self.shared.clock.now();
        match self.asked.remove(&token) {
            Some(Asked::Server(server, spot)) => {
                let target = self.servers.get_mut(&server).and_then(|server| server.targets.get_mut(&spot));
                match (target, answer) {
                    (Some(target), Some(msg)) => target.answered(msg.status(), now),
                    (Some(target), None) => target.unreachable(now),
                    (None, _) => {}
                }
            }
            Some(Asked::Registration(key)) => {
                let draw = self.rng.next_u32();
                self.registrations.told(key, answer, draw, now);
            }
            None => {}
        }
        self.changed = true;
    }

    fn word(&mut self, word: Word) {
        let now = self.shared.clock.now();
        let mut at = |server: Id<CarrierServer>, remote, tell: &dyn Fn(&mut Health)| {
            let targets = self.servers.get_mut(&server).into_iter().flat_map(|server| &mut server.targets);
            targets.filter(|(spot, _)| spot.remote == remote).for_each(|(_, health)| tell(health));
        };
        match word {
            Word::Answered(server, remote) => at(server, remote, &|health| health.call_answered(now)),
            Word::Failed(server, remote) => at(server, remote, &|health| health.call_failed(now)),
            Word::Leave(teller) => {
                self.servers.clear();
                self.registrations.leave(now);
                self.leaving.push(teller);
            }
        }
        self.changed = true;
    }

    fn turn(&mut self) {
        let now = self.shared.clock.now();
        if std::mem::take(&mut self.lost_sight) || self.cache.due().is_some_and(|due| due <= now) {
            self.find(now);
        }
        self.ping(now);
        for (key, request, listener) in self.registrations.act(now) {
            self.send(Asked::Registration(key), request.draft, request.spot, listener);
            self.changed = true;
        }
        if !self.leaving.is_empty() && self.registrations.is_over() {
            self.leaving.clear();
        }
        if std::mem::take(&mut self.changed) {
            self.show(now);
        }
    }

    /// Finds where all are, and asks for what is not known or will soon be too old.
    fn find(&mut self, now: Instant) {
        let (mut used, mut ask) = (BTreeSet::new(), Vec::new());
        let ping = self.shared.config.trunks.ping;
        let pace = Pace { ping, misses: self.shared.config.trunks.misses };
        for (id, server) in &mut self.servers {
            let able = able(&self.shared, server.row.trunk);
            let Some(located) = self.cache.find(&server.row.wanted, &able, now, &mut used, &mut ask) else {
                continue;
            };
            if server.located.as_deref() == Some(&located) {
                continue;
            }
            let spots = located.spots();
            debug!(
                server = id.get(),
                name = server.row.name,
                targets = spots.len(),
                "a carrier's server is found"
            );
            server.targets.retain(|spot, _| spots.contains(spot));
            for spot in spots {
                let rng = &mut self.rng;
                server.targets.entry(spot).or_insert_with(|| {
                    Health::new(pace, now + rng.random_range(Duration::ZERO..=SPREAD.min(ping)))
                });
            }
            server.located = Some(Arc::new(located));
        }
        let mut found = Vec::new();
        for (id, trunk, wanted) in self.registrations.wanted() {
            let able = able(&self.shared, trunk);
            found.push((id, self.cache.find(wanted, &able, now, &mut used, &mut ask)));
        }
        for (id, located) in found {
            self.registrations.found(id, located, &self.shared, &mut self.rng, now);
        }
        self.cache.keep(&used);
        self.expect();
        for question in ask {
            let (answer, told) = (self.names.ask(question.clone()), self.told.clone());
            tokio::spawn(async move {
                let _ = told.send((question, answer.await));
            });
        }
        self.changed = true;
    }

    /// Who is called by TLS has to be who it should be: the host as written (RFC 5922 section 4).
    fn expect(&self) {
        let servers = self.servers.values().map(|server| (&server.located, server.row.host.as_str()));
        let registrars = self.registrations.located();
        let mut hosts = BTreeSet::new();
        for (located, host) in servers.chain(registrars) {
            let spots = located.iter().flat_map(|located| located.spots());
            let by_tls = spots.filter(|spot| spot.transport == Transport::Tls);
            let name = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
            hosts.extend(by_tls.map(|spot| (spot.remote, name.clone())));
        }
        self.shared.connections.expect(&hosts);
    }

    fn ping(&mut self, now: Instant) {
        let mut due = Vec::new();
        for (id, server) in &mut self.servers {
            for (spot, health) in &mut server.targets {
                let is_due = health.due().is_some_and(|due| due <= now);
                self.changed |= is_due;
                if is_due && health.act(now) {
                    due.push((*id, *spot, server.row.trunk, server.row.uri.clone()));
                }
            }
        }
        for (id, spot, trunk, uri) in due {
            let listener = self.shared.trunk_listener(trunk, spot.transport, spot.remote.is_ipv6());
            let draft = listener.and_then(|listener| self.options(uri, listener));
            match (listener, draft) {
                (Some(listener), Some(draft)) => self.send(Asked::Server(id, spot), draft, spot, listener),
                _ => {
                    let server = self.servers.get_mut(&id);
                    if let Some(health) = server.and_then(|server| server.targets.get_mut(&spot)) {
                        health.unreachable(now);
                    }
                }
            }
        }
    }

    fn send(&mut self, asked: Asked, draft: RequestDraft, spot: Spot, listener: u16) {
        self.next_token += 1;
        let token = self.next_token;
        self.asked.insert(token, asked);
        let Spot { transport, remote } = spot;
        let flow = Flow { transport, listener, remote, conn: ConnId(0) };
        let worker = usize::try_from(token).unwrap_or(0) % self.shared.links.len();
        self.shared.links[worker].send(Cmd::Ask(Box::new(Ask { token, draft, flow })));
    }

    fn options(&mut self, uri: String, listener: u16) -> Option<RequestDraft> {
        let place = self.shared.places.get(usize::from(listener))?;
        let mut headers = HeaderText::new();
        headers.push("Max-Forwards", "70");
        let tag: u64 = self.rng.random();
        headers.push_fmt("From", format_args!("<sip:ping@{}>;tag={tag:016x}", place.sent_by));
        headers.push_fmt("To", format_args!("<{uri}>"));
        headers.push_fmt("Call-ID", format_args!("{:032x}", self.rng.random::<u128>()));
        headers.push("CSeq", "1 OPTIONS");
        headers.push("Contact", place.contact("ping"));
        headers.push("Accept", "application/sdp");
        if !self.shared.config.user_agent.is_empty() {
            headers.push("User-Agent", &self.shared.config.user_agent);
        }
        Some(RequestDraft { method: Method::Options, uri, headers, body: bytes::Bytes::new() })
    }

    /// Shows how all stands, and tells of servers that went down or came back.
    fn show(&mut self, now: Instant) {
        let unix_now = self.shared.clock.unix_secs();
        let unix = |at: Instant| match at.checked_duration_since(now) {
            Some(ahead) => unix_now.saturating_add_unsigned(ahead.as_secs()),
            None => unix_now.saturating_sub_unsigned((now - at).as_secs()),
        };
        let mut board = Board::default();
        for (id, server) in &mut self.servers {
            let state = server.current();
            if state != server.state {
                let (name, carrier) = (&server.row.name, &server.row.carrier_name);
                match (server.state, state) {
                    (_, ServerState::Down) => warn!(name, carrier, "a carrier's server does not answer"),
                    (ServerState::Down, ServerState::Up) => {
                        info!(name, carrier, "a carrier's server answers again")
                    }
                    _ => debug!(name, carrier, ?state, "a carrier's server"),
                }
                (server.state, server.since) = (state, now);
            }
            board.servers.insert(*id, Arc::new(server.view(*id, &self.shared, unix(server.since))));
        }
        self.registrations.show(&mut board, unix, now);
        self.shared.trunks.board.store(Arc::new(board));
    }
}

impl Server {
    /// One target that answers is enough.
    fn current(&self) -> ServerState {
        let has = |state| self.targets.values().any(|health| health.state() == state);
        match () {
            () if has(State::Up) => ServerState::Up,
            () if has(State::Unknown) || self.targets.is_empty() => ServerState::Unknown,
            () => ServerState::Down,
        }
    }

    fn view(&self, id: Id<CarrierServer>, shared: &Shared, since: i64) -> ServerView {
        let status = |(spot, health): (&Spot, &Health)| TargetStatus {
            transport: spot.transport,
            remote: spot.remote,
            state: match health.state() {
                State::Unknown => ServerState::Unknown,
                State::Up => ServerState::Up,
                State::Down => ServerState::Down,
            },
            last_status: health.last_status(),
        };
        let way = |spot: &Spot| {
            let (transport, is_ipv6) = (spot.transport, spot.remote.is_ipv6());
            let listener = shared.trunk_listener(self.row.trunk, transport, is_ipv6)?;
            Some(((transport, is_ipv6), listener))
        };
        let well = self.targets.iter().filter(|(_, health)| health.is_well());
        ServerView {
            status: ServerStatus {
                server: id,
                carrier: self.row.carrier,
                state: self.state,
                since,
                targets: self.targets.iter().map(status).collect(),
            },
            located: self.located.clone(),
            well: well.map(|(spot, _)| spot.remote).collect(),
            listeners: self.targets.keys().filter_map(way).collect(),
        }
    }
}

/// What the sockets of a trunk address can do.
fn able(shared: &Shared, trunk: Option<Id<ProxyTrunk>>) -> Able {
    let has = |transport, is_ipv6| shared.trunk_listener(trunk, transport, is_ipv6).is_some();
    let all = [Transport::Udp, Transport::Tcp, Transport::Tls];
    Able {
        transports: all.into_iter().filter(|each| has(*each, false) || has(*each, true)).collect(),
        v4: all.into_iter().any(|each| has(each, false)),
        v6: all.into_iter().any(|each| has(each, true)),
    }
}

/// What a row says (manual, chapter 9.2.1 "Carrier Servers"). `None`: it names no host.
fn read(row: &CarrierServer, carrier: Option<&Carrier>) -> Option<Row> {
    let name = row.sip_proxy.clone().or_else(|| row.hostname.clone()).filter(|name| !name.is_empty())?;
    let named = UriBuf::parse(&format!("sip:{name}")).ok()?;
    let (host, host_port) = (named.as_uri().host.to_string(), named.as_uri().port);
    let transport = match row.transport {
        None | Some(1) => Transport::Udp,
        Some(2) => Transport::Tcp,
        Some(_) => Transport::Tls,
    };
    let is_secure = row.uri_scheme == Some(2);
    let outbound = row.outbound_proxy.as_deref().filter(|outbound| !outbound.is_empty());
    let named_host = host.clone();
    let wanted = match outbound {
        Some(outbound) => {
            let outbound = UriBuf::parse(&format!("sip:{outbound}")).ok()?;
            let (host, port) = (outbound.as_uri().host.to_string(), outbound.as_uri().port);
            Wanted { is_secure, host, port, transport: Some(transport) }
        }
        // The row's own port is 5060 where none is written, and then the DNS has a say.
        None => Wanted { is_secure, host, port: host_port, transport: Some(transport) },
    };
    let scheme = if is_secure { "sips" } else { "sip" };
    let mut uri = UriBuf::parse(&format!("{scheme}:{name}")).ok()?;
    if !is_secure && transport != Transport::Udp {
        uri = uri.with_param("transport", Some(transport.param_token()));
    }
    Some(Row {
        carrier: row.carrier,
        carrier_name: carrier.map(|carrier| carrier.name.clone()).unwrap_or_default(),
        trunk: carrier.and_then(|carrier| carrier.proxy_trunk),
        wanted,
        uri: uri.into_string(),
        host: named_host,
        name,
    })
}
