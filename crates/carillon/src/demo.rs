//! `carillon demo`: a node with demo data, and a checked call between two built-in softphones.
//!
//! In: the options of the README's first screen. Out: a call within as a ladder, one to the world and one from there, its record, instructions; exit code 0 only when
//! everything was as it should be. Elsewhere: the node (`node`), the softphones (crate `phone`).

mod outside;

use crate::cdrs::shown;
use crate::config::{ListenerConfig, NodeConfig, PORTS_REMEDY, parse_ports};
use crate::node::{Node, StartError, Users};
use crate::{Ending, logging, tell};
use model::{Cdr, HungUpBy, seed};
use phone::{CallEvent, Phone, PhoneCall, PhoneConfig, Source, Traced, ladder};
use sip::flow::Transport;
use std::fs::Permissions;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::CdrQuery;
use tokio::time::{sleep, timeout};

/// What `carillon demo` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// End after the checked call; the exit code says whether everything was as it should be.
    #[arg(long, conflicts_with = "no_call")]
    once: bool,
    /// Only start the node.
    #[arg(long)]
    no_call: bool,
    /// Where SIP is heard, UDP and TCP.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:5060")]
    sip: SocketAddr,
    /// UDP ports of the relay.
    #[arg(long, value_name = "FROM-TO", default_value = "13000-19000", value_parser = ports)]
    media_ports: (u16, u16),
    /// Where the REST API is served; 127.0.0.1:8080 unless told otherwise, or another port where that one is taken.
    #[arg(long, value_name = "ADDR:PORT")]
    api: Option<SocketAddr>,
    /// Keep data there instead of in a temporary directory.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    parse_ports(text).ok_or_else(|| PORTS_REMEDY.to_owned())
}

const DOMAIN: &str = "users.democlient.com";
const ALICE_HZ: f32 = 440.0;
const BOB_HZ: f32 = 620.0;
/// How long the two listen to each other.
const TALK: Duration = Duration::from_secs(4);
/// The tone must be nearly all of what is heard: loss or another call's audio would spoil it.
const PURE: f64 = 0.95;
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the demonstration.
pub(crate) async fn run(arguments: Arguments) -> Result<(), StartError> {
    logging::start("warn", false);
    // From here on Ctrl-C leaves nothing behind.
    let mut ending = Ending::listen()?;
    demonstrate(&arguments, &std::env::temp_dir(), &mut ending).await
}

/// `temporary` is where a directory for the data is made, and removed, unless one is named.
async fn demonstrate(arguments: &Arguments, temporary: &Path, ending: &mut Ending) -> Result<(), StartError> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("carillon-demo-").permissions(Permissions::from_mode(0o700));
    let (data, _removed_at_the_end) = match &arguments.data {
        Some(data) => (data.clone(), None),
        None => {
            let made = builder.tempdir_in(temporary)?;
            (made.path().to_path_buf(), Some(made))
        }
    };
    let config = node_config(arguments, data)?;
    if config.is_local() && config.api.is_none_or(|api| api.ip().is_loopback()) {
        tell(
            "The demo's passwords are known to everybody, so it listens on loopback only; --sip and --api name other addresses.",
        );
    } else {
        tell(
            "WARNING: this address may face a network, and the demo's passwords (alice/alice, bob/bob, admin/changeme) are known to everybody.",
        );
    }
    let node = Node::start(&config, Users::Demo).await?;
    let outcome = with_node(&node, arguments, &config, ending).await;
    node.stop(ending.comes_again()).await;
    outcome
}

async fn with_node(
    node: &Node,
    arguments: &Arguments,
    config: &NodeConfig,
    ending: &mut Ending,
) -> Result<(), StartError> {
    let server = sip_address(node, arguments.sip);
    tell(&format!(
        "Carillon is up: SIP {server} (UDP and TCP), media ports {}-{}.",
        config.media.ports.0, config.media.ports.1
    ));
    if let Some(api) = node.api_address() {
        tell(&format!(
            "REST API: http://{api}/api/platform/docs, user name admin, password {}.",
            seed::DEMO_PASSWORD
        ));
    }
    if !arguments.no_call {
        tokio::select! {
            biased;
            () = ending.comes() => {
                tell("Stopping, before the call was checked.");
                let unchecked = || StartError("ended before the call was checked".to_owned());
                return if arguments.once { Err(unchecked()) } else { Ok(()) };
            }
            checked = checked_calls(node, server, config) => checked?,
        }
    }
    if !arguments.once {
        tell(&how_to_connect(server));
        ending.comes().await;
        tell("Stopping.");
    }
    Ok(())
}

