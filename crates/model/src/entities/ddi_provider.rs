//! DDI providers: who brings calls from outside to the numbers of a brand's clients.
//! Manual, chapter 9.2.2 "DDI Providers". Elsewhere: how one is recognised ([`DdiProviderAddress`]).

use crate::checks::of_same_brand;
use crate::prelude::*;

/// A company whose numbers the brand's clients have, and which brings the calls to them.
#[derive(Clone, Debug, Entity)]
#[entity(path = "ddi_providers", access = ACCESS, unique(name, brand), rules)]
pub struct DdiProvider {
    /// Identifies the DDI provider.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<DdiProvider>,
    /// Anything worth knowing about it.
    #[field(max = 500, default = "", platform = "d", brand = "ldw")]
    pub description: String,
    /// Its name, once in the brand.
    #[field(max = 200, platform = "ld", brand = "ldw")]
    pub name: String,
    /// The brand that it belongs to.
    #[field(delete = "cascade", index, platform = "d")]
    pub brand: Id<Brand>,
    /// How the numbers that it sends are brought to E.164, and back.
    #[field(delete = "clear", brand = "ldw")]
    pub transformation_rule_set: Option<Id<TransformationRuleSet>>,
    /// The local address that it is spoken to from, one of those assigned to the brand.
    #[field(delete = "clear", needed, platform = "d", brand = "ldw")]
    pub proxy_trunk: Option<Id<ProxyTrunk>>,
    /// The media relays of the provider's side of calls.
    #[field(platform = "d", brand = "dw")]
    pub media_relay_set: Option<Id<MediaRelaySet>>,
    /// The routing tag of calls of this provider that are forwarded to the outside again; null: none.
    #[field(brand = "dw")]
    pub routing_tag: Option<Id<RoutingTag>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "l").acl().order(&["name"]),
    Access::at(Level::Brand, "lgcud").acl().order(&["name"]).read(&[Rule::OwnBrand("brand")]).write(&[
        Rule::All(&[
            Rule::OwnBrand("brand"),
            Rule::Visible("transformationRuleSet"),
            Rule::Visible("mediaRelaySet"),
        ]),
        Rule::VisibleOrNull("routingTag"),
    ]),
];

impl Rules for DdiProvider {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        check_trunk(self.brand, self.proxy_trunk, old.and_then(|old| old.proxy_trunk), check);
        of_same_brand(self, old, self.brand, &["transformationRuleSet", "routingTag"], check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn fault(make: impl FnOnce(&mut DdiProvider)) -> String {
        let made = change(|draft| draft.change(Id::<DdiProvider>::new(1), make));
        made.err().map(|why| why.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_provider_needs_an_address_that_the_brand_has() {
        assert!(fault(|row| row.proxy_trunk = None).starts_with("proxyTrunk: "));
        assert!(fault(|row| row.proxy_trunk = Some(Id::new(3))).starts_with("proxyTrunk: "));
        assert_eq!(fault(|row| row.description = "kept".to_owned()), "");
    }

    #[test]
    fn transformations_are_of_the_brand_or_of_all() {
        assert!(
            fault(|row| row.transformation_rule_set = Some(Id::new(2)))
                .starts_with("transformationRuleSet: ")
        );
        assert_eq!(fault(|row| row.transformation_rule_set = Some(Id::new(3))), "");
    }
}
