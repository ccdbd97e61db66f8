//! The side that answers challenges: credentials for one request at a time, nonce counts kept over many.
//!
//! In: WWW- and Proxy-Authenticate values, user name and password, a seed. Out: Authorization and Proxy-Authorization
//! values. Elsewhere: sending the request again with the next CSeq (`session`, or whoever sent it).

use super::params::{Params, push_quoted, put};
use super::{Algorithm, DigestError, Hash, Hex, Qop, Sum};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::borrow::Cow;
use std::fmt;

/// Realms that one client keeps answers for, and challenges read from one response.
const REALMS_MAX: usize = 8;

/// User name and password. The password does not show in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name in the realm.
    pub username: String,
    /// The password.
    pub password: String,
}

impl Login {
    /// From its two texts.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Login {
        Login { username: username.into(), password: password.into() }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// One challenge that we can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The realm, unquoted.
    pub realm: String,
    /// The nonce, unquoted.
    pub nonce: String,
    /// To be sent back unchanged.
    pub opaque: Option<String>,
    /// The algorithm to use.
    pub algorithm: Algorithm,
    /// The quality of protection that we choose from those offered; `None` when the server offers none (RFC 2069).
    pub qop: Option<Qop>,
    /// The password was right, the nonce was too old.
    pub stale: bool,
}

impl Challenge {
    /// Reads one header value.
    ///
    /// # Errors
    /// Another scheme, an algorithm or a quality of protection we do not know, a syntax error: ignore the challenge
    /// (RFC 8760 section 2.4).
    pub fn parse(value: &[u8]) -> Result<Challenge, DigestError> {
        let (mut realm, mut nonce, mut opaque, mut algorithm, mut qop, mut stale) =
            (None, None, None, None, None, None);
        let mut params = Params::of(value)?;
        while let Some((name, value)) = params.next()? {
            let slots = [
                ("realm", &mut realm),
                ("nonce", &mut nonce),
                ("opaque", &mut opaque),
                ("algorithm", &mut algorithm),
                ("qop", &mut qop),
                ("stale", &mut stale),
            ];
            for (known, slot) in slots {
                if known.as_bytes().eq_ignore_ascii_case(name) {
                    put(slot, value, known)?;
                    break;
                }
            }
        }
        let algorithm = match algorithm {
            Some(token) => Algorithm::from_token(&token).ok_or(DigestError::Value("algorithm"))?,
            None => Algorithm::MD5,
        };
        Ok(Challenge {
            realm: text(realm.ok_or(DigestError::Missing("realm"))?, "realm")?,
            nonce: text(nonce.ok_or(DigestError::Missing("nonce"))?, "nonce")?,
            opaque: opaque.map(|value| text(value, "opaque")).transpose()?,
            algorithm,
            qop: qop.map(|offered| choose(&offered)).transpose()?,
            stale: stale.is_some_and(|value| value.eq_ignore_ascii_case(b"true")),
        })
    }
}

/// The value of the Authorization header that answers `challenge`. `count` counts uses of the nonce from 1; `cnonce`
/// is ours, unguessable, and for a `-sess` algorithm the same as long as the nonce is.
pub fn answer(
    challenge: &Challenge,
    login: &Login,
    method: &str,
    uri: &str,
    body: &[u8],
    count: u32,
    cnonce: &str,
) -> String {
    let hash = challenge.algorithm.hash;
    let (user, realm) = (login.username.as_bytes(), challenge.realm.as_bytes());
    let user_hash = hash.digest(&[user, b":", realm, b":", login.password.as_bytes()]);
    let count = Hex::of(&count.to_be_bytes());
    let sum = Sum {
        algorithm: challenge.algorithm,
        nonce: challenge.nonce.as_bytes(),
        protection: challenge.qop.map(|qop| (qop, count.as_bytes(), cnonce.as_bytes())),
        method: method.as_bytes(),
        uri: uri.as_bytes(),
        body,
    };
    let response = sum.response(user_hash.as_bytes()).hex();

    let mut value = String::with_capacity(256);
    value.push_str("Digest username=");
    push_quoted(&mut value, &login.username);
    value.push_str(", realm=");
    push_quoted(&mut value, &challenge.realm);
    value.push_str(", nonce=");
    push_quoted(&mut value, &challenge.nonce);
    value.push_str(", uri=");
    push_quoted(&mut value, uri);
    value.push_str(", response=\"");
    value.push_str(response.as_str());
    value.push_str("\", algorithm=");
    value.push_str(challenge.algorithm.token());
    if let Some(qop) = challenge.qop {
        value.push_str(", qop=");
        value.push_str(qop.token());
        value.push_str(", nc=");
        value.push_str(count.as_str());
        value.push_str(", cnonce=");
        push_quoted(&mut value, cnonce);
    }
    if let Some(opaque) = &challenge.opaque {
        value.push_str(", opaque=");
        push_quoted(&mut value, opaque);
    }
    value
}

