//! Input that is wrong: refused with a reason that names the field, never a fault of the server.

use crate::bodies::{new_row, pattern};
use crate::facts::{Endpoint, Plain, endpoints};
use crate::world::{ACCOUNTS, Account, Answer, Ask, Server, accounts_for, no_panics, run, sample};
use model::define::{Field, How, Kind, Level, Table, View};
use model::rows::Rows;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeSet;

/// An endpoint that takes a row's document, with a request that is right.
struct Write {
    endpoint: &'static Endpoint,
    table: &'static Table,
    account: Account,
    path: String,
    body: Json,
    /// The names that it takes.
    names: BTreeSet<String>,
}

impl Write {
    fn ask(&self, body: &Json) -> Ask {
        Ask::of(&self.account, &self.endpoint.method, &self.path).json(body)
    }

    /// Fields that are written, with those of the table.
    fn fields(&self) -> impl Iterator<Item = &'static Field> {
        self.table.fields.iter().filter(|field| self.names.contains(field.name))
    }
}

/// All of them.
fn writes(rows: &Rows) -> Vec<Write> {
    let mut found = Vec::new();
    for endpoint in endpoints().iter().filter(|endpoint| !endpoint.dead()) {
        let (Some(plain @ (Plain::Create | Plain::Change)), Some(table)) =
            (endpoint.plain(), endpoint.entity)
        else {
            continue;
        };
        let names = writable(endpoint.level, table, plain);
        let accounts = accounts_for(endpoint);
        let with_row = accounts.iter().find(|account| pattern(account, table, rows).is_some());
        let account = *with_row.or(accounts.first()).expect("somebody may");
        let like = pattern(&account, table, rows);
        let (path, body) = match (plain, &like) {
            (Plain::Create, _) => (endpoint.path.clone(), new_row(&account, table, rows, like.as_deref())),
            (_, Some(row)) => (endpoint.path.replace("{id}", &row.id().to_string()), json!({})),
            _ => continue,
        };
        found.push(Write { endpoint, table, account, path, body, names });
    }
    found
}

/// The names of what is written.
fn writable(level: Level, table: &Table, plain: Plain) -> BTreeSet<String> {
    let written = |view: View| if plain == Plain::Create { view.create } else { view.change };
    let fields = table.fields.iter().filter(|field| written(field.view(level))).map(|field| field.name);
    let sets = table.computed.iter().filter(|computed| {
        written(computed.view(level)) && matches!(computed.how, How::Pairs(..) | How::Members(..))
    });
    fields.chain(sets.map(|computed| computed.name)).map(str::to_owned).collect()
}

/// Which fields a refusal names.
fn named(answer: &Answer) -> BTreeSet<String> {
    let body = answer.json();
    let violations = body["violations"].as_array().into_iter().flatten();
    violations.filter_map(|one| one["propertyPath"].as_str()).map(str::to_owned).collect()
}

fn listed_wrong(wrong: &[String]) {
    let text: String = wrong.iter().take(200).map(|line| format!("\n  {line}")).collect();
    assert!(wrong.is_empty(), "{}:{text}", wrong.len());
    no_panics();
}

/// A document that no field can be.
fn never_right(kind: Kind) -> Json {
    match kind {
        Kind::Group(_) => json!(7),
        _ => json!({ "wrong": [1, { "deep": null }] }),
    }
}

