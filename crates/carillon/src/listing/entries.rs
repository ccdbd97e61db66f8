//! What a call is in the lists of calls: an external call for each client that had one, and for each user and friend an own entry.
//!
//! In: a call's record, the rows of the configuration for names. Out: records of the API's tables (manual 9.6.2 and 10.1.14). Pure.
//! Elsewhere: prices by kept rates (`rating`), keeping the records (`listing`).

use jiff::Timestamp;
use model::define::choices::Direction;
use model::entities::{
    BillableCall, BillableCallEndpointType, BillableCallHangupBy, Carrier, Company, CompanyKind, Extension,
    Friend, SpecialNumber, User, UsersCdr, UsersCdrDisposition,
};
use model::rows::{Row, Rows};
use model::{CallDirection, Cdr, EndpointKind, ExternalCall, HungUpBy, Id, LegRole, MediaReport, Trunk};
use rating::{Charges, charges};
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use tracing::error;

/// Characters of names and numbers, as the tables have them.
const NUMBER: usize = 128;
const CALL_ID: usize = 255;
const CARRIER_NAME: usize = 200;
const DESTINATION_NAME: usize = 100;
const PLAN_NAME: usize = 55;
const ENDPOINT_NAME: usize = 65;
const CAUSE: usize = 100;
const ORIGIN: usize = 128;

/// A later word about a call takes the place of an earlier one, unless that is in an invoice; recordings stay counted.
pub(crate) fn takes(old: &Map<String, Json>, new: &mut Map<String, Json>) -> bool {
    let text =
        |row: &Map<String, Json>, field: &str| row.get(field).and_then(Json::as_str).map(str::to_owned);
    if !old.get("invoice").is_none_or(Json::is_null) || text(old, "originWord") >= text(new, "originWord") {
        return false;
    }
    if let Some(count) = old.get("numRecordings") {
        new.insert("numRecordings".to_owned(), count.clone());
    }
    true
}

/// The entries of a call. `word` orders what is said of one call; only a greater one replaces what is there.
pub(crate) fn entries(cdr: &Cdr, word: &str, rows: &Rows) -> Vec<Row> {
    let mut entries: Vec<Row> = Vec::new();
    // Only what was answered is listed as an external call (manual 9.6.2: its time is that "of the call establishment").
    if let Some(answered_us) = cdr.answered_us {
        for external in &cdr.externals {
            entries.push(Arc::new(billable(cdr, external, answered_us, word, rows)));
        }
    }
    if !leaves_no_trace(cdr, rows) {
        for owner in owners(cdr, rows) {
            entries.push(Arc::new(registered(cdr, &owner, word)));
        }
    }
    entries
}

/// Calls to special numbers are in no list (manual 8.9.1); they are no external calls of anybody.
fn leaves_no_trace(cdr: &Cdr, rows: &Rows) -> bool {
    let is_it = |row: &SpecialNumber| {
        row.disable_cdr == 1
            && row.brand.is_none_or(|brand| brand == cdr.brand)
            && row.number_e164.as_deref() == Some(&cdr.callee.number)
    };
    cdr.externals.is_empty() && cdr.callee.user.is_none() && rows.each::<SpecialNumber>().any(is_it)
}

