//! The users' file: TOML with brands, clients, terminals, users and extensions. Every mistake in it is found at once.
//!
//! In: a file. Out: a configuration without mistakes, or what is wrong, each with key, value and remedy. What is missing or
//! of the wrong type has a stand-in, so that the rules are looked at, too. Elsewhere: the rules ([`model::Snapshot`]).

use crate::config::Mistake;
use model::entity::{Brand, Client, Extension, Secret, Terminal, User};
use model::{Configuration, Id};
use std::path::Path;
use toml::{Table, Value};

const KINDS: [&str; 5] = ["brands", "clients", "terminals", "users", "extensions"];

/// What a text is to look like.
const TEXT: &str = "write a text in quotes";

/// Reads and checks a users' file.
pub(crate) fn read(path: &Path) -> Result<Configuration, Vec<Mistake>> {
    let wrong = |remedy: String| vec![Mistake::new("users.file", &path.display().to_string(), &remedy)];
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong(format!("{error}; name a file that exists and may be read")))?;
    let table = text.parse::<Table>().map_err(|error| {
        // Not the whole of the error: it shows the line, and passwords stand in this file.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        wrong(format!("line {line} is not readable as TOML: {}", error.message()))
    })?;
    let own = |mistake: model::Mistake| {
        Mistake::new(&format!("users.file: {}", mistake.key), &mistake.value, &mistake.remedy)
    };
    check(&table).map_err(|mistakes| mistakes.into_iter().map(own).collect())
}

fn check(table: &Table) -> Result<Configuration, Vec<model::Mistake>> {
    let mut mistakes = Vec::new();
    let configuration = configuration(table, &mut mistakes);
    let mut rules = configuration.check();
    // What a stand-in breaks is no mistake of its own.
    rules.retain(|rule| mistakes.iter().all(|mistake| mistake.key != rule.key));
    mistakes.extend(rules);
    if mistakes.is_empty() { Ok(configuration) } else { Err(mistakes) }
}

fn configuration(table: &Table, mistakes: &mut Vec<model::Mistake>) -> Configuration {
    for (key, value) in table {
        if !KINDS.contains(&key.as_str()) {
            let remedy = format!("unknown; there are {}", KINDS.join(", "));
            mistakes.push(model::Mistake { key: key.clone(), value: shown(value), remedy });
        }
    }
    let brands = rows(table, "brands", mistakes, |row, id| Brand { id, name: row.text("name") });
    let clients = rows(table, "clients", mistakes, |row, id| Client {
        id,
        brand: row.reference("brand").unwrap_or(Id::new(0)),
        name: row.text("name"),
        domain: row.text("domain"),
    });
    // Belonging to it breaks the fewest rules.
    let some_client = clients.first().map_or(Id::new(0), |client: &Client| client.id);
    Configuration {
        terminals: rows(table, "terminals", mistakes, |row, id| Terminal {
            id,
            client: row.reference("client").unwrap_or(some_client),
            name: row.text("name"),
            secret: Secret::new(row.text("secret")),
        }),
        users: rows(table, "users", mistakes, |row, id| User {
            id,
            client: row.reference("client").unwrap_or(some_client),
            first_name: row.text("first_name"),
            last_name: row.text("last_name"),
            terminal: row.optional_reference("terminal"),
            extension: row.optional_reference("extension"),
            do_not_disturb: row.flag("do_not_disturb"),
            call_waiting: row.number("call_waiting"),
            multi_contact: row.flag("multi_contact"),
            rejection: row
                .one_of("rejection", "write \"ByResponse\", \"ThisDevice\" or \"AllDevices\"")
                .unwrap_or_default(),
        }),
        extensions: rows(table, "extensions", mistakes, |row, id| Extension {
            id,
            client: row.reference("client").unwrap_or(some_client),
            number: row.one_of("number", TEXT).unwrap_or_default(),
            route: row
                .one_of("route", "write { User = ID } or \"Unassigned\"")
                .unwrap_or(model::ExtensionRoute::Unassigned),
        }),
        brands,
        clients,
    }
}

