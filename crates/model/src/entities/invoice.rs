//! Invoices: what clients pay for their calls in a period.
//! Manual, chapter 9.5.1 "Invoices". Elsewhere: adding up the calls and making the PDF.

use crate::checks::{currency, of_same_brand, zone};
use crate::prelude::*;

/// The bill of a client for the outgoing calls of a period and for fixed costs.
#[derive(Clone, Debug, Entity)]
#[entity(path = "invoices", access = ACCESS, computed = COMPUTED, unique(number, brand), rules)]
pub struct Invoice {
    /// Identifies the invoice.
    #[field(platform = "ld", brand = "ld", client = "ld")]
    pub id: Id<Invoice>,
    /// Its number, once in the brand; null: the next one of the sequence when the invoice is made.
    #[field(max = 30, platform = "ld", brand = "ldw", client = "ld")]
    pub number: Option<String>,
    /// The beginning of the period.
    #[field(needed, brand = "ldw", client = "ld")]
    pub in_date: Option<Timestamp>,
    /// The end of the period, included: always the last second of a day, by the client's clock.
    #[field(needed, brand = "ldw", client = "ld")]
    pub out_date: Option<Timestamp>,
    /// What calls and fixed costs come to, without tax; null: not worked out yet.
    #[field(scale = 3, high = 9999999, brand = "ldw")]
    pub total: Option<Decimal>,
    /// The tax, in percent.
    #[field(scale = 3, min = 0, high = 9999999, needed, brand = "ldw", client = "ld")]
    pub tax_rate: Option<Decimal>,
    /// What is to be paid; null: not worked out yet.
    #[field(scale = 3, high = 9999999, brand = "ldw", client = "ld")]
    pub total_with_tax: Option<Decimal>,
    /// How far it is; null: it was not made yet, or was changed since. Setting it to waiting has it made.
    #[field(brand = "ldw")]
    pub status: Option<InvoiceStatus>,
    /// Why it could not be made.
    #[field(max = 140, brand = "dw", client = "d")]
    pub status_msg: Option<String>,
    /// The document itself.
    #[field(brand = "ldw", client = "ld")]
    pub pdf: File,
    /// What it looks like.
    #[field(delete = "clear", brand = "ldw")]
    pub invoice_template: Option<Id<InvoiceTemplate>>,
    /// The brand that sends it.
    #[field(delete = "cascade", index)]
    pub brand: Id<Brand>,
    /// The client that pays it.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub company: Id<Company>,
    /// Where its number comes from; null: the number is written by hand.
    #[field(delete = "clear", brand = "dw")]
    pub number_sequence: Option<Id<InvoiceNumberSequence>>,
    /// The scheduler that made it; null: it was made by hand.
    #[field(delete = "clear", brand = "ldw")]
    pub scheduler: Option<Id<InvoiceScheduler>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "l"),
    Access::at(Level::Brand, "lgcud").acl().order(&["company.name"]).read(&[Rule::OwnBrand("brand")]).write(
        &[
            Rule::All(&[
                Rule::OwnBrand("brand"),
                Rule::OwnClients("company"),
                Rule::Visible("invoiceTemplate"),
            ]),
            Rule::VisibleOrNull("numberSequence"),
        ],
    ),
    Access::at(Level::Client, "lg")
        .acl()
        .order(&["number"])
        .needs_invoices()
        .read(&[Rule::OwnCompany("company")])
        .write(&[Rule::Never]),
];

const COMPUTED: &[Computed] =
    &[Computed::new("currency", "The sign of the client's currency.", How::Derived(currency_symbol))
        .at(Level::Brand, "ldnw")
        .at(Level::Client, "ld")];

choice! {
    /// How far an invoice is.
    pub enum InvoiceStatus {
        /// It waits to be made.
        Waiting = "waiting",
        /// It is being made.
        Processing = "processing",
        /// It is made.
        Created = "created",
        /// It could not be made; the message says why.
        Error = "error",
    }
}

/// The sign of the client's currency, or else of the brand's.
fn currency_symbol(row: &dyn Record, rows: &Rows) -> Json {
    let company = row.cast::<Invoice>().and_then(|invoice| rows.get(invoice.company));
    let currency = company.and_then(|company| currency(rows, company.currency, company.brand));
    currency.map_or(Json::Null, |currency| Json::from(currency.symbol.as_str()))
}

