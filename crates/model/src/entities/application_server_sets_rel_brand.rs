//! Which sets of application servers a brand may give to its clients.
//!
//! Manual, chapter 8.1. Written through the brand's list of sets.

use crate::prelude::*;

/// One set of application servers that a brand may use.
#[derive(Clone, Debug, Entity)]
#[entity(unique(application_server_set, brand), rules)]
pub struct ApplicationServerSetsRelBrand {
    /// Number of the pair.
    pub id: Id<ApplicationServerSetsRelBrand>,
    /// The brand.
    #[field(delete = "cascade", index)]
    pub brand: Id<Brand>,
    /// The set.
    #[field(index)]
    pub application_server_set: Id<ApplicationServerSet>,
}

impl Rules for ApplicationServerSetsRelBrand {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        keep_pair(old, check);
    }

    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let (brand, set) = (self.brand, self.application_server_set);
        draft.at_end(move |rows| still_served(brand, set, rows));
        Ok(())
    }
}

/// A brand keeps the sets that its clients use, and one at least.
fn still_served(brand: Id<Brand>, set: Id<ApplicationServerSet>, rows: &Rows) -> Result<(), Refusal> {
    let Some(owner) = rows.get(brand) else { return Ok(()) };
    owner.has_sets(rows)?;
    if paired::<ApplicationServerSetsRelBrand>(rows, "brand", brand.get(), "applicationServerSet", set.get())
    {
        return Ok(());
    }
    match rows.of::<Company>("brand", brand.get()).find(|company| company.application_server_set == set) {
        Some(user) => {
            Err(still_used(&format!("application server set {set}"), &format!("client {}", user.name)))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_brand_keeps_the_sets_that_its_clients_use_and_one_at_least() {
        let take = |pair: u32| change(|draft| draft.delete(Id::<ApplicationServerSetsRelBrand>::new(pair)));
        assert!(take(2).unwrap_err().to_string().contains("client DemoCompany"));
        assert!(take(4).unwrap_err().to_string().contains("one application server set at least"));
        let swap = change(|draft| {
            draft.delete(Id::<ApplicationServerSetsRelBrand>::new(4))?;
            let (brand, application_server_set) = (Id::new(3), Id::new(2));
            draft.create(ApplicationServerSetsRelBrand { id: Id::default(), brand, application_server_set })
        });
        assert!(swap.is_ok());
    }

    #[test]
    fn a_pair_is_not_changed() {
        let other = |pair: &mut ApplicationServerSetsRelBrand| pair.application_server_set = Id::new(2);
        assert!(matches!(change(|draft| draft.change(Id::new(1), other)), Err(Refusal::Forbidden(_))));
    }
}
