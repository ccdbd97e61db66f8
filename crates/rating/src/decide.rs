//! What a call costs: a client its price, a carrier its cost, or why there is none.
//!
//! In: who, the number in E.164, when the call begins, the tag that was dialled. Out: the rate with where it comes from.
//! Elsewhere: the same with all steps told ([`crate::simulate`]), what a duration comes to ([`crate::rate`]).

use crate::money::Money;
use crate::number::Digits;
use crate::rate::{Affordable, Rate, RateFault};
use crate::tariffs::{Part, Party, Profile, Tariffs};
use jiff::Timestamp;
use model::checks::currency;
use model::entities::{
    Brand, Carrier, Company, CompanyBillingMethod, Currency, Destination, DestinationRate,
    DestinationRateGroup, RatingPlan, RatingPlanGroup, RatingProfile, RoutingTag, SpecialNumber,
};
use model::{Id, Tariff};
use rust_decimal::Decimal;
use std::time::Duration;

/// A call whose price is asked.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Who is called, in E.164 with the plus sign.
    pub number: &'a str,
    /// When it begins: the price is that of this moment, however long it lasts (manual 8.13.1: calls are rerated "with the
    /// start time of the call").
    pub at: Timestamp,
    /// The routing tag that was dialled.
    pub tag: Option<Id<RoutingTag>>,
}

/// How a call is charged. A call that is free has a price, which is 0; a call without a price is [`NoPrice`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Charge {
    /// By a rate.
    Priced(Basis),
    /// Not here. The call may be placed, and its record has no price at all.
    Unbilled(Unbilled),
}

/// Why nobody works out what a call costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbilled {
    /// The client's billing method is none (manual 9.1: "'none' disables billing").
    Client,
    /// The carrier's costs are not calculated (manual 9.2.1, "Calculate cost").
    Carrier,
    /// Calls to the number leave no trace (manual 9.7.2).
    SpecialNumber(Id<SpecialNumber>),
}

/// The rate that a call has, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basis {
    /// What gives the client or carrier the plan; nothing where the plan itself was asked.
    pub profile: Option<Id<RatingProfile>>,
    /// The rating plan, as call records and invoices name it.
    pub plan: Id<RatingPlanGroup>,
    /// The part of it that counts.
    pub part: Id<RatingPlan>,
    /// The list of rates of that part.
    pub list: Id<DestinationRateGroup>,
    /// The row of the rate.
    pub row: Id<DestinationRate>,
    /// The destination, as call records and invoices name it.
    pub destination: Id<Destination>,
    /// The currency of client or carrier, which is the plan's, too.
    pub currency: Id<Currency>,
    /// The rate.
    pub rate: Rate,
}

impl Basis {
    /// What an answered call of this length costs.
    pub fn price(&self, length: Duration) -> Money {
        Money { amount: self.rate.price(length), currency: self.currency }
    }

    /// What of it a call's record keeps.
    pub fn tariff(&self) -> Tariff {
        Tariff {
            connect_fee: self.rate.connect_fee(),
            per_minute: self.rate.per_minute(),
            interval_start: self.rate.interval_start(),
            charge_period: self.rate.charge_period(),
            minimal_cost: self.rate.minimal_cost(),
            currency: self.currency,
            plan: self.plan,
            destination: self.destination,
        }
    }

    /// How long a call may last for a balance, which is in the currency of the basis.
    pub fn max_duration(&self, balance: Decimal) -> Affordable {
        self.rate.max_duration(balance)
    }
}

