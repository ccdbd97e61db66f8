//! The side that challenges: nonces that need no memory, credentials, the verdict over them.
//!
//! In: Authorization values, stored secrets, the time. Out: challenge values and verdicts. Elsewhere: which nonce counts
//! were used, the only state (`counts`); looking the user up, bans, 401 against 407 (crate `proxy`).

use super::counts::NonceCounts;
use super::params::{Params, push_quoted, put};
use super::{Algorithm, DigestError, Ha1, Qop, Sum, Value, from_hex};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use subtle::{Choice, ConstantTimeEq};

/// No more Authorization lines of one request are looked at.
const CREDENTIALS_MAX: usize = 16;
/// How far the clock may be set back while a nonce is on its way, in seconds.
const SKEW_SECS: u32 = 60;

/// How a [`Verifier`] challenges.
#[derive(Clone, Debug)]
pub struct Config {
    /// Challenges in order of preference (RFC 8760 section 2.3); credentials with another algorithm are malformed.
    pub algorithms: Vec<Algorithm>,
    /// Offer `qop="auth,auth-int"` instead of `auth` alone. Whoever sends `auth-int` unasked is believed all the same.
    pub auth_int: bool,
    /// Age in seconds at which a nonce becomes stale.
    pub lifetime_secs: u32,
    /// Of how many of the newest nonces to know whether they were used, which is what stops replays (RFC 7616 section
    /// 5.5). Each takes two bits, and older ones are stale: at more challenges a second than this number divided by the
    /// lifetime, nonces live shorter.
    pub window_nonces: usize,
    /// Of how many nonces that serve more than one request (`nc` above 1) to know which counts were used. Each takes 24
    /// octets. When there are more, the oldest serve no further request.
    pub reused_nonces: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            algorithms: vec![Algorithm::SHA_256, Algorithm::MD5],
            auth_int: false,
            // Long enough for a telephone to answer and to send its next few requests, short for a thief.
            lifetime_secs: 300,
            // 4 MiB, once they are used: half a million challenges a second still leave a telephone the 32 s in which its
            // transaction is alive (timer F), fifty thousand leave it the whole lifetime.
            window_nonces: 1 << 24,
            reused_nonces: 65_536,
        }
    }
}

/// Credentials of an Authorization or Proxy-Authorization header, unquoted, borrowed wherever nothing was escaped.
pub struct Credentials<'a> {
    username: Cow<'a, str>,
    realm: Cow<'a, str>,
    nonce: Cow<'a, [u8]>,
    uri: Cow<'a, [u8]>,
    algorithm: Algorithm,
    protection: Option<Protection<'a>>,
    response: Value,
}

/// The parameters that come with `qop`.
struct Protection<'a> {
    qop: Qop,
    /// `nc` as written, which is what is hashed, and as a number.
    nc: [u8; 8],
    count: u32,
    cnonce: Cow<'a, [u8]>,
}

impl<'a> Credentials<'a> {
    /// Reads one header value.
    ///
    /// # Errors
    /// Another scheme, or parameters that RFC 7616 section 3.4 calls for a 4xx answer.
    pub fn parse(value: &'a [u8]) -> Result<Credentials<'a>, DigestError> {
        let mut raw = Raw::default();
        raw.read(value)?;
        raw.finish()
    }

    /// The credentials for our realm among all values of a request; other schemes and other realms are for others, and so
    /// is what stands in them.
    ///
    /// # Errors
    /// A Digest value for our realm, or for none that can be seen, that cannot be read.
    pub fn for_realm(
        values: impl IntoIterator<Item = &'a [u8]>,
        realm: &str,
    ) -> Result<Option<Credentials<'a>>, DigestError> {
        for value in values.into_iter().take(CREDENTIALS_MAX) {
            let mut raw = Raw::default();
            let read = raw.read(value);
            let is_foreign = raw.realm.as_ref().is_some_and(|other| **other != *realm.as_bytes());
            if is_foreign || read == Err(DigestError::Scheme) {
                continue;
            }
            return read.and_then(|()| raw.finish()).map(Some);
        }
        Ok(None)
    }

