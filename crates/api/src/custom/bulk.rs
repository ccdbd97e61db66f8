//! Many rows at once: imports of comma-separated values, events over a range of days, DDIs that are given back.
//!
//! An import says all mistakes with their lines. What is wrong with the file as a whole leaves everything as it was;
//! after that, each line is kept or refused by itself. Elsewhere: users with all that belongs to them (`users`), how the
//! values are set apart (`sheet`).

use super::sheet::{self, Dialect, Line, Wrong};
use super::{BRAND, CLIENT, Gate, Operation, users};
use crate::files::Multipart;
use crate::http::{Problem, json_answer, parse_json};
use crate::routes::{self, Call, Deed};
use crate::show::{Look, Place};
use crate::work;
use crate::write;
use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use jiff::civil::Date;
use model::define::{Entity, Value};
use model::draft::Draft;
use model::entities::{Calendar, Company, Country, Ddi, Extension, ExtensionRouteType, HolidayDate};
use model::rows::Rows;
use model::rules::{Mistake, Refusal};
use model::{Id, checks};
use serde_json::{Map, Value as Json, json};
use std::collections::{HashMap, HashSet};

/// Most octets of an imported file.
const LARGEST_FILE: usize = 2 * 1024 * 1024;
/// Most lines of an imported file.
pub(super) const MOST_LINES: usize = 5000;
/// Most days of a range: a year and a day.
const MOST_DAYS: i32 = 366;

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::POST,
        path: "users/mass_import",
        levels: &[BRAND],
        gate: Gate::Entity("Company", Deed::Create),
        run: |call, _| Box::pin(users::import(call)),
    },
    Operation {
        method: Method::POST,
        path: "extensions/mass_import",
        levels: &[CLIENT],
        gate: Gate::Entity("Extension", Deed::Create),
        run: |call, _| Box::pin(import_extensions(call)),
    },
    Operation {
        method: Method::POST,
        path: "holiday_dates/mass_import",
        levels: &[CLIENT],
        gate: Gate::Entity("HolidayDate", Deed::Create),
        run: |call, _| Box::pin(import_holidays(call)),
    },
    Operation {
        method: Method::POST,
        path: "holiday_dates_range",
        levels: &[CLIENT],
        gate: Gate::Entity("HolidayDate", Deed::Create),
        run: |call, _| Box::pin(holidays_of_range(call)),
    },
    Operation {
        method: Method::POST,
        path: "ddis/unlink",
        levels: &[BRAND],
        gate: Gate::Entity("Ddi", Deed::Create),
        run: |call, _| Box::pin(unlink(call)),
    },
];

