//! Where uploaded files lie: room for them, their way in together with their rows, and that they go when their rows go.
//!
//! In: octets, and each change of the rows. Out: files by entity, field and id. Elsewhere: what a request's files must be (`files`).

use crate::files::{self, Upload};
use crate::live::Live;
use axum::http::StatusCode;
use model::define::{Kind, OnDelete, Record, Table};
use model::draft::Change;
use model::entities::{Brand, Company, TABLES};
use model::id::Id;
use model::rows::{Row, Rows};
use model::rules::Refusal;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Mutex, mpsc};

/// Files that came in and belong to no row yet.
const INCOMING: &str = "incoming";
/// A file that is younger may be another node's that is still on its way.
const SETTLED: Duration = Duration::from_secs(3600);
/// How often what was left behind is looked for.
const SWEEP: Duration = Duration::from_secs(86_400);
/// How many references lead from a row to its tenant at most.
const DEEPEST: u32 = 3;

/// How much may lie here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// Octets of the files of one client.
    pub client: u64,
    /// Octets of the files of one brand, those of its clients among them.
    pub brand: u64,
    /// Octets that stay free on the disk: the configuration is often kept on the same one, and must be able to grow.
    pub keep_free: u64,
}

impl Default for FileLimits {
    fn default() -> Self {
        Self { client: 1 << 30, brand: 4 << 30, keep_free: 256 << 20 }
    }
}

/// The directory with uploaded files. Nodes may share it.
#[derive(Debug)]
pub struct Storage {
    directory: PathBuf,
    limits: FileLimits,
    turn: Mutex<()>,
}

/// A file of a row: table, field, id.
type Place = (&'static Table, &'static str, u32);

/// Where the file of a row lies.
pub fn place(storage: &Path, table: &Table, field: &str, id: u32) -> PathBuf {
    let thousand = (id / 1000).to_string();
    storage.join(table.name).join(field).join(thousand).join(id.to_string())
}

