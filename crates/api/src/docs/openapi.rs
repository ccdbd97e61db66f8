//! The OpenAPI 3.1 document of a level: every resource, every operation of its own, with schemas, parameters and answers.
//!
//! A plain JSON value, built from the tables. Typed builders (utoipa) describe Rust types with derives; here nothing is a Rust
//! type but all is a row of a table, and the same value is turned into Swagger 2.0 afterwards: a value is the shorter way.

use super::filters;
use super::operations::{self, Gives, Holds, OperationDocs, Paged, Part, Takes};
use super::schemas::{self, Schemas, View};
use crate::custom::{self, Gate};
use crate::files;
use crate::http::{Format, LARGEST_BODY, LARGEST_FORM, LARGEST_UPLOAD, Problem};
use crate::routes;
use axum::http::StatusCode;
use model::define::{Access, Level, Operations, Table};
use model::entities::TABLES;
use model::rules::Refusal;
use serde_json::{Map, Value as Json, json};

const JSON: &str = "application/json";
const JSON_LD: &str = "application/ld+json";
const PROBLEM: &str = "application/problem+json";
const MULTIPART: &str = "multipart/form-data";
const FORM: &str = "application/x-www-form-urlencoded";

/// Builds the document of a level.
pub(super) fn of(level: Level) -> Json {
    let mut builder = Builder { level, schemas: Schemas::new(level), paths: Map::new(), tags: Vec::new() };
    builder.documents();
    for docs in operations::OPERATIONS.iter().filter(|docs| docs.anonymous && docs.levels.contains(&level)) {
        builder.operation(docs, docs.method, docs.path, None);
    }
    for operation in custom::operations().filter(|operation| operation.levels.contains(&level)) {
        let method = operation.method.as_str();
        match operations::of(method, operation.path, level) {
            Some(docs) => builder.operation(docs, method, operation.path, Some(&operation.gate)),
            None => builder.untold(method, operation.path),
        }
    }
    for (table, access) in resources(level) {
        builder.resource(table, access);
    }
    builder.done()
}

/// The headers that every page of a list has.
fn page_headers() -> Json {
    let header = |kind: &str, docs: &str| json!({ "schema": { "type": kind }, "description": docs });
    json!({
        "X-Total-Items": header("integer", "How many rows there are on all pages."),
        "X-Total-Pages": header("integer", "How many pages there are."),
        "X-First-Page": header("string", "The path of the first page."),
        "X-Next-Page": header("string", "The path of the next page, or of the last one there."),
        "X-Last-Page": header("string", "The path of the last page."),
    })
}

/// The tables that a level has resources of, by path.
pub(super) fn resources(level: Level) -> Vec<(&'static Table, &'static Access)> {
    let known = TABLES.iter().filter(|table| !table.path.is_empty());
    let mut known: Vec<_> = known
        .filter_map(|table| Some((*table, table.access(level)?)))
        .filter(|(_, access)| access.operations != Operations::default())
        .collect();
    known.sort_by_key(|(table, _)| table.path);
    known
}

struct Builder {
    level: Level,
    schemas: Schemas,
    paths: Map<String, Json>,
    tags: Vec<(String, String)>,
}

impl Builder {
    fn add(&mut self, path: &str, method: &str, operation: Json) {
        let known = self.paths.entry(path.to_owned()).or_insert_with(|| json!({}));
        // An operation of its own is served before a resource's.
        if known.get(method).is_none() {
            known[method] = operation;
        }
    }

    fn tag(&mut self, name: &str, docs: &str) {
        if !self.tags.iter().any(|(known, _)| known == name) {
            self.tags.push((name.to_owned(), docs.to_owned()));
        }
    }