/// Why a 401 or 407 is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswerable {
    /// No Digest challenge with an algorithm that we know and accept.
    #[error("no challenge that can be answered")]
    NoChallenge,
    /// The server had our answer and does not call its nonce stale: the password or the user name is wrong.
    #[error("credentials refused")]
    Refused,
}

/// Answers challenges for one login over many requests.
pub struct Client {
    login: Login,
    refused: Vec<Hash>,
    mac: Hmac<Sha256>,
    drawn: u64,
    sessions: Vec<Session>,
}

/// An authentication session (RFC 7616 section 3.6).
struct Session {
    proxy: bool,
    challenge: Challenge,
    cnonce: String,
    /// Uses of this nonce so far.
    uses: u32,
    /// The server has accepted an answer to this nonce.
    proven: bool,
    /// Times in a row that the server called the nonce stale, to end a quarrel with a server that always does.
    stale: u32,
}

/// A server that says "stale" this often without accepting anything is not going to.
const STALE_MAX: u32 = 3;

impl Client {
    /// `seed`: unguessable; client nonces are drawn from it.
    pub fn new(login: Login, seed: [u8; 32]) -> Client {
        let mac = Hmac::<Sha256>::new_from_slice(&seed).expect("HMAC takes keys of any length");
        Client { login, refused: Vec::new(), mac, drawn: 0, sessions: Vec::new() }
    }

    /// Never answer challenges with this hash: the local policy of RFC 8760 section 2.4.
    pub fn refuse(mut self, hash: Hash) -> Client {
        self.refused.push(hash);
        self
    }

    /// Takes the challenges of one response: for each realm the topmost that we can answer (RFC 8760 section 2.4).
    /// `proxy`: they are from Proxy-Authenticate (407). Call once for each of the two headers when both are there.
    ///
    /// # Errors
    /// Sending again makes no sense.
    pub fn challenged<'v>(
        &mut self,
        proxy: bool,
        values: impl IntoIterator<Item = &'v [u8]>,
    ) -> Result<(), Unanswerable> {
        let mut new: Vec<Challenge> = Vec::new();
        for challenge in
            values.into_iter().take(4 * REALMS_MAX).filter_map(|value| Challenge::parse(value).ok())
        {
            let seen = new.iter().any(|other| other.realm == challenge.realm);
            if !seen && new.len() < REALMS_MAX && !self.refused.contains(&challenge.algorithm.hash) {
                new.push(challenge);
            }
        }
        if new.is_empty() {
            return Err(Unanswerable::NoChallenge);
        }
        for challenge in new {
            self.begin(proxy, challenge)?;
        }
        Ok(())
    }

    /// A request with our answers got past the challengers: from now on a new challenge means a new nonce, not a
    /// refusal, for some servers change nonces without calling the old one stale.
    pub fn accepted(&mut self) {
        for session in self.sessions.iter_mut().filter(|session| session.uses > 0) {
            session.proven = true;
        }
    }

    /// Header names and values to put into the next request, in the order in which the realms first challenged; none
    /// before the first challenge. Every call uses up a nonce count.
    pub fn headers(&mut self, method: &str, uri: &str, body: &[u8]) -> Vec<(&'static str, String)> {
        let login = &self.login;
        let header = |session: &mut Session| {
            session.uses = session.uses.saturating_add(1);
            let name = if session.proxy { "Proxy-Authorization" } else { "Authorization" };
            (name, answer(&session.challenge, login, method, uri, body, session.uses, &session.cnonce))
        };
        self.sessions.iter_mut().map(header).collect()
    }

    fn begin(&mut self, proxy: bool, challenge: Challenge) -> Result<(), Unanswerable> {
        let old = self.sessions.iter().position(|s| s.proxy == proxy && s.challenge.realm == challenge.realm);
        let mut stale = 0;
        if let Some(session) = old.map(|at| &self.sessions[at])
            && session.uses > 0
            && !session.proven
        {
            stale = session.stale + 1;
            if !challenge.stale || stale > STALE_MAX {
                return Err(Unanswerable::Refused);
            }
        }
        self.drawn += 1;
        let tag = self.mac.clone().chain_update(self.drawn.to_be_bytes()).finalize().into_bytes();
        let cnonce = Hex::of(&tag[..8]).as_str().to_owned();
        let session = Session { proxy, challenge, cnonce, uses: 0, proven: false, stale };
        match old {
            Some(at) => self.sessions[at] = session,
            None if self.sessions.len() < REALMS_MAX => self.sessions.push(session),
            None => return Err(Unanswerable::NoChallenge),
        }
        Ok(())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("login", &self.login).finish_non_exhaustive()
    }
}

