//! `carillon ctl get`, `apply`, `delete`, `watch`: rows of a running node's configuration.
//!
//! In: arguments, files of documents. Out: what the node answers, for people (text, tables, YAML) or programs (JSON). Elsewhere:
//! reading files (`documents`), reaching the node (`reach`), the rules (crate `api`).

use super::documents::{self, Document};
use super::reach::{Client, Reach, client, refused};
use crate::node::StartError;
use crate::{complain, tell};
use proto::v1;
use serde_json::{Map, Value as Json, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Rows that are asked for at once.
const PAGE: u32 = 200;
/// Characters of a table's cell.
const WIDEST: usize = 40;

/// The form in which rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// Lines for people.
    Table,
    /// Documents that `apply` reads.
    Yaml,
    /// The same in JSON.
    Json,
}

/// What `get` takes.
#[derive(clap::Args)]
pub(crate) struct Get {
    /// The entity: User, Extension, …
    entity: String,
    /// One row; all without it.
    id: Option<u32>,
    /// Only rows whose field has this value; `NAME[TEST]=VALUE` for another test: partial, start, end, neq, lt, lte, gt, gte,
    /// between, before, after, exists. Several must all hold.
    #[arg(long = "filter", value_name = "NAME=VALUE", conflicts_with = "id")]
    filters: Vec<String>,
    /// By which field rows are ordered; -NAME for descending.
    #[arg(long, value_name = "NAME", allow_hyphen_values = true, conflicts_with = "id")]
    order: Vec<String>,
    /// Most rows.
    #[arg(long, value_name = "ROWS", default_value_t = 10_000)]
    limit: usize,
    /// How they are printed.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    reach: Reach,
}

/// What `apply` takes.
#[derive(clap::Args)]
pub(crate) struct Apply {
    /// A file of documents, a directory of them, or - for standard input. A document is `entity: User`, `id: 5`, `fields: {…}`.
    /// Without an id the row is found by fields that occur once (`Entity.keys` in proto/carillon/v1/admin.proto), and made if
    /// there is none.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Only print what would change. Ends with 0: nothing would, 1: something would, 2: it would be refused.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Whether rows that no document names are deleted: never.
    #[arg(long, value_name = "no", default_value = "no", value_parser = ["no"])]
    prune: String,
    #[command(flatten)]
    reach: Reach,
}

/// What `delete` takes.
#[derive(clap::Args)]
pub(crate) struct Delete {
    /// The entity.
    #[arg(required_unless_present = "file", requires = "id")]
    entity: Option<String>,
    /// The row.
    id: Option<u32>,
    /// Delete the rows of these documents instead, found as `apply` finds them.
    #[arg(short, long, value_name = "FILE", conflicts_with = "entity")]
    file: Option<PathBuf>,
    /// Only print what would be deleted. Ends as a dry run of `apply` does.
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    reach: Reach,
}

