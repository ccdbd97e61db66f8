//! What the documents must be: complete, resolved, right about what the server does, and stable.

use super::operations::{self, OPERATIONS};
use super::schemas::{self, Schemas, View};
use super::{anonymous, examples, openapi, swagger};
use crate::custom;
use crate::http::{Ask, Format, Query};
use crate::show::MASK;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use jiff::Timestamp;
use model::define::{How, Kind, Level, Reading, SecretHasher};
use model::entities::TABLES;
use model::import::import;
use model::rows::Rows;
use serde_json::{Map, Value as Json, json};
use std::collections::HashSet;

/// The dialect's list of paths.
fn dialect(level: Level) -> Map<String, Json> {
    let text = include_str!("../../../../tests/data/rest-endpoints.json");
    let document: Json = serde_json::from_str(text).expect("the list is JSON");
    document["levels"][level.name()].as_object().cloned().expect("each level has a list")
}

/// `GET /carriers/{}`: method and path without the names of open segments.
fn plain(method: &str, path: &str) -> String {
    let segment = |segment: &str| if segment.starts_with('{') { "{}".to_owned() } else { segment.to_owned() };
    let path: Vec<String> = path.split('/').map(segment).collect();
    format!("{} {}", method.to_uppercase(), path.join("/"))
}

fn documented(document: &Json) -> HashSet<String> {
    let paths = document["paths"].as_object().expect("there are paths");
    let of_path = |(path, operations): (&String, &Json)| -> Vec<String> {
        let methods = operations.as_object().into_iter().flat_map(Map::keys);
        methods.map(|method| plain(method, path)).collect()
    };
    paths.iter().flat_map(of_path).collect()
}

fn ask(level: Level, path: &str, accept: &str, query: &str) -> Ask {
    let mut headers = HeaderMap::new();
    if !accept.is_empty() {
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).expect("a header"));
    }
    Ask {
        level,
        method: Method::GET,
        path: path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
        raw_path: format!("/api/{}/{path}", level.name()),
        query: Query::parse(query),
        format: Format::accepted(&headers),
        headers,
        proof: Default::default(),
        body: bytes::Bytes::new(),
        from: None,
        memory: None,
    }
}

fn kind_of(response: &Response<Body>) -> &str {
    response.headers()[header::CONTENT_TYPE].to_str().expect("text")
}

async fn text_of(response: Response<Body>) -> String {
    let body = axum::body::to_bytes(response.into_body(), 8_000_000).await.expect("a body");
    String::from_utf8(body.to_vec()).expect("text")
}

async fn json_of(response: Response<Body>) -> Json {
    serde_json::from_str(&text_of(response).await).expect("JSON")
}

#[test]
fn every_operation_of_its_own_is_described() {
    for operation in custom::operations() {
        for level in operation.levels {
            let told = operations::of(operation.method.as_str(), operation.path, *level);
            assert!(told.is_some(), "{} {} at {}", operation.method, operation.path, level.name());
        }
    }
}

/// What the platform has beyond the dialect.
const BEYOND: [&str; 3] = ["token/revoke", "audit_log", "companies/{}/simulate_route"];

#[test]
fn descriptions_are_of_operations_that_the_dialect_has_or_of_ours_that_do_not_collide_with_it() {
    for docs in OPERATIONS {
        if BEYOND.contains(&docs.path) {
            let first = |path: &str| path.split(['/', '.', ' ']).nth(2).map(str::to_owned);
            let taken = Level::ALL
                .into_iter()
                .any(|level| dialect(level).keys().any(|key| first(key).as_deref() == Some(docs.path)));
            let wanted = plain(docs.method, &format!("/{}", docs.path));
            let is_it = |key: &String| {
                key.split_once(' ').is_some_and(|(method, path)| plain(method, path) == wanted)
            };
            let taken = taken || Level::ALL.into_iter().any(|level| dialect(level).keys().any(is_it));
            assert!(!taken, "{} is the dialect's", docs.path);
            continue;
        }
        for level in docs.levels {
            let wanted = plain(docs.method, &format!("/{}", docs.path));
            let known = dialect(*level).keys().any(|key| {
                let (method, path) = key.split_once(' ').expect("a method and a path");
                plain(method, path) == wanted
            });
            assert!(known, "{wanted} at {}", level.name());
        }
    }
}

