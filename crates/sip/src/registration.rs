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
    /// The registrar has taken the name and the password once: a refusal is then more likely its trouble than ours.
    is_proven: bool,
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
            is_proven: false,
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
        self.is_proven = false;
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
        self.is_proven = true;
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

    /// The attempt has failed. `for_long`: it takes a human to mend it, unless it has gone well before.
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
            wait = if self.is_proven { wait } else { BACK_OFF_MAX };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::{ResponseDraft, serialize_response};
    use crate::flow::Transport;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    fn wish() -> Wish {
        Wish {
            registrar: "sip:provider.test".to_owned(),
            record: "sip:account@provider.test".to_owned(),
            contact: "sip:account@192.0.2.2:5060".to_owned(),
            login: Login::new("account", "secret"),
            realm: None,
            expires: None,
            user_agent: String::new(),
        }
    }

    fn spot(number: u8) -> Spot {
        Spot { transport: Transport::Udp, remote: SocketAddr::from(([203, 0, 113, number], 5060)) }
    }

    const MD5: &str = "WWW-Authenticate: Digest realm=\"provider\", nonce=\"n\", qop=\"auth\"";
    const CONTACT: &str = "Contact: <sip:account@192.0.2.2:5060>";

    /// A registrar's view of one registration: what goes out when, and what comes of the answers. The random numbers are zero.
    struct Story {
        registration: Registration,
        start: Instant,
        now: Instant,
        out: Option<Request>,
    }

    impl Story {
        fn of(wish: Wish, targets: &[u8]) -> Story {
            #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
            let start = Instant::now();
            let mut registration = Registration::new(wish, [5; 32], start);
            registration.set_targets(targets.iter().map(|number| spot(*number)).collect(), start);
            Story { registration, start, now: start, out: None }
        }

        /// Goes on to the next REGISTER; says when it was, where to, and these of its headers.
        fn sends(&mut self, headers: &[&str]) -> String {
            assert!(self.goes_on(), "nothing is due");
            let request = self.out.as_ref().unwrap();
            let values = headers.iter().map(|name| {
                let text =
                    String::from_utf8_lossy(request.draft.headers.get(name).unwrap_or(b"-")).into_owned();
                text.split(' ').next().unwrap_or_default().to_owned()
            });
            let at = (self.now - self.start).as_secs();
            let remote = request.spot.remote.ip().to_string();
            let all = [at.to_string(), remote[10..].to_owned()].into_iter().chain(values);
            all.collect::<Vec<_>>().join(" ")
        }

        /// The same; `false`: there is no next one.
        fn goes_on(&mut self) -> bool {
            while let Some(due) = self.registration.due() {
                self.now = self.now.max(due);
                self.out = self.registration.act(self.now);
                if self.out.is_some() {
                    return true;
                }
            }
            false
        }

        /// An answer to the REGISTER that is out; lines are headers.
        fn answers(&mut self, status: u16, lines: &[&str]) -> State {
            let request = self.out.take().expect("a REGISTER is out");
            let bytes = request.draft.serialize("SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK1");
            let request = Message::parse(bytes).unwrap();
            request.validate().unwrap();
            let mut draft = ResponseDraft::new(status);
            for line in lines {
                let (name, value) = line.split_once(": ").unwrap();
                draft.headers.push(name, value);
            }
            let source = SocketAddr::from(([192, 0, 2, 2], 5060));
            let answer = Message::parse(serialize_response(&request, source, &draft)).unwrap();
            self.registration.response(&answer, self.now, 0);
            self.registration.state()
        }

        fn silence(&mut self) -> State {
            self.out = None;
            self.now += Duration::from_secs(32);
            self.registration.unanswered(self.now, 0);
            self.registration.state()
        }
    }

    #[test]
    fn it_answers_the_challenge_and_refreshes_by_the_same_call_id_with_growing_cseq() {
        let mut story = Story::of(wish(), &[1]);
        assert_eq!(story.sends(&["CSeq", "Expires", "Authorization"]), "0 1 1 - -");
        let call_id = story.out.as_ref().unwrap().draft.headers.get("Call-ID").unwrap().to_vec();
        assert_eq!(story.answers(401, &[MD5]), State::Trying);
        assert_eq!(story.sends(&["CSeq", "Authorization"]), "0 1 2 Digest");
        assert_eq!(story.answers(200, &[&format!("{CONTACT};expires=600")]), State::Registered);
        assert_eq!(story.sends(&["CSeq", "Authorization"]), "450 1 3 Digest", "three quarters of 600 s");
        assert_eq!(story.out.as_ref().unwrap().draft.headers.get("Call-ID").unwrap(), call_id);
        // A new nonce after an accepted one is no refusal.
        assert_eq!(story.answers(401, &[MD5]), State::Registered);
        assert_eq!(story.sends(&["CSeq"]), "450 1 4");
        assert_eq!(story.answers(200, &[&format!("{CONTACT};expires=600")]), State::Registered);
        assert_eq!(story.sends(&["CSeq"]), "900 1 5");
    }

    #[test]
    fn what_the_answer_says_about_our_contact_is_how_long_it_holds() {
        for (asked, lines, granted) in [
            (None, &["Contact: <sip:account@192.0.2.2:5060>;expires=120"][..], 120),
            (Some(300), &["Contact: <sip:account@192.0.2.2:5060>;expires=120", "Expires: 900"], 120),
            (Some(300), &["Contact: <sip:account@192.0.2.2:5060>", "Expires: 240"], 240),
            (Some(300), &["Contact: <sip:account@192.0.2.2:5060>"], 300),
            (Some(300), &[], 300),
            (None, &[], 3600),
            // Somebody else's beside ours.
            (
                None,
                &[
                    "Contact: <sip:other@198.51.100.1>;expires=60",
                    "Contact: <sip:account@192.0.2.2:5060>;expires=90",
                ],
                90,
            ),
            // A registrar behind which contacts are rewritten: the only one is ours.
            (None, &["Contact: <sip:account@10.0.0.1:1024>;expires=77"], 77),
            (None, &["Contact: <sip:account@192.0.2.2>;expires=55"], 55),
            (None, &["Contact: <sip:account@192.0.2.2:5060>;expires=4294967295"], 86_400),
        ] {
            let mut story = Story::of(Wish { expires: asked, ..wish() }, &[1]);
            story.sends(&[]);
            assert_eq!(story.answers(200, lines), State::Registered, "{lines:?}");
            let (until, at) = story.registration.held().unwrap();
            assert_eq!((until - story.now, at), (Duration::from_secs(granted), spot(1)), "{lines:?}");
        }
    }

    #[test]
    fn a_registrar_that_does_not_keep_the_contact_has_not_registered_it() {
        for lines in [
            &["Contact: <sip:account@192.0.2.2:5060>;expires=0"][..],
            &["Contact: <sip:a@198.51.100.1>", "Contact: <sip:b@198.51.100.1>"],
        ] {
            let mut story = Story::of(wish(), &[1]);
            story.sends(&[]);
            assert_eq!(story.answers(200, lines), State::Failed);
            assert_eq!(story.registration.problem(), Some(Problem::NotKept));
        }
    }

    #[test]
    fn too_brief_an_interval_is_made_longer_once_it_is_known_how_long() {
        let mut story = Story::of(Wish { expires: Some(60), ..wish() }, &[1]);
        assert_eq!(story.sends(&["Expires"]), "0 1 60");
        assert_eq!(story.answers(423, &["Min-Expires: 1800"]), State::Trying);
        assert_eq!(story.sends(&["Expires"]), "0 1 1800");
        assert_eq!(story.answers(200, &[CONTACT]), State::Registered);
        assert_eq!(story.sends(&["Expires"]), "1350 1 1800", "it is remembered");
        // One that is never content, or does not say with what, is a failure.
        story.answers(423, &["Min-Expires: 1800"]);
        assert_eq!(story.registration.problem(), Some(Problem::Status(423)));
        let mut story = Story::of(wish(), &[1]);
        story.sends(&[]);
        assert_eq!(story.answers(423, &[]), State::Failed);
    }

    #[test]
    fn silence_and_503_go_on_to_the_next_target_and_then_back_off() {
        let mut story = Story::of(wish(), &[1, 2, 3]);
        assert_eq!(story.sends(&[]), "0 1");
        assert_eq!(story.answers(503, &["Retry-After: 100"]), State::Trying);
        assert_eq!(story.sends(&[]), "0 2");
        assert_eq!(story.silence(), State::Trying);
        assert_eq!(story.sends(&[]), "32 3");
        assert_eq!(story.answers(500, &[]), State::Failed);
        assert_eq!(story.registration.problem(), Some(Problem::Status(500)));
        // What a registrar asked for counts, for all have failed.
        assert_eq!(story.sends(&[]), "132 1");
        for at in ["164 2", "196 3"] {
            story.silence();
            assert_eq!(story.sends(&[]), at);
        }
        story.silence();
        // RFC 5626 section 4.5: half of 30 * 2^2 at least.
        assert_eq!(story.sends(&[]), "288 1");
        assert_eq!(story.answers(200, &[CONTACT]), State::Registered);
        assert_eq!(story.registration.problem(), None);
    }

    #[test]
    fn what_is_held_is_refreshed_where_it_is_held_and_tried_again_before_it_runs_out() {
        let mut story = Story::of(wish(), &[1, 2]);
        story.sends(&[]);
        story.silence();
        assert_eq!(story.sends(&[]), "32 2");
        story.answers(200, &["Expires: 400"]);
        assert_eq!(story.sends(&[]), "332 2");
        assert_eq!(story.silence(), State::Registered);
        assert_eq!(story.sends(&[]), "364 1", "the other one");
        assert_eq!(story.silence(), State::Registered);
        assert_eq!(story.sends(&[]), "414 2", "36 s are left: after half of it, or a little more");
    }

    #[test]
    fn a_registration_that_is_not_refreshed_runs_out() {
        let mut story = Story::of(wish(), &[1]);
        story.sends(&[]);
        story.answers(200, &["Expires: 60"]);
        assert_eq!(story.sends(&[]), "45 1");
        assert_eq!(story.registration.due(), Some(story.start + Duration::from_secs(60)));
        story.now = story.start + Duration::from_secs(60);
        assert!(story.registration.act(story.now).is_none());
        assert_eq!((story.registration.state(), story.registration.held()), (State::Failed, None));
    }

    #[test]
    fn a_wrong_password_is_tried_twice_an_hour_and_no_more() {
        for refusal in [&[(401, &[MD5][..]), (401, &[MD5])][..], &[(403, &[])], &[(401, &[MD5]), (403, &[])]]
        {
            let mut story = Story::of(wish(), &[1, 2]);
            for (status, lines) in refusal {
                assert_eq!(story.sends(&[]), "0 1");
                story.answers(*status, lines);
            }
            assert_eq!(story.registration.state(), State::Failed);
            assert_eq!(story.registration.problem(), Some(Problem::Password));
            assert_eq!(story.sends(&["Authorization"]), "1800 1 -", "no old answer goes with it");
        }
    }

    #[test]
    fn a_password_that_was_right_is_tried_again_soon_and_then_less_and_less() {
        let mut story = Story::of(wish(), &[1]);
        story.sends(&[]);
        story.answers(200, &["Expires: 400"]);
        assert_eq!(story.sends(&[]), "300 1");
        assert_eq!(story.answers(403, &[]), State::Registered, "it is held still");
        let mut waits = Vec::new();
        for _ in 0..8 {
            let before = story.now;
            story.sends(&[]);
            waits.push((story.now - before).as_secs());
            story.answers(403, &[]);
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 900, 900, 900]);
        assert_eq!(story.registration.state(), State::Failed);
        assert_eq!(story.registration.problem(), Some(Problem::Password));
        // Another password has to prove itself.
        story.registration.change(Wish { login: Login::new("account", "other"), ..wish() }, story.now);
        let now = story.now;
        story.sends(&[]);
        story.answers(403, &[]);
        story.sends(&[]);
        assert_eq!(story.now - now, Duration::from_secs(1800));
    }

    /// RFC 3261 section 22.2, and the trap of providers that answer 407 to whoever they should know by address.
    #[test]
    fn challenges_that_cannot_be_answered_begin_no_loop() {
        let proxy = "Proxy-Authenticate: Digest realm=\"provider\", nonce=\"n\", qop=\"auth\"";
        let stale = "WWW-Authenticate: Digest realm=\"provider\", nonce=\"n\", qop=\"auth\", stale=true";
        let other = "WWW-Authenticate: Digest realm=\"other\", nonce=\"n\", qop=\"auth\"";
        let odd = "WWW-Authenticate: Digest realm=\"provider\", nonce=\"n\", algorithm=ROT13";
        let no_password = Wish { login: Login::new("account", ""), ..wish() };
        let of_realm = Wish { realm: Some("provider".to_owned()), ..wish() };
        for (wish, status, line, sent, problem) in [
            (no_password.clone(), 407, proxy, 1, Problem::Challenge),
            (no_password, 401, MD5, 1, Problem::Challenge),
            (of_realm.clone(), 401, other, 1, Problem::Challenge),
            (of_realm, 401, MD5, 2, Problem::Password),
            (wish(), 401, odd, 1, Problem::Challenge),
            (wish(), 407, proxy, 2, Problem::Password),
            (wish(), 401, stale, 5, Problem::Password),
        ] {
            let mut story = Story::of(wish, &[1]);
            let mut count = 0;
            while story.registration.problem().is_none() {
                story.sends(&[]);
                story.answers(status, &[line]);
                count += 1;
                assert!(count < 20, "{line}");
            }
            assert_eq!((count, story.registration.problem()), (sent, Some(problem)), "{line}");
        }
    }

    #[test]
    fn every_algorithm_is_answered() {
        for algorithm in ["MD5", "SHA-256", "SHA-512-256", "MD5-sess", "SHA-256-sess", "SHA-512-256-sess"] {
            let line = format!(
                "WWW-Authenticate: Digest realm=\"provider\", nonce=\"n\", qop=\"auth\", algorithm={algorithm}"
            );
            let mut story = Story::of(wish(), &[1]);
            story.sends(&[]);
            story.answers(401, &[&line]);
            story.sends(&[]);
            let sent = &story.out.as_ref().unwrap().draft.headers;
            let answer = String::from_utf8_lossy(sent.get("Authorization").unwrap()).into_owned();
            assert!(answer.contains(&format!("algorithm={algorithm}, ")), "{answer}");
        }
    }

    #[test]
    fn it_is_taken_back_by_expires_0_whatever_the_answer() {
        for (status, lines) in [(200, &[][..]), (403, &[]), (503, &[]), (423, &["Min-Expires: 60"])] {
            let mut story = Story::of(wish(), &[1]);
            story.sends(&[]);
            story.answers(200, &[CONTACT]);
            story.registration.leave(story.now);
            assert!(!story.registration.is_over());
            assert_eq!(story.sends(&["CSeq", "Expires", "Contact"]), "0 1 2 0 <sip:account@192.0.2.2:5060>");
            assert_eq!(story.answers(status, lines), State::Gone, "{status}");
            assert!(story.registration.is_over());
            assert_eq!(story.registration.due(), None);
        }
        // A challenge is answered.
        let mut story = Story::of(wish(), &[1]);
        story.sends(&[]);
        story.answers(200, &[CONTACT]);
        story.registration.leave(story.now);
        story.sends(&[]);
        story.answers(401, &[MD5]);
        assert_eq!(story.sends(&["Expires", "Authorization"]), "0 1 0 Digest");
        assert_eq!(story.answers(200, &[]), State::Gone);
    }

    #[test]
    fn what_was_not_registered_needs_no_taking_back_but_what_is_on_its_way_does() {
        let mut story = Story::of(wish(), &[1]);
        story.registration.leave(story.now);
        assert!(story.registration.is_over());
        let mut story = Story::of(wish(), &[1]);
        story.sends(&[]);
        story.registration.leave(story.now);
        assert!(!story.registration.is_over(), "its answer may come yet");
        story.answers(200, &[CONTACT]);
        assert_eq!(story.sends(&["Expires"]), "0 1 0");
        assert_eq!(story.answers(200, &[]), State::Gone);
    }

    #[test]
    fn without_an_address_it_waits_for_one_and_says_so() {
        let mut story = Story::of(wish(), &[]);
        assert_eq!(story.registration.due(), None);
        story.registration.is_nowhere(story.now);
        assert_eq!(story.registration.problem(), Some(Problem::Nowhere));
        story.now += Duration::from_secs(7);
        story.registration.set_targets(vec![spot(4)], story.now);
        assert_eq!(story.sends(&[]), "7 4");
        assert_eq!(story.answers(200, &[CONTACT]), State::Registered);
    }

    #[test]
    fn the_password_is_in_no_debug_output() {
        let story = Story::of(wish(), &[1]);
        assert!(!format!("{:?}", story.registration).contains("secret"));
    }

    proptest! {
        /// Whatever a registrar says, one that is kept always has something to do, and never sooner than it may; one that left ends.
        #[test]
        fn it_always_goes_on_and_does_not_hammer(
            events in proptest::collection::vec((0u8..9, any::<u32>()), 1..80),
            leaves_at in 0usize..120,
        ) {
            let mut story = Story::of(wish(), &[1, 2]);
            let mut sent_at: Vec<Instant> = Vec::new();
            for (number, (event, draw)) in events.into_iter().enumerate() {
                if number == leaves_at {
                    story.registration.leave(story.now);
                }
                if story.registration.is_over() {
                    break;
                }
                if story.out.is_none() {
                    if !story.goes_on() {
                        prop_assert!(story.registration.is_over());
                        break;
                    }
                    sent_at.push(story.now);
                }
                match event {
                    0 => { story.answers(200, &["Expires: 60"]); }
                    1 => { story.answers(401, &[MD5]); }
                    2 => { story.answers(423, &["Min-Expires: 120"]); }
                    3 => { story.answers(503, &["Retry-After: 10"]); }
                    4 => { story.answers(404, &[]); }
                    5 => { story.answers(200, &["Contact: <sip:account@192.0.2.2:5060>;expires=0"]); }
                    6 => { story.answers(302, &[]); }
                    _ => { story.silence(); }
                }
                story.now += Duration::from_millis(u64::from(draw % 100));
            }
            // Of an attempt there are a few at once; then there is a pause of some seconds.
            for window in sent_at.windows(13) {
                prop_assert!(window[12] - window[0] >= AGAIN_MIN - Duration::from_secs(1));
            }
        }
    }
}
