//! Who may ask at all: grants of restricted administrators, features of brands and clients, types of clients.

use crate::facts::{Endpoint, Plain, endpoints, listed};
use crate::world::{ACCOUNTS, Account, Ask, RESTRICTED, Server, run, sample};
use model::define::{Entity, Level, Table};
use model::entities::{
    Administrator, AdministratorRelPublicEntity, Company, FeaturesRelBrand, FeaturesRelCompany, PublicEntity,
};
use model::id::Id;
use model::rows::Rows;
use serde_json::{Value as Json, json};
use std::sync::Arc;

/// Whether the account is refused at the door. What it asks for is not there, so that nothing else is done.
async fn denied(server: &Server, account: &Account, endpoint: &Endpoint) -> bool {
    let path = endpoint.path.replace("{id}", "987654321").replace("{callid}", "unknown");
    let ask = Ask::of(account, &endpoint.method, &path);
    let ask = if endpoint.method == "GET" { ask } else { ask.body("application/json", "no JSON") };
    let answer = server.send(ask).await;
    answer.status == 403 && answer.json()["detail"] == "Access Denied."
}

/// Endpoints that are answered and need a token.
fn answered() -> impl Iterator<Item = &'static Endpoint> {
    let not_yet = listed(include_str!("not_yet.txt"));
    endpoints().iter().filter(move |endpoint| {
        let served = !endpoint.dead() && !endpoint.router_only() && !not_yet.contains(&endpoint.name());
        served && endpoint.needs_token()
    })
}

/// Where the facts ask for less than the server: what these do is done to rows that take a grant, a feature or a type of client
/// everywhere else.
const STRICTER: [&str; 5] = [
    "brand DELETE /banned_addresses/antibruteforce/{id}.{_format}",
    "brand POST /billable_calls/rerate",
    "client POST /extensions/mass_import",
    "client POST /holiday_dates/mass_import",
    "client GET /rating_plan_groups/{id}/prices",
];

fn without<E: Entity>(rows: &Rows) -> Rows {
    let mut left = rows.clone();
    rows.each::<E>().for_each(|row| left.remove(E::definition(), row.id()));
    left
}

/// Entities are as they are for a client of this type: the restricted administrator of the sample belongs to one.
fn of_type(rows: &Rows, kind: &str) -> Rows {
    let company = match kind {
        "residential" => 4,
        "retail" => 3,
        "wholesale" => 5,
        _ => return rows.clone(),
    };
    let mut moved = rows.clone();
    let admin = rows.each::<Administrator>().find(|admin| admin.username == RESTRICTED[2].name);
    let admin = admin.expect("the sample has one").clone();
    moved.insert(Arc::new(Administrator { company: Some(Id::new(company)), ..admin }));
    moved
}

/// The type of client that an endpoint is for first.
fn first_type(endpoint: &Endpoint) -> &str {
    endpoint.auth("companyTypes")[0].as_str().unwrap_or("vpbx")
}

fn restricted(level: Level) -> Option<&'static Account> {
    RESTRICTED.iter().find(|account| account.level == level)
}

/// The rows with one grant for a restricted administrator.
fn granted(rows: &Rows, account: &Account, table: &Table, flags: [bool; 4]) -> Rows {
    let admin = rows.each::<Administrator>().find(|admin| admin.username == account.name);
    let admin = admin.expect("the sample has one").id;
    let last = |kind: &&PublicEntity| {
        kind.fqdn.as_deref().is_some_and(|name| name.rsplit('\\').next() == Some(table.name))
    };
    let mut with = rows.clone();
    let known = rows.each::<PublicEntity>().find(last).map(|kind| kind.id);
    let kind = known.unwrap_or_else(|| {
        // The sample does not name all entities that take a grant.
        let fqdn = Some(format!("Model\\{}\\Model\\{}", table.space(), table.name));
        let (id, iden) = (Id::new(900_000), table.name.to_owned());
        with.insert(Arc::new(PublicEntity { id, iden, fqdn, ..PublicEntity::default() }));
        id
    });
    let [create, read, update, delete] = flags;
    with.insert(Arc::new(AdministratorRelPublicEntity {
        id: Id::new(900_000),
        administrator: admin,
        public_entity: kind,
        create,
        read,
        update,
        delete,
    }));
    with
}

