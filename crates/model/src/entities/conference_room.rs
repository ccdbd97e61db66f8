//! Conference rooms: many callers who hear each other.
//!
//! Manual: "Client configuration", conference rooms.

use crate::checks::{client_of_type, differs, digits, name_is_there};
use crate::prelude::*;

/// A room where everybody hears everybody who is connected to it. Extensions, DDIs and conditional routes
/// lead into it.
#[derive(Clone, Debug, Entity)]
#[entity(path = "conference_rooms", access = ACCESS, unique(company, name), rules)]
pub struct ConferenceRoom {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<ConferenceRoom>,
    /// What it is called in lists; once within a client.
    #[field(max = 50, client = "ldw")]
    pub name: String,
    /// Callers are asked for the PIN before they enter.
    #[field(default = false, client = "ldw")]
    pub pin_protected: bool,
    /// The PIN, digits only. Null when the room asks for none.
    #[field(max = 6, client = "ldw")]
    pub pin_code: Option<String>,
    /// Most callers in the room at the same time; further ones are turned away. 0: no limit.
    #[field(default = 0u16, client = "ldw")]
    pub max_members: u16,
    /// Who is told how many callers are in the room.
    #[field(default = ConferenceRoomAnnounceUserCount::First, client = "ldw")]
    pub announce_user_count: ConferenceRoomAnnounceUserCount,
    /// The client that it belongs to.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["name"])
    .company_feature("conferences")
    .company_types(&[CompanyType::Vpbx])
    .read(&[Rule::OwnCompany("company")])];

choice! {
    /// Who is told how many callers are in a conference room.
    pub enum ConferenceRoomAnnounceUserCount {
        /// Everybody who enters.
        Always = "always",
        /// Only the first one, who hears of being alone.
        First = "first",
    }
}

impl Rules for ConferenceRoom {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        name_is_there(self, old, check);
        client_of_type(old, self.company, &[CompanyType::Vpbx], check);
        if !self.pin_protected {
            self.pin_code = None;
        } else if differs(self, old, "pinCode") || differs(self, old, "pinProtected") {
            let pin = self.pin_code.as_deref().unwrap_or_default();
            check.require(digits(pin), "pinCode", "write a PIN of digits, or switch the PIN off");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(protected: bool, pin: Option<&str>) -> Result<Option<String>, Refusal> {
        let room = Id::<ConferenceRoom>::new(1);
        let made = change(|draft| {
            draft.change(room, |room| {
                room.pin_protected = protected;
                room.pin_code = pin.map(str::to_owned);
            })
        });
        made.map(|(_, rows, _)| rows.get(room).unwrap().pin_code.clone())
    }

    #[test]
    fn a_room_has_a_pin_when_it_asks_for_one() {
        assert_eq!(changed(true, Some("0815")), Ok(Some("0815".to_owned())));
        for wrong in [None, Some(""), Some("12a4")] {
            assert!(matches!(changed(true, wrong), Err(Refusal::Invalid(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_room_that_asks_for_no_pin_forgets_it() {
        assert_eq!(changed(false, Some("12a4")), Ok(None));
    }
}
