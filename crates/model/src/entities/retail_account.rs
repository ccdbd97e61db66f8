//! Retail accounts: what retail clients make calls with (manual 10.3.1).
//!
//! Elsewhere: the codecs of a retail client, which all its accounts share ([`Company`]).

use super::friend::{Before, Connection};
use super::terminal::check_sip_name;
use crate::checks::{keeps_to_brand, keeps_to_company, needs_company_type};
use crate::prelude::*;

/// A PBX or gateway of a retail client. It takes calls to the numbers that lead to it and makes external
/// ones.
#[derive(Clone, Debug, Entity)]
#[entity(path = "retail_accounts", access = ACCESS, computed = COMPUTED, rules, unique(name, brand))]
pub struct RetailAccount {
    /// The account's number in the API, and its endpoint id in call records.
    #[field(brand = "ld", client = "ld")]
    pub id: Id<RetailAccount>,
    /// The user name that it logs in with and is called by: letters, digits, underscore and asterisk. No
    /// residential device or retail account of the brand has the same.
    #[field(max = 65, brand = "ldw", client = "ld")]
    pub name: String,
    /// What it is, in the operator's words.
    #[field(max = 500, default = "", brand = "ldw", client = "ldw")]
    pub description: String,
    /// How SIP travels to a directly connected one.
    #[field(brand = "dw", client = "dw")]
    pub transport: Option<Transport>,
    /// The address that SIP is sent to, with direct connectivity. It takes a port, too.
    #[field(max = 50, brand = "dw", client = "dw")]
    pub ip: Option<String>,
    /// The port that SIP is sent to, with direct connectivity.
    #[field(min = 1, brand = "dw", client = "dw")]
    pub port: Option<u16>,
    /// The password that it logs in with, as strong as a terminal's; always needed when it registers. Null
    /// with direct connectivity: the address it calls from is checked instead.
    #[field(max = 64, brand = "dw", client = "dw")]
    pub password: Option<Secret>,
    /// The domain that requests to it show in the From header; null or empty: the platform's own.
    #[field(max = 190, brand = "dw", client = "dw")]
    pub from_domain: Option<String>,
    /// It is reached at an address that is written down here; otherwise where it registers from.
    #[field(default = YesNo::Yes, brand = "ldw", client = "ld")]
    pub direct_connectivity: YesNo,
    /// Calls to it name the number that was called; otherwise the one that it registered with, or its own
    /// name.
    #[field(default = YesNo::Yes, brand = "dw", client = "dw")]
    pub ddi_in: YesNo,
    /// It sends and receives faxes by T.38.
    #[field(default = YesNo::No, brand = "dw", client = "dw")]
    pub t38_passthrough: YesNo,
    /// Calls are only set up with encrypted audio; otherwise audio is not encrypted.
    #[field(default = false, brand = "ldw", client = "dw")]
    pub rtp_encryption: bool,
    /// A call rings at all places that are registered; otherwise only at the one that registered last.
    #[field(default = true, brand = "ld", client = "dw")]
    pub multi_contact: bool,
    /// The domain in the request URI, with direct connectivity; without an address it is also where SIP is
    /// sent.
    #[field(max = 190, brand = "dw", client = "dw")]
    pub ruri_domain: Option<String>,
    /// Audio is sent where SDP says, with direct connectivity, and not where audio comes from.
    #[field(name = "trustSDP", default = false, client = "dw")]
    pub trust_sdp: bool,
    /// The brand: the client's.
    #[field(delete = "cascade", index)]
    pub brand: Id<Brand>,
    /// The SIP domain that it logs in to: the brand's.
    #[field(delete = "clear", brand = "l", client = "l")]
    pub domain: Option<Id<Domain>>,
    /// The client; it cannot be changed.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub company: Id<Company>,
    /// How numbers are written in calls with it; null: as the client has it.
    #[field(delete = "clear", brand = "dw", client = "dw")]
    pub transformation_rule_set: Option<Id<TransformationRuleSet>>,
    /// The number that external calls show, unless they show a number of the client; null: the client's.
    #[field(delete = "clear", brand = "dw", client = "dw")]
    pub outgoing_ddi: Option<Id<Ddi>>,
    /// The users' proxy that SIP is sent from, with direct connectivity.
    #[field(delete = "clear", brand = "dw")]
    pub proxy_user: Option<Id<ProxyUser>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lgcud")
        .acl()
        .order(&["name", "company"])
        .unpaged()
        .read(&[Rule::OwnBrand("brand"), Rule::OwnClients("company")]),
    Access::at(Level::Client, "lgu")
        .acl()
        .order(&["name"])
        .company_types(&[CompanyType::Retail])
        .read(&[Rule::OwnCompany("company")])
        .write(&[
            Rule::All(&[Rule::OwnCompany("company"), Rule::Unchanged("name")]),
            Rule::VisibleOrNull("outgoingDdi"),
            Rule::VisibleOrNull("transformationRuleSet"),
        ]),
];

