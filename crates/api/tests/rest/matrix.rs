//! Rows of other tenants do not exist: each endpoint by each account, with foreign ids in paths, filters and bodies.
//!
//! The foreign tenants are twins of the sample's own: another brand with all that belongs to it, and other clients of the
//! same brand. Whatever is asked with an id of theirs is answered as with an id that nobody has.

use crate::bodies::{new_row, pattern, seen};
use crate::facts::{Endpoint, Plain, endpoints, names, operation};
use crate::world::{ACCOUNTS, Account, Answer, Ask, Server, fits, run, sample, token};
use model::define::{Entity, Kind, Level, Reading, Table};
use model::entities::{Brand, Company, TABLES};
use model::rows::Rows;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

/// Ids of the other brand's rows are those of the sample's, and this.
const BRAND: u32 = 910_000;
/// Ids of the other clients' rows are.
const CLIENT: u32 = 920_000;
/// An id that no row has; as long as a foreign one.
const NOBODY: u32 = 990_001;
/// New rows get ids from here.
const NEW: u32 = 5_000_000;
/// What texts of the other brand's rows begin with.
const OF_BRAND: &str = "zzbrand";
/// What texts of the other clients' rows begin with.
const OF_CLIENT: &str = "zzclient";

static ROWS: LazyLock<Rows> = LazyLock::new(|| {
    let own = sample();
    let brand = [(model::entities::table("Brand").expect("brands").index, 1)];
    let company = model::entities::table("Company").expect("clients").index;
    let clients = [1, 3, 4, 5].map(|id| (company, id));
    let mut rows = own.clone();
    twin(&own, &mut rows, &brand, BRAND, OF_BRAND);
    twin(&own, &mut rows, &clients, CLIENT, OF_CLIENT);
    // Clients of one corporation know each other.
    let apart: Vec<Company> = rows
        .each::<Company>()
        .filter(|company| company.id.get() > CLIENT)
        .map(|company| Company { corporation: None, ..company.clone() })
        .collect();
    apart.into_iter().for_each(|company| rows.insert(Arc::new(company)));
    TABLES.iter().for_each(|table| rows.reserve(table, NEW));
    rows
});

/// Adds a copy of the roots and of all rows that belong to them, with other ids.
fn twin(own: &Rows, rows: &mut Rows, roots: &[(usize, u32)], offset: u32, mark: &str) {
    let mut members: BTreeSet<(usize, u32)> = roots.iter().copied().collect();
    let tables = || TABLES.iter().copied().filter(|table| !table.hidden);
    loop {
        let before = members.len();
        for table in tables() {
            for row in own.all(table) {
                let belongs = table.fields.iter().enumerate().any(|(place, field)| match field.kind {
                    Kind::Reference(target) => {
                        row.get(place).id().is_some_and(|id| members.contains(&(target().index, id)))
                    }
                    _ => false,
                });
                // A friend between two clients names both, and is one's.
                let client = row.reference("company").map(|id| (Company::definition().index, id));
                if belongs && client.is_none_or(|client| members.contains(&client)) {
                    members.insert((table.index, row.id()));
                }
            }
        }
        if members.len() == before {
            break;
        }
    }
    let reading = Reading::stored(jiff::Timestamp::now());
    for table in tables() {
        for row in own.all(table).filter(|row| members.contains(&(table.index, row.id()))) {
            let mut copy = row.copy();
            copy.set_id(row.id() + offset);
            for (place, field) in table.fields.iter().enumerate().skip(1) {
                let value = row.get(place);
                let new = match field.kind {
                    Kind::Reference(target) => value
                        .id()
                        .filter(|id| members.contains(&(target().index, *id)))
                        .map(|id| json!(id + offset)),
                    Kind::Text => value.text().filter(|text| !text.is_empty()).map(|text| {
                        let number = text.bytes().all(|b| b.is_ascii_digit());
                        json!(if number {
                            format!("{text}{}", offset / 10_000)
                        } else {
                            format!("{mark}{text}")
                        })
                    }),
                    Kind::Group(shape) if shape.names.contains(&"fileSize") => {
                        Some(json!({ "fileSize": 7, "mimeType": "text/plain", "baseName": mark }))
                    }
                    _ => None,
                };
                let Some(new) = new else { continue };
                if copy.set(place, &new, &reading).is_err() {
                    // Too long with its mark: it becomes another one of the same length.
                    let rest: String = value.text().unwrap_or_default().chars().skip(2).collect();
                    copy.set(place, &json!(format!("{}{rest}", offset / 10_000)), &reading).expect("it fits");
                }
            }
            rows.insert(Arc::from(copy));
        }
    }
}

