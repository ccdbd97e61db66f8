//! The demo's way to the world: a carrier that is a softphone, a call to it and one from it, with price and cost.
//!
//! In: the running node. Out: both call records, checked. Elsewhere: the rows that an operator would write (`model::outside`), the call
//! within (`super`).

use super::{PATIENCE, expect_event, start_phone, verdict, within};
use crate::cdrs::shown;
use crate::config::NodeConfig;
use crate::node::{Node, StartError};
use crate::tell;
use api::live::Who;
use model::outside::{self, DEMO_CARRIER, DEMO_DDIS};
use model::{CallDirection, Cdr, HungUpBy, Trunk};
use phone::{CallEvent, Phone, PhoneConfig, Source};
use sip::uri::Host;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use store::CdrQuery;
use tokio::time::{sleep, timeout};

/// What alice dials: a number in North America, as one dials it in Spain, and what that is everywhere.
const DIALLED: (&str, &str) = ("0012066418000", "+12066418000");
/// The number that the carrier's subscriber has.
const SUBSCRIBER: &str = "+12065550100";
const HERS: f32 = 480.0;
const THEIRS: f32 = 700.0;
const TALK: Duration = Duration::from_secs(2);

/// Starts the carrier, makes it known to the node, and lets a call go out and one come in.
pub(super) async fn checked_calls(
    node: &Node,
    server: SocketAddr,
    config: &NodeConfig,
) -> Result<(), StartError> {
    let trunk = config.trunks.listeners.first().map(|listener| listener.bind);
    let trunk = trunk.ok_or_else(|| StartError("the demo has no socket for trunks".to_owned()))?;
    let reachable = SocketAddr::new(server.ip(), trunk.port());
    let failed = |error: phone::PhoneError| StartError(format!("the carrier: {error}"));
    let carrier = PhoneConfig {
        username: SUBSCRIBER.to_owned(),
        password: String::new(),
        domain: match server.ip() {
            IpAddr::V4(ip) => Host::V4(ip).to_string(),
            IpAddr::V6(ip) => Host::V6(ip).to_string(),
        },
        server: reachable,
        tcp: false,
        bind: server.ip(),
    };
    let mut carrier = Phone::start(carrier).await.map_err(failed)?;
    let place = carrier.address();
    let made = node.live().change(None, &Who::system(), |draft| outside::add(draft, place)).await;
    made.map_err(|error| StartError(format!("the demo's way to the world: {error}")))?;
    is_known(node).await?;
    tell(&format!(
        "\nA carrier is at {place}: {DEMO_CARRIER}, a softphone. Rates, routes and two DDIs ({}, {}) are there.\n\
         alice dials {}.",
        DEMO_DDIS[0], DEMO_DDIS[1], DIALLED.0
    ));
    let out = outgoing(node, server, &mut carrier).await?;
    tell("");
    tell(&shown(&out));
    let told = out.externals.first();
    let is_carriers = told.is_some_and(|told| matches!(told.trunk, Some(Trunk::Carrier { .. })));
    let charges = told.and_then(|told| rating::charges(told, conversation(&out)).ok()).unwrap_or_default();
    let amount = |charged: Option<rating::Charged>| charged.map(|charged| charged.money().amount);
    let (price, cost) = (amount(charges.price), amount(charges.cost));
    let sum =
        |amount: Option<rust_decimal::Decimal>| amount.map_or("none".to_owned(), |amount| amount.to_string());
    verdict(&[
        (
            "the call left by the carrier",
            is_carriers && told.is_some_and(|told| told.callee.as_str() == DIALLED.1),
            told.map_or_else(String::new, |told| told.callee.to_string()),
        ),
        (
            "it shows the client's number",
            told.and_then(|told| told.caller).is_some_and(|caller| caller.as_str() == DEMO_DDIS[0]),
            told.and_then(|told| told.caller).map_or_else(String::new, |caller| caller.to_string()),
        ),
        (
            "it has a price, and a cost of half of that",
            price.zip(cost).is_some_and(|(price, cost)| !cost.is_zero() && price > cost),
            format!("price {}, cost {}", sum(price), sum(cost)),
        ),
    ])?;
    tell(&format!("\nThe carrier brings a call to {}.", DEMO_DDIS[1]));
    let (into, seen) = incoming(node, server, &carrier).await?;
    tell("");
    tell(&shown(&into));
    let told = into.externals.first();
    verdict(&[
        (
            "the call came by the DDI provider to bob",
            told.is_some_and(|told| {
                told.direction == CallDirection::Inbound
                    && matches!(told.trunk, Some(Trunk::DdiProvider(_)))
                    && told.endpoint.as_ref().is_some_and(|bob| bob.name == "102")
            }),
            told.and_then(|told| told.endpoint.as_ref()).map_or_else(String::new, |bob| bob.name.clone()),
        ),
        ("bob sees who calls, as one writes it in Spain", seen == "0012065550100", format!("caller {seen}")),
    ])
}