impl Rules for Invoice {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if self.number.as_deref() == Some("") {
            self.number = None;
        }
        if let Some(message) = &mut self.status_msg {
            *message = message.chars().take(140).collect();
        }
        if old.is_none_or(|old| old.out_date != self.out_date) {
            self.end_with_the_day(check.rows);
        }
        if old.is_some_and(|old| old.is_finished() && self.differs_in_terms(old)) {
            self.reset();
        }
        self.check_terms(old, check);
        if self.is_ordered_since(old) {
            self.check_run(check);
            if self.number.is_none() {
                self.number = check.rows.at(self.number_sequence).map(InvoiceNumberSequence::next_number);
            }
        }
        of_same_brand(
            self,
            old,
            self.brand,
            &["company", "invoiceTemplate", "numberSequence", "scheduler"],
            check,
        );
    }

    fn saved(&self, old: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let Some(sequence) = draft.rows().at(self.number_sequence) else { return Ok(()) };
        let given =
            old.is_none_or(|old| old.number != self.number) && self.number == Some(sequence.next_number());
        if given {
            let id = sequence.id;
            draft.change(id, InvoiceNumberSequence::advance)?;
        }
        Ok(())
    }
}

impl Invoice {
    /// Takes back what was made of a finished invoice, because something it is made from has changed.
    pub(crate) fn outdated(invoice: Id<Invoice>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        match draft.get(invoice) {
            Some(row) if row.is_finished() => draft.change(invoice, Self::reset),
            _ => Ok(()),
        }
    }

    fn is_finished(&self) -> bool {
        matches!(self.status, Some(InvoiceStatus::Created | InvoiceStatus::Error))
    }

    fn reset(&mut self) {
        self.total = None;
        self.total_with_tax = None;
        self.status = None;
        self.status_msg = None;
        self.pdf = File::default();
    }

    /// Whether something differs that the invoice is made from.
    fn differs_in_terms(&self, old: &Self) -> bool {
        let references = |row: &Self| (row.invoice_template, row.company, row.number_sequence, row.scheduler);
        (&old.number, old.in_date, old.out_date, old.tax_rate)
            != (&self.number, self.in_date, self.out_date, self.tax_rate)
            || references(old) != references(self)
    }

    fn is_ordered_since(&self, old: Option<&Self>) -> bool {
        let waits = |row: &Self| row.status == Some(InvoiceStatus::Waiting);
        waits(self) && !old.is_some_and(waits)
    }

    /// Moves the end of the period to the last second of its day.
    fn end_with_the_day(&mut self, rows: &Rows) {
        let zone = zone(rows, Some(self.company), Some(self.brand));
        let end = |time: Timestamp| {
            let day = zone.to_datetime(time).date();
            day.at(23, 59, 59, 0).to_zoned(zone.clone()).ok().map(|end| end.timestamp())
        };
        self.out_date = self.out_date.and_then(end);
    }

    fn check_terms(&self, old: Option<&Self>, check: &mut Check<'_>) {
        // Sequences may be deleted, which clears the reference.
        let numbered = self.number.is_some() || self.number_sequence.is_some();
        let unnumbered_before = old.is_some_and(|old| old.number.is_none() && old.number_sequence.is_none());
        check.require(
            numbered || unnumbered_before,
            "number",
            "write a number, or choose a sequence that gives one",
        );
        if let (Some(start), Some(end)) = (self.in_date, self.out_date) {
            check.require(start < end, "outDate", "the period ends before it begins; choose a later end");
        }
    }

