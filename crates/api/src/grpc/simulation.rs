//! Calls that might be, over gRPC: which way they would go, and what they would cost.
//!
//! Elsewhere: whose they are (`crate::simulation`), deciding (`outside`).

use super::operation::not_here;
use super::{Act, Asked, status};
use crate::http::Problem;
use crate::outside::{Amount, CarrierTold, RateAsk, RateOf, RateTold, RouteAsk, RouteTold};
use crate::simulation::{self, endpoint, given, own, text};
use jiff::Timestamp;
use model::define::Level;
use model::entities::{Carrier, Company, RatingPlanGroup};
use proto::v1;
use tonic::Status;

/// What it would cost is asked by whoever may read the rows that say it.
fn may(asked: &Asked<'_>, entity: &str) -> Result<(), Status> {
    match asked.caller().level {
        Level::Platform => super::operation::for_the_platform(asked, "calls are simulated"),
        Level::Brand => asked.entity(entity, Act::Get).map(drop),
        Level::Client | Level::User => {
            Err(Status::permission_denied("calls are simulated for the platform and for brands"))
        }
    }
}

/// A moment in Unix seconds; 0: now.
fn moment(seconds: i64) -> Result<Timestamp, Status> {
    if seconds == 0 {
        return Ok(Timestamp::now());
    }
    Timestamp::from_second(seconds).map_err(|_| status(Problem::bad("at: write Unix seconds")))
}

pub(super) async fn route(
    asked: &Asked<'_>,
    request: v1::SimulateRouteRequest,
) -> Result<v1::SimulateRouteResponse, Status> {
    may(asked, "Company")?;
    let v1::SimulateRouteRequest { client, endpoint: caller, number, caller: presented, at, seconds } =
        request;
    let at = moment(at)?;
    let ask = || {
        let client = own(asked.caller(), &asked.rows, "client", &given("client", &client)?)?;
        let presented = text("caller", &presented)?;
        Ok(RouteAsk {
            company: client.get(),
            caller: endpoint(&asked.rows, client, &given("endpoint", &caller)?)?,
            number: given("number", &number)?,
            presented: Some(presented).filter(|number| !number.is_empty()),
            at,
            seconds: simulation::length("seconds", seconds)?,
        })
    };
    let ask = ask().map_err(status)?;
    let told = asked.api.surroundings.outside.simulate_route(&ask).await.map_err(not_here)?;
    let RouteTold { placed, decision, steps, called, shown, ddi, routing_tag, carriers, .. } = told;
    Ok(v1::SimulateRouteResponse {
        placed,
        decision,
        status: told.status.unwrap_or(0).into(),
        steps,
        called: called.unwrap_or_default(),
        shown: shown.unwrap_or_default(),
        ddi: ddi.unwrap_or(0),
        routing_tag: routing_tag.unwrap_or(0),
        carriers: carriers.into_iter().map(carrier).collect(),
        price: told.price.map(amount),
        no_price: told.no_price.unwrap_or_default(),
    })
}

pub(super) async fn rate(
    asked: &Asked<'_>,
    request: v1::SimulateRateRequest,
) -> Result<v1::SimulateRateResponse, Status> {
    let v1::SimulateRateRequest { of, number, routing_tag, at, seconds } = request;
    let (kind, name) = of.split_once(':').unwrap_or((&of, ""));
    may(asked, if kind == "carrier" { "Carrier" } else { "RatingPlanGroup" })?;
    let at = moment(at)?;
    let ask = || {
        let name = given("of", name)?;
        let (caller, rows) = (asked.caller(), &asked.rows);
        let of = match kind {
            "client" => RateOf::Client(own::<Company>(caller, rows, "of", &name)?.get()),
            "carrier" => RateOf::Carrier(own::<Carrier>(caller, rows, "of", &name)?.get()),
            "plan" => RateOf::Plan(own::<RatingPlanGroup>(caller, rows, "of", &name)?.get()),
            _ => return Err(Problem::bad("of: write client:NAME, carrier:NAME or plan:NAME")),
        };
        Ok(RateAsk {
            of,
            number: given("number", &number)?,
            routing_tag: Some(routing_tag).filter(|tag| *tag != 0),
            at,
            seconds: simulation::length("seconds", seconds)?,
        })
    };
    let ask = ask().map_err(status)?;
    let told = asked.api.surroundings.outside.simulate_rate(&ask).await.map_err(not_here)?;
    let RateTold { steps, price, no_price } = told;
    Ok(v1::SimulateRateResponse { steps, price: price.map(amount), no_price: no_price.unwrap_or_default() })
}

fn carrier(told: CarrierTold) -> v1::SimulatedCarrier {
    v1::SimulatedCarrier {
        carrier: told.carrier,
        name: told.name,
        outgoing_routing: told.outgoing_routing,
        priority: told.priority.into(),
        called: told.called.unwrap_or_default(),
        caller: told.caller.unwrap_or_default(),
        trouble: told.trouble.unwrap_or_default(),
        cost: told.cost.map(amount),
        no_cost: told.no_cost.unwrap_or_default(),
    }
}

fn amount(told: Amount) -> v1::SimulatedAmount {
    v1::SimulatedAmount {
        amount: told.amount,
        currency: told.currency,
        prefix: told.prefix,
        destination: told.destination,
        rating_plan_group: told.rating_plan_group,
        rating_plan_name: told.rating_plan_name,
        connect_fee: told.connect_fee,
        per_minute: told.per_minute,
        charge_period: told.charge_period,
        interval_start: told.interval_start,
        minimal_cost: told.minimal_cost,
    }
}
