//! The trunk side: where carriers' servers are and whether they answer, registrations at DDI providers, and the sockets for both.
//!
//! In: rows of the snapshot, what calls tell. Out: targets and states, answered from memory. Elsewhere: one task that keeps all this
//! (`keeper`), its rooms (`health`, `dns`, `registrations`), where a server is (`sip::locate`), INVITEs to carriers (`legs`).

mod dns;
mod health;
mod keeper;
mod registrations;

use crate::Shared;
use crate::config::Place;
use arc_swap::ArcSwap;
use model::Id;
use model::entities::{Carrier, CarrierServer, DdiProvider, DdiProviderRegistration, ProxyTrunk};
use sip::draft::RequestDraft;
use sip::flow::{Flow, Transport};
use sip::locate::{Located, Spot};
use sip::msg::Message;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, oneshot};

pub(crate) use keeper::keep;

/// What calls tell may wait for the task; more is not needed to know.
const WORDS_MAX: usize = 1024;

/// The number of the main trunk address (manual, chapter 8.14.2).
const MAIN_TRUNK: Id<ProxyTrunk> = Id::new(1);

/// Where an INVITE to a carrier goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The server's address.
    pub remote: SocketAddr,
    /// How.
    pub transport: Transport,
    /// From which of our listeners.
    pub listener: u16,
}

/// Whether a server of a carrier, or one of its addresses, answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerState {
    /// Nothing is known: it has no address yet, or was not asked yet.
    Unknown,
    /// It answers; where nobody is asked (`trunks.ping_seconds` is 0), all count as that.
    Up,
    /// It does not, several times in a row; it is asked on.
    Down,
}

impl ServerState {
    /// Its name in figures.
    pub fn name(self) -> &'static str {
        match self {
            ServerState::Unknown => "unknown",
            ServerState::Up => "up",
            ServerState::Down => "down",
        }
    }
}

/// The colour of a carrier (manual, chapter 9.2.1 "Status").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Every server answers.
    Green,
    /// Some do not.
    Yellow,
    /// None does.
    Red,
}

/// How one address of a server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// How it is reached.
    pub transport: Transport,
    /// Where it is.
    pub remote: SocketAddr,
    /// Whether it answers.
    pub state: ServerState,
    /// Status of its last answer, to OPTIONS or a call.
    pub last_status: Option<u16>,
}

/// How a server of a carrier stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// The server.
    pub server: Id<CarrierServer>,
    /// Its carrier.
    pub carrier: Id<Carrier>,
    /// It answers by one of its addresses at least.
    pub state: ServerState,
    /// Since when, in Unix seconds.
    pub since: i64,
    /// Its addresses; none: its name is not resolved, or there is no socket that reaches it.
    pub targets: Vec<TargetStatus>,
}

/// How a registration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegistrationState {
    /// Another node keeps it.
    Elsewhere,
    /// It was not answered yet.
    Trying,
    /// The provider holds it.
    Registered,
    /// It does not.
    Failed,
}

impl RegistrationState {
    /// Its name in figures.
    pub fn name(self) -> &'static str {
        match self {
            RegistrationState::Elsewhere => "elsewhere",
            RegistrationState::Trying => "trying",
            RegistrationState::Registered => "registered",
            RegistrationState::Failed => "failed",
        }
    }
}

/// How a registration at a DDI provider stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationStatus {
    /// The registration.
    pub registration: Id<DdiProviderRegistration>,
    /// How it stands.
    pub state: RegistrationState,
    /// Since when, in Unix seconds.
    pub since: i64,
    /// A REGISTER is on its way just now.
    pub in_progress: bool,
    /// Status of the last answer.
    pub last_status: Option<u16>,
    /// When it expires if it is not refreshed, in Unix seconds.
    pub expires_at: Option<i64>,
    /// When it is refreshed or tried again, in Unix seconds.
    pub next_at: Option<i64>,
    /// What went wrong the last time, and the way out.
    pub problem: Option<String>,
}

/// How the trunks of a node stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrunkStates {
    /// All servers of carriers, by their numbers.
    pub servers: Vec<ServerStatus>,
    /// All registrations, by their numbers.
    pub registrations: Vec<RegistrationStatus>,
}

