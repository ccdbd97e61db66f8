//! Messages that callers left in voicemails (manual 10.1.11).
//!
//! Elsewhere: the voicemails, and who hears them ([`Voicemail`]).

use crate::prelude::*;

/// A message that a caller left. It is heard and deleted, never changed.
#[derive(Clone, Debug, Entity)]
#[entity(path = "voicemail_messages", access = ACCESS, inner("astVoicemailMessage"))]
pub struct VoicemailMessage {
    /// The message's number in the API.
    #[field(client = "ld", user = "ld")]
    pub id: Id<VoicemailMessage>,
    /// When it was left.
    #[field(client = "ld", user = "ld")]
    pub calldate: Timestamp,
    /// Where the voicemail keeps it: INBOX for new messages, Old for heard ones.
    #[field(max = 64, client = "ld", user = "ld")]
    pub folder: String,
    /// Who left it: name and number.
    #[field(max = 128, client = "ld", user = "ld")]
    pub caller: Option<String>,
    /// Its length in seconds.
    #[field(client = "ld", user = "ld")]
    pub duration: Option<i32>,
    /// The message, a WAV file.
    #[field(client = "d", user = "d")]
    pub recording_file: File,
    /// What the platform wrote down with the message.
    #[field(client = "d", user = "d")]
    pub metadata_file: File,
    /// The voicemail it was left in.
    #[field(delete = "cascade", index, client = "d", user = "d")]
    pub voicemail: Option<Id<Voicemail>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Client, "lgd")
        .acl()
        .order(&["-calldate"])
        .read(&[Rule::All(&[Rule::Visible("voicemail"), Rule::Where(in_generic)])])
        .write(&[Rule::Visible("voicemail")]),
    Access::at(Level::User, "lgd")
        .order(&["-calldate"])
        .read(&[Rule::Any(&[Rule::Where(in_my_own), Rule::Where(shared_with_me)])]),
];

fn in_generic(row: &dyn Record, _: &Caller, rows: &Rows) -> bool {
    row.reference("voicemail")
        .and_then(|id| rows.get(Id::<Voicemail>::new(id)))
        .is_some_and(|voicemail| voicemail.user.is_none() && voicemail.residential_device.is_none())
}

fn in_my_own(row: &dyn Record, caller: &Caller, rows: &Rows) -> bool {
    row.reference("voicemail")
        .and_then(|id| rows.get(Id::<Voicemail>::new(id)))
        .is_some_and(|voicemail| voicemail.user.is_some() && voicemail.user.map(Id::get) == caller.user)
}

fn shared_with_me(row: &dyn Record, caller: &Caller, rows: &Rows) -> bool {
    paired::<VoicemailRelUser>(
        rows,
        "user",
        caller.user.unwrap_or(0),
        "voicemail",
        row.reference("voicemail").unwrap_or(0),
    )
}