    /// The documents themselves.
    fn documents(&mut self) {
        self.tag("Documents", "What the API says of itself.");
        let content = |kinds: &[&str]| -> Json {
            let schema = |kind: &str| {
                if kind == "text/html" { json!({ "type": "string" }) } else { json!({ "type": "object" }) }
            };
            Json::Object(
                kinds.iter().map(|kind| ((*kind).to_owned(), json!({ "schema": schema(kind) }))).collect(),
            )
        };
        let openapi = "application/vnd.oai.openapi+json";
        let spec = filters::query(
            "spec_version",
            json!({ "type": "string", "enum": ["2", "3"], "default": "2" }),
            "2: Swagger 2.0. 3: OpenAPI 3.1.",
        );
        let entries: [(&str, &str, &[&str], bool); 6] = [
            ("/", "This documentation as a page", &["text/html", JSON, JSON_LD, openapi], true),
            ("/docs", "This documentation as a page", &["text/html", JSON, JSON_LD, openapi], true),
            ("/docs.json", "This documentation as Swagger 2.0 or OpenAPI 3.1", &[JSON, openapi], true),
            ("/index.json", "The same as docs.json", &[JSON, openapi], true),
            ("/docs.jsonld", "This documentation as a Hydra ApiDocumentation", &[JSON_LD], false),
            ("/contexts/{shortName}", "The JSON-LD context of a kind of rows", &[JSON_LD], false),
        ];
        for (path, summary, kinds, two_forms) in entries {
            let id = path.replace(['/', '.', '{', '}'], "_");
            let mut operation = json!({
                "tags": ["Documents"], "summary": summary, "operationId": format!("get{id}"),
                "responses": { "200": { "description": "The document.", "content": content(kinds) } },
            });
            if two_forms {
                operation["parameters"] = json!([spec]);
            }
            if path.contains('{') {
                let names: Vec<&str> = resources(self.level).iter().map(|(table, _)| table.name).collect();
                let schema = json!({ "type": "string", "examples": [names.first()] });
                operation["parameters"] = json!([{
                    "name": "shortName", "in": "path", "required": true, "schema": schema,
                    "description": "The name of a kind of rows, `Entrypoint` or `Error`.",
                }]);
                answers(&mut operation, &[401, 403, 404]);
            } else {
                operation["security"] = json!([]);
            }
            self.add(path, "get", operation);
        }
    }

    fn resource(&mut self, table: &'static Table, access: &'static Access) {
        self.tag(table.name, table.docs);
        let known = access.operations;
        let all = format!("/{}", table.path);
        let one = format!("/{}/{{id}}", table.path);
        if known.list {
            self.list(table, access, &all);
        }
        if known.get {
            let mut operation = head(table, access, "get", "Item", &format!("Reads one of {}", table.path));
            let row = self.schemas.row(table, View::Detail, true);
            let names = self.property_names(&row);
            operation["parameters"] = json!([
                id_parameter("id"),
                filters::shared("timezone"),
                filters::properties(&names_of(&names))
            ]);
            operation["responses"]["200"] = row_answer("The row.", &row);
            answers(&mut operation, &[400, 401, 403, 404, 406]);
            self.add(&one, "get", operation);
        }
        if known.change {
            let mut operation = head(table, access, "put", "Item", &format!("Changes one of {}", table.path));
            operation["description"] = json!("Fields that the body does not name stay as they are.");
            operation["parameters"] = json!([id_parameter("id"), filters::shared("timezone")]);
            operation["requestBody"] = self.body(table, View::Change);
            let row = self.schemas.row(table, View::Changed, access.change_expands);
            operation["responses"]["200"] = row_answer("The row as it is now.", &row);
            answers(&mut operation, &[400, 401, 403, 404, 406, 408, 412, 413, 415, 422, 503]);
            file_answers(table, self.level, &mut operation);
            self.add(&one, "put", operation);
        }
        if known.create {
            let mut operation = head(table, access, "post", "Collection", &format!("Adds to {}", table.path));
            operation["requestBody"] = self.body(table, View::Create);
            let row = if access.create_lists {
                self.schemas.row(table, View::List, access.list_expands)
            } else {
                self.schemas.row(table, View::Created, access.create_expands)
            };
            operation["responses"]["201"] = row_answer("The row as it was made.", &row);
            answers(&mut operation, &[400, 401, 403, 406, 408, 413, 415, 422, 503]);
            if routes::is_work(table) {
                answers(&mut operation, &[501]);
            }
            file_answers(table, self.level, &mut operation);
            operation["parameters"] = json!([filters::shared("timezone")]);
            self.add(&all, "post", operation);
        }
        if known.delete {
            let mut operation =
                head(table, access, "delete", "Item", &format!("Deletes one of {}", table.path));
            operation["parameters"] = json!([id_parameter("id"), filters::shared("rmAlso")]);
            operation["responses"]["204"] = json!({ "description": "It is gone." });
            answers(&mut operation, &[400, 401, 403, 404, 412, 503]);
            self.add(&one, "delete", operation);
        }
        for name in files::fields(table) {
            let seen = table.field(name).map(|field| field.view(self.level));
            if !seen.is_some_and(|view| view.detail || view.list) {
                continue;
            }
            let summary = format!("Downloads {name} of one of {}", table.path);
            let mut operation = head(table, access, "get", &format!("Item{name}"), &summary);
            operation["parameters"] = json!([id_parameter("id")]);
            operation["responses"]["200"] = binary("*/*");
            answers(&mut operation, &[401, 403, 404]);
            self.add(&format!("{one}/{}", name.to_ascii_lowercase()), "get", operation);
        }
    }

