//! Where a node's configuration is kept: a file of the data directory or PostgreSQL, and the key that seals its secrets.
//!
//! In: the section `[store]`, the files that it names, one variable of the environment. Out: what the store opens, or every
//! mistake by its key. Elsewhere: keeping it (`kept`).

use crate::config::{Mistake, NodeConfig, StoreConfig};
use crate::node::StartError;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use store::config::{ConfigError, ConfigPlace, PostgresPlace};
use tracing::warn;

/// The variable of the environment that has the database's password where no file is named.
const PASSWORD: &str = "CARILLON_STORE_PASSWORD";
/// The schema of our tables. Who wants two platforms on one server makes two databases.
const SCHEMA: &str = "carillon";
/// No file of passwords or certificates is longer.
const LONGEST: u64 = 1 << 20;

/// All that is wrong with the section.
pub(crate) fn mistakes(store: &StoreConfig) -> Vec<Mistake> {
    match &store.url {
        Some(url) => postgres(store, url).err().unwrap_or_default(),
        None => Vec::new(),
    }
}

/// Where the configuration is kept.
pub(crate) fn of(config: &NodeConfig) -> Result<ConfigPlace, StartError> {
    let Some(url) = &config.store.url else { return Ok(ConfigPlace::Directory(config.data.clone())) };
    let place = postgres(&config.store, url)
        .map_err(|mistakes| StartError(crate::config::list(&mistakes, "the configuration")))?;
    if place.is_open_to_a_network()? {
        warn!(
            url = place.shown()?,
            "whoever is on the way to the database reads along; write ?sslmode=require into store.url, and name store.ca_file"
        );
    }
    Ok(ConfigPlace::Postgres(place))
}

/// What to call that place, without passwords.
pub(crate) fn name(config: &NodeConfig) -> Result<String, StartError> {
    match &config.store.url {
        Some(url) => Ok(PostgresPlace::new(url, SCHEMA).shown()?),
        None => Ok(config.data.display().to_string()),
    }
}

/// [`name`] as this data directory notes it: what is in the directory itself goes where the directory goes.
pub(crate) fn mark(config: &NodeConfig) -> Result<String, StartError> {
    if config.store.url.is_some() { name(config) } else { Ok("seen".to_owned()) }
}

fn postgres(store: &StoreConfig, url: &str) -> Result<PostgresPlace, Vec<Mistake>> {
    let mut place = PostgresPlace::new(url, SCHEMA);
    // What cannot be read may be or contain a password, so it is not shown.
    let shown = place.shown().map_err(|error| vec![Mistake::new("store.url", "", &error.to_string())])?;
    let mut mistakes = Vec::new();
    if place.names_a_password().unwrap_or(false) {
        let remedy = format!(
            "take the password out: write it into a file and name that as store.password_file, or set {PASSWORD} in the environment"
        );
        mistakes.push(Mistake::new("store.url", &shown, &remedy));
    }
    match &store.password_file {
        Some(file) => match text(file) {
            Ok(password) => place = place.with_password(password.trim_end_matches(['\r', '\n'])),
            Err(error) => mistakes.push(unreadable("store.password_file", file, &error)),
        },
        None => {
            if let Ok(password) = std::env::var(PASSWORD) {
                place = place.with_password(password);
            }
        }
    }
    if let Some(file) = &store.ca_file {
        match text(file) {
            Ok(pem) => {
                let trusted = place.clone().trusting(pem);
                if let Err(error) = trusted.check() {
                    mistakes.push(Mistake::new(
                        "store.ca_file",
                        &file.display().to_string(),
                        &error.to_string(),
                    ));
                }
                place = trusted;
            }
            Err(error) => mistakes.push(unreadable("store.ca_file", file, &error)),
        }
    } else if let Err(error) = place.check() {
        let remedy = format!("{error}: store.ca_file = \"FILE\"");
        mistakes.push(Mistake::new("store.url", &shown, &remedy));
    }
    if mistakes.is_empty() { Ok(place) } else { Err(mistakes) }
}

