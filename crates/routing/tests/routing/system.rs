//! Small systems for tests: rows that no rule has looked at, so that they may also be wrong.
//!
//! Only for tests.

use jiff::Timestamp;
use model::define::Record;
use model::entities::*;
use model::rows::Rows;
use model::{E164, Id, Snapshot};
use routing::{Facts, Router};
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const BRAND: Id<Brand> = Id::new(1);
pub(crate) const OTHER_BRAND: Id<Brand> = Id::new(2);
/// Clients of the brand, by their type; one of the other brand.
pub(crate) const VPBX: Id<Company> = Id::new(1);
pub(crate) const RESIDENTIAL: Id<Company> = Id::new(2);
pub(crate) const RETAIL: Id<Company> = Id::new(3);
pub(crate) const WHOLESALE: Id<Company> = Id::new(4);
pub(crate) const ELSEWHERE: Id<Company> = Id::new(5);

pub(crate) fn number(text: &str) -> E164 {
    text.parse().unwrap()
}

/// Rows, and what others say about them.
#[derive(Clone, Default)]
pub(crate) struct System {
    pub(crate) rows: Rows,
    /// What five minutes with a carrier cost; those that are not in it cannot say.
    pub(crate) costs: BTreeMap<u32, Decimal>,
    /// Carriers that do not answer.
    pub(crate) silent: Vec<u32>,
}

impl System {
    /// Two brands; of the first, a client of each type, all with Spanish numbers; four carriers with a server each.
    pub(crate) fn new() -> Self {
        let mut system = Self::default();
        system.add(Country { id: Id::new(1), country_code: Some("+34".into()), ..Country::default() });
        for brand in [BRAND, OTHER_BRAND] {
            system.add(Brand { id: brand, ..Brand::default() });
        }
        let clients = [
            (VPBX, BRAND, CompanyKind::Vpbx),
            (RESIDENTIAL, BRAND, CompanyKind::Residential),
            (RETAIL, BRAND, CompanyKind::Retail),
            (WHOLESALE, BRAND, CompanyKind::Wholesale),
            (ELSEWHERE, OTHER_BRAND, CompanyKind::Vpbx),
        ];
        for (id, brand, kind) in clients {
            let transformation_rule_set = Some(Id::new(1));
            system.add(Company { id, brand, kind, transformation_rule_set, ..Company::default() });
        }
        use TransformationRuleKind::*;
        for (place, kind) in (0..).zip([CallerIn, CalleeIn]) {
            system.rule(10 * place + 1, 1, kind, r"^(\+|00)([0-9]+)$", r"+\2");
            system.rule(10 * place + 2, 1, kind, "^([0-9]+)$", r"+34\1");
        }
        for (place, kind) in (0..).zip([CallerOut, CalleeOut]) {
            system.rule(10 * place + 3, 1, kind, r"^\+34([0-9]+)$", r"\1");
            system.rule(10 * place + 4, 1, kind, r"^\+([0-9]+)$", r"00\1");
        }
        for (id, name) in (1..).zip(["a", "b", "c", "d"]) {
            let name = name.to_owned();
            system.add(Carrier { id: Id::new(id), name, brand: BRAND, ..Carrier::default() });
            let (id, carrier) = (Id::new(id), Id::new(id));
            system.add(CarrierServer { id, carrier, brand: BRAND, ..CarrierServer::default() });
        }
        for (id, name, prefix, group) in
            [(1, "Spain", "+34", 1), (2, "Mobile", "+346", 2), (3, "France", "+33", 1)]
        {
            let (name, prefix) = (model::define::Translated::same(name), prefix.to_owned());
            system.add(RoutingPattern { id: Id::new(id), name, prefix, brand: BRAND, ..Default::default() });
            let (id, routing_pattern, routing_pattern_group) = (Id::new(id), Id::new(id), Id::new(group));
            system.add(RoutingPatternGroupsRelPattern { id, routing_pattern, routing_pattern_group });
        }
        for id in [1, 2] {
            system.add(RoutingTag {
                id: Id::new(id),
                tag: format!("{id}#"),
                brand: BRAND,
                ..Default::default()
            });
        }
        system
    }

    pub(crate) fn add(&mut self, row: impl Record + 'static) -> &mut Self {
        self.rows.insert(Arc::new(row));
        self
    }

    pub(crate) fn rule(
        &mut self,
        id: u32,
        set: u32,
        kind: TransformationRuleKind,
        search: &str,
        replace: &str,
    ) {
        self.add(TransformationRule {
            id: Id::new(id),
            kind,
            priority: Some(id),
            match_expr: Some(search.to_owned()),
            replace_expr: Some(replace.to_owned()),
            transformation_rule_set: Some(Id::new(set)),
            ..TransformationRule::default()
        });
    }

    /// A DDI of a client of the brand, leading nowhere.
    pub(crate) fn ddi(&mut self, id: u32, number: &str, company: Option<Id<Company>>) -> &mut Self {
        let ddie164 = Some(number.to_owned());
        self.add(Ddi { id: Id::new(id), ddie164, company, brand: BRAND, ..Ddi::default() })
    }

    pub(crate) fn router(&self) -> Router {
        Router::new(Snapshot::new(self.rows.clone()))
    }
}

impl Facts for System {
    fn cost(&self, carrier: &Carrier, _: &E164, _: Timestamp) -> Option<Decimal> {
        self.costs.get(&carrier.id.get()).copied()
    }

    fn price(&self, _: &Company, tag: Option<Id<RoutingTag>>, _: &E164, _: Timestamp) -> Option<Decimal> {
        Some(Decimal::from(tag.map_or(1, |tag| 10 * tag.get())))
    }

    fn answers(&self, carrier: &Carrier) -> bool {
        !self.silent.contains(&carrier.id.get())
    }
}

/// Numbers that look random and are the same each time (splitmix64).
pub(crate) fn random(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