    fn list(&mut self, table: &'static Table, access: &'static Access, path: &str) {
        let mut operation = head(table, access, "get", "Collection", &format!("Lists {}", table.path));
        let row = self.schemas.row(table, View::List, access.list_expands);
        operation["parameters"] = self.list_parameters(table, access, true, &row);
        operation["responses"]["200"] = self.list_answer(access, true, &row);
        answers(&mut operation, &[400, 401, 403, 406]);
        self.add(path, "get", operation);
    }

    fn list_parameters(
        &self,
        table: &'static Table,
        access: &'static Access,
        paged: bool,
        row: &Json,
    ) -> Json {
        let mut parameters = filters::of_list(table, access, paged);
        let names = self.property_names(row);
        parameters.push(filters::properties(&names_of(&names)));
        Json::Array(parameters)
    }

    /// The fields of a row's schema.
    fn property_names(&self, row: &Json) -> Vec<String> {
        self.schemas.properties(row)
    }

    fn list_answer(&self, access: &Access, paged: bool, row: &Json) -> Json {
        let mut content = json!({
            JSON: { "schema": { "type": "array", "items": row } },
            JSON_LD: { "schema": schemas::refer("HydraCollection") },
        });
        if access.csv {
            content["text/csv"] = self.csv(row);
        }
        let mut answer = json!({ "description": "The rows.", "content": content });
        if paged {
            answer["headers"] = page_headers();
        }
        answer
    }

    /// Such objects as comma-separated values: there, references are ids.
    fn csv(&self, row: &Json) -> Json {
        let mut example = self.schemas.example(row).as_object().cloned().unwrap_or_default();
        example.retain(|_, value| !value.is_array());
        for value in example.values_mut() {
            if let Some(id) = value.get("id") {
                *value = id.clone();
            }
        }
        let names: Vec<String> = example.keys().cloned().collect();
        let text = routes::csv_lines(&names_of(&names), &[example]);
        json!({ "schema": { "type": "string" }, "example": text })
    }

    /// The body that makes or changes a row.
    fn body(&mut self, table: &'static Table, view: View) -> Json {
        let row = self.schemas.row(table, view, false);
        let mut content = json!({ JSON: { "schema": row }, JSON_LD: { "schema": row } });
        let files = uploads(table, self.level);
        if !files.is_empty() {
            let part = lower_first(table.name);
            let mut form = json!({ "type": "object", "properties": { part.as_str(): row } });
            for file in files {
                form["properties"][file] = json!({ "type": "string", "format": "binary" });
            }
            form["required"] = json!([part]);
            content[MULTIPART] =
                json!({ "schema": form, "encoding": { part.as_str(): { "contentType": JSON } } });
        }
        json!({ "required": true, "content": content })
    }

    /// An operation of its own that nobody described.
    fn untold(&mut self, method: &str, path: &str) {
        let mut operation = json!({
            "tags": ["My"],
            "summary": format!("{method} {path}"),
            "operationId": operation_id(method, path),
            "responses": { "200": { "description": "Done." } },
        });
        let path = open_path(path, &["id"]);
        let open = path.matches('{').count();
        if open > 0 {
            operation["parameters"] = json!([id_parameter("id")]);
        }
        answers(&mut operation, &[400, 401, 403, 404]);
        self.add(&path, &method.to_ascii_lowercase(), operation);
    }

