//! The rules of a small configuration: every mistake in it, each with key, value and remedy.
//!
//! In: a [`Configuration`]. Out: its mistakes. Elsewhere: its rows ([`crate::configuration`]), routing by them
//! ([`crate::snapshot`]).

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

/// What has been looked at, by id and by name.
struct Index {
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

/// All mistakes of a configuration, in its order.
pub(crate) fn mistakes(configuration: &Configuration) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let index = Index {
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
    index.check(configuration, &mut mistakes);
    mistakes
}

impl Index {
    /// A brand.
    fn brand(&self, id: Id<Brand>) -> Option<&Brand> {
        self.brands.get(id, |x| x.id)
    }

    /// A client.
    fn client(&self, id: Id<Client>) -> Option<&Client> {
        self.clients.get(id, |x| x.id)
    }

    /// A terminal.
    fn terminal(&self, id: Id<Terminal>) -> Option<&Terminal> {
        self.terminals.get(id, |x| x.id)
    }

    /// A user.
    fn user(&self, id: Id<User>) -> Option<&User> {
        self.users.get(id, |x| x.id)
    }

    /// An extension.
    fn extension_by_id(&self, id: Id<Extension>) -> Option<&Extension> {
        self.extensions.get(id, |x| x.id)
    }

    /// Checks every entity and fills the indexes. The entities come in the configuration's order, duplicates included.
    fn check(mut self, configuration: &Configuration, mistakes: &mut Vec<Mistake>) {
        let first_client = self.clients.rows.first().map(|client| client.id);
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
    }
}

/// Rows sorted by id.
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

    /// The mistakes of the demo after a change, as `key = value` lines.
    fn mistakes(change: impl FnOnce(&mut Configuration)) -> Vec<String> {
        let mut configuration = Configuration::demo();
        change(&mut configuration);
        let found = super::mistakes(&configuration);
        assert!(found.iter().all(|mistake| !mistake.remedy.is_empty()));
        found.into_iter().map(|mistake| format!("{} = {}", mistake.key, mistake.value)).collect()
    }

    fn wrong_number(text: &str) -> ExtensionNumber {
        serde_json::from_value(serde_json::Value::from(text)).unwrap()
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
        let text = super::mistakes(&configuration)[0].to_string();
        assert!(text.starts_with("terminals[1].secret = ") && text.contains("set a password"), "{text}");
        assert!(!text.contains("pass\"") && !text.contains("bad"), "{text}");
    }
}
