//! A link to one other node for one service: numbered items that survive broken connections, each delivered once and in order.
//!
//! In: items to send, what comes by the connection of the moment, time. Out: frames, delivered items, [`Event`]s, one deadline. After every
//! call that takes `now` the owner drains events and frames, then reads the deadline. Elsewhere: connections (crate `mesh`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// How patient a link is, and how much it remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a link may be without a connection before the other node counts as lost.
    pub lost_after: Duration,
    /// The longest time between two frames: whoever has nothing to say sends an empty one.
    pub heartbeat: Duration,
    /// How long nothing may come before the connection counts as broken.
    pub silence: Duration,
    /// How long an acknowledgement waits for a frame that takes it along.
    pub ack_after: Duration,
    /// So many items are acknowledged without waiting.
    pub ack_items: u64,
    /// Items that are not acknowledged; one more, and the other node counts as lost.
    pub items_max: usize,
    /// Octets of those items.
    pub octets_max: usize,
    /// Octets of a frame's items, save where a single item is larger.
    pub frame_octets: usize,
    /// Items of a frame.
    pub frame_items: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // A caller who hangs up is not kept waiting longer than he would wait for a lost datagram.
            lost_after: Duration::from_secs(2),
            heartbeat: Duration::from_secs(1),
            // Two heartbeats may be lost, or late.
            silence: Duration::from_secs(3),
            ack_after: Duration::from_millis(50),
            ack_items: 512,
            // Five seconds of 1000 calls a second with a dozen items each.
            items_max: 65_536,
            octets_max: 32 * 1024 * 1024,
            frame_octets: 256 * 1024,
            frame_items: 1024,
        }
    }
}

impl Settings {
    /// What is sent to a node that has just been lost may look as if it had arrived for so long.
    pub fn unnoticed(&self) -> Duration {
        self.silence + self.lost_after
    }
}

/// What the dialling side of a connection says about the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The session that shall go on; 0: none.
    pub resume: u64,
    /// The session that shall begin where that one cannot go on: a random number, not 0, not that one.
    pub fresh: u64,
    /// Items of `resume` that it has received.
    pub received: u64,
    /// Grows with each connection that its process dials, so that an old one that comes late is known.
    pub attempt: u64,
}

/// What the dialled side says to a [`Greeting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The session that goes on or begins: one of the two that the greeting named.
    pub session: u64,
    /// Items of it that this side has received.
    pub received: u64,
}

/// Some items on their way, and how much came the other way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<T> {
    /// The number of the first item; the first of a session has 1.
    pub first: u64,
    /// The items; none in a heartbeat or an acknowledgement.
    pub items: Vec<T>,
    /// Items of this session that the sender has received.
    pub received: u64,
}

/// What becomes of a link. [`Event::Back`] and [`Event::Lost`] take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session began: items are taken from now on.
    Back,
    /// The session is over. What was sent in it has arrived or will never arrive; what comes later is of another one.
    Lost(Lost),
    /// The connection is of no use any more: close it.
    HangUp(HangUp),
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The node is back as another process.
    #[error("it came back as another process")]
    OtherInstance,
    /// It has left the cluster, and its connection with it.
    #[error("it has left the cluster")]
    Left,
    /// The other side gave the session up before.
    #[error("it had given the session up")]
    GivenUp,
    /// Nobody listens any more where it did.
    #[error("its process is gone")]
    Gone,
    /// No connection for too long.
    #[error("no connection for too long")]
    Down,
    /// It does not acknowledge what it is sent.
    #[error("too much that it has not acknowledged")]
    Full,
    /// What it says cannot be.
    #[error("{0}")]
    Broken(#[from] Broken),
}

impl Lost {
    /// Whether the process at the other end is no more. Otherwise it may live, out of reach from here alone.
    pub fn is_final(self) -> bool {
        matches!(self, Self::OtherInstance | Self::Left | Self::Gone)
    }
}

/// Why a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangUp {
    /// Nothing came for too long.
    Silence,
    /// The session ended, and the other side has to hear of it.
    SessionOver,
}

/// What a side that keeps to the rules never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// An item is missing, or comes again.
    #[error("its items are out of order")]
    OutOfOrder,
    /// It acknowledges what it was not sent.
    #[error("it acknowledges items that it was not sent")]
    Acknowledged,
    /// Its answer names a session that nobody proposed.
    #[error("it answers for a session that nobody proposed")]
    Session,
}

/// Why an item is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no session with the other node at the moment.
    #[error("the node is not connected")]
    NoSession,
    /// It does not acknowledge what it is sent; the session is over by that.
    #[error("the node does not take what it is sent")]
    Full,
}

