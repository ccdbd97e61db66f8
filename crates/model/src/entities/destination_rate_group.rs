//! Lists of rates, by hand or from a file.
//! Manual, chapter 9.4.3 "Destination Rates" and "Importing a CSV file".

use crate::prelude::*;

/// A list of rates in one currency. Rating plans are put together from such lists.
#[derive(Clone, Debug, Entity)]
#[entity(path = "destination_rate_groups", access = ACCESS, rules)]
pub struct DestinationRateGroup {
    /// Identifies the list.
    #[field(brand = "ld")]
    pub id: Id<DestinationRateGroup>,
    /// How far the import of its file is; null: there was none.
    #[field(brand = "ld")]
    pub status: Option<DestinationRateGroupStatus>,
    /// Why the last import failed; null: it did not.
    #[field(max = 300, brand = "d")]
    pub last_execution_error: Option<String>,
    /// Every bad line of the file that was not imported, with its number, its column and what is wrong; null: there is none.
    #[field(brand = "d")]
    pub import_mistakes: Option<Json>,
    /// The price of being connected is a least price of the whole call, and not added to it. Decided once, when the
    /// list is made.
    #[field(default = false, brand = "dw")]
    pub deductible_connection_fee: bool,
    /// Its name; clients do not see it.
    #[field(max = 55, brand = "ldw")]
    pub name: Translated,
    /// Anything worth knowing about it.
    #[field(max = 255, brand = "ldw")]
    pub description: Translated,
    /// The CSV file that was imported last. A new one is imported in the background: its rates are added, or replace
    /// those of the same prefix, and all others stay.
    #[field(brief("fileSize", "mimeType", "baseName"), brand = "ldw")]
    pub file: ImportedFile,
    /// The brand that it belongs to.
    #[field(delete = "cascade", index)]
    pub brand: Id<Brand>,
    /// The currency of all its rates; null: the brand's.
    #[field(delete = "clear", brand = "ldw")]
    pub currency: Option<Id<Currency>>,
}

const ACCESS: &[Access] =
    &[Access::at(Level::Brand, "lgcud").acl().order(&["name.en"]).read(&[Rule::OwnBrand("brand")])];

choice! {
    /// How far the import of a file of rates is.
    pub enum DestinationRateGroupStatus {
        /// It waits.
        Waiting = "waiting",
        /// It is being imported.
        InProgress = "inProgress",
        /// All its rates are there.
        Imported = "imported",
        /// It failed, and nothing was imported.
        Error = "error",
    }
}

impl DestinationRateGroup {
    /// Its file is a new one.
    pub fn wait_for_import(&mut self) {
        self.status = Some(DestinationRateGroupStatus::Waiting);
        self.last_execution_error = None;
        self.import_mistakes = None;
    }

    /// How a list of rates is written when nothing else is said (manual, "Import rates").
    fn usual_form() -> Json {
        serde_json::json!({
            "scape": null,
            "columns": ["destinationName", "destinationPrefix", "rateCost", "connectionCharge", "rateIncrement"],
            "delimiter": ",",
            "enclosure": "\"",
            "ignoreFirst": true,
        })
    }
}

impl Rules for DestinationRateGroup {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if old.is_some_and(|old| old.deductible_connection_fee != self.deductible_connection_fee) {
            check
                .wrong("deductibleConnectionFee", "this is decided when the list is made; make another list");
        }
        if let Some(error) = &mut self.last_execution_error {
            *error = error.chars().take(300).collect();
        }
        if self.file.file.is_there() && self.file.importer_arguments.is_null() {
            self.file.importer_arguments = Self::usual_form();
        }
        if self.file.file.is_there() && old.is_none_or(|old| old.file != self.file) {
            self.wait_for_import();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(make: impl FnOnce(&mut DestinationRateGroup)) -> Result<DestinationRateGroup, Refusal> {
        let id = Id::<DestinationRateGroup>::new(1);
        change(|draft| draft.change(id, make)).map(|(_, rows, _)| rows.get(id).unwrap().clone())
    }

    #[test]
    fn the_meaning_of_connection_fees_is_decided_once() {
        let late = changed(|row| row.deductible_connection_fee = true);
        assert!(late.unwrap_err().to_string().starts_with("deductibleConnectionFee: "));
        let new =
            DestinationRateGroup { deductible_connection_fee: true, brand: Id::new(1), ..Default::default() };
        assert!(change(|draft| draft.create(new)).is_ok());
    }

    #[test]
    fn a_new_file_waits_to_be_imported() {
        let row = changed(|row| {
            row.file.file.size = Some(84);
            row.last_execution_error = Some("of the former file".to_owned());
        })
        .unwrap();
        assert_eq!(row.status, Some(DestinationRateGroupStatus::Waiting));
        assert_eq!(row.last_execution_error, None);
        let row = changed(|row| row.status = Some(DestinationRateGroupStatus::Imported)).unwrap();
        assert_eq!(row.status, Some(DestinationRateGroupStatus::Imported));
    }

    #[test]
    fn long_errors_are_cut() {
        let row = changed(|row| row.last_execution_error = Some("é".repeat(400))).unwrap();
        assert_eq!(row.last_execution_error.unwrap().chars().count(), 300);
    }
}
