//! Messages about bindings and counters of calls.
//!
//! In and out: [`DirectoryItem`] and its wire form (`directory.proto`).

use super::question::{read_answer, read_question, write_answer, write_question};
use super::{
    COUNTS_MAX, HOLDS_MAX, Read, Why, Wire, WireError, address, aor, bad, call, few, id, maybe_text, node,
    short, text, texts, there, write_address,
};
use cluster::between::{Counted, DirectoryItem, Hold, Located};
use model::{BindingRecord, FlowRecord};
use proto::v1;

/// The largest preference, in thousandths.
const Q_MAX: u16 = 1000;

impl Wire for DirectoryItem {
    type Message = v1::DirectoryItem;

    fn write(self) -> Result<v1::DirectoryItem, WireError> {
        use v1::directory_item::{Item, Whole, WholeTold};
        let item = match self {
            DirectoryItem::Whole => Item::Whole(Whole {}),
            DirectoryItem::WholeTold => Item::WholeTold(WholeTold {}),
            DirectoryItem::Bound(located) => Item::Bound(write_located(*located)?),
            DirectoryItem::Orphan(located) => Item::Orphan(write_located(*located)?),
            DirectoryItem::Unbound { aor, contact, stamp_us } => Item::Unbound(v1::Unbound {
                aor: aor.bits(),
                contact: text("Unbound.contact", contact)?,
                stamp_us,
            }),
            DirectoryItem::Forget { aor, contact, before_us } => Item::Forget(v1::Forget {
                aor: aor.bits(),
                before_us,
                contact: contact.map(|contact| text("Forget.contact", contact)).transpose()?,
            }),
            DirectoryItem::Reserve { ticket, partition, call, epoch, counts } => {
                few("Reserve.counts", counts.len(), COUNTS_MAX)?;
                let limit =
                    |(counted, max)| v1::reserve::Limit { counted: Some(write_counted(counted)), max };
                let counts = counts.into_iter().map(limit).collect();
                let (call, partition) = (call.as_u64(), partition.into());
                Item::Reserve(v1::Reserve { ticket, call, counts, partition, epoch })
            }
            DirectoryItem::Reserved { ticket, full, fence } => {
                Item::Reserved(v1::Reserved { ticket, full: full.map(write_counted), fence })
            }
            DirectoryItem::Release { partition, call, counts } => Item::Release(v1::ReleaseCall {
                call: call.as_u64(),
                partition: partition.into(),
                counts: write_counts("ReleaseCall.counts", counts)?,
            }),
            DirectoryItem::Recount { partition, fence } => {
                Item::Recount(v1::Recount { partition: partition.into(), fence })
            }
            DirectoryItem::Holds { partition, fence, instance, calls, complete } => {
                few("Holds.calls", calls.len(), HOLDS_MAX)?;
                let one = |hold: Hold| {
                    let counts = write_counts("Holds.CallHolds.counts", hold.counts)?;
                    Ok(v1::holds::CallHolds { call: hold.call.as_u64(), counts, epoch: hold.epoch })
                };
                let calls = calls.into_iter().map(one).collect::<Read<_>>()?;
                Item::Holds(v1::Holds { partition: partition.into(), calls, complete, fence, instance })
            }
            DirectoryItem::Ask { ticket, question } => Item::Ask(write_question(ticket, question)?),
            DirectoryItem::Answer { ticket, answer } => Item::Told(write_answer(ticket, answer)?),
        };
        Ok(v1::DirectoryItem { item: Some(item) })
    }

    fn read(message: v1::DirectoryItem) -> Result<DirectoryItem, WireError> {
        use v1::directory_item::Item;
        Ok(match there("DirectoryItem.item", message.item)? {
            Item::Whole(_) => DirectoryItem::Whole,
            Item::WholeTold(_) => DirectoryItem::WholeTold,
            Item::Bound(located) => DirectoryItem::Bound(Box::new(read_located(located)?)),
            Item::Orphan(located) => DirectoryItem::Orphan(Box::new(read_located(located)?)),
            Item::Unbound(unbound) => DirectoryItem::Unbound {
                aor: aor("Unbound.aor", unbound.aor)?,
                contact: text("Unbound.contact", unbound.contact)?,
                stamp_us: unbound.stamp_us,
            },
            Item::Forget(forget) => DirectoryItem::Forget {
                aor: aor("Forget.aor", forget.aor)?,
                contact: forget.contact.map(|contact| text("Forget.contact", contact)).transpose()?,
                before_us: forget.before_us,
            },
            Item::Reserve(reserve) => {
                few("Reserve.counts", reserve.counts.len(), COUNTS_MAX)?;
                let limit = |limit: &v1::reserve::Limit| {
                    let counted = there("Reserve.Limit.counted", limit.counted)?;
                    Ok((read_counted(counted)?, limit.max))
                };
                DirectoryItem::Reserve {
                    ticket: reserve.ticket,
                    partition: short("Reserve.partition", reserve.partition)?,
                    epoch: reserve.epoch,
                    call: call("Reserve.call", reserve.call)?,
                    counts: reserve.counts.iter().map(limit).collect::<Read<_>>()?,
                }
            }
            Item::Reserved(reserved) => DirectoryItem::Reserved {
                ticket: reserved.ticket,
                full: reserved.full.map(read_counted).transpose()?,
                fence: reserved.fence,
            },
            Item::Release(release) => DirectoryItem::Release {
                partition: short("ReleaseCall.partition", release.partition)?,
                call: call("ReleaseCall.call", release.call)?,
                counts: read_counts("ReleaseCall.counts", &release.counts)?,
            },
            Item::Recount(recount) => DirectoryItem::Recount {
                partition: short("Recount.partition", recount.partition)?,
                fence: recount.fence,
            },
            Item::Holds(holds) => {
                few("Holds.calls", holds.calls.len(), HOLDS_MAX)?;
                let one = |one: &v1::holds::CallHolds| {
                    let counts = read_counts("Holds.CallHolds.counts", &one.counts)?;
                    Ok(Hold { call: call("Holds.CallHolds.call", one.call)?, epoch: one.epoch, counts })
                };
                DirectoryItem::Holds {
                    partition: short("Holds.partition", holds.partition)?,
                    fence: holds.fence,
                    instance: holds.instance,
                    calls: holds.calls.iter().map(one).collect::<Read<_>>()?,
                    complete: holds.complete,
                }
            }
            Item::Ask(ask) => DirectoryItem::Ask { ticket: ask.ticket, question: read_question(ask)? },
            Item::Told(told) => DirectoryItem::Answer { ticket: told.ticket, answer: read_answer(told)? },
        })
    }
}