/// Files that are written and belong to no row yet. What is not settled is removed.
#[derive(Debug, Default)]
pub(crate) struct Incoming(Vec<(&'static str, PathBuf)>);

impl Drop for Incoming {
    fn drop(&mut self) {
        for (_, path) in &self.0 {
            let _ = std::fs::remove_file(path); // the next sweep tries again
        }
    }
}

impl Storage {
    /// The storage in this directory, which is made when the first file comes.
    pub fn new(directory: PathBuf, limits: FileLimits) -> Arc<Self> {
        Arc::new(Self { directory, limits, turn: Mutex::default() })
    }

    /// Where a file of a row lies.
    pub(crate) fn place(&self, table: &Table, field: &str, id: u32) -> PathBuf {
        place(&self.directory, table, field, id)
    }

    /// Writes files to where they wait for their rows, one request's after the other's.
    ///
    /// # Errors
    ///
    /// The field whose file cannot be kept, and why.
    pub(crate) async fn receive(
        &self,
        files: &[(&'static str, &Upload)],
    ) -> Result<Incoming, (&'static str, io::Error)> {
        let _turn = self.turn.lock().await;
        let mut incoming = Incoming::default();
        for (field, file) in files {
            let told = |error| (*field, error);
            let path = self.directory.join(INCOMING).join(format!("{:032x}", rand::random::<u128>()));
            self.has_room(file.content.len() as u64).await.map_err(told)?;
            incoming.0.push((field, path.clone()));
            write(&path, &file.content).await.map_err(told)?;
        }
        Ok(incoming)
    }

    /// Whether so many octets leave enough of the disk.
    async fn has_room(&self, octets: u64) -> io::Result<()> {
        let directory = self.directory.join(INCOMING);
        tokio::fs::create_dir_all(&directory).await?;
        let known = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&directory)).await;
        let known = known.map_err(io::Error::other)??;
        let free = known.f_bavail.saturating_mul(known.f_frsize);
        if free >= self.limits.keep_free.saturating_add(octets) {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{free} octets are free, of which {} are not for files; make room on this disk",
            self.limits.keep_free
        )))
    }

    /// Puts files that came in where those of this row lie, in place of what lay there. What the row does not describe so any more
    /// goes: it was deleted, or somebody else's file came, meanwhile.
    ///
    /// # Errors
    ///
    /// They cannot be put there; then they are gone.
    pub(crate) async fn settle(&self, live: &Live, mut incoming: Incoming, row: &Row) -> io::Result<()> {
        let (table, id) = (row.table(), row.id());
        let _turn = self.turn.lock().await;
        while let Some((field, path)) = incoming.0.last() {
            let rows = live.rows();
            let is_so = |now: &Row| now.named(field).stored() == row.named(field).stored();
            if rows.row(table, id).is_some_and(is_so) {
                let place = self.place(table, field, id);
                if let Some(directory) = place.parent() {
                    std::fs::create_dir_all(directory)?;
                }
                std::fs::rename(path, place)?;
            } else {
                std::fs::remove_file(path)?;
            }
            incoming.0.pop();
        }
        Ok(())
    }

    /// Refuses files by which a tenant would have more than it may.
    ///
    /// # Errors
    ///
    /// The row's client or brand has too much, with the row's new files.
    pub(crate) fn admit(
        &self,
        rows: &Rows,
        table: &'static Table,
        id: u32,
        files: &[(&'static str, &Upload)],
    ) -> Result<(), Refusal> {
        let Some((field, _)) = files.first() else { return Ok(()) };
        let tenant = rows.row(table, id).map_or(Tenant::default(), |row| tenant(&**row, rows, 0));
        let used = Used::of(rows, tenant);
        let most = [
            ("client", tenant.company.map(|_| (used.company, self.limits.client))),
            ("brand", tenant.brand.map(|_| (used.brand, self.limits.brand))),
        ];
        for (whose, of) in most {
            if let Some((has, most)) = of.filter(|(has, most)| has > most) {
                let message = format!(
                    "{field}: the files of the {whose} would have {has} octets and may have {most}; \
                     delete some that are not needed first"
                );
                return Err(Refusal::Coded { status: StatusCode::PAYLOAD_TOO_LARGE.as_u16(), message });
            }
        }
        Ok(())
    }

    /// Removes files that no row describes any more; out: how many.
    async fn remove(&self, live: &Live, places: &[Place]) -> usize {
        // Another node may have put a file there meanwhile.
        if let Err(error) = live.catch_up(u64::MAX).await {
            tracing::warn!(%error, "files of deleted rows stay until the next sweep");
            return 0;
        }
        let mut removed = 0;
        for (table, field, id) in places {
            let _turn = self.turn.lock().await;
            let rows = live.rows();
            if rows.row(table, *id).is_some_and(|row| is_described(&**row, field)) {
                continue;
            }
            let path = self.place(table, field, *id);
            match std::fs::remove_file(&path) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(%error, path = %path.display(), "a file cannot be removed"),
            }
        }
        removed
    }

    /// Removes what a crash left behind: files that never got to their rows, and those whose rows are gone.
    async fn sweep(self: &Arc<Self>, live: &Live) {
        let (storage, rows) = (Arc::clone(self), live.rows());
        let found = tokio::task::spawn_blocking(move || {
            storage.remove_unfinished();
            storage.orphans(&rows)
        });
        let removed = match found.await {
            Ok(found) if !found.is_empty() => self.remove(live, &found).await,
            _ => 0,
        };
        if removed > 0 {
            tracing::info!(removed, "files of rows that are gone are removed");
        }
    }

    fn remove_unfinished(&self) {
        for path in settled(&self.directory.join(INCOMING)) {
            let _ = std::fs::remove_file(path); // the next sweep tries again
        }
    }

    /// Files of rows that are gone. Rows that this state of the configuration never had are not gone: it may be an old one.
    fn orphans(&self, rows: &Rows) -> Vec<Place> {
        let mut found = Vec::new();
        for table in TABLES.iter().copied() {
            for field in files::fields(table) {
                let directory = self.directory.join(table.name).join(field);
                for path in entries(&directory).into_iter().flat_map(|thousand| settled(&thousand)) {
                    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    if name.ends_with(".new") {
                        let _ = std::fs::remove_file(&path); // the next sweep tries again
                        continue;
                    }
                    let Ok(id) = name.parse::<u32>() else { continue };
                    let described = rows.row(table, id).is_some_and(|row| is_described(&**row, field));
                    if !described && id < rows.next_id(table) {
                        found.push((table, field, id));
                    }
                }
            }
        }
        found
    }
}

/// Lets files go from now on when their rows go or do not describe them any more, also what was left behind before.
/// Within a runtime; ends with the configuration.
pub fn keep_tidy(live: &Arc<Live>, storage: &Arc<Storage>) {
    let (lost, mut heard) = mpsc::unbounded_channel();
    live.follow(Box::new(move |_, changes| {
        let places: Vec<Place> = changes.iter().flat_map(loses).collect();
        if !places.is_empty() {
            let _ = lost.send(places); // the process ends
        }
    }));
    let (live, storage) = (Arc::downgrade(live), Arc::clone(storage));
    tokio::spawn(async move {
        let mut sweeps = tokio::time::interval(SWEEP);
        loop {
            let places = tokio::select! {
                places = heard.recv() => Some(places),
                _ = sweeps.tick() => None,
            };
            let Some(live) = live.upgrade() else { return };
            match places {
                Some(Some(places)) => drop(storage.remove(&live, &places).await),
                Some(None) => return,
                None => storage.sweep(&live).await,
            }
        }
    });
}

/// The files that a change takes from its row.
fn loses(change: &Change) -> impl Iterator<Item = Place> {
    let described = |row: &Option<Row>, field| row.as_ref().is_some_and(|row| is_described(&**row, field));
    let lost = files::fields(change.table)
        .filter(move |field| described(&change.before, field) && !described(&change.after, field));
    lost.map(|field| (change.table, field, change.id))
}

fn is_described(row: &dyn Record, field: &str) -> bool {
    !row.named(field).part("fileSize").is_null()
}

/// Whom a row belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tenant {
    brand: Option<u32>,
    company: Option<u32>,
}

