//! Balance movements: the history of what was added to and taken from balances by hand.
//! Manual, chapter 9.4.3 "Prepaid balances", and "Cost calculation" of carriers.

use crate::prelude::*;

/// One increase or decrease of the balance of a client or a carrier, and what the balance was afterwards.
#[derive(Clone, Debug, Entity)]
#[entity(path = "balance_movements", access = ACCESS, records, rules)]
pub struct BalanceMovement {
    /// Identifies the movement.
    #[field(brand = "ld")]
    pub id: Id<BalanceMovement>,
    /// What was added; negative where it was taken. In the currency of the client or carrier.
    #[field(scale = 4, high = 999999, default = Decimal::ZERO, brand = "ld")]
    pub amount: Option<Decimal>,
    /// The balance after the movement, in the same currency.
    #[field(scale = 4, high = 999999, default = Decimal::ZERO, brand = "ld")]
    pub balance: Option<Decimal>,
    /// When it was made.
    #[field(now, brand = "ld")]
    pub created_on: Option<Timestamp>,
    /// The client whose balance moved; null when it was a carrier's.
    #[field(delete = "clear", index, brand = "ld")]
    pub company: Option<Id<Company>>,
    /// The carrier whose balance moved; null when it was a client's.
    #[field(delete = "clear", index, brand = "ld")]
    pub carrier: Option<Id<Carrier>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Brand, "lg")
    .acl()
    .order(&["createdOn"])
    .brand_feature("billing")
    .read(&[Rule::Any(&[Rule::Visible("carrier"), Rule::OwnClients("company")])])];

impl Rules for BalanceMovement {
    fn check(&mut self, _: Option<&Self>, check: &mut Check<'_>) {
        one_account(&mut self.company, self.carrier, check);
    }
}

/// A balance is a carrier's or a client's: the carrier wins, and one of them there must be.
pub(crate) fn one_account(
    company: &mut Option<Id<Company>>,
    carrier: Option<Id<Carrier>>,
    check: &mut Check<'_>,
) {
    if carrier.is_some() {
        *company = None;
    }
    check.require(carrier.is_some() || company.is_some(), "company", "choose a client or a carrier");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_movement_belongs_to_a_client_or_a_carrier() {
        let create = |company, carrier| {
            let row = BalanceMovement { company, carrier, ..BalanceMovement::default() };
            change(|draft| draft.create(row)).map(|(id, rows, _)| rows.get(id).unwrap().company)
        };
        let (client, carrier) = (Some(Id::new(1)), Some(Id::new(1)));
        assert_eq!(create(client, None), Ok(client));
        assert_eq!(create(client, carrier), Ok(None), "the carrier wins");
        assert!(create(None, None).unwrap_err().to_string().starts_with("company: "));
    }
}
