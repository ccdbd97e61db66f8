//! Survival devices: what keeps the telephones of a place working while the platform is out of reach.
//!
//! Elsewhere: the places ([`Location`]).

use crate::checks::{self, needs_company_type};
use crate::prelude::*;

/// A SIP server at a client's place that telephones turn to while the platform is out of reach.
#[derive(Clone, Debug, Entity)]
#[entity(path = "survival_devices", access = ACCESS, rules, unique(name, company))]
pub struct SurvivalDevice {
    /// The device's number in the API.
    #[field(client = "ld")]
    pub id: Id<SurvivalDevice>,
    /// What the device is called; there once within the client.
    #[field(max = 80, client = "ldw")]
    pub name: String,
    /// The host name or IPv4 address that telephones know it by, with a port after a colon if it is not the
    /// usual one.
    #[field(max = 80, client = "ldw")]
    pub proxy: String,
    /// The IPv4 address that SIP is sent to instead, with a port after a colon if it is not the usual one;
    /// null: what `proxy` says. With it, `proxy` has no port.
    #[field(max = 80, client = "dw")]
    pub outbound_proxy: Option<String>,
    /// The port for SIP over UDP.
    #[field(default = 5060u16, min = 1, client = "dw")]
    pub udp_port: u16,
    /// The port for SIP over TCP.
    #[field(default = 5060u16, min = 1, client = "dw")]
    pub tcp_port: u16,
    /// The port for SIP over TLS.
    #[field(default = 5061u16, min = 1, client = "dw")]
    pub tls_port: u16,
    /// The port for SIP over secure WebSocket.
    #[field(default = 10081u16, min = 1, client = "dw")]
    pub wss_port: u16,
    /// Where it is, in the client's words.
    #[field(max = 1024, client = "ldw")]
    pub description: Option<String>,
    /// The client.
    #[field(delete = "cascade", index, client = "dw")]
    pub company: Id<Company>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["name"])
    .company_types(&[CompanyType::Vpbx])
    .unpaged()
    .read(&[Rule::OwnCompany("company")])
    .write(&[Rule::OwnCompany("company")])];

impl Rules for SurvivalDevice {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        needs_company_type(self.company, old.map(|old| old.company), &[CompanyType::Vpbx], check);
        if old.is_none_or(|old| old.name != self.name) {
            check.require(!self.name.trim().is_empty(), "name", "a survival device needs a name");
        }
        self.outbound_proxy = self.outbound_proxy.take().filter(|address| !address.is_empty());
        let (host, port) = parted(&self.proxy);
        let holds = checks::host_name(host) && port.is_none_or(checks::port);
        check.require(
            holds,
            "proxy",
            "write a host name or an IPv4 address, and a port after a colon if need be",
        );
        if let Some(address) = &self.outbound_proxy {
            let (ip, own_port) = parted(address);
            let holds = checks::ipv4(ip) && own_port.is_none_or(checks::port);
            check.require(
                holds,
                "outboundProxy",
                "write an IPv4 address, and a port after a colon if need be",
            );
            check.require(
                port.is_none(),
                "proxy",
                "the port goes with the outbound proxy; leave it out here",
            );
        }
    }
}

fn parted(address: &str) -> (&str, Option<&str>) {
    match address.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (address, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn refused(proxy: &str, outbound: &str) -> Option<String> {
        let device = SurvivalDevice {
            name: "x".into(),
            proxy: proxy.into(),
            outbound_proxy: Some(outbound.into()),
            company: Id::new(1),
            ..SurvivalDevice::default()
        };
        change(|draft| draft.create(device)).err().map(|refused| refused.to_string())
    }

    #[test]
    fn a_proxy_is_a_host_with_a_port_if_need_be() {
        for right in ["sip.example.com", "sip.example.com:5070", "192.0.2.1"] {
            assert_eq!(refused(right, ""), None);
        }
        for wrong in ["", "a b", "sip.example.com:", "sip.example.com:x", "a:1:2", "a:70000"] {
            assert!(refused(wrong, "").unwrap().starts_with("proxy: "), "{wrong}");
        }
    }

    #[test]
    fn the_port_goes_with_the_outbound_proxy() {
        assert_eq!(refused("sip.example.com", "192.0.2.1"), None);
        assert_eq!(refused("sip.example.com", "192.0.2.1:5070"), None);
        assert!(refused("sip.example.com", "sip.example.com").unwrap().starts_with("outboundProxy: "));
        assert!(refused("sip.example.com:5070", "192.0.2.1").unwrap().starts_with("proxy: "));
    }

    #[test]
    fn a_device_belongs_to_a_virtual_pbx_client() {
        let device: Id<SurvivalDevice> = Id::new(1);
        change(|draft| draft.change(device, |device| device.udp_port = 5070)).unwrap();
        let refused = change(|draft| draft.change(device, |device| device.company = Id::new(4))).unwrap_err();
        assert!(refused.to_string().starts_with("company: "), "{refused}");
    }
}
