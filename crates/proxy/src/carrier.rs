//! Legs that leave the platform: what an INVITE to a carrier's server says, and legs to endpoints that do not register.
//!
//! In: an order, the row of the server or endpoint. Out: addresses, identity headers, credentials. Manual, chapters 9.2.1 "Carrier
//! Servers" and 9.1.1 "Direct connectivity". Elsewhere: where a server is and whether it answers (`trunks`), how numbers are written
//! for it (crate `routing`).

use crate::Shared;
use crate::config::Place;
use crate::identity::{ANONYMOUS, push_diversions};
use crate::legs::{address, name_addr};
use cluster::leg::Originate;
use model::define::choices::YesNo;
use model::entities::CarrierServer;
use model::{DirectAddress, Id, Snapshot};
use sip::digest::{Client as Credentials, Login};
use sip::draft::HeaderText;
use sip::flow::Transport;
use sip::uri::UriBuf;

/// URI schemes of carrier servers as the rows number them.
const SIPS: u16 = 2;

/// What an INVITE to a carrier's server says.
pub(crate) struct Said {
    /// The Request-URI.
    pub(crate) target: String,
    pub(crate) from: String,
    pub(crate) to: String,
    /// Identity, privacy, diversions.
    pub(crate) headers: HeaderText,
}

/// What an INVITE of this order says to a server. `place` is the socket that it leaves by.
///
/// The caller's number stands in From, unless the server wants an account there, and in P-Asserted-Identity and Remote-Party-ID where
/// the server is told by them. Of a caller who does not want to be shown nothing stands in From, and the other two say that it is to
/// be kept from others (RFC 3323 section 4.1.1.3, RFC 3325 section 9.3); a server that gets neither is not told the number at all.
pub(crate) fn said(order: &Originate, server: &CarrierServer, place: &Place) -> Said {
    let hostname = server.hostname.as_deref().unwrap_or_default();
    let proxy = server.sip_proxy.as_deref().filter(|proxy| !proxy.is_empty()).unwrap_or(hostname);
    let is_sips = server.uri_scheme == Some(SIPS);
    let at_server = |number: &str| {
        let uri = address(number, proxy);
        match is_sips {
            true => uri.replacen("sip:", "sips:", 1),
            false => uri,
        }
    };
    let own = server.from_domain.as_deref().filter(|domain| !domain.is_empty()).unwrap_or(&place.host);
    let account = server.from_user.as_deref().filter(|user| !user.is_empty());
    let number = address(&order.caller_number, own);
    let identity = name_addr(if order.is_private { "" } else { &order.caller_name }, &number);
    let from = match account {
        Some(account) => name_addr("", &address(account, own)),
        None if order.is_private => ANONYMOUS.to_owned(),
        None => identity.clone(),
    };
    let mut target = at_server(&order.called_number);
    let to = format!("<{target}>");
    let transport = transport_of(server);
    if transport != Transport::Udp && !is_sips {
        target = format!("{target};transport={}", transport.param_token());
    }
    let mut headers = HeaderText::new();
    headers.push_fmt("Max-Forwards", format_args!("{}", order.max_forwards));
    let is_known = !order.caller_number.is_empty();
    if is_known && server.send_pai == Some(true) {
        headers.push("P-Asserted-Identity", &identity);
    }
    if is_known && server.send_rpid == Some(true) {
        let privacy = if order.is_private { "full" } else { "off" };
        headers.push_fmt(
            "Remote-Party-ID",
            format_args!("{identity};party=calling;screen=yes;privacy={privacy}"),
        );
    }
    if order.is_private {
        headers.push("Privacy", "id");
    }
    if let Some(charge) = &order.charge {
        headers.push_fmt("P-Charge-Info", format_args!("<{}>", address(charge, own)));
    }
    push_diversions(&mut headers, &order.diversions, own);
    headers.extend_raw(order.headers.as_bytes());
    Said { target, from, to, headers }
}

/// The transport towards a server.
pub(crate) fn transport_of(server: &CarrierServer) -> Transport {
    match server.transport {
        Some(2) => Transport::Tcp,
        Some(3) => Transport::Tls,
        _ => Transport::Udp,
    }
}