#[test]
fn every_resource_of_the_dialect_is_in_the_documents() {
    for level in Level::ALL {
        let documented = documented(&openapi::of(level));
        let mut compared = 0;
        for (key, endpoint) in dialect(level) {
            let (method, path) = key.split_once(' ').expect("a method and a path");
            let operation = endpoint["operation"].as_str().unwrap_or_default();
            let of_rows =
                matches!(operation, "get" | "post" | "put" | "delete") && path.matches('/').count() < 3;
            let plain_one =
                endpoint.get("entity").is_some() && (of_rows || operation.starts_with("download:"));
            if plain_one || operation == "documentation" || operation == "login" {
                assert!(documented.contains(&plain(method, path)), "{key} at {}", level.name());
                compared += 1;
            }
        }
        assert!(compared > 30, "{compared} of {}", level.name());
    }
}

#[test]
fn examples_are_values_that_their_fields_take() {
    struct Plain;
    impl SecretHasher for Plain {
        fn hash(&self, password: &str) -> String {
            password.to_owned()
        }
    }
    for table in TABLES.iter() {
        let mut row = (table.make)();
        for (place, field) in table.fields.iter().enumerate().skip(1) {
            let zone = jiff::tz::TimeZone::UTC;
            let reading = Reading { zone: &zone, now: Timestamp::UNIX_EPOCH, hasher: Some(&Plain) };
            let example = examples::of_field(field);
            let taken = row.set(place, &example, &reading);
            assert!(taken.is_ok(), "{}.{}: {example}: {taken:?}", table.name, field.name);
        }
    }
}

/// Whether a value has one of the types that a schema names.
fn has_type(schema: &Json, value: &Json) -> bool {
    let kinds = match &schema["type"] {
        Json::Array(kinds) => kinds.clone(),
        Json::Null => return true,
        kind => vec![kind.clone()],
    };
    kinds.iter().filter_map(Json::as_str).any(|kind| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        _ => value.is_object(),
    })
}

fn sample() -> Rows {
    let text = include_str!("../../../../tests/data/sample-system.json");
    let document = serde_json::from_str(text).expect("the sample system is JSON");
    let imported = import(&document, &Rows::default(), true, Timestamp::UNIX_EPOCH, &crate::Hasher);
    imported.expect("the sample system is right").0
}

#[test]
fn rows_of_the_sample_system_have_the_types_that_the_documents_say() {
    let rows = sample();
    let mut schemas = Schemas::new(Level::Brand);
    let (mut fields, mut derived) = (0, 0);
    for table in TABLES.iter().copied() {
        for row in rows.all(table) {
            for (place, field) in table.fields.iter().enumerate().filter(|(_, field)| !field.masked) {
                let value = row.get(place).shown(&jiff::tz::TimeZone::UTC);
                let schema = schemas.shown(field, false, false);
                assert!(has_type(&schema, &value), "{}.{}: {value} is not {schema}", table.name, field.name);
                fields += 1;
            }
            for computed in table.computed {
                if let How::Derived(derive) = computed.how {
                    let (value, schema) = (derive(&**row, &rows), schemas::derived(computed.name));
                    assert!(has_type(&schema, &value), "{}.{}: {value}", table.name, computed.name);
                    derived += 1;
                }
            }
        }
    }
    assert!(fields > 10_000 && derived > 50, "{fields} {derived}");
}

fn each(json: &Json, visit: &mut dyn FnMut(&Map<String, Json>)) {
    match json {
        Json::Object(object) => {
            visit(object);
            object.values().for_each(|value| each(value, visit));
        }
        Json::Array(list) => list.iter().for_each(|value| each(value, visit)),
        _ => {}
    }
}

