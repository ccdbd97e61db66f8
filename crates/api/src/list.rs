//! Lists: filters by field, order, pages, and their headers.
//!
//! In: a query string and the rows that the caller may see. Out: the rows of one page and how many there are.

use crate::collate::{self, Wanted};
use crate::http::{Problem, Query};
use crate::live::{RecordAnswer, RecordAsk, RecordTest};
use crate::show::sees_invoices;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use model::define::{Access, Field, Kind, Level, Record, Rule, Table, Value, parse_time};
use model::rows::{Row, Rows};
use model::rules::{Mistake, Refusal};
use model::scope::Caller;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

/// Rows on a page when the caller does not say.
const PAGE: usize = 30;
/// Records that are sorted by something else than time.
const MOST_SORTED: usize = 20_000;
/// Records that are given at once, without pages.
const MOST_AT_ONCE: usize = 20_000;
/// Records that a page may be away from the first one.
const MOST_SKIPPED: usize = 100_000_000;
/// Fields of an order that are read before rows are sorted.
const DECORATED: usize = 2;
/// Fields that a list is sorted by.
const MOST_KEYS: usize = 8;
/// Most values of one filter.
const MOST_VALUES: usize = 1000;
/// Comparisons that all filters make with a row. Looking a value up among those that are wanted is one, however many these are.
const MOST_COMPARISONS: usize = 100;

/// One page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    /// Its rows.
    pub(crate) rows: Vec<Row>,
    /// How many rows there are on all pages; none: it is not paged.
    pub(crate) total: Option<usize>,
    /// Which page it is, from 1.
    pub(crate) number: usize,
    /// Rows on a page.
    pub(crate) size: usize,
}

impl Page {
    /// How many pages there are.
    pub(crate) fn last(&self) -> usize {
        self.total.unwrap_or(0).div_ceil(self.size.max(1)).max(1)
    }
}

/// One condition on a field.
#[derive(Debug)]
struct Condition {
    place: usize,
    /// Of a group: which part.
    part: Option<&'static str>,
    /// The caller reads null there.
    unseen: bool,
    test: Test,
}

#[derive(Debug)]
enum Test {
    /// The row passes when one of these holds.
    Any(Vec<Compare>),
    /// It is one of these numbers.
    Numbers(HashSet<rust_decimal::Decimal>),
    /// It is one of these texts, all of them folded.
    Texts(HashSet<String>),
    /// The field is there or not.
    Exists(bool),
}

impl Test {
    /// That one of these holds; where they name values to be looked up, by looking up.
    fn any(compares: Vec<Compare>) -> Self {
        let number = |compare: &Compare| match compare {
            Compare::Number(NumberTest::Equal, number) => Some(*number),
            _ => None,
        };
        let text = |compare: &Compare| match compare {
            Compare::Text(TextTest::Exact, wanted) => Some(wanted.text().to_owned()),
            _ => None,
        };
        if compares.len() < 2 {
            return Self::Any(compares);
        }
        if let Some(numbers) = compares.iter().map(number).collect() {
            return Self::Numbers(numbers);
        }
        compares.iter().map(text).collect::<Option<_>>().map_or(Self::Any(compares), Self::Texts)
    }

    /// How many comparisons it is.
    fn cost(&self) -> usize {
        match self {
            Self::Any(compares) => compares.len(),
            Self::Numbers(_) | Self::Texts(_) | Self::Exists(_) => 1,
        }
    }
}

