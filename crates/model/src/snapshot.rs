//! The checked, indexed, immutable copy of a configuration that registrations and calls are decided from.
//!
//! In: a [`Configuration`]. Out: all its mistakes at once, or lookups that allocate nothing and take no lock.
//! Elsewhere: replacing one snapshot by the next (the shells).

use crate::configuration::Configuration;
use crate::entity::{Brand, Client, Extension, ExtensionRoute, InvalidExtensionNumber, Terminal, User};
use crate::id::Id;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Longest host name in characters (RFC 1035 section 2.3.4, without the root's dot).
const DOMAIN_MAX: usize = 253;
/// Longest terminal name in characters.
const TERMINAL_NAME_MAX: usize = 64;
/// Longest password in bytes.
const SECRET_MAX: usize = 256;
/// Longest name of a brand, client or user in bytes: it becomes a display name of SIP messages.
const NAME_MAX: usize = 128;
/// Longest ringing in seconds.
const RING_TIMEOUT_MAX_SECS: u32 = 3600;

/// A configuration without mistakes, with its indexes.
#[derive(Debug)]
pub struct Snapshot {
    brands: Table<Brand>,
    clients: Table<Client>,
    terminals: Table<Terminal>,
    users: Table<User>,
    extensions: Table<Extension>,
    client_by_domain: HashMap<String, Id<Client>>,
    terminal_by_name: HashMap<Id<Client>, HashMap<String, Id<Terminal>>>,
    extension_by_number: HashMap<Id<Client>, HashMap<String, Id<Extension>>>,
    user_by_terminal: HashMap<Id<Terminal>, Id<User>>,
}

/// An endpoint that may authenticate.
#[derive(Clone, Copy, Debug)]
pub struct EndpointRef<'a> {
    /// Its credentials.
    pub terminal: &'a Terminal,
    /// Who sits there.
    pub user: Option<&'a User>,
}

/// Something wrong in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where: kind, id and field, like `terminals[3].name`.
    pub key: String,
    /// What stands there.
    pub value: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?}: {}", self.key, self.value, self.remedy)
    }
}

