//! Files of documents for `carillon ctl apply` and `delete`: YAML or JSON, one or many.
//!
//! In: `entity: User`, `id: 5` (or none), `fields: {…}`; documents of YAML apart by `---`, or a list of them. Out: wishes, each with
//! where it stands. Elsewhere: what is made of them (crate `api`, room `grpc::apply`).

use crate::node::StartError;
use proto::v1;
use serde_json::{Map, Value as Json};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Documents of one file; a node takes as many wishes at once.
const MOST_DOCUMENTS: usize = 1000;

/// Most octets of one file.
const LARGEST: u64 = 4 << 20;
/// Most files of a directory.
const MOST_FILES: usize = 1000;

/// A wish, and where it stands.
#[derive(Debug)]
pub(crate) struct Document {
    /// The file and the number of the document in it.
    pub(crate) place: String,
    /// What is wished.
    pub(crate) wish: v1::Wish,
}

/// Reads a file, all files of a directory in the order of their names, or standard input ("-").
pub(crate) fn read(path: &Path, delete: bool) -> Result<Vec<Document>, StartError> {
    let failed =
        |path: &Path, error: &dyn std::fmt::Display| StartError(format!("{}: {error}", path.display()));
    if path.as_os_str() == "-" {
        let text = text(std::io::stdin()).map_err(|error| failed(Path::new("standard input"), &error))?;
        return documents("standard input", &text, false, delete);
    }
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        files = within(path).map_err(|error| failed(path, &error))?;
        if files.is_empty() || files.len() > MOST_FILES {
            let why =
                format!("{} files that end in .yaml, .yml or .json; have 1 to {MOST_FILES}", files.len());
            return Err(failed(path, &why));
        }
    }
    let mut all = Vec::new();
    for file in &files {
        let open = std::fs::File::open(file).map_err(|error| failed(file, &error))?;
        let text = text(open).map_err(|error| failed(file, &error))?;
        let is_json = file.extension().is_some_and(|end| end == "json");
        all.extend(documents(&file.display().to_string(), &text, is_json, delete)?);
    }
    Ok(all)
}

fn within(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)?.take(100 * MOST_FILES) {
        let path = entry?.path();
        let known = path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if known && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn text(from: impl std::io::Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(std::io::Error::other(format!("longer than {LARGEST} octets; make several files of it")));
    }
    Ok(text)
}

/// The documents of a text.
fn documents(name: &str, text: &str, is_json: bool, delete: bool) -> Result<Vec<Document>, StartError> {
    let unreadable = |error: &dyn std::fmt::Display| StartError(format!("{name}: {error}"));
    let parts: Vec<Json> = if is_json {
        let read = serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>();
        read.map_err(|error| unreadable(&error))?
    } else {
        // Numbers of telephones are no numbers: what begins with 0 stays as it is written.
        let options = serde_saphyr::options! {
            leading_zero_numbers_as_strings: true,
            underscored_numbers_as_strings: true,
            strict_booleans: true,
        };
        // Before the parser counts them: its own bounds are lower than a file of an operator's may be long.
        let documents = text.lines().filter(|line| line.starts_with("---")).count();
        if documents > MOST_DOCUMENTS {
            let why = format!("it has {documents} documents; apply it in parts of at most {MOST_DOCUMENTS}");
            return Err(unreadable(&why));
        }
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| unreadable(&error))?
    };
    let mut all = Vec::new();
    for part in parts {
        match part {
            Json::Array(list) => all.extend(list),
            part => all.push(part),
        }
    }
    if all.is_empty() {
        return Err(unreadable(&"no document; write entity: User, and fields: {…}"));
    }
    let numbered = all.into_iter().enumerate();
    numbered.map(|(at, json)| document(format!("{name}, document {}", at + 1), json, delete)).collect()
}