#[test]
fn a_value_of_the_wrong_type_is_refused_by_the_name_of_its_field_and_all_at_once() {
    let rows = sample();
    let mut wrong = Vec::new();
    run(async {
        let server = Server::new();
        for write in writes(&rows) {
            let mut all = write.body.as_object().cloned().unwrap_or_default();
            let mut expected = BTreeSet::new();
            // What a file is follows from the file; JSON may be anything.
            let file = |field: &&Field| match field.kind {
                Kind::Group(shape) => shape.names.contains(&"fileSize"),
                kind => matches!(kind, Kind::Json),
            };
            for field in write.fields().filter(|field| !file(field)) {
                let value = never_right(field.kind);
                let mut body = write.body.clone();
                body[field.name] = value.clone();
                let answer = server.send(write.ask(&body)).await;
                if answer.status != 400 || !named(&answer).contains(field.name) {
                    let what = format!("{} {}", write.endpoint.name(), field.name);
                    wrong.push(format!("{what} = {value}: {} {}", answer.status, answer.text()));
                }
                all.insert(field.name.to_owned(), value);
                expected.insert(field.name.to_owned());
            }
            let answer = server.send(write.ask(&Json::Object(all))).await;
            if !expected.is_empty() && !named(&answer).is_superset(&expected) {
                let missing: Vec<_> = expected.difference(&named(&answer)).cloned().collect();
                wrong.push(format!("{} all at once: {missing:?} are not named", write.endpoint.name()));
            }
            if !server.unchanged(&rows) {
                wrong.push(format!("{}: refused, and changed", write.endpoint.name()));
                server.reset(&rows).await;
            }
        }
    });
    listed_wrong(&wrong);
}

/// Values of the right type that hardly anybody means.
fn odd_values(field: &Field) -> Vec<Json> {
    let long = "é".repeat(if field.max == 0 { 70_000 } else { field.max + 1 });
    match field.kind {
        Kind::Text | Kind::Secret | Kind::Password => {
            let mut odd =
                vec![json!(long), json!("a\0b"), json!(""), json!("((("), json!("\u{202e}\u{1f4a3}\r\n")];
            odd.extend([
                json!("99999999999999999999"),
                json!(-1),
                json!("0"),
                json!("[::1]:99999"),
                json!(1e300),
            ]);
            odd
        }
        Kind::Choice(_) => vec![json!("nothing like it"), json!(""), json!("\0"), json!(0)],
        Kind::Bool => vec![json!(2), json!("maybe"), json!(-1)],
        Kind::Id | Kind::Reference(_) => {
            vec![
                json!(0),
                json!(-1),
                json!(4_294_967_296_u64),
                json!("/api/x/y/1"),
                json!("one"),
                json!(1.5),
                json!({}),
            ]
        }
        Kind::Int(..) => {
            let edges = [i64::MIN, -1, 0, 32_767, 65_536, 2_147_483_647, 4_294_967_295, i64::MAX];
            let mut odd: Vec<Json> = edges.iter().map(|edge| json!(edge)).collect();
            odd.extend([json!(1e300), json!(0.5), json!("1e3"), json!("12x")]);
            odd
        }
        Kind::Decimal | Kind::Float => {
            let edges = [
                "79228162514264337593543950335",
                "-79228162514264337593543950335",
                "1e28",
                "NaN",
                "inf",
                "0.00000001",
                "x",
            ];
            let mut odd: Vec<Json> = edges.iter().map(|edge| json!(edge)).collect();
            odd.extend([json!(1e300), json!(-1), json!(i64::MIN)]);
            odd
        }
        Kind::Time => [
            "0000-00-00 00:00:00",
            "9999-12-31 23:59:59",
            "-009999-01-01",
            "2026-02-30",
            "soon",
            "2026-03-29 02:30:00",
        ]
        .iter()
        .map(|text| json!(text))
        .chain([json!(0)])
        .collect(),
        Kind::Date => ["0000-00-00", "9999-12-31", "-009999-01-01", "2026-02-30", "2026-1-1"]
            .map(|text| json!(text))
            .to_vec(),
        Kind::Clock => ["24:00:00", "-1:00", "23:59:60", "12", "99:99:99"].map(|text| json!(text)).to_vec(),
        Kind::Group(shape) => {
            let parts =
                |value: Json| shape.names.iter().map(|name| ((*name).to_owned(), value.clone())).collect();
            [json!("a\0b"), json!("x".repeat(70_000)), json!([[]]), json!(-1), Json::Null].map(parts).to_vec()
        }
        Kind::Json => vec![json!("x".repeat(70_000)), json!([null, {}]), json!("\0")],
    }
}

