//! Extensions: the internal numbers of a virtual PBX client and what they lead to (manual 10.1.3).
//!
//! Elsewhere: the extension that a user shows ([`User`]).

use crate::checks::{self, keep_target, keeps_to_company, needs_company_type};
use crate::prelude::*;

/// An internal number and where calls to it go. Everybody within the client may call it, whatever their
/// call permissions say.
#[derive(Clone, Debug, Entity)]
#[entity(path = "extensions", access = ACCESS, rules, unique(company, number))]
pub struct Extension {
    /// The extension's number in the API.
    #[field(brand = "ld", client = "ld", user = "ld")]
    pub id: Id<Extension>,
    /// What is dialled: it begins with a digit and is there once within the client. An external number that
    /// is the same can no longer be called.
    #[field(max = 10, brand = "ld", client = "ldw", user = "ld")]
    pub number: String,
    /// What calls lead to; the fields of all other routes are empty. Null: calls are refused.
    #[field(brand = "ld", client = "ldw", user = "d")]
    pub route_type: Option<ExtensionRouteType>,
    /// The external number of route `number`, without the country's calling code.
    #[field(max = 25, brand = "ld", client = "ldw", user = "d")]
    pub number_value: Option<String>,
    /// What is dialled for route `friend`: it is looked up in the patterns of the friends.
    #[field(max = 25, brand = "ld", client = "ldw", user = "d")]
    pub friend_value: Option<String>,
    /// The client.
    #[field(delete = "cascade", index, brand = "d")]
    pub company: Id<Company>,
    /// The IVR of route `ivr`.
    #[field(delete = "clear", client = "ldw")]
    pub ivr: Option<Id<Ivr>>,
    /// The hunt group of route `huntGroup`.
    #[field(delete = "clear", client = "ldw")]
    pub hunt_group: Option<Id<HuntGroup>>,
    /// The conference room of route `conferenceRoom`.
    #[field(delete = "clear", client = "ldw")]
    pub conference_room: Option<Id<ConferenceRoom>>,
    /// The user of route `user`.
    #[field(delete = "clear", index, brand = "ld", client = "ldw", user = "d")]
    pub user: Option<Id<User>>,
    /// The queue of route `queue`.
    #[field(delete = "clear", client = "ldw")]
    pub queue: Option<Id<Queue>>,
    /// The conditional route of route `conditional`.
    #[field(delete = "clear", client = "ldw")]
    pub conditional_route: Option<Id<ConditionalRoute>>,
    /// The country of the external number of route `number`.
    #[field(delete = "clear", brand = "ld", client = "ldw", user = "d")]
    pub number_country: Option<Id<Country>>,
    /// The voicemail of route `voicemail`.
    #[field(delete = "clear", client = "ldw", user = "d")]
    pub voicemail: Option<Id<Voicemail>>,
    /// The announcement of route `locution`.
    #[field(delete = "clear", client = "ldw")]
    pub locution: Option<Id<Locution>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lg")
        .acl()
        .order(&["number"])
        .read(&[Rule::OwnClients("company")])
        .write(&[Rule::Never]),
    Access::at(Level::Client, "lgcud")
        .acl()
        .order(&["number"])
        .company_types(&[CompanyType::Vpbx])
        .read(&[Rule::OwnCompany("company")])
        .write(&[
            Rule::OwnCompany("company"),
            Rule::VisibleOrNull("huntGroup"),
            Rule::VisibleOrNull("user"),
            Rule::VisibleOrNull("queue"),
            Rule::VisibleOrNull("conditionalRoute"),
            Rule::VisibleOrNull("ivr"),
            Rule::VisibleOrNull("conferenceRoom"),
            Rule::VisibleOrNull("voicemail"),
        ]),
    Access::at(Level::User, ""),
];

choice! {
    /// What an extension leads to.
    pub enum ExtensionRouteType {
        /// A user.
        User = "user",
        /// An external number, which callers may reach even if their call permissions do not allow it.
        Number = "number",
        /// An IVR.
        Ivr = "ivr",
        /// A hunt group.
        HuntGroup = "huntGroup",
        /// A conference room.
        ConferenceRoom = "conferenceRoom",
        /// A number behind one of the client's friends.
        Friend = "friend",
        /// A queue.
        Queue = "queue",
        /// A conditional route.
        Conditional = "conditional",
        /// A voicemail.
        Voicemail = "voicemail",
        /// An announcement, after which the call ends.
        Locution = "locution",
    }
}

