//! What happens now, over gRPC: the asked node's state and log, calls and registered contacts of all nodes, and ending those.
//!
//! Elsewhere: who knows (`outside`), what concerns nodes (`cluster`).

use super::{Asked, Service, cluster, proof, simulation, status, wrong};
use crate::http::Problem;
use crate::outside::{ActiveCall, CallFilter, FoundCalls, LogFilter, NotChanged, NotHere};
use crate::routes::{self, Deed};
use crate::show;
use futures_util::stream::BoxStream;
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

/// Most characters of a text that is looked for.
const LONGEST_TEXT: usize = 200;

pub(super) fn not_here(part: NotHere) -> Status {
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
        let asked = self.begin(&proof(&request))?;
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
        let asked = self.begin(&proof(&request))?;
        let v1::ListCallsRequest { limit, brand, company, text } = request.into_inner();
        let limit = match limit {
            0 => CALLS,
            limit if limit <= MOST_CALLS => limit,
            limit => return Err(wrong("limit", format!("{limit} is too many; write 1 to {MOST_CALLS}"))),
        };
        if text.chars().count() > LONGEST_TEXT {
            return Err(wrong("text", format!("it is too long; write at most {LONGEST_TEXT} characters")));
        }
        let one = |id: u32| (id != 0).then_some(id);
        let (brand, company, id) = (one(brand), one(company), None);
        let filter = CallFilter { brand, company, id, text, limit: limit as usize };
        let FoundCalls { calls, total, silent } = calls(&asked, Deed::Read, filter).await?;
        let calls = calls.into_iter().take(limit as usize).map(told).collect();
        Ok(Response::new(v1::ListCallsResponse { calls, total: total as u64, silent }))
    }

    async fn get_call(&self, request: Request<v1::GetCallRequest>) -> Result<Response<v1::Call>, Status> {
        let asked = self.begin(&proof(&request))?;
        let call = the_call(&asked, Deed::Read, &request.into_inner().id).await?;
        Ok(Response::new(told(call)))
    }

    async fn hang_up(
        &self,
        request: Request<v1::HangUpRequest>,
    ) -> Result<Response<v1::HangUpResponse>, Status> {
        let asked = self.begin(&proof(&request))?;
        let id = the_call(&asked, Deed::Delete, &request.into_inner().id).await?.id;
        if !asked.api.surroundings.outside.hang_up(&id).await.map_err(not_here)? {
            return Err(no_such_call(&[]));
        }
        let who = asked.identity.who();
        tracing::info!(call = id, level = who.level, name = who.name, "an administrator ended a call");
        Ok(Response::new(v1::HangUpResponse {}))
    }

    async fn list_bindings(
        &self,
        request: Request<v1::ListBindingsRequest>,
    ) -> Result<Response<v1::ListBindingsResponse>, Status> {
        let asked = self.begin(&proof(&request))?;
        let (user, domain) = address(&asked, &request.into_inner().address, Deed::Read)?;
        let found = asked.api.surroundings.outside.registrations(&user, &domain).await;
        let binding = |found: crate::outside::Registration| v1::Binding {
            contact: found.contact,
            received: found.received,
            expires: found.expires.as_second(),
            user_agent: found.user_agent,
            node: found.node.into(),
        };
        Ok(Response::new(v1::ListBindingsResponse { bindings: found.into_iter().map(binding).collect() }))
    }

    async fn remove_bindings(
        &self,
        request: Request<v1::RemoveBindingsRequest>,
    ) -> Result<Response<v1::RemoveBindingsResponse>, Status> {
        let asked = self.begin(&proof(&request))?;
        let v1::RemoveBindingsRequest { address: of, contact } = request.into_inner();
        let (user, domain) = address(&asked, &of, Deed::Update)?;
        let contact = Some(contact.as_str()).filter(|contact| !contact.is_empty());
        let outside = &asked.api.surroundings.outside;
        let (removed, silent) =
            outside.remove_registrations(&user, &domain, contact).await.map_err(not_here)?;
        if removed == 0 && contact.is_some() {
            let why =
                format!("contact: it is not registered; ListBindings says which are{}", of_silent(&silent));
            return Err(Status::not_found(why));
        }
        let who = asked.identity.who();
        tracing::info!(
            address = of,
            removed,
            level = who.level,
            name = who.name,
            "an administrator dropped contacts"
        );
        let removed = u32::try_from(removed).unwrap_or(u32::MAX);
        Ok(Response::new(v1::RemoveBindingsResponse { removed, silent }))
    }

    async fn simulate_route(
        &self,
        request: Request<v1::SimulateRouteRequest>,
    ) -> Result<Response<v1::SimulateRouteResponse>, Status> {
        let asked = self.begin(&proof(&request))?;
        simulation::route(&asked, request.into_inner()).await.map(Response::new)
    }

    async fn simulate_rate(
        &self,
        request: Request<v1::SimulateRateRequest>,
    ) -> Result<Response<v1::SimulateRateResponse>, Status> {
        let asked = self.begin(&proof(&request))?;
        simulation::rate(&asked, request.into_inner()).await.map(Response::new)
    }

    async fn get_log_filter(
        &self,
        request: Request<v1::GetLogFilterRequest>,
    ) -> Result<Response<v1::LogFilter>, Status> {
        let asked = self.begin(&proof(&request))?;
        for_the_platform(&asked, "the log is")?;
        let filter = asked.api.surroundings.outside.log_filter().await.map_err(not_here)?;
        Ok(Response::new(log_filter(filter)))
    }

    async fn set_log_filter(
        &self,
        request: Request<v1::SetLogFilterRequest>,
    ) -> Result<Response<v1::LogFilter>, Status> {
        let asked = self.begin(&proof(&request))?;
        for_the_platform(&asked, "the log is")?;
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

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let asked = self.begin(&proof(&request))?;
        cluster::nodes(&asked).await.map(Response::new)
    }

    async fn list_owners(
        &self,
        request: Request<v1::ListOwnersRequest>,
    ) -> Result<Response<v1::ListOwnersResponse>, Status> {
        let asked = self.begin(&proof(&request))?;
        cluster::owners(&asked, request.into_inner().company).await.map(Response::new)
    }

    async fn list_links(
        &self,
        request: Request<v1::ListLinksRequest>,
    ) -> Result<Response<v1::ListLinksResponse>, Status> {
        let asked = self.begin(&proof(&request))?;
        cluster::links(&asked).await.map(Response::new)
    }

    type DrainStream = BoxStream<'static, Result<v1::DrainResponse, Status>>;

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Result<Response<Self::DrainStream>, Status> {
        let asked = self.begin(&proof(&request))?;
        cluster::drain(&asked, request.into_inner()).await.map(Response::new)
    }

    type WatchClusterStream = BoxStream<'static, Result<v1::ClusterEvent, Status>>;

    async fn watch_cluster(
        &self,
        request: Request<v1::WatchClusterRequest>,
    ) -> Result<Response<Self::WatchClusterStream>, Status> {
        cluster::watch(self, proof(&request)).await.map(Response::new)
    }
}

