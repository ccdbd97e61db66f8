//! Codes that a brand's telephones dial to reach a service.
//!
//! Manual, chapter 9.7.6.

use crate::checks::{differs, service_code};
use crate::prelude::*;

/// The code of a service within a brand: new vPBX clients start with it, and residential clients always use
/// it.
#[derive(Clone, Debug, Entity)]
#[entity(path = "brand_services", access = ACCESS, unique(brand, service), rules)]
pub struct BrandService {
    /// Number of the code.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<BrandService>,
    /// What is dialled after the asterisk: up to three digits, # or *.
    #[field(max = 3, platform = "ldw", brand = "ldw")]
    pub code: String,
    /// The brand.
    #[field(delete = "cascade", index, platform = "dw")]
    pub brand: Id<Brand>,
    /// The service that the code reaches.
    #[field(delete = "cascade", platform = "ldw", brand = "ldw")]
    pub service: Id<Service>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgcud").acl().order(&["service", "code"]),
    Access::at(Level::Brand, "lgcud").acl().order(&["service.iden"]).read(&[Rule::OwnBrand("brand")]),
];

impl Rules for BrandService {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if differs(self, old, "code") {
            check.require(service_code(&self.code), "code", SERVICE_CODE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_code_has_digits_and_signs_of_a_keypad() {
        let set = |code: &str| {
            change(|draft| draft.change(Id::new(1), |row: &mut BrandService| row.code = code.into()))
        };
        assert!(set("*9#").is_ok());
        assert!(set("9a").is_err());
        assert!(set("").is_err());
    }
}
