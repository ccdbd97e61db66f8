//! Call CSV schedulers: files of external calls that are made and mailed at regular times.
//! Manual, chapter 9.6.3 "Call CSV schedulers".

use crate::checks::{email, of_same_brand, of_same_company, zone};
use crate::prelude::*;

/// Makes a CSV file of external calls again and again, and mails it: of all clients of a brand, or of one client.
#[derive(Clone, Debug, Entity)]
#[entity(path = "call_csv_schedulers", access = ACCESS, unique(brand, name), rules)]
pub struct CallCsvScheduler {
    /// Identifies the scheduler.
    #[field(brand = "ld", client = "ld")]
    pub id: Id<CallCsvScheduler>,
    /// Its name, once in a brand and once in a client.
    #[field(max = 40, brand = "ldw", client = "ldw")]
    pub name: String,
    /// What the frequency counts.
    #[field(default = CallCsvSchedulerUnit::Month, brand = "ldw", client = "ldw")]
    pub unit: CallCsvSchedulerUnit,
    /// A file is made every so many units, and covers as many.
    #[field(min = 1, high = 1000, brand = "ldw", client = "ldw")]
    pub frequency: u16,
    /// Only calls of this direction; null: both.
    #[field(default = Direction::Outbound, brand = "ldw", client = "ldw")]
    pub call_direction: Option<Direction>,
    /// The address that files are mailed to; empty: they are only kept.
    #[field(max = 140, default = "", brand = "ldw", client = "ldw")]
    pub email: String,
    /// When the last file was made; null: none was.
    #[field(brand = "ld", client = "ld")]
    pub last_execution: Option<Timestamp>,
    /// Why the last attempt failed; null or empty: it did not.
    #[field(max = 300, brand = "ld", client = "ld")]
    pub last_execution_error: Option<String>,
    /// When the next file is made. Left out: at 8 in the morning of the next day, Monday or first of a month, by the
    /// unit. A moment of the past makes the file of that time at once.
    #[field(brand = "ldw", client = "ldw")]
    pub next_execution: Option<Timestamp>,
    /// The brand whose scheduler this is; null: it is a client's own.
    #[field(delete = "cascade", index)]
    pub brand: Option<Id<Brand>>,
    /// Only calls of this client; null: of all clients of the brand.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub company: Option<Id<Company>>,
    /// The words of the mail about all clients; null: the brand's. Mails about one client use the client's template.
    #[field(delete = "clear", brand = "dw", client = "dw")]
    pub call_csv_notification_template: Option<Id<NotificationTemplate>>,
    /// Only calls from or to this number of the client; null: of any.
    #[field(delete = "clear", brand = "dw", client = "dw")]
    pub ddi: Option<Id<Ddi>>,
    /// Only calls through this carrier; null: through any. For outbound calls only.
    #[field(delete = "clear", brand = "dw")]
    pub carrier: Option<Id<Carrier>>,
    /// Only calls of this account of a retail client; null: of any.
    #[field(delete = "clear", brand = "dw", client = "dw")]
    pub retail_account: Option<Id<RetailAccount>>,
    /// Only calls of this device of a residential client; null: of any.
    #[field(delete = "clear", brand = "dw", client = "dw")]
    pub residential_device: Option<Id<ResidentialDevice>>,
    /// Only calls of this user of a vPBX client; null: of any.
    #[field(delete = "clear", brand = "dw", client = "dw")]
    pub user: Option<Id<User>>,
    /// Only calls of this fax of a vPBX or residential client; null: of any.
    #[field(delete = "clear", brand = "dw", client = "dw")]
    pub fax: Option<Id<Fax>>,
    /// Only calls of this friend of a vPBX client; null: of any.
    #[field(delete = "clear", brand = "dw", client = "dw")]
    pub friend: Option<Id<Friend>>,
    /// Only calls that this DDI provider brought; null: any. Not for outbound calls.
    #[field(delete = "clear", brand = "dw")]
    pub ddi_provider: Option<Id<DdiProvider>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lgcud")
        .acl()
        .order(&["company", "name"])
        .read(&[Rule::OwnBrand("brand")])
        .write(&[
            Rule::OwnBrand("brand"),
            Rule::VisibleOrNull("callCsvNotificationTemplate"),
            Rule::VisibleOrNull("ddi"),
            Rule::VisibleOrNull("carrier"),
            Rule::VisibleOrNull("retailAccount"),
            Rule::VisibleOrNull("residentialDevice"),
            Rule::VisibleOrNull("ddiProvider"),
        ]),
    Access::at(Level::Client, "lgcud")
        .acl()
        .order(&["name"])
        .read(&[Rule::OwnCompany("company"), Rule::Null("brand")])
        .write(&[
            Rule::All(&[Rule::OwnCompany("company"), Rule::Null("carrier")]),
            Rule::VisibleOrNull("callCsvNotificationTemplate"),
            Rule::VisibleOrNull("ddi"),
            Rule::VisibleOrNull("retailAccount"),
            Rule::VisibleOrNull("residentialDevice"),
        ]),
];

