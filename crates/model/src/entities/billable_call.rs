//! External calls: the records that prices, invoices and reports are made from.
//! Manual, chapter 9.6.2 "External calls".

use crate::prelude::*;

/// One call between a client and the outside, with what it cost and what it is charged at.
#[derive(Clone, Debug, Entity)]
#[entity(path = "billable_calls", access = ACCESS, records, inner("trunksCdr"), rules)]
pub struct BillableCall {
    /// Identifies the record.
    #[field(platform = "ld", brand = "ld", client = "ld")]
    pub id: Id<BillableCall>,
    /// The Call-ID of the SIP dialog.
    #[field(max = 255, index, platform = "ld", brand = "ld", client = "ld")]
    pub callid: Option<String>,
    /// When the call was answered.
    #[field(now, platform = "ld", brand = "ld", client = "ld")]
    pub start_time: Timestamp,
    /// How long it lasted from the answer on, in seconds.
    #[field(default = 0.0, platform = "ld", brand = "ld", client = "ld")]
    pub duration: f64,
    /// Who called, in E.164 with its plus sign.
    #[field(max = 128, platform = "ld", brand = "ld", client = "ld")]
    pub caller: Option<String>,
    /// Who was called, in E.164 with its plus sign.
    #[field(max = 128, platform = "ld", brand = "ld", client = "ld")]
    pub callee: Option<String>,
    /// What the carrier charges the brand for it; null: not known yet, or the carrier's cost is not calculated.
    #[field(scale = 4, high = 9999999999999999, platform = "ld", brand = "ld")]
    pub cost: Option<Decimal>,
    /// What the brand charges the client for it; null: not rated yet.
    #[field(scale = 4, high = 9999999999999999, platform = "ld", brand = "ld", client = "ld", invoiced)]
    pub price: Option<Decimal>,
    /// How the price came about, as the rating engine tells it.
    #[field(platform = "d")]
    pub price_details: Option<Json>,
    /// The carrier's name at the time of the call.
    #[field(max = 200, platform = "d", brand = "d")]
    pub carrier_name: Option<String>,
    /// The name of the destination that the price was found for.
    #[field(max = 100, platform = "d", brand = "d", client = "d")]
    pub destination_name: Option<String>,
    /// The name of the rating plan at the time of the call.
    #[field(max = 55, platform = "d", brand = "d", client = "d")]
    pub rating_plan_name: Option<String>,
    /// What kind of endpoint of the client the call belongs to; null: none is known.
    #[field(platform = "ld", brand = "ld", client = "ld")]
    pub endpoint_type: Option<BillableCallEndpointType>,
    /// The endpoint's id among those of its kind.
    #[field(platform = "ld", brand = "ld", client = "ld")]
    pub endpoint_id: Option<u32>,
    /// The endpoint's name at the time of the call; a user's extension.
    #[field(max = 65, platform = "ld", brand = "ld", client = "ld")]
    pub endpoint_name: Option<String>,
    /// Whether the client made the call or received it.
    #[field(default = Direction::Outbound, platform = "ld", brand = "ld", client = "ld")]
    pub direction: Direction,
    /// How many recordings of the call there are.
    #[field(default = 0u32, client = "ld")]
    pub num_recordings: u32,
    /// The brand of the client.
    #[field(delete = "clear", index, platform = "ld")]
    pub brand: Option<Id<Brand>>,
    /// The client.
    #[field(delete = "clear", index, platform = "ld", brand = "ld")]
    pub company: Option<Id<Company>>,
    /// The carrier that took the call; null for calls that came in.
    #[field(delete = "clear", index, platform = "ld", brand = "ld")]
    pub carrier: Option<Id<Carrier>>,
    /// The destination that the price was found for.
    #[field(delete = "clear", brand = "d")]
    pub destination: Option<Id<Destination>>,
    /// The rating plan that the price was found in.
    #[field(delete = "clear", brand = "d")]
    pub rating_plan_group: Option<Id<RatingPlanGroup>>,
    /// The invoice that charges the call; its price is fixed from then on. Null: it is in none.
    #[field(delete = "clear", platform = "ld", brand = "ld")]
    pub invoice: Option<Id<Invoice>>,
    /// The client's number in the call: the called one of calls that came in, the calling one of calls that went out.
    #[field(delete = "clear", platform = "ld", brand = "ld", client = "ld")]
    pub ddi: Option<Id<Ddi>>,
    /// The DDI provider that brought the call; null for calls that went out.
    #[field(delete = "clear", platform = "ld", brand = "ld")]
    pub ddi_provider: Option<Id<DdiProvider>>,
    /// What the telephone or the other side wrote into the header X-Tag.
    #[field(max = 32, platform = "d", brand = "d")]
    pub x_tag: Option<String>,
    /// Who ended the call; null: nobody knows.
    #[field(platform = "d", brand = "d")]
    pub hangup_by: Option<BillableCallHangupBy>,
    /// Why it ended: a SIP status with its words.
    #[field(max = 100, platform = "d", brand = "d")]
    pub hangup_cause: Option<String>,
    /// The carriers that were tried, in order, with the SIP status that each came to.
    #[field(platform = "d", brand = "d")]
    pub attempts: Option<Json>,
    /// How well we heard the caller: an estimated mean opinion score, 1 to 5.
    #[field(scale = 2, platform = "d", brand = "d")]
    pub mos_caller: Option<Decimal>,
    /// How well we heard the called side: an estimated mean opinion score, 1 to 5.
    #[field(scale = 2, platform = "d", brand = "d")]
    pub mos_callee: Option<Decimal>,
    /// How much of what the caller sent did not arrive, in percent.
    #[field(scale = 2, platform = "d", brand = "d")]
    pub loss_caller: Option<Decimal>,
    /// How much of what the called side sent did not arrive, in percent.
    #[field(scale = 2, platform = "d", brand = "d")]
    pub loss_callee: Option<Decimal>,
    /// How unevenly the caller's packets arrived, in milliseconds (RFC 3550, interarrival jitter).
    #[field(scale = 3, platform = "d", brand = "d")]
    pub jitter_caller: Option<Decimal>,
    /// How unevenly the called side's packets arrived, in milliseconds (RFC 3550, interarrival jitter).
    #[field(scale = 3, platform = "d", brand = "d")]
    pub jitter_callee: Option<Decimal>,
    /// The number of the node whose application server had the call last.
    #[field(platform = "d", brand = "d")]
    pub node: Option<u32>,
    /// The number of the node whose relay had its media last.
    #[field(platform = "d", brand = "d")]
    pub relay: Option<u32>,
    /// What the record was made of: it is there once.
    #[field(max = 128, index)]
    pub origin: Option<String>,
    /// Which word about that: a greater one takes its place.
    #[field(max = 32)]
    pub origin_word: Option<String>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lg").acl().order(&["-startTime"]).unpaged().csv(),
    Access::at(Level::Brand, "lg")
        .acl()
        .order(&["-startTime"])
        .unpaged()
        .csv()
        .read(&[Rule::OwnBrand("brand")]),
    Access::at(Level::Client, "lg")
        .acl()
        .order(&["-startTime"])
        .unpaged()
        .csv()
        .read(&[Rule::OwnCompany("company")])
        .write(&[Rule::Never]),
];

