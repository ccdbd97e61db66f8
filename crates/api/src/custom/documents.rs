//! Files that are made: archives of recordings, previews, templates of telephones; and jobs that make or send files.
//!
//! Elsewhere: files as they were uploaded (`files`), who makes documents (`Outside`).

use super::archive::{Archive, safe_name};
use super::{BRAND, CLIENT, Gate, Operation, PLATFORM, USER};
use crate::files;
use crate::http::{Problem, respond};
use crate::outside::Template;
use crate::routes::{self, Call, Deed};
use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use bytes::Bytes;
use futures_util::stream;
use jiff::civil::DateTime;
use model::Id;
use model::define::{Entity, Value};
use model::draft::Draft;
use model::entities::{
    BannedAddress, BannedAddressBlocker, FaxesInOut, FaxesInOutKind, FaxesInOutStatus, Invoice,
    InvoiceStatus, InvoiceTemplate, Recording, Terminal, TerminalModel,
};
use model::rows::Row;
use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;

/// Most recordings of one archive.
const MOST_RECORDINGS: usize = 500;
/// Most octets of one archive.
const LARGEST_ARCHIVE: u64 = 1024 * 1024 * 1024;

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::GET,
        path: "recordings/recorded_files_zip",
        levels: &[CLIENT, USER],
        gate: Gate::Entity("Recording", Deed::Read),
        run: |call, _| Box::pin(recordings(call)),
    },
    Operation {
        method: Method::GET,
        path: "invoice_templates/{}/preview",
        levels: &[PLATFORM, BRAND],
        gate: Gate::Entity("InvoiceTemplate", Deed::Read),
        run: |call, open| Box::pin(preview(call, open)),
    },
    Operation {
        method: Method::POST,
        path: "invoices/{}/regenerate",
        levels: &[BRAND],
        gate: Gate::Entity("Invoice", Deed::Create),
        run: |call, open| Box::pin(regenerate(call, open)),
    },
    Operation {
        method: Method::POST,
        path: "faxes_in_outs/{}/resend",
        levels: &[CLIENT, USER],
        gate: Gate::Entity("FaxesInOut", Deed::Create),
        run: |call, open| Box::pin(resend(call, open)),
    },
    Operation {
        method: Method::GET,
        path: "terminal_models/{}/default_template",
        levels: &[PLATFORM],
        gate: Gate::Entity("TerminalModel", Deed::Read),
        run: |call, open| Box::pin(default_template(call, open)),
    },
    Operation {
        method: Method::GET,
        path: "terminal_models/{}/test_generic_template",
        levels: &[PLATFORM],
        gate: Gate::Entity("TerminalModel", Deed::Read),
        run: |call, open| Box::pin(test_generic(call, open)),
    },
    Operation {
        method: Method::GET,
        path: "terminal_models/{}/test_specific_template",
        levels: &[PLATFORM],
        gate: Gate::Entity("TerminalModel", Deed::Read),
        run: |call, open| Box::pin(test_specific(call, open)),
    },
    Operation {
        method: Method::DELETE,
        path: "banned_addresses/antibruteforce/{}",
        levels: &[BRAND],
        gate: Gate::Entity("BannedAddress", Deed::Delete),
        run: |call, open| Box::pin(unban(call, open)),
    },
];

fn find<E: Entity>(call: &Call, open: &[&str]) -> Result<Row, Problem> {
    routes::find(call, E::definition(), open.first().copied().unwrap_or_default())
}

// Recordings.

/// A file on its way into an archive.
struct Entry {
    name: String,
    at: DateTime,
    from: Content,
}

enum Content {
    File(PathBuf),
    Text(String),
}

/// An archive while it is sent: one file of it in memory at a time.
struct Sending {
    archive: Option<Archive>,
    entries: VecDeque<Entry>,
    /// What is sent before the next file.
    ready: VecDeque<Bytes>,
}

