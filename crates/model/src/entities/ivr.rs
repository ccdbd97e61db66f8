//! IVRs: menus in which callers choose by pressing keys.
//!
//! Manual: "Client configuration", IVRs.

use crate::checks::{client_of_type, name_is_there, settle_target, within_client};
use crate::prelude::*;

/// A spoken menu: it plays a locution, collects the keys that the caller presses, and follows the entry that
/// fits them.
#[derive(Clone, Debug, Entity)]
#[entity(path = "ivrs", access = ACCESS, computed = COMPUTED, unique(name, company), rules)]
pub struct Ivr {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<Ivr>,
    /// What it is called in lists; once within a client.
    #[field(max = 50, client = "ldw")]
    pub name: String,
    /// Seconds that the caller has for pressing keys.
    #[field(client = "ldw")]
    pub timeout: u16,
    /// Most digits that are collected. 0: no limit.
    #[field(client = "dw")]
    pub max_digits: u16,
    /// Callers may dial an extension of the client instead of an entry, unless it is excluded.
    #[field(default = false, client = "ldw")]
    pub allow_extensions: bool,
    /// Where calls go whose caller pressed nothing in time. Null: they are hung up after the locution.
    #[field(client = "ldw")]
    pub no_input_route_type: Option<PlainTarget>,
    /// The external number for callers who pressed nothing, without its country's code; only with the type
    /// number.
    #[field(max = 25, client = "ldw")]
    pub no_input_number_value: Option<String>,
    /// Where calls go whose keys fit neither an entry nor an allowed extension. Null: they are hung up after
    /// the locution.
    #[field(client = "ldw")]
    pub error_route_type: Option<PlainTarget>,
    /// The external number for wrong keys, without its country's code; only with the type number.
    #[field(max = 25, client = "ldw")]
    pub error_number_value: Option<String>,
    /// The client that it belongs to.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
    /// The menu itself: what callers hear first. Null: nothing.
    #[field(delete = "clear", client = "dw")]
    pub welcome_locution: Option<Id<Locution>>,
    /// What callers hear who pressed nothing. Null: nothing.
    #[field(delete = "clear", client = "ldw")]
    pub no_input_locution: Option<Id<Locution>>,
    /// What callers hear after wrong keys. Null: nothing.
    #[field(delete = "clear", client = "ldw")]
    pub error_locution: Option<Id<Locution>>,
    /// What callers hear before they are put through, unless the entry has a locution of its own. Null:
    /// nothing.
    #[field(delete = "clear", client = "ldw")]
    pub success_locution: Option<Id<Locution>>,
    /// The extension for callers who pressed nothing; only with the type extension.
    #[field(delete = "clear", client = "ldw")]
    pub no_input_extension: Option<Id<Extension>>,
    /// The extension for wrong keys; only with the type extension.
    #[field(delete = "clear", client = "ldw")]
    pub error_extension: Option<Id<Extension>>,
    /// The voicemail for callers who pressed nothing; only with the type voicemail.
    #[field(delete = "clear", client = "ldw")]
    pub no_input_voicemail: Option<Id<Voicemail>>,
    /// The voicemail for wrong keys; only with the type voicemail.
    #[field(delete = "clear", client = "ldw")]
    pub error_voicemail: Option<Id<Voicemail>>,
    /// The country of the external number for callers who pressed nothing.
    #[field(delete = "clear", client = "ldw")]
    pub no_input_number_country: Option<Id<Country>>,
    /// The country of the external number for wrong keys.
    #[field(delete = "clear", client = "ldw")]
    pub error_number_country: Option<Id<Country>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["name"])
    .company_types(&[CompanyType::Vpbx])
    .create_expands()
    .read(&[Rule::OwnCompany("company")])
    .write(&[
        Rule::OwnCompany("company"),
        Rule::VisibleOrNull("errorExtension"),
        Rule::VisibleOrNull("errorLocution"),
        Rule::VisibleOrNull("welcomeLocution"),
        Rule::VisibleOrNull("noInputLocution"),
        Rule::VisibleOrNull("successLocution"),
        Rule::VisibleOrNull("noInputVoicemail"),
        Rule::VisibleOrNull("errorVoicemail"),
        Rule::VisibleOrNull("noInputExtension"),
    ])];

const COMPUTED: &[Computed] = &[Computed::new(
    "excludedExtensionIds",
    "Extensions that callers may not dial here. Writing them replaces the whole set.",
    How::Pairs(IvrExcludedExtension::definition, "ivr", "extension"),
)
.at(Level::Client, "dw")];

const NO_INPUT: &[(&str, &[&str])] = &[
    ("number", &["noInputNumberValue", "noInputNumberCountry"]),
    ("extension", &["noInputExtension"]),
    ("voicemail", &["noInputVoicemail"]),
];

const ERROR: &[(&str, &[&str])] = &[
    ("number", &["errorNumberValue", "errorNumberCountry"]),
    ("extension", &["errorExtension"]),
    ("voicemail", &["errorVoicemail"]),
];

impl Rules for Ivr {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        name_is_there(self, old, check);
        client_of_type(old, self.company, &[CompanyType::Vpbx], check);
        settle_target(self.no_input_route_type, self, old, NO_INPUT, check);
        settle_target(self.error_route_type, self, old, ERROR, check);
        within_client(self, old, self.company, check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(make: impl FnOnce(&mut Ivr)) -> Result<Ivr, Refusal> {
        let ivr = Id::new(1);
        change(|draft| draft.change(ivr, make)).map(|(_, rows, _)| rows.get(ivr).unwrap().clone())
    }

    #[test]
    fn each_case_keeps_the_target_that_it_chose() {
        let ivr = changed(|ivr| {
            ivr.no_input_route_type = Some(PlainTarget::Extension);
            ivr.no_input_extension = Some(Id::new(1));
            ivr.error_route_type = None;
        });
        let ivr = ivr.unwrap();
        assert_eq!(ivr.no_input_extension, Some(Id::new(1)));
        assert_eq!(
            (ivr.no_input_number_value, ivr.no_input_number_country, ivr.error_voicemail),
            (None, None, None)
        );
    }

    #[test]
    fn its_targets_are_the_clients_own() {
        assert!(changed(|ivr| ivr.error_voicemail = Some(Id::new(3))).is_ok());
        assert!(matches!(changed(|ivr| ivr.error_voicemail = Some(Id::new(5))), Err(Refusal::Invalid(_))));
    }
}