    fn operation(&mut self, docs: &'static OperationDocs, method: &str, path: &str, gate: Option<&Gate>) {
        let tag = self.tag_of(path);
        let mut parameters: Vec<Json> = docs.open[..path.matches("{}").count()]
            .iter()
            .map(|name| match *name {
                "id" => id_parameter("id"),
                name => {
                    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
                }
            })
            .collect();
        parameters.extend(docs.query.iter().map(query_part));
        let answer = self.gives(&docs.answer, docs.status, &mut parameters);
        let mut operation =
            json!({ "tags": [tag], "summary": docs.summary, "operationId": operation_id(method, path) });
        if let Some(description) = gate.and_then(|gate| told_gate(gate, self.level)) {
            operation["description"] = json!(description);
        }
        if !parameters.is_empty() {
            operation["parameters"] = json!(parameters);
        }
        if let Some(body) = self.takes(&docs.body) {
            operation["requestBody"] = body;
        }
        operation["responses"] = json!({ docs.status.to_string(): answer });
        if docs.anonymous {
            operation["security"] = json!([]);
            if path.starts_with("token/") || path.ends_with("_login") {
                for status in docs.also {
                    operation["responses"][status.to_string()] = match status {
                        413 | 503 => error(*status),
                        401 => error(401),
                        429 => error(429),
                        _ => json!({ "$ref": "#/components/responses/Refused" }),
                    };
                }
            } else {
                answers(&mut operation, docs.also);
            }
        } else {
            answers(&mut operation, &[401, 403]);
            answers(&mut operation, docs.also);
        }
        if operation.get("requestBody").is_some() {
            answers(&mut operation, &[408]);
        }
        sort_answers(&mut operation);
        self.add(&open_path(path, docs.open), &method.to_ascii_lowercase(), operation);
    }

    fn tag_of(&mut self, path: &str) -> String {
        let first = path.split(['/', '_']).next().unwrap_or_default();
        let resource = path.split('/').next().unwrap_or_default();
        let table = TABLES.iter().find(|table| !table.path.is_empty() && table.path == resource);
        match (table, first) {
            (Some(table), _) => {
                self.tag(table.name, table.docs);
                table.name.to_owned()
            }
            (None, "token" | "admin" | "user") => {
                self.tag("Tokens", "Logging in, and acting as somebody of the level below.");
                "Tokens".to_owned()
            }
            (None, "audit") => {
                self.tag("Audit", "Who changed what.");
                "Audit".to_owned()
            }
            (None, "holiday") => "HolidayDate".to_owned(),
            _ => {
                self.tag("My", "What callers see of themselves and of the system.");
                "My".to_owned()
            }
        }
    }

    fn gives(&mut self, gives: &Gives, status: u16, parameters: &mut Vec<Json>) -> Json {
        let table = |name: &str| model::entities::table(name);
        match gives {
            Gives::Row(name, view, expand) => match table(name) {
                Some(table) => {
                    let row = self.own_row(table, *view, *expand);
                    row_answer(if status == 201 { "The row as it was made." } else { "The row." }, &row)
                }
                None => json!({ "description": "The row." }),
            },
            Gives::Rows(name, view, expand, paged) => {
                let Some(table) = table(name) else { return json!({ "description": "The rows." }) };
                let row = self.own_row(table, *view, *expand);
                self.rows_answer(table, *paged, &row, parameters)
            }
            Gives::Part(name, fields, expand, beside) => {
                let Some(table) = table(name) else { return json!({ "description": "The row." }) };
                let row = self.part(table, fields, *expand, *beside);
                row_answer("The row.", &row)
            }
            Gives::Parts(name, fields, expand, paged, beside) => {
                let Some(table) = table(name) else { return json!({ "description": "The rows." }) };
                let row = self.part(table, fields, *expand, *beside);
                self.rows_answer(table, *paged, &row, parameters)
            }
            Gives::Page(schema) => {
                let row = self.schemas.with_example(schema());
                parameters.extend(["page", "itemsPerPage", "timezone"].map(filters::shared));
                let mut headers = page_headers();
                headers["X-Older-Than"] = json!({
                    "schema": { "type": "string" },
                    "description": "Where there is more to look at: to be sent as `older_than`. Absent: there is nothing older.",
                });
                json!({
                    "description": "The page.",
                    "headers": headers,
                    "content": {
                        "text/csv": self.csv(&row),
                        JSON: { "schema": { "type": "array", "items": row } },
                    },
                })
            }
            Gives::Object(schema) => {
                let schema = self.schemas.with_example(schema());
                json!({ "description": "The answer.", "content": { JSON: { "schema": schema } } })
            }
            Gives::Binary(kind) => binary(kind),
            Gives::Text(kind) => {
                json!({ "description": "The text.", "content": { *kind: { "schema": { "type": "string" } } } })
            }
            Gives::Nothing => json!({ "description": "It is done." }),
        }
    }