fn billable(cdr: &Cdr, external: &ExternalCall, answered_us: i64, word: &str, rows: &Rows) -> BillableCall {
    let length = cdr.conversation_us().and_then(|us| u64::try_from(us).ok()).map(Duration::from_micros);
    let charges = charges(external, length).unwrap_or_else(|fault| {
        error!(call = cdr.call, %fault, "a call has no price: its record keeps no rate");
        Charges::default()
    });
    let (price, cost) = (charges.price.as_ref(), charges.cost.as_ref());
    let tariff = external.price.as_ref();
    let (carrier, ddi_provider) = match external.trunk {
        Some(Trunk::Carrier { carrier, .. }) => (Some(carrier), None),
        Some(Trunk::DdiProvider(provider)) => (None, Some(provider)),
        None => (None, None),
    };
    let details = json!({ "price": price.map(|it| it.details()), "cost": cost.map(|it| it.details()) });
    let (caller, callee) = (heard(cdr, LegRole::Caller), heard(cdr, LegRole::Answerer));
    let way = direction(external.direction);
    let destination = rows.at(tariff.map(|tariff| tariff.destination));
    let plan = rows.at(tariff.map(|tariff| tariff.plan));
    BillableCall {
        id: Id::new(0),
        callid: text(&external.sip_call_id, CALL_ID),
        start_time: moment(answered_us),
        duration: seconds(length),
        caller: external.caller.map(|number| number.to_string()),
        callee: Some(external.callee.to_string()),
        cost: cost.map(|it| it.money().amount),
        price: price.map(|it| it.money().amount),
        price_details: (price.is_some() || cost.is_some()).then_some(details),
        carrier_name: rows.at::<Carrier>(carrier).and_then(|it| text(&it.name, CARRIER_NAME)),
        destination_name: destination.and_then(|it| text(&it.name.en, DESTINATION_NAME)),
        rating_plan_name: plan.and_then(|it| text(&it.name.en, PLAN_NAME)),
        endpoint_type: external.endpoint.as_ref().map(|it| match it.kind {
            EndpointKind::User => BillableCallEndpointType::User,
            EndpointKind::Friend => BillableCallEndpointType::Friend,
            EndpointKind::ResidentialDevice => BillableCallEndpointType::ResidentialDevice,
            EndpointKind::RetailAccount => BillableCallEndpointType::RetailAccount,
            EndpointKind::Fax => BillableCallEndpointType::Fax,
        }),
        endpoint_id: external.endpoint.as_ref().map(|it| it.id),
        endpoint_name: external.endpoint.as_ref().and_then(|it| text(&it.name, ENDPOINT_NAME)),
        direction: way,
        num_recordings: 0,
        brand: Some(external.brand),
        company: Some(external.client),
        carrier,
        destination: tariff.map(|tariff| tariff.destination),
        rating_plan_group: tariff.map(|tariff| tariff.plan),
        invoice: None,
        ddi: external.ddi,
        ddi_provider,
        x_tag: external.x_tag.as_deref().and_then(|tag| text(tag, model::external::X_TAG_MAX)),
        hangup_by: Some(match cdr.hung_up_by {
            HungUpBy::Caller => BillableCallHangupBy::Caller,
            HungUpBy::Callee => BillableCallHangupBy::Callee,
            HungUpBy::Platform => BillableCallHangupBy::Platform,
        }),
        hangup_cause: text(format!("{} {}", cdr.cause.status, cdr.cause.text).trim_end(), CAUSE),
        attempts: (!external.attempts.is_empty()).then(|| attempts(external, rows)),
        mos_caller: caller.and_then(mos),
        mos_callee: callee.and_then(mos),
        loss_caller: caller.and_then(loss),
        loss_callee: callee.and_then(loss),
        jitter_caller: caller.map(jitter),
        jitter_callee: callee.map(jitter),
        node: Some(u32::from(cdr.node)).filter(|node| *node != 0),
        relay: cdr.relay.map(u32::from),
        origin: origin(cdr, way, &external.client.to_string()),
        origin_word: Some(word.to_owned()),
    }
}

fn attempts(external: &ExternalCall, rows: &Rows) -> Json {
    let told = |attempt: &model::CarrierAttempt| {
        json!({
            "carrier": attempt.carrier.get(),
            "name": rows.get(attempt.carrier).map(|it| it.name.as_str()),
            "server": attempt.server.get(),
            "status": attempt.status,
        })
    };
    external.attempts.iter().map(told).collect()
}

/// Whose entry it is.
struct Owner {
    company: Id<Company>,
    user: Option<Id<User>>,
    friend: Option<Id<Friend>>,
    extension: Option<Id<Extension>>,
    name: String,
    way: Direction,
    caller: String,
    callee: String,
    /// What tells it from the call's other entries.
    key: String,
}

/// The users and friends of virtual PBX clients that made or received the call, each once.
fn owners(cdr: &Cdr, rows: &Rows) -> Vec<Owner> {
    let mut owners: Vec<Owner> = Vec::new();
    let external = |way: CallDirection| cdr.externals.iter().find(|it| it.direction == way);
    let (leaves, comes) = (external(CallDirection::Outbound), external(CallDirection::Inbound));
    let shown = |it: &ExternalCall| it.caller.map_or_else(String::new, |number| number.to_string());
    let dialled = if cdr.callee.number.is_empty() { &cdr.dialed } else { &cdr.callee.number };
    let numbers = |way: Direction| match way {
        Direction::Outbound => {
            let callee = leaves.map_or_else(|| dialled.clone(), |it| it.callee.to_string());
            (cdr.caller.number.clone(), callee)
        }
        Direction::Inbound => (comes.map_or_else(|| cdr.caller.number.clone(), shown), dialled.clone()),
    };
    let mut add = |company, user: Option<Id<User>>, friend: Option<Id<Friend>>, way: Direction| {
        let is_pbx = rows.get::<Company>(company).is_some_and(|it| it.kind == CompanyKind::Vpbx);
        let (key, extension, name) = if let Some((id, row)) = user.and_then(|id| Some((id, rows.get(id)?))) {
            (format!("user/{id}"), row.extension, format!("{} {}", row.name, row.lastname))
        } else if let Some((id, row)) = friend.and_then(|id| Some((id, rows.get(id)?))) {
            (format!("friend/{id}"), None, row.name.clone())
        } else {
            return;
        };
        if is_pbx && !owners.iter().any(|owner| owner.key == key && owner.way == way) {
            let (caller, callee) = numbers(way);
            owners.push(Owner { company, user, friend, extension, name, way, caller, callee, key });
        }
    };
    for (party, way) in [(&cdr.caller, Direction::Outbound), (&cdr.callee, Direction::Inbound)] {
        if let Some(company) = rows.at(party.user).map(|user| user.company) {
            add(company, party.user, None, way);
        }
    }
    for external in &cdr.externals {
        let Some(endpoint) = &external.endpoint else { continue };
        let way = direction(external.direction);
        match endpoint.kind {
            EndpointKind::User => add(external.client, Some(Id::new(endpoint.id)), None, way),
            EndpointKind::Friend => add(external.client, None, Some(Id::new(endpoint.id)), way),
            EndpointKind::ResidentialDevice | EndpointKind::RetailAccount | EndpointKind::Fax => {}
        }
    }
    owners
}

