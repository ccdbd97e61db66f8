//! A way to the world for the demo's client: a carrier, a DDI provider, two DDIs, rates.
//!
//! In: the demo's rows ([`crate::seed`]), where the carrier is. Out: rows, made by the rules as an operator would make them. For the
//! demo, tests and benchmarks. Manual, chapters 6 and 7: the same steps in the same order.

use crate::define::Translated;
use crate::draft::Draft;
use crate::entities::{
    Brand, Carrier, CarrierServer, Company, CompanyBillingMethod, Country, Ddi, DdiKind, DdiProvider,
    DdiProviderAddress, DdiRouteType, Destination, DestinationRate, DestinationRateGroup, OutgoingRouting,
    OutgoingRoutingKind, OutgoingRoutingMode, ProxyTrunk, ProxyTrunksRelBrand, RatingPlan, RatingPlanGroup,
    RatingPlanTimingType, RatingProfile, RoutingPattern, TransformationRuleSet, User,
};
use crate::id::Id;
use crate::rules::Refusal;
use jiff::Timestamp;
use rust_decimal::Decimal;
use std::net::SocketAddr;

/// The name of the demo's carrier and of its DDI provider.
pub const DEMO_CARRIER: &str = "DemoCarrier";
/// Put before called numbers for the demo's carrier, which knows the platform by it (a "tech prefix").
pub const DEMO_TECH_PREFIX: &str = "12345678*";
/// The numbers of the demo's client: the first leads to alice and is shown by everybody, the second leads to bob.
pub const DEMO_DDIS: [&str; 2] = ["+34911234501", "+34911234502"];

/// Gives the first client of the demo a way to the world by a carrier at this address, which is its DDI provider, too. Called
/// again, it only takes the carrier to another address.
///
/// # Errors
///
/// When the rows are not the demo's.
pub fn add(draft: &mut Draft<'_>, carrier: SocketAddr) -> Result<(), Refusal> {
    let known = draft.rows().each::<Carrier>().find(|row| row.name == DEMO_CARRIER).map(|row| row.id);
    if let Some(known) = known {
        return move_to(draft, known, carrier);
    }
    let missing = |what: &str| Refusal::Coded { status: 500, message: format!("the demo has no {what}") };
    let brand = draft.rows().each::<Brand>().next().map(|brand| brand.id).ok_or_else(|| missing("brand"))?;
    let company = draft.rows().each::<Company>().next().map(|row| row.id).ok_or_else(|| missing("client"))?;
    let by_code = |code: &'static str| move |row: &&Country| row.code == code;
    let spain = draft.rows().each::<Country>().find(by_code("ES")).map(|row| row.id);
    let numbering =
        draft.rows().each::<TransformationRuleSet>().find(|row| row.name.en == "E.164").map(|row| row.id);
    let trunk = draft.rows().each::<ProxyTrunk>().next().map(|row| row.id);
    let trunk = match trunk {
        Some(trunk) => trunk,
        None => draft.create(ProxyTrunk { ip: "127.0.0.1".to_owned(), ..ProxyTrunk::default() })?,
    };
    draft.create(ProxyTrunksRelBrand { brand, proxy_trunk: trunk, ..ProxyTrunksRelBrand::default() })?;

    // Whom calls come from.
    let provider = draft.create(DdiProvider {
        name: DEMO_CARRIER.to_owned(),
        brand,
        transformation_rule_set: numbering,
        proxy_trunk: Some(trunk),
        ..DdiProvider::default()
    })?;
    draft.create(DdiProviderAddress {
        ip: Some(carrier.ip().to_string()),
        ddi_provider: provider,
        ..DdiProviderAddress::default()
    })?;
    let users: Vec<Id<User>> = draft.rows().each::<User>().map(|user| user.id).take(2).collect();
    for (number, user) in DEMO_DDIS.iter().zip(users) {
        let ddi = draft.create(Ddi {
            ddi: number.trim_start_matches("+34").to_owned(),
            country: spain,
            kind: DdiKind::Inout,
            company: Some(company),
            brand,
            route_type: Some(DdiRouteType::User),
            user: Some(user),
            ddi_provider: Some(provider),
            ..Ddi::default()
        })?;
        if *number == DEMO_DDIS[0] {
            draft.change(company, |row| {
                row.outgoing_ddi = Some(ddi);
                row.billing_method = CompanyBillingMethod::Postpaid;
            })?;
        }
    }

    // Where calls go.
    let way = draft.create(Carrier {
        name: DEMO_CARRIER.to_owned(),
        brand,
        calculate_cost: Some(true),
        transformation_rule_set: numbering,
        proxy_trunk: Some(trunk),
        ..Carrier::default()
    })?;
    draft.create(CarrierServer {
        sip_proxy: Some(carrier.to_string()),
        send_pai: Some(true),
        carrier: way,
        brand,
        ..CarrierServer::default()
    })?;
    for code in ["+1", "+34"] {
        let pattern =
            draft.rows().each::<RoutingPattern>().find(|row| row.brand == brand && row.prefix == code);
        let pattern = pattern.map(|row| row.id).ok_or_else(|| missing("routing pattern"))?;
        draft.create(OutgoingRouting {
            kind: Some(OutgoingRoutingKind::Pattern),
            routing_pattern: Some(pattern),
            routing_mode: Some(OutgoingRoutingMode::Static),
            carrier: Some(way),
            prefix: Some(DEMO_TECH_PREFIX.to_owned()),
            priority: 1,
            weight: 1,
            brand,
            ..OutgoingRouting::default()
        })?;
    }

    // What they cost: the client pays twice what the carrier takes.
    let price = plan(draft, brand, "Demo prices", 2)?;
    let cost = plan(draft, brand, "Demo costs", 1)?;
    let since = Timestamp::UNIX_EPOCH;
    draft.create(RatingProfile {
        activation_time: since,
        company: Some(company),
        rating_plan_group: price,
        ..RatingProfile::default()
    })?;
    draft.create(RatingProfile {
        activation_time: since,
        carrier: Some(way),
        rating_plan_group: cost,
        ..RatingProfile::default()
    })?;
    Ok(())
}