/// Why a call has no price. A client's call is not placed then (manual 7.5, "No rating plan, no call"); a carrier is left out by
/// LCR, and has no cost otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPrice {
    /// Not a number of E.164.
    #[error("the number is not in E.164; look at the transformations that it came by")]
    NotE164,
    /// There is no such client any more.
    #[error("there is no client {0}")]
    NoClient(Id<Company>),
    /// There is no such carrier any more.
    #[error("there is no carrier {0}")]
    NoCarrier(Id<Carrier>),
    /// Nobody gave a rating plan.
    #[error("no rating plan; add a rating profile{}", for_tag(.tag))]
    NoPlan {
        /// For calls that were dialled with this tag.
        tag: Option<Id<RoutingTag>>,
    },
    /// There are rating plans, and none counts yet.
    #[error("rating profile {profile} is not active before {since}; add one that is")]
    NotYetActive {
        /// The first to come.
        profile: Id<RatingProfile>,
        /// When it does.
        since: Timestamp,
    },
    /// The rating plan is gone, or of another brand.
    #[error("rating plan {0} is not there in the brand; choose another in the rating profile")]
    PlanGone(Id<RatingPlanGroup>),
    /// The rating plan is in another currency than client or carrier (manual 8.6): nothing is converted.
    #[error("rating plan {plan} is in currency {is}, and not in {wanted}; choose one that is")]
    OtherCurrency {
        /// The plan.
        plan: Id<RatingPlanGroup>,
        /// Its currency.
        is: Id<Currency>,
        /// The client's or carrier's.
        wanted: Id<Currency>,
    },
    /// The list of rates is in another currency than the rating plan that it is in: it was changed afterwards.
    #[error(
        "destination rates {list} are in currency {is}, and not in {wanted} as rating plan {plan}; replace them in it"
    )]
    ListInOtherCurrency {
        /// The list.
        list: Id<DestinationRateGroup>,
        /// The plan.
        plan: Id<RatingPlanGroup>,
        /// The list's currency.
        is: Id<Currency>,
        /// The plan's.
        wanted: Id<Currency>,
    },
    /// Neither the row nor its brand has a currency.
    #[error("no currency; choose one in the brand")]
    NoCurrency,
    /// The rating plan has no lists of rates.
    #[error("rating plan {0} is empty; add destination rates")]
    EmptyPlan(Id<RatingPlanGroup>),
    /// Lists of the plan know the destination, and none of them counts at this time.
    #[error(
        "rating plan {plan} has no rate for the destination at this time; let its parts cover the whole week"
    )]
    NotNow {
        /// The plan.
        plan: Id<RatingPlanGroup>,
    },
    /// No list of the plan knows the destination.
    #[error("rating plan {plan} has no rate for the destination; add one")]
    NoRate {
        /// The plan.
        plan: Id<RatingPlanGroup>,
    },
    /// The row of the rate holds none.
    #[error("rate {row} cannot be used: {fault}")]
    BadRate {
        /// The row.
        row: Id<DestinationRate>,
        /// What is wrong with it.
        fault: RateFault,
    },
}

fn for_tag(tag: &Option<Id<RoutingTag>>) -> String {
    tag.map_or_else(String::new, |tag| format!(" for routing tag {tag}"))
}

impl NoPrice {
    /// In a few words, for a Reason header: who calls does not learn what is configured how.
    pub fn brief(&self) -> &'static str {
        match self {
            Self::NotE164 => "number not in E.164",
            Self::NoClient(_) | Self::NoCarrier(_) => "unknown account",
            Self::NoPlan { .. } | Self::PlanGone(_) | Self::EmptyPlan(_) => "no rating plan",
            Self::NotYetActive { .. } => "rating plan not active yet",
            Self::OtherCurrency { .. } | Self::ListInOtherCurrency { .. } | Self::NoCurrency => {
                "rating plan in another currency"
            }
            Self::NotNow { .. } => "no rate for destination at this time",
            Self::NoRate { .. } | Self::BadRate { .. } => "no rate for destination",
        }
    }
}

/// What a part of a plan has to do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its rate is the call's.
    Chosen,
    /// It does not count at this time.
    NotNow,
    /// It has no rate for the destination.
    NoRate,
    /// A part of greater weight is chosen.
    Outweighed,
}

/// Who asks, of which brand, in which currency, by which plan.
pub(crate) struct Asked<'a> {
    pub(crate) brand: Id<Brand>,
    pub(crate) currency: Id<Currency>,
    pub(crate) plan: Id<RatingPlanGroup>,
    pub(crate) profile: Option<&'a Profile>,
}

/// What the choice of a part is told of each part that is looked at.
pub(crate) trait Tell: FnMut(&Part, Verdict) {}
impl<T: FnMut(&Part, Verdict)> Tell for T {}

impl Tariffs {
    /// The price of a client's call.
    ///
    /// # Errors
    ///
    /// Why it has none; then it must not be placed.
    pub fn price(&self, client: Id<Company>, call: &Call<'_>) -> Result<Charge, NoPrice> {
        match self.asked_by_client(client, call)? {
            Ok((asked, number)) => self.choose(&asked, number, call.at, &mut |_, _| {}).map(Charge::Priced),
            Err(unbilled) => Ok(Charge::Unbilled(unbilled)),
        }
    }

