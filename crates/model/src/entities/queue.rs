//! Queues: callers who wait until one of the members is free.
//!
//! Manual: "Client configuration", queues.

use crate::checks::{client_of_type, differs, settle_target, within_client};
use crate::prelude::*;

/// A line of waiting callers that is served by members.
#[derive(Clone, Debug, Entity)]
#[entity(path = "queues", access = ACCESS, unique(company, name), rules)]
pub struct Queue {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<Queue>,
    /// What it is called in lists: letters, digits, underscores and hyphens; once within a client.
    #[field(max = 128, client = "ldw")]
    pub name: Option<String>,
    /// What members' telephones show with the caller, so that they know the queue. Null: nothing is added.
    #[field(max = 50, client = "dw")]
    pub display_name: Option<String>,
    /// Most seconds that a caller waits. Null: no limit.
    #[field(min = 0, client = "ldw")]
    pub max_wait_time: Option<i32>,
    /// Where callers go who waited too long. Null: they are hung up after the locution.
    #[field(client = "dw")]
    pub timeout_target_type: Option<PlainTarget>,
    /// The external number for callers who waited too long, without its country's code; only with the type
    /// number.
    #[field(max = 25, client = "dw")]
    pub timeout_number_value: Option<String>,
    /// Most callers who wait at the same time. Null: no limit.
    #[field(min = 0, client = "ldw")]
    pub maxlen: Option<i32>,
    /// Where callers go who find the queue full. Null: they are hung up after the locution.
    #[field(client = "dw")]
    pub full_target_type: Option<PlainTarget>,
    /// The external number for callers who find the queue full, without its country's code; only with the
    /// type number.
    #[field(max = 25, client = "dw")]
    pub full_number_value: Option<String>,
    /// Seconds between two playings of the announcement to those who wait. Null or 0: it is not repeated.
    #[field(min = 0, client = "dw")]
    pub periodic_announce_frequency: Option<i32>,
    /// Callers are told their place in the line when they enter, and from time to time.
    #[field(default = YesNo::No, client = "dw")]
    pub announce_position: Option<YesNo>,
    /// Seconds between two announcements of the place in the line. Null or 0: it is not repeated.
    #[field(min = 0, client = "dw")]
    pub announce_frequency: Option<i32>,
    /// Seconds that a member is left alone after a call.
    #[field(min = 0, client = "ldw")]
    pub member_call_rest: Option<i32>,
    /// Seconds for which a member's telephone rings.
    #[field(min = 0, client = "ldw")]
    pub member_call_timeout: Option<i32>,
    /// Which member gets the next call.
    #[field(client = "ldw")]
    pub strategy: Option<QueueStrategy>,
    /// How much the queue's calls matter to members who serve several queues: the highest comes first.
    #[field(min = 0, client = "ldw")]
    pub weight: Option<i32>,
    /// With 1, members never see calls of the queue as missed. With 0, they do; but when all ring together
    /// and one answers, the others do not.
    #[field(high = 1, default = 1u32, client = "dw")]
    pub prevent_missed_calls: u32,
    /// The client that it belongs to.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
    /// The announcement that is repeated to those who wait. Null: none.
    #[field(delete = "clear", client = "dw")]
    pub periodic_announce_locution: Option<Id<Locution>>,
    /// What callers hear who waited too long. Null: nothing.
    #[field(delete = "clear", client = "dw")]
    pub timeout_locution: Option<Id<Locution>>,
    /// The extension for callers who waited too long; only with the type extension.
    #[field(delete = "clear", client = "dw")]
    pub timeout_extension: Option<Id<Extension>>,
    /// The voicemail for callers who waited too long; only with the type voicemail.
    #[field(delete = "clear", client = "dw")]
    pub timeout_voicemail: Option<Id<Voicemail>>,
    /// What callers hear who find the queue full. Null: nothing.
    #[field(delete = "clear", client = "dw")]
    pub full_locution: Option<Id<Locution>>,
    /// The extension for callers who find the queue full; only with the type extension.
    #[field(delete = "clear", client = "dw")]
    pub full_extension: Option<Id<Extension>>,
    /// The voicemail for callers who find the queue full; only with the type voicemail.
    #[field(delete = "clear", client = "dw")]
    pub full_voicemail: Option<Id<Voicemail>>,
    /// The country of the external number for callers who waited too long.
    #[field(delete = "clear", client = "dw")]
    pub timeout_number_country: Option<Id<Country>>,
    /// The country of the external number for callers who find the queue full.
    #[field(delete = "clear", client = "dw")]
    pub full_number_country: Option<Id<Country>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["name"])
    .company_feature("queues")
    .company_types(&[CompanyType::Vpbx])
    .read(&[Rule::OwnCompany("company")])
    .write(&[
        Rule::OwnCompany("company"),
        Rule::VisibleOrNull("periodicAnnounceLocution"),
        Rule::VisibleOrNull("timeoutLocution"),
        Rule::VisibleOrNull("timeoutExtension"),
        Rule::VisibleOrNull("timeoutVoicemail"),
        Rule::VisibleOrNull("fullLocution"),
        Rule::VisibleOrNull("fullExtension"),
        Rule::VisibleOrNull("fullVoicemail"),
    ])];