impl Snapshot {
    /// Checks and indexes a configuration. On failure every mistake is listed, in the configuration's order.
    pub fn build(configuration: &Configuration) -> Result<Snapshot, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let snapshot = Snapshot {
            brands: Table::build("brands", &configuration.brands, |x| x.id, &mut mistakes),
            clients: Table::build("clients", &configuration.clients, |x| x.id, &mut mistakes),
            terminals: Table::build("terminals", &configuration.terminals, |x| x.id, &mut mistakes),
            users: Table::build("users", &configuration.users, |x| x.id, &mut mistakes),
            extensions: Table::build("extensions", &configuration.extensions, |x| x.id, &mut mistakes),
            client_by_domain: HashMap::new(),
            terminal_by_name: HashMap::new(),
            extension_by_number: HashMap::new(),
            user_by_terminal: HashMap::new(),
        };
        let snapshot = snapshot.index(configuration, &mut mistakes);
        if mistakes.is_empty() { Ok(snapshot) } else { Err(mistakes) }
    }

    /// The client of a SIP domain: case does not matter, a trailing dot is tolerated, a port does not belong here.
    pub fn client_by_domain(&self, host: &str) -> Option<&Client> {
        let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
        let mut lower = [0; DOMAIN_MAX];
        let lower = lower.get_mut(..host.len())?;
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        self.client(*self.client_by_domain.get(std::str::from_utf8(lower).ok()?)?)
    }

    /// The first client of the platform, the one whose endpoints may use the proxy's IP address as their domain
    /// (manual 5.2.1): the lowest id.
    pub fn first_client(&self) -> Option<&Client> {
        self.clients.rows.first()
    }

    /// The endpoint with this user name within a client; case matters.
    pub fn endpoint(&self, client: Id<Client>, username: &str) -> Option<EndpointRef<'_>> {
        let terminal = self.terminal(*self.terminal_by_name.get(&client)?.get(username)?)?;
        Some(EndpointRef { terminal, user: self.user_of(terminal.id) })
    }

    /// The extension with this number within a client.
    pub fn extension(&self, client: Id<Client>, number: &str) -> Option<&Extension> {
        self.extension_by_id(*self.extension_by_number.get(&client)?.get(number)?)
    }

    /// The user whose terminal this is.
    pub fn user_of(&self, terminal: Id<Terminal>) -> Option<&User> {
        self.user(*self.user_by_terminal.get(&terminal)?)
    }

    /// A brand.
    pub fn brand(&self, id: Id<Brand>) -> Option<&Brand> {
        self.brands.get(id, |x| x.id)
    }

    /// A client.
    pub fn client(&self, id: Id<Client>) -> Option<&Client> {
        self.clients.get(id, |x| x.id)
    }

    /// A terminal.
    pub fn terminal(&self, id: Id<Terminal>) -> Option<&Terminal> {
        self.terminals.get(id, |x| x.id)
    }

    /// A user.
    pub fn user(&self, id: Id<User>) -> Option<&User> {
        self.users.get(id, |x| x.id)
    }

    /// An extension.
    pub fn extension_by_id(&self, id: Id<Extension>) -> Option<&Extension> {
        self.extensions.get(id, |x| x.id)
    }

    /// Checks every entity and fills the indexes. The entities come in the configuration's order, duplicates included.
    fn index(mut self, configuration: &Configuration, mistakes: &mut Vec<Mistake>) -> Self {
        let first_client = self.first_client().map(|client| client.id);
        for brand in &configuration.brands {
            check_name(format!("brands[{}].name", brand.id), &brand.name, mistakes);
        }
        for client in &configuration.clients {
            let key = |field: &str| format!("clients[{}].{field}", client.id);
            check_name(key("name"), &client.name, mistakes);
            if self.brand(client.brand).is_none() {
                mistakes.push(dangling(key("brand"), client.brand, "brand"));
            }
            if client.domain.is_empty() && Some(client.id) == first_client {
                continue; // reached by the proxy's address
            }
            if !is_domain(&client.domain) {
                mistakes.push(Mistake {
                    key: key("domain"),
                    value: client.domain.clone(),
                    remedy: "give the client a host name of letters, digits, '-' and '.', in lower case, without a trailing dot"
                        .to_owned(),
                });
            }
            note(&mut self.client_by_domain, &client.domain, client.id, |other| {
                mistakes.push(Mistake {
                    key: key("domain"),
                    value: client.domain.clone(),
                    remedy: format!(
                        "clients[{other}] has this domain already; give each client a domain of its own"
                    ),
                });
            });
        }
        for terminal in &configuration.terminals {
            self.index_terminal(terminal, mistakes);
        }
        for extension in &configuration.extensions {
            self.index_extension(extension, mistakes);
        }
        for user in &configuration.users {
            self.index_user(user, mistakes);
        }
        self
    }

    fn index_terminal(&mut self, terminal: &Terminal, mistakes: &mut Vec<Mistake>) {
        let key = |field: &str| format!("terminals[{}].{field}", terminal.id);
        if self.client(terminal.client).is_none() {
            mistakes.push(dangling(key("client"), terminal.client, "client"));
        }
        if !is_terminal_name(&terminal.name) {
            mistakes.push(Mistake {
                key: key("name"),
                value: terminal.name.clone(),
                remedy: format!(
                    "use 1 to {TERMINAL_NAME_MAX} letters without accents, digits and any of -_.+~"
                ),
            });
        }
        let names = self.terminal_by_name.entry(terminal.client).or_default();
        note(names, &terminal.name, terminal.id, |other| {
            mistakes.push(Mistake {
                key: key("name"),
                value: terminal.name.clone(),
                remedy: format!(
                    "terminals[{other}] of the same client has this name already; choose another one"
                ),
            });
        });
        let secret = terminal.secret.reveal();
        if secret.is_empty() || secret.len() > SECRET_MAX || secret.chars().any(char::is_control) {
            mistakes.push(Mistake {
                key: key("secret"),
                value: if secret.is_empty() { String::new() } else { "(not shown)".to_owned() },
                remedy: format!("set a password of 1 to {SECRET_MAX} bytes without control characters"),
            });
        }
    }

    fn index_extension(&mut self, extension: &Extension, mistakes: &mut Vec<Mistake>) {
        let key = |field: &str| format!("extensions[{}].{field}", extension.id);
        if self.client(extension.client).is_none() {
            mistakes.push(dangling(key("client"), extension.client, "client"));
        }
        if !extension.number.is_valid() {
            mistakes.push(Mistake {
                key: key("number"),
                value: extension.number.to_string(),
                remedy: InvalidExtensionNumber.to_string(),
            });
        }
        let number = extension.number.as_str();
        let numbers = self.extension_by_number.entry(extension.client).or_default();
        note(numbers, number, extension.id, |other| {
            mistakes.push(Mistake {
                key: key("number"),
                value: number.to_owned(),
                remedy: format!(
                    "extensions[{other}] of the same client has this number already; choose another one"
                ),
            });
        });
        if let ExtensionRoute::User(user) = extension.route {
            let owner = self.user(user).map(|user| user.client);
            check_reference(key("route.user"), user, "user", owner, extension.client, mistakes);
        }
    }

    fn index_user(&mut self, user: &User, mistakes: &mut Vec<Mistake>) {
        let key = |field: &str| format!("users[{}].{field}", user.id);
        if self.client(user.client).is_none() {
            mistakes.push(dangling(key("client"), user.client, "client"));
        }
        check_name(key("first_name"), &user.first_name, mistakes);
        if !user.last_name.is_empty() {
            check_name(key("last_name"), &user.last_name, mistakes);
        }
        if let Some(extension) = user.extension {
            let owner = self.extension_by_id(extension).map(|extension| extension.client);
            check_reference(key("extension"), extension, "extension", owner, user.client, mistakes);
        }
        if let Some(terminal) = user.terminal {
            let owner = self.terminal(terminal).map(|terminal| terminal.client);
            check_reference(key("terminal"), terminal, "terminal", owner, user.client, mistakes);
            match self.user_by_terminal.entry(terminal) {
                Entry::Vacant(place) => {
                    place.insert(user.id);
                }
                Entry::Occupied(other) => mistakes.push(Mistake {
                    key: key("terminal"),
                    value: terminal.to_string(),
                    remedy: format!(
                        "users[{}] has this terminal already; give each user its own",
                        other.get()
                    ),
                }),
            }
        }
        if !(1..=RING_TIMEOUT_MAX_SECS).contains(&user.ring_timeout_secs) {
            mistakes.push(Mistake {
                key: key("ring_timeout_secs"),
                value: user.ring_timeout_secs.to_string(),
                remedy: format!("let it ring 1 to {RING_TIMEOUT_MAX_SECS} seconds"),
            });
        }
    }
}