#[derive(Debug)]
enum Compare {
    Text(TextTest, Wanted),
    Number(NumberTest, rust_decimal::Decimal),
    Between(rust_decimal::Decimal, rust_decimal::Decimal),
    Flag(bool),
    Moment(NumberTest, Timestamp),
    /// The local text starts with this.
    MomentStarts(String),
    /// Dates and times of day: as texts, which sort as they should.
    Plain(NumberTest, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextTest {
    Exact,
    Partial,
    Start,
    End,
    Differs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberTest {
    Equal,
    Differs,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl NumberTest {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Differs => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// The rows that the query asks for, of those that the caller sees.
pub(crate) fn page(
    table: &'static Table,
    access: &'static Access,
    caller: &Caller,
    rows: &Rows,
    query: &Query,
) -> Result<Page, Problem> {
    let choice = Choice::new(table, access, caller, rows, query)?;
    let found = caller.visible(table, access, rows);
    let (number, size) = place(query, caller.level)?;
    let skip = (number - 1).saturating_mul(size);
    let whole = at_once(access, query)?;
    let owner = caller.owner(table, access).filter(|_| choice.conditions.is_empty() && !whole);
    let Some((owner_place, owner)) = owner else { return choice.page(access, query, found) };
    let Some(total) = rows.count_referring(table, owner_place, owner) else {
        return choice.page(access, query, found);
    };
    // The index counts, and where it has the order no more rows are looked at than lie before the page's end.
    let rows = if choice.order.is_by_id() {
        found.skip(skip).take(size).cloned().collect()
    } else if let Some(order) = choice.order.name() {
        let name = format!("{owner_place} {owner} {order}");
        let ids = rows.known_order(table, &name).unwrap_or_else(|| {
            let sorted = choice.order.sorted(found.collect());
            let ids: Arc<[u32]> = sorted.into_iter().map(|row| row.id()).collect();
            rows.keep_order(table, name, &ids);
            ids
        });
        ids.iter().skip(skip).take(size).filter_map(|id| rows.row(table, *id).cloned()).collect()
    } else {
        choice.order.some(found.collect(), skip, size).into_iter().cloned().collect()
    };
    Ok(Page { rows, total: Some(total), number, size })
}

/// Whether all rows are asked for at once.
fn at_once(access: &Access, query: &Query) -> Result<bool, Problem> {
    let paged = match query.get("_pagination").filter(|value| !value.is_empty()) {
        None => true,
        Some(value) => flag(value).ok_or_else(|| Problem::bad("_pagination: write true or false"))?,
    };
    Ok(access.unpaged && !paged)
}

/// [`page`] of rows that were chosen by other means.
pub(crate) fn page_of<'a>(
    table: &'static Table,
    access: &'static Access,
    caller: &Caller,
    rows: &Rows,
    query: &Query,
    found: impl Iterator<Item = &'a Row>,
) -> Result<Page, Problem> {
    Choice::new(table, access, caller, rows, query)?.page(access, query, found)
}

/// Rows that were chosen by other means, all on one page: what callers choose from.
pub(crate) fn all_of<'a>(
    table: &'static Table,
    access: &'static Access,
    caller: &Caller,
    rows: &Rows,
    query: &Query,
    found: impl Iterator<Item = &'a Row>,
) -> Result<Page, Problem> {
    let choice = Choice::new(table, access, caller, rows, query)?;
    let rows: Vec<Row> = choice.order.sorted(choice.fitting(found)).into_iter().cloned().collect();
    Ok(Page { total: Some(rows.len()), size: rows.len(), rows, number: 1 })
}

/// What a query asks for: which rows, in which order.
struct Choice<'a> {
    caller: &'a Caller,
    conditions: Vec<Condition>,
    order: Order<'a>,
}

impl<'a> Choice<'a> {
    fn new(
        table: &'static Table,
        access: &'static Access,
        caller: &'a Caller,
        rows: &'a Rows,
        query: &'a Query,
    ) -> Result<Self, Problem> {
        let blind = !sees_invoices(caller, rows);
        let order = Order::new(rows, table, access, caller, blind, query)?;
        Ok(Self { caller, conditions: conditions_of(table, caller, rows, query)?, order })
    }

    /// The rows that the query's filters let through.
    fn fitting<'r>(&self, found: impl Iterator<Item = &'r Row>) -> Vec<&'r Row> {
        let zone = &self.caller.zone;
        found.filter(|row| self.conditions.iter().all(|one| one.holds(&***row, zone))).collect()
    }

    fn page<'r>(
        &self,
        access: &Access,
        query: &Query,
        found: impl Iterator<Item = &'r Row>,
    ) -> Result<Page, Problem> {
        let found = self.fitting(found);
        let total = found.len();
        if at_once(access, query)? {
            let rows = self.order.sorted(found).into_iter().cloned().collect();
            return Ok(Page { rows, total: None, number: 1, size: total });
        }
        let (number, size) = place(query, self.caller.level)?;
        let skip = (number - 1).saturating_mul(size);
        let rows = self.order.some(found, skip, size).into_iter().cloned().collect();
        Ok(Page { rows, total: Some(total), number, size })
    }
}

/// What to ask of whoever keeps the table's records.
pub(crate) fn records(
    table: &'static Table,
    access: &'static Access,
    caller: &Caller,
    rows: &Rows,
    query: &Query,
) -> Result<RecordAsk, Problem> {
    let own = access.read.iter().find_map(|rule| {
        let (field, id) = match rule {
            Rule::OwnCompany(field) => (field, caller.company),
            Rule::OwnBrand(field) => (field, caller.brand),
            Rule::Myself(field) => (field, caller.user),
            _ => return None,
        };
        let indexed = table.field(field).is_some_and(|field| field.index);
        id.filter(|_| indexed).map(|id| (*field, id))
    });
    // What the query names is rarer than what all that the caller sees have.
    let is_own = |field: &str| own.is_some_and(|(own, _)| own == field);
    let named = |field: &&'static Field| field.index && field.view(caller.level).list && !is_own(field.name);
    let mut asked =
        table.fields.iter().filter(named).filter_map(|field| Some((field, only(query, field.name)?)));
    let (mut reference, mut text) = (own, None);
    if let Some((field, value)) = asked.next() {
        match (field.kind, value.rsplit('/').next().and_then(|id| id.parse().ok())) {
            (Kind::Text, _) => (reference, text) = (None, Some((field.name, value.to_owned()))),
            (_, Some(id)) => reference = Some((field.name, id)),
            _ => {}
        }
    }
    let (from, until) = times(table, caller, query);
    let (number, size) = place(query, caller.level)?;
    let conditions = conditions_of(table, caller, rows, query)?;
    // It is made when the records are there; what is wrong with it is told before they are read.
    Order::new(rows, table, access, caller, false, query)?;
    let (own_caller, own_rows) = (caller.clone(), rows.clone());
    let test = move |row: &dyn Record| {
        own_caller.all_hold(access.read, row, None, &own_rows)
            && conditions.iter().all(|one| one.holds(row, &own_caller.zone))
    };
    let by_time = in_order_of_time(table, query);
    let newest_first = by_time.unwrap_or(true);
    // An order of its own is made of the newest records alone.
    let (offset, limit) = match by_time {
        _ if at_once(access, query)? => (0, MOST_AT_ONCE),
        Some(_) => ((number - 1).saturating_mul(size), size),
        None => (0, MOST_SORTED),
    };
    let (offset, test) = (offset.min(MOST_SKIPPED), Some(Arc::new(test) as RecordTest));
    Ok(RecordAsk { table, reference, text, from, until, test, newest_first, offset, limit })
}