/// What `watch` takes.
#[derive(clap::Args)]
pub(crate) struct Watch {
    /// The entities; all without one.
    entities: Vec<String>,
    /// First tell what was changed after this revision.
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    since: u64,
    /// Print each change as one line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Prints rows.
pub(crate) async fn get(data: Option<&Path>, get: Get) -> Result<(), StartError> {
    let mut client = client(data, &get.reach).await?;
    let brief = get.output == Output::Table;
    if let Some(id) = get.id {
        let request = v1::GetRequest { entity: get.entity, id };
        let document = client.get(request).await.map_err(|status| refused(&status))?.into_inner();
        return match get.output {
            Output::Table => lines(&fields(&document.json)?).map(|text| print(&text)),
            Output::Yaml => documents::yaml(&[applicable(&document)?]).map(|text| print(&text)),
            Output::Json => applicable(&document).map(|row| tell(&pretty(&row))),
        };
    }
    let filters = get.filters.iter().map(|text| filter(text)).collect::<Result<Vec<_>, _>>()?;
    let mut request = v1::ListRequest {
        entity: get.entity,
        filters,
        order: get.order,
        page: 1,
        page_size: PAGE,
        whole: !brief,
    };
    let mut found: Vec<v1::Document> = Vec::new();
    loop {
        let page = client.list(request.clone()).await.map_err(|status| refused(&status))?.into_inner();
        let (count, total) = (page.documents.len(), usize::try_from(page.total).unwrap_or(usize::MAX));
        found.extend(page.documents);
        if found.len() > get.limit {
            found.truncate(get.limit);
            complain(&format!("note: {} of {total} rows; name a greater --limit for more", get.limit));
            break;
        }
        if count == 0 || found.len() >= total {
            break;
        }
        request.page += 1;
    }
    match get.output {
        Output::Table => {
            let rows = found.iter().map(|document| fields(&document.json)).collect::<Result<Vec<_>, _>>()?;
            print(&table(&rows));
        }
        Output::Yaml | Output::Json => {
            let rows = found.iter().map(applicable).collect::<Result<Vec<_>, _>>()?;
            match get.output {
                Output::Yaml => print(&documents::yaml(&rows)?),
                _ => tell(&pretty(&Json::Array(rows))),
            }
        }
    }
    Ok(())
}

/// Makes what files wish; out: whether anything changed, or would.
pub(crate) async fn apply(data: Option<&Path>, apply: Apply) -> Result<bool, StartError> {
    let wishes = documents::read(&apply.file, false)?;
    let mut client = client(data, &apply.reach).await?;
    fulfil(&mut client, wishes, apply.dry_run).await
}

/// Deletes rows; out: whether any was there.
pub(crate) async fn delete(data: Option<&Path>, delete: Delete) -> Result<bool, StartError> {
    let wishes = match (delete.file, delete.entity) {
        (Some(file), _) => documents::read(&file, true)?,
        (None, entity) => {
            let entity = entity.unwrap_or_default();
            let wish = v1::Wish { entity, id: delete.id, json: String::new(), delete: true };
            vec![Document { place: String::new(), wish }]
        }
    };
    let mut client = client(data, &delete.reach).await?;
    fulfil(&mut client, wishes, delete.dry_run).await
}

async fn fulfil(client: &mut Client, documents: Vec<Document>, dry_run: bool) -> Result<bool, StartError> {
    let (places, wishes): (Vec<String>, Vec<v1::Wish>) =
        documents.into_iter().map(|document| (document.place, document.wish)).unzip();
    let count = wishes.len();
    let answer = client.apply(v1::ApplyRequest { wishes, dry_run }).await;
    let answer = answer.map_err(|status| {
        let StartError(text) = refused(&status);
        StartError(placed(&text, &places))
    })?;
    let answer = answer.into_inner();
    for change in &answer.changes {
        print(&told(change)?);
    }
    if answer.more > 0 {
        tell(&format!("and {} more rows that follow", answer.more));
    }
    let of = |deed: v1::Deed| answer.outcomes.iter().filter(|outcome| outcome.deed() == deed).count();
    let (created, changed, deleted) = (of(v1::Deed::Created), of(v1::Deed::Changed), of(v1::Deed::Deleted));
    let same = count.saturating_sub(created + changed + deleted);
    let head = if dry_run { "would be" } else { "are" };
    tell(&format!(
        "{count} documents: {created} {head} created, {changed} changed, {deleted} deleted, {same} as they were; revision {}",
        answer.revision
    ));
    Ok(!answer.changes.is_empty() || answer.more > 0)
}

/// An error that names wishes by their numbers, with where they stand.
fn placed(text: &str, places: &[String]) -> String {
    text.lines().map(|line| placed_line(line, places)).collect::<Vec<_>>().join("\n")
}

fn placed_line(text: &str, places: &[String]) -> String {
    let number = text
        .strip_prefix("wish ")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|at| at.parse::<usize>().ok());
    let place =
        number.and_then(|number| places.get(number.checked_sub(1)?)).filter(|place| !place.is_empty());
    let of_entity = |place: &String| {
        let (_, entity) = text.split_once(" (")?;
        let (entity, rest) = entity.split_once(')')?;
        Some(format!("{place}: {entity}{rest}"))
    };
    place.and_then(of_entity).unwrap_or_else(|| text.to_owned())
}

