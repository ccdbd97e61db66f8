//! Carriers: who takes the outgoing calls of a brand's clients.
//! Manual, chapter 9.2.1 "Carriers". Elsewhere: where a carrier is reached ([`CarrierServer`]).

use crate::checks::of_same_brand;
use crate::prelude::*;

/// A company that takes outgoing calls of the brand's clients to the rest of the world.
#[derive(Clone, Debug, Entity)]
#[entity(path = "carriers", access = ACCESS, computed = COMPUTED, unique(name, brand), rules)]
pub struct Carrier {
    /// Identifies the carrier.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<Carrier>,
    /// Anything worth knowing about it.
    #[field(max = 500, default = "", platform = "d", brand = "ldw")]
    pub description: String,
    /// Its name, once in the brand; call records keep it.
    #[field(max = 200, platform = "ld", brand = "ldw")]
    pub name: String,
    /// What is left of the money paid in advance; calls go on when it is used up. Only counted where costs are
    /// calculated.
    #[field(scale = 4, high = 999999, default = Decimal::ZERO, platform = "d", brand = "ldw")]
    pub balance: Option<Decimal>,
    /// The cost of each call is worked out by the carrier's rating plans, and taken from the balance. Needs the brand's
    /// billing feature.
    #[field(default = false, platform = "d", brand = "ldw")]
    pub calculate_cost: Option<bool>,
    /// The brand that it belongs to.
    #[field(delete = "cascade", index, platform = "d")]
    pub brand: Id<Brand>,
    /// How numbers are rewritten on the way to and from the carrier.
    #[field(delete = "clear", brand = "ldw")]
    pub transformation_rule_set: Option<Id<TransformationRuleSet>>,
    /// The currency of costs and balance; null: the brand's. Only where costs are calculated.
    #[field(delete = "clear", platform = "d", brand = "dw")]
    pub currency: Option<Id<Currency>>,
    /// The local address that the carrier is spoken to from, one of those assigned to the brand.
    #[field(delete = "clear", needed, platform = "d", brand = "ldw")]
    pub proxy_trunk: Option<Id<ProxyTrunk>>,
    /// The media relays of the carrier's side of calls.
    #[field(platform = "d", brand = "dw")]
    pub media_relay_set: Option<Id<MediaRelaySet>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "l").acl().order(&["name"]),
    Access::at(Level::Brand, "lgcud").acl().order(&["name"]).read(&[Rule::OwnBrand("brand")]).write(&[
        Rule::All(&[
            Rule::OwnBrand("brand"),
            Rule::Visible("transformationRuleSet"),
            Rule::Visible("mediaRelaySet"),
        ]),
    ]),
];

const COMPUTED: &[Computed] = &[
    Computed::new(
        "status",
        "Which of its servers answer; those of which nothing is known are left out.",
        How::Live("carrier"),
    )
    .at(Level::Brand, "l"),
    Computed::new(
        "hasServers",
        "It has a server at least; without one it cannot be chosen by an outgoing routing.",
        How::Derived(has_servers),
    )
    .at(Level::Brand, "l"),
];

/// Whether the carrier has servers.
fn has_servers(row: &dyn Record, rows: &Rows) -> Json {
    Json::Bool(rows.of::<CarrierServer>("carrier", row.id()).next().is_some())
}

impl Rules for Carrier {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if !bills(check.rows, self.brand) {
            self.calculate_cost = Some(false);
        }
        if self.calculate_cost != Some(true) {
            self.currency = None;
        }
        check_trunk(self.brand, self.proxy_trunk, old.and_then(|old| old.proxy_trunk), check);
        of_same_brand(self, old, self.brand, &["transformationRuleSet"], check);
    }

    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        // Routes first: the last server of a carrier that routes use cannot go.
        let pairs = draft.rows().of::<OutgoingRoutingRelCarrier>("carrier", self.id.get());
        for pair in pairs.map(|pair| pair.id).collect::<Vec<_>>() {
            draft.delete(pair)?;
        }
        let routings = draft.rows().of::<OutgoingRouting>("carrier", self.id.get());
        for routing in routings.map(|routing| routing.id).collect::<Vec<_>>() {
            draft.delete(routing)?;
        }
        Ok(())
    }
}

