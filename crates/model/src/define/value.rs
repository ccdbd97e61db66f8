//! What a field holds: the kinds, reading them from JSON with all checks of their own, and showing them.
//!
//! In: JSON as it came from a request, a file or the store. Out: typed values, or a [`Fault`] in words for people.

use super::group::GroupShape;
use super::table::{Entity, Field, Table};
use crate::id::Id;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use serde_json::Value as Json;
use std::fmt;

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The row's identifier.
    Id,
    /// True or false.
    Bool,
    /// A whole number within these bounds, both included.
    Int(i64, i64),
    /// An exact decimal.
    Decimal,
    /// A measured number.
    Float,
    /// Text.
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A moment, kept in UTC.
    Time,
    /// A day of the calendar, in no time zone.
    Date,
    /// A time of day, in no time zone.
    Clock,
    /// The identifier of a row of this table.
    Reference(fn() -> &'static Table),
    /// Several named values of one purpose: a file, a text in five languages, an address.
    Group(&'static GroupShape),
    /// A document that is only carried.
    Json,
    /// A password that the platform must know itself (SIP digest); sealed where it is stored.
    Secret,
    /// A person's password, of which only the hash is kept.
    Password,
}

/// A value on its way out.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number or an identifier.
    Int(i64),
    /// An exact decimal.
    Decimal(Decimal),
    /// A measured number.
    Float(f64),
    /// Text.
    Text(&'a str),
    /// A moment.
    Time(Timestamp),
    /// A day.
    Date(Date),
    /// A time of day.
    Clock(Time),
    /// A group's values, by place of its shape.
    Group(&'a dyn Groups),
    /// A document.
    Json(&'a Json),
}

/// The values of a group.
pub trait Groups: Send + Sync {
    /// The names of the values.
    fn shape(&self) -> &'static GroupShape;
    /// The value at this place of the shape.
    fn part(&self, place: usize) -> Value<'_>;
}

impl fmt::Debug for dyn Groups + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.shape().names.iter().enumerate();
        f.debug_map().entries(parts.map(|(place, name)| (name, self.part(place)))).finish()
    }
}

impl<'a> Value<'a> {
    /// The identifier or number it is.
    pub fn id(self) -> Option<u32> {
        match self {
            Value::Int(number) => u32::try_from(number).ok(),
            _ => None,
        }
    }

    /// The text it is.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is nothing.
    pub fn is_null(self) -> bool {
        matches!(self, Value::Null)
    }

    /// The value within a group.
    pub fn part(self, name: &str) -> Value<'a> {
        match self {
            Value::Group(group) => {
                let place = group.shape().names.iter().position(|part| *part == name);
                place.map_or(Value::Null, |place| group.part(place))
            }
            _ => Value::Null,
        }
    }

    /// Its form in stored documents and exports: times in UTC, decimals as texts.
    pub fn stored(self) -> Json {
        match self {
            Value::Decimal(decimal) => Json::String(decimal.to_string()),
            Value::Group(group) => {
                let parts = group.shape().names.iter().enumerate();
                Json::Object(parts.map(|(at, name)| ((*name).to_owned(), group.part(at).stored())).collect())
            }
            other => other.shown(&TimeZone::UTC),
        }
    }

    /// Its form in answers, for somebody in this time zone.
    pub fn shown(self, zone: &TimeZone) -> Json {
        match self {
            Value::Null => Json::Null,
            Value::Bool(flag) => Json::Bool(flag),
            Value::Int(number) => Json::from(number),
            Value::Decimal(decimal) => decimal_number(decimal),
            Value::Float(number) => float_number(number),
            Value::Text(text) => Json::String(text.to_owned()),
            Value::Time(time) => Json::String(shown_time(time, zone)),
            Value::Date(date) => Json::String(date.to_string()),
            Value::Clock(time) => Json::String(shown_clock(time)),
            Value::Json(json) => json.clone(),
            Value::Group(group) => {
                let parts = group.shape().names.iter().enumerate();
                Json::Object(
                    parts.map(|(at, name)| ((*name).to_owned(), group.part(at).shown(zone))).collect(),
                )
            }
        }
    }
}