#[test]
fn odd_values_are_refused_or_harmless() {
    let rows = sample();
    let mut wrong = Vec::new();
    let mut known = BTreeSet::new();
    run(async {
        let server = Server::new();
        for write in writes(&rows) {
            for field in write.fields() {
                // Once for each field is enough: the rules are the same at all levels.
                if !known.insert((write.table.name, write.endpoint.method.as_str(), field.name)) {
                    continue;
                }
                for value in odd_values(field) {
                    let mut body = write.body.clone();
                    body[field.name] = value.clone();
                    let answer = server.send(write.ask(&body)).await;
                    let shown: String = value.to_string().chars().take(60).collect();
                    let what =
                        format!("{} {} = {shown}: {}", write.endpoint.name(), field.name, answer.status);
                    let refused = matches!(answer.status, 400 | 403 | 422);
                    if !refused && !matches!(answer.status, 200 | 201) {
                        wrong.push(format!("{what} {}", answer.text()));
                    }
                    if refused && !answer.json()["detail"].is_string() {
                        wrong.push(format!("{what} without a reason"));
                    }
                    let text = String::from_utf8_lossy(&answer.body);
                    if !refused && text.contains("\\u0000") {
                        wrong.push(format!("{what} keeps a NUL"));
                    }
                    if !refused && matches!(field.kind, Kind::Choice(_)) && value == "nothing like it" {
                        wrong.push(format!("{what} takes an unknown choice"));
                    }
                    let long = matches!(field.kind, Kind::Text)
                        && value.as_str().is_some_and(|text| text.starts_with("éé"));
                    if !refused && long {
                        wrong.push(format!("{what} takes too long a text"));
                    }
                    if refused && !server.unchanged(&rows) {
                        wrong.push(format!("{what}: refused, and changed"));
                    }
                    server.reset(&rows).await;
                }
            }
        }
    });
    listed_wrong(&wrong);
}

#[test]
fn lists_of_ids_that_are_none_are_refused_by_name() {
    let rows = sample();
    let mut wrong = Vec::new();
    run(async {
        let server = Server::new();
        for write in writes(&rows) {
            for computed in write.table.computed.iter().filter(|computed| write.names.contains(computed.name))
            {
                let many: Vec<u32> = (1..6000).collect();
                let values = [
                    json!("1,2"),
                    json!({}),
                    json!([{}]),
                    json!([-1]),
                    json!(["x"]),
                    json!([[1]]),
                    json!(many),
                ];
                for value in values {
                    let mut body = write.body.clone();
                    body[computed.name] = value.clone();
                    let answer = server.send(write.ask(&body)).await;
                    let refused = matches!(answer.status, 400 | 422) && answer.text().contains(computed.name);
                    if !refused {
                        let shown: String = value.to_string().chars().take(40).collect();
                        let what = format!("{} {} = {shown}", write.endpoint.name(), computed.name);
                        wrong.push(format!("{what}: {} {}", answer.status, answer.text()));
                    }
                    server.reset(&rows).await;
                }
            }
        }
    });
    listed_wrong(&wrong);
}

