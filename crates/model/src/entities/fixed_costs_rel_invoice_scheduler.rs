//! Fixed costs of an invoice scheduler.
//! Manual, chapter 9.5.2 "Fixed costs".

use crate::checks::of_same_brand;
use crate::prelude::*;

/// A fixed cost that every invoice of a scheduler charges, and how many times.
#[derive(Clone, Debug, Entity)]
#[entity(path = "fixed_costs_rel_invoice_schedulers", access = ACCESS, unique(invoice_scheduler, fixed_cost), rules)]
pub struct FixedCostsRelInvoiceScheduler {
    /// Identifies the entry.
    #[field(brand = "ld")]
    pub id: Id<FixedCostsRelInvoiceScheduler>,
    /// How many are charged, where the number is fixed; null where it is counted.
    #[field(brand = "ldw")]
    pub quantity: Option<u32>,
    /// Where the number comes from; cannot be changed later.
    #[field(name = "type", default = FixedCostsRelInvoiceSchedulerKind::Static, brand = "ldw")]
    pub kind: FixedCostsRelInvoiceSchedulerKind,
    /// Which DDIs count, where DDIs are counted; cannot be changed later.
    #[field(default = FixedCostsRelInvoiceSchedulerDdisCountryMatch::All, brand = "ldw")]
    pub ddis_country_match: Option<FixedCostsRelInvoiceSchedulerDdisCountryMatch>,
    /// What is charged; cannot be changed later.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub fixed_cost: Id<FixedCost>,
    /// The scheduler, which has each fixed cost once; cannot be changed later.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub invoice_scheduler: Id<InvoiceScheduler>,
    /// The country whose DDIs count, where those of one country do; cannot be changed later.
    #[field(delete = "clear", index, brand = "ldw")]
    pub ddis_country: Option<Id<Country>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Brand, "lgcud")
    .change_expands()
    .acl()
    .order(&["fixedCost"])
    .list_expands()
    .read(&[Rule::Visible("fixedCost")])
    .write(&[Rule::Visible("fixedCost"), Rule::Visible("invoiceScheduler")])];

choice! {
    /// Where the number of fixed costs on an invoice comes from.
    pub enum FixedCostsRelInvoiceSchedulerKind {
        /// It is always the same.
        Static = "static",
        /// It is the client's limit of simultaneous calls when the invoice is made.
        MaxCalls = "maxcalls",
        /// It is how many DDIs the client has when the invoice is made.
        Ddis = "ddis",
    }
}

choice! {
    /// Which DDIs of a client are counted.
    pub enum FixedCostsRelInvoiceSchedulerDdisCountryMatch {
        /// All of them.
        All = "all",
        /// Those of the client's country.
        National = "national",
        /// Those of all other countries.
        International = "international",
        /// Those of one country.
        Specific = "specific",
    }
}

use FixedCostsRelInvoiceSchedulerDdisCountryMatch as Match;
use FixedCostsRelInvoiceSchedulerKind as Kind;

impl Rules for FixedCostsRelInvoiceScheduler {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if self.kind == Kind::Static {
            check.require(self.quantity.is_some(), "quantity", "write how many are charged");
        } else {
            self.quantity = None;
        }
        if self.kind == Kind::Ddis {
            self.ddis_country_match = self.ddis_country_match.or(Some(Match::All));
        } else {
            self.ddis_country_match = None;
        }
        if self.ddis_country_match == Some(Match::Specific) {
            // Countries may be deleted, which clears this.
            let chosen = self.ddis_country.is_some() || old.is_some_and(|old| old.ddis_country.is_none());
            check.require(chosen, "ddisCountry", "choose the country whose DDIs are counted");
        } else {
            self.ddis_country = None;
        }
        if old.is_some_and(|old| self.differs_beyond_quantity(old)) {
            check.forbid("only the quantity can be changed; delete this and add another one");
        }
        if let Some(scheduler) = check.rows.get(self.invoice_scheduler) {
            of_same_brand(self, old, scheduler.brand, &["fixedCost"], check);
        }
    }
}

impl FixedCostsRelInvoiceScheduler {
    fn differs_beyond_quantity(&self, old: &Self) -> bool {
        // What an imported row holds beside its type means nothing.
        let country =
            |row: &Self| (row.kind == Kind::Ddis).then_some((row.ddis_country_match, row.ddis_country));
        (old.kind, old.fixed_cost, old.invoice_scheduler)
            != (self.kind, self.fixed_cost, self.invoice_scheduler)
            || country(old) != country(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn new(kind: Kind, country_match: Option<Match>) -> FixedCostsRelInvoiceScheduler {
        FixedCostsRelInvoiceScheduler {
            kind,
            quantity: Some(2),
            ddis_country_match: country_match,
            ddis_country: Some(Id::new(68)),
            fixed_cost: Id::new(2),
            invoice_scheduler: Id::new(1),
            ..FixedCostsRelInvoiceScheduler::default()
        }
    }

    fn created(row: FixedCostsRelInvoiceScheduler) -> Result<FixedCostsRelInvoiceScheduler, Refusal> {
        change(|draft| draft.create(row)).map(|(id, rows, _)| rows.get(id).unwrap().clone())
    }

    #[test]
    fn each_type_keeps_its_own_fields() {
        let kept = |kind, country_match| {
            let row = created(new(kind, country_match)).unwrap();
            (row.quantity, row.ddis_country_match, row.ddis_country)
        };
        assert_eq!(kept(Kind::Static, Some(Match::All)), (Some(2), None, None));
        assert_eq!(kept(Kind::MaxCalls, Some(Match::All)), (None, None, None));
        assert_eq!(kept(Kind::Ddis, None), (None, Some(Match::All), None));
        assert_eq!(kept(Kind::Ddis, Some(Match::National)), (None, Some(Match::National), None));
        let specific = (None, Some(Match::Specific), Some(Id::new(68)));
        assert_eq!(kept(Kind::Ddis, Some(Match::Specific)), specific);
    }

    #[test]
    fn what_a_type_needs_is_asked_for() {
        let uncounted = FixedCostsRelInvoiceScheduler { quantity: None, ..new(Kind::Static, None) };
        assert!(created(uncounted).unwrap_err().to_string().starts_with("quantity: "));
        let anywhere =
            FixedCostsRelInvoiceScheduler { ddis_country: None, ..new(Kind::Ddis, Some(Match::Specific)) };
        assert!(created(anywhere).unwrap_err().to_string().starts_with("ddisCountry: "));
    }

    #[test]
    fn only_the_quantity_can_be_changed() {
        let with = |make: fn(&mut FixedCostsRelInvoiceScheduler)| {
            change(|draft| draft.change(Id::<FixedCostsRelInvoiceScheduler>::new(1), make))
        };
        assert!(with(|row| row.quantity = Some(5)).is_ok());
        assert!(matches!(with(|row| row.kind = Kind::MaxCalls), Err(Refusal::Forbidden(_))));
        assert!(matches!(with(|row| row.fixed_cost = Id::new(2)), Err(Refusal::Forbidden(_))));
    }
}