impl TrunkStates {
    /// The colour of a carrier by its servers of which something is known; `None`: there is none.
    pub fn colour(&self, carrier: Id<Carrier>) -> Option<Colour> {
        let known = self
            .servers
            .iter()
            .filter(|server| server.carrier == carrier && server.state != ServerState::Unknown);
        let (up, down) = known.fold((0, 0), |(up, down), server| match server.state {
            ServerState::Down => (up, down + 1),
            ServerState::Up | ServerState::Unknown => (up + 1, down),
        });
        match (up, down) {
            (0, 0) => None,
            (_, 0) => Some(Colour::Green),
            (0, _) => Some(Colour::Red),
            _ => Some(Colour::Yellow),
        }
    }

    /// How many servers are in this state.
    pub fn servers_in(&self, state: ServerState) -> usize {
        self.servers.iter().filter(|server| server.state == state).count()
    }

    /// How many registrations are in this state.
    pub fn registrations_in(&self, state: RegistrationState) -> usize {
        self.registrations.iter().filter(|registration| registration.state == state).count()
    }
}

/// Whether this proxy keeps a registration.
pub type Owns = Arc<dyn Fn(Id<DdiProviderRegistration>) -> bool + Send + Sync>;

/// A request outside of dialogs that a worker sends for the trunks' task.
#[derive(Debug)]
pub(crate) struct Ask {
    /// Comes back with the answer.
    pub(crate) token: u64,
    pub(crate) draft: RequestDraft,
    pub(crate) flow: Flow,
}

/// What calls and operators tell the task.
#[derive(Debug)]
pub(crate) enum Word {
    /// A call to this address got a final answer.
    Answered(Id<CarrierServer>, SocketAddr),
    /// A call to this address got none, or 408 or 503.
    Failed(Id<CarrierServer>, SocketAddr),
    /// Take all registrations back, and let go of this when it is done.
    Leave(oneshot::Sender<()>),
}

/// The other ends of [`Trunks`].
pub(crate) struct Ears {
    words: mpsc::Receiver<Word>,
    answers: mpsc::UnboundedReceiver<(u64, Option<Message>)>,
}

/// What all parts of a proxy see of the trunks. Nothing here waits.
pub struct Trunks {
    board: ArcSwap<Board>,
    words: mpsc::Sender<Word>,
    /// As many as the task has asked for.
    answers: mpsc::UnboundedSender<(u64, Option<Message>)>,
    owns: OnceLock<Owns>,
    seed: u64,
    draws: AtomicU64,
}

/// What the task has to say.
#[derive(Default)]
struct Board {
    servers: BTreeMap<Id<CarrierServer>, Arc<ServerView>>,
    registrations: Vec<RegistrationStatus>,
    /// Users of our Contacts; `None`: of registrations at several providers.
    contacts: BTreeMap<String, Option<Id<DdiProviderRegistration>>>,
    /// Addresses of registrars that hold a registration; `None`: of several providers.
    sources: BTreeMap<IpAddr, Option<Id<DdiProvider>>>,
}

struct ServerView {
    status: ServerStatus,
    located: Option<Arc<Located>>,
    /// Targets whose signs of life say nothing new.
    well: Vec<SocketAddr>,
    /// By the way to them.
    listeners: BTreeMap<(Transport, bool), u16>,
}

impl Trunks {
    pub(crate) fn new(seed: u64) -> (Trunks, Ears) {
        let ((words, heard), (answers, answered)) = (mpsc::channel(WORDS_MAX), mpsc::unbounded_channel());
        let trunks = Trunks {
            board: ArcSwap::default(),
            words,
            answers,
            owns: OnceLock::new(),
            seed,
            draws: AtomicU64::new(0),
        };
        (trunks, Ears { words: heard, answers: answered })
    }

    /// Where an INVITE to a server goes, the first to be tried first: live ones before those that do not answer, each by priority
    /// and weight (RFC 2782). When none answers all are there all the same. Empty: the server is not resolved yet, or no socket
    /// reaches it.
    pub fn targets(&self, server: Id<CarrierServer>) -> Vec<Target> {
        let board = self.board.load();
        let Some(view) = board.servers.get(&server) else { return Vec::new() };
        let Some(located) = &view.located else { return Vec::new() };
        let is_down = |spot: &Spot| {
            let of_spot =
                |status: &&TargetStatus| status.remote == spot.remote && status.transport == spot.transport;
            view.status.targets.iter().find(of_spot).is_some_and(|status| status.state == ServerState::Down)
        };
        let mut spots = located.ordered(|bound| self.below(bound));
        spots.sort_by_key(is_down);
        let target = |spot: Spot| {
            let listener = *view.listeners.get(&(spot.transport, spot.remote.is_ipv6()))?;
            Some(Target { remote: spot.remote, transport: spot.transport, listener })
        };
        spots.into_iter().filter_map(target).collect()
    }

