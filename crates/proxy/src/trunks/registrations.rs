//! The registrations of a node: one for each row that is this node's, changed with it, taken back when it goes.
//!
//! In: rows, where registrars are, answers, time. Out: REGISTERs with the listener that they leave by, states. Elsewhere: one
//! registration's own rules (`sip::registration`), the task and the DNS (`keeper`).

use super::{Board, RegistrationState, RegistrationStatus, mixed};
use crate::Shared;
use model::Id;
use model::entities::{DdiProvider, DdiProviderRegistration, ProxyTrunk};
use rand::RngExt;
use rand::rngs::StdRng;
use sip::digest::Login;
use sip::flow::Transport;
use sip::locate::{Located, Spot, Wanted};
use sip::msg::Message;
use sip::registration::{Problem, Registration, Request, State, Wish};
use sip::uri::{Scheme, Uri, UriBuf};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// Before this nobody begins: whoever starts a proxy says meanwhile which registrations it keeps.
const CALM: Duration = Duration::from_millis(1500);
/// Then registrations begin within this time, so that not all come at once.
const SPREAD: Duration = Duration::from_secs(2);
/// Registrations that are kept; rows beyond are not registered.
const REGISTRATIONS_MAX: usize = 10_000;

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    provider: Id<DdiProvider>,
    trunk: Option<Id<ProxyTrunk>>,
    username: String,
    domain: String,
    login: Login,
    realm: Option<String>,
    expires: Option<u32>,
    /// The user part of the Contact, not escaped.
    user: String,
    wanted: Wanted,
}

struct Entry {
    id: Id<DdiProviderRegistration>,
    row: Row,
    is_ours: bool,
    located: Option<Arc<Located>>,
    /// While there is a way to the registrar.
    active: Option<Active>,
    /// Since when there is none, in Unix seconds.
    since: i64,
    nowhere: bool,
}

/// A registration by one of our listeners.
struct Active {
    /// Names it among requests that are on their way.
    key: u64,
    registration: Registration,
    listener: u16,
    /// What was told of it last.
    told: (State, Option<Problem>),
}

/// All of them.
#[derive(Default)]
pub(super) struct Registrations {
    entries: BTreeMap<Id<DdiProviderRegistration>, Entry>,
    /// Those of rows that are gone, until the registrar has heard of it.
    leaving: Vec<(Id<DdiProviderRegistration>, Active)>,
    next_key: u64,
    leaves: bool,
}

impl Registrations {
    /// Follows the rows, and who keeps which.
    pub(super) fn follow(&mut self, shared: &Shared, now: Instant) {
        if self.leaves {
            return;
        }
        let router = shared.router.load();
        let rows = router.snapshot().rows();
        let mut old = std::mem::take(&mut self.entries);
        for each in rows.each::<DdiProviderRegistration>().take(REGISTRATIONS_MAX) {
            let provider = rows.get(each.ddi_provider);
            let row = read(each, provider.and_then(|provider| provider.proxy_trunk), shared.trunks.seed);
            let is_ours = shared.trunks.owns(each.id);
            let mut entry = old.remove(&each.id).unwrap_or_else(|| Entry {
                id: each.id,
                row: row.clone(),
                is_ours,
                located: None,
                active: None,
                since: shared.clock.unix_secs(),
                nowhere: false,
            });
            if entry.is_ours && !is_ours {
                entry.since = shared.clock.unix_secs();
                self.let_go(&mut entry, now);
            }
            entry.is_ours = is_ours;
            if entry.row != row {
                let is_elsewhere = entry.row.wanted != row.wanted || entry.row.trunk != row.trunk;
                entry.row = row;
                if is_elsewhere {
                    self.let_go(&mut entry, now);
                    entry.located = None;
                } else {
                    self.renew(&mut entry, shared, now);
                }
            }
            self.entries.insert(each.id, entry);
        }
        for (_, mut entry) in old {
            self.let_go(&mut entry, now);
        }
    }