/// `auth` when offered, else `auth-int`; unknown tokens are ignored (RFC 7616 section 3.3).
fn choose(offered: &[u8]) -> Result<Qop, DigestError> {
    let known = || offered.split(|b| *b == b',').filter_map(|token| Qop::from_token(token.trim_ascii()));
    known().find(|qop| *qop == Qop::Auth).or_else(|| known().next()).ok_or(DigestError::Value("qop"))
}

fn text(value: Cow<'_, [u8]>, name: &'static str) -> Result<String, DigestError> {
    String::from_utf8(value.into_owned()).map_err(|_| DigestError::Value(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &[u8] =
        br#"Digest realm="r", nonce="n1", algorithm=SHA-256, qop="auth,auth-int", opaque="op""#;
    const MD5: &[u8] = br#"Digest realm="r", nonce="n1", qop="auth""#;

    fn client() -> Client {
        Client::new(Login::new("alice", "zanzibar"), [3; 32])
    }

    fn one(client: &mut Client) -> String {
        let headers = client.headers("REGISTER", "sip:r", b"");
        assert_eq!(headers.len(), 1);
        headers.into_iter().next().unwrap().1
    }

    #[test]
    fn the_topmost_known_challenge_of_a_realm_is_answered_and_uses_are_counted() {
        let mut client = client();
        let unknown = br#"Digest realm="r", nonce="n0", algorithm=SHA3-256, qop="auth""#.as_slice();
        client.challenged(false, [unknown, b"Basic realm=\"r\"", SHA, MD5]).unwrap();
        let first = one(&mut client);
        assert!(
            first.contains("algorithm=SHA-256")
                && first.contains("nc=00000001")
                && first.contains("qop=auth,")
        );
        assert!(first.contains("opaque=\"op\"") && first.contains("uri=\"sip:r\""));
        assert!(one(&mut client).contains("nc=00000002"));
    }

    #[test]
    fn policy_may_refuse_a_hash() {
        assert_eq!(client().refuse(Hash::Md5).challenged(false, [MD5]), Err(Unanswerable::NoChallenge));
        let mut picky = client().refuse(Hash::Sha256);
        picky.challenged(false, [SHA, MD5]).unwrap();
        assert!(one(&mut picky).contains("algorithm=MD5"));
    }

    #[test]
    fn a_second_challenge_to_the_same_request_is_a_refusal_unless_stale() {
        let stale = br#"Digest realm="r", nonce="n2", qop="auth", stale=TRUE"#.as_slice();
        let mut client = client();
        client.challenged(false, [MD5]).unwrap();
        let _ = one(&mut client);
        client.challenged(false, [stale]).unwrap();
        assert!(one(&mut client).contains("nonce=\"n2\""));
        assert_eq!(client.challenged(false, [MD5]), Err(Unanswerable::Refused));
    }

    #[test]
    fn a_server_that_always_says_stale_is_given_up() {
        let stale = br#"Digest realm="r", nonce="n2", qop="auth", stale=true"#.as_slice();
        let mut client = client();
        let outcome = (0..10).map(|_| {
            let outcome = client.challenged(false, [stale]);
            let _ = client.headers("REGISTER", "sip:r", b"");
            outcome
        });
        assert_eq!(outcome.filter(Result::is_ok).count(), 1 + STALE_MAX as usize);
    }

    #[test]
    fn after_an_accepted_answer_a_new_nonce_is_no_refusal() {
        let mut client = client();
        client.challenged(false, [MD5]).unwrap();
        let first = one(&mut client);
        client.accepted();
        client.challenged(false, [MD5]).unwrap();
        let second = one(&mut client);
        assert!(second.contains("nc=00000001"));
        assert_ne!(first, second, "a new cnonce");
        assert_eq!(client.challenged(false, [MD5]), Err(Unanswerable::Refused));
    }

    #[test]
    fn realms_and_proxies_are_answered_side_by_side_up_to_a_bound() {
        let mut client = client();
        client.challenged(true, [br#"Digest realm="p", nonce="1", qop="auth""#.as_slice()]).unwrap();
        client.challenged(false, [MD5]).unwrap();
        let names: Vec<_> =
            client.headers("INVITE", "sip:b", b"").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Proxy-Authorization", "Authorization"]);
        let many: Vec<_> =
            (0..50).map(|n| format!("Digest realm=\"{n}\", nonce=\"1\"").into_bytes()).collect();
        let _ = client.challenged(false, many.iter().map(Vec::as_slice));
        assert_eq!(client.headers("INVITE", "sip:b", b"").len(), REALMS_MAX);
    }
}
