//! Invoice templates: what invoices look like.
//!
//! Manual, chapters 8.8 and 9.5.5. Elsewhere: making the PDF (`invoice`).

use crate::checks::differs;
use crate::prelude::*;

/// The text of an invoice with placeholders (Handlebars) in HTML. Templates of the platform serve all brands,
/// which cannot change them.
#[derive(Clone, Debug, Entity)]
#[entity(path = "invoice_templates", access = ACCESS, computed = COMPUTED, unique(name, brand), rules)]
pub struct InvoiceTemplate {
    /// Number of the template.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<InvoiceTemplate>,
    /// What operators call it; it occurs once within the brand.
    #[field(max = 55, platform = "ldw", brand = "ldw")]
    pub name: String,
    /// A note for operators.
    #[field(max = 300, platform = "ldw", brand = "ldw")]
    pub description: Option<String>,
    /// The body of the invoice.
    #[field(platform = "dw", brand = "dw")]
    pub template: String,
    /// What stands at the top of every page; empty: nothing.
    #[field(platform = "dw", brand = "dw")]
    pub template_header: Option<String>,
    /// What stands at the foot of every page; empty: nothing.
    #[field(platform = "dw", brand = "dw")]
    pub template_footer: Option<String>,
    /// The brand that it belongs to; null: it is the platform's, for all brands. This cannot be changed
    /// later.
    #[field(delete = "cascade", index, platform = "dw")]
    pub brand: Option<Id<Brand>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgcud").acl().order(&["name"]).read(&[Rule::Null("brand")]),
    Access::at(Level::Brand, "lgcud")
        .acl()
        .order(&["name"])
        .read(&[Rule::Any(&[Rule::OwnBrand("brand"), Rule::Null("brand")])])
        .write(&[Rule::OwnBrand("brand")]),
];

const COMPUTED: &[Computed] = &[Computed::new(
    "global",
    "Whether it is one of the platform's, which the brand can use and not change.",
    How::Derived(global),
)
.at(Level::Brand, "ldnw")];

/// Whether the template is one of the platform's.
fn global(row: &dyn Record, _: &Rows) -> Json {
    Json::Bool(row.named("brand").is_null())
}

impl Rules for InvoiceTemplate {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if differs(self, old, "template") {
            let written = !self.template.trim().is_empty();
            check.require(written, "template", "write the body of the invoice; it cannot be empty");
        }
        if old.is_some_and(|old| old.brand.is_none() != self.brand.is_none()) {
            check.forbid(
                "a template of the platform cannot become a brand's, nor the reverse; make another one",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_template_is_not_empty_and_stays_with_its_owner() {
        let set = |id: u32, set: fn(&mut InvoiceTemplate)| change(|draft| draft.change(Id::new(id), set));
        assert!(set(1, |row| row.template = "<p>{{total}}</p>".into()).is_ok());
        assert!(matches!(set(1, |row| row.template = " ".into()), Err(Refusal::Invalid(_))));
        assert!(matches!(set(1, |row| row.brand = None), Err(Refusal::Forbidden(_))));
        assert!(matches!(set(2, |row| row.brand = Some(Id::new(1))), Err(Refusal::Forbidden(_))));
    }

    #[test]
    fn templates_of_the_platform_are_global() {
        let rows = crate::testing::sample();
        let is_global = |id: u32| global(rows.get(Id::<InvoiceTemplate>::new(id)).unwrap(), &rows);
        assert_eq!((is_global(1), is_global(2)), (Json::Bool(false), Json::Bool(true)));
    }
}
