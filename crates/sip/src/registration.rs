//! One registration of ours with somebody else's registrar (RFC 3261 section 10.2): made, kept, and taken back.
//!
//! In: what to register, where the registrar is ([`Spot`]), responses, failures, time, random numbers. Out: REGISTERs, one deadline, how
//! it stands. Elsewhere: the transactions and the finding of the registrar (crate `proxy`), the other side (its registrar).

use crate::digest::{Challenge, Client, Login, Unanswerable};
use crate::draft::{HeaderText, RequestDraft};
use crate::locate::Spot;
use crate::msg::{HeaderId, Message, Method};
use crate::uri::Uri;
use bytes::Bytes;
use std::time::{Duration, Instant};

/// A registration is refreshed after so many percent of its time, or up to a tenth of that earlier, so that not all are at once.
const REFRESH_PERCENT: u32 = 75;
/// RFC 5626 section 4.5: the base time when nothing is registered, and the longest time between two attempts.
const BACK_OFF_BASE: Duration = Duration::from_secs(30);
/// After a wrong password, or where we are not let in, it is tried no more often than this: it takes a human to mend it.
const BACK_OFF_MAX: Duration = Duration::from_secs(1800);
/// What is still registered is tried again sooner, but never sooner than this.
const AGAIN_MIN: Duration = Duration::from_secs(5);
/// Challenges and the like that one attempt at one target may go through.
const ROUNDS_MAX: u32 = 6;
/// What a registrar may make us wait or ask for, in seconds; more becomes this.
const SECONDS_MAX: u32 = 86_400;
/// What we are content with where neither side says how long.
const EXPIRES_DEFAULT: u32 = 3600;

/// What is to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The Request-URI: the registrar's domain.
    pub registrar: String,
    /// The address-of-record, a URI: To and From.
    pub record: String,
    /// The Contact, a URI.
    pub contact: String,
    /// Name and password; without a password no challenge is answered.
    pub login: Login,
    /// The only realm that the password is for; `None`: any.
    pub realm: Option<String>,
    /// How long it shall hold, in seconds; `None`: the registrar decides.
    pub expires: Option<u32>,
    /// User-Agent; empty: none.
    pub user_agent: String,
}

impl Wish {
    /// Whether it is the same binding, so that one takes the other's place at the registrar.
    pub fn is_same_binding(&self, other: &Wish) -> bool {
        (&self.registrar, &self.record, &self.contact) == (&other.registrar, &other.record, &other.contact)
    }
}

/// A REGISTER to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// The request.
    pub draft: RequestDraft,
    /// Where to.
    pub spot: Spot,
}

/// How a registration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was not answered yet.
    Trying,
    /// The registrar holds it.
    Registered,
    /// It does not.
    Failed,
    /// It was taken back, or was never there.
    Gone,
}

/// Why a registration failed the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The registrar's name has no address that we can reach.
    #[error("the registrar has no address that can be reached; check the domain or the register server")]
    Nowhere,
    /// No target answered.
    #[error("the registrar does not answer")]
    Silence,
    /// The name or the password is wrong.
    #[error("the registrar refuses the name or the password; correct them")]
    Password,
    /// It asks for a password that there is none for.
    #[error(
        "the registrar wants to know a password by a realm or an algorithm that there is none for; look at realm and password"
    )]
    Challenge,
    /// Another refusal.
    #[error("the registrar answers {0}")]
    Status(u16),
    /// It said 200 and does not hold it.
    #[error("the registrar accepts and does not keep the contact")]
    NotKept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The next REGISTER goes out then.
    Due(Instant),
    /// An answer is awaited from there to a REGISTER that asked for so many seconds.
    Waiting(Spot, Option<u32>),
    /// There is nothing more to do.
    Over,
}

/// One registration.
#[derive(Debug)]
pub struct Registration {
    wish: Wish,
    call_id: String,
    from_tag: String,
    seed: [u8; 32],
    client: Client,
    cseq: u32,
    targets: Vec<Spot>,
    /// Which target is next, and how many of this attempt have failed.
    next: usize,
    tried: usize,
    rounds: u32,
    phase: Phase,
    /// Attempts in a row that failed at all targets.
    failures: u32,
    /// The longest time that a registrar of this attempt asked us to wait.
    patience: Duration,
    /// What a registrar said is the least.
    least: Option<u32>,
    /// Until when it holds, and where.
    held: Option<(Instant, Spot)>,
    leaves: bool,
    state: State,
    since: Instant,
    last_status: Option<u16>,
    problem: Option<Problem>,
}

