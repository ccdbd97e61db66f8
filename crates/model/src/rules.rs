//! The rules of entities: what is checked and put in order before a row is saved, and what saving it sets off.
//!
//! Each entity's rules stand beside its definition ([`crate::entities`]); this file says what a rule is and how it refuses.

use crate::define::{Entity, Level, Record};
use crate::draft::Draft;
use crate::rows::Rows;
use jiff::Timestamp;

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
}

fn listed(mistakes: &[Mistake]) -> String {
    let line = |mistake: &Mistake| match mistake.field.as_str() {
        "" => mistake.remedy.clone(),
        field => format!("{field}: {}", mistake.remedy),
    };
    mistakes.iter().map(line).collect::<Vec<_>>().join("\n")
}