/// A connection that cannot be used: it, or what it is for, is out of date. Close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is out of date")]
pub struct Stale;

/// Figures since the link was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames sent, empty ones with them.
    pub frames_sent: u64,
    /// Items sent, repeats not counted.
    pub items_sent: u64,
    /// Octets of items sent, repeats counted.
    pub octets_sent: u64,
    /// Items sent once more after a connection broke.
    pub items_resent: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Items received.
    pub items_received: u64,
    /// Octets of the frames received.
    pub octets_received: u64,
    /// Connections by which a session went on.
    pub resumed: u64,
    /// Sessions that ended.
    pub lost: u64,
}

/// One end of a link. `T` is what goes out; what comes in may be of another type.
#[derive(Debug)]
pub struct Link<T> {
    settings: Settings,
    /// The process at the other end, and its newest connection, as it said last.
    instance: Option<u64>,
    attempt: u64,
    /// That process has left the cluster, as others say.
    has_left: bool,
    /// Nobody listens where it did, and nothing has come from it since that was found.
    is_gone: bool,
    session: Option<Session<T>>,
    connection: Connection,
    /// What a connection that is being dialled says.
    pending: Option<Greeting>,
    events: VecDeque<Event>,
    counts: Counts,
}

#[derive(Debug)]
struct Session<T> {
    id: u64,
    /// The owner knows of it: items are taken.
    open: bool,
    /// Items that are not acknowledged, each with its octets, and the sum of these.
    kept: VecDeque<(T, usize)>,
    octets: usize,
    /// Items that were acknowledged.
    acked: u64,
    /// Items that were ever put into a frame.
    sent: u64,
    /// Items received.
    received: u64,
}

