//! Money: balances, what a call would cost, calls that are rated anew or from elsewhere, price lists.
//!
//! Elsewhere: rating itself (`Outside`), rating plans (entities like others).

use super::{BRAND, CLIENT, Gate, Operation, PLATFORM};
use crate::http::{Problem, json_answer, respond};
use crate::live::{ChangeError, RecordAsk};
use crate::outside::{RouteAsk, SimulatedCall};
use crate::routes::{self, Call, Deed};
use crate::show::Place;
use crate::simulation::{self as simulated, LONGEST_CALL};
use crate::write::{self, Document};
use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::Id;
use model::define::{Access, Entity, Table, parse_time, shown_time};
use model::draft::Draft;
use model::entities::{
    BalanceMovement, BillableCall, Brand, Carrier, Company, Currency, Destination, DestinationRate,
    RatingPlan, RatingPlanGroup, RatingProfile,
};
use model::rows::{Row, Rows};
use model::rules::Refusal;
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use std::fmt::Write as _;
use std::sync::Arc;

/// Decimal places of balances.
const PLACES: u32 = 4;
/// The greatest balance, and the greatest debt.
const MOST: Decimal = Decimal::from_parts(1_410_065_407, 2, 0, false, PLACES);
/// Most digits of a number.
const LONGEST_NUMBER: usize = 24;
/// What a rating from elsewhere says of a call.
const RATED: &[&str] = &["price", "cost", "destinationName", "ratingPlanName"];

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::POST,
        path: "companies/{}/modify_balance",
        levels: &[BRAND],
        gate: Gate::Entity("Company", Deed::Create),
        run: |call, open| Box::pin(modify_balance::<Company>(call, open)),
    },
    Operation {
        method: Method::POST,
        path: "carriers/{}/modify_balance",
        levels: &[BRAND],
        gate: Gate::Entity("Carrier", Deed::Create),
        run: |call, open| Box::pin(modify_balance::<Carrier>(call, open)),
    },
    Operation {
        method: Method::POST,
        path: "rating_plan_groups/{}/simulate_call",
        levels: &[BRAND],
        gate: Gate::Entity("RatingPlanGroup", Deed::Create),
        run: |call, open| Box::pin(simulate_by_group(call, open)),
    },
    Operation {
        method: Method::POST,
        path: "rating_profiles/{}/simulate_call",
        levels: &[BRAND, CLIENT],
        gate: Gate::Entity("RatingProfile", Deed::Create),
        run: |call, open| Box::pin(simulate_by_profile(call, open)),
    },
    Operation {
        method: Method::POST,
        path: "companies/{}/simulate_route",
        levels: &[BRAND],
        gate: Gate::Entity("Company", Deed::Read),
        run: |call, open| Box::pin(simulate_route(call, open)),
    },
    Operation {
        method: Method::POST,
        path: "billable_calls/rerate",
        levels: &[BRAND],
        gate: Gate::Entity("BillableCall", Deed::Create),
        run: |call, _| Box::pin(rerate(call)),
    },
    Operation {
        method: Method::PUT,
        path: "billable_calls/{}/rate",
        levels: &[PLATFORM, BRAND],
        gate: Gate::Entity("BillableCall", Deed::Update),
        run: |call, open| Box::pin(rate(call, open)),
    },
    Operation {
        method: Method::GET,
        path: "rating_plan_groups/{}/prices",
        levels: &[CLIENT],
        gate: Gate::Grant("Model\\RatingPlanPrices", Deed::Read),
        run: |call, open| Box::pin(std::future::ready(prices(call, open))),
    },
];

fn form_value(form: &[(String, String)], name: &str) -> Option<String> {
    form.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.trim().to_owned())
}

/// Whose balance changes.
trait Account: model::rules::Rules + Clone {
    fn balance(&mut self) -> &mut Option<Decimal>;
    fn movement(id: Id<Self>) -> BalanceMovement;
}

impl Account for Company {
    fn balance(&mut self) -> &mut Option<Decimal> {
        &mut self.balance
    }

    fn movement(id: Id<Self>) -> BalanceMovement {
        BalanceMovement { company: Some(id), ..BalanceMovement::default() }
    }
}

impl Account for Carrier {
    fn balance(&mut self) -> &mut Option<Decimal> {
        &mut self.balance
    }

    fn movement(id: Id<Self>) -> BalanceMovement {
        BalanceMovement { carrier: Some(id), ..BalanceMovement::default() }
    }
}

