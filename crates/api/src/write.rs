//! From a request's body to saved rows: which fields the caller may write, what the scope fills in, sets of related rows.
//!
//! In: JSON and a caller. Out: changes in a draft, or every mistake with its field. Elsewhere: the rules (crate `model`).

use crate::auth::Tokens;
use crate::http::Problem;
use crate::power;
use crate::show::MASK;
use jiff::Timestamp;
use model::define::{
    Access, Computed, Field, How, Kind, LEAST_PASSWORD, Level, OnDelete, Reading, Record, Rule, SecretHasher,
    Table,
};
use model::draft::Draft;
use model::entities::Company;
use model::id::Id;
use model::rows::{Row, Rows};
use model::rules::{Mistake, Refusal, Trial};
use model::scope::Caller;
use serde_json::{Map, Value as Json};
use std::ops::Deref;

/// What a caller says of a row.
#[derive(Default)]
pub(crate) struct Document {
    fields: Map<String, Json>,
    /// Passwords in it, with their hashes.
    hashes: Vec<(String, String)>,
    /// What is wrong with the files that came with it.
    wrong_files: Vec<Mistake>,
}

impl Document {
    /// The document with what is wrong with its files, to be told with all else.
    pub(crate) fn with_wrong_files(self, wrong_files: Vec<Mistake>) -> Self {
        Self { wrong_files, ..self }
    }

    /// The document with its passwords hashed already: that takes long on purpose, and would hold up everybody else's
    /// changes where it is made.
    pub(crate) async fn hashed(
        fields: Map<String, Json>,
        tokens: &Tokens,
        caller: &Caller,
        table: &Table,
    ) -> Result<Self, Problem> {
        let mut hashes = Vec::new();
        for field in table.fields.iter().filter(|field| matches!(field.kind, Kind::Password)) {
            let plain = fields.get(field.name).and_then(Json::as_str).unwrap_or_default();
            let fits = (LEAST_PASSWORD..=field.max).contains(&plain.chars().count());
            if !plain.is_empty() && plain != MASK && fits {
                hashes.push((plain.to_owned(), tokens.hash(caller, plain).await?));
            }
        }
        Ok(Self { fields, hashes, wrong_files: Vec::new() })
    }

    /// Other fields, with the same passwords hashed.
    pub(crate) fn with(&self, fields: Map<String, Json>) -> Self {
        Self { fields, hashes: self.hashes.clone(), wrong_files: self.wrong_files.clone() }
    }
}

impl From<Map<String, Json>> for Document {
    fn from(fields: Map<String, Json>) -> Self {
        Self { fields, ..Self::default() }
    }
}

impl Deref for Document {
    type Target = Map<String, Json>;

    fn deref(&self) -> &Self::Target {
        &self.fields
    }
}

/// Gives the hashes that were made ahead.
struct Ahead<'a> {
    hashes: &'a [(String, String)],
    otherwise: &'a dyn SecretHasher,
}

impl SecretHasher for Ahead<'_> {
    fn hash(&self, password: &str) -> String {
        let made = self.hashes.iter().find(|(plain, _)| plain == password);
        made.map_or_else(|| self.otherwise.hash(password), |(_, hash)| hash.clone())
    }
}

/// References that a rule asks about before anything else does: where they lead nowhere, the rule answers.
const KIND_IS_ASKED: [(&str, &str); 2] = [("Webhook", "company"), ("WebPortal", "company")];

/// Most ids in one set of related rows.
const MOST_RELATED: usize = 5000;

