//! Passwords of people: hashed with argon2id, and those that another system hashed with bcrypt accepted.
//!
//! Hashing takes tens of milliseconds and megabytes on purpose: the caller runs it beside the request workers.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use model::define::SecretHasher;
use parking_lot::Mutex;

/// Passwords that are hashed or compared at the same time: each takes 19 MiB and a core.
pub(crate) const AT_ONCE: usize = 2;

/// Their memory, kept from one to the next: given back by changing threads, an allocator would keep it once for each of them.
static MEMORY: [Mutex<Vec<Block>>; AT_ONCE] = [const { Mutex::new(Vec::new()) }; AT_ONCE];

/// Hashes with argon2id and the defaults of its library (OWASP's).
#[derive(Debug)]
pub struct Hasher;

impl SecretHasher for Hasher {
    fn hash(&self, password: &str) -> String {
        // An empty hash lets nobody in.
        hash(password).unwrap_or_default()
    }
}

fn hash(password: &str) -> Option<String> {
    let (algorithm, version, params) = (Algorithm::default(), Version::default(), Params::default());
    let salt = Salt::new(&rand::random::<[u8; 16]>()).ok()?;
    let hash = PasswordHash {
        algorithm: algorithm.ident(),
        version: Some(version.into()),
        params: ParamsString::try_from(&params).ok()?,
        salt: Some(salt),
        hash: Some(output(algorithm, version, params, password, &salt, Params::DEFAULT_OUTPUT_LEN)?),
    };
    Some(hash.to_string())
}

fn output(
    algorithm: Algorithm,
    version: Version,
    params: Params,
    password: &str,
    salt: &[u8],
    length: usize,
) -> Option<Output> {
    let mut bytes = [0; Output::MAX_LENGTH];
    let bytes = bytes.get_mut(..length)?;
    let blocks = params.block_count();
    let argon = Argon2::new(algorithm, version, params);
    if blocks > Params::default().block_count() {
        // Another system's, of which there are few: nothing of that size is kept.
        argon.hash_password_into(password.as_bytes(), salt, bytes).ok()?;
    } else {
        let [first, second] = &MEMORY;
        let mut memory = first.try_lock().unwrap_or_else(|| second.lock());
        if memory.len() < blocks {
            memory.resize(blocks, Block::default());
        }
        let memory = memory.get_mut(..blocks)?;
        argon.hash_password_into_with_memory(password.as_bytes(), salt, bytes, memory).ok()?;
    }
    Output::new(bytes).ok()
}

/// Whether the password is the one of an argon2 hash, whatever its parameters.
fn is_right(password: &str, hash: &str) -> Option<bool> {
    let hash = PasswordHash::new(hash).ok()?;
    let (salt, wanted) = (hash.salt?, hash.hash?);
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
    let params = Params::try_from(&hash).ok()?;
    // Outputs are compared in constant time.
    Some(output(algorithm, version, params, password, &salt, wanted.len())? == wanted)
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
    let right = is_right(password, hash).unwrap_or(false);
    if right { Verdict::Right } else { Verdict::Wrong }
}

/// Takes as long as comparing does, so that an unknown name cannot be told from a wrong password by time.
pub(crate) fn pretend(password: &str) {
    let _ = Hasher.hash(password);
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};

    #[test]
    fn hashes_are_those_of_the_library_whatever_their_parameters() {
        let own = Hasher.hash("hush");
        assert!(Argon2::default().verify_password(b"hush", own.as_str()).is_ok(), "{own}");
        assert_ne!(own, Hasher.hash("hush"), "each has a salt of its own");
        let defaults = Params::default();
        for (memory, rounds, lanes, length) in
            [(64, 1, 1, 16), (2 * defaults.m_cost(), 1, 2, 32), (256, 3, 4, 64)]
        {
            let params = Params::new(memory, rounds, lanes, Some(length)).unwrap();
            for algorithm in [Algorithm::Argon2id, Algorithm::Argon2i, Algorithm::Argon2d] {
                let other = Argon2::new(algorithm, Version::V0x13, params.clone());
                let hash = other.hash_password(b"hush").unwrap().to_string();
                assert_eq!(verify("hush", &hash), Verdict::Right, "{hash}");
                assert_eq!(verify("hash", &hash), Verdict::Wrong, "{hash}");
            }
        }
    }

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
