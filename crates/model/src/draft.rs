//! A change to the configuration while it is made: rows are saved and deleted by the rules, and all of it holds or none.
//!
//! In: rows to save and delete. Out: the new rows and the list of changes, for the store. Elsewhere: what the rules are
//! ([`crate::rules`]), making it durable (crate `store`).

use crate::define::{Entity, Kind, Level, OnDelete, Reading, Record, SecretHasher, Table, Value};
use crate::id::Id;
use crate::rows::{Row, Rows, referrers};
use crate::rules::{Check, Refusal, Rules, add_taken};
use jiff::Timestamp;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How deep changes may set each other off; deeper is a bug in the rules, not a matter of data.
const DEEPEST: u32 = 32;

/// What a change is made with: time and randomness are handed in.
pub struct Env<'a> {
    /// The time.
    pub now: Timestamp,
    /// The level at which the change is made; none: the platform itself makes it.
    pub level: Option<Level>,
    /// Makes hashes of passwords.
    pub hasher: &'a dyn SecretHasher,
    /// Random numbers that nobody can guess.
    pub random: &'a dyn Fn() -> u64,
    /// Whether the change has taken so long already that others must not wait for it any more.
    pub is_over: &'a dyn Fn() -> bool,
}

impl fmt::Debug for Env<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").field("now", &self.now).field("level", &self.level).finish_non_exhaustive()
    }
}

/// A change while it is made.
#[derive(Debug)]
pub struct Draft<'a> {
    rows: Rows,
    changes: BTreeMap<(usize, u32), Change>,
    order: Vec<(usize, u32)>,
    env: &'a Env<'a>,
    depth: u32,
    last: Vec<LastCheck>,
}

/// What a check at the end of a change looks at, and says.
type Judge = dyn Fn(&Rows) -> Result<(), Refusal>;

/// What must hold of the rows once all of a change is made.
struct LastCheck(Box<Judge>);

impl fmt::Debug for LastCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LastCheck(…)")
    }
}

/// What became of one row.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its table.
    pub table: &'static Table,
    /// Its id.
    pub id: u32,
    /// The row as it was; none: it is new.
    pub before: Option<Row>,
    /// The row as it is; none: it is deleted.
    pub after: Option<Row>,
}

impl<'a> Draft<'a> {
    /// A change of these rows.
    pub fn new(rows: &Rows, env: &'a Env<'a>) -> Self {
        Self {
            rows: rows.clone(),
            changes: BTreeMap::new(),
            order: Vec::new(),
            env,
            depth: 0,
            last: Vec::new(),
        }
    }

    /// The rows as they are now, within the change.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// What the change is made with.
    pub fn env(&self) -> &'a Env<'a> {
        self.env
    }

    /// The time of the change.
    pub fn now(&self) -> Timestamp {
        self.env.now
    }

    /// A row within the change.
    pub fn get<E: Entity>(&self, id: Id<E>) -> Option<&E> {
        self.rows.get(id)
    }

    /// Leaves a check to [`Draft::finish`]: for what holds only when all rows of the change are there, in whichever order
    /// they come, such as a set that is replaced as a whole and may not be empty.
    pub fn at_end(&mut self, check: impl Fn(&Rows) -> Result<(), Refusal> + 'static) {
        self.last.push(LastCheck(Box::new(check)));
    }

    /// The new rows, and what was changed, in the order of the first change of each row.
    ///
    /// # Errors
    ///
    /// Why the change as a whole is refused.
    pub fn finish(self) -> Result<(Rows, Vec<Change>), Refusal> {
        self.last.iter().try_for_each(|check| check.0(&self.rows))?;
        let mut changes = self.changes;
        let changed = self.order.iter().filter_map(|key| changes.remove(key));
        // A row that was made and deleted within the change never was.
        let changed = changed.filter(|change| change.before.is_some() || change.after.is_some()).collect();
        Ok((self.rows, changed))
    }

