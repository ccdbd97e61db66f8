//! What a machine is given for one step: the time, the lengths of its timers, and where its output goes.
//!
//! In: calls of the four machines. Out: transmits and events in the order in which they arose. Elsewhere: the machines.

use super::Event;
use super::ids::Secret;
use super::timers::{Deadline, Span, Spans};
use crate::draft::{ResponseDraft, serialize_response, serialize_tagged_response};
use crate::flow::{Flow, Transmit};
use crate::msg::Message;
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

/// What waits to be drained. One message in adds at most two transmits and two events, one call of `handle_timeout` at
/// most `STEPS_MAX` of each; the shell drains both after every call.
#[derive(Default)]
pub(super) struct Out {
    pub(super) transmits: VecDeque<Transmit>,
    pub(super) events: VecDeque<Event>,
}

/// One step of a machine.
pub(super) struct Step<'a> {
    pub(super) now: Instant,
    pub(super) spans: &'a Spans,
    pub(super) secret: &'a Secret,
    pub(super) out: &'a mut Out,
}

impl Step<'_> {
    /// A deadline that starts now.
    pub(super) fn after(&self, span: Span) -> Deadline {
        self.spans.after(self.now, span)
    }

    pub(super) fn send(&mut self, flow: Flow, bytes: Bytes) {
        self.out.transmits.push_back(Transmit { flow, bytes });
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.out.events.push_back(event);
    }

    /// The bytes of a response to `request` that came from `source`.
    pub(super) fn response(&self, request: &Message, source: SocketAddr, draft: &ResponseDraft) -> Bytes {
        serialize_tagged(self.secret, request, source, draft)
    }
}

/// Writes a response. When neither the request nor the draft has a To tag, the layer's own is put in: every response but
/// 100 has one (RFC 3261 section 8.2.6.2).
pub(super) fn serialize_tagged(
    secret: &Secret,
    request: &Message,
    source: SocketAddr,
    draft: &ResponseDraft,
) -> Bytes {
    if draft.to_tag.is_some() || draft.status == 100 || request.to_tag().is_some() {
        return serialize_response(request, source, draft);
    }
    serialize_tagged_response(request, source, draft, Some(&secret.to_tag(request)))
}
