//! Outgoing routings: which carriers take which calls.
//! Manual, chapter 9.3.1 "Outgoing Routings".

use crate::checks::{digits, of_same_brand};
use crate::prelude::*;

/// A route for outgoing calls: whose calls, to where, and which carriers take them, in which order.
#[derive(Clone, Debug, Entity)]
#[entity(path = "outgoing_routings", access = ACCESS, computed = COMPUTED, rules)]
pub struct OutgoingRouting {
    /// Identifies the route.
    #[field(brand = "ld")]
    pub id: Id<OutgoingRouting>,
    /// How the destinations are said: one pattern, a group of patterns, or all faxes.
    #[field(name = "type", default = OutgoingRoutingKind::Group, brand = "ldw")]
    pub kind: Option<OutgoingRoutingKind>,
    /// The order among routes that fit a call: the lowest is tried first, the next one when it fails.
    #[field(brand = "ldw")]
    pub priority: u16,
    /// The share of calls among routes of the same priority, from 1 to 20: one with 2 gets twice as many as one with 1.
    #[field(default = 1u32, min = 1, high = 20, brand = "ldw")]
    pub weight: u32,
    /// How the carrier is chosen.
    #[field(default = OutgoingRoutingMode::Static, brand = "ldw")]
    pub routing_mode: Option<OutgoingRoutingMode>,
    /// Digits that are put before the called number on the way to the carrier; null or empty: none.
    #[field(max = 25, brand = "dw")]
    pub prefix: Option<String>,
    /// Where the route fits a call, those of higher priority numbers are left out. Always so for routes that block.
    #[field(default = false, brand = "ldw")]
    pub stopper: bool,
    /// The calls show one fixed number instead of the caller's own.
    #[field(default = false, brand = "dw")]
    pub force_clid: Option<bool>,
    /// That number, without its country's calling code; null where none is forced.
    #[field(max = 25, brand = "dw")]
    pub clid: Option<String>,
    /// The carrier is not told that a call was forwarded: no Diversion header (RFC 5806).
    #[field(default = false, brand = "dw")]
    pub disable_diversion: bool,
    /// The brand that it belongs to.
    #[field(delete = "cascade", index)]
    pub brand: Id<Brand>,
    /// The client whose calls it is for; null: all clients of the brand.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub company: Option<Id<Company>>,
    /// The carrier of a static route; null for the others.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub carrier: Option<Id<Carrier>>,
    /// The pattern of the called numbers, where one is chosen.
    #[field(delete = "cascade", brand = "ldw")]
    pub routing_pattern: Option<Id<RoutingPattern>>,
    /// The group of patterns of the called numbers, where one is chosen.
    #[field(delete = "cascade", brand = "ldw")]
    pub routing_pattern_group: Option<Id<RoutingPatternGroup>>,
    /// Only for calls dialled with this tag; null: for those dialled with none.
    #[field(delete = "cascade", brand = "ldw")]
    pub routing_tag: Option<Id<RoutingTag>>,
    /// The country of the number that is shown; null where none is forced.
    #[field(delete = "clear", brand = "dw")]
    pub clid_country: Option<Id<Country>>,
}

const ACCESS: &[Access] =
    &[Access::at(Level::Brand, "lgcud").acl().order(&["priority"]).read(&[Rule::OwnBrand("brand")]).write(
        &[
            Rule::OwnBrand("brand"),
            Rule::VisibleOrNull("carrier"),
            Rule::VisibleOrNull("company"),
            Rule::VisibleOrNull("routingPattern"),
            Rule::VisibleOrNull("routingPatternGroup"),
        ],
    )];

const COMPUTED: &[Computed] = &[Computed::new(
    "carrierIds",
    "The carriers that a least-cost route chooses from; empty for the others.",
    How::Pairs(OutgoingRoutingRelCarrier::definition, "outgoingRouting", "carrier"),
)
.at(Level::Brand, "ldw")];

