//! Examples: for every schema a plausible value that fits it, made of the examples of its parts.
//!
//! In: schemas with the names of their properties, fields of tables. Out: JSON. What is well known by its name has a value of
//! its own; all else follows from kinds and limits. Elsewhere: the schemas themselves (`schemas`, `shapes`).

use super::schemas::{LONGEST, is_time};
use model::define::{Field, Kind};
use serde_json::{Map, Value as Json, json};

const MOMENT: &str = "2026-01-31 23:59:59";
const DAY: &str = "2026-01-31";
const E164: &str = "+34946002050";
const ADDRESS: &str = "192.0.2.1";

/// Texts of fields with these names, in small letters.
const KNOWN: &[(&str, &str)] = &[
    ("address", ADDRESS),
    ("advertisedip", ADDRESS),
    ("allow", "alaw"),
    ("allowaudio", "alaw"),
    ("allowvideo", "h264"),
    ("areacode", "94"),
    ("basename", "file.wav"),
    ("callid", "a84b4c76e66710@192.0.2.1"),
    ("cidr", "192.0.2.0/24"),
    ("clientname", "Example"),
    ("companyname", "Example"),
    ("country", "Spain"),
    ("countrycode", "+34"),
    ("countryname", "Spain"),
    ("currency", "€"),
    ("currencysymbol", "€"),
    ("disallow", "all"),
    ("entity", "Carrier"),
    ("errormsg", ""),
    ("features", "billing"),
    ("groupintervalstart", "0s"),
    ("internationalcode", "00"),
    ("intervalstart", "0s"),
    ("ip", ADDRESS),
    ("lastname", "Smith"),
    ("level", "brand"),
    ("mac", "0011223344aa"),
    ("mimetype", "audio/x-wav; charset=binary"),
    ("nif", "12345678A"),
    ("patternname", "Spain"),
    ("postaladdress", "Gran Vía 1"),
    ("postalcode", "48001"),
    ("prefix", "+34"),
    ("productname", "Carillon"),
    ("province", "Bizkaia"),
    ("publicip", ADDRESS),
    ("rateincrement", "60s"),
    ("refresh_token", "nNQ…"),
    ("sentto", "somebody@example.com"),
    ("sourceaddress", ADDRESS),
    ("status", "OK"),
    ("symbol", "€"),
    ("timezone", "Europe/Madrid"),
    ("toaddress", "somebody@example.com"),
    ("token", "eyJ…"),
    ("town", "Bilbao"),
    ("trunkprefix", "0"),
    ("tz", "Europe/Madrid"),
    ("useragent", "Softphone"),
    ("username", "alice"),
    ("who", "admin"),
];

/// Texts of fields whose names contain one of these, in small letters: the first that does.
const PARTS: &[(&str, &str)] = &[
    ("email", "somebody@example.com"),
    ("fromaddress", "somebody@example.com"),
    ("url", "https://example.com"),
    ("uri", "https://example.com"),
    ("prefix", "+34"),
    ("domain", "sip.example.com"),
    ("host", "sip.example.com"),
    ("proxy", "sip.example.com"),
    ("regex", "^[0-9]+$"),
    ("regexp", "^[0-9]+$"),
    ("pattern", "^[0-9]+$"),
    ("expr", "^[0-9]+$"),
    ("code", "34"),
    ("e164", E164),
    ("number", "946002050"),
    ("ddi", "946002050"),
    ("phone", "946002050"),
    ("clid", "946002050"),
    ("caller", "946002050"),
    ("callee", "946002050"),
    ("src", "946002050"),
    ("dst", "946002050"),
    ("color", "#306090"),
];

/// Fields with which a span of time begins, in small letters; other moments are its end.
const BEGINNINGS: &[&str] = &["indate", "startdate", "starttime", "timein"];

/// What the words of a field's meaning say that it holds.
const MEANINGS: &[(&str, &str)] =
    &[("E.164", E164), ("IP address", ADDRESS), ("e-mail address", "somebody@example.com")];

