//! What a notification says in one language.
//!
//! Manual, chapters 8.7 and 9.7.4.

use crate::checks::{differs, email_if_any};
use crate::prelude::*;

/// A notification's sender, subject and body in one language. Languages that a brand's template lacks are
/// taken from the platform's.
#[derive(Clone, Debug, Entity)]
#[entity(path = "notification_template_contents", access = ACCESS, unique(notification_template, language), rules)]
pub struct NotificationTemplateContent {
    /// Number of the content.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<NotificationTemplateContent>,
    /// The sender's name.
    #[field(max = 255, platform = "ldw", brand = "ldw")]
    pub from_name: Option<String>,
    /// The sender's mail address.
    #[field(max = 255, platform = "ldw", brand = "ldw")]
    pub from_address: Option<String>,
    /// The subject; placeholders of the template's occasion are replaced.
    #[field(max = 255, platform = "dw", brand = "dw")]
    pub subject: String,
    /// The text; placeholders of the template's occasion are replaced.
    #[field(platform = "dw", brand = "dw")]
    pub body: String,
    /// How the text is written.
    #[field(default = NotificationTemplateContentBodyType::TextPlain, platform = "dw", brand = "dw")]
    pub body_type: NotificationTemplateContentBodyType,
    /// The template that this is a part of.
    #[field(delete = "cascade", index, platform = "dw", brand = "dw")]
    pub notification_template: Id<NotificationTemplate>,
    /// The language; each occurs once in a template.
    #[field(delete = "clear", platform = "ldw", brand = "ldw")]
    pub language: Option<Id<Language>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgu")
        .acl()
        .order(&["language"])
        .read(&[Rule::Visible("notificationTemplate")]),
    Access::at(Level::Brand, "lgcud")
        .acl()
        .order(&["language"])
        .read(&[Rule::Visible("notificationTemplate")]),
];

choice! {
    /// How the text of a mail is written.
    pub enum NotificationTemplateContentBodyType {
        /// Plain text.
        TextPlain = "text/plain",
        /// HTML.
        TextHtml = "text/html",
    }
}

impl Rules for NotificationTemplateContent {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if differs(self, old, "fromAddress") {
            let right = email_if_any(self.from_address.as_deref());
            check.require(right, "fromAddress", "write an address like no-reply@example.com, or nothing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_sender_has_a_mail_address_or_none() {
        let set = |address: &str| {
            let address = Some(address.to_owned());
            change(|draft| {
                draft.change(Id::new(1), |row: &mut NotificationTemplateContent| row.from_address = address)
            })
        };
        assert!(set("").is_ok());
        assert!(set("no-reply@example.com").is_ok());
        assert!(set("no-reply").is_err());
    }
}
