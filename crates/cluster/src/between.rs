//! What nodes of a cluster tell each other: about calls and their legs, about media, about who is where.
//!
//! Native types only; their wire form and the streams that carry them are of crate `mesh`. On a link to each other node the
//! messages of one service keep their order. Elsewhere: the same within one process ([`crate::leg`], [`crate::media`]).

use crate::ids::{CallId, LegId, NodeId};
use crate::leg::{Incoming, LegCommand, LegEvent, Originate};
use crate::media::{MediaCommand, MediaEvent, MediaReply, Signalling};
use crate::question::{Answer, Question};
use bytes::Bytes;
use model::{Aor, BindingRecord, Brand, Client, Id, User};

/// By what right an application server acts for a call. Of two owners the one with the larger epoch is right, and with equal
/// epochs the one with the larger node number: then they took it over at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Title {
    /// The call.
    pub call: CallId,
    /// How often the call has changed its owner.
    pub epoch: u32,
}

/// Who acts for a call, in the order in which claims beat each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// How often the call had changed its owner before.
    pub epoch: u32,
    /// The application server.
    pub node: NodeId,
}

/// The state of a call for whoever carries it on: what its owner said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capsule {
    /// Grows with each change of the call, within one epoch.
    pub version: u32,
    /// Whose call it is: application servers are chosen by it. `None`: as it was.
    pub client: Option<Id<Client>>,
    /// The serialized call; empty: nothing was decided yet, and the [`Incoming`] says all.
    pub call: Bytes,
    /// Its legs, as far as they are established.
    pub legs: Vec<KeptLeg>,
    /// Who else has custody.
    pub custodians: Vec<NodeId>,
}

/// A leg for whoever has to carry it on. It keeps its name wherever it lives: the name is in the tag that its peer knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLeg {
    /// The leg.
    pub leg: LegId,
    /// The proxy that has it now.
    pub home: NodeId,
    /// The serialized dialog.
    pub state: Bytes,
}

/// What happened to a leg while its call had no owner, or before the owner was known to have heard of it.
#[derive(Clone, Debug)]
pub struct Happened {
    /// The leg.
    pub leg: LegId,
    /// When, in microseconds of Unix time.
    pub unix_us: i64,
    /// What; `None`: its actor is gone without a word.
    pub event: Option<LegEvent>,
}

/// All that a custodian knows of a call.
#[derive(Clone, Debug)]
pub struct Stand {
    /// By which right the call is, or shall be, served.
    pub title: Title,
    /// The INVITE that began it, at the proxy that got it, until there is a capsule.
    pub incoming: Option<Box<Incoming>>,
    /// What the owner said last.
    pub capsule: Capsule,
    /// The legs that live at this custodian.
    pub legs: Vec<LegId>,
    /// What became of legs, in order: the last of each leg that ended, and all that the lost owner was not told.
    pub happened: Vec<Happened>,
}

/// Why an application server does not serve a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decline {
    /// It has as many calls as it can serve.
    Full,
    /// It is about to leave.
    Draining,
    /// Its disk takes no records at the moment.
    NoRecords,
    /// The capsule is of a release that it does not understand.
    Format,
    /// It has no such call.
    Unknown,
}