/// Makes a row of the body and saves it, with its sets of related rows. Out: its id.
pub(crate) fn create(
    draft: &mut Draft<'_>,
    table: &'static Table,
    access: &'static Access,
    caller: &Caller,
    body: &Document,
) -> Result<u32, Refusal> {
    let mut row = (table.make)();
    let filled = fill_scope(&mut *row, access, caller, draft.now())?;
    let may = |place: usize| caller.view(&table.fields[place]).create;
    let mut faults = Faults { mistakes: apply(&mut *row, body, caller, draft, may), nowhere: Vec::new() };
    for (place, field) in table.fields.iter().enumerate() {
        if field.now && !body.contains_key(field.name) {
            set(&mut *row, place, &Json::from("CURRENT_TIMESTAMP"), draft.now())?;
        }
        let given = body.get(field.name).is_some_and(|value| !value.is_null() && !is_masked(field, value));
        if field.must_be_given()
            && !given
            && !filled.contains(&place)
            && may(place)
            && !faults.names(field.name)
        {
            faults.mistakes.push(mistake(field.name, "it must be given"));
        }
    }
    // Rules about ids hold for the one that it is about to get.
    row.set_id(draft.rows().next_id(table));
    judge(draft, &*row, None, body, caller, may, faults, |computed| caller.view_computed(computed).create)?;
    let id = draft.create_row(row)?;
    relate(draft, table, caller, id, body, |computed| caller.view_computed(computed).create)?;
    Ok(id)
}

/// The row that has the values of the body in a set of fields that occur once, each of them named by the body or filled in by
/// the caller's scope; of several sets the first that finds one. A tenant that is not named is none: of such rows exactly one
/// must fit. None: there is no such row for the caller.
pub(crate) fn same(
    draft: &Draft<'_>,
    table: &'static Table,
    access: &'static Access,
    caller: &Caller,
    body: &Map<String, Json>,
) -> Result<Option<u32>, Refusal> {
    let mut row = (table.make)();
    let filled = fill_scope(&mut *row, access, caller, draft.now())?;
    let reading = Reading { zone: &caller.zone, now: draft.now(), hasher: None };
    let given = |place: usize| body.get(table.fields[place].name).filter(|json| !json.is_null());
    let known = |place: usize| filled.contains(&place) || given(place).is_some();
    for place in table.unique.iter().copied().flatten().copied().filter(|place| !filled.contains(place)) {
        // What cannot be read is told of when it is written.
        if given(place).is_some_and(|json| row.set(place, json, &reading).is_err()) {
            return Ok(None);
        }
    }
    let rows = draft.rows();
    for (set, places) in table.unique.iter().enumerate() {
        let found = rows.clash(&*row, places, set).filter(|_| places.iter().all(|place| known(*place)));
        if let Some(found) = found.filter(|found| caller.sees(&***found, rows)) {
            return Ok(Some(found.id()));
        }
    }
    let tenant = |place: usize| matches!(table.fields[place].name, "brand" | "company");
    for places in table.unique {
        let free = places.iter().any(|place| !known(*place));
        let named = places.iter().all(|place| known(*place) || tenant(*place));
        if !free || !named || places.iter().all(|place| tenant(*place)) {
            continue;
        }
        let fits =
            |found: &&Row| places.iter().all(|place| found.get(*place).stored() == row.get(*place).stored());
        let mut fitting = caller.visible(table, access, rows).filter(fits);
        if let Some(found) = fitting.next() {
            if fitting.next().is_some() {
                let names: Vec<&str> = places.iter().map(|place| table.fields[*place].name).collect();
                return Err(Refusal::wrong(
                    "id",
                    format!("several rows have the same {}; say which by its id", names.join(", ")),
                ));
            }
            return Ok(Some(found.id()));
        }
    }
    Ok(None)
}

/// Changes a row by the body: what it does not name stays.
pub(crate) fn change(
    draft: &mut Draft<'_>,
    table: &'static Table,
    caller: &Caller,
    id: u32,
    body: &Document,
) -> Result<(), Refusal> {
    change_fields(draft, table, caller, id, body, |place| caller.view(&table.fields[place]).change)
}

/// [`change`] of the fields that `may` allows, for operations of their own.
pub(crate) fn change_fields(
    draft: &mut Draft<'_>,
    table: &'static Table,
    caller: &Caller,
    id: u32,
    body: &Document,
    may: impl Fn(usize) -> bool,
) -> Result<(), Refusal> {
    let before = draft.rows().row(table, id).cloned().ok_or(Refusal::Gone)?;
    let mut row = before.copy();
    let faults = Faults { mistakes: apply(&mut *row, body, caller, draft, &may), nowhere: Vec::new() };
    let sets = |computed: &Computed| caller.view_computed(computed).change;
    judge(draft, &*row, Some(&*before), body, caller, may, faults, sets)?;
    draft.save(row)?;
    relate(draft, table, caller, id, body, sets)
}