    /// The row has other words for its registration.
    fn renew(&mut self, entry: &mut Entry, shared: &Shared, now: Instant) {
        let Some(active) = &mut entry.active else { return };
        let Some(wish) = wish(&entry.row, shared, active.listener) else {
            return self.let_go(entry, now);
        };
        if active.registration.wish().is_same_binding(&wish) {
            active.registration.change(wish, now);
        } else {
            self.let_go(entry, now);
            entry.located = None; // begins anew when it is found again, which is at once
        }
    }

    fn let_go(&mut self, entry: &mut Entry, now: Instant) {
        if let Some(mut active) = entry.active.take() {
            active.registration.leave(now);
            self.leaving.push((entry.id, active));
        }
    }

    /// Takes all back.
    pub(super) fn leave(&mut self, now: Instant) {
        self.leaves = true;
        for (_, mut entry) in std::mem::take(&mut self.entries) {
            self.let_go(&mut entry, now);
        }
        self.leaving.retain(|(_, active)| !active.registration.is_over());
    }

    /// Nothing is left to be taken back.
    pub(super) fn is_over(&self) -> bool {
        self.leaves && self.leaving.is_empty()
    }

    /// Where the registrars that matter are to be found, with the trunk address that they are spoken to from.
    pub(super) fn wanted(
        &self,
    ) -> impl Iterator<Item = (Id<DdiProviderRegistration>, Option<Id<ProxyTrunk>>, &Wanted)> {
        self.entries
            .values()
            .filter(|entry| entry.is_ours)
            .map(|entry| (entry.id, entry.row.trunk, &entry.row.wanted))
    }

    /// The registrars that were found, each with its host.
    pub(super) fn located(&self) -> impl Iterator<Item = (&Option<Arc<Located>>, &str)> {
        self.entries.values().map(|entry| (&entry.located, entry.row.wanted.host.as_str()))
    }

    /// A registrar was found, or its name is not known (yet).
    pub(super) fn found(
        &mut self,
        id: Id<DdiProviderRegistration>,
        located: Option<Located>,
        shared: &Shared,
        rng: &mut StdRng,
        now: Instant,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(located) = located else { return };
        if entry.active.is_some() && entry.located.as_deref() == Some(&located) {
            return;
        }
        // One listener for the whole registration: its Contact is the same at all targets.
        let ordered = located.ordered(|bound| rng.random_range(0..bound.max(1)));
        entry.located = Some(Arc::new(located));
        let way = |spot: &Spot| {
            let listener = shared.trunk_listener(entry.row.trunk, spot.transport, spot.remote.is_ipv6());
            listener.map(|listener| (listener, spot.transport, spot.remote.is_ipv6()))
        };
        let kept = entry.active.as_ref().map(|active| active.listener);
        let first = ordered.iter().filter_map(way).find(|(listener, ..)| Some(*listener) == kept);
        let Some((listener, transport, is_ipv6)) = first.or_else(|| ordered.iter().find_map(way)) else {
            entry.nowhere = true;
            if let Some(active) = &mut entry.active {
                active.registration.set_targets(Vec::new(), now);
                active.registration.is_nowhere(now);
            }
            return;
        };
        entry.nowhere = false;
        let targets: Vec<Spot> = ordered
            .into_iter()
            .filter(|spot| spot.transport == transport && spot.remote.is_ipv6() == is_ipv6)
            .collect();
        if kept.is_some_and(|kept| kept != listener)
            && let Some(mut active) = entry.active.take()
        {
            active.registration.leave(now);
            self.leaving.push((id, active));
        }
        if entry.active.is_none() {
            let Some(wish) = wish(&entry.row, shared, listener) else {
                entry.nowhere = true;
                return;
            };
            self.next_key += 1;
            let first = now + CALM + rng.random_range(Duration::ZERO..=SPREAD);
            let registration = Registration::new(wish, rng.random(), first);
            let told = (State::Trying, None);
            entry.active = Some(Active { key: self.next_key, registration, listener, told });
        }
        if let Some(active) = &mut entry.active {
            active.registration.set_targets(targets, now);
        }
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.all().filter_map(|active| active.registration.due()).min()
    }

