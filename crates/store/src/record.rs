//! Records and their stored form: one version byte, then postcard. The same bytes stand in the journal and in the tables.
//!
//! Elsewhere: the frames around them (`frame`), their keys in the database (`tables`).

use crate::error::StoreError;
use crate::note::{CallNote, EndedCall, UnsentKey};
use crate::record_v1::RecordV1;
use model::{Aor, BindingRecord, Cdr, OpenCall};
use serde::{Deserialize, Serialize};

/// Longest stored form of a record in bytes.
pub(crate) const RECORD_MAX: usize = 64 * 1024;

/// Version 1 is read as ever ([`RecordV1`]).
const VERSION: u8 = 2;

/// Something to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A call rings or was answered: if its end is never told, the next opening of the store writes its CDR. A later one of
    /// the same call replaces it.
    CallBegan(OpenCall),
    /// A call is over. The first one of a call id counts, any other is dropped with an error in the log.
    CallEnded(Box<Cdr>),
    /// A contact was registered or refreshed; replaces the binding of the same terminal and contact.
    Bind(BindingRecord),
    /// A contact is gone. No binding of that name: nothing happens.
    Unbind {
        /// The endpoint.
        aor: Aor,
        /// The contact's URI, as in the binding.
        contact: String,
    },
    // Journals name kinds by their places here: new ones come at the end.
    /// As [`Record::CallBegan`], of a call that may get another owner: its note is handed out by [`crate::Store::open_calls`] after
    /// a crash, and becomes no record by itself.
    CallNoted(Box<CallNote>),
    /// A call of a cluster is over. It waits here until [`Record::CallsSent`] says that the shared database has it.
    CallSettled(Box<EndedCall>),
    /// A call goes on at another node: what was noted of it here is void.
    CallMoved {
        /// Our name of the call.
        call: String,
    },
    /// The shared database has these.
    CallsSent {
        /// Their places.
        keys: Vec<UnsentKey>,
    },
}

/// A record on its way through the journal: its stored form, and what the tables must know of it without parsing.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) payload: Vec<u8>,
    pub(crate) effect: Effect,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Answered { call: String },
    Ended { call: String, client: u32, started_us: i64 },
    Bound { aor: u32, contact: String },
    Unbound { aor: u32, contact: String },
    Settled { call: String, key: UnsentKey },
    Moved { call: String },
    Sent { keys: Vec<UnsentKey> },
}

impl Entry {
    pub(crate) fn new(record: Record) -> Result<Self, StoreError> {
        let payload = encode(&record);
        if payload.len() > RECORD_MAX {
            return Err(StoreError::TooLarge { bytes: payload.len(), max: RECORD_MAX });
        }
        Ok(Self { payload, effect: Effect::of(record) })
    }

    /// An entry as the journal kept it.
    pub(crate) fn from_stored(payload: &[u8]) -> Result<Self, String> {
        Ok(Self { payload: payload.to_vec(), effect: Effect::of(decode(payload)?) })
    }
}

impl Effect {
    pub(crate) fn of(record: Record) -> Self {
        match record {
            Record::CallBegan(call) => Effect::Answered { call: call.call },
            Record::CallEnded(cdr) => {
                Effect::Ended { call: cdr.call, client: cdr.client.get(), started_us: cdr.started_us }
            }
            Record::Bind(binding) => Effect::Bound { aor: binding.aor.bits(), contact: binding.contact },
            Record::Unbind { aor, contact } => Effect::Unbound { aor: aor.bits(), contact },
            Record::CallNoted(note) => Effect::Answered { call: note.call.call },
            Record::CallSettled(ended) => Effect::Settled { key: ended.key(), call: ended.cdr.call },
            Record::CallMoved { call } => Effect::Moved { call },
            Record::CallsSent { keys } => Effect::Sent { keys },
        }
    }
}

pub(crate) fn encode(record: &Record) -> Vec<u8> {
    let mut payload = Vec::with_capacity(512);
    payload.push(VERSION);
    postcard::to_extend(record, payload)
        .expect("a Vec takes every byte and records hold nothing that postcard refuses")
}

