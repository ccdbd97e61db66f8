//! Users of virtual PBX clients: people with a telephone, an extension and a portal of their own (manual 10.1.1).
//!
//! Elsewhere: what their voicemails and contacts take over ([`Voicemail`], [`Contact`]), extensions ([`Extension`]).

use crate::checks::{self, keeps_to_brand, keeps_to_company, needs_company_type};
use crate::prelude::*;

/// A person who works at a virtual PBX client. What calls reach the user and how the user calls out is
/// decided here; the telephone itself is a terminal.
#[derive(Clone, Debug, Entity)]
#[entity(
    path = "users", access = ACCESS, computed = COMPUTED, rules,
    unique(terminal), unique(extension), unique(email),
)]
pub struct User {
    /// The user's number in the API.
    #[field(brand = "ld", client = "ld", user = "ld")]
    pub id: Id<User>,
    /// First name. Internal calls from the user show it together with the last name.
    #[field(max = 100, brand = "ld", client = "ldw", user = "ld")]
    pub name: String,
    /// Last name.
    #[field(max = 100, brand = "ld", client = "ldw", user = "ld")]
    pub lastname: String,
    /// The address that the user logs in to the portal with; no two users of the platform share one. The
    /// user's voicemail is sent there, too. Null: no portal.
    #[field(max = 100, folded, brand = "ld", client = "ldw", user = "ld")]
    pub email: Option<String>,
    /// Password of the user's portal. Only its hash is kept; null: the user cannot log in.
    #[field(max = 80, masked, brand = "d", client = "dw", user = "d")]
    pub pass: Password,
    /// Calls to the user are answered with busy; the user may still call.
    #[field(default = false, brand = "d", client = "dw", user = "d")]
    pub do_not_disturb: bool,
    /// Calls to the user go to the assistant, except those of the assistant and those that the white list
    /// matches.
    #[field(default = false, brand = "d", client = "dw", user = "d")]
    pub is_boss: bool,
    /// The user may log in to the portal; it takes an e-mail address and a password.
    #[field(default = false, brand = "ld", client = "ldw", user = "ld")]
    pub active: bool,
    /// Calls that the user may have before a further one is answered with busy; 0: any number.
    #[field(default = 0u32, brand = "d", client = "dw", user = "d")]
    pub max_calls: u32,
    /// Calls at a time that the user may make from addresses outside the client's allowed ones.
    #[field(default = UserExternalIpCalls::Never, brand = "d", client = "dw", user = "d")]
    pub external_ip_calls: UserExternalIpCalls,
    /// What it means for the user's other telephones that one of them declines a call.
    #[field(default = UserRejectCallMethod::Rfc, brand = "d", client = "dw", user = "d")]
    pub reject_call_method: UserRejectCallMethod,
    /// A call rings at all telephones that are registered with the user's terminal; otherwise only at the
    /// one that registered last.
    #[field(default = true, brand = "d", client = "dw", user = "d")]
    pub multi_contact: bool,
    /// The portal shows a QR code that sets up the Grandstream Wave softphone.
    #[field(name = "gsQRCode", default = false, brand = "d", client = "dw", user = "d")]
    pub gs_qr_code: bool,
    /// The user works where the client says that its users work; `location` then follows the client's.
    #[field(default = true, brand = "d", client = "dw", user = "d")]
    pub use_default_location: bool,
    /// The client.
    #[field(delete = "cascade", index, brand = "ld")]
    pub company: Id<Company>,
    /// Which external numbers the user may call; null: all.
    #[field(delete = "clear", client = "dw")]
    pub call_acl: Option<Id<CallAcl>>,
    /// Who takes the calls of this boss.
    #[field(delete = "clear", brand = "d", client = "dw", user = "d")]
    pub boss_assistant: Option<Id<User>>,
    /// Callers who reach this boss directly.
    #[field(delete = "clear", brand = "d", client = "dw")]
    pub boss_assistant_white_list: Option<Id<MatchList>>,
    /// How numbers are written at the user's telephone; null: as the client has it.
    #[field(delete = "clear", brand = "d", client = "dw")]
    pub transformation_rule_set: Option<Id<TransformationRuleSet>>,
    /// The language of announcements that the user hears; null: the client's.
    #[field(delete = "clear", brand = "d", client = "dw")]
    pub language: Option<Id<Language>>,
    /// The telephone. A terminal belongs to one user at most; null: calls do not reach the user.
    #[field(delete = "clear", index, brand = "ld", client = "ldw")]
    pub terminal: Option<Id<Terminal>>,
    /// The number that the user's internal calls show, and whose calls reach the user. Several extensions
    /// may lead to a user; this is the one that others see.
    #[field(delete = "clear", index, brand = "ld", client = "ldw", user = "ld")]
    pub extension: Option<Id<Extension>>,
    /// What times are written in for the user; a new user gets the client's.
    #[field(delete = "clear", brand = "d", client = "dw", user = "d")]
    pub timezone: Option<Id<Timezone>>,
    /// The number that external calls show; null: the client's.
    #[field(delete = "clear", brand = "ld", client = "ldw")]
    pub outgoing_ddi: Option<Id<Ddi>>,
    /// Exceptions from the number that external calls show; null: the client's.
    #[field(delete = "clear", brand = "d", client = "dw")]
    pub outgoing_ddi_rule: Option<Id<OutgoingDdiRule>>,
    /// Where the user works.
    #[field(delete = "clear", index, brand = "ld", client = "dw")]
    pub location: Option<Id<Location>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "l")
        .order(&["company", "name"])
        .read(&[Rule::Visible("company")])
        .write(&[Rule::Never]),
    Access::at(Level::Client, "lgcud")
        .acl()
        .order(&["name", "lastname"])
        .company_types(&[CompanyType::Vpbx])
        .create_expands()
        .read(&[Rule::OwnCompany("company")])
        .write(&[
            Rule::OwnCompany("company"),
            Rule::VisibleOrNull("callAcl"),
            Rule::VisibleOrNull("bossAssistant"),
            Rule::VisibleOrNull("outgoingDdiRule"),
            Rule::VisibleOrNull("bossAssistantWhiteList"),
            Rule::VisibleOrNull("terminal"),
            Rule::VisibleOrNull("extension"),
            Rule::VisibleOrNull("outgoingDdi"),
            Rule::VisibleOrNull("location"),
        ]),
    Access::at(Level::User, ""),
];

