//! Brands: the operators that sell telephony on this platform.
//!
//! Manual, chapter 8.1. Elsewhere: their domains (`domain`), and what each may use (`*_rel_brand`).

use crate::checks::{differs, email_if_any, host_name, strays_from_brand};
use crate::draft::alike;
use crate::prelude::*;
use std::collections::BTreeMap;

/// An operator with its own clients, providers, rates and portals. It sees nothing of other brands.
#[derive(Clone, Debug, Entity)]
#[entity(path = "brands", access = ACCESS, computed = COMPUTED, unique(name), rules)]
pub struct Brand {
    /// Number of the brand.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<Brand>,
    /// The brand's name; it occurs once.
    #[field(max = 75, platform = "ldw", brand = "ldw")]
    pub name: String,
    /// The SIP domain of all retail accounts and residential devices of the brand. It must lead to the users'
    /// proxy; brands with retail or residential clients need it. It is kept in small letters.
    #[field(max = 190, platform = "ldw")]
    pub domain_users: Option<String>,
    /// Megabytes of recordings that the brand may keep; beyond that the oldest go. Null or 0: no limit.
    #[field(name = "recordingsLimitMB", min = 0)]
    pub recordings_limit_mb: Option<i32>,
    /// Who is told when the recordings reach 80% of the limit; empty: nobody.
    #[field(max = 250)]
    pub recordings_limit_email: Option<String>,
    /// External calls that the brand may have at the same time, in and out together. 0: no limit.
    #[field(default = 0u32, platform = "dw")]
    pub max_calls: u32,
    /// Shown on invoices, and in portals that have no logo of their own.
    #[field(platform = "ldw", brand = "ldw")]
    pub logo: File,
    /// What invoices of this brand say of it.
    #[field(brief("nif", "postalCode"), platform = "ldw", brand = "ldw")]
    pub invoice: InvoiceAddress,
    /// The row of the brand's SIP domain, kept in step with the domain's name.
    #[field(delete = "clear", index)]
    pub domain: Option<Id<Domain>>,
    /// Language of clients that name none.
    #[field(platform = "dw", brand = "dw")]
    pub language: Id<Language>,
    /// Time zone of clients and administrators that name none.
    #[field(delete = "cascade", platform = "dw", brand = "dw")]
    pub default_timezone: Id<Timezone>,
    /// Currency of clients, carriers and rates that name none.
    #[field(platform = "dw", brand = "dw")]
    pub currency: Id<Currency>,
    /// Mail about new voicemails, for clients that choose none. Null: the platform's.
    #[field(delete = "clear", platform = "dw", brand = "dw")]
    pub voicemail_notification_template: Option<Id<NotificationTemplate>>,
    /// Mail about recordings made on demand, for clients that choose none. Null: the platform's.
    #[field(delete = "clear", platform = "dw")]
    pub on_demand_record_notification_template: Option<Id<NotificationTemplate>>,
    /// Mail about received faxes, for clients that choose none. Null: the platform's.
    #[field(delete = "clear", platform = "dw", brand = "dw")]
    pub fax_notification_template: Option<Id<NotificationTemplate>>,
    /// Mail about new invoices, for clients that choose none. Null: the platform's.
    #[field(delete = "clear", platform = "dw", brand = "dw")]
    pub invoice_notification_template: Option<Id<NotificationTemplate>>,
    /// Mail with scheduled call lists, for clients that choose none. Null: the platform's.
    #[field(delete = "clear", platform = "dw", brand = "dw")]
    pub call_csv_notification_template: Option<Id<NotificationTemplate>>,
    /// Mail about a client that reached its daily limit, for clients that choose none. Null: the platform's.
    #[field(delete = "clear", platform = "dw", brand = "dw")]
    pub max_daily_usage_notification_template: Option<Id<NotificationTemplate>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgcud").acl().order(&["name"]).create_expands(),
    Access::at(Level::Brand, "lgu").acl().read(&[Rule::OwnBrand("id")]),
];

const COMPUTED: &[Computed] = &[
    Computed::new(
        "mediaRelaySets",
        "Media relay sets that the brand may give to clients and providers; one at least.",
        How::Pairs(MediaRelaySetsRelBrand::definition, "brand", "mediaRelaySet"),
    )
    .at(Level::Platform, "ldw"),
    Computed::new(
        "features",
        "What the brand may use and pass on to its clients.",
        How::Pairs(FeaturesRelBrand::definition, "brand", "feature"),
    )
    .at(Level::Platform, "ldw"),
    Computed::new(
        "proxyTrunks",
        "Addresses from which the brand may talk to carriers and DDI providers.",
        How::Pairs(ProxyTrunksRelBrand::definition, "brand", "proxyTrunk"),
    )
    .at(Level::Platform, "ldw"),
    Computed::new(
        "applicationServerSets",
        "Application server sets that the brand may give to clients; one at least.",
        How::Pairs(ApplicationServerSetsRelBrand::definition, "brand", "applicationServerSet"),
    )
    .at(Level::Platform, "ldw"),
];

