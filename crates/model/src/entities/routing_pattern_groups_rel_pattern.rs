//! Patterns of a routing pattern group.
//! Manual, chapter 9.3.3 "Routing pattern groups".

use crate::checks::of_same_brand;
use crate::prelude::*;

/// One pattern of a group.
#[derive(Clone, Debug, Entity)]
#[entity(path = "routing_pattern_groups_rel_patterns", access = ACCESS, unique(routing_pattern, routing_pattern_group), rules)]
pub struct RoutingPatternGroupsRelPattern {
    /// Identifies the pair.
    #[field(brand = "ld")]
    pub id: Id<RoutingPatternGroupsRelPattern>,
    /// The pattern; once in the group. Cannot be changed later.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub routing_pattern: Id<RoutingPattern>,
    /// The group; cannot be changed later.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub routing_pattern_group: Id<RoutingPatternGroup>,
}

const ACCESS: &[Access] = &[Access::at(Level::Brand, "lgcud")
    .acl()
    .list_expands()
    .create_expands()
    .read(&[Rule::Visible("routingPatternGroup")])
    .write(&[Rule::Visible("routingPatternGroup"), Rule::Visible("routingPattern")])];

impl Rules for RoutingPatternGroupsRelPattern {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let pair = |row: &Self| (row.routing_pattern, row.routing_pattern_group);
        if old.is_some_and(|old| pair(old) != pair(self)) {
            check.forbid("this cannot be changed; delete it and add another one");
        }
        if let Some(group) = check.rows.get(self.routing_pattern_group) {
            of_same_brand(self, old, group.brand, &["routingPattern"], check);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_pair_stays_what_it_is() {
        let made = change(|draft| {
            draft.change(Id::<RoutingPatternGroupsRelPattern>::new(1), |row| row.routing_pattern = Id::new(2))
        });
        assert!(matches!(made, Err(Refusal::Forbidden(_))));
    }

    #[test]
    fn a_group_has_patterns_of_its_brand() {
        let with = |brand: u32| {
            change(|draft| {
                let pattern =
                    RoutingPattern { prefix: "+1".to_owned(), brand: Id::new(brand), ..Default::default() };
                let routing_pattern = draft.create(pattern)?;
                draft.create(RoutingPatternGroupsRelPattern {
                    routing_pattern,
                    routing_pattern_group: Id::new(1),
                    ..RoutingPatternGroupsRelPattern::default()
                })
            })
        };
        assert!(with(1).is_ok());
        assert!(with(2).unwrap_err().to_string().starts_with("routingPattern: "));
    }
}