choice! {
    /// What the frequency of a call CSV scheduler counts.
    pub enum CallCsvSchedulerUnit {
        /// Days.
        Day = "day",
        /// Weeks, from Monday on.
        Week = "week",
        /// Months of the calendar.
        Month = "month",
    }
}

impl Rules for CallCsvScheduler {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let company = check.rows.at(self.company);
        check.require(
            self.brand.is_some() || company.is_some(),
            "company",
            "choose the client whose calls are reported",
        );
        self.keep_filters(company);
        check.require(
            self.email.is_empty() || email(&self.email),
            "email",
            "write one address for mail, or none",
        );
        if let Some(error) = &mut self.last_execution_error {
            *error = error.chars().take(300).collect();
        }
        if self.next_execution.is_none() {
            // A brand's scheduler runs by the brand's clock.
            let owner = self.company.filter(|_| self.brand.is_none());
            let zone = zone(check.rows, owner, self.brand);
            self.next_execution = first_run(check.now, &zone, self.frequency, self.unit.name());
        }
        if let Some(company) = company {
            of_same_company(
                self,
                old,
                company.id,
                &["ddi", "retailAccount", "residentialDevice", "user", "fax", "friend"],
                check,
            );
            if self.brand.is_none() && self.has_namesake(check.rows) {
                check.wrong("name", "the client has another scheduler of this name; choose a different one");
            }
        }
        if let Some(brand) = self.brand.or(company.map(|company| company.brand)) {
            of_same_brand(
                self,
                old,
                brand,
                &["company", "callCsvNotificationTemplate", "carrier", "ddiProvider"],
                check,
            );
        }
    }
}

impl CallCsvScheduler {
    /// Clears the filters that mean nothing for the chosen client and direction.
    fn keep_filters(&mut self, company: Option<&Company>) {
        let kind = company.map(|company| company.kind);
        if company.is_some() {
            self.call_csv_notification_template = None;
        } else {
            self.ddi = None;
        }
        if kind != Some(CompanyKind::Retail) {
            self.retail_account = None;
        }
        if kind != Some(CompanyKind::Residential) {
            self.residential_device = None;
        }
        if kind != Some(CompanyKind::Vpbx) {
            self.user = None;
            self.friend = None;
        }
        let faxes = matches!(kind, Some(CompanyKind::Vpbx | CompanyKind::Residential));
        if !faxes || self.user.is_some() || self.residential_device.is_some() {
            self.fax = None;
        }
        if self.user.is_some() || self.fax.is_some() {
            self.friend = None;
        }
        if kind == Some(CompanyKind::Wholesale) {
            self.ddi = None;
        }
        if self.call_direction == Some(Direction::Outbound) {
            self.ddi_provider = None;
        } else {
            self.carrier = None;
        }
    }

