//! One rate, and what a call of some length costs by it: exact, and rounded once, at the end, upward to four decimals.
//! In: what a row says, a duration. Out: decimals. Elsewhere: which rate it is ([`crate::decide`]), currencies ([`crate::money`]).

use model::Tariff;
use model::entities::{DestinationRate, DestinationRateGroup};
use rust_decimal::Decimal;
use std::num::NonZeroU32;
use std::time::Duration;

/// Decimals of all amounts (manual 9.4.3, "Add rates manually").
pub const DECIMALS: u32 = 4;
/// The largest price of a minute and of a connection: what rows may say, too.
pub const PRICE_MAX: u32 = 999_999;
/// LCR compares carriers by a call of five minutes (manual 9.3.1, "LCR routes").
pub const LCR_CALL: Duration = Duration::from_secs(300);

/// Units of [`DECIMALS`] in one.
pub(crate) const UNITS: u64 = 10_u64.pow(DECIMALS);
/// Seconds of a minute; all sums are counted in sixtieths of a unit, so that nothing is rounded within them.
const MINUTE: u128 = 60;
const SECOND_NS: u128 = 1_000_000_000;

/// What calls cost by one row of a list of rates. All its values are in bounds, so that no sum overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In units of four decimals.
    connect_fee: u64,
    /// In units of four decimals.
    per_minute: u64,
    interval_start: u32,
    charge_period: NonZeroU32,
    minimal_cost: bool,
}

/// Why something is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateFault {
    /// A price below zero, above [`PRICE_MAX`], or with more than four decimals.
    #[error("{field} {value} is no price; write 0 to {PRICE_MAX} with at most {DECIMALS} decimals")]
    Price {
        /// The field as the REST API names it.
        field: &'static str,
        /// What is there.
        value: Decimal,
    },
    /// Something other than seconds, or a charge period of none.
    #[error("{field} {value:?} is no number of seconds; write one such as {example}")]
    Seconds {
        /// The field as the REST API names it.
        field: &'static str,
        /// What is there, cut.
        value: String,
        /// What could be there.
        example: &'static str,
    },
}

/// How the price of a call comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breakdown {
    /// Charge periods that were begun after the interval start.
    pub periods: u64,
    /// What is charged for being connected, before minutes are known.
    pub connect_fee: Decimal,
    /// What the periods cost, rounded upward.
    pub minutes: Decimal,
    /// What is given back at the end: connection fees that are minimal costs are counted against the minutes (manual
    /// 9.4.3, "Deductible Connection Fee"); 0 for all others.
    pub refund: Decimal,
    /// The price of the call: sum of all, rounded once, upward.
    pub total: Decimal,
}

/// How long a call may last for an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affordable {
    /// Not even the connection.
    Nothing,
    /// So long, and not a nanosecond longer. It may be 0: the connection alone.
    For(Duration),
    /// As long as anybody likes: minutes cost nothing.
    Unlimited,
}

impl Rate {
    /// Puts a rate together: the price of being connected, the price of a minute, the seconds that are free at the
    /// beginning, the seconds of a charge period (at least 1). `minimal_cost`: the connection's price is a least
    /// price of the whole call ("deductible connection fee") and not added to it.
    ///
    /// # Errors
    ///
    /// Which value is none.
    pub fn new(
        connect_fee: Decimal,
        per_minute: Decimal,
        interval_start: u32,
        charge_period: u32,
        minimal_cost: bool,
    ) -> Result<Self, RateFault> {
        Ok(Self {
            connect_fee: units_of("connectFee", connect_fee)?,
            per_minute: units_of("cost", per_minute)?,
            interval_start,
            charge_period: NonZeroU32::new(charge_period)
                .ok_or_else(|| no_seconds("rateIncrement", "0", "60s"))?,
            minimal_cost,
        })
    }

    /// The rate that a row says, within its list.
    ///
    /// # Errors
    ///
    /// Which value is none: rows of other systems may hold anything.
    pub fn of(row: &DestinationRate, list: &DestinationRateGroup) -> Result<Self, RateFault> {
        let period = seconds("rateIncrement", &row.rate_increment, "60s")?;
        let start = seconds("groupIntervalStart", &row.group_interval_start, "0s")?;
        let rate = Self::new(row.connect_fee, row.cost, start, period, false)?;
        Ok(rate.within(list))
    }

