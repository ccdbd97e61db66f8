//! What happens on this node, over gRPC: its state, calls, registered contacts, and ending those; what is logged.
//!
//! Elsewhere: who knows (`outside`).

use super::{Asked, Service, status, wrong};
use crate::http::Problem;
use crate::outside::{ActiveCall, LogFilter, NotChanged, NotHere};
use crate::routes::{self, Deed};
use crate::show;
use model::define::{Entity, Level, Table};
use model::entities::{Friend, ResidentialDevice, RetailAccount, TABLES, Terminal};
use proto::v1;
use proto::v1::operation_server::Operation;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// Calls that are told of when the caller does not say.
const CALLS: u32 = 1000;
/// Most calls that are told of.
const MOST_CALLS: u32 = 10_000;
/// Most seconds until the log is as configured again: a day.
const LONGEST_LOG: u64 = 86_400;
/// What restricted administrators need a grant for.
const ACTIVE_CALLS: &str = "Model\\ActiveCalls";

fn not_here(part: NotHere) -> Status {
    status(Problem::missing(&part))
}

fn endpoints() -> [&'static Table; 4] {
    [
        Terminal::definition(),
        ResidentialDevice::definition(),
        RetailAccount::definition(),
        Friend::definition(),
    ]
}

#[tonic::async_trait]
impl Operation for Service {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let asked = self.begin(request.metadata())?;
        if asked.caller().level != Level::Platform {
            return Err(Status::permission_denied(
                "the state of a node is for the platform's administrators",
            ));
        }
        let node = asked.api.surroundings.outside.node().await.map_err(not_here)?;
        let count = |table: &&'static Table| asked.rows.count(table) as u64;
        Ok(Response::new(v1::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: node.node.into(),
            uptime: node.uptime.as_secs(),
            revision: asked.rows.revision,
            rows: TABLES.iter().map(count).sum(),
            endpoints: endpoints().iter().map(count).sum(),
            calls: node.calls as u64,
            bindings: node.bindings as u64,
        }))
    }

    async fn list_calls(
        &self,
        request: Request<v1::ListCallsRequest>,
    ) -> Result<Response<v1::ListCallsResponse>, Status> {
        let asked = self.begin(request.metadata())?;
        let limit = match request.into_inner().limit {
            0 => CALLS,
            limit if limit <= MOST_CALLS => limit,
            limit => return Err(wrong("limit", format!("{limit} is too many; write 1 to {MOST_CALLS}"))),
        };
        let calls = calls(&asked, Deed::Read).await?;
        let total = calls.len() as u64;
        let calls = calls.into_iter().take(limit as usize).map(told).collect();
        Ok(Response::new(v1::ListCallsResponse { calls, total }))
    }

    async fn hang_up(
        &self,
        request: Request<v1::HangUpRequest>,
    ) -> Result<Response<v1::HangUpResponse>, Status> {
        let asked = self.begin(request.metadata())?;
        let id = request.into_inner().id;
        let known = calls(&asked, Deed::Delete).await?.iter().any(|call| call.id == id);
        let gone = || Status::not_found("id: there is no such call; ListCalls says which there are");
        if !known || !asked.api.surroundings.outside.hang_up(&id).await.map_err(not_here)? {
            return Err(gone());
        }
        let who = asked.identity.who();
        tracing::info!(call = id, level = who.level, name = who.name, "an administrator ended a call");
        Ok(Response::new(v1::HangUpResponse {}))
    }

    async fn list_bindings(
        &self,
        request: Request<v1::ListBindingsRequest>,
    ) -> Result<Response<v1::ListBindingsResponse>, Status> {
        let asked = self.begin(request.metadata())?;
        let (user, domain) = address(&asked, &request.into_inner().address, Deed::Read)?;
        let found = asked.api.surroundings.outside.registrations(&user, &domain).await;
        let binding = |found: crate::outside::Registration| v1::Binding {
            contact: found.contact,
            received: found.received,
            expires: found.expires.as_second(),
            user_agent: found.user_agent,
        };
        Ok(Response::new(v1::ListBindingsResponse { bindings: found.into_iter().map(binding).collect() }))
    }

    async fn remove_bindings(
        &self,
        request: Request<v1::RemoveBindingsRequest>,
    ) -> Result<Response<v1::RemoveBindingsResponse>, Status> {
        let asked = self.begin(request.metadata())?;
        let v1::RemoveBindingsRequest { address: of, contact } = request.into_inner();
        let (user, domain) = address(&asked, &of, Deed::Update)?;
        let contact = Some(contact.as_str()).filter(|contact| !contact.is_empty());
        let outside = &asked.api.surroundings.outside;
        let removed = outside.remove_registrations(&user, &domain, contact).await.map_err(not_here)?;
        if removed == 0 && contact.is_some() {
            return Err(Status::not_found("contact: it is not registered; ListBindings says which are"));
        }
        let who = asked.identity.who();
        tracing::info!(
            address = of,
            removed,
            level = who.level,
            name = who.name,
            "an administrator dropped contacts"
        );
        Ok(Response::new(v1::RemoveBindingsResponse { removed: u32::try_from(removed).unwrap_or(u32::MAX) }))
    }

    async fn get_log_filter(
        &self,
        request: Request<v1::GetLogFilterRequest>,
    ) -> Result<Response<v1::LogFilter>, Status> {
        let asked = self.begin(request.metadata())?;
        for_the_platform(&asked)?;
        let filter = asked.api.surroundings.outside.log_filter().await.map_err(not_here)?;
        Ok(Response::new(log_filter(filter)))
    }

    async fn set_log_filter(
        &self,
        request: Request<v1::SetLogFilterRequest>,
    ) -> Result<Response<v1::LogFilter>, Status> {
        let asked = self.begin(request.metadata())?;
        for_the_platform(&asked)?;
        let v1::SetLogFilterRequest { filter, seconds } = request.into_inner();
        if seconds > LONGEST_LOG {
            return Err(wrong("seconds", format!("{seconds} is too long; write 0 to {LONGEST_LOG}")));
        }
        let lasts = (seconds > 0).then(|| Duration::from_secs(seconds));
        let wished = Some(filter.as_str()).filter(|filter| !filter.is_empty());
        let set = asked.api.surroundings.outside.set_log_filter(wished, lasts).await;
        let set = set.map_err(|error| match error {
            NotChanged::NotHere(part) => not_here(part),
            NotChanged::Wrong(remedy) => wrong("filter", remedy),
        })?;
        let who = asked.identity.who();
        tracing::info!(
            filter = set.filter,
            seconds,
            level = who.level,
            name = who.name,
            "an administrator changed what is logged"
        );
        Ok(Response::new(log_filter(set)))
    }
}

