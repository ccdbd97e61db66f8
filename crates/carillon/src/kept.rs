//! The configuration of a node: opened, made when there is none, and kept in step with what others change.
//!
//! In: the data directory and its key. Out: the rows that everybody reads, each change durable before it is seen. Elsewhere:
//! keeping it (crate `store`), changing it (crate `api`).

use crate::apart::Apart;
use crate::config::{NodeConfig, list};
use crate::ctl::CONFIGURATION;
use crate::node::{StartError, Users, known_passwords};
use crate::place::{self, Key, private};
use api::Hasher;
use api::live::{
    History, Keeper, Live, LogAsk, LogPart, LogPlace, Logged, NotKept, RecordAnswer, RecordAsk, Turn, Who,
};
use async_trait::async_trait;
use jiff::Timestamp;
use model::define::Secret;
use model::define::choices::YesNo;
use model::define::{Kind, Record, Table};
use model::draft::{Change, Env};
use model::entities::{
    Administrator, Brand, Domain, Friend, FriendDirectConnectivity, ResidentialDevice, RetailAccount, TABLES,
    Terminal,
};
use model::import::differences;
use model::rows::{Row, Rows};
use model::{Aor, AorOwner, Configuration, Id, seed};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;
use store::config::{
    BackupSummary, Changes, ConfigError, ConfigOptions, ConfigPlace, ConfigStore, Keep, Keyring, LogCursor,
    LogQuery, LoggedChange, Outcome, OwnerFence, RecordQuery,
};
use tracing::{info, warn};

/// Changes that are read at once.
const AT_ONCE: usize = 1000;
/// Pages of the change log that are read for one question.
const LOG_PAGES: usize = 10;
/// A database that is away is waited for so long; then whoever wants something of it hears so.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often old entries of the change log are looked for.
const TRIM: Duration = Duration::from_secs(3600);
/// How often whoever does not do it looks whether he should.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Entries of the change log that are kept, however young they are: some ten gigabytes.
const MOST_REVISIONS: u64 = 10_000_000;
/// How often a start begins anew because another node's was quicker.
const STARTS: usize = 8;
/// Tables of a users' file.
const OF_USERS: [&str; 6] = ["User", "Extension", "Terminal", "Company", "Brand", "Domain"];

/// Keeps changes in the store.
pub(crate) struct Kept(pub(crate) Arc<ConfigStore>);

impl Kept {
    /// Writes all of it into a file while the node goes on.
    pub(crate) async fn backup(&self, path: &Path) -> Result<BackupSummary, ConfigError> {
        self.0.backup(path).await
    }
}

fn failed(error: &ConfigError) -> NotKept {
    if error.is_retryable() { NotKept::Away(error.to_string()) } else { NotKept::Store(error.to_string()) }
}

impl Kept {
    /// These rows brought to this revision at least, or to the head where that is less.
    async fn until(&self, rows: &Rows, revision: u64) -> Result<Rows, NotKept> {
        let mut rows = rows.clone();
        while rows.revision < revision {
            match self.0.changes_since(rows.revision, AT_ONCE).await.map_err(|error| failed(&error))? {
                Changes::Revisions(revisions) if revisions.is_empty() => break,
                Changes::Revisions(revisions) => {
                    revisions.iter().for_each(|revision| revision.apply(&mut rows))
                }
                Changes::Reload => return self.0.load().await.map_err(|error| failed(&error)),
            }
        }
        Ok(rows)
    }
}

#[async_trait]
impl Keeper for Kept {
    async fn keep(
        &self,
        rows: &Rows,
        _: Rows,
        changes: &[Change],
        who: &Who,
        now: Timestamp,
    ) -> Result<Rows, NotKept> {
        let token = store::config::Token::random();
        let mut left = 3;
        loop {
            match self.0.commit_as(token, rows.revision, changes, &who.document(), now).await {
                Ok(Outcome::Done { revision, .. }) => return self.until(rows, revision).await,
                Ok(Outcome::Conflict { .. }) => return Err(NotKept::Conflict),
                // It is never applied twice. What certainly failed was tried for long enough.
                Err(ConfigError::OutcomeUnknown { .. }) if left > 0 => left -= 1,
                Err(error) => return Err(failed(&error)),
            }
        }
    }

