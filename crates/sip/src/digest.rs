//! Digest authentication (RFC 3261 section 22, RFC 7616, RFC 8760), both sides; RFC 2617 and RFC 2069 clients are served.
//!
//! In: header values, secrets, the time in Unix seconds and a key from the shell. Out: challenges and verdicts
//! ([`Verifier`]) or the Authorization value of a request ([`Client`]). This file holds the sums that both sides share.
//! Elsewhere: which user a request claims to be and what a failure costs the sender (crate `proxy`).

mod client;
mod counts;
mod params;
mod server;

pub use client::{Challenge, Client, Login, Unanswerable, answer};
pub use params::DigestError;
pub use server::{Config, Credentials, Verdict, Verifier};

use md5::Md5;
use sha2::digest::Digest;
use sha2::{Sha256, Sha512_256};
use std::fmt;

/// A hash function of the registry of RFC 7616 section 6.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    /// `MD5`: for telephones that know nothing better.
    Md5,
    /// `SHA-256`.
    Sha256,
    /// `SHA-512-256`: SHA-512/256 of FIPS 180-4, which is not SHA-512 cut short: the initial values differ. (The
    /// figures printed in RFC 7616 section 3.9.2 were made by cutting SHA-512 and are wrong.)
    Sha512_256,
}

impl Hash {
    /// Octets of a hash value.
    pub fn octets(self) -> usize {
        match self {
            Hash::Md5 => 16,
            Hash::Sha256 | Hash::Sha512_256 => 32,
        }
    }

    /// H(the parts, one after the other).
    fn digest(self, parts: &[&[u8]]) -> Value {
        #[cfg(test)]
        tests::DIGESTS.set(tests::DIGESTS.get() + 1);
        match self {
            Hash::Md5 => digest_with::<Md5>(parts),
            Hash::Sha256 => digest_with::<Sha256>(parts),
            Hash::Sha512_256 => digest_with::<Sha512_256>(parts),
        }
    }
}

/// The value of the `algorithm` parameter: a hash and whether H(A1) belongs to one session (RFC 7616 section 3.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Algorithm {
    /// The hash function.
    pub hash: Hash,
    /// The `-sess` form.
    pub session: bool,
}

impl Algorithm {
    /// `MD5`, also what a missing parameter means.
    pub const MD5: Algorithm = Algorithm { hash: Hash::Md5, session: false };
    /// `SHA-256`.
    pub const SHA_256: Algorithm = Algorithm { hash: Hash::Sha256, session: false };
    /// `SHA-512-256`.
    pub const SHA_512_256: Algorithm = Algorithm { hash: Hash::Sha512_256, session: false };

    const ALL: [Algorithm; 6] = [
        Algorithm::MD5,
        Algorithm::SHA_256,
        Algorithm::SHA_512_256,
        Algorithm { hash: Hash::Md5, session: true },
        Algorithm { hash: Hash::Sha256, session: true },
        Algorithm { hash: Hash::Sha512_256, session: true },
    ];

    /// The token as written.
    pub fn token(self) -> &'static str {
        match (self.hash, self.session) {
            (Hash::Md5, false) => "MD5",
            (Hash::Md5, true) => "MD5-sess",
            (Hash::Sha256, false) => "SHA-256",
            (Hash::Sha256, true) => "SHA-256-sess",
            (Hash::Sha512_256, false) => "SHA-512-256",
            (Hash::Sha512_256, true) => "SHA-512-256-sess",
        }
    }

    /// Reads the token, whatever its case.
    pub fn from_token(token: &[u8]) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|a| a.token().as_bytes().eq_ignore_ascii_case(token))
    }
}

/// Quality of protection (RFC 7616 section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Qop {
    /// `auth`: method and URI are covered.
    Auth,
    /// `auth-int`: the body as well.
    AuthInt,
}

impl Qop {
    /// The token as written.
    pub fn token(self) -> &'static str {
        match self {
            Qop::Auth => "auth",
            Qop::AuthInt => "auth-int",
        }
    }

    fn from_token(token: &[u8]) -> Option<Qop> {
        [Qop::Auth, Qop::AuthInt].into_iter().find(|q| q.token().as_bytes().eq_ignore_ascii_case(token))
    }
}

/// H(user ":" realm ":" password) of one hash function: all that a server needs of a password. Whoever reads it can log in
/// as the user: it never shows in `Debug`.
#[derive(Clone)]
pub struct Ha1 {
    hash: Hash,
    value: [u8; 32],
}

impl Ha1 {
    /// From the password; all three texts are UTF-8 and unquoted.
    pub fn new(hash: Hash, user: &str, realm: &str, password: &str) -> Ha1 {
        let parts: [&[u8]; 5] = [user.as_bytes(), b":", realm.as_bytes(), b":", password.as_bytes()];
        Ha1 { hash, value: hash.digest(&parts).bytes }
    }

    /// `None` when it is another hash function's.
    fn get(&self, hash: Hash) -> Option<&[u8]> {
        (self.hash == hash).then(|| &self.value[..hash.octets()])
    }
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ha1(secret)")
    }
}