/// The entries of one kind. Those without an id of their own are only looked at.
fn rows<T, K>(
    table: &Table,
    kind: &'static str,
    mistakes: &mut Vec<model::Mistake>,
    read: impl Fn(&mut Row<'_>, Id<K>) -> T,
) -> Vec<T> {
    let remedy = format!("write its entries below lines of [[{kind}]]");
    let entries = match table.get(kind) {
        Some(Value::Array(entries)) => entries.as_slice(),
        other => {
            let value = other.map(shown).unwrap_or_default();
            let remedy = if other.is_some() { remedy } else { format!("missing; {remedy}") };
            mistakes.push(model::Mistake { key: kind.to_owned(), value, remedy });
            return Vec::new();
        }
    };
    let mut read_rows = Vec::new();
    for (place, entry) in (1..).zip(entries) {
        let Some(table) = entry.as_table() else {
            let (key, remedy) = (format!("{kind}[entry {place}]"), remedy.clone());
            mistakes.push(model::Mistake { key, value: shown(entry), remedy });
            continue;
        };
        let id = table.get("id").and_then(number);
        let key = id.map_or_else(|| format!("{kind}[entry {place}]"), |id| format!("{kind}[{id}]"));
        let mut row = Row { key, table, known: Vec::new(), mistakes };
        let id = row.reference("id");
        let entity = read(&mut row, id.unwrap_or(Id::new(0)));
        row.finish();
        read_rows.extend(id.map(|_| entity));
    }
    read_rows
}

/// One entry, which remembers the keys that were asked for: the rest is unknown.
struct Row<'a> {
    /// Like `users[2]`.
    key: String,
    table: &'a Table,
    known: Vec<&'static str>,
    mistakes: &'a mut Vec<model::Mistake>,
}

impl Row<'_> {
    fn field<T>(
        &mut self,
        name: &'static str,
        remedy: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        self.known.push(name);
        let Some(value) = self.table.get(name) else {
            self.mistake(name, String::new(), format!("missing; {remedy}"));
            return None;
        };
        let field = read(value);
        if field.is_none() {
            self.mistake(name, shown(value), remedy.to_owned());
        }
        field
    }

    fn text(&mut self, name: &'static str) -> String {
        self.field(name, TEXT, |value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }

    fn flag(&mut self, name: &'static str) -> bool {
        self.field(name, "write true or false", Value::as_bool).unwrap_or_default()
    }

    fn number(&mut self, name: &'static str) -> u32 {
        let remedy = format!("give a whole number from 0 to {}", u32::MAX);
        self.field(name, &remedy, number).unwrap_or_default()
    }

    /// One of the values that the model knows.
    fn one_of<T: serde::de::DeserializeOwned>(&mut self, name: &'static str, remedy: &str) -> Option<T> {
        self.field(name, remedy, |value| value.clone().try_into().ok())
    }

    fn reference<K>(&mut self, name: &'static str) -> Option<Id<K>> {
        let remedy = format!("give an id, a whole number from 1 to {}", u32::MAX);
        self.field(name, &remedy, |value| number(value).filter(|id| *id > 0)).map(Id::new)
    }

    fn optional_reference<K>(&mut self, name: &'static str) -> Option<Id<K>> {
        if self.table.contains_key(name) {
            return self.reference(name);
        }
        self.known.push(name);
        None
    }

    fn finish(mut self) {
        let known = self.known.join(", ");
        for (name, value) in self.table {
            if !self.known.contains(&name.as_str()) {
                self.mistake(name, shown(value), format!("unknown key; there are {known}"));
            }
        }
    }

    fn mistake(&mut self, name: &str, value: String, remedy: String) {
        // An unknown key may be a mistyped one of a password, or one in the wrong place.
        let is_secret = name == "secret" || !self.known.contains(&name);
        let value = if is_secret && !value.is_empty() { "(not shown)".to_owned() } else { value };
        self.mistakes.push(model::Mistake { key: format!("{}.{name}", self.key), value, remedy });
    }
}

fn number(value: &Value) -> Option<u32> {
    value.as_integer().and_then(|number| u32::try_from(number).ok())
}

