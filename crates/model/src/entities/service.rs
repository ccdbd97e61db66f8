//! Services that telephones reach by dialling a code.
//!
//! Manual, chapter 8.5. They come with the platform. Elsewhere: codes in use (`brand_service`, `company_service`).

use crate::checks::{differs, service_code};
use crate::prelude::*;

/// A service that is reached by dialling an asterisk and a code: pick-up, voicemail, locks. New brands start
/// with its default code; brands that are there keep theirs.
#[derive(Clone, Debug, Entity)]
#[entity(path = "services", access = ACCESS, rules)]
pub struct Service {
    /// Number of the service.
    #[field(platform = "ld", brand = "ld", client = "ld")]
    pub id: Id<Service>,
    /// The word by which calls know it; it cannot be changed.
    #[field(max = 50, default = "", platform = "ldw", brand = "ld", client = "ld")]
    pub iden: String,
    /// The code for new brands: up to three digits, # or *.
    #[field(max = 3, platform = "ldw", brand = "ld", client = "ld")]
    pub default_code: String,
    /// Whether more digits may follow the code, such as an extension.
    #[field(default = false, platform = "ldw", brand = "ld", client = "ld")]
    pub extra_args: bool,
    /// Its name for people; it cannot be changed.
    #[field(max = 50, platform = "ldw", brand = "ld", client = "ld")]
    pub name: Translated,
    /// What it does; it cannot be changed.
    #[field(max = 255, platform = "ldw", brand = "ld", client = "ld")]
    pub description: Translated,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgu").acl().order(&["iden"]),
    Access::at(Level::Brand, "lg").acl().order(&["iden"]),
    Access::at(Level::Client, "lg")
        .acl()
        .order(&["iden"])
        .read(&[Rule::Where(of_own_brand)])
        .write(&[Rule::Never]),
];

fn of_own_brand(row: &dyn Record, caller: &Caller, rows: &Rows) -> bool {
    paired::<BrandService>(rows, "brand", caller.brand.unwrap_or(0), "service", row.id())
}

/// How the code of a service is written.
pub(crate) const SERVICE_CODE: &str = "write up to three digits, # or *";

impl Rules for Service {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if differs(self, old, "defaultCode") {
            check.require(service_code(&self.default_code), "defaultCode", SERVICE_CODE);
        }
        for field in ["iden", "name", "description"] {
            let kept = old.is_none() || !differs(self, old, field);
            check.require(
                kept,
                field,
                "the platform's services keep what they are called; only the code can be changed",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn set(set: impl FnOnce(&mut Service)) -> Result<(), Refusal> {
        change(|draft| draft.change(Id::new(1), set)).map(drop)
    }

    #[test]
    fn only_the_code_of_a_service_changes() {
        assert_eq!(set(|service| service.default_code = "#1".into()), Ok(()));
        assert!(set(|service| service.default_code = "1.".into()).is_err());
        assert!(set(|service| service.iden = "Other".into()).is_err());
        assert!(set(|service| service.name.en = "Other".into()).is_err());
        assert!(set(|service| service.description = Translated::same("Other")).is_err());
    }
}
