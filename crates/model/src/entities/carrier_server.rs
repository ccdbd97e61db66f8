//! Carrier servers: where a carrier takes calls.
//! Manual, chapter 9.2.1 "Carrier Servers".

use crate::checks::{host_name, ipv4, ipv6, port};
use crate::prelude::*;

/// A SIP server of a carrier. Calls are spread over all servers of the carrier that answer.
#[derive(Clone, Debug, Entity)]
#[entity(path = "carrier_servers", access = ACCESS, computed = COMPUTED, rules)]
pub struct CarrierServer {
    /// Identifies the server.
    #[field(brand = "ld")]
    pub id: Id<CarrierServer>,
    /// The address that requests are sent to, from the outbound proxy; null: that of the host name. Not set by hand.
    #[field(max = 50, brand = "ldw")]
    pub ip: Option<String>,
    /// The host in the requests' addresses, from the SIP proxy. Not set by hand.
    #[field(max = 64, brand = "ldw")]
    pub hostname: Option<String>,
    /// The port that requests are sent to, from the outbound proxy or else the SIP proxy; 5060 where they name none.
    /// Not set by hand.
    #[field(brand = "dw")]
    pub port: Option<u16>,
    /// The scheme of the requests' addresses: 1 sip, 2 sips; null: sip.
    #[field(min = 1, high = 2, brand = "dw")]
    pub uri_scheme: Option<u16>,
    /// How requests travel: 1 UDP, 2 TCP, 3 TLS; null: UDP.
    #[field(min = 1, high = 3, brand = "dw")]
    pub transport: Option<u16>,
    /// The caller's number is told in P-Asserted-Identity.
    #[field(name = "sendPAI", default = false, brand = "dw")]
    pub send_pai: Option<bool>,
    /// The caller's number is told in Remote-Party-ID.
    #[field(name = "sendRPID", default = false, brand = "dw")]
    pub send_rpid: Option<bool>,
    /// The server asks for a name and a password; otherwise it knows the platform by its address.
    #[field(default = YesNo::No, brand = "ldw")]
    pub auth_needed: YesNo,
    /// The name that the platform authenticates with.
    #[field(max = 64, brand = "dw")]
    pub auth_user: Option<String>,
    /// The password that goes with it.
    #[field(max = 64, masked, brand = "dw")]
    pub auth_password: Option<Secret>,
    /// The server: a host name, an IPv4 address, or an IPv6 address in brackets, with a port after a colon where it is not 5060.
    #[field(max = 128, brand = "ldw")]
    pub sip_proxy: Option<String>,
    /// An IPv4 address, or an IPv6 address in brackets, with a port if need be, that requests are sent to instead of the SIP proxy,
    /// which stays in them; null: they are sent to the SIP proxy.
    #[field(max = 128, brand = "ldw")]
    pub outbound_proxy: Option<String>,
    /// The user part of the From header; null or empty: the caller's number.
    #[field(max = 64, brand = "dw")]
    pub from_user: Option<String>,
    /// The domain of the From header; null or empty: the platform's own.
    #[field(max = 190, brand = "dw")]
    pub from_domain: Option<String>,
    /// The carrier that the server belongs to.
    #[field(delete = "cascade", index, brand = "dw")]
    pub carrier: Id<Carrier>,
    /// The carrier's brand.
    #[field(delete = "cascade", index)]
    pub brand: Id<Brand>,
}

const ACCESS: &[Access] = &[Access::at(Level::Brand, "lgcud")
    .acl()
    .order(&["sipProxy"])
    .read(&[Rule::OwnBrand("brand")])
    .write(&[Rule::OwnBrand("brand"), Rule::Visible("carrier")])];

const COMPUTED: &[Computed] = &[Computed::new(
    "status",
    "Whether the server answers; empty: nothing is known.",
    How::Live("carrierServer"),
)
.at(Level::Brand, "l")];

