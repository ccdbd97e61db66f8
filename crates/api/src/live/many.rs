//! Many rows at once into the configuration of a running node, and all of them out: imports and exports.
//!
//! In: a document in the form of [`model::import`]. Out: one change like every other, or all mistakes. Elsewhere: the form and
//! its rules (`model::import`), changes by the rules ([`Live::change`]), who asks for it (the program).

use super::{Live, NotKept, RecordAsk, Tries, Who};
use jiff::Timestamp;
use model::define::{Entity, Kind, SecretHasher, Table};
use model::draft::Change;
use model::entities::{Administrator, EndedLogins, RefreshToken, TABLES, User};
use model::id::Id;
use model::import::{self, ImportMistake, Imported};
use model::rows::{Row, Rows};
use parking_lot::Mutex;
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Records that are asked for at once.
const RECORDS: usize = 10_000;
/// Records that one change can take out: what the store takes at once.
const MOST_RECORDS: usize = 200_000;

/// What an import changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// Rows read.
    pub rows: usize,
    /// Rows that were not there before.
    pub new: usize,
    /// Rows that were there and are different now.
    pub changed: usize,
    /// Rows that are gone.
    pub removed: usize,
    /// Rows of another system's inner tables, which mean nothing here, by entity.
    pub skipped: BTreeMap<String, usize>,
}

impl Import {
    fn of(imported: Imported, changes: &[Change]) -> Self {
        let mut import = Self { rows: imported.rows, skipped: imported.skipped, ..Self::default() };
        for change in changes.iter().filter(|change| !change.table.hidden) {
            match (&change.before, &change.after) {
                (None, _) => import.new += 1,
                (_, Some(_)) => import.changed += 1,
                (_, None) => import.removed += 1,
            }
        }
        import
    }
}

/// Why nothing was imported.
#[derive(Debug)]
pub enum ImportError {
    /// The document has these mistakes.
    Mistakes(Vec<ImportMistake>),
    /// It cannot be kept.
    NotKept(NotKept),
}

impl From<NotKept> for ImportError {
    fn from(error: NotKept) -> Self {
        Self::NotKept(error)
    }
}

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It would be longer than wanted.
    #[error("an export would be longer than {0} octets; take a backup")]
    TooLong(usize),
    /// Records cannot be read.
    #[error(transparent)]
    NotKept(#[from] NotKept),
}

/// Works out a change of rows: they as they would be, what changed, and what is to be told of it.
pub type Reworking<T, E> = Arc<dyn Fn(&Rows) -> Result<(Rows, Vec<Change>, T), E> + Send + Sync>;

impl Live {
    /// Puts the rows of a document in, by the rules of [`import::import`]: ids are kept, each entity's rules, references and
    /// uniqueness are checked, records go to where records are kept. `replace` drops all other rows, and ends all log-ins, since an id may
    /// be somebody else's then. All of it or nothing.
    ///
    /// # Errors
    ///
    /// All mistakes of the document, or that it cannot be kept.
    pub async fn import(
        &self,
        document: &Arc<Json>,
        replace: bool,
        who: &Who,
    ) -> Result<(Import, Arc<Rows>), ImportError> {
        // Hashing takes its time: only for a document that is right, and before others wait for their changes.
        let onto = self.with_records(&self.rows.load_full(), document, replace).await?;
        let (document_now, hasher) = (Arc::clone(document), Arc::clone(&self.hasher));
        let hashes = beside(move || {
            let plain = Plain::default();
            read(&document_now, &onto, replace, Timestamp::now(), &plain)?;
            Ok(hashed(plain.0.into_inner(), &*hasher))
        });
        let hashes = Arc::new(hashes.await?);
        let _writing = self.writer.lock().await;
        let mut tries = Tries::default();
        while let Some(rows) = self.next_try(&mut tries).await? {
            let now = Timestamp::now();
            let onto = self.with_records(&rows, document, replace).await?;
            let hasher = Hashed {
                hashes: Arc::clone(&hashes),
                hasher: Arc::clone(&self.hasher),
                next: AtomicUsize::new(0),
            };
            let document_now = Arc::clone(document);
            let made = beside(move || read(&document_now, &onto, replace, now, &hasher));
            let (new, changes, imported) = made.await?;
            let import = Import::of(imported, &changes);
            if let Some(after) = self.settle(&rows, new, &changes, who, now).await? {
                return Ok((import, after));
            }
        }
        Err(NotKept::Conflict.into())
    }

