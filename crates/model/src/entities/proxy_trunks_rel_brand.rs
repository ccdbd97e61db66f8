//! Which trunk addresses a brand may use.
//!
//! Manual, chapters 8.1 and 8.14.2. Also written through the brand's list of addresses.

use crate::prelude::*;

/// One trunk address that a brand may give to its carriers and DDI providers. It cannot be taken away while
/// one of them uses it.
#[derive(Clone, Debug, Entity)]
#[entity(path = "proxy_trunks_rel_brands", access = ACCESS, unique(proxy_trunk, brand), rules)]
pub struct ProxyTrunksRelBrand {
    /// Number of the pair.
    #[field(platform = "ld")]
    pub id: Id<ProxyTrunksRelBrand>,
    /// The brand.
    #[field(delete = "cascade", index, platform = "ldw")]
    pub brand: Id<Brand>,
    /// The address.
    #[field(delete = "cascade", index, platform = "ldw")]
    pub proxy_trunk: Id<ProxyTrunk>,
}

const ACCESS: &[Access] = &[Access::at(Level::Platform, "lgcud").acl().list_expands()];

impl Rules for ProxyTrunksRelBrand {
    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let (brand, trunk) = (self.brand, self.proxy_trunk);
        draft.at_end(move |rows| still_reachable(brand, trunk, rows));
        Ok(())
    }
}

/// A brand keeps the addresses that its carriers and DDI providers use.
fn still_reachable(brand: Id<Brand>, trunk: Id<ProxyTrunk>, rows: &Rows) -> Result<(), Refusal> {
    let kept = paired::<ProxyTrunksRelBrand>(rows, "brand", brand.get(), "proxyTrunk", trunk.get());
    if kept || rows.get(brand).is_none() {
        return Ok(());
    }
    match ProxyTrunk::user(trunk, Some(brand), rows) {
        Some(user) => Err(still_used(&format!("trunk address {trunk}"), &user)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_brand_keeps_the_addresses_that_its_providers_use() {
        let taken = change(|draft| draft.delete(Id::<ProxyTrunksRelBrand>::new(1)));
        assert!(taken.unwrap_err().to_string().contains("carrier CarrierName"));
        let replaced = change(|draft| {
            draft.delete(Id::<ProxyTrunksRelBrand>::new(1))?;
            draft.create(ProxyTrunksRelBrand {
                id: Id::default(),
                brand: Id::new(1),
                proxy_trunk: Id::new(1),
            })
        });
        assert!(replaced.is_ok(), "a set may be written anew");
        let unused = change(|draft| {
            let pair = ProxyTrunksRelBrand { id: Id::default(), brand: Id::new(2), proxy_trunk: Id::new(1) };
            let pair = draft.create(pair)?;
            draft.delete(pair)
        });
        assert!(unused.is_ok());
    }
}