/// A value that fits the schema of a property with this name; `named`: the schemas that references lead to.
pub(super) fn of(name: &str, schema: &Json, named: &Map<String, Json>) -> Json {
    if let Some(reference) = schema["$ref"].as_str() {
        let known = reference.rsplit('/').next().and_then(|known| named.get(known));
        return known.map_or(Json::Null, |known| of(name, known, named));
    }
    if let Some(example) = schema["examples"].get(0) {
        return example.clone();
    }
    if let Some(choice) = schema["anyOf"].get(0).or_else(|| schema["allOf"].get(0)) {
        return of(name, choice, named);
    }
    if let Some(choice) = schema["enum"].get(0) {
        return choice.clone();
    }
    let kinds = schema["type"].get(0).unwrap_or(&schema["type"]);
    match kinds.as_str() {
        Some("object") => {
            let parts = schema["properties"].as_object().into_iter().flatten();
            parts.map(|(name, part)| (name.clone(), of(name, part, named))).collect()
        }
        Some("array") if schema["maxItems"] == json!(0) => json!([]),
        Some("array") => json!([of(name, &schema["items"], named)]),
        Some("boolean") => json!(true),
        Some("integer" | "number") => {
            json!(within(1, schema["minimum"].as_i64(), schema["maximum"].as_i64()))
        }
        Some("string") if is_time(schema) => json!(moment(name)),
        Some("string") => match schema["format"].as_str() {
            Some("date") => json!(day(name)),
            Some("password") => json!("SecretPASS_4321"),
            Some("binary") => json!("octets of the file"),
            _ => json!(text(name, "", schema["maxLength"].as_u64())),
        },
        _ => Json::Null,
    }
}

/// A value that the field could hold; of a group and of a document none is known.
pub(super) fn of_field(field: &Field) -> Json {
    let most = u64::try_from(field.max).ok().filter(|most| *most > 0);
    match field.kind {
        Kind::Id | Kind::Reference(_) => json!(1),
        Kind::Bool => json!(true),
        Kind::Int(low, high) => {
            let usual = if field.name.to_ascii_lowercase().contains("port") { 5060 } else { 1 };
            json!(within(usual, field.min.or(Some(low)), field.high.or(Some(high))))
        }
        Kind::Decimal | Kind::Float => json!(within(1, field.min, field.high)),
        Kind::Text => json!(text(field.name, field.docs, most)),
        Kind::Secret | Kind::Password => json!(cut("SecretPASS_4321", most)),
        Kind::Choice(names) => json!(names.first()),
        Kind::Time => json!(moment(field.name)),
        Kind::Date => json!(day(field.name)),
        Kind::Clock => json!(if begins(field.name) { "00:00:00" } else { "23:59:59" }),
        Kind::Group(_) | Kind::Json => json!({}),
    }
}

/// A text that something of this name and meaning could hold, of so many characters at most.
pub(super) fn text(name: &str, docs: &str, most: Option<u64>) -> String {
    let lower = name.to_ascii_lowercase();
    let room = |text: &str| most.is_none_or(|most| text.chars().count() as u64 <= most);
    let exact = KNOWN.iter().find(|(known, _)| *known == lower);
    let meant = || MEANINGS.iter().find(|(words, text)| docs.contains(words) && room(text));
    let is_moment = lower.ends_with("time") || lower.ends_with("date");
    let part = || PARTS.iter().find(|(part, _)| lower.contains(part));
    match exact.or_else(meant) {
        Some((_, text)) => cut(text, most),
        None if is_moment && room(MOMENT) => moment(name).to_owned(),
        None => cut(part().map_or("example", |(_, text)| text), most),
    }
}

fn begins(name: &str) -> bool {
    BEGINNINGS.contains(&name.to_ascii_lowercase().as_str())
}

fn moment(name: &str) -> &'static str {
    if begins(name) { "2026-01-01 00:00:00" } else { MOMENT }
}

fn day(name: &str) -> &'static str {
    if begins(name) { "2026-01-01" } else { DAY }
}

fn within(usual: i64, low: Option<i64>, high: Option<i64>) -> i64 {
    usual.min(high.unwrap_or(i64::MAX)).max(low.unwrap_or(i64::MIN))
}

fn cut(text: &str, most: Option<u64>) -> String {
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(LONGEST);
    text.chars().take(most).collect()
}
