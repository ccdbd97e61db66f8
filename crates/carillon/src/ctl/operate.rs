//! `carillon ctl status`, `calls`, `hang-up`, `bindings`, `unbind`, `log-level`: what happens now.
//!
//! Elsewhere: nodes (`cluster`), reaching the node (`reach`), who may (crate `api`, room `grpc::operation`).

use super::reach::{Reach, operation, refused};
use super::rows::plain;
use crate::node::StartError;
use crate::{complain, tell};
use jiff::Timestamp;
use proto::v1;
use std::path::Path;

/// What `status` takes.
#[derive(clap::Args)]
pub(crate) struct Look {
    #[command(flatten)]
    reach: Reach,
}

/// What `calls` takes.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Calls {
    /// Only those of this brand.
    #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
    brand: u32,
    /// Only those of this client.
    #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
    client: u32,
    /// Only those where this stands in a number, a name, what was dialled, or an address of a telephone.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    text: String,
    /// So many at most, the oldest.
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    reach: Reach,
    #[command(subcommand)]
    show: Option<CallsCommand>,
}

#[derive(clap::Subcommand)]
enum CallsCommand {
    /// Print one call with its legs.
    Show(Show),
}

/// What `calls show` takes.
#[derive(clap::Args)]
struct Show {
    /// The call as `calls` names it.
    call: String,
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

/// What `log-level` takes.
#[derive(clap::Args)]
pub(crate) struct LogLevel {
    /// What to log from now on, as `filter` of the section log: debug, or info,proxy=trace; shown without it.
    filter: Option<String>,
    /// After this time it is as configured again: 90s, 10m, 2h.
    #[arg(long = "for", value_name = "TIME", requires = "filter", value_parser = seconds)]
    lasts: Option<u64>,
    /// Log again what is configured.
    #[arg(long, conflicts_with = "filter")]
    configured: bool,
    #[command(flatten)]
    reach: Reach,
}

/// A time with its unit, in seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let read = units.iter().find_map(|(unit, seconds)| {
        text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*seconds).filter(|seconds| *seconds > 0)
    });
    read.ok_or_else(|| "write a number and its unit, such as 90s, 10m or 2h".to_owned())
}

/// Prints what the node logs, or changes it.
pub(crate) async fn log_level(data: Option<&Path>, level: LogLevel) -> Result<(), StartError> {
    let mut client = operation(data, &level.reach).await?;
    let answer = if level.filter.is_some() || level.configured {
        let request = v1::SetLogFilterRequest {
            filter: level.filter.unwrap_or_default(),
            seconds: level.lasts.unwrap_or(0),
        };
        client.set_log_filter(request).await
    } else {
        client.get_log_filter(v1::GetLogFilterRequest {}).await
    };
    let v1::LogFilter { filter, configured, seconds } =
        answer.map_err(|status| refused(&status))?.into_inner();
    let until = if seconds > 0 { format!(", for {seconds} s") } else { String::new() };
    tell(&format!("{}{until} (configured: {})", plain(&filter), plain(&configured)));
    Ok(())
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

/// Prints the calls that go on, or one of them.
pub(crate) async fn calls(data: Option<&Path>, calls: Calls) -> Result<(), StartError> {
    if let Some(CallsCommand::Show(show)) = calls.show {
        let mut client = operation(data, &show.reach).await?;
        let answer = client.get_call(v1::GetCallRequest { id: show.call }).await;
        let call = answer.map_err(|status| refused(&status))?.into_inner();
        tell(&line(&call));
        for leg in &call.legs {
            tell(&format!(
                "  {}  {}  Call-ID {}",
                plain(&leg.role),
                plain(&leg.endpoint),
                plain(&leg.sip_call_id)
            ));
        }
        return Ok(());
    }
    let mut client = operation(data, &calls.reach).await?;
    let request = v1::ListCallsRequest {
        limit: calls.limit,
        brand: calls.brand,
        company: calls.client,
        text: calls.text,
    };
    let answer = client.list_calls(request).await;
    let answer = answer.map_err(|status| refused(&status))?.into_inner();
    answer.calls.iter().for_each(|call| tell(&line(call)));
    if (answer.calls.len() as u64) < answer.total {
        complain(&format!("note: the oldest {} of {} calls", answer.calls.len(), answer.total));
    }
    tell_silent(&answer.silent, "calls");
    Ok(())
}

/// Says of which nodes nothing is known.
fn tell_silent(silent: &[String], what: &str) {
    if !silent.is_empty() {
        complain(&format!(
            "note: without the {what} of nodes that do not answer: {}",
            plain(&silent.join(", "))
        ));
    }
}

fn line(call: &v1::Call) -> String {
    let party = |number: &str, name: &str| {
        let quoted = if name.is_empty() { String::new() } else { format!(" ({})", plain(name)) };
        format!("{}{quoted}", plain(number))
    };
    let state = call.answered_ms.map_or_else(|| "rings".to_owned(), |at| format!("answered {}", moment(at)));
    let moved = match call.epoch {
        0 => String::new(),
        1 => ", moved once".to_owned(),
        times => format!(", moved {times} times"),
    };
    format!(
        "{}  {} -> {}  began {}, {state}  brand {}, client {}  node {}{moved}",
        plain(&call.id),
        party(&call.caller, &call.caller_name),
        party(&call.callee, &call.callee_name),
        moment(call.started_ms),
        call.brand,
        call.company,
        call.node
    )
}

/// A moment for people.
pub(super) fn moment(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
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
        let v1::Binding { contact, received, expires, user_agent, node } = binding;
        let expires =
            Timestamp::from_second(expires).map_or_else(|_| expires.to_string(), |at| at.to_string());
        let from = if received.is_empty() { String::new() } else { format!("  from {}", plain(&received)) };
        tell(&format!("{}{from}  until {expires}  node {node}  {}", plain(&contact), plain(&user_agent)));
    }
    Ok(())
}

/// Drops registered contacts.
pub(crate) async fn unbind(data: Option<&Path>, unbind: Unbind) -> Result<(), StartError> {
    let mut client = operation(data, &unbind.reach).await?;
    let request =
        v1::RemoveBindingsRequest { address: unbind.address, contact: unbind.contact.unwrap_or_default() };
    let answer = client.remove_bindings(request).await.map_err(|status| refused(&status))?;
    let v1::RemoveBindingsResponse { removed, silent } = answer.into_inner();
    tell(&format!("{removed} bindings dropped"));
    tell_silent(&silent, "bindings");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!((seconds("90s"), seconds("10m"), seconds("2h")), (Ok(90), Ok(600), Ok(7200)));
        for wrong in ["", "10", "m", "0s", "-1m", "1d", "99999999999999999999h", "18446744073709551615h"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