#[test]
fn references_lead_somewhere_and_operations_have_names_of_their_own() {
    for level in Level::ALL {
        let new = openapi::of(level);
        for document in [swagger::of(&new), new] {
            let mut references = 0;
            each(&document, &mut |object| {
                let Some(Json::String(reference)) = object.get("$ref") else { return };
                references += 1;
                let there = document.pointer(reference.trim_start_matches('#'));
                assert!(there.is_some(), "{reference} at {}", level.name());
            });
            assert!(references > 100);
            let mut names = HashSet::new();
            for operation in document["paths"].as_object().unwrap().values() {
                for operation in operation.as_object().unwrap().values() {
                    let name = operation["operationId"].as_str().unwrap();
                    assert!(names.insert(name.to_owned()), "{name} twice at {}", level.name());
                    let answers = operation["responses"].as_object().unwrap();
                    assert!(answers.keys().any(|status| status.starts_with('2')), "{name}");
                }
            }
        }
    }
}

#[test]
fn swagger_has_none_of_the_words_that_came_later() {
    for level in Level::ALL {
        each(&swagger::of(&openapi::of(level))["definitions"], &mut |object| {
            // A property may have any name.
            let is_schema = object.get("type").is_some_and(Json::is_string) || object.contains_key("allOf");
            for word in ["anyOf", "oneOf", "examples", "contentMediaType"] {
                assert!(!is_schema || !object.contains_key(word), "{word} at {}", level.name());
            }
            assert!(!object.get("type").is_some_and(Json::is_array));
        });
    }
}

#[test]
fn swagger_says_null_files_and_moments_in_its_own_way() {
    let new = json!({
        "info": {}, "servers": [{ "url": "/api/x" }], "tags": [],
        "paths": { "/a": { "post": {
            "operationId": "a",
            "requestBody": { "required": true, "content": {
                "application/json": { "schema": { "$ref": "#/components/schemas/A" } },
                "multipart/form-data": { "schema": { "type": "object", "properties": {
                    "a": { "$ref": "#/components/schemas/A" },
                    "logo": { "type": "string", "format": "binary" },
                } } },
            } },
            "responses": { "201": { "description": "Made.", "content": {
                "application/json": { "schema": { "$ref": "#/components/schemas/A" } },
            } } },
        } } },
        "components": { "schemas": { "A": { "type": "object", "properties": {
            "kind": { "type": ["string", "null"], "enum": ["x", null], "examples": ["x"] },
            "at": schemas::time_schema(),
            "of": { "anyOf": [{ "$ref": "#/components/schemas/A" }, { "type": "null" }] },
        } } } },
    });
    let old = swagger::of(&new);
    let expected = json!({ "type": "object", "properties": {
        "kind": { "type": "string", "x-nullable": true, "enum": ["x"], "example": "x" },
        "at": { "type": "string", "format": "date-time" },
        "of": { "allOf": [{ "$ref": "#/definitions/A" }], "x-nullable": true },
    } });
    assert_eq!(old["definitions"]["A"], expected);
    let operation = &old["paths"]["/a"]["post"];
    assert_eq!(operation["consumes"], json!(["application/json", "multipart/form-data"]));
    assert_eq!(operation["x-multipart-file-parts"], json!(["logo"]));
    let body =
        json!({ "name": "body", "in": "body", "required": true, "schema": { "$ref": "#/definitions/A" } });
    assert_eq!(operation["parameters"], json!([body]));
    assert_eq!(operation["responses"]["201"]["schema"], json!({ "$ref": "#/definitions/A" }));
}