/// Whether an answer or a row holds something of a tenant that is foreign to the account.
fn leaks(account: &Account, text: &str) -> bool {
    let foreign_client = account.level != Level::Brand;
    if text.contains(OF_BRAND) || (foreign_client && text.contains(OF_CLIENT)) {
        return true;
    }
    text.split(|c: char| !c.is_ascii_digit()).any(|number| {
        let number: u32 = if number.len() == 6 { number.parse().unwrap_or(0) } else { 0 };
        (BRAND..BRAND + 10_000).contains(&number)
            || (foreign_client && (CLIENT..CLIENT + 10_000).contains(&number))
    })
}

/// Ids of rows that are not there for the account: of the other brand, of another client, and of the sample.
fn foreign_ids(account: &Account, table: &'static Table) -> Vec<u32> {
    let own: BTreeSet<u32> = seen(account, table, &ROWS).iter().map(|row| row.id()).collect();
    let all: Vec<u32> =
        ROWS.all(table).map(|row| row.id()).filter(|id| *id > 0 && !own.contains(id)).collect();
    let ranges = [BRAND..CLIENT, CLIENT..NOBODY, 0..BRAND];
    ranges.iter().filter_map(|range| all.iter().find(|id| range.contains(id)).copied()).collect()
}

/// What is compared of two answers: everything, with the one id in place of nobody's.
fn but_for(answer: &Answer, id: u32) -> (u16, String, String) {
    let text = String::from_utf8_lossy(&answer.body).replace(&NOBODY.to_string(), &id.to_string());
    (answer.status, answer.header("content-type").to_owned(), text)
}

struct Matrix {
    server: Server,
    wrong: BTreeSet<String>,
    asked: usize,
    /// How often each status was the answer to a foreign id.
    statuses: BTreeMap<u16, usize>,
}

impl Matrix {
    /// Asks with a foreign id and with nobody's, and compares.
    async fn same(&mut self, what: &str, account: &Account, id: u32, ask: impl Fn(u32) -> Ask) {
        let nobody = self.server.send(ask(NOBODY)).await;
        self.server.reset(&ROWS).await;
        let foreign = self.server.send(ask(id)).await;
        self.asked += 1;
        *self.statuses.entry(foreign.status).or_default() += 1;
        let (expected, found) = (but_for(&nobody, id), but_for(&foreign, id));
        // A new row has the same id in both.
        if expected != found {
            self.wrong.insert(format!(
                "{what} by {} with {id}: {} {} instead of {} {}",
                account.name,
                foreign.status,
                found.2.chars().take(200).collect::<String>(),
                nobody.status,
                expected.2.chars().take(200).collect::<String>()
            ));
        }
        // A part of the system that is not there says so.
        let fault = foreign.status >= 500 && foreign.status != 501;
        let own_id = foreign.text().replace(&id.to_string(), "ID");
        let body = String::from_utf8_lossy(&foreign.body).replace(&id.to_string(), "ID");
        if leaks(account, &own_id) || leaks(account, &body) || fault {
            self.wrong.insert(format!("{what} by {} with {id} tells: {own_id}", account.name));
        }
        if foreign.status >= 300 && !self.server.unchanged(&ROWS) {
            self.wrong.insert(format!("{what} by {} with {id}: refused, and changed", account.name));
        }
        let now = self.server.live.rows();
        if now.revision == ROWS.revision {
            return;
        }
        for change in model::import::differences(&ROWS, &now) {
            let of_foreign = leaks(account, &change.id.to_string());
            let after = change.after.as_ref().map(|row| Json::Object(model::import::document(&**row)));
            let before = change.before.as_ref().map(|row| Json::Object(model::import::document(&**row)));
            let names = |row: &Option<Json>| row.as_ref().is_some_and(|row| leaks(account, &row.to_string()));
            if of_foreign || names(&before) || names(&after) {
                let shown = after.or(before).unwrap_or(Json::Null);
                self.wrong.insert(format!(
                    "{what} by {} with {id} changes {}: {shown}",
                    account.name, change.table.name
                ));
            }
        }
        self.server.reset(&ROWS).await;
    }
}

