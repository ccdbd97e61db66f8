//! What users see and set for themselves: profile, telephone, call forwarding, and the lists that they choose from.

use super::calls::{own_company, service_code};
use super::{behind, features, flag, own, text, text_behind};
use crate::custom::Answer;
use crate::http::{Problem, json_answer};
use crate::list::{self, Page};
use crate::routes::{self, Call};
use crate::show::{self, Look, MASK, Place};
use crate::write::{self, Document};
use axum::body::Body;
use axum::http::{Response, StatusCode};
use model::define::{Access, Entity, Level, Record, Table};
use model::entities::{CallForwardSetting, Extension, User, UsersCdr, Voicemail};
use model::rows::{Row, Rows};
use model::rules::Refusal;
use serde_json::{Map, Value as Json, json};

/// What a profile shows.
const PROFILE: &[&str] =
    &["name", "lastname", "email", "doNotDisturb", "isBoss", "maxCalls", "id", "bossAssistant", "timezone"];
/// What users change of it; `pass` takes `oldPass`, too.
const CHANGEABLE: &[&str] =
    &["name", "lastname", "email", "pass", "doNotDisturb", "isBoss", "maxCalls", "bossAssistant", "timezone"];
/// What is seen of a colleague.
const COLLEAGUE: &[&str] = &["name", "lastname", "email", "active", "id", "extension", "status"];

fn myself(call: &Call) -> Result<&Row, Problem> {
    own(call, "User", call.caller().user)
}

pub(super) fn profile<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    Box::pin(std::future::ready(myself(call).map(|user| {
        let shown = chosen(call, &call.rows, user, PROFILE, true);
        routes::item_answer(call, User::definition(), shown, StatusCode::OK)
    })))
}

/// These fields of a row, in this order.
fn chosen(call: &Call, rows: &Rows, row: &Row, names: &[&str], expand: bool) -> Map<String, Json> {
    let living = std::collections::HashMap::new();
    let look = Look { caller: call.caller(), rows, living: &living };
    let mut shown = look.row(&**row, Place::Detail, expand);
    names.iter().filter_map(|name| shown.remove(*name).map(|value| ((*name).to_owned(), value))).collect()
}

pub(super) fn change_profile<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    Box::pin(async move {
        let (table, user) = (User::definition(), myself(call)?);
        let body = write::object(call.ask.json()?)?;
        let caller = call.caller();
        if let Some(new) = body.get("pass").filter(|new| new.as_str() != Some(MASK)) {
            confirm(call, &**user, body.get("oldPass")).await?;
            if new.as_str().is_none_or(str::is_empty) {
                return Err(Problem::bad("pass: write the new password, or leave it out"));
            }
        }
        let body = Document::hashed(body, &call.api.tokens, caller, table).await?;
        let make = |draft: &mut model::draft::Draft<'_>| {
            let may = |place: usize| CHANGEABLE.contains(&table.fields[place].name);
            write::change_fields(draft, table, caller, user.id(), &body, may)?;
            stays_at_home(draft.rows(), table, user.id(), &body, &["bossAssistant"])
        };
        let ((), rows) = call.api.live.change(Some(Level::User), &call.identity.who(), make).await?;
        let user = rows.row(table, user.id()).ok_or_else(Problem::not_found)?;
        let names: Vec<&str> =
            ["name", "lastname", "email", "pass"].iter().chain(&PROFILE[3..]).copied().collect();
        let shown = chosen(call, &rows, user, &names, false);
        Ok(routes::item_answer(call, table, shown, StatusCode::OK))
    })
}

/// Whoever changes a password shows that they know the present one.
async fn confirm(call: &Call, user: &dyn Record, old: Option<&Json>) -> Result<(), Problem> {
    let old = old.and_then(Json::as_str).filter(|old| !old.is_empty());
    let old = old.ok_or_else(|| Problem::bad("oldPass is required when changing password"))?;
    let hash = user.named("pass").text().unwrap_or_default();
    let name = user.named("email").text().unwrap_or_default();
    if call.api.tokens.confirm(&call.ask, call.caller(), name, old, hash).await? {
        return Ok(());
    }
    Err(Problem::bad("Invalid password: oldPass is not the present one"))
}

