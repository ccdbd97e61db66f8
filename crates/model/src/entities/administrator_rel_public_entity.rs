//! Grants: what a restricted administrator may do with one kind of rows.
//!
//! Manual, chapters 8.1.1, 8.2 and 9.1.5 ("ACLs"). Elsewhere: who gets them, and when (`administrator`).

use crate::checks::differs;
use crate::prelude::*;

/// What a restricted administrator may do with one kind of rows. There is one for each kind that counts at
/// the administrator's level.
#[derive(Clone, Debug, Entity)]
#[entity(path = "administrator_rel_public_entities", access = ACCESS, unique(administrator, public_entity), rules)]
pub struct AdministratorRelPublicEntity {
    /// Number of the grant.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<AdministratorRelPublicEntity>,
    /// Whether new rows may be made.
    #[field(default = false, platform = "ldw", brand = "ldw")]
    pub create: bool,
    /// Whether rows may be seen.
    #[field(default = true, platform = "ldw", brand = "ldw")]
    pub read: bool,
    /// Whether rows may be changed.
    #[field(default = false, platform = "ldw", brand = "ldw")]
    pub update: bool,
    /// Whether rows may be deleted.
    #[field(default = false, platform = "ldw", brand = "ldw")]
    pub delete: bool,
    /// The restricted administrator.
    #[field(delete = "cascade", index, platform = "ldw", brand = "ldw")]
    pub administrator: Id<Administrator>,
    /// The kind of rows.
    #[field(delete = "cascade", index, platform = "ldw", brand = "ldw")]
    pub public_entity: Id<PublicEntity>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgu")
        .order(&["publicEntity"])
        .list_expands()
        .read(&[Rule::Visible("administrator"), Rule::Visible("publicEntity")]),
    Access::at(Level::Brand, "lgu")
        .list_expands()
        .read(&[Rule::Visible("administrator")])
        .write(&[Rule::Visible("administrator"), Rule::Visible("publicEntity")]),
];

impl Rules for AdministratorRelPublicEntity {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let Some(administrator) = check.rows.get(self.administrator) else { return };
        if differs(self, old, "administrator") {
            check.require(
                administrator.restricted,
                "administrator",
                "only restricted administrators have grants",
            );
        }
        if differs(self, old, "publicEntity") || differs(self, old, "administrator") {
            let counts =
                check.rows.get(self.public_entity).is_none_or(|kind| administrator.needs_grant(kind));
            check.require(
                counts,
                "publicEntity",
                "choose a kind of rows that counts at the administrator's level",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn grant(administrator: u32, public_entity: u32) -> AdministratorRelPublicEntity {
        let (administrator, public_entity) = (Id::new(administrator), Id::new(public_entity));
        AdministratorRelPublicEntity {
            administrator,
            public_entity,
            ..AdministratorRelPublicEntity::default()
        }
    }

    #[test]
    fn grants_are_for_restricted_administrators_and_kinds_of_their_level() {
        let (_, rows, _) = change(|draft| {
            let grants = draft.rows().of::<AdministratorRelPublicEntity>("administrator", 6);
            let ids: Vec<_> = grants.map(|grant| grant.id).collect();
            ids.into_iter().try_for_each(|id| draft.delete(id))
        })
        .unwrap();
        let of = |rows: &Rows, counts: bool| {
            rows.each::<PublicEntity>().find(|kind| kind.brand == counts).unwrap().id.get()
        };
        let create = |grant| crate::testing::change_on(&rows, |draft| draft.create(grant));
        assert!(create(grant(6, of(&rows, true))).is_ok());
        assert!(create(grant(6, of(&rows, false))).is_err());
        assert!(create(grant(2, of(&rows, true))).is_err());
    }
}
