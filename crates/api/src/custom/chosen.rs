//! Rows that are free to be chosen: terminals without a user, services without a code, users outside of a hunt group.
//!
//! In: `_includeId` and its like, which name a row that is chosen already. Out: all rows on one page, as lists show
//! them. Elsewhere: filters and order (`list`), how a row looks (`show`).

use super::{BRAND, CLIENT, Gate, Operation, USER};
use crate::http::{Format, Problem};
use crate::list::{self, Page};
use crate::routes::{self, Call, Deed};
use crate::show::{Look, Place};
use axum::body::Body;
use axum::http::{Method, Response};
use model::Id;
use model::define::{Entity, Level};
use model::entities::{
    BrandService, Company, CompanyKind, CompanyService, Extension, ExtensionRouteType, Friend, HuntGroup,
    HuntGroupMember, Service, Terminal, User, Voicemail,
};
use model::rows::{Row, Rows};
use serde_json::{Map, Value as Json};
use std::collections::{HashMap, HashSet};

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::GET,
        path: "services/unassigned",
        levels: &[BRAND, CLIENT],
        gate: Gate::Entity("Service", Deed::Read),
        run: |call, _| Box::pin(services(call)),
    },
    Operation {
        method: Method::GET,
        path: "terminals/unassigned",
        levels: &[CLIENT],
        gate: Gate::Entity("Terminal", Deed::Read),
        run: |call, _| Box::pin(terminals(call)),
    },
    Operation {
        method: Method::GET,
        path: "extensions/unassigned",
        levels: &[CLIENT],
        gate: Gate::Entity("Extension", Deed::Read),
        run: |call, _| Box::pin(extensions(call)),
    },
    Operation {
        method: Method::GET,
        path: "companies/corporate/unassigned",
        levels: &[BRAND, CLIENT],
        gate: Gate::Entity("Company", Deed::Read),
        run: |call, _| Box::pin(std::future::ready(companies(call))),
    },
    Operation {
        method: Method::GET,
        path: "hunt_groups/{}/users_available",
        levels: &[CLIENT],
        gate: Gate::Entity("User", Deed::Read),
        run: |call, open| Box::pin(users(call, open)),
    },
    Operation {
        method: Method::GET,
        path: "users/detailed",
        levels: &[CLIENT],
        gate: Gate::Entity("User", Deed::Read),
        run: |call, _| Box::pin(std::future::ready(users_detailed(call))),
    },
    Operation {
        method: Method::GET,
        path: "voicemails",
        levels: &[USER],
        gate: Gate::Entity("Voicemail", Deed::Read),
        run: |call, _| Box::pin(voicemails(call)),
    },
];

/// The id that a parameter names.
fn named(call: &Call, name: &str) -> Result<Option<u32>, Problem> {
    match call.ask.query.get(name).map(str::trim).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => {
            text.parse().map(Some).map_err(|_| Problem::bad(format!("{name}: write the id of a row")))
        }
    }
}

/// A page of those of the caller's rows that are free, or are the one that `_includeId` names.
fn free_page<E: Entity>(call: &Call, is_free: impl Fn(&E) -> bool) -> Result<Page, Problem> {
    let (table, access) = routes::of::<E>(call.level())?;
    let also = named(call, "_includeId")?;
    let found = call.caller().visible(table, access, &call.rows);
    let found = found.filter(|row| also == Some(row.id()) || row.cast::<E>().is_some_and(&is_free));
    list::all_of(table, access, call.caller(), &call.rows, &call.ask.query, found)
}

/// [`free_page`] as an answer.
async fn free<E: Entity>(call: &Call, is_free: impl Fn(&E) -> bool) -> Result<Response<Body>, Problem> {
    let (table, access) = routes::of::<E>(call.level())?;
    let page = free_page(call, is_free)?;
    routes::list_answer(call, table, access, &page).await
}

async fn services(call: &Call) -> Result<Response<Body>, Problem> {
    let rows = &call.rows;
    let taken: HashSet<Id<Service>> = match call.level() {
        Level::Brand => {
            let brand = call.caller().brand.unwrap_or(0);
            rows.of::<BrandService>("brand", brand).map(|known| known.service).collect()
        }
        _ => {
            let company = call.caller().company.unwrap_or(0);
            rows.of::<CompanyService>("company", company).map(|known| known.service).collect()
        }
    };
    free::<Service>(call, |service| !taken.contains(&service.id)).await
}

async fn terminals(call: &Call) -> Result<Response<Body>, Problem> {
    let company = call.caller().company.unwrap_or(0);
    let taken: HashSet<Id<Terminal>> =
        call.rows.of::<User>("company", company).filter_map(|user| user.terminal).collect();
    free::<Terminal>(call, |terminal| !taken.contains(&terminal.id)).await
}

async fn extensions(call: &Call) -> Result<Response<Body>, Problem> {
    let user = named(call, "_userId")?;
    free::<Extension>(call, |extension| {
        let of_user = extension.route_type == Some(ExtensionRouteType::User)
            && user.is_some()
            && extension.user.map(Id::get) == user;
        extension.route_type.is_none() || of_user
    })
    .await
}