async fn recordings(call: &Call) -> Result<Response<Body>, Problem> {
    let table = Recording::definition();
    let wanted = call.ask.query.list("_recordingIds");
    if wanted.is_empty() || wanted.len() > MOST_RECORDINGS {
        let detail = format!("_recordingIds: write 1 to {MOST_RECORDINGS} ids: 1,2");
        return Err(Problem::bad(detail));
    }
    let (mut entries, mut missing, mut size) = (VecDeque::new(), Vec::new(), 0_u64);
    let mut names = HashSet::new();
    let mut found = HashSet::new();
    for id in wanted {
        let Ok(row) = routes::find(call, table, id) else { continue };
        if !found.insert(row.id()) {
            continue;
        }
        let Some(recording) = row.cast::<Recording>() else { continue };
        let given = recording.recorded_file.base_name.as_deref().unwrap_or_default();
        let from = call.api.surroundings.storage.place(table, "recordedFile", row.id());
        let Some(length) = tokio::fs::metadata(&from).await.ok().map(|known| known.len()) else {
            missing.push(format!("{} {given}", row.id()));
            continue;
        };
        size = size.saturating_add(length);
        let mut name = safe_name(given);
        if !names.insert(name.clone()) {
            name = format!("{}-{name}", row.id());
        }
        let at = recording.calldate.to_zoned(call.caller().zone.clone()).datetime();
        entries.push_back(Entry { name, at, from: Content::File(from) });
    }
    if found.is_empty() {
        return Err(Problem::not_found());
    }
    if size > LARGEST_ARCHIVE {
        let detail =
            format!("these recordings have {size} octets, and may have {LARGEST_ARCHIVE}; choose fewer");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    if !missing.is_empty() {
        let text = format!("These recordings have no file:\n{}\n", missing.join("\n"));
        let at = jiff::Timestamp::now().to_zoned(call.caller().zone.clone()).datetime();
        entries.push_back(Entry { name: "missing.txt".to_owned(), at, from: Content::Text(text) });
    }
    let sending = Sending { archive: Some(Archive::default()), entries, ready: VecDeque::new() };
    let body = Body::from_stream(stream::try_unfold(sending, next));
    Ok(files::attachment("application/zip", "recordings.zip", body))
}

/// The next part of an archive.
async fn next(mut sending: Sending) -> std::io::Result<Option<(Bytes, Sending)>> {
    if let Some(ready) = sending.ready.pop_front() {
        return Ok(Some((ready, sending)));
    }
    let Some(entry) = sending.entries.pop_front() else {
        return Ok(sending.archive.take().map(|archive| (Bytes::from(archive.end()), sending)));
    };
    let content = match entry.from {
        Content::File(path) => tokio::fs::read(path).await?,
        Content::Text(text) => text.into_bytes(),
    };
    let header = sending.archive.as_mut().and_then(|archive| archive.header(&entry.name, &content, entry.at));
    let header = header.ok_or_else(|| std::io::Error::other("the archive is full"))?;
    sending.ready.push_back(Bytes::from(content));
    Ok(Some((Bytes::from(header), sending)))
}

// Invoices and faxes.

async fn preview(call: &Call, open: Vec<&str>) -> Result<Response<Body>, Problem> {
    let row = find::<InvoiceTemplate>(call, &open)?;
    let pdf = call
        .api
        .surroundings
        .outside
        .invoice_preview(row.id())
        .await
        .map_err(|part| Problem::missing(&part))?;
    Ok(respond(StatusCode::OK, "application/pdf", pdf))
}

async fn regenerate(call: &Call, open: Vec<&str>) -> Result<Response<Body>, Problem> {
    let row = find::<Invoice>(call, &open)?;
    if !call.caller().may_write(&*row, Some(&*row), &call.rows) {
        return Err(Problem::forbidden("Rejected request during security check"));
    }
    let id = Id::<Invoice>::new(row.id());
    call.api.surroundings.outside.make_invoice(row.id()).await.map_err(|part| Problem::missing(&part))?;
    let make =
        |draft: &mut Draft<'_>| draft.change(id, |invoice| invoice.status = Some(InvoiceStatus::Waiting));
    call.api.live.change(Some(call.level()), &call.identity.who(), make).await?;
    Ok(super::done())
}

async fn resend(call: &Call, open: Vec<&str>) -> Result<Response<Body>, Problem> {
    let row = find::<FaxesInOut>(call, &open)?;
    let fax: &FaxesInOut = row.cast().ok_or_else(Problem::not_found)?;
    if fax.kind != Some(FaxesInOutKind::Out) || fax.status != Some(FaxesInOutStatus::Error) {
        return Err(Problem::bad("only faxes that could not be sent are sent again"));
    }
    let id = fax.id;
    call.api.surroundings.outside.send_fax(id.get()).await.map_err(|part| Problem::missing(&part))?;
    let make = |draft: &mut Draft<'_>| draft.change(id, |fax| fax.status = Some(FaxesInOutStatus::Pending));
    call.api.live.change(Some(call.level()), &call.identity.who(), make).await?;
    Ok(super::done())
}

// Templates of telephones.

fn plain_text(text: String) -> Response<Body> {
    respond(StatusCode::OK, "text/plain; charset=utf-8", text)
}

async fn default_template(call: &Call, open: Vec<&str>) -> Result<Response<Body>, Problem> {
    let row = find::<TerminalModel>(call, &open)?;
    let model: &TerminalModel = row.cast().ok_or_else(Problem::not_found)?;
    let template = match call.ask.query.get("type") {
        Some("generic") => Template::Generic,
        Some("specific") => Template::Specific,
        _ => return Err(Problem::bad("type: write generic or specific")),
    };
    let text = call.api.surroundings.outside.default_template(&model.iden, template).await;
    let text = text.map_err(|part| Problem::missing(&part))?;
    Ok(plain_text(text.ok_or_else(Problem::not_found)?))
}

async fn test_generic(call: &Call, open: Vec<&str>) -> Result<Response<Body>, Problem> {
    let row = find::<TerminalModel>(call, &open)?;
    let model: &TerminalModel = row.cast().ok_or_else(Problem::not_found)?;
    filled(call, model, model.generic_template.as_deref(), None).await
}

async fn test_specific(call: &Call, open: Vec<&str>) -> Result<Response<Body>, Problem> {
    let row = find::<TerminalModel>(call, &open)?;
    let model: &TerminalModel = row.cast().ok_or_else(Problem::not_found)?;
    let mac = call.ask.query.get("mac").map(super::users::plain_mac).unwrap_or_default();
    if mac.is_empty() {
        return Err(Problem::bad("mac: write the MAC address of a terminal"));
    }
    let place = Terminal::definition().unique.iter().position(|places| {
        let mac = Terminal::definition().place("mac");
        places.len() == 1 && places.first().copied() == mac
    });
    let terminal = place.and_then(|set| call.rows.find::<Terminal>(set, &[Value::Text(&mac)]));
    let Some(terminal) = terminal else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "mac: there is no terminal with this address"));
    };
    filled(call, model, model.specific_template.as_deref(), Some(terminal.id.get())).await
}

