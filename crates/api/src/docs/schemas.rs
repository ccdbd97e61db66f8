//! Schemas of rows and fields, from the tables: what answers show, what bodies may hold, with an example of each value.
//!
//! In: a table, a level, a view. Out: JSON Schema (2020-12, as OpenAPI 3.1 has it). Elsewhere: how Swagger 2.0 says the same
//! (`swagger`).

use super::examples;
use crate::show::MASK;
use crate::write;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::define::{Computed, Field, GroupShape, How, Kind, LEAST_PASSWORD, Level, Table};
use model::scope::Caller;
use serde_json::{Map, Value as Json, json};

/// The longest text of a field that names no limit of its own.
pub(super) const LONGEST: usize = 65_535;

/// Where a row is seen or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// In a list.
    List,
    /// By itself, read.
    Detail,
    /// By itself, after a change.
    Changed,
    /// By itself, just made.
    Created,
    /// In place of a reference to it.
    Nested,
    /// The body that makes one.
    Create,
    /// The body that changes one.
    Change,
}

impl View {
    const fn suffix(self) -> &'static str {
        match self {
            Self::List => "-collection",
            Self::Detail => "-detailed",
            Self::Changed => "-changed",
            Self::Created => "-created",
            Self::Nested => "",
            Self::Create => "-create",
            Self::Change => "-change",
        }
    }

    const fn is_body(self) -> bool {
        matches!(self, Self::Create | Self::Change)
    }
}

/// The named schemas of a document.
#[derive(Debug)]
pub(super) struct Schemas {
    level: Level,
    named: Map<String, Json>,
}

impl Schemas {
    pub(super) fn new(level: Level) -> Self {
        Self { level, named: Map::new() }
    }

    /// All of them, by name.
    pub(super) fn into_named(self) -> Map<String, Json> {
        let mut named: Vec<(String, Json)> = self.named.into_iter().collect();
        named.sort_by(|one, other| one.0.cmp(&other.0));
        named.into_iter().collect()
    }

    /// Adds a schema under a name, once, and refers to it.
    pub(super) fn add(&mut self, name: &str, schema: impl FnOnce() -> Json) -> Json {
        if !self.named.contains_key(name) {
            let schema = schema();
            self.named.insert(name.to_owned(), schema);
        }
        refer(name)
    }

    /// A row of this table in this view; `expand`: rows stand in place of references.
    pub(super) fn row(&mut self, table: &'static Table, view: View, expand: bool) -> Json {
        let name = format!("{}{}", table.name, view.suffix());
        if self.named.contains_key(&name) {
            return refer(&name);
        }
        let schema = self.row_schema(table, view, expand);
        // Views of an entity that show the same share a name: the first one's.
        for known in [View::Detail, View::Changed, View::Created] {
            let known = format!("{}{}", table.name, known.suffix());
            if !view.is_body() && view != View::Nested && self.named.get(&known) == Some(&schema) {
                return refer(&known);
            }
        }
        self.named.insert(name.clone(), schema);
        refer(&name)
    }