fn node_config(arguments: &Arguments, data: PathBuf) -> Result<NodeConfig, StartError> {
    let mut config = NodeConfig { data, ..NodeConfig::default() };
    let mut address = arguments.sip;
    if address.port() == 0 {
        address = free_for_both(address.ip()).map_err(|error| {
            StartError(format!("--sip {address}: {error}; name an address of this machine"))
        })?;
    }
    // An unspecified address cannot be told to phones; the first softphone to be pointed here is on this machine.
    let advertise = address.ip().is_unspecified().then(|| own_address().to_string());
    for transport in [Transport::Udp, Transport::Tcp] {
        config.listeners.push(ListenerConfig {
            transport,
            bind: address,
            advertise: advertise.clone(),
            trunk: None,
        });
    }
    // Two phones and a few visitors; open files may be scarce.
    config.limits.tcp_connections = 100;
    config.media.ports = arguments.media_ports;
    config.media.addresses = vec![address.ip()];
    config.media.advertise = advertise.as_deref().and_then(|text| text.parse().ok());
    // Trunks have a socket of their own: the demo's carrier is on this machine, as its telephones are.
    let trunk = SocketAddr::new(address.ip(), free_for_both(address.ip())?.port());
    config.trunks.listeners.push(ListenerConfig {
        transport: Transport::Udp,
        bind: trunk,
        advertise,
        trunk: Some(1),
    });
    config.api = Some(arguments.api.unwrap_or_else(api_address));
    Ok(config)
}

/// Where the API is served when nobody says so.
fn api_address() -> SocketAddr {
    const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
    if TcpListener::bind(USUAL).is_ok() { USUAL } else { SocketAddr::new(USUAL.ip(), 0) }
}

/// A port that neither UDP nor TCP has in use: what is told as one address must be one.
fn free_for_both(ip: IpAddr) -> io::Result<SocketAddr> {
    const ATTEMPTS: u32 = 100;
    let attempt = || {
        let udp = UdpSocket::bind((ip, 0))?;
        TcpListener::bind(udp.local_addr()?)?.local_addr()
    };
    (1..ATTEMPTS).map(|_| attempt()).find(Result::is_ok).unwrap_or_else(attempt)
}

/// The address that this machine would use towards a network; loopback when there is none. Sends nothing.
fn own_address() -> IpAddr {
    let probe = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?; // a documentation address (RFC 5737)
        Some(socket.local_addr().ok()?.ip())
    };
    probe().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Where the demo's own phones reach the node.
fn sip_address(node: &Node, wanted: SocketAddr) -> SocketAddr {
    let udp = node.sip_addresses().into_iter().find(|(transport, _)| *transport == Transport::Udp);
    let mut address = udp.map_or(wanted, |(_, address)| address);
    if address.ip().is_unspecified() {
        address.set_ip(own_address());
    }
    address
}

async fn checked_calls(node: &Node, server: SocketAddr, config: &NodeConfig) -> Result<(), StartError> {
    checked_call(node, server).await?;
    outside::checked_calls(node, server, config).await
}

