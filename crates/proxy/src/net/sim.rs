//! A datagram network in memory: loss, duplication, delay and so reordering, all drawn from one seed, under tokio's clock.
//!
//! In: datagrams with addresses. Out: the same, later, twice or never. Tests bind ports of their own beside the proxy's.

use super::Datagram;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Datagrams waiting at one port; more are lost, as with a kernel's queue.
const INBOX_MAX: usize = 65_536;
/// Datagrams handed out at once.
const BATCH: usize = 64;

/// What happens to datagrams on their way.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Of a thousand datagrams, how many are lost.
    pub lost: u32,
    /// Of a thousand datagrams, how many arrive twice.
    pub doubled: u32,
    /// How long one is on its way; a wide range reorders.
    pub delay: RangeInclusive<Duration>,
}

impl Default for Weather {
    /// Every datagram arrives once, in order, after a millisecond.
    fn default() -> Self {
        Self { lost: 0, doubled: 0, delay: Duration::from_millis(1)..=Duration::from_millis(1) }
    }
}

/// The network. Clones are the same network.
#[derive(Clone)]
pub struct SimNet {
    state: Arc<Mutex<State>>,
}

struct State {
    rng: StdRng,
    weather: Weather,
    sequence: u64,
    /// What the kernel's stamp would say.
    received: Option<Duration>,
    /// Several ports on one address share it as with SO_REUSEPORT: a source always meets the same one.
    ports: BTreeMap<SocketAddr, Vec<Arc<Mutex<Inbox>>>>,
}

#[derive(Default)]
struct Inbox {
    waiting: BinaryHeap<Reverse<Packet>>,
    waker: Option<Waker>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    at: Instant,
    sequence: u64,
    from: SocketAddr,
    bytes: Bytes,
    received: Option<Duration>,
}