/// A moment as answers write it: `2018-11-22 16:54:49` in the given time zone.
pub fn shown_time(time: Timestamp, zone: &TimeZone) -> String {
    let at = zone.to_datetime(time);
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        at.year(),
        at.month(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

fn shown_clock(time: Time) -> String {
    format!("{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())
}

fn decimal_number(decimal: Decimal) -> Json {
    if decimal.fract().is_zero()
        && let Ok(whole) = i64::try_from(decimal.trunc())
    {
        return Json::from(whole);
    }
    decimal.to_string().parse::<f64>().map_or(Json::Null, Json::from)
}

fn float_number(number: f64) -> Json {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        #[allow(clippy::cast_possible_truncation, reason = "whole and within what a double holds exactly")]
        return Json::from(number as i64);
    }
    Json::from(number)
}

/// What a value is read with: nothing here is read from the environment.
pub struct Reading<'a> {
    /// The time zone in which moments are written.
    pub zone: &'a TimeZone,
    /// What `CURRENT_TIMESTAMP` means.
    pub now: Timestamp,
    /// Makes the hash of a person's password; without it the text is a hash already.
    pub hasher: Option<&'a dyn SecretHasher>,
}

impl fmt::Debug for Reading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("zone", &self.zone).field("now", &self.now).finish_non_exhaustive()
    }
}

impl Reading<'static> {
    /// For documents that this program wrote, or a person's file in UTC.
    pub fn stored(now: Timestamp) -> Self {
        static UTC: TimeZone = TimeZone::UTC;
        Self { zone: &UTC, now, hasher: None }
    }
}

/// Fewest characters of a person's password. The dialect's own samples have four; its users are let in yet.
pub const LEAST_PASSWORD: usize = 4;

/// Makes hashes of passwords; it is slow on purpose and needs randomness, so it is handed in.
pub trait SecretHasher: Sync {
    /// The hash as it is stored.
    fn hash(&self, password: &str) -> String;
}

/// What is wrong with a value, without naming the field: "longer than 50 characters".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

impl Fault {
    /// There is no such field.
    pub fn unknown() -> Self {
        Self("there is no such field".to_owned())
    }

    fn expected(what: &str, json: &Json) -> Self {
        let shown = match json {
            Json::String(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
            Json::Null => "null".to_owned(),
            Json::Array(_) => "a list".to_owned(),
            Json::Object(_) => "an object".to_owned(),
            other => other.to_string(),
        };
        Self(format!("{shown} is not {what}"))
    }
}

/// A type that a field can have.
pub trait Attribute: Sized {
    /// What it holds.
    const KIND: Kind;
    /// It may be null.
    const NULLABLE: bool = false;
    /// The value, on its way out.
    fn value(&self) -> Value<'_>;
    /// Reads it.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    fn read(json: &Json, reading: &Reading<'_>, field: &Field) -> Result<Self, Fault>;
}

impl<T: Attribute> Attribute for Option<T> {
    const KIND: Kind = T::KIND;
    const NULLABLE: bool = true;

    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, T::value)
    }

    fn read(json: &Json, reading: &Reading<'_>, field: &Field) -> Result<Self, Fault> {
        match json {
            Json::Null => Ok(None),
            // A form field left empty means "none", except for texts.
            Json::String(text)
                if text.is_empty() && !matches!(T::KIND, Kind::Text | Kind::Secret | Kind::Password) =>
            {
                Ok(None)
            }
            json => T::read(json, reading, field).map(Some),
        }
    }
}

impl Attribute for bool {
    const KIND: Kind = Kind::Bool;