    /// A row in this view, with references shown as the operation shows them.
    fn own_row(&mut self, table: &'static Table, view: View, expand: bool) -> Json {
        let access = table.access(self.level);
        let usual = match view {
            View::Detail => true,
            View::List => access.is_some_and(|access| access.list_expands),
            View::Changed => access.is_some_and(|access| access.change_expands),
            View::Created => access.is_some_and(|access| access.create_expands),
            _ => false,
        };
        let row = self.schemas.row(table, view, usual);
        if usual == expand {
            return row;
        }
        let names = self.schemas.properties(&row);
        self.schemas.picked(table, &names_of(&names), expand)
    }

    fn part(&mut self, table: &'static Table, fields: &[&str], expand: bool, beside: fn() -> Json) -> Json {
        let seen = table.shown_order().map(|at| &table.fields[at]);
        let all: Vec<&str> =
            seen.filter(|field| field.view(self.level).detail).map(|field| field.name).collect();
        let mut row = self.schemas.picked(table, if fields.is_empty() { &all } else { fields }, expand);
        if let (Some(parts), Json::Object(beside)) = (row["properties"].as_object_mut(), beside()) {
            parts.extend(beside);
        }
        row["examples"] =
            json!([self.schemas.example(&json!({ "type": "object", "properties": row["properties"] }))]);
        row
    }

    fn rows_answer(
        &self,
        table: &'static Table,
        paged: Paged,
        row: &Json,
        parameters: &mut Vec<Json>,
    ) -> Json {
        let paged = paged == Paged::Yes;
        let Some(access) = table.access(self.level) else {
            return json!({ "description": "The rows." });
        };
        if let Json::Array(more) = self.list_parameters(table, access, paged, row) {
            parameters.extend(more);
        }
        self.list_answer(access, paged, row)
    }

    fn takes(&mut self, takes: &Takes) -> Option<Json> {
        let form = |parts: &[Part]| -> Json {
            let properties: Map<String, Json> =
                parts.iter().map(|part| (part.name.to_owned(), described(part))).collect();
            let required: Vec<&str> =
                parts.iter().filter(|part| part.required).map(|part| part.name).collect();
            let mut schema = json!({ "type": "object", "properties": properties, "required": required });
            // Some parts stand for others: none but those that must be given are shown, if there are such.
            let mut shown = schema.clone();
            if let (Some(parts), false) = (shown["properties"].as_object_mut(), required.is_empty()) {
                parts.retain(|name, _| required.contains(&name.as_str()));
            }
            schema["examples"] = json!([self.schemas.example(&shown)]);
            schema
        };
        let content = match takes {
            Takes::Nothing => return None,
            Takes::Ids => {
                let ids = json!({
                    "type": "array", "maxItems": 5000,
                    "items": { "type": "integer", "minimum": 0, "maximum": u32::MAX },
                    "examples": [[1]],
                });
                json!({ JSON: { "schema": ids } })
            }
            Takes::Form(parts) => json!({ FORM: { "schema": form(parts) } }),
            Takes::Upload(parts) => json!({ MULTIPART: { "schema": form(parts) } }),
            Takes::Row(name) => {
                let table = model::entities::table(name)?;
                json!({ JSON: { "schema": self.schemas.row(table, View::Create, false) } })
            }
            Takes::Object(schema) => json!({ JSON: { "schema": self.schemas.with_example(schema()) } }),
        };
        Some(json!({ "required": true, "content": content }))
    }

    /// Rows and lists in JSON-LD, with examples of the kind of rows that are said in the fewest words.
    fn add_linked(&mut self) {
        let text = || json!({ "type": "string" });
        let both = |access: &Access| access.operations.list && access.operations.get;
        let known = resources(self.level).into_iter().filter(|(_, access)| both(access));
        let known = known.map(|(table, access)| {
            let listed = self.schemas.row(table, View::List, access.list_expands);
            (table, self.schemas.row(table, View::Detail, true), listed)
        });
        let known: Vec<_> = known.collect();
        let shortest = known.iter().min_by_key(|(_, shown, _)| self.schemas.example(shown).to_string().len());
        let Some((table, shown, listed)) = shortest else { return };
        let (name, path) = (table.name, table.path);
        let all = format!("/api/{}/{path}", self.level.name());
        let context = format!("/api/{}/contexts/{name}", self.level.name());
        let linked = |schema: &Json, context: Option<&str>| -> Json {
            let mut row = Map::new();
            row.extend(context.map(|context| ("@context".to_owned(), json!(context))));
            row.insert("@id".to_owned(), json!(format!("{all}/1")));
            row.insert("@type".to_owned(), json!(name));
            row.extend(self.schemas.example(schema).as_object().cloned().unwrap_or_default());
            Json::Object(row)
        };
        let item = linked(shown, Some(&context));
        let list = json!({
            "@context": context, "@id": all, "@type": "hydra:Collection",
            "hydra:member": [linked(listed, None)], "hydra:totalItems": 1,
            "hydra:view": { "@id": format!("{all}?_page=1"), "@type": "hydra:PartialCollectionView" },
        });
        self.schemas.add("HydraItem", || {
            json!({
                "type": "object",
                "description": "The row with its address and type, in JSON-LD.",
                "properties": { "@context": text(), "@id": text(), "@type": text() },
                "required": ["@context", "@id", "@type"],
                "examples": [item],
            })
        });
        self.schemas.add("HydraCollection", || {
            json!({
                "type": "object",
                "description": "Rows in JSON-LD, with the pages beside.",
                "properties": {
                    "@context": text(),
                    "@id": text(),
                    "@type": text(),
                    "hydra:member": { "type": "array", "items": { "type": "object" } },
                    "hydra:totalItems": { "type": "integer" },
                    "hydra:view": { "type": "object" },
                },
                "required": ["@context", "@id", "@type", "hydra:member", "hydra:totalItems"],
                "examples": [list],
            })
        });
    }