fn below_the_platform() -> impl Iterator<Item = &'static Account> {
    ACCOUNTS.iter().filter(|account| account.level != Level::Platform)
}

fn matrix() -> Matrix {
    Matrix { server: Server::over(ROWS.clone()), wrong: BTreeSet::new(), asked: 0, statuses: BTreeMap::new() }
}

fn done(matrix: &Matrix, least: usize) {
    let text: String = matrix.wrong.iter().map(|line| format!("\n  {line}")).collect();
    assert!(matrix.wrong.is_empty(), "{} of {}:{text}", matrix.wrong.len(), matrix.asked);
    assert!(matrix.asked >= least, "only {} were asked", matrix.asked);
}

fn own(account: &Account) -> impl Iterator<Item = &'static Endpoint> {
    let account = *account;
    endpoints().iter().filter(move |endpoint| fits(&account, endpoint) && !endpoint.dead())
}

#[test]
fn an_item_of_another_tenant_is_an_unknown_one() {
    let mut matrix = matrix();
    run(async {
        for account in below_the_platform() {
            for endpoint in own(account).filter(|endpoint| endpoint.path.contains("{id}")) {
                let Some(table) = endpoint.entity else { continue };
                for id in foreign_ids(account, table) {
                    if let Some(field) = endpoint.download() {
                        let place = matrix.server.storage.path().join(table.name).join(field);
                        let place = place.join((id / 1000).to_string());
                        std::fs::create_dir_all(&place).expect("a directory");
                        std::fs::write(place.join(id.to_string()), OF_CLIENT).expect("a file");
                    }
                    let body = if endpoint.method == "POST" { json!([1]) } else { json!({ "name": "Mine" }) };
                    let ask = |id: u32| {
                        let path = endpoint.path.replace("{id}", &id.to_string());
                        let ask = Ask::of(account, &endpoint.method, &path);
                        if endpoint.method == "GET" { ask } else { ask.json(&body) }
                    };
                    matrix.same(&endpoint.name(), account, id, ask).await;
                }
            }
        }
    });
    done(&matrix, 1000);
}

#[test]
fn lists_hold_and_find_nothing_of_another_tenant() {
    let mut matrix = matrix();
    run(async {
        for account in below_the_platform() {
            for endpoint in own(account).filter(|endpoint| endpoint.plain() == Some(Plain::List)) {
                let table = endpoint.entity.expect("an entity");
                for accept in ["application/json", "application/ld+json", "text/csv"] {
                    let path = format!("{}?_itemsPerPage=5000", endpoint.path);
                    let answer = matrix.server.send(Ask::of(account, "GET", &path).accept(accept)).await;
                    let text = String::from_utf8_lossy(&answer.body).into_owned();
                    if leaks(account, &text) {
                        matrix.wrong.insert(format!("{} by {} tells", endpoint.name(), account.name));
                    }
                }
                let shown = names(operation(account.level, table, Plain::List), "response");
                let references = table.fields.iter().filter_map(|field| match field.kind {
                    Kind::Reference(target) if shown.contains(field.name) => Some((field.name, target())),
                    _ => None,
                });
                let hidden = [("company", Company::definition()), ("brand", Brand::definition())];
                let mine = std::iter::once(("id", table));
                for (name, target) in references.chain(hidden).chain(mine) {
                    // Own rows may name rows of the platform that the account does not see.
                    let ids = foreign_ids(account, target);
                    let Some(id) = ids.into_iter().find(|id| *id > BRAND) else { continue };
                    // A filter that is none of the list's is left out, whatever its value.
                    for form in ["{}=", "{}[]=", "{}[exact]="] {
                        let filter = form.replace("{}", name);
                        let ask =
                            |id: u32| Ask::of(account, "GET", &format!("{}?{filter}{id}", endpoint.path));
                        matrix.same(&format!("{} {filter}", endpoint.name()), account, id, ask).await;
                    }
                }
            }
        }
    });
    done(&matrix, 1000);
}