/// The multipart body of an import and the text of its file.
pub(super) async fn upload(call: &Call) -> Result<(Multipart, String), Problem> {
    if call.ask.content_type() != "multipart/form-data" {
        let detail = "send multipart/form-data with the file as part csv";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let parts = Multipart::read(&call.ask).await?;
    let content = match parts.files.iter().find(|file| file.part == "csv") {
        Some(file) => file.content.to_vec(),
        None => match parts.text("csv") {
            Some(text) => text.as_bytes().to_vec(),
            None => return Err(Problem::bad("csv: send the file as the part with this name")),
        },
    };
    if content.len() > LARGEST_FILE {
        let detail = format!("csv: a file has at most {LARGEST_FILE} octets; send the rest in another");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    let text = String::from_utf8(content).map_err(|_| Problem::bad("csv: save the file as UTF-8"))?;
    Ok((parts, text))
}

/// The id in a part of the form.
pub(super) fn part_id(parts: &Multipart, name: &str) -> Result<u32, Problem> {
    let text = parts.text(name).map(str::trim).unwrap_or_default();
    text.parse().map_err(|_| Problem::bad(format!("{name}: write the id of a row")))
}

/// A file whose form is wrong: no line of it is kept.
pub(super) struct Broken {
    /// What is wrong.
    pub(super) wrong: Vec<Wrong>,
    /// How many lines it has.
    pub(super) lines: usize,
}

/// What an import answers: `outcome` holds the lines that were refused.
fn answer(outcome: Result<Vec<Wrong>, Broken>, say: fn(&[Wrong]) -> String) -> Response<Body> {
    let (wrong, failed) = match &outcome {
        Ok(refused) => {
            let lines: HashSet<usize> = refused.iter().map(|wrong| wrong.line).collect();
            (refused, lines.len())
        }
        Err(broken) => (&broken.wrong, broken.lines.max(1)),
    };
    let success = wrong.is_empty();
    let failed = if success { 0 } else { failed };
    let body = json!({ "success": success, "errorMsg": say(wrong), "failed": failed });
    json_answer(StatusCode::CREATED, &body)
}

/// Mistakes as text: "3 => the extension …".
pub(super) fn as_text(wrong: &[Wrong]) -> String {
    let lines: Vec<String> =
        wrong.iter().map(|wrong| format!("{} => {}", wrong.line, wrong.remedy)).collect();
    lines.join("\n")
}

/// Mistakes as a list in JSON: `[{"line":3,"msg":"…"}]`.
fn as_list(wrong: &[Wrong]) -> String {
    let list: Json = wrong.iter().map(|wrong| json!({ "line": wrong.line, "msg": wrong.remedy })).collect();
    list.to_string()
}

/// [`answer`] in text.
pub(super) fn text_answer(outcome: Result<Vec<Wrong>, Broken>) -> Response<Body> {
    answer(outcome, as_text)
}

/// Keeps each line by itself, within one change; out: those that are refused.
pub(super) async fn keep_each<L: Sync>(
    call: &Call,
    lines: &[L],
    number: impl Fn(&L) -> usize + Send + Sync,
    keep: impl Fn(&mut Draft<'_>, &L) -> Result<(), Refusal> + Send + Sync,
) -> Result<Vec<Wrong>, Problem> {
    let each = |draft: &mut Draft<'_>| {
        let mut refused = Vec::new();
        for line in lines {
            if let Err(refusal) = draft.attempt(|draft| keep(draft, line)) {
                refused.extend(reasons(&refusal).map(|reason| Wrong::new(number(line), reason)));
            }
        }
        Ok(refused)
    };
    let make = |draft: &mut Draft<'_>| work::in_place(|| each(draft));
    let (refused, _) = call.api.live.change(Some(call.level()), &call.identity.who(), make).await?;
    Ok(refused)
}

fn reasons(refusal: &Refusal) -> impl Iterator<Item = String> {
    let text = refusal.to_string();
    text.lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// A value as messages show it: quoted, and not longer than anybody reads.
pub(super) fn short(value: &str) -> String {
    const LONGEST: usize = 40;
    let more = if value.chars().count() > LONGEST { "…" } else { "" };
    format!("{:?}{more}", value.chars().take(LONGEST).collect::<String>())
}

/// Says which values stand in two lines; `key` is empty where there is none.
pub(super) fn repeated<L>(
    lines: &[L],
    what: &str,
    number: impl Fn(&L) -> usize,
    key: impl Fn(&L) -> String,
) -> Vec<Wrong> {
    let mut first: HashMap<String, usize> = HashMap::new();
    let mut wrong = Vec::new();
    for line in lines {
        let key = key(line);
        if key.is_empty() {
            continue;
        }
        match first.get(&key) {
            Some(before) => {
                let remedy = format!("{what} {} is in line {before} already; keep one of them", short(&key));
                wrong.push(Wrong::new(number(line), remedy));
            }
            None => {
                first.insert(key, number(line));
            }
        }
    }
    wrong
}

/// Which lines do not have as many cells as they must.
pub(super) fn uneven(lines: &[Line], fits: impl Fn(usize) -> bool, remedy: &str) -> Vec<Wrong> {
    let uneven = lines.iter().filter(|line| !fits(line.cells.len()));
    uneven
        .map(|line| Wrong::new(line.number, format!("it has {} cells; {remedy}", line.cells.len())))
        .collect()
}

/// What is looked at before any line is kept.
pub(super) struct Form<'a> {
    /// Whether the first line says what the columns are.
    pub(super) header: &'a (dyn Fn(&Line) -> bool + Sync),
    /// What is wrong with the file as a whole.
    pub(super) whole: &'a (dyn Fn(&[Line]) -> Vec<Wrong> + Sync),
    /// What is wrong with a line, without looking at any row: said together with what is wrong with the whole.
    pub(super) line: &'a (dyn Fn(&Line) -> Vec<Mistake> + Sync),
}

/// The lines of a file, or what is wrong with its form.
pub(super) fn lines_of(text: &str, dialect: Dialect, form: &Form<'_>) -> Result<Vec<Line>, Broken> {
    let mut lines = sheet::read(text, dialect, MOST_LINES + 1)
        .map_err(|wrong| Broken { wrong: vec![wrong], lines: text.lines().count() })?;
    if lines.first().is_some_and(|line| (form.header)(line)) {
        lines.remove(0);
    }
    let mut wrong = (form.whole)(&lines);
    if lines.is_empty() {
        wrong.push(Wrong::new(1, "the file has no lines"));
    }
    if lines.len() > MOST_LINES {
        let remedy = format!("a file has at most {MOST_LINES} lines; send the rest in another");
        wrong.push(Wrong::new(lines.last().map_or(1, |line| line.number), remedy));
    }
    if wrong.is_empty() {
        return Ok(lines);
    }
    for line in &lines {
        let mistakes = (form.line)(line).into_iter();
        wrong.extend(
            mistakes.map(|mistake| Wrong::new(line.number, format!("{}: {}", mistake.field, mistake.remedy))),
        );
    }
    wrong.sort_by_key(|wrong| wrong.line);
    Err(Broken { wrong, lines: lines.len() })
}

// Extensions.

/// Extensions that lead to numbers: extension, calling code, number, and the country's code where several countries have
/// the same calling code.
async fn import_extensions(call: &Call) -> Result<Response<Body>, Problem> {
    let (_, text) = upload(call).await?;
    let company = call.caller().own_company(&call.rows).ok_or_else(Problem::not_found)?.id;
    let header = |line: &Line| !line.cell(0).starts_with(|c: char| c.is_ascii_digit());
    let check = |lines: &[Line]| {
        let fits = |count| count == 3 || count == 4;
        let mut wrong =
            uneven(lines, fits, "write extension, calling code, number and, if need be, the country's code");
        wrong.extend(repeated(lines, "extension", |line| line.number, |line| line.cell(0).to_owned()));
        wrong
    };
    let form = Form { header: &header, whole: &check, line: &extension_mistakes };
    let lines = match lines_of(&text, Dialect::default(), &form) {
        Ok(lines) => lines,
        Err(broken) => return Ok(text_answer(Err(broken))),
    };
    let keep = |draft: &mut Draft<'_>, line: &Line| keep_extension(draft, company, line);
    Ok(text_answer(Ok(keep_each(call, &lines, |line| line.number, keep).await?)))
}

/// What is wrong with a line that has its cells.
fn extension_mistakes(line: &Line) -> Vec<Mistake> {
    if line.cells.len() < 3 {
        return Vec::new();
    }
    let (number, target) = (line.cell(0), line.cell(2));
    let mut mistakes = Vec::new();
    let mut wrong = |field: &str, remedy: String| mistakes.push(Mistake { field: field.to_owned(), remedy });
    if !checks::digits(number) || number.len() > 10 {
        wrong("extension", format!("{} is none; write 1 to 10 digits", short(number)));
    }
    if !checks::digits(target) || target.len() > 25 {
        wrong(
            "number",
            format!("{} is none; write at most 25 digits, without the calling code", short(target)),
        );
    }
    mistakes
}

fn keep_extension(draft: &mut Draft<'_>, company: Id<Company>, line: &Line) -> Result<(), Refusal> {
    let (number, target) = (line.cell(0), line.cell(2));
    let mut mistakes = extension_mistakes(line);
    let country = match country(draft.rows(), line.cell(1), line.cell(3)) {
        Ok(country) => Some(country),
        Err(remedy) => {
            mistakes.push(Mistake { field: "country".to_owned(), remedy });
            None
        }
    };
    let (true, Some(country)) = (mistakes.is_empty(), country) else {
        return Err(Refusal::Invalid(mistakes));
    };
    let known =
        draft.rows().find::<Extension>(0, &[Value::Int(i64::from(company.get())), Value::Text(number)]);
    let lead = |extension: &mut Extension| {
        extension.route_type = Some(ExtensionRouteType::Number);
        extension.number_country = Some(country);
        extension.number_value = Some(target.to_owned());
    };
    let Some(known) = known else {
        let mut extension = Extension { company, number: number.to_owned(), ..Extension::default() };
        lead(&mut extension);
        return draft.create(extension).map(drop);
    };
    if known.route_type.is_some_and(|route| route != ExtensionRouteType::Number) {
        let remedy = format!("{number} is there and leads elsewhere; change it there");
        return Err(Refusal::wrong("extension", remedy));
    }
    let id = known.id;
    draft.change(id, lead)
}

/// A country by its calling code, and by its ISO code where that is given; else the first of those that have the same.
pub(super) fn country(rows: &Rows, calling_code: &str, code: &str) -> Result<Id<Country>, String> {
    let calling_code = calling_code.trim_start_matches('+');
    if !checks::digits(calling_code) {
        return Err(format!("{} is no calling code; write one like +34", short(calling_code)));
    }
    let same = |country: &&Country| {
        country.country_code.as_deref().is_some_and(|known| known.trim_start_matches('+') == calling_code)
    };
    let mut countries = rows.each::<Country>().filter(same);
    let found = match code {
        "" => countries.next(),
        code => countries.find(|country| country.code.eq_ignore_ascii_case(code)),
    };
    let found = found.map(|country| country.id);
    let calling_code = short(calling_code);
    found.ok_or_else(|| format!("there is no country {} with the calling code {calling_code}", short(code)))
}

// Events of calendars.

/// How a file of events is to be read.
#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    dialect: Dialect,
    /// Which cells hold the name and the date.
    name: usize,
    date: usize,
    skip_first: bool,
}

impl Arguments {
    fn read(text: Option<&str>) -> Result<Self, Problem> {
        let mut arguments = Self { dialect: Dialect::default(), name: 0, date: 1, skip_first: false };
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(arguments) };
        let wrong = |remedy: &str| Problem::bad(format!("importerArguments: {remedy}"));
        let Json::Object(given) = parse_json(text.as_bytes()).map_err(|problem| wrong(&problem.detail))?
        else {
            return Err(wrong("write an object with delimiter, enclosure, escape, columns and ignoreFirst"));
        };
        let character = |name: &str, otherwise: Option<char>| match given.get(name) {
            None => Ok(otherwise),
            Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => {
                let mut characters = text.chars();
                match (characters.next(), characters.next()) {
                    (first, None) if first.is_none_or(|first| first == '\t' || !first.is_control()) => {
                        Ok(first)
                    }
                    _ => Err(wrong(&format!("{name}: write one character"))),
                }
            }
            Some(_) => Err(wrong(&format!("{name}: write one character"))),
        };
        let dialect = &mut arguments.dialect;
        let delimiter = character("delimiter", Some(dialect.delimiter))?;
        dialect.delimiter = delimiter.ok_or_else(|| wrong("delimiter: write one character"))?;
        dialect.enclosure = character("enclosure", dialect.enclosure)?;
        dialect.escape = character("escape", dialect.escape)?;
        if dialect.enclosure == delimiter || dialect.escape == delimiter {
            return Err(wrong("delimiter: write another than those of enclosure and escape"));
        }
        if let Some(columns) = given.get("columns") {
            let names: Option<Vec<&str>> =
                columns.as_array().map(|list| list.iter().filter_map(Json::as_str).collect());
            let names = names.unwrap_or_default();
            let place = |name: &str| names.iter().position(|known| *known == name);
            let once = |name: &str| names.iter().filter(|known| **known == name).count() == 1;
            match (place("name"), place("eventDate")) {
                (Some(name), Some(date)) if names.len() <= 16 && once("name") && once("eventDate") => {
                    (arguments.name, arguments.date) = (name, date);
                }
                _ => return Err(wrong("columns: name each column, with name and eventDate once each")),
            }
        }
        arguments.skip_first = match given.get("ignoreFirst") {
            None | Some(Json::Null) => false,
            Some(Json::Bool(flag)) => *flag,
            Some(_) => return Err(wrong("ignoreFirst: write true or false")),
        };
        Ok(arguments)
    }
}

