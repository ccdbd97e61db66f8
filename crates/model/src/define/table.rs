//! The table of an entity: its fields, who sees them, and reading and writing them by place.
//!
//! Written by `#[derive(Entity)]`, read by storage, validation, REST, documents and imports.

use super::access::{Access, Level};
use super::computed::Computed;
use super::value::{Fault, Kind, Reading, Value};
use crate::id::Id;
use serde_json::Value as Json;
use std::any::Any;
use std::fmt::Debug;

/// Everything about one entity.
#[derive(Debug)]
pub struct Table {
    /// Its name: "Carrier".
    pub name: &'static str,
    /// What it is, in the words of its doc comment.
    pub docs: &'static str,
    /// Its place among all tables: `entities::TABLES[index]`.
    pub index: usize,
    /// Its REST collection ("carriers"), or empty when it has no endpoint of its own.
    pub path: &'static str,
    /// Its fields; the first one is its id.
    pub fields: &'static [Field],
    /// Places of fields that together occur once. A row with a null or an empty text among them is
    /// free of the rule.
    pub unique: &'static [&'static [usize]],
    /// What each level may do; a level that is missing does not know the entity.
    pub access: &'static [Access],
    /// What is shown beside the fields.
    pub computed: &'static [Computed],
    /// Append-heavy rows, kept by the store's record tables and not in the snapshot.
    pub records: bool,
    /// The platform's own rows, neither exported nor imported.
    pub hidden: bool,
    /// Fields of imported rows that are skipped: references to another system's inner tables.
    pub inner: &'static [&'static str],
    /// Makes a row of defaults.
    pub make: fn() -> Box<dyn Record>,
}

impl Table {
    /// The place of the field with this name.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// The field with this name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The computed value with this name.
    pub fn computed(&self, name: &str) -> Option<&'static Computed> {
        self.computed.iter().find(|computed| computed.name == name)
    }

    /// What this level may do.
    pub fn access(&self, level: Level) -> Option<&'static Access> {
        self.access.iter().find(|access| access.level == level)
    }

    /// The name space that documents put before its name.
    pub fn space(&self) -> &'static str {
        match self.name {
            "Rtpengine" | "Trusted" | "UsersAddress" => "Kam",
            _ => "Provider",
        }
    }

    /// Its name in imported and exported documents: "Provider.Carrier".
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.space(), self.name)
    }

    /// The places of fields as answers show them: plain ones, the id, embedded ones, references.
    pub fn shown_order(&self) -> impl Iterator<Item = usize> {
        let group = |place: &usize| match self.fields[*place].kind {
            Kind::Id => 1,
            Kind::Group(_) => 2,
            Kind::Reference(_) => 3,
            _ => 0,
        };
        let mut places: Vec<usize> = (0..self.fields.len()).collect();
        places.sort_by_key(group);
        places.into_iter()
    }
}

/// One field of an entity.
#[derive(Debug)]
pub struct Field {
    /// Its name in documents and answers: "maxCalls".
    pub name: &'static str,
    /// What it means, in the words of its doc comment.
    pub docs: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// It may be null.
    pub nullable: bool,
    /// Most characters of a text; 0: no limit of its own.
    pub max: usize,
    /// Least number, when the type's own is not meant.
    pub min: Option<i64>,
    /// Greatest number, when the type's own is not meant.
    pub high: Option<i64>,
    /// Decimal places of a decimal.
    pub scale: u32,
    /// A new row has a value here without being given one.
    pub has_default: bool,
    /// Who sees and writes it, by [`Level`].
    pub views: [View; 4],
    /// What happens to the row when the row that this reference names is deleted.
    pub on_delete: OnDelete,
    /// Rows are looked up by this reference.
    pub index: bool,
    /// Answers show five asterisks instead.
    pub masked: bool,
    /// A new row has the time of its making here, unless it is given another.
    pub now: bool,
    /// Null for clients that may not see their invoices.
    pub invoiced: bool,
    /// Texts that differ in the case of their letters alone are the same, where they must be unique or are looked up.
    pub folded: bool,
    /// No row is saved with null here, although rows that were stored or imported may have it.
    pub needed: bool,
    /// Of a group: the parts that lists show; empty: all.
    pub brief: &'static [&'static str],
}

