//! Hunt groups: several users and numbers that ring for one call.
//!
//! Manual: "Client configuration", hunt groups.

use crate::checks::{client_of_type, differs, settle_target, within_client};
use crate::prelude::*;

/// A group whose members ring together or in turn until one of them answers.
#[derive(Clone, Debug, Entity)]
#[entity(path = "hunt_groups", access = ACCESS, unique(name, company), rules)]
pub struct HuntGroup {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<HuntGroup>,
    /// What it is called in lists; once within a client.
    #[field(max = 100, default = "", client = "ldw")]
    pub name: String,
    /// Notes for administrators.
    #[field(max = 500, default = "", client = "ldw")]
    pub description: String,
    /// In which order the members ring.
    #[field(client = "ldw")]
    pub strategy: HuntGroupStrategy,
    /// Seconds for which all members ring; the strategy ringAll needs it, the others take each member's own.
    #[field(min = 0, client = "dw")]
    pub ring_all_timeout: Option<i16>,
    /// Where a call goes that no member answered. Null: it is hung up after the locution.
    #[field(client = "dw")]
    pub no_answer_target_type: Option<PlainTarget>,
    /// The external number for unanswered calls, without its country's code; only with the type number.
    #[field(max = 25, client = "dw")]
    pub no_answer_number_value: Option<String>,
    /// With 1, members never see calls of the group as missed. With 0, they do; but when all ring together
    /// and one answers, the others do not.
    #[field(high = 1, default = 1u32, client = "dw")]
    pub prevent_missed_calls: u32,
    /// With 1, what members set up for their own calls (call forwards, do not disturb, assistants) applies to
    /// calls of the group, too. With 0, it is ignored.
    #[field(high = 1, default = 0u32, client = "dw")]
    pub allow_call_forwards: u32,
    /// The client that it belongs to.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
    /// What the caller hears when no member answered. Null: nothing.
    #[field(delete = "clear", client = "dw")]
    pub no_answer_locution: Option<Id<Locution>>,
    /// The extension for unanswered calls; only with the type extension.
    #[field(delete = "clear", client = "dw")]
    pub no_answer_extension: Option<Id<Extension>>,
    /// The voicemail for unanswered calls; only with the type voicemail.
    #[field(delete = "clear", client = "dw")]
    pub no_answer_voicemail: Option<Id<Voicemail>>,
    /// The country of the external number for unanswered calls.
    #[field(delete = "clear", client = "dw")]
    pub no_answer_number_country: Option<Id<Country>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["name"])
    .company_types(&[CompanyType::Vpbx])
    .read(&[Rule::OwnCompany("company")])
    .write(&[
        Rule::OwnCompany("company"),
        Rule::VisibleOrNull("noAnswerLocution"),
        Rule::VisibleOrNull("noAnswerExtension"),
        Rule::VisibleOrNull("noAnswerVoicemail"),
    ])];

choice! {
    /// In which order the members of a hunt group ring.
    pub enum HuntGroupStrategy {
        /// All at once, for the group's ring time.
        RingAll = "ringAll",
        /// One after the other by priority, each for its own time, once.
        Linear = "linear",
        /// One after the other by priority, each for its own time, again and again until somebody answers.
        RoundRobin = "roundRobin",
        /// One after the other in a random order, each for its own time, once.
        Random = "random",
    }
}

const NO_ANSWER: &[(&str, &[&str])] = &[
    ("number", &["noAnswerNumberValue", "noAnswerNumberCountry"]),
    ("extension", &["noAnswerExtension"]),
    ("voicemail", &["noAnswerVoicemail"]),
];

impl Rules for HuntGroup {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        client_of_type(old, self.company, &[CompanyType::Vpbx], check);
        let rings_all = self.strategy == HuntGroupStrategy::RingAll;
        if rings_all && (differs(self, old, "ringAllTimeout") || differs(self, old, "strategy")) {
            let there = self.ring_all_timeout.is_some_and(|seconds| seconds > 0);
            check.require(
                there,
                "ringAllTimeout",
                "say for how many seconds the members ring, or choose another strategy",
            );
        }
        settle_target(self.no_answer_target_type, self, old, NO_ANSWER, check);
        within_client(self, old, self.company, check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(make: impl FnOnce(&mut HuntGroup)) -> Result<HuntGroup, Refusal> {
        let group = Id::new(1);
        change(|draft| draft.change(group, make)).map(|(_, rows, _)| rows.get(group).unwrap().clone())
    }

    #[test]
    fn a_group_that_rings_together_has_a_ring_time() {
        for timeout in [None, Some(0)] {
            assert!(matches!(changed(|group| group.ring_all_timeout = timeout), Err(Refusal::Invalid(_))));
        }
        let in_turn = changed(|group| {
            group.ring_all_timeout = None;
            group.strategy = HuntGroupStrategy::Linear;
        });
        assert_eq!(in_turn.unwrap().ring_all_timeout, None);
    }

    #[test]
    fn only_the_chosen_target_for_unanswered_calls_is_kept() {
        let group = changed(|group| {
            group.no_answer_target_type = Some(PlainTarget::Voicemail);
            group.no_answer_voicemail = Some(Id::new(1));
            group.no_answer_extension = Some(Id::new(1));
        });
        let group = group.unwrap();
        assert_eq!((group.no_answer_voicemail, group.no_answer_extension), (Some(Id::new(1)), None));
    }

    #[test]
    fn its_targets_are_the_clients_own() {
        let refused = changed(|group| {
            group.no_answer_target_type = Some(PlainTarget::Voicemail);
            group.no_answer_voicemail = Some(Id::new(5));
        });
        assert!(matches!(refused, Err(Refusal::Invalid(_))));
    }
}
