//! Application servers: the nodes that run the services of calls, from voicemail to queues.
//!
//! Manual, chapter 8.14.4. Elsewhere: which calls they get (`application_server_set`).

use crate::checks::{differs, ip};
use crate::prelude::*;

/// A node that runs calls' services. Brands and clients use it through the sets that it is in.
#[derive(Clone, Debug, Entity)]
#[entity(path = "application_servers", access = ACCESS, unique(ip), unique(name), rules)]
pub struct ApplicationServer {
    /// Number of the server.
    #[field(platform = "ld")]
    pub id: Id<ApplicationServer>,
    /// The address at which the proxies reach it; the port is always 6060, over UDP.
    #[field(max = 50, platform = "ldw")]
    pub ip: String,
    /// What operators call it.
    #[field(max = 64, platform = "ldw")]
    pub name: String,
}

const ACCESS: &[Access] = &[Access::at(Level::Platform, "lgcud").acl().order(&["name"])];

impl Rules for ApplicationServer {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if differs(self, old, "ip") {
            check.require(ip(&self.ip), "ip", ONE_ADDRESS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn a_server_has_an_ip_address() {
        let server = |ip: &str| ApplicationServer {
            ip: ip.into(),
            name: "new".into(),
            ..ApplicationServer::default()
        };
        assert!(change(|draft| draft.create(server("2001:db8::1"))).is_ok());
        assert!(change(|draft| draft.create(server("as003"))).is_err());
    }
}