fn text(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

fn unreadable(key: &str, file: &Path, error: &std::io::Error) -> Mistake {
    Mistake::new(key, &file.display().to_string(), &format!("{error}; name a file that this user can read"))
}

/// The name of the file with the key, in the data directory.
pub(crate) const KEY_FILE: &str = "secret.key";

/// The key that seals what the platform must know itself.
pub(crate) struct Key {
    pub(crate) bytes: [u8; 32],
    file: PathBuf,
    /// It was drawn just now.
    is_new: bool,
}

impl Key {
    /// Reads the key, or draws one where there is none: a new store is sealed by it from then on.
    pub(crate) fn read_or_make(config: &NodeConfig) -> Result<Self, StartError> {
        Self::at(config.store.key_file.clone().unwrap_or_else(|| config.data.join(KEY_FILE)))
    }

    /// [`Key::read_or_make`] of this file.
    pub(crate) fn at(file: PathBuf) -> Result<Self, StartError> {
        let unusable = |error: &dyn std::fmt::Display| {
            StartError(format!(
                "store.key_file = {}: {error}; without this key the passwords of telephones cannot be read",
                file.display()
            ))
        };
        // One octet more shows that it is too long.
        let read = std::fs::File::open(&file).and_then(|opened| {
            let mut bytes = Vec::new();
            opened.take(33).read_to_end(&mut bytes).map(|_| bytes)
        });
        match read {
            Ok(bytes) => {
                let bytes = bytes.try_into().map_err(|_| unusable(&"it is not 32 octets long"))?;
                Ok(Self { bytes, file, is_new: false })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let bytes: [u8; 32] = rand::random();
                if let Some(directory) = file.parent() {
                    std::fs::create_dir_all(directory).map_err(|error| unusable(&error))?;
                }
                private(&file, &bytes).map_err(|error| unusable(&error))?;
                Ok(Self { bytes, file, is_new: true })
            }
            Err(error) => Err(unusable(&error)),
        }
    }

    /// Why a store did not open, by the key of the configuration that it is about. A key that was drawn for nothing is
    /// removed, so that nobody takes it for the right one.
    pub(crate) fn explain(
        &self,
        error: &ConfigError,
        config: &NodeConfig,
        place: &ConfigPlace,
    ) -> StartError {
        let StartError(text) = StartError::new(error);
        let shown = match place {
            ConfigPlace::Postgres(place) => place.shown().unwrap_or_default(),
            ConfigPlace::Directory(data) => data.display().to_string(),
        };
        if matches!(error, ConfigError::WrongKey { .. } | ConfigError::UnknownKey { .. }) {
            if self.is_new {
                let _ = std::fs::remove_file(&self.file); // the next start finds it wrong then
            }
            let found = if self.is_new { "there is no such file" } else { "it is another key" };
            return StartError(format!(
                "store.key_file = {}: {found}, and the secrets in {shown} are sealed by the one of the node that began it; copy that \
                 node's file (secret.key in its data directory, where it names no other) to here",
                self.file.display()
            ));
        }
        if config.store.url.is_none() {
            return StartError(text);
        }
        let remedy = match error {
            ConfigError::Unavailable { .. } | ConfigError::OutcomeUnknown { .. } => {
                "start the database, or correct the address; remove url from [store] to keep the configuration in a file of node.data"
            }
            _ => {
                "see that the user may connect and make a schema there, and that the password is the one in store.password_file or \
                 CARILLON_STORE_PASSWORD"
            }
        };
        let mistake = Mistake::new("store.url", &shown, &format!("{text}; {remedy}"));
        StartError(mistake.to_string())
    }
}

/// A file that only its owner reads, whole or not there.
pub(crate) fn private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    fn faults(section: &str) -> Vec<String> {
        let text = format!("[sip]\nlisten = [\"udp:127.0.0.1:5060\"]\n[store]\n{section}\n");
        crate::config::read(&text).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_password_stands_in_no_address_and_is_never_shown() {
        assert_eq!(faults("url = \"postgresql://me@127.0.0.1/carillon\""), Vec::<String>::new());
        for url in ["postgresql://me:hush@127.0.0.1/carillon", "host=a user=me password=hush dbname=carillon"]
        {
            let listed = faults(&format!("url = \"{url}\""));
            assert_eq!(listed.len(), 1, "{listed:?}");
            assert!(
                listed[0].starts_with("store.url = postgresql://me@")
                    && listed[0].contains("store.password_file")
            );
            assert!(!listed[0].contains("hush"), "{}", listed[0]);
        }
        let listed = faults("url = \"postgresql://me:hush@127.0.0.1:none/carillon\"");
        assert!(listed[0].starts_with("store.url: ") && !listed[0].contains("hush"), "{listed:?}");
    }

    #[test]
    fn files_of_the_database_are_there_and_there_is_a_database() {
        let listed = faults("password_file = \"/nowhere/password\"\nca_file = \"/nowhere/ca.pem\"");
        assert_eq!(listed.len(), 2, "{listed:?}");
        assert!(listed.iter().all(|line| line.contains("store.url names none")), "{listed:?}");
        let listed = faults(
            "url = \"postgresql://me@a/b?sslmode=require\"\npassword_file = \"/nowhere/password\"\nca_file = \"/nowhere/ca.pem\"",
        );
        assert!(listed[0].starts_with("store.password_file = /nowhere/password: "), "{listed:?}");
        assert!(listed[1].starts_with("store.ca_file = /nowhere/ca.pem: "), "{listed:?}");
        let listed = faults("url = \"postgresql://me@a/b?sslmode=require\"");
        assert!(
            listed[0].starts_with("store.url = postgresql://me@a:5432/b: sslmode=require needs"),
            "{listed:?}"
        );
        assert!(listed[0].contains("store.ca_file"), "{listed:?}");
    }
}
