//! Calls that might be: which way they would go, what they would cost, and why. The deciding is that of real calls.
//!
//! In: what somebody asks (`api::outside`), rates and a router of one state of the rows. Out: data for people. Elsewhere: deciding
//! (crates `routing` and `rating`).

#[cfg(test)]
mod tests;

use api::outside::{
    Amount, CarrierTold, RateAsk, RateOf, RateTold, RouteAsk, RouteTold, SimulatedCall, SimulatedCaller,
};
use appserver::Rates;
use model::Id;
use model::entities::{Company, Currency, RatingPlanGroup};
use model::rows::Rows;
use rating::{Call, Considered, Outcome, Priced, Simulation, Unbilled, Verdict};
use routing::simulate::ExplainedAttempt;
use routing::{Decision, Dialled, Endpoint, Outgoing, ToCarrier, Way};
use std::time::Duration;

/// Seconds for which rates say a price.
const MINUTE: u32 = 60;

fn endpoint(caller: SimulatedCaller) -> Endpoint {
    match caller {
        SimulatedCaller::User(id) => Endpoint::User(Id::new(id)),
        SimulatedCaller::Friend(id) => Endpoint::Friend(Id::new(id)),
        SimulatedCaller::ResidentialDevice(id) => Endpoint::ResidentialDevice(Id::new(id)),
        SimulatedCaller::RetailAccount(id) => Endpoint::RetailAccount(Id::new(id)),
        SimulatedCaller::Fax(id) => Endpoint::Fax(Id::new(id)),
        SimulatedCaller::Wholesale => Endpoint::Wholesale,
    }
}

/// What would happen to a call. `random` draws lots among routes of one priority.
pub(crate) fn route(rates: &Rates, ask: &RouteAsk, random: impl FnMut() -> u64) -> RouteTold {
    let call = routing::Call {
        client: Id::new(ask.company),
        endpoint: endpoint(ask.caller),
        dialled: Dialled::Text(&ask.number),
        presented: ask.presented.as_deref(),
        now: ask.at,
    };
    let explained = rates.router.simulate(&call, rates, random);
    let steps = explained.notes.iter().map(ToString::to_string).collect();
    let told = RouteTold { steps, ..RouteTold::default() };
    let outgoing = match explained.decision {
        Err(refusal) => {
            let status = refusal.status();
            let decision = format!("refused with {status}: {refusal}");
            return RouteTold { decision, status: Some(status), ..told };
        }
        Ok(Decision::Within(target)) => {
            let decision = format!("stays within the client: {target:?}");
            return RouteTold { placed: true, decision, ..told };
        }
        Ok(Decision::Outgoing(outgoing)) => outgoing,
    };
    let length = Duration::from_secs(ask.seconds.into());
    let rated = Call { number: outgoing.called.as_str(), at: ask.at, tag: outgoing.tag };
    let priced = rates.tariffs.simulate_client(call.client, &rated, length);
    let carriers =
        explained.attempts.into_iter().map(|attempt| carrier(rates, attempt, &rated, length)).collect();
    let Outgoing { called, shown, ddi, tag, special, way, .. } = outgoing;
    let told = RouteTold {
        called: Some(called.to_string()),
        shown: shown.map(|number| number.to_string()),
        ddi: ddi.map(Id::get),
        routing_tag: tag.map(Id::get),
        carriers,
        ..told
    };
    let (price, no_price) = amount(rates.router.snapshot().rows(), &priced);
    let told = RouteTold { price, no_price, ..told };
    match (&way, &priced.outcome) {
        (Way::Inside(incoming), _) => RouteTold {
            placed: true,
            decision: format!("stays on the platform: DDI {} of client {}", incoming.ddi, incoming.client),
            ..told
        },
        (Way::Carriers(_), Err(why)) if !special => RouteTold {
            decision: format!("refused: the client's call has no price, {why}"),
            status: Some(403),
            ..told
        },
        (Way::Carriers(_), _) => RouteTold {
            placed: true,
            decision: format!("{called} is called by {} carriers", told.carriers.len()),
            ..told
        },
    }
}

fn carrier(rates: &Rates, explained: ExplainedAttempt, call: &Call<'_>, length: Duration) -> CarrierTold {
    let ExplainedAttempt { attempt, name, numbers } = explained;
    // Carriers have rating plans for all tags.
    let priced = rates.tariffs.simulate_carrier(attempt.carrier, &Call { tag: None, ..*call }, length);
    let (cost, no_cost) = amount(rates.router.snapshot().rows(), &priced);
    let told = CarrierTold {
        carrier: attempt.carrier.get(),
        name,
        outgoing_routing: attempt.route.get(),
        priority: attempt.priority,
        cost,
        no_cost,
        ..CarrierTold::default()
    };
    match numbers {
        Ok(ToCarrier { called, caller }) => CarrierTold { called: Some(called), caller, ..told },
        Err(trouble) => CarrierTold { trouble: Some(trouble.to_string()), ..told },
    }
}