fn move_to(draft: &mut Draft<'_>, carrier: Id<Carrier>, address: SocketAddr) -> Result<(), Refusal> {
    let servers = draft.rows().of::<CarrierServer>("carrier", carrier.get()).map(|row| row.id);
    for server in servers.collect::<Vec<_>>() {
        draft.change(server, |row| row.sip_proxy = Some(address.to_string()))?;
    }
    let addresses = draft.rows().each::<DdiProviderAddress>().map(|row| row.id);
    for own in addresses.collect::<Vec<_>>() {
        draft.change(own, |row| row.ip = Some(address.ip().to_string()))?;
    }
    Ok(())
}

/// A rating plan with rates to North America and Spain: connection and minute in hundredths, times this.
fn plan(
    draft: &mut Draft<'_>,
    brand: Id<Brand>,
    name: &str,
    times: i64,
) -> Result<Id<RatingPlanGroup>, Refusal> {
    let list = draft.create(DestinationRateGroup {
        name: Translated::same(name),
        description: Translated::same(name),
        brand,
        ..DestinationRateGroup::default()
    })?;
    for (prefix, what, connection, minute) in [("+1", "North America", 1, 3), ("+34", "Spain", 0, 2)] {
        let known = draft.rows().each::<Destination>().find(|row| row.brand == brand && row.prefix == prefix);
        let destination = match known.map(|row| row.id) {
            Some(known) => known,
            None => draft.create(Destination {
                prefix: prefix.to_owned(),
                name: Translated::same(what),
                brand,
                ..Destination::default()
            })?,
        };
        draft.create(DestinationRate {
            connect_fee: Decimal::new(connection * times, 2),
            cost: Decimal::new(minute * times, 2),
            rate_increment: "1s".to_owned(),
            group_interval_start: "0s".to_owned(),
            destination_rate_group: list,
            destination,
            ..DestinationRate::default()
        })?;
    }
    let plan = draft.create(RatingPlanGroup {
        name: Translated::same(name),
        description: Translated::same(name),
        brand,
        ..RatingPlanGroup::default()
    })?;
    draft.create(RatingPlan {
        weight: Decimal::TEN,
        timing_type: Some(RatingPlanTimingType::Always),
        rating_plan_group: plan,
        destination_rate_group: list,
        ..RatingPlan::default()
    })?;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::Env;
    use crate::testing::{PlainHasher, change_on, now};

    #[test]
    fn the_demo_gets_a_way_to_the_world_once_and_can_be_moved() {
        let env = Env { now: now(), level: None, hasher: &PlainHasher, random: &|| 4, is_over: &|| false };
        let (rows, _) = crate::seed::fresh("hush", true, &env).unwrap();
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let ((), rows, _) = change_on(&rows, |draft| add(draft, at(5070))).unwrap();
        let numbers: Vec<_> = rows.each::<Ddi>().filter_map(|ddi| ddi.ddie164.as_deref()).collect();
        assert_eq!(numbers, DEMO_DDIS);
        let ((), rows, changes) = change_on(&rows, |draft| add(draft, at(5090))).unwrap();
        assert_eq!(changes.len(), 1);
        let server = rows.each::<CarrierServer>().next().unwrap();
        assert_eq!((server.sip_proxy.as_deref(), server.port), (Some("127.0.0.1:5090"), Some(5090)));
    }
}
