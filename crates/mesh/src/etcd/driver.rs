//! The task that feeds the member: answers, changes, orders and time go in, requests and what is told go out.
//!
//! Elsewhere: what is decided (`cluster::member`), how requests travel (`wire`).

use super::wire::{Connector, Told};
use super::{Board, Standing};
use cluster::etcd::{Failure, Request, Response, Ticket, WatchUpdate};
use cluster::ids::NodeId;
use cluster::member::{Event, JoinError as Refusal, Member, MemberSettings};
use cluster::node::{Kind, NodeInfo, Role};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

/// Changes that wait for the member; then the watch waits.
const TOLD_MAX: usize = 64;

/// What the program asks of the membership.
pub(super) enum Order {
    Wish(Kind, BTreeSet<u32>),
    Share(Kind, u32, Role),
    Draining(bool),
    Load(u32),
    Leave,
}

type Answer = (Ticket, Result<Response, Failure>);

pub(super) struct Driver {
    member: Member,
    connector: Arc<Connector>,
    board: Arc<Board>,
    orders: mpsc::UnboundedReceiver<Order>,
    /// Whoever waits for the node to join.
    joining: Option<oneshot::Sender<Result<NodeId, Refusal>>>,
    /// Requests that are on their way; they end with this value.
    answers: JoinSet<Answer>,
    tell: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
    watching: Option<AbortHandle>,
    watches: JoinSet<WatchUpdate>,
    /// Which request a task is for: one that ends by a mistake of ours is answered, too.
    tickets: HashMap<Id, Ticket>,
    is_over: bool,
}

impl Driver {
    pub(super) fn new(
        settings: MemberSettings,
        info: NodeInfo,
        connector: Connector,
        board: Arc<Board>,
        orders: mpsc::UnboundedReceiver<Order>,
        joining: oneshot::Sender<Result<NodeId, Refusal>>,
    ) -> Self {
        let (tell, told) = mpsc::channel(TOLD_MAX);
        Self {
            member: Member::new(settings, info, Instant::now().into_std()),
            connector: Arc::new(connector),
            board,
            orders,
            joining: Some(joining),
            answers: JoinSet::new(),
            tell,
            told,
            watching: None,
            watches: JoinSet::new(),
            tickets: HashMap::new(),
            is_over: false,
        }
    }

    /// Until the node has left.
    pub(super) async fn run(mut self) {
        let mut is_dropped = false;
        loop {
            self.tell_all();
            if self.is_over {
                return;
            }
            let deadline = self.member.poll_timeout().map(|(at, _)| Instant::from_std(at));
            tokio::select! {
                Some(answer) = self.answers.join_next_with_id() => self.on_task(answer),
                Some((ticket, update)) = self.told.recv() => {
                    self.member.handle_watch(ticket, update, now());
                }
                order = self.orders.recv(), if !is_dropped => {
                    is_dropped = order.is_none();
                    self.on_order(order.unwrap_or(Order::Leave));
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.member.handle_timeout(now());
                }
                Some(ended) = self.watches.join_next_with_id() => self.on_watch_ended(ended),
            }
        }
    }

    fn on_task(&mut self, task: Result<(Id, Answer), JoinError>) {
        match task {
            Ok((id, (ticket, answer))) => {
                self.tickets.remove(&id);
                self.on_answer(ticket, answer);
            }
            Err(error) => {
                warn!(%error, "a request to etcd ended by a mistake of ours");
                if let Some(ticket) = self.tickets.remove(&error.id()) {
                    self.on_answer(ticket, Err(Failure::Unknown(error.to_string())));
                }
            }
        }
    }

    /// What it told last may still wait to be taken in; the next watch tells that again.
    fn on_watch_ended(&mut self, ended: Result<(Id, WatchUpdate), JoinError>) {
        let (id, update) = match ended {
            Ok(ended) => ended,
            Err(error) => (error.id(), WatchUpdate::Ended),
        };
        if let Some(ticket) = self.tickets.remove(&id) {
            self.member.handle_watch(ticket, update, now());
        }
    }

