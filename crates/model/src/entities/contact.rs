//! The address book of a virtual PBX client: its users, who are in it by themselves, and whom it adds (manual 10.1.12).
//!
//! In: users, which their entries follow ([`User`]).

use crate::checks::{self, keeps_to_company, needs_company_type};
use crate::prelude::*;

/// An entry of the address book. The entry of a user takes name, e-mail address and extension from the user
/// and goes with the user.
#[derive(Clone, Debug, Entity)]
#[entity(path = "contacts", access = ACCESS, rules, unique(user))]
pub struct Contact {
    /// The contact's number in the API.
    #[field(client = "ld")]
    pub id: Id<Contact>,
    /// First name, or the only name there is.
    #[field(max = 100, client = "ldw")]
    pub name: String,
    /// Last name.
    #[field(max = 100, client = "ldw")]
    pub lastname: Option<String>,
    /// E-mail address.
    #[field(max = 100, client = "ldw")]
    pub email: Option<String>,
    /// External number at work, without the country's calling code.
    #[field(max = 20, client = "dw")]
    pub work_phone: Option<String>,
    /// The number at work with its country's calling code, written by the platform.
    #[field(max = 25, client = "ldw")]
    pub work_phone_e164: Option<String>,
    /// External mobile number, without the country's calling code.
    #[field(max = 20, client = "dw")]
    pub mobile_phone: Option<String>,
    /// The mobile number with its country's calling code, written by the platform.
    #[field(max = 25, client = "ldw")]
    pub mobile_phone_e164: Option<String>,
    /// Any other number, in any form. For a user it is the extension that the user shows.
    #[field(max = 25, client = "ldw")]
    pub other_phone: Option<String>,
    /// The client.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
    /// The country of the number at work.
    #[field(delete = "clear", client = "dw")]
    pub work_phone_country: Option<Id<Country>>,
    /// The country of the mobile number.
    #[field(delete = "clear", client = "dw")]
    pub mobile_phone_country: Option<Id<Country>>,
    /// The user whose entry it is; null: an entry that the client added.
    #[field(delete = "cascade", index, client = "ldw")]
    pub user: Option<Id<User>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["name", "lastname"])
    .company_types(&[CompanyType::Vpbx])
    .read(&[Rule::OwnCompany("company")])
    .write(&[Rule::OwnCompany("company")])
    .delete(&[Rule::Null("user")])];

impl Rules for Contact {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        needs_company_type(self.company, old.map(|old| old.company), &[CompanyType::Vpbx], check);
        keeps_to_company(self, old, check, &["user"]);
        match (check.rows.at(self.user), old) {
            // What the user decides is not changed here.
            (Some(_), Some(old)) if old.user == self.user => {
                self.name.clone_from(&old.name);
                self.lastname.clone_from(&old.lastname);
                self.email.clone_from(&old.email);
                self.other_phone.clone_from(&old.other_phone);
            }
            (Some(user), _) => self.take_over(user, check.rows),
            (None, _) => {}
        }
        let email = self.email.as_deref().filter(|email| !email.is_empty());
        if old.is_none_or(|old| old.email != self.email) {
            check.require(
                email.is_none_or(checks::email),
                "email",
                "it is no e-mail address; write name@example.com",
            );
        }
        let number = |number: &Option<String>| number.clone().filter(|number| !number.is_empty());
        let with_code = |country, phone: Option<String>| checks::e164(check.rows, country, &phone?);
        self.work_phone_e164 = with_code(self.work_phone_country, number(&self.work_phone));
        self.mobile_phone_e164 = with_code(self.mobile_phone_country, number(&self.mobile_phone));
        let remedy = "write digits only, without the country's code";
        for (field, e164, before) in [
            ("workPhone", &self.work_phone_e164, old.map(|old| &old.work_phone_e164)),
            ("mobilePhone", &self.mobile_phone_e164, old.map(|old| &old.mobile_phone_e164)),
        ] {
            let digits = e164.as_deref().is_none_or(|e164| checks::digits(e164.trim_start_matches('+')));
            check.require(digits || before == Some(e164), field, remedy);
        }
    }
}

impl Contact {
    fn take_over(&mut self, user: &User, rows: &Rows) {
        self.name.clone_from(&user.name);
        self.lastname = Some(user.lastname.clone());
        self.email.clone_from(&user.email);
        self.other_phone = rows.at(user.extension).map(|extension| extension.number.clone());
    }
}

/// Makes the user's entry, or keeps it in step with the user.
pub(crate) fn follow_user(user: &User, draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let found = draft.rows().of::<Contact>("user", user.id.get()).next().cloned();
    let Some(mut contact) = found else {
        return draft
            .create(Contact { company: user.company, user: Some(user.id), ..Contact::default() })
            .map(|_| ());
    };
    contact.take_over(user, draft.rows());
    // By the rules nobody changes these fields of a user's entry.
    draft.put(Box::new(contact))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn contact() -> Contact {
        Contact { name: "Dora".into(), company: Id::new(1), ..Contact::default() }
    }

    fn refused_field(contact: Contact) -> String {
        match change(|draft| draft.create(contact)).unwrap_err() {
            Refusal::Invalid(mistakes) => mistakes[0].field.clone(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn numbers_get_their_countrys_code() {
        let row = Contact {
            work_phone: Some("944048184".into()),
            work_phone_country: Some(Id::new(68)),
            mobile_phone: Some("676".into()),
            mobile_phone_e164: Some("+1".into()),
            ..contact()
        };
        let (id, rows, _) = change(|draft| draft.create(row)).unwrap();
        let saved = rows.get(id).unwrap();
        assert_eq!(saved.work_phone_e164.as_deref(), Some("+34944048184"));
        assert_eq!(saved.mobile_phone_e164, None, "without a country there is no code");
    }

    #[test]
    fn addresses_and_numbers_are_checked() {
        assert_eq!(refused_field(Contact { email: Some("dora".into()), ..contact() }), "email");
        let row =
            Contact { work_phone: Some("94 40".into()), work_phone_country: Some(Id::new(68)), ..contact() };
        assert_eq!(refused_field(row), "workPhone");
        assert_eq!(refused_field(Contact { company: Id::new(4), ..contact() }), "company");
        change(|draft| draft.create(Contact { other_phone: Some("ask 9".into()), ..contact() })).unwrap();
    }

    #[test]
    fn what_the_user_decides_is_not_changed_here() {
        let ((), rows, _) = change(|draft| {
            draft.change(Id::<Contact>::new(2), |contact| {
                contact.name = "Somebody".into();
                contact.other_phone = Some("5".into());
                contact.mobile_phone = Some("676".into());
            })
        })
        .unwrap();
        let saved: &Contact = rows.get(Id::new(2)).unwrap();
        assert_eq!((saved.name.as_str(), saved.other_phone.as_deref()), ("Alice", Some("101")));
        assert_eq!(saved.mobile_phone.as_deref(), Some("676"));
    }

    #[test]
    fn a_user_has_one_entry() {
        let refused =
            change(|draft| draft.create(Contact { user: Some(Id::new(1)), ..contact() })).unwrap_err();
        assert!(matches!(refused, Refusal::Taken { .. }), "{refused}");
        assert_eq!(
            refused_field(Contact { company: Id::new(2), user: Some(Id::new(1)), ..contact() }),
            "user"
        );
    }
}