/// A template as telephones get it. One without a place to fill in is what it is.
async fn filled(
    call: &Call,
    model: &TerminalModel,
    template: Option<&str>,
    terminal: Option<u32>,
) -> Result<Response<Body>, Problem> {
    let Some(template) = template else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "the model has no such template"));
    };
    if !template.contains("<?") {
        return Ok(plain_text(template.to_owned()));
    }
    let text = call.api.surroundings.outside.fill_template(model.id.get(), terminal).await;
    Ok(plain_text(text.map_err(|part| Problem::missing(&part))?))
}

// Addresses.

/// Lets an address in again that was shut out for guessing passwords.
async fn unban(call: &Call, open: Vec<&str>) -> Result<Response<Body>, Problem> {
    let row = find::<BannedAddress>(call, &open)?;
    let address: &BannedAddress = row.cast().ok_or_else(Problem::not_found)?;
    let guessed = address.blocker == Some(BannedAddressBlocker::Antibruteforce);
    if !guessed || !call.caller().may_delete(address, &call.rows) {
        return Err(Problem::forbidden("only addresses that guessed passwords are let in again here"));
    }
    let id = address.id;
    call.api.live.change(Some(call.level()), &call.identity.who(), |draft| draft.delete(id)).await?;
    Ok(respond(StatusCode::NO_CONTENT, "application/json; charset=utf-8", Body::empty()))
}
