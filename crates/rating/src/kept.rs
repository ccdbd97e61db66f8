//! What a call came to, by the rates that its record keeps.
//!
//! In: an external call of a record, how long it was talked. Out: its price and its cost, each with how it comes about. Elsewhere: which
//! rates those are ([`crate::decide`], when the call was placed).

use crate::money::Money;
use crate::rate::{Breakdown, Rate, RateFault};
use model::{ExternalCall, Tariff};
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use std::time::Duration;

/// What a call came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charges {
    /// What its client pays. None: nobody bills it.
    pub price: Option<Charged>,
    /// What its carrier charges the brand. None: nobody works it out.
    pub cost: Option<Charged>,
}

/// An amount, and how it comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charged {
    /// The rate.
    pub tariff: Tariff,
    /// How long it was talked.
    pub length: Duration,
    /// Periods, fee, refund and sum.
    pub breakdown: Breakdown,
}

impl Charged {
    fn by(tariff: &Tariff, length: Duration) -> Result<Self, RateFault> {
        Ok(Self { tariff: *tariff, length, breakdown: Rate::kept(tariff)?.explain(length) })
    }

    /// The amount, rounded once.
    pub fn money(&self) -> Money {
        Money { amount: self.breakdown.total, currency: self.tariff.currency }
    }

    /// How it comes about, as call records tell it: amounts as texts, times in seconds.
    pub fn details(&self) -> Json {
        let Self { tariff, length, breakdown } = self;
        let Breakdown { periods, connect_fee, minutes, refund, total } = breakdown;
        json!({
            "duration": seconds(*length).to_string(),
            "connectFee": connect_fee.to_string(),
            "rate": tariff.per_minute.to_string(),
            "intervalStart": tariff.interval_start,
            "rateIncrement": tariff.charge_period,
            "minimalCost": tariff.minimal_cost,
            "periods": periods,
            "minutes": minutes.to_string(),
            "refund": refund.to_string(),
            "total": total.to_string(),
        })
    }
}

/// Seconds to the microsecond; a call that is longer than a decimal holds does not end.
fn seconds(length: Duration) -> Decimal {
    let micros = i128::try_from(length.as_micros()).unwrap_or(i128::MAX);
    Decimal::try_from_i128_with_scale(micros, 6).unwrap_or(Decimal::MAX).normalize()
}

/// What a call came to. `conversation`: how long it was talked; nothing where it was never answered, and then nobody pays anything (manual
/// 9.4: what is billed are calls that were established).
///
/// # Errors
///
/// What the record keeps is no rate: whoever wrote it had other bounds.
pub fn charges(call: &ExternalCall, conversation: Option<Duration>) -> Result<Charges, RateFault> {
    let Some(length) = conversation else { return Ok(Charges::default()) };
    let charged = |tariff: &Option<Tariff>| tariff.as_ref().map(|it| Charged::by(it, length)).transpose();
    Ok(Charges { price: charged(&call.price)?, cost: charged(&call.cost)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{CallDirection, Id};

    fn tariff(fee: &str, minute: &str, period: u32, minimal_cost: bool) -> Tariff {
        Tariff {
            connect_fee: fee.parse().unwrap(),
            per_minute: minute.parse().unwrap(),
            interval_start: 0,
            charge_period: period,
            minimal_cost,
            currency: Id::new(2),
            plan: Id::new(3),
            destination: Id::new(4),
        }
    }

    fn call(price: Option<Tariff>, cost: Option<Tariff>) -> ExternalCall {
        ExternalCall {
            direction: CallDirection::Outbound,
            brand: Id::new(1),
            client: Id::new(1),
            caller: None,
            callee: "+34600123456".parse().unwrap(),
            ddi: None,
            endpoint: None,
            trunk: None,
            sip_call_id: "x".to_owned(),
            tag: None,
            price,
            cost,
            x_tag: None,
            attempts: Vec::new(),
        }
    }

    #[test]
    fn a_call_costs_what_its_record_says() {
        let both = call(Some(tariff("0.02", "0.1", 30, false)), Some(tariff("0.05", "0.06", 1, true)));
        let table = [
            // length in milliseconds, price, cost
            (0, "0.02", "0.05"),
            (1, "0.07", "0.05"),
            (30_000, "0.07", "0.05"),
            (30_001, "0.12", "0.05"),
            (61_000, "0.17", "0.061"),
        ];
        for (ms, price, cost) in table {
            let charges = charges(&both, Some(Duration::from_millis(ms))).unwrap();
            let amount = |charged: Option<Charged>| charged.unwrap().money().amount.normalize().to_string();
            assert_eq!((amount(charges.price), amount(charges.cost)), (price.into(), cost.into()), "{ms} ms");
            assert_eq!(charges.cost.unwrap().money().currency, Id::new(2));
        }
        let details = charges(&both, Some(Duration::from_millis(30_001))).unwrap().price.unwrap().details();
        assert_eq!(
            details,
            json!({
                "duration": "30.001", "connectFee": "0.0200", "rate": "0.1", "intervalStart": 0, "rateIncrement": 30,
                "minimalCost": false, "periods": 2, "minutes": "0.1000", "refund": "0.0000", "total": "0.1200",
            })
        );
    }

    #[test]
    fn nobody_pays_for_what_was_not_answered_or_is_not_billed() {
        let both = call(Some(tariff("1", "1", 1, false)), Some(tariff("1", "1", 1, false)));
        assert_eq!(charges(&both, None), Ok(Charges::default()));
        assert_eq!(charges(&call(None, None), Some(Duration::from_secs(9))), Ok(Charges::default()));
        let free =
            charges(&call(Some(tariff("0", "0", 1, false)), None), Some(Duration::from_secs(9))).unwrap();
        assert_eq!(free.price.unwrap().money().amount, Decimal::ZERO, "free, and not without a price");
        let odd = call(Some(tariff("-1", "0", 1, false)), None);
        assert!(charges(&odd, Some(Duration::ZERO)).is_err());
    }
}