/// Prints changes until the end.
pub(crate) async fn watch(data: Option<&Path>, watch: Watch) -> Result<(), StartError> {
    let mut client = client(data, &watch.reach).await?;
    let request = v1::WatchRequest { entities: watch.entities, since: watch.since };
    let stream = client.watch(request).await.map_err(|status| refused(&status))?;
    let mut stream = stream.into_inner();
    let mut last = watch.since;
    let mut ending = crate::Ending::listen()?;
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            () = ending.comes() => return Ok(()),
        };
        let Some(message) = message.map_err(|status| refused(&status))? else {
            return Err(StartError(format!("the node ended it; go on with --since {last}")));
        };
        match message.change {
            Some(change) if watch.json => {
                let row = |text: &str| serde_json::from_str(text).unwrap_or(Json::Null);
                let line = json!({
                    "revision": message.revision, "entity": change.entity, "id": change.id, "deed": deed(&change),
                    "before": row(&change.before), "after": row(&change.after), "fields": change.fields,
                });
                tell(&line.to_string());
            }
            Some(change) => print(&format!("revision {}\n{}", message.revision, told(&change)?)),
            None => {
                last = message.revision;
                complain(&format!("everything up to revision {last} is told"));
            }
        }
        std::io::stdout().flush()?;
    }
}

fn print(text: &str) {
    tell(text.trim_end_matches('\n'));
}

fn deed(change: &v1::Change) -> &'static str {
    match change.deed() {
        v1::Deed::Created => "created",
        v1::Deed::Deleted => "deleted",
        _ => "changed",
    }
}

/// A change as lines: the row, and each field before and after.
fn told(change: &v1::Change) -> Result<String, StartError> {
    let row = |text: &str| if text.is_empty() { Ok(Map::new()) } else { fields(text) };
    let (before, after) = (row(&change.before)?, row(&change.after)?);
    let mark = match change.deed() {
        v1::Deed::Created => '+',
        v1::Deed::Deleted => '-',
        _ => '~',
    };
    let mut text = format!("{mark} {} {} {}\n", plain(&change.entity), change.id, deed(change));
    let value =
        |row: &Map<String, Json>, name: &str| row.get(name).map_or_else(|| "nothing".to_owned(), shown);
    match change.deed() {
        v1::Deed::Created => {
            for (name, value) in after.iter().filter(|(name, value)| *name != "id" && !is_nothing(value)) {
                text.push_str(&format!("+   {}: {}\n", plain(name), shown(value)));
            }
        }
        v1::Deed::Deleted => {
            for (name, value) in before.iter().filter(|(name, value)| *name != "id" && !is_nothing(value)) {
                text.push_str(&format!("-   {}: {}\n", plain(name), shown(value)));
            }
        }
        _ => {
            for name in &change.fields {
                let line =
                    format!("~   {}: {} -> {}\n", plain(name), value(&before, name), value(&after, name));
                text.push_str(&line);
            }
        }
    }
    Ok(text)
}

fn is_nothing(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Array(list) => list.is_empty(),
        Json::Object(parts) => parts.values().all(is_nothing),
        _ => false,
    }
}

/// Text without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    let is_odd = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|letter| if is_odd(letter) { '\u{fffd}' } else { letter }).collect()
}

fn shown(value: &Json) -> String {
    plain(&value.to_string())
}

fn pretty(value: &Json) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn fields(text: &str) -> Result<Map<String, Json>, StartError> {
    let read = serde_json::from_str(text);
    read.map_err(|_| {
        StartError("the node's answer is not understood; use its own version of the program".to_owned())
    })
}

/// A row in the form that `apply` reads.
fn applicable(document: &v1::Document) -> Result<Json, StartError> {
    let mut fields = fields(&document.json)?;
    fields.remove("id");
    Ok(json!({ "entity": document.entity, "id": document.id, "fields": fields }))
}