/// The value that a field shall have, where the query names just one.
fn only<'a>(query: &'a Query, field: &str) -> Option<&'a str> {
    let mut named =
        query.0.iter().filter(|at| at.name == field && at.keys.first().is_none_or(|key| key == "exact"));
    let first = named.next()?;
    (named.next().is_none() && first.keys.len() < 2).then_some(first.value.as_str())
}

/// Between which moments all records lie that the query's conditions on their time let through.
fn times(table: &'static Table, caller: &Caller, query: &Query) -> (Option<Timestamp>, Option<Timestamp>) {
    let (mut from, mut until): (Option<Timestamp>, Option<Timestamp>) = (None, None);
    let field = table.fields.iter().find(|field| matches!(field.kind, Kind::Time));
    let Some(field) = field.filter(|field| field.view(caller.level).list) else { return (None, None) };
    for at in query.0.iter().filter(|at| at.name == field.name && at.keys.len() == 1) {
        let Some(time) = parse_time(&at.value, &caller.zone) else { continue };
        match at.keys.first().map(String::as_str) {
            Some("after" | "strictly_after") => from = Some(from.map_or(time, |known| known.max(time))),
            Some("before" | "strictly_before") => {
                let end = time.checked_add(1.second()).unwrap_or(time);
                until = Some(until.map_or(end, |known| known.min(end)));
            }
            _ => {}
        }
    }
    (from, until)
}

/// Whether the newest come first, when records are asked for in an order of time or in none.
fn in_order_of_time(table: &'static Table, query: &Query) -> Option<bool> {
    let mut asked = query.0.iter().filter(|at| at.name == "_order");
    let Some(first) = asked.next() else { return Some(true) };
    let is_time = |name: &String| table.field(name).is_some_and(|field| matches!(field.kind, Kind::Time));
    let alone = asked.next().is_none() && first.keys.first().is_some_and(is_time);
    alone.then(|| first.value.eq_ignore_ascii_case("desc"))
}

/// The page of records that were found.
pub(crate) fn record_page(
    found: RecordAnswer,
    table: &'static Table,
    access: &'static Access,
    caller: &Caller,
    rows: &Rows,
    query: &Query,
) -> Result<Page, Problem> {
    let (number, size) = place(query, caller.level)?;
    let whole = at_once(access, query)?;
    if whole && found.total > MOST_AT_ONCE {
        let detail = format!(
            "_pagination: these are {} records, and at most {MOST_AT_ONCE} come at once; ask for pages, or narrow the list by time",
            found.total
        );
        return Err(Problem::bad(detail));
    }
    if in_order_of_time(table, query).is_none() {
        let order = Order::new(rows, table, access, caller, !sees_invoices(caller, rows), query)?;
        let (skip, size) = if whole { (0, usize::MAX) } else { ((number - 1).saturating_mul(size), size) };
        let rows: Vec<Row> =
            order.some(found.rows.iter().collect(), skip, size).into_iter().cloned().collect();
        let total = (!whole).then_some(found.total);
        return Ok(Page { rows, total, number, size });
    }
    if whole {
        return Ok(Page { size: found.rows.len(), rows: found.rows, total: None, number: 1 });
    }
    Ok(Page { rows: found.rows, total: Some(found.total), number, size })
}

/// Which page, and how many rows it has.
pub(crate) fn place(query: &Query, level: Level) -> Result<(usize, usize), Problem> {
    let most = if matches!(level, Level::Platform | Level::Brand) { 10_000 } else { 5_000 };
    Ok((whole(query, "_page", 1)?, whole(query, "_itemsPerPage", PAGE)?.min(most)))
}

fn whole(query: &Query, name: &str, otherwise: usize) -> Result<usize, Problem> {
    let Some(text) = query.get(name).filter(|text| !text.is_empty()) else { return Ok(otherwise) };
    match text.parse::<u32>() {
        Ok(number) if number > 0 => Ok(number as usize),
        _ => Err(Problem::bad(format!("{name}: write a whole number from 1"))),
    }
}

/// The conditions of the query's filters. What reads as null is no null to be found by, either.
fn conditions_of(
    table: &'static Table,
    caller: &Caller,
    rows: &Rows,
    query: &Query,
) -> Result<Vec<Condition>, Problem> {
    let mut conditions = conditions(table, caller, query)?;
    let blind = !sees_invoices(caller, rows);
    conditions.iter_mut().for_each(|one| one.unseen = blind && table.fields[one.place].invoiced);
    Ok(conditions)
}

