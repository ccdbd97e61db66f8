//! Many wishes as one change: which row each is about, references by what they name, and what came of it.
//!
//! In: wishes. Out: one change like every other, or nothing, and all rows that differ. Elsewhere: writing a row (`write`).

use super::told::{self, Key};
use super::{Act, Asked, entity, may, not_made, refused, status, wrong};
use crate::files;
use crate::http::parse_json;
use crate::live::ChangeError;
use crate::routes;
use crate::show::MASK;
use crate::work;
use crate::write::{self, Document};
use model::define::{Access, Field, How, Kind, Reading, Table};
use model::draft::Draft;
use model::rows::{Row, Rows};
use model::rules::{Mistake, Refusal};
use model::scope::Caller;
use parking_lot::Mutex;
use proto::v1;
use serde_json::{Map, Value as Json};
use std::sync::atomic::{AtomicUsize, Ordering};
use tonic::Status;

/// Most wishes of one call.
const MOST_WISHES: usize = 1000;
/// Most people's passwords in one call: each takes its time to be hashed.
const MOST_PASSWORDS: usize = 50;
/// How deep references may be written as what they name.
const DEEPEST: usize = 4;
/// Most rows that an answer tells of.
const MOST_CHANGES: usize = 5000;

/// A wish that was read.
struct Wanted {
    table: &'static Table,
    access: &'static Access,
    id: Option<u32>,
    document: Document,
    /// What is wrong with the document by itself.
    mistakes: Vec<Mistake>,
    delete: bool,
}

/// A document of a request: an object with fields that there are for the caller.
pub(super) fn read(
    caller: &Caller,
    table: &'static Table,
    id: Option<u32>,
    json: &str,
) -> Result<Map<String, Json>, Status> {
    match read_all(caller, table, id, json)? {
        (document, mistakes) if mistakes.is_empty() => Ok(document),
        (_, mistakes) => Err(refused(Refusal::Invalid(mistakes))),
    }
}

/// [`read`]: what is right of it, and the mistakes.
fn read_all(
    caller: &Caller,
    table: &'static Table,
    id: Option<u32>,
    json: &str,
) -> Result<(Map<String, Json>, Vec<Mistake>), Status> {
    let json = parse_json(json.as_bytes()).map_err(status)?;
    let mut document = write::object(json).map_err(status)?;
    let mut mistakes = Vec::new();
    let mut mistake = |field: &str, remedy: String| {
        mistakes.push(Mistake { field: field.to_owned(), remedy });
    };
    for (name, value) in &document {
        let field = table.field(name).map(|field| caller.view(field));
        let view = field.or_else(|| table.computed(name).map(|computed| caller.view_computed(computed)));
        let seen = view.is_some_and(|view| {
            view.list || view.detail || view.changed || view.created || view.create || view.change
        });
        if name == "id" {
            if id.is_none_or(|id| value.as_u64() != Some(id.into())) {
                mistake(name, "leave it out, or let it be the id of the row that is changed".to_owned());
            }
        } else if !seen {
            let why = format!("{} has no such field here; its documents say which there are", table.name);
            mistake(name, why);
        } else if value.is_number() && table.field(name).is_some_and(|field| matches!(field.kind, Kind::Text))
        {
            // Where a number was meant as a text, +34 and 0034 have lost something by now.
            mistake(name, "write a text: in quotes".to_owned());
        }
    }
    document.retain(|name, _| mistakes.iter().all(|mistake: &Mistake| mistake.field != *name));
    files::undescribe(table, &mut document);
    Ok((document, mistakes))
}

/// What is masked means "as it is", and of a new row nothing is yet.
pub(super) fn unmasked(table: &Table, document: &Map<String, Json>) -> Result<(), Refusal> {
    let masked = table
        .fields
        .iter()
        .find(|field| document.get(field.name).is_some_and(|value| write::is_masked(field, value)));
    let remedy = format!("write a value: {MASK:?} means the one that is there, and there is none yet");
    masked.map_or(Ok(()), |field| Err(Refusal::wrong(field.name, remedy)))
}

