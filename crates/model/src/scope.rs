//! Who is asking, and which rows exist for them: the rules of [`crate::define::Access`], judged.
//!
//! In: a caller and a row. Out: whether the row is there, may be written, may be deleted. Rows outside of a caller's reach
//! do not exist for that caller.

use crate::define::{Access, Computed, Entity, Field, How, Kind, Level, Record, Rule, Table, Value, View};
use crate::entities::Company;
use crate::id::Id;
use crate::rows::{Row, Rows};
use jiff::tz::TimeZone;

/// Who is asking.
#[derive(Clone, Debug)]
pub struct Caller {
    /// At which level.
    pub level: Level,
    /// The administrator, at all levels but the users'.
    pub administrator: Option<u32>,
    /// The user, at the users' level.
    pub user: Option<u32>,
    /// The brand, below the platform.
    pub brand: Option<u32>,
    /// The client, below the brand.
    pub company: Option<u32>,
    /// What moments are written in.
    pub zone: TimeZone,
    /// A restricted administrator, who needs a grant for each operation.
    pub restricted: bool,
    /// The operator of the whole, at the machine itself: every table but hidden ones, every row and every field is there,
    /// whatever the level.
    pub operator: bool,
}

/// A rule that an index answers.
#[derive(Clone, Copy)]
struct Own {
    /// Which of the rules.
    rule: usize,
    /// The place of its field.
    place: usize,
    /// The row that the field must name.
    target: u32,
}

impl Caller {
    /// The operator of the whole.
    pub fn operator() -> Self {
        Self {
            level: Level::Platform,
            administrator: None,
            user: None,
            brand: None,
            company: None,
            zone: TimeZone::UTC,
            restricted: false,
            operator: true,
        }
    }