/// What the query's filters ask for. Names that no field of the list has are left out; what is wrong with the others is told,
/// all of it at once.
fn conditions(table: &'static Table, caller: &Caller, query: &Query) -> Result<Vec<Condition>, Problem> {
    let mut conditions = Vec::new();
    let mut mistakes = Vec::new();
    // Lists of values belong together: f[]=a&f[]=b is one condition.
    let mut lists: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for at in &query.0 {
        let keys: Vec<&str> = at.keys.iter().map(String::as_str).collect();
        if at.name == "_order" {
            if !["asc", "desc"].iter().any(|way| at.value.eq_ignore_ascii_case(way)) {
                let name = format!("_order[{}]", keys.first().unwrap_or(&""));
                mistakes.push(Mistake { field: name, remedy: "write ASC or DESC".to_owned() });
            }
            continue;
        }
        let exists = match keys[..] {
            [field] if at.name == "exists" => Some(field),
            ["exists"] => Some(at.name.as_str()),
            _ => None,
        };
        if let Some((place, _, part)) = exists.and_then(|name| listed(table, caller, name)) {
            match flag(&at.value) {
                Some(flag) => {
                    conditions.push(Condition { place, part, unseen: false, test: Test::Exists(flag) })
                }
                None => mistakes.push(Mistake {
                    field: format!("{}[{}]", at.name, keys[0]),
                    remedy: "write true or false".to_owned(),
                }),
            }
        }
        if exists.is_some() {
            continue;
        }
        let (test, list) = match keys[..] {
            [] => ("", false),
            [key] if key.is_empty() || key.bytes().all(|b| b.is_ascii_digit()) => ("", true),
            [key] => (key, false),
            [key, ..] => (key, true),
        };
        let known = lists.iter_mut().find(|(name, known, _)| list && *name == at.name && *known == test);
        match known {
            Some((_, _, values)) if values.len() < MOST_VALUES => values.push(&at.value),
            Some(_) => {}
            None => lists.push((&at.name, test, vec![&at.value])),
        }
    }
    for (name, test, values) in lists {
        let Some((place, field, part)) = listed(table, caller, name) else { continue };
        // Forms send what was left empty, too. Only a text can be empty.
        let texts = part.is_some()
            || matches!(field.kind, Kind::Text | Kind::Choice(_) | Kind::Secret | Kind::Password);
        if !texts && values.iter().all(|value| value.is_empty()) {
            continue;
        }
        let compares: Result<Vec<Compare>, String> =
            values.iter().map(|value| compare(field, part.is_some(), test, value, &caller.zone)).collect();
        match compares {
            Ok(compares) => {
                conditions.push(Condition { place, part, unseen: false, test: Test::any(compares) });
            }
            Err(remedy) => {
                let field = if test.is_empty() { name.to_owned() } else { format!("{name}[{test}]") };
                mistakes.push(Mistake { field, remedy });
            }
        }
    }
    let mut comparisons = 0;
    let too_much = conditions.iter().find(|one| {
        comparisons += one.test.cost();
        comparisons > MOST_COMPARISONS
    });
    if let Some(one) = too_much {
        let remedy =
            format!("with this the filters compare a row more than {MOST_COMPARISONS} times; ask for less");
        mistakes.push(Mistake { field: table.fields[one.place].name.to_owned(), remedy });
    }
    if mistakes.is_empty() { Ok(conditions) } else { Err(Refusal::Invalid(mistakes).into()) }
}

/// Whether lists may be filtered and ordered by this name.
pub(crate) fn is_listed(table: &'static Table, caller: &Caller, name: &str) -> bool {
    listed(table, caller, name).is_some()
}