    /// What must hold when the invoice is made.
    fn check_run(&self, check: &mut Check<'_>) {
        let (Some(start), Some(end)) = (self.in_date, self.out_date) else { return };
        check.require(
            end < check.now,
            "outDate",
            "only days that are over can be invoiced; choose yesterday or before",
        );
        let overlaps = |other: &&Self| {
            let before = other.out_date.is_none_or(|out| out < start);
            let after = other.in_date.is_none_or(|other| other > end);
            other.id != self.id && !before && !after
        };
        if let Some(other) = check.rows.of::<Self>("company", self.company.get()).find(overlaps) {
            let name = other.number.clone().unwrap_or_else(|| format!("with id {}", other.id.get()));
            check.wrong(
                "inDate",
                format!("invoice {name} of this client covers a part of the period; choose another one"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, sample};

    fn time(text: &str) -> Option<Timestamp> {
        Some(text.parse().unwrap())
    }

    fn new() -> Invoice {
        Invoice {
            number: Some("2".to_owned()),
            in_date: time("2019-01-01T00:00:00Z"),
            out_date: time("2019-01-31T12:00:00Z"),
            tax_rate: Some(Decimal::from(21)),
            invoice_template: Some(Id::new(1)),
            brand: Id::new(1),
            company: Id::new(1),
            ..Invoice::default()
        }
    }

    fn created(row: Invoice) -> Result<Invoice, Refusal> {
        change(|draft| draft.create(row)).map(|(id, rows, _)| rows.get(id).unwrap().clone())
    }

    fn finished(draft: &mut Draft<'_>) -> Result<Id<Invoice>, Refusal> {
        let total = Some(Decimal::TEN);
        draft.create(Invoice { status: Some(InvoiceStatus::Created), total, ..new() })
    }

    #[test]
    fn a_period_ends_with_a_day_of_the_client() {
        assert_eq!(created(new()).unwrap().out_date, time("2019-01-31T22:59:59Z"));
        let row = created(Invoice { out_date: time("2019-01-31T23:30:00Z"), ..new() });
        assert_eq!(
            row.unwrap().out_date,
            time("2019-02-01T22:59:59Z"),
            "in Madrid it is the next day already"
        );
    }

    #[test]
    fn what_an_invoice_needs_is_asked_for() {
        let fault = |row: Invoice| created(row).unwrap_err().to_string();
        assert!(fault(Invoice { number: Some(String::new()), ..new() }).starts_with("number: "));
        assert!(fault(Invoice { tax_rate: None, ..new() }).starts_with("taxRate: "));
        assert!(fault(Invoice { in_date: None, ..new() }).starts_with("inDate: "));
        assert!(fault(Invoice { out_date: None, ..new() }).starts_with("outDate: "));
        assert!(fault(Invoice { out_date: time("2018-12-31T00:00:00Z"), ..new() }).starts_with("outDate: "));
        assert!(created(Invoice { number: None, number_sequence: Some(Id::new(1)), ..new() }).is_ok());
    }

    #[test]
    fn a_finished_invoice_that_is_changed_must_be_made_again() {
        let after = |make: fn(&mut Invoice)| {
            let made = change(|draft| {
                let id = finished(draft)?;
                draft.change(id, make)?;
                Ok(id)
            });
            let (id, rows, _) = made.unwrap();
            let row = rows.get(id).unwrap();
            (row.status, row.total)
        };
        assert_eq!(after(|row| row.tax_rate = Some(Decimal::ONE)), (None, None));
        assert_eq!(after(|row| row.pdf.size = Some(1)), (Some(InvoiceStatus::Created), Some(Decimal::TEN)));
        let (_, rows, _) =
            change(|draft| draft.change(Id::<Invoice>::new(1), |row| row.tax_rate = Some(Decimal::ONE)))
                .unwrap();
        let row = rows.get(Id::<Invoice>::new(1)).unwrap();
        assert_eq!(row.status, Some(InvoiceStatus::Processing), "one that is being made is left alone");
    }

    #[test]
    fn the_number_comes_from_the_sequence_when_the_invoice_is_made() {
        let unnumbered = Invoice { number: None, number_sequence: Some(Id::new(1)), ..new() };
        let (id, rows, _) = change(|draft| draft.create(unnumbered.clone())).unwrap();
        assert_eq!(rows.get(id).unwrap().number, None);
        let (id, rows, _) = change(|draft| {
            let id = draft.create(unnumbered)?;
            draft.change(id, |row| row.status = Some(InvoiceStatus::Waiting))?;
            Ok(id)
        })
        .unwrap();
        assert_eq!(rows.get(id).unwrap().number.as_deref(), Some("auto0002"));
        let sequence = rows.get(Id::<InvoiceNumberSequence>::new(1)).unwrap();
        assert_eq!((sequence.latest_value.as_deref(), sequence.iteration), (Some("auto0002"), 2));
    }

    #[test]
    fn only_days_that_are_over_are_invoiced() {
        let until = |end: &str, status| created(Invoice { out_date: time(end), status, ..new() });
        let waiting = Some(InvoiceStatus::Waiting);
        assert!(until("2026-01-30T12:00:00Z", waiting).is_ok());
        let today = "2026-01-31T08:00:00Z";
        assert!(until(today, waiting).unwrap_err().to_string().starts_with("outDate: "));
        assert!(until(today, None).is_ok(), "it can be prepared");
    }

    #[test]
    fn a_call_is_not_invoiced_twice() {
        let from = |start: &str, end: &str, company| {
            let status = Some(InvoiceStatus::Waiting);
            let company = Id::new(company);
            created(Invoice { in_date: time(start), out_date: time(end), status, company, ..new() })
        };
        let (start, end) = ("2018-01-31T10:00:00Z", "2018-02-27T12:00:00Z");
        assert!(from(start, end, 1).unwrap_err().to_string().starts_with("inDate: "));
        assert!(from(start, end, 2).is_ok(), "of another client");
        assert!(from("2018-01-31T23:00:00Z", end, 1).is_ok(), "from the next second on");
    }

    #[test]
    fn an_invoice_stays_within_its_brand() {
        assert!(
            created(Invoice { company: Id::new(6), ..new() })
                .unwrap_err()
                .to_string()
                .starts_with("company: ")
        );
    }

    #[test]
    fn the_currency_is_the_clients_or_the_brands() {
        let rows = sample();
        assert_eq!(currency_symbol(rows.get(Id::<Invoice>::new(1)).unwrap(), &rows), Json::from("€"));
    }
}
