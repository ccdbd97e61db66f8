//! The asker: what the calls of this node's application server hold, and what they wait for.
//!
//! In: what calls want and give back, answers and questions of owners, time. Out: words to owners, verdicts for calls. Elsewhere: the other
//! end (`keeper`), why it is right ([`super`]).

#[cfg(any(test, feature = "testing"))]
use super::Fault;
use super::{ADOPTION, ANSWER_LIMIT, Action, Claim, HOLDS_MAX, PARTITIONS, Verdict};
use crate::between::{Counted, DirectoryItem, Hold, Title};
use crate::ids::{CallId, NodeId};
use crate::node::{Fence, Kind, View};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

/// A call that asks, and the number of its question.
type Question = (CallId, u32);

#[derive(Debug)]
pub(super) struct Asker {
    /// Which process of the node this is.
    instance: u64,
    /// The newest owner of each partition that was heard of.
    owners: BTreeMap<u16, (NodeId, Fence)>,
    /// What calls count for, by partition.
    holds: BTreeMap<u16, BTreeMap<CallId, Held>>,
    asks: BTreeMap<Question, Ask>,
    tickets: HashMap<u64, Question>,
    due: BTreeSet<(Instant, Question)>,
    /// Calls that went to other servers.
    leaving: VecDeque<(Instant, CallId, u16)>,
    next_ticket: u64,
    actions: VecDeque<Action>,
    #[cfg(any(test, feature = "testing"))]
    pub(super) fault: Option<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    epoch: u32,
    counts: Vec<Counted>,
    /// It goes on elsewhere, and counts here until then.
    until: Option<Instant>,
}

/// A question of a call.
#[derive(Debug)]
struct Ask {
    epoch: u32,
    /// What was certain of this node when it asked ([`super::Lease::certain`]).
    stint: u64,
    until: Instant,
    parts: Vec<Part>,
}

/// What is asked of one owner.
#[derive(Debug)]
struct Part {
    partition: u16,
    claims: Vec<(Counted, u32)>,
    /// Who was asked, under which ticket.
    asked: Option<(NodeId, u64)>,
    /// Nothing of it is limited, or the owner has granted it.
    granted: bool,
}

impl Part {
    fn is_limited(&self) -> bool {
        self.claims.iter().any(|(_, limit)| *limit > 0)
    }

    fn counts(&self) -> Vec<Counted> {
        self.claims.iter().map(|(counted, _)| *counted).collect()
    }
}

/// Claims by their partitions.
fn parts(claims: &[Claim]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for claim in claims {
        let one = (claim.counted, claim.limit);
        match parts.iter_mut().find(|part| part.partition == claim.partition) {
            Some(part) => part.claims.push(one),
            None => {
                let (partition, claims) = (claim.partition, vec![one]);
                parts.push(Part { partition, claims, asked: None, granted: false });
            }
        }
    }
    parts.iter_mut().for_each(|part| part.granted = !part.is_limited());
    parts
}

impl Asker {
    pub(super) fn new(instance: u64) -> Self {
        Self {
            instance,
            owners: BTreeMap::new(),
            holds: BTreeMap::new(),
            asks: BTreeMap::new(),
            tickets: HashMap::new(),
            due: BTreeSet::new(),
            leaving: VecDeque::new(),
            next_ticket: 0,
            actions: VecDeque::new(),
            #[cfg(any(test, feature = "testing"))]
            fault: None,
        }
    }

    /// Who owns what, as far as this node has heard.
    pub(super) fn view(&mut self, view: &View) {
        let kind = Kind::CLIENTS;
        for ((_, partition), owner) in view.owners.range((kind, 0)..(kind, PARTITIONS.into())) {
            let Ok(partition) = u16::try_from(*partition) else { continue };
            if self.owners.get(&partition).is_none_or(|known| known.1 < owner.fence) {
                self.owners.insert(partition, (owner.node, owner.fence));
                self.ask_again(partition);
            }
        }
    }

