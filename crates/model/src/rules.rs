//! The rules of entities: what is checked and put in order before a row is saved, and what saving it sets off.
//!
//! Each entity's rules stand beside its definition ([`crate::entities`]); this file says what a rule is and how it refuses.

use crate::define::{Entity, Kind, Level, Reading, Record, Table};
use crate::draft::Draft;
use crate::rows::Rows;
use jiff::Timestamp;
use serde_json::Value as Json;

/// The rules of one entity. All have a default, so an entity without rules has an empty `impl`.
#[allow(unused_variables, reason = "the defaults do nothing")]
pub trait Rules: Entity {
    /// Puts the row in order and says what is wrong with it. `old` is the row as it was, when it is changed.
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {}

    /// What saving sets off: other rows that follow this one.
    ///
    /// # Errors
    ///
    /// Why the whole change is refused.
    fn saved(&self, old: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// What happens before the row is deleted; references to it are dealt with afterwards, as fields say.
    ///
    /// # Errors
    ///
    /// Why it cannot be deleted.
    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        Ok(())
    }
}

/// [`Rules`] of a row of unknown type.
pub trait DynRules {
    /// [`Rules::check`].
    fn check_row(&mut self, old: Option<&dyn Record>, check: &mut Check<'_>);
    /// [`Rules::saved`].
    ///
    /// # Errors
    ///
    /// As there.
    fn saved_row(&self, old: Option<&dyn Record>, draft: &mut Draft<'_>) -> Result<(), Refusal>;
    /// [`Rules::deleting`].
    ///
    /// # Errors
    ///
    /// As there.
    fn deleting_row(&self, draft: &mut Draft<'_>) -> Result<(), Refusal>;
}

impl<E: Rules> DynRules for E {
    fn check_row(&mut self, old: Option<&dyn Record>, check: &mut Check<'_>) {
        self.check(old.and_then(|old| old.cast::<E>()), check);
        for (place, field) in self.table().fields.iter().enumerate().filter(|(_, field)| field.needed) {
            check.require(!self.get(place).is_null(), field.name, "it must be given");
        }
    }

    fn saved_row(&self, old: Option<&dyn Record>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        self.saved(old.and_then(|old| old.cast::<E>()), draft)
    }

    fn deleting_row(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        self.deleting(draft)
    }
}

/// What a check may look at, and where it says what is wrong.
#[derive(Debug)]
pub struct Check<'a> {
    /// All other rows, and this one as it was.
    pub rows: &'a Rows,
    /// The time.
    pub now: Timestamp,
    /// The level at which the change is made; none: the platform itself makes it.
    pub level: Option<Level>,
    mistakes: Vec<Mistake>,
    refusal: Option<Refusal>,
}

impl<'a> Check<'a> {
    /// A check over these rows.
    pub fn new(rows: &'a Rows, now: Timestamp, level: Option<Level>) -> Self {
        Self { rows, now, level, mistakes: Vec::new(), refusal: None }
    }

    /// Says that a field is wrong, and how to make it right.
    pub fn wrong(&mut self, field: &str, remedy: impl Into<String>) {
        self.mistakes.push(Mistake { field: field.to_owned(), remedy: remedy.into() });
    }

    /// Says that a field is wrong unless the condition holds.
    pub fn require(&mut self, holds: bool, field: &str, remedy: &str) {
        if !holds {
            self.wrong(field, remedy);
        }
    }

    /// Says that the change is not allowed at all (403).
    pub fn forbid(&mut self, why: impl Into<String>) {
        self.refusal.get_or_insert(Refusal::Forbidden(why.into()));
    }

    /// Refuses with a status code of the dialect's own.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.refusal.get_or_insert(refusal);
    }

    /// What came out.
    ///
    /// # Errors
    ///
    /// The mistakes, or why the change is refused.
    pub fn done(self) -> Result<(), Refusal> {
        match self.refusal {
            _ if !self.mistakes.is_empty() => Err(Refusal::Invalid(self.mistakes)),
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// All that was said: the mistakes, and why the change is not allowed, mistakes or not.
    pub(crate) fn said(self) -> (Vec<Mistake>, Option<Refusal>) {
        (self.mistakes, self.refusal)
    }
}

/// A row that has something wrong with it already, and what else there is to say of it.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// The row.
    pub row: &'a dyn Record,
    /// The row as it was, when it is changed.
    pub old: Option<&'a dyn Record>,
    /// All other rows.
    pub rows: &'a Rows,
    /// The time.
    pub now: Timestamp,
    /// As in [`Check`].
    pub level: Option<Level>,
    /// Also says which values others have that must be there once.
    pub unique: bool,
}

impl Trial<'_> {
    /// Most ways to fill in choices that are wrong.
    const MOST_WAYS: usize = 64;

    /// What the rules say whatever the fields will be that are wrong. `wrong`: places of fields whose values cannot be read
    /// and are not in the row; `lost`: places of references to rows that are not there. Nothing, where the choices among the
    /// wrong fields can be made in too many ways.
    pub fn beside(&self, wrong: &[usize], lost: &[usize]) -> Vec<Mistake> {
        let fields = self.row.table().fields;
        // What else is right depends on choices: each of them is tried.
        let mut ways: Vec<Vec<(usize, Json)>> = vec![Vec::new()];
        for place in wrong {
            let values = fields.get(*place).map(choices).unwrap_or_default();
            if values.is_empty() {
                continue;
            }
            if ways.len() * values.len() > Self::MOST_WAYS {
                return Vec::new();
            }
            let with = |(way, value): (&Vec<_>, &Json)| [&way[..], &[(*place, value.clone())]].concat();
            ways =
                ways.iter().flat_map(|way| values.iter().map(move |value| (way, value))).map(with).collect();
        }
        if !lost.is_empty() {
            // To the rules a row that is lost is one that is not there: no row ever has this id. What they say because of
            // that is no mistake of its own: it must be said without the reference, too.
            let former = |place: usize| self.old.map_or(Json::Null, |old| old.get(place).stored());
            let nowhere = ways.iter().map(|way| [way.clone(), each(lost, |_| Json::from(u32::MAX))].concat());
            let without = ways.iter().map(|way| [way.clone(), each(lost, former)].concat());
            ways = nowhere.chain(without).collect();
        }
        let unknown = |place: usize| wrong.contains(&place) || lost.contains(&place);
        let mut found: Option<Vec<Mistake>> = None;
        for way in ways {
            let Some(said) = self.said(&way, unknown) else { return Vec::new() };
            match &mut found {
                None => found = Some(said),
                Some(found) => found.retain(|mistake| said.contains(mistake)),
            }
            if found.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
        }
        found.unwrap_or_default()
    }

    /// What the rules say of a copy of the row with these values in it; none: there cannot be such values.
    fn said(&self, values: &[(usize, Json)], unknown: impl Fn(usize) -> bool) -> Option<Vec<Mistake>> {
        let mut copy = self.row.copy();
        for (place, value) in values {
            copy.set(*place, value, &Reading::stored(self.now)).ok()?;
        }
        let mut check = Check::new(self.rows, self.now, self.level);
        copy.rules().check_row(self.old, &mut check);
        let (mut said, _) = check.said();
        if self.unique {
            add_taken(&mut said, &*copy, self.rows, unknown);
        }
        Some(said)
    }
}

fn each(places: &[usize], value: impl Fn(usize) -> Json) -> Vec<(usize, Json)> {
    places.iter().map(|place| (*place, value(*place))).collect()
}

/// All values of a field that has a few; else none.
fn choices(field: &crate::define::Field) -> Vec<Json> {
    let mut values: Vec<Json> = match field.kind {
        Kind::Choice(names) => names.iter().map(|name| Json::from(*name)).collect(),
        Kind::Bool => vec![Json::from(false), Json::from(true)],
        _ => return Vec::new(),
    };
    values.extend(field.nullable.then_some(Json::Null));
    values
}

/// Adds what others have that must be there once, where all of it is known and nothing of it is wrong for another reason.
pub(crate) fn add_taken(
    mistakes: &mut Vec<Mistake>,
    row: &dyn Record,
    rows: &Rows,
    unknown: impl Fn(usize) -> bool,
) {
    let table = row.table();
    let named: Vec<usize> = mistakes.iter().filter_map(|mistake| table.place(&mistake.field)).collect();
    for (places, _) in rows.clashes(row) {
        if !places.iter().any(|place| unknown(*place) || named.contains(place)) {
            taken(table, places, mistakes);
        }
    }
}

/// Names the fields of a set that another row has: those that say whose the row is only where there are no others.
fn taken(table: &Table, places: &[usize], mistakes: &mut Vec<Mistake>) {
    let owner = |place: &&usize| matches!(table.fields[**place].name, "brand" | "company" | "domain");
    let only_owner = places.iter().all(|place| owner(&place));
    for place in places.iter().filter(|place| only_owner || !owner(place)) {
        let mistake = Mistake { field: table.fields[*place].name.to_owned(), remedy: same_value(table) };
        if !mistakes.contains(&mistake) {
            mistakes.push(mistake);
        }
    }
}

fn same_value(table: &Table) -> String {
    format!("there is another {} with the same value", table.name)
}

/// One thing that is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The field; empty when it is about several.
    pub field: String,
    /// What is wrong and how to make it right.
    pub remedy: String,
}

