//! DDIs: the numbers that clients are reached at.
//! Manual, chapter 10.1.4 "DDIs".

use crate::checks::{digits, e164, keep_target, of_same_brand, of_same_company};
use crate::prelude::*;

/// A number of the public network that belongs to a client, or waits for one, and where its calls go.
#[derive(Clone, Debug, Entity)]
#[entity(path = "ddis", access = ACCESS, unique(ddi, country), rules)]
pub struct Ddi {
    /// Identifies the DDI.
    #[field(platform = "d", brand = "ld", client = "ld")]
    pub id: Id<Ddi>,
    /// The number without its country's calling code: digits only, once in the country.
    #[field(max = 25, platform = "d", brand = "ldw", client = "ld")]
    pub ddi: String,
    /// The whole number in E.164, with its plus sign. Follows from country and number.
    #[field(max = 25, platform = "d", brand = "ldw", client = "ldw")]
    pub ddie164: Option<String>,
    /// Anything worth knowing about the number.
    #[field(max = 100, platform = "d", brand = "ldw", client = "ldw")]
    pub description: Option<String>,
    /// Which of its calls are recorded.
    #[field(default = DdiRecordCalls::None, platform = "d", client = "dw")]
    pub record_calls: DdiRecordCalls,
    /// Put before the caller's name when the number is called, so that the called one sees which number was dialled;
    /// null or empty: nothing.
    #[field(max = 50, platform = "d", client = "dw")]
    pub display_name: Option<String>,
    /// What calls to the number reach; null: nothing, they are rejected.
    #[field(platform = "d", client = "ldw")]
    pub route_type: Option<DdiRouteType>,
    /// The number that calls routed to friends are sent to; the friend whose pattern matches takes them.
    #[field(max = 25, platform = "d", client = "ldw")]
    pub friend_value: Option<String>,
    /// Whether the number is called from outside, or is only shown on calls to the outside.
    #[field(name = "type", default = DdiKind::Inout, platform = "d", brand = "dw")]
    pub kind: DdiKind,
    /// Calls to the number that are forwarded to the outside again carry the routing tag of the DDI provider.
    #[field(default = true, platform = "d", brand = "dw")]
    pub use_ddi_provider_routing_tag: bool,
    /// The client that has the number; null: nobody has it yet. It cannot be given to another client, only unlinked
    /// first.
    #[field(delete = "cascade", index, platform = "d", brand = "ldw")]
    pub company: Option<Id<Company>>,
    /// The brand that has the number.
    #[field(delete = "cascade", index, platform = "d")]
    pub brand: Id<Brand>,
    /// The conference room that calls reach.
    #[field(delete = "clear", client = "ldw")]
    pub conference_room: Option<Id<ConferenceRoom>>,
    /// The language of announcements to callers; null: the client's.
    #[field(delete = "clear", platform = "d", client = "ldw")]
    pub language: Option<Id<Language>>,
    /// The queue that calls reach.
    #[field(delete = "clear", client = "ldw")]
    pub queue: Option<Id<Queue>>,
    /// The filter that calls pass first, with its opening hours and holidays; null: none.
    #[field(delete = "clear", client = "ldw")]
    pub external_call_filter: Option<Id<ExternalCallFilter>>,
    /// The user that calls reach.
    #[field(delete = "clear", client = "ldw")]
    pub user: Option<Id<User>>,
    /// The IVR that calls reach.
    #[field(delete = "clear", client = "ldw")]
    pub ivr: Option<Id<Ivr>>,
    /// The hunt group that calls reach.
    #[field(delete = "clear", client = "ldw")]
    pub hunt_group: Option<Id<HuntGroup>>,
    /// The fax that calls reach.
    #[field(delete = "clear", client = "ldw")]
    pub fax: Option<Id<Fax>>,
    /// Who provides the number, for the operator's overview; calls are recognised by their source. Not for numbers
    /// that are only shown.
    #[field(delete = "clear", platform = "d", brand = "ldw")]
    pub ddi_provider: Option<Id<DdiProvider>>,
    /// The country whose calling code comes before the number. Left out: the client's.
    #[field(delete = "cascade", platform = "d", brand = "ldw", client = "ld")]
    pub country: Option<Id<Country>>,
    /// The residential device that calls reach.
    #[field(delete = "clear", client = "ldw")]
    pub residential_device: Option<Id<ResidentialDevice>>,
    /// The conditional route that calls take.
    #[field(delete = "clear", client = "ldw")]
    pub conditional_route: Option<Id<ConditionalRoute>>,
    /// The retail account that calls reach.
    #[field(delete = "clear", client = "ldw")]
    pub retail_account: Option<Id<RetailAccount>>,
    /// The routing tag of calls to the number that are forwarded to the outside again; null: none. Only where the DDI
    /// provider's is not used.
    #[field(brand = "dw")]
    pub routing_tag: Option<Id<RoutingTag>>,
    /// The announcement that callers hear.
    #[field(delete = "clear", client = "ldw")]
    pub locution: Option<Id<Locution>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lgcud")
        .acl()
        .order(&["ddie164"])
        .read(&[Rule::OwnBrand("brand"), Rule::Any(&[Rule::OwnClients("company"), Rule::Null("company")])])
        .write(&[
            Rule::OwnBrand("brand"),
            Rule::VisibleOrNull("ddiProvider"),
            Rule::VisibleOrNull("routingTag"),
        ]),
    Access::at(Level::Client, "lgu")
        .acl()
        .order(&["ddie164"])
        .company_types(&[CompanyType::Vpbx, CompanyType::Residential, CompanyType::Retail])
        .read(&[Rule::OwnCompany("company")])
        .write(&[
            Rule::All(&[Rule::OwnCompany("company"), Rule::Unchanged("ddi"), Rule::Unchanged("country")]),
            Rule::VisibleOrNull("user"),
            Rule::VisibleOrNull("ivr"),
            Rule::VisibleOrNull("huntGroup"),
            Rule::VisibleOrNull("fax"),
            Rule::VisibleOrNull("conferenceRoom"),
            Rule::VisibleOrNull("queue"),
            Rule::VisibleOrNull("retailAccount"),
            Rule::VisibleOrNull("residentialDevice"),
            Rule::VisibleOrNull("conditionalRoute"),
            Rule::VisibleOrNull("externalCallFilter"),
        ]),
];