    async fn turn(&self) -> Result<Turn, NotKept> {
        self.0.turn().await.map(Turn::new).map_err(|error| failed(&error))
    }

    async fn newest(&self, rows: &Rows) -> Result<Rows, NotKept> {
        self.until(rows, u64::MAX).await
    }

    async fn records(&self, ask: &RecordAsk) -> Option<Result<RecordAnswer, NotKept>> {
        let query = RecordQuery {
            reference: ask.reference,
            text: ask.text.clone(),
            from: ask.from,
            until: ask.until,
            filter: ask.test.clone(),
            newest_first: ask.newest_first,
            offset: ask.offset,
            limit: ask.limit,
            ..RecordQuery::new(ask.table)
        };
        Some(records(&self.0, query).await.map_err(|error| failed(&error)))
    }

    async fn log(&self, ask: &LogAsk) -> Option<Result<LogPart, NotKept>> {
        Some(logged(&self.0, ask).await.map_err(|error| failed(&error)))
    }

    async fn history(&self, after: u64, most: usize) -> Option<Result<History, NotKept>> {
        Some(match self.0.changes_since(after, most).await {
            Ok(Changes::Revisions(revisions)) => {
                let each = revisions.into_iter().map(|revision| (revision.revision, revision.changes));
                Ok(History::Revisions(each.collect()))
            }
            Ok(Changes::Reload) => Ok(History::Forgotten),
            Err(error) => Err(failed(&error)),
        })
    }

    async fn record(&self, table: &'static Table, id: u32) -> Option<Result<Option<Row>, NotKept>> {
        Some(self.0.get(table, id).await.map_err(|error| failed(&error)))
    }
}

/// Records, also more than the store gives at once.
async fn records(store: &ConfigStore, query: RecordQuery) -> Result<RecordAnswer, ConfigError> {
    let mut rows = Vec::new();
    loop {
        let rest = RecordQuery {
            offset: query.offset.saturating_add(rows.len()),
            limit: query.limit.saturating_sub(rows.len()),
            ..query.clone()
        };
        let page = store.query(&rest).await?;
        let total = usize::try_from(page.total).unwrap_or(usize::MAX);
        let is_last =
            page.rows.is_empty() || query.offset.saturating_add(rows.len() + page.rows.len()) >= total;
        rows.extend(page.rows);
        if is_last || rows.len() >= query.limit {
            return Ok(RecordAnswer { rows, total });
        }
    }
}

async fn logged(store: &ConfigStore, ask: &LogAsk) -> Result<LogPart, ConfigError> {
    let mut query = LogQuery {
        entity: ask.entity.map(str::to_owned),
        id: ask.id,
        who: ask.who.clone(),
        after: ask.older_than.map(|LogPlace(revision, place)| LogCursor { revision, place }),
        ..LogQuery::default()
    };
    if let Some(from) = ask.from {
        query.from = Some(store.revision_at(from).await?);
    }
    if let Some(until) = ask.until {
        let Some(last) = store.revision_at(until).await?.checked_sub(1) else {
            return Ok(LogPart::default());
        };
        query.to = Some(last);
    }
    let mut found = LogPart::default();
    for _ in 0..LOG_PAGES {
        query.limit = ask.limit.saturating_sub(found.changes.len());
        let page = store.log(&query).await?;
        found.changes.extend(page.changes.into_iter().map(|change| {
            let LoggedChange { revision, place, time, who, entity, id, before, after, changed } = change;
            Logged { revision, place, time, who, entity, id, before, after, changed }
        }));
        found.next = page.next.map(|cursor| LogPlace(cursor.revision, cursor.place));
        query.after = page.next;
        if page.next.is_none() || found.changes.len() >= ask.limit {
            break;
        }
    }
    Ok(found)
}

/// Whether a node does what one node does for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Housekeeping {
    /// There are no others.
    Alone,
    /// It does; the store refuses it when another one has begun to.
    Ours(OwnerFence),
    /// Another one does.
    Anothers,
}

