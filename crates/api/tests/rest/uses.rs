//! What programs of the dialect do with it day by day: imports of lists, times of the caller's zone, filters, chosen fields; and
//! what becomes of old keys and old hashes.
//!
//! Elsewhere: every endpoint by itself (`walk`), people and their rights (`people`).

use crate::world::{ACCOUNTS, Account, Answer, Ask, Server, run, sample};
use jiff::{Timestamp, ToSpan as _};
use model::define::{Entity, Password};
use model::entities::{Administrator, Ddi, Extension, HolidayDate, SigningKey, Terminal, User};
use model::rows::Rows;
use serde_json::{Value as Json, json};
use std::sync::Arc;

const FORM: &str = "application/x-www-form-urlencoded";
const BRAND: &Account = &ACCOUNTS[1];
const CLIENT: &Account = &ACCOUNTS[2];

/// An import: parts of text, and the list.
async fn import(
    server: &Server,
    account: &Account,
    path: &str,
    parts: &[(&str, &str)],
    list: &str,
) -> Answer {
    let mut body = String::new();
    for (name, text) in parts {
        body += &format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n");
    }
    body += &format!(
        "--x\r\nContent-Disposition: form-data; name=\"csv\"; filename=\"list.csv\"\r\nContent-Type: text/csv\r\n\r\n{list}\r\n--x--\r\n"
    );
    server.send(Ask::of(account, "POST", path).body("multipart/form-data; boundary=x", body)).await
}

fn outcome(answer: &Answer) -> (u16, Json, Json) {
    let body = answer.json();
    (answer.status, body["success"].clone(), body["failed"].clone())
}

#[test]
fn a_list_of_users_becomes_users_with_terminals_extensions_and_numbers() {
    run(async {
        let server = Server::new();
        let line = |n: u32, rest: &str| {
            format!(
                "Jo{n},Doe,jo{n}@example.com,phone{n},Z7+KJn8m3k,YealinkT21P_E2,a0000000005{n},200{n}{rest}\n"
            )
        };
        let provider = ",ES,94600205";
        let list = format!(
            "{}{}",
            line(2, &format!("{provider}2,DDIProviderName")),
            line(3, &format!("{provider}3,DDIProviderName"))
        );
        let answer = import(&server, BRAND, "/users/mass_import", &[("company", "1")], &list).await;
        assert_eq!(outcome(&answer), (201, json!(true), json!(0)), "{}", answer.text());
        let rows = server.live.rows();
        for n in [2, 3] {
            let user = rows
                .each::<User>()
                .find(|user| user.email.as_deref() == Some(&*format!("jo{n}@example.com")));
            let user = user.expect("the user is there");
            let terminal: &Terminal = rows.at(user.terminal).expect("a terminal");
            let extension: &Extension = rows.at(user.extension).expect("an extension");
            let ddi: &Ddi = rows.at(user.outgoing_ddi).expect("a number to call from");
            assert_eq!((&*terminal.name, &*extension.number), (&*format!("phone{n}"), &*format!("200{n}")));
            assert_eq!(ddi.ddie164.as_deref(), Some(&*format!("+3494600205{n}")));
            assert_eq!(terminal.password.reveal(), "Z7+KJn8m3k");
        }
        // Who is there already gets what the line has; a line that cannot be leaves the others.
        let before = server.live.rows().count(User::definition());
        let weak = line(5, ",,,").replace("Z7+KJn8m3k", "weak");
        let list = format!("{}{weak}{}", line(4, ",,,"), line(2, ",,,").replace("Doe", "Dow"));
        let answer = import(&server, BRAND, "/users/mass_import", &[("company", "1")], &list).await;
        assert_eq!(outcome(&answer), (201, json!(false), json!(1)), "{}", answer.text());
        assert!(answer.json()["errorMsg"].as_str().is_some_and(|said| said.starts_with("2 => ")));
        let rows = server.live.rows();
        assert_eq!(rows.count(User::definition()), before + 1);
        assert!(
            rows.each::<User>()
                .any(|user| user.lastname == "Dow" && user.email.as_deref() == Some("jo2@example.com"))
        );
        // A file that cannot be leaves nothing.
        let before = server.live.rows();
        let answer = import(&server, BRAND, "/users/mass_import", &[("company", "1")], "a,b\nc,d\n").await;
        assert_eq!(outcome(&answer), (201, json!(false), json!(2)), "{}", answer.text());
        assert!(server.unchanged(&before));
    });
}