/// Waits until the proxy knows where the carrier is.
async fn is_known(node: &Node) -> Result<(), StartError> {
    let known = async {
        while !node
            .proxy
            .as_ref()
            .is_some_and(|proxy| proxy.trunk_states().servers.iter().any(|it| !it.targets.is_empty()))
        {
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    within("the proxy knows the carrier", known).await
}

async fn outgoing(node: &Node, server: SocketAddr, carrier: &mut Phone) -> Result<Cdr, StartError> {
    let before = node.store.cdr_count()?;
    let alice = start_phone("alice", server).await?;
    let mut hers =
        alice.call(DIALLED.0, Source::Tone(HERS)).await.map_err(|error| StartError(error.to_string()))?;
    expect_event(&mut hers, "alice hears that it rings outside", |event| {
        matches!(event, CallEvent::Ringing { .. })
    })
    .await?;
    let rings = async { carrier.incoming().await.ok_or_else(|| "it is off".to_owned()) };
    let mut theirs = within("the carrier gets the call", rings).await?;
    theirs.answer(Source::Tone(THEIRS));
    expect_event(&mut hers, "alice hears the carrier's answer", |event| *event == CallEvent::Answered)
        .await?;
    sleep(TALK).await;
    hers.hang_up();
    expect_event(&mut theirs, "the carrier hears the end", |event| matches!(event, CallEvent::Ended { .. }))
        .await?;
    within("alice's phone is unregistered", async {
        alice.register(0).await.map_err(|error| error.to_string())
    })
    .await?;
    let record = record(node, before).await?;
    match record.hung_up_by {
        HungUpBy::Caller => Ok(record),
        other => Err(StartError(format!("alice hung up, and the record says {other:?}"))),
    }
}

async fn incoming(node: &Node, server: SocketAddr, carrier: &Phone) -> Result<(Cdr, String), StartError> {
    let before = node.store.cdr_count()?;
    let mut bob = start_phone("bob", server).await?;
    let mut theirs = carrier
        .call(DEMO_DDIS[1], Source::Tone(THEIRS))
        .await
        .map_err(|error| StartError(error.to_string()))?;
    let rings = async { bob.incoming().await.ok_or_else(|| "it is off".to_owned()) };
    let mut his = within("bob's phone rings for a call from outside", rings).await?;
    let seen = his.caller.clone();
    his.answer(Source::Tone(HERS));
    expect_event(&mut theirs, "the carrier hears bob's answer", |event| *event == CallEvent::Answered)
        .await?;
    sleep(TALK).await;
    theirs.hang_up();
    expect_event(&mut his, "bob hears the end of it", |event| matches!(event, CallEvent::Ended { .. }))
        .await?;
    within("bob's phone is unregistered", async { bob.register(0).await.map_err(|error| error.to_string()) })
        .await?;
    Ok((record(node, before).await?, seen))
}

/// The record of the call just made. It is on its way when the last telephone knows of the end.
async fn record(node: &Node, before: u64) -> Result<Cdr, StartError> {
    let Some(calls) = &node.calls else { return Err(StartError("the demo has no calls".to_owned())) };
    timeout(PATIENCE, calls.idle()).await.map_err(|_| StartError("the call does not end".to_owned()))?;
    let until = Instant::now() + PATIENCE;
    while node.store.cdr_count()? == before && Instant::now() < until {
        sleep(Duration::from_millis(20)).await;
    }
    let query = CdrQuery { limit: 1, ..CdrQuery::default() };
    node.store.cdrs(&query)?.cdrs.pop().ok_or_else(|| StartError("there is no call record".to_owned()))
}

fn conversation(cdr: &Cdr) -> Option<Duration> {
    cdr.conversation_us().and_then(|us| u64::try_from(us).ok()).map(Duration::from_micros)
}