pub(crate) fn decode(payload: &[u8]) -> Result<Record, String> {
    let Some((&version, body)) = payload.split_first() else {
        return Err("an empty record".to_owned());
    };
    match version {
        1 => read::<RecordV1>(body).map(Record::from),
        VERSION => read(body),
        _ => Err(format!("a record of format {version}, where this program knows {VERSION}")),
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    match postcard::take_from_bytes(body) {
        Ok((record, [])) => Ok(record),
        Ok(_) => Err("a record with bytes left over".to_owned()),
        Err(error) => Err(format!("an unreadable record ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{CallDirection, CallEndpoint, CarrierAttempt, EndpointKind, ExternalCall, Tariff, Trunk};
    use model::{Cause, CdrLeg, FlowRecord, HungUpBy, Id, LegRole, MediaReport, Party};
    use proptest::prelude::*;

    fn party() -> impl Strategy<Value = Party> {
        (any::<String>(), any::<String>(), any::<Option<u32>>()).prop_map(|(number, name, user)| Party {
            number,
            name,
            user: user.map(Id::new),
        })
    }

    fn media() -> impl Strategy<Value = MediaReport> {
        (any::<[u64; 6]>(), any::<u32>(), any::<(Option<u64>, Option<u32>, Option<u32>, Option<u16>)>())
            .prop_map(
                |(counts, jitter_us, (reported_lost, reported_jitter_us, round_trip_us, mos_hundredths))| {
                    MediaReport {
                        packets_received: counts[0],
                        bytes_received: counts[1],
                        packets_sent: counts[2],
                        bytes_sent: counts[3],
                        lost: counts[4],
                        jitter_us,
                        reported_lost,
                        reported_jitter_us,
                        round_trip_us,
                        mos_hundredths,
                        dropped: counts[5],
                    }
                },
            )
    }

    fn legs() -> impl Strategy<Value = Vec<CdrLeg>> {
        let leg = (any::<bool>(), any::<String>(), any::<String>(), proptest::option::of(media())).prop_map(
            |(caller, sip_call_id, endpoint, media)| CdrLeg {
                role: if caller { LegRole::Caller } else { LegRole::Callee },
                sip_call_id,
                endpoint,
                media,
            },
        );
        proptest::collection::vec(leg, 0..4)
    }

    fn open_call() -> impl Strategy<Value = OpenCall> {
        (any::<(String, u32, u32, String, i64, Option<i64>)>(), party(), party(), legs()).prop_map(
            |((call, brand, client, dialed, started_us, answered_us), caller, callee, legs)| OpenCall {
                call,
                brand: Id::new(brand),
                client: Id::new(client),
                caller,
                callee,
                dialed,
                started_us,
                answered_us,
                legs,
                externals: vec![external(client); client as usize % 3],
                node: 1,
                relay: Some(2),
            },
        )
    }

    fn external(client: u32) -> ExternalCall {
        let tariff = Tariff {
            connect_fee: "0.0500".parse().unwrap(),
            per_minute: "0.1".parse().unwrap(),
            interval_start: 0,
            charge_period: 60,
            minimal_cost: true,
            currency: Id::new(1),
            plan: Id::new(2),
            destination: Id::new(3),
        };
        let (carrier, server) = (Id::new(4), Id::new(5));
        ExternalCall {
            direction: CallDirection::Outbound,
            brand: Id::new(1),
            client: Id::new(client),
            caller: None,
            callee: "+34600123456".parse().unwrap(),
            ddi: Some(Id::new(6)),
            endpoint: Some(CallEndpoint { kind: EndpointKind::Fax, id: 7, name: "fax".to_owned() }),
            trunk: Some(Trunk::Carrier { carrier, server }),
            sip_call_id: "c".to_owned(),
            tag: None,
            price: Some(tariff),
            cost: None,
            x_tag: Some("x".to_owned()),
            attempts: vec![CarrierAttempt { carrier, server, status: 503 }],
        }
    }

    fn cdr() -> impl Strategy<Value = Cdr> {
        (open_call(), any::<(i64, u16, String)>(), 0..3).prop_map(|(call, (ended_us, status, text), by)| {
            Cdr {
                hung_up_by: [HungUpBy::Caller, HungUpBy::Callee, HungUpBy::Platform][by as usize],
                cause: Cause { status, text },
                ..call.into_lost_cdr(ended_us)
            }
        })
    }

    fn ended() -> impl Strategy<Value = EndedCall> {
        (cdr(), any::<(u32, u16, bool)>()).prop_map(|(cdr, (epoch, node, is_lost))| EndedCall {
            cdr,
            epoch,
            node,
            is_lost,
        })
    }

    fn binding() -> impl Strategy<Value = BindingRecord> {
        (
            any::<(u32, String, Option<String>, Option<u32>, String, u32, u16, i64)>(),
            any::<(Vec<String>, String, String, u16, std::net::SocketAddr, bool)>(),
        )
            .prop_map(|(a, b)| BindingRecord {
                aor: Aor::from_bits(a.0),
                contact: a.1,
                instance: a.2,
                reg_id: a.3,
                call_id: a.4,
                cseq: a.5,
                q: a.6,
                expires_at: a.7,
                path: b.0,
                user_agent: b.1,
                // A flow label or scope is no part of where a device is, and serde does not keep it.
                flow: FlowRecord {
                    transport: b.2,
                    listener: b.3,
                    remote: std::net::SocketAddr::new(b.4.ip(), b.4.port()),
                },
                nat: b.5,
            })
    }

    fn record() -> impl Strategy<Value = Record> {
        prop_oneof![
            open_call().prop_map(Record::CallBegan),
            cdr().prop_map(|cdr| Record::CallEnded(Box::new(cdr))),
            binding().prop_map(Record::Bind),
            any::<(u32, String)>()
                .prop_map(|(aor, contact)| Record::Unbind { aor: Aor::from_bits(aor), contact }),
            (open_call(), any::<(u32, u16, Option<i64>)>()).prop_map(|(call, (epoch, node, left_us))| {
                Record::CallNoted(Box::new(CallNote { call, epoch, node, left_us }))
            }),
            ended().prop_map(|ended| Record::CallSettled(Box::new(ended))),
            any::<String>().prop_map(|call| Record::CallMoved { call }),
            proptest::collection::vec(ended().prop_map(|ended| ended.key()), 0..5)
                .prop_map(|keys| Record::CallsSent { keys }),
        ]
    }

    proptest! {
        #[test]
        fn every_record_survives_its_stored_form(record in record()) {
            let payload = encode(&record);
            prop_assert_eq!(&decode(&payload).unwrap(), &record);
            prop_assert_eq!(Entry::from_stored(&payload).unwrap().effect, Effect::of(record));
        }

        #[test]
        fn a_cut_or_lengthened_record_is_refused(record in record(), cut in any::<proptest::sample::Index>()) {
            let mut payload = encode(&record);
            prop_assert!(decode(&payload[..cut.index(payload.len())]).is_err());
            payload.push(0);
            prop_assert!(decode(&payload).is_err());
        }

        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_record_of_another_version_says_so() {
        let mut payload = encode(&Record::Unbind { aor: Aor::from_bits(1), contact: "sip:a".into() });
        payload[0] = 9;
        assert!(decode(&payload).unwrap_err().contains("format 9"));
    }

    /// As programs wrote them that knew of no cluster.
    #[test]
    fn journals_of_before_clusters_are_read_as_ever() {
        let unbind = [1, 3, 7, 5, b's', b'i', b'p', b':', b'a'];
        let record = Record::Unbind { aor: Aor::from_bits(7), contact: "sip:a".into() };
        assert_eq!(decode(&unbind).unwrap(), record);
        let open = [1, 0, 2, b'c', b'1', 1, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0];
        let Record::CallBegan(call) = decode(&open).unwrap() else { panic!("another kind") };
        assert_eq!((call.call.as_str(), call.client.get(), call.started_us), ("c1", 2, 1));
        let ended = [&[1, 1], &open[2..16], &[4, 2, 0, 0, 0]].concat();
        let Record::CallEnded(cdr) = decode(&ended).unwrap() else { panic!("another kind") };
        assert_eq!((cdr.call.as_str(), cdr.ended_us, cdr.hung_up_by), ("c1", 2, HungUpBy::Platform));
        let mut bind = encode(&Record::Unbind { aor: Aor::from_bits(7), contact: "sip:a".into() });
        bind[1] = 2;
        assert!(decode(&bind).is_err(), "a binding has more to say");
    }

    #[test]
    fn a_giant_record_is_refused() {
        let record = Record::Unbind { aor: Aor::from_bits(1), contact: "x".repeat(RECORD_MAX) };
        assert!(matches!(Entry::new(record), Err(StoreError::TooLarge { .. })));
    }
}