impl SimNet {
    /// A network whose accidents follow from the seed.
    pub fn new(seed: u64, weather: Weather) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self {
            state: Arc::new(Mutex::new(State {
                rng,
                weather,
                sequence: 0,
                received: None,
                ports: BTreeMap::new(),
            })),
        }
    }

    /// Other weather for what is sent from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    /// Stamps datagrams that are sent from now on with this time of receipt, since the Unix epoch, as a kernel does; the
    /// time that they are read at minus this is how long they have waited in its queue. `None`: no stamps.
    pub fn set_received(&self, received: Option<Duration>) {
        self.state.lock().received = received;
    }

    /// Opens a port. A second one on the same address shares it.
    pub fn bind(&self, addr: SocketAddr) -> SimPort {
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        self.state.lock().ports.entry(addr).or_default().push(Arc::clone(&inbox));
        SimPort { addr, net: self.clone(), inbox, sleep: None }
    }

    fn deliver(&self, from: SocketAddr, to: SocketAddr, bytes: &Bytes) {
        let mut state = self.state.lock();
        let chance = |rng: &mut StdRng, of_thousand| rng.random_range(0..1000) < of_thousand;
        let weather = state.weather.clone();
        if chance(&mut state.rng, weather.lost) {
            return;
        }
        let copies = 1 + u32::from(chance(&mut state.rng, weather.doubled));
        for _ in 0..copies {
            let delay = state.rng.random_range(weather.delay.clone());
            state.sequence += 1;
            let (at, bytes) = (Instant::now() + delay, bytes.clone());
            let packet = Packet { at, sequence: state.sequence, from, bytes, received: state.received };
            let Some(ports) = state.ports.get(&to).filter(|ports| !ports.is_empty()) else { return };
            let mut inbox = ports[usize::from(from.port()) % ports.len()].lock();
            if inbox.waiting.len() < INBOX_MAX {
                inbox.waiting.push(Reverse(packet));
                if let Some(waker) = inbox.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

impl std::fmt::Debug for SimNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimNet").field("ports", &self.state.lock().ports.len()).finish()
    }
}

/// One end of the network.
pub struct SimPort {
    addr: SocketAddr,
    net: SimNet,
    inbox: Arc<Mutex<Inbox>>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl SimPort {
    /// The port's address.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends a datagram; to an address that nobody has, it is lost.
    pub fn send_to(&self, bytes: impl Into<Bytes>, to: SocketAddr) {
        self.net.deliver(self.addr, to, &bytes.into());
    }

    /// Waits for the next datagram.
    pub async fn recv(&mut self) -> (Bytes, SocketAddr) {
        poll_fn(|cx| self.poll_packet(cx).map(|packet| (packet.bytes, packet.from))).await
    }

    /// The next datagram, if one has arrived.
    pub fn try_recv(&mut self) -> Option<(Bytes, SocketAddr)> {
        match self.poll_packet(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(packet) => Some((packet.bytes, packet.from)),
            Poll::Pending => None,
        }
    }

    pub(super) fn poll_datagrams(&mut self, cx: &mut Context<'_>, into: &mut Vec<Datagram>) -> Poll<()> {
        let before = into.len();
        while into.len() - before < BATCH
            && let Poll::Ready(Packet { bytes, from, received, .. }) = self.poll_packet(cx)
        {
            into.push(Datagram { bytes, from, received });
        }
        if into.len() == before { Poll::Pending } else { Poll::Ready(()) }
    }

    fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<Packet> {
        loop {
            let due = {
                let mut inbox = self.inbox.lock();
                match inbox.waiting.peek().map(|Reverse(packet)| packet.at) {
                    Some(at) if at <= Instant::now() => {
                        let packet = inbox.waiting.pop();
                        return packet.map_or(Poll::Pending, |Reverse(packet)| Poll::Ready(packet));
                    }
                    due => {
                        inbox.waker = Some(cx.waker().clone());
                        due
                    }
                }
            };
            let Some(due) = due else { return Poll::Pending };
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for SimPort {
    fn drop(&mut self) {
        if let Some(ports) = self.net.state.lock().ports.get_mut(&self.addr) {
            ports.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[tokio::test(start_paused = true)]
    async fn good_weather_keeps_the_order() {
        let net = SimNet::new(1, Weather::default());
        let (near, mut far) = (net.bind(addr(1)), net.bind(addr(2)));
        for text in ["a", "b", "c"] {
            near.send_to(text, addr(2));
        }
        near.send_to("nobody", addr(3));
        assert!(far.try_recv().is_none(), "still on its way");
        for text in ["a", "b", "c"] {
            assert_eq!(far.recv().await, (Bytes::from(text), addr(1)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_seed_has_the_same_accidents() {
        let weather = Weather { lost: 300, doubled: 300, delay: Duration::ZERO..=Duration::from_millis(50) };
        let mut runs = Vec::new();
        for seed in [7, 7, 8] {
            let net = SimNet::new(seed, weather.clone());
            let (near, mut far) = (net.bind(addr(1)), net.bind(addr(2)));
            for number in 0..100u8 {
                near.send_to(vec![number], addr(2));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let arrived: Vec<u8> = std::iter::from_fn(|| far.try_recv()).map(|(bytes, _)| bytes[0]).collect();
            runs.push(arrived);
        }
        assert_eq!(runs[0], runs[1]);
        assert_ne!(runs[0], runs[2]);
        assert!(!runs[0].is_sorted(), "reordered");
    }

    #[tokio::test(start_paused = true)]
    async fn ports_on_one_address_share_the_sources() {
        let net = SimNet::new(1, Weather::default());
        let (mut one, mut two) = (net.bind(addr(9)), net.bind(addr(9)));
        let sources: Vec<SimPort> = (10..20).map(|port| net.bind(addr(port))).collect();
        for source in &sources {
            source.send_to("x", addr(9));
            source.send_to("y", addr(9));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let froms = |port: &mut SimPort| {
            std::iter::from_fn(|| port.try_recv()).map(|(_, from)| from.port()).collect::<Vec<_>>()
        };
        let (first, second) = (froms(&mut one), froms(&mut two));
        assert_eq!(first.len() + second.len(), 20);
        assert!(!first.is_empty() && !second.is_empty());
        assert!(first.iter().all(|port| !second.contains(port)));
    }
}