    fn all(&self) -> impl Iterator<Item = &Active> {
        let kept = self.entries.values().filter_map(|entry| entry.active.as_ref());
        kept.chain(self.leaving.iter().map(|(_, active)| active))
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Active> {
        let kept = self.entries.values_mut().filter_map(|entry| entry.active.as_mut());
        kept.chain(self.leaving.iter_mut().map(|(_, active)| active))
    }

    /// Does what is due. Out: REGISTERs, each with its key and listener.
    pub(super) fn act(&mut self, now: Instant) -> Vec<(u64, Request, u16)> {
        let is_due = |active: &&mut Active| active.registration.due().is_some_and(|due| due <= now);
        let act = |active: &mut Active| {
            let request = active.registration.act(now)?;
            Some((active.key, request, active.listener))
        };
        let requests = self.all_mut().filter(is_due).filter_map(act).collect();
        self.settle();
        requests
    }

    /// What became of a REGISTER.
    pub(super) fn told(&mut self, key: u64, answer: Option<&Message>, draw: u32, now: Instant) {
        let Some(active) = self.all_mut().find(|active| active.key == key) else { return };
        match answer {
            Some(msg) => active.registration.response(msg, now, draw),
            None => active.registration.unanswered(now, draw),
        }
        self.settle();
    }

    /// Tells what has changed, and forgets what is over.
    fn settle(&mut self) {
        for entry in self.entries.values_mut() {
            let Some(active) = &mut entry.active else { continue };
            let now = (active.registration.state(), active.registration.problem());
            if now == active.told {
                continue;
            }
            active.told = now;
            let Row { username, domain, .. } = &entry.row;
            match (now.0, now.1) {
                (State::Registered, None) => info!(username, domain, "registered at a DDI provider"),
                (State::Registered, Some(problem)) => {
                    warn!(username, domain, %problem, "a registration at a DDI provider cannot be refreshed");
                }
                (State::Failed, Some(problem)) => {
                    warn!(username, domain, %problem, "not registered at a DDI provider");
                }
                (State::Failed, None) => warn!(username, domain, "a registration at a DDI provider ran out"),
                (State::Trying | State::Gone, _) => {}
            }
        }
        self.leaving.retain(|(registration, active)| {
            if active.registration.is_over() {
                debug!(registration = registration.get(), "a registration at a DDI provider is taken back");
            }
            !active.registration.is_over()
        });
    }

    /// Writes how all stand.
    pub(super) fn show(&self, board: &mut Board, unix: impl Fn(Instant) -> i64, now: Instant) {
        for entry in self.entries.values() {
            board.registrations.push(entry.status(&unix));
            let user = sip::uri::escape_user(entry.row.user.as_bytes());
            let provider = entry.row.provider;
            let contact = board.contacts.entry(user).or_insert(Some(entry.id));
            let other = contact.and_then(|id| self.entries.get(&id)).map(|other| other.row.provider);
            if other != Some(provider) {
                *contact = None;
            }
            let holds = |active: &Active| active.registration.held().is_some_and(|(until, _)| until > now);
            if entry.active.as_ref().is_some_and(holds) {
                for ip in entry.addresses() {
                    let source = board.sources.entry(ip).or_insert(Some(provider));
                    if *source != Some(provider) {
                        *source = None;
                    }
                }
            }
        }
    }
}

impl Entry {
    fn status(&self, unix: impl Fn(Instant) -> i64) -> RegistrationStatus {
        let mut status = RegistrationStatus {
            registration: self.id,
            state: RegistrationState::Trying,
            since: self.since,
            in_progress: false,
            last_status: None,
            expires_at: None,
            next_at: None,
            problem: None,
        };
        match &self.active {
            _ if !self.is_ours => status.state = RegistrationState::Elsewhere,
            Some(active) => {
                let registration = &active.registration;
                status.state = match registration.state() {
                    State::Trying => RegistrationState::Trying,
                    State::Registered => RegistrationState::Registered,
                    State::Failed | State::Gone => RegistrationState::Failed,
                };
                status.since = unix(registration.since());
                status.in_progress = registration.is_in_progress();
                status.last_status = registration.last_status();
                status.expires_at = registration.held().map(|(until, _)| unix(until));
                status.next_at = registration.next_at().map(&unix);
                status.problem = registration.problem().map(|problem| problem.to_string());
            }
            None if self.nowhere => {
                status.state = RegistrationState::Failed;
                status.problem = Some(Problem::Nowhere.to_string());
            }
            None if self.located.is_none() => status.problem = Some(Problem::Nowhere.to_string()),
            None => {}
        }
        status
    }