/// From a custodian of calls (a proxy, as a rule) to an application server.
#[derive(Clone, Debug)]
pub enum ToCalls {
    /// A new call. The answer is [`ToLegs::Decline`] or whatever the call does.
    Incoming {
        /// Epoch 0, or more when an earlier owner was lost before it had decided anything.
        title: Title,
        /// The INVITE.
        incoming: Box<Incoming>,
    },
    /// Something happened on a leg.
    Event {
        /// The owner that it is for.
        title: Title,
        /// The leg.
        leg: LegId,
        /// What.
        event: LegEvent,
    },
    /// A leg's actor is gone without a word of its own; its peer was told.
    LegLost {
        /// The owner that it is for.
        title: Title,
        /// The leg.
        leg: LegId,
    },
    /// The dialog of a leg, at rest and changed: for the call's capsule.
    LegState {
        /// The owner that it is for.
        title: Title,
        /// The leg.
        leg: LegId,
        /// The serialized dialog.
        state: Bytes,
    },
    /// The call's owner is lost (or asked for it, draining): serve it, by this title. The answer is [`ToLegs::Claim`] or
    /// [`ToLegs::Decline`].
    Offer(Box<Stand>),
    /// The answer to [`ToLegs::Claim`]: the claim holds here.
    Claimed(Box<Stand>),
    /// Somebody else owns the call by a better title: whoever hears this drops it, without a word to its legs and without a record.
    Superseded {
        /// The title that is void.
        title: Title,
        /// The better one.
        by: Owner,
    },
    /// The answer to a command, a capsule or a claim for a call that is not in custody here.
    NotHere {
        /// The title that was shown.
        title: Title,
        /// The leg that was meant, if it was a command.
        leg: Option<LegId>,
    },
    /// A request inside a dialog came to a proxy that has no such leg: who has? The answer is [`ToLegs::Revive`] or [`ToLegs::NoStray`].
    Stray {
        /// Comes back with the answer.
        ticket: u64,
        /// The call, as the Contact that we gave the peer names it.
        call: CallId,
        /// What our tag of the dialog calls the leg. The proxy has checked the tag's seal.
        leg: LegId,
    },
    /// The answer to [`ToLegs::Revive`].
    Revived {
        /// The owner that it is for.
        title: Title,
        /// The leg.
        leg: LegId,
        /// Whether it lives at the sender now.
        lives: bool,
    },
    /// This proxy is about to leave, and the leg is at rest: another proxy may have it. The answer is [`ToLegs::Part`] when that one has it;
    /// where none has, it stays, and this is said again.
    Leaves {
        /// The owner that it is for.
        title: Title,
        /// The leg.
        leg: LegId,
    },
    /// More names for legs at this proxy, asked for by [`ToLegs::Names`].
    Names(LegNames),
}

/// Names of legs that a proxy sets aside for one application server, so that it can name them itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegNames {
    /// The proxy's SIP worker that these legs will live with; there are names of each.
    pub worker: u8,
    /// The counter of the first name.
    pub first: u64,
    /// How many.
    pub count: u32,
}

/// From an application server to a custodian of its calls.
#[derive(Clone, Debug)]
pub enum ToLegs {
    /// It does not serve this call: ask another.
    Decline {
        /// The title that was offered.
        title: Title,
        /// Why.
        why: Decline,
    },
    /// A new leg; events follow under this name.
    Originate {
        /// By what right.
        title: Title,
        /// Its name, of those set aside.
        leg: LegId,
        /// The Call-ID of its dialog.
        sip_call_id: String,
        /// What to do.
        order: Box<Originate>,
    },
    /// Tells a leg what to do.
    Command {
        /// By what right.
        title: Title,
        /// The leg.
        leg: LegId,
        /// What.
        command: LegCommand,
    },
    /// Keep this for the next owner. Parts that are empty stay as they were.
    Keep {
        /// By what right.
        title: Title,
        /// The call's state.
        capsule: Box<Capsule>,
    },
    /// The sender takes the call over: obey it from now on.
    Claim {
        /// By what right.
        title: Title,
    },
    /// The call's record is durable: forget the call; legs that are left are ended.
    Done {
        /// By what right.
        title: Title,
    },
    /// Carry on this leg, whose proxy is lost or gives it up.
    Revive {
        /// By what right.
        title: Title,
        /// The leg.
        leg: LegId,
        /// Of the request that waits for it, if one does.
        ticket: Option<u64>,
        /// The serialized dialog.
        state: Bytes,
    },
    /// This leg lives elsewhere now: forget it without a word to its peer.
    Part {
        /// By what right.
        title: Title,
        /// The leg.
        leg: LegId,
    },
    /// No call of this node has such a leg.
    NoStray {
        /// Of the question.
        ticket: u64,
    },
    /// Set aside more names.
    Names,
}

/// From an application server to a relay.
#[derive(Clone, Debug)]
pub enum ToRelay {
    /// A command; the answer is [`FromRelay::Reply`] with the same ticket.
    Submit {
        /// Whose media.
        call: CallId,
        /// Comes back with the answer.
        ticket: u32,
        /// What to do.
        command: MediaCommand,
        /// Where the parties' signalling comes from.
        signalling: Signalling,
    },
}

