//! SIP domains that lead to the proxies.
//!
//! Manual, chapter 8.10. Elsewhere: who has them (`brand`, `company`), whose rules make and remove them.

use crate::prelude::*;

/// A SIP domain of a vPBX client, of a brand, or of the platform itself.
#[derive(Clone, Debug, Entity)]
#[entity(path = "domains", access = ACCESS, computed = COMPUTED, unique(domain))]
pub struct Domain {
    /// Number of the domain.
    #[field(platform = "ld", brand = "l", client = "l")]
    pub id: Id<Domain>,
    /// The domain's name, as DNS knows it, in small letters; it occurs once.
    #[field(max = 190, folded, platform = "ld", brand = "l", client = "l")]
    pub domain: String,
    /// Which proxy the name leads to.
    #[field(default = DomainPointsTo::ProxyUsers, platform = "ld")]
    pub points_to: DomainPointsTo,
    /// Whose domain it is, in words.
    #[field(max = 500, platform = "d")]
    pub description: Option<String>,
}

/// The fields that hold names of SIP domains, with their tables.
pub(crate) const DOMAIN_NAMES: [(&str, &str); 3] =
    [("Brand", "domainUsers"), ("Company", "domainUsers"), ("Domain", "domain")];

/// A domain's name as it is kept: DNS and SIP know no case, look-ups are made in small letters.
pub(crate) fn domain_name_kept(name: &str) -> String {
    name.trim().to_ascii_lowercase()
}

/// The domains of the platform's own proxies.
const PLATFORM_DOMAINS: [&str; 2] = ["users.ivozprovider.local", "trunks.ivozprovider.local"];

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lg").acl().order(&["domain"]).read(&[Rule::All(&[
        Rule::IsNot("domain", PLATFORM_DOMAINS[0]),
        Rule::IsNot("domain", PLATFORM_DOMAINS[1]),
    ])]),
    Access::at(Level::Brand, "l")
        .acl()
        .order(&["domain"])
        .read(&[Rule::Where(of_own_clients)])
        .write(&[Rule::Never]),
    Access::at(Level::Client, "l")
        .acl()
        .order(&["domain"])
        .read(&[Rule::Where(own_domain)])
        .write(&[Rule::Never]),
];

const COMPUTED: &[Computed] = &[
    Computed::new(
        "brandName",
        "Name of the brand whose domain this is; empty for others.",
        How::Derived(brand_name),
    )
    .at(Level::Platform, "l"),
    Computed::new(
        "companyName",
        "Name of the vPBX client whose domain this is; empty for others.",
        How::Derived(company_name),
    )
    .at(Level::Platform, "l"),
];

choice! {
    /// Which proxy a domain leads to.
    pub enum DomainPointsTo {
        /// The proxy that telephones register with.
        ProxyUsers = "proxyusers",
        /// The proxy that talks to carriers and DDI providers.
        ProxyTrunks = "proxytrunks",
    }
}

fn of_own_clients(row: &dyn Record, caller: &Caller, rows: &Rows) -> bool {
    rows.of::<Company>("brand", caller.brand.unwrap_or(0))
        .any(|company| company.domain.map(Id::get) == Some(row.id()))
}

fn own_domain(row: &dyn Record, caller: &Caller, rows: &Rows) -> bool {
    caller.own_company(rows).and_then(|company| company.domain).map(Id::get) == Some(row.id())
}

/// Name of the brand that has this domain, the first of them; empty: none.
fn brand_name(row: &dyn Record, rows: &Rows) -> Json {
    let name = row.named("domain").text();
    let owner = rows.each::<Brand>().find(|brand| brand.domain_users.as_deref() == name);
    owner.map_or("", |brand| brand.name.as_str()).into()
}

/// Name of the client that has this domain; empty: none.
fn company_name(row: &dyn Record, rows: &Rows) -> Json {
    let name = row.named("domain").text();
    let owner = rows.each::<Company>().find(|company| company.domain_users.as_deref() == name);
    owner.map_or("", |company| company.name.as_str()).into()
}