/// Forgets what is too old in the change log, now and from time to time, as long as the store is used and this node is the one who does so.
pub(crate) async fn keep_trimmed(
    store: Weak<ConfigStore>,
    age: Duration,
    who: impl Fn() -> Housekeeping + Send + Sync + 'static,
) {
    let mut pause = Duration::ZERO;
    loop {
        tokio::time::sleep(pause).await;
        let Some(store) = store.upgrade() else { return };
        let owner = match who() {
            Housekeeping::Alone => None,
            Housekeeping::Ours(owner) => Some(owner),
            Housekeeping::Anothers => {
                pause = LOOK_AGAIN;
                continue;
            }
        };
        pause = TRIM;
        match trim(&store, age, Timestamp::now(), owner).await {
            Ok(0) => {}
            Err(ConfigError::Fenced { .. }) => pause = LOOK_AGAIN,
            Ok(count) => {
                info!(count, "entries of the change log are older than store.keep_log_days and gone")
            }
            Err(error) => warn!(%error, "the change log is not trimmed; it is tried again in an hour"),
        }
    }
}

/// Forgets entries of the change log that are older than this; says how many.
pub(crate) async fn trim(
    store: &ConfigStore,
    age: Duration,
    now: Timestamp,
    owner: Option<OwnerFence>,
) -> Result<u64, ConfigError> {
    store.trim(Keep { revisions: MOST_REVISIONS, age }, now, owner).await
}

/// The configuration of a node that has just started.
pub(crate) struct Opened {
    /// What everybody reads and changes.
    pub(crate) live: Arc<Live>,
    /// Who keeps it.
    pub(crate) kept: Arc<Kept>,
    /// Endpoints whose account is not what it was at the revision that was asked about; none: nobody knows.
    pub(crate) changed: Option<Vec<Aor>>,
}

/// Opens the configuration, makes a fresh one when there is none, and puts the users' file in its place.
pub(crate) async fn open(
    config: &NodeConfig,
    users: Users,
    seen: Option<u64>,
    apart: &Apart,
) -> Result<Opened, StartError> {
    let place = place::of(config)?;
    let data = matches!(place, ConfigPlace::Directory(_)).then_some(config.data.as_path());
    if let Some(data) = data {
        must_be_there(data, seen)?;
    }
    let key = Key::read_or_make(config)?;
    let keys = Keyring::new([("data".to_owned(), key.bytes)])?;
    let mut options = ConfigOptions::new(place.clone(), keys);
    options.patience = PATIENCE;
    let store = ConfigStore::open(options).await.map_err(|error| key.explain(&error, config, &place))?;
    let name = place::name(config)?;
    let is_demo = matches!(users, Users::Demo);
    let rows = store.load().await?;
    if let (Some(data), Some(seen)) = (data, seen.filter(|_| rows.revision == 0)) {
        return Err(lost(data, &format!("it holds nothing, and this directory has had revision {seen}")));
    }
    let mut rows = if rows.revision == 0 { begin(&store, config, is_demo).await? } else { rows };
    if is_demo && !is_the_demos(&rows) {
        return Err(StartError(format!(
            "--data {name}: holds another configuration than the demo's; name a directory that does not exist yet, or leave out --data"
        )));
    }
    if let Users::From(users) = users {
        rows = settle(&store, rows, async |rows| put_users(&store, rows, &users).await).await?;
    }
    let holder = if config.store.url.is_some() { "store.url" } else { "node.data" };
    if let Some(mistake) = known_passwords(holder, &name, &rows, config) {
        return Err(StartError(list(&[mistake], "what the configuration's store holds")));
    }
    let changed = match seen {
        Some(seen) => changed_since(&store, seen, &rows).await?,
        None => None,
    };
    let head = store.head();
    let store = Arc::new(store);
    let kept = Arc::new(Kept(store));
    let live = Arc::new(Live::new(rows, Arc::clone(&kept) as _, Arc::new(Hasher)));
    let following = Arc::downgrade(&live);
    apart.spawn(async move {
        let mut head = head;
        while head.changed().await.is_ok() {
            let Some(live) = following.upgrade() else { return };
            let revision = *head.borrow_and_update();
            if let Err(error) = live.catch_up(revision).await {
                warn!(%error, "changes of the configuration are not read; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                head.mark_changed();
            }
        }
    });
    Ok(Opened { live, kept, changed })
}

/// A file that was lost or emptied is no reason to begin a new system in silence. `seen`: the revision that the directory's
/// journal has noted, none where no node was ever up here with its configuration in this file.
fn must_be_there(data: &Path, seen: Option<u64>) -> Result<(), StartError> {
    match (std::fs::metadata(data.join(CONFIGURATION)), seen) {
        (Ok(file), _) if file.len() == 0 => Err(lost(data, "the file is empty")),
        (Err(error), Some(seen)) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(lost(data, &format!("the file is gone, and this directory has had revision {seen}")))
        }
        _ => Ok(()), // what else may be wrong is told by whoever opens it
    }
}

