//! Conditional routes: where a call goes by caller, time, day and locks.
//!
//! Manual: "Client configuration", conditional routes.

use crate::checks::{client_of_type, name_is_there, settle_target, within_client};
use crate::prelude::*;

/// A route that is chosen while a call comes in: the first of its conditions that fits decides, and the
/// route's own target is for calls that fit none. DDIs, extensions and IVR entries lead to it.
#[derive(Clone, Debug, Entity)]
#[entity(path = "conditional_routes", access = ACCESS, rules)]
pub struct ConditionalRoute {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<ConditionalRoute>,
    /// What it is called in lists.
    #[field(max = 100, client = "ldw")]
    pub name: String,
    /// Where calls go that fit none of the conditions. Null: nowhere.
    #[field(client = "ldw")]
    pub routetype: Option<ConditionalTarget>,
    /// The external number that calls go to, without its country's code; only with the type number.
    #[field(max = 25, client = "ldw")]
    pub numbervalue: Option<String>,
    /// The number that is dialled at the friend which answers for it; only with the type friend.
    #[field(max = 25, client = "ldw")]
    pub friendvalue: Option<String>,
    /// The client that it belongs to.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
    /// The IVR that calls go to; only with the type ivr.
    #[field(delete = "clear", client = "ldw")]
    pub ivr: Option<Id<Ivr>>,
    /// The hunt group that calls go to; only with the type huntGroup.
    #[field(delete = "clear", client = "ldw")]
    pub hunt_group: Option<Id<HuntGroup>>,
    /// The voicemail that calls go to; only with the type voicemail.
    #[field(delete = "clear", client = "ldw")]
    pub voicemail: Option<Id<Voicemail>>,
    /// The user that calls go to; only with the type user.
    #[field(delete = "clear", client = "ldw")]
    pub user: Option<Id<User>>,
    /// The queue that calls go to; only with the type queue.
    #[field(delete = "clear", client = "ldw")]
    pub queue: Option<Id<Queue>>,
    /// What callers hear before the call goes on to the route's own target. Null: nothing.
    #[field(delete = "clear", client = "ldw")]
    pub locution: Option<Id<Locution>>,
    /// The conference room that calls go to; only with the type conferenceRoom.
    #[field(delete = "clear", client = "ldw")]
    pub conference_room: Option<Id<ConferenceRoom>>,
    /// The extension that calls go to; only with the type extension.
    #[field(delete = "clear", client = "ldw")]
    pub extension: Option<Id<Extension>>,
    /// The country of the external number.
    #[field(delete = "clear", client = "ldw")]
    pub number_country: Option<Id<Country>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["name"])
    .company_types(&[CompanyType::Vpbx])
    .read(&[Rule::OwnCompany("company")])
    .write(&[
        Rule::OwnCompany("company"),
        Rule::VisibleOrNull("extension"),
        Rule::VisibleOrNull("huntGroup"),
        Rule::VisibleOrNull("user"),
        Rule::VisibleOrNull("queue"),
        Rule::VisibleOrNull("locution"),
        Rule::VisibleOrNull("conferenceRoom"),
        Rule::VisibleOrNull("ivr"),
        Rule::VisibleOrNull("voicemail"),
    ])];

const TARGETS: &[(&str, &[&str])] = &[
    ("user", &["user"]),
    ("number", &["numbervalue", "numberCountry"]),
    ("ivr", &["ivr"]),
    ("huntGroup", &["huntGroup"]),
    ("voicemail", &["voicemail"]),
    ("friend", &["friendvalue"]),
    ("queue", &["queue"]),
    ("conferenceRoom", &["conferenceRoom"]),
    ("extension", &["extension"]),
];

impl Rules for ConditionalRoute {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        name_is_there(self, old, check);
        client_of_type(old, self.company, &[CompanyType::Vpbx], check);
        settle_target(self.routetype, self, old, TARGETS, check);
        within_client(self, old, self.company, check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(make: impl FnOnce(&mut ConditionalRoute)) -> Result<ConditionalRoute, Refusal> {
        let route = Id::new(1);
        change(|draft| draft.change(route, make)).map(|(_, rows, _)| rows.get(route).unwrap().clone())
    }

    #[test]
    fn only_the_chosen_target_is_kept() {
        let route = changed(|route| {
            route.routetype = Some(ConditionalTarget::Number);
            route.numbervalue = Some("946002050".to_owned());
            route.number_country = Some(Id::new(68));
            route.friendvalue = Some("301".to_owned());
            route.locution = Some(Id::new(1));
        });
        let route = route.unwrap();
        assert_eq!(route.numbervalue.as_deref(), Some("946002050"));
        assert_eq!(route.number_country, Some(Id::new(68)));
        assert_eq!((route.user, route.friendvalue), (None, None));
        assert_eq!(route.locution, Some(Id::new(1)), "a locution is no target");
    }

    #[test]
    fn its_targets_are_the_clients_own() {
        let to = |voicemail| {
            changed(|route| {
                route.routetype = Some(ConditionalTarget::Voicemail);
                route.voicemail = Some(Id::new(voicemail));
            })
        };
        assert!(to(3).is_ok());
        assert!(matches!(to(5), Err(Refusal::Invalid(_))));
    }
}
