//! Companies: the clients of a brand, of four types.
//!
//! Manual, chapter 9.1. Elsewhere: what belongs to one client only (most other entities), its domain (`domain`).

use crate::checks::{differs, digits, email, email_if_any, host_name, strays_from_brand};
use crate::prelude::*;

/// A client of a brand: a virtual PBX, a residential, a retail or a wholesale client.
#[derive(Clone, Debug, Entity)]
#[entity(path = "companies", access = ACCESS, computed = COMPUTED, unique(domain_users), unique(name, brand), rules)]
pub struct Company {
    /// Number of the client.
    #[field(platform = "ld", brand = "ld", client = "ld")]
    pub id: Id<Company>,
    /// What is sold to the client; it cannot be changed later.
    #[field(name = "type", default = CompanyKind::Vpbx, platform = "ld", brand = "ldw", client = "ld")]
    pub kind: CompanyKind,
    /// The client's name; it occurs once within the brand.
    #[field(max = 80, platform = "ld", brand = "ldw", client = "ld")]
    pub name: String,
    /// The SIP domain of a vPBX client, which it alone uses and which must lead to the users' proxy. Other
    /// types use the brand's domain or none. It is kept in small letters.
    #[field(max = 190, folded, platform = "d", brand = "ldw", client = "d")]
    pub domain_users: Option<String>,
    /// How calls were spread over application servers before sets of servers did it; shown for the record only.
    #[field(default = CompanyDistributeMethod::Hash, platform = "d")]
    pub distribute_method: CompanyDistributeMethod,
    /// External calls that the client may have at the same time, in and out together. 0: no limit.
    #[field(default = 0u32, platform = "d", brand = "dw")]
    pub max_calls: u32,
    /// How much the client may spend on external calls in one day, in its currency. Beyond it, outgoing
    /// external calls are refused until midnight.
    #[field(default = 1000000u32, platform = "ld", brand = "ldw")]
    pub max_daily_usage: u32,
    /// What today's external calls have cost so far, in the client's currency.
    #[field(scale = 4, high = 999999, default = Decimal::ZERO, platform = "ld", brand = "ldw")]
    pub current_day_usage: Option<Decimal>,
    /// Who is told when the daily limit is reached; empty: nobody.
    #[field(max = 100, platform = "d", brand = "dw")]
    pub max_daily_usage_email: Option<String>,
    /// Whether calls are only taken from the client's authorized addresses and countries.
    #[field(default = true, platform = "d", brand = "dw")]
    pub ipfilter: Option<bool>,
    /// Recording on demand: 0 none; 1 by the telephone's record key (SIP INFO); 2 by the key and by dialling
    /// * and the code during the call.
    #[field(default = 0i16, min = 0, high = 2, platform = "d", brand = "dw")]
    pub on_demand_record: Option<i16>,
    /// Whether the client's administrators may delete recordings.
    #[field(default = true, platform = "d", brand = "dw")]
    pub allow_recording_removal: bool,
    /// Digits that start and stop a recording on demand, dialled after * during the call.
    #[field(max = 3, platform = "d", brand = "dw", client = "d")]
    pub on_demand_record_code: Option<String>,
    /// Who gets recordings made on demand by mail.
    #[field(default = CompanyOnDemandRecordEmail::Disabled, platform = "d", brand = "dw")]
    pub on_demand_record_email: CompanyOnDemandRecordEmail,
    /// Where recordings made on demand are sent, when they go to one address.
    #[field(max = 100, platform = "d", brand = "dw")]
    pub on_demand_record_email_address: Option<String>,
    /// Options for rating by an external system, passed on as they are.
    #[field(platform = "d", brand = "dw")]
    pub externallyextraopts: Option<String>,
    /// Megabytes of recordings that the client may keep; beyond that the oldest go. Null or 0: no limit.
    #[field(name = "recordingsLimitMB", min = 0, platform = "d")]
    pub recordings_limit_mb: Option<i32>,
    /// Who is told when the recordings reach 80% of the limit; empty: nobody.
    #[field(max = 250, platform = "d")]
    pub recordings_limit_email: Option<String>,
    /// How calls are paid for. Clients of brands without the billing feature are never billed.
    #[field(default = CompanyBillingMethod::Postpaid, platform = "ld", brand = "ldw")]
    pub billing_method: CompanyBillingMethod,
    /// What the client has left, in its currency; it may become negative only when it pays afterwards.
    #[field(scale = 4, high = 999999, default = Decimal::ZERO, platform = "d", brand = "ld", client = "d")]
    pub balance: Option<Decimal>,
    /// Whether the client sees its invoices, rates and the prices of its calls.
    #[field(default = false, platform = "d", brand = "dw")]
    pub show_invoices: Option<bool>,
    /// What invoices say of the client.
    #[field(brief("nif"), platform = "ld", brand = "ldw", client = "ldb")]
    pub invoicing: Invoicing,
    /// Language of announcements and mails. The brand's when none is given.
    #[field(delete = "clear", platform = "d", brand = "dw", client = "d")]
    pub language: Option<Id<Language>>,
    /// Time zone for call lists, schedules and invoices. The brand's when none is given.
    #[field(delete = "clear", platform = "d", brand = "dw", client = "d")]
    pub default_timezone: Option<Id<Timezone>>,
    /// The brand that serves the client.
    #[field(delete = "cascade", index, platform = "d")]
    pub brand: Id<Brand>,
    /// The row of the SIP domain that the client's telephones use; the platform keeps it in step.
    #[field(delete = "clear", index)]
    pub domain: Option<Id<Domain>>,
    /// Country of the client: its calling code is the default of new DDIs and numbers.
    #[field(delete = "cascade", platform = "d", brand = "dw", client = "d")]
    pub country: Id<Country>,
    /// Currency of prices, balance and invoices. Null: the brand's.
    #[field(delete = "clear", platform = "d", brand = "dw")]
    pub currency: Option<Id<Currency>>,
    /// How numbers are written that the client dials and sees.
    #[field(delete = "clear", brand = "dw", client = "d")]
    pub transformation_rule_set: Option<Id<TransformationRuleSet>>,
    /// DDI shown in outgoing external calls where nothing nearer to the caller says otherwise.
    #[field(delete = "clear", platform = "d", brand = "ldw", client = "d")]
    pub outgoing_ddi: Option<Id<Ddi>>,
    /// Rule that chooses the DDI of outgoing calls by their destination.
    #[field(delete = "clear", brand = "dw", client = "d")]
    pub outgoing_ddi_rule: Option<Id<OutgoingDdiRule>>,
    /// Mail about new voicemails. Null: the brand's.
    #[field(delete = "clear", platform = "d", brand = "dw")]
    pub voicemail_notification_template: Option<Id<NotificationTemplate>>,
    /// Mail with recordings made on demand. Null: the brand's.
    #[field(delete = "clear", platform = "d", brand = "dw")]
    pub on_demand_record_notification_template: Option<Id<NotificationTemplate>>,
    /// Mail about received faxes. Null: the brand's.
    #[field(delete = "clear", platform = "d", brand = "dw")]
    pub fax_notification_template: Option<Id<NotificationTemplate>>,
    /// Mail about new invoices. Null: the brand's.
    #[field(delete = "clear", platform = "d", brand = "dw")]
    pub invoice_notification_template: Option<Id<NotificationTemplate>>,
    /// Mail with scheduled call lists. Null: the brand's.
    #[field(delete = "clear", platform = "d", brand = "dw")]
    pub call_csv_notification_template: Option<Id<NotificationTemplate>>,
    /// Mail about the daily limit being reached. Null: the brand's.
    #[field(delete = "clear", platform = "d", brand = "dw")]
    pub max_daily_usage_notification_template: Option<Id<NotificationTemplate>>,
    /// Mail to users with what they need to log in. Null: the platform's.
    #[field(delete = "clear", platform = "d", brand = "dw")]
    pub access_credential_notification_template: Option<Id<NotificationTemplate>>,
    /// Corporation whose other vPBX clients can be called by extension. Only for vPBX clients.
    #[field(delete = "clear", brand = "ldw")]
    pub corporation: Option<Id<Corporation>>,
    /// Application servers that run the client's calls. Wholesale clients, whose calls pass none, have set 0.
    #[field(platform = "d", brand = "ldw")]
    pub application_server_set: Id<ApplicationServerSet>,
    /// Media relays that carry the client's audio.
    #[field(platform = "d", brand = "ldw")]
    pub media_relay_set: Id<MediaRelaySet>,
    /// Where users are who use the client's default location.
    #[field(delete = "clear", brand = "dw")]
    pub location: Option<Id<Location>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "l").acl(),
    Access::at(Level::Brand, "lgcud").acl().order(&["name", "type"]).read(&[Rule::OwnBrand("brand")]).write(
        &[
            Rule::All(&[
                Rule::OwnBrand("brand"),
                Rule::Visible("transformationRuleSet"),
                Rule::Visible("applicationServerSet"),
                Rule::Visible("mediaRelaySet"),
            ]),
            Rule::VisibleOrNull("voicemailNotificationTemplate"),
            Rule::VisibleOrNull("callCsvNotificationTemplate"),
            Rule::VisibleOrNull("invoiceNotificationTemplate"),
            Rule::VisibleOrNull("faxNotificationTemplate"),
        ],
    ),
    Access::at(Level::Client, "lg").acl().read(&[Rule::OwnCompany("id")]).write(&[
        Rule::OwnCompany("id"),
        Rule::VisibleOrNull("outgoingDdi"),
        Rule::VisibleOrNull("outgoingDdiRule"),
    ]),
];