    /// Makes a change that was worked out elsewhere, by all rules: `make` gives the rows as they would be, and what changed. It is called
    /// where that holds up nobody, and again when another node's change came first.
    ///
    /// # Errors
    ///
    /// It cannot be kept; or inside, what `make` says against it. Nothing has changed then.
    pub async fn rework<T: Send + 'static, E: Send + 'static>(
        &self,
        who: &Who,
        make: Reworking<T, E>,
    ) -> Result<Result<(T, Arc<Rows>), E>, NotKept> {
        let _writing = self.writer.lock().await;
        let mut tries = Tries::default();
        while let Some(rows) = self.next_try(&mut tries).await? {
            let (make, onto) = (Arc::clone(&make), Arc::clone(&rows));
            let made = tokio::task::spawn_blocking(move || make(&onto)).await;
            let made = made.map_err(|_| NotKept::Store("working out the change failed".to_owned()))?;
            let (new, changes, made) = match made {
                Ok(made) => made,
                Err(why) => return Ok(Err(why)),
            };
            if let Some(after) = self.settle(&rows, new, &changes, who, Timestamp::now()).await? {
                return Ok(Ok((made, after)));
            }
        }
        Err(NotKept::Conflict)
    }

    /// The rows with those records among them that the document changes or names; to replace: with all records.
    async fn with_records(&self, rows: &Rows, document: &Json, replace: bool) -> Result<Rows, NotKept> {
        let mut rows = rows.clone();
        if replace {
            for table in TABLES.iter().copied().filter(|table| table.records) {
                let mut offset = 0;
                while let Some(page) = self.some_records(table, offset).await? {
                    offset += page.len();
                    if offset > MOST_RECORDS {
                        let why = format!(
                            "there are more than {MOST_RECORDS} rows of {}, too many to take out in one change",
                            table.full_name()
                        );
                        return Err(NotKept::Store(why));
                    }
                    page.into_iter().for_each(|row| rows.insert(row));
                }
            }
            return Ok(rows);
        }
        for (index, id) in named_records(document) {
            let Some(found) = self.keeper.record(TABLES[index], id).await else { break };
            if let Some(row) = found? {
                rows.insert(row);
            }
        }
        Ok(rows)
    }

    /// The next records of a table that are not among the rows, oldest first; none: there are no more.
    async fn some_records(&self, table: &'static Table, offset: usize) -> Result<Option<Vec<Row>>, NotKept> {
        let ask = RecordAsk {
            table,
            reference: None,
            text: None,
            from: None,
            until: None,
            test: None,
            newest_first: false,
            offset,
            limit: RECORDS,
        };
        match self.keeper.records(&ask).await {
            None => Ok(None),
            Some(found) => Ok(Some(found?.rows).filter(|rows| !rows.is_empty())),
        }
    }

    /// All rows and records as a text in the form that [`Live::import`] reads, one row a line. Passwords are in it, those of SIP
    /// in the clear.
    ///
    /// # Errors
    ///
    /// It would be longer than so many octets, or records cannot be read.
    pub async fn export(&self, most: usize) -> Result<String, ExportError> {
        let rows = self.rows();
        let mut text = Text { text: "{\"entities\": {".to_owned(), most, tables: 0, rows: 0 };
        for table in TABLES.iter().copied().filter(|table| !table.hidden) {
            text.rows = 0;
            rows.all(table).try_for_each(|row| text.row(row))?;
            let mut offset = 0;
            while table.records
                && let Some(page) = self.some_records(table, offset).await?
            {
                offset += page.len();
                page.iter().try_for_each(|row| text.row(row))?;
            }
            if text.rows > 0 {
                text.text.push_str("\n]");
            }
        }
        text.text.push_str("\n}}\n");
        Ok(text.text)
    }
}

