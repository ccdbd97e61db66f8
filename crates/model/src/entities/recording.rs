//! Recorded calls (manual 10.1.14, "Call recordings").
//!
//! Elsewhere: the calls ([`UsersCdr`], [`BillableCall`]), which calls are recorded ([`Ddi`], [`Company`]).

use crate::prelude::*;

/// The recording of a call, made by the platform. It is heard and deleted, never changed.
#[derive(Clone, Debug, Entity)]
#[entity(path = "recordings", access = ACCESS, rules)]
pub struct Recording {
    /// The recording's number in the API.
    #[field(client = "ld", user = "ld")]
    pub id: Id<Recording>,
    /// The SIP Call-ID of the recorded call.
    #[field(max = 255, client = "ld", user = "ld")]
    pub callid: Option<String>,
    /// When recording began.
    #[field(now, client = "ld", user = "ld")]
    pub calldate: Timestamp,
    /// What made the platform record.
    #[field(name = "type", default = RecordingKind::Ddi, client = "ld", user = "ld")]
    pub kind: RecordingKind,
    /// Its length in seconds.
    #[field(default = 0.0, client = "ld", user = "ld")]
    pub duration: f64,
    /// Who called.
    #[field(max = 128, client = "ld", user = "ld")]
    pub caller: Option<String>,
    /// Who was called.
    #[field(max = 128, client = "ld", user = "ld")]
    pub callee: Option<String>,
    /// Who asked for the recording; null where nobody had to.
    #[field(max = 128, client = "ld", user = "ld")]
    pub recorder: Option<String>,
    /// The sound, an MP3 file.
    #[field(client = "d", user = "d")]
    pub recorded_file: File,
    /// The record of the user's call; null: it was a call of the client only.
    #[field(delete = "clear", client = "d", user = "d")]
    pub users_cdr: Option<Id<UsersCdr>>,
    /// The client.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
    /// The number whose calls are recorded.
    #[field(delete = "clear", client = "d")]
    pub ddi: Option<Id<Ddi>>,
    /// The user who sees the recording in the portal.
    #[field(delete = "clear", client = "d", user = "d")]
    pub user: Option<Id<User>>,
    /// The record of the external call.
    #[field(delete = "clear", client = "d")]
    pub billable_call: Option<Id<BillableCall>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Client, "lgd")
        .acl()
        .order(&["-calldate"])
        .company_feature("recordings")
        .read(&[Rule::OwnCompany("company")]),
    Access::at(Level::User, "lgd").order(&["-calldate"]).read(&[Rule::Myself("user")]),
];

choice! {
    /// What made the platform record a call.
    pub enum RecordingKind {
        /// A user asked for it during the call.
        Ondemand = "ondemand",
        /// All calls of the number are recorded.
        Ddi = "ddi",
    }
}

impl Rules for Recording {
    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let by_client = matches!(draft.env().level, Some(Level::Client | Level::User));
        let allowed = draft.get(self.company).is_none_or(|company| company.allow_recording_removal);
        if by_client && !allowed {
            let why = "this client may not remove recordings; the brand's operator can allow it";
            return Err(Refusal::Forbidden(why.to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::Env;
    use crate::testing::{PlainHasher, now, sample};

    #[test]
    fn recordings_are_removed_by_clients_that_may() {
        let mut rows = sample();
        let delete = |rows: &Rows, level| {
            let env = Env { now: now(), level, hasher: &PlainHasher, random: &|| 0, is_over: &|| false };
            Draft::new(rows, &env).delete(Id::<Recording>::new(1))
        };
        delete(&rows, Some(Level::Client)).unwrap();
        let company: &Company = rows.get(Id::new(1)).unwrap();
        let strict = Company { allow_recording_removal: false, ..company.clone() };
        rows.insert(std::sync::Arc::new(strict));
        assert!(matches!(delete(&rows, Some(Level::Client)), Err(Refusal::Forbidden(_))));
        assert!(matches!(delete(&rows, Some(Level::User)), Err(Refusal::Forbidden(_))));
        delete(&rows, Some(Level::Brand)).unwrap();
        delete(&rows, None).unwrap();
    }
}