/// Deletes a row, if the caller may.
pub(crate) fn delete(
    draft: &mut Draft<'_>,
    table: &'static Table,
    caller: &Caller,
    id: u32,
) -> Result<(), Refusal> {
    let row = draft.rows().row(table, id).cloned().ok_or(Refusal::Gone)?;
    if !caller.may_delete(&*row, draft.rows()) {
        return Err(denied());
    }
    power::check(caller, Some(&*row), None, draft.rows())?;
    draft.delete_row(table, id)
}

fn denied() -> Refusal {
    Refusal::OutOfReach(Vec::new())
}

fn set(row: &mut dyn Record, place: usize, json: &Json, now: Timestamp) -> Result<(), Refusal> {
    let name = row.table().fields[place].name;
    row.set(place, json, &Reading::stored(now)).map_err(|fault| Refusal::wrong(name, fault.to_string()))
}

/// Fills in the brand, the client or the user that the level's scope demands; out: the places filled.
pub(crate) fn fill_scope(
    row: &mut dyn Record,
    access: &'static Access,
    caller: &Caller,
    now: Timestamp,
) -> Result<Vec<usize>, Refusal> {
    let mut wanted: Vec<(&str, Option<u32>)> = Vec::new();
    let rules = if access.write.is_empty() { access.read } else { access.write };
    gather(rules, caller, &mut wanted);
    gather(access.read, caller, &mut wanted);
    let table = row.table();
    for (name, id) in [("brand", caller.brand), ("company", caller.company)] {
        if table.field(name).is_some_and(|field| !field.nullable) {
            wanted.push((name, id));
        }
    }
    let mut filled = Vec::new();
    for (name, id) in wanted {
        let (Some(place), Some(id)) = (table.place(name), id) else { continue };
        if place > 0 && !filled.contains(&place) {
            set(row, place, &Json::from(id), now)?;
            filled.push(place);
        }
    }
    Ok(filled)
}

fn gather(rules: &'static [Rule], caller: &Caller, wanted: &mut Vec<(&'static str, Option<u32>)>) {
    for rule in rules {
        match rule {
            Rule::OwnBrand(name) => wanted.push((name, caller.brand)),
            Rule::OwnCompany(name) => wanted.push((name, caller.company)),
            Rule::Myself(name) => wanted.push((name, caller.user)),
            Rule::All(rules) => gather(rules, caller, wanted),
            _ => {}
        }
    }
}

/// Whether a value stands for the one that is there: what was shown masked is sent back masked.
pub(crate) fn is_masked(field: &Field, json: &Json) -> bool {
    json.as_str() == Some(MASK) && (field.masked || matches!(field.kind, Kind::Secret | Kind::Password))
}

/// Sets the fields that the body names and the caller may write; out: what is wrong with them.
fn apply(
    row: &mut dyn Record,
    body: &Document,
    caller: &Caller,
    draft: &Draft<'_>,
    may: impl Fn(usize) -> bool,
) -> Vec<Mistake> {
    let table = row.table();
    let hasher = Ahead { hashes: &body.hashes, otherwise: draft.env().hasher };
    let reading = Reading { zone: &caller.zone, now: draft.now(), hasher: Some(&hasher) };
    let mut mistakes = body.wrong_files.clone();
    for (place, field) in table.fields.iter().enumerate().skip(1) {
        let Some(json) = body.get(field.name) else { continue };
        if !may(place) {
            continue;
        }
        if is_masked(field, json) {
            // What was shown masked is sent back masked: it stays.
            continue;
        }
        let merged;
        let json = match (field.kind, json) {
            // Parts of a group that are not named stay.
            (Kind::Group(_), Json::Object(parts)) => {
                let mut whole = row.get(place).stored();
                if let Json::Object(known) = &mut whole {
                    known.extend(parts.iter().map(|(name, part)| (name.clone(), part.clone())));
                }
                merged = whole;
                &merged
            }
            (_, json) => json,
        };
        if json.is_null() && !field.takes_null() {
            if matches!(field.kind, Kind::Group(_)) {
                continue;
            }
            mistakes.push(Mistake { field: field.name.to_owned(), remedy: "it may not be null".to_owned() });
            continue;
        }
        if let Err(fault) = row.set(place, json, &reading) {
            mistakes.push(Mistake { field: field.name.to_owned(), remedy: fault.to_string() });
        }
    }
    mistakes
}

