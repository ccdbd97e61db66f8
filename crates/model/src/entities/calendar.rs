//! Calendars of a client: sets of days on which it does not work as usual.
//!
//! Manual: "Client configuration", calendars.

use crate::checks::{client_of_type, name_is_there};
use crate::prelude::*;

/// A set of days and periods that depart from a client's usual hours. External call filters and conditional
/// routes look at it.
#[derive(Clone, Debug, Entity)]
#[entity(path = "calendars", access = ACCESS, unique(name, company), rules)]
pub struct Calendar {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<Calendar>,
    /// What it is called in lists; once within a client.
    #[field(max = 50, client = "ldw")]
    pub name: String,
    /// The client that it belongs to.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["name"])
    .company_types(&[CompanyType::Vpbx])
    .read(&[Rule::OwnCompany("company")])];

impl Rules for Calendar {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        name_is_there(self, old, check);
        client_of_type(old, self.company, &[CompanyType::Vpbx], check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn made(company: u32, name: &str) -> Result<(), Refusal> {
        let calendar = Calendar { company: Id::new(company), name: name.to_owned(), ..Calendar::default() };
        change(|draft| draft.create(calendar)).map(|_| ())
    }

    #[test]
    fn calendars_are_for_vpbx_clients() {
        assert_eq!(made(2, "Holidays"), Ok(()));
        let why = "a retail client cannot have this; choose a vpbx client";
        assert_eq!(made(3, "Holidays"), Err(Refusal::wrong("company", why)));
    }

    #[test]
    fn a_calendar_has_a_name_of_its_own() {
        assert_eq!(made(1, " "), Err(Refusal::wrong("name", "write a name")));
        assert!(matches!(made(1, "testCalendar"), Err(Refusal::Taken { .. })));
        assert_eq!(made(2, "testCalendar"), Ok(()));
    }
}
