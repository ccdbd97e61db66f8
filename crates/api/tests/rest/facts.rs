//! What the dialect says: endpoints and models, read from the data beside the tests.

use model::define::{Level, Table};
use model::entities::TABLES;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;

/// A document of the tests' data.
pub(crate) fn data(name: &str) -> Json {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(name);
    let text = std::fs::read(path).expect("the data are there");
    serde_json::from_slice(&text).expect("the data are JSON")
}

static ENDPOINTS: LazyLock<Vec<Endpoint>> = LazyLock::new(|| {
    let document = data("rest-endpoints.json");
    let mut endpoints = Vec::new();
    for level in Level::ALL {
        for (name, said) in document["levels"][level.name()].as_object().expect("each level has endpoints") {
            let (method, path) = name.split_once(' ').expect("a method and a path");
            let entity = said["entity"].as_str().and_then(table_of);
            endpoints.push(Endpoint {
                level,
                method: method.to_owned(),
                path: path.to_owned(),
                entity,
                said: said.clone(),
            });
        }
    }
    endpoints
});

static MODELS: LazyLock<Json> = LazyLock::new(|| data("rest-models.json"));

/// The table behind a full name: "Provider.Carrier".
pub(crate) fn table_of(name: &str) -> Option<&'static Table> {
    let short = name.rsplit('.').next().unwrap_or(name);
    TABLES.iter().copied().find(|table| table.name == short)
}

/// A method at a path of a level.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) level: Level,
    pub(crate) method: String,
    /// After the level.
    pub(crate) path: String,
    pub(crate) entity: Option<&'static Table>,
    pub(crate) said: Json,
}

impl Endpoint {
    /// "client GET /carriers".
    pub(crate) fn name(&self) -> String {
        format!("{} {} {}", self.level.name(), self.method, self.path)
    }

    /// Nothing stands behind it, as the facts say.
    pub(crate) fn dead(&self) -> bool {
        !self.said["dead"].is_null()
    }

    /// It only names a path whose operation has another method.
    pub(crate) fn router_only(&self) -> bool {
        !self.said["note"].is_null()
    }

    pub(crate) fn auth(&self, name: &str) -> &Json {
        &self.said["auth"][name]
    }

    pub(crate) fn needs_token(&self) -> bool {
        self.auth("token") != "anonymous"
    }

    /// Listing, reading, making, changing or deleting rows, as all entities have it.
    pub(crate) fn plain(&self) -> Option<Plain> {
        let table = self.entity?;
        let rest = self.path.strip_prefix('/')?.strip_prefix(table.path)?;
        let named = self.said["operation"].as_str()?;
        if table.path.is_empty() || !["get", "post", "put", "delete", "post_friend"].contains(&named) {
            return None;
        }
        match (self.method.as_str(), rest) {
            ("GET", "") => Some(Plain::List),
            ("POST", "") => Some(Plain::Create),
            ("GET", "/{id}") => Some(Plain::Get),
            ("PUT", "/{id}") => Some(Plain::Change),
            ("DELETE", "/{id}") => Some(Plain::Delete),
            _ => None,
        }
    }

    /// A row's file; out: the field.
    pub(crate) fn download(&self) -> Option<&'static str> {
        let file = self.said["operation"].as_str()?.strip_prefix("download:")?;
        let fields = self.entity?.fields.iter().map(|field| field.name);
        fields.into_iter().find(|name| name.eq_ignore_ascii_case(file))
    }
}

/// What all entities have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    List,
    Create,
    Get,
    Change,
    Delete,
}

impl Plain {
    fn key(self) -> &'static str {
        match self {
            Plain::List => "collection:get",
            Plain::Create => "collection:post",
            Plain::Get => "item:get",
            Plain::Change => "item:put",
            Plain::Delete => "item:delete",
        }
    }
}

/// All endpoints.
pub(crate) fn endpoints() -> &'static [Endpoint] {
    &ENDPOINTS
}

/// All models.
pub(crate) fn models() -> &'static Json {
    &MODELS
}

/// What the models say of an entity at a level; null: nothing.
pub(crate) fn model(level: Level, table: &Table) -> &'static Json {
    &MODELS["levels"][level.name()]["entities"][table.full_name()]
}

