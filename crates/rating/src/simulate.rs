//! A call that is not made, priced by the same code and with all steps told (manual 9.4.3, "Simulate a call").
//! In: a plan, a client or a carrier, a number, a time and a duration. Out: data for tables. Elsewhere: the decision ([`crate::decide`]).

use crate::decide::{Asked, Basis, Call, NoPrice, Unbilled, Verdict};
use crate::money::Money;
use crate::number::Digits;
use crate::rate::Breakdown;
use crate::tariffs::{Part, Tariffs};
use jiff::Timestamp;
use model::Id;
use model::define::Translated;
use model::entities::{Carrier, Company, DestinationRateGroup, RatingPlan, RatingPlanGroup, RatingProfile};
use std::time::Duration;

/// What a call would cost, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    /// When the call would begin.
    pub at: Timestamp,
    /// How long it would last once it is answered.
    pub duration: Duration,
    /// What gives client or carrier the plan.
    pub profile: Option<Id<RatingProfile>>,
    /// The plan that counts; nothing where it does not come to that.
    pub plan: Option<Id<RatingPlanGroup>>,
    /// All parts of the plan, the greatest weight first, at most [`crate::tariffs::PARTS_MAX`].
    pub parts: Vec<Considered>,
    /// What it comes to.
    pub outcome: Result<Outcome, NoPrice>,
}

/// A part of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Considered {
    /// The part.
    pub part: Id<RatingPlan>,
    /// Its list of rates.
    pub list: Id<DestinationRateGroup>,
    /// What it has to do with the call.
    pub verdict: Verdict,
}

/// What a call that may be placed comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It has a price.
    Priced(Box<Priced>),
    /// Nobody works one out.
    Unbilled(Unbilled),
}

/// A price with all that it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Priced {
    /// The rate and its place.
    pub basis: Basis,
    /// The prefix by which the destination was found, with the plus sign.
    pub prefix: String,
    /// The destination's name.
    pub destination: Translated,
    /// Periods, fee, refund and sum.
    pub breakdown: Breakdown,
    /// The price: the sum with its currency.
    pub price: Money,
}

impl Tariffs {
    /// What a client's call would cost.
    pub fn simulate_client(&self, client: Id<Company>, call: &Call<'_>, duration: Duration) -> Simulation {
        self.simulate(self.asked_by_client(client, call), call, duration)
    }

    /// What a call by a carrier would cost.
    pub fn simulate_carrier(&self, carrier: Id<Carrier>, call: &Call<'_>, duration: Duration) -> Simulation {
        self.simulate(self.asked_by_carrier(carrier, call), call, duration)
    }

    /// What a call would cost by a plan.
    pub fn simulate_plan(
        &self,
        plan: Id<RatingPlanGroup>,
        call: &Call<'_>,
        duration: Duration,
    ) -> Simulation {
        self.simulate(self.asked_of_plan(plan, call).map(Ok), call, duration)
    }