impl Registration {
    /// One that begins at `first`. `seed` is unguessable; Call-ID and tag come from it, and stay (RFC 3261 section 10.2).
    pub fn new(wish: Wish, seed: [u8; 32], first: Instant) -> Registration {
        let text = |part: &[u8]| -> String { part.iter().map(|byte| format!("{byte:02x}")).collect() };
        let (call_id, from_tag) = (text(&seed[..12]), text(&seed[12..18]));
        let client = Client::new(wish.login.clone(), seed);
        Registration {
            wish,
            call_id,
            from_tag,
            seed,
            client,
            cseq: 0,
            targets: Vec::new(),
            next: 0,
            tried: 0,
            rounds: 0,
            phase: Phase::Due(first),
            failures: 0,
            patience: Duration::ZERO,
            least: None,
            held: None,
            leaves: false,
            state: State::Trying,
            since: first,
            last_status: None,
            problem: None,
        }
    }

    /// What is to be registered.
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// Other words for the same binding ([`Wish::is_same_binding`]): they are tried at once.
    pub fn change(&mut self, wish: Wish, now: Instant) {
        self.client = Client::new(wish.login.clone(), self.seed);
        self.wish = wish;
        self.least = None;
        self.begin();
        if let Phase::Due(_) = self.phase {
            self.phase = Phase::Due(now);
        }
    }

    /// Where the registrar is, the first to be tried first; empty: nowhere. What is held is refreshed where it is held.
    pub fn set_targets(&mut self, targets: Vec<Spot>, now: Instant) {
        if self.targets == targets {
            return;
        }
        let was_nowhere = self.targets.is_empty();
        self.targets = targets;
        self.begin();
        if was_nowhere && matches!(self.phase, Phase::Due(_)) && self.held.is_none() {
            self.phase = Phase::Due(now);
        }
    }

    /// The registrar cannot be found.
    pub fn is_nowhere(&mut self, now: Instant) {
        if self.state == State::Trying {
            self.turn(State::Failed, now);
        }
        if self.state == State::Failed {
            self.problem = Some(Problem::Nowhere);
        }
    }

    /// Takes it back (RFC 3261 section 10.2.2); nothing more is registered after that.
    pub fn leave(&mut self, now: Instant) {
        self.leaves = true;
        if let Phase::Due(_) = self.phase {
            match self.held {
                Some(_) => {
                    self.begin();
                    self.phase = Phase::Due(now);
                }
                None => self.end(now),
            }
        }
    }

    /// There is nothing more to do for one that left.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// How it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when it stands so.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The status of the last final answer.
    pub fn last_status(&self) -> Option<u16> {
        self.last_status
    }

    /// Why it failed the last time; none: it did not.
    pub fn problem(&self) -> Option<Problem> {
        self.problem
    }

    /// Until when the registrar holds it, and which one.
    pub fn held(&self) -> Option<(Instant, Spot)> {
        self.held
    }

    /// A REGISTER is on its way.
    pub fn is_in_progress(&self) -> bool {
        matches!(self.phase, Phase::Waiting(..))
    }