async fn checked_call(node: &Node, server: SocketAddr) -> Result<(), StartError> {
    let calls_before = node.store.cdr_count()?;
    let alice = start_phone("alice", server).await?;
    let mut bob = start_phone("bob", server).await?;
    tell("alice and bob are registered. alice calls 102; each plays a tone and listens for the other's.");

    let mut hers =
        alice.call("102", Source::Tone(ALICE_HZ)).await.map_err(|error| StartError(error.to_string()))?;
    // What becomes of her call tells why his phone does not ring.
    let rings = |event: &CallEvent| matches!(event, CallEvent::Ringing { .. });
    expect_event(&mut hers, "alice hears that it rings", rings).await?;
    let incoming = async { bob.incoming().await.ok_or_else(|| "it is off".to_owned()) };
    let mut his = within("bob's phone rings", incoming).await?;
    his.answer(Source::Tone(BOB_HZ));
    expect_event(&mut hers, "alice hears the answer", |event| *event == CallEvent::Answered).await?;
    expect_event(&mut his, "bob's answer is acknowledged", |event| *event == CallEvent::Answered).await?;
    sleep(TALK).await;
    let at_bob = his.heard().purity(ALICE_HZ, 2.0);
    let at_alice = hers.heard().purity(BOB_HZ, 2.0);
    let packets = (hers.heard().packets(), his.heard().packets());
    hers.hang_up();
    expect_event(&mut his, "bob hears the end", |event| {
        matches!(event, CallEvent::Ended { by_peer: true, .. })
    })
    .await?;

    let caller_id = his.caller.clone();
    let cdr = newest_record(node, calls_before).await?;
    let mut messages: Vec<Traced> = alice.trace();
    messages.extend(bob.trace());
    let of_the_call = |message: &Traced| cdr.legs.iter().any(|leg| leg.sip_call_id == message.call_id);
    messages.retain(of_the_call);
    tell("");
    tell(&ladder("alice", "carillon", "bob", &messages));
    tell(&shown(&cdr));
    let checks = [
        (
            "bob hears alice's tone",
            at_bob >= PURE,
            format!("{ALICE_HZ} Hz, {:.1} % of what he heard", at_bob * 100.0),
        ),
        (
            "alice hears bob's tone",
            at_alice >= PURE,
            format!("{BOB_HZ} Hz, {:.1} % of what she heard", at_alice * 100.0),
        ),
        (
            "audio went both ways",
            packets.0 > 100 && packets.1 > 100,
            format!("{} and {} packets", packets.0, packets.1),
        ),
        ("bob sees alice's extension", caller_id == "101", format!("caller {caller_id}")),
        (
            "the call record is right",
            record_is_right(&cdr),
            format!("{} {}", cdr.cause.status, cdr.cause.text),
        ),
        (
            "every message of the call is on the ladder",
            messages.len() >= 14,
            format!("{} messages", messages.len()),
        ),
    ];
    verdict(&checks)?;
    for (what, phone) in [("alice's phone is unregistered", &alice), ("bob's phone is unregistered", &bob)] {
        within(what, async { phone.register(0).await.map_err(|error| error.to_string()) }).await?;
    }
    Ok(())
}

/// Tells what was checked; an error where something is not as it should be.
fn verdict(checks: &[(&str, bool, String)]) -> Result<(), StartError> {
    tell("");
    for (what, good, measured) in checks {
        tell(&format!("{}  {what}: {measured}", if *good { "ok    " } else { "FAILED" }));
    }
    match checks.iter().find(|(_, good, _)| !good) {
        None => Ok(()),
        Some((what, ..)) => Err(StartError(format!("not as it should be: {what}"))),
    }
}

fn record_is_right(cdr: &Cdr) -> bool {
    let talked = cdr.conversation_us().unwrap_or(0);
    let expected = i64::try_from(TALK.as_micros()).unwrap_or(0);
    cdr.caller.number == "101"
        && cdr.callee.number == "102"
        && cdr.hung_up_by == HungUpBy::Caller
        && cdr.cause.status == 200
        && talked >= expected
        && cdr.legs.iter().all(|leg| leg.media.is_some_and(|media| media.packets_received > 100))
}

async fn start_phone(name: &str, server: SocketAddr) -> Result<Phone, StartError> {
    let bind = if server.ip().is_loopback() || server.is_ipv6() { server.ip() } else { own_address() };
    let config = PhoneConfig {
        username: name.to_owned(),
        password: name.to_owned(),
        domain: DOMAIN.to_owned(),
        server,
        tcp: false,
        bind,
    };
    let failed = |error: phone::PhoneError| StartError(format!("{name}'s phone: {error}"));
    let phone = Phone::start(config).await.map_err(failed)?;
    phone.register(300).await.map_err(failed)?;
    Ok(phone)
}