pub(super) async fn apply(asked: &Asked<'_>, request: v1::ApplyRequest) -> Result<v1::ApplyResponse, Status> {
    let caller = asked.caller();
    let wanted = wishes(asked, request.wishes).await?;
    if wanted.iter().any(|wish| !wish.mistakes.is_empty()) {
        return Err(refused(all_mistakes(asked, &wanted, None).await));
    }
    let place = AtomicUsize::new(0);
    let each = |draft: &mut Draft<'_>| {
        let mut outcomes = Vec::with_capacity(wanted.len());
        for (at, wish) in wanted.iter().enumerate() {
            place.store(at, Ordering::Relaxed);
            outcomes.push(fulfil(draft, caller, wish)?);
        }
        // What is refused from here on is not about one of them.
        place.store(usize::MAX, Ordering::Relaxed);
        Ok(outcomes)
    };
    let make = |draft: &mut Draft<'_>| work::in_place(|| each(draft));
    let (live, who) = (&asked.api.live, asked.identity.who());
    let made = if request.dry_run {
        live.try_out(asked.identity.level(), &who, make).await
    } else {
        live.change_in_steps(asked.identity.level(), &who, make).await
    };
    let (outcomes, step) = match made {
        Ok(made) => made,
        Err(ChangeError::Refused(refusal)) if place.load(Ordering::Relaxed) < wanted.len() => {
            let first = (place.load(Ordering::Relaxed), refusal);
            return Err(refused(all_mistakes(asked, &wanted, Some(first)).await));
        }
        Err(error) => return Err(not_made(error)),
    };
    let mut keys: Vec<Key> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for change in step.changes.iter().filter(|change| !change.table.records) {
        for key in told::concerned(change.table, change.before.as_ref(), change.after.as_ref()) {
            if known.insert(key) {
                keys.push(key);
            }
        }
    }
    let (before, after) = (&*step.before, &*step.after);
    let more = keys.len().saturating_sub(MOST_CHANGES);
    keys.truncate(MOST_CHANGES);
    let changes: Vec<v1::Change> =
        keys.into_iter().filter_map(|key| told::change(caller, before, after, key)).collect();
    let outcomes = wanted.iter().zip(outcomes).map(|(wish, (id, deed))| {
        let told = |change: &v1::Change| change.entity == wish.table.name && change.id == id;
        let same = deed == v1::Deed::Changed && more == 0 && !changes.iter().any(told);
        let deed = if same { v1::Deed::None } else { deed };
        v1::Outcome { entity: wish.table.name.to_owned(), id, deed: deed.into() }
    });
    let outcomes = outcomes.collect();
    let more = u32::try_from(more).unwrap_or(u32::MAX);
    Ok(v1::ApplyResponse { outcomes, changes, revision: step.after.revision, more })
}

async fn wishes(asked: &Asked<'_>, wishes: Vec<v1::Wish>) -> Result<Vec<Wanted>, Status> {
    if wishes.is_empty() {
        return Err(wrong("wishes", "there is none; send at least one"));
    }
    if wishes.len() > MOST_WISHES {
        let why = format!("there are {}; send at most {MOST_WISHES} at once", wishes.len());
        return Err(Status::resource_exhausted(format!("wishes: {why}")));
    }
    let caller = asked.caller();
    let mut passwords = 0;
    let mut wanted = Vec::with_capacity(wishes.len());
    for (at, wish) in wishes.into_iter().enumerate() {
        let of_wish = |error: Status| {
            Status::with_details(
                error.code(),
                format!("wish {} ({}): {}", at + 1, wish.entity, error.message()),
                bytes::Bytes::copy_from_slice(error.details()),
            )
        };
        let (table, access) = entity(caller, &wish.entity).map_err(status).map_err(of_wish)?;
        if wish.id.is_none() && !wish.delete {
            let outside = &*asked.api.surroundings.outside;
            routes::is_taken_on(outside, table).await.map_err(status).map_err(of_wish)?;
        }
        let json = if wish.json.is_empty() && wish.delete { "{}" } else { &wish.json };
        let (document, mistakes) = read_all(caller, table, wish.id, json).map_err(of_wish)?;
        let people = table.fields.iter().filter(|field| matches!(field.kind, Kind::Password));
        passwords += people.filter(|field| document.get(field.name).is_some_and(|pass| pass != MASK)).count();
        if passwords > MOST_PASSWORDS {
            let why = format!(
                "wishes: there are more passwords than {MOST_PASSWORDS}; send at most so many at once"
            );
            return Err(Status::resource_exhausted(why));
        }
        let document = Document::hashed(document, &asked.api.tokens, caller, table).await.map_err(status)?;
        wanted.push(Wanted { table, access, id: wish.id, document, mistakes, delete: wish.delete });
    }
    Ok(wanted)
}