choice! {
    /// Which member of a queue gets the next call, among those of the lowest penalty with somebody free.
    pub enum QueueStrategy {
        /// All of them ring.
        RingAll = "ringall",
        /// The one whose last call is longest ago.
        LeastRecent = "leastrecent",
        /// The one who took the fewest calls.
        FewestCalls = "fewestcalls",
        /// Any of them, by chance.
        Random = "random",
        /// In turn, beginning after the one who took the last call.
        RoundRobinMemory = "rrmemory",
        /// In turn, always beginning with the one who was added first.
        Linear = "linear",
        /// Any of them by chance, more often the lower the penalty.
        WeightedRandom = "wrandom",
        /// In turn like rrmemory, and the order of members stays as it was set.
        RoundRobinOrdered = "rrordered",
    }
}

const TIMEOUT: &[(&str, &[&str])] = &[
    ("number", &["timeoutNumberValue", "timeoutNumberCountry"]),
    ("extension", &["timeoutExtension"]),
    ("voicemail", &["timeoutVoicemail"]),
];

const FULL: &[(&str, &[&str])] = &[
    ("number", &["fullNumberValue", "fullNumberCountry"]),
    ("extension", &["fullExtension"]),
    ("voicemail", &["fullVoicemail"]),
];

impl Rules for Queue {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        client_of_type(old, self.company, &[CompanyType::Vpbx], check);
        if differs(self, old, "name") {
            let name = self.name.as_deref().unwrap_or_default();
            let right =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
            check.require(right, "name", "write letters, digits, underscores and hyphens only");
        }
        self.max_wait_time.take_if(|seconds| *seconds == 0);
        self.maxlen.take_if(|callers| *callers == 0);
        settle_target(self.timeout_target_type, self, old, TIMEOUT, check);
        settle_target(self.full_target_type, self, old, FULL, check);
        within_client(self, old, self.company, check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(make: impl FnOnce(&mut Queue)) -> Result<Queue, Refusal> {
        let queue = Id::new(1);
        change(|draft| draft.change(queue, make)).map(|(_, rows, _)| rows.get(queue).unwrap().clone())
    }

    #[test]
    fn a_name_is_letters_digits_underscores_and_hyphens() {
        assert!(changed(|queue| queue.name = Some("sales_2-a".to_owned())).is_ok());
        for wrong in [None, Some(""), Some("my queue"), Some("ventas\u{e1}")] {
            let refused = changed(|queue| queue.name = wrong.map(str::to_owned));
            assert!(matches!(refused, Err(Refusal::Invalid(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_limit_of_0_is_none() {
        let queue = changed(|queue| (queue.max_wait_time, queue.maxlen) = (Some(0), Some(0))).unwrap();
        assert_eq!((queue.max_wait_time, queue.maxlen), (None, None));
        let queue = changed(|queue| (queue.max_wait_time, queue.maxlen) = (Some(1), Some(2))).unwrap();
        assert_eq!((queue.max_wait_time, queue.maxlen), (Some(1), Some(2)));
    }

    #[test]
    fn each_case_keeps_the_target_that_it_chose() {
        let queue = changed(|queue| {
            queue.timeout_target_type = Some(PlainTarget::Extension);
            queue.timeout_extension = Some(Id::new(1));
        });
        let queue = queue.unwrap();
        assert_eq!((queue.timeout_extension, queue.timeout_number_country), (Some(Id::new(1)), None));
        assert_eq!(queue.full_number_value.as_deref(), Some("946002021"));
    }

    #[test]
    fn its_targets_are_the_clients_own() {
        let refused = changed(|queue| {
            queue.full_target_type = Some(PlainTarget::Voicemail);
            queue.full_voicemail = Some(Id::new(5));
        });
        assert!(matches!(refused, Err(Refusal::Invalid(_))));
    }
}