impl Rules for CarrierServer {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if let Some(carrier) = check.rows.get(self.carrier) {
            self.brand = carrier.brand;
        }
        if self.auth_needed == YesNo::No {
            self.auth_user = None;
            self.auth_password = None;
        }
        self.check_addresses(check);
        if let Some(old) = old
            && old.carrier != self.carrier
            && old.is_last_of_used(check.rows)
        {
            check.forbid(
                "carrier: the former carrier is in use and has no other server; give it another one first",
            );
        }
    }

    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        if self.is_last_of_used(draft.rows()) {
            return Err(Refusal::Forbidden(
                "outgoing routings use the carrier, and this is its last server; give it another one first"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

impl CarrierServer {
    /// Reads host, address and port from what was written about the two proxies.
    fn check_addresses(&mut self, check: &mut Check<'_>) {
        let proxy = self.sip_proxy.clone().unwrap_or_default();
        let (host, host_port) = split_port(&proxy);
        let fits = host.len() <= 64
            && (host_name(host) || in_brackets(host).is_some())
            && host_port.is_none_or(port);
        check.require(
            fits,
            "sipProxy",
            "write a host name, an IPv4 address, or an IPv6 address in brackets, and a port after a colon if it is not 5060",
        );
        self.hostname = Some(host.to_owned());
        if self.outbound_proxy.as_deref() == Some("") {
            self.outbound_proxy = None;
        }
        let Some(outbound) = self.outbound_proxy.clone() else {
            self.ip = None;
            self.port = Some(port_or_default(host_port));
            return;
        };
        let (ip, ip_port) = split_port(&outbound);
        let ip = in_brackets(ip).or_else(|| ipv4(ip).then_some(ip));
        let fits = ip.is_some() && ip_port.is_none_or(port);
        check.require(
            fits,
            "outboundProxy",
            "write an IPv4 address, or an IPv6 address in brackets, and a port after a colon if it is not 5060",
        );
        let alone = host_port.is_none();
        check.require(alone, "sipProxy", "leave out the port: requests go to the one of the outbound proxy");
        self.ip = ip.map(str::to_owned);
        self.port = Some(port_or_default(ip_port));
    }

    fn is_last_of_used(&self, rows: &Rows) -> bool {
        let mut others = rows.of::<Self>("carrier", self.carrier.get()).filter(|other| other.id != self.id);
        others.next().is_none() && Carrier::is_used(rows, self.carrier)
    }
}

/// The host, with its brackets if it has some, and what is written for a port.
fn split_port(address: &str) -> (&str, Option<&str>) {
    if let Some((end, _)) = address.match_indices(']').next().filter(|_| address.starts_with('[')) {
        let (host, rest) = address.split_at(end + 1);
        return (host, (!rest.is_empty()).then(|| rest.strip_prefix(':').unwrap_or("")));
    }
    match address.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (address, None),
    }
}

/// The IPv6 address in brackets (RFC 3261 section 25.1, IPv6reference).
fn in_brackets(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']').filter(|ip| ipv6(ip))
}

fn port_or_default(text: Option<&str>) -> u16 {
    text.and_then(|text| text.parse().ok()).unwrap_or(5060)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn with(sip: &str, outbound: Option<&str>) -> Result<CarrierServer, Refusal> {
        let row = CarrierServer {
            carrier: Id::new(2),
            sip_proxy: Some(sip.to_owned()),
            outbound_proxy: outbound.map(str::to_owned),
            ..CarrierServer::default()
        };
        change(|draft| draft.create(row)).map(|(id, rows, _)| rows.get(id).unwrap().clone())
    }

    fn derived(row: &CarrierServer) -> (Option<&str>, Option<&str>, Option<u16>) {
        (row.hostname.as_deref(), row.ip.as_deref(), row.port)
    }

    #[test]
    fn host_address_and_port_come_from_the_proxies() {
        let row = with("sip.example.com", None).unwrap();
        assert_eq!(derived(&row), (Some("sip.example.com"), None, Some(5060)));
        assert_eq!(row.brand, Id::new(1), "the carrier's");
        assert_eq!(
            derived(&with("192.0.2.1:5080", Some("")).unwrap()),
            (Some("192.0.2.1"), None, Some(5080))
        );
        let row = with("sip.example.com", Some("192.0.2.9:5070")).unwrap();
        assert_eq!(derived(&row), (Some("sip.example.com"), Some("192.0.2.9"), Some(5070)));
        assert_eq!(with("sip.example.com", Some("192.0.2.9")).unwrap().port, Some(5060));
        assert_eq!(derived(&with("[2001:db8::1]", None).unwrap()), (Some("[2001:db8::1]"), None, Some(5060)));
        let row = with("[2001:db8::1]:5080", None).unwrap();
        assert_eq!(derived(&row), (Some("[2001:db8::1]"), None, Some(5080)));
        let row = with("sip.example.com", Some("[2001:db8::9]:5070")).unwrap();
        assert_eq!(derived(&row), (Some("sip.example.com"), Some("2001:db8::9"), Some(5070)));
    }

    #[test]
    fn addresses_are_well_formed() {
        for (sip, outbound) in [
            ("", None),
            ("a b", None),
            ("sip.example.com:", None),
            ("sip.example.com:0", None),
            ("sip.example.com:1:2", None),
            ("2001:db8::1", None),
            ("[2001:db8::1", None),
            ("[2001:db8::1]5060", None),
            ("[2001:db8::1]:", None),
            ("[192.0.2.1]", None),
            ("sip.example.com:5070", Some("192.0.2.9")),
        ] {
            assert!(with(sip, outbound).unwrap_err().to_string().starts_with("sipProxy: "), "{sip}");
        }
        for outbound in ["proxy.example.com", "192.0.2.9:x", "2001:db8::9", "[2001:db8::9]x", "[x]"] {
            assert!(
                with("a.example", Some(outbound)).unwrap_err().to_string().starts_with("outboundProxy: ")
            );
        }
    }

    #[test]
    fn a_server_that_knows_the_platform_by_its_address_has_no_password() {
        let id = Id::<CarrierServer>::new(1);
        let with = |needed| {
            let (_, rows, _) = change(|draft| {
                draft.change(id, |row| {
                    row.auth_needed = needed;
                    row.auth_user = Some("user".to_owned());
                    row.auth_password = Some("secret".into());
                })
            })
            .unwrap();
            let row = rows.get(id).unwrap();
            (row.auth_user.is_some(), row.auth_password.is_some())
        };
        assert_eq!(with(YesNo::Yes), (true, true));
        assert_eq!(with(YesNo::No), (false, false));
    }

    #[test]
    fn the_last_server_of_a_carrier_in_use_stays() {
        let (one, two) = (Id::<CarrierServer>::new(1), Id::<CarrierServer>::new(2));
        assert!(change(|draft| draft.delete(one)).is_ok());
        let both = change(|draft| draft.delete(one).and_then(|()| draft.delete(two)));
        assert!(matches!(both, Err(Refusal::Forbidden(_))));
        let moved = change(|draft| {
            draft.delete(one)?;
            draft.change(two, |row| row.carrier = Id::new(2))
        });
        assert!(matches!(moved, Err(Refusal::Forbidden(_))));
    }
}