/// What is added to a balance, by the form that asks for it; negative: it is taken away.
fn change_of_balance(form: &[(String, String)]) -> Result<Decimal, Problem> {
    let text = form_value(form, "amount").unwrap_or_default();
    let wrong = || {
        Problem::bad(format!(
            "amount: write how much, more than 0 and at most {MOST}, with {PLACES} decimal places or fewer"
        ))
    };
    let plain = text.len() <= 16 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let amount: Decimal = if plain { text.parse().map_err(|_| wrong())? } else { return Err(wrong()) };
    if amount.normalize().scale() > PLACES || amount <= Decimal::ZERO || amount > MOST {
        return Err(wrong());
    }
    match form_value(form, "operation").as_deref() {
        Some("increment") => Ok(amount),
        Some("decrement") => Ok(-amount),
        _ => Err(Problem::bad("operation: write increment or decrement")),
    }
}

async fn modify_balance<A: Account>(call: &Call, open: Vec<&str>) -> Result<Response<Body>, Problem> {
    if !routes::brand_has(&call.rows, call.caller(), "billing") {
        return Err(Problem::forbidden("this brand has no billing"));
    }
    let row = routes::find(call, A::definition(), open.first().copied().unwrap_or_default())?;
    let by = change_of_balance(&call.ask.form())?;
    let id = Id::<A>::new(row.id());
    let make = |draft: &mut Draft<'_>| -> Result<(), Refusal> {
        let mut new = draft.get(id).ok_or(Refusal::Gone)?.clone();
        let balance = new.balance().unwrap_or_default() + by;
        if balance.abs() > MOST {
            return Err(Refusal::wrong(
                "amount",
                format!("the balance would be {balance}, and may be {MOST} at most"),
            ));
        }
        *new.balance() = Some(balance);
        draft.save(Box::new(new))?;
        let now = draft.now();
        let movement = A::movement(id);
        draft.create(BalanceMovement {
            amount: Some(by),
            balance: Some(balance),
            created_on: Some(now),
            ..movement
        })?;
        Ok(())
    };
    let ((), rows) = call.api.live.change(Some(call.level()), &call.identity.who(), make).await?;
    let row = rows.row(A::definition(), id.get()).ok_or_else(Problem::not_found)?;
    let mut answer = routes::one(call, &rows, row, Place::Detail, true).await;
    *answer.status_mut() = StatusCode::CREATED;
    Ok(answer)
}

async fn simulate_by_group(call: &Call, open: Vec<&str>) -> Result<Response<Body>, Problem> {
    let row = routes::find(call, RatingPlanGroup::definition(), open.first().copied().unwrap_or_default())?;
    simulate(call, Id::new(row.id())).await
}

async fn simulate_by_profile(call: &Call, open: Vec<&str>) -> Result<Response<Body>, Problem> {
    let row = routes::find(call, RatingProfile::definition(), open.first().copied().unwrap_or_default())?;
    let profile: &RatingProfile = row.cast().ok_or_else(Problem::not_found)?;
    simulate(call, profile.rating_plan_group).await
}

/// The number and the seconds of a call that is not made.
fn asked_call(form: &[(String, String)]) -> Result<(String, u32), Problem> {
    let number = form_value(form, "number").unwrap_or_default();
    let digits = number.strip_prefix('+').unwrap_or_default();
    if digits.is_empty() || digits.len() > LONGEST_NUMBER || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Problem::bad("number: write it with its country: +34946002050"));
    }
    let duration = form_value(form, "duration").and_then(|text| text.parse().ok()).unwrap_or(0);
    if !(1..=LONGEST_CALL).contains(&duration) {
        return Err(Problem::bad(format!("duration: write whole seconds, from 1 to {LONGEST_CALL}")));
    }
    Ok((number, duration))
}

async fn simulate(call: &Call, group: Id<RatingPlanGroup>) -> Result<Response<Body>, Problem> {
    let (number, duration) = asked_call(&call.ask.form())?;
    let group = call.rows.get(group).ok_or_else(Problem::not_found)?;
    let simulated = call.api.surroundings.outside.simulate_call(group.id.get(), &number, duration).await;
    match simulated.map_err(|part| Problem::missing(&part))? {
        Some(simulated) => {
            Ok(json_answer(StatusCode::OK, &simulation(&call.rows, group, duration, &simulated)))
        }
        None => {
            let detail = format!("calls to {number} have no price in this rating plan group");
            Err(Problem::new(StatusCode::NOT_FOUND, detail))
        }
    }
}

