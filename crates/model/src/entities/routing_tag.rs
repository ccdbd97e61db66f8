//! Routing tags: codes that clients dial to choose a route.
//! Manual, chapter 9.3.4 "Routing tags".

use crate::prelude::*;

/// A code before the dialled number by which retail and wholesale clients choose among the routes to it.
#[derive(Clone, Debug, Entity)]
#[entity(path = "routing_tags", access = ACCESS, rules)]
pub struct RoutingTag {
    /// Identifies the tag.
    #[field(brand = "ld", client = "ld")]
    pub id: Id<RoutingTag>,
    /// Its name, such as "Premium".
    #[field(max = 80, brand = "ldw", client = "ld")]
    pub name: String,
    /// The code: one to three digits and a `#`.
    #[field(max = 15, brand = "ldw", client = "ld")]
    pub tag: String,
    /// The brand that it belongs to.
    #[field(delete = "cascade", index)]
    pub brand: Id<Brand>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lgcud").acl().order(&["name"]).read(&[Rule::OwnBrand("brand")]),
    Access::at(Level::Client, "lg")
        .acl()
        .order(&["name"])
        .read(&[Rule::Where(of_own_company), Rule::OwnBrand("brand")])
        .write(&[Rule::Never]),
];

/// Whether the caller's client may dial the tag.
fn of_own_company(row: &dyn Record, caller: &Caller, rows: &Rows) -> bool {
    paired::<CompanyRelRoutingTag>(rows, "company", caller.company.unwrap_or(0), "routingTag", row.id())
}

impl Rules for RoutingTag {
    fn check(&mut self, _: Option<&Self>, check: &mut Check<'_>) {
        let code = self.tag.strip_suffix('#');
        let sound = code.is_some_and(|code| code.len() <= 3 && crate::checks::digits(code));
        check.require(sound, "tag", "write one to three digits and a #, such as 12#");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_tag_is_some_digits_and_a_hash() {
        let with = |tag: &str| {
            change(|draft| draft.change(Id::<RoutingTag>::new(1), |row| row.tag = tag.to_owned()))
        };
        for right in ["1#", "999#"] {
            assert!(with(right).is_ok(), "{right}");
        }
        for wrong in ["", "#", "1", "1234#", "1*#", "1##"] {
            assert!(with(wrong).unwrap_err().to_string().starts_with("tag: "), "{wrong}");
        }
    }
}