/// All that is wrong with the wishes, each by itself; at least the first refusal, where there is one.
async fn all_mistakes(asked: &Asked<'_>, wanted: &[Wanted], first: Option<(usize, Refusal)>) -> Refusal {
    let found: Mutex<Vec<(usize, Refusal)>> = Mutex::default();
    let each = |draft: &mut Draft<'_>| -> Result<(), Refusal> {
        let mut found = found.lock();
        found.clear();
        let mut missing: Vec<&str> = Vec::new();
        for (at, wish) in wanted.iter().enumerate() {
            let made = draft.attempt(|draft| fulfil(draft, asked.caller(), wish));
            let why = match made {
                Ok(_) if wish.mistakes.is_empty() => continue,
                Ok(_) => None,
                Err(refusal) => unless_it_follows(refusal, &missing),
            };
            let own = (!wish.mistakes.is_empty()).then(|| Refusal::Invalid(wish.mistakes.clone()));
            found.extend(own.into_iter().chain(why).map(|refusal| (at, refusal)));
            missing.push(wish.table.name);
        }
        Ok(())
    };
    let look = |draft: &mut Draft<'_>| work::in_place(|| each(draft));
    // It is what is wrong that is wanted of it.
    let _ = asked.api.live.try_out(asked.identity.level(), &asked.identity.who(), look).await;
    let mut found = found.into_inner();
    if let Some(first) = first.filter(|(at, _)| found.iter().all(|(other, _)| other != at)) {
        found.insert(0, first);
    }
    let mut headed = found.into_iter().map(|(at, refusal)| about(at, wanted.get(at), refusal));
    match (headed.next(), headed.next()) {
        (Some(only), None) => only,
        (one, other) => {
            Refusal::Invalid(one.into_iter().chain(other).chain(headed).flat_map(mistakes_of).collect())
        }
    }
}

/// The refusal, without references to rows that are missing only because the wishes for them are refused themselves.
fn unless_it_follows(refusal: Refusal, missing: &[&str]) -> Option<Refusal> {
    let is_missing = |text: &str| {
        let mut words = text.strip_prefix("there is no ").unwrap_or_default().split([' ', ';']);
        let name = words.next().filter(|word| *word != "such").or_else(|| words.next());
        name.is_some_and(|name| missing.contains(&name))
    };
    let left = |mut mistakes: Vec<Mistake>| {
        mistakes.retain(|mistake| !is_missing(&mistake.remedy));
        (!mistakes.is_empty()).then_some(mistakes)
    };
    match refusal {
        Refusal::Dangling { entity, .. } if missing.contains(&entity) => None,
        Refusal::Invalid(mistakes) => left(mistakes).map(Refusal::Invalid),
        Refusal::Nowhere(mistakes) => left(mistakes).map(Refusal::Nowhere),
        refusal => Some(refusal),
    }
}