    fn on_answer(&mut self, ticket: Ticket, answer: Result<Response, Failure>) {
        if let Err(failure) = &answer {
            let why = match failure {
                Failure::Unknown(why) | Failure::Refused(why) => why.clone(),
                Failure::LeaseGone => "the lease has ended".to_owned(),
            };
            debug!(why, "etcd did not do what it was asked for");
            self.board.trouble.send_replace(why);
        }
        self.member.handle_answer(ticket, answer, now());
    }

    fn on_order(&mut self, order: Order) {
        let now = now();
        match order {
            Order::Wish(kind, keys) => self.member.wish(kind, keys, now),
            Order::Share(kind, count, role) => self.member.share(kind, count, role, now),
            Order::Draining(draining) => self.member.set_draining(draining, now),
            Order::Load(calls) => self.member.set_load(calls, now),
            Order::Leave => self.member.leave(now),
        }
    }

    /// Tells what happened, and only then asks etcd: what is given up is not owned before others may take it.
    fn tell_all(&mut self) {
        let mut is_owned_changed = false;
        let mut standings = Vec::new();
        while let Some(event) = self.member.poll_event() {
            match event {
                Event::Joined(id) => {
                    info!(node = id.0, "in the cluster, and certain of it");
                    if let Some(joining) = self.joining.take() {
                        let _ = joining.send(Ok(id));
                    }
                    standings.push(Standing::Joined(id));
                }
                Event::LostLease => {
                    let why = self.board.trouble.borrow().clone();
                    warn!(why, "etcd cannot be heard in time: this node owns nothing until it is");
                    standings.push(Standing::LostLease);
                }
                Event::View(view) => drop(self.board.view.send_replace(view)),
                Event::Gained(kind, key, fence) => {
                    debug!(%kind, key, fence = fence.0, "owned");
                    is_owned_changed = true;
                }
                Event::Lost(kind, key, fence) => {
                    debug!(%kind, key, fence = fence.0, "no longer owned");
                    is_owned_changed = true;
                }
                Event::Refused(error) => match self.joining.take() {
                    Some(joining) => drop(joining.send(Err(error))),
                    None => {
                        warn!(%error, "the cluster does not let this node in again");
                        standings.push(Standing::Refused(error));
                    }
                },
                Event::Superseded => {
                    warn!(
                        "another process with this node's data directory has taken its number; this one ends"
                    );
                    standings.push(Standing::Superseded);
                }
                Event::Left => {
                    self.is_over = true;
                    standings.push(Standing::Left);
                }
            }
        }
        self.show_owned(is_owned_changed);
        for standing in standings {
            self.board.standing.send_replace(standing);
        }
        while let Some((ticket, request)) = self.member.poll_request() {
            self.carry(ticket, request);
        }
    }

    fn show_owned(&self, is_changed: bool) {
        let until = self.member.sure_until().map(Instant::from_std);
        {
            let mut sure = self.board.sure.write();
            sure.until = until;
            sure.lease = self.member.lease();
            if is_changed {
                sure.owned = Arc::new(self.member.owns().clone());
            }
        }
        if is_changed {
            let owned = Arc::clone(&self.board.sure.read().owned);
            self.board.owned_told.send_replace(owned);
        }
    }

    fn carry(&mut self, ticket: Ticket, request: Request) {
        let connector = Arc::clone(&self.connector);
        if let Request::Watch { prefix, from } = request {
            if let Some(watching) = self.watching.take() {
                watching.abort();
            }
            let watch = connector.watch(ticket, prefix, from, self.tell.clone());
            let watching = self.watches.spawn(watch);
            self.tickets.insert(watching.id(), ticket);
            self.watching = Some(watching);
            return;
        }
        let task = self.answers.spawn(async move { (ticket, connector.carry(request).await) });
        self.tickets.insert(task.id(), ticket);
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
