//! Notification templates: mails that the platform sends, by occasion.
//!
//! Manual, chapters 8.7 and 9.7.4. Elsewhere: what they say in each language (`notification_template_content`).

use crate::prelude::*;

/// A mail for one occasion. Templates of the platform are used where neither the client nor the brand chose
/// one.
#[derive(Clone, Debug, Entity)]
#[entity(path = "notification_templates", access = ACCESS, unique(name, brand), rules)]
pub struct NotificationTemplate {
    /// Number of the template.
    #[field(platform = "ld", brand = "ld", client = "d")]
    pub id: Id<NotificationTemplate>,
    /// What operators call it; it occurs once within the brand.
    #[field(max = 55, platform = "ld", brand = "ldw", client = "d")]
    pub name: String,
    /// The occasion; it decides which placeholders subject and body may have.
    #[field(name = "type", platform = "ld", brand = "ldw", client = "d")]
    pub kind: NotificationTemplateKind,
    /// The brand that it belongs to; null: it is the platform's default for the occasion. This cannot be
    /// changed later.
    #[field(delete = "cascade", index, platform = "d")]
    pub brand: Option<Id<Brand>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lg").acl().order(&["name"]),
    Access::at(Level::Brand, "lgcud").acl().order(&["name"]).read(&[Rule::OwnBrand("brand")]),
];

choice! {
    /// When a mail is sent.
    pub enum NotificationTemplateKind {
        /// A voicemail was left.
        Voicemail = "voicemail",
        /// A fax was received.
        Fax = "fax",
        /// Recordings come near to the size that they may have.
        Limit = "limit",
        /// A balance fell below the amount set for it.
        Lowbalance = "lowbalance",
        /// An invoice was made.
        Invoice = "invoice",
        /// A scheduled call list was made.
        CallCsv = "callCsv",
        /// A client reached its daily limit.
        MaxDailyUsage = "maxDailyUsage",
        /// A user is told how to log in.
        AccessCredentials = "accessCredentials",
        /// A recording on demand was made.
        OnDemandRecord = "onDemandRecord",
    }
}

impl Rules for NotificationTemplate {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if old.is_some_and(|old| old.brand != self.brand) {
            check.wrong("brand", "a template stays with its brand, or with the platform; make another one");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_template_stays_with_its_owner() {
        let move_to = |id: u32, brand: Option<u32>| {
            let brand = brand.map(Id::new);
            change(|draft| draft.change(Id::new(id), |row: &mut NotificationTemplate| row.brand = brand))
        };
        assert!(move_to(1, None).is_err());
        assert!(move_to(2, Some(1)).is_err());
        assert!(move_to(1, Some(1)).is_ok());
    }
}