/// A refusal as mistakes; what is about no field is one of the whole.
fn mistakes_of(refusal: Refusal) -> Vec<Mistake> {
    match refusal {
        Refusal::Invalid(mistakes) | Refusal::Nowhere(mistakes) => mistakes,
        Refusal::OutOfReach(mistakes) if !mistakes.is_empty() => mistakes,
        Refusal::Dangling { field, entity, id } => {
            vec![Mistake { field, remedy: format!("there is no {entity} {id}") }]
        }
        other => vec![Mistake { field: String::new(), remedy: other.to_string() }],
    }
}

/// Says which wish a refusal is about.
fn about(at: usize, wish: Option<&Wanted>, refusal: Refusal) -> Refusal {
    let Some(wish) = wish else { return refusal };
    let head = format!("wish {} ({})", at + 1, wish.table.name);
    let headed = |mistakes: Vec<Mistake>| -> Vec<Mistake> {
        let of_wish = |mistake: Mistake| {
            let dot = if mistake.field.is_empty() { "" } else { "." };
            Mistake { field: format!("{head}{dot}{}", mistake.field), ..mistake }
        };
        mistakes.into_iter().map(of_wish).collect()
    };
    match refusal {
        Refusal::Invalid(mistakes) => Refusal::Invalid(headed(mistakes)),
        Refusal::Nowhere(mistakes) => Refusal::Nowhere(headed(mistakes)),
        Refusal::OutOfReach(mistakes) if mistakes.is_empty() => {
            Refusal::Forbidden(format!("{head}: {}", Refusal::OutOfReach(mistakes)))
        }
        Refusal::OutOfReach(mistakes) => Refusal::OutOfReach(headed(mistakes)),
        Refusal::Forbidden(why) => Refusal::Forbidden(format!("{head}: {why}")),
        Refusal::Taken { message, mistakes } => {
            Refusal::Taken { message: format!("{head}: {message}"), mistakes: headed(mistakes) }
        }
        Refusal::Gone => Refusal::Coded {
            status: 404,
            message: format!("{head}: there is no such row; leave out the id to make one"),
        },
        Refusal::Dangling { field, entity, id } => {
            Refusal::Dangling { field: format!("{head}.{field}"), entity, id }
        }
        Refusal::Coded { status, message } => {
            Refusal::Coded { status, message: format!("{head}: {message}") }
        }
    }
}

/// Does what a wish says, within the change.
fn fulfil(draft: &mut Draft<'_>, caller: &Caller, wish: &Wanted) -> Result<(u32, v1::Deed), Refusal> {
    let Wanted { table, access, id, document, delete, .. } = wish;
    let document = document.with(named(draft, caller, table, document, 0)?);
    let id = match id {
        Some(id) => {
            let row = draft.rows().row(table, *id);
            Some(
                row.filter(|row| caller.sees(&***row, draft.rows()))
                    .map(|row| row.id())
                    .ok_or(Refusal::Gone)?,
            )
        }
        None => write::same(draft, table, access, caller, &document)?,
    };
    let allowed = |act: Act, rows: &Rows| {
        may(caller, table, access, act, rows).map_err(|problem| Refusal::Forbidden(problem.detail))
    };
    match (id, *delete) {
        (None, true) => {
            allowed(Act::Delete, draft.rows())?;
            Ok((0, v1::Deed::None))
        }
        (Some(id), true) => {
            allowed(Act::Delete, draft.rows())?;
            write::delete(draft, table, caller, id)?;
            Ok((id, v1::Deed::Deleted))
        }
        (Some(id), false) => {
            allowed(Act::Change, draft.rows())?;
            write::change(draft, table, caller, id, &document)?;
            Ok((id, v1::Deed::Changed))
        }
        (None, false) => {
            allowed(Act::Create, draft.rows())?;
            unmasked(table, &document)?;
            let id = write::create(draft, table, access, caller, &document)?;
            Ok((id, v1::Deed::Created))
        }
    }
}

