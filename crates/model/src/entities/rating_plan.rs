//! Parts of rating plans: which list of rates counts at which times.
//! Manual, chapter 9.4.3 "Adding Destination rates to Rating Plan".

use crate::checks::{currency, of_same_brand};
use crate::prelude::*;

/// A list of rates within a rating plan, and when it counts. All parts together must cover the whole week.
#[derive(Clone, Debug, Entity)]
#[entity(path = "rating_plans", access = ACCESS, unique(rating_plan_group, weight), rules)]
pub struct RatingPlan {
    /// Identifies the part.
    #[field(brand = "ld")]
    pub id: Id<RatingPlan>,
    /// Which part counts where several have a rate for a call: the one with the greatest weight, each of which occurs
    /// once in the plan.
    #[field(scale = 2, min = 0, high = 999999, default = Decimal::new(1000, 2), brand = "ldw")]
    pub weight: Decimal,
    /// Whether it counts always or at chosen times.
    #[field(default = RatingPlanTimingType::Always, brand = "ldw")]
    pub timing_type: Option<RatingPlanTimingType>,
    /// From when on it counts on the chosen days.
    #[field(brand = "ldw")]
    pub time_in: Time,
    /// It counts on Mondays.
    #[field(default = true, brand = "ldw")]
    pub monday: Option<bool>,
    /// It counts on Tuesdays.
    #[field(default = true, brand = "ldw")]
    pub tuesday: Option<bool>,
    /// It counts on Wednesdays.
    #[field(default = true, brand = "ldw")]
    pub wednesday: Option<bool>,
    /// It counts on Thursdays.
    #[field(default = true, brand = "ldw")]
    pub thursday: Option<bool>,
    /// It counts on Fridays.
    #[field(default = true, brand = "ldw")]
    pub friday: Option<bool>,
    /// It counts on Saturdays.
    #[field(default = true, brand = "ldw")]
    pub saturday: Option<bool>,
    /// It counts on Sundays.
    #[field(default = true, brand = "ldw")]
    pub sunday: Option<bool>,
    /// The rating plan that it is a part of.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub rating_plan_group: Id<RatingPlanGroup>,
    /// The list of rates; once in the plan, and in the plan's currency.
    #[field(delete = "cascade", brand = "ldw")]
    pub destination_rate_group: Id<DestinationRateGroup>,
}

const ACCESS: &[Access] = &[Access::at(Level::Brand, "lgcud")
    .acl()
    .order(&["destinationRateGroup"])
    .read(&[Rule::Visible("ratingPlanGroup")])
    .write(&[Rule::Visible("destinationRateGroup"), Rule::Visible("ratingPlanGroup")])];

choice! {
    /// When a part of a rating plan counts.
    pub enum RatingPlanTimingType {
        /// Always.
        Always = "always",
        /// On chosen days, from a time on.
        Custom = "custom",
    }
}

impl Rules for RatingPlan {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if self.timing_type != Some(RatingPlanTimingType::Custom) {
            self.time_in = Time::midnight();
            for day in self.days() {
                *day = Some(true);
            }
        }
        let counts = self.days().into_iter().any(|day| *day == Some(true));
        check.require(counts, "timingType", "choose a day of the week at least, or always");
        let changed = old.is_none_or(|old| {
            (old.rating_plan_group, old.destination_rate_group)
                != (self.rating_plan_group, self.destination_rate_group)
        });
        if changed {
            self.check_rates(check);
        }
        if let Some(plan) = check.rows.get(self.rating_plan_group) {
            of_same_brand(self, old, plan.brand, &["destinationRateGroup"], check);
        }
    }
}

impl RatingPlan {
    fn days(&mut self) -> [&mut Option<bool>; 7] {
        [
            &mut self.monday,
            &mut self.tuesday,
            &mut self.wednesday,
            &mut self.thursday,
            &mut self.friday,
            &mut self.saturday,
            &mut self.sunday,
        ]
    }

    /// The list of rates occurs once in the plan, and has its currency.
    fn check_rates(&self, check: &mut Check<'_>) {
        let rows = check.rows;
        let mut parts = rows.of::<Self>("ratingPlanGroup", self.rating_plan_group.get());
        if parts.any(|part| part.id != self.id && part.destination_rate_group == self.destination_rate_group)
        {
            check.wrong("destinationRateGroup", "the rating plan has these rates already; choose others");
        }
        let (Some(plan), Some(rates)) =
            (rows.get(self.rating_plan_group), rows.get(self.destination_rate_group))
        else {
            return;
        };
        let id = |own, brand| currency(rows, own, brand).map(|currency| currency.id);
        let same = id(plan.currency, plan.brand) == id(rates.currency, rates.brand);
        check.require(
            same,
            "destinationRateGroup",
            "these rates are in another currency; choose some in the rating plan's",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn part(rates: u32) -> RatingPlan {
        RatingPlan {
            weight: Decimal::ONE,
            rating_plan_group: Id::new(1),
            destination_rate_group: Id::new(rates),
            ..RatingPlan::default()
        }
    }

    fn created(row: RatingPlan) -> Result<RatingPlan, Refusal> {
        change(|draft| draft.create(row)).map(|(id, rows, _)| rows.get(id).unwrap().clone())
    }

    #[test]
    fn what_counts_always_counts_from_midnight_on_every_day() {
        let at = |timing_type| {
            let row = RatingPlan {
                timing_type: Some(timing_type),
                time_in: Time::constant(8, 0, 0, 0),
                monday: Some(false),
                ..part(2)
            };
            let row = created(row).unwrap();
            (row.time_in.hour(), row.monday, row.tuesday)
        };
        assert_eq!(at(RatingPlanTimingType::Always), (0, Some(true), Some(true)));
        assert_eq!(at(RatingPlanTimingType::Custom), (8, Some(false), Some(true)));
    }

    #[test]
    fn a_part_counts_on_some_day() {
        let mut row = RatingPlan { timing_type: Some(RatingPlanTimingType::Custom), ..part(2) };
        for day in row.days() {
            *day = Some(false);
        }
        assert!(created(row).unwrap_err().to_string().starts_with("timingType: "));
    }

    #[test]
    fn rates_occur_once_in_a_plan() {
        assert!(created(part(1)).unwrap_err().to_string().starts_with("destinationRateGroup: "));
        assert!(created(part(2)).is_ok());
        let again = RatingPlan { weight: Decimal::TEN, ..part(2) };
        assert!(matches!(created(again), Err(Refusal::Taken { .. })), "and so do weights");
    }

    #[test]
    fn rates_are_in_the_plans_currency() {
        let made = change(|draft| {
            draft.change(Id::<DestinationRateGroup>::new(2), |row| row.currency = Some(Id::new(2)))?;
            draft.create(part(2))
        });
        assert!(made.unwrap_err().to_string().starts_with("destinationRateGroup: "));
    }
}