/// What the body refers to is of the row's own client; rows of others do not exist for a user.
fn stays_at_home(
    rows: &Rows,
    table: &'static Table,
    id: u32,
    body: &Map<String, Json>,
    fields: &[&str],
) -> Result<(), Refusal> {
    let row = rows.row(table, id).ok_or(Refusal::Gone)?;
    let home = match row.reference("company") {
        Some(company) => Some(company),
        None => behind(rows, &**row, "user").and_then(|user| user.reference("company")),
    };
    for field in fields.iter().filter(|field| body.contains_key(**field)) {
        let Some(target) = behind(rows, &**row, field) else { continue };
        if target.reference("company") != home {
            let entity = target.table().name;
            return Err(Refusal::Dangling { field: (*field).to_owned(), entity, id: target.id() });
        }
    }
    Ok(())
}

pub(super) fn status<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    Box::pin(async move {
        let (rows, user, company) = (&*call.rows, myself(call)?, own_company(call)?);
        let terminal = behind(rows, &**user, "terminal");
        let address = terminal.and_then(|terminal| show::address_of_record(rows, &**terminal));
        let registrations = match address {
            Some((name, domain)) => call.api.surroundings.outside.registrations(&name, &domain).await,
            None => Vec::new(),
        };
        let registration = registrations.first();
        let name =
            [text(&**user, "name"), text(&**user, "lastname")].map(Option::unwrap_or_default).join(" ");
        let domain =
            text_behind(rows, &**company, "domain", "domain").or_else(|| text(&**company, "domainUsers"));
        let language = text_behind(rows, &**user, "language", "iden")
            .or_else(|| text_behind(rows, &**company, "language", "iden"));
        let of_terminal = |field: &str| terminal.and_then(|terminal| text(&**terminal, field));
        let body = json!({
            "userName": name.trim(),
            "companyName": text(&**company, "name"),
            "companyDomain": domain,
            "language": language,
            "voiceMail": service_code(rows, company.id(), "Voicemail"),
            "gsQRCode": flag(&**user, "gsQRCode"),
            "userAgent": registration.map(|registration| &registration.user_agent),
            "ipRegistered": registration.map(|registration| &registration.contact),
            "statusTerminal": registration.is_some(),
            "terminalName": of_terminal("name"),
            // The user sets telephones up with it.
            "terminalPassword": of_terminal("password"),
            "extensionNumber": text_behind(rows, &**user, "extension", "number"),
            "features": features(rows, "FeaturesRelCompany", "company", Some(company.id())),
        });
        Ok(json_answer(StatusCode::OK, &body))
    })
}

/// How a list is shown.
struct Shown {
    /// Where its rows stand.
    place: Place,
    /// Rows stand in place of references.
    expand: bool,
    /// The fields that are left; empty: all.
    names: &'static [&'static str],
}

const PLAIN: Shown = Shown { place: Place::List, expand: false, names: &[] };

/// Rows of an entity that this condition holds for, as the query asks for them.
fn rows_where<E: Entity>(
    call: &Call,
    holds: impl Fn(&dyn Record) -> bool,
) -> Result<(&'static Access, Page), Problem> {
    let (table, access) = routes::of::<E>(Level::User)?;
    let found = call.rows.all(table).filter(|row| holds(&***row));
    let page = list::page_of(table, access, call.caller(), &call.rows, &call.ask.query, found)?;
    Ok((access, page))
}

/// Rows of an entity that refer to the caller, or to the caller's client, by this field.
fn rows_of<E: Entity>(
    call: &Call,
    field: &str,
    id: Option<u32>,
    holds: impl Fn(&dyn Record) -> bool,
) -> Result<(&'static Access, Page), Problem> {
    let (table, access) = routes::of::<E>(Level::User)?;
    let id = id.ok_or_else(Problem::not_found)?;
    let found = show::pairs(&call.rows, table, field, id).filter(|row| holds(&***row));
    let page = list::page_of(table, access, call.caller(), &call.rows, &call.ask.query, found)?;
    Ok((access, page))
}

