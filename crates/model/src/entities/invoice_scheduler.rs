//! Invoice schedulers: invoices that are made at regular times.
//! Manual, chapter 9.5.2 "Invoice schedulers".

use crate::checks::{email, of_same_brand, zone};
use crate::prelude::*;
use jiff::ToSpan;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

/// Makes the invoices of a client, one period after the other.
#[derive(Clone, Debug, Entity)]
#[entity(path = "invoice_schedulers", access = ACCESS, unique(name, brand), unique(company), rules)]
pub struct InvoiceScheduler {
    /// Identifies the scheduler.
    #[field(brand = "ld")]
    pub id: Id<InvoiceScheduler>,
    /// Its name, once in the brand.
    #[field(max = 40, brand = "ldw")]
    pub name: String,
    /// What the frequency counts.
    #[field(default = InvoiceSchedulerUnit::Month, brand = "ldw")]
    pub unit: InvoiceSchedulerUnit,
    /// An invoice is made every so many units, and covers as many.
    #[field(min = 1, high = 1000, brand = "ldw")]
    pub frequency: u16,
    /// The address that invoices are mailed to; empty: they are only kept.
    #[field(max = 140, brand = "dw")]
    pub email: String,
    /// When the last invoice was made; null: none was.
    #[field(brand = "ldw")]
    pub last_execution: Option<Timestamp>,
    /// Why the last attempt failed; null or empty: it did not.
    #[field(max = 300, brand = "ldw")]
    pub last_execution_error: Option<String>,
    /// When the next invoice is made; its period ends with the day before. Left out: at 8 in the morning of the next
    /// Monday, first of a month or first of January, by the unit.
    #[field(brand = "ldw")]
    pub next_execution: Option<Timestamp>,
    /// The tax that is added to the total, in percent.
    #[field(scale = 3, min = 0, high = 9999999, brand = "dw")]
    pub tax_rate: Option<Decimal>,
    /// How many attempts in a row have failed.
    #[field(default = 0u16)]
    pub error_count: u16,
    /// What the invoices look like.
    #[field(delete = "clear", brand = "dw")]
    pub invoice_template: Option<Id<InvoiceTemplate>>,
    /// The brand that sends the invoices.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub brand: Id<Brand>,
    /// The client that pays them; a client has one scheduler at most.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub company: Id<Company>,
    /// Where their numbers come from.
    #[field(delete = "clear", brand = "dw")]
    pub number_sequence: Option<Id<InvoiceNumberSequence>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Brand, "lgcud")
    .acl()
    .order(&["name", "company"])
    .read(&[Rule::OwnBrand("brand")])
    .write(&[Rule::OwnBrand("brand"), Rule::VisibleOrNull("company")])];

choice! {
    /// What the frequency of an invoice scheduler counts.
    pub enum InvoiceSchedulerUnit {
        /// Weeks, from Monday on.
        Week = "week",
        /// Months of the calendar.
        Month = "month",
        /// Years of the calendar.
        Year = "year",
    }
}

impl Rules for InvoiceScheduler {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        check.require(
            self.email.is_empty() || email(&self.email),
            "email",
            "write one address for mail, or none",
        );
        // Sequences may be deleted, which clears this.
        let numbered = self.number_sequence.is_some() || old.is_some_and(|old| old.number_sequence.is_none());
        check.require(numbered, "numberSequence", "choose where the numbers of the invoices come from");
        if let Some(error) = &mut self.last_execution_error {
            *error = error.chars().take(300).collect();
        }
        if self.next_execution.is_none() {
            let zone = zone(check.rows, None, Some(self.brand));
            self.next_execution = first_run(check.now, &zone, self.frequency, self.unit.name());
        }
        of_same_brand(self, old, self.brand, &["company", "invoiceTemplate", "numberSequence"], check);
    }
}

/// When a scheduler that is made now runs first: at 8 in the morning of the day that begins a new unit, when as many
/// units as its frequency says have passed. `unit` is "day", "week", "month" or "year".
pub(crate) fn first_run(now: Timestamp, zone: &TimeZone, frequency: u16, unit: &str) -> Option<Timestamp> {
    let today = zone.to_datetime(now).date();
    let more = i64::from(frequency.saturating_sub(1));
    let day = match unit {
        "day" => today.checked_add(more.days()).ok()?.tomorrow(),
        "week" => today.checked_add(more.weeks()).ok()?.nth_weekday(1, Weekday::Monday),
        "month" => today.checked_add(more.months()).ok()?.last_of_month().tomorrow(),
        _ => today.checked_add(more.years()).ok()?.last_of_year().tomorrow(),
    };
    let run = day.ok()?.at(8, 0, 0, 0).to_zoned(zone.clone()).ok()?;
    Some(run.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn of_client(company: u32) -> InvoiceScheduler {
        InvoiceScheduler {
            name: "monthly".to_owned(),
            frequency: 1,
            brand: Id::new(1),
            company: Id::new(company),
            number_sequence: Some(Id::new(1)),
            ..InvoiceScheduler::default()
        }
    }

    fn created(row: InvoiceScheduler) -> Result<InvoiceScheduler, Refusal> {
        change(|draft| draft.create(row)).map(|(id, rows, _)| rows.get(id).unwrap().clone())
    }

    #[test]
    fn the_first_run_begins_a_unit() {
        let run = |now: &str, frequency, unit| {
            let zone = TimeZone::get("Europe/Madrid").unwrap();
            first_run(now.parse().unwrap(), &zone, frequency, unit)
                .unwrap()
                .to_zoned(zone)
                .datetime()
                .to_string()
        };
        // Thursday, at half past midnight in Madrid.
        let now = "2018-10-31T23:30:00Z";
        assert_eq!(run(now, 1, "day"), "2018-11-02T08:00:00");
        assert_eq!(run(now, 7, "day"), "2018-11-08T08:00:00");
        assert_eq!(run(now, 1, "week"), "2018-11-05T08:00:00");
        assert_eq!(run(now, 2, "week"), "2018-11-12T08:00:00");
        assert_eq!(run(now, 1, "month"), "2018-12-01T08:00:00");
        assert_eq!(run(now, 3, "month"), "2019-02-01T08:00:00");
        assert_eq!(run(now, 1, "year"), "2019-01-01T08:00:00");
        assert_eq!(
            run("2018-11-05T09:00:00Z", 1, "week"),
            "2018-11-12T08:00:00",
            "a Monday is not its own next one"
        );
        assert_eq!(
            first_run(now.parse().unwrap(), &TimeZone::UTC, 9999, "year"),
            None,
            "beyond all calendars"
        );
    }

    #[test]
    fn a_run_that_is_given_is_kept() {
        let given: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let row = created(InvoiceScheduler { next_execution: Some(given), ..of_client(2) }).unwrap();
        assert_eq!(row.next_execution, Some(given));
        assert_eq!(
            created(of_client(2)).unwrap().next_execution.unwrap().to_string(),
            "2026-02-01T07:00:00Z"
        );
    }

    #[test]
    fn invoices_need_numbers_and_a_client_of_the_brand() {
        let unnumbered = InvoiceScheduler { number_sequence: None, ..of_client(2) };
        assert!(created(unnumbered).unwrap_err().to_string().starts_with("numberSequence: "));
        assert!(created(of_client(6)).unwrap_err().to_string().starts_with("company: "));
        let unreachable = InvoiceScheduler { email: "nobody".to_owned(), ..of_client(2) };
        assert!(created(unreachable).unwrap_err().to_string().starts_with("email: "));
    }
}
