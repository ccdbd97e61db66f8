//! Voicemails: where callers leave messages for a user, a residential device or the client as a whole (manual 10.1.11).
//!
//! In: users and residential devices, whose voicemails follow them. Elsewhere: messages ([`VoicemailMessage`]).

use crate::checks::{self, keeps_to_company, needs_company_type};
use crate::prelude::*;

/// A voicemail. Every user and every residential device has one, which comes and goes with its owner; a
/// client may add generic ones and share them with users.
#[derive(Clone, Debug, Entity)]
#[entity(path = "voicemails", access = ACCESS, computed = COMPUTED, rules, unique(user), unique(residential_device))]
pub struct Voicemail {
    /// The voicemail's number in the API.
    #[field(client = "ld", user = "ld")]
    pub id: Id<Voicemail>,
    /// It takes messages, and is offered where a route is chosen.
    #[field(default = true, client = "ldw", user = "ldw")]
    pub enabled: bool,
    /// Shown where a voicemail is chosen. An owner's name replaces it whenever the owner is saved.
    #[field(max = 200, client = "ldw", user = "ld")]
    pub name: String,
    /// Where new messages are announced; for a user's voicemail it is the user's address. Null or empty:
    /// nowhere.
    #[field(max = 200, client = "ldw", user = "ld")]
    pub email: Option<String>,
    /// Every new message is announced by e-mail.
    #[field(default = false, client = "dw", user = "dw")]
    pub send_mail: bool,
    /// The e-mail carries the message itself.
    #[field(default = true, client = "dw", user = "dw")]
    pub attach_sound: bool,
    /// The client.
    #[field(delete = "cascade", index, client = "dw")]
    pub company: Id<Company>,
    /// Played to callers who were forwarded here; null: what the owner recorded, or the platform's
    /// greeting.
    #[field(delete = "clear", client = "dw")]
    pub locution: Option<Id<Locution>>,
    /// The user whose voicemail it is.
    #[field(delete = "cascade", index, client = "ld")]
    pub user: Option<Id<User>>,
    /// The residential device whose voicemail it is. Null, as the user: a generic voicemail of the client.
    #[field(delete = "cascade", client = "ld")]
    pub residential_device: Option<Id<ResidentialDevice>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Client, "lgcud")
        .acl()
        .order(&["name"])
        .company_types(&[CompanyType::Vpbx, CompanyType::Residential])
        .read(&[Rule::OwnCompany("company")])
        .write(&[Rule::All(&[
            Rule::OwnCompany("company"),
            Rule::VisibleOrNull("user"),
            Rule::VisibleOrNull("residentialDevice"),
            Rule::VisibleOrNull("locution"),
        ])])
        .delete(&[Rule::All(&[Rule::Null("user"), Rule::Null("residentialDevice")])]),
    Access::at(Level::User, "gu").read(&[Rule::Any(&[Rule::Myself("user"), Rule::Where(shared_with_me)])]),
];

const COMPUTED: &[Computed] = &[
    Computed::new(
        "relUserIds",
        "The users that a generic voicemail is shared with.",
        How::Pairs(VoicemailRelUser::definition, "voicemail", "user"),
    )
    .at(Level::Client, "dw"),
    Computed::new(
        "generic",
        "Whether it is a voicemail of the client rather than of a user or a device.",
        How::Derived(generic),
    )
    .at(Level::User, "ldnw"),
];

fn shared_with_me(row: &dyn Record, caller: &Caller, rows: &Rows) -> bool {
    paired::<VoicemailRelUser>(rows, "user", caller.user.unwrap_or(0), "voicemail", row.id())
}

fn generic(row: &dyn Record, _: &Rows) -> Json {
    Json::Bool(row.cast::<Voicemail>().is_some_and(Voicemail::is_generic))
}

impl Voicemail {
    /// Whether it belongs to the client rather than to a user or a device.
    pub fn is_generic(&self) -> bool {
        self.user.is_none() && self.residential_device.is_none()
    }
}

