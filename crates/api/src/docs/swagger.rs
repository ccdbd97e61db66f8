//! Swagger 2.0 out of OpenAPI 3.1: the same document for tools that know no other form.
//!
//! What 2.0 cannot say is left out or said by extensions: null by `x-nullable`, files of a JSON operation by
//! `x-multipart-file-parts`. Moments have format `date-time`, as tools of the dialect know them.

use serde_json::{Map, Value as Json, json};

const METHODS: &[&str] = &["get", "post", "put", "delete"];

/// The document in its older form.
pub(super) fn of(openapi: &Json) -> Json {
    let mut paths = Map::new();
    for (path, operations) in openapi["paths"].as_object().into_iter().flatten() {
        let mut shown = Map::new();
        for (method, operation) in operations.as_object().into_iter().flatten() {
            if METHODS.contains(&method.as_str()) {
                shown.insert(method.clone(), self::operation(operation));
            }
        }
        paths.insert(path.clone(), Json::Object(shown));
    }
    let each = |name: &str, change: &dyn Fn(&Json) -> Json| -> Json {
        let known = openapi["components"][name].as_object().into_iter().flatten();
        Json::Object(known.map(|(name, value)| (name.clone(), change(value))).collect())
    };
    json!({
        "swagger": "2.0",
        "info": openapi["info"],
        "basePath": openapi["servers"][0]["url"],
        "tags": openapi["tags"],
        "securityDefinitions": {
            "bearer": {
                "type": "apiKey",
                "in": "header",
                "name": "Authorization",
                "description": "`Bearer ` and the token.",
            },
        },
        "paths": paths,
        "parameters": each("parameters", &parameter),
        "responses": each("responses", &response),
        "definitions": each("schemas", &schema),
    })
}

fn operation(openapi: &Json) -> Json {
    let mut shown = Map::new();
    for name in ["tags", "summary", "description", "operationId", "security"] {
        if let Some(value) = openapi.get(name) {
            shown.insert(name.to_owned(), value.clone());
        }
    }
    let mut parameters: Vec<Json> =
        openapi["parameters"].as_array().into_iter().flatten().map(parameter).collect();
    if let Some(body) = openapi.get("requestBody") {
        let content = body["content"].as_object().into_iter().flatten();
        let kinds: Vec<&String> = content.clone().map(|(kind, _)| kind).collect();
        shown.insert("consumes".to_owned(), json!(kinds));
        let json_body = content.clone().find(|(kind, _)| kind.ends_with("json"));
        let forms = content.clone().find(|(kind, _)| !kind.ends_with("json"));
        match (json_body, forms) {
            (Some((_, media)), forms) => {
                let mut parameter =
                    json!({ "name": "body", "in": "body", "schema": schema(&media["schema"]) });
                parameter["required"] = json!(body["required"] == json!(true));
                parameters.push(parameter);
                if let Some((_, media)) = forms {
                    let files = binary_parts(&media["schema"]);
                    shown.insert("x-multipart-file-parts".to_owned(), json!(files));
                }
            }
            (None, Some((_, media))) => parameters.extend(form(&media["schema"])),
            (None, None) => {}
        }
    }
    if !parameters.is_empty() {
        shown.insert("parameters".to_owned(), Json::Array(parameters));
    }
    let mut produces: Vec<&String> = Vec::new();
    let mut responses = Map::new();
    for (status, answer) in openapi["responses"].as_object().into_iter().flatten() {
        for kind in answer["content"].as_object().into_iter().flat_map(Map::keys) {
            if !produces.contains(&kind) {
                produces.push(kind);
            }
        }
        responses.insert(status.clone(), response(answer));
    }
    if !produces.is_empty() {
        shown.insert("produces".to_owned(), json!(produces));
    }
    shown.insert("responses".to_owned(), Json::Object(responses));
    Json::Object(shown)
}

/// The names of the files in a multipart body.
fn binary_parts(form: &Json) -> Vec<&String> {
    let parts = form["properties"].as_object().into_iter().flatten();
    parts.filter(|(_, part)| is_binary(part)).map(|(name, _)| name).collect()
}

fn is_binary(part: &Json) -> bool {
    part.get("contentMediaType").is_some() || part["format"] == json!("binary")
}

fn form(schema: &Json) -> Vec<Json> {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let mut parameters = Vec::new();
    for (name, part) in schema["properties"].as_object().into_iter().flatten() {
        let mut parameter = if is_binary(part) { json!({ "type": "file" }) } else { simple(part) };
        parameter["name"] = json!(name);
        parameter["in"] = json!("formData");
        parameter["required"] = json!(required.contains(&name.as_str()));
        if let Some(docs) = part.get("description") {
            parameter["description"] = docs.clone();
        }
        if let Some(example) = part["examples"].get(0) {
            parameter["x-example"] = example.clone();
        }
        parameters.push(parameter);
    }
    parameters
}

