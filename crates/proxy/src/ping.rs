//! The keeper of bindings: lets them expire, and keeps the way to those behind NAT open by OPTIONS (RFC 5626 section 3.5
//! calls for something of the kind; SIP requests are what every telephone answers).
//!
//! In: names of new bindings. Out: pings for the workers, removals for the log. Elsewhere: the bindings (`registrar`), the
//! transactions (`worker`).

use crate::Shared;
use crate::registrar::Inspection;
use crate::worker::Cmd;
use model::Aor;
use rand::RngExt;
use rand::rngs::StdRng;
use sip::draft::{HeaderText, RequestDraft};
use sip::flow::Flow;
use sip::msg::Method;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// A binding is looked at this often at least: the heap then holds those that were removed no longer than this.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Bindings looked at before other tasks get their turn.
const STEP_MAX: usize = 256;

/// Names a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Watch {
    pub(crate) aor: Aor,
    pub(crate) id: u64,
}

/// One ping to be sent.
#[derive(Debug)]
pub(crate) struct Ping {
    pub(crate) watch: Watch,
    pub(crate) draft: RequestDraft,
    pub(crate) flow: Flow,
}

/// Runs until the registrar is gone.
pub(crate) async fn keep(shared: Arc<Shared>, mut new: mpsc::UnboundedReceiver<Watch>, mut rng: StdRng) {
    let mut heap: BinaryHeap<Reverse<(Instant, Watch)>> = BinaryHeap::new();
    let interval = shared.config.nat_ping;
    let first_look = if interval.is_zero() { LOOK_EVERY } else { interval.min(LOOK_EVERY) };
    loop {
        let due = heap.peek().map(|Reverse((at, _))| *at);
        tokio::select! {
            watch = new.recv() => match watch {
                // Spread over the interval, so that bindings that came together are not pinged together.
                Some(watch) => heap.push(Reverse((Instant::now() + rng.random_range(Duration::ZERO..=first_look), watch))),
                None => return,
            },
            () = wait(due), if due.is_some() => {
                let now = Instant::now();
                for _ in 0..STEP_MAX {
                    let Some(Reverse((_, watch))) = heap.peek().filter(|Reverse((at, _))| *at <= now).copied() else { break };
                    heap.pop();
                    if let Some(again) = look(&shared, watch, &mut rng) {
                        heap.push(Reverse((now + again, watch)));
                    }
                }
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn wait(due: Option<Instant>) {
    if let Some(due) = due {
        sleep_until(due).await;
    }
}

/// Does what is due for one binding; when to look again.
fn look(shared: &Shared, watch: Watch, rng: &mut StdRng) -> Option<Duration> {
    let is_open = |conn| shared.connections.is_open(conn);
    match shared.registrar.inspect(watch, shared.clock.unix_secs(), is_open) {
        Inspection::Gone => None,
        Inspection::Expired(changes) => {
            for change in changes {
                // A loss is made good at the next start, which does not take expired bindings.
                shared.log.append(change, Box::new(|_| {}));
            }
            None
        }
        Inspection::Live { expires_in, ping } => {
            let mut again = Duration::from_secs(expires_in).min(LOOK_EVERY);
            if let Some((contact, path, flow)) = ping.filter(|_| !shared.config.nat_ping.is_zero()) {
                again = again.min(shared.config.nat_ping);
                if let Some(draft) = options(shared, &contact, &path, flow, rng) {
                    let worker = usize::try_from(watch.id).unwrap_or(0) % shared.links.len();
                    shared.links[worker].send(Cmd::Ping(Box::new(Ping { watch, draft, flow })));
                }
            }
            Some(again)
        }
    }
}

fn options(
    shared: &Shared,
    contact: &str,
    path: &[String],
    flow: Flow,
    rng: &mut StdRng,
) -> Option<RequestDraft> {
    let place = shared.places.get(usize::from(flow.listener))?;
    let mut headers = HeaderText::new();
    for route in path {
        headers.push("Route", route);
    }
    headers.push("Max-Forwards", "70");
    headers.push_fmt("From", format_args!("<sip:ping@{}>;tag={:016x}", place.sent_by, rng.random::<u64>()));
    headers.push_fmt("To", format_args!("<{contact}>"));
    headers.push_fmt("Call-ID", format_args!("{:032x}", rng.random::<u128>()));
    headers.push("CSeq", "1 OPTIONS");
    headers.push("Accept", "application/sdp");
    if !shared.config.user_agent.is_empty() {
        headers.push("User-Agent", &shared.config.user_agent);
    }
    Some(RequestDraft {
        method: Method::Options,
        uri: contact.to_owned(),
        headers,
        body: bytes::Bytes::new(),
    })
}