    /// When the next REGISTER is due.
    pub fn next_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Due(at) => Some(at),
            Phase::Waiting(..) | Phase::Over => None,
        }
    }

    /// When [`Registration::act`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        let runs_out = self.held.map(|(until, _)| until);
        let next = self.next_at().filter(|_| !self.targets.is_empty());
        [runs_out, next].into_iter().flatten().min()
    }

    /// Does what is due. Out: what to send.
    pub fn act(&mut self, now: Instant) -> Option<Request> {
        if self.held.is_some_and(|(until, _)| until <= now) {
            self.held = None;
            if self.leaves {
                self.end(now);
            } else if self.state == State::Registered {
                self.turn(State::Failed, now);
            }
        }
        let Phase::Due(at) = self.phase else { return None };
        if at > now || self.targets.is_empty() {
            return None;
        }
        let spot = self.targets[self.next % self.targets.len()];
        let expires = match (self.leaves, self.wish.expires, self.least) {
            (true, ..) => Some(0),
            (false, Some(wish), Some(least)) => Some(wish.max(least)),
            (false, wish, least) => wish.or(least),
        };
        self.cseq += 1;
        self.phase = Phase::Waiting(spot, expires);
        Some(Request { draft: self.draft(expires), spot })
    }

    fn draft(&mut self, expires: Option<u32>) -> RequestDraft {
        let Wish { registrar, record, contact, user_agent, .. } = &self.wish;
        let mut headers = HeaderText::new();
        headers.push("Max-Forwards", "70");
        headers.push_fmt("From", format_args!("<{record}>;tag={}", self.from_tag));
        headers.push_fmt("To", format_args!("<{record}>"));
        headers.push("Call-ID", &self.call_id);
        headers.push_fmt("CSeq", format_args!("{} REGISTER", self.cseq));
        headers.push_fmt("Contact", format_args!("<{contact}>"));
        if let Some(expires) = expires {
            headers.push_fmt("Expires", format_args!("{expires}"));
        }
        for (name, value) in self.client.headers("REGISTER", registrar, b"") {
            headers.push(name, value);
        }
        if !user_agent.is_empty() {
            headers.push("User-Agent", user_agent);
        }
        RequestDraft { method: Method::Register, uri: registrar.clone(), headers, body: Bytes::new() }
    }

    /// The response to the REGISTER that is out. `draw` is any random number.
    pub fn response(&mut self, msg: &Message, now: Instant, draw: u32) {
        let Phase::Waiting(spot, asked) = self.phase else { return };
        let status = msg.status();
        if status < 200 {
            return;
        }
        self.last_status = Some(status);
        self.rounds += 1;
        match status {
            200..=299 => self.accepted(msg, spot, asked, now, draw),
            401 | 407 if self.rounds < ROUNDS_MAX => match self.challenged(msg) {
                Ok(()) => self.phase = Phase::Due(now),
                Err(problem) => self.refused(problem, true, now, draw),
            },
            423 if self.rounds < ROUNDS_MAX => match msg.min_expires() {
                Some(least) if !self.leaves && asked.is_none_or(|asked| asked < least) => {
                    self.least = Some(least.min(SECONDS_MAX));
                    self.phase = Phase::Due(now);
                }
                _ => self.refused(Problem::Status(status), false, now, draw),
            },
            401 | 403 | 407 => self.refused(Problem::Password, true, now, draw),
            408 | 500 | 503 | 504 => {
                let wait = msg.retry_after().map_or(0, |after| after.secs.min(SECONDS_MAX));
                self.patience = self.patience.max(Duration::from_secs(wait.into()));
                self.missed(Problem::Status(status), now, draw);
            }
            _ => self.refused(Problem::Status(status), false, now, draw),
        }
    }

    /// The REGISTER that is out got no answer, or could not be sent. `draw` is any random number.
    pub fn unanswered(&mut self, now: Instant, draw: u32) {
        if self.is_in_progress() {
            self.missed(Problem::Silence, now, draw);
        }
    }

    fn challenged(&mut self, msg: &Message) -> Result<(), Problem> {
        if self.wish.login.password.is_empty() {
            return Err(Problem::Challenge);
        }
        let (id, is_proxy) = match msg.status() {
            407 => (HeaderId::ProxyAuthenticate, true),
            _ => (HeaderId::WwwAuthenticate, false),
        };
        let realm = self.wish.realm.as_deref();
        let is_for_us = |value: &&[u8]| match realm {
            Some(realm) => Challenge::parse(value).is_ok_and(|challenge| challenge.realm == realm),
            None => true,
        };
        let values: Vec<&[u8]> = msg.lines(id).filter(is_for_us).collect();
        self.client.challenged(is_proxy, values).map_err(|why| match why {
            Unanswerable::NoChallenge => Problem::Challenge,
            Unanswerable::Refused => Problem::Password,
        })
    }

    fn accepted(&mut self, msg: &Message, spot: Spot, asked: Option<u32>, now: Instant, draw: u32) {
        self.client.accepted();
        if asked == Some(0) {
            self.held = None;
            return self.end(now);
        }
        let granted = granted(msg, &self.wish.contact, asked).min(SECONDS_MAX);
        if granted == 0 {
            self.held = None;
            return self.refused(Problem::NotKept, false, now, draw);
        }
        let time = Duration::from_secs(granted.into());
        self.held = Some((now + time, spot));
        self.failures = 0;
        self.problem = None;
        self.turn(State::Registered, now);
        self.begin();
        let latest = time * REFRESH_PERCENT / 100;
        let earlier = part(latest / 10, draw);
        self.phase = Phase::Due(now + (latest - earlier).max(AGAIN_MIN.min(time)));
        if self.leaves {
            self.phase = Phase::Due(now);
        }
    }

    /// This target is of no use now: the next one, or, after all, a pause.
    fn missed(&mut self, problem: Problem, now: Instant, draw: u32) {
        self.tried += 1;
        self.rounds = 0;
        self.next += 1;
        if self.tried < self.targets.len() {
            self.phase = Phase::Due(now);
            return;
        }
        self.refused(problem, false, now, draw);
    }

    /// The attempt has failed. `for_long`: it takes a human to mend it.
    fn refused(&mut self, problem: Problem, for_long: bool, now: Instant, draw: u32) {
        self.problem = Some(problem);
        self.failures = self.failures.saturating_add(1);
        if self.leaves {
            return self.end(now);
        }
        // The credentials that were refused are no use for the next attempt.
        self.client = Client::new(self.wish.login.clone(), self.fresh_seed());
        let is_held = self.held.is_some_and(|(until, _)| until > now);
        if !is_held {
            self.turn(State::Failed, now);
        }
        let upper = BACK_OFF_BASE.saturating_mul(1 << self.failures.min(10)).min(BACK_OFF_MAX);
        let mut wait = upper / 2 + part(upper / 2, draw);
        if for_long {
            wait = BACK_OFF_MAX;
        } else if let Some((until, _)) = self.held.filter(|_| is_held) {
            wait = wait.min((until - now) / 2).max(AGAIN_MIN);
        }
        self.phase = Phase::Due(now + wait.max(self.patience));
        self.begin();
    }

    /// So that no two clients of one registration draw the same.
    fn fresh_seed(&mut self) -> [u8; 32] {
        for (byte, more) in self.seed[24..].iter_mut().zip(u64::from(self.cseq).to_be_bytes()) {
            *byte = byte.wrapping_add(more);
        }
        self.seed
    }

    /// The next REGISTER is the first of an attempt: it goes where the registration is held, else to the best target.
    fn begin(&mut self) {
        self.tried = 0;
        self.rounds = 0;
        self.patience = Duration::ZERO;
        let held = self.held.and_then(|(_, spot)| self.targets.iter().position(|target| *target == spot));
        self.next = held.unwrap_or(0);
    }

    fn end(&mut self, now: Instant) {
        self.phase = Phase::Over;
        self.held = None;
        self.turn(State::Gone, now);
    }

    fn turn(&mut self, state: State, now: Instant) {
        if self.state != state {
            self.state = state;
            self.since = now;
        }
    }
}