/// The names of a body's references with their tables, and those of its lists of ids.
fn references(table: &'static Table, model: &Json) -> Vec<(String, Option<&'static Table>)> {
    let mut found = Vec::new();
    for name in names(model, "body") {
        if let Some(Kind::Reference(target)) = table.field(&name).map(|field| field.kind) {
            found.push((name, Some(target())));
        } else if table.computed(&name).is_some() {
            found.push((name, None));
        }
    }
    found
}

#[test]
fn a_body_that_names_a_row_of_another_tenant_names_an_unknown_one() {
    let mut matrix = matrix();
    let (own_rows, mut not_right) = (sample(), Vec::new());
    run(async {
        for account in below_the_platform() {
            for endpoint in own(account) {
                let Some(table) = endpoint.entity else { continue };
                let plain = endpoint.plain();
                let model = match plain {
                    Some(Plain::Create | Plain::Change) => {
                        operation(account.level, table, plain.expect("it is"))
                    }
                    _ => continue,
                };
                let like = pattern(account, table, &own_rows);
                let (path, body) = match (plain, &like) {
                    (Some(Plain::Create), _) => {
                        (endpoint.path.clone(), new_row(account, table, &ROWS, like.as_deref()))
                    }
                    (_, Some(row)) => (endpoint.path.replace("{id}", &row.id().to_string()), json!({})),
                    _ => continue,
                };
                let right = Ask::of(account, &endpoint.method, &path).json(&body);
                let right = matrix.server.send(right).await;
                matrix.server.reset(&ROWS).await;
                // Clients that are no vPBX have no rows for most of these bodies.
                let has_rows = account.level != Level::Client || account.kind == "vpbx";
                if right.status >= 300 && has_rows {
                    let what = (right.status, right.text());
                    not_right.push(format!("{} by {}: {what:?}", endpoint.name(), account.name));
                }
                for (name, target) in references(table, model) {
                    let ids = match target {
                        Some(target) => foreign_ids(account, target),
                        None => vec![BRAND + 1, CLIENT + 1],
                    };
                    for id in ids.into_iter().filter(|id| *id > BRAND) {
                        if target.is_none() && account.level == Level::Brand && id > CLIENT {
                            continue;
                        }
                        let ask = |id: u32| {
                            let mut body = body.clone();
                            body[&name] = if target.is_some() { json!(id) } else { json!([id]) };
                            Ask::of(account, &endpoint.method, &path).json(&body)
                        };
                        matrix.same(&format!("{} {name}", endpoint.name()), account, id, ask).await;
                    }
                }
            }
        }
    });
    done(&matrix, 500);
    // Such pairs are made anew instead of being changed.
    not_right.retain(|line| !line.starts_with("brand PUT /company_rel_codecs/{id} "));
    assert_eq!(not_right, Vec::<String>::new(), "bodies that ought to be right");
    // Hardly any of these bodies is refused for something else.
    let by_reference: usize = [403, 422].iter().filter_map(|status| matrix.statuses.get(status)).sum();
    assert!(by_reference * 20 > matrix.asked * 19, "{:?}", matrix.statuses);
}