const COMPUTED: &[Computed] = &[
    Computed::new(
        "domainName",
        "Domain that the client's telephones register with.",
        How::Derived(domain_name),
    )
    .at(Level::Platform, "l")
    .at(Level::Brand, "lg")
    .at(Level::Client, "ld"),
    Computed::new(
        "geoIpAllowedCountries",
        "Countries that are let through where calls are filtered by address.",
        How::Pairs(CompanyRelGeoIpCountry::definition, "company", "country"),
    )
    .at(Level::Brand, "ldnw"),
    Computed::new(
        "accountStatus",
        "active, or inactive once today's calls reached the daily limit.",
        How::Derived(account_status),
    )
    .at(Level::Brand, "w"),
    Computed::new(
        "featureIds",
        "What the client may use, out of what the brand has.",
        How::Pairs(FeaturesRelCompany::definition, "company", "feature"),
    )
    .at(Level::Brand, "ldnw"),
    Computed::new(
        "routingTagIds",
        "Prefixes that choose another route and rate; for retail and wholesale.",
        How::Pairs(CompanyRelRoutingTag::definition, "company", "routingTag"),
    )
    .at(Level::Brand, "ldnw"),
    Computed::new(
        "codecIds",
        "Codecs added to those that the client offers; for retail and wholesale.",
        How::Pairs(CompanyRelCodec::definition, "company", "codec"),
    )
    .at(Level::Brand, "ldnw"),
];

