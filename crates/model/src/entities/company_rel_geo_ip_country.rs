//! From which countries a client may call where calls are filtered by address.
//!
//! Manual, chapter 9.1 ("GeoIP allowed countries"). Written through the client's list of countries.

use crate::prelude::*;

/// One country whose addresses are let through for one client.
#[derive(Clone, Debug, Entity)]
#[entity(name = "CompanyRelGeoIPCountry", rules)]
pub struct CompanyRelGeoIpCountry {
    /// Number of the pair.
    pub id: Id<CompanyRelGeoIpCountry>,
    /// The client.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
    /// The country.
    #[field(delete = "cascade", index)]
    pub country: Id<Country>,
}

impl Rules for CompanyRelGeoIpCountry {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        keep_pair(old, check);
    }
}
