//! Every endpoint as it is meant: status, type, fields, headers, order, masks.

use crate::bodies::{self, new_row, seen};
use crate::facts::{Endpoint, Plain, as_listed, differences, endpoints, listed, model, names, operation};
use crate::world::{ACCOUNTS, Account, Answer, Ask, Server, accounts_for, run, sample, token};
use model::define::{File, Kind, Level, Reading, Table, View};
use model::entities::WebPortal;
use model::rows::Rows;
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;

const JSON: &str = "application/json; charset=utf-8";
const PROBLEM: &str = "application/problem+json; charset=utf-8";
/// More than any list of the sample has.
const ALL: &str = "_itemsPerPage=5000";

/// What is not as the facts say, and why: `not_yet.txt` and `differing.txt` hold what is known.
#[derive(Default)]
struct Findings(BTreeSet<String>);

impl Findings {
    fn add(&mut self, endpoint: &Endpoint, what: impl AsRef<str>) {
        self.0.insert(format!("{}: {}", endpoint.name(), what.as_ref()));
    }

    fn expect(&mut self, endpoint: &Endpoint, answer: &Answer, status: u16, kind: &str) -> bool {
        if answer.status != status {
            self.add(endpoint, format!("{} instead of {status}: {}", answer.status, answer.text()));
        } else if answer.header("content-type") != kind {
            self.add(endpoint, format!("the type is {}", answer.header("content-type")));
        } else {
            return true;
        }
        false
    }

    fn fields(&mut self, endpoint: &Endpoint, said: &Json, shown: &Json) {
        for difference in differences(endpoint.level, said, shown) {
            self.add(endpoint, difference);
        }
        let table = endpoint.entity.expect("a plain endpoint has an entity");
        for name in model(endpoint.level, table)["masked"].as_array().into_iter().flatten() {
            let shown = shown.get(name.as_str().unwrap_or_default());
            if shown.is_some_and(|shown| shown != "*****") {
                self.add(endpoint, format!("{name} is not masked"));
            }
        }
    }
}

/// The account that sees most rows of the endpoint's entity.
fn best(endpoint: &Endpoint, table: &'static Table, rows: &Rows) -> Account {
    let accounts = accounts_for(endpoint);
    let count = |account: &&Account| seen(account, table, rows).len();
    // The first one of the best: `max_by_key` takes the last.
    *accounts.iter().rev().max_by_key(count).expect("somebody may")
}

fn plain_endpoints() -> impl Iterator<Item = (&'static Endpoint, Plain, &'static Table, &'static Json)> {
    endpoints().iter().filter(|endpoint| !endpoint.dead()).filter_map(|endpoint| {
        let plain = endpoint.plain()?;
        let table = endpoint.entity?;
        Some((endpoint, plain, table, operation(endpoint.level, table, plain)))
    })
}

async fn list(server: &Server, rows: &Rows, findings: &mut Findings, endpoint: &Endpoint, said: &Json) {
    let table = endpoint.entity.expect("an entity");
    let account = best(endpoint, table, rows);
    let answer = server.send(Ask::of(&account, "GET", &format!("{}?{ALL}", endpoint.path))).await;
    if !findings.expect(endpoint, &answer, 200, JSON) {
        return;
    }
    let shown = answer.json();
    let Some(shown) = shown.as_array() else { return findings.add(endpoint, "it is no list") };
    if shown.len() != seen(&account, table, rows).len() {
        findings.add(endpoint, "the list has other rows than the account sees");
    }
    shown.iter().for_each(|row| findings.fields(endpoint, said, row));
    let total = shown.len().to_string();
    let page = format!("/api/{}{}?_page=1", endpoint.level.name(), endpoint.path);
    let headers = [("x-total-items", total.as_str()), ("x-total-pages", "1"), ("x-first-page", &page)];
    for (name, value) in headers.into_iter().chain([("x-next-page", &*page), ("x-last-page", &page)]) {
        if answer.header(name) != value {
            findings.add(endpoint, format!("{name} is {:?}", answer.header(name)));
        }
    }
    let order = &model(endpoint.level, table)["order"];
    if let Some(place) = unsorted(order, table, rows, shown) {
        findings.add(endpoint, format!("row {place} stands before the one before it by {order}"));
    }
    let paged = server.send(Ask::of(&account, "GET", &format!("{}?_itemsPerPage=1", endpoint.path))).await;
    let pages = paged.header("x-total-pages").parse::<usize>().unwrap_or(0);
    if pages != shown.len().max(1) || paged.json().as_array().map(Vec::len) != Some(shown.len().min(1)) {
        findings.add(endpoint, format!("{pages} pages of one row for {} rows", shown.len()));
    }
    let whole = server.send(Ask::of(&account, "GET", &format!("{}?_pagination=false", endpoint.path))).await;
    let free = endpoint.said["paginationMayBeDisabled"] == true;
    if free != whole.header("x-total-items").is_empty() {
        findings.add(endpoint, format!("paging can be switched off: {}", !free));
    }
}