#[test]
fn lists_of_extensions_and_holidays_are_imported() {
    run(async {
        let server = Server::new();
        let list = "Extension,CountryPrefix,Number,CountryCode\n300,+34,944048184,ES\n301,+1,944048187\n302,+1,944048188,US\n";
        let answer = import(&server, CLIENT, "/extensions/mass_import", &[], list).await;
        assert_eq!(outcome(&answer), (201, json!(true), json!(0)), "{}", answer.text());
        let rows = server.live.rows();
        let country = |number: &str| {
            let extension = rows.each::<Extension>().find(|extension| extension.number == number);
            extension
                .and_then(|extension| rows.at(extension.number_country))
                .map(|country| country.code.clone())
        };
        assert_eq!(["300", "301", "302"].map(country), ["ES", "CA", "US"].map(|code| Some(code.to_owned())));

        let arguments = r#"{"escape":"\\","columns":["name","eventDate"],"delimiter":";","enclosure":"'","ignoreFirst":true}"#;
        let parts = [("calendar", "1"), ("importerArguments", arguments)];
        let list = "'name';'date'\n'Christmas';'2031-12-24'\n'broken';'24.12.'\n";
        let answer = import(&server, CLIENT, "/holiday_dates/mass_import", &parts, list).await;
        let body = answer.json();
        let said: Json = serde_json::from_str(body["errorMsg"].as_str().unwrap_or_default()).expect("a list");
        assert_eq!((body["success"].clone(), said[0]["line"].clone()), (json!(false), json!(3)), "{body}");
        let rows = server.live.rows();
        let is_there = |name: &str| rows.each::<HolidayDate>().any(|day| day.name == name);
        assert!(is_there("Christmas") && !is_there("broken") && !is_there("name"));
    });
}

#[test]
fn moments_are_shown_and_compared_in_the_zone_that_the_caller_has_or_names() {
    run(async {
        let server = Server::new();
        let shown = async |query: &str| {
            let answer = server.send(Ask::of(BRAND, "GET", &format!("/billable_calls/1{query}"))).await;
            answer.json()["startTime"].as_str().expect("a moment").to_owned()
        };
        let moment = |text: &str, zone: &str| {
            let local: jiff::civil::DateTime = text.parse().expect("a civil time");
            local.in_tz(zone).expect("a zone").timestamp()
        };
        let (utc, tokyo) = (shown("?_timezone=UTC").await, shown("?_timezone=Asia/Tokyo").await);
        assert_eq!(moment(&utc, "UTC"), moment(&tokyo, "Asia/Tokyo"));
        assert_ne!(utc, tokyo);
        assert_eq!(moment(&shown("").await, "Europe/Madrid"), moment(&utc, "UTC"), "the brand is in Madrid");
        let ids = async |from: &str, zone: &str| -> Vec<Json> {
            let from = from.replace(' ', "%20");
            let path = format!("/billable_calls?_itemsPerPage=5000&startTime[after]={from}&_timezone={zone}");
            let list = server.send(Ask::of(BRAND, "GET", &path)).await.json();
            list.as_array().into_iter().flatten().map(|call| call["id"].clone()).collect()
        };
        let here = ids(&utc, "UTC").await;
        assert!(here.contains(&json!(1)));
        assert_eq!(here, ids(&tokyo, "Asia/Tokyo").await, "the same moment");
        assert!(!ids(&tokyo, "UTC").await.contains(&json!(1)), "nine hours later");
    });
}

#[test]
fn filters_find_what_fits_and_fields_are_chosen() {
    type Fits = fn(&Json) -> bool;
    let name = |row: &Json| row["name"].as_str().unwrap_or_default().to_lowercase();
    let cases: [(&str, Fits); 9] = [
        ("name=alice", |row| row["name"].as_str().unwrap_or_default().eq_ignore_ascii_case("alice")),
        ("name[partial]=LI", |row| row["name"].as_str().unwrap_or_default().to_lowercase().contains("li")),
        ("name[start]=al", |row| row["name"].as_str().unwrap_or_default().to_lowercase().starts_with("al")),
        ("name[end]=e", |row| row["name"].as_str().unwrap_or_default().to_lowercase().ends_with('e')),
        ("name[neq]=Alice", |row| !row["name"].as_str().unwrap_or_default().eq_ignore_ascii_case("alice")),
        ("id[gt]=1", |row| row["id"].as_u64() > Some(1)),
        ("id[]=1&id[]=2", |row| matches!(row["id"].as_u64(), Some(1 | 2))),
        ("terminal[exists]=true", |row| !row["terminal"].is_null()),
        ("terminal[exists]=false", |row| row["terminal"].is_null()),
    ];
    run(async {
        let server = Server::new();
        let list = async |query: &str| -> Vec<Json> {
            let answer =
                server.send(Ask::of(CLIENT, "GET", &format!("/users?_itemsPerPage=5000&{query}"))).await;
            assert_eq!(answer.status, 200, "{query} {}", answer.text());
            answer.json().as_array().cloned().expect("a list")
        };
        let all = list("").await;
        assert!(all.len() > 1 && all.iter().map(name).any(|name| name == "alice"));
        for (query, fits) in cases {
            let expected: Vec<Json> = all.iter().filter(|row| fits(row)).cloned().collect();
            assert_eq!(list(query).await, expected, "{query}");
        }
        let some = list("_properties[]=id&_properties[]=name").await;
        let names: Vec<Vec<&String>> =
            some.iter().map(|row| row.as_object().expect("a row").keys().collect()).collect();
        assert!(names.iter().all(|names| names.len() == 2), "{names:?}");
    });
}

