//! What this node answers when an operator's question is put to it, at whichever node he asked.
//!
//! In: [`Question`]s. Out: [`Answer`]s, from the roles of this node. Elsewhere: how questions and answers travel (`asking`), what is made of the
//! answers of all nodes (`living`).

use crate::drain::{Drainer, Ending, Parts};
use cluster::ids::CallId;
use cluster::question::{Answer, CallsOf, HeldCall, HeldLeg, NodeState, PAGE_CALLS, Question};
use cluster::switchboard::Switchboard;
use mesh::etcd::{Membership, Standing};
use model::rows::Rows;
use model::{Client, Id, OpenCall};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Octets of the texts of one answer: it goes through a link that carries other things, too.
const PAGE_OCTETS: usize = 256 * 1024;
/// Legs of a call that are told of.
const LEGS_MAX: usize = 64;

/// This node.
pub(crate) struct Here {
    parts: Parts,
    drainer: Arc<Drainer>,
    /// Where it is one of many.
    membership: Option<Membership>,
    switchboard: Weak<Switchboard>,
    rows: Box<dyn Fn() -> Arc<Rows> + Send + Sync>,
    since: Instant,
}

impl Here {
    pub(crate) fn new(
        parts: Parts,
        drainer: Arc<Drainer>,
        membership: Option<Membership>,
        switchboard: Weak<Switchboard>,
        rows: impl Fn() -> Arc<Rows> + Send + Sync + 'static,
    ) -> Self {
        Self { parts, drainer, membership, switchboard, rows: Box::new(rows), since: Instant::now() }
    }

    pub(crate) async fn answer(&self, question: Question) -> Answer {
        match question {
            Question::Calls { of, after, limit } => page(self.calls(&of).await, after, limit.into(), &of),
            Question::Count { brand, client } => {
                let Some(calls) = &self.parts.calls else { return Answer::Count(0) };
                let of = |client: Id<Client>| calls.calls_of(client);
                Answer::Count(match (client, brand) {
                    (Some(client), _) => of(client),
                    (None, Some(brand)) => (self.rows)()
                        .of::<Client>("brand", brand.get())
                        .map(|client| of(client.id))
                        .fold(0, u32::saturating_add),
                    (None, None) => number(calls.stats().calls),
                })
            }
            Question::HangUp(call) => {
                let of = CallsOf { call: Some(call), ..CallsOf::default() };
                let is_here = !self.calls(&of).await.is_empty();
                if let Some(calls) = self.parts.calls.as_ref().filter(|_| is_here) {
                    calls.hang_up(call, 480, "Hung up by an operator");
                }
                Answer::Count(is_here.into())
            }
            Question::Keeps(call) => {
                let of = CallsOf { call: Some(call), ..CallsOf::default() };
                let waits = self.switchboard.upgrade().is_some_and(|switchboard| switchboard.keeps(call));
                Answer::Count((waits || !self.calls(&of).await.is_empty()).into())
            }
            Question::State => Answer::State(self.state()),
            Question::Drain { undo: true } => match self.drainer.undo() {
                Ok(()) => Answer::State(self.state()),
                Err(error @ Ending) => Answer::Refused(error.to_string()),
            },
            Question::Drain { undo: false } => {
                self.drainer.begin(false);
                Answer::State(self.state())
            }
            Question::Unbind { aor, contact } => {
                let drop = |proxy: &Arc<proxy::Proxy>| proxy.unbind(aor, contact.as_deref());
                Answer::Count(number(self.parts.proxy.as_ref().map_or(0, drop)))
            }
        }
    }

    /// How this node is.
    pub(crate) fn state(&self) -> NodeState {
        let left = self.parts.left();
        let stats = self.parts.calls.as_ref().map(|calls| calls.stats()).unwrap_or_default();
        let is_in = |membership: &Membership| matches!(&*membership.standing().borrow(), Standing::Joined(_));
        NodeState {
            calls: number(left.calls),
            legs: number(left.legs),
            sessions: number(left.sessions),
            bindings: number(self.parts.proxy.as_ref().map_or(0, |proxy| proxy.stats().bindings)),
            adopted_total: stats.adopted_total,
            let_go_total: stats.let_go_total,
            uptime: self.since.elapsed().as_secs(),
            lease_certain: self.membership.as_ref().is_none_or(is_in),
            drain: self.drainer.state(),
        }
    }

