//! Passwords of people: hashed with argon2id, and those that another system hashed with bcrypt accepted.
//!
//! Hashing takes tens of milliseconds and megabytes on purpose: the caller runs it beside the request workers.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use model::define::SecretHasher;

/// Hashes with argon2id and the defaults of its library (OWASP's).
#[derive(Debug)]
pub struct Hasher;

impl SecretHasher for Hasher {
    fn hash(&self, password: &str) -> String {
        // Random salts do not fail on a system that runs at all; an empty hash lets nobody in.
        Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string()).unwrap_or_default()
    }
}

/// What a password is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is right.
    Right,
    /// It is right, and the hash is of an old kind: to be replaced.
    RightButOld,
    /// It is wrong.
    Wrong,
}

/// Compares a password with a stored hash.
pub(crate) fn verify(password: &str, hash: &str) -> Verdict {
    // bcrypt reads no further than 72 octets.
    const LONGEST: usize = 256;
    if password.is_empty() || password.len() > LONGEST {
        return Verdict::Wrong;
    }
    if hash.starts_with("$2") {
        return match bcrypt::verify(password, hash) {
            Ok(true) => Verdict::RightButOld,
            _ => Verdict::Wrong,
        };
    }
    let right = PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
    if right { Verdict::Right } else { Verdict::Wrong }
}

/// Takes as long as comparing does, so that an unknown name cannot be told from a wrong password by time.
pub(crate) fn pretend(password: &str) {
    let _ = Hasher.hash(password);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_hashes_are_accepted_and_the_old_one_is_told() {
        let new = Hasher.hash("hush");
        assert!(new.starts_with("$argon2id$"), "{new}");
        assert_eq!(verify("hush", &new), Verdict::Right);
        assert_eq!(verify("hash", &new), Verdict::Wrong);
        let old = bcrypt::hash("hush", 4).unwrap();
        assert_eq!(verify("hush", &old), Verdict::RightButOld);
        assert_eq!(verify("hash", &old), Verdict::Wrong);
        for nothing in ["", "hash of hush", "$2y$"] {
            assert_eq!(verify("hush", nothing), Verdict::Wrong);
            assert_eq!(verify("", nothing), Verdict::Wrong);
        }
    }
}
