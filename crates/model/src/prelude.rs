//! What the files of entities need, so that each begins with one line.
//!
//! Only for [`crate::entities`].

pub(crate) use crate::define::choices::*;
pub(crate) use crate::define::{
    Access, Choice, CompanyType, Computed, Entity, File, How, ImportedFile, InvoiceAddress, Invoicing, Level,
    Password, Record, Rule, Secret, Translated, Value, choice,
};
pub(crate) use crate::draft::Draft;
pub(crate) use crate::entities::*;
pub(crate) use crate::id::Id;
pub(crate) use crate::rows::Rows;
pub(crate) use crate::rules::{Check, Refusal, Rules};
pub(crate) use crate::scope::{Caller, paired};
pub(crate) use jiff::Timestamp;
pub(crate) use jiff::civil::{Date, Time};
pub(crate) use model_derive::Entity;
pub(crate) use rust_decimal::Decimal;
pub(crate) use serde_json::Value as Json;