choice! {
    /// Which calls of a DDI are recorded.
    pub enum DdiRecordCalls {
        /// None.
        None = "none",
        /// Calls to it and calls that show it.
        All = "all",
        /// Calls to it.
        Inbound = "inbound",
        /// Calls that show it.
        Outbound = "outbound",
    }
}

choice! {
    /// What calls to a DDI reach.
    pub enum DdiRouteType {
        /// A user.
        User = "user",
        /// An IVR.
        Ivr = "ivr",
        /// A hunt group.
        HuntGroup = "huntGroup",
        /// A virtual fax.
        Fax = "fax",
        /// A conference room.
        ConferenceRoom = "conferenceRoom",
        /// A friend, by a number.
        Friend = "friend",
        /// A queue.
        Queue = "queue",
        /// Whatever a conditional route decides.
        Conditional = "conditional",
        /// A residential device.
        Residential = "residential",
        /// A retail account.
        Retail = "retail",
        /// An announcement, after which the call ends.
        Locution = "locution",
    }
}

choice! {
    /// What a DDI is for.
    pub enum DdiKind {
        /// It is called from outside, and shown on calls to the outside.
        Inout = "inout",
        /// It is only shown on calls to the outside; calls to it from a DDI provider are rejected.
        Out = "out",
    }
}

/// Which field belongs to which route.
const TARGETS: &[(&str, &[&str])] = &[
    ("user", &["user"]),
    ("ivr", &["ivr"]),
    ("huntGroup", &["huntGroup"]),
    ("fax", &["fax"]),
    ("conferenceRoom", &["conferenceRoom"]),
    ("friend", &["friendValue"]),
    ("queue", &["queue"]),
    ("conditional", &["conditionalRoute"]),
    ("residential", &["residentialDevice"]),
    ("retail", &["retailAccount"]),
    ("locution", &["locution"]),
];

/// What belongs to the client that has the number.
const OF_CLIENT: &[&str] = &[
    "user",
    "ivr",
    "huntGroup",
    "fax",
    "conferenceRoom",
    "queue",
    "conditionalRoute",
    "residentialDevice",
    "retailAccount",
    "locution",
    "externalCallFilter",
];

impl Rules for Ddi {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if old.is_some_and(|old| old.company.is_some() && old.company != self.company) {
            check.forbid(
                "company: the number belongs to a client; unlink it before it is given to another one",
            );
        }
        let company = check.rows.at(self.company);
        if company.is_some_and(|company| company.kind == CompanyKind::Wholesale) {
            check.wrong("company", "wholesale clients have no DDIs; choose another client");
        }
        self.check_number(company, check);
        if self.kind == DdiKind::Out {
            self.ddi_provider = None;
        }
        if self.use_ddi_provider_routing_tag {
            self.routing_tag = None;
        }
        if company.is_none() {
            self.route_type = None;
            self.external_call_filter = None;
        }
        // An empty text is no target, and stays as it was sent.
        let empty = self.friend_value.take_if(|value| value.is_empty());
        let chosen = self.route_type.map(DdiRouteType::name);
        keep_target(self, chosen, TARGETS);
        self.friend_value = self.friend_value.take().or(empty);
        of_same_brand(self, old, self.brand, &["company", "ddiProvider", "routingTag"], check);
        if let Some(company) = company {
            of_same_company(self, old, company.id, OF_CLIENT, check);
        }
    }
}