    /// As [`super::Limits::reserve`]; `certain` is this node's [`super::Lease::certain`].
    pub(super) fn reserve(
        &mut self,
        title: Title,
        number: u32,
        claims: &[Claim],
        certain: Option<u64>,
        now: Instant,
    ) {
        let parts = parts(claims);
        if parts.iter().all(|part| part.granted) {
            for part in &parts {
                self.hold(title, part);
                self.report(title, part);
            }
            return self.actions.push_back(Action::Verdict(title.call, number, Verdict::Granted));
        }
        let question = (title.call, number);
        if self.asks.contains_key(&question) {
            return; // its answer will come
        }
        let until = now + ANSWER_LIMIT;
        let count = parts.len();
        let stint = certain.unwrap_or_default();
        self.asks.insert(question, Ask { epoch: title.epoch, stint, until, parts });
        self.due.insert((until, question));
        match certain {
            Some(_) => (0..count).for_each(|part| self.ask(question, part)),
            // Whoever counts may not know of this node, and not wait for it.
            None => self.unknown(question),
        }
    }

    /// Asks for a part whose answer is not known, whoever was asked before.
    fn ask(&mut self, question: Question, part: usize) {
        let Some(ask) = self.asks.get_mut(&question) else { return };
        let title = Title { call: question.0, epoch: ask.epoch };
        let Some(part) = ask.parts.get_mut(part).filter(|part| part.is_limited()) else { return };
        part.granted = false;
        if let Some((_, ticket)) = part.asked.take() {
            self.tickets.remove(&ticket);
        }
        let Some((owner, _)) = self.owners.get(&part.partition) else { return };
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        part.asked = Some((*owner, ticket));
        self.tickets.insert(ticket, question);
        let (partition, counts) = (part.partition, part.claims.clone());
        let Title { call, epoch } = title;
        let item = DirectoryItem::Reserve { ticket, partition, call, epoch, counts };
        self.actions.push_back(Action::Tell(*owner, item));
    }

    /// A partition has another owner, or its owner counts anew: what was not granted for good is asked for again.
    fn ask_again(&mut self, partition: u16) {
        #[cfg(any(test, feature = "testing"))]
        if self.fault == Some(Fault::TakesLateGrants) {
            return;
        }
        let here = |ask: &Ask| ask.parts.iter().position(|part| part.partition == partition);
        let again = self.asks.iter().filter_map(|(question, ask)| Some((*question, here(ask)?)));
        let again: Vec<(Question, usize)> = again.collect();
        again.into_iter().for_each(|(question, part)| self.ask(question, part));
    }

    /// An owner counts: it is told everything.
    pub(super) fn recount(&mut self, from: NodeId, partition: u16, fence: Fence) {
        let known = self.owners.get(&partition);
        if partition >= PARTITIONS || known.is_some_and(|known| known.1 > fence) {
            return;
        }
        self.owners.insert(partition, (from, fence));
        let holds = self.holds.get(&partition);
        let all: Vec<Hold> = holds
            .into_iter()
            .flatten()
            .map(|(call, held)| Hold { call: *call, epoch: held.epoch, counts: held.counts.clone() })
            .collect();
        let mut chunks = all.chunks(HOLDS_MAX).peekable();
        loop {
            let calls = chunks.next().unwrap_or_default().to_vec();
            let complete = chunks.peek().is_none();
            let (fence, instance) = (fence.0, self.instance);
            let item = DirectoryItem::Holds { partition, fence, instance, calls, complete };
            self.actions.push_back(Action::Tell(from, item));
            if complete {
                break;
            }
        }
        self.ask_again(partition);
    }

