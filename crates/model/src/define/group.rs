//! Embedded values: several named parts with one purpose, nested in a row's document.
//!
//! A file's description, a text in five languages, what an invoice says of a company.

use super::table::Field;
use super::value::{Attribute, Fault, Groups, Kind, LONGEST, Reading, Value};
use serde_json::Value as Json;

/// What a group consists of.
#[derive(Debug)]
pub struct GroupShape {
    /// What it is: "File".
    pub name: &'static str,
    /// The names of its parts.
    pub names: &'static [&'static str],
    /// Its parts are whole numbers rather than texts, by place.
    pub numbers: &'static [bool],
    /// Most characters of each part; 0: the field's own limit.
    pub limits: &'static [usize],
}

/// A group of embedded values.
pub trait Group: Groups + Default {
    /// What it consists of.
    const SHAPE: &'static GroupShape;
    /// Reads one part.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    fn read_part(&mut self, place: usize, json: &Json, most: usize) -> Result<(), Fault>;
}

fn read_group<G: Group>(json: &Json, field: &Field) -> Result<G, Fault> {
    let mut group = G::default();
    let Json::Object(parts) = json else {
        if json.is_null() {
            return Ok(group);
        }
        return Err(Fault(format!("write an object with {}", G::SHAPE.names.join(", "))));
    };
    for (place, name) in G::SHAPE.names.iter().enumerate() {
        if let Some(part) = parts.get(*name) {
            let own = G::SHAPE.limits[place];
            let most = if own == 0 { field.max } else { own };
            group.read_part(place, part, most).map_err(|fault| Fault(format!("{name}: {fault}")))?;
        }
    }
    Ok(group)
}

macro_rules! group_attribute {
    ($name:ident) => {
        impl Attribute for $name {
            const KIND: Kind = Kind::Group(<Self as Group>::SHAPE);

            fn value(&self) -> Value<'_> {
                Value::Group(self)
            }

            fn read(json: &Json, _: &Reading<'_>, field: &Field) -> Result<Self, Fault> {
                read_group(json, field)
            }
        }
    };
}

fn text(json: &Json, most: usize) -> Result<Option<String>, Fault> {
    let text = match json {
        Json::Null => return Ok(None),
        Json::String(text) => text.clone(),
        Json::Number(number) => number.to_string(),
        Json::Bool(flag) => u8::from(*flag).to_string(),
        Json::Array(_) | Json::Object(_) => return Err(Fault("write a text".to_owned())),
    };
    let most = if most == 0 { LONGEST } else { most };
    let count = text.chars().count();
    if count > most {
        return Err(Fault(format!("it has {count} characters, and may have {most}")));
    }
    if text.contains('\0') {
        return Err(Fault("it contains a NUL character".to_owned()));
    }
    Ok(Some(text))
}

macro_rules! texts {
    ($(#[doc = $docs:literal])* $name:ident { $($(#[doc = $part_docs:literal])* $part:ident = $shown:literal: $limit:literal),+ $(,)? }) => {
        $(#[doc = $docs])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[doc = $part_docs])* pub $part: String),+ }

        group_attribute!($name);

        impl Groups for $name {
            fn shape(&self) -> &'static GroupShape {
                Self::SHAPE
            }

            fn part(&self, place: usize) -> Value<'_> {
                [$(self.$part.as_str()),+].get(place).map_or(Value::Null, |text| Value::Text(text))
            }
        }

        impl Group for $name {
            const SHAPE: &'static GroupShape = &GroupShape {
                name: stringify!($name),
                names: &[$($shown),+],
                numbers: &[$({ let _ = $limit; false }),+],
                limits: &[$($limit),+],
            };

            fn read_part(&mut self, place: usize, json: &Json, most: usize) -> Result<(), Fault> {
                if let Some(part) = [$(&mut self.$part),+].into_iter().nth(place) {
                    *part = text(json, most)?.unwrap_or_default();
                }
                Ok(())
            }
        }
    };
}

texts! {
    /// A text in every language of the platform.
    Translated {
        /// English.
        en = "en": 0,
        /// Spanish.
        es = "es": 0,
        /// Catalan.
        ca = "ca": 0,
        /// Italian.
        it = "it": 0,
        /// Basque.
        eu = "eu": 0,
    }
}

