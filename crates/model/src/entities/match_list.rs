//! Match lists: numbers and patterns under one name.
//!
//! Manual: "Client configuration", match lists; "Brand configuration", generic match lists.

use crate::checks::{client_of_type, name_is_there};
use crate::prelude::*;

/// Numbers that are treated alike. Call ACLs and outgoing DDI rules look for the called number in it,
/// external call filters and conditional routes for the caller's.
#[derive(Clone, Debug, Entity)]
#[entity(path = "match_lists", access = ACCESS, computed = COMPUTED, unique(brand, company, name), rules)]
pub struct MatchList {
    /// Its number, given by the platform.
    #[field(brand = "ld", client = "ld")]
    pub id: Id<MatchList>,
    /// What it is called in lists.
    #[field(max = 50, brand = "ldw", client = "ldw")]
    pub name: String,
    /// The brand that offers the list to all its clients. Null: the list is one client's.
    #[field(delete = "cascade", index)]
    pub brand: Option<Id<Brand>>,
    /// The client that the list belongs to. Null: it is a brand's list.
    #[field(delete = "cascade", index)]
    pub company: Option<Id<Company>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lgcud")
        .acl()
        .order(&["name"])
        .read(&[Rule::OwnBrand("brand"), Rule::Null("company")]),
    Access::at(Level::Client, "lgcud")
        .acl()
        .order(&["name"])
        .company_types(&[CompanyType::Vpbx, CompanyType::Residential])
        .read(&[Rule::Any(&[Rule::OwnBrand("brand"), Rule::OwnCompany("company")])])
        .write(&[Rule::OwnCompany("company"), Rule::Null("brand"), Rule::Unchanged("brand")]),
];

const COMPUTED: &[Computed] = &[Computed::new(
    "generic",
    "The brand offers the list to all its clients, and they cannot change it.",
    How::Derived(generic),
)
.at(Level::Client, "ldnw")];

/// Whether the list is its brand's.
fn generic(row: &dyn Record, _: &Rows) -> Json {
    Json::Bool(row.reference("brand").is_some())
}

impl Rules for MatchList {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        name_is_there(self, old, check);
        client_of_type(old, self.company, &[CompanyType::Vpbx, CompanyType::Residential], check);
        if self.company.is_some() {
            self.brand = None;
        }
        let owned = self.brand.is_some() || self.company.is_some();
        check.require(owned, "", "say which brand or which client the match list belongs to");
    }
}

impl MatchList {
    /// Whether rows of this client may refer to it: it is the client's own, or its brand offers it.
    pub fn usable_by(&self, client: Id<Company>, rows: &Rows) -> bool {
        match (self.company, self.brand) {
            (Some(company), _) => company == client,
            (None, Some(brand)) => rows.get(client).is_some_and(|client| client.brand == brand),
            (None, None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;
    use crate::testing::sample;

    fn list(brand: Option<u32>, company: Option<u32>) -> MatchList {
        let (brand, company) = (brand.map(Id::new), company.map(Id::new));
        MatchList { name: "mobiles".to_owned(), brand, company, ..MatchList::default() }
    }

    #[test]
    fn a_list_is_a_brands_or_a_clients() {
        let made = |row: MatchList| {
            let made = change(|draft| draft.create(row));
            made.map(|(id, rows, _)| rows.get(id).map(|list| (list.brand, list.company)).unwrap())
        };
        assert_eq!(made(list(Some(1), None)), Ok((Some(Id::new(1)), None)));
        assert_eq!(made(list(Some(1), Some(4))), Ok((None, Some(Id::new(4)))));
        assert!(matches!(made(list(None, None)), Err(Refusal::Invalid(_))));
        assert!(matches!(made(list(None, Some(3))), Err(Refusal::Invalid(_))), "a retail client has none");
    }

    #[test]
    fn a_brands_list_is_usable_by_its_clients() {
        let rows = sample();
        let usable = |list: &MatchList, client| list.usable_by(Id::new(client), &rows);
        assert!(usable(&list(Some(1), None), 2));
        assert!(!usable(&list(Some(1), None), 6), "client 6 is of another brand");
        assert!(usable(&list(None, Some(2)), 2));
        assert!(!usable(&list(None, Some(2)), 1));
    }

    #[test]
    fn only_a_brands_list_is_generic() {
        let rows = sample();
        assert_eq!(generic(&list(Some(1), None), &rows), Json::Bool(true));
        assert_eq!(generic(&list(None, Some(1)), &rows), Json::Bool(false));
    }
}
