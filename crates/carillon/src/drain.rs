//! How a node lets go of what it has, so that it can end without anybody noticing: new things go elsewhere, calls to other
//! application servers, legs to other proxies, media to other relays.
//!
//! In: an operator's wish, or the end of the node. Out: roles that drain, and how much is left. Whoever asks second finds the drain of the
//! first, with its time. Elsewhere: what roles do then (crates `proxy`, `appserver`), who asks (`here`, `node`).

use crate::watching::Health;
use appserver::AppServer;
use cluster::question::DrainState;
use mesh::etcd::{Membership, Standing};
use parking_lot::Mutex;
use proxy::Proxy;
use relay::Relay;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How often calls and legs that can go elsewhere are looked for.
const HAND_OVER: Duration = Duration::from_millis(250);

/// The roles of a node, as far as it has them.
#[derive(Clone, Default)]
pub(crate) struct Parts {
    pub(crate) proxy: Option<Arc<Proxy>>,
    pub(crate) calls: Option<Arc<AppServer>>,
    pub(crate) relay: Option<Arc<Relay>>,
}

/// What would end with the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) calls: usize,
    pub(crate) legs: usize,
    pub(crate) sessions: usize,
}

impl Parts {
    pub(crate) fn left(&self) -> Left {
        Left {
            calls: self.calls.as_ref().map_or(0, |calls| calls.stats().calls),
            legs: self.proxy.as_ref().map_or(0, |proxy| proxy.stats().legs),
            sessions: self.relay.as_ref().map_or(0, |relay| relay.stats().sessions),
        }
    }
}

/// Lets a node drain.
pub(crate) struct Drainer {
    parts: Parts,
    /// Where it is one of many.
    membership: Option<Membership>,
    health: Arc<Health>,
    limit: Duration,
    /// The node's own, wherever it is asked from.
    runtime: Handle,
    drain: Mutex<Option<Drain>>,
}

struct Drain {
    until: Instant,
    /// It ends with the node.
    ending: bool,
    work: AbortHandle,
}

/// It cannot be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node is about to end; start it again")]
pub(crate) struct Ending;

impl Drainer {
    /// For a node that takes everything. Needs its runtime. `limit`: a drain waits no longer than this.
    pub(crate) fn new(
        parts: Parts,
        membership: Option<Membership>,
        health: Arc<Health>,
        limit: Duration,
    ) -> Arc<Self> {
        let runtime = Handle::current();
        Arc::new(Self { parts, membership, health, limit, runtime, drain: Mutex::default() })
    }

    /// Takes nothing new from now on, and gives away what there is. Does nothing where that is so already, but that `ending` holds
    /// from then on: it cannot be undone.
    pub(crate) fn begin(&self, ending: bool) {
        let mut drain = self.drain.lock();
        if let Some(drain) = &mut *drain {
            drain.ending |= ending;
            return;
        }
        self.say(true);
        let Parts { proxy, calls, .. } = self.parts.clone();
        let health = Arc::clone(&self.health);
        let work = self.runtime.spawn(async move {
            health.tell_now().await;
            loop {
                calls.iter().for_each(|calls| calls.hand_over());
                proxy.iter().for_each(|proxy| proxy.move_legs());
                tokio::time::sleep(HAND_OVER).await;
            }
        });
        let until = Instant::now() + self.limit;
        *drain = Some(Drain { until, ending, work: work.abort_handle() });
    }

    /// Takes new things again.
    pub(crate) fn undo(&self) -> Result<(), Ending> {
        let mut drain = self.drain.lock();
        if drain.as_ref().is_some_and(|drain| drain.ending) {
            return Err(Ending);
        }
        if let Some(drain) = drain.take() {
            drain.work.abort();
            self.say(false);
            let health = Arc::clone(&self.health);
            self.runtime.spawn(async move { health.tell_now().await });
        }
        Ok(())
    }

