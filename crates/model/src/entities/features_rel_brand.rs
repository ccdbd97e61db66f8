//! Which features a brand has.
//!
//! Manual, chapter 8.1. Also written through the brand's list of features.

use crate::prelude::*;

/// One feature of one brand. It is given or taken, never changed.
#[derive(Clone, Debug, Entity)]
#[entity(path = "features_rel_brands", access = ACCESS, unique(feature, brand), rules)]
pub struct FeaturesRelBrand {
    /// Number of the pair.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<FeaturesRelBrand>,
    /// The brand.
    #[field(delete = "cascade", index, platform = "ldw")]
    pub brand: Id<Brand>,
    /// The feature.
    #[field(delete = "cascade", index, platform = "ldw", brand = "ld")]
    pub feature: Id<Feature>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgcud").acl(),
    Access::at(Level::Brand, "lg").acl().read(&[Rule::OwnBrand("brand")]).write(&[Rule::Never]),
];

impl Rules for FeaturesRelBrand {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        keep_pair(old, check);
    }

    fn saved(&self, _: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let brand = self.brand;
        draft.at_end(move |rows| rows.get(brand).map_or(Ok(()), |brand| brand.has_domain_if_needed(rows)));
        Ok(())
    }

    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let (brand, feature) = (self.brand, self.feature);
        let iden = draft.get(feature).map(|feature| feature.iden.clone()).unwrap_or_default();
        draft.at_end(move |rows| still_given(brand, feature, &iden, rows));
        Ok(())
    }
}

/// A brand keeps the features that its clients have, and billing while one of them is billed.
fn still_given(brand: Id<Brand>, feature: Id<Feature>, iden: &str, rows: &Rows) -> Result<(), Refusal> {
    let kept = paired::<FeaturesRelBrand>(rows, "brand", brand.get(), "feature", feature.get());
    if kept || rows.get(brand).is_none() {
        return Ok(());
    }
    let has = |company: &&Company| {
        paired::<FeaturesRelCompany>(rows, "company", company.id.get(), "feature", feature.get())
            || (iden == Feature::BILLING && company.billing_method != CompanyBillingMethod::None)
    };
    match rows.of::<Company>("brand", brand.get()).find(has) {
        Some(user) => Err(still_used(&format!("feature {iden}"), &format!("client {}", user.name))),
        None => Ok(()),
    }
}

/// Pairs are made and deleted; changing one is not offered.
pub(crate) fn keep_pair<E>(old: Option<&E>, check: &mut Check<'_>) {
    if old.is_some() {
        check.forbid("this cannot be changed; delete it and make another one");
    }
}

/// Why something cannot be taken from a brand.
pub(crate) fn still_used(what: &str, user: &str) -> Refusal {
    Refusal::Forbidden(format!("{user} still uses {what}; choose another one there first"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn take(feature: u32) -> Result<(), Refusal> {
        change(|draft| {
            let pairs = draft.rows().of::<FeaturesRelBrand>("brand", 1);
            let pair = pairs.into_iter().find(|pair| pair.feature == Id::new(feature)).unwrap().id;
            draft.delete(pair)
        })
        .map(drop)
    }

    #[test]
    fn a_brand_keeps_the_features_that_its_clients_have() {
        let (queues, billing, invoices) = (1, 6, 7);
        assert!(take(queues).unwrap_err().to_string().contains("feature queues"));
        assert!(take(billing).unwrap_err().to_string().contains("feature billing"));
        assert_eq!(take(invoices), Ok(()));
    }

    #[test]
    fn retail_clients_need_a_brand_with_a_domain() {
        let retail = Id::new(9);
        let give = |brand: u32| {
            let brand = Id::new(brand);
            change(|draft| draft.create(FeaturesRelBrand { id: Id::default(), brand, feature: retail }))
        };
        assert!(matches!(give(1), Err(Refusal::Invalid(_))));
        assert!(give(2).is_ok());
    }

    #[test]
    fn a_feature_is_given_or_taken_and_never_changed() {
        let same = change(|draft| draft.change(Id::new(1), |_: &mut FeaturesRelBrand| ()));
        assert!(matches!(same, Err(Refusal::Forbidden(_))));
    }
}