/// Rows sorted by id.
#[derive(Debug)]
struct Table<T> {
    rows: Vec<T>,
}

impl<T: Clone> Table<T> {
    fn build(kind: &str, rows: &[T], id: impl Fn(&T) -> Id<T>, mistakes: &mut Vec<Mistake>) -> Self {
        let mut sorted = BTreeMap::new();
        for row in rows {
            if sorted.insert(id(row), row).is_some() {
                mistakes.push(Mistake {
                    key: format!("{kind}[{}].id", id(row)),
                    value: id(row).to_string(),
                    remedy: format!("give each of the {kind} an id of its own"),
                });
            }
        }
        Self { rows: sorted.into_values().cloned().collect() }
    }

    fn get(&self, wanted: Id<T>, id: impl Fn(&T) -> Id<T>) -> Option<&T> {
        self.rows.binary_search_by_key(&wanted, id).ok().and_then(|at| self.rows.get(at))
    }
}

/// Enters a name in an index; when another entity has it already the index stays and `taken` gets that one's id.
fn note<K>(index: &mut HashMap<String, Id<K>>, name: &str, id: Id<K>, taken: impl FnOnce(Id<K>)) {
    match index.get(name) {
        Some(&other) => taken(other),
        None => {
            index.insert(name.to_owned(), id);
        }
    }
}

/// `owner` is the client of the entity referred to, `None` when there is no such entity.
fn check_reference<K>(
    key: String,
    id: Id<K>,
    kind: &str,
    owner: Option<Id<Client>>,
    client: Id<Client>,
    mistakes: &mut Vec<Mistake>,
) {
    match owner {
        None => mistakes.push(dangling(key, id, kind)),
        Some(owner) if owner != client => mistakes.push(Mistake {
            key,
            value: id.to_string(),
            remedy: format!("this {kind} belongs to clients[{owner}]; name one of clients[{client}]"),
        }),
        Some(_) => {}
    }
}

fn dangling<K>(key: String, id: Id<K>, kind: &str) -> Mistake {
    Mistake {
        key,
        value: id.to_string(),
        remedy: format!("there is no such {kind}; make it, or name another one"),
    }
}

fn check_name(key: String, name: &str, mistakes: &mut Vec<Mistake>) {
    if name.trim().is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        mistakes.push(Mistake {
            key,
            value: name.to_owned(),
            remedy: format!("set a name of 1 to {NAME_MAX} bytes without control characters"),
        });
    }
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= DOMAIN_MAX && text.split('.').all(label)
}

