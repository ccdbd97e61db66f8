//! Speed of the transaction layer: nanoseconds for each step of a transaction, beside parsing and writing.
//!
//! In: nothing. Out: lines on standard output; to be run in release mode. A client and a server layer exchange requests in
//! batches, so that every step is measured by itself, with 64,000 transactions lingering in virtual time.
//! Steps that write a message are marked; what writing alone costs stands at the end.

#![expect(clippy::print_stdout, reason = "a measuring program reports")]
#![expect(clippy::disallowed_methods, reason = "a measuring program reads the clock")]

use bytes::Bytes;
use sip::draft::{HeaderText, RequestDraft, ResponseDraft, serialize_response};
use sip::flow::{ConnId, Flow, Transport};
use sip::msg::{Message, Method};
use sip::transaction::{ClientKey, Config, Destination, Event, ListenerVia, Transactions};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

const BATCH: u32 = 1000;
/// More than linger, so that slots are used again.
const ROUNDS: u32 = 150;

fn main() {
    for method in [Method::Options, Method::Invite] {
        println!("{method:?}, ns each:");
        let mut watch = Watch::default();
        let mut pair = Pair::new();
        for round in 0..ROUNDS {
            pair.exchange(&method, round, &mut watch);
        }
        watch.report();
    }
}

/// The best time of each step over all rounds: what the machine does when nobody else uses it.
#[derive(Default)]
struct Watch {
    best: BTreeMap<&'static str, u128>,
}

impl Watch {
    fn time<T>(&mut self, step: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        let each = start.elapsed().as_nanos() / u128::from(BATCH);
        let best = self.best.entry(step).or_insert(each);
        *best = each.min(*best);
        result
    }

    fn report(&self) {
        for (step, each) in &self.best {
            println!("  {step:44} {each:6}");
        }
    }
}

struct Pair {
    client: Transactions,
    server: Transactions,
    now: Instant,
}

impl Pair {
    fn new() -> Pair {
        Pair { client: layer(1), server: layer(2), now: Instant::now() }
    }

    fn exchange(&mut self, method: &Method, round: u32, watch: &mut Watch) {
        self.now += Duration::from_millis(500);
        let now = self.now;
        let to = Destination { flow: flow(), stream_first: true };
        let numbers = round * BATCH..(round + 1) * BATCH;
        let drafts: Vec<_> = numbers.clone().map(|number| draft(method, number)).collect();
        watch.time("1 client: request (written)", || {
            for (number, draft) in numbers.clone().zip(drafts) {
                let key = ClientKey { owner: u64::from(number), seq: 1 };
                self.client.request(key, draft, to, now).expect("there is room");
            }
        });
        let wire = drain(&mut self.client);
        let requests = watch.time("2 parse and validate requests", || parse(wire));
        let step = "3 server: new request";
        let with_100 = "3 server: new request (100 written)";
        watch.time(if *method == Method::Invite { with_100 } else { step }, || {
            requests.into_iter().for_each(|msg| self.server.handle_message(msg, flow(), now));
        });
        let ids: Vec<_> = std::iter::from_fn(|| self.server.poll_event())
            .filter_map(|event| if let Event::Request { id, .. } = event { Some(id) } else { None })
            .collect();
        let _trying = drain(&mut self.server);
        let answer = ResponseDraft { to_tag: Some("0123456789abcdef".to_owned()), ..ResponseDraft::new(200) };
        watch.time("4 server: answer (written)", || {
            ids.iter().for_each(|id| self.server.respond(*id, &answer, now));
        });
        let wire = drain(&mut self.server);
        let responses = watch.time("5 parse and validate responses", || parse(wire));
        watch.time("6 client: response", || {
            responses.into_iter().for_each(|msg| self.client.handle_message(msg, flow(), now));
        });
        assert_eq!(std::iter::from_fn(|| self.client.poll_event()).count(), BATCH as usize);
        let mut end_lingering = || {
            self.client.handle_timeout(now);
            self.server.handle_timeout(now);
        };
        if round < 70 {
            end_lingering()
        } else {
            watch.time("7 both: end of the oldest ones", end_lingering)
        }
        if *method == Method::Invite {
            let drafts: Vec<_> = numbers.map(|number| draft(&Method::Ack, number)).collect();
            watch.time("8 client: ACK (written)", || {
                drafts.into_iter().for_each(|draft| self.client.send_ack(draft, to));
            });
            let acks = parse(drain(&mut self.client));
            watch.time("9 server: ACK", || {
                acks.into_iter().for_each(|msg| self.server.handle_message(msg, flow(), now));
            });
            assert_eq!(std::iter::from_fn(|| self.server.poll_event()).count(), BATCH as usize);
        }
        writing(method, watch);
    }
}

fn writing(method: &Method, watch: &mut Watch) {
    let via = "SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK00000000010000000000000000";
    let draft = draft(method, 1);
    let request = Message::parse(draft.serialize(via)).expect("it was just written");
    let answer = ResponseDraft { to_tag: Some("0123456789abcdef".to_owned()), ..ResponseDraft::new(200) };
    watch.time("writing one request", || {
        (0..BATCH).for_each(|_| drop(black_box(draft.serialize(via))));
    });
    watch.time("writing one response", || {
        (0..BATCH).for_each(|_| drop(black_box(serialize_response(&request, flow().remote, &answer))));
    });
}

fn layer(seed: u8) -> Transactions {
    let via_hosts = vec![ListenerVia { transport: Transport::Udp, sent_by: "192.0.2.1:5060".to_owned() }];
    Transactions::new(Config { via_hosts, ..Config::default() }, [seed; 32])
}

fn flow() -> Flow {
    let remote = ([192, 0, 2, 1], 5060).into();
    Flow { transport: Transport::Udp, listener: 0, remote, conn: ConnId(0) }
}

fn draft(method: &Method, number: u32) -> RequestDraft {
    let mut headers = HeaderText::new();
    let name = std::str::from_utf8(method.as_bytes()).unwrap_or("OPTIONS");
    headers.push("Max-Forwards", "70");
    headers.push("From", "\"Alice\" <sip:101@users.example.com>;tag=9fxced76sl");
    headers.push("To", "<sip:102@users.example.com>");
    headers.push_fmt("Call-ID", format_args!("3848276298220188511-{number}@192.0.2.1"));
    headers.push_fmt("CSeq", format_args!("1 {name}"));
    headers.push("Contact", "<sip:101@192.0.2.1:5060>");
    headers.push("User-Agent", "measure/1.0");
    RequestDraft {
        method: method.clone(),
        uri: "sip:102@users.example.com".to_owned(),
        headers,
        body: Bytes::new(),
    }
}

fn drain(layer: &mut Transactions) -> Vec<Bytes> {
    std::iter::from_fn(|| layer.poll_transmit()).map(|transmit| transmit.bytes).collect()
}

fn parse(wire: Vec<Bytes>) -> Vec<Message> {
    let parse = |bytes| Message::parse(bytes).ok().filter(|msg| msg.validate().is_ok());
    wire.into_iter().filter_map(parse).collect()
}