#[derive(Clone, Copy, Debug)]
enum Connection {
    Down {
        since: Instant,
    },
    Up {
        /// When something came last, and when something left last.
        heard: Instant,
        said: Instant,
        /// The number of the last item that was sent by this connection, or received before it.
        cursor: u64,
        /// Since when an acknowledgement is owed, for how many items of how many octets.
        owed: Option<Owed>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Owed {
    since: Instant,
    items: u64,
    octets: usize,
}

impl<T> Session<T> {
    fn new(id: u64) -> Self {
        Self { id, open: false, kept: VecDeque::new(), octets: 0, acked: 0, sent: 0, received: 0 }
    }

    /// Whether this may be the number of items that the other side has received.
    fn may_have(&self, received: u64) -> bool {
        (self.acked..=self.sent).contains(&received)
    }

    fn acknowledge(&mut self, received: u64) {
        while self.acked < received {
            let Some((_, octets)) = self.kept.pop_front() else { break };
            self.octets -= octets;
            self.acked += 1;
        }
    }
}

impl<T: Clone> Link<T> {
    /// A link that never had a connection.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            instance: None,
            attempt: 0,
            has_left: false,
            is_gone: false,
            session: None,
            connection: Connection::Down { since: now },
            pending: None,
            events: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Takes an item of so many octets to be sent. What is taken arrives once, behind all that was taken before, or [`Event::Lost`] comes.
    pub fn send(&mut self, item: T, octets: usize, now: Instant) -> Result<(), SendError> {
        let session = self.session.as_mut().filter(|session| session.open).ok_or(SendError::NoSession)?;
        if session.kept.len() >= self.settings.items_max || session.octets + octets > self.settings.octets_max
        {
            self.lose(Lost::Full, now);
            return Err(SendError::Full);
        }
        session.kept.push_back((item, octets));
        session.octets += octets;
        Ok(())
    }

    /// Dialling side: what a new connection shall say. `fresh` is a random number for the session that may begin; `attempt` is larger than
    /// in every connection that this process dialled to that node before.
    pub fn greet(&mut self, fresh: u64, attempt: u64) -> Greeting {
        let (resume, received) =
            self.session.as_ref().map_or((0, 0), |session| (session.id, session.received));
        // 0 means none, and a session must not have the name of the one before.
        let fresh = if fresh == 0 || fresh == resume { resume.wrapping_add(1).max(1) } else { fresh };
        let greeting = Greeting { resume, fresh, received, attempt };
        self.pending = Some(greeting);
        greeting
    }

    /// Dialling side: the answer to the last greeting, from the process `instance`. The connection is up, unless it is to be closed.
    pub fn answered(&mut self, answer: Answer, instance: u64, now: Instant) -> Result<(), Stale> {
        let greeting = self.pending.take().ok_or(Stale)?;
        let same = self.instance.replace(instance) == Some(instance);
        self.has_left &= same;
        let current = self.session.as_ref().map(|session| session.id);
        if answer.session == greeting.fresh {
            let why = if same { Lost::GivenUp } else { Lost::OtherInstance };
            self.lose(why, now);
            if answer.received != 0 {
                return Err(Stale);
            }
            self.begin(greeting.fresh);
            self.up(now);
            return Ok(());
        }
        if answer.session != greeting.resume {
            self.lose(Broken::Session.into(), now);
            return Err(Stale);
        }
        // It may have ended while the connection was being made: then the next one says so.
        if current != Some(greeting.resume) {
            return Err(Stale);
        }
        if !same {
            self.lose(Lost::OtherInstance, now);
            return Err(Stale);
        }
        if !self.resume(answer.received, now) {
            self.lose(Broken::Acknowledged.into(), now);
            return Err(Stale);
        }
        Ok(())
    }

    /// Dialled side: somebody's greeting, from the process `instance`. The connection is up and takes the place of the one before,
    /// unless it is the older one.
    pub fn accept(&mut self, greeting: Greeting, instance: u64, now: Instant) -> Result<Answer, Stale> {
        if self.is_stale(&greeting, instance) {
            return Err(Stale);
        }
        let same = self.instance == Some(instance);
        self.instance = Some(instance);
        self.has_left &= same;
        self.attempt = greeting.attempt;
        let ours = self.session.as_ref().is_some_and(|session| session.id == greeting.resume);
        if !(same && ours && self.resume(greeting.received, now)) {
            self.lose(if same { Lost::GivenUp } else { Lost::OtherInstance }, now);
            self.begin(greeting.fresh);
            self.up(now);
        }
        let (session, received) =
            self.session.as_ref().map_or((0, 0), |session| (session.id, session.received));
        Ok(Answer { session, received })
    }

    /// Whether a greeting comes by an older connection than the newest one of the same process.
    pub fn is_stale(&self, greeting: &Greeting, instance: u64) -> bool {
        self.instance == Some(instance) && greeting.attempt <= self.attempt
    }

    /// Others say that the node is the process `instance` now: a session with an earlier one that has no connection is over.
    pub fn replaced(&mut self, instance: u64, now: Instant) {
        if !self.is_up() && self.instance.is_some_and(|known| known != instance) {
            self.lose(Lost::OtherInstance, now);
        }
    }

    /// Others say whether the node has left the cluster: then its session is over as soon as there is no connection.
    pub fn left(&mut self, has_left: bool, now: Instant) {
        self.has_left = has_left;
        if has_left && !self.is_up() {
            self.lose(Lost::Left, now);
        }
    }

    /// Nobody listens where the node does: a process that lives always does, so this one is gone, and its session is over as soon as there
    /// is no connection.
    pub fn gone(&mut self, now: Instant) {
        self.is_gone = true;
        if !self.is_up() {
            self.lose(Lost::Gone, now);
        }
    }

    /// The connection broke.
    pub fn disconnected(&mut self, now: Instant) {
        self.pending = None;
        if let Connection::Up { .. } = self.connection {
            self.connection = Connection::Down { since: now };
        }
        if self.has_left {
            self.lose(Lost::Left, now);
        } else if self.is_gone {
            self.lose(Lost::Gone, now);
        }
    }

    /// A frame came by the connection, of so many octets: its items, for the owner. None when the link is down or was hung up.
    pub fn handle_frame<I>(&mut self, frame: Frame<I>, octets: usize, now: Instant) -> Vec<I> {
        let (Some(session), Connection::Up { heard, cursor, owed, .. }) =
            (self.session.as_mut(), &mut self.connection)
        else {
            return Vec::new();
        };
        *heard = now;
        self.is_gone = false;
        let items = frame.items.len() as u64;
        let broken = if frame.received > *cursor {
            Some(Broken::Acknowledged)
        } else if items > 0 && frame.first != session.received + 1 {
            Some(Broken::OutOfOrder)
        } else {
            None
        };
        if let Some(broken) = broken {
            self.lose(broken.into(), now);
            return Vec::new();
        }
        session.acknowledge(frame.received);
        if items > 0 {
            session.received += items;
            let owed = owed.get_or_insert(Owed { since: now, items: 0, octets: 0 });
            owed.items += items;
            owed.octets += octets;
        }
        self.counts.frames_received += 1;
        self.counts.items_received += items;
        self.counts.octets_received += octets as u64;
        frame.items
    }

    /// Does what is due: gives up a silent connection, and a session that has been without one for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.connection {
            Connection::Down { since } if now >= since + self.settings.lost_after => {
                self.lose(Lost::Down, now)
            }
            Connection::Up { heard, .. } if now >= heard + self.settings.silence => {
                self.connection = Connection::Down { since: now };
                self.events.push_back(Event::HangUp(HangUp::Silence));
            }
            Connection::Down { .. } | Connection::Up { .. } => {}
        }
    }