    /// Calls of this node that fit.
    async fn calls(&self, of: &CallsOf) -> Vec<(CallId, OpenCall, u32)> {
        let Some(calls) = &self.parts.calls else { return Vec::new() };
        let named = |(call, epoch): (OpenCall, u32)| Some((call.call.parse().ok()?, call, epoch));
        let text = of.text.to_lowercase();
        let all = calls.open_calls().await.into_iter().filter_map(named);
        all.filter(|(id, call, _)| fits(of, &text, *id, call)).collect()
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn fits(of: &CallsOf, text: &str, id: CallId, call: &OpenCall) -> bool {
    let has = |part: &String| part.to_lowercase().contains(text);
    of.brand.is_none_or(|brand| call.brand == brand)
        && of.client.is_none_or(|client| call.client == client)
        && of.call.is_none_or(|wanted| wanted == id)
        && (text.is_empty()
            || [&call.caller.number, &call.caller.name, &call.callee.number, &call.callee.name, &call.dialed]
                .into_iter()
                .chain(call.legs.iter().map(|leg| &leg.endpoint))
                .any(has))
}

/// The oldest of these calls, behind the last one of the page before.
fn page(
    mut calls: Vec<(CallId, OpenCall, u32)>,
    after: Option<(i64, CallId)>,
    limit: usize,
    of: &CallsOf,
) -> Answer {
    let total = number(calls.len());
    calls.retain(|(id, call, _)| after.is_none_or(|after| (call.started_us, *id) > after));
    calls.sort_unstable_by_key(|(id, call, _)| (call.started_us, *id));
    let behind = calls.len();
    let mut octets = 0;
    let mut told = Vec::new();
    for (id, call, epoch) in calls.into_iter().take(limit.min(PAGE_CALLS)) {
        octets += call.caller.number.len() + call.caller.name.len() + call.callee.number.len();
        octets += call.callee.name.len() + call.dialed.len();
        if octets > PAGE_OCTETS && !told.is_empty() {
            break;
        }
        told.push(held(id, call, epoch, of.call.is_some()));
    }
    let more = told.len() < behind;
    Answer::Calls { calls: told, total, more }
}

fn held(id: CallId, call: OpenCall, epoch: u32, whole: bool) -> HeldCall {
    let legs = if whole { call.legs } else { Vec::new() };
    let leg =
        |leg: model::CdrLeg| HeldLeg { role: leg.role, sip_call_id: leg.sip_call_id, endpoint: leg.endpoint };
    HeldCall {
        call: id,
        epoch,
        brand: call.brand,
        client: call.client,
        caller: (call.caller.number, call.caller.name),
        callee: (call.callee.number, call.callee.name),
        dialled: call.dialed,
        started_us: call.started_us,
        answered_us: call.answered_us,
        legs: legs.into_iter().take(LEGS_MAX).map(leg).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::ids::NodeId;
    use model::{CdrLeg, LegRole, Party};

    fn call(number: u64, started_us: i64, name: &str) -> (CallId, OpenCall, u32) {
        let id = CallId::new(NodeId(1), number);
        let party =
            |number: &str, name: &str| Party { number: number.to_owned(), name: name.to_owned(), user: None };
        let leg = CdrLeg {
            role: LegRole::Caller,
            sip_call_id: "x".to_owned(),
            endpoint: "sip:alice@192.0.2.7".to_owned(),
            media: None,
        };
        let open = OpenCall {
            call: id.to_string(),
            brand: Id::new(1),
            client: Id::new(2),
            caller: party("101", name),
            callee: party("102", "Bob"),
            dialed: "102".to_owned(),
            started_us,
            answered_us: None,
            legs: vec![leg],
            externals: Vec::new(),
            node: 1,
            relay: None,
        };
        (id, open, 3)
    }

    fn told(answer: &Answer) -> (Vec<u64>, u32, bool) {
        let Answer::Calls { calls, total, more } = answer else { panic!("{answer:?}") };
        (calls.iter().map(|call| call.call.counter()).collect(), *total, *more)
    }

    #[test]
    fn pages_go_on_where_the_last_one_ended() {
        let calls = || vec![call(3, 20, "c"), call(1, 10, "a"), call(4, 30, "d"), call(2, 20, "b")];
        let of = CallsOf::default();
        assert_eq!(told(&page(calls(), None, 3, &of)), (vec![1, 2, 3], 4, true));
        let last = (20, CallId::new(NodeId(1), 3));
        assert_eq!(told(&page(calls(), Some(last), 3, &of)), (vec![4], 4, false));
        assert_eq!(told(&page(calls(), None, 0, &of)), (vec![], 4, true));
    }

    #[test]
    fn a_page_of_long_names_has_fewer_calls_and_never_none() {
        let long = "x".repeat(PAGE_OCTETS / 2);
        let calls = vec![call(1, 1, &long), call(2, 2, &long), call(3, 3, &"x".repeat(PAGE_OCTETS * 2))];
        let of = CallsOf::default();
        assert_eq!(told(&page(calls.clone(), None, 10, &of)), (vec![1], 3, true));
        let last = (2, CallId::new(NodeId(1), 2));
        assert_eq!(told(&page(calls, Some(last), 10, &of)), (vec![3], 3, false));
    }

    #[test]
    fn calls_are_found_by_whose_they_are_and_what_stands_in_them() {
        let (id, open, _) = call(1, 1, "Alice");
        let fits = |of: &CallsOf| fits(of, &of.text.to_lowercase(), id, &open);
        let of = |text: &str| CallsOf { text: text.to_owned(), ..CallsOf::default() };
        for text in ["", "alice", "BOB", "101", "192.0.2.7"] {
            assert!(fits(&of(text)), "{text}");
        }
        assert!(!fits(&of("carol")));
        assert!(fits(&CallsOf { client: Some(Id::new(2)), brand: Some(Id::new(1)), ..of("") }));
        assert!(!fits(&CallsOf { client: Some(Id::new(3)), ..of("") }));
        assert!(!fits(&CallsOf { brand: Some(Id::new(2)), ..of("") }));
        assert!(!fits(&CallsOf { call: Some(CallId::new(NodeId(1), 2)), ..of("") }));
        let answer = page(vec![call(1, 1, "a")], None, 1, &CallsOf { call: Some(id), ..of("") });
        let Answer::Calls { calls, .. } = answer else { panic!() };
        assert_eq!((calls[0].legs.len(), calls[0].epoch), (1, 3), "one call is told with its legs");
    }
}
