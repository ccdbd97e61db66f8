//! An amount with its currency: nothing is ever converted, so only amounts of one currency are compared.
//! Elsewhere: how it is worked out ([`crate::rate`]).

use model::Id;
use model::entities::Currency;
use rust_decimal::Decimal;
use std::cmp::Ordering;

/// An amount of money (manual 8.6: "there is no currency conversion involved").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Money {
    /// How much.
    pub amount: Decimal,
    /// Of what.
    pub currency: Id<Currency>,
}

impl PartialOrd for Money {
    /// Amounts of different currencies have no order.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.currency == other.currency).then(|| self.amount.cmp(&other.amount))
    }
}

impl Money {
    /// The sum; nothing where the currencies differ, or it has more digits than a decimal.
    pub fn checked_add(self, more: Self) -> Option<Self> {
        let amount = (self.currency == more.currency).then(|| self.amount.checked_add(more.amount))??;
        Some(Self { amount, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_two_currencies_are_neither_compared_nor_added() {
        let money =
            |amount: i64, currency| Money { amount: Decimal::from(amount), currency: Id::new(currency) };
        assert!(money(1, 1) < money(2, 1));
        assert_eq!(money(1, 1).partial_cmp(&money(2, 2)), None);
        assert_eq!(money(1, 1).checked_add(money(2, 1)), Some(money(3, 1)));
        assert_eq!(money(1, 1).checked_add(money(2, 2)), None);
        let most = Money { amount: Decimal::MAX, currency: Id::new(1) };
        assert_eq!(most.checked_add(money(1, 1)), None);
    }
}