    fn done(mut self) -> Json {
        let level = self.level;
        add_problems(&mut self.schemas);
        self.add_linked();
        let mut paths: Vec<(String, Json)> = self.paths.into_iter().collect();
        paths.sort_by(|one, other| one.0.cmp(&other.0));
        self.tags.sort();
        let tags: Vec<Json> =
            self.tags.iter().map(|(name, docs)| json!({ "name": name, "description": docs })).collect();
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": format!("Carillon: {} API", level.name()),
                "version": env!("CARGO_PKG_VERSION"),
                "description": about(level),
                "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
            },
            "servers": [{ "url": format!("/api/{}", level.name()) }],
            "security": [{ "bearer": [] }],
            "tags": tags,
            "paths": paths.into_iter().collect::<Map<String, Json>>(),
            "components": {
                "schemas": self.schemas.into_named(),
                "parameters": filters::all_shared(level),
                "responses": errors(),
                "securitySchemes": {
                    "bearer": {
                        "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                        "description": "A token of this level, from a login, a refresh or an exchange.",
                    },
                },
            },
        })
    }
}

/// A problem such as the server tells with this status.
fn problem(status: u16, docs: &str) -> Problem {
    match status {
        400 => Refusal::wrong("name", "it must be given").into(),
        401 => Problem::token("Invalid JWT Token"),
        404 => Problem::not_found(),
        422 => Refusal::Dangling { field: "country".to_owned(), entity: "Country", id: 999 }.into(),
        _ => Problem::new(StatusCode::from_u16(status).unwrap_or_default(), docs),
    }
}

fn about(level: Level) -> String {
    let login = if level == Level::User { "user_login" } else { "admin_login" };
    format!(
        "Log in at `POST /{login}` and send the token as `Authorization: Bearer …`.\n\n\
         Answers are JSON (`Accept: application/json`), JSON-LD with Hydra (`application/ld+json`), or for some lists \
         comma-separated values (`text/csv`). Moments are written `2026-01-31 23:59:59` in the caller's time zone; \
         `_timezone` names another one. Filters by fields that a list does not have are left out, and so are unknown fields of \
         bodies; a test that a field does not take, or a value that is none of its kind, is refused (400); an empty value of what is no text is no filter.\n\n\
         Tests of filters in brackets take lists, too: `name[partial][]=a&name[partial][]=b` finds either. \
         `exists[name]=true` is another form of `name[exists]=true`.\n\n\
         Rows come with an `ETag`. A `PUT` or `DELETE` that sends it back as `If-Match` is refused (412) when somebody else \
         has changed the row meanwhile; without it, the last one wins.\n\n\
         This document comes in two forms. `docs.json` is Swagger 2.0, which tools of this dialect expect, unless \
         OpenAPI 3.1 is asked for: by `Accept: application/vnd.oai.openapi+json` or by `?spec_version=3`. The newer form \
         says more: what may be null, patterns, multipart bodies beside JSON ones."
    )
}

fn head(table: &Table, access: &Access, method: &str, of: &str, summary: &str) -> Json {
    let mut operation = json!({
        "tags": [table.name],
        "summary": summary,
        "operationId": format!("{method}{}{of}", table.name),
    });
    if let Some(told) = told_access(access) {
        operation["description"] = json!(told);
    }
    operation["responses"] = json!({});
    operation
}