const TARGETS: &[(&str, &[&str])] = &[
    ("user", &["user"]),
    ("number", &["numberCountry", "numberValue"]),
    ("ivr", &["ivr"]),
    ("huntGroup", &["huntGroup"]),
    ("conferenceRoom", &["conferenceRoom"]),
    ("friend", &["friendValue"]),
    ("queue", &["queue"]),
    ("conditional", &["conditionalRoute"]),
    ("voicemail", &["voicemail"]),
    ("locution", &["locution"]),
];

impl Rules for Extension {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        needs_company_type(self.company, old.map(|old| old.company), &[CompanyType::Vpbx], check);
        if old.is_none_or(|old| old.number != self.number) {
            let begins = self.number.starts_with(|first: char| first.is_ascii_digit());
            let holds = begins && !self.number.contains(char::is_whitespace);
            check.require(holds, "number", "an extension begins with a digit and has no blanks: 101");
        }
        let chosen = self.route_type.map(Choice::name);
        keep_target(self, chosen, TARGETS);
        self.number_value = self.number_value.take().filter(|number| !number.is_empty());
        let number = self.number_value.as_deref();
        if old.is_none_or(|old| old.number_value.as_deref() != number) {
            check.require(
                number.is_none_or(checks::digits),
                "numberValue",
                "write digits only, without the country's code",
            );
        }
        let own = [
            "ivr",
            "huntGroup",
            "conferenceRoom",
            "user",
            "queue",
            "conditionalRoute",
            "voicemail",
            "locution",
        ];
        keeps_to_company(self, old, check, &own);
    }

    fn saved(&self, old: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let former = old.and_then(|old| old.user);
        if former != self.user {
            if let Some(former) = former.and_then(|id| draft.get(id))
                && former.extension == Some(self.id)
            {
                let former = former.id;
                draft.change(former, |user| user.extension = None)?;
            }
            if let Some(user) = self.user.and_then(|id| draft.get(id))
                && user.extension.is_none()
            {
                let user = user.id;
                draft.change(user, |user| user.extension = Some(self.id))?;
            }
        } else if let Some(user) = self.user.and_then(|id| draft.get(id)).cloned()
            && user.extension == Some(self.id)
        {
            super::contact::follow_user(&user, draft)?;
        }
        Ok(())
    }

    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let shown: Vec<Id<User>> =
            draft.rows().of("extension", self.id.get()).map(|user: &User| user.id).collect();
        for user in shown {
            draft.change(user, |user| user.extension = None)?;
        }
        forget_in_ivrs(self.company, "Extension", self.id.get(), draft)
    }
}