/// The references to templates of mails.
const TEMPLATES: [&str; 6] = [
    "voicemailNotificationTemplate",
    "onDemandRecordNotificationTemplate",
    "faxNotificationTemplate",
    "invoiceNotificationTemplate",
    "callCsvNotificationTemplate",
    "maxDailyUsageNotificationTemplate",
];

impl Brand {
    /// Whether the brand has the feature known by this word.
    pub fn has_feature(&self, iden: &str, rows: &Rows) -> bool {
        let mut features = rows.of::<FeaturesRelBrand>("brand", self.id.get());
        features.any(|pair| rows.get(pair.feature).is_some_and(|feature| feature.iden == iden))
    }

    /// The name of the brand's SIP domain; empty when it has none.
    fn domain_name(&self) -> &str {
        self.domain_users.as_deref().unwrap_or_default()
    }

    /// Says so where the brand has no set of servers or relays.
    pub(crate) fn has_sets(&self, rows: &Rows) -> Result<(), Refusal> {
        let id = self.id.get();
        let missing = if rows.of::<ApplicationServerSetsRelBrand>("brand", id).next().is_none() {
            "application server set"
        } else if rows.of::<MediaRelaySetsRelBrand>("brand", id).next().is_none() {
            "media relay set"
        } else {
            return Ok(());
        };
        Err(Refusal::Forbidden(format!("a brand needs one {missing} at least; choose one")))
    }

    /// Says so where the brand's clients would have no domain to register with.
    pub(crate) fn has_domain_if_needed(&self, rows: &Rows) -> Result<(), Refusal> {
        let needs = [Feature::RESIDENTIAL, Feature::RETAIL].iter().any(|iden| self.has_feature(iden, rows));
        if needs && self.domain_name().is_empty() {
            let remedy = "brands with residential or retail clients need a SIP domain; write its name";
            return Err(Refusal::wrong("domainUsers", remedy));
        }
        Ok(())
    }

    /// What a new brand starts with.
    fn furnish(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        draft.create(Administrator::internal(format!("__b{}_internal", self.id), self.id, None))?;
        let services = draft.rows().each::<Service>();
        let codes: Vec<_> = services.map(|service| (service.id, service.default_code.clone())).collect();
        for (service, code) in codes {
            draft.create(BrandService { code, brand: self.id, service, ..BrandService::default() })?;
        }
        self.furnish_routing(draft)
    }

    /// A pattern for each country, in groups for each part of the world.
    fn furnish_routing(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let countries: Vec<Country> = draft.rows().each::<Country>().cloned().collect();
        let mut groups: BTreeMap<String, Id<RoutingPatternGroup>> = BTreeMap::new();
        let brand = self.id;
        for Country { country_code, name, zone, .. } in countries {
            let Some(prefix) = country_code else { continue };
            let routing_pattern =
                draft.create(RoutingPattern { prefix, name, brand, ..RoutingPattern::default() })?;
            if zone.en.is_empty() {
                continue;
            }
            let routing_pattern_group = match groups.get(&zone.en) {
                Some(group) => *group,
                None => {
                    let name = zone.en.clone();
                    draft.create(RoutingPatternGroup { name, brand, ..RoutingPatternGroup::default() })?
                }
            };
            groups.insert(zone.en, routing_pattern_group);
            let id = Id::default();
            draft.create(RoutingPatternGroupsRelPattern { id, routing_pattern, routing_pattern_group })?;
        }
        Ok(())
    }

    /// Keeps the row of the brand's domain in step, and all who register with it.
    fn follow_domain(&self, old: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let was = old.map(|old| (old.domain_name(), &old.name));
        let nothing_to_do = was.is_some_and(|was| was == (self.domain_name(), &self.name));
        if nothing_to_do || (self.domain_name().is_empty() && was.is_none_or(|(name, _)| name.is_empty())) {
            return Ok(());
        }
        let owner = DomainOwner::Brand(self.id);
        let domain = Domain::follow(owner, self.domain_name(), &self.name, self.domain, draft)?;
        if domain == self.domain {
            return Ok(());
        }
        let brand = self.id.get();
        follow_row(draft, |row: &Self| row.id == self.id, |row| row.domain = domain)?;
        let registers = |row: &Company| row.brand == self.id && row.kind.registers_with_brand();
        follow_row(draft, registers, |row| row.domain = domain)?;
        follow_row(draft, |row: &RetailAccount| row.brand.get() == brand, |row| row.domain = domain)?;
        follow_row(draft, |row: &ResidentialDevice| row.brand.get() == brand, |row| row.domain = domain)
    }
}