    /// Who the sender claims to be.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The realm.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The `uri` parameter: what the response covers. It may differ from the Request-URI, but should name a resource
    /// that the server is willing to serve to this user (RFC 8760 section 2.6, item 6): the caller's rule.
    pub fn uri(&self) -> &[u8] {
        &self.uri
    }

    /// The algorithm that the client chose.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The quality of protection; `None` is a client of RFC 2069.
    pub fn qop(&self) -> Option<Qop> {
        self.protection.as_ref().map(|p| p.qop)
    }
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nonce and response stay out: with them anyone can try passwords at home.
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("realm", &self.realm)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// What to answer to a request with credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The sender knows the password.
    Ok,
    /// Right password, but the nonce is too old, not ours or forgotten: challenge again with `stale=true`.
    Stale,
    /// Right password, but this nonce count was used before: a replay, or a client that does not count. Challenge again
    /// with `stale=true`; an honest client recovers.
    Replay,
    /// Wrong password or unknown user: challenge again, count it against the sender.
    Wrong,
    /// Credentials that answer no challenge of ours; the text is for a 400 reason phrase.
    Malformed(&'static str),
}

/// Makes challenges and judges answers. Threads share one, so that a nonce serves at all of them and each use at one.
pub struct Verifier {
    cfg: Config,
    mac: Hmac<Sha256>,
    nobody: [u8; 32],
    /// Nonces issued so far: numbers them without a gap, which is what makes the window over them small.
    issued: AtomicU64,
    counts: NonceCounts,
}

impl Verifier {
    /// `key`: secret, from the operating system, and no other verifier's: a nonce of theirs has to be stale here, or it
    /// could be used once more.
    pub fn new(cfg: Config, key: [u8; 32]) -> Verifier {
        let mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
        let nobody = mac.clone().chain_update(b"nobody").finalize().into_bytes().into();
        let counts = NonceCounts::new(cfg.window_nonces, cfg.reused_nonces);
        Verifier { cfg, mac, nobody, issued: AtomicU64::new(0), counts }
    }

    /// The values of the WWW- or Proxy-Authenticate headers of one answer, in this order, one header each. `place` is
    /// where the answer goes, in any form: see [`Verifier::was_given_to`].
    pub fn challenge(&self, realm: &str, place: &[u8], now_unix: u64, stale: bool) -> Vec<String> {
        let sequence = self.issued.fetch_add(1, Ordering::Relaxed);
        let nonce = Nonce { issued: seconds(now_unix), sequence, place: self.place(place) };
        let text = nonce.seal(&self.mac, realm);
        let nonce = std::str::from_utf8(&text).expect("base64 is ASCII");
        let qop = if self.cfg.auth_int { "auth,auth-int" } else { "auth" };
        let challenge = |algorithm: &Algorithm| {
            let mut value = String::with_capacity(128 + realm.len());
            value.push_str("Digest realm=");
            push_quoted(&mut value, realm);
            value.push_str(", nonce=\"");
            value.push_str(nonce);
            value.push_str("\", algorithm=");
            value.push_str(algorithm.token());
            value.push_str(", qop=\"");
            value.push_str(qop);
            value.push('"');
            if stale {
                value.push_str(", stale=true");
            }
            value
        };
        self.cfg.algorithms.iter().map(challenge).collect()
    }

