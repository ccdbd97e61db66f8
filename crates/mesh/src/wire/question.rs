//! Operators' questions to nodes, and the answers.
//!
//! In and out: [`Question`] and [`Answer`], and their wire forms (`directory.proto`).

use super::{
    LEGS_MAX, Read, WORDS_MAX, Why, aor, bad, call, few, fits, id, maybe_text, short, text, there, words,
};
use cluster::ids::CallId;
use cluster::question::{Answer, CallsOf, DrainState, HeldCall, HeldLeg, NodeState, PAGE_CALLS, Question};
use model::{Id, LegRole};
use proto::v1;

pub(super) fn write_question(ticket: u64, question: Question) -> Read<v1::Ask> {
    use v1::ask::Question as Q;
    let question = match question {
        Question::Calls { of, after, limit } => Q::Calls(v1::AskCalls {
            brand: of.brand.map_or(0, Id::get),
            client: of.client.map_or(0, Id::get),
            call: of.call.map_or(0, CallId::as_u64),
            text: text("AskCalls.text", of.text)?,
            after_us: after.map(|(at, _)| at),
            after_call: after.map(|(_, call)| call.as_u64()),
            limit: page("AskCalls.limit", limit.into())?.into(),
        }),
        Question::Count { brand, client } => {
            Q::Count(v1::AskCount { brand: brand.map_or(0, Id::get), client: client.map_or(0, Id::get) })
        }
        Question::HangUp(call) => Q::HangUp(call.as_u64()),
        Question::Keeps(call) => Q::Keeps(call.as_u64()),
        Question::State => Q::State(v1::AskState {}),
        Question::Drain { undo } => Q::Drain(v1::AskDrain { undo }),
        Question::Unbind { aor, contact } => {
            Q::Unbind(v1::AskUnbind { aor: aor.bits(), contact: maybe_text("AskUnbind.contact", contact)? })
        }
    };
    Ok(v1::Ask { ticket, question: Some(question) })
}

pub(super) fn read_question(ask: v1::Ask) -> Read<Question> {
    use v1::ask::Question as Q;
    Ok(match there("Ask.question", ask.question)? {
        Q::Calls(asked) => Question::Calls {
            of: CallsOf {
                brand: some(asked.brand),
                client: some(asked.client),
                call: maybe(asked.call).map(|raw| call("AskCalls.call", raw)).transpose()?,
                text: text("AskCalls.text", asked.text)?,
            },
            after: match (asked.after_us, asked.after_call) {
                (Some(at), Some(raw)) => Some((at, call("AskCalls.after_call", raw)?)),
                (None, None) => None,
                (Some(_), None) | (None, Some(_)) => return bad("AskCalls.after_call", Why::Malformed),
            },
            limit: page("AskCalls.limit", asked.limit)?,
        },
        Q::Count(asked) => Question::Count { brand: some(asked.brand), client: some(asked.client) },
        Q::HangUp(raw) => Question::HangUp(call("Ask.hang_up", raw)?),
        Q::Keeps(raw) => Question::Keeps(call("Ask.keeps", raw)?),
        Q::State(_) => Question::State,
        Q::Drain(asked) => Question::Drain { undo: asked.undo },
        Q::Unbind(asked) => Question::Unbind {
            aor: aor("AskUnbind.aor", asked.aor)?,
            contact: maybe_text("AskUnbind.contact", asked.contact)?,
        },
    })
}

pub(super) fn write_answer(ticket: u64, answer: Answer) -> Read<v1::Told> {
    use v1::told::Answer as A;
    let answer = match answer {
        Answer::Calls { calls, total, more } => {
            few("ToldCalls.calls", calls.len(), PAGE_CALLS)?;
            let calls = calls.into_iter().map(write_call).collect::<Read<_>>()?;
            A::Calls(v1::ToldCalls { calls, total, more })
        }
        Answer::Count(count) => A::Count(count),
        Answer::State(state) => A::State(write_state(state)),
        Answer::Refused(why) => A::Refused(words(why)),
    };
    Ok(v1::Told { ticket, answer: Some(answer) })
}