/// The field that a filter names, if it is one of lists: `name`, `name.en`, `name_en`.
fn listed(
    table: &'static Table,
    caller: &Caller,
    name: &str,
) -> Option<(usize, &'static Field, Option<&'static str>)> {
    let seen = |name: &str| {
        let place = table.place(name)?;
        let field = &table.fields[place];
        caller.view(field).list.then_some((place, field))
    };
    if let Some((place, field)) = seen(name) {
        // A file and a document are no values to be found by.
        let whole = matches!(field.kind, Kind::Group(_) | Kind::Json);
        return (!whole).then_some((place, field, None));
    }
    let (group, part) = name.rsplit_once('.').or_else(|| name.rsplit_once('_'))?;
    let (place, field) = seen(group)?;
    let Kind::Group(shape) = field.kind else { return None };
    let part = shape.names.iter().copied().find(|known| *known == part)?;
    (field.brief.is_empty() || field.brief.contains(&part)).then_some((place, field, Some(part)))
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// How a field is compared with a value.
///
/// # Errors
///
/// The field has no such test, or the value is none of its kind: what to write.
fn compare(field: &Field, part: bool, test: &str, value: &str, zone: &TimeZone) -> Result<Compare, String> {
    const TEXTS: &str = "exact, partial, start, end, neq";
    const NUMBERS: &str = "lt, lte, gt, gte, between, neq";
    const MOMENTS: &str = "exact, start, before, after, strictly_before, strictly_after, neq";
    let unknown =
        |tests: &str| Err(format!("there is no such test here; write one of {tests}, exists, or none"));
    let shown: String = value.chars().take(40).collect();
    let broken = |form: &str| Err(format!("{shown:?} is not {form}"));
    let number_test = match test {
        "" | "exact" => NumberTest::Equal,
        "neq" => NumberTest::Differs,
        "lt" | "strictly_before" => NumberTest::Less,
        "lte" | "before" => NumberTest::LessOrEqual,
        "gt" | "strictly_after" => NumberTest::Greater,
        "gte" | "after" => NumberTest::GreaterOrEqual,
        _ => NumberTest::Equal,
    };
    let is_number_test = matches!(test, "" | "exact" | "neq" | "lt" | "lte" | "gt" | "gte");
    let is_time_test = matches!(
        test,
        "" | "exact" | "neq" | "start" | "before" | "after" | "strictly_before" | "strictly_after"
    );
    match field.kind {
        Kind::Text | Kind::Choice(_) | Kind::Secret | Kind::Password | Kind::Group(_) | Kind::Json => {
            match text_test(test) {
                Some(test) if part || !matches!(field.kind, Kind::Group(_) | Kind::Json) => {
                    Ok(Compare::Text(test, Wanted::new(value)))
                }
                _ => unknown(TEXTS),
            }
        }
        Kind::Bool if !matches!(test, "" | "exact") => unknown("exact"),
        Kind::Bool => flag(value).map(Compare::Flag).map_or_else(|| broken("true or false"), Ok),
        Kind::Id | Kind::Reference(_) if !is_number_test => unknown("exact, neq"),
        Kind::Id | Kind::Reference(_) => {
            let id = value.rsplit('/').next().unwrap_or_default();
            match id.parse() {
                Ok(id) => Ok(Compare::Number(number_test, id)),
                Err(_) => broken("the id of a row"),
            }
        }
        Kind::Int(..) | Kind::Decimal | Kind::Float if test == "between" => {
            let bounds = value.split_once("..").map(|(low, high)| (low.trim().parse(), high.trim().parse()));
            match bounds {
                Some((Ok(low), Ok(high))) => Ok(Compare::Between(low, high)),
                _ => broken("a range; write 1..10"),
            }
        }
        Kind::Int(..) | Kind::Decimal | Kind::Float if !is_number_test => unknown(NUMBERS),
        Kind::Int(..) | Kind::Decimal | Kind::Float => match value.trim().parse() {
            Ok(number) => Ok(Compare::Number(number_test, number)),
            Err(_) => broken("a number"),
        },
        Kind::Time | Kind::Date | Kind::Clock if !is_time_test => unknown(MOMENTS),
        Kind::Time | Kind::Date | Kind::Clock if matches!(test, "" | "start") => {
            Ok(Compare::MomentStarts(value.to_owned()))
        }
        Kind::Time => match parse_time(value, zone) {
            Some(time) => Ok(Compare::Moment(number_test, time)),
            None => broken("a moment; write 2026-01-31 23:59:59"),
        },
        Kind::Date if value.trim().parse::<Date>().is_err() => broken("a date; write 2026-01-31"),
        Kind::Clock if value.trim().parse::<Time>().is_err() => broken("a time of day; write 23:59:59"),
        Kind::Date | Kind::Clock => Ok(Compare::Plain(number_test, value.trim().to_owned())),
    }
}

fn text_test(test: &str) -> Option<TextTest> {
    Some(match test {
        "" | "exact" => TextTest::Exact,
        "partial" => TextTest::Partial,
        "start" => TextTest::Start,
        "end" => TextTest::End,
        "neq" => TextTest::Differs,
        _ => return None,
    })
}

impl Condition {
    fn holds(&self, row: &dyn Record, zone: &TimeZone) -> bool {
        let value = if self.unseen { Value::Null } else { row.get(self.place) };
        let value = self.part.map_or(value, |part| value.part(part));
        match &self.test {
            Test::Exists(wanted) => value.is_null() != *wanted,
            Test::Any(compares) => compares.iter().any(|compare| compare.holds(value, zone)),
            Test::Numbers(wanted) => number(value).is_some_and(|number| wanted.contains(&number)),
            Test::Texts(wanted) => value.text().is_some_and(|text| wanted.contains(&*collate::folded(text))),
        }
    }
}

impl Compare {
    fn holds(&self, value: Value<'_>, zone: &TimeZone) -> bool {
        match (self, value) {
            (Compare::Text(TextTest::Differs, _), Value::Null) => false,
            (Compare::Text(test, wanted), Value::Text(text)) => text_holds(*test, text, wanted),
            (Compare::Number(test, wanted), value) => {
                number(value).is_some_and(|number| test.holds(number.cmp(wanted)))
            }
            (Compare::Between(low, high), value) => {
                number(value).is_some_and(|number| *low <= number && number <= *high)
            }
            (Compare::Flag(wanted), Value::Bool(flag)) => flag == *wanted,
            (Compare::Moment(test, wanted), Value::Time(time)) => test.holds(time.cmp(wanted)),
            (Compare::MomentStarts(wanted), value @ (Value::Time(_) | Value::Date(_) | Value::Clock(_))) => {
                value.shown(zone).as_str().is_some_and(|text| text.starts_with(wanted.as_str()))
            }
            (Compare::Plain(test, wanted), value @ (Value::Date(_) | Value::Clock(_))) => {
                value.shown(zone).as_str().is_some_and(|text| test.holds(text.cmp(wanted.as_str())))
            }
            _ => false,
        }
    }
}

fn text_holds(test: TextTest, text: &str, wanted: &Wanted) -> bool {
    match test {
        TextTest::Exact => wanted.is(text),
        TextTest::Differs => !wanted.is(text),
        TextTest::Partial => wanted.is_within(text),
        TextTest::Start => wanted.starts(text),
        TextTest::End => wanted.ends(text),
    }
}

fn number(value: Value<'_>) -> Option<rust_decimal::Decimal> {
    match value {
        Value::Int(number) => Some(number.into()),
        Value::Decimal(number) => Some(number),
        Value::Float(number) => rust_decimal::Decimal::try_from(number).ok(),
        Value::Bool(flag) => Some(u8::from(flag).into()),
        _ => None,
    }
}

/// What rows are sorted by.
struct Key<'a> {
    place: usize,
    /// Of a group: which part.
    part: Option<&'a str>,
    down: bool,
    /// Of a reference: the place in the table behind it that it is sorted by.
    behind: Option<(&'static Table, usize)>,
}

/// The order of a list.
struct Order<'a> {
    keys: Vec<Key<'a>>,
    /// Somebody asked for it; otherwise it is the list's own.
    asked: bool,
    /// For what stands behind references.
    all: &'a Rows,
}

