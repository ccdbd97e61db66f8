//! One link as the shell has it: the core behind a lock, what pulls frames out of it, and the task that feeds it.
//!
//! Senders put items into the core and wake the stream of frames, which HTTP/2 polls when there is room: so what is sent while the
//! other side is slow becomes few large frames. Elsewhere: making connections (`dial`, `serve`).

use super::figures::LinkStatus;
use super::hello::{self, PeerInfo, Refused};
use super::lane::{Dialled, Frames, Lane, Parts};
use super::{Hub, ITEM_MAX, LINKS_MAX, PeerAddress, PeerSink, SendError, dial};
use crate::causes::chain;
use crate::wire::Wire;
use cluster::ids::NodeId;
use cluster::link::{self, Answer, Event, Frame, Greeting, Link, Stale};
use futures_util::Stream;
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, RwLock};
use prost::Message as _;
use proto::v1;
use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tonic::Streaming;

/// Items of a frame that is taken.
const FRAME_ITEMS_MAX: usize = 1024;
/// A deadline that cannot be met at once (the other side takes no frame now) is not looked at more often than this.
const BREATH: Duration = Duration::from_millis(5);
/// How long a link sleeps at most when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

type OutItem<L> = <<L as Lane>::OutFrame as Frames>::Item;

/// A link to one node.
pub(super) struct Line<L: Lane> {
    pub(super) node: NodeId,
    link: Mutex<Link<OutItem<L>>>,
    /// Of the stream of frames of the moment.
    waker: AtomicWaker,
    /// For the link's task: there may be events.
    notify: Notify,
    /// Counts connections; streams of older ones end.
    connection: AtomicU64,
    about: Mutex<About>,
    unread: AtomicU64,
}

#[derive(Default)]
struct About {
    info: PeerInfo,
    trouble: Option<String>,
}

/// A dialler that introduced itself, for the link's task.
pub(super) struct Accepted<L: Lane> {
    pub(super) greeting: Greeting,
    pub(super) info: PeerInfo,
    pub(super) inbound: Streaming<L::InFrame>,
    /// Gets what goes the other way.
    pub(super) answer: oneshot::Sender<Result<Outgoing<L>, Refused>>,
}