    /// Saves a new row by the rules, and gives it its id.
    ///
    /// # Errors
    ///
    /// Why it is refused; the draft is then to be dropped.
    pub fn create<E: Rules>(&mut self, row: E) -> Result<Id<E>, Refusal> {
        self.create_row(Box::new(row)).map(Id::new)
    }

    /// [`Draft::create`] of a row of any table.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn create_row(&mut self, mut row: Box<dyn Record>) -> Result<u32, Refusal> {
        let id = self.rows.next_id(row.table());
        if id == u32::MAX {
            return Err(Refusal::Forbidden(format!("there are no ids left for {}", row.table().name)));
        }
        row.set_id(id);
        self.save(row)?;
        Ok(id)
    }

    /// Changes a row by the rules.
    ///
    /// # Errors
    ///
    /// Why it is refused, or that there is no such row; the draft is then to be dropped.
    pub fn change<E: Rules>(&mut self, id: Id<E>, change: impl FnOnce(&mut E)) -> Result<(), Refusal> {
        let mut row = self.rows.get(id).ok_or(Refusal::Gone)?.clone();
        change(&mut row);
        self.save(Box::new(row))
    }

    /// Saves a row by the rules: a new one, or the changed one with its id.
    ///
    /// # Errors
    ///
    /// Why it is refused; the draft is then to be dropped.
    pub fn save(&mut self, mut row: Box<dyn Record>) -> Result<(), Refusal> {
        self.check_time()?;
        let table = row.table();
        let old = self.rows.row(table, row.id()).cloned();
        let mut check = Check::new(&self.rows, self.env.now, self.env.level);
        row.rules().check_row(old.as_deref(), &mut check);
        check.done().map_err(|refusal| match refusal {
            Refusal::Invalid(mut mistakes) => {
                add_taken(&mut mistakes, &*row, &self.rows, |_| false);
                Refusal::Invalid(mistakes)
            }
            other => other,
        })?;
        self.check_references(&*row)?;
        self.check_unique(&*row)?;
        let row: Row = Arc::from(row);
        if old.as_deref().is_some_and(|old| alike(old, &*row)) {
            return Ok(());
        }
        self.note(table, row.id(), old.clone(), Some(Arc::clone(&row)));
        self.rows.insert(Arc::clone(&row));
        self.deeper(|draft| row.rules_ref().saved_row(old.as_deref(), draft))
    }

    /// Saves a row as it is: no rules but references and uniqueness, and nothing set off. For rows that follow others.
    ///
    /// # Errors
    ///
    /// A dangling reference or a value that must be unique.
    pub fn put(&mut self, row: Box<dyn Record>) -> Result<(), Refusal> {
        self.check_references(&*row)?;
        self.check_unique(&*row)?;
        self.put_unchecked(row);
        Ok(())
    }

    /// Puts a row in without any check; the caller checks the whole afterwards (imports).
    pub fn put_unchecked(&mut self, row: Box<dyn Record>) {
        let table = row.table();
        let row: Row = Arc::from(row);
        let old = self.rows.row(table, row.id()).cloned();
        self.note(table, row.id(), old, Some(Arc::clone(&row)));
        self.rows.insert(row);
    }

    /// Deletes a row by the rules; rows that refer to it are deleted or cleared, or forbid it, as their fields say.
    ///
    /// # Errors
    ///
    /// Why it is refused; the draft is then to be dropped.
    pub fn delete<E: Entity>(&mut self, id: Id<E>) -> Result<(), Refusal> {
        self.delete_row(E::definition(), id.get())
    }

    /// [`Draft::delete`] of a row of any table.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn delete_row(&mut self, table: &'static Table, id: u32) -> Result<(), Refusal> {
        self.check_time()?;
        let row = self.rows.row(table, id).cloned().ok_or(Refusal::Gone)?;
        self.deeper(|draft| row.rules_ref().deleting_row(draft))?;
        for referrer in referrers(table) {
            let rows: Vec<Row> = self.rows.referring(referrer.table, referrer.place, id).cloned().collect();
            for other in rows {
                let itself = std::ptr::eq(referrer.table, table) && other.id() == id;
                match referrer.on_delete {
                    _ if itself => {}
                    OnDelete::Forbid => {
                        let name = referrer.table.name;
                        let why = format!("{} {id} is still in use by {name} {}", table.name, other.id());
                        return Err(Refusal::Forbidden(why));
                    }
                    OnDelete::Cascade => {
                        // It may have gone along with another row.
                        if self.rows.row(referrer.table, other.id()).is_some() {
                            self.deeper(|draft| draft.delete_row(referrer.table, other.id()))?;
                        }
                    }
                    OnDelete::Clear => {
                        let Some(other) = self.rows.row(referrer.table, other.id()) else { continue };
                        let mut other = other.copy();
                        let reading = Reading::stored(self.env.now);
                        other.set(referrer.place, &Json::Null, &reading).map_err(|fault| {
                            Refusal::Forbidden(format!("{}: {fault}", referrer.table.name))
                        })?;
                        self.put_unchecked(other);
                    }
                }
            }
        }
        if let Some(row) = self.rows.row(table, id).cloned() {
            self.note(table, id, Some(row), None);
            self.rows.remove(table, id);
        }
        Ok(())
    }

    /// Makes a part of the change that may be refused by itself: then all else of the change stays, and nothing of the part.
    ///
    /// # Errors
    ///
    /// Why the part is refused; the draft is good.
    pub fn attempt<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let rows = self.rows.clone();
        let changes = std::mem::take(&mut self.changes);
        let order = std::mem::take(&mut self.order);
        let last = std::mem::take(&mut self.last);
        let depth = self.depth;
        // Checks that the part leaves to its end are made at its end.
        let made = part(self).and_then(|made| {
            self.last.iter().try_for_each(|check| check.0(&self.rows))?;
            Ok(made)
        });
        self.last = last;
        self.depth = depth;
        let mut new_changes = std::mem::replace(&mut self.changes, changes);
        let new_order = std::mem::replace(&mut self.order, order);
        if made.is_ok() {
            for Change { table, id, before, after } in
                new_order.iter().filter_map(|key| new_changes.remove(key))
            {
                self.note(table, id, before, after);
            }
        } else {
            self.rows = rows;
        }
        made
    }

    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Refusal>) -> Result<T, Refusal> {
        if self.depth >= DEEPEST {
            return Err(Refusal::Forbidden("this change sets off too many others".to_owned()));
        }
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        result
    }

    fn note(&mut self, table: &'static Table, id: u32, before: Option<Row>, after: Option<Row>) {
        let key = (table.index, id);
        match self.changes.get_mut(&key) {
            Some(change) => change.after = after,
            None => {
                self.changes.insert(key, Change { table, id, before, after });
                self.order.push(key);
            }
        }
    }

    fn check_time(&self) -> Result<(), Refusal> {
        if !(self.env.is_over)() {
            return Ok(());
        }
        let message =
            "this change takes too long, and others wait for it; make it in smaller parts".to_owned();
        Err(Refusal::Coded { status: 413, message })
    }

    fn check_references(&self, row: &dyn Record) -> Result<(), Refusal> {
        for (place, field) in row.table().fields.iter().enumerate().skip(1) {
            let Kind::Reference(target) = field.kind else { continue };
            let Some(id) = row.get(place).id() else { continue };
            let itself = std::ptr::eq(target(), row.table()) && id == row.id();
            // Records are not among the rows; what they are is known where they are kept.
            if !itself && !target().records && self.rows.row(target(), id).is_none() {
                return Err(Refusal::Dangling { field: field.name.to_owned(), entity: target().name, id });
            }
        }
        Ok(())
    }

    fn check_unique(&self, row: &dyn Record) -> Result<(), Refusal> {
        let sets: Vec<&[usize]> = self.rows.clashes(row).map(|(places, _)| places).collect();
        Refusal::taken(row.table(), &sets).map_or(Ok(()), Err)
    }
}