/// What is wrong with a document.
struct Faults {
    /// Fields whose values cannot be.
    mistakes: Vec<Mistake>,
    /// References that name no row that is there for the caller, by the field's place.
    nowhere: Vec<(usize, Refusal)>,
}

impl Faults {
    fn names(&self, field: &str) -> bool {
        self.mistakes.iter().any(|mistake| mistake.field == field)
    }

    fn none(&self) -> bool {
        self.mistakes.is_empty() && self.nowhere.is_empty()
    }

    /// All of them as one refusal.
    fn refusal(mut self) -> Refusal {
        match &mut self.nowhere[..] {
            [(_, only)] if self.mistakes.is_empty() => only.clone(),
            nowhere => {
                let named = nowhere.iter().flat_map(|(_, refusal)| match refusal {
                    Refusal::Dangling { field, entity, id } => {
                        vec![mistake(field, format!("there is no {entity} {id}"))]
                    }
                    Refusal::Invalid(mistakes) => mistakes.clone(),
                    _ => Vec::new(),
                });
                let named: Vec<Mistake> = named.collect();
                if self.mistakes.is_empty() {
                    return Refusal::Nowhere(named);
                }
                self.mistakes.extend(named);
                Refusal::Invalid(self.mistakes)
            }
        }
    }
}

fn mistake(field: &str, remedy: impl Into<String>) -> Mistake {
    Mistake { field: field.to_owned(), remedy: remedy.into() }
}

/// Whether the document may become this row, by what is known before it is saved: every mistake in one answer.
#[allow(clippy::too_many_arguments, reason = "one question with all that it is about")]
fn judge(
    draft: &Draft<'_>,
    row: &dyn Record,
    before: Option<&dyn Record>,
    body: &Document,
    caller: &Caller,
    may: impl Fn(usize) -> bool,
    mut faults: Faults,
    sets: impl Fn(&Computed) -> bool,
) -> Result<(), Refusal> {
    let (rows, table) = (draft.rows(), row.table());
    for computed in table.computed {
        let is_set = matches!(computed.how, How::Pairs(..) | How::Members(..)) && sets(computed);
        if let Some(Err(Refusal::Invalid(wrong))) =
            body.get(computed.name).filter(|_| is_set).map(|json| ids(computed.name, json))
        {
            faults.mistakes.extend(wrong);
        }
    }
    let named = |place: usize| body.contains_key(table.fields[place].name) && may(place);
    for place in places(table, caller, |rule| matches!(rule, Rule::Visible(_))) {
        let field = &table.fields[place];
        if row.get(place).is_null() && field.nullable && may(place) && !faults.names(field.name) {
            faults.mistakes.push(mistake(field.name, "it must be given"));
        }
    }
    let of_reach = |rule: &Rule| matches!(rule, Rule::Visible(_) | Rule::VisibleOrNull(_));
    // Whose the row is to be comes first, and what else must hold of it: then it is out of reach, whatever it refers to.
    let rules = table.access(caller.level).into_iter().flat_map(Access::leaves);
    let mut strict = rules.filter(|rule| !of_reach(rule));
    let is_out = strict.any(|rule| !caller.all_hold(std::slice::from_ref(rule), row, before, rows));
    if faults.none() && is_out {
        check_scope(rows, row, before, caller, &may)?;
    }
    let reach = places(table, caller, of_reach);
    // References that are what they were are judged with the whole row.
    let same = |place: usize| before.is_some_and(|before| before.get(place).id() == row.get(place).id());
    faults.nowhere = lost(rows, row, caller, Some(&reach), |place| named(place) && !same(place));
    if faults.none() {
        check_scope(rows, row, before, caller, &may)?;
        faults.nowhere = lost(rows, row, caller, None, named);
    }
    if faults.none() {
        return Ok(());
    }
    add_rules(draft, row, before, &mut faults);
    Err(faults.refusal())
}

