//! Which features a client has.
//!
//! Manual, chapter 9.1. Also written through the client's list of features.

use crate::prelude::*;

/// One feature of one client. It counts only while the brand has the feature, too. It is given or taken,
/// never changed.
#[derive(Clone, Debug, Entity)]
#[entity(path = "features_rel_companies", access = ACCESS, unique(feature, company), rules)]
pub struct FeaturesRelCompany {
    /// Number of the pair.
    #[field(brand = "ld", client = "ld")]
    pub id: Id<FeaturesRelCompany>,
    /// The client.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub company: Id<Company>,
    /// The feature.
    #[field(delete = "cascade", index, brand = "ldw", client = "ld")]
    pub feature: Id<Feature>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lgcd")
        .acl()
        .list_expands()
        .create_expands()
        .read(&[Rule::OwnClients("company")]),
    Access::at(Level::Client, "lg")
        .acl()
        .list_expands()
        .read(&[Rule::OwnCompany("company")])
        .write(&[Rule::Never]),
];

impl Rules for FeaturesRelCompany {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        keep_pair(old, check);
        let (Some(company), Some(feature)) = (check.rows.get(self.company), check.rows.get(self.feature))
        else {
            return;
        };
        let iden = feature.iden.as_str();
        if Feature::VPBX_ONLY.contains(&iden) && company.kind != CompanyKind::Vpbx {
            check.forbid(format!("only vPBX clients can have the feature {iden}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn some_features_are_for_vpbx_clients_only() {
        const WEBHOOKS: u32 = 10;
        let give = |company: u32, feature: u32| {
            let (company, feature) = (Id::new(company), Id::new(feature));
            change(|draft| draft.create(FeaturesRelCompany { id: Id::default(), company, feature }))
        };
        assert!(give(2, WEBHOOKS).is_ok());
        assert!(matches!(give(3, WEBHOOKS), Err(Refusal::Forbidden(_))));
        assert!(give(3, 2).is_ok());
    }
}