choice! {
    /// What is sold to a client.
    pub enum CompanyKind {
        /// A virtual PBX: users, extensions, queues and all other services.
        Vpbx = "vpbx",
        /// SIP trunks with DDIs; calls pass no application server.
        Retail = "retail",
        /// Outgoing calls only, authorized by address.
        Wholesale = "wholesale",
        /// SIP devices with DDIs, voicemail and fax, without extensions.
        Residential = "residential",
    }
}

choice! {
    /// How calls are spread over application servers.
    pub enum CompanyDistributeMethod {
        /// Always the same server; for finding faults.
        Static = "static",
        /// Each call goes to the next server in turn.
        RoundRobin = "rr",
        /// All calls of a client go to the same server.
        Hash = "hash",
    }
}

choice! {
    /// Who gets recordings made on demand by mail.
    pub enum CompanyOnDemandRecordEmail {
        /// Nobody.
        Disabled = "disabled",
        /// The user who made the recording.
        User = "user",
        /// One fixed address.
        Other = "other",
    }
}

choice! {
    /// How calls are paid for.
    pub enum CompanyBillingMethod {
        /// Afterwards, by invoice; the balance may become negative.
        Postpaid = "postpaid",
        /// From the balance, which is spent during the call; at zero, calls end.
        Prepaid = "prepaid",
        /// From the balance, which is spent after the call.
        Pseudoprepaid = "pseudoprepaid",
        /// Not at all: calls have no price.
        None = "none",
    }
}