#[test]
fn without_grants_a_restricted_administrator_may_nothing_that_takes_one() {
    let rows = without::<AdministratorRelPublicEntity>(&sample());
    let mut wrong = Vec::new();
    run(async {
        let server = Server::over(rows.clone());
        for endpoint in answered() {
            let Some(account) = restricted(endpoint.level) else { continue };
            server.live.replace(of_type(&rows, first_type(endpoint))).await;
            let expected = endpoint.auth("acl") == true;
            let expected = expected || STRICTER.contains(&endpoint.name().as_str());
            if denied(&server, account, endpoint).await != expected {
                wrong.push(format!("{} is denied: {}", endpoint.name(), !expected));
            }
        }
    });
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_grant_opens_its_method_and_no_other() {
    let rows = without::<AdministratorRelPublicEntity>(&sample());
    let mut wrong = Vec::new();
    let deed = |plain: Plain| match plain {
        Plain::Create => 0,
        Plain::List | Plain::Get => 1,
        Plain::Change => 2,
        Plain::Delete => 3,
    };
    run(async {
        let server = Server::over(rows.clone());
        let plain = |endpoint: &&Endpoint| endpoint.plain().is_some() && endpoint.auth("acl") == true;
        for endpoint in answered().filter(plain) {
            let (Some(account), Some(table), Some(what)) =
                (restricted(endpoint.level), endpoint.entity, endpoint.plain())
            else {
                continue;
            };
            let rows = of_type(&rows, first_type(endpoint));
            for granted_deed in 0..4 {
                let mut flags = [false; 4];
                flags[granted_deed] = true;
                server.live.replace(granted(&rows, account, table, flags)).await;
                let open = !denied(&server, account, endpoint).await;
                if open != (granted_deed == deed(what)) {
                    wrong.push(format!("{} with {flags:?}: open is {open}", endpoint.name()));
                }
            }
        }
        // A grant for one entity is none for another.
        let tables: Vec<&Table> = ["Carrier", "User", "Brand"].map(table).to_vec();
        for (account, table) in RESTRICTED.iter().rev().zip([tables[1], tables[0], tables[2]]) {
            server.live.replace(granted(&rows, account, table, [true; 4])).await;
            let others = answered().filter(|endpoint| {
                let other = endpoint.entity.is_some_and(|known| known.index != table.index);
                other && plain(endpoint) && endpoint.level == account.level && first_type(endpoint) == "vpbx"
            });
            for endpoint in others {
                if !denied(&server, account, endpoint).await {
                    wrong.push(format!("{} is open by a grant for {}", endpoint.name(), table.name));
                }
            }
        }
    });
    assert_eq!(wrong, Vec::<String>::new());
}

fn table(name: &str) -> &'static Table {
    model::entities::table(name).expect("the entity is there")
}

