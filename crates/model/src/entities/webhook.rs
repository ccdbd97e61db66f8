//! Webhooks: web services that are told of calls.
//! Not in the manual; the brand's feature is called webhooks.

use crate::checks::{differs, of_same_brand, of_same_company, url, url_is_inside};
use crate::prelude::*;

/// A web service that is sent a document at chosen moments of calls: of all calls of a brand, a client, a DDI or a
/// user.
#[derive(Clone, Debug, Entity)]
#[entity(path = "webhooks", access = ACCESS, rules)]
pub struct Webhook {
    /// Identifies the webhook.
    #[field(brand = "ld", client = "ld")]
    pub id: Id<Webhook>,
    /// Its name.
    #[field(max = 64, brand = "ldw", client = "ldw")]
    pub name: String,
    /// Anything worth knowing about it.
    #[field(max = 255, brand = "ldw", client = "ldw")]
    pub description: Option<String>,
    /// The address that documents are posted to, with http or https.
    #[field(brand = "ldw", client = "ldw")]
    pub uri: String,
    /// It is told when a call begins.
    #[field(default = false, brand = "ldw", client = "ldw")]
    pub event_start: bool,
    /// It is told when the called one is alerted.
    #[field(default = false, brand = "ldw", client = "ldw")]
    pub event_ring: bool,
    /// It is told when the call is answered.
    #[field(default = false, brand = "ldw", client = "ldw")]
    pub event_answer: bool,
    /// It is told when the call ends.
    #[field(default = false, brand = "ldw", client = "ldw")]
    pub event_end: bool,
    /// It is told when the other party changes during the call, as by a transfer.
    #[field(default = false, brand = "ldw", client = "ldw")]
    pub event_update_clid: bool,
    /// The document that is sent. `{{event}}`, `{{time}}`, `{{callId}}`, `{{direction}}` and further names are
    /// replaced by what is true of the call; a user's calls have other names than all others.
    #[field(brand = "ldw", client = "ldw")]
    pub template: String,
    /// Only calls of this direction.
    #[field(default = WebhookCallDirection::Both, brand = "ldw", client = "ldw")]
    pub call_direction: WebhookCallDirection,
    /// The brand that it belongs to.
    #[field(delete = "cascade", index)]
    pub brand: Id<Brand>,
    /// Only calls of this client; null: of all clients of the brand. Left out: that of the DDI or user.
    #[field(delete = "cascade", index, brand = "dw", client = "dw")]
    pub company: Option<Id<Company>>,
    /// Only calls of this DDI of the client; null: of any. Not together with a user.
    #[field(delete = "cascade", brand = "dw", client = "dw")]
    pub ddi: Option<Id<Ddi>>,
    /// Only calls of this user of the client; null: of any.
    #[field(delete = "cascade", index, brand = "dw", client = "dw")]
    pub user: Option<Id<User>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lgcud")
        .acl()
        .order(&["company", "name"])
        .brand_feature("webhooks")
        .read(&[Rule::OwnBrand("brand"), Rule::Any(&[Rule::OwnClients("company"), Rule::Null("company")])])
        .write(&[Rule::OwnBrand("brand")]),
    Access::at(Level::Client, "lgcud")
        .acl()
        .order(&["name"])
        .company_feature("webhooks")
        .read(&[Rule::OwnCompany("company")])
        .write(&[Rule::OwnCompany("company"), Rule::OwnBrand("brand")]),
];

choice! {
    /// The calls that a webhook is told of.
    pub enum WebhookCallDirection {
        /// Calls that are received.
        Inbound = "inbound",
        /// Calls that are made.
        Outbound = "outbound",
        /// All calls.
        Both = "both",
    }
}

/// What templates about external calls may say.
const OF_CALLS: &[&str] = &[
    "event",
    "time",
    "callId",
    "company",
    "companyId",
    "ddiId",
    "crId",
    "dpId",
    "direction",
    "caller",
    "callee",
    "carrier",
    "ddiProvider",
    "iden",
];

/// What templates about a user's calls may say.
const OF_USER: &[&str] = &["event", "callId", "direction", "owner", "party", "userId", "time", "iden"];