    fn has_namesake(&self, rows: &Rows) -> bool {
        let mut schedulers = rows.of::<Self>("company", self.company.map_or(0, Id::get));
        schedulers.any(|other| other.id != self.id && other.brand.is_none() && other.name == self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn of_client(company: u32) -> CallCsvScheduler {
        CallCsvScheduler {
            name: "report".to_owned(),
            frequency: 1,
            brand: Some(Id::new(1)),
            company: Some(Id::new(company)),
            ..CallCsvScheduler::default()
        }
    }

    fn created(row: CallCsvScheduler) -> Result<CallCsvScheduler, Refusal> {
        change(|draft| draft.create(row)).map(|(id, rows, _)| rows.get(id).unwrap().clone())
    }

    #[test]
    fn a_scheduler_is_a_brands_or_a_clients() {
        let nobodys = CallCsvScheduler { brand: None, company: None, ..of_client(1) };
        assert!(created(nobodys).unwrap_err().to_string().starts_with("company: "));
        assert!(created(CallCsvScheduler { company: None, ..of_client(1) }).is_ok());
        assert!(created(CallCsvScheduler { brand: None, ..of_client(1) }).is_ok());
    }

    #[test]
    fn a_report_of_all_clients_has_no_filters_of_one() {
        let row =
            CallCsvScheduler { company: None, ddi: Some(Id::new(1)), user: Some(Id::new(1)), ..of_client(1) };
        let row = created(row).unwrap();
        assert_eq!((row.ddi, row.user), (None, None));
    }

    #[test]
    fn one_endpoint_of_a_vpbx_is_kept_the_user_first() {
        let all = CallCsvScheduler {
            user: Some(Id::new(1)),
            fax: Some(Id::new(1)),
            friend: Some(Id::new(1)),
            ddi: Some(Id::new(1)),
            retail_account: Some(Id::new(1)),
            residential_device: Some(Id::new(1)),
            call_csv_notification_template: Some(Id::new(2)),
            ..of_client(1)
        };
        let row = created(all.clone()).unwrap();
        assert_eq!((row.user, row.fax, row.friend, row.ddi), (all.user, None, None, all.ddi));
        assert_eq!((row.retail_account, row.residential_device), (None, None));
        assert_eq!(row.call_csv_notification_template, None, "the client's template is used");
        let row = created(CallCsvScheduler { user: None, ..all }).unwrap();
        assert_eq!((row.fax, row.friend), (Some(Id::new(1)), None));
    }

    #[test]
    fn the_direction_decides_between_carrier_and_ddi_provider() {
        let both = CallCsvScheduler {
            carrier: Some(Id::new(1)),
            ddi_provider: Some(Id::new(1)),
            call_direction: Some(Direction::Outbound),
            ..of_client(1)
        };
        let row = created(both.clone()).unwrap();
        assert_eq!((row.carrier, row.ddi_provider), (Some(Id::new(1)), None));
        for direction in [Some(Direction::Inbound), None] {
            let row = created(CallCsvScheduler { call_direction: direction, ..both.clone() }).unwrap();
            assert_eq!((row.carrier, row.ddi_provider), (None, Some(Id::new(1))));
        }
    }

    #[test]
    fn filters_are_of_the_client_and_the_brand() {
        let theirs = CallCsvScheduler { ddi: Some(Id::new(2)), ..of_client(1) };
        assert!(created(theirs).unwrap_err().to_string().starts_with("ddi: "));
        assert!(created(of_client(6)).unwrap_err().to_string().starts_with("company: "));
    }

    #[test]
    fn a_name_occurs_once_in_a_client() {
        let again = CallCsvScheduler { brand: None, name: "SchedulerName".to_owned(), ..of_client(1) };
        assert!(created(again.clone()).unwrap_err().to_string().starts_with("name: "));
        assert!(created(CallCsvScheduler { company: Some(Id::new(2)), ..again }).is_ok());
    }

    #[test]
    fn the_first_run_is_set_where_it_is_left_out() {
        let row = created(of_client(1)).unwrap();
        assert_eq!(row.next_execution.unwrap().to_string(), "2026-02-01T07:00:00Z", "8 o'clock in Madrid");
    }
}
