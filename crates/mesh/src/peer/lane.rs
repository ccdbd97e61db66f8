//! The services between nodes: what goes out and what comes in by each, and in which frames.
//!
//! In and out: native items, frames of the proto files. Elsewhere: when frames are sent (`line`).

use super::dial::Http;
use super::line::{Lines, Outgoing};
use super::{Hub, MESSAGE_MAX, PeerSink, Way};
use crate::wire::Wire;
use cluster::between::{DirectoryItem, FromRelay, ToCalls, ToLegs, ToRelay};
use cluster::ids::NodeId;
use proto::v1;
use tonic::{Response, Status, Streaming};

/// The parts of a frame of any service.
#[derive(Debug)]
pub(super) struct Parts<M> {
    pub(super) hello: Option<v1::Hello>,
    pub(super) welcome: Option<v1::Welcome>,
    pub(super) refusal: Option<v1::Refusal>,
    pub(super) numbers: Option<v1::Numbers>,
    pub(super) items: Vec<M>,
}

impl<M> Default for Parts<M> {
    fn default() -> Self {
        Self { hello: None, welcome: None, refusal: None, numbers: None, items: Vec::new() }
    }
}

/// A frame of one direction of a service. Parts that it has no field for are left out.
pub(super) trait Frames: prost::Message + Default + Send + 'static {
    /// An item.
    type Item: prost::Message + Default + Clone + Send + 'static;

    fn from_parts(parts: Parts<Self::Item>) -> Self;
    fn into_parts(self) -> Parts<Self::Item>;
}

macro_rules! frames {
    ($frame:ident of $item:ident, beginning with $($first:ident),+) => {
        impl Frames for v1::$frame {
            type Item = v1::$item;

            fn from_parts(parts: Parts<v1::$item>) -> Self {
                Self { $($first: parts.$first,)+ numbers: parts.numbers, items: parts.items }
            }

            fn into_parts(self) -> Parts<v1::$item> {
                let mut parts = Parts { numbers: self.numbers, items: self.items, ..Parts::default() };
                $(parts.$first = self.$first;)+
                parts
            }
        }
    };
}

frames!(ToCallsFrame of ToCalls, beginning with hello);
frames!(ToLegsFrame of ToLegs, beginning with welcome, refusal);
frames!(ToRelayFrame of ToRelay, beginning with hello);
frames!(FromRelayFrame of FromRelay, beginning with welcome, refusal);
frames!(DirectoryFrame of DirectoryItem, beginning with hello, welcome, refusal);

/// One end of a service.
pub(super) trait Lane: Sized + Send + Sync + 'static {
    /// What the other node is there.
    const WAY: Way;
    /// What goes out.
    type Out: Wire<Message = <Self::OutFrame as Frames>::Item> + Send;
    /// What comes in.
    type In: Wire<Message = <Self::InFrame as Frames>::Item> + Send;
    /// The frames that go out.
    type OutFrame: Frames;
    /// The frames that come in.
    type InFrame: Frames;

    fn lines(hub: &Hub) -> &Lines<Self>;
    fn deliver(sink: &dyn PeerSink, from: NodeId, item: Self::In);
}

/// The end that dials.
#[async_trait::async_trait]
pub(super) trait Dialled: Lane {
    async fn exchange(
        http: Http,
        frames: Outgoing<Self>,
    ) -> Result<Response<Streaming<Self::InFrame>>, Status>;
}

/// We have custody of calls, the other node serves them.
pub(super) struct CallsLane;
/// We serve calls, the other node has custody of them.
pub(super) struct LegsLane;
/// The other node is a relay for us.
pub(super) struct RelayLane;
/// We are a relay for the other node.
pub(super) struct MediaLane;
/// Both tell the same things.
pub(super) struct DirectoryLane;

impl Lane for CallsLane {
    const WAY: Way = Way::Calls;
    type Out = ToCalls;
    type In = ToLegs;
    type OutFrame = v1::ToCallsFrame;
    type InFrame = v1::ToLegsFrame;

    fn lines(hub: &Hub) -> &Lines<Self> {
        &hub.calls
    }

    fn deliver(sink: &dyn PeerSink, from: NodeId, item: ToLegs) {
        sink.to_legs(from, item);
    }
}

impl Lane for LegsLane {
    const WAY: Way = Way::Legs;
    type Out = ToLegs;
    type In = ToCalls;
    type OutFrame = v1::ToLegsFrame;
    type InFrame = v1::ToCallsFrame;

    fn lines(hub: &Hub) -> &Lines<Self> {
        &hub.legs
    }

    fn deliver(sink: &dyn PeerSink, from: NodeId, item: ToCalls) {
        sink.to_calls(from, item);
    }
}

impl Lane for RelayLane {
    const WAY: Way = Way::Relay;
    type Out = ToRelay;
    type In = FromRelay;
    type OutFrame = v1::ToRelayFrame;
    type InFrame = v1::FromRelayFrame;

    fn lines(hub: &Hub) -> &Lines<Self> {
        &hub.relays
    }

    fn deliver(sink: &dyn PeerSink, from: NodeId, item: FromRelay) {
        sink.from_relay(from, item);
    }
}

impl Lane for MediaLane {
    const WAY: Way = Way::Media;
    type Out = FromRelay;
    type In = ToRelay;
    type OutFrame = v1::FromRelayFrame;
    type InFrame = v1::ToRelayFrame;

    fn lines(hub: &Hub) -> &Lines<Self> {
        &hub.media
    }

    fn deliver(sink: &dyn PeerSink, from: NodeId, item: ToRelay) {
        sink.to_relay(from, item);
    }
}

impl Lane for DirectoryLane {
    const WAY: Way = Way::Directory;
    type Out = DirectoryItem;
    type In = DirectoryItem;
    type OutFrame = v1::DirectoryFrame;
    type InFrame = v1::DirectoryFrame;

    fn lines(hub: &Hub) -> &Lines<Self> {
        &hub.directory
    }

    fn deliver(sink: &dyn PeerSink, from: NodeId, item: DirectoryItem) {
        sink.directory(from, item);
    }
}

macro_rules! dialled {
    ($lane:ident by $client:ty) => {
        #[async_trait::async_trait]
        impl Dialled for $lane {
            async fn exchange(
                http: Http,
                frames: Outgoing<Self>,
            ) -> Result<Response<Streaming<Self::InFrame>>, Status> {
                let mut client = <$client>::with_origin(http, super::dial::origin())
                    .max_decoding_message_size(MESSAGE_MAX)
                    .max_encoding_message_size(MESSAGE_MAX);
                client.exchange(frames).await
            }
        }
    };
}

dialled!(CallsLane by v1::leg_client::LegClient<Http>);
dialled!(RelayLane by v1::media_client::MediaClient<Http>);
dialled!(DirectoryLane by v1::directory_client::DirectoryClient<Http>);