fn filter(text: &str) -> Result<v1::Filter, StartError> {
    let wrong = || StartError(format!("--filter {text}: write NAME=VALUE or NAME[TEST]=VALUE"));
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let (field, test) = match name.split_once('[') {
        Some((field, test)) => (field, test.strip_suffix(']').ok_or_else(wrong)?),
        None => (name, ""),
    };
    Ok(v1::Filter { field: field.to_owned(), test: test.to_owned(), values: vec![value.to_owned()] })
}

/// A row as lines: name and value.
fn lines(row: &Map<String, Json>) -> Result<String, StartError> {
    let widest = row.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    Ok(row.iter().map(|(name, value)| format!("{:widest$}  {}\n", plain(name), cell(value))).collect())
}

fn cell(value: &Json) -> String {
    match value {
        Json::Null => "-".to_owned(),
        Json::String(text) => plain(text),
        other => shown(other),
    }
}

/// Rows as a table, the id first.
fn table(rows: &[Map<String, Json>]) -> String {
    let mut names: Vec<&str> = vec!["id"];
    for name in rows.iter().flat_map(Map::keys) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let cut = |text: String| -> String {
        if text.chars().count() <= WIDEST {
            text
        } else {
            text.chars().take(WIDEST - 1).chain(['…']).collect()
        }
    };
    let mut cells: Vec<Vec<String>> = vec![names.iter().map(|name| plain(name)).collect()];
    cells.extend(rows.iter().map(|row| {
        names.iter().map(|name| cut(row.get(*name).map_or_else(|| "-".to_owned(), cell))).collect()
    }));
    let mut widths = vec![0; names.len()];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &Vec<String>| {
        let padded: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    cells.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(json: Json) -> Map<String, Json> {
        json.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn changes_are_told_field_by_field_and_terminals_obey_nothing_of_them() {
        let change = v1::Change {
            entity: "User".to_owned(),
            id: 2,
            deed: v1::Deed::Changed.into(),
            before: r#"{"id": 2, "name": "Bob", "x": 1}"#.to_owned(),
            after: r#"{"id": 2, "name": "\u009b31mRob", "x": 1}"#.to_owned(),
            fields: vec!["name".to_owned()],
        };
        assert_eq!(told(&change).unwrap(), "~ User 2 changed\n~   name: \"Bob\" -> \"\u{fffd}31mRob\"\n");
        let made = v1::Change { deed: v1::Deed::Created.into(), before: String::new(), ..change };
        assert_eq!(told(&made).unwrap(), "+ User 2 created\n+   name: \"\u{fffd}31mRob\"\n+   x: 1\n");
    }

    #[test]
    fn rows_stand_in_columns_with_the_id_first() {
        let rows = [
            row(json!({ "name": "Bob", "id": 2 })),
            row(json!({ "name": null, "id": 10, "more": "x".repeat(50) })),
        ];
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["id  name  more", "2   Bob   -"]);
        assert_eq!(lines[2], format!("10  -     {}…", "x".repeat(39)));
    }

    #[test]
    fn filters_are_a_name_perhaps_a_test_and_a_value() {
        let read = |text: &str| filter(text).map(|filter| (filter.field, filter.test, filter.values)).ok();
        let expected = |field: &str, test: &str, value: &str| {
            Some((field.to_owned(), test.to_owned(), vec![value.to_owned()]))
        };
        assert_eq!(read("name=a=b"), expected("name", "", "a=b"));
        assert_eq!(read("name[partial]=a"), expected("name", "partial", "a"));
        assert_eq!((read("name"), read("name[x=1")), (None, None));
    }

    #[test]
    fn an_error_about_a_wish_says_where_it_stands() {
        let places = ["a.yaml, document 1".to_owned(), "b.yaml, document 1".to_owned()];
        assert_eq!(placed("wish 2 (User): no", &places), "b.yaml, document 1: User: no");
        assert_eq!(placed("wish 3 (User): no", &places), "wish 3 (User): no");
        assert_eq!(
            placed("wish 1 (User): no\nwish 2 (User): no", &places),
            "a.yaml, document 1: User: no\nb.yaml, document 1: User: no"
        );
        assert_eq!(placed("other", &places), "other");
    }
}