/// Whether a value is as a schema says: its kind, limits, choices and parts; what is wrong otherwise.
fn fits(document: &Json, schema: &Json, value: &Json) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let known = document.pointer(reference.trim_start_matches('#')).expect("references lead somewhere");
        return fits(document, known, value);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let fault = || format!("{value} is none of {}", schema["anyOf"]);
        return any.iter().any(|one| fits(document, one, value).is_ok()).then_some(()).ok_or_else(fault);
    }
    let check = |holds: bool, word: &str| {
        if holds { Ok(()) } else { Err(format!("{value} is against {word}: {}", schema[word])) }
    };
    check(has_type(schema, value), "type")?;
    check(schema["enum"].as_array().is_none_or(|choices| choices.contains(value)), "enum")?;
    if let Some(text) = value.as_str() {
        let count = text.chars().count() as u64;
        check(schema["maxLength"].as_u64().is_none_or(|most| count <= most), "maxLength")?;
        check(schema["minLength"].as_u64().is_none_or(|least| count >= least), "minLength")?;
        if schemas::is_time(schema) {
            check(jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", text).is_ok(), "pattern")?;
        } else if schema.get("pattern").is_some() {
            check(jiff::civil::Time::strptime("%H:%M:%S", text).is_ok(), "pattern")?;
        }
        if schema["format"] == json!("date") {
            check(text.parse::<jiff::civil::Date>().is_ok(), "format")?;
        }
    }
    if let Some(number) = value.as_f64() {
        check(schema["minimum"].as_f64().is_none_or(|least| number >= least), "minimum")?;
        check(schema["maximum"].as_f64().is_none_or(|most| number <= most), "maximum")?;
    }
    if let Some(list) = value.as_array() {
        check(schema["maxItems"].as_u64().is_none_or(|most| list.len() as u64 <= most), "maxItems")?;
        list.iter().try_for_each(|item| fits(document, &schema["items"], item))?;
    }
    if let Some(object) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            check(object.contains_key(name), "required").map_err(|fault| format!("{name}: {fault}"))?;
        }
        for (name, part) in object {
            if let Some(schema) = schema["properties"].get(name) {
                fits(document, schema, part).map_err(|fault| format!("{name}: {fault}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn every_example_is_as_its_schema_says() {
    for level in Level::ALL {
        let document = openapi::of(level);
        let (mut schemas, mut bodies) = (0, 0);
        each(&document, &mut |object| {
            let known = Json::Object(object.clone());
            if object.contains_key("type") {
                for example in object.get("examples").and_then(Json::as_array).into_iter().flatten() {
                    let fault = fits(&document, &known, example).err();
                    assert_eq!(
                        fault,
                        None,
                        "{}: {}",
                        level.name(),
                        object.get("description").unwrap_or(&known)
                    );
                    schemas += 1;
                }
            }
            if let (Some(schema), Some(example)) = (object.get("schema"), object.get("example")) {
                assert_eq!(fits(&document, schema, example), Ok(()), "{}", level.name());
                bodies += 1;
            }
        });
        assert!(schemas > 300 && bodies > 20, "{schemas} {bodies}");
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            let (entity, view) = name.rsplit_once('-').unwrap_or((name, ""));
            let example =
                schema["examples"][0].as_object().unwrap_or_else(|| panic!("{name} has no example"));
            if model::entities::table(entity).is_none() {
                continue;
            }
            let properties = schema["properties"].as_object().unwrap();
            assert!(!example.is_empty() || properties.is_empty(), "{name}");
            assert!(example.keys().all(|part| properties.contains_key(part)), "{name}: {example:?}");
            assert!(matches!(view, "create" | "change") || example.len() == properties.len(), "{name}");
        }
    }
}

#[test]
fn whatever_is_read_or_answered_as_json_has_an_example() {
    for level in Level::ALL {
        let document = openapi::of(level);
        let old = swagger::of(&document);
        let shown = |schema: &Json| -> bool {
            let of_rows = schema["type"] == json!("array") && schema.get("examples").is_none();
            let schema = if of_rows { &schema["items"] } else { schema };
            let reference = schema["$ref"].as_str().map(|to| to.trim_start_matches('#'));
            let schema =
                reference.map_or(schema, |to| document.pointer(to).expect("references lead somewhere"));
            schema.get("examples").is_some()
        };
        let mut count = 0;
        for (path, operations) in document["paths"].as_object().unwrap() {
            // The documents themselves are no example of anything.
            if document["paths"][path]["get"]["tags"] == json!(["Documents"]) {
                continue;
            }
            for (method, operation) in operations.as_object().unwrap() {
                let answers = operation["responses"].as_object().unwrap().values();
                for content in
                    answers.chain([&operation["requestBody"]]).filter_map(|one| one["content"].as_object())
                {
                    for (kind, media) in content.iter().filter(|(kind, _)| kind.ends_with("json")) {
                        assert!(shown(&media["schema"]), "{method} {path}: {kind} {}", media["schema"]);
                        count += 1;
                    }
                }
            }
        }
        assert!(count > 50, "{count}");
        let problem = &old["responses"]["BadRequest"]["examples"]["application/problem+json"];
        assert_eq!(problem["violations"][0]["propertyPath"], json!("name"), "{}", level.name());
        assert_eq!(old["responses"]["Unauthorized"]["examples"]["application/json"]["code"], json!(401));
    }
}

#[test]
fn examples_are_what_their_names_and_meanings_say() {
    let document = openapi::of(Level::Brand);
    let example = |name: &str| document["components"]["schemas"][name]["examples"][0].clone();
    let made = example("Carrier-create");
    assert_eq!((&made["proxyTrunk"], &made["calculateCost"]), (&json!(1), &json!(false)));
    assert!(made.get("currency").is_none(), "it need not be given: {made}");
    assert_eq!(example("Carrier-detailed")["proxyTrunk"]["ip"], json!("192.0.2.1"));
    assert_eq!(example("Ddi-collection")["ddie164"], json!("+34946002050"));
    assert_eq!(example("HydraItem")["@id"].as_str().map(|to| to.starts_with("/api/brand/")), Some(true));
    let login = &document["paths"]["/admin_login"]["post"];
    let form = &login["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"];
    assert_eq!(form["examples"], json!([{ "username": "admin", "password": "changeme" }]));
    assert!(
        login["responses"]["200"]["content"]["application/json"]["schema"]["examples"][0]["token"]
            .is_string()
    );
    let calls = &document["paths"]["/billable_calls"]["get"]["responses"]["200"]["content"]["text/csv"];
    assert_eq!(calls["example"].as_str().map(|text| text.lines().count()), Some(2));
}

#[test]
fn secrets_are_masked_in_answers_and_plain_in_bodies() {
    let table = model::entities::table("User").unwrap();
    let mut schemas = Schemas::new(Level::Client);
    schemas.row(table, View::Detail, true);
    schemas.row(table, View::Create, false);
    let named = schemas.into_named();
    let shown = &named["User-detailed"]["properties"]["pass"];
    assert_eq!(shown["examples"], json!([MASK]));
    let written = &named["User-create"]["properties"]["pass"];
    assert_eq!(written["format"], json!("password"));
}

#[test]
fn what_the_scope_fills_in_need_not_be_given() {
    let required = |name: &str, level: Level| {
        let mut schemas = Schemas::new(level);
        schemas.row(model::entities::table(name).unwrap(), View::Create, false);
        let schema = schemas.into_named().remove(&format!("{name}-create")).unwrap();
        schema["required"].as_array().cloned().unwrap_or_default()
    };
    // The brand and the client are the caller's; the client of a user is named by nobody.
    assert!(!required("User", Level::Client).contains(&json!("company")));
    assert!(required("User", Level::Client).contains(&json!("lastname")));
    assert!(!required("Carrier", Level::Brand).contains(&json!("brand")));
    assert!(required("WebPortal", Level::Platform).contains(&json!("url")));
    // A stored carrier may lack it; none is made without.
    assert!(required("Carrier", Level::Brand).contains(&json!("proxyTrunk")));
}

#[tokio::test]
async fn the_form_of_the_document_is_chosen_by_query_and_accept() {
    let version = |json: &Json| json.get("swagger").or_else(|| json.get("openapi")).cloned();
    let openapi = "application/vnd.oai.openapi+json";
    for (path, accept, query, wanted, kind) in [
        ("docs.json", "", "", "2.0", "application/json; charset=utf-8"),
        ("docs.json", "application/json", "spec_version=3", "3.1.0", "application/json; charset=utf-8"),
        ("docs.json", openapi, "", "3.1.0", openapi),
        ("docs.json", openapi, "spec_version=2", "2.0", "application/json; charset=utf-8"),
        ("index.json", "*/*", "", "2.0", "application/json; charset=utf-8"),
        ("docs", "application/json", "", "2.0", "application/json; charset=utf-8"),
        ("", openapi, "", "3.1.0", openapi),
    ] {
        let response = anonymous(&ask(Level::User, path, accept, query)).unwrap();
        assert_eq!(kind_of(&response), kind, "{path} {accept} {query}");
        assert_eq!(version(&json_of(response).await), Some(json!(wanted)), "{path} {accept} {query}");
    }
}

#[tokio::test]
async fn people_get_a_page_that_loads_nothing_from_elsewhere() {
    for (path, accept) in [("", ""), ("docs", "text/html,application/xhtml+xml,*/*;q=0.8"), ("", "*/*")] {
        let response = anonymous(&ask(Level::Brand, path, accept, "")).unwrap();
        assert_eq!(kind_of(&response), "text/html; charset=utf-8", "{path} {accept}");
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        let page = text_of(response).await;
        assert!(!page.contains("http:") && !page.contains("https:"), "{page}");
        let files = page.split(['"', ' ']).filter_map(|word| word.strip_prefix("/api/brand/docs/"));
        let mut count = 0;
        for file in files {
            let response = anonymous(&ask(Level::Brand, &format!("docs/{file}"), "*/*", "")).unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{file}");
            let kind = file.rsplit('.').next().map(|end| end.replace("js", "javascript"));
            assert!(kind_of(&response).contains(&kind.unwrap()), "{file}");
            count += 1;
        }
        assert_eq!(count, 4);
    }
    assert!(anonymous(&ask(Level::Brand, "docs/../lib.rs", "", "")).is_none());
    assert!(anonymous(&ask(Level::Brand, "docs/LICENSE", "", "")).is_none());
}

#[tokio::test]
async fn json_ld_begins_at_the_entrypoint_and_has_contexts() {
    let entry = json_of(anonymous(&ask(Level::Brand, "", "application/ld+json", "")).unwrap()).await;
    assert_eq!(entry["carriers"], json!("/api/brand/carriers"));
    let response = anonymous(&ask(Level::Brand, "docs.jsonld", "", "")).unwrap();
    assert_eq!(kind_of(&response), "application/ld+json; charset=utf-8");
    let hydra = json_of(response).await;
    let classes = hydra["hydra:supportedClass"].as_array().unwrap();
    let carrier = classes.iter().find(|class| class["@id"] == json!("#Carrier")).unwrap();
    let methods: Vec<&Json> = carrier["hydra:supportedOperation"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["hydra:method"])
        .collect();
    assert_eq!(methods, ["GET", "PUT", "DELETE"]);
    let context = super::hydra::context(Level::Brand, "Carrier").unwrap();
    assert_eq!(context["@context"]["maxCalls"], Json::Null);
    assert_eq!(context["@context"]["proxyTrunk"], json!("Carrier/proxyTrunk"));
    assert!(super::hydra::context(Level::User, "Carrier").is_none());
    assert!(super::hydra::context(Level::User, "Error").is_some());
    assert!(super::hydra::context(Level::User, "User").is_some(), "users see themselves");
}

#[test]
fn files_are_uploaded_beside_the_rows_document() {
    let document = openapi::of(Level::Client);
    let body = &document["paths"]["/locutions"]["post"]["requestBody"]["content"];
    let form = &body["multipart/form-data"]["schema"]["properties"];
    assert_eq!(form["locution"]["$ref"], json!("#/components/schemas/Locution-create"));
    assert_eq!(form["originalFile"], json!({ "type": "string", "format": "binary" }));
    let carriers = &openapi::of(Level::Brand)["paths"]["/carriers"]["post"]["requestBody"]["content"];
    assert!(carriers.get("multipart/form-data").is_none());
    assert!(document["paths"].get("/locutions/{id}/originalfile").is_some());
}

#[test]
fn lists_show_the_parts_of_a_group_that_they_show() {
    let document = openapi::of(Level::Brand);
    let parts = |schema: &str| {
        let group = &document["components"]["schemas"][schema]["properties"]["invoicing"];
        let names: Vec<&str> = group["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        (names, group["required"].as_array().map_or(0, Vec::len))
    };
    assert_eq!(parts("Company-collection"), (vec!["nif"], 1));
    assert_eq!(parts("Company-detailed").1, 6);
    let made = &document["paths"]["/friends"]["post"]["responses"]["201"]["content"]["application/json"];
    assert_eq!(made["schema"]["$ref"], json!("#/components/schemas/Friend-collection"));
}

#[test]
fn filters_follow_what_fields_hold() {
    let document = openapi::of(Level::Brand);
    let parameters = document["paths"]["/carriers"]["get"]["parameters"].as_array().unwrap();
    let names: HashSet<&str> = parameters.iter().filter_map(|one| one["name"].as_str()).collect();
    for name in ["name", "name[partial]", "id[neq]", "proxyTrunk[exists]", "_order[name]", "_properties[]"] {
        assert!(names.contains(name), "{name}");
    }
    for name in ["calculateCost[partial]", "status", "name[exists]", "currency", "_order[status]"] {
        assert!(!names.contains(name), "{name}");
    }
    let calls = document["paths"]["/billable_calls"]["get"].clone();
    let shared = json!({ "$ref": "#/components/parameters/pagination" });
    assert!(calls["parameters"].as_array().unwrap().contains(&shared));
    assert!(!parameters.contains(&shared));
    assert!(calls["responses"]["200"]["content"].get("text/csv").is_some());
    let kinds = TABLES.iter().flat_map(|table| table.fields).filter(|field| matches!(field.kind, Kind::Json));
    assert!(kinds.count() > 0, "documents are carried somewhere, and are no filters");
}

/// What a reader of a change should see of the documents: how much there is, and a few parts whole.
fn digest() -> Json {
    let mut shown = Map::new();
    for level in Level::ALL {
        let document = openapi::of(level);
        let paths = document["paths"].as_object().into_iter().flat_map(Map::values);
        let operations: Vec<&Json> =
            paths.flat_map(|path| path.as_object().into_iter().flat_map(Map::values)).collect();
        // Those of rows and their files: `getCarrierItem`. Operations of their own have names with underscores.
        let of_rows =
            operations.iter().filter(|one| !one["operationId"].as_str().unwrap_or("_").contains('_')).count();
        let counts = json!({ "resources": openapi::resources(level).len(), "operationsOfRows": of_rows });
        shown.insert(level.name().to_owned(), counts);
    }
    let brand = openapi::of(Level::Brand);
    let client = openapi::of(Level::Client);
    let parts = [
        ("brand", &brand, "/components/schemas/Carrier-collection"),
        ("brand", &brand, "/components/schemas/Carrier-detailed"),
        ("brand", &brand, "/components/schemas/Carrier-create"),
        ("brand", &brand, "/paths/~1balance_notifications~1{id}"),
        ("client", &client, "/components/schemas/Locution"),
        ("client", &client, "/components/schemas/Schedule-changed"),
        ("client", &client, "/paths/~1my~1active_calls"),
    ];
    for (level, document, pointer) in parts {
        let part = document.pointer(pointer).cloned().unwrap_or_default();
        assert!(!part.is_null(), "{pointer} is not in the document of {level}");
        shown.insert(format!("{level}{pointer}"), part);
    }
    Json::Object(shown)
}

#[test]
fn the_documents_are_as_they_were_last_looked_at() {
    let now = format!("{:#}\n", digest());
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/golden.json");
    if std::env::var_os("RENEW_GOLDEN").is_some() {
        std::fs::write(place, &now).expect("the golden file can be written");
    }
    let then = std::fs::read_to_string(place).expect("there is a golden file");
    let differs = now.lines().zip(then.lines()).find(|(now, then)| now != then);
    assert!(
        now == then,
        "the documents changed, first where {differs:?}. Look at the difference, and run with RENEW_GOLDEN=1 if it is meant"
    );
}