/// Why a change is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Fields are wrong; all of them are listed.
    #[error("{}", listed(.0))]
    Invalid(Vec<Mistake>),
    /// It is against a rule, or the row is out of the caller's reach.
    #[error("{0}")]
    Forbidden(String),
    /// Other rows have what must be there once.
    #[error("{message}")]
    Taken {
        /// The sets of fields, each in a line with all its names.
        message: String,
        /// The fields.
        mistakes: Vec<Mistake>,
    },
    /// There is no such row.
    #[error("there is no such row")]
    Gone,
    /// A reference names a row that does not exist.
    #[error("{field}: there is no {entity} {id}")]
    Dangling {
        /// The reference.
        field: String,
        /// What it refers to.
        entity: &'static str,
        /// The id it names.
        id: u32,
    },
    /// Several references name rows that do not exist; all of them are listed.
    #[error("{}", listed(.0))]
    Nowhere(Vec<Mistake>),
    /// The row would be out of the caller's reach; the fields that make it so, where it is fields.
    #[error("Rejected request during security check")]
    OutOfReach(Vec<Mistake>),
    /// The dialect's own status code.
    #[error("{message}")]
    Coded {
        /// HTTP's status code.
        status: u16,
        /// What to show.
        message: String,
    },
}

impl Refusal {
    /// One field is wrong.
    pub fn wrong(field: &str, remedy: impl Into<String>) -> Self {
        Self::Invalid(vec![Mistake { field: field.to_owned(), remedy: remedy.into() }])
    }

    /// Other rows have these sets of fields; none: there are no such sets.
    pub(crate) fn taken(table: &Table, sets: &[&[usize]]) -> Option<Self> {
        let names =
            |places: &[usize]| places.iter().map(|place| table.fields[*place].name).collect::<Vec<_>>();
        let line = |places: &&[usize]| format!("{}: {}", names(places).join(", "), same_value(table));
        let mut mistakes = Vec::new();
        sets.iter().for_each(|places| taken(table, places, &mut mistakes));
        let message = sets.iter().map(line).collect::<Vec<_>>().join("\n");
        (!sets.is_empty()).then_some(Self::Taken { message, mistakes })
    }
}

fn listed(mistakes: &[Mistake]) -> String {
    let line = |mistake: &Mistake| match mistake.field.as_str() {
        "" => mistake.remedy.clone(),
        field => format!("{field}: {}", mistake.remedy),
    };
    mistakes.iter().map(line).collect::<Vec<_>>().join("\n")
}
