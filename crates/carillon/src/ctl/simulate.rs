//! `carillon ctl route` and `rate`: which way a call would go, what it would cost, and why.
//!
//! Elsewhere: reaching the node (`reach`), who may (crate `api`, room `grpc::simulation`), deciding (`simulating`).

use super::reach::{Reach, operation, refused};
use super::rows::plain;
use crate::node::StartError;
use crate::tell;
use jiff::tz::TimeZone;
use model::define::parse_time;
use proto::v1;
use serde_json::{Value as Json, json};
use std::path::Path;

/// What `route` takes.
#[derive(clap::Args)]
pub(crate) struct Route {
    /// The client that calls, by name or id.
    #[arg(long, value_name = "NAME|ID")]
    client: String,
    /// What of it calls: user:EMAIL, friend:NAME, residential:NAME, retail:NAME, fax:NAME, or wholesale.
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: String,
    /// What is dialled, as the endpoint would dial it.
    #[arg(long)]
    number: String,
    /// The number that the endpoint would tell as its own.
    #[arg(long, value_name = "NUMBER", default_value = "", hide_default_value = true)]
    caller: String,
    #[command(flatten)]
    when: When,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// What `rate` takes.
#[derive(clap::Args)]
pub(crate) struct Rate {
    /// Whose price: client:NAME, carrier:NAME or plan:NAME; ids may stand in place of names.
    #[arg(long, value_name = "WHOSE")]
    of: String,
    /// Who is called, in E.164 with the plus sign.
    #[arg(long)]
    number: String,
    /// The id of the routing tag that is dialled.
    #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
    tag: u32,
    #[command(flatten)]
    when: When,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// When a call begins, and how long it lasts.
#[derive(clap::Args)]
struct When {
    /// When it begins: 2026-01-31T12:00:00+01:00, or 2026-01-31 12:00:00 in UTC. Now, unless told otherwise.
    #[arg(long, value_name = "TIME", value_parser = moment, default_value = "now", hide_default_value = true)]
    at: i64,
    /// How long it is talked.
    #[arg(long, value_name = "MINUTES", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1440))]
    minutes: u32,
}

impl When {
    fn seconds(&self) -> u32 {
        self.minutes.saturating_mul(60)
    }
}

/// A moment in Unix seconds; 0: now.
fn moment(text: &str) -> Result<i64, String> {
    if text == "now" {
        return Ok(0);
    }
    let time = parse_time(text, &TimeZone::UTC);
    time.map(|time| time.as_second()).ok_or_else(|| "write a moment, such as 2026-01-31T12:00:00Z".to_owned())
}

/// Prints which way a call would go.
pub(crate) async fn route(data: Option<&Path>, route: Route) -> Result<(), StartError> {
    let mut client = operation(data, &route.reach).await?;
    let request = v1::SimulateRouteRequest {
        client: route.client,
        endpoint: route.endpoint,
        number: route.number,
        caller: route.caller,
        at: route.when.at,
        seconds: route.when.seconds(),
    };
    let answer = client.simulate_route(request).await.map_err(|status| refused(&status))?.into_inner();
    if route.json {
        tell(&route_json(&answer).to_string());
    } else {
        route_text(&answer, route.when.minutes).iter().for_each(|line| tell(line));
    }
    Ok(())
}

/// Prints what a call would cost.
pub(crate) async fn rate(data: Option<&Path>, rate: Rate) -> Result<(), StartError> {
    let mut client = operation(data, &rate.reach).await?;
    let request = v1::SimulateRateRequest {
        of: rate.of,
        number: rate.number,
        routing_tag: rate.tag,
        at: rate.when.at,
        seconds: rate.when.seconds(),
    };
    let answer = client.simulate_rate(request).await.map_err(|status| refused(&status))?.into_inner();
    let v1::SimulateRateResponse { steps, price, no_price } = answer;
    if rate.json {
        let price = price.as_ref().map(amount_json);
        tell(&json!({ "steps": steps, "price": price, "noPrice": given(&no_price) }).to_string());
        return Ok(());
    }
    steps.iter().for_each(|step| tell(&plain(step)));
    tell(&costs("price", rate.when.minutes, price.as_ref(), &no_price));
    Ok(())
}

/// What costs how much, or why nobody knows.
fn costs(what: &str, minutes: u32, amount: Option<&v1::SimulatedAmount>, why: &str) -> String {
    match amount {
        Some(amount) => {
            let v1::SimulatedAmount { amount, currency, destination, prefix, rating_plan_name, .. } = amount;
            let of = format!("{destination} ({prefix}) by {rating_plan_name}");
            format!("{what} of {minutes} minutes {amount} {}, {}", plain(currency), plain(&of))
        }
        None => format!("no {what}: {}", plain(why)),
    }
}

fn route_text(answer: &v1::SimulateRouteResponse, minutes: u32) -> Vec<String> {
    let mut lines: Vec<String> = answer.steps.iter().map(|step| plain(step)).collect();
    if !answer.called.is_empty() {
        let shown = if answer.shown.is_empty() { "nobody" } else { &answer.shown };
        lines.push(format!("calls {} and shows {}", plain(&answer.called), plain(shown)));
    }
    for (place, carrier) in (1..).zip(&answer.carriers) {
        let v1::SimulatedCarrier { name, outgoing_routing, priority, called, caller, trouble, .. } = carrier;
        let numbers = if trouble.is_empty() {
            format!("as {called} from {}", if caller.is_empty() { "nobody" } else { caller })
        } else {
            format!("but {trouble}")
        };
        let cost = costs("cost", minutes, carrier.cost.as_ref(), &carrier.no_cost);
        lines.push(format!(
            "{place}. {} (carrier {}, route {outgoing_routing}, priority {priority}), {}, {cost}",
            plain(name),
            carrier.carrier,
            plain(&numbers)
        ));
    }
    if answer.price.is_some() || !answer.no_price.is_empty() {
        lines.push(costs("price", minutes, answer.price.as_ref(), &answer.no_price));
    }
    lines.push(plain(&answer.decision));
    lines
}

fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn amount_json(amount: &v1::SimulatedAmount) -> Json {
    json!({
        "amount": amount.amount,
        "currency": amount.currency,
        "prefix": amount.prefix,
        "destination": amount.destination,
        "ratingPlanGroup": amount.rating_plan_group,
        "ratingPlanName": amount.rating_plan_name,
        "connectFee": amount.connect_fee,
        "perMinute": amount.per_minute,
        "chargePeriod": amount.charge_period,
        "intervalStart": amount.interval_start,
        "minimalCost": amount.minimal_cost,
    })
}

/// As REST answers.
fn route_json(answer: &v1::SimulateRouteResponse) -> Json {
    let some = |id: u32| (id != 0).then_some(id);
    let carrier = |told: &v1::SimulatedCarrier| {
        json!({
            "carrier": told.carrier,
            "name": told.name,
            "outgoingRouting": told.outgoing_routing,
            "priority": told.priority,
            "called": given(&told.called),
            "caller": given(&told.caller),
            "trouble": given(&told.trouble),
            "cost": told.cost.as_ref().map(amount_json),
            "noCost": given(&told.no_cost),
        })
    };
    json!({
        "placed": answer.placed,
        "decision": answer.decision,
        "status": some(answer.status),
        "steps": answer.steps,
        "called": given(&answer.called),
        "shown": given(&answer.shown),
        "ddi": some(answer.ddi),
        "routingTag": some(answer.routing_tag),
        "carriers": answer.carriers.iter().map(carrier).collect::<Vec<_>>(),
        "price": answer.price.as_ref().map(amount_json),
        "noPrice": given(&answer.no_price),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_told_in_lines_and_as_rest_tells_it() {
        let cost = v1::SimulatedAmount {
            amount: "0.3000".to_owned(),
            currency: "EUR".to_owned(),
            prefix: "+34".to_owned(),
            destination: "Spain".to_owned(),
            rating_plan_name: "Bulk\u{1b}[31m".to_owned(),
            ..v1::SimulatedAmount::default()
        };
        let carrier = v1::SimulatedCarrier {
            carrier: 4,
            name: "Bulk".to_owned(),
            outgoing_routing: 5,
            priority: 1,
            called: "0034600".to_owned(),
            cost: Some(cost),
            ..v1::SimulatedCarrier::default()
        };
        let answer = v1::SimulateRouteResponse {
            decision: "refused: the client's call has no price".to_owned(),
            status: 403,
            steps: vec!["routing pattern 1 fits".to_owned()],
            called: "+34600".to_owned(),
            carriers: vec![carrier],
            no_price: "no rating plan".to_owned(),
            ..v1::SimulateRouteResponse::default()
        };
        let lines = [
            "routing pattern 1 fits",
            "calls +34600 and shows nobody",
            "1. Bulk (carrier 4, route 5, priority 1), as 0034600 from nobody, cost of 5 minutes 0.3000 EUR, \
             Spain (+34) by Bulk\u{fffd}[31m",
            "no price: no rating plan",
            "refused: the client's call has no price",
        ];
        assert_eq!(route_text(&answer, 5), lines);
        let json = route_json(&answer);
        assert_eq!((&json["status"], &json["ddi"], &json["shown"]), (&json!(403), &Json::Null, &Json::Null));
        assert_eq!(json["carriers"][0]["cost"]["amount"], "0.3000");
    }

    #[test]
    fn moments_are_read_in_utc_or_with_their_offset() {
        assert_eq!(moment("now"), Ok(0));
        assert_eq!(moment("1970-01-01 00:01:00"), Ok(60));
        assert_eq!(moment("1970-01-01T01:01:00+01:00"), Ok(60));
        assert!(moment("tomorrow").is_err());
    }
}