    /// The rate that a call's record keeps.
    ///
    /// # Errors
    ///
    /// Which value is none: whoever wrote it had other bounds.
    pub fn kept(tariff: &Tariff) -> Result<Self, RateFault> {
        let Tariff { connect_fee, per_minute, interval_start, charge_period, minimal_cost, .. } = *tariff;
        Self::new(connect_fee, per_minute, interval_start, charge_period, minimal_cost)
    }

    /// The rate with what a list says of all its rates.
    pub(crate) fn within(self, list: &DestinationRateGroup) -> Self {
        Self { minimal_cost: list.deductible_connection_fee, ..self }
    }

    /// The price of being connected.
    pub fn connect_fee(&self) -> Decimal {
        decimal(u128::from(self.connect_fee))
    }

    /// The price of a minute.
    pub fn per_minute(&self) -> Decimal {
        decimal(u128::from(self.per_minute))
    }

    /// How long a call is free at its beginning, in seconds.
    pub fn interval_start(&self) -> u32 {
        self.interval_start
    }

    /// The step in which a call is charged, in seconds; at least 1.
    pub fn charge_period(&self) -> u32 {
        self.charge_period.get()
    }

    /// Whether the connection's price is a least price of the whole call.
    pub fn minimal_cost(&self) -> bool {
        self.minimal_cost
    }

    /// What an answered call of this length costs (manual 9.4.3, "How it works"): the connection, and after the interval
    /// start a charge period for each that is begun. A call that is over by then costs the connection. Any length has a
    /// price; nothing overflows.
    pub fn price(&self, length: Duration) -> Decimal {
        decimal(self.total(self.periods(length)).div_ceil(MINUTE))
    }

    /// The same, with how it comes about.
    pub fn explain(&self, length: Duration) -> Breakdown {
        let periods = self.periods(length);
        let minutes = self.minutes(periods);
        let total = self.total(periods).div_ceil(MINUTE);
        let charged = (self.fee() + minutes).div_ceil(MINUTE);
        Breakdown {
            // A period has a second at least, and a duration less than 2^64 and one.
            periods: u64::try_from(periods).unwrap_or(u64::MAX),
            connect_fee: self.connect_fee(),
            minutes: decimal(minutes.div_ceil(MINUTE)),
            refund: decimal(charged - total),
            total: decimal(total),
        }
    }

    /// How long a call may last that costs no more than `balance`: the inverse of [`Rate::price`]. That nobody calls with
    /// a balance of zero (manual 9.4.1) is for the caller to look at: a free call costs no more than that.
    pub fn max_duration(&self, balance: Decimal) -> Affordable {
        let Some(balance) = whole_units(balance) else { return Affordable::Nothing };
        // A sum that is rounded upward is at most a whole number exactly when the sum itself is.
        let balance = balance.saturating_mul(MINUTE);
        let Some(left) = balance.checked_sub(self.fee()) else { return Affordable::Nothing };
        let left = if self.minimal_cost { balance } else { left };
        let period = u128::from(self.charge_period());
        let Some(periods) = left.checked_div(u128::from(self.per_minute) * period) else {
            return Affordable::Unlimited;
        };
        let seconds = periods.saturating_mul(period).saturating_add(u128::from(self.interval_start));
        Affordable::For(u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs))
    }

    /// Charge periods that a call of this length has begun: less than 2^64 and one.
    fn periods(&self, length: Duration) -> u128 {
        let counted = length.saturating_sub(Duration::from_secs(u64::from(self.interval_start)));
        counted.as_nanos().div_ceil(u128::from(self.charge_period()) * SECOND_NS)
    }

    // All of these in sixtieths of a unit. The largest price has 34 bits, the seconds of all periods 65.

    fn fee(&self) -> u128 {
        u128::from(self.connect_fee) * MINUTE
    }

    fn minutes(&self, periods: u128) -> u128 {
        periods * u128::from(self.charge_period()) * u128::from(self.per_minute)
    }

    fn total(&self, periods: u128) -> u128 {
        let (fee, minutes) = (self.fee(), self.minutes(periods));
        if self.minimal_cost { fee.max(minutes) } else { fee + minutes }
    }
}

