//! The conditions of a conditional route, each with a target of its own.
//!
//! Manual: "Client configuration", conditional routes.

use crate::checks::{settle_target, within_client};
use crate::prelude::*;

/// A condition of a conditional route. It fits when each kind of criterion that it uses is met: one of its
/// match lists has the caller, one of its schedules holds now, today is a holiday in one of its calendars,
/// one of its locks is open.
#[derive(Clone, Debug, Entity)]
#[entity(path = "conditional_routes_conditions", access = ACCESS, computed = COMPUTED, unique(conditional_route, priority), rules)]
pub struct ConditionalRoutesCondition {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<ConditionalRoutesCondition>,
    /// Its place among the conditions: the lowest is looked at first. Once within a conditional route.
    #[field(default = 1i16, client = "ldw")]
    pub priority: i16,
    /// Where calls go that fit the condition. Null: nowhere.
    #[field(client = "ldw")]
    pub route_type: Option<ConditionalTarget>,
    /// The external number that calls go to, without its country's code; only with the type number.
    #[field(max = 25, client = "ldw")]
    pub number_value: Option<String>,
    /// The number that is dialled at the friend which answers for it; only with the type friend.
    #[field(max = 25, client = "ldw")]
    pub friend_value: Option<String>,
    /// The conditional route that the condition is part of.
    #[field(delete = "cascade", index, client = "dw")]
    pub conditional_route: Id<ConditionalRoute>,
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
    /// What callers hear when the condition fits, before the call goes on. Null: nothing.
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
    .order(&["priority"])
    .create_expands()
    .read(&[Rule::Visible("conditionalRoute")])
    .write(&[
        Rule::Visible("conditionalRoute"),
        Rule::VisibleOrNull("extension"),
        Rule::VisibleOrNull("huntGroup"),
        Rule::VisibleOrNull("user"),
        Rule::VisibleOrNull("queue"),
        Rule::VisibleOrNull("locution"),
        Rule::VisibleOrNull("conferenceRoom"),
    ])];

const COMPUTED: &[Computed] = &[
    Computed::new(
        "calendarIds",
        "Calendars, one of which must have a holiday now; empty: any day. Writing them replaces the whole set.",
        How::Pairs(ConditionalRoutesConditionsRelCalendar::definition, "condition", "calendar"),
    )
    .at(Level::Client, "dw"),
    Computed::new(
        "matchListIds",
        "Match lists, one of which must have the caller's number; empty: any caller. Writing them replaces the whole set.",
        How::Pairs(ConditionalRoutesConditionsRelMatchlist::definition, "condition", "matchlist"),
    )
    .at(Level::Client, "dw"),
    Computed::new(
        "routeLockIds",
        "Route locks, one of which must be open; empty: locks do not matter. Writing them replaces the whole set.",
        How::Pairs(ConditionalRoutesConditionsRelRouteLock::definition, "condition", "routeLock"),
    )
    .at(Level::Client, "dw"),
    Computed::new(
        "scheduleIds",
        "Schedules, one of which must hold now; empty: any time. Writing them replaces the whole set.",
        How::Pairs(ConditionalRoutesConditionsRelSchedule::definition, "condition", "schedule"),
    )
    .at(Level::Client, "dw"),
];

const TARGETS: &[(&str, &[&str])] = &[
    ("user", &["user"]),
    ("number", &["numberValue", "numberCountry"]),
    ("ivr", &["ivr"]),
    ("huntGroup", &["huntGroup"]),
    ("voicemail", &["voicemail"]),
    ("friend", &["friendValue"]),
    ("queue", &["queue"]),
    ("conferenceRoom", &["conferenceRoom"]),
    ("extension", &["extension"]),
];

impl Rules for ConditionalRoutesCondition {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        settle_target(self.route_type, self, old, TARGETS, check);
        within_client(self, old, self.client(check.rows), check);
    }
}

impl ConditionalRoutesCondition {
    /// The client whose conditional route it is part of.
    pub fn client(&self, rows: &Rows) -> Option<Id<Company>> {
        rows.get(self.conditional_route).map(|route| route.company)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(
        make: impl FnOnce(&mut ConditionalRoutesCondition),
    ) -> Result<ConditionalRoutesCondition, Refusal> {
        let condition = Id::new(1);
        change(|draft| draft.change(condition, make)).map(|(_, rows, _)| rows.get(condition).unwrap().clone())
    }

    #[test]
    fn only_the_chosen_target_is_kept() {
        let condition = changed(|condition| {
            condition.route_type = Some(ConditionalTarget::Friend);
            condition.friend_value = Some("301".to_owned());
            condition.number_value = Some("not looked at".to_owned());
            condition.ivr = Some(Id::new(1));
        });
        let condition = condition.unwrap();
        assert_eq!(condition.friend_value.as_deref(), Some("301"));
        assert_eq!((condition.number_value, condition.ivr), (None, None));
    }

    #[test]
    fn its_targets_are_those_of_the_routes_client() {
        let to = |voicemail| {
            changed(|condition| {
                condition.route_type = Some(ConditionalTarget::Voicemail);
                condition.voicemail = Some(Id::new(voicemail));
            })
        };
        assert!(to(1).is_ok());
        assert!(matches!(to(5), Err(Refusal::Invalid(_))));
    }
}
