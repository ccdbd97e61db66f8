//! Who may do what with an entity, level by level: operations, scopes, features, restricted administrators.
//!
//! Plain data, written as a const beside each entity. Elsewhere: judging a row by it (`crate::scope`).

use super::table::Record;
use crate::rows::Rows;
use crate::scope::Caller;

/// The four levels of the platform (manual, "Introduction to IvozProvider API").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Main operator: administrators of the whole.
    Platform = 0,
    /// Brand operator.
    Brand = 1,
    /// Client administrator.
    Client = 2,
    /// A user of a vPBX client.
    User = 3,
}

impl Level {
    /// All of them, from above.
    pub const ALL: [Level; 4] = [Level::Platform, Level::Brand, Level::Client, Level::User];

    /// Its name in paths and attributes.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Platform => "platform",
            Level::Brand => "brand",
            Level::Client => "client",
            Level::User => "user",
        }
    }
}

/// The kinds of clients (manual, "Client types").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompanyType {
    /// Virtual PBX.
    Vpbx,
    /// Residential.
    Residential,
    /// Retail.
    Retail,
    /// Wholesale.
    Wholesale,
}

impl CompanyType {
    /// Its name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            CompanyType::Vpbx => "vpbx",
            CompanyType::Residential => "residential",
            CompanyType::Retail => "retail",
            CompanyType::Wholesale => "wholesale",
        }
    }
}

/// What a level may do with an entity.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The level.
    pub level: Level,
    /// Which operations there are.
    pub operations: Operations,
    /// A restricted administrator needs a grant for each operation.
    pub acl: bool,
    /// How lists are ordered when the caller does not say: names of fields, a `-` before it for descending.
    pub order: &'static [&'static str],
    /// Rows that are there at all for this caller; all of them must hold.
    pub read: &'static [Rule],
    /// Rows that the caller may leave behind by a write; empty: those that may be read.
    pub write: &'static [Rule],
    /// Rows that the caller may delete; empty: those that may be written.
    pub delete: &'static [Rule],
    /// The brand must have this feature.
    pub brand_feature: &'static str,
    /// The client must have this feature.
    pub company_feature: &'static str,
    /// The client must be of one of these types; empty: any.
    pub company_types: &'static [CompanyType],
    /// The client must be allowed to see its invoices.
    pub needs_invoices: bool,
    /// Lists show the rows that references name instead of their ids.
    pub list_expands: bool,
    /// The answer to a creation does so, too.
    pub create_expands: bool,
    /// The answer to a change does so, too.
    pub change_expands: bool,
    /// The answer to a creation shows the row as lists do.
    pub create_lists: bool,
    /// The caller may ask for all rows at once.
    pub unpaged: bool,
    /// Lists come as CSV, too.
    pub csv: bool,
}

/// Operations on a collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// `GET` of the collection.
    pub list: bool,
    /// `GET` of a row.
    pub get: bool,
    /// `POST`.
    pub create: bool,
    /// `PUT`.
    pub change: bool,
    /// `DELETE`.
    pub delete: bool,
}