/// IVRs that lead to an extension or voicemail which goes lose that route as a whole.
pub(crate) fn forget_in_ivrs(
    company: Id<Company>,
    kind: &str,
    id: u32,
    draft: &mut Draft<'_>,
) -> Result<(), Refusal> {
    let ivrs: Vec<Ivr> = draft.rows().of("company", company.get()).cloned().collect();
    for mut ivr in ivrs {
        let mut touched = false;
        for process in ["noInput", "error"] {
            let target = format!("{process}{kind}");
            let leads_there = (&ivr as &dyn Record).reference(&target) == Some(id);
            if leads_there {
                checks::clear(&mut ivr, &target);
                checks::clear(&mut ivr, &format!("{process}RouteType"));
                touched = true;
            }
        }
        if touched {
            draft.put(Box::new(ivr))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, change_on, sample};

    const TO_ALICE: Id<Extension> = Id::new(1);
    const OF_JOE: Id<Extension> = Id::new(2);
    const FREE: Id<Extension> = Id::new(4);

    fn extension(number: &str) -> Extension {
        Extension { number: number.into(), company: Id::new(1), ..Extension::default() }
    }

    fn refused_field(extension: Extension) -> String {
        match change(|draft| draft.create(extension)).unwrap_err() {
            Refusal::Invalid(mistakes) => mistakes[0].field.clone(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_number_begins_with_a_digit_and_is_there_once() {
        assert_eq!(refused_field(extension("*1")), "number");
        assert_eq!(refused_field(extension("")), "number");
        let refused = change(|draft| draft.create(extension("101"))).unwrap_err();
        assert!(matches!(refused, Refusal::Taken { .. }), "{refused}");
        change(|draft| draft.create(Extension { company: Id::new(2), ..extension("101") })).unwrap();
    }

    #[test]
    fn only_virtual_pbx_clients_have_extensions() {
        assert_eq!(refused_field(Extension { company: Id::new(3), ..extension("200") }), "company");
    }

    #[test]
    fn only_the_chosen_target_is_kept() {
        let row = Extension {
            route_type: Some(ExtensionRouteType::Number),
            number_value: Some("946002020".into()),
            number_country: Some(Id::new(68)),
            user: Some(Id::new(1)),
            locution: Some(Id::new(1)),
            friend_value: Some("5".into()),
            ..extension("200")
        };
        let (id, rows, _) = change(|draft| draft.create(row)).unwrap();
        let saved = rows.get(id).unwrap();
        assert_eq!((saved.user, saved.locution, &saved.friend_value), (None, None, &None));
        assert_eq!(
            (saved.number_value.as_deref(), saved.number_country),
            (Some("946002020"), Some(Id::new(68)))
        );
    }

    #[test]
    fn an_external_number_is_digits() {
        let route_type = Some(ExtensionRouteType::Number);
        assert_eq!(
            refused_field(Extension { route_type, number_value: Some("+34".into()), ..extension("200") }),
            "numberValue"
        );
    }

    #[test]
    fn a_target_is_of_the_same_client() {
        let route_type = Some(ExtensionRouteType::User);
        let row = Extension { company: Id::new(2), route_type, user: Some(Id::new(1)), ..extension("200") };
        assert_eq!(refused_field(row), "user");
    }

    #[test]
    fn an_extension_is_shown_by_its_new_user_and_no_longer_by_the_former_one() {
        // Joe shows the extension once it leads to him.
        let (_, rows, _) = change(|draft| draft.change(OF_JOE, |row| row.user = Some(Id::new(3)))).unwrap();
        let ((), rows, _) =
            change_on(&rows, |draft| draft.change(OF_JOE, |row| row.user = Some(Id::new(1)))).unwrap();
        let shown = |id: u32| rows.get::<User>(Id::new(id)).unwrap().extension;
        assert_eq!((shown(3), shown(1)), (None, Some(OF_JOE)));
        let contact = rows.of::<Contact>("user", 1).next().unwrap();
        assert_eq!(contact.other_phone.as_deref(), Some("102"));
    }

    #[test]
    fn a_user_who_shows_an_extension_keeps_showing_it() {
        let to_joe = |row: &mut Extension| {
            (row.route_type, row.user) = (Some(ExtensionRouteType::User), Some(Id::new(3)))
        };
        let ((), rows, _) = change(|draft| draft.change(FREE, to_joe)).unwrap();
        assert_eq!(rows.get::<User>(Id::new(3)).unwrap().extension, Some(OF_JOE));
    }

    #[test]
    fn a_new_number_goes_into_the_contact_of_the_user_who_shows_it() {
        let ((), rows, _) = change(|draft| {
            draft.change(Id::<User>::new(1), |user| user.extension = Some(TO_ALICE))?;
            draft.change(TO_ALICE, |row| row.number = "111".into())
        })
        .unwrap();
        assert_eq!(rows.of::<Contact>("user", 1).next().unwrap().other_phone.as_deref(), Some("111"));
    }

    #[test]
    fn an_extension_that_goes_leaves_no_route_behind() {
        let mut rows = sample();
        let mut ivr = rows.get::<Ivr>(Id::new(1)).unwrap().clone();
        (ivr.error_route_type, ivr.error_extension) = (Some(PlainTarget::Extension), Some(OF_JOE));
        rows.insert(std::sync::Arc::new(ivr));
        let ((), rows, _) = change_on(&rows, |draft| draft.delete(OF_JOE)).unwrap();
        let ivr: &Ivr = rows.get(Id::new(1)).unwrap();
        assert_eq!((ivr.error_route_type, ivr.error_extension), (None, None));
        assert_eq!(rows.get::<User>(Id::new(3)).unwrap().extension, None);
        assert_eq!(rows.of::<Contact>("user", 3).next().unwrap().other_phone, None);
    }
}