/// Characters that stand in a user part and in a quoted user name without escapes (RFC 3261 section 25.1).
fn is_terminal_name(text: &str) -> bool {
    (1..=TERMINAL_NAME_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{ExtensionNumber, Secret};

    fn demo() -> Snapshot {
        Snapshot::build(&Configuration::demo()).unwrap()
    }

    /// The mistakes of the demo after a change, as `key = value` lines.
    fn mistakes(change: impl FnOnce(&mut Configuration)) -> Vec<String> {
        let mut configuration = Configuration::demo();
        change(&mut configuration);
        let found = Snapshot::build(&configuration).map(drop).err().unwrap_or_default();
        assert!(found.iter().all(|mistake| !mistake.remedy.is_empty()));
        found.into_iter().map(|mistake| format!("{} = {}", mistake.key, mistake.value)).collect()
    }

    fn wrong_number(text: &str) -> ExtensionNumber {
        serde_json::from_value(serde_json::Value::from(text)).unwrap()
    }

    #[test]
    fn alice_is_found_by_domain_and_name() {
        let snapshot = demo();
        let client = snapshot.client_by_domain("Users.DemoClient.COM").unwrap();
        let alice = snapshot.endpoint(client.id, "alice").unwrap();
        assert_eq!(alice.user.unwrap().display_name(), "Alice Allison");
        assert_eq!(alice.terminal.secret.reveal(), "alice");
        assert!(snapshot.endpoint(client.id, "Alice").is_none());
        assert!(snapshot.endpoint(Id::new(2), "alice").is_none());
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
        assert_eq!(extension.route, ExtensionRoute::User(Id::new(2)));
        assert_eq!(snapshot.user(Id::new(2)).unwrap().first_name, "Bob");
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

    #[test]
    fn all_mistakes_are_listed_at_once() {
        let found = mistakes(|c| {
            c.brands.push(c.brands[0].clone());
            c.clients.push(Client {
                id: Id::new(2),
                brand: Id::new(7),
                name: "\n".into(),
                domain: c.clients[0].domain.clone(),
            });
            c.terminals[0].secret = Secret::new("");
            c.terminals[1].name = "alice".into();
            c.terminals.push(Terminal {
                id: Id::new(3),
                client: Id::new(8),
                name: "al ice".into(),
                secret: Secret::new("x"),
            });
            c.extensions[0].number = wrong_number("1o1");
            c.extensions.push(Extension {
                id: Id::new(3),
                route: ExtensionRoute::User(Id::new(33)),
                ..c.extensions[1].clone()
            });
            c.users[0].terminal = Some(Id::new(44));
            c.users[1].extension = Some(Id::new(55));
            c.users[1].ring_timeout_secs = 0;
        });
        assert_eq!(
            found,
            [
                "brands[1].id = 1",
                "clients[2].name = \n",
                "clients[2].brand = 7",
                "clients[2].domain = users.democlient.com",
                "terminals[1].secret = ",
                "terminals[2].name = alice",
                "terminals[3].client = 8",
                "terminals[3].name = al ice",
                "extensions[1].number = 1o1",
                "extensions[3].number = 102",
                "extensions[3].route.user = 33",
                "users[1].terminal = 44",
                "users[2].extension = 55",
                "users[2].ring_timeout_secs = 0",
            ]
        );
    }

    #[test]
    fn names_may_repeat_in_another_client() {
        let found = mistakes(|c| {
            c.clients.push(Client {
                id: Id::new(2),
                brand: Id::new(1),
                name: "Other".into(),
                domain: "other.example.com".into(),
            });
            c.terminals.push(Terminal { id: Id::new(3), client: Id::new(2), ..c.terminals[0].clone() });
            c.extensions.push(Extension {
                id: Id::new(3),
                client: Id::new(2),
                route: ExtensionRoute::Unassigned,
                ..c.extensions[0].clone()
            });
        });
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn a_reference_stays_within_the_client() {
        let found = mistakes(|c| {
            c.clients.push(Client {
                id: Id::new(2),
                brand: Id::new(1),
                name: "Other".into(),
                domain: "other.example.com".into(),
            });
            c.users[0].client = Id::new(2);
        });
        assert_eq!(
            found,
            ["extensions[1].route.user = 1", "users[1].extension = 1", "users[1].terminal = 1"]
        );
    }

    #[test]
    fn two_users_do_not_share_a_terminal() {
        assert_eq!(mistakes(|c| c.users[1].terminal = Some(Id::new(1))), ["users[2].terminal = 1"]);
    }

    #[test]
    fn domains_are_host_names_in_lower_case() {
        for right in ["a", "10.0.0.1", "x-1.example.com"] {
            assert_eq!(mistakes(|c| c.clients[0].domain = right.into()), [""; 0], "{right}");
        }
        for wrong in [
            "Users.example.com",
            "users.example.com.",
            "a b",
            "-a.example",
            "a..b",
            "exämple.com",
            &"a.".repeat(200),
        ] {
            assert_eq!(mistakes(|c| c.clients[0].domain = wrong.into()).len(), 1, "{wrong}");
        }
    }

    #[test]
    fn a_mistake_names_key_value_and_remedy_and_no_password() {
        let mut configuration = Configuration::demo();
        configuration.terminals[0].secret = Secret::new("bad\u{7}pass");
        let text = Snapshot::build(&configuration).unwrap_err()[0].to_string();
        assert!(text.starts_with("terminals[1].secret = ") && text.contains("set a password"), "{text}");
        assert!(!text.contains("pass\"") && !text.contains("bad"), "{text}");
    }
}