/// Adds what the rules say of the row beside what is wrong with it already, and which of its values others have that must be
/// there once.
fn add_rules(draft: &Draft<'_>, row: &dyn Record, before: Option<&dyn Record>, faults: &mut Faults) {
    let table = row.table();
    let wrong: Vec<usize> =
        faults.mistakes.iter().filter_map(|mistake| table.place(&mistake.field)).collect();
    let lost: Vec<usize> = faults.nowhere.iter().map(|(place, _)| *place).collect();
    let (rows, now, level) = (draft.rows(), draft.now(), draft.env().level);
    let trial = Trial { row, old: before, rows, now, level, unique: true };
    for mistake in trial.beside(&wrong, &lost) {
        let is_lost = lost.iter().any(|place| table.fields[*place].name == mistake.field);
        if !is_lost && !faults.names(&mistake.field) {
            faults.mistakes.push(mistake);
        }
    }
}

/// Places of fields that such conditions of the caller's reach are about.
fn places(table: &'static Table, caller: &Caller, such: impl Fn(&Rule) -> bool) -> Vec<usize> {
    let rules = caller.access(table).into_iter().flat_map(Access::leaves);
    rules.filter(|rule| such(rule)).filter_map(|rule| table.place(rule.field()?)).collect()
}

/// References that the body names must lead to a row that exists for the caller; those that do not. Another tenant's row
/// does not exist, and that is told before the rules look at it: what they say would tell one from the other. `reach`: places
/// of references that the caller's reach is judged by; none: it was judged.
fn lost(
    rows: &Rows,
    row: &dyn Record,
    caller: &Caller,
    reach: Option<&[usize]>,
    named: impl Fn(usize) -> bool,
) -> Vec<(usize, Refusal)> {
    let mut lost = Vec::new();
    for (place, field) in row.table().fields.iter().enumerate().skip(1) {
        let Kind::Reference(target) = field.kind else { continue };
        let Some(id) = row.get(place).id().filter(|_| named(place)) else { continue };
        let is_judged = reach.is_some_and(|reach| reach.contains(&place));
        let unseen = || is_judged && rows.row(target(), id).is_some_and(|row| hidden(rows, caller, &**row));
        if reach.is_some() && is_given(caller, target()) {
            let seen = rows.row(target(), id).is_some_and(|row| caller.sees(&**row, rows));
            // Out of reach is what is not seen, whether it is there or not.
            if seen || is_judged {
                continue;
            }
        } else if is_there(rows, caller, target(), id) && !unseen() {
            continue;
        }
        let entity = target().name;
        let refusal = if KIND_IS_ASKED.contains(&(row.table().name, field.name)) {
            Refusal::wrong(field.name, format!("there is no {entity} {id} here"))
        } else {
            Refusal::Dangling { field: field.name.to_owned(), entity, id }
        };
        lost.push((place, refusal));
    }
    lost
}

/// Whether the table's rows are the platform's, and the caller, a brand, sees those that were given to it: sets of servers, addresses.
fn is_given(caller: &Caller, table: &Table) -> bool {
    let owned = table.place("brand").is_some() || table.place("company").is_some();
    let is_chosen = |access: &Access| access.read.iter().any(|rule| matches!(rule, Rule::Where(_)));
    caller.level == Level::Brand && !owned && caller.access(table).is_some_and(is_chosen)
}