const COMPUTED: &[Computed] =
    &[Computed::new("status", "Where it is registered; empty: nowhere.", How::Live("registrations"))
        .at(Level::Brand, "lgpn")
        .at(Level::Client, "ldnw")];

impl Rules for RetailAccount {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        needs_company_type(self.company, old.map(|old| old.company), &[CompanyType::Retail], check);
        let moved = old.is_some_and(|old| old.company != self.company);
        check.require(!moved, "company", "an account stays with its client; make a new one");
        if let Some(company) = check.rows.get(self.company) {
            self.brand = company.brand;
        }
        self.domain = check.rows.get(self.brand).and_then(|brand| brand.domain);
        let connection = Connection {
            direct: self.direct_connectivity == YesNo::Yes,
            transport: self.transport,
            ip: &mut self.ip,
            port: &mut self.port,
            ruri_domain: &mut self.ruri_domain,
            from_domain: &mut self.from_domain,
            trust_sdp: &mut self.trust_sdp,
            proxy_user: &mut self.proxy_user,
            password: &mut self.password,
        };
        let before = old.map(|old| Before {
            ip: &old.ip,
            ruri_domain: &old.ruri_domain,
            from_domain: &old.from_domain,
            password: &old.password,
        });
        connection.check(before, check);
        let before = old.map(|old| (old.name.as_str(), old.domain));
        check_sip_name(&self.name, self.domain, before, Self::definition(), check);
        keeps_to_company(self, old, check, &["outgoingDdi"]);
        keeps_to_brand(self, old, check, &["transformationRuleSet"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    const FIRST: Id<RetailAccount> = Id::new(1);

    fn registers(name: &str) -> RetailAccount {
        RetailAccount {
            name: name.into(),
            company: Id::new(3),
            direct_connectivity: YesNo::No,
            password: Some("ABCabc123+".into()),
            ..RetailAccount::default()
        }
    }

    fn refused_fields(row: RetailAccount) -> Vec<String> {
        match change(|draft| draft.create(row)).unwrap_err() {
            Refusal::Invalid(mistakes) => mistakes.into_iter().map(|mistake| mistake.field).collect(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn brand_and_domain_are_the_clients() {
        let (id, rows, _) = change(|draft| draft.create(registers("home"))).unwrap();
        let saved = rows.get(id).unwrap();
        assert_eq!((saved.brand, saved.domain), (Id::new(1), Some(Id::new(6))));
        assert_eq!(refused_fields(RetailAccount { company: Id::new(1), ..registers("home") }), ["company"]);
    }

    #[test]
    fn a_client_is_not_changed() {
        let refused = change(|draft| draft.change(FIRST, |row| row.company = Id::new(1))).unwrap_err();
        assert!(refused.to_string().contains("stays with its client"), "{refused}");
    }

    #[test]
    fn it_is_reached_at_an_address_or_where_it_registers_from() {
        assert_eq!(refused_fields(RetailAccount { password: None, ..registers("home") }), ["password"]);
        let direct = RetailAccount { direct_connectivity: YesNo::Yes, ..registers("home") };
        assert_eq!(refused_fields(direct.clone()), ["transport", "proxyUser", "ip"]);
        let addressed = RetailAccount {
            transport: Some(Transport::Udp),
            proxy_user: Some(Id::new(1)),
            ip: Some("192.0.2.1".into()),
            port: Some(5060),
            password: None,
            ..direct
        };
        let (id, rows, _) = change(|draft| draft.create(addressed)).unwrap();
        assert_eq!(rows.get(id).unwrap().port, Some(5060));
    }

    #[test]
    fn a_name_is_there_once_in_the_domain() {
        assert_eq!(refused_fields(registers("residentialDevice")), ["name"]);
        assert_eq!(refused_fields(registers("a-b")), ["name"]);
        let taken = change(|draft| draft.create(registers("testRetailAccount"))).unwrap_err();
        assert!(matches!(taken, Refusal::Taken { .. }), "{taken}");
    }

    #[test]
    fn numbers_and_rules_are_the_clients_or_the_brands() {
        let row = RetailAccount {
            outgoing_ddi: Some(Id::new(1)),
            transformation_rule_set: Some(Id::new(2)),
            ..registers("home")
        };
        assert_eq!(refused_fields(row), ["outgoingDdi", "transformationRuleSet"]);
    }
}