impl Access {
    /// What a level may do; letters as in "lgcud": list, get, create, change ("update"), delete.
    pub const fn at(level: Level, letters: &str) -> Self {
        let bytes = letters.as_bytes();
        let mut operations =
            Operations { list: false, get: false, create: false, change: false, delete: false };
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'l' => operations.list = true,
                b'g' => operations.get = true,
                b'c' => operations.create = true,
                b'u' => operations.change = true,
                b'd' => operations.delete = true,
                _ => panic!("letters are of lgcud"),
            }
            at += 1;
        }
        Self {
            level,
            operations,
            acl: false,
            order: &[],
            read: &[],
            write: &[],
            delete: &[],
            brand_feature: "",
            company_feature: "",
            company_types: &[],
            needs_invoices: false,
            list_expands: false,
            create_expands: false,
            change_expands: false,
            create_lists: false,
            unpaged: false,
            csv: false,
        }
    }

    /// The conditions that a row must meet to be left behind by a write, those in groups one by one.
    pub fn leaves(&self) -> impl Iterator<Item = &'static Rule> {
        let rules = if self.write.is_empty() { self.read } else { self.write };
        rules.iter().flat_map(|rule| match rule {
            Rule::All(rules) => rules.iter(),
            rule => std::slice::from_ref(rule).iter(),
        })
    }

    /// Whether a row must have a value here to be within the level's reach, though the field may be null otherwise.
    pub fn demands(&self, field: &str) -> bool {
        self.leaves().any(|rule| matches!(rule, Rule::Visible(name) if *name == field))
    }

    /// Restricted administrators need grants.
    pub const fn acl(mut self) -> Self {
        self.acl = true;
        self
    }

    /// The order of lists.
    pub const fn order(mut self, order: &'static [&'static str]) -> Self {
        self.order = order;
        self
    }

    /// Rows that are there at all.
    pub const fn read(mut self, rules: &'static [Rule]) -> Self {
        self.read = rules;
        self
    }

    /// Rows that may be left behind by a write.
    pub const fn write(mut self, rules: &'static [Rule]) -> Self {
        self.write = rules;
        self
    }

    /// Rows that may be deleted.
    pub const fn delete(mut self, rules: &'static [Rule]) -> Self {
        self.delete = rules;
        self
    }

    /// The brand's feature that it takes.
    pub const fn brand_feature(mut self, feature: &'static str) -> Self {
        self.brand_feature = feature;
        self
    }

    /// The client's feature that it takes.
    pub const fn company_feature(mut self, feature: &'static str) -> Self {
        self.company_feature = feature;
        self
    }

    /// The types of clients that have it.
    pub const fn company_types(mut self, types: &'static [CompanyType]) -> Self {
        self.company_types = types;
        self
    }

    /// Only for clients that may see their invoices.
    pub const fn needs_invoices(mut self) -> Self {
        self.needs_invoices = true;
        self
    }

    /// Lists show whole rows behind references.
    pub const fn list_expands(mut self) -> Self {
        self.list_expands = true;
        self
    }

    /// The answer to a creation shows whole rows behind references.
    pub const fn create_expands(mut self) -> Self {
        self.create_expands = true;
        self
    }

    /// The answer to a change shows whole rows behind references.
    pub const fn change_expands(mut self) -> Self {
        self.change_expands = true;
        self
    }

    /// The answer to a creation shows the row as lists do.
    pub const fn create_lists(mut self) -> Self {
        self.create_lists = true;
        self
    }

    /// All rows may be asked for at once.
    pub const fn unpaged(mut self) -> Self {
        self.unpaged = true;
        self
    }

    /// Lists come as CSV, too.
    pub const fn csv(mut self) -> Self {
        self.csv = true;
        self
    }
}

/// A condition on a row, seen by a caller. Fields are named as in documents.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// The reference names the caller's brand. On the field `id`: the row is the caller's brand.
    OwnBrand(&'static str),
    /// The reference names the caller's client.
    OwnCompany(&'static str),
    /// The reference names a client of the caller's brand.
    OwnClients(&'static str),
    /// The reference names the caller, a user.
    Myself(&'static str),
    /// The field is null.
    Null(&'static str),
    /// The text, flag or number is this one; flags are "1" and "0".
    Is(&'static str, &'static str),
    /// It is another one, or null.
    IsNot(&'static str, &'static str),
    /// It is one of these.
    OneOf(&'static str, &'static [&'static str]),
    /// It is none of these.
    NoneOf(&'static str, &'static [&'static str]),
    /// The reference names a row that the caller may read at this level.
    Visible(&'static str),
    /// The reference is null or names such a row.
    VisibleOrNull(&'static str),
    /// All of these.
    All(&'static [Rule]),
    /// One of these.
    Any(&'static [Rule]),
    /// Nothing.
    Never,
    /// The value is what it was before the change; new rows are free.
    Unchanged(&'static str),
    /// A condition of its own.
    Where(fn(&dyn Record, &Caller, &Rows) -> bool),
}

impl Rule {
    /// The field that it is about, when it is about one.
    pub const fn field(&self) -> Option<&'static str> {
        match self {
            Rule::OwnBrand(field)
            | Rule::OwnCompany(field)
            | Rule::OwnClients(field)
            | Rule::Myself(field)
            | Rule::Null(field)
            | Rule::Is(field, _)
            | Rule::IsNot(field, _)
            | Rule::OneOf(field, _)
            | Rule::NoneOf(field, _)
            | Rule::Visible(field)
            | Rule::VisibleOrNull(field)
            | Rule::Unchanged(field) => Some(field),
            Rule::All(_) | Rule::Any(_) | Rule::Never | Rule::Where(_) => None,
        }
    }
}