/// Everything of one request that goes into its `response`, unquoted.
struct Sum<'a> {
    algorithm: Algorithm,
    nonce: &'a [u8],
    /// qop, nc (8 hex digits as written) and cnonce; `None` is the form of RFC 2069.
    protection: Option<(Qop, &'a [u8], &'a [u8])>,
    method: &'a [u8],
    uri: &'a [u8],
    body: &'a [u8],
}

impl Sum<'_> {
    /// The response of RFC 7616 section 3.4.1 (without qop: RFC 2617 section 3.2.2.1), from H(user:realm:password).
    fn response(&self, user_hash: &[u8]) -> Value {
        let hash = self.algorithm.hash;
        let mut ha1 = Hex::of(user_hash);
        if self.algorithm.session {
            let cnonce = self.protection.map_or(&b""[..], |(_, _, cnonce)| cnonce);
            ha1 = hash.digest(&[ha1.as_bytes(), b":", self.nonce, b":", cnonce]).hex();
        }
        let ha2 = match self.protection {
            Some((Qop::AuthInt, _, _)) => {
                let body = hash.digest(&[self.body]).hex();
                hash.digest(&[self.method, b":", self.uri, b":", body.as_bytes()]).hex()
            }
            Some((Qop::Auth, _, _)) | None => hash.digest(&[self.method, b":", self.uri]).hex(),
        };
        match self.protection {
            Some((qop, nc, cnonce)) => {
                let qop = qop.token().as_bytes();
                let parts = [ha1.as_bytes(), b":", self.nonce, b":", nc, b":", cnonce, b":", qop, b":"];
                let mut all: [&[u8]; 11] = [b""; 11];
                all[..10].copy_from_slice(&parts);
                all[10] = ha2.as_bytes();
                hash.digest(&all)
            }
            None => hash.digest(&[ha1.as_bytes(), b":", self.nonce, b":", ha2.as_bytes()]),
        }
    }
}

/// A hash value; `len` octets of `bytes` count.
struct Value {
    bytes: [u8; 32],
    len: usize,
}

impl Value {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn hex(&self) -> Hex {
        Hex::of(self.as_bytes())
    }
}

/// Lower-case hexadecimal text of a hash value (RFC 8760 section 2.2), on the stack.
struct Hex {
    text: [u8; 64],
    len: usize,
}

impl Hex {
    fn of(bytes: &[u8]) -> Hex {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = Hex { text: [0; 64], len: bytes.len() * 2 };
        for (pair, byte) in hex.text.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("hex digits are ASCII")
    }
}

/// Reads hexadecimal digits of either case; `None` for anything else or more than 32 octets.
fn from_hex(text: &[u8]) -> Option<Value> {
    let mut value = Value { bytes: [0; 32], len: text.len() / 2 };
    if !text.len().is_multiple_of(2) || value.len > value.bytes.len() {
        return None;
    }
    for (byte, pair) in value.bytes.iter_mut().zip(text.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(value)
}

fn digest_with<D: Digest>(parts: &[&[u8]]) -> Value {
    let mut hasher = D::new();
    for part in parts {
        hasher.update(part);
    }
    let out = hasher.finalize();
    let mut value = Value { bytes: [0; 32], len: out.len() };
    value.bytes[..out.len()].copy_from_slice(&out);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// Hash values made by this thread, for tests of equal work.
        pub(super) static DIGESTS: Cell<u32> = const { Cell::new(0) };
    }

    #[test]
    fn secrets_are_of_one_hash_function_and_stay_out_of_debug() {
        let secret = Ha1::new(Hash::Md5, "Mufasa", "testrealm@host.com", "Circle Of Life");
        let value = secret.get(Hash::Md5).unwrap();
        assert_eq!(Hex::of(value).as_str(), "939e7578ed9e3c518a452acee763bce9"); // RFC 2617 section 3.5
        assert!(secret.get(Hash::Sha256).is_none());
        assert_eq!(format!("{secret:?}"), "Ha1(secret)");
        assert!(!format!("{:?}", Login::new("u", "pa55")).contains("pa55"));
        assert!(!format!("{:?}", Client::new(Login::new("u", "pa55"), [0; 32])).contains("pa55"));
    }

    #[test]
    fn hex_is_read_in_either_case_and_nothing_else() {
        assert_eq!(from_hex(b"00fFaA").unwrap().as_bytes(), [0, 255, 170]);
        assert!(from_hex(b"0").is_none() && from_hex(b"0g").is_none() && from_hex(b"+1").is_none());
        assert!(from_hex(&[b'0'; 64]).is_some() && from_hex(&[b'0'; 66]).is_none());
    }

    #[test]
    fn tokens_are_read_whatever_their_case() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_token(algorithm.token().to_lowercase().as_bytes()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_token(b"SHA-512"), None);
        assert_eq!(Qop::from_token(b"AUTH-INT"), Some(Qop::AuthInt));
    }
}
