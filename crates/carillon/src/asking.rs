//! Questions that nodes put to each other for an operator: whoever does not answer in time is not waited for.
//!
//! In: questions of this node (`living`), questions and answers of others (the switchboard). Out: answers, each with its node. Elsewhere: what this node
//! answers (`here`), the way between nodes (crates `cluster` and `mesh`).

use crate::here::Here;
use cluster::ids::{CallId, NodeId};
use cluster::node::{NodeInfo, Role};
use cluster::question::{Answer, CallsOf, HeldCall, PAGE_CALLS, Question};
use cluster::switchboard::{Shell, Switchboard};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A node that has not answered for so long does not.
const PATIENCE: Duration = Duration::from_secs(3);
/// All calls of a node, page by page, take no longer than this.
const ALL_PAGES: Duration = Duration::from_secs(10);
/// Questions of others that are being answered at a time; one more is refused.
const ANSWERING_MAX: usize = 64;
/// Own questions that wait at a time.
const WAITING_MAX: usize = 4096;

/// Asks and answers.
pub(crate) struct Asking {
    me: NodeId,
    here: Arc<Here>,
    /// Where this node is one of many.
    switchboard: Weak<Switchboard>,
    waiting: Mutex<HashMap<u64, (NodeId, oneshot::Sender<Answer>)>>,
    next: AtomicU64,
    answering: Arc<Semaphore>,
    runtime: Handle,
}

/// Calls of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// Each with the node that serves it, the oldest first.
    pub(crate) calls: Vec<(NodeId, HeldCall)>,
    pub(crate) total: usize,
    pub(crate) silent: Vec<NodeId>,
}

impl Asking {
    /// Needs the node's runtime.
    pub(crate) fn new(me: NodeId, here: Arc<Here>, switchboard: Weak<Switchboard>) -> Arc<Self> {
        Arc::new(Self {
            me,
            here,
            switchboard,
            waiting: Mutex::default(),
            next: AtomicU64::new(rand::random::<u64>() >> 1),
            answering: Arc::new(Semaphore::new(ANSWERING_MAX)),
            runtime: Handle::current(),
        })
    }

    /// The other nodes that have a role (none: all), and this one, which has what it has.
    pub(crate) fn nodes(&self, role: Option<Role>) -> Vec<NodeId> {
        let mut nodes = vec![self.me];
        if let Some(switchboard) = self.switchboard.upgrade() {
            let wanted =
                |node: &&Arc<NodeInfo>| node.id != self.me && role.is_none_or(|role| node.roles.has(role));
            nodes.extend(switchboard.view().nodes.values().filter(wanted).map(|node| node.id));
        }
        nodes
    }

    /// Asks a node; none: it does not answer.
    pub(crate) async fn ask(&self, node: NodeId, question: Question) -> Option<Answer> {
        if node == self.me {
            return timeout(PATIENCE, self.here.answer(question)).await.ok();
        }
        let switchboard = self.switchboard.upgrade()?;
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        let (teller, told) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            if waiting.len() >= WAITING_MAX {
                return None;
            }
            waiting.insert(ticket, (node, teller));
        }
        let _forget = Forget { waiting: &self.waiting, ticket };
        if !switchboard.ask(node, ticket, question) {
            return None;
        }
        drop(switchboard);
        timeout(PATIENCE, told).await.ok()?.ok()
    }

    /// Asks many at once.
    pub(crate) async fn ask_each(
        self: &Arc<Self>,
        nodes: Vec<NodeId>,
        question: &Question,
    ) -> BTreeMap<NodeId, Option<Answer>> {
        self.each(nodes, |own, node| {
            let question = question.clone();
            async move { own.ask(node, question).await }
        })
        .await
    }

    async fn each<T, F>(
        self: &Arc<Self>,
        nodes: Vec<NodeId>,
        work: impl Fn(Arc<Self>, NodeId) -> F,
    ) -> BTreeMap<NodeId, Option<T>>
    where
        T: Send + 'static,
        F: Future<Output = Option<T>> + Send + 'static,
    {
        let mut asked = JoinSet::new();
        let mut answers: BTreeMap<NodeId, Option<T>> = nodes.iter().map(|node| (*node, None)).collect();
        for node in nodes {
            let work = work(Arc::clone(self), node);
            asked.spawn(async move { (node, work.await) });
        }
        while let Some(answered) = asked.join_next().await {
            if let Ok((node, answer)) = answered {
                answers.insert(node, answer);
            }
        }
        answers
    }

    /// The oldest calls of all nodes, so many at most.
    pub(crate) async fn calls(self: &Arc<Self>, of: CallsOf, limit: usize) -> Gathered {
        let of = Arc::new(of);
        let answers = self.each(self.nodes(Some(Role::As)), |own, node| {
            let of = Arc::clone(&of);
            async move { timeout(ALL_PAGES, own.calls_of(node, &of, limit)).await.ok().flatten() }
        });
        gathered(answers.await, limit)
    }

    async fn calls_of(&self, node: NodeId, of: &CallsOf, limit: usize) -> Option<(Vec<HeldCall>, u32)> {
        let mut all: Vec<HeldCall> = Vec::new();
        loop {
            let after = all.last().map(|call| (call.started_us, call.call));
            let page = limit.saturating_sub(all.len()).min(PAGE_CALLS);
            let question =
                Question::Calls { of: of.clone(), after, limit: u16::try_from(page).unwrap_or(u16::MAX) };
            let Answer::Calls { calls, total, more } = self.ask(node, question).await? else { return None };
            let is_last = !more || calls.is_empty();
            all.extend(calls);
            if is_last || all.len() >= limit {
                return Some((all, total));
            }
        }
    }

    /// Whether some node serves a call or waits for somebody who does. Who does not answer may be the one.
    pub(crate) async fn is_alive(self: &Arc<Self>, call: CallId) -> bool {
        let answers = self.ask_each(self.nodes(None), &Question::Keeps(call)).await;
        answers.values().any(|answer| !matches!(answer, Some(Answer::Count(0))))
    }

    /// The sum of what nodes answer.
    pub(crate) async fn sum(self: &Arc<Self>, role: Role, question: &Question) -> (usize, Vec<NodeId>) {
        let mut silent = Vec::new();
        let mut sum = 0;
        for (node, answer) in self.ask_each(self.nodes(Some(role)), question).await {
            match answer {
                Some(Answer::Count(count)) => sum += count as usize,
                _ => silent.push(node),
            }
        }
        (sum, silent)
    }
}

