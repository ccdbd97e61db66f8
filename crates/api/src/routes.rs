//! From a request to an answer: which resource it names, whether the caller may, and what is done.
//!
//! All entities go through the same few functions here; operations of their own are in `custom`.

use crate::auth::{self, Identity};
use crate::custom;
use crate::docs;
use crate::files::{self, Multipart, Upload};
use crate::http::{Ask, Format, Problem, Query, json_answer, respond};
use crate::list::{self, Page};
use crate::live::{Live, RecordAsk, Who};
use crate::outside::Outside;
use crate::server::Api;
use crate::show::{self, Look, Place};
use crate::write::{self, Document};
use axum::body::Body;
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use jiff::tz::TimeZone;
use model::Id;
use model::define::{Access, Entity, Level, Reading, Table};
use model::draft::Draft;
use model::entities::{
    AdministratorRelPublicEntity, DestinationRateGroup, FaxesInOut, FeaturesRelBrand, FeaturesRelCompany,
    Invoice, TABLES,
};
use model::rows::{Row, Rows};
use model::rules::Refusal;
use model::scope::Caller;
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

/// What a restricted administrator needs a grant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Create,
    Read,
    Update,
    Delete,
}

impl Deed {
    fn of(method: &Method) -> Self {
        match *method {
            Method::POST => Self::Create,
            Method::PUT | Method::PATCH => Self::Update,
            Method::DELETE => Self::Delete,
            _ => Self::Read,
        }
    }
}

/// A request with everything that serving it takes.
pub(crate) struct Call {
    pub(crate) api: Arc<Api>,
    pub(crate) ask: Ask,
    pub(crate) identity: Identity,
    pub(crate) rows: Arc<Rows>,
}

impl Call {
    pub(crate) fn caller(&self) -> &Caller {
        &self.identity.caller
    }

    pub(crate) fn level(&self) -> Level {
        self.ask.level
    }
}

/// Answers a request below `/api/LEVEL`.
pub(crate) async fn serve(api: Arc<Api>, ask: Ask) -> Result<Response<Body>, Problem> {
    if let Some(answer) = docs::anonymous(&ask) {
        return Ok(answer);
    }
    if let Some(answer) = custom::anonymous(&api, &ask).await {
        return answer;
    }
    let rows = api.live.rows();
    let identity = auth::identify(&api.tokens, &rows, &ask)?;
    let zone = ask.query.get("_timezone").filter(|name| !name.is_empty());
    if let Some(name) = zone.filter(|name| TimeZone::get(name).is_err()) {
        let name: String = name.chars().take(40).collect();
        return Err(Problem::bad(format!(
            "_timezone: {name:?} is no time zone; write one like Europe/Madrid"
        )));
    }
    let call = Call { api, ask, identity, rows };
    if let Some(answer) = docs::context(&call.ask) {
        return if call.ask.method == Method::GET { answer } else { Err(not_allowed(&[("GET", true)])) };
    }
    if let Some(answer) = custom::serve(&call).await {
        return answer;
    }
    let segments: Vec<&str> = call.ask.path.iter().map(String::as_str).collect();
    let level = call.level();
    let Some((first, rest)) = segments.split_first() else { return Err(Problem::not_found()) };
    let table = TABLES.iter().copied().find(|table| !table.path.is_empty() && table.path == *first);
    let table = table
        .and_then(|table| Some((table, table.access(level)?)))
        .filter(|(_, access)| access.operations != model::define::Operations::default());
    let Some((table, access)) = table else {
        own_methods(&call)?;
        return Err(Problem::not_found());
    };
    let known = access.operations;
    let method = call.ask.method.clone();
    let is_a_row = rest.first().is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_digit()));
    if rest.len() > 1 || (rest.len() == 1 && !is_a_row) {
        own_methods(&call)?;
    }
    match rest {
        [] => match method {
            Method::GET if known.list => {
                allow(table, access, Deed::Read, call.caller(), &call.rows)?;
                can_be_made(&call, access.csv)?;
                list(&call, table, access).await
            }
            Method::POST if known.create => {
                allow(table, access, Deed::Create, call.caller(), &call.rows)?;
                can_be_made(&call, false)?;
                create(&call, table, access).await
            }
            _ => {
                let mut methods = vec![("GET", known.list), ("POST", known.create)];
                methods.extend(custom::methods(&call).into_iter().map(|name| (name, true)));
                Err(not_allowed(&methods))
            }
        },
        [id] => {
            if !(known.get || known.change || known.delete) {
                return Err(Problem::not_found());
            }
            let offered = match method {
                Method::GET => known.get,
                Method::PUT => known.change,
                Method::DELETE => known.delete,
                _ => false,
            };
            if !offered {
                return Err(not_allowed(&[
                    ("GET", known.get),
                    ("PUT", known.change),
                    ("DELETE", known.delete),
                ]));
            }
            allow(table, access, Deed::of(&method), call.caller(), &call.rows)?;
            if method != Method::DELETE {
                can_be_made(&call, false)?;
            }
            let row = find_kept(&call, table, id).await?;
            match method {
                Method::PUT => change(&call, table, access, &row).await,
                Method::DELETE => delete(&call, table, &row).await,
                _ => Ok(one(&call, &call.rows, &row, Place::Detail, true).await),
            }
        }
        [id, file] => {
            let field = files::fields(table)
                .find(|field| field.eq_ignore_ascii_case(file))
                .ok_or_else(Problem::not_found)?;
            if !table.field(field).is_some_and(|field| field.view(level).detail || field.view(level).list) {
                return Err(Problem::not_found());
            }
            if method != Method::GET {
                return Err(not_allowed(&[("GET", true)]));
            }
            allow(table, access, Deed::Read, call.caller(), &call.rows)?;
            let row = find_kept(&call, table, id).await?;
            files::download(&call.api.surroundings.storage, &*row, field).await
        }
        _ => Err(Problem::not_found()),
    }
}