async fn import_holidays(call: &Call) -> Result<Response<Body>, Problem> {
    let (parts, text) = upload(call).await?;
    let arguments =
        Arguments::read(parts.text("importerArguments").or_else(|| parts.text("importerParams")))?;
    let calendar = routes::find(call, Calendar::definition(), &part_id(&parts, "calendar")?.to_string())?;
    let (table, access) = routes::of::<HolidayDate>(call.level())?;
    let least = arguments.name.max(arguments.date) + 1;
    let check = |lines: &[Line]| uneven(lines, |count| count >= least, &format!("write {least} of them"));
    let nothing = |_: &Line| Vec::new();
    let form = Form { header: &|_| arguments.skip_first, whole: &check, line: &nothing };
    let lines = match lines_of(&text, arguments.dialect, &form) {
        Ok(lines) => lines,
        Err(broken) => return Ok(answer(Err(broken), as_list)),
    };
    let calendar = calendar.id();
    let keep = |draft: &mut Draft<'_>, line: &Line| {
        let mut document = Map::new();
        document.insert("calendar".to_owned(), json!(calendar));
        document.insert("name".to_owned(), json!(line.cell(arguments.name)));
        document.insert("eventDate".to_owned(), json!(plain_date(line.cell(arguments.date))));
        if line.cell(arguments.name).is_empty() {
            return Err(Refusal::wrong("name", "it must be given"));
        }
        write::create(draft, table, access, call.caller(), &document.into()).map(drop)
    };
    Ok(answer(Ok(keep_each(call, &lines, |line| line.number, keep).await?), as_list))
}