async fn listed(
    call: &Call,
    table: &'static Table,
    found: Result<(&'static Access, Page), Problem>,
    how: Shown,
) -> Result<Response<Body>, Problem> {
    let (access, page) = found?;
    let outside = &*call.api.surroundings.outside;
    let living = show::ask_living(outside, &call.rows, call.caller(), how.place, &page.rows).await;
    let look = Look { caller: call.caller(), rows: &call.rows, living: &living };
    let asked = call.ask.query.list("_properties");
    let mut shown: Vec<Map<String, Json>> =
        page.rows.iter().map(|row| look.row(&**row, how.place, how.expand)).collect();
    for row in &mut shown {
        if !how.names.is_empty() {
            row.retain(|name, _| how.names.contains(&name.as_str()));
        }
        if !asked.is_empty() {
            routes::keep(row, &asked);
        }
    }
    Ok(routes::shown_list(call, table, access, &page, shown))
}

pub(super) fn call_history<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    Box::pin(async move {
        let (table, access) = routes::of::<UsersCdr>(Level::User)?;
        let user = call.caller().user.ok_or_else(Problem::not_found)?;
        let found = match routes::records(call, table, access, ("user", user)).await? {
            Some(page) => Ok((access, page)),
            None => rows_of::<UsersCdr>(call, "user", Some(user), |_| true),
        };
        listed(call, table, found, PLAIN).await
    })
}

pub(super) fn call_forward_settings<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    let found = rows_of::<CallForwardSetting>(call, "user", call.caller().user, |_| true);
    let how = Shown { place: Place::Detail, expand: true, ..PLAIN };
    Box::pin(listed(call, CallForwardSetting::definition(), found, how))
}

pub(super) fn create_call_forward_setting<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    Box::pin(async move {
        let (table, access) = routes::of::<CallForwardSetting>(Level::User)?;
        let me = myself(call)?.id();
        let mut body = write::object(call.ask.json()?)?;
        // It is the caller's; that of another user is made by nobody.
        body.entry("user")
            .and_modify(|user| {
                if user.is_null() {
                    *user = json!(me)
                }
            })
            .or_insert_with(|| json!(me));
        let body = Document::from(body);
        let make = |draft: &mut model::draft::Draft<'_>| {
            let id = write::create(draft, table, access, call.caller(), &body)?;
            if draft.rows().row(table, id).and_then(|row| row.reference("user")) != Some(me) {
                return Err(Refusal::Forbidden("user: write your own id, or nothing".to_owned()));
            }
            stays_at_home(draft.rows(), table, id, &body, &["extension", "voicemail"])?;
            Ok(id)
        };
        let (id, rows) = call.api.live.change(Some(Level::User), &call.identity.who(), make).await?;
        let row = rows.row(table, id).ok_or_else(Problem::not_found)?;
        Ok(routes::one(call, &rows, row, Place::Created, true).await)
    })
}

/// Who can be chosen as one's assistant: colleagues who are no bosses themselves.
pub(super) fn company_assistants<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    let me = call.caller().user;
    let found = rows_of::<User>(call, "company", call.caller().company, |user| {
        !flag(user, "isBoss") && Some(user.id()) != me
    });
    Box::pin(listed(call, User::definition(), found, Shown { names: COLLEAGUE, ..PLAIN }))
}

/// Where calls can be forwarded to: voicemails of colleagues and those that all share.
pub(super) fn company_voicemails<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    let found = rows_of::<Voicemail>(call, "company", call.caller().company, |_| true);
    Box::pin(listed(call, Voicemail::definition(), found, PLAIN))
}

/// The voicemails that the caller listens to.
pub(super) fn voicemails<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    let found = rows_where::<Voicemail>(call, |row| call.caller().sees(row, &call.rows));
    Box::pin(listed(call, Voicemail::definition(), found, PLAIN))
}

pub(super) fn company_extensions<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    let found = rows_of::<Extension>(call, "company", call.caller().company, |_| true);
    Box::pin(listed(call, Extension::definition(), found, PLAIN))
}

pub(super) fn company_country<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    Box::pin(async move {
        let company = own_company(call)?;
        let country = behind(&call.rows, &**company, "country").ok_or_else(Problem::not_found)?;
        Ok(routes::one(call, &call.rows, country, Place::Detail, true).await)
    })
}
