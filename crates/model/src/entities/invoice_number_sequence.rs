//! Invoice number sequences: where the numbers of invoices come from.
//! Manual, chapter 9.5.3 "Invoice number sequences".

use crate::prelude::*;

/// Counts the invoices of a brand: each number is the prefix and a count, filled up with zeroes.
#[derive(Clone, Debug, Entity)]
#[entity(path = "invoice_number_sequences", access = ACCESS, unique(name, brand), rules)]
pub struct InvoiceNumberSequence {
    /// Identifies the sequence.
    #[field(brand = "ld")]
    pub id: Id<InvoiceNumberSequence>,
    /// Its name, once in the brand.
    #[field(max = 40, brand = "ldw")]
    pub name: String,
    /// What every number begins with; cannot be changed later.
    #[field(max = 20, default = "", brand = "dw")]
    pub prefix: String,
    /// How many digits a count has at least; shorter ones get zeroes before them. Cannot be changed later.
    #[field(high = 20, brand = "dw")]
    pub sequence_length: u16,
    /// The step from one count to the next; cannot be changed later.
    #[field(min = 1, brand = "dw")]
    pub increment: u16,
    /// The number that was given out last; empty: none was.
    #[field(default = String::from(""), brand = "ldw")]
    pub latest_value: Option<String>,
    /// How many numbers were given out.
    #[field(default = 0u32, brand = "dw")]
    pub iteration: u32,
    /// How many times the sequence was saved; counted by the platform.
    #[field(default = 1i32, brand = "dw")]
    pub version: i32,
    /// The brand that it belongs to.
    #[field(delete = "cascade", index)]
    pub brand: Id<Brand>,
}

const ACCESS: &[Access] =
    &[Access::at(Level::Brand, "lgcud").acl().order(&["name"]).read(&[Rule::OwnBrand("brand")])];

impl Rules for InvoiceNumberSequence {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let Some(old) = old else {
            self.version = 1;
            let length = self.prefix.chars().count() + usize::from(self.sequence_length);
            check.require(
                length <= LONGEST,
                "sequenceLength",
                "prefix and count have more than 30 characters; shorten one",
            );
            return;
        };
        let mut frozen = |same: bool, field: &str| {
            check.require(same, field, "numbers that were given out depend on this; make another sequence");
        };
        frozen(old.prefix == self.prefix, "prefix");
        frozen(old.sequence_length == self.sequence_length, "sequenceLength");
        frozen(old.increment == self.increment, "increment");
        self.version = old.version;
        if !crate::draft::alike(old, self) {
            self.version = old.version.saturating_add(1);
        }
    }
}

/// An invoice's number has so many characters at most.
const LONGEST: usize = 30;

impl InvoiceNumberSequence {
    /// The number that is given out next.
    pub(crate) fn next_number(&self) -> String {
        let count = u64::from(self.increment) * (u64::from(self.iteration) + 1);
        format!("{}{count:0length$}", self.prefix, length = usize::from(self.sequence_length))
    }

    /// Notes that the next number was given out.
    pub(crate) fn advance(&mut self) {
        self.latest_value = Some(self.next_number());
        self.iteration = self.iteration.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(make: impl FnOnce(&mut InvoiceNumberSequence)) -> Result<InvoiceNumberSequence, Refusal> {
        let id = Id::<InvoiceNumberSequence>::new(1);
        change(|draft| draft.change(id, make)).map(|(_, rows, _)| rows.get(id).unwrap().clone())
    }

    #[test]
    fn numbers_have_a_prefix_and_zeroes() {
        let mut sequence = InvoiceNumberSequence {
            prefix: "TEST".to_owned(),
            sequence_length: 4,
            increment: 5,
            ..InvoiceNumberSequence::default()
        };
        assert_eq!(sequence.next_number(), "TEST0005");
        sequence.advance();
        assert_eq!((sequence.latest_value.as_deref(), sequence.iteration), (Some("TEST0005"), 1));
        assert_eq!(sequence.next_number(), "TEST0010");
        sequence.iteration = 2000;
        assert_eq!(sequence.next_number(), "TEST10005", "longer counts are not cut");
    }

    #[test]
    fn the_form_of_numbers_is_decided_once() {
        assert!(changed(|row| row.prefix = "x".to_owned()).unwrap_err().to_string().starts_with("prefix: "));
        assert!(
            changed(|row| row.sequence_length = 5).unwrap_err().to_string().starts_with("sequenceLength: ")
        );
        assert!(changed(|row| row.increment = 2).unwrap_err().to_string().starts_with("increment: "));
    }

    #[test]
    fn every_change_is_counted() {
        let row = changed(|row| {
            row.name = "another".to_owned();
            row.version = 7;
        });
        assert_eq!(row.unwrap().version, 2);
        assert_eq!(changed(|row| row.version = 7).unwrap().version, 1, "the count alone is no change");
    }

    #[test]
    fn a_number_must_fit_an_invoice() {
        let long = InvoiceNumberSequence {
            prefix: "x".repeat(20),
            sequence_length: 11,
            increment: 1,
            brand: Id::new(1),
            ..InvoiceNumberSequence::default()
        };
        assert!(
            change(|draft| draft.create(long.clone()))
                .unwrap_err()
                .to_string()
                .starts_with("sequenceLength: ")
        );
        assert!(change(|draft| draft.create(InvoiceNumberSequence { sequence_length: 10, ..long })).is_ok());
    }
}