/// The document with ids where references and sets are written as what they name.
fn named(
    draft: &Draft<'_>,
    caller: &Caller,
    table: &'static Table,
    document: &Map<String, Json>,
    depth: usize,
) -> Result<Map<String, Json>, Refusal> {
    let mut document = document.clone();
    for field in table.fields {
        let Kind::Reference(target) = field.kind else { continue };
        if let Some(json) = document.get_mut(field.name) {
            resolve(draft, caller, target(), field.name, json, depth)?;
        }
    }
    for computed in table.computed {
        let target = match computed.how {
            How::Pairs(through, _, theirs) => match through().field(theirs).map(|field| field.kind) {
                Some(Kind::Reference(target)) => target(),
                _ => continue,
            },
            How::Members(members, _) => members(),
            How::Derived(_) | How::Live(_) => continue,
        };
        for json in document.get_mut(computed.name).and_then(Json::as_array_mut).into_iter().flatten() {
            resolve(draft, caller, target, computed.name, json, depth)?;
        }
    }
    Ok(document)
}

/// Rows of a table that are looked through for one.
const MOST_LOOKED_AT: usize = 5000;

/// The only row that is there for the caller and has these values, as a time zone has its name though nothing says that it
/// occurs once.
fn only_fitting(
    draft: &Draft<'_>,
    caller: &Caller,
    table: &'static Table,
    access: &'static Access,
    object: &Map<String, Json>,
) -> Result<Option<u32>, String> {
    let reading = Reading { zone: &caller.zone, now: draft.now(), hasher: None };
    let mut wanted = (table.make)();
    let mut places = Vec::new();
    for (name, json) in object {
        let plain = |field: &Field| {
            matches!(
                field.kind,
                Kind::Text | Kind::Choice(_) | Kind::Bool | Kind::Int(..) | Kind::Reference(_)
            ) && caller.view(field).list
        };
        let place = table.place(name).filter(|place| plain(&table.fields[*place]));
        match place.filter(|place| wanted.set(*place, json, &reading).is_ok()) {
            Some(place) => places.push(place),
            None => return Ok(None),
        }
    }
    let rows = draft.rows();
    if places.is_empty() || rows.count(table) > MOST_LOOKED_AT {
        return Ok(None);
    }
    let fits =
        |row: &&Row| places.iter().all(|place| row.get(*place).stored() == wanted.get(*place).stored());
    let mut fitting = caller.visible(table, access, rows).filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(Some(only.id())),
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err("several rows are like this".to_owned()),
    }
}

/// Puts an id in the place of an object that names a row.
fn resolve(
    draft: &Draft<'_>,
    caller: &Caller,
    target: &'static Table,
    field: &str,
    json: &mut Json,
    depth: usize,
) -> Result<(), Refusal> {
    let Some(object) = json.as_object().filter(|object| !object.contains_key("id")) else { return Ok(()) };
    if depth >= DEEPEST {
        return Err(Refusal::wrong(field, format!("name rows at most {DEEPEST} deep")));
    }
    let keys = || -> String {
        let set = |places: &&[usize]| {
            places.iter().map(|place| target.fields[*place].name).collect::<Vec<_>>().join(" and ")
        };
        match target.unique.iter().map(set).collect::<Vec<_>>().join(", or ") {
            none if none.is_empty() => "its id, or by fields that no other has".to_owned(),
            sets => format!("its id, or by {sets}"),
        }
    };
    let Some(access) = caller.access(target) else {
        return Err(Refusal::wrong(field, "name the row by its id"));
    };
    let object = named(draft, caller, target, object, depth + 1)?;
    let found = match write::same(draft, target, access, caller, &object)? {
        None => only_fitting(draft, caller, target, access, &object)
            .map_err(|why| Refusal::wrong(field, format!("{why}; name the {} by {}", target.name, keys())))?,
        found => found,
    };
    match found {
        Some(id) => {
            *json = Json::from(id);
            Ok(())
        }
        None => {
            Err(Refusal::wrong(field, format!("there is no such {}; name it by {}", target.name, keys())))
        }
    }
}
