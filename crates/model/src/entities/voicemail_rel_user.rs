//! Which users a generic voicemail is shared with (manual 10.1.11).
//!
//! Elsewhere: the voicemail, which shows them as `relUserIds` ([`Voicemail`]).

use crate::prelude::*;

/// A user who hears the messages of a generic voicemail in the portal.
#[derive(Clone, Debug, Entity)]
#[entity(path = "voicemail_rel_users", access = ACCESS, rules, unique(voicemail, user))]
pub struct VoicemailRelUser {
    /// The pair's number in the API.
    #[field(client = "ld")]
    pub id: Id<VoicemailRelUser>,
    /// The user.
    #[field(delete = "cascade", index, client = "ldw")]
    pub user: Id<User>,
    /// The voicemail; one that belongs to a user or device is not shared.
    #[field(delete = "cascade", index, client = "ldw")]
    pub voicemail: Id<Voicemail>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcd")
    .read(&[Rule::Visible("voicemail")])
    .write(&[Rule::Visible("voicemail"), Rule::Visible("user")])
    .acl()];

impl Rules for VoicemailRelUser {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let (user, voicemail) = (check.rows.get(self.user), check.rows.get(self.voicemail));
        if let (Some(user), Some(voicemail)) = (user, voicemail)
            && user.company != voicemail.company
        {
            check.forbid("the user belongs to another client than the voicemail");
        }
        if old.is_none() && voicemail.is_some_and(|voicemail| !voicemail.is_generic()) {
            check.forbid("only a generic voicemail is shared; this one belongs to a user or a device");
        }
        match old {
            Some(old) if (old.user, old.voicemail) != (self.user, self.voicemail) => {
                check.forbid("who shares a voicemail is added and removed, not changed");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn pair(user: u32, voicemail: u32) -> VoicemailRelUser {
        VoicemailRelUser { user: Id::new(user), voicemail: Id::new(voicemail), ..VoicemailRelUser::default() }
    }

    #[test]
    fn generic_voicemails_of_the_client_are_shared() {
        change(|draft| draft.create(pair(2, 3))).unwrap();
        for (user, voicemail) in [(2, 1), (2, 5)] {
            let refused = change(|draft| draft.create(pair(user, voicemail)));
            assert!(matches!(refused, Err(Refusal::Forbidden(_))), "{user} {voicemail}");
        }
        let twice = change(|draft| draft.create(pair(1, 3)));
        assert!(matches!(twice, Err(Refusal::Taken { .. })));
    }

    #[test]
    fn a_pair_is_not_changed() {
        let refused =
            change(|draft| draft.change(Id::<VoicemailRelUser>::new(1), |pair| pair.user = Id::new(2)));
        assert!(matches!(refused, Err(Refusal::Forbidden(_))));
    }
}