/// A date with hyphens: `2026/01/31` is read, too.
fn plain_date(text: &str) -> String {
    text.replace('/', "-")
}

/// One event for each day of a range, or none at all.
async fn holidays_of_range(call: &Call) -> Result<Response<Body>, Problem> {
    let (table, access) = routes::of::<HolidayDate>(call.level())?;
    let mut document = write::object(call.ask.json()?)?;
    let (first, last) = (day(&document, "startDate")?, day(&document, "endDate")?);
    let (from, to) = (date_text(first), date_text(last));
    let days = first.until(last).map_or(i32::MAX, |span| span.get_days());
    if first > last || days >= MOST_DAYS {
        let detail = format!("endDate: write a day from startDate on, and {MOST_DAYS} days at most");
        return Err(Problem::bad(detail));
    }
    document.remove("startDate");
    document.remove("endDate");
    let make = |draft: &mut Draft<'_>| -> Result<Vec<u32>, Refusal> {
        let mut made = Vec::new();
        let mut day = first;
        loop {
            let mut document = document.clone();
            document.insert("eventDate".to_owned(), json!(date_text(day)));
            let id = write::create(draft, table, access, call.caller(), &document.into());
            made.push(id.map_err(|refusal| on_day(refusal, day))?);
            match day.tomorrow() {
                Ok(next) if next <= last => day = next,
                _ => return Ok(made),
            }
        }
    };
    let (made, rows) = call.api.live.change(Some(call.level()), &call.identity.who(), make).await?;
    let row = made.first().and_then(|id| rows.row(table, *id)).ok_or_else(Problem::not_found)?;
    let living = HashMap::new();
    let look = Look { caller: call.caller(), rows: &rows, living: &living };
    let mut shown = look.row(&**row, Place::Detail, false);
    shown.shift_remove("id");
    shown.shift_remove("eventDate");
    shown.insert("startDate".to_owned(), json!(from));
    shown.insert("endDate".to_owned(), json!(to));
    Ok(json_answer(StatusCode::CREATED, &Json::Object(shown)))
}

