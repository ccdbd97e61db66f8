//! Route locks: switches that conditional routes look at.
//!
//! Manual: "Client configuration", route locks.

use crate::checks::{client_of_type, name_is_there};
use crate::prelude::*;

/// A switch for routes: conditions of conditional routes that name it are met while it is open. Users turn it
/// by dialling service codes.
#[derive(Clone, Debug, Entity)]
#[entity(path = "route_locks", access = ACCESS, computed = COMPUTED, rules)]
pub struct RouteLock {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<RouteLock>,
    /// What it is called in lists.
    #[field(max = 50, client = "ldw")]
    pub name: String,
    /// Notes for administrators.
    #[field(max = 100, default = "", client = "ldw")]
    pub description: String,
    /// Whether the lock is open now: calls may take the routes that it guards.
    #[field(default = true, client = "ldw")]
    pub open: bool,
    /// The client that it belongs to.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["name"])
    .company_types(&[CompanyType::Vpbx])
    .read(&[Rule::OwnCompany("company")])];

const COMPUTED: &[Computed] = &[
    Computed::new(
        "toggleExtension",
        "What to dial to turn the lock from open to closed or back. Empty: the client has no such service.",
        How::Derived(toggle_extension),
    )
    .at(Level::Client, "ldn"),
    Computed::new(
        "closeExtension",
        "What to dial to close the lock. Empty: the client has no such service.",
        How::Derived(close_extension),
    )
    .at(Level::Client, "ldn"),
    Computed::new(
        "openExtension",
        "What to dial to open the lock. Empty: the client has no such service.",
        How::Derived(open_extension),
    )
    .at(Level::Client, "ldn"),
];

/// The code that turns it.
fn toggle_extension(row: &dyn Record, rows: &Rows) -> Json {
    service_extension(row, rows, "ToggleLock")
}

/// The code that closes it.
fn close_extension(row: &dyn Record, rows: &Rows) -> Json {
    service_extension(row, rows, "CloseLock")
}

/// The code that opens it.
fn open_extension(row: &dyn Record, rows: &Rows) -> Json {
    service_extension(row, rows, "OpenLock")
}

/// An asterisk, the client's code for the service, and the lock's number; empty without such a service.
fn service_extension(row: &dyn Record, rows: &Rows, iden: &str) -> Json {
    let client = row.reference("company").unwrap_or_default();
    let is_wanted = |service: &&CompanyService| {
        rows.get(service.service).is_some_and(|service| {
            let service: &dyn Record = service;
            service.named("iden").text() == Some(iden)
        })
    };
    let service = rows.of::<CompanyService>("company", client).find(is_wanted);
    Json::String(service.map_or_else(String::new, |service| format!("*{}{}", service.code, row.id())))
}

impl Rules for RouteLock {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        name_is_there(self, old, check);
        client_of_type(old, self.company, &[CompanyType::Vpbx], check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;
    use crate::testing::sample;

    fn codes(rows: &Rows) -> Vec<Json> {
        let lock = rows.get(Id::<RouteLock>::new(2)).unwrap();
        [open_extension, close_extension, toggle_extension].map(|code| code(lock, rows)).to_vec()
    }

    #[test]
    fn a_lock_is_turned_by_its_number_after_the_clients_code() {
        assert_eq!(codes(&sample()), ["", "", ""]);
        let service = |company, code: &str| CompanyService {
            company: Id::new(company),
            service: Id::new(5),
            code: code.to_owned(),
            ..CompanyService::default()
        };
        let made = change(|draft| {
            for (id, row) in [(90, service(2, "71")), (91, service(1, "70"))] {
                draft.put(Box::new(CompanyService { id: Id::new(id), ..row }))?;
            }
            Ok(())
        });
        assert_eq!(codes(&made.unwrap().1), ["", "*702", ""]);
    }

    #[test]
    fn only_vpbx_clients_have_locks() {
        let made = |company| {
            let lock =
                RouteLock { company: Id::new(company), name: "night".to_owned(), ..RouteLock::default() };
            change(|draft| draft.create(lock)).map(|_| ())
        };
        assert_eq!(made(2), Ok(()));
        assert!(matches!(made(5), Err(Refusal::Invalid(_))));
    }
}
