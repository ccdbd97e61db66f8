//! The members of hunt groups: users and external numbers.
//!
//! Manual: "Client configuration", hunt groups.

use crate::checks::{differs, settle_target, within_client};
use crate::prelude::*;

/// A user or an external number that rings for the calls of a hunt group.
#[derive(Clone, Debug, Entity)]
#[entity(path = "hunt_group_members", access = ACCESS, unique(user, hunt_group), unique(priority, hunt_group), rules)]
pub struct HuntGroupMember {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<HuntGroupMember>,
    /// Seconds for which the member rings; every strategy but ringAll needs it.
    #[field(min = 0, client = "ldw")]
    pub timeout_time: Option<i16>,
    /// The member's place: the lowest rings first. Once within a hunt group; the strategies ringAll and
    /// random do without it.
    #[field(client = "ldw")]
    pub priority: Option<i16>,
    /// Whether the member is a user or an external number.
    #[field(client = "ldw")]
    pub route_type: HuntGroupMemberRouteType,
    /// The external number, without its country's code; only with the type number.
    #[field(max = 25, client = "ldw")]
    pub number_value: Option<String>,
    /// The hunt group.
    #[field(delete = "cascade", index, client = "ldw")]
    pub hunt_group: Id<HuntGroup>,
    /// The user; only with the type user, and once within a hunt group.
    #[field(delete = "cascade", index, client = "ldw")]
    pub user: Option<Id<User>>,
    /// The country of the external number.
    #[field(delete = "clear", client = "ldw")]
    pub number_country: Option<Id<Country>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["routeType", "user.name", "huntGroup.name"])
    .list_expands()
    .create_expands()
    .read(&[Rule::Visible("huntGroup")])
    .write(&[Rule::Visible("huntGroup"), Rule::VisibleOrNull("user")])];

choice! {
    /// What a member of a hunt group is.
    pub enum HuntGroupMemberRouteType {
        /// An external number.
        Number = "number",
        /// A user of the client.
        User = "user",
    }
}

const TARGETS: &[(&str, &[&str])] = &[("number", &["numberValue", "numberCountry"]), ("user", &["user"])];

impl Rules for HuntGroupMember {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        settle_target(Some(self.route_type), self, old, TARGETS, check);
        let Some(group) = check.rows.get(self.hunt_group) else { return };
        if ["huntGroup", "priority", "timeoutTime"].iter().any(|field| differs(self, old, field)) {
            self.check_turn(group.strategy, check);
        }
        if ["routeType", "user", "numberValue", "numberCountry"].iter().any(|field| differs(self, old, field))
        {
            self.check_target(check);
        }
        within_client(self, old, group.company, check);
    }
}

impl HuntGroupMember {
    fn check_turn(&self, strategy: HuntGroupStrategy, check: &mut Check<'_>) {
        use HuntGroupStrategy::{Linear, Random, RingAll, RoundRobin};
        let (in_order, in_turn) = match strategy {
            RingAll => (false, false),
            Random => (false, true),
            Linear | RoundRobin => (true, true),
        };
        let remedy = "the hunt group's members ring by priority; give this one a place";
        check.require(!in_order || self.priority.is_some(), "priority", remedy);
        let remedy = "the hunt group's members ring in turn; say for how many seconds this one rings";
        check.require(!in_turn || self.timeout_time.is_some(), "timeoutTime", remedy);
    }

    fn check_target(&self, check: &mut Check<'_>) {
        match self.route_type {
            HuntGroupMemberRouteType::Number => {
                check.require(self.number_value.is_some(), "numberValue", "write the number");
                check.require(self.number_country.is_some(), "numberCountry", "choose the number's country");
            }
            HuntGroupMemberRouteType::User => check.require(self.user.is_some(), "user", "choose the user"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn made(strategy: HuntGroupStrategy, member: HuntGroupMember) -> Result<HuntGroupMember, Refusal> {
        let made = change(|draft| {
            draft.change(Id::new(1), |group: &mut HuntGroup| group.strategy = strategy)?;
            draft.create(HuntGroupMember { hunt_group: Id::new(1), ..member })
        });
        made.map(|(id, rows, _)| rows.get(id).unwrap().clone())
    }

    fn bob() -> HuntGroupMember {
        let route_type = HuntGroupMemberRouteType::User;
        HuntGroupMember { route_type, user: Some(Id::new(2)), ..HuntGroupMember::default() }
    }

    #[test]
    fn a_member_has_what_the_strategy_takes() {
        use HuntGroupStrategy::{Linear, Random, RingAll, RoundRobin};
        let timed = HuntGroupMember { timeout_time: Some(5), ..bob() };
        let placed = HuntGroupMember { priority: Some(9), ..timed.clone() };
        let table = [
            (RingAll, bob(), true),
            (Random, bob(), false),
            (Random, timed.clone(), true),
            (Linear, timed.clone(), false),
            (RoundRobin, timed, false),
            (Linear, placed.clone(), true),
            (RoundRobin, placed, true),
        ];
        for (strategy, member, right) in table {
            assert_eq!(made(strategy, member.clone()).is_ok(), right, "{strategy:?} {member:?}");
        }
    }

    #[test]
    fn a_member_is_a_user_or_a_number_with_its_country() {
        let number = HuntGroupMember {
            route_type: HuntGroupMemberRouteType::Number,
            number_value: Some("946002050".to_owned()),
            number_country: Some(Id::new(68)),
            ..bob()
        };
        let member = made(HuntGroupStrategy::RingAll, number.clone()).unwrap();
        assert_eq!((member.user, member.number_country), (None, Some(Id::new(68))));
        let wrong = [
            HuntGroupMember { number_value: None, ..number.clone() },
            HuntGroupMember { number_value: Some("+34946".to_owned()), ..number.clone() },
            HuntGroupMember { number_country: None, ..number },
            HuntGroupMember { user: None, ..bob() },
        ];
        for member in wrong {
            let refused = made(HuntGroupStrategy::RingAll, member.clone());
            assert!(matches!(refused, Err(Refusal::Invalid(_))), "{member:?}");
        }
    }

    #[test]
    fn a_member_is_of_the_groups_client() {
        let foreign = change(|draft| {
            draft.put(Box::new(User { id: Id::new(90), company: Id::new(2), ..User::default() }))?;
            draft.create(HuntGroupMember { hunt_group: Id::new(1), user: Some(Id::new(90)), ..bob() })
        });
        assert!(matches!(foreign, Err(Refusal::Invalid(_))), "{foreign:?}");
    }
}
