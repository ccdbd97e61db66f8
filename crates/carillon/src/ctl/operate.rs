//! `carillon ctl status`, `calls`, `hang-up`, `bindings`, `unbind`: what happens on a node now.
//!
//! Elsewhere: reaching the node (`reach`), who may (crate `api`, room `grpc::operation`).

use super::reach::{Reach, operation, refused};
use super::rows::plain;
use crate::node::StartError;
use crate::{complain, tell};
use jiff::Timestamp;
use proto::v1;
use std::path::Path;

/// What `status` and `calls` take.
#[derive(clap::Args)]
pub(crate) struct Look {
    #[command(flatten)]
    reach: Reach,
}

/// What `hang-up` takes.
#[derive(clap::Args)]
pub(crate) struct HangUp {
    /// The call as `calls` names it.
    call: String,
    #[command(flatten)]
    reach: Reach,
}

/// What `bindings` takes.
#[derive(clap::Args)]
pub(crate) struct Bindings {
    /// The address of record: USER@DOMAIN.
    address: String,
    #[command(flatten)]
    reach: Reach,
}

/// What `unbind` takes.
#[derive(clap::Args)]
pub(crate) struct Unbind {
    /// The address of record: USER@DOMAIN.
    address: String,
    /// Only the contact with this URI.
    contact: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

/// Prints how the node is.
pub(crate) async fn status(data: Option<&Path>, look: Look) -> Result<(), StartError> {
    let mut client = operation(data, &look.reach).await?;
    let answer = client.get_status(v1::GetStatusRequest {}).await.map_err(|status| refused(&status))?;
    let v1::GetStatusResponse { version, node, uptime, revision, rows, endpoints, calls, bindings } =
        answer.into_inner();
    let version = plain(&version);
    tell(&format!("carillon {version}, node {node}, up for {uptime} s"));
    tell(&format!("configuration: revision {revision}, {rows} rows, {endpoints} endpoints"));
    tell(&format!("now: {calls} calls, {bindings} bindings"));
    Ok(())
}

/// Prints the calls that go on.
pub(crate) async fn calls(data: Option<&Path>, look: Look) -> Result<(), StartError> {
    let mut client = operation(data, &look.reach).await?;
    let answer = client.list_calls(v1::ListCallsRequest::default()).await;
    let answer = answer.map_err(|status| refused(&status))?.into_inner();
    for call in &answer.calls {
        let party = |number: &str, name: &str| {
            let quoted = if name.is_empty() { String::new() } else { format!(" ({})", plain(name)) };
            format!("{}{quoted}", plain(number))
        };
        let since =
            |ms: i64| Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string());
        let state =
            call.answered_ms.map_or_else(|| "rings".to_owned(), |at| format!("answered {}", since(at)));
        tell(&format!(
            "{}  {} -> {}  began {}, {state}  brand {}, client {}",
            plain(&call.id),
            party(&call.caller, &call.caller_name),
            party(&call.callee, &call.callee_name),
            since(call.started_ms),
            call.brand,
            call.company
        ));
    }
    if (answer.calls.len() as u64) < answer.total {
        complain(&format!("note: the oldest {} of {} calls", answer.calls.len(), answer.total));
    }
    Ok(())
}

/// Ends a call.
pub(crate) async fn hang_up(data: Option<&Path>, hang_up: HangUp) -> Result<(), StartError> {
    let mut client = operation(data, &hang_up.reach).await?;
    let request = v1::HangUpRequest { id: hang_up.call };
    client.hang_up(request).await.map_err(|status| refused(&status))?;
    Ok(())
}

/// Prints registered contacts.
pub(crate) async fn bindings(data: Option<&Path>, bindings: Bindings) -> Result<(), StartError> {
    let mut client = operation(data, &bindings.reach).await?;
    let request = v1::ListBindingsRequest { address: bindings.address };
    let answer = client.list_bindings(request).await.map_err(|status| refused(&status))?;
    for binding in answer.into_inner().bindings {
        let v1::Binding { contact, received, expires, user_agent } = binding;
        let expires =
            Timestamp::from_second(expires).map_or_else(|_| expires.to_string(), |at| at.to_string());
        let from = if received.is_empty() { String::new() } else { format!("  from {}", plain(&received)) };
        tell(&format!("{}{from}  until {expires}  {}", plain(&contact), plain(&user_agent)));
    }
    Ok(())
}

/// Drops registered contacts.
pub(crate) async fn unbind(data: Option<&Path>, unbind: Unbind) -> Result<(), StartError> {
    let mut client = operation(data, &unbind.reach).await?;
    let request =
        v1::RemoveBindingsRequest { address: unbind.address, contact: unbind.contact.unwrap_or_default() };
    let answer = client.remove_bindings(request).await.map_err(|status| refused(&status))?;
    tell(&format!("{} bindings dropped", answer.into_inner().removed));
    Ok(())
}