/// What they say of one operation.
pub(crate) fn operation(level: Level, table: &Table, plain: Plain) -> &'static Json {
    let space = ["Provider", "Kam"].iter().map(|space| format!("{space}.{}", table.name));
    let entities = &MODELS["levels"][level.name()]["entities"];
    let found = space.into_iter().find(|name| !entities[name].is_null());
    let operations = found.map_or(&Json::Null, |name| &entities[&name]["operations"]);
    let known = &operations[plain.key()];
    // The one creation with a name of its own.
    if known.is_null() && plain == Plain::Create { &operations["collection:post_friend"] } else { known }
}

/// The names in a list of an operation, without what is said of them.
pub(crate) fn names(operation: &Json, list: &str) -> BTreeSet<String> {
    let words = operation[list].as_array().into_iter().flatten().filter_map(Json::as_str);
    words.map(|word| word.split(':').next().unwrap_or(word).to_owned()).collect()
}

/// What stands in nested rows besides what the models derive: seen in whole rows, so in nested ones, too.
const NESTED_TOO: &[(&str, &str, &str)] =
    &[("client", "Provider.User", "contact"), ("client", "Provider.User", "voicemail")];

/// Where an answer has other fields than the model says, in words.
pub(crate) fn differences(level: Level, operation: &Json, shown: &Json) -> Vec<String> {
    let Some(object) = shown.as_object() else { return vec!["it is no object".to_owned()] };
    let mut found = Vec::new();
    let expected = names(operation, "response");
    let missing = expected.iter().filter(|name| !object.contains_key(*name));
    found.extend(missing.map(|name| format!("{name} is missing")));
    let extra = object.keys().filter(|name| !expected.contains(*name));
    found.extend(extra.map(|name| format!("{name} is too much")));
    for word in operation["response"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        let Some((name, form)) = word.split_once(':') else { continue };
        let Some(value) = object.get(name).filter(|value| !value.is_null()) else { continue };
        if let Some(entity) = form.strip_prefix("object>") {
            let nested = &MODELS["levels"][level.name()]["nestedObjects"][entity];
            let words = nested.as_array().into_iter().flatten().filter_map(Json::as_str);
            let words = words.map(|word| word.split(':').next().unwrap_or(word));
            let unnamed = NESTED_TOO.iter().filter(|(at, of, _)| *at == level.name() && *of == entity);
            let expected: BTreeSet<&str> = words.chain(unnamed.map(|(_, _, name)| *name)).collect();
            found.extend(keys_differ(name, &expected, value));
        } else if form.starts_with("id>") && !value.is_u64() {
            found.push(format!("{name} is no id"));
        } else if let Some(parts) = form.strip_prefix("embedded{") {
            let expected = parts.trim_end_matches('}').split(',').collect();
            found.extend(keys_differ(name, &expected, value));
        }
    }
    found
}

fn keys_differ(name: &str, expected: &BTreeSet<&str>, value: &Json) -> Vec<String> {
    let Some(object) = value.as_object() else { return vec![format!("{name} is no object")] };
    let missing = expected.iter().filter(|part| !object.contains_key(**part));
    let missing = missing.map(|part| format!("{name}.{part} is missing"));
    let extra = object.keys().filter(|part| !expected.contains(part.as_str()));
    missing.chain(extra.map(|part| format!("{name}.{part} is too much"))).collect()
}

/// The lines of a list beside the tests.
pub(crate) fn listed(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Fails unless exactly the listed differences were found: new ones, and listed ones that are gone.
pub(crate) fn as_listed(what: &str, known: &BTreeSet<String>, found: &BTreeSet<String>) {
    let new: Vec<&String> = found.difference(known).collect();
    let gone: Vec<&String> = known.difference(found).collect();
    let text = |list: &[&String]| list.iter().map(|line| format!("\n  {line}")).collect::<String>();
    assert!(
        new.is_empty() && gone.is_empty(),
        "{what}: {} new:{}\n{} to be removed from the list:{}",
        new.len(),
        text(&new),
        gone.len(),
        text(&gone)
    );
}