/// Whether two rows of a table hold the same.
pub fn alike(one: &dyn Record, other: &dyn Record) -> bool {
    (0..one.table().fields.len()).all(|place| match (one.get(place), other.get(place)) {
        (Value::Null, Value::Null) => true,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (a, b) => a.stored() == b.stored(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entities::{Corporation, Terminal};
    use crate::testing::change;

    fn as_alice() -> Terminal {
        let mac = Some("001122334455".to_owned());
        let named = Terminal { name: "alice".to_owned(), mac, company: Id::new(1), ..Terminal::default() };
        Terminal { password: "ABCabc123+".into(), ..named }
    }

    fn names(mistakes: &[crate::rules::Mistake]) -> Vec<&str> {
        mistakes.iter().map(|mistake| mistake.field.as_str()).collect()
    }

    #[test]
    fn all_that_others_have_already_is_named_beside_other_mistakes_or_alone() {
        let with = |row: Terminal| {
            change(|draft| {
                let other = Terminal { name: "carol".to_owned(), ..as_alice() };
                draft.create(other)?;
                draft.create(row)
            })
            .unwrap_err()
        };
        let both = with(as_alice());
        let Refusal::Taken { message, mistakes } = &both else { panic!("{both}") };
        let line = "there is another Terminal with the same value";
        assert_eq!(*message, format!("name, domain: {line}\nmac: {line}"));
        assert_eq!((names(mistakes), mistakes[0].remedy.as_str()), (vec!["name", "mac"], line));
        let weak = with(Terminal { password: "x".into(), ..as_alice() });
        let Refusal::Invalid(mistakes) = &weak else { panic!("{weak}") };
        assert_eq!(names(mistakes), ["password", "name", "mac"]);
    }

    #[test]
    fn a_change_that_takes_too_long_is_given_up() {
        let rows = crate::testing::sample();
        let asked = std::cell::Cell::new(0);
        let is_over = || asked.replace(asked.get() + 1) >= 3;
        let random = || 4;
        let hasher = &crate::testing::PlainHasher;
        let env = Env { now: crate::testing::now(), level: None, hasher, random: &random, is_over: &is_over };
        let mut draft = Draft::new(&rows, &env);
        let mut make =
            |name: &str| draft.create(Corporation { name: name.to_owned(), ..Corporation::default() });
        assert!(make("one").is_ok() && make("two").is_ok() && make("three").is_ok());
        assert!(matches!(make("four"), Err(Refusal::Coded { status: 413, .. })));
    }

    #[test]
    fn a_part_that_is_refused_leaves_the_rest_of_a_change() {
        let named = |name: &str| Corporation { name: name.to_owned(), ..Corporation::default() };
        let (made, rows, changes) = change(|draft| {
            let first = draft.create(named("first"))?;
            let refused = draft.attempt(|draft| {
                draft.change(first, |row| row.name = "changed".to_owned())?;
                draft.create(named("second"))?;
                Err::<(), _>(Refusal::Forbidden("no".to_owned()))
            });
            assert_eq!(refused, Err(Refusal::Forbidden("no".to_owned())));
            let third = draft.attempt(|draft| {
                draft.change(first, |row| row.description = Some("kept".to_owned()))?;
                draft.create(named("third"))
            })?;
            Ok((first, third))
        })
        .expect("the change is made");
        let names: Vec<&str> = rows.each::<Corporation>().map(|row| row.name.as_str()).collect();
        assert!(names.contains(&"first") && names.contains(&"third"), "{names:?}");
        assert!(!names.contains(&"second") && !names.contains(&"changed"), "{names:?}");
        let changed: Vec<u32> = changes.iter().map(|change| change.id).collect();
        assert_eq!(changed, [made.0.get(), made.1.get()]);
        assert!(changes.iter().all(|change| change.before.is_none() && change.after.is_some()));
    }
}