    fn say(&self, draining: bool) {
        self.health.drain(draining);
        if let Some(proxy) = &self.parts.proxy {
            proxy.drain(draining);
        }
        match &self.parts.calls {
            Some(calls) if draining => calls.drain(),
            Some(calls) => calls.undrain(),
            None => {}
        }
        if let Some(membership) = &self.membership {
            membership.set_draining(draining);
        }
    }

    /// How far it has come; none: it does not drain.
    pub(crate) fn state(&self) -> Option<DrainState> {
        let (until, ending) = self.drain.lock().as_ref().map(|drain| (drain.until, drain.ending))?;
        let left = until.saturating_duration_since(Instant::now());
        let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        Some(DrainState { left_ms, done: self.is_done(), ending })
    }

    /// Nothing is left, and nothing new comes: others know of it, as far as they can.
    fn is_done(&self) -> bool {
        let is_known = self.membership.as_ref().is_none_or(|membership| {
            let is_in = matches!(&*membership.standing().borrow(), Standing::Joined(_));
            !is_in || membership.view().node(membership.id()).is_none_or(|me| me.draining)
        });
        let has_just_parted = self.parts.proxy.as_ref().is_some_and(|proxy| proxy.has_just_parted());
        is_known && self.parts.left() == Left::default() && !has_just_parted
    }

    /// Returns when nothing is left, nor comes for a moment, or the time is over, or it was undone; `true`: nothing is left.
    pub(crate) async fn drained(&self) -> bool {
        // Others may have heard of the drain a little later, and what they sent until then is on its way.
        let mut empty_since = None;
        loop {
            match self.state() {
                Some(state) if state.done => {
                    let now = Instant::now();
                    if now >= *empty_since.get_or_insert(now) + HAND_OVER {
                        return true;
                    }
                }
                Some(state) if state.left_ms > 0 => empty_since = None,
                Some(_) | None => return false,
            }
            tokio::time::sleep(HAND_OVER / 4).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::ids::NodeId;
    use cluster::node::{NodeInfo, Roles};

    fn membership() -> Membership {
        Membership::alone(NodeInfo {
            id: NodeId(1),
            name: "a".to_owned(),
            instance: 1,
            identity: 1,
            roles: Roles::ALL,
            zone: String::new(),
            capacity: 1,
            peer: "a:1".to_owned(),
            sip: Vec::new(),
            media: Vec::new(),
            release: String::new(),
            protocol: (1, 1),
            draining: false,
            calls: 0,
            started_ms: 0,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_second_finds_the_drain_of_the_first_with_its_time() {
        let (health, membership) = (Health::new(), membership());
        let limit = Duration::from_secs(20);
        let drainer = Drainer::new(Parts::default(), Some(membership.clone()), Arc::clone(&health), limit);
        let is_told = || membership.view().node(NodeId(1)).is_some_and(|node| node.draining);
        assert_eq!((drainer.state(), health.is_draining(), is_told()), (None, false, false));
        drainer.begin(false);
        assert!(health.is_draining() && is_told());
        tokio::time::advance(Duration::from_secs(5)).await;
        drainer.begin(false);
        let state = DrainState { left_ms: 15_000, done: true, ending: false };
        assert_eq!(drainer.state(), Some(state));
        let begun = Instant::now();
        assert!(drainer.drained().await, "there is nothing");
        assert!(begun.elapsed() >= HAND_OVER, "and nothing came that was on its way");
        assert_eq!(drainer.undo(), Ok(()));
        assert_eq!((drainer.state(), health.is_draining(), is_told()), (None, false, false));
        assert!(!drainer.drained().await, "it does not drain");
        drainer.begin(false);
        drainer.begin(true);
        assert_eq!(drainer.undo(), Err(Ending));
        assert!(is_told());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_has_its_time_from_when_it_began() {
        let drainer =
            Drainer::new(Parts::default(), Some(membership()), Health::new(), Duration::from_secs(20));
        drainer.begin(true);
        tokio::time::advance(Duration::from_secs(21)).await;
        assert_eq!(drainer.state().map(|state| state.left_ms), Some(0));
    }
}