/// Bodies that are no documents, with the statuses that refuse them.
fn broken_bodies() -> Vec<(&'static str, Vec<u8>, &'static [u16])> {
    const JSON: &str = "application/json";
    const PARTS: &str = "multipart/form-data; boundary=x";
    let part =
        |head: &str, body: &str| format!("--x\r\nContent-Disposition: form-data; {head}\r\n\r\n{body}\r\n");
    let file = |name: &str| part(&format!("name=\"{name}\"; filename=\"a.csv\""), "1");
    let closed = |parts: &str| format!("{parts}--x--\r\n").into_bytes();
    let mut bad_utf8 = part("name=\"company\"", "").into_bytes();
    bad_utf8.extend(b"\xff\xfe\r\n--x--\r\n");
    vec![
        (JSON, vec![b'['; 1000], &[400]),
        (JSON, format!("{}{}", "{\"a\":".repeat(1000), "}".repeat(1000)).into_bytes(), &[400]),
        (JSON, vec![b'a'; 2 * 1024 * 1024 + 1], &[413]),
        (JSON, b"{\"name\": \"\xff\xfe\"}".to_vec(), &[400]),
        (JSON, b"{\"name\": \"\\ud800\"}".to_vec(), &[400]),
        (JSON, b"{\"name\": ".to_vec(), &[400]),
        (JSON, b"{\"name\": 1e999}".to_vec(), &[400]),
        (JSON, b"".to_vec(), &[400]),
        (JSON, b"null".to_vec(), &[400]),
        (JSON, b"[]".to_vec(), &[400]),
        (JSON, b"\"{}\"".to_vec(), &[400]),
        (JSON, b"\0".to_vec(), &[400]),
        (JSON, b"{\"a\0b\": 1}".to_vec(), &[400]),
        ("application/xml", b"<a/>".to_vec(), &[415]),
        ("multipart/form-data", closed(&part("name=\"company\"", "{}")), &[400]),
        ("multipart/form-data; boundary=", closed(""), &[400]),
        (PARTS, b"".to_vec(), &[400]),
        (PARTS, b"--x\r\nContent-Disposition".to_vec(), &[400]),
        (PARTS, part("name=\"company\"", "{}").into_bytes(), &[400]),
        (PARTS, closed(&part("name=\"company\"", "{\"name\": ")), &[400]),
        (PARTS, closed(&file("file").repeat(17)), &[400]),
        (PARTS, bad_utf8, &[400]),
    ]
}

#[test]
fn bodies_that_are_no_documents_are_refused_with_a_reason() {
    let rows = sample();
    let mut wrong = Vec::new();
    run(async {
        let server = Server::new();
        let writes = writes(&rows);
        for (kind, body, statuses) in broken_bodies() {
            // All of them go through the same door; large ones need not be sent to each.
            let some = writes.iter().step_by(if body.len() > 10_000 { 40 } else { 5 });
            for write in some {
                let ask =
                    Ask::of(&write.account, &write.endpoint.method, &write.path).body(kind, body.clone());
                let answer = server.send(ask).await;
                let reason = answer.json()["detail"].as_str().is_some_and(|detail| !detail.is_empty());
                if !statuses.contains(&answer.status) || !reason {
                    let shown: String = String::from_utf8_lossy(&body).chars().take(60).collect();
                    let what = format!("{} {kind} {shown:?}", write.endpoint.name());
                    wrong.push(format!("{what}: {} {}", answer.status, answer.text()));
                }
            }
        }
        assert!(server.unchanged(&rows));
        // The last one of two values counts, as with everybody's JSON.
        let twice = br#"{"name": {}, "name": "Twice", "tag": "12#"}"#.to_vec();
        let ask = Ask::of(&ACCOUNTS[1], "PUT", "/routing_tags/1").body("application/json", twice);
        let answer = server.send(ask).await;
        assert_eq!((answer.status, &answer.json()["name"]), (200, &json!("Twice")));
    });
    listed_wrong(&wrong);
}