/// Refuses a request whose answer could not be made in any form that the caller takes, before anything is done.
fn can_be_made(call: &Call, csv: bool) -> Result<(), Problem> {
    if call.ask.takes_json() || (csv && call.ask.format == Format::Csv) {
        return Ok(());
    }
    let more = if csv { ", text/csv" } else { "" };
    let detail = format!(
        "this can be had as application/json, application/ld+json{more}; write one of them as Accept"
    );
    Err(Problem::new(StatusCode::NOT_ACCEPTABLE, detail))
}

/// Refuses a method that no operation has at this path where another one does.
fn own_methods(call: &Call) -> Result<(), Problem> {
    let methods: Vec<(&str, bool)> = custom::methods(call).into_iter().map(|name| (name, true)).collect();
    if methods.is_empty() { Ok(()) } else { Err(not_allowed(&methods)) }
}

/// The resource is there and has not this method.
fn not_allowed(methods: &[(&str, bool)]) -> Problem {
    let allow: Vec<&str> = methods.iter().filter(|(_, known)| *known).map(|(name, _)| *name).collect();
    let problem =
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("this resource has {}", allow.join(", ")));
    Problem { allow: Some(allow.join(", ")), ..problem }
}

/// Whether the caller may do this to rows of the table at all: grants, features, types of clients.
pub(crate) fn allow(
    table: &'static Table,
    access: &'static Access,
    deed: Deed,
    caller: &Caller,
    rows: &Rows,
) -> Result<(), Problem> {
    let denied = || Err(Problem::forbidden("Access Denied."));
    if access.acl && caller.restricted && !granted(table, deed, caller, rows) {
        return denied();
    }
    if !access.brand_feature.is_empty() && !brand_has(rows, caller, access.brand_feature) {
        return denied();
    }
    if !access.company_feature.is_empty() && !company_has(rows, caller, access.company_feature) {
        return denied();
    }
    if !access.company_types.is_empty() || access.needs_invoices {
        let Some(company) = caller.own_company(rows) else { return denied() };
        let kind = model::define::Choice::name(company.kind);
        if !access.company_types.is_empty() && !access.company_types.iter().any(|known| known.name() == kind)
        {
            return denied();
        }
        if access.needs_invoices && company.show_invoices != Some(true) {
            return denied();
        }
    }
    Ok(())
}

/// Whether a restricted administrator has the grant.
pub(crate) fn granted(table: &Table, deed: Deed, caller: &Caller, rows: &Rows) -> bool {
    granted_name(&table.full_name(), deed, caller, rows)
}