/// Changes rows that follow another one, without their own rules; those that are right already stay as they are.
pub(crate) fn follow_row<E: Rules>(
    draft: &mut Draft<'_>,
    which: impl Fn(&E) -> bool,
    change: impl Fn(&mut E),
) -> Result<(), Refusal> {
    let rows: Vec<E> = draft.rows().each::<E>().filter(|row| which(row)).cloned().collect();
    rows.into_iter().try_for_each(|row| {
        let mut changed = row.clone();
        change(&mut changed);
        if alike(&row, &changed) { Ok(()) } else { draft.put(Box::new(changed)) }
    })
}

impl Rules for Brand {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        self.name = self.name.trim().to_owned();
        check.require(!self.name.is_empty(), "name", "a brand needs a name");
        self.domain_users = self.domain_users.take().map(|name| domain_name_kept(&name));
        if differs(self, old, "domainUsers") {
            let name = self.domain_name();
            check.require(
                name.is_empty() || host_name(name),
                "domainUsers",
                "write a host name, such as sip.example.com",
            );
            let mut clients = check.rows.of::<Company>("brand", self.id.get());
            // A new brand has no clients; one that comes with its clients (an import) is as it was elsewhere.
            let needed = old.is_some()
                && name.is_empty()
                && clients.any(|company| company.kind.registers_with_brand());
            check.require(
                !needed,
                "domainUsers",
                "residential and retail clients of this brand register with its domain",
            );
        }
        if differs(self, old, "recordingsLimitEmail") {
            let right = email_if_any(self.recordings_limit_email.as_deref());
            check.require(
                right,
                "recordingsLimitEmail",
                "write an address like name@example.com, or nothing",
            );
        }
        for field in TEMPLATES {
            let strays = strays_from_brand(self, old, field, Some(self.id.get()), check.rows);
            check.require(!strays, field, "choose a template of this brand");
        }
    }

    fn saved(&self, old: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        if old.is_none() {
            self.furnish(draft)?;
        }
        self.follow_domain(old, draft)?;
        let id = self.id;
        draft.at_end(move |rows| {
            let Some(brand) = rows.get(id) else { return Ok(()) };
            brand.has_domain_if_needed(rows)?;
            brand.has_sets(rows)
        });
        Ok(())
    }

    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        Domain::end(DomainOwner::Brand(self.id), self.domain, draft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, change_on};

    fn brand() -> Brand {
        let references = Brand {
            language: Id::new(1),
            default_timezone: Id::new(145),
            currency: Id::new(1),
            ..Brand::default()
        };
        Brand { name: " New ".into(), domain_users: Some(" sip.new.example ".into()), ..references }
    }

    /// A brand with a set of each kind.
    fn create(draft: &mut Draft<'_>, brand: Brand) -> Result<Id<Brand>, Refusal> {
        let brand = draft.create(brand)?;
        let application_server_set = ApplicationServerSet::DEFAULT;
        draft.create(ApplicationServerSetsRelBrand { id: Id::default(), brand, application_server_set })?;
        draft.create(MediaRelaySetsRelBrand { id: Id::default(), brand, media_relay_set: Id::new(0) })?;
        Ok(brand)
    }

    #[test]
    fn a_new_brand_has_an_administrator_services_and_routing_patterns() {
        let (id, rows, _) = change(|draft| create(draft, brand())).unwrap();
        let admins: Vec<_> = rows.of::<Administrator>("brand", id.get()).collect();
        let [admin] = admins.as_slice() else { panic!("one administrator") };
        assert_eq!(admin.username, format!("__b{id}_internal"));
        assert!(admin.internal && !admin.active && admin.can_impersonate && admin.company.is_none());
        let codes =
            rows.of::<BrandService>("brand", id.get()).map(|row| (row.service.get(), row.code.as_str()));
        assert_eq!(codes.collect::<Vec<_>>(), [(1, "94"), (2, "95"), (3, "93"), (4, "00"), (5, "30")]);
        let patterns: Vec<_> = rows.of::<RoutingPattern>("brand", id.get()).collect();
        assert_eq!(patterns.len(), rows.each::<Country>().count());
        let spain = patterns.iter().find(|pattern| pattern.prefix == "+34").unwrap();
        assert_eq!(spain.name.es, "España");
        let groups: Vec<_> = rows.of::<RoutingPatternGroup>("brand", id.get()).collect();
        assert_eq!(groups.len(), 7);
        let europe = groups.iter().find(|group| group.name == "Europe").unwrap();
        assert!(paired::<RoutingPatternGroupsRelPattern>(
            &rows,
            "routingPatternGroup",
            europe.id.get(),
            "routingPattern",
            spain.id.get()
        ));
    }

    #[test]
    fn the_domain_of_a_brand_is_made_renamed_and_deleted_with_it() {
        let (id, rows, _) = change(|draft| create(draft, brand())).unwrap();
        let domain = rows.at(rows.get(id).unwrap().domain).unwrap();
        assert_eq!(
            (domain.domain.as_str(), domain.description.as_deref()),
            ("sip.new.example", Some("New proxyusers domain"))
        );
        let domain = domain.id;
        let (_, rows, _) = change_on(&rows, |draft| {
            draft.change(id, |row: &mut Brand| row.domain_users = Some("sip.other.example".into()))
        })
        .unwrap();
        assert_eq!(rows.get(domain).unwrap().domain, "sip.other.example");
        let (_, emptied, _) =
            change_on(&rows, |draft| draft.change(id, |row: &mut Brand| row.domain_users = None)).unwrap();
        assert!(emptied.get(domain).is_none() && emptied.get(id).unwrap().domain.is_none());
        let (_, deleted, _) = change_on(&rows, |draft| draft.delete(id)).unwrap();
        assert!(deleted.get(domain).is_none());
    }

    #[test]
    fn a_domain_is_kept_in_small_letters_and_another_brand_cannot_have_it_in_capitals() {
        let named = |name: &str| Brand { domain_users: Some(name.into()), ..brand() };
        let (id, rows, _) = change(|draft| create(draft, named("SIP.New.example"))).unwrap();
        let kept = rows.get(id).unwrap();
        assert_eq!(kept.domain_users.as_deref(), Some("sip.new.example"));
        assert_eq!(rows.at(kept.domain).unwrap().domain, "sip.new.example");
        let other =
            |draft: &mut Draft<'_>| create(draft, Brand { name: "Other".into(), ..named("sip.NEW.example") });
        assert!(change_on(&rows, other).unwrap_err().to_string().contains("domain"));
    }

    #[test]
    fn a_domain_that_two_brands_have_is_not_taken_from_the_other() {
        let other = |row: &mut Brand| row.domain_users = Some("sip.other.example".into());
        let (_, rows, _) = change(|draft| draft.change(Id::new(2), other)).unwrap();
        let name = |id: u32| rows.at(rows.get(Id::<Brand>::new(id)).unwrap().domain).unwrap().domain.as_str();
        assert_eq!((name(2), name(3)), ("sip.other.example", "sip.irontec.com"));
        let (_, rows, _) = change(|draft| draft.delete(Id::<Brand>::new(2))).unwrap();
        assert!(rows.get(Id::<Domain>::new(4)).is_some());
    }

    #[test]
    fn a_brand_with_residential_clients_keeps_a_domain() {
        let set = |name: &str| {
            change(|draft| draft.change(Id::new(1), |row: &mut Brand| row.domain_users = Some(name.into())))
        };
        let (_, rows, _) = set("sip.demo.example").unwrap();
        let domain = rows.get(Id::<Brand>::new(1)).unwrap().domain;
        assert_eq!(rows.at(domain).unwrap().domain, "sip.demo.example");
        assert_eq!(rows.get(Id::<Company>::new(4)).unwrap().domain, domain);
        let emptied =
            change_on(&rows, |draft| draft.change(Id::new(1), |row: &mut Brand| row.domain_users = None));
        assert!(emptied.unwrap_err().to_string().starts_with("domainUsers: "));
        assert!(set("no domain").is_err());
    }

    #[test]
    fn a_brand_needs_a_set_of_servers_and_one_of_relays() {
        let refusal = change(|draft| draft.create(brand())).unwrap_err();
        assert!(
            matches!(&refusal, Refusal::Forbidden(why) if why.contains("application server set")),
            "{refusal}"
        );
    }

    #[test]
    fn names_domains_and_templates_are_taken_once_and_by_their_own() {
        let named = |name: &str| Brand { name: name.into(), ..brand() };
        assert!(change(|draft| create(draft, named("DemoBrand"))).is_err());
        assert!(change(|draft| create(draft, named(" "))).is_err());
        let domain = Brand { domain_users: Some("test.irontec.com".into()), ..brand() };
        assert!(change(|draft| create(draft, domain)).is_err(), "a client has it");
        let with =
            |template: u32| Brand { voicemail_notification_template: Some(Id::new(template)), ..brand() };
        assert!(change(|draft| create(draft, with(1))).is_err(), "another brand's");
        assert!(change(|draft| create(draft, with(2))).is_ok(), "the platform's");
    }

    #[test]
    fn every_brand_can_be_deleted_with_all_that_it_has() {
        for id in 1..=3 {
            let (_, rows, _) = change(|draft| draft.delete(Id::<Brand>::new(id))).unwrap();
            assert_eq!(rows.of::<Company>("brand", id).count() + rows.of::<Carrier>("brand", id).count(), 0);
        }
    }
}
