//! Refresh tokens: what a login leaves behind, so that the next token takes no password (manual, "Introduction to IvozProvider
//! API"). The platform's own; no endpoint shows them.

use crate::prelude::*;

/// A login that goes on: its newest token can be exchanged once for a new pair of tokens. Only hashes are kept.
#[derive(Clone, Debug, Entity)]
#[entity(hidden, unique(hash), unique(family))]
pub struct RefreshToken {
    /// Its identifier.
    pub id: Id<RefreshToken>,
    /// SHA-256 of the newest token, in hexadecimal.
    #[field(max = 64)]
    pub hash: String,
    /// SHA-256 of what all tokens of this login begin with. Whoever shows such a one that is not the newest has copied it, or was
    /// copied: the login ends, however many tokens ago that was. Null: the login is of a time when tokens had no such beginning.
    #[field(max = 64)]
    pub family: Option<String>,
    /// When the newest token ends.
    pub expires: Timestamp,
    /// The administrator who logged in; null: a user did.
    #[field(delete = "cascade", index)]
    pub administrator: Option<Id<Administrator>>,
    /// The user who logged in; null: an administrator did.
    #[field(delete = "cascade", index)]
    pub user: Option<Id<User>>,
}
