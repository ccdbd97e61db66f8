//! Administrators: who may log in at the levels of the platform, of a brand and of a client.
//!
//! Manual, chapters 8.1.1, 8.2 and 9.1.5. Elsewhere: what a restricted one may do (`administrator_rel_public_entity`).

use crate::checks::{differs, email_if_any};
use crate::prelude::*;

/// Somebody who logs in to the platform's, a brand's or a client's portal. Which level it is follows from
/// brand and client: neither of them, a brand only, or both.
#[derive(Clone, Debug, Entity)]
#[entity(path = "administrators", access = ACCESS, unique(username), rules)]
pub struct Administrator {
    /// Number of the administrator.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<Administrator>,
    /// The name to log in with; it occurs once on the whole platform, whatever the case of its letters.
    #[field(max = 65, folded, platform = "ldw", brand = "ldw")]
    pub username: String,
    /// The password. Only its hash is kept, and answers show asterisks; leaving it out of a change keeps it.
    #[field(max = 80, default = Password::default(), masked, platform = "dw", brand = "dw")]
    pub pass: Password,
    /// Where this person can be written to. Nothing is sent here by itself; it may be empty.
    #[field(max = 100, default = "", platform = "ldw", brand = "ldw")]
    pub email: String,
    /// Whether logging in is allowed. It takes a password.
    #[field(default = true, platform = "ldw", brand = "ldw")]
    pub active: bool,
    /// One that the platform made for a brand or a client, to act in its name. Nobody logs in with it and no
    /// list shows it.
    #[field(default = false)]
    pub internal: bool,
    /// Whether this administrator may do only what its grants allow. Becoming restricted makes grants that
    /// only allow reading; becoming unrestricted removes them all.
    #[field(default = false, platform = "ldw", brand = "ldw")]
    pub restricted: bool,
    /// First name, for the record.
    #[field(max = 100, platform = "ldw", brand = "ldw")]
    pub name: Option<String>,
    /// Last name, for the record.
    #[field(max = 100, platform = "ldw", brand = "ldw")]
    pub lastname: Option<String>,
    /// Whether this administrator may act as one of a lower level. Who is not restricted always may.
    #[field(default = false, platform = "dw", brand = "dw")]
    pub can_impersonate: bool,
    /// The brand that is administered; null: the whole platform.
    #[field(delete = "cascade", index, platform = "dw")]
    pub brand: Option<Id<Brand>>,
    /// The client that is administered; null: the whole brand or platform.
    #[field(delete = "cascade", index, platform = "dw", brand = "ldw")]
    pub company: Option<Id<Company>>,
    /// The time zone in which this administrator reads and writes moments. A new one without it gets the
    /// client's or the brand's.
    #[field(delete = "clear", platform = "dw", brand = "dw")]
    pub timezone: Option<Id<Timezone>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgcud")
        .acl()
        .order(&["username"])
        .read(&[Rule::IsNot("id", "0"), Rule::IsNot("internal", "1"), Rule::Null("company")])
        .write(&[Rule::IsNot("id", "0")]),
    Access::at(Level::Brand, "lgcud")
        .acl()
        .order(&["username"])
        .read(&[Rule::OwnClients("company"), Rule::IsNot("internal", "1")])
        .write(&[Rule::IsNot("id", "0"), Rule::OwnBrand("brand"), Rule::OwnClients("company")]),
];

impl Administrator {
    /// One that the platform keeps for a brand or a client, to act in its name.
    pub(crate) fn internal(username: String, brand: Id<Brand>, company: Option<Id<Company>>) -> Self {
        Self { username, active: false, internal: true, brand: Some(brand), company, ..Self::default() }
    }

    /// Whether this one can log in at the platform's level and do everything.
    pub fn keeps_the_platform(&self) -> bool {
        let logs_in = self.active && !self.internal && !self.pass.hash().is_empty() && self.id.get() > 0;
        logs_in && !self.restricted && self.brand.is_none() && self.company.is_none()
    }

    /// Whether this administrator, when restricted, needs a grant for this kind of rows.
    pub(crate) fn needs_grant(&self, kind: &PublicEntity) -> bool {
        match (self.brand, self.company) {
            (_, Some(_)) => kind.client,
            (Some(_), None) => kind.brand,
            (None, None) => kind.platform,
        }
    }

    fn own_timezone(&self, rows: &Rows) -> Option<Id<Timezone>> {
        let company = rows.at(self.company).and_then(|company| company.default_timezone);
        company.or_else(|| rows.at(self.brand).map(|brand| brand.default_timezone))
    }