/// Whether a row that the caller does not see is that of somebody else: of a client, to its brand; of the platform.
fn hidden(rows: &Rows, caller: &Caller, row: &dyn Record) -> bool {
    let table = row.table();
    let owned = table.place("brand").is_some() || table.place("company").is_some();
    if caller.level == Level::Platform || !owned || caller.sees(row, rows) {
        return false;
    }
    let company = row.reference("company");
    let own = match caller.company {
        Some(own) => company == Some(own),
        None => company.is_none() && row.reference("brand") == caller.brand,
    };
    !own
}

/// Whether the row belongs to another tenant than the caller.
fn foreign(rows: &Rows, caller: &Caller, row: &dyn Record) -> bool {
    let company = match row.table().name {
        "Company" => Some(row.id()),
        _ => row.reference("company"),
    };
    let brand = match row.table().name {
        "Brand" => Some(row.id()),
        _ => row.reference("brand"),
    };
    let brand = brand.or_else(|| Some(rows.at(company.map(Id::<Company>::new))?.brand.get()));
    if brand.is_none() && company.is_none() {
        return part_of_foreign(rows, caller, row);
    }
    let other_company = caller.company.is_some() && company.is_some() && company != caller.company;
    let other_brand = caller.brand.is_some() && brand.is_some() && brand != caller.brand;
    // Clients of one corporation call each other: they know each other's names, and no more.
    let related = other_company && row.table().name == "Company" && {
        let corporation =
            |id: Option<u32>| rows.at(id.map(Id::<Company>::new)).and_then(|company| company.corporation);
        corporation(company).is_some() && corporation(company) == corporation(caller.company)
    };
    other_brand || (other_company && !related)
}

/// Whether a row that names no tenant is part of a row of another tenant: a holiday of a calendar, an entry of an IVR.
fn part_of_foreign(rows: &Rows, caller: &Caller, row: &dyn Record) -> bool {
    row.table().fields.iter().enumerate().any(|(place, field)| {
        let Kind::Reference(target) = field.kind else { return false };
        let part = field.on_delete == OnDelete::Cascade && target().index != row.table().index;
        let whole = row.get(place).id().filter(|_| part).and_then(|id| rows.row(target(), id));
        whole.is_some_and(|whole| foreign(rows, caller, &**whole))
    })
}

fn check_scope(
    rows: &Rows,
    row: &dyn Record,
    before: Option<&dyn Record>,
    caller: &Caller,
    may: impl Fn(usize) -> bool,
) -> Result<(), Refusal> {
    if caller.may_write(row, before, rows) {
        return power::check(caller, before, Some(row), rows);
    }
    let table = row.table();
    let rules = caller.access(table).into_iter().flat_map(Access::leaves);
    let fields = rules.filter(|rule| !caller.all_hold(std::slice::from_ref(*rule), row, before, rows));
    let fields = fields.filter_map(|rule| table.place(rule.field()?)).filter(|place| may(*place));
    let named = |place: usize| mistake(table.fields[place].name, "choose one that is within your reach");
    Err(Refusal::OutOfReach(fields.map(named).collect()))
}

/// Replaces the sets of related rows that the body names.
fn relate(
    draft: &mut Draft<'_>,
    table: &'static Table,
    caller: &Caller,
    id: u32,
    body: &Document,
    may: impl Fn(&Computed) -> bool,
) -> Result<(), Refusal> {
    let mut related = false;
    for computed in table.computed {
        let Some(json) = body.get(computed.name) else { continue };
        if !may(computed) {
            continue;
        }
        match computed.how {
            How::Pairs(through, mine, theirs) => {
                let wanted = ids(computed.name, json)?;
                replace_pairs(draft, caller, through(), mine, theirs, id, computed.name, &wanted)?;
                related = true;
            }
            How::Members(members, field) => {
                let wanted = ids(computed.name, json)?;
                replace_members(draft, caller, members(), field, id, computed.name, &wanted)?;
                related = true;
            }
            How::Derived(_) | How::Live(_) => {}
        }
    }
    if related {
        // Rules about the sets are judged with the sets in place.
        let row = draft.rows().row(table, id).map(|row| row.copy()).ok_or(Refusal::Gone)?;
        draft.save(row)?;
    }
    Ok(())
}

