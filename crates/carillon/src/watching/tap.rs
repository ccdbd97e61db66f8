//! What sees the work of this node's SIP workers: messages for Homer, how long datagrams waited, when legs begin and end.
//!
//! In: words of the proxy (`proxy::Tap`), on its workers. Out: additions to counters and places in queues, and nothing that waits.

use super::legs::LegWatch;
use bytes::Bytes;
use cluster::ids::{CallId, LegId};
use proxy::{Direction, Tap};
use sip::flow::Flow;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use telemetry::hep::Captured;
use telemetry::{Hep, Histogram};

/// Bounds of how long a datagram waited, in seconds: a turn is paced to a millisecond; at four seconds strangers get 503.
const LAG: &[f64] = &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// They.
pub(crate) struct Ears {
    pub(super) hep: Option<Hep>,
    pub(super) lag: Histogram,
    legs: Option<Arc<LegWatch>>,
    /// Our own addresses, by listener.
    own: OnceLock<Vec<SocketAddr>>,
}

impl Ears {
    pub(super) fn new(hep: Option<Hep>, legs: Option<Arc<LegWatch>>) -> Self {
        Self { hep, lag: Histogram::new(LAG), legs, own: OnceLock::new() }
    }

    /// The addresses of the listeners are known.
    pub(super) fn know(&self, own: Vec<SocketAddr>) {
        let _ = self.own.set(own); // they do not change
    }

    /// Our address of a flow.
    fn own(&self, flow: Flow) -> SocketAddr {
        let known = self.own.get().and_then(|own| own.get(usize::from(flow.listener)));
        known.copied().unwrap_or_else(|| match flow.remote {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0; 16], 0).into(),
        })
    }
}

/// The address that peers of a listener meet: where it hears on all, the one that it shows, if that is an address.
pub(super) fn reached(open: SocketAddr, shown: Option<&str>) -> SocketAddr {
    let shown = shown.filter(|_| open.ip().is_unspecified()).and_then(|shown| {
        let with_port = shown.parse::<SocketAddr>().ok().map(|shown| shown.ip());
        with_port.or_else(|| shown.trim_matches(['[', ']']).parse::<IpAddr>().ok())
    });
    shown.map_or(open, |ip| SocketAddr::new(ip, open.port()))
}

impl Tap for Ears {
    fn seen(&self, direction: Direction, flow: Flow, bytes: &Bytes) {
        let Some(hep) = &self.hep else { return };
        let own = self.own(flow);
        let (source, target) = match direction {
            Direction::In => (flow.remote, own),
            Direction::Out => (own, flow.remote),
        };
        hep.send(Captured {
            time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            source,
            target,
            stream: flow.transport.is_reliable(),
            message: bytes.clone(),
        });
    }

    fn leg_began(&self, call: CallId, leg: LegId, way: Direction, sip_call_id: &str, since: Instant) {
        if let Some(legs) = &self.legs {
            legs.began(call, leg, way, sip_call_id, since);
        }
    }

    fn leg_ended(&self, call: CallId, leg: LegId) {
        if let Some(legs) = &self.legs {
            legs.ended(call, leg);
        }
    }

    fn turned(&self, lag: Duration) {
        self.lag.observe(lag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_an_address_that_peers_meet() {
        for (open, shown, met) in [
            ("192.0.2.1:5060", None, "192.0.2.1:5060"),
            ("192.0.2.1:5060", Some("203.0.113.1:5070"), "192.0.2.1:5060"),
            ("0.0.0.0:5060", Some("203.0.113.1"), "203.0.113.1:5060"),
            ("0.0.0.0:5060", Some("203.0.113.1:5070"), "203.0.113.1:5060"),
            ("[::]:5060", Some("[2001:db8::1]"), "[2001:db8::1]:5060"),
            ("0.0.0.0:5060", Some("sip.example.com"), "0.0.0.0:5060"),
        ] {
            assert_eq!(reached(open.parse().unwrap(), shown).to_string(), met);
        }
    }
}