/// A value as the operator is shown it; of one with parts, which may hold a password, nothing.
fn shown(value: &Value) -> String {
    if value.is_array() || value.is_table() { String::new() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        let mistakes = check(&text.parse().unwrap()).unwrap_err();
        mistakes.iter().map(|m| format!("{} = {}: {}", m.key, m.value, m.remedy)).collect()
    }

    fn demo() -> Table {
        Table::try_from(Configuration::demo()).unwrap()
    }

    fn entry<'a>(table: &'a mut Table, kind: &str, place: usize) -> &'a mut Table {
        table[kind][place].as_table_mut().unwrap()
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        assert_eq!(check(&demo()).unwrap(), Configuration::demo());
        let mut bare = demo();
        entry(&mut bare, "users", 0).remove("terminal");
        entry(&mut bare, "extensions", 0).insert("route".to_owned(), "Unassigned".into());
        let read = check(&bare).unwrap();
        assert_eq!(
            (read.users[0].terminal, read.extensions[0].route),
            (None, model::ExtensionRoute::Unassigned)
        );
    }

    #[test]
    fn types_keys_and_references_are_listed_together() {
        let mut users = demo();
        let bob = entry(&mut users, "users", 1);
        bob.insert("call_waiting".to_owned(), (-1).into());
        bob.insert("rejection".to_owned(), "Never".into());
        bob.insert("terminal".to_owned(), 77.into());
        bob.insert("do_not_distrub".to_owned(), true.into());
        bob.remove("do_not_disturb");
        entry(&mut users, "clients", 0).insert("domain".to_owned(), 5.into());
        let alice = entry(&mut users, "terminals", 0);
        alice.insert("secret".to_owned(), 4711.into());
        alice.insert("secert".to_owned(), "hush".into());
        alice.insert("client".to_owned(), "DemoCompany".into());
        let extension = entry(&mut users, "extensions", 1);
        extension.insert("route".to_owned(), toml::toml! { User = "bob" }.into());
        extension.insert("number".to_owned(), 102.into());
        users.insert("trunks".to_owned(), 1.into());
        let id = "give an id, a whole number from 1 to 4294967295";
        let expected = [
            "trunks = 1: unknown; there are brands, clients, terminals, users, extensions".to_owned(),
            "clients[1].domain = 5: write a text in quotes".to_owned(),
            format!("terminals[1].client = \"DemoCompany\": {id}"),
            "terminals[1].secret = (not shown): write a text in quotes".to_owned(),
            "terminals[1].secert = (not shown): unknown key; there are id, client, name, secret".to_owned(),
            "users[2].do_not_disturb = : missing; write true or false".to_owned(),
            "users[2].call_waiting = -1: give a whole number from 0 to 4294967295".to_owned(),
            "users[2].rejection = \"Never\": write \"ByResponse\", \"ThisDevice\" or \"AllDevices\"".to_owned(),
            "users[2].do_not_distrub = (not shown): unknown key; there are id, client, first_name, last_name, terminal, \
             extension, do_not_disturb, call_waiting, multi_contact, rejection"
                .to_owned(),
            "extensions[2].number = 102: write a text in quotes".to_owned(),
            "extensions[2].route = : write { User = ID } or \"Unassigned\"".to_owned(),
            "users[2].terminal = 77: there is no such terminal; make it, or name another one".to_owned(),
        ];
        assert_eq!(mistakes(&toml::to_string(&users).unwrap()), expected);
    }

    #[test]
    fn entries_that_cannot_be_named_are_counted() {
        let id = "give an id, a whole number from 1 to 4294967295";
        let lists = ["brands", "clients", "users"].map(|kind| {
            format!(
                "{kind} = : {}write its entries below lines of [[{kind}]]",
                if kind == "users" { "" } else { "missing; " }
            )
        });
        let expected = [
            lists[0].clone(),
            lists[1].clone(),
            format!("terminals[entry 1].id = \"x\": {id}"),
            "terminals[entry 1].name = 5: write a text in quotes".to_owned(),
            "terminals[entry 1].secret = : missing; write a text in quotes".to_owned(),
            format!("terminals[0].id = 0: {id}"),
            format!("terminals[0].client = : missing; {id}"),
            "terminals[0].name = : missing; write a text in quotes".to_owned(),
            "terminals[0].secret = : missing; write a text in quotes".to_owned(),
            lists[2].clone(),
            "extensions[entry 1] = 7: write its entries below lines of [[extensions]]".to_owned(),
        ];
        let text = "extensions = [7]\n[[terminals]]\nid = \"x\"\nclient = 1\nname = 5\n[[terminals]]\nid = 0\n[users]\n";
        assert_eq!(mistakes(text), expected);
    }

    #[test]
    fn a_file_that_is_no_toml_is_named_with_the_line_and_without_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.toml");
        std::fs::write(&file, "[[terminals]]\nid = 1\nsecret = \"hush\n").unwrap();
        let listed = format!("{}", read(&file).unwrap_err()[0]);
        assert!(listed.starts_with("users.file = ") && listed.contains("line 3 is not readable"), "{listed}");
        assert!(!listed.contains("hush"), "{listed}");
    }
}