#[test]
fn rows_that_are_named_besides_are_deleted_along_and_unknown_ones_do_not_matter() {
    run(async {
        let server = Server::new();
        let list = async || -> Vec<Json> {
            let answer =
                server.send(Ask::of(CLIENT, "GET", "/match_lists?_itemsPerPage=5000&_order[id]=asc")).await;
            answer.json().as_array().into_iter().flatten().map(|row| row["id"].clone()).collect()
        };
        let before = list().await;
        for name in ["one", "two", "three"] {
            let answer =
                server.send(Ask::of(CLIENT, "POST", "/match_lists").json(&json!({ "name": name }))).await;
            assert_eq!(answer.status, 201, "{}", answer.text());
        }
        let made: Vec<Json> = list().await.into_iter().filter(|id| !before.contains(id)).collect();
        let path = format!("/match_lists/{}?_rmAlso[]={}&_rmAlso[]=4000000", made[0], made[1]);
        assert_eq!(server.send(Ask::of(CLIENT, "DELETE", &path)).await.status, 204);
        assert_eq!(list().await, [before, made[2..].to_vec()].concat());
    });
}

fn changed(change: impl FnOnce(&mut Rows)) -> Server {
    let mut rows = sample();
    change(&mut rows);
    Server::over(rows)
}

async fn log_in(server: &Server) -> Answer {
    let form = "username=test_brand_admin&password=changeme";
    server.send(Ask::new("POST", BRAND.level, "/admin_login").body(FORM, form)).await
}

#[test]
fn a_hash_of_an_imported_system_lets_in_and_becomes_one_of_ours() {
    // "changeme", as the other system keeps it.
    let old = bcrypt::hash("changeme", 4).expect("a hash");
    let server = changed(|rows| {
        let mut admin =
            rows.each::<Administrator>().find(|row| row.username == BRAND.name).expect("it is there").clone();
        admin.pass = Password::from_hash(old.clone());
        rows.insert(Arc::new(admin));
    });
    run(async {
        let hash = || {
            let rows = server.live.rows();
            let admin =
                rows.each::<Administrator>().find(|row| row.username == BRAND.name).expect("it is there");
            admin.pass.hash().to_owned()
        };
        assert_eq!(hash(), old);
        assert_eq!(log_in(&server).await.status, 200);
        assert_ne!(hash(), old);
        assert_eq!(log_in(&server).await.status, 200, "by the new one");
    });
}

/// Another node, so many hours after the keys of this one were made.
fn aged(server: &Server, hours: i64) -> Server {
    let mut rows = (*server.live.rows()).clone();
    let keys: Vec<SigningKey> = rows.each::<SigningKey>().cloned().collect();
    for mut key in keys {
        key.made = Timestamp::now().checked_sub(hours.hours()).expect("a moment");
        rows.insert(Arc::new(key));
    }
    Server::over(rows)
}

#[test]
fn a_key_signs_for_a_day_and_what_it_signed_is_good_for_an_hour_more() {
    run(async {
        let server = Server::new();
        let token = log_in(&server).await.json()["token"].as_str().expect("a token").to_owned();
        let kids = |server: &Server| -> Vec<String> {
            server.live.rows().each::<SigningKey>().map(|key| key.kid.clone()).collect()
        };
        let first = kids(&server);
        assert_eq!(first.len(), 1);
        assert_eq!(log_in(&server).await.status, 200);
        assert_eq!(kids(&server), first, "one key for a day");
        let later = aged(&server, 25);
        assert_eq!(log_in(&later).await.status, 200);
        let both = kids(&later);
        assert!(both.len() == 2 && both.contains(&first[0]), "{both:?}");
        let bearer = format!("Bearer {token}");
        let by_the_old = Ask::new("GET", BRAND.level, "/my/profile").header("authorization", &bearer);
        assert_eq!(later.send(by_the_old).await.status, 200);
        let long_after = aged(&later, 24 * 3);
        assert_eq!(log_in(&long_after).await.status, 200);
        let newest = kids(&long_after);
        assert!(newest.len() == 1 && !both.contains(&newest[0]), "{newest:?}");
    });
}