    fn row_schema(&mut self, table: &'static Table, view: View, expand: bool) -> Json {
        let level = self.level;
        let (mut properties, mut required) = (Map::new(), Vec::new());
        // What an example of a body has: what must be given and what has a default.
        let mut example = Map::new();
        let defaults = (table.make)();
        let filled = if view == View::Create { filled(table, level) } else { Vec::new() };
        for place in table.shown_order() {
            let field = &table.fields[place];
            let of = field.view(level);
            let there = match view {
                View::List => of.list,
                View::Create => of.create && place > 0,
                View::Change => of.change && place > 0,
                _ => of.detail,
            };
            if !there {
                continue;
            }
            let brief = view == View::List || of.brief;
            // What the level's reach demands may be null in a row, and not in a body.
            let demanded = table.access(level).is_some_and(|access| access.demands(field.name));
            let mut schema = match view.is_body() {
                true if demanded => written_value(field),
                true => written(field),
                false => self.shown(field, expand, brief),
            };
            let default = Some(defaults.get(place).shown(&TimeZone::UTC)).filter(|default| {
                let usual = field.has_default && !field.now && view.is_body();
                usual && !default.is_null() && !matches!(field.kind, Kind::Secret | Kind::Password)
            });
            let given = (field.must_be_given() || demanded) && !filled.contains(&place);
            let texts = matches!(field.kind, Kind::Group(shape) if !is_file(shape));
            if !view.is_body() || given || texts || default.is_some() {
                // An empty text shows nothing of what is meant.
                let default = default.clone().filter(|default| *default != json!(""));
                let value = default.unwrap_or_else(|| examples::of(field.name, &schema, &self.named));
                example.insert(field.name.to_owned(), value);
            }
            if let Some(default) = default.filter(|_| view == View::Create) {
                schema["default"] = default;
            }
            if !view.is_body() && !of.create && !of.change {
                schema["readOnly"] = json!(true);
            }
            let must = match view {
                View::Create => given,
                View::Changed | View::Created | View::Nested => true,
                _ => false,
            };
            if must {
                required.push(Json::from(field.name));
            }
            properties.insert(field.name.to_owned(), schema);
        }
        for computed in table.computed {
            if let Some(schema) = computed_schema(computed, level, view) {
                if !view.is_body() {
                    example
                        .insert(computed.name.to_owned(), examples::of(computed.name, &schema, &self.named));
                }
                properties.insert(computed.name.to_owned(), schema);
            }
        }
        if let (true, Some((name, first))) = (example.is_empty(), properties.iter().next()) {
            example.insert(name.clone(), examples::of(name, first, &self.named));
        }
        let mut schema = json!({ "type": "object", "description": table.docs });
        schema["properties"] = Json::Object(properties);
        if !required.is_empty() {
            schema["required"] = Json::Array(required);
        }
        schema["examples"] = json!([example]);
        schema
    }

    /// A value that fits the schema.
    pub(super) fn example(&self, schema: &Json) -> Json {
        examples::of("", schema, &self.named)
    }

    /// The schema with a whole example, unless it refers to one that has it, or is a list of such.
    pub(super) fn with_example(&self, mut schema: Json) -> Json {
        if schema["type"] == json!("object") && schema.get("examples").is_none() {
            schema["examples"] = json!([self.example(&schema)]);
        }
        schema
    }

    /// A field in an answer; `brief`: no more of a group is shown than lists show.
    pub(super) fn shown(&mut self, field: &Field, expand: bool, brief: bool) -> Json {
        if field.masked {
            let docs = format!("{} Answers show {MASK} instead.", field.docs);
            return json!({ "type": "string", "description": docs, "examples": [MASK] });
        }
        let nullable = field.nullable || (field.invoiced && self.level == Level::Client);
        if let (Kind::Reference(target), true) = (field.kind, expand) {
            let target = self.row(target(), View::Nested, false);
            // Empty, too, where the row behind it is gone.
            return json!({ "anyOf": [target, { "type": "null" }], "description": field.docs });
        }
        let mut schema = value(field, false);
        if brief && !field.brief.is_empty() {
            keep_parts(&mut schema, field.brief);
        }
        describe(&mut schema, field);
        if nullable {
            allow_null(&mut schema);
        }
        schema
    }

    /// The properties of a schema that was added here, or is written out.
    pub(super) fn properties(&self, schema: &Json) -> Vec<String> {
        let name = schema["$ref"].as_str().and_then(|text| text.rsplit('/').next());
        let schema = name.and_then(|name| self.named.get(name)).unwrap_or(schema);
        schema["properties"].as_object().into_iter().flat_map(Map::keys).cloned().collect()
    }

    /// These fields and computed values of a table as an object; unknown names are left out.
    pub(super) fn picked(&mut self, table: &'static Table, names: &[&str], expand: bool) -> Json {
        let mut properties = Map::new();
        for name in names {
            let schema = match (table.field(name), table.computed(name)) {
                (Some(field), _) => self.shown(field, expand, field.view(self.level).brief),
                (None, Some(computed)) => described(how_schema(computed), computed.docs),
                (None, None) => continue,
            };
            properties.insert((*name).to_owned(), schema);
        }
        self.with_example(json!({ "type": "object", "properties": properties }))
    }
}