    fn value(&self) -> Value<'_> {
        Value::Bool(*self)
    }

    fn read(json: &Json, _: &Reading<'_>, _: &Field) -> Result<Self, Fault> {
        match json {
            Json::Bool(flag) => Ok(*flag),
            Json::Number(number) if number.as_i64() == Some(0) => Ok(false),
            Json::Number(number) if number.as_i64() == Some(1) => Ok(true),
            Json::String(text) => match text.as_str() {
                "1" | "true" => Ok(true),
                "0" | "false" | "" => Ok(false),
                _ => Err(Fault::expected("true or false", json)),
            },
            _ => Err(Fault::expected("true or false", json)),
        }
    }
}

macro_rules! whole {
    ($($ty:ty),*) => {$(
        impl Attribute for $ty {
            const KIND: Kind = Kind::Int(<$ty>::MIN as i64, <$ty>::MAX as i64);

            fn value(&self) -> Value<'_> {
                Value::Int(i64::from(*self))
            }

            fn read(json: &Json, _: &Reading<'_>, field: &Field) -> Result<Self, Fault> {
                let (low, high) = (field.min.unwrap_or(i64::from(<$ty>::MIN)), field.high.unwrap_or(i64::from(<$ty>::MAX)));
                let number = whole_number(json).ok_or_else(|| Fault::expected("a whole number", json))?;
                if number < low {
                    return Err(Fault(format!("{number} is less than {low}")));
                }
                if number > high {
                    return Err(Fault(format!("{number} is more than {high}")));
                }
                <$ty>::try_from(number).map_err(|_| Fault::expected("a number of that size", json))
            }
        }
    )*};
}

whole!(i16, i32, i64, u8, u16, u32);

fn whole_number(json: &Json) -> Option<i64> {
    match json {
        Json::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64()?;
            #[allow(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
            (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
        }),
        Json::String(text) => text.trim().parse().ok(),
        Json::Bool(flag) => Some(i64::from(*flag)),
        _ => None,
    }
}

impl Attribute for Decimal {
    const KIND: Kind = Kind::Decimal;

    fn value(&self) -> Value<'_> {
        Value::Decimal(*self)
    }

    fn read(json: &Json, _: &Reading<'_>, field: &Field) -> Result<Self, Fault> {
        let text = match json {
            Json::Number(number) => number.to_string(),
            Json::String(text) => text.trim().to_owned(),
            _ => return Err(Fault::expected("a number", json)),
        };
        let number = Decimal::from_str_exact(&text)
            .or_else(|_| Decimal::from_scientific(&text))
            .map_err(|_| Fault::expected("a number", json))?;
        let number =
            number.round_dp_with_strategy(field.scale, rust_decimal::RoundingStrategy::MidpointAwayFromZero);
        if let Some(low) = field.min
            && number < Decimal::from(low)
        {
            return Err(Fault(format!("{number} is less than {low}")));
        }
        if let Some(high) = field.high
            && number > Decimal::from(high)
        {
            return Err(Fault(format!("{number} is more than {high}")));
        }
        Ok(number.normalize())
    }
}

impl Attribute for f64 {
    const KIND: Kind = Kind::Float;

    fn value(&self) -> Value<'_> {
        Value::Float(*self)
    }

    fn read(json: &Json, _: &Reading<'_>, _: &Field) -> Result<Self, Fault> {
        let number = match json {
            Json::Number(number) => number.as_f64(),
            Json::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.filter(|number| number.is_finite()).ok_or_else(|| Fault::expected("a number", json))
    }
}

/// The longest text of a field that names no limit of its own: a stored `text` column's.
pub(super) const LONGEST: usize = 65_535;

fn plain_text(json: &Json, field: &Field) -> Result<String, Fault> {
    let text = match json {
        Json::String(text) => text.clone(),
        Json::Number(number) => number.to_string(),
        Json::Bool(flag) => u8::from(*flag).to_string(),
        _ => return Err(Fault::expected("a text", json)),
    };
    let most = if field.max == 0 { LONGEST } else { field.max };
    let count = text.chars().count();
    if count > most {
        return Err(Fault(format!("it has {count} characters, and may have {most}")));
    }
    if text.contains('\0') {
        return Err(Fault("it contains a NUL character".to_owned()));
    }
    Ok(text)
}