    /// What the caller may do with rows of this table; none: the caller does not know it.
    pub fn access(&self, table: &Table) -> Option<&'static Access> {
        static EVERYTHING: Access = Access::at(Level::Platform, "lgcud").order(&["id"]).unpaged();
        static RECORDS: Access = Access::at(Level::Platform, "lg").order(&["-id"]);
        match (self.operator, table.hidden, table.records) {
            (false, ..) => table.access(self.level),
            (true, true, _) => None,
            (true, false, false) => Some(&EVERYTHING),
            (true, false, true) => Some(&RECORDS),
        }
    }

    /// Where the caller meets a field.
    pub fn view(&self, field: &Field) -> View {
        if self.operator { View::WHOLE } else { field.view(self.level) }
    }

    /// Where the caller meets a computed value. The operator sees sets and derived values where any level does.
    pub fn view_computed(&self, computed: &Computed) -> View {
        if !self.operator {
            return computed.view(self.level);
        }
        let any = |place: fn(&View) -> bool| computed.views.iter().any(place);
        let set = matches!(computed.how, How::Pairs(..) | How::Members(..));
        let shown = set || any(|view| view.detail || view.changed || view.created);
        View {
            list: any(|view| view.list),
            detail: shown,
            changed: shown,
            created: shown,
            create: set,
            change: set,
            brief: false,
        }
    }

    /// Whether the row is there for this caller. A table that the level does not know is judged by nobody: false.
    pub fn sees(&self, row: &dyn Record, rows: &Rows) -> bool {
        let Some(access) = self.access(row.table()) else { return false };
        self.all_hold(access.read, row, None, rows)
    }

    /// Whether the caller may leave this row behind. `before` is the row as it was.
    pub fn may_write(&self, row: &dyn Record, before: Option<&dyn Record>, rows: &Rows) -> bool {
        let Some(access) = self.access(row.table()) else { return false };
        let rules = if access.write.is_empty() { access.read } else { access.write };
        self.all_hold(rules, row, before, rows)
    }

    /// Whether the caller may delete this row.
    pub fn may_delete(&self, row: &dyn Record, rows: &Rows) -> bool {
        let Some(access) = self.access(row.table()) else { return false };
        let rules = [access.delete, access.write, access.read].into_iter().find(|rules| !rules.is_empty());
        self.all_hold(rules.unwrap_or_default(), row, Some(row), rows)
    }

    /// The rows of a table that are there for this caller, by id.
    pub fn visible<'a>(
        &'a self,
        table: &'static Table,
        access: &'static Access,
        rows: &'a Rows,
    ) -> impl Iterator<Item = &'a Row> + 'a {
        let own = self.own(table, access);
        let candidates: Box<dyn Iterator<Item = &'a Row> + 'a> = match own {
            Some(own) => rows.referring(table, own.place, own.target),
            None => Box::new(rows.all(table)),
        };
        // What the index was asked for holds.
        let rest = access.read.iter().enumerate().filter(|(at, _)| own.is_none_or(|own| own.rule != *at));
        let rest: Vec<&Rule> = rest.map(|(_, rule)| rule).collect();
        candidates.filter(move |row| rest.iter().all(|rule| self.holds(rule, &***row, None, rows)))
    }

    /// The place of an indexed reference, and whom it names in all rows of a table that are there for this caller and in no
    /// others; none: something else decides, too.
    pub fn owner(&self, table: &Table, access: &Access) -> Option<(usize, u32)> {
        self.own(table, access).filter(|_| access.read.len() == 1).map(|own| (own.place, own.target))
    }

    /// The first rule that an index answers.
    fn own(&self, table: &Table, access: &Access) -> Option<Own> {
        access.read.iter().enumerate().find_map(|(at, rule)| {
            let (field, target) = match rule {
                Rule::OwnCompany(field) => (field, self.company),
                Rule::OwnBrand(field) => (field, self.brand),
                Rule::Myself(field) => (field, self.user),
                _ => return None,
            };
            let place = table.place(field).filter(|place| table.fields[*place].index)?;
            Some(Own { rule: at, place, target: target? })
        })
    }

    /// Whether all these conditions hold for the row.
    pub fn all_hold(
        &self,
        rules: &[Rule],
        row: &dyn Record,
        before: Option<&dyn Record>,
        rows: &Rows,
    ) -> bool {
        rules.iter().all(|rule| self.holds(rule, row, before, rows))
    }

    fn holds(&self, rule: &Rule, row: &dyn Record, before: Option<&dyn Record>, rows: &Rows) -> bool {
        let value = |name: &str| row.named(name);
        match rule {
            Rule::OwnBrand(field) => self.brand.is_some() && value(field).id() == self.brand,
            Rule::OwnCompany(field) => self.company.is_some() && value(field).id() == self.company,
            Rule::Myself(field) => self.user.is_some() && value(field).id() == self.user,
            Rule::OwnClients(field) => {
                let company = value(field).id().and_then(|id| rows.get(Id::<Company>::new(id)));
                company.is_some_and(|company| self.brand == Some(company.brand.get()))
            }
            Rule::Null(field) => value(field).is_null(),
            Rule::Is(field, wanted) => is(value(field), wanted),
            Rule::IsNot(field, wanted) => !is(value(field), wanted),
            Rule::OneOf(field, wanted) => wanted.iter().any(|wanted| is(value(field), wanted)),
            Rule::NoneOf(field, wanted) => !wanted.iter().any(|wanted| is(value(field), wanted)),
            Rule::Visible(field) => self.sees_target(row, field, rows),
            Rule::VisibleOrNull(field) => value(field).is_null() || self.sees_target(row, field, rows),
            Rule::All(rules) => self.all_hold(rules, row, before, rows),
            Rule::Any(rules) => rules.iter().any(|rule| self.holds(rule, row, before, rows)),
            Rule::Never => false,
            Rule::Unchanged(field) => {
                before.is_none_or(|before| before.named(field).stored() == value(field).stored())
            }
            Rule::Where(holds) => holds(row, self, rows),
        }
    }

    fn sees_target(&self, row: &dyn Record, field: &str, rows: &Rows) -> bool {
        let Some(Kind::Reference(target)) = row.table().field(field).map(|field| field.kind) else {
            return false;
        };
        let target = row.reference(field).and_then(|id| rows.row(target(), id));
        target.is_some_and(|target| self.sees(&**target, rows))
    }

    /// The caller's client.
    pub fn own_company<'a>(&self, rows: &'a Rows) -> Option<&'a Company> {
        rows.at(self.company.map(Id::new))
    }

    /// The caller's brand.
    pub fn own_brand<'a>(&self, rows: &'a Rows) -> Option<&'a crate::entities::Brand> {
        rows.at(self.brand.map(Id::new))
    }
}

fn is(value: Value<'_>, wanted: &str) -> bool {
    match value {
        Value::Bool(flag) => (wanted == "1") == flag,
        Value::Int(number) => wanted.parse() == Ok(number),
        Value::Text(text) => text == wanted,
        _ => false,
    }
}

/// Whether the row has an entity's type and refers to `target` by this field: for conditions of [`Rule::Where`].
pub fn paired<E: Entity>(rows: &Rows, mine: &str, my_id: u32, theirs: &str, their_id: u32) -> bool {
    rows.of::<E>(mine, my_id).any(|row| {
        let row: &dyn Record = row;
        row.reference(theirs) == Some(their_id)
    })
}