/// A number of units as a decimal. The largest price of the longest call fits (94 bits of 96).
pub(crate) fn decimal(units: u128) -> Decimal {
    let units = i128::try_from(units).unwrap_or(i128::MAX);
    Decimal::try_from_i128_with_scale(units, DECIMALS).unwrap_or(Decimal::MAX)
}

/// A price in units.
fn units_of(field: &'static str, value: Decimal) -> Result<u64, RateFault> {
    let fault = RateFault::Price { field, value };
    let mut price = value.normalize();
    if price.scale() > DECIMALS || price.is_sign_negative() || price > Decimal::from(PRICE_MAX) {
        return Err(fault);
    }
    price.rescale(DECIMALS);
    u64::try_from(price.mantissa()).ok().filter(|units| *units <= u64::from(PRICE_MAX) * UNITS).ok_or(fault)
}

/// The whole units of an amount; nothing when it is negative.
fn whole_units(amount: Decimal) -> Option<u128> {
    let mantissa = u128::try_from(amount.mantissa()).ok()?;
    let power = |exponent: u32| 10_u128.checked_pow(exponent).unwrap_or(u128::MAX);
    Some(match amount.scale() {
        scale @ ..=DECIMALS => mantissa.saturating_mul(power(DECIMALS - scale)),
        scale => mantissa / power(scale - DECIMALS),
    })
}

/// Reads seconds as rows have them: `60s`; an s may be missing.
fn seconds(field: &'static str, text: &str, example: &'static str) -> Result<u32, RateFault> {
    let digits = text.strip_suffix('s').unwrap_or(text);
    let number = Some(digits).filter(|digits| model::checks::digits(digits));
    number.and_then(|digits| digits.parse().ok()).ok_or_else(|| no_seconds(field, text, example))
}