    /// The cost of a call by a carrier, in the carrier's currency.
    ///
    /// # Errors
    ///
    /// Why it has none.
    pub fn cost(&self, carrier: Id<Carrier>, call: &Call<'_>) -> Result<Charge, NoPrice> {
        match self.asked_by_carrier(carrier, call)? {
            Ok((asked, number)) => self.choose(&asked, number, call.at, &mut |_, _| {}).map(Charge::Priced),
            Err(unbilled) => Ok(Charge::Unbilled(unbilled)),
        }
    }

    /// What a call costs by a rating plan, whoever has it.
    ///
    /// # Errors
    ///
    /// Why it has no price.
    pub fn by_plan(&self, plan: Id<RatingPlanGroup>, call: &Call<'_>) -> Result<Basis, NoPrice> {
        let (asked, number) = self.asked_of_plan(plan, call)?;
        self.choose(&asked, number, call.at, &mut |_, _| {})
    }

    pub(crate) fn asked_by_client(
        &self,
        client: Id<Company>,
        call: &Call<'_>,
    ) -> Result<Result<(Asked<'_>, Digits), Unbilled>, NoPrice> {
        let row = self.rows.get(client).ok_or(NoPrice::NoClient(client))?;
        let number = Digits::of_number(call.number).ok_or(NoPrice::NotE164)?;
        if let Some(special) = self.special(row.brand, number) {
            return Ok(Err(Unbilled::SpecialNumber(special)));
        }
        if row.billing_method == CompanyBillingMethod::None {
            return Ok(Err(Unbilled::Client));
        }
        let asked = self.asked_by(Party::Client(client), row.brand, row.currency, call)?;
        Ok(Ok((asked, number)))
    }

    pub(crate) fn asked_by_carrier(
        &self,
        carrier: Id<Carrier>,
        call: &Call<'_>,
    ) -> Result<Result<(Asked<'_>, Digits), Unbilled>, NoPrice> {
        let row = self.rows.get(carrier).ok_or(NoPrice::NoCarrier(carrier))?;
        let number = Digits::of_number(call.number).ok_or(NoPrice::NotE164)?;
        if let Some(special) = self.special(row.brand, number) {
            return Ok(Err(Unbilled::SpecialNumber(special)));
        }
        if row.calculate_cost != Some(true) {
            return Ok(Err(Unbilled::Carrier));
        }
        let asked = self.asked_by(Party::Carrier(carrier), row.brand, row.currency, call)?;
        Ok(Ok((asked, number)))
    }

    pub(crate) fn asked_of_plan(
        &self,
        plan: Id<RatingPlanGroup>,
        call: &Call<'_>,
    ) -> Result<(Asked<'_>, Digits), NoPrice> {
        let row = self.rows.get(plan).ok_or(NoPrice::PlanGone(plan))?;
        let number = Digits::of_number(call.number).ok_or(NoPrice::NotE164)?;
        let currency = self.currency(row.currency, row.brand)?;
        Ok((Asked { brand: row.brand, currency, plan, profile: None }, number))
    }