/// The time as cores have it; a test's paused clock, too.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl<L: Lane> Line<L> {
    fn new(node: NodeId, settings: link::Settings) -> Self {
        Self {
            node,
            link: Mutex::new(Link::new(settings, now())),
            waker: AtomicWaker::new(),
            notify: Notify::new(),
            connection: AtomicU64::new(0),
            about: Mutex::default(),
            unread: AtomicU64::new(0),
        }
    }

    fn send(&self, item: L::Out) -> Result<(), SendError> {
        let message = item.write()?;
        let octets = message.encoded_len();
        if octets > ITEM_MAX {
            return Err(SendError::TooLarge { octets });
        }
        let sent = self.link.lock().send(message, octets, now());
        match sent {
            Ok(()) => {
                self.waker.wake();
                Ok(())
            }
            Err(link::SendError::NoSession) => Err(SendError::NotConnected),
            Err(link::SendError::Full) => {
                self.notify.notify_one();
                Err(SendError::Full)
            }
        }
    }

    pub(super) fn has_session(&self) -> bool {
        self.link.lock().session().is_some()
    }

    pub(super) fn greet(&self, fresh: u64, attempt: u64) -> Greeting {
        self.link.lock().greet(fresh, attempt)
    }

    /// The number of a connection that is about to be tried; streams of those before end.
    pub(super) fn next_connection(&self) -> u64 {
        let number = self.connection.fetch_add(1, Ordering::SeqCst) + 1;
        self.waker.wake();
        number
    }

    pub(super) fn answered(&self, answer: Answer, info: PeerInfo) -> Result<(), Stale> {
        self.link.lock().answered(answer, info.instance, now())?;
        *self.about.lock() = About { info, trouble: None };
        self.waker.wake();
        Ok(())
    }

    pub(super) fn troubled(&self, trouble: String) {
        self.about.lock().trouble = Some(trouble);
    }

    /// The connection is over, or never was.
    pub(super) fn down(&self) {
        self.link.lock().disconnected(now());
        self.next_connection();
    }

    /// Tells the sink what became of the link; `true`: the connection is to be closed.
    pub(super) fn events(&self, sink: &dyn PeerSink) -> bool {
        let mut hang_up = false;
        loop {
            let event = self.link.lock().poll_event();
            let (node, way) = (self.node, L::WAY);
            match event {
                None => return hang_up,
                Some(Event::HangUp(_)) => hang_up = true,
                Some(Event::Back) => {
                    let info = self.about.lock().info.clone();
                    tracing::info!(
                        peer = node.0,
                        name = info.name,
                        release = info.release,
                        way = way.name(),
                        "a node is connected"
                    );
                    guarded(node, || sink.back(node, way));
                }
                Some(Event::Lost(why)) => {
                    tracing::warn!(peer = node.0, way = way.name(), %why, "a node is lost");
                    guarded(node, || sink.lost(node, way, why));
                }
            }
        }
    }

    /// Nobody listens where the node does.
    fn gone(&self) {
        self.link.lock().gone(now());
        self.notify.notify_one();
    }

    fn due(&self) -> tokio::time::Instant {
        let now = now();
        let due = self.link.lock().poll_timeout().unwrap_or(now + IDLE);
        due.max(now + BREATH).into()
    }

    fn timeout(&self) {
        self.link.lock().handle_timeout(now());
        self.waker.wake();
    }

    /// Does some work while the link's time passes.
    pub(super) async fn tend<F: Future>(&self, sink: &dyn PeerSink, work: F) -> F::Output {
        let mut work = pin!(work);
        loop {
            self.events(sink);
            tokio::select! {
                done = &mut work => return done,
                () = self.notify.notified() => {}
                () = tokio::time::sleep_until(self.due()) => self.timeout(),
            }
        }
    }

    /// Carries on a connection until it ends, or until the dialler has made a newer one: that is the result.
    pub(super) async fn talk(
        &self,
        hub: &Hub,
        inbound: &mut Streaming<L::InFrame>,
        mut newer: Option<&mut mpsc::Receiver<Accepted<L>>>,
    ) -> Option<Accepted<L>> {
        let sink = &*hub.sink;
        let mut next = None;
        loop {
            if self.events(sink) {
                break;
            }
            let accepted = async {
                match &mut newer {
                    Some(queue) => queue.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.notify.notified() => {}
                () = tokio::time::sleep_until(self.due()) => self.timeout(),
                accepted = accepted => match accepted {
                    Some(accepted) if self.link.lock().is_stale(&accepted.greeting, accepted.info.instance) => {
                        let _ = accepted.answer.send(Err(stale()));
                    }
                    accepted => {
                        next = accepted;
                        break;
                    }
                },
                frame = inbound.message() => {
                    let ended = match frame {
                        Ok(Some(frame)) => self.take(frame, hub).err(),
                        Ok(None) => Some("the connection was closed".to_owned()),
                        Err(status) => Some(chain(&status)),
                    };
                    if let Some(why) = ended {
                        self.troubled(why);
                        break;
                    }
                }
            }
        }
        self.down();
        self.events(sink);
        next
    }

    /// Takes a frame and tells the sink its items; an error where it is none.
    fn take(&self, frame: L::InFrame, hub: &Hub) -> Result<(), String> {
        let octets = frame.encoded_len();
        let parts = frame.into_parts();
        let numbers = parts.numbers.ok_or("it sent a frame without numbers")?;
        if parts.items.len() > FRAME_ITEMS_MAX {
            return Err(format!(
                "it sent {} items in one frame, {FRAME_ITEMS_MAX} at most",
                parts.items.len()
            ));
        }
        let frame = Frame { first: numbers.first, items: parts.items, received: numbers.received };
        let (items, due) = {
            let (mut link, now) = (self.link.lock(), now());
            (link.handle_frame(frame, octets, now), link.is_due(now))
        };
        if due {
            self.waker.wake();
        }
        for item in items {
            match L::In::read(item) {
                Ok(item) => guarded(self.node, || L::deliver(&*hub.sink, self.node, item)),
                Err(error) => {
                    self.unread.fetch_add(1, Ordering::Relaxed);
                    let who = format!("{} {}", self.node.0, L::WAY.name());
                    if hub.sayings.may(who, error.field) {
                        tracing::warn!(peer = self.node.0, way = L::WAY.name(), %error, "an item of a node is dropped");
                    }
                }
            }
        }
        Ok(())
    }

    fn status(&self) -> LinkStatus {
        let link = self.link.lock();
        let about = self.about.lock();
        let (waiting_items, waiting_octets) = link.kept();
        LinkStatus {
            node: self.node,
            way: L::WAY,
            name: about.info.name.clone(),
            instance: about.info.instance,
            release: about.info.release.clone(),
            protocol: about.info.protocol,
            session: link.session().is_some(),
            connected: link.is_up(),
            waiting_items,
            waiting_octets,
            unread: self.unread.load(Ordering::Relaxed),
            counts: link.counts(),
            trouble: about.trouble.clone(),
        }
    }
}