impl Translated {
    /// The same text in every language.
    pub fn same(text: &str) -> Self {
        let text = || text.to_owned();
        Self { en: text(), es: text(), ca: text(), it: text(), eu: text() }
    }
}

texts! {
    /// What a brand's invoices say of the brand (manual, "Brand configuration").
    InvoiceAddress {
        /// Tax number.
        nif = "nif": 25,
        /// Street and number.
        postal_address = "postalAddress": 255,
        /// Postal code.
        postal_code = "postalCode": 10,
        /// Town.
        town = "town": 255,
        /// Province or state.
        province = "province": 255,
        /// Country.
        country = "country": 255,
        /// Entry in the company register.
        registry_data = "registryData": 1024,
    }
}

texts! {
    /// What invoices say of the company that pays (manual, "Invoicing").
    Invoicing {
        /// Tax number.
        nif = "nif": 25,
        /// Street and number.
        postal_address = "postalAddress": 255,
        /// Postal code.
        postal_code = "postalCode": 10,
        /// Town.
        town = "town": 255,
        /// Province or state.
        province = "province": 255,
        /// Country.
        country_name = "countryName": 255,
    }
}

/// A stored file as rows describe it; its octets are kept elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Octets; null: there is no file.
    pub size: Option<u32>,
    /// Its media type.
    pub mime_type: Option<String>,
    /// The name that it was given.
    pub base_name: Option<String>,
}

impl File {
    /// Whether there is a file.
    pub fn is_there(&self) -> bool {
        self.size.is_some()
    }
}

impl Groups for File {
    fn shape(&self) -> &'static GroupShape {
        Self::SHAPE
    }

    fn part(&self, place: usize) -> Value<'_> {
        match place {
            0 => self.size.map_or(Value::Null, |size| Value::Int(i64::from(size))),
            1 => self.mime_type.as_deref().map_or(Value::Null, Value::Text),
            2 => self.base_name.as_deref().map_or(Value::Null, Value::Text),
            _ => Value::Null,
        }
    }
}

impl Group for File {
    const SHAPE: &'static GroupShape = &GroupShape {
        name: "File",
        names: &["fileSize", "mimeType", "baseName"],
        numbers: &[true, false, false],
        limits: &[0, 80, 255],
    };

    fn read_part(&mut self, place: usize, json: &Json, most: usize) -> Result<(), Fault> {
        match place {
            0 => self.size = size(json)?,
            1 => self.mime_type = text(json, most)?,
            _ => self.base_name = text(json, most)?,
        }
        Ok(())
    }
}

group_attribute!(File);

fn size(json: &Json) -> Result<Option<u32>, Fault> {
    if json.is_null() {
        return Ok(None);
    }
    let size = json.as_u64().or_else(|| json.as_str()?.parse().ok());
    let size = size.and_then(|size| u32::try_from(size).ok());
    size.map(Some).ok_or_else(|| Fault("write a count of octets".to_owned()))
}

/// A file that an importer reads, with what it was told about the file's form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportedFile {
    /// The file.
    pub file: File,
    /// Columns, separators and quotes; null: the usual ones.
    pub importer_arguments: Json,
}

impl Groups for ImportedFile {
    fn shape(&self) -> &'static GroupShape {
        Self::SHAPE
    }

    fn part(&self, place: usize) -> Value<'_> {
        match place {
            3 if self.importer_arguments.is_null() => Value::Null,
            3 => Value::Json(&self.importer_arguments),
            place => self.file.part(place),
        }
    }
}

impl Group for ImportedFile {
    const SHAPE: &'static GroupShape = &GroupShape {
        name: "ImportedFile",
        names: &["fileSize", "mimeType", "baseName", "importerArguments"],
        numbers: &[true, false, false, false],
        limits: &[0, 80, 255, 1024],
    };

    fn read_part(&mut self, place: usize, json: &Json, most: usize) -> Result<(), Fault> {
        if place != 3 {
            return self.file.read_part(place, json, most);
        }
        // Stored systems have it as a text.
        let arguments = match json {
            Json::String(text) => {
                serde_json::from_str(text).map_err(|error| Fault(format!("it is not JSON: {error}")))?
            }
            json => json.clone(),
        };
        if arguments.to_string().len() > most {
            return Err(Fault(format!("it is longer than {most} octets")));
        }
        self.importer_arguments = arguments;
        Ok(())
    }
}

group_attribute!(ImportedFile);
