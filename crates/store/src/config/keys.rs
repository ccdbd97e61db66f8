//! Sealing of secrets: AES-256-GCM with a random nonce; entity, field and id are bound to the text.
//!
//! In: keys from the configuration, texts. Out: `sealed:<key>:<nonce, cipher text and tag in hex>`. Several keys are known,
//! so that they can be changed: the first one seals, all of them open. Elsewhere: which fields are secrets (crate `model`).

use super::error::ConfigError;
use super::token::{hex, unhex};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::collections::BTreeMap;
use std::fmt;

const PREFIX: &str = "sealed:";
const NAME_MAX: usize = 16;
/// What every store holds sealed by each key in use, to know the key again.
const CHECK: (&str, &str, u32) = ("Key", "check", 0);

/// The keys by which secrets are sealed.
pub struct Keyring {
    keys: Vec<(String, LessSafeKey)>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(name, _)| name)).finish()
    }
}

impl Keyring {
    /// The keys with their names, which are kept with what they seal. The first one seals, the others open what they
    /// sealed earlier.
    ///
    /// # Errors
    ///
    /// There is none, two have one name, or a name is not 1 to 16 letters, digits and hyphens.
    pub fn new(keys: impl IntoIterator<Item = (String, [u8; 32])>) -> Result<Self, ConfigError> {
        let mut known: Vec<(String, LessSafeKey)> = Vec::new();
        for (name, bytes) in keys {
            let right = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(right) {
                return Err(ConfigError::BadKeys(format!(
                    "the key name {name:?} is not 1 to 16 letters, digits and hyphens"
                )));
            }
            if known.iter().any(|(other, _)| *other == name) {
                return Err(ConfigError::BadKeys(format!("there are two keys named {name:?}")));
            }
            let key = UnboundKey::new(&AES_256_GCM, &bytes)
                .map_err(|_| ConfigError::BadKeys("a key has 32 octets".to_owned()))?;
            known.push((name, LessSafeKey::new(key)));
        }
        if known.is_empty() {
            return Err(ConfigError::BadKeys(
                "there is no key to seal secrets with; configure one".to_owned(),
            ));
        }
        Ok(Self { keys: known })
    }

    /// The name of the key that seals.
    pub(super) fn first(&self) -> &str {
        &self.keys[0].0
    }

    pub(super) fn seal(&self, entity: &str, field: &str, id: u32, text: &str) -> Result<String, ConfigError> {
        let (name, key) = &self.keys[0];
        let refused = |_| ConfigError::BadKeys("sealing a secret failed".to_owned());
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(refused)?;
        let mut bytes = text.as_bytes().to_vec();
        let bound = Aad::from(bound(entity, field, id));
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound, &mut bytes)
            .map_err(refused)?;
        Ok(format!("{PREFIX}{name}:{}{}", hex(&nonce), hex(&bytes)))
    }

    pub(super) fn open(
        &self,
        entity: &str,
        field: &str,
        id: u32,
        sealed: &str,
    ) -> Result<String, Unsealable> {
        let (name, text) =
            sealed.strip_prefix(PREFIX).and_then(|rest| rest.split_once(':')).ok_or(Unsealable::NotSealed)?;
        let (_, key) = self
            .keys
            .iter()
            .find(|(known, _)| known == name)
            .ok_or_else(|| Unsealable::UnknownKey(name.to_owned()))?;
        let bytes = unhex(text).ok_or(Unsealable::Forged)?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(Unsealable::Forged)?;
        let mut rest = rest.to_vec();
        let bound = Aad::from(bound(entity, field, id));
        let plain = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), bound, &mut rest)
            .map_err(|_| Unsealable::Forged)?;
        String::from_utf8(plain.to_vec()).map_err(|_| Unsealable::Forged)
    }

    /// What a new store notes of its keys.
    pub(super) fn check(&self) -> Result<(String, String), ConfigError> {
        let (entity, field, id) = CHECK;
        Ok((self.first().to_owned(), self.seal(entity, field, id, CHECK.0)?))
    }

    /// Whether all keys that a store noted are known and right.
    pub(super) fn knows(&self, noted: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        let (entity, field, id) = CHECK;
        for (name, check) in noted {
            match self.open(entity, field, id, check) {
                Ok(_) => {}
                Err(Unsealable::UnknownKey(_)) => return Err(ConfigError::UnknownKey { key: name.clone() }),
                Err(Unsealable::NotSealed | Unsealable::Forged) => {
                    return Err(ConfigError::WrongKey { key: name.clone() });
                }
            }
        }
        Ok(())
    }
}

/// Why a sealed text cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsealable {
    #[error("it is not sealed")]
    NotSealed,
    #[error("it is sealed by the key {0:?}, which is not configured; add it to the list of keys")]
    UnknownKey(String),
    #[error("its seal is broken: another row's, another key's, or damaged")]
    Forged,
}

fn bound(entity: &str, field: &str, id: u32) -> Vec<u8> {
    format!("{entity}\0{field}\0{id}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[(&str, u8)]) -> Keyring {
        Keyring::new(keys.iter().map(|(name, byte)| ((*name).to_owned(), [*byte; 32]))).unwrap()
    }

    #[test]
    fn a_secret_opens_at_its_own_place_only() {
        let ring = ring(&[("a", 1)]);
        let sealed = ring.seal("Terminal", "password", 7, "hush").unwrap();
        assert!(!sealed.contains("hush") && sealed.starts_with("sealed:a:"));
        assert_eq!(ring.open("Terminal", "password", 7, &sealed).unwrap(), "hush");
        for (entity, field, id) in
            [("Friend", "password", 7), ("Terminal", "name", 7), ("Terminal", "password", 8)]
        {
            assert_eq!(ring.open(entity, field, id, &sealed), Err(Unsealable::Forged));
        }
        assert_ne!(sealed, ring.seal("Terminal", "password", 7, "hush").unwrap(), "each nonce is new");
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let sealed = ring(&[("a", 1)]).seal("T", "p", 1, "").unwrap();
        let both = ring(&[("b", 2), ("a", 1)]);
        assert_eq!(both.open("T", "p", 1, &sealed).unwrap(), "");
        let again = both.seal("T", "p", 1, "x").unwrap();
        assert_eq!(ring(&[("a", 1)]).open("T", "p", 1, &again), Err(Unsealable::UnknownKey("b".to_owned())));
    }

    #[test]
    fn nonsense_is_refused() {
        let ring = ring(&[("a", 1)]);
        for nonsense in
            ["", "hush", "sealed:", "sealed:a:", "sealed:a:zz", "sealed:a:00", "sealed:a:é", "sealed:a:0"]
        {
            assert!(ring.open("T", "p", 1, nonsense).is_err(), "{nonsense}");
        }
        assert!(Keyring::new([]).is_err());
        assert!(Keyring::new([("a b".to_owned(), [0; 32])]).is_err());
        assert!(Keyring::new([("a".to_owned(), [0; 32]), ("a".to_owned(), [1; 32])]).is_err());
    }
}
