//! How a file of rates is written: what stands between columns and around them, which column holds what.
//! In: a list's `importerArguments`. Out: options. Elsewhere: reading by them ([`super::sheet`]).

use serde_json::Value as Json;

/// Columns of a line.
pub const COLUMNS_MAX: usize = 64;

/// As `importerArguments` name them.
pub(super) const NAMES: [&str; 5] =
    ["destinationName", "destinationPrefix", "rateCost", "connectionCharge", "rateIncrement"];
pub(super) const NAME: usize = 0;
pub(super) const PREFIX: usize = 1;
pub(super) const COST: usize = 2;
pub(super) const CHARGE: usize = 3;
pub(super) const INCREMENT: usize = 4;

/// How a file is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What stands between two columns.
    pub delimiter: u8,
    /// What may stand around a column; written twice within it, it means itself.
    pub enclosure: Option<u8>,
    /// What takes the meaning of an enclosure within one.
    pub escape: Option<u8>,
    /// Which column holds what.
    pub columns: Columns,
    /// The first line has titles.
    pub ignore_first: bool,
}

impl Default for Options {
    /// As the manual proposes: commas, double quotes, titles in the first line.
    fn default() -> Self {
        Self {
            delimiter: b',',
            enclosure: Some(b'"'),
            escape: None,
            columns: Columns::default(),
            ignore_first: true,
        }
    }
}

impl Options {
    /// From the `importerArguments` of a list: null or nothing in it is the usual form. `scape` is how the dialect writes
    /// escape.
    ///
    /// # Errors
    ///
    /// What no file can be read by.
    pub fn of(arguments: &Json) -> Result<Self, WrongOptions> {
        let given = match arguments {
            Json::Null => return Ok(Self::default()),
            Json::Array(list) if list.is_empty() => return Ok(Self::default()),
            Json::Object(given) => given,
            _ => return Err(WrongOptions::Arguments),
        };
        let character = |name: &'static str, usual: Option<u8>| match given.get(name) {
            None => Ok(usual),
            Some(Json::Null) => Ok(None),
            Some(Json::String(text)) if text.is_empty() => Ok(None),
            Some(Json::String(text)) if text.len() == 1 => Ok(text.bytes().next()),
            Some(_) => Err(WrongOptions::Character(name)),
        };
        let usual = Self::default();
        let escape = if given.contains_key("scape") { "scape" } else { "escape" };
        let columns = match given.get("columns") {
            None | Some(Json::Null) => usual.columns,
            Some(Json::Array(names)) => {
                let names: Vec<&str> = names.iter().map(|name| name.as_str().unwrap_or_default()).collect();
                Columns::named(&names)?
            }
            Some(_) => return Err(WrongOptions::Arguments),
        };
        let ignore_first = match given.get("ignoreFirst") {
            None | Some(Json::Null) => false,
            Some(Json::Bool(ignore)) => *ignore,
            Some(_) => return Err(WrongOptions::Arguments),
        };
        let delimiter = character("delimiter", Some(usual.delimiter))?;
        let options = Self {
            delimiter: delimiter.ok_or(WrongOptions::Character("delimiter"))?,
            enclosure: character("enclosure", usual.enclosure)?,
            escape: character(escape, usual.escape)?,
            columns,
            ignore_first,
        };
        options.check().map(|()| options)
    }

    pub(super) fn check(&self) -> Result<(), WrongOptions> {
        let Self { delimiter, enclosure, escape, .. } = self;
        let named = [("delimiter", Some(*delimiter)), ("enclosure", *enclosure), ("escape", *escape)];
        for (place, (name, character)) in named.iter().enumerate() {
            let Some(character) = character else { continue };
            let taken = named.iter().take(place).any(|(_, other)| *other == Some(*character));
            if taken || !character.is_ascii() || matches!(character, b'\0' | b'\r' | b'\n') {
                return Err(WrongOptions::Character(name));
            }
        }
        Ok(())
    }
}

/// Which column holds what. By default: the destination's name, its prefix, the price of a minute, that of a connection, the charge
/// period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns(pub(super) [usize; 5]);

impl Default for Columns {
    fn default() -> Self {
        Self([NAME, PREFIX, COST, CHARGE, INCREMENT])
    }
}

impl Columns {
    /// From the names of a file's columns in their order, as `importerArguments` of a list have them; columns of other
    /// names are not looked at.
    ///
    /// # Errors
    ///
    /// A column that is missing or there twice, or too many of them.
    pub fn named<T: AsRef<str>>(names: &[T]) -> Result<Self, WrongOptions> {
        if names.len() > COLUMNS_MAX {
            return Err(WrongOptions::TooManyColumns);
        }
        let mut places = [0; 5];
        for (place, wanted) in places.iter_mut().zip(NAMES) {
            let mut found = (0..).zip(names).filter(|(_, name)| name.as_ref() == wanted);
            match (found.next(), found.next()) {
                (Some((at, _)), None) => *place = at,
                _ => return Err(WrongOptions::Column(wanted)),
            }
        }
        Ok(Self(places))
    }
}

/// Options that no file can be read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongOptions {
    /// Not what `importerArguments` consist of.
    #[error(
        "importerArguments: write an object with delimiter, enclosure, scape, columns (a list) and ignoreFirst (true or false)"
    )]
    Arguments,
    /// A column that is not named exactly once.
    #[error("columns: name {0} once")]
    Column(&'static str),
    /// More columns than a line may have.
    #[error("columns: name at most {COLUMNS_MAX}")]
    TooManyColumns,
    /// Delimiter, enclosure and escape must be told apart from each other, from ends of lines, and from the rest of a text.
    #[error("{0}: write one character of ASCII, which is no end of a line and none of the others")]
    Character(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn importer_arguments_say_how_a_file_is_written() {
        let usual = r#"{"scape": null, "delimiter": ",", "enclosure": "\"", "ignoreFirst": true, "columns":
            ["destinationName", "destinationPrefix", "rateCost", "connectionCharge", "rateIncrement"]}"#;
        let of = |text: &str| Options::of(&serde_json::from_str(text).unwrap());
        for text in ["null", "[]", usual] {
            assert_eq!(of(text), Ok(Options::default()), "{text}");
        }
        assert_eq!(
            of("{}"),
            Ok(Options { ignore_first: false, ..Options::default() }),
            "no rate is dropped that nobody called a title"
        );
        let other =
            of(r#"{"delimiter": ";", "enclosure": "", "scape": "\\", "ignoreFirst": false}"#).unwrap();
        assert_eq!((other.delimiter, other.enclosure, other.escape), (b';', None, Some(b'\\')));
        for (text, wrong) in [
            ("7", WrongOptions::Arguments),
            ("[1]", WrongOptions::Arguments),
            (r#"{"ignoreFirst": 1}"#, WrongOptions::Arguments),
            (r#"{"columns": "rateCost"}"#, WrongOptions::Arguments),
            (r#"{"columns": [7]}"#, WrongOptions::Column("destinationName")),
            (r#"{"delimiter": null}"#, WrongOptions::Character("delimiter")),
            (r#"{"delimiter": ";;"}"#, WrongOptions::Character("delimiter")),
            (r#"{"enclosure": ","}"#, WrongOptions::Character("enclosure")),
            (r#"{"scape": "é"}"#, WrongOptions::Character("scape")),
        ] {
            assert_eq!(of(text), Err(wrong), "{text}");
        }
    }
}