    /// Whether a server answers.
    pub fn server_state(&self, server: Id<CarrierServer>) -> ServerState {
        self.board.load().servers.get(&server).map_or(ServerState::Unknown, |view| view.status.state)
    }

    /// A call to this address of a server got a final answer that says that it takes calls: any but 408 and 503.
    pub fn call_answered(&self, server: Id<CarrierServer>, remote: SocketAddr) {
        let is_news = |view: &Arc<ServerView>| !view.well.contains(&remote);
        if self.board.load().servers.get(&server).is_some_and(is_news) {
            let _ = self.words.try_send(Word::Answered(server, remote));
        }
    }

    /// A call to this address of a server got no answer in time, or 408 or 503, or could not be sent.
    pub fn call_failed(&self, server: Id<CarrierServer>, remote: SocketAddr) {
        let _ = self.words.try_send(Word::Failed(server, remote));
    }

    /// How a registration stands; `None`: nothing is known of it.
    pub fn registration(&self, registration: Id<DdiProviderRegistration>) -> Option<RegistrationStatus> {
        let board = self.board.load();
        board.registrations.iter().find(|status| status.registration == registration).cloned()
    }

    /// How all of it stands.
    pub(crate) fn states(&self) -> TrunkStates {
        let board = self.board.load();
        TrunkStates {
            servers: board.servers.values().map(|view| view.status.clone()).collect(),
            registrations: board.registrations.clone(),
        }
    }

    /// Whether a carrier has a server that is not known to be down.
    pub(crate) fn carrier_answers(&self, carrier: Id<Carrier>) -> bool {
        let board = self.board.load();
        board
            .servers
            .values()
            .any(|view| view.status.carrier == carrier && view.status.state != ServerState::Down)
    }

    /// Names who decides which registrations are kept here; only the first one counts. Nobody: all are.
    pub(crate) fn set_owns(&self, owns: Owns) {
        let _ = self.owns.set(owns);
    }

    fn owns(&self, registration: Id<DdiProviderRegistration>) -> bool {
        self.owns.get().is_none_or(|owns| owns(registration))
    }

    /// What became of a request of the task.
    pub(crate) fn told(&self, token: u64, answer: Option<Message>) {
        let _ = self.answers.send((token, answer));
    }

    /// Takes all registrations back; returns when that is done, or when nobody is there to do it.
    pub(crate) async fn leave(&self) {
        let (done, is_done) = oneshot::channel();
        if self.words.send(Word::Leave(done)).await.is_ok() {
            let _ = is_done.await; // the task only lets go of its end
        }
    }

    /// A random number below this: any will do, nobody gains by guessing it.
    fn below(&self, bound: u32) -> u32 {
        let drawn = mixed(self.seed.wrapping_add(self.draws.fetch_add(1, Ordering::Relaxed)));
        u32::try_from(drawn % u64::from(bound.max(1))).unwrap_or(0)
    }
}

/// SplitMix64.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Shared {
    /// The listener to speak to a carrier or DDI provider from: of this trunk address; else of the main one; else of any; and only where
    /// there are none at all the users' one of that transport and IP version.
    pub(crate) fn trunk_listener(
        &self,
        trunk: Option<Id<ProxyTrunk>>,
        transport: Transport,
        is_ipv6: bool,
    ) -> Option<u16> {
        trunk_listener(&self.places, trunk, transport, is_ipv6)
    }

    /// Whether carriers and DDI providers are spoken to by this listener, and may come by it.
    pub(crate) fn serves_trunks(&self, listener: u16) -> bool {
        let place = self.places.get(usize::from(listener));
        place.is_some_and(|place| place.trunk.is_some() || !has_trunks(&self.places))
    }

    /// Whether users are spoken to by this listener, and may come by it.
    pub(crate) fn serves_users(&self, listener: u16) -> bool {
        self.places.get(usize::from(listener)).is_some_and(|place| place.trunk.is_none())
    }

    /// The registration that a request is for whose Request-URI has this user part, escaped as in the URI. `None`: there is none, or
    /// registrations at several providers have it.
    pub(crate) fn registration_by_contact(&self, user: &str) -> Option<Id<DdiProviderRegistration>> {
        self.trunks.board.load().contacts.get(user).copied().flatten()
    }

    /// The DDI provider whose registrar, which holds a registration of ours now, has this address. `None`: there is none, or those of
    /// several providers have it.
    pub(crate) fn registrar_provider(&self, source: IpAddr) -> Option<Id<DdiProvider>> {
        self.trunks.board.load().sources.get(&source.to_canonical()).copied().flatten()
    }
}