impl Rules for Voicemail {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let types = [CompanyType::Vpbx, CompanyType::Residential];
        needs_company_type(self.company, old.map(|old| old.company), &types, check);
        let one_owner = self.user.is_none() || self.residential_device.is_none();
        check.require(
            one_owner,
            "residentialDevice",
            "a voicemail belongs to a user or to a device, not to both",
        );
        if old.is_none_or(|old| old.name != self.name) {
            check.require(!self.name.trim().is_empty(), "name", "a voicemail needs a name");
        }
        if old.is_none_or(|old| old.email != self.email) {
            let email = self.email.as_deref().filter(|email| !email.is_empty());
            check.require(
                email.is_none_or(checks::email),
                "email",
                "it is no e-mail address; write name@example.com",
            );
        }
        keeps_to_company(self, old, check, &["locution", "user", "residentialDevice"]);
    }

    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        super::extension::forget_in_ivrs(self.company, "Voicemail", self.id.get(), draft)
    }
}

/// Makes the user's voicemail, or keeps it in step with the user.
pub(crate) fn follow_user(user: &User, draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let found = draft.rows().of::<Voicemail>("user", user.id.get()).next().cloned();
    let new = Voicemail { company: user.company, user: Some(user.id), ..Voicemail::default() };
    let voicemail = Voicemail { email: user.email.clone(), ..found.unwrap_or(new) };
    follow(voicemail, &user.full_name(), draft)
}

/// Makes the device's voicemail, or keeps it in step with the device.
pub(crate) fn follow_device(device: &ResidentialDevice, draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let found = draft.rows().of::<Voicemail>("residentialDevice", device.id.get()).next().cloned();
    let new =
        Voicemail { company: device.company, residential_device: Some(device.id), ..Voicemail::default() };
    follow(found.unwrap_or(new), &device.name, draft)
}

fn follow(mut voicemail: Voicemail, name: &str, draft: &mut Draft<'_>) -> Result<(), Refusal> {
    const LONGEST: usize = 200;
    voicemail.name = name.chars().take(LONGEST).collect();
    if voicemail.id.get() == 0 {
        return draft.create(voicemail).map(|_| ());
    }
    draft.put(Box::new(voicemail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, change_on, sample};

    const GENERIC: Id<Voicemail> = Id::new(3);

    fn voicemail() -> Voicemail {
        Voicemail { name: "Desk".into(), company: Id::new(1), ..Voicemail::default() }
    }

    fn refused_field(voicemail: Voicemail) -> String {
        match change(|draft| draft.create(voicemail)).unwrap_err() {
            Refusal::Invalid(mistakes) => mistakes[0].field.clone(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_generic_voicemail_has_no_owner() {
        let rows = sample();
        let owned: &Voicemail = rows.get(Id::new(1)).unwrap();
        let device: &Voicemail = rows.get(Id::new(2)).unwrap();
        let shown = |voicemail: &Voicemail| generic(voicemail, &rows);
        assert_eq!(shown(rows.get(GENERIC).unwrap()), Json::Bool(true));
        assert_eq!((shown(owned), shown(device)), (Json::Bool(false), Json::Bool(false)));
    }

    #[test]
    fn virtual_pbx_and_residential_clients_have_voicemails() {
        change(|draft| draft.create(voicemail())).unwrap();
        change(|draft| draft.create(Voicemail { company: Id::new(4), ..voicemail() })).unwrap();
        assert_eq!(refused_field(Voicemail { company: Id::new(3), ..voicemail() }), "company");
    }

    #[test]
    fn names_addresses_and_announcements_are_checked() {
        assert_eq!(refused_field(Voicemail { name: " ".into(), ..voicemail() }), "name");
        assert_eq!(refused_field(Voicemail { email: Some("desk".into()), ..voicemail() }), "email");
        let foreign = Voicemail { company: Id::new(2), locution: Some(Id::new(1)), ..voicemail() };
        assert_eq!(refused_field(foreign), "locution");
    }

    #[test]
    fn a_voicemail_has_one_owner() {
        let mut row = voicemail();
        (row.user, row.residential_device) = (Some(Id::new(3)), Some(Id::new(2)));
        assert_eq!(refused_field(row), "residentialDevice");
    }

    #[test]
    fn a_voicemail_that_goes_leaves_no_route_in_an_ivr() {
        let mut rows = sample();
        let mut ivr = rows.get::<Ivr>(Id::new(1)).unwrap().clone();
        (ivr.no_input_route_type, ivr.no_input_voicemail) = (Some(PlainTarget::Voicemail), Some(GENERIC));
        rows.insert(std::sync::Arc::new(ivr));
        let ((), rows, _) = change_on(&rows, |draft| draft.delete(GENERIC)).unwrap();
        let ivr: &Ivr = rows.get(Id::new(1)).unwrap();
        assert_eq!((ivr.no_input_route_type, ivr.no_input_voicemail), (None, None));
    }
}
