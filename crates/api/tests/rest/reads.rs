//! Reading operations of their own, and computed values: do they show what the models say?
//!
//! Walked by the models: each read that is neither a list nor a row of an entity, by whoever gets an answer. `reads.txt` names
//! what differs and why, and may only shrink.

use crate::facts::{as_listed, differences, endpoints, listed, models, table_of};
use crate::world::{ACCOUNTS, Answer, Ask, Server, run, sample};
use model::rows::Rows;
use serde_json::{Map, Value as Json};
use std::collections::BTreeSet;

/// What the models say of reads at a level, by path: the entity, and the operation; a shape where it is of no entity.
fn told(level: &str) -> Vec<(String, Option<&'static str>, &'static Json)> {
    let level = &models()["levels"][level];
    let mut all = Vec::new();
    for (entity, of) in level["entities"].as_object().into_iter().flatten() {
        for (name, operation) in of["operations"].as_object().into_iter().flatten() {
            let plain = matches!(name.as_str(), "item:get" | "collection:get");
            if let Some(path) = operation["path"].as_str().filter(|_| !plain && operation["method"] == "GET")
            {
                all.push((path.to_owned(), Some(entity.as_str()), operation));
            }
        }
    }
    for (name, shape) in level["custom"].as_object().into_iter().flatten() {
        if let Some(path) = name.strip_prefix("GET ") {
            all.push((path.to_owned(), None, shape));
        }
    }
    all
}

/// Where a value has another shape: an object by its keys, a list by what is in it, the rest by its type.
fn misshapen(at: &str, shape: &Json, value: &Json, found: &mut BTreeSet<String>) {
    let mut wrong = |what: String| {
        found.insert(format!("{at}: {what}"));
    };
    match shape {
        Json::Object(fields) => {
            let Some(object) = value.as_object() else { return wrong(format!("{value} is no object")) };
            for name in fields.keys().filter(|name| !object.contains_key(*name)) {
                wrong(format!("{name} is missing"));
            }
            for name in object.keys().filter(|name| !fields.contains_key(*name)) {
                wrong(format!("{name} is too much"));
            }
            for (name, shape) in fields {
                if let Some(value) = object.get(name) {
                    misshapen(&format!("{at}.{name}"), shape, value, found);
                }
            }
        }
        Json::Array(items) => {
            let Some(list) = value.as_array() else { return wrong(format!("{value} is no list")) };
            let Some(shape) = items.first() else { return };
            list.iter().for_each(|value| misshapen(&format!("{at}[]"), shape, value, found));
        }
        Json::String(kinds) => {
            let is = |kind: &str| match kind {
                "int" => value.is_i64() || value.is_u64(),
                "str" => value.is_string(),
                "bool" => value.is_boolean(),
                "null" => value.is_null(),
                _ => false,
            };
            if !kinds.split('|').any(is) {
                wrong(format!("{value} is not {kinds}"));
            }
        }
        _ => wrong("the model has a form that this test does not know".to_owned()),
    }
}

/// The first good answer that anybody of the level gets, whichever row it is about.
async fn good(
    server: &Server,
    rows: &Rows,
    level: &str,
    path: &str,
    entity: Option<&str>,
) -> Result<Answer, String> {
    let table = entity.and_then(table_of);
    let ids: Vec<String> = match table {
        Some(table) if path.contains("{id}") => rows.all(table).map(|row| row.id().to_string()).collect(),
        _ => vec![String::new()],
    };
    let mut empty = None;
    let mut last = "no row to ask for".to_owned();
    for account in ACCOUNTS.iter().filter(|account| account.level.name() == level) {
        for id in &ids {
            let answer = server.send(Ask::of(account, "GET", &path.replace("{id}", id))).await;
            match answer.json() {
                Json::Array(rows) if answer.status == 200 && rows.is_empty() => empty = Some(answer),
                _ if answer.status == 200 => return Ok(answer),
                _ => {
                    last =
                        format!("{} {}", answer.status, answer.text().chars().take(200).collect::<String>())
                }
            }
        }
    }
    empty.ok_or(last)
}

#[test]
fn reads_of_their_own_show_what_the_models_say() {
    let mut found = BTreeSet::new();
    let mut walked = 0;
    run(async {
        let rows = sample();
        let server = Server::over(rows.clone());
        for level in ["platform", "brand", "client", "user"] {
            for (path, entity, said) in told(level) {
                let dead =
                    endpoints().iter().any(|one| one.level.name() == level && one.path == path && one.dead());
                // Files are read elsewhere (`walk`).
                let file = ["/preview", "_zip", "_template"].iter().any(|end| path.ends_with(end));
                if dead || file {
                    continue;
                }
                walked += 1;
                let at = format!("{level} GET {path}");
                let answer = match good(&server, &rows, level, &path, entity).await {
                    Ok(answer) => answer,
                    Err(why) => {
                        found.insert(format!("{at}: {why}"));
                        continue;
                    }
                };
                let shown = answer.json();
                if entity.is_none() {
                    misshapen(&at, said, &shown, &mut found);
                    continue;
                }
                let one = if said["list"] == true { shown[0].clone() } else { shown };
                if one.is_null() {
                    continue;
                }
                let own = ACCOUNTS.iter().find(|one| one.level.name() == level).expect("an account");
                found.extend(
                    differences(own.level, said, &one).into_iter().map(|what| format!("{at}: {what}")),
                );
                for (name, shape) in said["shapes"].as_object().unwrap_or(&Map::new()) {
                    if let Some(value) = one.get(name).filter(|value| !value.is_null()) {
                        misshapen(&format!("{at}.{name}"), shape, value, &mut found);
                    }
                }
            }
        }
    });
    assert!(walked > 40, "{walked}");
    as_listed("the reads", &listed(include_str!("reads.txt")), &found);
}