/// Query strings that ask for nothing sensible, and whether a list answers them nevertheless; none: that depends on whether it
/// has the field, and is refused by the filter's name otherwise.
fn odd_queries() -> Vec<(String, Option<bool>)> {
    let long = "a".repeat(50_000);
    let many: String = (0..3000).map(|number| format!("id[]={number}&")).collect();
    let mut queries: Vec<(String, Option<bool>)> = vec![
        ("_page=0".into(), Some(false)),
        ("_page=-1".into(), Some(false)),
        ("_page=1.5".into(), Some(false)),
        ("_page=99999999999999999999".into(), Some(false)),
        ("_page=4294967295&_itemsPerPage=4294967295".into(), Some(true)),
        ("_itemsPerPage=0".into(), Some(false)),
        ("_itemsPerPage=999999999".into(), Some(true)),
        ("_itemsPerPage=x".into(), Some(false)),
        ("_page=&_itemsPerPage=".into(), Some(true)),
        ("_pagination=maybe".into(), Some(false)),
        (format!("name={long}"), Some(true)),
        (format!("{long}=1"), Some(true)),
        (many, Some(true)),
        ("%zz=%zz&%00=%00&%ff=%ff".into(), Some(true)),
        ("[&]&[]=1&a[&a]=1&=&&&".into(), Some(true)),
        ("_order[]=asc&_order[nothing]=asc&_order[name.en]=asc".into(), Some(true)),
        ("_order[id]=sideways".into(), Some(false)),
        ("_order=id".into(), Some(false)),
        ("_properties[]=&_properties[]=nothing&_properties[id.x]=1".into(), Some(true)),
        ("_timezone=Nowhere/City".into(), Some(false)),
        ("_timezone=../../etc/passwd".into(), Some(false)),
        ("_timezone=".into(), Some(true)),
        ("exists[]=1&exists=1&exists[nothing]=true".into(), Some(true)),
        ("exists[id]=maybe".into(), None),
    ];
    for name in ["id", "name", "startTime", "brand", "company", "balance"] {
        for test in [
            "exact",
            "partial",
            "start",
            "end",
            "neq",
            "lt",
            "gte",
            "between",
            "before",
            "strictly_after",
            "exists",
            "odd",
            "exact][",
            "exact][][",
        ] {
            for value in [
                "",
                "%00",
                "99999999999999999999999999999999999",
                "-1",
                "1e400",
                "..",
                "1..x",
                "2026-13-40",
                "%F0%9F%92%A3",
            ] {
                queries.push((format!("{name}[{test}]={value}"), None));
            }
        }
    }
    queries
}

#[test]
fn odd_queries_are_answered_or_refused() {
    let rows = sample();
    let mut wrong = Vec::new();
    run(async {
        let server = Server::new();
        let lists: Vec<&Endpoint> =
            endpoints().iter().filter(|endpoint| endpoint.plain() == Some(Plain::List)).collect();
        for (at, (query, answered)) in odd_queries().into_iter().enumerate() {
            // A filter meets each kind of field somewhere; paging is the same everywhere.
            let some = lists.iter().skip(at % 7).step_by(if query.starts_with('_') { 7 } else { 40 });
            for endpoint in some {
                let account = accounts_for(endpoint)[0];
                let answer =
                    server.send(Ask::of(&account, "GET", &format!("{}?{query}", endpoint.path))).await;
                let expected = match answered {
                    Some(true) => answer.status == 200,
                    None => {
                        let name = query.split(['[', '=']).next().unwrap_or_default();
                        let told = named(&answer).iter().any(|field| field.starts_with(name));
                        answer.status == 200 || (answer.status == 400 && told)
                    }
                    _ => answer.status == 400 && answer.text().contains('_'),
                };
                if !expected {
                    let shown: String = query.chars().take(60).collect();
                    wrong.push(format!("{} ?{shown}: {} {}", endpoint.name(), answer.status, answer.text()));
                }
            }
        }
        let large =
            server.send(Ask::of(&ACCOUNTS[1], "GET", "/carriers?_itemsPerPage=4294967295&_page=2")).await;
        assert_eq!((large.status, large.body.as_slice()), (200, b"[]".as_slice()));
        for query in
            ["_rmAlso[]=x", "_rmAlso[]=-1", "_rmAlso[]=99999999999999999999", "_rmAlso[a][b]=1&_rmAlso"]
        {
            let body = json!({ "name": "Short", "tag": "7#" });
            let made = server.send(Ask::of(&ACCOUNTS[1], "POST", "/routing_tags").json(&body)).await;
            let path = format!("/routing_tags/{}?{query}", made.json()["id"]);
            let answer = server.send(Ask::of(&ACCOUNTS[1], "DELETE", &path)).await;
            if answer.status != 204 {
                wrong.push(format!("DELETE ?{query}: {} {}", answer.status, answer.text()));
            }
            server.reset(&rows).await;
        }
    });
    listed_wrong(&wrong);
}