fn lost(data: &Path, what: &str) -> StartError {
    let (file, shown) = (data.join(CONFIGURATION), data.display());
    StartError(format!(
        "{}: {what}, so the configuration is lost; put the file back, or move what is left of it away and restore a backup \
         (`carillon ctl --data {shown} restore FILE`), or one that `carillon ctl salvage` makes of a damaged copy; to begin anew with \
         nothing, move the rest of {shown} away, too",
        file.display()
    ))
}

/// The store in this directory, its secrets sealed by this key.
pub(crate) async fn open_store(directory: &Path, key: [u8; 32]) -> Result<ConfigStore, ConfigError> {
    let keys = Keyring::new([("data".to_owned(), key)])?;
    ConfigStore::open(ConfigOptions::new(ConfigPlace::Directory(directory.to_owned()), keys)).await
}

/// Makes a change at the start, on newer rows where another node was quicker.
async fn settle(
    store: &ConfigStore,
    rows: Rows,
    change: impl AsyncFn(Rows) -> Result<Option<Rows>, StartError>,
) -> Result<Rows, StartError> {
    let mut rows = rows;
    let mut _turn = None;
    for _ in 0..STARTS {
        match change(rows).await? {
            Some(kept) => return Ok(kept),
            None => {
                drop(_turn.take());
                _turn = Some(store.turn().await?);
                rows = store.load().await?;
            }
        }
    }
    Err(StartError(
        "others change this configuration all the time, so the users' file cannot be put in place; start again when they are done"
            .to_owned(),
    ))
}

/// What a fresh system holds; where another node was quicker, what that one made.
async fn begin(store: &ConfigStore, config: &NodeConfig, demo: bool) -> Result<Rows, StartError> {
    let password = if demo { seed::DEMO_PASSWORD.to_owned() } else { first_password() };
    let chosen = password.clone();
    let made = tokio::task::spawn_blocking(move || {
        let random = || rand::random::<u64>();
        let env =
            Env { now: Timestamp::now(), level: None, hasher: &Hasher, random: &random, is_over: &|| false };
        seed::fresh(&chosen, demo, &env)
    });
    let (rows, changes) = made.await??;
    let path = config.data.join(FIRST_PASSWORD);
    if !demo {
        private(&path, format!("{password}\n").as_bytes()).map_err(|error| {
            StartError(format!("{}: {error}; let the data directory be writable", path.display()))
        })?;
    }
    if let Some(rows) = commit(store, rows, &changes).await? {
        if !demo {
            info!(
                file = %path.display(), name = seed::FIRST_ADMINISTRATOR,
                "the password of the first administrator is in this file, which goes when the password is changed: change it"
            );
        }
        return Ok(rows);
    }
    if !demo {
        let _ = std::fs::remove_file(&path); // it opens nothing
    }
    Ok(store.load().await?)
}

/// The name of the file with the password that the first administrator begins with.
pub(crate) const FIRST_PASSWORD: &str = "first-password";

/// Removes the file with the first administrator's password when these changes make it an old one; quick.
pub(crate) fn forget_first_password(data: &Path, changes: &[Change]) {
    let is_old = changes.iter().any(|change| {
        let before = change.before.as_deref().and_then(|row: &dyn Record| row.cast::<Administrator>());
        let Some(before) = before.filter(|row| row.username == seed::FIRST_ADMINISTRATOR) else {
            return false;
        };
        let after = change.after.as_deref().and_then(|row| row.cast::<Administrator>());
        after.is_none_or(|after| after.pass.hash() != before.pass.hash())
    });
    if !is_old {
        return;
    }
    let path = data.join(FIRST_PASSWORD);
    match std::fs::remove_file(&path) {
        Ok(()) => {
            info!(file = %path.display(), "the first administrator has another password; its file is removed")
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            warn!(file = %path.display(), %error, "the first administrator's old password is still in this file; remove it")
        }
    }
}

fn first_password() -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    const LENGTH: usize = 20;
    let letter = |byte: u8| char::from(LETTERS[usize::from(byte) % LETTERS.len()]);
    rand::random::<[u8; LENGTH]>().into_iter().map(letter).collect()
}