/// A reference to a named schema.
pub(super) fn refer(name: &str) -> Json {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Which fields the level's scope fills in, so that nobody has to give them.
fn filled(table: &'static Table, level: Level) -> Vec<usize> {
    let some = |there: bool| there.then_some(1);
    let caller = Caller {
        level,
        administrator: some(level != Level::User),
        user: some(level == Level::User),
        brand: some(level != Level::Platform),
        company: some(matches!(level, Level::Client | Level::User)),
        zone: TimeZone::UTC,
        restricted: false,
        operator: false,
    };
    let mut row = (table.make)();
    let Some(access) = table.access(level) else { return Vec::new() };
    write::fill_scope(&mut *row, access, &caller, Timestamp::UNIX_EPOCH).unwrap_or_default()
}

fn described(mut schema: Json, docs: &str) -> Json {
    if !docs.is_empty() {
        schema["description"] = json!(docs);
    }
    schema
}

fn describe(schema: &mut Json, field: &Field) {
    let mut docs = field.docs.to_owned();
    if let Kind::Reference(target) = field.kind {
        docs = format!("{docs} The id of a {}.", target().name).trim().to_owned();
    }
    if !docs.is_empty() {
        schema["description"] = json!(docs);
    }
}

/// Lets a schema be null, too.
fn allow_null(schema: &mut Json) {
    match schema.get("type").cloned() {
        Some(Json::String(kind)) => schema["type"] = json!([kind, "null"]),
        // A schema without a type allows null already.
        _ => return,
    }
    if let Some(Json::Array(choices)) = schema.get_mut("enum") {
        choices.push(Json::Null);
    }
}

/// A field in a body.
pub(super) fn written(field: &Field) -> Json {
    let mut schema = written_value(field);
    if field.takes_null() {
        allow_null(&mut schema);
    }
    schema
}

/// [`written`], where null is not taken.
fn written_value(field: &Field) -> Json {
    let mut schema = value(field, true);
    describe(&mut schema, field);
    if matches!(field.kind, Kind::Group(shape) if is_file(shape)) {
        let docs = "The file itself comes by `multipart/form-data`, and what is said of it follows. All parts null: \
            there is no file any more.";
        schema["description"] = json!(format!("{} {docs}", field.docs).trim());
    }
    schema
}

/// What a field holds, without its meaning.
fn value(field: &Field, body: bool) -> Json {
    let mut schema = match field.kind {
        Kind::Id | Kind::Reference(_) => {
            json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
        }
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int(low, high) => {
            let (low, high) = (field.min.unwrap_or(low), field.high.unwrap_or(high));
            let mut schema = json!({ "type": "integer" });
            // What is within 64 bits anyway is not said.
            if low > i64::MIN {
                schema["minimum"] = json!(low);
            }
            if high < i64::MAX {
                schema["maximum"] = json!(high);
            }
            schema
        }
        Kind::Decimal | Kind::Float => {
            let mut schema = json!({ "type": "number" });
            if let Some(low) = field.min {
                schema["minimum"] = json!(low);
            }
            if let Some(high) = field.high {
                schema["maximum"] = json!(high);
            }
            schema
        }
        Kind::Text => json!({ "type": "string", "maxLength": longest(field.max) }),
        Kind::Password => json!({
            "type": "string",
            "format": "password",
            "minLength": LEAST_PASSWORD,
            "maxLength": longest(field.max),
        }),
        Kind::Secret => json!({ "type": "string", "format": "password", "maxLength": longest(field.max) }),
        Kind::Choice(names) => json!({ "type": "string", "enum": names }),
        Kind::Time => time_schema(),
        Kind::Date => json!({ "type": "string", "format": "date" }),
        Kind::Clock => {
            json!({ "type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$" })
        }
        Kind::Group(shape) => return group(shape, field.max, body),
        Kind::Json => json!({}),
    };
    let secret = matches!(field.kind, Kind::Secret | Kind::Password) && !body;
    schema["examples"] = json!([if secret { json!(MASK) } else { examples::of_field(field) }]);
    schema
}

/// A moment as answers write it. Not RFC 3339: the caller's time zone is meant, and is not written.
pub(super) fn time_schema() -> Json {
    let pattern =
        "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01]) ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$";
    json!({ "type": "string", "pattern": pattern })
}

/// Whether the schema is that of a moment.
pub(super) fn is_time(schema: &Json) -> bool {
    schema.get("pattern") == time_schema().get("pattern")
}

const fn longest(most: usize) -> usize {
    if most == 0 { LONGEST } else { most }
}

fn group(shape: &'static GroupShape, most: usize, body: bool) -> Json {
    let file = is_file(shape);
    let mut properties = Map::new();
    for (place, name) in shape.names.iter().enumerate() {
        let most = if shape.limits[place] == 0 { most } else { shape.limits[place] };
        let mut schema = match *name {
            "fileSize" => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX, "examples": [1024] }),
            // Whatever an importer takes.
            "importerArguments" => json!({}),
            _ => {
                let example = examples::text(name, "", Some(longest(most) as u64));
                json!({ "type": "string", "maxLength": longest(most), "examples": [example] })
            }
        };
        if file || body {
            allow_null(&mut schema);
        }
        properties.insert((*name).to_owned(), schema);
    }
    let mut schema = json!({ "type": "object", "properties": properties });
    if !body {
        schema["required"] = json!(shape.names);
    }
    schema
}