/// A random part of a time.
fn part(of: Duration, draw: u32) -> Duration {
    let millis = u64::try_from(of.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis.saturating_mul(u64::from(draw)) / u64::from(u32::MAX))
}

/// How long our contact is registered by a 200 (RFC 3261 section 10.2.4), in seconds. Registrars that rewrite contacts list one that
/// we do not know; where it is the only one it is ours.
fn granted(msg: &Message, contact: &str, asked: Option<u32>) -> u32 {
    let own = Uri::parse(contact.as_bytes());
    let contacts: Vec<_> = msg.contacts().filter_map(Result::ok).collect();
    let is_own = |uri: &[u8]| match (&own, Uri::parse(uri)) {
        (Ok(own), Ok(uri)) => own.equivalent(&uri) || (own.user == uri.user && own.host == uri.host),
        _ => false,
    };
    let ours = contacts.iter().find(|each| is_own(each.uri_raw)).or(match &contacts[..] {
        [one] => Some(one),
        _ => None,
    });
    let by_header = msg.expires().or(asked).unwrap_or(EXPIRES_DEFAULT);
    match ours {
        Some(ours) => ours.expires().unwrap_or(by_header),
        // It lists contacts, and none can be ours.
        None if contacts.len() > 1 => 0,
        None => by_header,
    }
}
