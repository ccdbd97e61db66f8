//! Bodies that are right: made after a row that is there, with what may occur once made anew.

use crate::facts::{Plain, names, operation};
use crate::world::Account;
use model::define::{Kind, Level, Record, Table};
use model::entities::{Administrator, User};
use model::rows::{Row, Rows};
use model::scope::Caller;
use serde_json::{Map, Value as Json, json};

/// What bodies of an entity need besides, or instead of, the row that they are made after.
///
/// "-" leaves a field out.
const SPECIAL: &[(&str, &str)] = &[
    ("CallForwardSetting", r#"{"enabled": false}"#),
    ("Carrier", r#"{"proxyTrunk": 1}"#),
    ("client Contact", r#"{"user": "-", "name": "Neil"}"#),
    ("Friend", r#"{"name": "another7"}"#),
    (
        "brand Friend",
        r#"{"company": 1, "directConnectivity": "no", "password": "ABCabc123+xyz", "description": "",
            "priority": 9, "transport": "udp"}"#,
    ),
    ("HolidayDate", r#"{"eventDate": "2031-01-01"}"#),
    ("PickUpRelUser", r#"{"user": 2}"#),
    ("ProxyTrunksRelBrand", r#"{"brand": 1, "proxyTrunk": 3}"#),
    ("QueueMember", r#"{"user": 2}"#),
    ("User", r#"{"terminal": "-", "extension": "-", "bossAssistant": "-", "isBoss": false}"#),
    ("VoicemailRelUser", r#"{"voicemail": 3, "user": 2}"#),
    (
        "platform Brand",
        r#"{"domainUsers": "another.example.com", "applicationServerSets": [0], "mediaRelaySets": [0],
            "proxyTrunks": [1], "features": [1]}"#,
    ),
    ("Rtpengine", r#"{"url": "udp:192.0.2.77:22222"}"#),
];

/// The account as the rules of scope see it.
pub(crate) fn caller(account: &Account, rows: &Rows) -> Caller {
    let admin = rows.each::<Administrator>().find(|admin| admin.username == account.name);
    let user = rows.each::<User>().find(|user| user.email.as_deref() == Some(account.name));
    let company = admin.and_then(|admin| admin.company).or(user.map(|user| user.company));
    let brand = rows.at(company).map(|company| company.brand).or(admin.and_then(|admin| admin.brand));
    Caller {
        level: account.level,
        administrator: admin.map(|admin| admin.id.get()),
        user: user.filter(|_| account.level == Level::User).map(|user| user.id.get()),
        brand: brand.map(|brand| brand.get()),
        company: company.map(|company| company.get()),
        zone: jiff::tz::TimeZone::UTC,
        restricted: admin.is_some_and(|admin| admin.restricted),
        operator: false,
    }
}

/// The rows of a table that the account sees.
pub(crate) fn seen(account: &Account, table: &'static Table, rows: &Rows) -> Vec<Row> {
    let caller = caller(account, rows);
    rows.all(table).filter(|row| caller.sees(&***row, rows)).cloned().collect()
}

/// A body that makes a row like `like`, or like nothing that is there.
pub(crate) fn new_row(
    account: &Account,
    table: &'static Table,
    rows: &Rows,
    like: Option<&dyn Record>,
) -> Json {
    let model = operation(account.level, table, Plain::Create);
    let required = names(model, "required");
    let mut body = Map::new();
    for name in names(model, "body") {
        let Some(field) = table.field(&name) else { continue };
        let value = match (field.kind, like) {
            (Kind::Password | Kind::Secret, _) => json!("ABCabc123+xyz"),
            (Kind::Group(shape), _) if shape.names.contains(&"fileSize") => continue,
            (_, Some(like)) => like.named(&name).stored(),
            (_, None) if required.contains(&name) || field.required() => by_kind(account, field.kind, rows),
            _ => continue,
        };
        if !value.is_null() {
            body.insert(name, value);
        }
    }
    for places in table.unique {
        occur_once(account, table, rows, places, &mut body, like);
    }
    let level = account.level.name();
    for (name, text) in SPECIAL {
        if *name == table.name || *name == format!("{level} {}", table.name) {
            let special: Map<String, Json> = serde_json::from_str(text).expect("an object");
            for (name, value) in special {
                if value == "-" {
                    body.remove(&name)
                } else {
                    body.insert(name, value)
                };
            }
        }
    }
    Json::Object(body)
}

/// Changes the first field of the set that lets the row be another one than all that are there.
fn occur_once(
    account: &Account,
    table: &'static Table,
    rows: &Rows,
    places: &[usize],
    body: &mut Map<String, Json>,
    like: Option<&dyn Record>,
) {
    for place in places {
        let field = &table.fields[*place];
        let Some(old) = body.get(field.name).cloned() else { continue };
        let candidates: Vec<Json> = match field.kind {
            Kind::Text => vec![json!(another(old.as_str().unwrap_or_default()))],
            Kind::Int(..) => (1..20).map(|number| json!(number)).collect(),
            Kind::Reference(target) => {
                let ids = seen(account, target(), rows).into_iter().map(|row| row.id());
                ids.filter(|id| *id > 0).map(|id| json!(id)).collect()
            }
            _ => continue,
        };
        let taken = |value: &Json| {
            rows.all(table).any(|row| {
                places.iter().all(|at| {
                    let name = table.fields[*at].name;
                    let mine = if at == place { Some(value) } else { body.get(name) };
                    let mine = mine.cloned().or_else(|| like.map(|like| like.named(name).stored()));
                    mine.is_none_or(|mine| row.get(*at).stored() == mine)
                })
            })
        };
        if let Some(free) = candidates.into_iter().find(|value| !taken(value)) {
            body.insert(field.name.to_owned(), free);
            return;
        }
    }
}

/// Another text like this one: digits stay digits, and what comes last stays last.
fn another(old: &str) -> String {
    if old.is_empty() {
        return "another7".to_owned();
    }
    if old.bytes().all(|b| b.is_ascii_digit()) {
        return format!("{old}7");
    }
    if old.parse::<std::net::IpAddr>().is_ok() {
        return "192.0.2.77".to_owned();
    }
    if old.len() == 12 && old.bytes().all(|b| b.is_ascii_hexdigit()) {
        return format!("{}77", &old[..10]);
    }
    for start in ["+", "https://", "udp:"] {
        if let Some(rest) = old.strip_prefix(start) {
            return match start {
                "+" => format!("+{rest}7"),
                "udp:" => "udp:192.0.2.77:22222".to_owned(),
                _ => format!("https://n{rest}"),
            };
        }
    }
    format!("n{old}")
}

/// A value that a field of this kind may have.
pub(crate) fn by_kind(account: &Account, kind: Kind, rows: &Rows) -> Json {
    match kind {
        Kind::Text | Kind::Secret | Kind::Password => json!("1234"),
        Kind::Choice(names) => json!(names[0]),
        Kind::Bool => json!(false),
        Kind::Id | Kind::Int(..) | Kind::Decimal | Kind::Float => json!(1),
        Kind::Time => json!("2026-01-31 10:00:00"),
        Kind::Date => json!("2026-01-31"),
        Kind::Clock => json!("10:00:00"),
        Kind::Group(shape) => shape.names.iter().map(|name| ((*name).to_owned(), json!("text"))).collect(),
        Kind::Json => json!({}),
        Kind::Reference(target) => {
            let seen = seen(account, target(), rows);
            let id = seen.first().map(|row| row.id());
            json!(id.or_else(|| rows.all(target()).next().map(|row| row.id())))
        }
    }
}

/// The row that bodies are made after: the last one that the account sees and may write, or sees.
pub(crate) fn pattern(account: &Account, table: &'static Table, rows: &Rows) -> Option<Row> {
    let caller = caller(account, rows);
    let seen = seen(account, table, rows);
    let writable = seen.iter().rev().find(|row| caller.may_write(&***row, None, rows));
    writable.or(seen.last()).cloned()
}