/// Where a list is not in the order that the model names.
fn unsorted(order: &Json, table: &Table, rows: &Rows, shown: &[Json]) -> Option<usize> {
    let keys: Vec<(&str, bool)> =
        order.as_object()?.iter().map(|(name, way)| (name.as_str(), way == "DESC")).collect();
    let value = |row: &Json, name: &str| -> Json {
        let id = row["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        let stored = id.and_then(|id| rows.row(table, id));
        let (field, part) = name.split_once('.').map_or((name, None), |(field, part)| (field, Some(part)));
        let stored = stored.map_or(row[field].clone(), |stored| stored.named(field).stored());
        part.map_or(stored.clone(), |part| stored[part].clone())
    };
    let rank = |row: &Json, name: &str| -> (u8, f64, String) {
        match value(row, name) {
            Json::Null => (0, 0.0, String::new()),
            Json::String(text) => (1, 0.0, collated(&text)),
            other => (1, other.as_f64().unwrap_or(f64::from(u8::from(other == true))), String::new()),
        }
    };
    let before = |one: &Json, other: &Json| {
        for (name, down) in &keys {
            let order = rank(one, name).partial_cmp(&rank(other, name)).expect("numbers are numbers");
            let order = if *down { order.reverse() } else { order };
            if order.is_ne() {
                return order.is_lt();
            }
        }
        true
    };
    (1..shown.len()).find(|place| !before(&shown[place - 1], &shown[*place]))
}

/// A text whose octets sort as people sort it: marks before digits before letters, whatever their case and accents.
fn collated(text: &str) -> String {
    let accents =
        [("áàâäãåÁÀÂÄÃÅ", 'a'), ("éèêëÉÈÊË", 'e'), ("íìîïÍÌÎÏ", 'i'), ("óòôöõÓÒÔÖÕ", 'o'), ("úùûüÚÙÛÜ", 'u')];
    let others = [("çÇ", 'c'), ("ñÑ", 'n')];
    let bare = |letter: char| {
        let known = accents.iter().chain(&others).find(|(letters, _)| letters.contains(letter));
        known.map_or_else(|| letter.to_ascii_lowercase(), |(_, bare)| *bare)
    };
    let mut collated = String::new();
    for letter in text.chars().map(bare) {
        if letter.is_alphanumeric() {
            collated.push('\u{7f}');
        }
        collated.push(letter);
    }
    collated
}

async fn get(server: &Server, rows: &Rows, findings: &mut Findings, endpoint: &Endpoint, said: &Json) {
    let table = endpoint.entity.expect("an entity");
    let account = best(endpoint, table, rows);
    let known = seen(&account, table, rows);
    if known.is_empty() {
        findings.add(endpoint, "the sample has no row for it");
    }
    for row in known.iter().take(12) {
        let path = endpoint.path.replace("{id}", &row.id().to_string());
        let answer = server.send(Ask::of(&account, "GET", &path)).await;
        if findings.expect(endpoint, &answer, 200, JSON) {
            findings.fields(endpoint, said, &answer.json());
        }
    }
    for wrong in ["987654321", "0x1", "-1", "99999999999999999999"] {
        let answer = server.send(Ask::of(&account, "GET", &endpoint.path.replace("{id}", wrong))).await;
        findings.expect(endpoint, &answer, 404, PROBLEM);
    }
}

async fn change(server: &Server, rows: &Rows, findings: &mut Findings, endpoint: &Endpoint, said: &Json) {
    let table = endpoint.entity.expect("an entity");
    let account = best(endpoint, table, rows);
    // Nobody has seen it done, or only refused: rows that bind two others are made anew instead.
    let tested = endpoint.said["testedStatus"].as_array();
    let forbidden = tested.is_none_or(|tested| tested.iter().all(|status| status == 403));
    let (mut refusals, mut not_alone, mut done, mut alone) = (Vec::new(), Vec::new(), false, false);
    for row in seen(&account, table, rows).iter().take(10) {
        let path = endpoint.path.replace("{id}", &row.id().to_string());
        let shown = server.send(Ask::of(&account, "GET", &path)).await.json();
        let own = if shown.is_object() { shown } else { json!({}) };
        let answer = server.send(Ask::of(&account, "PUT", &path).json(&own)).await;
        if answer.status != 200 {
            if answer.status != 403 {
                let what =
                    format!("row {} sent back as it was: {} {}", row.id(), answer.status, answer.text());
                findings.add(endpoint, what);
            }
            refusals.push(format!("{} for {}: {}", answer.status, row.id(), answer.text()));
            server.reset(rows).await;
            continue;
        }
        done = true;
        findings.expect(endpoint, &answer, 200, JSON);
        findings.fields(endpoint, said, &answer.json());
        let after = server.send(Ask::of(&account, "GET", &path)).await.json();
        for (name, value) in own.as_object().into_iter().flatten() {
            if after[name] != *value {
                let what = format!(
                    "{name} sent back as it was becomes {} (was {value}) in row {}",
                    after[name],
                    row.id()
                );
                findings.add(endpoint, what);
            }
        }
        if !alone {
            match one_field(server, findings, endpoint, said, &account, &path).await {
                Ok(()) => alone = true,
                Err(why) => not_alone.push(format!("{}: {why}", row.id())),
            }
        }
        server.reset(rows).await;
    }
    if !alone && !not_alone.is_empty() {
        findings.add(endpoint, format!("no field can be changed alone: {not_alone:?}"));
    }
    let all_forbidden = refusals.iter().all(|refusal| refusal.starts_with("403"));
    if !done && (!forbidden || !all_forbidden) {
        findings.add(endpoint, format!("no row can be changed: {refusals:?}"));
    }
    let answer = server
        .send(Ask::of(&account, "PUT", &endpoint.path.replace("{id}", "987654321")).json(&json!({})))
        .await;
    findings.expect(endpoint, &answer, 404, PROBLEM);
}

/// Changes the first plain text that may be changed, and nothing else.
async fn one_field(
    server: &Server,
    findings: &mut Findings,
    endpoint: &Endpoint,
    said: &Json,
    account: &Account,
    path: &str,
) -> Result<(), String> {
    let table = endpoint.entity.expect("an entity");
    let before = server.send(Ask::of(account, "GET", path)).await.json();
    let mut tried = String::new();
    for name in names(said, "body") {
        let Some(field) = table.field(&name) else { continue };
        let value = match field.kind {
            Kind::Text if name == "name" || name == "description" => json!("Changed"),
            Kind::Bool => json!(before[&name] != true),
            Kind::Int(..) | Kind::Decimal => {
                let next = before[&name].as_i64().unwrap_or(0) + 1;
                json!(if field.high.is_some_and(|high| next > high) { next - 2 } else { next })
            }
            _ => continue,
        };
        let rows = server.live.rows();
        let answer = server.send(Ask::of(account, "PUT", path).json(&json!({ &name: value }))).await;
        let shown = answer.json();
        let refused = answer.status == 400 || answer.status == 403;
        let changed = answer.status == 200 && shown.get(&name).is_none_or(|shown| *shown == value);
        if answer.status != 200 && !refused {
            findings.add(endpoint, format!("{name} alone: {} {}", answer.status, answer.text()));
        }
        if refused && !server.unchanged(&rows) {
            findings.add(endpoint, format!("{name}: refused, and something has changed"));
        }
        if changed {
            return Ok(());
        }
        tried = format!("{tried} {name} ({} {})", answer.status, shown["detail"]);
    }
    if tried.is_empty() { Ok(()) } else { Err(tried) }
}

async fn create(server: &Server, rows: &Rows, findings: &mut Findings, endpoint: &Endpoint, said: &Json) {
    let table = endpoint.entity.expect("an entity");
    let account = best(endpoint, table, rows);
    let like = bodies::pattern(&account, table, rows);
    let body = new_row(&account, table, rows, like.as_deref());
    let answer = server.send(Ask::of(&account, "POST", &endpoint.path).json(&body)).await;
    if answer.status == 201 {
        findings.expect(endpoint, &answer, 201, JSON);
        findings.fields(endpoint, said, &answer.json());
        let id = answer.json()["id"].to_string();
        let own = endpoints().iter().find(|other| {
            other.level == endpoint.level
                && other.plain() == Some(Plain::Delete)
                && other.entity.map(|t| t.index) == Some(table.index)
        });
        if own.is_some() {
            let answer = server.send(Ask::of(&account, "DELETE", &format!("{}/{id}", endpoint.path))).await;
            if answer.status != 204 {
                findings.add(endpoint, format!("a new row cannot be deleted: {}", answer.text()));
            }
        }
    } else {
        findings.add(endpoint, format!("{} {} for {body}", answer.status, answer.text()));
    }
    server.reset(rows).await;
    let answer = server.send(Ask::of(&account, "POST", &endpoint.path).json(&json!([]))).await;
    findings.expect(endpoint, &answer, 400, PROBLEM);
}

async fn delete(server: &Server, rows: &Rows, findings: &mut Findings, endpoint: &Endpoint) {
    let table = endpoint.entity.expect("an entity");
    let account = best(endpoint, table, rows);
    let (mut refusals, mut done) = (Vec::new(), false);
    for row in seen(&account, table, rows).iter().rev().take(20) {
        let path = endpoint.path.replace("{id}", &row.id().to_string());
        let answer = server.send(Ask::of(&account, "DELETE", &path)).await;
        if answer.status == 204 {
            done = true;
            if !answer.body.is_empty() {
                findings.add(endpoint, "the answer has a body");
            }
            let again = server.send(Ask::of(&account, "DELETE", &path)).await;
            findings.expect(endpoint, &again, 404, PROBLEM);
            server.reset(rows).await;
            break;
        }
        if !server.unchanged(rows) {
            findings.add(endpoint, "refused, and something has changed");
        }
        refusals.push(format!("{} for {}: {}", answer.status, row.id(), answer.text()));
    }
    let tested = endpoint.said["testedStatus"].as_array().cloned().unwrap_or_default();
    if !done && (tested.is_empty() || tested.contains(&json!(204))) {
        findings.add(endpoint, format!("no row can be deleted: {refusals:?}"));
    }
}

#[test]
fn every_entity_is_served_as_the_models_say() {
    let rows = sample();
    let mut findings = Findings::default();
    run(async {
        let server = Server::new();
        for (endpoint, plain, _, said) in plain_endpoints() {
            let findings = &mut findings;
            match plain {
                Plain::List => list(&server, &rows, findings, endpoint, said).await,
                Plain::Get => get(&server, &rows, findings, endpoint, said).await,
                Plain::Change => change(&server, &rows, findings, endpoint, said).await,
                Plain::Create => create(&server, &rows, findings, endpoint, said).await,
                Plain::Delete => delete(&server, &rows, findings, endpoint).await,
            }
        }
    });
    as_listed("the walk", &listed(include_str!("differing.txt")), &findings.0);
}

#[test]
fn a_new_row_without_anything_is_refused_by_the_names_of_all_that_is_required() {
    let rows = sample();
    let mut wrong = Vec::new();
    run(async {
        let server = Server::new();
        for (endpoint, _, table, said) in plain_endpoints().filter(|(_, plain, ..)| *plain == Plain::Create) {
            let mut required = names(said, "required");
            // The caller's own are filled in.
            required.retain(|name| match endpoint.level {
                Level::Platform => true,
                Level::Brand => name != "brand",
                Level::Client | Level::User => name != "brand" && name != "company",
            });
            let account = best(endpoint, table, &rows);
            let answer = server.send(Ask::of(&account, "POST", &endpoint.path).json(&json!({}))).await;
            let named = answer.json()["violations"].as_array().cloned().unwrap_or_default();
            let named: BTreeSet<String> =
                named.iter().filter_map(|one| one["propertyPath"].as_str()).map(str::to_owned).collect();
            if !required.is_empty() && (answer.status != 400 || !named.is_superset(&required)) {
                let missing: Vec<&String> = required.difference(&named).collect();
                wrong.push(format!("{}: {} does not name {missing:?}", endpoint.name(), answer.status));
            }
            server.reset(&rows).await;
        }
    });
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn lists_and_rows_come_as_json_ld_and_lists_of_calls_as_csv() {
    let rows = sample();
    let mut wrong = Vec::new();
    run(async {
        let server = Server::new();
        for (endpoint, plain, table, said) in plain_endpoints() {
            let account = best(endpoint, table, &rows);
            let context = format!("/api/{}/contexts/{}", endpoint.level.name(), table.name);
            let first = seen(&account, table, &rows).first().map(|row| row.id());
            let path = match (plain, first) {
                (Plain::List, _) => endpoint.path.clone(),
                (Plain::Get, Some(id)) => endpoint.path.replace("{id}", &id.to_string()),
                _ => continue,
            };
            let answer = server.send(Ask::of(&account, "GET", &path).accept("application/ld+json")).await;
            let shown = answer.json();
            let row = if plain == Plain::List { &shown["hydra:member"][0] } else { &shown };
            let type_is = |kind: &str| shown["@type"] == kind;
            let right = answer.header("content-type") == "application/ld+json; charset=utf-8"
                && shown["@context"] == context.as_str()
                && (if plain == Plain::List { type_is("hydra:Collection") } else { type_is(table.name) })
                && (row.is_null() || row["@type"] == table.name)
                && (plain == Plain::Get || shown["hydra:totalItems"].is_u64());
            if answer.status != 200 || !right {
                wrong.push(format!("{} as JSON-LD: {} {}", endpoint.name(), answer.status, answer.text()));
            }
            if plain == Plain::Get {
                continue;
            }
            let answer = server.send(Ask::of(&account, "GET", &path).accept("text/csv")).await;
            let produces =
                endpoint.said["produces"].as_array().is_some_and(|kinds| kinds.contains(&json!("text/csv")));
            let kind = answer.header("content-type");
            let is_csv = kind == "text/csv; charset=utf-8";
            if is_csv != produces || answer.status != if produces { 200 } else { 406 } {
                wrong.push(format!(
                    "{} as CSV: {} {kind}, expected: {produces}",
                    endpoint.name(),
                    answer.status
                ));
            }
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let head: BTreeSet<String> =
                text.lines().next().unwrap_or_default().split(',').map(str::to_owned).collect();
            let computed = |name: &String| table.computed(name).is_some();
            let expected: BTreeSet<String> =
                names(said, "response").into_iter().filter(|name| !computed(name)).collect();
            if is_csv && head != expected {
                wrong.push(format!("{} as CSV has {head:?}", endpoint.name()));
            }
        }
    });
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn files_are_uploaded_beside_the_document() {
    let rows = sample();
    let mut wrong = Vec::new();
    run(async {
        let server = Server::new();
        for (endpoint, plain, table, _) in plain_endpoints() {
            let Some(parts) = endpoint.said["multipartFileParts"].as_array() else { continue };
            let account = best(endpoint, table, &rows);
            let like = bodies::pattern(&account, table, &rows);
            let (path, document) = match (plain, &like) {
                (Plain::Change, Some(row)) => {
                    (endpoint.path.replace("{id}", &row.id().to_string()), json!({}))
                }
                _ => (endpoint.path.clone(), new_row(&account, table, &rows, like.as_deref())),
            };
            let mut body =
                format!("--x\r\nContent-Disposition: form-data; name=\"any\"\r\n\r\n{document}\r\n");
            for part in parts.iter().filter_map(Json::as_str) {
                let head = format!("name=\"{part}\"; filename=\"../{part}.txt\"");
                body.push_str(&format!("--x\r\nContent-Disposition: form-data; {head}\r\n\r\n{part}!\r\n"));
            }
            body.push_str("--x--\r\n");
            let ask = Ask::of(&account, &endpoint.method, &path);
            let answer = server.send(ask.body("multipart/form-data; boundary=x", body)).await;
            let shown = answer.json();
            for part in parts.iter().filter_map(Json::as_str) {
                let field = table.fields.iter().find(|field| field.name.eq_ignore_ascii_case(part));
                let name = field.map_or(part, |field| field.name);
                let file = &shown[name];
                let right = file["fileSize"] == part.len() + 1 && file["baseName"] == format!("{part}.txt");
                let load =
                    format!("{}/{}/{}", endpoint.path.replace("/{id}", ""), shown["id"], name.to_lowercase());
                let loaded = server.send(Ask::of(&account, "GET", &load)).await;
                let known = endpoints().iter().any(|other| {
                    other.level == endpoint.level
                        && other.entity.is_some_and(|t| t.index == table.index)
                        && other.download() == Some(name)
                });
                if !right || (known && loaded.body != format!("{part}!").into_bytes()) {
                    wrong.push(format!("{} {part}: {} {}", endpoint.name(), answer.status, answer.text()));
                }
            }
            server.reset(&rows).await;
        }
    });
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn what_may_be_written_is_what_the_models_say() {
    let mut found = BTreeSet::new();
    for (endpoint, plain, table, said) in plain_endpoints() {
        let written = |view: View| match plain {
            Plain::Create => view.create,
            Plain::Change => view.change,
            _ => false,
        };
        let bodies = matches!(plain, Plain::Create | Plain::Change) && !said["body"].is_null();
        if !bodies {
            continue;
        }
        let level = endpoint.level;
        let fields = table.fields.iter().map(|field| (field.name, field.view(level)));
        let computed = table.computed.iter().map(|computed| (computed.name, computed.view(level)));
        let served: BTreeSet<String> = fields
            .chain(computed)
            .filter(|(_, view)| written(*view))
            .map(|(name, _)| name.to_owned())
            .collect();
        let mut expected = names(said, "body");
        for (_, more) in said["bodyWhen"].as_object().into_iter().flatten() {
            expected
                .extend(more.as_array().into_iter().flatten().filter_map(Json::as_str).map(str::to_owned));
        }
        let less = expected.difference(&served).map(|name| format!("{name} is not written"));
        let more = served.difference(&expected).map(|name| format!("{name} is written"));
        found.extend(less.chain(more).map(|what| format!("{}: {what}", endpoint.name())));
    }
    as_listed("what may be written", &listed(include_str!("writable.txt")), &found);
}

/// A path with something in place of what stands in braces.
fn filled(path: &str, id: &str) -> String {
    let path = path.replace("{id}", id).replace("{callid}", "unknown").replace("{name}", "logo.png");
    path.replace("{shortName}", "Carrier").replace("{_format}", "json").replace("{index}", "index")
}

/// What is asked of an operation of its own, so that it can be answered: its path, and a body.
fn own_ask(endpoint: &Endpoint, rows: &Rows) -> (Account, Ask) {
    let accounts = accounts_for(endpoint);
    let first = *accounts.first().expect("somebody may");
    let account = endpoint.entity.map_or(first, |table| best(endpoint, table, rows));
    let id = endpoint.entity.and_then(|table| seen(&account, table, rows).first().map(|row| row.id()));
    let path = filled(&endpoint.path, &id.unwrap_or(1).to_string());
    let kind = endpoint.said["bodyContentTypes"][0].as_str().unwrap_or("application/json");
    let ask = Ask::of(&account, &endpoint.method, &path);
    let body = match kind {
        "application/json" | "application/ld+json" => "[]",
        "application/x-www-form-urlencoded" => "amount=1&operation=increment",
        _ => "--x--",
    };
    let kind = if kind == "multipart/form-data" { "multipart/form-data; boundary=x" } else { kind };
    (account, if endpoint.method == "GET" { ask } else { ask.body(kind, body) })
}

/// Operations of their own, save files of rows.
fn own_operations() -> impl Iterator<Item = &'static Endpoint> {
    endpoints().iter().filter(|endpoint| {
        let own = endpoint.plain().is_none() && endpoint.download().is_none();
        own && !endpoint.dead() && !endpoint.router_only()
    })
}

/// The rows with a logo for each portal.
fn with_logos(rows: &Rows) -> Rows {
    let mut changed = rows.clone();
    for portal in rows.each::<WebPortal>() {
        let (size, kind, name) = (Some(4), Some("image/png".to_owned()), Some("logo.png".to_owned()));
        let logo = File { size, mime_type: kind, base_name: name };
        changed.insert(std::sync::Arc::new(WebPortal { logo, ..portal.clone() }));
    }
    changed
}

#[test]
fn what_is_not_answered_yet_is_listed_and_the_list_only_shrinks() {
    let rows = sample();
    let mut unanswered = BTreeSet::new();
    run(async {
        let server = Server::over(with_logos(&rows));
        let logos = server.storage.path().join("WebPortal/logo/0");
        std::fs::create_dir_all(&logos).expect("a directory");
        (1..7).for_each(|id| std::fs::write(logos.join(id.to_string()), "logo").expect("a file"));
        for endpoint in own_operations() {
            let (account, ask) = own_ask(endpoint, &rows);
            let of_a_row = plain_endpoints().any(|(other, ..)| {
                let here = other.level == endpoint.level && other.method == endpoint.method;
                here && fits_path(&other.path, &filled(&endpoint.path, "1"))
            });
            let answered = if endpoint.needs_token() && of_a_row {
                server.send(ask).await.status != 404
            } else if endpoint.needs_token() {
                // No operation has this method: the answer tells which ones there are, whatever the rows.
                let path = filled(&endpoint.path, "1");
                let answer = server.send(Ask::of(&account, "PATCH", &path)).await;
                answer.status == 405 && answer.header("allow").split(", ").any(|name| name == endpoint.method)
            } else {
                let answer = server.send(ask.anonymous()).await;
                answer.status != 404 && !answer.text().contains("JWT Token not found")
            };
            if !answered {
                unanswered.insert(endpoint.name());
            }
        }
    });
    as_listed("what is not answered yet", &listed(include_str!("not_yet.txt")), &unanswered);
}

#[test]
fn without_a_token_nothing_is_told() {
    let rows = sample();
    let mut wrong = Vec::new();
    run(async {
        let server = Server::new();
        for endpoint in
            endpoints().iter().filter(|endpoint| endpoint.needs_token() && !endpoint.router_only())
        {
            let path = filled(&endpoint.path, "1");
            let ask = || Ask::new(&endpoint.method, endpoint.level, &path).json(&json!({}));
            for token in [None, Some(""), Some("nonsense"), Some("eyJhbGciOiJub25lIn0.eyJpZCI6MX0.")] {
                let ask = token.map_or_else(ask, |token| ask().with_token(token));
                let answer = server.send(ask).await;
                let said = answer.json();
                let plain = answer.header("content-type") == "application/json";
                if answer.status != 401 || said["code"] != 401 || !said["message"].is_string() || !plain {
                    wrong.push(format!("{}: {} {}", endpoint.name(), answer.status, answer.text()));
                }
            }
        }
        assert!(server.unchanged(&rows));
    });
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_token_of_another_level_is_refused() {
    let rows = sample();
    let mut wrong = Vec::new();
    run(async {
        let server = Server::new();
        for endpoint in
            endpoints().iter().filter(|endpoint| endpoint.needs_token() && !endpoint.router_only())
        {
            for account in ACCOUNTS.iter().filter(|account| account.level != endpoint.level) {
                let path = filled(&endpoint.path, "1");
                let ask = Ask::new(&endpoint.method, endpoint.level, &path).json(&json!({}));
                let answer = server.send(ask.with_token(token(account))).await;
                if answer.status != 403 {
                    wrong.push(format!("{} by {}: {}", endpoint.name(), account.name, answer.status));
                }
            }
        }
        assert!(server.unchanged(&rows));
    });
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn methods_that_are_not_offered_are_405() {
    let not_yet = listed(include_str!("not_yet.txt"));
    let rows = sample();
    let mut wrong = Vec::new();
    run(async {
        let server = Server::new();
        let mut seen_paths = BTreeSet::new();
        for endpoint in endpoints().iter().filter(|one| one.needs_token() && !one.dead()) {
            let at =
                |other: &&Endpoint| other.level == endpoint.level && fits_path(&other.path, &endpoint.path);
            let known: Vec<&Endpoint> = endpoints().iter().filter(at).collect();
            let new = seen_paths.insert((endpoint.level.name(), &endpoint.path));
            if !new || known.iter().any(|known| known.router_only() || not_yet.contains(&known.name())) {
                continue;
            }
            let (account, _) = own_ask(endpoint, &rows);
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
                if known.iter().any(|known| known.method == method) {
                    continue;
                }
                let path = filled(&endpoint.path, "1");
                let answer = server.send(Ask::of(&account, method, &path).json(&json!({}))).await;
                if answer.status != 405 || answer.header("allow").is_empty() {
                    wrong.push(format!(
                        "{} {method} {}: {}",
                        endpoint.level.name(),
                        endpoint.path,
                        answer.status
                    ));
                }
            }
        }
        assert!(server.unchanged(&rows));
    });
    assert_eq!(wrong, Vec::<String>::new());
}

/// Whether a request for the one path can be one for the other: "/friends/{id}" and "/friends/status".
fn fits_path(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    let same = |(one, other): (&&str, &&str)| one == other || one.starts_with('{');
    pattern.len() == path.len() && pattern.iter().zip(&path).all(same)
}

#[test]
fn files_of_rows_are_downloaded_and_missing_ones_are_404() {
    let rows = sample();
    let mut wrong = Vec::new();
    run(async {
        let server = Server::new();
        for endpoint in endpoints().iter().filter(|endpoint| !endpoint.dead()) {
            let (Some(table), Some(field)) = (endpoint.entity, endpoint.download()) else { continue };
            let account = best(endpoint, table, &rows);
            let Some(row) = seen(&account, table, &rows).into_iter().next() else {
                wrong.push(format!("{}: the sample has no row", endpoint.name()));
                continue;
            };
            let path = endpoint.path.replace("{id}", &row.id().to_string());
            let absent = server.send(Ask::of(&account, "GET", &path)).await;
            let place = table.place(field).expect("the field is there");
            let mut with_file = row.copy();
            let described = json!({ "fileSize": 5, "mimeType": "text/plain", "baseName": "five.txt" });
            let reading = Reading::stored(jiff::Timestamp::now());
            with_file.set(place, &described, &reading).expect("a file");
            let mut changed = rows.clone();
            changed.insert(std::sync::Arc::from(with_file));
            server.live.replace(changed).await;
            let lost = server.send(Ask::of(&account, "GET", &path)).await;
            let directory = server.storage.path().join(table.name).join(field).join("0");
            std::fs::create_dir_all(&directory).expect("a directory");
            std::fs::write(directory.join(row.id().to_string()), "12345").expect("a file");
            let answer = server.send(Ask::of(&account, "GET", &path)).await;
            let right = answer.status == 200
                && answer.body == b"12345"
                && answer.header("content-type") == "text/plain"
                && answer.header("content-disposition") == "attachment; filename=\"five.txt\"";
            if !right || lost.status != 404 || absent.status != 404 {
                let states = (absent.status, lost.status, answer.status);
                wrong.push(format!("{}: {states:?} {}", endpoint.name(), answer.text()));
            }
            std::fs::remove_dir_all(&directory).expect("the file goes");
            server.live.replace(rows.clone()).await;
        }
    });
    assert_eq!(wrong, Vec::<String>::new());
}