/// Calls into other layers: one that panics costs that item.
fn guarded(node: NodeId, call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!(peer = node.0, "taking what a node says panics; the item is gone");
    }
}

fn stale() -> Refused {
    Refused::new(v1::RefusalReason::Stale, "there is a newer connection")
}

/// The frames of one connection, as HTTP/2 takes them: the introduction, then whatever is due.
pub(super) struct Outgoing<L: Lane> {
    first: Option<L::OutFrame>,
    /// `None`: nothing follows.
    line: Option<(Arc<Line<L>>, u64)>,
}

impl<L: Lane> Outgoing<L> {
    pub(super) fn new(line: Arc<Line<L>>, connection: u64, first: Parts<OutItem<L>>) -> Self {
        Self { first: Some(L::OutFrame::from_parts(first)), line: Some((line, connection)) }
    }

    pub(super) fn refusal(refused: &Refused) -> Self {
        let parts = Parts { refusal: Some(refused.message()), ..Parts::default() };
        Self { first: Some(L::OutFrame::from_parts(parts)), line: None }
    }
}

// Frames are moved out, never pinned.
impl<L: Lane> Unpin for Outgoing<L> {}

impl<L: Lane> Stream for Outgoing<L> {
    type Item = L::OutFrame;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<L::OutFrame>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let Some((line, connection)) = &self.line else { return Poll::Ready(None) };
        line.waker.register(context.waker());
        if line.connection.load(Ordering::SeqCst) != *connection {
            return Poll::Ready(None);
        }
        let frame = line.link.lock().poll_frame(now());
        match frame {
            Some(Frame { first, items, received }) => {
                let numbers = Some(v1::Numbers { first, received });
                Poll::Ready(Some(L::OutFrame::from_parts(Parts { numbers, items, ..Parts::default() })))
            }
            None => Poll::Pending,
        }
    }
}

/// All links of one kind.
pub(super) struct Lines<L: Lane>(RwLock<HashMap<NodeId, Entry<L>>>);

struct Entry<L: Lane> {
    line: Arc<Line<L>>,
    feed: Feed<L>,
}

/// How the link's task hears of what it needs.
enum Feed<L: Lane> {
    /// It dials: where to.
    Dial(watch::Sender<Option<PeerAddress>>),
    /// It is dialled.
    Accept(mpsc::Sender<Accepted<L>>),
}

impl<L: Lane> Default for Lines<L> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<L: Lane> Lines<L> {
    pub(super) fn send(&self, node: NodeId, item: L::Out) -> Result<(), SendError> {
        let line = self.0.read().get(&node).map(|entry| Arc::clone(&entry.line));
        line.ok_or(SendError::NotConnected)?.send(item)
    }

    pub(super) fn list(&self, into: &mut Vec<LinkStatus>) {
        into.extend(self.0.read().values().map(|entry| entry.line.status()));
    }

    /// The node is another process now, as others say.
    pub(super) fn replaced(&self, node: NodeId, instance: u64) {
        if let Some(entry) = self.0.read().get(&node) {
            entry.line.link.lock().replaced(instance, now());
            entry.line.notify.notify_one();
        }
    }

    /// Nobody listens where the node does.
    pub(super) fn gone(&self, node: NodeId) {
        if let Some(entry) = self.0.read().get(&node) {
            entry.line.gone();
        }
    }

    /// Whether the node has left the cluster, as others say.
    pub(super) fn left(&self, node: NodeId, has_left: bool) {
        if let Some(entry) = self.0.read().get(&node) {
            entry.line.link.lock().left(has_left, now());
            entry.line.notify.notify_one();
        }
    }

    /// Ends all connections.
    pub(super) fn close(&self) {
        self.0.read().values().for_each(|entry| entry.line.down());
    }