#[test]
fn types_of_clients_features_and_flags_open_what_the_facts_say() {
    let rows = sample();
    let bare_clients = without::<FeaturesRelCompany>(&rows);
    let bare_brands = without::<FeaturesRelBrand>(&rows);
    let mut blind = rows.clone();
    for company in rows.each::<Company>() {
        blind.insert(Arc::new(Company { show_invoices: Some(false), ..company.clone() }));
    }
    let mut featured = rows.clone();
    // Every client has every feature and sees its invoices: what is left is its type.
    let mut id = 800_000;
    for company in rows.each::<Company>() {
        featured.insert(Arc::new(Company { show_invoices: Some(true), ..company.clone() }));
        for feature in rows.each::<model::entities::Feature>() {
            id += 1;
            let pair = FeaturesRelCompany { id: Id::new(id), company: company.id, feature: feature.id };
            featured.insert(Arc::new(pair));
        }
    }
    let mut wrong = Vec::new();
    run(async {
        let server = Server::new();
        for endpoint in answered() {
            for account in ACCOUNTS.iter().filter(|account| account.level == endpoint.level) {
                let types = endpoint.auth("companyTypes").as_array();
                let right_type = types.is_none_or(|types| types.contains(&json!(account.kind)));
                let gated = |name: &str| *endpoint.auth(name) != Json::Null;
                let states = [
                    ("all", &featured, right_type),
                    ("no client's feature", &bare_clients, right_type && !gated("companyFeature")),
                    ("no brand's feature", &bare_brands, right_type && !gated("brandFeature")),
                    ("no invoices", &blind, right_type && !gated("companyFlag")),
                ];
                for (what, state, open) in states {
                    // The sample's other clients have no features, and see no invoices.
                    let other = what != "all" && account.level == Level::Client && account.kind != "vpbx";
                    if other && (gated("companyFeature") || gated("companyFlag")) {
                        continue;
                    }
                    server.live.replace(state.clone()).await;
                    let denied = denied(&server, account, endpoint).await;
                    if denied == open && !(open && STRICTER.contains(&endpoint.name().as_str())) {
                        wrong.push(format!(
                            "{} by {} with {what}: open is {}",
                            endpoint.name(),
                            account.name,
                            !open
                        ));
                    }
                }
            }
        }
    });
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn prices_are_neither_shown_nor_found_nor_sorted_by_where_invoices_are_not_seen() {
    let mut rows = sample();
    let own = rows.get(Id::<Company>::new(1)).expect("the client").clone();
    rows.insert(Arc::new(Company { show_invoices: Some(false), ..own }));
    run(async {
        let server = Server::over(rows);
        let ask =
            |query: &str| Ask::of(&ACCOUNTS[2], "GET", &format!("/billable_calls?_itemsPerPage=5000{query}"));
        let shown = |answer: crate::world::Answer| answer.json().as_array().cloned().expect("a list");
        let all = shown(server.send(ask("")).await);
        assert!(!all.is_empty() && all.iter().all(|call| call["price"].is_null()));
        for found in ["&price[gte]=0", "&price[neq]=5", "&price[between]=0..1000", "&exists[price]=true"] {
            assert_eq!(shown(server.send(ask(found)).await), Vec::<Json>::new(), "{found}");
        }
        assert_eq!(shown(server.send(ask("&price[exists]=false")).await).len(), all.len());
        assert_eq!(shown(server.send(ask("&_order[price]=ASC&_order[id]=ASC")).await), {
            shown(server.send(ask("&_order[id]=ASC")).await)
        });
    });
}

#[test]
fn nothing_that_is_masked_can_be_found_by_its_value() {
    for table in model::entities::TABLES.iter() {
        for field in table.fields.iter().filter(|field| field.masked) {
            let listed: Vec<_> = Level::ALL.into_iter().filter(|level| field.view(*level).list).collect();
            assert_eq!(listed, [], "{}.{}", table.name, field.name);
        }
    }
}

#[test]
fn a_restricted_administrator_acts_for_others_only_if_allowed() {
    let rows = sample();
    run(async {
        let server = Server::new();
        let exchange = |account: &Account, level: Level, form: &str| {
            let form = format!("token={}&{form}", crate::world::token(account));
            Ask::new("POST", level, "/token/exchange").body("application/x-www-form-urlencoded", form)
        };
        let cases = [
            (&RESTRICTED[0], Level::Brand, "username=test_brand_admin"),
            (&RESTRICTED[1], Level::Client, "username=test_company_admin"),
            (&RESTRICTED[2], Level::User, "username=alice%40democompany.com"),
        ];
        for (account, level, form) in cases {
            let refused = server.send(exchange(account, level, form)).await;
            assert_eq!(refused.status, 401, "{}: {}", account.name, refused.text());
            let admin = rows.each::<Administrator>().find(|admin| admin.username == account.name);
            let admin = admin.expect("the sample has one").clone();
            let mut trusted = rows.clone();
            trusted.insert(Arc::new(Administrator { can_impersonate: true, ..admin }));
            server.live.replace(trusted).await;
            let token = server.send(exchange(account, level, form)).await.json()["token"].clone();
            let token = token.as_str().expect("a token");
            let list = if level == Level::User { "/my/active_calls" } else { "/countries" };
            let answer = server.send(Ask::new("GET", level, list).with_token(token)).await;
            assert!(answer.status != 401 && answer.status != 403, "{}: {}", account.name, answer.text());
            // The lower account's token does not go back up.
            let above = Ask::new("GET", account.level, "/countries").with_token(token);
            assert_eq!(server.send(above).await.status, 403);
            server.live.replace(rows.clone()).await;
        }
    });
}