/// Leaves these parts of a group.
fn keep_parts(schema: &mut Json, parts: &'static [&'static str]) {
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.retain(|name, _| parts.contains(&name.as_str()));
    }
    schema["required"] = json!(parts);
}

/// Whether the group describes a stored file.
pub(super) fn is_file(shape: &GroupShape) -> bool {
    shape.names.contains(&"fileSize")
}

fn computed_schema(computed: &'static Computed, level: Level, view: View) -> Option<Json> {
    let of = computed.view(level);
    let (there, body) = match view {
        View::List => (of.list, false),
        View::Detail => (of.detail, false),
        View::Changed => (of.changed, false),
        View::Created => (of.created, false),
        View::Nested => (computed.nested[level as usize], false),
        View::Create => (of.create, true),
        View::Change => (of.change, true),
    };
    let is_set = matches!(computed.how, How::Pairs(..) | How::Members(..));
    if !there || (body && !is_set) {
        return None;
    }
    let mut schema = how_schema(computed);
    if view == View::Nested && is_set {
        // Nobody looks behind references of references.
        schema = json!({ "type": ["array", "null"], "items": { "type": "integer" }, "maxItems": 0 });
    }
    if body {
        schema["type"] = json!(["array", "null"]);
    } else if !(of.create || of.change) || !is_set {
        schema["readOnly"] = json!(true);
    }
    Some(described(schema, computed.docs))
}

fn how_schema(computed: &Computed) -> Json {
    match computed.how {
        How::Pairs(..) | How::Members(..) => {
            json!({ "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": u32::MAX }, "examples": [[1]] })
        }
        How::Live(what) => living(what),
        How::Derived(_) => derived(computed.name),
    }
}

/// Derived values have no definition of their kind; most are texts.
pub(super) fn derived(name: &str) -> Json {
    match name {
        "hasServers" | "global" | "generic" | "editable" | "enabled" => json!({ "type": "boolean" }),
        "voicemail" | "contact" => json!({ "type": "null" }),
        "accountStatus" => json!({ "type": "string", "enum": ["active", "inactive"] }),
        _ => json!({ "type": ["string", "null"] }),
    }
}

/// What the living system says of a row.
pub(super) fn living(what: &str) -> Json {
    let flag = json!({ "type": "boolean" });
    match what {
        "carrier" | "carrierServer" => json!({
            "type": "array",
            "description": "A server of which nothing is known is left out.",
            "items": { "type": "object", "properties": { "registered": flag }, "required": ["registered"] },
        }),
        "ddiProviderRegistration" => json!({
            "type": ["object", "null"],
            "description": "Null: nothing is known of it.",
            "properties": {
                "registered": flag,
                "inProgress": flag,
                "expires": { "type": ["integer", "null"], "description": "Seconds." },
            },
            "required": ["registered", "inProgress", "expires"],
        }),
        _ => {
            let text = |example: &str| json!({ "type": "string", "examples": [example] });
            let properties = json!({
                "contact": text("sip:alice@192.0.2.1:5060"),
                "publicContact": flag,
                "received": text("sip:198.51.100.1:5060"),
                "publicReceived": flag,
                "expires": time_schema(),
                "userAgent": text("Softphone"),
            });
            let required: Vec<&String> = properties.as_object().into_iter().flat_map(Map::keys).collect();
            let item = json!({ "type": "object", "properties": properties, "required": required });
            json!({ "type": "array", "items": item })
        }
    }
}