const COMPUTED: &[Computed] = &[
    Computed::new(
        "status",
        "Where the user's telephones are registered; empty: nowhere.",
        How::Live("registrations"),
    )
    .at(Level::Brand, "l")
    .at(Level::Client, "l")
    .at(Level::User, "l"),
    Computed::new("voicemail", "Always null; the voicemails name their user.", How::Derived(voicemail))
        .at(Level::Client, "dn"),
    Computed::new("contact", "Always null; the contacts name their user.", How::Derived(contact))
        .at(Level::Client, "dn"),
    Computed::new(
        "pickupGroupIds",
        "The pick-up groups that the user is in.",
        How::Pairs(PickUpRelUser::definition, "user", "pickUpGroup"),
    )
    .at(Level::Client, "dw"),
    Computed::new(
        "generic",
        "Whether it is a voicemail of the client rather than of a user.",
        How::Derived(generic),
    )
    .at(Level::User, "l"),
    Computed::new("enabled", "Whether the user's voicemail takes messages.", How::Derived(enabled))
        .at(Level::User, "l"),
];

choice! {
    /// How many calls at a time a user may make from addresses that the client does not allow to others.
    pub enum UserExternalIpCalls {
        /// None: the client's address filter holds for the user, too.
        Never = "0",
        /// One.
        One = "1",
        /// Two.
        Two = "2",
        /// Three.
        Three = "3",
    }
}

choice! {
    /// What it means for a user's other telephones that one of them declines a call.
    pub enum UserRejectCallMethod {
        /// What the telephone's answer says: 600 and 603 decline for all of them, any other for that one.
        Rfc = "rfc",
        /// That telephone only; the others go on ringing.
        OneDevice = "486",
        /// All of them.
        AllDevices = "600",
    }
}

/// The dialect has the name and never a value: a user's voicemail is found among the voicemails.
fn voicemail(_: &dyn Record, _: &Rows) -> Json {
    Json::Null
}

/// The dialect has the name and never a value: a user's contact is found among the contacts.
fn contact(_: &dyn Record, _: &Rows) -> Json {
    Json::Null
}

/// A voicemail that belongs to a user is none of the client's generic ones.
fn generic(_: &dyn Record, _: &Rows) -> Json {
    Json::Bool(false)
}

fn enabled(row: &dyn Record, rows: &Rows) -> Json {
    Json::Bool(rows.of::<Voicemail>("user", row.id()).any(|voicemail| voicemail.enabled))
}

impl User {
    /// First and last name, as they are shown to others: "Alice Allison".
    pub fn full_name(&self) -> String {
        format!("{} {}", self.name.trim(), self.lastname.trim()).trim().to_owned()
    }