/// A parameter; references become those of the older form.
fn parameter(openapi: &Json) -> Json {
    if openapi.get("$ref").is_some() {
        return referred(openapi);
    }
    let mut shown = simple(&openapi["schema"]);
    for name in ["name", "in", "description", "required"] {
        if let Some(value) = openapi.get(name) {
            shown[name] = value.clone();
        }
    }
    if shown["type"] == json!("array") {
        shown["collectionFormat"] = json!("multi");
    }
    shown
}

/// The schema of a parameter: a few words, no objects.
fn simple(openapi: &Json) -> Json {
    let mut shown = schema(openapi);
    let Some(object) = shown.as_object_mut() else { return json!({ "type": "string" }) };
    let known = ["type", "format", "items", "enum", "default", "minimum", "maximum", "maxLength", "pattern"];
    object.retain(|name, _| known.contains(&name.as_str()));
    if !matches!(object.get("type").and_then(Json::as_str), Some(kind) if kind != "object") {
        object.insert("type".to_owned(), json!("string"));
    }
    shown
}

fn response(openapi: &Json) -> Json {
    if openapi.get("$ref").is_some() {
        return referred(openapi);
    }
    let mut shown = json!({ "description": openapi["description"] });
    let content = openapi["content"].as_object();
    let first = content.and_then(|content| {
        content.iter().find(|(kind, _)| kind.ends_with("json")).or_else(|| content.iter().next())
    });
    if let Some((_, media)) = first {
        let body = &media["schema"];
        shown["schema"] = schema(body);
    }
    let examples =
        content.into_iter().flatten().filter_map(|(kind, media)| Some((kind, media.get("example")?)));
    let examples: Map<String, Json> = examples.map(|(kind, one)| (kind.clone(), one.clone())).collect();
    if !examples.is_empty() {
        shown["examples"] = Json::Object(examples);
    }
    if let Some(headers) = openapi["headers"].as_object() {
        let header = |header: &Json| {
            let mut shown = simple(&header["schema"]);
            shown["description"] = header["description"].clone();
            shown
        };
        shown["headers"] = headers.iter().map(|(name, value)| (name.clone(), header(value))).collect();
    }
    shown
}

fn referred(openapi: &Json) -> Json {
    let text = openapi["$ref"].as_str().unwrap_or_default();
    let text = text.replace("#/components/schemas/", "#/definitions/").replace("#/components/", "#/");
    json!({ "$ref": text })
}

/// A schema in the older form.
fn schema(openapi: &Json) -> Json {
    let Some(object) = openapi.as_object() else { return json!({}) };
    if object.contains_key("$ref") {
        return referred(openapi);
    }
    let mut shown = Map::new();
    for (word, value) in object {
        match word.as_str() {
            "type" => match value {
                Json::Array(kinds) => {
                    if let Some(kind) = kinds.iter().find(|kind| **kind != json!("null")) {
                        shown.insert("type".to_owned(), kind.clone());
                    }
                    if kinds.contains(&json!("null")) {
                        shown.insert("x-nullable".to_owned(), json!(true));
                    }
                }
                kind if *kind == json!("null") => drop(shown.insert("x-nullable".to_owned(), json!(true))),
                kind => drop(shown.insert("type".to_owned(), kind.clone())),
            },
            "examples" => drop(shown.insert("example".to_owned(), value[0].clone())),
            "enum" => {
                let choices = value.as_array().into_iter().flatten().filter(|choice| !choice.is_null());
                shown.insert("enum".to_owned(), choices.cloned().collect());
            }
            "properties" => {
                let parts = value.as_object().into_iter().flatten();
                let parts = parts.map(|(name, part)| (name.clone(), schema(part))).collect();
                shown.insert("properties".to_owned(), Json::Object(parts));
            }
            "items" => drop(shown.insert("items".to_owned(), schema(value))),
            "anyOf" => {
                // A row or nothing.
                let row = value.as_array().into_iter().flatten().find(|one| one.get("$ref").is_some());
                shown.insert("allOf".to_owned(), json!([row.map(referred)]));
                shown.insert("x-nullable".to_owned(), json!(true));
            }
            "allOf" => {
                let all = value.as_array().into_iter().flatten().map(schema).collect();
                shown.insert("allOf".to_owned(), all);
            }
            "contentMediaType" | "const" => {}
            _ => drop(shown.insert(word.clone(), value.clone())),
        }
    }
    let pattern = super::schemas::time_schema()["pattern"].clone();
    if shown.get("pattern") == Some(&pattern) {
        shown.remove("pattern");
        shown.insert("format".to_owned(), json!("date-time"));
    }
    Json::Object(shown)
}