impl Carrier {
    /// Whether an outgoing routing may choose the carrier.
    pub(crate) fn is_used(rows: &Rows, carrier: Id<Carrier>) -> bool {
        rows.of::<OutgoingRouting>("carrier", carrier.get()).next().is_some()
            || rows.of::<OutgoingRoutingRelCarrier>("carrier", carrier.get()).next().is_some()
    }
}

/// Whether the brand has the billing feature.
fn bills(rows: &Rows, brand: Id<Brand>) -> bool {
    rows.of::<FeaturesRelBrand>("brand", brand.get())
        .any(|pair| rows.get(pair.feature).is_some_and(|feature| feature.iden == "billing"))
}

/// The local address of a carrier or DDI provider: a new choice must be assigned to the brand.
pub(crate) fn check_trunk(
    brand: Id<Brand>,
    trunk: Option<Id<ProxyTrunk>>,
    old: Option<Id<ProxyTrunk>>,
    check: &mut Check<'_>,
) {
    let Some(chosen) = trunk else { return };
    let mut assigned = check.rows.of::<ProxyTrunksRelBrand>("brand", brand.get());
    if trunk != old && !assigned.any(|pair| pair.proxy_trunk == chosen) {
        check.wrong("proxyTrunk", "this address is not assigned to the brand; choose one that is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, sample};

    fn changed(id: u32, make: impl FnOnce(&mut Carrier)) -> Result<Carrier, Refusal> {
        let id = Id::<Carrier>::new(id);
        change(|draft| draft.change(id, make)).map(|(_, rows, _)| rows.get(id).unwrap().clone())
    }

    #[test]
    fn a_carrier_needs_an_address_that_the_brand_has() {
        assert!(
            changed(1, |row| row.proxy_trunk = None).unwrap_err().to_string().starts_with("proxyTrunk: ")
        );
        assert!(changed(1, |row| row.proxy_trunk = Some(Id::new(2))).is_err(), "not assigned to the brand");
        assert!(changed(2, |row| row.description = "kept".to_owned()).is_ok(), "an old choice stays");
        let field = Carrier::definition().field("proxyTrunk").unwrap();
        assert!(
            field.must_be_given() && !field.takes_null() && !field.required(),
            "an imported one may lack it"
        );
    }

    #[test]
    fn a_currency_is_only_for_carriers_whose_cost_is_calculated() {
        let with = |calculate| {
            changed(1, |row| {
                row.calculate_cost = Some(calculate);
                row.currency = Some(Id::new(2));
            })
            .unwrap()
        };
        assert_eq!(with(true).currency, Some(Id::new(2)));
        assert_eq!(with(false).currency, None);
    }

    #[test]
    fn costs_are_not_calculated_for_a_brand_without_billing() {
        let made = change(|draft| {
            draft.create(ProxyTrunksRelBrand {
                brand: Id::new(3),
                proxy_trunk: Id::new(1),
                ..Default::default()
            })?;
            draft.create(Carrier {
                name: "new".to_owned(),
                brand: Id::new(3),
                calculate_cost: Some(true),
                proxy_trunk: Some(Id::new(1)),
                ..Carrier::default()
            })
        });
        let (id, rows, _) = made.unwrap();
        assert_eq!(rows.get(id).unwrap().calculate_cost, Some(false));
        assert_eq!(changed(1, |row| row.calculate_cost = Some(true)).unwrap().calculate_cost, Some(true));
    }

    #[test]
    fn another_brands_transformations_cannot_be_chosen() {
        let with = |set| changed(1, |row| row.transformation_rule_set = Some(Id::new(set)));
        assert!(with(2).unwrap_err().to_string().starts_with("transformationRuleSet: "));
        assert!(with(3).is_ok(), "one of no brand is everybody's");
    }

    #[test]
    fn a_carrier_goes_with_its_servers_and_routes() {
        let (_, rows, _) = change(|draft| draft.delete(Id::<Carrier>::new(1))).unwrap();
        assert_eq!(rows.of::<CarrierServer>("carrier", 1).count(), 0);
        assert_eq!(rows.of::<OutgoingRouting>("carrier", 1).count(), 0);
        assert!(sample().of::<OutgoingRouting>("carrier", 1).count() > 0);
    }

    #[test]
    fn lists_tell_which_carriers_have_servers() {
        let rows = sample();
        let shown = |id| has_servers(rows.get(Id::<Carrier>::new(id)).unwrap(), &rows);
        assert_eq!((shown(1), shown(2)), (Json::Bool(true), Json::Bool(false)));
    }
}
