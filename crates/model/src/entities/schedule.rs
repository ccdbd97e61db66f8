//! Schedules: hours of the week.
//!
//! Manual: "Client configuration", schedules.

use crate::checks::{client_of_type, name_is_there};
use crate::prelude::*;

/// Hours on some days of the week. External call filters, calendar periods and conditional routes combine
/// several.
#[derive(Clone, Debug, Entity)]
#[entity(path = "schedules", access = ACCESS, unique(name, company), rules)]
pub struct Schedule {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<Schedule>,
    /// What it is called in lists; once within a client.
    #[field(max = 50, client = "ldw")]
    pub name: String,
    /// When it begins on each of its days, in the client's time zone.
    #[field(client = "ldw")]
    pub time_in: Time,
    /// When it ends on each of its days, in the client's time zone.
    #[field(client = "ldw")]
    pub timeout: Time,
    /// It holds on Mondays.
    #[field(default = false, client = "ldw")]
    pub monday: Option<bool>,
    /// It holds on Tuesdays.
    #[field(default = false, client = "ldw")]
    pub tuesday: Option<bool>,
    /// It holds on Wednesdays.
    #[field(default = false, client = "ldw")]
    pub wednesday: Option<bool>,
    /// It holds on Thursdays.
    #[field(default = false, client = "ldw")]
    pub thursday: Option<bool>,
    /// It holds on Fridays.
    #[field(default = false, client = "ldw")]
    pub friday: Option<bool>,
    /// It holds on Saturdays.
    #[field(default = false, client = "ldw")]
    pub saturday: Option<bool>,
    /// It holds on Sundays.
    #[field(default = false, client = "ldw")]
    pub sunday: Option<bool>,
    /// The client that it belongs to.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["name"])
    .company_types(&[CompanyType::Vpbx])
    .read(&[Rule::OwnCompany("company")])];

impl Rules for Schedule {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        name_is_there(self, old, check);
        client_of_type(old, self.company, &[CompanyType::Vpbx], check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn only_vpbx_clients_have_one_and_it_is_named() {
        let made = |company, name: &str| {
            let row = Schedule { company: Id::new(company), name: name.to_owned(), ..Schedule::default() };
            change(|draft| draft.create(row)).map(|_| ())
        };
        assert_eq!(made(1, "new"), Ok(()));
        assert!(matches!(made(4, "new"), Err(Refusal::Invalid(_))));
        assert_eq!(made(1, ""), Err(Refusal::wrong("name", "write a name")));
    }
}