    fn has_password(&self) -> bool {
        !self.pass.hash().is_empty()
    }

    fn check_login(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        self.email = self.email.take().map(|email| email.trim().to_owned()).filter(|email| !email.is_empty());
        let email_changed = old.is_none_or(|old| old.email != self.email);
        if email_changed && self.email.as_deref().is_some_and(|email| !checks::email(email)) {
            check.wrong("email", "it is no e-mail address; write name@example.com");
        }
        if old.is_none() && self.email.is_some() && self.has_password() {
            self.active = true;
        }
        if self.active {
            check.require(self.email.is_some(), "email", "an active user needs one to log in with");
            check.require(self.has_password(), "pass", "an active user needs one to log in with");
        }
    }

    /// How many calls a user may have is the client's to say: the user may lower it, for some peace, and not raise it.
    fn check_own_limit(&self, old: Option<&Self>, check: &mut Check<'_>) {
        let rank = |limit: u32| if limit == 0 { u32::MAX } else { limit };
        let raised = old.is_some_and(|old| rank(self.max_calls) > rank(old.max_calls));
        if check.level == Some(Level::User) && raised {
            check.wrong("maxCalls", "you may lower it only; ask your client's administrator for more");
        }
    }

    /// Follows the client's location, unless a place of its own was chosen.
    fn check_location(&mut self, old: Option<&Self>, rows: &Rows) {
        let default = rows.get(self.company).and_then(|company| company.location);
        let followed = old.is_some_and(|old| old.use_default_location);
        let moved = old.is_some_and(|old| old.location != self.location) && self.location.is_some();
        if self.use_default_location && followed && moved && self.location != default {
            self.use_default_location = false;
        }
        if self.use_default_location && !followed {
            self.location = default;
        }
    }
}

impl Rules for User {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        needs_company_type(self.company, old.map(|old| old.company), &[CompanyType::Vpbx], check);
        if old.is_none_or(|old| old.name != self.name) {
            check.require(!self.name.trim().is_empty(), "name", "a user needs a first name");
        }
        if old.is_none_or(|old| old.lastname != self.lastname) {
            check.require(!self.lastname.trim().is_empty(), "lastname", "a user needs a last name");
        }
        self.check_login(old, check);
        self.check_own_limit(old, check);
        if old.is_none() && self.timezone.is_none() {
            self.timezone = check.rows.get(self.company).and_then(|company| company.default_timezone);
        }
        let own_assistant = old.is_some() && self.boss_assistant == Some(self.id);
        check.require(!own_assistant, "bossAssistant", "nobody assists themselves; choose another user");
        let own = [
            "callAcl",
            "bossAssistant",
            "terminal",
            "extension",
            "outgoingDdi",
            "outgoingDdiRule",
            "location",
        ];
        keeps_to_company(self, old, check, &own);
        keeps_to_brand(self, old, check, &["bossAssistantWhiteList", "transformationRuleSet"]);
        self.check_location(old, check.rows);
    }

    fn saved(&self, old: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        super::voicemail::follow_user(self, draft)?;
        super::contact::follow_user(self, draft)?;
        let closes = |old: &Self| old.pass.hash() != self.pass.hash() || (old.active && !self.active);
        if old.is_some_and(closes) {
            EndedLogins::end(draft, "user", self.id.get())?;
        }
        if self.is_boss && old.is_some_and(|old| !old.is_boss) {
            self.stop_assisting(draft)?;
        }
        match self.extension {
            Some(extension) if old.is_none_or(|old| old.extension != self.extension) => {
                draft.change(extension, |extension| {
                    extension.route_type = Some(ExtensionRouteType::User);
                    extension.user = Some(self.id);
                })
            }
            _ => Ok(()),
        }
    }

    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let extensions: Vec<Extension> = draft.rows().of("user", self.id.get()).cloned().collect();
        for mut extension in extensions {
            extension.route_type = None;
            extension.user = None;
            draft.put(Box::new(extension))?;
        }
        Ok(())
    }
}

impl User {
    /// A boss assists nobody.
    fn stop_assisting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let colleagues = draft.rows().of::<User>("company", self.company.get());
        let bosses: Vec<User> =
            colleagues.filter(|user| user.boss_assistant == Some(self.id)).cloned().collect();
        for mut boss in bosses {
            boss.boss_assistant = None;
            draft.put(Box::new(boss))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, change_on, sample};

    const ALICE: Id<User> = Id::new(1);
    const BOB: Id<User> = Id::new(2);
    const JOE: Id<User> = Id::new(3);

