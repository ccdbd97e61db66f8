//! Records as version 1 wrote them: before external calls, and before records knew their node and relay.
//!
//! In: stored bytes without their version byte. Out: today's records. Elsewhere: today's form (`record`). Stored forms are positional, so
//! these types stay as they are, whatever becomes of those of `model`.

use crate::note::{CallNote, EndedCall, UnsentKey};
use crate::record::Record;
use model::{
    Aor, BindingRecord, Brand, Cause, Cdr, CdrLeg, Client, FlowRecord, HungUpBy, Id, OpenCall, Party,
    Terminal,
};
use serde::Deserialize;

/// What records of then do not say: which node had a call.
const NO_NODE: u16 = 0;

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(crate) enum RecordV1 {
    CallBegan(OpenCallV1),
    CallEnded(Box<CdrV1>),
    Bind(BindingV1),
    Unbind { terminal: Id<Terminal>, contact: String },
    CallNoted(Box<NoteV1>),
    CallSettled(Box<EndedV1>),
    CallMoved { call: String },
    CallsSent { keys: Vec<UnsentKey> },
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(crate) struct CdrV1 {
    call: String,
    brand: Id<Brand>,
    client: Id<Client>,
    caller: Party,
    callee: Party,
    dialed: String,
    started_us: i64,
    answered_us: Option<i64>,
    ended_us: i64,
    hung_up_by: HungUpBy,
    cause: Cause,
    legs: Vec<CdrLeg>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(crate) struct OpenCallV1 {
    call: String,
    brand: Id<Brand>,
    client: Id<Client>,
    caller: Party,
    callee: Party,
    dialed: String,
    started_us: i64,
    answered_us: Option<i64>,
    legs: Vec<CdrLeg>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(crate) struct NoteV1 {
    call: OpenCallV1,
    epoch: u32,
    node: u16,
    left_us: Option<i64>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(crate) struct EndedV1 {
    cdr: CdrV1,
    epoch: u32,
    node: u16,
    is_lost: bool,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(crate) struct BindingV1 {
    terminal: Id<Terminal>,
    contact: String,
    instance: Option<String>,
    reg_id: Option<u32>,
    call_id: String,
    cseq: u32,
    q: u16,
    expires_at: i64,
    path: Vec<String>,
    user_agent: String,
    flow: FlowRecord,
    nat: bool,
}

/// Whose a binding is. Version 1 knew terminals alone.
fn owner(terminal: Id<Terminal>) -> Aor {
    Aor::from_bits(terminal.get())
}

impl From<RecordV1> for Record {
    fn from(record: RecordV1) -> Self {
        match record {
            RecordV1::CallBegan(call) => Self::CallBegan(call.into()),
            RecordV1::CallEnded(cdr) => Self::CallEnded(Box::new((*cdr).into())),
            RecordV1::Bind(binding) => Self::Bind(binding.into()),
            RecordV1::Unbind { terminal, contact } => Self::Unbind { aor: owner(terminal), contact },
            RecordV1::CallNoted(note) => Self::CallNoted(Box::new((*note).into())),
            RecordV1::CallSettled(ended) => Self::CallSettled(Box::new((*ended).into())),
            RecordV1::CallMoved { call } => Self::CallMoved { call },
            RecordV1::CallsSent { keys } => Self::CallsSent { keys },
        }
    }
}

impl From<CdrV1> for Cdr {
    fn from(old: CdrV1) -> Self {
        let CdrV1 { call, brand, client, caller, callee, dialed, started_us, answered_us, ended_us, .. } =
            old;
        let CdrV1 { hung_up_by, cause, legs, .. } = old;
        Self {
            call,
            brand,
            client,
            caller,
            callee,
            dialed,
            started_us,
            answered_us,
            ended_us,
            hung_up_by,
            cause,
            legs,
            externals: Vec::new(),
            node: NO_NODE,
            relay: None,
        }
    }
}

impl From<OpenCallV1> for OpenCall {
    fn from(old: OpenCallV1) -> Self {
        let OpenCallV1 { call, brand, client, caller, callee, dialed, started_us, answered_us, legs } = old;
        Self {
            call,
            brand,
            client,
            caller,
            callee,
            dialed,
            started_us,
            answered_us,
            legs,
            externals: Vec::new(),
            node: NO_NODE,
            relay: None,
        }
    }
}

impl From<NoteV1> for CallNote {
    fn from(NoteV1 { call, epoch, node, left_us }: NoteV1) -> Self {
        Self { call: call.into(), epoch, node, left_us }
    }
}

impl From<EndedV1> for EndedCall {
    fn from(EndedV1 { cdr, epoch, node, is_lost }: EndedV1) -> Self {
        Self { cdr: cdr.into(), epoch, node, is_lost }
    }
}

impl From<BindingV1> for BindingRecord {
    fn from(old: BindingV1) -> Self {
        let BindingV1 { terminal, contact, instance, reg_id, call_id, cseq, q, expires_at, .. } = old;
        let BindingV1 { path, user_agent, flow, nat, .. } = old;
        Self {
            aor: owner(terminal),
            contact,
            instance,
            reg_id,
            call_id,
            cseq,
            q,
            expires_at,
            path,
            user_agent,
            flow,
            nat,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::decode;
    use model::{LegRole, MediaReport};

    fn golden() -> Vec<(RecordV1, Record)> {
        let party = |number: &str, user| Party { number: number.into(), name: "A".into(), user };
        let legs = || {
            let media = MediaReport {
                packets_received: 300,
                bytes_received: 51_600,
                packets_sent: 1,
                bytes_sent: 172,
                lost: 2,
                jitter_us: 130,
                reported_lost: Some(0),
                reported_jitter_us: None,
                round_trip_us: Some(9),
                mos_hundredths: Some(440),
                dropped: 0,
            };
            let leg =
                |role, media| CdrLeg { role, sip_call_id: "x@y".into(), endpoint: "sip:a".into(), media };
            vec![leg(LegRole::Caller, None), leg(LegRole::Answerer, Some(media))]
        };
        let open = || OpenCallV1 {
            call: "c1-2".into(),
            brand: Id::new(1),
            client: Id::new(200),
            caller: party("101", Some(Id::new(7))),
            callee: party("102", None),
            dialed: "102".into(),
            started_us: 1_000_000,
            answered_us: Some(3_000_000),
            legs: legs(),
        };
        let ended = || CdrV1 {
            call: "c1-2".into(),
            brand: Id::new(1),
            client: Id::new(200),
            caller: party("101", Some(Id::new(7))),
            callee: party("102", None),
            dialed: "102".into(),
            started_us: 1_000_000,
            answered_us: None,
            ended_us: 9_000_000,
            hung_up_by: HungUpBy::Callee,
            cause: Cause { status: 486, text: "Busy Here".into() },
            legs: legs(),
        };
        let binding = || BindingV1 {
            terminal: Id::new(7),
            contact: "sip:a".into(),
            instance: None,
            reg_id: Some(1),
            call_id: "r".into(),
            cseq: 3,
            q: 1000,
            expires_at: 60,
            path: vec!["sip:p;lr".into()],
            user_agent: "T".into(),
            flow: FlowRecord { transport: "UDP".into(), listener: 1, remote: ([192, 0, 2, 1], 5060).into() },
            nat: true,
        };
        let call = OpenCall {
            call: "c1-2".into(),
            brand: Id::new(1),
            client: Id::new(200),
            caller: party("101", Some(Id::new(7))),
            callee: party("102", None),
            dialed: "102".into(),
            started_us: 1_000_000,
            answered_us: Some(3_000_000),
            legs: legs(),
            externals: Vec::new(),
            node: 0,
            relay: None,
        };
        let cdr = Cdr {
            answered_us: None,
            hung_up_by: HungUpBy::Callee,
            cause: Cause { status: 486, text: "Busy Here".into() },
            ..call.clone().into_lost_cdr(9_000_000)
        };
        let key = EndedCall { cdr: cdr.clone(), epoch: 2, node: 3, is_lost: true }.key();
        vec![
            (RecordV1::CallBegan(open()), Record::CallBegan(call.clone())),
            (RecordV1::CallEnded(Box::new(ended())), Record::CallEnded(Box::new(cdr.clone()))),
            (RecordV1::Bind(binding()), Record::Bind(binding().into())),
            (
                RecordV1::CallNoted(Box::new(NoteV1 { call: open(), epoch: 2, node: 3, left_us: Some(5) })),
                Record::CallNoted(Box::new(CallNote { call, epoch: 2, node: 3, left_us: Some(5) })),
            ),
            (
                RecordV1::CallSettled(Box::new(EndedV1 { cdr: ended(), epoch: 2, node: 3, is_lost: true })),
                Record::CallSettled(Box::new(EndedCall { cdr, epoch: 2, node: 3, is_lost: true })),
            ),
            (RecordV1::CallMoved { call: "c".into() }, Record::CallMoved { call: "c".into() }),
            (RecordV1::CallsSent { keys: vec![key.clone()] }, Record::CallsSent { keys: vec![key] }),
        ]
    }

    /// What version 1 wrote for these, in hexadecimal digits.
    const STORED: [&str; 7] = [
        "01000463312d3201c8010331303101410107033130320141000331303280897a01809bee02020003784079057369703a61000203784079057369703a6101\
         ac0290930301ac01028201010000010901b80300",
        "01010463312d3201c8010331303101410107033130320141000331303280897a0080d1ca0801e60309427573792048657265020003784079057369703a61\
         000203784079057369703a6101ac0290930301ac01028201010000010901b80300",
        "010207057369703a61000101017203e8077801087369703a703b6c720154035544500100c0000201c42701",
        "01040463312d3201c8010331303101410107033130320141000331303280897a01809bee02020003784079057369703a61000203784079057369703a6101\
         ac0290930301ac01028201010000010901b803000203010a",
        "01050463312d3201c8010331303101410107033130320141000331303280897a0080d1ca0801e60309427573792048657265020003784079057369703a61\
         000203784079057369703a6101ac0290930301ac01028201010000010901b80300020301",
        "01060163",
        "0107011080000000008954400000000263312d32",
    ];

    #[test]
    fn what_version_1_wrote_is_read_as_ever() {
        for (stored, (old, today)) in STORED.iter().zip(golden()) {
            let digits = stored.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
            let bytes: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
            assert_eq!([&[1], postcard::to_allocvec(&old).unwrap().as_slice()].concat(), bytes);
            assert_eq!(decode(&bytes).unwrap(), today);
            assert!(decode(&[bytes.as_slice(), &[0]].concat()).is_err(), "bytes are left over");
            assert!(decode(&bytes[..bytes.len() - 1]).is_err(), "it is cut");
        }
    }
}