/// None: another node's change came first.
async fn commit(store: &ConfigStore, rows: Rows, changes: &[Change]) -> Result<Option<Rows>, StartError> {
    if changes.is_empty() {
        return Ok(Some(rows));
    }
    match store.commit(rows.revision, changes, &Who::system().document(), Timestamp::now()).await? {
        Outcome::Done { .. } => Ok(Some(store.load().await?)),
        Outcome::Conflict { .. } => Ok(None),
    }
}

fn is_the_demos(rows: &Rows) -> bool {
    let mut brands = rows.each::<Brand>();
    brands.next().is_some_and(|brand| brand.name == "DemoBrand") && brands.next().is_none()
}

/// Puts the entries of a users' file in the place of all brands and what is theirs.
async fn put_users(
    store: &ConfigStore,
    rows: Rows,
    users: &Configuration,
) -> Result<Option<Rows>, StartError> {
    let mut bare = rows.clone();
    for table in TABLES.iter().copied().filter(|table| OF_USERS.contains(&table.name)) {
        let ids: Vec<u32> = rows.all(table).map(|row| row.id()).collect();
        for id in ids.into_iter().filter(|id| table.name != "Domain" || *id >= Configuration::DOMAINS_FROM) {
            bare.remove(table, id);
        }
    }
    // What the rows of the file do not say is as it was.
    let mut new = users.rows(&rows);
    for table in TABLES.iter().copied().filter(|table| OF_USERS.contains(&table.name)) {
        let named = users.rows(&bare);
        let ids: Vec<u32> =
            new.all(table).map(|row| row.id()).filter(|id| named.row(table, *id).is_none()).collect();
        ids.iter().for_each(|id| new.remove(table, *id));
    }
    if let Some(row) = dangling(&new) {
        return Err(StartError(format!(
            "users.file: the data directory holds {row}, which belongs to a client that is not in the file; remove `file` from [users] and \
             change what the directory holds, or name another directory as `data`"
        )));
    }
    let changes = differences(&rows, &new);
    commit(store, new, &changes).await
}

/// A row whose reference leads nowhere, of those that a users' file can take away.
fn dangling(rows: &Rows) -> Option<String> {
    for table in TABLES.iter().copied().filter(|table| !table.records) {
        for (place, field) in table.fields.iter().enumerate().skip(1) {
            let Kind::Reference(target) = field.kind else { continue };
            if !OF_USERS.contains(&target().name) || OF_USERS.contains(&table.name) {
                continue;
            }
            let lost = |row: &&Row| row.get(place).id().is_some_and(|id| rows.row(target(), id).is_none());
            if let Some(row) = rows.all(table).find(lost) {
                return Some(format!("{} {}", table.name, row.id()));
            }
        }
    }
    None
}

async fn changed_since(store: &ConfigStore, seen: u64, rows: &Rows) -> Result<Option<Vec<Aor>>, StartError> {
    let (mut changed, mut seen) = (Vec::new(), seen);
    if seen > rows.revision {
        // This configuration is another one, or an old copy.
        return Ok(None);
    }
    loop {
        match store.changes_since(seen, AT_ONCE).await? {
            Changes::Reload => return Ok(None),
            Changes::Revisions(revisions) if revisions.is_empty() => return Ok(Some(changed)),
            Changes::Revisions(revisions) => {
                for revision in revisions {
                    changed.extend(changed_accounts(&revision.changes, rows));
                    seen = revision.revision;
                }
            }
        }
    }
}

/// Endpoints for which a telephone must know something else now: domain, user name or password.
pub(crate) fn changed_accounts(changes: &[Change], rows: &Rows) -> Vec<Aor> {
    let mut changed = Vec::new();
    for change in changes {
        if let Some(before) = change.before.as_deref().and_then(Account::of)
            && change.after.as_deref().and_then(Account::of).as_ref() != Some(&before)
        {
            changed.push(before.aor);
        }
        if let Some(before) = change.before.as_deref().and_then(|row| row.cast::<Domain>()) {
            let after = change.after.as_deref().and_then(|row| row.cast::<Domain>());
            if after.is_none_or(|after| after.domain != before.domain) {
                let accounts = Account::all(rows).filter(|account| account.domain == Some(before.id));
                changed.extend(accounts.map(|account| account.aor));
            }
        }
    }
    changed
}

