//! Calls of users and friends, as the client sees them: internal and external ones (manual 10.1.14).
//!
//! Elsewhere: external calls and their price ([`BillableCall`]).

use crate::prelude::*;

/// A call that a user or friend of a virtual PBX client made or received. Only the platform writes these.
#[derive(Clone, Debug, Entity)]
#[entity(path = "users_cdrs", access = ACCESS, records, inner("kamUsersCdr"))]
pub struct UsersCdr {
    /// The call's number in the API.
    #[field(client = "ld", user = "ld")]
    pub id: Id<UsersCdr>,
    /// When the call began.
    #[field(now, client = "ld", user = "ld")]
    pub start_time: Timestamp,
    /// Seconds that it lasted.
    #[field(default = 0.0, client = "ld", user = "ld")]
    pub duration: f64,
    /// Whether the owner received it or made it.
    #[field(default = Direction::Outbound, client = "ld", user = "ld")]
    pub direction: Option<Direction>,
    /// The number that called.
    #[field(max = 128, client = "ld", user = "ld")]
    pub caller: Option<String>,
    /// The number that was called.
    #[field(max = 128, client = "ld", user = "ld")]
    pub callee: Option<String>,
    /// The user or friend whose call it is, by name or extension.
    #[field(max = 128, client = "ld", user = "ld")]
    pub owner: Option<String>,
    /// The SIP Call-ID.
    #[field(max = 255, client = "d", user = "d")]
    pub callid: Option<String>,
    /// The brand's number; it stays when the brand is gone.
    pub brand_id: Option<u32>,
    /// How it ended.
    #[field(default = UsersCdrDisposition::Answered, client = "ld", user = "ld")]
    pub disposition: Option<UsersCdrDisposition>,
    /// How many recordings there are of it.
    #[field(default = 0u32, client = "ld", user = "ld")]
    pub num_recordings: u32,
    /// The client; null: it is gone.
    #[field(delete = "clear", index)]
    pub company: Option<Id<Company>>,
    /// The user whose call it is.
    #[field(delete = "clear", index, client = "d", user = "d")]
    pub user: Option<Id<User>>,
    /// The friend whose call it is.
    #[field(delete = "clear", client = "d")]
    pub friend: Option<Id<Friend>>,
    /// The extension that the user showed.
    #[field(delete = "clear", client = "d", user = "d")]
    pub extension: Option<Id<Extension>>,
    /// What the record was made of: it is there once.
    #[field(max = 128, index)]
    pub origin: Option<String>,
    /// Which word about that: a greater one takes its place.
    #[field(max = 32)]
    pub origin_word: Option<String>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Client, "lg")
        .acl()
        .order(&["-startTime"])
        .company_types(&[CompanyType::Vpbx])
        .unpaged()
        .csv()
        .read(&[Rule::OwnCompany("company")]),
    Access::at(Level::User, "lg").order(&["-startTime"]).unpaged().csv().read(&[Rule::OwnCompany("company")]),
];

choice! {
    /// How a call ended.
    pub enum UsersCdrDisposition {
        /// It was answered.
        Answered = "answered",
        /// Nobody answered.
        Missed = "missed",
        /// The called one was busy or declined.
        Busy = "busy",
        /// It could not be delivered.
        Error = "error",
    }
}
