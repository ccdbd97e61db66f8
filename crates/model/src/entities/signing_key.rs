//! Keys that sign access tokens, the same on all nodes. The platform's own; no endpoint shows them.

use crate::prelude::*;

/// An Ed25519 key (RFC 8037) that signs access tokens for a while and is known for checking until all of them have expired.
#[derive(Clone, Debug, Entity)]
#[entity(hidden, unique(kid))]
pub struct SigningKey {
    /// Its identifier.
    pub id: Id<SigningKey>,
    /// Its name in the header of tokens.
    #[field(max = 64)]
    pub kid: String,
    /// The key pair: PKCS #8 (RFC 5958) in hexadecimal.
    #[field(max = 512)]
    pub pair: Secret,
    /// When it was made.
    pub made: Timestamp,
}