/// The tenant of a row, by what it says itself, or by the row that it goes with.
fn tenant(row: &dyn Record, rows: &Rows, depth: u32) -> Tenant {
    let named = |name| row.table().field(name).and_then(|_| row.reference(name));
    if let Some(brand) = row.cast::<Brand>() {
        return Tenant { brand: Some(brand.id.get()), company: None };
    }
    if let Some(company) = named("company") {
        let brand = rows.get(Id::<Company>::new(company)).map(|company| company.brand.get());
        return Tenant { brand, company: Some(company) };
    }
    if let Some(brand) = named("brand") {
        return Tenant { brand: Some(brand), company: None };
    }
    let owners = row.table().fields.iter().filter_map(|field| match (field.kind, field.on_delete) {
        (Kind::Reference(target), OnDelete::Cascade) if depth < DEEPEST => {
            rows.row(target(), row.reference(field.name)?)
        }
        _ => None,
    });
    let mut tenants = owners.map(|owner| tenant(&**owner, rows, depth + 1));
    tenants.find(|tenant| tenant.brand.is_some()).unwrap_or_default()
}

/// Octets of the files of a tenant.
#[derive(Debug, Default)]
struct Used {
    brand: u64,
    company: u64,
}

impl Used {
    fn of(rows: &Rows, whose: Tenant) -> Self {
        let mut used = Self::default();
        for table in TABLES.iter().copied() {
            let fields: Vec<&str> = files::fields(table).collect();
            if fields.is_empty() {
                continue;
            }
            for row in rows.all(table) {
                let octets = |field: &&str| match row.named(field).part("fileSize") {
                    model::define::Value::Int(size) => u64::try_from(size).unwrap_or(0),
                    _ => 0,
                };
                let octets: u64 = fields.iter().map(octets).sum();
                if octets == 0 {
                    continue;
                }
                let of = tenant(&**row, rows, 0);
                if of.brand.is_some() && of.brand == whose.brand {
                    used.brand = used.brand.saturating_add(octets);
                }
                if of.company.is_some() && of.company == whose.company {
                    used.company = used.company.saturating_add(octets);
                }
            }
        }
        used
    }
}

async fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = tokio::fs::File::create_new(path).await?;
    file.write_all(content).await?;
    file.sync_all().await
}

/// What is in a directory; one that cannot be read is empty.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(directory).into_iter().flatten().flatten();
    listed.map(|entry| entry.path()).collect()
}

/// The files in a directory to which nothing has been written for a while.
fn settled(directory: &Path) -> Vec<PathBuf> {
    let is_settled = |path: &PathBuf| {
        let known = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file);
        let age = known.and_then(|known| known.modified().ok()?.elapsed().ok());
        age.is_some_and(|age| age >= SETTLED)
    };
    entries(directory).into_iter().filter(is_settled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::InMemory;
    use model::define::{Entity, File};
    use model::entities::Locution;

    fn described(id: u32, octets: u32) -> Row {
        let original_file = File { size: Some(octets), ..File::default() };
        Arc::new(Locution { id: Id::new(id), original_file, ..Locution::default() })
    }

    #[tokio::test]
    async fn a_file_whose_row_was_changed_meanwhile_does_not_come_and_keeps_nobody_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Storage::new(directory.path().to_owned(), FileLimits::default());
        let mut rows = Rows::default();
        rows.insert(described(1, 3));
        let live = Live::new(rows, Arc::new(InMemory), Arc::new(crate::Hasher));
        let upload = |content: &'static str| Upload {
            part: "originalFile".to_owned(),
            name: String::new(),
            mime_type: String::new(),
            content: content.into(),
        };
        let (newer, older, of_nobody) = (upload("new"), upload("older"), upload("gone"));
        // All wait for their rows at the same time.
        let newer = storage.receive(&[("originalFile", &newer)]).await.unwrap();
        let older = storage.receive(&[("originalFile", &older)]).await.unwrap();
        let of_nobody = storage.receive(&[("originalFile", &of_nobody)]).await.unwrap();
        storage.settle(&live, newer, &described(1, 3)).await.unwrap();
        storage.settle(&live, older, &described(1, 5)).await.unwrap();
        storage.settle(&live, of_nobody, &described(2, 4)).await.unwrap();
        let kept = |id: u32| std::fs::read(storage.place(Locution::definition(), "originalFile", id)).ok();
        assert_eq!((kept(1), kept(2)), (Some(b"new".to_vec()), None));
        assert_eq!(entries(&directory.path().join(INCOMING)), Vec::<PathBuf>::new());
    }
}
