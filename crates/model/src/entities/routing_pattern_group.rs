//! Groups of routing patterns.
//! Manual, chapter 9.3.3 "Routing pattern groups".

use crate::prelude::*;

/// Several routing patterns that one outgoing routing takes together; a new brand has one for each continent.
#[derive(Clone, Debug, Entity)]
#[entity(path = "routing_pattern_groups", access = ACCESS, computed = COMPUTED, unique(name, brand), rules)]
pub struct RoutingPatternGroup {
    /// Identifies the group.
    #[field(brand = "ld")]
    pub id: Id<RoutingPatternGroup>,
    /// Its name, once in the brand.
    #[field(max = 55, brand = "ldw")]
    pub name: String,
    /// Anything worth knowing about it.
    #[field(max = 55, brand = "ldw")]
    pub description: Option<String>,
    /// The brand that it belongs to.
    #[field(delete = "cascade", index)]
    pub brand: Id<Brand>,
}

const ACCESS: &[Access] = &[Access::at(Level::Brand, "lgcud")
    .acl()
    .order(&["name"])
    .create_expands()
    .read(&[Rule::OwnBrand("brand")])];

const COMPUTED: &[Computed] = &[Computed::new(
    "patternIds",
    "The patterns in it.",
    How::Pairs(RoutingPatternGroupsRelPattern::definition, "routingPatternGroup", "routingPattern"),
)
.at(Level::Brand, "ldw")];

impl Rules for RoutingPatternGroup {
    fn check(&mut self, _: Option<&Self>, check: &mut Check<'_>) {
        check.require(!self.name.trim().is_empty(), "name", "write a name");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_group_has_a_name() {
        let with = |name: &str| {
            change(|draft| draft.change(Id::<RoutingPatternGroup>::new(1), |row| row.name = name.to_owned()))
        };
        assert!(with("Asia").is_ok());
        assert!(with(" ").unwrap_err().to_string().starts_with("name: "));
        assert!(matches!(with("Empty"), Err(Refusal::Taken { .. })), "another group has it");
    }
}