impl<'a> Order<'a> {
    /// What the query asks for, each field once; otherwise the list's own.
    ///
    /// # Errors
    ///
    /// There are too many fields.
    fn new(
        all: &'a Rows,
        table: &'static Table,
        access: &'static Access,
        caller: &Caller,
        blind: bool,
        query: &'a Query,
    ) -> Result<Self, Problem> {
        let split =
            |name: &'a str| name.split_once('.').map_or((name, None), |(field, part)| (field, Some(part)));
        let mut keys: Vec<Key<'a>> = Vec::new();
        for at in query.0.iter().filter(|at| at.name == "_order") {
            let Some(name) = at.keys.first() else { continue };
            let (name, part) = split(name);
            let Some(place) = table.place(name).filter(|place| caller.view(&table.fields[*place]).list)
            else {
                continue;
            };
            if blind && table.fields[place].invoiced {
                continue;
            }
            if keys.iter().any(|key| (key.place, key.part) == (place, part)) {
                continue;
            }
            if keys.len() == MOST_KEYS {
                let remedy = format!("a list is ordered by {MOST_KEYS} fields at most");
                return Err(Refusal::wrong(&format!("_order[{name}]"), remedy).into());
            }
            let behind = match table.fields[place].kind {
                Kind::Reference(target) => shown_by(target(), caller.level),
                _ => None,
            };
            keys.push(Key { place, part, down: at.value.eq_ignore_ascii_case("desc"), behind });
        }
        let asked = !keys.is_empty();
        if !asked {
            for name in access.order {
                let (field, part) = split(name.trim_start_matches('-'));
                if let Some(place) = table.place(field) {
                    keys.push(Key { place, part, down: name.starts_with('-'), behind: None });
                }
            }
        }
        Ok(Self { keys, asked, all })
    }

    /// It is the order in which rows are kept.
    fn is_by_id(&self) -> bool {
        self.keys.first().is_none_or(|first| first.place == 0 && !first.down)
    }

    /// A name for it; none: it follows from more than the rows of the table.
    fn name(&self) -> Option<String> {
        let mut name = self.asked.to_string();
        for key in &self.keys {
            if key.behind.is_some() {
                return None;
            }
            name.push_str(&format!(" {}.{}.{}", key.place, key.part.unwrap_or_default(), key.down));
        }
        Some(name)
    }

    /// All rows in order.
    fn sorted<'r>(&self, rows: Vec<&'r Row>) -> Vec<&'r Row> {
        let count = rows.len();
        self.some(rows, 0, count)
    }

    /// Some of the rows in order. Only those up to the last one wanted are sorted.
    fn some<'r>(&self, rows: Vec<&'r Row>, skip: usize, count: usize) -> Vec<&'r Row> {
        if self.keys.is_empty() {
            return rows.into_iter().skip(skip).take(count).collect();
        }
        // What decides is read once for each row, those that decide most beside it. Rows that are equal stay as they come.
        let (first, rest) = self.keys.split_at(self.keys.len().min(DECORATED));
        type Decorated<'v> = ([Shown<'v>; DECORATED], usize);
        let decorate = |(at, row)| -> Decorated<'_> {
            let mut values = [None; DECORATED];
            values.iter_mut().zip(first).for_each(|(value, key)| *value = self.shown(key, row));
            (values, at)
        };
        let mut decorated: Vec<Decorated<'_>> =
            rows.iter().enumerate().map(|(at, row)| decorate((at, *row))).collect();
        let others: Vec<Shown<'_>> =
            rows.iter().flat_map(|row| rest.iter().map(|key| self.shown(key, row))).collect();
        let others = |at: usize| others.iter().skip(at * rest.len());
        let compare = |one: &Decorated<'_>, other: &Decorated<'_>| {
            let by_first = self.compare(first, one.0.iter(), other.0.iter());
            by_first
                .then_with(|| self.compare(rest, others(one.1), others(other.1)))
                .then_with(|| one.1.cmp(&other.1))
        };
        let wanted = skip.saturating_add(count);
        if wanted < decorated.len() {
            decorated.select_nth_unstable_by(wanted, compare);
            decorated.truncate(wanted);
        }
        decorated.sort_unstable_by(compare);
        decorated.into_iter().skip(skip).take(count).map(|(_, at)| rows[at]).collect()
    }

    /// What the row is sorted by.
    fn shown<'v>(&self, key: &Key<'_>, row: &'v Row) -> Shown<'v>
    where
        'a: 'v,
    {
        let Some((table, place)) = key.behind else { return Some(key.value(row)) };
        self.all.row(table, row.get(key.place).id()?).map(|row| row.get(place))
    }

    fn compare<'v>(
        &self,
        keys: &[Key<'_>],
        one: impl Iterator<Item = &'v Shown<'v>>,
        other: impl Iterator<Item = &'v Shown<'v>>,
    ) -> Ordering {
        let each = keys.iter().zip(one.zip(other)).map(|(key, (one, other))| match (one, other) {
            (None, None) => Ordering::Equal,
            // Asked for by what they name, rows without come last, whichever way.
            (None, _) => Ordering::Greater,
            (_, None) => Ordering::Less,
            (Some(one), Some(other)) => key.directed(compare_values(*one, *other, self.asked)),
        });
        each.into_iter().find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
    }
}

