//! Addresses that were turned away: floods, forbidden sources, guessed passwords.
//!
//! Manual, chapters 8.3, 9.8.5 and 9.8.6.

use crate::prelude::*;

/// An address that a protection turned away at least once. The platform writes it; brand operators may delete
/// the entries of guessed passwords, which lifts the ban.
#[derive(Clone, Debug, Entity)]
#[entity(path = "banned_addresses", access = ACCESS)]
pub struct BannedAddress {
    /// Number of the entry.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<BannedAddress>,
    /// The source of the traffic.
    #[field(max = 50, platform = "ld", brand = "ld")]
    pub ip: Option<String>,
    /// Which protection turned it away.
    #[field(platform = "ld", brand = "ld")]
    pub blocker: Option<BannedAddressBlocker>,
    /// The address of record that the source claimed to be.
    #[field(max = 300, platform = "ld", brand = "ld")]
    pub aor: Option<String>,
    /// What the source called itself (User-Agent), where that is known.
    #[field(max = 100, platform = "d", brand = "d")]
    pub description: Option<String>,
    /// When it was last turned away. A flood is banned for five minutes from then, guessing passwords for
    /// twelve hours, a forbidden source for each request alone.
    #[field(platform = "ld", brand = "ld")]
    pub last_time_banned: Option<Timestamp>,
    /// The brand that was attacked; null: the whole platform.
    #[field(delete = "cascade", index)]
    pub brand: Option<Id<Brand>>,
    /// The client that was attacked.
    #[field(delete = "cascade", index, brand = "ld")]
    pub company: Option<Id<Company>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lg").acl().order(&["ip"]).read(&[Rule::Null("brand")]).write(&[Rule::Never]),
    Access::at(Level::Brand, "lg")
        .acl()
        .order(&["ip"])
        .read(&[Rule::OwnBrand("brand")])
        .write(&[Rule::Is("blocker", "antibruteforce")]),
];

choice! {
    /// Which protection turned an address away.
    pub enum BannedAddressBlocker {
        /// Too many messages within a short time.
        Antiflood = "antiflood",
        /// A source outside of the client's authorized addresses and countries.
        Ipfilter = "ipfilter",
        /// Too many wrong passwords.
        Antibruteforce = "antibruteforce",
    }
}