/// What is waited for, or why it does not come.
async fn within<T>(what: &str, event: impl Future<Output = Result<T, String>>) -> Result<T, StartError> {
    let why = match timeout(PATIENCE, event).await {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(why)) => why,
        Err(_) => format!("nothing came for {} s", PATIENCE.as_secs()),
    };
    Err(StartError(format!("waited in vain for: {what}; {why}")))
}

async fn expect_event(
    call: &mut PhoneCall,
    what: &str,
    wanted: impl Fn(&CallEvent) -> bool,
) -> Result<(), StartError> {
    let event = async {
        let mut ended = "the call is over".to_owned();
        while let Some(event) = call.next().await {
            if wanted(&event) {
                return Ok(());
            }
            if let CallEvent::Ended { status, .. } = event {
                ended = format!("the call ended with status {status}");
            }
        }
        Err(ended)
    };
    within(what, event).await
}

/// The record of the call just made: exactly one more than before.
async fn newest_record(node: &Node, before: u64) -> Result<Cdr, StartError> {
    let Some(calls) = &node.calls else { return Err(StartError("the demo has no calls".to_owned())) };
    timeout(PATIENCE, calls.idle()).await.map_err(|_| StartError("the call does not end".to_owned()))?;
    let count = node.store.cdr_count()? - before;
    let query = CdrQuery { limit: 1, ..CdrQuery::default() };
    match (count, node.store.cdrs(&query)?.cdrs.pop()) {
        (1, Some(cdr)) => Ok(cdr),
        (count, _) => Err(StartError(format!("{count} call records instead of one"))),
    }
}

fn how_to_connect(server: SocketAddr) -> String {
    format!(
        "\nThe node keeps running. Point a softphone at it:\n\
         \n    user      alice, or bob on another phone\
         \n    password  the same as the user\
         \n    domain    {DOMAIN}\
         \n    proxy     {server}   (outbound proxy; UDP or TCP)\
         \n\
         \nWithout a field for the proxy, use {server} as the domain. alice is 101, bob is 102.\
         \nWith baresip: `echo '<sip:alice@{DOMAIN};transport=udp>;auth_pass=alice;outbound=\"sip:{server}\"' >> ~/.baresip/accounts`\
         \nA second phone without any installation: `cargo run --release -- phone --user bob --password bob --server {server} --answer`\
         \nCtrl-C stops the node."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn arguments(line: &str) -> Arguments {
        Line::parse_from(format!("demo --api 127.0.0.1:0 {line}").split(' ')).arguments
    }

    #[tokio::test]
    async fn a_call_that_fails_says_with_which_status() {
        // Somebody else has every port of the relay.
        const IP: Ipv4Addr = Ipv4Addr::new(127, 99, 1, 1);
        let _taken: Vec<UdpSocket> =
            (23_000..=23_004).map(|port| UdpSocket::bind((IP, port)).unwrap()).collect();
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments(&format!("--once --sip {IP}:0 --media-ports 23000-23004"));
        let mut ending = Ending::listen().unwrap();
        let StartError(text) = demonstrate(&arguments, folder.path(), &mut ending).await.unwrap_err();
        assert!(text.ends_with("alice hears that it rings; the call ended with status 503"), "{text}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn ctrl_c_during_the_call_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        for (line, good) in [("", true), ("--once ", false)] {
            let arguments = arguments(&format!("{line}--sip 127.99.1.2:0 --media-ports 23000-23099"));
            let mut ending = Ending::come().unwrap();
            let outcome = demonstrate(&arguments, folder.path(), &mut ending).await;
            assert_eq!(outcome.is_ok(), good, "{outcome:?}");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[tokio::test]
    async fn a_port_of_the_systems_choice_is_one_for_udp_and_tcp() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments("--no-call --sip 127.99.1.3:0");
        let config = node_config(&arguments, folder.path().join("data")).unwrap();
        let node = Node::start(&config, Users::Demo).await.unwrap();
        let mut heard = node.sip_addresses();
        assert_eq!(heard.len(), 3);
        let trunk = heard.pop().map(|(_, address)| address);
        assert_eq!(trunk, config.trunks.listeners.first().map(|listener| listener.bind));
        assert!(heard.iter().all(|(_, address)| *address == sip_address(&node, arguments.sip)), "{heard:?}");
        node.stop(std::future::pending()).await;
    }
}
