//! What registrations and calls are decided from: lookups in one state of the configuration's rows.
//!
//! Immutable and cheap to copy: a change of the configuration makes the next one. In: names and numbers of requests. Out: rows,
//! without an allocation and without a lock. Elsewhere: replacing one snapshot by the next (the shells).

use crate::aor::{Aor, AorOwner};
use crate::configuration::Configuration;
use crate::configuration_check::{self, Mistake};
use crate::define::Secret;
use crate::define::Value;
use crate::define::choices::{Transport, YesNo};
use crate::entities::{
    Brand, Company, CompanyKind, Domain, Extension, Friend, FriendDirectConnectivity, ResidentialDevice,
    RetailAccount, Terminal, User,
};
use crate::id::Id;
use crate::rows::Rows;
use std::net::IpAddr;

/// Longest host name in characters (RFC 1035 section 2.3.4, without the root's dot).
const DOMAIN_MAX: usize = 253;
/// The place of `unique(domain)` among the unique sets of domains.
const DOMAIN_BY_NAME: usize = 0;
/// The place of `unique(name, domain)` among those of terminals.
const TERMINAL_BY_NAME: usize = 0;
/// The place of `unique(company, number)` among those of extensions.
const EXTENSION_BY_NUMBER: usize = 0;
/// The place of `unique(name, domain)` among those of friends.
const FRIEND_BY_NAME: usize = 0;
/// The place of `unique(name, brand)` among those of residential devices and of retail accounts.
const DEVICE_BY_NAME: usize = 0;

/// One state of the configuration, for routing.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    rows: Rows,
}

/// An endpoint: something of a client that logs in and is called.
#[derive(Clone, Copy, Debug)]
pub struct EndpointRef<'a> {
    /// Its address-of-record.
    pub aor: Aor,
    /// The name that it logs in with.
    pub name: &'a str,
    /// The password; nothing where it has none and cannot log in.
    pub secret: Option<&'a str>,
    /// Whose it is.
    pub client: &'a Company,
    /// Who sits there.
    pub user: Option<&'a User>,
    /// Whether all its contacts ring, or the latest alone.
    pub multi_contact: bool,
    /// Where it is, if it does not register ("direct connectivity").
    pub direct: Option<DirectAddress<'a>>,
}

/// Where an endpoint is that does not register. Calls from its address need no password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectAddress<'a> {
    /// How SIP travels there.
    pub transport: Transport,
    /// The address that SIP is sent to; nothing: that of the domain.
    pub ip: Option<IpAddr>,
    /// The port that SIP is sent to; nothing: the usual one.
    pub port: Option<u16>,
    /// The domain in the request URI; nothing: the address.
    pub domain: Option<&'a str>,
}

impl Snapshot {
    /// Routes by these rows.
    pub fn new(rows: Rows) -> Self {
        Self { rows }
    }

    /// Routes by a small configuration alone.
    ///
    /// # Errors
    ///
    /// Every mistake of the configuration, in its order.
    pub fn build(configuration: &Configuration) -> Result<Self, Vec<Mistake>> {
        let mistakes = configuration_check::mistakes(configuration);
        if mistakes.is_empty() { Ok(Self::new(configuration.rows(&Rows::default()))) } else { Err(mistakes) }
    }

    /// All rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// A SIP domain by its name: case does not matter, a trailing dot is tolerated, a port does not belong here.
    pub fn domain(&self, host: &str) -> Option<&Domain> {
        let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
        let mut lower = [0; DOMAIN_MAX];
        let lower = lower.get_mut(..host.len())?;
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        let name = Value::Text(std::str::from_utf8(lower).ok()?);
        self.rows.find(DOMAIN_BY_NAME, &[name])
    }

    /// The virtual PBX client of a SIP domain.
    pub fn client_by_domain(&self, host: &str) -> Option<&Company> {
        let domain = self.domain(host)?;
        self.rows.of::<Company>("domain", domain.id.get()).find(|client| client.kind == CompanyKind::Vpbx)
    }

    /// The SIP domain of a client; empty when it has none.
    pub fn domain_of(&self, client: &Company) -> &str {
        self.rows.at(client.domain).map_or("", |domain| domain.domain.as_str())
    }

    /// The first client of the platform, the one whose endpoints may use the proxy's IP address as their domain
    /// (manual 5.2.1): the lowest id.
    pub fn first_client(&self) -> Option<&Company> {
        self.rows.each::<Company>().find(|client| client.kind == CompanyKind::Vpbx)
    }

