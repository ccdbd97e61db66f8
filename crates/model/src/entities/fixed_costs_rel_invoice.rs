//! Fixed costs of an invoice.
//! Manual, chapter 9.5.1 "Generating a new invoice".

use crate::checks::of_same_brand;
use crate::prelude::*;

/// A fixed cost that one invoice charges, and how many times.
#[derive(Clone, Debug, Entity)]
#[entity(path = "fixed_costs_rel_invoices", access = ACCESS, rules)]
pub struct FixedCostsRelInvoice {
    /// Identifies the entry.
    #[field(brand = "ld")]
    pub id: Id<FixedCostsRelInvoice>,
    /// How many are charged; null: none.
    #[field(brand = "ldw")]
    pub quantity: Option<u32>,
    /// What is charged; cannot be changed later.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub fixed_cost: Id<FixedCost>,
    /// The invoice; cannot be changed later.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub invoice: Id<Invoice>,
}

const ACCESS: &[Access] = &[Access::at(Level::Brand, "lgcud")
    .change_expands()
    .acl()
    .order(&["fixedCost"])
    .list_expands()
    .create_expands()
    .read(&[Rule::Visible("fixedCost")])
    .write(&[Rule::Visible("fixedCost"), Rule::Visible("invoice")])];

impl Rules for FixedCostsRelInvoice {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if old.is_some_and(|old| old.fixed_cost != self.fixed_cost || old.invoice != self.invoice) {
            check.forbid("only the quantity can be changed; delete this and add another one");
        }
        if let Some(invoice) = check.rows.get(self.invoice) {
            of_same_brand(self, old, invoice.brand, &["fixedCost"], check);
        }
    }

    fn saved(&self, _: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        Invoice::outdated(self.invoice, draft)
    }

    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        Invoice::outdated(self.invoice, draft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn only_the_quantity_can_be_changed() {
        let id = Id::<FixedCostsRelInvoice>::new(1);
        assert!(change(|draft| draft.change(id, |row| row.quantity = Some(3))).is_ok());
        let other = change(|draft| draft.change(id, |row| row.fixed_cost = Id::new(2)));
        assert!(matches!(other, Err(Refusal::Forbidden(_))));
    }

    #[test]
    fn a_finished_invoice_must_be_made_again() {
        let invoice = Id::<Invoice>::new(1);
        let after = |work: fn(&mut Draft<'_>) -> Result<(), Refusal>| {
            let (_, rows, _) = change(|draft| {
                draft.change(invoice, |row| row.status = Some(InvoiceStatus::Created))?;
                work(draft)
            })
            .unwrap();
            rows.get(invoice).unwrap().status
        };
        let id = Id::<FixedCostsRelInvoice>::new;
        assert_eq!(after(|_| Ok(())), Some(InvoiceStatus::Created));
        assert_eq!(
            after(|draft| draft.change(Id::<FixedCostsRelInvoice>::new(1), |row| row.quantity = Some(3))),
            None
        );
        assert_eq!(after(|draft| draft.delete(Id::<FixedCostsRelInvoice>::new(1))), None);
        assert!(change(|draft| draft.delete(invoice)).unwrap().1.get(id(1)).is_none());
    }
}