/// What answers the challenges of a server, where it asks for a name and a password. One that does not know us by a password but by
/// our address gets none: it would only be asked again.
pub(crate) fn credentials(
    snapshot: &Snapshot,
    server: Id<CarrierServer>,
    seed: [u8; 32],
) -> Option<Credentials> {
    let server = snapshot.rows().get(server).filter(|server| server.auth_needed == YesNo::Yes)?;
    let login = Login::new(server.auth_user.clone()?, server.auth_password.as_ref()?.reveal());
    Some(Credentials::new(login, seed))
}

/// The Request-URI of an endpoint that does not register, called by this name or number.
pub(crate) fn direct_target(user: &str, at: &DirectAddress<'_>) -> String {
    let host = match (at.domain, at.ip) {
        (Some(domain), _) => domain.to_owned(),
        (None, Some(ip)) if ip.is_ipv6() => format!("[{ip}]"),
        (None, Some(ip)) => ip.to_string(),
        (None, None) => String::new(),
    };
    let port = at.port.filter(|_| at.domain.is_none());
    let uri = match UriBuf::sip(user, &host, port) {
        Ok(uri) => uri.into_string(),
        Err(_) => address(user, &host),
    };
    match transport_to(at) {
        Transport::Udp => uri,
        other => format!("{uri};transport={}", other.param_token()),
    }
}

/// The transport towards an endpoint that does not register.
pub(crate) fn transport_to(at: &DirectAddress<'_>) -> Transport {
    use model::define::choices::Transport as Row;
    match at.transport {
        Row::Udp => Transport::Udp,
        Row::Tcp => Transport::Tcp,
        Row::Tls => Transport::Tls,
    }
}