#[test]
fn each_field_of_a_list_takes_each_odd_filter() {
    let rows = sample();
    let mut wrong = Vec::new();
    run(async {
        let server = Server::new();
        for endpoint in endpoints().iter().filter(|endpoint| endpoint.plain() == Some(Plain::List)) {
            let account = accounts_for(endpoint)[0];
            let table = endpoint.entity.expect("an entity");
            for test in [
                "",
                "[]",
                "[exact]",
                "[start]",
                "[neq]",
                "[lt]",
                "[between]",
                "[before]",
                "[exists]",
                "[partial][]",
            ] {
                for value in ["%C3%A9%00", "-99999999999999999999", "0000-00-00"] {
                    let query: Vec<String> =
                        table.fields.iter().map(|field| format!("{}{test}={value}", field.name)).collect();
                    let path = format!("{}?{}", endpoint.path, query.join("&"));
                    let answer = server.send(Ask::of(&account, "GET", &path)).await;
                    let refused = answer.status == 400 && !named(&answer).is_empty();
                    if answer.status != 200 && !refused {
                        wrong.push(format!("{path}: {} {}", answer.status, answer.text()));
                    }
                }
            }
        }
        assert!(server.unchanged(&rows));
    });
    listed_wrong(&wrong);
}

#[test]
fn odd_logins_and_tokens_are_refused() {
    run(async {
        let server = Server::new();
        let form = "application/x-www-form-urlencoded";
        let (long, longest) = ("a".repeat(2500), "a".repeat(100_000));
        for level in Level::ALL {
            let login = if level == Level::User { "/user_login" } else { "/admin_login" };
            let bodies = [
                (form, String::new()),
                (form, "username=%00&email=%00&password=%00".to_owned()),
                (form, format!("username={long}&email={long}&password={long}")),
                (form, "username=%ff%fe&password[]=x".to_owned()),
                ("application/json", "{\"username\": {}, \"email\": [], \"password\": 1}".to_owned()),
                ("application/json", "[".repeat(1000)),
            ];
            for (kind, body) in bodies {
                let answer = server.send(Ask::new("POST", level, login).body(kind, body.clone())).await;
                assert_eq!(answer.status, 401, "{login} {}: {}", &body[..body.len().min(60)], answer.text());
                let refresh = Ask::new("POST", level, "/token/refresh").body(kind, body);
                assert_eq!(server.send(refresh).await.status, 401);
            }
            for token in ["..", "a.b.c", "é", &longest] {
                let ask = Ask::new("GET", level, "/countries").with_token(&token.replace('é', "%C3%A9"));
                assert_eq!(server.send(ask).await.status, 401);
            }
        }
    });
    no_panics();
}

#[test]
fn what_a_caller_may_not_write_is_left_out_silently() {
    let rows = sample();
    run(async {
        let server = Server::new();
        let mut body = Map::new();
        body.insert("name".to_owned(), json!("Named"));
        let strangers = [
            ("id", json!(77)),
            ("brand", json!(2)),
            ("nothing", json!({ "a": [] })),
            ("__proto__", json!(1)),
        ];
        body.extend(strangers.map(|(name, value)| (name.to_owned(), value)));
        let answer =
            server.send(Ask::of(&ACCOUNTS[1], "PUT", "/routing_tags/1").json(&Json::Object(body))).await;
        assert_eq!((answer.status, &answer.json()["id"]), (200, &json!(1)), "{}", answer.text());
        let table = model::entities::table("RoutingTag").expect("an entity");
        let row = server.row(table, 1).expect("the row");
        assert_eq!((row.named("name").text(), row.reference("brand")), (Some("Named"), Some(1)));
        assert_eq!(server.live.rows().count(table), rows.count(table));
    });
}