    /// Where requests of the registrar may come from.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let held = self.active.as_ref().and_then(|active| active.registration.held());
        let found = self.located.iter().flat_map(|located| located.spots());
        found
            .map(|spot| spot.remote)
            .chain(held.map(|(_, spot)| spot.remote))
            .map(|remote| remote.ip().to_canonical())
    }
}

/// What a row says, with its defaults (manual, chapter 9.2.2 "DDI Provider Registrations").
fn read(row: &DdiProviderRegistration, trunk: Option<Id<ProxyTrunk>>, seed: u64) -> Row {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let user = match (row.multi_ddi == Some(true), given(&row.contact_username)) {
        // The same as long as the process lives, so that a change of the row leaves no binding behind.
        (true, _) => format!("{:016x}", mixed(seed ^ (u64::from(row.id.get()) << 32))),
        (false, Some(user)) => user,
        (false, None) => row.username.clone(),
    };
    let auth_user = given(&row.auth_username).unwrap_or_else(|| row.username.clone());
    Row {
        provider: row.ddi_provider,
        trunk,
        username: row.username.clone(),
        domain: row.domain.clone(),
        login: Login::new(auth_user, row.auth_password.reveal()),
        realm: given(&row.realm),
        expires: u32::try_from(row.expires).ok().filter(|expires| *expires > 0),
        user,
        wanted: registrar(&row.auth_proxy, &row.domain),
    }
}

/// Where REGISTERs go: to the registrar that is named, else to that of the domain.
fn registrar(proxy: &str, domain: &str) -> Wanted {
    let text = if proxy.is_empty() { format!("sip:{domain}") } else { proxy.to_owned() };
    match Uri::parse(text.as_bytes()) {
        Ok(uri) => Wanted {
            is_secure: uri.scheme == Scheme::Sips,
            host: uri.host.to_string(),
            port: uri.port,
            transport: uri.transport_param(),
        },
        Err(_) => Wanted { is_secure: false, host: domain.to_owned(), port: None, transport: None },
    }
}

/// `None`: the row's words make no URI.
fn wish(row: &Row, shared: &Shared, listener: u16) -> Option<Wish> {
    let place = shared.places.get(usize::from(listener))?;
    let domain = UriBuf::parse(&format!("sip:{}", row.domain)).ok()?;
    let (host, port) = (domain.as_uri().host.to_string(), domain.as_uri().port);
    let mut contact = UriBuf::sip(&row.user, &place.host, Some(place.port)).ok()?;
    if place.transport != Transport::Udp {
        contact = contact.with_param("transport", Some(place.transport.param_token()));
    }
    Some(Wish {
        registrar: domain.into_string(),
        record: UriBuf::sip(&row.username, &host, port).ok()?.into_string(),
        contact: contact.into_string(),
        login: row.login.clone(),
        realm: row.realm.clone(),
        expires: row.expires,
        user_agent: shared.config.user_agent.clone(),
    })
}
