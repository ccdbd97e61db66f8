//! The patterns of outgoing DDI rules: destinations and dialled prefixes.
//!
//! Manual: "Client configuration", outgoing DDI rules.

use crate::checks::{differs, digits, within_client};
use crate::prelude::*;

/// A part of an outgoing DDI rule: which calls it is about and which number they show.
#[derive(Clone, Debug, Entity)]
#[entity(path = "outgoing_ddi_rules_patterns", access = ACCESS, unique(outgoing_ddi_rule, priority), rules)]
pub struct OutgoingDdiRulesPattern {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<OutgoingDdiRulesPattern>,
    /// Whether it looks at the called number or at a prefix that the caller dials before it.
    #[field(name = "type", client = "ldw")]
    pub kind: OutgoingDdiRulesPatternKind,
    /// The prefix: one to three digits and an asterisk, as in 111*; only with the type prefix.
    #[field(max = 10, client = "ldw")]
    pub prefix: Option<String>,
    /// What happens to the number that the call shows.
    #[field(client = "ldw")]
    pub action: DdiAction,
    /// Its place among the patterns: the lowest is looked at first, and the first that fits decides. Once
    /// within a rule.
    #[field(default = 1i16, client = "ldw")]
    pub priority: i16,
    /// The outgoing DDI rule.
    #[field(delete = "cascade", index, client = "ldw")]
    pub outgoing_ddi_rule: Id<OutgoingDdiRule>,
    /// The called numbers: a match list of the client or one that its brand offers; only with the type
    /// destination.
    #[field(delete = "cascade", client = "ldw")]
    pub match_list: Option<Id<MatchList>>,
    /// The number to show when the action is to force one. Null: the client's outgoing DDI.
    #[field(delete = "clear", client = "ldw")]
    pub forced_ddi: Option<Id<Ddi>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["priority", "type", "matchList.name"])
    .list_expands()
    .create_expands()
    .read(&[Rule::Visible("outgoingDdiRule")])
    .write(&[
        Rule::Visible("outgoingDdiRule"),
        Rule::VisibleOrNull("matchList"),
        Rule::VisibleOrNull("forcedDdi"),
    ])];

choice! {
    /// What a pattern of an outgoing DDI rule looks at.
    pub enum OutgoingDdiRulesPatternKind {
        /// A prefix that the caller dials.
        Prefix = "prefix",
        /// The called number.
        Destination = "destination",
    }
}

impl Rules for OutgoingDdiRulesPattern {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        match self.kind {
            OutgoingDdiRulesPatternKind::Prefix => self.match_list = None,
            OutgoingDdiRulesPatternKind::Destination => self.prefix = None,
        }
        if ["type", "prefix", "matchList"].iter().any(|field| differs(self, old, field)) {
            self.check_what_fits(check);
        }
        if self.action != DdiAction::Force {
            self.forced_ddi = None;
        }
        let rule = check.rows.get(self.outgoing_ddi_rule);
        within_client(self, old, rule.map(|rule| rule.company), check);
    }
}

impl OutgoingDdiRulesPattern {
    fn check_what_fits(&self, check: &mut Check<'_>) {
        match self.kind {
            OutgoingDdiRulesPatternKind::Prefix => {
                let dialled = self.prefix.as_deref().and_then(|prefix| prefix.strip_suffix('*'));
                let right = dialled.is_some_and(|dialled| digits(dialled) && dialled.len() <= 3);
                check.require(right, "prefix", "write one to three digits and an asterisk, such as 111*");
            }
            OutgoingDdiRulesPatternKind::Destination => {
                let remedy = "choose the match list that has the called numbers";
                check.require(self.match_list.is_some(), "matchList", remedy);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(make: impl FnOnce(&mut OutgoingDdiRulesPattern)) -> Result<OutgoingDdiRulesPattern, Refusal> {
        let pattern = Id::new(1);
        change(|draft| draft.change(pattern, make)).map(|(_, rows, _)| rows.get(pattern).unwrap().clone())
    }

    fn to_prefix(prefix: &str) -> Result<OutgoingDdiRulesPattern, Refusal> {
        changed(|pattern| {
            pattern.kind = OutgoingDdiRulesPatternKind::Prefix;
            pattern.prefix = Some(prefix.to_owned());
        })
    }

    #[test]
    fn a_prefix_is_up_to_three_digits_and_an_asterisk() {
        assert_eq!(to_prefix("111*").unwrap().match_list, None);
        assert!(to_prefix("1*").is_ok());
        for wrong in ["", "*", "111", "1111*", "1a*", "1**"] {
            assert!(matches!(to_prefix(wrong), Err(Refusal::Invalid(_))), "{wrong}");
        }
    }

    #[test]
    fn a_destination_is_a_match_list() {
        let pattern = changed(|pattern| {
            pattern.prefix = Some("1*".to_owned());
            pattern.match_list = Some(Id::new(3));
        });
        let pattern = pattern.unwrap();
        assert_eq!((pattern.prefix, pattern.match_list), (None, Some(Id::new(3))));
        assert!(matches!(changed(|pattern| pattern.match_list = None), Err(Refusal::Invalid(_))));
    }

    #[test]
    fn a_number_is_forced_only_by_that_action_and_is_the_clients_own() {
        let forced = |action, ddi| {
            changed(|pattern| (pattern.action, pattern.forced_ddi) = (action, Some(Id::new(ddi))))
        };
        assert_eq!(forced(DdiAction::Force, 1).unwrap().forced_ddi, Some(Id::new(1)));
        assert_eq!(forced(DdiAction::Keep, 1).unwrap().forced_ddi, None);
        assert!(matches!(forced(DdiAction::Force, 2), Err(Refusal::Invalid(_))));
    }
}