    fn simulate(
        &self,
        asked: Result<Result<(Asked<'_>, Digits), Unbilled>, NoPrice>,
        call: &Call<'_>,
        duration: Duration,
    ) -> Simulation {
        let mut simulation = Simulation {
            at: call.at,
            duration,
            profile: None,
            plan: None,
            parts: Vec::new(),
            outcome: Err(NoPrice::NotE164),
        };
        let (asked, number) = match asked {
            Ok(Ok(asked)) => asked,
            Ok(Err(unbilled)) => {
                return Simulation { outcome: Ok(Outcome::Unbilled(unbilled)), ..simulation };
            }
            Err(why) => return Simulation { outcome: Err(why), ..simulation },
        };
        simulation.profile = asked.profile.map(|profile| profile.id);
        simulation.plan = Some(asked.plan);
        let considered = |part: &Part, verdict| Considered { part: part.id, list: part.list, verdict };
        let parts = &mut simulation.parts;
        let chosen = self.choose(&asked, number, call.at, &mut |part, verdict| {
            parts.push(considered(part, verdict));
        });
        // The choice looks no further.
        let rest = self.parts(asked.plan).iter().skip(parts.len());
        parts.extend(rest.map(|part| considered(part, Verdict::Outweighed)));
        simulation.outcome = chosen.map(|basis| Outcome::Priced(Box::new(self.priced(basis, duration))));
        simulation
    }

    fn priced(&self, basis: Basis, duration: Duration) -> Priced {
        let destination = self.rows().get(basis.destination);
        Priced {
            basis,
            prefix: destination.map(|row| row.prefix.clone()).unwrap_or_default(),
            destination: destination.map(|row| row.name.clone()).unwrap_or_default(),
            breakdown: basis.rate.explain(duration),
            price: basis.price(duration),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use rust_decimal::Decimal;

    #[test]
    fn a_simulation_tells_each_step() {
        let mut world = World::new();
        let plan = world.plan(1);
        let lists: Vec<_> = (0..4).map(|_| world.list(1, "")).collect();
        let parts: Vec<_> = lists
            .iter()
            .zip([40, 30, 20, 10])
            .map(|(list, weight)| world.part(plan, *list, weight))
            .collect();
        world.time(parts[0], "1111100", 22, 0);
        world.rate(lists[0], "+34", "9");
        world.rate(lists[1], "+35", "9");
        world.rate(lists[2], "+346", "0.6");
        world.rate(lists[3], "+34", "9");
        let profile = world.profile(1, plan, "2026-01-01T00:00:00Z", None);
        world.carriers(2, plan, "2026-01-01T00:00:00Z");
        let tariffs = Tariffs::new(&world.rows);
        let at: Timestamp = "2026-03-02T12:00:00Z".parse().unwrap();
        let call = Call { number: "+34600123456", at, tag: None };
        let minute = Duration::from_secs(60);

        let told = tariffs.simulate_client(Id::new(1), &call, minute);
        let verdicts: Vec<_> = told.parts.iter().map(|part| (part.part, part.list, part.verdict)).collect();
        let want = [Verdict::NotNow, Verdict::NoRate, Verdict::Chosen, Verdict::Outweighed];
        let want: Vec<_> = parts
            .iter()
            .zip(&lists)
            .zip(want)
            .map(|((part, list), verdict)| (*part, *list, verdict))
            .collect();
        assert_eq!(verdicts, want);
        assert_eq!(
            (told.at, told.duration, told.profile, told.plan),
            (at, minute, Some(profile), Some(plan))
        );
        let Ok(Outcome::Priced(priced)) = told.outcome else { panic!("{told:?}") };
        assert_eq!((priced.prefix.as_str(), priced.destination.en.as_str()), ("+346", "to +346"));
        assert_eq!(priced.price, Money { amount: Decimal::new(6, 1), currency: Id::new(1) });
        assert_eq!((priced.breakdown.total, priced.breakdown.periods), (priced.price.amount, 60));

        let of_plan = tariffs.simulate_plan(plan, &call, minute);
        assert_eq!((of_plan.profile, of_plan.parts.len()), (None, 4));
        assert_eq!(of_plan.outcome.unwrap(), {
            let basis = Basis { profile: None, ..priced.basis };
            Outcome::Priced(Box::new(Priced { basis, ..*priced }))
        });

        let nowhere = tariffs.simulate_client(Id::new(1), &Call { number: "+491", ..call }, minute);
        assert_eq!((nowhere.outcome, nowhere.parts.len()), (Err(NoPrice::NoRate { plan }), 4));
        let foreign = tariffs.simulate_carrier(Id::new(2), &call, minute);
        assert_eq!(foreign.outcome, Err(NoPrice::PlanGone(plan)), "the plan is another brand's");
        assert!(foreign.plan.is_none() && foreign.parts.is_empty());
        let wrong = tariffs.simulate_plan(plan, &Call { number: "911", ..call }, minute);
        assert_eq!(wrong.outcome, Err(NoPrice::NotE164));
        world.change(Id::<Carrier>::new(2), |row| row.calculate_cost = None);
        let unbilled = Tariffs::new(&world.rows).simulate_carrier(Id::new(2), &call, minute);
        assert_eq!(unbilled.outcome, Ok(Outcome::Unbilled(Unbilled::Carrier)));
    }
}
