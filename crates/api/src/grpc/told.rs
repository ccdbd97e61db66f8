//! Documents of rows for gRPC, and what a change of rows looks like to a caller: each row before and after, secrets masked.
//!
//! In: rows before and after. Out: messages. Elsewhere: who sees which field (`show`, `model::scope`).

use super::{Act, known_access, may};
use crate::show::{Look, MASK, Place};
use model::define::{How, Kind, Record, Table};
use model::entities::TABLES;
use model::rows::{Row, Rows};
use model::scope::Caller;
use proto::v1;
use serde_json::{Map, Value as Json};
use std::collections::HashMap;
use std::sync::OnceLock;

/// How a row is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// With the fields of lists.
    Brief,
    /// With all fields, as REST shows them.
    Whole,
    /// With all fields; what is secret is masked for everybody.
    Masked,
}

/// A row as the caller is shown it, references as ids, without the state of the living system.
pub(super) fn document(caller: &Caller, rows: &Rows, row: &dyn Record, form: Form) -> Map<String, Json> {
    let table = row.table();
    let living = HashMap::new();
    let look = Look { caller, rows, living: &living };
    let place = if form == Form::Brief { Place::List } else { Place::Detail };
    let mut shown = look.row(row, place, false);
    for computed in table.computed.iter().filter(|computed| matches!(computed.how, How::Live(_))) {
        shown.remove(computed.name);
    }
    mask(caller, table, &mut shown, form == Form::Masked);
    shown
}

/// Masks what is secret: where all shall be, and always for the operator, whose documents lie about in files.
pub(super) fn mask(caller: &Caller, table: &Table, shown: &mut Map<String, Json>, all: bool) {
    if !all && !caller.operator {
        return;
    }
    for field in table.fields.iter().filter(|field| matches!(field.kind, Kind::Secret | Kind::Password)) {
        if let Some(value) = shown.get_mut(field.name).filter(|value| !value.is_null()) {
            *value = Json::from(MASK);
        }
    }
}

/// A row by its table's place and its id.
pub(super) type Key = (usize, u32);

/// The rows whose documents a change of this row can change: itself, and those that show it in a set.
pub(super) fn concerned(table: &'static Table, before: Option<&Row>, after: Option<&Row>) -> Vec<Key> {
    /// Of each table: who shows its rows in a set, and the field that names the owner.
    static OWNERS: OnceLock<Vec<Vec<(usize, &'static str)>>> = OnceLock::new();
    let owners = OWNERS.get_or_init(|| {
        let mut owners = vec![Vec::new(); TABLES.len()];
        for table in TABLES.iter() {
            for computed in table.computed {
                match computed.how {
                    How::Pairs(through, mine, _) => owners[through().index].push((table.index, mine)),
                    How::Members(members, field) => owners[members().index].push((table.index, field)),
                    How::Derived(_) | How::Live(_) => {}
                }
            }
        }
        owners
    });
    let mut keys: Vec<Key> = before.or(after).map(|row| (table.index, row.id())).into_iter().collect();
    for (owner, field) in &owners[table.index] {
        for id in [before, after].into_iter().flatten().filter_map(|row| row.reference(field)) {
            if !keys.contains(&(*owner, id)) {
                keys.push((*owner, id));
            }
        }
    }
    keys
}

/// What the caller sees of the change of a row; none: nothing.
pub(super) fn change(caller: &Caller, before: &Rows, after: &Rows, (table, id): Key) -> Option<v1::Change> {
    let table = *TABLES.get(table)?;
    let access = known_access(caller, table)?;
    let act = if access.operations.get { Act::Get } else { Act::List };
    may(caller, table, access, act, after).ok()?;
    let form = if act == Act::Get { Form::Masked } else { Form::Brief };
    let seen = |rows: &Rows| -> Option<(Row, Map<String, Json>)> {
        let row = rows.row(table, id).filter(|row| caller.sees(&***row, rows))?;
        let mut shown = document(caller, rows, &**row, form);
        mask(caller, table, &mut shown, true);
        Some((row.clone(), shown))
    };
    let (was, is) = (seen(before), seen(after));
    let deed = match (&was, &is) {
        (None, None) => return None,
        (None, Some(_)) => v1::Deed::Created,
        (Some(_), Some(_)) => v1::Deed::Changed,
        (Some(_), None) => v1::Deed::Deleted,
    };
    let fields = match (&was, &is) {
        (Some(was), Some(is)) => differing(was, is),
        _ => Vec::new(),
    };
    if deed == v1::Deed::Changed && fields.is_empty() {
        return None;
    }
    let text = |seen: Option<(Row, Map<String, Json>)>| {
        seen.map(|(_, shown)| Json::Object(shown).to_string()).unwrap_or_default()
    };
    Some(v1::Change {
        entity: table.name.to_owned(),
        id,
        deed: deed.into(),
        before: text(was),
        after: text(is),
        fields,
    })
}

/// Names of shown fields that differ; masked ones by what is behind the mask.
fn differing(was: &(Row, Map<String, Json>), is: &(Row, Map<String, Json>)) -> Vec<String> {
    let ((old, before), (new, after)) = (was, is);
    let mut names: Vec<String> = Vec::new();
    for (name, value) in after {
        let masked = value.as_str() == Some(MASK) && old.named(name).stored() != new.named(name).stored();
        if masked || before.get(name) != Some(value) {
            names.push(name.clone());
        }
    }
    names.extend(before.keys().filter(|name| !after.contains_key(*name)).cloned());
    names
}