    /// The endpoint with this name in a domain; case matters. A client's domain has terminals and friends, a brand's the devices of its
    /// residential clients and the accounts of its retail ones.
    pub fn endpoint(&self, domain: Id<Domain>, name: &str) -> Option<EndpointRef<'_>> {
        let in_domain = [Value::Text(name), Value::Int(i64::from(domain.get()))];
        let terminal = self.rows.find::<Terminal>(TERMINAL_BY_NAME, &in_domain);
        let friend = self.rows.find::<Friend>(FRIEND_BY_NAME, &in_domain);
        // Each table is asked, whoever is found: the time tells nothing.
        let brand = self.rows.of::<Brand>("domain", domain.get()).next().map_or(0, |brand| brand.id.get());
        let in_brand = [Value::Text(name), Value::Int(i64::from(brand))];
        let device = self.rows.find::<ResidentialDevice>(DEVICE_BY_NAME, &in_brand);
        let account = self.rows.find::<RetailAccount>(DEVICE_BY_NAME, &in_brand);
        let owner = terminal
            .map(|row| AorOwner::Terminal(row.id))
            .or_else(|| Some(AorOwner::Friend(friend?.id)))
            .or_else(|| Some(AorOwner::ResidentialDevice(device?.id)))
            .or_else(|| Some(AorOwner::RetailAccount(account?.id)))?;
        self.endpoint_at(Aor::of(owner)?)
    }

    /// The endpoint of an address-of-record.
    pub fn endpoint_at(&self, aor: Aor) -> Option<EndpointRef<'_>> {
        let found = match aor.owner() {
            AorOwner::Terminal(id) => {
                let row = self.rows.get(id)?;
                let user = self.user_of(id);
                EndpointRef {
                    aor,
                    name: &row.name,
                    secret: Some(row.password.reveal()),
                    client: self.rows.get(row.company)?,
                    user,
                    multi_contact: user.is_none_or(|user| user.multi_contact),
                    direct: None,
                }
            }
            AorOwner::Friend(id) => {
                let row = self.rows.get(id)?;
                let is_direct = row.direct_connectivity == FriendDirectConnectivity::Yes;
                let at = || direct(row.transport, row.ip.as_deref(), row.port, row.ruri_domain.as_deref());
                let named = (row.name.as_str(), row.password.as_ref());
                device(aor, named, self.rows.get(row.company)?, row.multi_contact, is_direct.then(at))
            }
            AorOwner::ResidentialDevice(id) => {
                let row = self.rows.get(id)?;
                let is_direct = row.direct_connectivity == YesNo::Yes;
                let at = || direct(row.transport, row.ip.as_deref(), row.port, row.ruri_domain.as_deref());
                let named = (row.name.as_str(), row.password.as_ref());
                device(aor, named, self.rows.get(row.company)?, row.multi_contact, is_direct.then(at))
            }
            AorOwner::RetailAccount(id) => {
                let row = self.rows.get(id)?;
                let is_direct = row.direct_connectivity == YesNo::Yes;
                let at = || direct(row.transport, row.ip.as_deref(), row.port, row.ruri_domain.as_deref());
                let named = (row.name.as_str(), row.password.as_ref());
                device(aor, named, self.rows.get(row.company)?, row.multi_contact, is_direct.then(at))
            }
        };
        Some(found)
    }

    /// The extension with this number within a client.
    pub fn extension(&self, client: Id<Company>, number: &str) -> Option<&Extension> {
        self.rows.find(EXTENSION_BY_NUMBER, &[Value::Int(i64::from(client.get())), Value::Text(number)])
    }

    /// The user whose terminal this is.
    pub fn user_of(&self, terminal: Id<Terminal>) -> Option<&User> {
        self.rows.of::<User>("terminal", terminal.get()).next()
    }

    /// A brand.
    pub fn brand(&self, id: Id<Brand>) -> Option<&Brand> {
        self.rows.get(id)
    }

    /// A client.
    pub fn client(&self, id: Id<Company>) -> Option<&Company> {
        self.rows.get(id)
    }

    /// A terminal.
    pub fn terminal(&self, id: Id<Terminal>) -> Option<&Terminal> {
        self.rows.get(id)
    }

    /// A user.
    pub fn user(&self, id: Id<User>) -> Option<&User> {
        self.rows.get(id)
    }

    /// An extension.
    pub fn extension_by_id(&self, id: Id<Extension>) -> Option<&Extension> {
        self.rows.get(id)
    }
}

/// An endpoint that is no user's terminal.
fn device<'a>(
    aor: Aor,
    (name, password): (&'a str, Option<&'a Secret>),
    client: &'a Company,
    multi_contact: bool,
    direct: Option<DirectAddress<'a>>,
) -> EndpointRef<'a> {
    EndpointRef { aor, name, secret: password.map(Secret::reveal), client, user: None, multi_contact, direct }
}

