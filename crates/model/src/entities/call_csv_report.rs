//! Call reports: the CSV files that call CSV schedulers have made.
//! Manual, chapter 9.6.3 "Call CSV schedulers".

use crate::prelude::*;

/// A file of the external calls of one period.
#[derive(Clone, Debug, Entity)]
#[entity(path = "call_csv_reports", access = ACCESS)]
pub struct CallCsvReport {
    /// Identifies the report.
    #[field(brand = "ld", client = "ld")]
    pub id: Id<CallCsvReport>,
    /// The address that it was mailed to; empty: it was not mailed.
    #[field(max = 250, default = "", brand = "ld", client = "ld")]
    pub sent_to: String,
    /// The beginning of the period.
    #[field(brand = "ld", client = "ld")]
    pub in_date: Timestamp,
    /// The end of the period, included.
    #[field(brand = "ld", client = "ld")]
    pub out_date: Timestamp,
    /// When it was made.
    #[field(brand = "ld", client = "ld")]
    pub created_on: Timestamp,
    /// The file itself: one line for each call, with the names of the columns in the first.
    #[field(brand = "ld", client = "ld")]
    pub csv: File,
    /// The client that it was made for by the client's own scheduler; null: it is the brand's.
    #[field(delete = "clear", index)]
    pub company: Option<Id<Company>>,
    /// The brand that it was made for; null: it is a client's.
    #[field(delete = "clear", index, brand = "d")]
    pub brand: Option<Id<Brand>>,
    /// The scheduler that made it; null: that has been deleted since.
    #[field(delete = "clear", brand = "ld", client = "ld")]
    pub call_csv_scheduler: Option<Id<CallCsvScheduler>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lg")
        .acl()
        .order(&["callCsvScheduler"])
        .read(&[Rule::OwnBrand("brand")])
        .write(&[Rule::Never]),
    Access::at(Level::Client, "lg")
        .acl()
        .order(&["id"])
        .read(&[Rule::OwnCompany("company")])
        .write(&[Rule::Never]),
];