/// Which way a call of a client would go, and what it would cost.
async fn simulate_route(call: &Call, open: Vec<&str>) -> Result<Response<Body>, Problem> {
    let row = routes::find(call, Company::definition(), open.first().copied().unwrap_or_default())?;
    let (client, form) = (Id::new(row.id()), call.ask.form());
    let value = |name: &str| form_value(&form, name).unwrap_or_default();
    let at = match value("at") {
        text if text.is_empty() => Timestamp::now(),
        text => parse_time(&text, &call.caller().zone)
            .ok_or_else(|| Problem::bad("at: write a moment, such as 2026-01-31 12:00:00"))?,
    };
    let seconds = match value("duration") {
        text if text.is_empty() => 0,
        text => text.parse().unwrap_or(u32::MAX),
    };
    let presented = simulated::text("caller", &value("caller"))?;
    let ask = RouteAsk {
        company: client.get(),
        caller: simulated::endpoint(&call.rows, client, &simulated::given("endpoint", &value("endpoint"))?)?,
        number: simulated::given("number", &value("number"))?,
        presented: Some(presented).filter(|number| !number.is_empty()),
        at,
        seconds: simulated::length("duration", seconds)?,
    };
    let told = call.api.surroundings.outside.simulate_route(&ask).await;
    let told = told.map_err(|part| Problem::missing(&part))?;
    Ok(json_answer(StatusCode::OK, &serde_json::to_value(told).unwrap_or_default()))
}

fn simulation(rows: &Rows, group: &RatingPlanGroup, duration: u32, call: &SimulatedCall) -> Json {
    let destination = rows.at(call.destination.map(Id::<Destination>::new));
    let name = destination.map_or("", |destination| destination.name.en.as_str());
    // The price of each period, of that of a unit.
    let units = Decimal::from(call.increment).checked_div(Decimal::from(call.unit)).unwrap_or(Decimal::ONE);
    let rate = call.rate.checked_mul(units).unwrap_or(call.rate);
    json!({
        "plan": group.name.en,
        "callDate": shown_time(call.at, &TimeZone::UTC),
        "duration": duration,
        "patternName": format!("{name} ({})", call.prefix).trim_start(),
        "connectionCharge": number_of(call.connect_fee),
        "intervalStart": call.interval_start.to_string(),
        "rate": number_of(rate),
        "ratePeriod": call.increment,
        "totalCost": number_of(call.cost),
        "currencySymbol": symbol(rows, group),
    })
}

fn number_of(decimal: Decimal) -> Json {
    model::define::Value::Decimal(decimal.normalize()).shown(&TimeZone::UTC)
}

fn symbol(rows: &Rows, group: &RatingPlanGroup) -> String {
    let currency = group.currency.or_else(|| rows.get::<Brand>(group.brand).map(|brand| brand.currency));
    rows.at::<Currency>(currency).map(|currency| currency.symbol.clone()).unwrap_or_default()
}

/// Rates calls anew. What is on an invoice keeps its price.
async fn rerate(call: &Call) -> Result<Response<Body>, Problem> {
    let wanted = super::ids(&call.ask.json()?)?;
    let mut calls = Vec::new();
    for id in wanted {
        let row = routes::find_kept(call, BillableCall::definition(), &id.to_string()).await.map_err(
            |problem| {
                let gone = Problem::new(StatusCode::NOT_FOUND, format!("there is no billable call {id}"));
                if problem.status == StatusCode::NOT_FOUND { gone } else { problem }
            },
        )?;
        if row.cast::<BillableCall>().is_some_and(|row| row.invoice.is_none()) {
            calls.push(id);
        }
    }
    let rated = call.api.surroundings.outside.rerate(&calls).await;
    rated.map_err(|part| Problem::missing(&part))?;
    Ok(super::done())
}

/// Takes over what somebody else reckons that a call costs.
async fn rate(call: &Call, open: Vec<&str>) -> Result<Response<Body>, Problem> {
    let callid = open.first().copied().unwrap_or_default();
    let (table, access) = routes::of::<BillableCall>(call.level())?;
    let row = of_callid(call, table, access, callid).await?;
    let billable: &BillableCall = row.cast().ok_or_else(Problem::not_found)?;
    let document = Document::from(write::object(call.ask.json()?)?);
    if !RATED.iter().any(|name| document.contains_key(*name)) {
        return Err(Problem::bad(format!("write one of {}", RATED.join(", "))));
    }
    if billable.invoice.is_some() {
        return Err(Problem::bad("the call is on an invoice; its price stays"));
    }
    for name in ["price", "cost"] {
        let negative = document.get(name).is_some_and(|value| {
            value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).is_some_and(|number| number < 0.0)
        });
        if negative {
            return Err(Problem::bad(format!("{name}: it may not be negative")));
        }
    }
    let id = billable.id.get();
    let may = |place: usize| RATED.contains(&table.fields[place].name);
    let make = |draft: &mut Draft<'_>| write::change_fields(draft, table, call.caller(), id, &document, may);
    let (row, rows) =
        call.api.live.change_record(Some(call.level()), &call.identity.who(), (table, id), make).await?;
    Ok(routes::one(call, &rows, &row, Place::Detail, false).await)
}