impl Attribute for String {
    const KIND: Kind = Kind::Text;

    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }

    fn read(json: &Json, _: &Reading<'_>, field: &Field) -> Result<Self, Fault> {
        plain_text(json, field)
    }
}

impl Attribute for Timestamp {
    const KIND: Kind = Kind::Time;

    fn value(&self) -> Value<'_> {
        Value::Time(*self)
    }

    fn read(json: &Json, reading: &Reading<'_>, _: &Field) -> Result<Self, Fault> {
        const FORM: &str = "a date and time; write 2026-01-31 23:59:59";
        let Json::String(text) = json else {
            return Err(Fault::expected(FORM, json));
        };
        if text.eq_ignore_ascii_case("CURRENT_TIMESTAMP") {
            return Ok(reading.now);
        }
        parse_time(text, reading.zone).ok_or_else(|| Fault::expected(FORM, json))
    }
}

/// Reads `2018-11-22 16:54:49` (also with `T`, without seconds, without a time, or with an offset) in this time zone. A
/// moment that the clocks skip or repeat is taken as RFC 5545 takes it: the earlier offset.
pub fn parse_time(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let local: DateTime = text.parse().ok()?;
    zone.to_ambiguous_timestamp(local).compatible().ok()
}

impl Attribute for Date {
    const KIND: Kind = Kind::Date;

    fn value(&self) -> Value<'_> {
        Value::Date(*self)
    }

    fn read(json: &Json, _: &Reading<'_>, _: &Field) -> Result<Self, Fault> {
        const FORM: &str = "a date; write 2026-01-31";
        let text = json.as_str().ok_or_else(|| Fault::expected(FORM, json))?;
        text.trim().parse().map_err(|_| Fault::expected(FORM, json))
    }
}

impl Attribute for Time {
    const KIND: Kind = Kind::Clock;

    fn value(&self) -> Value<'_> {
        Value::Clock(*self)
    }

    fn read(json: &Json, _: &Reading<'_>, _: &Field) -> Result<Self, Fault> {
        const FORM: &str = "a time of day; write 23:59:59";
        let text = json.as_str().ok_or_else(|| Fault::expected(FORM, json))?;
        // Some clients send a whole date and time for a time of day.
        let clock = text.trim().rsplit([' ', 'T']).next().unwrap_or_default();
        clock.parse().map_err(|_| Fault::expected(FORM, json))
    }
}

impl Attribute for Json {
    const KIND: Kind = Kind::Json;

    fn value(&self) -> Value<'_> {
        Value::Json(self)
    }

    fn read(json: &Json, _: &Reading<'_>, _: &Field) -> Result<Self, Fault> {
        const LONGEST: usize = 65_535;
        if json.to_string().len() > LONGEST {
            return Err(Fault(format!("it is longer than {LONGEST} octets")));
        }
        Ok(json.clone())
    }
}

impl<K: Entity> Attribute for Id<K> {
    const KIND: Kind = Kind::Reference(K::definition);

    fn value(&self) -> Value<'_> {
        Value::Int(i64::from(self.get()))
    }

    fn read(json: &Json, _: &Reading<'_>, _: &Field) -> Result<Self, Fault> {
        // A row that was answered whole may be sent back whole.
        let json = match json {
            Json::Object(row) => row.get("id").unwrap_or(json),
            json => json,
        };
        // JSON-LD names a row by its address: /api/brand/carriers/1.
        let last = json.as_str().and_then(|text| text.rsplit('/').next()).and_then(|id| id.parse().ok());
        let number = last.or_else(|| whole_number(json)).and_then(|number: i64| u32::try_from(number).ok());
        number.map(Id::new).ok_or_else(|| Fault::expected("the id of a row", json))
    }
}