/// Where a row says that its endpoint is.
fn direct<'a>(
    transport: Option<Transport>,
    ip: Option<&str>,
    port: Option<u16>,
    domain: Option<&'a str>,
) -> DirectAddress<'a> {
    DirectAddress {
        transport: transport.unwrap_or_default(),
        ip: ip.and_then(|ip| ip.trim().parse().ok()),
        port: port.filter(|port| *port != 0),
        domain: domain.filter(|domain| !domain.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::Client;

    fn demo() -> Snapshot {
        Snapshot::build(&Configuration::demo()).unwrap()
    }

    #[test]
    fn the_places_of_unique_sets_are_right() {
        let set = |table: &crate::define::Table, set: usize| -> Vec<&str> {
            table.unique[set].iter().map(|place| table.fields[*place].name).collect()
        };
        use crate::define::Entity;
        assert_eq!(set(Domain::definition(), DOMAIN_BY_NAME), ["domain"]);
        assert_eq!(set(Terminal::definition(), TERMINAL_BY_NAME), ["name", "domain"]);
        assert_eq!(set(Extension::definition(), EXTENSION_BY_NUMBER), ["company", "number"]);
        assert_eq!(set(Friend::definition(), FRIEND_BY_NAME), ["name", "domain"]);
        assert_eq!(set(ResidentialDevice::definition(), DEVICE_BY_NAME), ["name", "brand"]);
        assert_eq!(set(RetailAccount::definition(), DEVICE_BY_NAME), ["name", "brand"]);
    }

    #[test]
    fn alice_is_found_by_domain_and_name() {
        let snapshot = demo();
        let client = snapshot.client_by_domain("Users.DemoClient.COM").unwrap();
        let domain = client.domain.unwrap();
        let alice = snapshot.endpoint(domain, "alice").unwrap();
        assert_eq!(alice.user.unwrap().full_name(), "Alice Allison");
        assert_eq!((alice.secret, alice.client.id), (Some("alice"), client.id));
        assert!(snapshot.endpoint(domain, "Alice").is_none());
        assert!(snapshot.endpoint(Id::new(99), "alice").is_none());
    }

    #[test]
    fn a_client_whose_domain_was_written_with_capitals_is_found_by_it() {
        let mixed = |row: &mut Company| row.domain_users = Some("Mixed.Example".into());
        let (_, rows, _) = crate::testing::change(|draft| draft.change(Id::new(1), mixed)).unwrap();
        let find = |rows: Rows| Snapshot::new(rows).client_by_domain("mixed.example").map(|client| client.id);
        assert_eq!(find(rows.clone()), Some(Id::new(1)));
        // One that an earlier version kept as it was written.
        let domain = rows.get(Id::<Company>::new(1)).unwrap().domain;
        let mut old = rows;
        let row = Domain { domain: "MIXED.example".into(), ..old.at(domain).unwrap().clone() };
        old.insert(std::sync::Arc::new(row));
        assert_eq!(find(old), Some(Id::new(1)));
    }

    #[test]
    fn a_domain_may_end_with_a_dot_but_not_be_anything_else() {
        let snapshot = demo();
        assert!(snapshot.client_by_domain("users.democlient.com.").is_some());
        for wrong in [
            "",
            ".",
            "democlient.com",
            "users.democlient.com..",
            "users.democlient.com:5060",
            &"x".repeat(1000),
        ] {
            assert!(snapshot.client_by_domain(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn dialling_102_leads_to_bob() {
        let snapshot = demo();
        let extension = snapshot.extension(Id::new(1), "102").unwrap();
        assert_eq!(extension.user, Some(Id::new(2)));
        assert_eq!(snapshot.user(Id::new(2)).unwrap().name, "Bob");
        assert_eq!(snapshot.brand(Id::new(1)).unwrap().name, "DemoBrand");
        assert!(snapshot.extension(Id::new(1), "103").is_none());
        assert!(snapshot.extension(Id::new(9), "102").is_none());
    }

    #[test]
    fn the_first_client_is_the_lowest_id_and_needs_no_domain() {
        let mut configuration = Configuration::demo();
        configuration.clients.insert(
            0,
            Client {
                id: Id::new(5),
                brand: Id::new(1),
                name: "Later".into(),
                domain: "later.example.com".into(),
            },
        );
        configuration.clients[1].domain.clear();
        let snapshot = Snapshot::build(&configuration).unwrap();
        assert_eq!(snapshot.first_client().unwrap().name, "DemoCompany");
        assert!(snapshot.client_by_domain("").is_none());
        assert!(Snapshot::build(&Configuration::default()).unwrap().first_client().is_none());
    }
}
