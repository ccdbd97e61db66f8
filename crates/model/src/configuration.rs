//! A small configuration as one document, and the demo's: what a users' file holds.
//!
//! Out: its rows. Elsewhere: its rules (`configuration_check`), all entities ([`crate::entities`]).

use crate::configuration_check::{self, Mistake};
use crate::entities;
use crate::entity::{Brand, Client, Extension, ExtensionRoute, RejectionMethod, Secret, Terminal, User};
use crate::id::Id;
use crate::rows::Rows;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A configuration as written, not yet checked: [`Configuration::check`] does it.
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
    /// Domains of a small configuration get ids from here on, above those of a platform's own.
    pub const DOMAINS_FROM: u32 = 1_000_000;

    /// Every mistake, in the configuration's order.
    pub fn check(&self) -> Vec<Mistake> {
        configuration_check::mistakes(self)
    }

    /// Its rows, put onto these: each with the id that it has here, in place of the row that has it there.
    pub fn rows(&self, onto: &Rows) -> Rows {
        let mut rows = onto.clone();
        for brand in &self.brands {
            let kept = rows.get::<entities::Brand>(Id::new(brand.id.get())).cloned().unwrap_or_else(|| {
                entities::Brand {
                    default_timezone: rows
                        .each()
                        .next()
                        .map_or(Id::new(0), |zone: &entities::Timezone| zone.id),
                    language: rows
                        .each()
                        .next()
                        .map_or(Id::new(0), |language: &entities::Language| language.id),
                    currency: rows
                        .each()
                        .next()
                        .map_or(Id::new(0), |currency: &entities::Currency| currency.id),
                    ..entities::Brand::default()
                }
            });
            rows.insert(Arc::new(entities::Brand {
                id: Id::new(brand.id.get()),
                name: brand.name.clone(),
                ..kept
            }));
        }
        for client in &self.clients {
            let domain = Id::new(Self::DOMAINS_FROM + client.id.get());
            rows.insert(Arc::new(entities::Domain {
                id: domain,
                domain: client.domain.clone(),
                ..entities::Domain::default()
            }));
            let kept =
                rows.get::<entities::Company>(Id::new(client.id.get())).cloned().unwrap_or_else(|| {
                    entities::Company {
                        country: rows
                            .each()
                            .next()
                            .map_or(Id::new(0), |country: &entities::Country| country.id),
                        ..entities::Company::default()
                    }
                });
            rows.insert(Arc::new(entities::Company {
                id: Id::new(client.id.get()),
                brand: Id::new(client.brand.get()),
                name: client.name.clone(),
                kind: entities::CompanyKind::Vpbx,
                domain_users: Some(client.domain.clone()),
                domain: Some(domain),
                ..kept
            }));
        }
        for terminal in &self.terminals {
            let kept =
                rows.get::<entities::Terminal>(Id::new(terminal.id.get())).cloned().unwrap_or_default();
            rows.insert(Arc::new(entities::Terminal {
                id: Id::new(terminal.id.get()),
                company: Id::new(terminal.client.get()),
                domain: Some(Id::new(Self::DOMAINS_FROM + terminal.client.get())),
                name: terminal.name.clone(),
                password: crate::define::Secret::new(terminal.secret.reveal()),
                ..kept
            }));
        }
        for user in &self.users {
            let kept = rows.get::<entities::User>(Id::new(user.id.get())).cloned().unwrap_or_default();
            rows.insert(Arc::new(entities::User {
                id: Id::new(user.id.get()),
                company: Id::new(user.client.get()),
                name: user.first_name.clone(),
                lastname: user.last_name.clone(),
                terminal: user.terminal.map(|terminal| Id::new(terminal.get())),
                extension: user.extension.map(|extension| Id::new(extension.get())),
                do_not_disturb: user.do_not_disturb,
                max_calls: user.call_waiting,
                multi_contact: user.multi_contact,
                reject_call_method: match user.rejection {
                    RejectionMethod::ByResponse => entities::UserRejectCallMethod::Rfc,
                    RejectionMethod::ThisDevice => entities::UserRejectCallMethod::OneDevice,
                    RejectionMethod::AllDevices => entities::UserRejectCallMethod::AllDevices,
                },
                ..kept
            }));
        }
        for extension in &self.extensions {
            let kept =
                rows.get::<entities::Extension>(Id::new(extension.id.get())).cloned().unwrap_or_default();
            let user = match extension.route {
                ExtensionRoute::User(user) => Some(Id::new(user.get())),
                ExtensionRoute::Unassigned => None,
            };
            rows.insert(Arc::new(entities::Extension {
                id: Id::new(extension.id.get()),
                company: Id::new(extension.client.get()),
                number: extension.number.to_string(),
                route_type: user.map(|_| entities::ExtensionRouteType::User),
                user,
                ..kept
            }));
        }
        rows
    }

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
