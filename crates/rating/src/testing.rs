//! A small configuration put together row by row, past all rules, for tests.
//! Two brands (1 in Madrid, 2 in UTC) with clients and carriers 1 and 2 each of the same number; currency 1 is the euro, 2 the dollar.

use jiff::civil::Time;
use model::Id;
use model::define::{Entity, Translated, Value};
use model::entities::{
    Brand, Carrier, Company, CompanyBillingMethod, Currency, Destination, DestinationRate,
    DestinationRateGroup, RatingPlan, RatingPlanGroup, RatingPlanTimingType, RatingProfile, SpecialNumber,
    Timezone,
};
use model::rows::Rows;
use rust_decimal::Decimal;
use std::sync::Arc;

pub(crate) struct World {
    pub(crate) rows: Rows,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self { rows: Rows::default() };
        for (id, iden) in [(1, "EUR"), (2, "USD")] {
            world.put(Currency { id: Id::new(id), iden: iden.to_owned(), ..Currency::default() });
        }
        for (id, tz) in [(1, "Europe/Madrid"), (2, "UTC")] {
            world.put(Timezone { id: Id::new(id), tz: tz.to_owned(), ..Timezone::default() });
            let (default_timezone, currency) = (Id::new(id), Id::new(1));
            world.put(Brand { id: Id::new(id), default_timezone, currency, ..Brand::default() });
            let billing_method = CompanyBillingMethod::Postpaid;
            world.put(Company { id: Id::new(id), brand: Id::new(id), billing_method, ..Company::default() });
            let calculate_cost = Some(true);
            world.put(Carrier { id: Id::new(id), brand: Id::new(id), calculate_cost, ..Carrier::default() });
        }
        world
    }

    pub(crate) fn put<E: Entity>(&mut self, row: E) {
        self.rows.insert(Arc::new(row));
    }

    /// Puts a new row in.
    fn add<E: Entity>(&mut self, mut row: E) -> Id<E> {
        let id = self.rows.next_id(E::definition());
        row.set_id(id);
        self.put(row);
        Id::new(id)
    }

    pub(crate) fn change<E: Entity + Clone>(&mut self, id: Id<E>, change: impl FnOnce(&mut E)) {
        let mut row = self.rows.get(id).unwrap().clone();
        change(&mut row);
        self.put(row);
    }

    /// A list of rates of a brand; `"minimal"`: connection fees are minimal costs.
    pub(crate) fn list(&mut self, brand: u32, how: &str) -> Id<DestinationRateGroup> {
        self.add(DestinationRateGroup {
            brand: Id::new(brand),
            deductible_connection_fee: how == "minimal",
            ..DestinationRateGroup::default()
        })
    }

    /// What a minute to a prefix costs by a list; the destination is made where there is none.
    pub(crate) fn rate(&mut self, list: Id<DestinationRateGroup>, prefix: &str, minute: &str) {
        let brand = self.rows.get(list).unwrap().brand;
        let known = [Value::Text(prefix), Value::Int(i64::from(brand.get()))];
        let known = self.rows.find::<Destination>(0, &known).map(|row| row.id);
        let destination = known.unwrap_or_else(|| {
            let name = Translated { en: format!("to {prefix}"), ..Translated::default() };
            self.add(Destination { prefix: prefix.to_owned(), brand, name, ..Destination::default() })
        });
        let row = DestinationRate {
            cost: minute.parse().unwrap(),
            rate_increment: "1s".to_owned(),
            group_interval_start: "0s".to_owned(),
            destination_rate_group: list,
            destination,
            ..DestinationRate::default()
        };
        let known = [list.get(), destination.get()].map(|id| Value::Int(i64::from(id)));
        match self.rows.find::<DestinationRate>(0, &known).map(|row| row.id) {
            Some(id) => self.put(DestinationRate { id, ..row }),
            None => drop(self.add(row)),
        }
    }

    pub(crate) fn plan(&mut self, brand: u32) -> Id<RatingPlanGroup> {
        self.add(RatingPlanGroup { brand: Id::new(brand), ..RatingPlanGroup::default() })
    }

    /// A list that always counts.
    pub(crate) fn part(
        &mut self,
        plan: Id<RatingPlanGroup>,
        list: Id<DestinationRateGroup>,
        weight: i64,
    ) -> Id<RatingPlan> {
        self.add(RatingPlan {
            weight: Decimal::from(weight),
            timing_type: Some(RatingPlanTimingType::Always),
            rating_plan_group: plan,
            destination_rate_group: list,
            ..RatingPlan::default()
        })
    }

    /// Lets a part count on these days (`1111100`, Monday first) from a time on.
    pub(crate) fn time(&mut self, part: Id<RatingPlan>, days: &str, hour: i8, minute: i8) {
        let on: Vec<Option<bool>> = days.bytes().map(|day| Some(day == b'1')).collect();
        self.change(part, |part| {
            part.timing_type = Some(RatingPlanTimingType::Custom);
            part.time_in = Time::constant(hour, minute, 0, 0);
            part.monday = on[0];
            part.tuesday = on[1];
            part.wednesday = on[2];
            part.thursday = on[3];
            part.friday = on[4];
            part.saturday = on[5];
            part.sunday = on[6];
        });
    }

    /// Gives a client a plan.
    pub(crate) fn profile(
        &mut self,
        client: u32,
        plan: Id<RatingPlanGroup>,
        since: &str,
        tag: Option<u32>,
    ) -> Id<RatingProfile> {
        self.add(RatingProfile {
            company: Some(Id::new(client)),
            rating_plan_group: plan,
            activation_time: since.parse().unwrap(),
            routing_tag: tag.map(Id::new),
            ..RatingProfile::default()
        })
    }

    /// Gives a carrier a plan.
    pub(crate) fn carriers(&mut self, carrier: u32, plan: Id<RatingPlanGroup>, since: &str) {
        self.add(RatingProfile {
            carrier: Some(Id::new(carrier)),
            rating_plan_group: plan,
            activation_time: since.parse().unwrap(),
            routing_tag: Some(Id::new(1)),
            ..RatingProfile::default()
        });
    }

    pub(crate) fn special(
        &mut self,
        brand: Option<u32>,
        number: &str,
        disable_cdr: u32,
    ) -> Id<SpecialNumber> {
        self.add(SpecialNumber {
            brand: brand.map(Id::new),
            number_e164: Some(number.to_owned()),
            disable_cdr,
            ..SpecialNumber::default()
        })
    }
}