choice! {
    /// What kind of endpoint a call belongs to.
    pub enum BillableCallEndpointType {
        /// A retail account.
        RetailAccount = "RetailAccount",
        /// A residential device.
        ResidentialDevice = "ResidentialDevice",
        /// A user of a vPBX client.
        User = "User",
        /// A friend of a vPBX client.
        Friend = "Friend",
        /// A virtual fax.
        Fax = "Fax",
    }
}

choice! {
    /// Who ended a call.
    pub enum BillableCallHangupBy {
        /// The caller hung up.
        Caller = "caller",
        /// The called side hung up.
        Callee = "callee",
        /// The platform ended it.
        Platform = "platform",
    }
}

impl Rules for BillableCall {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let refuse = |message: &str| Refusal::Coded { status: 500, message: message.to_owned() };
        if self.price.is_some_and(|price| price < Decimal::ZERO) {
            check.refuse(refuse("price: a call cannot be charged at less than nothing"));
        }
        if old.is_some_and(|old| old.invoice.is_some() && old.price != self.price) {
            check.refuse(refuse(
                "price: the call is in an invoice; delete the invoice before rating it again",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn priced(call: u32, cents: i64) -> Result<(), Refusal> {
        let price = Some(Decimal::new(cents, 2));
        change(|draft| draft.change(Id::<BillableCall>::new(call), |row| row.price = price)).map(|_| ())
    }

    #[test]
    fn a_price_is_not_negative() {
        assert_eq!(priced(2, 0), Ok(()));
        assert!(matches!(priced(2, -1), Err(Refusal::Coded { status: 500, .. })));
    }

    #[test]
    fn the_price_of_an_invoiced_call_is_fixed() {
        assert!(matches!(priced(1, 250), Err(Refusal::Coded { status: 500, .. })));
        assert_eq!(priced(1, 100), Ok(()), "the same price is no change");
        let other = change(|draft| draft.change(Id::<BillableCall>::new(1), |row| row.duration = 1.0));
        assert!(other.is_ok());
    }
}
