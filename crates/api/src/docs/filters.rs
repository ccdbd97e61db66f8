//! Parameters of queries: filters by what fields hold, order, pages.
//!
//! In: a table and a level. Out: parameters of OpenAPI 3.1. Elsewhere: what they do (`list`).

use super::schemas;
use model::define::{Access, Field, Kind, Level, Table};
use serde_json::{Value as Json, json};

const TEXT: &[(&str, &str)] = &[
    ("exact", "is this, in any case of letters and with any accents"),
    ("partial", "contains this, in any case of letters and with any accents"),
    ("start", "starts with this"),
    ("end", "ends with this"),
    ("neq", "is another"),
];
const NUMBER: &[(&str, &str)] = &[
    ("lt", "is less"),
    ("lte", "is this or less"),
    ("gt", "is more"),
    ("gte", "is this or more"),
    ("neq", "is another"),
];
const MOMENT: &[(&str, &str)] = &[
    ("exact", "is this"),
    ("start", "starts with this, as it is shown: a day, an hour"),
    ("before", "is this or before"),
    ("after", "is this or after"),
    ("strictly_before", "is before"),
    ("strictly_after", "is after"),
    ("neq", "is another"),
];

/// Refers to a parameter that all lists have.
pub(super) fn shared(name: &str) -> Json {
    json!({ "$ref": format!("#/components/parameters/{name}") })
}

/// The parameters that all lists and rows have.
pub(super) fn all_shared(level: Level) -> Json {
    let most = if matches!(level, Level::Platform | Level::Brand) { 10_000 } else { 5_000 };
    let ids = json!({ "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": u32::MAX } });
    json!({
        "page": query("_page", json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX, "default": 1 }), "Which page."),
        "itemsPerPage": query(
            "_itemsPerPage",
            json!({ "type": "integer", "minimum": 1, "maximum": most, "default": 30 }),
            "Rows on a page; more than the maximum are cut to it.",
        ),
        "pagination": query(
            "_pagination",
            json!({ "type": "boolean", "default": true }),
            "false: all rows at once, without the headers of pages.",
        ),
        "timezone": query(
            "_timezone",
            json!({ "type": "string", "examples": ["Europe/Madrid"] }),
            "The time zone in which moments are written and read; without it, the caller's.",
        ),
        "rmAlso": many("_rmAlso[]", ids, "Rows that are deleted together with this one, or none of them. Unknown ones are left out."),
    })
}

/// One parameter of a query.
pub(super) fn query(name: &str, schema: Json, docs: &str) -> Json {
    json!({ "name": name, "in": "query", "description": docs, "schema": schema })
}

/// One that may stand several times.
fn many(name: &str, schema: Json, docs: &str) -> Json {
    let mut parameter = query(name, schema, docs);
    parameter["style"] = json!("form");
    parameter["explode"] = json!(true);
    parameter
}

fn list_of(schema: &Json) -> Json {
    json!({ "type": "array", "items": schema })
}

/// Which fields are shown.
pub(super) fn properties(names: &[&str]) -> Json {
    let names: Vec<&str> = names.to_vec();
    let schema = json!({ "type": "array", "items": { "type": "string", "enum": names } });
    many("_properties[]", schema, "Only these fields are shown.")
}

/// Parameters of a list of this table. `_properties` is not among them.
pub(super) fn of_list(table: &'static Table, access: &'static Access, paged: bool) -> Vec<Json> {
    let mut parameters = Vec::new();
    if paged {
        parameters.push(shared("page"));
        parameters.push(shared("itemsPerPage"));
        if access.unpaged {
            parameters.push(shared("pagination"));
        }
    }
    parameters.push(shared("timezone"));
    let listed: Vec<&'static Field> =
        table.shown_order().map(|at| &table.fields[at]).filter(|f| f.view(access.level).list).collect();
    for field in &listed {
        filters(field, &mut parameters);
    }
    let way = json!({ "type": "string", "enum": ["ASC", "DESC"] });
    for field in listed {
        match field.kind {
            Kind::Json => {}
            Kind::Group(shape) if schemas::is_file(shape) => {}
            Kind::Group(shape) => {
                for part in shape.names {
                    parameters.push(order(&format!("{}.{part}", field.name), &way));
                }
            }
            _ => parameters.push(order(field.name, &way)),
        }
    }
    parameters
}

fn order(name: &str, way: &Json) -> Json {
    query(
        &format!("_order[{name}]"),
        way.clone(),
        "Sorts by it. Several sort in the order given, eight at most.",
    )
}

fn filters(field: &Field, parameters: &mut Vec<Json>) {
    let name = field.name;
    let text = json!({ "type": "string" });
    let mut add = |name: String, schema: Json, docs: &str| parameters.push(query(&name, schema, docs));
    let id = json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX });
    let (tests, value, list): (&[(&str, &str)], Json, bool) = match field.kind {
        Kind::Json => return,
        Kind::Group(shape) if schemas::is_file(shape) => return,
        Kind::Group(shape) => {
            for part in shape.names {
                add(format!("{name}.{part}"), text.clone(), "It is this.");
                add(format!("{name}.{part}[partial]"), text.clone(), "It contains this.");
            }
            return;
        }
        Kind::Text | Kind::Secret | Kind::Password => (TEXT, text, true),
        Kind::Choice(names) => (&TEXT[4..], json!({ "type": "string", "enum": names }), true),
        Kind::Id | Kind::Reference(_) => (&NUMBER[4..], id, true),
        Kind::Bool => (&[], json!({ "type": "boolean" }), false),
        Kind::Int(..) => (NUMBER, json!({ "type": "integer" }), false),
        Kind::Decimal | Kind::Float => (NUMBER, json!({ "type": "number" }), false),
        Kind::Time | Kind::Date | Kind::Clock => (MOMENT, text, true),
    };
    let docs = match field.kind {
        Kind::Time | Kind::Date | Kind::Clock => "It starts with this, as it is shown.",
        _ => "It is this.",
    };
    add(name.to_owned(), value.clone(), docs);
    for (test, docs) in tests {
        add(format!("{name}[{test}]"), value.clone(), &format!("It {docs}."));
    }
    if matches!(field.kind, Kind::Int(..) | Kind::Decimal | Kind::Float) {
        let range = json!({ "type": "string", "examples": ["1..10"] });
        add(format!("{name}[between]"), range, "It is within these bounds: `1..10`.");
    }
    if field.nullable {
        add(format!("{name}[exists]"), json!({ "type": "boolean" }), "It is there, or is not.");
    }
    if list {
        parameters.push(many(&format!("{name}[]"), list_of(&value), "It is one of these."));
    }
}
