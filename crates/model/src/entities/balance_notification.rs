//! Balance notifications: who is written to when a balance runs low.
//! Manual, chapter 9.4.3 "Balance Notifications".

use crate::checks::{host_name, of_same_brand};
use crate::prelude::*;

/// A mail that is sent when the balance of a client or a carrier falls below a threshold.
#[derive(Clone, Debug, Entity)]
#[entity(path = "balance_notifications", access = ACCESS, rules)]
pub struct BalanceNotification {
    /// Identifies the notification.
    #[field(brand = "ld")]
    pub id: Id<BalanceNotification>,
    /// The address that the mail goes to.
    #[field(max = 255, brand = "ldw")]
    pub to_address: Option<String>,
    /// The mail is sent when the balance is below this, in the currency of the client or carrier.
    #[field(scale = 4, high = 999999, default = Decimal::ZERO, brand = "ldw")]
    pub threshold: Option<Decimal>,
    /// When the mail was last sent; null: never.
    #[field(brand = "ldw")]
    pub last_sent: Option<Timestamp>,
    /// The client whose balance is watched; null when it is a carrier's.
    #[field(delete = "clear", index, brand = "dw")]
    pub company: Option<Id<Company>>,
    /// The carrier whose balance is watched; null when it is a client's.
    #[field(delete = "clear", index, brand = "dw")]
    pub carrier: Option<Id<Carrier>>,
    /// The words of the mail; null: the platform's own.
    #[field(delete = "clear", brand = "ldw")]
    pub notification_template: Option<Id<NotificationTemplate>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Brand, "lgcud")
    .acl()
    .order(&["notificationTemplate"])
    .brand_feature("billing")
    .read(&[Rule::Any(&[Rule::OwnClients("company"), Rule::Visible("carrier")])])
    .write(&[
        Rule::Any(&[Rule::OwnClients("company"), Rule::Null("company")]),
        Rule::VisibleOrNull("notificationTemplate"),
        Rule::VisibleOrNull("carrier"),
    ])];

impl Rules for BalanceNotification {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        one_account(&mut self.company, self.carrier, check);
        check_recipient(&self.to_address, old.map(|old| &old.to_address), check);
        let of_carrier = check.rows.at(self.carrier).map(|carrier| carrier.brand);
        let of_company = check.rows.at(self.company).map(|company| company.brand);
        if let Some(brand) = of_carrier.or(of_company) {
            of_same_brand(self, old, brand, &["notificationTemplate"], check);
        }
    }
}

/// A new address in `toAddress` is one for mail, or one within the operator's own network: `alarms@noc`.
pub(crate) fn check_recipient(address: &Option<String>, old: Option<&Option<String>>, check: &mut Check<'_>) {
    let sound = |address: &str| {
        address.rsplit_once('@').is_some_and(|(local, host)| {
            !local.is_empty() && !local.contains(|c: char| c.is_whitespace() || c == '@') && host_name(host)
        })
    };
    let right = address.as_deref().is_none_or(|address| address.is_empty() || sound(address));
    check.require(
        right || old == Some(address),
        "toAddress",
        "write one address for mail, such as alarms@example.com",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(make: impl FnOnce(&mut BalanceNotification)) -> Result<BalanceNotification, Refusal> {
        let id = Id::<BalanceNotification>::new(1);
        change(|draft| draft.change(id, make)).map(|(_, rows, _)| rows.get(id).unwrap().clone())
    }

    #[test]
    fn a_carrier_takes_the_place_of_a_client() {
        assert_eq!(changed(|row| row.carrier = Some(Id::new(1))).unwrap().company, None);
        assert!(changed(|row| row.company = None).unwrap_err().to_string().starts_with("company: "));
    }

    #[test]
    fn the_address_is_one_for_mail() {
        for right in ["a@b.example", "updated@address", ""] {
            assert!(changed(|row| row.to_address = Some(right.to_owned())).is_ok(), "{right}");
        }
        for wrong in ["nobody", "a b@c.example", "a@b@c", "@b"] {
            assert!(changed(|row| row.to_address = Some(wrong.to_owned())).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_template_is_of_the_same_brand() {
        let made = change(|draft| {
            let theirs = NotificationTemplate {
                brand: Some(Id::new(2)),
                name: "x".to_owned(),
                ..NotificationTemplate::default()
            };
            let theirs = draft.create(theirs)?;
            draft.change(Id::<BalanceNotification>::new(1), |row| row.notification_template = Some(theirs))
        });
        assert!(made.unwrap_err().to_string().starts_with("notificationTemplate: "));
    }
}
