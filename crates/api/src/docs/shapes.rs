//! What operations of their own read and answer, as schemas.
//!
//! Elsewhere: which operation has which (`operations`), schemas of whole rows (`schemas`).

use super::schemas;
use serde_json::{Map, Value as Json, json};

/// What the events of a range have in common.
pub(super) const RANGE: &[&str] = &[
    "name",
    "wholeDayEvent",
    "timeIn",
    "timeOut",
    "routeType",
    "numberValue",
    "calendar",
    "locution",
    "extension",
    "voicemail",
    "numberCountry",
];

pub(super) fn text() -> Json {
    json!({ "type": "string" })
}

pub(super) fn flag() -> Json {
    json!({ "type": "boolean" })
}

pub(super) fn count() -> Json {
    json!({ "type": "integer", "minimum": 0 })
}

pub(super) fn number() -> Json {
    json!({ "type": "number" })
}

pub(super) fn list(items: Json) -> Json {
    json!({ "type": "array", "items": items })
}

pub(super) fn or_null(mut schema: Json) -> Json {
    schema["type"] = json!([schema["type"], "null"]);
    schema
}

pub(super) fn nothing() -> Json {
    json!({})
}

/// An object with all of these.
pub(super) fn object(parts: &[(&str, Json)]) -> Json {
    let required: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Json> =
        parts.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// An object of texts.
pub(super) fn texts(parts: &[(&str, &str)]) -> Json {
    let schema = |docs: &str| match docs {
        "" => text(),
        docs => json!({ "type": "string", "description": docs }),
    };
    let parts: Vec<(&str, Json)> = parts.iter().map(|(name, docs)| (*name, schema(docs))).collect();
    object(&parts)
}

pub(super) fn tokens() -> Json {
    texts(&[
        ("token", "Goes into `Authorization: Bearer …`; lasts an hour."),
        ("refresh_token", "Works once."),
    ])
}

pub(super) fn token() -> Json {
    texts(&[("token", "Goes into `Authorization: Bearer …`; lasts ten hours.")])
}

pub(super) fn grants() -> Json {
    list(object(&[
        ("iden", text()),
        ("create", flag()),
        ("read", flag()),
        ("update", flag()),
        ("delete", flag()),
    ]))
}

pub(super) fn calls() -> Json {
    object(&[("inbound", count()), ("outbound", count()), ("total", count())])
}

pub(super) fn brand_of_dashboard(own: bool) -> Json {
    let mut parts = vec![("id", count()), ("name", text()), ("nif", text())];
    if own {
        parts.push(("postalCode", text()));
    }
    parts.extend([("sipDomain", text()), ("maxCalls", count())]);
    object(&parts)
}

pub(super) fn client_dashboard() -> Json {
    let device = || object(&[("name", text()), ("outgoingDdi", text()), ("description", text())]);
    let mut parts = vec![
        (
            "client",
            object(&[
                ("name", text()),
                ("nif", text()),
                ("postalCode", text()),
                ("domainUsers", or_null(text())),
                ("maxCalls", count()),
            ]),
        ),
        (
            "latestBillableCalls",
            list(object(&[
                ("startTime", text()),
                ("caller", or_null(text())),
                ("callee", or_null(text())),
                ("duration", count()),
            ])),
        ),
        (
            "latestUsers",
            list(object(&[
                ("name", text()),
                ("lastName", text()),
                ("extension", text()),
                ("outgoingDdi", text()),
            ])),
        ),
        ("latestResidentialDevices", list(device())),
        ("latestRetailAccounts", list(device())),
    ];
    let counts =
        ["userNum", "extensionNum", "ddiNum", "residentialDeviceNum", "voiceMailNum", "retailsAccountNum"];
    parts.extend(counts.map(|name| (name, or_null(count()))));
    parts.push(("productName", text()));
    object(&parts)
}

pub(super) fn status() -> Json {
    let maybe = || or_null(text());
    object(&[
        ("userName", text()),
        ("companyName", maybe()),
        ("companyDomain", maybe()),
        ("language", maybe()),
        ("voiceMail", maybe()),
        ("gsQRCode", flag()),
        ("userAgent", maybe()),
        ("ipRegistered", maybe()),
        ("statusTerminal", flag()),
        ("terminalName", maybe()),
        ("terminalPassword", maybe()),
        ("extensionNumber", maybe()),
        ("features", list(text())),
    ])
}

pub(super) fn registered() -> Json {
    json!({ "domainName": or_null(text()), "status": schemas::living("registrations") })
}

/// Whether a client's account lets calls out.
pub(super) fn account() -> Json {
    json!({ "accountStatus": schemas::derived("accountStatus") })
}

/// A change in the audit log.
pub(super) fn logged() -> Json {
    let fields = || or_null(json!({ "type": "object" }));
    let action = json!({ "type": "string", "enum": ["create", "update", "delete"] });
    object(&[
        ("revision", count()),
        ("time", text()),
        ("level", or_null(text())),
        ("who", or_null(text())),
        ("whoId", or_null(count())),
        ("onBehalfOf", or_null(text())),
        ("entity", text()),
        ("entityId", count()),
        ("action", action),
        ("changed", list(text())),
        ("before", fields()),
        ("after", fields()),
    ])
}

pub(super) fn imported() -> Json {
    let failed = json!({ "type": "integer", "minimum": 0, "examples": [0], "description": "Lines that were not kept." });
    object(&[("success", flag()), ("errorMsg", text()), ("failed", failed)])
}

pub(super) fn done() -> Json {
    texts(&[("status", "OK.")])
}

pub(super) fn simulation() -> Json {
    object(&[
        ("plan", text()),
        ("callDate", text()),
        ("duration", count()),
        ("patternName", text()),
        ("connectionCharge", number()),
        ("intervalStart", text()),
        ("rate", number()),
        ("ratePeriod", count()),
        ("totalCost", number()),
        ("currencySymbol", text()),
    ])
}

fn amount() -> Json {
    object(&[
        ("amount", text()),
        ("currency", text()),
        ("prefix", text()),
        ("destination", text()),
        ("ratingPlanGroup", count()),
        ("ratingPlanName", text()),
        ("connectFee", text()),
        ("perMinute", text()),
        ("chargePeriod", count()),
        ("intervalStart", count()),
        ("minimalCost", flag()),
    ])
}

pub(super) fn routed() -> Json {
    let carrier = object(&[
        ("carrier", count()),
        ("name", text()),
        ("outgoingRouting", count()),
        ("priority", count()),
        ("called", or_null(text())),
        ("caller", or_null(text())),
        ("trouble", or_null(text())),
        ("cost", or_null(amount())),
        ("noCost", or_null(text())),
    ]);
    object(&[
        ("placed", flag()),
        ("decision", text()),
        ("status", or_null(count())),
        ("steps", list(text())),
        ("called", or_null(text())),
        ("shown", or_null(text())),
        ("ddi", or_null(count())),
        ("routingTag", or_null(count())),
        ("carriers", list(carrier)),
        ("price", or_null(amount())),
        ("noPrice", or_null(text())),
    ])
}

/// Fields of a table as bodies hold them.
pub(super) fn body_of(table: &str, names: &[&str], beside: &[(&str, Json)], required: &[&str]) -> Json {
    let table = model::entities::table(table);
    let fields = names.iter().filter_map(|name| table?.field(name));
    let mut properties: Map<String, Json> =
        fields.map(|field| (field.name.to_owned(), schemas::written(field))).collect();
    properties.extend(beside.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())));
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

pub(super) fn profile_body() -> Json {
    let old = json!({ "type": "string", "format": "password", "description": "The present password, where `pass` is a new one." });
    let names = [
        "name",
        "lastname",
        "email",
        "pass",
        "doNotDisturb",
        "isBoss",
        "maxCalls",
        "bossAssistant",
        "timezone",
    ];
    body_of("User", &names, &[("oldPass", old)], &[])
}

pub(super) fn range_body() -> Json {
    let day = || json!({ "type": "string", "format": "date" });
    let required = ["name", "calendar", "startDate", "endDate"];
    body_of("HolidayDate", RANGE, &[("startDate", day()), ("endDate", day())], &required)
}

pub(super) fn range_days() -> Json {
    let day = json!({ "type": "string", "format": "date" });
    json!({ "startDate": day, "endDate": day })
}

pub(super) fn rating_body() -> Json {
    body_of("BillableCall", &["price", "cost", "destinationName", "ratingPlanName"], &[], &[])
}