    /// Hands a dialler over to the link with its node, which is made if there is none.
    pub(super) fn accept(&self, hub: &Arc<Hub>, node: NodeId, accepted: Accepted<L>) -> Result<(), Refused> {
        let busy = |text| Refused::new(v1::RefusalReason::Busy, text);
        let mut lines = self.0.write();
        // A task that died is replaced.
        lines.retain(|_, entry| !matches!(&entry.feed, Feed::Accept(feed) if feed.is_closed()));
        if !lines.contains_key(&node) {
            if lines.len() >= LINKS_MAX {
                return Err(busy("too many nodes are connected"));
            }
            let line = Arc::new(Line::new(node, hub.config.link.clone()));
            let (feed, queue) = mpsc::channel(4);
            hub.spawn(accepting(Arc::clone(hub), Arc::clone(&line), queue));
            lines.insert(node, Entry { line, feed: Feed::Accept(feed) });
        }
        match lines.get(&node).map(|entry| &entry.feed) {
            Some(Feed::Accept(feed)) => feed.try_send(accepted).map_err(|_| busy("it dials too often")),
            Some(Feed::Dial(_)) | None => {
                Err(Refused::new(v1::RefusalReason::Role, "here the other node dials for this service"))
            }
        }
    }

    /// Removes a link that nobody needs any more, unless somebody just came to need it.
    fn forget(&self, node: NodeId, unneeded: impl FnOnce() -> bool) -> bool {
        let mut lines = self.0.write();
        let forget = unneeded();
        if forget {
            lines.remove(&node);
        }
        forget
    }
}

impl<L: Dialled> Lines<L> {
    /// Dials these nodes, and no others any more.
    pub(super) fn dial(&self, hub: &Arc<Hub>, wanted: Vec<PeerAddress>) {
        let mut lines = self.0.write();
        for (node, entry) in lines.iter() {
            if let Feed::Dial(target) = &entry.feed
                && !wanted.iter().any(|other| other.node == *node)
            {
                target.send_replace(None);
            }
        }
        for other in wanted {
            match lines.get(&other.node).map(|entry| &entry.feed) {
                Some(Feed::Dial(target)) => {
                    target.send_if_modified(|target| {
                        let changed = target.as_ref() != Some(&other);
                        *target = Some(other);
                        changed
                    });
                }
                // It dials us, out of date or against the rule; its link ends when its connection does.
                Some(Feed::Accept(_)) => {}
                None if lines.len() >= LINKS_MAX => {
                    tracing::error!(peer = other.node.0, "too many nodes; this one is not dialled");
                }
                None => {
                    let line = Arc::new(Line::new(other.node, hub.config.link.clone()));
                    let node = other.node;
                    let (feed, target) = watch::channel(Some(other));
                    hub.spawn(dial::dialling(Arc::clone(hub), Arc::clone(&line), target));
                    lines.insert(node, Entry { line, feed: Feed::Dial(feed) });
                }
            }
        }
    }

    /// Removes the link of a dialler that has nobody to dial.
    pub(super) fn forget_dialler(
        &self,
        line: &Line<L>,
        target: &watch::Receiver<Option<PeerAddress>>,
    ) -> bool {
        self.forget(line.node, || target.borrow().is_none() && !line.has_session())
    }
}

/// The task of a link whose other node dials.
async fn accepting<L: Lane>(hub: Arc<Hub>, line: Arc<Line<L>>, mut queue: mpsc::Receiver<Accepted<L>>) {
    loop {
        let sink = &*hub.sink;
        let dialled = tokio::time::timeout(hub.config.link.lost_after * 10, queue.recv());
        let next = async {
            tokio::select! {
                next = dialled => next,
                never = dial::knock(&hub, line.node), if line.has_session() => match never {},
            }
        };
        let next = line.tend(sink, next).await;
        let mut current = match next {
            Ok(accepted) => accepted,
            Err(_) if L::lines(&hub).forget(line.node, || queue.is_empty() && !line.has_session()) => {
                line.events(sink); // its end may have come just now
                return;
            }
            Err(_) => continue,
        };
        while let Some(Accepted { greeting, info, mut inbound, answer }) = current.take() {
            let accepted = line.link.lock().accept(greeting, info.instance, now());
            match accepted {
                Err(Stale) => {
                    let _ = answer.send(Err(stale()));
                }
                Ok(said) => {
                    let welcome = Some(hello::welcome(&hub.config, info.protocol, said));
                    let welcome = Parts { welcome, ..Parts::default() };
                    let frames = Outgoing::new(Arc::clone(&line), line.next_connection(), welcome);
                    *line.about.lock() = About { info, trouble: None };
                    if answer.send(Ok(frames)).is_err() {
                        // Whoever dialled has left.
                        line.down();
                        continue;
                    }
                    current = line.talk(&hub, &mut inbound, Some(&mut queue)).await;
                }
            }
        }
    }
}