/// What a caller needs besides a token.
fn told_access(access: &Access) -> Option<String> {
    let mut told = Vec::new();
    if access.acl {
        told.push("Restricted administrators need a grant.".to_owned());
    }
    if !access.brand_feature.is_empty() {
        told.push(format!("The brand needs the feature {}.", access.brand_feature));
    }
    if !access.company_feature.is_empty() {
        told.push(format!("The client needs the feature {}.", access.company_feature));
    }
    if !access.company_types.is_empty() {
        let names: Vec<&str> = access.company_types.iter().map(|kind| kind.name()).collect();
        told.push(format!("For clients of type {}.", names.join(" or ")));
    }
    if access.needs_invoices {
        told.push("For clients that may see their invoices.".to_owned());
    }
    (!told.is_empty()).then(|| told.join(" "))
}

fn told_gate(gate: &Gate, level: Level) -> Option<String> {
    match gate {
        Gate::Open => None,
        Gate::Grant(..) => Some("Restricted administrators need a grant.".to_owned()),
        Gate::Entity(name, _) => model::entities::table(name)?.access(level).and_then(told_access),
    }
}

/// The files that may come with a body of this table.
fn uploads(table: &'static Table, level: Level) -> Vec<&'static str> {
    let writable = |name: &&str| {
        table.field(name).is_some_and(|field| field.view(level).create || field.view(level).change)
    };
    files::fields(table).filter(writable).collect()
}

fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

fn names_of(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn id_parameter(name: &str) -> Json {
    json!({
        "name": name, "in": "path", "required": true, "description": "The id of the row.",
        "schema": { "type": "integer", "minimum": 0, "maximum": u32::MAX, "examples": [1] },
    })
}

/// A row in both its forms.
fn row_answer(docs: &str, row: &Json) -> Json {
    json!({
        "description": docs,
        "content": { JSON: { "schema": row }, JSON_LD: { "schema": schemas::refer("HydraItem") } },
    })
}

fn binary(kind: &str) -> Json {
    json!({
        "description": "The file.",
        "content": { kind: { "schema": { "type": "string", "format": "binary" } } },
    })
}

fn holds(holds: Holds) -> Json {
    match holds {
        Holds::Id => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX, "examples": [1] }),
        Holds::Whole(low, high) => {
            json!({ "type": "integer", "minimum": low, "maximum": high, "examples": [low] })
        }
        Holds::Text(example) => json!({ "type": "string", "examples": [example] }),
        Holds::Choice(names) => json!({ "type": "string", "enum": names }),
        Holds::File => json!({ "type": "string", "format": "binary" }),
    }
}

fn described(part: &Part) -> Json {
    let mut schema = holds(part.holds);
    schema["description"] = json!(part.docs);
    schema
}

fn query_part(part: &Part) -> Json {
    let mut parameter = filters::query(part.name, holds(part.holds), part.docs);
    if part.required {
        parameter["required"] = json!(true);
    }
    parameter
}

/// `a/{}/b` with names in place of open segments.
fn open_path(path: &str, names: &[&str]) -> String {
    let mut names = names.iter();
    let segments: Vec<String> = path
        .split('/')
        .map(|segment| match segment {
            "{}" => format!("{{{}}}", names.next().copied().unwrap_or("id")),
            segment => segment.to_owned(),
        })
        .collect();
    format!("/{}", segments.join("/"))
}

fn operation_id(method: &str, path: &str) -> String {
    let path = path.replace("{}", "by").replace(['/', '.'], "_");
    format!("{}_{path}", method.to_ascii_lowercase())
}

/// The errors that are answered alike everywhere: status, name, meaning.
const ERRORS: &[(u16, &str, &str)] = &[
    (400, "BadRequest", "The request is wrong, or a value or a rule of the row is not kept."),
    (401, "Unauthorized", "There is no token, or it is wrong or has expired."),
    (403, "Forbidden", "The caller may not do it, or a rule of the platform is against it."),
    (404, "NotFound", "There is no such row for this caller."),
    (406, "NotAcceptable", "The answer cannot be made in a form that `Accept` names."),
    (408, "RequestTimeout", "The body does not come."),
    (412, "PreconditionFailed", "The row is not any more as `If-Match` says."),
    (413, "PayloadTooLarge", "The body is too long, or the tenant has too many files."),
    (415, "UnsupportedMediaType", "Bodies of this type are not read here."),
    (422, "Unprocessable", "Something is referred to that does not exist."),
    (429, "TooManyRequests", "There were too many failed logins; `Retry-After` says when to try again."),
    (501, "NotImplemented", "A part of the system that this needs is not there."),
    (503, "Unavailable", "The change cannot be kept now; `Retry-After` says when to try again."),
    (507, "InsufficientStorage", "There is no room for the file on the disk now."),
];