/// [`granted`], by the name of what is granted: the last part of its full name, or the whole.
pub(crate) fn granted_name(name: &str, deed: Deed, caller: &Caller, rows: &Rows) -> bool {
    let Some(administrator) = caller.administrator else { return true };
    rows.of::<AdministratorRelPublicEntity>("administrator", administrator).any(|grant| {
        let right = rows.get(grant.public_entity).is_some_and(|kind| kind.means(name));
        right
            && match deed {
                Deed::Create => grant.create,
                Deed::Read => grant.read,
                Deed::Update => grant.update,
                Deed::Delete => grant.delete,
            }
    })
}

/// Whether the caller's brand has a feature.
pub(crate) fn brand_has(rows: &Rows, caller: &Caller, feature: &str) -> bool {
    let brand = caller.brand.unwrap_or(0);
    rows.of::<FeaturesRelBrand>("brand", brand)
        .any(|pair| rows.get(pair.feature).is_some_and(|known| known.iden == feature))
}

/// Whether the caller's client has a feature.
pub(crate) fn company_has(rows: &Rows, caller: &Caller, feature: &str) -> bool {
    let company = caller.company.unwrap_or(0);
    rows.of::<FeaturesRelCompany>("company", company)
        .any(|pair| rows.get(pair.feature).is_some_and(|known| known.iden == feature))
}