/// A value that rows are sorted by; none: there is nothing behind a reference.
type Shown<'v> = Option<Value<'v>>;

impl Key<'_> {
    fn value<'r>(&self, row: &'r Row) -> Value<'r> {
        let value = row.get(self.place);
        self.part.map_or(value, |part| value.part(part))
    }

    fn directed(&self, ordering: Ordering) -> Ordering {
        if self.down { ordering.reverse() } else { ordering }
    }
}

/// What rows of a table are sorted by where they stand behind a reference: the first field of their own order.
fn shown_by(table: &'static Table, level: Level) -> Option<(&'static Table, usize)> {
    let own =
        table.access(level).and_then(|access| access.order.first()).map(|name| name.trim_start_matches('-'));
    let usual = ["name", "number", "iden", "username", "ddi"];
    let place = own.into_iter().chain(usual).find_map(|name| table.place(name))?;
    Some((table, place))
}

/// Null is larger than everything where an order is asked for, and smaller in a list's own order.
fn compare_values(one: Value<'_>, other: Value<'_>, asked: bool) -> Ordering {
    let null_first = if asked { Ordering::Greater } else { Ordering::Less };
    match (one, other) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => null_first,
        (_, Value::Null) => null_first.reverse(),
        (Value::Text(a), Value::Text(b)) => collate::compare(a, b),
        (Value::Int(a), Value::Int(b)) => a.cmp(&b),
        (Value::Float(a), Value::Float(b)) => a.total_cmp(&b),
        (Value::Time(a), Value::Time(b)) => a.cmp(&b),
        (Value::Date(a), Value::Date(b)) => a.cmp(&b),
        (Value::Clock(a), Value::Clock(b)) => a.cmp(&b),
        (a, b) => match (number(a), number(b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => Ordering::Equal,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::define::Entity;
    use model::entities::{Terminal, TerminalModel};
    use model::id::Id;

    fn caller() -> Caller {
        Caller {
            level: Level::Client,
            administrator: Some(1),
            user: None,
            brand: Some(1),
            company: Some(1),
            zone: TimeZone::UTC,
            restricted: false,
            operator: false,
        }
    }

    fn terminal(id: u32, company: u32) -> Row {
        // Names come neither in the order of ids nor without repetition.
        let name = format!("phone{}", id.wrapping_mul(7919) % 900);
        Arc::new(Terminal { id: Id::new(id), name, company: Id::new(company), ..Terminal::default() })
    }

    /// A page's ids, and how many rows there are.
    fn asked(rows: &Rows, query: &str) -> (Vec<u32>, usize) {
        let (table, caller) = (Terminal::definition(), caller());
        let access = table.access(Level::Client).unwrap();
        let page = page(table, access, &caller, rows, &Query::parse(query)).unwrap();
        (page.rows.iter().map(|row| row.id()).collect(), page.total.unwrap())
    }

    /// What the page must be: all rows of the client sorted, and of them those of the page.
    fn expected(rows: &Rows, down: bool, fits: impl Fn(&Terminal) -> bool, page: usize) -> (Vec<u32>, usize) {
        let own = |row: &&Terminal| row.company == Id::new(1) && fits(row);
        let mut all: Vec<&Terminal> = rows.each::<Terminal>().filter(own).collect();
        all.sort_by(|a, b| if down { b.name.cmp(&a.name) } else { a.name.cmp(&b.name) });
        let ids = all.iter().map(|row| row.id.get()).skip((page - 1) * PAGE).take(PAGE).collect();
        (ids, all.len())
    }

    #[test]
    fn pages_of_a_long_list_are_parts_of_it_in_order_also_after_changes() {
        let mut rows = Rows::default();
        for id in 1..=2000 {
            rows.insert(terminal(id, 1 + id % 4 / 3));
        }
        let any = |_: &Terminal| true;
        for round in 0..3 {
            for number in [1, 2, 50, 51, 1000] {
                assert_eq!(asked(&rows, &format!("_page={number}")), expected(&rows, false, any, number));
                let down = format!("_order[name]=desc&_page={number}");
                assert_eq!(asked(&rows, &down), expected(&rows, true, any, number));
                let some = |row: &Terminal| row.name.contains("77");
                let filtered = format!("name[partial]=77&_page={number}");
                assert_eq!(asked(&rows, &filtered), expected(&rows, false, some, number));
                let by_id = asked(&rows, &format!("_order[id]=asc&_page={number}"));
                let own = rows.each::<Terminal>().filter(|row| row.company == Id::new(1));
                let ids: Vec<u32> =
                    own.map(|row| row.id.get()).skip((number - 1) * PAGE).take(PAGE).collect();
                assert_eq!(by_id, (ids, asked(&rows, "").1));
            }
            rows.insert(terminal(2001 + round, 1));
            rows.insert(Arc::new(Terminal {
                id: Id::new(5 + round),
                name: "a first one".to_owned(),
                company: Id::new(1),
                ..Terminal::default()
            }));
            rows.remove(Terminal::definition(), 100 + round);
        }
    }

    fn refused(rows: &Rows, query: &str) -> Vec<String> {
        let (table, caller) = (Terminal::definition(), caller());
        let access = table.access(Level::Client).unwrap();
        let problem = page(table, access, &caller, rows, &Query::parse(query)).unwrap_err();
        assert_eq!(problem.status.as_u16(), 400, "{}", problem.detail);
        problem.mistakes.into_iter().map(|mistake| mistake.field).collect()
    }

    #[test]
    fn an_order_goes_by_several_fields_and_by_what_references_name() {
        let mut rows = Rows::default();
        let models = [(1, "zeta"), (2, "Alfa"), (3, "mid")];
        for (id, name) in models {
            let (id, name) = (Id::new(id), name.to_owned());
            rows.insert(Arc::new(TerminalModel { id, name, ..TerminalModel::default() }));
        }
        // The last model is not there.
        for id in 1..=200_u32 {
            let model = Some(id % 5).filter(|model| *model > 0).map(Id::new);
            let at = Timestamp::from_second(i64::from(id % 7)).ok();
            let name = format!("phone{}", id % 3);
            rows.insert(Arc::new(Terminal {
                id: Id::new(id),
                name,
                terminal_model: model,
                last_provision_date: at,
                company: Id::new(1),
                ..Terminal::default()
            }));
        }
        let shown = |row: &Terminal| {
            let model = row.terminal_model.and_then(|id| models.get(id.get() as usize - 1));
            model.map(|(_, name)| name.to_lowercase())
        };
        for down in [false, true] {
            let mut all: Vec<&Terminal> = rows.each::<Terminal>().collect();
            all.sort_by(|a, b| {
                let (one, other) = (shown(a), shown(b));
                let by_model = match (&one, &other) {
                    (Some(one), Some(other)) if down => other.cmp(one),
                    // Those without a model come last.
                    _ => one.is_none().cmp(&other.is_none()).then(one.cmp(&other)),
                };
                by_model
                    .then(b.name.cmp(&a.name))
                    .then(a.last_provision_date.cmp(&b.last_provision_date))
                    .then(b.id.get().cmp(&a.id.get()))
            });
            let way = if down { "desc" } else { "asc" };
            let query = format!(
                "_order[terminalModel]={way}&_order[name]=desc&_order[lastProvisionDate]=asc&_order[id]=desc"
            );
            for number in [1, 3, 7] {
                let ids = all.iter().map(|row| row.id.get()).skip((number - 1) * PAGE).take(PAGE).collect();
                assert_eq!(asked(&rows, &format!("{query}&_page={number}")), (ids, 200), "{way}");
            }
        }
    }

    #[test]
    fn a_field_of_an_order_counts_once_and_a_handful_is_the_most() {
        let mut rows = Rows::default();
        (1..=100).for_each(|id| rows.insert(terminal(id, 1)));
        let repeated = "_order[name]=desc".to_owned() + &"&_order[name]=asc".repeat(400);
        assert_eq!(asked(&rows, &repeated), asked(&rows, "_order[name]=desc"));
        let parts = |count: usize| -> String {
            (0..count).map(|part| format!("&_order[name.{part}]=asc")).collect::<String>()
        };
        asked(&rows, &parts(8));
        assert_eq!(refused(&rows, &parts(9)), ["_order[name]"]);
    }

    #[test]
    fn filters_compare_a_row_so_often_at_most_and_look_up_what_is_one_of_many() {
        let mut rows = Rows::default();
        (1..=500).for_each(|id| rows.insert(terminal(id, 1)));
        let many = |name: &str, values: std::ops::Range<u32>| -> String {
            values.map(|value| format!("&{name}={value}")).collect()
        };
        let page = "_itemsPerPage=5000&_order[id]=asc";
        let ids: Vec<u32> = (7..400).collect();
        assert_eq!(asked(&rows, &format!("{page}{}", many("id[]", 7..400))), (ids, 393));
        let names: String = ["PHONE19", "phone7", "none"].map(|name| format!("&name[]={name}")).concat();
        let named = |row: &Terminal| row.name == "phone19" || row.name == "phone7";
        assert_eq!(asked(&rows, &names), expected(&rows, false, named, 1));
        assert_eq!(asked(&rows, &many("name[partial][]", 0..100)).1, 500);
        assert_eq!(refused(&rows, &many("name[partial][]", 0..101)), ["name"]);
        assert_eq!(refused(&rows, &many("id[neq]", 0..101)), ["id"]);
        assert_eq!(refused(&rows, &"&exists[mac]=true".repeat(101)), ["mac"]);
    }
}