    /// Grants of the kinds that count at this level, which allow reading; none for who is not restricted.
    fn follow_grants(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let grants: Vec<_> =
            draft.rows().of::<AdministratorRelPublicEntity>("administrator", self.id.get()).collect();
        let stays = |kind: Id<PublicEntity>| {
            self.restricted && draft.rows().get(kind).is_some_and(|kind| self.needs_grant(kind))
        };
        let (kept, lost): (Vec<_>, Vec<_>) = grants.into_iter().partition(|grant| stays(grant.public_entity));
        let has = |kind: &PublicEntity| kept.iter().any(|grant| grant.public_entity == kind.id);
        let kinds = draft.rows().each::<PublicEntity>().filter(|kind| stays(kind.id) && !has(kind));
        let missing: Vec<Id<PublicEntity>> = kinds.map(|kind| kind.id).collect();
        let lost: Vec<_> = lost.iter().map(|grant| grant.id).collect();
        lost.into_iter().try_for_each(|grant| draft.delete(grant))?;
        for public_entity in missing {
            let administrator = self.id;
            draft.create(AdministratorRelPublicEntity {
                administrator,
                public_entity,
                ..Default::default()
            })?;
        }
        Ok(())
    }
}

impl Rules for Administrator {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if let Some(company) = check.rows.at(self.company) {
            let brand = *self.brand.get_or_insert(company.brand);
            check.require(brand == company.brand, "company", "choose a client of the administrator's brand");
        }
        if differs(self, old, "username") {
            check.require(
                !self.username.trim().is_empty(),
                "username",
                "an administrator needs a name to log in with",
            );
            let name = self.username.to_lowercase();
            let reserved = name.starts_with("__") && name.ends_with("_internal");
            check.require(
                !reserved || self.internal,
                "username",
                "names like __x_internal are the platform's own",
            );
        }
        if differs(self, old, "email") {
            check.require(
                email_if_any(Some(&self.email)),
                "email",
                "write an address like name@example.com, or nothing",
            );
        }
        if old.is_none() {
            self.active &= !self.pass.hash().is_empty();
            if self.timezone.is_none() && !self.internal {
                self.timezone = self.own_timezone(check.rows);
            }
        }
        let can_log_in = !self.active || !self.pass.hash().is_empty();
        check.require(
            can_log_in,
            "pass",
            "an active administrator needs a password; give one, or make it inactive",
        );
        self.can_impersonate |= !self.restricted;
    }

    fn saved(&self, old: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        if old.is_some_and(Self::keeps_the_platform) && !self.keeps_the_platform() {
            draft.at_end(somebody_is_left);
        }
        let closes = |old: &Self| old.pass.hash() != self.pass.hash() || (old.active && !self.active);
        if old.is_some_and(closes) {
            EndedLogins::end(draft, "administrator", self.id.get())?;
        }
        let level = |row: &Self| (row.restricted, row.brand.is_some(), row.company.is_some());
        match old {
            Some(old) if level(old) == level(self) => Ok(()),
            None if !self.restricted => Ok(()),
            _ => self.follow_grants(draft),
        }
    }

    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        if self.keeps_the_platform() {
            draft.at_end(somebody_is_left);
        }
        Ok(())
    }
}