/// The name of the domain that the client's telephones register with; null: none.
fn domain_name(row: &dyn Record, rows: &Rows) -> Json {
    let domain = row.reference("domain").and_then(|id| rows.get(Id::<Domain>::new(id)));
    domain.map_or(Json::Null, |domain| domain.domain.as_str().into())
}

/// Whether today's spending still lets calls out.
fn account_status(row: &dyn Record, _: &Rows) -> Json {
    let reached = row.cast::<Company>().is_some_and(Company::has_reached_daily_limit);
    if reached { "inactive" } else { "active" }.into()
}

/// The services of a vPBX client, by their words.
const VPBX_SERVICES: [&str; 9] = [
    "DirectPickUp",
    "GroupPickUp",
    "Voicemail",
    "RecordLocution",
    "CloseLock",
    "OpenLock",
    "ToggleLock",
    "QueuePause",
    "QueueUnpause",
];

/// The references to rows of the client's brand, or to those that are everybody's.
const OF_BRAND: [&str; 8] = [
    "voicemailNotificationTemplate",
    "onDemandRecordNotificationTemplate",
    "faxNotificationTemplate",
    "invoiceNotificationTemplate",
    "callCsvNotificationTemplate",
    "maxDailyUsageNotificationTemplate",
    "accessCredentialNotificationTemplate",
    "corporation",
];

impl CompanyKind {
    /// Whether its telephones register with the brand's domain.
    pub fn registers_with_brand(self) -> bool {
        matches!(self, Self::Retail | Self::Residential)
    }

    /// Whether its calls go from proxy to proxy, so that codecs and routing tags can be offered.
    pub fn passes_no_application_server(self) -> bool {
        matches!(self, Self::Retail | Self::Wholesale)
    }
}

impl Company {
    /// Whether today's calls have cost as much as they may.
    pub fn has_reached_daily_limit(&self) -> bool {
        self.current_day_usage.unwrap_or_default() >= Decimal::from(self.max_daily_usage)
    }

    /// The name of the client's own SIP domain; empty when it has none.
    fn own_domain_name(&self) -> &str {
        self.domain_users.as_deref().unwrap_or_default()
    }

    /// Fills in what the brand says for clients that say nothing.
    fn follow_brand(&mut self, brand: &Brand, rows: &Rows) {
        self.default_timezone.get_or_insert(brand.default_timezone);
        self.language.get_or_insert(brand.language);
        if self.kind.registers_with_brand() {
            self.domain = brand.domain;
        }
        if !brand.has_feature(Feature::BILLING, rows) {
            self.billing_method = CompanyBillingMethod::None;
        }
    }

    fn check_kind(&self, old: Option<&Self>, check: &mut Check<'_>) {
        let kept = old.is_none_or(|old| old.kind == self.kind);
        check.require(kept, "type", "a client keeps its type; make another client");
        let is = |kind| self.kind == kind;
        let in_corporation = self.corporation.is_some();
        check.require(
            is(CompanyKind::Vpbx) || !in_corporation,
            "corporation",
            "only vPBX clients belong to corporations",
        );
        let records = self.on_demand_record.unwrap_or_default() > 0;
        let may_record = is(CompanyKind::Vpbx) || is(CompanyKind::Residential);
        check.require(
            may_record || !records,
            "onDemandRecord",
            "only vPBX and residential clients record on demand",
        );
        let default_servers = self.application_server_set == ApplicationServerSet::DEFAULT;
        let right_servers = !is(CompanyKind::Wholesale) || default_servers;
        check.require(
            right_servers,
            "applicationServerSet",
            "wholesale clients have set 0: their calls pass no server",
        );
    }

