//! Media relays: the nodes that carry audio.
//!
//! Manual, chapter 8.14.3.

use crate::checks::{differs, host_name, ip, port};
use crate::prelude::*;

/// A media relay within a set.
#[derive(Clone, Debug, Entity)]
#[entity(path = "rtpengines", access = ACCESS, unique(setid, url), rules)]
pub struct Rtpengine {
    /// Number of the relay.
    #[field(platform = "ld")]
    pub id: Id<Rtpengine>,
    /// Number of its set; it follows the set that is chosen.
    #[field(default = 0i32, platform = "dw")]
    pub setid: i32,
    /// Its control socket, not the address in SDP: udp:192.0.2.1:22222. It occurs once within the set.
    #[field(max = 64, platform = "ldw")]
    pub url: String,
    /// Its share of the set's calls, relative to the others: one of weight 2 carries twice as many as one of
    /// weight 1. 0: none.
    #[field(default = 1u32, platform = "ldw")]
    pub weight: u32,
    /// Whether it gets no new calls.
    #[field(default = false, platform = "ldw")]
    pub disabled: bool,
    /// When its state last changed.
    #[field(now, platform = "dw")]
    pub stamp: Timestamp,
    /// A note for operators.
    #[field(max = 200, platform = "ldw")]
    pub description: Option<String>,
    /// The set that it is in.
    #[field(delete = "cascade", platform = "dw")]
    pub media_relay_set: Option<Id<MediaRelaySet>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Platform, "lgcud").acl().order(&["url"])];

impl Rules for Rtpengine {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if let Some(set) = self.media_relay_set {
            self.setid = i32::try_from(set.get()).unwrap_or(i32::MAX);
        }
        if differs(self, old, "url") {
            check.require(
                control_socket(&self.url),
                "url",
                "write the control socket as udp:192.0.2.1:22222",
            );
        }
    }
}

/// Transport, address and port of a relay's control socket.
fn control_socket(text: &str) -> bool {
    let Some((transport, address)) = text.split_once(':') else { return false };
    let Some((host, number)) = address.rsplit_once(':') else { return false };
    let host = host.trim_start_matches("//");
    ["udp", "tcp", "ws", "wss", "http", "https"].contains(&transport)
        && (host_name(host) || ip(host.trim_matches(['[', ']'])))
        && port(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn relay(url: &str) -> Rtpengine {
        Rtpengine { setid: 9, url: url.into(), media_relay_set: Some(Id::new(2)), ..Rtpengine::default() }
    }

    #[test]
    fn a_relay_has_the_number_of_its_set() {
        let (id, rows, _) = change(|draft| draft.create(relay("udp:192.0.2.1:22222"))).unwrap();
        assert_eq!(rows.get(id).unwrap().setid, 2);
    }

    #[test]
    fn a_control_socket_has_transport_address_and_port() {
        for wrong in ["", "udp", "udp:192.0.2.1", "192.0.2.1:2223", "udp:192.0.2.1:0", "udp::2223"] {
            assert!(change(|draft| draft.create(relay(wrong))).is_err(), "{wrong}");
        }
        assert!(change(|draft| draft.create(relay("udp:[2001:db8::1]:2223"))).is_ok());
    }
}
