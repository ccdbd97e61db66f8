//! A client transaction: what both kinds share (who asked, where it goes, what its branch was) around the machine.
//!
//! In: responses that matched its branch, time, transport errors. Out: whatever its machine does. Elsewhere: the machines
//! (`client_invite`, `client_other`), the making of branches (`mod`).

use super::ClientKey;
use super::client_invite::InviteClient;
use super::client_other::OtherClient;
use super::ids::MethodCode;
use super::step::Step;
use super::timers::{Alarm, Deadline};
use crate::draft::RequestDraft;
use crate::flow::{Flow, Transport};
use crate::msg::Message;

/// One client transaction.
pub(super) struct Client {
    pub(super) method: MethodCode,
    /// The part of the branch that a stranger cannot guess.
    pub(super) random: u64,
    pub(super) peer: Peer,
    /// Until something answers on the stream that was tried first: what to send by UDP instead.
    pub(super) instead: Option<Box<Instead>>,
    pub(super) machine: Machine,
}

/// Who asked and where the request went.
#[derive(Clone, Copy)]
pub(super) struct Peer {
    pub(super) key: ClientKey,
    pub(super) flow: Flow,
}

impl Peer {
    /// Nothing is repeated and nothing lingers on a transport that repeats by itself.
    pub(super) fn is_reliable(&self) -> bool {
        self.flow.transport.is_reliable()
    }
}

/// A request too large for UDP whose peer may turn out not to have TCP (RFC 3261 section 18.1.1).
pub(super) struct Instead {
    pub(super) draft: RequestDraft,
    pub(super) flow: Flow,
}

/// Which state machine.
pub(super) enum Machine {
    Invite(InviteClient),
    Other(OtherClient),
}

impl Client {
    pub(super) fn handle_response(&mut self, msg: Message, from: Flow, step: &mut Step<'_>) {
        self.instead = None;
        match &mut self.machine {
            Machine::Invite(invite) => invite.handle_response(msg, from, &self.peer, step),
            Machine::Other(other) => other.handle_response(msg, from, &self.peer, step),
        }
    }

    pub(super) fn handle_timeout(&mut self, alarm: Alarm, step: &mut Step<'_>) {
        match &mut self.machine {
            Machine::Invite(invite) => invite.handle_timeout(alarm, &self.peer, step),
            Machine::Other(other) => other.handle_timeout(alarm, &self.peer, step),
        }
    }

    pub(super) fn handle_transport_error(&mut self, step: &mut Step<'_>) {
        match &mut self.machine {
            Machine::Invite(invite) => invite.handle_transport_error(&self.peer, step),
            Machine::Other(other) => other.handle_transport_error(&self.peer, step),
        }
    }

    /// Whether the final response is still to come. Afterwards a broken flow means nothing.
    pub(super) fn is_pending(&self) -> bool {
        match &self.machine {
            Machine::Invite(invite) => invite.is_pending(),
            Machine::Other(other) => other.is_pending(),
        }
    }

    /// Whether losing `broken` loses what was sent. A flow without a connection used whichever one the shell had.
    pub(super) fn used(&self, broken: Flow) -> bool {
        let own = self.peer.flow;
        let same_way = match own.transport {
            Transport::Udp => own.listener == broken.listener,
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                own.conn.0 == 0 || own.conn == broken.conn
            }
        };
        own.transport == broken.transport && own.remote == broken.remote && same_way
    }

    pub(super) fn deadlines(&self) -> [Option<Deadline>; 2] {
        match &self.machine {
            Machine::Invite(invite) => invite.deadlines(),
            Machine::Other(other) => other.deadlines(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        match &self.machine {
            Machine::Invite(invite) => invite.is_over(),
            Machine::Other(other) => other.is_over(),
        }
    }
}
