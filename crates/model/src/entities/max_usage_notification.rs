//! Usage notifications: who is written to when a client has spent much in a day.
//! Manual, chapter 9.4.3 "Current day usages".

use crate::checks::of_same_brand;
use crate::prelude::*;

/// A mail that is sent when what a client has spent on one day reaches a threshold.
#[derive(Clone, Debug, Entity)]
#[entity(rules)]
pub struct MaxUsageNotification {
    /// Identifies the notification.
    pub id: Id<MaxUsageNotification>,
    /// The address that the mail goes to.
    #[field(max = 255)]
    pub to_address: Option<String>,
    /// What the client must have spent on one day, in its currency.
    #[field(scale = 4, min = 0, high = 999999, default = Decimal::ZERO)]
    pub threshold: Option<Decimal>,
    /// When the mail was last sent; null: never.
    pub last_sent: Option<Timestamp>,
    /// The words of the mail; null: the platform's own.
    #[field(delete = "clear")]
    pub notification_template: Option<Id<NotificationTemplate>>,
    /// The client that is watched.
    #[field(delete = "clear", index)]
    pub company: Option<Id<Company>>,
}

impl Rules for MaxUsageNotification {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        check_recipient(&self.to_address, old.map(|old| &old.to_address), check);
        if let Some(company) = check.rows.at(self.company) {
            of_same_brand(self, old, company.brand, &["notificationTemplate"], check);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn the_address_is_one_for_mail() {
        let with = |address: &str| {
            change(|draft| {
                draft.change(Id::<MaxUsageNotification>::new(1), |row| {
                    row.to_address = Some(address.to_owned())
                })
            })
        };
        assert!(with("noc@example.com").is_ok());
        assert!(with("noc").unwrap_err().to_string().starts_with("toAddress: "));
    }
}