    fn check_domain(&self, old: Option<&Self>, check: &mut Check<'_>) {
        let name = self.own_domain_name();
        let missing = self.kind == CompanyKind::Vpbx && name.is_empty();
        check.require(!missing, "domainUsers", "a vPBX client needs a SIP domain of its own; write its name");
        if differs(self, old, "domainUsers") {
            check.require(
                name.is_empty() || host_name(name),
                "domainUsers",
                "write a host name, such as pbx.example.com",
            );
        }
    }

    /// Puts recording on demand in order: what is off has no code to send, nobody to send to and no template.
    fn check_recording(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let mode = *self.on_demand_record.get_or_insert(0);
        let code = self.on_demand_record_code.get_or_insert_default();
        let code_is_right = code.is_empty() || digits(code);
        check.require(
            code_is_right,
            "onDemandRecordCode",
            "write digits only; telephones dial * before them",
        );
        if mode == 0 {
            self.on_demand_record_email = CompanyOnDemandRecordEmail::Disabled;
        }
        if self.on_demand_record_email == CompanyOnDemandRecordEmail::Disabled {
            self.on_demand_record_notification_template = None;
        }
        if self.on_demand_record_email != CompanyOnDemandRecordEmail::Other {
            self.on_demand_record_email_address = None;
        } else if differs(self, old, "onDemandRecordEmail")
            || differs(self, old, "onDemandRecordEmailAddress")
        {
            let right = self.on_demand_record_email_address.as_deref().is_some_and(email);
            check.require(right, "onDemandRecordEmailAddress", MAIL_ADDRESS);
        }
    }

    fn check_references(&self, old: Option<&Self>, check: &mut Check<'_>) {
        let rows = check.rows;
        for field in OF_BRAND {
            let strays = strays_from_brand(self, old, field, Some(self.brand.get()), rows);
            check.require(!strays, field, "choose one of the client's brand");
        }
        let of_brand =
            |id: Id<Self>| id == self.id || rows.get(id).is_some_and(|other| other.brand == self.brand);
        // Nothing belongs to a new client yet: those of a client beside it are taken for the time being.
        let own = |id: Id<Self>| id == self.id || (old.is_none() && of_brand(id));
        if differs(self, old, "outgoingDdi") {
            let right = rows.at(self.outgoing_ddi).is_none_or(|ddi| ddi.company.is_some_and(own));
            check.require(right, "outgoingDdi", "choose a DDI of this client");
        }
        if differs(self, old, "outgoingDdiRule") {
            let right = rows.at(self.outgoing_ddi_rule).is_none_or(|rule| own(rule.company));
            check.require(right, "outgoingDdiRule", "choose a rule of this client");
        }
        if differs(self, old, "location") {
            let right = rows.at(self.location).is_none_or(|location| location.company == self.id);
            check.require(right, "location", "choose a location of this client");
        }
    }

    /// What a new client starts with.
    fn furnish(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        draft.create(Administrator::internal(
            format!("__c{}_internal", self.id),
            self.brand,
            Some(self.id),
        ))?;
        if self.kind != CompanyKind::Vpbx {
            return Ok(());
        }
        let rows = draft.rows();
        let given = |service: Id<Service>| {
            rows.get(service).is_some_and(|s| VPBX_SERVICES.contains(&s.iden.as_str()))
        };
        let services = rows.of::<BrandService>("brand", self.brand.get()).filter(|row| given(row.service));
        let codes: Vec<_> = services.map(|row| (row.service, row.code.clone())).collect();
        for (service, code) in codes {
            draft.create(CompanyService { code, company: self.id, service, ..CompanyService::default() })?;
        }
        Ok(())
    }

    /// Keeps the row of a vPBX client's domain in step, and all who register with it.
    fn follow_domain(&self, old: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let same = old.is_some_and(|old| (&old.domain_users, &old.name) == (&self.domain_users, &self.name));
        if same || self.kind != CompanyKind::Vpbx {
            return Ok(());
        }
        let owner = DomainOwner::Company(self.id);
        let domain = Domain::follow(owner, self.own_domain_name(), &self.name, self.domain, draft)?;
        if domain == self.domain {
            return Ok(());
        }
        follow_row(draft, |row: &Self| row.id == self.id, |row| row.domain = domain)?;
        follow_row(draft, |row: &Terminal| row.company == self.id, |row| row.domain = domain)?;
        follow_row(draft, |row: &Friend| row.company == self.id, |row| row.domain = domain)
    }
}