    /// The plan that is active: that "whose activation time is nearer in the past" (manual 9.4.3).
    fn asked_by(
        &self,
        party: Party,
        brand: Id<Brand>,
        currency: Option<Id<Currency>>,
        call: &Call<'_>,
    ) -> Result<Asked<'_>, NoPrice> {
        let tag = call.tag.filter(|_| matches!(party, Party::Client(_)));
        let profile = self.profile(party, tag, call.at).map_err(|later| match later {
            Some(later) => NoPrice::NotYetActive { profile: later.id, since: later.since },
            None => NoPrice::NoPlan { tag },
        })?;
        let plan = self.rows.get(profile.plan).filter(|plan| plan.brand == brand);
        let plan = plan.ok_or(NoPrice::PlanGone(profile.plan))?;
        let wanted = self.currency(currency, brand)?;
        if plan.currency != currency {
            let is = self.currency(plan.currency, brand)?;
            if is != wanted {
                return Err(NoPrice::OtherCurrency { plan: plan.id, is, wanted });
            }
        }
        Ok(Asked { brand, currency: wanted, plan: plan.id, profile: Some(profile) })
    }

    fn currency(&self, own: Option<Id<Currency>>, brand: Id<Brand>) -> Result<Id<Currency>, NoPrice> {
        currency(&self.rows, own, brand).map(|row| row.id).ok_or(NoPrice::NoCurrency)
    }

    /// The rate of a call by a plan. Of the parts that count at this time and know the number, the one with the greatest
    /// weight is taken, and within its list the longest prefix (manual 9.4.3: "If a given call can be billed with more than
    /// one destination rate within the rating plan, it will be billed using the one with highest weight"). So a list of
    /// greater weight that has +34 hides +346 of all others.
    pub(crate) fn choose(
        &self,
        asked: &Asked<'_>,
        number: Digits,
        at: Timestamp,
        tell: &mut impl Tell,
    ) -> Result<Basis, NoPrice> {
        let parts = self.parts(asked.plan);
        let destinations = self.destinations(asked.brand, number);
        let mut clock = None;
        let mut chosen = None;
        let mut known_at_other_times = false;
        for part in parts {
            let counts = part.timing.counts_always()
                || part.timing.counts(*clock.get_or_insert_with(|| self.clock(asked.brand, at)));
            let rate = self.rate(part.list, &destinations);
            match rate {
                _ if !counts => {
                    known_at_other_times |= rate.is_some();
                    tell(part, Verdict::NotNow);
                }
                None => tell(part, Verdict::NoRate),
                Some(rate) => {
                    tell(part, Verdict::Chosen);
                    chosen = Some((part, rate));
                    break;
                }
            }
        }
        let plan = asked.plan;
        let Some((part, entry)) = chosen else {
            return Err(match known_at_other_times {
                _ if parts.is_empty() => NoPrice::EmptyPlan(plan),
                true => NoPrice::NotNow { plan },
                false => NoPrice::NoRate { plan },
            });
        };
        let row = Id::new(entry.row);
        // Whether a list is still there nobody promised.
        let list = self.rows.get(part.list).ok_or(NoPrice::NoRate { plan })?;
        let (is, wanted) = (self.currency(list.currency, list.brand)?, asked.currency);
        if is != wanted {
            return Err(NoPrice::ListInOtherCurrency { list: list.id, plan, is, wanted });
        }
        let rate = match entry.rate {
            Some(rate) => rate.within(list),
            None => self.unusable(row, list).ok_or(NoPrice::NoRate { plan })??,
        };
        Ok(Basis {
            profile: asked.profile.map(|profile| profile.id),
            plan,
            part: part.id,
            list: list.id,
            row,
            destination: Id::new(entry.destination),
            currency: asked.currency,
            rate,
        })
    }

    /// Says why a row holds no rate.
    fn unusable(
        &self,
        row: Id<DestinationRate>,
        list: &DestinationRateGroup,
    ) -> Option<Result<Rate, NoPrice>> {
        let values = self.rows.get(row)?;
        Some(Rate::of(values, list).map_err(|fault| NoPrice::BadRate { row, fault }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    fn call<'a>(number: &'a str, at: &str) -> Call<'a> {
        Call { number, at: at.parse().unwrap(), tag: None }
    }

    /// What a minute costs the first brand's client: the price, or in a few words why there is none.
    fn minute(world: &World, number: &str, at: &str) -> String {
        let charge = Tariffs::new(&world.rows).price(Id::new(1), &call(number, at));
        match charge {
            Ok(Charge::Priced(basis)) => basis.rate.per_minute().normalize().to_string(),
            Ok(Charge::Unbilled(unbilled)) => format!("{unbilled:?}"),
            Err(why) => why.brief().to_owned(),
        }
    }

    /// The client of the first brand has a plan with a list that always counts.
    fn world() -> (World, Id<RatingPlanGroup>, Id<DestinationRateGroup>) {
        let mut world = World::new();
        let (plan, list) = (world.plan(1), world.list(1, ""));
        world.part(plan, list, 10);
        world.profile(1, plan, "2026-01-01T00:00:00Z", None);
        (world, plan, list)
    }

    const AT: &str = "2026-03-02T12:00:00Z";

    #[test]
    fn the_longest_prefix_of_the_list_counts() {
        let (mut world, _, list) = world();
        let other = world.list(1, "");
        for (prefix, price) in [("+3", "9"), ("+34", "0.1"), ("+346", "0.2"), ("+34600", "0")] {
            world.rate(list, prefix, price);
        }
        // A prefix that the brand knows, and this list does not.
        world.rate(other, "+349", "7");
        for (number, price) in [
            ("+34946002050", "0.1"),
            ("+34611111111", "0.2"),
            ("+34600111111", "0"),
            ("+35111111111", "9"),
            ("+4911111", "no rate for destination"),
            ("34946002050", "number not in E.164"),
            ("", "number not in E.164"),
            ("+34 946", "number not in E.164"),
        ] {
            assert_eq!(minute(&world, number, AT), price, "{number}");
        }
    }

    #[test]
    fn the_next_state_has_the_new_price_and_the_one_before_keeps_its_own() {
        let (mut world, plan, list) = world();
        world.rate(list, "+34", "1");
        let before = Tariffs::new(&world.rows);
        world.rate(list, "+34", "2");
        let after = before.next(&world.rows);
        let minute = |tariffs: &Tariffs| {
            tariffs.by_plan(plan, &call("+3491", AT)).map(|basis| basis.rate.per_minute().normalize())
        };
        assert_eq!(minute(&before), Ok(Decimal::ONE));
        assert_eq!(minute(&after), Ok(Decimal::TWO));
        world.change(list, |list| list.deductible_connection_fee = true);
        let basis = after.next(&world.rows).by_plan(plan, &call("+3491", AT)).unwrap();
        assert!(basis.rate.minimal_cost(), "what the list says counts for all its rates");
    }

    #[test]
    fn a_basis_says_where_the_rate_comes_from() {
        let (mut world, plan, list) = world();
        world.rate(list, "+34", "0.6");
        let tariffs = Tariffs::new(&world.rows);
        let Ok(Charge::Priced(basis)) = tariffs.price(Id::new(1), &call("+34946002050", AT)) else {
            panic!()
        };
        let rate = Rate::new(Decimal::ZERO, Decimal::new(6, 1), 0, 1, false).unwrap();
        let want = Basis {
            profile: Some(Id::new(1)),
            plan,
            part: Id::new(1),
            list,
            row: Id::new(1),
            destination: Id::new(1),
            currency: Id::new(1),
            rate,
        };
        assert_eq!(basis, want);
        let price = basis.price(Duration::from_secs(90));
        assert_eq!(price, Money { amount: Decimal::new(9, 1), currency: Id::new(1) });
        assert_eq!(basis.max_duration(Decimal::ONE), Affordable::For(Duration::from_secs(100)));
        let plans = tariffs.by_plan(plan, &call("+34946002050", AT)).unwrap();
        assert_eq!(plans, Basis { profile: None, ..want });
    }

    #[test]
    fn the_greatest_weight_counts_before_the_longest_prefix() {
        let (mut world, plan, list) = world();
        let special = world.list(1, "");
        world.part(plan, special, 20);
        for (list, prefix, price) in [
            (list, "+34", "0.1"),
            (list, "+346", "0.2"),
            (list, "+35", "0.3"),
            (special, "+3460", "0"),
            (special, "+35", "0.4"),
        ] {
            world.rate(list, prefix, price);
        }
        // The manual's example: a general list, and free calls to some mobiles in one of greater weight.
        assert_eq!(minute(&world, "+34600111111", AT), "0");
        assert_eq!(minute(&world, "+34611111111", AT), "0.2");
        assert_eq!(minute(&world, "+34946002050", AT), "0.1");
        assert_eq!(minute(&world, "+35111111111", AT), "0.4");
        world.rate(special, "+34", "5");
        assert_eq!(minute(&world, "+34611111111", AT), "5", "however general the list is that weighs more");
    }

    #[test]
    fn a_part_counts_at_its_times_by_the_clock_of_the_brand() {
        let (mut world, plan, list) = world();
        let day = world.list(1, "");
        let part = world.part(plan, day, 20);
        world.time(part, "1111100", 8, 0);
        world.rate(list, "+34", "0.1");
        world.rate(day, "+34", "0.5");
        world.rate(day, "+35", "0.6");
        for (at, price) in [
            // Madrid is an hour ahead in winter and two in summer. The 2nd of March 2026 is a Monday.
            ("2026-03-02T06:59:59Z", "0.1"),
            ("2026-03-02T07:00:00Z", "0.5"),
            ("2026-03-02T22:59:59Z", "0.5"),
            ("2026-03-02T23:00:00Z", "0.1"),
            ("2026-07-06T05:59:59Z", "0.1"),
            ("2026-07-06T06:00:00Z", "0.5"),
            // Friday evening, and midnight in Madrid.
            ("2026-03-06T22:59:59Z", "0.5"),
            ("2026-03-06T23:00:00Z", "0.1"),
        ] {
            assert_eq!(minute(&world, "+34946002050", at), price, "{at}");
        }
        assert_eq!(minute(&world, "+3511", "2026-03-02T06:59:59Z"), "no rate for destination at this time");
        assert_eq!(minute(&world, "+3511", "2026-03-02T07:00:00Z"), "0.6");
        assert_eq!(minute(&world, "+4911", "2026-03-02T06:59:59Z"), "no rate for destination");
    }

    #[test]
    fn no_moment_is_without_a_price_when_clocks_are_put_forward_and_back() {
        let (mut world, plan, _) = world();
        world.change(Id::<RatingPlan>::new(1), |part| part.weight = Decimal::ZERO);
        world.time(Id::new(1), "1111111", 0, 0);
        let night = world.list(1, "");
        let part = world.part(plan, night, 20);
        // In the hour that is left out on the 29th of March and comes twice on the 25th of October.
        world.time(part, "1111111", 2, 30);
        world.rate(Id::new(1), "+34", "1");
        world.rate(night, "+34", "2");
        assert_eq!(Tariffs::new(&world.rows).uncovered(plan), []);
        for (at, price) in [
            ("2026-03-29T00:59:59Z", "1"),
            ("2026-03-29T01:00:00Z", "2"),
            ("2026-10-25T00:29:59Z", "1"),
            ("2026-10-25T00:30:00Z", "2"),
            // The clock shows 2:00 again.
            ("2026-10-25T01:00:00Z", "1"),
            ("2026-10-25T01:30:00Z", "2"),
        ] {
            assert_eq!(minute(&world, "+3491", at), price, "{at}");
        }
    }

    #[test]
    fn the_plan_counts_that_was_activated_last() {
        let (mut world, _, list) = world();
        world.rate(list, "+34", "1");
        let (next, dearer) = (world.plan(1), world.list(1, ""));
        world.part(next, dearer, 10);
        world.rate(dearer, "+34", "2");
        let profile = world.profile(1, next, "2026-06-01T00:00:00Z", None);
        for (at, price) in [
            ("2025-12-31T23:59:59Z", "rating plan not active yet"),
            ("2026-01-01T00:00:00Z", "1"),
            ("2026-05-31T23:59:59Z", "1"),
            ("2026-06-01T00:00:00Z", "2"),
            ("2036-06-01T00:00:00Z", "2"),
        ] {
            assert_eq!(minute(&world, "+3491", at), price, "{at}");
        }
        world.change(profile, |row| row.activation_time = "2025-06-01T00:00:00Z".parse().unwrap());
        assert_eq!(minute(&world, "+3491", AT), "1", "it was superseded");
    }

    #[test]
    fn calls_with_a_tag_have_the_plans_of_that_tag_alone() {
        let (mut world, _, list) = world();
        world.rate(list, "+34", "1");
        let (premium, dearer) = (world.plan(1), world.list(1, ""));
        world.part(premium, dearer, 10);
        world.rate(dearer, "+34", "2");
        world.profile(1, premium, "2026-02-01T00:00:00Z", Some(7));
        let tariffs = Tariffs::new(&world.rows);
        let of = |tag: Option<u32>, at: &str| {
            let call = Call { tag: tag.map(Id::new), ..call("+3491", at) };
            match tariffs.price(Id::new(1), &call) {
                Ok(Charge::Priced(basis)) => Ok(basis.plan.get()),
                Ok(other) => panic!("{other:?}"),
                Err(why) => Err(why),
            }
        };
        assert_eq!(of(None, AT), Ok(1));
        assert_eq!(of(Some(7), AT), Ok(2));
        assert_eq!(of(Some(8), AT), Err(NoPrice::NoPlan { tag: Some(Id::new(8)) }));
        let early = of(Some(7), "2026-01-15T00:00:00Z");
        let since = "2026-02-01T00:00:00Z".parse().unwrap();
        assert_eq!(early, Err(NoPrice::NotYetActive { profile: Id::new(2), since }));
        assert_eq!(of(None, "2025-01-15T00:00:00Z").unwrap_err().brief(), "rating plan not active yet");
    }

    #[test]
    fn free_unbilled_and_without_a_price_are_three_things() {
        let (mut world, _, list) = world();
        world.rate(list, "+34", "0");
        assert_eq!(minute(&world, "+3491", AT), "0");
        assert_eq!(minute(&world, "+4911", AT), "no rate for destination");
        let help = world.special(None, "+34116111", 1);
        world.special(Some(2), "+34112", 1);
        world.special(None, "+34091", 1);
        world.special(Some(1), "+34091", 0);
        assert_eq!(minute(&world, "+34116111", AT), format!("SpecialNumber({help})"));
        assert_eq!(minute(&world, "+341161112", AT), "0", "the very number alone is special");
        assert_eq!(minute(&world, "+34112", AT), "0", "it is another brand's");
        assert_eq!(minute(&world, "+34091", AT), "0", "the brand says that it is like any other");
        world.change(Id::<Company>::new(1), |row| row.billing_method = CompanyBillingMethod::None);
        assert_eq!(minute(&world, "+4911", AT), "Client");
    }

    #[test]
    fn carriers_have_a_cost_in_their_own_currency_whatever_was_dialled() {
        let (mut world, plan, list) = world();
        world.rate(list, "+34", "0.6");
        world.carriers(1, plan, "2026-01-01T00:00:00Z");
        let cost = |world: &World| {
            let call = Call { tag: Some(Id::new(9)), ..call("+3491", AT) };
            Tariffs::new(&world.rows).cost(Id::new(1), &call)
        };
        let Ok(Charge::Priced(basis)) = cost(&world) else { panic!("{:?}", cost(&world)) };
        let five_minutes = basis.price(crate::LCR_CALL);
        assert_eq!(five_minutes, Money { amount: Decimal::from(3), currency: Id::new(1) });
        world.change(Id::<Carrier>::new(1), |row| row.currency = Some(Id::new(2)));
        let (is, wanted) = (Id::new(1), Id::new(2));
        assert_eq!(cost(&world), Err(NoPrice::OtherCurrency { plan, is, wanted }));
        world.change(plan, |row| row.currency = Some(Id::new(2)));
        assert_eq!(cost(&world), Err(NoPrice::ListInOtherCurrency { list, plan, is, wanted }));
        world.change(list, |row| row.currency = Some(Id::new(2)));
        let Ok(Charge::Priced(basis)) = cost(&world) else { panic!("{:?}", cost(&world)) };
        assert_eq!(basis.currency, Id::new(2));
        world.change(Id::<Carrier>::new(1), |row| row.calculate_cost = Some(false));
        assert_eq!(cost(&world), Ok(Charge::Unbilled(Unbilled::Carrier)));
        let gone = Tariffs::new(&world.rows).cost(Id::new(99), &call("+3491", AT));
        assert_eq!(gone, Err(NoPrice::NoCarrier(Id::new(99))));
    }

    #[test]
    fn rows_that_are_gone_or_broken_are_named_and_harm_nothing() {
        use model::define::Entity as _;
        type Break = fn(&mut World);
        let table: [(Break, &str); 9] = [
            (|world| world.rows.remove(Company::definition(), 1), "there is no client 1"),
            (
                |world| world.rows.remove(RatingProfile::definition(), 1),
                "no rating plan; add a rating profile",
            ),
            (|world| world.rows.remove(RatingPlanGroup::definition(), 1), "rating plan 1 is not there"),
            (
                |world| world.change(Id::<RatingPlanGroup>::new(1), |row| row.brand = Id::new(2)),
                "rating plan 1 is not there in the brand",
            ),
            (|world| world.rows.remove(RatingPlan::definition(), 1), "rating plan 1 is empty"),
            (|world| world.rows.remove(DestinationRateGroup::definition(), 1), "rating plan 1 has no rate"),
            (|world| world.rows.remove(Destination::definition(), 1), "rating plan 1 has no rate"),
            (|world| world.rows.remove(Currency::definition(), 1), "no currency"),
            (
                |world| {
                    world.change(Id::<DestinationRate>::new(1), |row| row.rate_increment = "0s".to_owned());
                },
                "rate 1 cannot be used: rateIncrement",
            ),
        ];
        for (breaks, why) in table {
            let (mut world, _, list) = world();
            world.rate(list, "+34", "1");
            assert_eq!(minute(&world, "+3491", AT), "1");
            breaks(&mut world);
            let error = Tariffs::new(&world.rows).price(Id::new(1), &call("+3491", AT)).unwrap_err();
            assert!(error.to_string().starts_with(why), "{error}");
        }
    }
}