/// Who has a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DomainOwner {
    Brand(Id<Brand>),
    Company(Id<Company>),
}

impl Domain {
    /// Whether it is the platform's own, or somebody else than this owner has it, too.
    fn is_shared(&self, owner: DomainOwner, rows: &Rows) -> bool {
        let has = |domain: Option<Id<Self>>, other| domain == Some(self.id) && other != owner;
        let of_brand = rows.each::<Brand>().any(|brand| has(brand.domain, DomainOwner::Brand(brand.id)));
        // Clients of other types share the domain of their brand.
        let mut clients = rows.each::<Company>().filter(|company| company.kind == CompanyKind::Vpbx);
        let of_client = clients.any(|company| has(company.domain, DomainOwner::Company(company.id)));
        PLATFORM_DOMAINS.contains(&self.domain.as_str()) || of_brand || of_client
    }

    /// Keeps the domain in step with the name that its owner has for it; an empty name means none.
    ///
    /// # Errors
    ///
    /// That the name is taken.
    pub(crate) fn follow(
        owner: DomainOwner,
        name: &str,
        label: &str,
        current: Option<Id<Self>>,
        draft: &mut Draft<'_>,
    ) -> Result<Option<Id<Self>>, Refusal> {
        let rows = draft.rows();
        let alone = |domain: &&Self| !domain.is_shared(owner, rows);
        let own = rows.at(current).filter(alone).map(|domain| domain.id);
        if name.is_empty() {
            own.map_or(Ok(()), |own| draft.delete(own))?;
            return Ok(None);
        }
        if own.is_none() && rows.at(current).is_some_and(|domain| domain.domain == name) {
            return Ok(current);
        }
        let unclaimed = rows.find::<Self>(0, &[Value::Text(name)]).filter(alone).map(|domain| domain.id);
        let description = Some(format!("{label} proxyusers domain"));
        let domain = name.to_owned();
        match own.or(unclaimed) {
            Some(id) => {
                draft.change(id, |row: &mut Self| (row.domain, row.description) = (domain, description))?;
                Ok(Some(id))
            }
            None => draft.create(Self { domain, description, ..Self::default() }).map(Some),
        }
    }

    /// Deletes the domain along with its owner, unless others have it, too.
    ///
    /// # Errors
    ///
    /// That something keeps it.
    pub(crate) fn end(
        owner: DomainOwner,
        current: Option<Id<Self>>,
        draft: &mut Draft<'_>,
    ) -> Result<(), Refusal> {
        Self::follow(owner, "", "", current, draft).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(derive: fn(&dyn Record, &Rows) -> Json, id: u32) -> String {
        let rows = crate::testing::sample();
        derive(rows.get(Id::<Domain>::new(id)).unwrap(), &rows).as_str().unwrap().to_owned()
    }

    #[test]
    fn a_domain_tells_whose_it_is() {
        assert_eq!((name(brand_name, 4), name(company_name, 4)), ("Irontec_e2e".into(), String::new()));
        assert_eq!(
            (name(brand_name, 5), name(company_name, 5)),
            (String::new(), "Irontec Test Company".into())
        );
        assert_eq!((name(brand_name, 1), name(company_name, 1)), (String::new(), String::new()));
    }

    #[test]
    fn a_client_sees_its_own_domain_only() {
        let rows = crate::testing::sample();
        let caller = |company: u32| Caller {
            level: Level::Client,
            administrator: None,
            user: None,
            brand: Some(1),
            company: Some(company),
            zone: jiff::tz::TimeZone::UTC,
            restricted: false,
            operator: false,
        };
        let seen = |company: u32| -> Vec<u32> {
            let caller = caller(company);
            rows.each::<Domain>().filter(|row| caller.sees(*row, &rows)).map(|row| row.id.get()).collect()
        };
        assert_eq!(seen(1), [3]);
        assert_eq!(seen(5), [0; 0], "a wholesale client has none");
    }
}