    /// An owner answers.
    pub(super) fn reserved(
        &mut self,
        from: NodeId,
        ticket: u64,
        full: Option<Counted>,
        fence: Fence,
        certain: Option<u64>,
    ) {
        let Some(question) = self.tickets.get(&ticket).copied() else { return };
        let Some(ask) = self.asks.get_mut(&question) else { return };
        let is_it = |part: &&mut Part| part.asked == Some((from, ticket));
        let Some(part) = ask.parts.iter_mut().find(is_it) else { return };
        if fence == Fence(0) {
            return; // whoever is the owner will count, and be asked then
        }
        let known = self.owners.get(&part.partition);
        let is_late = known.is_some_and(|known| fence < known.1);
        let is_in_doubt = certain != Some(ask.stint);
        #[cfg(any(test, feature = "testing"))]
        let is_late = is_late && self.fault != Some(Fault::TakesLateGrants);
        if is_late {
            return;
        }
        if is_in_doubt {
            return self.unknown(question);
        }
        if let Some(full) = full {
            part.asked = None; // it holds nothing there
            self.tickets.remove(&ticket);
            return self.refuse(question, Verdict::Full(full));
        }
        part.granted = true;
        if ask.parts.iter().all(|part| part.granted) {
            self.grant(question);
        }
    }

    fn take(&mut self, question: Question) -> Option<Ask> {
        let ask = self.asks.remove(&question)?;
        self.due.remove(&(ask.until, question));
        for part in &ask.parts {
            if let Some((_, ticket)) = part.asked {
                self.tickets.remove(&ticket);
            }
        }
        Some(ask)
    }

    fn grant(&mut self, question: Question) {
        let Some(ask) = self.take(question) else { return };
        let title = Title { call: question.0, epoch: ask.epoch };
        for part in &ask.parts {
            self.hold(title, part);
            if !part.is_limited() || !part.granted {
                self.report(title, part);
            }
        }
        self.actions.push_back(Action::Verdict(question.0, question.1, Verdict::Granted));
    }

    /// Whoever counts does not say in time whether there is a place. Limits that tenants were promised are kept then. That of attempts is there
    /// for the platform's own sake: what this node holds of them decides, or nobody could call anybody while etcd is away.
    fn unknown(&mut self, question: Question) {
        let Some(ask) = self.asks.get(&question) else { return };
        let held = |partition: u16, counted: Counted| {
            let calls = self.holds.get(&partition).into_iter().flat_map(BTreeMap::values);
            u32::try_from(calls.filter(|held| held.counts.contains(&counted)).count()).unwrap_or(u32::MAX)
        };
        let open = ask.parts.iter().filter(|part| !part.granted);
        let limited = open.flat_map(|part| part.claims.iter().map(|claim| (part.partition, *claim)));
        let refused =
            limited.filter(|(_, (_, limit))| *limit > 0).find_map(|(partition, (counted, limit))| {
                match counted {
                    Counted::Attempts(_) if held(partition, counted) < limit => None,
                    Counted::Attempts(_) => Some(Verdict::Full(counted)),
                    Counted::Client(_) | Counted::Brand(_) | Counted::User(_) => Some(Verdict::Unknown),
                }
            });
        match refused {
            Some(verdict) => self.refuse(question, verdict),
            None => self.grant(question),
        }
    }

    /// It may not: whoever was asked forgets it.
    fn refuse(&mut self, question: Question, verdict: Verdict) {
        self.withdraw(question);
        self.actions.push_back(Action::Verdict(question.0, question.1, verdict));
    }

    fn withdraw(&mut self, question: Question) {
        let Some(ask) = self.take(question) else { return };
        for part in ask.parts.iter().filter(|part| part.is_limited()) {
            let (partition, call) = (part.partition, question.0);
            let held = self.holds.get(&partition).and_then(|holds| holds.get(&call));
            let is_held = |counted: &Counted| held.is_some_and(|held| held.counts.contains(counted));
            let counts: Vec<Counted> = part.counts().into_iter().filter(|key| !is_held(key)).collect();
            if let (Some((node, _)), false) = (part.asked, counts.is_empty()) {
                let item = DirectoryItem::Release { partition, call, counts };
                self.actions.push_back(Action::Tell(node, item));
            }
        }
    }

    fn hold(&mut self, title: Title, part: &Part) {
        let holds = self.holds.entry(part.partition).or_default();
        let held = holds.entry(title.call);
        let held = held.or_insert(Held { epoch: 0, counts: Vec::new(), until: None });
        (held.epoch, held.until) = (title.epoch, None);
        for counted in part.counts() {
            if !held.counts.contains(&counted) {
                held.counts.push(counted);
            }
        }
    }