fn document(place: String, json: Json, delete: bool) -> Result<Document, StartError> {
    let wrong = |field: &str, remedy: &str| StartError(format!("{place}: {field}: {remedy}"));
    let Json::Object(mut document) = json else {
        return Err(wrong("entity", "write a document with entity, id (or none) and fields"));
    };
    let entity = match document.remove("entity") {
        Some(Json::String(entity)) if !entity.is_empty() => entity,
        _ => return Err(wrong("entity", "write the name of an entity, such as User")),
    };
    let id = match document.remove("id") {
        None | Some(Json::Null) => None,
        Some(id) => {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            Some(id.ok_or_else(|| wrong("id", "write a whole number, or leave it out"))?)
        }
    };
    let fields = match document.remove("fields") {
        None | Some(Json::Null) => Map::new(),
        Some(Json::Object(fields)) => fields,
        Some(_) => return Err(wrong("fields", "write names and values")),
    };
    if let Some(name) = document.keys().next() {
        return Err(wrong(
            name,
            "there is no such word here; entity, id and fields are, and what a row has is in fields",
        ));
    }
    Ok(Document { place, wish: v1::Wish { entity, id, json: Json::Object(fields).to_string(), delete } })
}

/// Rows as documents of YAML that [`read`] reads again.
pub(crate) fn yaml(documents: &[Json]) -> Result<String, StartError> {
    let mut text = String::new();
    for document in documents {
        let one = serde_saphyr::to_string(document)?;
        text.push_str("---\n");
        text.push_str(&one);
        if !one.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_file_with_too_many_documents_is_refused_by_their_number() {
        let text = "---\nentity: User\nid: 1\nfields: {name: x}\n";
        assert_eq!(documents("file", &text.repeat(1000), false, false).map_or(0, |all| all.len()), 1000);
        let Err(StartError(why)) = documents("file", &text.repeat(1001), false, false) else { panic!() };
        assert!(why.contains("it has 1001 documents; apply it in parts"), "{why}");
    }

    fn wishes(text: &str, is_json: bool) -> Vec<(String, Option<u32>, Json)> {
        let read =
            documents("file", text, is_json, false).unwrap_or_else(|StartError(text)| panic!("{text}"));
        let wish = |document: Document| {
            let json = serde_json::from_str(&document.wish.json).unwrap();
            (document.wish.entity, document.wish.id, json)
        };
        read.into_iter().map(wish).collect()
    }

    #[test]
    fn yaml_and_json_say_the_same_one_document_or_many() {
        let expected = [
            ("User".to_owned(), Some(5), json!({ "name": "Bob", "active": true })),
            ("Extension".to_owned(), None, json!({ "number": "0034", "word": "no", "list": [1, 2] })),
        ];
        let yaml = "entity: User\nid: 5\nfields: {name: Bob, active: true}\n---\n# another\n\
                    entity: Extension\nfields:\n  number: 0034\n  word: no\n  list: [1, 2]\n";
        assert_eq!(wishes(yaml, false), expected);
        let json = r#"[{"entity": "User", "id": 5, "fields": {"name": "Bob", "active": true}}]
            {"entity": "Extension", "fields": {"number": "0034", "word": "no", "list": [1, 2]}}"#;
        assert_eq!(wishes(json, true), expected);
    }

    #[test]
    fn what_is_printed_as_yaml_is_read_again_as_it_was() {
        let fields = json!({
            "a": "0034", "b": "+34", "c": "no", "d": "true", "e": "1e3", "f": "", "g": null, "h": "two\nlines", "i": "~", "j": 7,
            "k": { "en": "x: y", "es": "# z" }, "l": [1, 2], "m": "*****", "n": "- x", "o": 1.5, "p": false, "q": "null", "r": []
        });
        let document = json!({ "entity": "User", "id": 1, "fields": fields });
        let text = yaml(&[document.clone(), document]).unwrap();
        let read = wishes(&text, false);
        assert_eq!(read.len(), 2);
        assert!(read.iter().all(|(_, id, json)| *json == fields && *id == Some(1)), "{text}");
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let told = |text: &str| documents("file", text, false, false).unwrap_err().0;
        assert!(told("entity: User\nname: x").starts_with("file, document 1: name: there is no such word"));
        assert!(told("entity: User\n---\nid: 1").starts_with("file, document 2: entity: write"));
        assert!(told("entity: User\nid: x").starts_with("file, document 1: id: write a whole number"));
        assert!(told("").contains("no document"));
        assert!(told("{").starts_with("file: "));
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                    g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
        assert!(told(bomb).starts_with("file: "));
    }
}