    /// Whether [`Link::poll_frame`] has a frame now.
    pub fn is_due(&self, now: Instant) -> bool {
        let (Some(session), Connection::Up { said, cursor, owed, .. }) = (&self.session, &self.connection)
        else {
            return false;
        };
        let settings = &self.settings;
        session.acked + session.kept.len() as u64 > *cursor
            || now >= *said + settings.heartbeat
            || owed.is_some_and(|owed| {
                now >= owed.since + settings.ack_after
                    || owed.items >= settings.ack_items
                    || owed.octets >= settings.octets_max / 4
            })
    }

    /// The next frame for the connection, if one is due.
    pub fn poll_frame(&mut self, now: Instant) -> Option<Frame<T>> {
        if !self.is_due(now) {
            return None;
        }
        let (Some(session), Connection::Up { said, cursor, owed, .. }) =
            (self.session.as_mut(), &mut self.connection)
        else {
            return None;
        };
        let settings = &self.settings;
        let first = *cursor + 1;
        let mut octets = 0;
        let items: Vec<T> = session
            .kept
            .range((*cursor - session.acked) as usize..)
            .take(settings.frame_items.max(1))
            .enumerate()
            .take_while(|(at, (_, size))| {
                octets += size;
                *at == 0 || octets <= settings.frame_octets
            })
            .map(|(_, (item, size))| {
                self.counts.octets_sent += *size as u64;
                item.clone()
            })
            .collect();
        *cursor += items.len() as u64;
        let repeats = (session.sent.min(*cursor) + 1).saturating_sub(first);
        session.sent = session.sent.max(*cursor);
        *said = now;
        *owed = None;
        self.counts.frames_sent += 1;
        self.counts.items_sent += items.len() as u64 - repeats;
        self.counts.items_resent += repeats;
        Some(Frame { first, items, received: session.received })
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if event == Event::Back
            && let Some(session) = &mut self.session
        {
            session.open = true;
        }
        Some(event)
    }

    /// When [`Link::handle_timeout`] and [`Link::poll_frame`] are to be called at the latest; `None`: nothing will happen by itself.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.session.as_ref()?;
        Some(match self.connection {
            Connection::Down { since } => since + self.settings.lost_after,
            Connection::Up { heard, said, owed, .. } => {
                let next = (heard + self.settings.silence).min(said + self.settings.heartbeat);
                owed.map_or(next, |owed| next.min(owed.since + self.settings.ack_after))
            }
        })
    }

    /// The session of the moment, if there is one.
    pub fn session(&self) -> Option<u64> {
        self.session.as_ref().map(|session| session.id)
    }

    /// Whether the session of the moment has a connection.
    pub fn is_up(&self) -> bool {
        matches!(self.connection, Connection::Up { .. })
    }

    /// Items that wait for their acknowledgement, and their octets.
    pub fn kept(&self) -> (usize, usize) {
        self.session.as_ref().map_or((0, 0), |session| (session.kept.len(), session.octets))
    }

    /// Figures.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn begin(&mut self, id: u64) {
        self.session = Some(Session::new(id));
        self.events.push_back(Event::Back);
    }

    /// Goes on by a new connection, if the other side can have received so much.
    fn resume(&mut self, received: u64, now: Instant) -> bool {
        let Some(session) = self.session.as_mut().filter(|session| session.may_have(received)) else {
            return false;
        };
        session.acknowledge(received);
        self.counts.resumed += 1;
        self.up(now);
        true
    }

    fn up(&mut self, now: Instant) {
        self.is_gone = false;
        // What was to be closed is replaced by this connection.
        self.events.retain(|event| !matches!(event, Event::HangUp(_)));
        let cursor = self.session.as_ref().map_or(0, |session| session.acked);
        self.connection = Connection::Up { heard: now, said: now, cursor, owed: None };
    }

    /// Ends the session, if there is one. A session that the owner never heard of ends without a word.
    fn lose(&mut self, why: Lost, now: Instant) {
        let Some(session) = self.session.take() else { return };
        self.counts.lost += 1;
        if session.open {
            self.events.push_back(Event::Lost(why));
        } else {
            self.events.retain(|event| *event != Event::Back);
        }
        if let Connection::Up { .. } = self.connection {
            self.connection = Connection::Down { since: now };
            self.events.push_back(Event::HangUp(HangUp::SessionOver));
        }
    }
}