    /// Judges credentials that [`Credentials::for_realm`] found. `secret`: of the user, for the realm; `None` when there
    /// is no such user, which costs the same work and gives the same verdict as a wrong password. So does a secret for
    /// another hash function than that of the credentials.
    ///
    /// A right answer to a nonce that is too old or not ours (another key, a restart) is `Stale`, as RFC 2617 section
    /// 3.2.1 has it; a wrong one is `Wrong` whatever its nonce.
    pub fn verify(
        &self,
        credentials: &Credentials<'_>,
        method: &[u8],
        body: &[u8],
        secret: Option<&Ha1>,
        now_unix: u64,
    ) -> Verdict {
        if !self.cfg.algorithms.contains(&credentials.algorithm) {
            return Verdict::Malformed("algorithm not offered");
        }
        let hash = credentials.algorithm.hash;
        let secret = secret.and_then(|secret| secret.get(hash));
        let known = Choice::from(u8::from(secret.is_some()));
        let user_hash = secret.unwrap_or(&self.nobody[..hash.octets()]);
        let sum = Sum {
            algorithm: credentials.algorithm,
            nonce: &credentials.nonce,
            protection: credentials.protection.as_ref().map(|p| (p.qop, &p.nc[..], &p.cnonce[..])),
            method,
            uri: &credentials.uri,
            body,
        };
        let right = sum.response(user_hash).as_bytes().ct_eq(credentials.response.as_bytes());
        let nonce = Nonce::open(&credentials.nonce, &self.mac, &credentials.realm);
        if !bool::from(right & known) {
            return Verdict::Wrong;
        }
        let now = seconds(now_unix);
        let Some(nonce) = nonce.filter(|nonce| {
            now.saturating_sub(nonce.issued) <= self.cfg.lifetime_secs
                && nonce.issued.saturating_sub(now) <= SKEW_SECS
        }) else {
            return Verdict::Stale;
        };
        // Without a count a nonce serves once.
        let count = credentials.protection.as_ref().map_or(1, |p| p.count);
        let oldest_live = now.saturating_sub(self.cfg.lifetime_secs);
        self.counts.spend(nonce, count, oldest_live)
    }

    /// Whether credentials that were found right answer a challenge which went to this very place: their sender has then
    /// read there what we sent. Anybody who knows a password may answer with a nonce that he got elsewhere, and from an
    /// address that is not his.
    pub fn was_given_to(&self, credentials: &Credentials<'_>, place: &[u8]) -> bool {
        let nonce = Nonce::open(&credentials.nonce, &self.mac, &credentials.realm);
        nonce.is_some_and(|nonce| nonce.place == self.place(place))
    }

    fn place(&self, place: &[u8]) -> [u8; PLACE_OCTETS] {
        let full = self.mac.clone().chain_update(b"place").chain_update(place).finalize().into_bytes();
        std::array::from_fn(|at| full[at])
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("cfg", &self.cfg).finish_non_exhaustive()
    }
}

/// Parameters as they come by.
#[derive(Default)]
struct Raw<'a> {
    username: Option<Cow<'a, [u8]>>,
    username_ext: Option<Cow<'a, [u8]>>,
    realm: Option<Cow<'a, [u8]>>,
    nonce: Option<Cow<'a, [u8]>>,
    uri: Option<Cow<'a, [u8]>>,
    response: Option<Cow<'a, [u8]>>,
    algorithm: Option<Cow<'a, [u8]>>,
    qop: Option<Cow<'a, [u8]>>,
    nc: Option<Cow<'a, [u8]>>,
    cnonce: Option<Cow<'a, [u8]>>,
}

impl<'a> Raw<'a> {
    /// Takes the parameters of one header value, those beside a wrong one too.
    fn read(&mut self, value: &'a [u8]) -> Result<(), DigestError> {
        let mut params = Params::of(value)?;
        let mut read = Ok(());
        while let Some((name, value)) = params.next()? {
            read = read.and(self.take(name, value));
        }
        read
    }

    fn take(&mut self, name: &[u8], value: Cow<'a, [u8]>) -> Result<(), DigestError> {
        let mut lower = [0; 9];
        let Some(lower) = lower.get_mut(..name.len()) else { return Ok(()) };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let (known, slot) = match &*lower {
            b"username" => ("username", &mut self.username),
            b"username*" => ("username*", &mut self.username_ext),
            b"realm" => ("realm", &mut self.realm),
            b"nonce" => ("nonce", &mut self.nonce),
            b"uri" => ("uri", &mut self.uri),
            b"response" => ("response", &mut self.response),
            b"algorithm" => ("algorithm", &mut self.algorithm),
            b"qop" => ("qop", &mut self.qop),
            b"nc" => ("nc", &mut self.nc),
            b"cnonce" => ("cnonce", &mut self.cnonce),
            _ => return Ok(()), // opaque, userhash and whatever is to come
        };
        put(slot, value, known)
    }