choice! {
    /// How an outgoing routing says which destinations it is for.
    pub enum OutgoingRoutingKind {
        /// Numbers of one routing pattern.
        Pattern = "pattern",
        /// Numbers of any pattern of a group.
        Group = "group",
        /// Faxes to any number. Where none fits, faxes are routed like other calls.
        Fax = "fax",
    }
}

choice! {
    /// How an outgoing routing chooses the carrier.
    pub enum OutgoingRoutingMode {
        /// It is always the same.
        Static = "static",
        /// The cheapest of several is tried first, by the cost of five minutes.
        Lcr = "lcr",
        /// None: the call is rejected.
        Block = "block",
    }
}

impl Rules for OutgoingRouting {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        self.check_destination(check);
        self.check_carrier(old, check);
        if self.force_clid == Some(true) {
            let sound = self.clid.as_deref().is_some_and(digits);
            check.require(sound, "clid", "write the number that is shown, digits only");
            check.require(
                self.clid_country.is_some(),
                "clidCountry",
                "choose the country of the number that is shown",
            );
        } else {
            self.clid = None;
            self.clid_country = None;
        }
        of_same_brand(
            self,
            old,
            self.brand,
            &["company", "carrier", "routingPattern", "routingPatternGroup", "routingTag"],
            check,
        );
    }

    fn saved(&self, _: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        if self.routing_mode == Some(OutgoingRoutingMode::Lcr) {
            return Ok(());
        }
        let pairs = draft.rows().of::<OutgoingRoutingRelCarrier>("outgoingRouting", self.id.get());
        for pair in pairs.map(|pair| pair.id).collect::<Vec<_>>() {
            draft.delete(pair)?;
        }
        Ok(())
    }
}

impl OutgoingRouting {
    fn check_destination(&mut self, check: &mut Check<'_>) {
        if self.kind != Some(OutgoingRoutingKind::Pattern) {
            self.routing_pattern = None;
        }
        if self.kind != Some(OutgoingRoutingKind::Group) {
            self.routing_pattern_group = None;
        }
        match self.kind {
            Some(OutgoingRoutingKind::Pattern) => {
                check.require(
                    self.routing_pattern.is_some(),
                    "routingPattern",
                    "choose the pattern of the called numbers",
                );
            }
            Some(OutgoingRoutingKind::Group) => {
                let chosen = self.routing_pattern_group.is_some();
                check.require(
                    chosen,
                    "routingPatternGroup",
                    "choose the group of patterns of the called numbers",
                );
            }
            Some(OutgoingRoutingKind::Fax) => {}
            None => check.wrong("type", "choose pattern, group or fax"),
        }
    }

    fn check_carrier(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if self.routing_mode != Some(OutgoingRoutingMode::Static) {
            self.carrier = None;
        }
        match self.routing_mode {
            Some(OutgoingRoutingMode::Static) => {
                check.require(self.carrier.is_some(), "carrier", "choose the carrier that takes the calls");
                if old.is_none_or(|old| old.carrier != self.carrier) {
                    check_servers(self.carrier, check);
                }
            }
            Some(OutgoingRoutingMode::Lcr) => {}
            Some(OutgoingRoutingMode::Block) => self.stopper = true,
            None => check.wrong("routingMode", "choose static, lcr or block"),
        }
    }
}