fn ids(name: &str, json: &Json) -> Result<Vec<u32>, Refusal> {
    let wrong = || Refusal::wrong(name, "write a list of ids");
    let list = match json {
        Json::Null => return Ok(Vec::new()),
        Json::Array(list) if list.len() <= MOST_RELATED => list,
        _ => return Err(wrong()),
    };
    let id = |json: &Json| {
        let json = json.get("id").unwrap_or(json);
        let number = json.as_u64().or_else(|| json.as_str()?.parse().ok());
        number.and_then(|number| u32::try_from(number).ok())
    };
    let mut ids = Vec::new();
    for json in list {
        let id = id(json).ok_or_else(wrong)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

#[allow(clippy::too_many_arguments, reason = "one call from one place")]
fn replace_pairs(
    draft: &mut Draft<'_>,
    caller: &Caller,
    through: &'static Table,
    mine: &str,
    theirs: &str,
    id: u32,
    name: &str,
    wanted: &[u32],
) -> Result<(), Refusal> {
    let target = match through.field(theirs).map(|field| field.kind) {
        Some(Kind::Reference(target)) => target(),
        _ => return Ok(()),
    };
    let old: Vec<(u32, Option<u32>)> = crate::show::pairs(draft.rows(), through, mine, id)
        .map(|pair| (pair.id(), pair.reference(theirs)))
        .collect();
    for wanted in wanted {
        let new = !old.iter().any(|(_, known)| *known == Some(*wanted));
        if new && !is_there(draft.rows(), caller, target, *wanted) {
            return Err(Refusal::Dangling { field: name.to_owned(), entity: target.name, id: *wanted });
        }
    }
    for (pair, known) in &old {
        if !known.is_some_and(|known| wanted.contains(&known)) {
            draft.delete_row(through, *pair)?;
        }
    }
    for wanted in wanted.iter().filter(|wanted| !old.iter().any(|(_, known)| *known == Some(**wanted))) {
        let mut pair = (through.make)();
        for (field, id) in [(mine, id), (theirs, *wanted)] {
            let Some(place) = through.place(field) else { continue };
            set(&mut *pair, place, &Json::from(id), draft.now())?;
        }
        draft.create_row(pair)?;
    }
    Ok(())
}

fn replace_members(
    draft: &mut Draft<'_>,
    caller: &Caller,
    members: &'static Table,
    field: &str,
    id: u32,
    name: &str,
    wanted: &[u32],
) -> Result<(), Refusal> {
    let Some(place) = members.place(field) else { return Ok(()) };
    let old: Vec<u32> = crate::show::pairs(draft.rows(), members, field, id).map(|row| row.id()).collect();
    let move_to = |draft: &mut Draft<'_>, member: u32, to: Json| -> Result<(), Refusal> {
        let mut row = draft.rows().row(members, member).map(|row| row.copy()).ok_or(Refusal::Gone)?;
        set(&mut *row, place, &to, draft.now())?;
        draft.save(row)
    };
    for member in wanted.iter().filter(|member| !old.contains(member)) {
        if !is_there(draft.rows(), caller, members, *member) {
            return Err(Refusal::Dangling { field: name.to_owned(), entity: members.name, id: *member });
        }
        move_to(draft, *member, Json::from(id))?;
    }
    for member in old.iter().filter(|member| !wanted.contains(member)) {
        move_to(draft, *member, Json::Null)?;
    }
    Ok(())
}

fn is_there(rows: &Rows, caller: &Caller, table: &'static Table, id: u32) -> bool {
    rows.row(table, id).is_some_and(|row| !foreign(rows, caller, &**row))
}

/// The body of a write: an object.
pub(crate) fn object(json: Json) -> Result<Map<String, Json>, Problem> {
    match json {
        Json::Object(object) => Ok(object),
        _ => Err(Problem::bad("write an object")),
    }
}