/// Of a call that two nodes tell of, while one gives it to the other, the one with the better title counts.
fn gathered(answers: BTreeMap<NodeId, Option<(Vec<HeldCall>, u32)>>, limit: usize) -> Gathered {
    let mut all = Gathered::default();
    let mut owners: HashMap<_, (u32, NodeId)> = HashMap::new();
    for (node, answer) in answers {
        let Some((calls, total)) = answer else {
            all.silent.push(node);
            continue;
        };
        all.total += total as usize;
        for call in calls {
            let owner = owners.entry(call.call).or_insert((call.epoch, node));
            *owner = (*owner).max((call.epoch, node));
            all.calls.push((node, call));
        }
    }
    let told = all.calls.len();
    all.calls.retain(|(node, call)| owners.get(&call.call) == Some(&(call.epoch, *node)));
    all.total -= told - all.calls.len();
    all.calls.sort_by_key(|(_, call)| (call.started_us, call.call));
    all.calls.truncate(limit);
    all
}

/// Whoever asked waits no more.
struct Forget<'a> {
    waiting: &'a Mutex<HashMap<u64, (NodeId, oneshot::Sender<Answer>)>>,
    ticket: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.ticket);
    }
}

impl Shell for Asking {
    fn asked(&self, from: NodeId, ticket: u64, question: Question) {
        let Some(switchboard) = self.switchboard.upgrade() else { return };
        let Ok(place) = Arc::clone(&self.answering).try_acquire_owned() else {
            let why = "it is asked too much at a time; try again".to_owned();
            return switchboard.answer(from, ticket, Answer::Refused(why));
        };
        let here = Arc::clone(&self.here);
        self.runtime.spawn(async move {
            let answer = here.answer(question).await;
            switchboard.answer(from, ticket, answer);
            drop(place);
        });
    }

    fn answered(&self, from: NodeId, ticket: u64, answer: Answer) {
        let mut waiting = self.waiting.lock();
        // Nobody answers for others.
        if waiting.get(&ticket).is_some_and(|(asked, _)| *asked == from)
            && let Some((_, teller)) = waiting.remove(&ticket)
        {
            let _ = teller.send(answer); // whoever asked has left
        }
    }

    fn silent(&self, node: NodeId) {
        self.waiting.lock().retain(|_, (asked, _)| *asked != node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::ids::CallId;
    use model::Id;

    fn held(counter: u64, epoch: u32, started_us: i64) -> HeldCall {
        HeldCall {
            call: CallId::new(NodeId(1), counter),
            epoch,
            brand: Id::new(1),
            client: Id::new(1),
            caller: Default::default(),
            callee: Default::default(),
            dialled: String::new(),
            started_us,
            answered_us: None,
            legs: Vec::new(),
        }
    }

    #[test]
    fn a_call_that_changes_its_node_is_told_once_and_silent_nodes_are_named() {
        let answers = BTreeMap::from([
            (NodeId(2), Some((vec![held(7, 0, 5), held(8, 0, 1)], 2))),
            (NodeId(3), Some((vec![held(7, 1, 5), held(9, 0, 3)], 2))),
            (NodeId(4), None),
        ]);
        let all = gathered(answers, 10);
        let told: Vec<(u16, u64)> =
            all.calls.iter().map(|(node, call)| (node.0, call.call.counter())).collect();
        assert_eq!(told, [(2, 8), (3, 9), (3, 7)]);
        assert_eq!((all.total, all.silent), (3, vec![NodeId(4)]));
    }
}
