//! The entries of an IVR: which keys lead where.
//!
//! Manual: "Client configuration", IVR entries.

use crate::checks::{differs, settle_target, within_client};
use crate::pattern::pattern;
use crate::prelude::*;

/// A choice in an IVR: the keys to press and where they lead.
#[derive(Clone, Debug, Entity)]
#[entity(path = "ivr_entries", access = ACCESS, unique(ivr, entry), rules)]
pub struct IvrEntry {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<IvrEntry>,
    /// The keys: digits alone stand for themselves, anything else is a regular expression that the pressed
    /// keys must match. Once within an IVR.
    #[field(max = 40, client = "ldw")]
    pub entry: String,
    /// What called telephones show with the caller, so that who answers knows the choice. Null: nothing is
    /// added.
    #[field(max = 50, client = "ldw")]
    pub display_name: Option<String>,
    /// Where the choice leads.
    #[field(client = "ldw")]
    pub route_type: IvrEntryRouteType,
    /// The external number, without its country's code; only with the type number.
    #[field(max = 25, client = "ldw")]
    pub number_value: Option<String>,
    /// The IVR.
    #[field(delete = "cascade", index, client = "ldw")]
    pub ivr: Id<Ivr>,
    /// What the caller hears before being put through, in place of the IVR's success locution. Null: that
    /// one.
    #[field(delete = "clear", client = "ldw")]
    pub welcome_locution: Option<Id<Locution>>,
    /// The extension; only with the type extension. The entry is deleted together with it.
    #[field(delete = "cascade", client = "ldw")]
    pub extension: Option<Id<Extension>>,
    /// The voicemail; only with the type voicemail. The entry is deleted together with it.
    #[field(delete = "cascade", client = "ldw")]
    pub voicemail: Option<Id<Voicemail>>,
    /// The conditional route; only with the type conditional. The entry is deleted together with it.
    #[field(delete = "cascade", client = "ldw")]
    pub conditional_route: Option<Id<ConditionalRoute>>,
    /// The country of the external number.
    #[field(delete = "clear", client = "ldw")]
    pub number_country: Option<Id<Country>>,
}

const ACCESS: &[Access] =
    &[Access::at(Level::Client, "lgcud").acl().order(&["entry"]).read(&[Rule::Visible("ivr")]).write(&[
        Rule::Visible("ivr"),
        Rule::VisibleOrNull("extension"),
        Rule::VisibleOrNull("welcomeLocution"),
        Rule::VisibleOrNull("conditionalRoute"),
        Rule::VisibleOrNull("voicemail"),
    ])];

choice! {
    /// Where a choice in an IVR leads.
    pub enum IvrEntryRouteType {
        /// An external number.
        Number = "number",
        /// An extension.
        Extension = "extension",
        /// A voicemail.
        Voicemail = "voicemail",
        /// A conditional route.
        Conditional = "conditional",
    }
}

const TARGETS: &[(&str, &[&str])] = &[
    ("number", &["numberValue", "numberCountry"]),
    ("extension", &["extension"]),
    ("voicemail", &["voicemail"]),
    ("conditional", &["conditionalRoute"]),
];

impl Rules for IvrEntry {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        self.check_keys(old, check);
        settle_target(Some(self.route_type), self, old, TARGETS, check);
        within_client(self, old, check.rows.get(self.ivr).map(|ivr| ivr.company), check);
    }
}

impl IvrEntry {
    fn check_keys(&self, old: Option<&Self>, check: &mut Check<'_>) {
        if !differs(self, old, "entry") {
            return;
        }
        if self.entry.trim().is_empty() {
            check.wrong("entry", "write the keys to press, or a regular expression for them");
        } else if let Err(fault) = pattern(&self.entry) {
            check.wrong("entry", format!("it is neither digits nor a regular expression: {fault}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn entry(keys: &str) -> IvrEntry {
        IvrEntry {
            entry: keys.to_owned(),
            route_type: IvrEntryRouteType::Conditional,
            conditional_route: Some(Id::new(1)),
            ivr: Id::new(1),
            ..IvrEntry::default()
        }
    }

    fn made(entry: IvrEntry) -> Result<IvrEntry, Refusal> {
        change(|draft| draft.create(entry)).map(|(id, rows, _)| rows.get(id).unwrap().clone())
    }

    #[test]
    fn keys_are_digits_or_a_regular_expression() {
        for right in ["1", "007", "[2-4]", "^9[0-9]{2}$", r"\*1"] {
            assert!(made(entry(right)).is_ok(), "{right}");
        }
        for wrong in ["", " ", "*", "[1"] {
            assert!(matches!(made(entry(wrong)), Err(Refusal::Invalid(_))), "{wrong}");
        }
    }

    #[test]
    fn only_the_chosen_target_is_kept() {
        let both = IvrEntry { extension: Some(Id::new(1)), number_value: Some("1".to_owned()), ..entry("1") };
        let kept = made(both).unwrap();
        assert_eq!(kept.conditional_route, Some(Id::new(1)));
        assert_eq!((kept.extension, kept.number_value), (None, None));
    }

    #[test]
    fn its_targets_are_those_of_the_ivrs_client() {
        let to = |voicemail| {
            let route_type = IvrEntryRouteType::Voicemail;
            made(IvrEntry { route_type, voicemail: Some(Id::new(voicemail)), ..entry("1") })
        };
        assert!(to(1).is_ok());
        assert!(matches!(to(5), Err(Refusal::Invalid(_))));
    }
}
