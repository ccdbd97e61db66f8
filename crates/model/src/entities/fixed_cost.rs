//! Fixed costs: what invoices charge beside calls.
//! Manual, chapter 9.5.4 "Fixed costs".

use crate::prelude::*;

/// A service with a price of its own that invoices may charge, such as a line's monthly fee.
#[derive(Clone, Debug, Entity)]
#[entity(path = "fixed_costs", access = ACCESS, unique(brand, name))]
pub struct FixedCost {
    /// Identifies the fixed cost.
    #[field(brand = "ld")]
    pub id: Id<FixedCost>,
    /// Its name, as invoices show it; once in the brand.
    #[field(max = 255, brand = "ldw")]
    pub name: String,
    /// Anything worth knowing about it.
    #[field(max = 1024, brand = "ldw")]
    pub description: Option<String>,
    /// The price of one, without tax.
    #[field(scale = 4, min = 0, high = 999999, needed, brand = "ldw")]
    pub cost: Option<Decimal>,
    /// The brand that it belongs to.
    #[field(delete = "cascade", index)]
    pub brand: Id<Brand>,
}

const ACCESS: &[Access] =
    &[Access::at(Level::Brand, "lgcud").acl().order(&["name"]).read(&[Rule::OwnBrand("brand")])];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_fixed_cost_has_a_price() {
        let with = |cost| change(|draft| draft.change(Id::<FixedCost>::new(1), |row| row.cost = cost));
        assert!(with(None).unwrap_err().to_string().starts_with("cost: "));
        assert!(with(Some(Decimal::ZERO)).is_ok());
    }
}