    fn finish(self) -> Result<Credentials<'a>, DigestError> {
        let username = match (self.username, self.username_ext) {
            (Some(plain), None) => utf8(plain, "username")?,
            (None, Some(extended)) => Cow::Owned(extended_value(&extended)?),
            (Some(_), Some(_)) => return Err(DigestError::Repeated("username")),
            (None, None) => return Err(DigestError::Missing("username")),
        };
        let algorithm = match self.algorithm {
            Some(token) => Algorithm::from_token(&token).ok_or(DigestError::Value("algorithm"))?,
            None => Algorithm::MD5,
        };
        let response = self.response.ok_or(DigestError::Missing("response"))?;
        let response = from_hex(&response)
            .filter(|value| value.len == algorithm.hash.octets())
            .ok_or(DigestError::Value("response"))?;
        let protection = match self.qop {
            Some(token) => {
                let qop = Qop::from_token(&token).ok_or(DigestError::Value("qop"))?;
                let (nc, count) = nonce_count(&self.nc.ok_or(DigestError::Missing("nc"))?)?;
                let cnonce = self.cnonce.ok_or(DigestError::Missing("cnonce"))?;
                Some(Protection { qop, nc, count, cnonce })
            }
            None if algorithm.session => return Err(DigestError::Missing("qop")), // RFC 3261 section 22.4, item 8
            None => None,
        };
        Ok(Credentials {
            username,
            realm: utf8(self.realm.ok_or(DigestError::Missing("realm"))?, "realm")?,
            nonce: self.nonce.ok_or(DigestError::Missing("nonce"))?,
            uri: self.uri.ok_or(DigestError::Missing("uri"))?,
            algorithm,
            protection,
            response,
        })
    }
}

/// `nc`: exactly eight hexadecimal digits (RFC 7616 section 3.5), counted from 1.
fn nonce_count(text: &[u8]) -> Result<([u8; 8], u32), DigestError> {
    let digits: [u8; 8] = text.try_into().map_err(|_| DigestError::Value("nc"))?;
    let value = from_hex(&digits).ok_or(DigestError::Value("nc"))?;
    let count = value.as_bytes().iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    if count == 0 { Err(DigestError::Value("nc")) } else { Ok((digits, count)) }
}

fn utf8<'a>(text: Cow<'a, [u8]>, name: &'static str) -> Result<Cow<'a, str>, DigestError> {
    match text {
        Cow::Borrowed(text) => {
            std::str::from_utf8(text).map(Cow::Borrowed).map_err(|_| DigestError::Value(name))
        }
        Cow::Owned(text) => String::from_utf8(text).map(Cow::Owned).map_err(|_| DigestError::Value(name)),
    }
}

/// The extended notation of `username*` (RFC 7616 section 3.4): `UTF-8''` and percent-encoded octets.
fn extended_value(text: &[u8]) -> Result<String, DigestError> {
    let bad = DigestError::Value("username*");
    let mut parts = text.splitn(3, |b| *b == b'\'');
    let (Some(charset), Some(_language), Some(mut rest)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(bad);
    };
    if !charset.eq_ignore_ascii_case(b"UTF-8") {
        return Err(bad);
    }
    let mut out = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        rest = if *first == b'%' {
            let (digits, tail) = tail.split_at_checked(2).ok_or(bad)?;
            out.extend_from_slice(from_hex(digits).ok_or(bad)?.as_bytes());
            tail
        } else {
            out.push(*first);
            tail
        };
    }
    String::from_utf8(out).map_err(|_| bad)
}

fn seconds(unix: u64) -> u32 {
    u32::try_from(unix).unwrap_or(u32::MAX)
}

/// What a nonce says: base64url of time of issue, sequence number, a mark of where it went, and a MAC over all and the realm.
#[derive(Clone, Copy)]
pub(super) struct Nonce {
    /// Unix time in seconds.
    pub(super) issued: u32,
    pub(super) sequence: u64,
    pub(super) place: [u8; PLACE_OCTETS],
}

/// Nobody tries out 2^48 places.
pub(super) const PLACE_OCTETS: usize = 6;
const TAG_AT: usize = 12 + PLACE_OCTETS;
const NONCE_OCTETS: usize = TAG_AT + 12;
const NONCE_TEXT: usize = NONCE_OCTETS / 3 * 4;