/// An export while it is written.
struct Text {
    text: String,
    most: usize,
    /// Tables that have begun.
    tables: usize,
    /// Rows of the last one.
    rows: usize,
}

impl Text {
    fn row(&mut self, row: &Row) -> Result<(), ExportError> {
        if self.rows == 0 {
            let comma = if self.tables > 0 { "," } else { "" };
            let head = format!("{comma}\n{}: [\n", Json::String(row.table().full_name()));
            self.text.push_str(&head);
            self.tables += 1;
        } else {
            self.text.push_str(",\n");
        }
        self.rows += 1;
        self.text.push_str(&Json::Object(import::document(&**row)).to_string());
        if self.text.len() > self.most { Err(ExportError::TooLong(self.most)) } else { Ok(()) }
    }
}

/// Does work that takes long where that holds up nobody.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Vec<ImportMistake>> + Send + 'static,
) -> Result<T, ImportError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(made) => made.map_err(ImportError::Mistakes),
        Err(_) => Err(NotKept::Store("reading the document failed".to_owned()).into()),
    }
}

/// Collects the passwords of a document, and hashes none; what it says instead is no hash, but something: rules ask whether
/// there is a password.
#[derive(Default)]
struct Plain(Mutex<Vec<String>>);

impl SecretHasher for Plain {
    fn hash(&self, password: &str) -> String {
        self.0.lock().push(password.to_owned());
        "later".to_owned()
    }
}

