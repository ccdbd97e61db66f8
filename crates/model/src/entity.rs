//! What a small configuration consists of: brands, clients, terminals, users, extensions (manual, "vPBX Clients").
//!
//! Plain data as it was written in a users' file. Elsewhere: the rules it must keep ([`crate::configuration`]), all entities
//! ([`crate::entities`]).

use crate::id::Id;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A reseller of the platform: it owns clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brand {
    /// Its identifier.
    pub id: Id<Brand>,
    /// Shown in lists and in call records.
    pub name: String,
}

/// A company that buys a virtual PBX from a brand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its identifier. The lowest one is the "first client of the platform" (manual 5.2.1).
    pub id: Id<Client>,
    /// The brand that sells to it.
    pub brand: Id<Brand>,
    /// Shown in lists and in call records.
    pub name: String,
    /// SIP domain of its endpoints: a host name in lower case without a trailing dot. Only the first client may leave
    /// it empty, because it is reached by the proxy's address too.
    pub domain: String,
}

/// SIP credentials of one desk; several devices may share them (manual 10.1.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Its identifier.
    pub id: Id<Terminal>,
    /// The client it belongs to.
    pub client: Id<Client>,
    /// User part of its address-of-record and user name of its digest; unique within the client, case matters.
    pub name: String,
    /// Password of its digest.
    pub secret: Secret,
}

/// Someone with a telephone (manual 10.1.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its identifier.
    pub id: Id<User>,
    /// The client it belongs to.
    pub client: Id<Client>,
    /// Shown to those whom the user calls.
    pub first_name: String,
    /// Completes the name; may be empty.
    pub last_name: String,
    /// The terminal on the user's desk; nobody else's.
    pub terminal: Option<Id<Terminal>>,
    /// The "screen extension": the number shown in internal calls that the user makes. Several extensions may lead to
    /// the user, one is shown.
    pub extension: Option<Id<Extension>>,
    /// The user gets no call, but can call.
    pub do_not_disturb: bool,
    /// "Limits received calls when already handling this number of calls"; 0 is unlimited. Whoever handles this many
    /// calls, made and received together, is busy for the next one.
    pub call_waiting: u32,
    /// All registered devices ring together; otherwise only the one that registered last.
    pub multi_contact: bool,
    /// What a device that declines means for the user's other ringing devices.
    pub rejection: RejectionMethod,
}

/// What it means when one of several ringing devices declines (manual 10.1.1, "Call Rejection Method"): when it answers 480,
/// 486 or any 6xx, 600 and 603 above all. Other failures (404, 488, 500) are no word of its owner, and end the ringing of that
/// device alone, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RejectionMethod {
    /// 6xx ends the ringing everywhere (RFC 3261 section 21.6), 480 and 486 on that device alone.
    #[default]
    ByResponse,
    /// That device alone stops ringing, whichever of these it answered.
    ThisDevice,
    /// All devices stop ringing, whichever of these it answered.
    AllDevices,
}

/// An internal number with a meaning (manual 10.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its identifier.
    pub id: Id<Extension>,
    /// The client it belongs to.
    pub client: Id<Client>,
    /// What is dialled; unique within the client.
    pub number: ExtensionNumber,
    /// What dialling it does.
    pub route: ExtensionRoute,
}

/// What dialling an extension does (manual 10.1.3, "Route options").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExtensionRoute {
    /// The call is hung up.
    Unassigned,
    /// The user is called.
    User(Id<User>),
}

/// The digits of an extension.
///
/// [`FromStr`] is strict. Deserializing takes any text, so that [`crate::Configuration::check`] can list a wrong number
/// beside all other mistakes of a configuration; within a snapshot every number is right. The default has no digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExtensionNumber(String);

impl ExtensionNumber {
    /// Least count of digits (manual 10.1.3).
    pub const DIGITS_MIN: usize = 2;
    /// Greatest count of digits: more than any dialling plan, so that a record of it stays small.
    pub const DIGITS_MAX: usize = 20;

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the text has the right length and nothing but digits.
    pub(crate) fn is_valid(&self) -> bool {
        (Self::DIGITS_MIN..=Self::DIGITS_MAX).contains(&self.0.len())
            && self.0.bytes().all(|b| b.is_ascii_digit())
    }
}

impl FromStr for ExtensionNumber {
    type Err = InvalidExtensionNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = Self(text.to_owned());
        if number.is_valid() { Ok(number) } else { Err(InvalidExtensionNumber) }
    }
}

impl fmt::Display for ExtensionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no extension number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an extension number has {} to {} digits and nothing else",
    ExtensionNumber::DIGITS_MIN,
    ExtensionNumber::DIGITS_MAX
)]
pub struct InvalidExtensionNumber;

/// A password. It has no `Display` and a masked `Debug`, so that it gets into no log by accident; it is serialized in
/// the clear, because digest authentication needs it, and whoever stores it must protect the place.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes the password.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself, for computing a digest.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let terminal = Terminal {
            id: Id::new(1),
            client: Id::new(1),
            name: "alice".into(),
            secret: Secret::new("hush"),
        };
        assert!(!format!("{terminal:?}").contains("hush"));
        assert!(serde_json::to_string(&terminal).unwrap().contains("hush"));
    }

    #[test]
    fn extension_numbers_are_two_digits_or_more() {
        for right in ["10", "101", "00", "12345678901234567890"] {
            assert_eq!(right.parse::<ExtensionNumber>().unwrap().as_str(), right);
        }
        for wrong in ["", "1", "10a", "+34", "1 1", "١٢", "123456789012345678901"] {
            assert_eq!(wrong.parse::<ExtensionNumber>(), Err(InvalidExtensionNumber), "{wrong}");
        }
    }
}