fn day(document: &Map<String, Json>, name: &str) -> Result<Date, Problem> {
    let text = document.get(name).and_then(Json::as_str).map(|text| plain_date(text.trim()));
    let date = text.as_deref().and_then(|text| text.get(..10)?.parse().ok());
    date.ok_or_else(|| Problem::bad(format!("{name}: write a date like 2026-01-31")))
}

fn date_text(day: Date) -> String {
    day.strftime("%Y-%m-%d").to_string()
}

/// Says for which day it is refused.
fn on_day(refusal: Refusal, day: Date) -> Refusal {
    let day = date_text(day);
    let on = |mistakes: Vec<Mistake>| -> Vec<Mistake> {
        let said = |mistake: Mistake| Mistake { remedy: format!("{} (on {day})", mistake.remedy), ..mistake };
        mistakes.into_iter().map(said).collect()
    };
    match refusal {
        Refusal::Invalid(mistakes) => Refusal::Invalid(on(mistakes)),
        Refusal::Taken { message, mistakes } => {
            Refusal::Taken { message: format!("{message} (on {day})"), mistakes: on(mistakes) }
        }
        Refusal::Forbidden(why) => Refusal::Forbidden(format!("{why} (on {day})")),
        Refusal::Coded { status, message } => {
            Refusal::Coded { status, message: format!("{message} (on {day})") }
        }
        other => other,
    }
}