fn has_trunks(places: &[Place]) -> bool {
    places.iter().any(|place| place.trunk.is_some())
}

fn trunk_listener(
    places: &[Place],
    trunk: Option<Id<ProxyTrunk>>,
    transport: Transport,
    is_ipv6: bool,
) -> Option<u16> {
    let of = |fits: &dyn Fn(Option<Id<ProxyTrunk>>) -> bool| {
        let found = places.iter().position(|place| {
            place.transport == transport && place.local.is_ipv6() == is_ipv6 && fits(place.trunk)
        });
        found.and_then(|index| u16::try_from(index).ok())
    };
    if !has_trunks(places) {
        return of(&|_| true);
    }
    of(&|of| of.is_some() && of == trunk)
        .or_else(|| of(&|of| of == Some(MAIN_TRUNK)))
        .or_else(|| of(&|of| of.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Listener;

    /// Listeners as `TRANSPORT ADDRESS [TRUNK]`.
    fn places(lines: &[&str]) -> Vec<Place> {
        let place = |line: &&str| {
            let words: Vec<&str> = line.split(' ').collect();
            let bind = words[1].parse().unwrap();
            let trunk = words.get(2).map(|number| Id::new(number.parse().unwrap()));
            let listener =
                Listener { trunk, ..Listener::new(Transport::from_token(words[0]).unwrap(), bind) };
            Place::new(&listener, bind)
        };
        lines.iter().map(place).collect()
    }

    #[test]
    fn a_trunk_speaks_from_its_own_socket_else_the_main_one_else_any_and_from_the_users_only_where_there_is_none()
     {
        let users = ["udp 192.0.2.1:5060", "tcp 192.0.2.1:5060", "udp [2001:db8::1]:5060"];
        let trunks = ["udp 192.0.2.3:5060 3", "udp 192.0.2.2:5060 1", "tcp 192.0.2.4:5060 4"];
        let both: Vec<&str> = users.into_iter().chain(trunks).collect();
        for (lines, trunk, transport, is_ipv6, expected) in [
            (&both[..], Some(3), Transport::Udp, false, Some(3)),
            (&both, Some(1), Transport::Udp, false, Some(4)),
            (&both, Some(4), Transport::Udp, false, Some(4)),
            (&both, None, Transport::Udp, false, Some(4)),
            (&both, Some(1), Transport::Tcp, false, Some(5)),
            (&both, Some(1), Transport::Udp, true, None),
            (&both, Some(1), Transport::Tls, false, None),
            (&users, Some(1), Transport::Udp, false, Some(0)),
            (&users, None, Transport::Tcp, false, Some(1)),
            (&users, None, Transport::Udp, true, Some(2)),
            (&users, None, Transport::Tcp, true, None),
            (&both[3..4], Some(1), Transport::Udp, false, Some(0)),
        ] {
            let found = trunk_listener(&places(lines), trunk.map(Id::new), transport, is_ipv6);
            assert_eq!(found, expected, "{lines:?} {trunk:?} {transport:?} {is_ipv6}");
        }
    }

    #[test]
    fn a_carrier_is_green_yellow_or_red_by_its_servers() {
        use ServerState::{Down, Unknown, Up};
        for (states, colour) in [
            (&[][..], None),
            (&[Unknown], None),
            (&[Up, Unknown], Some(Colour::Green)),
            (&[Up, Up], Some(Colour::Green)),
            (&[Up, Down], Some(Colour::Yellow)),
            (&[Down, Unknown], Some(Colour::Red)),
            (&[Down, Down], Some(Colour::Red)),
        ] {
            let server = |(number, state): (u32, &ServerState)| ServerStatus {
                server: Id::new(number),
                carrier: Id::new(1),
                state: *state,
                since: 0,
                targets: Vec::new(),
            };
            let of_another = ServerStatus { carrier: Id::new(2), ..server((9, &Up)) };
            let mut servers: Vec<ServerStatus> = (1u32..).zip(states).map(server).collect();
            servers.push(of_another);
            let all = TrunkStates { servers, registrations: Vec::new() };
            assert_eq!(all.colour(Id::new(1)), colour, "{states:?}");
        }
    }
}
