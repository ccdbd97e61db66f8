//! A leg as bytes: its dialog, and which device it leads to; from them another proxy carries it on.
//!
//! In: a leg at rest. Out: its state, and from a state what a leg is made of. The bytes come from other nodes and are looked at
//! as such. Elsewhere: the dialog's own bytes (`sip::session::Capsule`), who asks for a leg (`worker::moved`).

use crate::Shared;
use crate::registrar::Device;
use bytes::Bytes;
use cluster::ids::NodeId;
use model::entities::CarrierServer;
use model::{Aor, Id};
use prost::Message as _;
use sip::flow::{ConnId, Flow};
use sip::session::{Capsule, CapsuleError};
use sip::transaction::Destination;

/// The longest contact and instance that are read.
const TEXT_MAX: usize = 1024;

/// The wire form.
#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(bytes = "bytes", tag = "1")]
    session: Bytes,
    /// Whose leg it is; 0: no endpoint's.
    #[prost(uint32, tag = "2")]
    aor: u32,
    /// Of the device, where its registration is known.
    #[prost(string, optional, tag = "3")]
    contact: Option<String>,
    #[prost(string, optional, tag = "4")]
    instance: Option<String>,
    /// The proxy that the peer sends its requests to, as far as it knows.
    #[prost(uint32, tag = "5")]
    proxy: u32,
    /// The carrier's server that it leads to; 0: none.
    #[prost(uint32, tag = "6")]
    server: u32,
}

/// Whom a leg leads to, as far as it is one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// An endpoint.
    Endpoint(Aor),
    /// A server of a carrier, that we have called.
    Server(Id<CarrierServer>),
    /// Somebody outside who has called: a DDI provider or a wholesale client.
    Outside,
}

impl Peer {
    pub(crate) fn aor(self) -> Option<Aor> {
        match self {
            Peer::Endpoint(aor) => Some(aor),
            Peer::Server(_) | Peer::Outside => None,
        }
    }
}

/// What a leg is carried on from.
pub(crate) struct LegState {
    pub(crate) session: Capsule,
    pub(crate) peer: Peer,
    pub(crate) device: Option<Box<Device>>,
    pub(crate) proxy: NodeId,
}

impl LegState {
    /// The bytes of a leg.
    pub(crate) fn encode(session: &Capsule, peer: Peer, device: Option<&Device>, proxy: NodeId) -> Bytes {
        let (aor, server) = match peer {
            Peer::Endpoint(aor) => (aor.bits(), 0),
            Peer::Server(server) => (0, server.get()),
            Peer::Outside => (0, 0),
        };
        let wire = Wire {
            session: session.encode(),
            aor,
            server,
            contact: device.map(|device| device.contact.clone()),
            instance: device.and_then(|device| device.instance.clone()),
            proxy: proxy.0.into(),
        };
        wire.encode_to_vec().into()
    }

    /// The leg of these bytes.
    pub(crate) fn decode(bytes: Bytes) -> Result<LegState, CapsuleError> {
        let wire = Wire::decode(bytes)?;
        let long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > TEXT_MAX);
        if long(&wire.contact) || long(&wire.instance) {
            return Err(CapsuleError::Field { field: "device", why: "is too long" });
        }
        let instance = wire.instance;
        let device = wire.contact.map(|contact| Box::new(Device { contact, instance }));
        // One that is no number of a node is another proxy than this one.
        let proxy = NodeId(u16::try_from(wire.proxy).unwrap_or_default());
        let session = Capsule::decode(&wire.session)?;
        let peer = match (wire.aor, wire.server) {
            (0, 0) => Peer::Outside,
            (0, server) => Peer::Server(Id::new(server)),
            (aor, _) => Peer::Endpoint(Aor::from_bits(aor)),
        };
        Ok(LegState { session, peer, device, proxy })
    }

    /// Where its requests go from here: by the flow that the peer has just used, if it has, or by a listener of the same transport.
    /// `None`: this proxy has none.
    pub(crate) fn destination(&self, shared: &Shared, seen: Option<Flow>) -> Option<Destination> {
        let before = self.session.destination();
        if let Some(flow) = seen {
            return Some(Destination { flow, ..before });
        }
        let fits = |place: &crate::config::Place| {
            place.transport == before.flow.transport && place.local.is_ipv4() == before.flow.remote.is_ipv4()
        };
        let listener = shared.places.iter().position(fits).and_then(|index| u16::try_from(index).ok())?;
        Some(Destination { flow: Flow { listener, conn: ConnId(0), ..before.flow }, ..before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_leg_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = LegState::decode(Bytes::from(bytes));
        }
    }
}