/// The first call of those with this Call-ID that the caller sees.
async fn of_callid(
    call: &Call,
    table: &'static Table,
    access: &'static Access,
    callid: &str,
) -> Result<Row, Problem> {
    let (caller, rows) = (call.caller().clone(), Arc::clone(&call.rows));
    let ask = RecordAsk {
        text: Some(("callid", callid.to_owned())),
        test: Some(Arc::new(move |row| caller.all_hold(access.read, row, None, &rows))),
        limit: 1,
        ..RecordAsk::count(table)
    };
    let found = match call.api.live.keeper().records(&ask).await {
        Some(found) => found.map_err(ChangeError::from)?.rows.into_iter().next(),
        None => {
            let mut seen = call.caller().visible(table, access, &call.rows);
            let is_it = |row: &BillableCall| row.callid.as_deref() == Some(callid);
            seen.find(|row| row.cast().is_some_and(is_it)).cloned()
        }
    };
    found.ok_or_else(Problem::not_found)
}

/// The prices of a rating plan group as comma-separated values.
fn prices(call: &Call, open: Vec<&str>) -> Result<Response<Body>, Problem> {
    let (table, access) = routes::of::<RatingPlanGroup>(call.level())?;
    if !routes::brand_has(&call.rows, call.caller(), access.brand_feature) {
        return Err(Problem::forbidden("Access Denied."));
    }
    let row = routes::find(call, table, open.first().copied().unwrap_or_default())?;
    let group: &RatingPlanGroup = row.cast().ok_or_else(Problem::not_found)?;
    Ok(respond(StatusCode::OK, "text/csv; charset=utf-8", price_list(&call.rows, group)))
}

fn price_list(rows: &Rows, group: &RatingPlanGroup) -> String {
    let mut text = String::from(
        "\"rating plan\", name, prefix, \"connection fee\", cost, \"rate increment\", \"group interval start\", \"time in\", days\n",
    );
    let mut plans: Vec<&RatingPlan> = rows.of::<RatingPlan>("ratingPlanGroup", group.id.get()).collect();
    plans.sort_by(|one, other| one.weight.cmp(&other.weight).then(one.id.cmp(&other.id)));
    for plan in plans {
        for rate in rows.of::<DestinationRate>("destinationRateGroup", plan.destination_rate_group.get()) {
            let Some(destination) = rows.get(rate.destination) else { continue };
            let cells = [
                group.name.en.as_str(),
                destination.name.en.as_str(),
                destination.prefix.as_str(),
                &rate.connect_fee.normalize().to_string(),
                &rate.cost.normalize().to_string(),
                rate.rate_increment.as_str(),
                rate.group_interval_start.as_str(),
                &plan.time_in.strftime("%H:%M:%S").to_string(),
                &days(plan),
            ];
            let line: Vec<String> = cells.iter().map(|cell| routes::csv_text_cell(cell)).collect();
            // Writing to a text does not fail.
            let _ = writeln!(text, "{}", line.join(","));
        }
    }
    text
}

/// On which days of the week a plan holds, Monday first: "1111100".
fn days(plan: &RatingPlan) -> String {
    let days =
        [plan.monday, plan.tuesday, plan.wednesday, plan.thursday, plan.friday, plan.saturday, plan.sunday];
    days.iter().map(|day| if *day == Some(true) { '1' } else { '0' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn balances_change_by_plain_amounts() {
        let change =
            |operation, amount| change_of_balance(&form(&[("operation", operation), ("amount", amount)]));
        assert_eq!(change("increment", "10").unwrap(), Decimal::from(10));
        assert_eq!(change("decrement", " 0.5000 ").unwrap(), Decimal::new(-5, 1));
        assert_eq!(MOST.to_string(), "999999.9999");
        for amount in ["", "0", "-1", "1e3", "0.00001", "1000000", "1,5", "NaN", "99999999999999999999"] {
            assert!(change("increment", amount).is_err(), "{amount}");
        }
        assert!(change("", "1").is_err());
        assert!(change_of_balance(&form(&[("operation", "increment"), ("value", "10")])).is_err());
    }

    #[test]
    fn a_simulated_call_has_a_number_and_a_duration() {
        let ask = |number, duration| asked_call(&form(&[("number", number), ("duration", duration)]));
        assert_eq!(ask("+342654", "20").unwrap(), ("+342654".to_owned(), 20));
        for (number, duration) in
            [("342654", "20"), ("+", "20"), ("+34x", "20"), ("+34", "0"), ("+34", "86401"), ("+34", "")]
        {
            assert!(ask(number, duration).is_err(), "{number} {duration}");
        }
    }

    #[test]
    fn prices_are_listed_with_their_days() {
        let plan = RatingPlan { saturday: Some(false), sunday: None, ..RatingPlan::default() };
        assert_eq!(days(&plan), "1111100");
    }
}