impl Shared {
    /// Credentials for a server, with a seed of our own.
    pub(crate) fn credentials_for(&self, server: Id<CarrierServer>) -> Option<Credentials> {
        use rand::RngExt as _;
        let seed = self.rng.lock().random();
        credentials(self.router.load().snapshot(), server, seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listener;
    use cluster::ids::{CallId, NodeId};
    use cluster::leg::{Callee, Diversion};
    use model::define::Secret;

    fn order() -> Originate {
        let to = Callee::Server { server: Id::new(1) };
        Originate {
            caller_name: "Alice".to_owned(),
            caller_number: "+12065550100".to_owned(),
            called_number: "12345678*+12066418000".to_owned(),
            ..Originate::new(CallId::new(NodeId(1), 1), NodeId(1), to)
        }
    }

    fn server() -> CarrierServer {
        CarrierServer {
            sip_proxy: Some("us-west-or.sip.flowroute.com".to_owned()),
            hostname: Some("us-west-or.sip.flowroute.com".to_owned()),
            ..CarrierServer::default()
        }
    }

    fn told(order: &Originate, server: &CarrierServer) -> String {
        let listener = Listener::new(Transport::Udp, "192.0.2.1:5060".parse().unwrap());
        let said = said(order, server, &Place::new(&listener, listener.bind));
        let headers = String::from_utf8(said.headers.as_bytes().to_vec()).unwrap();
        let lines: Vec<&str> = headers.lines().filter(|line| !line.starts_with("Max-Forwards")).collect();
        format!("{} | {} | {} | {}", said.target, said.from, said.to, lines.join(" / "))
    }

    #[test]
    fn each_setting_of_a_server_shows_in_its_invites() {
        let host = "us-west-or.sip.flowroute.com";
        let called = format!("sip:12345678*+12066418000@{host}");
        let me = "\"Alice\" <sip:+12065550100@192.0.2.1>";
        let table: [(&str, CarrierServer, String); 7] = [
            ("plain", server(), format!("{called} | {me} | <{called}> | ")),
            (
                "PAI",
                CarrierServer { send_pai: Some(true), ..server() },
                format!("{called} | {me} | <{called}> | P-Asserted-Identity: {me}"),
            ),
            (
                "RPID",
                CarrierServer { send_rpid: Some(true), ..server() },
                format!(
                    "{called} | {me} | <{called}> | Remote-Party-ID: {me};party=calling;screen=yes;privacy=off"
                ),
            ),
            (
                "an account in From",
                CarrierServer { from_user: Some("12345678".to_owned()), send_pai: Some(true), ..server() },
                format!("{called} | <sip:12345678@192.0.2.1> | <{called}> | P-Asserted-Identity: {me}"),
            ),
            (
                "a domain in From",
                CarrierServer { from_domain: Some("brand.example".to_owned()), ..server() },
                format!("{called} | \"Alice\" <sip:+12065550100@brand.example> | <{called}> | "),
            ),
            (
                "TCP",
                CarrierServer { transport: Some(2), ..server() },
                format!("{called};transport=tcp | {me} | <{called}> | "),
            ),
            ("sips", CarrierServer { uri_scheme: Some(2), transport: Some(3), ..server() }, {
                let called = called.replacen("sip:", "sips:", 1);
                format!("{called} | {me} | <{called}> | ")
            }),
        ];
        for (what, server, expected) in table {
            assert_eq!(told(&order(), &server), expected, "{what}");
        }
    }

    #[test]
    fn a_caller_who_wants_to_be_unknown_is_known_to_nobody_who_is_not_told() {
        let private = Originate { is_private: true, ..order() };
        let plain = told(&private, &server());
        assert!(!plain.contains("+12065550100") && !plain.contains("Alice"), "{plain}");
        assert!(plain.contains(ANONYMOUS) && plain.ends_with("Privacy: id"), "{plain}");
        let both = CarrierServer { send_pai: Some(true), send_rpid: Some(true), ..server() };
        let trusted = told(&private, &both);
        assert!(!trusted.contains("Alice"), "{trusted}");
        assert!(
            trusted.ends_with(
                "P-Asserted-Identity: <sip:+12065550100@192.0.2.1> / \
                 Remote-Party-ID: <sip:+12065550100@192.0.2.1>;party=calling;screen=yes;privacy=full / Privacy: id"
            ),
            "{trusted}"
        );
        let nobody = Originate { caller_number: String::new(), caller_name: String::new(), ..order() };
        assert!(told(&nobody, &both).contains("<sip:anonymous@192.0.2.1>"));
        assert!(!told(&nobody, &both).contains("Asserted"));
    }

    #[test]
    fn diversions_and_the_account_that_pays_are_told_in_our_domain() {
        let diverted = Originate {
            diversions: vec![Diversion { number: "+34600".to_owned(), reason: "no-answer".to_owned() }],
            charge: Some("+12065550101".to_owned()),
            ..order()
        };
        assert!(told(&diverted, &server()).ends_with(
            "P-Charge-Info: <sip:+12065550101@192.0.2.1> / Diversion: <sip:+34600@192.0.2.1>;reason=no-answer;counter=1"
        ));
    }

    #[test]
    fn a_hash_in_a_tech_prefix_is_escaped() {
        let order = Originate { called_number: "12345678#+1206".to_owned(), ..order() };
        assert!(told(&order, &server()).starts_with("sip:12345678%23+1206@"));
    }

    #[test]
    fn only_a_server_that_asks_for_a_password_is_told_it() {
        use model::rows::Rows;
        use std::sync::Arc;
        let mut rows = Rows::default();
        rows.insert(Arc::new(CarrierServer {
            id: Id::new(1),
            auth_needed: YesNo::Yes,
            auth_user: Some("12345678".to_owned()),
            auth_password: Some(Secret::new("password")),
            ..server()
        }));
        rows.insert(Arc::new(CarrierServer { id: Id::new(2), ..server() }));
        let snapshot = Snapshot::new(rows);
        assert!(credentials(&snapshot, Id::new(1), [0; 32]).is_some());
        assert!(credentials(&snapshot, Id::new(2), [0; 32]).is_none());
        assert!(credentials(&snapshot, Id::new(3), [0; 32]).is_none());
    }

    #[test]
    fn an_endpoint_that_does_not_register_is_called_at_its_address() {
        use model::define::choices::Transport as Row;
        let at = |transport, ip: Option<&str>, port, domain| DirectAddress {
            transport,
            ip: ip.map(|ip| ip.parse().unwrap()),
            port,
            domain,
        };
        for (at, uri) in [
            (at(Row::Udp, Some("192.0.2.9"), Some(5070), None), "sip:pbx@192.0.2.9:5070"),
            (at(Row::Tcp, Some("2001:db8::9"), None, None), "sip:pbx@[2001:db8::9];transport=tcp"),
            (at(Row::Udp, Some("192.0.2.9"), Some(5070), Some("pbx.example")), "sip:pbx@pbx.example"),
        ] {
            assert_eq!(direct_target("pbx", &at), uri);
        }
    }
}