/// The passwords with their hashes, by all cores.
fn hashed(passwords: Vec<String>, hasher: &(dyn SecretHasher + Send + Sync)) -> Vec<(String, String)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = passwords.len().div_ceil(cores).max(1);
    let hash = |password: &String| (password.clone(), hasher.hash(password));
    std::thread::scope(|scope| {
        let work = |some: &'_ [String]| some.iter().map(hash).collect::<Vec<_>>();
        let threads: Vec<_> = passwords.chunks(share).map(|some| scope.spawn(move || work(some))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

/// Gives the hashes that are made already, in the order in which the same document asks for them.
struct Hashed {
    hashes: Arc<Vec<(String, String)>>,
    hasher: Arc<dyn SecretHasher + Send + Sync>,
    next: AtomicUsize,
}

impl SecretHasher for Hashed {
    fn hash(&self, password: &str) -> String {
        let made = self.hashes.get(self.next.fetch_add(1, Ordering::Relaxed));
        match made.filter(|(known, _)| known == password) {
            Some((_, hash)) => hash.clone(),
            None => self.hasher.hash(password),
        }
    }
}

type Read = (Rows, Vec<Change>, Imported);

fn read(
    document: &Json,
    onto: &Rows,
    replace: bool,
    now: Timestamp,
    hasher: &dyn SecretHasher,
) -> Result<Read, Vec<ImportMistake>> {
    let (mut rows, mut changes, imported) = import::import(document, onto, replace, now, hasher)?;
    if !replace {
        end_logins(&mut rows, &mut changes, now);
    }
    if replace && !changes.is_empty() {
        for table in TABLES.iter().copied().filter(|table| table.hidden) {
            for row in onto.all(table) {
                rows.remove(table, row.id());
                changes.push(Change { table, id: row.id(), before: Some(Arc::clone(row)), after: None });
            }
        }
    }
    Ok((rows, changes, imported))
}

/// Ends the logins of accounts that have another password now, or are not active any more, as the rules do with a change.
fn end_logins(rows: &mut Rows, changes: &mut Vec<Change>, now: Timestamp) {
    let mut more = Vec::new();
    for change in &*changes {
        let (Some(before), Some(after)) = (&change.before, &change.after) else { continue };
        let field = match change.table {
            table if table.index == Administrator::definition().index => "administrator",
            table if table.index == User::definition().index => "user",
            _ => continue,
        };
        let same = |name: &str| before.named(name).stored() == after.named(name).stored();
        let closed = !same("active") && after.named("active").stored() == Json::Bool(false);
        if same("pass") && !closed {
            continue;
        }
        let logins: Vec<Row> = rows
            .of::<RefreshToken>(field, change.id)
            .filter_map(|login| rows.row(RefreshToken::definition(), login.id.get()).cloned())
            .collect();
        for login in logins {
            let (table, id) = (login.table(), login.id());
            rows.remove(table, id);
            more.push(Change { table, id, before: Some(login), after: None });
        }
        let table = EndedLogins::definition();
        let ended = EndedLogins::new(field, change.id, now);
        let ended: Row = Arc::new(EndedLogins { id: Id::new(rows.next_id(table)), ..ended });
        rows.insert(Arc::clone(&ended));
        more.push(Change { table, id: ended.id(), before: None, after: Some(ended) });
    }
    changes.append(&mut more);
}

/// The records that a document has rows of, and those that its rows refer to: table and id.
fn named_records(document: &Json) -> BTreeSet<(usize, u32)> {
    let mut named = BTreeSet::new();
    let number = |row: &Map<String, Json>, name: &str| {
        row.get(name).and_then(Json::as_u64).and_then(|id| u32::try_from(id).ok())
    };
    for (name, list) in document.get("entities").and_then(Json::as_object).into_iter().flatten() {
        let Some(table) = import::by_full_name(name) else { continue };
        let references = table.fields.iter().skip(1).filter_map(|field| match field.kind {
            Kind::Reference(target) if target().records => Some((target().index, field.name)),
            _ => None,
        });
        let own = table.records.then_some((table.index, "id"));
        let fields: Vec<_> = references.chain(own).collect();
        if fields.is_empty() {
            continue;
        }
        for row in list.as_array().into_iter().flatten().filter_map(Json::as_object) {
            named.extend(fields.iter().filter_map(|(index, name)| Some((*index, number(row, name)?))));
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::InMemory;
    use model::entities::SigningKey;
    use serde_json::json;

    /// As a real one, but quick.
    struct Quick;

    impl SecretHasher for Quick {
        fn hash(&self, password: &str) -> String {
            format!("hash of {password}")
        }
    }

    fn live() -> Live {
        Live::new(Rows::default(), Arc::new(InMemory), Arc::new(Quick))
    }

    fn sample() -> Arc<Json> {
        let text = include_str!("../../../../tests/data/sample-system.json");
        Arc::new(serde_json::from_str(text).unwrap())
    }

    #[tokio::test]
    async fn what_is_imported_is_published_and_exported_again() {
        let live = live();
        let heard = Arc::new(parking_lot::Mutex::new(0));
        let hears = Arc::clone(&heard);
        live.follow(Box::new(move |_, changes| *hears.lock() += changes.len()));
        let (import, rows) = live.import(&sample(), false, &Who::system()).await.unwrap();
        assert!(import.new > 1400 && import.new == import.rows && import.removed == 0, "{import:?}");
        assert!(import.skipped.contains_key("Kam.Dispatcher"), "{import:?}");
        assert_eq!((*heard.lock(), live.rows().revision), (import.rows, 1));
        let text = live.export(usize::MAX).await.unwrap();
        let exported: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(exported, import::export(&rows));
        let (again, _) = live.import(&Arc::new(exported), true, &Who::system()).await.unwrap();
        assert_eq!(again, Import { rows: import.rows, ..Import::default() });
        assert_eq!(live.rows().revision, 1, "nothing changed");
        assert!(matches!(live.export(text.len() - 100).await, Err(ExportError::TooLong(_))));
    }

    /// Counts.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl SecretHasher for Counting {
        fn hash(&self, password: &str) -> String {
            self.0.fetch_add(1, Ordering::Relaxed);
            format!("hash of {password}")
        }
    }

    #[tokio::test]
    async fn each_password_is_hashed_once_and_becomes_its_own_rows_and_none_of_a_wrong_document() {
        let hasher = Arc::new(Counting::default());
        let live = Live::new(Rows::default(), Arc::new(InMemory), Arc::clone(&hasher) as _);
        let mut document = (*sample()).clone();
        let mut expected = Vec::new();
        for row in document["entities"]["Provider.Administrator"].as_array_mut().unwrap() {
            if row["passIsPlainText"] == json!(true) {
                row["pass"] = json!(format!("own {}", row["id"]));
                expected.push((row["id"].clone(), format!("hash of own {}", row["id"])));
            }
        }
        let mut broken = document.clone();
        broken["entities"]["Provider.Brand"][0]["name"] = json!([]);
        live.import(&Arc::new(broken), false, &Who::system()).await.unwrap_err();
        assert_eq!(hasher.0.load(Ordering::Relaxed), 0);
        let (_, rows) = live.import(&Arc::new(document), false, &Who::system()).await.unwrap();
        let all = import::export(&rows);
        let list = all["entities"]["Provider.Administrator"].as_array().unwrap();
        for (id, hash) in &expected {
            let row = list.iter().find(|row| row["id"] == *id).unwrap();
            assert_eq!(row["pass"], json!(hash));
        }
        assert!(expected.len() > 10 && hasher.0.load(Ordering::Relaxed) >= expected.len());
        assert!(hasher.0.load(Ordering::Relaxed) <= 20, "once each");
    }

    #[tokio::test]
    async fn mistakes_change_nothing() {
        let live = live();
        live.import(&sample(), false, &Who::system()).await.unwrap();
        let broken = json!({ "entities": { "Provider.Carrier": [
            { "id": 77, "name": "x", "brand": 99, "balance": "much" },
        ] } });
        let error = live.import(&Arc::new(broken), true, &Who::system()).await.unwrap_err();
        let ImportError::Mistakes(mistakes) = error else { panic!("{error:?}") };
        let fields: Vec<&str> = mistakes.iter().map(|mistake| mistake.field.as_str()).collect();
        assert!(fields.contains(&"balance") && fields.contains(&"brand"), "{mistakes:?}");
        assert_eq!(live.rows().revision, 1);
        assert_eq!(live.rows().each::<Administrator>().count(), 16);
    }

    #[tokio::test]
    async fn whoever_is_logged_in_when_all_is_replaced_is_not_any_more() {
        let live = live();
        let key = SigningKey { kid: "old".to_owned(), ..SigningKey::default() };
        let made = live.change(None, &Who::system(), |draft| draft.create(key.clone())).await;
        made.unwrap();
        live.import(&sample(), false, &Who::system()).await.unwrap();
        assert_eq!(
            live.rows().each::<SigningKey>().count(),
            1,
            "an import beside what is there ends nothing"
        );
        let mut other = (*sample()).clone();
        other["entities"]["Provider.Administrator"][1]["name"] = json!("Another");
        live.import(&Arc::new(other), true, &Who::system()).await.unwrap();
        assert_eq!(live.rows().each::<SigningKey>().count(), 0);
    }

    #[test]
    fn the_records_that_a_document_names_are_found() {
        let document = json!({ "entities": {
            "Provider.Recording": [{ "id": 5, "usersCdr": 7, "billableCall": null }, { "id": 6, "billableCall": 8 }, 1],
            "Provider.UsersCdr": [{ "id": 9 }, { "id": "x" }],
            "Provider.Brand": [{ "id": 1 }],
            "Kam.UsersCdr": [{ "id": 10 }],
        } });
        let found = named_records(&document);
        let names: Vec<String> =
            found.iter().map(|(index, id)| format!("{} {id}", TABLES[*index].name)).collect();
        assert_eq!(names, ["BillableCall 8", "UsersCdr 7", "UsersCdr 9"]);
    }
}