/// A type of a few named choices; [`choice!`] makes one.
pub trait Choice: Sized + Copy {
    /// The names, as documents write them.
    const NAMES: &'static [&'static str];
    /// The name of this one.
    fn name(self) -> &'static str;
    /// The choice with this name.
    fn of(name: &str) -> Option<Self>;
}

/// Reads a choice by its name.
///
/// # Errors
///
/// The names that there are.
pub fn read_choice<C: Choice>(json: &Json) -> Result<C, Fault> {
    let number;
    let name = match json {
        Json::String(name) => name.as_str(),
        Json::Number(value) => {
            number = value.to_string();
            &number
        }
        _ => return Err(Fault::expected(&one_of(C::NAMES), json)),
    };
    C::of(name).ok_or_else(|| Fault::expected(&one_of(C::NAMES), json))
}

fn one_of(names: &[&str]) -> String {
    format!("one of {}", names.join(", "))
}

/// Makes an enum whose variants have names in documents: `choice! { /// Docs. pub enum X { /// Docs. A = "a", … } }`.
#[macro_export]
macro_rules! choice {
    ($(#[doc = $docs:literal])* pub enum $name:ident { $($(#[doc = $variant_docs:literal])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[doc = $docs])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[doc = $variant_docs])* $variant),+ }

        impl $crate::define::Choice for $name {
            const NAMES: &'static [&'static str] = &[$($text),+];

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            fn of(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl ::core::default::Default for $name {
            fn default() -> Self {
                [$(Self::$variant),+][0]
            }
        }

        impl $crate::define::Attribute for $name {
            const KIND: $crate::define::Kind = $crate::define::Kind::Choice(<Self as $crate::define::Choice>::NAMES);

            fn value(&self) -> $crate::define::Value<'_> {
                $crate::define::Value::Text($crate::define::Choice::name(*self))
            }

            fn read(
                json: &::serde_json::Value,
                _: &$crate::define::Reading<'_>,
                _: &$crate::define::Field,
            ) -> ::core::result::Result<Self, $crate::define::Fault> {
                $crate::define::read_choice(json)
            }
        }
    };
}
pub use choice;

/// A password that the platform must know itself, because SIP digest needs it. Its `Debug` is masked.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the password.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Attribute for Secret {
    const KIND: Kind = Kind::Secret;

    fn value(&self) -> Value<'_> {
        Value::Text(&self.0)
    }

    fn read(json: &Json, _: &Reading<'_>, field: &Field) -> Result<Self, Fault> {
        plain_text(json, field).map(Self)
    }
}

/// The hash of a person's password. Its `Debug` is masked.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The hash as it is stored; empty when there is none.
    pub fn hash(&self) -> &str {
        &self.0
    }

    /// Takes a stored hash.
    pub fn from_hash(hash: impl Into<String>) -> Self {
        Self(hash.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl Attribute for Password {
    const KIND: Kind = Kind::Password;
    /// No password is null.
    const NULLABLE: bool = true;

    fn value(&self) -> Value<'_> {
        if self.0.is_empty() { Value::Null } else { Value::Text(&self.0) }
    }

    fn read(json: &Json, reading: &Reading<'_>, field: &Field) -> Result<Self, Fault> {
        if json.is_null() {
            return Ok(Self::default());
        }
        match reading.hasher {
            Some(hasher) => {
                let text = plain_text(json, field)?;
                if !text.is_empty() && text.chars().count() < LEAST_PASSWORD {
                    return Err(Fault(format!("shorter than {LEAST_PASSWORD} characters")));
                }
                Ok(Self(if text.is_empty() { text } else { hasher.hash(&text) }))
            }
            // A stored hash is longer than the password that it is made of.
            None => match json.as_str() {
                Some(hash) if hash.len() <= 255 => Ok(Self(hash.to_owned())),
                _ => Err(Fault("it is no hash of a password".to_owned())),
            },
        }
    }
}