/// How a mail address is written.
const MAIL_ADDRESS: &str = "write an address like name@example.com";

impl Rules for Company {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let rows = check.rows;
        self.name = self.name.trim().to_owned();
        check.require(!self.name.is_empty(), "name", "a client needs a name");
        let kept = self.domain_users.take().map(|name| domain_name_kept(&name));
        self.domain_users = kept.filter(|name| !name.is_empty());
        if old.is_some_and(|old| old.brand != self.brand) {
            check.wrong("brand", "a client stays with its brand; make another client there");
        }
        if let Some(brand) = rows.get(self.brand) {
            self.follow_brand(brand, rows);
        }
        self.ipfilter.get_or_insert(false);
        self.check_kind(old, check);
        self.check_domain(old, check);
        self.check_recording(old, check);
        self.check_references(old, check);
        for (field, address) in [
            ("maxDailyUsageEmail", &self.max_daily_usage_email),
            ("recordingsLimitEmail", &self.recordings_limit_email),
        ] {
            let right = !differs(self, old, field) || email_if_any(address.as_deref());
            check.require(right, field, MAIL_ADDRESS);
        }
    }

    fn saved(&self, old: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        if old.is_none() {
            self.furnish(draft)?;
        }
        self.follow_domain(old, draft)?;
        if old.is_none_or(|old| old.location == self.location) {
            return Ok(());
        }
        let follows = |user: &User| user.company == self.id && user.use_default_location;
        follow_row(draft, follows, |user| user.location = self.location)
    }

    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        if self.kind != CompanyKind::Vpbx {
            return Ok(());
        }
        Domain::end(DomainOwner::Company(self.id), self.domain, draft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn company(kind: CompanyKind) -> Company {
        let name = " New ".into();
        let domain_users = (kind == CompanyKind::Vpbx).then(|| "pbx.new.example".to_owned());
        let (brand, country) = (Id::new(1), Id::new(68));
        Company { name, kind, domain_users, brand, country, ..Company::default() }
    }

    fn changed(id: u32, set: impl FnOnce(&mut Company)) -> Result<(Company, Rows), Refusal> {
        let (_, rows, _) = change(|draft| draft.change(Id::new(id), set))?;
        Ok((rows.get(Id::<Company>::new(id)).unwrap().clone(), rows))
    }

    fn fault(id: u32, set: impl FnOnce(&mut Company)) -> String {
        let refusal = changed(id, set).map(drop).unwrap_err();
        refusal.to_string().split(':').next().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_new_vpbx_client_has_an_administrator_services_and_a_domain() {
        let (id, rows, _) = change(|draft| draft.create(company(CompanyKind::Vpbx))).unwrap();
        let row = rows.get(id).unwrap();
        assert_eq!(
            (row.name.as_str(), row.language, row.default_timezone),
            ("New", Some(Id::new(1)), Some(Id::new(145)))
        );
        let admin = rows.of::<Administrator>("company", id.get()).next().unwrap();
        assert_eq!(
            (admin.username.as_str(), admin.brand),
            (format!("__c{id}_internal").as_str(), Some(Id::new(1)))
        );
        assert!(admin.internal);
        let codes =
            rows.of::<CompanyService>("company", id.get()).map(|row| (row.service.get(), row.code.as_str()));
        assert_eq!(codes.collect::<Vec<_>>(), [(1, "94"), (2, "95"), (3, "93"), (5, "93")]);
        let domain = rows.at(row.domain).unwrap();
        assert_eq!(
            (domain.domain.as_str(), domain.description.as_deref()),
            ("pbx.new.example", Some("New proxyusers domain"))
        );
    }

    #[test]
    fn other_clients_have_no_services_and_the_domain_of_their_brand_or_none() {
        let made = |kind| {
            let (id, rows, _) = change(|draft| draft.create(company(kind))).unwrap();
            assert_eq!(rows.of::<CompanyService>("company", id.get()).count(), 0);
            domain_name(rows.get(id).unwrap(), &rows)
        };
        assert_eq!(made(CompanyKind::Retail), "retail.irontec.com");
        assert_eq!(made(CompanyKind::Residential), "retail.irontec.com");
        assert_eq!(made(CompanyKind::Wholesale), Json::Null);
    }

    #[test]
    fn a_domain_follows_its_client_and_goes_with_it() {
        let domain = Id::<Domain>::new(5);
        let (_, rows) = changed(2, |row| row.domain_users = Some(" pbx.other.example ".into())).unwrap();
        assert_eq!(rows.get(domain).unwrap().domain, "pbx.other.example");
        let (_, rows) = changed(2, |row| row.name = "Other".into()).unwrap();
        assert_eq!(rows.get(domain).unwrap().description.as_deref(), Some("Other proxyusers domain"));
        let (_, rows, _) = change(|draft| draft.delete(Id::<Company>::new(2))).unwrap();
        assert!(rows.get(domain).is_none());
        let (_, rows, _) = change(|draft| draft.delete(Id::<Company>::new(3))).unwrap();
        assert!(rows.get(Id::<Domain>::new(6)).is_some(), "the brand's stays");
    }

    #[test]
    fn the_platform_keeps_its_domains() {
        let trunks = Id::<Domain>::new(2);
        let (row, rows) = changed(7, |row| row.domain_users = Some("pbx.other.example".into())).unwrap();
        assert_eq!(domain_name(&row, &rows), "pbx.other.example");
        assert_eq!(rows.get(trunks).unwrap().domain, "trunks.ivozprovider.local");
        let (_, rows, _) = change(|draft| draft.delete(Id::<Company>::new(7))).unwrap();
        assert!(rows.get(trunks).is_some());
    }

    #[test]
    fn names_and_domains_are_there_right_and_unique() {
        assert_eq!(fault(1, |row| row.domain_users = Some(String::new())), "domainUsers");
        assert_eq!(fault(1, |row| row.domain_users = Some("no domain".into())), "domainUsers");
        assert_eq!(fault(1, |row| row.domain_users = Some("test.irontec.com".into())), "domainUsers");
        assert_eq!(fault(1, |row| row.domain_users = Some("retail.irontec.com".into())), "domain");
        assert_eq!(fault(1, |row| row.name = " ".into()), "name");
        assert_eq!(fault(1, |row| row.name = "Retail Company".into()), "name, brand");
    }

    #[test]
    fn a_client_keeps_type_and_brand() {
        assert_eq!(fault(3, |row| row.kind = CompanyKind::Residential), "type");
        assert_eq!(fault(3, |row| row.brand = Id::new(2)), "brand");
    }

    #[test]
    fn without_the_billing_feature_nothing_is_billed() {
        let (row, _) = changed(6, |row| row.max_calls = 3).unwrap();
        assert_eq!(row.billing_method, CompanyBillingMethod::None);
        let (row, _) = changed(1, |row| row.max_calls = 3).unwrap();
        assert_eq!(row.billing_method, CompanyBillingMethod::Prepaid);
    }

    #[test]
    fn what_a_type_does_not_have_is_refused() {
        assert_eq!(fault(3, |row| row.on_demand_record = Some(1)), "onDemandRecord");
        assert_eq!(fault(5, |row| row.on_demand_record = Some(1)), "onDemandRecord");
        assert!(changed(4, |row| row.on_demand_record = Some(1)).is_ok());
        assert_eq!(fault(4, |row| row.corporation = Some(Id::new(1))), "corporation");
        assert_eq!(fault(5, |row| row.application_server_set = Id::new(1)), "applicationServerSet");
    }

    #[test]
    fn recording_on_demand_is_put_in_order() {
        let email = CompanyOnDemandRecordEmail::Other;
        let address = || Some("rec@example.com".to_owned());
        let (row, _) = changed(1, |row| {
            (row.on_demand_record, row.on_demand_record_email) = (Some(0), email);
            row.on_demand_record_email_address = address();
            row.on_demand_record_notification_template = Some(Id::new(7));
        })
        .unwrap();
        assert_eq!(row.on_demand_record_email, CompanyOnDemandRecordEmail::Disabled);
        assert_eq!(
            (row.on_demand_record_email_address, row.on_demand_record_notification_template),
            (None, None)
        );
        let set = |address: Option<String>| {
            move |row: &mut Company| {
                (row.on_demand_record, row.on_demand_record_email) = (Some(2), email);
                row.on_demand_record_email_address = address;
            }
        };
        assert_eq!(changed(1, set(address())).unwrap().0.on_demand_record_email_address, address());
        assert_eq!(fault(1, set(None)), "onDemandRecordEmailAddress");
        assert_eq!(fault(1, |row| row.on_demand_record_code = Some("*1".into())), "onDemandRecordCode");
    }

    #[test]
    fn what_a_client_refers_to_is_its_own_or_its_brands() {
        assert_eq!(fault(2, |row| row.outgoing_ddi = Some(Id::new(1))), "outgoingDdi");
        assert!(changed(1, |row| row.outgoing_ddi = Some(Id::new(1))).is_ok());
        assert_eq!(fault(2, |row| row.outgoing_ddi_rule = Some(Id::new(1))), "outgoingDdiRule");
        assert_eq!(fault(2, |row| row.location = Some(Id::new(1))), "location");
        assert_eq!(
            fault(6, |row| row.fax_notification_template = Some(Id::new(1))),
            "faxNotificationTemplate"
        );
        let new = |brand: u32| Company {
            outgoing_ddi: Some(Id::new(1)),
            brand: Id::new(brand),
            ..company(CompanyKind::Vpbx)
        };
        assert!(change(|draft| draft.create(new(1))).is_ok());
        assert!(change(|draft| draft.create(new(2))).is_err());
    }

    #[test]
    fn users_at_the_default_location_follow_it() {
        let user = Id::<User>::new(1);
        let (_, rows, _) = change(|draft| {
            let mut row = draft.get(user).unwrap().clone();
            (row.use_default_location, row.location) = (true, Some(Id::new(1)));
            draft.put(Box::new(row))?;
            draft.change(Id::new(1), |row: &mut Company| row.location = Some(Id::new(2)))
        })
        .unwrap();
        assert_eq!(rows.get(user).unwrap().location, Some(Id::new(2)));
    }

    #[test]
    fn an_account_is_inactive_from_the_daily_limit_on() {
        let rows = crate::testing::sample();
        let status = |usage: i64| {
            let current_day_usage = Some(Decimal::from(usage));
            let max_daily_usage = 2;
            account_status(&Company { current_day_usage, max_daily_usage, ..Company::default() }, &rows)
        };
        assert_eq!((status(1), status(2)), ("active".into(), "inactive".into()));
    }

    #[test]
    fn every_client_can_be_deleted_with_all_that_it_has() {
        for id in 1..=7 {
            let deleted = change(|draft| draft.delete(Id::<Company>::new(id)));
            assert!(deleted.is_ok(), "{id}: {}", deleted.unwrap_err());
        }
    }

    #[test]
    fn the_rows_of_the_sample_system_keep_to_the_rules() {
        let rows = crate::testing::sample();
        let tables = [
            Administrator::definition(),
            AdministratorRelPublicEntity::definition(),
            ApplicationServer::definition(),
            ApplicationServerSet::definition(),
            Brand::definition(),
            BrandService::definition(),
            Company::definition(),
            CompanyService::definition(),
            InvoiceTemplate::definition(),
            MediaRelaySet::definition(),
            NotificationTemplate::definition(),
            NotificationTemplateContent::definition(),
            ProxyTrunk::definition(),
            ProxyTrunksRelBrand::definition(),
            ProxyUser::definition(),
            Rtpengine::definition(),
            Service::definition(),
            SpecialNumber::definition(),
            TerminalModel::definition(),
            Trusted::definition(),
            UsersAddress::definition(),
            WebPortal::definition(),
        ];
        for row in tables.iter().flat_map(|table| rows.all(table)) {
            let saved = change(|draft| draft.save(row.copy()));
            assert!(saved.is_ok(), "{} {}: {}", row.table().name, row.id(), saved.unwrap_err());
        }
    }
}