    fn carol() -> User {
        User { name: "Carol".into(), lastname: "Carlson".into(), company: Id::new(1), ..User::default() }
    }

    fn wrong_fields(refused: &Refusal) -> Vec<&str> {
        match refused {
            Refusal::Invalid(mistakes) => mistakes.iter().map(|mistake| mistake.field.as_str()).collect(),
            other => panic!("{other}"),
        }
    }

    fn contact_of(rows: &Rows, user: Id<User>) -> &Contact {
        rows.of::<Contact>("user", user.get()).next().unwrap()
    }

    fn voicemail_of(rows: &Rows, user: Id<User>) -> &Voicemail {
        rows.of::<Voicemail>("user", user.get()).next().unwrap()
    }

    #[test]
    fn a_new_user_gets_a_voicemail_a_contact_and_the_clients_time_zone() {
        let user = User { email: Some("carol@example.com".into()), extension: Some(Id::new(4)), ..carol() };
        let (id, rows, _) = change(|draft| draft.create(user)).unwrap();
        let (voicemail, contact) = (voicemail_of(&rows, id), contact_of(&rows, id));
        assert_eq!(
            (voicemail.name.as_str(), voicemail.email.as_deref()),
            ("Carol Carlson", Some("carol@example.com"))
        );
        assert_eq!((contact.name.as_str(), contact.lastname.as_deref()), ("Carol", Some("Carlson")));
        assert_eq!(contact.other_phone.as_deref(), Some("987"));
        let extension: &Extension = rows.get(Id::new(4)).unwrap();
        assert_eq!((extension.route_type, extension.user), (Some(ExtensionRouteType::User), Some(id)));
        let user = rows.get(id).unwrap();
        assert_eq!((user.active, user.timezone), (false, Some(Id::new(145))));
    }

    #[test]
    fn a_new_user_with_address_and_password_is_active() {
        let pass = Password::from_hash("x");
        let user = User { email: Some(" carol@example.com ".into()), pass, ..carol() };
        let (id, rows, _) = change(|draft| draft.create(user)).unwrap();
        assert!(rows.get(id).unwrap().active);
        assert_eq!(rows.get(id).unwrap().email.as_deref(), Some("carol@example.com"));
    }

    #[test]
    fn an_active_user_needs_address_and_password() {
        let refused = change(|draft| draft.create(User { active: true, ..carol() })).unwrap_err();
        assert_eq!(wrong_fields(&refused), ["email", "pass"]);
        let refused =
            change(|draft| draft.change(ALICE, |user| user.pass = Password::default())).unwrap_err();
        assert_eq!(wrong_fields(&refused), ["pass"]);
        change(|draft| draft.change(ALICE, |user| (user.active, user.pass) = (false, Password::default())))
            .unwrap();
    }

    #[test]
    fn names_are_not_empty_and_addresses_are_addresses() {
        let user = User { name: " ".into(), lastname: String::new(), email: Some("carol".into()), ..carol() };
        let refused = change(|draft| draft.create(user)).unwrap_err();
        assert_eq!(wrong_fields(&refused), ["name", "lastname", "email"]);
    }

    #[test]
    fn only_virtual_pbx_clients_have_users() {
        let refused = change(|draft| draft.create(User { company: Id::new(4), ..carol() })).unwrap_err();
        assert_eq!(wrong_fields(&refused), ["company"]);
    }

    #[test]
    fn what_a_user_refers_to_is_of_the_same_client() {
        let stranger =
            User { company: Id::new(2), terminal: Some(Id::new(3)), call_acl: Some(Id::new(1)), ..carol() };
        let foreign = User { transformation_rule_set: Some(Id::new(2)), ..stranger };
        let refused = change(|draft| draft.create(foreign)).unwrap_err();
        assert_eq!(wrong_fields(&refused), ["callAcl", "terminal", "transformationRuleSet"]);
        let shared = User {
            boss_assistant_white_list: Some(Id::new(3)),
            transformation_rule_set: Some(Id::new(3)),
            ..carol()
        };
        change(|draft| draft.create(shared)).unwrap();
    }

    #[test]
    fn a_reference_that_was_there_before_does_not_stop_a_change() {
        // Alice shows a number of another client in the sample system.
        change(|draft| draft.change(ALICE, |user| user.max_calls = 7)).unwrap();
        let refused =
            change(|draft| draft.change(BOB, |user| user.outgoing_ddi = Some(Id::new(3)))).unwrap_err();
        assert_eq!(wrong_fields(&refused), ["outgoingDdi"]);
    }