fn no_seconds(field: &'static str, text: &str, example: &'static str) -> RateFault {
    RateFault::Seconds { field, value: text.chars().take(16).collect(), example }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads `connect=0.02 minute=0.10 step=30 free=10 minimal`; what is not said is 0, a step is a second.
    fn rate(text: &str) -> Rate {
        let named = |name: &str| text.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let decimal = |name| named(name).map_or(Decimal::ZERO, |text| text.parse().unwrap());
        let seconds = |name, usual| named(name).map_or(usual, |text| text.parse().unwrap());
        let minimal = text.ends_with("minimal");
        Rate::new(decimal("connect"), decimal("minute"), seconds("free", 0), seconds("step", 1), minimal)
            .unwrap()
    }

    fn length(text: &str) -> Duration {
        match text.strip_suffix("ms") {
            Some(text) => Duration::from_millis(text.parse().unwrap()),
            None => Duration::from_secs(text.strip_suffix('s').unwrap().parse().unwrap()),
        }
    }

    fn amount(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn calls_cost_what_the_table_says() {
        let table = [
            ("by seconds", "minute=0.60", "0s 0  1ms 0.01  1s 0.01  1001ms 0.02  60s 0.6  61s 0.61"),
            ("by minutes", "minute=0.60 step=60", "0s 0  1ms 0.6  60s 0.6  60001ms 1.2  120s 1.2  121s 1.8"),
            ("by half minutes", "connect=0.02 minute=0.10 step=30", "1s 0.07  30s 0.07  31s 0.12  60s 0.12"),
            ("a step that no minute has", "minute=0.60 step=7", "1s 0.07  7s 0.07  8s 0.14  60s 0.63"),
            (
                "the beginning is free",
                "connect=0.05 minute=0.60 free=10",
                "0s 0.05  9s 0.05  10s 0.05  10001ms 0.06  11s 0.06  70s 0.65",
            ),
            ("steps count from there", "minute=0.60 step=60 free=10", "10s 0  11s 0.6  70s 0.6  71s 1.2"),
            ("free longer than the call", "connect=0.01 minute=9 free=3600", "3599s 0.01  3601s 0.16"),
            ("rounded upward, once", "minute=0.0001", "1s 0.0001  60s 0.0001  61s 0.0002  90s 0.0002"),
            ("a third of a minute", "minute=0.01 step=20", "1s 0.0034  21s 0.0067  41s 0.01  61s 0.0134"),
            (
                "no part is rounded by itself",
                "connect=0.0001 minute=0.001",
                "1s 0.0002  6s 0.0002  7s 0.0003",
            ),
            ("free", "", "0s 0  3600s 0"),
            ("the connection alone", "connect=0.1 step=60", "0s 0.1  86400s 0.1"),
            ("a least price", "connect=0.01 minute=0.06 minimal", "0s 0.01  3s 0.01  10s 0.01  11s 0.011"),
            (
                "the longest step",
                "minute=1 step=4294967295",
                "0s 0  1s 71582788.25  4294967295s 71582788.25  4294967296s 143165576.5",
            ),
            (
                "the longest call at the highest price",
                "connect=999999 minute=999999",
                "18446744073709551615s 307445427116091299424138.75",
            ),
        ];
        for (name, told, calls) in table {
            let words: Vec<&str> = calls.split_whitespace().collect();
            for call in words.chunks(2) {
                let [long, price] = call else { panic!("{name}: {call:?}") };
                assert_eq!(rate(told).price(length(long)), amount(price), "{name}: {long}");
            }
        }
        assert!(rate("connect=999999 minute=999999 step=4294967295").price(Duration::MAX) < Decimal::MAX);
    }

    #[test]
    fn the_manuals_examples_of_minimal_cost_come_out() {
        // 9.4.3: "Connection fee 0.01 - Total cost 0.21" and "Connection fee 0.01 - Total cost 0.013".
        for (minute, long, minutes, total, refund) in
            [("0.20", "60s", "0.20", "0.20", "0.01"), ("0.06", "3s", "0.003", "0.01", "0.003")]
        {
            let told = rate(&format!("connect=0.01 minute={minute} minimal")).explain(length(long));
            assert_eq!(told.minutes, amount(minutes));
            assert_eq!((told.total, told.refund), (amount(total), amount(refund)));
            let added = rate(&format!("connect=0.01 minute={minute}")).explain(length(long));
            assert_eq!((added.total, added.refund), (amount("0.01") + amount(minutes), Decimal::ZERO));
        }
    }

    #[test]
    fn an_explanation_counts_the_periods() {
        let told = rate("connect=0.02 minute=0.10 step=30 free=10").explain(length("45s"));
        let want = Breakdown {
            periods: 2,
            connect_fee: amount("0.02"),
            minutes: amount("0.1"),
            refund: Decimal::ZERO,
            total: amount("0.12"),
        };
        assert_eq!(told, want);
    }

    #[test]
    fn what_is_no_rate_is_refused_by_name() {
        let made = |connect: &str, minute: &str, period| {
            Rate::new(amount(connect), amount(minute), 0, period, false).map_err(|fault| fault.to_string())
        };
        assert!(made("0.0001", "999999", 1).is_ok());
        assert!(made("0.01000000", "0", 1).is_ok());
        for (connect, minute, period, field) in [
            ("-0.01", "0", 1, "connectFee"),
            ("0", "0.00001", 1, "cost"),
            ("0", "999999.0001", 1, "cost"),
            ("79228162514264337593543950335", "0", 1, "connectFee"),
            ("0", "0", 0, "rateIncrement"),
        ] {
            assert!(made(connect, minute, period).unwrap_err().starts_with(field), "{connect} {minute}");
        }
    }

    #[test]
    fn rows_of_any_content_make_a_rate_or_say_why_not() {
        let list = DestinationRateGroup { deductible_connection_fee: true, ..Default::default() };
        let of = |increment: &str, start: &str| {
            let row = DestinationRate {
                rate_increment: increment.to_owned(),
                group_interval_start: start.to_owned(),
                cost: amount("0.1"),
                ..DestinationRate::default()
            };
            Rate::of(&row, &list)
        };
        let rate = of("60s", "10").unwrap();
        assert_eq!((rate.charge_period(), rate.interval_start(), rate.minimal_cost()), (60, 10, true));
        for (increment, start) in
            [("", "0s"), ("0s", "0s"), ("-1s", "0s"), ("1m", "0s"), ("1s", "soon"), ("4294967296s", "0s")]
        {
            assert!(of(increment, start).is_err(), "{increment} {start}");
        }
    }

    #[test]
    fn what_a_balance_lasts_for_is_in_the_table() {
        let table = [
            ("minute=0.60", "1", "100s"),
            ("minute=0.60 step=60", "1", "60s"),
            ("minute=0.60 step=60", "0.59999", "0s"),
            ("connect=0.4 minute=0.60 step=60 free=5", "1", "65s"),
            ("connect=0.4 minute=0.60 step=60 minimal", "1.2", "120s"),
            ("connect=0.4 minute=0.60 step=60 minimal", "0.4", "0s"),
            ("minute=0.0001", "0.0001", "60s"),
        ];
        for (told, balance, long) in table {
            let most = rate(told).max_duration(amount(balance));
            assert_eq!(most, Affordable::For(length(long)), "{told}: {balance}");
        }
        for (told, balance) in [("connect=0.4", "0.39"), ("minute=1", "-0.0001"), ("", "-1")] {
            assert_eq!(rate(told).max_duration(amount(balance)), Affordable::Nothing, "{told}: {balance}");
        }
        assert_eq!(rate("connect=0.4").max_duration(amount("0.4")), Affordable::Unlimited);
        let smallest = rate("minute=0.0001");
        assert_eq!(smallest.max_duration(Decimal::MAX), Affordable::For(Duration::MAX));
    }

    fn any_rate() -> impl Strategy<Value = Rate> {
        let price = prop_oneof![0_u64..1000, 0..=u64::from(PRICE_MAX) * UNITS];
        let seconds = prop_oneof![0_u32..100, any::<u32>()];
        (price.clone(), price, seconds.clone(), seconds, any::<bool>()).prop_map(
            |(connect_fee, per_minute, interval_start, period, minimal_cost)| Rate {
                connect_fee,
                per_minute,
                interval_start,
                charge_period: NonZeroU32::new(period.max(1)).unwrap(),
                minimal_cost,
            },
        )
    }

    fn any_length() -> impl Strategy<Value = Duration> {
        let short = (0_u64..10_000_000).prop_map(Duration::from_millis);
        prop_oneof![short, (any::<u64>(), 0_u32..1_000_000_000).prop_map(|(s, ns)| Duration::new(s, ns))]
    }

    proptest! {
        #[test]
        fn a_longer_call_never_costs_less(rate in any_rate(), one in any_length(), other in any_length()) {
            prop_assert!(rate.price(one.min(other)) <= rate.price(one.max(other)));
        }

        #[test]
        fn a_price_is_the_exact_sum_and_less_than_one_unit_more(rate in any_rate(), long in 0_u64..1_000_000) {
            let periods = long.saturating_sub(u64::from(rate.interval_start)).div_ceil(u64::from(rate.charge_period()));
            let sixty = Decimal::from(60);
            let minutes = rate.per_minute() * Decimal::from(periods) * Decimal::from(rate.charge_period());
            let fee = rate.connect_fee() * sixty;
            let exact = if rate.minimal_cost { fee.max(minutes) } else { fee + minutes };
            let price = rate.price(Duration::from_secs(long)) * sixty;
            prop_assert!(price >= exact && price - exact < Decimal::new(60, DECIMALS), "{price} {exact}");
        }

        #[test]
        fn what_is_affordable_is_and_a_step_more_is_not(rate in any_rate(), balance in 0_i64..10_000_000_000, scale in 0_u32..8) {
            let balance = Decimal::new(balance, scale);
            match rate.max_duration(balance) {
                Affordable::Nothing => prop_assert!(rate.price(Duration::ZERO) > balance),
                Affordable::Unlimited => prop_assert!(rate.price(Duration::MAX) <= balance),
                Affordable::For(most) => {
                    prop_assert!(rate.price(most) <= balance);
                    if let Some(more) = most.checked_add(Duration::from_nanos(1)) {
                        prop_assert!(rate.price(more) > balance, "{most:?} {:?}", rate.price(more));
                    }
                }
            }
        }

        #[test]
        fn parts_add_up(rate in any_rate(), long in any_length()) {
            let told = rate.explain(long);
            prop_assert_eq!(told.total, rate.price(long));
            prop_assert_eq!(told.connect_fee + told.minutes - told.refund, told.total);
        }
    }
}