    /// Tells what a call counts for and no limit can prevent. An owner that cannot be told now asks when it can.
    fn report(&mut self, title: Title, part: &Part) {
        let Some((owner, _)) = self.owners.get(&part.partition) else { return };
        let Title { call, epoch } = title;
        let counts = part.counts().into_iter().map(|counted| (counted, 0)).collect();
        let item = DirectoryItem::Reserve { ticket: 0, partition: part.partition, call, epoch, counts };
        self.actions.push_back(Action::Tell(*owner, item));
    }

    /// As [`super::Limits::adopt`].
    pub(super) fn adopt(&mut self, title: Title, claims: &[Claim]) {
        for part in &parts(claims) {
            self.hold(title, part);
            self.report(title, part);
        }
    }

    /// As [`super::Limits::release`].
    pub(super) fn release(&mut self, call: CallId, claims: &[Claim]) {
        let questions = self.asks.range((call, 0)..=(call, u32::MAX));
        let is_given_back = |part: &Part| {
            claims.iter().any(|claim| part.claims.iter().any(|(counted, _)| *counted == claim.counted))
        };
        let withdrawn = questions.filter(|(_, ask)| ask.parts.iter().any(is_given_back));
        let withdrawn: Vec<Question> = withdrawn.map(|(question, _)| *question).collect();
        withdrawn.into_iter().for_each(|question| self.withdraw(question));
        for part in parts(claims) {
            self.drop_counts(call, part.partition, |counted| {
                part.claims.iter().any(|(given_back, _)| given_back == counted)
            });
        }
    }

    fn drop_counts(&mut self, call: CallId, partition: u16, is_dropped: impl Fn(&Counted) -> bool) {
        let Some(holds) = self.holds.get_mut(&partition) else { return };
        let Some(held) = holds.get_mut(&call) else { return };
        let (counts, left): (Vec<Counted>, Vec<Counted>) = held.counts.iter().copied().partition(is_dropped);
        held.counts = left;
        if held.counts.is_empty() {
            holds.remove(&call);
        }
        if holds.is_empty() {
            self.holds.remove(&partition);
        }
        if let (Some((owner, _)), false) = (self.owners.get(&partition), counts.is_empty()) {
            let item = DirectoryItem::Release { partition, call, counts };
            self.actions.push_back(Action::Tell(*owner, item));
        }
    }

    /// As [`super::Limits::let_go`]: it counts here until the other server must have told that it has it.
    pub(super) fn let_go(&mut self, call: CallId, claims: &[Claim], now: Instant) {
        for part in parts(claims) {
            let holds = self.holds.get_mut(&part.partition);
            if let Some(held) = holds.and_then(|holds| holds.get_mut(&call)) {
                let until = now + ADOPTION;
                held.until = Some(until);
                self.leaving.push_back((until, call, part.partition));
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((until, question)) = self.due.first().copied()
            && until <= now
        {
            self.unknown(question);
        }
        while let Some((until, call, partition)) = self.leaving.front().copied()
            && until <= now
        {
            self.leaving.pop_front();
            let held = self.holds.get(&partition).and_then(|holds| holds.get(&call));
            // It may have come back meanwhile.
            if held.is_some_and(|held| held.until == Some(until)) {
                self.drop_counts(call, partition, |_| true);
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.due.first().map(|(until, _)| *until);
        let leaving = self.leaving.front().map(|(until, ..)| *until);
        due.into_iter().chain(leaving).min()
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What calls count for in a partition.
    #[cfg(test)]
    pub(super) fn held(&self, partition: u16) -> BTreeMap<CallId, BTreeSet<Counted>> {
        let holds = self.holds.get(&partition).into_iter().flatten();
        holds.map(|(call, held)| (*call, held.counts.iter().copied().collect())).collect()
    }

    /// Questions without an answer.
    #[cfg(test)]
    pub(super) fn asking(&self) -> usize {
        self.asks.len()
    }
}