fn write_located(located: Located) -> Read<v1::Located> {
    let binding = located.binding;
    Ok(v1::Located {
        aor: binding.aor.bits(),
        contact: text("Located.contact", binding.contact)?,
        instance: maybe_text("Located.instance", binding.instance)?,
        reg_id: binding.reg_id,
        call_id: text("Located.call_id", binding.call_id)?,
        cseq: binding.cseq,
        q: binding.q.into(),
        expires_at: binding.expires_at,
        path: texts("Located.path", binding.path)?,
        user_agent: text("Located.user_agent", binding.user_agent)?,
        transport: text("Located.transport", binding.flow.transport)?,
        listener: binding.flow.listener.into(),
        remote: write_address(binding.flow.remote),
        nat: binding.nat,
        home: located.home.0.into(),
        conn: located.conn,
        stamp_us: located.stamp_us,
    })
}

fn read_located(located: v1::Located) -> Read<Located> {
    let q = short("Located.q", located.q)?;
    if q > Q_MAX {
        return bad("Located.q", Why::Range(q.into()));
    }
    let flow = FlowRecord {
        transport: text("Located.transport", located.transport)?,
        listener: short("Located.listener", located.listener)?,
        remote: address("Located.remote", located.remote)?,
    };
    let binding = BindingRecord {
        aor: aor("Located.aor", located.aor)?,
        contact: text("Located.contact", located.contact)?,
        instance: maybe_text("Located.instance", located.instance)?,
        reg_id: located.reg_id,
        call_id: text("Located.call_id", located.call_id)?,
        cseq: located.cseq,
        q,
        expires_at: located.expires_at,
        path: texts("Located.path", located.path)?,
        user_agent: text("Located.user_agent", located.user_agent)?,
        flow,
        nat: located.nat,
    };
    Ok(Located {
        binding,
        home: node("Located.home", located.home)?,
        conn: located.conn,
        stamp_us: located.stamp_us,
    })
}

fn write_counted(counted: Counted) -> v1::Counted {
    let (kind, id) = match counted {
        Counted::Brand(id) => (v1::CountedKind::Brand, id.get()),
        Counted::Client(id) => (v1::CountedKind::Client, id.get()),
        Counted::User(id) => (v1::CountedKind::User, id.get()),
        Counted::Attempts(id) => (v1::CountedKind::Attempts, id.get()),
    };
    v1::Counted { kind: kind.into(), id }
}

fn read_counted(counted: v1::Counted) -> Read<Counted> {
    Ok(match v1::CountedKind::try_from(counted.kind) {
        Ok(v1::CountedKind::Brand) => Counted::Brand(id("Counted.id", counted.id)?),
        Ok(v1::CountedKind::Client) => Counted::Client(id("Counted.id", counted.id)?),
        Ok(v1::CountedKind::User) => Counted::User(id("Counted.id", counted.id)?),
        Ok(v1::CountedKind::Attempts) => Counted::Attempts(id("Counted.id", counted.id)?),
        Ok(v1::CountedKind::Unspecified) | Err(_) => return bad("Counted.kind", Why::Unknown(counted.kind)),
    })
}

fn write_counts(field: &'static str, counts: Vec<Counted>) -> Read<Vec<v1::Counted>> {
    few(field, counts.len(), COUNTS_MAX)?;
    Ok(counts.into_iter().map(write_counted).collect())
}

fn read_counts(field: &'static str, counts: &[v1::Counted]) -> Read<Vec<Counted>> {
    few(field, counts.len(), COUNTS_MAX)?;
    counts.iter().copied().map(read_counted).collect()
}
