//! Refresh tokens: what a login leaves behind, so that the next token takes no password (manual, "Introduction to IvozProvider
//! API"). The platform's own; no endpoint shows them.

use crate::prelude::*;

/// A token that can be exchanged once for a new pair of tokens. Only its hash is kept.
#[derive(Clone, Debug, Entity)]
#[entity(hidden, unique(hash))]
pub struct RefreshToken {
    /// Its identifier.
    pub id: Id<RefreshToken>,
    /// SHA-256 of the token, in hexadecimal.
    #[field(max = 64)]
    pub hash: String,
    /// When it ends.
    pub expires: Timestamp,
    /// The administrator who logged in; null: a user did.
    #[field(delete = "cascade", index)]
    pub administrator: Option<Id<Administrator>>,
    /// The user who logged in; null: an administrator did.
    #[field(delete = "cascade", index)]
    pub user: Option<Id<User>>,
}
