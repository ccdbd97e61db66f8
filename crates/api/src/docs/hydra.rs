//! JSON-LD: what a level has as a Hydra ApiDocumentation, and the context of each kind of rows.
//!
//! Elsewhere: rows in JSON-LD (`routes`).

use super::openapi;
use model::define::{Field, Kind, Level, Table};
use serde_json::{Map, Value as Json, json};

const HYDRA: &str = "http://www.w3.org/ns/hydra/core#";

fn vocabulary(level: Level) -> String {
    format!("/api/{}/docs.jsonld#", level.name())
}

/// What the level has.
pub(super) fn documentation(level: Level) -> Json {
    let classes: Vec<Json> = openapi::resources(level)
        .into_iter()
        .map(|(table, _)| class(table, level))
        .chain([entrypoint_class(level)])
        .collect();
    json!({
        "@context": {
            "@vocab": vocabulary(level),
            "hydra": HYDRA,
            "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
            "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
            "xmls": "http://www.w3.org/2001/XMLSchema#",
            "owl": "http://www.w3.org/2002/07/owl#",
            "domain": { "@id": "rdfs:domain", "@type": "@id" },
            "range": { "@id": "rdfs:range", "@type": "@id" },
            "expects": { "@id": "hydra:expects", "@type": "@id" },
            "returns": { "@id": "hydra:returns", "@type": "@id" },
        },
        "@id": format!("/api/{}/docs.jsonld", level.name()),
        "@type": "hydra:ApiDocumentation",
        "hydra:title": format!("Carillon: {} API", level.name()),
        "hydra:entrypoint": format!("/api/{}", level.name()),
        "hydra:supportedClass": classes,
    })
}

fn class(table: &'static Table, level: Level) -> Json {
    let operations = table.access(level).map(|access| access.operations).unwrap_or_default();
    let id = format!("#{}", table.name);
    let mut supported = Vec::new();
    let mut add = |there: bool, method: &str, title: &str, expects: bool, returns: &str| {
        if !there {
            return;
        }
        let mut operation = json!({ "@type": "hydra:Operation", "hydra:method": method, "hydra:title": title, "returns": returns });
        if expects {
            operation["expects"] = json!(id);
        }
        supported.push(operation);
    };
    add(operations.get, "GET", "Reads the row.", false, &id);
    add(operations.change, "PUT", "Changes the row.", true, &id);
    add(operations.delete, "DELETE", "Deletes the row.", false, "owl:Nothing");
    let properties: Vec<Json> = seen(table, level).map(|field| property(table, field, level)).collect();
    json!({
        "@id": id,
        "@type": "hydra:Class",
        "hydra:title": table.name,
        "hydra:description": table.docs,
        "hydra:supportedProperty": properties,
        "hydra:supportedOperation": supported,
    })
}

/// The fields that a level meets anywhere.
fn seen(table: &'static Table, level: Level) -> impl Iterator<Item = &'static Field> {
    table.shown_order().map(|at| &table.fields[at]).filter(move |field| {
        let view = field.view(level);
        view.list || view.detail || view.create || view.change
    })
}

fn property(table: &Table, field: &Field, level: Level) -> Json {
    let demanded = table.access(level).is_some_and(|access| access.demands(field.name));
    let view = field.view(level);
    let range = match field.kind {
        Kind::Id | Kind::Int(..) | Kind::Reference(_) => "xmls:integer",
        Kind::Bool => "xmls:boolean",
        Kind::Decimal => "xmls:decimal",
        Kind::Float => "xmls:double",
        Kind::Text | Kind::Choice(_) | Kind::Secret | Kind::Password => "xmls:string",
        Kind::Time => "xmls:dateTime",
        Kind::Date => "xmls:date",
        Kind::Clock => "xmls:time",
        Kind::Group(_) | Kind::Json => "rdf:JSON",
    };
    json!({
        "@type": "hydra:SupportedProperty",
        "hydra:property": {
            "@id": format!("#{}/{}", table.name, field.name),
            "@type": "rdf:Property",
            "rdfs:label": field.name,
            "domain": format!("#{}", table.name),
            "range": range,
        },
        "hydra:title": field.name,
        "hydra:description": field.docs,
        "hydra:required": (field.must_be_given() || demanded) && view.create,
        "hydra:readable": view.list || view.detail,
        "hydra:writeable": view.create || view.change,
    })
}

fn entrypoint_class(level: Level) -> Json {
    let mut properties = Vec::new();
    for (table, access) in openapi::resources(level) {
        let mut operations = Vec::new();
        let returns = format!("#{}", table.name);
        if access.operations.list {
            operations.push(json!({
                "@type": "hydra:Operation", "hydra:method": "GET", "hydra:title": "Lists rows.",
                "returns": "hydra:Collection",
            }));
        }
        if access.operations.create {
            operations.push(json!({
                "@type": "hydra:Operation", "hydra:method": "POST", "hydra:title": "Adds a row.",
                "expects": returns, "returns": returns,
            }));
        }
        properties.push(json!({
            "@type": "hydra:SupportedProperty",
            "hydra:property": {
                "@id": format!("#Entrypoint/{}", table.path),
                "@type": "hydra:Link",
                "rdfs:label": table.path,
                "domain": "#Entrypoint",
                "range": "hydra:Collection",
                "hydra:supportedOperation": operations,
            },
            "hydra:title": table.path,
            "hydra:readable": true,
            "hydra:writeable": false,
        }));
    }
    json!({
        "@id": "#Entrypoint",
        "@type": "hydra:Class",
        "hydra:title": "What the level has",
        "hydra:supportedProperty": properties,
        "hydra:supportedOperation": [{
            "@type": "hydra:Operation", "hydra:method": "GET", "hydra:title": "Where to begin.",
            "returns": "#Entrypoint",
        }],
    })
}

/// Where a JSON-LD client begins: the addresses of all collections.
pub(super) fn entrypoint(level: Level) -> Json {
    let base = format!("/api/{}", level.name());
    let mut shown = Map::new();
    shown.insert("@context".to_owned(), json!(format!("{base}/contexts/Entrypoint")));
    shown.insert("@id".to_owned(), json!(base));
    shown.insert("@type".to_owned(), json!("Entrypoint"));
    for (table, access) in openapi::resources(level) {
        if access.operations.list || access.operations.create {
            shown.insert(table.path.to_owned(), json!(format!("{base}/{}", table.path)));
        }
    }
    Json::Object(shown)
}

/// The context of a kind of rows; none: there is no such kind at this level.
pub(super) fn context(level: Level, name: &str) -> Option<Json> {
    let mut terms = Map::new();
    terms.insert("@vocab".to_owned(), json!(vocabulary(level)));
    terms.insert("hydra".to_owned(), json!(HYDRA));
    match name {
        "Entrypoint" => {
            for (table, _) in openapi::resources(level) {
                let term = json!({ "@id": format!("Entrypoint/{}", table.path), "@type": "@id" });
                terms.insert(table.path.to_owned(), term);
            }
        }
        "Error" => {}
        name => {
            // Rows are shown by operations of their own, too, where the level has no resource of them.
            let table = model::entities::table(name).filter(|table| table.access(level).is_some())?;
            for field in seen(table, level) {
                terms.insert(field.name.to_owned(), json!(format!("{name}/{}", field.name)));
            }
            for computed in table.computed.iter().filter(|one| one.view(level).list || one.view(level).detail)
            {
                terms.insert(computed.name.to_owned(), json!(format!("{name}/{}", computed.name)));
            }
        }
    }
    Some(json!({ "@context": terms }))
}