/// From a relay to an application server.
#[derive(Clone, Debug)]
pub enum FromRelay {
    /// The answer to [`ToRelay::Submit`].
    Reply {
        /// Whose media.
        call: CallId,
        /// Of the command.
        ticket: u32,
        /// The answer.
        reply: MediaReply,
    },
    /// Something happened. It goes to the application server that last gave a command for the call.
    Event {
        /// Whose media.
        call: CallId,
        /// What.
        event: MediaEvent,
    },
}

/// A registered contact, as every node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The binding.
    pub binding: BindingRecord,
    /// The proxy that it was registered at.
    pub home: NodeId,
    /// The connection that it was registered by, as its home numbers them; 0: none.
    pub conn: u64,
    /// When it was last registered, in microseconds of Unix time: of two for the same device the later one is right.
    pub stamp_us: i64,
}

/// Which of its tenants' calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counted {
    /// The calls of a brand.
    Brand(Id<Brand>),
    /// The calls of a client.
    Client(Id<Client>),
    /// The calls that a user has.
    User(Id<User>),
    /// The calls that a user makes and nobody has answered.
    Attempts(Id<User>),
}

/// Between any two nodes: bindings, counters of calls, and operators' questions.
#[derive(Clone, Debug)]
pub enum DirectoryItem {
    /// All bindings of the sender follow; what it told before is void.
    Whole,
    /// The last binding of the whole was told.
    WholeTold,
    /// A binding of the sender.
    Bound(Box<Located>),
    /// A binding of another proxy, which has left the cluster. Told to nodes that come after that, for a telephone that registered by
    /// UDP can be called by way of others until its binding expires.
    Orphan(Box<Located>),
    /// The sender has no such binding any more.
    Unbound {
        /// The endpoint.
        aor: Aor,
        /// The contact's URI.
        contact: String,
        /// When it ended.
        stamp_us: i64,
    },
    /// Bindings of the endpoint that are older are void, with whomever they were registered but the node that says so: a telephone removed
    /// them there (RFC 3261 section 10.2.2), an operator did, or they are replaced.
    Forget {
        /// The endpoint.
        aor: Aor,
        /// Only this contact.
        contact: Option<String>,
        /// Those registered before, in microseconds of Unix time.
        before_us: i64,
    },
    /// May this call count for these? To the owner of the tenant's partition.
    Reserve {
        /// Comes back with the answer; 0: none is wanted, for no limit is asked for.
        ticket: u64,
        /// The partition that the tenant belongs to.
        partition: u16,
        /// The call.
        call: CallId,
        /// How often it has changed its owner: it counts for the sender instead of for those before.
        epoch: u32,
        /// What it counts for, and how many there may be (0: any number).
        counts: Vec<(Counted, u32)>,
    },
    /// The answer.
    Reserved {
        /// Of the question.
        ticket: u64,
        /// `None`: it may, and is counted. Else what is full.
        full: Option<Counted>,
        /// The owner's fence; 0: the asked node is not the owner, or not sure of it.
        fence: u64,
    },
    /// A call of the sender counts no more for these; none: for nothing.
    Release {
        /// The partition.
        partition: u16,
        /// The call.
        call: CallId,
        /// For what.
        counts: Vec<Counted>,
    },
    /// The sender owns the partition and wants to know what calls count for. The answer is `Holds`; what an earlier owner granted and was not
    /// heard by then is void.
    Recount {
        /// The partition.
        partition: u16,
        /// The owner's fence.
        fence: u64,
    },
    /// What the sender's calls count for in a partition, all of them; the last one says `complete`.
    Holds {
        /// The partition.
        partition: u16,
        /// Of the question.
        fence: u64,
        /// Which process of the node has these calls.
        instance: u64,
        /// The calls.
        calls: Vec<Hold>,
        /// Nothing more follows.
        complete: bool,
    },
    /// An operator's question to the node.
    Ask {
        /// Comes back with the answer.
        ticket: u64,
        /// What is asked.
        question: Question,
    },
    /// The answer.
    Answer {
        /// Of the question.
        ticket: u64,
        /// What is answered.
        answer: Answer,
    },
}

/// What a call counts for in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The call.
    pub call: CallId,
    /// How often it has changed its owner.
    pub epoch: u32,
    /// For what.
    pub counts: Vec<Counted>,
}
