//! Locations: the places that the users of a virtual PBX client work at (manual 10.1.7, "Locations").
//!
//! Elsewhere: who works where ([`User`]), the client's own place ([`Company`]).

use crate::checks::{keeps_to_company, needs_company_type};
use crate::prelude::*;

/// A place that users work at, and what keeps their telephones working when the platform is out of reach.
#[derive(Clone, Debug, Entity)]
#[entity(path = "locations", access = ACCESS, computed = COMPUTED, rules)]
pub struct Location {
    /// The location's number in the API.
    #[field(brand = "ld", client = "ld")]
    pub id: Id<Location>,
    /// What the place is called.
    #[field(max = 50, brand = "ld", client = "ldw")]
    pub name: String,
    /// Where it is, in the client's words.
    #[field(max = 500, brand = "ld", client = "ldw")]
    pub description: Option<String>,
    /// The client.
    #[field(delete = "cascade", index, brand = "d")]
    pub company: Id<Company>,
    /// The device at that place which takes over while the platform is out of reach; null: none.
    #[field(delete = "clear", brand = "l", client = "ldw")]
    pub survival_device: Option<Id<SurvivalDevice>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "l").acl().read(&[Rule::OwnClients("company")]),
    Access::at(Level::Client, "lgcud")
        .acl()
        .order(&["name"])
        .company_types(&[CompanyType::Vpbx])
        .read(&[Rule::OwnCompany("company")]),
];

const COMPUTED: &[Computed] = &[Computed::new(
    "userIds",
    "The users who work there. Who is put there no longer follows the client's default location.",
    How::Members(User::definition, "location"),
)
.at(Level::Client, "dnw")];

impl Rules for Location {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        needs_company_type(self.company, old.map(|old| old.company), &[CompanyType::Vpbx], check);
        if old.is_none_or(|old| old.name != self.name) {
            check.require(!self.name.trim().is_empty(), "name", "a location needs a name");
        }
        keeps_to_company(self, old, check, &["survivalDevice"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn location() -> Location {
        Location {
            name: "Bilbao".into(),
            company: Id::new(1),
            survival_device: Some(Id::new(3)),
            ..Location::default()
        }
    }

    fn refused_field(location: Location) -> String {
        match change(|draft| draft.create(location)).unwrap_err() {
            Refusal::Invalid(mistakes) => mistakes[0].field.clone(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_location_is_a_place_of_a_virtual_pbx_client() {
        change(|draft| draft.create(location())).unwrap();
        assert_eq!(refused_field(Location { company: Id::new(4), ..location() }), "company");
        assert_eq!(refused_field(Location { name: String::new(), ..location() }), "name");
        assert_eq!(
            refused_field(Location { survival_device: Some(Id::new(2)), ..location() }),
            "survivalDevice"
        );
    }

    #[test]
    fn users_stay_when_their_place_goes() {
        let ((), rows, _) = change(|draft| draft.delete(Id::<Location>::new(1))).unwrap();
        assert_eq!(rows.get::<User>(Id::new(1)).unwrap().location, None);
    }
}