/// The amount, or why there is none.
fn amount(rows: &Rows, simulation: &Simulation) -> (Option<Amount>, Option<String>) {
    let priced = match &simulation.outcome {
        Err(why) => return (None, Some(why.to_string())),
        Ok(Outcome::Unbilled(unbilled)) => return (None, Some(not_billed(*unbilled))),
        Ok(Outcome::Priced(priced)) => priced,
    };
    let Priced { basis, prefix, destination, price, .. } = &**priced;
    let currency = rows.get::<Currency>(price.currency);
    let amount = Amount {
        amount: price.amount.to_string(),
        currency: currency.map_or_else(String::new, |currency| currency.iden.clone()),
        prefix: prefix.clone(),
        destination: destination.en.clone(),
        rating_plan_group: basis.plan.get(),
        rating_plan_name: rows.get(basis.plan).map_or_else(String::new, |plan| plan.name.en.clone()),
        connect_fee: basis.rate.connect_fee().to_string(),
        per_minute: basis.rate.per_minute().to_string(),
        charge_period: basis.rate.charge_period(),
        interval_start: basis.rate.interval_start(),
        minimal_cost: basis.rate.minimal_cost(),
    };
    (Some(amount), None)
}

fn not_billed(unbilled: Unbilled) -> String {
    match unbilled {
        Unbilled::Client => "the client's billing method is none".to_owned(),
        Unbilled::Carrier => "the carrier's costs are not calculated".to_owned(),
        Unbilled::SpecialNumber(id) => format!("calls to special number {id} are not rated"),
    }
}

/// What a call would cost.
pub(crate) fn rate(rates: &Rates, ask: &RateAsk) -> RateTold {
    let tag = ask.routing_tag.map(Id::new);
    let call = Call { number: &ask.number, at: ask.at, tag };
    let (tariffs, length) = (&rates.tariffs, Duration::from_secs(ask.seconds.into()));
    let simulation = match ask.of {
        RateOf::Client(id) => tariffs.simulate_client(Id::<Company>::new(id), &call, length),
        RateOf::Carrier(id) => tariffs.simulate_carrier(Id::new(id), &call, length),
        RateOf::Plan(id) => tariffs.simulate_plan(Id::<RatingPlanGroup>::new(id), &call, length),
    };
    let rows = rates.router.snapshot().rows();
    let mut steps = Vec::new();
    if let Some(profile) = simulation.profile {
        steps.push(format!("rating profile {profile} counts"));
    }
    if let Some(plan) = simulation.plan {
        let name = rows.get(plan).map_or("", |plan| plan.name.en.as_str());
        steps.push(format!("rating plan {plan} ({name})"));
    }
    steps.extend(simulation.parts.iter().map(|part| considered(rows, part)));
    if let Ok(Outcome::Priced(priced)) = &simulation.outcome {
        let Priced { basis, prefix, destination, breakdown, .. } = &**priced;
        steps.push(format!(
            "destination {} ({}) by prefix {prefix}, rate {}",
            basis.destination, destination.en, basis.row
        ));
        let refund =
            if breakdown.refund.is_zero() { String::new() } else { format!(" - {}", breakdown.refund) };
        steps.push(format!(
            "{} periods of {} s cost {}, connection {}: {} + {}{refund} = {}",
            breakdown.periods,
            basis.rate.charge_period(),
            breakdown.minutes,
            breakdown.connect_fee,
            breakdown.connect_fee,
            breakdown.minutes,
            breakdown.total
        ));
    }
    let (price, no_price) = amount(rows, &simulation);
    RateTold { steps, price, no_price }
}

fn considered(rows: &Rows, Considered { part, list, verdict }: &Considered) -> String {
    let name = rows.get(*list).map_or("", |list| list.name.en.as_str());
    let why = match verdict {
        Verdict::Chosen => "is chosen",
        Verdict::NotNow => "does not count at this time",
        Verdict::NoRate => "has no rate for the number",
        Verdict::Outweighed => "weighs less than the chosen one",
    };
    format!("part {part}, destination rates {list} ({name}): {why}")
}

/// What a call of this many seconds, beginning now, costs by a rating plan, as the dialect tells it.
pub(crate) fn by_plan(
    rates: &Rates,
    plan: u32,
    number: &str,
    seconds: u32,
    at: jiff::Timestamp,
) -> Option<SimulatedCall> {
    let call = Call { number, at, tag: None };
    let length = Duration::from_secs(seconds.into());
    let simulation = rates.tariffs.simulate_plan(Id::new(plan), &call, length);
    let Ok(Outcome::Priced(priced)) = simulation.outcome else { return None };
    let rate = priced.basis.rate;
    Some(SimulatedCall {
        duration: seconds,
        prefix: priced.prefix,
        destination: Some(priced.basis.destination.get()),
        cost: priced.price.amount,
        rate: rate.per_minute(),
        increment: rate.charge_period(),
        unit: MINUTE,
        connect_fee: rate.connect_fee(),
        interval_start: rate.interval_start(),
        at,
    })
}