#[test]
fn deleting_others_along_does_not_reach_another_tenant() {
    let mut matrix = matrix();
    run(async {
        for account in below_the_platform() {
            for endpoint in own(account).filter(|endpoint| endpoint.plain() == Some(Plain::Delete)) {
                let table = endpoint.entity.expect("an entity");
                let Some(row) = pattern(account, table, &ROWS) else { continue };
                let path = endpoint.path.replace("{id}", &row.id().to_string());
                for id in foreign_ids(account, table) {
                    for form in ["_rmAlso[]=", "_rmAlso="] {
                        let ask = |id: u32| Ask::of(account, "DELETE", &format!("{path}?{form}{id}"));
                        matrix.same(&format!("{} {form}", endpoint.name()), account, id, ask).await;
                    }
                }
            }
        }
    });
    done(&matrix, 100);
}

#[test]
fn operations_of_their_own_do_not_reach_another_tenant() {
    let mut matrix = matrix();
    run(async {
        for account in below_the_platform() {
            let operations =
                own(account).filter(|endpoint| endpoint.plain().is_none() && endpoint.needs_token());
            for endpoint in operations {
                let first = endpoint.entity.and_then(|table| pattern(account, table, &ROWS));
                let path = endpoint.path.replace("{id}", &first.map_or(1, |row| row.id()).to_string());
                // A brand's own clients are none of another tenant.
                let id = if account.level == Level::Brand { BRAND + 1 } else { CLIENT + 1 };
                let ask = |id: u32| {
                    if endpoint.method != "GET" {
                        return Ask::of(account, &endpoint.method, &path).json(&json!([id]));
                    }
                    let names = [
                        "company",
                        "brand",
                        "_companyId",
                        "_includeId",
                        "_userId",
                        "_recordingIds",
                        "c",
                        "b",
                    ];
                    let query: Vec<String> = names.iter().map(|name| format!("{name}={id}")).collect();
                    Ask::of(account, "GET", &format!("{path}?{}", query.join("&")))
                };
                matrix.same(&endpoint.name(), account, id, ask).await;
            }
        }
    });
    done(&matrix, 50);
}

#[test]
fn nobody_becomes_an_account_of_another_tenant() {
    let exchange = |level: Level, by: &Account, form: &str| {
        let form = format!("token={}&{form}", token(by));
        Ask::new("POST", level, "/token/exchange").body("application/x-www-form-urlencoded", form)
    };
    run(async {
        let server = Server::over(ROWS.clone());
        let brand = &ACCOUNTS[1];
        let client = &ACCOUNTS[2];
        let own = server.send(exchange(Level::Client, brand, "username=test_company_admin")).await;
        assert_eq!(own.status, 200, "{}", own.text());
        let own = server.send(exchange(Level::User, client, "username=bob%40democompany.com")).await;
        assert_eq!(own.status, 200, "{}", own.text());
        let unknown = server.send(exchange(Level::Client, brand, "username=nobody")).await;
        assert_eq!(unknown.status, 404);
        let forms = [
            (Level::Client, brand, "username=zzbrandtest_company_admin".to_owned()),
            (Level::Client, brand, format!("clientId={}", BRAND + 1)),
            (Level::Client, brand, "clientId=6".to_owned()),
            (Level::User, client, "username=zzbrandalice%40democompany.com".to_owned()),
            (Level::User, client, "username=zzclientalice%40democompany.com".to_owned()),
        ];
        for (level, by, form) in forms {
            let answer = server.send(exchange(level, by, &form)).await;
            assert_eq!((answer.status, &answer.body), (404, &unknown.body), "{form}: {}", answer.text());
        }
        // Each level takes tokens of the one above only.
        for level in [Level::Brand, Level::Client, Level::User] {
            let above = level as usize - 1;
            for account in ACCOUNTS.iter().filter(|account| account.level as usize != above) {
                let form = "username=test_company_admin&clientId=1&brandId=1";
                let answer = server.send(exchange(level, account, form)).await;
                assert_eq!(answer.status, 403, "{} at {}", account.name, level.name());
            }
        }
        assert!(server.unchanged(&ROWS));
    });
}