/// What a telephone must know to register.
#[derive(PartialEq)]
struct Account<'a> {
    aor: Aor,
    name: &'a str,
    password: Option<&'a Secret>,
    domain: Option<Id<Domain>>,
    /// It registers; otherwise it is at an address that is written down.
    registers: bool,
}

impl<'a> Account<'a> {
    fn of(row: &'a dyn Record) -> Option<Self> {
        let (owner, name, password, domain, registers) = if let Some(row) = row.cast::<Terminal>() {
            (AorOwner::Terminal(row.id), &row.name, Some(&row.password), row.domain, true)
        } else if let Some(row) = row.cast::<Friend>() {
            let registers = row.direct_connectivity == FriendDirectConnectivity::No;
            (AorOwner::Friend(row.id), &row.name, row.password.as_ref(), row.domain, registers)
        } else if let Some(row) = row.cast::<ResidentialDevice>() {
            let registers = row.direct_connectivity == YesNo::No;
            (AorOwner::ResidentialDevice(row.id), &row.name, row.password.as_ref(), row.domain, registers)
        } else {
            let row = row.cast::<RetailAccount>()?;
            let registers = row.direct_connectivity == YesNo::No;
            (AorOwner::RetailAccount(row.id), &row.name, row.password.as_ref(), row.domain, registers)
        };
        Some(Self { aor: Aor::of(owner)?, name, password, domain, registers })
    }

    fn all(rows: &'a Rows) -> impl Iterator<Item = Self> {
        let terminals = rows.each::<Terminal>().map(|row| row as &dyn Record);
        let friends = rows.each::<Friend>().map(|row| row as &dyn Record);
        let devices = rows.each::<ResidentialDevice>().map(|row| row as &dyn Record);
        let accounts = rows.each::<RetailAccount>().map(|row| row as &dyn Record);
        terminals.chain(friends).chain(devices).chain(accounts).filter_map(Self::of)
    }
}

/// Passwords of telephones that stand in public documents, by the telephones' names.
pub(crate) fn publicly_known(rows: &Rows, examples: &[&str]) -> Vec<String> {
    let demo = Configuration::demo();
    let is_known = |terminal: &&Terminal| {
        let secret = terminal.password.reveal();
        examples.contains(&secret)
            || demo.terminals.iter().any(|own| own.name == terminal.name && own.secret.reveal() == secret)
    };
    rows.each::<Terminal>().filter(is_known).map(|terminal| terminal.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::define::Password;

    fn administrator(username: &str, hash: &str) -> Row {
        let pass = Password::from_hash(hash.to_owned());
        Arc::new(Administrator { username: username.to_owned(), pass, ..Administrator::default() })
    }

    #[test]
    fn the_first_password_goes_when_it_is_an_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FIRST_PASSWORD);
        let changed = |before: &Row, after: Option<Row>| Change {
            table: before.table(),
            id: 1,
            before: Some(Arc::clone(before)),
            after,
        };
        let (first, other) = (administrator("admin", "a"), administrator("other", "a"));
        let cases = [
            (changed(&first, Some(administrator("root", "a"))), true),
            (changed(&other, Some(administrator("other", "b"))), true),
            (changed(&first, Some(administrator("admin", "b"))), false),
            (changed(&first, None), false),
        ];
        for (change, stays) in cases {
            std::fs::write(&file, "secret").unwrap();
            forget_first_password(folder.path(), &[change]);
            assert_eq!(file.exists(), stays);
        }
        forget_first_password(folder.path(), &[changed(&first, None)]);
    }

    #[test]
    fn only_a_directory_that_had_no_configuration_begins_one() {
        let folder = tempfile::tempdir().unwrap();
        let (data, file) = (folder.path(), folder.path().join(CONFIGURATION));
        let refused = |seen| must_be_there(data, seen).err().map(|StartError(text)| text);
        assert_eq!(refused(None), None);
        assert!(refused(Some(0)).unwrap().contains("is gone"));
        std::fs::write(&file, "").unwrap();
        for seen in [None, Some(7)] {
            assert!(refused(seen).unwrap().contains("the file is empty"));
        }
        std::fs::write(&file, "x").unwrap();
        assert_eq!((refused(None), refused(Some(7))), (None, None));
    }
}
