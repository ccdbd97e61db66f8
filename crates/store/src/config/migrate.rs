//! The store's format and the way to it from older ones: documents are rewritten one by one, in one transaction.
//!
//! In: a document of an older format. Out: today's, or nothing where it means nothing any more. Elsewhere: going through all
//! documents (`file`, `postgres`, `backup`).

use super::document::{self, Document, Piece, RowChange, Stored};
use super::error::ConfigError;
use super::keys::Keyring;

/// The first format there was.
const FIRST: u32 = 1;

/// The step from one format to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Migration {
    /// What it changes, for the log.
    pub(super) what: &'static str,
    /// Rewrites a document, and the name of its entity where that changed; false drops it. Secrets are open. The fault is in
    /// words. In PostgreSQL the table of a record's entity is to be renamed beside it.
    pub(super) document: fn(entity: &mut String, document: &mut Document) -> Result<bool, String>,
}

/// Every step since the first format: the `n`-th leads from format `n` to `n + 1`, counted from 1.
const MIGRATIONS: &[Migration] = &[];

/// All that is needed to rewrite documents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    all: &'static [Migration],
}

impl Default for Steps {
    fn default() -> Self {
        Self { all: MIGRATIONS }
    }
}

impl Steps {
    #[cfg(test)]
    pub(super) fn of(all: &'static [Migration]) -> Self {
        Self { all }
    }

    /// The format that they lead to.
    pub(super) fn format(self) -> u32 {
        FIRST + u32::try_from(self.all.len()).unwrap_or(u32::MAX - FIRST)
    }

    /// The steps that a store of this format lacks.
    ///
    /// # Errors
    ///
    /// It is newer than we know, or older than there was.
    pub(super) fn since(self, format: u32, place: &str) -> Result<Rewrite, ConfigError> {
        if format > self.format() {
            return Err(ConfigError::Newer { place: place.to_owned(), found: format, known: self.format() });
        }
        let steps = format.checked_sub(FIRST).and_then(|done| self.all.get(usize::try_from(done).ok()?..));
        let damaged =
            || ConfigError::Damaged { place: place.to_owned(), what: format!("its format is {format}") };
        Ok(Rewrite { from: format, steps: steps.ok_or_else(damaged)? })
    }
}

/// Steps to be made with every document. Without any it seals anew by the first key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rewrite {
    from: u32,
    steps: &'static [Migration],
}

impl Rewrite {
    /// Nothing but sealing anew.
    pub(super) fn seals(format: u32) -> Self {
        Self { from: format, steps: &[] }
    }

    /// There is nothing to do.
    pub(super) fn is_empty(self) -> bool {
        self.steps.is_empty()
    }

    /// What is done, for the log.
    pub(super) fn what(self) -> String {
        self.steps.iter().map(|step| step.what).collect::<Vec<_>>().join(", ")
    }

    /// Rewrites a document; false: drop it. One of the present must be readable then.
    fn document(
        self,
        entity: &mut String,
        id: u32,
        document: &mut Document,
        is_present: bool,
        keys: &Keyring,
    ) -> Result<bool, ConfigError> {
        let first = entity.clone();
        let failed =
            |fault: String| ConfigError::Migration { entity: first.clone(), id, from: self.from, fault };
        let opened = document::unseal_all(entity, id, document, keys).map_err(failed)?;
        for step in self.steps {
            if !(step.document)(entity, document).map_err(failed)? {
                return Ok(false);
            }
        }
        if let Some(table) = model::entities::table(entity).filter(|_| is_present) {
            document::plain_row(table, id, document).map_err(failed)?;
        }
        document::seal_all(entity, id, document, &opened, keys)?;
        Ok(true)
    }

    /// Rewrites a row or record; false: drop it.
    pub(super) fn stored(self, stored: &mut Stored, keys: &Keyring) -> Result<bool, ConfigError> {
        self.document(&mut stored.entity, stored.id, &mut stored.document, true, keys)
    }

    /// Rewrites a row's part of a log entry; false: drop it.
    pub(super) fn change(self, change: &mut RowChange, keys: &Keyring) -> Result<bool, ConfigError> {
        let mut name = change.entity.clone();
        for document in [&mut change.before, &mut change.after].into_iter().flatten() {
            name.clone_from(&change.entity);
            if !self.document(&mut name, change.id, document, false, keys)? {
                return Ok(false);
            }
        }
        change.entity = name;
        Ok(true)
    }

    /// Rewrites a line of a backup; false: drop it. Next ids are kept under the name that an empty document of the table would get.
    pub(super) fn piece(self, piece: &mut Piece, keys: &Keyring) -> Result<bool, ConfigError> {
        match piece {
            Piece::Row(stored) | Piece::Record(stored) => self.stored(stored, keys),
            Piece::Change(change) => self.change(change, keys),
            Piece::Next { entity, .. } => {
                self.name(entity);
                Ok(true)
            }
            Piece::Entry(_) => Ok(true),
        }
    }

    /// The name that a table has after the steps.
    pub(super) fn name(self, entity: &mut String) {
        for step in self.steps {
            let mut renamed = entity.clone();
            if (step.document)(&mut renamed, &mut Document::new()).is_ok() {
                *entity = renamed;
            }
        }
    }
}