fn error(status: u16) -> Json {
    let known = ERRORS.iter().find(|(known, ..)| *known == status);
    let name = known.map_or("BadRequest", |(_, name, _)| *name);
    json!({ "$ref": format!("#/components/responses/{name}") })
}

fn answers(operation: &mut Json, statuses: &[u16]) {
    for status in statuses {
        let key = status.to_string();
        if operation["responses"].get(&key).is_none() {
            operation["responses"][key] = error(*status);
        }
    }
}

fn sort_answers(operation: &mut Json) {
    if let Some(answers) = operation["responses"].as_object_mut() {
        answers.sort_keys();
    }
}

/// What may go wrong with an uploaded file.
fn file_answers(table: &'static Table, level: Level, operation: &mut Json) {
    if !uploads(table, level).is_empty() {
        answers(operation, &[507]);
    }
}

fn errors() -> Json {
    let mut known = Map::new();
    let plain = |example: Option<&Problem>| {
        let mut media = json!({ "schema": schemas::refer("TokenError") });
        if let Some(example) = example {
            media["example"] = example.document(Format::Json).1;
        }
        json!({ JSON: media })
    };
    let problem = |example: &Problem| {
        json!({
            PROBLEM: { "schema": schemas::refer("Problem"), "example": example.document(Format::Json).1 },
            JSON_LD: { "schema": schemas::refer("HydraError"), "example": example.document(Format::JsonLd).1 },
        })
    };
    let waiting = json!({
        "Retry-After": { "schema": { "type": "integer" }, "description": "Seconds to wait." },
    });
    for (status, name, docs) in ERRORS {
        let docs = match status {
            413 => format!(
                "{docs} At most {LARGEST_BODY} octets are read, {LARGEST_UPLOAD} with files, and {LARGEST_FORM} where no token is needed."
            ),
            _ => (*docs).to_owned(),
        };
        let example = self::problem(*status, &docs);
        let content = match status {
            401 => plain(Some(&example)),
            // At a login it is written as an error of tokens, elsewhere as a problem.
            429 => {
                let mut either = problem(&example);
                either[JSON] =
                    plain(Some(&Problem { plain: true, ..self::problem(*status, &docs) }))[JSON].take();
                either
            }
            _ => problem(&example),
        };
        let mut answer = json!({ "description": docs, "content": content });
        if matches!(status, 429 | 503) {
            answer["headers"] = waiting.clone();
        }
        known.insert((*name).to_owned(), answer);
    }
    let docs = "No token is given out for this account or token.";
    known.insert("Refused".to_owned(), json!({ "description": docs, "content": plain(None) }));
    Json::Object(known)
}

fn add_problems(schemas: &mut Schemas) {
    let text = || json!({ "type": "string" });
    let (wrong, token) = (problem(400, ""), problem(401, ""));
    schemas.add("Problem", || {
        json!({
            "type": "object",
            "description": "What is wrong (RFC 9457).",
            "properties": {
                "type": text(),
                "title": text(),
                "detail": { "type": "string", "description": "What is wrong and what to do, for people." },
                "violations": {
                    "type": "array",
                    "description": "The fields that are wrong.",
                    "items": {
                        "type": "object",
                        "properties": { "propertyPath": text(), "message": text() },
                        "required": ["propertyPath", "message"],
                    },
                },
            },
            "required": ["type", "title", "detail"],
            "examples": [wrong.document(Format::Json).1],
        })
    });
    schemas.add("TokenError", || {
        json!({
            "type": "object",
            "description": "What is wrong with a token or a login.",
            "properties": { "code": { "type": "integer" }, "message": text() },
            "required": ["code", "message"],
            "examples": [token.document(Format::Json).1],
        })
    });
    schemas.add("HydraError", || {
        json!({
            "type": "object",
            "properties": { "@context": text(), "@type": text(), "hydra:title": text(), "hydra:description": text() },
            "required": ["@type", "hydra:title", "hydra:description"],
            "examples": [wrong.document(Format::JsonLd).1],
        })
    });
}
