//! Kinds of rows for which restricted administrators need grants.
//!
//! Manual, chapters 8.1.1, 8.2 and 9.1.5 ("ACLs"). They come with the platform.

use crate::define::Table;
use crate::prelude::*;

/// A kind of rows, and at which levels a restricted administrator needs a grant for it.
#[derive(Clone, Debug, Entity)]
#[entity(path = "public_entities", access = ACCESS, unique(iden), unique(fqdn))]
pub struct PublicEntity {
    /// Number of the kind.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<PublicEntity>,
    /// The word by which portals and the profile know it; it occurs once.
    #[field(max = 100, platform = "ld", brand = "ld")]
    pub iden: String,
    /// Its name within the system that this one takes the place of, kept for imports.
    #[field(max = 200, platform = "d", brand = "d")]
    pub fqdn: Option<String>,
    /// Whether it counts for administrators of the platform.
    #[field(default = false, platform = "d", brand = "d")]
    pub platform: bool,
    /// Whether it counts for administrators of brands.
    #[field(default = false, platform = "d", brand = "d")]
    pub brand: bool,
    /// Whether it counts for administrators of clients.
    #[field(default = false, platform = "d", brand = "d")]
    pub client: bool,
    /// Its name for people.
    #[field(max = 100, platform = "ld", brand = "ld")]
    pub name: Translated,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lg"),
    Access::at(Level::Brand, "lg").order(&["iden"]).read(&[Rule::Is("client", "1")]),
];

impl PublicEntity {
    /// The long name of a table's rows.
    pub(crate) fn long_name(table: &Table) -> String {
        format!(r"Ivoz\{0}\Domain\Model\{1}\{1}", table.space(), table.name)
    }

    /// Whether the rows called so, `Provider.Carrier`, are of this kind; what is no table's has its whole long name.
    pub fn means(&self, name: &str) -> bool {
        let Some(long) = self.fqdn.as_deref() else { return false };
        let Some((space, entity)) = name.split_once('.') else { return long == name };
        let mut parts = long.split('\\');
        parts.nth(1) == Some(space) && parts.next_back() == Some(entity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_space_and_name_or_by_all_of_a_name_that_is_no_tables() {
        let kind = |long: &str| PublicEntity { fqdn: Some(long.to_owned()), ..PublicEntity::default() };
        assert!(kind(r"Some\Provider\Domain\Model\Friend\Friend").means("Provider.Friend"));
        assert!(!kind(r"Some\Provider\Domain\Model\Friend\FriendsPattern").means("Provider.Friend"));
        assert!(!kind(r"Some\Kam\Domain\Model\Friend\Friend").means("Provider.Friend"));
        assert!(kind(r"Model\ActiveCalls").means(r"Model\ActiveCalls"));
        assert!(!kind(r"Model\ActiveCalls").means("Provider.ActiveCalls"));
        assert!(!PublicEntity::default().means("Provider.Friend"));
        let table = PublicEntity::definition();
        assert!(kind(&PublicEntity::long_name(table)).means(&table.full_name()));
    }
}