    #[test]
    fn voicemail_and_contact_follow_the_user() {
        let new_name =
            |user: &mut User| (user.name, user.email) = ("Alicia".into(), Some("a@example.com".into()));
        let ((), rows, _) = change(|draft| draft.change(ALICE, new_name)).unwrap();
        assert_eq!(voicemail_of(&rows, ALICE).name, "Alicia Allison");
        assert_eq!(voicemail_of(&rows, ALICE).email.as_deref(), Some("a@example.com"));
        assert!(voicemail_of(&rows, ALICE).send_mail, "the rest of it stays");
        assert_eq!(contact_of(&rows, ALICE).name, "Alicia");
    }

    #[test]
    fn an_extension_leads_to_the_user_that_shows_it() {
        let ((), rows, _) =
            change(|draft| draft.change(ALICE, |user| user.extension = Some(Id::new(3)))).unwrap();
        let extension: &Extension = rows.get(Id::new(3)).unwrap();
        assert_eq!((extension.route_type, extension.user), (Some(ExtensionRouteType::User), Some(ALICE)));
        assert_eq!((&extension.number_value, extension.number_country), (&None, None));
        assert_eq!(contact_of(&rows, ALICE).other_phone.as_deref(), Some("12346"));
    }

    #[test]
    fn an_extension_is_shown_by_one_user() {
        let refused =
            change(|draft| draft.change(ALICE, |user| user.extension = Some(Id::new(2)))).unwrap_err();
        assert!(matches!(refused, Refusal::Taken { .. }), "{refused}");
    }

    #[test]
    fn who_becomes_a_boss_assists_nobody() {
        let ((), rows, _) = change(|draft| draft.change(ALICE, |user| user.is_boss = true)).unwrap();
        assert_eq!(
            (rows.get(BOB).unwrap().boss_assistant, rows.get(JOE).unwrap().boss_assistant),
            (None, None)
        );
        let refused = change(|draft| draft.change(BOB, |user| user.boss_assistant = Some(BOB))).unwrap_err();
        assert_eq!(wrong_fields(&refused), ["bossAssistant"]);
    }

    #[test]
    fn a_name_without_last_name_has_no_trailing_space() {
        let mut user: User = sample().get(ALICE).unwrap().clone();
        assert_eq!(user.full_name(), "Alice Allison");
        user.lastname.clear();
        assert_eq!(user.full_name(), "Alice");
    }

    #[test]
    fn the_default_location_is_the_clients() {
        let company: Id<Company> = Id::new(1);
        let mut rows = sample();
        let at = Company { location: Some(Id::new(2)), ..rows.get(company).unwrap().clone() };
        rows.insert(std::sync::Arc::new(at));
        let place = |rows: &Rows, id| {
            rows.get::<User>(id).map(|user| (user.use_default_location, user.location)).unwrap()
        };
        let save = |change: fn(&mut User)| change_on(&rows, |draft| draft.change(BOB, change)).unwrap().1;
        assert_eq!(place(&save(|bob| bob.max_calls = 2), BOB), (false, Some(Id::new(1))));
        assert_eq!(place(&save(|bob| bob.use_default_location = true), BOB), (true, Some(Id::new(2))));
        let (_, moved, _) =
            change(|draft| draft.change(ALICE, |alice| alice.location = Some(Id::new(2)))).unwrap();
        assert_eq!(place(&moved, ALICE), (false, Some(Id::new(2))), "a place of her own");
        let (_, nowhere, _) = change(|draft| draft.change(ALICE, |alice| alice.location = None)).unwrap();
        assert_eq!(place(&nowhere, ALICE), (true, None), "until the client's location changes");
    }

    #[test]
    fn a_user_that_goes_leaves_extensions_without_a_route() {
        let ((), rows, _) = change(|draft| draft.delete(BOB)).unwrap();
        let extension: &Extension = rows.get(Id::new(2)).unwrap();
        assert_eq!((extension.route_type, extension.user), (None, None));
        assert_eq!(rows.get(JOE).unwrap().extension, Some(Id::new(2)), "Joe shows it still");
        assert_eq!(
            rows.of::<Voicemail>("user", BOB.get()).count() + rows.of::<Contact>("user", BOB.get()).count(),
            0
        );
    }

    #[test]
    fn the_portal_lists_whether_a_users_voicemail_is_on() {
        let rows = sample();
        let (alice, joe): (&User, &User) = (rows.get(ALICE).unwrap(), rows.get(JOE).unwrap());
        assert_eq!((enabled(alice, &rows), enabled(joe, &rows)), (Json::Bool(true), Json::Bool(false)));
    }
}
