//! A data directory with a large client: endpoints, and users with extensions for some of them, made by the rules.
//!
//! In: how many. Out: a directory that `carillon serve` starts with, and who may log in. The server is not started here.

use api::Hasher;
use jiff::Timestamp;
use model::define::Password;
use model::draft::{Draft, Env};
use model::entities::{Administrator, Company, Extension, Terminal, User};
use model::id::Id;
use model::rows::Rows;
use model::rules::Refusal;
use model::seed;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use store::config::{ConfigOptions, ConfigPlace, ConfigStore, Keyring, Outcome};

/// The administrator of the client.
pub(crate) const ADMINISTRATOR: &str = "bench";
/// And the password.
pub(crate) const PASSWORD: &str = "bench-secret";

/// Endpoints of one commit.
const AT_ONCE: u32 = 10_000;
const FIRST_NAMES: [&str; 8] = ["Anna", "Ben", "Carla", "David", "Emma", "Frank", "Greta", "Henry"];
/// Extensions count from here.
const FIRST_EXTENSION: u32 = 10_000_000;

/// The terminal of another client; the demo's two come before.
pub(crate) const FOREIGN_TERMINAL: u32 = 3;

/// Makes the directory anew: the demo's brand and client with `endpoints` terminals more, the first `users` of them with a
/// user, an extension, and what follows from a user. Out: how many rows there are.
pub(crate) fn make(data: &Path, endpoints: u32, users: u32) -> io::Result<usize> {
    if data.exists() {
        std::fs::remove_dir_all(data)?;
    }
    std::fs::DirBuilder::new().mode(0o700).create(data)?;
    let key = [7; 32];
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(data.join("secret.key"))?;
    file.write_all(&key)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(fill(data, key, endpoints, users)).map_err(io::Error::other)
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn fill(data: &Path, key: [u8; 32], endpoints: u32, users: u32) -> Result<usize, Failure> {
    let keys = Keyring::new([("data".to_owned(), key)])?;
    let place = ConfigPlace::Directory(data.to_owned());
    let store = ConfigStore::open(ConfigOptions::new(place, keys)).await?;
    let random = || 4;
    let env =
        Env { now: Timestamp::now(), level: None, hasher: &Hasher, random: &random, is_over: &|| false };
    let (mut rows, changes) = seed::fresh(PASSWORD, true, &env)?;
    commit(&store, &mut rows, &changes).await?;
    let client = rows.each::<Company>().next().map(|client| client.id).ok_or("there is no client")?;
    rows = change(&store, &rows, &env, |draft| {
        let brand = draft.get(client).map(|client| client.brand);
        draft.create(Administrator {
            username: ADMINISTRATOR.to_owned(),
            pass: Password::from_hash(model::define::SecretHasher::hash(&Hasher, PASSWORD)),
            active: true,
            brand,
            company: Some(client),
            ..Administrator::default()
        })?;
        neighbour(draft, client)
    })
    .await?;
    for from in (0..endpoints).step_by(AT_ONCE as usize) {
        let until = endpoints.min(from + AT_ONCE);
        rows = change(&store, &rows, &env, |draft| {
            (from..until).try_for_each(|number| endpoint(draft, client, number, number < users))
        })
        .await?;
    }
    Ok(model::entities::TABLES.iter().map(|table| rows.count(table)).sum())
}

/// A client beside this one, with one terminal.
fn neighbour(draft: &mut Draft<'_>, client: Id<Company>) -> Result<(), Refusal> {
    let like = draft.get(client).ok_or(Refusal::Gone)?.clone();
    let company = draft.create(Company {
        name: "Neighbour".to_owned(),
        domain_users: Some("neighbour.example.com".to_owned()),
        brand: like.brand,
        kind: like.kind,
        country: like.country,
        transformation_rule_set: like.transformation_rule_set,
        ..Company::default()
    })?;
    draft.create(Terminal {
        company,
        name: "theirs".to_owned(),
        password: "ABCabc000+".into(),
        ..Terminal::default()
    })?;
    Ok(())
}

fn endpoint(draft: &mut Draft<'_>, company: Id<Company>, number: u32, has_user: bool) -> Result<(), Refusal> {
    let terminal = draft.create(Terminal {
        company,
        name: format!("phone{number}"),
        password: format!("ABCabc{number:07}+").as_str().into(),
        ..Terminal::default()
    })?;
    if !has_user {
        return Ok(());
    }
    let extension = draft.create(Extension {
        company,
        number: (FIRST_EXTENSION + number).to_string(),
        ..Extension::default()
    })?;
    let name = FIRST_NAMES[number as usize % FIRST_NAMES.len()];
    draft.create(User {
        company,
        name: name.to_owned(),
        lastname: format!("Tester{:06}", number.wrapping_mul(7919) % 1_000_000),
        terminal: Some(terminal),
        extension: Some(extension),
        ..User::default()
    })?;
    Ok(())
}

async fn change(
    store: &ConfigStore,
    rows: &Rows,
    env: &Env<'_>,
    make: impl FnOnce(&mut Draft<'_>) -> Result<(), Refusal>,
) -> Result<Rows, Failure> {
    let mut draft = Draft::new(rows, env);
    make(&mut draft)?;
    let (mut rows, changes) = draft.finish()?;
    commit(store, &mut rows, &changes).await?;
    Ok(rows)
}

async fn commit(
    store: &ConfigStore,
    rows: &mut Rows,
    changes: &[model::draft::Change],
) -> Result<(), Failure> {
    let who = serde_json::json!({ "level": "system", "name": "bench", "id": 0, "onBehalfOf": "" });
    match store.commit(rows.revision, changes, &who, Timestamp::now()).await? {
        Outcome::Done { revision, .. } => rows.revision = revision,
        Outcome::Conflict { head } => return Err(format!("the store is at revision {head}").into()),
    }
    Ok(())
}