// DDIs.

/// Takes DDIs from their clients: each is made anew, so nothing of the client stays with it.
async fn unlink(call: &Call) -> Result<Response<Body>, Problem> {
    let wanted = super::ids(&call.ask.json()?)?;
    let caller = call.caller();
    for id in &wanted {
        let there = call.rows.get(Id::<Ddi>::new(*id)).is_some_and(|ddi| caller.sees(ddi, &call.rows));
        if !there {
            return Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no DDI {id}")));
        }
    }
    let make = |draft: &mut Draft<'_>| -> Result<(), Refusal> {
        for id in &wanted {
            let old = draft.get(Id::<Ddi>::new(*id)).ok_or(Refusal::Gone)?.clone();
            if old.company.is_none() {
                continue;
            }
            write::delete(draft, Ddi::definition(), caller, *id)?;
            draft.create(Ddi {
                ddi: old.ddi,
                ddie164: old.ddie164,
                description: old.description,
                kind: old.kind,
                use_ddi_provider_routing_tag: old.use_ddi_provider_routing_tag,
                brand: old.brand,
                ddi_provider: old.ddi_provider,
                country: old.country,
                routing_tag: old.routing_tag,
                ..Ddi::default()
            })?;
        }
        Ok(())
    };
    call.api.live.change(Some(call.level()), &call.identity.who(), make).await?;
    Ok(super::done())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn importer_arguments_are_checked() {
        let read = |text: &str| Arguments::read(Some(text));
        let given = r#"{"escape":"\\","columns":["eventDate","","name"],"delimiter":";","enclosure":"'","ignoreFirst":true}"#;
        let dialect = Dialect { delimiter: ';', enclosure: Some('\''), escape: Some('\\') };
        let expected = Arguments { dialect, name: 2, date: 0, skip_first: true };
        assert_eq!(read(given).unwrap(), expected);
        let plain = Arguments { dialect: Dialect::default(), name: 0, date: 1, skip_first: false };
        assert_eq!(Arguments::read(None).unwrap(), plain);
        assert_eq!(read("{}").unwrap(), plain);
        let wrong = [
            "[]",
            "{",
            r#"{"delimiter":""}"#,
            r#"{"delimiter":"\n"}"#,
            r#"{"delimiter":";;"}"#,
            r#"{"delimiter":"\""}"#,
            r#"{"columns":["name"]}"#,
            r#"{"columns":["name","name","eventDate"]}"#,
            r#"{"ignoreFirst":"yes"}"#,
        ];
        for text in wrong {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mistakes_of_the_form_are_all_said_with_their_lines() {
        let check = |lines: &[Line]| {
            let mut wrong = uneven(lines, |count| count == 2, "write 2");
            wrong.extend(repeated(lines, "name", |line| line.number, |line| line.cell(0).to_owned()));
            wrong
        };
        let line = |line: &Line| {
            let wrong = Mistake { field: "name".to_owned(), remedy: "not c".to_owned() };
            if line.cell(0) == "c" { vec![wrong] } else { Vec::new() }
        };
        let form = Form { header: &|_| false, whole: &check, line: &line };
        let lines = |text: &str| lines_of(text, Dialect::default(), &form);
        let broken = lines("a,1\n\nb\na,2\nc,3").err().unwrap();
        assert_eq!(broken.lines, 4);
        let expected = "3 => it has 1 cells; write 2\n4 => name \"a\" is in line 1 already; keep one of them\n\
                        5 => name: not c";
        assert_eq!(as_text(&broken.wrong), expected);
        assert_eq!(as_list(&broken.wrong[..1]), r#"[{"line":3,"msg":"it has 1 cells; write 2"}]"#);
        assert!(lines("").is_err());
        assert_eq!(lines("a,1\nc,2").ok().unwrap().len(), 2);
        assert_eq!(short(&"x".repeat(50)).chars().count(), 43);
    }

    #[test]
    fn days_are_read_in_both_forms() {
        let document =
            write::object(json!({ "a": "2023/02/01", "b": "2023-02-30", "c": "ñandú", "d": 5 })).unwrap();
        assert_eq!(date_text(day(&document, "a").unwrap()), "2023-02-01");
        for name in ["b", "c", "d", "e"] {
            assert!(day(&document, name).is_err(), "{name}");
        }
    }
}
