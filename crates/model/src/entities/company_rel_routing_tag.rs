//! Which routing tags a client may dial.
//!
//! Manual, chapters 9.1.3, 9.1.4 and 9.3.4. Written through the client's list of tags.

use crate::prelude::*;

/// One routing tag that a retail or wholesale client may dial before a number.
#[derive(Clone, Debug, Entity)]
#[entity(rules)]
pub struct CompanyRelRoutingTag {
    /// Number of the pair.
    pub id: Id<CompanyRelRoutingTag>,
    /// The client.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
    /// The tag; it is one of the client's brand.
    #[field(delete = "cascade", index)]
    pub routing_tag: Id<RoutingTag>,
}

impl Rules for CompanyRelRoutingTag {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        keep_pair(old, check);
        let Some(company) = check.rows.get(self.company) else { return };
        if !company.kind.passes_no_application_server() {
            check.forbid("routing tags are only for retail and wholesale clients");
        }
        let own = check.rows.get(self.routing_tag).is_none_or(|tag| tag.brand == company.brand);
        check.require(own, "routingTag", "choose a routing tag of the client's brand");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn tags_are_for_retail_and_wholesale_clients_of_the_same_brand() {
        let give = |company: u32| {
            let (company, routing_tag) = (Id::new(company), Id::new(2));
            change(|draft| draft.create(CompanyRelRoutingTag { id: Id::default(), company, routing_tag }))
        };
        assert!(give(3).is_ok());
        assert!(matches!(give(4), Err(Refusal::Forbidden(_))));
        assert!(matches!(give(6), Err(Refusal::Invalid(_))), "another brand's");
    }
}