impl Field {
    /// Who sees and writes it at this level.
    pub fn view(&self, level: Level) -> View {
        self.views[level as usize]
    }

    /// A stored or imported row must have a value of its own.
    pub fn required(&self) -> bool {
        !self.nullable && !self.has_default && !matches!(self.kind, Kind::Id | Kind::Group(_))
    }

    /// Whoever makes a row must give it a value.
    pub fn must_be_given(&self) -> bool {
        self.required() || (self.needed && !self.has_default)
    }

    /// A document may set it to null.
    pub fn takes_null(&self) -> bool {
        self.nullable && !self.needed
    }
}

/// Where one level meets a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// In lists, where it is a filter, too.
    pub list: bool,
    /// In answers to reading one row.
    pub detail: bool,
    /// In answers to changing one.
    pub changed: bool,
    /// In answers to making one.
    pub created: bool,
    /// Accepted when a row is made.
    pub create: bool,
    /// Accepted when a row is changed.
    pub change: bool,
    /// Of a group: items show no more of it than lists.
    pub brief: bool,
}

impl View {
    /// Everywhere.
    pub const WHOLE: Self = Self {
        list: true,
        detail: true,
        changed: true,
        created: true,
        create: true,
        change: true,
        brief: false,
    };
}

/// What a reference does when the row it names is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// The row cannot be deleted.
    Forbid,
    /// The referring row is deleted, too.
    Cascade,
    /// The reference becomes null.
    Clear,
}

/// A struct that is a configuration entity.
pub trait Entity: Record + Clone + Default {
    /// Its table.
    fn definition() -> &'static Table;
}

/// One row of any entity.
pub trait Record: Any + Debug + Send + Sync {
    /// Its table.
    fn table(&self) -> &'static Table;
    /// Its identifier; 0 before it has one.
    fn id(&self) -> u32;
    /// Gives it its identifier.
    fn set_id(&mut self, id: u32);
    /// The value at this place of [`Table::fields`]; null where there is no such place.
    fn get(&self, place: usize) -> Value<'_>;
    /// Reads a value into this place.
    ///
    /// # Errors
    ///
    /// What is wrong with it; the row is unchanged then.
    fn set(&mut self, place: usize, json: &Json, reading: &Reading<'_>) -> Result<(), Fault>;
    /// A copy.
    fn copy(&self) -> Box<dyn Record>;
    /// Its rules.
    fn rules(&mut self) -> &mut dyn crate::rules::DynRules;
    /// Its rules, for looking only.
    fn rules_ref(&self) -> &dyn crate::rules::DynRules;
    /// For downcasts.
    fn any(&self) -> &dyn Any;
    /// For downcasts.
    fn any_mut(&mut self) -> &mut dyn Any;
}

/// Rows are equal when they are of one table and hold the same.
impl PartialEq for dyn Record {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self, other)
            || (std::ptr::eq(self.table(), other.table()) && crate::draft::alike(self, other))
    }
}

impl dyn Record {
    /// The row as its own type.
    pub fn cast<E: Entity>(&self) -> Option<&E> {
        self.any().downcast_ref()
    }

    /// The value of the field with this name; null where there is none.
    pub fn named(&self, name: &str) -> Value<'_> {
        self.table().place(name).map_or(Value::Null, |place| self.get(place))
    }

    /// The identifier that the reference with this name holds.
    pub fn reference(&self, name: &str) -> Option<u32> {
        self.named(name).id()
    }
}

impl<K> Default for Id<K> {
    /// No row's identifier yet.
    fn default() -> Self {
        Self::new(0)
    }
}