impl Nonce {
    fn seal(self, mac: &Hmac<Sha256>, realm: &str) -> [u8; NONCE_TEXT] {
        let mut octets = [0; NONCE_OCTETS];
        octets[..4].copy_from_slice(&self.issued.to_be_bytes());
        octets[4..12].copy_from_slice(&self.sequence.to_be_bytes());
        octets[12..TAG_AT].copy_from_slice(&self.place);
        let tag = Nonce::tag(&octets, mac, realm);
        octets[TAG_AT..].copy_from_slice(&tag);
        base64(&octets)
    }

    /// `None` when it is not ours.
    fn open(text: &[u8], mac: &Hmac<Sha256>, realm: &str) -> Option<Nonce> {
        let octets = from_base64(text)?;
        let tag = Nonce::tag(&octets, mac, realm);
        if !bool::from(tag.ct_eq(&octets[TAG_AT..])) {
            return None;
        }
        let issued = u32::from_be_bytes(octets[..4].try_into().ok()?);
        let sequence = u64::from_be_bytes(octets[4..12].try_into().ok()?);
        let place = octets[12..TAG_AT].try_into().ok()?;
        Some(Nonce { issued, sequence, place })
    }

    fn tag(octets: &[u8; NONCE_OCTETS], mac: &Hmac<Sha256>, realm: &str) -> [u8; 12] {
        let full =
            mac.clone().chain_update(b"nonce").chain_update(&octets[..TAG_AT]).chain_update(realm).finalize();
        let mut tag = [0; 12];
        tag.copy_from_slice(&full.into_bytes()[..12]);
        tag
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64(octets: &[u8; NONCE_OCTETS]) -> [u8; NONCE_TEXT] {
    let mut text = [0; NONCE_TEXT];
    for (four, three) in text.chunks_exact_mut(4).zip(octets.chunks_exact(3)) {
        let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        for (place, digit) in four.iter_mut().enumerate() {
            *digit = BASE64[(bits >> (18 - 6 * place) & 63) as usize];
        }
    }
    text
}

fn from_base64(text: &[u8]) -> Option<[u8; NONCE_OCTETS]> {
    if text.len() != NONCE_TEXT {
        return None;
    }
    let mut octets = [0; NONCE_OCTETS];
    for (three, four) in octets.chunks_exact_mut(3).zip(text.chunks_exact(4)) {
        let mut bits = 0u32;
        for digit in four {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        three.copy_from_slice(&bits.to_be_bytes()[1..]);
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::super::{Challenge, Hash, Login, answer};
    use super::*;
    use proptest::prelude::*;

    const REALM: &str = "users.example.com";
    const NOON: u64 = 1_700_000_000;
    const HERE: &[u8] = b"198.51.100.7:5060";

    fn verifier() -> Verifier {
        Verifier::new(Config::default(), [7; 32])
    }

    fn secret() -> Ha1 {
        Ha1::new(Hash::Md5, "alice", REALM, "zanzibar")
    }

    /// An answer to a challenge of `verifier`, the last (MD5) one.
    fn answered(challenge: &Challenge, password: &str, count: u32) -> String {
        answer(challenge, &Login::new("alice", password), "REGISTER", "sip:example.com", b"", count, "c0ffee")
    }

    fn challenge(verifier: &Verifier, now: u64) -> Challenge {
        Challenge::parse(verifier.challenge(REALM, HERE, now, false).last().unwrap().as_bytes()).unwrap()
    }

    fn judge(verifier: &Verifier, value: &str, now: u64) -> Verdict {
        let credentials = Credentials::parse(value.as_bytes()).unwrap();
        verifier.verify(&credentials, b"REGISTER", b"", Some(&secret()), now)
    }

    #[test]
    fn the_strongest_challenge_comes_first_and_says_what_rfc_8760_wants() {
        let verifier = verifier();
        let values = verifier.challenge("a \"b\"", HERE, NOON, true);
        assert_eq!(values.len(), 2);
        let first = Challenge::parse(values[0].as_bytes()).unwrap();
        assert_eq!(
            (first.realm.as_str(), first.algorithm, first.qop),
            ("a \"b\"", Algorithm::SHA_256, Some(Qop::Auth))
        );
        assert!(
            first.stale && values[0].contains("qop=\"auth\"") && values[0].contains("algorithm=SHA-256,")
        );
        assert!(!verifier.challenge(REALM, HERE, NOON, false)[1].contains("stale"));
    }

    #[test]
    fn right_password_passes_once_per_count_and_reordering_is_forgiven() {
        let verifier = verifier();
        let asked = challenge(&verifier, NOON);
        for (count, verdict) in [
            (1, Verdict::Ok),
            (1, Verdict::Replay),
            (5, Verdict::Ok),
            (3, Verdict::Ok),
            (3, Verdict::Replay),
            (5, Verdict::Replay),
            (4, Verdict::Ok),
            (200, Verdict::Ok),
            (137, Verdict::Ok),
            (136, Verdict::Replay), // 64 back: nobody knows
            (u32::MAX, Verdict::Ok),
            (200, Verdict::Replay),
        ] {
            assert_eq!(
                judge(&verifier, &answered(&asked, "zanzibar", count), NOON + 1),
                verdict,
                "count {count}"
            );
        }
    }

    #[test]
    fn a_nonce_tells_where_it_went_and_serves_elsewhere_all_the_same() {
        let verifier = verifier();
        let value = answered(&challenge(&verifier, NOON), "zanzibar", 1);
        assert_eq!(judge(&verifier, &value, NOON), Verdict::Ok);
        let credentials = Credentials::parse(value.as_bytes()).unwrap();
        assert!(verifier.was_given_to(&credentials, HERE));
        assert!(!verifier.was_given_to(&credentials, b"198.51.100.7:5061"));
        assert!(!Verifier::new(Config::default(), [8; 32]).was_given_to(&credentials, HERE));
    }

    #[test]
    fn without_a_count_a_nonce_serves_once() {
        let verifier = verifier();
        let asked = Challenge { qop: None, ..challenge(&verifier, NOON) };
        let value = answered(&asked, "zanzibar", 1);
        assert!(!value.contains("nc="));
        assert_eq!(judge(&verifier, &value, NOON), Verdict::Ok);
        assert_eq!(judge(&verifier, &value, NOON), Verdict::Replay);
    }

    #[test]
    fn a_nonce_ages_and_a_foreign_one_is_stale_but_only_for_who_knows_the_password() {
        let ours = verifier();
        let asked = challenge(&ours, NOON);
        assert_eq!(judge(&ours, &answered(&asked, "zanzibar", 1), NOON + 300), Verdict::Ok);
        assert_eq!(judge(&ours, &answered(&asked, "zanzibar", 2), NOON + 301), Verdict::Stale);
        assert_eq!(judge(&ours, &answered(&asked, "guess", 3), NOON + 301), Verdict::Wrong);
        assert_eq!(judge(&ours, &answered(&asked, "zanzibar", 4), NOON - 61), Verdict::Stale);

        let restarted = Verifier::new(Config::default(), [8; 32]);
        assert_eq!(judge(&restarted, &answered(&asked, "zanzibar", 5), NOON), Verdict::Stale);
        let mut forged = asked.clone();
        forged.nonce.replace_range(0..1, "B");
        assert_eq!(judge(&ours, &answered(&forged, "zanzibar", 6), NOON), Verdict::Stale);
        let elsewhere = ours.challenge("other.example.com", HERE, NOON, false);
        let nonce = Challenge::parse(elsewhere[1].as_bytes()).unwrap().nonce;
        assert_eq!(
            judge(&ours, &answered(&Challenge { nonce, ..asked }, "zanzibar", 7), NOON),
            Verdict::Stale
        );
    }

    #[test]
    fn unknown_user_wrong_password_and_other_method_are_all_wrong() {
        let verifier = verifier();
        let asked = challenge(&verifier, NOON);
        let value = answered(&asked, "zanzibar", 1);
        let credentials = Credentials::parse(value.as_bytes()).unwrap();
        assert_eq!(verifier.verify(&credentials, b"REGISTER", b"", None, NOON), Verdict::Wrong);
        assert_eq!(verifier.verify(&credentials, b"INVITE", b"", Some(&secret()), NOON), Verdict::Wrong);
        assert_eq!(judge(&verifier, &answered(&asked, "Zanzibar", 1), NOON), Verdict::Wrong);
        let mut other_uri = value.clone();
        other_uri = other_uri.replace("sip:example.com", "sip:example.org");
        assert_eq!(judge(&verifier, &other_uri, NOON), Verdict::Wrong);
        assert_eq!(judge(&verifier, &value, NOON), Verdict::Ok);
    }

    #[test]
    fn a_failure_takes_the_same_work_whatever_its_reason() {
        for algorithm in [Algorithm::SHA_256, Algorithm::MD5] {
            let verifier = verifier();
            let values = verifier.challenge("x", HERE, NOON, false);
            let asked: Vec<Challenge> =
                values.iter().map(|value| Challenge::parse(value.as_bytes()).unwrap()).collect();
            let asked = asked.into_iter().find(|each| each.algorithm == algorithm).unwrap();
            let work = |nonce: &str, secret: Option<&Ha1>| {
                let asked = Challenge { nonce: nonce.to_owned(), ..asked.clone() };
                let value = answered(&asked, "wrong", 1);
                let credentials = Credentials::parse(value.as_bytes()).unwrap();
                let before = crate::digest::tests::DIGESTS.get();
                assert_eq!(verifier.verify(&credentials, b"REGISTER", b"", secret, NOON), Verdict::Wrong);
                crate::digest::tests::DIGESTS.get() - before
            };
            let secret = Ha1::new(algorithm.hash, "alice", REALM, "zanzibar");
            let own = asked.nonce.clone();
            let counts =
                [(&*own, Some(&secret)), (&*own, None), ("foreign", Some(&secret)), ("foreign", None)]
                    .map(|(nonce, secret)| work(nonce, secret));
            assert_eq!(counts, [2; 4], "one of the request, one of the answer");
        }
    }

    #[test]
    fn even_the_dummy_secret_does_not_open_the_door() {
        let verifier = verifier();
        let asked = challenge(&verifier, NOON);
        let sum = Sum {
            algorithm: Algorithm::MD5,
            nonce: asked.nonce.as_bytes(),
            protection: Some((Qop::Auth, b"00000001", b"c0ffee")),
            method: b"REGISTER",
            uri: b"sip:example.com",
            body: b"",
        };
        let response = sum.response(&verifier.nobody[..16]).hex();
        let value = answered(&asked, "x", 1);
        let at = value.find("response=\"").unwrap() + 10;
        let value = [&value[..at], response.as_str(), &value[at + 32..]].concat();
        let credentials = Credentials::parse(value.as_bytes()).unwrap();
        assert_eq!(verifier.verify(&credentials, b"REGISTER", b"", None, NOON), Verdict::Wrong);
    }

    #[test]
    fn auth_int_covers_the_body() {
        let verifier = Verifier::new(Config { auth_int: true, ..Config::default() }, [7; 32]);
        let asked = Challenge { qop: Some(Qop::AuthInt), ..challenge(&verifier, NOON) };
        let login = Login::new("alice", "zanzibar");
        let value = answer(&asked, &login, "INVITE", "sip:b@example.com", b"v=0\r\n", 1, "c");
        let credentials = Credentials::parse(value.as_bytes()).unwrap();
        assert_eq!(
            verifier.verify(&credentials, b"INVITE", b"v=1\r\n", Some(&secret()), NOON),
            Verdict::Wrong
        );
        assert_eq!(verifier.verify(&credentials, b"INVITE", b"v=0\r\n", Some(&secret()), NOON), Verdict::Ok);
    }

    #[test]
    fn an_algorithm_that_was_not_offered_is_malformed() {
        let cfg = Config { algorithms: vec![Algorithm::SHA_256], ..Config::default() };
        let strict = Verifier::new(cfg, [7; 32]);
        let asked = Challenge { algorithm: Algorithm::MD5, ..challenge(&strict, NOON) };
        let verdict = judge(&strict, &answered(&asked, "zanzibar", 1), NOON);
        assert_eq!(verdict, Verdict::Malformed("algorithm not offered"));
    }

    #[test]
    fn what_is_wrong_in_credentials_for_another_realm_is_nothing_to_us() {
        let ours = br#"Digest username="alice", realm="r", nonce="n", uri="sip:a", response="00000000000000000000000000000000""#;
        for other in [
            r#"Digest username="x", realm="other", nonce="n", uri="sip:a", response="0", algorithm=AKAv1-MD5"#,
            r#"Digest username="x", realm="other", nonce="n", uri="sip:a", response="0""#,
            r#"Digest realm="other""#,
            r#"Digest username="x", username="y", realm="other""#,
            r#"Digest realm="other", x"#,
            "Digest realm=\"\u{fd}\"",
        ] {
            let found = Credentials::for_realm([other.as_bytes(), &ours[..]], "r").unwrap();
            assert_eq!(found.unwrap().username(), "alice", "{other}");
            assert!(Credentials::for_realm([other.as_bytes()], "r").unwrap().is_none(), "{other}");
        }
    }

    #[test]
    fn credentials_are_found_by_realm_and_defects_are_named() {
        let basic = b"Basic Zm9v".as_slice();
        let other = br#"Digest username="x", realm="other", nonce="n", uri="sip:a", response="00000000000000000000000000000000""#;
        let ours = br#"Digest username="alice", realm="r", nonce="n", uri="sip:a", response="00000000000000000000000000000000", qop="auth", nc="0000000a", cnonce="""#;
        let found = Credentials::for_realm([basic, other, ours], "r").unwrap().unwrap();
        assert_eq!((found.username(), found.uri(), found.qop()), ("alice", &b"sip:a"[..], Some(Qop::Auth)));
        assert!(Credentials::for_realm([basic, &other[..]], "r").unwrap().is_none());

        let whole = std::str::from_utf8(ours).unwrap();
        for (from, to, error) in [
            ("username=\"alice\", ", "", DigestError::Missing("username")),
            ("realm=\"r\", ", "", DigestError::Missing("realm")),
            ("nonce=\"n\", ", "", DigestError::Missing("nonce")),
            ("uri=\"sip:a\", ", "", DigestError::Missing("uri")),
            (", cnonce=\"\"", "", DigestError::Missing("cnonce")),
            (", nc=\"0000000a\"", "", DigestError::Missing("nc")),
            ("\"0000000a\"", "00000000", DigestError::Value("nc")),
            ("\"0000000a\"", "1", DigestError::Value("nc")),
            ("\"auth\"", "auth-conf", DigestError::Value("qop")),
            ("nonce=\"n\"", "nonce=\"n\", nonce=\"m\"", DigestError::Repeated("nonce")),
            ("nonce=\"n\"", "nonce=\"n\", algorithm=SHA-256", DigestError::Value("response")),
            ("nonce=\"n\"", "nonce=\"n\", algorithm=SHA1", DigestError::Value("algorithm")),
            ("nonce=\"n\"", "nonce=\"n\", username*=UTF-8''a", DigestError::Repeated("username")),
            ("username=\"alice\"", "username*=\"UTF-8''%4\"", DigestError::Value("username*")),
            ("username=\"alice\"", "username*=\"latin1''a\"", DigestError::Value("username*")),
        ] {
            let broken = whole.replace(from, to);
            assert_ne!(broken, whole);
            assert_eq!(Credentials::parse(broken.as_bytes()).unwrap_err(), error, "{broken}");
        }
        let extended = whole.replace("username=\"alice\"", "username*=UTF-8'de'J%C3%A4n");
        assert_eq!(Credentials::parse(extended.as_bytes()).unwrap().username(), "Jän");
        let session = whole.replace("qop=\"auth\", ", "algorithm=MD5-sess, ");
        assert_eq!(Credentials::parse(session.as_bytes()).unwrap_err(), DigestError::Missing("qop"));
    }

    proptest! {
        #[test]
        fn base64_round_trip(octets in any::<[u8; NONCE_OCTETS]>()) {
            prop_assert_eq!(from_base64(&base64(&octets)), Some(octets));
        }

        #[test]
        fn any_nonce_is_answered(nonce in prop::collection::vec(any::<u8>(), 0..40)) {
            let mac = Hmac::<Sha256>::new_from_slice(&[1; 32]).unwrap();
            prop_assert!(Nonce::open(&nonce, &mac, REALM).is_none());
        }
    }
}
