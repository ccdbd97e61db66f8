//! The client half of digest authentication (RFC 8760), independent of the product so that it checks the product too.

use md5::Md5;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// The hash that the generator prefers among the challenges it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// RFC 2617's.
    Md5,
    /// RFC 8760's.
    Sha256,
}

impl Algorithm {
    /// The token on the wire.
    pub(crate) fn token(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }

    fn hash(self, text: &str) -> String {
        let mut hex = String::with_capacity(64);
        let bytes: &[u8] = match self {
            Algorithm::Md5 => &Md5::digest(text),
            Algorithm::Sha256 => &Sha256::digest(text),
        };
        for byte in bytes {
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }
}

/// A parsed challenge.
pub(crate) struct Challenge<'a> {
    realm: &'a str,
    nonce: &'a str,
    opaque: Option<&'a str>,
    qop: bool,
    algorithm: Algorithm,
}

impl<'a> Challenge<'a> {
    /// Reads the value of WWW-Authenticate or Proxy-Authenticate; `None` when it is none of ours.
    pub(crate) fn parse(value: &'a str) -> Option<Challenge<'a>> {
        let mut rest = value.trim().strip_prefix("Digest ")?;
        let (mut realm, mut nonce, mut opaque, mut qop, mut algorithm) =
            (None, None, None, false, Algorithm::Md5);
        while let Some((name, after)) = rest.split_once('=') {
            let (value, next) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            match name.trim_matches([' ', ',', '\t']) {
                "realm" => realm = Some(value),
                "nonce" => nonce = Some(value),
                "opaque" => opaque = Some(value),
                "qop" => qop = value.split(',').any(|one| one.trim() == "auth"),
                "algorithm" if value.trim() == "SHA-256" => algorithm = Algorithm::Sha256,
                "algorithm" if value.trim() != "MD5" => return None,
                _ => {}
            }
            rest = next;
        }
        Some(Challenge { realm: realm?, nonce: nonce?, opaque, qop, algorithm })
    }

    /// The hash it asks for.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The credentials for it (RFC 7616 section 3.4).
    pub(crate) fn answer(&self, user: &str, secret: &str, method: &str, uri: &str) -> String {
        let Challenge { realm, nonce, .. } = self;
        let token = self.algorithm.token();
        let ha1 = self.algorithm.hash(&format!("{user}:{realm}:{secret}"));
        let ha2 = self.algorithm.hash(&format!("{method}:{uri}"));
        let cnonce = "6f2d1c";
        let response = if self.qop {
            self.algorithm.hash(&format!("{ha1}:{nonce}:00000001:{cnonce}:auth:{ha2}"))
        } else {
            self.algorithm.hash(&format!("{ha1}:{nonce}:{ha2}"))
        };
        let mut text = format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\", algorithm={token}"
        );
        if self.qop {
            let _ = write!(text, ", qop=auth, nc=00000001, cnonce=\"{cnonce}\"");
        }
        if let Some(opaque) = self.opaque {
            let _ = write!(text, ", opaque=\"{opaque}\"");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_whatever_its_order_and_answered_with_its_own_hash() {
        let challenge = Challenge::parse(
            r#"Digest qop="auth,auth-int", algorithm=SHA-256, nonce="n,1", realm="a b", opaque="o""#,
        )
        .unwrap();
        assert_eq!(challenge.algorithm(), Algorithm::Sha256);
        assert_eq!(
            (challenge.realm, challenge.nonce, challenge.opaque, challenge.qop),
            ("a b", "n,1", Some("o"), true)
        );
        assert!(challenge.answer("u", "s", "REGISTER", "sip:x").contains("qop=auth, nc=00000001"));
        assert!(Challenge::parse(r#"Digest realm="a", nonce="n", algorithm=SHA-512-256"#).is_none());
    }

    #[test]
    fn md5_without_qop_gives_the_published_response() {
        // RFC 2069 section 2.4 with the corrected digest of its erratum 749.
        let challenge = Challenge::parse(
            r#"Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#,
        );
        let answer = challenge.unwrap().answer("Mufasa", "CircleOfLife", "GET", "/dir/index.html");
        assert!(answer.contains("response=\"1949323746fe6a43ef61f9606e7febea\""), "{answer}");
    }
}