/// A platform that nobody can administer any more could only be repaired from outside.
fn somebody_is_left(rows: &Rows) -> Result<(), Refusal> {
    if rows.each::<Administrator>().any(Administrator::keeps_the_platform) {
        return Ok(());
    }
    let why = "this is the last administrator of the platform who is active and not restricted; make another one first";
    Err(Refusal::Forbidden(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_new_administrator_may_come_without_a_password() {
        assert!(!Administrator::definition().field("pass").unwrap().required());
        assert!(Administrator::definition().field("username").unwrap().required());
    }

    #[test]
    fn the_last_administrator_of_the_platform_stays() {
        let others = |draft: &mut Draft<'_>, keep: u32| {
            let of_platform = |row: &&Administrator| row.keeps_the_platform() && row.id.get() != keep;
            let ids: Vec<_> = draft.rows().each().filter(of_platform).map(|row| row.id).collect();
            ids.into_iter().try_for_each(|id| draft.delete(id))
        };
        let one =
            crate::testing::sample().each::<Administrator>().find(|row| row.keeps_the_platform()).unwrap().id;
        let heir = || Administrator { username: "heir".into(), brand: None, ..somebody() };
        let ways: [fn(&mut Administrator); 3] =
            [|row| row.active = false, |row| row.restricted = true, |row| row.brand = Some(Id::new(1))];
        for (place, way) in ways.into_iter().enumerate() {
            let alone = change(|draft| others(draft, one.get()).and_then(|()| draft.change(one, way)));
            assert!(alone.is_err(), "{place}");
            change(|draft| draft.create(heir()).and_then(|_| draft.change(one, way))).unwrap();
        }
        assert!(change(|draft| others(draft, 0)).is_err());
        change(|draft| {
            let id = draft.create(heir())?;
            others(draft, id.get())
        })
        .unwrap();
    }

    fn grants(rows: &Rows, id: Id<Administrator>) -> Vec<(bool, bool, bool, bool)> {
        let grants = rows.of::<AdministratorRelPublicEntity>("administrator", id.get());
        grants.map(|grant| (grant.create, grant.read, grant.update, grant.delete)).collect()
    }

    fn somebody() -> Administrator {
        let pass = Password::from_hash("hash");
        Administrator {
            username: "somebody".into(),
            pass,
            brand: Some(Id::new(1)),
            ..Administrator::default()
        }
    }

    #[test]
    fn becoming_restricted_gives_grants_to_read_and_no_more() {
        let admin = Id::new(2);
        let (_, rows, _) =
            change(|draft| draft.change(admin, |row: &mut Administrator| row.restricted = true)).unwrap();
        let kinds = rows.each::<PublicEntity>().filter(|kind| kind.brand).count();
        assert_eq!(grants(&rows, admin), vec![(false, true, false, false); kinds]);
    }

    #[test]
    fn becoming_unrestricted_removes_all_grants_and_allows_impersonation() {
        let admin = Id::new(7);
        let change = change(|draft| draft.change(admin, |row: &mut Administrator| row.restricted = false));
        let (_, rows, _) = change.unwrap();
        assert_eq!(grants(&rows, admin), []);
        assert!(rows.get(admin).unwrap().can_impersonate);
    }

    #[test]
    fn grants_follow_to_another_level_and_stay_as_they_were_otherwise() {
        let (brand_level, own) = (Id::new(6), Id::new(1));
        let (_, rows, _) = change(|draft| {
            let grant =
                draft.rows().of::<AdministratorRelPublicEntity>("administrator", 6).next().unwrap().id;
            draft.change(grant, |row: &mut AdministratorRelPublicEntity| row.create = true)?;
            draft.change(brand_level, |row: &mut Administrator| row.name = Some("Other".into()))
        })
        .unwrap();
        assert!(grants(&rows, brand_level).contains(&(true, true, false, false)));
        let to_client = |row: &mut Administrator| row.company = Some(own);
        let (_, rows, _) = change(|draft| draft.change(brand_level, to_client)).unwrap();
        let kinds = rows.each::<PublicEntity>().filter(|kind| kind.client).count();
        assert_eq!(grants(&rows, brand_level).len(), kinds);
    }

    #[test]
    fn without_a_password_nobody_is_active() {
        let new = || Administrator { pass: Password::default(), ..somebody() };
        let (id, rows, _) = change(|draft| draft.create(new())).unwrap();
        assert!(!rows.get(id).unwrap().active);
        let (id, rows, _) = change(|draft| draft.create(somebody())).unwrap();
        assert!(rows.get(id).unwrap().active);
        let clear = |row: &mut Administrator| row.pass = Password::default();
        let refusal = change(|draft| draft.change(Id::new(2), clear)).unwrap_err();
        assert!(refusal.to_string().starts_with("pass: "), "{refusal}");
    }

    #[test]
    fn an_administrator_of_a_client_belongs_to_its_brand() {
        let of = |brand: Option<u32>| Administrator {
            brand: brand.map(Id::new),
            company: Some(Id::new(6)),
            ..somebody()
        };
        let (id, rows, _) = change(|draft| draft.create(of(None))).unwrap();
        assert_eq!(rows.get(id).unwrap().brand, Some(Id::new(2)));
        assert_eq!(rows.get(id).unwrap().timezone, Some(Id::new(18)), "the client's");
        assert!(change(|draft| draft.create(of(Some(1)))).is_err());
    }

    #[test]
    fn names_and_addresses_are_checked() {
        for name in ["", "__b7_internal", "__B7_Internal"] {
            assert!(
                change(|draft| draft.create(Administrator { username: name.into(), ..somebody() })).is_err(),
                "{name}"
            );
        }
        assert!(
            change(|draft| draft.create(Administrator { email: "nobody".into(), ..somebody() })).is_err()
        );
    }
}
