//! Which media relay sets a brand may give to clients and providers.
//!
//! Manual, chapters 8.1 and 8.14.3. Written through the brand's list of sets.

use crate::prelude::*;

/// One media relay set that a brand may use.
#[derive(Clone, Debug, Entity)]
#[entity(unique(media_relay_set, brand), rules)]
pub struct MediaRelaySetsRelBrand {
    /// Number of the pair.
    pub id: Id<MediaRelaySetsRelBrand>,
    /// The brand.
    #[field(delete = "cascade", index)]
    pub brand: Id<Brand>,
    /// The set.
    #[field(index)]
    pub media_relay_set: Id<MediaRelaySet>,
}

impl Rules for MediaRelaySetsRelBrand {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        keep_pair(old, check);
    }

    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let (brand, set) = (self.brand, self.media_relay_set);
        draft.at_end(move |rows| still_relayed(brand, set, rows));
        Ok(())
    }
}

/// A brand keeps the sets that its clients and providers use, and one at least.
fn still_relayed(brand: Id<Brand>, set: Id<MediaRelaySet>, rows: &Rows) -> Result<(), Refusal> {
    let Some(owner) = rows.get(brand) else { return Ok(()) };
    owner.has_sets(rows)?;
    if paired::<MediaRelaySetsRelBrand>(rows, "brand", brand.get(), "mediaRelaySet", set.get()) {
        return Ok(());
    }
    let brand = brand.get();
    let client = rows.of::<Company>("brand", brand).find(|row| row.media_relay_set == set);
    let carrier = rows.of::<Carrier>("brand", brand).find(|row| row.media_relay_set == Some(set));
    let provider = rows.of::<DdiProvider>("brand", brand).find(|row| row.media_relay_set == Some(set));
    let user = client
        .map(|row| format!("client {}", row.name))
        .or_else(|| carrier.map(|row| format!("carrier {}", row.name)))
        .or_else(|| provider.map(|row| format!("DDI provider {}", row.name)));
    user.map_or(Ok(()), |user| Err(still_used(&format!("media relay set {set}"), &user)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_brand_keeps_the_relays_that_it_uses_and_one_set_at_least() {
        let take = |pair: u32| change(|draft| draft.delete(Id::<MediaRelaySetsRelBrand>::new(pair)));
        assert!(take(1).unwrap_err().to_string().contains("client DemoCompany"));
        assert!(take(3).unwrap_err().to_string().contains("one media relay set at least"));
        assert!(take(4).is_ok());
        let with_provider = change(|draft| {
            draft.change(Id::new(1), |row: &mut DdiProvider| row.media_relay_set = Some(Id::new(1)))?;
            draft.delete(Id::<MediaRelaySetsRelBrand>::new(4))
        });
        assert!(with_provider.unwrap_err().to_string().contains("DDI provider DDIProviderName"));
    }
}
