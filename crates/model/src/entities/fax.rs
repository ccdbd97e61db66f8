//! Virtual faxes: where a client receives documents and sends them from (manual 10.1.9 and 10.2.5).
//!
//! Elsewhere: the documents ([`FaxesInOut`]).

use crate::checks::{self, keeps_to_company, needs_company_type};
use crate::prelude::*;

/// A virtual fax machine. Numbers that lead to it receive documents; documents that are uploaded are sent
/// from it.
#[derive(Clone, Debug, Entity)]
#[entity(path = "faxes", access = ACCESS, computed = COMPUTED, rules, unique(company, name))]
pub struct Fax {
    /// The fax's number in the API.
    #[field(brand = "ld", client = "ld", user = "ld")]
    pub id: Id<Fax>,
    /// Shown where a fax is chosen; there once within the client.
    #[field(max = 50, brand = "ld", client = "ldw", user = "ld")]
    pub name: String,
    /// Where received documents are sent; null: nowhere.
    #[field(max = 255, brand = "ld", client = "ldw", user = "ld")]
    pub email: Option<String>,
    /// Received documents are sent by e-mail. Switched off, the address is forgotten.
    #[field(default = true, brand = "ld", client = "ldw", user = "ld")]
    pub send_by_email: bool,
    /// The client.
    #[field(delete = "cascade", index, brand = "d")]
    pub company: Id<Company>,
    /// The number that sent documents show; null: the client's.
    #[field(delete = "clear", brand = "ld", client = "ldw")]
    pub outgoing_ddi: Option<Id<Ddi>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "l")
        .acl()
        .order(&["name"])
        .brand_feature("faxes")
        .read(&[Rule::OwnClients("company")])
        .write(&[Rule::Never]),
    Access::at(Level::Client, "lgcud")
        .acl()
        .order(&["name"])
        .company_feature("faxes")
        .read(&[Rule::OwnCompany("company")])
        .write(&[Rule::OwnCompany("company"), Rule::VisibleOrNull("outgoingDdi")]),
    Access::at(Level::User, "lg")
        .order(&["name"])
        .read(&[Rule::OwnCompany("company"), Rule::Where(shared_with_me)]),
];

const COMPUTED: &[Computed] = &[Computed::new(
    "relUserIds",
    "The users who see this fax in their portal.",
    How::Pairs(FaxesRelUser::definition, "fax", "user"),
)
.at(Level::Client, "dw")
.at(Level::User, "d")];

fn shared_with_me(row: &dyn Record, caller: &Caller, rows: &Rows) -> bool {
    paired::<FaxesRelUser>(rows, "user", caller.user.unwrap_or(0), "fax", row.id())
}

impl Rules for Fax {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let types = [CompanyType::Vpbx, CompanyType::Residential];
        needs_company_type(self.company, old.map(|old| old.company), &types, check);
        if !self.send_by_email {
            self.email = None;
        }
        if old.is_none_or(|old| old.email != self.email) {
            let email = self.email.as_deref().filter(|email| !email.is_empty());
            check.require(
                email.is_none_or(checks::email),
                "email",
                "it is no e-mail address; write name@example.com",
            );
        }
        if old.is_none_or(|old| old.name != self.name) {
            check.require(!self.name.trim().is_empty(), "name", "a fax needs a name");
        }
        keeps_to_company(self, old, check, &["outgoingDdi"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn fax() -> Fax {
        Fax {
            name: "Office".into(),
            company: Id::new(1),
            email: Some("fax@example.com".into()),
            ..Fax::default()
        }
    }

    fn refused_field(fax: Fax) -> String {
        match change(|draft| draft.create(fax)).unwrap_err() {
            Refusal::Invalid(mistakes) => mistakes[0].field.clone(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_address_is_only_kept_where_it_is_used() {
        let email = |row: Fax| {
            let (id, rows, _) = change(|draft| draft.create(row)).unwrap();
            rows.get(id).unwrap().email.clone()
        };
        assert_eq!(email(fax()).as_deref(), Some("fax@example.com"));
        assert_eq!(email(Fax { send_by_email: false, ..fax() }), None);
        assert_eq!(refused_field(Fax { email: Some("fax".into()), ..fax() }), "email");
    }

    #[test]
    fn virtual_pbx_and_residential_clients_have_faxes() {
        change(|draft| draft.create(Fax { company: Id::new(4), ..fax() })).unwrap();
        assert_eq!(refused_field(Fax { company: Id::new(3), ..fax() }), "company");
        assert_eq!(refused_field(Fax { name: " ".into(), ..fax() }), "name");
        assert_eq!(refused_field(Fax { outgoing_ddi: Some(Id::new(2)), ..fax() }), "outgoingDdi");
    }

    #[test]
    fn documents_go_with_their_fax() {
        let ((), rows, _) = change(|draft| draft.delete(Id::<Fax>::new(1))).unwrap();
        assert_eq!(
            (rows.of::<FaxesInOut>("fax", 1).count(), rows.of::<FaxesInOut>("fax", 2).count()),
            (0, 1)
        );
    }
}