fn registered(cdr: &Cdr, owner: &Owner, word: &str) -> UsersCdr {
    let of_caller = matches!(owner.way, Direction::Outbound);
    let roles: &[LegRole] =
        if of_caller { &[LegRole::Caller] } else { &[LegRole::Answerer, LegRole::Callee] };
    let leg = roles.iter().find_map(|role| cdr.legs.iter().find(|leg| leg.role == *role));
    let length = cdr.conversation_us().and_then(|us| u64::try_from(us).ok()).map(Duration::from_micros);
    UsersCdr {
        id: Id::new(0),
        start_time: moment(cdr.started_us),
        duration: seconds(length),
        direction: Some(owner.way),
        caller: text(&owner.caller, NUMBER),
        callee: text(&owner.callee, NUMBER),
        owner: text(owner.name.trim(), NUMBER),
        callid: leg.and_then(|leg| text(&leg.sip_call_id, CALL_ID)),
        brand_id: Some(cdr.brand.get()),
        disposition: Some(match (cdr.answered_us, cdr.cause.status) {
            (Some(_), _) => UsersCdrDisposition::Answered,
            // RFC 3261 section 21: busy here, busy everywhere, decline.
            (None, 486 | 600 | 603) => UsersCdrDisposition::Busy,
            // Nobody answered in time, nobody is there, or the caller gave up.
            (None, 408 | 480 | 487) => UsersCdrDisposition::Missed,
            (None, _) => UsersCdrDisposition::Error,
        }),
        num_recordings: 0,
        company: Some(owner.company),
        user: owner.user,
        friend: owner.friend,
        extension: owner.extension,
        origin: origin(cdr, owner.way, &owner.key),
        origin_word: Some(word.to_owned()),
    }
}

fn direction(way: CallDirection) -> Direction {
    match way {
        CallDirection::Outbound => Direction::Outbound,
        CallDirection::Inbound => Direction::Inbound,
    }
}

/// What an entry was made of: the call, the way it went for its owner, the owner.
fn origin(cdr: &Cdr, way: Direction, whose: &str) -> Option<String> {
    let way = match way {
        Direction::Outbound => "out",
        Direction::Inbound => "in",
    };
    text(&format!("{} {way} {whose}", cdr.call), ORIGIN)
}

/// What the relay heard from a side.
fn heard(cdr: &Cdr, role: LegRole) -> Option<&MediaReport> {
    cdr.legs.iter().find(|leg| leg.role == role)?.media.as_ref()
}

fn mos(media: &MediaReport) -> Option<Decimal> {
    media.mos_hundredths.map(|hundredths| Decimal::new(hundredths.into(), 2))
}

/// In percent of what was sent.
fn loss(media: &MediaReport) -> Option<Decimal> {
    let sent = Decimal::from(media.packets_received).checked_add(media.lost.into())?;
    let percent = Decimal::from(media.lost).checked_mul(Decimal::ONE_HUNDRED)?.checked_div(sent)?;
    Some(percent.round_dp(2))
}

fn jitter(media: &MediaReport) -> Decimal {
    Decimal::new(media.jitter_us.into(), 3)
}

/// To the millisecond; 0 where nobody talked.
fn seconds(length: Option<Duration>) -> f64 {
    let ms = length.map_or(0, |length| length.as_millis());
    u32::try_from(ms).map_or_else(|_| length.unwrap_or_default().as_secs_f64(), |ms| f64::from(ms) / 1000.0)
}

fn moment(unix_us: i64) -> Timestamp {
    Timestamp::from_microsecond(unix_us).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// As many characters as a field takes; nothing for an empty text.
fn text(whole: &str, max: usize) -> Option<String> {
    (!whole.is_empty()).then(|| whole.chars().take(max).collect())
}