/// What is logged is nobody's business but of those who run the whole.
fn for_the_platform(asked: &Asked<'_>) -> Result<(), Status> {
    let caller = asked.caller();
    if caller.level == Level::Platform && !caller.restricted {
        return Ok(());
    }
    Err(Status::permission_denied("the log is for the platform's administrators, restricted ones excepted"))
}

fn log_filter(filter: LogFilter) -> v1::LogFilter {
    let LogFilter { filter, configured, lasts } = filter;
    v1::LogFilter { filter, configured, seconds: lasts.map_or(0, |lasts| lasts.as_secs().max(1)) }
}

/// The caller's calls, the oldest first.
async fn calls(asked: &Asked<'_>, deed: Deed) -> Result<Vec<ActiveCall>, Status> {
    let caller = asked.caller();
    let granted = !caller.restricted || routes::granted_name(ACTIVE_CALLS, deed, caller, &asked.rows);
    if caller.level == Level::User || !granted {
        return Err(Status::permission_denied("calls are for administrators, restricted ones with a grant"));
    }
    let mut calls = asked.api.surroundings.outside.active_calls().await.map_err(not_here)?;
    calls.retain(|call| {
        caller.brand.is_none_or(|brand| call.brand == brand)
            && caller.company.is_none_or(|company| call.company == company)
    });
    calls.sort_by(|one, other| (one.started_us, &one.id).cmp(&(other.started_us, &other.id)));
    Ok(calls)
}

fn told(call: ActiveCall) -> v1::Call {
    v1::Call {
        id: call.id,
        brand: call.brand,
        company: call.company,
        caller: call.caller.0,
        caller_name: call.caller.1,
        callee: call.callee.0,
        callee_name: call.callee.1,
        dialled: call.dialled,
        started_ms: call.started_us / 1000,
        answered_ms: call.answered_us.map(|at| at / 1000),
    }
}

/// User and domain of an address of record that is there for the caller.
fn address(asked: &Asked<'_>, text: &str, deed: Deed) -> Result<(String, String), Status> {
    let bare = text.trim_start_matches("sips:").trim_start_matches("sip:");
    let parts = bare.split_once('@').filter(|(user, domain)| !user.is_empty() && !domain.is_empty());
    let (user, domain) = parts.ok_or_else(|| wrong("address", "write user@domain"))?;
    let (caller, rows) = (asked.caller(), &asked.rows);
    if caller.level == Level::User {
        return Err(Status::permission_denied("contacts are for administrators"));
    }
    // The platform is above all tenants, whatever its tables show.
    let platform = caller.level == Level::Platform;
    if platform && caller.restricted {
        return Err(Status::permission_denied("contacts of all are not for restricted administrators"));
    }
    let is_it = |table: &'static Table| {
        let mut named = rows.all(table).filter(|row| row.named("name").text() == Some(user));
        named.any(|row| {
            let of = show::address_of_record(rows, &**row);
            let seen = platform || caller.sees(&**row, rows);
            seen && of.is_some_and(|(name, at)| name == user && at.eq_ignore_ascii_case(domain))
        })
    };
    let table = endpoints().into_iter().find(|table| is_it(table));
    let none = || Status::not_found("address: there is no such endpoint");
    let table = table.ok_or_else(none)?;
    if !platform {
        let access = caller.access(table).ok_or_else(none)?;
        routes::allow(table, access, deed, caller, rows).map_err(status)?;
    }
    Ok((user.to_owned(), domain.to_ascii_lowercase()))
}
