//! Everything an operator configured, as one document, and the demo's document.
//!
//! Elsewhere: checking and indexing it ([`crate::snapshot`]), keeping it (crate `store`).

use crate::entity::{Brand, Client, Extension, ExtensionRoute, RejectionMethod, Secret, Terminal, User};
use crate::id::Id;
use serde::{Deserialize, Serialize};

/// The whole configuration as written, not yet checked: [`crate::Snapshot::build`] checks it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// All brands.
    pub brands: Vec<Brand>,
    /// All clients of all brands.
    pub clients: Vec<Client>,
    /// All terminals of all clients.
    pub terminals: Vec<Terminal>,
    /// All users of all clients.
    pub users: Vec<User>,
    /// All extensions of all clients.
    pub extensions: Vec<Extension>,
}

impl Configuration {
    /// What a fresh installation has (manual, "Making internal calls"): Alice and Bob of DemoCompany, whose passwords are
    /// their names. Never let it face a network.
    pub fn demo() -> Self {
        let client = Id::new(1);
        let user = |id: u32, first_name: &str, last_name: &str| User {
            id: Id::new(id),
            client,
            first_name: first_name.to_owned(),
            last_name: last_name.to_owned(),
            terminal: Some(Id::new(id)),
            extension: Some(Id::new(id)),
            do_not_disturb: false,
            call_waiting: 0,
            multi_contact: true,
            rejection: RejectionMethod::ByResponse,
            ring_timeout_secs: 30,
        };
        let terminal = |id: u32, name: &str| Terminal {
            id: Id::new(id),
            client,
            name: name.to_owned(),
            secret: Secret::new(name),
        };
        let extension = |id: u32, number: &str| Extension {
            id: Id::new(id),
            client,
            number: number.parse().expect("the demo's numbers are right"),
            route: ExtensionRoute::User(Id::new(id)),
        };
        Self {
            brands: vec![Brand { id: Id::new(1), name: "DemoBrand".to_owned() }],
            clients: vec![Client {
                id: client,
                brand: Id::new(1),
                name: "DemoCompany".to_owned(),
                domain: "users.democlient.com".to_owned(),
            }],
            terminals: vec![terminal(1, "alice"), terminal(2, "bob")],
            users: vec![user(1, "Alice", "Allison"), user(2, "Bob", "Bobson")],
            extensions: vec![extension(1, "101"), extension(2, "102")],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_survives_its_text_form() {
        let text = serde_json::to_string(&Configuration::demo()).unwrap();
        assert_eq!(serde_json::from_str::<Configuration>(&text).unwrap(), Configuration::demo());
    }
}