/// Clients of a corporation between which there is no trunk yet.
fn companies(call: &Call) -> Result<Response<Body>, Problem> {
    let (table, access) = routes::of::<Company>(call.level())?;
    let rows = &call.rows;
    let own_brand = |company: &Company| Some(company.brand.get()) == call.caller().brand;
    let from = match call.level() {
        Level::Client => call.caller().own_company(rows).map(|company| company.id),
        _ => match named(call, "_companyId")? {
            Some(id) => {
                let company = rows.get(Id::<Company>::new(id)).filter(|company| own_brand(company));
                Some(company.ok_or_else(Problem::not_found)?.id)
            }
            None => None,
        },
    };
    if call.level() == Level::Client && from.is_none() {
        return Err(Problem::not_found());
    }
    let also = named(call, "_includeId")?;
    let brand = call.caller().brand.unwrap_or(0);
    let found = rows.referring(table, table.place("brand").unwrap_or(usize::MAX), brand).filter(|row| {
        let Some(company) = row.cast::<Company>() else { return false };
        match from.and_then(|from| rows.get(from)) {
            Some(from) => {
                let near = company.id != from.id && together(from, company);
                near && (also == Some(row.id()) || !linked(rows, from, company))
            }
            // Nobody says from where: whoever lacks a trunk to some other of the corporation.
            None => also == Some(row.id()) || lacks_a_link(rows, company),
        }
    });
    let page = list::all_of(table, access, call.caller(), &call.rows, &call.ask.query, found)?;
    let living = HashMap::new();
    let look = Look { caller: call.caller(), rows, living: &living };
    let names = call.ask.query.list("_properties");
    let show = |row: &Row| {
        let mut shown = look.row(&**row, Place::List, false);
        // Of other clients no more is said than who they are.
        if let Some(Json::Object(invoicing)) = shown.get_mut("invoicing") {
            invoicing.retain(|name, _| name == "nif");
        }
        if !names.is_empty() {
            routes::keep(&mut shown, &names);
        }
        shown
    };
    let shown = page.rows.iter().map(show).collect();
    Ok(routes::shown_list(call, table, access, &page, shown))
}

fn together(one: &Company, other: &Company) -> bool {
    let vpbx = one.kind == CompanyKind::Vpbx && other.kind == CompanyKind::Vpbx;
    vpbx && one.brand == other.brand && one.corporation.is_some() && one.corporation == other.corporation
}

fn linked(rows: &Rows, one: &Company, other: &Company) -> bool {
    rows.of::<Friend>("company", one.id.get()).any(|friend| friend.inter_company == Some(other.id))
}

fn lacks_a_link(rows: &Rows, one: &Company) -> bool {
    one.corporation.is_some()
        && rows
            .of::<Company>("brand", one.brand.get())
            .any(|other| other.id != one.id && together(one, other) && !linked(rows, one, other))
}

async fn users(call: &Call, open: Vec<&str>) -> Result<Response<Body>, Problem> {
    let (groups, access) = routes::of::<HuntGroup>(call.level())?;
    routes::allow(groups, access, Deed::Read, call.caller(), &call.rows)?;
    let group = routes::find(call, groups, open.first().copied().unwrap_or_default())?;
    let members = call.rows.of::<HuntGroupMember>("huntGroup", group.id());
    let taken: HashSet<Id<User>> = members.filter_map(|member| member.user).collect();
    free::<User>(call, |user| !taken.contains(&user.id)).await
}

/// Fields of users with all of their telephones; what stands behind references is shown.
const DETAILED: &[&str] = &["name", "lastname", "email", "id", "terminal", "extension", "location"];

fn users_detailed(call: &Call) -> Result<Response<Body>, Problem> {
    let (table, access) = routes::of::<User>(call.level())?;
    let page: Page = list::page(table, access, call.caller(), &call.rows, &call.ask.query)?;
    let living = HashMap::new();
    let look = Look { caller: call.caller(), rows: &call.rows, living: &living };
    let wanted = call.ask.query.list("_properties");
    let show = |row: &Row| -> Map<String, Json> {
        let mut shown = look.row(&**row, Place::Detail, call.ask.format != Format::Csv);
        let kept = |name: &str| DETAILED.contains(&name) && (wanted.is_empty() || wanted.contains(&name));
        shown.retain(|name, _| kept(name));
        shown
    };
    let shown = page.rows.iter().map(show).collect();
    Ok(routes::shown_list(call, table, access, &page, shown))
}

/// A user's own voicemail and those that are shared with the user.
async fn voicemails(call: &Call) -> Result<Response<Body>, Problem> {
    let (table, access) = routes::of::<Voicemail>(call.level())?;
    let page = list::page(table, access, call.caller(), &call.rows, &call.ask.query)?;
    routes::list_answer(call, table, access, &page).await
}