impl Rules for Webhook {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let web = url(&self.uri, &["http", "https"]);
        check.require(web, "uri", "write an address of the web, such as https://example.com/calls");
        // The platform itself may say otherwise: an import of its own has what it needs.
        if web
            && check.level.is_some_and(|level| level != Level::Platform)
            && differs(self, old, "uri")
            && url_is_inside(&self.uri)
        {
            check.wrong(
                "uri",
                "this address is not reached from outside; write one that the whole world can reach",
            );
        }
        let told =
            [self.event_start, self.event_ring, self.event_answer, self.event_end, self.event_update_clid];
        check.require(
            told.contains(&true),
            "eventStart",
            "choose an event at least: start, ring, answer, end or updateClid",
        );
        self.check_template(check);
        check.require(self.ddi.is_none() || self.user.is_none(), "user", "choose a DDI or a user, not both");
        let of_ddi = || check.rows.at(self.ddi).and_then(|ddi| ddi.company);
        let of_user = || check.rows.at(self.user).map(|user| user.company);
        self.company = self.company.or_else(of_ddi).or_else(of_user);
        of_same_brand(self, old, self.brand, &["company", "ddi"], check);
        if let Some(company) = self.company {
            of_same_company(self, old, company, &["ddi", "user"], check);
        }
    }
}

impl Webhook {
    fn check_template(&self, check: &mut Check<'_>) {
        let known = if self.user.is_some() { OF_USER } else { OF_CALLS };
        if let Some(name) = placeholders(&self.template).find(|name| !known.contains(name)) {
            let names = known.join(", ");
            check.wrong("template", format!("{{{{{name}}}}} means nothing here; use one of {names}"));
        }
    }
}

/// The names between double braces.
fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    let name = |rest: &str| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        (end > 0 && rest[end..].starts_with("}}")).then_some(end)
    };
    template.match_indices("{{").filter_map(move |(at, _)| {
        let rest = &template[at + 2..];
        name(rest).map(|end| &rest[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn new() -> Webhook {
        Webhook {
            name: "calls".to_owned(),
            uri: "https://example.com/calls".to_owned(),
            event_end: true,
            template: r#"{"event": "{{event}}"}"#.to_owned(),
            brand: Id::new(1),
            ..Webhook::default()
        }
    }

    fn created(row: Webhook) -> Result<Webhook, Refusal> {
        change(|draft| draft.create(row)).map(|(id, rows, _)| rows.get(id).unwrap().clone())
    }

    fn fault(row: Webhook) -> String {
        created(row).unwrap_err().to_string()
    }

    #[test]
    fn documents_go_to_an_address_of_the_web() {
        assert!(created(new()).is_ok());
        for wrong in ["", "not-a-valid-uri", "ftp://example.com/test"] {
            assert!(fault(Webhook { uri: wrong.to_owned(), ..new() }).starts_with("uri: "), "{wrong}");
        }
    }

    #[test]
    fn an_event_is_chosen() {
        let silent = Webhook { event_end: false, ..new() };
        assert!(fault(silent.clone()).starts_with("eventStart: "));
        assert!(created(Webhook { event_update_clid: true, ..silent }).is_ok());
    }

    #[test]
    fn templates_say_what_is_known() {
        let with = |template: &str, user: Option<u32>| {
            created(Webhook { template: template.to_owned(), user: user.map(Id::new), ..new() })
        };
        assert!(with("{{event}} {{ddiProvider}} {single} {{}} {{ spaced }} {{", None).is_ok());
        assert!(with("{{owner}}", None).unwrap_err().to_string().starts_with("template: {{owner}} "));
        assert!(with("{{owner}}", Some(1)).is_ok());
        assert!(with("{{carrier}}", Some(1)).unwrap_err().to_string().starts_with("template: {{carrier}} "));
    }

    #[test]
    fn the_client_is_that_of_the_ddi_or_user() {
        let ddi = Some(Id::new(2));
        let user = Some(Id::new(1));
        assert_eq!(created(Webhook { ddi, ..new() }).unwrap().company, Some(Id::new(4)));
        assert_eq!(created(Webhook { user, ..new() }).unwrap().company, Some(Id::new(1)));
        assert_eq!(created(new()).unwrap().company, None);
        assert!(fault(Webhook { ddi: Some(Id::new(1)), user, ..new() }).starts_with("user: "));
        assert!(fault(Webhook { ddi, company: Some(Id::new(1)), ..new() }).starts_with("ddi: "));
        assert!(fault(Webhook { user, company: Some(Id::new(2)), ..new() }).starts_with("user: "));
    }

    #[test]
    fn a_webhook_stays_within_its_brand() {
        assert!(fault(Webhook { company: Some(Id::new(6)), ..new() }).starts_with("company: "));
    }
}