impl Ddi {
    fn check_number(&mut self, company: Option<&Company>, check: &mut Check<'_>) {
        check.require(digits(&self.ddi), "ddi", "write the number without its calling code, digits only");
        self.country = self.country.or(company.map(|company| company.country));
        match e164(check.rows, self.country, &self.ddi) {
            Some(number) if number.len() <= 25 => self.ddie164 = Some(number),
            Some(_) => {
                check.wrong("ddi", "with its calling code the number has more than 25 characters; shorten it")
            }
            None => check.wrong("country", "choose the country whose calling code comes before the number"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(id: u32, make: impl FnOnce(&mut Ddi)) -> Result<Ddi, Refusal> {
        let id = Id::<Ddi>::new(id);
        change(|draft| draft.change(id, make)).map(|(_, rows, _)| rows.get(id).unwrap().clone())
    }

    fn created(row: Ddi) -> Result<Ddi, Refusal> {
        change(|draft| draft.create(row)).map(|(id, rows, _)| rows.get(id).unwrap().clone())
    }

    fn new(number: &str) -> Ddi {
        Ddi { ddi: number.to_owned(), brand: Id::new(1), country: Some(Id::new(68)), ..Ddi::default() }
    }

    #[test]
    fn the_whole_number_follows_from_country_and_number() {
        assert_eq!(created(new("911234567")).unwrap().ddie164.as_deref(), Some("+34911234567"));
        let forged = changed(1, |row| row.ddie164 = Some("+1555".to_owned())).unwrap();
        assert_eq!(forged.ddie164.as_deref(), Some("+34123"));
        for wrong in ["", "+34911", "91 1", &"1".repeat(24)] {
            assert!(created(new(wrong)).unwrap_err().to_string().starts_with("ddi: "), "{wrong}");
        }
    }

    #[test]
    fn the_country_is_the_clients_where_none_is_given() {
        let stray = Ddi { country: None, ..new("1") };
        assert!(created(stray.clone()).unwrap_err().to_string().starts_with("country: "));
        let row = created(Ddi { company: Some(Id::new(1)), ..stray }).unwrap();
        assert_eq!(row.country, Some(Id::new(68)));
    }

    #[test]
    fn a_number_is_not_given_from_client_to_client() {
        assert!(matches!(changed(1, |row| row.company = Some(Id::new(2))), Err(Refusal::Forbidden(_))));
        assert!(matches!(changed(1, |row| row.company = None), Err(Refusal::Forbidden(_))));
        let given = change(|draft| {
            let id = draft.create(new("911"))?;
            draft.change(id, |row| row.company = Some(Id::new(1)))
        });
        assert!(given.is_ok());
    }

    #[test]
    fn clients_of_other_brands_and_wholesale_clients_get_no_numbers() {
        for client in [5, 6] {
            let row = Ddi { company: Some(Id::new(client)), ..new("1") };
            assert!(created(row).unwrap_err().to_string().starts_with("company: "), "{client}");
        }
    }

    #[test]
    fn only_the_chosen_target_is_kept() {
        let row = changed(1, |row| {
            row.route_type = Some(DdiRouteType::User);
            row.user = Some(Id::new(1));
            row.locution = Some(Id::new(1));
            row.friend_value = Some("555".to_owned());
        })
        .unwrap();
        assert_eq!((row.user, row.locution, row.friend_value), (Some(Id::new(1)), None, None));
        let row = changed(4, |row| row.route_type = None).unwrap();
        assert_eq!(row.locution, None);
    }

    #[test]
    fn targets_are_of_the_same_client() {
        let wrong = changed(2, |row| {
            row.route_type = Some(DdiRouteType::User);
            row.user = Some(Id::new(1));
        });
        assert!(wrong.unwrap_err().to_string().starts_with("user: "));
    }

    #[test]
    fn a_number_without_a_client_leads_nowhere() {
        let row = Ddi { route_type: Some(DdiRouteType::User), user: Some(Id::new(1)), ..new("911") };
        let row = created(row).unwrap();
        assert_eq!((row.route_type, row.user), (None, None));
    }

    #[test]
    fn a_number_that_is_only_shown_has_no_provider() {
        assert_eq!(changed(1, |row| row.kind = DdiKind::Out).unwrap().ddi_provider, None);
        assert_eq!(changed(1, |row| row.kind = DdiKind::Inout).unwrap().ddi_provider, Some(Id::new(1)));
    }

    #[test]
    fn the_providers_tag_takes_the_place_of_an_own_one() {
        let with = |theirs| {
            changed(1, |row| {
                row.use_ddi_provider_routing_tag = theirs;
                row.routing_tag = Some(Id::new(1));
            })
        };
        assert_eq!(with(true).unwrap().routing_tag, None);
        assert_eq!(with(false).unwrap().routing_tag, Some(Id::new(1)));
    }
}