/// An id as addresses write it: digits alone.
pub(crate) fn id_of(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The row with this id, if it is there for the caller.
pub(crate) fn find(call: &Call, table: &'static Table, id: &str) -> Result<Row, Problem> {
    let id = id_of(id).ok_or_else(Problem::not_found)?;
    let row = call.rows.row(table, id).filter(|row| call.caller().sees(&***row, &call.rows));
    row.cloned().ok_or_else(Problem::not_found)
}

/// [`find`], also of records that are kept elsewhere.
pub(crate) async fn find_kept(call: &Call, table: &'static Table, id: &str) -> Result<Row, Problem> {
    let number = id_of(id).ok_or_else(Problem::not_found)?;
    row_of(&call.api.live, &call.rows, call.caller(), table, number).await
}

/// The row with this id, among the rows or where records are kept, if it is there for the caller.
pub(crate) async fn row_of(
    live: &Live,
    rows: &Rows,
    caller: &Caller,
    table: &'static Table,
    id: u32,
) -> Result<Row, Problem> {
    let kept = if table.records { live.keeper().record(table, id).await } else { None };
    let row = match kept {
        Some(kept) => kept.map_err(crate::live::ChangeError::from)?,
        None => rows.row(table, id).cloned(),
    };
    row.filter(|row| caller.sees(&**row, rows)).ok_or_else(Problem::not_found)
}

/// A row by itself, in the caller's format.
pub(crate) async fn one(call: &Call, rows: &Rows, row: &Row, place: Place, expand: bool) -> Response<Body> {
    let status = if place == Place::Created { StatusCode::CREATED } else { StatusCode::OK };
    let living = show::ask_living(
        &*call.api.surroundings.outside,
        rows,
        call.caller(),
        place,
        std::slice::from_ref(row),
    )
    .await;
    let look = Look { caller: call.caller(), rows, living: &living };
    let mut shown = look.row(&**row, place, expand);
    let names = call.ask.query.list("_properties");
    if !names.is_empty() && place == Place::Detail && call.ask.format == Format::Json {
        keep(&mut shown, &names);
    }
    let mut response = item_answer(call, row.table(), shown, status);
    if let Ok(tag) = HeaderValue::from_str(&show::tag(rows, &**row, call.level())) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Refuses a change of a row that is not any more as the caller knows it.
fn check_state(call: &Call, rows: &Rows, row: Option<&Row>) -> Result<(), Refusal> {
    let row = row.ok_or(Refusal::Gone)?;
    if call.ask.matches(&show::tag(rows, &**row, call.level())) {
        return Ok(());
    }
    let message = "If-Match: somebody else has changed this; read it anew, and change that".to_owned();
    Err(Refusal::Coded { status: StatusCode::PRECONDITION_FAILED.as_u16(), message })
}

/// A shown row in the caller's format.
pub(crate) fn item_answer(
    call: &Call,
    table: &'static Table,
    shown: Map<String, Json>,
    status: StatusCode,
) -> Response<Body> {
    if call.ask.format != Format::JsonLd {
        return json_answer(status, &Json::Object(shown));
    }
    let mut linked = Map::new();
    linked.insert("@context".to_owned(), json!(context(call.level(), table)));
    linked.extend(linked_row(call.level(), table, shown));
    respond(status, "application/ld+json; charset=utf-8", Json::Object(linked).to_string())
}

fn context(level: Level, table: &Table) -> String {
    format!("/api/{}/contexts/{}", level.name(), table.name)
}

fn linked_row(level: Level, table: &Table, shown: Map<String, Json>) -> Map<String, Json> {
    let mut linked = Map::new();
    let id = shown.get("id").cloned().unwrap_or(Json::Null);
    linked.insert("@id".to_owned(), json!(format!("/api/{}/{}/{id}", level.name(), table.path)));
    linked.insert("@type".to_owned(), json!(table.name));
    linked.extend(shown);
    linked
}

/// Drops what `_properties` does not name.
pub(crate) fn keep(shown: &mut Map<String, Json>, names: &[&str]) {
    let wanted: Vec<&str> = names.iter().map(|name| name.split('.').next().unwrap_or(name)).collect();
    shown.retain(|name, _| wanted.contains(&name.as_str()));
}

/// The page of a list that the request asks for: of the rows, or of records that are kept elsewhere.
async fn page(call: &Call, table: &'static Table, access: &'static Access) -> Result<Page, Problem> {
    page_of(&call.api.live, &call.rows, call.caller(), table, access, &call.ask.query).await
}

/// A page of rows, or of records that are kept elsewhere.
pub(crate) async fn page_of(
    live: &Live,
    rows: &Rows,
    caller: &Caller,
    table: &'static Table,
    access: &'static Access,
    query: &Query,
) -> Result<Page, Problem> {
    if table.records {
        let ask = list::records(table, access, caller, rows, query)?;
        if let Some(found) = live.keeper().records(&ask).await {
            let found = found.map_err(crate::live::ChangeError::from)?;
            return list::record_page(found, table, access, caller, rows, query);
        }
    }
    list::page(table, access, caller, rows, query)
}

/// The page of records that the request asks for, of those that name this row. None: records are among the rows.
pub(crate) async fn records(
    call: &Call,
    table: &'static Table,
    access: &'static Access,
    of: (&'static str, u32),
) -> Result<Option<Page>, Problem> {
    let query = &call.ask.query;
    let mut ask = list::records(table, access, call.caller(), &call.rows, query)?;
    (ask.reference, ask.text) = (Some(of), None);
    let Some(found) = call.api.live.keeper().records(&ask).await else { return Ok(None) };
    let found = found.map_err(crate::live::ChangeError::from)?;
    list::record_page(found, table, access, call.caller(), &call.rows, query).map(Some)
}

/// How many records there are of those that are asked for. None: records are among the rows.
pub(crate) async fn count_records(call: &Call, ask: &RecordAsk) -> Result<Option<usize>, Problem> {
    let Some(found) = call.api.live.keeper().records(ask).await else { return Ok(None) };
    Ok(Some(found.map_err(crate::live::ChangeError::from)?.total))
}

async fn list(
    call: &Call,
    table: &'static Table,
    access: &'static Access,
) -> Result<Response<Body>, Problem> {
    let page = page(call, table, access).await?;
    list_answer(call, table, access, &page).await
}

/// A page of rows in the caller's format.
pub(crate) async fn list_answer(
    call: &Call,
    table: &'static Table,
    access: &'static Access,
    page: &Page,
) -> Result<Response<Body>, Problem> {
    let living =
        show::ask_living(&*call.api.surroundings.outside, &call.rows, call.caller(), Place::List, &page.rows)
            .await;
    let look = Look { caller: call.caller(), rows: &call.rows, living: &living };
    let csv = call.ask.format == Format::Csv;
    let expand = access.list_expands && !csv;
    let names = call.ask.query.list("_properties");
    let mut shown: Vec<Map<String, Json>> =
        page.rows.iter().map(|row| look.row(&**row, Place::List, expand)).collect();
    if !names.is_empty() {
        shown.iter_mut().for_each(|row| keep(row, &names));
    }
    Ok(shown_list(call, table, access, page, shown))
}

/// Rows that are shown already, in the caller's format, with the headers of their page.
pub(crate) fn shown_list(
    call: &Call,
    table: &'static Table,
    access: &'static Access,
    page: &Page,
    shown: Vec<Map<String, Json>>,
) -> Response<Body> {
    match call.ask.format {
        Format::Csv if access.csv => {
            respond(StatusCode::OK, "text/csv; charset=utf-8", csv_text(call.level(), table, &shown))
        }
        Format::JsonLd => hydra(call, table, page, shown),
        _ => {
            let body: Json = shown.into_iter().map(Json::Object).collect();
            let mut response = json_answer(StatusCode::OK, &body);
            if let Some(total) = page.total {
                page_headers(call, page, total, &mut response);
            }
            response
        }
    }
}

/// The headers by which callers find the other pages.
pub(crate) fn page_headers(call: &Call, page: &Page, total: usize, response: &mut Response<Body>) {
    let last = page.last();
    let link = |number: usize| format!("{}?_page={number}", call.ask.raw_path);
    let headers = [
        ("x-total-items", total.to_string()),
        ("x-total-pages", last.to_string()),
        ("x-first-page", link(1)),
        ("x-next-page", link((page.number + 1).min(last))),
        ("x-last-page", link(last)),
    ];
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
}

fn hydra(call: &Call, table: &'static Table, page: &Page, shown: Vec<Map<String, Json>>) -> Response<Body> {
    let level = call.level();
    let path = &call.ask.raw_path;
    let members: Json = shown.into_iter().map(|row| Json::Object(linked_row(level, table, row))).collect();
    let mut body = json!({
        "@context": context(level, table),
        "@id": path,
        "@type": "hydra:Collection",
        "hydra:member": members,
        "hydra:totalItems": page.total.unwrap_or(page.rows.len()),
    });
    if page.total.is_some() {
        let last = page.last();
        let link = |number: usize| json!(format!("{path}?_page={number}"));
        let mut view = json!({ "@id": link(page.number), "@type": "hydra:PartialCollectionView" });
        if last > 1 {
            view["hydra:first"] = link(1);
            view["hydra:last"] = link(last);
            if page.number < last {
                view["hydra:next"] = link(page.number + 1);
            }
            if page.number > 1 {
                view["hydra:previous"] = link(page.number - 1);
            }
        }
        body["hydra:view"] = view;
    }
    respond(StatusCode::OK, "application/ld+json; charset=utf-8", body.to_string())
}

/// Rows as comma-separated values, with the names of the list's fields on top.
fn csv_text(level: Level, table: &'static Table, shown: &[Map<String, Json>]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for place in table.shown_order() {
        let field = &table.fields[place];
        if field.view(level).list {
            names.push(field.name);
        }
    }
    if let Some(first) = shown.first() {
        names.retain(|name| first.contains_key(*name));
    }
    csv_lines(&names, shown)
}

/// These parts of objects as comma-separated values, with their names on top.
pub(crate) fn csv_lines(names: &[&str], shown: &[Map<String, Json>]) -> String {
    let mut text = names.join(",");
    text.push('\n');
    for row in shown {
        let cells: Vec<String> =
            names.iter().map(|name| csv_cell(row.get(*name).unwrap_or(&Json::Null))).collect();
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    text
}

fn csv_cell(value: &Json) -> String {
    let text = match value {
        Json::Null => return String::new(),
        Json::Bool(flag) => u8::from(*flag).to_string(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    csv_text_cell(&text)
}

/// A text as a cell of comma-separated values. What a spreadsheet would run as a formula gets an apostrophe before it, so
/// that it is read as a text.
pub(crate) fn csv_text_cell(text: &str) -> String {
    let apostrophe = if is_formula(text) { "'" } else { "" };
    let quoted = text.chars().any(|c| c.is_whitespace() || matches!(c, '"' | ',' | '\\' | ';'));
    if quoted {
        format!("\"{apostrophe}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{apostrophe}{text}")
    }
}

/// Whether a spreadsheet would run a cell with this text. Numbers with a sign, as those of telephones, are none.
fn is_formula(text: &str) -> bool {
    match text.chars().next() {
        Some('=' | '@' | '\t' | '\r') => true,
        Some('+' | '-') => {
            let rest = &text[1..];
            rest.is_empty()
                || !rest.bytes().all(|b| b.is_ascii_digit() || b == b'.')
                || rest.bytes().filter(|b| *b == b'.').count() > 1
        }
        _ => false,
    }
}

/// The row's document and its files, of a JSON or a multipart body.
pub(crate) async fn body(
    call: &Call,
    table: &'static Table,
) -> Result<(Map<String, Json>, Multipart), Problem> {
    if call.ask.content_type() == "multipart/form-data" {
        let parts = Multipart::read(&call.ask).await?;
        let mut document = parts.document()?;
        files::describe(table, &parts.files, &mut document);
        return Ok((document, parts));
    }
    match call.ask.content_type() {
        ""
        | "application/json"
        | "application/ld+json"
        | "application/x-www-form-urlencoded"
        | "text/plain" => {
            let mut document = write::object(call.ask.json()?)?;
            files::undescribe(table, &mut document);
            Ok((document, Multipart::default()))
        }
        other => {
            let detail = format!("a body of {other:?} is not read here; send application/json");
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
        }
    }
}

/// Whether a new row stands for work: a fax to be sent, an invoice to be made.
pub(crate) fn is_work(table: &Table) -> bool {
    is::<FaxesInOut>(table) || is::<Invoice>(table)
}

fn is<E: Entity>(table: &Table) -> bool {
    table.index == E::definition().index
}

/// Refuses work that nobody here would do.
pub(crate) async fn is_taken_on(outside: &dyn Outside, table: &Table) -> Result<(), Problem> {
    let taken = match table {
        table if is::<FaxesInOut>(table) => outside.sends_faxes().await,
        table if is::<Invoice>(table) => outside.makes_invoices().await,
        _ => Ok(()),
    };
    taken.map_err(|part| Problem::missing(&part))
}

/// Changes a row and keeps the files that came with it: both, or nothing. `make` says the row's id.
async fn save(
    call: &Call,
    table: &'static Table,
    uploads: &[Upload],
    make: impl Fn(&mut Draft<'_>) -> Result<u32, Refusal> + Send + Sync,
) -> Result<(u32, Arc<Rows>), Problem> {
    let (live, level, who) = (&call.api.live, Some(call.level()), call.identity.who());
    let files = files::of_fields(table, uploads);
    if files.is_empty() {
        return Ok(live.change(level, &who, make).await?);
    }
    let storage = &call.api.surroundings.storage;
    let make = |draft: &mut Draft<'_>| {
        let id = make(draft)?;
        storage.admit(draft.rows(), table, id, &files)?;
        if is::<DestinationRateGroup>(table) {
            // One that looks like the file before may say something else.
            draft.change(Id::<DestinationRateGroup>::new(id), DestinationRateGroup::wait_for_import)?;
        }
        Ok(id)
    };
    let lacks_room = |field: &str, error: std::io::Error| {
        tracing::error!(%error, entity = table.name, field, "an uploaded file is not kept");
        let detail = format!("{field}: the file cannot be kept now; the platform's operator is told why");
        Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail)
    };
    // What would be refused is not written first.
    live.try_out(level, &who, make).await?;
    let incoming = storage.receive(&files).await.map_err(|(field, error)| lacks_room(field, error))?;
    let (id, step) = live.change_in_steps(level, &who, make).await?;
    let row = step.after.row(table, id).cloned().ok_or_else(Problem::not_found)?;
    let (its_live, its_storage) = (Arc::clone(live), Arc::clone(storage));
    // Also when the caller does not wait any more.
    let settled = tokio::spawn(async move { its_storage.settle(&its_live, incoming, &row).await });
    let Err(error) = settled.await.map_err(std::io::Error::other).flatten() else {
        return Ok((id, step.after));
    };
    let before = step.before.row(table, id);
    let take_back = |draft: &mut Draft<'_>| match (before, draft.rows().row(table, id)) {
        (_, None) => Ok(()),
        (None, Some(_)) => draft.delete_row(table, id),
        (Some(before), Some(now)) => {
            let mut row = now.copy();
            for (field, _) in &files {
                let Some(place) = table.place(field) else { continue };
                let described = row.set(place, &before.get(place).stored(), &Reading::stored(draft.now()));
                described.map_err(|fault| Refusal::wrong(field, fault.to_string()))?;
            }
            draft.put(row)
        }
    };
    live.change(None, &Who::system(), take_back).await?;
    Err(lacks_room(files.first().map_or("file", |(field, _)| field), error))
}

async fn create(
    call: &Call,
    table: &'static Table,
    access: &'static Access,
) -> Result<Response<Body>, Problem> {
    is_taken_on(&*call.api.surroundings.outside, table).await?;
    let (document, parts) = body(call, table).await?;
    let caller = call.caller();
    let document = Document::hashed(document, &call.api.tokens, caller, table).await?;
    let document = document.with_wrong_files(files::mistakes(table, &parts.files));
    let make = |draft: &mut Draft<'_>| write::create(draft, table, access, caller, &document);
    let (id, rows) = save(call, table, &parts.files, make).await?;
    let row = rows.row(table, id).ok_or_else(Problem::not_found)?;
    if access.create_lists {
        let mut response = one(call, &rows, row, Place::List, access.list_expands).await;
        *response.status_mut() = StatusCode::CREATED;
        return Ok(response);
    }
    Ok(one(call, &rows, row, Place::Created, access.create_expands).await)
}

async fn change(
    call: &Call,
    table: &'static Table,
    access: &'static Access,
    row: &Row,
) -> Result<Response<Body>, Problem> {
    let (document, parts) = body(call, table).await?;
    let caller = call.caller();
    let id = row.id();
    let document = Document::hashed(document, &call.api.tokens, caller, table).await?;
    let document = document.with_wrong_files(files::mistakes(table, &parts.files));
    let make = |draft: &mut Draft<'_>| {
        check_state(call, draft.rows(), draft.rows().row(table, id))?;
        write::change(draft, table, caller, id, &document).map(|()| id)
    };
    let (_, rows) = save(call, table, &parts.files, make).await?;
    let row = rows.row(table, id).ok_or_else(Problem::not_found)?;
    Ok(one(call, &rows, row, Place::Changed, access.change_expands).await)
}

async fn delete(call: &Call, table: &'static Table, row: &Row) -> Result<Response<Body>, Problem> {
    let caller = call.caller();
    let id = row.id();
    let also: Vec<u32> = call.ask.query.list("_rmAlso").into_iter().filter_map(id_of).collect();
    let make = |draft: &mut Draft<'_>| {
        check_state(call, draft.rows(), draft.rows().row(table, id))?;
        write::delete(draft, table, caller, id)?;
        for also in &also {
            let there = draft.rows().row(table, *also).is_some_and(|row| caller.sees(&**row, draft.rows()));
            if there {
                write::delete(draft, table, caller, *also)?;
            }
        }
        Ok(())
    };
    call.api.live.change(Some(call.level()), &call.identity.who(), make).await?;
    Ok(respond(StatusCode::NO_CONTENT, "application/json; charset=utf-8", Body::empty()))
}

/// The table of an entity with what the caller's level may do.
pub(crate) fn of<E: Entity>(level: Level) -> Result<(&'static Table, &'static Access), Problem> {
    let table = E::definition();
    Ok((table, table.access(level).ok_or_else(Problem::not_found)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_a_spreadsheet_would_run_are_texts() {
        for text in ["=1+2", "@SUM(A1)", "\tx", "\r", "+34-1", "-cmd", "+", "-2+3", "+1.2.3"] {
            let cell = csv_text_cell(text);
            assert!(cell.trim_start_matches('"').starts_with('\''), "{text:?} is {cell:?}");
        }
        assert_eq!(
            csv_text_cell("=HYPERLINK(\"http://x\",\"y\")"),
            "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\""
        );
        for text in ["+34944048184", "-1", "-0.25", "34", "a=b", "", "2026-01-31"] {
            assert_eq!(csv_text_cell(text), text);
        }
    }
}