/// How the whole is run is the business of nobody but those who run it. `what` is and is theirs, as in "the log is".
pub(super) fn for_the_platform(asked: &Asked<'_>, what: &str) -> Result<(), Status> {
    let caller = asked.caller();
    if caller.level == Level::Platform && !caller.restricted {
        return Ok(());
    }
    let who = "for the platform's administrators, restricted ones excepted";
    Err(Status::permission_denied(format!("{what} {who}")))
}

/// What is to be said of nodes that did not answer; empty: nothing.
fn of_silent(silent: &[String]) -> String {
    if silent.is_empty() {
        return String::new();
    }
    format!(" (not asked, for they do not answer: {})", silent.join(", "))
}

fn no_such_call(silent: &[String]) -> Status {
    Status::not_found(format!(
        "id: there is no such call; ListCalls says which there are{}",
        of_silent(silent)
    ))
}

/// The caller's call of this name.
async fn the_call(asked: &Asked<'_>, deed: Deed, id: &str) -> Result<ActiveCall, Status> {
    let filter = CallFilter { id: Some(id.to_owned()), limit: 1, ..CallFilter::default() };
    let found = calls(asked, deed, filter).await?;
    let call = found.calls.into_iter().find(|call| call.id == id);
    call.ok_or_else(|| no_such_call(&found.silent))
}

fn log_filter(filter: LogFilter) -> v1::LogFilter {
    let LogFilter { filter, configured, lasts } = filter;
    v1::LogFilter { filter, configured, seconds: lasts.map_or(0, |lasts| lasts.as_secs().max(1)) }
}

/// The caller's calls of these, the oldest first.
async fn calls(asked: &Asked<'_>, deed: Deed, filter: CallFilter) -> Result<FoundCalls, Status> {
    let caller = asked.caller();
    let granted = !caller.restricted || routes::granted_name(ACTIVE_CALLS, deed, caller, &asked.rows);
    if caller.level == Level::User || !granted {
        return Err(Status::permission_denied("calls are for administrators, restricted ones with a grant"));
    }
    let is_foreign =
        |wanted: Option<u32>, own: Option<u32>| wanted.zip(own).is_some_and(|(wanted, own)| wanted != own);
    if is_foreign(filter.brand, caller.brand) || is_foreign(filter.company, caller.company) {
        return Ok(FoundCalls::default());
    }
    let filter = CallFilter {
        brand: caller.brand.or(filter.brand),
        company: caller.company.or(filter.company),
        ..filter
    };
    let mut found = asked.api.surroundings.outside.active_calls(&filter).await.map_err(not_here)?;
    // Whatever other nodes answer: nobody is told of calls that are not his.
    let told = found.calls.len();
    found.calls.retain(|call| {
        filter.brand.is_none_or(|brand| call.brand == brand)
            && filter.company.is_none_or(|company| call.company == company)
    });
    found.total = found.total.saturating_sub(told - found.calls.len());
    found.calls.sort_by(|one, other| (one.started_us, &one.id).cmp(&(other.started_us, &other.id)));
    if caller.level != Level::Platform && !found.silent.is_empty() {
        // Names of machines are the platform's own.
        found.silent = vec!["some of the platform".to_owned()];
    }
    Ok(found)
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
        node: call.node.into(),
        epoch: call.epoch,
        legs: call
            .legs
            .into_iter()
            .map(|leg| v1::CallLeg {
                role: leg.role.to_owned(),
                sip_call_id: leg.sip_call_id,
                endpoint: leg.endpoint,
            })
            .collect(),
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
