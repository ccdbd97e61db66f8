//! A server transaction: what both kinds share (how its request is recognized, where answers go) around the machine.
//!
//! In: repeats of its request, the user's answers, time. Out: whatever its machine does. Elsewhere: the machines
//! (`server_invite`, `server_other`), looking it up (`mod`).

use super::ServerId;
use super::ids::{MethodCode, Print};
use super::server_invite::InviteServer;
use super::server_other::OtherServer;
use super::step::Step;
use super::timers::{Alarm, Deadline};
use crate::draft::ResponseDraft;
use crate::flow::{ConnId, Flow, Transport};
use crate::header::Via;
use std::net::SocketAddr;

/// One server transaction.
pub(super) struct Server {
    pub(super) print: Print,
    pub(super) method: MethodCode,
    /// What merged requests and the ACK are found by, if there can be any.
    pub(super) call: Option<u64>,
    /// For an INVITE by RFC 2543: the To tag of our failure answer, which its ACK repeats (17.2.3).
    pub(super) legacy_to_tag: Option<Box<[u8]>>,
    pub(super) peer: Peer,
    pub(super) machine: Machine,
}

/// Which state machine.
pub(super) enum Machine {
    Invite(InviteServer),
    Other(OtherServer),
}

/// Whose request it is and where answers go.
#[derive(Clone, Copy)]
pub(super) struct Peer {
    pub(super) id: ServerId,
    pub(super) way_back: WayBack,
}

impl Peer {
    /// Nothing is repeated and nothing lingers on a transport that repeats by itself.
    pub(super) fn is_reliable(&self) -> bool {
        self.way_back.flow.transport.is_reliable()
    }
}

/// The way back to the sender of a request.
#[derive(Clone, Copy)]
pub(super) struct WayBack {
    /// Where answers go.
    pub(super) flow: Flow,
    /// Where the request came from: goes to `received` and `rport`.
    pub(super) source: SocketAddr,
    /// The port of the top Via's sent-by.
    sent_by_port: u16,
}

impl WayBack {
    /// RFC 3261 section 18.2.2, RFC 3581 section 4: back on the flow of the request; without `rport` in a UDP request's
    /// Via to the port of its sent-by, at the address it came from. `maddr` is not heeded: it would let anybody aim our
    /// answers at anybody.
    pub(super) fn new(via: &Via<'_>, flow: Flow, force_rport: bool) -> WayBack {
        let default = match flow.transport {
            Transport::Tls | Transport::Wss => 5061,
            Transport::Udp | Transport::Tcp | Transport::Ws => 5060,
        };
        let sent_by_port = via.port.filter(|port| *port != 0).unwrap_or(default);
        let mut back = WayBack { flow, source: flow.remote, sent_by_port };
        if !flow.transport.is_reliable() && !force_rport && via.rport().is_none() {
            back.flow.remote.set_port(sent_by_port);
        }
        back
    }

    /// The connection is gone: from now on answers go by a new one to the sender's address and the port of its sent-by
    /// (18.2.2). `false` if that was tried already, or if nobody can connect to a peer of this transport.
    fn reroute(&mut self) -> bool {
        let can_listen = match self.flow.transport {
            Transport::Tcp | Transport::Tls => true,
            Transport::Udp | Transport::Ws | Transport::Wss => false,
        };
        if !can_listen || self.flow.conn.0 == 0 {
            return false;
        }
        self.flow.conn = ConnId(0);
        self.flow.remote.set_port(self.sent_by_port);
        true
    }
}

impl Server {
    /// The request came again.
    pub(super) fn handle_repeat(&mut self, step: &mut Step<'_>) {
        match &mut self.machine {
            Machine::Invite(invite) => invite.handle_repeat(&self.peer, step),
            Machine::Other(other) => other.handle_repeat(&self.peer, step),
        }
    }

    pub(super) fn respond(&mut self, draft: &ResponseDraft, step: &mut Step<'_>) {
        match &mut self.machine {
            Machine::Invite(invite) => {
                if let (Some(tag), Some(request)) = (&mut self.legacy_to_tag, invite.request()) {
                    *tag = match (request.to_tag(), &draft.to_tag) {
                        (Some(tag), _) => tag.into(),
                        (None, Some(tag)) => tag.as_bytes().into(),
                        (None, None) => step.secret.to_tag(request).into_bytes().into(),
                    };
                }
                invite.respond(draft, &self.peer, step);
            }
            Machine::Other(other) => other.respond(draft, &self.peer, step),
        }
    }

    pub(super) fn handle_timeout(&mut self, alarm: Alarm, step: &mut Step<'_>) {
        match &mut self.machine {
            Machine::Invite(invite) => invite.handle_timeout(alarm, &self.peer, step),
            Machine::Other(other) => other.handle_timeout(alarm, &self.peer, step),
        }
    }

    /// Whether the user still owes the final answer.
    pub(super) fn is_pending(&self) -> bool {
        match &self.machine {
            Machine::Invite(invite) => invite.request().is_some(),
            Machine::Other(other) => other.is_pending(),
        }
    }

    /// Whether a failure was answered whose ACK is still to come (section 17.2.1). Nothing else is awaited from a client.
    pub(super) fn awaits_ack(&self) -> bool {
        matches!(self.machine, Machine::Invite(InviteServer::Completed { .. }))
    }

    /// The flow of the request is gone. The transaction stays (RFC 6026 section 7.1) and answers another way.
    pub(super) fn handle_transport_error(&mut self, step: &mut Step<'_>) {
        if self.peer.way_back.reroute()
            && let Machine::Invite(invite) = &mut self.machine
        {
            invite.handle_new_flow(&self.peer, step);
        }
    }

    /// Whether an ACK with this To tag is that of our failure answer. With the magic cookie the branch has told.
    pub(super) fn is_answered_with(&self, to_tag: Option<&[u8]>) -> bool {
        self.legacy_to_tag.as_ref().is_none_or(|tag| **tag == *to_tag.unwrap_or_default())
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