/// A carrier that is chosen must have a server.
pub(crate) fn check_servers(carrier: Option<Id<Carrier>>, check: &mut Check<'_>) {
    let Some(carrier) = check.rows.at(carrier) else { return };
    if check.rows.of::<CarrierServer>("carrier", carrier.id.get()).next().is_none() {
        check.wrong("carrier", format!("carrier {} has no server yet; give it one first", carrier.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(make: impl FnOnce(&mut OutgoingRouting)) -> Result<OutgoingRouting, Refusal> {
        let id = Id::<OutgoingRouting>::new(1);
        change(|draft| draft.change(id, make)).map(|(_, rows, _)| rows.get(id).unwrap().clone())
    }

    #[test]
    fn the_type_keeps_its_own_target() {
        let with = |kind| {
            let row = changed(|row| {
                row.kind = Some(kind);
                row.routing_pattern = Some(Id::new(2));
                row.routing_pattern_group = Some(Id::new(1));
            });
            row.map(|row| (row.routing_pattern.map(Id::get), row.routing_pattern_group.map(Id::get)))
        };
        assert_eq!(with(OutgoingRoutingKind::Pattern), Ok((Some(2), None)));
        assert_eq!(with(OutgoingRoutingKind::Group), Ok((None, Some(1))));
        assert_eq!(with(OutgoingRoutingKind::Fax), Ok((None, None)));
        assert!(
            changed(|row| row.routing_pattern = None)
                .unwrap_err()
                .to_string()
                .starts_with("routingPattern: ")
        );
        assert!(changed(|row| row.kind = None).unwrap_err().to_string().starts_with("type: "));
    }

    #[test]
    fn the_mode_keeps_its_own_carriers() {
        let lcr = |draft: &mut Draft<'_>| {
            let id = Id::<OutgoingRouting>::new(1);
            draft.change(id, |row| row.routing_mode = Some(OutgoingRoutingMode::Lcr))?;
            draft.create(OutgoingRoutingRelCarrier {
                outgoing_routing: id,
                carrier: Id::new(1),
                ..OutgoingRoutingRelCarrier::default()
            })?;
            Ok(id)
        };
        let (id, rows, _) = change(lcr).unwrap();
        assert_eq!(rows.get(id).unwrap().carrier, None);
        assert_eq!(rows.of::<OutgoingRoutingRelCarrier>("outgoingRouting", 1).count(), 1);
        let (id, rows, _) = change(|draft| {
            let id = lcr(draft)?;
            draft.change(id, |row| row.routing_mode = Some(OutgoingRoutingMode::Block))?;
            Ok(id)
        })
        .unwrap();
        let row = rows.get(id).unwrap();
        assert_eq!((row.carrier, row.stopper), (None, true));
        assert_eq!(rows.of::<OutgoingRoutingRelCarrier>("outgoingRouting", 1).count(), 0);
        assert!(changed(|row| row.carrier = None).unwrap_err().to_string().starts_with("carrier: "));
    }

    #[test]
    fn a_static_route_gets_no_further_carriers() {
        let (_, rows, changes) = change(|draft| {
            draft.create(OutgoingRoutingRelCarrier {
                outgoing_routing: Id::new(1),
                carrier: Id::new(1),
                ..OutgoingRoutingRelCarrier::default()
            })
        })
        .unwrap();
        assert_eq!(rows.of::<OutgoingRoutingRelCarrier>("outgoingRouting", 1).count(), 0);
        assert!(changes.is_empty());
    }

    #[test]
    fn a_carrier_without_servers_takes_no_calls() {
        assert!(
            changed(|row| row.carrier = Some(Id::new(2))).unwrap_err().to_string().starts_with("carrier: ")
        );
    }

    #[test]
    fn a_number_is_shown_only_where_one_is_forced() {
        let with = |force| {
            changed(|row| {
                row.force_clid = Some(force);
                row.clid = Some("911234567".to_owned());
                row.clid_country = Some(Id::new(68));
            })
            .unwrap()
        };
        assert_eq!(with(true).clid.as_deref(), Some("911234567"));
        assert_eq!((with(false).clid, with(false).clid_country), (None, None));
        assert!(changed(|row| row.force_clid = Some(true)).unwrap_err().to_string().starts_with("clid: "));
    }

    #[test]
    fn a_route_stays_within_its_brand() {
        assert!(
            changed(|row| row.company = Some(Id::new(6))).unwrap_err().to_string().starts_with("company: ")
        );
        assert!(changed(|row| row.company = Some(Id::new(2))).is_ok());
    }
}
