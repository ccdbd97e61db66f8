//! Rating profiles: which rating plan counts for whom, from when on.
//! Manual, chapter 9.4.3 "Assigning rating plans to clients" and "to carriers".

use crate::checks::{currency, of_same_brand};
use crate::prelude::*;

/// Gives a client or a carrier a rating plan. Of several, the one that was activated last counts.
#[derive(Clone, Debug, Entity)]
#[entity(path = "rating_profiles", access = ACCESS, unique(company, rating_plan_group, routing_tag, activation_time), rules)]
pub struct RatingProfile {
    /// Identifies the rating profile.
    #[field(brand = "ld", client = "ld")]
    pub id: Id<RatingProfile>,
    /// From when on it counts; until the next one does.
    #[field(now, brand = "ldw", client = "ld")]
    pub activation_time: Timestamp,
    /// The client whose calls are priced; null where it is a carrier's.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub company: Option<Id<Company>>,
    /// The carrier whose costs are worked out; null where it is a client's.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub carrier: Option<Id<Carrier>>,
    /// The rating plan, in the currency of the client or carrier.
    #[field(delete = "cascade", index, brand = "ldw", client = "ld")]
    pub rating_plan_group: Id<RatingPlanGroup>,
    /// Only for calls dialled with this tag; null: for those dialled with none.
    #[field(delete = "cascade", brand = "ldw", client = "ld")]
    pub routing_tag: Option<Id<RoutingTag>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lgcud")
        .acl()
        .order(&["activationTime"])
        .brand_feature("billing")
        .read(&[Rule::Any(&[Rule::Visible("company"), Rule::Visible("carrier")])])
        .write(&[
            Rule::Visible("ratingPlanGroup"),
            Rule::VisibleOrNull("company"),
            Rule::VisibleOrNull("carrier"),
        ]),
    Access::at(Level::Client, "lg")
        .acl()
        .order(&["activationTime"])
        .brand_feature("billing")
        .needs_invoices()
        .read(&[Rule::OwnCompany("company")])
        .write(&[Rule::Never]),
];

impl Rules for RatingProfile {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        check.require(
            self.company.is_some() || self.carrier.is_some(),
            "company",
            "choose a client or a carrier",
        );
        let parties = |row: &Self| (row.company, row.carrier, row.rating_plan_group);
        if old.is_none_or(|old| parties(old) != parties(self)) {
            self.check_currency(check);
        }
        if let Some(plan) = check.rows.get(self.rating_plan_group) {
            of_same_brand(self, old, plan.brand, &["company", "carrier", "routingTag"], check);
        }
    }
}

impl RatingProfile {
    fn check_currency(&self, check: &mut Check<'_>) {
        let rows = check.rows;
        let Some(plan) = rows.get(self.rating_plan_group) else { return };
        let id = |own, brand| currency(rows, own, brand).map(|currency| currency.id);
        let of_plan = id(plan.currency, plan.brand);
        let of_company = rows.at(self.company).map(|row| id(row.currency, row.brand));
        let of_carrier = rows.at(self.carrier).map(|row| id(row.currency, row.brand));
        let same = of_company.into_iter().chain(of_carrier).all(|theirs| theirs == of_plan);
        check.require(
            same,
            "ratingPlanGroup",
            "it is in another currency than the client or carrier; choose one in theirs",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn created(company: Option<u32>, carrier: Option<u32>, currency: u32) -> Result<(), Refusal> {
        change(|draft| {
            draft.change(Id::<RatingPlanGroup>::new(1), |row| row.currency = Some(Id::new(currency)))?;
            draft.create(RatingProfile {
                company: company.map(Id::new),
                carrier: carrier.map(Id::new),
                rating_plan_group: Id::new(1),
                ..RatingProfile::default()
            })
        })
        .map(|_| ())
    }

    #[test]
    fn a_plan_is_given_to_a_client_or_a_carrier() {
        assert_eq!(created(Some(1), None, 1), Ok(()));
        assert_eq!(created(None, Some(1), 1), Ok(()));
        assert!(created(None, None, 1).unwrap_err().to_string().starts_with("company: "));
    }

    #[test]
    fn a_plan_is_in_the_currency_of_who_gets_it() {
        for (company, carrier) in [(Some(1), None), (None, Some(1))] {
            let fault = created(company, carrier, 2).unwrap_err().to_string();
            assert!(fault.starts_with("ratingPlanGroup: "), "{fault}");
        }
        let later = change(|draft| {
            draft.change(Id::<RatingPlanGroup>::new(1), |row| row.currency = Some(Id::new(2)))?;
            draft.change(Id::<RatingProfile>::new(1), |row| row.routing_tag = None)
        });
        assert!(later.is_ok(), "what is there already can be changed otherwise");
    }

    #[test]
    fn a_plan_is_given_within_its_brand() {
        assert!(created(Some(6), None, 2).unwrap_err().to_string().starts_with("company: "));
    }
}