pub(super) fn read_answer(told: v1::Told) -> Read<Answer> {
    use v1::told::Answer as A;
    Ok(match there("Told.answer", told.answer)? {
        A::Calls(told) => {
            few("ToldCalls.calls", told.calls.len(), PAGE_CALLS)?;
            Answer::Calls {
                calls: told.calls.into_iter().map(read_call).collect::<Read<_>>()?,
                total: told.total,
                more: told.more,
            }
        }
        A::Count(count) => Answer::Count(count),
        A::State(state) => Answer::State(read_state(state)),
        A::Refused(why) => Answer::Refused(for_people("Told.refused", why)?),
    })
}

fn write_call(held: HeldCall) -> Read<v1::HeldCall> {
    few("HeldCall.legs", held.legs.len(), LEGS_MAX)?;
    let leg = |leg: HeldLeg| v1::HeldLeg {
        role: match leg.role {
            LegRole::Caller => 1,
            LegRole::Callee => 2,
            LegRole::Answerer => 3,
        },
        sip_call_id: words(leg.sip_call_id),
        endpoint: words(leg.endpoint),
    };
    Ok(v1::HeldCall {
        call: held.call.as_u64(),
        epoch: held.epoch,
        brand: held.brand.get(),
        client: held.client.get(),
        caller: words(held.caller.0),
        caller_name: words(held.caller.1),
        callee: words(held.callee.0),
        callee_name: words(held.callee.1),
        dialled: words(held.dialled),
        started_us: held.started_us,
        answered_us: held.answered_us,
        legs: held.legs.into_iter().map(leg).collect(),
    })
}

fn read_call(held: v1::HeldCall) -> Read<HeldCall> {
    few("HeldCall.legs", held.legs.len(), LEGS_MAX)?;
    let leg = |leg: v1::HeldLeg| {
        Ok(HeldLeg {
            role: match leg.role {
                1 => LegRole::Caller,
                2 => LegRole::Callee,
                3 => LegRole::Answerer,
                other => return bad("HeldLeg.role", Why::Range(other.into())),
            },
            sip_call_id: for_people("HeldLeg.sip_call_id", leg.sip_call_id)?,
            endpoint: for_people("HeldLeg.endpoint", leg.endpoint)?,
        })
    };
    Ok(HeldCall {
        call: call("HeldCall.call", held.call)?,
        epoch: held.epoch,
        brand: id("HeldCall.brand", held.brand)?,
        client: id("HeldCall.client", held.client)?,
        caller: party(held.caller, held.caller_name)?,
        callee: party(held.callee, held.callee_name)?,
        dialled: for_people("HeldCall.dialled", held.dialled)?,
        started_us: held.started_us,
        answered_us: held.answered_us,
        legs: held.legs.into_iter().map(leg).collect::<Read<_>>()?,
    })
}

fn write_state(state: NodeState) -> v1::ToldState {
    v1::ToldState {
        calls: state.calls,
        legs: state.legs,
        sessions: state.sessions,
        bindings: state.bindings,
        adopted_total: state.adopted_total,
        let_go_total: state.let_go_total,
        uptime: state.uptime,
        lease_certain: state.lease_certain,
        drain: state.drain.map(|drain| v1::told_state::Draining {
            left_ms: drain.left_ms,
            done: drain.done,
            ending: drain.ending,
        }),
    }
}

fn read_state(state: v1::ToldState) -> NodeState {
    NodeState {
        calls: state.calls,
        legs: state.legs,
        sessions: state.sessions,
        bindings: state.bindings,
        adopted_total: state.adopted_total,
        let_go_total: state.let_go_total,
        uptime: state.uptime,
        lease_certain: state.lease_certain,
        drain: state.drain.map(|drain| DrainState {
            left_ms: drain.left_ms,
            done: drain.done,
            ending: drain.ending,
        }),
    }
}

fn party(number: String, name: String) -> Read<(String, String)> {
    Ok((for_people("HeldCall.caller", number)?, for_people("HeldCall.caller_name", name)?))
}

/// A text as [`words`] cuts it.
fn for_people(field: &'static str, text: String) -> Read<String> {
    fits(field, text.len(), WORDS_MAX)?;
    Ok(text)
}

fn page(field: &'static str, limit: u32) -> Read<u16> {
    let limit = short(field, limit)?;
    if usize::from(limit) > PAGE_CALLS { bad(field, Why::Range(limit.into())) } else { Ok(limit) }
}

/// An id where 0 means none.
fn some<K>(raw: u32) -> Option<Id<K>> {
    (raw != 0).then(|| Id::new(raw))
}

fn maybe(raw: u64) -> Option<u64> {
    (raw != 0).then_some(raw)
}
